// A client with stream management (XEP-0198) for tests: it counts both ways, keeps what is not acknowledged, and resumes.
//
// It shares nothing with the server but the scanner. What it writes leaves it by `flush`, and what has come is taken by
// `read`, so that a test can cut the connection at any byte of either.
import { type ScannedElement, Scanner } from '#xmpp/scan.ts'
import { attr } from '#xmpp/stanza.ts'
import { bind, header, plainAuth } from '../edge.fixture.ts'

const NS_SM = 'urn:xmpp:sm:3'
const LIMITS = { stanzaBytes: 1e6, depth: 100, attributes: 100, elements: 1e5, namespaceBytes: 1000 }

/** A connection as a client has it. */
export interface Wire {
  send(text: string | Uint8Array): unknown
  /** Resolves to all that has come and was not taken, once it contains this. */
  until(wanted: string): Promise<string>
  /** All that has come and was not taken. */
  take(): string
}

export class ManagedClient {
  /** The ids of the messages that have come, and of the stanzas that were said, in order. */
  readonly received: string[] = []
  readonly said: string[] = []
  /** Stanzas that the server said it has handled. */
  acknowledged = 0
  /** What it is resumed by. */
  previd = ''
  failures: string[] = []
  /** Stanzas may be sent. */
  online = false
  readonly account: string
  #wire: Wire | undefined
  #scanner: Scanner | undefined
  #counting = false
  #h = 0
  #unacknowledged: string[] = []
  #outgoing = ''

  constructor(account: string) {
    this.account = account
  }

  get unacknowledged(): number {
    return this.#unacknowledged.length
  }

  get h(): number {
    return this.#h
  }

  /** Logs in on this wire, and asks for a new session that can be resumed, or for the one it had. */
  async connect(wire: Wire): Promise<void> {
    wire.send(header())
    await wire.until('</stream:features>')
    wire.send(plainAuth(this.account.split('@')[0]!))
    await wire.until('<success')
    this.#wire = wire
    this.#scanner = new Scanner('stream', LIMITS, {
      streamStart() {},
      streamEnd() {},
      element: (element) => this.#take(element),
    })
    wire.send(header())
    this.#scanner.push(Buffer.from(await wire.until('</stream:features>')))
    if (this.previd === '') wire.send(`${bind('garden')}<enable xmlns='${NS_SM}' resume='true'/>`)
    else wire.send(`<resume xmlns='${NS_SM}' previd='${this.previd}' h='${this.#h}'/>`)
  }

  /** Says a stanza: now where it can, else when it is resumed. */
  say(id: string, xml: string): void {
    this.said.push(id)
    this.#unacknowledged.push(xml)
    if (this.online) this.#outgoing += xml
  }

  /** Asks how much is handled. */
  ask(): void {
    if (this.online) this.#outgoing += `<r xmlns='${NS_SM}'/>`
  }

  /** Sends what waits, or so much of it. */
  flush(share = 1): void {
    const bytes = Buffer.from(this.#outgoing)
    this.#outgoing = ''
    if (bytes.length > 0) this.#wire?.send(bytes.subarray(0, Math.ceil(bytes.length * share)))
  }

  /** Takes what has come, or so much of it: the rest is lost. */
  read(share = 1): void {
    const bytes = Buffer.from(this.#wire?.take() ?? '')
    if (bytes.length > 0) this.#scanner!.push(bytes.subarray(0, Math.ceil(bytes.length * share)))
  }

  /** The connection is gone. */
  lost(): void {
    this.#wire = undefined
    this.#scanner = undefined
    this.#outgoing = ''
    this.online = false
  }

  #take(scanned: ScannedElement): void {
    if (scanned.ns === 'jabber:client') {
      if (this.#counting) this.#h++
      if (scanned.name === 'message') this.received.push(scanned.id)
      return
    }
    if (scanned.ns !== NS_SM) return
    const element = scanned.element()
    switch (element.name) {
      case 'r':
        this.#outgoing += `<a xmlns='${NS_SM}' h='${this.#h}'/>`
        return
      case 'a':
        return this.#acknowledge(Number(attr(element, 'h')))
      case 'enabled':
        this.previd = attr(element, 'id')
        this.#counting = true
        this.online = true
        if (this.failures.length > 0) this.#outgoing += this.#unacknowledged.join('')
        return
      case 'resumed':
        this.#acknowledge(Number(attr(element, 'h')))
        this.online = true
        this.#outgoing += this.#unacknowledged.join('')
        return
      case 'failed':
        this.failures.push(String((element.children[0] as { name: string }).name))
        this.#beginAnew(attr(element, 'h'))
    }
  }

  /** The session is over, and so much of what was said in it was handled (§5): the rest is said in another one. */
  #beginAnew(h: string): void {
    if (h !== '') this.#acknowledge(Number(h))
    this.previd = ''
    this.acknowledged = 0
    this.#h = 0
    this.#counting = false
    this.#wire!.send(`${bind('garden')}<enable xmlns='${NS_SM}' resume='true'/>`)
  }

  #acknowledge(h: number): void {
    const more = h - this.acknowledged
    if (more < 0 || more > this.#unacknowledged.length)
      throw new Error(`h=${h} behind ${this.acknowledged} with ${this.#unacknowledged.length} more`)
    this.acknowledged = h
    this.#unacknowledged.splice(0, more)
  }
}

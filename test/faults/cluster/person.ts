// Somebody who stays connected to one edge or another, and talks to one other.
//
// The session is managed (XEP-0198): what it sends is counted, and it believes an acknowledgement and nothing else. When the
// connection is lost it comes back after a moment of its own: to the same edge, if that is still there, resuming the session;
// else to the next one, with a new session under a new address. What it does not know of then, it does not say again.
import { setTimeout as sleep } from 'node:timers/promises'
import { childOf, type RawElement } from '#test/interop/rawstream.ts'
import { Mailbox } from '#test/support/mailbox.ts'
import type { Entry } from '../ledger.ts'
import type { Checker, Message } from './checker.ts'
import { connectTo, DOMAIN, type Door, type Stream, stanza } from './stream.ts'

const NS_CLIENT = 'jabber:client'
const NS_SASL = 'urn:ietf:params:xml:ns:xmpp-sasl'
const NS_SM = 'urn:xmpp:sm:3'
const NS_MAM = 'urn:xmpp:mam:2'
const NS_RSM = 'http://jabber.org/protocol/rsm'
const NS_STANZAS = 'urn:ietf:params:xml:ns:xmpp-stanzas'
/** A step of a login may have to wait for an owner to be replaced. */
const STEP_WITHIN_MS = 20_000
const JITTER_MS = 1_000
/** Messages that may be unacknowledged before no more are said. */
const WINDOW = 30

export interface PersonOptions {
  readonly user: string
  readonly password: string
  readonly websocket: boolean
  /** Of `doors`, modulo their number. */
  readonly door: number
  /** Those that are open now. */
  readonly doors: () => readonly Door[]
  readonly checker: Checker
  /** 0 to 1. */
  readonly random: () => number
}

/** What lasts longer than a stream. */
interface Session {
  readonly jid: string
  door: string
  readonly sinceMs: number
  /** For resumption (XEP-0198 §5). */
  readonly resumption: string
  received: number
  /** Stanzas that were acknowledged, and behind them those that were not. */
  acked: number
  readonly pending: { readonly xml: string; readonly message: Message | undefined }[]
  status: string
}

export class Person {
  readonly account: string
  partner!: Person
  /** Address to status, as this session was shown it of its partner. */
  readonly view = new Map<string, string>()
  /** When the latest of the partner's messages that came, and of its own that was acknowledged, was said. */
  heardMs = Number.NEGATIVE_INFINITY
  ackedMs = Number.NEGATIVE_INFINITY
  /** Logins, and of them those that resumed. */
  logins = 0
  /** Streams that were ended from the other side. */
  torn = 0
  resumptions = 0
  readonly #options: PersonOptions
  readonly #checker: Checker
  #stream: Stream | undefined
  #elements = new Mailbox<RawElement>('', () => '')
  #session: Session | undefined
  #isUp = false
  #isLeaving = false
  #isStumbling = false
  #moves = 0
  #statuses = 0
  #ids = 0
  #living: Promise<void> | undefined
  #lastHeardMs = 0
  #pauseMs = 0
  readonly #page: Entry[] = []
  /** Of the query whose results make the page. */
  #query = ''
  #polling: Promise<boolean> | undefined

  constructor(options: PersonOptions) {
    this.#options = options
    this.#checker = options.checker
    this.account = `${options.user}@${DOMAIN}`
    this.#checker.archives.set(this.account, [])
  }

  /** Undefined while it is not connected. */
  get jid(): string | undefined {
    return this.#isUp ? this.#session?.jid : undefined
  }

  get status(): string | undefined {
    return this.#isUp ? this.#session?.status : undefined
  }

  get door(): string | undefined {
    return this.#isUp ? this.#session?.door : undefined
  }

  /** It is shown its partner as that is, and nothing else. */
  get seesTruth(): boolean {
    const { jid, status } = this.partner
    return jid !== undefined && status !== undefined && this.view.size === 1 && this.view.get(jid) === status
  }

  viewInWords(): string {
    const { jid, status } = this.partner
    const truth = jid === undefined ? 'nothing' : `${jid} (${status})`
    const seen = [...this.view].map(([address, shown]) => `${address} (${shown})`)
    return `${this.account} sees ${seen.join(', ') || 'nothing'} where there is ${truth}`
  }

  /** Comes, and comes back, until it is told to leave. Resolves when it is there for the first time. */
  async arrive(register: boolean): Promise<void> {
    await this.#connect(register)
    this.#living = this.#live()
  }

  async leave(): Promise<void> {
    this.#isLeaving = true
    this.#stream?.close()
    setTimeout(() => this.#stream?.destroy(), 2_000).unref()
    await this.#living
  }

  /** To the edge it likes best, saying goodbye to the one it is at. */
  move(): void {
    this.#moves = 0
    const session = this.#session
    if (session === undefined || !this.#isUp || session.door === this.#wanted()?.name) return
    this.#session = undefined // which is not resumed
    this.#stream?.close()
  }

  /** The connection breaks. */
  stumble(): void {
    if (!this.#isUp) return
    this.#isStumbling = true
    this.#stream?.destroy()
  }

  befriend(): void {
    this.#sendStanza(stanza('presence', { to: this.partner.account, type: 'subscribe' }))
  }

  show(): void {
    const session = this.#session
    if (session === undefined || !this.#isUp) return
    session.status = `status ${++this.#statuses}`
    this.#sendStanza(stanza('presence', {}, `<status>${session.status}</status>`))
  }

  /** Something to the partner, unless too much is not acknowledged. */
  say(): void {
    const session = this.#session
    if (session === undefined || !this.#isUp || session.pending.length >= WINDOW) return
    const message = this.#checker.say(this.account, this.partner.account, performance.now())
    const text = `${message.id} ${'x'.repeat(Math.floor(this.#options.random() * 200))}`
    this.#sendStanza(stanza('message', { to: message.to, id: message.id, type: 'chat' }, `<body>${text}</body>`), message)
    if (message.number % 4 === 0) this.request()
  }

  /** Asks for an acknowledgement. */
  request(): void {
    if (this.#isUp) this.#stream?.send(`<r xmlns='${NS_SM}'/>`)
  }

  /** The longest time without a message of the partner's, from this call on. */
  watch(): () => number {
    this.#lastHeardMs = performance.now()
    this.#pauseMs = 0
    return () => Math.max(this.#pauseMs, performance.now() - this.#lastHeardMs)
  }

  /**
   * Reads on in the archive, from behind what was last read, one page; true when there is no more. False as well where it cannot
   * be read now. Nothing of a page counts before it is whole.
   */
  poll(): Promise<boolean> {
    return (this.#polling ??= this.#readPage().finally(() => {
      this.#polling = undefined
    }))
  }

  async #readPage(): Promise<boolean> {
    if (!this.#isUp) return false
    const archive = this.#checker.archives.get(this.account)!
    this.#page.length = 0
    this.#query = `a${++this.#ids}`
    const fin = await this.#iq(queryAfter(archive.at(-1)?.archiveId, this.#query)).catch(() => undefined)
    const set = fin && childOf(fin, 'set', NS_RSM)
    if (fin === undefined || set === undefined) return false
    const [first, last] = [childOf(set, 'first', NS_RSM)?.text, childOf(set, 'last', NS_RSM)?.text]
    if (this.#page.at(0)?.archiveId !== first || this.#page.at(-1)?.archiveId !== last) return false
    archive.push(...this.#page.splice(0))
    return fin.attrs.complete === 'true'
  }

  // The connection -----------------------------------------------------------------------------------------------------

  async #live(): Promise<void> {
    while (!this.#isLeaving) {
      await this.#stream?.closed
      if (this.#isUp && this.#session !== undefined && !this.#isStumbling) this.torn++
      this.#isUp = false
      this.#isStumbling = false
      if (this.#isLeaving) return
      await sleep(this.#options.random() * JITTER_MS)
      try {
        await this.#connect(false)
      } catch {
        this.#stream?.destroy() // and so again
        this.#moves++
      }
    }
  }

  #wanted(): Door | undefined {
    const doors = this.#options.doors()
    return doors[(this.#options.door + this.#moves) % doors.length]
  }

  async #connect(register: boolean): Promise<void> {
    const { user, password, websocket, doors } = this.#options
    const door = doors().find(({ name }) => name === this.#session?.door) ?? this.#wanted()
    if (door === undefined) throw new Error('there is no edge')
    const stream = await connectTo(door, websocket)
    this.#stream = stream
    await this.#open(stream)
    if (register) {
      const fields = `<username>${user}</username><password>${password}</password>`
      await this.#iq(`<query xmlns='jabber:iq:register'>${fields}</query>`)
    }
    const initial = Buffer.from(`\0${user}\0${password}`).toString('base64')
    stream.send(`<auth xmlns='${NS_SASL}' mechanism='PLAIN'>${initial}</auth>`)
    const { name } = await this.#next('the end of the login', ({ ns }) => ns === NS_SASL)
    if (name !== 'success') throw new Error(`${user} cannot log in: ${name}`)
    await this.#open(stream)
    this.logins++
    if (this.#session !== undefined && (await this.#resume(this.#session, door))) return
    await this.#bind(stream, door)
  }

  async #open(stream: Stream): Promise<void> {
    const elements = new Mailbox<RawElement>(this.account, () => '')
    this.#elements = elements
    stream.onElement = (element) => this.#take(element, elements)
    void stream.closed.then(() => elements.close('the connection is gone'))
    stream.open()
    await this.#next('stream features', ({ name }) => name === 'features')
  }

  async #bind(stream: Stream, door: Door): Promise<void> {
    if (this.#session) this.#checker.forget(this.#session.jid)
    this.#session = undefined
    const resource = `at-${door.name}-${this.logins}`
    await this.#iq(`<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>${resource}</resource></bind>`)
    this.view.clear()
    stream.send(`<enable xmlns='${NS_SM}' resume='true'/>`)
    const enabled = await this.#next('<enabled/>', ({ name, ns }) => name === 'enabled' && ns === NS_SM)
    const jid = `${this.account}/${resource}`
    const begun = { received: 0, acked: 0, pending: [], status: '' }
    this.#session = { jid, door: door.name, sinceMs: performance.now(), resumption: enabled.attrs.id!, ...begun }
    this.#isUp = true
    this.show()
  }

  /** At whatever door. False where the session is gone (XEP-0198 §5). */
  async #resume(session: Session, door: Door): Promise<boolean> {
    this.#stream!.send(`<resume xmlns='${NS_SM}' previd='${session.resumption}' h='${session.received}'/>`)
    const { name, attrs } = await this.#next(
      '<resumed/>',
      (answer) => /^(?:resumed|failed)$/.test(answer.name) && answer.ns === NS_SM,
    )
    if (attrs.h !== undefined) this.#acked(session, Number(attrs.h))
    if (name !== 'resumed') return false
    this.resumptions++
    session.door = door.name
    this.#isUp = true
    for (const { xml } of session.pending) this.#stream!.send(xml)
    this.request()
    return true
  }

  // Stanzas ------------------------------------------------------------------------------------------------------------

  #next(awaited: string, fits: (element: RawElement) => boolean): Promise<RawElement> {
    return this.#elements.next(awaited, fits, STEP_WITHIN_MS)
  }

  /** The child of the answer. Rejects where that is an error, or does not come. */
  async #iq(payload: string): Promise<RawElement | undefined> {
    const id = `q${++this.#ids}`
    this.#sendStanza(stanza('iq', { type: 'set', id }, payload))
    const answer = await this.#next(`the answer to ${payload}`, ({ name, attrs }) => name === 'iq' && attrs.id === id)
    if (answer.attrs.type !== 'result') throw new Error(`${this.account} asked ${payload} and got ${JSON.stringify(answer)}`)
    return answer.children[0]
  }

  #sendStanza(xml: string, message?: Message): void {
    if (this.#isUp) this.#session?.pending.push({ xml, message })
    this.#stream?.send(xml)
  }

  #acked(session: Session, h: number): void {
    const count = h - session.acked
    if (count > session.pending.length) this.#checker.fault(`more is acknowledged to ${session.jid} than it has sent: ${h}`)
    for (const { message } of session.pending.splice(0, Math.max(0, count))) {
      if (message === undefined) continue
      message.acked = true
      this.ackedMs = message.saidMs
    }
    session.acked = Math.max(session.acked, h)
  }

  #take(element: RawElement, elements: Mailbox<RawElement>): void {
    const session = this.#session
    const { name, ns, attrs } = element
    if (session === undefined) {
      if (ns !== NS_CLIENT || name === 'iq') elements.put(element)
      return
    }
    if (ns === NS_SM && name === 'a') return this.#acked(session, Number(attrs.h))
    if (ns === NS_SM && name === 'r') return this.#stream?.send(`<a xmlns='${NS_SM}' h='${session.received}'/>`)
    if (ns !== NS_CLIENT) return elements.put(element)
    session.received++
    if (name === 'iq') elements.put(element)
    else if (name === 'presence') this.#seePresence(element)
    else this.#hear(session, element)
  }

  #seePresence(element: RawElement): void {
    const { from = '', type } = element.attrs
    if (!from.startsWith(`${this.partner.account}`)) return // its own
    if (type === 'unavailable') this.view.delete(from)
    else if (type === undefined) this.view.set(from, childOf(element, 'status', NS_CLIENT)?.text ?? '')
    else if (type === 'subscribe') this.#sendStanza(stanza('presence', { to: this.partner.account, type: 'subscribed' }))
  }

  #hear(session: Session, message: RawElement): void {
    const result = childOf(message, 'result', NS_MAM)
    if (result !== undefined) {
      // One that was broken off may be answered later, when the session is resumed.
      if (result.attrs.queryid === this.#query) this.#page.push(entryOf(result))
      return
    }
    const { id = '', type } = message.attrs
    if (type === 'error') {
      const error = childOf(message, 'error', NS_CLIENT)
      const condition = error?.children.find(({ ns }) => ns === NS_STANZAS)?.name ?? 'no condition'
      return this.#checker.refuse(id, condition, error?.attrs.type)
    }
    const stanzaId = childOf(message, 'stanza-id', 'urn:xmpp:sid:0')
    if (stanzaId?.attrs.by !== this.account) return this.#checker.fault(`${id} came to ${this.account} without a stanza-id`)
    const known = this.#checker.see(this.account, session.jid, session.sinceMs, id, stanzaId.attrs.id!)
    this.heardMs = Math.max(this.heardMs, known?.saidMs ?? 0)
    const now = performance.now()
    this.#pauseMs = Math.max(this.#pauseMs, now - this.#lastHeardMs)
    this.#lastHeardMs = now
  }
}

function queryAfter(archiveId: string | undefined, query: string): string {
  const after = archiveId === undefined ? '' : `<after>${archiveId}</after>`
  return `<query xmlns='${NS_MAM}' queryid='${query}'><set xmlns='${NS_RSM}'><max>100</max>${after}</set></query>`
}

function entryOf(result: RawElement): Entry {
  const original = childOf(childOf(result, 'forwarded', 'urn:xmpp:forward:0')!, 'message', NS_CLIENT)!
  return { id: original.attrs.id!, archiveId: result.attrs.id! }
}

// A client: it says messages, is told by XEP-0198 what is handled, and knows what it was shown. It loses its connection now and
// then, and comes back: to its session, where that is still there, else to a new one.
//
// What it has said in a session that is gone, and was not told of, may have been handled or not; it lets that be.
import { type Jid, parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT } from '#xmpp/ns.ts'
import type { ScannedElement } from '#xmpp/scan.ts'
import { attr, el, type Stanza, stanza, textOf } from '#xmpp/stanza.ts'
import type { Checker } from './checker.ts'
import { NS_PAGE } from './journal.ts'
import type { Scheduler } from './scheduler.ts'
import { elementOf, managementElement, SimStream, type StreamEvents, type StreamHost } from './stream.ts'

const NETWORK_MS = 1
/** How long a reader waits for a page. */
const PAGE_MS_MAX = 15_000

interface Unacked {
  readonly n: number
  readonly element: ScannedElement
  /** '' where it is no message. */
  readonly message: string
}

export interface Surroundings {
  readonly scheduler: Scheduler
  readonly checker: Checker
  readonly trace: (who: string, what: string) => void
}

/** A page that was asked for. */
interface Asked {
  readonly id: string
  readonly after: string
  readonly atMs: number
}

export class Client implements StreamEvents {
  readonly name: string
  readonly jid: Jid
  readonly #scheduler: Scheduler
  readonly #checker: Checker
  readonly #trace: (what: string) => void
  host: StreamHost | undefined
  #stream: SimStream | undefined
  /** It has its session on this stream: before that it says nothing. */
  #open = false
  /** Of the session, while there is one: it may be without a stream. */
  session = ''
  #sessions = 0
  /** What it is resumed by; '' before that is known. */
  #resumedBy = ''
  /** Stanzas of this session: said, and had. */
  #n = 0
  #h = 0
  #unacked: Unacked[] = []
  #asked: Asked | undefined
  #pages = 0
  /** By bare JID: the resources that it sees. */
  readonly #view = new Map<string, Set<string>>()

  constructor(name: string, jid: string, { scheduler, checker, trace }: Surroundings) {
    this.name = name
    this.jid = parseJid(jid)
    this.#scheduler = scheduler
    this.#checker = checker
    this.#trace = (what) => trace(name, what)
  }

  get isConnected(): boolean {
    return this.#stream !== undefined
  }

  get account(): string {
    return this.jid.bare
  }

  /** The resources of a contact that it sees, in order. */
  sees(contact: string): readonly string[] {
    return [...(this.#view.get(contact) ?? [])].sort()
  }

  /** To an edge, wherever its session is, if it has one. */
  connect(host: StreamHost): void {
    this.host = host
    this.#stream = new SimStream(host, this, (call) => this.#scheduler.after(NETWORK_MS, call))
    const resuming = this.#resumedBy === '' ? undefined : { id: this.#resumedBy, h: this.#h }
    this.#stream.open(this.jid, `${this.name}x${++this.#sessions}`, resuming)
  }

  /** It goes, and does not come back; `said`, with a word. */
  leave(said: boolean): void {
    this.disconnect(said)
    this.#forget()
  }

  /** The connection is gone; `said`, it is closed by the client. */
  disconnect(said = false): void {
    if (this.#stream !== undefined) this.#trace(said ? 'leaves' : 'has lost its connection')
    this.#stream?.cut(said)
    this.#stream = undefined
    this.#open = false
  }

  /** Its edge is gone, and its session with it. */
  hostDied(): void {
    this.disconnect()
    this.#forget()
  }

  #forget(): void {
    for (const { message } of this.#unacked) if (message !== '') this.#checker.abandon(message)
    this.#unacked = []
    this.session = ''
    this.#resumedBy = ''
    this.#asked = undefined
    this.#n = 0
    this.#h = 0
    this.#view.clear()
  }

  // What it says ----------------------------------------------------------------------------------------------------------

  /** Returns what the message is known by; '' where there is no session to say it in. */
  say(to: string): string {
    if (this.session === '') return ''
    const message = `${this.session}:${this.#n + 1}`
    this.#checker.say(message, this.account, to)
    this.#trace(`says ${message} to ${to}`)
    this.#say(stanza('message', this.jid, { to: parseJid(to), type: 'chat' }), message)
    if (this.#open) this.#stream!.write(managementElement('r'))
    return message
  }

  /** Wants to know what its account has behind what it knows. */
  read(after: string): void {
    const nowMs = this.#scheduler.nowMs
    if (this.session === '' || (this.#asked !== undefined && nowMs - this.#asked.atMs < PAGE_MS_MAX)) return
    this.#asked = { id: `r${++this.#pages}`, after, atMs: nowMs }
    this.#say(stanza('iq', this.jid, { type: 'get', id: this.#asked.id }, el('page', NS_PAGE, { after })), '')
  }

  /** Presence of another priority than before (RFC 6121 §4.7.2.3): contacts see it, and the router is told. */
  show(): void {
    const priority = el('priority', NS_CLIENT, {}, '1')
    if (this.session !== '') this.#say(stanza('presence', this.jid, {}, priority), '')
  }

  get isReading(): boolean {
    return this.#asked !== undefined && this.#scheduler.nowMs - this.#asked.atMs < PAGE_MS_MAX
  }

  #say(said: Stanza, message: string): void {
    const unacked = { n: ++this.#n, element: elementOf(said), message }
    this.#unacked.push(unacked)
    if (this.#open) this.#stream!.write(unacked.element)
  }

  // What it is told (StreamEvents) ------------------------------------------------------------------------------------------

  bound(session: string): void {
    this.#forget()
    this.session = session
    this.#open = true
    this.#trace(`has the session ${session}`)
    this.#stream!.write(managementElement('enable', { resume: 'true' }))
    this.#say(stanza('presence', this.jid, {}), '')
  }

  enabled(id: string): void {
    this.#resumedBy = id
  }

  resumed(h: number): void {
    this.#trace(`goes on with ${this.session}, of which ${h} are handled`)
    this.#open = true
    this.acknowledged(h)
    for (const { element } of this.#unacked) this.#stream!.write(element)
    this.#stream!.write(managementElement('r'))
  }

  acknowledged(h: number): void {
    while (this.#unacked.length > 0 && this.#unacked[0]!.n <= h) {
      const { message } = this.#unacked.shift()!
      if (message === '') continue
      this.#trace(`is told that ${message} is handled`)
      this.#checker.ack(message)
    }
  }

  asked(): void {
    this.#stream!.write(managementElement('a', { h: String(this.#h) }))
  }

  ended(isResumable = false): void {
    this.disconnect()
    if (!isResumable) this.#forget()
  }

  came(stanza: Stanza): void {
    if (this.#resumedBy !== '') this.#h++ // §4: from where it is enabled
    this.#trace(`is shown ${shortOf(stanza)}`)
    if (stanza.name === 'presence') this.#see(stanza)
    else if (stanza.name === 'iq') this.#takePage(stanza)
    else this.#checker.deliver(this.session, this.account, stanza.id, stanza.child !== '')
  }

  #see({ from, type }: Stanza): void {
    const seen = this.#view.get(from.bare) ?? new Set()
    this.#view.set(from.bare, seen)
    if (type === '') seen.add(from.resource)
    else if (type === 'unavailable' && from.resource !== '') seen.delete(from.resource)
    else if (type === 'unavailable') seen.clear() // RFC 6121 §4.3.2
  }

  #takePage(iq: Stanza): void {
    const asked = this.#asked
    if (asked === undefined || iq.id !== asked.id || !this.isReading) return // somebody else has asked meanwhile
    this.#asked = undefined
    const page = iq.type === 'result' ? iq.tree()[0] : undefined
    if (page === undefined) return // it was refused
    const ids = textOf(page)
      .split(' ')
      .filter((id) => id !== '')
    this.#checker.page(this.account, asked.after, ids, Number(attr(page, 'count')))
  }
}

/** Without what is random, and not of the seed. */
function shortOf({ name, from, type, id }: Stanza): string {
  if (name === 'presence') return `${from.full} ${type === '' ? 'available' : type}`
  if (name === 'iq') return `${type} ${id}`
  const [process, number, , message, again = ''] = id.split(' ')
  return `${message} by ${process} as ${number} ${again}`.trimEnd()
}

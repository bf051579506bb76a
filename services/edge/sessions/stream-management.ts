// XEP-0198: Stream Management. The two counts of a session, what it was sent and has not acknowledged, and the elements
// that speak of them. No stream and no clock: edge/sessions/session.ts says when.
//
//   acknowledged │ sent, not acknowledged │ waiting: came while there was no stream
//                └──── #queue ────────────┴── #waiting ──▶
//
// What is kept is one copy for all sessions of a delivery, with what it takes to write the root tag again: the next stream
// may be framed otherwise (RFC 7395). It also knows how many sessions hold it and whether one of them has it for good, so
// that of a message to several sessions nothing is handed back while another has it, and nothing twice.
import type { ToMode } from '#core/envelope.ts'
import type { Config } from '#core/settings/config.ts'
import { delayedBy, isDelayedBy } from '#xmpp/delay.ts'
import { type StanzaCondition, StanzaError, StreamError } from '#xmpp/error.ts'
import { type Jid, parseJid } from '#xmpp/jid.ts'
import { NS_STANZAS } from '#xmpp/ns.ts'
import { attr, bytesOf, copyOf, type Element, el, readdress, type Stanza } from '#xmpp/stanza.ts'
import { escapeAttribute } from '#xmpp/xml.ts'

export const NS_SM = 'urn:xmpp:sm:3'

// What is kept --------------------------------------------------------------------------------------------------------

/** One delivery, as it is kept until it is acknowledged. */
export class Kept {
  readonly stanza: Stanza
  readonly to: ToMode
  readonly receivedMs: number
  /** Sessions that keep it. */
  holders = 0
  /** A session has it for good: it was acknowledged, or its session does not manage its stream. */
  taken = false

  /** Copies the payload, which may be a view of what is large or used again. */
  constructor(stanza: Stanza, to: ToMode, receivedMs: number) {
    this.stanza = copyOf(stanza, '')
    this.to = to
    this.receivedMs = receivedMs
  }

  get bytes(): number {
    return bytesOf(this.stanza) + KEPT_COST_BYTES
  }
}

/** What keeping one takes besides its payload and texts: the stanza, its two addresses, a place in a queue. */
const KEPT_COST_BYTES = 512

/** What may be kept for one session while nobody reads it. */
export interface KeptLimits {
  readonly stanzas: number
  readonly bytes: number
}

/** What a session may keep, as a share of what may wait for its socket. */
const KEPT_SHARE = 2

export function keptLimits({ unackedStanzas, writeBufferBytes }: Config['limits']): KeptLimits {
  return { stanzas: unackedStanzas, bytes: writeBufferBytes / KEPT_SHARE }
}

/**
 * A burst finds a client that has had no turn to acknowledge, such as all that was kept offline for it: on a stream it may
 * have so many times as much before that is held against it.
 */
const BURST_FACTOR = 4
/** So much is acknowledged at the server's asking at once; less waits for the second after the last delivery. */
const ASK_STANZAS = 16
const ASK_BYTES = 16 * 1024
/** With an answer outstanding the server asks again behind so much more: on a slow line each answer shows that it lives. */
const ASK_AGAIN_STANZAS = 128
const ASK_AGAIN_BYTES = 64 * 1024
/** A client that answers none of the server's requests for so long is gone. */
export const ANSWER_S_MAX = 60
/** A client's request is answered with what is handled by then when the rest takes longer. */
const OWED_S_MAX = 3

/** What the tick of a second is to do for a session. */
export type Look = 'nothing' | 'ask' | 'answer' | 'lost'

/** What there is of it when a session comes from another edge (edge/moving/moved-session.ts). */
export interface Continued {
  readonly acknowledged: number
  readonly queue: readonly Kept[]
  readonly waiting: readonly Kept[]
}

export class StreamManagement {
  /** What it is resumed by; '' where it is not. */
  readonly id: string
  readonly resumeS: number
  /** Stanzas that the client had sent before it enabled this. */
  readonly #base: number
  readonly #limits: KeptLimits
  #queue: Kept[] = []
  #waiting: Set<Kept> | undefined
  /** Of those that wait, the latest presence of each full JID. */
  #presences: Map<string, Kept> | undefined
  #bytes = 0
  /** Stanzas sent to the client that it has acknowledged: the whole count, of which the wire has 32 bits (§4). */
  #acknowledged = 0
  /** The server's requests that are not answered, seconds since there was one and no answer, and what was sent behind the last. */
  #asks = 0
  #unansweredS = 0
  #sentStanzas = 0
  #sentBytes = 0
  /** Something was sent since the last tick. */
  #fresh = false
  /** The client's first and last request that are not answered: how many stanzas had come before each; 0: none. */
  #owed = 0
  #owedLast = 0
  #owedS = 0

  constructor(id: string, resumeS: number, base: number, limits: KeptLimits) {
    this.id = id
    this.resumeS = resumeS
    this.#base = base
    this.#limits = limits
  }

  /** It goes on, where another edge has stopped. */
  goOn({ acknowledged, queue, waiting }: Continued): void {
    this.#acknowledged = acknowledged
    for (const kept of queue) this.sent(kept)
    for (const kept of waiting) this.wait(kept)
  }

  /** For another edge to go on; it is held here no more, and nobody here has it to give it back. */
  handOver(): Continued & { readonly id: string; readonly resumeS: number; readonly base: number } {
    const queue = this.#queue
    const waiting = [...(this.#waiting ?? [])]
    for (const kept of this.surrender()) kept.taken = true
    return { id: this.id, resumeS: this.resumeS, base: this.#base, acknowledged: this.#acknowledged, queue, waiting }
  }

  // --- what the client was sent

  get unacknowledged(): number {
    return this.#queue.length + (this.#waiting?.size ?? 0)
  }

  /** Whether one more is too much. `streaming`: there is a stream by which the client could acknowledge some. */
  isFull(streaming: boolean): boolean {
    const factor = streaming ? BURST_FACTOR : 1
    return this.unacknowledged >= this.#limits.stanzas * factor || this.#bytes >= this.#limits.bytes * factor
  }

  /** It is written to the stream now. */
  sent(kept: Kept): void {
    kept.holders++
    this.#bytes += kept.bytes
    this.#queue.push(kept)
    this.#sentStanzas++
    this.#sentBytes += kept.bytes
    this.#fresh = true
  }

  /** It waits for a stream. Of the presence of one full JID only the latest does, in its own place. */
  wait(kept: Kept): void {
    kept.holders++
    this.#bytes += kept.bytes
    if (this.#waiting === undefined) this.#waiting = new Set()
    this.#waiting.add(kept)
    const { name, type, from } = kept.stanza
    if (name !== 'presence' || (type !== '' && type !== 'unavailable')) return
    if (this.#presences === undefined) this.#presences = new Map()
    const before = this.#presences.get(from.full)
    if (before !== undefined && this.#waiting.delete(before)) this.#release(before)
    this.#presences.set(from.full, kept)
  }

  #release(kept: Kept): void {
    kept.holders--
    this.#bytes -= kept.bytes
  }

  /** The client has handled all up to this `h` (§4). Throws StreamError where that is more than it was sent. */
  acknowledge(h: number): void {
    const count = this.#checked(h)
    for (let i = 0; i < count; i++) {
      const kept = this.#queue[i]!
      kept.taken = true
      this.#release(kept)
    }
    if (count === this.#queue.length) this.#queue = []
    else if (count > 0) this.#queue.splice(0, count)
    this.#acknowledged += count
    if (this.#asks > 0) this.#asks--
    this.#unansweredS = 0
  }

  /** Throws as `acknowledge` does, and changes nothing. */
  check(h: number): void {
    this.#checked(h)
  }

  #checked(h: number): number {
    const count = newlyAcknowledged(h, this.#acknowledged, this.#queue.length)
    if (count >= 0) return count
    throw handledTooHigh(h, this.sentCount)
  }

  /** As on the wire. */
  get sentCount(): number {
    return (this.#acknowledged + this.#queue.length) >>> 0
  }

  /** There is no stream any more. */
  detach(): void {
    this.#asks = 0
    this.#unansweredS = 0
    this.#owed = 0
    this.#owedLast = 0
  }

  /** There is a new stream, to which all that this returns is written in order. */
  attach(): readonly Kept[] {
    if (this.#waiting !== undefined) this.#queue.push(...this.#waiting)
    this.#waiting = undefined
    this.#presences = undefined
    this.#sentStanzas = this.#queue.length
    this.#sentBytes = this.#bytes
    this.#fresh = this.#queue.length > 0
    return [...this.#queue]
  }

  /** All that is not acknowledged, and is held here no more. The end. */
  surrender(): readonly Kept[] {
    const all = this.#waiting === undefined ? this.#queue : [...this.#queue, ...this.#waiting]
    this.#queue = []
    this.#waiting = undefined
    this.#presences = undefined
    for (const kept of all) this.#release(kept)
    return all
  }

  // --- the server asks

  /** Whether enough is unacknowledged to ask at once (§4: `<r/>` is frugal). */
  get wantsAnswer(): boolean {
    if (this.#asks > 0) return this.#sentStanzas >= ASK_AGAIN_STANZAS || this.#sentBytes >= ASK_AGAIN_BYTES
    return this.#queue.length >= ASK_STANZAS || this.#bytes >= ASK_BYTES
  }

  /** The `<r/>` that the caller writes. */
  ask(): string {
    if (this.#asks === 0) this.#unansweredS = 0
    this.#asks++
    this.#sentStanzas = 0
    this.#sentBytes = 0
    return REQUEST
  }

  // --- the client asks

  /** The client has asked, and `received` stanzas have come before that, not all of them handled. */
  owe(received: number): void {
    if (this.#owed === 0) {
      this.#owed = received
      this.#owedS = 0
    }
    this.#owedLast = received
  }

  /** Whether an answer is due now that so many are handled. */
  owes(handled: number): boolean {
    return this.#owed > 0 && handled >= this.#owed
  }

  /** What to write: an answer, or what the server says of its own accord. `handled`: of all that the session sent. */
  answer(handled: number): string {
    if (this.#owed > 0 && handled >= this.#owed) {
      this.#owed = handled >= this.#owedLast ? 0 : this.#owedLast
      this.#owedS = 0
    }
    return `<a xmlns='${NS_SM}' h='${this.h(handled)}'/>`
  }

  /** The count on the wire: since it was enabled, in 32 bits (§4). */
  h(handled: number): number {
    return Math.max(0, handled - this.#base) >>> 0
  }

  // --- once a second, while `wantsLook`

  get wantsLook(): boolean {
    return this.#queue.length > 0 || this.#asks > 0 || this.#owed > 0
  }

  /** A second has passed. `reading`: what the client says is read. */
  look(reading: boolean): Look {
    if (this.#owed > 0 && ++this.#owedS === OWED_S_MAX) return 'answer'
    if (!reading) return 'nothing' // its answer may be there and wait for us
    if (this.#asks > 0) return ++this.#unansweredS > ANSWER_S_MAX ? 'lost' : 'nothing'
    if (this.#queue.length === 0) return 'nothing'
    if (this.#fresh) {
      this.#fresh = false
      return 'nothing'
    }
    return 'ask'
  }
}

/** §6. */
export function handledTooHigh(h: number, sent: number): StreamError {
  const extra = el('handled-count-too-high', NS_SM, { h: String(h), 'send-count': String(sent) })
  return new StreamError('undefined-condition', `you acknowledged ${h} stanzas, and were sent ${sent}`, extra)
}

/**
 * How many more than before an `h` of 32 bits acknowledges, of so many that are not: 0 also where it is behind what was
 * acknowledged before, which says nothing new; -1 where it is ahead of all that was sent.
 */
export function newlyAcknowledged(h: number, acknowledged: number, unacknowledged: number): number {
  const ahead = (h - acknowledged) >>> 0
  if (ahead <= unacknowledged) return ahead
  const behind = 2 ** 32 - ahead
  return behind <= acknowledged && behind <= 2 ** 31 ? 0 : -1
}

// What becomes of it when the session ends ------------------------------------------------------------------------------

const MAM_RESULT = '{urn:xmpp:mam:2}result'

/**
 * What was not acknowledged, as it goes back to be delivered elsewhere (§4); undefined where nobody wants it there:
 * presence, answers and errors, and what the account's own server said to this very session, which are pushes, carbons,
 * pages of the archive and questions. A message gets a note of when it came (XEP-0203 §2) unless it has one of ours from the spool.
 */
export function returned({ stanza, to, receivedMs }: Kept, session: Jid): Stanza | undefined {
  const { name, type, from, child } = stanza
  if (name === 'presence' || from.full === '' || from.full === session.bare) return undefined
  const address = to === 'kept' ? stanza.to : to === 'bare' ? parseJid(session.bare) : session
  const addressed = address === stanza.to && address !== undefined ? stanza : readdress(stanza, { to: address ?? session })
  if (name === 'iq') return from.full !== session.domain && (type === 'get' || type === 'set') ? addressed : undefined
  if (type === 'error' || child === MAM_RESULT) return undefined
  const { domain } = session
  return isDelayedBy(domain, stanza) ? addressed : delayedBy(domain, addressed, receivedMs)
}

// Elements ------------------------------------------------------------------------------------------------------------

const REQUEST = `<r xmlns='${NS_SM}'/>`

/** How long the session may wait for another stream; 0: not at all. Throws as `readEnable` does. */
export function resumeSecondsOf(enable: Element, most: number): number {
  const { resume, maxS = most } = readEnable(enable)
  return resume ? Math.min(maxS, most) : 0
}

export interface EnableRequest {
  readonly resume: boolean
  /** What the client would like, in seconds; undefined: it leaves that to us. */
  readonly maxS: number | undefined
}

/** Throws StanzaError: bad-request for what is no boolean or no positive integer. */
export function readEnable(enable: Element): EnableRequest {
  const resume = attr(enable, 'resume')
  const max = attr(enable, 'max')
  if (!/^(?:true|1|false|0|)$/.test(resume)) throw new StanzaError('bad-request', 'resume is true or false')
  if (!/^(?:0*[1-9]\d{0,9}|)$/.test(max)) throw new StanzaError('bad-request', 'max is a number of seconds')
  return { resume: resume === 'true' || resume === '1', maxS: max === '' ? undefined : Number(max) }
}

/** §3, §5: `id`, `max` and `resume` where it can be resumed. */
export function enabled({ id, resumeS }: StreamManagement): string {
  return id === ''
    ? `<enabled xmlns='${NS_SM}'/>`
    : `<enabled xmlns='${NS_SM}' id='${escapeAttribute(id)}' max='${resumeS}' resume='true'/>`
}

export interface ResumeRequest {
  readonly previd: string
  readonly h: number
}

/** Throws StanzaError: bad-request where one of the two is missing or malformed (§5: MUST). */
export function readResume(resume: Element): ResumeRequest {
  const previd = attr(resume, 'previd')
  const h = countOf(attr(resume, 'h'))
  if (previd === '' || h === undefined) throw new StanzaError('bad-request', 'a resumption has previd and h')
  return { previd, h }
}

/** The `h` of an `<a/>`, '' where there is none. Throws StreamError: without it the two counts have nothing to go by. */
export function readAck(text: string): number {
  const h = countOf(text)
  if (h === undefined) throw new StreamError('bad-format', 'an ack has h, a number of 32 bits') // RFC 6120 §4.9.3.1
  return h
}

/** xs:unsignedInt; undefined for anything else. */
function countOf(text: string): number | undefined {
  const count = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN
  return count < 2 ** 32 ? count : undefined
}

export function resumed(previd: string, h: number): string {
  return `<resumed xmlns='${NS_SM}' previd='${escapeAttribute(previd)}' h='${h}'/>`
}

/** §6. `h`: how many were handled of the session that was asked for and has ended (§5). */
export function failed(condition: StanzaCondition, h?: number): string {
  const count = h === undefined ? '' : ` h='${h}'`
  return `<failed xmlns='${NS_SM}'${count}><${condition} xmlns='${NS_STANZAS}'/></failed>`
}

/** What is known of a session that has ended. */
interface Ended {
  readonly account: string
  readonly h: number
  /** All that had come of its client is handled. */
  readonly settled: boolean
  /** Who is to be told when that is so. */
  readonly asking: ((h: number) => void)[] | undefined
}

/**
 * How much of the sessions that have ended was handled, for clients that come back too late (§5). What is still being handled
 * would be sent again by a client that was told of less, so they are told when it is. The oldest are forgotten.
 */
export class EndedSessions {
  readonly #known = new Map<string, Ended>()

  /** Again with a higher count, as more is handled; `settled`: no more will be. A session that could not be resumed is not noted. */
  note(id: string, account: string, h: number, settled: boolean): void {
    if (id === '') return
    const asking = this.#known.get(id)?.asking
    this.#known.set(id, { account, h, settled, asking: settled ? undefined : asking })
    if (settled) for (const tell of asking ?? []) tell(h)
    if (this.#known.size <= ENDED_MAX) return
    const [oldest, { h: count, asking: late }] = this.#known.entries().next().value!
    this.#known.delete(oldest)
    for (const tell of late ?? []) tell(count)
  }

  /** Tells the count: now, or once it is settled. Undefined where it is not known, or was somebody else's. */
  ask(id: string, account: string, tell: (h: number | undefined) => void): void {
    const ended = this.#known.get(id)
    if (ended?.account !== account) return tell(undefined)
    const { h, settled, asking = [] } = ended
    if (settled || asking.length >= ASKING_MAX) return tell(h)
    asking.push(tell)
    this.#known.set(id, { ...ended, asking })
  }
}

/** Streams that wait for one session's count; one more is told how far it is. */
const ASKING_MAX = 16
/** About 1.5 MB. */
const ENDED_MAX = 10_000

// Sessions that go from edge to edge: a client resumes at another one than it was at (XEP-0198 §5), or this one is told to stop.
//
// What a session is resumed by names it, with a seal that only processes of this deployment can make: nobody guesses it, and it
// is of no use to another account. The router says at which edge it is; that edge lets go of it (departure.ts) and hands it over
// (moved-session.ts). It keeps what it has handed over until it hears that it was taken; else what its client has not
// acknowledged goes back to the router, as behind any end.
//
//   move.<edge>   claim { session, previd, account, generation, h?, to }  ──▶  here it is, or why not
//                 part  { session, part }                                 ──▶  more of what is kept for it
//                 taken { session }                                       ──▶  nothing
//                 offer { session, previd, account, generation, from }         of an edge that stops: fetch this
//
// In one process there is nothing of this: a session has nowhere to go.
import { createHmac, timingSafeEqual } from 'node:crypto'
import { BusTimeout, NoResponders, type Subscription } from '#bus/bus.ts'
import { type Caller, openCaller } from '#core/call.ts'
import { pause, type Timer } from '#core/clock.ts'
import type { SessionDelivery } from '#core/envelope.ts'
import type { Members, Process } from '#core/process.ts'
import { sharedSecret } from '#core/storage/shared-secret.ts'
import { Reader, Writer } from '#core/wire.ts'
import { StreamError } from '#xmpp/error.ts'
import { randomId } from '#xmpp/id.ts'
import type { Jid } from '#xmpp/jid.ts'
import type { Edge } from '../main.ts'
import { EdgeSession } from '../sessions/session.ts'
import { handledTooHigh, type Kept, returned } from '../sessions/stream-management.ts'
import { tellSeen } from '../watching/refresh.ts'
import { type MovedSession, readMoved, writeMoved } from './moved-session.ts'

/** Of what a session is resumed by: 144 bits. */
const SEAL_LENGTH = 24
const ID_BYTES = 18
/** How long an edge may take to let go of a session: what its client has said is handled first. */
const CLAIM_TIMEOUT_MS = 10_000
const PART_TIMEOUT_MS = 3_000
/** How long a session is looked for, and how often: it may be on its way somewhere. */
const SEARCH_MS = 12_000
const SEARCH_AGAIN_MS = 100
/** Of an edge that nobody hears of for so long the client begins anew: it is dead, or as good as that. */
const NOBODY_MS = 2_000
/** How long what was handed over is kept here. */
const TAKEN_WITHIN_MS = 30_000
/** How long an edge that was offered a session may take to fetch it, before another one is asked. */
const FETCHED_WITHIN_MS = 3_000
const ATTEMPTS = 3

/** Who would go on with a session. */
export interface ResumeRequest {
  readonly previd: string
  readonly account: string
  /** Of the credentials he has logged in by. */
  readonly generation: number
  /** What his client has handled; undefined where no client asks. */
  readonly h?: number
}

interface Question extends ResumeRequest {
  readonly kind: 'claim' | 'part' | 'taken' | 'offer'
  readonly session: string
  readonly to: string
  readonly from: string
  readonly part: number
}

/** `again`: it is on its way somewhere; `nobody`: nobody listens there at the moment. */
type Answer = 'gone' | 'again' | 'nobody' | { readonly tooHigh: { readonly h: number; readonly sent: number } } | Handed

interface Handed {
  readonly parts: number
  readonly head: Uint8Array
}

/** Handed over, and perhaps not taken. */
interface Departed {
  readonly jid: Jid
  readonly bodies: readonly Uint8Array[]
  readonly kept: readonly Kept[]
  readonly timer: Timer
}

export class Moves {
  readonly #edge: Edge
  readonly #process: Process
  readonly #members: Members | undefined
  readonly #caller: Caller
  readonly #readSecret: () => Promise<Buffer>
  #secret: Buffer | undefined
  /** Those that leave, by id, and have not gone yet. */
  readonly #departing = new Set<string>()
  readonly #departed = new Map<string, Departed>()
  /** Those that are fetched, by id: two streams that ask for the same one get the same answer. */
  readonly #fetching = new Map<string, Promise<EdgeSession | undefined>>()
  #subscription: Subscription | undefined
  #closing = false

  constructor(edge: Edge, process: Process) {
    this.#edge = edge
    this.#process = process
    this.#members = process.members
    this.#caller = openCaller(process.bus, process.ownership, edge.clock)
    this.#readSecret = sharedSecret(process.table, 'resume')
  }

  /** From now on others may ask. */
  start(): void {
    if (this.#members === undefined) return
    void this.#learnSecret()
    this.#subscription = this.#process.bus.subscribe(`move.${this.#edge.id}`, (body, reply) => {
      void this.#answer(JSON.parse(Buffer.from(body).toString()), reply).catch((error: unknown) =>
        this.#edge.log.error('move.refused', { error }),
      )
    })
  }

  close(): void {
    this.#subscription?.close()
    for (const id of [...this.#departed.keys()]) this.#giveBack(id)
  }

  async #learnSecret(): Promise<void> {
    try {
      this.#secret = await this.#readSecret()
    } catch (error) {
      this.#edge.log.warn('move.no_secret', { error }) // read again when it is needed
    }
  }

  // --- what a session is resumed by

  /** For a session that can be resumed, whose client had said so much before it asked; where the seal cannot be made, only here. */
  resumeId({ id, jid }: EdgeSession, base: number): string {
    if (this.#members === undefined) return randomId(ID_BYTES)
    if (this.#secret === undefined) {
      void this.#learnSecret()
      return randomId(ID_BYTES)
    }
    const name = base === 0 ? id : `${id}.${base.toString(36)}`
    return name + sealOf(this.#secret, name, jid.bare)
  }

  /** The session that it names, and what was said before, where it is one of this account's; undefined for whatever else. */
  async #sessionNamed(previd: string, account: string): Promise<{ readonly id: string; readonly base: number } | undefined> {
    if (previd.length <= SEAL_LENGTH || previd.length > 3 * SEAL_LENGTH) return undefined
    const secret = this.#secret ?? (await this.#readSecret())
    this.#secret = secret
    const name = previd.slice(0, -SEAL_LENGTH)
    const given = Buffer.from(previd.slice(-SEAL_LENGTH))
    const seal = Buffer.from(sealOf(secret, name, account))
    if (given.length !== seal.length || !timingSafeEqual(given, seal)) return undefined
    const [id, base = '0'] = name.split('.')
    return { id: id!, base: Number.parseInt(base, 36) }
  }

  // --- here, of a client that comes to us

  /** Whether a session may be elsewhere: `fetch` finds out. */
  get mayBeElsewhere(): boolean {
    return this.#members !== undefined
  }

  /**
   * The session, which has no stream here yet; undefined where there is none to be resumed, or nobody could be asked. Throws
   * StreamError for an `h` that cannot be.
   */
  async fetch(request: ResumeRequest): Promise<EdgeSession | undefined> {
    try {
      return await this.#fetch(request)
    } catch (error) {
      if (error instanceof StreamError) throw error
      this.#edge.log.warn('session.not_found', { account: request.account, error })
      return undefined
    }
  }

  async #fetch(request: ResumeRequest): Promise<EdgeSession | undefined> {
    const named = await this.#sessionNamed(request.previd, request.account)
    if (named === undefined || this.#closing) return undefined
    const { id } = named
    const before = this.#fetching.get(id)
    if (before !== undefined) await before.catch(() => {})
    const here = this.#edge.resumables.get(request.previd)
    if (here !== undefined) return here
    const fetching = this.#search(id, request).finally(() => this.#fetching.delete(id))
    this.#fetching.set(id, fetching)
    return fetching
  }

  /**
   * How much of a session that cannot be resumed any more was handled, for its edge is dead (§5); undefined where nobody knows: its
   * owners have ended it.
   */
  async handledOf(previd: string, account: string): Promise<number | undefined> {
    try {
      const named = await this.#sessionNamed(previd, account)
      if (named === undefined) return undefined
      const { id: session, base } = named
      const atRouter = await this.#caller.ask('router', account, 'session.said', { session })
      if (atRouter === null) return undefined
      const atPresence = await this.#caller.ask('presence', account, 'presence.said', { session })
      return Math.max(0, Math.max(atRouter, atPresence ?? 0) - base) >>> 0
    } catch (error) {
      this.#edge.log.warn('session.not_found', { account, error })
      return undefined
    }
  }

  async #search(id: string, request: ResumeRequest): Promise<EdgeSession | undefined> {
    const { clock, early, resumables } = this.#edge
    const untilMs = clock.monotonic() + SEARCH_MS
    let silentMs = 0
    do {
      const at = await this.#caller.ask('router', request.account, 'session.edge', { session: id })
      if (at === null) return undefined
      if (at === this.#edge.id) {
        const here = resumables.get(request.previd)
        if (here !== undefined || !this.#departing.has(id)) return here
      } else {
        const waiting: SessionDelivery[] = []
        early.set(id, waiting)
        try {
          const answer = await this.#claim(at, id, request)
          if (answer === 'gone') return undefined
          silentMs = answer === 'nobody' ? silentMs + SEARCH_AGAIN_MS : 0
          if (silentMs >= NOBODY_MS) return undefined
          if (typeof answer === 'object' && 'tooHigh' in answer) throw handledTooHigh(answer.tooHigh.h, answer.tooHigh.sent)
          if (answer !== 'again' && answer !== 'nobody') return await this.#take(at, id, answer, waiting)
        } finally {
          early.delete(id)
        }
      }
      await pause(clock, SEARCH_AGAIN_MS)
    } while (clock.monotonic() < untilMs)
    return undefined
  }

  async #claim(at: string, session: string, request: ResumeRequest): Promise<Answer> {
    try {
      return readAnswer(await this.#ask(at, { ...request, kind: 'claim', session, to: this.#edge.id }, CLAIM_TIMEOUT_MS))
    } catch (error) {
      // It has just been stopped, and its sessions with it, or is dead.
      if (error instanceof NoResponders) return this.#members!.livenessOf(at) === 'live' ? 'nobody' : 'gone'
      if (error instanceof BusTimeout) return 'gone'
      throw error
    }
  }

  #ask(at: string, question: Partial<Question>, timeoutMs: number): Promise<Uint8Array> {
    return this.#process.bus.request(`move.${at}`, Buffer.from(JSON.stringify(question)), timeoutMs)
  }

  /** It is ours from here on. What has come for it meanwhile follows what was kept. */
  async #take(
    at: string,
    id: string,
    { parts, head }: Handed,
    early: readonly SessionDelivery[],
  ): Promise<EdgeSession | undefined> {
    const { lanes, log } = this.#edge
    let moved: MovedSession
    try {
      const bodies = [head]
      for (let part = 1; part < parts; part++) bodies.push(await this.#part(at, id, part))
      moved = readMoved(bodies)
    } catch (error) {
      log.error('session.not_taken', { session: id, from: at, error }) // its last edge gives back what it had
      return undefined
    }
    const { jid } = moved
    const session = EdgeSession.arrive(moved, this.#edge)
    this.#edge.early.delete(id)
    for (const delivery of early) session.receive(delivery)
    for (const role of ['router', 'presence'] as const) {
      if (!session.isKnownTo(role)) continue // else it is asked whether it knows it, and what there is to be seen
      const fields = { session: id, edge: this.#edge.id }
      lanes.send(role, jid.bare, { kind: 'signal', account: jid.bare, name: 'session.refresh', fields })
    }
    if (!moved.present) this.watches(session) // else when it watches its contacts
    void this.#tellTaken(at, id)
    log.info('session.moved', { jid: jid.full, from: at })
    return session
  }

  async #part(at: string, session: string, part: number): Promise<Uint8Array> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#ask(at, { kind: 'part', session, part }, PART_TIMEOUT_MS)
      } catch (error) {
        if (!(error instanceof BusTimeout) || attempt === ATTEMPTS) throw error
      }
    }
  }

  async #tellTaken(at: string, session: string): Promise<void> {
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      try {
        await this.#ask(at, { kind: 'taken', session }, PART_TIMEOUT_MS)
        return
      } catch (error) {
        if (error instanceof NoResponders) return // it is gone, and gives nothing back
      }
    }
  }

  /**
   * A session that has come from another edge watches its contacts here: whatever its client has seen of them is looked at now, for
   * somebody may have gone while nobody told us.
   */
  watches(session: EdgeSession): void {
    if (session.takeUnchecked()) tellSeen(this.#edge, session.showing.seen)
  }

  // --- here, of a session that others want

  async #answer(question: Question, reply: (body: Uint8Array) => void): Promise<void> {
    const { kind, session } = question
    if (kind === 'claim') return this.#letGo(question, (answer) => reply(writeAnswer(answer)))
    if (kind === 'part') {
      const body = this.#departed.get(session)?.bodies[question.part]
      if (body !== undefined) reply(body)
    } else if (kind === 'taken') {
      this.#edge.clock.clearTimeout(this.#departed.get(session)?.timer)
      this.#departed.delete(session)
      reply(NOTHING)
    } else if (!this.#closing)
      await this.fetch({ previd: question.previd, account: question.account, generation: question.generation })
  }

  #letGo({ session: id, previd, account, generation, h, to }: Question, tell: (answer: Answer) => void): void {
    const departed = this.#departed.get(id)
    if (departed !== undefined) return tell('again') // perhaps to the same edge, whose question came twice
    const session = this.#edge.resumables.get(previd)
    if (session === undefined || session.jid.bare !== account || generation < session.generation)
      return tell(this.#departing.has(id) ? 'again' : 'gone')
    try {
      session.claim(h, (granted) => {
        if (granted) this.#depart(session, to, tell)
        else tell('again')
      })
    } catch (error) {
      if (!(error instanceof StreamError)) throw error
      tell({ tooHigh: countsOf(error) })
    }
  }

  #depart(session: EdgeSession, to: string, tell: (answer: Answer) => void): void {
    const { id, jid } = session
    this.#departing.add(id)
    session.depart(to, (moved) => {
      this.#departing.delete(id)
      if (moved === undefined) return tell('gone')
      const { queue, waiting } = moved.management
      const bodies = writeMoved(moved)
      const timer = this.#edge.clock.setTimeout(() => this.#giveBack(id), TAKEN_WITHIN_MS)
      this.#departed.set(id, { jid, bodies, kept: [...queue, ...waiting], timer })
      this.#edge.log.info('session.handed_over', { jid: jid.full, to })
      tell({ parts: bodies.length, head: bodies[0]! })
    })
  }

  /** Nobody has said that he has it. */
  #giveBack(id: string): void {
    const departed = this.#departed.get(id)
    if (departed === undefined) return
    this.#departed.delete(id)
    this.#edge.clock.clearTimeout(departed.timer)
    const { jid, kept } = departed
    this.#edge.log.warn('session.not_fetched', { jid: jid.full, stanzas: kept.length })
    const account = jid.bare
    for (const each of kept) {
      const stanza = returned(each, jid)
      if (stanza !== undefined)
        this.#edge.lanes.send('router', account, { kind: 'stanza', point: 'returned', account, origin: undefined, stanza })
    }
    const fields = { session: id, resource: jid.resource }
    for (const role of ['router', 'presence'] as const)
      this.#edge.lanes.send(role, account, { kind: 'signal', account, name: 'session.closed', fields })
  }

  // --- an edge that stops

  /** Whether there is an edge to take what this one has. From now on it takes nothing itself. */
  stopTaking(): boolean {
    this.#closing = true
    return this.#others().length > 0
  }

  #others(): readonly string[] {
    return this.#members?.candidates('edge').filter((edge) => edge !== this.#edge.id) ?? []
  }

  /** Has the other edges take the sessions that have no stream and can be resumed. Resolves when they have, or `untilMs`. */
  async handOut(untilMs: number): Promise<void> {
    const { clock, detached, id: from, log } = this.#edge
    let turn = Math.floor((this.#process.random ?? Math.random)() * 1_000)
    let count = 0
    for (let asked = new Map<EdgeSession, number>(); detached.size > 0 && clock.monotonic() < untilMs; ) {
      const others = this.#others()
      if (others.length === 0) break
      const nowMs = clock.monotonic()
      for (const session of detached) {
        if (nowMs - (asked.get(session) ?? Number.NEGATIVE_INFINITY) < FETCHED_WITHIN_MS) continue
        if (!asked.has(session)) count++
        asked.set(session, nowMs)
        const { id, jid, generation, resumedBy } = session
        const offer = { kind: 'offer', session: id, previd: resumedBy, account: jid.bare, generation, from }
        this.#process.bus.publish(`move.${others[turn++ % others.length]!}`, Buffer.from(JSON.stringify(offer)))
      }
      await pause(clock, SEARCH_AGAIN_MS)
      if (detached.size === 0) asked = new Map()
    }
    while (this.#departed.size > 0 && clock.monotonic() < untilMs) await pause(clock, SEARCH_AGAIN_MS / 2)
    if (count > 0) log.info('sessions.handed_out', { sessions: count - detached.size, left: detached.size })
  }
}

function sealOf(secret: Buffer, session: string, account: string): string {
  return createHmac('sha256', secret).update(`${session}\n${account}`).digest('base64url').slice(0, SEAL_LENGTH)
}

/** As the error of an `h` that cannot be has them. */
function countsOf({ extra }: StreamError): { readonly h: number; readonly sent: number } {
  return { h: Number(extra?.attrs.h), sent: Number(extra?.attrs['send-count']) }
}

const NOTHING = new Uint8Array(0)
const GONE = 0
const AGAIN = 1
const TOO_HIGH = 2
const HANDED = 3

function writeAnswer(answer: Answer): Buffer {
  const out = new Writer(1_024)
  if (answer === 'gone') out.u8(GONE)
  else if (answer === 'again' || answer === 'nobody') out.u8(AGAIN)
  else if ('tooHigh' in answer) {
    out.u8(TOO_HIGH)
    out.u32(answer.tooHigh.h)
    out.u32(answer.tooHigh.sent)
  } else {
    out.u8(HANDED)
    out.u16(answer.parts)
    out.bytes(answer.head)
  }
  return out.take()
}

/** Throws RangeError on what is no answer of ours. */
function readAnswer(body: Uint8Array): Answer {
  const reader = new Reader(body)
  switch (reader.u8()) {
    case GONE:
      return 'gone'
    case AGAIN:
      return 'again'
    case TOO_HIGH:
      return { tooHigh: { h: reader.u32(), sent: reader.u32() } }
    case HANDED:
      return { parts: reader.u16(), head: reader.bytes() }
    default:
      throw new RangeError('no answer to a claim')
  }
}

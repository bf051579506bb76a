// A bound session at its edge: what a client sends becomes numbered envelopes, what comes for it goes to the socket.
//
// With stream management (XEP-0198, edge/sessions/stream-management.ts) it may outlive its stream: what comes for it waits, nobody
// sees it go, and another stream may take it over until its time is up. However it ends, what its client has
// not acknowledged goes back to the router, behind the news of its end. Without stream management nothing is kept.
import { errorOf } from '#core/answer.ts'
import type { Fields, SessionDelivery, ToMode } from '#core/envelope.ts'
import { traceFromHere } from '#core/observing/trace.ts'
import type { RoleName } from '#core/ownership/ownership.ts'
import type { ConnectionFacts } from '#core/ownership/registry.ts'
import type { ToldSession } from '#core/ownership/resync-frame.ts'
import { StanzaError, StreamError } from '#xmpp/error.ts'
import type { Jid } from '#xmpp/jid.ts'
import { NS_CLIENT } from '#xmpp/ns.ts'
import type { ScannedElement } from '#xmpp/scan.ts'
import { type Element, type Stanza, type StanzaName, stanza, stanzaOfBytes } from '#xmpp/stanza.ts'
import type { Edge } from '../main.ts'
import { Departure } from '../moving/departure.ts'
import type { Begun, MovedSession } from '../moving/moved-session.ts'
import {
  checkFrom,
  isAnswerToServer,
  isLegacySession,
  isStanzaName,
  legacyAnswer,
  stanzaOf,
  unsupported,
} from '../streams/stanza-rules.ts'
import type { ClientStream } from '../streams/stream.ts'
import { Broadcast } from '../watching/broadcast.ts'
import type { Client } from '../watching/caps.ts'
import { NS_CSI } from './inactive.ts'
import { Intake, type Speaker } from './intake.ts'
import { Outbox, type Receiving } from './outbox.ts'
import { Parting } from './parting.ts'
import { Showing } from './showing.ts'
import {
  enabled,
  failed,
  type Kept,
  keptLimits,
  NS_SM,
  readAck,
  resumed,
  resumeSecondsOf,
  StreamManagement,
} from './stream-management.ts'
import type { Timed } from './wheel.ts'

export class EdgeSession implements Receiving, Speaker, Timed {
  readonly id: string
  readonly jid: Jid
  dueS = 0
  /** Of the credentials (core/storage/auth.ts) that whoever resumes it must have logged in by, or later ones. */
  generation: number
  readonly #edge: Edge
  readonly #out: Outbox
  #flags: readonly string[] | undefined
  readonly #intake: Intake
  /** From its end on. */
  #parting: Parting | undefined
  /** The client has closed its stream: there is nothing to resume. */
  #left = false
  /** A stream that would take it over waits for what is unacked. */
  #claimed: ((granted: boolean) => void) | undefined
  /** Set by the first presence that tells of its capabilities (XEP-0115). */
  #client: Client | undefined
  /** What a new owner is told of it. */
  readonly #sinceMs: number
  #about: ConnectionFacts
  readonly showing = new Showing()
  /** It leaves for another edge. */
  #departure: Departure | undefined
  /** It has come from another edge, and somebody whom its client sees may have gone meanwhile. */
  #unchecked = false
  /** Its owner has not shown its last presence yet (presence/coalescing.ts). */
  held = false
  #present = false

  constructor(
    id: string,
    jid: Jid,
    edge: Edge,
    { generation, about, sinceMs = edge.clock.now(), flags }: Begun,
    stream?: ClientStream,
  ) {
    this.id = id
    this.jid = jid
    this.#edge = edge
    this.#out = new Outbox(edge, this, stream)
    this.generation = generation
    this.#sinceMs = sinceMs
    this.#about = about
    this.#flags = flags
    this.#intake = new Intake(edge, this)
  }

  /** From another edge: it waits for a stream here. */
  static arrive(moved: MovedSession, edge: Edge): EdgeSession {
    const { session: id, jid, management: sm, broadcast } = moved
    const session = new EdgeSession(id, jid, edge, moved)
    session.#intake.goOn(moved.received, moved.toldPresence)
    session.#out.sm = new StreamManagement(sm.id, sm.resumeS, sm.base, keptLimits(edge.limits))
    session.#out.sm.goOn(sm)
    session.#present = moved.present
    session.held = moved.held
    session.showing.goOn(broadcast, moved.directed, moved.seen)
    session.#unchecked = moved.seen.length > 0
    edge.sessions.set(id, session)
    edge.resumables.set(sm.id, session)
    if (broadcast !== undefined) session.#client = edge.capabilities.note(session, broadcast, undefined)
    session.#wait()
    return session
  }

  get ended(): boolean {
    return this.#parting !== undefined
  }

  /** Its owner in this role has heard of it, or will, and not of its end. */
  isKnownTo(role: RoleName): boolean {
    return (role === 'router' || this.#intake.toldPresence) && this.#parting?.isKnownTo(role) !== true
  }

  /** For an owner who is new (edge/resync.ts); undefined where it is nothing to him. */
  told(role: RoleName): ToldSession | undefined {
    if (!this.isKnownTo(role)) return undefined
    const { broadcast: presence, directed } = this.showing
    const about = {
      ...{ ...this.#about, sinceMs: this.#sinceMs, detached: this.#out.stream === undefined },
      ...(role === 'presence' && this.held && { held: true }),
    }
    return { session: this.id, edge: this.#edge.id, jid: this.jid, about, flags: this.flags, directed, presence }
  }

  /** What its client has broadcast last, handled or not, says that it is available. */
  get present(): boolean {
    return this.#present
  }

  presents(available: boolean): void {
    this.#present = available
    if (available) return
    this.held = false
    this.#edge.watching.leave(this)
  }

  shown(presence: Stanza): void {
    this.showing.note(presence)
  }

  /** These are gone, and nobody was there to say so. */
  lose(gone: ReadonlyMap<string, Jid>): void {
    for (const full of this.showing.seen.keys()) {
      const from = gone.get(full)
      if (from !== undefined) this.show(new Broadcast(stanza('presence', from, { type: 'unavailable' }), this.#edge.clock))
    }
  }

  /** What modules have set on it (core/module.ts, Session.set). */
  get flags(): readonly string[] {
    return this.#flags ?? NONE
  }

  /** A first-level element of a bound stream. Throws StreamError for what is no stanza or not this client's. */
  take(element: ScannedElement): void {
    if (element.ns !== NS_CLIENT || !isStanzaName(element.name)) return this.#manage(element)
    checkFrom(element.from, this.jid)
    this.#intake.count()
    if (element.id === PING_ID && isAnswerToServer(element)) return
    if (this.#client !== undefined && this.#edge.capabilities.takes(this.#client, element)) return
    let stanza: Stanza
    try {
      stanza = stanzaOf(element, this.jid, this.#out.stream!.lang)
    } catch (error) {
      return this.#refuse(element, error as StanzaError)
    }
    if (isLegacySession(stanza)) return this.deliver(legacyAnswer(stanza), 'kept')
    if (stanza.name === 'presence') this.#client = this.#edge.capabilities.note(this, stanza, this.#client)
    traceFromHere('stanza.received', stanza, (stanza) => this.#intake.submit(stanza))
  }

  #refuse(element: ScannedElement, error: StanzaError): void {
    const { name, id, type, lang, child, payload } = element
    const refused = stanzaOfBytes(name as StanzaName, this.jid, undefined, id, type, lang, child, payload)
    const answer = errorOf(refused, error)
    if (answer !== undefined) this.deliver(answer, 'kept')
  }

  pauseReading(): void {
    this.#out.stream?.pause()
  }

  resumeReading(): void {
    this.#out.stream?.resume()
  }

  // --- what comes for it

  /** It keeps what it is sent: give it by `keep` what is for several sessions. */
  get keeps(): boolean {
    return this.#out.sm !== undefined
  }

  /** To the socket, in this turn's write. */
  deliver(stanza: Stanza, to: ToMode): void {
    this.#out.deliver(stanza, to)
  }

  /** See Outbox.show. */
  show(broadcast: Broadcast): boolean {
    return this.#out.show(broadcast)
  }

  keep(kept: Kept): boolean {
    return this.#out.keep(kept)
  }

  get isOver(): boolean {
    return this.#parting?.routerTold === true
  }

  /** Too much is not acknowledged: the session ends, and nothing of it is lost. */
  overflow(): void {
    this.#edge.log.warn('session.unacknowledged', { jid: this.jid.full, streaming: this.#out.stream !== undefined })
    if (this.#out.stream !== undefined) this.#out.stream.fail(new StreamError('policy-violation', 'too much is not acknowledged'))
    this.end()
    this.#parting!.tellRouter() // ahead of the client's last stanza, which waits: nothing more may come
  }

  /** Anything that came for this session, in order. */
  receive(delivery: SessionDelivery): void {
    if (delivery.kind === 'stanza') return this.deliver(delivery.stanza, delivery.to)
    const { name, fields } = delivery
    if (name === 'close') {
      const text = typeof fields.text === 'string' ? fields.text : ''
      this.#out.stream?.fail(new StreamError(fields.condition as StreamError['condition'], text))
      this.end()
    } else if (name === 'renewed') {
      this.generation = Number(fields.generation ?? 0)
    } else if (name === 'flag') {
      const flag = String(fields.flag)
      const others = this.#flags?.filter((other) => other !== flag) ?? []
      this.#flags = fields.off === true ? others : [...others, flag]
    } else if (name === 'held') {
      this.held = fields.held === true
    } else if (name === 'moved') this.#departure?.heard(String(fields.role))
  }

  ping(): void {
    this.#out.ping(PING_ID)
  }

  indicate(state: 'active' | 'inactive'): void {
    this.#out.indicate(state)
  }

  // --- its client's capabilities

  /** Its client wants events of the nodes with this feature (XEP-0163 §4.2). */
  wants(feature: string): boolean {
    return this.#client?.notifies?.features.has(feature) === true
  }

  /** The nodes of which its client wants events; undefined where that is not known. */
  get notifies(): readonly string[] | undefined {
    return this.#client?.notifies?.nodes
  }

  // --- stream management

  /** What is no stanza: an element of XEP-0198 or XEP-0352, or a StreamError. */
  #manage(element: ScannedElement): void {
    const stream = this.#out.stream!
    const sm = this.#out.sm
    const { name, ns } = element
    if (ns === NS_CSI && (name === 'active' || name === 'inactive')) return this.#out.indicate(name)
    if (ns !== NS_SM || (name !== 'enable' && name !== 'r' && name !== 'a' && name !== 'resume')) throw unsupported(element)
    if (name === 'enable') {
      if (sm === undefined) return stream.say(this.enable(element.element()))
      throw new StreamError('policy-violation', 'stream management is enabled already') // §3: at most one attempt
    }
    if (sm === undefined || name === 'resume') return stream.say(failed('unexpected-request')) // §3, §6
    if (name === 'a') return sm.acknowledge(readAck(element.attribute('h')))
    const { handled, received } = this.#intake
    if (handled === received) return stream.say(sm.answer(received))
    sm.owe(received)
    this.expectsAnswer()
  }

  /** §3. From here on both sides count. Returns what the client is told. */
  enable(element: Element): string {
    const { limits, moves, resumables } = this.#edge
    try {
      const resumeS = resumeSecondsOf(element, limits.resumeSeconds)
      const id = resumeS > 0 ? moves.resumeId(this, this.#intake.received) : ''
      this.#out.sm = new StreamManagement(id, resumeS, this.#intake.received, keptLimits(limits))
    } catch (error) {
      if (!(error instanceof StanzaError)) throw error
      return failed(error.condition)
    }
    if (this.resumedBy !== '') resumables.set(this.resumedBy, this)
    return enabled(this.#out.sm)
  }

  /** More of what the client has sent is handled. */
  handledMore(): void {
    const sm = this.#out.sm
    if (sm === undefined) return
    const { handled } = this.#intake
    if (this.#parting !== undefined) this.#noteEnded(sm)
    else if (sm.owes(handled)) this.#out.stream?.say(sm.answer(handled))
  }

  /** See Outbox.look. */
  look(): void {
    if (!this.#out.look(this.#intake.handled)) this.#edge.watched.delete(this)
  }

  expectsAnswer(): void {
    this.#edge.watched.add(this)
  }

  /** The client closes its stream; what it has said is still answered. Nobody can resume it from here on. */
  leave(): void {
    this.#left = true
    if (this.#out.sm !== undefined) this.#edge.resumables.delete(this.#out.sm.id)
  }

  /** What the client is told last: how much of what it has sent was handled. '' where it does not count. */
  get farewell(): string {
    return this.#out.sm === undefined ? '' : this.#out.sm.answer(this.#intake.handled)
  }

  /** The connection is gone without a word (§7): the session waits for another, if that was agreed. */
  lost(): void {
    const sm = this.#out.sm
    if (sm === undefined || sm.id === '' || this.#left) return this.end()
    if (this.#parting !== undefined || this.#out.stream === undefined) return
    this.#out.stream = undefined
    sm.detach()
    this.#edge.watched.delete(this)
    this.#wait()
    this.#tellAbout({ detached: true })
    this.#edge.log.debug('session.detached', { jid: this.jid.full })
    this.indicate('active') // XEP-0352 §5.2: so it is when it goes on. What has waited may be more than may wait, and end it
  }

  /** For another stream. */
  #wait(): void {
    this.#edge.detached.add(this)
    this.#edge.wheel.add(this, this.#out.sm!.resumeS * 1_000)
  }

  /** What it is resumed by; '' where it is not. */
  get resumedBy(): string {
    return this.#out.sm?.id ?? ''
  }

  /**
   * Another stream would go on with this session, its client having handled `h` (undefined: no client asks): told whether it may once all that has come
   * of the client is handled, so that it and we agree on what has. A stream that is still there is closed, and so is one
   * that waits for the same. Throws StreamError for an `h` that cannot be.
   */
  claim(h: number | undefined, answer: (granted: boolean) => void): void {
    if (h !== undefined) this.#out.sm!.check(h)
    const other = this.#claimed
    const before = this.#out.stream
    this.#claimed = answer
    this.lost()
    before?.replaced() // §5
    const granted = (): void => {
      this.#claimed = undefined
      answer(true)
    }
    if (this.#parting === undefined) this.settle(granted)
    other?.(false) // last: it may go on with what its client has sent behind, and claim this session again
  }

  /** It goes on, on this stream: first with what was sent and not acknowledged, then with what has come since (§5). */
  resume(stream: ClientStream, h: number, say = (text: string) => stream.say(text)): void {
    const sm = this.#out.sm!
    this.#edge.detached.delete(this)
    this.#edge.wheel.remove(this)
    this.#out.stream = stream
    this.#about = stream.about
    if (this.#intake.paused) stream.pause()
    this.#tellAbout({ ...stream.about, detached: false }) // ahead of what is written, which may end the stream at once
    this.#edge.log.info('session.resumed', { jid: this.jid.full })
    say(resumed(sm.id, sm.h(this.#intake.handled)))
    sm.acknowledge(h)
    for (const kept of sm.attach()) this.#out.write(kept.stanza, kept.to)
    if (sm.wantsLook) this.expectsAnswer()
    if (sm.wantsAnswer) this.#out.stream?.say(sm.ask())
  }

  /**
   * It leaves for another edge, with all that has come of its client handled. Told what that one goes on with, once nothing more
   * comes here; undefined where the session has ended meanwhile.
   */
  depart(to: string, then: (moved: MovedSession | undefined) => void): void {
    this.#edge.resumables.delete(this.#out.sm!.id)
    this.#edge.detached.delete(this)
    this.#departure = new Departure(this.#edge, this, to, (free) => then(free ? this.#handOver() : undefined))
  }

  #handOver(): MovedSession {
    const { id: session, jid, generation, held, showing, flags } = this
    const { audience } = this.#edge.watching
    const moved = {
      ...{ session, jid, generation, held, flags, sinceMs: this.#sinceMs, about: this.#about, present: this.#present },
      ...{ received: this.#intake.received, toldPresence: this.#intake.toldPresence },
      ...{ broadcast: showing.broadcast, directed: showing.directed },
      seen: [...new Set([...showing.seen.keys(), ...(this.#present ? audience.seenBy(jid.bare) : NONE)])],
      management: this.#out.sm!.handOver(),
    }
    this.#edge.sessions.delete(session)
    this.#leaveAll()
    return moved
  }

  /** Nobody here has anything to do with it any more. */
  #leaveAll(): void {
    const { capabilities, detached, resumables, watched, wheel } = this.#edge
    this.presents(false)
    this.#out.close()
    if (this.#client !== undefined) capabilities.leave(this.#client)
    if (this.#out.sm === undefined) return
    wheel.remove(this)
    detached.delete(this)
    watched.delete(this)
    resumables.delete(this.#out.sm.id)
  }

  /** Once, where it is so: what its client sees is to be looked at anew. */
  takeUnchecked(): boolean {
    if (!this.#unchecked) return false
    this.#unchecked = false
    return true
  }

  /** For the list of sessions (router/administration.ts): that it waits, or what it goes on with. */
  #tellAbout(about: Fields): void {
    const account = this.jid.bare
    const fields = { session: this.id, ...about }
    this.#edge.lanes.send('router', account, { kind: 'signal', account, name: 'session.about', fields })
  }

  /** Nobody has resumed it in time; or, behind its end, nothing can come for it any more. */
  due(): void {
    if (this.#parting !== undefined) this.#edge.sessions.delete(this.id)
    else if (this.#out.stream === undefined) this.end()
  }

  // --- its end

  /** Calls back once everything the client has sent is handled, and so answered; at once where it is. */
  settle(then: () => void): void {
    this.#intake.settle(then)
  }

  /** The session is over: the owners hear of it after the client's last stanza. */
  end(): void {
    if (this.#parting !== undefined) return
    this.#parting = new Parting(this.#edge, this, this.#intake, this.#out.sm)
    this.#leaveAll()
    this.#intake.unsettle()
    if (this.#out.sm === undefined) this.#edge.sessions.delete(this.id)
    else {
      this.#noteEnded(this.#out.sm)
      this.#claimed?.(false)
      this.#claimed = undefined
      this.#departure?.end()
    }
    if (!this.#intake.holds) this.#parting.tellOwners()
  }

  #noteEnded(sm: StreamManagement): void {
    this.#edge.ended.note(sm.id, this.jid.bare, sm.h(this.#intake.handled), this.settled)
  }

  /** All that has come of the client is handled. */
  get settled(): boolean {
    return this.#intake.handled === this.#intake.received
  }

  /** Nothing of the client's is unacked, or the last of it is on its way. */
  moved(): void {
    this.#parting?.tellOwners()
  }

  /** For what came when it had ended: to be delivered elsewhere. */
  giveBack(kept: Kept): void {
    this.#parting?.giveBack(kept)
  }
}

const NONE: readonly string[] = []
/** Of the one ping that a session may have outstanding. */
const PING_ID = 'are-you-there'

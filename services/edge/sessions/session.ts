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
import { randomId } from '#xmpp/id.ts'
import { type Jid, NO_JID, parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT, NS_PING } from '#xmpp/ns.ts'
import type { ScannedElement } from '#xmpp/scan.ts'
import { el, rootTag, type Stanza, type StanzaName, stanza, stanzaOfBytes } from '#xmpp/stanza.ts'
import type { Edge } from '../main.ts'
import { checkFrom, isAnswerToServer, isLegacySession, isStanzaName, refusalOf, unsupported } from '../streams/stanza-rules.ts'
import type { ClientStream } from '../streams/stream.ts'
import { Broadcast } from '../watching/broadcast.ts'
import type { Client } from '../watching/caps.ts'
import { type Held, Inactive, NS_CSI } from './inactive.ts'
import { Intake, type Speaker } from './intake.ts'
import { Parting } from './parting.ts'
import { Showing } from './showing.ts'
import { enabled, failed, Kept, NS_SM, readAck, readEnable, resumed, StreamManagement } from './stream-management.ts'
import type { Timed } from './wheel.ts'

export class EdgeSession implements Held, Speaker, Timed {
  readonly id: string
  readonly jid: Jid
  dueS = 0
  /** Of the credentials (core/storage/auth.ts) that whoever resumes it must have logged in by, or later ones. */
  generation: number
  readonly #edge: Edge
  /** Undefined while it waits to be resumed, and behind its end. */
  #stream: ClientStream | undefined
  #flags: string[] | undefined
  readonly #intake: Intake
  /** From its end on. */
  #parting: Parting | undefined
  /** Set once the client has enabled it. */
  #sm: StreamManagement | undefined
  /** The client has closed its stream: there is nothing to resume. */
  #left = false
  /** A stream that would take it over waits for what is unacked. */
  #claimed: ((granted: boolean) => void) | undefined
  /** What waits while its client is inactive (XEP-0352); undefined while it is active. */
  #inactive: Inactive | undefined
  /** Set by the first presence that tells of its capabilities (XEP-0115). */
  #client: Client | undefined
  /** What a new owner is told of it. */
  readonly #sinceMs: number
  #about: ConnectionFacts
  readonly showing = new Showing()
  /** Its owner has not shown its last presence yet (presence/coalescing.ts). */
  held = false
  #present = false

  constructor(id: string, jid: Jid, edge: Edge, stream: ClientStream) {
    this.id = id
    this.jid = jid
    this.#edge = edge
    this.#stream = stream
    this.generation = stream.generation
    this.#sinceMs = edge.clock.now()
    this.#about = stream.about
    this.#intake = new Intake(edge, this)
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
      ...{ ...this.#about, sinceMs: this.#sinceMs, detached: this.#stream === undefined },
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
    const refused = refusalOf(element)
    if (refused !== undefined) return this.#answer(element, refused)
    const stanza = this.#stanzaOf(element)
    if (stanza === undefined) return
    if (isLegacySession(stanza)) return this.#answerLegacySession(stanza)
    if (stanza.name === 'presence') this.#client = this.#edge.capabilities.note(this, stanza, this.#client)
    traceFromHere('stanza.received', stanza, (stanza) => this.#intake.submit(stanza))
  }

  #answer(element: ScannedElement, error: StanzaError): void {
    const { name, id, type, lang, child, payload } = element
    const refused = stanzaOfBytes(name as StanzaName, this.jid, undefined, id, type, lang, child, payload)
    const answer = errorOf(refused, error)
    if (answer !== undefined) this.deliver(answer, 'kept')
  }

  #stanzaOf(element: ScannedElement): Stanza | undefined {
    let to: Jid | undefined
    if (element.to !== undefined && element.to !== '') {
      try {
        to = parseJid(element.to)
      } catch (error) {
        this.#answer(element, new StanzaError('jid-malformed', (error as Error).message)) // RFC 6120 §8.3.3.8
        return undefined
      }
    }
    const { name, id, type, child, payload } = element
    const lang = element.lang || this.#stream!.lang
    return stanzaOfBytes(name as StanzaName, this.jid, to, id, type, lang, child, payload)
  }

  /** RFC 3921 §3: old clients ask for a session after the bind; there is nothing to do. */
  #answerLegacySession(iq: Stanza): void {
    this.deliver(stanza('iq', NO_JID, { to: this.jid, id: iq.id, type: 'result' }), 'kept')
  }

  pauseReading(): void {
    this.#stream?.pause()
  }

  resumeReading(): void {
    this.#stream?.resume()
  }

  // --- what comes for it

  /** It keeps what it is sent: give it by `keep` what is for several sessions. */
  get keeps(): boolean {
    return this.#sm !== undefined
  }

  /** To the socket, in this turn's write. */
  deliver(stanza: Stanza, to: ToMode): void {
    if (stanza.name === 'presence' && this.#edge.notesSeen(stanza.from)) this.showing.see(stanza)
    if (this.#inactive?.takes(stanza, () => new Kept(stanza, to, this.#edge.clock.now()))) return
    if (this.#sm === undefined) return this.#write(stanza, to)
    const kept = new Kept(stanza, to, this.#edge.clock.now())
    if (!this.#keep(kept)) this.giveBack(kept)
  }

  /** What may wait while its client is inactive: false where it does. To its bare JID. */
  show(broadcast: Broadcast): boolean {
    const inactive = this.#inactive
    if (inactive !== undefined) inactive.hold(broadcast, broadcast.isNew && !this.showing.hasSeen(broadcast.stanza.from))
    else if (this.#sm === undefined) this.#stream?.show(broadcast)
    else this.#keep(broadcast.kept, broadcast)
    if (broadcast.stanza.type === 'unavailable' && this.showing.sees) this.showing.see(broadcast.stanza) // else the audience knows
    return inactive === undefined
  }

  /** The same for a session that keeps it until it is acknowledged. False where it is at its end: then it is given back. */
  keep(kept: Kept): boolean {
    if (kept.stanza.name === 'presence' && this.#edge.notesSeen(kept.stanza.from)) this.showing.see(kept.stanza)
    if (this.#inactive?.takes(kept.stanza, () => kept)) return true
    return this.#keep(kept)
  }

  #keep(kept: Kept, broadcast?: Broadcast): boolean {
    const sm = this.#sm!
    if (this.#parting?.routerTold) return false // sent before the router knew
    if (sm.isFull(this.#stream !== undefined)) {
      this.#overflow()
      return false
    }
    if (this.#stream === undefined) sm.wait(kept)
    else {
      sm.sent(kept)
      this.#edge.watched.add(this)
      if (broadcast === undefined) this.#write(kept.stanza, kept.to)
      else this.#stream.show(broadcast)
      if (sm.wantsAnswer) this.#stream?.say(sm.ask())
    }
    return true
  }

  #write(stanza: Stanza, to: ToMode): void {
    const stream = this.#stream
    if (stream === undefined) return
    const address = to === 'kept' ? stanza.to?.full : to === 'full' ? this.jid.full : this.jid.bare
    stream.deliver(rootTag(stanza, address, stream.xmlns), stanza)
  }

  /** Too much is not acknowledged: the session ends, and nothing of it is lost. */
  #overflow(): void {
    this.#edge.log.warn('session.unacknowledged', { jid: this.jid.full, streaming: this.#stream !== undefined })
    if (this.#stream !== undefined) this.#stream.fail(new StreamError('policy-violation', 'too much is not acknowledged'))
    this.end()
    this.#parting!.tellRouter() // ahead of the client's last stanza, which waits: nothing more may come
  }

  /** Anything that came for this session, in order. */
  receive(delivery: SessionDelivery): void {
    if (delivery.kind === 'stanza') return this.deliver(delivery.stanza, delivery.to)
    const { name, fields } = delivery
    if (name === 'close') {
      const text = typeof fields.text === 'string' ? fields.text : ''
      this.#stream?.fail(new StreamError(fields.condition as StreamError['condition'], text))
      this.end()
    } else if (name === 'renewed') {
      this.generation = Number(fields.generation ?? 0)
    } else if (name === 'flag') {
      const flag = String(fields.flag)
      const others = this.#flags?.filter((other) => other !== flag) ?? []
      this.#flags = fields.off === true ? others : [...others, flag]
    } else if (name === 'held') {
      this.held = fields.held === true
    }
  }

  /** Asks a client that has said nothing for long whether it is there: by stream management, else by XEP-0199 §4.3. */
  ping(): void {
    const stream = this.#stream
    if (stream === undefined) return
    if (this.#sm !== undefined) {
      this.#edge.watched.add(this)
      return stream.say(this.#sm.ask())
    }
    const ping = stanza('iq', parseJid(this.jid.domain), { to: this.jid, id: PING_ID, type: 'get' }, el('ping', NS_PING))
    this.#write(ping, 'kept')
  }

  // --- client state indication

  /** XEP-0352 §4.2: what the client says of itself, in an element of its own or as it binds (XEP-0386). */
  indicate(state: 'active' | 'inactive'): void {
    const before = this.#inactive
    const { limits } = this.#edge
    if (state === 'active') {
      this.#inactive = undefined
      before?.flush()
    } else if (before === undefined && limits.inactiveStanzas > 0) this.#inactive = new Inactive(limits.inactiveStanzas, this)
  }

  /** What has waited. */
  send(kept: Kept): void {
    if (kept.stanza.name === 'presence') this.#edge.watching.sentLate()
    if (this.#sm === undefined) this.#write(kept.stanza, kept.to)
    else this.#keep(kept)
  }

  dropped(): void {
    this.#edge.heldBack.inc()
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
    const stream = this.#stream!
    const sm = this.#sm
    const { name, ns } = element
    if (ns === NS_CSI && (name === 'active' || name === 'inactive')) return this.indicate(name)
    if (ns !== NS_SM || (name !== 'enable' && name !== 'r' && name !== 'a' && name !== 'resume')) throw unsupported(element)
    if (name === 'enable') {
      if (sm === undefined) return this.#enable(element, stream)
      throw new StreamError('policy-violation', 'stream management is enabled already') // §3: at most one attempt
    }
    if (sm === undefined || name === 'resume') return stream.say(failed('unexpected-request')) // §3, §6
    if (name === 'a') return sm.acknowledge(readAck(element.attribute('h')))
    const { handled, received } = this.#intake
    if (handled === received) return stream.say(sm.answer(received))
    sm.owe(received)
    this.#edge.watched.add(this)
  }

  /** §3. From here on both sides count. */
  #enable(element: ScannedElement, stream: ClientStream): void {
    const { limits, resumables } = this.#edge
    try {
      const { resume, maxS = limits.resumeSeconds } = readEnable(element.element())
      const resumeS = resume ? Math.min(maxS, limits.resumeSeconds) : 0
      const bounds = { stanzas: limits.unackedStanzas, bytes: limits.writeBufferBytes / KEPT_SHARE }
      this.#sm = new StreamManagement(resumeS > 0 ? randomId(SM_ID_BYTES) : '', resumeS, this.#intake.received, bounds)
    } catch (error) {
      if (!(error instanceof StanzaError)) throw error
      return stream.say(failed(error.condition))
    }
    if (this.#sm.id !== '') resumables.set(this.#sm.id, this)
    stream.say(enabled(this.#sm))
  }

  /** More of what the client has sent is handled. */
  handledMore(): void {
    const sm = this.#sm
    if (sm === undefined) return
    const { handled } = this.#intake
    if (this.#parting !== undefined) this.#noteEnded(sm)
    else if (sm.owes(handled)) this.#stream?.say(sm.answer(handled))
  }

  /** Once a second while something is not acknowledged, or a client waits for our acknowledgement. */
  look(): void {
    const sm = this.#sm!
    const stream = this.#stream
    switch (stream === undefined ? 'nothing' : sm.look(stream.reading)) {
      case 'ask':
        stream!.say(sm.ask())
        break
      case 'answer':
        stream!.say(sm.answer(this.#intake.handled))
        break
      case 'lost':
        stream!.cutOff('stream.unanswered')
    }
    if (this.#stream === undefined || !sm.wantsLook) this.#edge.watched.delete(this)
  }

  /** The client closes its stream; what it has said is still answered. Nobody can resume it from here on. */
  leave(): void {
    this.#left = true
    if (this.#sm !== undefined) this.#edge.resumables.delete(this.#sm.id)
  }

  /** What the client is told last: how much of what it has sent was handled. '' where it does not count. */
  get farewell(): string {
    return this.#sm === undefined ? '' : this.#sm.answer(this.#intake.handled)
  }

  /** The connection is gone without a word (§7): the session waits for another, if that was agreed. */
  lost(): void {
    const sm = this.#sm
    if (sm === undefined || sm.id === '' || this.#left) return this.end()
    if (this.#parting !== undefined || this.#stream === undefined) return
    this.#stream = undefined
    sm.detach()
    this.#edge.watched.delete(this)
    this.#edge.detached.add(this)
    this.#edge.wheel.add(this, sm.resumeS * 1_000)
    this.#tellAbout({ detached: true })
    this.#edge.log.debug('session.detached', { jid: this.jid.full })
    this.indicate('active') // XEP-0352 §5.2: so it is when it goes on. What has waited may be more than may wait, and end it
  }

  /**
   * Another stream would go on with this session, its client having handled `h`: told whether it may once all that has come
   * of the client is handled, so that it and we agree on what has. A stream that is still there is closed, and so is one
   * that waits for the same. Throws StreamError for an `h` that cannot be.
   */
  claim(h: number, answer: (granted: boolean) => void): void {
    this.#sm!.check(h)
    const other = this.#claimed
    const before = this.#stream
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
  resume(stream: ClientStream, h: number): void {
    const sm = this.#sm!
    this.#edge.detached.delete(this)
    this.#edge.wheel.remove(this)
    this.#stream = stream
    this.#about = stream.about
    if (this.#intake.paused) stream.pause()
    this.#tellAbout({ ...stream.about, detached: false }) // ahead of what is written, which may end the stream at once
    this.#edge.log.info('session.resumed', { jid: this.jid.full })
    stream.say(resumed(sm.id, sm.h(this.#intake.handled)))
    sm.acknowledge(h)
    for (const kept of sm.attach()) this.#write(kept.stanza, kept.to)
    if (sm.wantsLook) this.#edge.watched.add(this)
    if (sm.wantsAnswer) this.#stream?.say(sm.ask())
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
    else if (this.#stream === undefined) this.end()
  }

  // --- its end

  /** Calls back once everything the client has sent is handled, and so answered; at once where it is. */
  settle(then: () => void): void {
    this.#intake.settle(then)
  }

  /** The session is over: the owners hear of it after the client's last stanza. */
  end(): void {
    if (this.#parting !== undefined) return
    const { capabilities, detached, resumables, sessions, watched, wheel } = this.#edge
    this.#parting = new Parting(this.#edge, this, this.#intake, this.#sm)
    this.presents(false)
    this.#stream = undefined
    this.#inactive = undefined
    if (this.#client !== undefined) capabilities.leave(this.#client)
    this.#intake.unsettle()
    if (this.#sm === undefined) sessions.delete(this.id)
    else {
      wheel.remove(this)
      detached.delete(this)
      watched.delete(this)
      resumables.delete(this.#sm.id)
      this.#noteEnded(this.#sm)
      this.#claimed?.(false)
      this.#claimed = undefined
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
/** 144 bits, which nobody guesses; whoever did would need the password, too. */
const SM_ID_BYTES = 18
/** What a session may keep, as a share of what may wait for its socket. */
const KEPT_SHARE = 2

// What goes to the client of a session: to its stream at once, or kept for it.
//
// With stream management (XEP-0198, edge/sessions/stream-management.ts) all is kept until it is acknowledged; while the client says
// that it is inactive (XEP-0352, edge/sessions/inactive.ts) what need not wake anybody waits.
import type { ToMode } from '#core/envelope.ts'
import { type Jid, parseJid } from '#xmpp/jid.ts'
import { NS_PING } from '#xmpp/ns.ts'
import { el, rootTag, type Stanza, stanza } from '#xmpp/stanza.ts'
import type { Edge } from '../main.ts'
import type { ClientStream } from '../streams/stream.ts'
import type { Broadcast } from '../watching/broadcast.ts'
import { type Held, Inactive } from './inactive.ts'
import type { Showing } from './showing.ts'
import { Kept, type StreamManagement } from './stream-management.ts'

/** The session. */
export interface Receiving {
  readonly jid: Jid
  readonly showing: Showing
  /** The router has been told of its end: nothing more is kept for it. */
  readonly isOver: boolean
  /** Too much is not acknowledged. */
  overflow(): void
  /** It is to be looked at once a second. */
  expectsAnswer(): void
  /** To be delivered elsewhere. */
  giveBack(kept: Kept): void
}

export class Outbox implements Held {
  readonly #edge: Edge
  readonly #session: Receiving
  /** Undefined while the session waits to be resumed, and behind its end. */
  stream: ClientStream | undefined
  /** Set once the client has enabled it. */
  sm: StreamManagement | undefined
  /** What waits while its client is inactive (XEP-0352); undefined while it is active. */
  #inactive: Inactive | undefined

  constructor(edge: Edge, session: Receiving, stream: ClientStream | undefined) {
    this.#edge = edge
    this.#session = session
    this.stream = stream
  }

  /** To the socket, in this turn's write. */
  deliver(stanza: Stanza, to: ToMode): void {
    if (stanza.name === 'presence' && this.#edge.notesSeen(stanza.from)) this.#session.showing.see(stanza)
    if (this.#inactive?.takes(stanza, () => new Kept(stanza, to, this.#edge.clock.now()))) return
    if (this.sm === undefined) return this.write(stanza, to)
    const kept = new Kept(stanza, to, this.#edge.clock.now())
    if (!this.#keepNow(kept)) this.#session.giveBack(kept)
  }

  /** What may wait while its client is inactive: false where it does. To its bare JID. */
  show(broadcast: Broadcast): boolean {
    const { showing } = this.#session
    const inactive = this.#inactive
    if (inactive !== undefined) inactive.hold(broadcast, broadcast.isNew && !showing.hasSeen(broadcast.stanza.from))
    else if (this.sm === undefined) this.stream?.show(broadcast)
    else this.#keepNow(broadcast.kept, broadcast)
    if (broadcast.stanza.type === 'unavailable' && showing.sees) showing.see(broadcast.stanza) // else the audience knows
    return inactive === undefined
  }

  /** The same for a session that keeps it until it is acknowledged. False where it is at its end: then it is given back. */
  keep(kept: Kept): boolean {
    if (kept.stanza.name === 'presence' && this.#edge.notesSeen(kept.stanza.from)) this.#session.showing.see(kept.stanza)
    if (this.#inactive?.takes(kept.stanza, () => kept)) return true
    return this.#keepNow(kept)
  }

  #keepNow(kept: Kept, broadcast?: Broadcast): boolean {
    const sm = this.sm!
    if (this.#session.isOver) return false // sent before the router knew
    if (sm.isFull(this.stream !== undefined)) {
      this.#session.overflow()
      return false
    }
    if (this.stream === undefined) sm.wait(kept)
    else {
      sm.sent(kept)
      this.#session.expectsAnswer()
      if (broadcast === undefined) this.write(kept.stanza, kept.to)
      else this.stream.show(broadcast)
      if (sm.wantsAnswer) this.stream?.say(sm.ask())
    }
    return true
  }

  /** To the stream, where there is one: it is kept already, or not at all. */
  write(stanza: Stanza, to: ToMode): void {
    const stream = this.stream
    if (stream === undefined) return
    const address = to === 'kept' ? stanza.to?.full : to === 'full' ? this.#session.jid.full : this.#session.jid.bare
    stream.deliver(rootTag(stanza, address, stream.xmlns), stanza)
  }

  /** XEP-0352 §4.2: what the client says of itself, in an element of its own or as it binds (XEP-0386). */
  indicate(state: 'active' | 'inactive'): void {
    const before = this.#inactive
    const { limits } = this.#edge
    if (state === 'active') {
      this.#inactive = undefined
      before?.flush()
    } else if (before === undefined && limits.inactiveStanzas > 0) {
      this.#inactive = new Inactive(limits.inactiveStanzas, this)
    }
  }

  /** What has waited. */
  send(kept: Kept): void {
    if (kept.stanza.name === 'presence') this.#edge.watching.sentLate()
    if (this.sm === undefined) this.write(kept.stanza, kept.to)
    else this.#keepNow(kept)
  }

  dropped(): void {
    this.#edge.heldBack.inc()
  }

  // --- whether the client is there

  /** Asks a client that has said nothing for long: by stream management, else by XEP-0199 §4.3, with this id. */
  ping(id: string): void {
    if (this.stream === undefined) return
    const { jid } = this.#session
    if (this.sm !== undefined) {
      this.#session.expectsAnswer()
      return this.stream.say(this.sm.ask())
    }
    this.write(stanza('iq', parseJid(jid.domain), { to: jid, id, type: 'get' }, el('ping', NS_PING)), 'kept')
  }

  /** Once a second while something is not acknowledged, or a client waits for our acknowledgement: false where that is over. */
  look(handled: number): boolean {
    const sm = this.sm!
    const { stream } = this
    switch (stream === undefined ? 'nothing' : sm.look(stream.reading)) {
      case 'ask':
        stream!.say(sm.ask())
        break
      case 'answer':
        stream!.say(sm.answer(handled))
        break
      case 'lost':
        stream!.cutOff('stream.unanswered')
    }
    return this.stream !== undefined && sm.wantsLook
  }

  /** Behind the end of its session, or here: nothing goes to anybody any more. */
  close(): void {
    this.stream = undefined
    this.#inactive = undefined
  }
}

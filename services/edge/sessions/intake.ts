// What the client of a session has said, numbered, on its way to the owners of its account.
//
// A session has unacked envelopes at one home at a time. Before it turns to the other (a roster set, then a message)
// the stanza waits here for the acks, and the client is not read from meanwhile: so order holds across homes
// (RFC 6120 §10.1). Nor is it while too much of what it said is unacked.
import type { Origin } from '#core/envelope.ts'
import type { RoleName } from '#core/ownership/ownership.ts'
import type { Jid } from '#xmpp/jid.ts'
import { bytesOf, copyOf, type Stanza } from '#xmpp/stanza.ts'
import type { Edge } from '../main.ts'

/** The session whose intake it is. */
export interface Speaker {
  readonly id: string
  readonly jid: Jid
  /** Reads its client no more, if it has a stream. */
  pauseReading(): void
  /** Reads its client again. */
  resumeReading(): void
  /** More is handled than before. */
  handledMore(): void
  /** Nothing is unacked, or what waited for that is on its way now. */
  moved(): void
  /** Its broadcast presence, available or not, is on its way. */
  presents(available: boolean): void
  /** This presence of its is handled: it has been shown. */
  shown(presence: Stanza): void
}

/** What one session may have on its way before it is not read from; with `limits.inFlightPerSession`, the same in stanzas. */
export const IN_FLIGHT_BYTES_MAX = 256 * 1024

export class Intake {
  readonly #edge: Edge
  readonly #speaker: Speaker
  /** The XEP-0198 count: stanzas taken from this client. */
  #n = 0
  /** Those that are on a lane and not acked, in order: at most `limits.inFlightPerSession`. */
  readonly #inFlight: number[] = []
  /** Sent since nothing was in flight: what is of it is at most that. */
  #bytes = 0
  #home: RoleName = 'router'
  #toldPresence = false
  #held: Stanza | undefined
  #heldFor: RoleName = 'router'
  /** Presence that is in flight: available or not, to contacts or to somebody. */
  #presences: { readonly n: number; readonly stanza: Stanza }[] | undefined
  #paused = false
  /** The owner is behind, for this session as for all. */
  #congested = false
  /** To be called when nothing is unacked. */
  #whenSettled: (() => void) | undefined
  readonly #acked: (n: number) => void

  constructor(edge: Edge, speaker: Speaker) {
    this.#edge = edge
    this.#speaker = speaker
    this.#acked = (n) => this.#onAck(n)
  }

  /** It goes on with a session that another edge has had: so many have come, and all of them are handled. */
  goOn(received: number, toldPresence: boolean): void {
    this.#n = received
    this.#toldPresence = toldPresence
  }

  /** One stanza more has come. Every stanza is counted before anything else is done with it. */
  count(): void {
    this.#n++
  }

  /** How many stanzas have come. */
  get received(): number {
    return this.#n
  }

  /** How many of them are handled, without a gap. */
  get handled(): number {
    if (this.#inFlight.length > 0) return this.#inFlight[0]! - 1
    return this.#held === undefined ? this.#n : this.#n - 1
  }

  /** The client is not to be read from. */
  get paused(): boolean {
    return this.#paused
  }

  /** A stanza waits for the other home. */
  get holds(): boolean {
    return this.#held !== undefined
  }

  /** Something is unacked at the router. */
  get atRouter(): boolean {
    return this.#home === 'router' && this.#inFlight.length > 0
  }

  /** The presence owner has been sent something, and so must be told of the end. */
  get toldPresence(): boolean {
    return this.#toldPresence
  }

  /** The stanza that was counted last. */
  submit(stanza: Stanza): void {
    const home = this.#homeOf(stanza)
    if (this.#inFlight.length > 0 && home !== this.#home) {
      this.#held = copyOf(stanza, stanza.trace)
      this.#heldFor = home
      this.#pause()
      return
    }
    this.#send(stanza, home)
    const { lanes, limits } = this.#edge
    if (this.#inFlight.length >= limits.inFlightPerSession || this.#bytes >= IN_FLIGHT_BYTES_MAX) this.#pause()
    else if (lanes.congested(home, this.#speaker.jid.bare)) {
      this.#congested = true
      this.#pause()
      lanes.onRelief(home, this.#speaker.jid.bare, () => {
        this.#congested = false
        this.#relieve()
      })
    }
  }

  #homeOf({ name, to, type, child }: Stanza): RoleName {
    if (name === 'message') return 'router'
    if (name === 'presence') return 'presence'
    if ((type === 'get' || type === 'set') && (to === undefined || to.resource === '')) return this.#edge.homes.homeOf(child)
    return 'router'
  }

  #send(stanza: Stanza, home: RoleName): void {
    const { id, jid } = this.#speaker
    this.#home = home
    if (home === 'presence') this.#toldPresence = true
    if (stanza.name === 'presence' && (stanza.type === '' || stanza.type === 'unavailable')) {
      this.#presences ??= []
      this.#presences.push({ n: this.#n, stanza: copyOf(stanza, '') })
      if (stanza.to === undefined) this.#speaker.presents(stanza.type === '')
    }
    this.#inFlight.push(this.#n)
    this.#bytes += bytesOf(stanza)
    const origin: Origin = { edge: this.#edge.id, session: id, n: this.#n }
    this.#edge.lanes.send(
      home,
      jid.bare,
      { kind: 'stanza', point: 'outbound', account: jid.bare, origin, stanza },
      this.#acked,
      this.#n,
    )
  }

  #onAck(n: number): void {
    const inFlight = this.#inFlight
    if (inFlight[0] === n) inFlight.shift()
    else inFlight.splice(inFlight.indexOf(n), 1)
    if (this.#presences !== undefined) this.#onShown(n)
    this.#speaker.handledMore()
    if (inFlight.length === 0) this.#onAllAcked()
    this.#relieve()
  }

  #onShown(n: number): void {
    const presences = this.#presences!
    const at = presences.findIndex((presence) => presence.n === n)
    if (at < 0) return
    this.#speaker.shown(presences[at]!.stanza)
    if (presences.length === 1) this.#presences = undefined
    else presences.splice(at, 1)
  }

  #onAllAcked(): void {
    this.#bytes = 0
    const held = this.#held
    if (held !== undefined) {
      this.#held = undefined
      this.#send(held, this.#heldFor)
    } else {
      const then = this.#whenSettled
      this.#whenSettled = undefined
      then?.()
    }
    this.#speaker.moved()
  }

  #pause(): void {
    if (this.#paused) return
    this.#paused = true
    this.#speaker.pauseReading()
  }

  #relieve(): void {
    if (!this.#paused || this.#congested || this.#held !== undefined || this.#bytes >= IN_FLIGHT_BYTES_MAX) return
    if (this.#inFlight.length > this.#edge.limits.inFlightPerSession / 2) return
    this.#paused = false
    this.#speaker.resumeReading()
  }

  /** Calls back once everything the client has sent is handled, and so answered; at once where it is. In the place of who asked before. */
  settle(then: () => void): void {
    if (this.#inFlight.length === 0 && this.#held === undefined) then()
    else this.#whenSettled = then
  }

  /** Takes back what was asked by `settle`: nobody is called back. */
  unsettle(): void {
    this.#whenSettled = undefined
  }
}

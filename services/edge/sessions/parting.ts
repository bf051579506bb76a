// How the owners of a session hear of its end, and the router gets back what its client has not acknowledged.
//
// On the lane of the client's last stanza the news comes behind it. The router hears of it at once, since what is still sent
// to this session is lost; presence only when all is acked, so that contacts see the last message before `unavailable`.
import type { Envelope } from '#core/envelope.ts'
import type { RoleName } from '#core/ownership/ownership.ts'
import type { Edge } from '../main.ts'
import type { Intake } from './intake.ts'
import type { EdgeSession } from './session.ts'
import { type Kept, returned, type StreamManagement } from './stream-management.ts'

/** How long behind its end what comes for a session is still given back. */
const LINGER_MS = 2_000

export class Parting {
  readonly #edge: Edge
  readonly #session: EdgeSession
  readonly #intake: Intake
  readonly #sm: StreamManagement | undefined
  #routerTold = false
  #presenceTold = false
  /** What went back to the router and is not acked, and the news of its end. */
  #returning = 0
  #goodbye: (() => void) | undefined
  /** The owners have heard of the end. */
  #routerKnows = false
  #presenceKnows = false

  constructor(edge: Edge, session: EdgeSession, intake: Intake, sm: StreamManagement | undefined) {
    this.#edge = edge
    this.#session = session
    this.#intake = intake
    this.#sm = sm
    edge.leaving.add(session)
    edge.parting.add(session)
  }

  get routerTold(): boolean {
    return this.#routerTold
  }

  isKnownTo(role: RoleName): boolean {
    return role === 'router' ? this.#routerKnows : this.#presenceKnows
  }

  tellOwners(): void {
    this.tellRouter()
    const { toldPresence, atRouter } = this.#intake
    if (!this.#presenceTold) {
      if (toldPresence && atRouter) return
      this.#presenceTold = true
      if (toldPresence) this.#edge.lanes.send('presence', this.#account, this.#closed(), () => this.#onPresenceKnows())
      else this.#presenceKnows = true
    }
    this.#depart()
  }

  get #account(): string {
    return this.#session.jid.bare
  }

  #onPresenceKnows(): void {
    this.#presenceKnows = true
    this.#depart()
  }

  /** What is not acknowledged follows on the same lane. */
  tellRouter(): void {
    if (this.#routerTold) return
    const sm = this.#sm
    this.#routerTold = true
    if (sm === undefined) return this.#edge.lanes.send('router', this.#account, this.#closed(), () => this.#onRouterKnows())
    this.#sendBack(this.#closed())
    for (const kept of sm.surrender()) this.giveBack(kept)
  }

  #closed(): Envelope {
    const { id, jid } = this.#session
    return { kind: 'signal', account: jid.bare, name: 'session.closed', fields: { session: id, resource: jid.resource } }
  }

  /** To the router, to be delivered elsewhere; unless another session has it, or will give it back itself. */
  giveBack(kept: Kept): void {
    const stanza = kept.taken || kept.holders > 0 ? undefined : returned(kept, this.#session.jid)
    if (stanza === undefined) return
    this.#edge.leaving.add(this.#session)
    this.#sendBack({ kind: 'stanza', point: 'returned', account: this.#account, origin: undefined, stanza })
  }

  #sendBack(envelope: Envelope): void {
    this.#returning++
    this.#goodbye ??= () => this.#onGoodbye()
    this.#edge.lanes.send('router', this.#account, envelope, this.#goodbye)
  }

  /** The router knows of the end, or has something back. What it sent before that may still be on its way here. */
  #onGoodbye(): void {
    this.#returning--
    this.#edge.wheel.add(this.#session, LINGER_MS)
    this.#onRouterKnows() // the news of the end is acked no later than what follows it
  }

  #onRouterKnows(): void {
    this.#routerKnows = true
    this.#depart()
  }

  #depart(): void {
    if (this.#routerTold && this.#presenceTold && this.#returning === 0) this.#edge.leaving.delete(this.#session)
    if (this.#routerKnows && this.#presenceKnows) this.#edge.parting.delete(this.#session)
  }
}

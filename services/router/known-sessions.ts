// The sessions a router knows, and what it hears of one out of turn: over different ways, what follows may come first.
//
//   its end, and then its bind        a question that its asker has given up, or asked again: nobody would end that session
//   availability, and then its edge   that is late to tell a new owner of its sessions (core/ownership/resync.ts): what it tells is older
import type { Clock } from '#core/clock.ts'
import type { OfAccounts } from '#core/ownership/held.ts'
import { Registry } from '#core/ownership/registry.ts'

/** Longer than a question waits on its way and at its owner, together (core/call.ts). */
const ENDED_MS = 30_000
/** Of either kind. At it the oldest is forgotten. */
export const OUT_OF_TURN_MAX = 20_000

/** As presence tells of it. */
export interface EarlyAvailability {
  readonly account: string
  readonly available: boolean
  readonly priority: number
}

export class KnownSessions extends Registry {
  readonly #clock: Clock
  /** When each ended, by the monotonic clock; the oldest first. */
  readonly #ended = new Map<string, number>()
  readonly #early = new Map<string, EarlyAvailability>()

  constructor(clock: Clock) {
    super()
    this.#clock = clock
  }

  /** Its edge says that it has ended, or never came about. */
  noteEnded(session: string): void {
    const nowMs = this.#clock.monotonic()
    for (const [ended, ms] of this.#ended) {
      if (nowMs - ms <= ENDED_MS && this.#ended.size < OUT_OF_TURN_MAX) break
      this.#ended.delete(ended)
    }
    this.#ended.set(session, nowMs)
    this.#early.delete(session)
  }

  hasEnded(session: string): boolean {
    return this.#ended.has(session)
  }

  /** Of one that is not known, and whose edge may tell of it yet. */
  noteEarly(session: string, availability: EarlyAvailability): void {
    this.#early.delete(session) // it is the newest now
    if (this.#early.size >= OUT_OF_TURN_MAX) this.#early.delete(this.#early.keys().next().value!)
    this.#early.set(session, availability)
  }

  /** What was noted of it last, once. */
  takeEarly(session: string): EarlyAvailability | undefined {
    const early = this.#early.get(session)
    this.#early.delete(session)
    return early
  }

  override forget(gone: OfAccounts): void {
    super.forget(gone)
    for (const [session, { account }] of this.#early) if (gone(account)) this.#early.delete(session)
  }
}

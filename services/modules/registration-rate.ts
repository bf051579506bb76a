// How many accounts an address may register in an hour: a sliding window per address, bounded in all directions.
import type { Clock } from '#core/clock.ts'
import { networkOf } from '#core/network.ts'

const HOUR_MS = 3_600_000
/** Addresses remembered; one more, and the one that has been quiet for longest is forgotten. */
export const ADDRESSES_MAX = 10_000

/** A place in the window. */
export interface Place {
  /** Nothing was registered after all. */
  giveBack(): void
}

export class RegistrationRate {
  readonly #perHour: number
  readonly #clock: Clock
  /** When places were taken, oldest first, at most `perHour`; the address that took one last is the last. */
  readonly #taken = new Map<string, number[]>()

  /** `perHour` 0: no bound. */
  constructor(perHour: number, clock: Clock) {
    this.#perHour = perHour
    this.#clock = clock
  }

  /** Takes a place; undefined where none is left. */
  take(address: string): Place | undefined {
    if (this.#perHour === 0) return { giveBack: () => {} }
    const network = networkOf(address)
    const now = this.#clock.monotonic()
    const times = (this.#taken.get(network) ?? []).filter((time) => now - time < HOUR_MS)
    this.#taken.delete(network)
    const free = times.length < this.#perHour
    if (free) times.push(now)
    this.#taken.set(network, times)
    if (this.#taken.size > ADDRESSES_MAX) this.#taken.delete(this.#taken.keys().next().value!)
    return free ? { giveBack: () => this.#giveBack(network, now) } : undefined
  }

  #giveBack(network: string, time: number): void {
    const times = this.#taken.get(network)
    const at = times?.indexOf(time) ?? -1
    if (at >= 0) times!.splice(at, 1)
  }
}

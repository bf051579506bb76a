// One timer for all that waits for seconds: logins that do not come, streams that say nothing, sessions to be resumed.
//
// A slot for each second that somebody waits for. Waiting costs one entry of a set, and whoever waits no more takes it
// out; nothing is sorted, and nothing looks at those whose second has not come.
import type { Clock } from '#core/clock.ts'

/** What waits in a wheel, at one place at a time. */
export interface Timed {
  /** The second it waits for; 0: none. The wheel's own. */
  dueS: number
  /** Its second has come. It waits no more, and may wait again. */
  due(): void
}

export class Wheel {
  /** Whole seconds since the wheel was made, at the last tick: for whoever notes when something was, at no cost. */
  nowS = 0
  readonly #clock: Clock
  readonly #startMs: number
  readonly #slots = new Map<number, Set<Timed>>()

  constructor(clock: Clock) {
    this.#clock = clock
    this.#startMs = clock.monotonic()
  }

  /** Calls `due` once `ms` have passed and not before: at most two seconds later. One that waits already waits for this instead. */
  add(timed: Timed, ms: number): void {
    this.remove(timed)
    const dueS = Math.max(this.nowS + 1, Math.ceil((this.#clock.monotonic() - this.#startMs + ms) / 1_000))
    timed.dueS = dueS
    const slot = this.#slots.get(dueS)
    if (slot === undefined) this.#slots.set(dueS, new Set([timed]))
    else slot.add(timed)
  }

  remove(timed: Timed): void {
    if (timed.dueS === 0) return
    const slot = this.#slots.get(timed.dueS)
    slot?.delete(timed)
    if (slot?.size === 0) this.#slots.delete(timed.dueS)
    timed.dueS = 0
  }

  /** To be called every second. After a pause of the process it makes up for what it has missed. */
  tick(): void {
    const nowS = Math.floor((this.#clock.monotonic() - this.#startMs) / 1_000)
    while (this.nowS < nowS) {
      const slot = this.#slots.get(++this.nowS)
      if (slot === undefined) continue
      for (const timed of slot) {
        this.remove(timed)
        timed.due()
      }
    }
  }
}

// Who may log in now: when many come at once, as after the death of an edge, so many a second, one after the other.
//
// Each login costs its account's owner a read of the table and somebody a few thousand rounds of a hash. Who has to wait is not
// read from meanwhile; whoever would wait so long that his time to log in runs out is told at once to try again later.
import type { Clock, Timer } from '#core/clock.ts'
import type { Config } from '#core/settings/config.ts'

/** So many milliseconds of the rate may begin at once, and the others follow in portions of that. */
const PORTION_MS = 100

export class Turns {
  readonly #clock: Clock
  readonly #perSecond: number
  readonly #portion: number
  readonly #waitingMax: number
  readonly #waiting: ((granted: boolean) => void)[] = []
  /** Turns that may be had at once, as of a moment. */
  #left: number
  #sinceMs: number
  #timer: Timer | undefined

  constructor({ loginsPerSecond, loginTimeoutMs }: Config['limits'], clock: Clock) {
    this.#clock = clock
    this.#perSecond = loginsPerSecond
    this.#portion = Math.max(1, (loginsPerSecond * PORTION_MS) / 1_000)
    this.#waitingMax = Math.floor((loginsPerSecond * loginTimeoutMs) / 2 / 1_000)
    this.#left = this.#portion
    this.#sinceMs = clock.monotonic()
  }

  get waiting(): number {
    return this.#waiting.length
  }

  /** True: now. Else resolves with true when it is one's turn, or with false at once where that would be too late. */
  take(): true | Promise<boolean> {
    if (this.#perSecond === 0) return true
    this.#gain()
    if (this.#waiting.length === 0 && this.#left >= 1) {
      this.#left--
      return true
    }
    if (this.#waiting.length >= this.#waitingMax) return Promise.resolve(false)
    this.#arm()
    return new Promise((resolve) => this.#waiting.push(resolve))
  }

  /** Nobody has a turn any more. */
  close(): void {
    this.#clock.clearTimeout(this.#timer)
    for (const resolve of this.#waiting.splice(0)) resolve(false)
  }

  #gain(): void {
    const nowMs = this.#clock.monotonic()
    this.#left = Math.min(this.#portion, this.#left + ((nowMs - this.#sinceMs) * this.#perSecond) / 1_000)
    this.#sinceMs = nowMs
  }

  #arm(): void {
    const nextMs = Math.max(PORTION_MS, 1_000 / this.#perSecond)
    this.#timer ??= this.#clock.setTimeout(() => {
      this.#timer = undefined
      this.#gain()
      const granted = this.#waiting.splice(0, Math.floor(this.#left))
      this.#left -= granted.length
      for (const resolve of granted) resolve(true)
      if (this.#waiting.length > 0) this.#arm()
    }, nextMs)
  }
}

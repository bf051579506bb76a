// Something that is done again and again, one run at a time, by the injected clock.
import type { Clock, Timer } from './clock.ts'

export class Loop {
  readonly #clock: Clock
  readonly #run: () => Promise<number>
  #timer: Timer | undefined
  #running = false
  #again = false
  #stopped = true

  /** @param run resolves with the milliseconds until the next run, Infinity for not before it is poked. It never rejects. */
  constructor(clock: Clock, run: () => Promise<number>) {
    this.#clock = clock
    this.#run = run
  }

  /** The first run is in `pauseMs`. */
  start(pauseMs = 0): void {
    this.#stopped = false
    this.#wait(pauseMs)
  }

  /** Runs at once; where it runs already, once more behind that. Nothing where it is stopped. */
  poke(): void {
    if (this.#stopped) return
    if (this.#running) this.#again = true
    else void this.#go()
  }

  /** What runs goes on to its end. */
  stop(): void {
    this.#stopped = true
    this.#again = false
    this.#clock.clearTimeout(this.#timer)
  }

  async #go(): Promise<void> {
    this.#clock.clearTimeout(this.#timer)
    this.#running = true
    const pauseMs = await this.#run()
    this.#running = false
    if (this.#stopped) return
    this.#wait(this.#again ? 0 : pauseMs)
    this.#again = false
  }

  #wait(pauseMs: number): void {
    if (pauseMs <= 0) void this.#go()
    else if (pauseMs < Number.POSITIVE_INFINITY) this.#timer = this.#clock.setTimeout(() => this.poke(), pauseMs)
  }
}

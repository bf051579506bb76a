// Whether this process has the bus, for its lease (core/ownership/leases.ts): over a moment, nobody is to do anything.
import type { Bus } from '#bus/bus.ts'
import type { Clock, Timer } from '../clock.ts'
import { CUT_MS } from './leases.ts'

export class BusLink {
  readonly #bus: Bus
  readonly #clock: Clock
  readonly #onTurn: () => void
  #status: { close(): void } | undefined
  /** Runs while the bus is away and that does not count yet. */
  #cutting: Timer | undefined
  #cut = false

  /** @param onTurn `cut` is another */
  constructor(bus: Bus, clock: Clock, onTurn: () => void) {
    this.#bus = bus
    this.#clock = clock
    this.#onTurn = onTurn
  }

  /** The bus has been away for CUT_MS. */
  get cut(): boolean {
    return this.#cut
  }

  watch(): void {
    this.#status = this.#bus.status((state) => {
      this.#clock.clearTimeout(this.#cutting)
      if (state === 'down') this.#cutting = this.#clock.setTimeout(() => this.#turn(true), CUT_MS)
      else if (this.#cut) this.#turn(false)
    })
  }

  close(): void {
    this.#status?.close()
    this.#clock.clearTimeout(this.#cutting)
  }

  #turn(cut: boolean): void {
    this.#cut = cut
    this.#onTurn()
  }
}

// Whether this process can do its work: what must be up, and what is not.
//
// Some parts say so themselves (`up`, `down`: roles, the bus), others are asked (`probe`: the table). Whatever was never heard of
// since the start counts as down, so that nobody is sent here too early.
import type { Clock } from '../clock.ts'

export interface Readiness {
  readonly ready: boolean
  /** By part, why it is not up. */
  readonly missing: Readonly<Record<string, string>>
}

/** A probe without an answer after this counts as down; checks until then wait for the same one. */
export const PROBE_TIMEOUT_MS = 2_000
/** How long an answer of a probe is taken for the truth: many checks are one question. */
export const PROBE_HOLDS_MS = 1_000

const NOT_YET = 'not started yet'

export class Health {
  /** By part; undefined while it is up. */
  readonly #parts = new Map<string, string | undefined>()
  readonly #probes = new Map<string, Probe>()

  /** All of `parts` are down until they are `up`. */
  constructor(parts: readonly string[]) {
    for (const part of parts) this.expect(part)
  }

  /** One more part that must be up. */
  expect(part: string): void {
    this.#parts.set(part, NOT_YET)
  }

  up(part: string): void {
    this.#set(part, undefined)
  }

  down(part: string, reason = 'stopped'): void {
    this.#set(part, reason)
  }

  /** A part that is asked when somebody wants to know. It is up if `ask` resolves in time. */
  probe(part: string, clock: Clock, ask: () => Promise<unknown>): void {
    this.#probes.set(part, new Probe(clock, ask))
  }

  /** Takes PROBE_TIMEOUT_MS at most. Never rejects. */
  async check(): Promise<Readiness> {
    const asked = [...this.#probes].map(async ([part, probe]) => [part, await probe.fault()] as const)
    const missing: Record<string, string> = {}
    for (const [part, fault] of [...(await Promise.all(asked)), ...this.#parts]) if (fault !== undefined) missing[part] = fault
    return { ready: Object.keys(missing).length === 0, missing }
  }

  #set(part: string, fault: string | undefined): void {
    if (!this.#parts.has(part)) throw new Error(`health knows no part ${part}`)
    this.#parts.set(part, fault)
  }
}

class Probe {
  readonly #clock: Clock
  readonly #ask: () => Promise<unknown>
  #fault: string | undefined = NOT_YET
  #answeredAtMs = Number.NEGATIVE_INFINITY
  /** One question at a time: what does not answer is not asked again and again. */
  #asking: Promise<void> | undefined

  constructor(clock: Clock, ask: () => Promise<unknown>) {
    this.#clock = clock
    this.#ask = ask
  }

  async fault(): Promise<string | undefined> {
    if (this.#clock.monotonic() - this.#answeredAtMs < PROBE_HOLDS_MS) return this.#fault
    this.#asking ??= this.#question()
    let timer: object | undefined
    const late = new Promise<string>((resolve) => {
      timer = this.#clock.setTimeout(() => resolve(`no answer within ${PROBE_TIMEOUT_MS} ms`), PROBE_TIMEOUT_MS)
    })
    const fault = await Promise.race([this.#asking.then(() => this.#fault), late])
    this.#clock.clearTimeout(timer)
    return fault
  }

  async #question(): Promise<void> {
    try {
      await this.#ask()
      this.#fault = undefined
    } catch (error) {
      this.#fault = error instanceof Error ? error.message : String(error)
    }
    this.#answeredAtMs = this.#clock.monotonic()
    this.#asking = undefined
  }
}

// Time of a simulated cluster: what happens next, and by which clock each process goes.
//
// Everything is an event with a moment; events of one moment happen in the order they were planned in. Between two of them every
// promise that can go on has gone on, so an event is to a process what a turn of the event loop is. Time jumps from event to
// event. All choices come from one generator, so a seed says all.
import { setImmediate as turn } from 'node:timers/promises'
import type { Clock, Timer } from '#core/clock.ts'
import { Random } from '#test/fuzz/random.ts'

/** Events between two turns of the real event loop, which some code of the server takes when it has much to do. */
const YIELD_EVERY = 16
/** By the clock of nobody in particular. */
const START_MS = Date.UTC(2026, 0, 1)

class Event {
  readonly dueMs: number
  readonly order: number
  /** Undefined once it has happened, or never will. */
  call: (() => void) | undefined

  constructor(dueMs: number, order: number, call: () => void) {
    this.dueMs = dueMs
    this.order = order
    this.call = call
  }

  isBefore(other: Event): boolean {
    return this.dueMs < other.dueMs || (this.dueMs === other.dueMs && this.order < other.order)
  }
}

export class Scheduler {
  readonly random: Random
  nowMs = 0
  /** Events that have happened. */
  count = 0
  /** Called behind each event. */
  watch: () => void = () => {}
  /** A heap: none is before the one at half its place. */
  readonly #events: Event[] = []
  #order = 0

  constructor(seed: number) {
    this.random = new Random(seed, 0)
  }

  /** Milliseconds since 1970. */
  get wallMs(): number {
    return START_MS + this.nowMs
  }

  after(delayMs: number, call: () => void): Event {
    const event = new Event(this.nowMs + Math.max(0, delayMs), this.#order++, call)
    const events = this.#events
    let at = events.length
    for (events.push(event); at > 0; ) {
      const above = (at - 1) >> 1
      if (!event.isBefore(events[above]!)) break
      events[at] = events[above]!
      at = above
    }
    events[at] = event
    return event
  }

  /** Everything that happens within so many milliseconds. */
  async run(ms: number): Promise<void> {
    const endMs = this.nowMs + ms
    await this.until(() => false, endMs)
    this.nowMs = endMs
  }

  /** Goes on until it is so, asked behind each event. False where it is not by `endMs`. */
  async until(done: () => boolean, endMs: number): Promise<boolean> {
    await quiet()
    while (!done()) {
      const next = this.#events[0]
      if (next === undefined || next.dueMs > endMs) return false
      this.#takeFirst()
      if (next.call === undefined) continue
      this.nowMs = next.dueMs
      this.count++
      const { call } = next
      next.call = undefined
      call()
      await (this.count % YIELD_EVERY === 0 ? turn() : quiet())
      this.watch()
    }
    return true
  }

  #takeFirst(): void {
    const events = this.#events
    const last = events.pop()!
    if (events.length === 0) return
    let at = 0
    for (;;) {
      let below = 2 * at + 1
      if (below >= events.length) break
      if (below + 1 < events.length && events[below + 1]!.isBefore(events[below]!)) below++
      if (!events[below]!.isBefore(last)) break
      events[at] = events[below]!
      at = below
    }
    events[at] = last
  }
}

/** Every promise that can go on has gone on: ticks come behind all of them. */
function quiet(): Promise<void> {
  return new Promise((resolve) => process.nextTick(resolve))
}

/** What wakes a process: it gets it at once, later or never. */
export type Gate = (call: () => void) => void

export interface Pace {
  /** What its wall clock is ahead by; changed while it runs. */
  skewMs: number
  /** How much passes for it in a millisecond. */
  readonly rate: number
}

interface ProcessTimer {
  event: Event | undefined
  isOver: boolean
}

/** The clock of one process. A timer that falls due while it is stopped is called when it goes on, once. */
export class ProcessClock implements Clock {
  readonly #scheduler: Scheduler
  readonly #gate: Gate
  readonly #pace: Pace
  /** Timers that wait. */
  pending = 0

  constructor(scheduler: Scheduler, gate: Gate, pace: Pace) {
    this.#scheduler = scheduler
    this.#gate = gate
    this.#pace = pace
  }

  now(): number {
    return Math.floor(this.#scheduler.wallMs + this.#pace.skewMs)
  }

  monotonic(): number {
    return this.#scheduler.nowMs * this.#pace.rate
  }

  setTimeout(call: () => void, ms: number): Timer {
    const timer: ProcessTimer = { event: undefined, isOver: false }
    this.#arm(timer, ms, () => {
      this.clearTimeout(timer)
      call()
    })
    this.pending++
    return timer
  }

  setInterval(call: () => void, ms: number): Timer {
    const timer: ProcessTimer = { event: undefined, isOver: false }
    const again = (): void => {
      this.#arm(timer, Math.max(1, ms), again)
      call()
    }
    this.#arm(timer, Math.max(1, ms), again)
    this.pending++
    return timer
  }

  #arm(timer: ProcessTimer, ms: number, call: () => void): void {
    timer.event = this.#scheduler.after(ms / this.#pace.rate, () =>
      this.#gate(() => {
        if (!timer.isOver) call()
      }),
    )
  }

  clearTimeout(handle: Timer | undefined): void {
    const timer = handle as ProcessTimer | undefined
    if (timer === undefined || timer.isOver) return
    timer.isOver = true
    this.pending--
    if (timer.event !== undefined) timer.event.call = undefined
  }
}

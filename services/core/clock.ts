// Time, as something that is handed in.
//
// Two readings that must not be mixed: `now` is for what people and other machines are shown and may jump either
// way; `monotonic` is for measuring and for deadlines, and only goes forward. Tests hand in `manualClock`.
import { setImmediate as turn } from 'node:timers/promises'

/** What `setTimeout` gives back, for `clearTimeout`. */
export type Timer = object

export interface Clock {
  /** Milliseconds since 1970, whole. May go backwards: the machine's clock is set by others. */
  now(): number
  /**
   * Milliseconds since some fixed moment, with fractions. Never goes backwards. On Linux it stands still while the machine
   * sleeps or is paused: what rests on others counting the same time has to look at `now`, too.
   */
  monotonic(): number
  /** Calls once, not before `ms` have passed. Throws RangeError over DELAY_MS_MAX, which Node would take as 1 ms. */
  setTimeout(call: () => void, ms: number): Timer
  /** Calls every `ms`, at least 1. */
  setInterval(call: () => void, ms: number): Timer
  /** Of either kind. Clearing undefined, or twice, or after the call, is no fault. */
  clearTimeout(timer: Timer | undefined): void
}

/** The longest delay that Node's timers can hold: 24.8 days. */
export const DELAY_MS_MAX = 2 ** 31 - 1

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  setTimeout: (call, ms) => setTimeout(call, checkDelay(ms)),
  setInterval: (call, ms) => setInterval(call, checkDelay(ms)),
  clearTimeout: (timer) => clearTimeout(timer as NodeJS.Timeout | undefined),
}

export interface ManualClock extends Clock {
  /**
   * Moves both readings forward and calls what falls due on the way, by due time and then by order of setting, each at
   * its own moment. What these calls set is called too, if it falls due within the same `ms`.
   */
  advance(ms: number): void
  /** As `advance`, and lets promises run before, between and after the calls. */
  settle(ms?: number): Promise<void>
  /** Moves `now` alone, as an administrator or NTP does. No timer notices. */
  jump(ms: number): void
  /** Timers that wait. */
  pending(): number
}

interface Waiting {
  dueMs: number
  order: number
  readonly everyMs: number // 0: once
  readonly call: () => void
}

/** A clock that stands still until it is told to move. `monotonic` starts at 0. */
export function manualClock(startMs: number = Date.UTC(2026, 0, 1)): ManualClock {
  const waiting = new Set<Waiting>()
  let elapsedMs = 0
  let wallMs = startMs
  let order = 0

  function set(call: () => void, ms: number, everyMs: number): Timer {
    const timer = { dueMs: elapsedMs + Math.max(0, checkDelay(ms)), order: order++, everyMs, call }
    waiting.add(timer)
    return timer
  }

  /** Calls the first timer due at or before `endMs`. False when there is none. */
  function callNext(endMs: number): boolean {
    let next: Waiting | undefined
    for (const timer of waiting) {
      if (timer.dueMs > endMs) continue
      if (!next || timer.dueMs < next.dueMs || (timer.dueMs === next.dueMs && timer.order < next.order)) next = timer
    }
    if (!next) return false
    elapsedMs = Math.max(elapsedMs, next.dueMs)
    if (next.everyMs === 0) waiting.delete(next)
    else {
      next.dueMs += next.everyMs
      next.order = order++
    }
    next.call()
    return true
  }

  return {
    now: () => Math.floor(wallMs + elapsedMs),
    monotonic: () => elapsedMs,
    setTimeout: (call, ms) => set(call, ms, 0),
    setInterval: (call, ms) => set(call, Math.max(1, ms), Math.max(1, ms)),
    clearTimeout: (timer) => void waiting.delete(timer as Waiting),
    advance(ms) {
      const endMs = elapsedMs + ms
      while (callNext(endMs));
      elapsedMs = endMs
    },
    async settle(ms = 0) {
      const endMs = elapsedMs + ms
      await turn()
      while (callNext(endMs)) await turn()
      elapsedMs = endMs
    },
    jump(ms) {
      wallMs += ms
    },
    pending: () => waiting.size,
  }
}

/** Resolves when so many milliseconds have passed, by this clock. */
export function pause(clock: Clock, ms: number): Promise<void> {
  return new Promise((resolve) => void clock.setTimeout(resolve, ms))
}

function checkDelay(ms: number): number {
  if (!(ms <= DELAY_MS_MAX)) throw new RangeError(`a delay of ${ms} ms; the longest is ${DELAY_MS_MAX}`)
  return ms
}

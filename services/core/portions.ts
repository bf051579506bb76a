// Many small things that nobody waits for, a few at a time: done at once they would keep all others waiting.
import { type Clock, pause } from './clock.ts'

export interface Pace {
  readonly atOnce: number
  readonly pauseMs: number
}

/** Resolves when `each` has been given all. */
export async function inPortions<T>(
  clock: Clock,
  { atOnce, pauseMs }: Pace,
  all: readonly T[],
  each: (portion: readonly T[]) => void,
): Promise<void> {
  for (let at = 0; at < all.length; at += atOnce) {
    if (at > 0) await pause(clock, pauseMs)
    each(all.slice(at, at + atOnce))
  }
}

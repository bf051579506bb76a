// Writes on their way into the table: all at once, and what the table did not take again, until all are done.
import { TableUnavailable } from '#table/table.ts'
import { type Clock, pause } from '../clock.ts'
import type { Log } from '../observing/log.ts'
import { keyOf, type Write } from './commit.ts'

const RETRY_FIRST_MS = 50
const RETRY_MOST_MS = 5_000

interface WriteOutOptions {
  readonly clock: Clock
  readonly log: Log
  readonly random?: (() => number) | undefined
  /** Asked before each try: resolves when it may be made, to false where nothing more is to be written. */
  readonly mayWrite?: () => boolean | Promise<boolean>
}

/**
 * Does all writes; what is refused for good is logged. Tries for ever what the table is not there for. Of two of one row the
 * later one holds. False where it was told to stop.
 */
export async function writeOut(
  writes: readonly Write[],
  perform: (write: Write) => Promise<void>,
  { clock, log, random, mayWrite }: WriteOutOptions,
): Promise<boolean> {
  let left = writes
  for (const retry = new Backoff(clock, random); ; ) {
    if (mayWrite !== undefined && !(await mayWrite())) return false
    const unavailable = await tryAll(left, perform, log)
    if (unavailable === undefined) return true
    left = latestOf(left, unavailable)
    log.warn('commit.delayed', { rows: left.length, pauseMs: retry.pauseMs })
    await retry.pause()
  }
}

/** One try of all of them. Those that the table was not there for; undefined where there are none. */
export async function tryAll(
  writes: readonly Write[],
  perform: (write: Write) => Promise<void>,
  log: Log,
): Promise<Set<Write> | undefined> {
  let unavailable: Set<Write> | undefined
  const results = await Promise.allSettled(writes.map(perform))
  results.forEach((result, i) => {
    if (result.status === 'fulfilled') return
    if (result.reason instanceof TableUnavailable) (unavailable ??= new Set()).add(writes[i]!)
    else log.error('commit.write_refused', { error: result.reason, key: keyOf(writes[i]!) }) // our own bug: `stage` checks
  })
  return unavailable
}

/** The last write of each row, where it is among `wanted`: one before it would bring back an older value. */
export function latestOf(writes: readonly Write[], wanted?: ReadonlySet<Write>): Write[] {
  const latest = new Map<string, Write>()
  for (const write of writes) {
    const { pk, sk } = keyOf(write)
    latest.set(`${pk.length} ${pk}${sk}`, write)
  }
  const all = [...latest.values()]
  return wanted === undefined ? all : all.filter((write) => wanted.has(write))
}

/** Pauses that double, somewhat at random, so that those who wait for the same thing do not come back together. */
export class Backoff {
  readonly #clock: Clock
  readonly #random: () => number
  /** The longest that the next one takes. */
  pauseMs = RETRY_FIRST_MS

  constructor(clock: Clock, random: () => number = Math.random) {
    this.#clock = clock
    this.#random = random
  }

  pause(): Promise<void> {
    const pauseMs = this.pauseMs * (0.5 + this.#random() / 2)
    this.pauseMs = Math.min(this.pauseMs * 2, RETRY_MOST_MS)
    return pause(this.#clock, pauseMs)
  }
}

// How fast a client is read: one token bucket for bytes and one for stanzas, for each stream.
//
// A bucket is one number: the moment at which all that was taken from it would be paid for at the steady rate. What lies
// further ahead than the bucket is deep is owed, and for that long the stream is not read from; nobody is cut off for
// speed alone. Nothing runs for a stream that owes nothing: those that do stand in one list, which one timer goes through.
// Only what is read next waits, so a stream is at most one chunk of its socket ahead of its rate. A burst is not read in
// one go either: what many streams send at once would all be in memory at once, and everybody else would wait behind it. For
// the same reason there is one bucket more, for all streams that send much at the same time. Measured, with forty that began
// to send at once, 256 KiB each: the turn that took it all in had 45 to 75 ms of work, and with this bucket has 10 to 30.
import type { Clock, Timer } from '#core/clock.ts'
import type { Config } from '#core/settings/config.ts'

/** The pace of one stream before the login or after it. A price of 0: no bound. */
export interface Pace {
  readonly byteMs: number
  readonly stanzaMs: number
  /** How deep the buckets are, in the time that it takes to fill them. */
  readonly bytesBurstMs: number
  readonly stanzasBurstMs: number
  /** Of the bucket from which a burst is read. */
  readonly peakByteMs: number
  readonly peakBurstMs: number
  /** That of all streams together; without it, each is alone. */
  readonly crowd?: Crowd
}

/** What may come of one stream before the login, at once and then in a second: a login takes five, a registration two. */
const STANZAS_BURST_BEFORE_LOGIN = 50
const STANZAS_PER_SECOND_BEFORE_LOGIN = 5
/** Of a burst, so much is read at once, and then so much a second. */
const PEAK: Bucket = { burst: 256 * 1024, perSecond: 4 * 1024 * 1024 }
/** Of all streams that have sent more than so much of late, this is read at once, and then in a second. */
const CROWDED_BYTES = 32 * 1024
const CROWD: Bucket = { burst: 1024 * 1024, perSecond: 64 * 1024 * 1024 }
/** As much at once before the login as so many of the largest stanzas that are taken then. */
const BYTES_BURST_BEFORE_LOGIN_FACTOR = 2

/** `limits` as two paces. */
export function pacesOf(limits: Config['limits']): { readonly beforeLogin: Pace; readonly session: Pace } {
  const before = limits.bytesPerSecondBeforeLogin
  const crowd = new Crowd()
  return {
    beforeLogin: paceOf(
      { perSecond: before, burst: limits.stanzaBytesBeforeLogin * BYTES_BURST_BEFORE_LOGIN_FACTOR },
      { perSecond: before === 0 ? 0 : STANZAS_PER_SECOND_BEFORE_LOGIN, burst: STANZAS_BURST_BEFORE_LOGIN },
      crowd,
    ),
    session: paceOf(
      { perSecond: limits.bytesPerSecond, burst: limits.bytesBurst },
      { perSecond: limits.stanzasPerSecond, burst: limits.stanzasBurst },
      crowd,
    ),
  }
}

interface Bucket {
  readonly perSecond: number
  readonly burst: number
}

function price({ perSecond }: Bucket): number {
  return perSecond === 0 ? 0 : 1_000 / perSecond
}

function paceOf(bytes: Bucket, stanzas: Bucket, crowd: Crowd): Pace {
  return {
    byteMs: price(bytes),
    stanzaMs: price(stanzas),
    bytesBurstMs: bytes.burst * price(bytes),
    stanzasBurstMs: stanzas.burst * price(stanzas),
    peakByteMs: bytes.perSecond === 0 ? 0 : price(PEAK),
    peakBurstMs: PEAK.burst * price(PEAK),
    crowd,
  }
}

/** The bucket that all streams of an edge share. Who sends little takes nothing of it, and so never waits for the others. */
export class Crowd {
  #paidMs = 0

  /** Milliseconds that are owed by now. */
  take(bytes: number, nowMs: number): number {
    this.#paidMs = Math.max(this.#paidMs, nowMs) + bytes * price(CROWD)
    return this.#paidMs - nowMs - CROWD.burst * price(CROWD)
  }
}

/** The buckets of one stream. */
export class Rate {
  /** Taken by the scanner since the last `take`: whoever is handed them counts them here. */
  stanzas = 0
  #pace: Pace
  /** When what was taken so far is paid for, on the monotonic clock; in the past: the bucket is full. */
  #bytesPaidMs = 0
  #stanzasPaidMs = 0
  #peakPaidMs = 0

  constructor(pace: Pace) {
    this.#pace = pace
  }

  /** From here on at another pace, with full buckets. */
  change(pace: Pace): void {
    this.#pace = pace
    this.#bytesPaidMs = 0
    this.#stanzasPaidMs = 0
    this.#peakPaidMs = 0
  }

  /** Takes what was read, and the stanzas counted since. Milliseconds for which nothing more is to be read; 0: go on. */
  take(bytes: number, nowMs: number): number {
    const { byteMs, stanzaMs, bytesBurstMs, stanzasBurstMs, peakByteMs, peakBurstMs, crowd } = this.#pace
    this.#bytesPaidMs = Math.max(this.#bytesPaidMs, nowMs) + bytes * byteMs
    this.#stanzasPaidMs = Math.max(this.#stanzasPaidMs, nowMs) + this.stanzas * stanzaMs
    this.#peakPaidMs = Math.max(this.#peakPaidMs, nowMs) + bytes * peakByteMs
    this.stanzas = 0
    const isMuch = this.#peakPaidMs - nowMs > CROWDED_BYTES * peakByteMs // not without a price
    return Math.max(
      0,
      isMuch && crowd !== undefined ? crowd.take(bytes, nowMs) : 0,
      this.#bytesPaidMs - nowMs - bytesBurstMs,
      this.#stanzasPaidMs - nowMs - stanzasBurstMs,
      this.#peakPaidMs - nowMs - peakBurstMs,
    )
  }
}

/** A stream that owes time. */
export interface Debtor {
  /** Its time is over: it is read from again. */
  resume(): void
}

/** How often those that owe are looked at: a stream may wait so much longer than it must, and is read the faster after it. */
const TICK_MS = 50
/** Streams that are read from again in one turn of the event loop, each for up to a burst: everybody else has a turn in between. */
const RESUMED_PER_TURN = 4
const NEXT_TURN_MS = 1

/** The streams of one edge that owe time. */
export class Debtors {
  readonly #clock: Clock
  readonly #dueMs = new Map<Debtor, number>()
  readonly #tick = (): void => this.#look()
  #timer: Timer | undefined

  constructor(clock: Clock) {
    this.#clock = clock
  }

  get size(): number {
    return this.#dueMs.size
  }

  /** Resumes the stream when `ms` have passed, once for each call: one that owes already waits for the later moment. */
  add(debtor: Debtor, ms: number): boolean {
    const dueMs = this.#dueMs.get(debtor)
    this.#dueMs.set(debtor, Math.max(dueMs ?? 0, this.#clock.monotonic() + ms))
    this.#timer ??= this.#clock.setTimeout(this.#tick, TICK_MS)
    return dueMs === undefined
  }

  close(): void {
    this.#clock.clearTimeout(this.#timer)
    this.#timer = undefined
    this.#dueMs.clear()
  }

  #look(): void {
    const now = this.#clock.monotonic()
    let resumed = 0
    for (const [debtor, dueMs] of this.#dueMs) {
      if (dueMs > now) continue
      if (resumed++ === RESUMED_PER_TURN) break
      this.#dueMs.delete(debtor)
      debtor.resume() // which may owe again at once, and then stands behind the others
    }
    this.#clock.clearTimeout(this.#timer)
    const nextMs = resumed > RESUMED_PER_TURN ? NEXT_TURN_MS : TICK_MS
    this.#timer = this.#dueMs.size > 0 ? this.#clock.setTimeout(this.#tick, nextMs) : undefined
  }
}

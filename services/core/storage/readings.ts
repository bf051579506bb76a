// One query a login: what one role of a process has read of an account, for the other role to take.
//
// The router reads an account's rows to let somebody in, and presence wants the same rows a moment later. What the first
// has read lies here until the second takes it. Whoever changes a row of the account drops it, at once and once more when the
// change is in the table: so what is found here is no older than what the table would tell. This holds for the owners in one
// process. Where another process may own the account in one role or the other, what lies here of it goes whenever it comes in
// either, or goes (core/ownership/take-over.ts); and nothing is taken in a role that does not have the account (core/storage/store.ts).

import { type Clock, systemClock } from '../clock.ts'

/** A row's JSON. A string has less around it than bytes, and does not keep the page of rows that it came with. */
export class Unread {
  readonly text: string

  constructor(json: Uint8Array | string) {
    this.text = typeof json === 'string' ? json : Buffer.from(json.buffer, json.byteOffset, json.byteLength).toString('utf8')
  }

  read(): unknown {
    return JSON.parse(this.text)
  }
}

/** Under way, then what was read: the rows of an account by their keys. */
export interface Reading {
  rows: ReadonlyMap<string, Unread> | undefined
  /** When it began. */
  readonly sinceMs: number
}

/** Those that nobody has taken; the oldest goes first. */
export const READINGS_MAX = 1_000
/** Of accounts that something was written of within this, nothing is taken that another process has read (core/storage/pass-on.ts). */
export const QUIET_MS = 60_000

export class Readings {
  readonly #readings = new Map<string, Reading>()
  readonly #clock: Clock
  /** Accounts that something was written of: since a moment, and in the QUIET_MS before it. */
  #written = new Set<string>()
  #writtenBefore = new Set<string>()
  #writtenSinceMs: number

  constructor(clock: Clock = systemClock) {
    this.#clock = clock
    this.#writtenSinceMs = clock.monotonic()
  }

  /** The account is being read from now on: set `rows` of what this returns. It is nobody's any more once something is written. */
  begin(account: string): Reading {
    const reading: Reading = { rows: undefined, sinceMs: this.#clock.monotonic() }
    this.#readings.delete(account)
    this.#readings.set(account, reading)
    if (this.#readings.size > READINGS_MAX) this.#readings.delete(this.#readings.keys().next().value!)
    return reading
  }

  /** What another process has read, to be taken here unless something was written here since it may have been read. */
  offer(account: string, rows: Readonly<Record<string, string>>): void {
    this.#turnOver()
    if (this.#written.has(account) || this.#writtenBefore.has(account)) return
    this.begin(account).rows = new Map(Object.entries(rows).map(([key, text]) => [key, new Unread(text)]))
  }

  /** As `take`, with when it was read. */
  takeReading(account: string): Reading | undefined {
    const reading = this.#readings.get(account)
    if (reading?.rows !== undefined) this.#readings.delete(account)
    return reading
  }

  /** What was read, and is as it is in the table; whoever takes it is the last. */
  take(account: string): ReadonlyMap<string, Unread> | undefined {
    return this.takeReading(account)?.rows
  }

  /** Another process may have written these since. */
  dropAll(gone: (account: string) => boolean): void {
    for (const account of this.#readings.keys()) if (gone(account)) this.#readings.delete(account)
  }

  /** Something of the account is written, or what was is in the table now. */
  drop(account: string): void {
    this.#readings.delete(account)
    this.#turnOver()
    this.#written.add(account)
  }

  #turnOver(): void {
    const nowMs = this.#clock.monotonic()
    if (nowMs - this.#writtenSinceMs < QUIET_MS) return
    this.#writtenBefore = nowMs - this.#writtenSinceMs < 2 * QUIET_MS ? this.#written : new Set()
    this.#written = new Set()
    this.#writtenSinceMs = nowMs
  }
}

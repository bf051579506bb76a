// Archive ids: they rise per account, and nobody can guess one (XEP-0313 §3).
//
//   00mh3k7q2c0001-q7Zk3mXw9aE   time (ms, base 36, 10 digits), a count within it (4 digits), then random bits
//
// Given by the account's owner as max(last + 1, now). One sequence serves all accounts of an owner: what rises for all
// of them rises for each. It never goes back while the owner lives, whatever the clock does.
//
// Nor over a restart, or where another owner goes on. One row says how far the ids of a role have gone, of all its owners:
//
//   pk = o#router   sk = archive-ids   the mark, as { "markMs": ms }
//
// Every id is of a time before mark + MARK_EVERY_MS: the first that is not raises the mark, which is staged before
// anything can be stored under that id. So a start behind both the clock and mark + MARK_EVERY_MS is behind every id
// that is stored, at the price of one row a second at most, and of notes that are a second early after a quick restart.
import type { Row, Table } from '#table/table.ts'
import { randomId } from '#xmpp/id.ts'
import type { Clock } from '../clock.ts'

const COUNT_DIGITS = 4
const TIME_DIGITS = 10
const RANDOM_BYTES = 8
/** Digits of the time that tell one stretch from another. */
const STRETCH_DIGITS = 6
/** How long a stretch is, rounded up: 28 minutes. */
export const STRETCH_S = Math.ceil(36 ** (TIME_DIGITS - STRETCH_DIGITS) / 1_000)
/** The same of a period. */
const PERIOD_DIGITS = 4
const COUNTS = 36 ** COUNT_DIGITS
const MARK_EVERY_MS = 1_000

export class ArchiveIds {
  readonly #clock: Clock
  readonly #keepMark: (markMs: number) => void
  #timeMs = 0
  /** The time as it is written: many ids have it, when many are asked for. */
  #timeDigits = digits(0, TIME_DIGITS)
  #count = 0
  #markMs = Number.NEGATIVE_INFINITY

  /** @param keepMark stages the mark; it is durable no later than what is staged afterwards */
  constructor(clock: Clock, keepMark: (markMs: number) => void) {
    this.#clock = clock
    this.#keepMark = keepMark
  }

  /** Goes on behind all ids that were given up to this mark, by whomever: it may be this owner's own, and another one's, too. */
  resume(markMs: number): void {
    if (markMs > this.#markMs) this.#markMs = markMs
    if (this.#timeMs < markMs + MARK_EVERY_MS) this.#turnTo(markMs + MARK_EVERY_MS)
  }

  /** What was staged is dropped, and the mark may have been among it: the next id raises it again. */
  forget(): void {
    this.#markMs = Number.NEGATIVE_INFINITY
  }

  next(): string {
    const nowMs = this.#clock.now()
    if (nowMs > this.#timeMs) this.#turnTo(nowMs)
    else if (++this.#count === COUNTS) this.#turnTo(this.#timeMs + 1)
    if (this.#timeMs >= this.#markMs + MARK_EVERY_MS) {
      this.#markMs = this.#timeMs
      this.#keepMark(this.#markMs)
    }
    return `${this.#timeDigits}${digits(this.#count, COUNT_DIGITS)}-${randomId(RANDOM_BYTES)}`
  }

  #turnTo(timeMs: number): void {
    this.#timeMs = timeMs
    this.#timeDigits = digits(timeMs, TIME_DIGITS)
    this.#count = 0
  }
}

/** The mark of a role as it is stored. Its version rises with it: of what several owners write the greatest stays. */
export function markRow(role: string, markMs: number): Row {
  return { ...markKey(role), version: `~${archiveIdAt(markMs)}`, value: Buffer.from(JSON.stringify({ markMs }), 'utf8') }
}

/** Undefined where no id was ever given. */
export async function readMark(table: Table, role: string): Promise<number | undefined> {
  const row = await table.get(markKey(role))
  if (row === undefined) return undefined
  const { markMs } = JSON.parse(Buffer.from(row.value).toString('utf8')) as { markMs: number }
  return markMs
}

function markKey(role: string) {
  return { pk: `o#${role}`, sk: 'archive-ids' }
}

/** The least id of a moment: ids given at or after it sort behind. */
export function archiveIdAt(ms: number): string {
  return digits(Math.max(0, Math.floor(ms)), TIME_DIGITS)
}

/** The moment an id was given, in ms since 1970. */
export function archiveIdTime(id: string): number {
  return Number.parseInt(id.slice(0, TIME_DIGITS), 36)
}

/** The stretch of time an id was given in: what its ids begin with, and those of no other. */
export function archiveIdStretch(id: string): string {
  return id.slice(0, STRETCH_DIGITS)
}

/** The same of 25 days. */
export function archiveIdPeriod(id: string): string {
  return id.slice(0, PERIOD_DIGITS)
}

/** Whether a text looks like an id: what a client names may be anything. */
export function isArchiveId(text: string): boolean {
  return FORM.test(text)
}

const FORM = /^[0-9a-z]{14}-[\w-]{11}$/

function digits(value: number, width: number): string {
  return value.toString(36).padStart(width, '0')
}

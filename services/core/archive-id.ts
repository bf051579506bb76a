// Archive ids: they rise per account, and nobody can guess one (XEP-0313 §3).
//
//   0mh3k7q2c80001-q7Zk3mXw9a   time (ms, base 36, 10 digits), a count within it (4 digits), then random bits
//
// Given by the account's owner as max(last + 1, now). One sequence serves all accounts of an owner: what rises for all
// of them rises for each. It never goes back while the owner lives, whatever the clock does.
import { randomId } from '#xmpp/id.ts'
import type { Clock } from './clock.ts'

const COUNT_DIGITS = 4
const TIME_DIGITS = 10
const COUNTS = 36 ** COUNT_DIGITS

export class ArchiveIds {
  readonly #clock: Clock
  #timeMs = 0
  #count = 0

  constructor(clock: Clock) {
    this.#clock = clock
  }

  next(): string {
    const nowMs = this.#clock.now()
    if (nowMs > this.#timeMs) {
      this.#timeMs = nowMs
      this.#count = 0
    } else if (++this.#count === COUNTS) {
      this.#timeMs++
      this.#count = 0
    }
    return `${digits(this.#timeMs, TIME_DIGITS)}${digits(this.#count, COUNT_DIGITS)}-${randomId(8)}`
  }
}

/** The least id of a moment: ids given at or after it sort behind. */
export function archiveIdAt(ms: number): string {
  return digits(Math.max(0, Math.floor(ms)), TIME_DIGITS)
}

/** The moment an id was given, in ms since 1970. */
export function archiveIdTime(id: string): number {
  return Number.parseInt(id.slice(0, TIME_DIGITS), 36)
}

function digits(value: number, width: number): string {
  return value.toString(36).padStart(width, '0')
}

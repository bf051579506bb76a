// The log of an owner, for a table that is far away: one write makes a flush durable, its rows follow.
//
//   write ──▶ item n, put if absent ──▶ durable ──▶ rows, the latest of each ──▶ applied
//                   └─ somebody has sealed n: fenced
//
// On DynamoDB a flush of many rows costs one round trip before it is acked, and the rows of several flushes go in full batches
// behind it. How far they are, `applied`, the process writes into its lease. When it dies, whoever takes over reads on from there
// up to the first number that is missing, puts the seal at it, and applies what was read (`recoverLog`): so everything that was
// durable is there, and nothing else ever can be, for what comes late fails at the seal and was never acked. This may be done by
// several at once, and while late writes of the dead one still arrive: each row goes by its version (log-item.ts).
//
// An owner that cannot be sure of itself, as its lease may have run out, writes nothing and lets nothing be released.
import { type Row, type Table, TableUnavailable, VersionConflict } from '#table/table.ts'
import { randomId } from '#xmpp/id.ts'
import type { Clock } from '../clock.ts'
import type { Log } from '../observing/log.ts'
import type { RoleName } from '../ownership/ownership.ts'
import type { CommitLog, Write } from './commit.ts'
import {
  decodeFlush,
  decodeItem,
  encodeFlush,
  itemKey,
  type LogItem,
  logKey,
  type RankedWrite,
  rank,
  STAMP_BYTES,
  sealRow,
  versionBehind,
} from './log-item.ts'
import { Backoff, latestOf, tryAll, writeOut } from './write-out.ts'

/** How long an item stays: for so long a dead owner's log can be recovered. */
export const LOG_KEPT_S = 7 * 86_400
/** How often it is asked again whether the owner is sure of itself. */
const SURE_POLL_MS = 100
/** Rows that are applied together: full batches, and not too long to wait for. */
const APPLIED_AT_ONCE = 2_500

export interface OwnerLogOptions {
  readonly table: Table
  readonly process: string
  readonly role: RoleName
  readonly clock: Clock
  readonly log: Log
  /** Of the role's ownership (core/ownership/ownership.ts). */
  readonly epoch: () => number
  /** False while the lease may have run out. */
  readonly sure: () => boolean
  /** The log is sealed: another process has taken all that this one owned. It is abandoned already. */
  readonly onFenced: () => void
  readonly random?: () => number
}

interface Durable {
  readonly writes: readonly RankedWrite[]
  /** Its last item. */
  readonly last: number
  readonly applied: () => void
}

/** What nothing comes of any more. */
const NEVER = new Promise<never>(() => {})

export class OwnerLog implements CommitLog {
  readonly versionBytes = STAMP_BYTES
  readonly #options: OwnerLogOptions
  /** The number of the next item. They are never used again, in no life: what is late from an earlier one is behind its seal. */
  #next = 1
  #applied = 0
  #behind: Durable[] = []
  #applying = false
  /** Counts `abandon`. */
  #life = 0

  constructor(options: OwnerLogOptions) {
    this.#options = options
  }

  /** The rows of all items up to this number are in the table: for the lease. */
  get applied(): number {
    return this.#applied
  }

  /** See CommitLog. Never resolves once the log is abandoned. */
  async write(writes: readonly Write[], applied: () => void): Promise<void> {
    const life = this.#life
    if (!(await this.#mayWrite(life))) return NEVER
    const number = this.#next
    const ranked = rank(writes, this.#options.epoch(), number)
    const items = encodeFlush(ranked).map((value, part) => this.#item(number + part, value))
    this.#next += items.length
    const stored = await Promise.all(items.map((item) => this.#store(item, life)))
    if (life === this.#life && stored.includes(false)) this.#fence()
    // What is durable is released only by an owner who is sure: another may have sealed the log, long ago, behind this flush.
    if (!(await this.#mayWrite(life))) return NEVER
    this.#behind.push({ writes: ranked, last: this.#next - 1, applied })
    if (!this.#applying) void this.#apply(life)
  }

  version(): string {
    return versionBehind(this.#options.epoch(), this.#next - 1)
  }

  /**
   * The process is fenced. What is not durable never will be, and what is not applied is applied by whoever has sealed the log.
   * The next flush is of a new life, behind all numbers of this one and that of its seal, and its lease says so by `applied`.
   */
  abandon(): void {
    this.#life++
    this.#behind = []
    this.#applying = false
    this.#applied = this.#next++
  }

  #fence(): void {
    const { log, process, role, onFenced } = this.#options
    log.warn('log.sealed', { process, role, number: this.#next - 1 })
    this.abandon()
    onFenced()
  }

  /** Waits until the owner is sure. False where the log is abandoned. */
  async #mayWrite(life: number): Promise<boolean> {
    const { clock, sure } = this.#options
    while (life === this.#life && !sure()) await new Promise<void>((resolve) => void clock.setTimeout(resolve, SURE_POLL_MS))
    return life === this.#life
  }

  #item(number: number, value: Buffer): Row {
    const { process, role, clock } = this.#options
    const expiresAtS = Math.floor(clock.now() / 1_000) + LOG_KEPT_S
    return { pk: logKey(process, role), sk: itemKey(number), version: randomId(), value, expiresAtS }
  }

  /** Tries for ever. False where something else is there, or the log is abandoned. */
  async #store(item: Row, life: number): Promise<boolean> {
    const { table, clock, log, random } = this.#options
    for (const retry = new Backoff(clock, random); ; await retry.pause()) {
      if (!(await this.#mayWrite(life))) return false
      try {
        await table.put(item, '')
        return true
      } catch (error) {
        const mine = error instanceof VersionConflict ? await this.#isMine(item) : undefined
        if (mine !== undefined) return mine
        const unexpected = !(error instanceof TableUnavailable || error instanceof VersionConflict)
        log[unexpected ? 'error' : 'warn']('log.delayed', { error, pauseMs: retry.pauseMs })
      }
    }
  }

  /** After a conflict: an answer may have been lost, and it was I. Undefined where that cannot be told now. */
  async #isMine({ pk, sk, version }: Row): Promise<boolean | undefined> {
    try {
      const stored = await this.#options.table.get({ pk, sk })
      return stored && stored.version === version
    } catch {
      return undefined
    }
  }

  /** In the order of flushes, as many at once as make full batches. */
  async #apply(life: number): Promise<void> {
    const { table, clock, log, random } = this.#options
    const mayWrite = () => this.#mayWrite(life)
    this.#applying = true
    while (life === this.#life && this.#behind.length > 0) {
      const flushes = this.#takeBehind()
      const writes = latestOf(flushes.flatMap(({ writes }) => writes))
      const done = await writeOut(writes, (write) => applyTo(table, write as RankedWrite), { clock, log, random, mayWrite })
      if (!done || life !== this.#life) return
      this.#applied = flushes.at(-1)!.last
      for (const { applied } of flushes) applied()
    }
    if (life === this.#life) this.#applying = false
  }

  #takeBehind(): Durable[] {
    let rows = 0
    const over = this.#behind.findIndex(({ writes }) => {
      rows += writes.length
      return rows > APPLIED_AT_ONCE
    })
    return this.#behind.splice(0, over === -1 ? this.#behind.length : Math.max(1, over))
  }
}

/** Done by whom it may, and as often: what is newer stays. */
async function applyTo(table: Table, write: RankedWrite): Promise<void> {
  if (write.order === 'free') return 'put' in write ? table.put(write.put) : table.delete(write.delete)
  try {
    if ('put' in write) await table.put(write.put, { olderThan: write.put.version })
    else await table.delete(write.delete, { olderThan: write.version })
  } catch (error) {
    if (!(error instanceof VersionConflict)) throw error
  }
}

export interface Recovery {
  readonly table: Table
  /** Whose log it is: its lease is broken. */
  readonly process: string
  readonly role: RoleName
  /** What its lease said of `applied`. */
  readonly appliedBehind: number
  readonly log: Log
}

/** Where the log ends, and how much of it had not been applied. */
export interface Recovered {
  readonly seal: number
  readonly flushes: number
  readonly rows: number
}

/**
 * Seals the log of a dead owner, and applies what is not applied. All of it may be done again, by others, at the same time or
 * later. Throws TableUnavailable: then it has to be; UnknownLogVersion where another version has written it, and it is not sealed.
 */
export async function recoverLog(recovery: Recovery): Promise<Recovered> {
  const { table, process, role, appliedBehind, log } = recovery
  const tail = new Tail(recovery)
  for (let number = appliedBehind + 1; ; ) {
    for await (const { sk, value } of table.query(logKey(process, role), { from: itemKey(number) })) {
      if (sk !== itemKey(number)) break
      const item = decodeItem(value)
      if (item === 'seal') return tail.end(number)
      await tail.add(item)
      number++
    }
    try {
      await table.put(sealRow(process, role, number), '')
      log.info('log.recovered', { process, role, seal: number })
      return await tail.end(number)
    } catch (error) {
      if (!(error instanceof VersionConflict)) throw error // else the owner was faster, or another who recovers: read on
    }
  }
}

/** What is read of a log, and not applied yet. */
class Tail {
  readonly #recovery: Recovery
  #parts: Buffer[] = []
  #writes: RankedWrite[] = []
  #flushes = 0
  #rows = 0

  constructor(recovery: Recovery) {
    this.#recovery = recovery
  }

  async add({ part, parts, bytes }: Exclude<LogItem, 'seal'>): Promise<void> {
    // The mark of a lease is at the end of a flush: a part that is not the next belongs to none that can be whole.
    if (part !== this.#parts.length) throw new RangeError(`part ${part} of a flush where ${this.#parts.length} was to come`)
    this.#parts.push(bytes)
    if (this.#parts.length < parts) return
    const writes = decodeFlush(this.#parts)
    this.#parts = []
    this.#flushes++
    this.#rows += writes.length
    this.#writes.push(...writes)
    if (this.#writes.length > APPLIED_AT_ONCE) await this.#apply()
  }

  /** A flush of which only some parts are there was never durable. */
  async end(seal: number): Promise<Recovered> {
    await this.#apply()
    return { seal, flushes: this.#flushes, rows: this.#rows }
  }

  async #apply(): Promise<void> {
    const { table, log } = this.#recovery
    const writes = latestOf(this.#writes)
    this.#writes = []
    const unavailable = await tryAll(writes, (write) => applyTo(table, write as RankedWrite), log)
    if (unavailable !== undefined) throw new TableUnavailable(`${unavailable.size} rows of a log could not be applied`)
  }
}

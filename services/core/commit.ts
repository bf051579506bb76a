// Staged commits: idea 3 of the architecture.
//
// Handlers do not wait for the Table. They stage writes and go on; what they send, and the ack, is released in order
// when the commit is durable. All rows of one flush are put in one turn, which SQLite makes one transaction; while a
// flush is under way the next one gathers. Owners are the only writers of their addresses, so staged writes carry no
// condition. A table that is away is tried again for ever, with the effects held back: nothing is acked meanwhile.
import { checkRow } from '#table/rows.ts'
import { type Key, type Row, type Table, TableUnavailable } from '#table/table.ts'
import type { Clock } from './clock.ts'
import type { Log } from './log.ts'

/** Rows staged and not durable before an owner takes no further envelopes (`congested`). */
export const STAGED_ROWS_MAX = 20_000
/** The same in bytes: a row has up to 400 kB. */
export const STAGED_BYTES_MAX = 64 * 1024 * 1024
/** A row besides its value: keys, and the objects around them. */
const ROW_COST_BYTES = 500
const RETRY_FIRST_MS = 50
const RETRY_MOST_MS = 5_000

export type Write = { readonly put: Row } | { readonly delete: Key }

export class Commit {
  readonly #table: Table
  readonly #clock: Clock
  readonly #log: Log
  /** The number of the flush that new writes go into. */
  #open = 1
  #writes: Write[] = []
  #accounts: string[] = []
  #flushing = false
  #scheduled = false
  #staged = 0
  #stagedBytes = 0
  /** Of the flush that gathers. */
  #openBytes = 0
  /** The last flush each account has something in, while it is not durable. */
  readonly #tickets = new Map<string, number>()
  /** Effects by the flush they wait for. */
  readonly #effects = new Map<number, (() => void)[]>()
  #relief: (() => void)[] = []

  constructor(table: Table, clock: Clock, log: Log) {
    this.#table = table
    this.#clock = clock
    this.#log = log
  }

  get congested(): boolean {
    return this.#staged > STAGED_ROWS_MAX || this.#stagedBytes > STAGED_BYTES_MAX
  }

  /** Runs `resume` once when there is room again. */
  onRelief(resume: () => void): void {
    this.#relief.push(resume)
  }

  /**
   * Adds a write in the name of an account. It is durable when an `after` of that account runs. Throws RangeError for a
   * row that no table takes: later there is nobody left to tell, and what rests on it would be acked.
   */
  stage(account: string, write: Write): void {
    if ('put' in write) checkRow(write.put)
    this.#writes.push(write)
    this.#staged++
    const bytes = bytesOf(write)
    this.#stagedBytes += bytes
    this.#openBytes += bytes
    if (this.#tickets.get(account) !== this.#open) {
      this.#tickets.set(account, this.#open)
      this.#accounts.push(account)
    }
    if (this.#flushing || this.#scheduled) return
    this.#scheduled = true
    queueMicrotask(() => void this.#flush())
  }

  /** Runs `effect` when all that was staged for the account is durable: at once where it is. Keeps the order of calls. */
  after(account: string, effect: () => void): void {
    const ticket = this.#tickets.get(account)
    if (ticket === undefined) return effect()
    const effects = this.#effects.get(ticket)
    if (effects === undefined) this.#effects.set(ticket, [effect])
    else effects.push(effect)
  }

  /** As `after`, for what two accounts have staged. */
  afterBoth(first: string, second: string, effect: () => void): void {
    if (this.#tickets.size === 0) return effect()
    this.after(first, () => this.after(second, effect))
  }

  /** True while anything staged is not durable. */
  get busy(): boolean {
    return this.#staged > 0
  }

  /** True while something staged for the account is not durable. */
  pending(account: string): boolean {
    return this.#tickets.has(account)
  }

  /** Resolves when everything staged so far is durable. */
  settled(): Promise<void> {
    if (this.#staged === 0) return Promise.resolve()
    return new Promise((resolve) => {
      const flush = this.#writes.length > 0 ? this.#open : this.#open - 1
      const effects = this.#effects.get(flush)
      if (effects === undefined) this.#effects.set(flush, [resolve])
      else effects.push(resolve)
    })
  }

  async #flush(): Promise<void> {
    this.#scheduled = false
    this.#flushing = true
    while (this.#writes.length > 0) {
      const number = this.#open++
      const writes = this.#writes
      const accounts = this.#accounts
      const bytes = this.#openBytes
      this.#writes = []
      this.#accounts = []
      this.#openBytes = 0
      await this.#write(writes)
      this.#staged -= writes.length
      this.#stagedBytes -= bytes
      this.#release(number)
      for (const account of accounts) if (this.#tickets.get(account) === number) this.#tickets.delete(account)
      this.#relieve()
    }
    this.#flushing = false
  }

  /** Returns once every write is durable. */
  async #write(writes: Write[]): Promise<void> {
    let left = writes
    for (let pauseMs = RETRY_FIRST_MS; ; pauseMs = Math.min(pauseMs * 2, RETRY_MOST_MS)) {
      const results = await Promise.allSettled(
        left.map((write) => ('put' in write ? this.#table.put(write.put) : this.#table.delete(write.delete))),
      )
      const failed: Write[] = []
      results.forEach((result, i) => {
        if (result.status === 'fulfilled') return
        if (result.reason instanceof TableUnavailable) failed.push(left[i]!)
        else this.#log.error('commit.write_refused', { error: result.reason, key: keyOf(left[i]!) }) // our own bug: `stage` checks
      })
      if (failed.length === 0) return
      left = failed.filter((write) => !overtaken(write, left))
      this.#log.warn('commit.delayed', { rows: left.length, pauseMs })
      await new Promise<void>((resolve) => this.#clock.setTimeout(resolve, pauseMs * (0.5 + Math.random() / 2)))
    }
  }

  /** What an effect does `after` this same flush comes behind those that wait already: the list grows while it runs. */
  #release(number: number): void {
    for (const effect of this.#effects.get(number) ?? []) this.#run(effect)
    this.#effects.delete(number)
  }

  #relieve(): void {
    if (this.#relief.length === 0 || this.#staged > STAGED_ROWS_MAX / 2 || this.#stagedBytes > STAGED_BYTES_MAX / 2) return
    const relieved = this.#relief
    this.#relief = []
    for (const resume of relieved) this.#run(resume)
  }

  #run(effect: () => void): void {
    try {
      effect()
    } catch (error) {
      this.#log.error('effect.broke', { error })
    }
  }
}

/** Whether a later write of the same flush is about the same row: trying this one again would bring back the older value. */
function overtaken(write: Write, writes: readonly Write[]): boolean {
  const { pk, sk } = keyOf(write)
  for (let i = writes.length - 1; writes[i] !== write; i--) {
    const later = keyOf(writes[i]!)
    if (later.sk === sk && later.pk === pk) return true
  }
  return false
}

/** What a write takes of memory, about. */
function bytesOf(write: Write): number {
  if ('delete' in write) return ROW_COST_BYTES
  return ROW_COST_BYTES + write.put.value.length
}

function keyOf(write: Write): Key {
  const { pk, sk } = 'put' in write ? write.put : write.delete
  return { pk, sk }
}

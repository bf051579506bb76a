// Staged commits: idea 3 of the architecture.
//
// Handlers do not wait for the Table. They stage writes and go on; what they send, and the ack, is released in order
// when the commit is durable. While a flush is under way the next one gathers. Where a flush goes is for the log to say that
// a commit is given: into the table at once (direct-log.ts), or into the owner's log, and into the table behind it
// (owner-log.ts). So there are two moments: `after` a commit is durable its effects are released, and whoever reads the
// table waits until it is `applied`. A log that cannot write tries for ever, with the effects held back.
import { checkRow } from '#table/rows.ts'
import { type Key, type Row, TableUnavailable } from '#table/table.ts'
import type { Log } from './log.ts'

/** Rows staged and not applied before an owner takes no further envelopes (`congested`). */
export const STAGED_ROWS_MAX = 20_000
/** The same in bytes: a row has up to 400 kB. */
export const STAGED_BYTES_MAX = 64 * 1024 * 1024
/** A row besides its value: keys, and the objects around them. */
const ROW_COST_BYTES = 500

/**
 * Of several writes to one row the one staged last holds, however late or often each is done, and whoever owned the account
 * when: `order` is for others. 'own': the one of the greatest version, which the writer gives. 'free': no other put of this row
 * has another value, and no harm is done if one comes back that was deleted; these alone can be sent in batches.
 */
export type Write =
  | { readonly put: Row; readonly order?: 'own' | 'free' | undefined }
  | { readonly delete: Key; readonly order?: 'free' | undefined }
  | { readonly delete: Key; readonly order: 'own'; readonly version: string }

/** Where flushes go: one at a time, `write` is called again when it has resolved. */
export interface CommitLog {
  /** Octets that the version of a row may become longer by. */
  readonly versionBytes: number
  /**
   * Resolves when all is durable, which it is together or not at all; does not reject. `applied` is called when all of it is in
   * the table: before it resolves or later, in the order of flushes.
   */
  write(writes: readonly Write[], applied: () => void): Promise<void>
  /** A version for a row that its owner puts himself: newer than all that was flushed, older than all that will be. */
  version(): string
}

/** One flush, from its beginning until it is applied. */
interface Flush {
  readonly number: number
  readonly accounts: readonly string[]
  readonly rows: number
  readonly bytes: number
  durable: boolean
  applied: boolean
}

interface Waiter {
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

export class Commit {
  readonly #destination: CommitLog
  readonly #log: Log
  /** The number of the flush that new writes go into. */
  #open = 1
  #writes: Write[] = []
  #accounts: string[] = []
  #flushing = false
  #scheduled = false
  /** Not durable. */
  #staged = 0
  /** Not applied: those that are not durable among them. */
  #held = 0
  #heldBytes = 0
  /** Of the flush that gathers. */
  #openBytes = 0
  /** The last flush each account has something in, while it is not durable. */
  readonly #tickets = new Map<string, number>()
  /** The same of what is durable, while it is not applied. */
  readonly #lagging = new Map<string, number>()
  /** Effects by the flush they wait for. */
  readonly #effects = new Map<number, (() => void)[]>()
  /** The same of those that wait until it is applied. */
  readonly #readers = new Map<number, (() => void)[]>()
  /** Those among the effects and readers who would wait for ever when all is dropped. */
  readonly #waiters = new Set<Waiter>()
  #relief: (() => void)[] = []
  /** Counts `drop`. */
  #life = 0
  readonly #holds: ((account: string) => boolean) | undefined

  /** @param holds whether this is an account whose rows are ours to write: all, unless given */
  constructor(destination: CommitLog, log: Log, holds?: (account: string) => boolean) {
    this.#destination = destination
    this.#log = log
    this.#holds = holds
  }

  /** Throws TableUnavailable where the account is not ours any more: what was begun for it is somebody else's to do. */
  demandHeld(account: string): void {
    if (this.#holds?.(account) === false) throw new TableUnavailable('this process owns the account no more')
  }

  get congested(): boolean {
    return this.#held > STAGED_ROWS_MAX || this.#heldBytes > STAGED_BYTES_MAX
  }

  /** Runs `resume` once when there is room again. */
  onRelief(resume: () => void): void {
    this.#relief.push(resume)
  }

  /**
   * Adds a write in the name of an account. It is durable when an `after` of that account runs. Throws RangeError for a
   * row that no table takes: later there is nobody left to tell, and what rests on it would be acked; and as `demandHeld`.
   */
  stage(account: string, write: Write): void {
    this.demandHeld(account)
    if ('put' in write) checkRow(write.put, this.#destination.versionBytes)
    this.#writes.push(write)
    this.#staged++
    this.#held++
    const bytes = bytesOf(write)
    this.#heldBytes += bytes
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
    add(this.#effects, ticket, effect)
  }

  /** As `after`, for what two accounts have staged. */
  afterBoth(first: string, second: string, effect: () => void): void {
    if (this.#tickets.size === 0) return effect()
    this.after(first, () => this.after(second, effect))
  }

  /** Runs `effect` when all that was staged for the account is in the table: at once where it is. */
  afterApplied(account: string, effect: () => void): void {
    const flush = this.#unapplied(account)
    if (flush === undefined) return effect()
    add(this.#readers, flush, effect)
  }

  /**
   * Undefined where nothing of the account is on its way: it can be read from the table. Else resolves when all that was
   * staged is there. Rejects with TableUnavailable where it is dropped.
   */
  applied(account: string): Promise<void> | undefined {
    const flush = this.#unapplied(account)
    return flush === undefined ? undefined : this.#waitFor(this.#readers, flush)
  }

  #unapplied(account: string): number | undefined {
    return this.#tickets.get(account) ?? this.#lagging.get(account)
  }

  /** As `applied`, of what is durable: no reader may go by it. */
  durable(account: string): Promise<void> | undefined {
    const flush = this.#tickets.get(account)
    return flush === undefined ? undefined : this.#waitFor(this.#effects, flush)
  }

  /** A version for a row that its owner puts himself: newer than all that was flushed, older than all that will be. */
  newVersion(): string {
    return this.#destination.version()
  }

  /** True while anything staged is not durable. */
  get busy(): boolean {
    return this.#staged > 0
  }

  /** True while something staged for the account is not durable. */
  pending(account: string): boolean {
    return this.#tickets.has(account)
  }

  /** Resolves when everything staged so far is durable, or dropped. */
  settled(): Promise<void> {
    if (this.#staged === 0) return Promise.resolve()
    return this.#waitFor(this.#effects, this.#last()).catch(() => {})
  }

  /** Resolves when everything staged so far is in the table, or dropped. */
  drained(): Promise<void> {
    if (this.#held === 0) return Promise.resolve()
    return this.#waitFor(this.#readers, this.#last()).catch(() => {})
  }

  /** The last flush there is anything in. */
  #last(): number {
    return this.#writes.length > 0 ? this.#open : this.#open - 1
  }

  #waitFor(waiting: Map<number, (() => void)[]>, flush: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiter = { resolve, reject }
      this.#waiters.add(waiter)
      add(waiting, flush, () => {
        this.#waiters.delete(waiter)
        resolve()
      })
    })
  }

  /**
   * Forgets all that is not durable and all effects: the accounts are somebody else's now, and nothing may come of it any more.
   * Who waits for a promise of these is told TableUnavailable. What is staged from here on is of a new life.
   */
  drop(): void {
    this.#life++
    this.#writes = []
    this.#accounts = []
    this.#flushing = false
    this.#staged = 0
    this.#held = 0
    this.#heldBytes = 0
    this.#openBytes = 0
    this.#open++ // nothing that is waited for has this number any more
    for (const all of [this.#tickets, this.#lagging, this.#effects, this.#readers]) all.clear()
    const gone = new TableUnavailable('what was staged is dropped: this process owns the account no more')
    for (const { reject } of this.#waiters) reject(gone)
    this.#waiters.clear()
    this.#relieve()
  }

  async #flush(): Promise<void> {
    this.#scheduled = false
    this.#flushing = true
    const life = this.#life
    while (this.#writes.length > 0) {
      const writes = this.#writes
      const flush: Flush = {
        number: this.#open++,
        accounts: this.#accounts,
        rows: writes.length,
        bytes: this.#openBytes,
        durable: false,
        applied: false,
      }
      this.#writes = []
      this.#accounts = []
      this.#openBytes = 0
      await this.#destination.write(writes, () => {
        if (life === this.#life) this.#onApplied(flush)
      })
      if (life !== this.#life) return
      this.#onDurable(flush)
    }
    this.#flushing = false
  }

  #onDurable(flush: Flush): void {
    const { number, accounts } = flush
    const life = this.#life
    flush.durable = true
    this.#staged -= flush.rows
    this.#release(this.#effects, number)
    if (life !== this.#life) return
    for (const account of accounts) {
      if (this.#tickets.get(account) === number) this.#tickets.delete(account)
      if (!flush.applied) this.#lagging.set(account, number)
    }
    if (flush.applied) this.#end(flush)
  }

  #onApplied(flush: Flush): void {
    flush.applied = true
    if (!flush.durable) return // its effects come first
    for (const account of flush.accounts) if (this.#lagging.get(account) === flush.number) this.#lagging.delete(account)
    this.#end(flush)
  }

  #end({ number, rows, bytes }: Flush): void {
    this.#held -= rows
    this.#heldBytes -= bytes
    this.#release(this.#readers, number)
    this.#relieve()
  }

  /** What an effect does `after` this same flush comes behind those that wait already: the list grows while it runs. */
  #release(waiting: Map<number, (() => void)[]>, number: number): void {
    const life = this.#life
    for (const effect of waiting.get(number) ?? []) {
      this.#run(effect)
      if (life !== this.#life) return
    }
    waiting.delete(number)
  }

  #relieve(): void {
    if (this.#relief.length === 0 || this.#held > STAGED_ROWS_MAX / 2 || this.#heldBytes > STAGED_BYTES_MAX / 2) return
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

function add(waiting: Map<number, (() => void)[]>, flush: number, effect: () => void): void {
  const effects = waiting.get(flush)
  if (effects === undefined) waiting.set(flush, [effect])
  else effects.push(effect)
}

/** What a write takes of memory, about. */
function bytesOf(write: Write): number {
  if ('delete' in write) return ROW_COST_BYTES
  return ROW_COST_BYTES + write.put.value.length
}

export function keyOf(write: Write): Key {
  const { pk, sk } = 'put' in write ? write.put : write.delete
  return { pk, sk }
}

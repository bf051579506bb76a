// Staged commits: idea 3 of the architecture.
//
// Handlers do not wait for the Table. They stage writes and go on; what they send, and the ack, is released in order
// when the commit is durable. While a flush is under way the next one gathers. Where a flush goes is for the log to say that
// a commit is given: into the table at once (direct-log.ts), or into the owner's log, and into the table behind it
// (owner-log.ts). So there are two moments: `after` a commit is durable its effects are released, and whoever reads the
// table waits until it is `applied`. A log that cannot write tries for ever, with the effects held back.
//
// Where more gathers than a flush should have, accounts take turns (gathering.ts). Then a flush may have only the first part of
// what an account staged: effects and readers that wait for more of it move on to the next one, in their order.
import { checkRow } from '#table/rows.ts'
import { type Key, type Row, TableUnavailable } from '#table/table.ts'
import type { Log } from '../observing/log.ts'
import type { OfAccounts } from '../ownership/held.ts'
import { bytesOf, divide, FLUSH_BYTES, Gathering } from './gathering.ts'

/** Rows staged and not applied before an owner takes no further envelopes (`congested`). */
export const STAGED_ROWS_MAX = 20_000
/** The same in bytes: a row has up to 400 kB. */
export const STAGED_BYTES_MAX = 64 * 1024 * 1024
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

/** What waits for a flush, in order. In step: for whose writes, and up to which. */
interface Waiting {
  readonly calls: (() => void)[]
  readonly accounts: string[]
  readonly places: number[]
}

/** In the place of an account: it waits for what all have staged. */
const EVERYBODY = ''

interface Waiter {
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

export class Commit {
  readonly #destination: CommitLog
  readonly #log: Log
  /** The number of the flush that new writes go into. */
  #open = 1
  #gathered = new Gathering()
  /** Writes staged so far. */
  #place = 0
  /** What one account stages before this changes goes together. */
  #portion = 0
  #portionOpen = false
  #flushing = false
  #scheduled = false
  /** Not durable. */
  #staged = 0
  /** Not applied: those that are not durable among them. */
  #held = 0
  #heldBytes = 0
  /** The last flush each account has something in, while it is not durable. */
  readonly #tickets = new Map<string, number>()
  /** The same of what is durable, while it is not applied. */
  readonly #lagging = new Map<string, number>()
  /** Effects by the flush they wait for. */
  readonly #effects = new Map<number, Waiting>()
  /** The same of those that wait until it is applied. */
  readonly #readers = new Map<number, Waiting>()
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
    this.#gathered.add(write, account, ++this.#place, this.#portion)
    this.#staged++
    this.#held++
    this.#heldBytes += bytesOf(write)
    if (this.#tickets.get(account) !== this.#open) this.#tickets.set(account, this.#open)
    if (!this.#portionOpen) {
      this.#portionOpen = true
      queueMicrotask(this.#endPortion)
    }
    if (this.#flushing || this.#scheduled) return
    this.#scheduled = true
    queueMicrotask(() => void this.#flush())
  }

  readonly #endPortion = (): void => {
    this.#portionOpen = false
    this.#portion++
  }

  /**
   * Runs `effect` when all that was staged for the account is durable: at once where it is. Keeps the order of calls. Never where
   * the account is not ours any more: whoever has it does the same, and two would be heard.
   */
  after(account: string, effect: () => void): void {
    if (this.#holds !== undefined && account.includes('@') && !this.#holds(account)) return
    const ticket = this.#tickets.get(account)
    if (ticket === undefined) return effect()
    this.#add(this.#effects, ticket, account, effect)
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
    this.#add(this.#readers, flush, account, effect)
  }

  /**
   * Undefined where nothing of the account is on its way: it can be read from the table. Else resolves when all that was
   * staged is there. Rejects with TableUnavailable where it is dropped.
   */
  applied(account: string): Promise<void> | undefined {
    const flush = this.#unapplied(account)
    return flush === undefined ? undefined : this.#waitFor(this.#readers, flush, account)
  }

  #unapplied(account: string): number | undefined {
    return this.#tickets.get(account) ?? this.#lagging.get(account)
  }

  /** As `applied`, of what is durable: no reader may go by it. */
  durable(account: string): Promise<void> | undefined {
    const flush = this.#tickets.get(account)
    return flush === undefined ? undefined : this.#waitFor(this.#effects, flush, account)
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

  /** True while anything staged for any of these is not in the table. */
  anyOf(accounts: OfAccounts): boolean {
    for (const waiting of [this.#tickets, this.#lagging]) for (const account of waiting.keys()) if (accounts(account)) return true
    return false
  }

  /** Resolves when everything staged so far is durable, or dropped. */
  settled(): Promise<void> {
    if (this.#staged === 0) return Promise.resolve()
    return this.#waitFor(this.#effects, this.#last(), EVERYBODY).catch(() => {})
  }

  /** Resolves when everything staged so far is in the table, or dropped. */
  drained(): Promise<void> {
    if (this.#held === 0) return Promise.resolve()
    return this.#waitFor(this.#readers, this.#last(), EVERYBODY).catch(() => {})
  }

  /** The last flush there is anything in. */
  #last(): number {
    return this.#gathered.writes.length > 0 ? this.#open : this.#open - 1
  }

  #add(waiting: Map<number, Waiting>, flush: number, account: string, call: () => void): void {
    let list = waiting.get(flush)
    if (list === undefined) {
      list = { calls: [], accounts: [], places: [] }
      waiting.set(flush, list)
    }
    list.calls.push(call)
    list.accounts.push(account)
    list.places.push(this.#place)
  }

  #waitFor(waiting: Map<number, Waiting>, flush: number, account: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiter = { resolve, reject }
      this.#waiters.add(waiter)
      this.#add(waiting, flush, account, () => {
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
    this.#gathered = new Gathering()
    this.#flushing = false
    this.#staged = 0
    this.#held = 0
    this.#heldBytes = 0
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
    while (this.#gathered.writes.length > 0) {
      const number = this.#open++
      const { writes, accounts, bytes } = this.#takeGathered(number)
      const flush: Flush = { number, accounts, rows: writes.length, bytes, durable: false, applied: false }
      await this.#destination.write(writes, () => {
        if (life === this.#life) this.#onApplied(flush)
      })
      if (life !== this.#life) return
      this.#onDurable(flush)
    }
    this.#flushing = false
  }

  /** What goes with this flush. The rest is gathered for the next one, and so is what waits for it. */
  #takeGathered(number: number): Gathering {
    const gathered = this.#gathered
    this.#gathered = new Gathering()
    if (gathered.bytes <= FLUSH_BYTES) return gathered
    const { now, later } = divide(gathered)
    this.#gathered = later
    /** By account, the first of its writes that does not go. */
    const first = new Map<string, number>()
    for (const [i, account] of later.accounts.entries()) if (!first.has(account)) first.set(account, later.places[i]!)
    for (const account of first.keys()) this.#tickets.set(account, this.#open)
    for (const waiting of [this.#effects, this.#readers]) this.#moveOn(waiting, number, first)
    return now
  }

  #moveOn(waiting: Map<number, Waiting>, number: number, first: ReadonlyMap<string, number>): void {
    const list = waiting.get(number)
    if (list === undefined || first.size === 0) return
    const stays: Waiting = { calls: [], accounts: [], places: [] }
    const goes: Waiting = { calls: [], accounts: [], places: [] }
    for (const [i, account] of list.accounts.entries()) {
      const place = list.places[i]!
      const to = account === EVERYBODY || place >= (first.get(account) ?? Number.POSITIVE_INFINITY) ? goes : stays
      to.calls.push(list.calls[i]!)
      to.accounts.push(account)
      to.places.push(place)
    }
    waiting.set(number, stays)
    waiting.set(this.#open, goes) // which nobody has waited for yet
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
  #release(waiting: Map<number, Waiting>, number: number): void {
    const life = this.#life
    for (const effect of waiting.get(number)?.calls ?? []) {
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

export function keyOf(write: Write): Key {
  const { pk, sk } = 'put' in write ? write.put : write.delete
  return { pk, sk }
}

// What a module stores: a record, a map or a journal per account, over the Table.
//
// Records and maps of one account are one range of one key, read by one query and then kept in memory by the owner,
// who is their only writer: a change is visible here at once and staged for the Table (core/commits/commit.ts). A journal has
// a key of its own and is read from the Table (core/storage/journal.ts). Whatever is made here is deleted and exported with the
// account; journals by their names, for those of a module that is disabled are still there.

import { type Key, type Table, TableUnavailable } from '#table/table.ts'
import { StanzaError } from '#xmpp/error.ts'
import { randomId } from '#xmpp/id.ts'
import type { Jid } from '#xmpp/jid.ts'
import type { Commit, Write } from '../commits/commit.ts'
import type { Held, OfAccounts } from '../ownership/held.ts'
import { type AccountJournal, Journal, type JournalIds, journalKey, type OnAppend, Stretches } from './journal.ts'
import { type Readings, Unread } from './readings.ts'

export type { AccountJournal, JournalIds, JournalRange } from './journal.ts'

/** Accounts kept in memory: at most twice this, when both generations are full. */
export const CACHED_ACCOUNTS_MAX = 20_000
/** Names kept of accounts that do not exist; strangers choose them, so what is longer is read each time. */
export const ABSENT_ACCOUNTS_MAX = 10_000
const ABSENT_LENGTH_MAX = 64
/** The row without which an account does not exist. */
export const ACCOUNT_RECORD = 'account'
/** Rows that are deleted in one commit, and what they may have in them: an archive may have millions. */
const PURGED_AT_ONCE = 1_000
const PURGED_BYTES_AT_ONCE = 4 * 1024 * 1024

export type MaybePromise<T> = T | Promise<T>

export interface AccountRecord<T> {
  /** The value where it is cached, undefined where it must be read: for the hot path, which makes no closure. */
  peek(account: Jid): T | undefined
  /** Calls `use` with the value: at once where it is cached, else after one read. */
  read<R>(account: Jid, use: (value: T) => R): MaybePromise<R>
  /**
   * Changes the value and stages it. What `change` throws is thrown, and nothing is changed; so too with RangeError where
   * the value is over a row. Returning `before` itself writes nothing.
   */
  update(account: Jid, change: (before: T) => T): MaybePromise<{ readonly before: T; readonly after: T }>
}

export interface AccountMap<T> {
  read<R>(account: Jid, use: (entries: ReadonlyMap<string, T>) => R): MaybePromise<R>
  /** Writes one entry; undefined deletes it. The account must have been read in the same task. */
  set(account: Jid, key: string, value: T | undefined): MaybePromise<void>
}

/** What is done in the course of a purge. */
export interface PurgeSteps {
  /** Behind each portion, with how many rows it had: for others, whose writes wait meanwhile, to have their turn. */
  readonly portion?: (rows: number) => MaybePromise<void>
  /** Ahead of the last row. */
  readonly last?: () => MaybePromise<void>
}

/** A row of a record or a map under its key, or an entry of a journal under its id. */
export interface Stored {
  readonly id: string
  readonly value: Uint8Array
}

/** The rows of one account by key: as read until somebody asks, then the value; and the entries of a map, under its prefix. */
type Rows = Map<string, unknown>

/** An account that is being read. */
interface Loading {
  rows: Promise<Rows> | undefined
  /** The account was released meanwhile. */
  lost: boolean
}

export class Store {
  readonly #table: Table
  readonly #commit: Commit
  #young = new Map<string, Rows>()
  #old = new Map<string, Rows>()
  readonly #loading = new Map<string, Loading>()
  /** The names of all journals there are. */
  readonly journals: readonly string[]
  readonly #slim: ((row: unknown) => unknown) | undefined
  readonly #readings: Readings | undefined
  readonly #stretches = new Stretches()
  /** Forgotten while they were being read: what was read then may be older. */
  readonly #stale = new Set<string>()
  readonly #held: Pick<Held, 'has'> | undefined
  /** Accounts of which nothing is stored, oldest first; undefined where that is not kept. */
  #absent: Set<string> | undefined
  #onAppend: OnAppend | undefined
  /** Accounts that are being deleted. */
  readonly #sealed = new Set<string>()

  /**
   * @param journals the names of all there are, whoever keeps them
   * @param readings shared with the stores of the other roles of this process
   * @param slim what is kept in memory of an account's own row, in a role that only reads it: all, unless given
   * @param held whose rows may be kept in memory: everybody's, unless given
   */
  constructor(
    table: Table,
    commit: Commit,
    journals: readonly string[],
    readings?: Readings,
    slim?: (row: unknown) => unknown,
    held?: Pick<Held, 'has'>,
  ) {
    this.#held = held
    this.#table = table
    this.#commit = commit
    this.journals = journals
    this.#readings = readings
    this.#slim = slim
  }

  /**
   * From now on it is kept, too, that an account does not exist: for whoever makes them, and calls `forget` for each. Then
   * who asks for one name again and again cannot tell by the time it takes whether it is cached or nobody's.
   */
  keepAbsent(): void {
    this.#absent ??= new Set()
  }

  /** One JSON value per account. `empty` is what an account has that never wrote one; written, it is stored as no row. */
  record<T>(name: string, empty: T): AccountRecord<T> {
    const stored = (rows: Rows): T => {
      const known = rows.get(name)
      if (known === undefined) return empty
      if (!(known instanceof Unread)) return known as T
      const value = known.read() as T
      rows.set(name, value)
      return value
    }
    return {
      peek: (account) => {
        const rows = this.#cached(account.bare)
        return rows === undefined ? undefined : stored(rows)
      },
      read: (account, use) => this.#with(account.bare, (rows) => use(stored(rows))),
      update: (account, change) =>
        this.#with(account.bare, (rows) => {
          const before = stored(rows)
          const after = change(before)
          if (after === before) return { before, after }
          if (after !== empty) rows.set(name, this.#put(account.bare, name, after))
          else if (rows.delete(name)) this.#remove(account.bare, name)
          return { before, after }
        }),
    }
  }

  /** One JSON value per account and key, for what grows: a change writes one row. */
  map<T>(name: string): AccountMap<T> {
    const prefix = `${name}#`
    const entriesOf = (rows: Rows): Map<string, T> => {
      const known = rows.get(prefix)
      if (known !== undefined) return known as Map<string, T>
      const entries = new Map<string, T>()
      for (const [sk, raw] of rows) {
        if (!(raw instanceof Unread) || !sk.startsWith(prefix)) continue
        entries.set(sk.slice(prefix.length), raw.read() as T)
        rows.delete(sk)
      }
      rows.set(prefix, entries)
      return entries
    }
    return {
      read: (account, use) => this.#with(account.bare, (rows) => use(entriesOf(rows))),
      set: (account, key, value) =>
        this.#with(account.bare, (rows) => {
          const entries = entriesOf(rows)
          if (value !== undefined) {
            entries.set(key, this.#put(account.bare, prefix + key, value) as T)
          } else if (entries.delete(key)) {
            this.#remove(account.bare, prefix + key)
          }
        }),
    }
  }

  journal(name: string, ids?: JournalIds): AccountJournal {
    const demandOpen = (account: string): void => this.#demandOpen(account)
    const appended: OnAppend = (account, id, cause) => this.#onAppend?.(account, id, cause)
    return new Journal(name, ids, this.#table, this.#commit, this.#stretches, demandOpen, appended)
  }

  /** Whom to tell of each entry that is added to a journal. */
  onAppend(onAppend: OnAppend): void {
    this.#onAppend = onAppend
  }

  /**
   * From now on nothing is written of the account: it is being deleted, and what a task would write that has begun already
   * would be there for the next one who takes the name. Writing throws service-unavailable.
   */
  seal(account: string): void {
    this.#sealed.add(account)
  }

  /** The account is deleted, or stays. */
  unseal(account: string): void {
    this.#sealed.delete(account)
  }

  isSealed(account: string): boolean {
    return this.#sealed.size > 0 && this.#sealed.has(account)
  }

  #demandOpen(account: string): void {
    if (this.isSealed(account)) throw new StanzaError('service-unavailable', 'the account is gone')
  }

  /** Drops what is cached of an account: somebody else has changed it. */
  forget(account: string): void {
    this.#stretches.forget() // who has the name next has nothing in his threads
    this.#young.delete(account)
    this.#old.delete(account)
    this.#absent?.delete(account)
    this.#readings?.drop(account)
    if (this.#loading.has(account)) this.#stale.add(account)
  }

  /**
   * These accounts are somebody else's from now on, or have been: nothing is known of them any more. Whoever is waiting for a
   * read of one is told TableUnavailable.
   */
  release(gone: OfAccounts): void {
    this.#stretches.forget()
    for (const cached of [this.#young, this.#old]) for (const account of cached.keys()) if (gone(account)) cached.delete(account)
    for (const names of [this.#absent, this.#sealed]) for (const name of names ?? []) if (gone(name)) names!.delete(name)
    for (const [account, loading] of this.#loading) {
      if (!gone(account)) continue
      loading.lost = true
      this.#loading.delete(account)
    }
    this.#readings?.dropAll(gone)
  }

  /** As `forget`, of those accounts that are cached. */
  forgetAll(which: OfAccounts): void {
    for (const cached of [this.#young, this.#old, this.#loading])
      for (const account of [...cached.keys()]) if (which(account)) this.forget(account)
  }

  /**
   * As they are stored: the rows of an account's records and maps, under their keys, or the entries of a journal; behind
   * `after`, in their order. What is staged here is among them.
   */
  async *export(account: Jid, { journal, after = '' }: { journal?: string; after?: string } = {}): AsyncIterable<Stored> {
    if (journal !== undefined) {
      const range = { after: after === '' ? undefined : after, limit: Number.MAX_SAFE_INTEGER - 2 }
      for await (const { id, entry } of this.journal(journal).range(account, range)) yield { id, value: entry }
      return
    }
    await this.#commit.applied(account.bare)
    for await (const { sk, value } of this.#table.query(accountKey(account.bare), { from: after })) {
      if (sk !== after) yield { id: sk, value }
    }
  }

  /**
   * Deletes every row and journal of an account, and last of all the row without which it does not exist: a process that dies
   * in between leaves an account that can be deleted again, and nothing for whoever would have the name next. Durable when
   * it resolves. What a step throws, it throws; rows that are deleted by then stay deleted.
   */
  async purge(account: string, { portion = NOTHING, last = NOTHING }: PurgeSteps = {}): Promise<void> {
    await this.#commit.applied(account) // a row that is staged would outlive this
    this.#readings?.drop(account)
    for (const name of this.journals) await this.#purgeRows(account, journalKey(name, account), portion)
    const pk = accountKey(account)
    await this.#purgeRows(account, pk, portion, ACCOUNT_RECORD)
    await last()
    this.#commit.stage(account, { delete: { pk, sk: ACCOUNT_RECORD } })
    await this.#commit.applied(account)
    this.forget(account)
  }

  async #purgeRows(account: string, pk: string, portion: NonNullable<PurgeSteps['portion']>, but?: string): Promise<void> {
    let staged = 0
    let bytes = 0
    for await (const { sk, version, value } of this.#table.query(pk)) {
      if (sk === but) continue
      this.#commit.stage(account, deletionOf({ pk, sk }, version))
      bytes += value.length
      if (++staged < PURGED_AT_ONCE && bytes < PURGED_BYTES_AT_ONCE) continue
      await this.#commit.applied(account)
      await portion(staged)
      staged = 0
      bytes = 0
    }
    await this.#commit.applied(account)
    if (staged > 0) await portion(staged)
  }

  /** Resolves when what was staged of the account is in the table. */
  async applied(account: string): Promise<void> {
    await this.#commit.applied(account)
  }

  /** The version of a row that whoever owns the account puts himself, past what is staged (core/commits/commit.ts). */
  newVersion(): string {
    return this.#commit.newVersion()
  }

  /** Gives the value as it will be read: its texts are its own, and pin nothing that they were cut from. */
  #put(account: string, sk: string, value: unknown): unknown {
    const text = JSON.stringify(value)
    this.#demandOpen(account)
    this.#absent?.delete(account)
    const row = { pk: accountKey(account), sk, version: randomId(), value: Buffer.from(text, 'utf8') }
    this.#stage(account, { put: row })
    return JSON.parse(text)
  }

  #remove(account: string, sk: string): void {
    this.#stage(account, { delete: { pk: accountKey(account), sk } })
  }

  /** What was read before it is in the table is not to be gone by. */
  #stage(account: string, write: Write): void {
    this.#commit.stage(account, write)
    const readings = this.#readings
    if (readings === undefined) return
    readings.drop(account)
    this.#commit.afterApplied(account, () => readings.drop(account))
  }

  #with<R>(account: string, use: (rows: Rows) => R): MaybePromise<R> {
    const rows = this.#cached(account)
    return rows === undefined ? this.#load(account).then(use) : use(rows)
  }

  #cached(account: string): Rows | undefined {
    const young = this.#young.get(account)
    if (young !== undefined) return young
    const old = this.#old.get(account)
    if (old !== undefined) this.#keep(account, old)
    else if (this.#absent?.has(account)) return new Map()
    return old
  }

  #load(account: string): Promise<Rows> {
    const known = this.#loading.get(account)?.rows
    if (known !== undefined) return known
    const loading: Loading = { rows: undefined, lost: false }
    this.#loading.set(account, loading)
    loading.rows = this.#query(account, loading).finally(() => {
      if (this.#loading.get(account) === loading) this.#loading.delete(account)
    })
    return loading.rows
  }

  async #query(account: string, loading: Loading): Promise<Rows> {
    let rows: Rows
    do {
      this.#stale.delete(account)
      const applied = this.#commit.applied(account)
      if (applied !== undefined) await applied
      const known = this.#taken(account) ?? (await this.#read(account))
      rows = new Map(known)
      this.#slimDown(rows)
      if (loading.lost) throw new TableUnavailable('the account has another owner by now')
    } while (this.#stale.has(account))
    if (this.#held?.has(account) === false) return rows // read as it is now: nobody would tell us that it changes
    if (rows.has(ACCOUNT_RECORD)) this.#keep(account, rows)
    else if (rows.size === 0) this.#keepAbsence(account)
    return rows
  }

  /** What another role has read: not of an account that is not ours here, for nobody would drop that when it is written. */
  #taken(account: string): ReadonlyMap<string, Unread> | undefined {
    return this.#held?.has(account) === false ? undefined : this.#readings?.take(account)
  }

  async #read(account: string): Promise<ReadonlyMap<string, Unread>> {
    // Of an account that is not ours nobody tells when it is written.
    const reading = this.#held?.has(account) === false ? undefined : this.#readings?.begin(account)
    const rows = new Map<string, Unread>()
    for await (const { sk, value } of this.#table.query(accountKey(account))) rows.set(sk, new Unread(value))
    if (reading === undefined) return rows
    if (rows.has(ACCOUNT_RECORD)) reading.rows = rows
    else this.#readings!.drop(account) // strangers choose the names
    return rows
  }

  #slimDown(rows: Rows): void {
    if (this.#slim === undefined) return
    const row = rows.get(ACCOUNT_RECORD)
    if (row instanceof Unread) rows.set(ACCOUNT_RECORD, this.#slim(row.read()))
  }

  #keepAbsence(account: string): void {
    const absent = this.#absent
    // A domain of ours is no account, and another process may write what is kept of it.
    if (absent === undefined || account.length > ABSENT_LENGTH_MAX || !account.includes('@')) return
    if (absent.size >= ABSENT_ACCOUNTS_MAX) absent.delete(absent.values().next().value!)
    absent.add(account)
  }

  #keep(account: string, rows: Rows): void {
    if (this.#young.size >= CACHED_ACCOUNTS_MAX) {
      for (const [name, kept] of this.#old) if (this.#commit.pending(name)) this.#young.set(name, kept)
      this.#old = this.#young
      this.#young = new Map()
    }
    this.#young.set(account, rows)
  }
}

const NOTHING = (): void => {}

/**
 * Of a row that was read, whichever role has written it: all that is as old as that is gone. A row whose version says nothing
 * of its age is one of many that are written in batches, and deleted so.
 */
function deletionOf(key: Key, version: string): Write {
  return version.startsWith('~') ? { delete: key, order: 'own', version: `${version}~` } : { delete: key, order: 'free' }
}

function accountKey(account: string): string {
  return `a#${account}`
}

// What a module stores: a record, a map or a journal per account, over the Table.
//
// Records and maps of one account are one range of one key, read by one query and then kept in memory by the owner,
// who is their only writer: a change is visible here at once and staged for the Table (core/commit.ts). A journal has
// a key of its own and is read from the Table. Whatever is made here is deleted and exported with the account; journals by
// their names, for those of a module that is disabled are still there.

import type { Table } from '#table/table.ts'
import { randomId } from '#xmpp/id.ts'
import type { Jid } from '#xmpp/jid.ts'
import type { Commit } from './commit.ts'

/** Accounts kept in memory: at most twice this, when both generations are full. */
export const CACHED_ACCOUNTS_MAX = 20_000
/** The row without which an account does not exist. */
export const ACCOUNT_RECORD = 'account'

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

export interface JournalRange {
  readonly after?: string
  readonly before?: string
  readonly reverse?: boolean
  readonly limit: number
}

export interface AccountJournal {
  /** Idempotent by `id`, which sorts by time. */
  append(account: Jid, id: string, entry: Uint8Array, expiresAtS?: number): void
  /** Both ends exclusive. Sees what was appended before the call. */
  range(account: Jid, range: JournalRange): AsyncIterable<{ readonly id: string; readonly entry: Uint8Array }>
  remove(account: Jid, id: string): void
}

/** The rows of one account: bytes until somebody asks, then the value. */
interface Rows {
  readonly raw: Map<string, Uint8Array>
  readonly values: Map<string, unknown>
}

export class Store {
  readonly #table: Table
  readonly #commit: Commit
  #young = new Map<string, Rows>()
  #old = new Map<string, Rows>()
  readonly #loading = new Map<string, Promise<Rows>>()
  readonly #journals: readonly string[]
  /** Forgotten while they were being read: what was read then may be older. */
  readonly #stale = new Set<string>()

  /** @param journals the names of all there are, whoever keeps them */
  constructor(table: Table, commit: Commit, journals: readonly string[]) {
    this.#table = table
    this.#commit = commit
    this.#journals = journals
  }

  /** One JSON value per account. `empty` is what an account has that never wrote one. */
  record<T>(name: string, empty: T): AccountRecord<T> {
    const stored = (rows: Rows): T => {
      const known = rows.values.get(name)
      if (known !== undefined) return known as T
      const raw = rows.raw.get(name)
      const value = raw === undefined ? empty : (parse(raw) as T)
      rows.values.set(name, value)
      rows.raw.delete(name)
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
          if (after !== before) {
            this.#put(account.bare, name, after)
            rows.values.set(name, after)
          }
          return { before, after }
        }),
    }
  }

  /** One JSON value per account and key, for what grows: a change writes one row. */
  map<T>(name: string): AccountMap<T> {
    const prefix = `${name}#`
    const entriesOf = (rows: Rows): Map<string, T> => {
      const known = rows.values.get(prefix)
      if (known !== undefined) return known as Map<string, T>
      const entries = new Map<string, T>()
      for (const [sk, raw] of rows.raw) {
        if (!sk.startsWith(prefix)) continue
        entries.set(sk.slice(prefix.length), parse(raw) as T)
        rows.raw.delete(sk)
      }
      rows.values.set(prefix, entries)
      return entries
    }
    return {
      read: (account, use) => this.#with(account.bare, (rows) => use(entriesOf(rows))),
      set: (account, key, value) =>
        this.#with(account.bare, (rows) => {
          const entries = entriesOf(rows)
          if (value !== undefined) {
            this.#put(account.bare, prefix + key, value)
            entries.set(key, value)
          } else if (entries.delete(key)) {
            this.#commit.stage(account.bare, { delete: { pk: accountKey(account.bare), sk: prefix + key } })
          }
        }),
    }
  }

  journal(name: string): AccountJournal {
    const commit = this.#commit
    const table = this.#table
    return {
      append: (account, id, entry, expiresAtS) => {
        const key = { pk: journalKey(name, account.bare), sk: id, version: randomId(), value: entry }
        commit.stage(account.bare, { put: expiresAtS === undefined ? key : { ...key, expiresAtS } })
      },
      remove: (account, id) => commit.stage(account.bare, { delete: { pk: journalKey(name, account.bare), sk: id } }),
      async *range(account, { after, before, reverse, limit }) {
        await new Promise<void>((resolve) => commit.after(account.bare, resolve)) // what is staged is read, too
        let left = limit
        const bounds = { ...(after !== undefined && { from: after }), ...(before !== undefined && { to: before }) }
        for await (const row of table.query(journalKey(name, account.bare), {
          ...bounds,
          reverse: reverse ?? false,
          limit: limit + 2,
        })) {
          if (row.sk === after || row.sk === before) continue
          if (left-- <= 0) return
          yield { id: row.sk, entry: row.value }
        }
      },
    }
  }

  /** Drops what is cached of an account: somebody else has changed it. */
  forget(account: string): void {
    this.#young.delete(account)
    this.#old.delete(account)
    if (this.#loading.has(account)) this.#stale.add(account)
  }

  /** Deletes every row and journal of an account. Durable when it resolves. */
  async purge(account: string): Promise<void> {
    const keys = [accountKey(account), ...this.#journals.map((name) => journalKey(name, account))]
    await new Promise<void>((resolve) => this.#commit.after(account, resolve)) // a row that is staged would outlive this
    for (const pk of keys) {
      const rows: string[] = []
      for await (const row of this.#table.query(pk)) rows.push(row.sk)
      for (const sk of rows) this.#commit.stage(account, { delete: { pk, sk } })
    }
    await new Promise<void>((resolve) => this.#commit.after(account, resolve))
    this.forget(account)
  }

  #put(account: string, sk: string, value: unknown): void {
    const row = { pk: accountKey(account), sk, version: randomId(), value: Buffer.from(JSON.stringify(value), 'utf8') }
    this.#commit.stage(account, { put: row })
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
    return old
  }

  #load(account: string): Promise<Rows> {
    const loading = this.#loading.get(account)
    if (loading !== undefined) return loading
    const started = this.#query(account).finally(() => this.#loading.delete(account))
    this.#loading.set(account, started)
    return started
  }

  async #query(account: string): Promise<Rows> {
    const raw = new Map<string, Uint8Array>()
    do {
      raw.clear()
      this.#stale.delete(account)
      if (this.#commit.pending(account)) await new Promise<void>((resolve) => this.#commit.after(account, resolve))
      for await (const row of this.#table.query(accountKey(account))) raw.set(row.sk, row.value)
    } while (this.#stale.has(account))
    const rows = { raw, values: new Map() }
    if (raw.has(ACCOUNT_RECORD)) this.#keep(account, rows) // what is not there may be made by another process at any time
    return rows
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

function accountKey(account: string): string {
  return `a#${account}`
}

function journalKey(name: string, account: string): string {
  return `j#${name}#${account}`
}

function parse(bytes: Uint8Array): unknown {
  return JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8'))
}

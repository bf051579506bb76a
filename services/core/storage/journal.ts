// A journal: a sequence of entries per account, read from the Table in the order of their ids.
//
//   pk = j#mam#romeo@example.org   sk = 00mh3k7q2c0001-q7Zk3mXw9aE    an entry, under its id
//                                  sk = ~juliet@example.org 00mh3k    of the thread with Juliet, something is in this stretch
//
// A thread is what was said with one peer. It has no copy of its entries, nor a row for each: it says in which stretches
// of 28 minutes (core/storage/archive-id.ts) it has any, and is read by passing over all others. That is one empty row for a
// conversation, however much is said in it. Measured on SQLite, for one message in two archives, each with a row of 280
// bytes: 37 µs of CPU and 860 bytes without threads; with a row per entry that points to it 49 µs and 1060 bytes, with one
// that repeats it 77 µs and 1720 bytes. Where 20 peers took turns, there was one such row for ten messages, and a page of 50
// cost 0.8 ms; by pointers it is 0.7, by copies 0.3, and of the whole 0.25. Pages are read too seldom to earn the rest back.
import { createHash } from 'node:crypto'
import type { Row, Table } from '#table/table.ts'
import { randomId } from '#xmpp/id.ts'
import type { Jid } from '#xmpp/jid.ts'
import type { Commit } from '../commits/commit.ts'
import { madeBuffer } from '../garbage.ts'
import { archiveIdStretch, STRETCH_S } from './archive-id.ts'

/**
 * 'unique': no id is ever used for two entries, so that they can be written in batches, and one that has been removed does no
 * harm if it is found again (core/commits/commit.ts, `order`). As archive ids are, in an archive.
 */
export type JournalIds = 'unique' | undefined

export interface JournalRange {
  readonly after?: string | undefined
  readonly before?: string | undefined
  readonly reverse?: boolean
  /** Reads only the stretches in which this thread has entries. Others have theirs there, too: `only` tells them apart. */
  readonly thread?: string | undefined
  /** Which entries are wanted; they alone count against `limit`. Must not keep what it is given. */
  readonly only?: ((entry: Uint8Array) => boolean) | undefined
  readonly limit: number
}

/** Told of each entry that is staged. */
export type OnAppend = (account: string, id: string, cause?: string) => void

export interface AccountJournal {
  /**
   * Idempotent by `id`, which sorts by time and before `~`. With `threads` it is an archive id, whose time `expiresAtS`
   * follows, so that a thread does not expire before its entries; and the journal's ids are unique. The `cause` is kept with it:
   * by that it is recognised when it comes again (core/ownership/recall.ts). Throws RangeError where the entry is over a row, and
   * service-unavailable where the account is being deleted.
   */
  append(account: Jid, id: string, entry: Uint8Array, expiresAtS?: number, threads?: readonly string[], cause?: string): void
  /** Both ends exclusive. Sees what was appended before the call. An entry may be a view of a page of a megabyte. */
  range(account: Jid, range: JournalRange): AsyncIterable<{ readonly id: string; readonly entry: Uint8Array }>
  /** One entry, also one that was appended before the call; undefined where there is none. */
  get(account: Jid, id: string): Promise<Uint8Array | undefined>
  remove(account: Jid, id: string): void
  /** No thread is any more in a stretch that ends before this id: what it had there has been removed. */
  trimThreads(account: Jid, id: string): Promise<void>
}

/** Behind every id, and before which nothing else is. */
const BEHIND_IDS = '~'
/** Rows of threads that are deleted in one commit. */
const TRIMMED_AT_ONCE = 1_000
/** What is longer is hashed: a key of DynamoDB has 1024 bytes, an address up to 2047, and many threads are remembered. */
const THREAD_UNITS_MAX = 128
/** Threads whose latest stretch is remembered; the next time, they are written again. */
const STRETCHES_MAX = 20_000

/** The latest stretch of each thread that was written not long ago: nothing is written twice, but for what is forgotten. */
export class Stretches {
  readonly #latest = new Map<string, string>()

  /** Whether it has to be written. `thread` names the journal, too. */
  isNew(thread: string, stretch: string): boolean {
    if (this.#latest.get(thread) === stretch) return false
    if (this.#latest.size >= STRETCHES_MAX) this.forget()
    this.#latest.set(thread, stretch)
    return true
  }

  forget(): void {
    this.#latest.clear()
  }
}

export class Journal implements AccountJournal {
  readonly #name: string
  readonly #order: 'free' | undefined
  readonly #table: Table
  readonly #commit: Commit
  readonly #stretches: Stretches
  readonly #demandOpen: (account: string) => void
  readonly #onAppend: OnAppend

  /** @param demandOpen throws where nothing may be written of an account any more */
  constructor(
    name: string,
    ids: JournalIds,
    table: Table,
    commit: Commit,
    stretches: Stretches,
    demandOpen: (account: string) => void,
    onAppend: OnAppend,
  ) {
    this.#name = name
    this.#order = ids === 'unique' ? 'free' : undefined
    this.#table = table
    this.#commit = commit
    this.#stretches = stretches
    this.#demandOpen = demandOpen
    this.#onAppend = onAppend
  }

  append(account: Jid, id: string, entry: Uint8Array, expiresAtS?: number, threads?: readonly string[], cause?: string): void {
    this.#demandOpen(account.bare)
    const pk = journalKey(this.#name, account.bare)
    this.#put(account, pk, id, entry, expiresAtS, cause) // first: what is refused has no threads
    this.#onAppend(account.bare, id, cause)
    if (threads === undefined) return
    const stretch = archiveIdStretch(id)
    const lastS = expiresAtS === undefined ? undefined : expiresAtS + STRETCH_S
    for (const thread of threads) {
      const prefix = threadKey(thread) // bounded, and so is what is remembered by it
      if (this.#stretches.isNew(pk + prefix, stretch)) this.#put(account, pk, prefix + stretch, NOTHING, lastS)
    }
  }

  #put({ bare }: Jid, pk: string, sk: string, value: Uint8Array, expiresAtS: number | undefined, cause = ''): void {
    const version = cause === '' ? randomId() : cause
    this.#commit.stage(bare, {
      put: expiresAtS === undefined ? { pk, sk, version, value } : { pk, sk, version, value, expiresAtS },
      order: this.#order,
    })
  }

  remove(account: Jid, id: string): void {
    this.#commit.stage(account.bare, { delete: { pk: journalKey(this.#name, account.bare), sk: id }, order: this.#order })
  }

  async trimThreads(account: Jid, id: string): Promise<void> {
    const pk = journalKey(this.#name, account.bare)
    const oldest = archiveIdStretch(id)
    let staged = 0
    for await (const { sk } of this.#table.query(pk, { from: BEHIND_IDS })) {
      if (sk.slice(-oldest.length) >= oldest) continue
      this.#commit.stage(account.bare, { delete: { pk, sk }, order: this.#order })
      if (++staged % TRIMMED_AT_ONCE === 0) await this.#commit.applied(account.bare)
    }
  }

  async get(account: Jid, id: string): Promise<Uint8Array | undefined> {
    await this.#commit.applied(account.bare) // what is staged is read, too
    const row = await this.#table.get({ pk: journalKey(this.#name, account.bare), sk: id })
    this.#commit.demandHeld(account.bare)
    if (row !== undefined) madeBuffer(row.value)
    return row?.value
  }

  async *range(account: Jid, { after, before, reverse, thread, only, limit }: JournalRange) {
    await this.#commit.applied(account.bare)
    const pk = journalKey(this.#name, account.bare)
    const way = reverse === true
    // Both ends are exclusive here and inclusive there, hence two more.
    const rows =
      thread === undefined
        ? this.#table.query(pk, {
            ...(after !== undefined && { from: after }),
            to: before ?? BEHIND_IDS,
            reverse: way,
            ...(only === undefined && { limit: limit + 2 }),
          })
        : this.#inStretches(pk, threadKey(thread), after, before, way)
    let left = limit
    for await (const { sk, value } of rows) {
      this.#commit.demandHeld(account.bare)
      madeBuffer(value)
      if (sk === after || sk === before || only?.(value) === false) continue
      if (left-- <= 0) return
      yield { id: sk, entry: value }
    }
    this.#commit.demandHeld(account.bare) // that there is no more is an answer, too
  }

  /** All entries of the stretches that a thread is in, one stretch after the other. */
  async *#inStretches(pk: string, prefix: string, after = '', before = BEHIND_IDS, reverse: boolean): AsyncIterable<Row> {
    const stretches = { from: prefix + archiveIdStretch(after), to: prefix + archiveIdStretch(before), reverse }
    for await (const { sk } of this.#table.query(pk, stretches)) {
      let from = sk.slice(prefix.length)
      let to = from + BEHIND_IDS
      if (after > from) from = after
      if (before < to) to = before
      for await (const row of this.#table.query(pk, { from, to, reverse })) yield row
    }
  }
}

/** All rows of a journal have it, those of its threads among them. */
export function journalKey(name: string, account: string): string {
  return `j#${name}#${account}`
}

/** What the rows of a thread begin with, and those of no other: a name that is written out has no space. */
function threadKey(thread: string): string {
  if (thread.length <= THREAD_UNITS_MAX && !thread.includes(' ')) return `~${thread} `
  return `~ ${createHash('sha256').update(thread, 'utf8').digest('base64url')} `
}

const NOTHING = new Uint8Array(0)

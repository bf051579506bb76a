// The storage contract: what DynamoDB and SQLite can both do at the same cost.
//
// Keys, as they are stored:
//
//   pk = a#romeo@example.org           sk = account            credentials and what the account is (core/storage/accounts.ts)
//                                      sk = roster#juliet@…    a map: one row per key               (core/storage/store.ts)
//                                      sk = blocking           a record: one row                    (core/storage/store.ts)
//   pk = j#offline#romeo@example.org   sk = <id>               a journal: one row per entry, in order of ids (core/storage/journal.ts)
//   pk = j#mam#romeo@example.org       sk = ~juliet@… <time>   of a thread, something is in this stretch of time; no value
//   pk = u#example.org#<00..0f>        sk = romeo              the list of a domain's accounts, over 16 keys
//   pk = g#example.org                 sk = staff/<id>         a group of the domain, or a part of its members (core/groups/group-rows.ts)
//   pk = o#groups                      sk = example.org        which groups the domain has (core/groups/group-rows.ts)
//   pk = o#removals                    sk = <hash>             an account that is being deleted (router/removal.ts)
//   pk = o#login                       sk = salt-secret        for the salts of accounts that do not exist (core/storage/auth.ts)
//   pk = o#secrets                     sk = resume             a secret of all processes in common (core/storage/shared-secret.ts)
//   pk = o#router, o#presence          sk = archive-ids        how far a role's archive ids have gone (core/storage/archive-id.ts)
//   pk = o#lease                       sk = <process>          a process of the cluster lives (core/ownership/leases.ts)
//   pk = o#owners                      sk = router, presence   who owns which partitions in the role (core/ownership/owners-row.ts)
//   pk = l#<process>#<role>            sk = <n>                one flush of an owner, or a part of it; the seal (core/commits/log-item.ts)
//   pk = health                        sk = probe              read to see whether the table answers, never written (web/health.ts)

export interface Key {
  readonly pk: string
  readonly sk: string
}

/** `version` is random and made by the writer: it works in batches, and after a lost answer it tells "it was I". */
export interface Row extends Key {
  readonly version: string
  readonly value: Uint8Array
  /** Seconds since 1970. From then on the row is as good as gone: no read returns it. */
  readonly expiresAtS?: number
}

export interface Range {
  readonly from?: string
  readonly to?: string
  readonly reverse?: boolean
  readonly limit?: number
}

/**
 * What must hold of the stored version for a write to be done: it is this one; there is none, for ''; or there is none or it
 * is older, which is to sort before this one by UTF-8 bytes. The last is for writers whose versions rise: done in any order,
 * late or twice, of all their writes to a row the greatest stays. So that this holds of deletions, too, one with `olderThan`
 * leaves a tombstone for TOMBSTONE_S: a row with that version, which no read returns, and which is absent to '' and to a
 * version. A row whose time is up may still be there to `olderThan`, or not any more.
 */
export type Condition = string | { readonly olderThan: string }

/** One ordered key-value table. Rows of one `pk` are kept in `sk` order (UTF-8 bytes). Reads are strongly consistent. */
export interface Table {
  get(key: Key): Promise<Row | undefined>
  /**
   * Writes one row, at most 400 kB (else RangeError). Overwrites without a condition; with one that does not hold, rejects
   * with VersionConflict. Resolves when durable. Unconditional writes of one turn are sent together. After TableUnavailable it
   * may have been done, or be done yet: made again, it may meet its own row, which its version tells.
   */
  put(row: Row, condition?: Condition): Promise<void>
  /** As `put`. Deleting what is not there is no fault, unless the condition names a version. */
  delete(key: Key, condition?: Condition): Promise<void>
  /** Streams a range, both ends inclusive. One page is at most 1 MB, the first may be less, and is fetched when reached. */
  query(pk: string, range?: Range): AsyncIterable<Row>
}

/** A driver: a table that can be closed. What was put before is durable when `close` resolves. */
export interface ClosableTable extends Table {
  close(): Promise<void>
}

/**
 * Told of every request that a table makes of a service beyond this process: which, how it ended (`ok`, or in one word why not),
 * how long it took, and the units of reading and writing that the service counts for it.
 */
export type TableMeter = (operation: string, outcome: string, ms: number, readUnits: number, writeUnits: number) => void

export const ROW_BYTES_MAX = 400_000
/** How long a tombstone stays. A write that comes later than that would bring its row back: none is under way for a day. */
export const TOMBSTONE_S = 86_400

export class VersionConflict extends Error {
  constructor(key: Key) {
    super(`version conflict on ${key.pk} ${key.sk}`)
    this.name = 'VersionConflict'
  }
}

/** Throttled, timed out or away: the same call may succeed later. Rises through modules untouched; the lane tries again. */
export class TableUnavailable extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'TableUnavailable'
  }
}

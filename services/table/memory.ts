// The table in memory, for unit tests.
//
// One sorted list of sort keys per partition key. Values are copied in and out, so that a test cannot change what is stored by
// changing what it holds; everything else is as the durable drivers do it, on a clock the test may turn.
import { checkCondition, checkKey, checkRow, compareUtf8, tombstoneExpiresAtS } from './rows.ts'
import { type ClosableTable, type Condition, type Key, type Range, type Row, TableUnavailable, VersionConflict } from './table.ts'

export interface MemoryTableOptions {
  /** Milliseconds since 1970, as Date.now. */
  now?: () => number
}

/** A table that is gone with the process. Expired rows are dropped when something looks at them. */
export function memoryTable(options: MemoryTableOptions = {}): ClosableTable {
  return new MemoryTable(options.now ?? Date.now)
}

/** As small as to be met in tests: a caller that changes the range while reading it sees it on the next page. */
const PAGE_ROWS = 100

interface Partition {
  /** In order of UTF-8 bytes. */
  readonly sks: string[]
  readonly rows: Map<string, Row>
}

class MemoryTable implements ClosableTable {
  readonly #partitions = new Map<string, Partition>()
  readonly #now: () => number
  #closed = false

  constructor(now: () => number) {
    this.#now = now
  }

  async get(key: Key): Promise<Row | undefined> {
    this.#checkOpen()
    checkKey(key.pk, key.sk)
    const row = this.#live(key)
    return row && copyOf(row)
  }

  async put(row: Row, condition?: Condition): Promise<void> {
    this.#checkOpen()
    checkRow(row)
    this.#check(row, condition)
    this.#store(copyOf(row))
  }

  #store(row: Row): void {
    let partition = this.#partitions.get(row.pk)
    if (!partition) {
      partition = { sks: [], rows: new Map() }
      this.#partitions.set(row.pk, partition)
    }
    if (!partition.rows.has(row.sk)) partition.sks.splice(firstFrom(partition.sks, row.sk), 0, row.sk)
    partition.rows.set(row.sk, row)
  }

  async delete(key: Key, condition?: Condition): Promise<void> {
    this.#checkOpen()
    checkKey(key.pk, key.sk)
    this.#check(key, condition)
    if (typeof condition === 'object') this.#store(this.#tombstone(key, condition.olderThan))
    else if (condition !== '') this.#remove(key)
  }

  #tombstone({ pk, sk }: Key, version: string): Row {
    return { pk, sk, version, value: NOTHING, expiresAtS: tombstoneExpiresAtS(this.#now() / 1000) }
  }

  async *query(pk: string, range: Range = {}): AsyncGenerator<Row> {
    const { from = '', to, reverse = false } = range
    let left = range.limit ?? Number.POSITIVE_INFINITY
    let after: string | undefined
    while (left > 0) {
      this.#checkOpen()
      checkKey(pk, from + (to ?? ''))
      const sks = this.#partitions.get(pk)?.sks ?? []
      let start = firstFrom(sks, from)
      let end = to === undefined ? sks.length : firstBeyond(sks, to)
      if (after !== undefined && reverse) end = Math.min(end, firstFrom(sks, after))
      else if (after !== undefined) start = Math.max(start, firstBeyond(sks, after))
      if (start >= end) return
      const page = reverse
        ? sks.slice(Math.max(start, end - PAGE_ROWS), end).reverse()
        : sks.slice(start, Math.min(end, start + PAGE_ROWS))
      for (const sk of page) {
        const row = this.#live({ pk, sk })
        if (row) {
          yield copyOf(row)
          if (--left <= 0) return
        }
      }
      after = page.at(-1)
    }
  }

  async close(): Promise<void> {
    this.#closed = true
  }

  #live(key: Key): Row | undefined {
    const row = this.#partitions.get(key.pk)?.rows.get(key.sk)
    if (row?.expiresAtS === undefined || row.expiresAtS * 1000 > this.#now()) return row
    if (row.expiresAtS * 1000 >= -this.#now()) this.#remove(key)
    return undefined
  }

  #check(key: Key, condition: Condition | undefined): void {
    if (condition === undefined) return
    checkCondition(condition)
    const live = this.#live(key)
    if (typeof condition === 'string') {
      if ((live?.version ?? '') !== condition) throw new VersionConflict(key)
      return
    }
    const stored = this.#partitions.get(key.pk)?.rows.get(key.sk)
    if (stored !== undefined && compareUtf8(stored.version, condition.olderThan) >= 0) throw new VersionConflict(key)
  }

  #remove({ pk, sk }: Key): void {
    const partition = this.#partitions.get(pk)
    if (!partition?.rows.delete(sk)) return
    partition.sks.splice(firstFrom(partition.sks, sk), 1)
    if (partition.sks.length === 0) this.#partitions.delete(pk)
  }

  #checkOpen(): void {
    if (this.#closed) throw new TableUnavailable('the table is closed')
  }
}

const NOTHING = new Uint8Array(0)

const copyOf = ({ pk, sk, version, value, expiresAtS }: Row): Row => ({
  pk,
  sk,
  version,
  value: new Uint8Array(value),
  expiresAtS,
})

/** The place of the first of `sks` that is not before `sk`. */
const firstFrom = (sks: readonly string[], sk: string) => firstWhere(sks, (each) => compareUtf8(each, sk) >= 0)
/** The place of the first of `sks` that is after `sk`. */
const firstBeyond = (sks: readonly string[], sk: string) => firstWhere(sks, (each) => compareUtf8(each, sk) > 0)

function firstWhere(sks: readonly string[], holds: (sk: string) => boolean): number {
  let [low, high] = [0, sks.length]
  while (low < high) {
    const middle = (low + high) >>> 1
    if (holds(sks[middle]!)) high = middle
    else low = middle + 1
  }
  return low
}

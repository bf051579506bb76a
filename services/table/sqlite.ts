// The table in one SQLite file, for a server that is one process.
//
// Two threads hold a connection each: one writes, one reads. What one turn of the event loop asks of either goes in one message,
// and while that is being done the next gathers: so a burst of writes is one transaction and one fsync, and the busier the disk
// the larger the bursts. A put resolves after COMMIT with synchronous=FULL: it survives a loss of power. A full disk or a
// failing one refuses the writes of the moment with TableUnavailable; later ones are tried anew, so it heals by itself.
//
// Reads go to a thread too. A point read from a connection on the main thread was measured at 7.5 µs of CPU, all of it on the
// main thread; by the thread it is 10 µs when ten are asked in a turn, of which 2.4 on the main thread, and 38 (16) when alone
// (loadtest/table.ts). That would be cheap enough either way, but node:sqlite is synchronous: a page that is not cached, read
// while the disk is busy with an fsync, would hold up every socket for as long as the disk likes.
//
// A second process (the command line tool) may open the same file while the server runs: each sees what the other has
// committed, and a write waits up to 2 s for the other's transaction. Copy the file with the server stopped, or by
// `sqlite3 <file> ".backup <copy>"`: until a checkpoint the newest rows are in <file>-wal.
import { checkCondition, checkKey, checkRow } from './rows.ts'
import {
  type Answers,
  BEYOND,
  type Cell,
  DELETE,
  DELETE_OVER_OLDER,
  type FromThread,
  type Order,
  PAGE_BYTES_MAX,
  PUT,
  PUT_OVER_OLDER,
  REVERSE,
  SWEEP,
  SWEEP_ROWS,
  type Written,
} from './sqlite-messages.ts'
import { type Job, JobQueue } from './sqlite-queue.ts'
import { type ClosableTable, type Condition, type Key, type Range, type Row, TableUnavailable, VersionConflict } from './table.ts'

export interface SqliteTableOptions {
  /** Made, for its owner alone, if it is not there; its folder must be. */
  file: string
  /** Told once per transaction that failed and per thread that died. Those who waited have got TableUnavailable already. */
  onError?: (error: Error) => void
  /** Milliseconds since 1970, as Date.now: what rows expire by. */
  now?: () => number
  /** The file (not counting its WAL) grows no larger: beyond it, as on a full disk, puts are refused until something is deleted. */
  bytesMax?: number
}

/** Throws an Error that names the file and what to do, when it cannot be opened or is not ours. */
export async function openSqliteTable(options: SqliteTableOptions): Promise<ClosableTable> {
  const table = new SqliteTable(options)
  await table.open()
  return table
}

/** One transaction takes at most so many writes and octets. */
const FLUSH_WRITES_MAX = 5_000
const FLUSH_BYTES_MAX = 4_000_000
/** Writes that wait beyond these are refused at once. */
const WAITING_WRITES_MAX = 100_000
const WAITING_BYTES_MAX = 64_000_000
/** Questions in one message, and those that wait. */
const ASKS_MAX = 64
const WAITING_ASKS_MAX = 20_000
/** Rows of a page; a reader that stops early has read no more than this in vain. */
const PAGE_ROWS_MAX = 256
/** Octets of a range's first page. Each that follows may have twice as many: who wants little has little read for him. */
const FIRST_PAGE_BYTES_MAX = 64_000
const BUSY_TIMEOUT_MS = 2_000
/** The pause between sweeps, and while there is more to delete than one sweep takes. */
const SWEEP_PAUSE_MS = 60_000
const SWEEP_BACKLOG_PAUSE_MS = 250

interface Write extends Job {
  readonly kind: typeof PUT | typeof DELETE | typeof SWEEP | typeof PUT_OVER_OLDER | typeof DELETE_OVER_OLDER
  readonly key: Key
  readonly ifVersion: string | null
  readonly version: string
  readonly value: Uint8Array
  readonly expiresAtS: number | null
  readonly resolve: () => void
}

interface Ask extends Job {
  readonly pk: string
  readonly sk: string | null
  readonly from: string
  readonly to: string | null
  readonly flags: number
  readonly rows: number
  readonly octets: number
  readonly resolve: (page: Page) => void
}

interface Page {
  readonly rows: Row[]
  readonly more: boolean
}

const NOTHING = new Uint8Array(0)

class SqliteTable implements ClosableTable {
  readonly #now: () => number
  readonly #writes: JobQueue<Write>
  readonly #asks: JobQueue<Ask>
  #sweeper: NodeJS.Timeout | undefined
  #backlog = false
  #closing: Promise<void> | undefined

  constructor({ file, onError = () => {}, now = Date.now, bytesMax = 0 }: SqliteTableOptions) {
    this.#now = now
    const thread = { file, create: true, bytesMax, busyTimeoutMs: BUSY_TIMEOUT_MS }
    this.#writes = new JobQueue<Write>({
      thread: { ...thread, role: 'write' },
      onError,
      batch: { jobsMax: FLUSH_WRITES_MAX, bytesMax: FLUSH_BYTES_MAX },
      waiting: { jobsMax: WAITING_WRITES_MAX, bytesMax: WAITING_BYTES_MAX },
      encode: (writes) => this.#encodeWrites(writes),
      settle: (writes, reply) => this.#settleWrites(writes, reply),
    })
    this.#asks = new JobQueue<Ask>({
      thread: { ...thread, role: 'read' },
      onError,
      batch: { jobsMax: ASKS_MAX, bytesMax: PAGE_BYTES_MAX },
      waiting: { jobsMax: WAITING_ASKS_MAX, bytesMax: WAITING_BYTES_MAX },
      encode: (asks) => this.#encodeAsks(asks),
      settle: (asks, reply) => settleAsks(asks, reply as Answers),
    })
  }

  async open(): Promise<void> {
    await this.#writes.open()
    try {
      await this.#asks.open()
    } catch (error) {
      await this.#writes.end()
      throw error
    }
    this.#sweepIn(SWEEP_PAUSE_MS)
  }

  async get(key: Key): Promise<Row | undefined> {
    checkKey(key.pk, key.sk)
    const page = await this.#ask(key.pk, key.sk, '', null, 0, 1, PAGE_BYTES_MAX)
    return page.rows[0]
  }

  put(row: Row, condition?: Condition): Promise<void> {
    return new Promise((resolve, reject) => {
      checkRow(row)
      checkCondition(condition)
      const kind = typeof condition === 'object' ? PUT_OVER_OLDER : PUT
      this.#write(kind, row, versionIn(condition), row.version, row.value, row.expiresAtS, resolve, reject)
    })
  }

  delete(key: Key, condition?: Condition): Promise<void> {
    return new Promise((resolve, reject) => {
      checkKey(key.pk, key.sk)
      checkCondition(condition)
      const kind = typeof condition === 'object' ? DELETE_OVER_OLDER : DELETE
      this.#write(kind, key, versionIn(condition), '', NOTHING, undefined, resolve, reject)
    })
  }

  async *query(pk: string, range: Range = {}): AsyncGenerator<Row> {
    let { from = '', to = null }: { from?: string; to?: string | null } = range
    let flags = range.reverse ? REVERSE : 0
    let left = range.limit ?? Number.POSITIVE_INFINITY
    let octets = FIRST_PAGE_BYTES_MAX
    checkKey(pk, from + (to ?? ''))
    while (left > 0) {
      const { rows, more } = await this.#ask(pk, null, from, to, flags, Math.min(left, PAGE_ROWS_MAX), octets)
      octets = Math.min(octets * 2, PAGE_BYTES_MAX)
      for (const row of rows) yield row // yield* would make one more promise a row
      left -= rows.length
      if (!more) return
      const last = rows.at(-1)!.sk
      if (range.reverse) to = last
      else from = last
      flags |= BEYOND
    }
  }

  /** Resolves when what was put is durable and both threads have ended. What comes after is refused. */
  close(): Promise<void> {
    clearTimeout(this.#sweeper)
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    await Promise.all([this.#asks.finish(), this.#writes.finish()])
    await this.#asks.end()
    await this.#writes.end() // the last connection to close empties the WAL
  }

  #write(
    kind: Write['kind'],
    key: Key,
    ifVersion: string | undefined,
    version: string,
    value: Uint8Array,
    expiresAtS: number | undefined,
    resolve: () => void,
    reject: (error: Error) => void,
  ): void {
    const bytes = key.pk.length + key.sk.length + value.length
    this.#writes.add({
      kind,
      key,
      ifVersion: ifVersion ?? null,
      version,
      value,
      expiresAtS: expiresAtS ?? null,
      bytes,
      resolve,
      reject,
    })
  }

  #ask(
    pk: string,
    sk: string | null,
    from: string,
    to: string | null,
    flags: number,
    rows: number,
    octets: number,
  ): Promise<Page> {
    return new Promise((resolve, reject) => this.#asks.add({ pk, sk, from, to, flags, rows, octets, bytes: 0, resolve, reject }))
  }

  /** Packs the values in one buffer that moves to the thread: the caller keeps its own. */
  #encodeWrites(writes: readonly Write[]): Order {
    const cells: Cell[] = []
    let length = 0
    for (const { value } of writes) length += value.length
    const bytes = new Uint8Array(length)
    let offset = 0
    for (const { kind, key, ifVersion, version, value, expiresAtS } of writes) {
      cells.push(kind, key.pk, key.sk, ifVersion, version, value.length, expiresAtS)
      bytes.set(value, offset)
      offset += value.length
    }
    return { nowS: this.#now() / 1000, cells, bytes }
  }

  #settleWrites(writes: Write[], reply: FromThread): Write[] {
    const { conflicts, swept } = reply as Written
    if (swept === SWEEP_ROWS) this.#backlog = true
    let next = 0
    for (const [place, write] of writes.entries()) {
      if (conflicts[next] === place) {
        write.reject(new VersionConflict(write.key))
        next++
      } else {
        write.resolve()
      }
    }
    return []
  }

  #encodeAsks(asks: readonly Ask[]): Order {
    const cells: Cell[] = []
    for (const { pk, sk, from, to, flags, rows, octets } of asks) cells.push(pk, sk, from, to, flags, rows, octets)
    return { nowS: this.#now() / 1000, cells }
  }

  /** Deletes some of the rows whose time is up, now and then: no promise rests on it, reads have left them out since. */
  #sweepIn(pauseMs: number): void {
    if (this.#closing) return
    this.#sweeper = setTimeout(() => {
      this.#backlog = false
      const again = () => this.#sweepIn(this.#backlog ? SWEEP_BACKLOG_PAUSE_MS : SWEEP_PAUSE_MS)
      this.#write(SWEEP, { pk: '', sk: '' }, undefined, '', NOTHING, undefined, again, again)
    }, pauseMs).unref()
  }
}

function versionIn(condition: Condition | undefined): string | undefined {
  return typeof condition === 'object' ? condition.olderThan : condition
}

/** Reads one message of answers and returns the questions it has no answer to yet. The values are views into its buffer. */
function settleAsks(asks: Ask[], { cells, bytes }: Answers): Ask[] {
  let answered = 0
  let at = 0
  let offset = 0
  while (at < cells.length) {
    const ask = asks[answered++]!
    const count = cells[at] as number
    if (count < 0) {
      const cause = Object.assign(new Error(cells[at + 2] as string), { errcode: cells[at + 1] })
      ask.reject(new TableUnavailable(`a read failed: ${cause.message}`, { cause }))
      at += 3
      continue
    }
    const more = cells[at + 1] === 1
    at += 2
    const rows: Row[] = []
    for (let row = 0; row < count; row++, at += 4) {
      const length = cells[at + 2] as number
      const value = bytes.subarray(offset, offset + length)
      offset += length
      const expiresAtS = (cells[at + 3] as number | null) ?? undefined
      rows.push({ pk: ask.pk, sk: cells[at] as string, version: cells[at + 1] as string, value, expiresAtS })
    }
    ask.resolve({ rows, more })
  }
  return asks.slice(answered)
}

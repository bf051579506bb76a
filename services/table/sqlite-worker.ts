// A thread of the SQLite table: the one that writes, or the one that reads.
//
// Each has its own connection to one file in WAL mode, so a reader never waits behind an fsync, and sees whatever was
// committed before its question came. The file, as it is stored:
//
//   rows(pk, sk, version, value, expires)   without rowid, in the order (pk, sk); SQLite compares text as UTF-8 bytes
//   rows_expires(expires)                   only of rows that expire: what the sweep walks. A tombstone has minus its time
//   application_id = 'Rook'                 so that another program's database is not taken for ours
//   user_version = 1                        the schema
import { chmodSync, closeSync, existsSync, openSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { tombstoneExpiresAtS } from './rows.ts'
import {
  type Answers,
  ASK_CELLS,
  BEYOND,
  type Cell,
  DELETE,
  DELETE_OVER_OLDER,
  type Failed,
  type FromThread,
  type Order,
  PAGE_BYTES_MAX,
  PUT,
  PUT_OVER_OLDER,
  REVERSE,
  SWEEP,
  SWEEP_ROWS,
  type ThreadOptions,
  type ToThread,
  WRITE_CELLS,
  type Written,
} from './sqlite-messages.ts'

const SCHEMA_VERSION = 1
const APPLICATION_ID = 0x526f6f6b

const SCHEMA = `
  CREATE TABLE rows (
    pk TEXT NOT NULL, sk TEXT NOT NULL, version TEXT NOT NULL, value BLOB NOT NULL, expires INTEGER,
    PRIMARY KEY (pk, sk)
  ) WITHOUT ROWID;
  CREATE INDEX rows_expires ON rows (expires) WHERE expires IS NOT NULL;
  PRAGMA application_id = ${APPLICATION_ID};
  PRAGMA user_version = ${SCHEMA_VERSION};
`

type Post = (reply: FromThread, transfer?: ArrayBuffer[]) => void

function serve(port: MessagePort, options: ThreadOptions): void {
  const post: Post = (reply, transfer) => port.postMessage(reply, transfer)
  let database: DatabaseSync
  try {
    database = open(options)
  } catch (error) {
    post({ type: 'refused', message: refusal(options.file, error) })
    port.close()
    return
  }
  const obey = options.role === 'write' ? writer(database, post) : reader(database, post)
  port.on('message', (message: ToThread) => {
    if (message !== 'close') return obey(message)
    database.close() // the last one to close moves the WAL into the file
    port.close()
  })
  post({ type: 'ready' })
}

function open({ role, file, create, bytesMax, busyTimeoutMs }: ThreadOptions): DatabaseSync {
  if (create) prepareFile(file)
  else if (!existsSync(file)) throw new Error(`${file} is gone; put it back and start again`)
  const database = new DatabaseSync(file, { timeout: busyTimeoutMs })
  try {
    if (role === 'write') prepareSchema(database, file)
    database.exec('PRAGMA cache_size = -16000') // 16 MB
    if (role === 'read') database.exec('PRAGMA query_only = ON')
    if (role === 'write' && bytesMax > 0) {
      const { page_size } = database.prepare('PRAGMA page_size').get() as { page_size: number }
      database.exec(`PRAGMA max_page_count = ${Math.max(1, Math.floor(bytesMax / page_size))}`)
    }
    return database
  } catch (error) {
    database.close()
    throw error
  }
}

/**
 * Makes the file if there is none, for its owner alone (it holds password verifiers); SQLite gives the WAL the same mode. An
 * existing file is not opened here: closing it again would drop the locks that other connections of this process hold.
 */
function prepareFile(file: string): void {
  try {
    closeSync(openSync(file, 'wx', 0o600))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    if (!statSync(file).isFile()) throw new Error(`cannot open ${file}: it is a folder or a device; name a file`)
    for (const each of [file, `${file}-wal`, `${file}-shm`]) if (existsSync(each)) chmodSync(each, 0o600)
  }
}

function prepareSchema(database: DatabaseSync, file: string): void {
  const ask = (pragma: string) => Object.values(database.prepare(`PRAGMA ${pragma}`).get() ?? {})[0]
  database.exec('BEGIN IMMEDIATE') // two processes may make the same file
  const version = Number(ask('user_version'))
  const empty = ask('schema_version') === 0
  if (!empty && ask('application_id') !== APPLICATION_ID) {
    throw new Error(`${file} is the database of another program; move it away or name another file`)
  }
  if (version > SCHEMA_VERSION) {
    throw new Error(
      `${file} was written by a newer Rookery (schema ${version}; this one knows ${SCHEMA_VERSION}): ` +
        'start that version, or restore a copy made before',
    )
  }
  if (empty) database.exec(SCHEMA)
  database.exec('COMMIT')
  if (ask('journal_mode = WAL') !== 'wal') throw new Error(`${file} is where SQLite cannot keep a WAL: use a local disk`)
  database.exec('PRAGMA synchronous = FULL') // an fsync per commit: what was acked survives a loss of power
  database.exec('PRAGMA wal_autocheckpoint = 4000') // pages, 16 MB
  database.exec('PRAGMA journal_size_limit = 67108864') // a WAL that a burst made larger is cut to this
}

/** What the operator is told: the file, what is wrong with it, and what to do. */
function refusal(file: string, error: unknown): string {
  const { code, errcode, message } = error as Error & { code?: string; errcode?: number }
  if (code === 'ENOENT') return `cannot open ${file}: there is no folder ${dirname(file)}; make it, or name another file`
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS' || (errcode ?? 0) % 256 === 8) {
    return `cannot open ${file} (${message}): give the user that runs this process the right to write it and its folder`
  }
  if (code !== 'ERR_SQLITE_ERROR') return message
  switch ((errcode ?? 0) % 256) {
    case 5:
      return `cannot open ${file}: another process has it locked; stop that one, or wait until it is done`
    case 11:
      return `cannot open ${file}: it is damaged (${message}); restore a copy, or try "sqlite3 ${file} .recover"`
    case 13:
      return `cannot open ${file}: the disk is full; make room`
    case 14:
      return `cannot open ${file}: it must be a file in a folder that this process may read and write`
    case 26:
      return `cannot open ${file}: it is not an SQLite database; move it away or name another file`
    default:
      return `cannot open ${file}: ${message} (SQLite result ${errcode})`
  }
}

/** Obeys each order in one transaction: a condition that does not hold refuses one write, a fault all of them. */
function writer(database: DatabaseSync, post: Post): (order: Order) => void {
  const write = makeWrite(database)
  const sweep = database.prepare(`DELETE FROM rows WHERE (pk, sk) IN
    (SELECT pk, sk FROM rows WHERE expires >= ? AND expires <= ? ORDER BY expires LIMIT ${SWEEP_ROWS})`)
  const [begin, commit, rollback] = ['BEGIN IMMEDIATE', 'COMMIT', 'ROLLBACK'].map((sql) => database.prepare(sql))
  return ({ nowS, cells, bytes }) => {
    const written: Written = { type: 'written', conflicts: [], swept: 0 }
    try {
      begin!.run()
      let offset = 0
      for (let at = 0; at < cells.length; at += WRITE_CELLS) {
        const length = cells[at + 5] as number
        const value = bytes!.subarray(offset, offset + length)
        offset += length
        if (cells[at] === SWEEP) written.swept += Number(sweep.run(-nowS, nowS).changes)
        else if (!write(cells, at, value, nowS)) written.conflicts.push(at / WRITE_CELLS)
      }
      commit!.run()
      if (bytes !== undefined) letGo(bytes)
      post(written)
    } catch (error) {
      try {
        rollback!.run()
      } catch {
        // SQLite has rolled back by itself, as it does after a full disk or an I/O error.
      }
      post(failure(error))
    }
  }
}

/** Does the put or delete that begins at cell `at`; false when its condition does not hold. */
function makeWrite(database: DatabaseSync): (cells: Cell[], at: number, value: Uint8Array, nowS: number) => boolean {
  const insert = 'INSERT INTO rows (pk, sk, version, value, expires) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE'
  const change = 'SET version = excluded.version, value = excluded.value, expires = excluded.expires'
  const put = database.prepare(`${insert} ${change}`)
  const putIfAbsent = database.prepare(`${insert} ${change} WHERE rows.expires <= ?`)
  const putIfVersion = database.prepare(`UPDATE rows SET version = ?, value = ?, expires = ?
    WHERE pk = ? AND sk = ? AND version = ? AND (expires IS NULL OR expires > ?)`)
  const remove = database.prepare('DELETE FROM rows WHERE pk = ? AND sk = ?')
  const removeIfVersion = database.prepare(
    'DELETE FROM rows WHERE pk = ? AND sk = ? AND version = ? AND (expires IS NULL OR expires > ?)',
  )
  const putOverOlder = database.prepare(`${insert} ${change} WHERE rows.version < ?`)
  const isThere = database.prepare('SELECT 1 FROM rows WHERE pk = ? AND sk = ? AND (expires IS NULL OR expires > ?)')
  return (cells, at, value, nowS) => {
    const pk = cells[at + 1]!
    const sk = cells[at + 2]!
    const ifVersion = cells[at + 3]!
    const version = cells[at + 4]!
    const expires = cells[at + 6]!
    const kind = cells[at]
    if (kind === PUT_OVER_OLDER) return putOverOlder.run(pk, sk, version, value, expires, ifVersion).changes !== 0
    if (kind === DELETE_OVER_OLDER) {
      return putOverOlder.run(pk, sk, ifVersion, value, tombstoneExpiresAtS(nowS), ifVersion).changes !== 0
    }
    if (kind === PUT) {
      if (ifVersion === null) return put.run(pk, sk, version, value, expires).changes !== 0
      if (ifVersion === '') return putIfAbsent.run(pk, sk, version, value, expires, nowS).changes !== 0
      return putIfVersion.run(version, value, expires, pk, sk, ifVersion, nowS).changes !== 0
    }
    if (kind !== DELETE) throw new Error(`no write is of kind ${kind}`)
    if (ifVersion === '') return isThere.get(pk, sk, nowS) === undefined
    if (ifVersion !== null) return removeIfVersion.run(pk, sk, ifVersion, nowS).changes !== 0
    remove.run(pk, sk)
    return true
  }
}

/** Answers each order in as few messages as hold about 1 MB each. Every question is a read transaction of its own. */
function reader(database: DatabaseSync, post: Post): (order: Order) => void {
  const get = database.prepare(
    'SELECT sk, version, value, expires FROM rows WHERE pk = ? AND sk = ? AND (expires IS NULL OR expires > ?)',
  )
  get.setReturnArrays(true)
  const pages = makePages(database)
  return ({ nowS, cells: asks }) => {
    let sheet = new Sheet()
    for (let at = 0; at < asks.length; at += ASK_CELLS) {
      const start = sheet.cells.length
      try {
        const [pk, sk, from, to, flags, rows, octets] = asks.slice(at, at + ASK_CELLS) as [
          string,
          string | null,
          string,
          string | null,
          number,
          number,
          number,
        ]
        if (sk === null)
          sheet.page(pages[flags]!.iterate(pk, from, to ?? AFTER_ALL_TEXT, nowS) as Iterable<StoredRow>, rows, octets)
        else sheet.row(get.get(pk, sk, nowS) as unknown as StoredRow | undefined)
      } catch (error) {
        const { code, message } = failure(error)
        sheet.cells.length = start // values of a page that broke off stay in no row
        sheet.fail(code, message)
      }
      if (sheet.length >= PAGE_BYTES_MAX || at + ASK_CELLS >= asks.length) {
        const answers = sheet.pack()
        post(answers, [answers.bytes.buffer as ArrayBuffer])
        sheet = new Sheet()
      }
    }
  }
}

/** An octet string is greater than every text to SQLite: the upper end of a range that has none. */
const AFTER_ALL_TEXT = new Uint8Array(0)

/**
 * The statements of a page, by the bits REVERSE and BEYOND. Without a LIMIT: SQLite compiles a statement anew each time its
 * bound limit is bound (14 µs a page, 5 without), so who reads a page stops by itself.
 */
function makePages(database: DatabaseSync): StatementSync[] {
  return [0, REVERSE, BEYOND, REVERSE | BEYOND].sort().map((flags) => {
    const lower = flags === BEYOND ? '>' : '>='
    const upper = flags === (REVERSE | BEYOND) ? '<' : '<='
    const statement = database.prepare(`SELECT sk, version, value, expires FROM rows
      WHERE pk = ? AND sk ${lower} ? AND sk ${upper} ? AND (expires IS NULL OR expires > ?)
      ORDER BY sk ${flags & REVERSE ? 'DESC' : 'ASC'}`)
    statement.setReturnArrays(true)
    return statement
  })
}

type StoredRow = [sk: string, version: string, value: Uint8Array, expires: number | null]

/** Answers on their way into one message. */
class Sheet {
  readonly cells: Cell[] = []
  length = 0
  #values: Uint8Array[] = []

  row(row: StoredRow | undefined): void {
    this.cells.push(row ? 1 : 0, 0)
    if (row) this.#add(row)
  }

  /** Ends early, and says that there may be more, before the row that would make the page too large; it has one, however large. */
  page(rows: Iterable<StoredRow>, rowsMax: number, octetsMax: number): void {
    const head = this.cells.length
    const values = this.#values.length
    const lengthBefore = this.length
    this.cells.push(0, 0)
    let count = 0
    let more = 0
    try {
      for (const row of rows) {
        if (count > 0 && this.length - lengthBefore + sizeOf(row) > octetsMax) {
          letGo(row[2])
          more = 1
          break
        }
        this.#add(row)
        if (++count === rowsMax) break
      }
    } catch (error) {
      this.#values.length = values
      this.length = lengthBefore
      throw error
    }
    this.cells[head] = count
    this.cells[head + 1] = more || (count === rowsMax ? 1 : 0)
  }

  fail(code: number, message: string): void {
    this.cells.push(-1, code, message)
  }

  pack(): Answers {
    const bytes = new Uint8Array(this.#values.reduce((sum, value) => sum + value.length, 0))
    let offset = 0
    for (const value of this.#values) {
      bytes.set(value, offset)
      offset += value.length
      letGo(value)
    }
    return { type: 'answers', cells: this.cells, bytes }
  }

  #add(row: StoredRow): void {
    const [sk, version, value, expires] = row
    this.cells.push(sk, version, value.length, expires)
    this.#values.push(value)
    this.length += sizeOf(row)
  }
}

const sizeOf = ([sk, version, value]: StoredRow) => sk.length + version.length + value.length

/** Below it the collector is the cheaper way. */
const LET_GO_BYTES = 16 * 1024

/** Frees the memory of bytes that nobody needs any more: a thread with a heap this small collects 64 MB of them first. */
function letGo(bytes: Uint8Array): void {
  if (bytes.byteLength >= LET_GO_BYTES) (bytes.buffer as ArrayBuffer).transfer(0)
}

function failure(error: unknown): Failed {
  const { errcode, message } = error as Error & { errcode?: number }
  return { type: 'failed', code: errcode ?? 0, message }
}

if (parentPort) serve(parentPort, workerData as ThreadOptions)

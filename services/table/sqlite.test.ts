import { spawn } from 'node:child_process'
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { DatabaseSync } from 'node:sqlite'
import { setImmediate as turn } from 'node:timers/promises'
import type { Worker } from 'node:worker_threads'
import { afterAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import { tableContract } from './contract.ts'
import { openSqliteTable, type SqliteTableOptions } from './sqlite.ts'
import { type ClosableTable, type Row, TableUnavailable, TOMBSTONE_S, VersionConflict } from './table.ts'

const folder = mkdtempSync(join(tmpdir(), 'rookery-sqlite-'))
afterAll(() => rmSync(folder, { recursive: true }))
let files = 0
const newFile = () => join(folder, `${files++}.db`)

tableContract('openSqliteTable', async (now) => {
  const file = newFile()
  const table = await openSqliteTable({ file, now })
  return {
    table,
    reopen: async () => {
      await table.close()
      return openSqliteTable({ file, now })
    },
  }
})

/** A table that the end of the test closes, and what it told of. */
async function open(options: Partial<SqliteTableOptions> = {}): Promise<{ table: ClosableTable; file: string; errors: Error[] }> {
  const errors: Error[] = []
  const file = options.file ?? newFile()
  const table = await openSqliteTable({ onError: (error) => errors.push(error), ...options, file })
  onTestFinished(() => table.close())
  return { table, file, errors }
}

const row = (sk: string, fields: Partial<Row> = {}): Row => ({ pk: 'p', sk, version: 'v', value: Buffer.from(sk), ...fields })

async function sksOf(table: ClosableTable, pk = 'p'): Promise<string[]> {
  const sks: string[] = []
  for await (const { sk } of table.query(pk)) sks.push(sk)
  return sks
}

/** Tries until it resolves, as a lane would. */
async function untilDone(action: () => Promise<void>): Promise<void> {
  const deadline = Date.now() + 10_000
  for (;;) {
    try {
      return await action()
    } catch (error) {
      if (!(error instanceof TableUnavailable) || Date.now() > deadline) throw error
      await turn()
    }
  }
}

describe('the file', () => {
  test('is for its owner alone, and so are its WAL and index', async () => {
    const { table, file } = await open()
    await table.put(row('a'))
    for (const each of [file, `${file}-wal`, `${file}-shm`]) expect(statSync(each).mode & 0o777, each).toBe(0o600)
  })

  test('that others could read is taken from them', async () => {
    const file = newFile()
    await (await openSqliteTable({ file })).close()
    chmodSync(file, 0o644)
    await open({ file })
    expect(statSync(file).mode & 0o777).toBe(0o600)
  })

  test('is whole by itself once the table is closed', async () => {
    const { table, file } = await open()
    await table.put(row('a'))
    await table.close()
    expect([existsSync(`${file}-wal`), existsSync(`${file}-shm`)]).toEqual([false, false])
    const moved = newFile()
    renameSync(file, moved)
    expect(await sksOf((await open({ file: moved })).table)).toEqual(['a'])
  })

  test('may be open twice: each sees what the other has committed', async () => {
    const { table: server, file } = await open()
    const { table: tool } = await open({ file })
    await server.put(row('a'))
    expect(await sksOf(tool)).toEqual(['a'])
    await tool.put(row('b'), '')
    await expect(server.put(row('b'), '')).rejects.toThrow(VersionConflict)
    expect(await sksOf(server)).toEqual(['a', 'b'])
  })
})

describe('a file that cannot be opened is refused, with its name and what to do', () => {
  async function refusal(file: string): Promise<string> {
    const error = await openSqliteTable({ file }).then(
      () => new Error('opened'),
      (error: Error) => error,
    )
    expect(error.message).toContain(file)
    return error.message
  }

  test('its folder is missing', async () => {
    const file = join(folder, 'missing', 'a.db')
    expect(await refusal(file)).toContain(`no folder ${dirname(file)}; make it`)
  })

  test('it is a folder', async () => {
    const file = newFile()
    mkdirSync(file)
    expect(await refusal(file)).toContain('it is a folder')
    expect(statSync(file).mode & 0o700).toBe(0o700)
  })

  test('its folder may not be written to', async ({ skip }) => {
    if (process.getuid?.() === 0) return skip('root may write everywhere')
    const locked = join(folder, 'locked')
    mkdirSync(locked, { mode: 0o500 })
    expect(await refusal(join(locked, 'a.db'))).toContain('give the user that runs this process the right')
  })

  test('it is no database', async () => {
    const file = newFile()
    writeFileSync(file, 'Rooks are birds of the crow family.\n'.repeat(100))
    expect(await refusal(file)).toContain('not an SQLite database; move it away')
  })

  test('it is the database of another program, which is left as it was', async () => {
    const file = newFile()
    const other = new DatabaseSync(file)
    other.exec('CREATE TABLE birds (name TEXT)')
    expect(await refusal(file)).toContain('database of another program; move it away')
    expect(other.prepare('PRAGMA journal_mode').get()).toEqual({ journal_mode: 'delete' })
    other.close()
  })

  test('it was written by a newer version', async () => {
    const file = newFile()
    await (await openSqliteTable({ file })).close()
    const newer = new DatabaseSync(file)
    newer.exec('PRAGMA user_version = 2')
    newer.close()
    expect(await refusal(file)).toContain('newer Rookery (schema 2; this one knows 1): start that version')
  })

  test('it is damaged', async () => {
    const file = newFile()
    const table = await openSqliteTable({ file })
    await table.close()
    const descriptor = openSync(file, 'r+')
    writeSync(descriptor, Buffer.alloc(3900, 0xff), 0, 3900, 100) // behind the header of the first page
    closeSync(descriptor)
    expect(await refusal(file)).toContain('it is damaged')
  })
})

describe('what resolved is durable', () => {
  test('a process killed with SIGKILL while it writes loses nothing it was told is stored', async () => {
    const file = newFile()
    const script = `
      import { openSqliteTable } from ${JSON.stringify(new URL('./sqlite.ts', import.meta.url).href)}
      const table = await openSqliteTable({ file: process.argv[2] })
      let n = 0
      const one = async () => {
        for (;;) {
          const sk = String(n++)
          await table.put({ pk: 'p', sk, version: 'v', value: Buffer.alloc(700, sk) }, '')
          process.stdout.write(sk + '\\n')
        }
      }
      for (let writer = 0; writer < 8; writer++) one()`
    const main = `${file}.mjs`
    writeFileSync(main, script)
    const child = spawn(process.execPath, [main, file], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const exited = new Promise<NodeJS.Signals | null>((resolve) => child.on('exit', (_, signal) => resolve(signal)))
    const acked: string[] = []
    for await (const sk of createInterface({ input: child.stdout })) if (acked.push(sk) === 200) child.kill('SIGKILL')
    expect(await exited).toBe('SIGKILL')
    expect(acked.length).toBeGreaterThanOrEqual(200)
    const { table } = await open({ file })
    const values = new Map<string, string>()
    for await (const { sk, value } of table.query('p')) values.set(sk, Buffer.from(value).toString())
    for (const sk of acked) expect(values.get(sk)).toBe(Buffer.alloc(700, sk).toString())
  })

  test('a put is not resolved before another process can read it', async () => {
    const { table, file } = await open()
    const other = new DatabaseSync(file, { readOnly: true })
    onTestFinished(() => other.close())
    const count = other.prepare('SELECT count(*) AS n FROM rows')
    for (let n = 1; n <= 20; n++) {
      await table.put(row(`${n}`))
      expect(count.get()).toEqual({ n })
    }
  })

  test('writes of one turn are one transaction', async () => {
    const { table, file } = await open()
    const other = new DatabaseSync(file, { readOnly: true })
    onTestFinished(() => other.close())
    const seen = new Set<unknown>()
    const writes = Promise.all(Array.from({ length: 2000 }, (_, n) => table.put(row(`${n}`))))
    let done = false
    void writes.then(() => {
      done = true
    })
    while (!done) {
      seen.add(other.prepare('SELECT count(*) AS n FROM rows').get()!.n)
      await turn()
    }
    expect([...seen].filter((n) => n !== 0 && n !== 2000)).toEqual([])
  })

  test('under load every reader sees what it has written', async () => {
    const { table } = await open()
    const noise = Array.from({ length: 20 }, async (_, who) => {
      for (let n = 0; n < 100; n++) await table.put(row(`${who}#${n}`, { pk: 'noise', value: Buffer.alloc(2000) }))
    })
    const readers = Array.from({ length: 20 }, async (_, who) => {
      for (let n = 0; n < 100; n++) {
        await table.put(row(`${who}`, { version: `v${n}` }))
        expect((await table.get(row(`${who}`)))?.version).toBe(`v${n}`)
      }
    })
    await Promise.all([...noise, ...readers])
  })
})

describe('when storage fails', () => {
  test('a full disk refuses the puts of the moment with TableUnavailable, keeps what was stored, and heals', async () => {
    const { table, errors } = await open({ bytesMax: 300_000 })
    const large = (n: number) => row(`${n}`, { value: Buffer.alloc(50_000, n) })
    let stored = 0
    const refused = await (async () => {
      for (; ; stored++) await table.put(large(stored))
    })().catch((error: Error) => error)
    expect(refused).toBeInstanceOf(TableUnavailable)
    expect(refused.cause).toMatchObject({ errcode: 13 })
    expect(errors).toEqual([refused])
    expect(stored).toBeGreaterThan(2)

    const beside = await Promise.allSettled([table.put(row('small')), table.put(large(99)), table.put(row('0'), '')])
    expect(beside.map((each) => each.status === 'rejected' && each.reason)).toEqual(
      [1, 2, 3].map(() => expect.any(TableUnavailable)),
    )
    expect(await sksOf(table)).toEqual(Array.from({ length: stored }, (_, n) => `${n}`)) // nothing of that transaction

    await table.delete(large(0))
    await table.put(large(99))
    expect((await table.get(row('99')))?.value).toEqual(new Uint8Array(large(99).value))
  })

  test("a write waits for another process's transaction, and for one that does not end is refused, then heals", async () => {
    const { table, file, errors } = await open()
    const other = new DatabaseSync(file)
    onTestFinished(() => other.close())
    other.exec('BEGIN IMMEDIATE')
    const waits = table.put(row('a'))
    await turn()
    expect(await table.get(row('a'))).toBeUndefined() // reads do not wait
    other.exec('COMMIT')
    await waits

    other.exec('BEGIN IMMEDIATE')
    await expect(table.put(row('b'))).rejects.toThrow(TableUnavailable)
    expect(errors).toMatchObject([{ cause: { errcode: 5 } }])
    other.exec('COMMIT')
    await table.put(row('c'))
    expect(await sksOf(table)).toEqual(['a', 'c'])
  })

  test('more than may wait is refused at once', async () => {
    const { table } = await open()
    const value = Buffer.alloc(390_000)
    const ends = await Promise.allSettled(Array.from({ length: 200 }, (_, n) => table.put(row(`${n}`, { value }))))
    const refused = ends.filter((end) => end.status === 'rejected')
    expect(refused.length).toBe(200 - 164) // 64 MB
    for (const end of refused) expect(end.reason).toBeInstanceOf(TableUnavailable)
    await table.put(row('after'))
  })

  /** The threads that `make` starts: the writer, then the reader. */
  async function threadsOf<T>(make: () => Promise<T>): Promise<[T, Worker[]]> {
    const threads: Worker[] = []
    const onWorker = (worker: Worker) => threads.push(worker)
    process.on('worker', onWorker)
    const made = await make()
    process.off('worker', onWorker)
    return [made, threads]
  }

  test('a writer that dies fails who waits with TableUnavailable, is replaced, and keeps what it had told is stored', async () => {
    const [{ table, errors }, [writer]] = await threadsOf(() => open())
    await table.put(row('before'))
    const waiting = Promise.allSettled(Array.from({ length: 50 }, (_, n) => table.put(row(`${n}`))))
    await turn()
    await writer!.terminate()
    for (const end of await waiting) if (end.status === 'rejected') expect(end.reason).toBeInstanceOf(TableUnavailable)
    await untilDone(() => table.put(row('after')))
    expect(await sksOf(table)).toEqual(expect.arrayContaining(['before', 'after']))
    expect(errors.map(({ message }) => message)).toEqual([expect.stringContaining('write thread of the table died')])
  })

  test('a reader that dies fails who waits with TableUnavailable, and is replaced', async () => {
    const [{ table, errors }, [, reader]] = await threadsOf(() => open())
    await table.put(row('a'))
    const waiting = Promise.allSettled([table.get(row('a')), sksOf(table)])
    await reader!.terminate()
    for (const end of await waiting) if (end.status === 'rejected') expect(end.reason).toBeInstanceOf(TableUnavailable)
    await untilDone(async () => expect(await sksOf(table)).toEqual(['a']))
    expect(errors.map(({ message }) => message)).toEqual([expect.stringContaining('read thread of the table died')])
  })

  test('a file that vanished is not replaced by an empty one when a thread is started again', async () => {
    const [{ table, file, errors }, [writer]] = await threadsOf(() => open())
    renameSync(file, `${file}.moved`)
    await writer!.terminate()
    await vi.waitUntil(() => errors.length >= 2)
    expect(errors[1]?.message).toContain(`${file} is gone; put it back`)
    expect(existsSync(file)).toBe(false)
    await expect(table.put(row('a'))).rejects.toThrow(TableUnavailable)
    renameSync(`${file}.moved`, file)
    await untilDone(() => table.put(row('a')))
  })
})

test('rows whose time is up are deleted by and by, others stay', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  onTestFinished(() => void vi.useRealTimers())
  let nowS = 1_900_000_000
  const { table, file } = await open({ now: () => nowS * 1000 })
  const other = new DatabaseSync(file, { readOnly: true })
  onTestFinished(() => other.close())
  const stored = () => other.prepare('SELECT count(*) AS n FROM rows').get()!.n
  await Promise.all(Array.from({ length: 700 }, (_, n) => table.put(row(`${n}`, { expiresAtS: nowS + 10 }))))
  await table.put(row('later', { expiresAtS: nowS + 1000 }))
  await table.put(row('kept'))
  nowS += 10
  expect(stored()).toBe(702)
  vi.advanceTimersByTime(60_000)
  await table.put(row('kept')) // behind the sweep
  expect(stored()).toBe(202)
  vi.advanceTimersByTime(250)
  await table.put(row('kept'))
  expect(stored()).toBe(2)
  expect(await sksOf(table)).toEqual(['kept', 'later'])
})

test('a tombstone is left by the sweep until its day is over', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  onTestFinished(() => void vi.useRealTimers())
  let nowS = 1_900_000_000
  const { table, file } = await open({ now: () => nowS * 1000 })
  const other = new DatabaseSync(file, { readOnly: true })
  onTestFinished(() => other.close())
  const stored = () => other.prepare('SELECT count(*) AS n FROM rows').get()!.n
  const sweep = async () => {
    vi.advanceTimersByTime(60_000)
    await table.put(row('kept')) // behind it
  }
  await table.delete({ pk: 'p', sk: 'gone' }, { olderThan: '2' })
  nowS += TOMBSTONE_S - 1
  await sweep()
  expect(stored()).toBe(2)
  await expect(table.put(row('gone', { version: '1' }), { olderThan: '1' })).rejects.toThrow(VersionConflict)
  nowS += 1
  await sweep()
  expect(stored()).toBe(1)
})

test('the sweep walks the index of what expires', async () => {
  const { table, file } = await open()
  await table.put(row('a'))
  const other = new DatabaseSync(file, { readOnly: true })
  onTestFinished(() => other.close())
  const plan = other.prepare(
    'EXPLAIN QUERY PLAN SELECT pk, sk FROM rows WHERE expires >= ? AND expires <= ? ORDER BY expires LIMIT 500',
  )
  expect(plan.all(-5, 5)).toMatchObject([{ detail: expect.stringContaining('INDEX rows_expires') }])
})

test('a reader that stops early used to have a megabyte read for it; one that reads on gets pages of that size', async () => {
  const { table } = await open()
  for (let n = 10; n < 90; n++) await table.put(row(`${n}`, { value: new Uint8Array(20_000).fill(n) }))
  const pageBytes: number[] = []
  const sks: string[] = []
  for await (const { sk, value } of table.query('p')) {
    sks.push(sk)
    expect(value[0]).toBe(Number(sk))
    if (pageBytes.at(-1) !== value.buffer.byteLength) pageBytes.push(value.buffer.byteLength)
  }
  expect(sks).toEqual(Array.from({ length: 80 }, (_, n) => `${n + 10}`))
  expect(pageBytes).toEqual([60_000, 120_000, 240_000, 500_000, 680_000])
})

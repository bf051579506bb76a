import { describe, expect, test } from 'vitest'
import { memoryTable } from '#table/memory.ts'
import { type Key, type Row, type Table, TableUnavailable } from '#table/table.ts'
import { flakyTable } from '#test/harness.ts'
import { manualClock } from '../clock.ts'
import { memoryLog } from '../observing/log.ts'
import { Commit, type CommitLog, STAGED_BYTES_MAX, STAGED_ROWS_MAX, type Write } from './commit.ts'
import { directLog } from './direct-log.ts'

const put = (sk: string, value = ''): Write => ({ put: { pk: 'a#romeo@a', sk, version: 'v', value: Buffer.from(value) } })

function setUp(table: Table = memoryTable()) {
  const clock = manualClock()
  const log = memoryLog()
  return { table, clock, log, commit: new Commit(directLog(table, clock, log), log) }
}

async function textOf(table: Table, sk: string): Promise<string | undefined> {
  const row = await table.get({ pk: 'a#romeo@a', sk })
  return row && Buffer.from(row.value).toString()
}

/** Says what was asked of it, and holds each put back until it is told to let go. */
function heldTable(): Table & { readonly puts: string[]; release: () => void } {
  const table = memoryTable()
  const puts: string[] = []
  let held: (() => void)[] = []
  return Object.assign(table, {
    puts,
    put: async (row: Row) => {
      puts.push(row.sk)
      await new Promise<void>((resolve) => held.push(resolve))
    },
    release() {
      const now = held
      held = []
      for (const resolve of now) resolve()
    },
  })
}

async function turn(): Promise<void> {
  for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve))
}

describe('after', () => {
  test('runs at once where nothing is staged', () => {
    const { commit } = setUp()
    let ran = false
    commit.after('romeo@a', () => (ran = true))
    expect([ran, commit.pending('romeo@a')]).toEqual([true, false])
  })

  test('runs when what the account staged is durable, and not before', async () => {
    const table = heldTable()
    const { commit } = setUp(table)
    const ran: string[] = []
    commit.stage('romeo@a', put('one'))
    commit.after('romeo@a', () => ran.push('romeo'))
    commit.after('juliet@b', () => ran.push('juliet'))
    await turn()
    expect([ran, commit.pending('romeo@a')]).toEqual([['juliet'], true])
    table.release()
    await turn()
    expect([ran, commit.pending('romeo@a')]).toEqual([['juliet', 'romeo'], false])
  })

  test('keeps the order of calls over flushes', async () => {
    const table = heldTable()
    const { commit } = setUp(table)
    const ran: number[] = []
    commit.stage('romeo@a', put('one'))
    commit.after('romeo@a', () => ran.push(1))
    await turn()
    commit.stage('romeo@a', put('two'))
    commit.after('romeo@a', () => ran.push(2))
    await turn()
    expect(table.puts).toEqual(['one']) // the second flush gathers
    table.release()
    await turn()
    expect([ran, table.puts]).toEqual([[1], ['one', 'two']])
    table.release()
    await turn()
    expect(ran).toEqual([1, 2])
  })

  test('what an effect does does not overtake the effects that wait already', async () => {
    const { commit } = setUp()
    const ran: string[] = []
    commit.stage('romeo@a', put('one'))
    commit.after('romeo@a', () => {
      ran.push('first')
      commit.after('romeo@a', () => ran.push('of the first'))
    })
    commit.after('romeo@a', () => ran.push('second'))
    await commit.settled()
    await turn()
    expect(ran).toEqual(['first', 'second', 'of the first'])
  })

  test('both waits for both', async () => {
    const table = heldTable()
    const { commit } = setUp(table)
    let ran = false
    commit.stage('romeo@a', put('one'))
    await turn()
    commit.stage('juliet@b', put('two'))
    commit.afterBoth('romeo@a', 'juliet@b', () => (ran = true))
    table.release()
    await turn()
    expect(ran).toBe(false)
    table.release()
    await turn()
    expect(ran).toBe(true)
  })

  test('an effect that breaks is logged, and the others run', async () => {
    const { commit, log } = setUp()
    let ran = false
    commit.stage('romeo@a', put('one'))
    commit.after('romeo@a', () => {
      throw new Error('broken')
    })
    commit.after('romeo@a', () => (ran = true))
    await commit.settled()
    expect(ran).toBe(true)
    expect(log.lines.map(({ event }) => event)).toEqual(['effect.broke'])
  })
})

/** A log whose flushes are durable and applied when they are told to be. */
function laggingLog() {
  const flushes: { readonly writes: readonly Write[]; readonly durable: () => void; readonly applied: () => void }[] = []
  const log: CommitLog = {
    versionBytes: 30,
    write: (writes, applied) => new Promise((durable) => void flushes.push({ writes, durable, applied })),
    version: () => 'v',
  }
  return { log, flushes, commit: new Commit(log, memoryLog()) }
}

describe('a log that applies behind', () => {
  test('effects are released when it is durable, readers when it is applied', async () => {
    const { commit, flushes } = laggingLog()
    const seen: string[] = []
    commit.stage('romeo@a', put('one'))
    commit.after('romeo@a', () => seen.push('durable'))
    commit.afterApplied('romeo@a', () => seen.push('applied'))
    void commit.applied('romeo@a')!.then(() => seen.push('read'))
    commit.afterApplied('juliet@b', () => seen.push('nothing of hers'))
    expect(commit.applied('juliet@b')).toBeUndefined()
    await turn()
    flushes[0]!.durable()
    await turn()
    expect([seen, commit.pending('romeo@a')]).toEqual([['nothing of hers', 'durable'], false])
    expect(commit.applied('romeo@a')).toBeInstanceOf(Promise)
    flushes[0]!.applied()
    await turn()
    expect(seen.slice(2)).toEqual(['applied', 'read'])
    expect(commit.applied('romeo@a')).toBeUndefined()
  })

  test('whoever reads waits for the last of what was staged, and not for what is staged meanwhile', async () => {
    const { commit, flushes } = laggingLog()
    const seen: string[] = []
    commit.stage('romeo@a', put('one'))
    await turn()
    flushes[0]!.durable()
    await turn()
    commit.stage('romeo@a', put('two'))
    commit.afterApplied('romeo@a', () => seen.push('both'))
    await turn()
    commit.stage('romeo@a', put('three'))
    flushes[0]!.applied()
    await turn()
    expect(seen).toEqual([])
    flushes[1]!.durable()
    flushes[1]!.applied()
    await turn()
    expect(seen).toEqual(['both'])
    expect(commit.applied('romeo@a')).toBeInstanceOf(Promise)
  })

  test('applied before it is durable: the effects come first all the same', async () => {
    const { commit, flushes } = laggingLog()
    const seen: string[] = []
    commit.stage('romeo@a', put('one'))
    commit.afterApplied('romeo@a', () => seen.push('applied'))
    commit.after('romeo@a', () => seen.push('durable'))
    await turn()
    flushes[0]!.applied()
    await turn()
    expect(seen).toEqual([])
    flushes[0]!.durable()
    await turn()
    expect(seen).toEqual(['durable', 'applied'])
  })

  test('settled is about what is durable, drained about what is applied', async () => {
    const { commit, flushes } = laggingLog()
    const seen: string[] = []
    commit.stage('romeo@a', put('one'))
    void commit.settled().then(() => seen.push('settled'))
    void commit.drained().then(() => seen.push('drained'))
    await turn()
    flushes[0]!.durable()
    await turn()
    expect([seen, commit.busy]).toEqual([['settled'], false])
    flushes[0]!.applied()
    await commit.drained()
    await turn()
    expect(seen).toEqual(['settled', 'drained'])
  })

  test('what is not applied counts against what may be staged', async () => {
    const { commit, flushes } = laggingLog()
    for (let i = 0; i <= STAGED_ROWS_MAX; i++) commit.stage('romeo@a', put('same'))
    await turn()
    flushes[0]!.durable()
    await turn()
    expect([commit.congested, commit.busy]).toEqual([true, false])
    let relieved = 0
    commit.onRelief(() => relieved++)
    flushes[0]!.applied()
    expect([commit.congested, relieved]).toEqual([false, 1])
  })

  test('a row that is too large with the version the log gives it is refused when it is staged', () => {
    const { commit } = laggingLog()
    const value = 'x'.repeat(400_000 - 'a#romeo@a'.length - 'one'.length - 1)
    expect(() => setUp().commit.stage('romeo@a', put('one', value))).not.toThrow()
    expect(() => commit.stage('romeo@a', put('one', value))).toThrow(RangeError)
    expect(() => commit.stage('romeo@a', put('one', value.slice(30)))).not.toThrow()
  })
})

describe('drop', () => {
  test('nothing comes of what was staged: no effect runs, and who waits for an account is told TableUnavailable', async () => {
    const { commit, flushes } = laggingLog()
    const seen: string[] = []
    const waits = (what: string, promise: Promise<void> | undefined) =>
      promise!.then(
        () => seen.push(what),
        (error) => seen.push(`${what} ${(error as Error).name}`),
      )
    commit.stage('romeo@a', put('durable'))
    await turn()
    flushes[0]!.durable()
    await turn()
    void waits('applied', commit.applied('romeo@a'))
    commit.stage('romeo@a', put('in flight'))
    await turn()
    commit.stage('romeo@a', put('gathers'))
    for (const account of ['romeo@a', 'juliet@b']) commit.after(account, () => seen.push(account))
    void waits('durable', commit.durable('romeo@a'))
    void waits('settled', commit.settled())
    void waits('drained', commit.drained())
    commit.drop()
    for (const { durable, applied } of flushes) {
      durable()
      applied()
    }
    await turn()
    expect(seen).toEqual(['juliet@b', 'applied TableUnavailable', 'durable TableUnavailable', 'settled', 'drained'])
    expect([commit.busy, commit.pending('romeo@a'), commit.applied('romeo@a')]).toEqual([false, false, undefined])
    expect(flushes).toHaveLength(2)
  })

  test('what is staged afterwards is flushed without waiting for what went before', async () => {
    const { commit, flushes } = laggingLog()
    const seen: string[] = []
    commit.stage('romeo@a', put('before'))
    await turn()
    commit.drop()
    commit.stage('romeo@a', put('behind'))
    commit.after('romeo@a', () => seen.push('behind'))
    await turn()
    expect(flushes).toHaveLength(2)
    flushes[0]!.durable()
    flushes[0]!.applied()
    await turn()
    expect(seen).toEqual([])
    flushes[1]!.durable()
    flushes[1]!.applied()
    await turn()
    expect([seen, commit.busy]).toEqual([['behind'], false])
    await commit.drained()
  })

  test('by an effect of a flush: the effects behind it are not run', async () => {
    const { commit, flushes } = laggingLog()
    const seen: string[] = []
    commit.stage('romeo@a', put('one'))
    commit.after('romeo@a', () => commit.drop())
    commit.after('romeo@a', () => seen.push('too late'))
    await turn()
    flushes[0]!.durable()
    await turn()
    expect([seen, commit.busy, commit.applied('romeo@a')]).toEqual([[], false, undefined])
  })

  test('whoever waits for room is told that there is some', async () => {
    const { commit } = laggingLog()
    let relieved = 0
    for (let i = 0; i <= STAGED_ROWS_MAX; i++) commit.stage('romeo@a', put('same'))
    commit.onRelief(() => relieved++)
    commit.drop()
    expect([relieved, commit.congested]).toEqual([1, false])
  })
})

describe('a table that is away', () => {
  test('is tried again, with the effects held back, until it answers', async () => {
    const table = flakyTable()
    const { commit, clock } = setUp(table)
    let ran = false
    table.away = true
    commit.stage('romeo@a', put('one', 'kept'))
    commit.after('romeo@a', () => (ran = true))
    for (let i = 0; i < 100; i++) await clock.settle(1_000)
    expect(ran).toBe(false)
    table.away = false
    await clock.settle(10_000)
    expect([ran, await textOf(table, 'one')]).toEqual([true, 'kept'])
  })

  test('an older write of a row that failed does not undo a newer one that did not', async () => {
    const table = memoryTable()
    let fail = true
    const failing: Table = Object.assign(Object.create(table) as Table, {
      get: (key: Key) => table.get(key),
      delete: (key: Key) => table.delete(key),
      put: async (row: Row) => {
        if (fail && Buffer.from(row.value).toString() === 'older') throw new TableUnavailable('throttled')
        await table.put(row)
      },
    })
    const { commit, clock } = setUp(failing)
    commit.stage('romeo@a', put('one', 'older'))
    commit.stage('romeo@a', put('one', 'newer'))
    commit.stage('romeo@a', put('two', 'older'))
    commit.stage('romeo@a', { delete: { pk: 'a#romeo@a', sk: 'two' } })
    commit.stage('romeo@a', put('three', 'older'))
    await clock.settle()
    fail = false
    await clock.settle(10_000)
    expect([await textOf(table, 'one'), await textOf(table, 'two'), await textOf(table, 'three')]).toEqual([
      'newer',
      undefined,
      'older',
    ])
    expect(commit.pending('romeo@a')).toBe(false)
  })

  test('a row that no table takes is refused when it is staged, so that nothing rests on it', async () => {
    const { commit } = setUp()
    expect(() => commit.stage('romeo@a', put('one', 'x'.repeat(500_000)))).toThrow(RangeError)
    expect([commit.busy, commit.pending('romeo@a')]).toEqual([false, false])
  })

  test('a write that the table refuses for good is logged and holds nobody up', async () => {
    const refusing = { ...memoryTable(), put: async () => Promise.reject(new Error('never')) }
    const { commit, log } = setUp(refusing)
    commit.stage('romeo@a', put('one'))
    await commit.settled()
    expect(log.lines).toMatchObject([{ level: 'error', event: 'commit.write_refused', fields: { key: { sk: 'one' } } }])
  })
})

test('settled waits for the flush under way and the one that gathers', async () => {
  const table = heldTable()
  const { commit } = setUp(table)
  let settled = false
  commit.stage('romeo@a', put('one'))
  await turn()
  commit.stage('romeo@a', put('two'))
  void commit.settled().then(() => (settled = true))
  table.release()
  await turn()
  expect(settled).toBe(false)
  table.release()
  await turn()
  expect(settled).toBe(true)
  await commit.settled() // at once, with nothing staged
})

test('with too much staged it is congested, and tells once when there is room', async () => {
  const table = heldTable()
  const { commit } = setUp(table)
  let relieved = 0
  for (let i = 0; i <= STAGED_ROWS_MAX; i++) commit.stage('romeo@a', put('same'))
  expect(commit.congested).toBe(true)
  commit.onRelief(() => relieved++)
  await turn()
  expect(relieved).toBe(0)
  table.release()
  await turn()
  expect([relieved, commit.congested]).toEqual([1, false])
  commit.stage('romeo@a', put('more'))
  await turn()
  table.release()
  await turn()
  expect(relieved).toBe(1)
})

test('20 000 staged rows of 262 kB each used to be no congestion', async () => {
  const table = heldTable()
  const { commit } = setUp(table)
  const value = 'x'.repeat(262_000)
  let relieved = 0
  for (let i = 0; i < Math.floor(STAGED_BYTES_MAX / 262_500); i++) commit.stage('romeo@a', put('same', value))
  expect(commit.congested).toBe(false)
  await turn()
  commit.stage('romeo@a', put('same', value)) // in the next flush
  expect(commit.congested).toBe(true)
  commit.onRelief(() => relieved++)
  table.release()
  await turn()
  expect([relieved, commit.congested]).toEqual([1, false])
  table.release()
  await turn()
  for (let i = 0; i < 200; i++) commit.stage('romeo@a', put('same', value))
  expect(commit.congested).toBe(false) // nothing of what is durable is counted still
})

describe('effects in the name of an account that has got another owner', () => {
  test('used to run at once where nothing was staged: two owners answered', () => {
    const held = new Set(['romeo@a', 'juliet@a'])
    const log = memoryLog()
    const commit = new Commit(directLog(memoryTable(), manualClock(), log), log, (account) => held.has(account))
    const ran: string[] = []
    for (const account of ['romeo@a', 'juliet@a', 'a', '']) commit.after(account, () => ran.push(account))
    held.delete('romeo@a')
    for (const account of ['romeo@a', 'juliet@a', 'a', '']) commit.after(account, () => ran.push(`${account} late`))
    expect(ran).toEqual(['romeo@a', 'juliet@a', 'a', '', 'juliet@a late', 'a late', ' late']) // a domain is nobody's
  })
})

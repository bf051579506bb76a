import { describe, expect, test } from 'vitest'
import { memoryTable } from '#table/memory.ts'
import type { Table } from '#table/table.ts'
import { parseJid } from '#xmpp/jid.ts'
import { manualClock } from './clock.ts'
import { Commit } from './commit.ts'
import { silentLog } from './log.ts'
import { ACCOUNT_RECORD, CACHED_ACCOUNTS_MAX, Store } from './store.ts'

const ROMEO = parseJid('romeo@example.org')
const JULIET = parseJid('juliet@example.org')

/** A table that counts queries. */
async function setUp(accounts = [ROMEO]) {
  const inner = memoryTable()
  const queries: string[] = []
  const table: Table = {
    get: (key) => inner.get(key),
    put: (row, ifVersion) => inner.put(row, ifVersion),
    delete: (key, ifVersion) => inner.delete(key, ifVersion),
    query(pk, range) {
      queries.push(pk)
      return inner.query(pk, range)
    },
  }
  for (const { bare } of accounts) {
    await inner.put({ pk: `a#${bare}`, sk: ACCOUNT_RECORD, version: 'v', value: Buffer.from('{}') })
  }
  const start = () => {
    const commit = new Commit(table, manualClock(), silentLog)
    return { commit, store: new Store(table, commit, ['offline']) }
  }
  return { table, queries, start, ...start() }
}

async function rowsOf(table: Table, pk: string): Promise<string[]> {
  const rows: string[] = []
  for await (const { sk } of table.query(pk)) rows.push(sk)
  return rows
}

describe('a record', () => {
  test('is what was written, here at once and elsewhere when it is durable', async () => {
    const { store, commit, start } = await setUp()
    const colours = store.record<string[]>('colours', [])
    expect(await colours.update(ROMEO, (before) => [...before, 'red'])).toEqual({ before: [], after: ['red'] })
    expect(colours.read(ROMEO, (value) => value)).toEqual(['red']) // no promise: it is cached
    await commit.settled()
    expect(
      await start()
        .store.record<string[]>('colours', [])
        .read(ROMEO, (value) => value),
    ).toEqual(['red'])
  })

  test('costs one query for all records and maps of an account', async () => {
    const { store, queries } = await setUp()
    await Promise.all([store.record('one', 0).read(ROMEO, () => {}), store.map('two').read(ROMEO, () => {})])
    await store.record('three', 0).read(ROMEO, () => {})
    expect(queries).toEqual(['a#romeo@example.org'])
  })

  test('changes nothing where the change throws, and writes nothing where it changes nothing', async () => {
    const { store, commit } = await setUp()
    const count = store.record('count', { n: 1 })
    await count.update(ROMEO, () => ({ n: 2 }))
    await commit.settled()
    expect(() =>
      count.update(ROMEO, () => {
        throw new Error('refused')
      }),
    ).toThrow('refused')
    await count.update(ROMEO, (before) => before)
    expect(commit.pending(ROMEO.bare)).toBe(false)
    expect(await count.read(ROMEO, ({ n }) => n)).toBe(2)
  })

  test('two changes that wait for the same read both count', async () => {
    const { store } = await setUp()
    const count = store.record('count', 0)
    await Promise.all([count.update(ROMEO, (n) => n + 1), count.update(ROMEO, (n) => n + 1)])
    expect(await count.read(ROMEO, (n) => n)).toBe(2)
  })

  test('of an account that is not there is not cached: somebody may make it at any time', async () => {
    const { store, queries } = await setUp([])
    const count = store.record('count', 0)
    await count.read(ROMEO, () => {})
    await count.read(ROMEO, () => {})
    expect(queries).toHaveLength(2)
  })

  test('forgotten, it is read again', async () => {
    const { store, table } = await setUp()
    const count = store.record('count', 0)
    expect(await count.read(ROMEO, (n) => n)).toBe(0)
    await table.put({ pk: 'a#romeo@example.org', sk: 'count', version: 'w', value: Buffer.from('7') })
    expect(await count.read(ROMEO, (n) => n)).toBe(0)
    store.forget(ROMEO.bare)
    expect(await count.read(ROMEO, (n) => n)).toBe(7)
  })

  test('what is forgotten while it is read is read again: whoever waits for it is not told what it was', async () => {
    const { store, queries, table } = await setUp()
    const count = store.record('count', 0)
    const reading = count.read(ROMEO, (n) => n)
    await table.put({ pk: `a#${ROMEO.bare}`, sk: 'count', version: 'v', value: Buffer.from('7') })
    store.forget(ROMEO.bare)
    expect(await reading).toBe(7)
    expect(count.read(ROMEO, (n) => n)).toBe(7)
    expect(queries).toHaveLength(2)
  })

  test('a peek tells what is cached, and reads nothing', async () => {
    const { store, queries } = await setUp()
    const count = store.record('count', 5)
    expect(count.peek(ROMEO)).toBeUndefined()
    await count.read(ROMEO, () => {})
    expect([count.peek(ROMEO), queries.length]).toEqual([5, 1])
    store.forget(ROMEO.bare)
    expect(count.peek(ROMEO)).toBeUndefined()
  })

  test('at most so many accounts are cached, and none is let go before what it staged is durable', async () => {
    let queries = 0
    const row = { sk: ACCOUNT_RECORD, version: 'v', value: Buffer.from('{}') }
    const table: Table = {
      get: async () => undefined,
      put: () => new Promise(() => {}), // never durable
      delete: async () => {},
      async *query(pk) {
        queries++
        yield { ...row, pk }
      },
    }
    const store = new Store(table, new Commit(table, manualClock(), silentLog), [])
    const count = store.record('count', 0)
    await count.read(JULIET, () => {})
    await count.update(ROMEO, () => 1)
    for (let i = 0; i < 2 * CACHED_ACCOUNTS_MAX; i++) await count.read({ ...ROMEO, bare: `a${i}@example.org` }, () => {})
    queries = 0
    expect(count.read(ROMEO, (n) => n)).toBe(1)
    expect(queries).toBe(0)
    await count.read(JULIET, () => {})
    expect(queries).toBe(1)
  })
})

describe('a map', () => {
  test('has one row per key, and none for what is deleted', async () => {
    const { store, commit, table, start } = await setUp()
    const roster = store.map<{ name: string }>('roster')
    await roster.set(ROMEO, 'juliet@b', { name: 'Juliet' })
    await roster.set(ROMEO, 'nurse@b', { name: 'Nurse' })
    await roster.set(ROMEO, 'nurse@b', undefined)
    await roster.set(ROMEO, 'nobody@b', undefined)
    await commit.settled()
    expect(await rowsOf(table, 'a#romeo@example.org')).toEqual([ACCOUNT_RECORD, 'roster#juliet@b'])
    const again = await start()
      .store.map<{ name: string }>('roster')
      .read(ROMEO, (entries) => [...entries])
    expect(again).toEqual([['juliet@b', { name: 'Juliet' }]])
  })

  test('and a record whose name begins alike are two', async () => {
    const { store } = await setUp()
    await store.map<number>('roster').set(ROMEO, 'juliet@b', 1)
    await store.record('roster.version', 0).update(ROMEO, () => 2)
    expect(await store.map<number>('roster').read(ROMEO, (entries) => [...entries])).toEqual([['juliet@b', 1]])
    expect(await store.record('roster.version', 0).read(ROMEO, (version) => version)).toBe(2)
  })
})

describe('a journal', () => {
  const entry = (text: string) => Buffer.from(text)

  async function idsOf(range: AsyncIterable<{ id: string }>): Promise<string[]> {
    const ids: string[] = []
    for await (const { id } of range) ids.push(id)
    return ids
  }

  test('gives entries in order of ids, both ends exclusive, either way, as many as asked for', async () => {
    const { store } = await setUp()
    const journal = store.journal('offline')
    for (const id of ['3', '1', '5', '2', '4']) journal.append(ROMEO, id, entry(id))
    expect(await idsOf(journal.range(ROMEO, { limit: 10 }))).toEqual(['1', '2', '3', '4', '5'])
    expect(await idsOf(journal.range(ROMEO, { limit: 10, after: '1', before: '5' }))).toEqual(['2', '3', '4'])
    expect(await idsOf(journal.range(ROMEO, { limit: 2, after: '1', before: '5' }))).toEqual(['2', '3'])
    expect(await idsOf(journal.range(ROMEO, { limit: 2, before: '5', reverse: true }))).toEqual(['4', '3'])
    expect(await idsOf(journal.range(ROMEO, { limit: 2, after: 'x' }))).toEqual([])
    expect(await idsOf(journal.range(ROMEO, { limit: 2, after: '15' }))).toEqual(['2', '3'])
  })

  test('sees what was appended and removed before the call', async () => {
    const { store } = await setUp()
    const journal = store.journal('offline')
    journal.append(ROMEO, '1', entry('one'))
    journal.append(ROMEO, '2', entry('two'))
    journal.append(ROMEO, '2', entry('two again'))
    journal.remove(ROMEO, '1')
    const found: string[] = []
    for await (const { entry } of journal.range(ROMEO, { limit: 10 })) found.push(Buffer.from(entry).toString())
    expect(found).toEqual(['two again'])
  })

  test('is one per account', async () => {
    const { store } = await setUp([ROMEO, JULIET])
    const journal = store.journal('offline')
    journal.append(ROMEO, '1', entry('one'))
    expect(await idsOf(journal.range(JULIET, { limit: 10 }))).toEqual([])
  })
})

describe('purge', () => {
  test('deletes every row and journal of the account, and nothing of another', async () => {
    const { store, commit, table } = await setUp([ROMEO, JULIET])
    for (const account of [ROMEO, JULIET]) {
      await store.record('colours', '').update(account, () => 'red')
      await store.map('roster').set(account, 'nurse@b', 1)
      store.journal('offline').append(account, '1', Buffer.from('x'))
    }
    await commit.settled()
    await store.purge(ROMEO.bare)
    expect([await rowsOf(table, 'a#romeo@example.org'), await rowsOf(table, 'j#offline#romeo@example.org')]).toEqual([[], []])
    expect(await rowsOf(table, 'a#juliet@example.org')).toHaveLength(3)
    expect(await rowsOf(table, 'j#offline#juliet@example.org')).toEqual(['1'])
    expect(await store.record('colours', '').read(ROMEO, (colour) => colour)).toBe('')
  })

  test('what was staged and not durable when it began used to outlive it', async () => {
    const { table } = await setUp()
    const slow: Table = {
      ...table,
      put: async (row) => {
        for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve))
        await table.put(row)
      },
    }
    const store = new Store(slow, new Commit(slow, manualClock(), silentLog), ['offline'])
    store.journal('offline').append(ROMEO, '1', Buffer.from('x'))
    await store.purge(ROMEO.bare)
    expect(await rowsOf(table, 'j#offline#romeo@example.org')).toEqual([])
  })
})

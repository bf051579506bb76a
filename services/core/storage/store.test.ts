import { describe, expect, test } from 'vitest'
import { memoryTable } from '#table/memory.ts'
import { type Table, TableUnavailable } from '#table/table.ts'
import { parseJid } from '#xmpp/jid.ts'
import { manualClock } from '../clock.ts'
import { Commit } from '../commits/commit.ts'
import { directLog } from '../commits/direct-log.ts'
import { silentLog } from '../observing/log.ts'
import { Readings } from './readings.ts'
import { ABSENT_ACCOUNTS_MAX, ACCOUNT_RECORD, CACHED_ACCOUNTS_MAX, Store, type Stored } from './store.ts'

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
  const start = (readings?: Readings) => {
    const commit = new Commit(directLog(table, manualClock(), silentLog), silentLog)
    return { commit, store: new Store(table, commit, ['offline'], readings) }
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

  test('is stored as no row where it is what an account has that never wrote one', async () => {
    const { store, commit, table } = await setUp()
    const kept = store.record('kept', false)
    await kept.update(ROMEO, () => true)
    await commit.settled()
    expect(await rowsOf(table, 'a#romeo@example.org')).toEqual(['account', 'kept'])
    await kept.update(ROMEO, () => false)
    await commit.settled()
    expect(await rowsOf(table, 'a#romeo@example.org')).toEqual(['account'])
    expect(kept.read(ROMEO, (value) => value)).toBe(false)
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
    const store = new Store(table, new Commit(directLog(table, manualClock(), silentLog), silentLog), [])
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
    const store = new Store(slow, new Commit(directLog(slow, manualClock(), silentLog), silentLog), ['offline'])
    store.journal('offline').append(ROMEO, '1', Buffer.from('x'))
    await store.purge(ROMEO.bare)
    expect(await rowsOf(table, 'j#offline#romeo@example.org')).toEqual([])
  })
})

describe('purge of an account that is in the way of others', () => {
  /** Keys in the order in which they were deleted. */
  async function deletedOf(journalRows: number): Promise<string[]> {
    const { table } = await setUp()
    const deleted: string[] = []
    const watched: Table = {
      ...table,
      delete: async (key) => {
        deleted.push(`${key.pk} ${key.sk}`)
        await table.delete(key)
      },
    }
    const store = new Store(watched, new Commit(directLog(watched, manualClock(), silentLog), silentLog), ['offline', 'mam'])
    await store.record('zodiac', '').update(ROMEO, () => 'fish') // behind `account` in the order of rows
    for (let i = 0; i < journalRows; i++) store.journal('mam').append(ROMEO, String(i).padStart(6, '0'), Buffer.from('x'))
    await store.purge(ROMEO.bare)
    expect(await rowsOf(table, 'a#romeo@example.org')).toEqual([])
    return deleted
  }

  test('a process that died in between used to leave its archive to whoever registered the name next', async () => {
    const deleted = await deletedOf(3)
    expect(deleted).toHaveLength(5)
    expect(deleted.at(-1)).toBe(`a#romeo@example.org ${ACCOUNT_RECORD}`)
  })

  test('a large one used to be staged whole', async () => {
    const { table } = await setUp()
    const pk = 'j#offline#romeo@example.org'
    for (let i = 0; i < 2_500; i++) await table.put({ pk, sk: `${i}`, version: 'v', value: Buffer.from('x') })
    let [underWay, most] = [0, 0]
    const slow: Table = {
      ...table,
      delete: async (key) => {
        most = Math.max(most, ++underWay)
        await new Promise((resolve) => setImmediate(resolve))
        underWay--
        await table.delete(key)
      },
    }
    await new Store(slow, new Commit(directLog(slow, manualClock(), silentLog), silentLog), ['offline']).purge(ROMEO.bare)
    expect(most).toBeLessThanOrEqual(1_000)
    expect(await rowsOf(table, pk)).toEqual([])
  })

  test('of large rows fewer go at once, and others have a turn behind each portion', async () => {
    const { table } = await setUp()
    const pk = 'j#offline#romeo@example.org'
    const value = new Uint8Array(390_000)
    for (let i = 0; i < 25; i++) await table.put({ pk, sk: `${i + 10}`, version: 'v', value })
    const portions: number[] = []
    const store = new Store(table, new Commit(directLog(table, manualClock(), silentLog), silentLog), ['offline'])
    await store.purge(ROMEO.bare, { portion: (rows) => void portions.push(rows) })
    expect(portions).toEqual([11, 11, 3])
    expect(await rowsOf(table, pk)).toEqual([])
  })

  test('a step that throws ends it, with the account still there', async () => {
    const { table } = await setUp()
    const store = new Store(table, new Commit(directLog(table, manualClock(), silentLog), silentLog), ['offline'])
    await table.put({ pk: 'j#offline#romeo@example.org', sk: '1', version: 'v', value: Buffer.from('x') })
    const last = () => {
      throw new Error('stop')
    }
    await expect(store.purge(ROMEO.bare, { last })).rejects.toThrow('stop')
    expect(await rowsOf(table, 'j#offline#romeo@example.org')).toEqual([])
    expect(await rowsOf(table, 'a#romeo@example.org')).toEqual([ACCOUNT_RECORD])
  })

  test('what a task wanted to write that had begun before used to be there for the next one', async () => {
    const { store, commit, table } = await setUp()
    store.seal(ROMEO.bare)
    expect(() => store.journal('offline').append(ROMEO, '1', Buffer.from('x'))).toThrow('the account is gone')
    await expect(async () => store.record('colours', '').update(ROMEO, () => 'red')).rejects.toThrow('the account is gone')
    await expect(async () => store.map('roster').set(ROMEO, 'nurse@b', 1)).rejects.toThrow('the account is gone')
    await store.purge(ROMEO.bare)
    await commit.settled()
    expect([await rowsOf(table, 'a#romeo@example.org'), await rowsOf(table, 'j#offline#romeo@example.org')]).toEqual([[], []])
    store.unseal(ROMEO.bare)
    store.journal('offline').append(ROMEO, '1', Buffer.from('x')) // of the next one
  })
})

describe('export', () => {
  const all = async (entries: AsyncIterable<Stored>) => {
    const got: [string, string][] = []
    for await (const { id, value } of entries) got.push([id, Buffer.from(value).toString()])
    return got
  }

  test('gives every row of the account but its journals’, in order, also what is only staged', async () => {
    const { store, table } = await setUp([ROMEO, JULIET])
    await store.record('last', 0).update(ROMEO, () => 7)
    await store.map<number>('roster').set(ROMEO, 'juliet', 1)
    await store.record('last', 0).update(JULIET, () => 8)
    await table.put({ pk: `a#${ROMEO.bare}`, sk: 'of a module that is gone', version: 'v', value: Buffer.from('x') })
    const rows = [
      [ACCOUNT_RECORD, '{}'],
      ['last', '7'],
      ['of a module that is gone', 'x'],
      ['roster#juliet', '1'],
    ]
    expect(await all(store.export(ROMEO))).toEqual(rows)
    expect(await all(store.export(ROMEO, { after: 'last' }))).toEqual(rows.slice(2))
    expect(await all(store.export(ROMEO, { after: 'm' }))).toEqual(rows.slice(2)) // which need not be there
  })

  test('gives the entries of a journal, behind any of them', async () => {
    const { store } = await setUp()
    const journal = store.journal('offline')
    for (const id of ['1', '2', '3']) journal.append(ROMEO, id, Buffer.from(`n${id}`))
    expect(await all(store.export(ROMEO, { journal: 'offline' }))).toEqual([
      ['1', 'n1'],
      ['2', 'n2'],
      ['3', 'n3'],
    ])
    expect(await all(store.export(ROMEO, { journal: 'offline', after: '2' }))).toEqual([['3', 'n3']])
    expect(store.journals).toEqual(['offline'])
  })
})

describe('an account that does not exist', () => {
  const NOBODY = parseJid('nobody@example.org')

  async function kept() {
    const made = await setUp()
    made.store.keepAbsent()
    const record = made.store.record<string | null>(ACCOUNT_RECORD, null)
    return { ...made, look: (account = NOBODY) => record.read(account, (value) => value), record }
  }

  test('is read each time, where nobody says that accounts are made here', async () => {
    const { store, queries } = await setUp()
    const record = store.record<null>(ACCOUNT_RECORD, null)
    for (let n = 0; n < 2; n++) expect(await record.read(NOBODY, (value) => value)).toBe(null)
    expect(queries).toHaveLength(2)
  })

  test('else is read once, and the answer comes like that of one that is cached', async () => {
    const { look, queries } = await kept()
    expect(await look()).toBe(null)
    expect(look()).toBe(null) // no promise
    expect(queries).toHaveLength(1)
  })

  test('is there as soon as it is made, also while it is being looked for', async () => {
    const { look, store, table } = await kept()
    expect(await look()).toBe(null)
    await table.put({ pk: 'a#nobody@example.org', sk: ACCOUNT_RECORD, version: 'v', value: Buffer.from('"made"') })
    store.forget(NOBODY.bare)
    expect(await look()).toBe('made')
    const looking = look(JULIET)
    await table.put({ pk: 'a#juliet@example.org', sk: ACCOUNT_RECORD, version: 'v', value: Buffer.from('"made"') })
    store.forget(JULIET.bare)
    await looking
    expect(await look(JULIET)).toBe('made')
  })

  test('of which something is written all the same, it is seen', async () => {
    const { look, record } = await kept()
    await look()
    await record.update(NOBODY, () => 'written')
    expect(await look()).toBe('written')
  })

  test('is none where it is a domain: what is kept of that, anybody may write', async () => {
    const { store, table } = await kept()
    const record = store.record<string | null>('standing', null)
    const read = () => record.read(parseJid('example.org'), (value) => value)
    expect(await read()).toBe(null)
    await table.put({ pk: 'a#example.org', sk: 'standing', version: 'v', value: Buffer.from('"there"') })
    expect(await read()).toBe('there')
  })

  test('names are bounded, in number and in length', async () => {
    const { look, queries } = await kept()
    for (let n = 0; n <= ABSENT_ACCOUNTS_MAX; n++) await look(parseJid(`n${n}@example.org`))
    queries.length = 0
    await look(parseJid('n1@example.org'))
    expect(queries).toEqual([])
    await look(parseJid('n0@example.org'))
    for (let n = 0; n < 2; n++) await look(parseJid(`${'x'.repeat(64)}@example.org`))
    expect(queries).toHaveLength(3)
  })
})

describe('two roles of a process', () => {
  async function both() {
    const readings = new Readings()
    const { start, queries, table } = await setUp()
    const { store: router, commit } = start(readings)
    const { store: presence } = start(readings)
    const numberIn = (store: Store) => store.record('number', 0)
    const told = (store: Store) => numberIn(store).read(ROMEO, (number) => number)
    return { readings, router, presence, commit, queries, table, numberIn, told }
  }

  test('read an account by one query', async () => {
    const { router, presence, queries, told } = await both()
    expect([await told(router), await told(presence)]).toEqual([0, 0])
    expect(queries).toEqual(['a#romeo@example.org'])
  })

  test('of whom one has written, the other reads anew', async () => {
    const { router, presence, commit, queries, numberIn, told } = await both()
    await numberIn(router).update(ROMEO, () => 1)
    await commit.settled()
    expect(await told(presence)).toBe(1)
    expect(queries).toHaveLength(2)
  })

  test('of whom one has removed something, the other reads anew', async () => {
    const { router, presence, commit, queries, numberIn, told } = await both()
    await numberIn(router).update(ROMEO, () => 1)
    await commit.settled()
    router.forget(ROMEO.bare)
    expect(await told(router)).toBe(1)
    await numberIn(router).update(ROMEO, () => 0)
    await commit.settled()
    expect(await told(presence)).toBe(0)
    expect(queries).toHaveLength(3)
  })

  test('do not go by what was read before the other has forgotten the account, or while it wrote', async () => {
    const { router, presence, table, told } = await both()
    await told(router)
    await table.put({ pk: 'a#romeo@example.org', sk: 'number', version: 'w', value: Buffer.from('7') })
    router.forget(ROMEO.bare)
    expect(await told(presence)).toBe(7)
  })

  test('do not go by what was begun to be read before a change, and ended behind it', async () => {
    const { readings, router, presence, commit, numberIn, told } = await both()
    await told(presence)
    readings.drop(ROMEO.bare)
    const reading = told(router)
    await numberIn(presence).update(ROMEO, () => 1)
    await reading
    presence.forget(ROMEO.bare)
    await commit.settled()
    expect(await told(presence)).toBe(1)
  })

  test('do not go by what was read while a change of an account that is forgotten was not durable', async () => {
    const { router, presence, queries, numberIn, told } = await both()
    await numberIn(presence).update(ROMEO, () => 1)
    presence.forget(ROMEO.bare)
    await told(router)
    expect(await told(presence)).toBe(1)
    expect(queries).toHaveLength(3)
  })

  test('leave what each of them has made of a row to itself', async () => {
    const { router, presence, commit, numberIn, told } = await both()
    await told(router)
    await told(presence)
    await numberIn(router).update(ROMEO, () => 1)
    await commit.settled()
    expect(await told(presence)).toBe(0)
  })
})

describe('accounts that have another owner', () => {
  const others = (account: string) => account !== ROMEO.bare

  test('are not known any more, and are read anew when they are asked for', async () => {
    const { store, table, queries } = await setUp()
    const colours = store.record<string>('colours', '')
    store.seal(ROMEO.bare)
    await colours.read(ROMEO, (value) => value)
    store.release(others)
    expect([colours.peek(ROMEO), store.isSealed(ROMEO.bare)]).toEqual(['', true])
    store.release(() => true)
    expect([colours.peek(ROMEO), store.isSealed(ROMEO.bare)]).toEqual([undefined, false])
    await table.put({ pk: `a#${ROMEO.bare}`, sk: 'colours', version: 'x', value: Buffer.from('"red"') })
    expect(await colours.read(ROMEO, (value) => value)).toBe('red')
    expect(queries).toHaveLength(2)
  })

  test('whoever waits for a read of one is told TableUnavailable: what he would do is somebody else’s to do', async () => {
    const { store } = await setUp()
    const colours = store.record<string>('colours', '')
    const changing = colours.update(ROMEO, () => 'red') as Promise<unknown>
    store.release(() => true)
    await expect(changing).rejects.toBeInstanceOf(TableUnavailable)
    expect(await colours.read(ROMEO, (value) => value)).toBe('')
  })

  test('are read, and neither kept nor written, where they are not ours', async () => {
    const { table, queries } = await setUp()
    const held = { has: (account: string) => others(account) }
    const commit = new Commit(directLog(table, manualClock(), silentLog), silentLog, held.has)
    const store = new Store(table, commit, ['offline'], undefined, undefined, held)
    const colours = store.record<string>('colours', '')
    for (let n = 0; n < 2; n++) expect(await colours.read(ROMEO, (value) => value)).toBe('')
    expect(queries).toHaveLength(2)
    await expect(colours.update(ROMEO, () => 'red')).rejects.toBeInstanceOf(TableUnavailable)
    expect(() => store.journal('offline').append(ROMEO, 'id', Buffer.from('x'))).toThrow(TableUnavailable)
    await expect(store.journal('offline').get(ROMEO, 'id')).rejects.toBeInstanceOf(TableUnavailable)
    expect(commit.busy).toBe(false)
  })
})

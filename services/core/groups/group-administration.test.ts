import { describe, expect, test } from 'vitest'
import type { Bus } from '#bus/bus.ts'
import { memoryBus } from '#bus/memory.ts'
import { memoryTable } from '#table/memory.ts'
import { type Key, type Table, TableUnavailable } from '#table/table.ts'
import type { StanzaError } from '#xmpp/error.ts'
import { type Jid, parseJid } from '#xmpp/jid.ts'
import { manualClock } from '../clock.ts'
import { silentLog } from '../observing/log.ts'
import { GROUP_LIMITS, GroupAdministration } from './group-administration.ts'
import { CHECK_MS, GroupDirectory } from './group-directory.ts'

const STAFF = parseJid('staff@example.org')
const jid = (name: string): Jid => parseJid(`${name}@example.org`)
const some = (count: number, from = 0): Jid[] => Array.from({ length: count }, (_, n) => jid(`user${from + n}`))

/** The same table, but for what a test has it do otherwise. */
function tableWith(inner: Table, otherwise: Partial<Table>): Table {
  return {
    get: (key) => inner.get(key),
    put: (row, condition) => inner.put(row, condition),
    delete: (key, condition) => inner.delete(key, condition),
    query: (pk, range) => inner.query(pk, range),
    ...otherwise,
  }
}

/** As between processes: what is said may be lost. */
function lossy(bus: Bus): Bus {
  return {
    lossless: false,
    publish: (subject, body) => bus.publish(subject, body),
    request: (subject, body, timeoutMs) => bus.request(subject, body, timeoutMs),
    subscribe: (subject, handler, options) => bus.subscribe(subject, handler, options),
    drain: () => bus.drain(),
    status: (handler) => bus.status(handler),
  }
}

/** A process of a deployment: what it knows of groups, and the way to change them. */
function open(table: Table, { bus = memoryBus(), absent = new Set<string>() } = {}) {
  const clock = manualClock()
  const directory = new GroupDirectory({ table, bus: lossy(bus), clock, log: silentLog })
  const administration = new GroupAdministration(directory, async ({ bare }) => !absent.has(bare))
  return { directory, administration, clock }
}

async function keysOf(table: Table, pk = 'g#example.org'): Promise<string[]> {
  const keys: string[] = []
  for await (const { sk } of table.query(pk)) keys.push(sk)
  return keys
}

const refused = (condition: string, text = '') =>
  expect.objectContaining({ condition, text: expect.stringContaining(text) }) as StanzaError

describe('what an administrator does with groups', () => {
  test('a group is made, changed, filled, emptied and deleted, and nothing of it stays', async () => {
    const table = memoryTable()
    const { administration } = open(table)
    await administration.create(STAFF, { displayName: 'The Staff' })
    expect(await administration.add(STAFF, [jid('romeo'), jid('juliet'), jid('romeo')])).toBe(2)
    expect(await administration.add(STAFF, [jid('romeo')])).toBe(0)
    const facts = { group: 'staff@example.org', displayName: 'The Staff', description: '', seenBy: 'members', seenByGroups: [] }
    expect(await administration.list('example.org')).toEqual([{ ...facts, members: 2 }])
    expect(await administration.members(STAFF)).toEqual(['juliet@example.org', 'romeo@example.org'])
    await administration.set(STAFF, { description: 'Everybody who works here', seenBy: 'everybody' })
    expect(await open(table).administration.show(STAFF)).toMatchObject({
      description: 'Everybody who works here',
      seenBy: 'everybody',
      members: 2,
    })
    expect(await administration.removeMembers(STAFF, [jid('romeo'), jid('nobody')])).toBe(1)
    expect(await administration.members(STAFF)).toEqual(['juliet@example.org'])
    await administration.delete(STAFF)
    expect(await administration.list('example.org')).toEqual([])
    expect(await keysOf(table)).toEqual([])
  })

  test('names are prepared as those of accounts are, and may be what an object has anyway', async () => {
    const { administration } = open(memoryTable())
    for (const name of ['Staff', '__proto__', 'constructor']) await administration.create(parseJid(`${name}@example.org`))
    expect((await administration.list('example.org')).map(({ group }) => group)).toEqual([
      '__proto__@example.org',
      'constructor@example.org',
      'staff@example.org',
    ])
    await expect(administration.create(STAFF)).rejects.toEqual(refused('conflict', 'there is a group staff@example.org'))
  })

  test('a group that others see by is forgotten by them when it is deleted: one of that name later sees nothing', async () => {
    const { administration } = open(memoryTable())
    const board = jid('board')
    await administration.create(board)
    await administration.create(STAFF, { seenByGroups: ['board', 'Board@example.org', 'staff'] })
    expect(await administration.show(STAFF)).toMatchObject({ seenByGroups: ['board', 'staff'] })
    await administration.delete(board)
    await administration.create(board)
    expect(await administration.show(STAFF)).toMatchObject({ seenByGroups: ['staff'] })
  })

  test('an account that is deleted leaves all its groups', async () => {
    const { administration } = open(memoryTable())
    for (const name of ['a', 'b', 'c']) await administration.create(jid(name))
    for (const name of ['a', 'b']) await administration.add(jid(name), [jid('romeo'), jid('juliet')])
    expect((await administration.groupsOf(jid('romeo'))).map(({ group }) => group)).toEqual(['a@example.org', 'b@example.org'])
    await administration.leaveAll(jid('romeo'))
    expect((await administration.list('example.org')).map(({ members }) => members)).toEqual([1, 1, 0])
    expect(await administration.groupsOf(jid('romeo'))).toEqual([])
  })

  test('an account that is deleted while it is added is no member: whoever has its name next would be', async () => {
    const absent = new Set<string>()
    const inner = memoryTable()
    const table = tableWith(inner, {
      put: async (row, condition) => {
        await inner.put(row, condition)
        absent.add('romeo@example.org')
      },
    })
    const { administration } = open(table, { absent })
    await administration.create(STAFF)
    absent.clear()
    expect(await administration.add(STAFF, [jid('romeo'), jid('juliet')])).toBe(1)
    expect(await administration.members(STAFF)).toEqual(['juliet@example.org'])
  })
})

describe('what is refused', () => {
  test('whatever is of another domain, or is not there', async () => {
    const { administration } = open(memoryTable(), { absent: new Set(['nobody@example.org']) })
    await expect(administration.show(STAFF)).rejects.toEqual(refused('item-not-found', 'there is no group staff@example.org'))
    for (const task of [administration.set(STAFF, {}), administration.delete(STAFF), administration.add(STAFF, [jid('romeo')])])
      await expect(task).rejects.toEqual(refused('item-not-found'))
    await administration.create(STAFF)
    const add = (...accounts: Jid[]) => administration.add(STAFF, accounts)
    await expect(add(jid('romeo'), jid('nobody'))).rejects.toEqual(refused('item-not-found', 'nobody@example.org'))
    await expect(add(parseJid('iago@venice.example'))).rejects.toEqual(refused('not-acceptable', 'no account of example.org'))
    expect(await administration.members(STAFF)).toEqual([])
    const listing = (...seenByGroups: string[]) => administration.set(STAFF, { seenByGroups })
    await expect(listing('board')).rejects.toEqual(refused('item-not-found', 'board@example.org'))
    await expect(listing('board@venice.example')).rejects.toEqual(refused('not-acceptable'))
    await expect(listing('a b')).rejects.toEqual(refused('jid-malformed', 'is no group'))
  })

  test.each([
    ['a display name of nothing', { displayName: ' ' }, 'not-acceptable'],
    ['a display name of two lines', { displayName: 'a\nb' }, 'not-acceptable'],
    ['a display name with a control character', { displayName: 'bell\u0007' }, 'bad-request'],
    ['a display name too long', { displayName: 'x'.repeat(256) }, 'not-acceptable'],
    ['a description too long', { description: 'ö'.repeat(512) }, 'not-acceptable'],
    ['too many groups that see it', { seenByGroups: Array.from({ length: 101 }, (_, n) => `g${n}`) }, 'not-acceptable'],
  ])('%s', async (_what, change, condition) => {
    const { administration } = open(memoryTable())
    await expect(administration.create(STAFF, change)).rejects.toEqual(refused(condition))
    await administration.create(STAFF)
    await expect(administration.set(STAFF, change)).rejects.toEqual(refused(condition))
  })

  test('a name too long', async () => {
    const { administration } = open(memoryTable())
    await expect(administration.create(jid('x'.repeat(65)))).rejects.toEqual(refused('not-acceptable'))
  })

  test('more members than a group may have', async () => {
    const { administration } = open(memoryTable())
    await administration.create(STAFF)
    await administration.add(STAFF, some(GROUP_LIMITS.membersMax))
    await expect(administration.add(STAFF, [jid('romeo')])).rejects.toEqual(refused('resource-constraint'))
    expect(await administration.show(STAFF)).toMatchObject({ members: GROUP_LIMITS.membersMax })
  })
})

describe('how members are stored', () => {
  test('ten thousand of long names take many rows, each far smaller than a row may be; one more is two rows written', async () => {
    const inner = memoryTable()
    const written: { sk: string; bytes: number }[] = []
    const table = tableWith(inner, {
      put(row, condition) {
        if (row.pk === 'g#example.org') written.push({ sk: row.sk, bytes: row.value.length })
        return inner.put(row, condition)
      },
    })
    const { administration } = open(table)
    const long = (n: number) => jid(`${String((n * 7_919) % 10_000).padStart(5, '0')}${'x'.repeat(200)}`)
    await administration.create(STAFF)
    await administration.add(
      STAFF,
      Array.from({ length: 9_999 }, (_, n) => long(n)),
    )
    expect(written.length).toBeGreaterThan(40)
    expect(Math.max(...written.map(({ bytes }) => bytes))).toBeLessThanOrEqual(64 * 1024)
    written.length = 0
    await administration.add(STAFF, [jid('05000a')])
    expect(written).toHaveLength(2)
    const members = await open(inner).administration.members(STAFF)
    expect([members.length, members.includes('05000a@example.org'), new Set(members).size]).toEqual([10_000, true, 10_000])
    expect(await keysOf(inner)).toHaveLength((await partsOf(inner)) + 1)
  })

  async function partsOf(table: Table): Promise<number> {
    for await (const { value } of table.query('g#example.org')) {
      const read: unknown = JSON.parse(Buffer.from(value).toString('utf8'))
      if (!Array.isArray(read)) return (read as { parts: string[] }).parts.length
    }
    throw new Error('there is no head')
  }

  test('two who change a group at the same time both do', async () => {
    const table = memoryTable()
    const [one, other] = [open(table), open(table)]
    await one.administration.create(STAFF)
    await Promise.all([
      ...some(5).map((account) => one.administration.add(STAFF, [account])),
      ...some(5, 5).map((account) => other.administration.add(STAFF, [account])),
    ])
    expect(await one.administration.show(STAFF)).toMatchObject({ members: 10 })
    expect(await keysOf(table)).toHaveLength(2)
  })

  test('whoever dies before the moment of the change has changed nothing, and what he has left goes with the next one', async () => {
    const inner = memoryTable()
    let dies = false
    const table = tableWith(inner, {
      put(row, condition) {
        if (dies && row.pk === 'o#groups') throw new TableUnavailable('it is away')
        return inner.put(row, condition)
      },
    })
    const { administration } = open(table)
    await administration.create(STAFF)
    await administration.add(STAFF, some(3))
    dies = true
    await expect(administration.add(STAFF, [jid('romeo')])).rejects.toThrow(TableUnavailable)
    dies = false
    expect(await keysOf(inner)).toHaveLength(4)
    expect(await administration.show(STAFF)).toMatchObject({ members: 3 })
    await administration.add(STAFF, [jid('juliet')])
    expect(await keysOf(inner)).toHaveLength(2)
    expect(await administration.show(STAFF)).toMatchObject({ members: 4 })
  })

  test('the answer to the change was lost, and the driver asked again: it is done, once', async () => {
    const inner = memoryTable()
    const table = tableWith(inner, {
      async put(row, condition) {
        await inner.put(row, condition)
        if (row.pk === 'o#groups') await inner.put(row, condition)
      },
    })
    const { administration } = open(table)
    await administration.create(STAFF)
    expect(await administration.add(STAFF, some(3))).toBe(3)
    expect(await keysOf(inner)).toHaveLength(2)
  })
})

describe('what the processes of a deployment know', () => {
  test('a change is known where it was made at once, and elsewhere by a word on the bus', async () => {
    const table = memoryTable()
    const bus = memoryBus()
    const [here, there] = [open(table, { bus }), open(table, { bus })]
    for (const { directory } of [here, there]) await directory.start(['example.org'])
    const heard: [number, number][] = []
    there.directory.onChange((before, after) => heard.push([before.groups.size, after.groups.size]))
    await here.administration.create(STAFF)
    expect(here.directory.known('example.org')!.groups.size).toBe(1)
    await expect.poll(() => there.directory.known('example.org')!.groups.size).toBe(1)
    expect(heard).toEqual([[0, 1]])
    for (const { directory } of [here, there]) directory.close()
  })

  test('a word that is lost is made up for, and what has not changed is not read again', async () => {
    const inner = memoryTable()
    const read: Key[] = []
    const table = tableWith(inner, {
      get(key) {
        read.push(key)
        return inner.get(key)
      },
    })
    const [here, there] = [open(inner), open(table)] // on buses of their own
    await here.administration.create(STAFF)
    await here.administration.create(jid('board'))
    await there.directory.start(['example.org'])
    const before = there.directory.known('example.org')!
    read.length = 0
    await here.administration.add(STAFF, some(3))
    for (let tries = 0; tries < 5; tries++) await there.clock.settle(CHECK_MS)
    const after = there.directory.known('example.org')!
    expect(after.groups.get('staff')!.members.size).toBe(3)
    expect(after.groups.get('board')).toBe(before.groups.get('board'))
    expect(read.every(({ sk }) => sk.startsWith('staff/'))).toBe(true)
    there.directory.close()
  })

  test('while the table is away what is known stays, and it is read when the table is back', async () => {
    const inner = memoryTable()
    let away = false
    const table = tableWith(inner, {
      query(pk, range) {
        if (away) throw new TableUnavailable('it is away')
        return inner.query(pk, range)
      },
    })
    const [here, there] = [open(inner), open(table)]
    await there.directory.start(['example.org'])
    await here.administration.create(STAFF)
    away = true
    for (let tries = 0; tries < 3; tries++) await there.clock.settle(CHECK_MS)
    expect(there.directory.known('example.org')!.groups.size).toBe(0)
    away = false
    for (let tries = 0; tries < 3; tries++) await there.clock.settle(CHECK_MS)
    expect(there.directory.known('example.org')!.groups.size).toBe(1)
    there.directory.close()
  })
})

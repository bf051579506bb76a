import { describe, expect, test } from 'vitest'
import { parseJid } from '#xmpp/jid.ts'
import { Accounts } from '../storage/accounts.ts'
import { ArchiveIds } from '../storage/archive-id.ts'
import { Readings } from '../storage/readings.ts'
import { ACCOUNT_RECORD, Store } from '../storage/store.ts'
import { rowsOf, TestOwner, World } from './owner-log.fixture.ts'

const ROMEO = parseJid('romeo@example.org')
const PK = `a#${ROMEO.bare}`
const ARCHIVE = `j#mam#${ROMEO.bare}`
const JOURNALS = ['mam', 'vcard']

const nothing = (): void => {}

function setUp() {
  const world = new World()
  const owner = new TestOwner(world)
  const readings = new Readings()
  const storeOf = ({ table, commit }: TestOwner) => new Store(table, commit, JOURNALS, readings)
  return { world, owner, readings, storeOf, store: storeOf(owner), ids: new ArchiveIds(world.clock, () => {}) }
}

/** What comes of it, while everything is answered. */
async function done<T>(world: World, work: T | Promise<T>): Promise<T> {
  let ended = false
  const finish = Promise.resolve(work).finally(() => (ended = true))
  finish.catch(() => {})
  await world.until(() => ended)
  return finish
}

/** The flush at hand is durable, and what it is to write is on its way. */
async function durable(world: World): Promise<void> {
  await world.turn()
  const ask = world.asks.find(({ what }) => what.endsWith(' log'))!
  await ask.happen()
  ask.answer()
  world.tidy()
  await world.turn()
}

async function sksOf(world: World, pk: string): Promise<string[]> {
  return (await rowsOf(world.inner, pk)).map(({ sk }) => sk)
}

describe('what is durable and not applied', () => {
  test('is read all the same: a record that was forgotten is not read before it is there', async () => {
    const { world, owner, store } = setUp()
    const record = store.record('colour', 'none')
    await world.inner.put({ pk: PK, sk: ACCOUNT_RECORD, version: 'v', value: Buffer.from('{}') })
    await done(world, record.read(ROMEO, nothing))
    record.update(ROMEO, () => 'red')
    await durable(world)
    expect(owner.commit.pending(ROMEO.bare)).toBe(false)
    store.forget(ROMEO.bare)
    const queries = world.counts.query
    const read = record.read(ROMEO, (colour) => colour)
    await world.turn()
    expect(world.counts.query).toBe(queries)
    expect(await done(world, read)).toBe('red')
  })

  test('is among the entries of a journal, and found by its id', async () => {
    const { world, store, ids } = setUp()
    const archive = store.journal('mam', 'unique')
    const id = ids.next()
    archive.append(ROMEO, id, Buffer.from('hi'))
    await durable(world)
    const found: string[] = []
    const range = async () => {
      for await (const { id } of archive.range(ROMEO, { limit: 9 })) found.push(id)
    }
    expect(Buffer.from((await done(world, archive.get(ROMEO, id)))!).toString()).toBe('hi')
    await done(world, range())
    expect(found).toEqual([id])
  })

  test('is not handed to the other role as it was before', async () => {
    const { world, owner, readings, storeOf } = setUp()
    await world.inner.put({ pk: PK, sk: ACCOUNT_RECORD, version: 'v', value: Buffer.from('{}') })
    const mine = storeOf(owner)
    const other = storeOf(new TestOwner(world, 'other'))
    const record = mine.record('colour', 'none')
    await done(world, record.read(ROMEO, nothing))
    record.update(ROMEO, () => 'red')
    await durable(world)
    const late = world.asks.splice(0) // its row
    readings.drop(ROMEO.bare)
    await done(
      world,
      other.record('colour', 'none').read(ROMEO, () => {}),
    ) // as it was before, which it may be for the other
    world.asks.push(...late)
    await done(world, owner.commit.drained())
    expect(readings.take(ROMEO.bare)).toBeUndefined()
  })
})

describe('an account that is deleted', () => {
  test('leaves nothing, whichever role has written it, and nothing comes back', async () => {
    const { world, owner, store, ids } = setUp()
    const presence = new TestOwner(world, 'presence')
    presence.epoch = 40 // the roles count for themselves
    for (const { commit, table } of [owner, presence]) {
      const mine = new Store(table, commit, JOURNALS)
      await done(
        world,
        mine.record(commit === owner.commit ? 'blocking' : 'roster', '').update(ROMEO, () => 'x'),
      )
      mine.journal('vcard').append(ROMEO, commit === owner.commit ? 'a' : 'b', Buffer.from('x'))
    }
    store.journal('mam', 'unique').append(ROMEO, ids.next(), Buffer.from('hi'), undefined, ['juliet@b'])
    await done(world, Promise.all([owner.commit.drained(), presence.commit.drained()]))
    const before = [...(await rowsOf(world.inner, PK)), ...(await rowsOf(world.inner, `j#vcard#${ROMEO.bare}`))]
    expect(before).toHaveLength(4)
    await done(world, store.purge(ROMEO.bare))
    for (const pk of [PK, ARCHIVE, `j#vcard#${ROMEO.bare}`]) expect(await sksOf(world, pk)).toEqual([])
    for (const row of before)
      await expect(world.inner.put(row, { olderThan: row.version }), 'late').rejects.toThrow('version conflict')
    presence.commit.stage(ROMEO.bare, { put: { pk: PK, sk: 'roster', version: 'v', value: Buffer.from('next') } })
    await done(world, presence.commit.drained())
    expect(await sksOf(world, PK)).toEqual(['roster']) // whoever has the name next
  })

  test('and made anew: what is late of the one before does not overwrite it, what is written now does', async () => {
    const { world, owner, store } = setUp()
    const accounts = new Accounts(owner.table, store, world.clock, 4_096)
    const create = async (): Promise<void> => {
      let ended = false
      const creating = accounts.create(ROMEO, 'a secret').finally(() => (ended = true))
      while (!ended) if (!(await world.step())) await new Promise((resolve) => setTimeout(resolve, 1)) // a thread hashes
      await creating
    }
    const rowNow = () => world.inner.get({ pk: PK, sk: ACCOUNT_RECORD })
    await create()
    await done(world, accounts.disable(ROMEO, 'first'))
    await done(world, owner.commit.drained())
    const old = (await rowNow())!
    await done(world, store.purge(ROMEO.bare))
    await create()
    await expect(world.inner.put(old, { olderThan: old.version })).rejects.toThrow('version conflict')
    await done(world, accounts.disable(ROMEO, 'second'))
    await done(world, owner.commit.drained())
    expect(JSON.parse(Buffer.from((await rowNow())!.value).toString())).toMatchObject({ disabled: { reason: 'second' } })
  })
})

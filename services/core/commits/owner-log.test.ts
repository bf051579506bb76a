import { describe, expect, test } from 'vitest'
import type { Row } from '#table/table.ts'
import type { Write } from './commit.ts'
import { ITEM_BYTES, itemKey } from './log-item.ts'
import { Recoverer, rowsOf, TestOwner, World } from './owner-log.fixture.ts'
import { LOG_KEPT_S } from './owner-log.ts'

const ROMEO = 'romeo@a'
const PK = `a#${ROMEO}`
const JOURNAL = `j#mam#${ROMEO}`
const LOG = 'l#p1#router'

const put = (sk: string, value: string): Write => ({ put: { pk: PK, sk, version: 'v', value: Buffer.from(value) } })
const remove = (sk: string): Write => ({ delete: { pk: PK, sk } })
const entry = (sk: string, value = sk): Write => ({
  put: { pk: JOURNAL, sk, version: `cause-${sk}`, value: Buffer.from(value) },
  order: 'free',
})

function setUp() {
  const world = new World()
  const owner = new TestOwner(world)
  const released: string[] = []
  const say = (what: string, ...writes: Write[]) => {
    for (const write of writes) owner.commit.stage(ROMEO, write)
    owner.commit.after(ROMEO, () => released.push(what))
  }
  return { world, owner, released, say, textsOf: () => textsAt(world) }
}

async function textsAt(world: World, pk = PK): Promise<Record<string, string>> {
  const rows = await rowsOf(world.inner, pk)
  return Object.fromEntries(rows.map(({ sk, value }) => [sk, Buffer.from(value).toString()]))
}

async function recovered(world: World, name = 'p2', process = 'p1', appliedBehind = 0): Promise<Recoverer> {
  const recoverer = new Recoverer(world, name, process, appliedBehind)
  await world.until(() => recoverer.done)
  expect(recoverer.failed).toBeUndefined()
  return recoverer
}

describe('a flush', () => {
  test('is durable by one write, and released then; its rows follow', async () => {
    const { world, owner, released, say, textsOf } = setUp()
    say('hello', put('one', '1'), put('two', '2'), entry('m1'))
    await world.turn()
    expect(world.asks.map(({ what }) => what)).toEqual(['p1 log'])
    await world.step()
    await world.turn()
    expect([released, await textsOf(), owner.owner.applied]).toEqual([['hello'], {}, 0])
    expect(owner.commit.applied(ROMEO)).toBeInstanceOf(Promise)
    await world.until(() => owner.commit.applied(ROMEO) === undefined)
    expect([await textsOf(), owner.owner.applied]).toEqual([{ one: '1', two: '2' }, 1])
  })

  test('is refused by no row that was there: an owner that comes later has newer versions', async () => {
    const { world, owner, say, textsOf } = setUp()
    for (const [sk, version] of Object.entries({ one: 'zzzzzzzzzzzz', two: '_', three: `~${'0'.repeat(20)} v` }))
      await world.inner.put({ pk: PK, sk, version, value: Buffer.from('old') })
    say('hello', put('one', '1'), remove('two'), put('three', '3'))
    await world.until(() => owner.commit.applied(ROMEO) === undefined)
    expect(await textsOf()).toEqual({ one: '1', three: '3' })
  })

  test('writes the latest of each row only', async () => {
    const { world, owner, say, textsOf } = setUp()
    say('hello', put('one', '1'), put('one', '2'), put('two', '1'), remove('two'), put('one', '3'))
    await world.until(() => owner.commit.applied(ROMEO) === undefined)
    expect([await textsOf(), world.counts]).toEqual([{ one: '3' }, { log: 1, put: 1, delete: 1 }])
  })

  test('rows of several flushes are applied together, while the first of them is', async () => {
    const { world, owner, released, say } = setUp()
    const log = () => world.asks.find(({ what, answered }) => what === 'p1 log' && !answered)
    for (const [i, what] of ['a', 'b', 'c'].entries()) {
      say(what, put('same', what))
      await world.turn()
      await log()!.happen()
      log()!.answer()
      await world.turn()
      expect(released).toHaveLength(i + 1)
    }
    await world.until(() => owner.commit.applied(ROMEO) === undefined)
    expect([world.counts, owner.owner.applied]).toEqual([{ log: 3, put: 2 }, 3])
  })

  test('a row that expires does so in the table, too; the item of the log goes after a day', async () => {
    const { world, owner, say } = setUp()
    const expiresAtS = 2_000_000_000
    const nowS = Math.floor(world.clock.now() / 1_000)
    say('hello', { put: { pk: PK, sk: 'one', version: 'v', value: Buffer.from('1'), expiresAtS } })
    await world.until(() => owner.commit.applied(ROMEO) === undefined)
    expect((await world.inner.get({ pk: PK, sk: 'one' }))?.expiresAtS).toBe(expiresAtS)
    const [item] = await rowsOf(world.inner, LOG)
    expect(item?.expiresAtS).toBe(nowS + LOG_KEPT_S)
  })

  test('over 350 kB it is several items, and durable when all of them are', async () => {
    const { world, owner, released, say, textsOf } = setUp()
    const large = 'x'.repeat(390_000)
    say('hello', put('one', large), put('two', large))
    await world.turn()
    expect(world.asks.map(({ what }) => what)).toEqual(['p1 log', 'p1 log', 'p1 log'])
    const [first, second, third] = world.asks
    for (const ask of [third!, first!]) {
      await ask.happen()
      ask.answer()
    }
    await world.turn()
    expect(released).toEqual([])
    await second!.happen()
    second!.answer()
    await world.turn()
    expect(released).toEqual(['hello'])
    for (const { value } of await rowsOf(world.inner, LOG)) expect(value.length).toBeLessThanOrEqual(ITEM_BYTES + 5)
    say('again', put('one', 'small'))
    await world.until(() => released.length === 2)
    owner.dead = true
    await recovered(world)
    expect(await textsOf()).toEqual({ one: 'small', two: large })
  })

  test('while the table is away it is tried again; when it is back all goes on', async () => {
    const { world, owner, released, say, textsOf } = setUp()
    say('hello', put('one', '1'))
    for (let i = 0; i < 20; i++) {
      await world.turn()
      for (const ask of world.asks) if (!ask.answered) ask.lose()
      world.asks = []
      await world.clock.settle(5_000)
    }
    expect(released).toEqual([])
    await world.until(() => owner.commit.applied(ROMEO) === undefined)
    expect([released, await textsOf(), owner.fenced]).toEqual([['hello'], { one: '1' }, 0])
  })

  test('whose answer was lost was written all the same: it was I', async () => {
    const { world, owner, released, say } = setUp()
    say('hello', put('one', '1'))
    await world.turn()
    await world.asks[0]!.happen()
    world.asks[0]!.lose()
    await world.until(() => owner.commit.applied(ROMEO) === undefined)
    expect([released, owner.fenced, world.counts.get]).toEqual([['hello'], 0, 1])
    expect(await rowsOf(world.inner, LOG)).toHaveLength(1)
  })

  test('a row that the table refuses for good is logged and holds nothing up', async () => {
    const { world, owner, say } = setUp()
    const inner = world.inner.put.bind(world.inner)
    world.inner.put = async (row, condition) => {
      if (row.sk === 'bad') throw new Error('never')
      return inner(row, condition)
    }
    say('hello', put('bad', '1'), put('good', '2'))
    await world.until(() => owner.commit.applied(ROMEO) === undefined)
    expect(await textsAt(world)).toEqual({ good: '2' })
    expect(owner.log.lines).toMatchObject([{ level: 'error', event: 'commit.write_refused', fields: { key: { sk: 'bad' } } }])
  })
})

describe('an owner that is not sure', () => {
  test('writes nothing, and goes on when it is', async () => {
    const { world, owner, released, say } = setUp()
    owner.sure = false
    say('hello', put('one', '1'))
    await world.clock.settle(60_000)
    expect(world.asks).toEqual([])
    owner.sure = true
    await world.until(() => owner.commit.applied(ROMEO) === undefined)
    expect(released).toEqual(['hello'])
  })

  test('releases nothing, though it is durable, and applies nothing', async () => {
    const { world, owner, released, say } = setUp()
    say('hello', put('one', '1'))
    await world.turn()
    owner.sure = false
    await world.step()
    await world.clock.settle(60_000)
    expect([released, world.asks]).toEqual([[], []])
    owner.sure = true
    await world.clock.settle(1_000)
    expect(released).toEqual(['hello'])
    owner.sure = false
    await world.clock.settle(60_000)
    expect(world.counts.put).toBe(1) // which it had begun
  })

  test('does not try again to apply, either', async () => {
    const { world, owner, released, say } = setUp()
    say('hello', put('one', '1'))
    await world.step()
    await world.turn()
    owner.sure = false
    for (const ask of world.asks) ask.lose()
    await world.clock.settle(60_000)
    expect([released, world.counts]).toEqual([['hello'], { log: 1, put: 1 }])
    owner.sure = true
    await world.until(() => owner.commit.applied(ROMEO) === undefined)
  })

  test('does not try again', async () => {
    const { world, owner, say } = setUp()
    say('hello', put('one', '1'))
    await world.turn()
    world.asks[0]!.lose()
    owner.sure = false
    await world.clock.settle(60_000)
    expect(world.counts).toEqual({ log: 1 })
  })
})

describe('recovery', () => {
  test('applies what was durable and not applied, and seals the log behind it', async () => {
    const { world, owner, released, say, textsOf } = setUp()
    say('hello', put('one', '1'), entry('m1'))
    await world.turn()
    await world.step()
    await world.turn()
    owner.dead = true
    expect([released, await textsOf()]).toEqual([['hello'], {}])
    await recovered(world)
    expect([await textsOf(), await textsAt(world, JOURNAL)]).toEqual([{ one: '1' }, { m1: 'm1' }])
    expect((await world.inner.get({ pk: LOG, sk: itemKey(2) }))?.value).toEqual(new Uint8Array(Buffer.from('{"seal":true}')))
  })

  test('begins behind what was applied', async () => {
    const { world, owner, say } = setUp()
    for (const sk of ['one', 'two', 'three']) {
      say(sk, put(sk, sk))
      await world.until(() => owner.commit.applied(ROMEO) === undefined)
    }
    owner.dead = true
    const before = world.counts.put
    await recovered(world, 'p2', 'p1', 2)
    expect(world.counts.put).toBe(before! + 1)
  })

  test('of a log in which nothing was ever written seals it at its beginning', async () => {
    const { world } = setUp()
    await recovered(world)
    expect((await rowsOf(world.inner, LOG)).map(({ sk }) => sk)).toEqual([itemKey(1)])
  })

  test('a flush of which a part is missing was never durable: nothing of it appears', async () => {
    const { world, owner, say, textsOf } = setUp()
    say('hello', put('one', 'x'.repeat(390_000)), put('two', 'x'.repeat(390_000)))
    await world.turn()
    const [first, second, third] = world.asks
    await first!.happen()
    await third!.happen()
    owner.dead = true
    const recoverer = new Recoverer(world, 'p2', 'p1', 0)
    world.asks = [second!, ...world.asks.filter((ask) => ask !== second)]
    second!.answered = true // it is under way, for a long time
    await world.until(() => recoverer.done)
    await second!.happen()
    expect([await textsOf(), recoverer.failed]).toEqual([{}, undefined])
  })

  test('what comes late fails at the seal: the owner is fenced, and releases nothing', async () => {
    const { world, owner, released, say, textsOf } = setUp()
    say('first', put('one', '1'))
    await world.until(() => owner.commit.applied(ROMEO) === undefined)
    say('late', put('one', '2'))
    await world.turn()
    const late = world.asks.splice(0)
    owner.sure = false
    await recovered(world, 'p2', 'p1', 1)
    world.asks.push(...late)
    owner.sure = true // as one believes who has slept
    await world.until(() => owner.fenced > 0)
    await world.clock.settle(60_000)
    expect([released, await textsOf(), owner.fenced]).toEqual([['first'], { one: '1' }, 1])
    expect(owner.log.lines).toMatchObject([{ event: 'log.sealed', fields: { process: 'p1', number: 2 } }])
  })

  test('a flush that is durable behind the back of an owner who is fenced is not released', async () => {
    const { world, owner, released, say, textsOf } = setUp()
    say('hello', put('one', '1'))
    await world.turn()
    await world.asks[0]!.happen()
    owner.sure = false
    owner.fence()
    await recovered(world)
    owner.sure = true
    world.asks[0]?.answer()
    await world.clock.settle(60_000)
    expect([released, await textsOf()]).toEqual([[], { one: '1' }]) // as after a crash: it is there, and was not acked
  })

  test('the rows of a dead owner that come late overwrite nothing newer, and bring nothing back', async () => {
    const { world, owner, say, textsOf } = setUp()
    say('hello', put('one', 'old'), put('two', 'old'), put('three', 'old'))
    await world.turn()
    await world.step()
    await world.turn()
    const late = world.asks.splice(0) // three puts, somewhere on their way
    expect(late).toHaveLength(3)
    owner.dead = true
    await recovered(world)
    const next = new TestOwner(world, 'p2')
    next.epoch = 2
    for (const write of [put('one', 'new'), remove('two')]) next.commit.stage(ROMEO, write)
    await world.until(() => next.commit.applied(ROMEO) === undefined)
    for (const ask of late) await ask.happen()
    expect(await textsOf()).toEqual({ one: 'new', three: 'old' })
  })

  test('of two at once, each with the other in between, both come to an end and to the same', async () => {
    const { world, owner, say, textsOf } = setUp()
    for (const sk of ['one', 'two', 'three', 'four', 'five']) {
      say(sk, put(sk, sk), put('last', sk))
      await world.turn()
      await world.asks.find(({ what }) => what === 'p1 log')!.happen()
      world.asks.find(({ what }) => what === 'p1 log')!.answer()
      await world.turn()
      world.asks = world.asks.filter(({ what }) => what !== 'p1 log')
    }
    owner.dead = true
    world.asks = []
    const both = [new Recoverer(world, 'p2', 'p1', 0), new Recoverer(world, 'p3', 'p1', 0)]
    await world.until(() => both.every(({ done }) => done))
    expect(both.map(({ failed }) => failed)).toEqual([undefined, undefined])
    expect(await textsOf()).toEqual({ one: 'one', two: 'two', three: 'three', four: 'four', five: 'five', last: 'five' })
    expect((await rowsOf(world.inner, LOG)).map(({ sk }) => sk)).toEqual([1, 2, 3, 4, 5, 6].map(itemKey))
  })

  test('a mark that is not at the end of a flush is refused: what is read from there is no flush', async () => {
    const { world, owner, released, say } = setUp()
    say('hello', put('one', 'x'.repeat(390_000)))
    await world.until(() => released.length === 1)
    owner.dead = true
    const recoverer = new Recoverer(world, 'p2', 'p1', 1)
    await world.until(() => recoverer.done)
    expect(recoverer.failed).toBeInstanceOf(RangeError)
  })

  test('a log that a newer version has written is refused by its name', async () => {
    const { world } = setUp()
    await world.inner.put({ pk: LOG, sk: itemKey(1), version: 'v', value: Uint8Array.of(9, 0, 0, 1, 0) })
    const recoverer = new Recoverer(world, 'p2', 'p1', 0)
    await world.until(() => recoverer.done)
    expect(recoverer.failed).toMatchObject({ name: 'UnknownLogVersion', message: expect.stringContaining('version 9') })
  })
})

describe('an owner in its next life', () => {
  test('goes on behind all numbers it has ever used: what is late from before is behind the seal', async () => {
    const { world, owner, released, say, textsOf } = setUp()
    say('first', put('one', '1'))
    await world.until(() => owner.commit.applied(ROMEO) === undefined)
    say('lost', put('one', 'lost'))
    await world.turn()
    const late = world.asks.splice(0)
    owner.fence()
    await recovered(world, 'p2', 'p1', 1) // its seal is 2
    expect(owner.owner.applied).toBe(3)
    owner.sure = true
    owner.epoch = 3
    say('again', put('two', '2'))
    await world.until(() => owner.commit.applied(ROMEO) === undefined)
    for (const ask of late) await ask.happen()
    expect((await rowsOf(world.inner, LOG)).map(({ sk }) => sk)).toEqual([1, 2, 4].map(itemKey))
    owner.dead = true
    await recovered(world, 'p3', 'p1', 3)
    expect([released, await textsOf()]).toEqual([['first', 'again'], { one: '1', two: '2' }])
  })

  test('used to begin at the seal of the one before, where all of that was durable', async () => {
    const { world, owner, released, say } = setUp()
    say('first', put('one', '1'))
    await world.until(() => owner.commit.applied(ROMEO) === undefined)
    owner.fence()
    await recovered(world, 'p2', 'p1', 1) // its seal is 2
    owner.sure = true
    say('again', put('two', '2'))
    await world.until(() => owner.commit.applied(ROMEO) === undefined)
    expect([released, owner.fenced]).toEqual([['first', 'again'], 0])
  })
})

describe('versions', () => {
  const versionOf = async (world: World, sk: string) => (await world.inner.get({ pk: PK, sk }))!.version

  test('rise from write to write, from flush to flush, and with the epoch', async () => {
    const { world, owner, say } = setUp()
    const versions: string[] = []
    for (const [i, epoch] of [1, 1, 2, 40, 40].entries()) {
      owner.epoch = epoch
      say('', put(`a${i}`, ''), put(`b${i}`, ''))
      await world.until(() => owner.commit.applied(ROMEO) === undefined)
      versions.push(await versionOf(world, `a${i}`), await versionOf(world, `b${i}`), owner.commit.newVersion())
    }
    expect(versions).toEqual(versions.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))))
    expect(new Set(versions).size).toBe(versions.length)
  })

  test('keep what they were staged with: a cause', async () => {
    const { world, owner, say } = setUp()
    say('', { put: { pk: PK, sk: 'one', version: 's1:7', value: Buffer.from('') } }, entry('m1'))
    await world.until(() => owner.commit.applied(ROMEO) === undefined)
    expect(await versionOf(world, 'one')).toMatch(/^~[0-9a-z]{20} s1:7$/)
    expect((await world.inner.get({ pk: JOURNAL, sk: 'm1' }))?.version).toBe('cause-m1')
  })

  test('of what has its own the greatest stays, whoever writes it', async () => {
    const { world, owner } = setUp()
    const mark = (version: string): Write => ({
      put: { pk: 'o#router', sk: 'mark', version, value: Buffer.from(version) },
      order: 'own',
    })
    const other = new TestOwner(world, 'p2')
    other.epoch = 9
    owner.commit.stage('#marks', mark('~5'))
    await world.until(() => owner.commit.applied('#marks') === undefined)
    other.commit.stage('#marks', mark('~4'))
    await world.until(() => other.commit.applied('#marks') === undefined)
    expect(await textsAt(world, 'o#router')).toEqual({ mark: '~5' })
  })

  test('a deletion with its own undoes what was read, also of another role, and nothing that comes later', async () => {
    const { world, owner, say, textsOf } = setUp()
    const row: Row = { pk: PK, sk: 'one', version: '~0000000900000001000 v', value: Buffer.from('presence’s') }
    await world.inner.put(row)
    say('', { delete: row, order: 'own', version: `${row.version}~` })
    await world.until(() => owner.commit.applied(ROMEO) === undefined)
    expect(await textsOf()).toEqual({})
    await expect(world.inner.put(row, { olderThan: row.version })).rejects.toThrow('version conflict')
    await world.inner.put({ ...row, version: '~0000000900000002000 v' }, { olderThan: '~0000000900000002000 v' })
    expect(await textsOf()).toEqual({ one: 'presence’s' })
  })
})

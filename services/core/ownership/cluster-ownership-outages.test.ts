// Owners that others cannot reach, owners that leave with something in hand, and what many do for one that is dead.
import { describe, expect, test } from 'vitest'
import { memoryBus } from '#bus/memory.ts'
import type { Row } from '#table/table.ts'
import { CUT_MS, LEASE_MS, LEASES, LINK_MS, leaseKey, RENEW_MS, readLease, SURE_MS } from './leases.ts'
import { type SimProcess, World } from './membership.fixture.ts'
import { OWNERS } from './owners-row.ts'
import { PARTITIONS } from './ownership.ts'

/** A world on a memory bus, and as many processes as are named, each one joined before the next. */
async function cluster(...ids: string[]): Promise<{ world: World; processes: SimProcess[] }> {
  const world = new World()
  const bus = memoryBus()
  const processes: SimProcess[] = []
  for (const id of ids) {
    processes.push(world.add({ id, bus }).start())
    await settle(world, 10)
  }
  await settle(world, 5_000)
  return { world, processes }
}

async function settle(world: World, ms: number): Promise<void> {
  await world.clock.settle(ms)
  await world.clock.settle(0)
}

const told = (processes: readonly SimProcess[], what: string): string[] =>
  processes.flatMap(({ id, told }) => told.filter((each) => each.startsWith(what)).map((each) => `${id} ${each}`))

describe('a process that cannot reach the bus, but the table', () => {
  test('used to keep all that it owned for as long as it was cut off; it gives it to those who can', async () => {
    const { world, processes } = await cluster('a', 'b', 'c')
    const a = processes[0]!
    a.turnBus('down')
    await settle(world, CUT_MS + LINK_MS + 10_000)
    expect(processes.map((process) => process.owned() > 0)).toEqual([false, true, true])
    expect(processes[1]!.owned() + processes[2]!.owned()).toBe(PARTITIONS)
    expect(told(processes, 'recover')).toEqual([]) // it has released them
    expect(told(processes, 'fenced')).toEqual([])
    a.turnBus('up')
    await settle(world, LINK_MS + 10_000)
    world.checkSettled()
  })

  test('keeps it over a moment', async () => {
    const { world, processes } = await cluster('a', 'b')
    processes[0]!.turnBus('down')
    await settle(world, CUT_MS - 1)
    processes[0]!.turnBus('up')
    await settle(world, 20_000)
    expect(told(processes, 'release a')).toEqual([])
    world.checkSettled()
  })

  test('is given what is there where nobody else is', async () => {
    const { world, processes } = await cluster('a')
    processes[0]!.turnBus('down')
    await settle(world, 60_000)
    expect(processes[0]!.owned()).toBe(PARTITIONS)
  })
})

test('where the bus is away for all, nothing moves: neither as they lose it nor as they find it, one after the other', async () => {
  const { world, processes } = await cluster('a', 'b', 'c')
  const releases = told(processes, 'release').length
  for (const state of ['down', 'up'] as const) {
    for (const process of processes) {
      process.turnBus(state)
      await settle(world, 1_300)
    }
    await settle(world, 60_000)
  }
  expect(told(processes, 'release')).toHaveLength(releases)
  world.checkSettled()
})

describe('a process that leaves', () => {
  test('used to end with what it had handed on unacked, which nobody else knows of', async () => {
    const { world, processes } = await cluster('a', 'b')
    const [a, b] = processes as [SimProcess, SimProcess]
    a.handedOn = 3
    const left = a.leave(30_000)
    await settle(world, 6_000)
    expect(b.owned()).toBe(PARTITIONS)
    expect([a.dead, a.ownership.sure()]).toEqual([false, true]) // it may still send
    a.handedOn = 0
    await settle(world, 100)
    await left
    expect(a.dead).toBe(true)
    expect(await world.stored.get(leaseKey('a'))).toBeUndefined()
  })

  test('waits for that no longer than it may', async () => {
    const { world, processes } = await cluster('a', 'b')
    processes[0]!.handedOn = 3
    const left = processes[0]!.leave(10_000)
    await settle(world, 10_100)
    await left
    expect(await world.stored.get(leaseKey('a'))).toBeUndefined()
  })
})

test('a dead log used to be replayed by everybody who takes from its owner: one does, and says in the lease how far', async () => {
  const { world, processes } = await cluster('a', 'b', 'c', 'd')
  const marks: number[] = []
  for (const process of processes.slice(1)) {
    const recover = process.recover.bind(process)
    process.recover = async (owner, role, applied) => {
      marks.push(applied)
      await recover(owner, role, applied)
      return 41
    }
  }
  processes[0]!.kill()
  await settle(world, 20_000)
  world.checkSettled()
  expect(marks.length).toBeGreaterThanOrEqual(3)
  expect(marks.filter((mark) => mark !== 41)).toEqual([0])
  expect(await world.stored.get(leaseKey('a'))).toBeUndefined() // buried as ever
})

test('what is noted in a broken lease for one role keeps what is noted for the other', async () => {
  const { world, processes } = await cluster('a', 'b')
  const [a, b] = processes as [SimProcess, SimProcess]
  a.kill()
  await settle(world, 2_000)
  const fate = await untilBroken(world, b)
  for (const [role, mark] of [
    ['presence', 7],
    ['router', 9],
    ['router', 8],
  ] as const) {
    const noted = b.membership.noteRecovered('a', fate, role, mark)
    await settle(world, 10)
    await noted
  }
  const row = await world.stored.get(leaseKey('a'))
  expect(readLease(row!).applied).toMatchObject({ presence: 7, router: 9 })
})

/** Breaks the lease of `a`, as `b` does at its verdict. */
async function untilBroken(world: World, b: SimProcess) {
  b.recover = () => new Promise(() => {}) // it goes no further
  for (;;) {
    await settle(world, RENEW_MS)
    const fate = b.membership.fateOf('a')
    await settle(world, 10)
    const known = await fate
    if (known.state === 'broken') return known
  }
}

test('a process that has joined anew used to be sure before it had read who owns what since', async () => {
  const { world, processes } = await cluster('a', 'b')
  const [a] = processes as [SimProcess]
  a.pause()
  await settle(world, 15_000) // `b` has taken everything
  let reads: (() => void)[] | undefined = []
  const { stored } = world
  const query = stored.query.bind(stored)
  // Rows of owners come late from now on.
  stored.query = async function* (pk, range) {
    if (pk === OWNERS && reads !== undefined) await new Promise<void>((resolve) => reads!.push(resolve))
    yield* query(pk, range)
  }
  a.go()
  for (let n = 0; n < 10 && !a.membership.sure(); n++) await settle(world, 500)
  expect([a.membership.sure(), a.ownership.sure()]).toEqual([true, false])
  const late = reads
  reads = undefined
  for (const resolve of late) resolve()
  await settle(world, 1_000)
  expect(a.ownership.sure()).toBe(true)
})

test('a machine that slept used to be sure for as long as before: its monotonic clock had stood still', async () => {
  const { world, processes } = await cluster('a')
  const { ownership } = processes[0]!
  expect(ownership.sure()).toBe(true)
  world.clock.jump(SURE_MS)
  expect(ownership.sure()).toBe(false)
  await settle(world, RENEW_MS)
  expect([ownership.sure(), processes[0]!.owned()]).toEqual([true, PARTITIONS]) // nobody has taken it meanwhile
  world.clock.jump(-3_600_000)
  expect(ownership.sure()).toBe(true)
})

test('a table that shows a lease as it was used to be asked about it without a pause: it is asked about twice a second', async () => {
  const { world, processes } = await cluster('a', 'b')
  const b = processes[1]!
  const { stored } = world
  const query = stored.query.bind(stored)
  const before: Row[] = []
  for await (const row of query(LEASES)) if (row.sk === 'a') before.push(row)
  // Whoever lists the leases sees that of `a` as it was; who asks for it alone sees it renewed.
  stored.query = async function* (pk, range) {
    for await (const row of query(pk, range)) yield pk === LEASES && row.sk === 'a' ? before[0]! : row
  }
  await settle(world, LEASE_MS + RENEW_MS)
  const { requests } = world
  await settle(world, 10_000)
  expect(world.requests - requests).toBeLessThan(200)
  expect([b.membership.livenessOf('a'), told(processes, 'recover')]).toEqual(['silent', []])
  stored.query = query
  await settle(world, 2 * RENEW_MS)
  expect(b.membership.livenessOf('a')).toBe('live')
  world.checkSettled()
})

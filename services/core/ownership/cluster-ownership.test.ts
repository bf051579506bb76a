import { describe, expect, test } from 'vitest'
import type { Bus } from '#bus/bus.ts'
import { memoryBus } from '#bus/memory.ts'
import { VersionConflict } from '#table/table.ts'
import type { RequestFault } from '../far-request.fixture.ts'
import { LEASE_MS, LEASES, leaseKey, leaseRow, RENEW_MS, SURE_MS } from './leases.ts'
import { CALM, type SimProcess, World } from './membership.fixture.ts'
import { NO_OWNERS, OWNERS, ownersRowWith, putOwnersRow } from './owners-row.ts'
import { PARTITIONS } from './ownership.ts'
import { RELEASED_MAX } from './partitions.ts'

const buses = new WeakMap<World, Bus>()

/** A world on a memory bus, and as many processes as are named, each one joined before the next. */
async function cluster(...ids: string[]): Promise<{ world: World; processes: SimProcess[] }> {
  const world = new World()
  const processes: SimProcess[] = []
  for (const id of ids) processes.push(await join(world, id))
  await settle(world, 5_000)
  return { world, processes }
}

async function join(world: World, id: string, roles: readonly string[] = ['router']): Promise<SimProcess> {
  const bus = buses.get(world) ?? memoryBus()
  buses.set(world, bus)
  const process = world.add({ id, roles, bus }).start()
  await settle(world, 10)
  return process
}

async function settle(world: World, ms: number): Promise<void> {
  await world.clock.settle(ms)
  await world.clock.settle(0)
}

const everythingTo = (process: string): Map<number, string> =>
  new Map(Array.from({ length: PARTITIONS }, (_, partition) => [partition, process]))

async function leases(world: World): Promise<Record<string, string>> {
  const states: Record<string, string> = {}
  for await (const { sk, value } of world.stored.query(LEASES)) states[sk] = JSON.parse(Buffer.from(value).toString()).state
  return states
}

describe('joining', () => {
  test('one process owns everything, and is told so once', async () => {
    const { world, processes } = await cluster('a')
    world.checkSettled()
    expect(processes[0]!.told).toEqual([`take router ${PARTITIONS}`])
    expect(processes[0]!.ownership.epoch('router')).toBe(1)
  })

  test('two share about evenly, and agree who has what', async () => {
    const { world, processes } = await cluster('a', 'b')
    world.checkSettled()
    for (const process of processes) expect(process.owned()).toBeGreaterThan(PARTITIONS / 4)
  })

  test('what a third is given is released first, in portions, and nobody is recovered', async () => {
    const { world, processes } = await cluster('a', 'b')
    const third = await join(world, 'c')
    await settle(world, 5_000)
    world.checkSettled()
    const told = processes.flatMap(({ told }) => told)
    const portions = told.filter((each) => each.startsWith('release')).map((each) => Number(each.split(' ')[2]))
    expect(Math.max(...portions)).toBe(RELEASED_MAX)
    expect([...told, ...third.told].filter((each) => each.startsWith('recover'))).toEqual([])
  })

  test('each role is shared among those who do it; an edge owns nothing and knows the owners', async () => {
    const world = new World()
    const edge = await join(world, 'e', ['edge'])
    const both = await join(world, 'b', ['router', 'presence'])
    const presence = await join(world, 'p', ['presence'])
    await settle(world, 5_000)
    world.checkSettled('router')
    world.checkSettled('presence')
    expect([edge.owned('router'), presence.owned('router'), both.owned('router')]).toEqual([0, 0, PARTITIONS])
    expect(edge.ownership.ownersOf('presence').toSorted()).toEqual(['b', 'p'])
    expect(edge.ownership.ownerOf('router', 'romeo@example.org')).toBe('b')
    expect(edge.membership.live('edge')).toEqual(['e'])
  })

  test('listeners are told of each partition that has another owner', async () => {
    const { world, processes } = await cluster('a')
    const seen = new Set<number>()
    processes[0]!.ownership.onChange((role, partitions) => {
      for (const partition of partitions) if (role === 'router') seen.add(partition)
    })
    const other = await join(world, 'b')
    await settle(world, 5_000)
    expect(seen.size).toBe(other.owned())
    for (const partition of seen) expect(processes[0]!.ownership.ownerAt('router', partition)).toBe('b')
  })

  test('without a hint it is known at the next reading', async () => {
    const world = new World()
    world.weather = { ...CALM, loses: () => true }
    world.add({ id: 'a' }).start()
    await settle(world, 1_000)
    world.add({ id: 'b' }).start()
    await settle(world, 30_000)
    world.checkSettled()
  })
})

describe('leaving', () => {
  test('a process that is told to go gives all away; nothing waits for its lease', async () => {
    const { world, processes } = await cluster('a', 'b')
    const beganMs = world.clock.monotonic()
    const left = processes[0]!.leave()
    await settle(world, RENEW_MS)
    await left
    expect(world.clock.monotonic() - beganMs).toBeLessThan(SURE_MS)
    expect(processes[1]!.owned()).toBe(PARTITIONS)
    expect(processes[1]!.told.filter((each) => each.startsWith('recover'))).toEqual([])
    expect(await leases(world)).toEqual({ b: 'up' })
  })

  test('the last one leaves everything to nobody, and the next takes it without recovering anything', async () => {
    const { world, processes } = await cluster('a')
    const left = processes[0]!.leave()
    await settle(world, 100)
    await left
    expect(await leases(world)).toEqual({})
    const next = await join(world, 'b')
    await settle(world, 100)
    world.checkSettled()
    expect(next.told).toEqual([`take router ${PARTITIONS}`])
  })

  test('where it cannot let go in time it leaves all the same', async () => {
    const { world, processes } = await cluster('a', 'b')
    world.away = true
    const left = processes[0]!.leave(10_000)
    await settle(world, 10_500)
    await left
    world.away = false
    await settle(world, 20_000)
    world.checkSettled()
    expect(await leases(world)).toEqual({ b: 'up' })
  })

  test('a rolling restart of all moves everything and recovers nothing', async () => {
    const { world, processes } = await cluster('a', 'b', 'c')
    for (const [i, process] of processes.entries()) {
      const left = process.leave()
      await settle(world, 1_000)
      await left
      await join(world, `n${i}`)
      await settle(world, 5_000)
      world.checkSettled()
    }
    expect(world.processes.flatMap(({ told }) => told).filter((each) => each.startsWith('recover'))).toEqual([])
    expect(Object.keys(await leases(world))).toEqual(['n0', 'n1', 'n2'])
  })
})

describe('dying', () => {
  test('what a killed process owned is taken when its lease has run out, and not before', async () => {
    const { world, processes } = await cluster('a', 'b', 'c')
    const [a, b, c] = processes as [SimProcess, SimProcess, SimProcess]
    a.kill()
    await settle(world, SURE_MS)
    expect([...b.told, ...c.told].filter((each) => each.startsWith('recover'))).toEqual([])
    expect(b.ownership.ownersOf('router')).toContain('a')
    await settle(world, LEASE_MS)
    world.checkSettled()
    expect(b.told).toContain('recover router a')
    expect(c.told).toContain('recover router a')
    expect(await leases(world)).toEqual({ b: 'up', c: 'up' })
    expect(b.membership.livenessOf('a')).toBe('gone')
    expect(b.membership.livenessOf('x')).toBe('unseen')
  })

  test('an edge that died is buried by one of those who are left', async () => {
    const { world } = await cluster('a', 'b')
    const edge = await join(world, 'e', ['edge'])
    await settle(world, RENEW_MS)
    edge.kill()
    await settle(world, LEASE_MS + 2 * RENEW_MS)
    expect(await leases(world)).toEqual({ a: 'up', b: 'up' })
  })

  test('one that is paused past its lease wakes unsure, drops all, and joins anew', async () => {
    const { world, processes } = await cluster('a', 'b')
    const [a, b] = processes as [SimProcess, SimProcess]
    a.pause()
    await settle(world, LEASE_MS + 2 * RENEW_MS)
    expect(b.owned()).toBe(PARTITIONS)
    expect(a.ownership.sure()).toBe(false)
    expect(a.owned()).toBeGreaterThan(0) // it knows nothing yet; it is not sure, and so does nothing
    a.go()
    await settle(world, 100)
    expect(a.told).toContain('fenced router')
    await settle(world, 5_000)
    world.checkSettled()
    expect(a.owned()).toBeGreaterThan(0)
  })

  test('one that is paused for less goes on with what it has', async () => {
    const { world, processes } = await cluster('a', 'b')
    const told = processes.map(({ told }) => told.length)
    processes[0]!.pause()
    await settle(world, SURE_MS)
    processes[0]!.go()
    await settle(world, 10_000)
    world.checkSettled()
    expect(processes.map(({ told }) => told.length)).toEqual(told)
  })

  test('one that was paused itself takes nobody for dead when it wakes', async () => {
    const { world, processes } = await cluster('a', 'b', 'c')
    processes[0]!.pause()
    await settle(world, 3_000)
    processes[0]!.go()
    await settle(world, 3_000)
    expect(await leases(world)).toEqual({ a: 'up', b: 'up', c: 'up' })
  })

  test('one whose log was sealed gives up by itself, and nothing is lost to its being alone', async () => {
    const { world, processes } = await cluster('a')
    processes[0]!.membership.fence('its log was sealed')
    await settle(world, LEASE_MS + 2 * RENEW_MS)
    world.checkSettled()
    expect(processes[0]!.told.slice(1)).toEqual(['fenced router', 'recover router a', `take router ${PARTITIONS}`])
  })

  test('a lease that was left by all who knew of it is found by who comes later', async () => {
    const { world, processes } = await cluster('a', 'b')
    for (const process of processes) process.kill()
    await settle(world, 60_000)
    const next = await join(world, 'c')
    await settle(world, 1_000)
    expect(next.owned()).toBe(0) // they have not been watched for long enough
    await settle(world, LEASE_MS + RENEW_MS)
    world.checkSettled()
    expect(next.told.toSorted()).toEqual(['recover router a', 'recover router b', `take router ${PARTITIONS}`])
  })
})

describe('the table is away', () => {
  test('for a minute nobody takes anything, all hold still, and all go on afterwards', async () => {
    const { world, processes } = await cluster('a', 'b', 'c')
    const told = processes.map(({ told }) => told.length)
    const owned = processes.map((process) => process.owned())
    world.away = true
    await settle(world, SURE_MS)
    expect(processes.map(({ ownership }) => ownership.sure())).toEqual([false, false, false])
    await settle(world, 60_000)
    expect(processes.map((process) => process.owned())).toEqual(owned)
    world.away = false
    await settle(world, RENEW_MS)
    expect(processes.map(({ ownership }) => ownership.sure())).toEqual([true, true, true])
    await settle(world, 20_000)
    world.checkSettled()
    expect(processes.map(({ told }) => told.length)).toEqual(told)
  })

  test('one that died meanwhile is given a whole lease from when the table is back', async () => {
    const { world, processes } = await cluster('a', 'b')
    world.away = true
    processes[0]!.kill()
    await settle(world, 60_000)
    world.away = false
    await settle(world, LEASE_MS - 500)
    expect(processes[1]!.ownership.ownersOf('router')).toContain('a')
    await settle(world, 2 * RENEW_MS)
    world.checkSettled()
  })

  test('a wall clock that is set takes no lease from anybody', async () => {
    const { world, processes } = await cluster('a', 'b')
    const told = processes.map(({ told }) => told.length)
    for (const ms of [300_000, -900_000, 86_400_000]) {
      world.clock.jump(ms)
      await settle(world, 3 * RENEW_MS)
      expect(processes.map(({ ownership }) => ownership.sure())).toEqual([true, true])
    }
    expect(processes.map(({ told }) => told.length)).toEqual(told)
  })
})

/** Every write goes wrong in that way. */
const always = (world: World, fault: RequestFault): void => {
  world.weather = { ...CALM, fault: (kind) => (kind === 'write' ? fault : 'none'), lateMs: () => 700 }
}

describe('an answer that is lost', () => {
  test('after a conditional put is found out by the version: it was I', async () => {
    const { world, processes } = await cluster('a', 'b')
    const told = processes.map(({ told }) => told.length)
    for (const fault of ['after', 'late'] as const) {
      always(world, fault)
      await settle(world, 15_000)
      expect(processes.map(({ ownership }) => ownership.sure())).toEqual([false, false])
      world.weather = CALM
      await settle(world, 10_000)
      expect(processes.map(({ ownership }) => ownership.sure())).toEqual([true, true])
    }
    world.checkSettled()
    expect(processes.map(({ told }) => told.length)).toEqual(told)
  })

  test('of joining is found out, too', async () => {
    const world = new World()
    always(world, 'after')
    const process = world.add({ id: 'a' }).start()
    await settle(world, 5_000)
    expect(await leases(world)).toEqual({ a: 'up' })
    expect(process.membership.joined).toBe(true)
    expect(process.ownership.sure()).toBe(false)
    world.weather = CALM
    await settle(world, 5_000)
    world.checkSettled()
    expect(process.told).toEqual([`take router ${PARTITIONS}`])
  })

  test('a lease that comes to the table after its process has gone runs out', async () => {
    const { world } = await cluster('a')
    world.weather = { ...CALM, fault: () => 'late', lateMs: () => 5_000 }
    const process = world.add({ id: 'b' }).start()
    await settle(world, 10)
    world.weather = CALM
    const left = process.leave()
    await settle(world, 100)
    await left
    await settle(world, 40_000)
    world.checkSettled()
    expect(await leases(world)).toEqual({ a: 'up' })
  })
})

describe('a taker', () => {
  test('that dies at any request leaves nothing that the others cannot finish', async () => {
    for (let last = 0; ; last++) {
      const { world, processes } = await cluster('a', 'b', 'c')
      const [a, b, c] = processes as [SimProcess, SimProcess, SimProcess]
      a.kill()
      b.pause()
      await settle(world, 1_000)
      b.go()
      let left = last
      world.weather = {
        ...CALM,
        fault: () => {
          if (c.told.some((each) => each.startsWith('recover')) && left-- === 0) c.kill()
          return 'none'
        },
      }
      await settle(world, 40_000)
      expect(Object.keys(await leases(world)).toSorted()).toEqual(c.dead ? ['b'] : ['b', 'c'])
      world.checkSettled()
      if (last > 40) break
    }
  })

  test('that races another for the same: each partition has one of them in the end', async () => {
    const { world, processes } = await cluster('a', 'b', 'c', 'd')
    let turn = 0
    world.weather = { ...CALM, wayMs: () => (turn++ % 5) * 7, workMs: () => (turn++ % 3) * 100 }
    processes[0]!.kill()
    processes[1]!.kill()
    await settle(world, 30_000)
    world.checkSettled()
  })

  test('that slept until the owner it recovered lives again takes nothing from it', async () => {
    const { world, processes } = await cluster('a', 'b', 'c')
    const [a, b] = processes as [SimProcess, SimProcess, SimProcess]
    const recover = b.recover.bind(b)
    b.recover = async (...what) => {
      const mark = await recover(...what)
      b.pause() // before it has taken anything
      return mark
    }
    a.pause()
    while (!b.paused) await settle(world, 100)
    a.go()
    await settle(world, 5_000) // nobody else sees to what `b` should take: `a` clears it itself, joins, and takes its own
    expect(a.owned()).toBeGreaterThan(0)
    const taken = a.told.length
    b.go()
    await settle(world, 10_000)
    world.checkSettled()
    expect(a.told.slice(taken).filter((each) => each.startsWith('fenced'))).toEqual([])
  })
})

describe('what a process is given', () => {
  test('while it leaves, by one that does not know, goes back unopened', async () => {
    const { world, processes } = await cluster('a', 'b')
    const [a, b] = processes as [SimProcess, SimProcess]
    const release = a.release.bind(a)
    a.release = async (...what) => {
      await release(...what)
      await new Promise<void>((resolve) => world.after(100, resolve))
    }
    b.pause()
    const told = a.told.length
    const left = a.leave()
    await settle(world, 500)
    b.go()
    await settle(world, 4_000)
    await left
    world.checkSettled()
    expect(a.told.slice(told).filter((each) => each.startsWith('take'))).toEqual([])
    expect(await leases(world)).toEqual({ b: 'up' })
  })

  test('by one row used to be opened in part only, where the rest came to be its own while it opened', async () => {
    const world = new World()
    const { stored } = world
    const up = { roles: ['router'], host: 'here', sinceMs: 0, applied: {}, state: 'up', speaks: 3 } as const
    await stored.put(leaseRow('b', up, 'x'))
    const put = stored.put.bind(stored)
    stored.put = async (row, condition) => {
      if (row.pk !== OWNERS) return put(row, condition)
      // Another one is first, gives everything to `a`, and knows that `b` is gone.
      stored.put = put
      await putOwnersRow(stored, 'router', NO_OWNERS, ownersRowWith(NO_OWNERS, everythingTo('a'), 'y'))
      await stored.delete(leaseKey('b'))
      throw new VersionConflict(row)
    }
    const a = world.add({ id: 'a' })
    const take = a.take.bind(a)
    a.take = async (...what) => {
      await take(...what)
      await new Promise<void>((resolve) => world.after(5_000, resolve))
    }
    a.start()
    await settle(world, 10_000)
    world.checkSettled()
    expect(a.told).toHaveLength(2)
    expect(a.ownership.epoch('router')).toBe(1)
  })
})

test('a process of which nothing happens asks the table 90 times a minute', async () => {
  const { world } = await cluster('a', 'b', 'c')
  world.requests = 0
  await settle(world, 60_000)
  expect(world.requests / 3 / 90).toBeCloseTo(1, 1) // one renewal and two readings every 2 s
})

describe('a row that cannot be read', () => {
  test('stops its role from being taken, not the others', async () => {
    const world = new World()
    await world.stored.put({ pk: 'o#owners', sk: 'router', version: 'x', value: Buffer.from('{"epoch":1,"owners":[]}') })
    const process = await join(world, 'a', ['router', 'presence'])
    await settle(world, 10_000)
    expect([process.owned('router'), process.owned('presence')]).toEqual([0, PARTITIONS])
    expect(process.ownership.sure()).toBe(true)
  })

  test('of a lease: nothing is taken from its process', async () => {
    const { world, processes } = await cluster('a')
    await world.stored.put({ ...leaseKey('a'), version: 'x', value: Buffer.from('?') })
    processes[0]!.kill()
    const other = await join(world, 'b')
    await settle(world, 30_000)
    expect(other.owned()).toBe(0)
  })
})

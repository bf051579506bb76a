import { describe, expect, test } from 'vitest'
import { manualClock } from '#core/clock.ts'
import { Health } from '#core/observing/health.ts'
import { memoryLog } from '#core/observing/log.ts'
import { LEASE_MS } from '#core/ownership/leases.ts'
import type { OwnersListener, RoleName } from '#core/ownership/ownership.ts'
import { untilOwned } from './owned.ts'

/** Who owns what, and who lives, as a test says. */
function world() {
  const owners: Record<RoleName, string[]> = { router: Array(128).fill(''), presence: Array(128).fill('') }
  const dead = new Set<string>()
  const changed: OwnersListener[] = []
  const readers: (() => void)[] = []
  const clock = manualClock()
  const health = new Health([])
  const log = memoryLog()
  let isDone = false
  const waiting = untilOwned({
    ownership: { onChange: (listener) => void changed.push(listener), ownerAt: (role, partition) => owners[role][partition]! },
    membership: {
      onRead: (listener) => void readers.push(listener),
      livenessOf: (process) => (dead.has(process) ? 'gone' : 'live'),
    },
    clock,
    health,
    log,
  }).then(() => {
    isDone = true
  })
  return {
    clock,
    owners,
    dead,
    log,
    waiting,
    missing: async () => (await health.check()).missing.owners,
    change(role: RoleName) {
      for (const listener of changed) listener(role, [])
    },
    read() {
      for (const listener of readers) listener()
    },
    done: async () => {
      await new Promise((resume) => setImmediate(resume))
      return isDone
    },
  }
}

test('an edge waits until each account has an owner in both roles, and health says how many have not', async () => {
  const { owners, change, missing, done, waiting, log } = world()
  expect(await missing()).toBe(
    '128 of 128 partitions have no router that lives, 128 of 128 partitions have no presence that lives',
  )
  owners.router.fill('a')
  owners.presence.fill('b', 1)
  change('router')
  expect(await missing()).toBe('1 of 128 partitions have no presence that lives')
  expect(await done()).toBe(false)
  owners.presence[0] = 'a'
  change('presence')
  await waiting
  expect(await missing()).toBeUndefined()
  expect(log.lines.filter(({ event }) => event === 'edge.waits_for_owners')).toHaveLength(1)
})

test('an owner that is dead is none: the row of a cluster that was killed still names those it had', async () => {
  const { owners, dead, change, read, missing, done, waiting } = world()
  owners.router.fill('old')
  owners.presence.fill('b')
  dead.add('old')
  change('router')
  expect(await missing()).toBe('128 of 128 partitions have no router that lives')
  expect(await done()).toBe(false)
  dead.clear()
  read()
  await waiting
})

describe('once it has begun', () => {
  async function begun() {
    const opened = world()
    opened.owners.router.fill('a')
    opened.owners.presence.fill('a')
    opened.change('router')
    await opened.waiting
    return opened
  }

  test('an owner that is replaced within a lease is nothing to tell', async () => {
    const { owners, dead, clock, read, change, missing } = await begun()
    dead.add('a')
    read()
    clock.advance(LEASE_MS - 1)
    read()
    expect(await missing()).toBeUndefined()
    owners.router.fill('b')
    owners.presence.fill('b')
    change('router')
    clock.advance(LEASE_MS)
    read()
    expect(await missing()).toBeUndefined()
  })

  test('partitions that nobody has had for longer used to be missing without a word: health says so until they are owned', async () => {
    const { owners, clock, read, change, missing, log } = await begun()
    owners.router.fill('', 0, 3)
    change('router')
    expect(await missing()).toBeUndefined()
    clock.advance(LEASE_MS)
    read()
    expect(await missing()).toBe('3 of 128 partitions have no router that lives')
    read()
    owners.router.fill('b')
    change('router')
    expect(await missing()).toBeUndefined()
    const events = log.lines.map(({ event }) => event).filter((event) => event.startsWith('owners.'))
    expect(events).toEqual(['owners.missing', 'owners.back'])
    owners.router.fill('', 5, 6)
    change('router')
    clock.advance(LEASE_MS - 1)
    read()
    expect(await missing(), 'each time is counted from its own beginning').toBeUndefined()
  })
})

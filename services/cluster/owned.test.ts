import { expect, test } from 'vitest'
import { Health } from '#core/health.ts'
import { memoryLog } from '#core/log.ts'
import type { OwnersListener, RoleName } from '#core/ownership.ts'
import { untilOwned } from './owned.ts'

/** Who owns what, and who lives, as a test says. */
function world() {
  const owners: Record<RoleName, string[]> = { router: Array(128).fill(''), presence: Array(128).fill('') }
  const dead = new Set<string>()
  const changed: OwnersListener[] = []
  const readers: (() => void)[] = []
  const health = new Health([])
  const log = memoryLog()
  let isDone = false
  const waiting = untilOwned({
    ownership: { onChange: (listener) => void changed.push(listener), ownerAt: (role, partition) => owners[role][partition]! },
    membership: {
      onRead: (listener) => void readers.push(listener),
      livenessOf: (process) => (dead.has(process) ? 'gone' : 'live'),
    },
    health,
    log,
  }).then(() => {
    isDone = true
  })
  return {
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

test('once it has begun, what becomes of an owner is for others to mend', async () => {
  const { owners, change, missing, waiting } = world()
  owners.router.fill('a')
  owners.presence.fill('a')
  change('router')
  await waiting
  owners.router.fill('')
  change('router')
  expect(await missing()).toBeUndefined()
})

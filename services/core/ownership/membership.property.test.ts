// Membership and ownership under whatever a seed decides: crashes, pauses, restarts, and a table that fails in every way.
//
// MEMBERSHIP_SEED=17 replays one seed; MEMBERSHIP_SEEDS=100000 runs that many.
import { expect, test } from 'vitest'
import { Random } from '#test/fuzz/random.ts'
import type { RequestFault } from '../far-request.fixture.ts'
import { LEASE_MS } from './leases.ts'
import { type SimProcess, type Weather, World } from './membership.fixture.ts'
import { PARTITIONS } from './ownership.ts'

const SEEDS = Number(process.env.MEMBERSHIP_SEEDS ?? 300)
const ONE = process.env.MEMBERSHIP_SEED
/** From the last fault on. */
const QUIET_MS = 15_000
const PROCESSES_MAX = 5

const FAULTS: readonly RequestFault[] = ['before', 'after', 'late']

/** How bad it is, drawn anew now and then. */
function weather(random: Random): Weather {
  const faultIn = random.pick([0, 0, 50, 10, 4, 2])
  const wayMsMax = random.pick([3, 20, 200, 1_000, 2_500])
  const workMsMax = random.pick([1, 100, 1_500])
  const loseIn = random.pick([0, 3, 1])
  return {
    fault: () => (faultIn > 0 && random.chance(faultIn) ? random.pick(FAULTS) : 'none'),
    wayMs: () => random.int(random.chance(20) ? 4 * wayMsMax : wayMsMax),
    workMs: () => random.int(workMsMax),
    lateMs: () => random.int(random.chance(4) ? 15_000 : 2_000),
    loses: () => loseIn > 0 && random.chance(loseIn),
    random: () => random.int(1_000) / 1_000,
  }
}

/** Nothing fails any more, and nothing takes long. */
function fair(random: Random): Weather {
  return {
    fault: () => 'none',
    wayMs: () => random.int(20),
    workMs: () => random.int(100),
    lateMs: () => 0,
    loses: () => false,
    random: () => random.int(1_000) / 1_000,
  }
}

function add(world: World, random: Random): SimProcess {
  const pace = random.pick([1, 1, 0.95, 1.05])
  return world.add({ roles: random.chance(10) ? ['edge'] : ['router'], pace }).start()
}

const BLOWS = ['add', 'add', 'add', 'kill', 'leave', 'pause', 'pause', 'go', 'go', 'seal', 'table', 'weather'] as const

/** Something happens to somebody. */
function strike(world: World, random: Random): void {
  const { alive } = world
  const one = random.pick(alive)
  switch (random.pick(BLOWS)) {
    case 'add':
      if (alive.length < PROCESSES_MAX) add(world, random)
      return
    case 'kill':
      return one?.kill()
    case 'leave':
      if (one !== undefined && !one.leaving && !one.paused) void one.leave(5_000 + random.int(20_000))
      return
    case 'pause':
      return one?.pause()
    case 'go':
      return random.pick(alive.filter(({ paused }) => paused))?.go()
    case 'seal':
      return one?.membership.fence('its log was sealed')
    case 'table':
      world.away = !world.away
      return
    case 'weather':
      world.weather = weather(random)
  }
}

async function run(seed: number): Promise<World> {
  const random = new Random(seed, 0)
  const world = new World()
  world.weather = random.chance(2) ? weather(random) : fair(random)
  for (let n = 2 + random.int(3); n > 0; n--) add(world, random)
  let name = 0
  for (let left = 10 + random.int(20); left > 0; left--) {
    for (let writes = random.int(15); writes > 0 && world.alive.length > 0; writes--)
      random.pick(world.alive).write(random.int(PARTITIONS), ++name)
    await world.clock.settle(random.int(random.chance(5) ? 2 * LEASE_MS : 1_500))
    strike(world, random)
  }
  world.away = false
  world.weather = fair(random)
  for (const process of world.alive) process.go()
  if (!world.alive.some(({ leaving, roles }) => !leaving && roles.includes('router'))) world.add().start()
  // What was sent in bad weather is a fault until it has come, and who was told to leave may take its time.
  await world.clock.settle(Math.max(0, world.underwayUntilMs - world.clock.monotonic()))
  while (world.alive.some(({ leaving }) => leaving)) await world.clock.settle(1_000)
  await world.clock.settle(QUIET_MS)
  world.check()
  world.checkSettled()
  world.checkAcked()
  return world
}

test('nobody owns what another one owns, nothing acknowledged is lost, and when it is quiet everything has its owner', {
  timeout: 0,
}, async () => {
  let acked = 0
  let fenced = 0
  let recovered = 0
  for (const seed of ONE === undefined ? Array.from({ length: SEEDS }, (_, i) => i) : [Number(ONE)]) {
    try {
      const world = await run(seed)
      const told = world.processes.flatMap(({ told }) => told)
      acked += world.acked.length
      fenced += told.filter((each) => each.startsWith('fenced')).length
      recovered += told.filter((each) => each.startsWith('recover')).length
    } catch (cause) {
      throw new Error(`MEMBERSHIP_SEED=${seed}: ${(cause as Error).message}`, { cause })
    }
  }
  if (ONE !== undefined) return
  // What is to be survived does happen.
  for (const count of [acked, fenced, recovered]) expect(count).toBeGreaterThan(SEEDS / 10)
})

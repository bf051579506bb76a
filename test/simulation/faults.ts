// What happens to a simulated cluster: the weather of its bus and table, and blows to single processes.
import type { RoleName } from '#core/ownership/ownership.ts'
import type { SimProcess } from './process.ts'
import type { Pace, Scheduler } from './scheduler.ts'
import type { BusWeather, Direction } from './sim-bus.ts'
import type { TableWeather } from './sim-table.ts'
import type { World } from './world.ts'

const OWNERS_MAX = 5
const EDGES_MAX = 3

function busWeather({ random }: Scheduler): BusWeather {
  return {
    dropOneIn: random.pick([0, 0, 100, 20, 5]),
    twiceOneIn: random.pick([0, 0, 50, 10]),
    delayMsMax: random.pick([1, 5, 50, 300, 3_000]),
  }
}

function tableWeather({ random }: Scheduler): TableWeather {
  return {
    faultOneIn: random.pick([0, 0, 50, 10, 3]),
    delayMsMax: random.pick([2, 10, 100, 500, 2_000]),
    lateMsMax: random.pick([500, 5_000, 20_000]),
    hotMsMax: random.pick([0, 0, 500, 5_000]),
  }
}

function pace({ random }: Scheduler): Pace {
  return {
    skewMs: random.pick([0, 0, 500, -500, 60_000, -60_000, 200_000, -200_000]),
    rate: random.pick([1, 1, 1, 0.99, 1.01, 0.95, 1.05]),
  }
}

function rolesOf({ random }: Scheduler): readonly RoleName[] {
  return random.pick([['router', 'presence'], ['router', 'presence'], ['router'], ['presence']])
}

/** Those that crash with a flush on its way do so when they next begin one. */
export function crashDoomed(world: World, process: SimProcess): void {
  world.scheduler.after(0, () => {
    world.trace('----', `${process.id} crashes with a flush on its way`)
    process.kill()
  })
}

/** Some owners and edges; what they are, the seed says. */
export function populate(world: World): void {
  const { scheduler } = world
  const { random } = scheduler
  world.add(['router', 'presence'], random.chance(4), pace(scheduler))
  for (let left = 1 + random.int(3); left > 0; left--) world.add(rolesOf(scheduler), false, pace(scheduler))
  for (let left = 1 + random.int(2); left > 0; left--) world.add([], true, pace(scheduler))
  if (random.chance(2)) return
  world.network.weather = busWeather(scheduler)
  world.table.weather = tableWeather(scheduler)
}

type Blow = (world: World, one: SimProcess) => void

const BLOWS: readonly (readonly [weight: number, name: string, blow: Blow])[] = [
  [3, 'start', startOne],
  [3, 'crash', crash],
  [2, 'restart', restart],
  [2, 'leave', leave],
  [5, 'stop', stop],
  [4, 'cut', cut],
  [2, 'disconnect', disconnect],
  [2, 'turn the clock of', turnClock],
  [1, 'seal the log of', (_world, one) => one.membership.fence('its log was sealed')],
  [3, 'table', tableAway],
  [6, 'weather', changeWeather],
  [4, 'lose connections at', loseConnections],
  [2, 'client goes', clientGoes],
]
const WEIGHTS = BLOWS.flatMap((blow) => Array<(typeof BLOWS)[number]>(blow[0]).fill(blow))

/** Something happens, to somebody or all. */
export function strike(world: World): void {
  const { random } = world.scheduler
  const one = random.pick(world.alive)
  const [, name, blow] = random.pick(WEIGHTS)
  if (one === undefined) return startOne(world)
  if (one.stopped && name !== 'start' && name !== 'crash') return
  world.noteFault(name, one.id)
  blow(world, one)
}

function startOne(world: World): void {
  const { scheduler, owners, edges } = world
  const { random } = scheduler
  if (random.chance(4) || owners.length >= OWNERS_MAX) {
    if (edges.length < EDGES_MAX) world.add(random.chance(5) ? ['router'] : [], true, pace(scheduler))
  } else world.add(rolesOf(scheduler), false, pace(scheduler))
}

function crash(world: World, one: SimProcess): void {
  const { random } = world.scheduler
  if (one.own.length > 0 && random.chance(2)) return void world.doomed.add(one.id)
  one.kill()
}

/** It is gone, and there again with a new id. */
function restart(world: World, one: SimProcess): void {
  const { scheduler } = world
  one.kill()
  scheduler.after(scheduler.random.int(3_000), () => void world.add(one.own, one.isEdge, pace(scheduler)))
}

function leave(_world: World, one: SimProcess): void {
  if (!one.leaving) one.leave()
}

/** For long enough that it is taken for dead, or not. */
function stop({ scheduler }: World, one: SimProcess): void {
  const { random } = scheduler
  const pauseMs = random.int(random.pick([1_000, 5_000, 8_000, 15_000, 30_000]))
  const isCutOff = random.chance(4)
  one.stop()
  scheduler.after(pauseMs, () => {
    if (isCutOff) one.bus.turn('down') // the bus has given it up as a slow consumer
    one.goOn()
    if (isCutOff) scheduler.after(random.int(500), () => one.bus.turn('up'))
  })
}

function cut({ scheduler }: World, one: SimProcess): void {
  const { random } = scheduler
  one.bus.cut(random.pick<readonly Direction[]>([['in'], ['out'], ['in', 'out']]), random.chance(2))
  scheduler.after(random.int(random.pick([2_000, 15_000])), () => one.bus.mend())
}

function disconnect({ scheduler }: World, one: SimProcess): void {
  const { random } = scheduler
  if (one.bus.state === 'down') return
  one.bus.turn('down')
  scheduler.after(random.int(random.pick([500, 10_000])), () => one.bus.turn('up'))
}

function turnClock({ scheduler: { random } }: World, one: SimProcess): void {
  one.pace.skewMs = random.pick([0, 5_000, -5_000, 100_000, -100_000, 200_000, -200_000])
}

function tableAway({ scheduler, table }: World): void {
  table.away = true
  scheduler.after(scheduler.random.int(scheduler.random.pick([1_000, 5_000, 15_000])), () => {
    table.away = false
  })
}

function changeWeather({ scheduler, network, table }: World): void {
  if (scheduler.random.chance(2)) network.weather = busWeather(scheduler)
  else table.weather = tableWeather(scheduler)
}

/** Of some clients of one edge, or of all there, as when a network fails. */
function loseConnections({ scheduler: { random }, clients }: World, one: SimProcess): void {
  const oneIn = random.pick([1, 2])
  for (const client of clients) if (client.host === one && random.chance(oneIn)) client.disconnect()
}

/** For good: with a word, or without. */
function clientGoes({ scheduler: { random }, clients, away }: World): void {
  const client = random.pick(clients)
  if (away.size > clients.length / 3) return
  away.add(client)
  client.leave(random.chance(2))
}

/** Nothing fails any more, and everything that has to be there is. */
export function heal(world: World): void {
  const { scheduler, network, table } = world
  world.trace('----', 'all is well again')
  world.doomed.clear()
  network.weather = { dropOneIn: 0, twiceOneIn: 0, delayMsMax: 5 }
  table.weather = { faultOneIn: 0, delayMsMax: 3, lateMsMax: 0, hotMsMax: 0 }
  table.away = false
  for (const process of world.alive) {
    process.goOn()
    process.bus.mend()
    if (process.bus.state === 'down') process.bus.turn('up')
  }
  for (const role of ['router', 'presence'] as const)
    if (!world.owners.some(({ own, leaving }) => own.includes(role) && !leaving)) world.add([role], false, pace(scheduler))
  if (world.edges.length === 0) world.add([], true, pace(scheduler))
}

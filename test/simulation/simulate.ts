// One seed: a cluster, what its clients say, what happens to it, and whether all is right in the end.
import { finish } from './ending.ts'
import { heal, populate, strike } from './faults.ts'
import { type Mutation, NONE } from './mutations.ts'
import { type Counts, World } from './world.ts'

/** How long after something was said the next blow may come. */
const STRIKE_MS_MAX = 1_000

export interface Outcome {
  readonly messages: number
  readonly pages: number
  readonly deliveries: number
  /** Deliveries of what had been shown. */
  readonly twice: number
  readonly recalled: number
  readonly events: number
  /** From the last fault until everything was acked. */
  readonly recoveryMs: number
  readonly counts: Counts
  readonly faults: ReadonlyMap<string, number>
  readonly lines: readonly string[]
}

export interface Simulating {
  readonly mutation?: Mutation
  readonly tracing?: boolean
  /** See ending.ts. */
  readonly strict?: boolean
}

/** Throws what was found, with the seed and, where it is `tracing`, all that had happened. */
export async function simulate(
  seed: number,
  { mutation = NONE, tracing = false, strict = false }: Simulating = {},
): Promise<Outcome> {
  const world = new World(seed, mutation, tracing)
  const mend = mutation.patch?.()
  try {
    return await live(world, strict)
  } catch (cause) {
    throw new Failure(seed, world.lines, cause as Error)
  } finally {
    mend?.()
  }
}

export class Failure extends Error {
  readonly seed: number
  readonly lines: readonly string[]

  constructor(seed: number, lines: readonly string[], cause: Error) {
    super(`seed ${seed}: ${cause.message}`, { cause })
    this.seed = seed
    this.lines = lines
  }
}

/** The first seed from where a mutation is looked for that finds it. Throws Error where none of so many does. */
export async function firstFailure(mutation: Mutation, seeds: number, simulating: Simulating = {}): Promise<Failure> {
  const { near = 1, name } = mutation
  for (let seed = near; seed < near + seeds; seed++) {
    try {
      await simulate(seed, { ...simulating, mutation })
    } catch (error) {
      if (error instanceof Failure) return error
      throw error
    }
  }
  throw new Error(`not found within ${seeds} seeds: ${name}`)
}

async function live(world: World, strict: boolean): Promise<Outcome> {
  const { random } = world.scheduler
  await world.open()
  populate(world)
  await world.pass(random.int(8_000))
  for (let left = 15 + random.int(25); left > 0; left--) {
    for (let says = random.int(random.chance(4) ? 12 : 5); says > 0; says--) world.say()
    for (let reads = random.int(4); reads > 0; reads--) world.read()
    // While what they said is on its way.
    if (random.chance(2)) world.scheduler.after(random.int(random.pick([10, 100, STRIKE_MS_MAX])), () => strike(world))
    await world.pass(random.int(random.chance(5) ? 6_000 : 1_000))
  }
  // What was begun ends by itself: pauses, cuts, and a table that is away.
  await world.pass(STRIKE_MS_MAX + random.int(30_000))
  heal(world)
  const recoveryMs = await finish(world, strict)
  return outcomeOf(world, recoveryMs)
}

function outcomeOf(world: World, recoveryMs: number): Outcome {
  const { checker, network, table, faults, counts, lines, scheduler } = world
  const all = new Map(faults)
  for (const [name, count] of Object.entries(network.faults)) all.set(`bus ${name}`, count)
  for (const [name, count] of Object.entries(table.faults)) all.set(`table ${name}`, count)
  return {
    messages: checker.said,
    pages: checker.pages,
    deliveries: checker.deliveries,
    twice: checker.twice,
    recalled: checker.recalled,
    events: scheduler.count,
    recoveryMs,
    counts,
    faults: all,
    lines,
  }
}

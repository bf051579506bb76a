// One seed: people, what they do, what happens to the servers, and each time it is quiet whether all see what they would see.
import type { Mutation } from './mutations.ts'
import { World } from './world.ts'

export interface Options {
  readonly tracing?: boolean
  /** Something happens to the servers, too. */
  readonly strikes?: boolean
  /** Nobody shows himself anew behind what happens to the servers. */
  readonly strict?: boolean
}

export interface Outcome {
  readonly shown: number
  readonly compared: number
  readonly tally: ReadonlyMap<string, number>
  readonly lines: readonly string[]
}

export class Failure extends Error {
  readonly lines: readonly string[]

  constructor(seed: number, lines: readonly string[], cause: Error) {
    super(`seed ${seed}: ${cause.message}`, { cause })
    this.lines = lines
  }
}

/** Throws Failure where somebody sees what he should not, or does not see what he should. */
export async function simulate(seed: number, options: Options = {}): Promise<Outcome> {
  const world = new World(seed, options.tracing ?? false)
  try {
    await live(world, options)
  } catch (cause) {
    throw new Failure(seed, world.lines, cause as Error)
  }
  const { shown, compared } = world.model
  return { shown, compared, tally: world.tally, lines: world.lines }
}

/** The first seed that finds a mutation. Throws Error where none of so many does. */
export async function firstFailure(mutation: Mutation, seeds: number): Promise<Failure> {
  const mend = mutation.patch()
  try {
    for (let seed = 1; seed <= seeds; seed++) await simulate(seed, { strikes: mutation.strikes === true })
  } catch (error) {
    if (error instanceof Failure) return error
    throw error
  } finally {
    mend()
  }
  throw new Error(`not found within ${seeds} seeds: ${mutation.name}`)
}

async function live(world: World, { strikes = false, strict = false }: Options): Promise<void> {
  const { random } = world.scheduler
  await world.open()
  await world.settle(true)
  await world.compare()
  for (let rounds = 3 + random.int(4); rounds > 0; rounds--) {
    const strikesNow = strikes && random.chance(2)
    if (strikesNow) world.scheduler.after(random.int(1_000), () => world.strike())
    for (let acts = 1 + random.int(12); acts > 0; acts--) {
      world.act()
      if (!random.chance(3)) await world.pass(random.int(random.pick([5, 50, 400])))
    }
    await world.settle(strikesNow)
    if (strikesNow && !strict) {
      // An owner that dies takes with it what it had on its way to contacts, which is in no log.
      for (const person of world.people) if (person.text !== undefined) person.show()
      await world.settle(false)
    }
    world.trace('----', 'all is quiet')
    await world.compare()
  }
}

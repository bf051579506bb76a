// The cluster in a simulation: some seeds, other ones each time, and servers that are broken on purpose.
//
// SIMULATION_FROM repeats a run, SIMULATION_SECONDS makes it longer. test/simulation/run.ts is for thousands, and tells what
// happened.
import { describe, expect, test } from 'vitest'
import { Violation } from './checker.ts'
import { MUTATIONS } from './mutations.ts'
import { Failure, simulate } from './simulate.ts'
import { Tally } from './tally.ts'

const FROM = Number(process.env.SIMULATION_FROM ?? Date.now() % 1_000_000_000)
const SECONDS = Number(process.env.SIMULATION_SECONDS ?? 15)
/** On a slow machine, too: so many have something of everything. */
const SEEDS_MIN = 20
/** Within so many seeds each mutation is found. */
const MUTANT_SEEDS = 300
/** What has to be survived does happen. */
const HAPPENINGS = [
  'messages',
  'pages',
  'deliveries',
  'recalled',
  'taken',
  'released',
  'recovered',
  'fenced',
  'stop',
  'crash',
  'restart',
]

describe('processes that crash, stop, leave and are cut off, on a bus and a table that fail', () => {
  test(`lose nothing that was acked, store it once and in order, and recover (SIMULATION_FROM=${FROM})`, {
    timeout: 0,
  }, async () => {
    const tally = new Tally()
    const endMs = performance.now() + SECONDS * 1_000
    for (let seed = FROM; tally.seeds < SEEDS_MIN || performance.now() < endMs; seed++) tally.add(await simulate(seed))
    for (const name of HAPPENINGS) expect(tally.of(name), name).toBeGreaterThan(0)
  })
})

describe('the simulation itself', () => {
  test('the same seed does the same, event by event, and another one does not', async () => {
    for (const seed of [5, 6, 7]) {
      const first = await simulate(seed, { tracing: true })
      expect(first.lines.length).toBeGreaterThan(100)
      expect((await simulate(seed, { tracing: true })).lines).toEqual(first.lines)
      expect((await simulate(seed + 1, { tracing: true })).lines).not.toEqual(first.lines)
    }
  })

  test('what fails is told with its seed, and what happened before', async () => {
    const mutation = MUTATIONS.find(({ name }) => name === 'what comes again is not looked for')!
    const failure = await firstFailure((seed) => simulate(seed, { mutation, tracing: true }), mutation.near)
    expect(failure.message).toMatch(new RegExp(`^seed ${failure.seed}: .* twice$`))
    expect(failure.lines.some((line) => line.includes(' says '))).toBe(true)
  })

  test.each(MUTATIONS.map((mutation) => [mutation.name, mutation] as const))(
    'screams where %s',
    async (_name, mutation) => {
      const { cause } = await firstFailure((seed) => simulate(seed, { mutation }), mutation.near)
      expect(cause).toBeInstanceOf(Violation)
    },
    300_000,
  )
})

async function firstFailure(run: (seed: number) => Promise<unknown>, from = 1): Promise<Failure> {
  for (let seed = from; seed < from + MUTANT_SEEDS; seed++) {
    try {
      await run(seed)
    } catch (error) {
      if (error instanceof Failure) return error
      throw error
    }
  }
  throw new Error(`not found within ${MUTANT_SEEDS} seeds`)
}

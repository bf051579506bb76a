// The cluster in a simulation: the same seeds each time, as many as there is time for, and servers that are broken on purpose.
//
// A seed that fails is a fault. test/simulation/run.ts is for thousands, tells what happened, and looks for every mutation.
import { describe, expect, test } from 'vitest'
import { Violation } from './checker.ts'
import { MUTATIONS } from './mutations.ts'
import { firstFailure, simulate } from './simulate.ts'
import { Tally } from './tally.ts'

const SEEDS_MS = 15_000
/** On a slow machine, too: so many have something of everything. */
const SEEDS_MIN = 50
const SEEDS_MAX = 300
/** Within so many seeds each mutation that is not rare is found. */
const MUTANT_SEEDS = 50
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
  test('lose nothing that was acked, store it once and in order, and recover', {
    timeout: 0,
  }, async () => {
    const tally = new Tally()
    const endMs = performance.now() + SEEDS_MS
    for (let seed = 1; seed <= SEEDS_MIN || (seed <= SEEDS_MAX && performance.now() < endMs); seed++)
      tally.add(await simulate(seed))
    for (const name of HAPPENINGS) expect(tally.of(name), name).toBeGreaterThan(0)
  })

  test.each([
    [3232, 'a router that has not read the leases yet does not take it that there are no edges'],
    [4646, 'an edge that was taken for dead ends what was bound on it before it joined anew'],
  ])('seed %i, which has failed: %s', async (seed) => {
    await expect(simulate(seed)).resolves.toBeDefined()
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
    const failure = await firstFailure(mutation, MUTANT_SEEDS, { tracing: true })
    expect(failure.message).toMatch(new RegExp(`^seed ${failure.seed}: .* twice$`))
    expect(failure.lines.some((line) => line.includes(' says '))).toBe(true)
  })

  test.each(MUTATIONS.filter(({ rare }) => rare === undefined).map((mutation) => [mutation.name, mutation] as const))(
    'screams where %s',
    async (_name, mutation) => {
      const { cause } = await firstFailure(mutation, MUTANT_SEEDS)
      expect(cause).toBeInstanceOf(Violation)
    },
    60_000,
  )
})

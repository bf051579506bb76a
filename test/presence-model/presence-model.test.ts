// Presence as the server spreads it, compared with a naive broadcaster, by seeds; and servers that are broken on purpose.
//
// A seed that fails is a fault. test/presence-model/run.ts is for thousands, and tells what happened.
import { describe, expect, test } from 'vitest'
import { Violation } from './model.ts'
import { MUTATIONS } from './mutations.ts'
import { Failure, firstFailure, simulate } from './simulate.ts'

const SEEDS = 150
const STRIKE_SEEDS = 75
/** Within so many seeds each mutation is found. */
const MUTANT_SEEDS = 250
/** What has to be there for the comparison to be worth something. */
const HAPPENINGS = ['show again', 'hide', 'direct', 'block', 'unblock', 'remove', 'subscribed', 'unsubscribe', 'lose', 'leave']
const STRIKES = [
  'owner dies',
  'owner leaves',
  'owner stops',
  'owner is new',
  'edge dies',
  'edge stops',
  'bodies are lost by owner',
]

async function all(seeds: number, strikes: boolean): Promise<Map<string, number>> {
  const tally = new Map<string, number>()
  for (let seed = 1; seed <= seeds; seed++) {
    const outcome = await simulate(seed, { strikes })
    for (const [name, count] of outcome.tally) tally.set(name, (tally.get(name) ?? 0) + count)
    tally.set('compared', (tally.get('compared') ?? 0) + outcome.compared)
  }
  return tally
}

describe('when all is quiet everybody sees what a naive broadcaster would show, and never what is not his to see', () => {
  test('in a cluster where nothing fails', { timeout: 0 }, async () => {
    const tally = await all(SEEDS, false)
    for (const name of HAPPENINGS) expect(tally.get(name), name).toBeGreaterThan(0)
    expect(tally.get('compared')).toBeGreaterThan(100 * SEEDS)
  })

  test('in a cluster whose edges and owners die, leave, stop and lose what they are sent', { timeout: 0 }, async () => {
    const tally = await all(STRIKE_SEEDS, true)
    for (const name of [...HAPPENINGS, ...STRIKES]) expect(tally.get(name), name).toBeGreaterThan(0)
  })
})

describe('the comparison itself', () => {
  test('the same seed does the same, event by event, and another one does not', async () => {
    const { lines } = await simulate(5, { tracing: true, strikes: true })
    expect(lines.length).toBeGreaterThan(100)
    expect((await simulate(5, { tracing: true, strikes: true })).lines).toEqual(lines)
    expect((await simulate(6, { tracing: true, strikes: true })).lines).not.toEqual(lines)
  })

  test.each(MUTATIONS.map((mutation) => [mutation.name, mutation] as const))(
    'screams where %s',
    async (_name, mutation) => {
      const failure = await firstFailure(mutation, MUTANT_SEEDS)
      expect(failure).toBeInstanceOf(Failure)
      expect(failure.cause).toBeInstanceOf(Violation)
    },
    120_000,
  )
})

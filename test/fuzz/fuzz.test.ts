// A bounded run of every fuzzer: another seed each time, which is in the name of the test.
//
// FUZZ_SEED repeats a run; FUZZ_INPUTS makes it longer (all targets together). test/fuzz/run.ts is for millions.
import { describe, expect, test } from 'vitest'
import { run } from './engine.ts'
import { Random } from './random.ts'
import { TARGETS } from './targets.ts'

const SEED = Number(process.env.FUZZ_SEED ?? Date.now() % 1_000_000_000)
const BOUNDED = TARGETS.reduce((sum, { inputs }) => sum + inputs, 0)
const FACTOR = Number(process.env.FUZZ_INPUTS ?? BOUNDED) / BOUNDED
/** A stall ends the test, too. */
const TIMEOUT_MS = 60_000 * Math.max(1, FACTOR)

describe(`fuzzers, seed ${SEED}`, () => {
  test.each(TARGETS.map((target) => [target.name, target] as const))(
    '%s',
    async (_name, target) => {
      const inputs = Math.ceil(target.inputs * FACTOR)
      const outcome = await run(target, { seed: SEED, inputs })
      expect(outcome.inputs).toBe(inputs)
    },
    TIMEOUT_MS,
  )
})

describe('the fuzzers themselves', () => {
  test('an input is the same whenever its seed and number are', () => {
    const made = (input: number): string => new Random(7, input).bytes(64).toString('hex')
    expect(made(3)).toBe(made(3))
    expect(made(4)).not.toBe(made(3))
  })

  test('what breaks is told with the seed and the number of the input', async () => {
    const breaks = {
      name: 'breaks',
      inputs: 1,
      open: () => ({
        one: (random: Random) => {
          if (random.chance(5)) throw new TypeError('our own bug')
        },
      }),
    }
    await expect(run(breaks, { seed: 1, inputs: 1_000 })).rejects.toThrow(
      /breaks: input \d+ of seed 1: our own bug\n {2}again: node test\/fuzz\/run.ts/,
    )
  })

  test('what is kept of each input is found', async () => {
    const kept: unknown[] = []
    const leaks = { name: 'leaks', inputs: 1, open: () => ({ one: () => void kept.push(new Array(1_000).fill(0.5)) }) }
    await expect(run(leaks, { seed: 1, inputs: 10_000 })).rejects.toThrow(/memory has grown/)
  })
})

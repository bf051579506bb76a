// Runs a fuzzer: so many inputs of a seed, with an eye on the time each takes and on memory.
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { Random } from './random.ts'
import type { Fuzz, FuzzTarget } from './target.ts'

/** One input may take so long: a stall, not a slow machine. */
export const INPUT_MS_MAX = 5_000
/** What the heap may grow by between the first tenth of a run and its end. */
const GROWTH_MB_MAX = 32
const CHECK_EVERY = 1_000

export interface Run {
  readonly seed: number
  /** The first input, and how many. */
  readonly from?: number
  readonly inputs: number
  /** Told now and then how many there have been. */
  readonly progress?: (done: number) => void
}

export interface Outcome {
  readonly inputs: number
  readonly seconds: number
  /** The longest that one input took. */
  readonly longestMs: number
  readonly grownMb: number
}

/** Throws an Error that says which input of which seed was its cause. */
export async function run(target: FuzzTarget, { seed, from = 0, inputs, progress }: Run): Promise<Outcome> {
  const fuzz = await target.open()
  const startedMs = performance.now()
  let longestMs = 0
  let early = Number.NaN
  let input = from
  try {
    for (; input < from + inputs; input++) {
      const beganMs = performance.now()
      const pending = fuzz.one(new Random(seed, input))
      if (pending !== undefined) await pending
      const tookMs = performance.now() - beganMs
      if (tookMs > longestMs) longestMs = tookMs
      if (tookMs > INPUT_MS_MAX) throw new Error(`it took ${Math.round(tookMs)} ms`)
      if (input - from === Math.floor(inputs / 10)) early = await heapMb(fuzz)
      if (input % CHECK_EVERY === CHECK_EVERY - 1) {
        if (fuzz.check !== undefined) await fuzz.check()
        progress?.(input - from + 1)
        await new Promise((resolve) => setImmediate(resolve))
      }
    }
    const grownMb = (await heapMb(fuzz)) - early
    if (grownMb > GROWTH_MB_MAX) throw new Error(`memory has grown by ${grownMb.toFixed(1)} MB`)
    return { inputs, seconds: (performance.now() - startedMs) / 1_000, longestMs, grownMb }
  } catch (cause) {
    throw new Error(
      `${target.name}: input ${input} of seed ${seed}: ${cause instanceof Error ? cause.message : String(cause)}\n` +
        `  again: node test/fuzz/run.ts --target ${target.name} --seed ${seed} --from ${input} --inputs 1\n` +
        '  (where inputs build on each other: from 0, up to this one)',
      { cause },
    )
  } finally {
    await fuzz.close?.()
  }
}

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

/** Of what is still in use. */
async function heapMb(fuzz: Fuzz): Promise<number> {
  if (fuzz.check !== undefined) await fuzz.check()
  collect()
  const { heapUsed, external } = process.memoryUsage()
  return (heapUsed + external) / 1024 / 1024
}

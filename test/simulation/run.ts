// The simulation of a cluster for as many seeds as are asked for.
//
//   node test/simulation/run.ts --seeds 10000 [--from N] [--trace]
//   node test/simulation/run.ts --seed N [--trace]
//   node test/simulation/run.ts --mutations
//
// The same seed does the same. What fails is run again and told, event by event; --trace tells each seed so. Ends with status 1
// at the first that fails.
import { parseArgs } from 'node:util'
import { MUTATIONS, NONE } from './mutations.ts'
import { Failure, firstFailure, simulate } from './simulate.ts'
import { Tally } from './tally.ts'

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '1000' },
    from: { type: 'string', default: '1' },
    seed: { type: 'string' },
    trace: { type: 'boolean', default: false },
    /** Presence, too, has to be right without anybody showing himself anew (ending.ts). */
    strict: { type: 'boolean', default: false },
    /** A part of the name of a mutation. */
    mutation: { type: 'string' },
    /** Looks for each of them, and tells which seed finds it. */
    mutations: { type: 'boolean', default: false },
  },
})
const { strict } = values
/** Within so many seeds each mutation is found. */
const MUTANT_SEEDS = 500
if (values.mutations) {
  await findAll()
  process.exit()
}
const mutation = values.mutation === undefined ? NONE : MUTATIONS.find(({ name }) => name.includes(values.mutation!))
if (mutation === undefined)
  throw new Error(`there is no such mutation; there are:\n${MUTATIONS.map(({ name }) => name).join('\n')}`)
const from = wholeNumber('--from', values.seed ?? values.from)
const seeds = values.seed === undefined ? wholeNumber('--seeds', values.seeds) : 1

const tally = new Tally()
let toldMs = performance.now()
for (let seed = from; seed < from + seeds; seed++) {
  try {
    const outcome = await simulate(seed, { mutation, strict, tracing: values.trace })
    tally.add(outcome)
    if (values.trace) process.stdout.write(`${outcome.lines.join('\n')}\n`)
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    const told = values.trace
      ? error
      : await simulate(seed, { mutation, strict, tracing: true }).then(
          () => error,
          (again: Failure) => again,
        )
    process.stdout.write(`${told.lines.join('\n')}\n\n${tally}`)
    process.stderr.write(`${error.message}\n${(error.cause as Error).stack}\n`)
    process.exit(1)
  }
  if (performance.now() - toldMs < 10_000) continue
  toldMs = performance.now()
  process.stderr.write(`${seed - from + 1} of ${seeds} seeds\n`)
}
process.stdout.write(`${tally}`)

async function findAll(): Promise<void> {
  for (const mutation of MUTATIONS) {
    const found = await firstFailure(mutation, MUTANT_SEEDS).then(
      ({ message }) => message,
      (error: Error) => {
        process.exitCode = 1
        return error.message
      },
    )
    process.stdout.write(`${mutation.name}\n  ${found.split('\n')[0]}\n`)
  }
}

function wholeNumber(option: string, text: string): number {
  const number = Number(text)
  if (!Number.isSafeInteger(number) || number < 0) throw new Error(`${option} ${text}: it must be a whole number`)
  return number
}

// The model-based test of presence for as many seeds as are asked for.
//
//   node test/presence-model/run.ts --seeds 1000 [--from N] [--strikes] [--strict] [--all]
//   node test/presence-model/run.ts --mutations
//
// The same seed does the same. What fails is told event by event, and ends it with status 1.
import { parseArgs } from 'node:util'
import { MUTATIONS } from './mutations.ts'
import { Failure, firstFailure, simulate } from './simulate.ts'

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '200' },
    from: { type: 'string', default: '1' },
    /** Something happens to the servers, too. */
    strikes: { type: 'boolean', default: false },
    /** Looks for each of them, and tells which seed finds it. */
    mutations: { type: 'boolean', default: false },
    /** Nobody shows himself anew behind what happened to the servers (simulate.ts). */
    strict: { type: 'boolean', default: false },
    /** Goes on behind a seed that fails, and tells only what was wrong. */
    all: { type: 'boolean', default: false },
  },
})
const { strikes, strict } = values
if (values.mutations) {
  for (const mutation of MUTATIONS) {
    const found = await firstFailure(mutation, 300).then(
      ({ message }) => message,
      (error: Error) => {
        process.exitCode = 1
        return error.message
      },
    )
    process.stdout.write(`${mutation.name}\n  ${found}\n`)
  }
  process.exit()
}
const tally = new Map<string, number>()
const from = Number(values.from)
let failures = 0
for (let seed = from; seed < from + Number(values.seeds); seed++) {
  try {
    const { shown, compared, tally: one } = await simulate(seed, { strikes, strict })
    for (const [name, count] of [...one, ['stanzas shown', shown] as const, ['views compared', compared] as const])
      tally.set(name, (tally.get(name) ?? 0) + count)
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    failures++
    process.exitCode = 1
    if (values.all) {
      process.stdout.write(`${error.message}\n`)
      continue
    }
    const told = await simulate(seed, { strikes, strict, tracing: true }).then(
      () => error,
      (again: Failure) => again,
    )
    process.stdout.write(`${told.lines.join('\n')}\n${error.message}\n${(error.cause as Error).stack}\n`)
    break
  }
}
for (const [name, count] of tally) process.stdout.write(`${name.padEnd(28)}${String(count).padStart(10)}\n`)
process.stdout.write(`${'seeds that failed'.padEnd(28)}${String(failures).padStart(10)}\n`)

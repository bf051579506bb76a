// Fuzzers for as many inputs as are asked for, with progress and a table at the end.
//
//   node test/fuzz/run.ts --inputs 10000000 [--seed N] [--target NAME] [--from N]
//
// The inputs are shared among the targets as in a bounded run, where each has about the same time. The seed is printed;
// with it, the same inputs are made again. Ends with status 1 at the first input that broke something.
import { parseArgs } from 'node:util'
import { type Outcome, run } from './engine.ts'
import { TARGETS } from './targets.ts'

const { values } = parseArgs({
  options: {
    inputs: { type: 'string', default: '1000000' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000_000) },
    from: { type: 'string', default: '0' },
    target: { type: 'string', multiple: true, default: [] },
  },
})
const seed = Number(values.seed)
const wanted = values.target
const targets = TARGETS.filter(({ name }) => wanted.length === 0 || wanted.includes(name))
if (targets.length === 0) throw new Error(`there is no such target; there are ${TARGETS.map(({ name }) => name).join(', ')}`)
const shares = targets.reduce((sum, { inputs }) => sum + inputs, 0)

const rows: { name: string; outcome: Outcome }[] = []
for (const target of targets) {
  const inputs = Math.max(1, Math.ceil((Number(values.inputs) * target.inputs) / shares))
  let toldMs = performance.now()
  const outcome = await run(target, {
    seed,
    from: Number(values.from),
    inputs,
    progress(done) {
      if (performance.now() - toldMs < 10_000) return
      toldMs = performance.now()
      process.stderr.write(`${target.name}: ${done} of ${inputs}\n`)
    },
  })
  rows.push({ name: target.name, outcome })
  process.stderr.write(`${target.name}: ${inputs} inputs in ${outcome.seconds.toFixed(1)} s\n`)
}

const all = rows.reduce((sum, { outcome }) => sum + outcome.inputs, 0)
process.stdout.write(
  `\n${'target'.padEnd(16)}${'inputs'.padStart(12)}${'seconds'.padStart(10)}${'longest ms'.padStart(12)}${'grown MB'.padStart(10)}\n`,
)
for (const { name, outcome } of rows) {
  const { inputs, seconds, longestMs, grownMb } = outcome
  process.stdout.write(
    `${name.padEnd(16)}${String(inputs).padStart(12)}${seconds.toFixed(1).padStart(10)}${longestMs.toFixed(1).padStart(12)}${grownMb.toFixed(1).padStart(10)}\n`,
  )
}
process.stdout.write(`${'all'.padEnd(16)}${String(all).padStart(12)}    seed ${seed}\n`)
process.exit(0)

// Random faults for long: `make soak`, or
//
//   node test/faults/cluster/soak.ts [--minutes 60] [--seed 7] [--pairs 20] [--rate 5] [--faults 'router|NATS'] [--logs /tmp/logs]
//
// The load goes on all the while, and everything is checked after each step. What is wrong is said at once; at the end there is the
// table of how long things took, and all archives are read once more; the whole logs of all processes are in the folder that
// --logs names. It exits with 1 where anything was wrong.
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { Random } from '#test/fuzz/random.ts'
import { MORE_FAULTS } from './faults.ts'
import { Load } from './load.ts'
import { Site } from './site.ts'
import { Trial } from './trial.ts'

const QUIET_MS_MAX = 5_000

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '60' },
    seed: { type: 'string', default: `${Math.floor(Math.random() * 1_000_000)}` },
    pairs: { type: 'string', default: '20' },
    rate: { type: 'string', default: '5' },
    faults: { type: 'string', default: '' },
    logs: { type: 'string' },
  },
})
const seed = numberIn('seed', 0)
const minutes = numberIn('minutes', 0)
const chosen = MORE_FAULTS.filter(({ name }) => new RegExp(values.faults).test(name))
if (chosen.length === 0)
  throw new Error(`--faults ${values.faults} fits none of:\n${MORE_FAULTS.map(({ name }) => name).join('\n')}`)

const random = new Random(seed, 0)
const site = await Site.open(random)
if (site === undefined) process.exit(1)
const load = new Load({ pairs: numberIn('pairs', 1), rate: numberIn('rate', 0), doors: site.doors, random: new Random(seed, 1) })
const trial = new Trial(site, load)
let isWrong = false
try {
  await load.start()
  await goOn(site)
  tell(await load.check())
  await load.stop()
  tell(await load.checkWhole())
} finally {
  console.log(`SEED=${seed}: ${trial.summary()}\n${trial.table()}`)
  if (isWrong) console.log(site.cluster.log())
  if (values.logs !== undefined) await site.writeLogs(values.logs)
  await load.stop()
  await site.close()
}
process.exitCode = isWrong ? 1 : 0

/** One fault at least. */
async function goOn(site: Site): Promise<void> {
  const until = performance.now() + minutes * 60_000
  do {
    const fault = random.pick(chosen)
    console.log(`${new Date().toISOString()} ${fault.name}`)
    try {
      tell(await trial.undergo(fault))
      await site.restore()
    } catch (error) {
      tell([`${fault.name}: ${(error as Error).message}`])
      await site.restore()
    }
    await sleep(random.int(QUIET_MS_MAX))
  } while (performance.now() < until)
}

function tell(faults: readonly string[]): void {
  if (faults.length > 0) isWrong = true
  for (const fault of faults) console.log(`  WRONG: ${fault}`)
}

function numberIn(name: 'seed' | 'minutes' | 'pairs' | 'rate', min: number): number {
  const number = Number(values[name])
  if (!Number.isFinite(number) || number < min)
    throw new Error(`--${name} ${values[name]}: it must be a number of at least ${min}`)
  return number
}

// Faults of a cluster of real processes, one after the other, while people talk: nothing that was acknowledged is lost.
//
// Two edges, two routers, two presence services, three NATS servers, and DynamoDB Local behind a proxy that fails when told to.
// The load goes on from the first test to the last. SEED=7 repeats the choices, as far as a machine can. It takes about four
// minutes; on a machine that is too slow for that, what does not begin in time is skipped, and says so. `make soak` goes on for as
// long as one likes, and ONLY=NATS chooses faults by their names.
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFailed, test } from 'vitest'
import { Random } from '#test/fuzz/random.ts'
import { FAULTS } from './faults.ts'
import { Load } from './load.ts'
import { Site } from './site.ts'
import { Trial } from './trial.ts'

const SEED = Number(process.env.SEED ?? Math.floor(Math.random() * 1_000_000))
const ONLY = new RegExp(process.env.ONLY ?? '')
const PAIRS = 8
const RATE = 3
const STARTED_WITHIN_MS = 180_000
const TEST_TIMEOUT_MS = 240_000
/** From the first to the last that is begun. */
const BEGUN_WITHIN_MS = 270_000
const FAULTS_SHOWN = 20

let site: Site | undefined
let load: Load
let trial: Trial
let startedMs: number

beforeAll(async () => {
  site = await Site.open(new Random(SEED, 0))
  if (site === undefined) return
  load = new Load({ pairs: PAIRS, rate: RATE, doors: site.doors, random: new Random(SEED, 1) })
  trial = new Trial(site, load)
  try {
    await load.start()
  } catch (error) {
    console.log(site.cluster.log())
    throw error
  }
  startedMs = performance.now()
}, STARTED_WITHIN_MS)

afterAll(async () => {
  if (site !== undefined) console.log(`SEED=${SEED}: ${trial.summary()}\n${trial.table()}`)
  await load?.stop()
  await site?.close()
})

beforeEach(async ({ skip }) => {
  if (site === undefined) return skip('there is no NATS or no DynamoDB to test with; standard error says how to get them')
  onTestFailed(() => console.log(site!.cluster.log()))
  await site.restore()
}, TEST_TIMEOUT_MS)

describe('nothing acknowledged is lost, doubled or out of order, and presence tells the truth, when', () => {
  for (const fault of FAULTS.filter(({ name }) => ONLY.test(name)))
    test(fault.name, { timeout: TEST_TIMEOUT_MS }, async ({ skip }) => {
      if (performance.now() - startedMs > BEGUN_WITHIN_MS) {
        console.warn(
          `SKIPPED: this machine was too slow to come to "${fault.name}" in time; ONLY='${fault.name}' runs it by itself`,
        )
        return skip('this machine was too slow to come to it in time')
      }
      expect((await trial.undergo(fault)).slice(0, FAULTS_SHOWN), `SEED=${SEED}`).toEqual([])
    })
})

test('nothing has appeared in an archive behind what had been shown of it', { timeout: TEST_TIMEOUT_MS }, async () => {
  expect(await load.check()).toEqual([])
  await load.stop()
  expect((await load.checkWhole()).slice(0, FAULTS_SHOWN), `SEED=${SEED}`).toEqual([])
})

// An owner dies at every point there is, and what it had asked of the table by then happens never, at once, or at every later
// moment: while its log is recovered, by one or by two, and behind what the next owner writes.
import { describe, expect, test } from 'vitest'
import type { Write } from './commit.ts'
import { type Ask, Recoverer, rowsOf, TestOwner, World } from './owner-log.fixture.ts'

const ROMEO = 'romeo@a'
const PK = `a#${ROMEO}`

const put = (sk: string, value: string): Write => ({ put: { pk: PK, sk, version: 'v', value: Buffer.from(value) } })
const remove = (sk: string): Write => ({ delete: { pk: PK, sk } })

/** What the owner stages, a flush each. The third is of several items. */
const FLUSHES: readonly (readonly Write[])[] = [
  [put('one', '1'), put('two', '1'), put('three', '1')],
  [put('one', '2'), remove('two'), put('four', '2')],
  [put('one', 'x'.repeat(390_000)), put('five', '3'.repeat(200_000)), remove('four')],
  [put('one', '4'), put('two', '4'), remove('three')],
]
/** What the next owner does. */
const NEXT: readonly Write[] = [put('two', 'next'), remove('one'), remove('five')]

type Contents = Readonly<Record<string, string>>

function contentsAfter(writes: readonly Write[], before: Contents = {}): Contents {
  const contents = { ...before }
  for (const write of writes) {
    if ('put' in write) contents[write.put.sk] = Buffer.from(write.put.value).toString()
    else delete contents[write.delete.sk]
  }
  return contents
}

async function contentsOf(world: World): Promise<Contents> {
  const rows = await rowsOf(world.inner, PK)
  return Object.fromEntries(rows.map(({ sk, value }) => [sk, Buffer.from(value).toString()]))
}

/** Runs the owner until it has been answered so often, and is dead. Undefined where it had no more to ask. */
async function crashed(world: World, answers: number): Promise<{ released: number; asks: Ask[] } | undefined> {
  const owner = new TestOwner(world)
  let released = 0
  let answered = 0
  for (const writes of FLUSHES) {
    for (const write of writes) owner.commit.stage(ROMEO, write)
    owner.commit.after(ROMEO, () => released++)
    // A flush each; what is behind is applied at the same time, now the one first, now the other.
    for (const end = released + 1; released < end; answered++) {
      await world.turn()
      if (answered === answers) {
        owner.dead = true
        return { released, asks: world.asks.splice(0) }
      }
      const ask = world.asks[answered % world.asks.length]!
      await ask.happen()
      ask.answer()
      world.tidy()
    }
  }
  for (; answered < answers; answered++) if (!(await world.step())) return undefined
  owner.dead = true
  return { released, asks: world.asks.splice(0) }
}

interface Plan {
  readonly answers: number
  readonly recoverers: number
  /** After so many answers to those who recover and to the next owner what was under way happens; Infinity: at the very end. */
  readonly late: number | 'never' | 'at once'
}

/** How many moments there were at which something could have come late; undefined where the owner does not ask so much. */
async function play({ answers, recoverers, late }: Plan): Promise<number | undefined> {
  const world = new World()
  const crash = await crashed(world, answers)
  if (crash === undefined) return undefined
  let moments = 0
  const happen = async (): Promise<void> => {
    for (const ask of crash.asks.splice(0)) await ask.happen()
  }
  const drive = async (done: () => boolean): Promise<void> => {
    while (!done()) {
      if (moments++ === late) await happen()
      if (!(await world.step())) await world.clock.settle(1_000)
    }
  }
  if (late === 'at once') await happen()
  const all = Array.from({ length: recoverers }, (_, i) => new Recoverer(world, `r${i}`, 'p1', 0))
  await drive(() => all.every(({ done }) => done))
  expect(all.map(({ failed }) => failed)).toEqual(all.map(() => undefined))

  const recovered = await contentsOf(world)
  const states = [0, 1, 2, 3, 4].map((count) => contentsAfter(FLUSHES.slice(0, count).flat()))
  const durable = states.findIndex((state) => JSON.stringify(sorted(state)) === JSON.stringify(sorted(recovered)))
  expect(durable, 'what was recovered is what some of the flushes made').toBeGreaterThanOrEqual(crash.released)

  const next = new TestOwner(world, 'p2')
  next.epoch = 2
  for (const write of NEXT) next.commit.stage(ROMEO, write)
  let drained = false
  void next.commit.drained().then(() => (drained = true))
  await drive(() => drained)
  if (late !== 'never') await happen()
  expect(await contentsOf(world)).toEqual(contentsAfter(NEXT, recovered))
  return moments
}

const sorted = (contents: Contents) => Object.entries(contents).sort(([a], [b]) => (a < b ? -1 : 1))

describe('an owner that dies', () => {
  for (const recoverers of [1, 2]) {
    test(`at any point, recovered by ${recoverers}: what was released is there, and nothing comes back`, {
      timeout: 120_000,
    }, async () => {
      let points = 0
      for (let answers = 0; ; answers++) {
        const moments = await play({ answers, recoverers, late: 'never' })
        if (moments === undefined) break
        points++
        for (const late of ['at once', ...Array.from({ length: moments }, (_, i) => i), Number.POSITIVE_INFINITY] as const)
          await play({ answers, recoverers, late })
      }
      expect(points).toBeGreaterThan(15)
    })
  }
})

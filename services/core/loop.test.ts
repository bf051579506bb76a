import { expect, test } from 'vitest'
import { manualClock } from './clock.ts'
import { Loop } from './loop.ts'

/** A loop whose runs are ended by hand, with the pause after them. */
function setUp() {
  const clock = manualClock()
  const ends: ((pauseMs: number) => void)[] = []
  const loop = new Loop(clock, () => new Promise((resolve) => ends.push(resolve)))
  return { clock, loop, ends }
}

test('runs one at a time, with the pause that each asks for', async () => {
  const { clock, loop, ends } = setUp()
  loop.start(50)
  await clock.settle(49)
  expect(ends).toHaveLength(0)
  await clock.settle(1)
  await clock.settle(1_000)
  expect(ends).toHaveLength(1)
  ends[0]!(10)
  await clock.settle(10)
  expect(ends).toHaveLength(2)
})

test('poked while it pauses it runs at once; while it runs, once more', async () => {
  const { clock, loop, ends } = setUp()
  loop.start(Number.POSITIVE_INFINITY)
  loop.poke()
  expect(ends).toHaveLength(1)
  loop.poke()
  loop.poke()
  ends[0]!(Number.POSITIVE_INFINITY)
  await clock.settle()
  expect(ends).toHaveLength(2)
  ends[1]!(Number.POSITIVE_INFINITY)
  await clock.settle(100_000)
  expect(ends).toHaveLength(2)
})

test('stopped it leaves no timer, and is not poked', async () => {
  const { clock, loop, ends } = setUp()
  loop.start()
  ends[0]!(10)
  await clock.settle()
  loop.stop()
  loop.poke()
  expect(clock.pending()).toBe(0)
  await clock.settle(100)
  expect(ends).toHaveLength(1)
})

test('stopped while it runs it does not go on', async () => {
  const { clock, loop, ends } = setUp()
  loop.start()
  loop.poke()
  loop.stop()
  ends[0]!(0)
  await clock.settle(100)
  expect([ends.length, clock.pending()]).toEqual([1, 0])
})

import { expect, test } from 'vitest'
import { manualClock } from './clock.ts'
import { inPortions } from './portions.ts'

test('all is given, in order, so many at once and with a pause between', async () => {
  const clock = manualClock()
  const given: string[] = []
  let isOver = false
  void inPortions(clock, { atOnce: 2, pauseMs: 50 }, [1, 2, 3, 4, 5], (portion) => void given.push(portion.join(' '))).then(
    () => (isOver = true),
  )
  expect(given).toEqual(['1 2'])
  await clock.settle(49)
  expect(given).toEqual(['1 2'])
  await clock.settle(1)
  expect([given, isOver]).toEqual([['1 2', '3 4'], false])
  await clock.settle(50)
  expect([given, isOver, clock.pending()]).toEqual([['1 2', '3 4', '5'], true, 0])
})

test('nothing is over at once', async () => {
  await inPortions(manualClock(), { atOnce: 2, pauseMs: 50 }, [], () => expect.unreachable())
})

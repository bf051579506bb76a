import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { manualClock } from '#core/clock.ts'
import { type Timed, Wheel } from './wheel.ts'

function start() {
  const clock = manualClock()
  const wheel = new Wheel(clock)
  const timer = clock.setInterval(() => wheel.tick(), 1_000)
  const called: [name: string, ms: number][] = []
  const timed = (name: string, then: (timed: Timed) => void = () => {}): Timed => {
    const made: Timed = {
      dueS: 0,
      due() {
        called.push([name, clock.monotonic()])
        then(made)
      },
    }
    return made
  }
  return { clock, wheel, timer, called, timed }
}

describe('whoever waits', () => {
  test('is called once, when the time has passed, and not again', () => {
    const { clock, wheel, called, timed } = start()
    wheel.add(timed('one'), 5_000)
    clock.advance(4_999)
    expect(called).toEqual([])
    clock.advance(1)
    expect(called).toEqual([['one', 5_000]])
    clock.advance(100_000)
    expect(called).toHaveLength(1)
  })

  test('is not called once it has been taken out, also when that is done in its own second', () => {
    const { clock, wheel, called, timed } = start()
    const two = timed('two')
    const one = timed('one', () => wheel.remove(two))
    const gone = timed('gone')
    wheel.add(one, 3_000)
    wheel.add(two, 3_000)
    wheel.add(gone, 2_000)
    wheel.remove(gone)
    wheel.remove(gone)
    clock.advance(10_000)
    expect(called).toEqual([['one', 3_000]])
  })

  test('waits at one place: who is put in again waits for that instead', () => {
    const { clock, wheel, called, timed } = start()
    const one = timed('one')
    wheel.add(one, 2_000)
    wheel.add(one, 7_000)
    clock.advance(20_000)
    expect(called).toEqual([['one', 7_000]])
  })

  test('may wait again when it is called, and is not called twice in one second', () => {
    const { clock, wheel, called, timed } = start()
    wheel.add(
      timed('one', (one) => wheel.add(one, 0)),
      1_000,
    )
    clock.advance(3_000)
    expect(called.map(([, ms]) => ms)).toEqual([1_000, 2_000, 3_000])
  })

  test('is called after a pause of the process, each for itself', () => {
    const { clock, wheel, timer, called, timed } = start()
    for (const s of [1, 2, 3]) wheel.add(timed(`${s}`), s * 1_000)
    clock.clearTimeout(timer)
    clock.advance(60_000)
    wheel.tick()
    expect(called.map(([name]) => name)).toEqual(['1', '2', '3'])
    expect(wheel.nowS).toBe(60)
  })

  test('whenever it begins and however long it waits: not before its time, and at most two seconds behind it', () => {
    const run = fc.property(
      fc.array(fc.tuple(fc.integer({ min: 0, max: 5_000 }), fc.integer({ min: 0, max: 20_000 })), { maxLength: 20 }),
      (waits) => {
        const { clock, wheel, called, timed } = start()
        const dueMs = new Map<string, number>()
        waits.forEach(([pauseMs, ms], n) => {
          clock.advance(pauseMs)
          dueMs.set(`${n}`, clock.monotonic() + ms)
          wheel.add(timed(`${n}`), ms)
        })
        clock.advance(30_000)
        expect(called.map(([name]) => name).sort()).toEqual([...dueMs.keys()].sort())
        for (const [name, ms] of called) {
          expect(ms).toBeGreaterThanOrEqual(dueMs.get(name)!)
          expect(ms - dueMs.get(name)!).toBeLessThan(2_000)
        }
      },
    )
    fc.assert(run, { numRuns: 200 })
  })
})

import { describe, expect, test } from 'vitest'
import { DELAY_MS_MAX, manualClock, systemClock } from './clock.ts'

describe('the manual clock', () => {
  test('timers are called by due time, then in the order they were set, each at its own moment', () => {
    const clock = manualClock(1000)
    const calls: string[] = []
    clock.setTimeout(() => calls.push(`c@${clock.now()}`), 20)
    clock.setTimeout(() => calls.push(`a@${clock.now()}`), 10)
    clock.setTimeout(() => calls.push(`b@${clock.now()}`), 10)
    clock.advance(9)
    expect(calls).toEqual([])
    clock.advance(11)
    expect(calls).toEqual(['a@1010', 'b@1010', 'c@1020'])
    expect(clock.monotonic()).toBe(20)
  })

  test('what a timer sets is called in the same advance if it falls due in it', () => {
    const clock = manualClock()
    const calls: number[] = []
    clock.setTimeout(() => clock.setTimeout(() => calls.push(clock.monotonic()), 5), 5)
    clock.advance(9)
    expect(calls).toEqual([])
    clock.advance(1)
    expect(calls).toEqual([10])
  })

  test('a cleared timer is not called, not even by a timer of the same moment', () => {
    const clock = manualClock()
    let called = false
    clock.setTimeout(() => clock.clearTimeout(second), 1)
    const second = clock.setTimeout(() => (called = true), 1)
    clock.advance(10)
    expect(called).toBe(false)
    expect(clock.pending()).toBe(0)
    clock.clearTimeout(second)
    clock.clearTimeout(undefined)
  })

  test('an interval is called every time, until it is cleared', () => {
    const clock = manualClock()
    const calls: number[] = []
    const timer = clock.setInterval(() => {
      calls.push(clock.monotonic())
      if (calls.length === 3) clock.clearTimeout(timer)
    }, 10)
    clock.advance(100)
    expect(calls).toEqual([10, 20, 30])
  })

  test('an interval and a later timer of the same moment take turns', () => {
    const clock = manualClock()
    const calls: string[] = []
    clock.setInterval(() => calls.push('every'), 10)
    clock.setTimeout(() => calls.push('once'), 20)
    clock.advance(20)
    expect(calls).toEqual(['every', 'once', 'every'])
  })

  test('settle lets promises run between timers, so that they can set more', async () => {
    const clock = manualClock()
    const calls: number[] = []
    const sleep = (ms: number) => new Promise<void>((resolve) => clock.setTimeout(resolve, ms))
    const work = (async () => {
      for (let i = 0; i < 3; i++) {
        await sleep(10)
        calls.push(clock.monotonic())
      }
    })()
    await clock.settle(30)
    expect(calls).toEqual([10, 20, 30])
    await work
  })

  test('a jump moves the wall clock only', () => {
    const clock = manualClock(5000)
    let called = false
    clock.setTimeout(() => (called = true), 100)
    clock.jump(-3000)
    expect(clock.now()).toBe(2000)
    expect(clock.monotonic()).toBe(0)
    clock.jump(1_000_000)
    expect(called).toBe(false)
  })
})

describe('the system clock', () => {
  test('now is the time of day and monotonic does not go backwards', () => {
    expect(Math.abs(systemClock.now() - Date.now())).toBeLessThan(1000)
    const before = systemClock.monotonic()
    expect(systemClock.monotonic()).toBeGreaterThanOrEqual(before)
  })

  test('a timer calls, and a cleared one does not', async () => {
    const calls: string[] = []
    systemClock.clearTimeout(systemClock.setTimeout(() => calls.push('cleared'), 0))
    await new Promise<void>((resolve) => systemClock.setTimeout(resolve, 1))
    expect(calls).toEqual([])
  })

  test.each([DELAY_MS_MAX + 1, Number.NaN, Infinity])('a delay of %d is refused instead of being called at once', (ms) => {
    expect(() => systemClock.setTimeout(() => {}, ms)).toThrow(RangeError)
    expect(() => manualClock().setTimeout(() => {}, ms)).toThrow(RangeError)
  })
})

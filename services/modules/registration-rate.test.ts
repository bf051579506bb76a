import { describe, expect, test } from 'vitest'
import { manualClock } from '#core/clock.ts'
import { ADDRESSES_MAX, RegistrationRate } from './registration-rate.ts'

const HOUR_MS = 3_600_000

describe('the window', () => {
  test('has so many places an hour, each of which is free again an hour after it was taken', () => {
    const clock = manualClock()
    const rate = new RegistrationRate(2, clock)
    expect(rate.take('192.0.2.1')).toBeDefined()
    clock.advance(HOUR_MS / 2)
    expect(rate.take('192.0.2.1')).toBeDefined()
    expect(rate.take('192.0.2.1')).toBeUndefined()
    expect(rate.take('192.0.2.2')).toBeDefined()
    clock.advance(HOUR_MS / 2)
    expect(rate.take('192.0.2.1')).toBeDefined()
    expect(rate.take('192.0.2.1')).toBeUndefined()
  })

  test('what is given back can be taken again', () => {
    const rate = new RegistrationRate(1, manualClock())
    const place = rate.take('192.0.2.1')!
    expect(rate.take('192.0.2.1')).toBeUndefined()
    place.giveBack()
    expect(rate.take('192.0.2.1')).toBeDefined()
  })

  test('the clock of the machine may jump without freeing any', () => {
    const clock = manualClock()
    const rate = new RegistrationRate(1, clock)
    rate.take('192.0.2.1')
    clock.jump(2 * HOUR_MS)
    expect(rate.take('192.0.2.1')).toBeUndefined()
  })

  test('0 is no bound', () => {
    const rate = new RegistrationRate(0, manualClock())
    for (let i = 0; i < 100; i++) expect(rate.take('192.0.2.1')).toBeDefined()
  })

  test('of too many addresses the one quiet for longest is forgotten, and no other', () => {
    const rate = new RegistrationRate(1, manualClock())
    rate.take('first')
    rate.take('second')
    rate.take('first') // refused, but heard of
    for (let i = 2; i <= ADDRESSES_MAX; i++) rate.take(`address ${i}`)
    expect(rate.take('first')).toBeUndefined()
    expect(rate.take('second')).toBeDefined()
  })
})

import { describe, expect, test } from 'vitest'
import { READINGS_MAX, Readings, Unread } from './readings.ts'

const ROWS = new Map([['account', new Unread(Buffer.from('{"n":1}'))]])

describe('a reading', () => {
  test('is taken once', () => {
    const readings = new Readings()
    readings.begin('romeo@example.org').rows = ROWS
    expect(readings.take('romeo@example.org')?.get('account')?.read()).toEqual({ n: 1 })
    expect(readings.take('romeo@example.org')).toBeUndefined()
  })

  test('under way is nothing to take, and is there when it ends', () => {
    const readings = new Readings()
    const reading = readings.begin('romeo@example.org')
    expect(readings.take('romeo@example.org')).toBeUndefined()
    reading.rows = ROWS
    expect(readings.take('romeo@example.org')).toBe(ROWS)
  })

  test('that began before something was written is nobody’s when it ends', () => {
    const readings = new Readings()
    const reading = readings.begin('romeo@example.org')
    readings.drop('romeo@example.org')
    reading.rows = ROWS
    expect(readings.take('romeo@example.org')).toBeUndefined()
  })

  test('makes room for a later one: the oldest goes', () => {
    const readings = new Readings()
    for (let i = 0; i <= READINGS_MAX; i++) readings.begin(`a${i}@example.org`).rows = ROWS
    expect(readings.take('a0@example.org')).toBeUndefined()
    expect(readings.take('a1@example.org')).toBe(ROWS)
  })
})

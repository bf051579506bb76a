import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { DateTimeError, formatDateTime, formatOffset, parseDateTime } from './time.ts'

describe('XEP-0082 §3.2 DateTime', () => {
  test('the first human steps on the Moon, in UTC and in Houston time', () => {
    expect(parseDateTime('1969-07-21T02:56:15Z')).toBe(Date.UTC(1969, 6, 21, 2, 56, 15))
    expect(parseDateTime('1969-07-20T21:56:15-05:00')).toBe(parseDateTime('1969-07-21T02:56:15Z'))
    expect(formatDateTime(Date.UTC(1969, 6, 21, 2, 56, 15))).toBe('1969-07-21T02:56:15Z')
  })

  test('milliseconds are written where there are some', () => {
    expect(formatDateTime(0)).toBe('1970-01-01T00:00:00Z')
    expect(formatDateTime(250)).toBe('1970-01-01T00:00:00.250Z')
    expect(formatDateTime(1.9)).toBe('1970-01-01T00:00:00.001Z')
    expect(formatDateTime(-1)).toBe('1969-12-31T23:59:59.999Z')
  })

  test('a fraction may have any number of digits, of which three count', () => {
    expect(parseDateTime('1970-01-01T00:00:00.5Z')).toBe(500)
    expect(parseDateTime('1970-01-01T00:00:00.123999999999Z')).toBe(123)
    expect(parseDateTime('1970-01-01T00:00:00.0Z')).toBe(0)
  })

  test('24:00:00 is the end of the day (XML Schema), and nothing comes after it', () => {
    expect(parseDateTime('1970-01-01T24:00:00Z')).toBe(86_400_000)
    expect(parseDateTime('1970-01-01T24:00:00.000Z')).toBe(86_400_000)
    for (const time of ['24:00:01', '24:00:00.001', '24:00:00.0001', '24:01:00', '25:00:00']) {
      expect(() => parseDateTime(`1970-01-01T${time}Z`), time).toThrow(DateTimeError)
    }
  })

  test('a time whose zone puts it outside of the years 0 to 9999 used to be read, and could not be written', () => {
    for (const text of ['0000-01-01T00:00:00+00:01', '9999-12-31T23:59:59-00:01'])
      expect(() => parseDateTime(text)).toThrow(DateTimeError)
    expect(formatDateTime(parseDateTime('0000-01-01T00:01:00+00:01'))).toBe('0000-01-01T00:00:00Z')
  })

  test('29 February is a day in leap years only', () => {
    expect(parseDateTime('2024-02-29T00:00:00Z')).toBe(Date.UTC(2024, 1, 29))
    expect(() => parseDateTime('2023-02-29T00:00:00Z')).toThrow(DateTimeError)
    expect(() => parseDateTime('1900-02-29T00:00:00Z')).toThrow(DateTimeError)
  })

  test.each([
    '',
    'now',
    '2026-03-01',
    '2026-03-01T12:00:00',
    '2026-03-01 12:00:00Z',
    '2026-03-01t12:00:00Z',
    '2026-03-01T12:00:00z',
    '2026-03-01T12:00Z',
    '20260301T12:00:00',
    '2026-3-1T12:00:00Z',
    '2026-03-01T12:00:00.Z',
    '2026-03-01T12:00:00+0100',
    '2026-03-01T12:00:00+14:01',
    '2026-03-01T12:00:00+01:60',
    ' 2026-03-01T12:00:00Z',
    '2026-03-01T12:00:00Z\n',
    '2026-00-01T12:00:00Z',
    '2026-13-01T12:00:00Z',
    '2026-04-31T12:00:00Z',
    '2026-01-00T12:00:00Z',
    '2026-01-32T12:00:00Z',
    '2026-03-01T12:60:00Z',
    '2026-03-01T12:00:60Z',
    '+002026-03-01T12:00:00Z',
    '-2026-03-01T12:00:00Z',
    '２０２６-03-01T12:00:00Z',
  ])('%j is refused', (text) => {
    expect(() => parseDateTime(text)).toThrow(DateTimeError)
  })

  test('any moment of the years 0 to 9999 is read back as it was written', () => {
    const first = Date.parse('0000-01-01T00:00:00Z')
    const last = Date.parse('9999-12-31T23:59:59.999Z')
    fc.assert(
      fc.property(fc.integer({ min: first, max: last }), (ms) => {
        expect(parseDateTime(formatDateTime(ms))).toBe(ms)
      }),
    )
    for (const ms of [first - 1, last + 1, Number.NaN, Number.POSITIVE_INFINITY])
      expect(() => formatDateTime(ms)).toThrow(RangeError)
  })

  test('any string gives a number or a DateTimeError', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'0123456789-:TZ.+') }), (text) => {
        try {
          expect(parseDateTime(text)).toBeTypeOf('number')
        } catch (error) {
          expect(error).toBeInstanceOf(DateTimeError)
        }
      }),
    )
  })
})

describe('XEP-0082 §2 Time Zone Definition', () => {
  test.each([
    [0, '+00:00'],
    [330, '+05:30'],
    [-300, '-05:00'],
    [-210, '-03:30'],
    [840, '+14:00'],
  ])('%i minutes east of UTC are %s', (minutes, text) => {
    expect(formatOffset(minutes)).toBe(text)
    expect(parseDateTime(`1970-01-02T00:00:00${text}`)).toBe(86_400_000 - minutes * 60_000)
  })

  test.each([841, -841, 0.5, Number.NaN])('%d is refused', (minutes) => {
    expect(() => formatOffset(minutes)).toThrow(RangeError)
  })
})

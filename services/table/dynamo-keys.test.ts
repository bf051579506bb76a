import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isFolded, skOf, storedPk, storedSk } from './dynamo-keys.ts'
import { compareUtf8 } from './rows.ts'

const PK_BYTES_MAX = 2048
const SK_BYTES_MAX = 1024
const units = fc.constantFrom('\u0000', 'a', 'é', '\uffff', '\u{1F426}', '\u{10FFFF}')
const short = fc.string({ unit: units, maxLength: 4 })
/** Around the limits, by octets and by characters of any width. */
const long = fc
  .tuple(short, fc.constantFrom('x', 'é', '\u20ac', '\u{1F426}'), fc.integer({ min: 200, max: 1100 }), short)
  .map(([start, unit, times, end]) => start + unit.repeat(times) + end)

describe('stored keys', () => {
  test('are never empty, and never over what DynamoDB takes', () => {
    fc.assert(
      fc.property(fc.oneof(short, long), (key) => {
        for (const [stored, bytesMax] of [
          [storedPk(key), PK_BYTES_MAX],
          [storedSk(key), SK_BYTES_MAX],
        ] as const) {
          expect(stored.isWellFormed()).toBe(true)
          expect(Buffer.byteLength(stored)).toBeGreaterThan(0)
          expect(Buffer.byteLength(stored)).toBeLessThanOrEqual(bytesMax)
        }
      }),
    )
  })

  test('are the keys themselves, but for the empty one, those that begin with NUL and long ones', () => {
    expect([storedSk('a'), storedSk('\u0001')]).toEqual(['a', '\u0001'])
    expect([storedSk(''), storedSk('\u0000'), storedSk('\u0000a')]).toEqual(['\u0000', '\u0000\u0000', '\u0000\u0000a'])
    const longest = 'x'.repeat(SK_BYTES_MAX - 1)
    expect([storedSk(longest), isFolded(longest)]).toEqual([longest, false])
    expect(isFolded(`${longest}x`)).toBe(true)
  })

  test('of keys that are not long are in their order, and can be told back', () => {
    fc.assert(
      fc.property(short, short, (a, b) => {
        expect(Math.sign(compareUtf8(storedSk(a), storedSk(b)))).toBe(Math.sign(compareUtf8(a, b)))
        expect(skOf(storedSk(a))).toBe(a)
      }),
      { numRuns: 1000 },
    )
  })

  test('of different long keys are different, also where head and tail are the same', () => {
    const [head, tail] = ['h'.repeat(1000), 't'.repeat(500)]
    const keys = [`${head}a${tail}`, `${head}b${tail}`, `${head}aa${tail}`, `${head}a${tail}x`]
    expect(new Set(keys.map(storedSk)).size).toBe(keys.length)
    expect(new Set(keys.map((key) => storedPk(key + head))).size).toBe(keys.length)
  })

  test('of one long contact keep the order of what follows it, and nobody else comes between', () => {
    const contact = `~${'é'.repeat(600)}@${'d'.repeat(400)} `
    const other = `~${'é'.repeat(600)}@${'e'.repeat(400)} `
    const times = ['0100', '0101', '0999', '1000']
    const stored = times.map((time) => storedSk(contact + time))
    expect(stored.toSorted(compareUtf8)).toEqual(stored)
    const foreign = storedSk(`${other}0500`)
    expect(compareUtf8(foreign, stored[0]!) < 0 || compareUtf8(foreign, stored.at(-1)!) > 0).toBe(true)
  })

  test('of long keys stand among short ones by what they begin with', () => {
    const one = storedSk(`b${'x'.repeat(2000)}`)
    expect(compareUtf8(storedSk('azz'), one)).toBeLessThan(0)
    expect(compareUtf8(one, storedSk('c'))).toBeLessThan(0)
  })
})

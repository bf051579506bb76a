import { describe, expect, test } from 'vitest'
import { lowercaseId, randomId } from './id.ts'

describe('randomId', () => {
  test('is in the URL-safe alphabet, four characters for three bytes', () => {
    expect(randomId()).toMatch(/^[A-Za-z0-9_-]{16}$/)
    expect(randomId(1)).toMatch(/^[A-Za-z0-9_-]{2}$/)
    expect(randomId(256)).toMatch(/^[A-Za-z0-9_-]{342}$/)
  })

  test('never comes twice, across many blocks of entropy', () => {
    const ids = Array.from({ length: 20_000 }, () => randomId())
    expect(new Set(ids).size).toBe(20_000)
  })

  test('gives no byte twice: ids in a row share no piece', () => {
    const bytes = Buffer.concat(Array.from({ length: 600 }, (_, i) => Buffer.from(randomId(11 + (i % 7)), 'base64url')))
    const pieces = new Set<string>()
    for (let i = 0; i + 8 <= bytes.length; i++) pieces.add(bytes.toString('hex', i, i + 8))
    expect(pieces.size).toBe(bytes.length - 7)
  })

  test.each([0, -1, 257, 1.5, Number.NaN])('%d bytes are refused', (bytes) => {
    expect(() => randomId(bytes)).toThrow(RangeError)
  })
})

describe('lowercaseId', () => {
  test('is of a-z and 0-9, of the length asked for', () => {
    expect(lowercaseId()).toMatch(/^[a-z0-9]{12}$/)
    expect(lowercaseId(256)).toMatch(/^[a-z0-9]{256}$/)
  })

  test('has every letter about as often', () => {
    const counts = new Map<string, number>()
    for (let i = 0; i < 400; i++) for (const char of lowercaseId(180)) counts.set(char, (counts.get(char) ?? 0) + 1)
    expect(counts.size).toBe(36)
    // 72 000 draws: 2000 each, with a standard deviation of 44; taking bytes modulo 36 without care would give 2250 and 1969.
    for (const [char, count] of counts) expect(Math.abs(count - 2000), char).toBeLessThan(6 * 44)
  })

  test.each([0, 257, Number.NaN])('a length of %d is refused', (length) => {
    expect(() => lowercaseId(length)).toThrow(RangeError)
  })
})

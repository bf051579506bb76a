import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { decodeSaslData, encodeSaslData, SASL_BYTES_MAX } from './mechanism.ts'

const bytesOf = (text: string) => Buffer.from(decodeSaslData(text)).toString('latin1')

describe('RFC 6120 §6.5.5 incorrect-encoding', () => {
  test.each([
    ['AGE=', '\0a'],
    ['=', ''],
    ['', ''],
    ['+/+/', '\xfb\xff\xbf'],
  ])('%j is read', (text, data) => {
    expect(bytesOf(text)).toBe(data)
  })

  test.each([
    ['no padding', 'AGE'],
    ['too much padding', 'AGE=='],
    ['padding in the middle', 'AA==AA=='],
    ['padding alone', '=='],
    ['white space around', ' AGE= '],
    ['a line feed inside', 'AG\nE='],
    ['the URL alphabet', '-_-_'],
    ['unused bits that are not zero', 'AGF='],
    ['one character', 'A'],
    ['no base64 at all', 'ÄÖÜ€'],
    ['a character outside ASCII', 'AGEａ'],
  ])('%s is refused', (_, text) => {
    expect(() => decodeSaslData(text)).toThrow(expect.objectContaining({ name: 'SaslError', condition: 'incorrect-encoding' }))
  })

  test('what is written is read back, and an empty challenge is an empty element', () => {
    expect(encodeSaslData(new Uint8Array(0))).toBe('')
    fc.assert(
      fc.property(fc.uint8Array(), (data) => {
        expect(Buffer.from(decodeSaslData(encodeSaslData(data)))).toEqual(Buffer.from(data))
      }),
    )
  })

  test('one byte over the bound is refused, and a megabyte too', () => {
    expect(decodeSaslData(encodeSaslData(new Uint8Array(SASL_BYTES_MAX)))).toHaveLength(SASL_BYTES_MAX)
    for (const size of [SASL_BYTES_MAX + 1, 1_000_000]) {
      const text = encodeSaslData(new Uint8Array(size))
      expect(() => decodeSaslData(text)).toThrow(expect.objectContaining({ condition: 'malformed-request' }))
    }
  })
})

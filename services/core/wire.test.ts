import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { NO_JID, parseJid } from '#xmpp/jid.ts'
import { Reader, Writer } from './wire.ts'

type Value =
  | { kind: 'u8' | 'u16' | 'u32' | 'f64'; value: number }
  | { kind: 'text'; value: string | undefined }
  | { kind: 'bytes'; value: Uint8Array }

const value: fc.Arbitrary<Value> = fc.oneof(
  fc.record({ kind: fc.constant('u8' as const), value: fc.integer({ min: 0, max: 0xff }) }),
  fc.record({ kind: fc.constant('u16' as const), value: fc.integer({ min: 0, max: 0xffff }) }),
  fc.record({ kind: fc.constant('u32' as const), value: fc.integer({ min: 0, max: 0xffffffff }) }),
  fc.record({ kind: fc.constant('f64' as const), value: fc.maxSafeNat() }),
  fc.record({
    kind: fc.constant('text' as const),
    value: fc.option(fc.string({ unit: 'grapheme', maxLength: 200 }), { nil: undefined }),
  }),
  fc.record({ kind: fc.constant('bytes' as const), value: fc.uint8Array({ maxLength: 5_000 }) }),
)

function write(out: Writer, { kind, value }: Value): void {
  if (kind === 'text') out.text(value)
  else if (kind === 'bytes') out.bytes(value)
  else out[kind](value)
}

function read(reader: Reader, kind: Value['kind']): unknown {
  if (kind === 'text') return reader.optionalText()
  return kind === 'bytes' ? Uint8Array.from(reader.bytes()) : reader[kind]()
}

describe('what is written is read', () => {
  test('any values in any order, by one writer again and again', () => {
    const out = new Writer(16)
    fc.assert(
      fc.property(fc.array(value, { maxLength: 30 }), (values) => {
        for (const one of values) write(out, one)
        const reader = new Reader(out.take())
        expect(values.map(({ kind }) => read(reader, kind))).toEqual(values.map(({ value }) => value))
        expect(reader.done).toBe(true)
        expect(out.length).toBe(0)
      }),
    )
  })

  test.each([0, 1, 21_844, 21_845, 0xfffd, 0xfffe, 0xffff, 0x10000, 300_000])(
    'a text of %i characters, of one byte or of three',
    (length) => {
      for (const character of ['x', '€']) {
        const out = new Writer()
        out.text(character.repeat(length))
        out.u8(7)
        const reader = new Reader(out.take())
        expect(reader.text() === character.repeat(length)).toBe(true)
        expect([reader.u8(), reader.done]).toEqual([7, true])
      }
    },
  )

  test('no text and an empty one are two things', () => {
    const out = new Writer()
    out.text(undefined)
    out.text('')
    const reader = new Reader(out.take())
    expect([reader.optionalText(), reader.optionalText()]).toEqual([undefined, ''])
  })

  test('texts of any script, around the length from which they are written in another way', () => {
    const out = new Writer(16)
    const texts = [0, 1, 63, 64, 65, 200, 21_844, 21_845, 70_000].flatMap((length) =>
      ['a', 'é', '語', '😀'].flatMap((end) => ['a'.repeat(length) + end, end.repeat(length)]),
    )
    for (const text of texts) out.text(text)
    const reader = new Reader(out.take())
    for (const text of texts) expect(reader.text()).toBe(text)
    expect(reader.done).toBe(true)
  })

  test('an address is the one that parseJid gives; none and an empty one are two things', () => {
    const out = new Writer()
    const texts = ['romeo@example.org/orchard', 'juliet@example.org', 'example.org', 'ромео@example.org/сад']
    for (const text of [...texts, ...texts]) out.text(text)
    out.text('')
    out.text(undefined)
    const reader = new Reader(out.take())
    for (const text of [...texts, ...texts]) expect(reader.jid()).toEqual(parseJid(text))
    expect(reader.optionalJid()).toBe(NO_JID)
    expect(reader.optionalJid()).toBeUndefined()
  })

  test('a place reserved is filled in later', () => {
    const out = new Writer(8)
    const at = out.reserve32()
    out.text('what follows')
    out.patch32(at, out.length)
    const bytes = out.take()
    expect(new Reader(bytes).u32()).toBe(bytes.length)
  })

  test('what was taken is not changed by what is written next', () => {
    const out = new Writer()
    out.text('one')
    const taken = out.take()
    out.text('two')
    expect(new Reader(taken).text()).toBe('one')
  })

  test('a writer that rests loses nothing that is being written, and is used again', () => {
    const out = new Writer()
    out.text('one')
    out.rest()
    expect(new Reader(out.take()).text()).toBe('one')
    out.rest()
    out.u8(7)
    out.text('x'.repeat(5_000))
    const reader = new Reader(out.take())
    expect([reader.u8(), reader.text()]).toEqual([7, 'x'.repeat(5_000)])
  })
})

describe('bytes that are not ours', () => {
  test('an address that is none is a RangeError', () => {
    const out = new Writer()
    out.text('@')
    expect(() => new Reader(out.take()).jid()).toThrow(RangeError)
  })

  test('reading past the end is a RangeError, wherever it is cut', () => {
    const out = new Writer()
    out.u8(1)
    out.u16(2)
    out.u32(3)
    out.f64(4)
    out.text('five')
    out.bytes(new Uint8Array(6))
    const whole = out.take()
    for (let length = 0; length < whole.length; length++) {
      const reader = new Reader(whole.subarray(0, length))
      expect(() => [reader.u8(), reader.u16(), reader.u32(), reader.f64(), reader.text(), reader.bytes()]).toThrow(RangeError)
    }
  })
})

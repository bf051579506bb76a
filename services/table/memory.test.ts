import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { tableContract } from './contract.ts'
import { memoryTable } from './memory.ts'
import { checkRow, compareUtf8 } from './rows.ts'
import { ROW_BYTES_MAX } from './table.ts'

tableContract('memoryTable', async (now) => ({ table: memoryTable({ now }) }))

describe('rows', () => {
  test('compareUtf8 compares as the UTF-8 bytes do', () => {
    const edges = [0, 0x7f, 0x7ff, 0xd7fe, 0xe000, 0xfffe, 0x10000, 0x10fffe] // where UTF-8 or UTF-16 take more units
    const character = fc.tuple(fc.constantFrom(...edges), fc.nat(1)).map(([edge, step]) => String.fromCodePoint(edge + step))
    const text = fc.string({ unit: character, maxLength: 4 })
    fc.assert(
      fc.property(text, text, (a, b) => {
        expect(Math.sign(compareUtf8(a, b))).toBe(Buffer.compare(Buffer.from(a), Buffer.from(b)))
      }),
      {
        numRuns: 1000,
        examples: [
          ['\uffff', '\u{10000}'],
          ['\ud7ff', '\u{10000}'],
          ['\ue000', '\ud7ff'],
        ],
      },
    )
  })

  test('a row is measured in octets: a key of wide characters leaves less for the value', () => {
    const row = { pk: 'p', sk: '\u20ac'.repeat(100), version: 'v', value: new Uint8Array(ROW_BYTES_MAX - 302) }
    expect(() => checkRow(row)).not.toThrow()
    expect(() => checkRow({ ...row, value: new Uint8Array(ROW_BYTES_MAX - 301) })).toThrow(RangeError)
  })
})

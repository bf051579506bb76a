import { describe, expect, test } from 'vitest'
import { Gather } from './gather.ts'

const KIB = 1024
const piece = (bytes: number, value: number) => Buffer.alloc(bytes, value)

function gathered(bytes: number, value = 1): Gather {
  const gather = new Gather()
  for (let left = bytes; left > 0; left -= 50 * KIB)
    gather.append(piece(Math.min(left, 50 * KIB), value), 0, Math.min(left, 50 * KIB))
  return gather
}

describe('what is gathered', () => {
  test.each([1, 2_048, 2_049, 64 * KIB, 64 * KIB + 1, 200 * KIB, 256 * KIB, 256 * KIB + 1, 900 * KIB])(
    '%i bytes are there',
    (bytes) => {
      const gather = gathered(bytes, 7)
      expect(gather.length).toBe(bytes)
      expect(gather.bytes.subarray(0, bytes).equals(piece(bytes, 7))).toBe(true)
      gather.clear()
      expect(gather.length).toBe(0)
    },
  )

  test('a large buffer is used again by another, and by one at a time', () => {
    const one = gathered(200 * KIB)
    const { buffer } = one.bytes
    one.clear()
    const [two, three] = [gathered(200 * KIB, 2), gathered(200 * KIB, 3)]
    expect(two.bytes.buffer).toBe(buffer)
    expect(three.bytes.buffer).not.toBe(buffer)
    expect([two.bytes[199 * KIB], three.bytes[199 * KIB]]).toEqual([2, 3])
  })

  test('what is handed over is used by nobody else', () => {
    const taken = gathered(200 * KIB, 4).take()
    gathered(200 * KIB, 5).clear()
    gathered(200 * KIB, 6)
    expect(taken.equals(piece(200 * KIB, 4))).toBe(true)
  })

  test('whoever gathers little has no large buffer', () => {
    gathered(200 * KIB).clear()
    expect(gathered(50 * KIB).bytes.length).toBe(50 * KIB)
    expect(gathered(1).bytes.length).toBe(2_048)
  })
})

import { describe, expect, test } from 'vitest'
import { madeBuffer } from './garbage.ts'

const MB = 1024 * 1024

/** By how much the bytes of all buffers have grown at most, while 200 MB of them are made and dropped, some in each turn. */
async function grownBy(length: number, perTurn: number): Promise<number> {
  const before = process.memoryUsage().arrayBuffers
  let most = before
  for (let made = 0; made < 200 * MB; ) {
    for (let n = 0; n < perTurn; n++, made += length) madeBuffer(Buffer.allocUnsafeSlow(length).fill(1))
    most = Math.max(most, process.memoryUsage().arrayBuffers)
    await new Promise((resolve) => setImmediate(resolve))
  }
  return most - before
}

describe('large buffers that nobody uses any more', () => {
  // V8 by itself lets 64 MB of them lie.
  test.each([
    ['200 kB', 200_000, 1],
    ['20 kB', 20_000, 10],
    ['1 MB', 1_000_000, 3],
  ])('of %s do not pile up', async (_, length, perTurn) => {
    expect(await grownBy(length, perTurn)).toBeLessThan(32 * MB)
  })

  test('what is still used is left alone', async () => {
    const used = Buffer.alloc(100_000, 7)
    await grownBy(1_000_000, 1)
    expect(used.equals(Buffer.alloc(100_000, 7))).toBe(true)
  })
})

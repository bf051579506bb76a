import { describe, expect, test } from 'vitest'
import { flushAtTurnEnd, join } from './gather.ts'

describe('flushAtTurnEnd', () => {
  test('flushes when the turn has done its work, each as often as it asked, in order', async () => {
    const flushed: string[] = []
    const connection = (name: string) => ({ flush: () => flushed.push(name), broke: () => {} })
    flushAtTurnEnd(connection('a'))
    flushAtTurnEnd(connection('b'))
    expect(flushed).toEqual([])
    await Promise.resolve()
    expect(flushed).toEqual(['a', 'b'])
  })

  test('what is asked for while others are flushed is flushed, too', async () => {
    const flushed: string[] = []
    const second = { flush: () => flushed.push('second'), broke: () => {} }
    flushAtTurnEnd({ flush: () => flushAtTurnEnd(second), broke: () => {} })
    await new Promise((resolve) => setImmediate(resolve))
    expect(flushed).toEqual(['second'])
  })

  test('one that throws is told so, and keeps nobody else from his flush', async () => {
    const seen: unknown[] = []
    const fault = new Error('our own bug')
    const breaks = {
      flush: () => {
        throw fault
      },
      broke: (error: unknown) => seen.push(error),
    }
    flushAtTurnEnd(breaks)
    flushAtTurnEnd({ flush: () => seen.push('flushed'), broke: () => {} })
    await new Promise((resolve) => setImmediate(resolve))
    expect(seen).toEqual([fault, 'flushed'])
    flushAtTurnEnd({ flush: () => seen.push('again'), broke: () => {} })
    await new Promise((resolve) => setImmediate(resolve))
    expect(seen.at(-1)).toBe('again')
  })
})

describe('join', () => {
  const bytes = (text: string) => new TextEncoder().encode(text)

  test('is the bytes of all pieces, one after the other', () => {
    const pieces = ['<a>', bytes('ü'), '🐦', new Uint8Array(0), '', '</a>']
    expect(join(pieces).toString()).toBe('<a>ü🐦</a>')
    expect(join([]).length).toBe(0)
  })

  test('is a buffer of its own: the next one does not change it', () => {
    const first = join(['first', bytes('!')])
    join(['other', bytes('?')])
    expect(first.toString()).toBe('first!')
  })

  test('grows beyond what it has at hand, and keeps what it had', () => {
    const big = 'ü'.repeat(300_000)
    const joined = join(['start', big, bytes(big), 'x'.repeat(5_000_000), 'end']).toString()
    expect(joined.length).toBe(5 + 300_000 + 300_000 + 5_000_000 + 3)
    expect(joined.startsWith(`start${big.slice(0, 10)}`) && joined.endsWith('xend')).toBe(true)
    expect(join(['small']).toString()).toBe('small')
  })
})

import { describe, expect, test } from 'vitest'
import { PARTITIONS } from './ownership.ts'
import { hashOf, rendezvous, rendezvousAll } from './rendezvous.ts'

const processes = (count: number) => Array.from({ length: count }, (_, i) => `process${hashOf(String(i)).toString(36)}`)

function shares(owners: readonly string[]): Map<string, number> {
  const shares = new Map<string, number>()
  for (const owner of owners) shares.set(owner, (shares.get(owner) ?? 0) + 1)
  return shares
}

describe('who should own a partition', () => {
  test('is the same whoever asks, in whatever order the processes are known', () => {
    const some = processes(7)
    expect(rendezvousAll(PARTITIONS, some)).toEqual(rendezvousAll(PARTITIONS, some.toReversed()))
  })

  test('is nobody where there is nobody', () => {
    expect(rendezvous(0, [])).toBe('')
  })

  test('is the same for ever: processes of two versions agree', () => {
    expect(rendezvousAll(8, ['a1', 'b2', 'c3'])).toEqual(['b2', 'b2', 'c3', 'a1', 'a1', 'b2', 'c3', 'c3'])
  })

  test('is shared evenly', () => {
    for (const count of [2, 3, 5, 8]) {
      const things = 20_000
      const owned = [...shares(rendezvousAll(things, processes(count))).values()]
      expect(owned).toHaveLength(count)
      for (const share of owned) expect(Math.abs(share / (things / count) - 1)).toBeLessThan(0.06)
    }
  })

  test('changes only for what a process that comes is given, and what one that goes had', () => {
    const four = processes(4)
    const before = rendezvousAll(PARTITIONS, four)
    const after = rendezvousAll(PARTITIONS, [...four, 'newcomer'])
    for (const [partition, owner] of after.entries()) if (owner !== 'newcomer') expect(owner).toBe(before[partition])
    expect(shares(after).get('newcomer')).toBeGreaterThan(PARTITIONS / 10)
  })
})

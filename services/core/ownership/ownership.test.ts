import { expect, test } from 'vitest'
import { PARTITIONS, partitionOf, soleOwnership } from './ownership.ts'

test('the partition of an address is the same for ever: rows and logs are named by it', () => {
  expect(['', 'romeo@example.org', 'juliet@example.org', 'jürgen@example.org'].map(partitionOf)).toEqual([124, 51, 9, 111])
})

test('addresses are spread over all partitions', () => {
  const seen = new Set<number>()
  for (let n = 0; n < 2_000; n++) seen.add(partitionOf(`user${n}@example.org`))
  expect(seen.size).toBe(PARTITIONS)
  for (const partition of seen) expect(partition >= 0 && partition < PARTITIONS).toBe(true)
})

test('one process owns everything, is sure for ever, and never tells of a change', () => {
  const ownership = soleOwnership('p1')
  expect(ownership.ownerOf('router', 'romeo@example.org')).toBe('p1')
  expect(ownership.ownersOf('presence')).toEqual(['p1'])
  expect([ownership.ownerAt('router', 5), ownership.epochAt('router', 5), ownership.epoch('router')]).toEqual(['p1', 1, 1])
  expect([ownership.sure(), ownership.owns('presence', 'romeo@example.org')]).toEqual([true, true])
  ownership.onChange(() => {
    throw new Error('nothing changes')
  })
})

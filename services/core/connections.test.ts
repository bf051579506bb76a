import { describe, expect, test } from 'vitest'
import { ConnectionCounts, trustOf } from './connections.ts'

describe('trusted proxies', () => {
  test('are the addresses and networks that are named, mapped or not', () => {
    const trusts = trustOf(['10.0.0.0/8', '192.0.2.7', 'fd00::/8'])
    for (const address of ['10.9.9.9', '::ffff:10.1.1.1', '192.0.2.7', 'fd12::1', 'fd12::1%eth0'])
      expect(trusts(address), address).toBe(true)
    for (const address of ['11.0.0.1', '192.0.2.8', 'fe80::1', '', 'x']) expect(trusts(address), address).toBe(false)
  })

  test('are nobody where none is named', () => {
    expect(trustOf([])('127.0.0.1')).toBe(false)
  })
})

describe('connections of one network', () => {
  test('are no more than it may have, and what was refused is not counted', () => {
    const counts = new ConnectionCounts(2, [])
    const came = Array.from({ length: 4 }, () => counts.enter('192.0.2.1'))
    expect(came).toEqual([true, true, false, false])
    counts.leave('192.0.2.1')
    expect([counts.enter('192.0.2.1'), counts.enter('192.0.2.1')]).toEqual([true, false])
  })

  test('are forgotten with the last of them', () => {
    const counts = new ConnectionCounts(0, [])
    for (let n = 0; n < 100; n++) expect(counts.enter('192.0.2.1')).toBe(true)
    for (let n = 0; n < 100; n++) counts.leave('192.0.2.1')
    expect(counts.networks).toBe(0)
  })
})

import { describe, expect, test } from 'vitest'
import { trustOf } from './address.ts'

describe('trusted proxies', () => {
  test('are the addresses and networks that are named, mapped or not', () => {
    const trusts = trustOf(['10.0.0.0/8', '192.0.2.7', 'fd00::/8'])
    for (const address of ['10.9.9.9', '::ffff:10.1.1.1', '192.0.2.7', 'fd12::1', 'fd12::1%eth0'])
      expect(trusts(address), address).toBe(true)
    for (const address of ['11.0.0.1', '192.0.2.8', 'fe80::1', '', 'x']) expect(trusts(address), address).toBe(false)
  })

  test('none trusts nobody', () => {
    expect(trustOf([])('127.0.0.1')).toBe(false)
  })
})

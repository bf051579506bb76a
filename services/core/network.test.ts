import { describe, expect, test } from 'vitest'
import { isLoopback, networkOf, plainAddress } from './network.ts'

test.each([
  ['192.0.2.1', '192.0.2.1'],
  ['::ffff:192.0.2.1', '192.0.2.1'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
  ['2001:DB8:1:2::9', '2001:db8:1:2::/64'],
  ['2001:db8::1', '2001:db8:0:0::/64'],
  ['2001:db8::3:4:5:6:7', '2001:db8:0:3::/64'],
  ['fe80::1%eth0', 'fe80:0:0:0::/64'],
  ['::1', '0:0:0:0::/64'],
  ['', ''],
])('the network of %s is %s', (address, network) => {
  expect(networkOf(address)).toBe(network)
})

describe('loopback', () => {
  test.each(['127.0.0.1', '127.255.0.9', '::1', '::ffff:127.0.0.1', '::FFFF:127.8.8.8'])('%s is', (address) => {
    expect(isLoopback(address)).toBe(true)
  })

  test.each(['', '126.0.0.1', '1.127.0.0', '::2', '::127.0.0.1', '::ffff:10.0.0.1', '2001:db8::1', 'localhost'])(
    '%j is not',
    (address) => {
      expect(isLoopback(address)).toBe(false)
    },
  )
})

describe('an address as it is logged', () => {
  test.each([
    ['192.0.2.1', '192.0.2.1'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['2001:db8::1', '2001:db8::1'],
    ['fe80::1%eth0', 'fe80::1'],
    ['', ''],
  ])('%j is %j', (address, plain) => {
    expect(plainAddress(address)).toBe(plain)
  })
})

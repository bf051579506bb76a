// IP addresses of clients, as text: who is on this machine, and which addresses are one and the same stranger.
import { isIPv6 } from 'node:net'

/** Without what a socket adds to it: 192.0.2.1 for ::ffff:192.0.2.1, and no zone (fe80::1%eth0). */
export function plainAddress(address: string): string {
  if (!address.includes(':')) return address
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)
  if (mapped !== null) return mapped[1]!
  const zone = address.indexOf('%')
  return zone < 0 ? address : address.slice(0, zone)
}

/** ::1 and 127.0.0.0/8, also as ::ffff:127.0.0.1. */
export function isLoopback(address: string): boolean {
  const plain = plainAddress(address)
  return plain === '::1' || plain.startsWith('127.')
}

/** What is counted by address is counted by this. Of an IPv6 address its first 64 bits: one customer has at least as many addresses as that leaves (RFC 6177 §2). */
export function networkOf(address: string): string {
  const plain = plainAddress(address)
  if (!plain.includes(':') || !isIPv6(plain)) return plain
  const [head = '', tail] = new URL(`http://[${plain}]`).hostname.slice(1, -1).split('::')
  const groups = head === '' ? [] : head.split(':')
  if (tail !== undefined) {
    const after = tail === '' ? 0 : tail.split(':').length
    while (groups.length < 8 - after) groups.push('0')
  }
  return `${[...groups, '0', '0', '0', '0'].slice(0, 4).join(':')}::/64`
}

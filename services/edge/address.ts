// IP addresses of clients: out of bytes, and whom the operator trusts. See core/network.ts.
import { BlockList, isIPv4, isIPv6 } from 'node:net'
import { plainAddress } from '#core/network.ts'

/** Four bytes or sixteen as text, in the form of `plainAddress`; '' for any other number. */
export function addressOfBytes(octets: Buffer): string {
  if (octets.length === 4) return octets.join('.')
  if (octets.length !== 16) return ''
  if (octets.readBigUInt64BE(0) === 0n && octets.readUInt32BE(8) === 0xffff) return octets.subarray(12).join('.')
  const groups = octets.toString('hex').match(/..../g)!.join(':')
  return new URL(`http://[${groups}]`).hostname.slice(1, -1)
}

/** Whether an address is one of `trustedProxies`: addresses and networks, checked when the configuration was loaded. */
export function trustOf(proxies: readonly string[]): (address: string) => boolean {
  if (proxies.length === 0) return () => false
  const list = new BlockList()
  for (const proxy of proxies) {
    const [address, bits] = proxy.split('/') as [string, string | undefined]
    const family = isIPv6(address) ? 'ipv6' : 'ipv4'
    if (bits === undefined) list.addAddress(address, family)
    else list.addSubnet(address, Number(bits), family)
  }
  return (address) => {
    const plain = plainAddress(address)
    return list.check(plain, isIPv4(plain) ? 'ipv4' : 'ipv6')
  }
}

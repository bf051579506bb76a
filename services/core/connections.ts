// Connections by where they come from: how many one network has, and whether it may have one more.
//
// This machine and trusted proxies stand for others, so they have no bound.
import { BlockList, isIPv4, isIPv6 } from 'node:net'
import { isLoopback, networkOf, plainAddress } from './network.ts'

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

export class ConnectionCounts {
  readonly trusts: (address: string) => boolean
  readonly #perNetworkMax: number
  readonly #byNetwork = new Map<string, number>()

  /** @param perNetworkMax 0: no bound */
  constructor(perNetworkMax: number, trustedProxies: readonly string[]) {
    this.#perNetworkMax = perNetworkMax
    this.trusts = trustOf(trustedProxies)
  }

  /** Counts one more from this address; `leave` is called for each that was let in. False: its network has too many, and nothing is counted. */
  enter(address: string): boolean {
    const network = networkOf(address)
    const count = this.#byNetwork.get(network) ?? 0
    const most = this.#perNetworkMax
    if (count >= most && most > 0 && !isLoopback(address) && !this.trusts(address)) return false
    this.#byNetwork.set(network, count + 1)
    return true
  }

  leave(address: string): void {
    const network = networkOf(address)
    const count = this.#byNetwork.get(network) ?? 0
    if (count > 1) this.#byNetwork.set(network, count - 1)
    else this.#byNetwork.delete(network)
  }

  /** Networks that have a connection. */
  get networks(): number {
    return this.#byNetwork.size
  }
}

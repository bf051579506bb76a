// Which host a request was sent to, and whether that is us.
//
// The Host header is the client's word (RFC 9112 §3.2), X-Forwarded-Host a proxy's. Nothing of either is written into an answer
// before it has the form of a host, and an address that clients keep (host-meta) is given for hosts that are ours only.
import { isIPv4, isIPv6 } from 'node:net'
import { domainToASCII } from 'node:url'
import { isLoopback, plainAddress } from '#core/network.ts'

export interface RequestHost {
  /** Lower case, without a final dot; an IPv6 address in brackets: as it stands in a URL. */
  readonly name: string
  /** `:5280`, or '' for the scheme's own. */
  readonly port: string
}

/** Undefined where it has not the form of a host (RFC 3986 §3.2.2, without its percent-encoding). */
export function parseHost(text: string): RequestHost | undefined {
  const match = /^(\[[0-9a-f:.]{2,45}\]|[a-z0-9_](?:[a-z0-9_.-]{0,252}[a-z0-9_])?)\.?(:\d{1,5})?$/i.exec(text)
  if (match === null) return undefined
  const [, name, port = ''] = match as unknown as [string, string, string | undefined]
  if (name.startsWith('[') && !isIPv6(name.slice(1, -1))) return undefined
  if (name.includes('..') || Number(port.slice(1)) > 65535) return undefined
  return { name: name.toLowerCase(), port }
}

/**
 * Whether a host is one of `domains` (Unicode allowed) or below one, or the address `local` at which the connection arrived;
 * `localhost` stands for that address on loopback.
 */
export function isOurHost(host: RequestHost, domains: readonly string[], local: string): boolean {
  const { name } = host
  const address = plainAddress(local)
  if (isIPv4(name)) return name === address
  if (name.startsWith('[')) return isIPv6(address) && canonical(name.slice(1, -1)) === canonical(address)
  if (name === 'localhost' && isLoopback(address)) return true
  return domains.some((domain) => {
    const ascii = domainToASCII(domain)
    return ascii !== '' && (name === ascii || name.endsWith(`.${ascii}`))
  })
}

function canonical(address: string): string {
  return new URL(`http://[${address}]`).hostname
}

// WebSocket (RFC 7395): on uWebSockets.js, or on `ws` where its binary does not load, behind one interface.
//
// uWebSockets.js is a native library that needs glibc 2.38 (Debian 13, Ubuntu 24.04) on Linux; everywhere else `ws`
// takes over and the log says so. Both get the same checks: the path, the subprotocol `xmpp`, and the size of a frame.

import { createRequire } from 'node:module'
import { BlockList, isIP, isIPv6 } from 'node:net'
import type { Config } from '#core/config.ts'
import type { Log } from '#core/log.ts'
import type { CertificatePair } from './certificate.ts'
import { isLoopback, type OnConnection, UNSENT_FACTOR } from './connection.ts'
import type { Listener } from './main.ts'
import type { WebSocketOptions } from './websocket-driver.ts'
import { listenUws, type UwsLibrary } from './websocket-uws.ts'
import { listenWs } from './websocket-ws.ts'

export async function listenWebSocket(
  config: Config,
  host: string,
  certificate: CertificatePair,
  onConnection: OnConnection,
  log: Log,
): Promise<Listener[]> {
  const { port, path, tls } = config.websocket
  if (port === 'off') return []
  const options: WebSocketOptions = {
    host,
    port,
    path,
    tls: tls ? certificate : undefined,
    clientOf: clientFinder(trustOf(config.trustedProxies), tls),
    frameBytesMax: config.limits.stanzaBytes + 1024,
    unsentBytesMax: config.limits.writeBufferBytes * UNSENT_FACTOR,
    onConnection,
  }
  const library = loadUws(log)
  return [library === undefined ? await listenWs(options, log) : await listenUws(library, options, log)]
}

let uws: UwsLibrary | undefined
let tried = false

/** The library, or undefined where its binary does not load here: said once, with what would help. */
function loadUws(log: Log): UwsLibrary | undefined {
  if (tried) return uws
  tried = true
  try {
    uws = createRequire(import.meta.url)('uWebSockets.js') as UwsLibrary
  } catch (error) {
    const [reason] = (error as Error).message.split('\n')
    log.warn('websocket.fallback', {
      driver: 'ws',
      reason,
      help: 'uWebSockets.js needs glibc 2.38 or later (Debian 13, Ubuntu 24.04); WebSockets work, at a higher cost',
    })
  }
  return uws
}

/**
 * A trusted proxy says who its client is and whether he came by TLS; of anyone else these headers are not believed. But
 * whoever sends them from this machine is a proxy that forwards others: its clients are not taken for local ones.
 */
function clientFinder(trusts: (address: string) => boolean, tls: boolean): WebSocketOptions['clientOf'] {
  return (peer, header) => {
    const forwarded = header('x-forwarded-for')
    if (!trusts(peer))
      return { address: peer, loopback: isLoopback(peer) && forwarded === '' && header('forwarded') === '', encrypted: tls }
    // Every proxy adds whom it heard: the last one that is no proxy of ours is the client.
    const chain = forwarded.split(',').map((address) => address.trim())
    const client = chain.findLast((address) => isIP(address) !== 0 && !trusts(address))
    const scheme = header('x-forwarded-proto').trim().toLowerCase()
    const encrypted = tls || scheme === 'https' || scheme === 'wss'
    return { address: client ?? peer, loopback: client !== undefined && isLoopback(client), encrypted }
  }
}

/** Addresses and networks of `trustedProxies`, checked when the configuration was loaded. */
function trustOf(proxies: readonly string[]): (address: string) => boolean {
  if (proxies.length === 0) return () => false
  const list = new BlockList()
  for (const proxy of proxies) {
    const [address, bits] = proxy.split('/') as [string, string | undefined]
    const family = isIPv6(address) ? 'ipv6' : 'ipv4'
    if (bits === undefined) list.addAddress(address, family)
    else list.addSubnet(address, Number(bits), family)
  }
  return (address) =>
    list.check(
      address.replace(/^::ffff:(?=\d+\.)/, ''),
      address.includes(':') && !address.startsWith('::ffff:') ? 'ipv6' : 'ipv4',
    )
}

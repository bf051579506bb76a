// WebSocket (RFC 7395): on uWebSockets.js, or on `ws` where its binary does not load, behind one interface.
//
// uWebSockets.js is a native library that needs glibc 2.38 (Debian 13, Ubuntu 24.04) on Linux; everywhere else `ws`
// takes over and the log says so. Both get the same checks: the path, the subprotocol `xmpp`, and the size of a frame.
import { createRequire } from 'node:module'
import { BlockList, isIPv6 } from 'node:net'
import type { TemplatedApp } from 'uWebSockets.js'
import type { Config } from '#core/config.ts'
import type { Log } from '#core/log.ts'
import type { CertificatePair } from './certificate.ts'
import type { OnConnection } from './connection.ts'
import type { Listener } from './main.ts'
import { listenUws } from './websocket-uws.ts'
import { listenWs } from './websocket-ws.ts'

export type UwsLibrary = typeof import('uWebSockets.js')
export type UwsApp = TemplatedApp

/** What both drivers are given. */
export interface WebSocketOptions {
  readonly host: string
  readonly port: number
  readonly path: string
  readonly tls: CertificatePair | undefined
  /** Whether a peer's X-Forwarded headers are believed. */
  trusts(address: string): boolean
  readonly frameBytesMax: number
  /** Unsent bytes of one connection before its stream ends: the driver's own buffer must hold as much. */
  readonly unsentBytesMax: number
  readonly onConnection: OnConnection
}

/** RFC 7395 §3.1. */
export const SUBPROTOCOL = 'xmpp'
/** Pings keep proxies from closing idle connections, and tell a dead peer from a silent one. */
export const PING_INTERVAL_S = 30
export const IDLE_TIMEOUT_S = 120

export async function listenWebSocket(config: Config, host: string, certificate: CertificatePair, onConnection: OnConnection, log: Log): Promise<Listener[]> {
  const { port, path, tls } = config.websocket
  if (port === 'off') return []
  const options: WebSocketOptions = {
    host,
    port,
    path,
    tls: tls ? certificate : undefined,
    trusts: trustOf(config.trustedProxies),
    frameBytesMax: config.limits.stanzaBytes + 1024,
    unsentBytesMax: config.limits.writeBufferBytes,
    onConnection,
  }
  const library = loadUws(log)
  return [library === undefined ? await listenWs(options, log) : await listenUws(library, options)]
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
    log.warn('websocket.fallback', { driver: 'ws', reason, help: 'uWebSockets.js needs glibc 2.38 or later (Debian 13, Ubuntu 24.04); WebSockets work, at a higher cost' })
  }
  return uws
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
  return (address) => list.check(address.replace(/^::ffff:(?=\d+\.)/, ''), address.includes(':') && !address.startsWith('::ffff:') ? 'ipv6' : 'ipv4')
}

// WebSocket (RFC 7395): on uWebSockets.js, or on `ws` where its binary does not load, behind one interface.
//
// uWebSockets.js is a native library that needs glibc 2.38 (Debian 13, Ubuntu 24.04) on Linux; everywhere else `ws`
// takes over and the log says so. Both get the same checks: the path, the subprotocol `xmpp`, and the size of a frame.

import { createRequire } from 'node:module'
import { isIP } from 'node:net'
import { isLoopback, plainAddress } from '#core/network.ts'
import type { Log } from '#core/observing/log.ts'
import type { Door, Listener } from '../main.ts'
import { UNSENT_FACTOR } from './connection.ts'
import type { WebSocketOptions } from './websocket-driver.ts'
import { listenUws, type UwsLibrary } from './websocket-uws.ts'
import { listenWs } from './websocket-ws.ts'

/** A frame may hold a stanza and what stands around it. */
const FRAME_MARGIN_BYTES = 1024
/** A request to upgrade has to be there by then, TLS included. */
const HANDSHAKE_MS_MAX = 10_000

export async function listenWebSocket(door: Door, host: string): Promise<Listener[]> {
  const { websocket, limits } = door.config
  const { port, path, tls } = websocket
  if (port === 'off') return []
  const options: WebSocketOptions = {
    door,
    host,
    port,
    path,
    tls,
    clientOf: clientFinder(door.admission.trusts, tls),
    handshakeMs: Math.min(HANDSHAKE_MS_MAX, limits.loginTimeoutMs),
    frameBytesMax: limits.stanzaBytes + FRAME_MARGIN_BYTES,
    frameBytesMaxBeforeLogin: limits.stanzaBytesBeforeLogin + FRAME_MARGIN_BYTES,
    unsentBytesMax: limits.writeBufferBytes * UNSENT_FACTOR,
  }
  const library = loadUws(door.log)
  return [library === undefined ? await listenWs(options) : await listenUws(library, options)]
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
export function clientFinder(trusts: (address: string) => boolean, tls: boolean): WebSocketOptions['clientOf'] {
  return (peer, header) => {
    const forwarded = header('x-forwarded-for')
    if (!trusts(peer)) {
      const direct = forwarded === '' && header('forwarded') === ''
      return { address: peer, loopback: direct && isLoopback(peer), encrypted: tls, direct }
    }
    const client = clientBehind(trusts, forwarded)
    const encrypted = tls || isSecure(header('x-forwarded-proto'), forwarded, client)
    return { address: client ?? peer, loopback: client !== undefined && isLoopback(client), encrypted, direct: false }
  }
}

/**
 * How the client came to the first proxy of ours. Of several schemes, one of each proxy, that is the one beside the client's
 * address; where they do not go by pairs nobody knows whose is whose, and all of them must be.
 */
function isSecure(schemes: string, forwarded: string, client: string | undefined): boolean {
  const said = schemes.split(',').map((scheme) => /^(?:https|wss)$/i.test(scheme.trim()))
  if (said.length === 1) return said[0]!
  const heard = forwarded.split(',').map((entry) => addressIn(entry.trim()))
  return heard.length === said.length && client !== undefined ? said[heard.lastIndexOf(client)]! : said.every(Boolean)
}

/**
 * Every proxy adds whom it heard: the last one that is no proxy of ours is the client. What stands before him is his own word,
 * so where he cannot be read nobody is known.
 */
function clientBehind(trusts: (address: string) => boolean, forwarded: string): string | undefined {
  const heard = forwarded.split(',').map((entry) => addressIn(entry.trim()))
  return heard.findLast((address) => address === undefined || !trusts(address))
}

/** An address as proxies write it: some add the port, and brackets with it. Undefined for what is none, such as `unknown`. */
function addressIn(entry: string): string | undefined {
  const match = /^(?:\[([^\]]+)\]|([\d.]+))(?::\d{1,5})?$/.exec(entry)
  const address = plainAddress(match?.[1] ?? match?.[2] ?? entry)
  return isIP(address) === 0 ? undefined : address
}

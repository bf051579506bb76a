// XEP-0156: Discovering Alternative XMPP Connection Methods.
//
// Web Host Metadata (RFC 6415) with one link, to our WebSocket. §2.2 wants wss only; ws is named in one case, to a client on this
// very machine that may log in without TLS: what it sends never leaves the machine.
import type { FastifyRequest } from 'fastify'
import { isLoopback } from '#core/network.ts'
import { type Site, websocketPort } from './facts.ts'
import { isOurHost, parseHost, type RequestHost } from './host.ts'
import { html } from './html.ts'

const REL = 'urn:xmpp:alt-connections:websocket'
const XRD = 'http://docs.oasis-open.org/ns/xri/xrd-1.0'

/** §2.3. RFC 6415 §3.1: one format, one media type each. */
export const XRD_TYPE = 'application/xrd+xml; charset=utf-8'
export const JRD_TYPE = 'application/json; charset=utf-8'

export function xrd(url: string | undefined): string {
  const link = url === undefined ? undefined : html`  <Link rel="${REL}" href="${url}"/>\n`
  return html`<?xml version="1.0" encoding="utf-8"?>\n<XRD xmlns="${XRD}">\n${link}</XRD>\n`.text
}

/** RFC 6415 appendix A. */
export function jrd(url: string | undefined): string {
  return `${JSON.stringify({ links: url === undefined ? [] : [{ rel: REL, href: url }] }, null, 2)}\n`
}

/** The host that the request is for; undefined where it is none of ours. */
export function ourHost({ config }: Site, request: FastifyRequest): RequestHost | undefined {
  const host = parseHost(request.host)
  return host !== undefined && isOurHost(host, config.domains, request.socket.localAddress ?? '') ? host : undefined
}

/** Where the client that sent this request can open a WebSocket and log in; undefined where it cannot. */
export function websocketUrl(site: Site, request: FastifyRequest, host: RequestHost): string | undefined {
  const { websocket, c2s } = site.config
  const port = websocketPort(site, request.socket.localAddress)
  if (port === undefined) return undefined
  // There is no TLS on the HTTP port: https means a trusted proxy, which has to pass the path on as well.
  if (request.protocol === 'https') return `wss://${host.name}${host.port}${websocket.path}`
  if (websocket.tls) return `wss://${host.name}:${port}${websocket.path}`
  return c2s.allowPlainOnLoopback && isLoopback(request.ip) ? `ws://${host.name}:${port}${websocket.path}` : undefined
}

// The chat page: Converse.js, served from here, connected to here.
//
// The page says only what the browser cannot know (`ChatFacts`); assets/chat.js takes the host from the page's own address.
// Converse's files have no hash in their names, so the version of the package is in their path and they are kept for ever.

import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname } from 'node:path'
import { uploadOrigins } from '#core/files/uploads.ts'
import { factsOf } from '#core/settings/hosts.ts'
import { type Site, websocketPort } from './facts.ts'
import type { RequestHost } from './host.ts'
import { html, json } from './html.ts'

/** The folder of Converse's files, and where they are served. Throws Error where the package is not installed. */
export const CONVERSE_FOLDER = dirname(createRequire(import.meta.url).resolve('converse.js/dist/converse.min.js'))
const { version } = JSON.parse(readFileSync(`${CONVERSE_FOLDER}/../package.json`, 'utf8')) as { version: string }
export const CONVERSE_PATH = `/chat/dist/${version}/`

/** Curve25519, compiled, for end-to-end encryption. */
export const OMEMO_FILE = 'curve25519_compiled.wasm'

const PUBLISH = 'http://jabber.org/protocol/pubsub#publish'

/** What assets/chat.js reads from the page. */
interface ChatFacts {
  readonly websocket: { readonly port: number; readonly path: string; readonly tls: boolean } | null
  /** In Unicode, as accounts have them. */
  readonly domains: readonly string[]
  readonly registration: boolean
  /** Whether accounts can publish (XEP-0163), without which devices cannot find each other's keys. */
  readonly encryption: boolean
  /** The folder of Converse's files, with its final slash. */
  readonly converse: string
}

export function chatPage(site: Site, local: string | undefined): string {
  const { server, config, modules } = site
  const port = websocketPort(site, local)
  const facts: ChatFacts = {
    websocket: port === undefined ? null : { port, path: config.websocket.path, tls: config.websocket.tls },
    domains: server.domains,
    registration: factsOf(server, server.domains[0]!).registration === 'open',
    encryption: modules.some(({ features }) => features?.account?.includes(PUBLISH)),
    converse: CONVERSE_PATH,
  }
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Chat: ${server.domains[0]}</title>
<link rel="icon" href="/assets/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="${CONVERSE_PATH}converse.min.css">
<link rel="stylesheet" href="/assets/chat.css">
<script type="application/json" id="facts">${json(facts)}</script>
<script type="module" src="/assets/chat.js"></script>
</head>
<body class="converse-fullscreen">
<noscript><p class="chat-notice">The chat page needs JavaScript. <a href="/">Other ways to connect</a></p></noscript>
</body>
</html>
`.text
}

/**
 * What the page may load and whom it may talk to: this server, and where its users' files are. `wasm-unsafe-eval` is for end-to-end encryption (OMEMO), inline
 * styles are Converse's; pictures from elsewhere would tell their senders who reads what.
 */
export function chatPolicy(site: Site, host: RequestHost | undefined, local: string | undefined): string {
  const files =
    site.uploads === undefined
      ? ''
      : uploadOrigins(site.server, site.uploads)
          .map((origin) => ` ${origin}`)
          .join('')
  return [
    "default-src 'none'",
    "script-src 'self' 'wasm-unsafe-eval'",
    "style-src 'self' 'unsafe-inline'",
    `img-src 'self' data: blob:${files}`,
    `media-src 'self' data: blob:${files}`,
    "font-src 'self'",
    `connect-src 'self' data: ${sockets(site, host, local)}${files}`,
    "worker-src 'self' blob:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ')
}

/** Both what a browser at this host uses directly, and what it uses where a proxy gave it the page over https. */
function sockets(site: Site, host: RequestHost | undefined, local: string | undefined): string {
  const port = websocketPort(site, local)
  if (port === undefined) return ''
  // A source cannot name an IPv6 address (CSP 3 §2.3.1): then any host, on this port.
  const name = host === undefined || host.name.startsWith('[') ? '*' : host.name
  const direct = `${site.config.websocket.tls ? 'wss' : 'ws'}://${name}:${port}`
  return name === '*' ? direct : `${direct} wss://${name}${host!.port}`
}

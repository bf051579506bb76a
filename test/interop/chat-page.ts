// A chat page for servers that have none, so that the browser test can be tried against them. Rookery serves its own.
//
// It comes from a port of this machine, not out of the browser's request interception: Chromium lets a page reach a
// WebSocket on loopback only if the page itself came from there.
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import { dirname, extname, join, normalize } from 'node:path'
import type { TestServer } from './server.ts'

const DIST = dirname(createRequire(import.meta.url).resolve('converse.js/dist/converse.min.js'))
const TYPES: Record<string, string> = {
  '.css': 'text/css',
  '.js': 'text/javascript',
  '.json': 'application/json',
  '.ogg': 'audio/ogg',
  '.svg': 'image/svg+xml',
  '.ttf': 'font/ttf',
  '.wasm': 'application/wasm',
}

export async function serveChatPage(server: TestServer): Promise<{ url: string; stop(): Promise<void> }> {
  const http = createServer(async (request, response) => {
    const path = normalize(new URL(request.url ?? '/', 'http://localhost').pathname)
    if (path === '/chat/') return response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(pageFor(server))
    const file = path.startsWith('/chat/dist/') ? join(DIST, path.slice('/chat/dist'.length)) : ''
    const body = await readFile(file).catch(() => undefined)
    if (body === undefined) return response.writeHead(404).end()
    return response
      .writeHead(200, {
        'content-type': TYPES[extname(file)] ?? 'application/octet-stream',
        'cache-control': 'max-age=3600', // else curve25519_compiled.wasm is fetched a hundred times for OMEMO
      })
      .end(body)
  }).listen(0, '127.0.0.1')
  await once(http, 'listening')
  return {
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}/chat/`,
    stop: async () => {
      http.closeAllConnections()
      await new Promise((closed) => http.close(closed))
    },
  }
}

function pageFor(server: TestServer): string {
  const options = {
    view_mode: 'fullscreen',
    assets_path: '/chat/dist',
    websocket_url: server.websocketUrl,
    discover_connection_methods: false,
    default_domain: server.domain,
    registration_domain: server.domain,
    xmpp_providers_url: '',
    autocomplete_providers_url: '',
    whitelisted_plugins: ['subscribe-back'],
    notification_icon: '/chat/dist/images/logo/conversejs-filled.svg',
  }
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Chat</title>
<link rel="stylesheet" href="/chat/dist/converse.min.css">
<link rel="icon" href="data:,">
</head>
<body class="converse-fullscreen">
<script type="module" src="/chat/dist/converse.min.js"></script>
<script type="module">
// Converse's own footer loads its sponsors' pictures from another site. It defines only elements that are not there yet.
customElements.define('converse-footer', class extends HTMLElement {})
// COMPAT: Converse 14.0.0 asks back with contact.subscribe() when a request is accepted. That is its models' method for
// listeners, so nothing is sent, and the other one is never seen online.
converse.plugins.add('subscribe-back', {
  dependencies: ['converse-roster'],
  initialize() {
    const { prototype } = this._converse.exports.RosterContact
    const { subscribe } = prototype
    prototype.subscribe = function (...args) {
      return typeof args[0] === 'function' ? subscribe.apply(this, args) : this.subscribeToPresence(...args)
    }
  },
})
converse.initialize(${JSON.stringify(options)})
</script>
</body>
</html>
`
}

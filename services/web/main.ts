// The web role: what this server shows to browsers.
//
//   /                                 the front page                                   (front-page.ts)
//   /.well-known/host-meta[.json]     where clients find the WebSocket, XEP-0156       (host-meta.ts)
//   /chat/                            the chat page; Converse.js below /chat/dist/     (chat.ts)
//   /assets/                          style sheets, a script and a picture             (assets/)
//   /upload/                          files that clients put here and read, XEP-0363   (uploads.ts)
//
// But for files that are uploaded it reads nothing that a client sends but method, path, host and what trusted proxies add;
// there is nothing to log in to.
// Health and metrics have a port of their own (health.ts).
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import fastifyStatic from '@fastify/static'
import { type FastifyError, type FastifyInstance, type FastifyReply, type FastifyRequest, fastify } from 'fastify'
import { ConnectionCounts } from '#core/connections.ts'
import { listenError } from '#core/listen-error.ts'
import type { Process, RunningRole } from '#core/process.ts'
import { boundConnections, CONNECTIONS_PER_ADDRESS_MAX } from './bound.ts'
import { CONVERSE_FOLDER, CONVERSE_PATH, chatPage, chatPolicy, OMEMO_FILE } from './chat.ts'
import type { Site, WebFacts } from './facts.ts'
import { frontPage } from './front-page.ts'
import { parseHost } from './host.ts'
import { JRD_TYPE, jrd, ourHost, websocketUrl, XRD_TYPE, xrd } from './host-meta.ts'
import { HTML_TYPE, notFoundPage, PAGE_POLICY } from './layout.ts'
import { openWebUploads, type WebUploads } from './uploads.ts'

export interface RunningWeb extends RunningRole {
  readonly listeners: readonly { readonly name: 'http'; readonly host: string; readonly port: number }[]
}

/** To send a whole request, and its head; a client that takes nothing for IDLE_TIMEOUT_MS is cut off. */
const REQUEST_TIMEOUT_MS = 10_000
const IDLE_TIMEOUT_MS = 30_000
const KEEP_ALIVE_MS = 5_000
/** A browser that loads the chat page asks for some sixty things; then it may connect again. */
const REQUESTS_PER_CONNECTION_MAX = 1_000
const HEADERS_MAX = 100
/** A part of a path: the name of an uploaded file, each of its 255 bytes written as `%E2`. */
const PARAMETER_MAX = 765
/** When the role stops, answers that are under way have this long. */
const STOP_TIMEOUT_MS = 2_000
const YEAR_S = 31_536_000
/** What no page of ours needs; the chat page may ask for camera and microphone. */
const PERMISSIONS = 'geolocation=(), payment=(), usb=(), serial=(), bluetooth=(), midi=()'

/** Throws Error that names a port which is taken. */
export async function startWeb(process: Process, facts: WebFacts): Promise<RunningWeb> {
  const { config, clock } = process
  const uploads = await openWebUploads(process)
  const site: Site = { server: process.server, config, modules: process.modules, facts, uploads: uploads?.uploads }
  const { limits, trustedProxies } = config
  // 0 is no bound, here as on the other ports.
  const counts = new ConnectionCounts(Math.min(limits.connectionsPerAddress, CONNECTIONS_PER_ADDRESS_MAX), trustedProxies)
  const apps: FastifyInstance[] = []
  const listeners: RunningWeb['listeners'][number][] = []
  const stop = async () => {
    const timer = clock.setTimeout(() => {
      for (const app of apps) app.server.closeAllConnections()
    }, STOP_TIMEOUT_MS)
    uploads?.stop()
    await Promise.all(apps.map((app) => app.close()))
    clock.clearTimeout(timer)
  }
  const { port } = config.http
  try {
    for (const host of port === 'off' ? [] : config.listen) {
      const app = await makeApp(process, site, uploads)
      boundConnections(app.server, counts, process.metrics)
      apps.push(app)
      await app.listen({ host, port: port as number }).catch((error) => {
        throw listenError(error, 'http', host, port as number)
      })
      listeners.push({ name: 'http', host, port: (app.server.address() as AddressInfo).port })
    }
  } catch (error) {
    await stop()
    throw error
  }
  return { name: 'web', listeners, stop }
}

async function makeApp(process: Process, site: Site, uploads: WebUploads | undefined): Promise<FastifyInstance> {
  const { trustedProxies } = process.config
  const log = process.log.child({ role: 'web' })
  const app = fastify({
    logger: false,
    trustProxy: trustedProxies.length > 0 ? [...trustedProxies] : false,
    bodyLimit: 1,
    connectionTimeout: IDLE_TIMEOUT_MS,
    // A file takes longer, and has a time of its own (uploads.ts); any other body is not read.
    requestTimeout: uploads?.uploads.where === 'here' ? 0 : REQUEST_TIMEOUT_MS,
    routerOptions: { maxParamLength: PARAMETER_MAX },
    keepAliveTimeout: KEEP_ALIVE_MS,
    maxRequestsPerSocket: REQUESTS_PER_CONNECTION_MAX,
    http: { headersTimeout: REQUEST_TIMEOUT_MS, connectionsCheckingInterval: 1_000, maxHeaderSize: 16 * 1024 },
    forceCloseConnections: 'idle',
    frameworkErrors: (_error, request, generic) => {
      const reply = generic as unknown as FastifyReply
      if (guard(request as FastifyRequest, reply, uploads)) refuse(reply, 400, 'this is no address of a page')
    },
  })
  app.server.maxHeadersCount = HEADERS_MAX // one more is refused: Node cuts the connection

  const answered = process.metrics.counter('http_responses_total', 'Answers of the web role, by status.', ['status'])
  app.addHook('onRequest', (request, reply, done) => {
    if (guard(request, reply, uploads)) done()
  })
  app.addHook('onResponse', (request, reply, done) => {
    answered.labels(String(reply.statusCode)).inc()
    log.debug('http.answered', { method: request.method, status: reply.statusCode, address: request.ip })
    done()
  })
  const notFound = notFoundPage(site.server.version)
  app.setNotFoundHandler((_request, reply) => sendPage(reply.code(404), notFound))
  app.setErrorHandler((error: FastifyError, _request, reply) => {
    const { statusCode: status = 500 } = error
    // What the static files refuse (a folder, a way out of it) is as good as not there.
    if (status === 403 || status === 404) return sendPage(reply.code(404), notFound)
    if (status < 500) return refuse(reply, status, 'this request is not understood')
    log.error('http.failed', { error })
    return refuse(reply, 500, 'something broke here; the log of the server says what')
  })

  await addFiles(app)
  addPages(app, site)
  await uploads?.serve(app)
  return app
}

/** What every answer carries. False where the request is refused, and answered: then nothing else looks at it. */
function guard(request: FastifyRequest, reply: FastifyReply, uploads: WebUploads | undefined): boolean {
  reply.headers({
    'content-security-policy': PAGE_POLICY,
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
    'cross-origin-resource-policy': 'same-origin',
    'cross-origin-opener-policy': 'same-origin',
    'x-frame-options': 'DENY', // what frame-ancestors says, for browsers that do not know it
    'permissions-policy': PERMISSIONS,
  })
  const { headers, method } = request
  // Whatever body there is, it is not read, unless it is an upload: the connection ends with the answer.
  if (headers['transfer-encoding'] !== undefined || (headers['content-length'] ?? '0') !== '0')
    reply.header('connection', 'close')
  if (method !== 'GET' && method !== 'HEAD' && uploads?.takes(method, request.url) !== true) {
    refuse(reply.headers({ allow: 'GET, HEAD', connection: 'close' }), 405, 'only GET and HEAD')
    return false
  }
  // RFC 9112 §3.2. An HTTP/1.0 client need not send one.
  if (request.host !== '' && parseHost(request.host) === undefined) {
    refuse(reply, 400, 'the Host header names no host')
    return false
  }
  return true
}

async function addFiles(app: FastifyInstance): Promise<void> {
  const common = { index: false as const, dotfiles: 'ignore' as const, cacheControl: false }
  await app.register(fastifyStatic, {
    ...common,
    root: join(import.meta.dirname, 'assets'),
    prefix: '/assets/',
    decorateReply: false,
    setHeaders: (reply) => reply.header('cache-control', 'no-cache'), // may be kept, and is asked for again: there is an ETag
  })
  await app.register(fastifyStatic, {
    ...common,
    root: CONVERSE_FOLDER,
    prefix: CONVERSE_PATH,
    allowedPath: (path) => !path.endsWith('.map'),
    setHeaders: (reply) => reply.header('cache-control', `public, max-age=${YEAR_S}, immutable`),
  })
}

function addPages(app: FastifyInstance, site: Site): void {
  const front = frontPage(site)
  app.get('/', (_request, reply) => sendPage(reply, front))

  app.get('/chat', (_request, reply) => reply.redirect('/chat/', 308))
  // COMPAT: Converse.js 14 (its libomemo) looks for this file beside the page, not beside its script.
  app.get(`/chat/${OMEMO_FILE}`, (_request, reply) => reply.sendFile(OMEMO_FILE, CONVERSE_FOLDER))
  app.get('/chat/', (request, reply) => {
    const { localAddress } = request.socket
    reply.header('content-security-policy', chatPolicy(site, parseHost(request.host), localAddress))
    return sendPage(reply, chatPage(site, localAddress))
  })

  const hostMeta = (path: string, type: string, write: (url: string | undefined) => string) =>
    app.get(path, (request, reply) => {
      const host = ourHost(site, request)
      // §3: pages of other sites may read this, and nothing else of ours.
      reply.headers({ 'access-control-allow-origin': '*', 'cross-origin-resource-policy': 'cross-origin' })
      // RFC 9110 §15.5.20
      if (host === undefined) return refuse(reply, 421, 'this server knows nothing of that host')
      return reply
        .type(type)
        .header('cache-control', 'no-cache')
        .send(write(websocketUrl(site, request, host)))
    })
  hostMeta('/.well-known/host-meta', XRD_TYPE, xrd)
  hostMeta('/.well-known/host-meta.json', JRD_TYPE, jrd)
}

function sendPage(reply: FastifyReply, text: string): FastifyReply {
  return reply.type(HTML_TYPE).header('cache-control', 'no-cache').send(text)
}

function refuse(reply: FastifyReply, status: number, text: string): FastifyReply {
  return reply.code(status).type('text/plain; charset=utf-8').send(`${text}\n`)
}

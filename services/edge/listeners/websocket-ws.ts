// The WebSocket driver on `ws`: for machines on which uWebSockets.js does not load.
import http from 'node:http'
import https from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import { type WebSocket, WebSocketServer } from 'ws'
import { listenError } from '#core/listen-error.ts'
import { plainAddress } from '#core/network.ts'
import type { Listener } from '../main.ts'
import { type ChannelBindingType, CLOSE_TIMEOUT_MS, isStranger } from './connection.ts'
import { bindingsOf, exporterOf, NO_BINDINGS } from './tls-facts.ts'
import {
  FrameConnection,
  offersXmpp,
  PING_INTERVAL_S,
  REFUSED,
  SUBPROTOCOL,
  type WebSocketClient,
  type WebSocketOptions,
} from './websocket-driver.ts'
import { endPointHash } from './x509.ts'

const CHECK_MS = 1_000
/** One message may come in so many frames, and one frame in so many pieces: each costs more than its bytes. */
const FRAGMENTS_MAX = 1024
const PIECES_MAX = 4096
const HEADERS_MAX = 100

export async function listenWs(options: WebSocketOptions): Promise<Listener> {
  const { host, port, handshakeMs } = options
  const server = makeServer(options)
  const waiting = new WaitingSockets(options)
  const clients = new Set<WsConnection>()
  server.on('connection', (socket: Socket) => waiting.add(socket))
  server.on('upgrade', upgradeTo(options, waiting, clients))
  const checks = setInterval(() => waiting.cutOff(handshakeMs), CHECK_MS)
  const pings = setInterval(() => {
    for (const client of clients) client.ping()
  }, PING_INTERVAL_S * 1000)

  const stopTimers = () => {
    clearInterval(checks)
    clearInterval(pings)
  }
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      stopTimers()
      reject(listenError(error, 'websocket', host, port))
    })
    server.listen({ host, port, backlog: 4096 }, resolve)
  })
  return {
    name: 'websocket',
    host,
    port: (server.address() as AddressInfo).port,
    driver: 'ws',
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          stopTimers()
          resolve()
        })
        waiting.cutOff(0) // those that were upgraded are not among them, and are waited for
      }),
  }
}

function makeServer({ path, tls, door, handshakeMs }: WebSocketOptions): http.Server {
  const refuse: http.RequestListener = (request, response) => {
    const [status, text] = pathOf(request) === path ? REFUSED.upgrade : REFUSED.path
    response
      .writeHead(Number.parseInt(status, 10), { upgrade: 'websocket', connection: 'close', 'content-type': 'text/plain' })
      .end(text)
  }
  const limits = { requestTimeout: handshakeMs, headersTimeout: handshakeMs, connectionsCheckingInterval: CHECK_MS }
  const server = tls ? makeSecureServer() : http.createServer(limits, refuse)
  server.maxHeadersCount = HEADERS_MAX
  return server

  function makeSecureServer(): http.Server {
    const { certificates } = door
    const { options, chooseByName } = certificates.tls
    const server = https.createServer(
      {
        ...limits,
        ...options,
        handshakeTimeout: handshakeMs,
        ...(chooseByName && { SNICallback: (host, done) => certificates.tls.chooseByName!(host, done) }),
      },
      refuse,
    )
    certificates.onChange((changed) => server.setSecureContext(changed.options))
    return server
  }
}

/**
 * Connections that have not become WebSockets yet. None has longer than the handshake may take, however it drips. Inside TLS
 * the upgrade comes on another socket than the connection, so they are known by what both have: address and port.
 */
class WaitingSockets {
  readonly #sockets = new Map<string, { readonly socket: Socket; readonly sinceMs: number }>()
  readonly #options: WebSocketOptions

  constructor(options: WebSocketOptions) {
    this.#options = options
  }

  add(socket: Socket): void {
    const { admission } = this.#options.door
    const key = keyOf(socket)
    if (socket.remoteAddress === undefined || !admission.admits()) return void socket.resetAndDestroy()
    admission.waiting++
    this.#sockets.set(key, { socket, sinceMs: performance.now() })
    socket.once('close', () => this.#delete(key, socket))
  }

  /** It has its WebSocket. */
  take(socket: Socket): void {
    this.#delete(keyOf(socket))
  }

  /** The oldest are first. */
  cutOff(afterMs: number): void {
    const untilMs = performance.now() - afterMs
    for (const { socket, sinceMs } of this.#sockets.values()) {
      if (sinceMs > untilMs) return
      socket.destroy()
    }
  }

  #delete(key: string, socket?: Socket): void {
    const found = this.#sockets.get(key)
    if (found === undefined || (socket !== undefined && found.socket !== socket)) return
    this.#sockets.delete(key)
    this.#options.door.admission.waiting--
  }
}

function keyOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`
}

function upgradeTo(
  options: WebSocketOptions,
  waiting: WaitingSockets,
  clients: Set<WsConnection>,
): (request: http.IncomingMessage, socket: Socket, head: Buffer) => void {
  const { path, clientOf, door } = options
  const sockets = new WebSocketServer({
    noServer: true,
    maxPayload: options.frameBytesMaxBeforeLogin,
    maxFragments: FRAGMENTS_MAX,
    maxBufferedChunks: PIECES_MAX,
    perMessageDeflate: false,
    clientTracking: false,
    skipUTF8Validation: true, // the scanner does it
    handleProtocols: () => SUBPROTOCOL,
  } as ConstructorParameters<typeof WebSocketServer>[0])
  return (request, socket, head) => {
    socket.on('error', () => socket.destroy())
    if (pathOf(request) !== path) return refuseUpgrade(socket, REFUSED.path)
    if (!offersXmpp(headerOf(request, 'sec-websocket-protocol'))) return refuseUpgrade(socket, REFUSED.subprotocol)
    const client = clientOf(plainAddress(socket.remoteAddress ?? ''), (name) => headerOf(request, name))
    sockets.handleUpgrade(request, socket, head, (webSocket) => {
      waiting.take(socket)
      if (!door.admission.enter(client.address)) return webSocket.terminate()
      const connection = new WsConnection(webSocket, socket, client, options)
      clients.add(connection)
      webSocket.once('close', () => clients.delete(connection))
      connection.events = door.onConnection(connection)
    })
  }
}

function pathOf(request: http.IncomingMessage): string {
  return (request.url ?? '').split('?', 1)[0]!
}

/** A header's values, '' where there is none. */
function headerOf(request: http.IncomingMessage, name: string): string {
  const value = request.headers[name]
  return Array.isArray(value) ? value.join(',') : (value ?? '')
}

function refuseUpgrade(socket: Socket, [status, text]: readonly [string, string]): void {
  socket.end(
    `HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: ${text.length}\r\n\r\n${text}`,
  )
}

class WsConnection extends FrameConnection {
  readonly #webSocket: WebSocket
  readonly #socket: Socket
  readonly #direct: boolean
  readonly #frameBytesMax: number
  #stranger = true
  #lingering: NodeJS.Timeout | undefined
  /** Cleared by a pong: two pings without one, and the peer is dead. */
  #unanswered = 0

  constructor(webSocket: WebSocket, socket: Socket, client: WebSocketClient, { door, frameBytesMax }: WebSocketOptions) {
    super(client, door)
    this.#webSocket = webSocket
    this.#socket = socket
    this.#direct = client.direct
    this.#frameBytesMax = frameBytesMax
    socket.setNoDelay(true)
    webSocket.on('ping', () => this.controlled())
    webSocket.on('pong', () => {
      this.#unanswered = 0
      this.controlled()
    })
    webSocket.on('message', (data, isBinary) => {
      if (isBinary) return this.refuseBinary()
      this.events.data(data as Buffer)
      if (this.#stranger && !isStranger(this.events)) this.#welcome()
    })
    webSocket.on('error', (error) => {
      door.log.debug('connection.failed', { address: this.address, error: error.message })
      this.#linger() // the close frame is on its way
    })
    webSocket.on('close', () => {
      clearTimeout(this.#lingering)
      this.leave()
    })
  }

  /** It has logged in, and may send frames as long as a stanza. COMPAT: ws 8 has no way to say so once it has begun. */
  #welcome(): void {
    this.#stranger = false
    const { _receiver } = this.#webSocket as unknown as { readonly _receiver: { _maxPayload: number } | null }
    if (_receiver !== null) _receiver._maxPayload = this.#frameBytesMax
  }

  ping(): void {
    if (++this.#unanswered > 2) this.destroy()
    else if (!this.gone) this.#webSocket.ping()
  }

  get channelBindings(): readonly ChannelBindingType[] {
    const secure = this.#secureSocket
    return secure === undefined ? NO_BINDINGS : bindingsOf(secure, endPointHashOf(secure))
  }

  channelBinding(type: ChannelBindingType): Uint8Array | undefined {
    const secure = this.#secureSocket
    if (secure === undefined || type === 'tls-unique') return undefined // which no browser knows
    return type === 'tls-exporter' ? exporterOf(secure) : endPointHashOf(secure)
  }

  /** While there is TLS of ours with the client itself. */
  get #secureSocket(): TLSSocket | undefined {
    return this.#socket instanceof TLSSocket && this.#direct && !this.gone ? this.#socket : undefined
  }

  /** A peer that does not answer the close is cut off. */
  protected override close(code: number, reason = ''): void {
    this.#webSocket.close(code, reason)
    this.#linger()
  }

  #linger(): void {
    this.#webSocket.resume() // else the answer is not seen
    this.#lingering ??= setTimeout(() => this.destroy(), CLOSE_TIMEOUT_MS)
    this.leave()
  }

  override get unsentBytes(): number {
    return this.#webSocket.bufferedAmount
  }

  protected override send(frames: readonly (string | Buffer)[]): void {
    this.#socket.cork()
    for (const frame of frames) this.#webSocket.send(frame, TEXT)
    this.#socket.uncork()
  }

  override pause(): void {
    this.#webSocket.pause()
  }

  override resume(): void {
    this.#webSocket.resume()
  }

  override destroy(): void {
    this.#webSocket.terminate()
  }
}

function endPointHashOf(secure: TLSSocket): Uint8Array | undefined {
  const certificate = secure.getX509Certificate()
  return certificate && endPointHash(certificate)
}

const TEXT = { binary: false, compress: false } as const

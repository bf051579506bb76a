// The WebSocket driver on `ws`: for machines on which uWebSockets.js does not load.
import http from 'node:http'
import https from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { type WebSocket, WebSocketServer } from 'ws'
import { listenError } from '#core/listen-error.ts'
import type { Log } from '#core/log.ts'
import { tlsContextOptions } from './certificate.ts'
import type { Connection, ConnectionEvents } from './connection.ts'
import { type Flushable, flushAtTurnEnd, join } from './gather.ts'
import type { Listener } from './main.ts'
import {
  CLOSE,
  CLOSE_TIMEOUT_MS,
  offersXmpp,
  PING_INTERVAL_S,
  REFUSED,
  SUBPROTOCOL,
  TEXT_ONLY,
  type WebSocketClient,
  type WebSocketOptions,
} from './websocket.ts'

export async function listenWs(options: WebSocketOptions, log: Log): Promise<Listener> {
  const { host, port, path, tls, clientOf, onConnection } = options
  const refuse: http.RequestListener = (request, response) => {
    const [status, text] = pathOf(request) === path ? REFUSED.upgrade : REFUSED.path
    response
      .writeHead(Number.parseInt(status, 10), { upgrade: 'websocket', connection: 'close', 'content-type': 'text/plain' })
      .end(text)
  }
  const limits = { requestTimeout: 10_000, headersTimeout: 10_000, connectionsCheckingInterval: 5_000 }
  const server =
    tls === undefined ? http.createServer(limits, refuse) : https.createServer({ ...limits, ...tlsContextOptions(tls) }, refuse)
  const sockets = new WebSocketServer({
    noServer: true,
    maxPayload: options.frameBytesMax,
    perMessageDeflate: false,
    clientTracking: false,
    skipUTF8Validation: true, // the scanner does it
    handleProtocols: () => SUBPROTOCOL,
  })

  server.on('upgrade', (request, socket: Socket, head) => {
    socket.on('error', () => socket.destroy())
    if (pathOf(request) !== path) return refuseUpgrade(socket, REFUSED.path)
    if (!offersXmpp(headerOf(request, 'sec-websocket-protocol'))) return refuseUpgrade(socket, REFUSED.subprotocol)
    sockets.handleUpgrade(request, socket, head, (webSocket) => {
      const client = clientOf(socket.remoteAddress ?? '', (name) => headerOf(request, name))
      const connection = new WsConnection(webSocket, socket, client, log)
      connection.events = onConnection(connection)
    })
  })

  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => reject(listenError(error, 'websocket', host, port)))
    server.listen({ host, port, backlog: 4096 }, resolve)
  })
  return {
    name: 'websocket',
    host,
    port: (server.address() as AddressInfo).port,
    driver: 'ws',
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections() // of plain HTTP: those that were upgraded are not among them, and are waited for
      }),
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

class WsConnection implements Connection, Flushable {
  readonly framing = 'frame'
  readonly address: string
  readonly loopback: boolean
  readonly encrypted: boolean
  readonly canStartTls = false
  events!: ConnectionEvents
  readonly #webSocket: WebSocket
  readonly #socket: Socket
  readonly #log: Log
  #frames: (string | Buffer)[] = []
  #gatheredBytes = 0
  #gone = false
  #lingering: NodeJS.Timeout | undefined
  /** Cleared by a pong: two pings without one, and the peer is dead. */
  #unanswered = 0

  constructor(webSocket: WebSocket, socket: Socket, client: WebSocketClient, log: Log) {
    this.#webSocket = webSocket
    this.#socket = socket
    this.#log = log
    this.address = client.address
    this.loopback = client.loopback
    this.encrypted = client.encrypted
    socket.setNoDelay(true)
    const pings = setInterval(() => {
      if (++this.#unanswered > 2) return this.destroy()
      webSocket.ping()
    }, PING_INTERVAL_S * 1000)
    webSocket.on('pong', () => {
      this.#unanswered = 0
    })
    webSocket.on('message', (data, isBinary) => {
      if (isBinary) this.#close(CLOSE.unsupportedData, TEXT_ONLY)
      else this.events.data(data as Buffer)
    })
    webSocket.on('error', (error) => {
      log.debug('connection.failed', { address: this.address, error: error.message })
      this.#linger() // the close frame is on its way
    })
    webSocket.on('close', () => {
      clearInterval(pings)
      clearTimeout(this.#lingering)
      this.#leave()
    })
  }

  #leave(): void {
    if (this.#gone) return
    this.#gone = true
    this.#frames = []
    this.events.closed()
  }

  /** RFC 6455 §7.1.2. A peer that does not answer the close is cut off. */
  #close(code: number, reason = ''): void {
    this.#webSocket.close(code, reason)
    this.#linger()
  }

  #linger(): void {
    this.#webSocket.resume() // else the answer is not seen
    this.#lingering ??= setTimeout(() => this.destroy(), CLOSE_TIMEOUT_MS)
    this.#leave()
  }

  get unsentBytes(): number {
    return this.#webSocket.bufferedAmount + this.#gatheredBytes
  }

  write(head: string, body?: Uint8Array, tail?: string): void {
    if (this.#gone) return
    if (this.#frames.length === 0) flushAtTurnEnd(this)
    const frame = body === undefined ? head : join([head, body, tail!])
    this.#frames.push(frame)
    this.#gatheredBytes += frame.length
  }

  flush(): void {
    if (this.#gone || this.#frames.length === 0) return
    const frames = this.#frames
    this.#frames = []
    this.#gatheredBytes = 0
    this.#socket.cork()
    for (const frame of frames) this.#webSocket.send(frame, TEXT)
    this.#socket.uncork()
  }

  broke(error: unknown): void {
    this.#log.error('connection.broke', { address: this.address, error })
    this.destroy()
  }

  startTls(): void {
    throw new Error('a WebSocket has no STARTTLS')
  }

  pause(): void {
    this.#webSocket.pause()
  }

  resume(): void {
    this.#webSocket.resume()
  }

  end(): void {
    this.flush()
    if (!this.#gone) this.#close(CLOSE.normal)
  }

  destroy(): void {
    this.#webSocket.terminate()
  }
}

const TEXT = { binary: false, compress: false } as const

// The WebSocket driver on `ws`: for machines on which uWebSockets.js does not load.
import http from 'node:http'
import https from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { type WebSocket, WebSocketServer } from 'ws'
import { listenError } from '#core/listen-error.ts'
import type { Log } from '#core/log.ts'
import { tlsContextOptions } from './certificate.ts'
import type { Listener } from './main.ts'
import {
  CLOSE_TIMEOUT_MS,
  FrameConnection,
  offersXmpp,
  PING_INTERVAL_S,
  REFUSED,
  SUBPROTOCOL,
  type WebSocketClient,
  type WebSocketOptions,
} from './websocket-driver.ts'

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

class WsConnection extends FrameConnection {
  readonly #webSocket: WebSocket
  readonly #socket: Socket
  #lingering: NodeJS.Timeout | undefined
  /** Cleared by a pong: two pings without one, and the peer is dead. */
  #unanswered = 0

  constructor(webSocket: WebSocket, socket: Socket, client: WebSocketClient, log: Log) {
    super(client, log)
    this.#webSocket = webSocket
    this.#socket = socket
    socket.setNoDelay(true)
    const pings = setInterval(() => {
      if (++this.#unanswered > 2) return this.destroy()
      webSocket.ping()
    }, PING_INTERVAL_S * 1000)
    webSocket.on('pong', () => {
      this.#unanswered = 0
    })
    webSocket.on('message', (data, isBinary) => {
      if (isBinary) this.refuseBinary()
      else this.events.data(data as Buffer)
    })
    webSocket.on('error', (error) => {
      log.debug('connection.failed', { address: this.address, error: error.message })
      this.#linger() // the close frame is on its way
    })
    webSocket.on('close', () => {
      clearInterval(pings)
      clearTimeout(this.#lingering)
      this.leave()
    })
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

const TEXT = { binary: false, compress: false } as const

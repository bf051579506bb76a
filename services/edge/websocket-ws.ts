// The WebSocket driver on `ws`: for machines on which uWebSockets.js does not load.
import http from 'node:http'
import https from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { type WebSocket, WebSocketServer } from 'ws'
import { listenError } from '#core/listen-error.ts'
import type { Log } from '#core/log.ts'
import { tlsContextOptions } from './certificate.ts'
import { type Connection, type ConnectionEvents, isLoopback } from './connection.ts'
import { type Flushable, flushAtTurnEnd, join } from './gather.ts'
import type { Listener } from './main.ts'
import { PING_INTERVAL_S, SUBPROTOCOL, type WebSocketOptions } from './websocket.ts'

export async function listenWs(options: WebSocketOptions, log: Log): Promise<Listener> {
  const { host, port, path, tls, trusts, onConnection } = options
  const refuse: http.RequestListener = (request, response) => {
    const [status, text] = pathOf(request) === path ? [426, 'this port speaks XMPP over WebSocket\n'] : [404, 'nothing here\n']
    response.writeHead(status as number, { upgrade: 'websocket', 'content-type': 'text/plain' }).end(text)
  }
  const limits = { requestTimeout: 10_000, headersTimeout: 10_000, connectionsCheckingInterval: 5_000 }
  const server = tls === undefined ? http.createServer(limits, refuse) : https.createServer({ ...limits, ...tlsContextOptions(tls) }, refuse)
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
    if (pathOf(request) !== path) return refuseUpgrade(socket, '404 Not Found', 'nothing here')
    const offered = (request.headers['sec-websocket-protocol'] ?? '').split(',').map((protocol) => protocol.trim())
    if (!offered.includes(SUBPROTOCOL)) return refuseUpgrade(socket, '400 Bad Request', `the subprotocol ${SUBPROTOCOL} is spoken here (RFC 7395)`)
    sockets.handleUpgrade(request, socket, head, (webSocket) => {
      const address = socket.remoteAddress ?? ''
      const encrypted = tls !== undefined || (trusts(address) && request.headers['x-forwarded-proto'] === 'https')
      const connection = new WsConnection(webSocket, socket, address, encrypted, log)
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
    close: () => new Promise((resolve) => server.close(() => resolve())),
  }
}

function pathOf(request: http.IncomingMessage): string {
  return (request.url ?? '').split('?', 1)[0]!
}

function refuseUpgrade(socket: Socket, status: string, text: string): void {
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: ${text.length + 1}\r\n\r\n${text}\n`)
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
  #frames: (string | Buffer)[] = []
  #gatheredBytes = 0
  #gone = false
  /** Cleared by a pong: two pings without one, and the peer is dead. */
  #unanswered = 0

  constructor(webSocket: WebSocket, socket: Socket, address: string, encrypted: boolean, log: Log) {
    this.#webSocket = webSocket
    this.#socket = socket
    this.address = address
    this.loopback = isLoopback(address)
    this.encrypted = encrypted
    socket.setNoDelay(true)
    const pings = setInterval(() => {
      if (++this.#unanswered > 2) return this.destroy()
      webSocket.ping()
    }, PING_INTERVAL_S * 1000)
    webSocket.on('pong', () => {
      this.#unanswered = 0
    })
    webSocket.on('message', (data) => this.events.data(data as Buffer))
    webSocket.on('error', (error) => log.debug('connection.failed', { address, error: error.message }))
    webSocket.on('close', () => {
      clearInterval(pings)
      this.#gone = true
      this.#frames = []
      this.events.closed()
    })
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
    if (!this.#gone) this.#webSocket.close(1000)
  }

  destroy(): void {
    this.#webSocket.terminate()
  }
}

const TEXT = { binary: false, compress: false } as const

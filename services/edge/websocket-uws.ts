// The WebSocket driver on uWebSockets.js: one write per socket and turn by cork, frames read without a copy.
import net from 'node:net'
import type { us_listen_socket, WebSocket } from 'uWebSockets.js'
import { listenError } from '#core/listen-error.ts'
import { type Connection, type ConnectionEvents, isLoopback } from './connection.ts'
import { type Flushable, flushAtTurnEnd, join } from './gather.ts'
import type { Listener } from './main.ts'
import { IDLE_TIMEOUT_S, SUBPROTOCOL, type UwsLibrary, type WebSocketOptions } from './websocket.ts'

/** Frames that wait while a stream is paused. A client that sends on regardless is cut off: TCP cannot be told to wait here. */
const WAITING_BYTES_MAX = 1024 * 1024

interface UserData {
  readonly address: string
  readonly encrypted: boolean
  connection: UwsConnection | undefined
}

export async function listenUws(library: UwsLibrary, options: WebSocketOptions): Promise<Listener> {
  const { host, port, path, tls, trusts, onConnection } = options
  const app = tls === undefined ? library.App() : library.SSLApp({ cert_file_name: tls.files.cert, key_file_name: tls.files.key })

  app.ws<UserData>(path, {
    maxPayloadLength: options.frameBytesMax,
    maxBackpressure: options.unsentBytesMax * 2,
    idleTimeout: IDLE_TIMEOUT_S,
    sendPingsAutomatically: true,
    compression: library.DISABLED,
    upgrade(response, request, context) {
      const protocols = request.getHeader('sec-websocket-protocol')
      if (!protocols.split(',').some((protocol) => protocol.trim() === SUBPROTOCOL)) {
        response.writeStatus('400 Bad Request').end(`the subprotocol ${SUBPROTOCOL} is spoken here (RFC 7395)\n`)
        return
      }
      const address = Buffer.from(response.getRemoteAddressAsText()).toString('latin1')
      const peer = address.startsWith('0000:0000:0000:0000:0000:') ? shortAddress(address) : address
      const encrypted = tls !== undefined || (trusts(peer) && request.getHeader('x-forwarded-proto') === 'https')
      response.upgrade<UserData>(
        { address: peer, encrypted, connection: undefined },
        request.getHeader('sec-websocket-key'),
        SUBPROTOCOL,
        request.getHeader('sec-websocket-extensions'),
        context,
      )
    },
    open(socket) {
      const data = socket.getUserData()
      const connection = new UwsConnection(socket, data.address, data.encrypted)
      data.connection = connection
      connection.events = onConnection(connection)
    },
    message(socket, message) {
      socket.getUserData().connection!.received(new Uint8Array(message))
    },
    close(socket) {
      socket.getUserData().connection!.gone()
    },
  })
  app.any('/*', (response) => {
    response.writeStatus('426 Upgrade Required').writeHeader('Upgrade', 'websocket').end('this port speaks XMPP over WebSocket\n')
  })

  const free = await freePort(host, port)
  const token = await new Promise<us_listen_socket>((resolve, reject) => {
    app.listen(host, free, (token) => {
      if (token) resolve(token)
      else reject(listenError(Object.assign(new Error('the address is refused'), { code: 'EADDRINUSE' }), 'websocket', host, port))
    })
  })
  return {
    name: 'websocket',
    host,
    port: library.us_socket_local_port(token),
    driver: 'uWebSockets.js',
    async close() {
      library.us_listen_socket_close(token)
    },
  }
}

/** uWebSockets.js would share a port that another process has (SO_REUSEPORT), so it is asked for first. Resolves to the port; 0 chooses one. */
function freePort(host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = net.createServer()
    probe.once('error', (error: NodeJS.ErrnoException) => reject(listenError(error, 'websocket', host, port)))
    probe.listen({ host, port, exclusive: true }, () => {
      const { port: free } = probe.address() as net.AddressInfo
      probe.close(() => resolve(free))
    })
  })
}

/** uWebSockets.js writes addresses out in full: 0000:…:0001 is ::1, 0000:…:ffff:7f00:0001 is 127.0.0.1. */
function shortAddress(full: string): string {
  const parts = full.split(':')
  if (full === '0000:0000:0000:0000:0000:0000:0000:0001') return '::1'
  if (parts[5] !== 'ffff') return full
  const bytes = Buffer.from(`${parts[6]}${parts[7]}`, 'hex')
  return [...bytes].join('.')
}

class UwsConnection implements Connection, Flushable {
  readonly framing = 'frame'
  readonly address: string
  readonly loopback: boolean
  readonly encrypted: boolean
  readonly canStartTls = false
  events!: ConnectionEvents
  readonly #socket: WebSocket<UserData>
  #frames: (string | Uint8Array)[] = []
  #gatheredBytes = 0
  #paused = false
  #waiting: Uint8Array[] = []
  #waitingBytes = 0
  #gone = false

  constructor(socket: WebSocket<UserData>, address: string, encrypted: boolean) {
    this.#socket = socket
    this.address = address
    this.loopback = isLoopback(address)
    this.encrypted = encrypted
  }

  received(frame: Uint8Array): void {
    if (!this.#paused) return this.events.data(frame)
    this.#waitingBytes += frame.length
    if (this.#waitingBytes > WAITING_BYTES_MAX) return this.destroy()
    this.#waiting.push(Buffer.from(frame))
  }

  gone(): void {
    if (this.#gone) return
    this.#gone = true
    this.#frames = []
    this.events.closed()
  }

  get unsentBytes(): number {
    return this.#gone ? 0 : this.#socket.getBufferedAmount() + this.#gatheredBytes
  }

  write(head: string, body?: Uint8Array, tail?: string): void {
    if (this.#gone) return
    if (this.#frames.length === 0) flushAtTurnEnd(this)
    const frame = body === undefined ? head : join([head, body, tail!])
    this.#frames.push(frame)
    this.#gatheredBytes += frame.length
  }

  flush(): void {
    const frames = this.#frames
    if (this.#gone || frames.length === 0) return
    this.#frames = []
    this.#gatheredBytes = 0
    const socket = this.#socket
    if (frames.length === 1) {
      socket.send(frames[0]!, false)
      return
    }
    socket.cork(() => {
      for (const frame of frames) socket.send(frame, false)
    })
  }

  startTls(): void {
    throw new Error('a WebSocket has no STARTTLS')
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    this.#paused = false
    while (!this.#paused && this.#waiting.length > 0) {
      const frame = this.#waiting.shift()!
      this.#waitingBytes -= frame.length
      this.events.data(frame)
    }
  }

  end(): void {
    this.flush()
    if (!this.#gone) this.#socket.end(1000)
  }

  destroy(): void {
    if (!this.#gone) this.#socket.close()
  }
}

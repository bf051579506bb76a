// The WebSocket driver on uWebSockets.js: one write per socket and turn by cork, frames read without a copy.

import type { HttpResponse, us_listen_socket, WebSocket } from 'uWebSockets.js'
import net from 'node:net'
import { listenError } from '#core/listen-error.ts'
import type { Log } from '#core/log.ts'
import type { Connection, ConnectionEvents } from './connection.ts'
import { type Flushable, flushAtTurnEnd, join } from './gather.ts'
import type { Listener } from './main.ts'
import {
  CLOSE,
  IDLE_TIMEOUT_S,
  offersXmpp,
  REFUSED,
  SUBPROTOCOL,
  TEXT_ONLY,
  type UwsLibrary,
  type WebSocketClient,
  type WebSocketOptions,
} from './websocket.ts'

/** Frames that wait while a stream is paused. A client that sends on regardless is cut off: TCP cannot be told to wait here. */
const WAITING_BYTES_MAX = 1024 * 1024

/** What a frame costs besides its bytes while it waits: many small ones are no cheaper than a few big ones. */
const FRAME_COST_BYTES = 128
/** What clients have to take the last frames when the listener closes, before all that is left is cut off. */
const CLOSE_GRACE_MS = 500

interface UserData {
  readonly client: WebSocketClient
  connection: UwsConnection | undefined
}

export async function listenUws(library: UwsLibrary, options: WebSocketOptions, log: Log): Promise<Listener> {
  const { host, port, path, tls, clientOf, onConnection } = options
  const app = tls === undefined ? library.App() : library.SSLApp({ cert_file_name: tls.files.cert, key_file_name: tls.files.key })
  let open = 0

  app.ws<UserData>(path, {
    maxPayloadLength: options.frameBytesMax,
    maxBackpressure: options.unsentBytesMax * 2,
    closeOnBackpressureLimit: true, // never reached: the stream ends before; else frames would be lost without a word
    idleTimeout: IDLE_TIMEOUT_S,
    sendPingsAutomatically: true,
    compression: library.DISABLED,
    upgrade(response, request, context) {
      if (!offersXmpp(request.getHeader('sec-websocket-protocol'))) return refuse(response, REFUSED.subprotocol)
      const client = clientOf(shortAddress(response.getRemoteAddress()), (name) => request.getHeader(name))
      response.upgrade<UserData>(
        { client, connection: undefined },
        request.getHeader('sec-websocket-key'),
        SUBPROTOCOL,
        request.getHeader('sec-websocket-extensions'),
        context,
      )
    },
    open(socket) {
      open++
      const data = socket.getUserData()
      const connection = new UwsConnection(socket, data.client, log)
      data.connection = connection
      connection.events = onConnection(connection)
    },
    message(socket, message, isBinary) {
      const connection = socket.getUserData().connection!
      if (isBinary) connection.refuseBinary()
      else connection.received(new Uint8Array(message))
    },
    close(socket) {
      open--
      socket.getUserData().connection!.gone()
    },
  })
  app.any('/*', (response, request) => refuse(response, request.getUrl() === path ? REFUSED.upgrade : REFUSED.path))

  const free = await freePort(host, port)
  const token = await new Promise<us_listen_socket>((resolve, reject) => {
    app.listen(host, free, (token) => {
      if (token) resolve(token)
      else
        reject(
          listenError(
            new Error('uWebSockets.js does not say why; are the address and the certificate good?'),
            'websocket',
            host,
            port,
          ),
        )
    })
  })
  return {
    name: 'websocket',
    host,
    port: library.us_socket_local_port(token),
    driver: 'uWebSockets.js',
    async close() {
      library.us_listen_socket_close(token)
      if (open > 0) await new Promise((resolve) => setTimeout(resolve, CLOSE_GRACE_MS))
      app.close()
    },
  }
}

function refuse(response: HttpResponse, [status, text]: readonly [string, string]): void {
  response.cork(() => {
    response.writeStatus(status).writeHeader('Upgrade', 'websocket').writeHeader('Content-Type', 'text/plain').end(text, true)
  })
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

/** Four bytes, or sixteen, as other parts write them: ::1, and 127.0.0.1 for ::ffff:127.0.0.1. */
export function shortAddress(bytes: ArrayBuffer): string {
  const octets = Buffer.from(bytes)
  if (octets.length === 4) return octets.join('.')
  if (octets.length !== 16) return ''
  if (octets.readBigUInt64BE(0) === 0n && octets.readUInt32BE(8) === 0xffff) return octets.subarray(12).join('.')
  const groups = octets.toString('hex').match(/..../g)!.join(':')
  return new URL(`http://[${groups}]`).hostname.slice(1, -1)
}

class UwsConnection implements Connection, Flushable {
  readonly framing = 'frame'
  readonly address: string
  readonly loopback: boolean
  readonly encrypted: boolean
  readonly canStartTls = false
  events!: ConnectionEvents
  readonly #socket: WebSocket<UserData>
  readonly #log: Log
  #frames: (string | Uint8Array)[] = []
  #gatheredBytes = 0
  #paused = false
  #waiting: Uint8Array[] = []
  #waitingBytes = 0
  /** From here on the socket throws at every touch. */
  #gone = false

  constructor(socket: WebSocket<UserData>, client: WebSocketClient, log: Log) {
    this.#socket = socket
    this.#log = log
    this.address = client.address
    this.loopback = client.loopback
    this.encrypted = client.encrypted
  }

  received(frame: Uint8Array): void {
    if (!this.#paused) return this.events.data(frame)
    this.#waitingBytes += frame.length + FRAME_COST_BYTES
    if (this.#waitingBytes > WAITING_BYTES_MAX) {
      this.#log.warn('websocket.flooded', { address: this.address })
      return this.destroy()
    }
    this.#waiting.push(Buffer.from(frame))
  }

  refuseBinary(): void {
    if (!this.#gone) this.#socket.end(CLOSE.unsupportedData, TEXT_ONLY)
  }

  gone(): void {
    if (this.#gone) return
    this.#gone = true
    this.#frames = []
    this.#waiting = []
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

  broke(error: unknown): void {
    this.#log.error('connection.broke', { address: this.address, error })
    this.destroy()
  }

  startTls(): void {
    throw new Error('a WebSocket has no STARTTLS')
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    this.#paused = false
    let taken = 0
    while (!this.#paused && taken < this.#waiting.length) {
      const frame = this.#waiting[taken++]!
      this.#waitingBytes -= frame.length + FRAME_COST_BYTES
      this.events.data(frame)
    }
    this.#waiting = this.#waiting.slice(taken)
  }

  end(): void {
    this.flush()
    if (!this.#gone) this.#socket.end(CLOSE.normal)
  }

  destroy(): void {
    if (!this.#gone) this.#socket.close()
  }
}

// The WebSocket driver on uWebSockets.js: one write per socket and turn by cork, frames read without a copy.

import type { HttpResponse, TemplatedApp, us_listen_socket, WebSocket } from 'uWebSockets.js'
import net from 'node:net'
import { listenError } from '#core/listen-error.ts'
import type { Log } from '#core/log.ts'
import type { Listener } from './main.ts'
import {
  FrameConnection,
  IDLE_TIMEOUT_S,
  offersXmpp,
  REFUSED,
  SUBPROTOCOL,
  type WebSocketClient,
  type WebSocketOptions,
} from './websocket-driver.ts'

export type UwsLibrary = typeof import('uWebSockets.js')

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
  const { host, port, tls } = options
  const app = tls === undefined ? library.App() : library.SSLApp({ cert_file_name: tls.files.cert, key_file_name: tls.files.key })
  const clients = serve(library, app, options, log)
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
      if (clients.size > 0) await new Promise((resolve) => setTimeout(resolve, CLOSE_GRACE_MS))
      app.close()
    },
  }
}

/** Returns those that are connected, kept up to date. */
function serve(library: UwsLibrary, app: TemplatedApp, options: WebSocketOptions, log: Log): ReadonlySet<UwsConnection> {
  const { path, clientOf, onConnection } = options
  const clients = new Set<UwsConnection>()
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
      const data = socket.getUserData()
      const connection = new UwsConnection(socket, data.client, log)
      data.connection = connection
      clients.add(connection)
      connection.events = onConnection(connection)
    },
    message(socket, message, isBinary) {
      const connection = socket.getUserData().connection!
      if (isBinary) connection.refuseBinary()
      else connection.received(new Uint8Array(message))
    },
    close(socket) {
      const connection = socket.getUserData().connection!
      clients.delete(connection)
      connection.closed()
    },
  })
  app.any('/*', (response, request) => refuse(response, request.getUrl() === path ? REFUSED.upgrade : REFUSED.path))
  return clients
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

class UwsConnection extends FrameConnection {
  readonly #socket: WebSocket<UserData>
  #paused = false
  #waiting: Uint8Array[] = []
  #waitingBytes = 0

  constructor(socket: WebSocket<UserData>, client: WebSocketClient, log: Log) {
    super(client, log)
    this.#socket = socket
  }

  received(frame: Uint8Array): void {
    if (!this.#paused) return this.events.data(frame)
    this.#waitingBytes += frame.length + FRAME_COST_BYTES
    if (this.#waitingBytes > WAITING_BYTES_MAX) {
      this.log.warn('websocket.flooded', { address: this.address })
      return this.destroy()
    }
    this.#waiting.push(Buffer.from(frame))
  }

  /** The socket throws at every touch from here on. */
  closed(): void {
    this.#waiting = []
    this.leave()
  }

  override get unsentBytes(): number {
    return this.gone ? 0 : this.#socket.getBufferedAmount()
  }

  protected override send(frames: readonly (string | Buffer)[]): void {
    const socket = this.#socket
    if (frames.length === 1) {
      socket.send(frames[0]!, false)
      return
    }
    socket.cork(() => {
      for (const frame of frames) socket.send(frame, false)
    })
  }

  protected override close(code: number, reason?: string): void {
    this.#socket.end(code, reason)
  }

  override pause(): void {
    this.#paused = true
  }

  override resume(): void {
    this.#paused = false
    let taken = 0
    while (!this.#paused && taken < this.#waiting.length) {
      const frame = this.#waiting[taken++]!
      this.#waitingBytes -= frame.length + FRAME_COST_BYTES
      this.events.data(frame)
    }
    this.#waiting = this.#waiting.slice(taken)
  }

  override destroy(): void {
    if (!this.gone) this.#socket.close()
  }
}

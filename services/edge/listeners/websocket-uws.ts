// The WebSocket driver on uWebSockets.js: one write per socket and turn by cork, frames read without a copy.
//
// It knows its certificates from their files, and the first of them for good: others take a listener of their own, which takes
// the place of the one before. Who is connected stays where he is.
import type {
  AppOptions,
  HttpRequest,
  HttpResponse,
  TemplatedApp,
  us_listen_socket,
  us_socket_context_t,
  WebSocket,
} from 'uWebSockets.js'
import net from 'node:net'
import { listenError } from '#core/listen-error.ts'
import type { Listener } from '../main.ts'
import { addressOfBytes } from './address.ts'
import { type CertificatePair, CIPHERS } from './certificate.ts'
import type { Tls } from './certificates.ts'
import { type ChannelBindingType, isStranger } from './connection.ts'
import { END_POINT, NO_BINDINGS } from './tls-facts.ts'
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

/**
 * Frames that wait while a stream is paused; before the login, one of the longest that is allowed then. A client that sends on
 * regardless is cut off: TCP cannot be told to wait here.
 */
const WAITING_BYTES_MAX = 1024 * 1024

/** What a frame costs besides its bytes while it waits: many small ones are no cheaper than a few big ones. */
const FRAME_COST_BYTES = 128
/** What clients have to take the last frames when the listener closes, before all that is left is cut off. */
const CLOSE_GRACE_MS = 500
/**
 * The library is told once how long a frame may be, so who has not logged in may send one as long as anybody's: there are never
 * more of those than could fill this.
 */
const STRANGERS_BYTES_MAX = 256 * 1024 * 1024

interface UserData {
  readonly client: WebSocketClient
  connection: UwsConnection | undefined
}

export async function listenUws(library: UwsLibrary, options: WebSocketOptions): Promise<Listener> {
  const { host, tls, door } = options
  const { certificates, log } = door
  const strangers = new Set<UwsConnection>()
  let serving = await Serving.open(library, options, certificates.tls, await freePort(host, options.port), strangers)
  const port = library.us_socket_local_port(serving.token)
  const retired = new Set<Serving>()
  let closed = false

  const replace = async (changed: Tls): Promise<void> => {
    const next = await Serving.open(library, options, changed, port, strangers)
    if (closed) return next.close()
    const before = serving
    serving = next
    retired.add(before)
    before.retire(() => retired.delete(before))
  }
  if (tls)
    certificates.onChange((changed) => {
      replace(changed).catch((error: unknown) => log.error('certificates.refused', { error, listener: 'websocket' }))
    })
  return {
    name: 'websocket',
    host,
    port,
    driver: 'uWebSockets.js',
    async close() {
      closed = true
      const all = [serving, ...retired]
      library.us_listen_socket_close(serving.token)
      if (all.some(({ clients }) => clients.size > 0)) await new Promise((resolve) => setTimeout(resolve, CLOSE_GRACE_MS))
      for (const one of all) one.close()
    },
  }
}

/** One app of the library: with TLS, with the certificates of one time. */
class Serving {
  readonly app: TemplatedApp
  token!: us_listen_socket
  /** Kept up to date. */
  readonly clients = new Set<UwsConnection>()
  readonly #library: UwsLibrary
  #whenEmpty: (() => void) | undefined

  static async open(
    library: UwsLibrary,
    options: WebSocketOptions,
    tls: Tls,
    port: number,
    strangers: Set<UwsConnection>,
  ): Promise<Serving> {
    const serving = new Serving(library, options, tls, strangers)
    serving.token = await listen(serving.app, options.host, port)
    return serving
  }

  private constructor(library: UwsLibrary, options: WebSocketOptions, tls: Tls, strangers: Set<UwsConnection>) {
    this.#library = library
    this.app = options.tls ? library.SSLApp(appOptions(tls.pairs[0]!)) : library.App()
    this.#count(options)
    this.#route(options, strangers, options.tls ? tls.pairs[0] : undefined)
    if (!options.tls) return
    for (const [name, pair] of tls.byHost) {
      if (pair === tls.pairs[0]) continue
      // Each name has routes of its own. COMPAT: for each, the library writes two lines to standard output.
      this.app.addServerName(name, appOptions(pair)).domain(name)
      this.#route(options, strangers, pair)
    }
  }

  /** Connections that have not become WebSockets. The library gives a request half a minute, however it drips. */
  #count({ door }: WebSocketOptions): void {
    const { admission } = door
    const count = (response: HttpResponse, change: number): void => {
      const taken = change < 0 || admission.admits()
      admission.waiting += change
      if (!taken) response.close()
    }
    this.app.filter(count as Parameters<TemplatedApp['filter']>[0]) // whose types say Number
  }

  /** Takes nobody any more, and is gone with the last that it has. */
  retire(gone: () => void): void {
    this.#library.us_listen_socket_close(this.token)
    this.#whenEmpty = () => {
      gone()
      this.close()
    }
    this.#left()
  }

  close(): void {
    this.#whenEmpty = undefined
    this.app.close()
  }

  #left(): void {
    if (this.clients.size > 0 || this.#whenEmpty === undefined) return
    const gone = this.#whenEmpty
    this.#whenEmpty = undefined
    setImmediate(gone) // not from within the library
  }

  /** `shown`: the certificate that whoever comes this way was shown, by the name in his hello. */
  #route(options: WebSocketOptions, strangers: Set<UwsConnection>, shown: CertificatePair | undefined): void {
    const { path, door } = options
    this.app.ws<UserData>(path, {
      maxPayloadLength: options.frameBytesMax,
      maxBackpressure: options.unsentBytesMax * 2,
      closeOnBackpressureLimit: true, // never reached: the stream ends before; else frames would be lost without a word
      idleTimeout: IDLE_TIMEOUT_S,
      sendPingsAutomatically: true,
      compression: this.#library.DISABLED,
      upgrade: (response, request, context) => upgrade(options, strangers, response, request, context),
      open: (socket) => {
        const data = socket.getUserData()
        const connection = new UwsConnection(socket, data.client, options, shown)
        data.connection = connection
        this.clients.add(connection)
        strangers.add(connection)
        connection.events = door.onConnection(connection)
      },
      message(socket, message, isBinary) {
        const connection = socket.getUserData().connection!
        if (isBinary) return connection.refuseBinary()
        connection.received(new Uint8Array(message))
        if (connection.stranger && !isStranger(connection.events)) {
          connection.stranger = false
          strangers.delete(connection)
        }
      },
      ping: (socket) => socket.getUserData().connection!.controlled(),
      pong: (socket) => socket.getUserData().connection!.controlled(),
      close: (socket) => {
        const connection = socket.getUserData().connection!
        this.clients.delete(connection)
        strangers.delete(connection)
        connection.closed()
        this.#left()
      },
    })
    this.app.any('/*', (response, request) => refuse(response, request.getUrl() === path ? REFUSED.upgrade : REFUSED.path))
  }
}

/** Of TLS 1.3 the library knows by itself. */
function appOptions({ files }: CertificatePair): AppOptions {
  return {
    cert_file_name: files.cert,
    key_file_name: files.key,
    ssl_ciphers: CIPHERS.replace(/TLS_[^:]*:/g, ''),
    ssl_prefer_low_memory_usage: true,
  }
}

function upgrade(
  { clientOf, door, frameBytesMax }: WebSocketOptions,
  strangers: ReadonlySet<UwsConnection>,
  response: HttpResponse,
  request: HttpRequest,
  context: us_socket_context_t,
): void {
  const { admission } = door
  if (!offersXmpp(request.getHeader('sec-websocket-protocol'))) return refuse(response, REFUSED.subprotocol)
  const client = clientOf(addressOfBytes(Buffer.from(response.getRemoteAddress())), (name) => headerOf(request, name))
  const room = strangers.size * frameBytesMax < STRANGERS_BYTES_MAX || admission.refuse('before_login')
  if (!room || !admission.enter(client.address)) return refuse(response, REFUSED.full)
  admission.waiting--
  response.upgrade<UserData>(
    { client, connection: undefined },
    request.getHeader('sec-websocket-key'),
    SUBPROTOCOL,
    request.getHeader('sec-websocket-extensions'),
    context,
  )
}

/** All values of a header, '' where there is none. `getHeader` knows the first alone, and some proxies add a line of their own. */
function headerOf(request: HttpRequest, name: string): string {
  if (request.getHeader(name) === '') return ''
  const values: string[] = []
  request.forEach((key, value) => {
    if (key === name) values.push(value)
  })
  return values.join(',')
}

function listen(app: TemplatedApp, host: string, port: number): Promise<us_listen_socket> {
  return new Promise((resolve, reject) => {
    app.listen(host, port, (token) => {
      if (token) return resolve(token)
      const why = new Error('uWebSockets.js does not say why; are the address and the certificate good?')
      reject(listenError(why, 'websocket', host, port))
    })
  })
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

class UwsConnection extends FrameConnection {
  stranger = true
  readonly #socket: WebSocket<UserData>
  readonly #frameBytesMaxBeforeLogin: number
  #paused = false
  #resuming = false
  #waiting: Uint8Array[] = []
  #waitingBytes = 0
  /** RFC 5929 §4.1; undefined where there is no TLS of ours with the client itself. */
  readonly #endPointHash: Uint8Array | undefined

  constructor(
    socket: WebSocket<UserData>,
    client: WebSocketClient,
    { door, frameBytesMaxBeforeLogin }: WebSocketOptions,
    shown: CertificatePair | undefined,
  ) {
    super(client, door)
    this.#socket = socket
    this.#frameBytesMaxBeforeLogin = frameBytesMaxBeforeLogin
    this.#endPointHash = client.direct ? shown?.endPointHash : undefined
  }

  /** The library tells nothing of TLS itself, so there is no tls-exporter; which certificate was shown follows from the way in. */
  get channelBindings(): readonly ChannelBindingType[] {
    return this.#endPointHash === undefined || this.gone ? NO_BINDINGS : END_POINT
  }

  channelBinding(type: ChannelBindingType): Uint8Array | undefined {
    return type === 'tls-server-end-point' && !this.gone ? this.#endPointHash : undefined
  }

  received(frame: Uint8Array): void {
    if (!this.#paused) return this.events.data(frame)
    this.#waitingBytes += frame.length + FRAME_COST_BYTES
    const most = isStranger(this.events) ? this.#frameBytesMaxBeforeLogin + FRAME_COST_BYTES : WAITING_BYTES_MAX
    if (this.#waitingBytes > most) {
      this.door.log.warn('websocket.flooded', { address: this.address })
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

  /** What takes a frame may pause and resume: then this goes on behind it. */
  override resume(): void {
    this.#paused = false
    if (this.#resuming) return
    this.#resuming = true
    let taken = 0
    try {
      while (!this.#paused && taken < this.#waiting.length) {
        const frame = this.#waiting[taken++]!
        this.#waitingBytes -= frame.length + FRAME_COST_BYTES
        this.events.data(frame)
      }
    } finally {
      this.#waiting = this.#waiting.slice(taken)
      this.#resuming = false
    }
  }

  override destroy(): void {
    if (!this.gone) this.#socket.close()
  }
}

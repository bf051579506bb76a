// TCP: with STARTTLS on one port (RFC 6120 §5), TLS from the first byte on the other (XEP-0368).
import net from 'node:net'
import tls from 'node:tls'
import type { Config } from '#core/config.ts'
import { listenError } from '#core/listen-error.ts'
import type { Log } from '#core/log.ts'
import { type CertificatePair, chooseAlpn, tlsContextOptions } from './certificate.ts'
import { type Connection, type ConnectionEvents, isLoopback, type OnConnection } from './connection.ts'
import { type Flushable, flushAtTurnEnd, GATHERED_BYTES_MAX, join } from './gather.ts'
import type { Listener } from './main.ts'

/** A peer that does not close its side of a closed stream is cut off after this. */
const CLOSE_TIMEOUT_MS = 5_000
/** A dead peer is noticed by TCP itself, without traffic of ours. */
const KEEPALIVE_MS = 60_000
const BACKLOG = 4096

/** Listens on the plain and the TLS port of `config.c2s`, as far as they are on. */
export async function listenTcp(
  config: Config,
  host: string,
  certificate: CertificatePair,
  onConnection: OnConnection,
  log: Log,
): Promise<Listener[]> {
  const { port, tlsPort } = config.c2s
  const context = tls.createSecureContext(tlsContextOptions(certificate))
  const serve = (accept: (socket: net.Socket) => TcpConnection) =>
    net.createServer({ noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEPALIVE_MS }, (socket) => {
      const connection = accept(socket)
      connection.events = onConnection(connection)
    })
  const listeners: Listener[] = []
  try {
    if (port !== 'off')
      listeners.push(
        await open(
          serve((socket) => new TcpConnection(socket, context, false, log)),
          'c2s',
          host,
          port,
        ),
      )
    if (tlsPort !== 'off')
      listeners.push(
        await open(
          serve((socket) => new TcpConnection(socket, context, true, log)),
          'c2s (TLS)',
          host,
          tlsPort,
        ),
      )
  } catch (error) {
    await Promise.all(listeners.map((listener) => listener.close()))
    throw error
  }
  return listeners
}

function open(server: net.Server, name: Listener['name'], host: string, port: number): Promise<Listener> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => reject(listenError(error, name, host, port)))
    server.listen({ host, port, backlog: BACKLOG }, () => {
      const { port: bound } = server.address() as net.AddressInfo
      resolve({ name, host, port: bound, close: () => new Promise((closed) => server.close(() => closed())) })
    })
  })
}

class TcpConnection implements Connection, Flushable {
  readonly framing = 'stream'
  readonly address: string
  readonly loopback: boolean
  encrypted = false
  events!: ConnectionEvents
  #socket: net.Socket
  readonly #context: tls.SecureContext
  readonly #log: Log
  #pieces: (string | Uint8Array)[] = []
  #gatheredBytes = 0
  #gone = false
  #shakingHands = false
  #lingering: NodeJS.Timeout | undefined
  readonly #onData = (bytes: Uint8Array): void => this.events.data(bytes)
  readonly #onError = (error: Error): void => {
    this.#log.debug('connection.failed', { address: this.address, error: error.message })
    this.destroy()
  }
  readonly #onEnd = (): void => {
    this.#leave()
    this.#linger()
  }
  readonly #onClose = (): void => {
    clearTimeout(this.#lingering)
    this.#pieces = []
    this.#leave()
  }

  /** `direct`: TLS from the first byte (XEP-0368). The login timeout of the stream is the handshake's, too. */
  constructor(socket: net.Socket, context: tls.SecureContext, direct: boolean, log: Log) {
    this.#socket = socket
    this.#context = context
    this.#log = log
    this.address = socket.remoteAddress ?? ''
    this.loopback = isLoopback(this.address)
    socket.on('close', this.#onClose)
    socket.on('error', this.#onError)
    if (direct) this.#secure(({ protocols }) => chooseAlpn(protocols))
    else this.#read(socket)
  }

  #read(socket: net.Socket): void {
    socket.on('data', this.#onData)
    socket.on('end', this.#onEnd)
  }

  #leave(): void {
    if (this.#gone) return
    this.#gone = true
    this.events.closed()
  }

  /** What was written is sent; a peer that does not take it, or does not close, is cut off. */
  #linger(): void {
    if (this.#shakingHands) return this.destroy() // there is no way to say anything
    this.#socket.end()
    this.#lingering ??= setTimeout(() => this.destroy(), CLOSE_TIMEOUT_MS)
    this.#socket.resume() // what still comes is read and dropped, so that the close is seen
  }

  #secure(ALPNCallback?: tls.TLSSocketOptions['ALPNCallback']): void {
    this.encrypted = true
    this.#shakingHands = true
    const options = { isServer: true, secureContext: this.#context, ...(ALPNCallback && { ALPNCallback }) }
    const secure = new tls.TLSSocket(this.#socket, options)
    this.#socket = secure
    secure.once('secure', () => {
      this.#shakingHands = false
    })
    secure.on('close', this.#onClose)
    secure.on('error', this.#onError)
    this.#read(secure)
  }

  get canStartTls(): boolean {
    return !this.encrypted
  }

  get unsentBytes(): number {
    return this.#socket.writableLength
  }

  write(head: string, body?: Uint8Array, tail?: string): void {
    if (this.#gone) return
    if (this.#pieces.length === 0) flushAtTurnEnd(this)
    this.#pieces.push(head)
    this.#gatheredBytes += head.length
    if (body !== undefined) {
      this.#pieces.push(body, tail!)
      this.#gatheredBytes += body.length
    }
    if (this.#gatheredBytes > GATHERED_BYTES_MAX) this.flush()
  }

  flush(): void {
    if (this.#pieces.length === 0) return
    const pieces = this.#pieces
    this.#pieces = []
    this.#gatheredBytes = 0
    if (this.#socket.writable) this.#socket.write(pieces.length === 1 && typeof pieces[0] === 'string' ? pieces[0] : join(pieces))
  }

  broke(error: unknown): void {
    this.#log.error('connection.broke', { address: this.address, error })
    this.destroy()
  }

  startTls(): void {
    this.flush()
    this.#socket.removeListener('data', this.#onData)
    this.#socket.removeListener('end', this.#onEnd)
    this.#secure()
  }

  pause(): void {
    this.#socket.pause()
  }

  resume(): void {
    this.#socket.resume()
  }

  end(): void {
    if (this.#gone) return
    this.flush()
    this.#linger()
  }

  destroy(): void {
    this.#socket.destroy()
  }
}

// TCP: with STARTTLS on one port (RFC 6120 §5), TLS from the first byte on the other (XEP-0368).
import net from 'node:net'
import tls from 'node:tls'
import type { Config } from '#core/config.ts'
import type { Log } from '#core/log.ts'
import { type CertificatePair, chooseAlpn, tlsContextOptions } from './certificate.ts'
import { type Connection, type ConnectionEvents, isLoopback, type OnConnection } from './connection.ts'
import { type Flushable, flushAtTurnEnd, join } from './gather.ts'
import { listenError } from '#core/listen-error.ts'
import type { Listener } from './main.ts'

/** A peer that does not close its side of a closed stream is cut off after this. */
const CLOSE_TIMEOUT_MS = 5_000
/** A dead peer is noticed by TCP itself, without traffic of ours. */
const KEEPALIVE_MS = 60_000
const BACKLOG = 4096

/** Listens on the plain and the TLS port of `config.c2s`, as far as they are on. */
export async function listenTcp(config: Config, host: string, certificate: CertificatePair, onConnection: OnConnection, log: Log): Promise<Listener[]> {
  const { port, tlsPort } = config.c2s
  const secure = tlsContextOptions(certificate)
  const context = tls.createSecureContext(secure)
  const listeners: Listener[] = []
  if (port !== 'off') {
    const server = net.createServer({ noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEPALIVE_MS }, (socket) => {
      accept(socket, context, onConnection, log)
    })
    listeners.push(await open(server, 'c2s', host, port))
  }
  if (tlsPort !== 'off') {
    const ALPNCallback = ({ protocols }: { protocols: string[] }) => chooseAlpn(protocols)
    const server = tls.createServer({ ...secure, ALPNCallback, handshakeTimeout: config.limits.loginTimeoutMs }, (socket) => {
      socket.setNoDelay(true)
      socket.setKeepAlive(true, KEEPALIVE_MS)
      accept(socket, undefined, onConnection, log)
    })
    server.on('tlsClientError', (error) => log.debug('tls.failed', { error: error.message }))
    listeners.push(await open(server, 'c2s (TLS)', host, tlsPort))
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

function accept(socket: net.Socket, context: tls.SecureContext | undefined, onConnection: OnConnection, log: Log): void {
  const connection = new TcpConnection(socket, context, log)
  connection.events = onConnection(connection)
}

class TcpConnection implements Connection, Flushable {
  readonly framing = 'stream'
  readonly address: string
  readonly loopback: boolean
  encrypted: boolean
  events!: ConnectionEvents
  #socket: net.Socket
  readonly #context: tls.SecureContext | undefined
  readonly #log: Log
  #pieces: (string | Uint8Array)[] = []
  #gatheredBytes = 0
  #gone = false
  readonly #onData = (bytes: Uint8Array): void => this.events.data(bytes)
  readonly #onGone = (): void => {
    if (this.#gone) return
    this.#gone = true
    this.events.closed()
  }

  constructor(socket: net.Socket, context: tls.SecureContext | undefined, log: Log) {
    this.#socket = socket
    this.#context = context
    this.#log = log
    this.address = socket.remoteAddress ?? ''
    this.loopback = isLoopback(this.address)
    this.encrypted = socket instanceof tls.TLSSocket
    this.#attach(socket)
  }

  #attach(socket: net.Socket): void {
    socket.on('data', this.#onData)
    socket.on('close', this.#onGone)
    socket.on('error', (error) => {
      this.#log.debug('connection.failed', { address: this.address, error: error.message })
      socket.destroy()
    })
    socket.on('end', () => {
      this.#onGone()
      socket.end()
    })
  }

  get canStartTls(): boolean {
    return !this.encrypted && this.#context !== undefined
  }

  get unsentBytes(): number {
    return this.#socket.writableLength + this.#gatheredBytes
  }

  write(head: string, body?: Uint8Array, tail?: string): void {
    if (this.#pieces.length === 0) flushAtTurnEnd(this)
    this.#pieces.push(head)
    this.#gatheredBytes += head.length
    if (body === undefined) return
    this.#pieces.push(body, tail!)
    this.#gatheredBytes += body.length
  }

  flush(): void {
    if (this.#pieces.length === 0) return
    const pieces = this.#pieces
    this.#pieces = []
    this.#gatheredBytes = 0
    if (this.#socket.writable) this.#socket.write(pieces.length === 1 && typeof pieces[0] === 'string' ? pieces[0] : join(pieces))
  }

  startTls(): void {
    this.flush()
    const plain = this.#socket
    plain.removeListener('data', this.#onData)
    plain.removeAllListeners('end')
    this.encrypted = true
    const secure = new tls.TLSSocket(plain, { isServer: true, secureContext: this.#context! })
    this.#socket = secure
    this.#attach(secure)
  }

  pause(): void {
    this.#socket.pause()
  }

  resume(): void {
    this.#socket.resume()
  }

  end(): void {
    this.flush()
    this.#socket.end()
    const { destroy } = this
    const timer = setTimeout(destroy.bind(this), CLOSE_TIMEOUT_MS)
    this.#socket.once('close', () => clearTimeout(timer))
    this.#socket.resume() // what still comes is read and dropped, so that the close is seen
  }

  destroy(): void {
    this.#socket.destroy()
  }
}

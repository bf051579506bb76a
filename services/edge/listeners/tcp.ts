// TCP: with STARTTLS on one port (RFC 6120 §5), TLS from the first byte on the other (XEP-0368).
//
// A connection is one object besides Node's own: the sockets find it by a property, so that no connection has functions of its
// own. Where a proxy speaks first (`c2s.proxyProtocol`), nothing of the stream is read before its header is.
//
// TLS begins when the client's hello is there, which saves most of what it costs. Whoever connects and says nothing holds 5
// KiB instead of 22; and the buffer that Node reads a client's TLS into is as large as the first piece it is given: 1 KiB
// for a piece of a hello, 64 for a socket that has still to be read. It grows to 16 for a client that sends much at once.
import net from 'node:net'
import tls from 'node:tls'
import { madeBuffer } from '#core/garbage.ts'
import { listenError } from '#core/listen-error.ts'
import { isLoopback, plainAddress } from '#core/network.ts'
import type { Door, Listener } from '../main.ts'
import { chooseAlpn } from './certificate.ts'
import type { Tls } from './certificates.ts'
import { type ChannelBindingType, CLOSE_TIMEOUT_MS, type Connection, type ConnectionEvents, type Piece } from './connection.ts'
import { type Flushable, flushAtTurnEnd, GATHERED_BYTES_MAX, join } from './gather.ts'
import { ProxyHeaderReader } from './proxy-protocol.ts'
import { bindingsOf, exporterOf, finishedOf, hostOf, NO_BINDINGS, verifiedCertificate } from './tls-facts.ts'

/** A dead peer is noticed by TCP itself, without traffic of ours. */
const KEEPALIVE_MS = 60_000
const BACKLOG = 4096

/** Listens on the plain and the TLS port of `config.c2s`, as far as they are on. */
export async function listenTcp(door: Door, host: string): Promise<Listener[]> {
  const { port, tlsPort } = door.config.c2s
  const listeners: Listener[] = []
  try {
    if (port !== 'off') listeners.push(await open(serve(door, false), 'c2s', host, port))
    if (tlsPort !== 'off') listeners.push(await open(serve(door, true), 'c2s (TLS)', host, tlsPort))
  } catch (error) {
    await Promise.all(listeners.map((listener) => listener.close()))
    throw error
  }
  return listeners
}

/** The system hands over one connection in a turn, so that a flood of them leaves the others their turns. */
function serve(door: Door, direct: boolean): net.Server {
  const { admission, config, onConnection } = door
  const proxied = config.c2s.proxyProtocol
  return net.createServer({ noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEPALIVE_MS }, (socket) => {
    const address = plainAddress(socket.remoteAddress ?? '')
    const taken = address !== '' && admission.admits() && (proxied ? admission.believes(address) : admission.enter(address))
    if (!taken) return void socket.resetAndDestroy()
    const connection = new TcpConnection(socket, address, door, direct)
    connection.events = onConnection(connection)
  })
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

/** The connection of a socket, and of the TLS inside of it. */
const OWNER = Symbol('connection')
type Socket = net.Socket & { [OWNER]: TcpConnection }

/** What comes next: the header of a proxy, a TLS hello, or the stream (inside of TLS, where there is one). */
type Awaited = 'header' | 'hello' | 'stream'

class TcpConnection implements Connection, Flushable {
  readonly framing = 'stream'
  address: string
  loopback: boolean
  encrypted = false
  clientCertificate: Connection['clientCertificate']
  events!: ConnectionEvents
  readonly #door: Door
  readonly #direct: boolean
  #socket: net.Socket
  #pieces: Piece[] = NONE
  #gatheredBytes = 0
  #gone = false
  /** While there is no way to say anything: a header of the proxy is awaited, or hands are shaken. */
  #mute: boolean
  /** Counted by its address. */
  #entered: boolean
  #awaited: Awaited
  #header: ProxyHeaderReader | undefined
  /** What our handshake was made with. */
  #tls: Tls | undefined
  /** Of the stream header that came before TLS; '' where none did. */
  #domain = ''
  #lingering: NodeJS.Timeout | undefined

  /** `direct`: TLS from the first byte (XEP-0368). The login timeout of the stream is the header's and the handshake's, too. */
  constructor(socket: net.Socket, address: string, door: Door, direct: boolean) {
    this.#socket = socket
    this.#door = door
    this.#direct = direct
    this.address = address
    this.loopback = isLoopback(address)
    const proxied = door.config.c2s.proxyProtocol
    this.#mute = proxied
    this.#entered = !proxied
    this.#header = proxied ? new ProxyHeaderReader() : undefined
    this.#awaited = proxied ? 'header' : 'stream'
    this.#own(socket)
    this.#read(socket)
    if (direct && !proxied) this.#awaitHello()
  }

  #own(socket: net.Socket): void {
    ;(socket as Socket)[OWNER] = this
    socket.on('close', onClose)
    socket.on('error', onError)
  }

  #read(socket: net.Socket): void {
    socket.on('data', onData)
    socket.on('end', onEnd)
  }

  #stopReading(): void {
    this.#socket.removeListener('data', onData)
    this.#socket.removeListener('end', onEnd)
  }

  // --- what the socket tells

  received(bytes: Uint8Array): void {
    madeBuffer(bytes)
    if (this.#awaited === 'stream') this.events.data(bytes)
    else if (this.#awaited === 'hello') this.#secure(bytes)
    else this.#takeHeader(this.#header!, bytes)
  }

  failed(message: string): void {
    this.#door.log.debug('connection.failed', { address: this.address, error: message })
    this.destroy()
  }

  /** What was written is sent; a peer that does not take it, or does not close, is cut off. */
  halfClosed(): void {
    this.#leave()
    this.#linger()
  }

  closed(): void {
    clearTimeout(this.#lingering)
    this.#pieces = NONE
    if (this.#entered) this.#door.admission.leave(this.address)
    this.#entered = false
    this.#leave()
  }

  /** TLS is up. */
  secured(socket: tls.TLSSocket): void {
    this.#mute = false
    if (this.#tls!.asksForCertificate) this.clientCertificate = verifiedCertificate(socket)
  }

  #leave(): void {
    if (this.#gone) return
    this.#gone = true
    this.events.closed()
  }

  #linger(): void {
    if (this.#mute) return this.destroy()
    this.#socket.end()
    this.#lingering ??= setTimeout(() => this.destroy(), CLOSE_TIMEOUT_MS)
    this.#socket.resume() // what still comes is read and dropped, so that the close is seen
  }

  // --- the header of a proxy

  #takeHeader(reader: ProxyHeaderReader, bytes: Uint8Array): void {
    const { admission, log } = this.#door
    let rest: Buffer | undefined
    try {
      rest = reader.push(bytes)
    } catch (error) {
      admission.refuse('proxy_header')
      log.debug('connection.refused', { address: this.address, error: (error as Error).message })
      return this.destroy()
    }
    if (rest === undefined) return
    const { address, local, tls } = reader.header!
    const trusted = admission.trusts(this.address)
    // A proxy on this machine forwards others; whose word is not to be trusted cannot make a client a local one, either.
    this.loopback = local ? this.loopback : trusted && address !== undefined && isLoopback(address)
    this.encrypted = tls && trusted && !this.#direct
    if (address !== undefined) this.address = address
    this.#header = undefined
    this.#entered = admission.enter(this.address)
    if (!this.#entered) return this.destroy()
    if (this.#direct) {
      this.#awaitHello()
    } else {
      this.#awaited = 'stream'
      this.#mute = false
    }
    if (rest.length > 0) this.received(rest)
  }

  // --- TLS

  /** From here on it counts as TLS: nothing more is said in the clear. */
  #awaitHello(): void {
    this.encrypted = true
    this.#mute = true
    this.#awaited = 'hello'
  }

  /** `hello`: the first bytes of it. */
  #secure(hello: Uint8Array): void {
    this.#stopReading()
    this.#socket.pause() // else what is put back would be read, and dropped, before TLS looks for it
    this.#socket.unshift(hello)
    this.#socket.read = readPiece
    const tlsNow = this.#door.certificates.tls
    const secure = new tls.TLSSocket(this.#socket, {
      isServer: true,
      ...tlsNow.shownFor(this.#domain),
      ...(tlsNow.asksForCertificate && { requestCert: true, rejectUnauthorized: false }),
      ...(this.#direct && { ALPNCallback: chooseAlpn }),
    })
    this.#awaited = 'stream'
    this.#tls = tlsNow
    this.#socket = secure
    secure.on('secure', onSecure)
    this.#own(secure)
    this.#read(secure)
  }

  startTls(domain: string): void {
    this.#domain = domain
    this.flush()
    this.#awaitHello()
  }

  get channelBindings(): readonly ChannelBindingType[] {
    const secure = this.#secureSocket
    return secure === undefined ? NO_BINDINGS : bindingsOf(secure, this.#endPointHash(secure))
  }

  channelBinding(type: ChannelBindingType): Uint8Array | undefined {
    const secure = this.#secureSocket
    if (secure === undefined) return undefined
    if (type === 'tls-unique') return finishedOf(secure)
    return type === 'tls-exporter' ? exporterOf(secure) : this.#endPointHash(secure)
  }

  /** While TLS of ours is up. */
  get #secureSocket(): tls.TLSSocket | undefined {
    return this.#tls === undefined || this.#mute || this.#gone ? undefined : (this.#socket as tls.TLSSocket)
  }

  #endPointHash(secure: tls.TLSSocket): Uint8Array | undefined {
    return this.#tls!.pairFor(hostOf(secure), this.#domain).endPointHash
  }

  get canStartTls(): boolean {
    return !this.encrypted
  }

  get unsentBytes(): number {
    return this.#socket.writableLength
  }

  write(head: Piece, body?: Piece, tail?: Piece): void {
    if (this.#gone) return
    if (this.#pieces.length === 0) {
      flushAtTurnEnd(this)
      this.#pieces = body === undefined ? [head] : [head, body, tail!] // most turns have one: it takes no more than it must
    } else if (body === undefined) this.#pieces.push(head)
    else this.#pieces.push(head, body, tail!)
    this.#gatheredBytes += head.length
    if (body !== undefined) this.#gatheredBytes += body.length + tail!.length
    if (this.#gatheredBytes > GATHERED_BYTES_MAX) this.flush()
  }

  flush(): void {
    if (this.#pieces.length === 0) return
    const pieces = this.#pieces
    this.#pieces = NONE
    this.#gatheredBytes = 0
    if (this.#awaited !== 'stream') return
    if (this.#socket.writable) this.#socket.write(pieces.length === 1 && typeof pieces[0] === 'string' ? pieces[0] : join(pieces))
  }

  broke(error: unknown): void {
    this.#door.log.error('connection.broke', { address: this.address, error })
    this.destroy()
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

/** Nothing is gathered. */
const NONE: Piece[] = []

function onData(this: net.Socket, bytes: Uint8Array): void {
  ;(this as Socket)[OWNER].received(bytes)
}

function onEnd(this: net.Socket): void {
  ;(this as Socket)[OWNER].halfClosed()
}

function onClose(this: net.Socket): void {
  ;(this as Socket)[OWNER].closed()
}

function onError(this: net.Socket, error: Error): void {
  ;(this as Socket)[OWNER].failed(error.message)
}

function onSecure(this: tls.TLSSocket): void {
  ;(this as unknown as Socket)[OWNER].secured(this)
}

/** Less than the KiB that Node begins with: one that is full would be given a second buffer, of 16. */
const HELLO_PIECE_BYTES = 1_000

/** What Node asks the socket below TLS for until nothing is left, and is given all of otherwise. */
function readPiece(this: net.Socket, size?: number): unknown {
  return net.Socket.prototype.read.call(this, size ?? Math.min(HELLO_PIECE_BYTES, this.readableLength))
}

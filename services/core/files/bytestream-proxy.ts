// The sockets of a bytestream proxy (XEP-0065 §6): SOCKS5 (RFC 1928) on one side, SOCKS5 on the other, bytes between them.
//
//   05 01 00                               ▶    no authentication, please
//                                          ◀    05 00
//   05 01 00 03 28 <40 hex digits> 00 00   ▶    to the stream of this name
//                                          ◀    05 00 00 03 28 <40 hex digits> 00 00
//
// The name is a hash that both ends know. Two who have given the same one wait, unread, until the stream is activated; who
// waits too long, or for a third, is closed. Then what one end writes the other gets, no faster than it takes it.
import { createServer, type Server, type Socket } from 'node:net'
import type { Clock, Timer } from '../clock.ts'
import { ConnectionCounts } from '../connections.ts'

export interface ProxyLimits {
  /** Of all: those that wait, and both ends of each stream. */
  readonly connectionsMax: number
  readonly perAddressMax: number
  /** Of one stream, both ways. */
  readonly streamBytesMax: number
}

/** To say what one wants; then until the stream is activated; then without a byte in either direction. */
const HELLO_MS = 10_000
const WAITING_MS = 120_000
const IDLE_MS = 300_000
const NAME_BYTES = 40
/** The longest greeting: 255 methods. */
const HELLO_BYTES_MAX = 257
const REQUEST_HEAD = Buffer.from([5, 1, 0, 3, NAME_BYTES])
/** RFC 1928 §3, §6: no method that we take; command not supported. */
const NO_METHOD = Buffer.from([5, 0xff])
const NO_COMMAND = Buffer.from([5, 7, 0, 1, 0, 0, 0, 0, 0, 0])

/** Connections that have given one name. */
interface Meeting {
  readonly ends: Socket[]
  readonly timer: Timer
}

export interface ProxyEvents {
  /** A stream has ended: whose it was, and what it carried. */
  ended(account: string, bytes: number): void
}

export class BytestreamProxy {
  readonly #clock: Clock
  readonly #limits: ProxyLimits
  readonly #events: ProxyEvents
  readonly #counts: ConnectionCounts
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  readonly #meetings = new Map<string, Meeting>()
  readonly #streams = new Map<string, number>()

  constructor(clock: Clock, limits: ProxyLimits, events: ProxyEvents) {
    this.#clock = clock
    this.#limits = limits
    this.#events = events
    this.#counts = new ConnectionCounts(limits.perAddressMax, [])
    this.#server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, (socket) => this.#admit(socket))
    this.#server.maxConnections = limits.connectionsMax
  }

  /** The port it got. Rejects where that is taken. Without an address: on all. */
  listen(port: number, address?: string): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen({ port, ...(address !== undefined && { host: address }) }, () => {
        this.#server.off('error', reject)
        this.#server.on('error', () => {}) // of one connection that could not be accepted
        resolve((this.#server.address() as { port: number }).port)
      })
    })
  }

  get connections(): number {
    return this.#sockets.size
  }

  /** Streams that an account has activated and that have not ended. */
  streamsOf(account: string): number {
    return this.#streams.get(account) ?? 0
  }

  /** Whether both ends of it are there. */
  isReady(name: string): boolean {
    return this.#meetings.get(name)?.ends.length === 2
  }

  /** Lets the bytes through (§6.3.5). It must be ready. */
  activate(name: string, account: string): void {
    const { ends, timer } = this.#meetings.get(name)!
    this.#clock.clearTimeout(timer)
    this.#meetings.delete(name)
    this.#streams.set(account, this.streamsOf(account) + 1)
    const [one, other] = ends as [Socket, Socket]
    let bytes = 0
    let seen = 0
    let open = 2
    const end = (): void => {
      one.resetAndDestroy() // so that nobody takes what he has had for the whole
      other.resetAndDestroy()
    }
    const idle = this.#clock.setInterval(() => {
      if (bytes === seen) end()
      seen = bytes
    }, IDLE_MS)
    const closed = (): void => {
      if (--open > 0) return
      this.#clock.clearTimeout(idle)
      const left = this.streamsOf(account) - 1
      if (left > 0) this.#streams.set(account, left)
      else this.#streams.delete(account)
      this.#events.ended(account, bytes)
    }
    for (const [from, to] of [
      [one, other],
      [other, one],
    ] as const) {
      from.on('data', (chunk: Buffer) => {
        bytes += chunk.length
        if (bytes > this.#limits.streamBytesMax) end()
      })
      from.pipe(to) // its end, too: a file has one
      from.once('close', (hadError: boolean) => {
        if (hadError || !from.readableEnded) to.resetAndDestroy()
        closed()
      })
    }
  }

  /** Ends all streams, too. */
  async stop(): Promise<void> {
    const closed = new Promise<void>((resolve) => {
      if (this.#server.listening) this.#server.close(() => resolve())
      else resolve()
    })
    for (const { timer } of this.#meetings.values()) this.#clock.clearTimeout(timer)
    this.#meetings.clear()
    for (const socket of this.#sockets) socket.destroy()
    await closed
  }

  #admit(socket: Socket): void {
    const { remoteAddress: address = '' } = socket
    socket.on('error', () => {}) // 'close' follows
    if (!this.#counts.enter(address)) return void socket.resetAndDestroy()
    this.#sockets.add(socket)
    const late = this.#clock.setTimeout(() => socket.destroy(), HELLO_MS)
    socket.once('close', () => {
      this.#clock.clearTimeout(late)
      this.#sockets.delete(socket)
      this.#counts.leave(address)
    })
    let had: Buffer = Buffer.alloc(0)
    let greeted = false
    /** The connection ends with this; what else comes is not looked at. */
    const refuse = (answer: Buffer): void => {
      socket.off('data', read)
      socket.end(answer)
      socket.resume()
    }
    const read = (chunk: Buffer): void => {
      had = had.length === 0 ? chunk : Buffer.concat([had, chunk])
      if (!greeted) {
        const size = greetingSize(had)
        if (size === 0) return
        if (size < 0) return refuse(NO_METHOD)
        had = had.subarray(size)
        greeted = true
        socket.write(Buffer.from([5, 0]))
      }
      const name = requestedName(had)
      if (name === undefined) return
      if (name === '') return refuse(NO_COMMAND)
      socket.off('data', read)
      socket.off('end', gone)
      socket.pause()
      this.#clock.clearTimeout(late)
      this.#meet(socket, name, had.subarray(REQUEST_HEAD.length + NAME_BYTES + 2))
    }
    const gone = (): void => void socket.destroy() // it has asked for nothing, and never will
    socket.on('data', read)
    socket.on('end', gone)
    socket.resume()
  }

  /** A third of one name is refused: it knows what it should not. */
  #meet(socket: Socket, name: string, early: Buffer): void {
    const known = this.#meetings.get(name)
    if (known !== undefined && known.ends.length === 2) return void socket.end(reply(2, name)) // not allowed
    if (early.length > 0) socket.unshift(early)
    const meeting = known ?? { ends: [], timer: this.#clock.setTimeout(() => this.#giveUp(name), WAITING_MS) }
    this.#meetings.set(name, meeting)
    meeting.ends.push(socket)
    socket.once('close', () => {
      if (this.#meetings.get(name) === meeting) this.#giveUp(name)
    })
    socket.write(reply(0, name))
  }

  #giveUp(name: string): void {
    const meeting = this.#meetings.get(name)
    if (meeting === undefined) return
    this.#meetings.delete(name)
    this.#clock.clearTimeout(meeting.timer)
    for (const end of meeting.ends) end.destroy()
  }
}

/** RFC 1928 §3. 0: more has to come. -1: not SOCKS5, or not without authentication. */
function greetingSize(had: Buffer): number {
  if (had.length > 0 && had[0] !== 5) return -1
  if (had.length < 2 || had.length < 2 + had[1]!) return had.length > HELLO_BYTES_MAX ? -1 : 0
  const size = 2 + had[1]!
  return had.subarray(2, size).includes(0) ? size : -1
}

/** RFC 1928 §4, XEP-0065 §10.2: undefined while more has to come, '' for what is no request for a stream. */
function requestedName(had: Buffer): string | undefined {
  const head = had.subarray(0, REQUEST_HEAD.length)
  if (!head.equals(REQUEST_HEAD.subarray(0, head.length))) return ''
  if (had.length < REQUEST_HEAD.length + NAME_BYTES + 2) return undefined
  const name = had.toString('latin1', REQUEST_HEAD.length, REQUEST_HEAD.length + NAME_BYTES).toLowerCase()
  const isPortZero = had.readUInt16BE(REQUEST_HEAD.length + NAME_BYTES) === 0
  return isPortZero && /^[0-9a-f]{40}$/.test(name) ? name : ''
}

/** RFC 1928 §6, XEP-0065 §10.2: with the address that was asked for. */
function reply(code: number, name: string): Buffer {
  return Buffer.concat([Buffer.from([5, code, 0, 3, NAME_BYTES]), Buffer.from(name, 'latin1'), Buffer.from([0, 0])])
}

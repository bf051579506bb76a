// What both WebSocket drivers do alike: the rules they check by, and a connection that gathers frames.

import type { Door } from '../main.ts'
import type { Connection, ConnectionEvents, Piece } from './connection.ts'
import { type Flushable, flushAtTurnEnd, GATHERED_BYTES_MAX, join } from './gather.ts'

/** What both drivers are given. */
export interface WebSocketOptions {
  readonly door: Door
  readonly host: string
  readonly port: number
  readonly path: string
  /** With the certificates of the door. */
  readonly tls: boolean
  /** Who is at the other end, from the address of the connection and the headers of its request. */
  clientOf(peer: string, header: (name: string) => string): WebSocketClient
  /** From connecting to a whole request, TLS included. */
  readonly handshakeMs: number
  readonly frameBytesMax: number
  readonly frameBytesMaxBeforeLogin: number
  /** Unsent bytes of one connection before its stream ends: the driver's own buffer must hold as much. */
  readonly unsentBytesMax: number
}

export interface WebSocketClient {
  readonly address: string
  readonly loopback: boolean
  readonly encrypted: boolean
  /** Nothing is known of a proxy in between, so TLS of ours is TLS with the client. */
  readonly direct: boolean
}

/** RFC 7395 §3.1. */
export const SUBPROTOCOL = 'xmpp'
/** Pings keep proxies from closing idle connections, and tell a dead peer from a silent one. */
export const PING_INTERVAL_S = 30
export const IDLE_TIMEOUT_S = 120
/** RFC 6455 §7.4.1. */
export const CLOSE = { normal: 1000, unsupportedData: 1003, policy: 1008 } as const
/** Pings and pongs a client may send in this time: they never reach its stream, and each ping is answered. */
const CONTROL_FRAMES_MAX = 100
const CONTROL_WINDOW_MS = 10_000
/** RFC 7395 §3.3: text, and nothing else. */
const TEXT_ONLY = 'XMPP is text (RFC 7395)'

/** What a request that cannot be upgraded is answered with. */
export const REFUSED = {
  path: ['404 Not Found', 'there is nothing here\n'],
  upgrade: ['426 Upgrade Required', 'this port speaks XMPP over WebSocket (RFC 7395)\n'],
  subprotocol: ['400 Bad Request', 'the subprotocol xmpp is spoken here (RFC 7395)\n'],
  full: ['503 Service Unavailable', 'too many connections\n'],
} as const

/** RFC 6455 §4.1: the client's list of subprotocols. */
export function offersXmpp(protocols: string): boolean {
  return protocols.split(',').some((protocol) => protocol.trim() === SUBPROTOCOL)
}

/** A connection but for its socket. Its client has been let in (`admission.enter`). */
export abstract class FrameConnection implements Connection, Flushable {
  readonly framing = 'frame'
  readonly address: string
  readonly loopback: boolean
  readonly encrypted: boolean
  readonly canStartTls = false
  events!: ConnectionEvents
  protected readonly door: Door
  #frames: (string | Buffer)[] = []
  #gatheredBytes = 0
  #gone = false
  #controlFrames = 0
  #controlSinceMs = 0

  constructor(client: WebSocketClient, door: Door) {
    this.door = door
    this.address = client.address
    this.loopback = client.loopback
    this.encrypted = client.encrypted
  }

  abstract get unsentBytes(): number
  abstract pause(): void
  abstract resume(): void
  abstract destroy(): void
  /** Offers the frames to the socket, as one write. */
  protected abstract send(frames: readonly (string | Buffer)[]): void
  /** RFC 6455 §7.1.2. */
  protected abstract close(code: number, reason?: string): void

  /** Nothing more is written, and `closed` has been told. */
  protected get gone(): boolean {
    return this.#gone
  }

  protected leave(): void {
    if (this.#gone) return
    this.#gone = true
    this.#frames = []
    this.door.admission.leave(this.address)
    this.events.closed()
  }

  /** A ping or a pong has come. */
  controlled(): void {
    const nowMs = performance.now()
    if (nowMs - this.#controlSinceMs > CONTROL_WINDOW_MS) {
      this.#controlSinceMs = nowMs
      this.#controlFrames = 0
    }
    if (++this.#controlFrames > CONTROL_FRAMES_MAX && !this.#gone) this.close(CLOSE.policy, 'too many pings')
  }

  refuseBinary(): void {
    if (!this.#gone) this.close(CLOSE.unsupportedData, TEXT_ONLY)
  }

  write(head: Piece, body?: Piece, tail?: Piece): void {
    if (this.#gone) return
    if (this.#frames.length === 0) flushAtTurnEnd(this)
    const frame = body !== undefined ? join([head, body, tail!]) : typeof head === 'string' ? head : join([head])
    this.#frames.push(frame)
    this.#gatheredBytes += frame.length
    if (this.#gatheredBytes > GATHERED_BYTES_MAX) this.flush()
  }

  flush(): void {
    const frames = this.#frames
    if (this.#gone || frames.length === 0) return
    this.#frames = []
    this.#gatheredBytes = 0
    this.send(frames)
  }

  broke(error: unknown): void {
    this.door.log.error('connection.broke', { address: this.address, error })
    this.destroy()
  }

  startTls(): void {
    throw new Error('a WebSocket has no STARTTLS')
  }

  end(): void {
    this.flush()
    if (!this.#gone) this.close(CLOSE.normal)
  }
}

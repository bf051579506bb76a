// What a stream needs of whatever carries its bytes: TCP, TLS or WebSocket. No XMPP in it.

/** No connection is given more unsent bytes than this many times `limits.writeBufferBytes`. */
export const UNSENT_FACTOR = 4
/** A peer that does not close its side of what was closed, or does not answer the close, is cut off after this. */
export const CLOSE_TIMEOUT_MS = 5_000

/** Text, or bytes of it. */
export type Piece = string | Uint8Array

export interface Connection {
  /** `stream`: one document, RFC 6120 §4. `frame`: one document a message, RFC 7395 §3.3. */
  readonly framing: 'stream' | 'frame'
  /** The peer's address, without port. */
  readonly address: string
  readonly loopback: boolean
  /** By TLS of ours, or of a trusted proxy's. */
  readonly encrypted: boolean
  /** True where STARTTLS can be offered. */
  readonly canStartTls: boolean
  /**
   * One frame, or a piece of the stream: `head`, then `body`, then `tail`. Gathered with what else this turn has for
   * the connection, up to a bound (edge/listeners/gather.ts). Bytes may be shared with other connections and are not changed.
   */
  write(head: Piece, body?: Piece, tail?: Piece): void
  /** Bytes that were offered to the socket and that it has not taken: the kernel's buffers are full. Nothing that is still gathered. */
  readonly unsentBytes: number
  /** Those that are offered (XEP-0440), the best first: `channelBinding` tells of each. None where there is no TLS of ours. */
  readonly channelBindings?: readonly ChannelBindingType[]
  /**
   * What ties a login to this very connection, so that nobody in the middle can pass it on: RFC 9266 §2, RFC 5929 §4.1.
   * Undefined where there is no TLS of ours, or TLS too old for it.
   */
  channelBinding?(type: ChannelBindingType): Uint8Array | undefined
  /** The client's, where it has shown one that `tls.clientCa` vouches for: the JIDs it names (XEP-0178 §2). Known once TLS is up. */
  readonly clientCertificate?: { readonly xmppAddrs: readonly string[] } | undefined
  /**
   * Begins TLS on what was a plain connection; the bytes that follow are the client's hello. `domain`: of the stream, for a
   * client that names no host in it (RFC 6120 §5.4.3.1).
   */
  startTls(domain: string): void
  /** Reads no more until `resume`. */
  pause(): void
  resume(): void
  /** Sends what is gathered, then closes; destroys what does not close in CLOSE_TIMEOUT_MS. */
  end(): void
  /** Closes at once. */
  destroy(): void
}

/** `tls-unique` is not offered (edge/listeners/tls-facts.ts, finishedOf). */
export type ChannelBindingType = 'tls-exporter' | 'tls-server-end-point' | 'tls-unique'

/** What the connection tells its stream. */
export interface ConnectionEvents {
  /** How far the stream is: `open` and `negotiating` come before the login. */
  readonly state?: string
  /** Bytes of the stream in any cut, or one whole frame. Valid only during the call. */
  data(bytes: Uint8Array): void
  /** Gone, for whatever reason. Told once. */
  closed(): void
}

/** Nobody has logged in on it yet. */
export function isStranger({ state }: ConnectionEvents): boolean {
  return state === 'open' || state === 'negotiating'
}

/** Makes the stream for a new connection. */
export type OnConnection = (connection: Connection) => ConnectionEvents

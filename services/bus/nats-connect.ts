// From options to a NATS connection: who we say we are, whom we believe, and what a first try that failed says.
//
// At the start the servers are tried one after the other, each once, in random order, so that processes spread over them. A
// server that cannot carry the longest body counts as one that cannot be reached: the first such body would fail hours later.
import { readFileSync } from 'node:fs'
import {
  type Authenticator,
  AuthorizationError,
  credsAuthenticator,
  type NatsConnection,
  NatsConnectionImpl,
  nkeyAuthenticator,
  TimeoutError,
} from '@nats-io/transport-node'
import { BODY_BYTES_MAX } from './bus.ts'
import { type TransportOptions, useBusTransport } from './nats-transport.ts'

export interface NatsServers {
  /** `nats://host:port` or `tls://host:port`. From one that stands alone, the others of its cluster are learnt. */
  readonly servers: readonly string[]
  /** What `nats server report connections` shows. */
  readonly name?: string
  /** Files, PEM. TLS is used where one is given, or where a server is `tls://`. */
  readonly tls?: { readonly ca?: string; readonly cert?: string; readonly key?: string }
  /** A file: the credentials that `nsc` or `nats auth` writes (JWT and seed), or the seed of an nkey alone. */
  readonly credentials?: string
  readonly user?: string
  readonly password?: string
  readonly token?: string
}

/** A server that has not spoken NATS by then is not there. */
const DIAL_TIMEOUT_MS = 3000
/** A peer that has answered no ping for three of these is gone. */
export const PING_INTERVAL_MS = 2000
const PINGS_UNANSWERED_MAX = 2
/** Each server is tried again after so long, and up to as much again. */
const RECONNECT_WAIT_MS = 250

/** Throws Error, in one line: which servers were tried, why each failed, and what would help. */
export async function connectToNats(options: NatsServers, onTransport: TransportOptions['onTransport']): Promise<NatsConnection> {
  if (options.servers.length === 0) throw new Error('no NATS server is named: set bus.servers, such as [nats://127.0.0.1:4222]')
  const given = connectionOptions(options)
  const failures: { server: string; error: unknown }[] = []
  useBusTransport()
  for (const server of shuffled(options.servers)) {
    try {
      const connection = await NatsConnectionImpl.connect({ ...given, onTransport, servers: [server] } as TransportOptions)
      const tooSmall = whyTooSmall(connection)
      if (tooSmall === undefined) {
        if (options.servers.length > 1) connection.setServers([...options.servers])
        return connection
      }
      await connection.close()
      failures.push({ server, error: new Error(tooSmall) })
    } catch (error) {
      failures.push({ server, error })
    }
  }
  const reasons = failures.map(({ server, error }) => `${server}: ${reasonOf(error, given)}`)
  const cause = failures.length === 1 ? failures[0]!.error : new AggregateError(failures.map(({ error }) => error))
  throw new Error(`no NATS server of bus.servers can be used: ${reasons.join('; ')}. ${adviceOn(failures)}`, { cause })
}

/** Undefined where the server that we are connected to takes the longest body. */
export function whyTooSmall(connection: NatsConnection): string | undefined {
  const bytesMax = connection.info?.max_payload ?? BODY_BYTES_MAX
  if (bytesMax >= BODY_BYTES_MAX) return undefined
  return `its max_payload is ${bytesMax} bytes; it must be at least ${BODY_BYTES_MAX}, NATS's own default`
}

function connectionOptions(options: NatsServers): TransportOptions {
  const { ca, cert, key } = options.tls ?? {}
  const files = { ...(ca && { caFile: ca }), ...(cert && { certFile: cert }), ...(key && { keyFile: key }) }
  const secure = Object.keys(files).length > 0 || options.servers.some((server) => server.startsWith('tls://'))
  return {
    name: options.name ?? 'rookery',
    ...(secure && { tls: files }),
    ...(options.credentials !== undefined && { authenticator: authenticatorOf(options.credentials) }),
    ...(options.user !== undefined && { user: options.user, pass: options.password ?? '' }),
    ...(options.token !== undefined && { token: options.token }),
    timeout: DIAL_TIMEOUT_MS,
    pingInterval: PING_INTERVAL_MS,
    maxPingOut: PINGS_UNANSWERED_MAX,
    reconnectTimeWait: RECONNECT_WAIT_MS,
    reconnectJitter: RECONNECT_WAIT_MS,
    reconnectJitterTLS: RECONNECT_WAIT_MS,
    maxReconnectAttempts: -1, // for ever
    ignoreAuthErrorAbort: true, // also where credentials are refused: they may be put right over there
  }
}

/** The file is read again for each connection, so that it can be changed; one that is then unreadable leaves what was last read. */
function authenticatorOf(file: string): Authenticator {
  const wrong = (cause: unknown) =>
    new Error(`bus.credentials is ${JSON.stringify(file)}, which cannot be used: ${(cause as Error).message}`, { cause })
  let known: Authenticator
  try {
    known = parseCredentials(readFileSync(file))
  } catch (error) {
    throw wrong(error)
  }
  return (nonce) => {
    try {
      known = parseCredentials(readFileSync(file))
    } catch {
      // Somebody is writing it just now. If it stays so, the server says what it thinks of the old ones.
    }
    return known(nonce)
  }
}

/** Throws Error where it holds neither. */
function parseCredentials(bytes: Buffer): Authenticator {
  const text = bytes.toString('utf8').trim()
  const authenticator = text.includes('-----BEGIN NATS USER JWT-----')
    ? credsAuthenticator(bytes)
    : nkeyAuthenticator(Buffer.from(text))
  try {
    authenticator('nonce')
  } catch (cause) {
    throw new Error('it holds neither a NATS user JWT with its seed, nor the seed of an nkey (SU…)', { cause })
  }
  return authenticator
}

function reasonOf(error: unknown, { tls }: TransportOptions): string {
  if (error instanceof TimeoutError) {
    // Of TLS 1.3, the client's side is done before the server asks for what is missing; then it just hangs up.
    const hint = tls && !tls.certFile ? ' (it may want a certificate of ours: bus.tls.cert)' : ''
    return `no answer within ${DIAL_TIMEOUT_MS / 1000} s${hint}`
  }
  if (error instanceof AuthorizationError) return `it refuses who we say we are (${error.message})`
  const { message = String(error) } = (error ?? {}) as Partial<Error>
  if (message.includes('undefined error') || message === '') return 'it closed the connection'
  if (message === 'unexpected response from server') return 'what answers there is not NATS'
  return message.replaceAll(/\s*\n\s*/g, ' ')
}

/** What would help most: a server that is there and refuses us is nearer to working than one that is not. */
function adviceOn(failures: readonly { error: unknown }[]): string {
  if (failures.some(({ error }) => error instanceof AuthorizationError))
    return 'Set bus.credentials, bus.user and bus.password, or bus.token to what the server knows.'
  if (failures.some(({ error }) => /max_payload/.test(String(error))))
    return "Set max_payload: 1MB in the server's configuration."
  return 'Start one with `nats-server -a 127.0.0.1` (scripts/nats-server.sh tells where it is), or correct bus.servers.'
}

function shuffled(servers: readonly string[]): string[] {
  const order = [...servers]
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1))
    ;[order[i], order[j]] = [order[j]!, order[i]!]
  }
  return order
}

// The edge: where connections become sessions, and deliveries become bytes on sockets.
//
// It holds no hard state. What a client sends goes on a lane to the owner of its account; what comes for it arrives
// as a multicast and is written in this turn's one write per socket.
import { randomBytes } from 'node:crypto'
import { type Caller, openCaller } from '#core/call.ts'
import type { Clock } from '#core/clock.ts'
import type { Config } from '#core/config.ts'
import { type Delivery, decodeStanza, encodeStanza } from '#core/envelope.ts'
import { IqHomes } from '#core/iq.ts'
import { type Lanes, openLanes } from '#core/lane.ts'
import type { Log } from '#core/log.ts'
import type { AnyModule, ServerFacts } from '#core/module.ts'
import { receiveMulticast } from '#core/multicast.ts'
import type { Process, RunningRole } from '#core/process.ts'
import { decodeCredentials, fakeCredentials } from '#core/scram-keys.ts'
import { traceOn } from '#core/trace.ts'
import { StanzaError, StreamError } from '#xmpp/error.ts'
import { type Jid, makeJid, parseJid, prepareDomain } from '#xmpp/jid.ts'
import type { ScanLimits } from '#xmpp/scan.ts'
import type { Stanza } from '#xmpp/stanza.ts'
import type { CertificatePair } from './certificate.ts'
import type { OnConnection } from './connection.ts'
import type { SaslServer } from './sasl/mechanism.ts'
import type { EdgeSession } from './session.ts'
import { ClientStream } from './stream.ts'
import { listenTcp } from './tcp.ts'
import { listenWebSocket } from './websocket.ts'

/** What a stream needs of the edge it runs on. */
export interface Edge {
  readonly id: string
  readonly clock: Clock
  readonly log: Log
  readonly lanes: Lanes
  readonly homes: IqHomes
  readonly modules: readonly AnyModule[]
  readonly server: ServerFacts
  readonly c2s: Config['c2s']
  readonly limits: Config['limits']
  readonly domains: readonly string[]
  readonly scanLimits: ScanLimits
  readonly scanLimitsBeforeLogin: ScanLimits
  readonly sessions: Map<string, EdgeSession>
  /** What came for sessions that are being bound: their owner knows them a moment before we do. */
  readonly early: Map<string, Delivery[]>
  readonly streams: Set<ClientStream>
  /** Those of them that have not taken what they were sent (edge/stream.ts), looked at once a second. */
  readonly lagging: Set<ClientStream>
  /** Sessions whose streams are gone and whose owners are still to be told. */
  readonly leaving: Set<EdgeSession>
  /** The domain of ours that a stream header's `to` names, prepared; undefined where it is none. */
  domainOf(to: string): string | undefined
  saslServer(domain: string, address: string): SaslServer
  /** Never rejects with a StanzaError: tells it. */
  bind(account: Jid, session: string, resource: string): Promise<Jid | StanzaError>
  askAsStranger(iq: Stanza, address: string): Promise<Stanza>
  countFailure(condition: string): void
}

/** Streams closed in one turn when the edge stops, so that a large edge does not stall itself. */
const CLOSED_PER_TURN = 500
/** What the last stanzas of the streams that are closed may take to be handled. */
const LEAVING_MS_MAX = 5_000
/** Deliveries to a session that is being bound; what comes on top is lost, as if it had come before the bind. */
const EARLY_MAX = 1_000

const SPAN_FIELDS = { role: 'edge' }

export interface RunningEdge extends RunningRole {
  /** What it listens on, for the log and for people. */
  readonly listeners: readonly Listener[]
}

export interface Listener {
  readonly name: 'c2s' | 'c2s (TLS)' | 'websocket'
  readonly host: string
  readonly port: number
  /** uWebSockets.js or ws, of a WebSocket listener. */
  readonly driver?: string
  close(): Promise<void>
}

/** Opens the listeners last, when everything behind them answers. Throws Error that names a port which is taken. */
export async function startEdge(process: Process, certificate: CertificatePair): Promise<RunningEdge> {
  const { config } = process
  const { edge, onConnection, close } = openEdge(process)
  const listeners: Listener[] = []
  try {
    for (const host of config.listen) {
      listeners.push(...(await listenTcp(config, host, certificate, onConnection, edge.log)))
      listeners.push(...(await listenWebSocket(config, host, certificate, onConnection, edge.log)))
    }
  } catch (error) {
    await Promise.all([close(), ...listeners.map((listener) => listener.close())])
    throw error
  }
  return {
    name: 'edge',
    listeners,
    async stop() {
      const closing = listeners.map((listener) => listener.close()) // at once: nobody new comes in
      await close()
      await Promise.all(closing)
    },
  }
}

/** An edge without listeners. */
export interface OpenEdge {
  readonly edge: Edge
  readonly onConnection: OnConnection
  /** RFC 6120 §4.9.3.22: streams end with system-shutdown, and their owners hear of it before this resolves. */
  close(): Promise<void>
}

export function openEdge(process: Process): OpenEdge {
  const edge = makeEdge(process)
  const { clock } = edge
  const deliveries = receiveMulticast(process.bus, process.id, (delivery) => deliver(edge, delivery), edge.log)
  const sessions = process.metrics.gauge('edge_sessions', 'Sessions bound on this edge.')
  const streams = process.metrics.gauge('edge_streams', 'Open streams on this edge, logged in or not.')
  const timer = clock.setInterval(() => {
    sessions.set(edge.sessions.size)
    streams.set(edge.streams.size)
    for (const stream of edge.lagging) stream.checkLag()
  }, 1_000)
  let closing = false

  return {
    edge,
    onConnection(connection) {
      const stream = new ClientStream(edge, connection)
      edge.streams.add(stream)
      if (closing) queueMicrotask(() => stream.fail(new StreamError('system-shutdown')))
      return stream
    },
    async close() {
      closing = true
      let closed = 0
      for (const stream of [...edge.streams]) {
        stream.fail(new StreamError('system-shutdown'))
        if (++closed % CLOSED_PER_TURN === 0) await turn()
      }
      const deadline = clock.monotonic() + LEAVING_MS_MAX
      do await turn()
      while (edge.leaving.size > 0 && clock.monotonic() < deadline)
      clock.clearTimeout(timer)
      deliveries.close()
      edge.lanes.close()
    },
  }
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

function makeEdge(process: Process): Edge {
  const { bus, config, ownership, clock, metrics } = process
  const log = process.log.child({ role: 'edge' })
  const caller = openCaller(bus, ownership)
  const lanes = openLanes(bus, ownership, `edge${process.id}`, log)
  const { limits } = config
  const failures = metrics.counter('stream_errors_total', 'Streams ended with a stream error (RFC 6120 §4.9), by condition.', [
    'condition',
  ])
  const scan = {
    depth: limits.depth,
    attributes: limits.attributes,
    elements: limits.elements,
    namespaceBytes: limits.namespaceBytes,
  }
  return {
    id: process.id,
    clock,
    log,
    lanes,
    homes: new IqHomes(process.modules),
    modules: process.modules,
    server: process.server,
    c2s: config.c2s,
    limits,
    domains: config.domains,
    scanLimits: { ...scan, stanzaBytes: limits.stanzaBytes },
    scanLimitsBeforeLogin: { ...scan, stanzaBytes: limits.stanzaBytesBeforeLogin },
    sessions: new Map(),
    early: new Map(),
    streams: new Set(),
    lagging: new Set(),
    leaving: new Set(),
    domainOf: domainFinder(config.domains),
    saslServer: saslServers(caller, config.scram.iterations, log),
    bind: (account, session, resource) => bind({ caller, lanes, log, edge: process.id }, account, session, resource),
    askAsStranger: async (iq, address) =>
      decodeStanza(await caller.ask('router', iq.to!.bare, 'iq.stranger', { stanza: encodeStanza(iq), address })),
    countFailure: (condition) => failures.labels(condition).inc(),
  }
}

function domainFinder(domains: readonly string[]): Edge['domainOf'] {
  const byName = new Map(domains.map((domain) => [domain, domain]))
  return (to) => {
    const known = byName.get(to)
    if (known !== undefined) return known
    try {
      return byName.get(prepareDomain(to))
    } catch {
      return undefined
    }
  }
}

function saslServers(caller: Caller, iterations: number, log: Log): Edge['saslServer'] {
  // Of this start: an account that does not exist has the same salt at every try, and another after a restart is no sign either way.
  const secret = randomBytes(32)
  return (domain, address) => ({
    domain,
    async credentials(localpart) {
      const stored = await caller.ask('router', makeJid(localpart, domain).bare, 'account.credentials', {})
      return stored === null ? undefined : decodeCredentials(stored)
    },
    fake: (localpart) => fakeCredentials(secret, `${localpart}@${domain}`, iterations),
    onFailure: ({ mechanism, condition, cause }) =>
      log.info('login.failed', { mechanism, condition, address, ...(cause !== undefined && { cause }) }),
  })
}

interface Binding {
  readonly caller: Caller
  readonly lanes: Lanes
  readonly log: Log
  readonly edge: string
}

async function bind({ caller, lanes, log, edge }: Binding, account: Jid, session: string, resource: string) {
  try {
    const full = await caller.ask('router', account.bare, 'session.bind', { edge, session, resource })
    log.info('session.bound', { jid: full })
    return parseJid(full)
  } catch (error) {
    // Where the answer is what failed, it may be bound there all the same.
    const signal = { kind: 'signal', account: account.bare, name: 'session.closed', fields: { session, resource } } as const
    lanes.send('router', account.bare, signal)
    if (error instanceof StanzaError) return error
    throw error
  }
}

/** To the sockets, of whatever sessions it is for. */
function deliver(edge: Edge, delivery: Delivery): void {
  if (delivery.kind === 'stanza')
    return traceOn('stanza.delivered', delivery.stanza, SPAN_FIELDS, () => deliverStanza(edge, delivery))
  const session = edge.sessions.get(delivery.session)
  if (session !== undefined) session.receive(delivery)
  else keep(edge, delivery.session, delivery)
}

function deliverStanza(edge: Edge, delivery: Delivery & { readonly kind: 'stanza' }): void {
  const { sessions, stanza, to } = delivery
  for (let i = 0; i < sessions.length; i++) {
    const session = edge.sessions.get(sessions[i]!)
    if (session !== undefined) session.deliver(stanza, to)
    else keep(edge, sessions[i]!, delivery)
  }
}

function keep(edge: Edge, session: string, delivery: Delivery): void {
  const early = edge.early.get(session)
  if (early !== undefined && early.length < EARLY_MAX) early.push(delivery)
}

// The edge: where connections become sessions, and deliveries become bytes on sockets.
//
// It holds no hard state. What a client sends goes on a lane to the owner of its account; what comes for it arrives
// as a multicast and is written in this turn's one write per socket.
import { setImmediate as turn } from 'node:timers/promises'
import { type Caller, openCaller, type Told } from '#core/call.ts'
import type { Clock } from '#core/clock.ts'
import { decodeStanza, encodeStanza, type SessionDelivery } from '#core/envelope.ts'
import { IqHomes } from '#core/iq.ts'
import { type Lanes, openLanes } from '#core/lanes/lane.ts'
import type { AnyModule, ServerFacts } from '#core/module.ts'
import type { Log } from '#core/observing/log.ts'
import type { Counter } from '#core/observing/metrics.ts'
import { type Ownership, partitionOf } from '#core/ownership/ownership.ts'
import type { ConnectionFacts } from '#core/ownership/registry.ts'
import type { Process, RunningRole } from '#core/process.ts'
import type { Config } from '#core/settings/config.ts'
import { type Auth, accountsAuth } from '#core/storage/auth.ts'
import { StanzaError, StreamError } from '#xmpp/error.ts'
import { type Jid, parseJid, prepareDomain } from '#xmpp/jid.ts'
import type { ScanLimits } from '#xmpp/scan.ts'
import type { Stanza } from '#xmpp/stanza.ts'
import { Admission } from './listeners/admission.ts'
import type { Tls } from './listeners/certificates.ts'
import { isStranger, type OnConnection } from './listeners/connection.ts'
import { listenTcp } from './listeners/tcp.ts'
import { listenWebSocket } from './listeners/websocket.ts'
import { Moves } from './moving/moves.ts'
import { answerResyncs, endSessions } from './resync.ts'
import { Guesses } from './sasl/guesses.ts'
import type { SaslServer } from './sasl/mechanism.ts'
import { Offers } from './sasl/offer.ts'
import type { EdgeSession } from './sessions/session.ts'
import { EndedSessions } from './sessions/stream-management.ts'
import { Wheel } from './sessions/wheel.ts'
import { Debtors, pacesOf } from './streams/rate.ts'
import { ClientStream } from './streams/stream.ts'
import { Turns } from './streams/turns.ts'
import { Capabilities } from './watching/caps.ts'
import { receiveDeliveries } from './watching/deliveries.ts'
import { Watching } from './watching/watching.ts'

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
  /** What waits for seconds: streams and sessions. */
  readonly wheel: Wheel
  /** With those that have no stream at the moment. */
  readonly sessions: Map<string, EdgeSession>
  /** Those that a stream may take over, by their id of XEP-0198, and how much of those that have ended was handled. */
  readonly resumables: Map<string, EdgeSession>
  readonly ended: EndedSessions
  /** Those that have no stream, and wait for one. */
  readonly detached: Set<EdgeSession>
  /** Those that wait for an acknowledgement or owe one (XEP-0198 §4), looked at once a second. */
  readonly watched: Set<EdgeSession>
  /** What came for sessions that are being bound: their owner knows them a moment before we do. */
  readonly early: Map<string, SessionDelivery[]>
  /**
   * Whether is kept that a session sees this by directed presence (edge/sessions/showing.ts): of accounts, whose broadcasts may follow;
   * where owners may die, of all, for new ones want to know.
   */
  notesSeen(from: Jid): boolean
  /** Of the clients here (XEP-0115). */
  readonly capabilities: Capabilities<EdgeSession>
  /** Presence that was not sent because its client was inactive (XEP-0352). */
  readonly heldBack: Counter
  /** Who sees whom. */
  readonly watching: Watching
  /** Sessions that come from other edges, and go there. */
  readonly moves: Moves
  readonly streams: Set<ClientStream>
  /** Those of them that have not taken what they were sent (edge/streams/stream.ts), looked at once a second. */
  readonly lagging: Set<ClientStream>
  /** How fast a stream is read, and those that are not read from because they were faster (edge/streams/rate.ts). */
  readonly paces: ReturnType<typeof pacesOf>
  readonly debtors: Debtors
  /** Who may log in now. */
  readonly turns: Turns
  /** Sessions whose streams are gone and whose owners are still to be told. */
  readonly leaving: Set<EdgeSession>
  /** Sessions that have ended and whose owners have not acked that they know. */
  readonly parting: Set<EdgeSession>
  /** The domain of ours that a stream header's `to` names, prepared; undefined where it is none. */
  domainOf(to: string): string | undefined
  /** What streams are offered to log in by. */
  readonly offers: Offers
  saslServer(domain: string, address: string): SaslServer
  /** A token by which a client may log in again (XEP-0484); undefined where there are none. */
  readonly issueToken: ((account: string, client: string, mechanism: string) => Promise<Told<'fast.issue'>>) | undefined
  /** Never rejects with a StanzaError: tells it. */
  bind(account: Jid, session: string, resource: string, login: BoundLogin, flags: readonly string[]): Promise<Jid | StanzaError>
  askAsStranger(iq: Stanza, address: string): Promise<Stanza>
  countFailure(condition: string): void
}

/** Streams closed in one turn when the edge stops, so that a large edge does not stall itself. */
const CLOSED_PER_TURN = 500
/** What the last stanzas of the streams that are closed may take to be handled. */
const LEAVING_MS_MAX = 5_000
/** How long other edges may take to go on with its sessions. */
const HANDING_OUT_MS_MAX = 8_000
/** How long an edge that stops waits for what its clients have said to be handled. */
const SETTLING_MS_MAX = 2_000
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

/** What every listener is given. */
export interface Door {
  readonly config: Config
  readonly certificates: TlsSource
  readonly admission: Admission
  readonly onConnection: OnConnection
  readonly log: Log
}

/** Certificates that may be others later (certificates.ts). */
export interface TlsSource {
  readonly tls: Tls
  onChange(listener: (tls: Tls) => void): void
}

/** Opens the listeners last, when everything behind them answers. Throws Error that names a port which is taken. */
export async function startEdge(process: Process, certificates: TlsSource): Promise<RunningEdge> {
  const { config } = process
  const { edge, onConnection, close } = openEdge(process)
  const door: Door = { config, certificates, admission: admissionOf(process, edge), onConnection, log: edge.log }
  const listeners: Listener[] = []
  try {
    for (const host of config.listen) {
      listeners.push(...(await listenTcp(door, host)))
      listeners.push(...(await listenWebSocket(door, host)))
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

export function admissionOf({ config, clock, metrics }: Process, { streams }: Pick<Edge, 'streams'>): Admission {
  const strangers = (): number => {
    let count = 0
    for (const stream of streams) if (isStranger(stream)) count++
    return count
  }
  return new Admission({ config, clock, metrics, strangers })
}

/** An edge without listeners. */
export interface OpenEdge {
  readonly edge: Edge
  readonly onConnection: OnConnection
  /** RFC 6120 §4.9.3.20: streams end with system-shutdown, and their owners hear of it before this resolves. */
  close(): Promise<void>
}

export function openEdge(process: Process): OpenEdge {
  const edge = makeEdge(process)
  edge.capabilities.onLearned = (session, nodes) => edge.watching.learned(session, nodes)
  edge.watching.onWatched = (session) => edge.moves.watches(session)
  const { clock } = edge
  const deliveries = receiveDeliveries(process, edge)
  if (process.members !== undefined) answerResyncs(process, edge) // as long as there is a bus: who ends has no sessions, and who asks needs to hear it
  edge.moves.start()
  leaveWhenCutOff(process, edge)
  watchSizes(process, edge)
  const timer = clock.setInterval(() => {
    edge.wheel.tick()
    for (const stream of edge.lagging) stream.checkLag()
    for (const session of edge.watched) session.look()
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
      const isContinued = edge.moves.stopTaking()
      await settle(edge)
      let closed = 0
      for (const stream of [...edge.streams]) {
        if (isContinued) stream.shutDown()
        else stream.fail(new StreamError('system-shutdown'))
        if (++closed % CLOSED_PER_TURN === 0) await turn()
      }
      if (isContinued) await edge.moves.handOut(clock.monotonic() + HANDING_OUT_MS_MAX)
      for (const session of [...edge.detached]) {
        session.end()
        if (++closed % CLOSED_PER_TURN === 0) await turn()
      }
      const deadline = clock.monotonic() + LEAVING_MS_MAX
      do await turn()
      while (untold(process, edge) > 0 && clock.monotonic() < deadline)
      if (untold(process, edge) > 0) edge.log.warn('sessions.not_settled', { sessions: untold(process, edge) })
      clock.clearTimeout(timer)
      edge.debtors.close()
      edge.turns.close()
      edge.moves.close()
      deliveries.close()
      edge.lanes.close()
    },
  }
}

/**
 * Where others can reach what this process cannot, its clients do better with them: its owners end its sessions, as if it were
 * dead. When it has joined anew it ends what was bound on it meanwhile: an owner who came then has not asked it for that.
 */
function leaveWhenCutOff({ id, members }: Process, edge: Edge): void {
  if (members === undefined) return
  let wasCutOff = false
  let isFenced = false
  members.onFenced(() => {
    isFenced = true
    void endSessions(edge)
  })
  members.onRead(() => {
    if (!isFenced || members.livenessOf(id) !== 'live') return
    isFenced = false
    void endSessions(edge)
  })
  members.onChange(() => {
    const isCutOff = members.isCutOff(id)
    if (isCutOff && !wasCutOff) void endSessions(edge)
    wasCutOff = isCutOff
  })
}

/** Sessions whose owners do not know of their end. What is on its way inside one process arrives. */
function untold({ bus }: Process, { leaving, parting }: Edge): number {
  return bus.lossless ? leaving.size : Math.max(leaving.size, parting.size)
}

/**
 * What clients have said is handled before they are told how much of it is (XEP-0198 §4): what is not, they say again to
 * whoever comes next. No more is read of them.
 */
async function settle({ streams, sessions, clock }: Edge): Promise<void> {
  for (const stream of streams) stream.pause()
  const deadline = clock.monotonic() + SETTLING_MS_MAX
  let open = [...sessions.values()].filter(({ keeps, settled }) => keeps && !settled)
  while (open.length > 0 && clock.monotonic() < deadline) {
    await turn()
    open = open.filter(({ settled }) => !settled)
  }
}

function watchSizes({ metrics }: Process, { sessions, streams, debtors, detached, lanes, turns }: Edge): void {
  metrics.watch('edge_sessions', 'Sessions bound on this edge.', () => sessions.size)
  metrics.watch('edge_streams', 'Open streams on this edge, logged in or not.', () => streams.size)
  metrics.watch('edge_streams_over_rate', 'Streams that are not read from because they were too fast.', () => debtors.size)
  metrics.watch(
    'edge_logins_waiting',
    'Streams that wait for their turn to log in (limits.loginsPerSecond).',
    () => turns.waiting,
  )
  metrics.watch('edge_sessions_detached', 'Sessions of this edge that wait to be resumed (XEP-0198).', () => detached.size)
  metrics.watch('edge_lane_pending', 'Envelopes of this edge that their owners have not handled yet.', () => lanes.pending)
}

function makeEdge(process: Process): Edge {
  const { bus, config, ownership, members, clock, metrics } = process
  const log = process.log.child({ role: 'edge' })
  const caller = openCaller(bus, ownership, clock)
  const lanes = openLanes({ bus, ownership, members, clock, log }, `edge${process.id}`)
  const sessions = new Map<string, EdgeSession>()
  const { limits } = config
  const wheel = new Wheel(clock)
  const suppressed = metrics.counter('presence_suppressed_total', 'Presence that was not sent, by why that was not needed.', [
    'reason',
  ])
  const auth = accountsAuth({ caller, table: process.table, ...config.scram })
  const failures = metrics.counter('stream_errors_total', 'Streams ended with a stream error (RFC 6120 §4.9), by condition.', [
    'condition',
  ])
  const scan = {
    depth: limits.depth,
    attributes: limits.attributes,
    elements: limits.elements,
    namespaceBytes: limits.namespaceBytes,
  }
  const edge: Omit<Edge, 'moves'> = {
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
    wheel,
    sessions,
    resumables: new Map(),
    ended: new EndedSessions(),
    detached: new Set(),
    watched: new Set(),
    early: new Map(),
    notesSeen: bus.lossless ? ({ domain }) => config.domains.includes(domain) : () => true,
    capabilities: new Capabilities(wheel),
    heldBack: suppressed.labels('inactive'),
    watching: new Watching(process, lanes, sessions),
    streams: new Set(),
    lagging: new Set(),
    paces: pacesOf(limits),
    debtors: new Debtors(clock),
    turns: new Turns(limits, clock),
    leaving: new Set(),
    parting: new Set(),
    domainOf: domainFinder(config.domains),
    offers: new Offers(auth.supports),
    saslServer: saslServers(process, auth, caller, log),
    issueToken: process.modules.some(({ name }) => name === 'fast')
      ? (account, client, mechanism) => caller.ask('router', account, 'fast.issue', { client, mechanism })
      : undefined,
    bind: (account, session, resource, { about, generation }, flags) =>
      bind({ caller, lanes, log, ownership, edge: process.id, about, generation, flags }, account, session, resource),
    askAsStranger: async (iq, address) =>
      decodeStanza(await caller.ask('router', iq.to!.bare, 'iq.stranger', { stanza: encodeStanza(iq), address })),
    countFailure: (condition) => failures.labels(condition).inc(),
  }
  return withMoves(edge, process)
}

/** They need the edge that has them. */
function withMoves(edge: Omit<Edge, 'moves'>, process: Process): Edge {
  const whole = edge as { -readonly [K in keyof Edge]: Edge[K] }
  whole.moves = new Moves(whole, process)
  return whole
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

function saslServers({ config, clock, metrics, modules }: Process, auth: Auth, caller: Caller, log: Log): Edge['saslServer'] {
  const guesses = new Guesses(config.limits, clock)
  const failures = metrics.counter('logins_failed_total', 'Logins that failed (RFC 6120 §6.5), by mechanism and condition.', [
    'mechanism',
    'condition',
  ])
  const verifyToken: SaslServer['verifyToken'] = (account, question) => caller.ask('router', account, 'fast.verify', question)
  const hasTokens = modules.some(({ name }) => name === 'fast')
  return (domain, address) => ({
    domain,
    auth,
    ...(hasTokens && { verifyToken }),
    attempt: (account) => guesses.attempt(account, address),
    onFailure: ({ mechanism, condition, cause }) => {
      failures.labels(mechanism, condition).inc()
      log.info('login.failed', { mechanism, condition, address, ...(cause !== undefined && { cause }) })
    },
  })
}

/** Of a stream that has logged in. */
interface BoundLogin {
  readonly about: ConnectionFacts
  /** Of the credentials it has logged in by (core/storage/auth.ts). */
  readonly generation: number
}

interface Binding extends BoundLogin {
  readonly caller: Caller
  readonly ownership: Ownership
  readonly lanes: Lanes
  readonly log: Log
  readonly edge: string
  readonly flags: readonly string[]
}

/** A router who comes after the one that has bound it, and was told of our sessions before, does not know it: he is asked again. */
async function bind(binding: Binding, account: Jid, session: string, resource: string): Promise<Jid | StanzaError> {
  const { caller, lanes, log, ownership, edge, about, generation, flags } = binding
  const partition = partitionOf(account.bare)
  try {
    for (let asked = resource; ; ) {
      const epoch = ownership.epochAt('router', partition)
      const request = { edge, session, resource: asked, about, generation, ...(flags.length > 0 && { flags }) }
      const jid = parseJid(await caller.ask('router', account.bare, 'session.bind', request))
      if (ownership.epochAt('router', partition) === epoch) {
        log.info('session.bound', { jid: jid.full })
        return jid
      }
      asked = jid.resource
    }
  } catch (error) {
    // Where the answer is what failed, it may be bound there all the same.
    const signal = { kind: 'signal', account: account.bare, name: 'session.closed', fields: { session, resource } } as const
    lanes.send('router', account.bare, signal)
    if (error instanceof StanzaError) return error
    throw error
  }
}

// A whole cluster in one event loop, for tests: processes with the roles they are given, on one bus and one table.
//
// Each is made as cluster/main.ts makes it: a lease, its share of the partitions, the log of each role, the roles themselves; an
// edge has clients without sockets. Time goes on by hand. Whatever wakes a process (a timer, a body, an answer of the table)
// passes its gate: one that is stopped gets it when it goes on, one that was killed never.
import { type Bus, type BusHandler, type BusState, BusTimeout, type Subscription } from '#bus/bus.ts'
import { memoryBus } from '#bus/memory.ts'
import { OwnPartitions } from '#cluster/partitions.ts'
import { type Clock, type ManualClock, manualClock, type Timer } from '#core/clock.ts'
import { ENVELOPE_VERSION } from '#core/envelope.ts'
import type { AnyModule } from '#core/module.ts'
import { type MemoryLog, memoryLog } from '#core/observing/log.ts'
import { Metrics } from '#core/observing/metrics.ts'
import { ClusterOwnership } from '#core/ownership/cluster-ownership.ts'
import { LEASES } from '#core/ownership/leases.ts'
import { Membership } from '#core/ownership/membership.ts'
import { OWNERS } from '#core/ownership/owners-row.ts'
import { PARTITIONS, partitionOf, type RoleName } from '#core/ownership/ownership.ts'
import type { Process, RunningRole } from '#core/process.ts'
import { type Config, loadConfig } from '#core/settings/config.ts'
import { serverFacts } from '#core/settings/hosts.ts'
import { Readings } from '#core/storage/readings.ts'
import { connect, type FakeConnection, plainAuth } from '#edge/edge.fixture.ts'
import { type OpenEdge, openEdge } from '#edge/main.ts'
import { presenceModules, startPresence } from '#presence/main.ts'
import { startRouter } from '#router/main.ts'
import { memoryTable } from '#table/memory.ts'
import { type Table, TableUnavailable } from '#table/table.ts'
import { lowercaseId, randomId } from '#xmpp/id.ts'
import { parseJid } from '#xmpp/jid.ts'

export type ClusterRole = RoleName | 'edge'

const STEP_MS = 20
/** Turns of the event loop within one step: what they bring about is done by then. */
const TURNS = 5
const PATIENCE_MS = 30_000

export interface ClusterOptions {
  readonly config?: Readonly<Record<string, unknown>>
  readonly modules?: readonly AnyModule[]
  readonly table?: Table
}

export class Cluster implements AsyncDisposable {
  readonly clock: ManualClock = manualClock()
  readonly hub = memoryBus()
  readonly table: Table
  readonly config: Config
  readonly modules: readonly AnyModule[]
  readonly processes: ClusterProcess[] = []
  /** Whether a body is lost. */
  loses: (subject: string) => boolean = () => false
  /** The table answers nobody. */
  away = false
  /** What the table was asked, as `query a#romeo@example.org`, but for what processes say of themselves. */
  readonly requests: string[] = []

  constructor({ config = {}, modules = [], table }: ClusterOptions = {}) {
    this.table = table ?? memoryTable({ now: () => this.clock.now() })
    this.modules = [...(presenceModules as AnyModule[]), ...modules]
    const given = { domains: ['example.org'], scram: { iterations: 4096 }, presence: { windowMs: 0 }, ...config }
    const specs = Object.fromEntries(this.modules.map(({ name, options = {} }) => [name, options]))
    this.config = loadConfig({ text: JSON.stringify(given), env: {}, moduleOptions: specs }).config
  }

  /** Begins to start one of the version before: it says nothing of that in its lease, reads nothing newer, and writes as it reads. */
  startOld(...roles: readonly ClusterRole[]): ClusterProcess {
    const process = new ClusterProcess(this, roles, ENVELOPE_VERSION - 1)
    this.processes.push(process)
    return process
  }

  /** Begins to start a process; `settled` waits until it has its share. */
  start(...roles: readonly ClusterRole[]): ClusterProcess {
    const process = new ClusterProcess(this, roles)
    this.processes.push(process)
    return process
  }

  /** Starts as many, and resolves when all that is owned is served. */
  async open(...processes: readonly (readonly ClusterRole[])[]): Promise<ClusterProcess[]> {
    const started = processes.map((roles) => this.start(...roles))
    await this.settled()
    return started
  }

  async pass(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= STEP_MS) await this.#step(Math.min(left, STEP_MS))
  }

  /** Resolves when it holds; rejects where that takes too long, by the time of the cluster. */
  async until(holds: () => boolean, what: string, patienceMs = PATIENCE_MS): Promise<void> {
    for (let ms = 0; !holds(); ms += STEP_MS) {
      if (ms > patienceMs) throw new Error(`not within ${patienceMs} ms: ${what}\n${this.logged()}`)
      await this.#step(STEP_MS)
    }
  }

  /** The same of what is asked for. */
  async during<T>(asked: Promise<T>): Promise<T> {
    let isOver = false
    const over = asked.finally(() => {
      isOver = true
    })
    over.catch(() => {})
    await this.until(() => isOver, 'an answer')
    return over
  }

  async #step(ms: number): Promise<void> {
    this.clock.advance(ms)
    for (let turn = 0; turn < TURNS; turn++) await new Promise((resolve) => setImmediate(resolve))
    await new Promise((resolve) => setTimeout(resolve, 0)) // passwords are hashed in threads
  }

  /** Resolves when each partition is served by the process that should have it, and all know. */
  async settled(): Promise<void> {
    await this.until(() => this.alive.every(({ isUp }) => isUp) && this.#isServed(), 'every partition is served')
  }

  get alive(): readonly ClusterProcess[] {
    return this.processes.filter(({ dead, left }) => !dead && !left)
  }

  #isServed(): boolean {
    for (const role of ['router', 'presence'] as const) {
      const owners = this.alive.filter(({ roles }) => roles.includes(role))
      for (let partition = 0; partition < PARTITIONS; partition++) {
        const serving = owners.filter(({ ownership }) => ownership.ownsPartition(role, partition))
        if (serving.length !== 1) return false
        if (this.alive.some(({ ownership }) => ownership.ownerAt(role, partition) !== serving[0]!.id)) return false
      }
    }
    return true
  }

  /** The process that serves this account; undefined where none does at the moment. */
  ownerOf(role: RoleName, account: string): ClusterProcess | undefined {
    const partition = partitionOf(account)
    return this.alive.find(({ ownership }) => ownership.sure() && ownership.ownsPartition(role, partition))
  }

  /** An account of this name's kind that this process serves: tests that kill it need one. */
  accountOf(process: ClusterProcess, role: RoleName, name: string): string {
    for (let n = 0; ; n++) {
      const account = `${name}${n}@example.org`
      if (process.ownership.ownsPartition(role, partitionOf(account))) return account
    }
  }

  logged(): string {
    const worth = this.processes.flatMap(({ id, roles, log }) =>
      log.lines
        .filter(({ level }) => level === 'warn' || level === 'error')
        .map(({ level, event, fields }) => `${id} ${roles} ${level} ${event} ${JSON.stringify(fields)}`),
    )
    return worth.slice(-60).join('\n')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const process of this.alive) process.kill()
  }
}

/** What wakes a process passes here. */
class Gate {
  dead = false
  #waiting: (() => void)[] | undefined

  readonly pass = (call: () => void): void => {
    if (this.dead) return
    if (this.#waiting === undefined) call()
    else this.#waiting.push(call)
  }

  get isStopped(): boolean {
    return this.#waiting !== undefined
  }

  stop(): void {
    this.#waiting ??= []
  }

  goOn(): void {
    const waiting = this.#waiting ?? []
    this.#waiting = undefined
    for (const call of waiting) this.pass(call)
  }
}

export class ClusterProcess {
  readonly id = lowercaseId()
  readonly roles: readonly ClusterRole[]
  readonly log: MemoryLog = memoryLog()
  readonly bus: ClusterBus
  readonly membership: Membership
  readonly ownership: ClusterOwnership
  readonly process: Process
  edge: OpenEdge | undefined
  left = false
  isUp = false
  /** By so much its clock is ahead of the others'. */
  skewMs = 0
  readonly #gate = new Gate()
  readonly #running: RunningRole[] = []

  /** @param speaks the version of envelopes that it reads and writes */
  constructor(cluster: Cluster, roles: readonly ClusterRole[], speaks = ENVELOPE_VERSION) {
    this.roles = roles
    const { id, log } = this
    const clock = gatedClock(cluster.clock, this.#gate, () => this.skewMs)
    const table = speaks === ENVELOPE_VERSION ? gatedTable(cluster, this.#gate) : oldTable(gatedTable(cluster, this.#gate))
    this.bus = new ClusterBus(cluster, clock, this.#gate, speaks)
    const { bus } = this
    const partitions: OwnPartitions = new OwnPartitions({
      process: id,
      table,
      clock,
      log,
      ownership: () => this.ownership,
      onSealed: (role) => this.membership.fence(`its log as ${role} was sealed`),
    })
    const common = { table, bus, clock, log, newId: randomId }
    this.membership = new Membership({
      ...common,
      process: id,
      roles,
      host: 'here',
      random: Math.random,
      applied: () => partitions.applied(),
    })
    this.ownership = new ClusterOwnership({ ...common, membership: this.membership })
    const { config, modules } = cluster
    this.process = {
      ...{ id, bus, table, clock, log, config, modules },
      ownership: this.ownership,
      members: this.membership,
      moduleOptions: config.modules,
      journals: modules.flatMap(({ journals = [] }) => journals),
      openLog: (role, log) => partitions.openLog(role, log),
      server: serverFacts(config, '0.0.0-test', config.modules),
      metrics: new Metrics(),
      readings: new Readings(clock),
    }
    void this.#start(partitions)
  }

  async #start(partitions: OwnPartitions): Promise<void> {
    const owned: RoleName[] = []
    for (const role of ['presence', 'router'] as const) {
      if (!this.roles.includes(role)) continue
      const running = await (role === 'router' ? startRouter(this.process) : startPresence(this.process))
      this.#running.unshift(running)
      partitions.add(role, running)
      owned.push(role)
    }
    await this.ownership.join(owned, partitions)
    if (this.roles.includes('edge')) this.edge = openEdge(this.process)
    this.isUp = true
  }

  get dead(): boolean {
    return this.#gate.dead
  }

  /** As `kill -9`. */
  kill(): void {
    this.#gate.dead = true
    this.bus.close()
  }

  /** As SIGSTOP; `goOn` as SIGCONT. */
  stop(): void {
    this.#gate.stop()
  }

  goOn(): void {
    this.#gate.goOn()
  }

  /** As SIGTERM: what it holds is given away, and then it ends. */
  async leave(): Promise<void> {
    await this.edge?.close()
    await this.ownership.leave(10_000)
    for (const role of this.#running) await role.stop()
    this.bus.close()
    this.left = true
  }

  /** What was logged of this event. */
  events(event: string): number {
    return this.log.lines.filter((line) => line.event === event).length
  }
}

/** A process's connection to the bus of all. */
export class ClusterBus implements Bus {
  readonly lossless = false
  readonly #cluster: Cluster
  readonly #clock: Clock
  readonly #gate: Gate
  readonly #speaks: number
  /** Subjects of bodies that came, and are of a newer version than it reads. */
  readonly refused: string[] = []
  readonly #subscriptions = new Set<Subscription>()
  readonly #watchers = new Set<(state: BusState) => void>()
  #state: BusState = 'up'

  constructor(cluster: Cluster, clock: Clock, gate: Gate, speaks: number) {
    this.#cluster = cluster
    this.#clock = clock
    this.#gate = gate
    this.#speaks = speaks
  }

  publish(subject: string, body: Uint8Array): void {
    if (this.#gate.dead || this.#state === 'down' || this.#cluster.loses(subject)) return
    this.#cluster.hub.publish(subject, this.#written(subject, body))
  }

  request(subject: string, body: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      const timer = this.#clock.setTimeout(() => reject(new BusTimeout(subject, timeoutMs)), timeoutMs)
      const settle = (settled: () => void): void => {
        if (this.#state === 'down') return
        this.#clock.clearTimeout(timer)
        this.#gate.pass(settled)
      }
      if (this.#state === 'down') return
      this.#cluster.hub.request(subject, this.#written(subject, body), 3_600_000).then(
        (answer) => settle(() => resolve(answer)),
        (error) => settle(() => reject(error)),
      )
    })
  }

  subscribe(subject: string, handler: BusHandler): Subscription {
    const subscription = this.#cluster.hub.subscribe(subject, (body, reply) => {
      if (this.#state !== 'up') return
      if (this.#isOld && hasVersion(subject) && body[0]! > this.#speaks) this.refused.push(subject)
      else this.#gate.pass(() => handler(body, (answer) => this.#reply(reply, answer)))
    })
    this.#subscriptions.add(subscription)
    return {
      close: () => {
        this.#subscriptions.delete(subscription)
        subscription.close()
      },
    }
  }

  get #isOld(): boolean {
    return this.#speaks !== ENVELOPE_VERSION
  }

  /** As a process writes it that knows no newer version. */
  #written(subject: string, body: Uint8Array): Uint8Array {
    if (this.#isOld && hasVersion(subject)) body[0] = Math.min(body[0]!, this.#speaks)
    return body
  }

  #reply(reply: (body: Uint8Array) => void, answer: Uint8Array): void {
    if (this.#state === 'up' && !this.#gate.dead) reply(answer)
  }

  status(handler: (state: BusState) => void): Subscription {
    this.#watchers.add(handler)
    handler(this.#state)
    return { close: () => void this.#watchers.delete(handler) }
  }

  /** The connection is lost, or there again. */
  turn(state: BusState): void {
    this.#state = state
    for (const watcher of this.#watchers) this.#gate.pass(() => watcher(state))
  }

  close(): void {
    for (const subscription of this.#subscriptions) subscription.close()
  }

  async drain(): Promise<void> {
    this.close()
  }
}

/** Those whose bodies begin with a version (core/envelope.ts, core/ownership/resync-frame.ts). */
function hasVersion(subject: string): boolean {
  return /^(lane|ack|edge|edgeack|resync|resynced)\./.test(subject)
}

/** That of a process whose lease does not say what it reads. */
function oldTable(table: Table): Table {
  return {
    ...table,
    put(row, condition) {
      if (row.pk !== LEASES) return table.put(row, condition)
      const { speaks: _, ...lease } = JSON.parse(Buffer.from(row.value).toString())
      return table.put({ ...row, value: Buffer.from(JSON.stringify(lease)) }, condition)
    },
  }
}

function gatedClock(clock: ManualClock, gate: Gate, skewMs: () => number): Clock {
  const gated =
    (call: () => void): (() => void) =>
    () =>
      gate.pass(call)
  return {
    now: () => clock.now() + skewMs(),
    monotonic: () => clock.monotonic(),
    setTimeout: (call, ms) => clock.setTimeout(gated(call), ms),
    setInterval: (call, ms) => clock.setInterval(gated(call), ms),
    clearTimeout: (timer: Timer | undefined) => clock.clearTimeout(timer),
  }
}

function gatedTable(cluster: Cluster, gate: Gate): Table {
  const { table, requests } = cluster
  /** The answer; never where the process is dead by then. */
  const ask = <T>(kind: string, pk: string, run: () => Promise<T>): Promise<T> => {
    if (gate.dead) return new Promise(() => {})
    if (pk !== LEASES && pk !== OWNERS) requests.push(`${kind} ${pk}`)
    const asked = cluster.away ? Promise.reject(new TableUnavailable('the table is away')) : run()
    return new Promise((resolve, reject) =>
      asked.then(
        (value) => gate.pass(() => resolve(value)),
        (error) => gate.pass(() => reject(error)),
      ),
    )
  }
  return {
    get: (key) => ask('get', key.pk, () => table.get(key)),
    put: (row, condition) => ask('put', row.pk, () => table.put(row, condition)),
    delete: (key, condition) => ask('delete', key.pk, () => table.delete(key, condition)),
    async *query(pk, range) {
      yield* await ask('query', pk, async () => {
        const rows = []
        for await (const row of table.query(pk, range)) rows.push(row)
        return rows
      })
    },
  }
}

// Clients --------------------------------------------------------------------------------------------------------------

const NS_SM = 'urn:xmpp:sm:3'

/** Logged in at an edge of the cluster. */
export class ClusterClient {
  readonly connection: FakeConnection
  readonly jid: string
  readonly #cluster: Cluster

  constructor(cluster: Cluster, connection: FakeConnection, jid: string) {
    this.#cluster = cluster
    this.connection = connection
    this.jid = jid
  }

  /** Makes the account where there is none, logs in and binds. */
  static async connect(cluster: Cluster, at: ClusterProcess, full: string): Promise<ClusterClient> {
    const { bare, local, domain, resource } = parseJid(full)
    const connection = connect(at.edge!.onConnection)
    const came = (wanted: string) => cluster.until(() => connection.written.includes(wanted), `${full}: ${wanted}`)
    connection.open(domain).send(plainAuth(local))
    await came('<success')
    connection.open(domain)
    connection.send(
      `<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>${resource}</resource></bind></iq>`,
    )
    await came("id='bind'")
    if (!connection.written.includes(`<jid>${full}</jid>`)) throw new Error(`${bare} is not bound: ${connection.take()}`)
    connection.send(`<enable xmlns='${NS_SM}' resume='true'/>`)
    return new ClusterClient(cluster, connection, full)
  }

  send(xml: string): void {
    this.connection.send(xml)
  }

  message(to: string, id: string): void {
    this.send(`<message type='chat' id='${id}' to='${to}'><body>${id}</body></message>`)
  }

  /** Bodies of the messages that have come, in order, each time they came. */
  get bodies(): string[] {
    return [...this.connection.written.matchAll(/<body>([^<]*)<\/body>/g)].map(([, body]) => body!)
  }

  /** What was shown of this full JID last: `available`, `unavailable`, or nothing. */
  sees(full: string): string | undefined {
    const shown = [...this.connection.written.matchAll(/<presence ([^>]*)>/g)].filter(([, tag]) =>
      tag!.includes(`from='${full}'`),
    )
    const last = shown.at(-1)?.[1]
    return last === undefined ? undefined : last.includes("type='unavailable'") ? 'unavailable' : 'available'
  }

  /** Stanzas that the server says it has handled: the last `h`. */
  get handled(): number {
    return Number([...this.connection.written.matchAll(/<a xmlns='urn:xmpp:sm:3' h='(\d+)'/g)].at(-1)?.[1] ?? -1)
  }

  ask(): void {
    this.send(`<r xmlns='${NS_SM}'/>`)
  }

  /** Resolves when all that it has said is handled. */
  async acknowledged(h: number): Promise<void> {
    await this.#cluster.until(() => {
      this.ask()
      return this.handled >= h
    }, `${this.jid} is told that ${h} are handled; it was told ${this.handled}`)
  }

  /** The connection is gone without a word. */
  vanish(): void {
    this.connection.vanish()
  }
}

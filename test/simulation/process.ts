// One process of a simulated cluster: the roles of the server, as cluster/main.ts puts them together, on a bus, a table and a
// clock that are simulated. Whatever wakes it passes its gate: while it is stopped that waits, and when it is dead it never comes.
import { OwnPartitions } from '#cluster/partitions.ts'
import { type Caller, openCaller } from '#core/call.ts'
import type { AnyModule } from '#core/module.ts'
import type { Log } from '#core/observing/log.ts'
import { Metrics } from '#core/observing/metrics.ts'
import { ClusterOwnership, type Owning } from '#core/ownership/cluster-ownership.ts'
import { Membership } from '#core/ownership/membership.ts'
import { partitionOf, type RoleName } from '#core/ownership/ownership.ts'
import type { Process, RunningRole } from '#core/process.ts'
import { type Config, loadConfig } from '#core/settings/config.ts'
import { serverFacts } from '#core/settings/hosts.ts'
import { Readings } from '#core/storage/readings.ts'
import { type OpenEdge, openEdge } from '#edge/main.ts'
import { presenceModules, startPresence } from '#presence/main.ts'
import { startRouter } from '#router/main.ts'
import { type Table, TableUnavailable } from '#table/table.ts'
import { StanzaError } from '#xmpp/error.ts'
import { type Jid, parseJid } from '#xmpp/jid.ts'
import journal from './journal.ts'
import type { Mutation } from './mutations.ts'
import { type Pace, ProcessClock, type Scheduler } from './scheduler.ts'
import type { Network, SimBus } from './sim-bus.ts'
import type { SimTable } from './sim-table.ts'
import type { Counts } from './world.ts'

/** What they run, and how. Sessions that nobody resumes end before all is over. */
export function setupOf(...more: readonly AnyModule[]): Setup {
  const modules = [...(presenceModules as AnyModule[]), ...more]
  const text = JSON.stringify({ domains: ['example.org'], limits: { resumeSeconds: 10 } })
  const moduleOptions = Object.fromEntries(modules.map(({ name, options = {} }) => [name, options]))
  return { modules, config: loadConfig({ text, env: {}, moduleOptions }).config }
}

export interface Setup {
  readonly modules: readonly AnyModule[]
  readonly config: Config
}

const SETUP = setupOf(journal as AnyModule)
/** To give away all it owns when it leaves (cluster/main.ts). */
const LEAVE_MS = 10_000
/** It ends then, however far it is (ctl/run.ts). */
const STOP_MS = 20_000

export interface Making {
  readonly id: string
  readonly own: readonly RoleName[]
  readonly edge: boolean
  readonly pace: Pace
}

/** Where a process is. */
export interface Site {
  readonly scheduler: Scheduler
  readonly network: Network
  readonly table: SimTable
  readonly mutation: Mutation
  readonly random: () => number
  readonly newId: () => string
  readonly counts: Counts
  readonly tracing: boolean
  /** Undefined: what processes of a simulation run. */
  readonly setup?: Setup | undefined
  readonly trace: (who: string, what: string) => void
  broke(what: string): void
}

export class SimProcess implements Owning {
  readonly id: string
  readonly own: readonly RoleName[]
  readonly isEdge: boolean
  readonly pace: Pace
  readonly table: Table
  readonly bus: SimBus
  readonly clock: ProcessClock
  readonly membership: Membership
  readonly ownership: ClusterOwnership
  /** Undefined before it is open. */
  edge: OpenEdge | undefined
  dead = false
  leaving = false
  readonly #world: Site
  readonly #partitions: OwnPartitions
  readonly #process: Process
  readonly #caller: Caller
  readonly #running: RunningRole[] = []
  /** Stopped, or going on since a moment: what wakes it waits here. */
  #deferred: (() => void)[] | undefined
  #goesOn = false

  constructor(world: Site, { id, own, edge, pace }: Making) {
    const { scheduler, mutation, random } = world
    this.#world = world
    this.id = id
    this.own = own
    this.isEdge = edge
    this.pace = pace
    this.clock = new ProcessClock(scheduler, this.gate, pace)
    this.table = world.table.of(this)
    this.bus = world.network.open(id, this.gate, this.clock)
    const { bus, clock, table } = this
    const log = this.#log({})
    const roles = edge ? ['edge', ...own] : own
    this.#partitions = new OwnPartitions({
      process: id,
      table: mutation.ownersTable?.(table) ?? table,
      clock,
      log,
      ownership: () => this.ownership,
      onSealed: (role) => this.membership.fence(`its log as ${role} was sealed`),
      random,
    })
    const common = { table, bus, clock, log, newId: world.newId }
    const applied = () => this.#partitions.applied()
    this.membership = new Membership({ ...common, process: id, roles, host: 'here', random, applied })
    this.ownership = new ClusterOwnership({ ...common, membership: this.membership })
    this.#process = this.#processOf(mutation, log)
    this.#caller = openCaller(bus, this.ownership, clock)
    void this.#start()
  }

  #processOf(mutation: Mutation, log: Log): Process {
    const { id, bus, table, clock, ownership, membership } = this
    const { modules, config } = this.#world.setup ?? SETUP
    return {
      ...{ id, bus: mutation.roleBus?.(bus) ?? bus, table, clock, log, ownership },
      members: mutation.members?.(membership) ?? membership,
      config,
      modules,
      moduleOptions: config.modules,
      journals: modules.flatMap(({ journals = [] }) => journals),
      openLog: (role, log) => {
        const opened = this.#partitions.openLog(role, log)
        return mutation.commitLog?.(opened) ?? opened
      },
      server: serverFacts(config, id, config.modules), // deliveries say by whom they are (journal.ts)
      metrics: new Metrics(),
      readings: new Readings(clock),
      random: this.#world.random,
    }
  }

  async #start(): Promise<void> {
    try {
      for (const role of this.own) {
        const running = await (role === 'router' ? startRouter(this.#process) : startPresence(this.#process))
        this.#running.unshift(running)
        this.#partitions.add(role, running)
      }
      await this.ownership.join(this.own, this)
      if (this.leaving || !this.isEdge) return
      this.edge = openEdge(this.#process)
    } catch (error) {
      if (!(error instanceof TableUnavailable)) return this.#world.broke(`${this.id} does not start: ${error}`)
      this.#world.trace(this.id, 'does not start: the table is away')
      this.kill()
    }
  }

  // What happens to it ----------------------------------------------------------------------------------------------

  readonly gate = (call: () => void): void => {
    if (this.dead) return
    if (this.#deferred !== undefined) this.#deferred.push(call)
    else call()
  }

  get stopped(): boolean {
    return this.#deferred !== undefined && !this.#goesOn
  }

  /** SIGKILL. What it has sent already goes its way. */
  kill(): void {
    this.dead = true
    this.#deferred = undefined
    this.bus.close()
  }

  /** SIGSTOP. */
  stop(): void {
    this.#deferred ??= []
    this.#goesOn = false
  }

  /** SIGCONT: what has waited comes one after the other, before anything new. */
  goOn(): void {
    if (!this.stopped) return
    this.#goesOn = true
    this.#next()
  }

  #next(): void {
    if (this.dead || !this.#goesOn) return
    const call = this.#deferred!.shift()
    if (call === undefined) {
      this.#deferred = undefined
      this.#goesOn = false
      return
    }
    call()
    this.#world.scheduler.after(0, () => this.#next())
  }

  /** SIGTERM. It is dead when it has left. */
  leave(): void {
    this.leaving = true
    this.gate(() => void this.#leave())
  }

  async #leave(): Promise<void> {
    this.clock.setTimeout(() => this.#exit('ends, and has not left'), STOP_MS)
    await this.edge?.close()
    await this.ownership.leave(LEAVE_MS)
    for (const role of this.#running) await role.stop()
    this.#exit('has left')
  }

  #exit(how: string): void {
    if (!this.dead) this.#world.trace(this.id, how)
    this.kill()
  }

  /** As an edge does for a client (edge/main.ts, bind), by this process's own clock. */
  async bind(account: Jid, session: string, resource: string): Promise<Jid | StanzaError> {
    const partition = partitionOf(account.bare)
    const request = { edge: this.id, session, resource }
    try {
      for (;;) {
        const epoch = this.ownership.epochAt('router', partition)
        const jid = parseJid(await this.#caller.ask('router', account.bare, 'session.bind', request))
        if (this.ownership.epochAt('router', partition) === epoch) return jid
      }
    } catch (error) {
      if (!(error instanceof StanzaError)) throw error
      const fields = { session, resource }
      this.edge!.edge.lanes.send('router', account.bare, {
        kind: 'signal',
        account: account.bare,
        name: 'session.closed',
        fields,
      })
      return error
    }
  }

  /** The full JIDs of the sessions that the router knows of an account; asks as whoever runs the server does. */
  async sessionsOf(account: string): Promise<readonly string[]> {
    const told = await this.#caller.ask('router', account, 'account.sessions', {})
    return told.map(({ jid }) => jid)
  }

  // What it does with partitions (core/ownership/cluster-ownership.ts): counted -------------------------------------------------

  async recover(process: string, role: RoleName, applied: number): Promise<number> {
    this.#world.counts.recovered++
    return this.#partitions.recover(process, role, applied)
  }

  get handedOn(): number {
    return this.#partitions.handedOn
  }

  async take(role: RoleName, partitions: readonly number[]): Promise<void> {
    this.#world.counts.taken++
    await this.#partitions.take(role, partitions)
  }

  async release(role: RoleName, partitions: readonly number[]): Promise<void> {
    this.#world.counts.released++
    await this.#partitions.release(role, partitions)
  }

  fenced(role: RoleName): void {
    this.#world.counts.fenced++
    this.#partitions.fenced(role)
  }

  /** What is logged is told in the trace; an error is a fault of the server. */
  #log(bound: object): Log {
    const line =
      (level: string) =>
      (event: string, fields: object = {}) => {
        const world = this.#world
        if (level === 'error') world.broke(`${this.id} logged ${event}: ${errorIn(fields)}`)
        if (world.tracing && level !== 'debug') world.trace(this.id, `${event} ${textOf({ ...bound, ...fields })}`)
      }
    return {
      debugging: false,
      debug: line('debug'),
      info: line('info'),
      warn: line('warn'),
      error: line('error'),
      child: (fields) => this.#log({ ...bound, ...fields }),
    }
  }
}

function errorIn(fields: object): string {
  const error = (fields as { error?: unknown }).error
  return error instanceof Error ? (error.stack ?? error.message) : textOf(fields)
}

/** Without the names that are random, and not of the seed. */
const RANDOM_FIELDS: ReadonlySet<string> = new Set(['owner', 'source'])

function textOf(fields: object): string {
  const told = Object.entries(fields).filter(([name, value]) => !RANDOM_FIELDS.has(name) || !/[.]|.{8}/.test(String(value)))
  return told
    .map(
      ([name, value]) =>
        `${name}=${value instanceof Error ? value.message : value instanceof Object ? JSON.stringify(value) : value}`,
    )
    .join(' ')
}

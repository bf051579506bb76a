// What is behind the harness: one process with all roles, or, as in a cluster (test/form.ts), two routers and two presence
// services, each a process of its own.
//
// Of a cluster it is what tests of one stanza or another can tell from the embedded form: each role of an account is elsewhere,
// stanzas and questions go over lanes and calls between processes on a bus that may lose, and what is durable is in the log of its
// owner before its rows are in the table. Who owns what stays as it is: owners that die and partitions that move are for
// test/cluster-harness.ts, which has all of it, and test/cluster.
import type { Bus } from '#bus/bus.ts'
import { memoryBus } from '#bus/memory.ts'
import { OwnPartitions } from '#cluster/partitions.ts'
import { type Clock, type ManualClock, manualClock, systemClock } from '#core/clock.ts'
import { directLog } from '#core/commits/direct-log.ts'
import type { Ways } from '#core/lanes/lane-frame.ts'
import type { AnyModule } from '#core/module.ts'
import { type MemoryLog, memoryLog } from '#core/observing/log.ts'
import { Metrics } from '#core/observing/metrics.ts'
import { type Ownership, PARTITIONS, partitionOf, type RoleName, soleOwnership } from '#core/ownership/ownership.ts'
import type { Process, RunningRole } from '#core/process.ts'
import { loadConfig } from '#core/settings/config.ts'
import { serverFacts } from '#core/settings/hosts.ts'
import { checkOptions } from '#core/settings/options.ts'
import { Readings } from '#core/storage/readings.ts'
import { startPresence } from '#presence/main.ts'
import { startRouter } from '#router/main.ts'
import { memoryTable } from '#table/memory.ts'
import type { Table } from '#table/table.ts'
import { lowercaseId } from '#xmpp/id.ts'
import { isCluster } from './form.ts'

export interface HarnessOptions {
  /** As in the configuration file, over its defaults; the domain is example.org. */
  readonly config?: Readonly<Record<string, unknown>>
  /** The options of modules, by the module's name. */
  readonly modules?: Readonly<Record<string, Readonly<Record<string, unknown>>>>
  /** By default the clock of the machine. */
  readonly clock?: Clock
  /** One that is handed in outlives the server: start another one on it, and it is the same server after a restart. */
  readonly table?: Table
}

export interface HarnessProcess extends Process {
  readonly log: MemoryLog
  readonly activity: Activity
}

/** Where the harness stands in for an edge. */
export interface EdgePlace {
  readonly id: string
  readonly ways: Ways
}

export interface Backstage {
  /** What tests look into; of many processes one, with the table, the log and the metrics of all. */
  readonly process: HarnessProcess
  readonly edges: readonly EdgePlace[]
  /** Lets edges say what they have received. */
  acknowledge(): void
  /** While it runs, edges still receive. */
  stop(): Promise<void>
}

/** More than an edge takes to ack what it has received (core/multicast/multicast-receiver.ts). */
const EDGE_ACK_MS = 1_000
const STARTS = { router: startRouter, presence: startPresence } as const
/** Of the ownership rows: each server owns what it owns by a later one than any before it. */
let epochs = 0

/** In the form that tests run on. */
export function openBackstage(modules: readonly AnyModule[], options: HarnessOptions): Promise<Backstage> {
  const common = commonOf(modules, options)
  return isCluster ? openApart(common) : openTogether(common)
}

/** What processes have in common, where they have it all in one event loop. */
type Common = Omit<HarnessProcess, 'id' | 'ownership' | 'openLog' | 'readings'>

function commonOf(modules: readonly AnyModule[], options: HarnessOptions): Common {
  const given = { domains: ['example.org'], scram: { iterations: 4096 }, presence: { windowMs: 0 }, ...options.config }
  const specs = Object.fromEntries(modules.map(({ name, options = {} }) => [name, options]))
  const { config } = loadConfig({ text: JSON.stringify(given), env: {}, moduleOptions: specs })
  const moduleOptions: Record<string, Record<string, unknown>> = {}
  for (const { name, options: specs = {} } of modules) {
    const checked = checkOptions(name, specs as never, options.modules?.[name])
    if (checked.faults.length > 0) throw new Error(checked.faults.join('\n'))
    moduleOptions[name] = checked.options as Record<string, unknown>
  }
  const clock = options.clock ?? systemClock
  const log = memoryLog()
  const activity = new Activity()
  const inner = memoryBus({ onError: (error, subject) => log.error('bus.handler_broke', { subject, error }) })
  return {
    bus: watchedBus(inner, activity, !isCluster),
    table: watchedTable(options.table ?? memoryTable({ now: () => clock.now() }), activity),
    config,
    moduleOptions,
    modules,
    journals: modules.flatMap(({ journals = [] }) => journals),
    server: serverFacts(config, '0.0.0-test', moduleOptions),
    clock,
    log,
    metrics: new Metrics(),
    activity,
  }
}

async function openTogether(common: Common): Promise<Backstage> {
  const id = lowercaseId()
  const { table, clock } = common
  const process: HarnessProcess = {
    ...common,
    id,
    ownership: soleOwnership(id),
    openLog: (_role, log) => directLog(table, clock, log),
    readings: new Readings(),
  }
  const roles = [await startPresence(process), await startRouter(process)]
  return {
    process,
    edges: [{ id: edgeId(), ways: process }],
    acknowledge() {},
    async stop() {
      for (const role of roles.reverse()) await role.stop()
      await process.bus.drain()
    },
  }
}

// Apart ----------------------------------------------------------------------------------------------------------------

async function openApart(common: Common): Promise<Backstage> {
  const owners = { presence: [lowercaseId(), lowercaseId()], router: [lowercaseId(), lowercaseId()] }
  const epoch = ++epochs
  const processes: HarnessProcess[] = []
  const running: RunningRole[] = []
  for (const role of ['presence', 'router'] as const) {
    for (const id of owners[role]) {
      const started = await startApart(common, role, new FixedOwnership(id, owners, epoch))
      processes.push(started.process)
      running.unshift(started.running)
    }
  }
  const edgeClock = manualClock()
  const edges = [edgeId(), edgeId()].map((id) => {
    const { bus, log } = common
    return { id, ways: { bus, log, clock: edgeClock, ownership: new FixedOwnership(id, owners, epoch) } }
  })
  return {
    process: processes.at(-1)!,
    edges,
    acknowledge: () => edgeClock.advance(EDGE_ACK_MS),
    stop: () => stopApart(running, common.bus, edgeClock),
  }
}

async function startApart(
  common: Common,
  role: RoleName,
  ownership: FixedOwnership,
): Promise<{ process: HarnessProcess; running: RunningRole }> {
  const { process: id } = ownership
  const { table, clock, log } = common
  const partitions = new OwnPartitions({
    process: id,
    table,
    clock,
    log,
    ownership: () => ownership,
    onSealed: () => {
      throw new Error(`somebody has sealed the log of ${role} ${id}`)
    },
  })
  const readings = new Readings(clock)
  const process = { ...common, id, ownership, readings, openLog: partitions.openLog.bind(partitions) }
  const running = await STARTS[role](process)
  partitions.add(role, running)
  await partitions.take(role, ownership.own(role))
  ownership.isReady = true
  return { process, running }
}

/** An owner ends when every edge has what it was sent. */
async function stopApart(running: readonly RunningRole[], bus: Bus, edgeClock: ManualClock): Promise<void> {
  let over = false
  const stopping = stopAll(running).finally(() => {
    over = true
  })
  while (!over) {
    edgeClock.advance(EDGE_ACK_MS)
    await new Promise((resolve) => setImmediate(resolve))
  }
  await stopping
  await bus.drain()
}

async function stopAll(running: readonly RunningRole[]): Promise<void> {
  for (const role of running) await role.stop()
}

/** The partitions go round among the processes of a role, for ever. */
class FixedOwnership implements Ownership {
  readonly process: string
  isReady = false
  readonly #owners: Readonly<Record<RoleName, readonly string[]>>
  readonly #epoch: number

  constructor(process: string, owners: Readonly<Record<RoleName, readonly string[]>>, epoch: number) {
    this.process = process
    this.#owners = owners
    this.#epoch = epoch
  }

  ownerOf(role: RoleName, account: string): string {
    return this.ownerAt(role, partitionOf(account))
  }

  ownersOf(role: RoleName): readonly string[] {
    return this.#owners[role]
  }

  ownerAt(role: RoleName, partition: number): string {
    const owners = this.#owners[role]
    return owners[partition % owners.length]!
  }

  own(role: RoleName): number[] {
    const all = Array.from({ length: PARTITIONS }, (_, partition) => partition)
    return all.filter((partition) => this.ownerAt(role, partition) === this.process)
  }

  epochAt(): number {
    return this.#epoch
  }

  epoch(): number {
    return this.#epoch
  }

  onChange(): void {}

  sure(): boolean {
    return true
  }

  owns(role: RoleName, account: string): boolean {
    return this.isReady && this.ownerOf(role, account) === this.process
  }
}

function edgeId(): string {
  return `e${lowercaseId(6)}`
}

// What is under way ----------------------------------------------------------------------------------------------------

/** Counts what happens, and what has begun and not ended. */
export class Activity {
  count = 0
  underWay = 0

  async during<T>(work: Promise<T>): Promise<T> {
    this.count++
    this.underWay++
    try {
      return await work
    } finally {
      this.underWay--
    }
  }
}

function watchedBus(bus: Bus, activity: Activity, lossless: boolean): Bus {
  return {
    lossless,
    publish(subject, body) {
      activity.count++
      bus.publish(subject, body)
    },
    request: (subject, body, timeoutMs) => activity.during(bus.request(subject, body, timeoutMs)),
    subscribe: (subject, handler, options) => bus.subscribe(subject, handler, options),
    drain: () => bus.drain(),
    status: (handler) => bus.status(handler),
  }
}

function watchedTable(table: Table, activity: Activity): Table {
  return {
    get: (key) => activity.during(table.get(key)),
    put: (row, ifVersion) => activity.during(table.put(row, ifVersion)),
    delete: (key, ifVersion) => activity.during(table.delete(key, ifVersion)),
    async *query(pk, range) {
      for await (const row of table.query(pk, range)) {
        activity.count++
        yield row
      }
    },
  }
}

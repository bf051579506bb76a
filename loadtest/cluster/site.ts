// A cluster of real processes to put load on, as loadtest/bench does with one server: on core 0, without limits of rates, and
// with DynamoDB Local, which is not ours, on core 1. Every port is of the system's choosing.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ensureCertificate } from '#edge/listeners/certificate.ts'
import type { Role } from '#embedded/serve.ts'
import { type ClusterProcess, type ConfigLayer, TestCluster } from '#test/cluster/processes.ts'
import type { TestNats } from '#test/servers/nats.ts'
import { ProcessMeter } from '../bench/src/process-meter.mjs'
import { startDynamoDb } from './dynamodb.ts'
import { type Carried, carriedBy, type NatsProcess, startNatsProcess } from './nats.ts'

const READY_WITHIN_MS = 90_000
const POLL_MS = 50
const OURS = '0'
const NOT_OURS = '1'

export interface SiteOptions {
  /** A folder where the table is kept for the next site; without it, it goes with this one. */
  readonly data?: string
  /** Of all processes, over what the benchmark's servers have. */
  readonly config?: ConfigLayer
}

/** What `/metrics` has counted of the table, summed over processes. */
export interface TableUse {
  /** By operation: `Query` … */
  readonly requests: Readonly<Record<string, number>>
  readonly readUnits: number
  readonly writeUnits: number
}

export class Site {
  readonly #cluster: TestCluster
  readonly #nats: NatsProcess
  readonly #folder: string

  constructor(cluster: TestCluster, nats: NatsProcess, folder: string) {
    this.#cluster = cluster
    this.#nats = nats
    this.#folder = folder
  }

  /** NATS and the table; no process of ours yet. Throws Error where either cannot be had, and says how to get it. */
  static async open({ data, config = {} }: SiteOptions = {}): Promise<Site> {
    const folder = mkdtempSync(join(tmpdir(), 'rookery-site-'))
    process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
    const nats = await startNatsProcess()
    pin(nats.pid, OURS)
    const dynamo = await startDynamoDb(data === undefined ? undefined : join(data, 'dynamodb'))
    pin(dynamo.pid, NOT_OURS)
    const { files } = await ensureCertificate(folder, ['localhost'])
    const all = {
      // As the other servers of loadtest/bench: no limits of rates, few lines in the log. SCRAM keys as by default.
      limits: { registrationsPerHourPerAddress: 0, stanzasPerSecond: 0, bytesPerSecond: 0 },
      scram: { iterations: 10_000 },
      http: { port: 'off' },
      log: { level: 'warn', pretty: false },
    }
    const layers = { ...config, limits: { ...all.limits, ...(config.limits as object | undefined) } }
    // Nothing here asks of it what only tests do.
    return new Site(new TestCluster([nats as TestNats], dynamo, folder, files, { config: { ...all, ...layers } }), nats, folder)
  }

  /** Those that run. */
  get processes(): readonly ClusterProcess[] {
    return this.#cluster.processes
  }

  get dynamoPid(): number {
    return this.#cluster.dynamo.pid!
  }

  get natsPid(): number {
    return this.#nats.pid
  }

  get natsUrl(): string {
    return this.#nats.url
  }

  /** All of the bus since its start. */
  carried(): Promise<Carried> {
    return carriedBy(this.#nats)
  }

  async add(name: string, role: Role, config: ConfigLayer = {}): Promise<ClusterProcess> {
    const added = await this.#cluster.add([role], { name, config })
    pin(added.pid, OURS)
    return added
  }

  /** Resolves when all that run say that they are ready. Throws Error with the log of one that is not. */
  async ready(): Promise<void> {
    const deadline = performance.now() + READY_WITHIN_MS
    for (const process of this.processes) {
      while ((await process.readiness())?.ready !== true) {
        if (process.hasEnded || performance.now() > deadline) throw new Error(`${process.name} is not ready:\n${process.log()}`)
        await sleep(POLL_MS)
      }
    }
  }

  /** Runs a command (`group create`) from outside of the cluster. Throws Error where it fails, with what it says. */
  async rookery(...args: readonly string[]): Promise<void> {
    const { code, err } = await this.#cluster.rookery(...args)
    if (code !== 0) throw new Error(`rookery ${args.slice(0, 2).join(' ')}: ${err}`)
  }

  /** What the table was asked since their start, by those that run and answer: one that is starting has asked nothing yet. */
  async tableUse(): Promise<TableUse> {
    const requests: Record<string, number> = {}
    const counts = await this.counts()
    for (const [name, count] of counts) {
      const operation = /^table_requests_total\{operation="(\w+)"/.exec(name)?.[1]
      if (operation !== undefined) requests[operation] = (requests[operation] ?? 0) + count
    }
    const units = (kind: string): number => counts.get(`table_units_total{kind="${kind}"}`) ?? 0
    return { requests, readUnits: units('read'), writeUnits: units('write') }
  }

  /** Every line of their metrics, without `rookery_`, summed over those that run and answer. */
  async counts(): Promise<Map<string, number>> {
    const sums = new Map<string, number>()
    for (const { metricsPort } of this.processes)
      for (const [, name, value] of (await pageOf(metricsPort)).matchAll(/^rookery_(\S+) (\S+)$/gm))
        sums.set(name!, (sums.get(name!) ?? 0) + Number(value))
    return sums
  }

  /** CPU of all of ours, nats-server included; of what is stored in, apart. */
  meter(): ProcessMeter {
    const ours = this.processes.map(({ name, pid }) => ({ name, pid }))
    return new ProcessMeter([...ours, { name: 'nats', pid: this.natsPid }], [this.dynamoPid])
  }

  /** As whoever runs it would: edges first, so that the owners can hand on what they have. */
  async stopProcesses(): Promise<void> {
    const edgesFirst = [...this.processes].sort((a, b) => Number(b.roles.includes('edge')) - Number(a.roles.includes('edge')))
    for (const process of edgesFirst) await process.stop()
  }

  /** Leaves nothing that was started here. */
  async close(): Promise<void> {
    await this.stopProcesses().catch((error: unknown) => console.error(error))
    await this.#cluster.stop()
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

/** Its metrics; '' while nobody answers there. */
async function pageOf(port: number): Promise<string> {
  try {
    return await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
  } catch {
    return ''
  }
}

/** Beside the others of the site, on their core: what is measured with them. A process and all of its threads. */
export function pinOurs(pid: number): void {
  pin(pid, OURS)
}

/** A process and all of its threads; where there is but one core, or no taskset, it stays where it is. */
function pin(pid: number, core: string): void {
  try {
    execFileSync('taskset', ['-a', '-c', '-p', core, `${pid}`], { stdio: 'ignore' })
  } catch {
    // Then nobody has a core of his own, and figures say so by their spread.
  }
}

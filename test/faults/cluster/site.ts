// The cluster that the faults happen to: two of each role, each with a way to NATS that can be cut, and a table that can fail.
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Role } from '#embedded/serve.ts'
import { type ClusterProcess, startTestCluster, type TestCluster } from '#test/cluster/processes.ts'
import type { Random } from '#test/fuzz/random.ts'
import { type DynamoProxy, startDynamoProxy } from '../dynamo-proxy.ts'
import { Relay } from './relay.ts'
import type { Door } from './stream.ts'

export const ROLES = ['router', 'presence', 'edge'] as const satisfies readonly Role[]
export type PlainRole = (typeof ROLES)[number]

const OF_EACH_ROLE = 2
const NATS_SERVERS = 3
/** Longer than it takes to replace any owner: until then nobody can log in to resume. */
const RESUME_SECONDS = 60
const HEALED_WITHIN_MS = 60_000

export class Site {
  readonly cluster: TestCluster
  readonly proxy: DynamoProxy
  readonly random: Random
  /** All that ever ran, for their logs. */
  readonly #made: ClusterProcess[] = []
  readonly #relays = new Map<ClusterProcess, Relay>()
  readonly #asleep = new Set<ClusterProcess>()
  readonly #deadNats = new Set<number>()

  private constructor(cluster: TestCluster, proxy: DynamoProxy, random: Random) {
    this.cluster = cluster
    this.proxy = proxy
    this.random = random
  }

  /** Resolves when all are ready; to undefined where NATS or DynamoDB cannot be had, which has then been said. */
  static async open(random: Random): Promise<Site | undefined> {
    let proxy: DynamoProxy | undefined
    const cluster = await startTestCluster({
      nats: NATS_SERVERS,
      endpoint: () => proxy!.endpoint,
      config: { limits: { resumeSeconds: RESUME_SECONDS }, log: { level: 'info' } },
    })
    if (cluster === undefined) return undefined
    try {
      proxy = await startDynamoProxy({ upstream: cluster.dynamo.endpoint, seed: random.next() })
      const site = new Site(cluster, proxy, random)
      await site.restore()
      return site
    } catch (error) {
      console.error(cluster.log())
      await cluster.stop()
      await proxy?.close()
      throw error
    }
  }

  /** Starts one more. Resolves when it is ready. */
  async add(role: PlainRole): Promise<ClusterProcess> {
    const relay = await Relay.start(this.cluster.nats.map(({ port }) => port))
    const process = await this.cluster.add([role], { config: { bus: { servers: [...relay.urls] } } })
    this.#made.push(process)
    this.#relays.set(process, relay)
    void process.ended.then(() => {
      this.#relays.delete(process)
      void relay.close()
    })
    await process.ready()
    return process
  }

  one(role: PlainRole): ClusterProcess {
    return this.random.pick(this.cluster.of(role))
  }

  /** What clients may connect to. */
  readonly doors = (): readonly Door[] => {
    const open = this.cluster.of('edge').filter((edge) => edge.events('listener.opened').some(({ name }) => name === 'websocket'))
    return open.map((edge) => {
      const { port, websocketUrl } = edge.asServer()
      return { name: edge.name, port, websocketUrl }
    })
  }

  async freeze(process: ClusterProcess): Promise<void> {
    this.#asleep.add(process)
    await process.kill('SIGSTOP')
  }

  async wake(process: ClusterProcess): Promise<void> {
    this.#asleep.delete(process)
    await process.kill('SIGCONT')
  }

  relayOf(process: ClusterProcess): Relay {
    return this.#relays.get(process)!
  }

  async killNats(n: number): Promise<void> {
    this.#deadNats.add(n)
    await this.cluster.nats[n]!.kill('SIGKILL')
  }

  async restartNats(n: number): Promise<void> {
    await this.cluster.nats[n]!.restart()
    this.#deadNats.delete(n)
  }

  /** Undoes every fault, also of a test that has failed: all is as it was at first, but for the names. */
  async restore(): Promise<void> {
    this.proxy.rules = []
    await this.proxy.refuse(false)
    for (const n of [...this.#deadNats]) await this.restartNats(n)
    for (const process of [...this.#asleep]) await this.wake(process)
    for (const relay of this.#relays.values()) relay.mend()
    const missing = ROLES.flatMap((role) => Array<PlainRole>(Math.max(0, OF_EACH_ROLE - this.cluster.of(role).length)).fill(role))
    await Promise.all(missing.map((role) => this.add(role)))
    for (const role of ROLES) for (const surplus of this.cluster.of(role).slice(OF_EACH_ROLE)) await surplus.stop()
    await this.cluster.ready()
  }

  /** Who is connected as the routers know it, each in one line; those that wait to be resumed are not among them. */
  async sessions(): Promise<string[]> {
    const deadline = performance.now() + HEALED_WITHIN_MS
    for (;;) {
      const { code, out, err } = await this.cluster.rookery('session', 'list')
      if (code === 0) {
        const lines = out.split('\n').filter((line) => line !== '' && !line.includes('waits to be resumed'))
        return lines.map((line) => line.split('\t')[0]!)
      }
      if (performance.now() > deadline) throw new Error(`session list: ${err}`)
      await sleep(500)
    }
  }

  /** A file for each process that ever ran, also for those that are gone. */
  async writeLogs(folder: string): Promise<void> {
    await mkdir(folder, { recursive: true })
    for (const process of this.#made) await writeFile(join(folder, `${process.name}.log`), process.log())
  }

  async close(): Promise<void> {
    await this.cluster.stop()
    await Promise.all([...this.#relays.values()].map((relay) => relay.close()))
    await this.proxy.close()
  }
}

// A cluster of real processes for tests: NATS, DynamoDB Local, and as many `bin/rookery run --role …` as are asked for.
//
// Every port is of the system's choosing, on loopback. A process is known by its name (`edge-1`), its pid and its log; it can
// be killed by any signal, and others can be added while it is gone. What a test does to a process is its own business; what it
// forgets is ended with the cluster.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { stringify } from 'yaml'
import { type CertificateFiles, ensureCertificate } from '#edge/listeners/certificate.ts'
import type { Role } from '#embedded/serve.ts'
import { registerInBand } from '#test/interop/accounts.ts'
import type { TestServer } from '#test/interop/server.ts'
import { type DynamoDbServer, startDynamoDb } from '#test/servers/dynamodb.ts'
import { HOW_TO_GET_NATS, hasNats, startNats, startNatsCluster, type TestNats } from '#test/servers/nats.ts'
import { lastLines } from '#test/support/mailbox.ts'
import { freePorts } from '#test/support/ports.ts'

const ROOT = join(import.meta.dirname, '../..')
/** Two cores may start six of them at once. */
const READY_WITHIN_MS = 90_000
/** More than a process gives itself. */
const STOPPED_WITHIN_MS = 25_000
const POLL_MS = 50
const LOG_CHARS_MAX = 2_000_000
/** What does not end a process. */
const PASSING: readonly NodeJS.Signals[] = ['SIGSTOP', 'SIGCONT', 'SIGHUP', 'SIGUSR1', 'SIGUSR2']

/** Ended with the process that runs the tests, should that end first. */
const running = new Set<ChildProcess>()
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

/** Sections of a configuration; what is given later wins, key by key. */
export type ConfigLayer = Readonly<Record<string, unknown>>

export interface ClusterOptions {
  /** Of all processes. */
  readonly config?: ConfigLayer
  /** Servers of NATS, connected to each other; one unless given. */
  readonly nats?: number
  /** Where the processes find their table; by default DynamoDB Local itself. A proxy that fails, say. */
  readonly endpoint?: (dynamo: DynamoDbServer) => string
}

export interface ProcessOptions {
  readonly name?: string
  /** Of this process, over that of all. */
  readonly config?: ConfigLayer
}

export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/** Of a command. */
export interface Ended {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

/** One line of a log. */
export type LogEvent = { readonly event: string } & Readonly<Record<string, unknown>>

/**
 * Nothing runs yet but NATS and DynamoDB. Undefined where one of the two cannot be had: what is missing, and how to get it, has
 * been said on standard error.
 */
export async function startTestCluster(options: ClusterOptions = {}): Promise<TestCluster | undefined> {
  if (!(await hasNats())) {
    console.warn(`SKIPPED: no cluster to test with: ${HOW_TO_GET_NATS}`)
    return undefined
  }
  const dynamo = await startDynamoDb()
  if (dynamo === undefined) return undefined
  try {
    const { nats: size = 1 } = options
    const nats = size === 1 ? [await startNats()] : await startNatsCluster(size)
    const folder = await mkdtemp(join(tmpdir(), 'rookery-cluster-'))
    const { files } = await ensureCertificate(folder, ['localhost']) // one for all edges, as in production
    return new TestCluster(nats, dynamo, folder, files, options)
  } catch (error) {
    await dynamo.stop()
    throw error
  }
}

export class TestCluster {
  readonly nats: readonly TestNats[]
  readonly dynamo: DynamoDbServer
  readonly #folder: string
  readonly #tls: CertificateFiles
  readonly #options: ClusterOptions
  readonly #processes: ClusterProcess[] = []
  #made = 0

  constructor(nats: readonly TestNats[], dynamo: DynamoDbServer, folder: string, tls: CertificateFiles, options: ClusterOptions) {
    this.nats = nats
    this.dynamo = dynamo
    this.#folder = folder
    this.#tls = tls
    this.#options = options
  }

  /** Where each process has its configuration and its log, `<name>.yaml` and `<name>.log`, while the cluster is there. */
  get folder(): string {
    return this.#folder
  }

  /** Those that were added and have not ended, in the order they were added in. */
  get processes(): readonly ClusterProcess[] {
    return this.#processes.filter(({ hasEnded }) => !hasEnded)
  }

  /** Those of them that do this. */
  of(role: Role): readonly ClusterProcess[] {
    return this.processes.filter(({ roles }) => roles.includes(role))
  }

  /** Starts one process, and does not wait for it: edges are ready when there are owners. */
  async add(roles: readonly Role[], { name, config = {} }: ProcessOptions = {}): Promise<ClusterProcess> {
    const called = name ?? `${roles.join('+')}-${++this.#made}`
    const [metricsPort] = (await freePorts(1)) as [number]
    const file = join(this.#folder, `${called}.yaml`)
    const all = [this.#config(called, metricsPort), this.#options.config ?? {}, config]
    await writeFile(file, stringify(all.reduce(overlaid)))
    const process = new ClusterProcess(called, roles, file, metricsPort)
    this.#processes.push(process)
    return process
  }

  /** Resolves when all are ready. Throws Error with the log of one that is not. */
  async ready(processes: readonly ClusterProcess[] = this.processes): Promise<void> {
    await Promise.all(processes.map((process) => process.ready()))
  }

  /** Of the logs of all that ever ran, the last lines of each: for a failing test. */
  log(): string {
    return this.#processes.map((process) => `--- ${process.name}\n${lastLines(process.log(), 25)}`).join('\n')
  }

  /** Runs a command (`user list`) from outside of the cluster, and gives how it ended. */
  async rookery(...args: string[]): Promise<Ended> {
    const file = join(this.#folder, 'command.yaml')
    await writeFile(file, stringify([this.#config('command', 0), this.#options.config ?? {}].reduce(overlaid)))
    const child = spawnRookery([...args, '--config', file])
    const texts = ['', '']
    for (const [n, stream] of [child.stdout!, child.stderr!].entries())
      stream.setEncoding('utf8').on('data', (text: string) => {
        texts[n] += text
      })
    const [code] = await once(child, 'close')
    return { code, out: texts[0]!, err: texts[1]! }
  }

  /** Kills whatever still runs, and leaves nothing behind. */
  async stop(): Promise<void> {
    await Promise.all(this.processes.map((process) => process.kill('SIGKILL')))
    await Promise.all([...this.nats.map((server) => server.stop()), this.dynamo.stop()])
    await rm(this.#folder, { recursive: true, force: true })
  }

  #config(name: string, metricsPort: number): ConfigLayer {
    const endpoint = this.#options.endpoint?.(this.dynamo) ?? this.dynamo.endpoint
    return {
      domains: ['localhost'],
      listen: '127.0.0.1',
      data: join(this.#folder, name), // which is never made
      tls: { cert: this.#tls.cert, key: this.#tls.key },
      c2s: { port: 0, tlsPort: 0, allowPlainOnLoopback: true },
      websocket: { port: 0 },
      http: { port: 0 },
      metrics: { port: metricsPort },
      registration: 'open',
      limits: { registrationsPerHourPerAddress: 0 },
      scram: { iterations: 4096 },
      bus: { driver: 'nats', servers: this.nats.map(({ url }) => url) },
      table: { driver: 'dynamodb', endpoint, region: 'local', accessKeyId: 'test', secretAccessKey: 'test' },
      log: { pretty: false },
    }
  }
}

export class ClusterProcess {
  readonly name: string
  readonly roles: readonly Role[]
  readonly metricsPort: number
  /** Of its end, however it comes. */
  readonly ended: Promise<Exit>
  readonly #child: ChildProcess
  #output = ''

  constructor(name: string, roles: readonly Role[], file: string, metricsPort: number) {
    this.name = name
    this.roles = roles
    this.metricsPort = metricsPort
    const child = spawnRookery(['run', '--config', file, ...roles.flatMap((role) => ['--role', role])])
    this.#child = child
    running.add(child)
    const log = createWriteStream(file.replace(/\.yaml$/, '.log'), { flags: 'a' })
    log.on('error', () => {}) // for whoever looks on from outside; what tests read is kept here
    child.once('close', () => log.end())
    for (const stream of [child.stdout!, child.stderr!])
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.#output = (this.#output + text).slice(-LOG_CHARS_MAX)
        log.write(text)
      })
    child.on('error', ({ message }) => {
      this.#output += `\nnot started: ${message}\n`
    })
    this.ended = once(child, 'exit').then(([code, signal]) => {
      running.delete(child)
      return { code, signal }
    })
    this.ended.catch(() => {}) // one that was not started: `ready` tells
  }

  get pid(): number {
    return this.#child.pid!
  }

  get hasEnded(): boolean {
    const { pid, exitCode, signalCode } = this.#child
    return pid === undefined || exitCode !== null || signalCode !== null
  }

  /** What it wrote, the last two million characters of it. */
  log(): string {
    return this.#output
  }

  /** The lines of its log with this event, oldest first. */
  events(event: string): LogEvent[] {
    const lines = this.#output.split('\n').filter((line) => line.includes(`"${event}"`) && line.endsWith('}'))
    return lines.map((line) => JSON.parse(line) as LogEvent).filter((line) => line.event === event)
  }

  /** Resolves with the first line of this event, once it is there. Throws Error with the log where it ends before. */
  async until(event: string, withinMs = READY_WITHIN_MS): Promise<LogEvent> {
    const deadline = performance.now() + withinMs
    for (;;) {
      const [first] = this.events(event)
      if (first !== undefined) return first
      if (this.hasEnded || performance.now() > deadline)
        throw new Error(`${this.name} has not said ${event}:\n${lastLines(this.#output, 60)}`)
      await sleep(POLL_MS)
    }
  }

  /** The id it has in the cluster. */
  get id(): string {
    return String(this.events('member.joined')[0]?.process)
  }

  /** Of the listener with this name; throws Error while it is not open. */
  port(name: 'c2s' | 'c2s (TLS)' | 'websocket' | 'http'): number {
    const opened = this.events('listener.opened').find((line) => line.name === name)
    if (opened === undefined) throw new Error(`${this.name} has no listener ${name}:\n${lastLines(this.#output, 25)}`)
    return opened.port as number
  }

  /** What /ready says; undefined where nobody answers. */
  async readiness(): Promise<{ ready: boolean; missing?: Record<string, string> } | undefined> {
    try {
      const answer = await fetch(`http://127.0.0.1:${this.metricsPort}/ready`, { signal: AbortSignal.timeout(5_000) })
      return (await answer.json()) as { ready: boolean }
    } catch {
      return undefined
    }
  }

  /** The value of a metric, without its labels; undefined where it has none. */
  async metric(name: string): Promise<number | undefined> {
    const answer = await fetch(`http://127.0.0.1:${this.metricsPort}/metrics`, { signal: AbortSignal.timeout(5_000) })
    const found = new RegExp(`^${name}(?:\\{.*\\})? (\\S+)$`, 'm').exec(await answer.text())
    return found === null ? undefined : Number(found[1])
  }

  /** Resolves when it says that it is ready, and all its listeners are known. */
  async ready(withinMs = READY_WITHIN_MS): Promise<void> {
    const deadline = performance.now() + withinMs
    let last: unknown
    while (performance.now() < deadline) {
      if (this.hasEnded) throw new Error(`${this.name} ended before it was ready:\n${lastLines(this.#output, 60)}`)
      last = await this.readiness()
      if ((last as { ready: boolean } | undefined)?.ready && this.events('server.started').length > 0) return
      await sleep(POLL_MS) // another process: there is no event to wait for
    }
    throw new Error(`${this.name} was not ready within ${withinMs} ms: ${JSON.stringify(last)}\n${lastLines(this.#output, 60)}`)
  }

  /** Resolves when it has ended, where the signal is one that ends it. One that is stopped (SIGSTOP) ends by SIGKILL only. */
  async kill(signal: NodeJS.Signals): Promise<Exit | undefined> {
    if (this.hasEnded) return this.ended
    this.#child.kill(signal)
    return PASSING.includes(signal) ? undefined : this.ended
  }

  /** SIGTERM. Throws Error where that does not end it well, and in time. */
  async stop(): Promise<void> {
    let late = false
    const timer = setTimeout(() => {
      late = true
      this.#child.kill('SIGKILL')
    }, STOPPED_WITHIN_MS)
    const exit = await this.kill('SIGTERM')
    clearTimeout(timer)
    if (late || exit?.code !== 0)
      throw new Error(
        `${this.name} ${late ? `did not stop within ${STOPPED_WITHIN_MS} ms` : `stopped with ${JSON.stringify(exit)}`}:\n${lastLines(this.#output, 60)}`,
      )
  }

  /** An edge, as clients of test/interop connect to it. */
  asServer(): TestServer {
    const server: TestServer = {
      domain: 'localhost',
      host: '127.0.0.1',
      port: this.port('c2s'),
      tlsPort: this.port('c2s (TLS)'),
      websocketUrl: `ws://127.0.0.1:${this.port('websocket')}/xmpp-websocket`,
      httpUrl: '',
      servesChat: false,
      edges: [],
      register: (user, password) => registerInBand(server, user, password),
      log: () => this.#output,
      stop: () => this.stop(),
    }
    return server
  }
}

/** The command, by the Node that runs this, and without the settings of whoever started it. */
function spawnRookery(args: readonly string[]): ChildProcess {
  const clean = Object.entries(process.env).filter(([name]) => !name.startsWith('ROOKERY_'))
  const env = { ...Object.fromEntries(clean), PATH: `${dirname(process.execPath)}:${process.env.PATH}` }
  return spawn(join(ROOT, 'bin/rookery'), args, { cwd: ROOT, env, stdio: ['ignore', 'pipe', 'pipe'] })
}

function overlaid(defaults: ConfigLayer, config: ConfigLayer): ConfigLayer {
  const merged: Record<string, unknown> = { ...defaults }
  for (const [key, value] of Object.entries(config)) {
    const before = merged[key]
    merged[key] = isSection(before) && isSection(value) ? overlaid(before, value) : value
  }
  return merged
}

function isSection(value: unknown): value is ConfigLayer {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

// Real NATS servers for tests: containers of nats:2 where a Docker engine is, else processes of the nats-server that
// scripts/nats-server.sh finds.
//
// Each has a folder of its own in the system's temporary one, with its configuration and its log. Ports are of the
// server's choosing, on loopback, and are kept when it is started again.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, closeSync, openSync, readFileSync } from 'node:fs'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { whyNoContainer } from './docker.ts'

export const HOW_TO_GET_NATS =
  'no nats-server is here, and no Docker engine that runs nats:2. Get one with `scripts/nats-server.sh` (builds it with Go into ' +
  '.tools/bin), with `apt-get install nats-server`, or from https://github.com/nats-io/nats-server/releases onto PATH.'

export interface NatsOptions {
  /** Lines of nats-server.conf besides the ports. Files are named by `{folder}/NAME`. */
  readonly config?: string
  /** Written beside the configuration: certificates, say. */
  readonly files?: Readonly<Record<string, string>>
}

export interface TestNats {
  /** `nats://127.0.0.1:…` */
  readonly url: string
  readonly port: number
  readonly pid: number
  /** `127.0.0.1:…`: where other servers of a cluster connect to. */
  readonly routes: string
  /** Numbers, as JSON: `varz`, `connz` … */
  monitor(what: string): Promise<Record<string, unknown>>
  log(): string
  /** Changes one of `files`. */
  write(name: string, text: string): Promise<void>
  /** Done when the process has ended, where the signal is one that ends it. */
  kill(signal: NodeJS.Signals): Promise<void>
  /** After `kill`: the same on the same ports. */
  restart(): Promise<void>
  stop(): Promise<void>
}

const IMAGE = 'nats:2'
const ROOT = join(import.meta.dirname, '../..')
const READY_WITHIN_MS = 20_000
const STOPS: readonly string[] = ['SIGSTOP', 'SIGCONT', 'SIGHUP', 'SIGUSR1', 'SIGUSR2']

/** Starts one process or container of what is in `folder`. */
type Start = (folder: string) => Promise<Running>

interface Running {
  readonly pid: number
  /** It has ended by itself, or was killed. */
  hasEnded(): boolean
  kill(signal: NodeJS.Signals): Promise<void>
}

let found: Promise<Start | undefined> | undefined

/** False where there is no server to be had: the suite skips, and says HOW_TO_GET_NATS. */
export async function hasNats(): Promise<boolean> {
  return (await (found ??= find())) !== undefined
}

/** Throws Error with HOW_TO_GET_NATS where there is none, and with its log where it does not start. */
export function startNats(options: NatsOptions = {}): Promise<TestNats> {
  return startBeside([], options)
}

async function startBeside(others: readonly TestNats[], options: NatsOptions): Promise<TestNats> {
  const start = await (found ??= find())
  if (start === undefined) throw new Error(HOW_TO_GET_NATS)
  const folder = await mkdtemp(join(tmpdir(), 'rookery-nats-'))
  await chmod(folder, 0o755) // in a container it is read by somebody else
  for (const [name, text] of Object.entries(options.files ?? {})) await writeFile(join(folder, name), text)
  const routes = others.map((other) => `nats://${other.routes}`)
  const server = new Server(start, folder, (options.config ?? '').replaceAll('{folder}', folder), routes)
  return whole([server], async () => {
    await server.start()
    return server
  })
}

/** Each connected to each; clients of one learn the others. */
export function startNatsCluster(size: number, options: NatsOptions = {}): Promise<TestNats[]> {
  const servers: TestNats[] = []
  return whole(servers, async () => {
    while (servers.length < size) servers.push(await startBeside(servers, options))
    const deadline = Date.now() + READY_WITHIN_MS
    for (const server of servers) {
      // To each other server there may be several connections.
      while (remotesOf(await server.monitor('routez')) < size - 1) {
        if (Date.now() > deadline) throw new Error(`the servers of the cluster did not find each other:\n${server.log()}`)
        await sleep(20)
      }
    }
    return servers
  })
}

/** Where a part fails, nothing is left of the others. */
async function whole<T>(servers: readonly TestNats[], starting: () => Promise<T>): Promise<T> {
  try {
    return await starting()
  } catch (error) {
    for (const server of servers) await server.stop()
    throw error
  }
}

function remotesOf({ routes }: Record<string, unknown>): number {
  return new Set((routes as { remote_id: string }[] | undefined)?.map(({ remote_id }) => remote_id)).size
}

class Server implements TestNats {
  readonly #start: Start
  readonly #folder: string
  readonly #config: string
  readonly #routesTo: readonly string[]
  #running: Running | undefined
  /** -1: any. Known once it runs. */
  #ports = { client: -1, routes: -1, monitor: -1 }

  constructor(start: Start, folder: string, config: string, routesTo: readonly string[]) {
    this.#start = start
    this.#folder = folder
    this.#config = config
    this.#routesTo = routesTo
  }

  get port(): number {
    return this.#ports.client
  }

  get url(): string {
    return `nats://127.0.0.1:${this.port}`
  }

  get routes(): string {
    return `127.0.0.1:${this.#ports.routes}`
  }

  get pid(): number {
    return this.#running!.pid
  }

  async start(): Promise<void> {
    const { client, routes, monitor } = this.#ports
    const name = this.#folder.slice(this.#folder.lastIndexOf('-') + 1)
    await writeFile(
      join(this.#folder, 'nats.conf'),
      `server_name: ${name}\nlisten: "127.0.0.1:${client}"\nhttp: "127.0.0.1:${monitor}"\n` +
        `cluster: { name: test, listen: "127.0.0.1:${routes}", routes: [${this.#routesTo.join(', ')}] }\n${this.#config}\n`,
    )
    await writeFile(join(this.#folder, 'nats.log'), '')
    this.#running = await this.#start(this.#folder)
    const deadline = Date.now() + READY_WITHIN_MS
    for (;;) {
      const text = this.log()
      const ports = {
        client: portIn(text, /Listening for client connections on \S+:(\d+)/),
        routes: portIn(text, /Listening for route connections on \S+:(\d+)/), // it comes after "Server is ready"
        monitor: portIn(text, /Starting http monitor on \S+:(\d+)/),
      }
      if (text.includes('Server is ready') && !Object.values(ports).includes(-1)) {
        this.#ports = ports
        return
      }
      if (this.#running.hasEnded() || Date.now() > deadline) throw new Error(`nats-server did not start:\n${text}`)
      await sleep(10)
    }
  }

  log(): string {
    return readFileSync(join(this.#folder, 'nats.log'), 'utf8')
  }

  async monitor(what: string): Promise<Record<string, unknown>> {
    const answer = await fetch(`http://127.0.0.1:${this.#ports.monitor}/${what}`)
    return (await answer.json()) as Record<string, unknown>
  }

  async kill(signal: NodeJS.Signals): Promise<void> {
    const running = this.#running
    if (running === undefined) return // it did not get so far
    if (!running.hasEnded()) await running.kill(signal)
    while (!STOPS.includes(signal) && !running.hasEnded()) await sleep(10)
  }

  write(name: string, text: string): Promise<void> {
    return writeFile(join(this.#folder, name), text)
  }

  restart(): Promise<void> {
    return this.start()
  }

  async stop(): Promise<void> {
    await this.kill('SIGKILL')
    await rm(this.#folder, { recursive: true, force: true })
  }
}

/** -1 where it is not there yet. */
function portIn(log: string, line: RegExp): number {
  return Number(line.exec(log)?.[1] ?? -1)
}

async function find(): Promise<Start | undefined> {
  if ((await whyNoContainer(IMAGE)) === undefined) return inContainer
  const { status, stdout } = spawnSync(join(ROOT, 'scripts/nats-server.sh'), ['--no-install'], { encoding: 'utf8' })
  return status === 0 ? asProcess(stdout.trim()) : undefined
}

function asProcess(binary: string): Start {
  return async (folder) => {
    const log = openSync(join(folder, 'nats.log'), 'a')
    const child = spawn(binary, ['-c', join(folder, 'nats.conf')], { cwd: folder, stdio: ['ignore', log, log] })
    closeSync(log)
    await once(child, 'spawn')
    return {
      pid: child.pid!,
      hasEnded: () => child.exitCode !== null || child.signalCode !== null,
      kill: async (signal) => void child.kill(signal),
    }
  }
}

/** On the network of the host, where its ports are those of its configuration, and its folder is where ours is. */
const inContainer: Start = async (folder) => {
  const { GenericContainer, getContainerRuntimeClient } = await import('testcontainers')
  const container = await new GenericContainer(IMAGE)
    .withNetworkMode('host')
    .withBindMounts([{ source: folder, target: folder, mode: 'ro' }])
    .withCommand(['-c', join(folder, 'nats.conf')])
    .withLogConsumer((stream) => stream.on('data', (line) => appendFileSync(join(folder, 'nats.log'), line)))
    .start()
  const client = await getContainerRuntimeClient()
  const docker = client.container.getById(container.getId())
  const { State } = await docker.inspect()
  let ended = false
  // Nobody but a test's own stop waits for it to be gone, and nothing can be done where it is not.
  const gone = async () => {
    await docker.wait().catch(() => {})
    ended = true
    await docker.remove({ force: true }).catch(() => {})
  }
  void gone()
  return {
    pid: State.Pid,
    hasEnded: () => ended,
    kill: async (signal) => {
      await docker.kill({ signal })
    },
  }
}

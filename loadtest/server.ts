// A server of this work tree to put load on, and what it costs: for the scripts beside this file.
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ProcessMeter } from './bench/src/process-meter.mjs'

const START_TIMEOUT_MS = 60_000
const STOP_TIMEOUT_MS = 30_000

export interface Ports {
  readonly tcp: number
  readonly tls: number
  readonly websocket: number
  readonly metrics: number
}

/** Ports that are free at the moment, on loopback. */
export async function freePorts(): Promise<Ports> {
  const servers = await Promise.all(Array.from({ length: 4 }, () => listen()))
  const [tcp, tls, websocket, metrics] = servers.map((server) => (server.address() as net.AddressInfo).port)
  await Promise.all(servers.map((server) => new Promise((closed) => server.close(closed))))
  return { tcp: tcp!, tls: tls!, websocket: websocket!, metrics: metrics! }
}

function listen(): Promise<net.Server> {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, '127.0.0.1', () => resolve(server))
  })
}

/** Started as loadtest/bench starts it: on core 0, without limits of rates. It stays when killed, to be started again. */
export class Server {
  readonly ports: Ports
  readonly #data: string
  #child: ChildProcess | undefined
  #said = ''

  constructor(ports: Ports, data: string) {
    this.ports = ports
    this.#data = data
  }

  get pid(): number {
    return this.#child!.pid!
  }

  get alive(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null
  }

  /** Resolves when it takes connections. Throws Error with what it said. */
  async start(): Promise<void> {
    const { tcp, tls, websocket, metrics } = this.ports
    const env = { PORT: tcp, TLS_PORT: tls, WS_PORT: websocket, METRICS_PORT: metrics, DATA: this.#data }
    const texts = Object.fromEntries(Object.entries(env).map(([name, value]) => [name, String(value)]))
    const child = spawn(join(import.meta.dirname, 'bench/peers/rookery.sh'), {
      env: { ...process.env, ...texts },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.#child = child
    this.#said = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk: Buffer) => {
        this.#said = (this.#said + chunk.toString()).slice(-10_000)
      })
    }
    const deadline = performance.now() + START_TIMEOUT_MS
    while (!(await connects(tcp))) {
      if (!this.alive || performance.now() > deadline) throw new Error(`the server does not start:\n${this.#said}`)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }

  async stop(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const child = this.#child
    if (child === undefined || !this.alive) return
    const ended = new Promise((resolve) => child.once('exit', resolve))
    child.kill(signal)
    const impatience = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS)
    await ended
    clearTimeout(impatience)
  }

  /** KiB, of all it has in memory; shared pages by share. */
  pssKiB(): number {
    return new ProcessMeter([this.pid]).memory()!.pssKiB
  }

  /** KiB of memory that is no file's: what other processes share with it does not move this. */
  anonymousKiB(): number {
    return Number(/^RssAnon:\s+(\d+)/m.exec(readFileSync(`/proc/${this.pid}/status`, 'latin1'))![1])
  }

  /** Seconds since its start, of all threads. */
  cpuS(): number {
    const { user, system } = new ProcessMeter([this.pid]).cpu()!
    return user + system
  }

  /** One value of /metrics; NaN where it is not there. */
  async metric(name: string): Promise<number> {
    const text = await (await fetch(`http://127.0.0.1:${this.ports.metrics}/metrics`)).text()
    return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1] ?? Number.NaN)
  }
}

function connects(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect({ host: '127.0.0.1', port })
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
    socket.once('connect', () => socket.destroy())
  })
}

/** A folder of its own for the run, gone when it ends; or the one given, which stays. */
export function dataFolder(given: string | undefined): string {
  if (given !== undefined) return given
  const made = mkdtempSync(join(tmpdir(), 'rookery-load-'))
  process.once('exit', () => rmSync(made, { recursive: true, force: true }))
  return made
}

/** Says what has come of it, now and then. */
export function everyTwoSeconds(say: () => string): () => void {
  const timer = setInterval(() => console.log(say()), 2_000)
  return () => clearInterval(timer)
}

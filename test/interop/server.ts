// The server under test: real processes behind real sockets.
//
// By default it is Rookery in one process, started with a configuration of its own on free ports and an empty data folder. In
// the project `cluster` (test/form.ts) it is a cluster, one for all files (cluster.ts); where that cannot be had, all tests are
// skipped. With ROOKERY_TEST_TARGET in the environment (JSON: host, port, tlsPort, websocketUrl, httpUrl, domain, and servesChat
// if the chat page is there) the same tests run against any XMPP server that is already up, which tells whether a failing test
// is wrong or right.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, inject } from 'vitest'
import { stringify } from 'yaml'
import { isCluster } from '#test/form.ts'
import { lastLines } from '#test/support/mailbox.ts'
import { freePorts } from '#test/support/ports.ts'
import { registerInBand, trustCertificateOf } from './accounts.ts'
import type { ClusterPlace, Ports } from './cluster.ts'

const ROOT = join(import.meta.dirname, '../..')
const READY_WITHIN_MS = 30_000
const STOPPED_WITHIN_MS = 10_000
/** Six processes, NATS and DynamoDB, on a machine that has other things to do. */
const CLUSTER_WITHIN_MS = 180_000
const LOG_CHARS_MAX = 400_000
/** Of the log of each process of a cluster. */
const LOG_LINES_EACH = 25

export interface TestServer {
  readonly domain: string
  readonly host: string
  /** Client to server, with STARTTLS. */
  readonly port: number
  /** Client to server, TLS from the first byte (XEP-0368). */
  readonly tlsPort: number
  readonly websocketUrl: string
  readonly httpUrl: string
  /** False only for a foreign target without a chat page: the test then brings one. */
  readonly servesChat: boolean
  /**
   * In a cluster each edge for itself: whoever is to come back to the edge he was on connects to one of these. Empty where there is
   * but one place to connect to.
   */
  readonly edges: readonly TestServer[]
  register(user: string, password: string): Promise<void>
  /** What the server wrote so far, the last 400 000 characters of it. */
  log(): string
  /**
   * SIGTERM. Rejects if that does not end it within 10 s, or ends it badly, or if it had died before.
   * A target that was already up is left alone.
   */
  stop(): Promise<void>
}

type Address = Pick<TestServer, 'domain' | 'host' | 'port' | 'tlsPort' | 'websocketUrl' | 'httpUrl' | 'servesChat'>

/**
 * For a file of tests: the server is started before them, its certificate trusted, and all is stopped behind them. What it is
 * made of is there once they run. Where it cannot be had, each is skipped.
 */
export function testServer(): TestServer {
  const server = {} as { -readonly [K in keyof TestServer]: TestServer[K] }
  let missing: string | undefined
  beforeAll(async () => {
    const started = await startServer()
    if (typeof started === 'string') missing = started
    else {
      Object.assign(server, started)
      await trustCertificateOf(server)
    }
  }, CLUSTER_WITHIN_MS)
  beforeEach(({ skip }) => skip(missing !== undefined, missing))
  afterAll(() => server.stop?.())
  return server
}

/** Resolves to why there is none, where what it stands on cannot be had. */
async function startServer(): Promise<TestServer | string> {
  const target = process.env.ROOKERY_TEST_TARGET
  if (target !== undefined && target !== '') return runningServer(target)
  return isCluster ? sharedCluster() : startRookery()
}

function runningServer(target: string): TestServer {
  const address = JSON.parse(target) as Omit<Address, 'servesChat'> & { servesChat?: boolean }
  return served(
    { ...address, servesChat: address.servesChat ?? false },
    () => `(see the log of ${target})`,
    async () => {},
  )
}

/** It is stopped behind the last file of tests (cluster-setup.ts). */
async function sharedCluster(): Promise<TestServer | string> {
  const answer = await fetch(inject('clusterDoor'), { method: 'POST', signal: AbortSignal.timeout(CLUSTER_WITHIN_MS) })
  const text = await answer.text()
  if (answer.status === 503) return text
  if (answer.status !== 200) throw new Error(`the cluster did not start: ${text}`)
  const { front, edges, logs } = JSON.parse(text) as ClusterPlace
  const log = () => logsIn(logs)
  const at = (ports: Ports, each: readonly TestServer[] = []) => served(placeOf(ports), log, async () => {}, each)
  return at(
    front,
    edges.map((ports) => at(ports)),
  )
}

function placeOf({ c2s, tls, websocket, http }: Ports): Address {
  return {
    domain: 'localhost',
    host: '127.0.0.1',
    port: c2s,
    tlsPort: tls,
    websocketUrl: `ws://127.0.0.1:${websocket}/xmpp-websocket`,
    httpUrl: `http://127.0.0.1:${http}`,
    servesChat: true,
  }
}

function logsIn(folder: string): string {
  const files = readdirSync(folder).filter((name) => name.endsWith('.log'))
  return files.map((name) => `--- ${name}\n${lastLines(readFileSync(join(folder, name), 'utf8'), LOG_LINES_EACH)}`).join('\n')
}

function served(address: Address, log: () => string, stop: () => Promise<void>, edges: readonly TestServer[] = []): TestServer {
  const server: TestServer = {
    ...address,
    edges,
    log,
    stop,
    register: (user, password) => registerInBand(server, user, password),
  }
  return server
}

async function startRookery(): Promise<TestServer> {
  const folder = await mkdtemp(join(tmpdir(), 'rookery-test-'))
  const [port, tlsPort, websocketPort, httpPort, metricsPort] = (await freePorts(5)) as [number, number, number, number, number]
  const file = join(folder, 'rookery.yaml')
  const config = {
    domains: ['localhost'],
    listen: '127.0.0.1',
    data: join(folder, 'data'),
    c2s: { port, tlsPort, requireTls: true, allowPlainOnLoopback: true },
    websocket: { port: websocketPort },
    http: { port: httpPort },
    metrics: { port: metricsPort },
    registration: 'open',
    limits: { registrationsPerHourPerAddress: 0 },
  }
  await writeFile(file, stringify(config))

  const child = spawn(process.execPath, ['services/ctl/main.ts', 'run', '--config', file], {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  const keep = (text: string) => {
    output = (output + text).slice(-LOG_CHARS_MAX)
  }
  child.stdout.setEncoding('utf8').on('data', keep)
  child.stderr.setEncoding('utf8').on('data', keep)
  child.on('error', (error) => keep(`\nnot started: ${error.message}\n`))

  const log = () => output
  let stopping: Promise<void> | undefined
  const stop = () => {
    stopping ??= ended(child)
      .finally(() => rm(folder, { recursive: true, force: true }))
      .then((trouble) => {
        if (trouble !== undefined) throw new Error(`the server ${trouble}:\n${lastLines(output, 60)}`)
      })
    return stopping
  }
  try {
    await ready(child, `http://127.0.0.1:${metricsPort}/ready`, log)
  } catch (error) {
    await stop().catch(() => {}) // the first error says more
    throw error
  }
  return served(placeOf({ c2s: port, tls: tlsPort, websocket: websocketPort, http: httpPort }), log, stop)
}

/** Waits until the server says that it is ready to serve. Throws with its output when it ends first, or takes too long. */
async function ready(child: ChildProcess, url: string, log: () => string): Promise<void> {
  const deadline = performance.now() + READY_WITHIN_MS
  let last = 'no answer yet'
  while (performance.now() < deadline) {
    if (hasEnded(child)) {
      throw new Error(
        `the server ended (code ${child.exitCode}, signal ${child.signalCode}) before it was ready:\n${lastLines(log(), 60)}`,
      )
    }
    try {
      const answer = await fetch(url, { signal: AbortSignal.timeout(2_000) })
      await answer.body?.cancel()
      if (answer.status === 200) return
      last = `status ${answer.status}`
    } catch (error) {
      last = error instanceof Error ? `${error.message} ${String(error.cause ?? '')}` : String(error)
    }
    await new Promise((resume) => setTimeout(resume, 50)) // between two polls of another process: there is no event to wait for
  }
  throw new Error(`the server was not ready within ${READY_WITHIN_MS} ms; ${url}: ${last}:\n${lastLines(log(), 60)}`)
}

/** Ends the server; says what was wrong with the way it went, if anything was. */
async function ended(child: ChildProcess): Promise<string | undefined> {
  if (child.pid === undefined) return 'was not started'
  if (hasEnded(child)) return `had ended before it was asked to: code ${child.exitCode}, signal ${child.signalCode}`
  const exit = once(child, 'exit')
  child.kill('SIGTERM')
  let killed = false
  const timer = setTimeout(() => {
    killed = true
    child.kill('SIGKILL')
  }, STOPPED_WITHIN_MS)
  await exit
  clearTimeout(timer)
  if (killed) return `did not stop within ${STOPPED_WITHIN_MS} ms of SIGTERM`
  return child.exitCode === null || child.exitCode === 0 ? undefined : `stopped with code ${child.exitCode}`
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null
}

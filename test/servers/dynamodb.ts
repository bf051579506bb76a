// A DynamoDB of the tests' own: Amazon's DynamoDB Local, with its rows in memory.
//
// Where a Docker engine is, it runs the image amazon/dynamodb-local, by testcontainers; else the jar that
// scripts/dynamodb-local.sh finds or fetches runs in a Java of this machine. Where there is neither, the suite that asked is
// skipped, and is told why; but where EXPECT_DYNAMODB is set, that is a fault. Every pair of access key and region has tables
// of its own.
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { lastLines } from '#test/support/mailbox.ts'
import { freePorts } from '#test/support/ports.ts'
import { whyNoContainer } from './docker.ts'

const SCRIPT = join(import.meta.dirname, '../../scripts/dynamodb-local.sh')
const IMAGE = 'amazon/dynamodb-local:latest'
const CONTAINER_PORT = 8000
/** Fetching the jar, once. */
const FETCHED_WITHIN_MS = 300_000
const READY_WITHIN_MS = 60_000
const POLL_MS = 50
/** Somebody else may take a port between its choice and its use. */
const STARTS_MAX = 3
const LOG_CHARS_MAX = 100_000

export interface DynamoDbServer {
  /** `http://127.0.0.1:PORT` */
  readonly endpoint: string
  /** Of the Java; undefined where Docker runs it. */
  readonly pid: number | undefined
  kill(signal: 'SIGSTOP' | 'SIGCONT' | 'SIGTERM' | 'SIGKILL'): Promise<void>
  stop(): Promise<void>
}

/** Resolves when it answers; to undefined, having said on standard error what is missing, where it cannot be had. */
export async function startDynamoDb(): Promise<DynamoDbServer | undefined> {
  const noContainer = await whyNoContainer(IMAGE)
  if (noContainer === undefined) return startContainer()
  const folder = await folderOfJar()
  if (!(folder instanceof Error)) return startJava(folder)
  const why = `${noContainer.message}\n${folder.message}`
  if (process.env.EXPECT_DYNAMODB) throw new Error(`this machine should have a DynamoDB to test with, and has none:\n${why}`)
  console.warn(`SKIPPED: no DynamoDB to test with:\n${why}`)
  return undefined
}

async function folderOfJar(): Promise<string | Error> {
  try {
    return (await promisify(execFile)(SCRIPT, { timeout: FETCHED_WITHIN_MS })).stdout.trim()
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string }
    return new Error(stderr?.trim() || message)
  }
}

async function startJava(folder: string): Promise<DynamoDbServer> {
  for (let start = 1; ; start++) {
    const [port] = (await freePorts(1)) as [number]
    const child = spawn('java', argumentsFor(folder, port), { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => {
        output = (output + text).slice(-LOG_CHARS_MAX)
      })
    child.on('error', (error) => {
      output += `\n${error.message}\n`
    })
    const server = running(child, `http://127.0.0.1:${port}`)
    try {
      await ready(server.endpoint, () => hasEnded(child))
      return server
    } catch (error) {
      await server.stop()
      if (start === STARTS_MAX) throw new Error(`${(error as Error).message}:\n${lastLines(output, 40)}`)
    }
  }
}

/** A small heap, and no time spent on optimising what soon ends. Telemetry would leave this machine. */
function argumentsFor(folder: string, port: number): string[] {
  const java = [
    '-Xmx512m',
    '-XX:+UseSerialGC',
    '-XX:TieredStopAtLevel=1',
    `-Djava.library.path=${join(folder, 'DynamoDBLocal_lib')}`,
  ]
  return [...java, '-jar', join(folder, 'DynamoDBLocal.jar'), '-inMemory', '-disableTelemetry', '-port', `${port}`]
}

function running(child: ChildProcess, endpoint: string): DynamoDbServer {
  const killAtExit = () => child.kill('SIGKILL')
  process.once('exit', killAtExit)
  return {
    endpoint,
    pid: child.pid,
    async kill(signal) {
      const ends = signal === 'SIGTERM' || signal === 'SIGKILL'
      const exit = ends && !hasEnded(child) ? once(child, 'exit') : undefined
      child.kill(signal)
      await exit
    },
    async stop() {
      process.off('exit', killAtExit)
      if (child.pid !== undefined) await this.kill('SIGKILL') // also one that was stopped by SIGSTOP; nothing of it is to be kept
    },
  }
}

function hasEnded(child: ChildProcess): boolean {
  return child.pid === undefined || child.exitCode !== null || child.signalCode !== null
}

/** Any answer to HTTP will do: without a signature it is a refusal. */
async function ready(endpoint: string, ended: () => boolean): Promise<void> {
  const deadline = performance.now() + READY_WITHIN_MS
  let last = 'no answer yet'
  while (performance.now() < deadline) {
    if (ended()) throw new Error('DynamoDB Local ended before it was ready')
    try {
      const answer = await fetch(endpoint, { signal: AbortSignal.timeout(2_000) })
      await answer.body?.cancel()
      return
    } catch (error) {
      last = `${(error as Error).message} ${String((error as Error).cause ?? '')}`
    }
    await new Promise((resume) => setTimeout(resume, POLL_MS)) // another process: there is no event to wait for
  }
  throw new Error(`DynamoDB Local did not answer within ${READY_WITHIN_MS} ms: ${last}`)
}

async function startContainer(): Promise<DynamoDbServer> {
  const { GenericContainer, getContainerRuntimeClient, Wait } = await import('testcontainers')
  const runtime = await getContainerRuntimeClient()
  const container = await new GenericContainer(IMAGE)
    .withCommand(['-jar', 'DynamoDBLocal.jar', '-inMemory', '-disableTelemetry'])
    .withExposedPorts(CONTAINER_PORT)
    .withWaitStrategy(Wait.forListeningPorts())
    .withStartupTimeout(READY_WITHIN_MS)
    .start()
  const endpoint = `http://${container.getHost()}:${container.getMappedPort(CONTAINER_PORT)}`
  await ready(endpoint, () => false)
  return {
    endpoint,
    pid: undefined,
    async kill(signal) {
      await runtime.container.getById(container.getId()).kill({ signal })
    },
    async stop() {
      await container.stop()
    },
  }
}

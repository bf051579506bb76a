// A nats-server as a process, whatever else is here: what it costs is measured, and what it says it has carried.
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePorts } from '#test/support/ports.ts'

const SCRIPT = join(import.meta.dirname, '../../scripts/nats-server.sh')
const READY_WITHIN_MS = 20_000

export interface NatsProcess {
  readonly url: string
  readonly pid: number
  /** What its monitoring port tells: `varz` … */
  monitor(what: string): Promise<Record<string, unknown>>
  stop(): Promise<void>
}

/** Messages, and the bytes of their bodies. What is published to many is delivered as often. */
export interface Carried {
  readonly published: number
  readonly publishedBytes: number
  readonly delivered: number
  readonly deliveredBytes: number
}

/** Throws Error where there is none to be had, with how to get one, or it does not start. */
export async function startNatsProcess(): Promise<NatsProcess> {
  const binary = execFileSync(SCRIPT, ['--no-install'], { encoding: 'utf8' }).trim()
  const [port, monitoring] = (await freePorts(2)) as [number, number]
  const child = spawn(binary, ['-a', '127.0.0.1', '-p', `${port}`, '-m', `${monitoring}`], { stdio: 'ignore' })
  await once(child, 'spawn')
  const hasEnded = () => child.exitCode !== null || child.signalCode !== null
  const killAtExit = () => child.kill('SIGKILL')
  process.once('exit', killAtExit)
  const deadline = performance.now() + READY_WITHIN_MS
  while (!(await listens(port))) {
    if (hasEnded() || performance.now() > deadline) {
      killAtExit()
      throw new Error('nats-server does not start')
    }
    await sleep(20)
  }
  return {
    url: `nats://127.0.0.1:${port}`,
    pid: child.pid!,
    monitor: async (what) => (await fetch(`http://127.0.0.1:${monitoring}/${what}`)).json() as Promise<Record<string, unknown>>,
    async stop() {
      process.off('exit', killAtExit)
      const ended = hasEnded() ? undefined : once(child, 'exit')
      child.kill('SIGTERM')
      await ended
    },
  }
}

/** Since its start, for all. */
export async function carriedBy(nats: NatsProcess): Promise<Carried> {
  const { in_msgs, in_bytes, out_msgs, out_bytes } = (await nats.monitor('varz')) as Readonly<Record<string, number>>
  return { published: in_msgs!, publishedBytes: in_bytes!, delivered: out_msgs!, deliveredBytes: out_bytes! }
}

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port })
    socket
      .once('error', () => resolve(false))
      .once('connect', () => {
        socket.destroy()
        resolve(true)
      })
  })
}

// A nats-server as a process, whatever else is here: what it costs is measured.
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
  stop(): Promise<void>
}

/** Throws Error where there is none to be had, with how to get one, or it does not start. */
export async function startNatsProcess(): Promise<NatsProcess> {
  const binary = execFileSync(SCRIPT, ['--no-install'], { encoding: 'utf8' }).trim()
  const [port] = (await freePorts(1)) as [number]
  const child = spawn(binary, ['-a', '127.0.0.1', '-p', `${port}`], { stdio: 'ignore' })
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
    async stop() {
      process.off('exit', killAtExit)
      const ended = hasEnded() ? undefined : once(child, 'exit')
      child.kill('SIGTERM')
      await ended
    },
  }
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

// DynamoDB Local that is left to compile what it runs, and that may keep its rows for servers that are started again.
//
// On a disk it is too slow to say anything of who asks it, so its file is in memory while it runs, and kept when it stops.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { DynamoDbServer } from '#test/servers/dynamodb.ts'
import { freePorts } from '#test/support/ports.ts'

const SCRIPT = join(import.meta.dirname, '../../scripts/dynamodb-local.sh')
/** Where files are in memory, on Linux. */
const IN_MEMORY = '/dev/shm'
const READY_WITHIN_MS = 60_000
const STOPPED_WITHIN_MS = 10_000

/**
 * Throws Error where there is none to be had, or it does not start.
 * @param kept a folder: it begins with the rows of the last time, and they are there again once it was stopped
 */
export async function startDynamoDb(kept?: string): Promise<DynamoDbServer & { readonly pid: number }> {
  const jar = execFileSync(SCRIPT, { encoding: 'utf8' }).trim()
  const [port] = (await freePorts(1)) as [number]
  const folder = mkdtempSync(join(existsSync(IN_MEMORY) ? IN_MEMORY : tmpdir(), 'rookery-dynamodb-'))
  if (kept !== undefined && existsSync(kept)) cpSync(kept, folder, { recursive: true })
  const java = ['-Xms512m', '-Xmx1g', '-XX:+UseSerialGC', `-Djava.library.path=${join(jar, 'DynamoDBLocal_lib')}`]
  const local = [
    '-jar',
    join(jar, 'DynamoDBLocal.jar'),
    ...(kept === undefined ? ['-inMemory'] : ['-dbPath', folder, '-sharedDb']),
    '-disableTelemetry',
  ]
  const child = spawn('java', [...java, ...local, '-port', `${port}`], { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] })
  await once(child, 'spawn')
  const killAtExit = () => {
    child.kill('SIGKILL')
    rmSync(folder, { recursive: true, force: true })
  }
  process.once('exit', killAtExit)
  const endpoint = `http://127.0.0.1:${port}`
  await untilItAnswers(child, endpoint)
  const kill: DynamoDbServer['kill'] = async (signal) => {
    const ends = (signal === 'SIGTERM' || signal === 'SIGKILL') && !hasEnded(child)
    const exit = ends ? once(child, 'exit') : undefined
    child.kill(signal)
    await exit
  }
  const stop = async () => {
    const impatience = setTimeout(() => child.kill('SIGKILL'), STOPPED_WITHIN_MS)
    await kill('SIGTERM')
    clearTimeout(impatience)
    if (kept !== undefined) {
      mkdirSync(kept, { recursive: true })
      cpSync(folder, kept, { recursive: true })
    }
    process.off('exit', killAtExit)
    rmSync(folder, { recursive: true, force: true })
  }
  return { endpoint, pid: child.pid!, kill, stop }
}

function hasEnded({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null
}

/** Anything: without a signature it is a refusal. */
async function untilItAnswers(child: ChildProcess, endpoint: string): Promise<void> {
  const deadline = performance.now() + READY_WITHIN_MS
  for (;;) {
    try {
      const answer = await fetch(endpoint, { signal: AbortSignal.timeout(2_000) })
      await answer.body?.cancel()
      return
    } catch (cause) {
      if (hasEnded(child) || performance.now() > deadline) {
        child.kill('SIGKILL')
        throw new Error('DynamoDB Local does not answer', { cause })
      }
      await sleep(50)
    }
  }
}

// Runs a command of a test inside Debian 13 (scripts/debian13.sh).
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'

const ROOT = join(import.meta.dirname, '../..')
/** What the script exits with where this machine can run no Debian 13 (EX_TEMPFAIL of sysexits.h). */
const CANNOT = 75

export interface Ran {
  readonly exitCode: number | null
  /** Standard output and standard error, as they came. */
  readonly output: string
}

/**
 * Undefined where this machine can run no Debian 13: `why` is told, and the test skips. But where EXPECT_DEBIAN13 is set
 * (.ci/run does where it can be had) that is an error.
 */
export async function inDebian13(
  command: readonly string[],
  env: Record<string, string>,
  why: (text: string) => void,
): Promise<Ran | undefined> {
  const child = spawn(join(ROOT, 'scripts/debian13.sh'), command, {
    cwd: ROOT,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  const keep = (text: string) => {
    output += text
  }
  child.stdout.setEncoding('utf8').on('data', keep)
  child.stderr.setEncoding('utf8').on('data', keep)
  const [exitCode] = (await once(child, 'close')) as [number | null]
  if (exitCode !== CANNOT) return { exitCode, output }
  if (process.env.EXPECT_DEBIAN13) throw new Error(`this machine should run Debian 13, and does not:\n${output}`)
  why(output)
  return undefined
}

// Where a command is carried out: by the server that runs on the data folder, or on its data at rest.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { createLog, type Log } from '#core/observing/log.ts'
import type { Perform } from '#embedded/account-calls.ts'
import { openAtRest } from '#embedded/at-rest.ts'
import type { Configured } from './configured.ts'
import { connectControl } from './control-client.ts'

/** A server that starts or stops, and other commands at work on the data at rest, are waited for. */
const BUSY_WAIT_MS = 30_000
const BUSY_PAUSE_MS = 50

export interface Reached {
  readonly perform: Perform
  /** For the end of a sentence. */
  readonly where: string
  close(): Promise<void> | void
}

/**
 * `mayBeFirst`: it may be done where no server has ever run. Throws Error with a sentence for whoever typed the command.
 */
export type Reach = (configured: Configured, mayBeFirst: boolean) => Promise<Reached>

/** What a command has to say of itself: faults, on standard error. */
export function commandLog(): Log {
  return createLog({ level: 'warn', pretty: true, write: (line) => void process.stderr.write(line) })
}

export const reachRunning: Reach = async ({ config }) => {
  const running = await connectControl(config.data)
  if (running === undefined) throw new Error(`no server runs on ${config.data}: nobody is online`)
  return { ...running, where: 'on the running server' }
}

export const reachFolder: Reach = async ({ config, modules }, mayBeFirst) => {
  const log = commandLog()
  const deadline = performance.now() + BUSY_WAIT_MS
  for (;;) {
    const running = await connectControl(config.data)
    if (running !== undefined) return { ...running, where: 'on the running server' }
    if (!mayBeFirst && !existsSync(join(config.data, 'rookery.sqlite'))) {
      throw new Error(
        `no server runs on ${config.data}, and none has: there are no accounts; --config FILE tells where the data is`,
      )
    }
    const atRest = await openAtRest(config, modules, log)
    if (atRest !== undefined) return { ...atRest, where: `in ${config.data}; no server runs on it` }
    if (performance.now() > deadline)
      throw new Error(`another rookery process is at work on ${config.data}; wait until it is done`)
    await new Promise((resume) => setTimeout(resume, BUSY_PAUSE_MS))
  }
}

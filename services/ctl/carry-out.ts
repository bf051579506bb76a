// One request of a command, performed by the server that runs on the data folder, or on its data at rest.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { createLog } from '#core/log.ts'
import type { AccountRequest, Entry, Perform } from '#embedded/account-calls.ts'
import { openAtRest } from '#embedded/at-rest.ts'
import { StanzaError } from '#xmpp/error.ts'
import { type Configured, readConfiguration } from './configured.ts'
import { connectControl } from './control-client.ts'

/** A server that starts or stops, and other commands at work on the data at rest, are waited for. */
const BUSY_WAIT_MS = 30_000
const BUSY_PAUSE_MS = 50

/** The next entry is asked for when it is done with one. */
type OnEntry = (entry: Entry) => void | Promise<void>

interface Reached {
  readonly perform: Perform
  /** For the end of a sentence. */
  readonly where: string
  close(): Promise<void> | void
}

/** Performs one request, and says where. Throws Error with a sentence for whoever typed the command. */
export async function carryOut(
  file: string | undefined,
  request: AccountRequest,
  mayBeFirst = false,
  onEntry: OnEntry = () => {},
): Promise<string> {
  const reached = await reach(await readConfiguration(file), mayBeFirst)
  await complete(reached, request, onEntry)
  return reached.where
}

/** The same of a server that must run, since it is about those who are online. Gives what is told. */
export async function askRunning(
  file: string | undefined,
  request: AccountRequest,
  onEntry: OnEntry = () => {},
): Promise<unknown> {
  const { config } = await readConfiguration(file)
  const running = await connectControl(config.data)
  if (running === undefined) throw new Error(`no server runs on ${config.data}: nobody is online`)
  return complete(running, request, onEntry)
}

async function complete(reached: Omit<Reached, 'where'>, request: AccountRequest, onEntry: OnEntry): Promise<unknown> {
  try {
    const performing = reached.perform(request)
    for (;;) {
      const { value, done } = await performing.next()
      if (done) return value
      await onEntry(value as Entry)
    }
  } catch (error) {
    if (!(error instanceof StanzaError)) throw error
    const why = error.text === '' ? `it could not be done (${error.condition}); the log says why` : error.text
    throw new Error(request.account === undefined ? why : `${request.account}: ${why}`, { cause: error })
  } finally {
    await reached.close()
  }
}

async function reach({ config, modules }: Configured, mayBeFirst: boolean): Promise<Reached> {
  const log = createLog({ level: 'warn', pretty: true, write: (line) => void process.stderr.write(line) })
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

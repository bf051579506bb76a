// The data at rest: the roles without a port, for a command that works while no server runs.
//
// Accounts are made and removed by those who own them while the server runs: so contacts hear of a removal, and every
// row goes that a module knows of. Here the same roles do the same, and stop when they have nothing under way.
import { type Clock, systemClock } from '#core/clock.ts'
import { Lifecycle } from '#core/lifecycle.ts'
import type { AnyModule } from '#core/module.ts'
import type { Log } from '#core/observing/log.ts'
import type { Config } from '#core/settings/config.ts'
import { startPresence } from '#presence/main.ts'
import { startRouter } from '#router/main.ts'
import type { ClosableTable, Table } from '#table/table.ts'
import { accountCalls, type Perform } from './account-calls.ts'
import { type FolderLock, tryLockFolder } from './folder-lock.ts'
import { makeDataFolder, makeProcess, openTable, soleFoundations } from './parts.ts'

/** A disk that refuses writes is tried again for this long. */
const STOP_TIMEOUT_MS = 10_000
/** A role asks the table again, or hears from another by the bus, within fewer turns of the event loop than this. */
const QUIET_TURNS = 10

export interface AtRest {
  readonly perform: Perform
  /** Resolves when all that was done is durable. Throws Error where the disk would not take it. */
  close(): Promise<void>
}

/** Makes the folder where it is not there. Undefined while another process is at work on it. */
export async function openAtRest(config: Config, modules: readonly AnyModule[], log: Log): Promise<AtRest | undefined> {
  await makeDataFolder(config.data)
  const lock = tryLockFolder(config.data)
  if (lock === undefined) return undefined
  try {
    return await startRoles(config, modules, log, lock)
  } catch (error) {
    lock.release()
    throw error
  }
}

async function startRoles(config: Config, modules: readonly AnyModule[], log: Log, lock: FolderLock): Promise<AtRest> {
  const lifecycle = new Lifecycle(log)
  const opened = await openTable(config, log)
  const { table, quiet } = watched(opened)
  const process = makeProcess(config, modules, soleFoundations(log, table, idleClock))
  try {
    await lifecycle.start(startPresence(process))
    await lifecycle.start(startRouter(process, { finishes: false })) // a command has ended when it has done what it was asked
  } catch (error) {
    await opened.close()
    throw error
  }
  return {
    perform: accountCalls(process),
    async close() {
      const stopped = quiet()
        .then(() => lifecycle.stop())
        .then(() => process.bus.drain())
      const inTime = await within(STOP_TIMEOUT_MS, stopped)
      await opened.close()
      lock.release()
      if (!inTime)
        throw new Error(`not everything could be written to ${config.data}; look whether its disk is full, then do it again`)
    },
  }
}

/** The same table, and when it has not been asked anything for a while: then nobody waits for an answer of it, either. */
function watched(table: ClosableTable): { table: Table; quiet: () => Promise<void> } {
  let open = 0
  const counted = <T>(work: Promise<T>): Promise<T> => {
    open++
    return work.finally(() => open--)
  }
  return {
    table: {
      get: (key) => counted(table.get(key)),
      put: (row, ifVersion) => counted(table.put(row, ifVersion)),
      delete: (key, ifVersion) => counted(table.delete(key, ifVersion)),
      async *query(pk, range) {
        open++
        try {
          yield* table.query(pk, range)
        } finally {
          open--
        }
      },
    },
    async quiet() {
      for (let turns = 0; turns < QUIET_TURNS; turns = open === 0 ? turns + 1 : 0)
        await new Promise((resume) => setImmediate(resume))
    },
  }
}

/** Its timers keep no process alive: a command has ended when it has nothing left to do but try again. */
const idleClock: Clock = {
  ...systemClock,
  setTimeout: (call, ms) => (systemClock.setTimeout(call, ms) as NodeJS.Timeout).unref(),
  setInterval: (call, ms) => (systemClock.setInterval(call, ms) as NodeJS.Timeout).unref(),
}

async function within(ms: number, work: Promise<unknown>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), ms)
  })
  const done = await Promise.race([work.then(() => true), late])
  clearTimeout(timer)
  return done
}

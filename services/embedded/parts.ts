// What a process is made of: of all forms, and of the embedded one, whether it serves or works on data at rest.
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { memoryBus } from '#bus/memory.ts'
import { type Clock, systemClock } from '#core/clock.ts'
import { directLog } from '#core/commits/direct-log.ts'
import type { AnyModule } from '#core/module.ts'
import type { Log } from '#core/observing/log.ts'
import { Metrics } from '#core/observing/metrics.ts'
import { soleOwnership } from '#core/ownership/ownership.ts'
import type { Process } from '#core/process.ts'
import type { Config } from '#core/settings/config.ts'
import { serverFacts } from '#core/settings/hosts.ts'
import { Readings } from '#core/storage/readings.ts'
import { VERSION } from '#core/version.ts'
import { openSqliteTable } from '#table/sqlite.ts'
import type { ClosableTable, Table } from '#table/table.ts'
import { lowercaseId } from '#xmpp/id.ts'

/** For its owner alone: keys, passwords' keys and messages will be in it. Throws Error that says what to set. */
export async function makeDataFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 })
  } catch (cause) {
    const why = `the data folder ${folder} cannot be made: ${(cause as Error).message}`
    throw new Error(`${why}; set data to a folder this user may write`, { cause })
  }
}

/** Throws Error that names the file. */
export function openTable(config: Config, log: Log): Promise<ClosableTable> {
  return openSqliteTable({ file: join(config.data, 'rookery.sqlite'), onError: (error) => log.error('table.failed', { error }) })
}

/** What is different in each form: where rows are, how roles talk, and who owns what. */
export type Foundations = Pick<
  Process,
  'id' | 'bus' | 'table' | 'ownership' | 'members' | 'openLog' | 'clock' | 'log' | 'metrics'
>

/** Of `modules`, all there are, the process loads those that are not disabled. */
export function makeProcess(config: Config, modules: readonly AnyModule[], foundations: Foundations): Process {
  return {
    ...foundations,
    config,
    moduleOptions: config.modules,
    modules: modules.filter(({ name }) => config.modules[name]?.enabled !== false),
    journals: modules.flatMap(({ journals = [] }) => journals),
    server: serverFacts(config, VERSION, config.modules),
    readings: new Readings(foundations.clock),
  }
}

/** A process that owns everything, on a bus of its own. */
export function soleFoundations(log: Log, table: Table, clock: Clock = systemClock): Foundations {
  const id = lowercaseId()
  return {
    id,
    bus: memoryBus({ onError: (error, subject) => log.error('bus.handler_broke', { subject, error }) }),
    table,
    ownership: soleOwnership(id),
    openLog: (_role, log) => directLog(table, clock, log),
    clock,
    log,
    metrics: new Metrics(),
  }
}

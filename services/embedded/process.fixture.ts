// A process for tests: a memory bus, a table in memory, and a data folder of its own.
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { memoryBus } from '#bus/memory.ts'
import { systemClock } from '#core/clock.ts'
import { directLog } from '#core/commits/direct-log.ts'
import type { AnyModule } from '#core/module.ts'
import { type MemoryLog, memoryLog } from '#core/observing/log.ts'
import { Metrics } from '#core/observing/metrics.ts'
import { soleOwnership } from '#core/ownership/ownership.ts'
import type { Process } from '#core/process.ts'
import { type Config, loadConfig } from '#core/settings/config.ts'
import { serverFacts } from '#core/settings/hosts.ts'
import { Readings } from '#core/storage/readings.ts'
import { presenceModules } from '#presence/main.ts'
import { memoryTable } from '#table/memory.ts'
import { lowercaseId } from '#xmpp/id.ts'

export interface TestProcess extends Process {
  readonly log: MemoryLog
}

/** The folder is there, and empty. Passwords are hashed as seldom as may be. */
export function testConfig(domains: readonly string[] = ['localhost', 'example.org']): Config {
  const data = mkdtempSync(join(tmpdir(), 'rookery-data-'))
  const text = JSON.stringify({ domains, data, scram: { iterations: 4096 } })
  return loadConfig({ text, env: {}, moduleOptions: { roster: {} } }).config
}

export function testProcess(config: Config = testConfig(), modules: readonly AnyModule[] = presenceModules): TestProcess {
  const id = lowercaseId()
  const log = memoryLog()
  const table = memoryTable()
  return {
    id,
    bus: memoryBus({ onError: (error, subject) => log.error('bus.handler_broke', { subject, error }) }),
    table,
    ownership: soleOwnership(id),
    config,
    moduleOptions: {},
    modules,
    journals: modules.flatMap(({ journals = [] }) => journals),
    openLog: (_role, log) => directLog(table, systemClock, log),
    server: serverFacts(config, '0', {}),
    clock: systemClock,
    log,
    metrics: new Metrics(),
    readings: new Readings(),
  }
}

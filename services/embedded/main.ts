// All roles in one process: the in-process bus, the SQLite table, and every service on them.
//
// This is what `rookery run` starts by default, and all that a laptop needs. Nothing here decides anything: it makes
// the parts and hands them on to be served.

import { Lifecycle } from '#core/lifecycle.ts'
import type { AnyModule } from '#core/module.ts'
import { Health } from '#core/observing/health.ts'
import type { Log } from '#core/observing/log.ts'
import type { Config } from '#core/settings/config.ts'
import { startControl } from './control.ts'
import { makeDataFolder, makeProcess, openTable, soleFoundations } from './parts.ts'
import { ROLES, type Running, serve } from './serve.ts'

/** Throws Error that says what is in the way: a taken port, a folder that cannot be written, a damaged file. */
export async function startEmbedded(config: Config, modules: readonly AnyModule[], log: Log): Promise<Running> {
  const lifecycle = new Lifecycle(log)
  await makeDataFolder(config.data)
  const table = await openTable(config, log)
  const process = makeProcess(config, modules, soleFoundations(log, table))
  lifecycle.add('table', () => table.close())
  lifecycle.add('bus', () => process.bus.drain())
  await lifecycle.start(startControl(process)) // first: it refuses a folder that another server works on
  return serve({ process, lifecycle, health: new Health(ROLES), roles: ROLES })
}

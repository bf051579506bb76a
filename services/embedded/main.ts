// All roles in one process: the in-process bus, the SQLite table, and every service on them.
//
// This is what `rookery run` starts by default, and all that a laptop needs. Nothing here decides anything: it makes
// the parts, hands them to each other and starts them in order, ports last.
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { memoryBus } from '#bus/memory.ts'
import { systemClock } from '#core/clock.ts'
import type { Config } from '#core/config.ts'
import { Health } from '#core/health.ts'
import { Lifecycle } from '#core/lifecycle.ts'
import type { Log } from '#core/log.ts'
import { Metrics } from '#core/metrics.ts'
import type { AnyModule } from '#core/module.ts'
import { soleOwnership } from '#core/ownership.ts'
import type { Process } from '#core/process.ts'
import { VERSION } from '#core/version.ts'
import { type CertificatePair, ensureCertificate } from '#edge/certificate.ts'
import { type RunningEdge, startEdge } from '#edge/main.ts'
import { startPresence } from '#presence/main.ts'
import { startRouter } from '#router/main.ts'
import { openSqliteTable } from '#table/sqlite.ts'
import { lowercaseId } from '#xmpp/id.ts'
import { startHealth } from '#web/health.ts'
import { startWeb } from '#web/main.ts'
import { startControl } from './control.ts'

export interface Running {
  readonly certificate: CertificatePair
  readonly edge: RunningEdge
  /** Where HTTP is served; empty where it is off. */
  readonly http: readonly { readonly host: string; readonly port: number }[]
  stop(): Promise<void>
}

/** Throws Error that says what is in the way: a taken port, a folder that cannot be written, a damaged file. */
export async function startEmbedded(config: Config, modules: readonly AnyModule[], log: Log): Promise<Running> {
  const lifecycle = new Lifecycle(log)
  await makeFolder(config.data)
  const certificate = await ensureCertificate({ dir: config.data, domains: config.domains, cert: config.tls.cert, key: config.tls.key })
  for (const warning of certificate.warnings) log.warn('certificate.doubtful', { warning })

  const bus = memoryBus({ onError: (error, subject) => log.error('bus.handler_broke', { subject, error }) })
  const table = await openSqliteTable({ file: join(config.data, 'rookery.sqlite'), onError: (error) => log.error('table.failed', { error }) })
  lifecycle.add('table', () => table.close())
  lifecycle.add('bus', () => bus.drain())

  const id = lowercaseId()
  const metrics = new Metrics()
  metrics.watchProcess()
  const process: Process = {
    id,
    bus,
    table,
    ownership: soleOwnership(id),
    config,
    moduleOptions: config.modules,
    modules: modules.filter(({ name }) => config.modules[name]?.enabled !== false),
    server: { domains: config.domains, registration: config.registration, version: VERSION },
    clock: systemClock,
    log,
    metrics,
  }

  const health = new Health(['router', 'presence', 'edge', 'web'])
  await lifecycle.start(startHealth(process, health))
  await lifecycle.start(startControl(process))
  await lifecycle.start(startPresence(process))
  health.up('presence')
  await lifecycle.start(startRouter(process))
  health.up('router')
  const edge = await lifecycle.start(startEdge(process, certificate))
  health.up('edge')
  const web = await lifecycle.start(startWeb(process, { listeners: edge.listeners, certificate }))
  health.up('web')

  return {
    certificate,
    edge,
    http: web.listeners,
    async stop() {
      health.down('edge')
      await lifecycle.stop()
    },
  }
}

/** Only its owner reads what is in it: keys, passwords' keys, messages. */
async function makeFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 })
  } catch (error) {
    throw new Error(`the data folder ${folder} cannot be made: ${(error as Error).message}; set data to a folder this user may write`, { cause: error })
  }
}

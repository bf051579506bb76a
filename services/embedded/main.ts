// All roles in one process: the in-process bus, the SQLite table, and every service on them.
//
// This is what `rookery run` starts by default, and all that a laptop needs. Nothing here decides anything: it makes
// the parts, hands them to each other and starts them in order, ports last.
import type { Config } from '#core/config.ts'
import { Health } from '#core/health.ts'
import { Lifecycle } from '#core/lifecycle.ts'
import type { Log } from '#core/log.ts'
import type { AnyModule } from '#core/module.ts'
import type { CertificatePair } from '#edge/certificate.ts'
import { type RunningEdge, startEdge } from '#edge/main.ts'
import { startPresence } from '#presence/main.ts'
import { startRouter } from '#router/main.ts'
import { startHealth } from '#web/health.ts'
import { startWeb } from '#web/main.ts'
import { openCertificates } from './certificates.ts'
import { startControl } from './control.ts'
import { makeDataFolder, makeProcess, openTable } from './parts.ts'

export interface Running {
  /** What clients are shown that name no host. */
  readonly certificate: CertificatePair
  readonly edge: RunningEdge
  /** Where HTTP is served, and health and metrics; empty where they are off. */
  readonly http: readonly Listener[]
  readonly metrics: readonly Listener[]
  /** Reads the certificates again. What cannot be used is told to the log, and the ones before stay in use. */
  reload(): Promise<void>
  stop(): Promise<void>
}

interface Listener {
  readonly name: string
  readonly host: string
  readonly port: number
}

/** Throws Error that says what is in the way: a taken port, a folder that cannot be written, a damaged file. */
export async function startEmbedded(config: Config, modules: readonly AnyModule[], log: Log): Promise<Running> {
  const lifecycle = new Lifecycle(log)
  await makeDataFolder(config.data)
  const table = await openTable(config, log)
  const process = makeProcess(config, modules, log, table)
  lifecycle.add('table', () => table.close())
  lifecycle.add('bus', () => process.bus.drain())
  process.metrics.watchProcess()

  const health = new Health(['router', 'presence', 'edge', 'web'])
  await lifecycle.start(startControl(process)) // first: it refuses a folder that another server works on
  const certificates = await lifecycle.start(openCertificates(process))
  const [certificate] = certificates.tls.pairs as [CertificatePair]
  const { listeners: metrics } = await lifecycle.start(startHealth(process, health))
  await lifecycle.start(startPresence(process))
  health.up('presence')
  await lifecycle.start(startRouter(process))
  health.up('router')
  const edge = await lifecycle.start(startEdge(process, certificates))
  health.up('edge')
  const web = await lifecycle.start(startWeb(process, { listeners: edge.listeners, certificate }))
  health.up('web')

  return {
    certificate,
    edge,
    http: web.listeners,
    metrics,
    reload: () => certificates.reload(),
    async stop() {
      health.down('edge')
      await lifecycle.stop()
    },
  }
}

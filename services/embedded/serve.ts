// Starting the roles of a process, in whatever form: those that own accounts, then what clients reach, ports last.
//
// Nothing here knows whether it is all there is or one process of many: that is in what the process is made of (parts.ts).

import type { Lifecycle } from '#core/lifecycle.ts'
import type { Health } from '#core/observing/health.ts'
import type { RoleName } from '#core/ownership/ownership.ts'
import type { Process, RunningRole } from '#core/process.ts'
import type { Config } from '#core/settings/config.ts'
import type { CertificatePair } from '#edge/listeners/certificate.ts'
import type { Certificates } from '#edge/listeners/certificates.ts'
import { type RunningEdge, startEdge } from '#edge/main.ts'
import { startPresence } from '#presence/main.ts'
import { startRouter } from '#router/main.ts'
import type { EdgeListener } from '#web/facts.ts'
import { startHealth } from '#web/health.ts'
import { startWeb } from '#web/main.ts'
import { openCertificates } from './certificates.ts'

/** All there are, in the order of their start. */
export const ROLES = ['presence', 'router', 'edge', 'web'] as const
export type Role = (typeof ROLES)[number]

export interface Running {
  /** What clients are shown that name no host; undefined where none connect here. */
  readonly certificate: CertificatePair | undefined
  /** Where clients connect; without listeners where none do. */
  readonly edge: Pick<RunningEdge, 'listeners'>
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

export interface Served {
  readonly process: Process
  /** What is in it already is stopped after the roles. */
  readonly lifecycle: Lifecycle
  /** Expects `roles`. */
  readonly health: Health
  readonly roles: readonly Role[]
  /** Starts when those that own accounts are there; what clients reach is opened when it has resolved. */
  readonly join?: (owners: ReadonlyMap<RoleName, RunningRole>) => Promise<RunningRole>
}

const STARTS: Readonly<Record<RoleName, (process: Process) => Promise<RunningRole>>> = {
  presence: startPresence,
  router: startRouter,
}

/** Throws Error that says what is in the way, with nothing left open: a taken port, a certificate that cannot be used. */
export async function serve({ process, lifecycle, health, roles, join }: Served): Promise<Running> {
  process.metrics.watchProcess()
  const has = (role: Role): boolean => roles.includes(role)
  const certificates = has('edge') ? await lifecycle.start(openCertificates(process)) : undefined
  const { listeners: metrics } = await lifecycle.start(startHealth(process, health))
  const owners = new Map<RoleName, RunningRole>()
  for (const role of ['presence', 'router'] as const) {
    if (!has(role)) continue
    owners.set(role, await lifecycle.start(STARTS[role](process)))
    health.up(role)
  }
  if (join !== undefined) await lifecycle.start(join(owners))
  const edge = certificates && (await lifecycle.start(startEdge(process, certificates)))
  if (edge !== undefined) health.up('edge')
  const facts = { listeners: edge?.listeners ?? listenersElsewhere(process.config), certificate: shown(certificates) }
  const web = has('web') ? await lifecycle.start(startWeb(process, facts)) : undefined
  if (web !== undefined) health.up('web')

  return {
    certificate: certificates?.tls.pairs[0],
    edge: edge ?? { listeners: [] },
    http: web?.listeners ?? [],
    metrics,
    reload: async () => certificates?.reload(),
    async stop() {
      for (const role of roles) health.down(role, 'stopping')
      await lifecycle.stop()
    },
  }
}

/** Of a process that has edges beside it: they have the same configuration, as far as is known here. */
function listenersElsewhere({ listen, c2s, websocket }: Config): EdgeListener[] {
  const named = [
    ['c2s', c2s.port],
    ['c2s (TLS)', c2s.tlsPort],
    ['websocket', websocket.port],
  ] as const
  return named.flatMap(([name, port]) =>
    typeof port === 'number' && port !== 0 ? listen.map((host) => ({ name, host, port })) : [],
  )
}

/** Where it is shown elsewhere, nobody here can tell its fingerprint. */
function shown(certificates: Certificates | undefined): { selfSigned: boolean; fingerprint: string } {
  return certificates?.tls.pairs[0] ?? { selfSigned: false, fingerprint: '' }
}

// The two forms of the server, told apart by `bus.driver`: everything in one process, or one process of many.
//
// The code of a cluster is loaded when it is one.

import type { AnyModule } from '#core/module.ts'
import type { Log } from '#core/observing/log.ts'
import { type Config, ConfigError } from '#core/settings/config.ts'
import { startEmbedded } from '#embedded/main.ts'
import { ROLES, type Role, type Running } from '#embedded/serve.ts'
import { type Reach, reachFolder, reachRunning } from './reach.ts'

export interface Start {
  readonly config: Config
  readonly modules: readonly AnyModule[]
  readonly log: Log
  readonly roles: readonly Role[]
  readonly told: AbortSignal
}

export interface Form {
  /** Throws Error that says what is in the way. */
  readonly start: (start: Start) => Promise<Running>
  /** Where a command is carried out that is about accounts; and where one that is about those who are online. */
  readonly reach: Reach
  readonly reachRunning: Reach
}

const reachCluster: Reach = async (...asked) => (await import('./reach-cluster.ts')).reachCluster(...asked)

const FORMS: Readonly<Record<Config['bus']['driver'], Form>> = {
  memory: {
    start: ({ config, modules, log }) => startEmbedded(config, modules, log),
    reach: reachFolder,
    reachRunning,
  },
  nats: {
    start: async ({ config, modules, log, roles, told }) =>
      (await import('#cluster/main.ts')).startCluster(config, modules, log, roles, told),
    reach: reachCluster,
    reachRunning: reachCluster,
  },
}

/** Throws ConfigError where it is to do only a part of what must all be in one process. */
export function formOf({ bus }: Config, roles: readonly Role[] = ROLES): Form {
  if (bus.driver === 'memory' && roles.length < ROLES.length)
    throw new ConfigError('--role', [
      'bus.driver is memory: all roles are in one process, and there is nobody to do the others; leave --role out, or set bus.driver to nats and table.driver to dynamodb',
    ])
  return FORMS[bus.driver]
}

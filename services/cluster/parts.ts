// What a process of a cluster stands on: NATS between processes, and DynamoDB behind them.
//
// Both drivers are loaded here and not before: an embedded server has neither in memory.
import type { Bus } from '#bus/bus.ts'
import type { Log } from '#core/observing/log.ts'
import type { Metrics } from '#core/observing/metrics.ts'
import { tableMeter } from '#core/observing/table-metrics.ts'
import type { Config } from '#core/settings/config.ts'
import type { ClosableTable } from '#table/table.ts'

export interface Watchers {
  readonly log: Log
  readonly metrics: Metrics
}

export interface ClosableBus {
  readonly bus: Bus
  /** As Bus.drain; that it is down then is nothing to tell of. */
  close(): Promise<void>
}

/**
 * Throws Error that says which servers were tried, and what would help.
 * @param name what the servers show of this process
 */
export async function openBus(
  { bus: { servers, prefix, tls, ...who } }: Config,
  name: string,
  { log, metrics }: Watchers,
): Promise<ClosableBus> {
  const { openNatsBus } = await import('#bus/nats.ts')
  const lost = metrics.counter('bus_lost_total', 'Bodies that were published and could not be sent.')
  const { credentials, user, password, token } = who
  let isClosing = false
  const bus = await openNatsBus({
    servers,
    prefix,
    tls: given(tls),
    name,
    ...given({ credentials, user, password, token }),
    onError: (error, subject) => log.error('bus.failed', { subject, error }),
    onState(state, facts) {
      lost.inc(facts.lost)
      if (!isClosing) log[state === 'up' ? 'info' : 'warn'](`bus.${STATES[state]}`, facts)
    },
  })
  let state = ''
  bus.status((now) => {
    state = now
  })
  metrics.watch('bus_up', '1 while this process is connected to NATS.', () => (state === 'down' ? 0 : 1))
  metrics.watch('bus_slow', '1 while this process, or its server, is behind.', () => (state === 'slow' ? 1 : 0))
  return {
    bus,
    close() {
      isClosing = true
      return bus.drain()
    },
  }
}

/** In the past tense, as events are. */
const STATES = { up: 'connected', down: 'lost', slow: 'fell_behind' } as const

/** Throws Error that says what is in the way, and what to do. */
export async function openTable({ table }: Config, { log, metrics }: Watchers): Promise<ClosableTable> {
  const { openDynamoTable } = await import('#table/dynamo.ts')
  const { endpoint, region, prefix, create, accessKeyId, secretAccessKey } = table
  const credentials = accessKeyId === undefined ? undefined : { accessKeyId, secretAccessKey: secretAccessKey! }
  return openDynamoTable({
    ...given({ endpoint, region, prefix, create, credentials }),
    onError: (error) => log.error('table.failed', { error }),
    meter: tableMeter(metrics),
  })
}

/** Without what is not set. */
function given<T extends object>(options: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as never
}

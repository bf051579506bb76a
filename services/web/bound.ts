// How many connections a listener of HTTP has: of all clients, and of one address, so that none can shut out the others.
import type { Server, Socket } from 'node:net'
import type { ConnectionCounts } from '#core/connections.ts'
import type { Metrics } from '#core/observing/metrics.ts'

export const CONNECTIONS_MAX = 2_000
/** A browser opens six; behind one address there may be an office. `limits.connectionsPerAddress` where that is less. */
export const CONNECTIONS_PER_ADDRESS_MAX = 200

/** One too many is closed before anything of it is read, and is counted. */
export function boundConnections(server: Server, counts: ConnectionCounts, metrics: Metrics): void {
  const refused = metrics.counter(
    'http_connections_refused_total',
    'Connections to the web role closed before anything was read of them.',
    ['reason'],
  )
  const ofAll = refused.labels('all')
  const ofAddress = refused.labels('address')
  server.maxConnections = CONNECTIONS_MAX
  server.on('drop', () => ofAll.inc())
  server.on('connection', (socket: Socket) => {
    const { remoteAddress: address = '' } = socket // '' where it is gone already
    if (counts.enter(address)) return void socket.once('close', () => counts.leave(address))
    ofAddress.inc()
    socket.resetAndDestroy()
  })
}

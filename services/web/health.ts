// Health and metrics, on a port of their own, for machines that watch this one.
//
//   /live      200 while the event loop turns; whoever gets no answer should restart the process
//   /ready     200 when clients may be sent here, else 503; {"ready":false,"missing":{"edge":"not started yet"}}
//   /metrics   the Prometheus text format
//
// It opens before everything else, so that a process that is still starting says so. Bare node:http: it must answer in the
// little time that a busy process has left.
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { listenError } from '#core/listen-error.ts'
import type { Health } from '#core/observing/health.ts'
import { METRICS_CONTENT_TYPE } from '#core/observing/metrics.ts'
import type { Process, RunningRole } from '#core/process.ts'

export interface RunningHealth extends RunningRole {
  readonly listeners: readonly { readonly name: 'metrics'; readonly host: string; readonly port: number }[]
}

const CONNECTIONS_MAX = 200
const LIMITS: http.ServerOptions = {
  headersTimeout: 5_000,
  requestTimeout: 5_000,
  keepAliveTimeout: 15_000,
  connectionsCheckingInterval: 1_000,
  maxHeaderSize: 8 * 1024,
}
/** Read, and never written: what is asked is whether the table answers. */
const PROBED = { pk: 'health', sk: 'probe' }

/** Adds bus and table to what must be up. Throws Error that names a port which is taken. */
export async function startHealth(process: Process, health: Health): Promise<RunningHealth> {
  health.expect('bus')
  const status = process.bus.status((state) => (state === 'up' ? health.up('bus') : health.down('bus', state)))
  health.probe('table', process.clock, () => process.table.get(PROBED))

  const { port, listen } = process.config.metrics
  const servers: http.Server[] = []
  const listeners: RunningHealth['listeners'][number][] = []
  const close = async () => {
    status.close()
    await Promise.all(
      servers.map(
        (server) =>
          new Promise((closed) => {
            server.close(closed)
            server.closeAllConnections()
          }),
      ),
    )
  }
  try {
    for (const host of port === 'off' ? [] : listen) {
      const server = http.createServer(LIMITS, (request, response) => void answer(process, health, request, response))
      server.maxConnections = CONNECTIONS_MAX
      servers.push(server)
      listeners.push({ name: 'metrics', host, port: await open(server, host, port as number) })
    }
  } catch (error) {
    await close()
    throw error
  }
  return { name: 'health', listeners, stop: close }
}

function open(server: http.Server, host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => reject(listenError(error, 'metrics', host, port)))
    server.listen({ host, port }, () => resolve((server.address() as AddressInfo).port))
  })
}

const TEXT = 'text/plain; charset=utf-8'

async function answer(
  process: Process,
  health: Health,
  request: http.IncomingMessage,
  response: http.ServerResponse,
): Promise<void> {
  const send = (status: number, type: string, body: string, headers: http.OutgoingHttpHeaders = {}) =>
    response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store', ...headers }).end(body)

  if (request.method !== 'GET' && request.method !== 'HEAD')
    return void send(405, TEXT, 'only GET and HEAD\n', { allow: 'GET, HEAD', connection: 'close' })
  switch (request.url!.split('?', 1)[0]) {
    case '/live':
      return void send(200, TEXT, 'live\n')
    case '/ready': {
      const { ready, missing } = await health.check()
      return void send(ready ? 200 : 503, 'application/json', `${JSON.stringify(ready ? { ready } : { ready, missing })}\n`)
    }
    case '/metrics':
      try {
        return void send(200, METRICS_CONTENT_TYPE, process.metrics.text())
      } catch (error) {
        process.log.error('metrics.failed', { error })
        return void send(500, TEXT, 'the metrics cannot be read; the log says why\n')
      }
    default:
      return void send(404, TEXT, 'nothing here; there are /live, /ready and /metrics\n')
  }
}

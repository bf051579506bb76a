// A process around the web role, and requests that no browser would send.
import http from 'node:http'
import { memoryBus } from '#bus/memory.ts'
import { manualClock } from '#core/clock.ts'
import { directLog } from '#core/commits/direct-log.ts'
import { type Log, memoryLog } from '#core/observing/log.ts'
import { Metrics } from '#core/observing/metrics.ts'
import { type RoleName, soleOwnership } from '#core/ownership/ownership.ts'
import type { Process } from '#core/process.ts'
import { loadConfig } from '#core/settings/config.ts'
import { Readings } from '#core/storage/readings.ts'
import { memoryTable } from '#table/memory.ts'
import type { WebFacts } from './facts.ts'

export const FINGERPRINT = 'AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89'

/** `text`: the configuration as YAML; without it, a laptop's. Ports of HTTP and health are the system's choice. */
export function testProcess(text?: string) {
  const env = { ROOKERY_HTTP_PORT: '0', ROOKERY_METRICS_PORT: '0' }
  const { config } = loadConfig(text === undefined ? { env } : { env, text })
  const log = memoryLog()
  const table = memoryTable()
  const clock = manualClock()
  const parts = {
    id: 'p1',
    bus: memoryBus({ onError: (error) => log.error('bus', { error }) }),
    table,
    ownership: soleOwnership('p1'),
    config,
    moduleOptions: {},
    modules: [],
    journals: [],
    openLog: (_role: RoleName, log: Log) => directLog(table, clock, log),
    server: { domains: config.domains, registration: config.registration, version: '1.2.3', moduleOptions: {} },
    clock,
    log,
    metrics: new Metrics(),
    readings: new Readings(),
  } satisfies Process
  return parts
}

export const FACTS: WebFacts = {
  listeners: [
    { name: 'c2s', host: '127.0.0.1', port: 15222 },
    { name: 'c2s (TLS)', host: '127.0.0.1', port: 15223 },
    { name: 'websocket', host: '127.0.0.1', port: 15290 },
  ],
  certificate: { selfSigned: true, fingerprint: FINGERPRINT },
}

export interface Answer {
  readonly status: number
  readonly headers: http.IncomingHttpHeaders
  readonly body: string
}

/** One request on a connection of its own; `path` goes out as it is written here. */
export function ask(
  port: number,
  path: string,
  options: { method?: string; headers?: http.OutgoingHttpHeaders; body?: string } = {},
): Promise<Answer> {
  const { method = 'GET', headers = {}, body } = options
  return new Promise((resolve, reject) => {
    const request = http.request({ host: '127.0.0.1', port, path, method, headers, agent: false }, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (piece: string) => {
        text += piece
      })
      response.on('end', () => resolve({ status: response.statusCode!, headers: response.headers, body: text }))
    })
    request.on('error', reject)
    request.end(body)
  })
}

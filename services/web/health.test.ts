import { once } from 'node:events'
import { createServer } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { Health, PROBE_HOLDS_MS } from '#core/observing/health.ts'
import { METRICS_CONTENT_TYPE } from '#core/observing/metrics.ts'
import { type RunningHealth, startHealth } from './health.ts'
import { ask, testProcess } from './web.fixture.ts'

const running: RunningHealth[] = []
afterEach(async () => {
  await Promise.all(running.splice(0).map((role) => role.stop()))
})

async function start(parts: readonly string[] = []) {
  const process = testProcess()
  const health = new Health(parts)
  const role = await startHealth(process, health)
  running.push(role)
  return { process, health, port: role.listeners[0]!.port }
}

describe('/ready', () => {
  test('is 503 and names what is missing until every part is up, and again when one goes down', async () => {
    const { health, port } = await start(['router', 'edge'])
    const before = await ask(port, '/ready')
    expect(before.status).toBe(503)
    expect(before.headers['content-type']).toBe('application/json')
    expect(JSON.parse(before.body)).toEqual({ ready: false, missing: { router: 'not started yet', edge: 'not started yet' } })

    health.up('router')
    health.up('edge')
    const up = await ask(port, '/ready')
    expect([up.status, JSON.parse(up.body)]).toEqual([200, { ready: true }])

    health.down('edge', 'draining')
    const draining = await ask(port, '/ready')
    expect([draining.status, JSON.parse(draining.body).missing]).toEqual([503, { edge: 'draining' }])
  })

  test('is 503 when the table does not answer', async () => {
    const { process, port } = await start()
    expect((await ask(port, '/ready')).status).toBe(200)
    await process.table.close()
    process.clock.advance(PROBE_HOLDS_MS)
    const answer = await ask(port, '/ready')
    expect([answer.status, JSON.parse(answer.body).missing]).toEqual([503, { table: 'the table is closed' }])
  })

  test('is 503 when the bus is down', async () => {
    const { process, port } = await start()
    await process.bus.drain()
    const answer = await ask(port, '/ready')
    expect([answer.status, JSON.parse(answer.body).missing]).toEqual([503, { bus: 'down' }])
  })
})

test('is opened on metrics.listen alone where that is given', async () => {
  const process = testProcess("listen: '127.0.0.1'\nmetrics: { port: 0, listen: '127.0.0.2' }")
  const role = await startHealth(process, new Health([]))
  running.push(role)
  expect(role.listeners.map(({ host }) => host)).toEqual(['127.0.0.2'])
})

describe('/live and /metrics', () => {
  test('/live is 200 also while nothing is ready', async () => {
    const { port } = await start(['edge'])
    expect(await ask(port, '/live')).toMatchObject({ status: 200, body: 'live\n' })
  })

  test('/metrics is the page of the process, in the Prometheus text format', async () => {
    const { process, port } = await start()
    process.metrics.counter('lost_total', 'x').inc(3)
    const { status, headers, body } = await ask(port, '/metrics?x=1')
    expect([status, headers['content-type'], headers['cache-control']]).toEqual([200, METRICS_CONTENT_TYPE, 'no-store'])
    expect(body).toContain('\nrookery_lost_total 3\n')
  })

  test('a metric that throws is an answer of 500 and a line in the log', async () => {
    const { process, port } = await start()
    process.metrics.watch('broken', 'x', () => {
      throw new Error('no')
    })
    expect((await ask(port, '/metrics')).status).toBe(500)
    expect(process.log.lines).toContainEqual(expect.objectContaining({ level: 'error', event: 'metrics.failed' }))
  })
})

describe('what else comes to this port', () => {
  test('HEAD is answered without a body, other methods with 405, other paths with 404', async () => {
    const { port } = await start()
    expect(await ask(port, '/ready', { method: 'HEAD' })).toMatchObject({ status: 200, body: '' })
    expect(await ask(port, '/live', { method: 'POST', body: 'x' })).toMatchObject({
      status: 405,
      headers: { allow: 'GET, HEAD' },
    })
    expect((await ask(port, '/')).status).toBe(404)
  })

  test('a port that is taken stops the start, and the error names it and its key', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    const { port } = other.address() as { port: number }
    const process = testProcess()
    process.config.metrics.port = port
    const expected = `cannot listen (metrics): port ${port} on 127.0.0.1 is taken by another program; stop it, or set metrics.port to another port`
    await expect(startHealth(process, new Health([]))).rejects.toThrow(expected)
    other.close()
  })

  test('off: nothing listens', async () => {
    const process = testProcess('metrics: { port: off }')
    process.config.metrics.port = 'off'
    const role = await startHealth(process, new Health([]))
    running.push(role)
    expect(role.listeners).toEqual([])
  })
})

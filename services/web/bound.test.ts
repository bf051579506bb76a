import { EventEmitter } from 'node:events'
import type { Server } from 'node:net'
import { connect } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { ConnectionCounts } from '#core/connections.ts'
import { Metrics } from '#core/observing/metrics.ts'
import { boundConnections, CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX } from './bound.ts'
import { startWeb } from './main.ts'
import { ask, FACTS, testProcess } from './web.fixture.ts'

/** A socket that has nothing but an address and an end. */
class FakeSocket extends EventEmitter {
  readonly remoteAddress: string
  reset = false

  constructor(remoteAddress: string) {
    super()
    this.remoteAddress = remoteAddress
  }

  resetAndDestroy(): void {
    this.reset = true
    this.emit('close')
  }
}

function listener(perAddress: number) {
  const server = new EventEmitter() as Server
  const metrics = new Metrics()
  const counts = new ConnectionCounts(perAddress, ['10.0.0.0/8'])
  boundConnections(server, counts, metrics)
  const from = (address: string): FakeSocket => {
    const socket = new FakeSocket(address)
    server.emit('connection', socket)
    return socket
  }
  const refused = (reason: string) =>
    new RegExp(`^rookery_http_connections_refused_total\\{reason="${reason}"\\} (\\d+)$`, 'm').exec(metrics.text())?.[1]
  return { server, counts, from, refused }
}

const stops: (() => unknown)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop()
})

describe('connections of HTTP', () => {
  test('one address used to be able to have all of them: it has its share, until one of its own has ended', () => {
    const { from, refused, counts } = listener(3)
    const [first] = [from('192.0.2.1'), from('192.0.2.1'), from('::ffff:192.0.2.1')]
    expect([from('192.0.2.1').reset, from('192.0.2.2').reset, refused('address')]).toEqual([true, false, '1'])
    first!.emit('close')
    expect([from('192.0.2.1').reset, from('192.0.2.1').reset, refused('address')]).toEqual([false, true, '2'])
    expect(counts.networks).toBe(2)
  })

  test('trusted proxies and this machine have no such share', () => {
    const { from } = listener(1)
    for (const address of ['10.1.2.3', '127.0.0.1', '::1'])
      expect([from(address).reset, from(address).reset], address).toEqual([false, false])
  })

  test('are bounded in all, and what is over that is counted', () => {
    const { server, refused } = listener(1)
    expect(server.maxConnections).toBe(CONNECTIONS_MAX)
    server.emit('drop')
    expect(refused('all')).toBe('1')
    expect(CONNECTIONS_PER_ADDRESS_MAX).toBeLessThanOrEqual(CONNECTIONS_MAX / 10)
  })

  test('are counted by a web role that runs', async () => {
    const process = testProcess()
    const role = await startWeb(process, FACTS)
    stops.push(() => role.stop())
    const { port } = role.listeners[0]!
    const socket = connect(port, '127.0.0.1')
    stops.push(() => socket.destroy())
    await new Promise((resolve) => socket.once('connect', resolve))
    expect((await ask(port, '/')).status).toBe(200)
    expect(process.metrics.text()).toContain('rookery_http_connections_refused_total{reason="address"} 0')
  })
})

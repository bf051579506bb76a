import { describe, expect, test } from 'vitest'
import { manualClock } from '#core/clock.ts'
import { type Config, loadConfig } from '#core/settings/config.ts'
import { eventually, FakeConnection, makeAccount, plainAuth, startRoles, testProcess } from '../edge.fixture.ts'
import { openEdge } from '../main.ts'
import { Turns } from './turns.ts'

function turns(limits: Partial<Config['limits']>) {
  const { config } = loadConfig({ text: JSON.stringify({ limits }), env: {} })
  const clock = manualClock()
  const order = new Turns(config.limits, clock)
  const granted: number[] = []
  const refused: number[] = []
  let count = 0
  return {
    ...{ order, clock, granted, refused },
    come(people: number): void {
      for (let n = 0; n < people; n++) {
        const who = count++
        const turn = order.take()
        if (turn === true) granted.push(who)
        else void turn.then((isGranted) => (isGranted ? granted : refused).push(who))
      }
    },
  }
}

describe('logins that come at once', () => {
  test('begin at the rate that is allowed, in the order in which they came', async () => {
    const { clock, granted, refused, come } = turns({ loginsPerSecond: 50 })
    come(200)
    expect(granted.length).toBe(5)
    for (let second = 1; second <= 3; second++) {
      for (let n = 0; n < 10; n++) await clock.settle(100)
      expect(granted.length).toBe(5 + second * 50)
    }
    for (let n = 0; n < 20; n++) await clock.settle(100)
    expect([granted, refused]).toEqual([Array.from({ length: 200 }, (_, n) => n), []])
  })

  test('who comes while others wait is behind them, and who comes alone waits for nobody', async () => {
    const { clock, granted, come, order } = turns({ loginsPerSecond: 10 })
    come(2)
    await clock.settle(50)
    come(1)
    expect([granted, order.waiting]).toEqual([[0], 2])
    for (let n = 0; n < 20; n++) await clock.settle(100)
    come(1)
    expect(granted).toEqual([0, 1, 2, 3])
  })

  test('whoever would wait for more than half of limits.loginTimeoutMs is refused at once', async () => {
    const { clock, granted, refused, come, order } = turns({ loginsPerSecond: 10, loginTimeoutMs: 4_000 })
    come(30)
    await clock.settle()
    expect([granted.length, order.waiting, refused.length]).toEqual([1, 20, 9])
  })

  test('one a second is kept, and 0 is no bound', async () => {
    const slow = turns({ loginsPerSecond: 1 })
    slow.come(3)
    for (let n = 0; n < 15; n++) await slow.clock.settle(100)
    expect(slow.granted).toEqual([0, 1])
    const free = turns({ loginsPerSecond: 0 })
    free.come(10_000)
    expect(free.granted.length).toBe(10_000)
  })

  test('nobody waits for ever when the edge closes', async () => {
    const { clock, refused, come, order } = turns({ loginsPerSecond: 10 })
    come(5)
    order.close()
    await clock.settle()
    expect(refused.length).toBe(4)
  })
})

test('a stream that waits for its turn is not read from; one that has none is told temporary-auth-failure', async () => {
  const clock = manualClock()
  const process = testProcess({ clock, config: { limits: { loginsPerSecond: 2, loginTimeoutMs: 2_000 } } })
  const stop = await startRoles(process)
  const { onConnection, close } = openEdge(process)
  await makeAccount(process, 'romeo@example.org')
  const clients = Array.from({ length: 4 }, () => {
    const connection = new FakeConnection()
    connection.events = onConnection(connection)
    connection.open().take()
    connection.send(plainAuth('romeo'))
    return connection
  })
  await eventually(() => clients[0]!.written.includes('<success'), 'the first one is in')
  await eventually(() => clients[3]!.written.includes('<temporary-auth-failure/>'), 'one too many is told')
  expect(clients.slice(1, 3).map(({ written }) => /<success|<failure/.test(written))).toEqual([false, false])
  clients[1]!.send('<presence/>') // before it is logged in: read only then
  expect(clients[1]!.ended).toBe(false)
  clock.advance(500)
  await eventually(() => clients[1]!.written.includes('<success'), 'the second has its turn')
  expect(clients[2]!.written).not.toContain('<success')
  await close()
  await stop()
})

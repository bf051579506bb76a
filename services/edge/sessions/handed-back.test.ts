// What a client has not acknowledged when its session ends, all the way to whoever gets it instead.
import { afterEach, describe, expect, test } from 'vitest'
import { manualClock } from '#core/clock.ts'
import offline from '#modules/offline.ts'
import {
  boundSessions,
  connect,
  eventually,
  type FakeConnection,
  makeAccount,
  settled,
  startRoles,
  testProcess,
} from '../edge.fixture.ts'
import { openEdge } from '../main.ts'

const ENABLE = "<enable xmlns='urn:xmpp:sm:3' resume='true'/>"
const message = (to: string, id: string, type = 'chat') =>
  `<message to='${to}' id='${id}' type='${type}'><body>${id}</body></message>`

const stops: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop()
})

async function start(limits = {}) {
  const clock = manualClock()
  const process = {
    ...testProcess({ clock, modules: [offline], config: { limits } }),
    moduleOptions: { offline: { messagesMax: 2_000, expiryDays: 0 } },
  }
  stops.push(await startRoles(process))
  const open = openEdge(process)
  stops.push(() => open.close())
  for (const name of ['romeo', 'juliet']) await makeAccount(process, `${name}@example.org`)
  return {
    clock,
    process,
    edge: open.edge,
    onConnection: open.onConnection,
    stranger: () => connect(open.onConnection),
    /** Logged in; with stream management, and available, where that is said. */
    async online(jid: string, { managed = true, available = true } = {}): Promise<FakeConnection> {
      const connection = connect(open.onConnection)
      await connection.logIn(...(jid.split('/') as [string, string]))
      if (managed) {
        connection.send(ENABLE)
        await connection.until('<enabled')
      }
      if (available) {
        connection.send('<presence/>')
        await connection.until(`from='${jid}'`)
      }
      await settled()
      connection.take()
      return connection
    },
  }
}

/** Acknowledges and answers all it is asked, until `done` holds of the ids it has got. */
async function takeAll(
  connection: FakeConnection,
  done: (ids: readonly (string | undefined)[]) => boolean,
): Promise<(string | undefined)[]> {
  const got: (string | undefined)[] = []
  let h = 0
  await eventually(async () => {
    const text = connection.take()
    got.push(...idsIn(text))
    h += [...text.matchAll(/<(?:message|presence|iq) /g)].length
    if (text.includes('<r ')) connection.send(`<a xmlns='urn:xmpp:sm:3' h='${h}'/>`)
    for (const [, id] of text.matchAll(/<iq [^>]*id='([^']*)'[^>]*type='get'/g))
      connection.send(`<iq type='result' id='${id}' to='example.org'/>`)
    await settled(4)
    return done(got) || connection.ended
  }, 'all that was kept')
  return got
}

const idsIn = (text: string) => [...text.matchAll(/<message [^>]*id='([^']*)'/g)].map(([, id]) => id)
const stampsIn = (text: string) => [...text.matchAll(/<delay [^>]*stamp='([^']*)'/g)].map(([, stamp]) => stamp)

describe('XEP-0198 §4 when the time of a session is over', () => {
  test('what it was not there for is kept, and comes with the time it came first', async () => {
    const { clock, online, process } = await start()
    const romeo = await online('romeo@example.org/garden')
    const juliet = await online('juliet@example.org/balcony')
    romeo.vanish()
    const cameAt = new Date(clock.now()).toISOString().replace('.000', '')
    for (const id of ['m1', 'm2', 'm3']) juliet.send(message('romeo@example.org', id))
    await settled()
    clock.advance(302_000)
    await settled()
    expect(await boundSessions(process, 'romeo@example.org')).toBe(0)
    clock.advance(1_000_000)
    await settled()
    const back = await online('romeo@example.org/garden', { available: false })
    back.send('<presence/>')
    const text = await back.until('m3</body>')
    expect(idsIn(text)).toEqual(['m1', 'm2', 'm3'])
    expect(stampsIn(text)).toEqual([cameAt, cameAt, cameAt])
    expect(juliet.take()).not.toContain('error')
  })

  test('what had been kept, and was never acknowledged, is kept again: once, with the time it came first', async () => {
    const { clock, online } = await start()
    const juliet = await online('juliet@example.org/balcony', { managed: false })
    const cameAt = new Date(clock.now()).toISOString().replace('.000', '')
    juliet.send(message('romeo@example.org', 'm1'))
    await settled()
    for (let n = 0; n < 3; n++) {
      clock.advance(50_000)
      const romeo = await online('romeo@example.org/garden', { available: false })
      romeo.send('<presence/>')
      const text = await romeo.until('m1</body>')
      await settled()
      expect([idsIn(text + romeo.take()), stampsIn(text)]).toEqual([['m1'], [cameAt]])
      romeo.vanish()
      clock.advance(302_000)
      await settled()
    }
    const romeo = await online('romeo@example.org/garden', { managed: false, available: false })
    romeo.send('<presence/>')
    await romeo.until('m1</body>')
    romeo.send('</stream:stream>')
    await settled()
    const again = await online('romeo@example.org/garden', { available: false })
    again.send('<presence/>')
    await settled(50)
    expect(idsIn(again.take())).toEqual([])
  })

  test('contacts see it go only then', async () => {
    const { clock, online } = await start()
    const phone = await online('romeo@example.org/phone', { managed: false })
    const garden = await online('romeo@example.org/garden')
    await phone.until("from='romeo@example.org/garden'")
    garden.vanish()
    clock.advance(298_000)
    await settled()
    expect(phone.take()).toBe('')
    clock.advance(4_000)
    expect(await phone.until('unavailable')).toContain("from='romeo@example.org/garden'")
  })

  test('a message goes to another resource that is there by then', async () => {
    const { clock, online } = await start()
    const garden = await online('romeo@example.org/garden')
    const juliet = await online('juliet@example.org/balcony', { managed: false })
    garden.vanish()
    juliet.send(message('romeo@example.org/garden', 'm1'))
    await settled()
    const phone = await online('romeo@example.org/phone', { managed: false })
    clock.advance(302_000)
    expect(idsIn(await phone.until('m1</body>'))).toEqual(['m1'])
  })

  test('an iq is answered service-unavailable', async () => {
    const { clock, online } = await start()
    const garden = await online('romeo@example.org/garden')
    const juliet = await online('juliet@example.org/balcony', { managed: false })
    garden.vanish()
    juliet.send("<iq type='get' id='q1' to='romeo@example.org/garden'><a xmlns='urn:x'/></iq>")
    await settled()
    expect(juliet.take()).toBe('')
    clock.advance(302_000)
    expect(await juliet.until('</error></iq>')).toMatch(/id='q1' type='error'.*<service-unavailable /)
  })
})

describe('XEP-0198 §5 a client that binds its resource anew', () => {
  test('gets what its old session had not acknowledged', async () => {
    const { online, edge } = await start()
    const garden = await online('romeo@example.org/garden')
    const juliet = await online('juliet@example.org/balcony')
    juliet.send(message('romeo@example.org', 'm1'))
    await garden.until('m1</body>')
    garden.vanish()
    juliet.send(message('romeo@example.org', 'm2') + message('romeo@example.org/garden', 'm3'))
    await settled()
    const back = await online('romeo@example.org/garden', { available: false })
    back.send('<presence/>')
    await eventually(() => idsIn(back.written).length >= 3, 'all of it')
    await settled()
    expect(idsIn(back.written).sort()).toEqual(['m1', 'm2', 'm3'])
    expect([edge.detached.size, edge.resumables.size]).toEqual([0, 2])
    expect(juliet.take()).not.toContain('error')
  })
})

describe('RFC 6120 §7.6.2.1 an account that has all the sessions it may have', () => {
  test('gets another in the place of the oldest that waits to be resumed, and loses nothing that it had not acknowledged', async () => {
    const { online, edge, process, stranger } = await start({ sessionsPerAccount: 2 })
    const juliet = await online('juliet@example.org/balcony', { managed: false })
    const [one, two] = [await online('romeo@example.org/one'), await online('romeo@example.org/two')]
    juliet.send(message('romeo@example.org/one', 'm1') + message('romeo@example.org/two', 'm2'))
    await one.until('m1</body>')
    await two.until('m2</body>')
    one.vanish()
    two.vanish()
    await settled()
    const three = await online('romeo@example.org/three')
    expect([edge.detached.size, await boundSessions(process, 'romeo@example.org')]).toEqual([1, 2])
    expect(idsIn(three.written)).not.toContain('m1') // it went to the one that still waits
    const four = await online('romeo@example.org/four')
    expect(edge.detached.size).toBe(0)
    expect(idsIn(three.written).sort()).toEqual(['m1', 'm2'])
    const five = stranger()
    await expect(five.logIn('romeo@example.org', 'five')).rejects.toThrow('resource-constraint')
    expect(four.ended).toBe(false)
  })
})

test('offline messages beyond what a session may have unacknowledged used to end it at every login; all of them come', async () => {
  const server = await start({ unackedStanzas: 100 })
  const romeo = await server.online('romeo@example.org/garden')
  const sent = Array.from({ length: 1_000 }, (_, i) => `m${i}`)
  for (const id of sent) romeo.send(message('juliet@example.org', id))
  await settled(200)
  const juliet = connect(server.onConnection)
  await juliet.logIn('juliet@example.org', 'balcony')
  juliet.send(ENABLE)
  await juliet.until('<enabled')
  juliet.send('<presence/>')
  const got = await takeAll(juliet, (ids) => ids.length >= sent.length)
  expect([juliet.ended, got]).toEqual([false, sent])
})

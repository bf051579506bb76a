import { describe, expect, test } from 'vitest'
import { manualClock } from '#core/clock.ts'
import { Metrics } from '#core/observing/metrics.ts'
import { loadConfig } from '#core/settings/config.ts'
import { eventually, header, makeAccount, plainAuth } from '../edge.fixture.ts'
import { Admission } from './admission.ts'
import { start } from './tcp.fixture.ts'

function admission(limits: object, trustedProxies: readonly string[] = []) {
  const { config } = loadConfig({ text: JSON.stringify({ limits, trustedProxies }), env: {} })
  const clock = manualClock()
  const metrics = new Metrics()
  const counted = { strangers: 0, times: 0 }
  const strangers = () => {
    counted.times++
    return counted.strangers
  }
  const refused = (reason: string) =>
    Number(new RegExp(`^rookery_connections_refused_total\\{reason="${reason}"\\} (\\d+)$`, 'm').exec(metrics.text())![1])
  return { admission: new Admission({ config, clock, metrics, strangers }), clock, counted, refused }
}

describe('before the login', () => {
  test('as many may come as are allowed, and one more only when one of them has logged in or left', () => {
    const { admission: door, clock, counted, refused } = admission({ connectionsBeforeLogin: 10 })
    clock.advance(1000)
    for (let n = 0; n < 10; n++) expect(door.admits()).toBe(true)
    counted.strangers = 10
    expect([door.admits(), refused('before_login')]).toEqual([false, 1])
    counted.strangers = 9
    clock.advance(100)
    expect(door.admits()).toBe(true)
    expect(door.admits()).toBe(false)
  })

  test('a flood costs no counting: that is done ten times a second at most, and not at all below the bound', () => {
    const { admission: door, clock, counted, refused } = admission({ connectionsBeforeLogin: 10 })
    clock.advance(1000)
    for (let n = 0; n < 10; n++) door.admits()
    expect(counted.times).toBe(0)
    counted.strangers = 10
    for (let ms = 0; ms < 1000; ms++) {
      for (let n = 0; n < 5; n++) door.admits()
      clock.advance(1)
    }
    expect([counted.times, refused('before_login')]).toEqual([10, 5000])
  })

  test('connections that have no stream yet count', () => {
    const { admission: door, clock, counted } = admission({ connectionsBeforeLogin: 10 })
    clock.advance(1000)
    for (let n = 0; n < 10; n++) door.admits()
    counted.strangers = 4
    door.waiting = 6
    expect(door.admits()).toBe(false)
    door.waiting = 5
    clock.advance(100)
    expect(door.admits()).toBe(true)
  })
})

describe('of one address', () => {
  test('no more than are allowed, until one leaves; others are not touched', () => {
    const { admission: door, refused } = admission({ connectionsPerAddress: 3 })
    for (let n = 0; n < 3; n++) expect(door.enter('192.0.2.1')).toBe(true)
    expect([door.enter('192.0.2.1'), door.enter('::ffff:192.0.2.1'), door.enter('192.0.2.2')]).toEqual([false, false, true])
    expect(refused('address')).toBe(2)
    door.leave('192.0.2.1')
    expect([door.enter('192.0.2.1'), door.enter('192.0.2.1')]).toEqual([true, false])
  })

  test('of IPv6 the first 64 bits are one', () => {
    const { admission: door } = admission({ connectionsPerAddress: 2 })
    expect([door.enter('2001:db8::1'), door.enter('2001:db8::ffff:2'), door.enter('2001:db8:0:0:9::')]).toEqual([
      true,
      true,
      false,
    ])
    expect(door.enter('2001:db8:0:1::1')).toBe(true)
  })

  test('this machine and trusted proxies have no bound, and 0 is none for anybody', () => {
    const { admission: door } = admission({ connectionsPerAddress: 1 }, ['10.0.0.0/8'])
    for (const address of ['127.0.0.1', '::1', '10.1.2.3', '::ffff:10.1.2.3'])
      expect([door.enter(address), door.enter(address)], address).toEqual([true, true])
    const { admission: open } = admission({ connectionsPerAddress: 0 })
    for (let n = 0; n < 2000; n++) expect(open.enter('192.0.2.1')).toBe(true)
  })

  test('whoever has left is forgotten', () => {
    const { admission: door } = admission({})
    for (let n = 0; n < 100; n++) door.enter(`192.0.2.${n}`)
    for (let n = 0; n < 100; n++) door.leave(`192.0.2.${n}`)
    expect(door.networks).toBe(0)
  })
})

describe('a PROXY header', () => {
  test('is read from trusted proxies, and where none is named from this machine alone', () => {
    const { admission: open, refused } = admission({})
    expect(['127.0.0.1', '::1', '::ffff:127.0.0.1'].map((address) => open.believes(address))).toEqual([true, true, true])
    expect([open.believes('192.0.2.1'), open.believes('10.1.2.3'), refused('proxy_untrusted')]).toEqual([false, false, 2])
    const { admission: named } = admission({}, ['10.0.0.0/8'])
    expect([named.believes('10.1.2.3'), named.believes('127.0.0.1'), named.believes('192.0.2.1')]).toEqual([true, false, false])
  })
})

describe('over TCP', () => {
  const limits = { connectionsBeforeLogin: 10 }

  test('one too many is closed before a byte is sent, counted, and those who are in stay', async () => {
    const server = await start({ config: { c2s: { allowPlainOnLoopback: true }, limits } })
    await makeAccount(server.process, 'romeo@example.org')
    const romeo = server.connect()
    await romeo.logIn('romeo', 'garden')
    const strangers = Array.from({ length: 10 }, () => server.connect())
    await eventually(() => server.edge.streams.size === 11, 'all of them')
    const late = server.connect().send(header())
    await eventually(() => late.closed, 'the end of the last')
    expect([late.text, server.edge.streams.size]).toEqual(['', 11])
    expect(server.process.metrics.text()).toContain('rookery_connections_refused_total{reason="before_login"} 1\n')
    romeo.send("<iq type='get' id='1'><x xmlns='urn:x'/></iq>")
    await romeo.until('</iq>')
    strangers[0]!.socket.destroy()
    await eventually(() => server.edge.streams.size === 10, 'one of them to leave')
    // Whoever comes now is let in as soon as they are counted again.
    await eventually(async () => {
      const next = server.connect().send(header())
      await eventually(() => next.closed || next.text.includes('</stream:features>'), 'an answer')
      return !next.closed
    }, 'room for another one')
  })

  test('those who have logged in are no strangers', async () => {
    const server = await start({ config: { c2s: { allowPlainOnLoopback: true }, limits } })
    await makeAccount(server.process, 'romeo@example.org')
    for (let n = 0; n < 25; n++) {
      // The tenth and the twentieth may meet a count that is a tenth of a second old.
      await eventually(async () => {
        const client = server.connect().send(header())
        await eventually(() => client.closed || client.text.includes('</stream:features>'), 'an answer')
        if (!client.closed) await client.send(plainAuth('romeo')).until('<success')
        return !client.closed
      }, `number ${n} to be let in`)
    }
    expect(server.edge.streams.size).toBe(25)
  })
})

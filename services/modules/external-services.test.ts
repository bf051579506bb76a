import { createHmac } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { manualClock } from '#core/clock.ts'
import { harness } from '#test/harness.ts'
import { attr, childrenOf, type Element, el } from '#xmpp/stanza.ts'
import disco, { NS_DISCO_INFO } from './disco.ts'
import externalServices from './external-services.ts'

const NS = 'urn:xmpp:extdisco:2'
const SERVICES = ['stun:stun.example.org', 'turn:turn.example.org:3479?transport=tcp', 'turns:[2001:db8::1]']
const NOW_S = Date.UTC(2026, 0, 1) / 1_000

async function start(options: Record<string, unknown> = {}) {
  const clock = manualClock(NOW_S * 1_000)
  const given = { services: SERVICES, turnSecret: 'north', credentialSeconds: 3_600, ...options }
  const server = await harness([disco, externalServices], { clock, modules: { 'external-services': given } })
  return { server, romeo: await server.connect('romeo@example.org/x'), [Symbol.asyncDispose]: () => server.stop() }
}

const services = (answer: unknown, ns = NS) => childrenOf(answer as Element, 'service', ns).map(({ attrs }) => attrs)

describe('XEP-0215 §3.1 Requesting All Services', () => {
  test('each with its host, port and transport; those that want it with a name and a password that expire', async () => {
    await using at = await start()
    const [stun, turn, turns] = services(await at.romeo.iq('get', el('services', NS), 'example.org'))
    expect(stun).toEqual({ type: 'stun', host: 'stun.example.org', port: '3478', transport: 'udp' })
    expect(turn).toMatchObject({ type: 'turn', host: 'turn.example.org', port: '3479', transport: 'tcp', restricted: '1' })
    expect(turns).toMatchObject({ type: 'turns', host: '2001:db8::1', port: '5349', transport: 'tcp' })
    expect(turn!.expires).toMatch(/^2026-01-01T01:00:00/)
    expect(turn!.username).toMatch(new RegExp(`^${NOW_S + 3_600}:[0-9a-f]{16}$`))
    // As coturn checks it.
    expect(turn!.password).toBe(createHmac('sha1', 'north').update(turn!.username!).digest('base64'))
  })

  test('a name tells accounts apart, and not who they are', async () => {
    await using at = await start()
    const juliet = await at.server.connect('juliet@example.org/x')
    const nameOf = async (client: typeof juliet) =>
      services(await client.iq('get', el('services', NS), 'example.org'))[1]!.username!
    const [his, again, hers] = [await nameOf(at.romeo), await nameOf(at.romeo), await nameOf(juliet)]
    expect(again).toBe(his)
    expect(hers).not.toBe(his)
    expect(his + hers).not.toMatch(/romeo|juliet/)
  })

  test('in the namespace of old, too', async () => {
    await using at = await start()
    const ns = 'urn:xmpp:extdisco:1'
    expect(services(await at.romeo.iq('get', el('services', ns), 'example.org'), ns)).toHaveLength(3)
  })
})

test('XEP-0215 §3.2 Requesting Selected Services: those of the type that is asked for', async () => {
  await using at = await start()
  const answer = (await at.romeo.iq('get', el('services', NS, { type: 'stun' }), 'example.org')) as Element
  expect(attr(answer, 'type')).toBe('stun')
  expect(services(answer).map(({ type }) => type)).toEqual(['stun'])
  expect(services(await at.romeo.iq('get', el('services', NS, { type: 'ftp' }), 'example.org'))).toEqual([])
})

describe('XEP-0215 §3.3 Requesting Credentials', () => {
  const ask = (...asked: Element[]) => el('credentials', NS, {}, ...asked)

  test('of one service', async () => {
    await using at = await start()
    const service = el('service', NS, { type: 'turn', host: 'turn.example.org' })
    const [told] = services(await at.romeo.iq('get', ask(service), 'example.org'))
    expect(told).toMatchObject({ type: 'turn', host: 'turn.example.org', port: '3479', restricted: '1' })
    expect(told!.password).toHaveLength(28)
  })

  test.each([
    ['none', [], 'bad-request'],
    ['two', [1, 2].map(() => el('service', NS, { type: 'turn', host: 'turn.example.org' })), 'bad-request'],
    ['one without a type', [el('service', NS, { host: 'turn.example.org' })], 'bad-request'],
    ['one that we do not know', [el('service', NS, { type: 'turn', host: 'evil.test' })], 'item-not-found'],
    ['another port of one', [el('service', NS, { type: 'turn', host: 'turn.example.org', port: '1' })], 'item-not-found'],
  ])('%s: refused', async (_, asked, condition) => {
    await using at = await start()
    expect(await at.romeo.iq('get', ask(...asked), 'example.org')).toMatchObject({ condition })
  })
})

describe('XEP-0215 §5 Determining Support', () => {
  const features = async ({ romeo }: Awaited<ReturnType<typeof start>>) =>
    childrenOf((await romeo.iq('get', el('query', NS_DISCO_INFO), 'example.org')) as Element, 'feature', NS_DISCO_INFO).map(
      (one) => attr(one, 'var'),
    )

  test('is announced where there is a service, and nowhere else', async () => {
    await using at = await start()
    expect(await features(at)).toContain(NS)
    await using none = await start({ services: [] })
    expect(await features(none)).not.toContain(NS)
    expect(await none.romeo.iq('get', el('services', NS), 'example.org')).toMatchObject({ condition: 'service-unavailable' })
  })

  test('TURN without a secret stops the start, and so does what is no address', async () => {
    await expect(start({ turnSecret: '' })).rejects.toThrow('modules.external-services.turnSecret is missing')
    for (const uri of ['http://x', 'turn:', 'turn:a:99999', 'turn:a?transport=sctp', 'stun:a b'])
      await expect(start({ services: [uri] }), uri).rejects.toThrow('modules.external-services.services')
  })
})

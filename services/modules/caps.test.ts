import { describe, expect, test } from 'vitest'
import { factsOf } from '#core/settings/hosts.ts'
import { harness } from '#test/harness.ts'
import { capsHash } from '#xmpp/caps.ts'
import { attr, el } from '#xmpp/stanza.ts'
import caps from './caps.ts'
import disco, { NS_DISCO_INFO, NS_DISCO_ITEMS } from './disco.ts'
import ping from './ping.ts'

describe('XEP-0115 §6.3 Stream Feature', () => {
  test('its hash is that of what disco#info answers, with and without the node', async () => {
    await using server = await harness([caps, disco, ping])
    const romeo = await server.connect('romeo@example.org/garden')
    const { modules, server: facts } = server.process
    const c = caps.streamFeatures!(factsOf(facts, 'example.org'), modules)[0]!
    expect(c).toMatchObject({ ns: 'http://jabber.org/protocol/caps', attrs: { hash: 'sha-1' } })

    const plain = await romeo.get(el('query', NS_DISCO_INFO), 'example.org')
    expect(capsHash(plain.children)).toBe(attr(c, 'ver'))
    const node = `${attr(c, 'node')}#${attr(c, 'ver')}` // §6.2
    const asked = await romeo.get(el('query', NS_DISCO_INFO, { node }), 'example.org')
    expect(asked.attrs).toEqual({ node })
    expect(asked.children).toEqual(plain.children)
  })

  test('another hash than the present one is not found', async () => {
    await using server = await harness([caps, disco])
    const romeo = await server.connect('romeo@example.org/garden')
    const node = 'https://rookery.invalid#ItBTI0XLDFvVxZ72NQElAzKS9sU='
    expect(await romeo.iq('get', el('query', NS_DISCO_INFO, { node }), 'example.org')).toMatchObject({
      condition: 'item-not-found',
    })
  })

  test('§6.2 the caps node is not among the items', async () => {
    await using server = await harness([caps, disco])
    const romeo = await server.connect('romeo@example.org/garden')
    expect((await romeo.get(el('query', NS_DISCO_ITEMS), 'example.org')).children).toEqual([])
  })
})

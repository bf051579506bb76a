import { describe, expect, test } from 'vitest'
import { defineModule } from '#core/module.ts'
import { harness, type TestServer } from '#test/harness.ts'
import { parseJid } from '#xmpp/jid.ts'
import { attr, childrenOf, type Element, el } from '#xmpp/stanza.ts'
import disco, { type Item, NS_DISCO_INFO, NS_DISCO_ITEMS } from './disco.ts'

const INFO = el('query', NS_DISCO_INFO)
const ITEMS = el('query', NS_DISCO_ITEMS)

/** A module that announces things, and adds a service and a node. */
const services = (...items: Item[]) =>
  defineModule({
    name: 'services',
    home: 'presence',
    xeps: [],
    features: { host: ['urn:z', 'urn:a', 'urn:z'], account: ['urn:of-accounts'] },
    setup(app) {
      const { items: list, nodes } = app.need(disco)
      for (const item of items) list.add(item)
      nodes.add('music', () => [el('identity', NS_DISCO_INFO, { category: 'hierarchy', type: 'leaf' })])
    },
  })

function featuresOf(query: Element): string[] {
  return childrenOf(query, 'feature', NS_DISCO_INFO).map((feature) => attr(feature, 'var'))
}

describe('XEP-0030 §3.1 Discovering Information: the host', () => {
  test('has the identity of an IM server and each feature once, in order', async () => {
    await using server = await harness([disco, services()])
    const romeo = await server.connect('romeo@example.org/garden')
    const answer = await romeo.get(INFO, 'example.org')
    expect(childrenOf(answer, 'identity', NS_DISCO_INFO)).toEqual([
      el('identity', NS_DISCO_INFO, { category: 'server', type: 'im', name: 'Rookery' }),
    ])
    expect(featuresOf(answer)).toEqual([NS_DISCO_INFO, NS_DISCO_ITEMS, 'urn:a', 'urn:z'])
  })
})

describe('XEP-0030 §3.2 Info Nodes, §4.2 Items Nodes', () => {
  test('the response mirrors the node', async () => {
    await using server = await harness([disco, services()])
    const romeo = await server.connect('romeo@example.org/garden')
    const answer = await romeo.get(el('query', NS_DISCO_INFO, { node: 'music' }), 'example.org')
    expect(answer).toEqual(
      el('query', NS_DISCO_INFO, { node: 'music' }, el('identity', NS_DISCO_INFO, { category: 'hierarchy', type: 'leaf' })),
    )
    const items = await romeo.get(el('query', NS_DISCO_ITEMS, { node: 'music' }), 'example.org')
    expect(items).toEqual(el('query', NS_DISCO_ITEMS, { node: 'music' }))
  })

  test.each([
    ['info', 'example.org', NS_DISCO_INFO],
    ['items', 'example.org', NS_DISCO_ITEMS],
    ['info', 'romeo@example.org', NS_DISCO_INFO],
    ['items', 'romeo@example.org', NS_DISCO_ITEMS],
  ])('§7 %s of a node of %s that is not there is item-not-found', async (_name, to, ns) => {
    await using server = await harness([disco, services()])
    const romeo = await server.connect('romeo@example.org/garden')
    expect(await romeo.iq('get', el('query', ns, { node: 'toString' }), to)).toMatchObject({
      condition: 'item-not-found',
      type: 'cancel',
    })
  })
})

describe('XEP-0030 §4.1 Discovering Items: the host', () => {
  test('without services the list is empty, and no error', async () => {
    await using server = await harness([disco])
    const romeo = await server.connect('romeo@example.org/garden')
    expect(await romeo.get(ITEMS, 'example.org')).toEqual(ITEMS)
  })

  test('lists what modules have added', async () => {
    await using server = await harness([
      disco,
      services({ jid: 'rooms.example.org', name: 'Rooms' }, { jid: 'upload.example.org' }),
    ])
    const romeo = await server.connect('romeo@example.org/garden')
    expect((await romeo.get(ITEMS, 'example.org')).children).toEqual([
      el('item', NS_DISCO_ITEMS, { jid: 'rooms.example.org', name: 'Rooms' }),
      el('item', NS_DISCO_ITEMS, { jid: 'upload.example.org' }),
    ])
  })
})

describe('XEP-0030 §3.1, §8: on behalf of an account', () => {
  /** Juliet lets Romeo see her presence. */
  async function befriended(): Promise<TestServer> {
    const server = await harness([disco, services()])
    const juliet = await server.online('juliet@example.org/balcony')
    const romeo = await server.online('romeo@example.org/garden')
    romeo.send(romeo.stanza('presence', { type: 'subscribe', to: parseJid('juliet@example.org') }))
    await server.quiet()
    juliet.send(juliet.stanza('presence', { type: 'subscribed', to: parseJid('romeo@example.org') }))
    await server.quiet()
    return server
  }

  test.each([['romeo@example.org'], [undefined]])('the account itself is answered, asked as %s', async (to) => {
    await using server = await harness([disco, services()])
    const romeo = await server.connect('romeo@example.org/garden')
    const answer = await romeo.get(INFO, to)
    expect(childrenOf(answer, 'identity', NS_DISCO_INFO)).toEqual([
      el('identity', NS_DISCO_INFO, { category: 'account', type: 'registered' }),
    ])
    expect(featuresOf(answer)).toEqual([NS_DISCO_INFO, NS_DISCO_ITEMS, 'urn:of-accounts'])
  })

  test('so is who is authorised to receive its presence', async () => {
    await using server = await befriended()
    const romeo = await server.connect('romeo@example.org/orchard')
    expect(featuresOf(await romeo.get(INFO, 'juliet@example.org'))).toContain('urn:of-accounts')
  })

  test('the other way round it is not: she does not see him', async () => {
    await using server = await befriended()
    const juliet = await server.connect('juliet@example.org/chamber')
    expect(await juliet.iq('get', INFO, 'romeo@example.org')).toMatchObject({ condition: 'service-unavailable', type: 'cancel' })
  })

  test.each([
    ['info', INFO],
    ['info of a node', el('query', NS_DISCO_INFO, { node: 'music' })],
    ['items', ITEMS],
    ['items of a node', el('query', NS_DISCO_ITEMS, { node: 'music' })],
  ])('nobody else learns by %s whether there is an account', async (_name, query) => {
    await using server = await harness([disco])
    await server.account('juliet@example.org')
    const tybalt = await server.connect('tybalt@example.org/street')
    for (const account of ['juliet@example.org', 'nobody@example.org']) {
      expect(await tybalt.iq('get', query, account)).toMatchObject({ condition: 'service-unavailable', type: 'cancel', text: '' })
    }
  })
})

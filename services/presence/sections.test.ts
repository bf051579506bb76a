// RFC 6121 §3 and §4: what the other tests of this room do not say in its own words, through a whole server.
import { describe, expect, test } from 'vitest'
import { harness, type TestClient, type TestServer } from '#test/harness.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT, NS_ROSTER } from '#xmpp/ns.ts'
import { el, type Stanza, stanza } from '#xmpp/stanza.ts'

const [ROMEO, JULIET] = ['romeo@example.org', 'juliet@example.org']

/** The presence that came, `chamber: away`: from which resource, and its type or nothing. */
const shown = ({ received }: TestClient, from: string): string[] =>
  received
    .filter((came) => came.name === 'presence' && came.from.bare === from)
    .map(({ from, type }) => `${from.resource}: ${type}`)

const typesTo = ({ received }: TestClient): string[] =>
  received.filter(({ name, type }) => name === 'presence' && type !== '').map(({ type }) => type)

const direct = (client: TestClient, to: string, type: string): void =>
  client.send(client.stanza('presence', { to: parseJid(to), type }))

/** Romeo sees Juliet; nobody is online. */
async function watched(server: TestServer): Promise<void> {
  const romeo = await server.connect(`${ROMEO}/setup`)
  const juliet = await server.connect(`${JULIET}/setup`)
  direct(romeo, JULIET, 'subscribe')
  await server.quiet()
  direct(juliet, ROMEO, 'subscribed')
  await server.quiet()
  romeo.disconnect()
  juliet.disconnect()
  await server.quiet()
}

describe('RFC 6121 §4.2.3, §4.4.3, §4.5.3: the contact’s server', () => {
  test('delivers to all available resources, whatever their priority, and to no others', async () => {
    await using server = await harness([])
    await watched(server)
    const available = [await server.online(`${ROMEO}/garden`), await server.online(`${ROMEO}/phone`, -1)]
    const connected = await server.connect(`${ROMEO}/connected`)
    const gone = await server.online(`${ROMEO}/gone`)
    gone.send(gone.stanza('presence', { type: 'unavailable' }))
    await server.quiet()
    const juliet = await server.online(`${JULIET}/balcony`)
    juliet.send(juliet.stanza('presence', {}, el('show', NS_CLIENT, {}, 'away')))
    juliet.send(juliet.stanza('presence', { type: 'unavailable' }))
    await server.quiet()
    for (const client of available) expect(shown(client, JULIET)).toEqual(['balcony: ', 'balcony: ', 'balcony: unavailable'])
    for (const client of [connected, gone]) expect(shown(client, JULIET)).toEqual([])
  })
})

describe('RFC 6121 §4.5 unavailable presence', () => {
  test('of a resource that was not available is shown to nobody', async () => {
    await using server = await harness([])
    await watched(server)
    const romeo = await server.online(`${ROMEO}/garden`)
    const juliet = await server.connect(`${JULIET}/balcony`)
    juliet.send(juliet.stanza('presence', { type: 'unavailable' }))
    await server.quiet()
    expect([shown(romeo, JULIET), shown(juliet, JULIET)]).toEqual([[], []])
  })
})

describe('RFC 6121 §4.7 what presence is made of', () => {
  test('§4.7.2.2, §4.7.3, §8.1.5 of RFC 6120: a status for each language, what else there is and the language of all are delivered as they came', async () => {
    await using server = await harness([])
    await watched(server)
    const romeo = await server.online(`${ROMEO}/garden`)
    const juliet = await server.connect(`${JULIET}/balcony`)
    const children = [
      el('status', NS_CLIENT, {}, 'Wooing Romeo'),
      el('status', NS_CLIENT, { 'xml:lang': 'cs' }, 'Dvořím se Romeovi'),
      el('gone-fishing', 'urn:example:fish', { since: 'dawn' }, el('bait', 'urn:example:fish')),
    ]
    juliet.send(stanza('presence', juliet.jid, { id: 'p', lang: 'en' }, ...children))
    const came = await romeo.next(({ name, from }) => name === 'presence' && from.bare === JULIET)
    expect(came).toMatchObject({ id: 'p', lang: 'en', type: '', from: { full: `${JULIET}/balcony` } })
    expect(came.tree()).toEqual(children)
  })

  test('§4.7.1: presence of type error goes to whom it is addressed, and is answered by nobody', async () => {
    await using server = await harness([])
    const romeo = await server.online(`${ROMEO}/garden`)
    const juliet = await server.online(`${JULIET}/balcony`)
    direct(juliet, `${ROMEO}/garden`, 'error')
    direct(juliet, 'nobody@example.org', 'error')
    direct(juliet, `${ROMEO}/nowhere`, 'error')
    await server.quiet()
    expect([typesTo(romeo), typesTo(juliet)]).toEqual([['error'], []])
  })
})

describe('RFC 6121 §3 subscription stanzas', () => {
  const isSubscription = ({ name, type }: Stanza) => name === 'presence' && type.startsWith('subscribe')

  test('§3.1.2 one that is addressed to a full JID goes to the bare one', async () => {
    await using server = await harness([])
    const romeo = await server.connect(`${ROMEO}/garden`)
    const [balcony, chamber] = [await server.online(`${JULIET}/balcony`), await server.online(`${JULIET}/chamber`)]
    direct(romeo, `${JULIET}/chamber`, 'subscribe')
    await server.quiet()
    for (const client of [balcony, chamber])
      expect(client.received.filter(isSubscription)).toMatchObject([{ from: { full: ROMEO }, to: { full: JULIET } }])
  })

  test.each([
    ['§3.1.6 subscribed', 'subscribed', 'subscribed'],
    ['§3.2.3 unsubscribed', 'unsubscribed', 'unsubscribed'],
  ])(
    '%s is delivered to the resources that have asked for the roster, available or not, and to no others',
    async (_s, type, expected) => {
      await using server = await harness([])
      const interested = await server.connect(`${ROMEO}/interested`)
      await interested.get(el('query', NS_ROSTER))
      const indifferent = await server.online(`${ROMEO}/indifferent`)
      const juliet = await server.online(`${JULIET}/balcony`)
      direct(interested, JULIET, 'subscribe')
      await server.quiet()
      direct(juliet, ROMEO, type)
      await server.quiet()
      expect(interested.received.filter(({ name }) => name === 'presence').map(({ type }) => type)).toEqual([expected])
      expect(typesTo(indifferent)).toEqual([])
    },
  )

  test('§3.1.3 a request is delivered to a resource that has become available with a negative priority', async () => {
    await using server = await harness([])
    const romeo = await server.connect(`${ROMEO}/garden`)
    await server.account(JULIET)
    direct(romeo, JULIET, 'subscribe')
    await server.quiet()
    expect(typesTo(await server.online(`${JULIET}/robot`, -10))).toEqual(['subscribe'])
  })

  test('§3.1.5 the approval is from the contact’s bare JID, and then comes the presence of each of his available resources', async () => {
    await using server = await harness([])
    const romeo = await server.online(`${ROMEO}/garden`)
    await romeo.get(el('query', NS_ROSTER))
    const balcony = await server.online(`${JULIET}/balcony`)
    await server.online(`${JULIET}/robot`, -10)
    await server.connect(`${JULIET}/connected`)
    direct(romeo, JULIET, 'subscribe')
    await server.quiet()
    direct(balcony, ROMEO, 'subscribed')
    await server.quiet()
    const [approval, ...presences] = shown(romeo, JULIET)
    expect([approval, presences.sort()]).toEqual([': subscribed', ['balcony: ', 'robot: ']])
  })
})

// Events of nodes, through the whole server: who is shown what.
import { describe, expect, test } from 'vitest'
import { harness, type TestClient, type TestServer } from '#test/harness.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_DATA, NS_DELAY } from '#xmpp/ns.ts'
import { attr, type Element, el, find } from '#xmpp/stanza.ts'
import blocking from './blocking.ts'
import disco from './disco.ts'
import { NS_EVENT, NS_PUBSUB } from './pep/pep-words.ts'
import pep from './pep.ts'

const MOOD = 'http://jabber.org/protocol/mood'
const ROMEO = 'romeo@example.org'

const mood = el('mood', MOOD, {}, el('happy', MOOD))

function publish(id: string, access?: string): Element {
  const field = (name: string, value: string) => el('field', NS_DATA, { var: name }, el('value', NS_DATA, {}, value))
  const form = [field('FORM_TYPE', `${NS_PUBSUB}#publish-options`), field('pubsub#access_model', access ?? '')]
  const options = el('publish-options', NS_PUBSUB, {}, el('x', NS_DATA, { type: 'submit' }, ...form))
  const item = el('item', NS_PUBSUB, { id }, mood)
  return el('pubsub', NS_PUBSUB, {}, el('publish', NS_PUBSUB, { node: MOOD }, item), ...(access === undefined ? [] : [options]))
}

/** The ids of the events that came; one that was kept for him has a ` late` behind it. */
function told({ received }: TestClient): string[] {
  return received
    .filter(({ name }) => name === 'message')
    .map((message) => {
      const items = find(message, 'event', NS_EVENT)!.children[0] as Element
      return attr(items.children[0] as Element, 'id') + (find(message, 'delay', NS_DELAY) === undefined ? '' : ' late')
    })
}

/** Online, with a client that wants to hear of moods. */
async function listening(server: TestServer, full: string): Promise<TestClient> {
  const client = await server.connect(full)
  client.notifies.add(`${MOOD}+notify`)
  client.available()
  await server.quiet()
  return client
}

async function befriend(server: TestServer, watcher: TestClient, contact: TestClient): Promise<void> {
  watcher.send(watcher.stanza('presence', { type: 'subscribe', to: parseJid(contact.jid.bare) }))
  await server.quiet()
  contact.send(contact.stanza('presence', { type: 'subscribed', to: parseJid(watcher.jid.bare) }))
  await server.quiet()
}

describe('XEP-0163 §4 Receiving Event Notifications', () => {
  test('contacts whose clients want it are told, and the account’s own; others are not', async () => {
    await using server = await harness([disco, blocking, pep])
    const juliet = await listening(server, 'juliet@example.org/balcony')
    const chamber = await server.online('juliet@example.org/chamber')
    const romeo = await listening(server, 'romeo@example.org/garden')
    const deaf = await server.online('romeo@example.org/deaf')
    const tybalt = await listening(server, 'tybalt@example.org/street')
    await befriend(server, romeo, juliet)
    await juliet.iq('set', publish('1'))
    await server.quiet()
    expect([juliet, chamber, romeo, deaf, tybalt].map(told)).toEqual([['1'], [], ['1'], [], []])
  })

  test('§4.3.3 who is blocked is told nothing', async () => {
    await using server = await harness([disco, blocking, pep])
    const juliet = await listening(server, 'juliet@example.org/balcony')
    const romeo = await listening(server, 'romeo@example.org/garden')
    await befriend(server, romeo, juliet)
    await juliet.iq('set', el('block', 'urn:xmpp:blocking', {}, el('item', 'urn:xmpp:blocking', { jid: ROMEO })))
    await juliet.iq('set', publish('1'))
    await server.quiet()
    expect(told(romeo)).toEqual([])
    await juliet.iq('set', el('unblock', 'urn:xmpp:blocking'))
    await juliet.iq('set', publish('2'))
    await server.quiet()
    expect(told(romeo).filter((id) => !id.endsWith('late'))).toEqual(['2'])
  })

  test.each([
    ['open', ['1']],
    ['presence', ['1']],
    ['roster', []],
    ['whitelist', []],
  ])('access model %s: a contact is told %s, the account always', async (model, expected) => {
    await using server = await harness([disco, blocking, pep])
    const juliet = await listening(server, 'juliet@example.org/balcony')
    const romeo = await listening(server, 'romeo@example.org/garden')
    await befriend(server, romeo, juliet)
    await juliet.iq('set', publish('1', model))
    await server.quiet()
    expect(told(romeo)).toEqual(expected)
    expect(told(juliet)).toEqual(['1'])
  })

  test('an account that is offline publishes to those who see it', async () => {
    await using server = await harness([disco, blocking, pep])
    const juliet = await listening(server, 'juliet@example.org/balcony')
    const romeo = await listening(server, 'romeo@example.org/garden')
    await befriend(server, romeo, juliet)
    juliet.send(juliet.stanza('presence', { type: 'unavailable' }))
    await server.quiet()
    await juliet.iq('set', publish('1'))
    await server.quiet()
    expect(told(romeo)).toEqual(['1'])
  })
})

describe('XEP-0163 §4.3.4 Sending the Last Published Item', () => {
  test('who publishes while a contact is away is heard of when he comes online himself', async () => {
    await using server = await harness([disco, blocking, pep])
    const juliet = await listening(server, 'juliet@example.org/balcony')
    const romeo = await server.online('romeo@example.org/garden')
    await befriend(server, romeo, juliet)
    romeo.disconnect()
    await server.quiet()
    await juliet.iq('set', publish('1'))
    juliet.disconnect()
    await server.quiet()
    const back = await listening(server, 'romeo@example.org/garden') // she is away
    const again = await listening(server, 'juliet@example.org/balcony')
    expect(told(back)).toEqual(['1 late'])
    expect(told(again)).toEqual([]) // her edge asks for her own (edge/watching/events.test.ts)
  })
})

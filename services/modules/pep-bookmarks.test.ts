import { describe, expect, test } from 'vitest'
import { harness, type TestClient, type TestServer } from '#test/harness.ts'
import { NS_DATA } from '#xmpp/ns.ts'
import { attr, type Element, el } from '#xmpp/stanza.ts'
import disco, { NS_DISCO_INFO } from './disco.ts'
import { NS_PUBSUB } from './pep/pep-words.ts'
import pep from './pep.ts'
import pepBookmarks, { NS_BOOKMARKS, NS_STORAGE } from './pep-bookmarks.ts'
import privateStorage from './private.ts'

const NS_PRIVATE = 'jabber:iq:private'
const ROOM = 'theplay@conference.example.org'

async function setUp(): Promise<{ server: TestServer; juliet: TestClient } & AsyncDisposable> {
  const server = await harness([disco, pep, privateStorage, pepBookmarks])
  const juliet = await server.online('juliet@example.org/balcony')
  return { server, juliet, [Symbol.asyncDispose]: () => server.stop() }
}

const native = (attrs: Readonly<Record<string, string>>, ...children: readonly Element[]) =>
  el('conference', NS_BOOKMARKS, attrs, ...children)
const old = (jid: string, attrs: Readonly<Record<string, string>>, ...children: readonly Element[]) =>
  el('conference', NS_STORAGE, { jid, ...attrs }, ...children)
const url = el('url', NS_STORAGE, { name: 'Complete Works', url: 'https://example.org/works' })
const query = (...children: readonly Element[]) => el('query', NS_PRIVATE, {}, ...children)
const storage = (...children: readonly Element[]) => query(el('storage', NS_STORAGE, {}, ...children))

function publish(id: string, payload: Element, access = 'whitelist'): Element {
  const field = (name: string, value: string) => el('field', NS_DATA, { var: name }, el('value', NS_DATA, {}, value))
  const form = [
    field('FORM_TYPE', `${NS_PUBSUB}#publish-options`),
    field('pubsub#access_model', access),
    field('pubsub#max_items', 'max'),
  ]
  return el(
    'pubsub',
    NS_PUBSUB,
    {},
    el('publish', NS_PUBSUB, { node: NS_BOOKMARKS }, el('item', NS_PUBSUB, { id }, payload)),
    el('publish-options', NS_PUBSUB, {}, el('x', NS_DATA, { type: 'submit' }, ...form)),
  )
}

async function published(client: TestClient): Promise<Record<string, Element>> {
  const answer = await client.get(el('pubsub', NS_PUBSUB, {}, el('items', NS_PUBSUB, { node: NS_BOOKMARKS })))
  const items = (answer.children[0] as Element).children as readonly Element[]
  return Object.fromEntries(items.map((item) => [attr(item, 'id'), item.children[0] as Element]))
}

describe('XEP-0402 §5.3 Compatibility', () => {
  test('it is announced of the account', async () => {
    await using setup = await setUp()
    const info = await setup.juliet.get(el('query', NS_DISCO_INFO), 'juliet@example.org')
    expect(info.children.map((child) => attr(child as Element, 'var'))).toContain(`${NS_BOOKMARKS}#compat`)
  })

  test('§5.3.1 what is published is in private storage, with the address of the room and without extensions', async () => {
    await using setup = await setUp()
    const { juliet } = setup
    const extensions = el('extensions', NS_BOOKMARKS, {}, el('state', 'urn:client', { minimized: 'true' }))
    await juliet.iq(
      'set',
      publish(ROOM, native({ name: 'The Play', autojoin: '1' }, el('nick', NS_BOOKMARKS, {}, 'JC'), extensions)),
    )
    expect(await juliet.get(storage())).toEqual(
      storage(old(ROOM, { name: 'The Play', autojoin: '1' }, el('nick', NS_STORAGE, {}, 'JC'))),
    )
  })

  test('§5.3.2 what is stored in the old way is published, changed and retracted, each item for itself', async () => {
    await using setup = await setUp()
    const { juliet } = setup
    const extensions = el('extensions', NS_BOOKMARKS, {}, el('state', 'urn:client'))
    await juliet.iq('set', storage(old(ROOM, { name: 'The Play' }), old('b@conference.example.org', {}), url))
    expect(await published(juliet)).toEqual({ [ROOM]: native({ name: 'The Play' }), 'b@conference.example.org': native({}) })
    await juliet.iq('set', publish(ROOM, native({ name: 'The Play' }, extensions)))
    await juliet.iq('set', storage(old(ROOM, { name: 'Again' }, el('password', NS_STORAGE, {}, 'cauldron')), url))
    const password = el('password', NS_BOOKMARKS, {}, 'cauldron')
    expect(await published(juliet)).toEqual({ [ROOM]: native({ name: 'Again' }, password, extensions) })
    expect(await juliet.get(storage())).toEqual(
      storage(old(ROOM, { name: 'Again' }, el('password', NS_STORAGE, {}, 'cauldron')), url),
    )
    await juliet.iq('set', storage())
    expect(await published(juliet)).toEqual({})
    expect(await juliet.get(storage())).toEqual(storage())
  })

  test('the node that it makes is the account’s alone', async () => {
    await using setup = await setUp()
    await setup.juliet.iq('set', storage(old(ROOM, {})))
    const romeo = await setup.server.online('romeo@example.org/garden')
    const asked = el('pubsub', NS_PUBSUB, {}, el('items', NS_PUBSUB, { node: NS_BOOKMARKS }))
    expect(await romeo.iq('get', asked, 'juliet@example.org')).toMatchObject({ condition: 'not-allowed' })
  })

  test('what is private is not copied to a node that others see', async () => {
    await using setup = await setUp()
    const { juliet } = setup
    await juliet.iq('set', publish('a@conference.example.org', native({}), 'presence'))
    await juliet.iq('set', storage(old(ROOM, {})))
    expect(Object.keys(await published(juliet))).toEqual(['a@conference.example.org'])
    expect(await juliet.get(storage())).toEqual(storage(old(ROOM, {})))
  })
})

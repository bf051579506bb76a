import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { type HarnessOptions, harness, type TestClient, type TestServer } from '#test/harness.ts'
import { NS_DATA } from '#xmpp/ns.ts'
import { childOf, type Element, el, find, textOf } from '#xmpp/stanza.ts'
import disco from './disco.ts'
import { NS_OWNER, NS_PUBSUB } from './pep/pep-words.ts'
import pep from './pep.ts'
import pepAvatar, { NS_AVATAR_DATA, NS_AVATAR_METADATA } from './pep-avatar.ts'
import vcard from './vcard.ts'

const NS_VCARD = 'vcard-temp'
const NS_UPDATE = 'vcard-temp:x:update'
const PICTURE = Buffer.from('not quite a picture').toString('base64')
const HASH = createHash('sha1').update(PICTURE, 'base64').digest('hex')
const OTHER = Buffer.from('another').toString('base64')

async function setUp(options: HarnessOptions = {}): Promise<{ server: TestServer; juliet: TestClient } & AsyncDisposable> {
  const server = await harness([disco, vcard, pep, pepAvatar], options)
  const juliet = await server.online('juliet@example.org/balcony')
  return { server, juliet, [Symbol.asyncDispose]: () => server.stop() }
}

const publish = (node: string, id: string, payload: Element, access?: string) => {
  const field = (name: string, value: string) => el('field', NS_DATA, { var: name }, el('value', NS_DATA, {}, value))
  const form = el(
    'x',
    NS_DATA,
    { type: 'submit' },
    field('FORM_TYPE', `${NS_PUBSUB}#publish-options`),
    field('pubsub#access_model', access ?? ''),
  )
  const options = access === undefined ? [] : [el('publish-options', NS_PUBSUB, {}, form)]
  return el('pubsub', NS_PUBSUB, {}, el('publish', NS_PUBSUB, { node }, el('item', NS_PUBSUB, { id }, payload)), ...options)
}
const data = (base64 = PICTURE) => el('data', NS_AVATAR_DATA, {}, base64)
const info = (attrs: Readonly<Record<string, string>>) =>
  el('info', NS_AVATAR_METADATA, { bytes: '19', type: 'image/png', ...attrs })
const metadata = (...infos: readonly Element[]) => el('metadata', NS_AVATAR_METADATA, {}, ...infos)
const card = (...children: readonly Element[]) => el('vCard', NS_VCARD, {}, el('FN', NS_VCARD, {}, 'Juliet'), ...children)
const photo = (base64: string, type = 'image/png') =>
  el('PHOTO', NS_VCARD, {}, el('TYPE', NS_VCARD, {}, type), el('BINVAL', NS_VCARD, {}, base64))

async function avatar(client: TestClient, access = 'open'): Promise<void> {
  await client.iq('set', publish(NS_AVATAR_DATA, HASH, data(), access))
  await client.iq(
    'set',
    publish(
      NS_AVATAR_METADATA,
      HASH,
      metadata(info({ id: HASH, url: 'https://example.org/big.png' }), info({ id: HASH })),
      access,
    ),
  )
}

async function lastOf(client: TestClient, node: string): Promise<Element | undefined> {
  const answer = await client.get(el('pubsub', NS_PUBSUB, {}, el('items', NS_PUBSUB, { node })))
  const item = (answer.children[0] as Element).children[0] as Element | undefined
  return item?.children[0] as Element | undefined
}

/** The hash in the presence that her own other resource is shown. */
async function hashShown(server: TestServer): Promise<string | undefined> {
  const chamber = await server.online(`juliet@example.org/${Math.random()}`)
  const came = chamber.received.find(({ name, from }) => name === 'presence' && from.resource === 'balcony')!
  const x = find(came, 'x', NS_UPDATE)
  const shown = x && childOf(x, 'photo', NS_UPDATE)
  return shown && textOf(shown)
}

describe('XEP-0398 §3.1 From PEP to vCard', () => {
  test('an open avatar becomes the photo of the vCard, beside what is there, and its hash is in presence', async () => {
    await using setup = await setUp()
    const { juliet, server } = setup
    await juliet.iq('set', card(photo(OTHER)))
    await avatar(juliet)
    expect(await juliet.get(el('vCard', NS_VCARD))).toEqual(card(photo(PICTURE)))
    expect(await hashShown(server)).toBe(HASH)
  })

  test('an empty metadata element disables it', async () => {
    await using setup = await setUp()
    const { juliet } = setup
    await avatar(juliet)
    expect(await juliet.get(el('vCard', NS_VCARD))).toEqual(el('vCard', NS_VCARD, {}, photo(PICTURE)))
    await juliet.iq('set', publish(NS_AVATAR_METADATA, 'none', metadata()))
    expect(await juliet.iq('get', el('vCard', NS_VCARD))).toMatchObject({ condition: 'item-not-found' })
  })

  test.each([
    [
      'retracted',
      el('pubsub', NS_PUBSUB, {}, el('retract', NS_PUBSUB, { node: NS_AVATAR_METADATA }, el('item', NS_PUBSUB, { id: HASH }))),
    ],
    ['purged', el('pubsub', NS_OWNER, {}, el('purge', NS_OWNER, { node: NS_AVATAR_METADATA }))],
    ['deleted with its node', el('pubsub', NS_OWNER, {}, el('delete', NS_OWNER, { node: NS_AVATAR_METADATA }))],
  ])('one that is %s is gone from the vCard and from presence: it used to be shown there for good', async (_how, request) => {
    await using setup = await setUp()
    const { juliet, server } = setup
    await juliet.iq('set', card())
    await avatar(juliet)
    expect(await hashShown(server)).toBe(HASH)
    expect(await juliet.iq('set', request)).toBeUndefined()
    await server.quiet()
    expect(await juliet.get(el('vCard', NS_VCARD))).toEqual(card())
    expect(await hashShown(server)).toBe('')
  })

  test('§8 one that only contacts see is not copied, unless it is configured', async () => {
    for (const anyAccess of [false, true]) {
      await using setup = await setUp({ modules: { 'pep-avatar': { anyAccess } } })
      await avatar(setup.juliet, 'presence')
      const answer = await setup.juliet.iq('get', el('vCard', NS_VCARD))
      if (anyAccess) expect(answer).toEqual(el('vCard', NS_VCARD, {}, photo(PICTURE)))
      else expect(answer).toMatchObject({ condition: 'item-not-found' })
    }
  })

  test('data that is not what its id says is not copied; a photo that is too large stays where it is', async () => {
    await using setup = await setUp({ modules: { vcard: { bytesMax: 1_024 } } })
    const { juliet } = setup
    await juliet.iq('set', card(photo(OTHER)))
    await juliet.iq('set', publish(NS_AVATAR_DATA, HASH, data(OTHER), 'open'))
    await juliet.iq('set', publish(NS_AVATAR_METADATA, HASH, metadata(info({ id: HASH })), 'open'))
    expect(await juliet.get(el('vCard', NS_VCARD))).toEqual(card(photo(OTHER)))
    const large = Buffer.alloc(2_000, 7).toString('base64')
    const id = createHash('sha1').update(large, 'base64').digest('hex')
    await juliet.iq('set', publish(NS_AVATAR_DATA, id, data(large), 'open'))
    expect(await juliet.iq('set', publish(NS_AVATAR_METADATA, id, metadata(info({ id })), 'open'))).not.toHaveProperty(
      'condition',
    )
    expect(await juliet.get(el('vCard', NS_VCARD))).toEqual(card(photo(OTHER)))
  })
})

describe('XEP-0398 §3.2 From vCard to PEP', () => {
  test('the data is published under its hash, then one info with the type of the vCard; both for everybody', async () => {
    await using setup = await setUp()
    const { juliet, server } = setup
    await juliet.iq('set', card(photo(PICTURE, 'image/jpeg')))
    expect(await lastOf(juliet, NS_AVATAR_DATA)).toEqual(data())
    expect(await lastOf(juliet, NS_AVATAR_METADATA)).toEqual(metadata(info({ id: HASH, type: 'image/jpeg' })))
    expect(await juliet.get(el('vCard', NS_VCARD))).toEqual(card(photo(PICTURE, 'image/jpeg'))) // and not back again
    const stranger = await server.connect('tybalt@example.org/street')
    const asked = el('pubsub', NS_PUBSUB, {}, el('items', NS_PUBSUB, { node: NS_AVATAR_METADATA }))
    expect(await stranger.iq('get', asked, 'juliet@example.org')).not.toHaveProperty('condition')
    await juliet.iq('set', card())
    expect(await lastOf(juliet, NS_AVATAR_METADATA)).toEqual(metadata())
  })

  test('a vCard without a photo publishes nothing', async () => {
    await using setup = await setUp()
    await setup.juliet.iq('set', card())
    const asked = el('pubsub', NS_PUBSUB, {}, el('items', NS_PUBSUB, { node: NS_AVATAR_METADATA }))
    expect(await setup.juliet.iq('get', asked)).toMatchObject({ condition: 'item-not-found' })
  })
})

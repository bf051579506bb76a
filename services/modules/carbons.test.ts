import { describe, expect, test } from 'vitest'
import type { AnyModule } from '#core/module.ts'
import { harness, type TestClient } from '#test/harness.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT, NS_FORWARD, NS_MUC_USER } from '#xmpp/ns.ts'
import { attr, childOf, childrenOf, type Element, el, find, type Stanza, stanza, textOf } from '#xmpp/stanza.ts'
import blocking from './blocking.ts'
import carbons, { isEligible } from './carbons.ts'
import disco from './disco.ts'
import mam from './mam.ts'

const NS = 'urn:xmpp:carbons:2'
const ROMEO = 'romeo@example.org'
const JULIET = 'juliet@example.org'
const BODY = el('body', NS_CLIENT, {}, 'Neither, fair saint')

/** Romeo has three clients, of which garden and home want copies; Juliet has one. */
async function setUp(...more: readonly AnyModule[]) {
  const server = await harness([carbons, ...more] as AnyModule[])
  const garden = await server.online(`${ROMEO}/garden`)
  const home = await server.online(`${ROMEO}/home`)
  const tablet = await server.online(`${ROMEO}/tablet`)
  const juliet = await server.online(`${JULIET}/balcony`)
  for (const client of [garden, home]) expect(await client.iq('set', el('enable', NS))).toBeUndefined()
  const all = { server, garden, home, tablet, juliet }
  return { ...all, [Symbol.asyncDispose]: () => server.stop() }
}

interface Copy {
  readonly direction: string
  readonly from: string
  readonly to: string
  readonly type: string
  /** The message inside. */
  readonly message: Element
  readonly body: string
}

function copiesOf(client: TestClient): Copy[] {
  return client.received.flatMap((came) => {
    const frame = came.name === 'message' ? came.tree().find(({ ns }) => ns === NS) : undefined
    if (frame === undefined || (frame.name !== 'sent' && frame.name !== 'received')) return []
    expect(came.tree()).toHaveLength(1)
    const message = childOf(childOf(frame, 'forwarded', NS_FORWARD)!, 'message', NS_CLIENT)!
    const body = textOf(childOf(message, 'body', NS_CLIENT) ?? el('none', ''))
    return [{ direction: frame.name, from: came.from.full, to: came.to!.full, type: came.type, message, body }]
  })
}

const inShort = (client: TestClient) => copiesOf(client).map(({ direction, body }) => `${direction} ${body}`)
const plain = (client: TestClient) => client.bodies().filter((body) => body !== '')

describe('XEP-0280 §3 Discovering Support', () => {
  test('the server announces urn:xmpp:carbons:2, and not the rules it does not keep to the letter', async () => {
    await using server = await harness([carbons, disco])
    const romeo = await server.connect(`${ROMEO}/garden`)
    const info = await romeo.get(el('query', 'http://jabber.org/protocol/disco#info'), 'example.org')
    const features = childrenOf(info, 'feature', info.ns).map(({ attrs }) => attrs.var)
    expect(features).toContain(NS)
    expect(features).not.toContain('urn:xmpp:carbons:rules:0')
  })
})

describe('XEP-0280 §4, §5 Enabling and Disabling Carbons', () => {
  test('§10.1: both may be said several times, and the last holds', async () => {
    await using all = await setUp()
    for (const name of ['enable', 'enable', 'disable', 'disable']) expect(await all.home.iq('set', el(name, NS))).toBeUndefined()
    all.juliet.message(`${ROMEO}/garden`, '1')
    await all.server.quiet()
    expect(inShort(all.home)).toEqual([])
    expect(all.home.flags.has('carbons')).toBe(false)
    await all.home.iq('set', el('enable', NS))
    all.juliet.message(`${ROMEO}/garden`, '2')
    await all.server.quiet()
    expect(inShort(all.home)).toEqual(['received 2'])
    expect(all.home.flags.has('carbons')).toBe(true)
  })

  test('nobody enables them for somebody else, and there is nothing else to ask', async () => {
    await using all = await setUp()
    expect(await all.juliet.iq('set', el('enable', NS), ROMEO)).toMatchObject({ condition: 'service-unavailable' })
    expect(await all.juliet.iq('get', el('enable', NS))).toMatchObject({ condition: 'feature-not-implemented' })
    expect(await all.juliet.iq('set', el('other', NS))).toMatchObject({ condition: 'service-unavailable' })
  })
})

describe('XEP-0280 §7 Receiving Messages', () => {
  test('a message to a full JID goes there, and a copy to each other client that asked', async () => {
    await using all = await setUp()
    all.juliet.message(`${ROMEO}/garden`, 'What man art thou')
    await all.server.quiet()
    expect(plain(all.garden)).toEqual(['What man art thou'])
    expect([inShort(all.garden), inShort(all.tablet)]).toEqual([[], []])
    const [copy, ...more] = copiesOf(all.home)
    expect(more).toEqual([])
    expect(copy).toMatchObject({ direction: 'received', from: ROMEO, to: `${ROMEO}/home`, type: 'chat' })
    expect(copy!.message.attrs).toMatchObject({ from: `${JULIET}/balcony`, to: `${ROMEO}/garden`, type: 'chat' })
    expect(copy!.body).toBe('What man art thou')
  })

  test('one to the bare JID is copied to those that RFC 6121 §8.5.2 passes over', async () => {
    await using all = await setUp()
    all.home.available(-1)
    await all.server.quiet()
    all.juliet.message(ROMEO, 'to whoever is there')
    await all.server.quiet()
    expect([plain(all.garden), plain(all.tablet), plain(all.home)]).toEqual([
      ['to whoever is there'],
      ['to whoever is there'],
      [],
    ])
    expect([inShort(all.garden), inShort(all.home)]).toEqual([[], ['received to whoever is there']])
  })

  test('one to a resource that is gone, which is copied, is no error to its sender', async () => {
    await using all = await setUp()
    all.juliet.send(all.juliet.stanza('message', { to: parseJid(`${ROMEO}/gone`), id: 'n' }, BODY))
    await all.server.quiet()
    expect([inShort(all.garden), inShort(all.home)]).toEqual([['received Neither, fair saint'], ['received Neither, fair saint']])
    expect(all.juliet.received.filter(({ type }) => type === 'error')).toEqual([])
  })

  test('whoever has gone offline gets none, and a client that has not shown presence does', async () => {
    await using all = await setUp()
    const silent = await all.server.connect(`${ROMEO}/silent`)
    await silent.iq('set', el('enable', NS))
    all.home.disconnect()
    await all.server.quiet()
    all.juliet.message(`${ROMEO}/garden`, 'here')
    await all.server.quiet()
    expect(inShort(silent)).toEqual(['received here'])
    expect(inShort(all.home)).toEqual([])
  })

  test('an archived message is copied with its id in the archive of the account', async () => {
    await using all = await setUp(mam as AnyModule)
    all.juliet.message(`${ROMEO}/garden`, 'kept')
    all.tablet.message(JULIET, 'answered')
    await all.server.quiet()
    const idOf = (message: Element) => childrenOf(message, 'stanza-id', 'urn:xmpp:sid:0').map(({ attrs }) => attrs)
    const [received, sent] = copiesOf(all.home)
    const direct = find(
      all.garden.received.find(({ name, child }) => name === 'message' && child.endsWith('}body'))!,
      'stanza-id',
      'urn:xmpp:sid:0',
    )!
    expect(idOf(received!.message)).toEqual([direct.attrs])
    expect(attr(direct, 'by')).toBe(ROMEO)
    expect(idOf(sent!.message)).toEqual([{ by: ROMEO, id: expect.any(String) }])
    const query = await all.home.iq('set', el('query', 'urn:xmpp:mam:2'))
    const results = all.home.received.flatMap((came) => find(came, 'result', 'urn:xmpp:mam:2') ?? [])
    expect(query).toMatchObject({ name: 'fin' })
    expect(results.map(({ attrs }) => attrs.id)).toEqual([received, sent].map((copy) => idOf(copy!.message)[0]!.id))
    expect(find(all.juliet.received.at(-1)!, 'stanza-id', 'urn:xmpp:sid:0')!.attrs.by).toBe(JULIET) // §3.5 of XEP-0313: and no other
  })
})

describe('XEP-0280 §8 Sending Messages', () => {
  test('a copy goes to each other client that asked, whether the sender has or not', async () => {
    await using all = await setUp()
    all.tablet.message(`${JULIET}/balcony`, 'from the tablet')
    all.garden.message(`${JULIET}/balcony`, 'from the garden')
    await all.server.quiet()
    expect(inShort(all.garden)).toEqual(['sent from the tablet'])
    expect(inShort(all.home)).toEqual(['sent from the tablet', 'sent from the garden'])
    expect(inShort(all.tablet)).toEqual([])
    expect(plain(all.juliet)).toEqual(['from the tablet', 'from the garden'])
    const [copy] = copiesOf(all.garden)
    expect(copy).toMatchObject({ from: ROMEO, to: `${ROMEO}/garden`, type: 'chat' })
    expect(copy!.message.attrs).toMatchObject({ from: `${ROMEO}/tablet`, to: `${JULIET}/balcony` })
  })

  test('what one writes to oneself comes to each other client once', async () => {
    await using all = await setUp()
    all.garden.message(`${ROMEO}/tablet`, 'a note')
    await all.server.quiet()
    expect([inShort(all.garden), inShort(all.home), plain(all.tablet)]).toEqual([[], ['received a note'], ['a note']])
  })

  test('what is refused is not copied', async () => {
    await using all = await setUp(blocking as AnyModule)
    await all.garden.iq('set', el('block', 'urn:xmpp:blocking', {}, el('item', 'urn:xmpp:blocking', { jid: JULIET })))
    all.garden.message(`${JULIET}/balcony`, 'refused')
    all.juliet.message(`${ROMEO}/garden`, 'blocked')
    await all.server.quiet()
    expect(inShort(all.home)).toEqual([])
  })
})

describe('XEP-0280 §9 Avoiding Carbons for a single message', () => {
  test.each([el('private', NS), el('no-copy', 'urn:xmpp:hints')])('neither side copies one with $name of $ns', async (mark) => {
    await using all = await setUp()
    await all.juliet.iq('set', el('enable', NS))
    const chamber = await all.server.online(`${JULIET}/chamber`)
    await chamber.iq('set', el('enable', NS))
    all.garden.message(`${JULIET}/balcony`, 'whispered', mark)
    await all.server.quiet()
    expect([inShort(all.home), inShort(chamber)]).toEqual([[], []])
    expect(find(all.juliet.received.at(-1)!, mark.name, mark.ns)).toBeDefined() // it is left in
  })
})

describe('XEP-0280 §6.1 Recommended Rules', () => {
  const muc = (...children: readonly Element[]) => el('x', NS_MUC_USER, {}, ...children)
  const states = 'http://jabber.org/protocol/chatstates'
  const error = el('error', NS_CLIENT, { type: 'cancel' })
  const of = (type: string, ...children: readonly Element[]): Stanza =>
    stanza('message', parseJid(`${JULIET}/balcony`), { to: parseJid(`${ROMEO}/garden`), type }, ...children)

  test.each<[string, Stanza, boolean, boolean]>([
    ['of type chat', of('chat', el('any', 'urn:any')), true, true],
    ['of type chat, empty', of('chat'), true, true],
    ['of type normal, with a body', of('', BODY), true, true],
    ['of a type there is not, with a body', of('other', BODY), true, true],
    ['of type normal, without', of('normal', el('any', 'urn:any')), false, false],
    ['of type normal, with a chat state', of('', el('composing', states)), true, true],
    ['of type normal, with a receipt', of('', el('received', 'urn:xmpp:receipts', { id: '1' })), true, true],
    ['of type normal, with a marker', of('', el('displayed', 'urn:xmpp:chat-markers:0', { id: '1' })), true, true],
    ['of type normal, encrypted', of('', el('encrypted', 'urn:xmpp:omemo:2')), true, true],
    ['of type headline, with a body', of('headline', BODY), false, false],
    ['of type groupchat', of('groupchat', BODY), false, false],
    ['of type error that repeats a body', of('error', BODY, error), true, true],
    ['of type error that repeats nothing', of('error', error), false, false],
    ['with a direct invitation', of('', el('x', 'jabber:x:conference', { jid: 'room@muc.example.org' })), true, true],
    ['with a mediated invitation', of('', muc(el('invite', NS_MUC_USER, { from: JULIET }))), true, true],
    ['to or from an occupant of a room', of('chat', BODY, muc()), true, false],
    ['that is a copy already', of('chat', el('received', NS)), false, false],
    ['with a body in another namespace', of('', el('body', 'urn:other')), false, false],
  ])('one %s', (_name, message, sent, received) => {
    expect([isEligible(message, 'sent'), isEligible(message, 'received')]).toEqual([sent, received])
  })
})

import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { memoryTable } from '#table/memory.ts'
import { flakyTable, type HarnessOptions, harness, type TestClient, type TestServer } from '#test/harness.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT } from '#xmpp/ns.ts'
import { type Element, el, type Stanza, textOf } from '#xmpp/stanza.ts'
import vcard from './vcard.ts'

const NS = 'vcard-temp'
const NS_UPDATE = 'vcard-temp:x:update'
const ASK = el('vCard', NS)
const JULIET = 'juliet@example.org'
const card = (...children: readonly Element[]) => el('vCard', NS, {}, el('FN', NS, {}, 'Juliet Capulet'), ...children)
const PICTURE = Buffer.from('not quite a picture')
const HASH = createHash('sha1').update(PICTURE).digest('hex')
const photo = (base64 = PICTURE.toString('base64')) =>
  el('PHOTO', NS, {}, el('TYPE', NS, {}, 'image/png'), el('BINVAL', NS, {}, base64))
const update = (...children: readonly Element[]) => el('x', NS_UPDATE, {}, ...children)
const shown = (hash: string) => update(el('photo', NS_UPDATE, {}, hash))
const NO_IMAGE = update(el('photo', NS_UPDATE))

interface Setup extends AsyncDisposable {
  readonly server: TestServer
  readonly juliet: TestClient
  readonly romeo: TestClient
}

/** Romeo sees Juliet's presence; she has sent none yet. */
async function setUp(options: HarnessOptions = {}): Promise<Setup> {
  const server = await harness([vcard], options)
  const romeo = await server.online('romeo@example.org/garden')
  const juliet = await server.connect('juliet@example.org/balcony')
  romeo.send(romeo.stanza('presence', { type: 'subscribe', to: parseJid(JULIET) }))
  await server.quiet()
  juliet.send(juliet.stanza('presence', { type: 'subscribed', to: parseJid('romeo@example.org') }))
  await server.quiet()
  return { server, juliet, romeo, [Symbol.asyncDispose]: () => server.stop() }
}

/** What Romeo is shown of a presence of Juliet's. */
async function showing({ server, juliet, romeo }: Setup, ...children: readonly Element[]): Promise<readonly Element[]> {
  const before = romeo.received.length
  juliet.send(juliet.stanza('presence', {}, ...children))
  await server.quiet()
  const came = romeo.received.slice(before).filter(({ name, type }: Stanza) => name === 'presence' && type === '')
  expect(came).toHaveLength(1)
  return came[0]!.tree()
}

describe('XEP-0054 §3.1 Retrieving One’s vCard, §3.2 Updating One’s vCard', () => {
  test.each([[undefined], [JULIET]])('what was set is got, asked as %s, also after a restart', async (to) => {
    const table = memoryTable()
    {
      await using setup = await setUp({ table })
      expect(await setup.juliet.iq('set', card(photo()), to)).toBeUndefined()
      expect(await setup.juliet.get(ASK, to)).toEqual(card(photo()))
    }
    await using setup = await setUp({ table })
    expect(await setup.juliet.get(ASK, to)).toEqual(card(photo()))
  })

  test('who has none is answered item-not-found', async () => {
    await using setup = await setUp()
    expect(await setup.juliet.iq('get', ASK)).toMatchObject({ condition: 'item-not-found', type: 'cancel' })
  })

  test('the entire vCard is replaced, and an empty one is none', async () => {
    await using setup = await setUp()
    const { juliet, server } = setup
    await juliet.iq('set', card(photo()))
    await juliet.iq('set', card())
    expect(await juliet.get(ASK)).toEqual(card())
    await juliet.iq('set', el('vCard', NS, {}, '\n'))
    expect(await juliet.iq('get', ASK)).toMatchObject({ condition: 'item-not-found' })
    for await (const row of server.process.table.query(`j#vcard#${JULIET}`)) expect.fail(`${row.sk} is left`)
  })

  test.each([[JULIET], ['nobody@example.org']])('somebody else’s cannot be set: that of %s', async (to) => {
    await using setup = await setUp()
    await setup.juliet.iq('set', card())
    const answer = await setup.romeo.iq('set', card(photo()), to)
    expect(answer).toMatchObject({ condition: 'service-unavailable', type: 'cancel', text: '' })
    expect(await setup.juliet.get(ASK)).toEqual(card())
  })

  test('one that is too large is not acceptable, and not sent back; the old one stays', async () => {
    await using setup = await setUp({ modules: { vcard: { bytesMax: 1_024 } } })
    const { juliet } = setup
    const room = 1_024 - "<vCard xmlns='vcard-temp'><FN>Juliet Capulet</FN><NOTE></NOTE></vCard>".length
    const note = (text: string) => card(el('NOTE', NS, {}, text))
    expect(await juliet.iq('set', note('x'.repeat(room)))).toBeUndefined()
    for (const text of ['x'.repeat(room + 1), 'é'.repeat(room / 2 + 1)]) {
      const answer = await juliet.iq('set', note(text))
      expect(answer).toMatchObject({ condition: 'not-acceptable', type: 'modify', stanza: { child: `{${NS_CLIENT}}error` } })
    }
    expect(await juliet.get(ASK)).toEqual(note('x'.repeat(room)))
  })

  test('it is deleted with the account', async () => {
    await using setup = await setUp()
    await setup.juliet.iq('set', card(photo()))
    await setup.server.caller.ask('router', JULIET, 'account.remove', {})
    const heiress = await setup.server.connect('juliet@example.org/balcony')
    expect(await heiress.iq('get', ASK)).toMatchObject({ condition: 'item-not-found' })
    for await (const row of setup.server.process.table.query(`j#vcard#${JULIET}`)) expect.fail(`${row.sk} is left`)
  })

  test('a table that is away answers when it is back', async () => {
    const table = flakyTable()
    await using setup = await setUp({ table })
    const { juliet, romeo } = setup
    await juliet.iq('set', card())
    table.away = true
    const asked = romeo.iq('get', ASK, JULIET)
    setImmediate(() => {
      table.away = false
    })
    expect(await asked).toEqual(card())
  })
})

describe('XEP-0054 §3.3 Viewing Another User’s vCard', () => {
  test('anybody may, and the server answers for her, online or not', async () => {
    await using setup = await setUp()
    const { server, juliet } = setup
    await juliet.iq('set', card(photo()))
    const tybalt = await server.connect('tybalt@example.org/street')
    expect(await tybalt.get(ASK, JULIET)).toEqual(card(photo()))
    juliet.disconnect()
    await server.quiet()
    expect(await tybalt.get(ASK, JULIET)).toEqual(card(photo()))
  })

  test('no vCard and no account are the same: service-unavailable', async () => {
    await using setup = await setUp()
    const [none, nobody] = [await setup.romeo.iq('get', ASK, JULIET), await setup.romeo.iq('get', ASK, 'nobody@example.org')]
    for (const answer of [none, nobody])
      expect(answer).toMatchObject({ condition: 'service-unavailable', type: 'cancel', text: '' })
  })
})

describe('XEP-0398 §4 Presence Broadcast, XEP-0153 §4.1', () => {
  const STATUS = el('status', NS_CLIENT, {}, 'on the balcony')

  test('the server includes the hash on behalf of its users', async () => {
    await using setup = await setUp()
    await setup.juliet.iq('set', card(photo()))
    expect(await showing(setup)).toEqual([shown(HASH)])
    expect(await showing(setup, STATUS)).toEqual([STATUS, shown(HASH)])
  })

  test('whitespace in the base64 is ignored (XEP-0153 §4.6)', async () => {
    await using setup = await setUp()
    const base64 = PICTURE.toString('base64')
    await setup.juliet.iq('set', card(photo(`\n  ${base64.slice(0, 7)}\r\n\t${base64.slice(7)}\n`)))
    expect(await showing(setup)).toEqual([shown(HASH)])
  })

  test.each([
    ['an empty x is overwritten', [update(), STATUS], [STATUS, shown(HASH)]],
    ['another hash is overwritten', [shown('01b87fcd030b72895ff8e88db57ec525450f000d'), STATUS], [STATUS, shown(HASH)]],
    ['two are one', [shown(HASH), update(), STATUS], [STATUS, shown(HASH)]],
    ['the same hash stays', [shown(HASH), STATUS], [shown(HASH), STATUS]],
    ['an empty photo stays: the client does not want it shown', [NO_IMAGE, STATUS], [NO_IMAGE, STATUS]],
  ])('%s', async (_name, sent, expected) => {
    await using setup = await setUp()
    await setup.juliet.iq('set', card(photo()))
    expect(await showing(setup, ...sent)).toEqual(expected)
  })

  test('without a photo, presence stays as the client sent it', async () => {
    await using setup = await setUp()
    expect(await showing(setup, STATUS)).toEqual([STATUS])
    for (const without of [card(), card(photo('')), card(photo('not base64!')), card(photo('abc'))]) {
      await setup.juliet.iq('set', without)
      expect(await showing(setup, update(), el('status', NS_CLIENT, {}, JSON.stringify(without)))).toContainEqual(update())
    }
  })

  test('a photo that is removed is no longer shown, a new one is', async () => {
    await using setup = await setUp()
    await setup.juliet.iq('set', card(photo()))
    expect(await showing(setup)).toEqual([shown(HASH)])
    const other = createHash('sha1').update('another').digest('hex')
    await setup.juliet.iq('set', card(photo(Buffer.from('another').toString('base64'))))
    expect(await showing(setup, STATUS)).toEqual([STATUS, shown(other)])
    await setup.juliet.iq('set', card())
    expect(await showing(setup)).toEqual([])
  })

  test('the hash is injected into directed presence, and into no other stanza', async () => {
    await using setup = await setUp()
    const { server, juliet } = setup
    const tybalt = await server.connect('tybalt@example.org/street')
    await juliet.iq('set', card(photo()))
    juliet.send(juliet.stanza('presence', { to: tybalt.jid }))
    juliet.send(juliet.stanza('presence', { to: tybalt.jid, type: 'unavailable' }))
    juliet.message(tybalt.jid.full, 'my only love sprung from my only hate')
    await server.quiet()
    const [available, unavailable, message] = tybalt.received
    expect(available!.tree()).toEqual([shown(HASH)])
    expect(unavailable!.tree()).toEqual([])
    expect(message!.tree()).toHaveLength(1)
  })

  test('it can be turned off', async () => {
    await using setup = await setUp({ modules: { vcard: { photoInPresence: false } } })
    await setup.juliet.iq('set', card(photo()))
    expect(await showing(setup, update())).toEqual([update()])
  })
})

describe('XEP-0398 §4 a photo that changes', () => {
  /** What Romeo is shown of Juliet while she does something. */
  async function shownOn({ server, romeo }: Setup, doing: () => Promise<unknown>): Promise<[string, readonly Element[]][]> {
    const before = romeo.received.length
    await doing()
    await server.quiet()
    const came = romeo.received.slice(before).filter(({ name, type }) => name === 'presence' && type === '')
    return came.map((presence) => [presence.from.resource, presence.tree()])
  }

  const STATUS = el('status', NS_CLIENT, {}, 'on the balcony')
  const OTHER = createHash('sha1').update('another').digest('hex')
  const other = photo(Buffer.from('another').toString('base64'))

  async function withTwo(options: HarnessOptions = {}) {
    const setup = await setUp(options)
    await showing(setup, STATUS)
    const phone = await setup.server.online('juliet@example.org/phone')
    return { ...setup, phone }
  }

  test('is seen in the presence of every resource at once, and of each once', async () => {
    await using setup = await withTwo()
    const { juliet } = setup
    const first = await shownOn(setup, () => juliet.iq('set', card(photo())))
    expect(first.sort()).toEqual([
      ['balcony', [STATUS, shown(HASH)]],
      ['phone', [shown(HASH)]],
    ])
    const second = await shownOn(setup, () => juliet.iq('set', card(other)))
    expect(second.map(([, children]) => children.at(-1))).toEqual([shown(OTHER), shown(OTHER)])
    expect(await shownOn(setup, () => juliet.iq('set', card(other, el('NOTE', NS, {}, 'the same photo'))))).toEqual([])
    expect(await shownOn(setup, async () => setup.phone.available())).toEqual([]) // what is shown already is not shown again
  })

  test('also to her other resources, and to whoever comes later', async () => {
    await using setup = await withTwo()
    await setup.juliet.iq('set', card(photo()))
    await setup.server.quiet()
    const seen = setup.phone.received.filter(({ name, from }) => name === 'presence' && from.resource === 'balcony')
    expect(seen.at(-1)!.tree()).toEqual([STATUS, shown(HASH)])
    const late = await setup.server.online('romeo@example.org/late')
    const answers = late.received.filter(({ from }) => from.bare === JULIET).map((presence) => presence.tree().at(-1))
    expect(answers).toEqual([shown(HASH), shown(HASH)])
  })

  test('one that is deleted is seen to be gone, and the next one is seen again', async () => {
    await using setup = await withTwo()
    const { juliet } = setup
    await juliet.iq('set', card(photo()))
    await setup.server.quiet()
    const gone = await shownOn(setup, () => juliet.iq('set', card()))
    expect(gone.map(([, children]) => children.at(-1))).toEqual([NO_IMAGE, NO_IMAGE])
    const back = await shownOn(setup, () => juliet.iq('set', card(other)))
    expect(back.map(([, children]) => children.at(-1))).toEqual([shown(OTHER), shown(OTHER)])
  })

  test('a client that wants none in its presence keeps it out, before and after', async () => {
    await using setup = await withTwo()
    const { juliet, phone } = setup
    phone.send(phone.stanza('presence', {}, NO_IMAGE))
    await setup.server.quiet()
    expect((await shownOn(setup, () => juliet.iq('set', card(photo())))).map(([resource]) => resource)).toEqual(['balcony'])
    expect((await shownOn(setup, () => juliet.iq('set', card()))).map(([resource]) => resource)).toEqual(['balcony'])
    juliet.send(juliet.stanza('presence', {}, STATUS, NO_IMAGE)) // now she wants none herself
    await setup.server.quiet()
    expect(await shownOn(setup, () => juliet.iq('set', card(photo())))).toEqual([])
  })

  test('nobody is told where the server stays out of presence, or who is not there', async () => {
    await using setup = await withTwo({ modules: { vcard: { photoInPresence: false } } })
    expect(await shownOn(setup, () => setup.juliet.iq('set', card(photo())))).toEqual([])
    await using offline = await setUp()
    expect(await shownOn(offline, () => offline.juliet.iq('set', card(photo())))).toEqual([])
  })
})

describe('XEP-0054 the vCard of the host', () => {
  test('is its domain, and what the configuration says of it, for each domain', async () => {
    const hosts = { 'example.net': { modules: { vcard: { hostName: 'Globe', hostUrl: 'https://example.net/?a=1&b=2' } } } }
    const config = { domains: ['example.org', 'example.net'], hosts }
    await using setup = await setUp({ config, modules: { vcard: { hostDescription: 'A theatre.' } } })
    const told = async (domain: string) =>
      Object.fromEntries(
        (await setup.juliet.get(ASK, domain)).children.map((child) => [(child as Element).name, textOf(child as Element)]),
      )
    expect(await told('example.org')).toEqual({ FN: 'example.org', DESC: 'A theatre.', JABBERID: 'example.org' })
    const net = { FN: 'Globe', URL: 'https://example.net/?a=1&b=2', DESC: 'A theatre.', JABBERID: 'example.net' }
    expect(await told('example.net')).toEqual(net)
  })

  test('nobody sets it', async () => {
    await using setup = await setUp()
    expect(await setup.juliet.iq('set', card(), 'example.org')).toMatchObject({ condition: 'not-allowed' })
  })
})

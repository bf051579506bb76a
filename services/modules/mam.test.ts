import { describe, expect, test } from 'vitest'
import { manualClock } from '#core/clock.ts'
import { memoryTable } from '#table/memory.ts'
import { type Table, TableUnavailable } from '#table/table.ts'
import { isCluster } from '#test/form.ts'
import { type Answer, flakyTable, type HarnessOptions, harness, type TestClient, type TestServer } from '#test/harness.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT, NS_DATA, NS_DELAY, NS_RSM } from '#xmpp/ns.ts'
import { attr, childOf, childrenOf, type Element, el, find, type Stanza, stanzaOfBytes, textOf } from '#xmpp/stanza.ts'
import disco from './disco.ts'
import mam from './mam.ts'
import offline from './offline.ts'

const NS = 'urn:xmpp:mam:2'
const NS_SID = 'urn:xmpp:sid:0'
const ROMEO = 'romeo@example.org'
const JULIET = 'juliet@example.org'
const BODY = el('body', NS_CLIENT, {}, 'Call me but love')

type Setup = { server: TestServer; romeo: TestClient; juliet: TestClient } & AsyncDisposable

/** Both are online. */
async function setUp(options: HarnessOptions = {}, modules = [mam]): Promise<Setup> {
  const server = await harness(modules, options)
  const romeo = await server.online(`${ROMEO}/orchard`)
  const juliet = await server.online(`${JULIET}/balcony`)
  return { server, romeo, juliet, [Symbol.asyncDispose]: () => server.stop() }
}

interface Asked {
  readonly fields?: Readonly<Record<string, string | readonly string[]>>
  readonly set?: Readonly<Record<string, string>>
  readonly queryid?: string
  readonly formType?: string
}

function queryOf({ fields, set, queryid, formType = NS }: Asked): Element {
  const children: Element[] = []
  if (fields !== undefined) {
    const all = Object.entries({ FORM_TYPE: formType, ...fields }).map(([name, value]) =>
      el('field', NS_DATA, { var: name }, ...[value].flat().map((value) => el('value', NS_DATA, {}, value))),
    )
    children.push(el('x', NS_DATA, { type: 'submit' }, ...all))
  }
  if (set !== undefined) {
    children.push(el('set', NS_RSM, {}, ...Object.entries(set).map(([name, value]) => el(name, NS_RSM, {}, value))))
  }
  return el('query', NS, { queryid }, ...children)
}

interface Page {
  readonly ids: string[]
  readonly bodies: string[]
  readonly results: Element[]
  readonly fin: Element
  readonly complete: string
  /** The children of `<set/>`, as text. */
  readonly set: Record<string, string>
}

/** One page of the client's own archive. Rejects where the answer is an error. */
async function page(client: TestClient, asked: Asked = {}): Promise<Page> {
  const before = client.received.length
  const fin = await client.iq('set', queryOf(asked))
  if (fin === undefined || 'condition' in fin) throw new Error(`no <fin/>, but ${fin?.condition}`)
  const results = client.received.slice(before, -1).map((message) => find(message, 'result', NS)!)
  const set = childOf(fin, 'set', NS_RSM)!
  return {
    ids: results.map((result) => attr(result, 'id')),
    bodies: results.map((result) => textOf(childOf(messageIn(result), 'body', NS_CLIENT) ?? el('none', ''))),
    results,
    fin,
    complete: attr(fin, 'complete'),
    set: Object.fromEntries(set.children.map((child) => [(child as Element).name, textOf(child as Element)])),
  }
}

function messageIn(result: Element): Element {
  return childOf(childOf(result, 'forwarded', 'urn:xmpp:forward:0')!, 'message', NS_CLIENT)!
}

async function refusal(client: TestClient, asked: Asked): Promise<string> {
  const answer = await client.iq('set', queryOf(asked))
  return answer !== undefined && 'condition' in answer ? answer.condition : 'no refusal'
}

const condition = (answer: Answer) => (answer !== undefined && 'condition' in answer ? answer.condition : 'no refusal')
const idsBy = (message: Stanza, by: string) =>
  message.tree().filter((child) => child.name === 'stanza-id' && child.ns === NS_SID && attr(child, 'by') === by)

/** Resolves when the server has said so. */
async function logged({ log }: TestServer, event: string): Promise<void> {
  while (!log.lines.some((line) => line.event === event)) await new Promise((resolve) => setImmediate(resolve))
}

/** Romeo writes to Juliet, a second apart. Her archive's ids. */
async function write({ server, romeo, juliet }: Setup, count: number, clock = manualClock()): Promise<string[]> {
  for (let i = 0; i < count; i++) {
    romeo.message(JULIET, `${i}`)
    await server.quiet()
    clock.advance(1_000)
  }
  return (await page(juliet, { set: { max: '1000' } })).ids
}

describe('XEP-0313 §3.5 Communicating the archive ID', () => {
  test('the recipient is told where the message is in his archive, and the sender finds it in his own', async () => {
    await using setup = await setUp()
    const { romeo, juliet } = setup
    romeo.message(JULIET, 'Call me but love', el('origin-id', NS_SID, { id: 'mine' }))
    const seen = await juliet.next(({ name }) => name === 'message')
    const [stanzaId] = idsBy(seen, JULIET)
    const hers = await page(juliet)
    expect(hers.ids).toEqual([attr(stanzaId!, 'id')])
    expect(find(seen, 'origin-id', NS_SID)).toEqual(el('origin-id', NS_SID, { id: 'mine' })) // XEP-0359 §2.2
    const his = await page(romeo)
    expect(his.bodies).toEqual(['Call me but love'])
    expect(his.ids).not.toEqual(hers.ids)
    expect(seen.tree().filter(({ name }) => name === 'stanza-id')).toHaveLength(1) // nothing of his archive
  })

  test.each([
    ['as it is', JULIET],
    ['in capitals', 'Juliet@EXAMPLE.org'],
  ])('XEP-0359 §3 a stanza-id forged in her name is removed: %s', async (_how, by) => {
    await using setup = await setUp()
    const { romeo, juliet } = setup
    const forged = el('stanza-id', NS_SID, { by, id: 'forged' })
    const foreign = el('stanza-id', NS_SID, { by: 'room@muc.example.org', id: 'x' })
    romeo.message(JULIET, 'one', forged, foreign)
    const seen = await juliet.next(({ name }) => name === 'message')
    expect(seen.tree().filter(({ name }) => name === 'stanza-id')).toEqual([
      foreign, // §3, rule 3
      el('stanza-id', NS_SID, { by: JULIET, id: (await page(juliet)).ids[0] }),
    ])
    expect(JSON.stringify((await page(juliet)).results)).not.toContain('forged')
  })

  test('XEP-0359 §3 also where it is not archived, hidden behind a prefix, and where one forges one’s own', async () => {
    await using setup = await setUp()
    const { server, romeo, juliet } = setup
    const chatStates = 'http://jabber.org/protocol/chatstates'
    const forgeries = [JULIET, ROMEO].map((by) => `<s:stanza-id xmlns:s='${NS_SID}' by='${by}' id='forged'/>`)
    const bytes = Buffer.from(`<composing xmlns='${chatStates}'/>${forgeries.join('')}`)
    const message = stanzaOfBytes('message', romeo.jid, juliet.jid, '', 'chat', '', `{${chatStates}}composing`, bytes)
    romeo.send(message)
    const seen = await juliet.next(({ name }) => name === 'message')
    expect(seen.tree()).toEqual([el('composing', chatStates)])
    await server.quiet()
    expect((await page(juliet)).ids).toEqual([])
  })

  test('XEP-0359 §5 and XEP-0313 §7: the account announces both', async () => {
    await using server = await harness([mam, disco])
    const romeo = await server.online(`${ROMEO}/orchard`)
    const info = await romeo.get(el('query', 'http://jabber.org/protocol/disco#info'), ROMEO)
    const features = childrenOf(info, 'feature', info.ns).map((feature) => attr(feature, 'var'))
    expect(features).toEqual(expect.arrayContaining([NS, NS_SID]))
    expect(features).not.toContain('urn:xmpp:mam:2#extended')
  })
})

describe('XEP-0313 §6.1.1 what is kept', () => {
  const hint = (name: string) => el(name, 'urn:xmpp:hints')
  const composing = el('composing', 'http://jabber.org/protocol/chatstates')
  const muc = (...children: Element[]) => el('x', 'http://jabber.org/protocol/muc#user', {}, ...children)
  const invite = el('invite', 'http://jabber.org/protocol/muc#user', { to: JULIET })
  test.each<[string, string, Element[], boolean]>([
    ['a chat message', 'chat', [BODY], true],
    ['a normal message', '', [BODY], true],
    ['a message of a type that is none', 'nonsense', [BODY], true],
    ['a body behind something else', 'chat', [composing, BODY], true],
    ['a subject', 'normal', [el('subject', NS_CLIENT, {}, 'Tomorrow')], true],
    ['groupchat: the room keeps it', 'groupchat', [BODY, hint('store')], false],
    ['a headline', 'headline', [BODY], false],
    ['a headline with a hint', 'headline', [BODY, hint('store')], true],
    ['a chat state', 'chat', [composing, el('thread', NS_CLIENT, {}, 't')], false],
    ['nothing', 'chat', [], false],
    ['what nobody knows', 'chat', [el('event', 'http://jabber.org/protocol/pubsub#event')], false],
    ['XEP-0334 §4.1 no-permanent-store', 'chat', [BODY, hint('no-permanent-store')], false],
    ['XEP-0334 §4.2 no-store', 'chat', [BODY, hint('no-store'), hint('store')], false],
    ['XEP-0334 §4.4 store', 'chat', [composing, hint('store')], true],
    ['XEP-0334 §4.3 no-copy, which this is not', 'chat', [BODY, hint('no-copy')], true],
    ['a receipt (XEP-0184)', '', [el('received', 'urn:xmpp:receipts', { id: 'm' })], true],
    ['the wish for one', '', [el('request', 'urn:xmpp:receipts')], false],
    ['a marker (XEP-0333)', 'chat', [el('displayed', 'urn:xmpp:chat-markers:0', { id: 'm' })], true],
    ['a retraction (XEP-0424)', 'chat', [el('retract', 'urn:xmpp:message-retract:1', { id: 'm' })], true],
    ['a reaction (XEP-0444)', 'chat', [el('reactions', 'urn:xmpp:reactions:0', { id: 'm' })], true],
    ['OMEMO (XEP-0384)', 'chat', [el('encrypted', 'eu.siacs.conversations.axolotl'), hint('store')], true],
    ['an invitation (XEP-0249)', '', [el('x', 'jabber:x:conference', { jid: 'room@muc.example.org' })], true],
    ['an invitation through the room (XEP-0045 §7.8.2)', '', [muc(invite)], true],
    ['something else of a room', '', [muc(el('status', 'http://jabber.org/protocol/muc#user', { code: '101' }))], false],
  ])('%s', async (_what, type, children, kept) => {
    await using setup = await setUp()
    const { server, romeo, juliet } = setup
    romeo.send(romeo.stanza('message', { to: juliet.jid, type, id: 'm' }, ...children))
    await server.quiet()
    expect([(await page(romeo)).ids.length, (await page(juliet)).ids.length]).toEqual(kept ? [1, 1] : [0, 0])
    expect(juliet.received.filter(({ id }) => id === 'm').map((message) => idsBy(message, JULIET).length)).toEqual([kept ? 1 : 0])
  })

  test('no error, though what it answers is in it', async () => {
    await using setup = await setUp()
    const { server, romeo } = setup
    romeo.message('nobody@example.org', 'Who is there?')
    await server.quiet()
    expect(romeo.received.at(-1)!.type).toBe('error')
    expect((await page(romeo)).bodies).toEqual(['Who is there?'])
  })

  test('what one writes to oneself, once', async () => {
    await using setup = await setUp()
    const { server, romeo } = setup
    romeo.message(ROMEO, 'to all of me')
    romeo.message(`${ROMEO}/orchard`, 'to this one')
    romeo.send(romeo.stanza('message', { type: 'chat' }, el('body', NS_CLIENT, {}, 'to nobody')))
    await server.quiet()
    expect((await page(romeo)).bodies).toEqual(['to all of me', 'to this one', 'to nobody'])
    expect((await page(romeo, { fields: { with: ROMEO } })).bodies).toHaveLength(3)
  })

  test('once, however many sessions are shown it', async () => {
    await using setup = await setUp()
    const { server, romeo, juliet } = setup
    const chamber = await server.online(`${JULIET}/chamber`)
    romeo.message(JULIET, 'one')
    await server.quiet()
    expect([juliet.bodies(), chamber.bodies(), (await page(chamber)).bodies]).toEqual([['one'], ['one'], ['one']])
  })

  test('an entry too large for a row is refused, not lost', async () => {
    await using setup = await setUp({ config: { limits: { stanzaBytes: 384_000 } } })
    const { server, romeo } = setup
    romeo.send(romeo.stanza('message', { to: parseJid(JULIET), type: 'chat' }, BODY, el('x', 'y', {}, 'z'.repeat(396_000))))
    await server.quiet()
    expect(find(romeo.received.at(-1)!, 'error', NS_CLIENT)!.children).toMatchObject([{ name: 'policy-violation' }, {}])
    expect((await page(romeo)).ids).toEqual([])
  })

  test('while the table is away nothing is shown or acked, and then all of it is there once', async () => {
    const table = flakyTable()
    await using setup = await setUp({ table })
    const { server, romeo, juliet } = setup
    table.away = true
    romeo.message(JULIET, 'one')
    await logged(server, isCluster ? 'log.delayed' : 'commit.delayed')
    expect([romeo.settled, juliet.bodies()]).toEqual([false, []])
    table.away = false
    await server.quiet()
    expect([(await page(romeo)).bodies, (await page(juliet)).bodies, juliet.bodies()]).toEqual([['one'], ['one'], ['one', '']])
  })

  test('§3.2 for as long as the options say', async () => {
    const clock = manualClock()
    await using setup = await setUp({
      clock,
      table: memoryTable({ now: () => clock.now() }),
      modules: { mam: { expiryDays: 7 } },
    })
    await write(setup, 1, clock)
    clock.advance(6 * 86_400_000)
    await write(setup, 1, clock)
    expect((await page(setup.juliet)).ids).toHaveLength(2)
    clock.advance(86_400_000)
    expect((await page(setup.juliet, { fields: { with: ROMEO } })).ids).toHaveLength(1)
    clock.advance(7 * 86_400_000)
    expect((await page(setup.juliet)).fin).toEqual(
      el('fin', NS, { complete: 'true' }, el('set', NS_RSM, {}, el('count', NS_RSM, {}, '0'))),
    )
  })

  describe('for as long as the options say now, whatever they said when it came', () => {
    const DAY_MS = 86_400_000
    const clock = manualClock()
    const table = memoryTable({ now: () => clock.now() })
    /** A server that keeps so long, as long as `use` takes. */
    async function keeping(expiryDays: number, use: (setup: Setup) => Promise<void>): Promise<void> {
      await using setup = await setUp({ clock, table, modules: { mam: { expiryDays } } })
      await use(setup)
    }
    const bodies = async ({ juliet }: Setup, fields?: Record<string, string>) =>
      (await page(juliet, { fields: fields ?? {} })).bodies
    async function stored(): Promise<string[]> {
      const rows: string[] = []
      for await (const { sk } of table.query(`j#mam#${JULIET}`)) rows.push(sk)
      return rows
    }
    async function say({ server, romeo }: Setup, ...texts: string[]): Promise<void> {
      for (const text of texts) romeo.message(JULIET, text)
      await server.quiet()
    }

    test('a time that was shorter in between used to leave a hole', async () => {
      await keeping(0, (setup) => say(setup, 'one'))
      await keeping(7, (setup) => say(setup, 'two'))
      await keeping(0, (setup) => say(setup, 'three'))
      clock.advance(8 * DAY_MS)
      await keeping(0, async (setup) => expect(await bodies(setup)).toEqual(['one', 'two', 'three']))
    })

    test('a time that has become shorter used to leave what was old: it hides it at once, on every page', async () => {
      await keeping(7, async (setup) => {
        expect([await bodies(setup), await bodies(setup, { with: ROMEO })]).toEqual([[], []])
        expect((await page(setup.juliet, { set: { max: '0' } })).set).toEqual({ count: '0' })
        expect((await page(setup.juliet, { set: { before: '' } })).complete).toBe('true')
        const [first] = await stored()
        expect(await refusal(setup.juliet, { set: { after: first! } })).toBe('item-not-found')
      })
    })

    test('a time that is longer again shows what is still there', async () => {
      await keeping(365, async (setup) => expect(await bodies(setup, { with: ROMEO })).toEqual(['one', 'two', 'three']))
    })

    test('what is too old is deleted, also of accounts that nobody uses, and nothing else is', async () => {
      await keeping(7, async (setup) => {
        const nurse = await setup.server.online('nurse@example.org/hall')
        nurse.message(ROMEO, 'four')
        await logged(setup.server, 'archive.expired')
        await setup.server.quiet()
        expect(await stored()).toEqual([])
      })
      await keeping(0, async (setup) => {
        expect(await bodies(setup)).toEqual([])
        expect((await page(setup.romeo)).bodies).toEqual(['four'])
      })
    })

    test('more than one portion of it is deleted from the oldest on', async () => {
      await keeping(0, (setup) => say(setup, ...Array.from({ length: 1_100 }, (_, i) => `${i}`)))
      clock.advance(8 * DAY_MS)
      await keeping(7, async (setup) => {
        await say(setup, 'young')
        await logged(setup.server, 'archive.expired')
        await setup.server.quiet()
        expect((await stored()).filter((sk) => !sk.startsWith('~'))).toHaveLength(1)
        expect((await stored()).filter((sk) => sk.startsWith('~'))).toHaveLength(1)
      })
    })

    test('a table that is away leaves it to the next day', async () => {
      clock.advance(8 * DAY_MS)
      let away = true
      const unlisted: Table = {
        ...flakyTable(table),
        async *query(pk, range) {
          if (away && pk.startsWith('u#')) throw new TableUnavailable('no list of accounts')
          yield* table.query(pk, range)
        },
      }
      await using setup = await setUp({ clock, table: unlisted, modules: { mam: { expiryDays: 7 } } })
      const { server } = setup
      await say(setup, 'five')
      await logged(server, 'archive.sweep_delayed')
      away = false
      expect(await stored()).not.toEqual([])
      clock.advance(DAY_MS + 1_000)
      await say(setup, 'six')
      await logged(server, 'archive.expired')
      await server.quiet()
      expect(await bodies(setup)).toEqual(['five', 'six'])
    })
  })

  test('until the account is removed: the next of that name has an empty one', async () => {
    await using setup = await setUp()
    const { server } = setup
    await write(setup, 2)
    await server.caller.ask('router', JULIET, 'account.remove', {})
    await server.quiet()
    const juliet = await server.online(`${JULIET}/balcony`)
    expect([(await page(juliet)).ids, (await page(juliet, { fields: { with: ROMEO } })).ids]).toEqual([[], []])
  })
})

describe('XEP-0313 §6.1.1 and what waits offline', () => {
  test('a message for somebody who is not there is in the archive and in the spool, under one id', async () => {
    await using server = await harness([mam, offline])
    const romeo = await server.online(`${ROMEO}/orchard`)
    await server.account(JULIET)
    romeo.message(JULIET, 'one')
    await server.quiet()
    const juliet = await server.online(`${JULIET}/balcony`)
    const [kept] = juliet.received.filter(({ name }) => name === 'message')
    expect(idsBy(kept!, JULIET)).toMatchObject([{ attrs: { id: (await page(juliet)).ids[0] } }])
  })

  test.each([
    ['without a spool', [mam]],
    ['with one that is full', [mam, offline]],
  ])('what is archived has arrived: no error, %s', async (_what, modules) => {
    await using server = await harness(modules as (typeof mam)[], {
      modules: modules.length > 1 ? { offline: { messagesMax: 1 } } : {},
    })
    const romeo = await server.online(`${ROMEO}/orchard`)
    await server.account(JULIET)
    for (const text of ['one', 'two']) romeo.message(JULIET, text)
    romeo.message(JULIET, 'unkept', el('no-store', 'urn:xmpp:hints'))
    await server.quiet()
    const messages = romeo.received.filter(({ name }) => name === 'message')
    expect(messages.map((message) => [message.type, textOf(find(message, 'body', NS_CLIENT)!)])).toEqual([['error', 'unkept']])
    expect((await page(await server.online(`${JULIET}/balcony`))).bodies).toEqual(['one', 'two'])
  })
})

describe('a message that RFC 6121 §8.5.3.2.1 lets be ignored or refused', () => {
  const send = async (to: string, ...more: readonly Element[]) => {
    const setup = await setUp()
    const { server, romeo } = setup
    romeo.send(romeo.stanza('message', { to: parseJid(to), type: 'normal', id: 'n' }, BODY, ...more))
    await server.quiet()
    return setup
  }

  test('used to be refused, and was in the archive: what is there has arrived, and its sender is told nothing', async () => {
    await using setup = await send(`${JULIET}/nowhere`)
    const { romeo, juliet } = setup
    expect(romeo.received.filter(({ name }) => name === 'message')).toEqual([])
    expect((await page(juliet)).bodies).toEqual([textOf(BODY)])
  })

  test('is refused where the archive has not got it', async () => {
    await using setup = await send(`${JULIET}/nowhere`, el('no-store', 'urn:xmpp:hints'))
    const [refused] = setup.romeo.received.filter(({ name }) => name === 'message')
    expect(find(refused!, 'error', NS_CLIENT)!.children).toMatchObject([{ name: 'service-unavailable' }])
  })
})

describe('XEP-0313 §4.2 Query results', () => {
  test('come in order, with id, queryid, the time they came and the message as it was, before the answer', async () => {
    const clock = manualClock(Date.UTC(2010, 6, 10, 23, 8, 25))
    await using setup = await setUp({ clock })
    const { server, romeo, juliet } = setup
    const more = el('thread', NS_CLIENT, {}, 'e0ffe42b')
    romeo.send(romeo.stanza('message', { to: juliet.jid, type: 'chat', id: 'a<b', lang: 'en' }, BODY, more))
    await server.quiet()
    clock.advance(67_250)
    juliet.message(`${ROMEO}/orchard`, 'What man art thou')
    await server.quiet()
    const { results, ids, fin } = await page(juliet, { queryid: "f'27" })
    expect(results).toEqual([
      el(
        'result',
        NS,
        { id: ids[0], queryid: "f'27" },
        el(
          'forwarded',
          'urn:xmpp:forward:0',
          {},
          el('delay', NS_DELAY, { stamp: '2010-07-10T23:08:25Z' }),
          el(
            'message',
            NS_CLIENT,
            { from: romeo.jid.full, to: juliet.jid.full, type: 'chat', id: 'a<b', 'xml:lang': 'en' },
            BODY,
            more,
          ),
        ),
      ),
      expect.objectContaining({ attrs: { id: ids[1], queryid: "f'27" } }),
    ])
    expect(childOf(childOf(results[1]!, 'forwarded', 'urn:xmpp:forward:0')!, 'delay', NS_DELAY)!.attrs.stamp).toBe(
      '2010-07-10T23:09:32.250Z',
    )
    expect(messageIn(results[1]!).attrs).toMatchObject({ from: juliet.jid.full, to: romeo.jid.full })
    expect(fin).toEqual(
      el(
        'fin',
        NS,
        { complete: 'true' },
        el(
          'set',
          NS_RSM,
          {},
          el('first', NS_RSM, { index: '0' }, ids[0]!),
          el('last', NS_RSM, {}, ids[1]!),
          el('count', NS_RSM, {}, '2'),
        ),
      ),
    )
    const [result] = juliet.received.filter(({ child }) => child === `{${NS}}result`)
    expect([result!.from.full, result!.to!.full]).toEqual([JULIET, juliet.jid.full])
  })

  test('go to the session that asked, and into no archive', async () => {
    await using setup = await setUp()
    const { server, juliet } = setup
    const chamber = await server.online(`${JULIET}/chamber`)
    const ids = await write(setup, 2)
    expect(chamber.received.some(({ child }) => child === `{${NS}}result`)).toBe(false)
    expect((await page(juliet)).ids).toEqual(ids)
    expect((await page(chamber)).ids).toEqual(ids)
  })

  test('are what was sent before the query, though it is not durable yet', async () => {
    await using setup = await setUp()
    const { romeo } = setup
    romeo.message(JULIET, 'one')
    expect((await page(romeo)).bodies).toEqual(['one'])
  })

  test('are sent once, though the table goes away while they are read', async () => {
    const inner = memoryTable()
    let rowsLeft = Number.POSITIVE_INFINITY
    const table: Table = {
      ...flakyTable(inner),
      async *query(pk, range) {
        for await (const row of inner.query(pk, range)) {
          if (--rowsLeft < 0) throw new TableUnavailable('gone')
          yield row
        }
      },
    }
    await using setup = await setUp({ table })
    const { server, juliet } = setup
    await write(setup, 3)
    rowsLeft = 2
    const asking = page(juliet)
    await logged(server, 'account.parked')
    rowsLeft = Number.POSITIVE_INFINITY
    expect((await asking).bodies).toEqual(['0', '1', '2'])
  })

  test('are the same after a restart', async () => {
    await using setup = await setUp()
    const ids = await write(setup, 3)
    await setup.server.stop()
    await using again = await setUp({ table: setup.server.process.table })
    expect((await page(again.juliet)).ids).toEqual(ids)
    expect((await page(again.juliet, { fields: { with: ROMEO } })).ids).toEqual(ids)
  })
})

describe('XEP-0313 §4.1.1 Filtering by JID', () => {
  test('a bare JID matches all its resources, a full one itself alone, either way', async () => {
    await using setup = await setUp()
    const { server, romeo, juliet } = setup
    const garden = await server.online(`${ROMEO}/garden`)
    const nurse = await server.online('nurse@example.org/hall')
    romeo.message(JULIET, 'from the orchard')
    garden.message(JULIET, 'from the garden')
    nurse.message(JULIET, 'from the nurse')
    await server.quiet()
    juliet.message(garden.jid.full, 'to the garden')
    juliet.message(ROMEO, 'to Romeo')
    juliet.message(JULIET, 'to myself')
    await server.quiet()
    const said = async (jid: string) => (await page(juliet, { fields: { with: jid } })).bodies
    expect(await said(ROMEO)).toEqual(['from the orchard', 'from the garden', 'to the garden', 'to Romeo'])
    expect(await said('ROMEO@example.org')).toHaveLength(4)
    expect(await said(garden.jid.full)).toEqual(['from the garden', 'to the garden'])
    expect(await said('nurse@example.org')).toEqual(['from the nurse'])
    expect(await said('paris@example.org')).toEqual([])
    expect(await said(JULIET)).toEqual(['to myself']) // "as otherwise every message would match"
    expect(await said(juliet.jid.full)).toEqual(['to the garden', 'to Romeo', 'to myself'])
    expect(await said('example.org')).toEqual([])
    expect((await page(juliet)).bodies).toHaveLength(6)
    expect((await page(juliet, { fields: { with: '' } })).bodies).toHaveLength(6) // XEP-0004 §3.6
  })

  test('what is not there used to be looked for through all of an archive, however large', async () => {
    await using setup = await setUp()
    const { server, romeo, juliet } = setup
    romeo.message(JULIET, 'first')
    await server.quiet()
    const { table } = server.process
    const rows = []
    for await (const row of table.query(`j#mam#${JULIET}`, { to: '~' })) rows.push(row)
    const [first] = rows
    // A message is as long as it was, and so is what is behind it.
    const value = Buffer.concat([first!.value, Buffer.alloc(390_000)])
    const pad = (n: number) => String(n).padStart(10, '0')
    for (let n = 0; n < 90; n++) await table.put({ ...first!, sk: `${first!.sk.slice(0, 14)}-${pad(n)}~`, value })
    const fields = { with: juliet.jid.full.replace('balcony', 'nowhere') }
    expect(await refusal(juliet, { fields })).toBe('resource-constraint')
    expect((await page(juliet, { fields, set: { max: '0' } })).set).toEqual({})
    romeo.message(`${JULIET}/nowhere`, 'last')
    await server.quiet()
    const last = await page(juliet, { fields, set: { before: '' } })
    expect([last.bodies, last.complete]).toEqual([['last'], ''])
  })

  test('pages of a thread count its own messages only', async () => {
    await using setup = await setUp()
    const { server, romeo, juliet } = setup
    const nurse = await server.online('nurse@example.org/hall')
    for (let i = 0; i < 10; i++) {
      romeo.message(JULIET, `r${i}`)
      for (let k = 0; k < 3; k++) nurse.message(JULIET, `n${i}`)
      await server.quiet()
    }
    const fields = { with: ROMEO }
    const last = await page(juliet, { fields, set: { max: '4', before: '' } })
    expect([last.bodies, last.complete]).toEqual([['r6', 'r7', 'r8', 'r9'], ''])
    const before = await page(juliet, { fields, set: { max: '4', before: last.set.first! } })
    expect([before.bodies, before.complete]).toEqual([['r2', 'r3', 'r4', 'r5'], ''])
    const first = await page(juliet, { fields, set: { max: '4', before: before.set.first! } })
    expect([first.bodies, first.complete]).toEqual([['r0', 'r1'], 'true'])
    const after = await page(juliet, { fields, set: { max: '5', after: before.set.last! } })
    expect([after.bodies, after.complete]).toEqual([['r6', 'r7', 'r8', 'r9'], 'true'])
    expect((await page(juliet, { fields, set: { max: '0' } })).set).toEqual({ count: '10' })
  })
})

describe('XEP-0313 §4.1.2 Filtering by time received', () => {
  test('both ends are included, to the millisecond', async () => {
    const clock = manualClock(Date.UTC(2010, 5, 7, 0, 0, 0))
    await using setup = await setUp({ clock })
    await write(setup, 5, clock)
    const said = async (fields: Record<string, string>) => (await page(setup.juliet, { fields })).bodies.join('')
    expect(await said({ start: '2010-06-07T00:00:02Z' })).toBe('234')
    expect(await said({ end: '2010-06-07T00:00:02Z' })).toBe('012')
    expect(await said({ start: '2010-06-07T00:00:01Z', end: '2010-06-07T00:00:03Z' })).toBe('123')
    expect(await said({ start: '2010-06-07T00:00:01.001Z', end: '2010-06-07T00:00:02.999Z' })).toBe('2')
    expect(await said({ start: '2010-06-07T00:00:01.0000001Z' })).toBe('234') // just behind 1
    expect(await said({ end: '2010-06-07T00:00:01.0000001Z' })).toBe('01')
    expect(await said({ start: '2010-06-07T02:00:03+02:00' })).toBe('34')
    expect(await said({ start: '2010-06-07T00:00:03Z', end: '2010-06-07T00:00:01Z' })).toBe('')
    expect(await said({ start: '1969-01-01T00:00:00Z', end: '9999-12-31T23:59:59Z' })).toBe('01234')
    expect(await said({ start: '2010-06-07T00:00:02Z', with: ROMEO })).toBe('234')
  })
})

describe('XEP-0313 §4.3 Paging through results', () => {
  test('forwards by `after`, complete on the last page and not before', async () => {
    await using setup = await setUp()
    const { juliet } = setup
    const ids = await write(setup, 5)
    const first = await page(juliet, { set: { max: '2' } })
    expect([first.bodies, first.complete, first.set]).toEqual([['0', '1'], '', { first: ids[0], last: ids[1] }])
    const second = await page(juliet, { set: { max: '2', after: ids[1]! } })
    expect([second.bodies, second.complete, second.set]).toEqual([['2', '3'], '', { first: ids[2], last: ids[3] }])
    const third = await page(juliet, { set: { max: '2', after: ids[3]! } })
    expect([third.bodies, third.complete]).toEqual([['4'], 'true'])
    const none = await page(juliet, { set: { max: '2', after: ids[4]! } })
    expect([none.bodies, none.complete, none.set]).toEqual([[], 'true', {}])
    expect((await page(juliet, { set: { max: '5' } })).complete).toBe('true') // exactly all
  })

  test('§4.3.3 backwards from the last page, each in chronological order', async () => {
    await using setup = await setUp()
    const { juliet } = setup
    const ids = await write(setup, 5)
    const last = await page(juliet, { set: { max: '2', before: '' } })
    expect([last.bodies, last.complete, last.set]).toEqual([['3', '4'], '', { first: ids[3], last: ids[4] }])
    const earlier = await page(juliet, { set: { max: '3', before: ids[3]! } })
    expect([earlier.bodies, earlier.complete]).toEqual([['0', '1', '2'], 'true'])
    const between = await page(juliet, { set: { max: '5', before: ids[3]!, after: ids[0]! } })
    expect(between.bodies).toEqual(['1', '2'])
  })

  test('§4.3.1 no page is longer than the option says', async () => {
    await using setup = await setUp({ modules: { mam: { pageMax: 3 } } })
    await write(setup, 4)
    for (const asked of [{}, { set: { max: '100' } }]) {
      expect(await page(setup.juliet, asked)).toMatchObject({ bodies: ['0', '1', '2'], complete: '' })
    }
  })

  test('§4.3.1 nor larger than 256 KiB, and every message is on one', async () => {
    await using setup = await setUp()
    const { server, romeo, juliet } = setup
    for (let i = 0; i < 6; i++) {
      romeo.message(JULIET, `${i}`, el('x', 'y', {}, 'z'.repeat(i === 3 ? 280_000 : 100_000)))
      await server.quiet()
    }
    const forwards: string[][] = []
    for (let after: string | undefined, complete = ''; complete === ''; ) {
      const got: Page = await page(juliet, { set: { max: '50', ...(after !== undefined && { after }) } })
      forwards.push(got.bodies)
      after = got.set.last
      complete = got.complete
    }
    expect(forwards).toEqual([['0', '1'], ['2'], ['3'], ['4', '5']])
    const backwards: string[][] = []
    for (let before = '', complete = ''; complete === ''; ) {
      const got: Page = await page(juliet, { set: { max: '50', before } })
      backwards.unshift(got.bodies)
      before = got.set.first!
      complete = got.complete
    }
    expect(backwards).toEqual([['0'], ['1', '2'], ['3'], ['4', '5']])
  })

  test('§4.3.2 an id that is not in the archive is item-not-found', async () => {
    await using setup = await setUp()
    const { romeo, juliet } = setup
    const [id] = await write(setup, 1)
    for (const unknown of ['x', '~', `${id}x`, id!.replace(/.$/, (c) => (c === 'A' ? 'B' : 'A')), 'x'.repeat(100_000)]) {
      expect(await refusal(juliet, { set: { after: unknown } })).toBe('item-not-found')
      expect(await refusal(juliet, { set: { before: unknown } })).toBe('item-not-found')
    }
    expect(await refusal(romeo, { set: { after: id! } })).toBe('item-not-found') // it is another's
  })

  test('XEP-0059 §2.7 their number alone, where it is not too much to count', async () => {
    await using setup = await setUp()
    const { server, romeo, juliet } = setup
    expect(await page(juliet, { set: { max: '0' } })).toMatchObject({ set: { count: '0' }, complete: 'true', ids: [] })
    await write(setup, 3)
    expect(await page(juliet, { set: { max: '0' } })).toMatchObject({ set: { count: '3' }, complete: '', ids: [] })
    for (let i = 0; i < 3; i++) romeo.message(JULIET, 'large', el('x', 'y', {}, 'z'.repeat(100_000)))
    await server.quiet()
    expect(await page(juliet, { set: { max: '0' } })).toMatchObject({ set: {}, complete: '', ids: [] })
  })
})

describe('a query that cannot be answered', () => {
  test.each<[string, Asked, string]>([
    ['§4.1 a form of another type', { fields: {}, formType: 'urn:xmpp:mam:1' }, 'bad-request'],
    ['§4.1.5 a field that is not known', { fields: { 'after-id': 'x' } }, 'feature-not-implemented'],
    ['§4.1.1 no JID', { fields: { with: 'a@b@c' } }, 'bad-request'],
    ['two JIDs', { fields: { with: [ROMEO, JULIET] } }, 'bad-request'],
    ['§4.1.2 no time', { fields: { start: 'yesterday' } }, 'bad-request'],
    ['§4.1.2 no such time', { fields: { end: '2010-02-30T00:00:00Z' } }, 'bad-request'],
    ['XEP-0059 no number', { set: { max: 'many' } }, 'bad-request'],
    ['XEP-0059 §2.6 a page by its index', { set: { max: '10', index: '3' } }, 'feature-not-implemented'],
    ['a queryid that would be repeated a hundred times', { queryid: 'x'.repeat(257) }, 'bad-request'],
  ])('%s', async (_what, asked, expected) => {
    await using setup = await setUp()
    expect(await refusal(setup.juliet, asked)).toBe(expected)
  })

  test('a form that is not submitted, and a node', async () => {
    await using setup = await setUp()
    const form = el(
      'x',
      NS_DATA,
      { type: 'form' },
      el('field', NS_DATA, { var: 'FORM_TYPE', type: 'hidden' }, el('value', NS_DATA, {}, NS)),
    )
    expect(condition(await setup.juliet.iq('set', el('query', NS, {}, form)))).toBe('bad-request')
    expect(condition(await setup.juliet.iq('set', el('query', NS, { node: 'x' })))).toBe('item-not-found') // XEP-0442
  })

  test('§8.1 another’s archive is forbidden, and to strangers not even there', async () => {
    await using setup = await setUp()
    const { server, romeo, juliet } = setup
    const asked = (client: TestClient, type: 'get' | 'set', to: string) => client.iq(type, queryOf({}), to).then(condition)
    expect(await asked(romeo, 'set', JULIET)).toBe('service-unavailable')
    expect(await asked(romeo, 'set', 'nobody@example.org')).toBe('service-unavailable')
    juliet.send(juliet.stanza('presence', { to: parseJid(ROMEO), type: 'subscribed' })) // pre-approval, RFC 6121 §3.4
    romeo.send(romeo.stanza('presence', { to: parseJid(JULIET), type: 'subscribe' }))
    await server.quiet()
    expect([await asked(romeo, 'set', JULIET), await asked(romeo, 'get', JULIET)]).toEqual(['forbidden', 'forbidden'])
  })
})

test('XEP-0313 §4.1.5 the form of a query, whose fields are all optional', async () => {
  await using setup = await setUp()
  const query = await setup.romeo.get(el('query', NS))
  const fields = childrenOf(childOf(query, 'x', NS_DATA)!, 'field', NS_DATA)
  expect(fields.map(({ attrs }) => [attrs.var, attrs.type])).toEqual([
    ['FORM_TYPE', 'hidden'],
    ['with', 'jid-single'],
    ['start', 'text-single'],
    ['end', 'text-single'],
  ])
  expect(fields.flatMap((field) => childrenOf(field, 'required', NS_DATA))).toEqual([])
  expect(await setup.romeo.get(el('query', NS), ROMEO)).toEqual(query) // by name, too
})

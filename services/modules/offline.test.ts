import { describe, expect, test } from 'vitest'
import { manualClock } from '#core/clock.ts'
import type { AnyModule } from '#core/module.ts'
import { memoryTable } from '#table/memory.ts'
import type { Table } from '#table/table.ts'
import { flakyTable, type HarnessOptions, harness, type TestClient, type TestServer } from '#test/harness.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT, NS_DELAY } from '#xmpp/ns.ts'
import { type Element, el, find, type Stanza, stanzaOfBytes } from '#xmpp/stanza.ts'
import mam from './mam.ts'
import offline from './offline.ts'

const JULIET = 'juliet@example.org'
const BODY = el('body', NS_CLIENT, {}, 'O blessed, blessed night!')
const COMPOSING = el('composing', 'http://jabber.org/protocol/chatstates')
const hint = (name: string) => el(name, 'urn:xmpp:hints')

/** Romeo is online, and Juliet has an account. */
async function setUp(options: HarnessOptions = {}): Promise<{ server: TestServer; romeo: TestClient } & AsyncDisposable> {
  const server = await harness([offline], options)
  const romeo = await server.online('romeo@example.org/garden')
  if (!(await server.exists(JULIET))) await server.account(JULIET)
  return { server, romeo, [Symbol.asyncDispose]: () => server.stop() }
}

function errors(client: TestClient): string[] {
  const refused = client.received.filter(({ name, type }) => name === 'message' && type === 'error')
  return refused.map((message) =>
    find(message, 'error', NS_CLIENT)!
      .children.map((child) => (child as Element).name)
      .join(),
  )
}

function delaysOf(message: Stanza): readonly Element[] {
  return message.tree().filter(({ name, ns }) => name === 'delay' && ns === NS_DELAY)
}

async function entries(server: TestServer, account = JULIET): Promise<number> {
  let count = 0
  for await (const _row of server.process.table.query(`j#offline#${account}`)) count++
  return count
}

describe('XEP-0160 §2 Process Flow', () => {
  test('what came while nobody was there comes in order, with the time it came, and once', async () => {
    const clock = manualClock(Date.UTC(2002, 8, 10, 23, 8, 25))
    await using setup = await setUp({ clock })
    const { server, romeo } = setup
    romeo.message(JULIET, 'one')
    await server.quiet()
    clock.advance(60_000)
    romeo.message(JULIET, 'two')
    romeo.message(JULIET, 'three')
    await server.quiet()
    clock.advance(60_000)

    const juliet = await server.online('juliet@example.org/balcony')
    expect(juliet.bodies()).toEqual(['one', 'two', 'three'])
    const messages = juliet.received.filter(({ name }) => name === 'message')
    expect(messages.map((message) => delaysOf(message))).toEqual([
      [el('delay', NS_DELAY, { from: 'example.org', stamp: '2002-09-10T23:08:25Z' }, 'Offline Storage')],
      [el('delay', NS_DELAY, { from: 'example.org', stamp: '2002-09-10T23:09:25Z' }, 'Offline Storage')],
      [el('delay', NS_DELAY, { from: 'example.org', stamp: '2002-09-10T23:09:25Z' }, 'Offline Storage')],
    ])
    expect(messages[0]).toMatchObject({ from: romeo.jid, to: parseJid(JULIET), type: 'chat' })
    expect(errors(romeo)).toEqual([])

    juliet.disconnect()
    await server.quiet()
    expect((await server.online('juliet@example.org/chamber')).bodies()).toEqual([])
    expect(await entries(server)).toBe(0)
  })

  test('what came after a restart with the clock set back used to be handed over first', async () => {
    const clock = manualClock()
    await using setup = await setUp({ clock })
    const { server, romeo } = setup
    romeo.message(JULIET, 'one')
    await server.quiet()
    await server.stop()
    clock.jump(-86_400_000)
    await using again = await setUp({ clock, table: server.process.table })
    again.romeo.message(JULIET, 'two')
    await again.server.quiet()
    expect((await again.server.online('juliet@example.org/balcony')).bodies()).toEqual(['one', 'two'])
  })

  test('a bound session that sent no presence, or one of negative priority, gets none', async () => {
    await using setup = await setUp()
    const { server, romeo } = setup
    const bound = await server.connect('juliet@example.org/bound')
    const shy = await server.online('juliet@example.org/shy', -1)
    romeo.message(JULIET, 'kept')
    await server.quiet()
    const shyer = await server.online('juliet@example.org/shyer', -128)
    expect([bound.bodies(), shy.bodies(), shyer.bodies(), await entries(server)]).toEqual([[], [], [], 1])
  })

  test('a priority that rises from below zero brings them', async () => {
    await using setup = await setUp()
    const { server, romeo } = setup
    const shy = await server.online('juliet@example.org/shy', -1)
    romeo.message(JULIET, 'kept')
    await server.quiet()
    shy.available(1)
    await server.quiet()
    expect(shy.bodies()).toEqual(['kept'])
  })

  test('of two sessions that arrive at once, one gets them', async () => {
    await using setup = await setUp()
    const { server, romeo } = setup
    for (let i = 0; i < 5; i++) romeo.message(JULIET, `${i}`)
    await server.quiet()
    const one = await server.connect('juliet@example.org/one')
    const two = await server.connect('juliet@example.org/two')
    one.available()
    two.available()
    await server.quiet()
    expect([one.bodies(), two.bodies()].sort((a, b) => a.length - b.length)).toEqual([[], ['0', '1', '2', '3', '4']])
  })

  test('what is new comes behind what was kept', async () => {
    await using setup = await setUp()
    const { server, romeo } = setup
    const kept = Array.from({ length: 250 }, (_, i) => `kept ${i}`)
    for (const text of kept) romeo.message(JULIET, text)
    await server.quiet()
    const juliet = await server.connect('juliet@example.org/balcony')
    juliet.available()
    for (let i = 0; i < 20; i++) {
      romeo.message(JULIET, `new ${i}`)
      await new Promise((resolve) => setImmediate(resolve))
    }
    await server.quiet()
    expect(juliet.bodies()).toEqual([...kept, ...Array.from({ length: 20 }, (_, i) => `new ${i}`)])
    expect(await entries(server)).toBe(0)
  })

  test('to a resource that is gone a chat message is kept (RFC 6121 §8.5.3.2.1)', async () => {
    await using setup = await setUp()
    const { server, romeo } = setup
    romeo.message('juliet@example.org/gone', 'kept')
    await server.quiet()
    expect((await server.online('juliet@example.org/balcony')).bodies()).toEqual(['kept'])
  })

  test('for an account that is not there nothing is kept: service-unavailable', async () => {
    await using setup = await setUp()
    const { server, romeo } = setup
    romeo.message('nobody@example.org', 'lost')
    await server.quiet()
    expect(errors(romeo)).toEqual(['service-unavailable'])
    expect(await entries(server, 'nobody@example.org')).toBe(0)
  })
})

describe('XEP-0160 §3 Handling of Message Types', () => {
  test.each<[string, string, readonly Element[], boolean]>([
    ['normal', 'normal', [BODY], true],
    ['no type', '', [BODY], true],
    ['a type nobody knows, which is normal', 'love', [BODY], true],
    ['chat', 'chat', [BODY], true],
    ['chat with a state beside the body', 'chat', [BODY, el('active', COMPOSING.ns)], true],
    ['chat without a body, but more than a state', 'chat', [el('received', 'urn:xmpp:receipts', { id: 'x' })], true],
    ['chat with a state alone', 'chat', [COMPOSING], false],
    [
      'chat with a state, its thread and an id',
      'chat',
      [COMPOSING, el('thread', NS_CLIENT, {}, 't'), el('origin-id', 'urn:xmpp:sid:0')],
      false,
    ],
    ['chat with nothing in it', 'chat', [], false],
    ['groupchat', 'groupchat', [BODY], false],
    ['headline', 'headline', [BODY], false],
    ['error', 'error', [BODY], false],
    ['XEP-0334 §4.2: no-store', 'chat', [BODY, hint('no-store')], false],
    ['XEP-0334 §4.1: no-permanent-store, which this is not', 'chat', [BODY, hint('no-permanent-store')], true],
    ['XEP-0334 §4.4: store', 'chat', [COMPOSING, hint('store')], true],
  ])('%s', async (_name, type, children, kept) => {
    await using setup = await setUp()
    const { server, romeo } = setup
    romeo.send(romeo.stanza('message', { to: parseJid(JULIET), type, id: 'm1' }, ...children))
    await server.quiet()
    expect(await entries(server)).toBe(kept ? 1 : 0)
    const silent = kept || type === 'headline' || type === 'error' // RFC 6121 §8.5.2.2.1
    expect(errors(romeo)).toEqual(silent ? [] : ['service-unavailable'])
  })
})

describe('XEP-0160 §2: the queue is full', () => {
  test('the sender of one more is told service-unavailable, and what was kept is kept', async () => {
    await using setup = await setUp({ modules: { offline: { messagesMax: 2 } } })
    const { server, romeo } = setup
    for (const text of ['one', 'two', 'three']) romeo.message(JULIET, text)
    await server.quiet()
    expect(errors(romeo)).toEqual(['service-unavailable'])
    const juliet = await server.online('juliet@example.org/balcony')
    expect(juliet.bodies()).toEqual(['one', 'two'])
    juliet.disconnect()
    await server.quiet()
    romeo.message(JULIET, 'four')
    await server.quiet()
    expect(errors(romeo)).toHaveLength(1) // there is room again
  })

  test('as it is of more bytes than one client may leave unread', async () => {
    await using setup = await setUp({ config: { limits: { writeBufferBytes: 512 * 1024 } } })
    const { server, romeo } = setup
    const long = 'x'.repeat(100_000)
    for (let i = 0; i < 4; i++) romeo.message(JULIET, long)
    await server.quiet()
    expect([await entries(server), errors(romeo)]).toEqual([2, ['service-unavailable', 'service-unavailable']])
  })

  test('a restart counts what is there', async () => {
    const table = memoryTable()
    const options = { table, modules: { offline: { messagesMax: 2 } } }
    const before = await setUp(options)
    before.romeo.message(JULIET, 'one')
    await before.server.quiet()
    await before.server.stop()

    await using setup = await setUp(options)
    const { server, romeo } = setup
    romeo.message(JULIET, 'two')
    romeo.message(JULIET, 'three')
    await server.quiet()
    expect(errors(romeo)).toEqual(['service-unavailable'])
    expect((await server.online('juliet@example.org/balcony')).bodies()).toEqual(['one', 'two'])
  })

  test('what has expired makes room and is not delivered', async () => {
    const clock = manualClock()
    await using setup = await setUp({ clock, modules: { offline: { messagesMax: 1, expiryDays: 7 } } })
    const { server, romeo } = setup
    romeo.message(JULIET, 'old')
    await server.quiet()
    clock.advance(7 * 86_400_000 - 2_000)
    romeo.message(JULIET, 'too early')
    await server.quiet()
    expect(errors(romeo)).toHaveLength(1)
    clock.advance(60_000)
    romeo.message(JULIET, 'young')
    await server.quiet()
    expect(errors(romeo)).toHaveLength(1)
    expect((await server.online('juliet@example.org/balcony')).bodies()).toEqual(['young'])
  })
})

describe('more than a session may leave unacknowledged', () => {
  const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => `${from + i}`)
  /** Portions of 200. */
  const options: HarnessOptions = { config: { limits: { unackedStanzas: 100 } }, modules: { offline: { messagesMax: 5_000 } } }
  const isPing = ({ name, id }: Stanza) => name === 'iq' && id === 'offline-more'
  const pings = (client: TestClient) => client.received.filter(isPing)
  const answer = (client: TestClient, type = 'result') =>
    client.send(client.stanza('iq', { to: parseJid('example.org'), id: 'offline-more', type }))
  const said = (client: TestClient) => client.bodies().filter((body) => body !== '')

  async function kept(count: number, more: HarnessOptions = options) {
    const setup = await setUp(more)
    for (const text of numbers(0, count)) setup.romeo.message(JULIET, text)
    await setup.server.quiet()
    return setup
  }

  test('used to come at once, which ended the session each time: it comes in portions, the next when the client has got there', async () => {
    await using setup = await kept(450)
    const { server } = setup
    const juliet = await server.online('juliet@example.org/balcony')
    expect([said(juliet), pings(juliet).length]).toEqual([numbers(0, 200), 1])
    expect(pings(juliet)[0]!.from.full).toBe('example.org')
    answer(juliet)
    await server.quiet()
    expect([said(juliet), pings(juliet).length]).toEqual([numbers(0, 400), 2])
    answer(juliet, 'error') // XEP-0199 §4: it is an answer, too
    await server.quiet()
    expect([said(juliet), pings(juliet).length, await entries(server)]).toEqual([numbers(0, 450), 2, 0])
    answer(juliet)
    await server.quiet()
    expect(said(juliet)).toHaveLength(450)
  })

  test('comes in portions by bytes, too', async () => {
    const limits = { writeBufferBytes: 600_000 }
    await using setup = await setUp({ config: { limits }, modules: { offline: { messagesMax: 5_000 } } })
    const { server, romeo } = setup
    for (let n = 0; n < 280; n++) romeo.message(JULIET, `${n}`) // some 1000 bytes each, as a session keeps them
    await server.quiet()
    const first = await server.online('juliet@example.org/balcony')
    expect([said(first).length, pings(first).length]).toEqual([280, 0])
    first.disconnect()
    await server.quiet()
    for (let n = 0; n < 900; n++) romeo.message(JULIET, `${n}`)
    await server.quiet()
    const second = await server.online('juliet@example.org/balcony')
    expect(said(second).length).toBeGreaterThan(400)
    expect(said(second).length).toBeLessThan(780)
    expect(pings(second)).toHaveLength(1)
  })

  test('goes to the session that was first alone, and to another one when that has ended', async () => {
    await using setup = await kept(450)
    const { server } = setup
    const balcony = await server.online('juliet@example.org/balcony')
    const chamber = await server.online('juliet@example.org/chamber')
    answer(chamber) // which it was not asked for
    await server.quiet()
    expect([said(balcony).length, said(chamber).length]).toEqual([200, 0])
    balcony.disconnect()
    await server.quiet()
    expect(said(chamber)).toEqual(numbers(200, 400))
    answer(chamber)
    await server.quiet()
    expect([said(chamber), await entries(server)]).toEqual([numbers(200, 450), 0])
  })

  test('waits where its session takes no more, and for the next one where that never answers', async () => {
    await using setup = await kept(450)
    const { server } = setup
    const balcony = await server.online('juliet@example.org/balcony')
    balcony.available(-1)
    await server.quiet()
    answer(balcony)
    await server.quiet()
    expect([said(balcony).length, await entries(server)]).toEqual([200, 250])
    balcony.disconnect()
    await server.quiet()
    const chamber = await server.online('juliet@example.org/chamber')
    expect(said(chamber)).toEqual(numbers(200, 400))
    chamber.send(chamber.stanza('presence', { type: 'unavailable' }))
    await server.quiet()
    chamber.available()
    await server.quiet()
    expect(said(chamber)).toEqual(numbers(200, 450))
  })

  test('is not what somebody else is answered, who happens to use the same id', async () => {
    await using setup = await kept(450)
    const { server, romeo } = setup
    const juliet = await server.online('juliet@example.org/balcony')
    juliet.send(juliet.stanza('iq', { to: romeo.jid, id: 'offline-more', type: 'result' }))
    expect((await romeo.next(isPing)).from.full).toBe('juliet@example.org/balcony')
    await server.quiet()
    expect(said(juliet)).toHaveLength(200)
  })

  test('has room again for what comes meanwhile', async () => {
    await using setup = await kept(300, { ...options, modules: { offline: { messagesMax: 300 } } })
    const { server, romeo } = setup
    const juliet = await server.online('juliet@example.org/balcony')
    juliet.disconnect()
    await server.quiet()
    for (const text of numbers(300, 550)) romeo.message(JULIET, text)
    await server.quiet()
    expect([await entries(server), errors(romeo).length]).toEqual([300, 50])
  })
})

describe('an ack is a promise', () => {
  test('a message is acked when it is durable, not before', async () => {
    const clock = manualClock()
    const table = flakyTable()
    await using setup = await setUp({ clock, table })
    const { server, romeo } = setup
    romeo.message(JULIET, 'one')
    await server.quiet()
    table.away = true
    romeo.message(JULIET, 'two')
    for (let i = 0; i < 20; i++) await clock.settle(100)
    expect(romeo.settled).toBe(false)
    table.away = false
    expect(await entries(server)).toBe(1)
    for (let i = 0; i < 100; i++) await clock.settle(100)
    expect([romeo.settled, await entries(server)]).toEqual([true, 2])
  })

  test('a message that a dead process had sent and not removed comes again', async () => {
    await using setup = await setUp()
    const { server, romeo } = setup
    romeo.message(JULIET, 'twice')
    await server.quiet()
    const rows = []
    for await (const row of server.process.table.query(`j#offline#${JULIET}`)) rows.push(row)
    const juliet = await server.online('juliet@example.org/balcony')
    for (const row of rows) await server.process.table.put(row) // as if the removal had not become durable
    await server.stop()
    await using again = await setUp({ table: server.process.table })
    expect((await again.server.online('juliet@example.org/balcony')).bodies()).toEqual(juliet.bodies())
  })
})

test('what was kept used to be sent only when its removal was durable: a process that died then had lost it', async () => {
  const table = memoryTable()
  let letGo = () => {}
  const removing = new Promise<void>((resolve) => (letGo = resolve))
  const slow: Table = {
    get: (key) => table.get(key),
    put: (row, ifVersion) => table.put(row, ifVersion),
    delete: (key) => removing.then(() => table.delete(key)),
    query: (pk, range) => table.query(pk, range),
  }
  await using setup = await setUp({ table: slow })
  const { server, romeo } = setup
  for (const text of ['one', 'two', 'three']) romeo.message(JULIET, text)
  await server.quiet()
  const juliet = await server.connect('juliet@example.org/balcony')
  juliet.available()
  for (let n = 0; n < 3; n++) await juliet.next(({ name }) => name === 'message')
  expect([juliet.bodies(), await entries(server)]).toEqual([['one', 'two', 'three'], 3])
  letGo()
})

test('a message that grows when it is written anew is handed over as it came, and keeps nothing behind it away', async () => {
  await using setup = await setUp()
  const { server, romeo } = setup
  const quotes = Buffer.from(`<body>quotes</body><x xmlns='urn:example' y="${"'".repeat(250_000)}"/>`)
  const to = parseJid(JULIET)
  romeo.send(stanzaOfBytes('message', romeo.jid, to, 'q', 'chat', '', `{${NS_CLIENT}}body`, quotes))
  romeo.message(JULIET, 'behind')
  await server.quiet()
  const juliet = await server.online('juliet@example.org/balcony')
  expect(juliet.bodies()).toEqual(['quotes', 'behind'])
  expect(juliet.received.find(({ id }) => id === 'q')!.payload.subarray(0, quotes.length)).toEqual(quotes)
  expect(await entries(server)).toBe(0)
})

test('a message over what a row takes is refused, not lost', async () => {
  await using setup = await setUp()
  const { server, romeo } = setup
  const payload = Buffer.from(`<body>${'long '.repeat(79_000)}</body>`)
  romeo.send(stanzaOfBytes('message', romeo.jid, parseJid(JULIET), 'q', 'chat', '', `{${NS_CLIENT}}body`, payload))
  await server.quiet()
  expect(errors(romeo)).toEqual(['service-unavailable'])
  expect(await entries(server)).toBe(0)
})

describe('XEP-0386 §3.2 a session that was bound with its login', () => {
  test('is not sent what it finds in the archive, and what it does not find there; nobody is sent it later', async () => {
    for (const modules of [[offline, mam], [offline]] as AnyModule[][]) {
      await using server = await harness(modules)
      await server.account('juliet@example.org')
      const romeo = await server.online('romeo@example.org/orchard')
      romeo.message('juliet@example.org', 'while she was away')
      await server.quiet()
      const juliet = await server.bind('juliet@example.org/balcony', ['bind2'])
      juliet.available()
      await server.quiet()
      expect(juliet.bodies()).toEqual(modules.length === 2 ? [] : ['while she was away'])
      const chamber = await server.online('juliet@example.org/chamber')
      expect(chamber.bodies()).toEqual([])
    }
  })
})

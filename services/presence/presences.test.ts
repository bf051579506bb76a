import { describe, expect, test } from 'vitest'
import { manualClock } from '#core/clock.ts'
import { defineModule } from '#core/module.ts'
import { QUIET_MS } from '#core/storage/readings.ts'
import { flakyTable, type HarnessOptions, harness, type TestClient, type TestServer } from '#test/harness.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT } from '#xmpp/ns.ts'
import { type Element, el, find, type Stanza, textOf } from '#xmpp/stanza.ts'

const ROMEO = 'romeo@example.org'
const JULIET = 'juliet@example.org'
const ROSALINE = 'rosaline@example.org'

const status = (text: string): Element => el('status', NS_CLIENT, {}, text)
const priority = (value: number): Element => el('priority', NS_CLIENT, {}, String(value))

/** What a client was shown: `orchard: away`, `orchard: unavailable`; each type, or the status, by resource, for one account or all. */
function shown({ received }: TestClient, from?: string): string[] {
  const presences = received.filter((came) => came.name === 'presence' && (from === undefined || came.from.bare === from))
  return presences.map((came) => `${came.from.resource || came.from.local}: ${came.type || statusOf(came)}`)
}

function statusOf(presence: Stanza): string {
  const found = find(presence, 'status', NS_CLIENT)
  return found === undefined ? 'available' : textOf(found)
}

function show(client: TestClient, text: string, ...more: Element[]): void {
  client.send(client.stanza('presence', {}, status(text), ...more))
}

function direct(client: TestClient, to: string, type = ''): void {
  client.send(client.stanza('presence', { to: parseJid(to), type }))
}

const hide = (client: TestClient): void => client.send(client.stanza('presence', { type: 'unavailable' }))

/** Each of `watchers` comes to see `watched`; both accounts exist afterwards, and nobody is online. */
async function subscribe(server: TestServer, watched: string, ...watchers: string[]): Promise<void> {
  const contact = await server.connect(`${watched}/setup`)
  for (const watcher of watchers) {
    const client = await server.connect(`${watcher}/setup`)
    direct(client, watched, 'subscribe')
    await server.quiet()
    direct(contact, watcher, 'subscribed')
    await server.quiet()
    client.disconnect()
  }
  contact.disconnect()
  await server.quiet()
}

/** Romeo and Juliet see each other; Rosaline sees Romeo; nobody sees Rosaline. */
async function cast(options: HarnessOptions = {}): Promise<TestServer> {
  const server = await harness([], options)
  await subscribe(server, ROMEO, JULIET, ROSALINE)
  await subscribe(server, JULIET, ROMEO)
  return server
}

describe('RFC 6121 §4.2 initial presence', () => {
  test('§4.2.2: goes to the contacts with a subscription of from or both, and to the account’s available resources, this one too', async () => {
    await using server = await cast()
    const juliet = await server.online(`${JULIET}/balcony`)
    const rosaline = await server.online(`${ROSALINE}/hall`)
    const stranger = await server.online('paris@example.org/x')
    const phone = await server.online(`${ROMEO}/phone`)
    const silent = await server.connect(`${ROMEO}/silent`)
    for (const client of [juliet, rosaline, stranger, phone]) client.received.length = 0
    const orchard = await server.connect(`${ROMEO}/orchard`)
    show(orchard, 'here')
    await server.quiet()
    for (const client of [juliet, rosaline, phone]) expect(shown(client)).toEqual(['orchard: here'])
    expect(shown(orchard, ROMEO).sort()).toEqual(['orchard: here', 'phone: available'])
    expect([shown(stranger), shown(silent)]).toEqual([[], []])
    expect(juliet.received[0]).toMatchObject({ from: { full: `${ROMEO}/orchard` }, to: { full: JULIET } })
  })

  test('§4.3: contacts that one may see and that are available are shown, each of their resources; the others are not', async () => {
    await using server = await cast()
    const balcony = await server.connect(`${JULIET}/balcony`)
    show(balcony, 'sighing')
    const chamber = await server.connect(`${JULIET}/chamber`)
    show(chamber, 'asleep', priority(-1))
    await server.connect(`${JULIET}/silent`)
    await server.online(`${ROSALINE}/hall`)
    await server.quiet()
    const romeo = await server.online(`${ROMEO}/orchard`)
    expect(shown(romeo, JULIET).sort()).toEqual(['balcony: sighing', 'chamber: asleep'])
    expect(shown(romeo, ROSALINE)).toEqual([])
    expect(romeo.received.find(({ from }) => from.resource === 'balcony')).toMatchObject({ to: { bare: ROMEO } })
  })

  test('of a contact that is connected and not available nothing is shown: he who has just come thinks him unavailable (§4.3.2)', async () => {
    await using server = await cast()
    await server.connect(`${JULIET}/silent`)
    const hidden = await server.online(`${JULIET}/hidden`)
    hide(hidden)
    await server.quiet()
    const romeo = await server.online(`${ROMEO}/orchard`)
    expect(shown(romeo, JULIET)).toEqual([])
  })

  test('contacts who are offline cost no read', async () => {
    const table = flakyTable()
    await using earlier = await cast({ table })
    await earlier.stop()
    const read: string[] = []
    const counting = Object.assign(Object.create(table) as typeof table, {
      query: (pk: string, range?: object) => {
        read.push(pk)
        return table.query(pk, range)
      },
    })
    const clock = manualClock()
    await using server = await harness([], { table: counting, clock })
    clock.advance(QUIET_MS) // whoever has just come to own an account reads for himself
    await server.online(`${ROMEO}/orchard`)
    expect(read.filter((pk) => pk.startsWith('a#'))).toEqual([`a#${ROMEO}`]) // once for both roles
  })

  test('two sessions that come at once see each other', async () => {
    await using server = await cast()
    const romeo = await server.connect(`${ROMEO}/orchard`)
    const juliet = await server.connect(`${JULIET}/balcony`)
    show(romeo, 'hello')
    show(juliet, 'hello')
    await server.quiet()
    expect(shown(romeo, JULIET)).toContain('balcony: hello')
    expect(shown(juliet, ROMEO)).toContain('orchard: hello')
  })
})

describe('RFC 6121 §4.4 and §4.5: changes, and the end', () => {
  test('§4.4.2: a change goes to whom the initial presence went, once, in order', async () => {
    await using server = await cast()
    const [romeo, phone, juliet] = [
      await server.online(`${ROMEO}/orchard`),
      await server.online(`${ROMEO}/phone`),
      await server.online(`${JULIET}/balcony`),
    ]
    for (const client of [romeo, phone, juliet]) client.received.length = 0
    for (const text of ['one', 'two', 'three']) show(romeo, text)
    await server.quiet()
    for (const client of [romeo, phone, juliet]) expect(shown(client)).toEqual(['orchard: one', 'orchard: two', 'orchard: three'])
  })

  test('what shows nothing new goes to nobody, whatever its id; a change of priority does', async () => {
    await using server = await cast()
    const [romeo, juliet] = [await server.online(`${ROMEO}/orchard`), await server.online(`${JULIET}/balcony`)]
    show(romeo, 'here')
    await server.quiet()
    juliet.received.length = 0
    for (const id of ['a', 'b', 'c']) romeo.send(romeo.stanza('presence', { id }, status('here')))
    await server.quiet()
    expect(shown(juliet)).toEqual([])
    show(romeo, 'here', priority(5))
    await server.quiet()
    expect(shown(juliet)).toEqual(['orchard: here'])
    hide(romeo)
    show(romeo, 'here', priority(5))
    await server.quiet()
    expect(shown(juliet)).toEqual(['orchard: here', 'orchard: unavailable', 'orchard: here'])
  })

  test('a broadcast that is the same is sent after all where somebody was shown something else by directed presence', async () => {
    await using server = await cast()
    const [romeo, juliet] = [await server.online(`${ROMEO}/orchard`), await server.online(`${JULIET}/balcony`)]
    juliet.received.length = 0
    for (const type of ['unavailable', '']) {
      romeo.send(romeo.stanza('presence', { to: parseJid(JULIET), type }, status('only for you')))
      romeo.available()
    }
    romeo.available()
    await server.quiet()
    expect(shown(juliet)).toEqual(['orchard: unavailable', 'orchard: available', 'orchard: only for you', 'orchard: available'])
  })

  test('§4.4.2: a contact who comes later gets the latest presence, whole', async () => {
    await using server = await cast()
    const romeo = await server.online(`${ROMEO}/orchard`)
    romeo.send(
      romeo.stanza(
        'presence',
        { id: 'x', lang: 'it' },
        el('show', NS_CLIENT, {}, 'away'),
        status('dove sei?'),
        el('c', 'urn:example:caps', { ver: '1' }),
      ),
    )
    await server.quiet()
    const juliet = await server.online(`${JULIET}/balcony`)
    const came = juliet.received.find(({ from }) => from.bare === ROMEO)!
    expect(came).toMatchObject({ id: 'x', lang: 'it', type: '' })
    expect(came.tree().map(({ name, ns }) => `${name} ${ns}`)).toEqual([
      'show jabber:client',
      'status jabber:client',
      'c urn:example:caps',
    ])
  })

  test('§4.5.2: unavailable presence goes to contacts and to the account’s resources, the one it came from too, with its status', async () => {
    await using server = await cast()
    const [romeo, phone, juliet] = [
      await server.online(`${ROMEO}/orchard`),
      await server.online(`${ROMEO}/phone`),
      await server.online(`${JULIET}/balcony`),
    ]
    for (const client of [romeo, phone, juliet]) client.received.length = 0
    romeo.send(romeo.stanza('presence', { type: 'unavailable' }, status('gone home')))
    await server.quiet()
    for (const client of [romeo, phone, juliet]) {
      expect(shown(client)).toEqual(['orchard: unavailable'])
      expect(statusOf(client.received[0]!)).toBe('gone home')
    }
    hide(romeo)
    romeo.disconnect()
    await server.quiet()
    expect(shown(juliet)).toEqual(['orchard: unavailable'])
  })

  test('§4.5.2: a resource that has gone unavailable gets no broadcasts any more, and all of them when it is back', async () => {
    await using server = await cast()
    const [romeo, juliet] = [await server.online(`${ROMEO}/orchard`), await server.online(`${JULIET}/balcony`)]
    hide(juliet)
    await server.quiet()
    juliet.received.length = 0
    show(romeo, 'changed')
    await server.quiet()
    expect(shown(juliet)).toEqual([])
    juliet.available()
    await server.quiet()
    expect(shown(juliet, ROMEO)).toEqual(['orchard: changed'])
  })

  test('§4.5.2: a session that ends without a word is unavailable to all who saw it', async () => {
    await using server = await cast()
    const [romeo, phone, juliet] = [
      await server.online(`${ROMEO}/orchard`),
      await server.online(`${ROMEO}/phone`),
      await server.online(`${JULIET}/balcony`),
    ]
    for (const client of [phone, juliet]) client.received.length = 0
    romeo.disconnect()
    await server.quiet()
    for (const client of [phone, juliet]) {
      expect(shown(client)).toEqual(['orchard: unavailable'])
      expect(client.received[0]!.from.full).toBe(`${ROMEO}/orchard`)
    }
  })

  test('a session that was never available ends in silence', async () => {
    await using server = await cast()
    const juliet = await server.online(`${JULIET}/balcony`)
    const romeo = await server.connect(`${ROMEO}/orchard`)
    hide(romeo)
    await server.quiet()
    romeo.disconnect()
    await server.quiet()
    expect(shown(juliet, ROMEO)).toEqual([])
  })

  test('the end of one resource leaves the others available', async () => {
    await using server = await cast()
    const [romeo] = [await server.online(`${ROMEO}/orchard`), await server.online(`${ROMEO}/phone`)]
    romeo.disconnect()
    await server.quiet()
    const juliet = await server.online(`${JULIET}/balcony`)
    expect(shown(juliet, ROMEO)).toEqual(['phone: available'])
  })

  test('§4.7.2.3: a priority that is none is bad-request, and the presence before it stands', async () => {
    await using server = await cast()
    const [romeo, juliet] = [await server.online(`${ROMEO}/orchard`), await server.online(`${JULIET}/balcony`)]
    juliet.received.length = 0
    romeo.send(romeo.stanza('presence', { id: 'bad' }, el('priority', NS_CLIENT, {}, '128')))
    const refusal = await romeo.next(({ id }) => id === 'bad')
    expect([refusal.type, find(refusal, 'error', NS_CLIENT)?.attrs.type]).toEqual(['error', 'modify'])
    await server.quiet()
    expect(shown(juliet)).toEqual([])
  })

  test.each(['subscribe', 'subscribed', 'unsubscribe', 'unsubscribed', 'probe', 'invisible'])(
    '§4.7.1: presence of type %s without an address is bad-request',
    async (type) => {
      await using server = await cast()
      const romeo = await server.online(`${ROMEO}/orchard`)
      romeo.send(romeo.stanza('presence', { id: 'bad', type }))
      const refusal = await romeo.next(({ id }) => id === 'bad')
      expect(find(refusal, 'error', NS_CLIENT)!.children).toMatchObject([{ name: 'bad-request' }, { name: 'text' }])
    },
  )

  test('§4.7.1: presence of an unknown type with an address is bad-request, and goes nowhere', async () => {
    await using server = await cast()
    const [romeo, juliet] = [await server.online(`${ROMEO}/orchard`), await server.online(`${JULIET}/balcony`)]
    juliet.received.length = 0
    direct(romeo, JULIET, 'invisible')
    const refusal = await romeo.next(({ name, type }) => name === 'presence' && type === 'error')
    expect(refusal.from.full).toBe(JULIET)
    await server.quiet()
    expect(juliet.received).toEqual([])
  })
})

describe('a session that takes the resource of another', () => {
  test('is seen as available by everyone once the older one is gone, and keeps what is addressed to it', async () => {
    await using server = await cast()
    const juliet = await server.online(`${JULIET}/balcony`)
    const older = await server.online(`${ROMEO}/orchard`)
    juliet.received.length = 0
    const newer = await server.connect(`${ROMEO}/orchard`)
    show(newer, 'back')
    await server.quiet()
    expect(older.closed?.condition).toBe('conflict')
    expect(shown(juliet).at(-1)).toBe('orchard: back')
    direct(juliet, `${ROMEO}/orchard`)
    await server.quiet()
    expect(shown(newer, JULIET).length).toBeGreaterThan(1)
  })

  test('whose predecessor’s end is heard of late, causes no unavailable presence, and gets the answers to its probes', async () => {
    await using server = await cast()
    const juliet = await server.online(`${JULIET}/balcony`)
    const older = await server.online(`${ROMEO}/orchard`)
    juliet.received.length = 0
    const lateEnd = older.disconnect.bind(older)
    older.disconnect = () => {} // its edge has not noticed yet
    const newer = await server.connect(`${ROMEO}/orchard`)
    show(newer, 'back')
    await server.quiet()
    older.disconnect = lateEnd
    expect(shown(juliet)).toEqual(['orchard: back'])
    expect(shown(newer, JULIET)).toEqual(['balcony: available'])
    older.disconnect()
    await server.quiet()
    expect(shown(juliet)).toEqual(['orchard: back'])
    direct(juliet, `${ROMEO}/orchard`)
    await server.quiet()
    expect(shown(newer, JULIET)).toEqual(['balcony: available', 'balcony: available'])
  })
})

describe('RFC 6121 §4.6 directed presence', () => {
  test('§4.6.3: goes to whom it is addressed to, and to nobody else', async () => {
    await using server = await cast()
    const [romeo, juliet, paris] = [
      await server.online(`${ROMEO}/orchard`),
      await server.online(`${JULIET}/balcony`),
      await server.online('paris@example.org/tomb'),
    ]
    for (const client of [romeo, juliet, paris]) client.received.length = 0
    direct(romeo, 'paris@example.org')
    await server.quiet()
    expect([shown(paris), shown(juliet), shown(romeo)]).toEqual([['orchard: available'], [], []])
  })

  test('§4.6.3: its recipients get no later broadcast', async () => {
    await using server = await cast()
    const [romeo, paris] = [await server.online(`${ROMEO}/orchard`), await server.online('paris@example.org/tomb')]
    direct(romeo, 'paris@example.org/tomb')
    show(romeo, 'changed')
    await server.quiet()
    expect(shown(paris, ROMEO)).toEqual(['orchard: available'])
  })

  test.each([
    ['says unavailable', hide],
    ['is lost', (client: TestClient) => client.disconnect()],
  ])('§4.6.3, §4.5.2: whoever had it is told unavailable once when its sender %s', async (_, end) => {
    await using server = await cast()
    const [romeo, juliet, paris] = [
      await server.online(`${ROMEO}/orchard`),
      await server.online(`${JULIET}/balcony`),
      await server.online('paris@example.org/tomb'),
    ]
    direct(romeo, 'paris@example.org/tomb')
    direct(romeo, JULIET) // who gets the broadcast as well
    await server.quiet()
    for (const client of [juliet, paris]) client.received.length = 0
    end(romeo)
    await server.quiet()
    expect([shown(paris), shown(juliet)]).toEqual([['orchard: unavailable'], ['orchard: unavailable']])
    romeo.disconnect()
    await server.quiet()
    expect([shown(paris), shown(juliet)]).toEqual([['orchard: unavailable'], ['orchard: unavailable']])
  })

  test('§4.6.3: one who was told unavailable by directed presence is not told again', async () => {
    await using server = await cast()
    const [romeo, paris] = [await server.online(`${ROMEO}/orchard`), await server.online('paris@example.org/tomb')]
    direct(romeo, 'paris@example.org/tomb')
    direct(romeo, 'paris@example.org/tomb', 'unavailable')
    await server.quiet()
    romeo.disconnect()
    await server.quiet()
    expect(shown(paris, ROMEO)).toEqual(['orchard: available', 'orchard: unavailable'])
  })

  test('§4.6.3: a session that has only sent directed presence takes it back at its end, and is not available otherwise', async () => {
    await using server = await cast()
    const [juliet, paris] = [await server.online(`${JULIET}/balcony`), await server.online('paris@example.org/tomb')]
    const romeo = await server.connect(`${ROMEO}/orchard`)
    direct(romeo, 'paris@example.org/tomb')
    await server.quiet()
    juliet.message(ROMEO, 'are you there?')
    await server.quiet()
    expect(romeo.bodies()).toEqual([])
    romeo.disconnect()
    await server.quiet()
    expect([shown(paris, ROMEO), shown(juliet, ROMEO)]).toEqual([['orchard: available', 'orchard: unavailable'], []])
  })

  test('what was directed to a contact before the approval ended is taken back with it', async () => {
    await using server = await cast()
    const [romeo, rosaline] = [await server.online(`${ROMEO}/orchard`), await server.online(`${ROSALINE}/hall`)]
    direct(romeo, ROSALINE)
    await server.quiet()
    rosaline.received.length = 0
    direct(romeo, ROSALINE, 'unsubscribed')
    await server.quiet()
    romeo.disconnect()
    await server.quiet()
    expect(shown(rosaline)).toEqual(['orchard: unavailable'])
  })

  test('directed presence to more than can be taken back is resource-constraint, and is not sent', async () => {
    await using server = await cast()
    const romeo = await server.connect(`${ROMEO}/orchard`)
    for (let i = 0; i < 1_000; i++) direct(romeo, `nobody@example.org/${i}`)
    await server.quiet()
    const paris = await server.online('paris@example.org/tomb')
    direct(romeo, 'paris@example.org/tomb')
    await server.quiet()
    expect(romeo.received.map(({ type }) => type)).toEqual(['error'])
    expect(shown(paris, ROMEO)).toEqual([])
  })
})

describe('RFC 6121 §4.3.2 probes', () => {
  test('a contact that may see the account is told of each available resource', async () => {
    await using server = await cast()
    await server.online(`${ROMEO}/orchard`)
    await server.online(`${ROMEO}/phone`, -5)
    const rosaline = await server.online(`${ROSALINE}/hall`)
    rosaline.received.length = 0
    direct(rosaline, ROMEO, 'probe')
    await server.quiet()
    expect(shown(rosaline).sort()).toEqual(['orchard: available', 'phone: available'])
    expect(rosaline.received[0]!.to?.full).toBe(`${ROSALINE}/hall`)
  })

  test('a probe to a full JID is answered for that resource', async () => {
    await using server = await cast()
    await server.online(`${ROMEO}/orchard`)
    await server.online(`${ROMEO}/phone`)
    const rosaline = await server.online(`${ROSALINE}/hall`)
    rosaline.received.length = 0
    direct(rosaline, `${ROMEO}/phone`, 'probe')
    direct(rosaline, `${ROMEO}/elsewhere`, 'probe')
    await server.quiet()
    expect(shown(rosaline)).toEqual(['phone: available', 'elsewhere: unavailable'])
  })

  test.each(['online', 'offline'])(
    'a stranger learns nothing of an account that is %s: unsubscribed, which his server keeps to itself (A.3.4)',
    async (state) => {
      await using server = await cast()
      if (state === 'online') await server.online(`${ROMEO}/orchard`)
      const paris = await server.online('paris@example.org/tomb')
      paris.received.length = 0
      direct(paris, ROMEO, 'probe')
      await server.quiet()
      expect(paris.received).toEqual([])
    },
  )

  test('who sees a contact that does not know of it learns that he does not (a roster that was restored)', async () => {
    await using server = await cast()
    const juliet = await server.online(`${JULIET}/balcony`)
    await juliet.get(el('query', 'jabber:iq:roster'))
    // Romeo loses his row of Juliet without her being told.
    await server.process.table.delete({ pk: `a#${ROMEO}`, sk: `roster#${JULIET}` })
    await using restarted = await harness([], { table: server.process.table })
    const late = await restarted.connect(`${JULIET}/chamber`)
    await late.get(el('query', 'jabber:iq:roster'))
    await restarted.online(`${ROMEO}/orchard`)
    late.available()
    await restarted.quiet()
    const roster = await late.get(el('query', 'jabber:iq:roster'))
    expect(roster.children).toMatchObject([{ attrs: { jid: ROMEO, subscription: 'from' } }])
    expect(shown(late, ROMEO)).toContain('romeo: unsubscribed')
    expect(shown(late, ROMEO)).not.toContain('orchard: available')
  })
})

describe('presence while the table is away, or hooks wait for it', () => {
  test('is acked and broadcast when the roster could be read', async () => {
    const table = flakyTable()
    const clock = manualClock()
    await using earlier = await cast({ table })
    await earlier.stop()
    await using server = await harness([], { table, clock })
    const juliet = await server.online(`${JULIET}/balcony`)
    const romeo = await server.bind(`${ROMEO}/orchard`)
    server.process.readings.drop(ROMEO) // else presence has his roster of the router
    table.away = true
    show(romeo, 'one')
    show(romeo, 'two')
    for (let i = 0; i < 10; i++) await clock.settle(1_000)
    expect([romeo.settled, shown(juliet, ROMEO)]).toEqual([false, []])
    table.away = false
    for (let i = 0; i < 10; i++) await clock.settle(1_000)
    await server.quiet()
    expect(shown(juliet, ROMEO)).toEqual(['orchard: one', 'orchard: two'])
    expect(shown(romeo, JULIET)).toEqual(['balcony: available'])
  })

  test('no inbound hook is asked about a broadcast: who does not want it does not watch; about directed presence it is', async () => {
    const asked: string[] = []
    const guard = defineModule({
      name: 'guard',
      home: 'router',
      xeps: [],
      setup(app) {
        app.guard('inbound', ({ name, type, from, to }, { account }) => {
          if (app.role === 'presence' && name === 'presence' && type === '')
            asked.push(`${from.local} to ${account.local}${to === undefined ? '' : ', directed'}`)
        })
      },
    })
    await using server = await harness([guard])
    await subscribe(server, ROMEO, JULIET)
    const [romeo, juliet] = [await server.online(`${ROMEO}/orchard`), await server.online(`${JULIET}/balcony`)]
    show(romeo, 'here')
    await server.quiet()
    expect([asked, shown(juliet, ROMEO)]).toEqual([[], ['orchard: available', 'orchard: here']])
    direct(romeo, JULIET)
    await server.quiet()
    expect(asked).toEqual(['romeo to juliet, directed'])
  })

  test('a stamp that takes its time, or rewrites, keeps the order of what a watcher sees', async () => {
    const stamp = defineModule({
      name: 'stamp',
      home: 'router',
      xeps: [],
      setup(app) {
        let n = 0
        app.stamp('inbound', async (stanza) => {
          for (let turns = n++ % 3; turns > 0; turns--) await new Promise((resolve) => setImmediate(resolve))
          return stanza
        })
      },
    })
    await using server = await harness([stamp])
    await subscribe(server, ROMEO, JULIET)
    const [romeo, juliet] = [await server.online(`${ROMEO}/orchard`), await server.online(`${JULIET}/balcony`)]
    juliet.received.length = 0
    const texts = Array.from({ length: 30 }, (_, i) => `${i}`)
    for (const text of texts) romeo.send(romeo.stanza('presence', { to: parseJid(JULIET) }, status(text)))
    await server.quiet()
    expect(shown(juliet)).toEqual(texts.map((text) => `orchard: ${text}`))
  })
})

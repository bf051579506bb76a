import { describe, expect, test } from 'vitest'
import { manualClock } from '#core/clock.ts'
import { type AnyModule, defineModule } from '#core/module.ts'
import { CONFIRM_TIMEOUT_MS } from '#core/storage/shared.ts'
import { memoryTable } from '#table/memory.ts'
import { type Table, TableUnavailable } from '#table/table.ts'
import { type Answer, type HarnessOptions, harness, type TestClient, type TestServer } from '#test/harness.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT, NS_ROSTER } from '#xmpp/ns.ts'
import { childrenOf, type Element, el, find, type Stanza } from '#xmpp/stanza.ts'
import blocking, { blocks, type Report } from './blocking.ts'
import disco from './disco.ts'
import offline from './offline.ts'

const NS = 'urn:xmpp:blocking'
const ROMEO = 'romeo@example.org'
const JULIET = 'juliet@example.org'
const item = (jid: string, ...children: readonly Element[]) => el('item', NS, { jid }, ...children)
const block = (...jids: readonly string[]) => el('block', NS, {}, ...jids.map((jid) => item(jid)))
const unblock = (...jids: readonly string[]) => el('unblock', NS, {}, ...jids.map((jid) => item(jid)))

async function listOf(client: TestClient): Promise<(string | undefined)[]> {
  return childrenOf(await client.get(el('blocklist', NS)), 'item', NS).map(({ attrs }) => attrs.jid)
}

/** Sends it and tells what came back: the condition, and the application's own. */
async function refusalOf(server: TestServer, client: TestClient, sent: Stanza): Promise<string[]> {
  const from = client.received.length
  client.send(sent)
  await server.quiet()
  const errors = client.received.slice(from).filter(({ type }) => type === 'error')
  return errors.flatMap((error) => find(error, 'error', NS_CLIENT)!.children.map((child) => (child as Element).name))
}

function presences(client: TestClient, from: string): string[] {
  const came = client.received.filter((stanza) => stanza.name === 'presence' && stanza.from.bare === from)
  return came.map(({ type, from }) => `${type || 'available'} ${from.resource}`.trim())
}

/** Romeo and Juliet, each online once and subscribed to the other. What made it so has been taken. */
async function lovers(modules: readonly AnyModule[] = [blocking], options: HarnessOptions = {}) {
  const server = await harness(modules, options)
  const romeo = await server.online(`${ROMEO}/orchard`)
  const juliet = await server.online(`${JULIET}/balcony`)
  const say = async (by: TestClient, to: TestClient, type: string) => {
    by.send(by.stanza('presence', { to: parseJid(to.jid.bare), type }))
    await server.quiet()
  }
  await say(romeo, juliet, 'subscribe')
  await say(juliet, romeo, 'subscribed')
  await say(juliet, romeo, 'subscribe')
  await say(romeo, juliet, 'subscribed')
  romeo.received.length = 0
  juliet.received.length = 0
  return { server, romeo, juliet, [Symbol.asyncDispose]: () => server.stop() }
}

describe('XEP-0191 §3.1 User Discovers Support', () => {
  test('the server announces urn:xmpp:blocking, and the reports of XEP-0377 §3', async () => {
    await using server = await harness([disco, blocking])
    const romeo = await server.connect(`${ROMEO}/orchard`)
    const info = await romeo.get(el('query', 'http://jabber.org/protocol/disco#info'), 'example.org')
    const features = childrenOf(info, 'feature', info.ns).map(({ attrs }) => attrs.var)
    expect(features).toEqual(expect.arrayContaining([NS, 'urn:xmpp:reporting:1']))
  })
})

describe('XEP-0191 §3.2 User Retrieves Block List', () => {
  test('an account that blocks nobody gets an empty list', async () => {
    await using server = await harness([blocking])
    expect(await (await server.connect(`${ROMEO}/orchard`)).get(el('blocklist', NS))).toEqual(el('blocklist', NS))
  })

  test('the list is what was blocked, each once, prepared, also after a restart', async () => {
    const table = memoryTable()
    await using server = await harness([blocking], { table })
    const romeo = await server.connect(`${ROMEO}/orchard`)
    await romeo.iq('set', block('Tybalt@Example.org', 'paris@example.org/Church'))
    await romeo.iq('set', block('tybalt@example.org', 'spam.example'))
    const expected = ['tybalt@example.org', 'paris@example.org/Church', 'spam.example']
    expect(await listOf(romeo)).toEqual(expected)
    await server.stop()
    await using restarted = await harness([blocking], { table })
    expect(await listOf(await restarted.connect(`${ROMEO}/orchard`))).toEqual(expected)
  })

  test('it is nobody else’s business', async () => {
    await using server = await harness([blocking])
    await server.account(JULIET)
    const romeo = await server.connect(`${ROMEO}/orchard`)
    expect(await romeo.iq('get', el('blocklist', NS), JULIET)).toMatchObject({ condition: 'service-unavailable' })
    expect(await romeo.iq('set', block('paris@example.org'), JULIET)).toMatchObject({ condition: 'service-unavailable' })
  })

  test('it goes with the account: whoever has the name next blocks nobody', async () => {
    await using server = await harness([blocking])
    const romeo = await server.online(`${ROMEO}/orchard`)
    await romeo.iq('set', block(JULIET))
    await server.caller.ask('router', ROMEO, 'account.remove', {})
    await server.quiet()
    expect(await listOf(await server.connect(`${ROMEO}/orchard`))).toEqual([])
  })
})

describe('XEP-0191 §3.3 User Blocks JID: the command', () => {
  test.each<[string, Element, string]>([
    ['that names no item is bad-request', el('block', NS), 'bad-request'],
    ['whose item has no jid is bad-request', el('block', NS, {}, el('item', NS)), 'bad-request'],
    ['whose jid is none is jid-malformed', block(JULIET, '@example.org'), 'jid-malformed'],
    ['of items in another namespace names none', el('block', NS, {}, el('item', 'urn:other', { jid: JULIET })), 'bad-request'],
  ])('one %s, and blocks nobody', async (_name, command, condition) => {
    await using server = await harness([blocking])
    const romeo = await server.connect(`${ROMEO}/orchard`)
    expect(await romeo.iq('set', command)).toMatchObject({ condition })
    expect(await listOf(romeo)).toEqual([])
  })

  test('one that goes over the limit is resource-constraint, and nothing of it is kept', async () => {
    await using server = await harness([blocking], { modules: { blocking: { jidsMax: 2 } } })
    const romeo = await server.connect(`${ROMEO}/orchard`)
    expect(await romeo.iq('set', block('a@b', 'b@b', 'c@b'))).toMatchObject({ condition: 'resource-constraint', type: 'wait' })
    expect(await listOf(romeo)).toEqual([])
    expect(await romeo.iq('set', block('a@b', 'b@b', 'a@b'))).toBeUndefined()
    expect(await romeo.iq('set', block('a@b'))).toBeUndefined() // what is there needs no room
  })

  test('a list longer than a row is resource-constraint, and not our own fault', async () => {
    await using server = await harness([blocking], { modules: { blocking: { jidsMax: 10_000 } } })
    const romeo = await server.connect(`${ROMEO}/orchard`)
    const answers: Answer[] = []
    for (let part = 0; part < 4; part++) {
      const jids = Array.from({ length: 100 }, (_, i) => `a@b/${part} ${i} ${'x'.repeat(1_000)}`)
      answers.push(await romeo.iq('set', block(...jids)))
    }
    expect(answers).toMatchObject([
      undefined,
      undefined,
      { condition: 'resource-constraint' },
      { condition: 'resource-constraint' },
    ])
    expect(await listOf(romeo)).toHaveLength(200)
  })

  test('every resource that has asked for the list is told what was blocked, and no other', async () => {
    await using server = await harness([blocking])
    const [one, two, three] = [
      await server.connect(`${ROMEO}/1`),
      await server.connect(`${ROMEO}/2`),
      await server.connect(`${ROMEO}/3`),
    ]
    for (const client of [one, two]) await listOf(client)
    await one.iq('set', block(JULIET, 'paris@example.org'))
    await three.iq('set', unblock(JULIET))
    await three.iq('set', unblock())
    await server.quiet()
    const pushes = (client: TestClient) => client.received.filter(({ type }) => type === 'set')
    expect(pushes(three)).toEqual([])
    for (const client of [one, two]) {
      expect(pushes(client).map((push) => push.tree()[0])).toEqual([
        block(JULIET, 'paris@example.org'),
        unblock(JULIET),
        unblock(),
      ])
      for (const push of pushes(client)) expect(push).toMatchObject({ from: parseJid(ROMEO), to: client.jid })
      expect(new Set(pushes(client).map(({ id }) => id)).size).toBe(3)
    }
  })
})

describe('XEP-0191 §3.3 what a blocked JID sends', () => {
  test('a message is answered service-unavailable, and not delivered', async () => {
    await using all = await lovers()
    await all.romeo.iq('set', block(JULIET))
    const message = all.juliet.stanza('message', { to: parseJid(ROMEO), type: 'chat' }, el('body', NS_CLIENT, {}, 'Ay me!'))
    expect(await refusalOf(all.server, all.juliet, message)).toEqual(['service-unavailable'])
    expect(all.romeo.bodies()).toEqual([])
  })

  test('an iq get or set is answered service-unavailable, to the account as to a resource; results and errors are dropped', async () => {
    await using all = await lovers([blocking, disco])
    const query = el('query', 'http://jabber.org/protocol/disco#info')
    await all.romeo.iq('set', block(JULIET))
    all.romeo.received.length = 0
    for (const to of [ROMEO, `${ROMEO}/orchard`])
      expect(await all.juliet.iq('get', query, to)).toMatchObject({ condition: 'service-unavailable' })
    for (const [name, type] of [
      ['iq', 'result'],
      ['iq', 'error'],
      ['message', 'error'],
    ] as const) {
      const answer = all.juliet.stanza(name, { to: parseJid(`${ROMEO}/orchard`), type, id: 'x' })
      expect(await refusalOf(all.server, all.juliet, answer)).toEqual([])
    }
    expect(all.romeo.received).toEqual([])
  })

  test.each(['', 'unavailable', 'subscribe', 'subscribed', 'unsubscribe', 'unsubscribed', 'probe', 'error'])(
    'presence of type "%s" is neither delivered nor answered',
    async (type) => {
      await using all = await lovers()
      await all.romeo.iq('set', block(JULIET))
      await all.server.quiet()
      for (const client of [all.romeo, all.juliet]) client.received.length = 0
      for (const to of [ROMEO, `${ROMEO}/orchard`]) all.juliet.send(all.juliet.stanza('presence', { to: parseJid(to), type }))
      await all.server.quiet()
      const fromOthers = ({ from, type }: Stanza) => from.bare !== all.juliet.jid.bare && type !== 'set'
      expect(all.romeo.received).toEqual([])
      expect(all.juliet.received.filter(fromOthers)).toEqual([])
    },
  )

  test('its broadcasts are not seen, and its request to subscribe is not kept for later', async () => {
    await using all = await lovers()
    const paris = await all.server.online('paris@example.org/church')
    await all.romeo.iq('set', block(JULIET, 'paris@example.org'))
    await all.server.quiet()
    all.romeo.received.length = 0
    paris.send(paris.stanza('presence', { to: parseJid(ROMEO), type: 'subscribe' }))
    all.juliet.available(5)
    await all.server.quiet()
    expect(all.romeo.received).toEqual([])
    await all.romeo.iq('set', unblock('paris@example.org'))
    const later = await all.server.online(`${ROMEO}/later`)
    expect(later.received.filter(({ type }) => type === 'subscribe')).toEqual([])
  })

  test('a request that waits since before is not shown while its sender is blocked', async () => {
    await using server = await harness([blocking])
    const paris = await server.online('paris@example.org/church')
    const romeo = await server.connect(`${ROMEO}/orchard`)
    paris.send(paris.stanza('presence', { to: parseJid(ROMEO), type: 'subscribe' }))
    await server.quiet()
    await romeo.iq('set', block('paris@example.org'))
    const requests = async (full: string) =>
      (await server.online(full)).received.filter(({ type }) => type === 'subscribe').length
    expect(await requests(`${ROMEO}/blocking`)).toBe(0)
    await romeo.iq('set', unblock())
    expect(await requests(`${ROMEO}/unblocked`)).toBe(1)
  })

  test('a message is not kept for later, and one that was kept before is not delivered any more', async () => {
    await using server = await harness([offline, blocking])
    const romeo = await server.connect(`${ROMEO}/orchard`)
    const [juliet, nurse] = [await server.connect(`${JULIET}/balcony`), await server.connect('nurse@example.org/room')]
    for (const client of [juliet, nurse]) client.message(ROMEO, `before, ${client.jid.local}`)
    await server.quiet()
    await romeo.iq('set', block(JULIET))
    for (const client of [juliet, nurse]) client.message(ROMEO, `after, ${client.jid.local}`)
    await server.quiet()
    await romeo.iq('set', unblock()) // the block of the second was in force when it came
    await romeo.iq('set', block('paris@example.org'))
    romeo.available()
    await server.quiet()
    expect(romeo.bodies()).toEqual(['before, juliet', 'before, nurse', 'after, nurse'])

    romeo.disconnect()
    await server.quiet()
    for (const client of [juliet, nurse]) client.message(ROMEO, `again, ${client.jid.local}`)
    await server.quiet()
    const back = await server.connect(`${ROMEO}/back`)
    await back.iq('set', block(JULIET))
    back.available()
    await server.quiet()
    expect(back.bodies()).toEqual(['again, nurse'])
  })

  test('two who block each other get what is owed to the one who sends', async () => {
    await using all = await lovers()
    await all.romeo.iq('set', block(JULIET))
    await all.juliet.iq('set', block(ROMEO))
    const message = all.juliet.stanza('message', { to: parseJid(ROMEO), type: 'chat' })
    expect(await refusalOf(all.server, all.juliet, message)).toEqual(['not-acceptable', 'blocked'])
  })
})

describe('XEP-0191 §3.3 what is sent to a blocked JID', () => {
  test.each<[string, (romeo: TestClient) => Stanza]>([
    [
      'message',
      (romeo) => romeo.stanza('message', { to: parseJid(JULIET), type: 'chat' }, el('body', NS_CLIENT, {}, 'But soft!')),
    ],
    [
      'iq',
      (romeo) => romeo.stanza('iq', { to: parseJid(`${JULIET}/balcony`), type: 'get', id: 'q' }, el('ping', 'urn:xmpp:ping')),
    ],
    ['iq to the account', (romeo) => romeo.stanza('iq', { to: parseJid(JULIET), type: 'get', id: 'q' }, el('query', NS_ROSTER))],
    ['presence', (romeo) => romeo.stanza('presence', { to: parseJid(JULIET) })],
    ['subscription', (romeo) => romeo.stanza('presence', { to: parseJid(JULIET), type: 'unsubscribed' })],
  ])('%s: is not-acceptable with blocked, and goes nowhere', async (_name, made) => {
    await using all = await lovers()
    await all.romeo.iq('set', block(JULIET))
    await all.server.quiet()
    all.juliet.received.length = 0
    expect(await refusalOf(all.server, all.romeo, made(all.romeo))).toEqual(['not-acceptable', 'blocked'])
    const error = find(all.romeo.received.at(-1)!, 'error', NS_CLIENT)!
    expect(error.attrs.type).toBe('cancel')
    expect(error.children.at(-1)).toEqual(el('blocked', 'urn:xmpp:blocking:errors'))
    expect(all.juliet.received).toEqual([])
  })

  test('the answer to an iq of his is dropped without an error', async () => {
    await using all = await lovers()
    await all.romeo.iq('set', block(JULIET))
    const answer = all.romeo.stanza('iq', { to: parseJid(`${JULIET}/balcony`), type: 'result', id: 'q' })
    expect(await refusalOf(all.server, all.romeo, answer)).toEqual([])
    expect(all.juliet.received.filter(({ name }) => name === 'iq')).toEqual([])
  })

  test('one’s own resources, one’s account and one’s host are never blocked (§5)', async () => {
    await using all = await lovers([blocking, disco])
    const other = await all.server.online(`${ROMEO}/other`)
    expect(await all.romeo.iq('set', block(ROMEO, `${ROMEO}/other`, 'example.org'))).toBeUndefined()
    all.romeo.message(`${ROMEO}/other`, 'to myself')
    all.romeo.available(1)
    await all.server.quiet()
    expect(other.bodies()).toEqual(['to myself'])
    expect(presences(other, ROMEO)).toContain('available orchard')
    const info = el('query', 'http://jabber.org/protocol/disco#info')
    for (const to of ['example.org', ROMEO]) expect(await all.romeo.get(info, to)).toMatchObject({ name: 'query' })
    expect(await refusalOf(all.server, all.romeo, all.romeo.stanza('message', { to: parseJid(JULIET) }))).toEqual([
      'not-acceptable',
      'blocked',
    ])
  })
})

describe('XEP-0191 §3.3 and §3.4 presence', () => {
  test('who may see it is told that the user is gone, and the user that he is (XEP-0016 §2.10); then nothing more', async () => {
    await using all = await lovers()
    await all.romeo.iq('set', block(JULIET))
    await all.server.quiet()
    expect(presences(all.juliet, ROMEO)).toEqual(['unavailable orchard'])
    expect(presences(all.romeo, JULIET)).toEqual(['unavailable'])
    all.romeo.available(3)
    await all.server.online(`${ROMEO}/cell`)
    all.romeo.disconnect()
    await all.server.quiet()
    expect(presences(all.juliet, ROMEO)).toEqual(['unavailable orchard'])
    const later = await all.server.online(`${JULIET}/later`)
    expect(presences(later, ROMEO)).toEqual([])
  })

  test('who may not see it is told nothing, blocked or unblocked', async () => {
    await using all = await lovers()
    const paris = await all.server.online('paris@example.org/church')
    await all.romeo.iq('set', block('paris@example.org'))
    await all.romeo.iq('set', unblock('paris@example.org'))
    await all.server.quiet()
    expect(presences(paris, ROMEO)).toEqual([])
  })

  test('directed presence is taken back, from every resource', async () => {
    await using all = await lovers()
    const paris = await all.server.online('paris@example.org/church')
    const cell = await all.server.connect(`${ROMEO}/cell`) // has said nothing to anybody else
    for (const client of [all.romeo, cell]) client.send(client.stanza('presence', { to: paris.jid }))
    await all.server.quiet()
    paris.received.length = 0
    await all.romeo.iq('set', block('paris@example.org'))
    await all.server.quiet()
    expect(presences(paris, ROMEO).sort()).toEqual(['unavailable cell', 'unavailable orchard'])
    for (const client of [all.romeo, cell]) client.disconnect()
    await all.server.quiet()
    expect(presences(paris, ROMEO)).toHaveLength(2)
  })

  test('unblocking shows what there is now, and asks for what he shows', async () => {
    await using all = await lovers()
    await all.romeo.iq('set', block(JULIET))
    const cell = await all.server.online(`${ROMEO}/cell`)
    all.juliet.available(7)
    await all.server.quiet()
    for (const client of [all.romeo, cell, all.juliet]) client.received.length = 0
    await all.romeo.iq('set', unblock(JULIET))
    await all.server.quiet()
    expect(presences(all.juliet, ROMEO).sort()).toEqual(['available cell', 'available orchard'])
    for (const client of [all.romeo, cell]) expect(presences(client, JULIET)).toEqual(['available balcony'])
    all.romeo.message(JULIET, 'I take thee at thy word')
    all.juliet.message(ROMEO, 'What man art thou?')
    await all.server.quiet()
    expect([all.juliet.bodies(), cell.bodies()]).toEqual([['I take thee at thy word'], ['What man art thou?']])
  })

  test('unblocking a domain does not show it to one who is blocked by name', async () => {
    await using all = await lovers()
    await all.romeo.iq('set', block('example.org'))
    await all.romeo.iq('set', block(JULIET))
    await all.romeo.iq('set', unblock('example.org'))
    await all.server.quiet()
    expect(presences(all.juliet, ROMEO)).toEqual(['unavailable orchard'])
    await all.romeo.iq('set', unblock())
    await all.server.quiet()
    expect(presences(all.juliet, ROMEO)).toEqual(['unavailable orchard', 'available orchard'])
  })

  test('§3.5 an empty unblock unblocks all', async () => {
    await using all = await lovers()
    await all.romeo.iq('set', block(JULIET, 'paris@example.org', 'spam.example'))
    expect(await all.romeo.iq('set', unblock())).toBeUndefined()
    await all.server.quiet()
    expect(await listOf(all.romeo)).toEqual([])
    expect(presences(all.juliet, ROMEO)).toEqual(['unavailable orchard', 'available orchard'])
  })

  test('§3.4 unblocking one who is not blocked changes nothing', async () => {
    await using all = await lovers()
    expect(await all.romeo.iq('set', unblock(JULIET))).toBeUndefined()
    await all.server.quiet()
    expect(presences(all.juliet, ROMEO)).toEqual([])
  })

  test('§4 subscriptions stay as they are', async () => {
    await using all = await lovers()
    await all.romeo.iq('set', block(JULIET))
    for (const client of [all.romeo, all.juliet]) {
      const [contact] = childrenOf(await client.get(el('query', NS_ROSTER)), 'item', NS_ROSTER)
      expect(contact?.attrs.subscription).toBe('both')
    }
  })

  test('it holds after a restart, from the first presence on', async () => {
    const table = memoryTable()
    await using all = await lovers([blocking], { table })
    await all.romeo.iq('set', block(JULIET))
    await all.server.stop()
    await using server = await harness([blocking], { table })
    const juliet = await server.online(`${JULIET}/balcony`)
    const romeo = await server.online(`${ROMEO}/orchard`)
    juliet.available(2)
    await server.quiet()
    expect([presences(juliet, ROMEO), presences(romeo, JULIET)]).toEqual([[], []])
  })
})

describe('XEP-0191 §6 JID Matching', () => {
  const me = parseJid(ROMEO)
  test.each([
    [
      'user@domain/resource',
      'juliet@a.example/r',
      ['juliet@a.example/r'],
      ['juliet@a.example', 'juliet@a.example/s', 'a.example/r'],
    ],
    ['user@domain', 'juliet@a.example', ['juliet@a.example', 'juliet@a.example/r'], ['nurse@a.example', 'a.example']],
    ['domain/resource', 'a.example/r', ['a.example/r'], ['a.example', 'a.example/s', 'juliet@a.example']],
    [
      'domain',
      'a.example',
      ['a.example', 'a.example/r', 'juliet@a.example', 'juliet@a.example/r'],
      ['b.a.example', 'a.example.com', 'a@b.example/a.example'],
    ],
  ])('%s', (_form, blocked, matched, others) => {
    const test = (jid: string) => blocks([blocked], me, parseJid(jid))
    expect(matched.map(test)).toEqual(matched.map(() => true))
    expect(others.map(test)).toEqual(others.map(() => false))
  })

  test('the user himself and his host match nothing, other users of his domain do', () => {
    const test = (jid: string) => blocks(['example.org', ROMEO], me, parseJid(jid))
    expect([ROMEO, `${ROMEO}/x`, 'example.org', 'example.org/x', JULIET].map(test)).toEqual([false, false, false, false, true])
  })

  test('one resource is blocked, and the other is not', async () => {
    await using all = await lovers()
    const cell = await all.server.online(`${JULIET}/cell`)
    await all.romeo.iq('set', block(`${JULIET}/balcony`))
    all.juliet.message(ROMEO, 'from the balcony')
    cell.message(ROMEO, 'from the cell')
    await all.server.quiet()
    expect(all.romeo.bodies()).toEqual(['from the cell'])
    expect(presences(all.juliet, ROMEO)).toEqual(['unavailable orchard'])
    expect(presences(all.romeo, JULIET)).toEqual(['available cell', 'unavailable balcony'])
  })
})

describe('the answer to a command says that it is in force', () => {
  test('in both roles, for whatever is sent after it', async () => {
    await using all = await lovers()
    const answer = all.romeo.iq('set', block(JULIET)).then(() => {
      all.juliet.available(9)
      all.juliet.message(ROMEO, 'too late')
    })
    await answer
    await all.server.quiet()
    expect(presences(all.romeo, JULIET)).toEqual(['unavailable'])
    expect(all.romeo.bodies()).toEqual([])
  })

  test('where presence does not confirm, it is an error of type wait: messages are blocked, and presence follows', async () => {
    const clock = manualClock()
    const table = halfTable()
    await using all = await lovers([blocking], { clock, table })
    table.readable = false
    const first = all.romeo.iq('set', block(JULIET))
    await turns()
    clock.advance(CONFIRM_TIMEOUT_MS)
    expect(await first).toMatchObject({ condition: 'resource-constraint', type: 'wait' })
    all.juliet.message(ROMEO, 'Ay me!')
    await turns()
    expect([all.romeo.bodies(), presences(all.juliet, ROMEO)]).toEqual([[], []])
    expect(await listOf(all.romeo)).toEqual([JULIET])
    expect(await all.romeo.iq('set', unblock())).toMatchObject({ condition: 'resource-constraint', type: 'wait' }) // not before

    table.readable = true
    clock.advance(10_000)
    await all.server.quiet()
    expect(presences(all.juliet, ROMEO)).toEqual(['unavailable orchard'])
    expect(await all.romeo.iq('set', block(JULIET))).toBeUndefined()
    await all.server.quiet()
    expect(presences(all.juliet, ROMEO)).toEqual(['unavailable orchard'])
  })
})

describe('XEP-0377', () => {
  const NS_REPORTING = 'urn:xmpp:reporting:1'
  const SPAM = { reason: 'urn:xmpp:reporting:spam' }

  function listener() {
    const reports: Report[] = []
    const module = defineModule({
      name: 'listener',
      home: 'router',
      xeps: [],
      setup: (app) => app.on('account.reported', (report) => void reports.push(report)),
    })
    return { reports, module }
  }

  test('§6 a report blocks, is told to whoever listens, logged without what the user wrote, and counted', async () => {
    const { reports, module } = listener()
    await using server = await harness([blocking, module])
    const romeo = await server.connect(`${ROMEO}/orchard`)
    const report = el(
      'report',
      NS_REPORTING,
      SPAM,
      el('stanza-id', 'urn:xmpp:sid:0', { by: ROMEO, id: '28482-98726-73623' }),
      el('text', NS_REPORTING, { 'xml:lang': 'en' }, 'Never came trouble to my house like this.'),
      el('third-party', NS_REPORTING),
    )
    await romeo.iq('set', el('block', NS, {}, item('paris@example.net/x', report), item(JULIET)))
    expect(await listOf(romeo)).toEqual(['paris@example.net/x', JULIET])
    expect(reports).toEqual([
      {
        reporter: parseJid(ROMEO),
        reported: parseJid('paris@example.net/x'),
        reason: SPAM.reason,
        texts: [{ lang: 'en', text: 'Never came trouble to my house like this.' }],
        stanzaIds: [{ by: ROMEO, id: '28482-98726-73623' }],
        mayTellOrigin: false,
        mayTellThirdParties: true,
      },
    ])
    const [line] = server.log.lines.filter(({ event }) => event === 'account.reported')
    expect(line?.fields).toMatchObject({ reporter: ROMEO, reported: 'paris@example.net/x', reason: SPAM.reason, messages: 1 })
    expect(JSON.stringify(line)).not.toContain('trouble')
    expect(server.process.metrics.text()).toContain('abuse_reports_total{reason="spam"} 1')
  })

  test('§4 a report without a reason is bad-request, and nobody is blocked', async () => {
    const { reports, module } = listener()
    await using server = await harness([blocking, module])
    const romeo = await server.connect(`${ROMEO}/orchard`)
    const answer = await romeo.iq('set', el('block', NS, {}, item(JULIET, el('report', NS_REPORTING))))
    expect(answer).toMatchObject({ condition: 'bad-request' })
    expect([await listOf(romeo), reports]).toEqual([[], []])
  })

  test('§6 one that comes with a block that is refused is not heard, and pushes do not repeat it', async () => {
    const { reports, module } = listener()
    await using server = await harness([blocking, module], { modules: { blocking: { jidsMax: 1 } } })
    const romeo = await server.connect(`${ROMEO}/orchard`)
    await listOf(romeo)
    const report = el('report', NS_REPORTING, { reason: 'urn:example:rude' })
    await romeo.iq('set', el('block', NS, {}, item('a@b', report), item('b@b', report)))
    expect(reports).toEqual([])
    await romeo.iq('set', el('block', NS, {}, item('a@b', report)))
    await server.quiet()
    expect(reports).toHaveLength(1)
    expect(romeo.received.find(({ type }) => type === 'set')?.tree()).toEqual([block('a@b')])
    expect(server.process.metrics.text()).toContain('abuse_reports_total{reason="other"} 1')
  })
})

/** A table that takes what is written, and cannot be read while it is not `readable`. */
function halfTable(): Table & { readable: boolean } {
  const table = memoryTable()
  const half = {
    readable: true,
    get: table.get.bind(table),
    put: table.put.bind(table),
    delete: table.delete.bind(table),
    query: (...asked: Parameters<Table['query']>) => {
      if (!half.readable) throw new TableUnavailable('the table cannot be read')
      return table.query(...asked)
    },
  }
  return half
}

async function turns(): Promise<void> {
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve))
}

import { describe, expect, test } from 'vitest'
import { manualClock } from '#core/clock.ts'
import { memoryTable } from '#table/memory.ts'
import { type HarnessOptions, harness, type TestClient, type TestServer } from '#test/harness.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT } from '#xmpp/ns.ts'
import { el } from '#xmpp/stanza.ts'
import last from './last.ts'

const NS = 'jabber:iq:last'
const QUERY = el('query', NS)
const JULIET = 'juliet@example.org'

interface Friends extends AsyncDisposable {
  readonly server: TestServer
  readonly clock: ReturnType<typeof manualClock>
  readonly romeo: TestClient
  readonly juliet: TestClient
}

/** Juliet lets Romeo see her presence, and not the other way round. Both are online. */
async function befriended(options: HarnessOptions = {}): Promise<Friends> {
  const clock = manualClock(Date.UTC(2002, 8, 10))
  const server = await harness([last], { clock, ...options })
  const romeo = await server.online('romeo@example.org/garden')
  const juliet = await server.online('juliet@example.org/balcony')
  romeo.send(romeo.stanza('presence', { type: 'subscribe', to: parseJid(JULIET) }))
  await server.quiet()
  juliet.send(juliet.stanza('presence', { type: 'subscribed', to: parseJid('romeo@example.org') }))
  await server.quiet()
  return { server, clock, romeo, juliet, [Symbol.asyncDispose]: () => server.stop() }
}

function leave(client: TestClient, ...statuses: readonly [text: string, lang?: string][]): void {
  const children = statuses.map(([text, lang]) => el('status', NS_CLIENT, { 'xml:lang': lang }, text))
  client.send(client.stanza('presence', { type: 'unavailable' }, ...children))
}

function seconds(n: number, status?: string) {
  return el('query', NS, { seconds: String(n) }, ...(status === undefined ? [] : [status]))
}

async function stored(server: TestServer): Promise<number> {
  return (await server.process.table.get({ pk: `a#${JULIET}`, sk: 'last' })) === undefined ? 0 : 1
}

describe('XEP-0012 §3 Offline User Query', () => {
  test('the seconds since the last logout, and the status of the last unavailable presence', async () => {
    await using friends = await befriended()
    const { server, clock, romeo, juliet } = friends
    leave(juliet, ['Unterwegs nach Hause', 'de'], ['Heading Home'])
    await server.quiet()
    clock.advance(903_999)
    expect(await romeo.get(QUERY, JULIET)).toEqual(seconds(903, 'Heading Home'))
    juliet.disconnect()
    await server.quiet()
    expect(await romeo.get(QUERY, JULIET)).toEqual(seconds(903, 'Heading Home'))
  })

  test('a stream that broke is a logout, without a status', async () => {
    await using friends = await befriended()
    const { server, clock, romeo, juliet } = friends
    juliet.disconnect()
    await server.quiet()
    clock.advance(60_000)
    expect(await romeo.get(QUERY, JULIET)).toEqual(seconds(60))
  })

  test('one available resource is enough for 0, and only the end of the last one is written', async () => {
    await using friends = await befriended()
    const { server, clock, romeo, juliet } = friends
    const chamber = await server.online('juliet@example.org/chamber')
    leave(juliet, ['not yet'])
    await server.quiet()
    clock.advance(60_000)
    expect(await romeo.get(QUERY, JULIET)).toEqual(seconds(0))
    expect(await stored(server)).toBe(0)
    leave(chamber, ['now'])
    await server.quiet()
    expect(await romeo.get(QUERY, JULIET)).toEqual(seconds(0, 'now'))
    expect(await stored(server)).toBe(1)
  })

  test('a resource that is connected and has sent no presence is not given away', async () => {
    await using friends = await befriended()
    const { server, clock, romeo, juliet } = friends
    leave(juliet)
    await server.quiet()
    const shy = await server.connect('juliet@example.org/shy')
    clock.advance(5_000)
    expect(await shy.get(QUERY)).toEqual(seconds(5)) // one's own account, without a `to`
    expect(await romeo.get(QUERY, JULIET)).toEqual(seconds(5))
  })

  test('who may not see the presence is answered forbidden, online or not', async () => {
    await using friends = await befriended()
    const { server, romeo, juliet } = friends
    const tybalt = await server.online('tybalt@example.org/street')
    const forbidden = { condition: 'forbidden', type: 'auth' }
    expect(await tybalt.iq('get', QUERY, JULIET)).toMatchObject(forbidden)
    expect(await juliet.iq('get', QUERY, 'romeo@example.org')).toMatchObject(forbidden)
    leave(romeo)
    await server.quiet()
    expect(await juliet.iq('get', QUERY, 'romeo@example.org')).toMatchObject(forbidden)
  })

  test('a contact that has never logged out is item-not-found', async () => {
    await using friends = await befriended({ modules: { last: { storeLogout: false } } })
    const { server, romeo, juliet } = friends
    leave(juliet, ['unheard'])
    await server.quiet()
    expect(await romeo.iq('get', QUERY, JULIET)).toMatchObject({ condition: 'item-not-found' })
    expect(await stored(server)).toBe(0) // also with `storeLogout` off
  })

  test('a status of any length is cut, and not within a character', async () => {
    await using friends = await befriended()
    const { server, romeo, juliet } = friends
    leave(juliet, [`${'x'.repeat(499)}\u{1F339}`])
    await server.quiet()
    expect(await romeo.get(QUERY, JULIET)).toEqual(seconds(0, 'x'.repeat(499)))
  })

  test('it outlives a restart, but not the account', async () => {
    const table = memoryTable()
    {
      await using friends = await befriended({ table })
      leave(friends.juliet, ['good night'])
      await friends.server.quiet()
    }
    const clock = manualClock(Date.UTC(2002, 8, 10, 1))
    await using server = await harness([last], { table, clock })
    const romeo = await server.connect('romeo@example.org/garden')
    expect(await romeo.get(QUERY, JULIET)).toEqual(seconds(3_600, 'good night'))
    await server.online('juliet@example.org/balcony') // who is online when she is removed logs out by that
    await server.caller.ask('router', JULIET, 'account.remove', {})
    await server.quiet()
    expect(await stored(server)).toBe(0)
    const heiress = await server.connect('juliet@example.org/balcony')
    expect(await heiress.iq('get', QUERY)).toMatchObject({ condition: 'item-not-found' })
  })
})

describe('XEP-0012 §4 Online User Query', () => {
  test('is delivered to the client for whoever may see the presence, and for the account itself', async () => {
    await using friends = await befriended()
    const { server, romeo, juliet } = friends
    const chamber = await server.connect('juliet@example.org/chamber')
    for (const asker of [romeo, chamber]) {
      const asked = asker.iq('get', QUERY, 'juliet@example.org/balcony')
      const came = await juliet.next(({ name }) => name === 'iq')
      expect(came).toMatchObject({ type: 'get', from: asker.jid, child: `{${NS}}query` })
      juliet.send(juliet.stanza('iq', { type: 'result', id: came.id, to: came.from }, seconds(123)))
      expect(await asked).toEqual(seconds(123))
    }
  })

  test('a subscription that has just ended no longer entitles', async () => {
    await using friends = await befriended()
    const { server, romeo, juliet } = friends
    juliet.send(juliet.stanza('presence', { type: 'unsubscribed', to: parseJid('romeo@example.org') }))
    await server.quiet()
    expect(await romeo.iq('get', QUERY, 'juliet@example.org/balcony')).toMatchObject({ condition: 'forbidden' })
  })

  test.each([['balcony'], ['nowhere']])('nobody else learns whether there is a resource %s', async (resource) => {
    await using friends = await befriended()
    const { server, juliet } = friends
    const tybalt = await server.connect('tybalt@example.org/street')
    const answer = await tybalt.iq('get', QUERY, `juliet@example.org/${resource}`)
    expect(answer).toMatchObject({ condition: 'forbidden', type: 'auth' })
    await server.quiet()
    expect(juliet.received.filter(({ name }) => name === 'iq')).toEqual([])
  })
})

describe('XEP-0012 §5 Server and Component Query', () => {
  test('the seconds the host has been running', async () => {
    await using friends = await befriended()
    const { clock, romeo } = friends
    clock.advance(123_456_000)
    expect(await romeo.get(QUERY, 'example.org')).toEqual(seconds(123_456))
  })
})

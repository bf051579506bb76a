import { describe, expect, test } from 'vitest'
import { defineModule } from '#core/module.ts'
import offline from '#modules/offline.ts'
import { flakyTable, harness, type TestClient, type TestServer } from '#test/harness.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT, NS_DELAY } from '#xmpp/ns.ts'
import { attr, childrenOf, el, find, type Stanza, type StanzaHead, type StanzaName, stanza } from '#xmpp/stanza.ts'

const ROMEO = 'romeo@example.org'
const JULIET = 'juliet@example.org/balcony'
const STAMP = '2020-02-03T04:05:06Z'
const note = () => el('delay', NS_DELAY, { from: 'example.org', stamp: STAMP })

/** Sees what passes the hooks. */
function witness(seen: string[]) {
  return defineModule({
    name: 'witness',
    home: 'router',
    xeps: [],
    setup(app) {
      for (const point of ['outbound', 'inbound'] as const) app.guard(point, (stanza) => void seen.push(`${point} ${stanza.id}`))
    },
  })
}

/** As an edge hands back what a session has not acknowledged. Resolves when it is acked. */
function giveBack(server: TestServer, name: StanzaName, head: StanzaHead & { from?: string } = {}): Promise<void> {
  const { from = JULIET, ...rest } = head
  const one = stanza(name, parseJid(from), { to: parseJid(ROMEO), id: 'm1', ...rest }, el('body', NS_CLIENT, {}, 'hello'), note())
  return new Promise((resolve) => {
    const envelope = { kind: 'stanza', point: 'returned', account: ROMEO, origin: undefined, stanza: one } as const
    server.lanes.send('router', ROMEO, envelope, () => resolve())
  })
}

const messagesOf = (client: TestClient): Stanza[] => client.received.filter(({ name }) => name === 'message')
const errorOf = (stanza: Stanza | undefined): string | undefined =>
  stanza && (find(stanza, 'error', NS_CLIENT)?.children[0] as { name: string } | undefined)?.name
const stampsOf = (stanza: Stanza): string[] =>
  childrenOf({ name: '', ns: '', attrs: {}, children: stanza.tree() }, 'delay', NS_DELAY).map((delay) => attr(delay, 'stamp'))

describe('XEP-0198 §4 what a session has not acknowledged', () => {
  test('goes to the resources that are there now, past all hooks, with its note', async () => {
    const seen: string[] = []
    await using server = await harness([offline, witness(seen)])
    const phone = await server.online(`${ROMEO}/phone`)
    seen.length = 0
    await giveBack(server, 'message', { type: 'chat' })
    await giveBack(server, 'message', { type: 'chat', to: parseJid(`${ROMEO}/gone`), id: 'm2' })
    await server.quiet()
    expect(messagesOf(phone).map(({ id }) => id)).toEqual(['m1', 'm2'])
    expect(stampsOf(messagesOf(phone)[0]!)).toEqual([STAMP])
    expect(seen).toEqual([])
  })

  test('is kept where nobody is there, and comes later with the time it came first, once', async () => {
    await using server = await harness([offline])
    await server.account(ROMEO)
    await giveBack(server, 'message', { type: 'chat' })
    const phone = await server.online(`${ROMEO}/phone`)
    expect(messagesOf(phone).map(stampsOf)).toEqual([[STAMP]])
    await giveBack(server, 'message', { type: 'chat', id: 'm2', to: parseJid(`${ROMEO}/phone`) })
    await server.quiet()
    expect(messagesOf(phone).map(({ id }) => id)).toEqual(['m1', 'm2'])
  })

  test('is acked when it is kept for good', async () => {
    const table = flakyTable()
    await using server = await harness([offline], { table })
    await server.account(ROMEO)
    table.away = true
    let acked = false
    const back = giveBack(server, 'message', { type: 'chat' }).then(() => (acked = true))
    for (let n = 0; n < 50; n++) await new Promise((resolve) => setImmediate(resolve))
    expect(acked).toBe(false)
    table.away = false
    await back
    await using restarted = await harness([offline], { table })
    expect(messagesOf(await restarted.online(`${ROMEO}/phone`))).toHaveLength(1)
  })

  test('is answered service-unavailable where nobody keeps it', async () => {
    await using server = await harness([])
    await server.account(ROMEO)
    const juliet = await server.online(JULIET)
    await giveBack(server, 'message', { type: 'chat' })
    await server.quiet()
    expect(errorOf(messagesOf(juliet)[0])).toBe('service-unavailable')
  })

  test.each([
    ['message', 'normal', 'to a resource that is gone'],
    ['iq', 'get', 'whoever is there now'],
    ['iq', 'set', 'whoever is there now'],
  ] as const)('a %s of type %s, %s, is answered service-unavailable', async (name, type, _where) => {
    await using server = await harness([offline])
    await server.online(`${ROMEO}/phone`)
    const juliet = await server.online(JULIET)
    const to = parseJid(`${ROMEO}/garden`)
    await giveBack(server, name, { type, to })
    await server.quiet()
    const answer = juliet.received.find((came) => came.type === 'error')
    expect([answer?.name, answer?.from.full, errorOf(answer)]).toEqual([name, to.full, 'service-unavailable'])
  })

  test.each([
    ['presence', ''],
    ['presence', 'unavailable'],
    ['iq', 'result'],
    ['iq', 'error'],
    ['message', 'error'],
    ['message', 'headline'],
  ] as const)('a %s of type %s is dropped where nobody is there', async (name, type) => {
    await using server = await harness([offline])
    await server.account(ROMEO)
    const juliet = await server.online(JULIET)
    juliet.received.length = 0
    await giveBack(server, name, { type })
    await server.quiet()
    expect(juliet.received).toEqual([])
    expect(messagesOf(await server.online(`${ROMEO}/phone`))).toEqual([])
  })

  test('of an account that is gone is answered as to nobody (RFC 6121 §8.5.1), and kept for nobody', async () => {
    await using server = await harness([offline])
    const juliet = await server.online(JULIET)
    await giveBack(server, 'message', { type: 'chat' })
    await server.quiet()
    expect(errorOf(messagesOf(juliet)[0])).toBe('service-unavailable')
    expect(messagesOf(await server.online(`${ROMEO}/phone`))).toEqual([])
  })
})

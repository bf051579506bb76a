import { describe, expect, test } from 'vitest'
import { Administration, type Reached, type SessionFacts } from '#core/administration.ts'
import { isCluster } from '#test/form.ts'
import { type HarnessOptions, harness, type TestClient, type TestServer } from '#test/harness.ts'
import { parseJid } from '#xmpp/jid.ts'

const DOMAINS = { config: { domains: ['example.org', 'example.net'] } }

async function serve(options: HarnessOptions = DOMAINS) {
  const server = await harness([], options)
  const administration = new Administration(server.caller, server.ownership)
  return { server, administration, [Symbol.asyncDispose]: () => server.stop() }
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const got: T[] = []
  for await (const item of items) got.push(item)
  return got
}

/** Binds sessions without clients behind them, as many as there are resources. */
async function bindAll(server: TestServer, account: string, resources: readonly string[]): Promise<void> {
  await server.account(account)
  for (const resource of resources) {
    await server.caller.ask('router', account, 'session.bind', { edge: server.edge, session: `${account}${resource}`, resource })
  }
}

describe('the sessions', () => {
  test('each with what its edge said of it, and what it shows', async () => {
    await using place = await serve()
    const { server, administration } = place
    const beforeMs = Date.now()
    const about = { address: '192.0.2.7', transport: 'websocket', encrypted: true } as const
    await server.account('romeo@example.org')
    const request = { edge: server.edge, session: 's', resource: 'garden', about }
    await server.caller.ask('router', 'romeo@example.org', 'session.bind', request)
    await server.online('juliet@example.org/balcony', 7)
    const [juliet, romeo, ...more] = (await all(administration.sessions())) as [SessionFacts, SessionFacts]
    expect(more).toEqual([])
    expect(romeo).toMatchObject({ jid: 'romeo@example.org/garden', available: false, priority: 0, ...about })
    expect(romeo.sinceMs).toBeGreaterThanOrEqual(beforeMs)
    expect(romeo.sinceMs).toBeLessThanOrEqual(Date.now())
    expect(juliet).toMatchObject({
      jid: 'juliet@example.org/balcony',
      available: true,
      priority: 7,
      address: '',
      encrypted: null,
    })
    expect(await administration.sessionsOf(parseJid('romeo@example.org'))).toEqual([romeo])
  })

  test('of more than a page are all told once, in the order of their addresses, of a domain or of all', async () => {
    await using place = await serve({ config: { ...DOMAINS.config, limits: { sessionsPerAccount: 1_000 } } })
    const many = Array.from({ length: 700 }, (_, n) => `r${n}`)
    await bindAll(place.server, 'romeo@example.org', many)
    for (const name of ['abram@example.org', 'tybalt@example.org', 'othello@example.net'])
      await bindAll(place.server, name, ['x'])
    const got = (await all(place.administration.sessions())).map(({ jid }) => jid)
    const romeos = many.map((resource) => `romeo@example.org/${resource}`).sort()
    expect(got).toEqual(['abram@example.org/x', 'othello@example.net/x', ...romeos, 'tybalt@example.org/x'])
    expect((await all(place.administration.sessions('example.net'))).map(({ jid }) => jid)).toEqual(['othello@example.net/x'])
  })

  test('are counted by accounts', async () => {
    await using place = await serve()
    await bindAll(place.server, 'romeo@example.org', ['one', 'two'])
    await place.server.online('juliet@example.org/balcony')
    await place.server.online('othello@example.net/venice')
    expect(await place.administration.count('example.org')).toEqual({ online: 2, active: 1 })
    expect(await place.administration.count('example.net')).toEqual({ online: 1, active: 1 })
  })

  test('RFC 6120 §4.9.3.14: those that are ended hear policy-violation, with the reason', async () => {
    await using place = await serve()
    const { server, administration } = place
    const one = await server.online('juliet@example.org/one')
    const two = await server.online('juliet@example.org/two')
    expect(await administration.endSessions(one.jid, 'enough')).toBe(1)
    await server.quiet()
    expect([one.closed, two.closed]).toEqual([{ condition: 'policy-violation', text: 'enough' }, undefined])
    expect(await administration.endSessions(one.jid, '')).toBe(0)
    expect(await administration.endSessions(parseJid('juliet@example.org'), '')).toBe(1)
    await expect(administration.endSessions(one.jid, 'bell\u0007')).rejects.toMatchObject({ condition: 'bad-request' })
  })
})

describe('an announcement', () => {
  test('RFC 6121 §8.5.2.1.1: a headline to each session of non-negative priority, from its own domain', async () => {
    await using place = await serve()
    const { server, administration } = place
    const clients = await Promise.all([
      server.online('romeo@example.org/garden'),
      server.online('othello@example.net/venice'),
      server.online('juliet@example.org/phone', -1),
      server.connect('paris@example.org/x'),
    ])
    const juliet = await server.online('juliet@example.org/balcony')
    const reached = (await all(administration.announce('Tea'))).at(-1)
    await server.quiet()
    expect(reached).toEqual({ accounts: 3, sessions: 3 })
    expect([...clients, juliet].map((client) => client.bodies())).toEqual([['Tea'], ['Tea'], [], [], ['Tea']])
    const got = [clients[0], clients[1]].map((client) => client.received.find(({ name }) => name === 'message')!)
    expect(got.map(({ from, to, type }) => [from.full, to!.full, type])).toEqual([
      ['example.org', 'romeo@example.org/garden', 'headline'],
      ['example.net', 'othello@example.net/venice', 'headline'],
    ])
  })

  test('to one domain leaves the others in peace', async () => {
    await using place = await serve()
    const romeo = await place.server.online('romeo@example.org/garden')
    const othello = await place.server.online('othello@example.net/venice')
    await all(place.administration.announce('Tea', { domain: 'example.net' }))
    await place.server.quiet()
    expect([romeo.bodies(), othello.bodies()]).toEqual([[], ['Tea']])
  })

  test('to more than one turn’s worth of accounts reaches each once, and tells how far it is', async () => {
    await using place = await serve()
    const accounts = Array.from({ length: 450 }, (_, n) => `a${n}@example.org`)
    const clients: TestClient[] = []
    for (const account of accounts) clients.push(await place.server.connect(`${account}/x`))
    for (const client of clients) client.available()
    await place.server.quiet()
    const steps: Reached[] = await all(place.administration.announce('Tea'))
    await place.server.quiet()
    const counts = steps.map((step) => step.accounts)
    if (!isCluster) expect(counts).toEqual([200, 400, 450]) // else each owner has turns of his own
    expect(Math.max(...counts.map((count, n) => count - (counts[n - 1] ?? 0)))).toBe(200)
    expect(counts.at(-1)).toBe(450)
    expect(clients.every((client) => client.bodies().length === 1)).toBe(true)
  })

  test.each([[''], ['  \n'], ['bell\u0007'], ['half \ud800'], ['x'.repeat(10_001)]])('%j is refused', async (text) => {
    await using place = await serve()
    await expect(all(place.administration.announce(text))).rejects.toMatchObject({ condition: 'bad-request' })
  })
})

describe('the accounts of a domain', () => {
  test('are all listed and counted, also past a page, and those that are disabled apart', async () => {
    await using place = await serve()
    const { server, administration } = place
    const accounts = Array.from({ length: 230 }, (_, n) => `a${n}@example.org`)
    for (const account of accounts) await server.account(account)
    await server.account('othello@example.net')
    for (const account of accounts.slice(0, 3)) await server.caller.ask('router', account, 'account.disable', {})
    expect((await all(administration.accounts('example.org'))).sort()).toEqual([...accounts].sort())
    expect(await administration.countAccounts('example.org')).toBe(230)
    const disabled = await all(administration.accounts('example.org', { disabled: true }))
    expect(disabled.sort()).toEqual(accounts.slice(0, 3))
    expect(await administration.countAccounts('example.org', { disabled: true })).toBe(3)
    expect(await all(administration.accounts('example.net'))).toEqual(['othello@example.net'])
  })
})

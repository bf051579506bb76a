import { describe, expect, test } from 'vitest'
import type { Calls } from '#core/call.ts'
import { manualClock } from '#core/clock.ts'
import { type AnyModule, defineModule } from '#core/module.ts'
import offline from '#modules/offline.ts'
import registration from '#modules/registration.ts'
import { memoryTable } from '#table/memory.ts'
import { type Table, TableUnavailable } from '#table/table.ts'
import { isCluster } from '#test/form.ts'
import { flakyTable, harness, type TestClient, type TestServer } from '#test/harness.ts'
import { rowsOf } from '#test/support/rows.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT, NS_ROSTER } from '#xmpp/ns.ts'
import { childrenOf, el, type Stanza } from '#xmpp/stanza.ts'

const ROMEO = 'romeo@example.org'
const JULIET = 'juliet@example.org'

const sessionsOf = (server: TestServer, account: string) => server.caller.ask('router', account, 'account.sessions', {})
const remove = (server: TestServer, account: string) => server.caller.ask('router', account, 'account.remove', {})
const credentials = (server: TestServer, account: string) => server.caller.ask('router', account, 'account.credentials', {})
const typesFrom = (stanzas: readonly Stanza[], from: string): string[] =>
  stanzas.filter((came) => came.from.bare === from).map(({ name, type }) => `${name} ${type}`.trim())

describe('RFC 6120 §7 resource binding', () => {
  test('§7.7: the resource that a client asks for is bound', async () => {
    await using server = await harness([])
    const romeo = await server.connect(`${ROMEO}/orchard`)
    expect(romeo.jid.full).toBe(`${ROMEO}/orchard`)
    expect(await sessionsOf(server, ROMEO)).toMatchObject([{ jid: `${ROMEO}/orchard`, available: false, priority: 0 }])
  })

  test('§7.6: without one, the server makes a resource that nobody can guess', async () => {
    await using server = await harness([])
    const resources = new Set<string>()
    for (let i = 0; i < 10; i++) resources.add((await server.connect(ROMEO)).jid.resource)
    expect(resources.size).toBe(10)
    for (const resource of resources) expect(resource).toMatch(/^[\w-]{12}$/)
  })

  test('§7.6.2.1: one session more than the limit is resource-constraint; one that takes the place of another is none', async () => {
    await using server = await harness([], { config: { limits: { sessionsPerAccount: 2 } } })
    await server.connect(`${ROMEO}/one`)
    const two = await server.connect(`${ROMEO}/two`)
    await expect(server.bind(`${ROMEO}/three`)).rejects.toMatchObject({ condition: 'resource-constraint', type: 'wait' })
    await server.bind(`${ROMEO}/two`)
    expect(two.closed?.condition).toBe('conflict')
    two.disconnect()
    await server.quiet()
    expect((await sessionsOf(server, ROMEO)).map(({ jid }) => jid)).toEqual([`${ROMEO}/one`, `${ROMEO}/two`])
    expect((await server.connect(`${JULIET}/one`)).jid.resource).toBe('one')
  })

  test('as many sessions as the configuration allows can be available', async () => {
    await using server = await harness([], { config: { limits: { sessionsPerAccount: 120 } } })
    const clients = []
    for (let i = 0; i < 120; i++) clients.push(await server.connect(`${ROMEO}/${i}`))
    for (const client of clients) client.available()
    await server.quiet()
    expect((await sessionsOf(server, ROMEO)).filter(({ available }) => available)).toHaveLength(120)
    expect(clients.flatMap(({ received }) => received).filter(({ type }) => type === 'error')).toEqual([])
  })

  test('§7.7.2.2: where the resource is taken, the older stream ends with conflict and the newer session gets everything', async () => {
    await using server = await harness([])
    const older = await server.online(`${ROMEO}/orchard`)
    const newer = await server.online(`${ROMEO}/orchard`)
    const juliet = await server.online(`${JULIET}/balcony`)
    expect(older.closed).toMatchObject({ condition: 'conflict' })
    juliet.message(`${ROMEO}/orchard`, 'to the full JID')
    juliet.message(ROMEO, 'to the bare JID')
    await server.quiet()
    expect(newer.bodies()).toEqual(['to the full JID', 'to the bare JID'])
    expect(older.bodies()).toEqual([])
    expect(await sessionsOf(server, ROMEO)).toHaveLength(1)
  })

  test('many who bind one resource one after the other leave one session', async () => {
    await using server = await harness([])
    await server.account(ROMEO)
    const clients: TestClient[] = []
    for (let i = 0; i < 10; i++) clients.push(await server.bind(`${ROMEO}/orchard`))
    await server.quiet()
    expect(clients.map(({ closed }) => closed?.condition)).toEqual([...Array(9).fill('conflict'), undefined])
    expect(await sessionsOf(server, ROMEO)).toHaveLength(1)
  })

  test('an account that does not exist cannot bind', async () => {
    await using server = await harness([])
    await expect(server.bind(`${ROMEO}/orchard`)).rejects.toMatchObject({ condition: 'not-allowed' })
  })
})

describe('availability, as the router sees it', () => {
  const heard: object[] = []
  const listener = defineModule({
    name: 'listener',
    home: 'router',
    xeps: [],
    setup(app) {
      if (app.role !== 'router') return
      for (const event of ['session.bound', 'session.closed', 'session.available'] as const) {
        app.on(event, ({ jid, ...rest }) => {
          heard.push({ event, resource: jid.resource, ...('first' in rest && { first: rest.first, priority: rest.priority }) })
        })
      }
    },
  })

  test('is told before the next stanza of that session does anything', async () => {
    heard.length = 0
    await using server = await harness([listener])
    const romeo = await server.connect(`${ROMEO}/orchard`)
    romeo.message(ROMEO, 'nobody is here')
    romeo.available(3)
    romeo.message(ROMEO, 'here I am')
    romeo.available(-1)
    romeo.message(ROMEO, 'not for all')
    romeo.send(romeo.stanza('presence', { type: 'unavailable' }))
    romeo.available()
    await server.quiet()
    const messages = romeo.received.filter(({ name }) => name === 'message')
    expect(messages.map(({ type }) => type)).toEqual(['error', 'chat', 'error'])
    romeo.disconnect()
    await server.quiet()
    const resource = 'orchard'
    expect(heard).toEqual([
      { event: 'session.bound', resource },
      { event: 'session.available', resource, first: true, priority: 3 },
      { event: 'session.available', resource, first: false, priority: -1 },
      { event: 'session.available', resource, first: true, priority: 0 },
      { event: 'session.closed', resource },
    ])
    expect(await sessionsOf(server, ROMEO)).toEqual([])
  })

  test('when a listener meets a table that is away, it is told again, as of something new', async () => {
    const clock = manualClock()
    const firsts: boolean[] = []
    let away = true
    const keeper = defineModule({
      name: 'keeper',
      home: 'router',
      xeps: [],
      setup(app) {
        app.on('session.available', ({ first }) => {
          firsts.push(first)
          if (away) throw new TableUnavailable('away')
        })
      },
    })
    await using server = await harness([keeper], { clock })
    const romeo = await server.connect(`${ROMEO}/orchard`)
    romeo.available()
    for (let i = 0; i < 10; i++) await clock.settle(200)
    away = false
    await clock.settle(10_000)
    await server.quiet()
    expect(firsts.length).toBeGreaterThan(1)
    expect(new Set(firsts)).toEqual(new Set([true]))
  })

  test('when the table is away at a bind, the client is refused and no session is left behind', async () => {
    let away = true
    const keeper = defineModule({
      name: 'keeper',
      home: 'router',
      xeps: [],
      setup(app) {
        app.on('session.bound', () => {
          if (away) throw new TableUnavailable('away')
        })
      },
    })
    await using server = await harness([keeper])
    await server.account(ROMEO)
    await expect(server.bind(`${ROMEO}/orchard`)).rejects.toMatchObject({ condition: 'resource-constraint' })
    expect(await sessionsOf(server, ROMEO)).toEqual([])
    away = false
    expect((await server.bind(`${ROMEO}/orchard`)).closed).toBeUndefined()
  })

  test('the end of a session is told again when a listener met a table that is away', async () => {
    const clock = manualClock()
    let tries = 0
    const keeper = defineModule({
      name: 'keeper',
      home: 'router',
      xeps: [],
      setup(app) {
        app.on('session.closed', () => {
          if (++tries < 3) throw new TableUnavailable('away')
        })
      },
    })
    await using server = await harness([keeper], { clock })
    const romeo = await server.online(`${ROMEO}/orchard`)
    romeo.disconnect()
    for (let i = 0; i < 10; i++) await clock.settle(1_000)
    expect(tries).toBe(3)
    expect(await sessionsOf(server, ROMEO)).toEqual([])
  })
})

describe('the end of sessions', () => {
  test('an account’s sessions are ended, but for the one that is named', async () => {
    let end: (except?: string) => void = () => {}
    const ender = defineModule({
      name: 'ender',
      home: 'router',
      xeps: [],
      setup(app) {
        if (app.role === 'router') end = (except) => app.endSessions(parseJid(ROMEO), 'reset', except)
      },
    })
    await using server = await harness([ender])
    const [here, there] = [await server.online(`${ROMEO}/here`), await server.online(`${ROMEO}/there`)]
    const juliet = await server.online(`${JULIET}/balcony`)
    end(here.session)
    await server.quiet()
    expect([here.closed, there.closed?.condition, juliet.closed]).toEqual([undefined, 'reset', undefined])
    expect((await sessionsOf(server, ROMEO)).map(({ jid }) => jid)).toEqual([`${ROMEO}/here`])
    end()
    await server.quiet()
    expect(here.closed?.condition).toBe('reset')
    expect(await sessionsOf(server, ROMEO)).toEqual([])
  })

  test('a session that has only sent messages, or nothing, is forgotten as well', async () => {
    await using server = await harness([])
    const silent = await server.connect(`${ROMEO}/silent`)
    silent.disconnect()
    const talker = await server.connect(`${ROMEO}/talker`)
    talker.message(JULIET, 'bye')
    talker.disconnect()
    await server.quiet()
    expect(await sessionsOf(server, ROMEO)).toEqual([])
  })
})

describe('accounts', () => {
  test('the credentials of an account that does not exist are null', async () => {
    await using server = await harness([])
    expect(await credentials(server, ROMEO)).toBeNull()
  })

  test('an account is made once, whoever asks at the same time', async () => {
    await using server = await harness([])
    const made = await Promise.allSettled([1, 2, 3].map(() => server.account(ROMEO)))
    expect(made.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
    for (const { reason } of made as PromiseRejectedResult[])
      if (reason !== undefined) expect(reason).toMatchObject({ condition: 'conflict' })
    expect(await credentials(server, ROMEO)).not.toBeNull()
  })

  test('a password that no client could send is not-acceptable, and the old one stays', async () => {
    await using server = await harness([])
    await server.account(ROMEO)
    const before = await credentials(server, ROMEO)
    await expect(server.caller.ask('router', ROMEO, 'account.password', { password: '\u0000' })).rejects.toMatchObject({
      condition: 'not-acceptable',
    })
    expect(await credentials(server, ROMEO)).toEqual(before)
  })

  test('a new password is durable when the call is answered, and ends the sessions', async () => {
    const table = memoryTable()
    await using server = await harness([], { table })
    const romeo = await server.online(`${ROMEO}/orchard`)
    const before = await credentials(server, ROMEO)
    await server.caller.ask('router', ROMEO, 'account.password', { password: 'another' })
    const after = await credentials(server, ROMEO)
    expect(after).not.toEqual(before)
    await server.quiet()
    expect(romeo.closed?.condition).toBe('not-authorized')
    await using restarted = await harness([], { table })
    expect(await credentials(restarted, ROMEO)).toEqual(after)
  })

  test('a password for an account that does not exist, and its removal, are item-not-found', async () => {
    await using server = await harness([])
    await expect(server.caller.ask('router', ROMEO, 'account.password', { password: 'x' })).rejects.toMatchObject({
      condition: 'item-not-found',
    })
    await expect(remove(server, ROMEO)).rejects.toMatchObject({ condition: 'item-not-found' })
  })
})

describe('XEP-0077 §3.2: the removal of an account', () => {
  const journaling = defineModule({
    name: 'journaling',
    home: 'router',
    xeps: [],
    journals: ['archive'],
    setup(app) {
      const journal = app.journal('archive')
      for (const point of ['outbound', 'inbound'] as const) {
        app.copy(point, (stanza, { account, archiveId }) => {
          if (app.role === 'router' && stanza.name === 'message' && stanza.type !== 'error')
            journal.append(account, archiveId, Buffer.from('x'))
        })
      }
    },
  })
  const MODULES: readonly AnyModule[] = [journaling, offline, registration]

  /** Romeo and Juliet see each other; Rosaline has asked Romeo; and he has mail. */
  async function cast() {
    const table = memoryTable()
    const server = await harness(MODULES, { table })
    const romeo = await server.online(`${ROMEO}/orchard`)
    const juliet = await server.online(`${JULIET}/balcony`)
    const rosaline = await server.online('rosaline@example.org/hall')
    await romeo.get(el('query', NS_ROSTER))
    await juliet.get(el('query', NS_ROSTER))
    await rosaline.get(el('query', NS_ROSTER))
    const to = (account: string, type: string) => ({ to: parseJid(account), type })
    romeo.send(romeo.stanza('presence', to(JULIET, 'subscribe')))
    await server.quiet()
    juliet.send(juliet.stanza('presence', to(ROMEO, 'subscribed')))
    juliet.send(juliet.stanza('presence', to(ROMEO, 'subscribe')))
    await server.quiet()
    romeo.send(romeo.stanza('presence', to(JULIET, 'subscribed')))
    rosaline.send(rosaline.stanza('presence', to(ROMEO, 'subscribe')))
    juliet.message(ROMEO, 'hello')
    romeo.message(JULIET, 'hello yourself')
    await server.quiet()
    for (const client of [romeo, juliet, rosaline]) client.received.length = 0
    return { table, server, romeo, juliet, rosaline, [Symbol.asyncDispose]: () => server.stop() }
  }

  test('every row and journal is gone, contacts are told and lose it, its streams end with not-authorized', async () => {
    await using all = await cast()
    const phone = await all.server.connect(`${ROMEO}/phone`)
    expect(await everythingOf(all.table, ROMEO)).not.toEqual([])
    await remove(all.server, ROMEO)
    expect(await everythingOf(all.table, ROMEO)).toEqual([])
    expect(await credentials(all.server, ROMEO)).toBeNull()
    await all.server.quiet()
    expect([all.romeo.closed?.condition, phone.closed?.condition]).toEqual(['not-authorized', 'not-authorized'])
    expect(await sessionsOf(all.server, ROMEO)).toEqual([])
    expect(typesFrom(all.juliet.received, ROMEO)).toEqual([
      'presence unavailable',
      'presence unsubscribe',
      'presence unsubscribed',
    ])
    expect(typesFrom(all.rosaline.received, ROMEO)).toEqual(['presence unsubscribed'])
    const roster = await all.juliet.get(el('query', NS_ROSTER))
    expect(childrenOf(roster, 'item', NS_ROSTER).map(({ attrs }) => attrs)).toEqual([{ jid: ROMEO, subscription: 'none' }])
    await expect(all.server.bind(`${ROMEO}/orchard`)).rejects.toMatchObject({ condition: 'not-allowed' })
  })

  test('the client that asks for it is answered before its stream ends; what it sent behind the request leaves nothing', async () => {
    await using all = await cast()
    const { romeo } = all
    romeo.send(
      romeo.stanza('iq', { id: 'go', type: 'set' }, el('query', 'jabber:iq:register', {}, el('remove', 'jabber:iq:register'))),
    )
    romeo.message(JULIET, 'one last word')
    romeo.message(ROMEO, 'a note to myself')
    romeo.send(romeo.stanza('presence', { to: parseJid('mercutio@example.org'), type: 'subscribe' }))
    romeo.send(romeo.stanza('presence', {}))
    await all.server.quiet()
    expect(romeo.received.find(({ name }) => name === 'iq')).toMatchObject({ id: 'go', type: 'result' })
    expect(romeo.closed?.condition).toBe('not-authorized')
    expect(await everythingOf(all.table, ROMEO)).toEqual([])
    expect(await sessionsOf(all.server, ROMEO)).toEqual([])
  })

  test('what others send meanwhile leaves nothing, and they are told that nobody is there', async () => {
    await using all = await cast()
    const removing = remove(all.server, ROMEO)
    for (let i = 0; i < 20; i++) {
      all.juliet.message(ROMEO, `are you there? ${i}`)
      all.rosaline.send(all.rosaline.stanza('presence', { to: parseJid(ROMEO), type: i % 2 === 0 ? 'unsubscribe' : 'subscribe' }))
      await new Promise((resolve) => setImmediate(resolve))
    }
    await removing
    await all.server.quiet()
    expect(await everythingOf(all.table, ROMEO)).toEqual([])
    expect(typesFrom(all.juliet.received, ROMEO)).toContain('message error')
  })

  test('a new account of the same name knows nothing of the old one, in any role', async () => {
    await using all = await cast()
    all.romeo.disconnect()
    all.juliet.message(ROMEO, 'for the old one')
    await all.server.quiet()
    const removing = remove(all.server, ROMEO)
    for (let i = 0; i < 6; i++) {
      all.juliet.send(all.juliet.stanza('presence', { to: parseJid(ROMEO), type: 'probe' }))
      await new Promise((resolve) => setImmediate(resolve))
    }
    await removing
    await all.server.account(ROMEO)
    const heir = await all.server.online(`${ROMEO}/orchard`)
    expect((await heir.get(el('query', NS_ROSTER))).children).toEqual([])
    expect(heir.received.filter(({ name, from }) => name === 'message' || from.bare !== ROMEO)).toEqual([])
    const sent = all.juliet.received.length
    heir.available(5)
    await all.server.quiet()
    expect(all.juliet.received.slice(sent)).toEqual([])
  })

  test('when the table is away the removal is refused, the account stays, and it can be removed later', async () => {
    const table = flakyTable()
    const clock = manualClock()
    await using server = await harness(MODULES, { table, clock })
    const romeo = await server.online(`${ROMEO}/orchard`)
    table.away = true
    await expect(remove(server, ROMEO)).rejects.toMatchObject({ condition: 'resource-constraint', type: 'wait' })
    table.away = false
    romeo.message(ROMEO, 'still here')
    await clock.settle(10_000)
    await server.quiet()
    expect(await credentials(server, ROMEO)).not.toBeNull()
    await remove(server, ROMEO)
    expect(await credentials(server, ROMEO)).toBeNull()
  })

  test('of two who remove it at once, one is told that there is no such account', async () => {
    await using all = await cast()
    const removed = await Promise.allSettled([remove(all.server, ROMEO), remove(all.server, ROMEO)])
    expect(removed.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
    expect(removed.find(({ status }) => status === 'rejected')).toMatchObject({ reason: { condition: 'item-not-found' } })
    expect(await everythingOf(all.table, ROMEO)).toEqual([])
  })
})

describe('calls that break', () => {
  test('a call that nobody answers is feature-not-implemented', async () => {
    await using server = await harness([])
    await expect(server.caller.ask('router', ROMEO, 'account.dance' as keyof Calls, {} as never)).rejects.toMatchObject({
      condition: 'feature-not-implemented',
    })
  })

  test('an address that is none is internal-server-error, and logged', async () => {
    await using server = await harness([])
    await expect(server.caller.ask('router', 'a@@b', 'account.credentials', {})).rejects.toMatchObject({
      condition: 'internal-server-error',
    })
    expect(server.logged()).toContain('call.broke')
  })

  test.skipIf(isCluster)('in one process, a role that is not there is resource-constraint', async () => {
    const server = await harness([])
    await server.stop()
    await using other = await harness([])
    await expect(other.caller.ask('muc' as 'router', ROMEO, 'account.credentials', {})).rejects.toMatchObject({
      condition: 'resource-constraint',
      type: 'wait',
    })
  })

  test('an iq from a stranger that breaks is answered', async () => {
    const breaking = defineModule({
      name: 'breaking',
      home: 'router',
      xeps: [],
      namespaces: ['urn:example:break'],
      strangers: ['urn:example:break'],
      setup(app) {
        app.iq('get', 'urn:example:break', 'query', 'stranger', () => {
          throw new TypeError('a bug')
        })
        app.iq('set', 'urn:example:break', 'query', 'stranger', async () => {
          throw new TableUnavailable('away')
        })
      },
    })
    await using server = await harness([breaking])
    expect(await server.stranger('get', el('query', 'urn:example:break'))).toMatchObject({ condition: 'internal-server-error' })
    expect(await server.stranger('set', el('query', 'urn:example:break'))).toMatchObject({
      condition: 'resource-constraint',
      type: 'wait',
    })
    expect(await server.stranger('get', el('query', 'urn:example:other'))).toMatchObject({ condition: 'service-unavailable' })
    expect(await server.stranger('get', el('body', NS_CLIENT))).toMatchObject({ condition: 'service-unavailable' })
  })
})

/** Everything that is stored of an account. */
function everythingOf(table: Table, account: string): Promise<string[]> {
  return rowsOf(table, `a#${account}`, `j#archive#${account}`, `j#offline#${account}`)
}

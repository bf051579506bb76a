// Who may take a session over, and what the router knows of it meanwhile.
import { afterEach, describe, expect, test } from 'vitest'
import { openCaller } from '#core/call.ts'
import registration from '#modules/registration.ts'
import {
  connect,
  type FakeConnection,
  makeAccount,
  PASSWORD,
  plainAuth,
  settled,
  startRoles,
  testProcess,
} from '../edge.fixture.ts'
import { openEdge } from '../main.ts'

const NS_SM = 'urn:xmpp:sm:3'
const ROMEO = 'romeo@example.org'
const resume = (previd: string) => `<resume xmlns='${NS_SM}' previd='${previd}' h='0'/>`
const change = (password: string) =>
  `<iq type='set' id='change'><query xmlns='jabber:iq:register'><username>romeo</username><password>${password}</password></query></iq>`

const stops: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop()
})

async function start() {
  const process = {
    ...testProcess({ modules: [registration] }),
    moduleOptions: { registration: { instructions: 'Do.', reserved: [], usernameBytesMax: 64 } },
  }
  stops.push(await startRoles(process))
  const { edge, onConnection, close } = openEdge(process)
  stops.push(close)
  for (const name of ['romeo', 'juliet']) await makeAccount(process, `${name}@example.org`)
  const caller = openCaller(process.bus, process.ownership)
  return {
    edge,
    caller,
    sessions: () => caller.ask('router', ROMEO, 'account.sessions', {}),
    /** Logged in, and nothing bound. */
    async loggedIn(password = PASSWORD): Promise<FakeConnection> {
      const connection = connect(onConnection)
      connection.open().send(plainAuth('romeo', password))
      await connection.until('<success')
      connection.open()
      await connection.until('</stream:features>')
      return connection
    },
    /** Bound, with what its session is resumed by. */
    async managed(account = ROMEO): Promise<{ connection: FakeConnection; id: string }> {
      const connection = connect(onConnection)
      await connection.logIn(account, 'garden')
      connection.send(`<enable xmlns='${NS_SM}' resume='true'/>`)
      return { connection, id: /id='([^']*)'/.exec(await connection.until('<enabled'))![1]! }
    },
  }
}

describe('XEP-0198 §5 a session is resumed', () => {
  test('by nobody who has logged in by the password before the one that was set on it (XEP-0077 §3.3)', async () => {
    const { loggedIn, managed } = await start()
    const { connection, id } = await managed()
    const before = await loggedIn()
    connection.send(change('another'))
    await connection.until("type='result'")
    await settled()
    before.send(resume(id))
    expect(before.take()).toContain('<item-not-found ')
    expect(connection.ended).toBe(false)
    const behind = await loggedIn('another')
    behind.send(resume(id))
    expect(await behind.until('/>')).toContain('<resumed ')
  })

  test.each([
    ['has another password', 'account.password', { password: 'another' }],
    ['is disabled', 'account.disable', {}],
    ['is removed', 'account.remove', {}],
  ] as const)('by nobody once its account %s', async (_what, call, fields) => {
    const { edge, caller, loggedIn, managed, sessions } = await start()
    const { connection, id } = await managed()
    const other = await loggedIn()
    connection.vanish()
    await settled()
    await (caller.ask as (...asked: unknown[]) => Promise<unknown>)('router', ROMEO, call, fields)
    await settled()
    other.send(resume(id))
    expect(other.take()).toContain('<item-not-found ')
    expect([edge.detached.size, edge.resumables.size, edge.leaving.size]).toEqual([0, 0, 0])
    expect(await sessions()).toEqual([])
  })
})

test('a session whose new stream is cut off by what it is sent again waits as before, and is listed so', async () => {
  const { edge, loggedIn, managed, sessions } = await start()
  const { connection, id } = await managed()
  const juliet = await managed('juliet@example.org')
  connection.vanish()
  juliet.connection.send(`<message to='${ROMEO}/garden' id='m1'><body>x</body></message>`)
  await settled()
  const again = await loggedIn()
  again.unsentBytes = 100 * 1024 * 1024
  again.send(resume(id))
  await settled()
  expect([again.destroyed, edge.detached.size]).toEqual([true, 1])
  expect((await sessions()).map(({ detached }) => detached)).toEqual([true])
  const third = await loggedIn()
  third.send(resume(id))
  expect(await third.until('</message>')).toContain("id='m1'")
  expect((await sessions()).map(({ detached }) => detached)).toEqual([false])
})

import { createHmac } from 'node:crypto'
import { afterEach, describe, expect, test } from 'vitest'
import { openCaller } from '#core/call.ts'
import { type AnyModule, defineModule } from '#core/module.ts'
import fast from '#modules/fast.ts'
import {
  base64,
  connect,
  eventually,
  type FakeConnection,
  makeAccount,
  PASSWORD,
  type ProcessOptions,
  startRoles,
  testProcess,
} from '../edge.fixture.ts'
import { openEdge } from '../main.ts'
import { ScramClient } from '../sasl/sasl.fixture.ts'

const NS = 'urn:xmpp:sasl:2'
const NS_BIND2 = 'urn:xmpp:bind:0'
const NS_SM = 'urn:xmpp:sm:3'
const ROMEO = 'romeo@example.org'
const AGENT = "<user-agent id='d4565fa7-4d72-4749-b3d3-740edbf87770'><software>Balcony</software></user-agent>"
const stops: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop()
})

/** Lets a client ask for its flag as it binds. */
const flagged = defineModule({
  name: 'flagged',
  home: 'router',
  xeps: [],
  bindFlags: { '{urn:example:flag}enable': 'flagged' },
  setup() {},
}) as AnyModule

async function start(options: ProcessOptions = {}) {
  const process = testProcess({ modules: [flagged], ...options })
  stops.push(await startRoles(process))
  const open = openEdge(process)
  stops.push(() => open.close())
  await makeAccount(process, ROMEO)
  const sessions = () => openCaller(process.bus, process.ownership).ask('router', ROMEO, 'account.sessions', {})
  return { open, edge: open.edge, sessions, connect: (encrypted = true) => connect(open.onConnection, { encrypted }) }
}

const plain = (password = PASSWORD) => base64(`\0romeo\0${password}`)
const initial = (data: string) => `<initial-response>${data}</initial-response>`
const authenticate = (inside: string, mechanism = 'PLAIN') =>
  `<authenticate xmlns='${NS}' mechanism='${mechanism}'>${inside}</authenticate>`
const bind = (inside = '') => `<bind xmlns='${NS_BIND2}'>${inside}</bind>`
const outcome = (connection: FakeConnection) => connection.until(/<\/success>.*<\/stream:features>|<\/failure>/)
const failureOf = (text: string) =>
  /<failure xmlns='urn:xmpp:sasl:2'><([a-z-]+) xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/.exec(text)?.[1]
const identifierOf = (text: string) => /<authorization-identifier>([^<]*)</.exec(text)?.[1]

/** Opens and says this; resolves to what it is answered. */
async function say(connection: FakeConnection, xml: string): Promise<string> {
  connection.open().take()
  connection.send(xml)
  return outcome(connection)
}

describe('XEP-0388 §2.1 what is offered', () => {
  test('the mechanisms of RFC 6120, and inline resumption and binding with its features (XEP-0386 §3.1)', async () => {
    const { connect } = await start()
    const features = connect().open().take()
    const offered = /<authentication xmlns='urn:xmpp:sasl:2'>(.*)<\/authentication>/.exec(features)![1]!
    const names = (text: string) => [...text.matchAll(/<mechanism>([^<]*)</g)].map(([, name]) => name)
    expect(names(offered)).toEqual(names(features.split('<authentication')[0]!))
    const vars = ['urn:example:flag', 'urn:xmpp:csi:0', NS_SM].map((name) => `<feature var='${name}'/>`).join('')
    expect(offered).toContain(`<inline><bind xmlns='${NS_BIND2}'><inline>${vars}</inline></bind><sm xmlns='${NS_SM}'/></inline>`)
  })

  test('§4 outside of TLS there is nothing of it, and who tries it is turned away', async () => {
    const { connect } = await start({ config: { c2s: { requireTls: false } } })
    const connection = connect(false).open()
    expect(connection.take()).not.toContain(NS)
    connection.send(authenticate(initial(plain())))
    expect(await connection.until('</stream:stream>')).toContain('<policy-violation ')
  })
})

describe('XEP-0388 §2.3 to §2.6 a login', () => {
  test('by one message: the identity is a bare JID, features follow without another header, and one binds as ever', async () => {
    const { connect } = await start()
    const connection = connect()
    const answer = await say(connection, authenticate(`${initial(plain())}${AGENT}`))
    expect(answer).toMatch(
      new RegExp(
        `^<success xmlns='${NS}'><authorization-identifier>${ROMEO}</authorization-identifier></success><stream:features><bind `,
      ),
    )
    connection.send(
      "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>garden</resource></bind></iq>",
    )
    expect(await connection.until('</iq>')).toContain(`<jid>${ROMEO}/garden</jid>`)
  })

  test('by SCRAM: challenge, response, and the last of the mechanism in <additional-data/>', async () => {
    const { connect } = await start()
    const connection = connect()
    const client = new ScramClient('SHA-256', 'romeo', PASSWORD)
    connection.open().take()
    connection.send(authenticate(initial(client.first().toString('base64')), 'SCRAM-SHA-256'))
    const challenge = /<challenge xmlns='urn:xmpp:sasl:2'>([^<]*)</.exec(await connection.until('</challenge>'))![1]!
    const final = client.final(Buffer.from(challenge, 'base64').toString()).toString('base64')
    connection.send(`<response xmlns='${NS}'>${final}</response>`)
    const answer = await outcome(connection)
    const data = /<additional-data>([^<]*)</.exec(answer)![1]!
    expect(Buffer.from(data, 'base64').toString()).toMatch(/^v=/)
    expect(identifierOf(answer)).toBe(ROMEO)
  })

  test.each<[string, string, string]>([
    ['a wrong password', authenticate(initial(plain('wrong'))), 'not-authorized'],
    ['a mechanism that is not offered', authenticate(initial(plain()), 'DIGEST-MD5'), 'invalid-mechanism'],
    ['what is not base64', authenticate(initial('**')), 'incorrect-encoding'],
    ['an abort', `<abort xmlns='${NS}'/>`, 'aborted'],
    ['a response to nothing', `<response xmlns='${NS}'/>`, 'malformed-request'],
    ['a task that nobody asked for', `<next xmlns='${NS}' task='TOTP'/>`, 'malformed-request'],
    [
      'a tag that no resource may have',
      authenticate(`${initial(plain())}${bind('<tag>a\u0007b</tag>'.replace('\u0007', '&#x378;'))}`),
      'malformed-request',
    ],
    ['an id that is no UUID', authenticate(`${initial(plain())}<user-agent id='${'x'.repeat(100)}'/>`), 'malformed-request'],
  ])(
    '%s is a failure that names its condition in the namespace of RFC 6120, and one may try again',
    async (_name, xml, condition) => {
      const { connect } = await start()
      const connection = connect()
      expect(failureOf(await say(connection, xml))).toBe(condition)
      connection.send(authenticate(initial(plain())))
      expect(identifierOf(await outcome(connection))).toBe(ROMEO)
    },
  )

  test('a login without initial response is asked for it by an empty challenge', async () => {
    const { connect } = await start()
    const connection = connect()
    connection.open().take()
    connection.send(authenticate(''))
    expect(await connection.until('challenge')).toMatch(/<challenge xmlns='urn:xmpp:sasl:2'\/?>/)
    connection.send(`<response xmlns='${NS}'>${plain()}</response>`)
    expect(identifierOf(await outcome(connection))).toBe(ROMEO)
  })

  test('§6.10 once it has succeeded another one is a stream error', async () => {
    const { connect } = await start()
    const connection = connect()
    await say(connection, authenticate(initial(plain())))
    connection.send(authenticate(initial(plain())))
    expect(await connection.until('</stream:stream>')).toContain('<stream:error>')
  })

  test('too many failures end the stream', async () => {
    const { connect } = await start({ config: { limits: { loginFailuresPerStream: 2 } } })
    const connection = connect()
    await say(connection, authenticate(initial(plain('wrong'))))
    connection.send(authenticate(initial(plain('wrong'))))
    expect(await connection.until('</stream:stream>')).toContain('<policy-violation ')
  })
})

describe('XEP-0386 §3.2 a bind with the login', () => {
  test('one round trip: the identity is a full JID, stanzas may follow', async () => {
    const { connect } = await start()
    const connection = connect()
    const answer = await say(connection, authenticate(`${initial(plain())}${AGENT}${bind('<tag>Balcony</tag>')}`))
    expect(identifierOf(answer)).toMatch(/^romeo@example\.org\/Balcony\/[\w-]{12}$/)
    expect(answer).toContain(`<bound xmlns='${NS_BIND2}'></bound></success><stream:features>`)
    expect(answer).not.toContain('xmpp-bind')
    connection.send('<presence/>')
    await connection.until(`<presence from='${identifierOf(answer)}'`)
  })

  test('the resource is the same for the same client and tag, and takes the place of its session; it tells nobody the id', async () => {
    const { connect, sessions } = await start()
    const first = connect()
    const before = identifierOf(await say(first, authenticate(`${initial(plain())}${AGENT}${bind('<tag>Balcony</tag>')}`)))
    const after = identifierOf(await say(connect(), authenticate(`${initial(plain())}${AGENT}${bind('<tag>Balcony</tag>')}`)))
    expect(after).toBe(before)
    expect(await first.until('</stream:stream>')).toContain('<conflict ')
    expect(after).not.toContain('d4565fa7')
    const other = identifierOf(await say(connect(), authenticate(`${initial(plain())}${AGENT}${bind('<tag>Other</tag>')}`)))
    expect(other).toMatch(/\/Other\//)
    const nameless = [0, 1].map(() => say(connect(), authenticate(`${initial(plain())}${bind()}`)))
    const made = (await Promise.all(nameless)).map(identifierOf)
    expect(new Set(made).size).toBe(2)
    await eventually(async () => (await sessions()).length === 4, 'four sessions')
  })

  test('what it asks for is so from the beginning: flags, inactivity, stream management with its answer', async () => {
    const { connect, edge } = await start()
    const connection = connect()
    const inside = `<enable xmlns='urn:example:flag'/><enable xmlns='${NS_SM}' resume='true'/><inactive xmlns='urn:xmpp:csi:0'/><unknown xmlns='urn:x'/>`
    const answer = await say(connection, authenticate(`${initial(plain())}${bind(inside)}`))
    expect(answer).toMatch(
      new RegExp(`<bound xmlns='${NS_BIND2}'><enabled xmlns='${NS_SM}' id='[^']+' max='300' resume='true'/></bound>`),
    )
    const [session] = edge.sessions.values()
    expect(session!.flags).toEqual(['bind2', 'flagged'])
    connection.send(`<presence/><r xmlns='${NS_SM}'/>`)
    expect(await connection.until('<a ')).toContain("h='1'")
  })

  test('where an account has too many sessions it fails, and binds nothing', async () => {
    const { connect, sessions } = await start({ config: { limits: { sessionsPerAccount: 1 } } })
    await say(connect(), authenticate(`${initial(plain())}${bind('<tag>1</tag>')}`))
    expect(failureOf(await say(connect(), authenticate(`${initial(plain())}${bind('<tag>2</tag>')}`)))).toBe(
      'temporary-auth-failure',
    )
    expect(await sessions()).toHaveLength(1)
  })
})

describe('XEP-0198 §5, XEP-0388 a resumption with the login', () => {
  const managed = `${bind(`<tag>t</tag><enable xmlns='${NS_SM}' resume='true'/>`)}`
  const resume = (previd: string, h: number) => `<resume xmlns='${NS_SM}' previd='${previd}' h='${h}'/>`

  test('it goes on in one round trip, with what was not acknowledged behind the features; the bind is passed over', async () => {
    const { connect, sessions } = await start()
    const first = connect()
    const answer = await say(first, authenticate(`${initial(plain())}${AGENT}${managed}`))
    const full = identifierOf(answer)!
    const previd = /<enabled xmlns='[^']*' id='([^']+)'/.exec(answer)![1]!
    first.send("<presence/><message to='romeo@example.org' id='m'><body>to me</body></message>")
    await first.until('<body>to me')
    first.vanish()
    const second = connect()
    second.open().take()
    second.send(authenticate(`${initial(plain())}${AGENT}${resume(previd, 1)}${managed}`))
    const came = await second.until('<body>to me')
    expect(came).toMatch(
      new RegExp(
        `<authorization-identifier>${full}</authorization-identifier><resumed xmlns='${NS_SM}' previd='${previd}' h='2'/></success><stream:features>.*</stream:features><message `,
      ),
    )
    expect(came).not.toContain('<bound')
    expect(await sessions()).toHaveLength(1)
  })

  test('where it cannot, that is said beside the session that is bound in its place', async () => {
    const { connect } = await start()
    const answer = await say(connect(), authenticate(`${initial(plain())}${AGENT}${resume('none', 0)}${managed}`))
    expect(answer).toMatch(/<failed xmlns='urn:xmpp:sm:3'><item-not-found [^>]*\/><\/failed><bound /)
    const bare = await say(connect(), authenticate(`${initial(plain())}${resume('none', 0)}`))
    expect(identifierOf(bare)).toBe(ROMEO)
    expect(bare).toMatch(/<failed .*<\/success><stream:features><bind /)
  })
})

describe('XEP-0484 a login by token', () => {
  const want = (mechanism: string) => `<request-token xmlns='urn:xmpp:fast:0' mechanism='${mechanism}'/>`
  const startFast = () => start({ modules: [flagged, fast as AnyModule] })
  const tokenOf = (text: string) => /<token xmlns='urn:xmpp:fast:0' expiry='[^']+' token='([^']+)'\/><\/success>/.exec(text)?.[1]
  const shown = (token: string, user = 'romeo') =>
    Buffer.concat([Buffer.from(`${user}\0`), createHmac('sha256', token).update('Initiator').digest()]).toString('base64')
  const byToken = (token: string, inside = AGENT, attributes = '') =>
    authenticate(`${initial(shown(token))}${inside}<fast xmlns='urn:xmpp:fast:0'${attributes}/>`, 'HT-SHA-256-NONE')

  test('§3.1 it is offered inline, by the bindings that there are', async () => {
    const { connect } = await startFast()
    expect(connect().open().take()).toContain(
      "<fast xmlns='urn:xmpp:fast:0'><mechanism>HT-SHA-256-NONE</mechanism></fast></inline>",
    )
  })

  test('§3.2 to §3.4 a client that asks for one gets it, and logs in by it with one message', async () => {
    const { connect } = await startFast()
    const token = tokenOf(await say(connect(), authenticate(`${initial(plain())}${AGENT}${want('HT-SHA-256-NONE')}`)))!
    const answer = await say(connect(), byToken(token, `${AGENT}${bind('<tag>t</tag>')}`))
    expect(identifierOf(answer)).toMatch(/^romeo@example\.org\/t\//)
    expect(/<additional-data>([^<]*)</.exec(answer)![1]).toBe(createHmac('sha256', token).update('Responder').digest('base64'))
    expect(tokenOf(answer)).toBeUndefined()
  })

  test('who has no name, or wants a mechanism that there is not, gets none', async () => {
    const { connect } = await startFast()
    expect(tokenOf(await say(connect(), authenticate(`${initial(plain())}${want('HT-SHA-256-NONE')}`)))).toBeUndefined()
    expect(tokenOf(await say(connect(), authenticate(`${initial(plain())}${AGENT}${want('PLAIN')}`)))).toBeUndefined()
  })

  test('a wrong token is not-authorized, one that is no message malformed-request; without <fast/> or a name there is no such mechanism', async () => {
    const { connect } = await startFast()
    const token = tokenOf(await say(connect(), authenticate(`${initial(plain())}${AGENT}${want('HT-SHA-256-NONE')}`)))!
    expect(failureOf(await say(connect(), byToken('wrong')))).toBe('not-authorized')
    expect(failureOf(await say(connect(), byToken(token, '')))).toBe('invalid-mechanism')
    const bare = authenticate(`${initial(shown(token))}${AGENT}`, 'HT-SHA-256-NONE')
    expect(failureOf(await say(connect(), bare))).toBe('invalid-mechanism')
    const short = authenticate(`${initial(base64('romeo'))}${AGENT}<fast xmlns='urn:xmpp:fast:0'/>`, 'HT-SHA-256-NONE')
    expect(failureOf(await say(connect(), short))).toBe('malformed-request')
    expect(failureOf(await say(connect(), byToken(token).replace('HT-SHA-256-NONE', 'HT-SHA-256-EXPR')))).toBe(
      'invalid-mechanism',
    )
  })

  test('§3.6 once it is invalidated it opens nothing', async () => {
    const { connect } = await startFast()
    const token = tokenOf(await say(connect(), authenticate(`${initial(plain())}${AGENT}${want('HT-SHA-256-NONE')}`)))!
    expect(identifierOf(await say(connect(), byToken(token, AGENT, " invalidate='true'")))).toBe(ROMEO)
    expect(failureOf(await say(connect(), byToken(token)))).toBe('not-authorized')
  })
})

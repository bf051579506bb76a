import { afterEach, describe, expect, test } from 'vitest'
import { manualClock } from '#core/clock.ts'
import { defineModule } from '#core/module.ts'
import { el } from '#xmpp/stanza.ts'
import {
  base64,
  bind,
  boundSessions,
  connect,
  eventually,
  type FakeConnection,
  header,
  makeAccount,
  PASSWORD,
  type ProcessOptions,
  plainAuth,
  settled,
  startRoles,
  testProcess,
} from '../edge.fixture.ts'
import { type OpenEdge, openEdge } from '../main.ts'

const NS_SASL = 'urn:ietf:params:xml:ns:xmpp-sasl'
const NS_TLS = 'urn:ietf:params:xml:ns:xmpp-tls'
const STREAM_CLOSE = '</stream:stream>'
const stops: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop()
})

type Options = ConstructorParameters<typeof FakeConnection>[0]

interface TestEdge extends OpenEdge {
  readonly process: ReturnType<typeof testProcess>
  connect(options?: Options): FakeConnection
  /** Makes the account where there is none, and logs in. */
  logIn(jid: string, options?: Options): Promise<FakeConnection>
}

async function start(options: ProcessOptions = {}): Promise<TestEdge> {
  const process = testProcess(options)
  stops.push(await startRoles(process))
  const open = openEdge(process)
  stops.push(() => open.close())
  return {
    ...open,
    process,
    connect: (options) => connect(open.onConnection, options),
    async logIn(jid, options) {
      const [account, resource] = jid.split('/') as [string, string | undefined]
      await makeAccount(process, account).catch(() => {})
      const connection = connect(open.onConnection, options)
      await connection.logIn(account, resource)
      return connection
    },
  }
}

/** The stream error a connection was ended with; fails where it was not ended properly. */
function streamError(connection: FakeConnection): string | undefined {
  expect(connection.ended).toBe(true)
  return /<stream:error[^>]*><([a-z-]+) /.exec(connection.written)?.[1]
}

function failure(text: string): string | undefined {
  return /<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><([a-z-]+)\/>/.exec(text)?.[1]
}

describe('RFC 6120 §4.7 the stream header', () => {
  test('is answered with a header of our own, and features', async () => {
    const { connect } = await start()
    const answer = connect().open().take()
    expect(answer).toMatch(
      /^<\?xml version='1.0'\?><stream:stream xmlns='jabber:client' xmlns:stream='http:\/\/etherx.jabber.org\/streams' id='[\w-]{10,}' from='example.org' version='1.0' xml:lang='en'><stream:features>/,
    )
  })

  test('§4.7.3 every stream has another id, also after the login', async () => {
    const { logIn } = await start()
    const connection = await logIn('romeo@example.org')
    const ids = [...connection.written.matchAll(/<stream:stream [^>]* id='([^']*)'/g)].map(([, id]) => id)
    expect(ids).toHaveLength(2)
    expect(new Set(ids).size).toBe(2)
  })

  test('§4.7.2 a from is answered with a to that is its bare JID', async () => {
    const { connect } = await start()
    expect(connect().open('example.org', "version='1.0' from='Romeo@example.org/x'").take()).toContain(" to='romeo@example.org' ")
    expect(connect().open('example.org', "version='1.0' from='@'").take()).not.toContain(' to=')
  })

  test.for([
    ['host-unknown', header('example.com'), '§4.9.3.6 a domain that is not served'],
    ['host-unknown', header('[::1'), '§4.9.3.6 what is no domain at all'],
    ['improper-addressing', header(''), '§4.9.3.7 no to'],
    ['invalid-namespace', header().replace('jabber:client', 'jabber:server'), '§4.9.3.10 a stream of servers'],
    ['invalid-namespace', header().replace('etherx', 'example'), '§4.9.3.10 a wrong stream namespace'],
    ['unsupported-version', header('example.org', "xml:lang='en'"), '§4.9.3.25 no version'],
    ['unsupported-version', header('example.org', "version='0.9'"), '§4.9.3.25 version 0.9'],
    ['unsupported-version', header('example.org', "version='one'"), '§4.9.3.25 a version that is no number'],
    ['not-well-formed', 'GET / HTTP/1.1\r\n\r\n', '§4.9.3.13 what is no XML'],
    ['restricted-xml', `<!DOCTYPE a>${header()}`, '§4.9.3.18 a document type'],
    ['bad-format', header().replaceAll('stream:stream', 'stream:flow'), '§4.9.3.1 another root'],
  ])('%s, after a header of ours (§4.9.1.1): %s %s', async ([condition, sent]) => {
    const { connect, edge } = await start()
    const connection = connect()
    connection.send(sent!)
    expect(connection.written).toMatch(/^<\?xml version='1.0'\?><stream:stream [^>]* from='example.org'/)
    expect(connection.written).not.toContain('features')
    expect(connection.written.endsWith(`</stream:error>${STREAM_CLOSE}`)).toBe(true)
    expect(streamError(connection)).toBe(condition)
    expect(edge.streams.size).toBe(0)
  })

  test('§4.7.5 leading zeros of a version are ignored, and a higher one is answered with ours', async () => {
    const { connect } = await start()
    for (const version of ['01.0', '1.1', '2.0']) {
      expect(connect().open('example.org', `version='${version}'`).take()).toMatch(/ version='1.0' .*<stream:features>/)
    }
  })

  test('a domain is prepared before it is compared', async () => {
    const { connect } = await start()
    expect(connect().open('EXAMPLE.net').take()).toContain("from='example.net'")
  })

  test('a second header inside the stream is no header', async () => {
    const { connect } = await start()
    const connection = connect().open()
    connection.send("<stream:stream to='example.org' version='1.0'>")
    connection.send('</stream:stream>')
    expect(streamError(connection)).toBe('not-authorized')
  })

  test('bytes after a stream error are ignored', async () => {
    const { connect } = await start()
    const connection = connect().open('example.com')
    const { written } = connection
    connection.events.data(Buffer.from(header()))
    connection.vanish()
    expect(connection.written).toBe(written)
  })

  test('§4.9.1.1 an error of the client’s ends the stream, and is answered by the closing tag alone', async () => {
    const { connect, edge, process } = await start()
    const connection = connect().open()
    connection.take()
    connection.send("<stream:error><not-well-formed xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>")
    expect([connection.take(), connection.ended, edge.streams.size]).toEqual([STREAM_CLOSE, true, 0])
    const said = process.log.lines.find(({ event }) => event === 'stream.failed_by_client')
    expect(said?.fields).toMatchObject({ condition: '{urn:ietf:params:xml:ns:xmpp-streams}not-well-formed' })
  })

  test('a closing tag before any login is answered (§4.4)', async () => {
    const { connect, edge } = await start()
    const connection = connect().open()
    connection.send(STREAM_CLOSE)
    expect([connection.written.endsWith(STREAM_CLOSE), connection.ended, edge.streams.size]).toEqual([true, true, 0])
    expect(connection.written).not.toContain('error')
  })
})

describe('RFC 6120 §4.3.2 features', () => {
  const stranger = defineModule({
    name: 'stranger',
    home: 'router',
    xeps: [],
    namespaces: ['urn:test:stranger'],
    strangers: ['urn:test:stranger'],
    streamFeaturesBeforeLogin: () => [el('ask', 'urn:test:stranger')],
    streamFeatures: () => [el('more', 'urn:test:stranger')],
    setup(app) {
      app.iq('get', 'urn:test:stranger', 'query', 'stranger', ({ address }) => el('seen', 'urn:test:stranger', { address }))
    },
  })

  test('§5.3.1 where TLS is required there is STARTTLS, required, and nothing else', async () => {
    const { connect } = await start({ modules: [stranger] })
    const features = /<stream:features>.*/.exec(connect({ encrypted: false, loopback: true }).open().take())?.[0]
    expect(features).toBe(`<stream:features><starttls xmlns='${NS_TLS}'><required/></starttls></stream:features>`)
  })

  test('inside TLS there are mechanisms, the strongest first, and no STARTTLS', async () => {
    const { connect } = await start({ modules: [stranger] })
    const features = connect().open().take()
    expect([...features.split('<authentication')[0]!.matchAll(/<mechanism>([^<]*)</g)].map(([, name]) => name)).toEqual([
      'SCRAM-SHA-512',
      'SCRAM-SHA-256',
      'SCRAM-SHA-1',
      'PLAIN',
    ])
    expect(features).not.toContain('starttls')
    expect(features).toContain("<ask xmlns='urn:test:stranger'/>")
  })

  test('§6.3.3 where TLS is optional, PLAIN is for TLS only', async () => {
    const { connect } = await start({ config: { c2s: { requireTls: false } } })
    const features = connect({ encrypted: false, loopback: true }).open().take()
    expect(features).toContain(`<starttls xmlns='${NS_TLS}'/>`)
    expect(features).toContain('<mechanism>SCRAM-SHA-256</mechanism>')
    expect(features).not.toContain('PLAIN')
  })

  test('the switch for loopback offers PLAIN without TLS there, and nowhere else', async () => {
    const { connect } = await start({ config: { c2s: { allowPlainOnLoopback: true } } })
    expect(connect({ encrypted: false, loopback: true }).open().take()).toContain('<mechanism>PLAIN</mechanism>')
    expect(connect({ encrypted: false, loopback: false }).open().take()).not.toContain('mechanism')
  })

  test('§7.2 after the login there are bind, the optional session of RFC 3921 and what modules add', async () => {
    const { logIn } = await start({ modules: [stranger] })
    const connection = await logIn('romeo@example.org')
    const features = connection.written.slice(connection.written.lastIndexOf('<stream:features>'))
    expect(features).toMatch(
      /^<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'\/><session [^>]*><optional\/><\/session>/,
    )
    expect(features).toContain("<more xmlns='urn:test:stranger'/>")
    expect(features).not.toContain('mechanisms')
  })

  describe('an iq for strangers', () => {
    const ask = (attributes: string) => `<iq ${attributes}><query xmlns='urn:test:stranger'/></iq>`

    test('is answered before the login, with the address it came from', async () => {
      const { connect } = await start({ modules: [stranger] })
      const connection = connect().open()
      connection.send(ask("type='get' id='1' to='example.org'"))
      expect(await connection.until('</iq>')).toMatch(/<iq id='1' type='result'><seen [^>]*address='192.0.2.7'/)
    })

    test('of no id is answered bad-request', async () => {
      const { connect } = await start({ modules: [stranger] })
      const connection = connect().open()
      connection.send(ask("type='get'"))
      expect(connection.written).toMatch(/<iq type='error'>.*<bad-request/)
    })

    test.for([
      ['to another domain', "type='get' id='1' to='example.net'", true],
      ['before TLS where it is required', "type='get' id='1'", false],
    ] as const)('%s is refused as any stanza (§4.9.3.12)', async ([, attributes, encrypted]) => {
      const { connect } = await start({ modules: [stranger] })
      const connection = connect({ encrypted }).open()
      connection.send(ask(attributes))
      expect(streamError(connection)).toBe('not-authorized')
    })
  })
})

describe('RFC 6120 §5 STARTTLS', () => {
  const STARTTLS = `<starttls xmlns='${NS_TLS}'/>`

  test('§5.4.3.3 what came before the handshake is forgotten, and a new stream begins', async () => {
    const { connect } = await start()
    const connection = connect({ encrypted: false }).open()
    connection.take()
    connection.send(STARTTLS + header('example.com') + plainAuth('romeo'))
    expect(connection.take()).toBe(`<proceed xmlns='${NS_TLS}'/>`)
    expect(connection.tlsStarted).toBe(true)
    expect(connection.open().take()).toContain('<mechanism>PLAIN</mechanism>')
  })

  test('§5.4.3.3 half a stanza before it is no part of what comes after it', async () => {
    const { connect } = await start()
    const connection = connect({ encrypted: false }).open()
    connection.send(`${STARTTLS}<message><body>`)
    connection.take()
    expect(connection.open().take()).toContain('<stream:features>')
  })

  test('§5.4.2.2 where there is TLS already it fails, and the stream ends', async () => {
    const { connect } = await start()
    const connection = connect().open()
    connection.take()
    connection.send(STARTTLS)
    expect(connection.take()).toBe(`<failure xmlns='${NS_TLS}'/>${STREAM_CLOSE}`)
    expect(connection.ended).toBe(true)
  })
})

describe('RFC 6120 §6 SASL', () => {
  const auth = (mechanism: string, data = '') => `<auth xmlns='${NS_SASL}' mechanism='${mechanism}'>${data}</auth>`
  const response = (data: string) => `<response xmlns='${NS_SASL}'>${data}</response>`

  async function opened(options?: Options, config?: Record<string, unknown>) {
    const server = await start({ config: config ?? {} })
    await makeAccount(server.process, 'romeo@example.org')
    const connection = server.connect(options).open()
    connection.take()
    return { ...server, connection }
  }

  test('§6.4.6 success, and the stream begins anew', async () => {
    const { connection } = await opened()
    connection.send(plainAuth('romeo'))
    expect(await connection.until('success')).toBe(`<success xmlns='${NS_SASL}'/>`)
    expect(connection.open().take()).toMatch(/<stream:stream .*<bind /)
  })

  test('§6.4.2 without an initial response an empty challenge asks for it', async () => {
    const { connection } = await opened()
    connection.send(auth('PLAIN'))
    expect(await connection.until('challenge')).toMatch(/<challenge [^>]*>=?<\/challenge>/)
    connection.send(response(base64(`\0romeo\0${PASSWORD}`)))
    await connection.until('<success')
  })

  test.for([
    ['not-authorized', plainAuth('romeo', 'wrong'), '§6.5.10 a wrong password'],
    ['not-authorized', plainAuth('nobody'), '§6.5.10 no such account'],
    ['invalid-mechanism', auth('DIGEST-MD5'), '§6.5.7 what is not offered'],
    ['incorrect-encoding', auth('PLAIN', '###'), '§6.5.5 what is no base64'],
    ['malformed-request', response(''), '§6.5.8 a response to nothing'],
    ['malformed-request', `<other xmlns='${NS_SASL}'/>`, '§6.5.8 an unknown element'],
    ['aborted', `<abort xmlns='${NS_SASL}'/>`, '§6.5.1 an abort'],
  ])('%s is for %s %s', async ([condition, sent]) => {
    const { connection } = await opened()
    connection.send(sent!)
    expect(failure(await connection.until('</failure>'))).toBe(condition)
    connection.send(plainAuth('romeo')) // §6.4.5: and one may try again
    await connection.until('<success')
  })

  test('§6.4.4 an abort ends the exchange that has begun', async () => {
    const { connection } = await opened()
    connection.send(auth('PLAIN'))
    await connection.until('challenge')
    connection.send(`<abort xmlns='${NS_SASL}'/>`)
    expect(failure(connection.take())).toBe('aborted')
    connection.send(response(base64(`\0romeo\0${PASSWORD}`)))
    expect(failure(connection.take())).toBe('malformed-request')
  })

  test('a second <auth/> before the first is over fails both', async () => {
    const { connection } = await opened()
    connection.send(auth('PLAIN'))
    await connection.until('challenge')
    connection.send(plainAuth('romeo'))
    expect(failure(connection.take())).toBe('malformed-request')
  })

  test('§6.4.5 after as many failures as are allowed the stream ends with policy-violation', async () => {
    const { connection } = await opened({}, { limits: { loginFailuresPerStream: 3 } })
    for (let n = 1; n <= 3; n++) {
      expect(connection.ended).toBe(false)
      connection.send(plainAuth('romeo', 'wrong'))
      await connection.until('</failure>')
    }
    await settled()
    expect(streamError(connection)).toBe('policy-violation')
  })

  test('§6.5.4 encryption-required where TLS is, and for PLAIN outside of it', async () => {
    const { connection } = await opened({ encrypted: false, loopback: true })
    connection.send(plainAuth('romeo'))
    expect(failure(connection.take())).toBe('encryption-required')
    const { connection: optional } = await opened({ encrypted: false, loopback: true }, { c2s: { requireTls: false } })
    optional.send(plainAuth('romeo'))
    expect(failure(optional.take())).toBe('encryption-required')
  })

  test('a client that is gone before his login is decided leaves nothing behind', async () => {
    const { connection, edge, logIn } = await opened()
    connection.send(plainAuth('romeo'))
    connection.vanish()
    await logIn('romeo@example.org') // which is decided later
    expect([edge.streams.size, connection.take()]).toEqual([1, ''])
  })

  test('the stream after the login is for the domain of the login (§4.9.3.12)', async () => {
    const { connection } = await opened()
    connection.send(plainAuth('romeo'))
    await connection.until('<success')
    expect(streamError(connection.open('example.net'))).toBe('not-authorized')
  })

  test('all in one packet: what comes while a login is decided waits', async () => {
    const server = await start()
    await makeAccount(server.process, 'romeo@example.org')
    const connection = server.connect()
    connection.send(header() + plainAuth('romeo', 'wrong') + plainAuth('romeo'))
    const answers = await connection.until('<success')
    expect(answers).toMatch(/<stream:features>.*<failure .*<success/)
  })
})

describe('RFC 6120 §7 binding', () => {
  async function loggedIn(config?: Record<string, unknown>) {
    const server = await start({ config: config ?? {} })
    await makeAccount(server.process, 'romeo@example.org')
    const connection = server.connect().open()
    connection.send(plainAuth('romeo'))
    await connection.until('<success')
    connection.open().take()
    return { ...server, connection }
  }

  test('§7.6 without a resource the server makes one, another each time', async () => {
    const { connection, logIn } = await loggedIn()
    connection.send(bind())
    const [, first] = /<jid>(romeo@example.org\/[^<]+)</.exec(await connection.until('</iq>'))!
    const second = (await logIn('romeo@example.org')).written
    expect(second).not.toContain(first!)
  })

  test('§7.7 with a resource it is that one, prepared', async () => {
    const { connection, edge } = await loggedIn()
    connection.send(bind('Garde\u0301n'))
    expect(await connection.until('</iq>')).toBe(
      "<iq id='bind' type='result'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>romeo@example.org/Gardén</jid></bind></iq>",
    )
    expect(edge.sessions.size).toBe(1)
  })

  test.for([
    ["<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>a;b %?</resource></bind>", 'a;b %?'],
    ['<bind xmlns="urn:ietf:params:xml:ns:xmpp-bind"><resource>garden</resource></bind>', 'garden'],
    ["<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\n <resource>garden</resource>\n</bind>", 'garden'],
    ["<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>Romeo &amp; &#x4A;</resource></bind>", 'Romeo &amp; J'],
    ["<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource><![CDATA[gar]]>den</resource></bind>", 'garden'],
    ["<b:bind xmlns:b='urn:ietf:params:xml:ns:xmpp-bind'><b:resource>garden</b:resource></b:bind>", 'garden'],
    ["<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><hint xmlns='urn:example'/><resource>garden</resource></bind>", 'garden'],
  ])('§7.7 however it is written: %s', async ([written, resource]) => {
    const { connection } = await loggedIn()
    connection.send(`<iq type='set' id='bind'>${written}</iq>`)
    expect(await connection.until('</iq>')).toContain(`<jid>romeo@example.org/${resource}</jid>`)
  })

  test.for([
    "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>",
    "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'></bind>",
    "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource/></bind>",
    "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource></resource></bind>",
    "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource xmlns='urn:example'>garden</resource></bind>",
  ])('§7.6 the server makes one where none is named: %s', async (written) => {
    const { connection } = await loggedIn()
    connection.send(`<iq type='set' id='bind'>${written}</iq>`)
    expect(await connection.until('</iq>')).toMatch(/<jid>romeo@example.org\/[\w-]{12}<\/jid>/)
  })

  test('§7.7.2.1 a resource that is none is answered bad-request, and another may be asked for', async () => {
    const { connection } = await loggedIn()
    connection.send(bind('x'.repeat(1024)))
    expect(connection.take()).toMatch(/<iq id='bind' type='error'>.*<error type='modify'><bad-request /)
    connection.send(bind('garden'))
    await connection.until('romeo@example.org/garden')
  })

  test('§8.1.3 a bind of no id is answered bad-request', async () => {
    const { connection } = await loggedIn()
    connection.send(bind('garden', ''))
    expect(connection.take()).toMatch(/<iq type='error'>.*<bad-request /)
  })

  test.for([
    "<message to='juliet@example.org'><body>x</body></message>",
    '<presence/>',
    "<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>",
    bind().replace("'set'", "'get'"),
    plainAuth('romeo'),
  ])('§7.1 not-authorized before it: %s', async (sent) => {
    const { connection } = await loggedIn()
    connection.send(sent)
    expect(streamError(connection)).toBe('not-authorized')
  })

  test.for(["<message to='juliet@example.org'/>", '<presence/>', bind()])(
    '§4.9.3.12 not-authorized before the login: %s',
    async (sent) => {
      const { connect } = await start()
      const connection = connect().open()
      connection.send(sent)
      expect(streamError(connection)).toBe('not-authorized')
    },
  )

  test('§7.7.2.2 who binds a resource that is taken gets it, and the older stream ends with conflict', async () => {
    const { logIn, edge, process } = await start()
    const older = await logIn('romeo@example.org/garden')
    const newer = await logIn('romeo@example.org/garden')
    await eventually(() => older.ended, 'the older stream to end')
    expect(streamError(older)).toBe('conflict')
    expect([newer.ended, edge.sessions.size, await boundSessions(process, 'romeo@example.org')]).toEqual([false, 1, 1])
  })

  test('two who bind one resource in one turn: one stays', async () => {
    const { connect, edge, process } = await start()
    await makeAccount(process, 'romeo@example.org')
    const rivals = [connect(), connect()]
    for (const rival of rivals) {
      rival.open().send(plainAuth('romeo'))
      await rival.until('<success')
      rival.open()
    }
    for (const rival of rivals) rival.send(bind('garden'))
    await settled()
    expect(rivals.map(({ ended }) => ended)).toEqual([true, false])
    expect([edge.sessions.size, edge.early.size, await boundSessions(process, 'romeo@example.org')]).toEqual([1, 0, 1])
  })

  test('§7.6.2.1 one session more than an account may have is refused with resource-constraint', async () => {
    const { connection, logIn } = await loggedIn({ limits: { sessionsPerAccount: 1 } })
    await logIn('romeo@example.org/first')
    connection.send(bind('second'))
    expect(await connection.until('</iq>')).toMatch(/type='error'>.*<error type='wait'><resource-constraint /)
    connection.send(bind('first'))
    await connection.until('romeo@example.org/first')
  })

  test('a client that is gone before he is bound leaves no session behind', async () => {
    const { connection, edge, process } = await loggedIn()
    connection.send(bind('garden'))
    connection.vanish()
    await settled()
    expect([edge.sessions.size, edge.streams.size, edge.early.size, edge.leaving.size]).toEqual([0, 0, 0, 0])
    expect(await boundSessions(process, 'romeo@example.org')).toBe(0)
  })

  test('RFC 3921 §3: a session may be asked for, and is there already', async () => {
    const { logIn } = await start()
    const connection = await logIn('romeo@example.org/garden')
    connection.send("<iq type='set' id='s1'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>")
    expect(connection.take()).toBe("<iq to='romeo@example.org/garden' id='s1' type='result'/>")
  })
})

describe('time', () => {
  test('a client that has not bound in time is told connection-timeout (§4.9.3.4)', async () => {
    const clock = manualClock()
    const { connect, edge } = await start({ clock, config: { limits: { loginTimeoutMs: 5000 } } })
    const [silent, slow] = [connect(), connect().open()]
    clock.advance(4999)
    expect([silent.ended, slow.ended]).toEqual([false, false])
    clock.advance(1)
    expect([streamError(silent), streamError(slow)]).toEqual(['connection-timeout', 'connection-timeout'])
    expect(edge.streams.size).toBe(0)
  })

  test('once bound, a client may be silent', async () => {
    const clock = manualClock()
    const { logIn } = await start({ clock, config: { limits: { loginTimeoutMs: 5000 } } })
    const connection = await logIn('romeo@example.org/garden')
    clock.advance(60_000)
    expect(connection.ended).toBe(false)
  })

  test('a stream that ends leaves no timer behind', async () => {
    const clock = manualClock()
    const { connect } = await start({ clock })
    const before = clock.pending()
    connect().open('example.com')
    connect().vanish()
    expect(clock.pending()).toBe(before)
  })
})

// RFC 7395 on whichever driver loads here. With EXPECT_UWS set that must be uWebSockets.js: see
// test/containers/websocket-debian13.test.ts, which runs this file where its binary loads.
import net from 'node:net'
import { describe, expect, test } from 'vitest'
import { parseJid } from '#xmpp/jid.ts'
import { stanza } from '#xmpp/stanza.ts'
import {
  bind,
  boundSessions,
  eventually,
  frameHeader,
  header,
  makeAccount,
  plainAuth,
  settled,
  startRoles,
  testProcess,
} from '../edge.fixture.ts'
import { openEdge } from '../main.ts'
import { UNSENT_FACTOR } from './connection.ts'
import { hasIpv6, TestTls, testDoor } from './door.fixture.ts'
import { CLOSE, Client, certificate, driver, get, PATH, type Server, start, stops, UPGRADE } from './websocket.fixture.ts'
import { listenWebSocket } from './websocket.ts'

const certificates = new TestTls([certificate])

test.runIf(process.env.EXPECT_UWS)('the driver is uWebSockets.js', () => {
  expect(driver).toBe('uWebSockets.js')
})

describe(`${driver}: RFC 7395 §3.1 the handshake`, () => {
  test('the subprotocol is xmpp, also where it is one of several', async () => {
    const { url } = await start()
    for (const protocols of [['xmpp'], ['mqtt', 'xmpp']])
      expect((await new Client(url, protocols).opened()).socket.protocol).toBe('xmpp')
  })

  test.for([
    ['no subprotocol', {}],
    ['another subprotocol', { 'sec-websocket-protocol': 'mqtt, xmpp2' }],
  ] as const)('%s is refused', async ([, headers]) => {
    const { port, edge } = await start()
    const { status, text } = await get(port, PATH, { ...UPGRADE, ...headers })
    expect([status, text]).toEqual([400, 'the subprotocol xmpp is spoken here (RFC 7395)\n'])
    expect(edge.streams.size).toBe(0)
  })

  test('a plain request is told to upgrade, one for anything else that it is not there', async () => {
    const { port } = await start()
    const plain = await get(port, PATH)
    expect([plain.status, plain.headers.upgrade]).toEqual([426, 'websocket'])
    expect((await get(port, '/')).status).toBe(404)
    expect((await get(port, '/elsewhere', { ...UPGRADE, 'sec-websocket-protocol': 'xmpp' })).status).toBe(404)
  })

  test('the path is the one that is configured', async () => {
    const { url } = await start({ config: { c2s: { allowPlainOnLoopback: true }, websocket: { port: 0, path: '/chat/ws' } } })
    expect(url).toMatch(/\/chat\/ws$/)
    await new Client(url).opened()
    await expect(new Client(url.replace('/chat/ws', PATH)).opened()).rejects.toThrow('404')
  })

  test("Node's own client, as a browser's, gets in", async () => {
    const { url } = await start()
    const socket = new globalThis.WebSocket(url, 'xmpp')
    const first = new Promise((resolve) => socket.addEventListener('message', ({ data }) => resolve(data)))
    socket.addEventListener('open', () => socket.send(frameHeader()))
    expect(await first).toMatch(/^<open /)
    const closed = new Promise((resolve) => socket.addEventListener('close', resolve))
    socket.send(CLOSE)
    expect(await closed).toMatchObject({ code: 1000, wasClean: true })
  })
})

describe(`${driver}: RFC 7395 §3.3, §3.4 frames`, () => {
  test('a stream is opened, and each first-level element is a frame of its own with its namespaces', async () => {
    const { logIn, connect } = await start()
    const client = (await connect()).send(frameHeader())
    expect(await client.until('<open')).toMatch(
      /^<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' id='[^']+' from='example.org' version='1.0' xml:lang='en'\/>$/,
    )
    expect(await client.until('features')).toMatch(
      /^<stream:features xmlns:stream='http:\/\/etherx.jabber.org\/streams' .*<\/stream:features>$/,
    )
    const romeo = await logIn('romeo', 'garden')
    romeo.send("<message xmlns='jabber:client' to='romeo@example.org/garden' id='1'><body>one</body></message>")
    romeo.send("<message xmlns='jabber:client' to='romeo@example.org/garden' id='2'/>")
    expect(await romeo.until("id='1'")).toBe(
      "<message xmlns='jabber:client' from='romeo@example.org/garden' to='romeo@example.org/garden' id='1'><body>one</body></message>",
    )
    expect(await romeo.until("id='2'")).toBe(
      "<message xmlns='jabber:client' from='romeo@example.org/garden' to='romeo@example.org/garden' id='2'/>",
    )
  })

  test('two on WebSockets and one on TCP are in touch', async () => {
    const { logIn, tcpPort, process } = await start()
    const [romeo, juliet] = [await logIn('romeo', 'garden'), await logIn('juliet', 'balcony')]
    await makeAccount(process, 'nurse@example.org')
    const nurse = net.connect({ host: '127.0.0.1', port: tcpPort })
    stops.push(() => void nurse.destroy())
    let text = ''
    nurse.on('data', (bytes) => (text += bytes))
    nurse.write(header() + plainAuth('nurse'))
    await eventually(() => text.includes('<success'), 'the login')
    nurse.write(header() + bind('house'))
    await eventually(() => text.includes('</iq>'), 'the bind')
    text = ''
    const say = (to: string, body: string) =>
      `<message xmlns='jabber:client' to='${to}' type='chat'><body>${body}</body></message>`
    romeo.send(say('juliet@example.org/balcony', 'ünder 🐦'))
    expect(await juliet.until('<body>ünder 🐦</body>')).toContain("from='romeo@example.org/garden'")
    juliet.send(say('nurse@example.org/house', 'dear'))
    await eventually(() => text.includes('</message>'), 'her message')
    expect(text).toBe(
      "<message from='juliet@example.org/balcony' to='nurse@example.org/house' type='chat'><body>dear</body></message>",
    )
    nurse.write(say('romeo@example.org/garden', 'hush'))
    expect(await romeo.until('hush')).toBe(
      "<message xmlns='jabber:client' from='nurse@example.org/house' to='romeo@example.org/garden' type='chat'><body>hush</body></message>",
    )
  })

  test.for([
    ['two stanzas in one frame', "<presence xmlns='jabber:client'/><presence xmlns='jabber:client'/>", 'not-well-formed'],
    ['half a stanza', "<message xmlns='jabber:client'><body>", 'not-well-formed'],
    ['whitespace, since there are no such keepalives (§3.8)', ' ', 'bad-format'],
    ['an empty frame', '', 'bad-format'],
    ['a stanza without its namespace', '<presence/>', 'unsupported-stanza-type'],
    ['a second <open/>', frameHeader(), 'bad-format'],
    ['a header of RFC 6120', header(), 'not-well-formed'],
  ])('%s is an error', async ([, frame, condition]) => {
    const { logIn, edge } = await start()
    const romeo = await logIn('romeo', 'garden')
    romeo.send(frame!)
    expect(await romeo.until('stream:error')).toMatch(
      new RegExp(`^<stream:error xmlns:stream='http://etherx.jabber.org/streams'><${condition} `),
    )
    expect(await romeo.until('<close')).toBe(CLOSE)
    expect(await romeo.gone()).toBe(1000)
    await eventually(() => edge.sessions.size === 0, 'the session to be forgotten')
  })

  test('§3.4 a stanza before <open/> is answered with <open/>, an error and <close/>', async () => {
    const { connect } = await start()
    const client = (await connect()).send(bind())
    await client.gone()
    expect(client.frames.map((frame) => /^<([\w:]+)/.exec(frame)![1])).toEqual(['open', 'stream:error', 'close'])
  })

  test('§3.2 a binary frame ends the connection, and is not read', async () => {
    const { logIn, edge } = await start()
    const romeo = await logIn('romeo', 'garden')
    romeo.send(Buffer.from("<message xmlns='jabber:client' to='romeo@example.org/garden'/>"))
    expect(await romeo.gone()).toBe(1003)
    expect(romeo.frames).toEqual([])
    await eventually(() => edge.sessions.size === 0, 'the session to be forgotten')
  })

  test('a message in fragments is one frame, with a ping in between', async () => {
    const { logIn } = await start()
    const romeo = await logIn('romeo', 'garden')
    const pong = new Promise((resolve) => romeo.socket.once('pong', (data) => resolve(String(data))))
    const bytes = Buffer.from("<message xmlns='jabber:client' to='romeo@example.org/garden'><body>🐦</body></message>")
    for (let at = 0; at < bytes.length; at += 7) {
      romeo.socket.send(bytes.subarray(at, at + 7), { fin: at + 7 >= bytes.length, binary: false })
      if (at === 7) romeo.socket.ping('still there?')
    }
    expect(await pong).toBe('still there?')
    await romeo.until('<body>🐦</body>')
  })

  test('UTF-8 that is none ends the connection, and nothing of it is handed on', async () => {
    const { logIn, edge } = await start()
    const romeo = await logIn('romeo', 'garden')
    const frame = Buffer.from("<message xmlns='jabber:client' to='romeo@example.org/garden'><body>?</body></message>")
    frame[frame.indexOf('?')] = 0xff
    romeo.socket.send(frame, { binary: false })
    await romeo.gone()
    expect(romeo.frames.filter((frame) => frame.startsWith('<message'))).toEqual([])
    await eventually(() => edge.sessions.size === 0, 'the session to be forgotten')
  })

  test('a stanza over the limit is policy-violation; a frame that could be none is not even read', async () => {
    const { logIn, edge } = await start({
      config: { c2s: { allowPlainOnLoopback: true }, websocket: { port: 0 }, limits: { stanzaBytes: 10_000 } },
    })
    const sized = (bytes: number) => `<message xmlns='jabber:client'><body>${'x'.repeat(bytes - 54)}</body></message>`
    const [over, far] = [await logIn('romeo', 'over'), await logIn('romeo', 'far')]
    over.send(sized(10_001))
    expect(await over.until('stream:error')).toContain('policy-violation')
    await over.gone()
    far.send(sized(1_000_000))
    await far.gone()
    await eventually(() => edge.sessions.size === 0, 'the sessions to be forgotten')
  })
})

describe(`${driver}: RFC 7395 §3.6 the end`, () => {
  test('a <close/> is answered by one, and by a close of the WebSocket', async () => {
    const { logIn, edge, process } = await start()
    const romeo = await logIn('romeo', 'garden')
    romeo
      .send("<iq xmlns='jabber:client' type='get' id='1'><x xmlns='urn:x'/></iq>")
      .send(CLOSE)
      .send("<presence xmlns='jabber:client'/>")
    expect(await romeo.gone()).toBe(1000)
    expect(romeo.frames.map((frame) => frame.slice(0, 6))).toEqual(['<iq xm', '<close'])
    expect([edge.sessions.size, edge.streams.size]).toEqual([0, 0])
    await eventually(async () => (await boundSessions(process, 'romeo@example.org')) === 0, 'the router to know')
  })

  test('a WebSocket that is closed without one, or just vanishes, ends the session', async () => {
    const { logIn, edge, process } = await start()
    const clients = [await logIn('romeo', 'closes'), await logIn('romeo', 'vanishes'), await logIn('romeo', 'resets')]
    clients[0]!.socket.close(1001)
    clients[1]!.socket.terminate()
    ;(clients[2]!.socket as unknown as { _socket: net.Socket })._socket.resetAndDestroy()
    await eventually(() => edge.sessions.size === 0 && edge.streams.size === 0, 'the sessions to be forgotten')
    await eventually(async () => (await boundSessions(process, 'romeo@example.org')) === 0, 'the router to know')
  })

  test('a connection that is gone is touched no more, whatever is still done with it', async () => {
    const { logIn, edge, connections } = await start()
    const romeo = await logIn('romeo', 'garden')
    const [connection] = connections
    const [session] = edge.sessions.values()
    connection!.write('<a/>')
    romeo.socket.terminate()
    await eventually(() => edge.sessions.size === 0, 'the session to be forgotten')
    connection!.write('<message', Buffer.from('><body/>'), '</message>')
    session!.deliver(stanza('message', parseJid('juliet@example.org'), {}), 'kept')
    connection!.pause()
    connection!.resume()
    connection!.end()
    connection!.destroy()
    await settled()
    expect(connection!.unsentBytes).toBe(0)
  })

  test('and so is one that we have ended, or destroyed, in the very turn it was written to', async () => {
    const { logIn, edge, connections } = await start()
    const ended = await logIn('romeo', 'ended')
    const destroyed = await logIn('romeo', 'destroyed')
    for (const [n, way] of (['end', 'destroy'] as const).entries()) {
      const connection = connections[n]!
      connection.write('<last/>')
      connection[way]()
      connection.write('<late/>')
      connection.end()
      connection.destroy()
      connection.write('<later/>')
    }
    await Promise.all([ended.gone(), destroyed.gone()])
    expect([ended.frames.includes('<late/>'), destroyed.frames.includes('<late/>')]).toEqual([false, false])
    await eventually(() => edge.sessions.size === 0, 'the sessions to be forgotten')
  })
})

describe(`${driver}: back-pressure`, () => {
  const hundred = Array.from(
    { length: 100 },
    (_, n) => `<message xmlns='jabber:client' to='romeo@example.org/garden' id='m${n}'/>`,
  )

  test('what a client sends ahead waits, and comes in order', async () => {
    const { logIn } = await start({
      config: { c2s: { allowPlainOnLoopback: true }, websocket: { port: 0 }, limits: { inFlightPerSession: 2 } },
    })
    const romeo = await logIn('romeo', 'garden')
    for (const frame of hundred) romeo.send(frame)
    await romeo.until("id='m99'")
    for (const frame of hundred) romeo.send(frame)
    await eventually(() => romeo.frames.length === 100, 'all of it')
    expect(romeo.frames.map((frame) => /id='m(\d+)'/.exec(frame)![1])).toEqual(hundred.map((_, n) => String(n)))
  })

  test('a connection that is paused tells its stream nothing, until it is resumed', async () => {
    const { logIn, connections } = await start()
    const romeo = await logIn('romeo', 'garden')
    connections[0]!.pause()
    for (const frame of hundred) romeo.send(frame)
    await new Promise((resolve) => setTimeout(resolve, 50))
    await settled()
    expect(romeo.frames).toEqual([])
    connections[0]!.resume()
    await romeo.until("id='m99'")
  })

  test('a client that floods a paused connection costs a bounded room', async () => {
    const { logIn, connections, edge } = await start({
      config: { c2s: { allowPlainOnLoopback: true }, websocket: { port: 0 }, limits: { bytesPerSecond: 0 } },
    })
    const romeo = await logIn('romeo', 'garden')
    connections[0]!.pause()
    const frame = `<message xmlns='jabber:client' to='romeo@example.org/garden'><body>${'x'.repeat(100_000)}</body></message>`
    for (let n = 0; n < 200; n++) romeo.send(frame)
    if (driver === 'ws') {
      // The kernel's buffers fill, and the client has to wait.
      await eventually(() => romeo.socket.bufferedAmount > 1_000_000, 'the client to wait')
      connections[0]!.resume()
      await eventually(() => romeo.socket.bufferedAmount === 0, 'the client to be read from')
    } else {
      await romeo.gone()
      await eventually(() => edge.sessions.size === 0, 'the session to be forgotten')
    }
  })

  test('a burst used to cut off a client that reads', async () => {
    const { logIn, edge, connections } = await start({
      config: { c2s: { allowPlainOnLoopback: true }, websocket: { port: 0 }, limits: { writeBufferBytes: 512 * 1024 } },
    })
    const romeo = await logIn('romeo', 'garden')
    const [session] = edge.sessions.values()
    const big = stanza('message', parseJid('juliet@example.org'), { id: 'x'.repeat(100_000) })
    for (let burst = 0; burst < 20; burst++) {
      for (let n = 0; n < 15; n++) session!.deliver(big, 'kept')
      await eventually(() => connections[0]!.unsentBytes === 0, 'the burst to be taken')
    }
    await eventually(() => romeo.frames.length >= 300, 'all of it to come')
    expect([romeo.closed, edge.sessions.size]).toEqual([undefined, 1])
  })

  test('a client that does not read is cut off at its bound', async () => {
    const { logIn, edge, process, connections } = await start({
      config: { c2s: { allowPlainOnLoopback: true }, websocket: { port: 0 }, limits: { writeBufferBytes: 512 * 1024 } },
    })
    const romeo = await logIn('romeo', 'garden')
    romeo.socket.pause()
    const [session] = edge.sessions.values()
    const big = stanza('message', parseJid('juliet@example.org'), { id: 'x'.repeat(100_000) })
    let most = 0
    for (let n = 0; n < 1000 && edge.sessions.size > 0; n++) {
      session!.deliver(big, 'kept')
      most = Math.max(most, connections[0]!.unsentBytes)
      await settled(1)
    }
    expect(edge.sessions.size).toBe(0)
    expect(most).toBeLessThan(512 * 1024 * UNSENT_FACTOR + 200_000)
    expect(process.log.lines.map(({ event }) => event)).toContain('stream.slow_reader')
  })
})

describe(`${driver}: who is at the other end`, () => {
  const PLAIN = '<mechanism>PLAIN</mechanism>'

  async function features(server: Server, headers: Record<string, string>): Promise<string> {
    return (await server.connect({ headers })).send(frameHeader()).until('features')
  }

  test('X-Forwarded-Proto of a stranger is nobody’s word', async () => {
    const server = await start({ config: { websocket: { port: 0 }, c2s: {} } })
    expect(await features(server, { 'x-forwarded-proto': 'https', 'x-forwarded-for': '192.0.2.1' })).not.toContain('mechanism')
    expect(server.connections[0]).toMatchObject({ encrypted: false, address: '127.0.0.1' })
  })

  test.for(['https', 'HTTPS', 'wss'])(
    'of a trusted proxy %s counts as TLS, and its X-Forwarded-For as the address',
    async (scheme) => {
      const server = await start({ config: { websocket: { port: 0 }, c2s: {}, trustedProxies: ['127.0.0.0/8', '10.0.0.0/8'] } })
      expect(
        await features(server, { 'x-forwarded-proto': scheme, 'x-forwarded-for': '203.0.113.9, 2001:db8::1, 10.1.2.3' }),
      ).toContain(PLAIN)
      expect(server.connections[0]).toMatchObject({ encrypted: true, loopback: false, address: '2001:db8::1' })
      expect(await features(server, { 'x-forwarded-proto': 'http' })).not.toContain('mechanism')
    },
  )

  test.for([
    ['https, http', '203.0.113.9, 10.1.2.3', true, 'by TLS to the first proxy, which goes on without'],
    ['http, https', '203.0.113.9, 10.1.2.3', false, 'in the clear to the first proxy, which goes on with TLS'],
    ['https, http, http', '198.51.100.1, 203.0.113.9, 10.1.2.3', false, 'in the clear; what stands before is his own word'],
    ['https,wss', '203.0.113.9', true, 'by TLS all the way'],
    ['https, http', '203.0.113.9', false, 'nobody knows how'],
    ['https, http', 'unknown', false, 'nobody knows who'],
  ] as const)(
    'X-Forwarded-Proto: %s of two proxies used to be no TLS at all; with %s it is %s: %4$s',
    async ([schemes, forwarded, encrypted]) => {
      const config = { websocket: { port: 0 }, c2s: {}, trustedProxies: ['127.0.0.0/8', '10.0.0.0/8'] }
      const server = await start({ config })
      const said = await features(server, { 'x-forwarded-proto': schemes, 'x-forwarded-for': forwarded })
      expect([server.connections[0]!.encrypted, said.includes('mechanism')]).toEqual([encrypted, encrypted])
    },
  )

  test.for([
    ['198.51.100.9, 203.0.113.9:4711', '203.0.113.9', 'a port beside it'],
    ['198.51.100.9, [2001:db8::1]:4711', '2001:db8::1', 'brackets and a port'],
    ['198.51.100.9, [2001:db8::1]', '2001:db8::1', 'brackets'],
    ['198.51.100.9, unknown', '127.0.0.1', 'nobody: then what stands before is nobody’s word'],
    ['127.0.0.1, unknown, 10.1.2.3', '127.0.0.1', 'nobody, told by a proxy to a proxy'],
  ])('%s: the client is %s, with %s', async ([forwarded, address]) => {
    const config = { websocket: { port: 0 }, c2s: { allowPlainOnLoopback: true }, trustedProxies: ['127.0.0.0/8', '10.0.0.0/8'] }
    const server = await start({ config })
    expect(await features(server, { 'x-forwarded-for': forwarded! })).not.toContain('mechanism')
    expect(server.connections[0]).toMatchObject({ address, loopback: false })
  })

  test('a client that sends the header himself does not speak for the proxy that adds a line of its own', async () => {
    const config = { websocket: { port: 0 }, c2s: { allowPlainOnLoopback: true }, trustedProxies: ['127.0.0.1'] }
    const server = await start({ config })
    const forwarded = ['127.0.0.1', '203.0.113.9'] as unknown as string // one line each
    expect(await features(server, { 'x-forwarded-for': forwarded })).not.toContain('mechanism')
    expect(server.connections[0]).toMatchObject({ address: '203.0.113.9', loopback: false })
  })

  test('the switch for loopback is for clients on loopback, not for proxies there', async () => {
    const switched = { c2s: { allowPlainOnLoopback: true }, websocket: { port: 0 } }
    const server = await start({ config: switched })
    expect(await features(server, {})).toContain(PLAIN)
    expect(await features(server, { 'x-forwarded-for': '203.0.113.9' })).not.toContain('mechanism')
    expect(await features(server, { forwarded: 'for=203.0.113.9' })).not.toContain('mechanism')
    const trusting = await start({ config: { ...switched, trustedProxies: ['127.0.0.1'] } })
    expect(await features(trusting, {})).not.toContain('mechanism')
    expect(await features(trusting, { 'x-forwarded-for': '203.0.113.9' })).not.toContain('mechanism')
  })

  test('with websocket.tls the port speaks TLS, and that is enough to log in', async () => {
    const server = await start({ config: { c2s: {}, websocket: { port: 0, tls: true } } })
    await makeAccount(server.process, 'romeo@example.org')
    const romeo = await server.connect()
    await romeo.logIn('romeo', 'garden')
    expect(server.connections[0]!.encrypted).toBe(true)
    romeo.send(CLOSE)
    expect(await romeo.gone()).toBe(1000)
  })

  test.skipIf(!hasIpv6)('on ::1 a client is on loopback', async () => {
    const server = await start({ host: '::1' })
    expect(await features(server, {})).toContain(PLAIN)
    expect(server.connections[0]).toMatchObject({ address: '::1', loopback: true })
  })

  test.skipIf(!hasIpv6)('on :: clients of both families come, each with the address it has', async () => {
    const server = await start({ host: '::' })
    for (const [n, host, address] of [
      [0, '[::1]', '::1'],
      [1, '127.0.0.1', '127.0.0.1'],
    ] as const) {
      const client = await new Client(server.url.replace('[::]', host)).opened()
      expect(await client.send(frameHeader()).until('features')).toContain(PLAIN)
      expect(server.connections[n]).toMatchObject({ address, loopback: true })
    }
  })

  test('a proxy that speaks of IPv4 as of IPv6 speaks of the same client', async () => {
    const server = await start({ config: { websocket: { port: 0 }, c2s: {}, trustedProxies: ['127.0.0.1'] } })
    await features(server, { 'x-forwarded-for': '::ffff:203.0.113.9' })
    expect(server.connections[0]).toMatchObject({ address: '203.0.113.9', loopback: false })
  })
})

describe(`${driver}: listening`, () => {
  test('a port that is taken is named, with the key that sets it', async () => {
    const taken = net.createServer().listen(0, '127.0.0.1')
    await new Promise((resolve) => taken.once('listening', resolve))
    stops.push(() => void taken.close())
    const { port } = taken.address() as net.AddressInfo
    const process = testProcess({ config: { websocket: { port } } })
    const listening = listenWebSocket(testDoor(process, certificates), '127.0.0.1')
    await expect(listening).rejects.toThrow(new RegExp(`port ${port} on 127.0.0.1 is taken .* set websocket.port `))
  })

  test('a port that another of ours has is taken, too', async () => {
    const { port } = await start()
    const process = testProcess({ config: { websocket: { port } } })
    const listening = listenWebSocket(testDoor(process, certificates), '127.0.0.1')
    await expect(listening).rejects.toThrow(`port ${port} on 127.0.0.1 is taken`)
  })

  test('`off` opens nothing', async () => {
    expect(await listenWebSocket(testDoor(testProcess(), certificates), '127.0.0.1')).toEqual([])
  })

  test('a stop tells every client why, closes requests that dawdle, and takes nobody any more', async () => {
    const process = testProcess({ config: { c2s: { allowPlainOnLoopback: true }, websocket: { port: 0 } } })
    stops.push(await startRoles(process))
    await makeAccount(process, 'romeo@example.org')
    const open = openEdge(process)
    const [listener] = await listenWebSocket(testDoor(process, certificates, open), '127.0.0.1')
    const romeo = await (await new Client(`ws://127.0.0.1:${listener!.port}${PATH}`).opened()).logIn('romeo', 'garden')
    const dawdler = net.connect({ host: '127.0.0.1', port: listener!.port })
    stops.push(() => void dawdler.destroy())
    dawdler.on('error', () => {})
    let dawdled = true
    dawdler.on('close', () => (dawdled = false))
    dawdler.write('GET / HTTP/1.1\r\n')
    await new Promise((resolve) => setTimeout(resolve, 20))
    const closing = listener!.close()
    await open.close()
    await closing
    expect(await romeo.until('stream:error')).toContain('system-shutdown')
    expect(await romeo.gone()).toBe(1000)
    await eventually(() => !dawdled, 'the dawdler to be closed')
    await expect(new Client(`ws://127.0.0.1:${listener!.port}${PATH}`).opened()).rejects.toThrow('ECONNREFUSED')
  })
})

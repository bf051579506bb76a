import net from 'node:net'
import tls from 'node:tls'
import { describe, expect, test } from 'vitest'
import { parseJid } from '#xmpp/jid.ts'
import { stanza } from '#xmpp/stanza.ts'
import { bind, eventually, header, makeAccount, plainAuth, settled, startRoles, testProcess } from '../edge.fixture.ts'
import { startEdge } from '../main.ts'
import { UNSENT_FACTOR } from './connection.ts'
import { hasIpv6, TestTls } from './door.fixture.ts'
import { Client, certificate, STARTTLS, start, stops } from './tcp.fixture.ts'

describe('RFC 6120 §5 STARTTLS', () => {
  test('a client proceeds to TLS, and logs in inside of it', async () => {
    const server = await start({ config: { c2s: { allowPlainOnLoopback: false } } })
    await makeAccount(server.process, 'romeo@example.org')
    const secure = await server.connect().startTls()
    await secure.logIn('romeo', 'garden')
    expect((secure.socket as tls.TLSSocket).getProtocol()).toBe('TLSv1.3')
    expect(server.edge.sessions.size).toBe(1)
    secure.send('</stream:stream>')
    await secure.until('</stream:stream>')
    await eventually(() => secure.closed, 'the connection to close')
    expect([server.edge.sessions.size, server.edge.streams.size]).toEqual([0, 0])
  })

  test('§5.4.3.3 what came with <starttls/> in one packet is forgotten', async () => {
    const server = await start()
    const client = server.connect().send(header())
    await client.until('</stream:features>')
    client.send(`${STARTTLS}<iq type='get'`)
    await client.until('<proceed')
    client.socket.removeAllListeners('data')
    // That rest is the beginning of no handshake, and of nothing else: TLS begins with what comes after <proceed/>.
    const secure = new Client(tls.connect({ socket: client.socket, servername: 'example.org', ca: certificate.cert }))
    secure.send(header())
    expect(await secure.until('</stream:features>')).toContain('<mechanism>PLAIN')
  })

  test('what is no handshake ends the connection, and nothing stays', async () => {
    const server = await start()
    const client = server.connect().send(header())
    await client.until('</stream:features>')
    client.send(STARTTLS)
    await client.until('<proceed')
    client.send('this is no client hello at all\r\n\r\n')
    await eventually(() => client.closed, 'the connection to close')
    await eventually(() => server.edge.streams.size === 0, 'the stream to be forgotten')
  })

  test('an old TLS is refused (RFC 9325 §3.1.1)', async () => {
    const server = await start()
    const client = server.connect().send(header())
    await client.until('</stream:features>')
    client.send(STARTTLS)
    await client.until('<proceed')
    client.socket.removeAllListeners('data')
    const secure = new Client(
      tls.connect({ socket: client.socket, ca: certificate.cert, maxVersion: 'TLSv1.1', minVersion: 'TLSv1.1' }),
    )
    await eventually(() => secure.error !== undefined, 'the handshake to fail')
    await eventually(() => server.edge.streams.size === 0, 'the stream to be forgotten')
  })
})

describe('a hello that is waited for', () => {
  test('between <proceed/> and the hello nothing is said in the clear, not even the end', async () => {
    const server = await start({ config: { limits: { loginTimeoutMs: 1000 } } })
    const client = server.connect().send(header())
    await client.until('</stream:features>')
    client.send(STARTTLS)
    await client.until('<proceed')
    client.text = ''
    const [connection] = server.connections
    expect([connection!.encrypted, connection!.canStartTls]).toEqual([true, false])
    connection!.write('a secret')
    await eventually(() => client.closed, 'its time to be over')
    expect([client.text, server.edge.streams.size]).toEqual(['', 0])
  })

  test.each([1, 700, 1_000, 1_001, 1_024, 3_000, 16_000])('a hello in pieces of %i bytes is one', async (length) => {
    const server = await start()
    await makeAccount(server.process, 'romeo@example.org')
    const through = await inPieces(server.tlsPort, length)
    const ALPNProtocols = ['xmpp-client', ...Array.from({ length: 40 }, (_, n) => `x${n}`.padEnd(200, 'x'))] // 8 kB of it
    const client = server.connectTls({ port: through, ALPNProtocols })
    await client.logIn('romeo', 'garden')
    expect((client.socket as tls.TLSSocket).alpnProtocol).toBe('xmpp-client')
    client.send(`<message to='romeo@example.org/garden'><body>${'x'.repeat(100_000)}</body></message>`)
    expect((await client.until('</message>')).length).toBeGreaterThan(100_000)
  })
})

/** Forwards to that port, what the client says first in pieces. Resolves to its own. */
async function inPieces(port: number, length: number): Promise<number> {
  const proxy = net.createServer({ noDelay: true }, (from) => {
    const to = net.connect({ host: '127.0.0.1', port, noDelay: true })
    stops.push(() => void [from, to].map((socket) => socket.destroy()))
    for (const socket of [from, to]) socket.on('error', () => {})
    to.pipe(from)
    from.once('data', async (hello: Buffer) => {
      from.pause()
      for (let at = 0; at < hello.length; at += length) {
        to.write(hello.subarray(at, at + length))
        await new Promise((resolve) => setImmediate(resolve))
      }
      from.pipe(to)
    })
  })
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
  stops.push(() => void proxy.close())
  return (proxy.address() as net.AddressInfo).port
}

describe('XEP-0368 TLS from the first byte', () => {
  test.for([
    ['xmpp-client', ['xmpp-client']],
    ['xmpp-client among others', ['h2', 'xmpp-client']],
    ['none', undefined],
  ] as const)('§3 a client that offers %s by ALPN is let in', async ([, protocols]) => {
    const server = await start()
    await makeAccount(server.process, 'romeo@example.org')
    const client = server.connectTls(protocols === undefined ? {} : { ALPNProtocols: [...protocols] })
    await client.logIn('romeo', 'garden')
    expect((client.socket as tls.TLSSocket).alpnProtocol).toBe(protocols === undefined ? false : 'xmpp-client')
    expect(server.connections[0]!.encrypted).toBe(true)
  })

  test('RFC 7301 §3.2 a client that offers only something else is refused, and nothing stays', async () => {
    const server = await start()
    const client = server.connectTls({ ALPNProtocols: ['h2', 'http/1.1'] })
    await eventually(() => client.error !== undefined, 'the handshake to fail')
    expect(client.error!.message).toMatch(/no.application.protocol/i)
    await eventually(() => server.edge.streams.size === 0, 'the stream to be forgotten')
  })

  test('a client that speaks no TLS is cut off', async () => {
    const server = await start()
    const client = server.connect({ port: server.tlsPort }).send(header())
    await eventually(() => client.closed, 'the connection to close')
    await eventually(() => server.edge.streams.size === 0, 'the stream to be forgotten')
    expect(client.text).not.toContain('stream')
  })

  test('a client that does not shake hands is cut off in time, and keeps no stop waiting', async () => {
    const server = await start({ config: { c2s: { tlsPort: 0 }, limits: { loginTimeoutMs: 1000 } } })
    const client = server.connect({ port: server.tlsPort })
    await eventually(() => server.edge.streams.size === 1, 'the connection to be taken')
    await eventually(() => client.closed, 'its time to be over')
    expect(server.edge.streams.size).toBe(0)
  })
})

describe('bytes in any cut', () => {
  test('one at a time they are the same stream', async () => {
    const server = await start()
    await makeAccount(server.process, 'romeo@example.org')
    const client = server.connect()
    client.socket.setNoDelay(true)
    for (const part of [
      header() + plainAuth('romeo'),
      header() + bind('garden'),
      "<message to='romeo@example.org/garden'><body>ünïcode 🐦</body></message>",
    ]) {
      for (const byte of Buffer.from(part)) {
        client.socket.write(Buffer.of(byte))
        await new Promise((resolve) => setImmediate(resolve))
      }
      await client.until(/<success|<\/iq>|<\/message>/)
    }
  })

  test('§4.6.1 whitespace between stanzas keeps the connection and is answered by nothing', async () => {
    const server = await start()
    await makeAccount(server.process, 'romeo@example.org')
    const client = server.connect()
    await client.logIn('romeo', 'garden')
    for (let n = 0; n < 5; n++) {
      client.send(' \n')
      await settled()
    }
    client.send("<iq type='get' id='1'><x xmlns='urn:x'/></iq>")
    expect(await client.until('</iq>')).toMatch(/^<iq /)
  })
})

describe('one write a turn', () => {
  test('what a turn has for a client comes as one piece', async () => {
    const server = await start()
    await makeAccount(server.process, 'romeo@example.org')
    const client = server.connect()
    await client.logIn('romeo', 'garden')
    const [connection] = server.connections
    const { chunks } = client
    for (let n = 0; n < 100; n++) connection!.write('<message', Buffer.from(`><body>${n}</body>`), '</message>')
    const text = await client.until('<body>99</body></message>')
    expect(text.match(/<message/g)).toHaveLength(100)
    expect(client.chunks - chunks).toBe(1)
  })

  test.each(['TCP', 'TLS'])('over %s a burst used to cut off a client that reads', async (how) => {
    const server = await start({
      config: { c2s: { tlsPort: 0, allowPlainOnLoopback: true }, limits: { writeBufferBytes: 512 * 1024 } },
    })
    await makeAccount(server.process, 'romeo@example.org')
    const client = how === 'TCP' ? server.connect() : server.connectTls()
    await client.logIn('romeo', 'garden')
    const [session] = server.edge.sessions.values()
    const big = stanza('message', parseJid('juliet@example.org'), { id: 'x'.repeat(100_000) })
    for (let burst = 0; burst < 20; burst++) {
      for (let n = 0; n < 15; n++) session!.deliver(big, 'kept') // in one turn, three times what may be unsent for long
      await eventually(() => server.connections[0]!.unsentBytes === 0, 'the burst to be taken')
    }
    await eventually(() => client.text.length >= 300 * 100_000, 'all of it to come')
    expect(client.closed).toBe(false)
  })

  test('what one turn has is not gathered without a bound', async () => {
    const server = await start()
    await makeAccount(server.process, 'romeo@example.org')
    const client = server.connect()
    await client.logIn('romeo', 'garden')
    const [connection] = server.connections
    client.socket.pause()
    const body = Buffer.alloc(100_000, 'x')
    for (let n = 0; n < 100; n++) connection!.write('<message>', body, '</message>')
    expect(connection!.unsentBytes).toBeGreaterThan(1_000_000) // offered to the socket in this very turn
  })

  test('a client that does not read is cut off at its bound, and only then', async () => {
    const server = await start({
      config: { c2s: { tlsPort: 'off', allowPlainOnLoopback: true }, limits: { writeBufferBytes: 512 * 1024 } },
    })
    const { edge, process } = server
    await makeAccount(process, 'romeo@example.org')
    const client = server.connect()
    await client.logIn('romeo', 'garden')
    client.socket.pause()
    const [session] = edge.sessions.values()
    const big = stanza('message', parseJid('juliet@example.org'), { id: 'x'.repeat(100_000) })
    let written = 0
    let most = 0
    while (edge.sessions.size > 0 && written++ < 1000) {
      session!.deliver(big, 'kept')
      most = Math.max(most, server.connections[0]!.unsentBytes)
      await settled(1)
    }
    expect(written).toBeGreaterThan(5)
    expect(written).toBeLessThan(1000)
    expect(most).toBeLessThan(512 * 1024 * UNSENT_FACTOR + 200_000)
    expect(process.log.lines.map(({ event }) => event)).toContain('stream.slow_reader')
    client.socket.resume()
    await eventually(() => client.closed, 'the connection to close')
  })
})

describe('a client that drips', () => {
  const TLS_HELLO = Buffer.concat([Buffer.from('16030100ff010000fb0303', 'hex'), Buffer.alloc(244, 1)])
  const PROXY_HEADER = Buffer.concat([Buffer.from('0d0a0d0a000d0a515549540a2111ffff', 'hex').fill(4, 14), Buffer.alloc(1024)])

  test.each([
    ['in the stream header', 'port', header().padEnd(4000, ' '), false],
    ['whitespace between elements', 'port', ' '.repeat(4000), false],
    ['in the TLS handshake', 'tlsPort', TLS_HELLO, false],
    ['in the header of a proxy', 'port', PROXY_HEADER, true],
    ['in the header of a proxy, before TLS', 'tlsPort', PROXY_HEADER, true],
  ] as const)('%s has no more time than any other', async (where, port, bytes, proxyProtocol) => {
    const server = await start({ config: { c2s: { tlsPort: 0, proxyProtocol }, limits: { loginTimeoutMs: 1000 } } })
    const client = server.connect({ port: server[port] })
    if (where === 'whitespace between elements') await client.send(header()).until('</stream:features>')
    let sent = 0
    const drip = setInterval(() => client.socket.write(Buffer.of(Buffer.from(bytes)[sent++]!)), 20)
    stops.push(() => clearInterval(drip))
    await eventually(() => client.closed, 'its time to be over')
    expect(sent).toBeGreaterThan(10) // it never stood still
    await eventually(() => server.edge.streams.size === 0, 'the stream to be forgotten')
  })
})

describe('the end of a connection', () => {
  test('what is queued is sent before it closes', async () => {
    const server = await start()
    await makeAccount(server.process, 'romeo@example.org')
    const client = server.connect()
    await client.logIn('romeo', 'garden')
    const [session] = server.edge.sessions.values()
    client.socket.pause()
    const big = stanza('message', parseJid('juliet@example.org'), { id: 'x'.repeat(100_000) })
    for (let n = 0; n < 30; n++) session!.deliver(big, 'kept')
    client.send('</stream:stream>')
    await eventually(() => server.edge.streams.size === 0, 'the stream to end')
    client.socket.resume()
    await eventually(() => client.closed, 'the connection to close')
    expect(client.text.match(/<message/g)).toHaveLength(30)
    expect(client.text.endsWith('</stream:stream>')).toBe(true)
  })

  test('§4.4 a client that half-closes has closed', async () => {
    const server = await start()
    await makeAccount(server.process, 'romeo@example.org')
    const client = server.connect()
    await client.logIn('romeo', 'garden')
    client.socket.end()
    await eventually(() => client.closed, 'the connection to close')
    expect([server.edge.sessions.size, server.edge.streams.size]).toEqual([0, 0])
  })

  test('a client that half-closes right behind its last words has them answered', async () => {
    const server = await start()
    const client = server.connect()
    client.socket.end(header('example.com'))
    await eventually(() => client.closed, 'the connection to close')
    expect(client.text).toMatch(/<host-unknown .*<\/stream:stream>$/)
  })

  test('a reset, in the middle of anything, leaves nothing behind', async () => {
    const server = await start()
    await makeAccount(server.process, 'romeo@example.org')
    const bound = server.connect()
    await bound.logIn('romeo', 'garden')
    const secure = await server.connect().startTls()
    const half = server.connect().send("<?xml version='1.0'?><stream:str")
    await eventually(() => server.edge.streams.size === 3, 'three streams')
    bound.send("<message to='romeo@example.org/garden'>")
    for (const { socket } of [bound, half]) socket.resetAndDestroy()
    secure.socket.destroy()
    await eventually(() => server.edge.streams.size === 0, 'the streams to be forgotten')
    expect(server.edge.sessions.size).toBe(0)
    expect(server.process.log.lines.filter(({ level }) => level === 'error')).toEqual([])
  })

  test('a client that goes on sending after a stream error is not read', async () => {
    const server = await start()
    const client = server.connect().send(header('example.com'))
    await client.until('</stream:stream>')
    for (let n = 0; n < 20; n++) client.send(header())
    await settled()
    expect([client.text, server.edge.streams.size]).toEqual(['', 0])
  })

  test('a stop ends streams before, in and after the handshake, and returns', async () => {
    const process = testProcess({ config: { c2s: { tlsPort: 0, allowPlainOnLoopback: true } } })
    stops.push(await startRoles(process))
    await makeAccount(process, 'romeo@example.org')
    const edge = await startEdge(process, new TestTls([certificate]))
    const port = (name: string) => edge.listeners.find((listener) => listener.name === name)!.port
    const bound = new Client(net.connect({ host: '127.0.0.1', port: port('c2s') }))
    await bound.logIn('romeo', 'garden')
    const silent = new Client(net.connect({ host: '127.0.0.1', port: port('c2s (TLS)') }))
    await eventually(() => !silent.socket.connecting, 'it to connect')
    await settled()
    const before = performance.now()
    await edge.stop()
    await eventually(() => bound.closed && silent.closed, 'both to be closed')
    expect(bound.text).toMatch(/<system-shutdown .*<\/stream:stream>$/)
    expect(performance.now() - before).toBeLessThan(2_000) // not one of the timeouts
  })
})

describe('listening', () => {
  test.for([
    ['c2s.port', (port: number) => ({ port, tlsPort: 'off' })],
    ['c2s.tlsPort', (port: number) => ({ port: 0, tlsPort: port })],
  ] as const)('a port that is taken is named, with the key that sets it: %s', async ([key, c2s]) => {
    const taken = net.createServer().listen(0, '127.0.0.1')
    await new Promise((resolve) => taken.once('listening', resolve))
    stops.push(() => void taken.close())
    const { port } = taken.address() as net.AddressInfo
    const process = testProcess({ config: { c2s: c2s(port) } })
    await expect(startEdge(process, new TestTls([certificate]))).rejects.toThrow(
      new RegExp(`port ${port} on 127.0.0.1 is taken .* set ${key} `),
    )
  })

  test('`off` opens nothing', async () => {
    const process = testProcess({ config: { c2s: { port: 'off', tlsPort: 'off' } } })
    const edge = await startEdge(process, new TestTls([certificate]))
    expect(edge.listeners).toEqual([])
    await edge.stop()
  })

  test.skipIf(!hasIpv6)('on ::1 a client is on loopback', async () => {
    const server = await start({ host: '::1' })
    const client = server.connect().send(header())
    expect(await client.until('</stream:features>')).toContain('<mechanism>PLAIN')
    expect([server.connections[0]!.address, server.connections[0]!.loopback]).toEqual(['::1', true])
    await server.connectTls().send(header()).until('</stream:features>')
    expect(server.connections[1]!.address).toBe('::1')
  })

  test.skipIf(!hasIpv6)('on :: clients of both families come, each with the address it has', async () => {
    const server = await start({ host: '::' })
    for (const [n, host, address] of [
      [0, '::1', '::1'],
      [1, '127.0.0.1', '127.0.0.1'],
    ] as const) {
      const client = server.connect({ host, port: server.port }).send(header())
      expect(await client.until('</stream:features>')).toContain('<mechanism>PLAIN')
      expect(server.connections[n]).toMatchObject({ address, loopback: true })
    }
    const secure = server.connectTls({ host: '127.0.0.1', port: server.tlsPort }).send(header())
    await secure.until('</stream:features>')
    expect(server.connections[2]).toMatchObject({ address: '127.0.0.1', loopback: true })
  })
})

import { mkdtempSync, rmSync } from 'node:fs'
import net from 'node:net'
import { networkInterfaces, tmpdir } from 'node:os'
import { join } from 'node:path'
import tls from 'node:tls'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { parseJid } from '#xmpp/jid.ts'
import { stanza } from '#xmpp/stanza.ts'
import { type CertificatePair, ensureCertificate } from './certificate.ts'
import { type Connection, type ConnectionEvents, UNSENT_FACTOR } from './connection.ts'
import {
  bind,
  eventually,
  header,
  makeAccount,
  type ProcessOptions,
  plainAuth,
  settled,
  startRoles,
  testProcess,
} from './edge.fixture.ts'
import { type Edge, openEdge, startEdge } from './main.ts'
import { listenTcp } from './tcp.ts'

const STARTTLS = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
const folder = mkdtempSync(join(tmpdir(), 'rookery-tcp-'))
let certificate: CertificatePair
const stops: (() => Promise<void> | void)[] = []
beforeAll(async () => {
  certificate = await ensureCertificate({ dir: folder, domains: ['example.org'] })
})
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop()
})
afterAll(() => rmSync(folder, { recursive: true }))

/** A client that keeps all it reads. */
class Client {
  readonly socket: net.Socket
  text = ''
  ended = false
  closed = false
  chunks = 0
  error: NodeJS.ErrnoException | undefined

  constructor(socket: net.Socket) {
    this.socket = socket
    socket.on('data', (bytes) => {
      this.chunks++
      this.text += bytes.toString()
    })
    socket.on('end', () => (this.ended = true))
    socket.on('close', () => (this.closed = true))
    socket.on('error', (error) => (this.error = error))
    stops.push(() => void socket.destroy())
  }

  send(xml: string): this {
    this.socket.write(xml)
    return this
  }

  /** Resolves to everything read so far, once it contains `wanted`, and forgets it. */
  async until(wanted: string | RegExp): Promise<string> {
    await eventually(
      () => (typeof wanted === 'string' ? this.text.includes(wanted) : wanted.test(this.text)),
      `${wanted} in ${this.text}`,
    )
    const { text } = this
    this.text = ''
    return text
  }

  async logIn(local: string, resource: string): Promise<void> {
    this.send(header())
    await this.until('</stream:features>')
    this.send(plainAuth(local))
    await this.until('<success')
    this.send(header() + bind(resource))
    await this.until('</iq>')
  }

  /** RFC 6120 §5.4.2. */
  async startTls(): Promise<Client> {
    this.send(header())
    await this.until('</stream:features>')
    this.send(STARTTLS)
    await this.until('<proceed')
    this.socket.removeAllListeners('data')
    return new Client(tls.connect({ socket: this.socket, servername: 'example.org', ca: certificate.cert }))
  }
}

interface Server {
  readonly edge: Edge
  readonly process: ReturnType<typeof testProcess>
  readonly port: number
  readonly tlsPort: number
  readonly connections: readonly Connection[]
  connect(options?: net.TcpNetConnectOpts): Client
  connectTls(options?: tls.ConnectionOptions): Client
}

/** An edge that listens on TCP, on ports the kernel chooses. */
async function start({ config = {}, host = '127.0.0.1' }: ProcessOptions & { host?: string } = {}): Promise<Server> {
  const process = testProcess({ config: { c2s: { tlsPort: 0, allowPlainOnLoopback: true }, ...config } })
  stops.push(await startRoles(process))
  const { edge, onConnection, close } = openEdge(process)
  const connections: Connection[] = []
  const keep = (connection: Connection): ConnectionEvents => {
    connections.push(connection)
    return onConnection(connection)
  }
  const listeners = await listenTcp(process.config, host, certificate, keep, edge.log)
  stops.push(async () => {
    const closing = listeners.map((listener) => listener.close())
    await close()
    await Promise.all(closing)
    expect([edge.streams.size, edge.sessions.size, edge.early.size, edge.leaving.size]).toEqual([0, 0, 0, 0])
  })
  const [port, tlsPort] = ['c2s', 'c2s (TLS)'].map((name) => listeners.find((listener) => listener.name === name)?.port ?? 0) as [
    number,
    number,
  ]
  return {
    edge,
    process,
    port,
    tlsPort,
    connections,
    connect: (options) => new Client(net.connect({ host, port, ...options })),
    connectTls: (options) =>
      new Client(tls.connect({ host, port: tlsPort, servername: 'example.org', ca: certificate.cert, ...options })),
  }
}

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
    const edge = await startEdge(process, certificate)
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
    await expect(startEdge(process, certificate)).rejects.toThrow(new RegExp(`port ${port} on 127.0.0.1 is taken .* set ${key} `))
  })

  test('`off` opens nothing', async () => {
    const process = testProcess({ config: { c2s: { port: 'off', tlsPort: 'off' } } })
    const edge = await startEdge(process, certificate)
    expect(edge.listeners).toEqual([])
    await edge.stop()
  })

  const hasIpv6 = Object.values(networkInterfaces()).some((addresses) => addresses?.some(({ address }) => address === '::1'))
  test.skipIf(!hasIpv6)('on ::1 a client is on loopback', async () => {
    const server = await start({ host: '::1' })
    const client = server.connect().send(header())
    expect(await client.until('</stream:features>')).toContain('<mechanism>PLAIN')
    expect([server.connections[0]!.address, server.connections[0]!.loopback]).toEqual(['::1', true])
  })
})

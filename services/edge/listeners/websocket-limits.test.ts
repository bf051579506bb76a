// What a WebSocket client may not do, on whichever driver loads here; see websocket.test.ts.
import { createHash } from 'node:crypto'
import net from 'node:net'
import tls from 'node:tls'
import { describe, expect, test } from 'vitest'
import { bind, eventually, frameHeader, makeAccount, plainAuth } from '../edge.fixture.ts'
import { type CertificatePair, ensureCertificate } from './certificate.ts'
import { TestTls } from './door.fixture.ts'
import { Client, certificate, driver, folder, PATH, type Server, start, stops } from './websocket.fixture.ts'

test.runIf(process.env.EXPECT_UWS)('the driver is uWebSockets.js', () => {
  expect(driver).toBe('uWebSockets.js')
})

const UPGRADE = [
  `GET ${PATH} HTTP/1.1`,
  'Host: example.org',
  'Connection: Upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Version: 13',
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
  'Sec-WebSocket-Protocol: xmpp',
]

interface Frame {
  readonly opcode: number
  readonly payload?: Buffer | string
  readonly fin?: boolean
  readonly masked?: boolean
  readonly reserved?: number
  /** What the head says of the length, where that is not the payload's. */
  readonly claimed?: number
}

const [CONTINUATION, TEXT, BINARY, CLOSING, PING, PONG] = [0, 1, 2, 8, 9, 10] as const

/** RFC 6455 §5.2. The mask is all zeros, so that the payload stands as it is. */
function frame({ opcode, payload = '', fin = true, masked = true, reserved = 0, claimed }: Frame): Buffer {
  const bytes = Buffer.from(payload as string)
  const length = claimed ?? bytes.length
  const head = Buffer.alloc(10)
  head[0] = (fin ? 0x80 : 0) | (reserved << 4) | opcode
  head[1] = (masked ? 0x80 : 0) | (length < 126 ? length : length < 65536 ? 126 : 127)
  if (length >= 65536) head.writeBigUInt64BE(BigInt(length), 2)
  else if (length >= 126) head.writeUInt16BE(length, 2)
  const size = length < 126 ? 2 : length < 65536 ? 4 : 10
  return Buffer.concat([head.subarray(0, size), Buffer.alloc(masked ? 4 : 0), bytes])
}

/** A client that may write anything. */
class RawClient {
  readonly socket: net.Socket
  #read = Buffer.alloc(0)
  closed = false

  constructor(socket: net.Socket) {
    this.socket = socket
    socket.on('data', (bytes: Buffer) => {
      this.#read = Buffer.concat([this.#read, bytes])
    })
    socket.on('close', () => (this.closed = true))
    socket.on('error', () => {})
    stops.push(() => void socket.destroy())
  }

  get text(): string {
    return this.#read.toString('latin1')
  }

  /** The code of the close frame (RFC 6455 §7.1.5), where one came. */
  get closeCode(): number | undefined {
    const at = this.#read.lastIndexOf(0x88)
    return at < 0 || at + 4 > this.#read.length ? undefined : this.#read.readUInt16BE(at + 2)
  }

  async upgraded(): Promise<this> {
    this.socket.write(`${UPGRADE.join('\r\n')}\r\n\r\n`)
    await eventually(() => this.text.includes('\r\n\r\n'), 'the handshake')
    expect(this.text).toMatch(/^HTTP\/1\.1 101 /)
    return this
  }

  send(...frames: Frame[]): this {
    for (const one of frames) this.socket.write(frame(one))
    return this
  }

  async gone(): Promise<number | undefined> {
    await eventually(() => this.closed || this.closeCode !== undefined, 'the end')
    return this.closeCode
  }
}

const rawClient = ({ port }: Server) => new RawClient(net.connect({ host: '127.0.0.1', port }))

/** uWebSockets.js closes the connection without saying why. */
const code = (expected: number) => (driver === 'ws' ? expected : undefined)

describe(`${driver}: RFC 6455 §5 frames`, () => {
  test.each<[string, Frame[], number]>([
    ['§5.2 a reserved bit', [{ opcode: TEXT, reserved: 1 }], 1002],
    ['§5.2 an opcode that is none', [{ opcode: 3 }], 1002],
    ['§5.4 a continuation of nothing', [{ opcode: CONTINUATION, payload: 'x' }], 1002],
    [
      '§5.4 a message inside another',
      [
        { opcode: TEXT, payload: '<', fin: false },
        { opcode: TEXT, payload: '<' },
      ],
      1002,
    ],
    ['§5.5 a ping in fragments', [{ opcode: PING, fin: false }], 1002],
    ['§5.5 a ping over 125 bytes', [{ opcode: PING, payload: 'x'.repeat(126) }], 1002],
  ])('%s ends the connection', async (_, frames, expected) => {
    const server = await start()
    const client = await rawClient(server).upgraded()
    expect(await client.send(...frames).gone()).toBe(code(expected))
    await eventually(() => server.edge.streams.size === 0, 'the stream to be forgotten')
  })

  test('§5.1 a frame that is not masked ends the connection, and is not read', async () => {
    const server = await start()
    const client = await rawClient(server).upgraded()
    client.send({ opcode: TEXT, payload: frameHeader(), masked: false })
    // uWebSockets.js takes four bytes of it for a mask, waits for as many more, and reads what makes no sense.
    if (driver === 'uWebSockets.js') client.send({ opcode: TEXT, payload: frameHeader(), masked: false })
    expect(await client.gone()).toBe(code(1002))
    expect(client.text).not.toContain('features')
  })

  test('a binary frame is refused, in fragments as well', async () => {
    const server = await start()
    for (const frames of [
      [{ opcode: BINARY, payload: 'x' }],
      [{ opcode: BINARY, payload: 'x', fin: false }, { opcode: CONTINUATION }],
    ]) {
      const client = await rawClient(server).upgraded()
      expect(await client.send(...frames).gone()).toBe(1003)
    }
  })

  test('§5.5.1 a close is answered', async () => {
    const server = await start()
    const client = await rawClient(server).upgraded()
    expect(await client.send({ opcode: CLOSING, payload: Buffer.from([0x03, 0xe8]) }).gone()).toBe(1000)
    await eventually(() => server.edge.streams.size === 0, 'the stream to be forgotten')
  })
})

describe(`${driver}: how much a client may send`, () => {
  const limits = { stanzaBytes: 20_000, stanzaBytesBeforeLogin: 10_000 }

  async function limited(): Promise<Server> {
    return start({ config: { c2s: { allowPlainOnLoopback: true }, websocket: { port: 0 }, limits } })
  }

  test('a frame that claims to be over the limit is refused when it says so, not when it is there', async () => {
    const server = await limited()
    const client = await rawClient(server).upgraded()
    expect(await client.send({ opcode: TEXT, claimed: 2 ** 40 }).gone()).toBe(code(1009))
  })

  test('fragments that together are over the limit are refused', async () => {
    const server = await limited()
    const client = await rawClient(server).upgraded()
    client.send({ opcode: TEXT, fin: false })
    for (let n = 0; n < 30; n++) client.send({ opcode: CONTINUATION, payload: 'x'.repeat(1000), fin: false })
    expect(await client.gone()).toBe(code(1009))
  })

  test('before the login, a stanza as long as after it is refused', async () => {
    const server = await limited()
    const client = (await server.connect()).send(frameHeader())
    await client.until('features')
    client.send(`<iq xmlns='jabber:client'>${' '.repeat(15_000)}</iq>`)
    if (driver === 'ws') expect(await client.gone()).toBe(1009)
    else expect(await client.until('stream:error')).toContain('policy-violation')
    const romeo = await server.logIn('romeo', 'garden')
    romeo.send(`<message xmlns='jabber:client' to='romeo@example.org/garden'><body>${'x'.repeat(15_000)}</body></message>`)
    expect((await romeo.until('<message')).length).toBeGreaterThan(15_000)
  })

  test('a client that logs in by one frame after the other, without waiting, may send long ones at once', async () => {
    const server = await limited()
    await makeAccount(server.process, 'romeo@example.org')
    const client = (await server.connect()).send(frameHeader())
    await client.until('features')
    client.send(plainAuth('romeo'))
    await client.until('<success')
    client.send(frameHeader()).send(bind('garden'))
    client.send(`<message xmlns='jabber:client' to='romeo@example.org/garden'><body>${'x'.repeat(15_000)}</body></message>`)
    await client.until('<message')
  })

  test.runIf(driver === 'ws')('fragments without end are refused, though they are nothing', async () => {
    const server = await limited()
    const client = await rawClient(server).upgraded()
    client.send({ opcode: TEXT, fin: false })
    for (let n = 0; n < 2000; n++) client.send({ opcode: CONTINUATION, fin: false })
    expect(await client.gone()).toBe(1008)
  })

  test('a few pings are answered, a flood of them ends the connection', async () => {
    const server = await limited()
    for (const opcode of [PING, PONG]) {
      const client = await rawClient(server).upgraded()
      for (let n = 0; n < 50; n++) client.send({ opcode })
      client.send({ opcode: TEXT, payload: frameHeader() })
      await eventually(() => client.text.includes('</stream:features>'), 'the features')
      for (let n = 0; n < 100; n++) client.send({ opcode })
      expect(await client.gone()).toBe(1008)
      await eventually(() => server.edge.streams.size === 0, 'the stream to be forgotten')
    }
  })
})

describe(`${driver}: who may come`, () => {
  // uWebSockets.js has a time of its own, which is half a minute.
  const DRIPS = driver === 'ws' ? ['in the request', 'in one header', 'in TLS', 'not at all'] : ['in the request']
  test.each(DRIPS)('a client that drips %s has no more time than any other', { timeout: 60_000 }, async (where) => {
    const server = await start({
      config: {
        c2s: { allowPlainOnLoopback: true },
        websocket: { port: 0, tls: where === 'in TLS' },
        limits: { loginTimeoutMs: 1000 },
      },
    })
    const client = rawClient(server)
    const bytes =
      where === 'in TLS'
        ? Buffer.concat([Buffer.from('16030100ff010000fb0303', 'hex'), Buffer.alloc(2000, 1)])
        : Buffer.from(
            where === 'in one header' ? `${UPGRADE[0]}\r\nX: ${'x'.repeat(2000)}` : `${UPGRADE[0]}\r\n${'A: b\r\n'.repeat(200)}`,
          )
    let sent = 0
    const drip = setInterval(() => {
      if (where !== 'not at all') client.socket.write(Buffer.of(bytes[sent++]!))
    }, 50)
    stops.push(() => clearInterval(drip))
    await eventually(() => client.closed, 'its time to be over', driver === 'ws' ? undefined : 45_000)
    expect(client.text).not.toContain(' 101 ')
    await eventually(() => server.door.admission.waiting === 0, 'it to be counted no more')
  })

  test.each([
    ['too many headers', `${'A: b\r\n'.repeat(5000)}`],
    ['one header too many', `${'A: b\r\n'.repeat(94)}X-Forwarded-For: 192.0.2.1\r\n`],
    ['a header that is too long', `A: ${'x'.repeat(100_000)}\r\n`],
  ])('a request with %s is refused', async (_, headers) => {
    const server = await start()
    const client = rawClient(server)
    client.socket.write(`${UPGRADE.join('\r\n')}\r\n${headers}\r\n`)
    await eventually(() => client.closed, 'the end')
    expect(client.text).not.toContain(' 101 ')
    expect(server.edge.streams.size).toBe(0)
  })

  test('an Origin is no obstacle: clients are pages of anywhere', async () => {
    const server = await start()
    await server.connect({ origin: 'https://chat.example.com' })
  })

  test('of one address no more than are allowed; behind a trusted proxy, of the client that it names', async () => {
    const server = await start({
      config: { c2s: {}, websocket: { port: 0 }, trustedProxies: ['127.0.0.1'], limits: { connectionsPerAddress: 2 } },
    })
    const from = (address: string) => server.connect({ headers: { 'x-forwarded-for': address } })
    const [first] = [await from('192.0.2.1'), await from('192.0.2.1')]
    const third = await from('192.0.2.1').catch(() => undefined)
    if (third !== undefined) await third.gone()
    expect(server.process.metrics.text()).toContain('rookery_connections_refused_total{reason="address"} 1\n')
    await from('192.0.2.2')
    first!.socket.terminate()
    await eventually(() => server.edge.streams.size === 2, 'the first to leave')
    await from('192.0.2.1')
  })

  test('before the login, no more in all than are allowed', async () => {
    const server = await start({
      config: { c2s: { allowPlainOnLoopback: true }, websocket: { port: 0 }, limits: { connectionsBeforeLogin: 10 } },
    })
    const strangers: Client[] = []
    for (let n = 0; n < 10; n++) strangers.push(await server.connect())
    const late = await server.connect().catch(() => undefined)
    if (late !== undefined) await late.gone()
    expect(server.edge.streams.size).toBe(10)
    expect(server.process.metrics.text()).toContain('rookery_connections_refused_total{reason="before_login"} 1\n')
    strangers[0]!.socket.terminate()
    await eventually(() => server.connect().then(Boolean, () => false), 'room for another one')
  })
})

describe(`${driver}: TLS`, () => {
  const secure = (certificates: TestTls, more: object = {}) =>
    start({ config: { c2s: {}, websocket: { port: 0, tls: true }, ...more }, certificates })

  async function pairs(): Promise<readonly [CertificatePair, CertificatePair]> {
    return [certificate, await ensureCertificate(`${folder}/other`, ['example.net', '*.chat.example'])]
  }

  /** The fingerprint of what a client is shown that names this host. */
  async function shown(server: Server, servername: string): Promise<string> {
    const socket = tls.connect({ host: '127.0.0.1', port: server.port, servername, rejectUnauthorized: false })
    stops.push(() => void socket.destroy())
    let fingerprint: string | undefined
    socket.on('secureConnect', () => {
      fingerprint = socket.getPeerX509Certificate()!.fingerprint256
      socket.destroy()
    })
    await eventually(() => fingerprint !== undefined, 'the handshake')
    return fingerprint!
  }

  test('RFC 6066 §3: a client is shown the certificate of the host that it names', async () => {
    const [first, second] = await pairs()
    const server = await secure(new TestTls([first, second]))
    expect(await shown(server, 'example.org')).toBe(first.fingerprint)
    expect(await shown(server, 'example.net')).toBe(second.fingerprint)
    expect(await shown(server, 'a.chat.example')).toBe(second.fingerprint)
    expect(await shown(server, 'nobody.example')).toBe(first.fingerprint)
    await makeAccount(server.process, 'romeo@example.org')
    const options = { servername: 'example.net', ca: second.cert, checkServerIdentity: () => undefined } as object
    const client = await new Client(server.url, ['xmpp'], options).opened()
    await client.logIn('romeo', 'garden')
  })

  test('another certificate is shown from then on; who is connected stays', async () => {
    const [first, second] = await pairs()
    const certificates = new TestTls([first])
    const server = await secure(certificates)
    await makeAccount(server.process, 'romeo@example.org')
    const romeo = await (await server.connect()).logIn('romeo', 'garden')
    certificates.change([second])
    await eventually(async () => (await shown(server, 'example.org')) === second.fingerprint, 'the other one')
    romeo.send("<message xmlns='jabber:client' to='romeo@example.org/garden' id='1'/>")
    await romeo.until("id='1'")
    certificates.change([first])
    await eventually(async () => (await shown(server, 'example.org')) === first.fingerprint, 'the first again')
    expect(server.edge.sessions.size).toBe(1)
  })

  test('XEP-0440 a login can be tied to the certificate that was shown, by whatever name, and not through a proxy', async () => {
    const [first, second] = await pairs()
    const certificates = new TestTls([first, second])
    const server = await secure(certificates)
    for (const [n, servername, { cert, fingerprint }] of [
      [0, 'example.org', first],
      [1, 'example.net', second],
      [2, 'a.chat.example', second],
      [3, 'nobody.example', first],
    ] as const) {
      const client = await new Client(server.url, ['xmpp'], {
        servername,
        ca: cert,
        checkServerIdentity: () => undefined,
      } as object).opened()
      const socket = (client.socket as unknown as { _socket: tls.TLSSocket })._socket
      const { raw, fingerprint256 } = socket.getPeerX509Certificate()!
      expect(fingerprint256).toBe(fingerprint)
      const connection = server.connections[n]!
      expect(connection.channelBinding!('tls-server-end-point')).toEqual(createHash('sha256').update(raw).digest())
      const features = await client.send(frameHeader()).until('features')
      expect(features).toContain("<channel-binding type='tls-server-end-point'/>")
      expect(features).toContain('<mechanism>SCRAM-SHA-256-PLUS</mechanism>')
      client.socket.terminate()
      await eventually(() => connection.channelBindings!.length === 0, 'its end')
      expect(connection.channelBinding!('tls-server-end-point')).toBeUndefined()
    }
    const proxied = await secure(new TestTls([certificate]), { trustedProxies: ['127.0.0.1'] })
    await proxied.connect({ headers: { 'x-forwarded-for': '192.0.2.1' } })
    expect([proxied.connections[0]!.channelBindings, proxied.connections[0]!.channelBinding!('tls-server-end-point')]).toEqual([
      [],
      undefined,
    ])
  })

  test.runIf(driver === 'ws')('a login can be tied to the connection itself, unless a proxy is in between', async () => {
    const server = await secure(new TestTls([certificate]), { trustedProxies: ['127.0.0.1'] })
    const direct = await secure(new TestTls([certificate]))
    const client = await direct.connect()
    const [own] = direct.connections
    const socket = (client.socket as unknown as { _socket: tls.TLSSocket })._socket
    expect(own!.channelBinding!('tls-exporter')).toEqual(
      socket.exportKeyingMaterial(32, 'EXPORTER-Channel-Binding', Buffer.alloc(0)),
    )
    expect(own!.channelBinding!('tls-server-end-point')).toEqual(
      createHash('sha256').update(socket.getPeerX509Certificate()!.raw).digest(),
    )
    await server.connect({ headers: { 'x-forwarded-for': '192.0.2.1' } })
    expect(server.connections[0]!.channelBinding!('tls-exporter')).toBeUndefined()
    client.socket.terminate()
    await eventually(() => direct.edge.streams.size === 0, 'its end')
    expect(own!.channelBinding!('tls-exporter')).toBeUndefined()
  })
})

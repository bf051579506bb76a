import { createHash, X509Certificate } from 'node:crypto'
import type tls from 'node:tls'
import { describe, expect, test } from 'vitest'
import { eventually, header } from '../edge.fixture.ts'
import {
  CLIENT_CA,
  FOREIGN_CERT,
  FOREIGN_KEY,
  FORGED_CERT,
  JULIET_CERT,
  JULIET_KEY,
  SERVER_CERT,
  SERVER_KEY,
} from './certificate.fixture.ts'
import { TestTls } from './door.fixture.ts'
import { type Client, certificate, type Server, start } from './tcp.fixture.ts'

/** The exporter as the client computes it, and the hash of what it was shown. */
function seenBy(client: Client): { exporter: string; endPoint: string } {
  const socket = client.socket as tls.TLSSocket
  return {
    exporter: socket.exportKeyingMaterial(32, 'EXPORTER-Channel-Binding', Buffer.alloc(0)).toString('hex'),
    endPoint: createHash('sha256').update(socket.getPeerX509Certificate()!.raw).digest('hex'),
  }
}

function saidBy(server: Server, n = 0): { exporter: string | undefined; endPoint: string | undefined } {
  const connection = server.connections[n]!
  const hex = (bytes: Uint8Array | undefined) => bytes && Buffer.from(bytes).toString('hex')
  return {
    exporter: hex(connection.channelBinding!('tls-exporter')),
    endPoint: hex(connection.channelBinding!('tls-server-end-point')),
  }
}

const NONE = { exporter: undefined, endPoint: undefined }

describe('channel bindings', () => {
  test('RFC 9266 §2, RFC 5929 §4.1: both sides have the same, with TLS from the first byte', async () => {
    const server = await start()
    const client = server.connectTls().send(header())
    await client.until('</stream:features>')
    expect(saidBy(server)).toEqual(seenBy(client))
  })

  test('and after STARTTLS; before it there is none', async () => {
    const server = await start()
    const plain = server.connect()
    await eventually(() => server.connections.length === 1, 'the connection')
    expect(saidBy(server)).toEqual(NONE)
    const client = (await plain.startTls()).send(header())
    await client.until('</stream:features>')
    expect(saidBy(server)).toEqual(seenBy(client))
  })

  test('each connection has an exporter of its own', async () => {
    const server = await start()
    for (const client of [server.connectTls(), server.connectTls()]) await client.send(header()).until('</stream:features>')
    expect(saidBy(server, 0).exporter).not.toBe(saidBy(server, 1).exporter)
    expect(saidBy(server, 0).endPoint).toBe(saidBy(server, 1).endPoint)
  })

  test('RFC 9266 §4.2: of TLS 1.2 there is no exporter, but the end point', async () => {
    const server = await start()
    const client = server.connectTls({ maxVersion: 'TLSv1.2' }).send(header())
    await client.until('</stream:features>')
    expect(saidBy(server)).toEqual({ exporter: undefined, endPoint: seenBy(client).endPoint })
  })

  test('while hands are shaken, and once it is over, there is none', async () => {
    const server = await start()
    const silent = server.connect({ port: server.tlsPort })
    await eventually(() => server.connections.length === 1, 'the connection')
    expect(saidBy(server)).toEqual(NONE)
    silent.socket.destroy()
    await eventually(() => server.edge.streams.size === 0, 'its end')
    expect(saidBy(server)).toEqual(NONE)
  })

  test('a connection keeps the certificate that it was shown, whatever comes later', async () => {
    const certificates = new TestTls([certificate])
    const server = await start({ certificates })
    const client = server.connectTls().send(header())
    await client.until('</stream:features>')
    certificates.change([{ ...certificate, cert: FOREIGN_CERT, key: FOREIGN_KEY, endPointHash: Buffer.from('another') }])
    expect(saidBy(server)).toEqual(seenBy(client))
    const later = server.connectTls({ servername: 'elsewhere.example', ca: FOREIGN_CERT }).send(header())
    await later.until('</stream:features>')
    expect((later.socket as tls.TLSSocket).getPeerX509Certificate()!.fingerprint256).toBe(
      new X509Certificate(FOREIGN_CERT).fingerprint256,
    )
    expect(saidBy(server, 1).endPoint).toBe(Buffer.from('another').toString('hex'))
  })
})

describe('XEP-0178 §2 certificates of clients', () => {
  const asking = () => new TestTls([certificate], CLIENT_CA)

  /** What is known of a client that shows this. */
  async function shown(
    options: tls.ConnectionOptions,
    certificates = asking(),
  ): Promise<readonly (readonly string[] | undefined)[]> {
    const server = await start({ certificates })
    await server.connectTls(options).send(header()).until('</stream:features>')
    const starting = await server.connect().startTls(options)
    await starting.send(header()).until('</stream:features>')
    return server.connections.map(({ clientCertificate }) => clientCertificate?.xmppAddrs)
  }

  const JULIET = ['juliet@example.org', 'juliet@example.net']

  test.each(['TLSv1.3', 'TLSv1.2'] as const)('of an authority of ours: its xmppAddrs are told, over %s', async (version) => {
    expect(await shown({ cert: JULIET_CERT, key: JULIET_KEY, minVersion: version, maxVersion: version })).toEqual([
      JULIET,
      JULIET,
    ])
  })

  test.each([
    ['none', {}],
    ['one that nobody has signed', { cert: FORGED_CERT, key: JULIET_KEY }],
    ['one of another authority', { cert: FOREIGN_CERT, key: FOREIGN_KEY }],
    ['one that is for servers', { cert: SERVER_CERT, key: SERVER_KEY }],
  ])('%s: the client is let in, as nobody', async (_, options) => {
    expect(await shown(options)).toEqual([undefined, undefined])
  })

  test('without tls.clientCa no client is asked, and what it has is not looked at', async () => {
    const options = { cert: JULIET_CERT, key: JULIET_KEY }
    expect(await shown(options, new TestTls([certificate]))).toEqual([undefined, undefined])
  })

  test('a session that is resumed is the same client', async () => {
    const server = await start({ certificates: asking() })
    const first = server.connectTls({ cert: JULIET_CERT, key: JULIET_KEY })
    let session: Buffer | undefined
    ;(first.socket as tls.TLSSocket).on('session', (ticket: Buffer) => (session = ticket))
    await first.send(header()).until('</stream:features>')
    await eventually(() => session !== undefined, 'a ticket')
    const again = server.connectTls({ cert: JULIET_CERT, key: JULIET_KEY, session: session! })
    await again.send(header()).until('</stream:features>')
    expect((again.socket as tls.TLSSocket).isSessionReused()).toBe(true)
    expect(server.connections[1]!.clientCertificate?.xmppAddrs).toEqual(JULIET)
  })
})

describe('RFC 9325 §3.5 renegotiation', () => {
  test('a client of TLS 1.2 that asks for another handshake is refused', async () => {
    const server = await start()
    const client = server.connectTls({ maxVersion: 'TLSv1.2' }).send(header())
    await client.until('</stream:features>')
    ;(client.socket as tls.TLSSocket).renegotiate({ rejectUnauthorized: false }, () => {})
    await eventually(() => client.error !== undefined, 'the refusal')
    expect(client.error!.message).toMatch(/no renegotiation/)
  })
})

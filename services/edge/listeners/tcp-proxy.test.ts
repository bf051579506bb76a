// TCP behind a proxy that says whom it forwards: c2s.proxyProtocol, over sockets.
import tls from 'node:tls'
import { describe, expect, test } from 'vitest'
import { eventually, header, makeAccount, settled } from '../edge.fixture.ts'
import { Client, certificate, type Server, start } from './tcp.fixture.ts'

const SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex')
const FROM_192_0_2_1 = Buffer.from([0x21, 0x11, 0, 12, 192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 4, 0x14, 0x66])
const V2 = Buffer.concat([SIGNATURE, FROM_192_0_2_1])
const LOCAL = Buffer.concat([SIGNATURE, Buffer.from([0x20, 0, 0, 0])])
/** With PP2_TYPE_SSL: the client came by TLS. */
const V2_TLS = Buffer.concat([V2, Buffer.from([0x20, 0, 5, 1, 0, 0, 0, 0])])
V2_TLS.writeUInt16BE(20, 14)
const V1 = Buffer.from('PROXY TCP6 2001:db8::1 2001:db8::2 56324 5222\r\n')
const V1_LOOPBACK = Buffer.from('PROXY TCP4 127.0.0.1 127.0.0.1 56324 5222\r\n')
const UNKNOWN = Buffer.from('PROXY UNKNOWN\r\n')

const MECHANISMS = '<mechanisms'

async function behindProxy(
  more: Record<string, unknown> = { trustedProxies: ['127.0.0.1'] },
  c2s: Record<string, unknown> = {},
): Promise<Server> {
  return start({ config: { c2s: { tlsPort: 0, allowPlainOnLoopback: true, proxyProtocol: true, ...c2s }, ...more } })
}

/** In one write, as a proxy does. */
function begin(client: Client, head: Buffer, text = header()): Client {
  client.socket.write(Buffer.concat([head, Buffer.from(text)]))
  return client
}

function secureOver(raw: Client): Client {
  raw.socket.removeAllListeners('data')
  return new Client(tls.connect({ socket: raw.socket, servername: 'example.org', ca: certificate.cert }))
}

function refusals(server: Server, reason: string): boolean {
  return server.process.metrics.text().includes(`rookery_connections_refused_total{reason="${reason}"} 1\n`)
}

describe('a header of the PROXY protocol', () => {
  test.each([
    ['version 2', V2, '192.0.2.1'],
    ['version 1', V1, '2001:db8::1'],
  ])('%s: the client is at the address it names, and not on loopback', async (_, head, address) => {
    const server = await behindProxy()
    expect(await begin(server.connect(), head).until('</stream:features>')).not.toContain(MECHANISMS)
    expect(server.connections[0]).toMatchObject({ address, loopback: false, encrypted: false, canStartTls: true })
  })

  test('byte by byte it is the same', async () => {
    const server = await behindProxy()
    const client = server.connect()
    client.socket.setNoDelay(true)
    for (const byte of V2) {
      client.socket.write(Buffer.of(byte))
      await new Promise((resolve) => setImmediate(resolve))
    }
    await client.send(header()).until('</stream:features>')
    expect(server.connections[0]).toMatchObject({ address: '192.0.2.1' })
  })

  test('then STARTTLS goes on as ever', async () => {
    const server = await behindProxy()
    await makeAccount(server.process, 'romeo@example.org')
    const client = server.connect()
    client.socket.write(V2)
    const secure = await client.startTls()
    await secure.logIn('romeo', 'garden')
    expect(server.connections[0]).toMatchObject({ address: '192.0.2.1', encrypted: true })
    expect(server.connections[0]!.channelBinding!('tls-exporter')).toHaveLength(32)
  })

  test.each(['in a packet of its own', 'together with the hello'])('and TLS from the first byte, %s', async (how) => {
    const server = await behindProxy()
    await makeAccount(server.process, 'romeo@example.org')
    const raw = server.connect({ port: server.tlsPort })
    if (how === 'together with the hello') raw.socket.cork()
    raw.socket.write(V2)
    const client = secureOver(raw)
    raw.socket.uncork()
    await client.logIn('romeo', 'garden')
    expect(server.connections[0]).toMatchObject({ address: '192.0.2.1', encrypted: true })
    expect((client.socket as tls.TLSSocket).authorized).toBe(true)
  })

  test('LOCAL is the proxy itself: its own address holds', async () => {
    const server = await behindProxy()
    expect(await begin(server.connect(), LOCAL).until('</stream:features>')).toContain(MECHANISMS)
    expect(server.connections[0]).toMatchObject({ address: '127.0.0.1', loopback: true })
  })

  test('UNKNOWN is a client of which nothing is known: nobody on this machine', async () => {
    const server = await behindProxy()
    expect(await begin(server.connect(), UNKNOWN).until('</stream:features>')).not.toContain(MECHANISMS)
    expect(server.connections[0]).toMatchObject({ address: '127.0.0.1', loopback: false })
  })

  test('a client on this machine is one where the proxy is trusted, and only there', async () => {
    const trusting = await behindProxy()
    expect(await begin(trusting.connect(), V1_LOOPBACK).until('</stream:features>')).toContain(MECHANISMS)
    const open = await behindProxy({})
    expect(await begin(open.connect(), V1_LOOPBACK).until('</stream:features>')).not.toContain(MECHANISMS)
    expect(open.connections[0]).toMatchObject({ address: '127.0.0.1', loopback: false })
  })

  test('PP2_TYPE_SSL of a trusted proxy is TLS, without a channel binding; of anybody else it is nothing', async () => {
    const trusting = await behindProxy()
    const features = await begin(trusting.connect(), V2_TLS).until('</stream:features>')
    expect(features).toContain(MECHANISMS)
    expect(features).not.toContain('-PLUS')
    expect(trusting.connections[0]).toMatchObject({ address: '192.0.2.1', encrypted: true, canStartTls: false })
    expect(trusting.connections[0]!.channelBinding!('tls-server-end-point')).toBeUndefined()
    const open = await behindProxy({})
    expect(await begin(open.connect(), V2_TLS).until('</stream:features>')).not.toContain(MECHANISMS)
    expect(open.connections[0]).toMatchObject({ address: '192.0.2.1', encrypted: false, canStartTls: true })
  })
})

describe('what has none', () => {
  test.each([
    ['a stream', 'port', Buffer.from(header())],
    ['a TLS hello', 'tlsPort', Buffer.from('160301', 'hex')],
    ['a header that is malformed', 'port', Buffer.from('PROXY TCP4 nobody\r\n')],
    ['one that claims to be too long', 'port', Buffer.concat([SIGNATURE, Buffer.from([0x21, 0x11, 0xff, 0xff])])],
  ] as const)('%s is closed at once, without a word, and counted', async (_, port, bytes) => {
    const server = await behindProxy()
    const client = server.connect({ port: server[port] })
    client.socket.write(bytes)
    await eventually(() => client.closed, 'the connection to close')
    expect(client.text).toBe('')
    expect(refusals(server, 'proxy_header')).toBe(true)
    await eventually(() => server.edge.streams.size === 0, 'the stream to be forgotten')
  })

  test('a header from an address that is no trusted proxy is not even read', async () => {
    const server = await behindProxy({ trustedProxies: ['10.0.0.0/8'] })
    const client = begin(server.connect(), V2)
    await eventually(() => client.closed, 'the connection to close')
    expect([client.text, server.connections.length, refusals(server, 'proxy_untrusted')]).toEqual(['', 0, true])
  })

  test('without c2s.proxyProtocol a header is not XML', async () => {
    const server = await start()
    expect(await begin(server.connect(), V2).until('</stream:stream>')).toContain('stream:error')
  })
})

describe('what is counted', () => {
  test('is the client that is forwarded, and not the proxy', async () => {
    const server = await behindProxy({ trustedProxies: ['127.0.0.1'], limits: { connectionsPerAddress: 2 } })
    const [first] = [begin(server.connect(), V2), begin(server.connect(), V2)]
    await eventually(() => server.connections.every(({ address }) => address === '192.0.2.1'), 'both headers')
    const third = begin(server.connect(), V2)
    await eventually(() => third.closed, 'the third to be closed')
    expect([third.text, refusals(server, 'address')]).toEqual(['', true])
    await begin(server.connect(), V1).until('</stream:features>')
    first!.socket.destroy()
    await eventually(() => server.edge.streams.size === 2, 'the first to leave')
    await begin(server.connect(), V2).until('</stream:features>')
  })

  test('a connection that ends in its header leaves nothing', async () => {
    const server = await behindProxy()
    const client = server.connect()
    client.socket.write(V2.subarray(0, 14))
    await eventually(() => server.edge.streams.size === 1, 'the connection')
    await settled()
    client.socket.destroy()
    await eventually(() => server.edge.streams.size === 0, 'its end')
    expect(server.door.admission.networks).toBe(0)
  })
})

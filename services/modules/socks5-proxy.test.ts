import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { manualClock } from '#core/clock.ts'
import { isCluster } from '#test/form.ts'
import { harness, type TestClient } from '#test/harness.ts'
import { freePorts } from '#test/support/ports.ts'
import { childrenOf, type Element, el } from '#xmpp/stanza.ts'
import disco, { NS_DISCO_INFO } from './disco.ts'
import socks5Proxy from './socks5-proxy.ts'

const NS = 'http://jabber.org/protocol/bytestreams'
const ROMEO = 'romeo@example.org/garden'
const JULIET = 'juliet@example.org/balcony'
const HELLO = Buffer.from([5, 1, 0])

// Routers that share a machine would share the port: each has one of its own (docs/file-transfer.md), and here they have one machine.
const opened: Socket[] = []
afterEach(() => {
  for (const socket of opened.splice(0)) socket.destroy()
})

async function start(options: Record<string, unknown> = {}) {
  const [port] = (await freePorts(1)) as [number]
  const clock = manualClock()
  const given = { port, host: 'proxy.example.org', listen: '127.0.0.1', ...options }
  const server = await harness([disco, socks5Proxy], { clock, modules: { 'socks5-proxy': given } })
  const romeo = await server.connect(ROMEO)
  return { server, clock, port, romeo, [Symbol.asyncDispose]: () => server.stop() }
}

const nameOf = (sid: string) => createHash('sha1').update(`${sid}${ROMEO}${JULIET}`).digest('hex')
const request = (name: string) => Buffer.concat([Buffer.from([5, 1, 0, 3, 40]), Buffer.from(name), Buffer.from([0, 0])])
const query = (sid: string) => el('query', NS, { sid }, el('activate', NS, {}, JULIET))
const activate = (client: TestClient, sid: string) => client.iq('set', query(sid), 'example.org')

/** A connection, and all it was told. */
async function dial(port: number) {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  opened.push(socket)
  let told: Buffer = Buffer.alloc(0)
  let closed = false
  socket.on('data', (chunk) => {
    told = Buffer.concat([told, chunk])
  })
  socket.on('error', () => {})
  for (const event of ['end', 'close'])
    socket.on(event, () => {
      closed = true
    })
  await once(socket, 'connect')
  const hears = async (text: string | Buffer) => {
    const wanted = Buffer.from(text as string).toString('hex')
    await expect.poll(() => told.toString('hex')).toBe(wanted)
    told = Buffer.alloc(0)
  }
  const closes = () => expect.poll(() => closed).toBe(true)
  return { socket, hears, closes }
}

async function join(port: number, name: string) {
  const end = await dial(port)
  end.socket.write(HELLO)
  await end.hears(Buffer.from([5, 0]))
  end.socket.write(request(name))
  await end.hears(Buffer.concat([Buffer.from([5, 0, 0, 3, 40]), Buffer.from(name), Buffer.from([0, 0])])) // §10.2: as it was asked for
  return end
}

describe('XEP-0065 §4 Discovering Proxies', () => {
  test('the host is one, and says where', async () => {
    await using at = await start()
    const info = (await at.romeo.iq('get', el('query', NS_DISCO_INFO), 'example.org')) as Element
    expect(childrenOf(info, 'identity', NS_DISCO_INFO).map(({ attrs }) => `${attrs.category}/${attrs.type}`)).toContain(
      'proxy/bytestreams',
    )
    const told = (await at.romeo.iq('get', el('query', NS), 'example.org')) as Element
    expect(childrenOf(told, 'streamhost', NS).map(({ attrs }) => attrs)).toEqual([
      { jid: 'example.org', host: 'proxy.example.org', port: String(at.port) },
    ])
  })

  test('without a port there is none; with one and no host the server does not start', async () => {
    await using at = await start({ port: 0 })
    expect(await at.romeo.iq('get', el('query', NS), 'example.org')).toMatchObject({ condition: 'service-unavailable' })
    await expect(start({ host: '' })).rejects.toThrow('modules.socks5-proxy.host is missing')
  })
})

describe.skipIf(isCluster)('XEP-0065 §6 Mediated Connection', () => {
  test('what one writes the other gets once the stream is activated, and nothing before, and its end', async () => {
    await using at = await start()
    const [romeo, juliet] = [await join(at.port, nameOf('s1')), await join(at.port, nameOf('s1'))]
    romeo.socket.write('But soft')
    await at.romeo.iq('get', el('query', NS), 'example.org')
    await juliet.hears('')
    expect(await activate(at.romeo, 's1')).toBe(undefined)
    await juliet.hears('But soft')
    juliet.socket.write('Ay me')
    await romeo.hears('Ay me')
    const large = Buffer.alloc(3_000_000, 7)
    romeo.socket.end(large)
    await juliet.hears(large)
    juliet.socket.end('!')
    await romeo.hears('!')
    await Promise.all([romeo.closes(), juliet.closes()])
    await expect
      .poll(() => at.server.log.lines.filter(({ event }) => event === 'bytestream.ended'))
      .toMatchObject([{ fields: { account: 'romeo@example.org', bytes: 3_000_014 } }])
  })

  test('§6.3.5: a stream of which an end is missing, or another’s, is item-not-found', async () => {
    await using at = await start()
    expect(await activate(at.romeo, 's1')).toMatchObject({ condition: 'item-not-found' })
    await join(at.port, nameOf('s1'))
    expect(await activate(at.romeo, 's1')).toMatchObject({ condition: 'item-not-found' })
    await join(at.port, nameOf('s1'))
    const tybalt = await at.server.connect('tybalt@example.org/x')
    expect(await activate(tybalt, 's1')).toMatchObject({ condition: 'item-not-found' })
    expect(await activate(at.romeo, 's2')).toMatchObject({ condition: 'item-not-found' })
    expect(await activate(at.romeo, '')).toMatchObject({ condition: 'bad-request' })
    expect(await at.romeo.iq('set', el('query', NS, { sid: 's1' }), 'example.org')).toMatchObject({ condition: 'bad-request' })
    expect(await activate(at.romeo, 's1')).toBe(undefined)
  })

  test('an account has so many at a time', async () => {
    await using at = await start({ accountStreamsMax: 1 })
    const first = [await join(at.port, nameOf('s1')), await join(at.port, nameOf('s1'))]
    await activate(at.romeo, 's1')
    for (const _ of [1, 2]) await join(at.port, nameOf('s2'))
    expect(await activate(at.romeo, 's2')).toMatchObject({ condition: 'resource-constraint' })
    first[0]!.socket.destroy()
    await first[1]!.closes()
    first[1]!.socket.end()
    await expect.poll(async () => activate(at.romeo, 's2')).toBe(undefined)
  })

  test('a stream that carries more than it may is cut off', async () => {
    await using at = await start({ streamBytesMax: 1_000 })
    const [romeo, juliet] = [await join(at.port, nameOf('s1')), await join(at.port, nameOf('s1'))]
    await activate(at.romeo, 's1')
    romeo.socket.write(Buffer.alloc(1_001))
    await Promise.all([romeo.closes(), juliet.closes()])
  })

  test('a stream that carries nothing is closed', async () => {
    await using at = await start()
    const [romeo, juliet] = [await join(at.port, nameOf('s1')), await join(at.port, nameOf('s1'))]
    await activate(at.romeo, 's1')
    await at.clock.settle(600_000)
    await Promise.all([romeo.closes(), juliet.closes()])
  })
})

describe.skipIf(isCluster)('a stranger', () => {
  test.each([
    ['speaks something else', Buffer.from('GET / HTTP/1.1\r\n\r\n'), Buffer.from([5, 0xff])],
    ['offers only a password', Buffer.from([5, 1, 2]), Buffer.from([5, 0xff])],
    [
      'wants to go elsewhere',
      Buffer.concat([HELLO, Buffer.from([5, 1, 0, 1, 127, 0, 0, 1, 0, 22])]),
      Buffer.from([5, 0, 5, 7, 0, 1, 0, 0, 0, 0, 0, 0]),
    ],
    ['names no hash', Buffer.concat([HELLO, request('x'.repeat(40))]), Buffer.from([5, 0, 5, 7, 0, 1, 0, 0, 0, 0, 0, 0])],
  ])('who %s is told so, and the connection ends', async (_, bytes, answer) => {
    await using at = await start()
    const end = await dial(at.port)
    end.socket.write(bytes)
    await end.hears(answer)
    end.socket.end()
    await end.closes()
  })

  test('who says nothing, or not enough, or waits in vain, is closed', async () => {
    await using at = await start()
    const silent = await dial(at.port)
    const slow = await dial(at.port)
    slow.socket.write(HELLO.subarray(0, 2))
    await at.clock.settle(10_000)
    await Promise.all([silent.closes(), slow.closes()])
    const alone = await join(at.port, nameOf('s1'))
    await at.clock.settle(120_000)
    await alone.closes()
  })

  test('a third of one name is refused', async () => {
    await using at = await start()
    for (const _ of [1, 2]) await join(at.port, nameOf('s1'))
    const third = await dial(at.port)
    third.socket.write(Buffer.concat([HELLO, request(nameOf('s1'))]))
    await third.hears(Buffer.concat([Buffer.from([5, 0, 5, 2, 0, 3, 40]), Buffer.from(nameOf('s1')), Buffer.from([0, 0])]))
    expect(await activate(at.romeo, 's1')).toBe(undefined)
  })

  test('a greeting and a request that come byte by byte, or with what follows, are understood', async () => {
    await using at = await start()
    const name = nameOf('s1')
    const slow = await dial(at.port)
    slow.socket.setNoDelay(true)
    for (const byte of Buffer.concat([HELLO, request(name)])) slow.socket.write(Buffer.from([byte]))
    const eager = await dial(at.port)
    eager.socket.write(Buffer.concat([HELLO, request(name), Buffer.from('early')]))
    await eager.hears(Buffer.concat([Buffer.from([5, 0, 5, 0, 0, 3, 40]), Buffer.from(name), Buffer.from([0, 0])]))
    await slow.hears(Buffer.concat([Buffer.from([5, 0, 5, 0, 0, 3, 40]), Buffer.from(name), Buffer.from([0, 0])]))
    expect(await activate(at.romeo, 's1')).toBe(undefined)
    await slow.hears('early')
  })
})

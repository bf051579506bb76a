// The balancer of `make cluster`: to whom connections go, and what it says of their clients.
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { ProxyHeaderReader } from '#edge/listeners/proxy-protocol.ts'
import { freePorts } from '#test/support/ports.ts'
import { type Balancer, type Introduction, startBalancer } from './balancer.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

/** A server that says its name, and then what it was sent. */
async function echo(name: string): Promise<{ port: number; server: Server }> {
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.write(name)
    socket.pipe(socket)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  cleanups.push(() => server.close())
  return { port: (server.address() as AddressInfo).port, server }
}

async function balance(how: Introduction, ...ports: number[]): Promise<Balancer> {
  const balancer = await startBalancer(how, 0, ports)
  cleanups.push(() => balancer.close())
  return balancer
}

interface Peer {
  readonly socket: Socket
  /** Resolves with all that came as soon as it fits. */
  until(pattern: RegExp): Promise<Buffer>
}

function dial(port: number): Peer {
  const socket = connect(port, '127.0.0.1')
  cleanups.push(() => socket.destroy())
  let received = Buffer.alloc(0)
  socket.on('data', (piece: Buffer) => {
    received = Buffer.concat([received, piece])
    socket.emit('more')
  })
  return {
    socket,
    async until(pattern) {
      while (!pattern.test(received.toString('latin1'))) await once(socket, 'more')
      return received
    },
  }
}

describe('where a connection goes', () => {
  test('to whoever has the fewest', async () => {
    const [one, two] = [await echo('one'), await echo('two')]
    const { port } = await balance('plain', one.port, two.port)
    const first = dial(port)
    await first.until(/one/)
    const second = dial(port)
    await second.until(/two/)
    first.socket.destroy()
    await expect
      .poll(async () => {
        const third = dial(port)
        const said = await third.until(/one|two/)
        third.socket.destroy()
        return said.toString()
      })
      .toBe('one')
  })

  test('past who is not there, and back when it is', async () => {
    const [gone] = (await freePorts(1)) as [number]
    const two = await echo('two')
    const balancer = await balance('plain', gone, two.port)
    await dial(balancer.port).until(/two/)
    const one = await echo('one')
    balancer.retarget([one.port, two.port])
    await dial(balancer.port).until(/one/)
  })

  test('nowhere: it is closed', async () => {
    const [gone] = (await freePorts(1)) as [number]
    const { port } = await balance('plain', gone)
    await once(dial(port).socket, 'close')
  })

  test('and is closed with its server', async () => {
    const one = await echo('one')
    one.server.on('connection', (socket: Socket) => socket.once('data', () => socket.destroy()))
    const { port } = await balance('plain', one.port)
    const client = dial(port)
    await client.until(/one/)
    client.socket.write('go')
    await once(client.socket, 'close')
  })
})

describe('what the server is told of the client', () => {
  test('by a PROXY header that an edge understands, before the first byte', async () => {
    const { port } = await balance('proxy', (await echo('')).port)
    const client = dial(port)
    client.socket.write('<stream>')
    const reader = new ProxyHeaderReader()
    expect(reader.push(await client.until(/<stream>/))?.toString()).toBe('<stream>')
    expect(reader.header).toMatchObject({ address: '127.0.0.1', local: false })
  })

  test('by X-Forwarded-For, of which the client itself has no say', async () => {
    const { port } = await balance('http', (await echo('')).port)
    const client = dial(port)
    client.socket.write('GET /xmpp-websocket HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 192.0.2.1\r\nForwar')
    client.socket.write('ded: for=192.0.2.1\r\n\r\nbehind')
    const said = (await client.until(/behind/)).toString()
    expect(said).toBe('GET /xmpp-websocket HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 127.0.0.1\r\n\r\nbehind')
  })
})

// A small TCP balancer, for `make cluster` where there is no HAProxy, and for tests.
//
//   node test/cluster/balancer.ts proxy:5222=17022,17032 http:5290=17023,17033
//
// Each connection goes to the port that has the fewest of them and takes one. Who the client is, it says by `proxy` with a PROXY
// header (version 2), by `http` with X-Forwarded-For in the head of the first request, by `plain` not at all. Loopback only.
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'

export type Introduction = 'proxy' | 'http' | 'plain'

export interface Balancer {
  readonly port: number
  /** Where it sends connections from now on; those that are open stay. */
  retarget(ports: readonly number[]): void
  close(): Promise<void>
}

interface Target {
  readonly port: number
  open: number
}

const HOST = '127.0.0.1'
const HEAD_BYTES_MAX = 16 * 1024
const CONNECT_TIMEOUT_MS = 2_000

/** Throws Error where the port is taken. `port` 0: any. */
export async function startBalancer(how: Introduction, port: number, targets: readonly number[]): Promise<Balancer> {
  let current = targets.map(targetOf)
  const sockets = new Set<Socket>()
  const server = createServer({ pauseOnConnect: true, noDelay: true }, (client) => {
    track(sockets, client)
    void forward(client, how, current, sockets)
  })
  await listen(server, port)
  return {
    port: (server.address() as AddressInfo).port,
    retarget(ports) {
      current = ports.map((port) => current.find((known) => known.port === port) ?? targetOf(port))
    },
    async close() {
      const closed = new Promise((done) => server.close(done))
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}

function targetOf(port: number): Target {
  return { port, open: 0 }
}

async function listen(server: Server, port: number): Promise<void> {
  const listening = once(server, 'listening')
  server.listen(port, HOST)
  await listening
}

function track(sockets: Set<Socket>, socket: Socket): void {
  sockets.add(socket)
  socket.on('close', () => sockets.delete(socket))
  socket.on('error', () => socket.destroy())
}

async function forward(client: Socket, how: Introduction, targets: readonly Target[], sockets: Set<Socket>): Promise<void> {
  const introduction = how === 'plain' ? Buffer.alloc(0) : how === 'proxy' ? proxyHeader(client) : await forwardedHead(client)
  if (introduction === undefined) return void client.destroy()
  for (const target of [...targets].sort((a, b) => a.open - b.open)) {
    const server = await connected(target.port)
    if (server === undefined) continue
    if (client.destroyed) return void server.destroy()
    track(sockets, server)
    target.open++
    server.on('close', () => {
      target.open--
      client.destroy()
    })
    client.on('close', () => server.destroy())
    server.write(introduction)
    client.pipe(server)
    server.pipe(client)
    return
  }
  client.destroy()
}

/** Undefined where nobody is there. */
function connected(port: number): Promise<Socket | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host: HOST, port, noDelay: true })
    const give = (): void => {
      socket.destroy()
      resolve(undefined)
    }
    socket.setTimeout(CONNECT_TIMEOUT_MS, give)
    socket.once('error', give)
    socket.once('connect', () => {
      socket.setTimeout(0)
      socket.off('timeout', give).off('error', give)
      resolve(socket)
    })
  })
}

/** Section 2.2 of haproxy.org/download/3.0/doc/proxy-protocol.txt: PROXY, TCP over IPv4. */
export function proxyHeader({ remoteAddress = HOST, remotePort = 0, localAddress = HOST, localPort = 0 }: Socket): Buffer {
  const header = Buffer.alloc(28)
  header.write('\r\n\r\n\0\r\nQUIT\n', 'latin1')
  header.set([0x21, 0x11, 0, 12], 12)
  header.set([...octetsOf(remoteAddress), ...octetsOf(localAddress)], 16)
  header.writeUInt16BE(remotePort, 24)
  header.writeUInt16BE(localPort, 26)
  return header
}

function octetsOf(address: string): number[] {
  return address.split('.').map(Number)
}

/** The head of a request, and what came with it; without what the client says of where it comes from, and with what we know. */
async function forwardedHead(client: Socket): Promise<Buffer | undefined> {
  let bytes = Buffer.alloc(0)
  client.resume()
  for await (const piece of client.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    bytes = Buffer.concat([bytes, piece])
    const end = bytes.indexOf('\r\n\r\n')
    if (end >= 0) {
      client.pause()
      const [request, ...fields] = bytes.toString('latin1', 0, end).split('\r\n')
      const kept = fields.filter((field) => !/^(?:x-forwarded-|forwarded:)/i.test(field))
      const head = [request, ...kept, `X-Forwarded-For: ${client.remoteAddress}`, '', ''].join('\r\n')
      return Buffer.concat([Buffer.from(head, 'latin1'), bytes.subarray(end + 4)])
    }
    if (bytes.length > HEAD_BYTES_MAX) return undefined
  }
  return undefined
}

/** `proxy:5222=17022,17032` */
function parse(text: string): { how: Introduction; port: number; targets: number[] } {
  const found = /^(proxy|http|plain):(\d+)=(\d+(?:,\d+)*)$/.exec(text)
  if (found === null) throw new Error(`${JSON.stringify(text)} is not HOW:PORT=PORT,PORT… with proxy, http or plain`)
  return { how: found[1] as Introduction, port: Number(found[2]), targets: found[3]!.split(',').map(Number) }
}

if (import.meta.main) {
  try {
    const wanted = process.argv.slice(2).map(parse)
    if (wanted.length === 0) throw new Error('nothing to balance: proxy:5222=17022,17032 …')
    for (const { how, port, targets } of wanted) {
      await startBalancer(how, port, targets)
      console.log(`balancer: ${HOST}:${port} goes to ${targets.join(', ')} (${how})`)
    }
  } catch (error) {
    console.error(`balancer: ${(error as Error).message}`)
    process.exit(1)
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(0))
}

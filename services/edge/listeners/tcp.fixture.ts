// An edge that listens on TCP, and its clients: for tests that need sockets. Everything ends with the test it was made in.
import { mkdtempSync, rmSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import tls from 'node:tls'
import { afterAll, afterEach, expect } from 'vitest'
import { bind, eventually, header, type ProcessOptions, plainAuth, startRoles, testProcess } from '../edge.fixture.ts'
import { type Door, type Edge, openEdge } from '../main.ts'
import type { Connection } from './connection.ts'
import { TestTls, testCertificate, testDoor } from './door.fixture.ts'
import { listenTcp } from './tcp.ts'

export const STARTTLS = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
export const folder = mkdtempSync(join(tmpdir(), 'rookery-tcp-'))
export const certificate = await testCertificate(folder)
/** Last in, first out. */
export const stops: (() => Promise<void> | void)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop()
})
afterAll(() => rmSync(folder, { recursive: true }))

/** A client that keeps all it reads. */
export class Client {
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
  async startTls(options: tls.ConnectionOptions = {}, domain = 'example.org'): Promise<Client> {
    this.send(header(domain))
    await this.until('</stream:features>')
    this.send(STARTTLS)
    await this.until('<proceed')
    this.socket.removeAllListeners('data')
    return new Client(tls.connect({ socket: this.socket, servername: 'example.org', ca: certificate.cert, ...options }))
  }
}

export interface Server {
  readonly edge: Edge
  readonly process: ReturnType<typeof testProcess>
  readonly door: Door
  readonly port: number
  readonly tlsPort: number
  readonly connections: readonly Connection[]
  connect(options?: net.TcpNetConnectOpts): Client
  connectTls(options?: tls.ConnectionOptions): Client
}

/** An edge that listens on TCP, on ports the kernel chooses. */
export async function start({
  config = {},
  host = '127.0.0.1',
  certificates = new TestTls([certificate]),
}: ProcessOptions & { host?: string; certificates?: TestTls } = {}): Promise<Server> {
  const process = testProcess({ config: { c2s: { tlsPort: 0, allowPlainOnLoopback: true }, ...config } })
  stops.push(await startRoles(process))
  const open = openEdge(process)
  const { edge, close } = open
  const door = testDoor(process, certificates, open)
  const listeners = await listenTcp(door, host)
  stops.push(async () => {
    const closing = listeners.map((listener) => listener.close())
    await close()
    await Promise.all(closing)
    expect([edge.streams.size, edge.sessions.size, edge.early.size, edge.leaving.size]).toEqual([0, 0, 0, 0])
    await eventually(() => door.admission.networks === 0, 'no connection to be counted any more')
  })
  const [port, tlsPort] = ['c2s', 'c2s (TLS)'].map((name) => listeners.find((listener) => listener.name === name)?.port ?? 0) as [
    number,
    number,
  ]
  return {
    edge,
    process,
    door,
    port,
    tlsPort,
    connections: door.connections,
    connect: (options) => new Client(net.connect({ host: host === '::' ? '::1' : host, port, ...options })),
    connectTls: (options) =>
      new Client(tls.connect({ host, port: tlsPort, servername: 'example.org', ca: certificate.cert, ...options })),
  }
}

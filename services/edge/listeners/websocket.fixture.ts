// An edge that listens for WebSockets, on whichever driver loads here, and its clients. Everything ends with the test it was
// made in.
import { mkdtempSync, rmSync } from 'node:fs'
import http from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, expect } from 'vitest'
import { type ClientOptions, WebSocket } from 'ws'
import { bind, eventually, frameHeader, makeAccount, plainAuth, startRoles, testProcess } from '../edge.fixture.ts'
import { type Door, type Edge, openEdge } from '../main.ts'
import type { Connection } from './connection.ts'
import { TestTls, testCertificate, testDoor } from './door.fixture.ts'
import { listenTcp } from './tcp.ts'
import { listenWebSocket } from './websocket.ts'

export const PATH = '/xmpp-websocket'
export const CLOSE = "<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>"
export const folder = mkdtempSync(join(tmpdir(), 'rookery-websocket-'))
export const certificate = await testCertificate(folder)
const ours = new TestTls([certificate])
/** `servername` is handed on to node:tls, which its types do not say. */
const TRUSTING = { ca: certificate.cert, servername: 'example.org' } as ClientOptions
export const driver = await driverHere()
export const stops: (() => Promise<void> | void)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop()
})
afterAll(() => rmSync(folder, { recursive: true }))

async function driverHere(): Promise<string> {
  const process = testProcess({ config: { websocket: { port: 0 } } })
  const [listener] = await listenWebSocket(testDoor(process, ours), '127.0.0.1')
  await listener!.close()
  return listener!.driver!
}

export class Client {
  readonly socket: WebSocket
  readonly frames: string[] = []
  pings = 0
  open = false
  closed: number | undefined
  error: string | undefined

  constructor(url: string, protocols: string[] = ['xmpp'], options: ClientOptions = {}) {
    this.socket = new WebSocket(url, protocols, { ...TRUSTING, ...options })
    this.socket.on('open', () => (this.open = true))
    this.socket.on('message', (data, isBinary) => this.frames.push(isBinary ? '(binary)' : String(data)))
    this.socket.on('close', (code) => (this.closed = code))
    this.socket.on('error', (error) => (this.error = error.message))
    stops.push(() => this.socket.terminate())
  }

  async opened(): Promise<this> {
    await eventually(() => this.open || this.error !== undefined, 'the handshake')
    if (this.error !== undefined) throw new Error(this.error)
    return this
  }

  send(frame: string | Buffer): this {
    this.socket.send(frame)
    return this
  }

  /** Takes the frames up to the one that contains `wanted`, which it resolves to. */
  async until(wanted: string | RegExp): Promise<string> {
    const fits = (frame: string): boolean => (typeof wanted === 'string' ? frame.includes(wanted) : wanted.test(frame))
    await eventually(() => this.frames.some(fits), `${wanted} in ${this.frames.join('\n')}`)
    return this.frames.splice(0, this.frames.findIndex(fits) + 1).at(-1)!
  }

  async gone(): Promise<number> {
    await eventually(() => this.closed !== undefined, 'the WebSocket to close')
    return this.closed!
  }

  async logIn(local: string, resource: string): Promise<this> {
    this.send(frameHeader())
    await this.until('features')
    this.send(plainAuth(local))
    await this.until('<success')
    this.send(frameHeader())
    await this.until('features')
    this.send(bind(resource))
    await this.until('<jid>')
    return this
  }
}

export interface Server {
  readonly edge: Edge
  readonly process: ReturnType<typeof testProcess>
  readonly door: Door
  readonly port: number
  readonly url: string
  readonly tcpPort: number
  readonly connections: readonly Connection[]
  connect(options?: ClientOptions): Promise<Client>
  logIn(local: string, resource: string): Promise<Client>
}

export async function start({
  config = {},
  host = '127.0.0.1',
  certificates = ours,
}: {
  config?: Record<string, unknown>
  host?: string
  certificates?: TestTls
} = {}): Promise<Server> {
  const process = testProcess({ config: { c2s: { allowPlainOnLoopback: true }, websocket: { port: 0 }, ...config } })
  stops.push(await startRoles(process))
  const open = openEdge(process)
  const { edge, close } = open
  const door = testDoor(process, certificates, open)
  const listeners = [...(await listenWebSocket(door, host)), ...(await listenTcp(testDoor(process, certificates, open), host))]
  stops.push(async () => {
    const closing = listeners.map((listener) => listener.close())
    await close()
    await Promise.all(closing)
    expect([edge.streams.size, edge.sessions.size, edge.early.size, edge.leaving.size]).toEqual([0, 0, 0, 0])
    await eventually(() => door.admission.networks + door.admission.waiting === 0, 'no connection to be counted any more')
    expect(process.log.lines.filter(({ level }) => level === 'error')).toEqual([])
  })
  const [port, tcpPort] = listeners.map((listener) => listener.port) as [number, number]
  const scheme = process.config.websocket.tls ? 'wss' : 'ws'
  const url = `${scheme}://${host.includes(':') ? `[${host}]` : host}:${port}${process.config.websocket.path}`
  const connect = (options?: ClientOptions) => new Client(url, ['xmpp'], options).opened()
  return {
    edge,
    process,
    door,
    port,
    url,
    tcpPort,
    connections: door.connections,
    connect,
    async logIn(local, resource) {
      await makeAccount(process, `${local}@example.org`).catch(() => {})
      return (await connect()).logIn(local, resource)
    },
  }
}

export function get(
  port: number,
  path: string,
  headers: Record<string, string> = {},
): Promise<{ status: number; headers: http.IncomingHttpHeaders; text: string }> {
  return new Promise((resolve, reject) => {
    http
      .get({ host: '127.0.0.1', port, path, headers, agent: false }, (response) => {
        let text = ''
        response.on('data', (bytes) => (text += bytes))
        response.on('end', () => resolve({ status: response.statusCode!, headers: response.headers, text }))
      })
      .on('error', reject)
  })
}

export const UPGRADE = {
  connection: 'Upgrade',
  upgrade: 'websocket',
  'sec-websocket-version': '13',
  'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
}

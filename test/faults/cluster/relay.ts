// The way from one process to its NATS servers, which can be cut: what is sent by it is then swallowed, and nobody is told.
//
// There is one port for each server. A cut connection is gone when the way is open again: it has missed bytes. The names of other
// servers are taken out of what the servers say of themselves, so that the process has no other way.
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'

/** Of equal length: what follows stays where it is. */
const OTHERS = Buffer.from('"connect_urls"')
const HIDDEN = Buffer.from('"hidden__urls"')

export class Relay {
  /** For `bus.servers`. */
  readonly urls: readonly string[]
  readonly #servers: readonly Server[]
  readonly #sockets = new Set<Socket>()
  #isCut = false
  /** Bytes that were sent and did not arrive, of the last cut. */
  swallowed = 0

  private constructor(servers: readonly Server[]) {
    this.#servers = servers
    this.urls = servers.map((server) => `nats://127.0.0.1:${(server.address() as AddressInfo).port}`)
  }

  static async start(ports: readonly number[]): Promise<Relay> {
    const servers = await Promise.all(
      ports.map(async () => {
        const server = createServer({ noDelay: true }).listen(0, '127.0.0.1')
        await once(server, 'listening')
        return server
      }),
    )
    const relay = new Relay(servers)
    for (const [n, server] of servers.entries()) server.on('connection', (socket) => relay.#join(socket, ports[n]!))
    return relay
  }

  get isCut(): boolean {
    return this.#isCut
  }

  /** New connections are taken as well, and lead nowhere. */
  cut(): void {
    this.#isCut = true
    this.swallowed = 0
  }

  /** Ends what was cut; new connections get through. */
  mend(): void {
    if (!this.#isCut) return
    this.#isCut = false
    for (const socket of this.#sockets) socket.destroy()
  }

  async close(): Promise<void> {
    const closed = this.#servers.map((server) => once(server, 'close'))
    for (const server of this.#servers) server.close()
    for (const socket of this.#sockets) socket.destroy()
    await Promise.all(closed)
  }

  #join(near: Socket, port: number): void {
    this.#keep(near)
    if (this.#isCut) return void near.on('data', (bytes: Buffer) => this.#swallow(bytes))
    const far = connect({ host: '127.0.0.1', port, noDelay: true })
    this.#keep(far)
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      one.on('data', (bytes: Buffer) => {
        if (this.#isCut) this.#swallow(bytes)
        else other.write(one === far ? hidden(bytes) : bytes)
      })
      one.on('close', () => {
        if (!this.#isCut) other.destroy()
      })
    }
  }

  #swallow({ length }: Buffer): void {
    this.swallowed += length
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket)
    socket.on('error', () => {}) // 'close' follows
    socket.on('close', () => this.#sockets.delete(socket))
  }
}

function hidden(bytes: Buffer): Buffer {
  for (let at = bytes.indexOf(OTHERS); at >= 0; at = bytes.indexOf(OTHERS, at)) HIDDEN.copy(bytes, at)
  return bytes
}

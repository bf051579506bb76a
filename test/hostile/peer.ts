// A peer that may misbehave: raw bytes over TCP, TLS or WebSocket, and what came back, as text.
//
// It parses nothing: what an attack is answered with is looked for in the text. What a well-behaved client would have
// to be able to do (log in, say a stanza in the framing it has) it can do in one call, over each transport alike.
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { connect as tlsConnect } from 'node:tls'
import { WebSocket } from 'ws'

export type Transport = 'tcp' | 'tls' | 'websocket'
export const TRANSPORTS: readonly Transport[] = ['tcp', 'tls', 'websocket']

export interface Ports {
  readonly tcp: number
  readonly tls: number
  readonly websocket: number
  readonly http: number
}

export const HOST = '127.0.0.1'
export const DOMAIN = 'localhost'
export const PASSWORD = 'a secret of nobody'
export const HEADER = `<?xml version='1.0'?><stream:stream to='${DOMAIN}' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>`
export const OPEN = `<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='${DOMAIN}' version='1.0'/>`
const NS_SASL = 'urn:ietf:params:xml:ns:xmpp-sasl'
const PATIENCE_MS = 20_000
/** More than this of what came is not kept: a peer that is flooded must not be what runs out of memory. */
const KEPT_CHARS_MAX = 4_000_000

interface Wire {
  /** Calls back when the kernel has taken it. */
  write(data: string | Uint8Array, taken: () => void): void
  destroy(): void
  pause(): void
  resume(): void
}

export class Peer {
  readonly transport: Transport
  /** What came and was not taken. */
  text = ''
  /** Characters that have come in all. */
  length = 0
  gone = false
  jid = ''
  readonly #wire: Wire
  #changed: () => void = () => {}

  private constructor(transport: Transport, makeWire: (peer: Peer) => Wire) {
    this.transport = transport
    this.#wire = makeWire(this)
  }

  /** `from`: the address of this machine that it comes from. */
  static async connect(ports: Ports, transport: Transport = 'tcp', from = HOST): Promise<Peer> {
    if (transport === 'websocket') {
      const url = `ws://${HOST}:${ports.websocket}/xmpp-websocket`
      const socket = new WebSocket(url, 'xmpp', { perMessageDeflate: false, localAddress: from })
      const peer = new Peer(transport, (peer) => webSocketWire(socket, peer))
      await once(socket, 'open')
      return peer
    }
    const port = ports[transport]
    const options = { host: HOST, port, localAddress: from }
    const socket =
      transport === 'tls'
        ? tlsConnect({ ...options, rejectUnauthorized: false, ALPNProtocols: ['xmpp-client'] })
        : connect(options)
    const peer = new Peer(transport, (peer) => socketWire(socket, peer))
    await once(socket, transport === 'tls' ? 'secureConnect' : 'connect')
    return peer
  }

  /** Connects, logs in by PLAIN and binds. */
  static async online(ports: Ports, account: string, transport: Transport = 'tcp', resource = ''): Promise<Peer> {
    const peer = await Peer.connect(ports, transport)
    await peer.logIn(account, resource)
    return peer
  }

  /** From the wire. */
  came(text: string): void {
    this.length += text.length
    this.text = (this.text + text).slice(-KEPT_CHARS_MAX)
    this.#changed()
  }

  ended(): void {
    this.gone = true
    this.#changed()
  }

  /** As it is: bytes of a stream, or one frame. */
  send(data: string | Uint8Array): void {
    if (!this.gone) this.#wire.write(data, () => {})
  }

  /** As fast as the server takes it. Resolves when the kernel has it, or the peer is gone. */
  sendAndWait(data: string | Uint8Array): Promise<void> {
    if (this.gone) return Promise.resolve()
    return new Promise((resolve) => {
      const before = this.#changed
      this.#changed = () => {
        before()
        if (this.gone) resolve()
      }
      this.#wire.write(data, () => {
        this.#changed = before
        resolve()
      })
    })
  }

  /** A stanza or other element, in the framing of this transport. */
  say(xml: string): void {
    this.send(this.framed(xml))
  }

  framed(xml: string): string {
    if (this.transport !== 'websocket' || !/^<(?:message|presence|iq)\b/.test(xml)) return xml
    return xml.replace(/^<(\w+)/, "<$1 xmlns='jabber:client'")
  }

  /** Many stanzas: on TCP as one piece. */
  sayAll(stanzas: readonly string[]): void {
    if (this.transport === 'websocket') for (const stanza of stanzas) this.say(stanza)
    else this.send(stanzas.join(''))
  }

  pause(): void {
    this.#wire.pause()
  }

  resume(): void {
    this.#wire.resume()
  }

  /** Resolves once it holds of what came; takes nothing. */
  async see(holds: (text: string) => boolean, what: string, patienceMs = PATIENCE_MS): Promise<void> {
    const deadline = performance.now() + patienceMs
    while (!holds(this.text)) {
      if (this.gone || performance.now() > deadline)
        throw new Error(`${what} did not come${this.gone ? ' before the end' : ''}; but ${this.text.slice(-1_500) || 'nothing'}`)
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 50)
        this.#changed = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
  }

  /** Takes all that came, once it holds `wanted`. */
  async until(wanted: string | RegExp, patienceMs = PATIENCE_MS): Promise<string> {
    await this.see((text) => (typeof wanted === 'string' ? text.includes(wanted) : wanted.test(text)), String(wanted), patienceMs)
    return this.take()
  }

  take(): string {
    const { text } = this
    this.text = ''
    return text
  }

  /** Resolves to all that came when the server has ended the connection. */
  async end(patienceMs = PATIENCE_MS): Promise<string> {
    await this.see(() => this.gone, 'the end', patienceMs).catch((error: unknown) => {
      if (!this.gone) throw error
    })
    return this.take()
  }

  /** The condition of the stream error the server ends with (RFC 6120 §4.9); '' where it ends without one. */
  async streamError(patienceMs = PATIENCE_MS): Promise<string> {
    return /<stream:error[^>]*><([a-z-]+) /.exec(await this.end(patienceMs))?.[1] ?? ''
  }

  destroy(): void {
    this.#wire.destroy()
  }

  /** Opens the stream, or opens it again. */
  async open(): Promise<string> {
    this.send(this.transport === 'websocket' ? OPEN : HEADER)
    return this.until('</stream:features>')
  }

  async logIn(account: string, resource = ''): Promise<void> {
    await this.open()
    this.send(plain(account))
    await this.until('<success')
    await this.open()
    const answer = await this.bind(resource)
    const jid = /<jid>([^<]*)</.exec(answer)?.[1]
    if (jid === undefined) throw new Error(`not bound: ${answer}`)
    this.jid = jid
  }

  bind(resource: string): Promise<string> {
    const asked = resource === '' ? '' : `<resource>${resource}</resource>`
    this.say(`<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>${asked}</bind></iq>`)
    return this.until(/<iq [^>]*id='bind'.*?<\/iq>/s)
  }

  /** Asks, and gives the answer as it came. */
  async ask(type: 'get' | 'set', payload: string, to = ''): Promise<string> {
    const id = `q${++asked}`
    this.say(`<iq type='${type}' id='${id}'${to === '' ? '' : ` to='${to}'`}>${payload}</iq>`)
    const answer = new RegExp(`<iq [^>]*id='${id}'[^>]*?(?:/>|>.*?</iq>)`, 's')
    await this.see((text) => answer.test(text), `the answer to ${payload.slice(0, 200)}`)
    return answer.exec(this.text)![0]
  }
}

let asked = 0

export function plain(account: string, password = PASSWORD): string {
  return `<auth xmlns='${NS_SASL}' mechanism='PLAIN'>${Buffer.from(`\0${account}\0${password}`).toString('base64')}</auth>`
}

/** The condition of the first stanza error in a text, and its type: `wait resource-constraint`. */
export function stanzaError(text: string): string {
  const error = /<error [^>]*type='([a-z]+)'[^>]*><([a-z-]+) /.exec(text)
  return error === null ? 'none' : `${error[1]} ${error[2]}`
}

function socketWire(socket: Socket, peer: Peer): Wire {
  socket.setNoDelay(true)
  socket.setEncoding('utf8')
  socket.on('data', (text: string) => peer.came(text))
  socket.on('error', () => {})
  socket.on('close', () => peer.ended())
  return {
    write: (data, taken) => void socket.write(data, () => taken()),
    destroy: () => socket.destroy(),
    pause: () => socket.pause(),
    resume: () => socket.resume(),
  }
}

function webSocketWire(socket: WebSocket, peer: Peer): Wire {
  socket.on('message', (data) => peer.came(String(data)))
  socket.on('error', () => {})
  socket.on('close', () => peer.ended())
  return {
    write: (data, taken) => socket.send(data, { binary: false, fin: true }, () => taken()),
    destroy: () => socket.terminate(),
    pause: () => socket.pause(),
    resume: () => socket.resume(),
  }
}

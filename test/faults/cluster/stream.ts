// One connection of a client to an edge, over TCP or WebSocket: elements go in and come out.
//
// It is written against RFC 6120 and RFC 7395 and shares nothing with the server. The connection may be lost at any byte; what
// had come before that counts.
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { SaxesParser } from 'saxes'
import type { RawElement } from '#test/interop/rawstream.ts'

export const DOMAIN = 'localhost'
const NS_CLIENT = 'jabber:client'
const NS_STREAMS = 'http://etherx.jabber.org/streams'
const NS_FRAMING = 'urn:ietf:params:xml:ns:xmpp-framing'
const CONNECTED_WITHIN_MS = 5_000

/** Where clients come in: an edge. */
export interface Door {
  readonly name: string
  readonly port: number
  readonly websocketUrl: string
}

export interface Stream {
  /** Told of each element on the first level. */
  onElement: (element: RawElement) => void
  /** Resolves when the connection is gone. */
  readonly closed: Promise<void>
  /** Opens the stream, also anew after the login (RFC 6120 §6.4.6). */
  open(): void
  send(xml: string): void
  /** Ends the stream as one should. */
  close(): void
  /** Loses the connection. */
  destroy(): void
}

/** Rejects where nobody takes the connection. */
export function connectTo(door: Door, websocket: boolean): Promise<Stream> {
  return websocket ? WebSocketStream.connect(door) : TcpStream.connect(door)
}

class TcpStream implements Stream {
  onElement: (element: RawElement) => void = () => {}
  readonly closed: Promise<void>
  readonly #socket: Socket
  #read: (text: string) => void = () => {}

  private constructor(socket: Socket) {
    this.#socket = socket
    this.closed = new Promise((resolve) => socket.once('close', () => resolve()))
    socket.on('error', () => {}) // 'close' follows
    socket.setEncoding('utf8').on('data', (text: string) => this.#read(text))
  }

  static async connect({ port }: Door): Promise<TcpStream> {
    const socket = connect({ host: '127.0.0.1', port, noDelay: true })
    await once(socket, 'connect', { signal: AbortSignal.timeout(CONNECTED_WITHIN_MS) })
    return new TcpStream(socket)
  }

  open(): void {
    this.#read = reader(1, (element) => this.onElement(element))
    this.send(`<stream:stream to='${DOMAIN}' version='1.0' xmlns='${NS_CLIENT}' xmlns:stream='${NS_STREAMS}'>`)
  }

  send(xml: string): void {
    if (this.#socket.writable) this.#socket.write(xml)
  }

  close(): void {
    this.#socket.end('</stream:stream>')
  }

  destroy(): void {
    this.#socket.destroy()
  }
}

class WebSocketStream implements Stream {
  onElement: (element: RawElement) => void = () => {}
  readonly closed: Promise<void>
  readonly #socket: WebSocket
  #gone: () => void = () => {}

  private constructor(socket: WebSocket) {
    this.#socket = socket
    this.closed = new Promise((resolve) => {
      this.#gone = resolve
    })
    socket.addEventListener('close', () => this.#gone())
    socket.addEventListener('error', () => this.#gone())
    // RFC 7395 §3.3.3: each message is one element by itself.
    socket.addEventListener('message', ({ data }) => {
      reader(0, (element) => {
        if (element.ns !== NS_FRAMING) this.onElement(element)
      })(String(data))
    })
  }

  static async connect({ websocketUrl }: Door): Promise<WebSocketStream> {
    const socket = new WebSocket(websocketUrl, 'xmpp')
    await new Promise<void>((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`${websocketUrl} does not answer`)), CONNECTED_WITHIN_MS)
      const done = (end: () => void) => () => {
        clearTimeout(late)
        end()
      }
      socket.addEventListener('open', done(resolve), { once: true })
      socket.addEventListener(
        'error',
        done(() => reject(new Error(`${websocketUrl} cannot be reached`))),
        { once: true },
      )
    })
    return new WebSocketStream(socket)
  }

  open(): void {
    this.send(`<open xmlns='${NS_FRAMING}' to='${DOMAIN}' version='1.0'/>`)
  }

  send(xml: string): void {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(xml)
  }

  close(): void {
    this.send(`<close xmlns='${NS_FRAMING}'/>`)
    this.#socket.close()
  }

  destroy(): void {
    this.#socket.close() // there is no other way; what comes until it is closed is not looked at
    this.onElement = () => {}
    this.#gone()
  }
}

/** Takes text as it comes, and tells of each element that many levels down. Throws Error where it is not well-formed. */
function reader(level: number, onElement: (element: RawElement) => void): (text: string) => void {
  const parser = new SaxesParser({ xmlns: true })
  const path: RawElement[] = []
  parser.on('opentag', ({ local, uri, attributes }) => {
    const attrs = Object.fromEntries(Object.values(attributes).map(({ name, value }) => [name, value]))
    const element: RawElement = { name: local, ns: uri, attrs, children: [], text: '' }
    if (path.length > level) path.at(-1)!.children.push(element)
    path.push(element)
  })
  parser.on('text', (text) => {
    if (path.length > level) path.at(-1)!.text += text
  })
  parser.on('closetag', () => {
    const element = path.pop()!
    if (path.length === level) onElement(element)
  })
  return (text) => void parser.write(text)
}

/** A stanza in text; RFC 7395 §3.3.3 has it name its namespace. */
export function stanza(name: string, attrs: Readonly<Record<string, string>>, children = ''): string {
  const written = Object.entries(attrs).map(([key, value]) => ` ${key}='${value}'`)
  return `<${name} xmlns='${NS_CLIENT}'${written.join('')}>${children}</${name}>`
}

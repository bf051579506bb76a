// An XMPP stream by hand: just enough to make an account before anybody can log in.
//
// It opens a stream (RFC 6120 §4.2), takes STARTTLS when it is offered (§5) and reads top-level elements with a
// strict parser. Whatever the server sends that is not well-formed fails the test that is reading.
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { type TLSSocket, connect as tlsConnect } from 'node:tls'
import { SaxesParser } from 'saxes'
import { Mailbox, within } from '#test/support/mailbox.ts'

export const NS_TLS = 'urn:ietf:params:xml:ns:xmpp-tls'

export interface RawElement {
  readonly name: string
  readonly ns: string
  readonly attrs: Readonly<Record<string, string>>
  readonly children: RawElement[]
  text: string
}

export class RawStream {
  readonly #domain: string
  readonly #log: () => string
  #socket: Socket
  #elements: Mailbox<RawElement>

  private constructor(socket: Socket, domain: string, log: () => string) {
    this.#domain = domain
    this.#log = log
    this.#socket = socket
    this.#elements = new Mailbox('the raw stream', log)
  }

  static async connect(host: string, port: number, domain: string, log: () => string): Promise<RawStream> {
    const socket = connect({ host, port })
    await within(once(socket, 'connect'), `a connection to port ${port}`, log)
    return new RawStream(socket, domain, log)
  }

  /** Sends the stream header and answers with the server's features (RFC 6120 §4.3.2). */
  async open(): Promise<RawElement> {
    this.#elements = new Mailbox('the raw stream', this.#log)
    read(this.#socket, this.#elements)
    this.#socket.write(
      `<?xml version='1.0'?><stream:stream to='${this.#domain}' version='1.0' xml:lang='en'` +
        " xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>",
    )
    return this.next('stream features', (element) => element.name === 'features')
  }

  /** RFC 6120 §5.4.2: `<starttls/>`, `<proceed/>`, handshake. The certificate is taken as it is. */
  async startTls(): Promise<void> {
    this.send(`<starttls xmlns='${NS_TLS}'/>`)
    await this.next('<proceed/>', (element) => element.name === 'proceed' && element.ns === NS_TLS)
    this.#socket.removeAllListeners()
    const secured: TLSSocket = tlsConnect({ socket: this.#socket, servername: this.#domain, rejectUnauthorized: false })
    await within(once(secured, 'secureConnect'), 'the TLS handshake after STARTTLS', this.#log)
    this.#socket = secured
  }

  send(xml: string): void {
    this.#socket.write(xml)
  }

  next(awaited: string, fits?: (element: RawElement) => boolean): Promise<RawElement> {
    return this.#elements.next(awaited, fits)
  }

  close(): void {
    this.#socket.end('</stream:stream>')
    this.#socket.destroySoon()
  }
}

export function childOf(element: RawElement, name: string, ns: string): RawElement | undefined {
  return element.children.find((child) => child.name === name && child.ns === ns)
}

function read(socket: Socket, elements: Mailbox<RawElement>): void {
  readElements(
    socket,
    (element) => elements.put(element),
    (reason) => elements.close(reason),
  )
}

/** Tells of each first-level element of the stream that begins now; `ended` says why no more will come, and is told once or more. */
export function readElements(socket: Socket, onElement: (element: RawElement) => void, ended: (reason: string) => void): void {
  const parser = new SaxesParser({ xmlns: true })
  const path: RawElement[] = []
  parser.on('opentag', (tag) => {
    const attrs = Object.fromEntries(Object.values(tag.attributes).map(({ name, value }) => [name, value]))
    const element: RawElement = { name: tag.local, ns: tag.uri, attrs, children: [], text: '' }
    if (path.length > 1) path.at(-1)!.children.push(element)
    path.push(element)
  })
  parser.on('text', (text) => {
    if (path.length > 1) path.at(-1)!.text += text
  })
  parser.on('closetag', () => {
    const element = path.pop()!
    if (path.length === 1) onElement(element)
  })
  parser.on('error', (error) => ended(`not well-formed: ${error.message}`))
  socket.setEncoding('utf8')
  socket.on('data', (text: string) => parser.write(text))
  socket.on('error', (error) => ended(`socket error: ${error.message}`))
  socket.on('close', () => ended('the server closed the socket'))
}

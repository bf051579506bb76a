// A small XMPP client on a raw socket, with the acknowledgements of XEP-0198, for servers that die.
//
// It is written against the specifications and shares nothing with the server: it counts what it sends behind <enable/>, and
// believes an <a h=''/> and nothing else. The connection may be lost at any byte; what had come before that counts.
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { childOf, type RawElement, readElements } from '#test/interop/rawstream.ts'
import { Mailbox } from '#test/support/mailbox.ts'

export const NS_CLIENT = 'jabber:client'
const NS_SM = 'urn:xmpp:sm:3'
const NS_SASL = 'urn:ietf:params:xml:ns:xmpp-sasl'
const NS_BIND = 'urn:ietf:params:xml:ns:xmpp-bind'
const DOMAIN = 'localhost'

export class FaultClient {
  readonly account: string
  /** Told of every message, before anything else happens with it. */
  onMessage: (message: RawElement) => void = () => {}
  /** Told of every acknowledgement: so many of the stanzas sent are handled. */
  onAcked: (count: number) => void = () => {}
  /** Resolves when the connection is gone, and all that came by it has been read. */
  readonly closed: Promise<void>
  readonly #socket: Socket
  #elements: Mailbox<RawElement>
  #ids = 0
  #managed = false
  #received = 0
  /** Stanzas sent behind <enable/>, and which of them are answers that nobody here has asked to be sent. */
  #sent = 0
  readonly #answers: number[] = []

  private constructor(socket: Socket, user: string) {
    this.#socket = socket
    this.account = `${user}@${DOMAIN}`
    this.#elements = new Mailbox(this.account, () => '')
    this.closed = new Promise((resolve) => socket.once('close', () => resolve()))
  }

  /** Connects to a port of this machine, makes the account if asked to, and logs in with PLAIN (RFC 4616). */
  static async logIn(port: number, user: string, password: string, { register = false } = {}): Promise<FaultClient> {
    const socket = connect({ host: '127.0.0.1', port, noDelay: true })
    socket.on('error', () => {}) // it is expected to die; 'close' follows
    await once(socket, 'connect')
    const client = new FaultClient(socket, user)
    await client.#open()
    if (register) {
      const fields = `<username>${user}</username><password>${password}</password>`
      await client.iq('set', `<query xmlns='jabber:iq:register'>${fields}</query>`)
    }
    const initial = Buffer.from(`\0${user}\0${password}`).toString('base64')
    client.#write(`<auth xmlns='${NS_SASL}' mechanism='PLAIN'>${initial}</auth>`)
    const { name } = await client.#elements.next('the end of the login', ({ ns }) => ns === NS_SASL)
    if (name !== 'success') throw new Error(`${user} cannot log in: ${name}`)
    await client.#open()
    await client.iq('set', `<bind xmlns='${NS_BIND}'><resource>fault</resource></bind>`)
    return client
  }

  async #open(): Promise<void> {
    this.#socket.removeAllListeners('data')
    this.#elements = new Mailbox(this.account, () => '')
    const elements = this.#elements
    readElements(
      this.#socket,
      (element) => this.#take(element, elements),
      (reason) => elements.close(reason),
    )
    this.#write(
      `<stream:stream to='${DOMAIN}' version='1.0' xmlns='${NS_CLIENT}' xmlns:stream='http://etherx.jabber.org/streams'>`,
    )
    await elements.next('stream features', ({ name }) => name === 'features')
  }

  /** Counts from here on (§3). */
  async enable(): Promise<void> {
    this.#write(`<enable xmlns='${NS_SM}'/>`)
    await this.#elements.next('<enabled/>', ({ name, ns }) => name === 'enabled' && ns === NS_SM)
  }

  /** One stanza. */
  send(xml: string): void {
    this.#sent++
    this.#write(xml)
  }

  /** Asks for an acknowledgement (§4). */
  request(): void {
    this.#write(`<r xmlns='${NS_SM}'/>`)
  }

  /** The answer's child; rejects with the answer to what is refused. */
  async iq(type: 'get' | 'set', payload: string): Promise<RawElement | undefined> {
    const id = `i${++this.#ids}`
    this.#write(`<iq type='${type}' id='${id}'>${payload}</iq>`)
    const answer = await this.#elements.next(`the answer to ${payload}`, ({ name, attrs }) => name === 'iq' && attrs.id === id)
    if (answer.attrs.type !== 'result') throw new Error(`${this.account} asked ${payload} and got ${JSON.stringify(answer)}`)
    return answer.children[0]
  }

  /** Ends the stream, and resolves when the server has. */
  async logOut(): Promise<void> {
    this.#socket.end('</stream:stream>')
    await this.closed
  }

  #write(xml: string): void {
    if (this.#socket.writable) this.#socket.write(xml)
  }

  #take(element: RawElement, elements: Mailbox<RawElement>): void {
    const { name, ns } = element
    if (ns === NS_SM && name === 'a') return this.onAcked(this.#withoutAnswers(Number(element.attrs.h)))
    if (ns === NS_SM && name === 'r') return this.#write(`<a xmlns='${NS_SM}' h='${this.#received}'/>`)
    if (ns === NS_SM && name === 'enabled') {
      this.#managed = true
      this.#sent = 0
    }
    if (ns === NS_CLIENT && this.#managed) this.#received++
    if (ns === NS_CLIENT && name === 'message') return this.onMessage(element)
    if (ns === NS_CLIENT && name === 'iq' && element.attrs.type === 'get') return this.#answer(element)
    if (ns !== NS_CLIENT || name !== 'presence') elements.put(element)
  }

  /** RFC 6120 §8.2.3: a ping of the server's (XEP-0199), which waits for it before it goes on. */
  #answer({ attrs: { from = DOMAIN, id = '' } }: RawElement): void {
    this.send(`<iq type='result' to='${from}' id='${id}'/>`)
    if (this.#managed) this.#answers.push(this.#sent)
  }

  #withoutAnswers(h: number): number {
    return h - this.#answers.filter((at) => at <= h).length
  }
}

export function textIn(message: RawElement, name: string): string | undefined {
  return childOf(message, name, NS_CLIENT)?.text
}

// One client's stream, as a state machine without sockets: RFC 6120 §4 to §7.
//
//   open ──header──▶ negotiating ──success──▶ reopen ──header──▶ binding ──bind──▶ bound ──close──▶ closed
//                        └─starttls─▶ open
//
// Bytes come in through `data`, elements from the scanner; what goes out is written to the connection. While a login
// or a bind waits for an answer the scanner is paused, so that no state sees what the next one should.
//
// A client lags when the kernel's buffers are full and more than `limits.writeBufferBytes` wait behind them. A burst does
// that to any client: it has had no turn to read. So one that lags is cut off only when what waits has not become less
// for LAG_S_MAX, or is UNSENT_FACTOR times as much: that is the most one client may cost.

import { errorOf } from '#core/answer.ts'
import type { Timer } from '#core/clock.ts'
import { StanzaError, StreamError } from '#xmpp/error.ts'
import { randomId } from '#xmpp/id.ts'
import { type Jid, NO_JID, parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT, NS_FRAMING, NS_SASL, NS_TLS } from '#xmpp/ns.ts'
import { type ScanHandler, type ScannedElement, Scanner, type StreamOpen } from '#xmpp/scan.ts'
import { attr, rootTag, type Stanza, stanzaOfBytes } from '#xmpp/stanza.ts'
import { serialise } from '#xmpp/xml.ts'
import { takeBind } from './binding.ts'
import { type Connection, type ConnectionEvents, UNSENT_FACTOR } from './connection.ts'
import { featuresAfterLogin, featuresBeforeLogin, mayLogIn } from './features.ts'
import { FRAME_FRAMING, type Framing, STREAM_FRAMING } from './framing.ts'
import { Login } from './login.ts'
import type { Edge } from './main.ts'
import type { EdgeSession } from './session.ts'

type State = 'open' | 'negotiating' | 'reopen' | 'binding' | 'bound' | 'closed'

export class ClientStream implements ScanHandler, ConnectionEvents {
  readonly xmlns: string
  /** The stream's xml:lang, '' where the client gave none (RFC 6120 §4.7.4). */
  lang = ''
  readonly #edge: Edge
  readonly #connection: Connection
  readonly #framing: Framing
  readonly #scanner: Scanner
  #state: State = 'open'
  #domain = ''
  #headerSent = false
  /** Set by the login. */
  #account: Jid | undefined
  #session: EdgeSession | undefined
  readonly #login: Login
  #pauses = 0
  #loginTimer: Timer | undefined
  /** Seconds of lagging without any progress, and what was unsent at the last of them. */
  #lagS = 0
  #lagBytes = 0

  constructor(edge: Edge, connection: Connection) {
    this.#edge = edge
    this.#connection = connection
    this.#framing = connection.framing === 'stream' ? STREAM_FRAMING : FRAME_FRAMING
    this.xmlns = this.#framing.xmlns
    this.#scanner = new Scanner(connection.framing, edge.scanLimitsBeforeLogin, this)
    this.#login = new Login(edge, connection, this)
    this.#loginTimer = edge.clock.setTimeout(
      () => this.fail(new StreamError('connection-timeout', 'no login in time')),
      edge.limits.loginTimeoutMs,
    )
  }

  get state(): State {
    return this.#state
  }

  /** Of the stream header, prepared; '' before it. */
  get domain(): string {
    return this.#domain
  }

  // --- what comes in

  data(bytes: Uint8Array): void {
    if (this.#state === 'closed') return
    try {
      this.#scanner.push(bytes)
    } catch (error) {
      this.#broke(error)
    }
    if (this.#pauses > 0 && this.#scanner.bufferedBytes > 0) this.#connection.pause()
  }

  closed(): void {
    if (this.#state !== 'closed') this.#finish()
  }

  streamStart(open: StreamOpen): void {
    if (this.#state !== 'open' && this.#state !== 'reopen')
      throw new StreamError('not-well-formed', 'a stream header inside the stream')
    this.#open(open.to, open.from, open.version, open.lang, open.defaultNs)
  }

  /** Throws StreamError; whoever calls writes it. */
  #open(to: string, from: string, version: string, lang: string, defaultNs: string): void {
    if (defaultNs !== NS_CLIENT) throw new StreamError('invalid-namespace', `this is a server for ${NS_CLIENT}`) // RFC 6120 §4.9.3.10
    if (to === '') throw new StreamError('improper-addressing', 'the stream header has no to') // §4.9.3.7
    this.#domain = this.#edge.domainOf(to) ?? ''
    if (this.#domain === '') throw new StreamError('host-unknown', 'this server does not serve that domain') // §4.9.3.6
    if (!VERSION.test(version)) throw new StreamError('unsupported-version', 'version 1.0 is spoken here') // §4.9.3.25
    if (this.#account !== undefined && this.#account.domain !== this.#domain) {
      throw new StreamError('not-authorized', 'the login was for another domain') // §4.9.3.12
    }
    this.lang = lang.length <= LANG_LENGTH_MAX ? lang : ''
    this.#sendHeader(from === '' ? '' : (this.#account?.bare ?? bareOrNothing(from))) // §4.7.2
    if (this.#account === undefined) {
      this.#state = 'negotiating'
      this.write(this.#framing.features(serialise(featuresBeforeLogin(this.#edge, this.#connection), NS_CLIENT)))
    } else {
      this.#state = 'binding'
      this.write(this.#framing.features(serialise(featuresAfterLogin(this.#edge), NS_CLIENT)))
    }
  }

  element(element: ScannedElement): void {
    if (this.#framing === FRAME_FRAMING && element.ns === NS_FRAMING) return this.#frame(element)
    switch (this.#state) {
      case 'bound':
        return this.#session!.take(element)
      case 'negotiating':
        return this.#negotiate(element)
      case 'binding':
        return takeBind(element, this.#account!, this.#edge, this)
      case 'open':
      case 'reopen':
        throw new StreamError('bad-format', 'the stream is not open') // RFC 7395 §3.4: an <open/> comes first
      case 'closed':
    }
  }

  /** RFC 7395 §3.4 and §3.6. */
  #frame(element: ScannedElement): void {
    if (element.name === 'close') return this.streamEnd()
    if (element.name !== 'open' || (this.#state !== 'open' && this.#state !== 'reopen')) throw new StreamError('bad-format')
    const open = element.element()
    this.#open(attr(open, 'to'), attr(open, 'from'), attr(open, 'version'), attr(open, 'xml:lang'), NS_CLIENT)
  }

  /** RFC 6120 §4.4: what the client has asked is answered first. Nothing more of his is read. */
  streamEnd(): void {
    this.#scanner.stop()
    if (this.#session === undefined) this.#end()
    else this.#session.settle(() => this.#end())
  }

  #end(): void {
    if (this.#state === 'closed') return
    if (!this.#headerSent) this.#sendHeader('')
    this.write(this.#framing.close())
    this.#finish()
    this.#connection.end()
  }

  // --- before the login

  #negotiate(element: ScannedElement): void {
    if (element.ns === NS_TLS && element.name === 'starttls') return this.#startTls()
    if (element.ns === NS_SASL) return this.#login.take(element)
    if (element.ns === NS_CLIENT && element.name === 'iq' && this.#mayAsk(element)) return this.#ask(element)
    throw new StreamError('not-authorized', 'log in first') // RFC 6120 §4.9.3.12
  }

  /** To the host, by whoever might log in. */
  #mayAsk({ to = '', child }: ScannedElement): boolean {
    const edge = this.#edge
    return mayLogIn(edge, this.#connection) && edge.homes.forStrangers(child) && (to === '' || edge.domainOf(to) === this.#domain)
  }

  #startTls(): void {
    if (!this.#connection.canStartTls) {
      this.write(`<failure xmlns='${NS_TLS}'/>`) // RFC 6120 §5.4.2.2: and the stream ends
      return this.streamEnd()
    }
    this.write(`<proceed xmlns='${NS_TLS}'/>`)
    this.#scanner.reset() // nothing that came before the hello survives it, RFC 6120 §5.4.3.3
    this.#state = 'open'
    this.#headerSent = false
    this.#connection.startTls()
  }

  /** The login has succeeded: a new stream follows (RFC 6120 §6.4.6). */
  loggedIn(account: Jid): void {
    this.#account = account
    this.#state = 'reopen'
    this.#headerSent = false
    this.#scanner.reset()
    this.#scanner.setLimits(this.#edge.scanLimits)
  }

  /** An iq that may be asked before the login (XEP-0077): by its module, at the router. */
  #ask(element: ScannedElement): void {
    const { id, type, lang, child, payload } = element
    const host = parseJid(this.#domain)
    const iq = stanzaOfBytes('iq', NO_JID, host, id, type, lang, child, Buffer.from(payload))
    if (element.childCount !== 1 || id === '' || (type !== 'get' && type !== 'set'))
      return this.answer(errorOf(iq, new StanzaError('bad-request')))
    this.wait(this.#edge.askAsStranger(iq, this.#connection.address), (answer) => this.answer(answer))
  }

  // --- after the login

  /** A resource is bound: stanzas from now on. Undefined where the client did not wait for it. */
  bound(session: EdgeSession): void {
    this.#session = session
    if (this.#state === 'closed') return session.closed()
    this.#edge.clock.clearTimeout(this.#loginTimer)
    this.#loginTimer = undefined
    this.#edge.sessions.set(session.id, session)
    this.#state = 'bound'
  }

  /** To the client from its server, before there is a session to deliver to. */
  answer(answer: Stanza | undefined): void {
    if (answer === undefined) return
    const bare = stanzaOfBytes(answer.name, NO_JID, undefined, answer.id, answer.type, answer.lang, answer.child, answer.payload)
    this.deliver(rootTag(bare, undefined, this.xmlns), bare)
  }

  /** Reads nothing more until the promise is settled. */
  wait<T>(promise: Promise<T>, then: (value: T) => void): void {
    this.pause()
    promise.then(then).then(
      () => this.resume(),
      (error: unknown) => {
        this.#broke(error)
        this.resume()
      },
    )
  }

  // --- what goes out

  deliver(tag: string, { name, payload }: Stanza): void {
    if (this.#state === 'closed') return
    const connection = this.#connection
    if (payload.length === 0) connection.write(`${tag}/>`)
    else connection.write(`${tag}>`, payload, CLOSING[name])
    const { unsentBytes } = connection
    const { writeBufferBytes } = this.#edge.limits
    if (unsentBytes <= writeBufferBytes) return
    if (unsentBytes > writeBufferBytes * UNSENT_FACTOR) this.#cutOff(unsentBytes)
    else this.#edge.lagging.add(this)
  }

  /** Once a second while it lags. */
  checkLag(): void {
    const { unsentBytes } = this.#connection
    const before = this.#lagBytes
    this.#lagBytes = unsentBytes
    if (unsentBytes <= this.#edge.limits.writeBufferBytes) {
      this.#lagS = 0
      this.#lagBytes = 0
      this.#edge.lagging.delete(this)
    } else if (unsentBytes < before) this.#lagS = 0
    else if (++this.#lagS > LAG_S_MAX) this.#cutOff(unsentBytes)
  }

  #cutOff(unsentBytes: number): void {
    this.#edge.log.warn('stream.slow_reader', { jid: this.#session?.jid.full, unsentBytes })
    this.#edge.countFailure('resource-constraint')
    this.#finish() // it does not read what it is sent, so it would not read the reason either
    this.#connection.destroy()
  }

  #sendHeader(to: string): void {
    this.#headerSent = true
    this.write(this.#framing.open({ id: randomId(12), from: this.#domain || this.#edge.domains[0]!, to }))
  }

  write(text: string): void {
    if (this.#state !== 'closed') this.#connection.write(text)
  }

  // --- pace and end

  /** Reads no more. Pauses nest. */
  pause(): void {
    if (this.#pauses++ === 0) this.#scanner.pause()
  }

  resume(): void {
    if (--this.#pauses > 0 || this.#state === 'closed') return
    try {
      this.#scanner.resume()
    } catch (error) {
      this.#broke(error)
    }
    if (this.#pauses === 0 && this.state !== 'closed') this.#connection.resume() // not before all that came is taken
  }

  #broke(error: unknown): void {
    if (error instanceof StreamError) return this.fail(error)
    this.#edge.log.error('stream.broke', { error, state: this.#state })
    this.fail(new StreamError('internal-server-error'))
  }

  /** Ends the stream and says why (RFC 6120 §4.9.1). A header that was not sent yet goes first (§4.9.1.1). */
  fail(error: StreamError): void {
    if (this.#state === 'closed') return
    if (!this.#headerSent) this.#sendHeader('')
    this.#edge.log.debug('stream.failed', {
      condition: error.condition,
      text: error.text,
      jid: this.#session?.jid.full,
      address: this.#connection.address,
    })
    this.#edge.countFailure(error.condition)
    this.write(this.#framing.error(error))
    this.write(this.#framing.close())
    this.#finish()
    this.#connection.end()
  }

  #finish(): void {
    this.#state = 'closed'
    this.#scanner.stop()
    this.#edge.clock.clearTimeout(this.#loginTimer)
    if (this.#session !== undefined) {
      this.#edge.sessions.delete(this.#session.id)
      this.#session.closed()
    }
    this.#edge.streams.delete(this)
    this.#edge.lagging.delete(this)
  }
}

/** A socket tells of progress by whole batches of what was written, which a slow network takes a while for. */
const LAG_S_MAX = 30
/** RFC 6120 §4.7.5: leading zeros are ignored, and 0.9 is what there was before. */
const VERSION = /^0*[1-9][0-9]*\.[0-9]+$/
/** RFC 5646 §4.4.1 asks for room for 35; what is longer would be repeated on every stanza, and is left out. */
const LANG_LENGTH_MAX = 64

function bareOrNothing(from: string): string {
  try {
    return parseJid(from).bare
  } catch {
    return ''
  }
}

const CLOSING = { message: '</message>', presence: '</presence>', iq: '</iq>' } as const

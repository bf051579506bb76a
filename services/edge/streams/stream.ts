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
//
// A stream waits in the edge's wheel (edge/sessions/wheel.ts): at first for the login, then for the client to be silent for so long
// that it is asked whether it is still there (RFC 6120 §4.6.4). WebSocket drivers do the latter by themselves.
import { errorOf } from '#core/answer.ts'
import type { ConnectionFacts } from '#core/ownership/registry.ts'
import { StanzaError, StreamError } from '#xmpp/error.ts'
import { randomId } from '#xmpp/id.ts'
import { type Jid, NO_JID, parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT, NS_FRAMING, NS_SASL, NS_STREAM, NS_TLS } from '#xmpp/ns.ts'
import { type ScanHandler, type ScannedElement, Scanner, type StreamOpen } from '#xmpp/scan.ts'
import { attr, readdress, rootTag, type Stanza, stanzaOfBytes } from '#xmpp/stanza.ts'
import { escapeAttribute } from '#xmpp/xml.ts'
import { type Connection, type ConnectionEvents, UNSENT_FACTOR } from '../listeners/connection.ts'
import type { Edge } from '../main.ts'
import { NS_CSI } from '../sessions/inactive.ts'
import type { EdgeSession } from '../sessions/session.ts'
import { ANSWER_S_MAX, failed, NS_SM } from '../sessions/stream-management.ts'
import type { Timed } from '../sessions/wheel.ts'
import type { Broadcast } from '../watching/broadcast.ts'
import { takeBind } from './binding.ts'
import { featuresAfterLogin, featuresBeforeLogin, featuresWhenBound, mayLogIn } from './features.ts'
import { FRAME_FRAMING, type Framing, STREAM_FRAMING } from './framing.ts'
import { Login } from './login.ts'
import { Rate } from './rate.ts'
import { NS_SASL2, sasl2 } from './sasl2.ts'

type State = 'open' | 'negotiating' | 'reopen' | 'binding' | 'bound' | 'closed'

export class ClientStream implements ScanHandler, ConnectionEvents, Timed {
  readonly xmlns: string
  dueS = 0
  /** The stream's xml:lang, '' where the client gave none (RFC 6120 §4.7.4). */
  lang = ''
  readonly #edge: Edge
  readonly #connection: Connection
  readonly #framing: Framing
  readonly #scanner: Scanner
  #state: State = 'open'
  #domain = ''
  #headerSent = false
  /** Set by the login, as is `generation`: of the credentials (core/storage/auth.ts). */
  #account: Jid | undefined
  generation = 0
  #session: EdgeSession | undefined
  /** The session's bare JID, as an attribute has it. */
  #address = ''
  /** Made by the first element of a login, and gone with the last. */
  #login: Login | undefined
  /** The same by XEP-0388. */
  #login2: Login | undefined
  readonly #rate: Rate
  #pauses = 0
  /** The second something was last heard of the client, and whether it has been asked since. */
  #heardS = 0
  #asked = false
  /** The client has closed the stream, and waits for what is still to be answered. */
  #closing = false
  /** Seconds of lagging without any progress, and what was unsent at the last of them. */
  #lagS = 0
  #lagBytes = 0

  constructor(edge: Edge, connection: Connection) {
    this.#edge = edge
    this.#connection = connection
    this.#framing = connection.framing === 'stream' ? STREAM_FRAMING : FRAME_FRAMING
    this.xmlns = this.#framing.xmlns
    this.#scanner = new Scanner(connection.framing, edge.scanLimitsBeforeLogin, this)
    this.#rate = new Rate(edge.paces.beforeLogin)
    edge.wheel.add(this, edge.limits.loginTimeoutMs)
  }

  get state(): State {
    return this.#state
  }

  /** Of the stream header, prepared; '' before it. */
  get domain(): string {
    return this.#domain
  }

  /** What the list of sessions shows of its connection. */
  get about(): ConnectionFacts {
    const { address, encrypted, framing } = this.#connection
    return { address, transport: framing === 'stream' ? 'tcp' : 'websocket', encrypted }
  }

  // --- what comes in

  data(bytes: Uint8Array): void {
    if (this.#state === 'closed') return
    this.#heardS = this.#edge.wheel.nowS
    if (this.#asked) this.#answered()
    try {
      this.#scanner.push(bytes)
    } catch (error) {
      this.#broke(error)
    }
    const owedMs = this.#rate.take(bytes.length, this.#edge.clock.monotonic())
    if (this.state === 'closed') return
    if (owedMs > 0 && this.#edge.debtors.add(this, owedMs)) this.pause()
    if (this.#pauses > 0 && (owedMs > 0 || this.#scanner.bufferedBytes > 0)) this.#connection.pause()
  }

  closed(): void {
    if (this.#state !== 'closed') this.#finish(true)
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
      this.write(this.#framing.features(featuresBeforeLogin(this.#edge, this.#connection, this.#domain)))
    } else {
      this.#state = 'binding'
      this.offer(false)
    }
  }

  element(element: ScannedElement): void {
    this.#rate.stanzas++
    if (this.#framing === FRAME_FRAMING && element.ns === NS_FRAMING) return this.#frame(element)
    if (element.ns === NS_STREAM && element.name === 'error') return this.#failedByClient(element)
    switch (this.#state) {
      case 'bound':
        return this.#session!.take(element)
      case 'negotiating':
        return this.#negotiate(element)
      case 'binding':
        if (element.ns === NS_CSI) return // behind a <resume/> that has failed: a new session is active (XEP-0352 §5.2)
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
    this.#closing = true
    if (this.#session === undefined) return this.#end(false)
    this.#session.leave()
    this.#session.settle(() => this.#end(false))
  }

  /**
   * RFC 6120 §4.9.1.1: the client has found an error, and so the stream is over. It is closed, and not answered by an error of
   * ours. That is no end of the session: it was not closed cleanly, and waits to be resumed (XEP-0198 §5).
   */
  #failedByClient({ child }: ScannedElement): void {
    const { address } = this.#connection
    const condition = child.slice(0, CONDITION_LENGTH_MAX)
    this.#edge.log.debug('stream.failed_by_client', { condition, jid: this.#session?.jid.full, address })
    this.#end(true)
  }

  #end(lost: boolean): void {
    if (this.#state === 'closed') return
    if (!this.#headerSent) this.#sendHeader('')
    this.#sayFarewell()
    this.write(this.#framing.close())
    this.#finish(lost)
    this.#connection.end()
  }

  /** What the client may forget (XEP-0198 §4), ahead of the end. */
  #sayFarewell(): void {
    const farewell = this.#session?.farewell ?? ''
    if (farewell !== '') this.write(farewell)
  }

  // --- before the login

  #negotiate(element: ScannedElement): void {
    if (element.ns === NS_TLS && element.name === 'starttls') return this.#startTls()
    if (element.ns === NS_SASL) {
      if (this.#login === undefined) this.#login = new Login(this.#edge, this.#connection, this)
      return this.#login.take(element)
    }
    if (element.ns === NS_SASL2) {
      if (!this.#connection.encrypted) throw new StreamError('policy-violation', 'that is for streams inside TLS') // XEP-0388 §4
      this.#login2 ??= new Login(this.#edge, this.#connection, this, sasl2(this.#edge, this))
      return this.#login2.take(element)
    }
    if (element.ns === NS_SM && (element.name === 'enable' || element.name === 'resume'))
      return this.say(failed('unexpected-request')) // XEP-0198 §3
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
    this.#connection.startTls(this.#domain)
  }

  /** The login has succeeded: a new stream follows (RFC 6120 §6.4.6). */
  loggedIn(account: Jid, generation: number): void {
    this.authenticated(account, generation)
    this.#state = 'reopen'
    this.#headerSent = false
    this.#scanner.restart()
  }

  /** The same by XEP-0388: the stream goes on. */
  authenticated(account: Jid, generation: number): void {
    this.#account = account
    this.generation = generation
    this.#login = undefined
    this.#login2 = undefined
    if (this.#state === 'negotiating') this.#state = 'binding'
    this.#scanner.setLimits(this.#edge.scanLimits)
    this.#rate.change(this.#edge.paces.session)
  }

  /** What there is behind the login, and behind the bind. */
  offer(isBound: boolean): void {
    const features = isBound ? featuresWhenBound : featuresAfterLogin
    this.write(this.#framing.features(features(this.#edge, this.#connection, this.#domain)))
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

  /** It has a session, bound or resumed: stanzas from now on. False where the client did not wait for it. */
  bound(session: EdgeSession): boolean {
    if (this.#state === 'closed') return false
    this.#session = session
    this.#address = escapeAttribute(session.jid.bare)
    this.#edge.sessions.set(session.id, session)
    this.#state = 'bound'
    const { idleSeconds } = this.#edge.limits
    if (this.#connection.framing === 'frame' || idleSeconds === 0) this.#edge.wheel.remove(this)
    else this.#edge.wheel.add(this, idleSeconds * 1_000)
    return true
  }

  /** This edge stops: its session, where it can be resumed, goes on at another one (RFC 6120 §4.9.3.20). */
  shutDown(): void {
    this.fail(new StreamError('system-shutdown'), this.#session?.resumedBy ? 'resumable' : 'over')
  }

  /** Its session goes on on another stream (XEP-0198 §5). */
  replaced(): void {
    this.#session = undefined
    this.fail(new StreamError('conflict', 'resumed on another stream'))
  }

  /** It has said something since it was asked. */
  #answered(): void {
    const { limits, wheel } = this.#edge
    this.#asked = false
    wheel.add(this, limits.idleSeconds * 1_000)
  }

  /** What it waited for in the wheel has not come, or not been looked at yet. */
  due(): void {
    if (this.#state !== 'bound') return this.fail(new StreamError('connection-timeout', 'no login in time'))
    const { limits, wheel } = this.#edge
    if (this.#pauses > 0) {
      this.#heardS = wheel.nowS // it may have spoken, and is not read from
      this.#asked = false
    }
    const silentS = wheel.nowS - this.#heardS
    if (silentS < limits.idleSeconds) return wheel.add(this, (limits.idleSeconds - silentS) * 1_000)
    if (this.#asked) return this.cutOff('stream.silent')
    this.#asked = true
    wheel.add(this, ANSWER_S_MAX * 1_000)
    this.#session!.ping()
  }

  /** To the client from its server, before there is a session to deliver to. */
  answer(answer: Stanza | undefined): void {
    if (answer === undefined) return
    this.deliver(rootTag(readdress(answer, { from: NO_JID }), undefined, this.xmlns), answer)
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
    if (payload.length === 0) this.#connection.write(`${tag}/>`)
    else this.#connection.write(`${tag}>`, payload, CLOSING[name])
    this.#checkUnsent()
  }

  /** To the account of its session. */
  show(broadcast: Broadcast): void {
    if (this.#state === 'closed') return
    const { before, behind } = broadcast.written(this.xmlns)
    this.#connection.write(before, this.#address, behind)
    this.#checkUnsent()
  }

  /** An element that is no stanza, and that a client can make us send as often as it likes. */
  say(text: string): void {
    if (this.#state === 'closed') return
    this.#connection.write(text)
    this.#checkUnsent()
  }

  #checkUnsent(): void {
    const { unsentBytes } = this.#connection
    const { writeBufferBytes } = this.#edge.limits
    if (unsentBytes <= writeBufferBytes) return
    if (unsentBytes > writeBufferBytes * UNSENT_FACTOR) this.cutOff('stream.slow_reader')
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
    else if (++this.#lagS > LAG_S_MAX) this.cutOff('stream.slow_reader')
  }

  /** It does not read what it is sent, or does not answer, and would not read the reason either. */
  cutOff(event: 'stream.slow_reader' | 'stream.silent' | 'stream.unanswered'): void {
    if (this.#state === 'closed') return
    this.#edge.log.warn(event, { jid: this.#session?.jid.full, unsentBytes: this.#connection.unsentBytes })
    this.#edge.countFailure(event === 'stream.slow_reader' ? 'resource-constraint' : 'connection-timeout')
    this.#finish(true)
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

  /** What comes of the client is taken. */
  get reading(): boolean {
    return this.#pauses === 0
  }

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
  fail(error: StreamError, session: 'resumable' | 'over' = 'over'): void {
    if (this.#state === 'closed') return
    if (!this.#headerSent) this.#sendHeader('')
    this.#edge.log.debug('stream.failed', {
      condition: error.condition,
      text: error.text,
      jid: this.#session?.jid.full,
      address: this.#connection.address,
    })
    this.#edge.countFailure(error.condition)
    this.#sayFarewell()
    this.write(this.#framing.error(error))
    this.write(this.#framing.close())
    this.#finish(session === 'resumable')
    this.#connection.end()
  }

  /** `lost`: without a word from either side, so that the session may outlive it. */
  #finish(lost: boolean): void {
    const session = this.#session
    this.#state = 'closed'
    this.#scanner.stop()
    this.#edge.wheel.remove(this)
    this.#edge.streams.delete(this)
    this.#edge.lagging.delete(this)
    this.#session = undefined
    if (session === undefined) return
    if (lost && !this.#closing) session.lost()
    else session.end()
  }
}

/** A socket tells of progress by whole batches of what was written, which a slow network takes a while for. */
const LAG_S_MAX = 30
/** RFC 6120 §4.7.5: leading zeros are ignored, and 0.9 is what there was before. */
const VERSION = /^0*[1-9][0-9]*\.[0-9]+$/
/** RFC 5646 §4.4.1 asks for room for 35; what is longer would be repeated on every stanza, and is left out. */
const LANG_LENGTH_MAX = 64
/** Of what a client says has gone wrong, as it is logged. */
const CONDITION_LENGTH_MAX = 200

function bareOrNothing(from: string): string {
  try {
    return parseJid(from).bare
  } catch {
    return ''
  }
}

const CLOSING = { message: '</message>', presence: '</presence>', iq: '</iq>' } as const

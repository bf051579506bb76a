// A login in the stream, one exchange at a time: SASL as RFC 6120 §6 writes it, or as XEP-0388 does (edge/streams/sasl2.ts).
//
// The exchange itself (edge/sasl) knows no XML; here its messages get their elements, and failures are counted.
import { StreamError } from '#xmpp/error.ts'
import { type Jid, parseJid } from '#xmpp/jid.ts'
import { NS_SASL } from '#xmpp/ns.ts'
import type { ScannedElement } from '#xmpp/scan.ts'
import { textOf } from '#xmpp/stanza.ts'
import { asBuffer, escapeText } from '#xmpp/xml.ts'
import type { Connection } from '../listeners/connection.ts'
import type { Edge } from '../main.ts'
import {
  beginExchange,
  decodeSaslData,
  encodeSaslData,
  type MaybeStep,
  refusalOf,
  type SaslCondition,
  type SaslContext,
  SaslError,
  type SaslExchange,
  type SaslServer,
  type SaslStep,
  type SaslSuccess,
} from '../sasl/mechanism.ts'
import { mayLogIn, saslContextOf } from './features.ts'

/** What a login needs of its stream. */
export interface LoginStream {
  /** The domain of the stream, prepared. */
  readonly domain: string
  readonly state: string
  write(text: string): void
  /** Reads nothing more until the promise is settled. */
  wait<T>(promise: Promise<T>, then: (value: T) => void): void
  /** `generation`: of the credentials, core/storage/auth.ts. */
  loggedIn(account: Jid, generation: number): void
}

/** How the messages of an exchange are written. */
export interface Profile {
  readonly ns: string
  /** What the client begins with. */
  readonly begins: string
  /** Undefined: no initial response, which is not the same as an empty one (RFC 6120 §6.4.2). Throws SaslError. */
  initialOf(element: ScannedElement): Uint8Array | undefined
  /** `text` is escaped, '' for none. */
  failure(condition: SaslCondition, text: string): string
  /** An exchange of mechanisms that are offered by this profile alone; undefined for others. */
  exchange?(mechanism: string, server: SaslServer, context: SaslContext): SaslExchange | undefined
  /** Tells the client, and goes on; or refuses all the same. */
  succeed(step: SaslSuccess, refuse: (condition: SaslCondition, text: string) => void): void
}

export class Login {
  readonly #edge: Edge
  readonly #connection: Connection
  readonly #stream: LoginStream
  readonly #profile: Profile
  #exchange: SaslExchange | undefined
  /** What the exchange began with: another one, once TLS is up. */
  #encrypted = false
  #tries = 0

  constructor(edge: Edge, connection: Connection, stream: LoginStream, profile: Profile = rfc6120(stream)) {
    this.#edge = edge
    this.#connection = connection
    this.#stream = stream
    this.#profile = profile
  }

  /** An element of SASL. Throws StreamError after too many failures. */
  take(element: ScannedElement): void {
    if (!mayLogIn(this.#edge, this.#connection)) return this.#fail('encryption-required')
    if (this.#connection.encrypted !== this.#encrypted) this.#exchange = undefined // §5.4.3.3: what was said in the clear is forgotten
    if (element.name === 'abort') return this.#fail('aborted') // §6.4.4
    const began = this.#exchange !== undefined
    if (element.name !== (began ? 'response' : this.#profile.begins)) return this.#fail('malformed-request', 'out of order')
    let data: Uint8Array | undefined
    try {
      data = began ? dataOf(element) : this.#profile.initialOf(element)
    } catch (error) {
      if (!(error instanceof SaslError)) throw error
      return this.#fail(error.condition, error.text)
    }
    if (this.#exchange !== undefined) return this.#await(this.#exchange.respond(data ?? new Uint8Array(0)))
    const mechanism = element.attribute('mechanism')
    const turn = this.#edge.turns.take()
    if (turn === true) return this.#begin(mechanism, data)
    this.#stream.wait(turn, (granted) => {
      if (this.#stream.state === 'closed') return
      if (granted) this.#begin(mechanism, data)
      else this.#fail('temporary-auth-failure', 'too many log in at the moment')
    })
  }

  #begin(mechanism: string, data: Uint8Array | undefined): void {
    const { domain } = this.#stream
    const context = saslContextOf(this.#edge, this.#connection, domain)
    const server = this.#edge.saslServer(domain, this.#connection.address)
    this.#encrypted = context.encrypted
    this.#exchange = this.#profile.exchange?.(mechanism, server, context) ?? beginExchange(mechanism, server, context)
    if (this.#exchange === undefined) return this.#fail(refusalOf(mechanism, context))
    this.#await(this.#exchange.start(data))
  }

  #await(step: MaybeStep): void {
    if (step instanceof Promise) this.#stream.wait(step, (step) => this.#step(step))
    else this.#step(step)
  }

  #step(step: SaslStep): void {
    if (this.#stream.state === 'closed') return
    switch (step.kind) {
      case 'challenge':
        this.#stream.write(`<challenge xmlns='${this.#profile.ns}'>${encodeSaslData(step.data)}</challenge>`)
        return
      case 'failure':
        return this.#fail(step.condition, step.text)
      case 'success':
        this.#exchange = undefined
        this.#profile.succeed(step, (condition, text) => this.#fail(condition, text))
    }
  }

  /** RFC 6120 §6.4.5: the client may try again, a few times. */
  #fail(condition: SaslCondition, text = ''): void {
    this.#exchange = undefined
    this.#stream.write(this.#profile.failure(condition, escapeText(text)))
    if (++this.#tries >= this.#edge.limits.loginFailuresPerStream)
      throw new StreamError('policy-violation', 'too many failed logins')
  }
}

function rfc6120(stream: LoginStream): Profile {
  return {
    ns: NS_SASL,
    begins: 'auth',
    initialOf: dataOf,
    failure(condition, text) {
      const said = text === '' ? '' : `<text xml:lang='en'>${text}</text>`
      return `<failure xmlns='${NS_SASL}'><${condition}/>${said}</failure>`
    },
    succeed({ username, generation, data }) {
      stream.loggedIn(parseJid(`${username}@${stream.domain}`), generation)
      stream.write(
        data === undefined ? `<success xmlns='${NS_SASL}'/>` : `<success xmlns='${NS_SASL}'>${encodeSaslData(data)}</success>`,
      )
    },
  }
}

/** Undefined: `<auth/>` without an initial response, which is not the same as an empty one (RFC 6120 §6.4.2). */
function dataOf(element: ScannedElement): Uint8Array | undefined {
  const text = textIn(element).trim()
  if (text !== '') return decodeSaslData(text)
  return element.name === 'auth' ? undefined : new Uint8Array(0)
}

/** Base64 is the same in XML; a tree is made only of what is more than that. */
function textIn(element: ScannedElement): string {
  const { childCount, payload } = element
  return childCount === 0 && !payload.includes(AMPERSAND) ? asBuffer(payload).toString('latin1') : textOf(element.element())
}

const AMPERSAND = 0x26

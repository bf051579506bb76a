// SASL as RFC 6120 §6 uses it: which mechanisms there are, and one login as a state machine.
//
// An exchange is fed decoded messages and answers each with a step; it knows neither XML nor sockets, so SASL in the stream
// (RFC 6120 §6) and SASL2 (XEP-0388) drive the same one. A mechanism only says what the next message means; order, sizes and
// everything thrown are looked after here, once. Nothing a client sends makes an exchange throw, and it ends once.
import { type Credentials, HashingBusy } from '#core/scram-keys.ts'
import { checkLength, SaslError } from './input.ts'
import { plain } from './plain.ts'
import { scram } from './scram.ts'

export { decodeSaslData, encodeSaslData, SASL_BYTES_MAX, SaslError } from './input.ts'

/** RFC 6120 §6.5. */
export type SaslCondition =
  | 'aborted'
  | 'account-disabled'
  | 'credentials-expired'
  | 'encryption-required'
  | 'incorrect-encoding'
  | 'invalid-authzid'
  | 'invalid-mechanism'
  | 'malformed-request'
  | 'mechanism-too-weak'
  | 'not-authorized'
  | 'temporary-auth-failure'

/** What the client is told next. */
export type SaslStep =
  | { readonly kind: 'challenge'; readonly data: Uint8Array }
  /** `data` where the mechanism has more to say (RFC 6120 §6.4.6); `username`: the prepared localpart. */
  | { readonly kind: 'success'; readonly data?: Uint8Array; readonly username: string }
  /** `text`, for people, is absent where there is nothing to add. */
  | { readonly kind: 'failure'; readonly condition: SaslCondition; readonly text?: string }

/** Who can log in here, as an exchange asks it. */
export interface SaslServer {
  /** The domain of the stream, prepared. */
  readonly domain: string
  /** undefined: no such account. A rejection fails the login with temporary-auth-failure. */
  credentials(localpart: string): Promise<Credentials | undefined>
  /** What stands in for an account that does not exist (`fakeCredentials`). Asked at each login, so that both take one way. */
  fake(localpart: string): Credentials
  /** Told once of an exchange that failed, for the log and for slowing down who guesses. */
  onFailure?(failure: SaslFailure): void
}

export interface SaslFailure {
  readonly mechanism: string
  readonly condition: SaslCondition
  readonly text: string
  /** What was thrown where the fault was ours and not the client's. */
  readonly cause?: unknown
}

export interface SaslContext {
  /** The stream is inside TLS. */
  readonly encrypted: boolean
  /** PLAIN may be used on this stream. Without encryption that is for loopback alone: it shows the password. */
  readonly plainAllowed: boolean
}

export interface SaslExchange {
  /** `<auth/>`: undefined is "no initial response", which is not the same as an empty one (RFC 6120 §6.4.2). */
  start(initial: Uint8Array | undefined): Promise<SaslStep>
  /** `<response/>`. */
  respond(data: Uint8Array): Promise<SaslStep>
}

/** A mechanism in which the client speaks first. Throws SaslError. Called again only after it answered with a challenge. */
export interface Mechanism {
  next(data: Uint8Array): Promise<SaslStep>
}

const MECHANISMS: Readonly<Record<string, (server: SaslServer, plusOffered: boolean) => Mechanism>> = {
  'SCRAM-SHA-256': (server, plusOffered) => scram('SHA-256', server, plusOffered), // RFC 7677
  'SCRAM-SHA-1': (server, plusOffered) => scram('SHA-1', server, plusOffered), // RFC 5802
  PLAIN: (server) => plain(server), // RFC 4616
}

/** What is offered on such a stream, in order of preference, strongest first (RFC 6120 §6.3.3). */
export function mechanisms(context: SaslContext): readonly string[] {
  return Object.keys(MECHANISMS).filter((name) => name !== 'PLAIN' || context.plainAllowed)
}

/** undefined: the mechanism is not offered; `refusalOf` says which failure that is. */
export function beginExchange(mechanism: string, server: SaslServer, context: SaslContext): SaslExchange | undefined {
  const offered = mechanisms(context)
  if (!offered.includes(mechanism)) return undefined
  const plusOffered = offered.some((name) => name.endsWith('-PLUS'))
  return new Exchange(mechanism, MECHANISMS[mechanism]!(server, plusOffered), server)
}

/** Why `beginExchange` gave nothing: PLAIN wants TLS here (RFC 6120 §6.5.4), or there is no such mechanism (§6.5.7). */
export function refusalOf(mechanism: string, context: SaslContext): SaslCondition {
  return mechanism === 'PLAIN' && !context.encrypted ? 'encryption-required' : 'invalid-mechanism'
}

class Exchange implements SaslExchange {
  readonly #name: string
  readonly #mechanism: Mechanism
  readonly #server: SaslServer
  #state: 'new' | 'working' | 'asked' | 'ended' = 'new'

  constructor(name: string, mechanism: Mechanism, server: SaslServer) {
    this.#name = name
    this.#mechanism = mechanism
    this.#server = server
  }

  async start(initial: Uint8Array | undefined): Promise<SaslStep> {
    if (this.#state !== 'new') return this.#outOfOrder()
    if (initial !== undefined) return this.#advance(initial)
    this.#state = 'asked'
    return { kind: 'challenge', data: new Uint8Array(0) } // RFC 4422 §5: an empty challenge asks for the first message
  }

  async respond(data: Uint8Array): Promise<SaslStep> {
    return this.#state === 'asked' ? this.#advance(data) : this.#outOfOrder()
  }

  async #advance(data: Uint8Array): Promise<SaslStep> {
    this.#state = 'working'
    let step: SaslStep
    try {
      step = await this.#mechanism.next(checkLength(data))
    } catch (error) {
      return this.#fail(asSaslError(error))
    }
    // The client did not wait for this answer: `#outOfOrder` ended the exchange meanwhile.
    if ((this.#state as string) === 'ended') return this.#outOfOrder()
    this.#state = step.kind === 'challenge' ? 'asked' : 'ended'
    return step
  }

  #outOfOrder(): SaslStep {
    return this.#fail(new SaslError('malformed-request', 'out of order'))
  }

  #fail({ condition, text, cause }: SaslError): SaslStep {
    if (this.#state !== 'ended') {
      this.#state = 'ended'
      const ours = condition === 'temporary-auth-failure' ? { cause } : {}
      this.#server.onFailure?.({ mechanism: this.#name, condition, text, ...ours })
    }
    return text === '' ? { kind: 'failure', condition } : { kind: 'failure', condition, text }
  }
}

/** Whatever is not the client's fault is ours, and may pass (RFC 6120 §6.5.11). */
function asSaslError(error: unknown): SaslError {
  if (error instanceof SaslError) return error
  const text = error instanceof HashingBusy ? 'too many logins at once' : ''
  return new SaslError('temporary-auth-failure', text, { cause: error })
}

// SASL as RFC 6120 §6 uses it: one login as a state machine.
//
// An exchange is fed decoded messages and answers each with a step; it knows neither XML nor sockets, so SASL in the stream
// (RFC 6120 §6) and SASL2 (XEP-0388) drive the same one. A mechanism only says what the next message means; order, sizes and
// everything thrown are looked after here, once. Nothing a client sends makes an exchange throw, and it ends once.
import type { Asked, Told } from '#core/call.ts'
import type { Auth } from '#core/storage/auth.ts'
import { HashingBusy, SCRAM_HASHES } from '#core/storage/scram-keys.ts'
import type { ChannelBindingType } from '../listeners/connection.ts'
import { external } from './external.ts'
import type { Attempt } from './guesses.ts'
import { checkLength, SaslError } from './input.ts'
import type { Offer } from './offer.ts'
import { plain } from './plain.ts'
import { Scram } from './scram.ts'

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
  | SaslSuccess
  /** `text`, for people, is absent where there is nothing to add. */
  | { readonly kind: 'failure'; readonly condition: SaslCondition; readonly text?: string }

export interface SaslSuccess {
  readonly kind: 'success'
  /** Where the mechanism has more to say (RFC 6120 §6.4.6). */
  readonly data?: Uint8Array
  /** The prepared localpart. */
  readonly username: string
  /** Of the credentials (core/storage/auth.ts), to be shown when a resource is bound. */
  readonly generation: number
  /** Due in the place of the token it was logged in by (XEP-0484 §3.5). */
  readonly token?: { readonly token: string; readonly expiry: string }
}

/** At once where nobody has to be asked. */
export type MaybeStep = SaslStep | Promise<SaslStep>

/** Who can log in here, as an exchange asks it. */
export interface SaslServer {
  /** The domain of the stream, prepared. */
  readonly domain: string
  /** A rejection fails the login with temporary-auth-failure. */
  readonly auth: Auth
  /** Begins a try at an account, from the address of the stream. */
  attempt(account: string): Attempt
  /** Whether somebody has a token (XEP-0484); absent where there are none. */
  verifyToken?(account: string, question: Asked<'fast.verify'>): Promise<Told<'fast.verify'>>
  /** Told once of an exchange that failed, for the log. */
  onFailure?(failure: SaslFailure): void
}

export interface SaslFailure {
  readonly mechanism: string
  readonly condition: SaslCondition
  readonly text: string
  /** What was thrown where the fault was ours and not the client's. */
  readonly cause?: unknown
}

/** The stream, as a login sees it. */
export interface SaslContext {
  /** It is inside TLS. */
  readonly encrypted: boolean
  /** What its features have offered. */
  readonly offer: Offer
  /** Localparts of the stream's domain that the client's certificate names. */
  readonly certified: readonly string[]
  channelBinding(type: ChannelBindingType): Uint8Array | undefined
}

export interface SaslExchange {
  /** `<auth/>`: undefined is "no initial response", which is not the same as an empty one (RFC 6120 §6.4.2). */
  start(initial: Uint8Array | undefined): MaybeStep
  /** `<response/>`. */
  respond(data: Uint8Array): MaybeStep
}

/** A mechanism in which the client speaks first. Throws SaslError. Called again only after it answered with a challenge. */
export interface Mechanism {
  next(data: Uint8Array): MaybeStep
}

const MECHANISMS = new Map<string, (server: SaslServer, context: SaslContext) => Mechanism>([
  ['EXTERNAL', (server, { certified }) => external(server, certified)], // RFC 4422 Appendix A
  ['PLAIN', (server) => plain(server)], // RFC 4616
])
for (const hash of SCRAM_HASHES) {
  MECHANISMS.set(`SCRAM-${hash}`, (server, context) => new Scram(hash, false, server, context)) // RFC 5802, RFC 7677
  MECHANISMS.set(`SCRAM-${hash}-PLUS`, (server, context) => new Scram(hash, true, server, context))
}

/** undefined: the mechanism is not offered; `refusalOf` says which failure that is. */
export function beginExchange(mechanism: string, server: SaslServer, context: SaslContext): SaslExchange | undefined {
  if (!context.offer.mechanisms.includes(mechanism)) return undefined
  return new Exchange(mechanism, MECHANISMS.get(mechanism)!(server, context), server)
}

/** The same by a mechanism of the caller's own. */
export function exchangeBy(name: string, mechanism: Mechanism, server: SaslServer): SaslExchange {
  return new Exchange(name, mechanism, server)
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

  start(initial: Uint8Array | undefined): MaybeStep {
    if (this.#state !== 'new') return this.#outOfOrder()
    if (initial !== undefined) return this.#advance(initial)
    this.#state = 'asked'
    return { kind: 'challenge', data: new Uint8Array(0) } // RFC 4422 §5: an empty challenge asks for the first message
  }

  respond(data: Uint8Array): MaybeStep {
    return this.#state === 'asked' ? this.#advance(data) : this.#outOfOrder()
  }

  #advance(data: Uint8Array): MaybeStep {
    this.#state = 'working'
    try {
      const step = this.#mechanism.next(checkLength(data))
      if (!(step instanceof Promise)) return this.#take(step)
      return step.then(
        (step) => this.#take(step),
        (error: unknown) => this.#fail(asSaslError(error)),
      )
    } catch (error) {
      return this.#fail(asSaslError(error))
    }
  }

  #take(step: SaslStep): SaslStep {
    if (this.#state === 'ended') return this.#outOfOrder() // the client did not wait for this answer
    this.#state = step.kind === 'challenge' ? 'asked' : 'ended'
    return step
  }

  #outOfOrder(): SaslStep {
    return this.#fail(new SaslError('malformed-request', 'out of order'))
  }

  #fail({ condition, text, cause }: SaslError): SaslStep {
    if (this.#state !== 'ended') {
      this.#state = 'ended'
      const ours = condition === 'temporary-auth-failure' && cause !== undefined ? { cause } : {}
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

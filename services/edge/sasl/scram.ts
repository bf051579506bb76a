// SCRAM, RFC 5802 and RFC 7677: the client proves that it knows the password, we that we knew it before.
//
//   C: n,,n=romeo,r=<client nonce>                                gs2 header, then client-first-message-bare
//   S: r=<client nonce><our nonce>,s=<salt>,i=<iterations>,h=<offer>   h: XEP-0474
//   C: c=biws,r=<both nonces>,p=<proof>                           c repeats the gs2 header, and then the channel binding, in base64
//   S: v=<signature>                                              in <success/> (RFC 6120 §6.4.6)
//
// Both sign the same three messages, as they were written: hence the raw texts are kept. What is wrong in the form of a message
// is malformed-request; what is wrong in its substance is not-authorized. XMPP has no place for the `e=` of RFC 5802 §7.
//
// An account may have no keys for a hash that is offered: it was brought from elsewhere. Then it is to this mechanism as if it did
// not exist. To say more would tell strangers who has an account; offering less to such an account would need to know it before
// the offer. Clients pick the strongest and few try another one, so `scram.hashes` is there to take it out.
import { timingSafeEqual } from 'node:crypto'
import type { ScramLogin } from '#core/storage/auth.ts'
import { hashOf, hmacOf, SCRAM_BYTES, type ScramHash } from '#core/storage/scram-keys.ts'
import { randomId } from '#xmpp/id.ts'
import type { ChannelBindingType } from '../listeners/connection.ts'
import type { Attempt } from './guesses.ts'
import { decodeUtf8, encodeBase64, SaslError } from './input.ts'
import type { MaybeStep, Mechanism, SaslContext, SaslServer, SaslStep } from './mechanism.ts'
import { type ClientFirst, malformed, parseClientFinal, parseClientFirst } from './scram-messages.ts'
import { beginClaim, conclude, requireFree } from './verdict.ts'

const NONCE_BYTES = 18

/** What is remembered between the two messages of a client. */
interface Asked {
  readonly username: string
  readonly attempt: Attempt
  readonly login: ScramLogin
  readonly clientFirst: ClientFirst
  /** Client's and ours in one. */
  readonly nonce: string
  readonly serverFirst: string
}

/** One SCRAM login. */
export class Scram implements Mechanism {
  readonly #hash: ScramHash
  readonly #plus: boolean
  readonly #server: SaslServer
  readonly #context: SaslContext
  readonly #ourNonce: string
  #asked: Asked | undefined

  /** `plus`: it is the -PLUS mechanism. `nonce`: ours, printable and without a comma; given by tests. */
  constructor(hash: ScramHash, plus: boolean, server: SaslServer, context: SaslContext, nonce = randomId(NONCE_BYTES)) {
    this.#hash = hash
    this.#plus = plus
    this.#server = server
    this.#context = context
    this.#ourNonce = nonce
  }

  next(data: Uint8Array): MaybeStep {
    const text = decodeUtf8(data)
    return this.#asked === undefined ? this.#ask(text) : this.#finish(this.#asked, text)
  }

  async #ask(text: string): Promise<SaslStep> {
    const clientFirst = parseClientFirst(text)
    this.#checkFlag(clientFirst.flag)
    const { username, account, attempt } = await beginClaim(this.#server, clientFirst.username, clientFirst.authzid)
    const login = await this.#server.auth.scramKeys(account, this.#hash)
    const { salt, iterations } = login.keys
    const nonce = clientFirst.nonce + this.#ourNonce
    const serverFirst = `r=${nonce},s=${encodeBase64(salt)},i=${iterations}${this.#context.offer.protection(this.#hash)}`
    this.#asked = { username, attempt, login, clientFirst, nonce, serverFirst }
    return { kind: 'challenge', data: Buffer.from(serverFirst) }
  }

  /** RFC 5802 §6: a client that says otherwise than the mechanism it has chosen MUST fail. */
  #checkFlag(flag: string): void {
    const { offer, channelBinding } = this.#context
    const { bindings } = offer
    if (this.#plus) {
      if (!flag.startsWith('p=')) throw malformed('a -PLUS mechanism has channel binding')
      // COMPAT: slixmpp takes tls-unique although it is not offered (edge/listeners/tls-facts.ts, finishedOf).
      const known = bindings.some((type) => flag === `p=${type}`) || (flag === 'p=tls-unique' && channelBinding('tls-unique'))
      if (!known) throw malformed('a type of channel binding that is not offered')
    } else if (flag.startsWith('p=')) throw malformed('this mechanism has no channel binding')
    // 'y' says "you have none": somebody has taken it out of what was offered.
    else if (flag === 'y' && bindings.length > 0) throw new SaslError('not-authorized', 'channel binding was offered')
  }

  /** RFC 5802 §3: StoredKey is the hash of the ClientKey that the proof hides. */
  #finish({ username, attempt, login, clientFirst, nonce, serverFirst }: Asked, text: string): SaslStep {
    const hash = this.#hash
    const { storedKey, serverKey } = login.keys
    const final = parseClientFinal(text, SCRAM_BYTES[hash])
    // §5.1: both MUST be verified, c against the header as it was sent and the binding as it is on our side.
    if (final.channelBinding !== this.#bindingInput(clientFirst)) {
      throw new SaslError('not-authorized', 'the channel binding is not the one of this connection')
    }
    if (final.nonce !== nonce) throw new SaslError('not-authorized', 'the nonce is not the one that was sent')
    requireFree(attempt)
    const authMessage = `${clientFirst.bare},${serverFirst},${final.withoutProof}`
    const clientKey = hmacOf(hash, storedKey, authMessage)
    for (let i = 0; i < clientKey.length; i++) clientKey[i]! ^= final.proof[i]!
    const proven = timingSafeEqual(hashOf(hash, clientKey), storedKey)
    const signature = hmacOf(hash, serverKey, authMessage)
    return conclude(attempt, proven ? login.standing : undefined, username, Buffer.from(`v=${encodeBase64(signature)}`))
  }

  /** §7, cbind-input, in base64. */
  #bindingInput({ flag, gs2Header }: ClientFirst): string {
    if (!this.#plus) return encodeBase64(Buffer.from(gs2Header))
    const data = this.#context.channelBinding(flag.slice('p='.length) as ChannelBindingType)
    if (data === undefined) throw new Error(`the connection has lost its ${flag}`)
    return encodeBase64(Buffer.concat([Buffer.from(gs2Header), data]))
  }
}

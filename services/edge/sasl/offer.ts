// Which mechanisms a stream is offered, strongest first (RFC 6120 §6.3.3), and the types of channel binding with them
// (XEP-0440). There are few different offers on an edge; each is made once.
import type { AuthSupport } from '#core/storage/auth.ts'
import { hashOf, type ScramHash } from '#core/storage/scram-keys.ts'
import type { ChannelBindingType } from '../listeners/connection.ts'
import { encodeBase64 } from './input.ts'

/** What decides. */
export interface OfferFacts {
  /** PLAIN may be used on this stream. Without encryption that is for loopback alone: it shows the password. */
  readonly plainAllowed: boolean
  /** The client has shown a certificate with an address of the stream's domain. */
  readonly certified: boolean
  /** Those that the connection has. */
  readonly bindings: readonly ChannelBindingType[]
}

export class Offer {
  readonly mechanisms: readonly string[]
  readonly bindings: readonly ChannelBindingType[]
  /** Of all that is offered: two that offer the same have one. */
  readonly name: string
  readonly #protections = new Map<ScramHash, string>()

  constructor(supports: AuthSupport, { plainAllowed, certified, bindings }: OfferFacts) {
    const scram = supports.scram.map((hash) => `SCRAM-${hash}`)
    this.mechanisms = [
      ...(certified && supports.certificate ? ['EXTERNAL'] : []), // XEP-0178 §2
      ...(bindings.length > 0 ? scram.map((name) => `${name}-PLUS`) : []), // RFC 5802 §6
      ...scram,
      ...(plainAllowed && supports.password ? ['PLAIN'] : []),
    ]
    this.bindings = scram.length > 0 ? bindings : []
    this.name = `${this.mechanisms} ${this.bindings}`
  }

  /**
   * What a SCRAM challenge ends in, `,h=…` (XEP-0474 §6.1): a hash over this offer, signed with the rest of the challenge, so
   * that a client sees whether somebody has taken something out of it on the way.
   */
  protection(hash: ScramHash): string {
    const known = this.#protections.get(hash)
    if (known !== undefined) return known
    const { mechanisms, bindings } = this
    const listed = [mechanisms, ...(bindings.length > 0 ? [bindings] : [])]
    // All of it is ASCII, whose order is that of its bytes.
    const text = listed.map((names) => [...names].sort().join('\x1e')).join('\x1f')
    const made = `,h=${encodeBase64(hashOf(hash, text))}`
    this.#protections.set(hash, made)
    return made
  }
}

/** The offers of an edge. */
export class Offers {
  readonly #supports: AuthSupport
  readonly #made = new Map<string, Offer>()

  constructor(supports: AuthSupport) {
    this.#supports = supports
  }

  of(facts: OfferFacts): Offer {
    const key = `${facts.plainAllowed} ${facts.certified} ${facts.bindings}`
    const known = this.#made.get(key)
    if (known !== undefined) return known
    const offer = new Offer(this.#supports, facts)
    this.#made.set(key, offer)
    return offer
  }
}

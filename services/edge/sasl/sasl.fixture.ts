// Who can log in, for tests of mechanisms: accounts in memory, and a SCRAM client written from RFC 5802 §3 alone.
import { createHash, createHmac, pbkdf2Sync, randomBytes } from 'node:crypto'
import { manualClock } from '#core/clock.ts'
import type { Auth, Standing } from '#core/storage/auth.ts'
import { type Credentials, fakeKeys, SCRAM_HASHES, type ScramHash, verifyPassword } from '#core/storage/scram-keys.ts'
import type { ChannelBindingType } from '../listeners/connection.ts'
import { Guesses, type GuessLimits } from './guesses.ts'
import { beginExchange, type SaslContext, type SaslServer, type SaslStep } from './mechanism.ts'
import { Offer, type OfferFacts } from './offer.ts'

export const ITERATIONS = 10
const SECRET = '00'.repeat(32)
export const NO_GUESS_LIMITS: GuessLimits = {
  loginFailuresPerAccountAndAddress: 0,
  loginFailuresPerAddress: 0,
  loginFailuresPerAccount: 0,
  loginFailureWindowMs: 60_000,
}

export interface TestAccount {
  readonly credentials: Credentials
  readonly disabled?: string
}

/** Accounts by localpart, on example.org. */
export function authOf(accounts: Readonly<Record<string, TestAccount>>): Auth {
  const find = (account: string) => (account.endsWith('@example.org') ? accounts[account.split('@')[0]!] : undefined)
  const standingOf = ({ disabled }: TestAccount): Standing => ({ disabled, generation: 0 })
  const made = (account: string, hash: ScramHash) => fakeKeys(SECRET, account, hash, ITERATIONS)
  return {
    supports: { scram: SCRAM_HASHES, password: true, certificate: true },
    async scramKeys(account, hash) {
      const found = find(account)
      const keys = found?.credentials.scram[hash]
      return keys === undefined ? { keys: made(account, hash), standing: undefined } : { keys, standing: standingOf(found!) }
    },
    async verify(account, password) {
      const found = find(account)
      const credentials = found?.credentials ?? { scram: { 'SHA-256': made(account, 'SHA-256') } }
      return (await verifyPassword(credentials, password)) && found !== undefined ? standingOf(found) : undefined
    },
    standing: async (account) => {
      const found = find(account)
      return found === undefined ? undefined : standingOf(found)
    },
  }
}

export function serverOf(auth: Auth, overrides: Partial<SaslServer> = {}): SaslServer {
  const guesses = new Guesses(NO_GUESS_LIMITS, manualClock())
  return { domain: 'example.org', auth, attempt: (account) => guesses.attempt(account, '192.0.2.7'), ...overrides }
}

export interface ContextOptions extends Partial<OfferFacts> {
  readonly encrypted?: boolean
  readonly binding?: (type: ChannelBindingType) => Uint8Array | undefined
  readonly certifiedAs?: readonly string[]
}

/** A stream inside TLS without channel binding, where nothing else is said. */
export function contextOf(auth: Auth, options: ContextOptions = {}): SaslContext {
  const { encrypted = true, plainAllowed = true, bindings = [], certifiedAs = [], binding = () => undefined } = options
  const offer = new Offer(auth.supports, { plainAllowed, bindings, certified: certifiedAs.length > 0 })
  return { encrypted, offer, certified: certifiedAs, channelBinding: binding }
}

/** Begins an exchange. Fails where the mechanism is not offered. */
export function begin(mechanism: string, server: SaslServer, options: ContextOptions = {}) {
  const exchange = beginExchange(mechanism, server, contextOf(server.auth, options))
  if (exchange === undefined) throw new Error(`${mechanism} is not offered`)
  return exchange
}

export const bytes = (text: string): Buffer => Buffer.from(text)
export const dataOf = (step: SaslStep): Uint8Array | undefined => (step.kind === 'failure' ? undefined : step.data)
export const textOf = (step: SaslStep): string => Buffer.from(dataOf(step) ?? []).toString()

const NAMES: Readonly<Record<ScramHash, string>> = { 'SHA-1': 'sha1', 'SHA-256': 'sha256', 'SHA-512': 'sha512' }

/** What a client gets wrong on purpose. */
export interface Changes {
  readonly c?: string
  readonly nonce?: string
  readonly extension?: string
  readonly proof?: string
}

/** `password` is prepared by whoever calls. `binding`: the channel's, behind a header that says `p=`. */
export class ScramClient {
  readonly #hash: string
  readonly #bytes: number
  readonly #password: string
  readonly #nonce = randomBytes(12).toString('base64')
  readonly #bare: string
  readonly #header: string
  readonly #binding: Uint8Array
  /** What the server has to say at the end. */
  expected = ''

  constructor(hash: ScramHash, username: string, password: string, header = 'n,,', binding: Uint8Array = Buffer.alloc(0)) {
    this.#hash = NAMES[hash]
    this.#bytes = createHash(this.#hash).digest().length
    this.#password = password
    this.#header = header
    this.#binding = binding
    this.#bare = `n=${username.replaceAll('=', '=3D').replaceAll(',', '=2C')},r=${this.#nonce}`
  }

  first(): Buffer {
    return bytes(this.#header + this.#bare)
  }

  final(serverFirst: string, change: Changes = {}): Buffer {
    const [, nonce, salt, iterations] = /^r=([^,]+),s=([^,]+),i=(\d+)(?:,|$)/.exec(serverFirst)!
    if (!nonce!.startsWith(this.#nonce) || nonce!.length <= this.#nonce.length) throw new Error('not our nonce and more')
    const salted = pbkdf2Sync(this.#password, Buffer.from(salt!, 'base64'), Number(iterations), this.#bytes, this.#hash)
    const hmac = (key: Buffer, data: string) => createHmac(this.#hash, key).update(data).digest()
    const clientKey = hmac(salted, 'Client Key')
    const c = change.c ?? Buffer.concat([bytes(this.#header), this.#binding]).toString('base64')
    const withoutProof = `c=${c},r=${change.nonce ?? nonce}${change.extension ?? ''}`
    const authMessage = `${this.#bare},${serverFirst},${withoutProof}`
    const signature = hmac(createHash(this.#hash).update(clientKey).digest(), authMessage)
    for (const [index, byte] of signature.entries()) clientKey[index]! ^= byte
    this.expected = `v=${hmac(hmac(salted, 'Server Key'), authMessage).toString('base64')}`
    return bytes(`${withoutProof},p=${change.proof ?? clientKey.toString('base64')}`)
  }
}

/** Both messages; resolves to the last step. */
export async function scramLogin(
  mechanism: string,
  client: ScramClient,
  server: SaslServer,
  change: Changes = {},
  options: ContextOptions = {},
): Promise<SaslStep> {
  const exchange = begin(mechanism, server, options)
  const challenge = await exchange.start(client.first())
  return challenge.kind === 'challenge' ? exchange.respond(client.final(textOf(challenge), change)) : challenge
}

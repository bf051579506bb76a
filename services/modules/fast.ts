// XEP-0484: Fast Authentication Streamlining Tokens: a client that has logged in once gets a token of its own, by which it logs in
// again with one message and no password hash.
//
// A client is known by a hash of what it calls itself (XEP-0388 §2.3). It has two slots (§5.1): a new token waits in one until it is
// used, and only then takes the place of the other; so a client that never got it is not shut out. A token holds for the
// mechanism it was made for, and none of an account outlives its password. The edges ask for all of it; nothing of it is exported.
//
// A token is the key of an HMAC and so is stored as it is; it opens nothing but this account, and expires.
//
//   pk = a#romeo@example.org   sk = fast.<hash of the client>   { "current": token, "fresh": token }
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { type App, defineModule } from '#core/module.ts'
import type { AccountMap } from '#core/storage/store.ts'
import { type Jid, parseJid } from '#xmpp/jid.ts'
import { formatDateTime } from '#xmpp/time.ts'

/** What is issued. */
export interface IssuedToken {
  readonly token: string
  /** As the wire has it (XEP-0082). */
  readonly expiry: string
}

export interface TokenQuestion {
  /** A hash of what the client calls itself. */
  readonly client: string
  /** `HT-SHA-256-NONE`, …: which it must have been issued for. */
  readonly mechanism: string
  /** The initiator's hash, in base64, and the data of the channel binding. */
  readonly proof: string
  readonly binding: string
  /** It is to be good for nothing from now on. */
  readonly invalidate: boolean
}

export interface TokenVerdict {
  /** The responder's hash, in base64. */
  readonly data: string
  /** Of the account's credentials. */
  readonly generation: number
  /** The reason, '' where none was given; absent where the account is not disabled. */
  readonly disabled?: string
  /** Due in the place of the one that was shown. */
  readonly next?: IssuedToken
}

declare module '#core/call.ts' {
  interface Calls {
    /** A token for a client that has logged in; null where the account is gone. */
    'fast.issue': { ask: { client: string; mechanism: string }; tell: IssuedToken | null }
    /** Null: it is none, or of another client or mechanism. */
    'fast.verify': { ask: TokenQuestion; tell: TokenVerdict | 'expired' | null }
  }
}

interface Token {
  readonly secret: string
  readonly mechanism: string
  readonly issuedMs: number
  readonly expiresMs: number
}

interface Slots {
  readonly current?: Token | undefined
  readonly fresh?: Token | undefined
}

interface Options {
  tokenDays: number
}

export default defineModule<void, Options>({
  name: 'fast',
  home: 'router',
  xeps: [{ number: '0484', version: '0.2.0', status: 'partial' }], // without tls-0rtt, which is not offered, and HT-SHA-256-UNIQ
  portable: [{ of: 'fast', write: () => '' }], // §4.1: no part of an export
  options: {
    tokenDays: { default: 21, min: 1, max: 366, doc: 'Days for which a client that does not come back may log in by its token.' },
  },

  setup(app) {
    if (app.role !== 'router') return
    const tokens = new Tokens(app)
    app.answer('fast.issue', (account, { client, mechanism }) => tokens.issue(parseJid(account), client, mechanism))
    app.answer('fast.verify', (account, question) => tokens.verify(parseJid(account), question))
    app.on('account.credentials-changed', ({ account }) => tokens.forget(account))
  },
})

const SECRET_BYTES = 32
const DAY_MS = 86_400_000
/** A token that is older is replaced when it is used: one write a day, at most, for a client that logs in often. */
const ROTATED_AFTER_MS = DAY_MS
/** Of one account; for one more, the one that expires first is forgotten. */
const CLIENTS_MAX = 50

class Tokens {
  readonly #app: App<Options>
  readonly #slots: AccountMap<Slots>

  constructor(app: App<Options>) {
    this.#app = app
    this.#slots = app.map<Slots>('fast')
  }

  async issue(account: Jid, client: string, mechanism: string): Promise<IssuedToken | null> {
    if (!(await this.#app.accounts.exists(account))) return null
    return this.#slots.read(account, (all) => this.#put(account, client, all, this.#make(mechanism)))
  }

  #make(mechanism: string): Token {
    const nowMs = this.#app.clock.now()
    const secret = randomBytes(SECRET_BYTES).toString('base64url')
    return { secret, mechanism, issuedMs: nowMs, expiresMs: nowMs + this.#app.options.tokenDays * DAY_MS }
  }

  async #put(account: Jid, client: string, all: ReadonlyMap<string, Slots>, fresh: Token): Promise<IssuedToken> {
    const current = all.get(client)?.current
    await this.#slots.set(account, client, current === undefined ? { fresh } : { current, fresh })
    if (all.size > CLIENTS_MAX) {
      const oldest = [...all].filter(([name]) => name !== client).sort(([, a], [, b]) => lastOf(a) - lastOf(b))[0]!
      await this.#slots.set(account, oldest[0], undefined)
    }
    return issuedOf(fresh)
  }

  /** §5.1: the new token first. */
  async verify(account: Jid, question: TokenQuestion): Promise<TokenVerdict | 'expired' | null> {
    const standing = await this.#app.accounts.row(
      account,
      (row) => row && { generation: row.generation ?? 0, disabled: row.disabled?.reason },
    )
    if (standing === null) return null
    return this.#slots.read(account, async (all) => {
      const slots = all.get(question.client)
      const token = [slots?.fresh, slots?.current].find((token) => token !== undefined && isProven(token, question))
      if (token === undefined) return null
      if (token.expiresMs <= this.#app.clock.now()) return 'expired'
      const next = await this.#use(account, question, all, token)
      const data = hashOf(token, 'Responder', question.binding).toString('base64')
      return {
        ...{ data, generation: standing.generation },
        ...(standing.disabled !== undefined && { disabled: standing.disabled }),
        ...(next !== undefined && { next }),
      }
    })
  }

  /** §3.4 to §3.6: those that came before it are good for nothing any more; nor is it, where that is wanted; one that is old is replaced. */
  async #use(
    account: Jid,
    { client, mechanism, invalidate }: TokenQuestion,
    all: ReadonlyMap<string, Slots>,
    token: Token,
  ): Promise<IssuedToken | undefined> {
    if (invalidate) {
      await this.#slots.set(account, client, undefined)
      await this.#app.durable(account)
      return undefined
    }
    const isFresh = all.get(client)?.fresh === token
    const isDue = this.#app.clock.now() - token.issuedMs >= ROTATED_AFTER_MS
    if (isDue) {
      const fresh = this.#make(mechanism)
      await this.#slots.set(account, client, { current: token, fresh })
      return issuedOf(fresh)
    }
    if (isFresh) await this.#slots.set(account, client, { current: token })
    return undefined
  }

  /** The password is another one. */
  async forget(account: Jid): Promise<void> {
    await this.#slots.read(account, async (all) => {
      for (const client of [...all.keys()]) await this.#slots.set(account, client, undefined)
    })
  }
}

function lastOf({ current, fresh }: Slots): number {
  return Math.max(current?.expiresMs ?? 0, fresh?.expiresMs ?? 0)
}

function issuedOf({ secret, expiresMs }: Token): IssuedToken {
  return { token: secret, expiry: formatDateTime(expiresMs) }
}

function isProven(token: Token, { mechanism, proof, binding }: TokenQuestion): boolean {
  const shown = Buffer.from(proof, 'base64')
  const expected = hashOf(token, 'Initiator', binding)
  return token.mechanism === mechanism && shown.length === expected.length && timingSafeEqual(shown, expected)
}

/** draft-schmaus-kitten-sasl-ht §3.2, §3.3. */
function hashOf({ secret }: Token, who: 'Initiator' | 'Responder', binding: string): Buffer {
  return createHmac('sha256', secret).update(who).update(Buffer.from(binding, 'base64')).digest()
}

// What whoever runs the server may ask of it and do to it: one implementation for the command line and for commands
// over XMPP (XEP-0133). Each question goes to the owner of an account, or to every owner one after the other.
import { StanzaError } from '#xmpp/error.ts'
import type { Jid } from '#xmpp/jid.ts'
import type { Asked, Caller, Calls, Told } from './call.ts'
import type { Ownership } from './ownership/ownership.ts'

export type SessionFacts = Told<'account.sessions'>[number]

/** Accounts and sessions. */
export interface Reached {
  readonly accounts: number
  readonly sessions: number
}

export class Administration {
  readonly #caller: Caller
  readonly #ownership: Ownership

  constructor(caller: Caller, ownership: Ownership) {
    this.#caller = caller
    this.#ownership = ownership
  }

  async #askEach<N extends keyof Calls>(name: N, fields: Asked<N>, take: (told: Told<N>) => void): Promise<void> {
    for (const owner of this.#ownership.ownersOf('router')) take(await this.#caller.askOwner('router', owner, name, fields))
  }

  /** The sessions of a domain, or of all; within one owner in the order of their JIDs. */
  async *sessions(domain?: string): AsyncIterable<SessionFacts> {
    for (const owner of this.#ownership.ownersOf('router')) {
      for (let after: string | null = ''; after !== null; ) {
        const page: Told<'sessions.page'> = await this.#caller.askOwner('router', owner, 'sessions.page', {
          domain: domain ?? null,
          after,
        })
        yield* page.sessions
        after = page.next
      }
    }
  }

  /** Of a domain, in no order that means anything; those that are disabled, or all. */
  async *accounts(domain: string, { disabled = false }: { disabled?: boolean } = {}): AsyncIterable<string> {
    for (let after: string | null = ''; after !== null; ) {
      const asked: Asked<'accounts.page'> = { disabled, after, limit: ACCOUNTS_PER_PAGE }
      const page: Told<'accounts.page'> = await this.#caller.ask('router', domain, 'accounts.page', asked)
      yield* page.accounts
      after = page.next
    }
  }

  async countAccounts(domain: string, { disabled = false }: { disabled?: boolean } = {}): Promise<number> {
    let sum = 0
    for (let after: string | null = ''; after !== null; ) {
      const told: Told<'accounts.count'> = await this.#caller.ask('router', domain, 'accounts.count', { disabled, after })
      sum += told.count
      after = told.next
    }
    return sum
  }

  sessionsOf(account: Jid): Promise<readonly SessionFacts[]> {
    return this.#caller.ask('router', account.bare, 'account.sessions', {})
  }

  /** Accounts of a domain that are online, and those of them that show presence. */
  async count(domain: string): Promise<{ online: number; active: number }> {
    const sum = { online: 0, active: 0 }
    await this.#askEach('sessions.count', { domain }, ({ online, active }) => {
      sum.online += online
      sum.active += active
    })
    return sum
  }

  /** All that is stored of an account, as a document of XEP-0227, piece by piece (modules/export.ts). */
  async *export({ bare }: Jid): AsyncIterable<string> {
    for (let from: string | null = ''; from !== null; ) {
      const page: Told<'account.export'> = await this.#caller.ask('router', bare, 'account.export', { from })
      yield page.text
      from = page.next
    }
  }

  /** Ends the session of a full JID, or all of a bare one, with a stream error that carries the text. Tells how many. */
  async endSessions(jid: Jid, text: string): Promise<number> {
    if (text !== '') demandText(text)
    return this.#caller.ask('router', jid.bare, 'session.kick', { resource: jid.resource, text })
  }

  /**
   * Sends a headline from its domain to everybody who is online there, or in all domains. Yields how many have been
   * reached so far. `key`: router/administration.ts, announcement.sent. Throws bad-request for a text that cannot be sent.
   */
  async *announce(text: string, { domain, key }: { domain?: string | undefined; key?: string } = {}): AsyncGenerator<Reached> {
    demandText(text)
    let accounts = 0
    let sessions = 0
    for (const owner of this.#ownership.ownersOf('router')) {
      for (let after: string | null = ''; after !== null; ) {
        const told: Told<'sessions.announce'> = await this.#caller.askOwner('router', owner, 'sessions.announce', {
          domain: domain ?? null,
          after,
          text,
          key: key ?? null,
        })
        accounts += told.accounts
        sessions += told.sessions
        after = told.next
        yield { accounts, sessions }
      }
    }
  }
}

/** An address may be long, and an answer is one body of the bus. */
const ACCOUNTS_PER_PAGE = 100

/** Throws bad-request for what users cannot be shown: nothing, too much, or characters that XML has not (XML 1.0 §2.2). */
export function demandText(text: string): void {
  if (text.trim() === '') throw new StanzaError('bad-request', 'the text is empty')
  if (text.length > TEXT_LENGTH_MAX) throw new StanzaError('bad-request', `the text is over ${TEXT_LENGTH_MAX} characters`)
  if (/[^\t\n\r\u0020-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/u.test(text))
    throw new StanzaError('bad-request', 'the text has a control character')
}

const TEXT_LENGTH_MAX = 10_000

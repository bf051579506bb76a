// What may be asked about accounts by whoever runs the server: a fixed list of calls, passed on to the account's owner.
//
// The control socket (control.ts) and the command line at rest (at-rest.ts) both perform requests by this one function.
import { Accounts } from '#core/accounts.ts'
import { type Caller, openCaller } from '#core/call.ts'
import { Commit } from '#core/commit.ts'
import type { Process } from '#core/process.ts'
import { Store } from '#core/store.ts'
import { StanzaError } from '#xmpp/error.ts'
import { type Jid, JidError, parseJid, prepareDomain } from '#xmpp/jid.ts'

/** As it comes from outside: nothing about it is known. */
export interface AccountRequest {
  readonly call: string
  /** A bare JID. `account.list` has none. */
  readonly account?: unknown
  /** `password`, or the `domain` of a list; a list without one is of every domain. */
  readonly fields?: unknown
}

/**
 * Performs one request: yields the entries of a list, in no order within a domain, and returns what is told. Throws
 * StanzaError with a text for whoever asked.
 */
export type Perform = (request: AccountRequest) => AsyncGenerator<string, unknown>

export function accountCalls(process: Process): Perform {
  const caller = openCaller(process.bus, process.ownership)
  return async function* ({ call, account, fields }) {
    const known = isRecord(fields) ? fields : {}
    if (call === 'account.list') return yield* list(process, known.domain)
    if (call === '') throw new StanzaError('bad-request', 'a request is one JSON object in one line, with a call')
    const pass = Object.hasOwn(CALLS, call) ? CALLS[call] : undefined
    if (pass === undefined) throw new StanzaError('feature-not-implemented', `there is no call ${JSON.stringify(call)}`)
    const jid = parseAccount(account)
    demandDomain(process, jid.domain)
    return pass(caller, jid.bare, known)
  }
}

/** Reads NAME@DOMAIN. Throws StanzaError('jid-malformed') that shows the text and says what is wrong with it. */
export function parseAccount(text: unknown): Jid {
  const shown = JSON.stringify(text)
  if (typeof text !== 'string') throw new StanzaError('jid-malformed', 'the account is missing')
  let jid: Jid
  try {
    jid = parseJid(text)
  } catch (error) {
    if (error instanceof JidError) throw new StanzaError('jid-malformed', `${shown} is no address: ${error.message}`)
    throw error
  }
  if (jid.local === '' || jid.resource !== '')
    throw new StanzaError('jid-malformed', `${shown} is no account; an account is NAME@DOMAIN`)
  return jid
}

type Fields = Readonly<Record<string, unknown>>

const CALLS: Readonly<Record<string, (caller: Caller, account: string, fields: Fields) => Promise<unknown>>> = {
  'account.create': (caller, account, fields) => caller.ask('router', account, 'account.create', passwordOf(fields)),
  'account.password': (caller, account, fields) => caller.ask('router', account, 'account.password', passwordOf(fields)),
  'account.remove': (caller, account) => caller.ask('router', account, 'account.remove', {}),
  'account.sessions': (caller, account) => caller.ask('router', account, 'account.sessions', {}),
}

function passwordOf({ password }: Fields): { password: string } {
  if (typeof password !== 'string') throw new StanzaError('bad-request', 'the password is missing')
  return { password }
}

/** Tells how many there were. Each account is read and let go: the owners cache what is used, a list is none of that. */
async function* list(process: Process, asked: unknown): AsyncGenerator<string, number> {
  const domains = asked === undefined ? process.config.domains : [domainOf(process, asked)]
  const store = new Store(process.table, new Commit(process.table, process.clock, process.log), process.journals)
  const accounts = new Accounts(process.table, store, process.clock, process.config.scram.iterations)
  let count = 0
  for (const domain of domains) {
    for await (const { bare } of accounts.list(domain)) {
      store.forget(bare)
      count++
      yield bare
    }
  }
  return count
}

function domainOf(process: Process, asked: unknown): string {
  if (typeof asked !== 'string') throw new StanzaError('bad-request', 'the domain is not a text')
  try {
    const domain = prepareDomain(asked)
    demandDomain(process, domain)
    return domain
  } catch (error) {
    if (error instanceof JidError)
      throw new StanzaError('jid-malformed', `${JSON.stringify(asked)} is no domain: ${error.message}`)
    throw error
  }
}

const DOMAINS_SHOWN_MAX = 5

function demandDomain({ config }: Process, domain: string): void {
  const { domains } = config
  if (domains.includes(domain)) return
  const shown = domains.slice(0, DOMAINS_SHOWN_MAX).join(', ')
  const more = domains.length > DOMAINS_SHOWN_MAX ? ` and ${domains.length - DOMAINS_SHOWN_MAX} more` : ''
  throw new StanzaError('item-not-found', `${domain} is not a domain of this server; it has ${shown}${more}`)
}

function isRecord(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

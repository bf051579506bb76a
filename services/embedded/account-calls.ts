// What may be asked about accounts by whoever runs the server: a fixed list of calls, passed on to the account's owner.
//
// The control socket (control.ts) and the command line at rest (at-rest.ts) both perform requests by this one function.

import { type Caller, openCaller } from '#core/call.ts'
import { Commit } from '#core/commits/commit.ts'
import { directLog } from '#core/commits/direct-log.ts'
import type { Process } from '#core/process.ts'
import { Accounts } from '#core/storage/accounts.ts'
import { Store } from '#core/storage/store.ts'
import { StanzaError } from '#xmpp/error.ts'
import { operatorCalls } from './operator-calls.ts'
import { demandDomain, domainOf, type Fields, isRecord, parseAccount } from './requests.ts'

/** As it comes from outside: nothing about it is known. */
export interface AccountRequest {
  readonly call: string
  /** A bare JID; of `session.kick`, a full one too. Lists have none. */
  readonly account?: unknown
  /** `password`, or the `domain` of a list; a list without one is of every domain. */
  readonly fields?: unknown
}

/**
 * Performs one request: yields the entries of a list, in no order within a domain, and returns what is told. Throws
 * StanzaError with a text for whoever asked.
 */
export type Perform = (request: AccountRequest) => AsyncGenerator<Entry, unknown>
/** Of a list: an account; one that is disabled, with the reason; or what is known of a session. */
export type Entry = string | object

export function accountCalls(process: Process): Perform {
  const caller = openCaller(process.bus, process.ownership)
  const inParts = operatorCalls(process)
  return async function* ({ call, account, fields }) {
    const known = isRecord(fields) ? fields : {}
    if (call === 'account.list') return yield* list(process, known.domain)
    if (call === '') throw new StanzaError('bad-request', 'a request is one JSON object in one line, with a call')
    if (Object.hasOwn(inParts, call)) return yield* inParts[call]!({ call, account, fields })
    const pass = Object.hasOwn(CALLS, call) ? CALLS[call] : undefined
    if (pass === undefined) throw new StanzaError('feature-not-implemented', `there is no call ${JSON.stringify(call)}`)
    const jid = parseAccount(account)
    demandDomain(process, jid.domain)
    return pass(caller, jid.bare, known)
  }
}

const CALLS: Readonly<Record<string, (caller: Caller, account: string, fields: Fields) => Promise<unknown>>> = {
  'account.create': (caller, account, fields) => caller.ask('router', account, 'account.create', passwordOf(fields)),
  'account.password': (caller, account, fields) => caller.ask('router', account, 'account.password', passwordOf(fields)),
  'account.disable': (caller, account, fields) => caller.ask('router', account, 'account.disable', reasonOf(fields)),
  'account.enable': (caller, account) => caller.ask('router', account, 'account.enable', {}),
  'account.sessions': (caller, account) => caller.ask('router', account, 'account.sessions', {}),
}

function passwordOf({ password }: Fields): { password: string } {
  if (typeof password !== 'string') throw new StanzaError('bad-request', 'the password is missing')
  return { password }
}

function reasonOf({ reason = '' }: Fields): { reason: string } {
  if (typeof reason !== 'string') throw new StanzaError('bad-request', 'the reason is not a text')
  return { reason }
}

/** Tells how many there were. Each account is read and let go: the owners cache what is used, a list is none of that. */
async function* list(process: Process, asked: unknown): AsyncGenerator<Entry, number> {
  const domains = asked === undefined ? process.config.domains : [domainOf(process, asked)]
  const store = new Store(
    process.table,
    new Commit(directLog(process.table, process.clock, process.log), process.log),
    process.journals,
  )
  const accounts = new Accounts(process.table, store, process.clock, process.config.scram.iterations)
  let count = 0
  for (const domain of domains) {
    for await (const account of accounts.list(domain)) {
      const disabled = await accounts.disabledReason(account)
      store.forget(account.bare)
      count++
      yield disabled === undefined ? account.bare : { account: account.bare, disabled }
    }
  }
  return count
}

// What whoever runs the server asks a router about all of its sessions: lists, counts, announcements, and their end.
//
// A router answers for the accounts it owns; whoever asks (core/administration.ts) asks each of them and puts the answers
// together. What may be long is told in pages, from where the last one ended, so that no answer and no turn of the event
// loop grows with the number of users.

import type { CallHandlers } from '#core/call.ts'
import { Commit } from '#core/commits/commit.ts'
import { directLog } from '#core/commits/direct-log.ts'
import type { Owner } from '#core/owner.ts'
import type { BoundSession, Registry } from '#core/ownership/registry.ts'
import { Accounts } from '#core/storage/accounts.ts'
import { Store } from '#core/storage/store.ts'
import { type Jid, parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT } from '#xmpp/ns.ts'
import { el, stanza } from '#xmpp/stanza.ts'

declare module '#core/call.ts' {
  interface Calls {
    'account.sessions': { ask: Record<string, never>; tell: readonly SessionFacts[] }
    /** Ends one session, or with resource '' all of an account; tells how many. */
    'session.kick': { ask: { resource: string; text: string }; tell: number }
    /** To one owner: its sessions behind the full JID `after`, of one domain or (null) of all. `next` null: there are no more. */
    'sessions.page': { ask: SessionsAsked; tell: { sessions: readonly SessionFacts[]; next: string | null } }
    /** To one owner: accounts of its own that are online, and those of them that show presence. */
    'sessions.count': { ask: { domain: string | null }; tell: SessionCount }
    /** Of the accounts of the domain that is asked, behind `after`: all, or those that are disabled. `next` null: there are no more. */
    'accounts.page': { ask: AccountsAsked; tell: { accounts: readonly string[]; next: string | null } }
    'accounts.count': { ask: Omit<AccountsAsked, 'limit'>; tell: { count: number; next: string | null } }
    /** To one owner: a text for the sessions of its accounts behind `after`; tells how many accounts and sessions got it. */
    'sessions.announce': { ask: Announcement; tell: { accounts: number; sessions: number; next: string | null } }
  }
}

declare module '#core/hooks.ts' {
  interface Events {
    /** At router(account): its sessions have been sent a text that was given this key. */
    'announcement.sent': { readonly account: Jid; readonly key: string }
  }
}

export interface SessionFacts {
  readonly jid: string
  readonly available: boolean
  readonly priority: number
  /** When it was bound. */
  readonly sinceMs: number
  /** Of the connection it was bound on; '' and null where the edge has not said. */
  readonly address: string
  readonly transport: string
  readonly encrypted: boolean | null
  /** It has lost its connection and waits to be resumed. */
  readonly detached: boolean
}

export interface SessionCount {
  readonly online: number
  readonly active: number
}

interface AccountsAsked {
  readonly disabled: boolean
  readonly after: string
  readonly limit: number
}

interface SessionsAsked {
  readonly domain: string | null
  readonly after: string
}

interface Announcement extends SessionsAsked {
  readonly text: string
  /** For whoever must know who has got it (Events, announcement.sent); null for none. */
  readonly key: string | null
}

/** Of one answer; with addresses of the greatest length it ends at the bytes. */
const PAGE_SESSIONS = 500
const PAGE_BYTES = 256 * 1024
/** Accounts that are looked at for one answer. */
const ACCOUNTS_READ = 1_000
/** Accounts that are sent an announcement in one turn of the event loop. */
const ANNOUNCED_PER_TURN = 200

export function administrationCalls(owner: Owner, sessions: Registry): CallHandlers {
  return {
    'account.sessions': (account) => sessions.of(account).map(factsOf),
    'session.kick': (account, { resource, text }) => {
      const ended = sessions.of(account).filter(({ jid }) => resource === '' || jid.resource === resource)
      // RFC 6120 §4.9.3.14: to others it would look like a wrong password, or like a second login.
      for (const session of ended) owner.multicast.order(session, 'close', { condition: 'policy-violation', text })
      return ended.length
    },
    'accounts.page': async (domain, { disabled, after, limit }) => {
      const accounts: string[] = []
      const next = await walkAccounts(owner, domain, { disabled, after, limit }, (account) => void accounts.push(account))
      return { accounts, next }
    },
    'accounts.count': async (domain, { disabled, after }) => {
      let count = 0
      const next = await walkAccounts(owner, domain, { disabled, after, limit: Infinity }, () => void count++)
      return { count, next }
    },
    'sessions.page': (_process, { domain, after }) => pageOf(sessions, domain, after),
    'sessions.count': (_process, { domain }) => {
      let online = 0
      let active = 0
      const fits = isOf(domain)
      for (const account of sessions.accounts()) {
        if (!fits(account)) continue
        online++
        if (sessions.of(account).some(({ available }) => available)) active++
      }
      return { online, active }
    },
    'sessions.announce': (_process, announcement) => announce(owner, sessions, announcement),
  }
}

/**
 * At most `limit` that fit and ACCOUNTS_READ that do not; tells behind which to go on. They are read past what the owner
 * keeps in memory, which is what is used: a list is none of that.
 */
async function walkAccounts(owner: Owner, domain: string, asked: AccountsAsked, take: (account: string) => void) {
  const { table, clock, journals, config } = owner.process
  const store = new Store(table, new Commit(directLog(table, clock, owner.log), owner.log), journals)
  const accounts = new Accounts(table, store, clock, config.scram.iterations)
  let left = asked.limit
  let read = 0
  let last = asked.after
  for await (const account of accounts.names(domain, last === '' ? undefined : parseJid(last))) {
    if (left === 0 || read++ === ACCOUNTS_READ) return last
    last = account.bare
    const fits = await accounts.row(account, (row) => row !== null && (!asked.disabled || row.disabled !== undefined))
    store.forget(last)
    if (!fits) continue
    take(last)
    left--
  }
  return null
}

function factsOf({ jid, available, priority, about }: BoundSession): SessionFacts {
  return {
    jid: jid.full,
    available,
    priority,
    sinceMs: about?.sinceMs ?? 0,
    address: about?.address ?? '',
    transport: about?.transport ?? '',
    encrypted: about?.encrypted ?? null,
    detached: about?.detached ?? false,
  }
}

function isOf(domain: string | null): (account: string) => boolean {
  if (domain === null) return () => true
  const end = `@${domain}`
  return (account) => account.endsWith(end)
}

/** The first of the accounts of a domain that are online, in the order of their names from `from` on. Linear in all that are. */
function accountsFrom(sessions: Registry, domain: string | null, from: string, limit: number): string[] {
  const fits = isOf(domain)
  let found: string[] = []
  let last: string | undefined // no later one is among them
  for (const account of sessions.accounts()) {
    if (account < from || (last !== undefined && account > last) || !fits(account)) continue
    found.push(account)
    if (found.length < 2 * limit) continue
    found = found.sort().slice(0, limit)
    last = found.at(-1)
  }
  return found.sort().slice(0, limit)
}

/** In the order of accounts, and of resources within one. */
function pageOf(sessions: Registry, domain: string | null, after: string) {
  const from = after === '' ? '' : parseJid(after).bare
  const page: SessionFacts[] = []
  let bytes = 0
  // Of that of `from` there may be no more, and one beyond the page tells that there are.
  for (const account of accountsFrom(sessions, domain, from, PAGE_SESSIONS + 2)) {
    const all = sessions.of(account).map(factsOf)
    for (const facts of all.sort((a, b) => (a.jid < b.jid ? -1 : 1))) {
      if (account === from && facts.jid <= after) continue
      if (page.length >= PAGE_SESSIONS || bytes > PAGE_BYTES) return { sessions: page, next: page.at(-1)!.jid }
      page.push(facts)
      bytes += Buffer.byteLength(facts.jid)
    }
  }
  return { sessions: page, next: null }
}

/**
 * A headline from the domain to each session that RFC 6121 §8.5.2.1.1 would send one to. Past the hooks: nobody blocks
 * his own server, and it is kept for nobody.
 */
async function announce(owner: Owner, sessions: Registry, { domain, after, text, key }: Announcement) {
  const behind = accountsFrom(sessions, domain, after, ANNOUNCED_PER_TURN + 2).filter((account) => account !== after)
  const accounts = behind.slice(0, ANNOUNCED_PER_TURN)
  const targets = new Map<string, BoundSession[]>()
  const told: Jid[] = []
  let count = 0
  for (const account of accounts) {
    const able = sessions.of(account).filter(({ available, priority }) => available && priority >= 0)
    if (able.length === 0) continue
    const jid = parseJid(account)
    const ofDomain = targets.get(jid.domain)
    if (ofDomain === undefined) targets.set(jid.domain, [...able])
    else ofDomain.push(...able)
    told.push(jid)
    count += able.length
  }
  for (const [host, able] of targets) {
    const message = stanza('message', parseJid(host), { type: 'headline' }, el('body', NS_CLIENT, {}, text))
    owner.multicast.fanOut(able, message, 'full')
  }
  if (key !== null) for (const account of told) await owner.hooks.emit('announcement.sent', { account, key })
  return { accounts: told.length, sessions: count, next: behind.length > accounts.length ? accounts.at(-1)! : null }
}

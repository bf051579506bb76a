// Who at this edge sees whom: by account its sessions that watch, its contacts, and those who watch it. The source of truth.
//
// A session watches from the moment its account's owner says so until it goes unavailable or ends (RFC 6121 §4.2, §4.5); whom,
// its owner says, too. Of that a contact's owner is told, and says who of the watchers is admitted: that is for him alone to
// say, and holds in the order of what he sends. So what he shows needs to name nobody, and is found here in one loop.
//
//   watchers of a contact   │ admitted │ doubtful │ the others │
//
// Doubtful are those who were admitted before something of the contact's owner was lost: they are shown nothing until he has
// said what there is to see (`snapshot`). What was shown of a contact is the same for all who are admitted; so it is kept once.
//
// A pair of watcher and contact is a place in each of two arrays, and arrays that are small are as long as they must be.
import type { Watch } from '#core/envelope.ts'

/** What the owners of contacts are to be told. They are of any partitions. */
export type WatchNews = Omit<Watch, 'kind' | 'edge'>

/** Resources of a contact that whoever sees him here sees no more. */
export interface Gone<S> {
  readonly resource: string
  readonly from: readonly S[]
}

/** Sessions that see these contacts from now on, as far as those admit them. */
export interface Greeting<S> {
  readonly sessions: readonly S[]
  readonly contacts: readonly string[]
}

/** The watchers of a contact of ours, for a new owner of his. */
export interface Watched {
  readonly contact: string
  readonly watchers: readonly string[]
  /** Those of them that were told by his last owner that they see him. */
  readonly admitted: readonly string[]
  /** What they have seen of him. */
  readonly resources: readonly string[]
}

/** What somebody is shown (core/envelope.ts). */
interface Shown {
  readonly contact: string
  readonly only: readonly string[] | undefined
  readonly stanza: {
    readonly name: string
    readonly type: string
    readonly from: { readonly full: string; readonly resource: string }
  }
}

/** So many are looked for one by one. */
const FEW = 4
/** Arrays up to here grow by one, others as the engine does it. */
const EXACT_MAX = 32

class Account<S> {
  readonly bare: string
  /** Those that watch. */
  sessions: readonly S[] = NONE
  contacts: Account<S>[] = NONE
  /** In the order of the drawing above. */
  watchers: Account<S>[] = NONE
  admitted = 0
  doubtful = 0
  /** The resources of it that are seen here. */
  seen: readonly string[] | undefined = undefined
  /** Full JIDs of which its sessions see nothing, though they see others of the same account. */
  hidden: ReadonlySet<string> | undefined = undefined

  constructor(bare: string) {
    this.bare = bare
  }

  get idle(): boolean {
    return this.sessions.length === 0 && this.contacts.length === 0 && this.watchers.length === 0
  }

  /** Somebody here sees it: its own sessions do, too. */
  get isSeen(): boolean {
    return this.admitted + this.doubtful > 0 || this.sessions.length > 0
  }
}

export class Audience<S extends { readonly id: string }> {
  readonly #accounts = new Map<string, Account<S>>()
  readonly #submit: (news: WatchNews) => void
  #pairs = 0
  #admitted = 0

  /** @param submit tells the owners of the contacts, one envelope for each owner */
  constructor(submit: (news: WatchNews) => void) {
    this.#submit = submit
  }

  /** Pairs of a watcher and a contact, and those of them that are admitted. */
  get pairs(): number {
    return this.#pairs
  }

  get admitted(): number {
    return this.#admitted
  }

  // --- what the owners of watchers say, and their sessions

  /**
   * The account watches these contacts, too. A session that has not watched before is to be greeted by all of them; else those
   * that are new greet all sessions of the account here.
   * @param whole it watches no others
   * @returns which sessions are greeted by whom
   */
  watch(account: string, session: S | undefined, contacts: readonly string[], whole = false): Greeting<S> {
    const watcher = this.#accountOf(account)
    const isNew = session !== undefined && !watcher.sessions.includes(session)
    if (isNew) watcher.sessions = watcher.sessions.concat(session)
    else if (watcher.sessions.length === 0) return this.#leaveEmpty(watcher)
    if (whole) this.#keepOnly(watcher, contacts)
    const added = this.#add(watcher, contacts)
    if (isNew) this.#tell({ watcher: account, session: session.id, contacts })
    else this.#tell({ watcher: account, session: '', contacts: added })
    return isNew ? { sessions: [session], contacts } : { sessions: watcher.sessions, contacts: added }
  }

  /** Its sessions have gone meanwhile. */
  #leaveEmpty(watcher: Account<S>): Greeting<S> {
    watcher.hidden = undefined
    this.#forgetIdle(watcher)
    return { sessions: NONE, contacts: NONE }
  }

  /** The account watches these no more. */
  unwatch(account: string, contacts: readonly string[]): void {
    const watcher = this.#accounts.get(account)
    if (watcher === undefined) return
    const dropped = new Set(contacts)
    this.#drop(watcher, ({ bare }) => dropped.has(bare))
  }

  /** The account's sessions see nothing of these full JIDs, in the place of those said before. */
  hide(account: string, jids: readonly string[]): void {
    const watcher = this.#accountOf(account)
    watcher.hidden = jids.length === 0 ? undefined : new Set(jids)
    this.#forgetIdle(watcher)
  }

  /** The session watches no more. */
  leave(account: string, session: S): void {
    const watcher = this.#accounts.get(account)
    if (!watcher?.sessions.includes(session)) return
    watcher.sessions = watcher.sessions.length === 1 ? NONE : watcher.sessions.filter((other) => other !== session)
    if (watcher.sessions.length > 0) return
    watcher.hidden = undefined
    this.#forgetUnseen(watcher)
    this.#drop(watcher, () => true)
    this.#forgetIdle(watcher)
  }

  /** The account sees nothing of this full JID, though it may see others of the same account. */
  isHidden(account: string, full: string): boolean {
    const watcher = this.#accounts.get(account)
    return watcher !== undefined && isHidden(watcher, full)
  }

  isWatching(account: string, session: S): boolean {
    return this.#accounts.get(account)?.sessions.includes(session) ?? false
  }

  /** The account watches this contact, or is it. */
  sees(account: string, contact: string): boolean {
    if (account === contact) return true
    const watcher = this.#accounts.get(account)
    return watcher !== undefined && this.#accounts.get(contact)?.watchers.includes(watcher) === true
  }

  contactsOf(account: string): readonly string[] {
    return this.#accounts.get(account)?.contacts.map(({ bare }) => bare) ?? NONE
  }

  /** The full JIDs that the account's sessions here have been shown as available: contacts', and its own. */
  seenBy(account: string): string[] {
    const watcher = this.#accounts.get(account)
    if (watcher === undefined || watcher.sessions.length === 0) return []
    const seen: string[] = []
    for (const contact of [watcher, ...watcher.contacts]) {
      const { bare, watchers, admitted, doubtful, seen: resources = NONE } = contact
      if (contact !== watcher && !isWithin(watchers, watcher, admitted + doubtful)) continue
      for (const resource of resources) seen.push(`${bare}/${resource}`)
    }
    return seen
  }

  #tell(news: WatchNews): void {
    if (news.contacts.length > 0) this.#submit(news)
  }

  #accountOf(bare: string): Account<S> {
    const known = this.#accounts.get(bare)
    if (known !== undefined) return known
    const account = new Account<S>(bare)
    this.#accounts.set(bare, account)
    return account
  }

  #forgetIdle(account: Account<S>): void {
    if (account.idle && account.hidden === undefined) this.#accounts.delete(account.bare)
  }

  /** Returns those that are new. */
  #add(watcher: Account<S>, contacts: readonly string[]): string[] {
    const known = new Set(watcher.contacts)
    const added = new Set<Account<S>>()
    for (const bare of contacts) {
      if (bare === watcher.bare) continue
      const contact = this.#accountOf(bare)
      if (known.has(contact) || added.has(contact)) continue
      added.add(contact)
      contact.watchers = withOne(contact.watchers, watcher)
    }
    if (added.size > 0) watcher.contacts = [...watcher.contacts, ...added]
    this.#pairs += added.size
    return [...added].map(({ bare }) => bare)
  }

  #keepOnly(watcher: Account<S>, contacts: readonly string[]): void {
    const kept = new Set(contacts)
    this.#drop(watcher, ({ bare }) => !kept.has(bare))
  }

  #drop(watcher: Account<S>, which: (contact: Account<S>) => boolean): void {
    const dropped = watcher.contacts.filter(which)
    if (dropped.length === 0) return
    watcher.contacts = dropped.length === watcher.contacts.length ? NONE : watcher.contacts.filter((each) => !which(each))
    for (const contact of dropped) this.#part(contact, watcher)
    this.#tell({ watcher: watcher.bare, session: '', unwatch: true, contacts: dropped.map(({ bare }) => bare) })
  }

  /** The pair is no more. */
  #part(contact: Account<S>, watcher: Account<S>): void {
    const { watchers } = contact
    this.#pairs--
    const at = this.#demote(contact, watchers.indexOf(watcher))
    if (watchers.length === 1) contact.watchers = NONE
    else {
      watchers[at] = watchers.at(-1)!
      watchers.pop()
    }
    this.#forgetUnseen(contact)
    this.#forgetIdle(contact)
  }

  // --- what the owners of contacts say

  /** They see the contact from now on. Of those who do not watch him any more nothing is known. */
  admit(contact: string, watchers: readonly string[]): void {
    const account = this.#accounts.get(contact)
    if (account === undefined) return
    this.#forEachOf(account, watchers, account.admitted, (at) => this.#promote(account, at))
  }

  /** They do not any more. They have been shown that. */
  revoke(contact: string, watchers: readonly string[]): void {
    const account = this.#accounts.get(contact)
    if (account === undefined) return
    const seeing: Account<S>[] = []
    this.#forEachOf(account, watchers, 0, (at) => void seeing.push(account.watchers[at]!))
    for (const watcher of seeing) this.#demote(account, account.watchers.indexOf(watcher))
    this.#forgetUnseen(account)
  }

  /** Nobody does. They have been shown that, but for what his owner did not know of: he may be a new one. */
  revokeAll(contact: string): Gone<S>[] {
    const account = this.#accounts.get(contact)
    if (account === undefined) return []
    const { watchers, admitted, doubtful, seen = [] } = account
    const from = sessionsOf(watchers.slice(0, admitted + doubtful))
    this.#admitted -= admitted
    account.admitted = 0
    account.doubtful = 0
    this.#forgetUnseen(account)
    return from.length === 0 ? [] : seen.map((resource) => ({ resource, from }))
  }

  /**
   * Calls `show` for each session that what is shown goes to. Who is named and watches the contact no more, as his owner has said
   * meanwhile, is shown nothing but that something is gone.
   */
  forEach(shown: Shown, show: (session: S) => void): void {
    const { contact, only, stanza } = shown
    const account = this.#accounts.get(contact)
    if (only !== undefined) {
      const watching = account === undefined || only.length <= FEW ? account?.watchers : new Set(account.watchers)
      for (const bare of only) {
        const watcher = this.#accounts.get(bare)
        if (watcher === undefined || isHidden(watcher, stanza.from.full)) continue
        if (stanza.type !== 'unavailable' && !isAmong(watching, watcher)) continue
        for (const session of watcher.sessions) show(session)
      }
    } else if (account !== undefined) {
      const { watchers, admitted } = account
      for (let at = 0; at < admitted; at++) {
        const watcher = watchers[at]!
        if (watcher.hidden !== undefined && isHidden(watcher, stanza.from.full)) continue
        const { sessions } = watcher
        for (let i = 0; i < sessions.length; i++) show(sessions[i]!)
      }
    }
  }

  /**
   * Keeps in mind what is seen of a contact. True where it is a presence of a resource of which nothing was seen here. Who is in
   * doubt is not shown that one has gone, and so it counts as seen until he is told what there is.
   */
  note({ contact, only, stanza }: Shown): boolean {
    const account = this.#accounts.get(contact)
    if (account?.isSeen !== true || stanza.name !== 'presence') return false
    const { type, from } = stanza
    const { resource } = from
    const { seen } = account
    const isNew = resource !== '' && seen?.includes(resource) !== true
    if (type === '') {
      if (isNew) account.seen = seen === undefined ? [resource] : seen.concat(resource)
    } else if (type === 'unavailable' && only === undefined && !isNew && account.doubtful === 0)
      account.seen = without(seen, resource)
    return isNew
  }

  /** This resource is gone, and nobody was there to say so. Returns the sessions that have seen it. */
  lose(contact: string, resource: string): readonly S[] {
    const account = this.#accounts.get(contact)
    if (account?.seen?.includes(resource) !== true) return NONE
    const { sessions, watchers, admitted, doubtful, seen } = account
    account.seen = without(seen, resource)
    return [...sessions, ...sessionsOf(watchers.slice(0, admitted + doubtful))]
  }

  /**
   * These are all resources that there are to be seen of the contact. Who was in doubt and has not been admitted again sees
   * nothing of him any more, the others nothing but these.
   */
  snapshot(contact: string, resources: readonly string[]): Gone<S>[] {
    const account = this.#accounts.get(contact)
    if (account === undefined) return []
    const { watchers, admitted, doubtful, sessions, seen = [] } = account
    const gone: Gone<S>[] = []
    const left = [...sessions, ...sessionsOf(watchers.slice(0, admitted))]
    const lost = sessionsOf(watchers.slice(admitted, admitted + doubtful))
    for (const resource of seen) {
      const from = resources.includes(resource) ? lost : [...left, ...lost]
      if (from.length > 0) gone.push({ resource, from })
    }
    account.doubtful = 0
    account.seen = resources.length > 0 ? [...resources] : undefined
    this.#forgetUnseen(account)
    return gone
  }

  // --- what has been lost

  /** Something of the owner of these contacts may be lost. Returns those of them of which there is anything to be told anew. */
  doubt(isConcerned: (contact: string) => boolean): string[] {
    const found: string[] = []
    for (const account of this.#accounts.values()) {
      if ((account.watchers.length === 0 && account.sessions.length === 0) || !isConcerned(account.bare)) continue
      this.#admitted -= account.admitted
      account.doubtful += account.admitted
      account.admitted = 0
      found.push(account.bare)
    }
    return found
  }

  /** Accounts that watch any of these contacts. */
  watchersOf(isConcerned: (contact: string) => boolean): string[] {
    const found: string[] = []
    for (const { bare, contacts } of this.#accounts.values())
      if (contacts.some((contact) => isConcerned(contact.bare))) found.push(bare)
    return found
  }

  /** The owners of these contacts are told again that the account watches them. */
  remind(account: string, isConcerned: (contact: string) => boolean): void {
    this.#tell({ watcher: account, session: '', contacts: this.contactsOf(account).filter(isConcerned) })
  }

  /** Contacts that were to be told of anew, and have not been. */
  doubtful(isConcerned: (contact: string) => boolean): string[] {
    const found: string[] = []
    for (const { bare, doubtful } of this.#accounts.values()) if (doubtful > 0 && isConcerned(bare)) found.push(bare)
    return found
  }

  /** What a new owner of these contacts is told. */
  *watched(isConcerned: (contact: string) => boolean): Iterable<Watched> {
    for (const account of this.#accounts.values()) {
      const { bare, watchers, admitted, doubtful, seen = NONE } = account
      if ((watchers.length === 0 && seen.length === 0) || !isConcerned(bare)) continue
      const names = watchers.map((watcher) => watcher.bare)
      yield { contact: bare, watchers: names, admitted: names.slice(0, admitted + doubtful), resources: seen }
    }
  }

  // --- the places of watchers

  /** Calls back with the place of each of these watchers from there on, in order, as long as places before that are what changes. */
  #forEachOf({ watchers }: Account<S>, chosen: readonly string[], from: number, use: (at: number) => void): void {
    if (chosen.length === 1) {
      const watcher = this.#accounts.get(chosen[0]!)
      const at = watcher === undefined ? -1 : watchers.indexOf(watcher, from)
      if (at >= 0) use(at)
      return
    }
    const wanted = new Set(chosen)
    for (let at = from; at < watchers.length; at++) if (wanted.has(watchers[at]!.bare)) use(at)
  }

  #promote(contact: Account<S>, place: number): void {
    const { watchers, admitted, doubtful } = contact
    const end = admitted + doubtful
    if (place < end) {
      swap(watchers, place, admitted)
      contact.doubtful--
    } else {
      swap(watchers, place, end)
      swap(watchers, end, admitted)
    }
    contact.admitted++
    this.#admitted++
  }

  /** To the others. Returns the place there. */
  #demote(contact: Account<S>, place: number): number {
    const { watchers, admitted, doubtful } = contact
    if (place >= admitted + doubtful) return place
    const last = admitted + doubtful - 1
    if (place < admitted) {
      swap(watchers, place, admitted - 1)
      swap(watchers, admitted - 1, last)
      contact.admitted--
      this.#admitted--
    } else {
      swap(watchers, place, last)
      contact.doubtful--
    }
    return last
  }

  #forgetUnseen(account: Account<S>): void {
    if (!account.isSeen) account.seen = undefined
  }
}

function isAmong<T>(list: readonly T[] | ReadonlySet<T> | undefined, one: T): boolean {
  return list !== undefined && (list instanceof Set ? list.has(one) : (list as readonly T[]).includes(one))
}

function isHidden({ hidden }: { readonly hidden: ReadonlySet<string> | undefined }, full: string): boolean {
  return hidden?.has(full) === true
}

function sessionsOf<S>(accounts: readonly Account<S>[]): S[] {
  return accounts.flatMap(({ sessions }) => sessions)
}

/** RFC 6121 §4.3.2: that of a bare JID is of all its resources. */
function isWithin<T>(all: readonly T[], one: T, count: number): boolean {
  const at = all.indexOf(one)
  return at >= 0 && at < count
}

function without(seen: readonly string[] | undefined, resource: string): readonly string[] | undefined {
  if (seen === undefined || resource === '') return undefined
  return seen.length === 1 ? undefined : seen.filter((other) => other !== resource)
}

function withOne<T>(list: T[], one: T): T[] {
  if (list.length < EXACT_MAX) return list.concat(one) // a literal would have room for sixteen more
  list.push(one)
  return list
}

function swap<T>(list: T[], one: number, other: number): void {
  const kept = list[one]!
  list[one] = list[other]!
  list[other] = kept
}

const NONE: never[] = []

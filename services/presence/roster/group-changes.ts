// What follows for those who are connected when the groups of a domain change: pushes of their rosters, and then presence.
//
// A group of a thousand that is made at once is a million pushes, for each member has a thousand new contacts. So the accounts of
// a domain are gone through at a bounded pace, one change or several at a time: what is told is what is so by then. Who may see
// whom is decided by the groups as they are, from the moment they are known; nobody waits here for that.
//
// A session's client has been told of the groups of some moment: with the roster it got, or by the last of the pushes of a
// change. It is that moment's token which it is given with the version of its roster (RFC 6121 §2.6), and one that nobody has
// while it is told of some contacts and not of all: should it come again with that, it gets the whole roster.
import { contactsChanged, type DomainGroups } from '#core/groups/groups.ts'
import type { App, Session } from '#core/module.ts'
import type { MaybePromise } from '#core/storage/store.ts'
import type { RosterView } from './merged-roster.ts'
import type { RosterItem } from './roster-item.ts'

/** Contacts that are looked at between two pauses, of however many accounts. */
const AT_ONCE = 250
const PAUSE_MS = 50
const RETRY_MS = 1_000

/** It has been told of some contacts of a change. No token of a membership is this. */
export const PARTLY = '~'

export interface Told {
  /** The roster as it would be with these groups. */
  view(account: string, groups: DomainGroups): MaybePromise<RosterView>
  /** Whether the session is told of changes of its roster. */
  isInterested(session: Session): boolean
  push(session: Session, jid: string, item: RosterItem | undefined): MaybePromise<void>
  /** The account has others in its groups, or is in others itself: of these contacts it may see another thing than before, or they of it. */
  regrouped(account: string, contacts: ReadonlySet<string>, before: RosterView): void
}

type Clock = App['clock']

export class GroupChanges {
  readonly #sessions: () => Iterable<Session>
  readonly #known: (domain: string) => DomainGroups | undefined
  readonly #clock: Clock
  readonly #log: App['log']
  readonly #told: Told
  /** Undefined: while it is being told. */
  readonly #toldOf = new WeakMap<Session, DomainGroups | undefined>()
  /** By domain, the groups as they were when it was gone through last. */
  readonly #waiting = new Map<string, DomainGroups>()
  #isRunning = false
  #isClosed = false
  #left = AT_ONCE

  constructor({ allSessions, groups, clock, log }: App, told: Told) {
    this.#sessions = allSessions
    this.#known = (domain) => groups.directory.known(domain)
    this.#clock = clock
    this.#log = log
    this.#told = told
    groups.directory.onChange((before) => this.#changed(before))
  }

  close(): void {
    this.#isClosed = true
  }

  /** Its client has been given the whole roster, with these groups. */
  given(session: Session, groups: DomainGroups): void {
    this.#toldOf.set(session, groups)
  }

  /** What stands for the groups in the version that its client is given; '' where there are none. */
  token(session: Session, current: DomainGroups): string {
    const account = session.jid.bare
    if (!this.#toldOf.has(session)) return current.membershipOf(account).token === '' ? '' : PARTLY // another process has told it
    return this.#toldOf.get(session)?.membershipOf(account).token ?? PARTLY
  }

  #changed(before: DomainGroups): void {
    if (!this.#waiting.has(before.domain)) this.#waiting.set(before.domain, before)
    if (this.#isRunning) return
    this.#isRunning = true
    void this.#run().finally(() => {
      this.#isRunning = false
    })
  }

  async #run(): Promise<void> {
    while (this.#waiting.size > 0 && !this.#isClosed) {
      const [[domain, before]] = this.#waiting as unknown as [[string, DomainGroups]]
      this.#waiting.delete(domain)
      try {
        await this.#goThrough(before, this.#known(domain) ?? before)
      } catch (error) {
        this.#log.warn('groups.pushes_delayed', { domain, error })
        this.#waiting.set(domain, before)
        await this.#pause(RETRY_MS)
      }
    }
  }

  async #goThrough(before: DomainGroups, after: DomainGroups): Promise<void> {
    const accounts = new Map<string, Session[]>()
    for (const session of this.#sessions()) {
      const { bare } = session.jid
      if (!after.has(bare)) continue
      const others = accounts.get(bare)
      if (others === undefined) accounts.set(bare, [session])
      else others.push(session)
    }
    for (const [account, sessions] of accounts)
      for (const session of sessions)
        if (this.#told.isInterested(session)) await this.#tell(account, session, this.#toldOf.get(session) ?? before, after)
    for (const [account, sessions] of accounts) {
      if (before.membershipOf(account).token === after.membershipOf(account).token) continue
      if (!sessions.some(({ available }) => available)) continue
      const contacts = contactsChanged(account, before, after)
      this.#told.regrouped(account, contacts, await this.#told.view(account, before))
      if (await this.#spend(contacts.size + 1)) return
    }
  }

  async #tell(account: string, session: Session, before: DomainGroups, after: DomainGroups): Promise<void> {
    if (before === after || this.#isClosed) return
    const contacts = contactsChanged(account, before, after)
    this.#toldOf.set(session, undefined)
    let last: string | undefined
    for (const jid of contacts) {
      if (await this.#spend(1)) return
      const was = (await this.#told.view(account, before)).get(jid)
      const is = (await this.#told.view(account, after)).get(jid)
      if (sameInRoster(was, is)) continue
      if (last !== undefined) await this.#pushNow(session, last, after)
      last = jid
    }
    this.#toldOf.set(session, after) // with the last one it has been told of all
    if (last !== undefined) await this.#pushNow(session, last, after)
  }

  async #pushNow(session: Session, jid: string, groups: DomainGroups): Promise<void> {
    await this.#told.push(session, jid, (await this.#told.view(session.jid.bare, groups)).get(jid))
  }

  /** True where nothing more is to be done. */
  async #spend(contacts: number): Promise<boolean> {
    this.#left -= contacts
    if (this.#left <= 0) {
      this.#left = AT_ONCE
      await this.#pause(PAUSE_MS)
    }
    return this.#isClosed
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resume) => void this.#clock.setTimeout(resume, ms))
  }
}

/** Whether a client is shown the same. */
function sameInRoster(a: RosterItem | undefined, b: RosterItem | undefined): boolean {
  if (a === b) return true
  if (a?.inRoster !== true || b?.inRoster !== true) return a?.inRoster !== true && b?.inRoster !== true
  return (
    a.name === b.name &&
    a.subscription === b.subscription &&
    a.ask === b.ask &&
    a.groups.length === b.groups.length &&
    a.groups.every((group, i) => group === b.groups[i])
  )
}

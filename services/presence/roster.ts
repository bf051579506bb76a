// RFC 6121 §2: the roster. One row per contact, and beside them the version that clients compare with (§2.6).
//
// The presence owner of an account is the only writer of its roster: roster sets arrive here as iqs, subscription
// stanzas through subscribing.ts, and both end in `change`, which stores, counts the version and pushes.
//
// What a client sees, and who sees the account, is that and what groups of its domain give, put together in `read`
// (merged-roster.ts). A contact that a group gives has a row only where the user has said something of him. He can be named and
// put into more groups, and not be removed: that is not-acceptable, as in Openfire, while the group gives him.
import type { DomainGroups } from '#core/groups/groups.ts'
import { type App, defineModule, type IqCall, type Session } from '#core/module.ts'
import { elementText, jsonOf, stanzaText } from '#core/storage/portable.ts'
import type { AccountMap, AccountRecord, MaybePromise } from '#core/storage/store.ts'
import { StanzaError } from '#xmpp/error.ts'
import { randomId } from '#xmpp/id.ts'
import { bareOf, type Jid, parseJid } from '#xmpp/jid.ts'
import { NS_ROSTER } from '#xmpp/ns.ts'
import { type Element, el, stanza } from '#xmpp/stanza.ts'
import { serialise } from '#xmpp/xml.ts'
import { GroupChanges, PARTLY } from './roster/group-changes.ts'
import { groupsSeen, type RosterView, rosterView } from './roster/merged-roster.ts'
import {
  answerFor,
  demandRoom,
  divideRoster,
  firstVersion,
  itemElement,
  nextVersion,
  parseRosterSet,
  pushElement,
  type RosterItem,
  type RosterSet,
  type RosterVersion,
  rosterElement,
  tokenOf,
  updateItem,
} from './roster/roster-item.ts'
import { type Farewell, pendingRequests, remove, seenBy } from './subscription.ts'

declare module '#core/call.ts' {
  interface Calls {
    /** The roster of an account as `<query/>` (§2.2), for who administers it; as much of it as fits into an answer. */
    'roster.read': { ask: Record<string, never>; tell: string }
  }
}

/** Set on a session that has asked for the roster and is owed a push of every change (§2.1.6). */
const INTERESTED = 'roster.interested'
/** Removals reach the contact through whoever tells presence, which sets it (subscribing.ts). Called when the removal is staged. */
type OnFarewell = (account: Jid, contact: Jid, farewell: Farewell) => void
/** By another change of the groups, of these contacts the account may see another thing than `before`, or they of it. */
type OnRegrouped = (account: Jid, contacts: ReadonlySet<string>, before: RosterView) => void

/** Of an account whose roster has never changed. */
const NO_VERSION = firstVersion('0')

/** What a roster get is answered with, and the pushes behind that. */
interface Given {
  readonly query: Element | undefined
  readonly pushes: readonly Element[]
}

export class Rosters {
  readonly #app: App
  readonly #items: AccountMap<RosterItem>
  readonly #versions: AccountRecord<RosterVersion | null>
  readonly #groups: GroupChanges | undefined
  onFarewell: OnFarewell = () => {}
  onRegrouped: OnRegrouped = () => {}

  constructor(app: App) {
    this.#app = app
    if (app.role === 'presence') this.#groups = this.#followGroups()
    this.#items = app.map<RosterItem>('roster')
    this.#versions = app.record<RosterVersion | null>('roster.version', null)
  }

  #followGroups(): GroupChanges {
    return new GroupChanges(this.#app, {
      view: (account, groups) => this.readOwn(parseJid(account), (own) => rosterView(account, own, groups)),
      isInterested: (session) => session.has(INTERESTED),
      push: (session, jid, item) =>
        this.#versions.read(bareOf(session.jid), (version) => this.#pushItem(session, jid, item, version ?? NO_VERSION)),
      regrouped: (account, contacts, before) => this.onRegrouped(parseJid(account), contacts, before),
    })
  }

  /** Nothing is told of changes of the groups any more. */
  stop(): void {
    this.#groups?.close()
  }

  /** By bare JID, with what groups give, hidden requests too. At once where the account is cached. */
  read<R>(account: Jid, use: (items: RosterView) => R): MaybePromise<R> {
    const groups = this.#app.groups.directory.known(account.domain)
    if (groups === undefined)
      return Promise.resolve(this.#app.groups.directory.refresh(account.domain)).then(() => this.read(account, use))
    if (groups.isEmpty) return this.#items.read(account, use)
    return this.#items.read(account, (own) => use(rosterView(account.bare, own, groups)))
  }

  /** What is stored with the account: for who changes it. */
  readOwn<R>(account: Jid, use: (items: RosterView) => R): MaybePromise<R> {
    return this.#items.read(account, use)
  }

  /** Whether groups have the account see a contact, and the contact the account. */
  byGroups(account: Jid, contact: Jid): MaybePromise<{ readonly sees: boolean; readonly isSeen: boolean }> {
    return this.#app.groups.directory.read(account.domain, (groups) => ({
      sees: groups.shows(contact.bare, account.bare),
      isSeen: groups.shows(account.bare, contact.bare),
    }))
  }

  /** It is being deleted: nobody who has its name later is to find himself in a group. */
  leaveGroups(account: Jid): Promise<void> {
    return this.#app.groups.administration.leaveAll(account)
  }

  /** Whether this contact may see the account's presence. */
  seenBy(account: Jid, contact: Jid): MaybePromise<boolean> {
    return this.read(account, (items) => seenBy(items.get(contact.bare)))
  }

  /** The contacts that may see the account's presence. */
  watchers(account: Jid): MaybePromise<readonly Jid[]> {
    return this.read(account, (items) => [...items.values()].filter(seenBy).map(({ jid }) => parseJid(jid)))
  }

  /**
   * Stores what became of a contact; `after` undefined deletes it. With `push`, a new version, and every interested
   * session is told once it is durable. Throws resource-constraint where there is no room for one more, and
   * not-allowed where the account is gone: a later one of that name must not find contacts.
   */
  async change(account: Jid, jid: string, after: RosterItem | undefined, push: boolean): Promise<void> {
    if (!(await this.#app.accounts.exists(account))) throw new StanzaError('not-allowed', 'the account is gone')
    await this.readOwn(account, (items) => demandRoom(items, items.get(jid), after))
    if (push) {
      const changed = await this.#versions.update(account, (before) => nextVersion(before ?? firstVersion(randomId(6)), jid))
      await this.#items.set(account, jid, after)
      await this.#push(account, jid, changed.after!)
    } else {
      await this.#items.set(account, jid, after)
    }
  }

  /** The contact as it is now, to all sessions that are interested. */
  #push(account: Jid, jid: string, version: RosterVersion): MaybePromise<void> {
    return this.read(account, (items) => {
      const item = items.get(jid)
      for (const session of this.interested(account)) this.#pushItem(session, jid, item, version)
    })
  }

  #pushItem(session: Session, jid: string, item: RosterItem | undefined, version: RosterVersion): void {
    const groups = this.#app.groups.directory.known(session.jid.domain)
    const token = groups === undefined ? '' : (this.#groups?.token(session, groups) ?? '')
    this.#pushTo(session, pushElement(jid, item, tokenOf(version, version.n, token)))
  }

  #pushTo(session: Session, query: Element): void {
    this.#app.push(session, stanza('iq', bareOf(session.jid), { to: session.jid, id: randomId(6), type: 'set' }, query))
  }

  /** §2.2, §2.6.3: the roster, or that the client has it, or what has changed since. */
  async get({ account, session, payload, afterwards }: IqCall): Promise<Element | void> {
    const version = await this.#versions.read(account, (version) => version ?? NO_VERSION)
    await this.#app.groups.directory.read(account.domain, () => {})
    const { query, pushes } = await this.readOwn(account, (own) => {
      const groups = this.#app.groups.directory.known(account.domain)!
      if (session !== undefined) this.#groups?.given(session, groups)
      return this.#answer(account, payload.attrs.ver, version, own, groups)
    })
    session?.set(INTERESTED)
    if (pushes.length > 0 && session !== undefined) {
      afterwards(() => {
        for (const push of pushes) this.#pushTo(session, push)
      })
    }
    return query
  }

  #answer(account: Jid, ver: string | undefined, version: RosterVersion, own: RosterView, groups: DomainGroups): Given {
    const items = rosterView(account.bare, own, groups)
    const token = groups.membershipOf(account.bare).token
    const answer = answerFor(ver, version, items, token)
    if (answer.kind !== 'full') return { query: undefined, pushes: answer.kind === 'current' ? [] : answer.pushes }
    if (items === own) return { query: answer.query, pushes: [] }
    const [first, rest] = divideRoster(items.values())
    const last = rest.at(-1)
    if (last === undefined) return { query: answer.query, pushes: [] }
    const partly = tokenOf(version, version.n, PARTLY)
    const whole = tokenOf(version, version.n, token)
    return {
      query: rosterElement(first, ver === undefined ? undefined : partly),
      pushes: rest.map((item) => pushElement(item.jid, item, item === last ? whole : partly)),
    }
  }

  /** §2.3, §2.4, §2.5. */
  async set(account: Jid, query: Element): Promise<void> {
    const asked = parseRosterSet(query, account)
    const before = await this.readOwn(account, (own) => own.get(asked.jid))
    const given = await this.#givenGroups(account, asked.jid)
    if (asked.kind === 'update') return this.#update(account, asked, before, given)
    if (given.length > 0)
      throw new StanzaError('not-acceptable', `${asked.jid} is a contact by the group ${given[0]}, which is not yours to change`)
    const farewell = remove(before)
    const { isSeen } = await this.byGroups(account, parseJid(asked.jid))
    await this.change(account, asked.jid, undefined, true)
    // Once: where the table is away, this task is run again.
    this.onFarewell(account, parseJid(asked.jid), isSeen ? { types: farewell.types } : farewell)
  }

  /** A client that changes a contact sends all groups it knows, the given ones too: those are not made the user's own. */
  async #update(account: Jid, asked: RosterSet & { kind: 'update' }, before: RosterItem | undefined, given: readonly string[]) {
    const { jid, name } = asked
    const groups = asked.groups.filter((group) => !given.includes(group))
    if (given.length > 0 && before === undefined && name === '' && groups.length === 0) {
      const version = await this.#versions.read(account, (version) => version ?? NO_VERSION)
      return this.#push(account, jid, version) // it stays as it was, whatever the client thinks now
    }
    await this.change(account, jid, updateItem(before, { ...asked, groups }), true)
  }

  /** As clients know them. */
  #givenGroups(account: Jid, jid: string): MaybePromise<readonly string[]> {
    return this.#app.groups.directory.read(account.domain, (groups) =>
      groups.has(account.bare) && groups.has(jid)
        ? groupsSeen(groups.membershipOf(jid), groups.membershipOf(account.bare)).map(({ displayName }) => displayName)
        : [],
    )
  }

  /** Sessions that are owed pushes: those that subscription answers go to as well (§3.1.6). */
  interested(account: Jid): readonly Session[] {
    return this.#app.sessions(account).filter((session) => session.has(INTERESTED))
  }
}

export default defineModule<Rosters>({
  name: 'roster',
  home: 'presence',
  xeps: [{ number: '0237', version: '1.3' }],
  namespaces: [NS_ROSTER],
  portable: [
    {
      of: 'roster',
      around: { name: 'query', ns: NS_ROSTER }, // XEP-0227 §4.4
      write: (value) => {
        const item = jsonOf<RosterItem>(value)
        return item.inRoster ? elementText(itemElement(item), NS_ROSTER) : ''
      },
    },
    // §4.9: requests that nobody has answered
    {
      of: 'roster',
      write: (value, _id, account) =>
        pendingRequests(account, [jsonOf<RosterItem>(value)])
          .map(stanzaText)
          .join(''),
    },
  ],
  streamFeatures: () => [
    el('ver', 'urn:xmpp:features:rosterver'), // §2.6.1
    el('sub', 'urn:xmpp:features:pre-approval'), // §3.4.1
  ],

  setup(app) {
    const rosters = new Rosters(app as App)
    app.iq('get', NS_ROSTER, 'query', 'self', (call) => rosters.get(call))
    app.iq('set', NS_ROSTER, 'query', 'self', async ({ account, payload }) => rosters.set(account, payload))
    // §2.1.5: a roster is nobody else's business.
    for (const type of ['get', 'set'] as const) {
      app.iq(type, NS_ROSTER, 'query', 'account', () => {
        throw new StanzaError('forbidden')
      })
    }
    app.answer('roster.read', (account) =>
      rosters.read(parseJid(account), (items) => serialise(rosterElement(divideRoster(items.values())[0]), '')),
    )
    return rosters
  },
})

// RFC 6121 §4: presence of the accounts owned here: broadcasts, probes, directed presence, and its end.
//
// A broadcast goes to the contacts that may see it as one fan-out per owner; the owner delivers it to their available
// sessions as one multicast per edge. A contact who is not online costs one Map look-up, and no read. What an account tells
// others waits for what it has staged: presence must not overtake the end of a subscription, nor the other way round.
import type { Fields, Origin } from '#core/envelope.ts'
import type { OfAccounts } from '#core/held.ts'
import { DROP, type Events, type Hidden } from '#core/hooks.ts'
import type { SessionAddress } from '#core/multicast.ts'
import type { Owner } from '#core/owner.ts'
import { LazyPassage } from '#core/passage.ts'
import { inPortions, type Pace } from '#core/portions.ts'
import { knownPriority } from '#core/priority.ts'
import { BoundSession, type Registry } from '#core/registry.ts'
import type { ToldSession } from '#core/resync-frame.ts'
import type { MaybePromise } from '#core/store.ts'
import { TableUnavailable } from '#table/table.ts'
import { bareOf, type Jid, parseJid, withResource } from '#xmpp/jid.ts'
import { copyOf, readdress, type Stanza, stanza } from '#xmpp/stanza.ts'
import { AVAILABILITY_LIMITS, Availability, type AvailabilityLimits, type AvailableResource } from './availability.ts'
import type { Rosters } from './roster.ts'
import type { RosterItem } from './roster-item.ts'
import { pendingRequests, seenBy, sees } from './subscription.ts'

type Done = () => void

export class Presences {
  readonly #owner: Owner
  readonly #sessions: Registry
  readonly #rosters: Rosters
  readonly #accounts = new Map<string, Availability>()
  readonly #limits: AvailabilityLimits

  constructor(owner: Owner, sessions: Registry, rosters: Rosters) {
    this.#owner = owner
    this.#sessions = sessions
    this.#rosters = rosters
    // The router counts sessions. Here one may start before the end of another is heard of.
    this.#limits = { ...AVAILABILITY_LIMITS, resourcesMax: 2 * owner.process.config.limits.sessionsPerAccount }
    owner.hooks.on('presence', 'audience.changed', (news) => this.#audienceChanged(news))
  }

  of(account: string): Availability | undefined {
    return this.#accounts.get(account)
  }

  /** The sessions that are available. */
  available(account: string): readonly BoundSession[] {
    const sessions = this.#sessions.of(account)
    for (const session of sessions) if (!session.available) return sessions.filter(({ available }) => available)
    return sessions
  }

  /**
   * What the edges tell of accounts that have come. Their contacts have been shown it, and nothing is broadcast, but where an
   * edge is late: whoever has asked meanwhile was told that they are not there, and they were shown nothing.
   */
  adopt(told: readonly ToldSession[], late?: string): void {
    const missed: BoundSession[] = []
    for (const { session: id, edge, jid, about, flags, presence, directed } of told) {
      if (this.#sessions.byId(jid.bare, id) !== undefined) continue
      const rival = late === undefined ? undefined : this.#sessions.byResource(jid.bare, jid.resource)
      if (rival !== undefined && (rival.about?.sinceMs ?? Number.POSITIVE_INFINITY) > about.sinceMs) continue // its successor is here
      const session = new BoundSession(id, edge, jid, this.#owner.multicast)
      session.about = about
      session.setAll(flags)
      this.#sessions.add(session)
      if (presence === undefined && directed.length === 0) continue
      session.available = this.#note(jid.bare, (availability) => availability.adopt(jid.resource, id, presence, directed))
      session.priority = session.available ? (knownPriority(presence!) ?? 0) : 0
      if (session.available) missed.push(session)
    }
    if (late !== undefined && missed.length > 0) void this.#wereMissed(late, missed)
  }

  async #wereMissed(edge: string, sessions: readonly BoundSession[]): Promise<void> {
    const { multicast, process } = this.#owner
    multicast.order({ edge, session: '' }, 'missed', {}) // it asks for what they should have seen (edge/refresh.ts)
    await inPortions(process.clock, MISSED_PACE, sessions, (portion) => {
      for (const session of portion)
        if (this.#sessions.byId(session.jid.bare, session.session) === session)
          this.#owner.inOrder(session.jid.bare, () => this.#showAgain(session))
    })
  }

  async #showAgain({ session, jid }: BoundSession): Promise<void> {
    const account = bareOf(jid)
    await this.#ripen(account)
    await this.#read(account, (items, hidden) => {
      const shown = this.of(account.bare)?.get(jid.resource)
      if (shown?.sessionId === session) this.#broadcast(account, shown.presence, items, hidden)
    })
  }

  /** The clients of an edge see these as available. Those of which no edge has a session have died with theirs: they see them go. */
  seen(edge: string, jids: readonly string[]): void {
    const gone = jids.filter((full) => {
      const { bare, resource } = parseJid(full)
      return this.#owner.held.has(bare) && this.#sessions.byResource(bare, resource) === undefined
    })
    this.#tellGone(edge, gone)
  }

  /**
   * The clients of an edge that has missed something see these, of accounts that are owned together, as available. Those that
   * have gone or are not shown to anybody any more they see go. Where an edge may still tell of them, `seen` will know.
   */
  notSeen({ edge, jids }: Fields): void {
    const gone = String(jids)
      .split('\n')
      .filter((full) => {
        const { bare, resource } = parseJid(full)
        const { held, takeOver } = this.#owner
        return held.has(bare) && !takeOver.waitsFor(bare) && this.of(bare)?.shows(resource) !== true
      })
    this.#tellGone(String(edge), gone)
  }

  #tellGone(edge: string, gone: readonly string[]): void {
    for (let at = 0; at < gone.length; at += GONE_AT_ONCE)
      this.#owner.multicast.order({ edge, session: '' }, 'gone', { jids: gone.slice(at, at + GONE_AT_ONCE).join('\n') })
  }

  /** Nothing is known of these accounts any more. */
  forget(gone: OfAccounts): void {
    this.#sessions.forget(gone)
    for (const account of this.#accounts.keys()) if (gone(account)) this.#accounts.delete(account)
  }

  /** What an edge has told is as the client sent it. Before anybody else is shown it, it passes the hooks as it did then. */
  #ripen(account: Jid): void | Promise<void> {
    const raw = this.of(account.bare)?.raw ?? []
    return raw.length === 0 ? undefined : this.#ripenAll(account, raw)
  }

  async #ripenAll(account: Jid, raw: readonly AvailableResource[]): Promise<void> {
    for (const known of raw) {
      const passed = await this.#passOutbound(known.presence, account)
      this.of(account.bare)?.ripen(known, passed)
    }
  }

  async #passOutbound(presence: Stanza, account: Jid): Promise<Stanza> {
    const { hooks, archiveIds, log } = this.#owner
    try {
      const passed = await hooks.pass('outbound', presence, new LazyPassage(account, account, archiveIds))
      return passed === DROP ? presence : passed
    } catch (error) {
      if (error instanceof TableUnavailable) throw error
      log.warn('presence.not_passed', { account: account.bare, error })
      return presence // it has been shown
    }
  }

  /** Something that came for this session may have been lost on its way: it is shown anew what there is. */
  refresh(account: Jid, id: string): void | Promise<void> {
    const session = this.#sessions.byId(account.bare, id)
    if (session?.available !== true) return
    return this.#read(account, (items, hidden) => {
      if (this.of(account.bare) !== undefined) this.#greet(session, account, items, hidden)
    })
  }

  /** The session an envelope came from, known from its first one on. */
  sessionOf(jid: Jid, origin: Origin): BoundSession {
    const known = this.#sessions.byId(jid.bare, origin.session)
    if (known !== undefined) return known
    const session = new BoundSession(origin.session, origin.edge, jid, this.#owner.multicast)
    this.#sessions.add(session)
    return session
  }

  /** Changes what is known of an account; keeps nothing where that leaves nothing, or throws. */
  #note<T>(account: string, change: (availability: Availability) => T): T {
    const availability = this.#accounts.get(account) ?? new Availability(this.#limits)
    this.#accounts.set(account, availability)
    try {
      return change(availability)
    } finally {
      if (availability.empty) this.#accounts.delete(account)
    }
  }

  /** The roster, and whom a module hides the account from although the roster would show it (XEP-0191 §3.3). */
  #read<R>(account: Jid, use: (items: ReadonlyMap<string, RosterItem>, hidden: Hidden | undefined) => R): MaybePromise<R> {
    const hidden = this.#owner.hooks.hidden(account)
    if (hidden instanceof Promise) return hidden.then((hidden) => this.#rosters.read(account, (items) => use(items, hidden)))
    return this.#rosters.read(account, (items) => use(items, hidden))
  }

  // --- from our sessions

  /** Presence without `to` and without type (§4.2, §4.4). */
  show(received: Stanza, session: BoundSession, done: Done): void | Promise<void> {
    const presence = copyOf(received, '') // it is shown again long after its trace has ended
    const account = bareOf(presence.from)
    const ripening = this.#ripen(account)
    if (ripening !== undefined) return ripening.then(() => this.show(presence, session, done))
    return this.#read(account, (items, hidden) => {
      const { resource } = session.jid
      const news = this.#note(account.bare, (availability) => availability.set(resource, session.session, presence))
      if (news === 'unchanged') return done() // contacts have it already
      const { priority } = this.of(account.bare)!.get(resource)!
      const told = session.available && session.priority === priority
      session.available = true
      session.priority = priority
      this.#broadcast(account, presence, items, hidden)
      if (news === 'initial') this.#greet(session, account, items, hidden)
      if (told) done()
      else this.#tellRouter(account, session, done)
    })
  }

  /** Presence that was shown and is another now, as `change` has it: it is shown anew, with no client asking for it. */
  async reshow(account: Jid, change: (presence: Stanza) => Stanza): Promise<void> {
    await this.#ripen(account)
    for (const session of this.available(account.bare)) {
      const shown = this.of(account.bare)?.get(session.jid.resource)
      if (shown?.sessionId !== session.session) continue
      const presence = change(shown.presence)
      if (presence !== shown.presence) await this.show(presence, session, NOTHING)
    }
  }

  /** The router learns it before this session's next stanza does anything: `done` waits for it. */
  #tellRouter(account: Jid, session: BoundSession, done: Done): void {
    const fields = { session: session.session, available: session.available, priority: session.priority }
    this.#owner.lanes.send(
      'router',
      account.bare,
      { kind: 'signal', account: account.bare, name: 'session.available', fields },
      done,
    )
  }

  /** §4.2.2, §4.4.2, §4.5.2: to the contacts that may see it, and to one's own available resources. */
  #broadcast(account: Jid, presence: Stanza, items: ReadonlyMap<string, RosterItem>, hidden: Hidden | undefined): void {
    const accounts = [account.bare]
    for (const item of items.values()) if (seenBy(item) && !hidden?.(parseJid(item.jid))) accounts.push(item.jid)
    this.#owner.commit.after(account.bare, () => this.#owner.fanOut(presence, accounts))
  }

  /** What a session that has become available is shown: its contacts, and who would be one (§3.1.3). */
  #greet(session: BoundSession, account: Jid, items: ReadonlyMap<string, RosterItem>, hidden: Hidden | undefined): void {
    this.#probe(session, account, items, hidden)
    for (const request of pendingRequests(account, items.values()))
      if (!hidden?.(request.from)) this.#owner.multicast.deliver(session, request)
  }

  /** §4.3.1: asks the contacts one may see, and one's own other resources. Those who are offline are not troubled. */
  #probe(session: BoundSession, account: Jid, items: ReadonlyMap<string, RosterItem>, hidden: Hidden | undefined): void {
    for (const { resource, presence } of this.of(account.bare)!.available()) {
      if (resource !== session.jid.resource) this.#owner.multicast.deliver(session, readdress(presence, { to: session.jid }))
    }
    const accounts: string[] = []
    for (const item of items.values()) if (sees(item) && !hidden?.(parseJid(item.jid))) accounts.push(item.jid)
    if (accounts.length > 0) this.#owner.fanOut(stanza('presence', session.jid, { type: 'probe' }), accounts)
  }

  /** Presence of type unavailable without `to` (§4.5): it goes to the resource that it came from, too. */
  hide(farewell: Stanza, session: BoundSession, done: Done): void | Promise<void> {
    return this.#leave(session, farewell, done, () => this.#owner.multicast.deliver(session, farewell, 'bare'))
  }

  /** A session is available no more, and whoever was told that it is hears so. */
  #leave(session: BoundSession, farewell: Stanza, done: Done, echo: () => void): void | Promise<void> {
    const account = bareOf(session.jid)
    return this.#read(account, (items, hidden) => {
      const sees = (bare: string): boolean => bare === account.bare || seenBy(items.get(bare))
      const departure = this.#note(account.bare, (availability) =>
        availability.remove(session.jid.resource, session.session, sees),
      )
      const was = session.available
      session.available = false
      session.priority = 0
      if (departure?.presence !== undefined) this.#broadcast(account, farewell, items, hidden)
      for (const to of departure?.directed ?? [])
        this.#owner.commit.after(account.bare, () => this.#owner.send(readdress(farewell, { to }))) // §4.6.5
      if (!was) return done()
      echo()
      this.#tellRouter(account, session, done)
    })
  }

  /** Presence with `to` (§4.6). Throws resource-constraint where it could not be taken back later. */
  direct(presence: Stanza, session: BoundSession, done: Done): void {
    this.#note(presence.from.bare, (availability) => availability.direct(session.jid.resource, session.session, presence))
    this.#owner.commit.after(presence.from.bare, () => this.#owner.send(presence, done))
  }

  /**
   * A module hides the account from others than before (XEP-0191 §3.3, §3.4). Those who were entitled see it go, or see it
   * as it is; what is seen of them here goes, too (XEP-0016 §2.10), or is asked for again. With the table away nothing has
   * been sent, and this is called again.
   */
  #audienceChanged(news: Events['audience.changed']): void | Promise<void> {
    const ripening = this.#ripen(news.account)
    if (ripening !== undefined) return ripening.then(() => this.#audienceChanged(news))
    const { account, changed, before, after } = news
    return this.#rosters.read(account, (items) => {
      const gone: Jid[] = []
      const back: Jid[] = []
      const asked: Jid[] = []
      for (const contact of concerned(changed, items)) {
        const hides = after(contact)
        if (contact.bare === account.bare || before(contact) === hides) continue
        const item = items.get(contact.bare)
        if (seenBy(item)) (hides ? gone : back).push(contact)
        if (sees(item) && hides) this.#deliver(stanza('presence', contact, { type: 'unavailable' }), account.bare)
        else if (sees(item)) asked.push(contact)
      }
      for (const { presence } of this.of(account.bare)?.available() ?? []) {
        this.#tell(gone, stanza('presence', presence.from, { type: 'unavailable' }))
        this.#tell(back, presence)
        this.#tell(asked, stanza('presence', presence.from, { type: 'probe' }))
      }
      this.#takeBack(account, (peer) => after(peer) && !before(peer))
    })
  }

  #tell(contacts: readonly Jid[], presence: Stanza): void {
    const accounts = contacts.filter(({ resource }) => resource === '').map(({ bare }) => bare)
    this.#owner.commit.after(presence.from.bare, () => {
      if (accounts.length > 0) this.#owner.fanOut(presence, accounts)
      for (const to of contacts) if (to.resource !== '') this.#owner.send(readdress(presence, { to }))
    })
  }

  /** Directed presence, from those who may no longer have it. */
  #takeBack(account: Jid, from: Hidden): void {
    if (this.of(account.bare) === undefined) return
    for (const { resource, to } of this.#note(account.bare, (availability) => availability.takeBack(from))) {
      const gone = stanza('presence', withResource(account, resource), { to, type: 'unavailable' })
      this.#owner.commit.after(account.bare, () => this.#owner.send(gone))
    }
  }

  // --- to our accounts

  /** One stanza to many accounts: those online get it in one multicast per edge. */
  receiveMany(presence: Stanza, accounts: readonly string[], done: Done): void {
    const targets: SessionAddress[] = []
    let open = 1
    const one = (): void => {
      if (--open === 0) done()
    }
    for (const account of accounts) {
      if (this.#sessions.of(account).length === 0) continue
      const passed =
        presence.type === 'probe' || !this.#owner.mailboxes.idle(account) ? undefined : this.#passNow(presence, account)
      if (passed === DROP) continue
      if (passed === presence) {
        if (this.#owner.commit.pending(account)) this.#deliver(presence, account)
        else for (const session of this.#sessions.of(account)) if (session.available) targets.push(session)
      } else {
        open++
        if (passed === undefined) this.#owner.receive(presence, account, one)
        else this.#receivePassed(passed, presence, parseJid(account), one)
      }
    }
    if (targets.length > 0) this.#owner.multicast.fanOut(targets, presence, 'bare')
    one()
  }

  /** Past the inbound hooks; undefined where the table is away: what comes later goes by the account's mailbox, which waits for it. */
  #passNow(presence: Stanza, account: string): ReturnType<Owner['passInbound']> | undefined {
    try {
      return this.#owner.passInbound(presence, parseJid(account))
    } catch (error) {
      if (error instanceof TableUnavailable) return undefined
      throw error
    }
  }

  /** What the hooks have rewritten, or are still at; when the table is away meanwhile, they are asked again. */
  #receivePassed(passed: ReturnType<Owner['passInbound']>, presence: Stanza, account: Jid, done: Done): void {
    let first: typeof passed | undefined = passed
    this.#owner.inOrder(account.bare, async () => {
      const passing = first ?? this.#owner.passInbound(presence, account)
      first = undefined
      const rewritten = await passing
      if (rewritten !== DROP) this.#deliver(rewritten, account.bare)
      done()
    })
  }

  /** Presence without a type or of type unavailable: RFC 6121 §8.5.2.1.2 to a bare JID, §8.5.3.1 to a full one. */
  receive(presence: Stanza, account: Jid, done: Done): void {
    const resource = presence.to?.resource ?? ''
    if (resource === '') {
      this.#deliver(presence, account.bare)
      return done()
    }
    const session = this.#sessions.byResource(account.bare, resource)
    if (session === undefined) return this.#owner.toRouter(presence, account, done) // who is connected, and has said nothing here
    this.#owner.commit.after(account.bare, () => this.#owner.multicast.deliver(session, presence))
    done()
  }

  /** To those who are available now. Not before an approval that is being stored has been shown (§3.1.6). */
  #deliver(presence: Stanza, account: string): void {
    const { commit, multicast } = this.#owner
    const targets = [...this.available(account)]
    commit.after(account, () => multicast.fanOut(targets, presence, 'bare'))
  }

  /**
   * §4.3.2: each available resource's presence, or that there is none, to whoever may see it. One who may not is told
   * `unsubscribed`, so that a server that thinks otherwise learns better.
   */
  answerProbe(probe: Stanza, account: Jid): void | Promise<void> {
    const ripening = this.#ripen(account)
    if (ripening !== undefined) return ripening.then(() => this.answerProbe(probe, account))
    const { from, to } = probe
    return this.#rosters.read(account, (items) => {
      if (from.bare !== account.bare && !seenBy(items.get(from.bare))) {
        this.#owner.send(stanza('presence', account, { to: bareOf(from), type: 'unsubscribed' }))
        return
      }
      const asked = to?.resource ?? '' // a probe of our own has no `to`
      const resources =
        this.of(account.bare)
          ?.available()
          .filter(({ resource }) => asked === '' || resource === asked) ?? []
      for (const { presence } of resources) this.#owner.send(readdress(presence, { to: from }))
      if (resources.length === 0) this.#owner.send(stanza('presence', to ?? account, { to: from, type: 'unavailable' }))
    })
  }

  /** A session is gone. */
  closed(account: Jid, id: string, done: Done): void | Promise<void> {
    const session = this.#sessions.byId(account.bare, id)
    if (session === undefined) {
      this.#owner.takeOver.noteEnded(id)
      return done()
    }
    const gone = (): void => {
      this.#sessions.remove(session)
      done()
    }
    const leaving = this.#leave(session, stanza('presence', session.jid, { type: 'unavailable' }), NOTHING, NOTHING)
    return leaving === undefined ? gone() : leaving.then(gone)
  }

  /** The account is gone: its contacts see it leave. */
  async removeAll(account: Jid): Promise<void> {
    for (const session of [...this.#sessions.of(account.bare)]) await this.closed(account, session.session, NOTHING)
  }
}

const NOTHING = (): void => {}
/** Each of them reads a roster. */
const MISSED_PACE: Pace = { atOnce: 50, pauseMs: 50 }
/** Full JIDs in one order to an edge; one has at most 3 KiB. */
const GONE_AT_ONCE = 300

/** Whom a change of the audience may concern: the addresses named, and of a domain the contacts there. */
function concerned(changed: readonly Jid[], items: ReadonlyMap<string, RosterItem>): Iterable<Jid> {
  const found = new Map<string, Jid>()
  const domains = new Set<string>()
  for (const jid of changed) {
    found.set(jid.full, jid)
    if (jid.local === '' && jid.resource === '') domains.add(jid.domain)
  }
  if (domains.size > 0) {
    for (const key of items.keys()) {
      const contact = parseJid(key)
      if (domains.has(contact.domain)) found.set(contact.full, contact)
    }
  }
  return found.values()
}

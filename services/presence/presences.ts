// RFC 6121 §4: presence of the accounts owned here: broadcasts, probes, directed presence, and its end.
//
// Who sees a broadcast is for audiences.ts to say: one that changes something goes there, and costs no look-up of anybody. What an
// account tells others waits for what it has staged: presence must not overtake the end of a subscription, nor the other way round.
import type { Fields, Origin } from '#core/envelope.ts'
import type { Hidden } from '#core/hooks.ts'
import type { Counter } from '#core/observing/metrics.ts'
import type { Owner } from '#core/owner.ts'
import type { OfAccounts } from '#core/ownership/held.ts'
import { BoundSession } from '#core/ownership/registry.ts'
import type { ToldSession, ToldWatches } from '#core/ownership/resync-frame.ts'
import { inPortions, type Pace } from '#core/portions.ts'
import { knownPriority, priorityOf } from '#core/priority.ts'
import { bareOf, type Jid, parseJid } from '#xmpp/jid.ts'
import { copyOf, readdress, type Stanza, stanza } from '#xmpp/stanza.ts'
import type { Audiences } from './audiences.ts'
import { Checking } from './checking.ts'
import { Coalescing } from './coalescing.ts'
import type { Resources, RosterItems } from './resources.ts'
import { pendingRequests, seenBy } from './subscription.ts'

type Done = () => void

/** Of an account, for the end of directed presence. */
interface Known {
  readonly items: RosterItems
  readonly hidden: Hidden | undefined
}

export class Presences {
  readonly #owner: Owner
  readonly #resources: Resources
  readonly #audiences: Audiences
  readonly #checking: Checking
  readonly #coalescing: Coalescing
  /** Full JIDs of sessions whose edges have been told that what they show last waits; where owners may die. */
  readonly #held = new Set<string>()
  readonly #received: Counter
  readonly #unchanged: Counter
  readonly #coalesced: Counter

  constructor(owner: Owner, resources: Resources, audiences: Audiences) {
    this.#owner = owner
    this.#resources = resources
    this.#audiences = audiences
    this.#checking = new Checking(owner, resources, audiences)
    const { metrics, clock, config } = owner.process
    this.#coalescing = new Coalescing(clock, config.presence.windowMs, (presence) => this.#send(presence))
    this.#received = metrics.counter('presence_received_total', 'Broadcasts that clients have sent (RFC 6121 §4.2, §4.4, §4.5).')
    const suppressed = metrics.counter('presence_suppressed_total', 'Broadcasts that were not sent on, by why.', ['reason'])
    this.#unchanged = suppressed.labels('unchanged')
    this.#coalesced = suppressed.labels('coalesced')
  }

  /**
   * What the edges tell of accounts that have come. Their contacts have been shown it, and nothing is broadcast, but where an
   * edge is late: whoever has asked meanwhile was told that they are not there, and they were shown nothing.
   */
  adopt(told: readonly ToldSession[], late?: string): void {
    const missed: BoundSession[] = []
    for (const { session: id, edge, jid, about, flags, presence, directed } of told) {
      if (this.#resources.sessions.byId(jid.bare, id) !== undefined) continue
      const rival = late === undefined ? undefined : this.#resources.sessions.byResource(jid.bare, jid.resource)
      if (rival !== undefined && (rival.about?.sinceMs ?? Number.POSITIVE_INFINITY) > about.sinceMs) continue // its successor is here
      const session = new BoundSession(id, edge, jid, this.#owner.multicast)
      session.about = about
      session.setAll(flags)
      this.#resources.sessions.add(session)
      if (presence === undefined && directed.length === 0) continue
      session.available = this.#resources.note(jid.bare, (availability) =>
        availability.adopt(jid.resource, id, presence, directed),
      )
      session.priority = session.available ? (knownPriority(presence!) ?? 0) : 0
      if (session.available) this.#checking.add(jid.bare, about.held ? id : undefined)
      if (session.available) missed.push(session)
    }
    if (late !== undefined && missed.length > 0) void this.#wereMissed(late, missed)
  }

  async #wereMissed(edge: string, sessions: readonly BoundSession[]): Promise<void> {
    const { multicast, process } = this.#owner
    multicast.order({ edge, session: '' }, 'missed', {}) // it asks for what they should have seen (edge/watching/refresh.ts)
    await inPortions(process.clock, MISSED_PACE, sessions, (portion) => {
      for (const session of portion)
        if (this.#resources.sessions.byId(session.jid.bare, session.session) === session)
          this.#owner.inOrder(session.jid.bare, () => this.#showAgain(session))
    })
  }

  async #showAgain({ session, jid }: BoundSession): Promise<void> {
    const account = bareOf(jid)
    await this.#resources.ripen(account)
    await this.#resources.read(account, (items, hidden) => {
      const shown = this.#resources.of(account.bare)?.get(jid.resource)
      if (shown?.sessionId !== session) return
      this.#audiences.settle(account, items, hidden, false)
      this.#audiences.broadcast(account.bare, shown.presence)
    })
  }

  /** The clients of an edge see these as available. Those of which no edge has a session have died with theirs: they see them go. */
  seen(edge: string, jids: readonly string[]): void {
    const gone = jids.filter((full) => {
      const { bare, resource } = parseJid(full)
      return this.#owner.held.has(bare) && this.#resources.sessions.byResource(bare, resource) === undefined
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
        return held.has(bare) && !takeOver.waitsFor(bare) && this.#resources.of(bare)?.shows(resource) !== true
      })
    this.#tellGone(String(edge), gone)
  }

  #tellGone(edge: string, gone: readonly string[]): void {
    for (let at = 0; at < gone.length; at += GONE_AT_ONCE)
      this.#owner.multicast.order({ edge, session: '' }, 'gone', { jids: gone.slice(at, at + GONE_AT_ONCE).join('\n') })
  }

  /** Who watches accounts that have come. */
  adoptWatches(told: readonly ToldWatches[]): void {
    this.#checking.adopt(told)
  }

  /** The block lists of these accounts have another owner, who does not know what the last one has told of them. */
  doubt(of: OfAccounts): void {
    this.#checking.addAll(of)
  }

  /** Nothing is known of these accounts any more. */
  forget(gone: OfAccounts): void {
    this.#resources.forget(gone)
    this.#audiences.forget(gone)
    this.#checking.forget(gone)
    this.#coalescing.forget(gone)
    for (const full of this.#held) if (gone(parseJid(full).bare)) this.#held.delete(full)
  }

  /** Something that came for this session may have been lost on its way: it is shown anew what there is. */
  refresh(account: Jid, id: string): void | Promise<void> {
    const session = this.#resources.sessions.byId(account.bare, id)
    if (session?.available !== true) return
    return this.#resources.read(account, (items, hidden) => this.#greet(session, account, items, hidden))
  }

  /**
   * Nothing has come of this session before, and another one of its resource is here: which is the later one? What comes again,
   * when nobody owned the account for a while, comes in the order of its edge, and behind what others say meanwhile.
   */
  mayBeReplaced({ bare, resource }: Jid, { session }: Origin): boolean {
    const { sessions } = this.#resources
    return sessions.byId(bare, session) === undefined && sessions.byResource(bare, resource) !== undefined
  }

  /** The session an envelope came from, known from its first one on. */
  sessionOf(jid: Jid, origin: Origin): BoundSession {
    const known = this.#resources.sessions.byId(jid.bare, origin.session)
    if (known !== undefined) return known
    const session = new BoundSession(origin.session, origin.edge, jid, this.#owner.multicast)
    this.#resources.sessions.add(session)
    return session
  }

  // --- from our sessions

  /** Presence without `to` and without type (§4.2, §4.4). Throws bad-request, resource-constraint. */
  show(received: Stanza, session: BoundSession, done: Done): void | Promise<void> {
    this.#received.inc()
    const presence = copyOf(received, '') // it is shown again long after its trace has ended
    return this.#show(presence, session, done)
  }

  #show(presence: Stanza, session: BoundSession, done: Done): void | Promise<void> {
    const { bare } = session.jid
    const known = this.#resources.of(bare)?.get(session.jid.resource)
    if (known?.sessionId === session.session && !known.raw && !this.#audiences.isDoubtful(bare))
      return this.#change(presence, session, done)
    const account = bareOf(session.jid)
    const ripening = this.#resources.ripen(account)
    if (ripening !== undefined) return ripening.then(() => this.#show(presence, session, done))
    return this.#resources.read(account, (items, hidden) => {
      if (!this.#resources.isOnline(bare)) {
        priorityOf(presence) // it throws before anything is changed
        this.#audiences.settle(account, items, hidden, false)
      } else if (this.#audiences.isDoubtful(bare)) this.#audiences.settle(account, items, hidden, true)
      const isNew = known?.sessionId !== session.session
      this.#change(presence, session, done)
      if (isNew) this.#greet(session, account, items, hidden)
      this.#audiences.catchUp(account)
    })
  }

  /** It is as it was, or another now: then everybody who sees it is told. */
  #change(presence: Stanza, session: BoundSession, done: Done): void {
    const { bare, resource } = session.jid
    const news = this.#resources.note(bare, (availability) => availability.set(resource, session.session, presence))
    if (news === 'unchanged') {
      this.#unchanged.inc()
      return done() // contacts have it already, or will
    }
    const { priority } = this.#resources.of(bare)!.get(resource)!
    const told = session.available && session.priority === priority
    session.available = true
    session.priority = priority
    if (news === 'initial') this.#coalescing.now(presence)
    else this.#coalescing.change(presence, news === 'diverged')
    this.#coalesced.value = this.#coalescing.suppressed
    if (!this.#owner.held.all) this.#tellHeld(session)
    if (told) done()
    else this.#tellRouter(session, done)
  }

  /** To contacts: at once, or when its time has come. */
  #send(presence: Stanza): void {
    const { bare, full, resource } = presence.from
    this.#held.delete(full) // its edge sees it come
    if (presence.type !== '') return this.#audiences.broadcast(bare, presence)
    if (this.#audiences.isDoubtful(bare)) return this.#owner.inOrder(bare, () => this.#sendLater(presence))
    this.#resources.note(bare, (availability) => availability.sent(resource, presence))
    this.#audiences.broadcast(bare, presence)
  }

  /** What has waited, while it came into doubt who sees the account. */
  #sendLater(presence: Stanza): void | Promise<void> {
    const account = bareOf(presence.from)
    return this.#resources.read(account, (items, hidden) => {
      if (this.#resources.of(account.bare)?.get(presence.from.resource)?.latest !== presence) return
      this.#audiences.settle(account, items, hidden, true)
      this.#send(presence)
    })
  }

  /** What waits here dies with this process, though its client has been told that it is handled: so its edge is told, and tells whoever comes next. */
  #tellHeld(session: BoundSession): void {
    const { full } = session.jid
    const isHeld = this.#coalescing.waiting(full) !== undefined
    if (isHeld === this.#held.has(full)) return
    if (isHeld) this.#held.add(full)
    else this.#held.delete(full)
    this.#owner.multicast.order(session, 'held', { held: isHeld })
  }

  /** Sends what waits of these accounts. */
  flush(of: OfAccounts): void {
    this.#coalescing.flush(of)
  }

  /** Presence that was shown and is another now, as `change` has it: it is shown anew, with no client asking for it. */
  async reshow(account: Jid, change: (presence: Stanza) => Stanza): Promise<void> {
    await this.#resources.ripen(account)
    this.#flushOf(account.bare)
    for (const session of this.#resources.available(account.bare)) {
      const shown = this.#resources.of(account.bare)?.get(session.jid.resource)
      if (shown?.sessionId !== session.session) continue
      const presence = change(shown.presence)
      if (presence !== shown.presence) await this.#show(copyOf(presence, ''), session, NOTHING)
    }
  }

  /** The router learns it before this session's next stanza does anything: `done` waits for it. */
  #tellRouter({ session, jid: { bare }, available, priority }: BoundSession, done: Done): void {
    const fields = { session, available, priority }
    this.#owner.lanes.send('router', bare, { kind: 'signal', account: bare, name: 'session.available', fields }, done)
  }

  /** What a session that has become available is shown: the account's other resources, its contacts, and who would be one (§4.3, §3.1.3). */
  #greet(session: BoundSession, account: Jid, items: RosterItems, hidden: Hidden | undefined): void {
    for (const { resource, presence } of this.#resources.shown(account.bare)) {
      if (resource !== session.jid.resource) this.#owner.multicast.deliver(session, readdress(presence, { to: session.jid }))
    }
    this.#audiences.watch(session, account, items, hidden)
    for (const request of pendingRequests(account, items.values()))
      if (!hidden?.(request.from)) this.#owner.multicast.deliver(session, request)
  }

  /** Presence of type unavailable without `to` (§4.5): it goes to the resource that it came from, too. */
  hide(farewell: Stanza, session: BoundSession, done: Done): void | Promise<void> {
    this.#received.inc()
    return this.#leave(session, farewell, done, () => this.#owner.multicast.deliver(session, farewell, 'bare'))
  }

  /** A session is available no more, and whoever was told that it is hears so. The roster is read only where directed presence is to be taken back. */
  #leave(session: BoundSession, farewell: Stanza, done: Done, echo: () => void): void | Promise<void> {
    const { bare, resource } = session.jid
    if (this.#resources.of(bare)?.hasDirected(resource, session.session) !== true)
      return this.#end(session, farewell, { items: NOBODY, hidden: undefined }, done, echo)
    return this.#resources.read(bareOf(session.jid), (items, hidden) =>
      this.#end(session, farewell, { items, hidden }, done, echo),
    )
  }

  #end(session: BoundSession, farewell: Stanza, { items, hidden }: Known, done: Done, echo: () => void): void {
    const { bare, resource } = session.jid
    const { commit } = this.#owner
    const sees = (watcher: string): boolean => watcher === bare || seenBy(items.get(watcher))
    const departure = this.#resources.note(bare, (availability) => availability.remove(resource, session.session, sees))
    const was = session.available
    session.available = false
    session.priority = 0
    if (departure?.presence !== undefined) {
      this.#coalescing.now(farewell)
      this.#coalesced.value = this.#coalescing.suppressed
      if (!this.#resources.isOnline(bare)) this.#audiences.revokeAll(bare)
      this.#owner.inOrder(bare, () => this.#owner.hooks.emit('presence.left', { jid: session.jid, farewell }))
    }
    for (const to of departure?.directed ?? []) {
      if (hidden?.(to)) continue // it was refused, and an edge has told of it all the same (edge/sessions/showing.ts)
      commit.after(bare, () => this.#owner.send(readdress(farewell, { to }))) // §4.6.5
    }
    if (!was) return done()
    echo()
    this.#tellRouter(session, done)
  }

  /** Presence with `to` (§4.6). Throws resource-constraint where it could not be taken back later. */
  direct(presence: Stanza, session: BoundSession, done: Done): void {
    const { bare, full } = presence.from
    if (this.#coalescing.waiting(full) !== undefined) this.#flushOf(bare) // what was sent before it comes before it
    this.#resources.note(bare, (availability) => availability.direct(session.jid.resource, session.session, presence))
    this.#owner.commit.after(bare, () => this.#audiences.directed.send(presence, done))
  }

  #flushOf(account: string): void {
    this.#coalescing.flush((bare) => bare === account)
  }

  // --- to our accounts

  /** Presence without a type or of type unavailable: RFC 6121 §8.5.2.1.2 to a bare JID, §8.5.3.1 to a full one. */
  receive(presence: Stanza, account: Jid, done: Done): void {
    const { commit, multicast } = this.#owner
    const { bare } = account
    const resource = presence.to?.resource ?? ''
    if (resource === '') {
      const targets = [...this.#resources.available(bare)]
      commit.after(bare, () => multicast.fanOut(targets, presence, 'bare')) // not before an approval that is being stored (§3.1.6)
      return done()
    }
    const session = this.#resources.sessions.byResource(bare, resource)
    if (session === undefined) return this.#owner.toRouter(presence, account, done) // who is connected, and has said nothing here
    commit.after(bare, () => multicast.deliver(session, presence))
    done()
  }

  /**
   * §4.3.2: each available resource's presence, or that there is none, to whoever may see it. One who may not is told
   * `unsubscribed`, so that a server that thinks otherwise learns better.
   */
  answerProbe(probe: Stanza, account: Jid): void | Promise<void> {
    const ripening = this.#resources.ripen(account)
    if (ripening !== undefined) return ripening.then(() => this.answerProbe(probe, account))
    const { from, to } = probe
    return this.#resources.read(account, (items) => {
      if (from.bare !== account.bare && !seenBy(items.get(from.bare))) {
        this.#owner.send(stanza('presence', account, { to: bareOf(from), type: 'unsubscribed' }))
        return
      }
      const asked = to?.resource ?? '' // a probe of our own has no `to`
      const resources = this.#resources.shown(account.bare).filter(({ resource }) => asked === '' || resource === asked)
      for (const { presence } of resources) this.#owner.send(readdress(presence, { to: from }))
      if (resources.length === 0) this.#owner.send(stanza('presence', to ?? account, { to: from, type: 'unavailable' }))
    })
  }

  /** A session is gone. */
  closed(account: Jid, id: string, done: Done): void | Promise<void> {
    const session = this.#resources.sessions.byId(account.bare, id)
    if (session === undefined) {
      this.#owner.takeOver.noteEnded(id)
      return done()
    }
    const gone = (): void => {
      this.#resources.sessions.remove(session)
      done()
    }
    const leaving = this.#leave(session, stanza('presence', session.jid, { type: 'unavailable' }), NOTHING, NOTHING)
    return leaving === undefined ? gone() : leaving.then(gone)
  }

  /** The account is gone: its contacts see it leave. */
  async removeAll(account: Jid): Promise<void> {
    for (const session of [...this.#resources.sessions.of(account.bare)]) await this.closed(account, session.session, NOTHING)
  }
}

const NOTHING = (): void => {}
const NOBODY: RosterItems = new Map()
/** Each of them reads a roster. */
const MISSED_PACE: Pace = { atOnce: 50, pauseMs: 50 }
/** Full JIDs in one order to an edge; one has at most 3 KiB. */
const GONE_AT_ONCE = 300

// RFC 6121 §4: who sees an account's presence, and what of it goes where.
//
// The owner of a contact alone says who of the recorded watchers (watches.ts) sees him: those his roster entitles and his
// block list does not hide him from. He says so to edges, by `admit` and `revoke` on the numbered stream that his presence
// is on, so that a revoke is in force before the next presence. A change of his presence is then one delivery for each edge
// where anybody is admitted, whoever that is: nothing is looked up, and the roster not read. All that others are told waits
// for what the account has staged, in the order in which it came about.
import type { Watch } from '#core/envelope.ts'
import type { Hidden } from '#core/hooks.ts'
import type { ShownOptions } from '#core/module.ts'
import type { ShownTo } from '#core/multicast/multicast.ts'
import type { Counter } from '#core/observing/metrics.ts'
import type { Owner } from '#core/owner.ts'
import type { OfAccounts } from '#core/ownership/held.ts'
import type { BoundSession } from '#core/ownership/registry.ts'
import { type Jid, parseJid } from '#xmpp/jid.ts'
import { readdress, type Stanza, stanza } from '#xmpp/stanza.ts'
import { DirectedPresence } from './directed.ts'
import { Orders } from './orders.ts'
import type { Resources, RosterItems } from './resources.ts'
import { seenBy, sees } from './subscription.ts'
import { type WatchersAt, Watches } from './watches.ts'

type Done = () => void

/** Those of an edge who come to see an account, and those who do not see it any more. */
interface Settled {
  readonly place: WatchersAt
  readonly admitted: string[]
  readonly revoked: string[]
}

export class Audiences {
  readonly watches = new Watches()
  readonly orders: Orders
  readonly directed: DirectedPresence
  readonly #owner: Owner
  readonly #resources: Resources
  /** Contacts of other domains who may see an account that is online. Nearly none has any. */
  readonly #remote = new Map<string, readonly Jid[]>()
  /** Accounts of which it is not certain that those are admitted who should be (checking.ts). */
  readonly #doubtful = new Set<string>()
  readonly #shown: Counter

  constructor(owner: Owner, resources: Resources) {
    this.#owner = owner
    this.#resources = resources
    this.orders = new Orders(owner, resources)
    this.directed = new DirectedPresence(owner)
    const { metrics } = owner.process
    this.#shown = metrics.counter(
      'presence_shown_total',
      'Broadcasts, and events that modules publish, each counted once for every edge that it goes to.',
    )
    metrics.watch('presence_pairs', 'Watchers known to their contacts’ owner, once for each edge.', () => this.watches.size)
  }

  // --- what is shown

  /** To whoever sees the account, and to its own available resources (§4.2.2, §4.4.2, §4.5.2). */
  broadcast(account: string, presence: Stanza): void {
    this.#owner.commit.after(account, () => {
      this.#show(account, presence, '')
      this.directed.follow(presence, (watcher) => this.watches.of(account).some((place) => place.isAdmitted(watcher)))
      for (const to of this.#remote.get(account) ?? NONE) this.#owner.send(readdress(presence, { to }))
    })
  }

  #show(account: string, shown: Stanza, filter: string): void {
    const { multicast } = this.#owner
    const own = this.#resources.available(account)
    let left = own.length
    for (const { edge, admitted } of this.watches.of(account)) {
      if (admitted === 0) continue
      const sessions = idsAt(own, edge)
      left -= sessions.length
      multicast.shown(edge, account, shown, { sessions, filter })
      this.#shown.inc()
    }
    if (left === 0) return
    for (const edge of edgesOf(own)) {
      if ((this.watches.at(account, edge)?.admitted ?? 0) > 0) continue
      multicast.shown(edge, account, shown, { only: [], sessions: idsAt(own, edge), filter })
      this.#shown.inc()
    }
  }

  /** The last resource of the account is gone, and all have been told: nobody sees it any more. */
  revokeAll(account: string): void {
    this.#owner.commit.after(account, () => {
      this.#remote.delete(account)
      for (const place of this.watches.of(account)) {
        if (place.admitted === 0) continue
        place.revokeAll()
        this.#owner.multicast.revoke(place.edge, account, [])
      }
    })
  }

  /**
   * What a module publishes in the name of an account (XEP-0163 §4.3): to those who see it, or to those of `only` from whom it
   * is not hidden. Where it is not online, to the recorded watchers who may see it.
   */
  publish(account: Jid, shown: Stanza, { filter = '', only, others = false, at }: ShownOptions): void {
    const { bare } = account
    if (at !== undefined && only !== undefined)
      return this.#owner.commit.after(bare, () => {
        const place = this.watches.at(bare, at.edge)
        if (!only.some((watcher) => watcher === bare || place?.isAdmitted(watcher))) return // any more
        const to: ShownTo = at.session === '' ? { only, filter } : { only: [], sessions: [at.session], filter }
        this.#owner.multicast.shown(at.edge, bare, shown, to)
      })
    if (only === undefined && this.#resources.isOnline(bare) && !this.#doubtful.has(bare))
      return this.#owner.commit.after(bare, () => this.#show(bare, shown, filter))
    this.#owner.inOrder(bare, () =>
      this.#resources.read(account, (items, hidden) => {
        const chosen = only && new Set(only)
        const may = (watcher: string): boolean =>
          (chosen === undefined || others ? seenBy(items.get(watcher)) : true) &&
          chosen?.has(watcher) !== false &&
          !hidden?.(parseJid(watcher))
        this.#owner.commit.after(bare, () => this.#showSome(bare, shown, { filter, others }, may))
      }),
    )
  }

  #showSome(account: string, shown: Stanza, { filter, others }: ShownOptions, may: (watcher: string) => boolean): void {
    const own = others ? [] : this.#resources.available(account)
    const edges = new Set(edgesOf(own))
    for (const place of this.watches.of(account)) edges.add(place.edge)
    for (const edge of edges) {
      const only = [...(this.watches.at(account, edge)?.watchers() ?? [])].filter(may)
      const sessions = idsAt(own, edge)
      if (only.length + sessions.length > 0) this.#owner.multicast.shown(edge, account, shown, { only, sessions, filter })
    }
  }

  // --- who sees it

  /**
   * Of the recorded watchers those are admitted who may see the account, and no others. With `greets`, who comes to see it
   * is shown what there is; without, it comes behind this. Returns nothing: it is done when what was staged is durable.
   */
  settle(account: Jid, items: RosterItems, hidden: Hidden | undefined, greets: boolean): void {
    const { bare } = account
    this.#doubtful.delete(bare)
    const remote = [...items.values()].filter((item) => seenBy(item) && !this.#isLocal(item.jid)).map(({ jid }) => parseJid(jid))
    this.#owner.commit.after(bare, () => {
      if (remote.length > 0) this.#remote.set(bare, remote)
      else this.#remote.delete(bare)
      const news = this.watches
        .of(bare)
        .map((place) => settledAt(place, (watcher) => seenBy(items.get(watcher)) && !hidden?.(parseJid(watcher))))
      const shown = this.#resources.shown(bare)
      for (const { place, admitted, revoked } of news) {
        const { edge } = place
        for (const { presence } of revoked.length === 0 ? [] : shown)
          this.#owner.multicast.shown(edge, bare, farewellOf(presence), { only: revoked })
        if (revoked.length > 0) this.#owner.multicast.revoke(edge, bare, revoked)
        if (admitted.length > 0) this.#owner.multicast.admit(edge, bare, admitted)
        if (greets && admitted.length > 0)
          for (const { presence } of shown) this.#owner.multicast.shown(edge, bare, presence, { only: admitted })
      }
    })
  }

  /** Watchers who see the account and have never been told what it has published, because it was not online, are now (XEP-0163 §4.3.2). */
  catchUp(account: Jid): void {
    this.#owner.commit.after(account.bare, () => {
      const watchers: string[] = []
      for (const place of this.watches.of(account.bare))
        for (const watcher of place.watchers()) if (place.isAdmitted(watcher) && place.catchUp(watcher)) watchers.push(watcher)
      this.#tellPublished(account, watchers)
    })
  }

  #tellPublished(contact: Jid, watchers: readonly string[]): void {
    const { hooks } = this.#owner
    if (watchers.length > 0)
      this.#owner.inOrder(contact.bare, () =>
        hooks.emit('presence.greeted', { contact, watchers, at: undefined, nodes: undefined }),
      )
  }

  /** It is to be made certain who sees this account, before it shows anything. */
  doubt(account: string): void {
    this.#doubtful.add(account)
  }

  isDoubtful(account: string): boolean {
    return this.#doubtful.size > 0 && this.#doubtful.has(account)
  }

  /** Nobody has been told anything of the account but for what is on its way: it must be settled ahead of the first broadcast. */
  forget(gone: OfAccounts): void {
    this.watches.forget(gone)
    for (const account of this.#remote.keys()) if (gone(account)) this.#remote.delete(account)
    for (const account of this.#doubtful) if (gone(account)) this.#doubtful.delete(account)
  }

  /** One who sees the account is to see it no more: it is gone for him, and then nothing of it comes to him. The roster is staged already. */
  revoke(account: Jid, contact: Jid): void {
    const { commit, multicast } = this.#owner
    const { bare } = account
    const farewells = this.#resources.shown(bare).map(({ presence }) => farewellOf(presence))
    this.#resources.of(bare)?.forget(contact.bare)
    commit.after(bare, () => {
      this.#forgetRemote(bare, contact)
      const places = this.watches.of(bare).filter((place) => place.has(contact.bare))
      // Told by his account where he does not watch, or does not any more: whoever sees something will see it go.
      if (places.length === 0) for (const farewell of farewells) this.#owner.send(readdress(farewell, { to: contact }))
      for (const place of places) {
        place.revoke(contact.bare)
        for (const farewell of farewells) multicast.shown(place.edge, bare, farewell, { only: [contact.bare] })
        multicast.revoke(place.edge, bare, [contact.bare])
      }
      for (const farewell of farewells) this.directed.follow(farewell, (to) => to === contact.bare)
    })
  }

  #forgetRemote(account: string, contact: Jid): void {
    const remote = this.#remote.get(account)
    if (remote !== undefined)
      this.#remote.set(
        account,
        remote.filter(({ bare }) => bare !== contact.bare),
      )
  }

  /**
   * One who may see the account now, and perhaps watches it already, for his roster said so before: he is shown what there is. Most
   * do not: their own owner tells their edges to watch.
   */
  allow(account: Jid, contact: Jid): void {
    const { commit } = this.#owner
    const { bare } = account
    commit.after(bare, () => {
      if (!this.#resources.isOnline(bare)) return
      if (!this.#isLocal(contact.bare)) return this.#allowRemote(bare, contact)
      let missed = false
      for (const place of this.watches.of(bare)) {
        if (!place.has(contact.bare)) continue
        this.#greet(bare, place, contact.bare, { only: [contact.bare] })
        missed = place.catchUp(contact.bare) || missed
      }
      this.#tellPublished(account, missed ? [contact.bare] : [])
    })
  }

  #allowRemote(account: string, contact: Jid): void {
    const others = (this.#remote.get(account) ?? NONE).filter(({ bare }) => bare !== contact.bare)
    this.#remote.set(account, [...others, contact])
    for (const { presence } of this.#resources.shown(account)) this.#owner.send(readdress(presence, { to: contact }))
  }

  // --- what edges tell

  /** `done` when whoever is to be greeted has been, as far as that is for us to do. */
  receive(watch: Watch, done: Done): void {
    let open = 1
    const one = (): void => {
      if (--open === 0) done()
    }
    for (const contact of watch.contacts) {
      if (watch.unwatch) this.#unwatch(watch, contact)
      else if (watch.snapshot) {
        open++
        this.#owner.inOrder(contact, () => this.#snapshot(watch.edge, parseJid(contact), one))
      } else {
        if (contact !== watch.watcher) this.watches.add(contact, watch.edge, watch.watcher)
        if (!this.#resources.isOnline(contact)) continue
        open++
        this.#owner.inOrder(contact, () => this.#answer(watch, parseJid(contact), one))
      }
    }
    one()
  }

  /** Whatever is on its way to him is void. */
  #unwatch({ edge, watcher }: Watch, contact: string): void {
    if (this.watches.remove(contact, edge, watcher)) this.#owner.multicast.revoke(edge, contact, [watcher])
  }

  /** Where the contact is online: whoever may see him is shown what there is, or told what he has published. */
  #answer(watch: Watch, contact: Jid, done: Done): void | Promise<void> {
    const { edge, watcher, session, items } = watch
    const { bare } = contact
    const after = (answer: () => void): void => {
      this.#owner.commit.after(bare, answer)
      this.#owner.commit.after(bare, done)
    }
    const ripening = this.#resources.ripen(contact)
    if (ripening !== undefined) return ripening.then(() => this.#answer(watch, contact, done))
    const place = this.watches.at(bare, edge)
    const isKnown = bare === watcher || (place?.isAdmitted(watcher) === true && !this.isDoubtful(bare))
    if (items !== undefined) {
      if (!isKnown) return after(NOTHING)
      place?.catchUp(watcher)
      const greeted = { contact, watchers: [watcher], at: { edge, session }, nodes: items }
      return this.#owner.hooks.emit('presence.greeted', greeted)?.then(() => after(NOTHING)) ?? after(NOTHING)
    }
    const to: ShownTo = session === '' ? { only: [watcher] } : { only: [], sessions: [session] }
    if (isKnown) return after(() => place?.isAdmitted(watcher) && this.#greet(bare, place, watcher, to)) // unless what is staged takes that back
    return this.#resources.read(contact, (items, hidden) => {
      if (hidden?.(parseJid(watcher))) return after(NOTHING)
      if (!seenBy(items.get(watcher))) return after(() => this.#refuse(contact, watcher))
      after(() => this.#greet(bare, this.watches.at(bare, edge), watcher, to))
    })
  }

  /** §4.3.2, of a probe: his roster says that he may. */
  #refuse(contact: Jid, watcher: string): void {
    this.#owner.send(stanza('presence', contact, { to: parseJid(watcher), type: 'unsubscribed' }))
  }

  #greet(contact: string, place: WatchersAt | undefined, watcher: string, to: ShownTo): void {
    if (place?.has(watcher) !== true) return // who has left meanwhile
    const { multicast } = this.#owner
    if (place.admit(watcher)) multicast.admit(place.edge, contact, [watcher])
    for (const { presence } of this.#resources.shown(contact)) multicast.shown(place.edge, contact, presence, to)
  }

  /** An edge has lost what it was told of this contact: it is told all of it. */
  #snapshot(edge: string, contact: Jid, done: Done): void | Promise<void> {
    const ripening = this.#resources.ripen(contact)
    if (ripening !== undefined) return ripening.then(() => this.#snapshot(edge, contact, done))
    const { commit } = this.#owner
    const { bare } = contact
    const tell = (): void => {
      this.#tellAll(edge, bare)
      done()
    }
    if (!this.isDoubtful(bare)) return commit.after(bare, tell)
    return this.#resources.read(contact, (items, hidden) => {
      if (this.#resources.isOnline(bare)) this.settle(contact, items, hidden, true)
      commit.after(bare, tell)
    })
  }

  #tellAll(edge: string, contact: string): void {
    const { multicast } = this.#owner
    const place = this.watches.at(contact, edge)
    const shown = this.#resources.shown(contact)
    const sessions = idsAt(this.#resources.available(contact), edge)
    const admitted = place === undefined ? [] : [...place.watchers()].filter((watcher) => place.isAdmitted(watcher))
    if (admitted.length > 0) multicast.admit(edge, contact, admitted)
    if (admitted.length + sessions.length > 0)
      for (const { presence } of shown) multicast.shown(edge, contact, presence, { sessions })
    multicast.snapshot(
      edge,
      contact,
      shown.map(({ resource }) => resource),
    )
  }

  // --- whom an account watches

  /** What a session that has become available is to watch: whom it sees and does not hide from. Those of other domains are probed (§4.3.1). */
  watch(session: BoundSession, account: Jid, items: RosterItems, hidden: Hidden | undefined): void {
    const contacts: string[] = []
    const remote: Jid[] = []
    for (const item of items.values()) {
      if (!sees(item)) continue
      const contact = parseJid(item.jid)
      if (hidden?.(contact)) continue
      if (this.#isLocal(item.jid)) contacts.push(item.jid)
      else remote.push(contact)
    }
    this.#owner.commit.after(account.bare, () => {
      this.orders.watch(session, contacts, hidden?.resources ?? [])
      for (const to of remote) this.#owner.send(stanza('presence', session.jid, { to, type: 'probe' }))
    })
  }

  /** What the roster says of this contact has changed: whether its sessions are to watch him is said anew, in order with what the account does. */
  follow(account: Jid, contact: string): void {
    if (!this.#isLocal(contact)) return
    this.#owner.inOrder(account.bare, () =>
      this.#resources.read(account, (items, hidden) => {
        const wanted = sees(items.get(contact)) && !hidden?.(parseJid(contact))
        this.#owner.commit.after(account.bare, () => this.orders.all(account, wanted ? 'watch' : 'unwatch', [contact]))
      }),
    )
  }

  #isLocal(bare: string): boolean {
    return this.#owner.isLocal(bare.slice(bare.indexOf('@') + 1))
  }
}

/** That the resource which shows this is gone. */
export function farewellOf(presence: Stanza): Stanza {
  return stanza('presence', presence.from, { type: 'unavailable' })
}

function settledAt(place: WatchersAt, may: (watcher: string) => boolean): Settled {
  const admitted: string[] = []
  const revoked: string[] = []
  for (const watcher of place.watchers()) {
    if (may(watcher)) {
      if (place.admit(watcher)) admitted.push(watcher)
    } else if (place.revoke(watcher)) revoked.push(watcher)
  }
  return { place, admitted, revoked }
}

function idsAt(sessions: readonly BoundSession[], edge: string): readonly string[] {
  const ids: string[] = []
  for (const session of sessions) if (session.edge === edge) ids.push(session.session)
  return ids
}

function edgesOf(sessions: readonly BoundSession[]): ReadonlySet<string> {
  return new Set(sessions.map(({ edge }) => edge))
}

const NONE: readonly Jid[] = []
const NOTHING = (): void => {}

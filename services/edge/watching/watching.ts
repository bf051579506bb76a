// What this edge and the owners of presence say to each other of who sees whom here (edge/watching/audience.ts).
//
//   owner of a watcher   ── order `watch`    { account, contacts, whole? } ──▶  a session, or '' for those that watch already
//                        ── order `unwatch`  { account, contacts }         ──▶
//                        ── order `hides`    { account, jids }             ──▶
//   owner of a contact   ◀── envelope `watch`, one for each owner, on the lanes ──
//                        ── `admit`, `revoke`, `shown`, `snapshot`         ──▶
//
// Lists in orders are joined by newlines. What a contact shows is one payload for all, and the one loop here is what presence
// costs an edge.
import type { Clock } from '#core/clock.ts'
import type { Delivery, Fields, Shown } from '#core/envelope.ts'
import type { Lanes } from '#core/lanes/lane.ts'
import type { Counter } from '#core/observing/metrics.ts'
import type { Ownership } from '#core/ownership/ownership.ts'
import type { Process } from '#core/process.ts'
import { parseJid, withResource } from '#xmpp/jid.ts'
import { stanza } from '#xmpp/stanza.ts'
import type { EdgeSession } from '../sessions/session.ts'
import { Audience, type Gone, type WatchNews } from './audience.ts'
import { Broadcast } from './broadcast.ts'

/** Contacts in one envelope: a bare JID is at most 2 KiB, a body 1 MiB. */
const CONTACTS_MAX = 300

type Order = Delivery & { readonly kind: 'order' }

export class Watching {
  /** A session watches its contacts from now on. */
  onWatched: (session: EdgeSession) => void = () => {}
  readonly audience = new Audience<EdgeSession>((news) => this.submit(news))
  readonly #edge: string
  readonly #clock: Clock
  readonly #ownership: Ownership
  readonly #lanes: Lanes
  readonly #sessions: ReadonlyMap<string, EdgeSession>
  readonly #deliveries: Counter

  constructor({ id, clock, ownership, metrics }: Process, lanes: Lanes, sessions: ReadonlyMap<string, EdgeSession>) {
    this.#edge = id
    this.#clock = clock
    this.#ownership = ownership
    this.#lanes = lanes
    this.#sessions = sessions
    this.#deliveries = metrics.counter(
      'presence_deliveries_total',
      'Broadcast presence handed to sessions of this edge: written, kept for their streams, or held back while their clients are inactive.',
    )
    const { audience } = this
    metrics.watch('presence_watches', 'Pairs of a watcher and a contact at this edge.', () => audience.pairs)
    metrics.watch('presence_admitted', 'Those of them that the owner of the contact has admitted.', () => audience.admitted)
  }

  /** To the owners of the contacts. */
  submit(news: WatchNews): void {
    for (const contacts of this.#byOwner(news.contacts)) {
      for (let at = 0; at < contacts.length; at += CONTACTS_MAX) {
        const part = contacts.length <= CONTACTS_MAX ? contacts : contacts.slice(at, at + CONTACTS_MAX)
        this.#lanes.send('presence', part[0]!, { kind: 'watch', edge: this.#edge, ...news, contacts: part })
      }
    }
  }

  #byOwner(contacts: readonly string[]): Iterable<readonly string[]> {
    if (this.#ownership.ownersOf('presence').length === 1 && this.#ownership.owns('presence', contacts[0]!)) return [contacts]
    const parts = new Map<string, string[]>()
    for (const contact of contacts) {
      const owner = this.#ownership.ownerOf('presence', contact)
      const part = parts.get(owner)
      if (part === undefined) parts.set(owner, [contact])
      else part.push(contact)
    }
    return parts.values()
  }

  /** The session has gone unavailable, or ended. */
  leave(session: EdgeSession): void {
    this.audience.leave(session.jid.bare, session)
  }

  /** It is known now that the session's client wants events of these nodes (XEP-0163 §4.3.2). */
  learned(session: EdgeSession, nodes: readonly string[]): void {
    const { bare } = session.jid
    if (this.audience.isWatching(bare, session)) this.#askForItems(session, nodes, [bare, ...this.audience.contactsOf(bare)])
  }

  #askForItems(session: EdgeSession, items: readonly string[], contacts: readonly string[]): void {
    if (items.length > 0 && contacts.length > 0) this.submit({ watcher: session.jid.bare, session: session.id, items, contacts })
  }

  /** False where the order is not about this. */
  order({ session: id, name, fields }: Order): boolean {
    const account = String(fields.account)
    if (name === 'watch') this.#watch(account, id, fields)
    else if (name === 'unwatch') this.audience.unwatch(account, listOf(fields.contacts))
    else if (name === 'hides') this.audience.hide(account, listOf(fields.jids))
    else return false
    return true
  }

  #watch(account: string, id: string, fields: Fields): void {
    const session = this.#sessions.get(id)
    const watching = session?.present === true ? session : undefined // else it has gone since its owner heard of it
    const isNew = watching !== undefined && !this.audience.isWatching(account, watching)
    const { sessions, contacts } = this.audience.watch(account, watching, listOf(fields.contacts), fields.whole === true)
    for (const greeted of sessions) {
      const { notifies } = greeted
      if (notifies !== undefined) this.#askForItems(greeted, notifies, isNew ? [account, ...contacts] : contacts)
    }
    if (isNew) this.onWatched(watching)
  }

  /** A presence that has waited while its client was inactive is sent. */
  sentLate(): void {
    this.#deliveries.inc()
  }

  /** What the owner of a contact says. */
  receive(delivery: Delivery & { readonly kind: 'shown' | 'admit' | 'revoke' | 'snapshot' }): void {
    switch (delivery.kind) {
      case 'shown':
        return this.#show(delivery)
      case 'admit':
        return this.audience.admit(delivery.contact, delivery.watchers)
      case 'revoke':
        if (delivery.watchers.length > 0) return this.audience.revoke(delivery.contact, delivery.watchers)
        return this.#tellAllGone(delivery.contact, this.audience.revokeAll(delivery.contact))
      case 'snapshot':
        return this.#tellAllGone(delivery.contact, this.audience.snapshot(delivery.contact, delivery.resources))
    }
  }

  #show(shown: Shown): void {
    const { audience } = this
    const { contact, filter, stanza, sessions } = shown
    const out = new Broadcast(stanza, this.#clock)
    out.isNew = audience.note(shown)
    let count = 0
    const show = (session: EdgeSession): void => {
      if (filter !== '' && !session.wants(filter)) return
      if (session.show(out)) count++
    }
    audience.forEach(shown, show)
    for (let i = 0; i < sessions.length; i++) {
      const session = this.#sessions.get(sessions[i]!)
      if (session?.present !== true || audience.isHidden(session.jid.bare, stanza.from.full)) continue
      if (stanza.type !== 'unavailable' && !audience.sees(session.jid.bare, contact)) continue // it was to be greeted
      if (session.held && session.jid.full === stanza.from.full) session.held = false
      show(session)
    }
    if (stanza.name === 'presence') this.#deliveries.inc(count)
  }

  /** These full JIDs are gone, and nobody was there to say so. */
  lose(jids: readonly string[]): void {
    for (const full of jids) {
      const { bare, resource } = parseJid(full)
      this.#tellGone(bare, resource, this.audience.lose(bare, resource))
    }
  }

  #tellAllGone(contact: string, gone: readonly Gone<EdgeSession>[]): void {
    for (const { resource, from } of gone) this.#tellGone(contact, resource, from)
  }

  #tellGone(contact: string, resource: string, sessions: readonly EdgeSession[]): void {
    if (sessions.length === 0) return
    const out = new Broadcast(stanza('presence', withResource(parseJid(contact), resource), { type: 'unavailable' }), this.#clock)
    for (const session of sessions) session.show(out)
  }
}

/** '' is of none. */
export function listOf(text: Fields[string]): readonly string[] {
  return text === undefined || text === '' ? [] : String(text).split('\n')
}

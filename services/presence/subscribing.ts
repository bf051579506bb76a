// RFC 6121 §3: what a subscription stanza does, once subscription.ts has said what it means.
//
// What changes is staged first; whatever others are told follows, in the order of the RFC, when it is durable: a task
// whose table is away is run again, and nobody may hear of a change twice, nor of one that a crash undoes. Meanwhile the
// account goes on. So `unavailable` is made when the right to see presence ends, for the resources there are then: none
// of what they send later goes to that contact any more. The presence for a new watcher is the one at the time he gets it.
//
// Subscriptions are the accounts' own; what groups give stands beside them (roster.ts). So a right to see that is taken back
// ends with no `unavailable` where a group gives it still, and one that a group gives is asked for in vain: it is there.
import { errorOf } from '#core/answer.ts'
import type { Origin } from '#core/envelope.ts'
import type { Owner } from '#core/owner.ts'
import { StanzaError } from '#xmpp/error.ts'
import { bareOf, type Jid, parseJid } from '#xmpp/jid.ts'
import { readdress, type Stanza, stanza } from '#xmpp/stanza.ts'
import type { Presences } from './presences.ts'
import type { Rosters } from './roster.ts'
import { pendingOf } from './roster-item.ts'
import {
  type Farewell,
  farewell,
  type InboundChange,
  inbound,
  type OutboundChange,
  outbound,
  type SubscriptionType,
} from './subscription.ts'

export class Subscribing {
  readonly #owner: Owner
  readonly #rosters: Rosters
  readonly #presences: Presences

  constructor(owner: Owner, rosters: Rosters, presences: Presences) {
    this.#owner = owner
    this.#rosters = rosters
    this.#presences = presences
    rosters.onFarewell = (account, contact, farewell) => this.#sayFarewell(account, contact, farewell)
  }

  /**
   * From one of our sessions; addresses become bare (§3.1.2). `done` when the contact's owner has it. What cannot be
   * handed on is answered to that session: an error to the bare JID would be shown to nobody.
   */
  async outbound(presence: Stanza, type: SubscriptionType, origin: Origin, done: () => void): Promise<void> {
    const account = bareOf(presence.from)
    const contact = bareOf(presence.to!)
    if (contact.bare === account.bare) return done() // oneself is seen without
    const { sees, isSeen } = await this.#rosters.byGroups(account, contact)
    const before = await this.#rosters.readOwn(account, (items) => items.get(contact.bare))
    // Whom a group has him see he need not ask; the contact's server answers for him.
    const change: OutboundChange =
      sees && type === 'subscribe' ? { after: before, push: false, route: true } : outbound(before, contact.bare, type)
    if (change.after !== before) await this.#rosters.change(account, contact.bare, change.after, change.push)
    const leave = change.presence === 'send-unavailable' && !isSeen ? this.#leaveFrom(account, contact) : []
    const release = (): void => {
      for (const unavailable of leave) this.#owner.send(unavailable) // §3.2.2: before the stanza
      if (!change.route) return done()
      if (!this.#owner.isLocal(contact.domain)) {
        this.#owner.reply(errorOf(presence, new StanzaError('remote-server-not-found'))!, origin)
        return done()
      }
      this.#owner.send(readdress(presence, { from: account, to: contact }), done)
      if (change.presence === 'send-presence') this.#showTo(account, contact)
    }
    this.#owner.commit.after(account.bare, release)
  }

  /** To one of our accounts. */
  async inbound(presence: Stanza, type: SubscriptionType, account: Jid, done: () => void): Promise<void> {
    const contact = bareOf(presence.from)
    if (contact.bare === account.bare) return done()
    const { isSeen } = await this.#rosters.byGroups(account, contact)
    const before = await this.#rosters.readOwn(account, (items) => items.get(contact.bare))
    const change: InboundChange =
      isSeen && type === 'subscribe'
        ? { after: before, push: false, deliver: false, autoReply: 'subscribed', presence: 'send-presence' }
        : inbound(before, contact.bare, type, type === 'subscribe' ? pendingOf(presence) : undefined)
    if (change.after !== before) await this.#rosters.change(account, contact.bare, change.after, change.push)
    if (change.deliver) {
      const shown = readdress(presence, { from: contact, to: account })
      const targets = type === 'subscribe' ? [...this.#presences.available(account.bare)] : this.#rosters.interested(account)
      this.#owner.commit.after(account.bare, () => this.#owner.multicast.fanOut(targets, shown, 'kept'))
    }
    if (change.autoReply !== undefined) {
      this.#owner.commit.after(account.bare, () =>
        this.#owner.send(stanza('presence', account, { to: contact, type: 'subscribed' })),
      ) // §3.4.3
    }
    const leave = change.presence === 'send-unavailable' && !isSeen ? this.#leaveFrom(account, contact) : []
    this.#owner.commit.after(account.bare, () => {
      for (const unavailable of leave) this.#owner.send(unavailable)
      if (change.presence === 'send-presence') this.#showTo(account, contact)
    })
    this.#owner.commit.after(account.bare, done)
  }

  /** The current presence of each resource, to a contact who may see it now. */
  #showTo(account: Jid, contact: Jid): void {
    for (const { presence } of this.#presences.of(account.bare)?.available() ?? [])
      this.#owner.send(readdress(presence, { to: contact }))
  }

  /** What tells a contact who may see presence no longer that each available resource is gone: to be sent to him. */
  #leaveFrom(account: Jid, contact: Jid): readonly Stanza[] {
    const availability = this.#presences.of(account.bare)
    if (availability === undefined) return []
    const leave = availability
      .available()
      .map(({ presence }) => stanza('presence', presence.from, { to: contact, type: 'unavailable' }))
    availability.forget(contact.bare)
    return leave
  }

  #sayFarewell(account: Jid, contact: Jid, { types, presence }: Farewell): void {
    const leave = presence === undefined ? [] : this.#leaveFrom(account, contact)
    this.#owner.commit.after(account.bare, () => {
      for (const unavailable of leave) this.#owner.send(unavailable)
      for (const type of types) this.#owner.send(stanza('presence', account, { to: contact, type }))
    })
  }

  /** XEP-0077 §3.2: the account goes; every contact is told, and loses it (RFC 6121 §2.5.2), and so does every group. */
  async leaveAll(account: Jid): Promise<void> {
    const items = await this.#rosters.readOwn(account, (items) => [...items.values()])
    for (const item of items) this.#sayFarewell(account, parseJid(item.jid), farewell(item))
    await this.#rosters.leaveGroups(account)
  }
}

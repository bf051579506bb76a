// RFC 6121 §3: what a subscription stanza does, once subscription.ts has said what it means.
//
// What changes is staged first; whatever others are told follows, in the order of the RFC, when it is durable: a task
// whose table is away is run again, and nobody may hear of a change twice, nor of one that a crash undoes. Meanwhile the
// account goes on. So `unavailable` is made when the right to see presence ends, for the resources there are then: none
// of what they send later goes to that contact any more. A contact who may see presence from now on hears so, and his owner has
// his edges watch: what he is shown then is the presence at the time (audiences.ts).
//
// Subscriptions are the accounts' own; what groups give stands beside them (roster.ts). So a right to see that is taken back
// ends with no `unavailable` where a group gives it still, and one that a group gives is asked for in vain: it is there.
import { errorOf } from '#core/answer.ts'
import type { Origin } from '#core/envelope.ts'
import type { Owner } from '#core/owner.ts'
import { StanzaError } from '#xmpp/error.ts'
import { bareOf, type Jid, parseJid } from '#xmpp/jid.ts'
import { readdress, type Stanza, stanza } from '#xmpp/stanza.ts'
import type { Audiences } from './audiences.ts'
import type { Resources } from './resources.ts'
import { pendingOf } from './roster/roster-item.ts'
import type { Rosters } from './roster.ts'
import {
  type Change,
  type Farewell,
  farewell,
  type InboundChange,
  inbound,
  type OutboundChange,
  outbound,
  type SubscriptionType,
  sees,
} from './subscription.ts'

export class Subscribing {
  readonly #owner: Owner
  readonly #rosters: Rosters
  readonly #resources: Resources
  readonly #audiences: Audiences

  constructor(owner: Owner, rosters: Rosters, resources: Resources, audiences: Audiences) {
    this.#owner = owner
    this.#rosters = rosters
    this.#resources = resources
    this.#audiences = audiences
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
    const byGroups = await this.#rosters.byGroups(account, contact)
    const before = await this.#rosters.readOwn(account, (items) => items.get(contact.bare))
    // Whom a group has him see he need not ask; the contact's server answers for him.
    const change: OutboundChange =
      byGroups.sees && type === 'subscribe' ? { after: before, push: false, route: true } : outbound(before, contact.bare, type)
    if (change.after !== before) await this.#rosters.change(account, contact.bare, change.after, change.push)
    if (change.presence === 'send-unavailable' && !byGroups.isSeen) this.#audiences.revoke(account, contact) // §3.2.2: before the stanza
    const handedOn = (): void => {
      done()
      if (sees(before) && !sees(change.after)) this.#audiences.follow(account, contact.bare) // whom he has heard from first
    }
    const isLocal = this.#owner.isLocal(contact.domain)
    this.#owner.commit.after(account.bare, () => {
      if (!change.route) return done()
      if (isLocal) return this.#owner.send(readdress(presence, { from: account, to: contact }), handedOn)
      this.#owner.reply(errorOf(presence, new StanzaError('remote-server-not-found'))!, origin)
      done()
    })
    if (isLocal) this.#show(account, contact, change)
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
      const targets = type === 'subscribe' ? [...this.#resources.available(account.bare)] : this.#rosters.interested(account)
      this.#owner.commit.after(account.bare, () => this.#owner.multicast.fanOut(targets, shown, 'kept'))
    }
    if (change.autoReply !== undefined) {
      this.#owner.commit.after(account.bare, () =>
        this.#owner.send(stanza('presence', account, { to: contact, type: 'subscribed' })),
      ) // §3.4.3
    }
    if (change.presence === 'send-unavailable' && !isSeen) this.#audiences.revoke(account, contact)
    this.#show(account, contact, change)
    if (sees(before) !== sees(change.after) || type === 'subscribed') this.#audiences.follow(account, contact.bare)
    this.#owner.commit.after(account.bare, done)
  }

  /**
   * Whoever may see the account and watches it is shown what there is; one who could all along has lost what he was shown (§3.1.3).
   * One who does not watch it yet will be greeted when he does.
   */
  #show(account: Jid, contact: Jid, { presence: duty }: Change): void {
    if (duty === 'send-presence') this.#audiences.allow(account, contact)
  }

  #sayFarewell(account: Jid, contact: Jid, { types, presence }: Farewell): void {
    if (presence !== undefined) this.#audiences.revoke(account, contact)
    this.#owner.commit.after(account.bare, () => {
      for (const type of types) {
        const heard = type === 'unsubscribe' ? () => this.#audiences.follow(account, contact.bare) : undefined
        this.#owner.send(stanza('presence', account, { to: contact, type }), heard)
      }
    })
  }

  /** XEP-0077 §3.2: the account goes; every contact is told, and loses it (RFC 6121 §2.5.2), and so does every group. */
  async leaveAll(account: Jid): Promise<void> {
    const items = await this.#rosters.readOwn(account, (items) => [...items.values()])
    for (const item of items) this.#sayFarewell(account, parseJid(item.jid), farewell(item))
    await this.#rosters.leaveGroups(account)
  }
}

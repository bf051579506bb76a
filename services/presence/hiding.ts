// XEP-0191 §3.3, §3.4: a module hides an account from others than before (`audience.changed`).
//
// Whoever was entitled to see the account sees it go, or sees it as it is; what the account sees of those it hides from goes,
// too (XEP-0016 §2.10), or is watched again. A full JID that is hidden from is one resource: to its account the presence still
// goes, and of its account's resources this one alone is not wanted. With the table away nothing has been sent, and all this
// is called again.
import type { Events, Hidden } from '#core/hooks.ts'
import type { Owner } from '#core/owner.ts'
import { type Jid, parseJid, withResource } from '#xmpp/jid.ts'
import { readdress, stanza } from '#xmpp/stanza.ts'
import { type Audiences, farewellOf } from './audiences.ts'
import type { Resources, RosterItems } from './resources.ts'
import { seenBy, sees } from './subscription.ts'

type News = Events['audience.changed']

export class Hiding {
  readonly #owner: Owner
  readonly #resources: Resources
  readonly #audiences: Audiences

  constructor(owner: Owner, resources: Resources, audiences: Audiences) {
    this.#owner = owner
    this.#resources = resources
    this.#audiences = audiences
    owner.hooks.on('presence', 'audience.changed', (news) => this.#changed(news))
  }

  #changed(news: News): void | Promise<void> {
    const ripening = this.#resources.ripen(news.account)
    if (ripening !== undefined) return ripening.then(() => this.#changed(news))
    const { account, changed, before, after } = news
    return this.#resources.read(account, (items) => {
      if (before.resources?.length || after.resources?.length)
        this.#owner.commit.after(account.bare, () => this.#audiences.orders.hides(account, after.resources ?? NOBODY))
      for (const contact of concerned(changed, items)) {
        const hides = after(contact)
        if (contact.bare === account.bare || before(contact) === hides) continue
        const item = items.get(contact.bare)
        if (seenBy(item)) this.#show(account, contact, hides)
        if (hides) this.#unwatch(account, contact)
        else if (sees(item)) this.#watch(account, contact)
      }
      this.#takeBack(account, (peer) => after(peer) && !before(peer))
    })
  }

  /** The account to the contact. */
  #show(account: Jid, contact: Jid, hides: boolean): void {
    if (contact.resource === '') return hides ? this.#audiences.revoke(account, contact) : this.#audiences.allow(account, contact)
    for (const { presence } of this.#resources.shown(account.bare)) {
      const shown = readdress(hides ? farewellOf(presence) : presence, { to: contact })
      this.#owner.commit.after(account.bare, () => this.#owner.send(shown))
    }
  }

  /**
   * The contact to the account: it is gone, whoever it is. One whom its roster does not have it see may have shown himself by
   * directed presence (§4.6), and says nothing of it any more that would come here.
   */
  #unwatch(account: Jid, contact: Jid): void {
    const { commit, multicast } = this.#owner
    const { orders } = this.#audiences
    commit.after(account.bare, () => {
      if (this.#isWhole(contact)) orders.all(account, 'unwatch', [contact.bare])
      const gone = stanza('presence', contact, { type: 'unavailable' })
      multicast.fanOut([...this.#resources.available(account.bare)], gone, 'bare')
    })
  }

  #watch(account: Jid, contact: Jid): void {
    const { orders } = this.#audiences
    this.#owner.commit.after(account.bare, () => {
      if (this.#isWhole(contact)) return orders.all(account, 'watch', [contact.bare])
      for (const { jid } of this.#resources.available(account.bare))
        this.#owner.send(stanza('presence', jid, { to: contact, type: 'probe' }))
    })
  }

  /** An account of ours, with all its resources. */
  #isWhole({ domain, resource }: Jid): boolean {
    return resource === '' && this.#owner.isLocal(domain)
  }

  /** Directed presence, from those who may no longer have it. */
  #takeBack(account: Jid, from: Hidden): void {
    if (this.#resources.of(account.bare) === undefined) return
    for (const { resource, to } of this.#resources.note(account.bare, (availability) => availability.takeBack(from))) {
      const gone = stanza('presence', withResource(account, resource), { to, type: 'unavailable' })
      this.#owner.commit.after(account.bare, () => this.#owner.send(gone))
    }
  }
}

const NOBODY: readonly string[] = []

/** Whom a change of the audience may concern: the addresses named, and of a domain the contacts there. */
function concerned(changed: readonly Jid[], items: RosterItems): Iterable<Jid> {
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

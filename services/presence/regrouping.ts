// What a change of the groups means for presence: who may see an account by one from now on is shown it, and who may no longer
// sees it go (RFC 6121 §3.1.5, §3.2.2, without the stanzas of a subscription: nobody has asked).
//
// It is the owner of whoever is seen that tells, once for all his contacts: what he broadcasts goes by the groups already.
import type { Owner } from '#core/owner.ts'
import { type Jid, parseJid } from '#xmpp/jid.ts'
import { stanza } from '#xmpp/stanza.ts'
import type { RosterView } from './merged-roster.ts'
import type { Presences } from './presences.ts'
import type { Rosters } from './roster.ts'
import { seenBy } from './subscription.ts'

export class Regrouping {
  readonly #owner: Owner
  readonly #rosters: Rosters
  readonly #presences: Presences

  constructor(owner: Owner, rosters: Rosters, presences: Presences) {
    this.#owner = owner
    this.#rosters = rosters
    this.#presences = presences
    rosters.onRegrouped = (account, contacts, before) =>
      owner.inOrder(account.bare, () => this.#regrouped(account, contacts, before))
  }

  async #regrouped(account: Jid, contacts: ReadonlySet<string>, before: RosterView): Promise<void> {
    const hidden = await this.#owner.hooks.hidden(account)
    await this.#rosters.read(account, (after) => {
      const gained: string[] = []
      const lost: string[] = []
      for (const contact of contacts) {
        const sees = seenBy(after.get(contact))
        if (sees === seenBy(before.get(contact)) || hidden?.(parseJid(contact))) continue
        if (sees) gained.push(contact)
        else lost.push(contact)
      }
      this.#tell(account, gained, lost)
    })
  }

  #tell(account: Jid, gained: readonly string[], lost: readonly string[]): void {
    const availability = this.#presences.of(account.bare)
    if (availability === undefined) return
    const resources = [...availability.available()]
    for (const contact of lost) availability.forget(contact)
    this.#owner.commit.after(account.bare, () => {
      for (const { presence } of resources) {
        if (gained.length > 0) this.#owner.fanOut(presence, gained)
        if (lost.length > 0) this.#owner.fanOut(stanza('presence', presence.from, { type: 'unavailable' }), lost)
      }
    })
  }
}

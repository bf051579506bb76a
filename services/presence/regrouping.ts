// What a change of the groups means for presence: who may see an account by one from now on is shown it, and who may no longer
// sees it go (RFC 6121 §3.1.5, §3.2.2, without the stanzas of a subscription: nobody has asked).
//
// The owner of whoever is seen settles it anew, once for all who watch; also for those who may see it because everybody may, and
// are in no list. The owner of whoever comes to see somebody has his edges watch. Whom somebody sees no more he goes on
// watching, in vain, until his sessions end or are told anew: the other one's owner must find him, to have him see them go.
import type { Owner } from '#core/owner.ts'
import { type Jid, parseJid } from '#xmpp/jid.ts'
import type { Audiences } from './audiences.ts'
import type { Resources } from './resources.ts'
import type { RosterView } from './roster/merged-roster.ts'
import type { Rosters } from './roster.ts'
import { sees } from './subscription.ts'

export class Regrouping {
  readonly #owner: Owner
  readonly #resources: Resources
  readonly #audiences: Audiences

  constructor(owner: Owner, rosters: Rosters, resources: Resources, audiences: Audiences) {
    this.#owner = owner
    this.#resources = resources
    this.#audiences = audiences
    rosters.onRegrouped = (account, contacts, before) =>
      owner.inOrder(account.bare, () => this.#regrouped(account, contacts, before))
  }

  async #regrouped(account: Jid, contacts: ReadonlySet<string>, before: RosterView): Promise<void> {
    if (!this.#resources.isOnline(account.bare)) return
    await this.#resources.ripen(account)
    await this.#resources.read(account, (after, hidden) => {
      const gained = [...contacts].filter(
        (contact) => sees(after.get(contact)) && !sees(before.get(contact)) && !hidden?.(parseJid(contact)),
      )
      this.#audiences.settle(account, after, hidden, true)
      this.#owner.commit.after(account.bare, () => this.#audiences.orders.all(account, 'watch', gained))
    })
  }
}

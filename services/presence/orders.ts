// What the owner of an account tells the edges that its sessions are at, of whom these watch (edge/watching/audience.ts).
//
//   watch    account, contacts, whole?   the session that is named watches these from here on; where none is, all of the
//                                        account there do; whole: and nobody else
//   unwatch  account, contacts           none of them watches these
//   hides    account, jids               full JIDs whose presence the account does not want: in place of those told before
//
// Lists are texts, a line for each.
import type { Owner } from '#core/owner.ts'
import type { BoundSession } from '#core/ownership/registry.ts'
import type { Jid } from '#xmpp/jid.ts'
import type { Resources } from './resources.ts'

/** What goes in one order: a bare JID has at most 2 KiB, a body 1 MiB. */
const UNITS_AT_ONCE = 256 * 1024

export class Orders {
  readonly #owner: Owner
  readonly #resources: Resources

  constructor(owner: Owner, resources: Resources) {
    this.#owner = owner
    this.#resources = resources
  }

  /** A session has become available, and watches these contacts: it is told also where there are none. */
  watch({ edge, session, jid }: BoundSession, contacts: readonly string[], hides: readonly string[]): void {
    if (hides.length > 0) this.#hides(edge, jid.bare, hides)
    this.#tell(edge, session, 'watch', jid.bare, contacts, true)
  }

  /** To all edges where the account has available sessions. */
  all(account: Jid, name: 'watch' | 'unwatch', contacts: readonly string[]): void {
    if (contacts.length === 0) return
    for (const edge of this.#edgesOf(account)) this.#tell(edge, '', name, account.bare, contacts)
  }

  /** The same of full JIDs whose presence is not wanted. */
  hides(account: Jid, jids: readonly string[]): void {
    for (const edge of this.#edgesOf(account)) this.#hides(edge, account.bare, jids)
  }

  #edgesOf({ bare }: Jid): ReadonlySet<string> {
    return new Set(this.#resources.available(bare).map(({ edge }) => edge))
  }

  #hides(edge: string, account: string, jids: readonly string[]): void {
    this.#owner.multicast.order({ edge, session: '' }, 'hides', { account, jids: jids.join('\n') })
  }

  #tell(edge: string, session: string, name: string, account: string, contacts: readonly string[], whole = false): void {
    const text = contacts.join('\n')
    if (text.length <= UNITS_AT_ONCE || contacts.length === 1)
      return this.#owner.multicast.order({ edge, session }, name, { account, contacts: text, ...(whole && { whole }) })
    const middle = contacts.length >> 1
    for (const part of [contacts.slice(0, middle), contacts.slice(middle)]) this.#tell(edge, session, name, account, part)
  }
}

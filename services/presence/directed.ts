// Directed presence on its way to local accounts (RFC 6121 §4.6).
//
// It takes a longer way than what is broadcast: past the owner of whom it is for. So a broadcast may overtake it, and he would see
// last what was said first (RFC 6120 §10.1). Whatever is broadcast meanwhile follows it on that way, too.
import type { Owner } from '#core/owner.ts'
import type { Jid } from '#xmpp/jid.ts'
import { readdress, type Stanza } from '#xmpp/stanza.ts'

interface OnItsWay {
  readonly to: Jid
  /** How many are not handled there yet. */
  open: number
}

export class DirectedPresence {
  readonly #owner: Owner
  /** By full JID of the resource, and of the address. Nearly always empty. */
  readonly #resources = new Map<string, Map<string, OnItsWay>>()

  constructor(owner: Owner) {
    this.#owner = owner
  }

  /** `done` when the owner of whom it is for has handled it. */
  send(presence: Stanza, done: () => void): void {
    const { from, to } = presence
    if (to === undefined || !this.#owner.isLocal(to.domain)) return this.#owner.send(presence, done)
    const known = this.#resources.get(from.full) ?? new Map<string, OnItsWay>()
    this.#resources.set(from.full, known)
    const directed = known.get(to.full) ?? { to, open: 0 }
    known.set(to.full, directed)
    directed.open++
    this.#owner.send(presence, () => {
      if (--directed.open === 0 && known.delete(to.full) && known.size === 0) this.#resources.delete(from.full)
      done()
    })
  }

  /** What these are shown otherwise is sent to them behind what is on its way to them. */
  follow(presence: Stanza, isFor: (bare: string) => boolean): void {
    for (const { to } of [...(this.#resources.get(presence.from.full)?.values() ?? [])])
      if (isFor(to.bare)) this.send(readdress(presence, { to }), () => {})
  }
}

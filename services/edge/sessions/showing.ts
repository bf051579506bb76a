// What a session has shown others of itself, as far as its owner has handled that (RFC 6121 §4), and whom it has been shown by
// directed presence: the one copy that outlives the owners. A new one learns it from here (edge/resync.ts), and so knows what
// contacts see, and who is seen that is gone. What a session sees of its contacts the audience knows (edge/watching/audience.ts); of
// its account's other resources, those that were there before it came to it as directed presence does.
import { partitionOf } from '#core/ownership/ownership.ts'
import { knownPriority } from '#core/priority.ts'
import type { Jid } from '#xmpp/jid.ts'
import type { Stanza } from '#xmpp/stanza.ts'

/** Of directed presence; the owner refuses more than so many (presence/availability.ts). */
const DIRECTED_MAX = 1_000
/** All of them in one part of an answer, with much else. */
const DIRECTED_UNITS_MAX = 64 * 1024
const NOBODY: readonly Jid[] = []

export class Showing {
  /** The presence last broadcast; undefined while it is not available. */
  broadcast: Stanza | undefined = undefined
  /** By full JID; undefined while there is none. */
  #directed: Map<string, Jid> | undefined
  #units = 0
  /** Full JIDs that it sees as available, and their partitions: many are asked for one. Undefined while there is none. */
  #seen: Map<string, number> | undefined

  /** To whom it has sent directed presence and not taken it back (§4.6). */
  get directed(): readonly Jid[] {
    return this.#directed === undefined ? NOBODY : [...this.#directed.values()]
  }

  /** A presence of the client's that is handled, available or unavailable. It is kept as it is. */
  note(presence: Stanza): void {
    const { to, type } = presence
    if (to === undefined) {
      if (type === '' && knownPriority(presence) === undefined) return // §4.7.2.3: refused, and the one before it stands
      this.broadcast = type === '' ? presence : undefined
      if (type === '') return
      this.#directed = undefined // §4.6.5: they have been told
      this.#units = 0
    } else if (type === '') this.#add(to)
    else if (this.#directed?.delete(to.full)) this.#units -= to.full.length
  }

  #add(to: Jid): void {
    const { length } = to.full
    const known = this.#directed ?? new Map<string, Jid>()
    if (known.has(to.full) || known.size >= DIRECTED_MAX || this.#units + length > DIRECTED_UNITS_MAX) return
    known.set(to.full, to)
    this.#directed = known
    this.#units += length
  }

  /** It goes on with a session that another edge has had. */
  goOn(broadcast: Stanza | undefined, directed: readonly Jid[], seen: readonly string[]): void {
    this.broadcast = broadcast
    for (const to of directed) this.#add(to)
    if (seen.length > 0) this.#seen = new Map(seen.map((full) => [full, partitionOf(full.slice(0, full.indexOf('/')))]))
  }

  /** A presence that goes to the client. */
  see({ from, type }: Stanza): void {
    if (type === '') {
      if (from.resource === '') return
      this.#seen ??= new Map()
      if (!this.#seen.has(from.full)) this.#seen.set(from.full, partitionOf(from.bare))
    } else if (type === 'unavailable') this.#lose(from)
  }

  /** §4.3.2: that of a bare JID says so of all its resources. */
  #lose({ full, bare, resource }: Jid): void {
    if (this.#seen === undefined) return
    if (resource !== '') this.#seen.delete(full)
    else for (const other of this.#seen.keys()) if (other.startsWith(`${bare}/`)) this.#seen.delete(other)
    if (this.#seen.size === 0) this.#seen = undefined
  }

  /** It has been shown anybody. */
  get sees(): boolean {
    return this.#seen !== undefined
  }

  hasSeen({ full }: Jid): boolean {
    return this.#seen?.has(full) === true
  }

  get seen(): ReadonlyMap<string, number> {
    return this.#seen ?? NONE
  }
}

const NONE: ReadonlyMap<string, number> = new Map()

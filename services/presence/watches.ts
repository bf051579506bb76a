// Who watches whom, as edges have told: at which edge, by which of our accounts; and who of them sees the contact.
//
// A watch is a pair (edge, watcher) of a contact, however many sessions the watcher has there. It is told when the watcher's
// first session there becomes available, and kept until the last one is not; whether the contact is online makes no
// difference, so that one who is offline costs no read. Only the contact's owner says who sees him (audiences.ts): a pair is
// then admitted. All of it is soft state, which the edges can tell again (idea 4 of the architecture).
import type { OfAccounts } from '#core/ownership/held.ts'

/** Of a pair: its watcher sees the contact. */
const ADMITTED = 1
/** Of a pair: its watcher has been told what the contact has published (XEP-0163 §4.3.2). */
const CAUGHT_UP = 2

/** The watchers of one contact at one edge. */
export class WatchersAt {
  readonly edge: string
  /** By bare JID. */
  readonly #marks = new Map<string, number>()
  #admitted = 0

  constructor(edge: string) {
    this.edge = edge
  }

  get size(): number {
    return this.#marks.size
  }

  /** How many of them see the contact. */
  get admitted(): number {
    return this.#admitted
  }

  watchers(): Iterable<string> {
    return this.#marks.keys()
  }

  has(watcher: string): boolean {
    return this.#marks.has(watcher)
  }

  isAdmitted(watcher: string): boolean {
    return ((this.#marks.get(watcher) ?? 0) & ADMITTED) !== 0
  }

  /** False where it is known. */
  add(watcher: string): boolean {
    if (this.#marks.has(watcher)) return false
    this.#marks.set(watcher, 0)
    return true
  }

  /** Whether it was known. */
  remove(watcher: string): boolean {
    this.revoke(watcher)
    return this.#marks.delete(watcher)
  }

  /** False where it has been, or is no watcher here. */
  admit(watcher: string): boolean {
    const marks = this.#marks.get(watcher)
    if (marks === undefined || (marks & ADMITTED) !== 0) return false
    this.#marks.set(watcher, marks | ADMITTED)
    this.#admitted++
    return true
  }

  /** It may not see the contact, and misses what he publishes. False where it was not admitted. */
  revoke(watcher: string): boolean {
    const marks = this.#marks.get(watcher) ?? 0
    if (marks === 0) return false
    this.#marks.set(watcher, 0)
    if ((marks & ADMITTED) === 0) return false
    this.#admitted--
    return true
  }

  revokeAll(): void {
    if (this.#admitted === 0) return
    for (const [watcher, marks] of this.#marks) this.#marks.set(watcher, marks & ~ADMITTED)
    this.#admitted = 0
  }

  /** Says that the watcher has been told what was published. False where it had been, or is no watcher here. */
  catchUp(watcher: string): boolean {
    const marks = this.#marks.get(watcher)
    if (marks === undefined || (marks & CAUGHT_UP) !== 0) return false
    this.#marks.set(watcher, marks | CAUGHT_UP)
    return true
  }
}

export class Watches {
  /** By contact, a place for each edge that has told of any: few. */
  readonly #contacts = new Map<string, readonly WatchersAt[]>()
  /** Pairs by edge. */
  readonly #edges = new Map<string, number>()
  #size = 0

  /** Pairs in all. */
  get size(): number {
    return this.#size
  }

  /** Those that have told of any. */
  edges(): Iterable<string> {
    return this.#edges.keys()
  }

  /** The watchers of a contact, by edge. */
  of(contact: string): readonly WatchersAt[] {
    return this.#contacts.get(contact) ?? NOBODY
  }

  at(contact: string, edge: string): WatchersAt | undefined {
    for (const place of this.of(contact)) if (place.edge === edge) return place
    return undefined
  }

  add(contact: string, edge: string, watcher: string): WatchersAt {
    let place = this.at(contact, edge)
    if (place === undefined) {
      place = new WatchersAt(edge)
      this.#contacts.set(contact, [...this.of(contact), place])
    }
    if (place.add(watcher)) this.#count(edge, 1)
    return place
  }

  /** Whether the watcher saw the contact. */
  remove(contact: string, edge: string, watcher: string): boolean {
    const place = this.at(contact, edge)
    if (place === undefined) return false
    const saw = place.isAdmitted(watcher)
    if (place.remove(watcher)) this.#count(edge, -1)
    if (place.size === 0) this.#without(contact, place)
    return saw
  }

  /** Nobody watches anybody at this edge. */
  removeEdge(edge: string): void {
    if (!this.#edges.has(edge)) return
    for (const contact of this.#contacts.keys()) this.removeAt(contact, edge)
  }

  /** Nobody watches this contact at this edge. */
  removeAt(contact: string, edge: string): void {
    const place = this.at(contact, edge)
    if (place === undefined) return
    this.#count(edge, -place.size)
    this.#without(contact, place)
  }

  /** Nothing is known of these contacts. */
  forget(gone: OfAccounts): void {
    for (const [contact, places] of this.#contacts) {
      if (!gone(contact)) continue
      for (const { edge, size } of places) this.#count(edge, -size)
      this.#contacts.delete(contact)
    }
  }

  #without(contact: string, place: WatchersAt): void {
    const left = this.of(contact).filter((other) => other !== place)
    if (left.length === 0) this.#contacts.delete(contact)
    else this.#contacts.set(contact, left)
  }

  #count(edge: string, by: number): void {
    this.#size += by
    const pairs = (this.#edges.get(edge) ?? 0) + by
    if (pairs > 0) this.#edges.set(edge, pairs)
    else this.#edges.delete(edge)
  }
}

const NOBODY: readonly WatchersAt[] = []

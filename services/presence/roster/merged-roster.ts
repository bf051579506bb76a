// An account's roster as it goes by: the contacts that are its own, and those that groups of its domain give (core/groups/groups.ts).
//
// Nothing is stored of what a group gives, and nothing is copied: this is a view of the account's own rows and of the domain's
// groups, worked out as it is asked. The items of a group's members are made once for all who see them. Where the account has a
// row of its own for such a contact, both hold together: it has the names of both, and whoever may see the other by one may.
//
// Who sees the account by a group and is not seen in turn is hidden, as requests of strangers are: entitled, and not in the
// roster that the client gets. Where everybody sees a group, everybody is entitled when asked about, and nobody is listed.
import type { DomainGroups, Group, Membership } from '#core/groups/groups.ts'
import { seenBy, sees } from '../subscription.ts'
import type { RosterItem, Subscription } from './roster-item.ts'

export type RosterView = ReadonlyMap<string, RosterItem>

/** The roster of an account, with what groups give where there are any. */
export function rosterView(account: string, own: RosterView, groups: DomainGroups): RosterView {
  return groups.isEmpty ? own : new MergedRoster(account, own, groups)
}

class MergedRoster implements ReadonlyMap<string, RosterItem> {
  readonly #account: string
  readonly #own: RosterView
  readonly #groups: DomainGroups
  readonly #mine: Membership
  /** By the membership of a contact: it is the same for all who have that. */
  readonly #relations = new Map<Membership, Relation>()

  constructor(account: string, own: RosterView, groups: DomainGroups) {
    this.#account = account
    this.#own = own
    this.#groups = groups
    this.#mine = groups.membershipOf(account)
  }

  get(jid: string): RosterItem | undefined {
    const own = this.#own.get(jid)
    if (jid === this.#account || !this.#groups.has(jid)) return own
    const { given, isSeen } = this.#relationTo(this.#groups.membershipOf(jid))
    return given.length === 0 && !isSeen ? own : mergedItem(jid, own, given, isSeen)
  }

  #relationTo(theirs: Membership): Relation {
    const known = this.#relations.get(theirs)
    if (known !== undefined) return known
    const relation = { given: groupsSeen(theirs, this.#mine), isSeen: groupsSeen(this.#mine, theirs).length > 0 }
    this.#relations.set(theirs, relation)
    return relation
  }

  has(jid: string): boolean {
    return this.get(jid) !== undefined
  }

  /** Linear, as the rest is. */
  get size(): number {
    let size = 0
    for (const _ of this.keys()) size++
    return size
  }

  /** Its own first, then those it sees by groups, then those that only see it. */
  *keys(): MapIterator<string> {
    yield* this.#own.keys()
    const passed: Group[] = []
    for (const groups of [this.#mine.sees, this.#mine.seenByMembersOf]) {
      for (const group of groups) {
        if (passed.includes(group)) continue
        for (const member of group.members) {
          if (member === this.#account || this.#own.has(member)) continue
          if (!passed.some(({ members }) => members.has(member))) yield member
        }
        passed.push(group)
      }
    }
  }

  *values(): MapIterator<RosterItem> {
    for (const jid of this.keys()) yield this.get(jid)!
  }

  *entries(): MapIterator<[string, RosterItem]> {
    for (const jid of this.keys()) yield [jid, this.get(jid)!]
  }

  [Symbol.iterator](): MapIterator<[string, RosterItem]> {
    return this.entries()
  }

  forEach(call: (item: RosterItem, jid: string, roster: RosterView) => void): void {
    for (const [jid, item] of this) call(item, jid, this)
  }
}

/** What groups make of somebody for the account: by which it sees him, and whether he sees it. */
interface Relation {
  readonly given: readonly Group[]
  readonly isSeen: boolean
}

/** Those that a contact is in and that whoever has the other membership sees. */
export function groupsSeen({ groups }: Membership, { sees }: Membership): readonly Group[] {
  return [...groups].filter((group) => sees.has(group))
}

/** Of each member of a group, what those see who have it by this group alone: it goes with the group. */
const plainItems = new WeakMap<Group, { readonly both: Map<string, RosterItem>; readonly to: Map<string, RosterItem> }>()

function mergedItem(jid: string, own: RosterItem | undefined, given: readonly Group[], seen: boolean): RosterItem {
  if (own === undefined && given.length === 1) return plainItem(jid, given[0]!, seen)
  const to = given.length > 0 || sees(own)
  const from = seen || seenBy(own)
  const pendingIn = from ? undefined : own?.pendingIn // whoever sees asks for nothing any more
  return {
    jid,
    name: own?.name ?? '',
    groups: [...new Set([...(own?.groups ?? []), ...given.map(({ displayName }) => displayName)])],
    subscription: subscriptionOf(to, from),
    ask: own?.ask === true && !to,
    approved: own?.approved === true,
    ...(pendingIn !== undefined && { pendingIn }),
    inRoster: given.length > 0 || own?.inRoster === true,
  }
}

function plainItem(jid: string, group: Group, seen: boolean): RosterItem {
  let items = plainItems.get(group)
  if (items === undefined) {
    items = { both: new Map(), to: new Map() }
    plainItems.set(group, items)
  }
  const ofKind = seen ? items.both : items.to
  let item = ofKind.get(jid)
  if (item === undefined) {
    const subscription = subscriptionOf(true, seen)
    item = { jid, name: '', groups: [group.displayName], subscription, ask: false, approved: false, inRoster: true }
    ofKind.set(jid, item)
  }
  return item
}

function subscriptionOf(to: boolean, from: boolean): Subscription {
  if (to) return from ? 'both' : 'to'
  return from ? 'from' : 'none'
}

// Groups of one organisation: which there are in a domain, who is in them, and who sees whom by them.
//
// Whoever runs a domain makes its groups. Members appear in the rosters of those who see the group, as contacts with a
// subscription, and nothing of that is stored with any account: everybody's view follows from this one picture of the domain,
// which never changes; a change of the groups makes another, of which what has not changed is the same (group-directory.ts).
//
// Accounts that are in the same groups see the same. What one membership sees is worked out once for all who have it, so that
// a thousand members cost a thousand entries and not a million.
import { createHash } from 'node:crypto'

export type SeenBy = 'nobody' | 'members' | 'everybody'
export const SEEN_BY: readonly SeenBy[] = ['nobody', 'members', 'everybody']

export interface GroupSettings {
  /** What clients show as the name of the roster group. */
  readonly displayName: string
  readonly description: string
  /** Who sees the members: `everybody` is every account of the domain. */
  readonly seenBy: SeenBy
  /** Groups of the domain whose members see them, too. */
  readonly seenByGroups: readonly string[]
}

export interface Group extends GroupSettings {
  /** A prepared localpart. */
  readonly name: string
  /** Bare JIDs, accounts of the domain. */
  readonly members: ReadonlySet<string>
  /** Another one with every change. */
  readonly revision: string
}

/** What follows from being in some groups, the same for all accounts that are in just those. */
export interface Membership {
  readonly groups: ReadonlySet<Group>
  /** Those whose members he sees. */
  readonly sees: ReadonlySet<Group>
  /** Those whose members see him. */
  readonly seenByMembersOf: ReadonlySet<Group>
  /** All accounts of the domain see him. */
  readonly seenByEverybody: boolean
  /** All of these, by their names. */
  readonly related: ReadonlyMap<string, Group>
  /** '' where there are none; changes with each of them, and with which they are. */
  readonly token: string
}

/** The groups of a domain at one moment. */
export class DomainGroups {
  readonly domain: string
  /** Of the row that says which groups there are (group-rows.ts); '' where there has never been one. */
  readonly version: string
  readonly groups: ReadonlyMap<string, Group>
  readonly #memberships = new Map<string, Membership>()
  readonly #none: Membership
  readonly #end: string

  constructor(domain: string, version: string, groups: ReadonlyMap<string, Group>) {
    this.domain = domain
    this.version = version
    this.groups = groups
    this.#end = `@${domain}`
    this.#none = new LazyMembership(groups, new Set())
    const of = new Map<string, Group[]>()
    for (const group of groups.values()) {
      for (const member of group.members) {
        const known = of.get(member)
        if (known === undefined) of.set(member, [group])
        else known.push(group)
      }
    }
    const shared = new Map<string, Membership>()
    for (const [member, mine] of of) {
      const key = mine.map(({ name }) => name).join('/') // which no localpart has
      let membership = shared.get(key)
      if (membership === undefined) {
        membership = new LazyMembership(groups, new Set(mine))
        shared.set(key, membership)
      }
      this.#memberships.set(member, membership)
    }
  }

  /** Nobody sees anybody by them. */
  get isEmpty(): boolean {
    return this.groups.size === 0
  }

  /** Of an account of this domain, by its bare JID. */
  membershipOf(account: string): Membership {
    return this.#memberships.get(account) ?? this.#none
  }

  /** The account, which need not be of this domain, sees that contact by a group. */
  shows(contact: string, account: string): boolean {
    const mine = this.#memberships.get(contact)
    if (mine === undefined || !this.has(account)) return false
    const { sees } = this.membershipOf(account)
    for (const group of mine.groups) if (sees.has(group)) return true
    return false
  }

  /** Whether that is an address of an account of this domain. */
  has(account: string): boolean {
    return account.endsWith(this.#end)
  }
}

class LazyMembership implements Membership {
  readonly groups: ReadonlySet<Group>
  readonly #all: ReadonlyMap<string, Group>
  #sees: ReadonlySet<Group> | undefined
  #seenByMembersOf: ReadonlySet<Group> | undefined
  #related: ReadonlyMap<string, Group> | undefined
  #token: string | undefined

  constructor(all: ReadonlyMap<string, Group>, groups: ReadonlySet<Group>) {
    this.#all = all
    this.groups = groups
  }

  get sees(): ReadonlySet<Group> {
    this.#sees ??= new Set([...this.#all.values()].filter((group) => this.#isShown(group)))
    return this.#sees
  }

  #isShown(group: Group): boolean {
    if (group.seenBy === 'everybody') return true
    if (group.seenBy === 'members' && this.groups.has(group)) return true
    return group.seenByGroups.some((name) => {
      const listed = this.#all.get(name)
      return listed !== undefined && this.groups.has(listed)
    })
  }

  get seenByMembersOf(): ReadonlySet<Group> {
    if (this.#seenByMembersOf !== undefined) return this.#seenByMembersOf
    const audience = new Set<Group>()
    for (const group of this.groups) {
      if (group.seenBy !== 'nobody') audience.add(group)
      for (const name of group.seenByGroups) {
        const listed = this.#all.get(name)
        if (listed !== undefined) audience.add(listed)
      }
    }
    this.#seenByMembersOf = audience
    return audience
  }

  get seenByEverybody(): boolean {
    for (const { seenBy } of this.groups) if (seenBy === 'everybody') return true
    return false
  }

  get related(): ReadonlyMap<string, Group> {
    if (this.#related !== undefined) return this.#related
    const related = new Map<string, Group>()
    for (const groups of [this.groups, this.sees, this.seenByMembersOf])
      for (const group of groups) related.set(group.name, group)
    this.#related = related
    return related
  }

  get token(): string {
    if (this.#token !== undefined) return this.#token
    const revisions = [...this.related.values()].map((group) => `${group.revision}${this.groups.has(group) ? '+' : ''}`)
    const text = revisions.sort().join(' ')
    this.#token = text === '' ? '' : createHash('sha256').update(text).digest('base64url').slice(0, 12)
    return this.#token
  }
}

/**
 * Contacts of whom an account may see another thing after a change of the groups than before, or they of it; each once. Costs as
 * much as the groups that have changed and have to do with the account.
 */
export function contactsChanged(account: string, before: DomainGroups, after: DomainGroups): ReadonlySet<string> {
  const changed = new Set<string>()
  const was = before.membershipOf(account)
  const is = after.membershipOf(account)
  if (was.token === is.token) return changed
  for (const name of new Set([...was.related.keys(), ...is.related.keys()])) {
    const old = was.related.get(name)
    const now = is.related.get(name)
    if (old !== undefined && old === now && hasPart(was, old) === hasPart(is, now)) continue
    const onlyMembers = old !== undefined && now !== undefined && sameSettings(old, now) && hasPart(was, old) === hasPart(is, now)
    if (onlyMembers) for (const member of difference(old, now)) changed.add(member)
    else for (const group of [old, now]) for (const member of group?.members ?? []) changed.add(member)
  }
  changed.delete(account)
  return changed
}

/** In what ways a group has to do with whoever has this membership. */
function hasPart({ groups, sees, seenByMembersOf }: Membership, group: Group): number {
  return Number(groups.has(group)) + 2 * Number(sees.has(group)) + 4 * Number(seenByMembersOf.has(group))
}

function sameSettings(a: Group, b: Group): boolean {
  return a.displayName === b.displayName && a.seenBy === b.seenBy && a.seenByGroups.join('/') === b.seenByGroups.join('/')
}

/** By the newer one and the older one: it is the same for all who see the group. */
const differences = new WeakMap<Group, { readonly old: Group; readonly members: readonly string[] }>()

function difference(old: Group, now: Group): readonly string[] {
  const known = differences.get(now)
  if (known?.old === old) return known.members
  const members: string[] = []
  for (const member of old.members) if (!now.members.has(member)) members.push(member)
  for (const member of now.members) if (!old.members.has(member)) members.push(member)
  differences.set(now, { old, members })
  return members
}

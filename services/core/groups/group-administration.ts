// What whoever runs the server may do with the groups of a domain: one implementation for the command line, for commands in a
// client (modules/group-commands.ts), and for whatever else has a button for it.
//
// It writes the rows itself, wherever it runs, and tells the others (group-directory.ts). What is written is in force in this
// process when a call resolves, and in the others within moments.
import { StanzaError } from '#xmpp/error.ts'
import { type Jid, parseJid } from '#xmpp/jid.ts'
import { demandText } from '../administration.ts'
import type { Process } from '../process.ts'
import { isAccount } from '../storage/accounts.ts'
import { GroupDirectory } from './group-directory.ts'
import type { GroupContent, Root } from './group-rows.ts'
import type { Group, GroupSettings } from './groups.ts'

/** Bounds; lengths are of the UTF-8 text. All of a domain is in the memory of each presence service. */
export const GROUP_LIMITS = {
  groupsMax: 1_000,
  membersMax: 10_000,
  /** In all groups of a domain together. */
  membershipsMax: 100_000,
  seenByGroupsMax: 100,
  nameBytesMax: 64,
  displayNameBytesMax: 255,
  descriptionBytesMax: 1_023,
}

/** Accounts that are looked for at a time. */
const AT_ONCE = 50

export interface GroupFacts extends GroupSettings {
  /** NAME@DOMAIN. */
  readonly group: string
  readonly members: number
}

export type GroupChange = Partial<GroupSettings>

export interface ProcessGroups {
  readonly directory: GroupDirectory
  readonly administration: GroupAdministration
}

const ofProcesses = new WeakMap<Process, ProcessGroups>()

/** The same for all that runs in a process. Made when it is first asked for; its presence service has it follow what others change. */
export function groupsOf(process: Process): ProcessGroups {
  const known = ofProcesses.get(process)
  if (known !== undefined) return known
  const directory = new GroupDirectory(process)
  const administration = new GroupAdministration(directory, (account) => isAccount(process.table, account))
  const groups = { directory, administration }
  ofProcesses.set(process, groups)
  return groups
}

export class GroupAdministration {
  readonly #directory: GroupDirectory
  readonly #exists: (account: Jid) => Promise<boolean>

  /** @param exists whether there is such an account: only those are members */
  constructor(directory: GroupDirectory, exists: (account: Jid) => Promise<boolean>) {
    this.#directory = directory
    this.#exists = exists
  }

  /** The groups of a domain, by their names. */
  async list(domain: string): Promise<readonly GroupFacts[]> {
    const { groups } = await this.#directory.refresh(domain)
    const facts = [...groups.values()].map((group) => factsOf(group, domain))
    return facts.sort((a, b) => (a.group < b.group ? -1 : 1))
  }

  /** Throws item-not-found where there is none. */
  async show(group: Jid): Promise<GroupFacts> {
    return factsOf(await this.#read(group), group.domain)
  }

  /** The bare JIDs of its members, in order. Throws as `show`. */
  async members(group: Jid): Promise<readonly string[]> {
    return [...(await this.#read(group)).members].sort()
  }

  /** The groups that an account is in, by their names. */
  async groupsOf(account: Jid): Promise<readonly GroupFacts[]> {
    const { groups } = (await this.#directory.refresh(account.domain)).membershipOf(account.bare)
    return [...groups].map((group) => factsOf(group, account.domain)).sort((a, b) => (a.group < b.group ? -1 : 1))
  }

  async #read({ local, domain, bare }: Jid): Promise<Group> {
    const group = (await this.#directory.refresh(domain)).groups.get(local)
    if (group === undefined) throw noGroup(bare)
    return group
  }

  /** Its members see it, unless something else is said. Throws conflict where there is one of that name, and as `set`. */
  async create(group: Jid, change: GroupChange = {}): Promise<void> {
    demandName(group)
    demandSettings(change)
    await this.#change(group.domain, [group.local], (before, name, root) => {
      if (before !== undefined) throw new StanzaError('conflict', `there is a group ${group.bare}`)
      if (root.groups.size >= GROUP_LIMITS.groupsMax)
        throw new StanzaError('resource-constraint', `${group.domain} has ${GROUP_LIMITS.groupsMax} groups, and may have no more`)
      const members: ReadonlySet<string> = new Set()
      const content = { displayName: name, description: '', seenBy: 'members', seenByGroups: [], members } as const
      return settled(content, change, root, name)
    })
  }

  /** What is left out stays. Throws item-not-found where there is no such group, or none that is to see it, and not-acceptable. */
  async set(group: Jid, change: GroupChange): Promise<void> {
    demandSettings(change)
    await this.#change(group.domain, [group.local], (before, name, root) => {
      if (before === undefined) throw noGroup(group.bare)
      return settled(before, change, root, name)
    })
  }

  /** Its members are contacts of nobody by it any more, and it sees no other group. Throws item-not-found. */
  async delete(group: Jid): Promise<void> {
    const { local, domain } = group
    const { groups } = await this.#directory.refresh(domain)
    const watched = [...groups.values()].filter(({ seenByGroups }) => seenByGroups.includes(local)).map(({ name }) => name)
    await this.#change(domain, [local, ...watched.filter((name) => name !== local)], (before, name) => {
      if (name === local && before === undefined) throw noGroup(group.bare)
      if (name === local || before === undefined) return undefined
      return { ...before, seenByGroups: before.seenByGroups.filter((listed) => listed !== local) }
    })
  }

  /** Tells how many of these accounts were not in it. All or none. Throws item-not-found, with what is missing, and resource-constraint. */
  async add(group: Jid, accounts: readonly Jid[]): Promise<number> {
    for (const { bare, domain } of accounts)
      if (domain !== group.domain) throw new StanzaError('not-acceptable', `${bare} is no account of ${group.domain}`)
    const absent = await this.#absent(accounts)
    if (absent.length > 0) throw new StanzaError('item-not-found', `there is no account ${absent[0]!.bare}`)
    let added = 0
    await this.#change(group.domain, [group.local], (before, name, root) => {
      if (before === undefined) throw noGroup(group.bare)
      const members = new Set(before.members)
      for (const { bare } of accounts) members.add(bare)
      added = members.size - before.members.size
      if (added === 0) return before
      demandRoom(group, members.size, root, name)
      return { ...before, members }
    })
    // One that was deleted meanwhile has left all groups, and may have done so before it was in this one.
    const gone = await this.#absent(accounts)
    if (gone.length > 0) added -= await this.removeMembers(group, gone)
    return added
  }

  /** Tells how many of these were in it; the others are no fault. Throws item-not-found where there is no such group. */
  async removeMembers(group: Jid, accounts: readonly Jid[]): Promise<number> {
    let removed = 0
    await this.#change(group.domain, [group.local], (before) => {
      if (before === undefined) throw noGroup(group.bare)
      const members = new Set(before.members)
      for (const { bare } of accounts) members.delete(bare)
      removed = before.members.size - members.size
      return removed === 0 ? before : { ...before, members }
    })
    return removed
  }

  /** The account is to be in no group any more: it is being deleted. */
  async leaveAll(account: Jid): Promise<void> {
    const { groups } = (await this.#directory.refresh(account.domain)).membershipOf(account.bare)
    if (groups.size === 0) return
    const names = [...groups].map(({ name }) => name)
    await this.#change(account.domain, names, (before) => {
      if (before === undefined || !before.members.has(account.bare)) return before
      const members = new Set(before.members)
      members.delete(account.bare)
      return { ...before, members }
    })
  }

  /** Also where nothing has changed: whoever did it before may have died before he told. */
  async #change(...[domain, names, edit]: Parameters<GroupDirectory['rows']['change']>): Promise<void> {
    await this.#directory.rows.change(domain, names, edit)
    await this.#directory.changed(domain)
  }

  async #absent(accounts: readonly Jid[]): Promise<Jid[]> {
    const absent: Jid[] = []
    for (let at = 0; at < accounts.length; at += AT_ONCE) {
      const portion = accounts.slice(at, at + AT_ONCE)
      const exist = await Promise.all(portion.map(this.#exists))
      for (const [i, account] of portion.entries()) if (!exist[i]) absent.push(account)
    }
    return absent
  }
}

function factsOf({ name, members, displayName, description, seenBy, seenByGroups }: Group, domain: string): GroupFacts {
  return { group: `${name}@${domain}`, displayName, description, seenBy, seenByGroups, members: members.size }
}

function noGroup(bare: string): StanzaError {
  return new StanzaError('item-not-found', `there is no group ${bare}`)
}

function demandName({ local }: Jid): void {
  if (Buffer.byteLength(local) > GROUP_LIMITS.nameBytesMax)
    throw new StanzaError('not-acceptable', `the name of a group has at most ${GROUP_LIMITS.nameBytesMax} bytes`)
}

/** Whatever is wrong with it whatever it is of. */
function demandSettings({ displayName, description, seenByGroups }: GroupChange): void {
  const { displayNameBytesMax, descriptionBytesMax, seenByGroupsMax } = GROUP_LIMITS
  if (displayName !== undefined) demandLine('a display name', displayName, displayNameBytesMax)
  if (description !== undefined && description !== '') demandLine('a description', description, descriptionBytesMax)
  if (seenByGroups !== undefined && seenByGroups.length > seenByGroupsMax)
    throw new StanzaError('not-acceptable', `a group is seen by at most ${seenByGroupsMax} others`)
}

function demandLine(what: string, text: string, bytesMax: number): void {
  if (text.trim() === '') throw new StanzaError('not-acceptable', `${what} is not empty`)
  demandText(text)
  if (/[\t\n\r]/.test(text)) throw new StanzaError('not-acceptable', `${what} is one line`)
  if (Buffer.byteLength(text) > bytesMax) throw new StanzaError('not-acceptable', `${what} has at most ${bytesMax} bytes`)
}

function demandRoom(group: Jid, count: number, root: Root, name: string): void {
  const { membersMax, membershipsMax } = GROUP_LIMITS
  if (count > membersMax) throw new StanzaError('resource-constraint', `a group has at most ${membersMax} members`)
  let all = count
  for (const [other, { count }] of root.groups) if (other !== name) all += count
  if (all > membershipsMax)
    throw new StanzaError('resource-constraint', `the groups of ${group.domain} have at most ${membershipsMax} members together`)
}

/** The very content where nothing changes. */
function settled<C extends GroupContent>(before: C, change: GroupChange, root: Root, name: string): GroupContent {
  const { displayName = before.displayName, description = before.description, seenBy = before.seenBy } = change
  const seenByGroups = change.seenByGroups === undefined ? before.seenByGroups : listed(change.seenByGroups, root, name)
  const same =
    displayName === before.displayName &&
    description === before.description &&
    seenBy === before.seenBy &&
    seenByGroups.join('/') === before.seenByGroups.join('/')
  return same && 'revision' in before ? before : { displayName, description, seenBy, seenByGroups, members: before.members }
}

/** Names of groups of the domain, each once. */
function listed(names: readonly string[], { domain, groups }: Root, own: string): string[] {
  const prepared = [...new Set(names.map((name) => localOf(name, domain)))]
  for (const name of prepared)
    if (name !== own && !groups.has(name)) throw new StanzaError('item-not-found', `there is no group ${name}@${domain}`)
  return prepared
}

/** NAME, or NAME@DOMAIN of this domain. */
function localOf(name: string, domain: string): string {
  const jid = parseGroup(name.includes('@') ? name : `${name}@${domain}`)
  if (jid.domain !== domain) throw new StanzaError('not-acceptable', `${name} is no group of ${domain}`)
  return jid.local
}

/** Reads NAME@DOMAIN. Throws StanzaError('jid-malformed'), which shows the text. */
export function parseGroup(text: string): Jid {
  try {
    const jid = parseJid(text)
    if (jid.local !== '' && jid.resource === '') return jid
  } catch {}
  throw new StanzaError('jid-malformed', `${JSON.stringify(text)} is no group; a group is NAME@DOMAIN`)
}

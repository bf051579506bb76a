// The groups of a domain (core/groups/groups.ts), as they are stored: what is written never changes, but for one row.
//
//   pk = o#groups       sk = example.org         [["staff", "<revision>", 120], …]: which there are, and how many are in each
//   pk = g#example.org  sk = staff/<revision>    { "displayName", "description", "seenBy", "seenByGroups", "parts": ["<id>", …] }
//   pk = g#example.org  sk = staff/<id>          ["juliet", "romeo", …]: a part of the members, those of one stretch of the alphabet
//
// A change writes the parts that are new and a new revision beside the old ones, and then, on the condition that nobody else has
// changed the domain's groups meanwhile, the one row that names them: that is the moment of the change, of however many groups.
// Whoever dies before has changed nothing; whoever reads an old revision whose rows are gone reads again. What a change has made
// needless is deleted behind it, and so is what somebody has left who died: all that was there before the change and is not
// named after it. Whoever has written later than that is not behind it, and finds that the one row is another by now.
import { type Key, type Row, type Table, VersionConflict } from '#table/table.ts'
import { StanzaError } from '#xmpp/error.ts'
import { randomId } from '#xmpp/id.ts'
import type { Group, GroupSettings } from './groups.ts'

const ROOTS = 'o#groups'
/** Of the members in one row: small enough to be written for one who comes or goes, large enough that ten thousand are a few rows. */
const PART_BYTES = 48 * 1024
/** A part that has grown over that is divided into such, which have room to grow. */
const PART_FILL_BYTES = 32 * 1024
/** Requests under way at once. */
const AT_ONCE = 16
/** Of groups that have changed; of more all rows of the domain are read by one query. */
const READ_ALONE_MAX = 8
const TRIES_MAX = 20

export interface Root {
  readonly domain: string
  /** '' where there is no row. */
  readonly version: string
  readonly groups: ReadonlyMap<string, { readonly revision: string; readonly count: number }>
}

interface Head extends GroupSettings {
  readonly parts: readonly string[]
}

interface Part {
  readonly id: string
  /** Localparts, in the order of their UTF-16 units. */
  readonly locals: readonly string[]
}

/** A group as it is stored: how its members are divided is kept where they do not change. */
interface StoredGroup {
  readonly group: Group
  readonly parts: readonly Part[]
}

export type GroupContent = GroupSettings & Pick<Group, 'members'>

/**
 * What becomes of a group: the very `before` where nothing does, undefined where it goes. May be called again, with what others
 * have made of it meanwhile. What it throws ends the change.
 */
export type GroupEdit = (before: Group | undefined, name: string, root: Root) => GroupContent | undefined

export class GroupRows {
  readonly #table: Table

  constructor(table: Table) {
    this.#table = table
  }

  /** Of all domains that have groups, or had. */
  async *roots(): AsyncIterable<Root> {
    for await (const row of this.#table.query(ROOTS)) yield rootOf(row.sk, row)
  }

  async root(domain: string): Promise<Root> {
    return rootOf(domain, await this.#table.get({ pk: ROOTS, sk: domain }))
  }

  /** The groups that a root names, with those of `known` that are the same. Undefined where it is not the root any more. */
  async read(root: Root, known: ReadonlyMap<string, Group>): Promise<ReadonlyMap<string, Group> | undefined> {
    const { domain } = root
    const missing = [...root.groups].filter(([name, { revision }]) => known.get(name)?.revision !== revision)
    const rows = missing.length > READ_ALONE_MAX ? await this.#rowsOf(domain, '') : undefined
    const read = new Map<string, Group>()
    for (let at = 0; at < missing.length; at += AT_ONCE) {
      const portion = missing.slice(at, at + AT_ONCE)
      const found = await Promise.all(portion.map(([name, { revision }]) => this.#read(domain, name, revision, rows)))
      if (found.includes(undefined)) return undefined
      for (const stored of found) read.set(stored!.group.name, stored!.group)
    }
    return new Map([...root.groups.keys()].map((name) => [name, read.get(name) ?? known.get(name)!]))
  }

  /** Undefined where some of it is not there: it is another revision by now. */
  async #read(domain: string, name: string, revision: string, rows?: ReadonlyMap<string, Row>): Promise<StoredGroup | undefined> {
    const get = async (id: string) => {
      const key = keyOf(domain, name, id)
      return rows === undefined ? this.#table.get(key) : rows.get(key.sk)
    }
    const row = await get(revision)
    if (row === undefined) return undefined
    const { parts, ...settings } = jsonOf<Head>(row)
    const found: Part[] = []
    const members = new Set<string>()
    for (let at = 0; at < parts.length; at += AT_ONCE) {
      const ids = parts.slice(at, at + AT_ONCE)
      for (const [i, part] of (await Promise.all(ids.map(get))).entries()) {
        if (part === undefined) return undefined
        const locals = jsonOf<string[]>(part)
        for (const local of locals) members.add(`${local}@${domain}`)
        found.push({ id: ids[i]!, locals })
      }
    }
    return { group: { ...settings, name, members, revision }, parts: found }
  }

  async #rowsOf(domain: string, prefix: string): Promise<ReadonlyMap<string, Row>> {
    const rows = new Map<string, Row>()
    const range = prefix === '' ? {} : { from: prefix, to: `${prefix}\u{10FFFF}` }
    for await (const row of this.#table.query(`g#${domain}`, range)) rows.set(row.sk, row)
    return rows
  }

  /**
   * Changes groups of a domain, all at one moment. Durable when it resolves, to false where there was nothing to change. Throws
   * what `edit` throws, and resource-constraint, of type wait, where others change the same again and again.
   */
  async change(domain: string, names: readonly string[], edit: GroupEdit): Promise<boolean> {
    for (let tries = 0; tries < TRIES_MAX; tries++) {
      const root = await this.root(domain)
      const plan = await this.#plan(root, names, edit)
      if (plan === undefined) continue // it is another root by now
      if (plan.groups === root.groups) return false
      await this.#each(plan.rows, (row) => this.#table.put(row))
      if (await this.#commit(domain, plan.groups, root.version)) {
        await this.#each(plan.needless, (key) => this.#table.delete(key))
        return true
      }
      await this.#each(plan.rows, (key) => this.#table.delete(key))
    }
    throw new StanzaError('resource-constraint', `the groups of ${domain} are being changed by others`, { type: 'wait' })
  }

  async #plan(root: Root, names: readonly string[], edit: GroupEdit): Promise<Plan | undefined> {
    const { domain } = root
    const groups = new Map(root.groups)
    const rows: Row[] = []
    const needless: Key[] = []
    let isChanged = false
    for (const name of names) {
      const there = await this.#rowsOf(domain, `${name}/`)
      const known = root.groups.get(name)
      const before = known && (await this.#read(domain, name, known.revision, there))
      if (known !== undefined && before === undefined) return undefined
      const after = edit(before?.group, name, { ...root, groups })
      if (after === before?.group) continue
      isChanged = true
      const stays = new Set<string>()
      if (after === undefined) groups.delete(name)
      else {
        const written = rowsOf(domain, name, after, before?.parts ?? [])
        for (const row of written.rows) rows.push(row)
        for (const id of written.parts) stays.add(`${name}/${id}`)
        groups.set(name, { revision: written.revision, count: after.members.size })
      }
      for (const { pk, sk } of there.values()) if (!stays.has(sk)) needless.push({ pk, sk })
    }
    return { groups: isChanged ? groups : root.groups, rows, needless }
  }

  /** False where somebody else was first. */
  async #commit(domain: string, groups: Root['groups'], version: string): Promise<boolean> {
    const named = [...groups].map(([name, { revision, count }]) => [name, revision, count])
    const row: Row = { pk: ROOTS, sk: domain, version: randomId(), value: Buffer.from(JSON.stringify(named), 'utf8') }
    try {
      await this.#table.put(row, version)
      return true
    } catch (error) {
      if (!(error instanceof VersionConflict)) throw error
      return (await this.#table.get(row))?.version === row.version // the answer to an earlier request for this was lost
    }
  }

  async #each<T>(all: readonly T[], task: (one: T) => Promise<void>): Promise<void> {
    for (let at = 0; at < all.length; at += AT_ONCE) await Promise.all(all.slice(at, at + AT_ONCE).map(task))
  }
}

interface Plan {
  /** That of the root itself where nothing changes. */
  readonly groups: Root['groups']
  readonly rows: readonly Row[]
  readonly needless: readonly Key[]
}

function rootOf(domain: string, row: Row | undefined): Root {
  const named = row === undefined ? [] : jsonOf<[string, string, number][]>(row)
  const groups = new Map(named.map(([name, revision, count]) => [name, { revision, count }]))
  return { domain, version: row?.version ?? '', groups }
}

/** What is to be written of a group, and all the parts it has then. */
function rowsOf(domain: string, name: string, content: GroupContent, before: readonly Part[]) {
  const { members, displayName, description, seenBy, seenByGroups } = content
  const locals = Array.from(members, (member) => member.slice(0, -(domain.length + 1))).sort()
  const parts = arranged(before, locals)
  const revision = randomId()
  const head: Head = { displayName, description, seenBy, seenByGroups, parts: parts.map(({ id }) => id) }
  const rows = [rowOf(domain, name, revision, head)]
  for (const part of parts) if (!before.includes(part)) rows.push(rowOf(domain, name, part.id, part.locals))
  return { rows, revision, parts: head.parts }
}

/** Each in the part whose stretch of the alphabet he belongs to; a part in which nothing changes is the same. */
function arranged(before: readonly Part[], locals: readonly string[]): Part[] {
  if (before.length === 0) return pieces(locals)
  const after: Part[] = []
  let at = 0
  for (const [i, part] of before.entries()) {
    const end = before[i + 1]?.locals[0]
    const from = at
    while (at < locals.length && (end === undefined || locals[at]! < end)) at++
    const mine = locals.slice(from, at)
    if (mine.length === part.locals.length && mine.every((local, n) => local === part.locals[n])) after.push(part)
    else after.push(...pieces(mine))
  }
  return after
}

function pieces(locals: readonly string[]): Part[] {
  const bytes = locals.map((local) => Buffer.byteLength(JSON.stringify(local)) + 1)
  const bytesMax = bytes.reduce((sum, more) => sum + more, 0) <= PART_BYTES ? PART_BYTES : PART_FILL_BYTES
  const parts: { id: string; locals: string[] }[] = []
  let filled = bytesMax
  for (const [i, local] of locals.entries()) {
    if (filled + bytes[i]! > bytesMax) {
      parts.push({ id: randomId(), locals: [] })
      filled = 0
    }
    parts.at(-1)!.locals.push(local)
    filled += bytes[i]!
  }
  return parts
}

function keyOf(domain: string, name: string, id: string): Key {
  return { pk: `g#${domain}`, sk: `${name}/${id}` }
}

function rowOf(domain: string, name: string, id: string, value: unknown): Row {
  return { ...keyOf(domain, name, id), version: randomId(), value: Buffer.from(JSON.stringify(value), 'utf8') }
}

function jsonOf<T>({ value }: Row): T {
  return JSON.parse(Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('utf8')) as T
}

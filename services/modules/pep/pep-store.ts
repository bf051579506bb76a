// XEP-0060: nodes and items of accounts, as they are stored.
//
//   pk = a#romeo@example.org           sk = pep#urn:xmpp:avatar:metadata   the node: { key, config, …, last }, read with the account
//   pk = j#pep-items#romeo@example.org sk = Xb3_9-aZ.q7Zk3mXw9aE…          an item, under the key of its node and the hash of its id
//
// A login reads nodes, and so they are small: of the items there is only the last, and that only where it is short and sent to
// whoever comes online. What a node has of other items, its index, is made of its rows when
// it is asked for, and kept for as long as there is room. A node that is made again has another key: nothing of what the
// old one had is found in it. All is called in the order of the account.
import { createHash } from 'node:crypto'
import type { App } from '#core/module.ts'
import { jsonOf } from '#core/storage/portable.ts'
import type { AccountJournal, AccountMap, MaybePromise } from '#core/storage/store.ts'
import { StanzaError } from '#xmpp/error.ts'
import { randomId } from '#xmpp/id.ts'
import type { Jid } from '#xmpp/jid.ts'
import { type Config, settingOf } from './pep-config.ts'

export type Affiliation = 'publisher' | 'member' | 'outcast'

export interface Item {
  readonly id: string
  /** When it was published: rising in each account, in milliseconds since 1970. */
  readonly at: number
  /** The bare JID of who has published it. */
  readonly by: string
  /** The payload; '' where it has none. */
  readonly xml: string
}

/** Its row says where it belongs, for whoever reads it without the node. */
export type StoredItem = Item & { readonly node: string }

/** The last one that was published; without its payload where that is long, and then it is among the items. */
export type LastItem = Omit<Item, 'xml'> & { readonly xml?: string }

/** Plain JSON: it is stored as it is. */
export interface PepNode {
  readonly key: string
  readonly config: Config
  /** By bare JID. The account is the owner, and nobody else is. */
  readonly affiliations: Readonly<Record<string, Affiliation>>
  /** JIDs, with or without resource, that have subscribed by themselves (§6.1). */
  readonly subscribers: readonly string[]
  /** Items that are kept, and the bytes of their rows. */
  readonly count: number
  readonly bytes: number
  /** Of an item that is not kept, too. */
  readonly last: LastItem | null
}

export interface PepLimits {
  readonly nodesMax: number
  readonly itemsMax: number
  readonly itemBytesMax: number
  readonly accountBytesMax: number
  readonly subscribersMax: number
}

/** What is known of an item without reading it, by its id, in the order in which they were published. */
export type Index = ReadonlyMap<string, { readonly at: number; readonly bytes: number }>
type Indexed = Map<string, { readonly at: number; readonly bytes: number }>

/** In a key of the table there is room for 1024 bytes. */
export const NODE_BYTES_MAX = 512
export const ITEM_ID_BYTES_MAX = 512
/** A longer payload is not read with each login. */
const LAST_UNITS_MAX = 2_048
/** Of a node as it is stored: a row of the table has 400 kB, and each login reads it. */
const NODE_UNITS_MAX = 100_000
/** Ids that are remembered, of all accounts together. */
const INDEXED_MAX = 300_000
const READ_ONE_BY_ONE = 4
/** Behind the key of a node, and what is behind all that begins with that. */
const UNDER = '.'
const BEHIND = '/'

export class PepStore {
  readonly limits: PepLimits
  readonly #app: App<PepLimits>
  readonly #nodes: AccountMap<PepNode>
  readonly #items: AccountJournal
  /** By account and key of the node. */
  readonly #indexes = new Map<string, Indexed>()
  #indexed = 0

  constructor(app: App<PepLimits>, nodes: AccountMap<PepNode>, items: AccountJournal) {
    this.limits = app.options
    this.#app = app
    this.#nodes = nodes
    this.#items = items
    app.on('accounts.released', ({ gone }) => {
      for (const name of this.#indexes.keys()) if (gone(name.slice(0, name.lastIndexOf(' ')))) this.#forget(name)
    })
  }

  /** By name. At once where the account is cached. */
  read<R>(account: Jid, use: (nodes: ReadonlyMap<string, PepNode>) => R): MaybePromise<R> {
    return this.#nodes.read(account, use)
  }

  node(account: Jid, name: string): MaybePromise<PepNode | undefined> {
    return this.#nodes.read(account, (nodes) => nodes.get(name))
  }

  /** A node of that name, where none is. Throws where it cannot be one, or there is no room for one more. */
  async make(account: Jid, name: string, config: Config): Promise<PepNode> {
    if (Buffer.byteLength(name) > NODE_BYTES_MAX)
      throw new StanzaError('not-acceptable', `the name of a node has at most ${NODE_BYTES_MAX} bytes`)
    const { nodesMax } = this.limits
    await this.read(account, (nodes) => {
      if (nodes.size >= nodesMax) throw new StanzaError('resource-constraint', `you have ${nodesMax} nodes`, { type: 'cancel' })
    })
    const node = { key: randomId(6), config, affiliations: {}, subscribers: [], count: 0, bytes: 0, last: null }
    demandSmall(node)
    await this.#nodes.set(account, name, node)
    return node
  }

  /** Another configuration, affiliation or subscription. Items that are too many then are gone, the oldest first. */
  async change(account: Jid, name: string, before: PepNode, after: PepNode, kept: number): Promise<PepNode> {
    demandSmall(after)
    if (before.count <= kept) {
      await this.#nodes.set(account, name, after)
      return after
    }
    const index = await this.#index(account, before)
    const gone = [...index.keys()].slice(0, index.size - kept)
    return this.#without(account, name, after, index, gone, after.last)
  }

  /**
   * Puts an item into its node, of which at most `kept` are; 0: none is, but it is still the last one. The oldest go. Throws
   * where there is no room.
   */
  async put(account: Jid, name: string, node: PepNode, item: Omit<Item, 'at'>, kept: number): Promise<PepNode> {
    const at = Math.max(this.#app.clock.now(), (node.last?.at ?? 0) + 1)
    const row: Item = { ...item, at }
    const stored: StoredItem = { ...row, node: name }
    const entry = Buffer.from(JSON.stringify(stored), 'utf8')
    const index = await this.#index(account, node)
    const held = await this.read(account, (nodes) => sumOf(nodes, ({ bytes }) => bytes))
    const gone = [...index.keys()]
      .filter((id) => id !== item.id)
      .slice(0, Math.max(0, index.size - (index.has(item.id) ? 1 : 0) + 1 - kept))
    const freed = gone.reduce((sum, id) => sum + index.get(id)!.bytes, index.get(item.id)?.bytes ?? 0)
    const grown = kept === 0 ? -freed : entry.length - freed
    if (grown > 0 && held + grown > this.limits.accountBytesMax)
      throw new StanzaError('resource-constraint', `you have more than ${this.limits.accountBytesMax} bytes`, {
        type: 'cancel',
        echo: false,
      })
    const last = lastOf(node.config, row)
    // All of it in one turn, and so in one commit; nothing can fail any more but the account that is being deleted.
    return this.#nodes.read(account, async () => {
      if (kept > 0) this.#items.append(account, this.#id(node, item.id), entry)
      for (const id of gone) this.#items.remove(account, this.#id(node, id))
      this.#drop(index, gone)
      if (index.delete(item.id)) {
        this.#indexed--
        if (kept === 0) this.#items.remove(account, this.#id(node, item.id))
      }
      if (kept > 0) {
        index.set(item.id, { at, bytes: entry.length })
        this.#indexed++
      }
      const after = {
        ...node,
        count: index.size,
        bytes: node.bytes + grown,
        last: kept === 0 && last.xml === undefined ? null : last,
      }
      await this.#nodes.set(account, name, after)
      this.#bound()
      return after
    })
  }

  /** Removes items that are there. The last of those that are left is the last item then. */
  async remove(account: Jid, name: string, node: PepNode, ids: readonly string[]): Promise<PepNode> {
    const index = await this.#index(account, node)
    const gone = ids.filter((id) => index.has(id))
    let { last } = node
    if (last !== null && gone.includes(last.id)) {
      const left = [...index.keys()].filter((id) => !gone.includes(id)).at(-1)
      const item = left === undefined ? undefined : await this.get(account, node, left)
      last = item === undefined ? null : lastOf(node.config, item)
    }
    return this.#without(account, name, node, index, gone, last)
  }

  async #without(
    account: Jid,
    name: string,
    node: PepNode,
    index: Indexed,
    gone: readonly string[],
    last: LastItem | null,
  ): Promise<PepNode> {
    const freed = gone.reduce((sum, id) => sum + index.get(id)!.bytes, 0)
    return this.#nodes.read(account, async () => {
      for (const id of gone) this.#items.remove(account, this.#id(node, id))
      this.#drop(index, gone)
      const after = { ...node, count: index.size, bytes: node.bytes - freed, last }
      await this.#nodes.set(account, name, after)
      return after
    })
  }

  /** All items of a node are gone; the node, too, unless it is given as it is to be then. */
  async clear(account: Jid, name: string, node: PepNode, left?: PepNode): Promise<void> {
    const ids: string[] = []
    for await (const { id } of this.#items.range(account, this.#under(node))) ids.push(id)
    await this.#nodes.read(account, async () => {
      for (const id of ids) this.#items.remove(account, id)
      await this.#nodes.set(account, name, left)
    })
    this.#forget(`${account.bare} ${node.key}`)
  }

  /** What a node has of items. */
  index(account: Jid, node: PepNode): Promise<Index> {
    return this.#index(account, node)
  }

  /** Items that are there, in the order in which they are named. Many of them are read as all. */
  async items(account: Jid, node: PepNode, ids: readonly string[]): Promise<Item[]> {
    const found = new Map<string, Item>()
    if (ids.length <= READ_ONE_BY_ONE) {
      for (const id of ids) {
        const item = await this.get(account, node, id)
        if (item !== undefined) found.set(id, item)
      }
    } else {
      const wanted = new Set(ids)
      for await (const { entry } of this.#items.range(account, this.#under(node))) {
        const item = jsonOf<Item>(entry)
        if (wanted.has(item.id)) found.set(item.id, item)
      }
    }
    return ids.flatMap((id) => found.get(id) ?? [])
  }

  async get(account: Jid, node: PepNode, id: string): Promise<Item | undefined> {
    if (node.count === 0) return undefined
    const { last } = node
    if (last?.id === id && last.xml !== undefined) return last as Item
    const entry = await this.#items.get(account, this.#id(node, id))
    return entry && jsonOf<Item>(entry)
  }

  /** What is sent of it: the last one, whole. */
  async last(account: Jid, { key, count, last }: PepNode): Promise<Item | undefined> {
    if (last === null) return undefined
    if (last.xml !== undefined) return last as Item
    if (count === 0) return undefined
    const entry = await this.#items.get(account, `${key}${UNDER}${hashOf(last.id)}`)
    return entry && jsonOf<Item>(entry)
  }

  /** At once where it is cached with the account, else undefined. */
  lastNow({ last }: PepNode): Item | undefined {
    return last?.xml === undefined ? undefined : (last as Item)
  }

  #id({ key }: PepNode, id: string): string {
    return `${key}${UNDER}${hashOf(id)}`
  }

  #under({ key }: PepNode) {
    return { after: key + UNDER, before: key + BEHIND, limit: Number.MAX_SAFE_INTEGER - 2 }
  }

  async #index(account: Jid, node: PepNode): Promise<Indexed> {
    const name = `${account.bare} ${node.key}`
    const known = this.#indexes.get(name)
    if (known !== undefined) return known
    const found: [string, { at: number; bytes: number }][] = []
    const { last, count, bytes } = node
    if (count === 1 && last !== null) found.push([last.id, { at: last.at, bytes }])
    else if (count > 0) {
      for await (const { entry } of this.#items.range(account, this.#under(node))) {
        const { id, at } = jsonOf<Item>(entry)
        found.push([id, { at, bytes: entry.length }])
      }
    }
    const index: Indexed = new Map(found.sort(([, a], [, b]) => a.at - b.at))
    this.#indexes.set(name, index)
    this.#indexed += index.size
    return index
  }

  #drop(index: Indexed, ids: readonly string[]): void {
    for (const id of ids) if (index.delete(id)) this.#indexed--
  }

  /** What was asked for longest ago is forgotten, and made again when it is asked for. */
  #bound(): void {
    for (const name of this.#indexes.keys()) {
      if (this.#indexed + this.#indexes.size <= INDEXED_MAX) return
      this.#forget(name)
    }
  }

  #forget(name: string): void {
    this.#indexed -= this.#indexes.get(name)?.size ?? 0
    this.#indexes.delete(name)
  }
}

/** What grows with what a client says; the last item is short. */
function demandSmall(node: PepNode): void {
  if (JSON.stringify({ ...node, last: null }).length > NODE_UNITS_MAX)
    throw new StanzaError('resource-constraint', 'there is too much to know of this node', { type: 'cancel' })
}

/** Whole where it is short, and sent to whoever comes online; not kept, it could not be read from anywhere else. */
function lastOf(config: Config, item: Item): LastItem {
  const { xml, ...head } = item
  const isSent = settingOf(config, 'send_last_published_item') === 'on_sub_and_presence'
  return xml.length > LAST_UNITS_MAX || !isSent ? head : item
}

/** An id may be any text; a key is short, and has no `~`. */
function hashOf(id: string): string {
  return createHash('sha256').update(id, 'utf8').digest('base64url')
}

function sumOf<T>(values: ReadonlyMap<string, T>, of: (value: T) => number): number {
  let sum = 0
  for (const value of values.values()) sum += of(value)
  return sum
}

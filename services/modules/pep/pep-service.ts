// XEP-0060: publishing, retracting and the rest, of nodes of an account: stored, then told.
//
// Whatever may be refused is refused before anything is stored. What follows from a change is told behind it, and released
// when it is durable. Called in the order of the account.
import type { App } from '#core/module.ts'
import { StanzaError } from '#xmpp/error.ts'
import type { Form } from '#xmpp/form.ts'
import { randomId } from '#xmpp/id.ts'
import type { Jid } from '#xmpp/jid.ts'
import type { Element } from '#xmpp/stanza.ts'
import { asBuffer } from '#xmpp/xml.ts'
import { storedXml } from '../stored-xml.ts'
import type { PepAccess } from './pep-access.ts'
import { type Config, configForm, configured, demandPreconditions, isOn, maxItemsOf, withOptions } from './pep-config.ts'
import type { PepEvents } from './pep-events.ts'
import { type Affiliation, ITEM_ID_BYTES_MAX, type PepLimits, type PepNode, type PepStore } from './pep-store.ts'
import { refusal, unsupported } from './pep-words.ts'

declare module '#core/hooks.ts' {
  interface Events {
    /** At presence(account), in its order: an item was published. */
    'pep.published': PepPublished
    /** The same of items that were retracted; `ids` undefined: all, with the node or without it. */
    'pep.retracted': {
      readonly account: Jid
      readonly node: string
      readonly ids: readonly string[] | undefined
      readonly source: string
    }
  }
}

export interface PepPublished {
  readonly account: Jid
  readonly node: string
  readonly id: string
  readonly payload: Element | undefined
  readonly config: Config
  /** The module that published it, '' for a client: so one that converts knows its own. */
  readonly source: string
}

export interface Publication {
  readonly node: string
  /** One is given to what has none. */
  readonly id?: string | undefined
  readonly payload: Element | undefined
  /** §7.1.5, as submitted. */
  readonly options?: Form | undefined
  readonly by: Jid
  readonly source?: string
}

export class PepService {
  readonly #app: App<PepLimits>
  readonly #store: PepStore
  readonly #access: PepAccess
  readonly #events: PepEvents

  constructor(app: App<PepLimits>, store: PepStore, access: PepAccess, events: PepEvents) {
    this.#app = app
    this.#store = store
    this.#access = access
    this.#events = events
  }

  get limits(): PepLimits {
    return this.#store.limits
  }

  /** The node. Throws item-not-found where there is none. */
  async demand(account: Jid, name: string): Promise<PepNode> {
    const node = await this.#store.node(account, name)
    if (node === undefined) throw new StanzaError('item-not-found')
    return node
  }

  /** As `demand`, for its owner alone: forbidden for anybody else, whether it is there or not. */
  async demandOwned(account: Jid, name: string, who: Jid): Promise<PepNode> {
    this.#access.demandOwner(account, who)
    return this.demand(account, name)
  }

  /** §8.1. Throws conflict where there is one of that name. */
  async create(account: Jid, name: string, form: Form | undefined): Promise<void> {
    const config = form === undefined ? {} : configured({}, form, this.limits.itemsMax)
    if ((await this.#store.node(account, name)) !== undefined) throw new StanzaError('conflict')
    await this.#store.make(account, name, config)
  }

  /** §7.1; the id of the item. A node that is not there is made (XEP-0163 §3). */
  async publish(account: Jid, publication: Publication): Promise<string> {
    const { node: name, options, payload, by, source = '' } = publication
    const { itemsMax } = this.limits
    let node = await this.#store.node(account, name)
    this.#access.demandPublish(account, node, by)
    if (node !== undefined && options !== undefined) demandPreconditions(node.config, options, itemsMax)
    const config = node?.config ?? (options === undefined ? {} : withOptions({}, options, itemsMax))
    const id = publication.id ?? randomId(9)
    const item = { id, by: by.bare, xml: this.#xmlOf(config, id, payload) }
    node ??= await this.#store.make(account, name, config)
    const after = await this.#store.put(account, name, node, item, maxItemsOf(config, itemsMax))
    await this.#events.published(account, name, after, item)
    await this.#app.emit('pep.published', { account, node: name, id, payload, config, source })
    return id
  }

  /** A publication without an item (§7.1.3.6): of a node that keeps none and sends no payloads. */
  async notify(account: Jid, name: string, by: Jid): Promise<void> {
    const node = await this.#store.node(account, name)
    this.#access.demandPublish(account, node, by)
    if (isOn(node?.config ?? {}, 'persist_items')) throw refusal('bad-request', 'item-required')
    if (isOn(node!.config, 'deliver_payloads')) throw refusal('bad-request', 'payload-required')
    await this.#events.published(account, name, node!, undefined)
  }

  #xmlOf(config: Config, id: string, payload: Element | undefined): string {
    const persists = isOn(config, 'persist_items')
    const delivers = isOn(config, 'deliver_payloads')
    if (!persists && !delivers) throw refusal('bad-request', 'item-forbidden')
    if (payload === undefined && delivers) throw refusal('bad-request', 'payload-required')
    if (Buffer.byteLength(id) > ITEM_ID_BYTES_MAX)
      throw new StanzaError('not-acceptable', `the id of an item has at most ${ITEM_ID_BYTES_MAX} bytes`)
    const { itemBytesMax } = this.limits
    const xml = payload === undefined ? Buffer.alloc(0) : storedXml([payload], itemBytesMax)
    if (xml === undefined) throw refusal('not-acceptable', 'payload-too-big', `an item has at most ${itemBytesMax} bytes`, false)
    return asBuffer(xml).toString('utf8')
  }

  /** §7.2: by the owner, or by who has published it. `notify`: whether the request asks for it. */
  async retract(account: Jid, name: string, id: string, notify: boolean, by: Jid, source = ''): Promise<void> {
    const own = by.bare === account.bare
    const node = await this.#store.node(account, name)
    if (!own && (node === undefined || !(await this.#access.mayRead(account, node, by)))) throw new StanzaError('forbidden')
    if (node === undefined) throw new StanzaError('item-not-found')
    demandPersistent(node) // §7.2.3.5
    if (!own && (await this.#store.get(account, node, id))?.by !== by.bare) throw new StanzaError('forbidden')
    if (!(await this.#store.index(account, node)).has(id)) throw new StanzaError('item-not-found')
    const after = await this.#store.remove(account, name, node, [id])
    if (notify || isOn(node.config, 'notify_retract')) await this.#events.retracted(account, name, after, [id])
    await this.#app.emit('pep.retracted', { account, node: name, ids: [id], source })
  }

  /** §8.2.4. */
  async configure(account: Jid, name: string, node: PepNode, form: Form): Promise<void> {
    const config = configured(node.config, form, this.limits.itemsMax)
    const after = await this.#store.change(account, name, node, { ...node, config }, maxItemsOf(config, this.limits.itemsMax))
    if (!isOn(config, 'notify_config')) return
    await this.#events.changed(
      account,
      name,
      after,
      'configuration',
      isOn(config, 'deliver_payloads') ? configForm(config, 'result') : undefined,
    )
  }

  /** §8.4. */
  async delete(account: Jid, name: string, node: PepNode): Promise<void> {
    await this.#store.clear(account, name, node)
    if (isOn(node.config, 'notify_delete')) await this.#events.changed(account, name, node, 'delete')
    await this.#app.emit('pep.retracted', { account, node: name, ids: undefined, source: '' })
  }

  /** §8.5. */
  async purge(account: Jid, name: string, node: PepNode): Promise<void> {
    demandPersistent(node) // §8.5.3.3
    const left = { ...node, count: 0, bytes: 0, last: null }
    await this.#store.clear(account, name, node, left)
    if (isOn(node.config, 'notify_retract')) await this.#events.changed(account, name, left, 'purge')
    await this.#app.emit('pep.retracted', { account, node: name, ids: undefined, source: '' })
  }

  /** §6.1: once more is once. */
  async subscribe(account: Jid, name: string, node: PepNode, jid: Jid): Promise<void> {
    if (!node.subscribers.includes(jid.full)) {
      if (node.subscribers.length >= this.limits.subscribersMax) throw refusal('policy-violation', 'too-many-subscriptions')
      await this.#change(account, name, node, { ...node, subscribers: [...node.subscribers, jid.full] })
    }
    await this.#events.welcome(account, name, node, jid)
  }

  async setSubscribers(account: Jid, name: string, node: PepNode, subscribers: readonly string[]): Promise<void> {
    if (subscribers.length > this.limits.subscribersMax) throw refusal('policy-violation', 'too-many-subscriptions')
    await this.#change(account, name, node, { ...node, subscribers })
  }

  async setAffiliations(
    account: Jid,
    name: string,
    node: PepNode,
    affiliations: Readonly<Record<string, Affiliation>>,
  ): Promise<void> {
    await this.#change(account, name, node, { ...node, affiliations })
  }

  async #change(account: Jid, name: string, before: PepNode, after: PepNode): Promise<void> {
    await this.#store.change(account, name, before, after, maxItemsOf(after.config, this.limits.itemsMax))
  }
}

/** Throws feature-not-implemented for a node that keeps no items. */
export function demandPersistent({ config }: PepNode): void {
  if (!isOn(config, 'persist_items')) throw unsupported('persistent-items')
}

// XEP-0060 §5 to §7: what an entity asks of the nodes of an account: items, subscriptions, publications.

import { RESULT_BYTES_MAX } from '#core/iq.ts'
import type { IqCall } from '#core/module.ts'
import { StanzaError } from '#xmpp/error.ts'
import { randomId } from '#xmpp/id.ts'
import { type Jid, JidError, parseJid } from '#xmpp/jid.ts'
import { pageOf, pageRequestOf, setElement } from '#xmpp/rsm.ts'
import { attr, childrenOf, type Element, el } from '#xmpp/stanza.ts'
import { elementsOf } from '../stored-xml.ts'
import { isSubscribed, type PepAccess } from './pep-access.ts'
import { submittedForm } from './pep-config.ts'
import { demandPersistent, type PepService } from './pep-service.ts'
import type { Index, Item, PepNode, PepStore } from './pep-store.ts'
import { NS_PUBSUB, nodeOf, refusal, unsupported } from './pep-words.ts'

/** Of a page of items: so that it fits into one answer, whatever is asked for. */
const PAGE_BYTES_MAX = Math.floor(RESULT_BYTES_MAX * 0.9)

export class PepRequests {
  readonly #service: PepService
  readonly #store: PepStore
  readonly #access: PepAccess

  constructor(service: PepService, store: PepStore, access: PepAccess) {
    this.#service = service
    this.#store = store
    this.#access = access
  }

  async get(call: IqCall): Promise<Element> {
    const [asked] = elementsIn(call.payload)
    switch (asked?.name) {
      case 'items':
        return this.#items(call, asked)
      case 'subscriptions':
        return this.#subscriptions(call, asked)
      case 'affiliations':
        return this.#affiliations(call, asked)
      case 'options':
        throw unsupported('subscription-options') // §6.3
      case 'default':
        throw unsupported('retrieve-default-sub') // §6.4
      default:
        throw new StanzaError('bad-request', 'nothing that XEP-0060 asks for')
    }
  }

  async set(call: IqCall): Promise<Element | void> {
    const [asked, more] = elementsIn(call.payload)
    switch (asked?.name) {
      case 'publish':
        return this.#publish(call, asked, more)
      case 'retract':
        return this.#retract(call, asked)
      case 'create':
        return this.#create(call, asked, more)
      case 'subscribe':
        return this.#subscribe(call, asked)
      case 'unsubscribe':
        return this.#unsubscribe(call, asked)
      case 'options':
        throw unsupported('subscription-options')
      default:
        throw new StanzaError('bad-request', 'nothing that XEP-0060 does')
    }
  }

  /** §7.1. */
  async #publish({ account, iq, payload }: IqCall, publish: Element, more: Element | undefined): Promise<Element> {
    const node = nodeOf(publish)
    const [item, another] = childrenOf(publish, 'item', NS_PUBSUB)
    if (another !== undefined) throw new StanzaError('bad-request', 'one item is published at a time') // §7.1.1
    if (item === undefined) {
      await this.#service.notify(account, node, iq.from)
      return el('pubsub', NS_PUBSUB, {}, el('publish', NS_PUBSUB, { node }))
    }
    const [content, others] = elementsIn(item)
    if (others !== undefined) throw refusal('bad-request', 'invalid-payload') // §7.1.3.5
    const options = submittedForm(more?.name === 'publish-options' ? more : undefined, 'publish-options')
    const given = attr(item, 'id') === '' ? undefined : attr(item, 'id')
    const id = await this.#service.publish(account, { node, id: given, payload: content, options, by: iq.from })
    return el(payload.name, NS_PUBSUB, {}, el('publish', NS_PUBSUB, { node }, el('item', NS_PUBSUB, { id })))
  }

  /** §7.2. */
  async #retract({ account, iq }: IqCall, retract: Element): Promise<void> {
    const node = nodeOf(retract)
    const items = childrenOf(retract, 'item', NS_PUBSUB)
    const id = attr(items[0] ?? retract, 'id')
    if (items.length !== 1 || id === '') throw refusal('bad-request', 'item-required') // §7.2.3.4
    const notify = attr(retract, 'notify')
    await this.#service.retract(account, node, id, notify === '1' || notify === 'true', iq.from)
  }

  /** §8.1. */
  async #create({ account, iq }: IqCall, create: Element, more: Element | undefined): Promise<Element | void> {
    this.#access.demandOwner(account, iq.from)
    const configure = more?.name === 'configure' ? more : undefined
    if (configure?.attrs.node !== undefined) throw new StanzaError('bad-request') // §8.1.3
    const instant = attr(create, 'node') === ''
    const node = instant ? randomId(9) : attr(create, 'node')
    await this.#service.create(account, node, submittedForm(configure, 'configure'))
    if (instant) return el('pubsub', NS_PUBSUB, {}, el('create', NS_PUBSUB, { node }))
  }

  /** §6.5. */
  async #items({ account, iq, payload }: IqCall, items: Element): Promise<Element> {
    const name = nodeOf(items)
    const node = await this.#service.demand(account, name)
    await this.#access.demandRead(account, node, iq.from)
    const asked = childrenOf(items, 'item', NS_PUBSUB)
    const [found, set] =
      asked.length > 0 ? [await this.#named(account, node, asked), undefined] : await this.#page(account, node, items, payload)
    return el('pubsub', NS_PUBSUB, {}, el('items', NS_PUBSUB, { node: name }, ...found.map(itemElement)), ...(set ? [set] : []))
  }

  /** §6.5.8: those of them that there are, as many as there is room for. */
  async #named(account: Jid, node: PepNode, asked: readonly Element[]): Promise<readonly Item[]> {
    const index = await this.#store.index(account, node)
    const ids = [...new Set(asked.map((item) => attr(item, 'id')))].filter((id) => index.has(id))
    const found = await this.#store.items(account, node, fitting(index, ids))
    const { last } = node // §6.5.5: it may be there and not be kept
    if (last?.xml !== undefined && !index.has(last.id) && asked.some((item) => attr(item, 'id') === last.id))
      found.push(last as Item)
    return found
  }

  /** §6.5.2 to §6.5.7: in the order of publication. What is more than fits is left out, and the answer says so (§6.5.4). */
  async #page(account: Jid, node: PepNode, items: Element, payload: Element): Promise<[readonly Item[], Element | undefined]> {
    const index = await this.#store.index(account, node)
    const request = pageRequestOf(payload)
    const latest = maxOf(items)
    if (index.size === 0 && latest !== 0 && request === undefined) {
      const last = await this.#store.last(account, node) // §6.5.5: not kept, but there
      if (last === undefined) demandPersistent(node) // §6.5.9.4
      return [last === undefined ? [] : [last], undefined]
    }
    const ids = [...index.keys()]
    const some = latest === undefined ? ids : ids.slice(Math.max(0, ids.length - latest))
    const page = pageOf(some, (id) => id, request, { pageMax: this.#service.limits.itemsMax })
    const backwards = request === undefined || request.before !== undefined
    const chosen = backwards ? fitting(index, [...page.items].reverse()).reverse() : fitting(index, page.items)
    const found = await this.#store.items(account, node, chosen)
    if (chosen.length === page.items.length) return [found, page.set]
    const first = chosen[0]!
    return [found, setElement({ first, last: chosen.at(-1), index: some.indexOf(first), count: some.length })]
  }

  /** §6.1. */
  async #subscribe({ account, iq }: IqCall, subscribe: Element): Promise<Element> {
    const name = nodeOf(subscribe)
    const jid = subscriberOf(subscribe, iq.from)
    const node = await this.#service.demand(account, name)
    await this.#access.demandRead(account, node, iq.from)
    await this.#service.subscribe(account, name, node, jid)
    return el('pubsub', NS_PUBSUB, {}, subscriptionElement(name, jid.full, 'subscribed'))
  }

  /** §6.2. */
  async #unsubscribe({ account, iq }: IqCall, unsubscribe: Element): Promise<void> {
    const name = nodeOf(unsubscribe)
    const jid = subscriberOf(unsubscribe, iq.from, 'forbidden')
    const node = await this.#service.demand(account, name)
    if (!node.subscribers.includes(jid.full)) throw refusal('unexpected-request', 'not-subscribed') // §6.2.3.2
    await this.#service.setSubscribers(
      account,
      name,
      node,
      node.subscribers.filter((subscriber) => subscriber !== jid.full),
    )
  }

  /** §5.6: one's own. */
  async #subscriptions({ account, iq }: IqCall, { attrs: { node: only } }: Element): Promise<Element> {
    const found = await this.#store.read(account, (nodes) => {
      const own: Element[] = []
      for (const [name, { subscribers }] of nodes) {
        if (only !== undefined && name !== only) continue
        for (const jid of subscribers)
          if (parseJid(jid).bare === iq.from.bare) own.push(subscriptionElement(name, jid, 'subscribed'))
      }
      return own
    })
    return el('pubsub', NS_PUBSUB, {}, el('subscriptions', NS_PUBSUB, { node: only }, ...found))
  }

  /** §5.7: one's own. */
  async #affiliations({ account, iq }: IqCall, { attrs: { node: only } }: Element): Promise<Element> {
    const found = await this.#store.read(account, (nodes) => {
      const own: Element[] = []
      for (const [node, { affiliations }] of nodes) {
        if (only !== undefined && node !== only) continue
        const affiliation = iq.from.bare === account.bare ? 'owner' : affiliations[iq.from.bare]
        if (affiliation !== undefined) own.push(el('affiliation', NS_PUBSUB, { node, affiliation }))
      }
      return own
    })
    return el('pubsub', NS_PUBSUB, {}, el('affiliations', NS_PUBSUB, { node: only }, ...found))
  }
}

function itemElement({ id, xml }: Item): Element {
  return el('item', NS_PUBSUB, { id }, ...elementsOf(Buffer.from(xml, 'utf8')))
}

/** As many of them as fit into an answer, and one at least. */
function fitting(index: Index, ids: readonly string[]): string[] {
  let bytes = 0
  const some: string[] = []
  for (const id of ids) {
    bytes += index.get(id)!.bytes
    if (bytes > PAGE_BYTES_MAX && some.length > 0) break
    some.push(id)
  }
  return some
}

function subscriptionElement(node: string, jid: string, subscription: string): Element {
  return el('subscription', NS_PUBSUB, { node, jid, subscription })
}

/** §6.1.3.1: one subscribes oneself, with a resource or without. */
function subscriberOf(element: Element, from: Jid, otherwise: 'bad-request' | 'forbidden' = 'bad-request'): Jid {
  let jid: Jid
  try {
    jid = parseJid(attr(element, 'jid'))
  } catch (error) {
    if (error instanceof JidError) throw refusal('bad-request', 'invalid-jid')
    throw error
  }
  if (jid.bare === from.bare) return jid
  throw otherwise === 'forbidden' ? new StanzaError('forbidden') : refusal('bad-request', 'invalid-jid') // §6.2.3.3
}

function maxOf({ attrs: { max_items: text } }: Element): number | undefined {
  if (text === undefined) return undefined
  if (!/^\d{1,9}$/.test(text)) throw new StanzaError('bad-request', 'max_items is a number')
  return Number(text)
}

export function elementsIn({ children }: Element): readonly Element[] {
  return children.filter((child): child is Element => typeof child !== 'string')
}

/** What disco#items of an account shows to who asks: the nodes that he may see. */
export async function visibleNodes(store: PepStore, access: PepAccess, account: Jid, who: Jid): Promise<[string, PepNode][]> {
  const all = await store.read(account, (nodes) => [...nodes])
  const visible: [string, PepNode][] = []
  for (const entry of all) if (isSubscribed(entry[1], who) || (await access.mayRead(account, entry[1], who))) visible.push(entry)
  return visible
}

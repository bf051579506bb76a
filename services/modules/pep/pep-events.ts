// XEP-0163 §4: events of nodes of an account, told to whom they are for.
//
// An event is one message. Contacts that see the account's presence get it the way they get that, one message per edge, which
// gives it to those clients that want it (§4.2); so do the account's own. Who has subscribed by himself gets one of his own.
import type { Events } from '#core/hooks.ts'
import type { App } from '#core/module.ts'
import { randomId } from '#xmpp/id.ts'
import type { Jid } from '#xmpp/jid.ts'
import { NS_DELAY } from '#xmpp/ns.ts'
import { type Element, el, readdress, type Stanza, stanza } from '#xmpp/stanza.ts'
import { formatDateTime } from '#xmpp/time.ts'
import { elementsOf } from '../stored-xml.ts'
import type { PepAccess } from './pep-access.ts'
import { isOn, settingOf } from './pep-config.ts'
import type { Item, PepLimits, PepNode, PepStore } from './pep-store.ts'
import { NS_EVENT } from './pep-words.ts'

export class PepEvents {
  readonly #app: App<PepLimits>
  readonly #store: PepStore
  readonly #access: PepAccess

  constructor(app: App<PepLimits>, store: PepStore, access: PepAccess) {
    this.#app = app
    this.#store = store
    this.#access = access
    if (app.role === 'presence') app.on('presence.greeted', (greeted) => this.#greet(greeted))
  }

  /** §4.3: an item has come. */
  async published(account: Jid, name: string, node: PepNode, item: Omit<Item, 'at'> | undefined): Promise<void> {
    await this.#tell(account, name, node, el('items', NS_EVENT, { node: name }, ...(item ? [itemOf(node, item)] : [])))
  }

  /** XEP-0060 §7.2.2.1. */
  async retracted(account: Jid, name: string, node: PepNode, ids: readonly string[]): Promise<void> {
    await this.#tell(
      account,
      name,
      node,
      el('items', NS_EVENT, { node: name }, ...ids.map((id) => el('retract', NS_EVENT, { id }))),
    )
  }

  /** XEP-0060 §8.2.5.3, §8.4.2, §8.5.2. */
  async changed(
    account: Jid,
    name: string,
    node: PepNode,
    what: 'configuration' | 'delete' | 'purge',
    form?: Element,
  ): Promise<void> {
    await this.#tell(account, name, node, el(what, NS_EVENT, { node: name }, ...(form ? [form] : [])))
  }

  /** XEP-0060 §6.1.7: who has subscribed is sent the last item. */
  async welcome(account: Jid, name: string, node: PepNode, to: Jid): Promise<void> {
    if (settingOf(node.config, 'send_last_published_item') === 'never') return
    const item = await this.#store.last(account, node)
    if (item !== undefined) this.#app.send(readdress(lastOf(account, name, node, item), { to }))
  }

  async #tell(account: Jid, name: string, node: PepNode, what: Element): Promise<void> {
    if (!isOn(node.config, 'deliver_notifications')) return
    const only = await this.#access.audience(account, node)
    const subscribers = await this.#access.subscribers(account, node)
    const event = eventOf(account, node, what)
    this.#app.shown(account, event, only === undefined ? { filter: filterOf(name) } : { filter: filterOf(name), only })
    for (const to of subscribers) this.#app.send(readdress(event, { to }))
  }

  /** §4.3.4: who has come online is sent the last item of each node. Where all is in memory, at once. */
  #greet(greeted: Events['presence.greeted']): void | Promise<void> {
    const done = this.#store.read(greeted.contact, (nodes) => {
      let waiting: Promise<void> | undefined
      for (const [name, node] of nodes) {
        if (node.last === null || !isOn(node.config, 'deliver_notifications')) continue
        if (greeted.nodes !== undefined && !greeted.nodes.includes(name)) continue
        if (settingOf(node.config, 'send_last_published_item') !== 'on_sub_and_presence') continue
        const audience = this.#access.audience(greeted.contact, node)
        const item = this.#store.lastNow(node)
        if (item !== undefined && !(audience instanceof Promise)) this.#sendLast(greeted, name, node, item, audience)
        else waiting = this.#greetLater(greeted, name, node, audience, waiting)
      }
      return waiting
    })
    return done instanceof Promise ? done.then(() => {}) : done
  }

  async #greetLater(
    greeted: Events['presence.greeted'],
    name: string,
    node: PepNode,
    audience: ReturnType<PepAccess['audience']>,
    before: Promise<void> | undefined,
  ): Promise<void> {
    await before
    const item = await this.#store.last(greeted.contact, node)
    if (item !== undefined) this.#sendLast(greeted, name, node, item, await audience)
  }

  #sendLast(
    { contact, watchers, at }: Events['presence.greeted'],
    name: string,
    node: PepNode,
    item: Item,
    audience: readonly string[] | undefined,
  ): void {
    const only = audience === undefined ? watchers : watchers.filter((jid) => jid === contact.bare || audience.includes(jid))
    if (only.length === 0) return
    const message = lastOf(contact, name, node, item)
    const to = at === undefined ? { others: true } : { at } // its own sessions are greeted each for itself
    this.#app.shown(contact, message, { filter: filterOf(name), only, ...to })
  }
}

/** XEP-0060 §9.2: what a client has among its features that wants to hear of a node. */
function filterOf(name: string): string {
  return `${name}+notify`
}

function eventOf(account: Jid, { config }: PepNode, what: Element, ...more: readonly Element[]): Stanza {
  const type = settingOf(config, 'notification_type')
  return stanza(
    'message',
    account,
    { id: randomId(9), type: type === 'normal' ? '' : type },
    el('event', NS_EVENT, {}, what),
    ...more,
  )
}

/** With the time when it was published (XEP-0163 §4.3.4). */
function lastOf(account: Jid, name: string, node: PepNode, item: Item): Stanza {
  const delay = el('delay', NS_DELAY, { stamp: formatDateTime(item.at) })
  return eventOf(account, node, el('items', NS_EVENT, { node: name }, itemOf(node, item)), delay)
}

function itemOf({ config }: PepNode, { id, xml }: Omit<Item, 'at'>): Element {
  const payload = isOn(config, 'deliver_payloads') ? elementsOf(Buffer.from(xml, 'utf8')) : []
  return el('item', NS_EVENT, { id }, ...payload)
}

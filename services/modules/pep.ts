// XEP-0163: Personal Eventing Protocol: every account is a service of XEP-0060.
//
// pep-requests.ts and pep-owner.ts read what is asked and write the answers; pep-service.ts does it, pep-store.ts keeps it,
// pep-access.ts says who may, and pep-events.ts tells who is to hear of it. XEP-0222 and XEP-0223, what clients keep in public
// and in private, are publish-options; avatars, nicknames, bookmarks, keys of OMEMO and the rest are nodes like any other.
import { defineModule } from '#core/module.ts'
import { elementText, jsonOf } from '#core/storage/portable.ts'
import type { Jid } from '#xmpp/jid.ts'
import { type Element, el } from '#xmpp/stanza.ts'
import disco, { NS_DISCO_INFO, NS_DISCO_ITEMS } from './disco.ts'
import { PepAccess } from './pep/pep-access.ts'
import { type Config, configForm, metaDataForm } from './pep/pep-config.ts'
import { PepEvents } from './pep/pep-events.ts'
import { PepOwner } from './pep/pep-owner.ts'
import { PepRequests, visibleNodes } from './pep/pep-requests.ts'
import { PepService, type Publication } from './pep/pep-service.ts'
import { type PepLimits, type PepNode, PepStore, type StoredItem } from './pep/pep-store.ts'
import { NS_OWNER, NS_PUBSUB } from './pep/pep-words.ts'
import { elementsOf } from './stored-xml.ts'

/** For modules that convert from and to what they keep. In the order of the account, in the role presence. */
export interface Pep {
  publish(account: Jid, publication: Publication): Promise<string>
  retract(account: Jid, node: string, id: string, source: string): Promise<void>
  /** Undefined where there is no such node. */
  configOf(account: Jid, node: string): Promise<Config | undefined>
  item(account: Jid, node: string, id: string): Promise<Element | undefined>
  /** In the order of publication. */
  items(account: Jid, node: string): Promise<readonly { readonly id: string; readonly payload: Element | undefined }[]>
}

/** §6.1, XEP-0060 §10. */
const FEATURES = [
  'access-open',
  'access-presence',
  'access-roster',
  'access-whitelist',
  'auto-create',
  'auto-subscribe',
  'config-node',
  'config-node-max',
  'create-and-configure',
  'create-nodes',
  'delete-items',
  'delete-nodes',
  'filtered-notifications',
  'instant-nodes',
  'item-ids',
  'last-published',
  'manage-subscriptions',
  'member-affiliation',
  'meta-data',
  'modify-affiliations',
  'multi-items',
  'outcast-affiliation',
  'persistent-items',
  'presence-notifications',
  'presence-subscribe',
  'publish',
  'publish-options',
  'publisher-affiliation',
  'purge-nodes',
  'retract-items',
  'retrieve-affiliations',
  'retrieve-default',
  'retrieve-items',
  'retrieve-subscriptions',
  'rsm',
  'subscribe',
].map((feature) => `${NS_PUBSUB}#${feature}`)

export default defineModule<Pep, PepLimits>({
  name: 'pep',
  home: 'presence', // who may see it is in the roster
  xeps: [
    { number: '0060', version: '1.30.0', status: 'partial' },
    { number: '0163', version: '1.2.2' },
    { number: '0172', version: '1.1' },
    { number: '0222', version: '1.0' },
    { number: '0223', version: '1.1.1' },
    { number: '0384', version: '0.9.1' },
    { number: '0490', version: '1.0.1', status: 'partial' },
  ],
  features: { account: [NS_PUBSUB, ...FEATURES] },
  namespaces: [NS_PUBSUB, NS_OWNER],
  journals: ['pep-items'],
  portable: [
    { of: 'pep', around: { name: 'pubsub', ns: NS_OWNER }, write: nodeText },
    { of: 'pep-items', around: { name: 'pubsub', ns: NS_PUBSUB }, write: itemText },
  ],
  options: {
    nodesMax: {
      default: 250,
      min: 10,
      max: 2_000,
      doc: 'Nodes of personal eventing that an account may have; each login reads them.',
    },
    itemsMax: {
      default: 1_000,
      min: 1,
      max: 10_000,
      doc: 'Items that one node may keep; what `max` means in its configuration.',
    },
    itemBytesMax: { default: 196_608, min: 1_024, max: 262_144, doc: 'The largest item, in bytes.' },
    accountBytesMax: {
      default: 8_388_608,
      min: 65_536,
      max: 268_435_456,
      doc: 'What an account may keep in all its nodes, in bytes.',
    },
    subscribersMax: { default: 100, min: 1, max: 1_000, doc: 'Who may subscribe to one node without being a contact.' },
  },

  setup(app) {
    const store = new PepStore(app, app.map<PepNode>('pep'), app.journal('pep-items'))
    const access = new PepAccess(app)
    const service = new PepService(app, store, access, new PepEvents(app, store, access))
    const requests = new PepRequests(service, store, access)
    const owner = new PepOwner(service, access)
    app.iq('get', NS_PUBSUB, 'pubsub', 'account', (call) => requests.get(call))
    app.iq('set', NS_PUBSUB, 'pubsub', 'account', (call) => requests.set(call))
    app.iq('get', NS_OWNER, 'pubsub', 'account', (call) => owner.get(call))
    app.iq('set', NS_OWNER, 'pubsub', 'account', (call) => owner.set(call))

    const { accounts } = app.need(disco)
    accounts.identities.push(el('identity', NS_DISCO_INFO, { category: 'pubsub', type: 'pep' })) // §6.1
    accounts.nodes.push({
      /** XEP-0060 §5.3, §5.4. */
      async info({ account, iq }, name) {
        const node = await service.demand(account, name)
        await access.demandRead(account, node, iq.from)
        const features = [NS_PUBSUB, ...FEATURES].map((feature) => el('feature', NS_DISCO_INFO, { var: feature }))
        const more = { num_subscribers: String(node.subscribers.length) }
        const identity = el('identity', NS_DISCO_INFO, { category: 'pubsub', type: 'leaf' })
        return [identity, ...features, metaDataForm(node.config, account.bare, more)]
      },
      /** XEP-0060 §5.2: the nodes; §5.5: the items of one. */
      async items({ account, iq }, name) {
        if (name === undefined) {
          const visible = await visibleNodes(store, access, account, iq.from)
          return visible.map(([node, { config }]) =>
            el('item', NS_DISCO_ITEMS, { jid: account.bare, node, name: config.title?.[0] }),
          )
        }
        const node = await service.demand(account, name)
        await access.demandRead(account, node, iq.from)
        const ids = [...(await store.index(account, node)).keys()]
        return ids.map((id) => el('item', NS_DISCO_ITEMS, { jid: account.bare, name: id }))
      },
    })
    return apiOf(service, store)
  },
})

function apiOf(service: PepService, store: PepStore): Pep {
  return {
    publish: (account, publication) => service.publish(account, publication),
    retract: (account, node, id, source) => service.retract(account, node, id, true, account, source),
    configOf: async (account, name) => (await store.node(account, name))?.config,
    async item(account, name, id) {
      const node = await store.node(account, name)
      const item = node && (await store.get(account, node, id))
      return item && elementsOf(Buffer.from(item.xml, 'utf8'))[0]
    },
    async items(account, name) {
      const node = await store.node(account, name)
      if (node === undefined) return []
      const items = await store.items(account, node, [...(await store.index(account, node)).keys()])
      return items.map(({ id, xml }) => ({ id, payload: elementsOf(Buffer.from(xml, 'utf8'))[0] }))
    },
  }
}

/** XEP-0227 §4.8: what a node is. */
function nodeText(value: Uint8Array, node: string): string {
  const { config, affiliations, subscribers } = jsonOf<PepNode>(value)
  const elements = [
    el('configure', NS_OWNER, { node }, configForm(config, 'result')),
    el(
      'affiliations',
      NS_OWNER,
      { node },
      ...Object.entries(affiliations).map(([jid, affiliation]) => el('affiliation', NS_OWNER, { jid, affiliation })),
    ),
    el(
      'subscriptions',
      NS_OWNER,
      { node },
      ...subscribers.map((jid) => el('subscription', NS_OWNER, { jid, subscription: 'subscribed' })),
    ),
  ]
  return elements
    .filter(({ children }) => children.length > 0)
    .map((element) => elementText(element, NS_OWNER))
    .join('')
}

/** The same of an item. Those of one node follow each other, each in an element of its own. */
function itemText(value: Uint8Array): string {
  const { id, by, node, xml } = jsonOf<StoredItem>(value)
  const item = el('item', NS_PUBSUB, { id, publisher: by }, ...elementsOf(Buffer.from(xml, 'utf8')))
  return elementText(el('items', NS_PUBSUB, { node }, item), NS_PUBSUB)
}

// XEP-0030: Service Discovery, of the server and of its accounts.
//
// What is announced follows from the metadata and options of the modules and from nothing else, so that every edge computes the
// same hash of it for its stream features (caps.ts) as this module answers with. Only items come and go at run time.

import { type AnyModule, type App, defineModule, type IqCall, type ServerFacts } from '#core/module.ts'
import { factsOf } from '#core/settings/hosts.ts'
import type { MaybePromise } from '#core/storage/store.ts'
import { StanzaError } from '#xmpp/error.ts'
import type { Jid } from '#xmpp/jid.ts'
import { NS_DISCO_INFO } from '#xmpp/ns.ts'
import { type Element, el } from '#xmpp/stanza.ts'

export { NS_DISCO_INFO } from '#xmpp/ns.ts'
export const NS_DISCO_ITEMS = 'http://jabber.org/protocol/disco#items'
export const SOFTWARE_NAME = 'Rookery'

export interface Item {
  readonly jid: string
  readonly name?: string
}

export interface Disco {
  /** What the host lists (§4.1): services with addresses of their own. */
  readonly items: { add(item: Item): void }
  /** What the host answers for a node: identities, features and forms (§3.2), and its items (§4.2). Either may depend on who asks. */
  readonly nodes: { add(node: string, info: Answer, items?: Answer): void }
  /** What accounts are, beside accounts, and who answers for their nodes. Filled at start. */
  readonly accounts: { readonly identities: Element[]; readonly nodes: AccountNodes[] }
}

/** Nodes that accounts have; who answers says who may know of them, and throws item-not-found where there is none. */
export interface AccountNodes {
  info(call: IqCall, node: string): Promise<readonly Element[]>
  /** Of the account itself where no node is named: who asks may see its presence. */
  items(call: IqCall, node: string | undefined): Promise<readonly Element[]>
}

type Answer = (call: IqCall) => readonly Element[]

/** The part of presence/roster.ts that is needed here. */
interface Rosters {
  seenBy(account: Jid, contact: Jid): MaybePromise<boolean>
}

/** Identities, features and forms of the host: what is below `<query/>` (§3.1, XEP-0128 §2). */
export function hostInfo(server: ServerFacts, modules: readonly AnyModule[]): readonly Element[] {
  const features = modules.flatMap(({ features }) => features?.host ?? [])
  const more = modules.flatMap(({ name, hostForms }) => hostForms?.(server.moduleOptions[name] ?? {}, server) ?? [])
  return [...infoOf('server', 'im', SOFTWARE_NAME, features), ...more].sort((a, b) => placeOf(a) - placeOf(b))
}

/** The order in the schema of XEP-0030 §11.1; forms stand behind it. */
function placeOf({ name, ns }: Element): number {
  return ns !== NS_DISCO_INFO ? 2 : name === 'identity' ? 0 : 1
}

/** The same of every account. */
function accountInfo(modules: readonly AnyModule[]): readonly Element[] {
  return infoOf(
    'account',
    'registered',
    undefined,
    modules.flatMap(({ features }) => features?.account ?? []),
  )
}

/** §3.1: every entity has an identity and supports disco#info; no feature twice. */
function infoOf(category: string, type: string, name: string | undefined, announced: readonly string[]): readonly Element[] {
  const features = [...new Set([NS_DISCO_INFO, NS_DISCO_ITEMS, ...announced])].sort()
  return [
    el('identity', NS_DISCO_INFO, { category, type, name }),
    ...features.map((feature) => el('feature', NS_DISCO_INFO, { var: feature })),
  ]
}

export default defineModule<Disco>({
  name: 'disco',
  home: 'presence', // who may ask about an account is in its roster
  xeps: [{ number: '0030', version: '2.5.0' }],
  namespaces: [NS_DISCO_INFO, NS_DISCO_ITEMS],

  setup(app) {
    /** Of each domain that is not as all are. */
    const hosts = new Map<ServerFacts, readonly Element[]>()
    const infoOfHost = (domain: string): readonly Element[] => {
      const facts = factsOf(app.server, domain)
      const known = hosts.get(facts)
      if (known !== undefined) return known
      const info = hostInfo(facts, app.modules)
      hosts.set(facts, info)
      return info
    }
    const account = accountInfo(app.modules)
    const accounts = { identities: [] as Element[], nodes: [] as AccountNodes[] }
    const items: Item[] = []
    const nodes = new Map<string, { readonly info: Answer; readonly items: Answer }>()
    const rosters = app.needNamed<Rosters>('roster')

    /**
     * §8: the account itself may ask, and who may see its presence. Anybody else is told what he is told of an account that
     * is not there, which RFC 6121 §8.5.1 wants to be service-unavailable: also for items, where §8 speaks of an empty list.
     */
    async function demandEntitled({ account, iq }: IqCall): Promise<void> {
      if (iq.from.bare === account.bare || (await rosters?.seenBy(account, iq.from)) === true) return
      throw new StanzaError('service-unavailable')
    }

    app.iq('get', NS_DISCO_INFO, 'query', 'host', (call) => {
      const { node } = call.payload.attrs
      const info = node === undefined ? infoOfHost(call.iq.to!.domain) : nodes.get(node)?.info(call)
      if (info === undefined) throw new StanzaError('item-not-found') // §7
      return el('query', NS_DISCO_INFO, { node }, ...info) // §3.2: the node is mirrored
    })

    app.iq('get', NS_DISCO_ITEMS, 'query', 'host', (call) => {
      const { node } = call.payload.attrs
      if (node === undefined)
        return el('query', NS_DISCO_ITEMS, {}, ...items.map(({ jid, name }) => el('item', NS_DISCO_ITEMS, { jid, name })))
      const known = nodes.get(node)
      if (known === undefined) throw new StanzaError('item-not-found') // §7
      return el('query', NS_DISCO_ITEMS, { node }, ...known.items(call))
    })

    answerForAccounts(app, accounts, account, demandEntitled)

    return {
      items: { add: (item) => items.push(item) },
      nodes: { add: (node, info, items = () => []) => nodes.set(node, { info, items }) },
      accounts,
    }
  },
})

/** §3.1, §4.1: what is asked of accounts. `info`: what all of them announce. */
function answerForAccounts(
  app: App,
  accounts: Disco['accounts'],
  info: readonly Element[],
  demandEntitled: (call: IqCall) => Promise<void>,
): void {
  /** Who may see a node may know of it, though he may not know of the account; anybody else is told what he is told of that. */
  async function ofNode(call: IqCall, ask: (nodes: AccountNodes) => Promise<readonly Element[]>): Promise<readonly Element[]> {
    try {
      const [nodes] = accounts.nodes
      if (nodes === undefined) throw new StanzaError('item-not-found') // §7
      return await ask(nodes)
    } catch (error) {
      await demandEntitled(call)
      throw error
    }
  }

  app.iq('get', NS_DISCO_INFO, 'query', 'account', async (call) => {
    const { node } = call.payload.attrs
    if (node !== undefined)
      return el('query', NS_DISCO_INFO, { node }, ...(await ofNode(call, (nodes) => nodes.info(call, node))))
    await demandEntitled(call)
    return el('query', NS_DISCO_INFO, {}, ...accounts.identities, ...info)
  })

  app.iq('get', NS_DISCO_ITEMS, 'query', 'account', async (call) => {
    const { node } = call.payload.attrs
    if (node !== undefined)
      return el('query', NS_DISCO_ITEMS, { node }, ...(await ofNode(call, (nodes) => nodes.items(call, node))))
    await demandEntitled(call)
    const found = await accounts.nodes[0]?.items(call, undefined)
    return el('query', NS_DISCO_ITEMS, {}, ...(found ?? []))
  })
}

// XEP-0060 §8: what the owner of a node asks of it: configuration, deletion, who is subscribed and affiliated.
import type { IqCall } from '#core/module.ts'
import { StanzaError } from '#xmpp/error.ts'
import { bareOf, type Jid, JidError, parseJid } from '#xmpp/jid.ts'
import { NS_DATA } from '#xmpp/ns.ts'
import { attr, childOf, childrenOf, type Element, el } from '#xmpp/stanza.ts'
import type { PepAccess } from './pep-access.ts'
import { configForm, submittedForm } from './pep-config.ts'
import { elementsIn } from './pep-requests.ts'
import type { PepService } from './pep-service.ts'
import type { Affiliation } from './pep-store.ts'
import { NS_OWNER, nodeOf, refusal, unsupported } from './pep-words.ts'

const AFFILIATIONS: ReadonlySet<string> = new Set<Affiliation>(['publisher', 'member', 'outcast'])

export class PepOwner {
  readonly #service: PepService
  readonly #access: PepAccess

  constructor(service: PepService, access: PepAccess) {
    this.#service = service
    this.#access = access
  }

  async get({ account, iq, payload }: IqCall): Promise<Element> {
    const [asked] = elementsIn(payload)
    this.#access.demandOwner(account, iq.from)
    switch (asked?.name) {
      case 'configure': {
        const node = nodeOf(asked)
        const { config } = await this.#service.demand(account, node)
        return el('pubsub', NS_OWNER, {}, el('configure', NS_OWNER, { node }, configForm(config))) // §8.2.2
      }
      case 'default':
        return el('pubsub', NS_OWNER, {}, el('default', NS_OWNER, {}, configForm({}))) // §8.3
      case 'subscriptions': {
        const node = nodeOf(asked)
        const { subscribers } = await this.#service.demand(account, node)
        const found = subscribers.map((jid) => el('subscription', NS_OWNER, { jid, subscription: 'subscribed' }))
        return el('pubsub', NS_OWNER, {}, el('subscriptions', NS_OWNER, { node }, ...found)) // §8.8.1
      }
      case 'affiliations': {
        const node = nodeOf(asked)
        const { affiliations } = await this.#service.demand(account, node)
        const all = [[account.bare, 'owner'] as const, ...Object.entries(affiliations)]
        const found = all.map(([jid, affiliation]) => el('affiliation', NS_OWNER, { jid, affiliation }))
        return el('pubsub', NS_OWNER, {}, el('affiliations', NS_OWNER, { node }, ...found)) // §8.9.1
      }
      default:
        throw new StanzaError('bad-request', 'nothing that XEP-0060 asks for')
    }
  }

  async set({ account, iq, payload }: IqCall): Promise<void> {
    const [asked] = elementsIn(payload)
    this.#access.demandOwner(account, iq.from)
    switch (asked?.name) {
      case 'configure':
        return this.#configure(account, asked)
      case 'delete': {
        const name = nodeOf(asked)
        return this.#service.delete(account, name, await this.#service.demand(account, name))
      }
      case 'purge': {
        const name = nodeOf(asked)
        return this.#service.purge(account, name, await this.#service.demand(account, name))
      }
      case 'subscriptions':
        return this.#setSubscriptions(account, asked)
      case 'affiliations':
        return this.#setAffiliations(account, asked)
      case 'default':
        throw unsupported('modify-default')
      default:
        throw new StanzaError('bad-request', 'nothing that XEP-0060 does')
    }
  }

  /** §8.2.4; a form that is cancelled changes nothing. */
  async #configure(account: Jid, configure: Element): Promise<void> {
    const name = nodeOf(configure)
    const node = await this.#service.demand(account, name)
    if (childOf(configure, 'x', NS_DATA) === undefined) throw new StanzaError('bad-request', 'there is no form')
    const form = submittedForm(configure, 'configure')!
    if (form.type !== 'cancel') await this.#service.configure(account, name, node, form)
  }

  /** §8.8.2: subscriptions end, and others begin, since there are none that have to be approved. */
  async #setSubscriptions(account: Jid, asked: Element): Promise<void> {
    const name = nodeOf(asked)
    const node = await this.#service.demand(account, name)
    const subscribers = new Set(node.subscribers)
    for (const entry of childrenOf(asked, 'subscription', NS_OWNER)) {
      const { full } = jidOf(entry)
      const state = attr(entry, 'subscription')
      if (state === 'none') subscribers.delete(full)
      else if (state === 'subscribed') subscribers.add(full)
      else throw new StanzaError('not-acceptable', 'a subscription is subscribed or none')
    }
    await this.#service.setSubscribers(account, name, node, [...subscribers])
  }

  /** §8.9.2: as an affiliation is of accounts, so of bare JIDs. */
  async #setAffiliations(account: Jid, asked: Element): Promise<void> {
    const name = nodeOf(asked)
    const node = await this.#service.demand(account, name)
    const affiliations: Record<string, Affiliation> = { ...node.affiliations }
    for (const entry of childrenOf(asked, 'affiliation', NS_OWNER)) {
      const { bare } = bareOf(jidOf(entry))
      const affiliation = attr(entry, 'affiliation')
      if (bare === account.bare) {
        if (affiliation !== 'owner') throw new StanzaError('not-acceptable', 'the node of an account is its own') // §8.9.2.1
      } else if (affiliation === 'none') delete affiliations[bare]
      else if (AFFILIATIONS.has(affiliation)) affiliations[bare] = affiliation as Affiliation
      else throw new StanzaError('not-acceptable', `nobody but the account can be ${affiliation}`)
    }
    await this.#service.setAffiliations(account, name, node, affiliations)
  }
}

function jidOf(element: Element): Jid {
  try {
    return parseJid(attr(element, 'jid'))
  } catch (error) {
    if (error instanceof JidError) throw refusal('bad-request', 'invalid-jid')
    throw error
  }
}

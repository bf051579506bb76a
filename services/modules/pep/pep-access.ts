// XEP-0060 §4: who may do what with a node of an account, by its access model, affiliations, and the roster.
import type { App } from '#core/module.ts'
import type { MaybePromise } from '#core/storage/store.ts'
import { StanzaError } from '#xmpp/error.ts'
import { bareOf, type Jid, parseJid } from '#xmpp/jid.ts'
import blocking from '../blocking.ts'
import { accessModelOf, groupsOf, publishModelOf } from './pep-config.ts'
import type { PepLimits, PepNode } from './pep-store.ts'
import { refusal } from './pep-words.ts'

/** The part of presence/roster.ts that is needed here. */
interface Rosters {
  read<R>(account: Jid, use: (items: ReadonlyMap<string, Contact>) => R): MaybePromise<R>
  seenBy(account: Jid, contact: Jid): MaybePromise<boolean>
}
interface Contact {
  readonly jid: string
  readonly groups: readonly string[]
  readonly subscription: string
}

/** Why somebody may not see a node; undefined where he may. */
type Refused = () => StanzaError

export class PepAccess {
  readonly #rosters: Rosters | undefined
  readonly #blockedBy: ((account: Jid) => MaybePromise<(peer: Jid) => boolean>) | undefined

  constructor(app: App<PepLimits>) {
    this.#rosters = app.needNamed<Rosters>('roster')
    if (app.modules.some(({ name }) => name === blocking.name)) this.#blockedBy = app.need(blocking).blockedBy
  }

  /** Throws forbidden for who is not the owner (§8). */
  demandOwner(account: Jid, who: Jid): void {
    if (who.bare !== account.bare) throw new StanzaError('forbidden')
  }

  /** Throws what §6.1.3 and §6.5.9 name for who may not subscribe or retrieve. */
  async demandRead(account: Jid, node: PepNode, who: Jid): Promise<void> {
    const refused = await this.#refused(account, node, who)
    if (refused !== undefined) throw refused()
  }

  async mayRead(account: Jid, node: PepNode, who: Jid): Promise<boolean> {
    return (await this.#refused(account, node, who)) === undefined
  }

  async #refused(account: Jid, { config, affiliations }: PepNode, who: Jid): Promise<Refused | undefined> {
    if (who.bare === account.bare) return undefined
    const affiliation = affiliations[who.bare]
    if (affiliation === 'outcast') return () => new StanzaError('forbidden')
    if (affiliation !== undefined) return undefined // publishers and members, whatever the model (§4.1)
    switch (accessModelOf(config)) {
      case 'open':
        return undefined
      case 'presence':
        if ((await this.#rosters?.seenBy(account, bareOf(who))) === true) return undefined
        return () => refusal('not-authorized', 'presence-subscription-required')
      case 'roster':
        if (await this.#isInGroup(account, who, groupsOf(config))) return undefined
        return () => refusal('not-authorized', 'not-in-roster-group')
      case 'whitelist':
        return () => refusal('not-allowed', 'closed-node')
    }
  }

  /** §7.1.3.1. */
  demandPublish(account: Jid, node: PepNode | undefined, who: Jid): void {
    if (who.bare === account.bare) return
    const affiliation = node?.affiliations[who.bare]
    const model = node && publishModelOf(node.config)
    const subscribed = model === 'subscribers' && isSubscribed(node!, who)
    if (node === undefined || affiliation === 'outcast') throw new StanzaError('forbidden')
    if (affiliation !== 'publisher' && model !== 'open' && !subscribed) throw new StanzaError('forbidden')
  }

  async #isInGroup(account: Jid, who: Jid, groups: readonly string[]): Promise<boolean> {
    const contact = await this.#rosters?.read(account, (items) => items.get(who.bare))
    return contact?.groups.some((group) => groups.includes(group)) === true
  }

  /**
   * The contacts, by bare JID, that see the account's presence and may see this node; undefined: all that see his presence.
   * Whom he has blocked is among them or not: whoever shows it to them knows.
   */
  audience(account: Jid, { config, affiliations }: PepNode): MaybePromise<readonly string[] | undefined> {
    const model = accessModelOf(config)
    if ((model === 'open' || model === 'presence') && !Object.values(affiliations).includes('outcast')) return undefined
    const rosters = this.#rosters
    if (rosters === undefined) return []
    const groups = groupsOf(config)
    return rosters.read(account, (items) => {
      if (model === 'whitelist')
        return Object.keys(affiliations).filter((jid) => affiliations[jid] !== 'outcast' && sees(items.get(jid)))
      const some: string[] = []
      for (const contact of items.values()) {
        if (!sees(contact) || affiliations[contact.jid] === 'outcast') continue
        const isMember = affiliations[contact.jid] !== undefined
        if (model !== 'roster' || isMember || contact.groups.some((group) => groups.includes(group))) some.push(contact.jid)
      }
      return some
    })
  }

  /** Of those who have subscribed by themselves: who may still see the node, and is not blocked (XEP-0163 §4.3.3). */
  async subscribers(account: Jid, node: PepNode): Promise<readonly Jid[]> {
    if (node.subscribers.length === 0) return []
    const blocked = await this.#blockedBy?.(account)
    const jids = node.subscribers.map((text) => parseJid(text)).filter((jid) => blocked?.(jid) !== true)
    const allowed: Jid[] = []
    for (const jid of jids) if (await this.mayRead(account, node, jid)) allowed.push(jid)
    return allowed
  }
}

/** With this address, or with another one of the same account. */
export function isSubscribed({ subscribers }: PepNode, { bare }: Jid): boolean {
  return subscribers.some((text) => parseJid(text).bare === bare)
}

/** Whether he sees the account's presence. */
function sees(contact: Contact | undefined): boolean {
  return contact?.subscription === 'from' || contact?.subscription === 'both'
}

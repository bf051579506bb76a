// RFC 6121 §2: the roster. One row per contact, and beside them the version that clients compare with (§2.6).
//
// The presence owner of an account is the only writer of its roster: roster sets arrive here as iqs, subscription
// stanzas through subscribing.ts, and both end in `change`, which stores, counts the version and pushes.
import { type App, defineModule, type IqCall, type Session } from '#core/module.ts'
import { elementText, jsonOf, stanzaText } from '#core/portable.ts'
import type { AccountMap, AccountRecord, MaybePromise } from '#core/store.ts'
import { StanzaError } from '#xmpp/error.ts'
import { randomId } from '#xmpp/id.ts'
import { bareOf, type Jid, parseJid } from '#xmpp/jid.ts'
import { NS_ROSTER } from '#xmpp/ns.ts'
import { type Element, el, stanza } from '#xmpp/stanza.ts'
import { serialise } from '#xmpp/xml.ts'
import {
  answerFor,
  demandRoom,
  firstVersion,
  itemElement,
  nextVersion,
  parseRosterSet,
  pushElement,
  type RosterItem,
  type RosterVersion,
  rosterElement,
  tokenOf,
  updateItem,
} from './roster-item.ts'
import { type Farewell, pendingRequests, remove, seenBy } from './subscription.ts'

declare module '#core/call.ts' {
  interface Calls {
    /** The roster of an account as `<query/>` (§2.2), for who administers it. */
    'roster.read': { ask: Record<string, never>; tell: string }
  }
}

/** Set on a session that has asked for the roster and is owed a push of every change (§2.1.6). */
const INTERESTED = 'roster.interested'
/** Removals reach the contact through whoever tells presence, which sets it (subscribing.ts). Called when the removal is staged. */
type OnFarewell = (account: Jid, contact: Jid, farewell: Farewell) => void

export class Rosters {
  readonly #app: App
  readonly #items: AccountMap<RosterItem>
  readonly #versions: AccountRecord<RosterVersion | null>
  onFarewell: OnFarewell = () => {}

  constructor(app: App) {
    this.#app = app
    this.#items = app.map<RosterItem>('roster')
    this.#versions = app.record<RosterVersion | null>('roster.version', null)
  }

  /** By bare JID, hidden requests too. At once where the account is cached. */
  read<R>(account: Jid, use: (items: ReadonlyMap<string, RosterItem>) => R): MaybePromise<R> {
    return this.#items.read(account, use)
  }

  /** Whether this contact may see the account's presence. */
  seenBy(account: Jid, contact: Jid): MaybePromise<boolean> {
    return this.read(account, (items) => seenBy(items.get(contact.bare)))
  }

  /** The contacts that may see the account's presence. */
  watchers(account: Jid): MaybePromise<readonly Jid[]> {
    return this.read(account, (items) => [...items.values()].filter(seenBy).map(({ jid }) => parseJid(jid)))
  }

  /**
   * Stores what became of a contact; `after` undefined deletes it. With `push`, a new version, and every interested
   * session is told once it is durable. Throws resource-constraint where there is no room for one more, and
   * not-allowed where the account is gone: a later one of that name must not find contacts.
   */
  async change(account: Jid, jid: string, after: RosterItem | undefined, push: boolean): Promise<void> {
    if (!(await this.#app.accounts.exists(account))) throw new StanzaError('not-allowed', 'the account is gone')
    await this.read(account, (items) => demandRoom(items, items.get(jid), after))
    if (push) {
      const changed = await this.#versions.update(account, (before) => nextVersion(before ?? firstVersion(randomId(6)), jid))
      await this.#items.set(account, jid, after)
      this.#push(account, pushElement(jid, after, tokenOf(changed.after!)))
    } else {
      await this.#items.set(account, jid, after)
    }
  }

  #push(account: Jid, query: Element): void {
    for (const session of this.#app.sessions(account)) if (session.has(INTERESTED)) this.#pushTo(session, query)
  }

  #pushTo(session: Session, query: Element): void {
    this.#app.push(session, stanza('iq', bareOf(session.jid), { to: session.jid, id: randomId(6), type: 'set' }, query))
  }

  /** §2.2, §2.6.3: the roster, or that the client has it, or what has changed since. */
  async get({ account, session, payload, afterwards }: IqCall): Promise<Element | void> {
    const version = await this.#versions.read(account, (version) => version ?? firstVersion('0'))
    const answer = await this.read(account, (items) => answerFor(payload.attrs.ver, version, items))
    session?.set(INTERESTED)
    if (answer.kind === 'full') return answer.query
    if (answer.kind === 'changes' && session !== undefined) {
      afterwards(() => {
        for (const push of answer.pushes) this.#pushTo(session, push)
      })
    }
  }

  /** §2.3, §2.4, §2.5. */
  async set(account: Jid, query: Element): Promise<void> {
    const asked = parseRosterSet(query, account)
    const before = await this.read(account, (items) => items.get(asked.jid))
    if (asked.kind === 'update') return this.change(account, asked.jid, updateItem(before, asked), true)
    const farewell = remove(before)
    await this.change(account, asked.jid, undefined, true)
    this.onFarewell(account, parseJid(asked.jid), farewell) // once: where the table is away, this task is run again
  }

  /** Sessions that are owed pushes: those that subscription answers go to as well (§3.1.6). */
  interested(account: Jid): readonly Session[] {
    return this.#app.sessions(account).filter((session) => session.has(INTERESTED))
  }
}

export default defineModule<Rosters>({
  name: 'roster',
  home: 'presence',
  xeps: [{ number: '0237', version: '1.3' }],
  namespaces: [NS_ROSTER],
  portable: [
    {
      of: 'roster',
      around: { name: 'query', ns: NS_ROSTER }, // XEP-0227 §4.4
      write: (value) => {
        const item = jsonOf<RosterItem>(value)
        return item.inRoster ? elementText(itemElement(item), NS_ROSTER) : ''
      },
    },
    // §4.9: requests that nobody has answered
    {
      of: 'roster',
      write: (value, _id, account) =>
        pendingRequests(account, [jsonOf<RosterItem>(value)])
          .map(stanzaText)
          .join(''),
    },
  ],
  streamFeatures: () => [
    el('ver', 'urn:xmpp:features:rosterver'), // §2.6.1
    el('sub', 'urn:xmpp:features:pre-approval'), // §3.4.1
  ],

  setup(app) {
    const rosters = new Rosters(app as App)
    app.iq('get', NS_ROSTER, 'query', 'self', (call) => rosters.get(call))
    app.iq('set', NS_ROSTER, 'query', 'self', async ({ account, payload }) => rosters.set(account, payload))
    // §2.1.5: a roster is nobody else's business.
    for (const type of ['get', 'set'] as const) {
      app.iq(type, NS_ROSTER, 'query', 'account', () => {
        throw new StanzaError('forbidden')
      })
    }
    app.answer('roster.read', (account) =>
      rosters.read(parseJid(account), (items) => serialise(rosterElement(items.values()), '')),
    )
    return rosters
  },
})

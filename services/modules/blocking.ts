// XEP-0191: Blocking Command, with the reports of XEP-0377.
//
// An account's list is one record, so that a command which names several JIDs is stored whole or not at all. Both roles
// ask it about every stanza: the router writes it, presence holds a copy. A command is answered when it is durable and
// presence goes by it, too. Where presence does not confirm in time, the answer is an error of type wait: messages and iqs
// are blocked by then, and presence will be as soon as it can be reached.
//
// Blocking is polite (§4): subscriptions stay as they are. A user's own resources are never blocked (§5), nor is the host
// that serves him. What goes to a bare JID, as broadcasts do, is not stopped by a block of one of its resources (§6).
import { DROP, type Hidden } from '#core/hooks.ts'
import { type App, defineModule, type IqCall } from '#core/module.ts'
import { elementText, jsonOf } from '#core/storage/portable.ts'
import type { SharedRecord } from '#core/storage/shared.ts'
import type { MaybePromise } from '#core/storage/store.ts'
import { StanzaError } from '#xmpp/error.ts'
import { randomId } from '#xmpp/id.ts'
import { type Jid, JidError, parseJid } from '#xmpp/jid.ts'
import { NS_SID } from '#xmpp/ns.ts'
import { attr, childOf, childrenOf, type Element, el, type Stanza, stanza, textOf } from '#xmpp/stanza.ts'

const NS = 'urn:xmpp:blocking'
const NS_ERRORS = 'urn:xmpp:blocking:errors'
const NS_REPORTING = 'urn:xmpp:reporting:1'

/** Set on a session that has asked for the list and is owed a push of every change (§3.3). */
const INTERESTED = 'blocking.interested'
/** A row of the table holds 400 kB, and the list travels to the other role in one envelope. */
const LIST_BYTES_MAX = 300_000

/** JIDs in prepared form. */
export type Blocklist = readonly string[]
const NOBODY: Blocklist = []

/** What has come to the list, and what has gone from it. */
interface Change {
  readonly blocked: readonly string[]
  readonly unblocked: readonly string[]
}

export interface Blocking {
  /** Tells of any address whether the account has blocked it. Good for as long as nothing is awaited but in the account's order. */
  blockedBy(account: Jid): MaybePromise<(peer: Jid) => boolean>
}

declare module '#core/hooks.ts' {
  interface Events {
    /** At router(account): a user has blocked somebody and says why (XEP-0377 §6). */
    'account.reported': Report
  }
}

export interface Report {
  readonly reporter: Jid
  readonly reported: Jid
  /** A URN: urn:xmpp:reporting:spam, urn:xmpp:reporting:abuse, or another. */
  readonly reason: string
  readonly texts: readonly { readonly lang: string; readonly text: string }[]
  /** Messages meant, by their XEP-0359 ids. */
  readonly stanzaIds: readonly { readonly by: string; readonly id: string }[]
  /** §5: what the user agrees to be done with it beyond this server. */
  readonly mayTellOrigin: boolean
  readonly mayTellThirdParties: boolean
}

interface Options {
  jidsMax: number
}

export default defineModule<Blocking, Options>({
  name: 'blocking',
  home: 'router',
  xeps: [
    { number: '0191', version: '1.3' },
    { number: '0377', version: '0.4.1' },
  ],
  features: { host: [NS, NS_REPORTING] },
  namespaces: [NS],
  portable: [
    { of: 'blocking', write: (list) => elementText(el('blocklist', NS, {}, ...itemsOf(jsonOf<Blocklist>(list)))) }, // as §3.2 shows it
  ],
  options: {
    jidsMax: { default: 1_000, min: 1, max: 10_000, doc: 'Addresses one account may block.' },
  },

  setup(app) {
    const lists = app.sharedRecord<Blocklist, Change>('blocking', NOBODY, tellAudience)
    const commands = new Commands(app, lists)
    app.iq('get', NS, 'blocklist', 'self', (call) => commands.get(call))
    app.iq('set', NS, 'block', 'self', (call) => commands.block(call))
    app.iq('set', NS, 'unblock', 'self', (call) => commands.unblock(call))

    app.guard('outbound', (_stanza, { account, peer }) => {
      const list = lists.peek(account)
      if (list === undefined) return lists.read(account, (list) => demandUnblocked(list, account, peer))
      if (list.length > 0) demandUnblocked(list, account, peer)
    })

    app.guard('inbound', (stanza, { account, peer }) => {
      const list = lists.peek(account)
      if (list === undefined) return lists.read(account, (list) => turnAway(list, stanza, account, peer))
      if (list.length > 0) return turnAway(list, stanza, account, peer)
    })

    const hiderOf = (account: Jid, list: Blocklist) => (list.length === 0 ? undefined : hiddenBy(list, account))
    app.hide((account) => {
      const list = lists.peek(account)
      return list === undefined ? lists.read(account, (list) => hiderOf(account, list)) : hiderOf(account, list)
    })

    /** At presence: §3.3 and §3.4 want the contacts concerned to see the account go, or come back. */
    async function tellAudience(account: Jid, { blocked, unblocked }: Change): Promise<void> {
      await lists.read(account, (list) => {
        const added = new Set(blocked)
        const before = [...list.filter((jid) => !added.has(jid)), ...unblocked]
        return app.emit('audience.changed', {
          account,
          changed: [...blocked, ...unblocked].map(parseJid),
          before: hiddenBy(before, account),
          after: hiddenBy(list, account),
        })
      })
    }

    return { blockedBy: (account) => lists.read(account, (list) => (peer: Jid) => blocks(list, account, peer)) }
  },
})

/** §3.3, of what the user sends. */
function demandUnblocked(list: Blocklist, account: Jid, peer: Jid): void {
  if (!blocks(list, account, peer)) return
  throw new StanzaError('not-acceptable', '', { type: 'cancel', extra: el('blocked', NS_ERRORS) })
}

/** §3.3, of what comes: presence goes unanswered, and core/answer.ts answers neither an error nor the result of an iq. */
function turnAway(list: Blocklist, stanza: Stanza, account: Jid, peer: Jid): void | typeof DROP {
  if (!blocks(list, account, peer)) return
  if (stanza.name === 'presence') return DROP
  throw new StanzaError('service-unavailable')
}

/** The lists that have been asked about, for look-up. A list never changes: an update makes another one. */
const sets = new WeakMap<Blocklist, ReadonlySet<string>>()

/** §6: an item means one full JID, every resource of a bare JID, or a domain with all that is there. */
export function blocks(list: Blocklist, account: Jid, { local, domain, bare, full }: Jid): boolean {
  if (list.length === 0 || bare === account.bare || (local === '' && domain === account.domain)) return false
  let set = sets.get(list)
  if (set === undefined) {
    set = new Set(list)
    sets.set(list, set)
  }
  return set.has(full) || set.has(bare) || set.has(domain)
}

/** §6: a full JID is one resource, and the others of its account are seen. */
function hiddenBy(list: Blocklist, account: Jid): Hidden {
  const own = `${account.bare}/` // §5
  const resources = list.filter((jid) => jid.includes('/') && !jid.startsWith(own))
  return Object.assign((peer: Jid) => blocks(list, account, peer), { resources })
}

class Commands {
  readonly #app: App<Options>
  readonly #lists: SharedRecord<Blocklist, Change>
  readonly #count: (reason: string) => void

  constructor(app: App<Options>, lists: SharedRecord<Blocklist, Change>) {
    this.#app = app
    this.#lists = lists
    const reports = app.metrics.counter('abuse_reports_total', 'Reports sent with a block (XEP-0377), by reason.', ['reason'])
    const members = new Map(['spam', 'abuse'].map((reason) => [`urn:xmpp:reporting:${reason}`, reports.labels(reason)]))
    const other = reports.labels('other')
    this.#count = (reason) => (members.get(reason) ?? other).inc()
  }

  /** §3.2. */
  get({ account, session }: IqCall): MaybePromise<Element> {
    session?.set(INTERESTED)
    return this.#lists.read(account, (list) => el('blocklist', NS, {}, ...itemsOf(list)))
  }

  /** §3.3. */
  async block(call: IqCall): Promise<void> {
    const { account, payload, afterwards } = call
    const items = childrenOf(payload, 'item', NS)
    if (items.length === 0) throw new StanzaError('bad-request', 'block names no item')
    const reports = items.flatMap((item) => reportOf(account, item))
    await this.#change(call, 'block', jidsOf(items), (list, named) => {
      const known = new Set(list)
      const fresh = named.filter((jid) => !known.has(jid))
      return fresh.length === 0 ? list : this.#demandRoom([...list, ...fresh])
    })
    afterwards(() => {
      for (const report of reports) this.#report(report)
    })
  }

  /** §3.4; one that names no item unblocks all (§3.5). */
  async unblock(call: IqCall): Promise<void> {
    await this.#change(call, 'unblock', jidsOf(childrenOf(call.payload, 'item', NS)), (list, named) => {
      const gone = new Set(named)
      const left = gone.size === 0 ? NOBODY : list.filter((jid) => !gone.has(jid))
      return left.length === list.length ? list : left
    })
  }

  /** Changes the list, pushes the command to whoever has asked for the list, and resolves when it is in force in both roles. */
  async #change(
    { account, again }: IqCall,
    command: 'block' | 'unblock',
    named: readonly string[],
    edit: (list: Blocklist, named: readonly string[]) => Blocklist,
  ): Promise<void> {
    const { before, after } = await this.#lists.update(account, (list) => {
      if (this.#app.accounts.isSealed(account)) throw new StanzaError('not-allowed', 'the account is gone')
      return edit(list, named)
    })
    for (const session of this.#app.sessions(account)) {
      if (!session.has(INTERESTED)) continue
      const push = el(command, NS, {}, ...itemsOf(named))
      this.#app.push(session, stanza('iq', account, { to: session.jid, id: randomId(6), type: 'set' }, push))
    }
    const changed = { blocked: without(after, before), unblocked: without(before, after) }
    await this.#lists.confirm(account, again ? this.#named(command, named) : changed)
  }

  /**
   * What may have changed when this was asked for the first time: then whoever was to tell presence is dead, and the list does
   * not say any more who was unblocked with all others. A contact who sees the account go, or come, twice is none the worse.
   */
  #named(command: 'block' | 'unblock', named: readonly string[]): Change {
    if (command === 'block') return { blocked: named, unblocked: [] }
    return { blocked: [], unblocked: named.length === 0 ? this.#app.server.domains : named }
  }

  #demandRoom(list: Blocklist): Blocklist {
    if (list.length > this.#app.options.jidsMax || Buffer.byteLength(JSON.stringify(list)) > LIST_BYTES_MAX)
      throw new StanzaError('resource-constraint', 'the block list is full')
    return list
  }

  /** XEP-0377 §6: once the block is in force. What the user wrote is for those who listen, not for the log. */
  #report(report: Report): void {
    const { reporter, reported, reason, stanzaIds } = report
    this.#count(reason)
    const fields = { reporter: reporter.bare, reported: reported.full, reason: reason.slice(0, 100), messages: stanzaIds.length }
    this.#app.log.info('account.reported', fields)
    void this.#app.emit('account.reported', report)
  }
}

function itemsOf(jids: readonly string[]): Element[] {
  return jids.map((jid) => el('item', NS, { jid }))
}

/** Each once, in prepared form. */
function jidsOf(items: readonly Element[]): readonly string[] {
  return [...new Set(items.map((item) => jidOf(item).full))]
}

function jidOf({ attrs: { jid } }: Element): Jid {
  if (jid === undefined) throw new StanzaError('bad-request', 'an item has no jid')
  try {
    return parseJid(jid)
  } catch (error) {
    if (error instanceof JidError) throw new StanzaError('jid-malformed', error.message)
    throw error
  }
}

/** XEP-0377 §4, §6: the report in an item, if there is one. Throws bad-request on one that gives no reason. */
function reportOf(reporter: Jid, item: Element): Report[] {
  const report = childOf(item, 'report', NS_REPORTING)
  if (report === undefined) return []
  const reason = attr(report, 'reason')
  if (reason === '') throw new StanzaError('bad-request', 'a report gives its reason')
  const texts = childrenOf(report, 'text', NS_REPORTING)
  const stanzaIds = childrenOf(report, 'stanza-id', NS_SID)
  return [
    {
      reporter,
      reported: jidOf(item),
      reason,
      texts: texts.map((text) => ({ lang: attr(text, 'xml:lang'), text: textOf(text) })),
      stanzaIds: stanzaIds.map((stanzaId) => ({ by: attr(stanzaId, 'by'), id: attr(stanzaId, 'id') })),
      mayTellOrigin: childOf(report, 'report-origin', NS_REPORTING) !== undefined,
      mayTellThirdParties: childOf(report, 'third-party', NS_REPORTING) !== undefined,
    },
  ]
}

function without(list: Blocklist, others: Blocklist): Blocklist {
  const known = new Set(others)
  return list.filter((jid) => !known.has(jid))
}

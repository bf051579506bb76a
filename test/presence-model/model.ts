// The naive broadcaster that the server is compared with: whoever may see a contact sees what each of his sessions shows.
//
// It knows what is durable, from the logs of the owners, so that it need not follow RFC 6121 §3 itself: who may see whom is
// what the contact's roster says, and neither of the two has blocked the other (XEP-0191 §3.3). It knows what clients say and
// are shown. Each text is shown by one session once, so that what comes is known by it.
//
// When all is quiet, views are as they would be if each presence went to each contact by itself. At every moment nobody is
// shown what he could not see at any time since it was said, nor since all was quiet last: what is on its way goes on.
import type { RosterItem } from '#presence/roster/roster-item.ts'
import { seenBy, sees } from '#presence/subscription.ts'
import type { Key, Row } from '#table/table.ts'
import { parseJid } from '#xmpp/jid.ts'

export class Violation extends Error {}

/** What a client shows. */
export interface Showing {
  readonly full: string
  readonly account: string
  /** The text of its presence; undefined while it is not available. */
  readonly text: string | undefined
  /** Accounts that it has sent directed presence since it broadcast last: what they see of it is either. */
  readonly directed: ReadonlySet<string>
  /** And before that: whom the broadcast did not reach sees what was directed to it still (RFC 6121 §4.6.3). */
  readonly directedBefore: ReadonlySet<string>
  /** By full JID, the text that it sees. */
  readonly view: ReadonlyMap<string, string>
}

export class Model {
  readonly #now: () => number
  /** By account and contact. */
  readonly #items = new Map<string, Map<string, RosterItem>>()
  readonly #blocks = new Map<string, ReadonlySet<string>>()
  /** Blocks that somebody was told are in force; until then they may be, or not. As `<account> <peer>`. */
  readonly #inForce = new Set<string>()
  /** By `<account> <watcher>`, the last moment at which he could see it; Infinity: he can. */
  readonly #untilMs = new Map<string, number>()
  readonly #saidMs = new Map<string, number>()
  /** By text, whom it was sent to by directed presence. */
  readonly #directed = new Map<string, Set<string>>()
  #quietMs = 0
  shown = 0
  compared = 0

  constructor(now: () => number) {
    this.#now = now
  }

  // --- what is durable

  written({ pk, sk, value }: Row): void {
    if (!pk.startsWith('a#')) return
    const account = pk.slice(2)
    const read = (): unknown => JSON.parse(Buffer.from(value).toString())
    if (sk.startsWith(ROSTER)) this.#setItem(account, sk.slice(ROSTER.length), read() as RosterItem)
    else if (sk === BLOCKING) this.#setBlocks(account, read() as string[])
  }

  deleted({ pk, sk }: Key): void {
    if (!pk.startsWith('a#')) return
    const account = pk.slice(2)
    if (sk.startsWith(ROSTER)) this.#setItem(account, sk.slice(ROSTER.length), undefined)
    else if (sk === BLOCKING) this.#setBlocks(account, [])
  }

  #setItem(account: string, contact: string, item: RosterItem | undefined): void {
    const items = this.#items.get(account) ?? new Map<string, RosterItem>()
    this.#items.set(account, items)
    if (item === undefined) items.delete(contact)
    else items.set(contact, item)
    this.#settle(account, contact)
  }

  #setBlocks(account: string, list: readonly string[]): void {
    const before = this.#blocks.get(account) ?? NOBODY
    this.#blocks.set(account, new Set(list))
    for (const peer of new Set([...before, ...list])) {
      if (!list.includes(peer)) this.#inForce.delete(`${account} ${peer}`)
      this.#settle(account, peer)
      this.#settle(peer, account)
    }
  }

  #settle(account: string, watcher: string): void {
    const pair = `${account} ${watcher}`
    if (this.#mayBeShown(account, watcher)) this.#untilMs.set(pair, Number.POSITIVE_INFINITY)
    else if (this.#untilMs.get(pair) === Number.POSITIVE_INFINITY) this.#untilMs.set(pair, this.#now())
  }

  #mayBeShown(account: string, watcher: string): boolean {
    const isBlocked = this.#inForce.has(`${account} ${watcher}`) || this.#inForce.has(`${watcher} ${account}`)
    return seenBy(this.itemOf(account, watcher)) && !isBlocked
  }

  /** Somebody is told that he has blocked this peer (XEP-0191 §3.3). */
  blocked(account: string, peer: string): void {
    if (!this.hasBlocked(account, peer)) return // and unblocked since, elsewhere
    this.#inForce.add(`${account} ${peer}`)
    this.#settle(account, peer)
    this.#settle(peer, account)
  }

  itemOf(account: string, contact: string): RosterItem | undefined {
    return this.#items.get(account)?.get(contact)
  }

  hasBlocked(account: string, peer: string): boolean {
    return this.#blocks.get(account)?.has(peer) === true
  }

  /** Whether this account is shown to that one, as things are. */
  maySee(account: string, watcher: string): boolean {
    return seenBy(this.itemOf(account, watcher)) && !this.hasBlocked(account, watcher) && !this.hasBlocked(watcher, account)
  }

  // --- what is said, and shown

  says(text: string): void {
    this.#saidMs.set(text, this.#now())
  }

  directs(text: string, to: string): void {
    const known = this.#directed.get(text) ?? new Set()
    this.#directed.set(text, known.add(to))
  }

  /** A client of `watcher` is shown that `from` is available. */
  sees(watcher: string, from: string, text: string): void {
    this.shown++
    const saidMs = this.#saidMs.get(text)
    if (saidMs === undefined) throw new Violation(`${watcher} is shown ${text} by ${from}, which nobody has said`)
    const account = parseJid(from).bare
    if (account === watcher || this.#directed.get(text)?.has(watcher) === true) return
    const untilMs = this.#untilMs.get(`${account} ${watcher}`)
    if (untilMs === undefined) throw new Violation(`${watcher} is shown ${text} by ${from}, who was never his to see`)
    if (untilMs < Math.max(saidMs, this.#quietMs))
      throw new Violation(`${watcher} is shown ${text} by ${from}, who is his to see no more since ${untilMs.toFixed(0)}`)
  }

  /** All is quiet: every view is as it would be without any of what saves traffic. */
  compare(clients: readonly Showing[]): void {
    for (const client of clients) if (client.text !== undefined) this.#compareOne(client, clients)
    this.#quietMs = this.#now()
    for (const [account, list] of this.#blocks) for (const peer of list) this.blocked(account, peer)
  }

  /** Only one of two rosters says that the account is seen by the watcher. */
  #disagree(account: string, watcher: string): boolean {
    return account !== watcher && seenBy(this.itemOf(account, watcher)) !== sees(this.itemOf(watcher, account))
  }

  #compareOne(client: Showing, clients: readonly Showing[]): void {
    const left = new Map(client.view)
    for (const other of clients) {
      const seen = left.get(other.full)
      left.delete(other.full)
      if (other.full === client.full || other.directed.has(client.account)) continue
      const may = other.account === client.account || this.maySee(other.account, client.account)
      // He asks nobody whom his own roster does not have, and is told, or not, by whoever thinks that it does: rosters may
      // disagree where stanzas have crossed (RFC 6121 Appendix A), and where one of the two has blocked the other.
      if (this.#disagree(other.account, client.account)) continue
      if (!may && other.directedBefore.has(client.account)) continue
      const due = may ? other.text : undefined
      this.compared++
      if (seen !== due)
        throw new Violation(`${client.full} sees ${seen ?? 'nothing'} of ${other.full}; it would see ${due ?? 'nothing'}`)
    }
    for (const [full, text] of left) throw new Violation(`${client.full} sees ${text} of ${full}, which is not there`)
  }
}

const ROSTER = 'roster#'
const BLOCKING = 'blocking'
const NOBODY: ReadonlySet<string> = new Set()

// What must hold, whatever happened: it knows what clients said, were told and were shown, and nothing of how the server does it.
//
// A message is named `<session>:<n>` and stored for two accounts, its sender and its recipient, under an id each that rises per
// account. Each account counts its entries in a record, written together with each of them.
export interface Entry {
  readonly id: string
  /** As its bytes say. */
  readonly message: string
}

interface Said {
  readonly from: string
  readonly to: string
  /** `lost`: whoever said it will not be told. */
  state: 'open' | 'acked' | 'lost'
}

/** What an account's readers were shown. */
interface Shown {
  /** By id, when it was shown first. */
  readonly ids: Map<string, number>
  /** By reading: what it showed behind which id. */
  readonly pages: { readonly after: string; readonly ids: readonly string[] }[]
  /** The last id on them. */
  upTo: string
  count: number
}

export class Violation extends Error {}

export class Checker {
  readonly #now: () => number
  readonly #said = new Map<string, Said>()
  readonly #shown = new Map<string, Shown>()
  /** By account and id, when it was first stored, be it in a log. */
  readonly #storedMs = new Map<string, number>()
  readonly #messageOf = new Map<string, string>()
  /** By account, the number that was stored last. */
  readonly #counts = new Map<string, number>()
  /** By receiving session and sending process, the number of what came last. */
  readonly #delivered = new Map<string, number>()
  /** By receiving session: what it was shown, and by session that said it the last n of what was new. */
  readonly #live = new Map<string, { readonly messages: Set<string>; readonly last: Map<string, number> }>()
  acked = 0
  #lost = 0
  /** Deliveries of what a session had been shown already. */
  twice = 0
  /** Deliveries whose owner has found that they had been stored, or might have been. */
  recalled = 0
  deliveries = 0
  pages = 0

  constructor(now: () => number) {
    this.#now = now
  }

  /** How many were said and not acked. */
  get open(): number {
    return this.#said.size - this.acked - this.#lost
  }

  /** The names of some that are not acked. */
  get unacked(): readonly string[] {
    return [...this.#said]
      .flatMap(([message, { state, from, to }]) => (state === 'open' ? [`${message} from ${from} to ${to}`] : []))
      .slice(0, 20)
  }

  get said(): number {
    return this.#said.size
  }

  say(message: string, from: string, to: string): void {
    this.#said.set(message, { from, to, state: 'open' })
  }

  /** The client was told. */
  ack(message: string): void {
    const said = this.#said.get(message)!
    if (said.state !== 'open') throw new Violation(`${message} was acked, and was ${said.state} before`)
    said.state = 'acked'
    this.acked++
  }

  /** Nobody will be told: it may be stored or not, for either of the two. */
  abandon(message: string): void {
    this.#said.get(message)!.state = 'lost'
    this.#lost++
  }

  isAcked(message: string): boolean {
    return this.#said.get(message)?.state === 'acked'
  }

  /** Whether a session was shown a message. */
  wasShown(session: string, message: string): boolean {
    return this.#live.get(session)?.messages.has(message) ?? false
  }

  /** Durable from now on, if it was not before. The same id never is of another message. */
  stored(account: string, { id, message }: Entry): void {
    const key = `${account} ${id}`
    const known = this.#messageOf.get(key)
    if (known !== undefined && known !== message) throw new Violation(`${id} of ${account} was ${known}, and is ${message}`)
    this.#messageOf.set(key, message)
    if (!this.#storedMs.has(key)) this.#storedMs.set(key, this.#now())
  }

  /** The count of an account, as it is in the table from now on. */
  counted(account: string, count: number): void {
    const before = this.#counts.get(account) ?? 0
    if (count < before) throw new Violation(`the count of ${account} went back from ${before} to ${count}`)
    this.#counts.set(account, count)
  }

  #shownOf(account: string): Shown {
    let shown = this.#shown.get(account)
    if (shown === undefined) {
      shown = { ids: new Map(), pages: [], upTo: '', count: 0 }
      this.#shown.set(account, shown)
    }
    return shown
  }

  /** A reader was shown what is stored behind an id. One reads after the other. */
  page(account: string, after: string, ids: readonly string[], count: number): void {
    const shown = this.#shownOf(account)
    if (count < shown.count) throw new Violation(`${account} was shown the count ${count} after ${shown.count}`)
    shown.count = count
    shown.pages.push({ after, ids })
    shown.upTo = ids.at(-1) ?? shown.upTo
    this.pages++
    for (const id of ids) this.#show(shown, id)
  }

  /** Where the next page of an account begins. */
  readUpTo(account: string): string {
    return this.#shownOf(account).upTo
  }

  #show(shown: Shown, id: string): void {
    if (!shown.ids.has(id)) shown.ids.set(id, this.#now())
  }

  /**
   * A session was shown a message.
   * @param id as journal.ts writes it
   * @param late it says itself that it comes late (XEP-0203)
   */
  deliver(session: string, account: string, id: string, late: boolean): void {
    this.deliveries++
    const [process, number, archiveId = '', message = '', again] = id.split(' ')
    this.#show(this.#shownOf(account), archiveId)
    let live = this.#live.get(session)
    if (live === undefined) {
      live = { messages: new Set(), last: new Map() }
      this.#live.set(session, live)
    }
    const isKnown = live.messages.has(message)
    live.messages.add(message)
    if (isKnown) this.twice++
    if (again !== undefined) this.recalled++
    if (late) return
    const way = `${process} to ${session}`
    const last = this.#delivered.get(way) ?? 0
    if (Number(number) <= last) throw new Violation(`${way}: ${number} came behind ${last}`)
    this.#delivered.set(way, Number(number))
    if (isKnown || again !== undefined) return // its owner says that it had been stored before: it may be shown late
    const [by, n] = nameOf(message)
    const before = live.last.get(by) ?? 0
    if (n < before) throw new Violation(`${session} was shown ${message} behind ${by}:${before}`)
    live.last.set(by, n)
  }

  /** When all is over: an account's entries in the order of their ids, and its count. */
  finish(account: string, entries: readonly Entry[], count: number): void {
    const messages = new Set<string>()
    const last = new Map<string, number>()
    for (const { id, message } of entries) {
      const said = this.#said.get(message)
      if (said === undefined || (said.from !== account && said.to !== account))
        throw new Violation(`${account} has ${message}, which nobody said to it`)
      if (messages.has(message)) throw new Violation(`${account} has ${message} twice`)
      messages.add(message)
      const [session, n] = nameOf(message)
      const before = last.get(session) ?? 0
      if (n < before) throw new Violation(`${account} has ${message} behind ${session}:${before}`)
      last.set(session, n)
      if (this.#messageOf.get(`${account} ${id}`) !== message) throw new Violation(`${message} of ${account} was changed`)
    }
    for (const [message, { from, to, state }] of this.#said)
      if (state === 'acked' && (from === account || to === account) && !messages.has(message))
        throw new Violation(`${message} was acked, and ${account} does not have it`)
    const ids = new Set(entries.map(({ id }) => id))
    for (const key of this.#storedMs.keys())
      if (key.startsWith(`${account} `) && !ids.has(key.slice(account.length + 1)))
        throw new Violation(`${this.#messageOf.get(key)} of ${account} was durable, and is gone`)
    if (count !== entries.length) throw new Violation(`${account} has ${entries.length} entries, and counts ${count}`)
    this.#finishShown(account, entries)
  }

  /** Nothing has come to be behind an id that was shown, and no page has left anything out. */
  #finishShown(account: string, entries: readonly Entry[]): void {
    const shown = this.#shown.get(account)
    if (shown === undefined) return
    const storedMs = (id: string): number => this.#storedMs.get(`${account} ${id}`)!
    let latestMs = 0
    let latest = ''
    for (const { id, message } of entries) {
      if (storedMs(id) > latestMs) {
        latestMs = storedMs(id)
        latest = message
      }
      const shownMs = shown.ids.get(id)
      if (shownMs !== undefined && shownMs < latestMs)
        throw new Violation(`${account} was shown ${message} at ${shownMs}, and ${latest} was stored at ${latestMs}, behind it`)
    }
    const known = new Set(entries.map(({ id }) => id))
    for (const id of shown.ids.keys()) if (!known.has(id)) throw new Violation(`${account} was shown ${id}, which is gone`)
    for (const { after, ids } of shown.pages) {
      if (ids.length === 0) continue
      const last = ids.at(-1)!
      const between = entries.filter(({ id }) => id > after && id <= last).map(({ id }) => id)
      if (between.join() !== ids.join())
        throw new Violation(`a page of ${account} had ${ids.length} of ${between.length} entries`)
    }
  }
}

function nameOf(message: string): [session: string, n: number] {
  const at = message.lastIndexOf(':')
  return [message.slice(0, at), Number(message.slice(at + 1))]
}

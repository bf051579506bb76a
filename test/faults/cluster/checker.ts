// What must be true of messages whatever happens to the cluster, told from what clients have said, seen and been told.
//
// ledger.ts says what must be true of archives. Here archives are read while they grow, each time from behind what was last seen
// of them; nothing may appear there afterwards. No stream is shown anything in an order in which its sender did not say it; but
// what was said before a session began may have been on its way to the last one, and come late. What was on its way when an owner
// died may be shown once more, under the stanza-id by which a client knows it (XEP-0359). Both are counted. The checker knows
// nothing of the server.
import { type Entry, faultsOf, type Said, type Seen } from '../ledger.ts'

export interface Message extends Said {
  /** Of a monotonic clock. */
  readonly saidMs: number
  /** From 1, of each sender. */
  readonly number: number
  /** The condition of the error that came back to the sender, who so knows that it has not arrived; '' for none. */
  refused: string
}

/** What is to be held against archives that are read from now on. */
export interface Snapshot {
  readonly acked: ReadonlySet<string>
  readonly seen: number
}

interface Shown {
  /** By message, the stanza-id. */
  readonly archiveIds: Map<string, string>
  /** By sender, the number of the latest message. */
  readonly latest: Map<string, number>
}

export class Checker {
  readonly said: Message[] = []
  /** By account, in the order of the archive, as far as it has been read. */
  readonly archives = new Map<string, Entry[]>()
  /** Messages that were said before the session began, and shown behind later ones of their sender. */
  late = 0
  /** Messages that a session was shown once more, under the same stanza-id. */
  again = 0
  readonly #byId = new Map<string, Message>()
  readonly #numbers = new Map<string, number>()
  readonly #seen: Seen[] = []
  readonly #shown = new Map<string, Shown>()
  readonly #faults: string[] = []
  readonly #told = new Set<string>()

  say(from: string, to: string, saidMs: number): Message {
    const number = (this.#numbers.get(from) ?? 0) + 1
    this.#numbers.set(from, number)
    const message: Message = { id: `${from.split('@')[0]}-${number}`, from, to, acked: false, saidMs, number, refused: '' }
    this.said.push(message)
    this.#byId.set(message.id, message)
    return message
  }

  /** An error came back for it; it may only be one after which the same may be tried again (RFC 6120 §8.3.2). */
  refuse(id: string, condition: string, type: string | undefined): void {
    const message = this.#byId.get(id)
    if (message === undefined) return this.fault(`an error came back for ${id}, which nobody has said`)
    message.refused = condition
    if (type !== 'wait') this.fault(`${id} was refused for good: ${condition} (${type})`)
  }

  /**
   * Returns the message; undefined where nobody has said it to this account. `session` goes on when its stream is resumed.
   */
  see(account: string, session: string, sinceMs: number, id: string, archiveId: string): Message | undefined {
    const message = this.#byId.get(id)
    if (message?.to !== account) {
      this.fault(`${account} was shown ${id}, which nobody has said to it`)
      return undefined
    }
    let shown = this.#shown.get(session)
    if (shown === undefined) this.#shown.set(session, (shown = { archiveIds: new Map(), latest: new Map() }))
    const { archiveIds, latest } = shown
    const shownAs = archiveIds.get(id)
    if (shownAs === archiveId) {
      this.again++
      return message
    }
    if (shownAs !== undefined) this.fault(`${id} was shown twice to ${session}, as ${shownAs} and as ${archiveId}`)
    archiveIds.set(id, archiveId)
    const before = latest.get(message.from) ?? 0
    if (message.number < before && message.saidMs < sinceMs) this.late++
    else if (message.number < before) this.fault(`${id} was shown to ${session} behind number ${before}`)
    latest.set(message.from, Math.max(before, message.number))
    this.#seen.push({ id, archiveId, place: account })
    return message
  }

  /** Nothing more will be shown to it. */
  forget(session: string): void {
    this.#shown.delete(session)
  }

  /** Anything else that must not be. */
  fault(sentence: string): void {
    this.#faults.push(sentence)
  }

  snapshot(): Snapshot {
    const acked = this.said.filter(({ acked, refused }) => acked && refused === '').map(({ id }) => id)
    return { acked: new Set(acked), seen: this.#seen.length }
  }

  /** What is wrong, and has not been told yet, once `archives` hold all that was there when the snapshot was taken. */
  faults({ acked, seen }: Snapshot): string[] {
    const found = faultsOf({
      said: this.said.map(({ id, from, to }) => ({ id, from, to, acked: acked.has(id) })),
      places: this.archives,
      belongsIn: ({ from, to }) => [from, to],
      seen: this.#seen.slice(0, seen),
    })
    return this.#news([...this.#faults, ...found])
  }

  /** The same of an archive that was read from its beginning. */
  faultsOfWhole(account: string, entries: readonly Entry[]): string[] {
    const known = this.archives.get(account) ?? []
    const at = known.findIndex(({ id, archiveId }, n) => entries[n]?.id !== id || entries[n]?.archiveId !== archiveId)
    if (at < 0) return []
    const is = entries[at] === undefined ? 'nothing' : `${entries[at].id} (${entries[at].archiveId})`
    const was = `${known[at]!.id} (${known[at]!.archiveId})`
    return this.#news([`in the archive of ${account}, at ${at}, there is ${is}, where ${was} was shown before`])
  }

  #news(faults: readonly string[]): string[] {
    const news = faults.filter((fault) => !this.#told.has(fault))
    for (const fault of news) this.#told.add(fault)
    return news
  }
}

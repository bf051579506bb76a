// What comes for the second time: was anything of it stored the first time, and under which archive id?
//
// An envelope that nobody acked is sent again to the account's next owner, who cannot know what became of it. A journal keeps
// with each entry the cause it follows from, as the row's version: so the entry itself tells. Stored again under its own id it is
// the same row, and what is shown of it has the same stanza-id, by which a client knows it (XEP-0359).
//
// What comes again comes in numbers, when an owner has died or the bus was away. So an account's journals are read once, and from
// then on only what has been added: ids rise, and an account is asked about by one owner, in order.
import type { Table } from '#table/table.ts'
import { archiveIdAt, isArchiveId } from './archive-id.ts'
import type { Clock } from './clock.ts'
import type { OfAccounts } from './held.ts'
import { journalKey } from './journal.ts'

/** Entries that are older than the envelope itself by so much are not looked at: so far may clocks be apart. */
export const RECALLED_MS = 1_200_000
/** Entries of one journal that are looked at the first time. */
const ENTRIES_MAX = 1_000
/** Causes remembered of all accounts, about 100 bytes each. Beyond it those are forgotten that were asked for longest ago. */
const REMEMBERED_MAX = 100_000
/** Behind all archive ids. */
const LATEST = archiveIdAt(36 ** 9)

/** Of one account. */
interface Memory {
  /** By journal, the id up to which it has been read. */
  readonly readTo: Map<string, string>
  /** By cause. */
  readonly archiveIds: Map<string, string>
}

export class Recalls {
  readonly #table: Table
  readonly #journals: readonly string[]
  readonly #clock: Clock
  /** Those that were asked for last come last. */
  readonly #accounts = new Map<string, Memory>()
  #remembered = 0

  constructor(table: Table, journals: readonly string[], clock: Clock) {
    this.#table = table
    this.#journals = journals
    this.#clock = clock
  }

  /**
   * The archive id under which an account's journals have an entry of this cause; undefined where they have none. All that was
   * staged for the account is in the table, and this is called for one account once at a time.
   */
  async find(account: string, cause: string): Promise<string | undefined> {
    const memory = this.#take(account) ?? { readTo: new Map(), archiveIds: new Map() }
    for (const journal of this.#journals) await this.#readOn(memory, journal, account)
    this.#keep(account, memory)
    return memory.archiveIds.get(cause)
  }

  /** These accounts are another's: what he adds is not known here. */
  release(gone: OfAccounts): void {
    for (const account of this.#accounts.keys()) if (gone(account)) this.#take(account)
  }

  async #readOn({ readTo, archiveIds }: Memory, journal: string, account: string): Promise<void> {
    const from = readTo.get(journal)
    const first = archiveIdAt(this.#clock.now() - RECALLED_MS)
    const range = from === undefined ? { from: first, to: LATEST, reverse: true, limit: ENTRIES_MAX } : { from, to: LATEST }
    let last = from ?? first
    for await (const { sk, version } of this.#table.query(journalKey(journal, account), range)) {
      if (!isArchiveId(sk)) continue
      archiveIds.set(causeIn(version), sk)
      if (sk > last) last = sk
    }
    readTo.set(journal, last) // not before all of it has been read
  }

  #take(account: string): Memory | undefined {
    const memory = this.#accounts.get(account)
    if (memory === undefined) return undefined
    this.#accounts.delete(account)
    this.#remembered -= memory.archiveIds.size
    return memory
  }

  #keep(account: string, memory: Memory): void {
    this.#accounts.set(account, memory)
    this.#remembered += memory.archiveIds.size
    for (const oldest of this.#accounts.keys()) {
      if (this.#remembered <= REMEMBERED_MAX) return
      this.#take(oldest)
    }
  }
}

/** An owner's log puts what orders the versions of a row before it, and a space (core/log-item.ts). */
function causeIn(version: string): string {
  return version.slice(version.lastIndexOf(' ') + 1)
}

// What comes for the second time: was anything of it stored the first time, and under which archive id?
//
// An envelope that nobody acked is sent again to the account's next owner, who cannot know what became of it. A journal keeps
// with each entry the cause it follows from, as the row's version: so the entry itself tells. Stored again under its own id it is
// the same row, and what is shown of it has the same stanza-id, by which a client knows it (XEP-0359).
//
// What comes again comes in numbers, when an owner has died or was frozen, or the bus was away. So an account's journals are read
// once, as far back as what comes was first said; from then on only this owner adds to them, and notes what. Then nothing that
// comes again waits for the table but the first of each account.
import type { Table } from '#table/table.ts'
import type { Stanza } from '#xmpp/stanza.ts'
import type { Clock } from '../clock.ts'
import type { Task } from '../lanes/mailbox.ts'
import type { LazyPassage } from '../passage.ts'
import { archiveIdAt, isArchiveId } from '../storage/archive-id.ts'
import { journalKey } from '../storage/journal.ts'
import type { OfAccounts } from './held.ts'

/** Entries that are older than what was said by so much are not looked at: so far may clocks be apart. */
export const CLOCKS_APART_MS = 900_000
/** Entries of one journal that are looked at, for so long a time, the last ones. */
const ENTRIES_MAX = 1_000
const ENTRIES_MS = 1_200_000
/** Causes remembered of all accounts, about 100 bytes each. Beyond it those are forgotten that were asked for longest ago. */
const REMEMBERED_MAX = 100_000
/** Behind all archive ids. */
const LATEST = archiveIdAt(36 ** 9)

/** Of one account. */
interface Memory {
  /** From when on its journals have been read; Infinity while they have not. */
  fromMs: number
  /** By cause. */
  readonly archiveIds: Map<string, string>
}

export class Recalls {
  readonly #table: Table
  readonly #journals: readonly string[]
  readonly #clock: Clock
  readonly #applied: (account: string) => Promise<void> | undefined
  /** Those that were asked for last come last. */
  readonly #accounts = new Map<string, Memory>()
  #remembered = 0

  /** @param applied resolves when all that was staged for the account is in the table */
  constructor(table: Table, journals: readonly string[], clock: Clock, applied: (account: string) => Promise<void> | undefined) {
    this.#table = table
    this.#journals = journals
    this.#clock = clock
    this.#applied = applied
  }

  /**
   * The archive id under which an account's journals have an entry of this cause, first said at `saidMs` at the earliest;
   * undefined where they have none. No promise where it is known. Called for one account once at a time.
   */
  find(account: string, cause: string, saidMs: number): string | undefined | Promise<string | undefined> {
    const fromMs = saidMs - CLOCKS_APART_MS
    const memory = this.#accounts.get(account)
    if (memory === undefined || memory.fromMs > fromMs) return this.#read(account, cause, fromMs)
    this.#accounts.delete(account)
    this.#accounts.set(account, memory)
    return memory.archiveIds.get(cause)
  }

  /** A task for what may have been handled before: what was stored of it then keeps its archive id. */
  before({ name }: Stanza, passage: LazyPassage, task: Task): Task {
    if (name !== 'message' || passage.cause === '') return task
    const goOn = (known: string | undefined): void | Promise<void> => {
      if (known !== undefined) passage.recall(known)
      return task()
    }
    return () => {
      const found = this.find(passage.account.bare, passage.cause, passage.saidMs)
      return found instanceof Promise ? found.then(goOn) : goOn(found)
    }
  }

  /** This owner has added an entry. */
  note(account: string, archiveId: string, cause = ''): void {
    const memory = this.#accounts.size === 0 ? undefined : this.#accounts.get(account)
    if (memory === undefined || cause === '' || !isArchiveId(archiveId)) return
    this.#enter(memory, cause, archiveId)
    this.#shrink()
  }

  /** These accounts are another's: what he adds is not known here. */
  release(gone: OfAccounts): void {
    for (const account of this.#accounts.keys()) if (gone(account)) this.#forget(account)
  }

  async #read(account: string, cause: string, fromMs: number): Promise<string | undefined> {
    const memory = this.#accounts.get(account) ?? { fromMs: Number.POSITIVE_INFINITY, archiveIds: new Map() }
    this.#accounts.set(account, memory) // what is added meanwhile is noted in it
    await this.#applied(account)
    const found = await Promise.all(this.#journals.map((journal) => this.#entriesOf(journal, account, fromMs)))
    const isKept = this.#accounts.get(account) === memory
    for (const [known, archiveId] of found.flat()) {
      if (isKept) this.#enter(memory, known, archiveId)
      else memory.archiveIds.set(known, archiveId)
    }
    memory.fromMs = fromMs // not before all of them have been read
    this.#shrink()
    return memory.archiveIds.get(cause)
  }

  /** The causes of its last entries since then, and their archive ids. */
  async #entriesOf(journal: string, account: string, fromMs: number): Promise<(readonly [string, string])[]> {
    const entries: (readonly [string, string])[] = []
    const limit = ENTRIES_MAX * Math.max(1, Math.ceil((this.#clock.now() - fromMs) / ENTRIES_MS))
    const range = { from: archiveIdAt(fromMs), to: LATEST, reverse: true, limit }
    for await (const { sk, version } of this.#table.query(journalKey(journal, account), range))
      if (isArchiveId(sk)) entries.push([causeIn(version), sk])
    return entries
  }

  #enter({ archiveIds }: Memory, cause: string, archiveId: string): void {
    const before = archiveIds.size
    archiveIds.set(cause, archiveId)
    this.#remembered += archiveIds.size - before
  }

  #forget(account: string): void {
    const memory = this.#accounts.get(account)
    if (memory === undefined) return
    this.#accounts.delete(account)
    this.#remembered -= memory.archiveIds.size
  }

  #shrink(): void {
    for (const oldest of this.#accounts.keys()) {
      if (this.#remembered <= REMEMBERED_MAX) return
      this.#forget(oldest)
    }
  }
}

/** An owner's log puts what orders the versions of a row before it, and a space (core/commits/log-item.ts). */
function causeIn(version: string): string {
  return version.slice(version.lastIndexOf(' ') + 1)
}

// How much one account's archive may take: beyond it the oldest messages are deleted.
//
// Not the newest refused: nobody can empty an archive to have messages again. It is counted without a write for each
// message: one of 300 bytes counts as 64 KiB, and then for one in 200 only. Over all that is right, of 1 GiB to about one
// percent, whatever restarts in between. It is counted by periods of 25 days (core/storage/archive-id.ts), so that what has expired
// is no longer counted when the oldest message is found to be younger.
//
//   pk = a#romeo@example.org   sk = archive-size   { "00mh": 1048576, … }   bytes, by what the ids of a period begin with

import type { App } from '#core/module.ts'
import { archiveIdPeriod } from '#core/storage/archive-id.ts'
import type { AccountJournal, AccountRecord, MaybePromise } from '#core/storage/store.ts'
import type { Jid } from '#xmpp/jid.ts'

type Sizes = Readonly<Record<string, number>>

const EMPTY: Sizes = {}
/** Counted at once. Less where the bound is small: a hundredth of it. */
const STEP_BYTES_MAX = 64 * 1024
/** A row besides its value: its keys, and what the table adds. */
const ROW_BYTES = 100
/** What is left when there was too much: not every message is to delete another. */
const LEFT = 0.95
/** Deleted in one commit. */
const PAGE = 500

/** What there is too much of is deleted in the background, of one account after the other. */
export class ArchiveSizes {
  readonly #app: App
  readonly #journal: AccountJournal
  readonly #sizes: AccountRecord<Sizes>
  readonly #bytesMax: number
  readonly #stepBytes: number
  /** Those whose archives are too large, the first of them being at work on. */
  readonly #tooLarge = new Map<string, Jid>()

  /** @param bytesMax 0: no bound, and nothing is counted */
  constructor(app: App, journal: AccountJournal, bytesMax: number) {
    this.#app = app
    this.#journal = journal
    this.#sizes = app.record<Sizes>('archive-size', EMPTY)
    this.#bytesMax = bytesMax
    this.#stepBytes = Math.max(1, Math.min(STEP_BYTES_MAX, Math.floor(bytesMax / 100)))
    app.on('accounts.released', ({ gone }) => this.#release(gone))
  }

  /** Whoever has them finds them too large himself. The first is being worked on: that ends where it can write no more. */
  #release(gone: (account: string) => boolean): void {
    for (const account of [...this.#tooLarge.keys()].slice(1)) if (gone(account)) this.#tooLarge.delete(account)
  }

  /** An entry of so many bytes has been appended. */
  add(account: Jid, id: string, bytes: number): void {
    if (this.#bytesMax === 0) return
    const steps = Math.floor((bytes + ROW_BYTES) / this.#stepBytes + Math.random()) // as often as it is large
    if (steps === 0) return
    const period = archiveIdPeriod(id)
    const more = (before: Sizes): Sizes => ({ ...before, [period]: (before[period] ?? 0) + steps * this.#stepBytes })
    const changed = this.#update(account, more)
    if (changed instanceof Promise)
      void changed.then((sizes) => this.#judge(account, sizes)).catch((error) => this.#failed(error))
    else this.#judge(account, changed)
  }

  #update(account: Jid, change: (before: Sizes) => Sizes): MaybePromise<Sizes> {
    const changed = this.#sizes.update(account, change)
    return changed instanceof Promise ? changed.then(({ after }) => after) : changed.after
  }

  #judge(account: Jid, sizes: Sizes): void {
    if (sum(sizes) <= this.#bytesMax || this.#tooLarge.has(account.bare)) return
    this.#tooLarge.set(account.bare, account)
    if (this.#tooLarge.size === 1) void this.#work()
  }

  async #work(): Promise<void> {
    for (const [bare, account] of this.#tooLarge) {
      await this.#trim(account).catch((error) => this.#failed(error))
      this.#tooLarge.delete(bare)
    }
  }

  /** The table is away, or the account is being deleted. It is found too large again with the next message that counts. */
  #failed(error: unknown): void {
    this.#app.log.warn('archive.trim_delayed', { error })
  }

  async #trim(account: Jid): Promise<void> {
    let deleted = 0
    for (;;) {
      const page = await this.#oldest(account)
      const [first] = page
      const sizes = await this.#update(account, (before) => since(before, first?.id))
      let over = sum(sizes) - this.#bytesMax * LEFT
      if (first === undefined || over <= 0) break
      const freed: Record<string, number> = {}
      for (const { id, bytes } of page) {
        if (over <= 0) break
        this.#journal.remove(account, id)
        const period = archiveIdPeriod(id)
        freed[period] = (freed[period] ?? 0) + bytes
        over -= bytes
        deleted++
      }
      await this.#update(account, (before) => less(before, freed))
      await this.#app.durable(account)
    }
    if (deleted === 0) return
    const [first] = await this.#oldest(account, 1)
    if (first !== undefined) await this.#journal.trimThreads(account, first.id)
    this.#app.log.info('archive.trimmed', { account: account.bare, deleted })
  }

  async #oldest(account: Jid, limit = PAGE): Promise<readonly { readonly id: string; readonly bytes: number }[]> {
    const page: { id: string; bytes: number }[] = []
    for await (const { id, entry } of this.#journal.range(account, { limit })) page.push({ id, bytes: entry.length + ROW_BYTES })
    return page
  }
}

function sum(sizes: Sizes): number {
  let bytes = 0
  for (const period in sizes) bytes += sizes[period]!
  return bytes
}

/** Without the periods before that of the oldest entry there is; without any where there is none. */
function since(sizes: Sizes, oldest: string | undefined): Sizes {
  const periods = Object.entries(sizes)
  const left = oldest === undefined ? [] : periods.filter(([period]) => period >= archiveIdPeriod(oldest))
  return left.length === periods.length ? sizes : Object.fromEntries(left)
}

function less(sizes: Sizes, freed: Sizes): Sizes {
  const left = Object.entries(sizes).map(([period, bytes]) => [period, Math.max(0, bytes - (freed[period] ?? 0))] as const)
  return Object.fromEntries(left.filter(([, bytes]) => bytes > 0))
}

// How long an archive keeps what is in it, by `modules.mam.expiryDays` as it is now, whatever it was before.
//
// What is deleted must be the oldest (XEP-0313 §3): no reader may be shown a hole. So no row says by itself when it expires,
// for rows of another time would expire in another order. What is too old is hidden from every reader the moment it is, and
// deleted from the oldest on: once a day the owner of a domain has the owners of its accounts look at each, also those that
// nobody has used since. An option that is changed so holds for what is there, and what was not deleted yet is there again
// when it is raised. It costs a delete for each row, which a row that expires by itself would not on DynamoDB.

import type { App } from '#core/module.ts'
import { archiveIdAt } from '#core/storage/archive-id.ts'
import type { AccountJournal } from '#core/storage/store.ts'
import { type Jid, parseJid } from '#xmpp/jid.ts'

declare module '#core/call.ts' {
  interface Calls {
    /** Of a domain: what is too old in its archives is to be deleted. It is begun, unless it was not long ago. */
    'archive.sweep': { ask: {}; tell: boolean }
    /** Of an account: what is too old in its archive is deleted, a portion of it. Tells how much that was. */
    'archive.trim': { ask: {}; tell: number }
  }
}

const DAY_MS = 86_400_000
/** Entries deleted at once. */
const PORTION = 500

export class ArchiveExpiry {
  readonly #app: App
  readonly #journal: AccountJournal
  readonly #days: number
  /** The first message under an id behind this has the archives looked through. */
  #nextSweep = ''
  /** When each domain of this owner was looked through last, by the monotonic clock. */
  readonly #sweptMs = new Map<string, number>()

  /** @param days 0: nothing expires */
  constructor(app: App, journal: AccountJournal, days: number) {
    this.#app = app
    this.#journal = journal
    this.#days = days
    app.answer('archive.sweep', (domain) => this.#begin(domain))
    app.answer('archive.trim', (account) => this.#trim(parseJid(account)))
  }

  /** Behind this everything is shown, and nothing before it; undefined where nothing expires. */
  get oldest(): string | undefined {
    return this.#days === 0 ? undefined : archiveIdAt(this.#app.clock.now() - this.#days * DAY_MS)
  }

  /** An entry has been appended under this id: once a day that is when archives are looked through. */
  note(archiveId: string): void {
    if (this.#days === 0 || archiveId < this.#nextSweep) return
    this.#nextSweep = archiveIdAt(this.#app.clock.now() + DAY_MS)
    for (const domain of this.#app.server.domains)
      void this.#app.ask('router', domain, 'archive.sweep', {}).catch((error) => this.#failed(error))
  }

  #begin(domain: string): boolean {
    const nowMs = this.#app.clock.monotonic()
    if (nowMs - (this.#sweptMs.get(domain) ?? -Infinity) < DAY_MS / 2) return false // every process asks for it
    this.#sweptMs.set(domain, nowMs)
    void this.#sweep(domain).catch((error) => {
      this.#sweptMs.delete(domain)
      this.#failed(error)
    })
    return true
  }

  async #sweep(domain: string): Promise<void> {
    let deleted = 0
    for await (const account of this.#app.accounts.names(domain)) {
      for (let portion = PORTION; portion === PORTION; deleted += portion)
        portion = await this.#app.ask('router', account.bare, 'archive.trim', {})
    }
    if (deleted > 0) this.#app.log.info('archive.expired', { domain, deleted })
  }

  async #trim(account: Jid): Promise<number> {
    const { oldest } = this
    if (oldest === undefined) return 0
    let deleted = 0
    for await (const { id } of this.#journal.range(account, { before: oldest, limit: PORTION })) {
      this.#journal.remove(account, id)
      deleted++
    }
    if (deleted > 0 && deleted < PORTION) await this.#journal.trimThreads(account, oldest)
    await this.#app.durable(account)
    return deleted
  }

  /** The table is away, or an account has no owner. What is left is found the next time. */
  #failed(error: unknown): void {
    this.#app.log.warn('archive.sweep_delayed', { error })
  }
}

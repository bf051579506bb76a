// A record that both roles go by: its module's home writes it, the other role holds a copy ("two homes" in the README).
//
// When a change is in the table, where the other role reads it, the home tells the account's other owner on the lane what is
// new. That one forgets its copy, and lets the module act on the news in order with the account's stanzas; its ack confirms
// the change. Lanes deliver once and for certain, so whoever waited too long is told to come again, and the change takes hold
// all the same. Until then the account's record is not changed again: each side can tell from the news what held before.
//
// A home that dies in between has stored the change, and told nobody. What the client asked for was not answered, and so comes
// to its successor, who finds nothing to change: of an iq that comes `again` a module tells all it names as news.
import { StanzaError } from '#xmpp/error.ts'
import type { Jid } from '#xmpp/jid.ts'
import type { Clock } from '../clock.ts'
import type { Commit } from '../commits/commit.ts'
import type { Fields } from '../envelope.ts'
import type { Lanes } from '../lanes/lane.ts'
import type { OfAccounts } from '../ownership/held.ts'
import type { RoleName } from '../ownership/ownership.ts'
import type { AccountRecord, MaybePromise, Store } from './store.ts'

export const CONFIRM_TIMEOUT_MS = 10_000
/** The signal that says so. */
export const RECORD_CHANGED = 'record.changed'

export interface SharedRecord<T, News> extends AccountRecord<T> {
  /** In the home only. Throws resource-constraint, of type wait, while the other role has not confirmed the change before. */
  update: AccountRecord<T>['update']
  /**
   * In the home: resolves when what was changed is in the table and the other role, told these news, goes by it. Throws
   * resource-constraint, of type wait, where that takes over CONFIRM_TIMEOUT_MS: the change holds here, and will there.
   */
  confirm(account: Jid, news: News): Promise<void>
}

/** In the other role: the copy is gone, what is read now is as new as the news. `News` is JSON. */
export type OnNews<News> = (account: Jid, news: News) => void | Promise<void>

/** What an owner gives to its shared records. */
interface Parts {
  readonly role: RoleName
  readonly store: Store
  readonly commit: Commit
  readonly lanes: Lanes
  readonly clock: Clock
}

export class SharedRecords {
  readonly #parts: Parts
  readonly #listeners = new Map<string, OnNews<unknown>>()
  /** `record account` of each change that is not confirmed. */
  readonly #unconfirmed = new Map<string, number>()

  constructor(parts: Parts) {
    this.#parts = parts
  }

  make<T, News>(home: RoleName, name: string, empty: T, onNews: OnNews<News>): SharedRecord<T, News> {
    const { role, store } = this.#parts
    const record = store.record(name, empty)
    const demandHome = (): void => {
      if (role !== home) throw new Error(`record ${name} is written in ${home} only`)
    }
    if (role !== home) this.#listeners.set(name, onNews as OnNews<unknown>)
    return {
      peek: record.peek,
      read: record.read,
      update: (account, change) =>
        record.update(account, (before) => {
          demandHome()
          if (this.#unconfirmed.has(`${name} ${account.bare}`)) throw unconfirmed('the change before this one')
          return change(before)
        }),
      confirm: async (account, news) => {
        demandHome()
        await this.#parts.commit.applied(account.bare)
        await this.#tell(name, account, JSON.stringify(news))
      },
    }
  }

  #tell(record: string, { bare }: Jid, news: string): Promise<void> {
    const { role, lanes, clock } = this.#parts
    const key = `${record} ${bare}`
    const waits = (by: 1 | -1): void => {
      const count = (this.#unconfirmed.get(key) ?? 0) + by
      if (count <= 0) this.#unconfirmed.delete(key)
      else this.#unconfirmed.set(key, count)
    }
    waits(1)
    return new Promise((resolve, reject) => {
      const timer = clock.setTimeout(() => reject(unconfirmed('the change is stored, and')), CONFIRM_TIMEOUT_MS)
      const fields = { record, news }
      const other = role === 'router' ? 'presence' : 'router'
      lanes.send(other, bare, { kind: 'signal', account: bare, name: RECORD_CHANGED, fields }, () => {
        clock.clearTimeout(timer)
        waits(-1)
        resolve()
      })
    })
  }

  /** This role goes by records that another one writes. */
  get hasCopies(): boolean {
    return this.#listeners.size > 0
  }

  /** These accounts have another owner: whether a change of theirs is confirmed is for that one to know. */
  release(gone: OfAccounts): void {
    for (const key of this.#unconfirmed.keys()) if (gone(key.slice(key.indexOf(' ') + 1))) this.#unconfirmed.delete(key)
  }

  /** The other role has changed a record. Resolves when it may be confirmed; TableUnavailable rises, and it is called again. */
  changed(account: Jid, { record, news }: Fields): MaybePromise<void> {
    this.#parts.store.forget(account.bare)
    return this.#listeners.get(String(record))?.(account, JSON.parse(String(news)))
  }
}

function unconfirmed(what: string): StanzaError {
  return new StanzaError('resource-constraint', `${what} is not in force everywhere yet`, { type: 'wait' })
}

// Accounts: who may log in, and the list of a domain.
//
//   pk = a#romeo@example.org   sk = account   { "credentials": SCRAM keys, "createdAt": ms }
//   pk = u#example.org#0b      sk = romeo     the list of accounts, over 16 keys so that none is hot
//
// Making an account is one conditional put, so that two who want the same name get one winner on any node.
import { type Key, type Table, VersionConflict } from '#table/table.ts'
import { StanzaError } from '#xmpp/error.ts'
import { randomId } from '#xmpp/id.ts'
import { type Jid, makeJid } from '#xmpp/jid.ts'
import type { Clock } from './clock.ts'
import type { Credentials, ScramHash } from './scram-keys.ts'
import { deriveCredentials, encodeCredentials, HashingBusy, PasswordError } from './scram-keys.ts'
import { ACCOUNT_RECORD, type AccountRecord, type MaybePromise, type Store } from './store.ts'

const LIST_KEYS = 16

export type EncodedCredentials = ReturnType<typeof encodeCredentials>
export type { Credentials, ScramHash }

/** The account's row, as stored. */
export interface AccountRow {
  readonly credentials: EncodedCredentials
  readonly createdAt: number
}

export class Accounts {
  readonly #table: Table
  readonly #store: Store
  readonly #record: AccountRecord<AccountRow | null>
  readonly #clock: Clock
  readonly #iterations: number
  readonly #sealed = new Set<string>()

  constructor(table: Table, store: Store, clock: Clock, iterations: number) {
    this.#table = table
    this.#store = store
    this.#record = store.record<AccountRow | null>(ACCOUNT_RECORD, null)
    this.#clock = clock
    this.#iterations = iterations
  }

  /** False also while the account is sealed. */
  exists(account: Jid): MaybePromise<boolean> {
    if (this.isSealed(account)) return false
    return this.#record.read(account, (row) => row !== null)
  }

  /** The SCRAM keys as they are stored, or undefined where there is no such account. */
  credentials(account: Jid): MaybePromise<EncodedCredentials | undefined> {
    if (this.isSealed(account)) return undefined
    return this.#record.read(account, (row) => row?.credentials)
  }

  /**
   * Throws StanzaError: conflict where the account exists, not-acceptable for a password that cannot be used,
   * resource-constraint while too many are being hashed. Durable when it resolves.
   */
  async create(account: Jid, password: string): Promise<void> {
    const credentials = await this.#derive(password)
    const row: AccountRow = { credentials, createdAt: this.#clock.now() }
    // The list first: a name in the list without its account is passed over, an account missing from it would be lost.
    await this.#table.put({ ...listKey(account), version: randomId(), value: new Uint8Array(0) })
    try {
      const value = Buffer.from(JSON.stringify(row), 'utf8')
      await this.#table.put({ pk: `a#${account.bare}`, sk: ACCOUNT_RECORD, version: randomId(), value }, '')
    } catch (error) {
      if (error instanceof VersionConflict) throw new StanzaError('conflict', 'the account exists')
      throw error
    }
    this.#store.forget(account.bare)
  }

  /** Throws StanzaError: item-not-found where there is no such account, else as `create`. Staged: durable when the owner's commit is. */
  async setPassword(account: Jid, password: string): Promise<void> {
    const credentials = await this.#derive(password)
    await this.#record.update(account, (row) => {
      if (row === null) throw new StanzaError('item-not-found', 'no such account')
      return { ...row, credentials }
    })
  }

  /**
   * From now on this role takes the account for gone and does nothing in its name: it is being deleted. What would be
   * written meanwhile would be there for the next one who takes the name.
   */
  seal(account: Jid): void {
    this.#sealed.add(account.bare)
  }

  /** The account is deleted, or stays. */
  unseal(account: Jid): void {
    this.#sealed.delete(account.bare)
  }

  isSealed(account: Jid): boolean {
    return this.#sealed.size > 0 && this.#sealed.has(account.bare)
  }

  /** Deletes the account and everything stored of it. Durable when it resolves. */
  async remove(account: Jid): Promise<void> {
    const key = listKey(account)
    const listed = await this.#table.get(key)
    await this.#store.purge(account.bare)
    if (listed === undefined) return
    try {
      await this.#table.delete(key, listed.version)
    } catch (error) {
      if (!(error instanceof VersionConflict)) throw error // somebody has the name already, and put it into the list
    }
  }

  /** A password that cannot be used is the asker's fault; a full queue of derivations passes. */
  async #derive(password: string): Promise<EncodedCredentials> {
    try {
      return encodeCredentials(await deriveCredentials(password, this.#iterations))
    } catch (error) {
      if (error instanceof PasswordError) throw new StanzaError('not-acceptable', error.message)
      if (error instanceof HashingBusy) throw new StanzaError('resource-constraint', error.message, { type: 'wait' })
      throw error
    }
  }

  /** The accounts of a domain, 16 lists merged, each in the order of their names. */
  async *list(domain: string): AsyncIterable<Jid> {
    for (let n = 0; n < LIST_KEYS; n++) {
      for await (const row of this.#table.query(listKeyOf(domain, n))) {
        const account = makeJid(row.sk, domain)
        if (await this.exists(account)) yield account
      }
    }
  }
}

function listKey(account: Jid): Key {
  let hash = 0
  for (let i = 0; i < account.local.length; i++) hash = (Math.imul(hash, 31) + account.local.charCodeAt(i)) >>> 0
  return { pk: listKeyOf(account.domain, hash % LIST_KEYS), sk: account.local }
}

function listKeyOf(domain: string, n: number): string {
  return `u#${domain}#${n.toString(16).padStart(2, '0')}`
}

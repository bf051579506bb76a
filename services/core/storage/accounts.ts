// Accounts: who may log in, and the list of a domain.
//
//   pk = a#romeo@example.org   sk = account   { "credentials": SCRAM keys, "createdAt": ms,
//                                               "disabled": { "atMs": ms, "reason": "" } where it is }
//                                           or { "createdAt": ms, "removed": { "atMs": ms } }
//   pk = u#example.org#0b      sk = romeo     the list of accounts, over 16 keys so that none is hot
//   pk = o#removals            sk = a hash    a bare JID, whose account is being deleted; one row for each
//
// Making an account is one conditional put, so that two who want the same name get one winner on any node. One that is
// deleted is gone when its row says so. The row stays until all others are gone, so that nobody has the name before; and
// the one among the removals, put ahead of that, tells whoever owns it next what is to be finished (router/removal.ts). Both
// that and the one in the list are deleted by their versions: an owner who is late takes away nothing that was put since.
import { createHash } from 'node:crypto'
import { type Key, type Table, VersionConflict } from '#table/table.ts'
import { StanzaError } from '#xmpp/error.ts'
import { randomId } from '#xmpp/id.ts'
import { type Jid, makeJid, parseJid } from '#xmpp/jid.ts'
import type { Clock } from '../clock.ts'
import type { OfAccounts } from '../ownership/held.ts'
import type { Credentials, ScramHash } from './scram-keys.ts'
import { deriveCredentials, encodeCredentials, HashingBusy, PasswordError } from './scram-keys.ts'
import { ACCOUNT_RECORD, type AccountRecord, type MaybePromise, type PurgeSteps, type Store } from './store.ts'

const LIST_KEYS = 16
const REMOVALS = 'o#removals'

export type EncodedCredentials = ReturnType<typeof encodeCredentials>
export type { Credentials, ScramHash }

/** The account's row, as stored. */
export interface AccountRow {
  readonly credentials: EncodedCredentials
  readonly createdAt: number
  /** How often the credentials have been changed: a login by older ones binds nothing any more. Absent: never. */
  readonly generation?: number
  /** Nobody may log in; what comes for the account is kept as for anybody who is offline. */
  readonly disabled?: { readonly atMs: number; readonly reason: string } | undefined
}

/** All that is left in it of an account that is being deleted. */
interface RemovedRow {
  readonly createdAt: number
  readonly removed: { readonly atMs: number }
}

type StoredRow = AccountRow | RemovedRow

/** An account among the removals, and the version of its row there. */
export interface Unfinished {
  readonly account: Jid
  readonly entry: string
}

declare module '../hooks.ts' {
  interface Events {
    /** At router(account): its password is another one. Whatever logs in by the old one ends, but for the session `except`. */
    'account.credentials-changed': { readonly account: Jid; readonly except: string | undefined }
  }
}

/** Shown to people, in one line of a terminal, a log or a client. */
const REASON = /^[^\p{Cc}\p{Cs}\u2028\u2029\ufffe\uffff]{0,500}$/u

export class Accounts {
  readonly #table: Table
  readonly #store: Store
  readonly #record: AccountRecord<StoredRow | null>
  readonly #clock: Clock
  readonly #iterations: number
  readonly #demandOurs: (account: string) => void
  /** Sealed until they are let go, whatever else ends. */
  readonly #held = new Set<string>()

  /** @param demandOurs throws TableUnavailable where another process may own the account: anybody's may be written, unless given */
  constructor(table: Table, store: Store, clock: Clock, iterations: number, demandOurs: (account: string) => void = () => {}) {
    this.#demandOurs = demandOurs
    this.#table = table
    this.#store = store
    this.#record = store.record<StoredRow | null>(ACCOUNT_RECORD, null)
    this.#clock = clock
    this.#iterations = iterations
  }

  /** False also while the account is sealed. */
  exists(account: Jid): MaybePromise<boolean> {
    if (this.isSealed(account)) return false
    return this.#record.read(account, isStanding)
  }

  /** It is being deleted: there is a row, which says so. */
  isRemoved(account: Jid): MaybePromise<boolean> {
    return this.#record.read(account, (row) => row !== null && !isStanding(row))
  }

  /** Null where there is no such account, or it is sealed. */
  row<R>(account: Jid, use: (row: AccountRow | null) => R): MaybePromise<R> {
    if (this.isSealed(account)) return use(null)
    return this.#record.read(account, (row) => use(isStanding(row) ? row : null))
  }

  /** Why it is disabled, '' where no reason was given; undefined where it is not. */
  disabledReason(account: Jid): MaybePromise<string | undefined> {
    return this.row(account, (row) => row?.disabled?.reason)
  }

  /**
   * Throws StanzaError: conflict where the account exists, not-acceptable for a password that cannot be used,
   * resource-constraint while too many are being hashed, or while one of that name is still being deleted. Durable when it
   * resolves.
   */
  async create(account: Jid, password: string): Promise<void> {
    await this.#demandFree(account)
    const credentials = await this.#derive(password)
    const row: AccountRow = { credentials, createdAt: this.#clock.now() }
    this.#demandOurs(account.bare) // another may own the name since: it would not know of this account
    // The list first: a name in the list without its account is passed over, an account missing from it would be lost.
    await this.#table.put({ ...listKey(account), version: randomId(), value: new Uint8Array(0) })
    try {
      const value = Buffer.from(JSON.stringify(row), 'utf8')
      await this.#table.put({ pk: `a#${account.bare}`, sk: ACCOUNT_RECORD, version: this.#store.newVersion(), value }, '')
    } catch (error) {
      if (!(error instanceof VersionConflict)) throw error
      this.#store.forget(account.bare)
      await this.#demandFree(account)
      throw new StanzaError('conflict', 'the account exists') // and was gone again
    }
    this.#store.forget(account.bare)
  }

  async #demandFree(account: Jid): Promise<void> {
    await this.#record.read(account, (row) => {
      if (isStanding(row)) throw new StanzaError('conflict', 'the account exists')
      if (row !== null)
        throw new StanzaError('resource-constraint', 'the account that had this name is still being deleted', { type: 'wait' })
    })
  }

  /** Throws StanzaError: item-not-found where there is no such account, else as `create`. Staged: durable when the owner's commit is. */
  async setPassword(account: Jid, password: string): Promise<void> {
    const credentials = await this.#derive(password)
    await this.#record.update(account, (row) => {
      if (!isStanding(row)) throw new StanzaError('item-not-found', 'no such account')
      return { ...row, credentials, generation: (row.generation ?? 0) + 1 }
    })
  }

  /**
   * Nobody may log in until it is enabled again. Throws StanzaError: item-not-found where there is no such account,
   * not-acceptable for a reason that is no line of text. Staged. Its sessions are for the caller to end.
   */
  async disable(account: Jid, reason: string): Promise<void> {
    if (!REASON.test(reason)) throw new StanzaError('not-acceptable', 'a reason is one line of at most 500 characters')
    await this.#record.update(account, (row) => {
      if (!isStanding(row)) throw new StanzaError('item-not-found', 'no such account')
      return row.disabled?.reason === reason ? row : { ...row, disabled: { atMs: this.#clock.now(), reason } }
    })
  }

  /** Throws StanzaError: item-not-found where there is no such account. One that is enabled stays it. Staged. */
  async enable(account: Jid): Promise<void> {
    await this.#record.update(account, (row) => {
      if (!isStanding(row)) throw new StanzaError('item-not-found', 'no such account')
      return row.disabled === undefined ? row : { ...row, disabled: undefined }
    })
  }

  /** From now on this role takes the account for gone, and does and writes nothing in its name: it is being deleted. */
  seal(account: Jid): void {
    this.#store.seal(account.bare)
  }

  /** The account is deleted, or stays. */
  unseal(account: Jid): void {
    if (!this.#held.has(account.bare)) this.#store.unseal(account.bare)
  }

  isSealed(account: Jid): boolean {
    return this.#store.isSealed(account.bare)
  }

  /** Seals it until `letGo`. */
  hold(account: Jid): void {
    this.#held.add(account.bare)
    this.seal(account)
  }

  /** Of these accounts nothing is known any more: they have another owner. */
  release(gone: OfAccounts): void {
    for (const account of this.#held) if (gone(account)) this.#held.delete(account)
    this.#store.release(gone)
  }

  /** From now on it can be unsealed. */
  letGo(account: Jid): void {
    this.#held.delete(account.bare)
  }

  /**
   * From now on there is no such account, whatever is still stored of it, and it is held; durable when it resolves, to the
   * entry among the removals. Throws StanzaError: item-not-found where there is none. One that is being deleted is only held.
   */
  async markRemoved(account: Jid): Promise<string> {
    const entry = randomId()
    this.#demandOurs(account.bare)
    await this.#table.put({ ...unfinishedKey(account), version: entry, value: Buffer.from(account.bare, 'utf8') })
    await this.#record.update(account, (row) => {
      if (row === null) throw new StanzaError('item-not-found', 'no such account')
      return isStanding(row) ? { createdAt: row.createdAt, removed: { atMs: this.#clock.now() } } : row
    })
    this.hold(account)
    await this.#store.applied(account.bare)
    return entry
  }

  /** Deletes everything stored of the account, however far somebody has come with it. Durable when it resolves. */
  async erase(account: Jid, portion?: PurgeSteps['portion']): Promise<void> {
    // Out of the list while the name cannot be had: behind that it may be the next one's place.
    const listed = await this.#table.get(listKey(account))
    const last = async () => {
      if (listed !== undefined) await this.#deleteIfSame(listKey(account), listed.version)
    }
    await this.#store.purge(account.bare, portion === undefined ? { last } : { last, portion })
  }

  /** The accounts that are to be deleted, or were when somebody died: one that stands or has no row needs nothing any more. */
  async *unfinished(): AsyncIterable<Unfinished> {
    for await (const { value, version } of this.#table.query(REMOVALS))
      yield { account: parseJid(Buffer.from(value).toString('utf8')), entry: version }
  }

  /** It is not to be deleted, or has been. Where it has been entered anew since, it stays. */
  async forgetUnfinished({ account, entry }: Unfinished): Promise<void> {
    await this.#deleteIfSame(unfinishedKey(account), entry)
  }

  async #deleteIfSame(key: Key, version: string): Promise<void> {
    try {
      await this.#table.delete(key, version)
    } catch (error) {
      if (!(error instanceof VersionConflict)) throw error
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

  /** The accounts of a domain, 16 lists one after the other, each in the order of their names. */
  async *list(domain: string): AsyncIterable<Jid> {
    for await (const account of this.names(domain)) if (await this.exists(account)) yield account
  }

  /** The same without a look at the accounts, from the one behind `after` on: one that was being made when a process died may be no account. */
  async *names(domain: string, after?: Jid): AsyncIterable<Jid> {
    const start = after === undefined ? 0 : listOf(after)
    for (let n = start; n < LIST_KEYS; n++) {
      const range = after !== undefined && n === start ? { from: after.local } : {}
      for await (const { sk } of this.#table.query(listKeyOf(domain, n), range)) {
        if (n !== start || sk !== after?.local) yield makeJid(sk, domain)
      }
    }
  }
}

/** Whether there is such an account, as the table has it: for who does not own it. One read of one row. */
export async function isAccount(table: Table, { bare }: Jid): Promise<boolean> {
  const row = await table.get({ pk: `a#${bare}`, sk: ACCOUNT_RECORD })
  return row !== undefined && isStanding(JSON.parse(Buffer.from(row.value).toString('utf8')) as StoredRow)
}

/** Of an account's row, for those who never ask for them. */
export function withoutCredentials(row: unknown): unknown {
  return { ...(row as object), credentials: undefined }
}

function isStanding(row: StoredRow | null): row is AccountRow {
  return row !== null && !('removed' in row)
}

/** A key of DynamoDB has 1024 bytes, an address up to 2047. */
function unfinishedKey({ bare }: Jid): Key {
  return { pk: REMOVALS, sk: createHash('sha256').update(bare, 'utf8').digest('base64url') }
}

function listKey(account: Jid): Key {
  return { pk: listKeyOf(account.domain, listOf(account)), sk: account.local }
}

function listOf({ local }: Jid): number {
  let hash = 0
  for (let i = 0; i < local.length; i++) hash = (Math.imul(hash, 31) + local.charCodeAt(i)) >>> 0
  return hash % LIST_KEYS
}

function listKeyOf(domain: string, n: number): string {
  return `u#${domain}#${n.toString(16).padStart(2, '0')}`
}

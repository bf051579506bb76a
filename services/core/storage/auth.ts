// Who may log in: what an edge asks of whoever keeps the credentials.
//
// An edge knows mechanisms and no accounts; behind `Auth` it is asked for keys, for a verdict on a password, or how somebody
// stands who has shown a certificate. Nothing here tells whether an account exists: where there is none, there are keys that
// nothing fits, the same ones each time. `accountsAuth` is the first driver: accounts in the table, asked of router(account).
//
//   pk = o#login   sk = salt-secret   32 random bytes that the salts of accounts which do not exist are made from
import { randomBytes } from 'node:crypto'
import { type Key, type Table, VersionConflict } from '#table/table.ts'
import { randomId } from '#xmpp/id.ts'
import type { Caller } from '../call.ts'
import {
  type Credentials,
  decodeCredentials,
  fakeKeys,
  SCRAM_HASHES,
  type ScramHash,
  type ScramKeys,
  verifyPassword,
} from './scram-keys.ts'

/** Accounts are bare JIDs, prepared. Each question rejects where it cannot be answered for now. */
export interface Auth {
  readonly supports: AuthSupport
  /** For SCRAM (RFC 5802). Where nobody may log in by these keys there are some all the same, and no standing. */
  scramKeys(account: string, hash: ScramHash): Promise<ScramLogin>
  /** For PLAIN (RFC 4616): the account's standing where that is its password. Takes as long for an account that does not exist. */
  verify(account: string, password: string): Promise<Standing | undefined>
  /** For EXTERNAL (XEP-0178): undefined where there is no such account. */
  standing(account: string): Promise<Standing | undefined>
}

/** What a driver can answer: an LDAP directory, say, verifies passwords and has no keys to show. */
export interface AuthSupport {
  /** Strongest first. */
  readonly scram: readonly ScramHash[]
  readonly password: boolean
  readonly certificate: boolean
}

/** Of an account that exists. */
export interface Standing {
  /** Why it is disabled, for people, '' where no reason was given; undefined: it is not. */
  readonly disabled: string | undefined
  /** Of the credentials it was asked about: they may be others before a resource is bound. */
  readonly generation: number
}

export interface ScramLogin {
  readonly keys: ScramKeys
  readonly standing: Standing | undefined
}

export interface AccountsAuthOptions {
  readonly caller: Caller
  readonly table: Table
  /** Those that are offered, of those that keys are stored for. */
  readonly hashes: readonly string[]
  /** Of the salts that are made up: those of passwords set now. */
  readonly iterations: number
}

export function accountsAuth({ caller, table, hashes, iterations }: AccountsAuthOptions): Auth {
  const secret = secretOf(table)
  const ask = (account: string, hash?: ScramHash) =>
    caller.ask('router', account, 'account.credentials', hash === undefined ? {} : { hash })
  return {
    supports: { scram: SCRAM_HASHES.filter((hash) => hashes.includes(hash)), password: true, certificate: true },

    async scramKeys(account, hash) {
      const made = fakeKeys(await secret(), account, hash, iterations) // also where it is not needed: it takes the time it takes
      const told = await ask(account, hash)
      const keys = told === null ? undefined : decodeCredentials(told).scram[hash]
      return told === null || keys === undefined ? { keys: made, standing: undefined } : { keys, standing: standingOf(told) }
    },

    async verify(account, password) {
      const made: Credentials = { scram: { 'SHA-256': fakeKeys(await secret(), account, 'SHA-256', iterations) } }
      const told = await ask(account)
      // A password for nobody is hashed like any other.
      const matches = await verifyPassword(told === null ? made : decodeCredentials(told), password)
      return matches && told !== null ? standingOf(told) : undefined
    },

    async standing(account) {
      const told = await ask(account)
      return told === null ? undefined : standingOf(told)
    },
  }
}

function standingOf({ disabled, generation = 0 }: { disabled?: string; generation?: number }): Standing {
  return { disabled, generation }
}

const SECRET: Key = { pk: 'o#login', sk: 'salt-secret' }

/** Read when it is first needed, and made by whoever is first. */
function secretOf(table: Table): () => Promise<string> {
  let known: Promise<string> | undefined
  return () => {
    known ??= readSecret(table).catch((error: unknown) => {
      known = undefined // the next login tries again
      throw error
    })
    return known
  }
}

async function readSecret(table: Table): Promise<string> {
  const value = (await table.get(SECRET))?.value ?? (await makeSecret(table))
  return Buffer.from(value).toString('hex')
}

async function makeSecret(table: Table): Promise<Uint8Array> {
  const value = randomBytes(32)
  try {
    await table.put({ ...SECRET, version: randomId(), value }, '')
    return value
  } catch (error) {
    if (!(error instanceof VersionConflict)) throw error
    return (await table.get(SECRET))!.value // another process was first
  }
}

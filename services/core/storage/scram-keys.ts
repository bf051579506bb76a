// What is stored of a password: SCRAM keys, RFC 5802 §3, and nothing that logs in by itself.
//
//   SaltedPassword = Hi(prepared password, salt, iterations)          PBKDF2 with HMAC
//   StoredKey      = H(HMAC(SaltedPassword, "Client Key"))            checks a client's proof
//   ServerKey      = HMAC(SaltedPassword, "Server Key")               proves us to the client
//
// Hashing runs on libuv's threads, a few at a time; beyond a bounded queue it is refused with HashingBusy. An account that
// does not exist has keys as well, made from a secret of ours and its name: a stranger is asked the same questions.
import { hash as digest, pbkdf2, randomBytes, timingSafeEqual } from 'node:crypto'
import { promisify } from 'node:util'
import saslprep from '@mongodb-js/saslprep'

/** Strongest first: the order in which they are offered. */
export const SCRAM_HASHES = ['SHA-512', 'SHA-256', 'SHA-1'] as const
export type ScramHash = (typeof SCRAM_HASHES)[number]
/** Length of a hash's output, and so of its keys. */
export const SCRAM_BYTES: Readonly<Record<ScramHash, number>> = { 'SHA-512': 64, 'SHA-256': 32, 'SHA-1': 20 }
/** The one that every account has keys for, then the others: with the password at hand none of them is the safer one. */
const CHECKED_BY: readonly ScramHash[] = ['SHA-256', 'SHA-512', 'SHA-1']
/** Names of the hashes in Node, and the bytes they take at a time (RFC 2104 §2). */
const NAMES: Readonly<Record<ScramHash, string>> = { 'SHA-512': 'sha512', 'SHA-256': 'sha256', 'SHA-1': 'sha1' }
const BLOCK_BYTES: Readonly<Record<ScramHash, number>> = { 'SHA-512': 128, 'SHA-256': 64, 'SHA-1': 64 }

export interface ScramKeys {
  readonly salt: Uint8Array
  readonly iterations: number
  readonly storedKey: Uint8Array
  readonly serverKey: Uint8Array
}

export interface Credentials {
  readonly scram: Readonly<Partial<Record<ScramHash, ScramKeys>>>
}

/** Credentials as JSON: bytes are base64. */
export interface EncodedCredentials {
  readonly scram: Readonly<Partial<Record<ScramHash, EncodedKeys>>>
}
interface EncodedKeys {
  readonly salt: string
  readonly iterations: number
  readonly storedKey: string
  readonly serverKey: string
}

/** RFC 5802 §5.1 and RFC 7677 §4: at least 4096. A client may refuse fewer. */
export const ITERATIONS_MIN = 4096
export const PASSWORD_BYTES_MAX = 1024
const SALT_BYTES = 16
/** libuv has four threads, which files and name lookups share: hashing takes half of them. */
export const HASHINGS_RUNNING_MAX = 2
export const HASHINGS_WAITING_MAX = 256

/** A password that nobody may have. The message is fit to be shown to whoever chose it. */
export class PasswordError extends Error {
  readonly reason: 'empty' | 'too-long' | 'prohibited'

  constructor(reason: 'empty' | 'too-long' | 'prohibited', message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'PasswordError'
    this.reason = reason
  }
}

/** Too many passwords are being hashed already. The same call may succeed later. */
export class HashingBusy extends Error {
  constructor() {
    super(`${HASHINGS_WAITING_MAX} passwords are waiting to be hashed`)
    this.name = 'HashingBusy'
  }
}

/**
 * The form of a password that is hashed: SASLprep, RFC 4013, with code points that Unicode 3.2 did not know let through
 * (RFC 4013 §2.5 allows that for queries). Throws PasswordError.
 *
 * Not OpaqueString (RFC 8265 §4): in SCRAM it is the client that hashes, and RFC 5802 §2.2 has it apply SASLprep.
 * Where the two differ (NFKC against NFC), only SASLprep gives the keys that the client computes. Refusing unassigned code
 * points would refuse every emoji that is younger than 2002, to no one's gain: clients pass them on unchanged.
 */
export function preparePassword(password: string): string {
  if (password === '') throw new PasswordError('empty', 'the password is empty')
  if (Buffer.byteLength(password) > PASSWORD_BYTES_MAX) {
    throw new PasswordError('too-long', `the password is longer than ${PASSWORD_BYTES_MAX} bytes`)
  }
  // saslprep() breaks on what maps to nothing (RFC 3454 B.1), so that is found first. (It maps U+200B to a space.)
  if (/^(?:\u00ad|\u034f|\u1806|[\u180b-\u180d]|\u200c|\u200d|\u2060|[\ufe00-\ufe0f]|\ufeff)*$/.test(password)) {
    throw new PasswordError('empty', 'the password consists of characters that are ignored')
  }
  try {
    return saslprep(password, { allowUnassigned: true })
  } catch (cause) {
    throw new PasswordError(
      'prohibited',
      'the password has a control character, or mixes right-to-left and left-to-right letters (RFC 4013 §2.3, §2.4)',
      { cause },
    )
  }
}

/**
 * Makes the keys of a new password, one set per hash, each with its own salt: a PBKDF2 each, off the main thread. Throws PasswordError,
 * HashingBusy, and RangeError on `iterations` below 1 (the configuration holds it to ITERATIONS_MIN).
 */
export async function deriveCredentials(password: string, iterations: number): Promise<Credentials> {
  const prepared = preparePassword(password)
  const scram: Partial<Record<ScramHash, ScramKeys>> = {}
  for (const hash of SCRAM_HASHES) scram[hash] = await deriveKeys(hash, prepared, randomBytes(SALT_BYTES), iterations)
  return { scram }
}

/** The keys of a prepared password under a given salt (RFC 5802 §3). One PBKDF2; throws HashingBusy. */
export async function deriveKeys(hash: ScramHash, prepared: string, salt: Uint8Array, iterations: number): Promise<ScramKeys> {
  const salted = await hashing(() => hi(prepared, salt, iterations, SCRAM_BYTES[hash], NAMES[hash]))
  return {
    salt,
    iterations,
    storedKey: hashOf(hash, hmacOf(hash, salted, 'Client Key')),
    serverKey: hmacOf(hash, salted, 'Server Key'),
  }
}

/**
 * Says whether `password` is the one the keys were made of. One PBKDF2, whatever the answer, unless nobody could
 * have that password; the comparison takes constant time. Throws HashingBusy.
 */
export async function verifyPassword(credentials: Credentials, password: string): Promise<boolean> {
  let prepared: string
  try {
    prepared = preparePassword(password)
  } catch (error) {
    if (error instanceof PasswordError) return false
    throw error
  }
  for (const hash of CHECKED_BY) {
    const keys = credentials.scram[hash]
    if (keys === undefined) continue
    const derived = await deriveKeys(hash, prepared, keys.salt, keys.iterations)
    return timingSafeEqual(derived.storedKey, keys.storedKey)
  }
  return false
}

/**
 * Keys for an account that does not exist: the same salt each time for one `secret` and `account`, so that asking for it does not
 * tell who has an account (RFC 5802 §9). The keys themselves are zeros: nobody is shown them, and whoever asks knows that they are
 * made up and lets nobody in. `secret`: 32 random bytes in hexadecimal, one for the whole deployment and kept. No PBKDF2.
 */
export function fakeKeys(secret: string, account: string, hash: ScramHash, iterations: number): ScramKeys {
  // A prefix for a key is enough: of a SHA-512 that is cut off nothing can be continued.
  const salt = hashOf('SHA-512', `${secret}\0${hash}\0${account}`).subarray(0, SALT_BYTES)
  const zeros = ZEROS.subarray(0, SCRAM_BYTES[hash])
  return { salt, iterations, storedKey: zeros, serverKey: zeros }
}

const ZEROS = Buffer.alloc(64)

export function encodeCredentials(credentials: Credentials): EncodedCredentials {
  const scram: Partial<Record<ScramHash, EncodedKeys>> = {}
  for (const hash of SCRAM_HASHES) {
    const keys = credentials.scram[hash]
    if (keys === undefined) continue
    scram[hash] = {
      salt: base64(keys.salt),
      iterations: keys.iterations,
      storedKey: base64(keys.storedKey),
      serverKey: base64(keys.serverKey),
    }
  }
  return { scram }
}

/**
 * Reads what `encodeCredentials` gave. Keys of a hash that we do not know are passed over: a newer process may have
 * written them. Throws on anything else that is not as it should be, naming the place.
 */
export function decodeCredentials(value: unknown): Credentials {
  const encoded = record(record(value, 'credentials').scram, 'scram')
  const scram: Partial<Record<ScramHash, ScramKeys>> = {}
  for (const hash of SCRAM_HASHES) {
    if (encoded[hash] === undefined) continue
    const keys = record(encoded[hash], `scram.${hash}`)
    const { iterations } = keys
    if (typeof iterations !== 'number' || !Number.isSafeInteger(iterations) || iterations < 1) {
      throw new Error(`credentials: scram.${hash}.iterations is not a positive integer`)
    }
    scram[hash] = {
      salt: bytes(keys.salt, `scram.${hash}.salt`),
      iterations,
      storedKey: bytes(keys.storedKey, `scram.${hash}.storedKey`, SCRAM_BYTES[hash]),
      serverKey: bytes(keys.serverKey, `scram.${hash}.serverKey`, SCRAM_BYTES[hash]),
    }
  }
  return { scram }
}

/** H(), RFC 5802 §2.2. By way of a string it costs half: a buffer of Node's has memory of its own, which is to be made and let go. */
export function hashOf(hash: ScramHash, data: string | Uint8Array): Buffer {
  return Buffer.from(digest(NAMES[hash], data, 'binary'), 'latin1')
}

/** HMAC(), RFC 5802 §2.2, written out as RFC 2104 §2 has it: createHmac() costs four times the two hashes that it makes. */
export function hmacOf(hash: ScramHash, key: Uint8Array, data: string): Buffer {
  const block = BLOCK_BYTES[hash]
  if (key.length > block) key = hashOf(hash, key)
  const inner = Buffer.allocUnsafe(block + Buffer.byteLength(data))
  const outer = Buffer.allocUnsafe(block + SCRAM_BYTES[hash])
  for (let i = 0; i < block; i++) {
    const byte = i < key.length ? key[i]! : 0
    inner[i] = byte ^ 0x36
    outer[i] = byte ^ 0x5c
  }
  inner.write(data, block)
  outer.set(hashOf(hash, inner), block)
  return hashOf(hash, outer)
}

const hi = promisify(pbkdf2)

let running = 0
const waiting: (() => void)[] = []

/** Runs `job` once a slot is free, in order of asking. One count per process, as libuv's threads are. */
async function hashing<T>(job: () => Promise<T>): Promise<T> {
  if (running < HASHINGS_RUNNING_MAX) running += 1
  else if (waiting.length >= HASHINGS_WAITING_MAX) throw new HashingBusy()
  else await new Promise<void>((resolve) => waiting.push(resolve)) // whoever ends hands its slot on
  try {
    return await job()
  } finally {
    const next = waiting.shift()
    if (next === undefined) running -= 1
    else next()
  }
}

function base64(data: Uint8Array): string {
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('base64')
}

function bytes(value: unknown, path: string, length?: number): Uint8Array {
  const decoded = typeof value === 'string' ? Buffer.from(value, 'base64') : undefined
  if (decoded === undefined || decoded.length === 0 || decoded.toString('base64') !== value) {
    throw new Error(`credentials: ${path} is not base64`)
  }
  if (length !== undefined && decoded.length !== length) throw new Error(`credentials: ${path} is not ${length} bytes`)
  return decoded
}

function record(value: unknown, path: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new Error(`credentials: ${path} is not an object`)
  return value as Record<string, unknown>
}

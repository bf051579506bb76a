// How keys are stored in DynamoDB, which takes no empty one, no pk over 2048 octets and no sk over 1024.
//
//   ''            U+0000                          so that it is not empty, and comes first
//   U+0000 …      U+0000 U+0000 …                 so that it comes next
//   a long one    <head> U+10FFFF <digest> <tail>     digest: SHA-256 of what was between head and tail, in base64url
//   any other     as it is
//
// Order is kept, except among long sks that begin with the same 700 octets: of those, the ones that differ in their last 200 only
// (a contact of a thousand letters, then a time) are in order. The whole of a long sk is in an attribute of its own, too.
import { createHash } from 'node:crypto'

const PK_BYTES_MAX = 2048
const SK_BYTES_MAX = 1024
const HEAD_BYTES = 700
const TAIL_BYTES = 200
const FOLD = '\u{10FFFF}'

export function storedPk(pk: string): string {
  return stored(pk, PK_BYTES_MAX)
}

export function storedSk(sk: string): string {
  return stored(sk, SK_BYTES_MAX)
}

/** The sk that is stored as this one, which is not a folded one. */
export function skOf(stored: string): string {
  return stored.charCodeAt(0) === 0 ? stored.slice(1) : stored
}

/** True where `skOf` cannot tell the sk from what `storedSk` made of it. */
export function isFolded(sk: string): boolean {
  return isLong(sk, SK_BYTES_MAX)
}

function stored(key: string, bytesMax: number): string {
  if (isLong(key, bytesMax)) key = folded(key)
  return key === '' || key.charCodeAt(0) === 0 ? `\u0000${key}` : key
}

/** With room for one more octet in front. A unit of UTF-16 has three octets at most. */
function isLong(key: string, bytesMax: number): boolean {
  return 3 * key.length >= bytesMax && Buffer.byteLength(key) >= bytesMax
}

function folded(key: string): string {
  const bytes = Buffer.from(key)
  const head = startOfCharacter(bytes, HEAD_BYTES)
  const tail = startOfCharacter(bytes, bytes.length - TAIL_BYTES)
  const digest = createHash('sha256').update(bytes.subarray(head, tail)).digest('base64url')
  return bytes.toString('utf8', 0, head) + FOLD + digest + bytes.toString('utf8', tail)
}

/** The place of the character that the octet at `at` belongs to. */
function startOfCharacter(bytes: Uint8Array, at: number): number {
  while ((bytes[at]! & 0xc0) === 0x80) at--
  return at
}

// What every driver of Table checks and compares the same way.
import { type Condition, ROW_BYTES_MAX, type Row, TOMBSTONE_S } from './table.ts'

/** Throws RangeError for a key that UTF-8 cannot carry: a lone surrogate would be stored as another character. */
export function checkKey(pk: string, sk: string): void {
  if (!pk.isWellFormed() || !sk.isWellFormed())
    throw new RangeError(`the key ${JSON.stringify([pk, sk])} is not well-formed Unicode`)
}

/**
 * Throws RangeError for a row over 400 kB (key, version and value in octets), or whose `expiresAtS` is no whole number.
 * @param more octets that its version will be longer by
 */
export function checkRow(row: Row, more = 0): void {
  checkKey(row.pk, row.sk)
  const bytesAtMost = row.value.length + 3 * (row.pk.length + row.sk.length + row.version.length) + more
  if (bytesAtMost > ROW_BYTES_MAX && rowBytes(row) + more > ROW_BYTES_MAX) {
    throw new RangeError(
      `the row ${row.pk} ${row.sk} of ${rowBytes(row) + more} bytes is over the ${ROW_BYTES_MAX} a table takes`,
    )
  }
  if (row.version === '') throw new RangeError(`the row ${row.pk} ${row.sk} has no version`)
  if (row.expiresAtS !== undefined && !Number.isSafeInteger(row.expiresAtS)) {
    throw new RangeError(`expiresAtS of the row ${row.pk} ${row.sk} is ${row.expiresAtS}; it must be a whole number of seconds`)
  }
}

/** Throws RangeError for a condition that cannot be met or cannot be told from none. */
export function checkCondition(condition: Condition | undefined): void {
  if (typeof condition === 'object' && condition.olderThan === '') throw new RangeError('nothing is older than no version')
}

/**
 * The `expiresAtS` of a tombstone, where rows and tombstones are kept side by side: minus the second it may go. So it is up
 * for every read, and until then for no sweep that leaves out what is before minus now.
 */
export function tombstoneExpiresAtS(nowS: number): number {
  return -(Math.floor(nowS) + TOMBSTONE_S)
}

/** Octets of a row as they are counted against ROW_BYTES_MAX. */
export function rowBytes(row: Row): number {
  return Buffer.byteLength(row.pk) + Buffer.byteLength(row.sk) + Buffer.byteLength(row.version) + row.value.length
}

/**
 * Compares well-formed strings as their UTF-8 bytes would compare, which is by code point. It differs from `<` in one place:
 * UTF-16 puts what lies beyond U+FFFF (surrogates, D800–DFFF) before U+E000–U+FFFF.
 */
export function compareUtf8(a: string, b: string): number {
  const shared = Math.min(a.length, b.length)
  for (let at = 0; at < shared; at++) {
    const [left, right] = [a.charCodeAt(at), b.charCodeAt(at)]
    if (left !== right) return codePointRank(left) - codePointRank(right)
  }
  return a.length - b.length
}

const codePointRank = (unit: number) => (unit < 0xd800 ? unit : unit < 0xe000 ? unit + 0x2000 : unit - 0x800)

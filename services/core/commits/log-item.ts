// The owner's log as it is stored: items in order of their numbers, and the seal at its end.
//
//   pk = l#<process>#<role>   sk = <number, base 36, 10 digits>   one flush, or a part of one; or the seal
//
//   item   version u8, part u16, parts u16, bytes of the flush…
//   seal   {"seal":true}
//   flush  { flags u8 (1: delete, 2: free, 4: expires), pk text, sk text, version text, expiresAtS f64?, bytes: value? }…
//
// A flush is as large as what was staged while the one before was written; what is over ITEM_BYTES is cut into parts, which
// count only together. Its rows have the versions they will have in the table, so whoever applies them does the same:
//
//   ~<epoch, base 36, 8 digits><number, 8 digits><position in the flush, 4 digits> <the version it was staged with>
//
// The epoch is that of the role's ownership, and has risen whenever a partition has got another owner: so versions rise for
// each row, from write to write and from owner to owner. No version that is made elsewhere begins with '~', or is as great.
import type { Row } from '#table/table.ts'
import { randomId } from '#xmpp/id.ts'
import type { RoleName } from '../ownership/ownership.ts'
import { Reader, Writer } from '../wire.ts'
import type { Write } from './commit.ts'

/** Of a flush in one item: a row has 400 kB, and its key some of them. */
export const ITEM_BYTES = 350_000
/** What a process writes, and whoever recovers its log can read. */
const VERSION = 1
const SEAL = '{"seal":true}'
const NUMBER_DIGITS = 10
const EPOCH_DIGITS = 8
const SHORT_NUMBER_DIGITS = 8
const POSITION_DIGITS = 4
/** What a version becomes longer by. */
export const STAMP_BYTES = 1 + EPOCH_DIGITS + SHORT_NUMBER_DIGITS + POSITION_DIGITS + 1
/** Behind every position. */
const LAST_POSITION = 'z'.repeat(POSITION_DIGITS)

const DELETE = 1
const FREE = 2
const EXPIRES = 4

/** A write whose version is what decides. */
export type RankedWrite =
  | { readonly put: Row; readonly order: 'own' | 'free' }
  | Extract<Write, { readonly order: 'own'; readonly delete: unknown }>
  | { readonly delete: { readonly pk: string; readonly sk: string }; readonly order: 'free' }

/** Part `part` of `parts` of a flush, or the end. */
export type LogItem = 'seal' | { readonly part: number; readonly parts: number; readonly bytes: Buffer }

export function logKey(process: string, role: RoleName): string {
  return `l#${process}#${role}`
}

export function itemKey(number: number): string {
  return digits(number, NUMBER_DIGITS)
}

/** A version of its own, for a row that is written beside the log: behind all of item `number`, before the next. */
export function versionBehind(epoch: number, number: number): string {
  return `${stamp(epoch, number)}${LAST_POSITION} ${randomId()}`
}

/** The writes of the flush that begins with item `number`, with the versions by which they are ordered. */
export function rank(writes: readonly Write[], epoch: number, number: number): RankedWrite[] {
  const flush = stamp(epoch, number)
  return writes.map((write, i): RankedWrite => {
    if (write.order === 'own' || write.order === 'free') return write as RankedWrite
    const place = flush + digits(i, POSITION_DIGITS)
    if ('delete' in write) return { delete: write.delete, order: 'own', version: place }
    const { pk, sk, version, value, expiresAtS } = write.put
    const put: Row = { pk, sk, version: `${place} ${version}`, value, ...(expiresAtS !== undefined && { expiresAtS }) }
    return { put, order: 'own' }
  })
}

function stamp(epoch: number, number: number): string {
  return `~${digits(epoch, EPOCH_DIGITS)}${digits(number, SHORT_NUMBER_DIGITS)}`
}

/** The values of the items that a flush becomes. */
export function encodeFlush(writes: readonly RankedWrite[]): Buffer[] {
  const out = new Writer(16 * 1024)
  for (const write of writes) writeRanked(out, write)
  const flush = out.take()
  const parts = Math.max(1, Math.ceil(flush.length / ITEM_BYTES))
  return Array.from({ length: parts }, (_, part) => {
    const head = Buffer.from([VERSION, part, part >>> 8, parts, parts >>> 8])
    return Buffer.concat([head, flush.subarray(part * ITEM_BYTES, (part + 1) * ITEM_BYTES)])
  })
}

function writeRanked(out: Writer, write: RankedWrite): void {
  const free = write.order === 'free' ? FREE : 0
  if ('delete' in write) {
    out.u8(DELETE | free)
    out.text(write.delete.pk)
    out.text(write.delete.sk)
    out.text(write.order === 'own' ? write.version : '')
    return
  }
  const { pk, sk, version, value, expiresAtS } = write.put
  out.u8(free | (expiresAtS === undefined ? 0 : EXPIRES))
  out.text(pk)
  out.text(sk)
  out.text(version)
  if (expiresAtS !== undefined) out.f64(expiresAtS)
  out.bytes(value)
}

/** Who wrote this was another version of the server, and nobody here can tell what he acknowledged. */
export class UnknownLogVersion extends Error {
  override name = 'UnknownLogVersion'
  readonly found: number

  constructor(found: number) {
    super(`an item of a log is of version ${found}; this process reads ${VERSION}`)
    this.found = found
  }

  /** For the log. */
  get facts(): object {
    const help = `upgrade this process to the version that wrote it, or newer: until then it takes nothing from that one`
    return { found: this.found, reads: VERSION, help }
  }
}

/** Throws RangeError on what is no item of ours, UnknownLogVersion on one of another version. */
export function decodeItem(value: Uint8Array): LogItem {
  const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength)
  if (bytes.toString('latin1') === SEAL) return 'seal'
  const reader = new Reader(bytes)
  const version = reader.u8()
  if (version !== VERSION) throw new UnknownLogVersion(version)
  return { part: reader.u16(), parts: reader.u16(), bytes: bytes.subarray(5) }
}

/** The writes of a flush, of all of its parts. */
export function decodeFlush(parts: readonly Buffer[]): RankedWrite[] {
  const reader = new Reader(parts.length === 1 ? parts[0]! : Buffer.concat(parts))
  const writes: RankedWrite[] = []
  while (!reader.done) writes.push(readRanked(reader))
  return writes
}

function readRanked(reader: Reader): RankedWrite {
  const flags = reader.u8()
  const [pk, sk, version] = [reader.text(), reader.text(), reader.text()]
  if (flags & DELETE) return flags & FREE ? { delete: { pk, sk }, order: 'free' } : { delete: { pk, sk }, order: 'own', version }
  const expiresAtS = flags & EXPIRES ? reader.f64() : undefined
  const put = { pk, sk, version, value: reader.bytes(), ...(expiresAtS !== undefined && { expiresAtS }) }
  return { put, order: flags & FREE ? 'free' : 'own' }
}

/** The seal, to be put if there is nothing at that number. */
export function sealRow(process: string, role: RoleName, number: number): Row {
  return { pk: logKey(process, role), sk: itemKey(number), version: randomId(), value: Buffer.from(SEAL, 'latin1') }
}

function digits(value: number, width: number): string {
  return value.toString(36).padStart(width, '0')
}

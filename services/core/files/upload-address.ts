// Addresses of uploaded files (XEP-0363): all that has to be known of a file is in its address, and sealed there.
//
//   <base>/upload/<id>/<name>                                where it is read
//   <base>/upload/<id>/<name>?size=…&until=…&mac=…           where it is put, once, with that many bytes, before that second
//
//   id = base64url( day, 2 bytes │ type, 1 │ random, 16 │ seal, 9 )
//
// The seal is an HMAC over what is before it and the name, with a secret that all processes share. So any of them can tell
// an address that was given out from one that was not before it looks at a disk, and nothing is written of a file anywhere but
// its bytes: the last day it is kept, and the type it is served as, are in the id. The type is always one of ours (`TYPES`).
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'

export const UPLOAD_PATH = '/upload/'
export const DAY_MS = 86_400_000

const DAY_BYTES = 2
const RANDOM_AT = DAY_BYTES + 1
const SEAL_AT = RANDOM_AT + 16
const ID_BYTES = SEAL_AT + 9
/** Of a name, as UTF-8: what file systems of clients take. */
const NAME_BYTES_MAX = 255

/**
 * What files are served as: pictures, sounds, films and plain text, which a browser may show; anything else is to be saved.
 * Addresses name them by their place: add behind, take none out.
 */
const TYPES: readonly (readonly [type: string, shown: boolean])[] = [
  ['application/octet-stream', false],
  ['text/plain', true],
  ...['png', 'jpeg', 'gif', 'webp', 'avif', 'apng', 'bmp', 'heic', 'heif', 'jxl'].map((name) => [`image/${name}`, true] as const),
  ...['mp4', 'webm', 'ogg', 'quicktime', 'mpeg', '3gpp', 'x-matroska', 'x-m4v'].map((name) => [`video/${name}`, true] as const),
  ...['mpeg', 'mp4', 'ogg', 'opus', 'webm', 'aac', 'flac', 'wav', 'x-wav', 'x-m4a', 'amr', '3gpp'].map(
    (name) => [`audio/${name}`, true] as const,
  ),
  ['application/pdf', false],
  ['application/zip', false],
]
export const UNKNOWN_TYPE = 'application/octet-stream'
const PLACES = new Map(TYPES.map(([type], place) => [type, place]))

/** A file, as its address tells. */
export interface UploadedFile {
  readonly id: string
  readonly name: string
  /** Since 1970; the last on which it is kept. */
  readonly day: number
  /** Where back ends keep it: `20782/0f3c…`, of digits, a slash and hexadecimal digits. */
  readonly key: string
  /** As in Content-Type. */
  readonly type: string
  /** A browser may show it in place; else it saves it. */
  readonly shown: boolean
}

/** What may be put there, and until when. */
export interface Slot {
  readonly size: number
  readonly untilS: number
}

/** Whether it can be the name of a file: text without control characters and separators, which is no step of a path. */
export function isFileName(name: string): boolean {
  if (name === '' || name === '.' || name === '..' || !name.isWellFormed()) return false
  return (
    !/[\u0000-\u001f\u007f-\u009f/\\\u2028\u2029\u202a-\u202e\u2066-\u2069]/.test(name) &&
    Buffer.byteLength(name) <= NAME_BYTES_MAX
  )
}

/** For a file that is said to be of this type; of any other than ours it becomes a series of bytes. */
export function makeFile(secret: Buffer, name: string, contentType: string, day: number): UploadedFile {
  const bytes = Buffer.alloc(ID_BYTES)
  bytes.writeUInt16BE(day, 0)
  bytes[DAY_BYTES] = placeOf(contentType)
  randomBytes(SEAL_AT - RANDOM_AT).copy(bytes, RANDOM_AT)
  sealOf(secret, bytes, name).copy(bytes, SEAL_AT)
  return fileOf(bytes, name)!
}

/** Undefined for what was not given out with this secret. */
export function parseFile(secret: Buffer, id: string, name: string): UploadedFile | undefined {
  const bytes = Buffer.from(id, 'base64url')
  if (bytes.length !== ID_BYTES || bytes.toString('base64url') !== id) return undefined
  return timingSafeEqual(sealOf(secret, bytes, name), bytes.subarray(SEAL_AT)) ? fileOf(bytes, name) : undefined
}

function fileOf(bytes: Buffer, name: string): UploadedFile | undefined {
  const known = TYPES[bytes[DAY_BYTES]!]
  if (known === undefined) return undefined // of a later version
  const [type, shown] = known
  const day = bytes.readUInt16BE(0)
  const key = `${day}/${bytes.toString('hex', RANDOM_AT, SEAL_AT)}`
  return { id: bytes.toString('base64url'), name, day, key, type: written(type), shown }
}

/** `/upload/<id>/<name>` */
export function pathOf({ id, name }: UploadedFile): string {
  return `${UPLOAD_PATH}${id}/${encoded(name)}`
}

/** RFC 3986 §2.3: also what has a meaning in a URL only by custom, and ends it where clients look for links. */
function encoded(name: string): string {
  return encodeURIComponent(name).replace(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`)
}

/** RFC 6266 §4.1, the name as in RFC 8187. */
export function dispositionOf({ name, shown }: UploadedFile): string {
  return `${shown ? 'inline' : 'attachment'}; filename*=UTF-8''${encoded(name)}`
}

/** Behind the path, where the file is put. */
export function slotQuery(secret: Buffer, file: UploadedFile, slot: Slot): string {
  return `?size=${slot.size}&until=${slot.untilS}&mac=${slotMac(secret, file, slot).toString('base64url')}`
}

/** Undefined where it is not what `slotQuery` has made for this file. Does not look at the time. */
export function parseSlot(secret: Buffer, file: UploadedFile, query: URLSearchParams): Slot | undefined {
  const [size, untilS] = [numberIn(query, 'size'), numberIn(query, 'until')]
  if (size === undefined || untilS === undefined) return undefined
  const slot = { size, untilS }
  const given = Buffer.from(query.get('mac') ?? '', 'base64url')
  const right = slotMac(secret, file, slot)
  return given.length === right.length && timingSafeEqual(given, right) ? slot : undefined
}

function numberIn(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name) ?? ''
  return /^\d{1,15}$/.test(text) ? Number(text) : undefined
}

function sealOf(secret: Buffer, bytes: Buffer, name: string): Buffer {
  const hmac = createHmac('sha256', secret).update('file\0').update(bytes.subarray(0, SEAL_AT)).update(name, 'utf8')
  return hmac.digest().subarray(0, ID_BYTES - SEAL_AT)
}

function slotMac(secret: Buffer, { id }: UploadedFile, { size, untilS }: Slot): Buffer {
  return createHmac('sha256', secret).update(`slot\0${id} ${size} ${untilS}`, 'utf8').digest()
}

/** What a file is served as that is said to be of this type. */
export function servedType(contentType: string): string {
  return written(TYPES[placeOf(contentType)]![0])
}

function placeOf(contentType: string): number {
  return PLACES.get(contentType.split(';', 1)[0]!.trim().toLowerCase()) ?? 0
}

function written(type: string): string {
  return type === 'text/plain' ? `${type}; charset=utf-8` : type
}

// How values become bytes, on the bus and in a journal: a growing writer and a reader. core/envelope.ts says what is written.
//
// Integers are little-endian; a string is its length in bytes and UTF-8. The length is a u16: 0xffff for undefined, and
// 0xfffe where the length follows as a u32 (an id or type may be as long as a stanza).
import { type Jid, jidOfBytes, NO_JID } from '#xmpp/jid.ts'
import { freshString, sharedString } from '#xmpp/strings.ts'
import { madeBuffer } from './garbage.ts'

const NONE = 0xffff
const LONG = 0xfffe
/** Up to here a text is written byte by byte: calling into Node costs more. */
const SHORT_MAX = 64

/** Appends values to one buffer that is used again after `take`. */
export class Writer {
  #buffer: Buffer
  #at = 0

  constructor(size = 4096) {
    this.#buffer = Buffer.allocUnsafeSlow(size)
  }

  get length(): number {
    return this.#at
  }

  u8(value: number): void {
    this.#room(1)
    this.#buffer[this.#at++] = value
  }

  u16(value: number): void {
    this.#room(2)
    const buffer = this.#buffer
    buffer[this.#at++] = value
    buffer[this.#at++] = value >>> 8
  }

  u32(value: number): void {
    this.#room(4)
    this.#put32(this.#at, value)
    this.#at += 4
  }

  /** An integer up to 2^53. */
  f64(value: number): void {
    this.#room(8)
    this.#buffer.writeDoubleLE(value, this.#at)
    this.#at += 8
  }

  text(value: string | undefined): void {
    if (value === undefined) return this.u16(NONE)
    const { length } = value
    if (length > SHORT_MAX || !this.#shortText(value)) this.#anyText(value)
  }

  /** False where it is not ASCII, and nothing is written. */
  #shortText(value: string): boolean {
    const { length } = value
    this.#room(2 + length)
    const buffer = this.#buffer
    const at = this.#at + 2
    for (let i = 0; i < length; i++) {
      const unit = value.charCodeAt(i)
      if (unit >= 0x80) return false
      buffer[at + i] = unit
    }
    this.u16(length)
    this.#at = at + length
    return true
  }

  #anyText(value: string): void {
    const bound = value.length * 3
    if (bound >= LONG) return this.#longText(value)
    this.#room(2 + bound)
    const at = this.#at + 2
    const written = this.#buffer.write(value, at)
    this.u16(written)
    this.#at = at + written
  }

  #longText(value: string): void {
    this.u16(LONG)
    this.bytes(Buffer.from(value, 'utf8'))
  }

  /** Length (u32) and bytes. */
  bytes(value: Uint8Array): void {
    this.u32(value.length)
    this.#room(value.length)
    this.#buffer.set(value, this.#at)
    this.#at += value.length
  }

  /** Leaves room for a u32 and says where, for `patch32`. */
  reserve32(): number {
    this.u32(0)
    return this.#at - 4
  }

  patch32(at: number, value: number): void {
    this.#put32(at, value)
  }

  #put32(at: number, value: number): void {
    const buffer = this.#buffer
    buffer[at] = value
    buffer[at + 1] = value >>> 8
    buffer[at + 2] = value >>> 16
    buffer[at + 3] = value >>> 24
  }

  /** Takes back what was written from there on. */
  cut(at: number): void {
    this.#at = at
  }

  /** What was written, as a buffer of its own; the writer starts again. */
  take(): Buffer {
    const out = Buffer.allocUnsafe(this.#at)
    this.#buffer.copy(out, 0, 0, this.#at)
    madeBuffer(out)
    this.#at = 0
    if (this.#buffer.length > KEPT_BYTES_MAX) this.#buffer = Buffer.allocUnsafeSlow(4096)
    return out
  }

  /** Gives the memory back, where nothing is being written. */
  rest(): void {
    if (this.#at === 0) this.#buffer = NOTHING
  }

  #room(bytes: number): void {
    const wanted = this.#at + bytes
    if (wanted <= this.#buffer.length) return
    const grown = Buffer.allocUnsafeSlow(Math.max(wanted, this.#buffer.length * 2, SIZE_MIN))
    this.#buffer.copy(grown, 0, 0, this.#at)
    this.#buffer = grown
  }
}

const NOTHING = Buffer.alloc(0)
const SIZE_MIN = 1024
/** A writer that once held a large stanza gives the memory back. */
const KEPT_BYTES_MAX = 1024 * 1024

/** Reads what Writer wrote. Reading past the end throws RangeError. */
export class Reader {
  readonly #buffer: Buffer
  #at: number

  constructor(bytes: Uint8Array, at = 0) {
    this.#buffer = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#at = at
  }

  get done(): boolean {
    return this.#at >= this.#buffer.length
  }

  u8(): number {
    const at = this.#at
    this.#at = this.#end(1)
    return this.#buffer[at]!
  }

  u16(): number {
    const at = this.#at
    this.#at = this.#end(2)
    return this.#buffer[at]! | (this.#buffer[at + 1]! << 8)
  }

  u32(): number {
    const at = this.#at
    const buffer = this.#buffer
    this.#at = this.#end(4)
    return (buffer[at]! | (buffer[at + 1]! << 8) | (buffer[at + 2]! << 16) | (buffer[at + 3]! << 24)) >>> 0
  }

  f64(): number {
    const value = this.#buffer.readDoubleLE(this.#at)
    this.#at += 8
    return value
  }

  text(): string {
    return this.optionalText() ?? ''
  }

  optionalText(): string | undefined {
    const length = this.#textLength()
    if (length === undefined) return undefined
    const end = this.#end(length)
    const value = freshString(this.#buffer, this.#at, end)
    this.#at = end
    return value
  }

  /** As `text`, for what is likely to have been read before: names, namespaces, accounts. */
  sharedText(): string {
    const end = this.#end(this.#textLength() ?? 0)
    const value = sharedString(this.#buffer, this.#at, end)
    this.#at = end
    return value
  }

  /** An address, prepared as all of ours are; NO_JID for ''. */
  optionalJid(): Jid | undefined {
    const length = this.#textLength()
    if (length === undefined) return undefined
    const start = this.#at
    this.#at = this.#end(length)
    try {
      return jidOfBytes(this.#buffer, start, this.#at)
    } catch (cause) {
      throw new RangeError('an address that is none', { cause })
    }
  }

  jid(): Jid {
    return this.optionalJid() ?? NO_JID
  }

  /** Undefined for no text. */
  #textLength(): number | undefined {
    const short = this.u16()
    return short === NONE ? undefined : short === LONG ? this.u32() : short
  }

  /** A view, not a copy. */
  bytes(): Buffer {
    const end = this.#end(this.u32())
    const value = this.#buffer.subarray(this.#at, end)
    this.#at = end
    return value
  }

  #end(length: number): number {
    const end = this.#at + length
    if (end > this.#buffer.length) throw new RangeError('an envelope ends too early')
    return end
  }
}

// How values become bytes, on the bus and in a journal: a growing writer and a reader. core/envelope.ts says what is written.
//
// Integers are little-endian; a string is its length in bytes and UTF-8. The length is a u16: 0xffff for undefined, and
// 0xfffe where the length follows as a u32 (an id or type may be as long as a stanza).

const NONE = 0xffff
const LONG = 0xfffe

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
    this.#buffer.writeUInt16LE(value, this.#at)
    this.#at += 2
  }

  u32(value: number): void {
    this.#room(4)
    this.#buffer.writeUInt32LE(value, this.#at)
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
    const bound = value.length * 3
    if (bound >= LONG) return this.#longText(value)
    this.#room(2 + bound)
    const written = this.#buffer.write(value, this.#at + 2)
    this.#buffer.writeUInt16LE(written, this.#at)
    this.#at += 2 + written
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
    this.#buffer.writeUInt32LE(value, at)
  }

  /** What was written, as a buffer of its own; the writer starts again. */
  take(): Buffer {
    const out = Buffer.allocUnsafe(this.#at)
    this.#buffer.copy(out, 0, 0, this.#at)
    this.#at = 0
    if (this.#buffer.length > KEPT_BYTES_MAX) this.#buffer = Buffer.allocUnsafeSlow(4096)
    return out
  }

  #room(bytes: number): void {
    const wanted = this.#at + bytes
    if (wanted <= this.#buffer.length) return
    const grown = Buffer.allocUnsafeSlow(Math.max(wanted, this.#buffer.length * 2))
    this.#buffer.copy(grown, 0, 0, this.#at)
    this.#buffer = grown
  }
}

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
    return this.#buffer.readUInt8(this.#at++)
  }

  u16(): number {
    const value = this.#buffer.readUInt16LE(this.#at)
    this.#at += 2
    return value
  }

  u32(): number {
    const value = this.#buffer.readUInt32LE(this.#at)
    this.#at += 4
    return value
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
    const short = this.u16()
    if (short === NONE) return undefined
    if (short === 0) return ''
    const length = short === LONG ? this.u32() : short
    const end = this.#end(length)
    const value = this.#buffer.toString('utf8', this.#at, end)
    this.#at = end
    return value
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

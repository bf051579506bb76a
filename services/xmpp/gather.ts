// Bytes that come in pieces, gathered in one buffer that grows fourfold (making one costs more than filling it).

export class Gather {
  bytes: Buffer = NOTHING
  length = 0

  append(source: Uint8Array, start: number, end: number): void {
    const size = end - start
    if (size === 0) return
    if (this.length + size > this.bytes.length) {
      const grown = Buffer.allocUnsafeSlow(Math.max(BYTES_MIN, 4 * this.bytes.length, this.length + size))
      grown.set(this.bytes.subarray(0, this.length))
      this.bytes = grown
    }
    if (size === 1) this.bytes[this.length] = source[start]!
    else this.bytes.set(source.subarray(start, end), this.length)
    this.length += size
  }

  /** Forgets what it holds. A big buffer is let go: there is one of these per connection. */
  clear(): void {
    this.length = 0
    if (this.bytes.length > BYTES_KEPT) this.bytes = NOTHING
  }

  /** Hands over what it holds. */
  take(): Buffer {
    const taken = this.bytes.subarray(0, this.length)
    this.bytes = NOTHING
    this.length = 0
    return taken
  }
}

const NOTHING = Buffer.alloc(0)
const BYTES_MIN = 2048
const BYTES_KEPT = 4096

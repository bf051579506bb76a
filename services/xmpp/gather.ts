// Bytes that come in pieces, gathered in one buffer that grows fourfold (making one costs more than filling it).
//
// What has become large has the size of a spare: it is used again by whoever next gathers as much. Made anew for each large
// stanza, such buffers are most of what the garbage collector stops the process for.

export class Gather {
  bytes: Buffer = NOTHING
  length = 0

  append(source: Uint8Array, start: number, end: number): void {
    const size = end - start
    if (size === 0) return
    if (this.length + size > this.bytes.length) {
      const grown = bufferOf(Math.max(BYTES_MIN, 4 * this.bytes.length, this.length + size))
      grown.set(this.bytes.subarray(0, this.length))
      this.bytes = grown
    }
    if (size === 1) this.bytes[this.length] = source[start]!
    else this.bytes.set(source.subarray(start, end), this.length)
    this.length += size
  }

  /** Forgets what it holds, which may be written over from now on. A big buffer is let go, for others. */
  clear(): void {
    this.length = 0
    if (this.bytes.length <= BYTES_KEPT) return
    if (this.bytes.length === SPARE_BYTES && spares.length < SPARES_MAX) spares.push(this.bytes)
    this.bytes = NOTHING
  }

  /** Hands over what it holds. */
  take(): Buffer {
    const taken = this.bytes.subarray(0, this.length)
    this.bytes = NOTHING
    this.length = 0
    return taken
  }
}

/** Of so many bytes, or of a spare's where that is not much more. */
function bufferOf(bytes: number): Buffer {
  if (bytes <= SPARE_BYTES / 4 || bytes > SPARE_BYTES) return Buffer.allocUnsafeSlow(bytes)
  return spares.pop() ?? Buffer.allocUnsafeSlow(SPARE_BYTES)
}

const NOTHING = Buffer.alloc(0)
const BYTES_MIN = 2048
const BYTES_KEPT = 4096
const SPARE_BYTES = 256 * 1024
/** 4 MiB in all. */
const SPARES_MAX = 16
const spares: Buffer[] = []

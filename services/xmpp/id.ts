// Ids that nobody can guess. Entropy is drawn in blocks, so that an id costs no system call.
import { randomFillSync } from 'node:crypto'

const BLOCK_BYTES = 4096
/** No id needs more; a block holds many of the longest. */
const ID_BYTES_MAX = 256

const block = Buffer.alloc(BLOCK_BYTES)
let used = BLOCK_BYTES

/** A random id of `bytes` bytes (1 to 256) in the URL-safe alphabet of base64, RFC 4648 §5: 12 bytes are 96 bits and 16 characters. */
export function randomId(bytes = 12): string {
  const from = draw(bytes)
  return block.toString('base64url', from, from + bytes)
}

/** A random id of `length` (1 to 256) letters a-z and digits, 5.17 bits each: 12 are 62 bits. For subjects of the bus and names of processes. */
export function lowercaseId(length = 12): string {
  requireCount(length)
  let id = ''
  while (id.length < length) {
    const byte = block[draw(1)]!
    if (byte < UNBIASED_BELOW) id += ALPHABET[byte % ALPHABET.length]
  }
  return id
}

/** The offset of `bytes` fresh bytes in the block, which are never given again. */
function draw(bytes: number): number {
  requireCount(bytes)
  if (used + bytes > BLOCK_BYTES) {
    randomFillSync(block)
    used = 0
  }
  used += bytes
  return used - bytes
}

function requireCount(count: number): void {
  if (!Number.isInteger(count) || count < 1 || count > ID_BYTES_MAX)
    throw new RangeError(`${count} is not in 1 to ${ID_BYTES_MAX}`)
}

const ALPHABET = 'abcdefghijklmnopqrstuvwxyz0123456789'
/** Bytes from here on would make the first letters likelier. */
const UNBIASED_BELOW = 256 - (256 % ALPHABET.length)

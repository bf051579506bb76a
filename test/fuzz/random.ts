// Random choices that a seed repeats, and what to do to bytes that were right.

/** A small, fast generator (sfc32), good enough to choose by. */
export class Random {
  #a: number
  #b: number
  #c: number
  #counter = 1

  /** The inputs of one run are numbered: each has a generator of its own, so that it can be made again without the others. */
  constructor(seed: number, input: number) {
    this.#a = seed | 0
    this.#b = input | 0
    this.#c = 0x9e3779b9
    for (let i = 0; i < 12; i++) this.next()
  }

  /** 0 to 2^32 - 1. */
  next(): number {
    const t = (((this.#a + this.#b) | 0) + this.#counter) | 0
    this.#counter = (this.#counter + 1) | 0
    this.#a = this.#b ^ (this.#b >>> 9)
    this.#b = (this.#c + (this.#c << 3)) | 0
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + t
    return t >>> 0
  }

  /** 0 to `below` - 1. */
  int(below: number): number {
    return this.next() % below
  }

  chance(oneIn: number): boolean {
    return this.int(oneIn) === 0
  }

  pick<T>(list: readonly T[]): T {
    return list[this.int(list.length)]!
  }

  bytes(length: number): Buffer {
    const bytes = Buffer.allocUnsafe(length)
    for (let i = 0; i < length; i++) bytes[i] = this.next()
    return bytes
  }

  /** Characters of any plane, most of them plain. */
  text(lengthMax: number): string {
    let text = ''
    for (let left = this.int(lengthMax + 1); left > 0; left--)
      text += this.chance(3) ? this.pick(NASTY_TEXT) : this.pick(PLAIN_TEXT)
    return text
  }

  /** Changed in one to four places: bytes flipped, put in, taken out, said twice, cut off or taken from another. */
  mutate(source: Uint8Array, others: readonly Uint8Array[], tokens: readonly Uint8Array[]): Buffer {
    let bytes: Buffer = Buffer.from(source)
    for (let left = 1 + this.int(4); left > 0; left--) bytes = this.#mutateOnce(bytes, others, tokens)
    return bytes
  }

  #mutateOnce(bytes: Buffer, others: readonly Uint8Array[], tokens: readonly Uint8Array[]): Buffer {
    const at = this.int(bytes.length + 1)
    const end = Math.min(bytes.length, at + (this.chance(4) ? this.int(200) : this.int(8)))
    const put = (middle: Uint8Array, behind = at): Buffer =>
      Buffer.concat([bytes.subarray(0, at), middle, bytes.subarray(behind)])
    switch (this.int(8)) {
      case 0:
        if (at < bytes.length) bytes[at]! ^= 1 << this.int(8)
        return bytes
      case 1:
        return put(this.pick(tokens))
      case 2:
        return put(this.pick(tokens), end)
      case 3:
        return put(NOTHING, end)
      case 4:
        return put(Buffer.concat(Array<Buffer>(1 + this.int(this.chance(20) ? 500 : 3)).fill(bytes.subarray(at, end))))
      case 5:
        return this.chance(4) ? bytes.subarray(0, at) : bytes
      case 6: {
        const other = this.pick(others)
        const from = this.int(other.length + 1)
        return put(other.subarray(from, from + this.int(60)), end)
      }
      default:
        return put(this.bytes(1 + this.int(4)))
    }
  }

  /** In pieces, cut anywhere; now and then byte by byte. */
  cut(bytes: Buffer): Buffer[] {
    const pieces: Buffer[] = []
    const longest = this.chance(10) ? 1 : 1 + this.int(this.chance(3) ? 20 : 400)
    for (let at = 0; at < bytes.length; ) {
      const end = at + 1 + this.int(longest)
      pieces.push(Buffer.from(bytes.subarray(at, end)))
      at = end
    }
    return pieces
  }
}

const NOTHING = Buffer.alloc(0)
const PLAIN_TEXT = [...'abcdefghijklmnopqrstuvwxyz0123456789ABC -._@/']
const NASTY_TEXT = [
  ...'@/.:-_%\\"\'<>&=,;+ \t\r\n\0\x1b\x7f',
  ...[
    '\u0085',
    '\u00a0',
    '\u00ad',
    '\u00df',
    '\u0130',
    '\u0131',
    '\u0301',
    '\u0430',
    '\u05d0',
    '\u0627',
    '\u0660',
    '\u06f0',
    '\u200b',
  ],
  ...[
    '\u200d',
    '\u200c',
    '\u202e',
    '\u2028',
    '\u2126',
    '\u212a',
    '\u3002',
    '\u30fb',
    '\uac00',
    '\ufb01',
    '\ufeff',
    '\ufffd',
    '\ufffe',
  ],
  ...[
    '\uff0e',
    '\uff21',
    '\uff41',
    '\u{1f426}',
    '\u{10000}',
    '\u{10ffff}',
    '\ud800',
    '\udfff',
    'xn--',
    'xn--a',
    '::1',
    '[::1]',
    '%00',
  ],
]

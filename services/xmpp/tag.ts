// One tag, read where it lies: nothing is copied and no object is made.
//
// A start tag leaves what it found in `tag` and in the columns of its attributes, all as positions in the bytes. They
// hold until the next tag is read, by whatever scanner; nothing that reads tags hands control away in between.
import {
  AMP,
  APOS,
  COLON,
  CR,
  characterOf,
  codePointAt,
  EQUALS,
  GT,
  HASH,
  isNameCharacter,
  isNameStart,
  isSpace,
  LF,
  LT,
  malformed,
  NAME,
  overLimit,
  QUOT,
  referenceEnd,
  SLASH,
  sizeOf,
  TAB,
  VALUE,
} from './chars.ts'
import { freshString, sharedString } from './strings.ts'

/** What is legal but unusual, so that receivers may read it in more than one way. */
export const NUMERIC = 1 // a character reference other than the five named entities
export const CARRIAGE_RETURN = 2 // XML 1.0 §2.11
export const VALUE_SPACE = 4 // a tab or newline in an attribute's value, XML 1.0 §3.3.3
export const CDATA = 8

/** The attributes one element may have, whatever the limits say. */
export const ATTRIBUTES_MAX = 1024

/**
 * The last start tag. `colon` is -1 where the name has no prefix; `bare` where neither it nor an attribute has one, nor
 * begins with an x, so that it says nothing of namespaces; `unusual` joins the flags above.
 */
export const tag = { nameStart: 0, nameEnd: 0, colon: -1, selfClosing: false, attributes: 0, bare: true, unusual: 0 }

/** Its attributes: where name, colon (or -1) and value are, and 1 where the value must be decoded. */
export const nameStarts = new Int32Array(ATTRIBUTES_MAX)
export const nameEnds = new Int32Array(ATTRIBUTES_MAX)
export const colons = new Int32Array(ATTRIBUTES_MAX)
export const valueStarts = new Int32Array(ATTRIBUTES_MAX)
export const valueEnds = new Int32Array(ATTRIBUTES_MAX)
const coded = new Uint8Array(ATTRIBUTES_MAX)

/** Reads the start tag whose name begins at `at`. Returns the position after its `>`, -1 where the tag is cut off at `end`. */
export function readStartTag(bytes: Uint8Array, at: number, end: number, attributesMax: number): number {
  let i = nameEnd(bytes, at, end)
  if (i < 0) return -1
  tag.nameStart = at
  tag.nameEnd = i
  tag.colon = colonAt
  let count = 0
  bare = colonAt < 0
  unusual = 0
  for (;;) {
    const gap = i
    i = spaceEnd(bytes, i, end)
    if (i >= end) return -1
    const byte = bytes[i]!
    if (byte === GT || byte === SLASH) {
      if (byte === SLASH) {
        if (++i >= end) return -1
        if (bytes[i] !== GT) throw malformed('a stray / in a tag')
      }
      tag.selfClosing = byte === SLASH
      tag.attributes = count
      tag.bare = bare
      tag.unusual = unusual
      if (count > 1) refuseTwice(bytes, count)
      return i + 1
    }
    if (i === gap) throw malformed('no space before an attribute')
    if (count >= attributesMax || count >= ATTRIBUTES_MAX) throw overLimit(`an element with over ${count} attributes`)
    i = readAttribute(bytes, i, end, count++)
    if (i < 0) return -1
  }
}

/** Reads `name='value'`. Returns the position after it, -1 where it is cut off. */
function readAttribute(bytes: Uint8Array, at: number, end: number, place: number): number {
  let i = nameEnd(bytes, at, end)
  if (i < 0) return -1
  nameStarts[place] = at
  nameEnds[place] = i
  colons[place] = colonAt
  if (colonAt >= 0 || bytes[at] === 0x78) bare = false
  i = spaceEnd(bytes, i, end)
  if (i >= end) return -1
  if (bytes[i] !== EQUALS) throw malformed('an attribute without a value')
  i = spaceEnd(bytes, i + 1, end)
  if (i >= end) return -1
  const quote = bytes[i]!
  if (quote !== APOS && quote !== QUOT) throw malformed('an attribute value without quotes')
  valueStarts[place] = ++i
  coded[place] = 0
  const plain = VALUE
  for (;;) {
    while (i < end && plain[bytes[i]!] === 0) i++
    if (i >= end) return -1
    const byte = bytes[i]!
    if (byte === quote) break
    if (byte >= 0x80) {
      const character = codePointAt(bytes, i, end)
      if (character === 0) return -1
      i += sizeOf(character)
    } else if (byte === AMP) {
      const after = referenceEnd(bytes, i, end)
      if (after < 0) return -1
      if (bytes[i + 1] === HASH) unusual |= NUMERIC
      coded[place] = 1
      i = after
    } else if (byte === TAB || byte === LF || byte === CR) {
      unusual |= byte === CR ? VALUE_SPACE | CARRIAGE_RETURN : VALUE_SPACE
      coded[place] = 1
      i++
    } else if (byte === APOS || byte === QUOT) i++
    else throw malformed(byte === LT ? '< in an attribute value' : 'a character that XML forbids')
  }
  valueEnds[place] = i
  return i + 1
}

function spaceEnd(bytes: Uint8Array, at: number, end: number): number {
  let i = at
  for (; i < end && isSpace(bytes[i]!); i++) if (bytes[i] === CR) unusual |= CARRIAGE_RETURN
  return i
}

/** The end of the name at `at`, -1 where it is cut off; `colonAt` says where its colon is. Namespaces in XML 1.0 §4, QName; in ASCII. */
export function nameEnd(bytes: Uint8Array, at: number, end: number): number {
  let i = at
  let start = true
  const names = NAME
  colonAt = -1
  for (;;) {
    if (i >= end) return -1
    const byte = bytes[i]!
    if (byte >= 0x80) {
      const character = codePointAt(bytes, i, end)
      if (character === 0) return -1
      // COMPAT: expat, which many clients read with, knows the names of XML's fourth edition only, and one of the fifth that
      // we pass on would end its stream. No protocol over XMPP has a name beyond ASCII, so none is let through.
      throw (start ? isNameStart(character) : isNameCharacter(character))
        ? overLimit('a name that is not ASCII')
        : malformed('a malformed name')
    } else if (start) {
      if ((names[byte]! & 1) === 0) throw malformed('a malformed name')
      i++
      start = false
    } else if (byte === COLON) {
      if (colonAt >= 0) throw malformed('a name with two colons')
      colonAt = i++
      start = true
    } else {
      if ((names[byte]! & 2) === 0) return i
      i++
      while (i < end && (names[bytes[i]!]! & 2) !== 0) i++
    }
  }
}

/** XML 1.0 §3.1: an attribute name stands in one tag once. Quadratic, but in a number that is bounded per tag. */
function refuseTwice(bytes: Uint8Array, count: number): void {
  for (let k = 1; k < count; k++) {
    const start = nameStarts[k]!
    const length = nameEnds[k]! - start
    for (let j = 0; j < k; j++) {
      if (nameEnds[j]! - nameStarts[j]! === length && sameBytes(bytes, nameStarts[j]!, start, length))
        throw malformed('an attribute twice')
    }
  }
}

/** Names that differ mostly differ at the end, so that is where we look first. */
export function sameBytes(bytes: Uint8Array, a: number, b: number, length: number): boolean {
  for (let i = length - 1; i >= 0; i--) if (bytes[a + i] !== bytes[b + i]) return false
  return true
}

/** Whether the bytes from `start` to `end` are the ASCII characters of `text`. */
export function spells(bytes: Uint8Array, start: number, end: number, text: string): boolean {
  if (end - start !== text.length) return false
  for (let i = 0; i < text.length; i++) if (bytes[start + i] !== text.charCodeAt(i)) return false
  return true
}

/** The decoded value of an attribute of the last tag; `shared` where it is likely to have been read before. */
export function attributeValue(bytes: Buffer, place: number, shared: boolean): string {
  const start = valueStarts[place]!
  const end = valueEnds[place]!
  if (coded[place] === 1) return decodeValue(freshString(bytes, start, end))
  return shared ? sharedString(bytes, start, end) : freshString(bytes, start, end)
}

/** XML 1.0 §2.11, then §3.3.3. */
function decodeValue(text: string): string {
  return text.replace(/\r\n|[\t\n\r]/g, ' ').replace(/&([^;]+);/g, (_, name: string) => {
    if (name[0] !== '#') return ENTITIES[name]!
    return String.fromCodePoint(characterOf(name))
  })
}

/**
 * Looks for the end of a tag that comes in pieces, each byte once: a tag of 256 KiB that comes byte by byte must not be
 * read from its start each time. Once found, the tag is read as a whole.
 */
export class TagEnd {
  #quote = 0

  begin(): void {
    this.#quote = 0
  }

  /** The position of the tag's `>` at or after `from`; -1 where it has not come: go on at `end`. `from` is behind the `<`. */
  find(bytes: Uint8Array, from: number, end: number): number {
    for (let i = from; i < end; i++) {
      const byte = bytes[i]!
      if (byte === LT) throw malformed('< in a tag')
      if (this.#quote !== 0) {
        if (byte === this.#quote) this.#quote = 0
      } else if (byte === GT) return i
      else if (byte === APOS || byte === QUOT) this.#quote = byte
    }
    return -1
  }
}

let colonAt = -1
let bare = true
let unusual = 0

const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', apos: "'", quot: '"' }

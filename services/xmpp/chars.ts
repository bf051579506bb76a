// Which bytes and characters XML 1.0 (Fifth Edition) allows where, and UTF-8, checked as RFC 3629 has it.
//
// The tables answer for a whole run of ASCII with one lookup a byte; what is not ASCII goes the long way round.
// A function that may find its input cut off at `end` says so by its result; what is wrong throws at once.
import { StreamError } from './error.ts'

export const TAB = 0x09
export const LF = 0x0a
export const CR = 0x0d
export const SPACE = 0x20
export const BANG = 0x21
export const QUOT = 0x22
export const HASH = 0x23
export const AMP = 0x26
export const APOS = 0x27
export const SLASH = 0x2f
export const COLON = 0x3a
const SEMICOLON = 0x3b
export const LT = 0x3c
export const EQUALS = 0x3d
export const GT = 0x3e
export const QUESTION = 0x3f
export const BRACKET = 0x5d

/** 0: text goes on. 1: look: markup, `>` (the end of `]]>`), a carriage return, a control character, or not ASCII. */
export const TEXT = new Uint8Array(256)
/** The same for an attribute's value, where every quote, tab and newline asks for a look. */
export const VALUE = new Uint8Array(256)
/** Bit 1: may start an NCName; bit 2: may follow in one. Not ASCII: 0, see `isNameStart`. */
export const NAME = new Uint8Array(256)

export function isSpace(byte: number): boolean {
  return byte === SPACE || byte === LF || byte === CR || byte === TAB
}

/** RFC 6120 §11.3, §4.9.3.13. */
export function malformed(text: string): StreamError {
  return new StreamError('not-well-formed', text)
}

/** RFC 6120 §11.1, §4.9.3.18. */
export function restricted(text: string): StreamError {
  return new StreamError('restricted-xml', text)
}

/** Our own limits: RFC 6120 §4.9.3.14, §13.12. */
export function overLimit(text: string): StreamError {
  return new StreamError('policy-violation', text)
}

/**
 * The character at `i`, whose first byte is not ASCII; 0 where the bytes before `end` may still become one. Throws on
 * what violates UTF-8 (RFC 6120 §11.6, §4.9.3.22) and on U+FFFE and U+FFFF, which are no XML characters.
 */
export function codePointAt(bytes: Uint8Array, i: number, end: number): number {
  const lead = bytes[i]!
  if (lead < 0xc2 || lead > 0xf4) throw badEncoding()
  if (i + 1 >= end) return 0
  const second = bytes[i + 1]!
  if ((second & 0xc0) !== 0x80) throw badEncoding()
  if (lead < 0xe0) return ((lead & 0x1f) << 6) | (second & 0x3f)
  // RFC 3629 §4: no overlong form, no surrogate, nothing above U+10FFFF.
  if (
    lead === 0xe0 ? second < 0xa0 : lead === 0xed ? second > 0x9f : lead === 0xf0 ? second < 0x90 : lead === 0xf4 && second > 0x8f
  )
    throw badEncoding()
  if (i + 2 >= end) return 0
  const third = bytes[i + 2]!
  if ((third & 0xc0) !== 0x80) throw badEncoding()
  if (lead < 0xf0) {
    const character = ((lead & 0x0f) << 12) | ((second & 0x3f) << 6) | (third & 0x3f)
    if (character >= 0xfffe) throw malformed('a character that XML forbids')
    return character
  }
  if (i + 3 >= end) return 0
  const fourth = bytes[i + 3]!
  if ((fourth & 0xc0) !== 0x80) throw badEncoding()
  return ((lead & 0x07) << 18) | ((second & 0x3f) << 12) | ((third & 0x3f) << 6) | (fourth & 0x3f)
}

/** How many bytes a character that is not ASCII takes. */
export function sizeOf(character: number): number {
  return character < 0x800 ? 2 : character < 0x10000 ? 3 : 4
}

/**
 * The end of the reference whose `&` is at `i`, -1 where it is cut off. RFC 6120 §11.1 leaves the five named
 * entities and character references; the length is bounded, though XML allows any number of leading zeros.
 */
export function referenceEnd(bytes: Uint8Array, i: number, end: number): number {
  const last = Math.min(end, i + REFERENCE_BYTES_MAX)
  let at = i + 1
  while (at < last && bytes[at] !== SEMICOLON) {
    if ((NAME[bytes[at]!]! & 2) === 0 && !(bytes[at] === HASH && at === i + 1)) throw malformed('a stray &')
    at++
  }
  if (at === last) {
    if (last - i < REFERENCE_BYTES_MAX) return -1
    throw bytes[i + 1] === HASH
      ? overLimit(`a character reference over ${REFERENCE_BYTES_MAX} bytes`)
      : restricted('an entity reference')
  }
  if (isPredefined(bytes, i + 1, at)) return at + 1
  const name = String.fromCharCode(...bytes.subarray(i + 1, at))
  if (name === '') throw malformed('a stray &')
  if (name[0] !== '#') throw restricted('an entity reference')
  if (!/^#(?:\d+|x[\dA-Fa-f]+)$/.test(name)) throw malformed('a malformed character reference')
  if (!isCharacter(characterOf(name))) throw malformed('a reference to a character that XML forbids')
  return at + 1
}

/** XML 1.0 §4.1: the character that `#65` or `#x41` names. */
export function characterOf(name: string): number {
  return name[1] === 'x' ? Number.parseInt(name.slice(2), 16) : Number.parseInt(name.slice(1), 10)
}

/** Whether the bytes from `start` to `end` are one of amp, lt, gt, apos, quot (XML 1.0 §4.6). */
function isPredefined(bytes: Uint8Array, start: number, end: number): boolean {
  const first = bytes[start]!
  const second = bytes[start + 1]!
  if (end - start === 2) return (first === 0x6c || first === 0x67) && second === 0x74
  if (end - start === 3) return first === 0x61 && second === 0x6d && bytes[start + 2] === 0x70
  if (end - start !== 4) return false
  const third = bytes[start + 2]!
  const fourth = bytes[start + 3]!
  if (first === 0x61) return second === 0x70 && third === 0x6f && fourth === 0x73
  return first === 0x71 && second === 0x75 && third === 0x6f && fourth === 0x74
}

/** XML 1.0 §2.2 Char. */
function isCharacter(character: number): boolean {
  if (character < 0x20) return character === TAB || character === LF || character === CR
  return character <= 0xd7ff || (character >= 0xe000 && character <= 0xfffd) || (character >= 0x10000 && character <= 0x10ffff)
}

/** XML 1.0 §2.3 NameStartChar without the colon (Namespaces in XML 1.0 §3, NCName). */
export function isNameStart(character: number): boolean {
  return character < 0x80 ? (NAME[character]! & 1) !== 0 : within(NAME_START, character)
}

/** XML 1.0 §2.3 NameChar without the colon. */
export function isNameCharacter(character: number): boolean {
  return character < 0x80 ? (NAME[character]! & 2) !== 0 : within(NAME_START, character) || within(NAME_MORE, character)
}

/** Namespaces in XML 1.0 §3: a name without a colon. */
export function isNcName(name: string): boolean {
  for (let i = 0; i < name.length; ) {
    const character = name.codePointAt(i)!
    if (i === 0 ? !isNameStart(character) : !isNameCharacter(character)) return false
    i += character > 0xffff ? 2 : 1
  }
  return name !== ''
}

function within(ranges: readonly number[], character: number): boolean {
  for (let i = 0; i < ranges.length; i += 2) if (character <= ranges[i + 1]!) return character >= ranges[i]!
  return false
}

function badEncoding(): StreamError {
  return new StreamError('unsupported-encoding', 'not UTF-8')
}

const REFERENCE_BYTES_MAX = 16

/** First and last of each range, ascending; so in NAME_MORE. */
const NAME_START: readonly number[] = [
  0xc0, 0xd6, 0xd8, 0xf6, 0xf8, 0x2ff, 0x370, 0x37d, 0x37f, 0x1fff, 0x200c, 0x200d, 0x2070, 0x218f, 0x2c00, 0x2fef, 0x3001,
  0xd7ff, 0xf900, 0xfdcf, 0xfdf0, 0xfffd, 0x10000, 0xeffff,
]
const NAME_MORE: readonly number[] = [0xb7, 0xb7, 0x300, 0x36f, 0x203f, 0x2040]

for (let byte = 0; byte < 256; byte++) {
  const odd = byte < 0x20 || byte >= 0x80 || byte === LT || byte === AMP
  TEXT[byte] = (odd && byte !== TAB && byte !== LF) || byte === GT ? 1 : 0
  VALUE[byte] = odd || byte === QUOT || byte === APOS ? 1 : 0
  const character = String.fromCharCode(byte)
  NAME[byte] = /[A-Za-z_]/.test(character) ? 3 : /[0-9.-]/.test(character) ? 2 : 0
}

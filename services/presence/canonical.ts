// Whether two payloads are the same document: what decides that a presence shows nothing new.
//
// Nothing counts but what XML tells apart: not the order of attributes (XML 1.0 §3.1), prefixes and where they are declared
// (Namespaces in XML 1.0 §7), quotes, references and the two forms of an empty element; and of what it tells apart not the
// whitespace between the stanza's children, which nobody reads. Everything else does, whitespace further inside, too. Both
// are read side by side, as far as they are the same, and nothing is made of what has been read before: a client that
// says something new mostly says so in its first text.
import { AMP, characterOf, GT, isSpace, LT, malformed, SLASH } from '#xmpp/chars.ts'
import { NS_CLIENT, NS_XML } from '#xmpp/ns.ts'
import type { Stanza } from '#xmpp/stanza.ts'
import { freshString, sharedString } from '#xmpp/strings.ts'
import { ATTRIBUTES_MAX, attributeValue, colons, nameEnds, nameStarts, readStartTag, spells, tag } from '#xmpp/tag.ts'
import { asBuffer } from '#xmpp/xml.ts'

/** Whether two presences of one resource show a contact the same: the `id` does not count. */
export function samePresence(a: Stanza, b: Stanza): boolean {
  return a.type === b.type && a.lang === b.lang && sameChildren(a.payload, b.payload)
}

/**
 * Whether two payloads, which have passed the scanner or were written by us, have the same children in the same order.
 * Linear in the shorter of them, but for attributes and prefixes of one element, which are few. Throws StreamError on what
 * is no payload.
 */
export function sameChildren(a: Uint8Array, b: Uint8Array): boolean {
  const one = asBuffer(a)
  const other = asBuffer(b)
  if (one.equals(other)) return true
  ONE.begin(one)
  OTHER.begin(other)
  for (;;) {
    const found = ONE.next()
    if (OTHER.next() !== found) return false
    if (found === OVER) return true
    if (found === START ? !ONE.sameTag(OTHER) : found === TEXT && !ONE.sameText(OTHER)) return false
  }
}

/** Passes over a payload: `next`, until it is over. What it found last is in the fields. */
class Reader {
  #bytes: Buffer = NOTHING
  /** Behind what it found last. */
  #at = 0
  /** Open elements; 0: between the children of the stanza. */
  #depth = 0
  /** The last tag was one without content, of which the end is found next. */
  #ending = false
  /** By depth, of the element that is open there. */
  readonly #defaults: string[] = [NS_CLIENT]
  /** The prefixes in scope, the innermost last, and the depth of the element that declares each. */
  readonly #prefixes: string[] = []
  readonly #uris: string[] = []
  readonly #levels: number[] = []
  #name = ''
  #ns = ''
  /** Attributes of the last tag but for declarations: local names, namespaces ('' for none) and values. */
  #attributes = 0
  readonly #names: string[] = []
  readonly #spaces: string[] = []
  readonly #values: string[] = []
  #textStart = 0
  #textEnd = 0
  /** The text has references. */
  #coded = false

  begin(bytes: Buffer): void {
    this.#bytes = bytes
    this.#at = 0
    this.#depth = 0
    this.#ending = false
    this.#leave(1)
  }

  next(): Found {
    if (this.#ending) return this.#end()
    const bytes = this.#bytes
    const { length } = bytes
    if (this.#at < length && bytes[this.#at] !== LT && this.#text()) return TEXT
    if (this.#at >= length) {
      if (this.#depth > 0) throw cutOff()
      return OVER
    }
    if (bytes[this.#at + 1] !== SLASH) return this.#start()
    const close = bytes.indexOf(GT, this.#at) // there is nothing in an end tag but its name
    if (close < 0 || this.#depth === 0) throw cutOff()
    this.#at = close + 1
    return this.#end()
  }

  #end(): Found {
    this.#ending = false
    this.#leave(this.#depth--)
    return END
  }

  /** Passes over text; false where it says nothing. */
  #text(): boolean {
    const bytes = this.#bytes
    const start = this.#at
    let at = start
    let blank = true
    this.#coded = false
    for (; at < bytes.length && bytes[at] !== LT; at++) {
      if (bytes[at] === AMP) this.#coded = true
      else if (blank && !isSpace(bytes[at]!)) blank = false
    }
    this.#at = at
    this.#textStart = start
    this.#textEnd = at
    if (this.#depth > 0) return true
    return this.#coded ? !BLANK.test(this.#decoded) : !blank
  }

  #start(): Found {
    const bytes = this.#bytes
    this.#at = readStartTag(bytes, this.#at + 1, bytes.length, ATTRIBUTES_MAX)
    if (this.#at < 0) throw cutOff()
    const outer = this.#defaults[this.#depth]!
    const level = ++this.#depth
    this.#defaults[level] = outer
    if (!tag.bare) this.#declare(level)
    this.#name = sharedString(bytes, tag.colon < 0 ? tag.nameStart : tag.colon + 1, tag.nameEnd)
    this.#ns = tag.colon < 0 ? this.#defaults[level]! : this.#resolve(tag.nameStart, tag.colon)
    this.#readAttributes()
    this.#ending = tag.selfClosing
    return START
  }

  /** What the last tag says of namespaces. */
  #declare(level: number): void {
    const bytes = this.#bytes
    for (let k = 0; k < tag.attributes; k++) {
      if (!declares(bytes, k)) continue
      const uri = attributeValue(bytes, k, true)
      if (colons[k]! < 0) this.#defaults[level] = uri
      else {
        this.#prefixes.push(sharedString(bytes, colons[k]! + 1, nameEnds[k]!))
        this.#uris.push(uri)
        this.#levels.push(level)
      }
    }
  }

  #readAttributes(): void {
    const bytes = this.#bytes
    let count = 0
    for (let k = 0; k < tag.attributes; k++) {
      if (!tag.bare && declares(bytes, k)) continue
      const colon = colons[k]!
      this.#names[count] = sharedString(bytes, colon < 0 ? nameStarts[k]! : colon + 1, nameEnds[k]!)
      this.#spaces[count] = colon < 0 ? '' : this.#resolve(nameStarts[k]!, colon)
      this.#values[count++] = attributeValue(bytes, k, true)
    }
    this.#attributes = count
  }

  #resolve(start: number, colon: number): string {
    const prefix = sharedString(this.#bytes, start, colon)
    const at = this.#prefixes.lastIndexOf(prefix)
    if (at >= 0) return this.#uris[at]!
    return NS_XML // the one that is bound without a word; the scanner has refused any other
  }

  /** Forgets the prefixes that are declared at or below `level`. */
  #leave(level: number): void {
    const levels = this.#levels
    let size = levels.length
    if (size === 0 || levels[size - 1]! < level) return
    while (size > 0 && levels[size - 1]! >= level) size--
    this.#prefixes.length = size
    this.#uris.length = size
    levels.length = size
  }

  /** Attributes of one element are never named alike, so that as many, each found, are the same. */
  sameTag(other: Reader): boolean {
    if (this.#name !== other.#name || this.#ns !== other.#ns || this.#attributes !== other.#attributes) return false
    for (let k = 0; k < this.#attributes; k++)
      if (!other.#has(this.#names[k]!, this.#spaces[k]!, this.#values[k]!, k)) return false
    return true
  }

  /** Whether there is such an attribute, most likely at the `place`. */
  #has(name: string, ns: string, value: string, place: number): boolean {
    if (this.#names[place] === name && this.#spaces[place] === ns) return this.#values[place] === value
    for (let k = 0; k < this.#attributes; k++)
      if (this.#names[k] === name && this.#spaces[k] === ns) return this.#values[k] === value
    return false
  }

  sameText(other: Reader): boolean {
    const length = this.#textEnd - this.#textStart
    if (
      length === other.#textEnd - other.#textStart &&
      this.#bytes.compare(other.#bytes, other.#textStart, other.#textEnd, this.#textStart, this.#textEnd) === 0
    )
      return true
    return (this.#coded || other.#coded) && this.#decoded === other.#decoded
  }

  get #decoded(): string {
    return decoded(freshString(this.#bytes, this.#textStart, this.#textEnd))
  }
}

/** Whether this attribute of the last tag is `xmlns` or `xmlns:…` and not, say, `xml:lang`. */
function declares(bytes: Buffer, place: number): boolean {
  const colon = colons[place]!
  return spells(bytes, nameStarts[place]!, colon < 0 ? nameEnds[place]! : colon, 'xmlns')
}

/** XML 1.0 §4.6, §4.1: text with its references resolved. */
function decoded(text: string): string {
  return text.replace(/&([^;]+);/g, (_, name: string) =>
    name[0] === '#' ? String.fromCodePoint(characterOf(name)) : ENTITIES[name]!,
  )
}

function cutOff(): Error {
  return malformed('a payload that breaks off')
}

type Found = typeof OVER | typeof START | typeof END | typeof TEXT
const OVER = 0
const START = 1
const END = 2
const TEXT = 3

const NOTHING = Buffer.alloc(0)
const BLANK = /^[ \t\r\n]*$/
const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', apos: "'", quot: '"' }
const ONE = new Reader()
const OTHER = new Reader()

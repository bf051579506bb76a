// One element and all that is inside it, checked in a single pass over bytes that may come in pieces.
//
// A walk holds no bytes. It is handed the element from its first byte again as more of it comes, and goes on where
// it stopped: in text after the last whole character, in a tag by looking for the tag's end (`TagEnd`), so that every
// byte is looked at a bounded number of times however the pieces are cut. Positions are kept relative to the
// element's first byte, since the bytes may have moved in between.
import { strict as assert } from 'node:assert'
import {
  AMP,
  BANG,
  BRACKET,
  CR,
  codePointAt,
  GT,
  HASH,
  isSpace,
  LF,
  LT,
  malformed,
  overLimit,
  QUESTION,
  referenceEnd,
  restricted,
  SLASH,
  sizeOf,
  TAB,
  TEXT,
} from './chars.ts'
import { Namespaces } from './namespaces.ts'
import { sharedClark, sharedString } from './strings.ts'
import {
  attributeValue,
  CARRIAGE_RETURN,
  CDATA,
  colons,
  NUMERIC,
  nameEnds,
  nameStarts,
  readStartTag,
  spells,
  TagEnd,
  tag,
} from './tag.ts'

export interface WalkLimits {
  /** Levels of elements, the root being the first. */
  readonly depth: number
  /** Per element; never over 1024. */
  readonly attributes: number
  /** In all, the root included. */
  readonly elements: number
  /** The length of one namespace name. */
  readonly namespaceBytes: number
}

/** What a root says of itself: its name and the attributes every stanza may have (RFC 6120 §8.1). */
export interface Head {
  name: string
  ns: string
  to: string | undefined
  from: string | undefined
  id: string
  type: string
  lang: string
  child: string
  childCount: number
}

export class Walk {
  limits: WalkLimits
  readonly head: Head
  readonly namespaces = new Namespaces()
  /** The default namespace outside of the root. */
  outerNs = ''
  /** The default namespace inside the root. */
  innerNs = ''
  /** Whether the element is complete. */
  done = false
  depth = 0
  /** Where the root's content is, relative to its first byte. */
  contentStart = 0
  contentEnd = 0
  /** What is unusual (see tag.ts) in the root's own tag, and inside it. */
  rootUnusual = 0
  unusual = 0
  #elements = 0
  #state: number = IN_TEXT
  #tagAt = 0
  readonly #tagEnd = new TagEnd()
  /** The names of the open elements, by level, relative to the root's first byte. */
  readonly #nameAt: number[] = [0]
  readonly #nameLength: number[] = [0]

  constructor(limits: WalkLimits, head: Head) {
    this.limits = limits
    this.head = head
  }

  /** A new root, whose `<` comes next. The namespaces of level 0 stay. */
  begin(): void {
    const head = this.head
    head.to = undefined
    head.from = undefined
    head.id = ''
    head.type = ''
    head.lang = ''
    head.child = ''
    head.childCount = 0
    this.namespaces.leave(1)
    this.namespaces.outside = false
    this.done = false
    this.depth = 0
    this.rootUnusual = 0
    this.unusual = 0
    this.#elements = 0
    this.#state = IN_TEXT
  }

  /** No root: the content of one that is not at hand. It is complete whenever `betweenChildren` says so. */
  beginInside(defaultNs: string): void {
    this.begin()
    this.innerNs = defaultNs
    this.depth = 1
    this.#nameAt[1] = 0
    this.#nameLength[1] = -1 // no tag closes it
  }

  get betweenChildren(): boolean {
    return this.depth === 1 && this.#state === IN_TEXT
  }

  /**
   * Goes on at `from` with the element that begins at `base`. Returns where it stopped: behind the element when `done`,
   * else where to go on once there is more behind `end`. Throws StreamError.
   */
  walk(bytes: Buffer, base: number, from: number, end: number): number {
    const plain = TEXT
    let i = from
    while (i < end) {
      if (this.#state === IN_CDATA) {
        i = this.#cdata(bytes, i, end)
        if (this.#state === IN_CDATA) return i
        continue
      }
      if (this.#state === IN_TAG) {
        const close = this.#tagEnd.find(bytes, i, end)
        if (close < 0) return end
        this.#state = IN_TEXT
        i = this.#markup(bytes, base, base + this.#tagAt, close + 1)
        assert(i > close, 'a whole tag is not cut off')
        if (this.done) return i
        continue
      }
      while (i < end && plain[bytes[i]!] === 0) i++
      if (i >= end) return end
      if (bytes[i] === LT) {
        const after = this.#markup(bytes, base, i, end)
        if (after >= 0) {
          i = after
          if (this.done) return i
        } else if (this.#state === IN_TAG) i++
        else return i
      } else {
        const after = this.#oddity(bytes, base, i, end)
        if (after < 0) return i
        i = after
      }
    }
    return end
  }

  /** What begins with the `<` at `i`. Returns the position after it; -1 where it is cut off, and then the state says in what. */
  #markup(bytes: Buffer, base: number, i: number, end: number): number {
    if (i + 1 >= end) return -1
    const byte = bytes[i + 1]!
    if (byte === BANG) return this.#declaration(bytes, i, end)
    if (byte === QUESTION) throw restricted('a processing instruction')
    const after = byte === SLASH ? this.#close(bytes, base, i, end) : this.#open(bytes, base, i, end)
    if (after < 0) {
      this.#state = IN_TAG
      this.#tagAt = i - base
      this.#tagEnd.begin()
    }
    return after
  }

  #open(bytes: Buffer, base: number, i: number, end: number): number {
    const after = readStartTag(bytes, i + 1, end, this.limits.attributes)
    if (after < 0) return -1
    const level = this.depth + 1
    if (level > this.limits.depth) throw overLimit(`elements nested over ${this.limits.depth} deep`)
    if (++this.#elements > this.limits.elements) throw overLimit(`over ${this.limits.elements} elements in one stanza`)
    const namespaces = this.namespaces
    const { bare } = tag
    if (!bare) namespaces.enter(bytes, level, this.limits.namespaceBytes)
    if (level === 1) this.#root(bytes, bare)
    else {
      this.unusual |= tag.unusual
      if (level === 2 && this.head.childCount++ === 0) this.#firstChild(bytes, bare)
    }
    if (tag.selfClosing) {
      if (!bare) namespaces.leave(level)
      if (level === 1) this.#finish(after - base, after - base)
    } else {
      this.depth = level
      this.#nameAt[level] = tag.nameStart - base
      this.#nameLength[level] = tag.nameEnd - tag.nameStart
      if (level === 1) this.contentStart = after - base
    }
    return after
  }

  #close(bytes: Buffer, base: number, i: number, end: number): number {
    const level = this.depth
    const length = this.#nameLength[level]!
    let at = i + 2
    if (level === 0 || length < 0) throw malformed('an end tag without a start tag')
    const name = base + this.#nameAt[level]!
    for (let k = 0; k < length; k++, at++) {
      if (at >= end) return -1
      if (bytes[at] !== bytes[name + k]) throw malformed('an end tag that does not match')
    }
    let unusual = 0
    for (; at < end && isSpace(bytes[at]!); at++) if (bytes[at] === CR) unusual = CARRIAGE_RETURN
    if (at >= end) return -1
    if (bytes[at] !== GT) throw malformed('an end tag that does not match')
    if (level > 1) this.unusual |= unusual
    else this.rootUnusual |= unusual
    this.namespaces.leave(level)
    this.depth = level - 1
    if (level === 1) this.#finish(this.contentStart, i - base)
    return at + 1
  }

  #finish(contentStart: number, contentEnd: number): void {
    this.contentStart = contentStart
    this.contentEnd = contentEnd
    this.done = true
  }

  /** `<!`: nothing but a CDATA section is allowed (RFC 6120 §11.1), and that only inside an element. */
  #declaration(bytes: Buffer, i: number, end: number): number {
    for (let k = 2; k < CDATA_START.length; k++) {
      if (i + k >= end) return -1
      if (bytes[i + k] !== CDATA_START.charCodeAt(k)) throw restricted('a comment or declaration')
    }
    if (this.depth === 0) throw malformed('a CDATA section outside of an element')
    this.#state = IN_CDATA
    this.unusual |= CDATA
    return i + CDATA_START.length
  }

  /** Goes on inside a CDATA section. Returns the position after its `]]>`, or, still in the section, where to go on. */
  #cdata(bytes: Buffer, from: number, end: number): number {
    let i = from
    while (i < end) {
      const byte = bytes[i]!
      if (byte === GT && bytes[i - 1] === BRACKET && bytes[i - 2] === BRACKET) {
        this.#state = IN_TEXT
        return i + 1
      }
      if (byte >= 0x80) {
        const character = codePointAt(bytes, i, end)
        if (character === 0) return i
        i += sizeOf(character)
      } else if (byte < 0x20 && byte !== TAB && byte !== LF && byte !== CR) throw malformed('a character that XML forbids')
      else {
        if (byte === CR) this.unusual |= CARRIAGE_RETURN
        i++
      }
    }
    return i
  }

  /** A byte of text that asks for a look. Returns the position after the character, -1 where it is cut off. */
  #oddity(bytes: Buffer, base: number, i: number, end: number): number {
    const byte = bytes[i]!
    if (byte >= 0x80) {
      const character = codePointAt(bytes, i, end)
      return character === 0 ? -1 : i + sizeOf(character)
    }
    if (byte === AMP) {
      const after = referenceEnd(bytes, i, end)
      if (after >= 0 && bytes[i + 1] === HASH) this.unusual |= NUMERIC
      return after
    }
    if (byte === GT) {
      // XML 1.0 §2.4. What precedes text ends in `>` or `;`, so the brackets can only be text.
      if (i >= base + 2 && bytes[i - 1] === BRACKET && bytes[i - 2] === BRACKET) throw malformed(']]> in text')
    } else if (byte === CR) this.unusual |= CARRIAGE_RETURN
    else throw malformed('a character that XML forbids')
    return i + 1
  }

  #root(bytes: Buffer, bare: boolean): void {
    const head = this.head
    this.rootUnusual = tag.unusual
    this.innerNs = this.outerNs
    head.name = sharedString(bytes, tag.colon < 0 ? tag.nameStart : tag.colon + 1, tag.nameEnd)
    if (!bare && this.namespaces.defaultNs !== undefined) this.innerNs = this.namespaces.defaultNs
    for (let k = 0; k < tag.attributes; k++) this.#rootAttribute(bytes, k)
    head.ns = tag.colon < 0 ? this.innerNs : this.namespaces.prefixNs
  }

  #rootAttribute(bytes: Buffer, place: number): void {
    const head = this.head
    const start = nameStarts[place]!
    const end = nameEnds[place]!
    const length = end - start
    if (colons[place]! >= 0) {
      if (spells(bytes, start, end, 'xml:lang')) head.lang = attributeValue(bytes, place, true)
    } else if (length === 2) {
      const both = (bytes[start]! << 8) | bytes[start + 1]!
      if (both === TO) head.to = attributeValue(bytes, place, true)
      else if (both === ID) head.id = attributeValue(bytes, place, false)
    } else if (length === 4) {
      const all = (bytes[start]! << 24) | (bytes[start + 1]! << 16) | (bytes[start + 2]! << 8) | bytes[start + 3]!
      if (all === TYPE) head.type = attributeValue(bytes, place, true)
      else if (all === FROM) head.from = attributeValue(bytes, place, true)
    }
  }

  #firstChild(bytes: Buffer, bare: boolean): void {
    let ns = this.innerNs
    if (!bare) {
      if (tag.colon >= 0) ns = this.namespaces.prefixNs
      else if (this.namespaces.defaultNs !== undefined) ns = this.namespaces.defaultNs
    }
    const name = sharedString(bytes, tag.colon < 0 ? tag.nameStart : tag.colon + 1, tag.nameEnd)
    this.head.child = sharedClark(ns, name)
  }
}

// Names of attributes, as numbers of their ASCII.
const TO = 0x746f
const ID = 0x6964
const TYPE = 0x74797065
const FROM = 0x66726f6d

const IN_TEXT = 0
const IN_TAG = 1
const IN_CDATA = 2
const CDATA_START = '<![CDATA['

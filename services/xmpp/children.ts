// The children of a payload by name, without a tree: for whoever only asks what is there.
//
// A payload has passed the scanner (scan.ts) or was written by us (xml.ts), so there is nothing to check, and no comment and
// no CDATA section to pass over: a child's own tag is read, and from what is inside it only where it ends. Nothing is made
// but names that have not been read before.
import { APOS, BANG, GT, LT, malformed, QUOT, SLASH } from './chars.ts'
import { Namespaces } from './namespaces.ts'
import { NS_CLIENT } from './ns.ts'
import { type Stanza, stanzaOfBytes } from './stanza.ts'
import { sharedClark, sharedString } from './strings.ts'
import { ATTRIBUTES_MAX, attributeValue, colons, nameEnds, nameStarts, readStartTag, spells, tag } from './tag.ts'
import { asBuffer } from './xml.ts'

/**
 * Where one is among the children: `begin`, then `next` until it is false. It keeps no bytes, and so is handed the same ones
 * each time. One is enough for all that a file asks, as long as nothing else comes in between.
 */
export class Children {
  /** Of the child at hand, as `{ns}name`. */
  name = ''
  /** Where it begins in the payload, and where it has ended. */
  start = 0
  end = 0
  readonly #namespaces = new Namespaces()

  begin(): void {
    this.end = 0
  }

  /** Goes on to the next child; false where there is none. Throws StreamError on what is no payload. */
  next(bytes: Buffer): boolean {
    let at = this.end
    while (at < bytes.length && bytes[at] !== LT) at++
    if (at === bytes.length) return false
    const inside = readStartTag(bytes, at + 1, bytes.length, ATTRIBUTES_MAX)
    if (inside < 0) throw cutOff()
    this.start = at
    this.name = this.#nameOf(bytes)
    this.end = tag.selfClosing ? inside : endOf(bytes, inside)
    return true
  }

  #nameOf(bytes: Buffer): string {
    let ns = NS_CLIENT
    if (!tag.bare) {
      const namespaces = this.#namespaces
      namespaces.enter(bytes, CHILD_LEVEL, Number.POSITIVE_INFINITY)
      if (tag.colon >= 0) ns = namespaces.prefixNs
      else if (namespaces.defaultNs !== undefined) ns = namespaces.defaultNs
      namespaces.leave(CHILD_LEVEL)
    }
    return sharedClark(ns, sharedString(bytes, tag.colon < 0 ? tag.nameStart : tag.colon + 1, tag.nameEnd))
  }

  /** The decoded value of an attribute without a prefix of the child at hand, '' where it is absent. Before the next tag is read, by whomever. */
  attribute(bytes: Buffer, name: string): string {
    for (let k = 0; k < tag.attributes; k++) {
      if (colons[k]! < 0 && spells(bytes, nameStarts[k]!, nameEnds[k]!, name)) return attributeValue(bytes, k, false)
    }
    return ''
  }
}

/** The same stanza without the children that `drops` says; itself where it says none. The others stay as the bytes they are. */
export function withoutChildren(stanza: Stanza, drops: (child: Children, bytes: Buffer) => boolean): Stanza {
  const bytes = asBuffer(stanza.payload)
  const kept: Buffer[] = []
  let first = ''
  let from = 0
  DROPPING.begin()
  while (DROPPING.next(bytes)) {
    const { name, start, end } = DROPPING
    if (!drops(DROPPING, bytes)) first ||= name
    else {
      kept.push(bytes.subarray(from, start))
      from = end
    }
  }
  if (from === 0) return stanza
  kept.push(bytes.subarray(from))
  const { name, from: sender, to, id, type, lang, trace } = stanza
  return stanzaOfBytes(name, sender, to, id, type, lang, first, Buffer.concat(kept), trace)
}

/** Behind the end tag of an element whose content begins at `from`. */
function endOf(bytes: Buffer, from: number): number {
  const { length } = bytes
  let depth = 1
  for (let at = from; at < length; ) {
    if (bytes[at] !== LT) {
      at++
      continue
    }
    const next = bytes[at + 1]
    if (next === BANG) throw malformed('a declaration in a payload')
    at = tagEnd(bytes, at + 1)
    if (next === SLASH) {
      if (--depth === 0) return at
    } else if (bytes[at - 2] !== SLASH) depth++
  }
  throw cutOff()
}

/** Behind the `>` of a tag, which may have others within quotes. */
function tagEnd(bytes: Buffer, from: number): number {
  const { length } = bytes
  let quote = 0
  for (let at = from; at < length; at++) {
    const byte = bytes[at]!
    if (quote !== 0) {
      if (byte === quote) quote = 0
    } else if (byte === GT) return at + 1
    else if (byte === QUOT || byte === APOS) quote = byte
  }
  throw cutOff()
}

function cutOff(): Error {
  return malformed('a payload that breaks off')
}

/** The level of a stanza's children (namespaces.ts). */
const CHILD_LEVEL = 2
const DROPPING = new Children()

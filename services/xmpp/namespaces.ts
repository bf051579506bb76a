// Which prefix is bound to what, and where it was declared (Namespaces in XML 1.0).
//
// The scope is three flat columns, innermost last. Only prefixes are kept: of default namespaces a scanner needs but
// the root's and the first child's. RFC 6120 §11.3: what is not namespace-well-formed ends the stream as not-well-formed.
import { malformed, overLimit } from './chars.ts'
import { NS_STREAM, NS_XML } from './ns.ts'
import { sharedString } from './strings.ts'
import { attributeValue, colons, nameEnds, nameStarts, sameBytes, spells, tag, valueEnds, valueStarts } from './tag.ts'

export const NS_XMLNS = 'http://www.w3.org/2000/xmlns/'

/** The prefixes in scope at one place: each name looked up passes over them all, so there is a bound. */
const PREFIXES_MAX = 128

/** What a stream's header declares. One object for all streams that declare the same, as nearly all do. */
export interface Scope {
  readonly prefixes: readonly string[]
  readonly uris: readonly string[]
}

export const NO_SCOPE: Scope = { prefixes: [], uris: [] }
const USUAL_SCOPE: Scope = { prefixes: ['stream'], uris: [NS_STREAM] }

export class Namespaces {
  /** What is declared at level 0; undefined while its header is read. */
  #stream: Scope | undefined = NO_SCOPE
  readonly #prefixes: string[] = []
  readonly #uris: string[] = []
  /** The level of the element that declares it: 0 the stream's header, 1 a stanza's root. */
  readonly #levels: number[] = []
  /** Whether an element or attribute below the root uses a prefix that is declared on the root or outside of it. */
  outside = false
  /** The default namespace that the last tag declares, undefined where it declares none. */
  defaultNs: string | undefined = undefined
  /** The namespace of the last tag's prefix; '' where it has none. */
  prefixNs = ''

  /** Forgets all that is declared at or below `level`. */
  leave(level: number): void {
    let size = this.#levels.length
    if (size === 0 || this.#levels[size - 1]! < level) return
    while (size > 0 && this.#levels[size - 1]! >= level) size--
    this.#prefixes.length = size
    this.#uris.length = size
    this.#levels.length = size
  }

  /** Forgets everything but what this stream's header has declared. */
  enterStream(scope: Scope): void {
    if (scope === this.#stream) return this.leave(1)
    this.leave(0)
    for (let k = 0; k < scope.prefixes.length; k++) {
      this.#prefixes.push(scope.prefixes[k]!)
      this.#uris.push(scope.uris[k]!)
      this.#levels.push(0)
    }
    this.#stream = scope
  }

  /** Takes in the stream's header, which is the last start tag; what was declared before is forgotten. */
  enterHeader(bytes: Buffer, namespaceBytesMax: number): Scope {
    this.leave(0)
    this.#stream = undefined
    this.enter(bytes, 0, namespaceBytesMax)
    const usual = this.#prefixes.length === 1 && this.#prefixes[0] === 'stream' && this.#uris[0] === NS_STREAM
    this.#stream = usual ? USUAL_SCOPE : { prefixes: [...this.#prefixes], uris: [...this.#uris] }
    return this.#stream
  }

  /** Takes in the last start tag, which is at `level`: what it declares, and what its prefixes mean. */
  enter(bytes: Buffer, level: number, namespaceBytesMax: number): void {
    this.defaultNs = undefined
    this.prefixNs = ''
    let prefixed = 0
    for (let k = 0; k < tag.attributes; k++) {
      const colon = colons[k]!
      if (colon < 0) {
        if (bytes[nameStarts[k]!] === 0x78 && spells(bytes, nameStarts[k]!, nameEnds[k]!, 'xmlns'))
          this.defaultNs = this.#declared(bytes, k, namespaceBytesMax)
      } else if (spells(bytes, nameStarts[k]!, colon, 'xmlns')) this.#declare(bytes, k, level, namespaceBytesMax)
      else if (!spells(bytes, nameStarts[k]!, colon, 'xml')) prefixed++
    }
    if (tag.colon >= 0) this.prefixNs = this.#resolve(bytes, tag.nameStart, tag.colon, level)
    if (prefixed > 0) this.#attributes(bytes, level, prefixed)
  }

  /** What is declared, for a tree to be built inside. */
  prefixes(): ReadonlyMap<string, string> {
    return new Map(this.#prefixes.map((prefix, k) => [prefix, this.#uris[k]!]))
  }

  #declare(bytes: Buffer, place: number, level: number, namespaceBytesMax: number): void {
    const prefix = sharedString(bytes, colons[place]! + 1, nameEnds[place]!)
    if (prefix === 'xmlns') throw malformed('the prefix xmlns is declared')
    if (prefix === 'xml') {
      // Namespaces in XML 1.0 §3: it may be declared, but not for anything else.
      if (attributeValue(bytes, place, true) !== NS_XML) throw malformed('the prefix xml is bound to another namespace')
      return
    }
    const uri = this.#declared(bytes, place, namespaceBytesMax)
    if (uri === '') throw malformed('a prefix is bound to no namespace')
    if (this.#prefixes.length >= PREFIXES_MAX) throw overLimit(`over ${PREFIXES_MAX} namespace prefixes in scope`)
    this.#prefixes.push(prefix)
    this.#uris.push(uri)
    this.#levels.push(level)
  }

  #declared(bytes: Buffer, place: number, namespaceBytesMax: number): string {
    if (valueEnds[place]! - valueStarts[place]! > namespaceBytesMax)
      throw overLimit(`a namespace name over ${namespaceBytesMax} bytes`)
    const uri = attributeValue(bytes, place, true)
    if (uri === NS_XML || uri === NS_XMLNS) throw malformed('a reserved namespace is declared')
    return uri
  }

  #resolve(bytes: Buffer, start: number, colon: number, level: number): string {
    const prefix = sharedString(bytes, start, colon)
    for (let k = this.#prefixes.length - 1; k >= 0; k--) {
      if (this.#prefixes[k] !== prefix) continue
      if (level > 1 && this.#levels[k]! <= 1) this.outside = true
      return this.#uris[k]!
    }
    if (prefix === 'xml') return NS_XML
    throw malformed('an undeclared namespace prefix')
  }

  /** Namespaces in XML 1.0 §6.3: no two attributes of one local name whose prefixes are bound to one namespace. */
  #attributes(bytes: Buffer, level: number, prefixed: number): void {
    const uris: string[] = []
    const places: number[] = []
    for (let k = 0; k < tag.attributes; k++) {
      const colon = colons[k]!
      if (colon < 0 || spells(bytes, nameStarts[k]!, colon, 'xmlns') || spells(bytes, nameStarts[k]!, colon, 'xml')) continue
      const uri = this.#resolve(bytes, nameStarts[k]!, colon, level)
      if (prefixed === 1) return
      const length = nameEnds[k]! - colon
      for (let j = 0; j < places.length; j++) {
        const other = places[j]!
        if (nameEnds[other]! - colons[other]! === length && sameBytes(bytes, colons[other]!, colon, length) && uris[j] === uri)
          throw malformed('an attribute twice, by two prefixes')
      }
      uris.push(uri)
      places.push(k)
    }
  }
}

// Bytes to trees, on demand, and trees to bytes: the one place where text is escaped.
//
// ltx reads tokens; we resolve the namespaces. ltx checks nothing (it drops text behind a CDATA section, lets a
// tag close another, loses an attribute called `__proto__`, keeps newlines as they came), so what it is given has
// been checked, and what it would get wrong is put into a form that it gets right (`plainText`).
import SaxLtx from 'ltx/src/parsers/ltx.js'
import { isNcName, isSpace, LT } from './chars.ts'
import { NS_XMLNS } from './namespaces.ts'
import { NS_XML } from './ns.ts'
import type { Element } from './stanza.ts'
import { freshString } from './strings.ts'
import { CARRIAGE_RETURN, CDATA, VALUE_SPACE } from './tag.ts'
import { Walk } from './walk.ts'

/** For an attribute value, between quotes of either kind. Throws on characters that XML 1.0 forbids. */
export function escapeAttribute(text: string): string {
  return isPlain(text, IN_ATTRIBUTE) ? text : checked(text).replace(/[&<>'"\t\n\r]/g, reference)
}

/** For text between tags. Throws on characters that XML 1.0 forbids. */
export function escapeText(text: string): string {
  return isPlain(text, IN_TEXT) ? text : checked(text).replace(/[&<>\r]/g, reference)
}

/** The child elements of a root whose default namespace is `defaultNs`; text between them is dropped. Throws Error on what is not well-formed. */
export function parseChildren(bytes: Uint8Array, defaultNs: string): Element[] {
  if (bytes.length === 0) return []
  const buffer = asBuffer(bytes)
  check(buffer, () => {
    CHECK.beginInside(defaultNs)
    return CHECK.walk(buffer, 0, 0, buffer.length) === buffer.length && CHECK.betweenChildren
  })
  const nodes = treeOf(freshString(buffer, 0, buffer.length), defaultNs, NO_PREFIXES, CHECK.unusual)
  return nodes.filter((node) => typeof node !== 'string')
}

/** One element, with nothing but whitespace around it. Throws Error on what is not well-formed. */
export function parseElement(bytes: Uint8Array | string, defaultNs = ''): Element {
  if (typeof bytes === 'string' && !bytes.isWellFormed()) throw new Error('a lone surrogate')
  const buffer = typeof bytes === 'string' ? Buffer.from(bytes) : asBuffer(bytes)
  let start = 0
  let end = buffer.length
  while (start < end && isSpace(buffer[start]!)) start++
  while (start < end && isSpace(buffer[end - 1]!)) end--
  if (buffer[start] !== LT) throw new Error('no element')
  check(buffer, () => {
    CHECK.begin()
    return CHECK.walk(buffer, start, start, end) === end && CHECK.done
  })
  return treeOf(freshString(buffer, start, end), defaultNs, NO_PREFIXES, CHECK.rootUnusual | CHECK.unusual)[0] as Element
}

/**
 * As it stands inside a parent whose default namespace is `defaultNs`. An attribute keyed `{ns}name` gets a prefix
 * declared on its element. Throws on what cannot be written as XML (a module's bad input must not leave the server) and on
 * more than `lengthMax` characters: a namespace bound once and used often is written out each time.
 */
export function serialise(
  node: Element | string | readonly (Element | string)[],
  defaultNs: string,
  lengthMax = Number.POSITIVE_INFINITY,
): string {
  const writer = new Writer(lengthMax)
  if (typeof node === 'string' || 'name' in node) writer.node(node, defaultNs)
  else for (const item of node) writer.node(item, defaultNs)
  return writer.text
}

class Writer {
  text = ''
  readonly #lengthMax: number

  constructor(lengthMax: number) {
    this.#lengthMax = lengthMax
  }

  node(node: Element | string, defaultNs: string): void {
    if (typeof node === 'string') this.text += escapeText(node)
    else this.#element(node, defaultNs)
    if (this.text.length > this.#lengthMax) throw new RangeError(`XML over ${this.#lengthMax} characters`)
  }

  #element(element: Element, defaultNs: string): void {
    const { ns, children, attrs } = element
    if (!isNcName(element.name)) throw new Error(`no XML name: ${JSON.stringify(element.name)}`)
    // Namespaces in XML 1.0 §3: the xml namespace cannot be a default, and is always bound to its prefix.
    const prefixed = ns === NS_XML
    const name = prefixed ? `xml:${element.name}` : element.name
    const inner = prefixed ? defaultNs : ns
    this.text += `<${name}`
    if (inner !== defaultNs) this.text += ` xmlns='${namespaceText(inner)}'`
    for (const key in attrs) this.text += attributeText(key, attrs[key]!, attrs)
    if (children.length === 0) {
      this.text += '/>'
      return
    }
    this.text += '>'
    for (const child of children) this.node(child, inner)
    this.text += `</${name}>`
  }
}

function attributeText(key: string, value: string, attrs: Readonly<Record<string, string>>): string {
  if (typeof value !== 'string') throw new Error(`attribute ${key} is not a string`)
  if (key === 'xml:lang') return ` xml:lang='${escapeAttribute(value)}'`
  if (key[0] !== '{') {
    if (!isNcName(key) || key === 'xmlns') throw new Error(`no attribute name: ${JSON.stringify(key)}`)
    return ` ${key}='${escapeAttribute(value)}'`
  }
  const close = key.lastIndexOf('}')
  const ns = key.slice(1, close)
  const local = key.slice(close + 1)
  if (close < 2 || !isNcName(local)) throw new Error(`no attribute name: ${JSON.stringify(key)}`)
  if (ns === NS_XML) {
    if (local === 'lang' && Object.hasOwn(attrs, 'xml:lang')) throw new Error('xml:lang twice')
    return ` xml:${local}='${escapeAttribute(value)}'`
  }
  // One prefix per attribute, numbered by its place: nothing to remember, and two can never meet.
  const prefix = `a${Object.keys(attrs).indexOf(key)}`
  return ` xmlns:${prefix}='${namespaceText(ns)}' ${prefix}:${local}='${escapeAttribute(value)}'`
}

function namespaceText(ns: string): string {
  if (ns === NS_XML || ns === NS_XMLNS) throw new Error(`a reserved namespace: ${ns}`)
  return escapeAttribute(ns)
}

/**
 * The nodes that `text` holds, which a walk has checked and found `unusual` (see tag.ts). `prefixes` are those
 * declared outside of it.
 */
export function treeOf(
  text: string,
  defaultNs: string,
  prefixes: ReadonlyMap<string, string>,
  unusual: number,
): (Element | string)[] {
  const builder = new TreeBuilder(defaultNs, prefixes)
  builder.read(plainText(text, unusual))
  return builder.top
}

/** The same bytes as a Buffer, not copied. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
}

interface OpenElement {
  readonly qname: string
  readonly children: (Element | string)[]
  readonly defaultNs: string
  /** How many prefixes were in scope outside. */
  readonly scope: number
}

class TreeBuilder {
  readonly top: (Element | string)[] = []
  readonly #open: OpenElement[] = []
  readonly #prefixes: string[] = ['xml']
  readonly #uris: string[] = [NS_XML]
  readonly #rootNs: string
  #masked = false

  constructor(defaultNs: string, prefixes: ReadonlyMap<string, string>) {
    this.#rootNs = defaultNs
    for (const [prefix, uri] of prefixes) {
      this.#prefixes.push(prefix)
      this.#uris.push(uri)
    }
  }

  read(text: string): void {
    // COMPAT: ltx keeps attributes in an object with a prototype, where one named `__proto__` is lost.
    this.#masked = text.includes('__proto__')
    if (this.#masked) text = text.replaceAll('__proto__', MASK)
    const parser = new SaxLtx()
    parser.on('startElement', (name, attrs) => this.#start(name, attrs))
    parser.on('endElement', (name) => this.#end(name))
    parser.on('text', (data) => this.#siblings().push(this.#unmask(data)))
    parser.write(text)
    if (this.#open.length > 0) throw new Error(`<${this.#open.at(-1)!.qname}> is not closed`)
  }

  #siblings(): (Element | string)[] {
    return this.#open.length === 0 ? this.top : this.#open[this.#open.length - 1]!.children
  }

  #start(written: string, raw: Record<string, string>): void {
    const qname = this.#unmask(written)
    const outer = this.#open.length === 0 ? this.#rootNs : this.#open[this.#open.length - 1]!.defaultNs
    const scope = this.#prefixes.length
    let defaultNs = outer
    for (const key in raw) {
      if (key === 'xmlns') defaultNs = this.#unmask(raw[key]!)
      else if (key.startsWith('xmlns:')) {
        this.#prefixes.push(this.#unmask(key.slice(6)))
        this.#uris.push(this.#unmask(raw[key]!))
      }
    }
    const attrs: Record<string, string> = {}
    for (const key in raw) {
      if (key !== 'xmlns' && !key.startsWith('xmlns:')) this.#attribute(attrs, this.#unmask(key), this.#unmask(raw[key]!))
    }
    const colon = qname.indexOf(':')
    const children: (Element | string)[] = []
    this.#siblings().push({
      name: colon < 0 ? qname : qname.slice(colon + 1),
      ns: colon < 0 ? defaultNs : this.#resolve(qname.slice(0, colon)),
      attrs,
      children,
    })
    this.#open.push({ qname, children, defaultNs, scope })
  }

  #attribute(attrs: Record<string, string>, qname: string, value: string): void {
    const colon = qname.indexOf(':')
    if (colon < 0 || qname === 'xml:lang') {
      if (qname === '__proto__')
        Object.defineProperty(attrs, qname, { value, enumerable: true, configurable: true, writable: true })
      else attrs[qname] = value
    } else attrs[`{${this.#resolve(qname.slice(0, colon))}}${qname.slice(colon + 1)}`] = value
  }

  #end(written: string): void {
    const open = this.#open.pop()
    if (open?.qname !== this.#unmask(written)) throw new Error(`</${written}> closes nothing`)
    this.#prefixes.length = open.scope
    this.#uris.length = open.scope
  }

  #resolve(prefix: string): string {
    const at = this.#prefixes.lastIndexOf(prefix)
    if (at < 0) throw new Error(`undeclared prefix ${prefix}`)
    return this.#uris[at]!
  }

  #unmask(text: string): string {
    return this.#masked ? text.replaceAll(MASK, '__proto__') : text
  }
}

/** The same document without CDATA sections, carriage returns, and tabs and newlines in attribute values (XML 1.0 §2.7, §2.11, §3.3.3). */
function plainText(text: string, unusual: number): string {
  if ((unusual & CARRIAGE_RETURN) !== 0) text = text.replace(/\r\n?/g, '\n')
  if ((unusual & (CDATA | VALUE_SPACE)) === 0) return text
  return text.replace(MARKUP, (markup, cdata: string | undefined) =>
    cdata === undefined ? markup.replace(/[\t\n]/g, ' ') : escapeText(cdata),
  )
}

/** Throws what `walk` throws, but as an Error: it is no stream that is wrong here. */
function check(bytes: Buffer, walk: () => boolean): void {
  let whole: boolean
  try {
    whole = walk()
  } catch (cause) {
    throw new Error(`not well-formed: ${(cause as Error).message}`, { cause })
  }
  if (!whole) throw new Error(`not well-formed: it breaks off after ${bytes.length} bytes`)
}

/** True when no character needs a look: none that `special` marks, nor at or above the surrogates. */
function isPlain(text: string, special: Uint8Array): boolean {
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    if (unit < 0x40 ? special[unit] === 1 : unit >= 0xd800) return false
  }
  return true
}

/** XML 1.0 §2.2 Char. A lone surrogate is none either. */
function checked(text: string): string {
  const bad = /[^\t\n\r\u0020-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/u.exec(text)
  if (bad !== null) throw new Error(`no XML character: U+${bad[0].codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0')}`)
  return text
}

function reference(character: string): string {
  return REFERENCES[character]!
}

/** A walk that only checks. Its limits keep recursion and the search for prefixes bounded; a stanza's own are the scanner's. */
const CHECK = new Walk(
  { depth: 1000, attributes: 1024, elements: Number.POSITIVE_INFINITY, namespaceBytes: 65_536 },
  { name: '', ns: '', to: undefined, from: undefined, id: '', type: '', lang: '', child: '', childCount: 0 },
)
const NO_PREFIXES: ReadonlyMap<string, string> = new Map()
/** No XML character, so it stands in no document. */
const MASK = '\uFFFF'
const MARKUP = /<!\[CDATA\[([\s\S]*?)\]\]>|<(?:[^'">]|'[^']*'|"[^"]*")*>/g
const REFERENCES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  "'": '&apos;',
  '"': '&quot;',
  '\t': '&#x9;',
  '\n': '&#xA;',
  '\r': '&#xD;',
}
const IN_ATTRIBUTE = new Uint8Array(0x40).fill(1, 0, 0x20)
const IN_TEXT = new Uint8Array(0x40).fill(1, 0, 0x20)
for (const character of '&<>\'"') IN_ATTRIBUTE[character.charCodeAt(0)] = 1
for (const character of '&<>') IN_TEXT[character.charCodeAt(0)] = 1
for (const character of '\t\n') IN_TEXT[character.charCodeAt(0)] = 0

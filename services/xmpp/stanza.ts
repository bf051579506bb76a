// Stanzas and elements as values. Nothing here changes after it is made.
//
// A stanza is a head (the root's name and its five attributes, RFC 6120 §8.1) and the bytes of its children as
// they came in. The tree is built on demand, once. So whoever only routes never parses.
import { StanzaError } from './error.ts'
import type { Jid } from './jid.ts'
import { NS_CLIENT } from './ns.ts'
import { escapeAttribute, parseChildren, serialise } from './xml.ts'

export interface Element {
  readonly name: string
  readonly ns: string
  /** By local name; an attribute in a namespace as `{ns}name`, and `xml:lang` by that name. */
  readonly attrs: Readonly<Record<string, string>>
  readonly children: readonly (Element | string)[]
}

export type StanzaName = 'message' | 'presence' | 'iq'

export interface Stanza {
  readonly name: StanzaName
  /** Stamped at the edge, RFC 6120 §8.1.2.1. */
  readonly from: Jid
  /** undefined: none on the wire (RFC 6121 §4.2: a broadcast is not presence to oneself); route by account. */
  readonly to: Jid | undefined
  /** '' where the wire had none; so with `type` and `lang` (the stanza's xml:lang, else the stream's, RFC 6120 §8.1.5). */
  readonly id: string
  readonly type: string
  readonly lang: string
  /** The first child element as `{ns}name`, '' where there is none: enough to dispatch an iq without a tree. */
  readonly child: string
  /** The children, as the bytes they came in: well-formed by themselves below a root whose default namespace is jabber:client. */
  readonly payload: Uint8Array
  /** The trace it belongs to, '' outside of one. It is not on the wire; core/observing/trace.ts says what it is. */
  readonly trace: string
  /** The children, parsed on first use and kept. Throws StanzaError('bad-request') on what is not well-formed. */
  tree(): readonly Element[]
}

export interface StanzaHead {
  readonly to?: Jid | undefined
  readonly id?: string
  readonly type?: string
  readonly lang?: string
  readonly trace?: string
}

class ByteStanza implements Stanza {
  readonly name: StanzaName
  readonly from: Jid
  readonly to: Jid | undefined
  readonly id: string
  readonly type: string
  readonly lang: string
  readonly child: string
  readonly payload: Uint8Array
  readonly trace: string
  #tree: readonly Element[] | undefined

  constructor(
    name: StanzaName,
    from: Jid,
    to: Jid | undefined,
    id: string,
    type: string,
    lang: string,
    child: string,
    payload: Uint8Array,
    trace: string,
    tree: readonly Element[] | undefined,
  ) {
    this.name = name
    this.from = from
    this.to = to
    this.id = id
    this.type = type
    this.lang = lang
    this.child = child
    this.payload = payload
    this.trace = trace
    this.#tree = tree
  }

  tree(): readonly Element[] {
    if (this.#tree === undefined) {
      try {
        this.#tree = parseChildren(this.payload, NS_CLIENT)
      } catch (cause) {
        throw new StanzaError('bad-request', `the payload does not parse: ${(cause as Error).message}`)
      }
    }
    return this.#tree
  }
}

/** A stanza from bytes that the scanner has checked. `child` is `{ns}name` of the first child element, or ''. */
export function stanzaOfBytes(
  name: StanzaName,
  from: Jid,
  to: Jid | undefined,
  id: string,
  type: string,
  lang: string,
  child: string,
  payload: Uint8Array,
  trace = '',
): Stanza {
  return new ByteStanza(name, from, to, id, type, lang, child, payload, trace, undefined)
}

/** What a stanza takes of memory, about: besides its payload the texts of its head, any of which may be as long as a stanza. */
export function bytesOf({ id, type, lang, child, payload }: Stanza): number {
  return payload.length + id.length + type.length + lang.length + child.length
}

/** A stanza of the server's own making. */
export function stanza(name: StanzaName, from: Jid, head: StanzaHead, ...children: readonly Element[]): Stanza {
  const payload = children.length === 0 ? EMPTY : Buffer.from(serialise(children, NS_CLIENT), 'utf8')
  const first = children[0]
  const child = first === undefined ? '' : `{${first.ns}}${first.name}`
  const { to, id = '', type = '', lang = '', trace = '' } = head
  return new ByteStanza(name, from, to, id, type, lang, child, payload, trace, children)
}

/** The same stanza between other addresses: a new head on the same bytes. */
export function readdress(stanza: Stanza, addresses: { from?: Jid; to?: Jid | undefined }): Stanza {
  const to = 'to' in addresses ? addresses.to : stanza.to
  const { name, id, type, lang, child, payload, trace } = stanza
  return new ByteStanza(name, addresses.from ?? stanza.from, to, id, type, lang, child, payload, trace, undefined)
}

/** The same stanza at another place of its trace. */
export function withTrace({ name, from, to, id, type, lang, child, payload }: Stanza, trace: string): Stanza {
  return new ByteStanza(name, from, to, id, type, lang, child, payload, trace, undefined)
}

/** The same on bytes of its own, for whoever keeps it: what arrives is a view of a buffer that is larger, or used again. */
export function copyOf({ name, from, to, id, type, lang, child, payload }: Stanza, trace: string): Stanza {
  return stanzaOfBytes(name, from, to, id, type, lang, child, payload.length === 0 ? EMPTY : new Uint8Array(payload), trace)
}

/** The same head on other children. */
export function withChildren(before: Stanza, children: readonly Element[]): Stanza {
  return stanza(before.name, before.from, before, ...children)
}

/** The same stanza with one child more, behind its own bytes: nothing is parsed or written anew. */
export function withChildBehind(before: Stanza, child: Element): Stanza {
  const { name, from, to, id, type, lang, trace } = before
  const payload = Buffer.concat([before.payload, Buffer.from(serialise(child, NS_CLIENT), 'utf8')])
  return stanzaOfBytes(name, from, to, id, type, lang, before.child || `{${child.ns}}${child.name}`, payload, trace)
}

/** An element. Attributes that are undefined are left out. */
export function el(
  name: string,
  ns: string,
  attrs: Readonly<Record<string, string | undefined>> = {},
  ...children: readonly (Element | string)[]
): Element {
  const kept: Record<string, string> = {}
  for (const key in attrs) {
    const value = attrs[key]
    if (value !== undefined) kept[key] = value
  }
  return { name, ns, attrs: kept, children }
}

/** The child elements of that name and namespace. */
export function childrenOf(parent: Element, name: string, ns: string): Element[] {
  return parent.children.filter((child): child is Element => typeof child !== 'string' && child.name === name && child.ns === ns)
}

/** The first child element of that name and namespace, or undefined. */
export function childOf(parent: Element, name: string, ns: string): Element | undefined {
  for (const child of parent.children) if (typeof child !== 'string' && child.name === name && child.ns === ns) return child
  return undefined
}

/** The first top-level element of that name and namespace in a stanza's tree. Parses the payload. */
export function find(stanza: Stanza, name: string, ns: string): Element | undefined {
  return stanza.tree().find((child) => child.name === name && child.ns === ns)
}

/** The text directly inside an element. */
export function textOf(element: Element): string {
  let text = ''
  for (const child of element.children) if (typeof child === 'string') text += child
  return text
}

/** An attribute's value, '' where it is absent. */
export function attr(element: Element, name: string): string {
  return element.attrs[name] ?? ''
}

/**
 * The root tag as it goes on the wire, open: `<message from='…' to='…' id='…' type='chat' xml:lang='en'`, without
 * its `>` or `/>`. `xmlns` is written where the frame stands alone (RFC 7395 §3.3.3).
 */
export function rootTag(stanza: Stanza, to: string | undefined, xmlns: string): string {
  let tag = `<${stanza.name}`
  if (xmlns !== '') tag += ` xmlns='${xmlns}'`
  if (stanza.from.full !== '') tag += ` from='${escapeAttribute(stanza.from.full)}'`
  if (to !== undefined) tag += ` to='${escapeAttribute(to)}'`
  if (stanza.id !== '') tag += ` id='${escapeAttribute(stanza.id)}'`
  if (stanza.type !== '') tag += ` type='${escapeAttribute(stanza.type)}'`
  if (stanza.lang !== '') tag += ` xml:lang='${escapeAttribute(stanza.lang)}'`
  return tag
}

const EMPTY = new Uint8Array(0)

// For tests: what saxes, a strict parser by other hands, makes of the same XML.
import { SaxesParser } from 'saxes'
import { NS_XML } from './ns.ts'
import type { Element } from './stanza.ts'

/**
 * The root as a tree. Throws Error on what is not namespace-well-formed; a document type counts as such. It trims
 * namespace names, which XML does not: see `trimmed`.
 */
export function oracle(text: string): Element {
  const parser = new SaxesParser({ xmlns: true })
  const open: { element: Element; children: (Element | string)[] }[] = []
  let root: Element | undefined
  const append = (data: string) => {
    const children = open.at(-1)?.children
    if (children === undefined || data === '') return
    const last = children.at(-1)
    if (typeof last === 'string') children[children.length - 1] = last + data
    else children.push(data)
  }
  parser.on('error', (error) => {
    throw error
  })
  parser.on('doctype', () => {
    throw new Error('a document type')
  })
  parser.on('opentag', (tag) => {
    // COMPAT: saxes lets a local part begin with what only may follow (Namespaces in XML 1.0 §3, NCName).
    for (const { local } of [tag, ...Object.values(tag.attributes)]) if (NO_START.test(local)) throw new Error('no local part')
    const attrs: Record<string, string> = {}
    for (const { name, prefix, local, uri, value } of Object.values(tag.attributes)) {
      if (name === 'xmlns' || prefix === 'xmlns') continue
      const key = prefix === '' || name === 'xml:lang' ? name : `{${uri}}${local}`
      Object.defineProperty(attrs, key, { value, enumerable: true, configurable: true, writable: true })
    }
    const children: (Element | string)[] = []
    const element = { name: tag.local, ns: tag.uri, attrs, children }
    open.at(-1)?.children.push(element)
    open.push({ element, children })
  })
  parser.on('text', append)
  parser.on('cdata', append)
  parser.on('closetag', () => {
    root = open.pop()!.element
  })
  parser.write(text).close()
  if (root === undefined) throw new Error('no element')
  return root
}

/** Whether saxes may read a namespace name of this text otherwise than it should. */
export function trimmed(text: string): boolean {
  return /xmlns[^'"]*(?:'(?:\s|&#)|"(?:\s|&#)|'[^']*(?:\s|;)'|"[^"]*(?:\s|;)")/u.test(text)
}

const NO_START = /^(?:[-.\d\u00B7\u203F\u2040]|[\u0300-\u036F])/

/** A tree as text that tells apart whatever XML tells apart; the order of attributes does not matter (XML 1.0 §3.1). */
export function canonical(node: Element | string): string {
  if (typeof node === 'string') return JSON.stringify(node)
  const attrs = Object.keys(node.attrs)
    .sort()
    .map((key) => `${key === `{${NS_XML}}lang` ? 'xml:lang' : key}=${JSON.stringify(node.attrs[key])}`)
  return `({${node.ns}}${node.name} ${attrs.join(' ')} [${node.children.map(canonical).join(',')}])`
}

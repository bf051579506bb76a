// XEP-0115: Entity Capabilities: the hash of what disco#info says.
//
// What is hashed is a list of texts: identities, features and what is in forms, each behind the other. Two answers with the
// same hash have the same list, as long as no text has a `<`, which is what stands between them; but not the same
// features: an identity or the field of a form may be spelled like one. Whoever keeps something by a hash goes by the list.
import { createHash } from 'node:crypto'
import { NS_DATA, NS_DISCO_INFO } from './ns.ts'
import { attr, childrenOf, type Element, textOf } from './stanza.ts'

export const NS_CAPS = 'http://jabber.org/protocol/caps'

/** Hashes that can be checked (§9.1 asks for SHA-1), by their names in the registry of IANA. */
const HASHES: ReadonlyMap<string, string> = new Map([
  ['sha-1', 'sha1'],
  ['sha-256', 'sha256'],
  ['sha-512', 'sha512'],
])

/** Whether a hash of this name can be checked. */
export function isKnownHash(hash: string): boolean {
  return HASHES.has(hash)
}

/**
 * The verification string of what is below a disco#info `<query/>` (§5.1); undefined for a hash we do not know, and for
 * what §5.4 calls ill-formed: an identity, a feature or a form twice.
 */
export function capsHash(info: readonly (Element | string)[], hash = 'sha-1'): string | undefined {
  const parts = capsParts(info)
  return parts === undefined ? undefined : hashOfParts(parts, hash)
}

/** What is hashed, in its order; undefined for what is ill-formed. */
export function capsParts(info: readonly (Element | string)[]): readonly string[] | undefined {
  const query: Element = { name: 'query', ns: NS_DISCO_INFO, attrs: {}, children: info }
  const identities = childrenOf(query, 'identity', NS_DISCO_INFO).map((identity) =>
    ['category', 'type', 'xml:lang', 'name'].map((name) => attr(identity, name)).join('/'),
  )
  const features = childrenOf(query, 'feature', NS_DISCO_INFO).map((feature) => attr(feature, 'var'))
  const forms = formsOf(query)
  if (forms === undefined || hasTwice(identities) || hasTwice(features)) return undefined

  const parts = [...sorted(identities), ...sorted(features)]
  for (const [formType, form] of [...forms].sort(([a], [b]) => byOctets(a, b))) {
    parts.push(formType)
    const fields = childrenOf(form, 'field', NS_DATA).filter((field) => attr(field, 'var') !== 'FORM_TYPE')
    for (const field of fields.sort((a, b) => byOctets(attr(a, 'var'), attr(b, 'var')))) {
      parts.push(attr(field, 'var'), ...sorted(valuesOf(field)))
    }
  }
  return parts
}

/** Undefined for a hash we do not know. */
export function hashOfParts(parts: readonly string[], hash: string): string | undefined {
  const algorithm = HASHES.get(hash)
  if (algorithm === undefined) return undefined
  return createHash(algorithm)
    .update(parts.map((part) => `${part}<`).join(''), 'utf8')
    .digest('base64')
}

/** The forms of XEP-0128 by their FORM_TYPE, those without one passed over; undefined where §5.4 calls them ill-formed. */
function formsOf(query: Element): ReadonlyMap<string, Element> | undefined {
  const forms = new Map<string, Element>()
  for (const form of childrenOf(query, 'x', NS_DATA)) {
    const field = childrenOf(form, 'field', NS_DATA).find((field) => attr(field, 'var') === 'FORM_TYPE')
    if (field === undefined || attr(field, 'type') !== 'hidden') continue
    const [formType, ...others] = new Set(valuesOf(field))
    if (formType === undefined) continue
    if (others.length > 0 || forms.has(formType)) return undefined
    forms.set(formType, form)
  }
  return forms
}

function valuesOf(field: Element): string[] {
  return childrenOf(field, 'value', NS_DATA).map(textOf)
}

function hasTwice(values: readonly string[]): boolean {
  return new Set(values).size < values.length
}

function sorted(values: readonly string[]): readonly string[] {
  return [...values].sort(byOctets)
}

/** The collation i;octet (RFC 4790 §9.3). */
function byOctets(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a, 'utf8'), Buffer.from(b, 'utf8'))
}

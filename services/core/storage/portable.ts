// How what a module stores is written for others to read: XEP-0227, of which each module knows its own part.

import type { Jid } from '#xmpp/jid.ts'
import { NS_CLIENT } from '#xmpp/ns.ts'
import { type Element, rootTag, type Stanza } from '#xmpp/stanza.ts'
import { asBuffer, serialise } from '#xmpp/xml.ts'

export const NS_PORTABLE = 'urn:xmpp:pie:0'

/** One part of an account's export. What no module writes is exported as it is stored (modules/export.ts). */
export interface Portable {
  /** The module's record, map or journal. */
  readonly of: string
  /** The element that stands around all of it; the entries stand alone where there is none. */
  readonly around?: { readonly name: string; readonly ns: string }
  /** One entry as XML, '' for nothing. `id` is the key of a map's entry, the id of a journal's, and '' of a record. */
  write(value: Uint8Array, id: string, account: Jid): string
}

/** A record or a map's entry as its module knows it. */
export function jsonOf<T>(value: Uint8Array): T {
  return JSON.parse(asBuffer(value).toString('utf8')) as T
}

/** An element below one whose default namespace is `around`. */
export function elementText(element: Element, around = NS_PORTABLE): string {
  return serialise(element, around)
}

/** A stanza, whole. */
export function stanzaText(stanza: Stanza): string {
  return `${rootTag(stanza, stanza.to?.full, NS_CLIENT)}>${asBuffer(stanza.payload).toString('utf8')}</${stanza.name}>`
}

// The words of XEP-0060: its namespaces, and the errors that have conditions of their own (§12).
import { type StanzaCondition, StanzaError } from '#xmpp/error.ts'
import { attr, type Element, el } from '#xmpp/stanza.ts'

export const NS_PUBSUB = 'http://jabber.org/protocol/pubsub'
export const NS_OWNER = `${NS_PUBSUB}#owner`
export const NS_EVENT = `${NS_PUBSUB}#event`
const NS_ERRORS = `${NS_PUBSUB}#errors`

/** An error with a condition of XEP-0060 beside that of RFC 6120. */
export function refusal(condition: StanzaCondition, specific: string, text = '', echo = true): StanzaError {
  return new StanzaError(condition, text, { extra: el(specific, NS_ERRORS), echo })
}

export function unsupported(feature: string): StanzaError {
  return new StanzaError('feature-not-implemented', '', { extra: el('unsupported', NS_ERRORS, { feature }) })
}

/** The node that an element names. Throws bad-request where it names none. */
export function nodeOf(element: Element): string {
  const node = attr(element, 'node')
  if (node === '') throw refusal('bad-request', 'nodeid-required')
  return node
}

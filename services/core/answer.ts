// The only place where a StanzaError becomes XML, and where an answer gets its addresses.
import { StanzaError } from '#xmpp/error.ts'
import { bareOf } from '#xmpp/jid.ts'
import { NS_CLIENT, NS_STANZAS } from '#xmpp/ns.ts'
import { type Element, el, type Stanza, stanza, stanzaOfBytes } from '#xmpp/stanza.ts'
import { serialise } from '#xmpp/xml.ts'

/** The answer to an iq: its payload, or nothing (RFC 6120 §8.2.3). */
export function resultOf(iq: Stanza, payload?: Element | void): Stanza {
  const head = { to: iq.from, id: iq.id, type: 'result', trace: iq.trace }
  return payload ? stanza('iq', addressee(iq), head, payload) : stanza('iq', addressee(iq), head)
}

/**
 * The error a stanza is answered with (RFC 6120 §8.3.1), the original children first; undefined where it must not be
 * answered: an error never is (§8.3.1), nor a result (§8.2.3).
 */
export function errorOf(refused: Stanza, error: StanzaError): Stanza | undefined {
  if (refused.type === 'error' || (refused.name === 'iq' && refused.type === 'result')) return undefined
  const { echo } = error
  const own = typeof echo === 'boolean' ? [errorElement(error)] : [echo, errorElement(error)]
  const xml = Buffer.from(serialise(own, NS_CLIENT), 'utf8')
  const payload = echo === true ? Buffer.concat([refused.payload, xml]) : xml
  const child = echo !== false && refused.child !== '' ? refused.child : `{${NS_CLIENT}}error`
  return stanzaOfBytes(refused.name, addressee(refused), refused.from, refused.id, 'error', '', child, payload, refused.trace)
}

/** RFC 6120 §8.3.3.18. What there was no room for is not sent back. */
export function busy(): StanzaError {
  return new StanzaError('resource-constraint', 'too much waits for this account', { type: 'wait', echo: false })
}

/** `<error/>` with its condition, text and application-specific condition (RFC 6120 §8.3.2). */
function errorElement(error: StanzaError): Element {
  const children = [el(error.condition, NS_STANZAS)]
  if (error.text !== '') children.push(el('text', NS_STANZAS, { 'xml:lang': 'en' }, error.text))
  if (error.extra !== undefined) children.push(error.extra)
  return el('error', NS_CLIENT, { code: error.code, type: error.type }, ...children)
}

/** What any failure is to the sender: a StanzaError as it is, everything else internal-server-error. */
export function asStanzaError(error: unknown): StanzaError {
  return error instanceof StanzaError ? error : new StanzaError('internal-server-error')
}

/** Answers come from where the question was sent; without a `to` that is the sender's own account (RFC 6120 §10.3.3). */
function addressee(stanza: Stanza) {
  return stanza.to ?? bareOf(stanza.from)
}

// What RFC 6120 asks of the stanzas that a bound client sends, as far as the edge can tell from their heads.
import { StanzaError, StreamError } from '#xmpp/error.ts'
import { type Jid, NO_JID, parseJid } from '#xmpp/jid.ts'
import { NS_SESSION } from '#xmpp/ns.ts'
import type { ScannedElement } from '#xmpp/scan.ts'
import { type Stanza, type StanzaName, stanza, stanzaOfBytes } from '#xmpp/stanza.ts'

export function isStanzaName(name: string): name is StanzaName {
  return name === 'message' || name === 'presence' || name === 'iq'
}

/**
 * §8.1.2.1: what is stamped is the JID of the session, whatever of its own account the client wrote. Throws StreamError.
 * COMPAT: Converse.js 14 gives itself another resource when it resumes behind a reload of its page, and writes that.
 */
export function checkFrom(from: string | undefined, { bare, full }: Jid): void {
  if (from === undefined || from === full || from === bare) return
  try {
    if (parseJid(from).bare === bare) return
  } catch {}
  throw new StreamError('invalid-from', 'that is not you') // §4.9.3.9
}

/** §4.9.3.24. */
export function unsupported({ ns, name }: ScannedElement): StreamError {
  return new StreamError('unsupported-stanza-type', `{${ns}}${name}`)
}

/** What the client of this session says. Throws StanzaError: bad-request for an iq against §8.2.3, jid-malformed (§8.3.3.8). */
export function stanzaOf(element: ScannedElement, from: Jid, streamLang: string): Stanza {
  const refusal = refusalOf(element)
  if (refusal !== undefined) throw refusal
  const { name, id, type, lang, child, payload } = element
  return stanzaOfBytes(name as StanzaName, from, addresseeOf(element), id, type, lang || streamLang, child, payload)
}

function addresseeOf({ to }: ScannedElement): Jid | undefined {
  if (to === undefined || to === '') return undefined
  try {
    return parseJid(to)
  } catch (error) {
    throw new StanzaError('jid-malformed', (error as Error).message)
  }
}

/** What §8.2.3 asks of an iq. */
function refusalOf(element: ScannedElement): StanzaError | undefined {
  if (element.name !== 'iq') return undefined
  if (element.id === '') return new StanzaError('bad-request', 'an iq has an id')
  switch (element.type) {
    case 'get':
    case 'set':
      return element.childCount === 1
        ? undefined
        : new StanzaError('bad-request', 'an iq of type get or set has exactly one child')
    case 'result':
      return element.childCount <= 1 ? undefined : new StanzaError('bad-request', 'a result has at most one child')
    case 'error':
      return undefined
    default:
      return new StanzaError('bad-request', 'an iq is of type get, set, result or error')
  }
}

/** An answer to the server or to one's own account: to nothing that another entity has asked. */
export function isAnswerToServer({ name, type, to = '' }: ScannedElement): boolean {
  return name === 'iq' && (type === 'result' || type === 'error') && !to.includes('@')
}

const LEGACY_SESSION = `{${NS_SESSION}}session`

/** RFC 3921 §3, to the client's own server: without `to`, or to the host (RFC 6120 §10.3.3, §10.5). */
export function isLegacySession({ name, type, to, child }: Stanza): boolean {
  return (
    child === LEGACY_SESSION && name === 'iq' && type === 'set' && (to === undefined || (to.local === '' && to.resource === ''))
  )
}

/** Old clients ask for a session after the bind; there is nothing to do. */
export function legacyAnswer({ from, id }: Stanza): Stanza {
  return stanza('iq', NO_JID, { to: from, id, type: 'result' })
}

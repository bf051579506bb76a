// The priority of a resource (RFC 6121 §4.7.2.3), by what it has shown: both roles go by it.
import { StanzaError } from '#xmpp/error.ts'
import { NS_CLIENT } from '#xmpp/ns.ts'
import { type Stanza, textOf } from '#xmpp/stanza.ts'

/**
 * The `<priority/>` of a presence, 0 where there is none. Throws bad-request unless it is one whole number from -128
 * to 127 (§4.7.2.3). Parses the payload only if the word is in it.
 *
 * `<show/>` and `<status/>` (§4.7.2.1, §4.7.2.2) are not looked at: the server decides nothing by them, and a value
 * that a client does not know, it takes for plain "available"; to refuse the presence would only hide its sender.
 */
export function priorityOf(presence: Stanza): number {
  const { payload } = presence
  if (payload.length === 0 || !Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength).includes('priority')) return 0
  const found = presence.tree().filter((child) => child.name === 'priority' && child.ns === NS_CLIENT)
  const priority = found[0]
  if (priority === undefined) return 0
  if (found.length > 1) throw new StanzaError('bad-request', 'more than one priority')
  const text = textOf(priority).trim()
  const value = /^[+-]?[0-9]+$/.test(text) ? Number(text) : Number.NaN
  if (!(value >= -128 && value <= 127)) throw new StanzaError('bad-request', 'a priority is a number from -128 to 127')
  return value
}

/** The same of a presence that may have been refused for it: undefined. */
export function knownPriority(presence: Stanza): number | undefined {
  try {
    return priorityOf(presence)
  } catch {
    return undefined
  }
}

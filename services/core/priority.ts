// The priority of a resource (RFC 6121 §4.7.2.3), by what it has shown: both roles go by it.
import { Children } from '#xmpp/children.ts'
import { StanzaError } from '#xmpp/error.ts'
import { NS_CLIENT } from '#xmpp/ns.ts'
import { type Stanza, textOf } from '#xmpp/stanza.ts'
import { asBuffer } from '#xmpp/xml.ts'

/**
 * The `<priority/>` of a presence, 0 where there is none. Throws bad-request unless it is one whole number from -128
 * to 127 (§4.7.2.3). Parses the payload only if it is there and written otherwise than clients do.
 *
 * `<show/>` and `<status/>` (§4.7.2.1, §4.7.2.2) are not looked at: the server decides nothing by them, and a value
 * that a client does not know, it takes for plain "available"; to refuse the presence would only hide its sender.
 */
export function priorityOf(presence: Stanza): number {
  const bytes = asBuffer(presence.payload)
  if (bytes.length === 0 || !bytes.includes(NEEDLE)) return 0
  const plain = plainOf(bytes)
  if (plain >= LOWEST && plain <= HIGHEST) return plain
  const found = presence.tree().filter((child) => child.name === 'priority' && child.ns === NS_CLIENT)
  const priority = found[0]
  if (priority === undefined) return 0
  if (found.length > 1) throw new StanzaError('bad-request', 'more than one priority')
  const text = textOf(priority).trim()
  const value = /^[+-]?[0-9]+$/.test(text) ? Number(text) : Number.NaN
  if (!(value >= LOWEST && value <= HIGHEST)) throw new StanzaError('bad-request', 'a priority is a number from -128 to 127')
  return value
}

/** Of the one child that is `<priority>5</priority>`, and just so; NaN where there is none, or more than one of the name. */
function plainOf(bytes: Buffer): number {
  let value = Number.NaN
  CHILDREN.begin()
  while (CHILDREN.next(bytes)) {
    if (CHILDREN.name !== PRIORITY) continue
    if (!Number.isNaN(value)) return Number.NaN
    const [, digits] = PLAIN.exec(bytes.toString('latin1', CHILDREN.start, CHILDREN.end)) ?? []
    if (digits === undefined) return Number.NaN
    value = Number(digits)
  }
  return value
}

const LOWEST = -128
const HIGHEST = 127
const CHILDREN = new Children()
const NEEDLE = Buffer.from('priority')
const PRIORITY = `{${NS_CLIENT}}priority`
const PLAIN = /^<priority>([+-]?[0-9]+)<\/priority>$/

/** The same of a presence that may have been refused for it: undefined. */
export function knownPriority(presence: Stanza): number | undefined {
  try {
    return priorityOf(presence)
  } catch {
    return undefined
  }
}

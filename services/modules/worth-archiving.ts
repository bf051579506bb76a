// Which messages an archive keeps: XEP-0313 §6.1.1 leaves it to the server, and recommends what is said here.
//
// A message of type chat or normal that says something, in clear or encrypted, or that changes how something said before
// is shown: receipts, markers, reactions, retractions. Not what is over when it is seen, as the state of a chat, nor what
// nobody knows: notifications would fill an archive. What it says about itself (XEP-0334) goes first.
//
// Mostly the first child, which is known without a look inside, says it already; what follows is then only searched for
// a hint that forbids it. A search that finds none is 0.1 µs. Else the children's names are looked at, without a tree.
import { Children } from '#xmpp/children.ts'
import { NS_CLIENT, NS_HINTS, NS_MUC_USER } from '#xmpp/ns.ts'
import type { Stanza } from '#xmpp/stanza.ts'
import { asBuffer } from '#xmpp/xml.ts'

/** As `{ns}name`, a child that makes its message worth keeping. */
const KEPT: ReadonlySet<string> = new Set([
  `{${NS_CLIENT}}body`,
  `{${NS_CLIENT}}subject`,
  '{urn:xmpp:receipts}received', // XEP-0184
  '{urn:xmpp:chat-markers:0}received', // XEP-0333
  '{urn:xmpp:chat-markers:0}displayed',
  '{urn:xmpp:chat-markers:0}acknowledged',
  '{urn:xmpp:message-correct:0}replace', // XEP-0308
  '{urn:xmpp:message-retract:0}retract', // XEP-0424
  '{urn:xmpp:message-retract:1}retract',
  '{urn:xmpp:fasten:0}apply-to', // XEP-0422, of which earlier retractions are made
  '{urn:xmpp:reactions:0}reactions', // XEP-0444
  '{eu.siacs.conversations.axolotl}encrypted', // XEP-0384
  '{urn:xmpp:omemo:1}encrypted',
  '{urn:xmpp:omemo:2}encrypted',
  '{urn:xmpp:openpgp:0}openpgp', // XEP-0373
  '{jabber:x:encrypted}x', // XEP-0027
  '{urn:xmpp:eme:0}encryption', // XEP-0380: whatever else is encrypted
  '{jabber:x:conference}x', // XEP-0249
  ...['propose', 'proceed', 'accept', 'reject', 'retract', 'finish'].flatMap((name) => [
    `{urn:xmpp:jingle-message:0}${name}`, // XEP-0353: who called
    `{urn:xmpp:jingle-message:1}${name}`,
  ]),
])

export function isWorthArchiving(message: Stanza): boolean {
  const { type, payload } = message
  if (type === 'groupchat' || type === 'error') return false // the room keeps the one, XEP-0334 §5 exempts the other
  const bytes = asBuffer(payload)
  const hinted = bytes.indexOf(HINTS) >= 0
  const talks = type !== 'headline'
  if (talks && KEPT.has(message.child) && !(hinted && bytes.indexOf(NOT_STORED) >= 0)) return true
  if (!talks && !hinted) return false
  let worth = false
  CHILDREN.begin()
  while (CHILDREN.next(bytes)) {
    const { name } = CHILDREN
    if (name === NO_STORE || name === NO_PERMANENT_STORE) return false // XEP-0334 §4.1, §4.2
    if (!worth) worth = name === STORE || (talks && (KEPT.has(name) || (name === MUC_USER && isInvitation(message)))) // §4.4
    if (worth && !hinted) return true
  }
  return worth
}

const HINTS = Buffer.from(NS_HINTS)
/** What both hints against it end in. */
const NOT_STORED = Buffer.from('-store')
const STORE = `{${NS_HINTS}}store`
const NO_STORE = `{${NS_HINTS}}no-store`
const NO_PERMANENT_STORE = `{${NS_HINTS}}no-permanent-store`
const MUC_USER = `{${NS_MUC_USER}}x`
const CHILDREN = new Children()

/** XEP-0045 §7.8.2, and what is answered. Other messages through a room have this element, too; none is frequent. */
export function isInvitation(message: Stanza): boolean {
  return message.tree().some(({ name, ns, children }) => {
    if (name !== 'x' || ns !== NS_MUC_USER) return false
    return children.some((child) => typeof child !== 'string' && (child.name === 'invite' || child.name === 'decline'))
  })
}

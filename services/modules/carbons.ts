// XEP-0280: Message Carbons: what one of a user's clients sends or gets, the others that ask for it get a copy of.
//
// Whether a session wants copies is a flag of it, which its edge keeps: it outlives its owner, and its own stream. Whoever is
// not copied to costs a look at the account's sessions; only where one of them wants copies is the message looked into, child
// by child and without a tree, and a copy is its bytes with a frame around them.
//
// Copies go out ahead of the message itself, on other sockets. An archived message is copied with its id in the archive of the
// account, so that a client which reads the archive later knows it again; so is what the account itself has sent.
import { conditionOf, messageType, mostAvailable, nonNegative, verdictOf } from '#core/delivery-rules.ts'
import type { OfflineMessage, Passage } from '#core/hooks.ts'
import { type App, defineModule, type Session } from '#core/module.ts'
import { Children } from '#xmpp/children.ts'
import type { Jid } from '#xmpp/jid.ts'
import { NS_CLIENT, NS_FORWARD, NS_HINTS, NS_MUC_USER } from '#xmpp/ns.ts'
import { rootTag, type Stanza, stanzaOfBytes } from '#xmpp/stanza.ts'
import { asBuffer } from '#xmpp/xml.ts'
import { withStanzaId } from './stanza-id.ts'
import { isInvitation } from './worth-archiving.ts'

const NS = 'urn:xmpp:carbons:2'
/** Set on a session that wants copies. */
export const CARBONS = 'carbons'

/** The part of mam.ts that is needed here. */
interface Archives {
  keepsSent(message: Stanza, passage: Pick<Passage, 'account' | 'peer'>): boolean
}

export default defineModule({
  name: 'carbons',
  home: 'router',
  xeps: [
    { number: '0280', version: '1.0.1', status: 'partial' }, // an error is copied by what it repeats, not by what it answers
    { number: '0297', version: '1.0', status: 'partial' },
    { number: '0334', version: '1.0.0', status: 'partial' },
  ],
  features: { host: [NS] }, // §3; without urn:xmpp:carbons:rules:0, which promises all of §6.1
  namespaces: [NS],
  bindFlags: { [`{${NS}}enable`]: CARBONS }, // XEP-0386 §3.2

  setup(app) {
    if (app.role !== 'router') return
    const copies = new Copies(app as App, app.needNamed<Archives | undefined>('mam'))
    app.iq('set', NS, 'enable', 'self', ({ session }) => session?.set(CARBONS)) // §4, however often (§9.1)
    app.iq('set', NS, 'disable', 'self', ({ session }) => session?.unset(CARBONS)) // §5
    app.copy('outbound', (stanza, passage) => copies.sent(stanza, passage))
    app.copy('inbound', (stanza, passage) => copies.received(stanza, passage))
    app.on('message.unclaimed', (message) => copies.vouch(message))
  },
})

class Copies {
  readonly #app: App
  readonly #archives: Archives | undefined

  constructor(app: App, archives: Archives | undefined) {
    this.#app = app
    this.#archives = archives
  }

  /** §8: to all but the client it comes from. What one writes to oneself is copied as it is received. */
  sent(message: Stanza, passage: Passage): void {
    const { account, peer } = passage
    if (message.name !== 'message' || peer.bare === account.bare) return
    const sessions = this.#app.sessions(account)
    if (!isWanted(sessions, message.from) || !isEligible(message, 'sent')) return
    const known = this.#archives?.keepsSent(message, passage) === true ? withStanzaId(message, passage) : message
    this.#send('sent', known, account, sessions, isAt(message.from))
  }

  /** §7: to all that it does not go to by RFC 6121 §8.5.3. */
  received(message: Stanza, { account }: Passage): void {
    if (message.name !== 'message') return
    const sessions = this.#app.sessions(account)
    if (!isWanted(sessions, message.from) || !isEligible(message, 'received')) return
    const takers = takersOf(message, sessions)
    const hasIt = (session: Session): boolean => takers.includes(session) || session.jid.full === message.from.full
    this.#send('received', message, account, sessions, hasIt)
  }

  /** Nobody has the address it was sent to, and others have got it: it has arrived. */
  vouch(message: OfflineMessage): void {
    const { stanza, account, returned } = message
    if (!returned && isWanted(this.#app.sessions(account), stanza.from) && isEligible(stanza, 'received')) message.kept = true
  }

  #send(
    direction: Direction,
    message: Stanza,
    account: Jid,
    sessions: readonly Session[],
    hasIt: (session: Session) => boolean,
  ): void {
    let payload: Uint8Array | undefined
    for (const session of sessions) {
      if (!session.has(CARBONS) || hasIt(session)) continue
      payload ??= framed(direction, message)
      const { type, trace } = message
      this.#app.push(session, stanzaOfBytes('message', account, session.jid, '', type, '', `{${NS}}${direction}`, payload, trace))
    }
  }
}

type Direction = 'sent' | 'received'

function isAt(jid: Jid): (session: Session) => boolean {
  return (session) => session.jid.full === jid.full
}

/** Whether a session that is not the sender wants copies. Most accounts have one session, and so nobody who does. */
function isWanted(sessions: readonly Session[], sender: Jid): boolean {
  for (const session of sessions) if (session.has(CARBONS) && session.jid.full !== sender.full) return true
  return false
}

/** Which sessions the message itself goes to. */
function takersOf(message: Stanza, sessions: readonly Session[]): readonly Session[] {
  const resource = message.to?.resource ?? ''
  const match = resource === '' ? undefined : sessions.findLast(({ jid }) => jid.resource === resource)
  if (match !== undefined) return [match]
  const verdict = verdictOf(conditionOf(sessions), resource === '' ? 'bare' : 'full, no match', messageType(message.type))
  if (verdict === 'most available') return mostAvailable(sessions)
  return verdict === 'all' ? nonNegative(sessions) : []
}

/** XEP-0297 §3, as the example of §7 shows it. */
function framed(direction: Direction, message: Stanza): Uint8Array {
  const head = `<${direction} xmlns='${NS}'><forwarded xmlns='${NS_FORWARD}'>${rootTag(message, message.to?.full, NS_CLIENT)}>`
  return Buffer.concat([Buffer.from(head), message.payload, Buffer.from(`</message></forwarded></${direction}>`)])
}

// --- what is copied --------------------------------------------------------------------------------------------------

const CHILDREN = new Children()
const BODY = `{${NS_CLIENT}}body`
const MUC_USER = `{${NS_MUC_USER}}x`
/** §9: not to be copied. Either is enough (XEP-0334 §4.3). */
const PRIVATE: ReadonlySet<string> = new Set([`{${NS}}private`, `{${NS_HINTS}}no-copy`])
/** Copies themselves, of others or forged, are not copied again. */
const COPIED: ReadonlySet<string> = new Set([`{${NS}}sent`, `{${NS}}received`])
/** §6.1: "payload elements typically used in IM", and invitations (XEP-0249). */
const PAYLOADS: ReadonlySet<string> = new Set([
  '{jabber:x:conference}x',
  '{urn:xmpp:receipts}request', // XEP-0184
  '{urn:xmpp:receipts}received',
  ...['active', 'composing', 'paused', 'inactive', 'gone'].map((state) => `{http://jabber.org/protocol/chatstates}${state}`),
  ...['markable', 'received', 'displayed', 'acknowledged'].map((marker) => `{urn:xmpp:chat-markers:0}${marker}`),
  '{urn:xmpp:message-correct:0}replace', // XEP-0308
  '{urn:xmpp:message-retract:0}retract', // XEP-0424
  '{urn:xmpp:message-retract:1}retract',
  '{urn:xmpp:fasten:0}apply-to',
  '{urn:xmpp:reactions:0}reactions', // XEP-0444
  '{eu.siacs.conversations.axolotl}encrypted', // XEP-0384
  '{urn:xmpp:omemo:1}encrypted',
  '{urn:xmpp:omemo:2}encrypted',
  '{urn:xmpp:openpgp:0}openpgp', // XEP-0373
  ...['propose', 'ringing', 'proceed', 'accept', 'reject', 'retract', 'finish'].flatMap((name) => [
    `{urn:xmpp:jingle-message:0}${name}`, // XEP-0353: what rings on one device stops ringing on the others
    `{urn:xmpp:jingle-message:1}${name}`,
  ]),
])

/**
 * §6.1. An error is copied if what it repeats of the message it answers (RFC 6120 §8.3.1) is of this kind. What comes from an
 * occupant of a room comes to every client that is in the room, but for invitations; what goes to one, does not.
 */
export function isEligible(message: Stanza, direction: Direction): boolean {
  const { type } = message
  if (type === 'groupchat') return false
  let eligible = type === 'chat'
  let room = false
  const bytes = asBuffer(message.payload)
  CHILDREN.begin()
  while (CHILDREN.next(bytes)) {
    const { name } = CHILDREN
    if (PRIVATE.has(name) || COPIED.has(name)) return false
    if (name === MUC_USER) room = true
    else if (PAYLOADS.has(name) || (name === BODY && type !== 'headline')) eligible = true
  }
  if (!room) return eligible
  return isInvitation(message) || (eligible && direction === 'sent')
}

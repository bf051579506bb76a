// RFC 6121 §3 and Appendix A: who may see whom, and what a subscription stanza changes.
//
// A contact is in one of nine states. Appendix A says, for each stanza and state, whether the stanza goes on and
// what the state is afterwards; the tables below are those of the appendix, cell by cell, and all the rest of the
// file turns a roster item into a state and a state back into a roster item.
import { StanzaError } from '#xmpp/error.ts'
import { type Jid, parseJid } from '#xmpp/jid.ts'
import { type Stanza, stanzaOfBytes } from '#xmpp/stanza.ts'
import { newItem, type PendingRequest, type RosterItem, type Subscription } from './roster/roster-item.ts'

export type SubscriptionType = 'subscribe' | 'unsubscribe' | 'subscribed' | 'unsubscribed'

/** Appendix A.1, by the names it gives them, from the account's point of view. */
export type SubscriptionState =
  | 'None'
  | 'None + Pending Out'
  | 'None + Pending In'
  | 'None + Pending Out+In'
  | 'To'
  | 'To + Pending In'
  | 'From'
  | 'From + Pending Out'
  | 'Both'

/**
 * What must follow, of presence, to the contact's bare JID: the current presence of each available resource, or
 * `unavailable` from each.
 */
export type PresenceDuty = 'send-presence' | 'send-unavailable'

export interface Change {
  /** The contact's row afterwards; undefined: none. The very item that was given where there is nothing to write. */
  readonly after: RosterItem | undefined
  /** A roster push of `after` is owed to every interested resource (§2.1.6), and a new version. Never for a hidden item. */
  readonly push: boolean
  readonly presence?: PresenceDuty | undefined
}

export interface OutboundChange extends Change {
  /** The stanza goes on to the contact, from and to bare JIDs (§3.1.2). */
  readonly route: boolean
}

export interface InboundChange extends Change {
  /** The stanza is shown: `subscribe` to available resources (§3.1.3), the others to interested ones (§3.1.6, §3.2.3, §3.3.3). */
  readonly deliver: boolean
  /** To be sent to the contact from the account's bare JID, in the account's name (§3.1.3, §3.4). */
  readonly autoReply?: 'subscribed' | undefined
}

export interface Farewell {
  /** To be sent to the contact, in this order, from the account's bare JID. */
  readonly types: readonly ('unsubscribe' | 'unsubscribed')[]
  readonly presence?: PresenceDuty | undefined
}

export function isSubscriptionType(type: string): type is SubscriptionType {
  return type === 'subscribe' || type === 'unsubscribe' || type === 'subscribed' || type === 'unsubscribed'
}

/** Appendix A.1. No row, and a row that says nothing, are both "None". */
export function stateOf(item: RosterItem | undefined): SubscriptionState {
  if (item === undefined) return 'None'
  const pendingIn = item.pendingIn !== undefined
  if (item.subscription === 'both') return 'Both'
  if (item.subscription === 'from') return item.ask ? 'From + Pending Out' : 'From'
  if (item.subscription === 'to') return pendingIn ? 'To + Pending In' : 'To'
  if (item.ask) return pendingIn ? 'None + Pending Out+In' : 'None + Pending Out'
  return pendingIn ? 'None + Pending In' : 'None'
}

/** The contact may see the account's presence: broadcasts (§4.2.2), answers to probes (§4.3.2). */
export function seenBy(item: RosterItem | undefined): boolean {
  return item !== undefined && (item.subscription === 'from' || item.subscription === 'both')
}

/** The account may see the contact's presence. */
export function sees(item: RosterItem | undefined): boolean {
  return item !== undefined && (item.subscription === 'to' || item.subscription === 'both')
}

/**
 * The account sends a subscription stanza (§3.1.2, §3.1.5, §3.2.2, §3.3.2; §3.4.2 for what `subscribed` does before
 * they ask). On 'send-unavailable', the presence goes before the stanza, which ends the right to be sent it.
 *
 * `unsubscribed` takes back an approval in every state, not only where A.2.4 [1] says so: else the contact whom the
 * user has just refused would let himself in again.
 * @param contact the bare JID, prepared; needed where there is no row yet
 */
export function outbound(before: RosterItem | undefined, contact: string, type: SubscriptionType): OutboundChange {
  const [verdict, state, note] = OUTBOUND[type][stateOf(before)]
  const kept = type !== 'unsubscribed' && (before?.approved ?? false)
  const after = itemIn(state, before, contact, note === 'pre-approve' || kept, undefined)
  return {
    after,
    route: verdict === 'MUST',
    push: differs(before, after),
    presence: note === 'send-presence' || note === 'send-unavailable' ? note : undefined,
  }
}

/**
 * A subscription stanza arrives from a contact (§3.1.3, §3.1.6, §3.2.3, §3.3.3). A request that is repeated is not
 * delivered again at once; the first one is kept. A contact who asks for what he has is told `subscribed`, and
 * given the presence, which he seems to have lost.
 * @param contact the sender's bare JID, prepared
 * @param request what to keep of a `subscribe`, from `pendingOf`
 */
export function inbound(
  before: RosterItem | undefined,
  contact: string,
  type: SubscriptionType,
  request: PendingRequest = NO_CONTENT,
): InboundChange {
  const existing = stateOf(before)
  const approved = before?.approved ?? false
  const cell = type === 'subscribe' && approved ? PRE_APPROVED[existing] : undefined
  const [verdict, state, note] = cell ?? INBOUND[type][existing]
  const after = itemIn(state, before, contact, approved, request)
  return {
    after,
    deliver: verdict === 'MUST',
    push: differs(before, after),
    autoReply: note === 'auto-reply' ? 'subscribed' : undefined,
    presence: note === 'auto-reply' ? 'send-presence' : note,
  }
}

/**
 * A roster set with 'remove' (§2.5.2): the row goes, a push says so, and this is owed to the contact. What is
 * pending is answered too: a request of his is denied. Throws item-not-found (§2.5.3), also for a hidden row.
 */
export function remove(item: RosterItem | undefined): Farewell {
  if (item === undefined || !item.inRoster) throw new StanzaError('item-not-found')
  return farewell(item)
}

/** What is owed to a contact whose row goes, for one removal (§2.5.2) as when the whole account is deleted (XEP-0077 §3.2). */
export function farewell(item: RosterItem): Farewell {
  const types: ('unsubscribe' | 'unsubscribed')[] = []
  if (sees(item) || item.ask) types.push('unsubscribe')
  if (seenBy(item) || item.pendingIn !== undefined) types.push('unsubscribed')
  return { types, presence: seenBy(item) ? 'send-unavailable' : undefined }
}

/** The requests that wait for an answer, as they came: to be delivered to each resource that becomes available (§3.1.3). */
export function pendingRequests(account: Jid, items: Iterable<RosterItem>): Stanza[] {
  const requests: Stanza[] = []
  for (const { jid, pendingIn } of items) {
    if (pendingIn === undefined) continue
    const { id, lang, child, payload } = pendingIn
    requests.push(stanzaOfBytes('presence', parseJid(jid), account, id, 'subscribe', lang, child, Buffer.from(payload, 'utf8')))
  }
  return requests
}

const NO_CONTENT: PendingRequest = { id: '', lang: '', child: '', payload: '' }

/** Appendix A's columns: whether to route or deliver, and the new state; then what its sections add. */
type Table<Note> = Readonly<Record<SubscriptionState, readonly ['MUST' | 'MUST NOT', SubscriptionState, Note?]>>

// biome-ignore format: a table
const OUTBOUND: Readonly<Record<SubscriptionType, Table<'pre-approve' | PresenceDuty>>> = {
  subscribe: { // A.2.1
    // existing state          route       new state
    'None':                  ['MUST',     'None + Pending Out'],
    'None + Pending Out':    ['MUST',     'None + Pending Out'],
    'None + Pending In':     ['MUST',     'None + Pending Out+In'],
    'None + Pending Out+In': ['MUST',     'None + Pending Out+In'],
    'To':                    ['MUST',     'To'],
    'To + Pending In':       ['MUST',     'To + Pending In'],
    'From':                  ['MUST',     'From + Pending Out'],
    'From + Pending Out':    ['MUST',     'From + Pending Out'],
    'Both':                  ['MUST',     'Both'],
  },
  unsubscribe: { // A.2.2
    'None':                  ['MUST',     'None'],
    'None + Pending Out':    ['MUST',     'None'],
    'None + Pending In':     ['MUST',     'None + Pending In'],
    'None + Pending Out+In': ['MUST',     'None + Pending In'],
    'To':                    ['MUST',     'None'],
    'To + Pending In':       ['MUST',     'None + Pending In'],
    'From':                  ['MUST',     'From'],
    'From + Pending Out':    ['MUST',     'From'],
    'Both':                  ['MUST',     'From'],
  },
  subscribed: { // A.2.3; pre-approval §3.4.2; presence §3.1.5
    'None':                  ['MUST NOT', 'None',                  'pre-approve'],
    'None + Pending Out':    ['MUST NOT', 'None + Pending Out',    'pre-approve'],
    'None + Pending In':     ['MUST',     'From',                  'send-presence'],
    'None + Pending Out+In': ['MUST',     'From + Pending Out',    'send-presence'],
    'To':                    ['MUST NOT', 'To',                    'pre-approve'],
    'To + Pending In':       ['MUST',     'Both',                  'send-presence'],
    'From':                  ['MUST NOT', 'From'],
    'From + Pending Out':    ['MUST NOT', 'From + Pending Out'],
    'Both':                  ['MUST NOT', 'Both'],
  },
  unsubscribed: { // A.2.4; presence §3.2.2
    'None':                  ['MUST NOT', 'None'],
    'None + Pending Out':    ['MUST NOT', 'None + Pending Out'],
    'None + Pending In':     ['MUST',     'None'],
    'None + Pending Out+In': ['MUST',     'None + Pending Out'],
    'To':                    ['MUST NOT', 'To'],
    'To + Pending In':       ['MUST',     'To'],
    'From':                  ['MUST',     'None',                  'send-unavailable'],
    'From + Pending Out':    ['MUST',     'None + Pending Out',    'send-unavailable'],
    'Both':                  ['MUST',     'To',                    'send-unavailable'],
  },
}

// biome-ignore format: a table
const INBOUND: Readonly<Record<SubscriptionType, Table<'auto-reply' | 'send-unavailable'>>> = {
  subscribe: { // A.3.1
    // existing state          deliver     new state
    'None':                  ['MUST',     'None + Pending In'],
    'None + Pending Out':    ['MUST',     'None + Pending Out+In'],
    'None + Pending In':     ['MUST NOT', 'None + Pending In'],
    'None + Pending Out+In': ['MUST NOT', 'None + Pending Out+In'],
    'To':                    ['MUST',     'To + Pending In'],
    'To + Pending In':       ['MUST NOT', 'To + Pending In'],
    'From':                  ['MUST NOT', 'From',                  'auto-reply'],
    'From + Pending Out':    ['MUST NOT', 'From + Pending Out',    'auto-reply'],
    'Both':                  ['MUST NOT', 'Both',                  'auto-reply'],
  },
  unsubscribe: { // A.3.2; presence §3.3.3
    'None':                  ['MUST NOT', 'None'],
    'None + Pending Out':    ['MUST NOT', 'None + Pending Out'],
    'None + Pending In':     ['MUST',     'None'],
    'None + Pending Out+In': ['MUST',     'None + Pending Out'],
    'To':                    ['MUST NOT', 'To'],
    'To + Pending In':       ['MUST',     'To'],
    'From':                  ['MUST',     'None',                  'send-unavailable'],
    'From + Pending Out':    ['MUST',     'None + Pending Out',    'send-unavailable'],
    'Both':                  ['MUST',     'To',                    'send-unavailable'],
  },
  subscribed: { // A.3.3
    'None':                  ['MUST NOT', 'None'],
    'None + Pending Out':    ['MUST',     'To'],
    'None + Pending In':     ['MUST NOT', 'None + Pending In'],
    'None + Pending Out+In': ['MUST',     'To + Pending In'],
    'To':                    ['MUST NOT', 'To'],
    'To + Pending In':       ['MUST NOT', 'To + Pending In'],
    'From':                  ['MUST NOT', 'From'],
    'From + Pending Out':    ['MUST',     'Both'],
    'Both':                  ['MUST NOT', 'Both'],
  },
  unsubscribed: { // A.3.4
    'None':                  ['MUST NOT', 'None'],
    'None + Pending Out':    ['MUST',     'None'],
    'None + Pending In':     ['MUST NOT', 'None + Pending In'],
    'None + Pending Out+In': ['MUST',     'None + Pending In'],
    'To':                    ['MUST',     'None'],
    'To + Pending In':       ['MUST',     'None + Pending In'],
    'From':                  ['MUST NOT', 'From'],
    'From + Pending Out':    ['MUST',     'From'],
    'Both':                  ['MUST',     'From'],
  },
}

/** In place of A.3.1's rows for a contact who was approved before he asked (§3.4): answered for the user, and not shown. */
// biome-ignore format: a table
const PRE_APPROVED: Partial<Table<'auto-reply'>> = {
  'None':                    ['MUST NOT', 'From',                  'auto-reply'],
  'None + Pending Out':      ['MUST NOT', 'From + Pending Out',    'auto-reply'],
  'To':                      ['MUST NOT', 'Both',                  'auto-reply'],
}

// biome-ignore format: a table
const FIELDS: Readonly<Record<SubscriptionState, readonly [subscription: Subscription, ask: boolean, pendingIn: boolean]>> = {
  'None':                  ['none', false, false],
  'None + Pending Out':    ['none', true,  false],
  'None + Pending In':     ['none', false, true],
  'None + Pending Out+In': ['none', true,  true],
  'To':                    ['to',   false, false],
  'To + Pending In':       ['to',   false, true],
  'From':                  ['from', false, false],
  'From + Pending Out':    ['from', true,  false],
  'Both':                  ['both', false, false],
}

/**
 * The row for a contact in that state. A request that is already kept stays the one that is kept. A contact comes
 * into the roster with the first thing the user does about him, and not by what he does (§3.1.3); a row that would
 * say nothing is no row.
 */
function itemIn(
  state: SubscriptionState,
  before: RosterItem | undefined,
  contact: string,
  approved: boolean,
  request: PendingRequest | undefined,
): RosterItem | undefined {
  const [subscription, ask, pending] = FIELDS[state]
  const { jid, name, groups, inRoster, pendingIn } = before ?? newItem(contact)
  const shown = inRoster || subscription !== 'none' || ask || approved
  if (!shown && !pending) return undefined
  const after = { jid, name, groups, subscription, ask, approved, inRoster: shown }
  const kept = pending ? (pendingIn ?? request) : undefined
  const item: RosterItem = kept === undefined ? after : { ...after, pendingIn: kept }
  return before !== undefined && !differs(before, item) && before.pendingIn === kept ? before : item
}

/** Whether a client sees another item, or now sees one. */
function differs(before: RosterItem | undefined, after: RosterItem | undefined): boolean {
  if (after === undefined || !after.inRoster) return false
  if (before === undefined || !before.inRoster) return true
  return before.subscription !== after.subscription || before.ask !== after.ask || before.approved !== after.approved
}

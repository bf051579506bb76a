// RFC 6121 §2: a roster item as it is stored, as it is on the wire, and which version of the roster has it.
//
// A contact is one row of the account's map, and the version one small record beside it: a counter, and the latest
// changes as (contact, counter), bounded. Whoever has an older version is told what became of the contacts that
// changed since; a contact that is gone is in the list like any other, so that its removal arrives too. A change
// writes the version no later than the row: what is told twice does no harm, what is never told does.
import { RESULT_BYTES_MAX } from '#core/iq.ts'
import { StanzaError } from '#xmpp/error.ts'
import { type Jid, JidError, parseJid } from '#xmpp/jid.ts'
import { NS_ROSTER } from '#xmpp/ns.ts'
import { attr, childrenOf, type Element, el, type Stanza, textOf } from '#xmpp/stanza.ts'
import { own } from '#xmpp/strings.ts'
import { serialise } from '#xmpp/xml.ts'

export type Subscription = 'none' | 'to' | 'from' | 'both'

/** What is kept of a subscription request (RFC 6121 §3.1.3: "the complete presence stanza"); its addresses are known. */
export interface PendingRequest {
  readonly id: string
  readonly lang: string
  /** The first child element as `{ns}name`, as in `Stanza`. */
  readonly child: string
  /** The children as text. '' is a request without any. */
  readonly payload: string
}

/** Plain JSON: it can be stored as it is. */
export interface RosterItem {
  /** A bare JID in prepared form: subscriptions are between bare JIDs (§3.1.2). */
  readonly jid: string
  /** '' for none. */
  readonly name: string
  readonly groups: readonly string[]
  readonly subscription: Subscription
  /** Pending out: a request of ours has not been answered (§2.1.2.2). */
  readonly ask: boolean
  /** Approved before they asked (§2.1.2.1, §3.4). */
  readonly approved: boolean
  /** Pending in: the contact's request, until we answer it (§3.1.3). Never shown in the roster. */
  readonly pendingIn?: PendingRequest | undefined
  /** false: only a pending request, which "MUST NOT" be in the roster the client sees (§3.1.3, Appendix A.1 "None + Pending In"). */
  readonly inRoster: boolean
}

/** Bounds on what an account stores; lengths are of the UTF-8 text. */
export interface RosterLimits {
  readonly itemsMax: number
  /** Of the roster as it is sent, in XML: it goes over the bus in one body, which takes 1 MiB. */
  readonly rosterBytesMax: number
  readonly groupsMax: number
  readonly nameBytesMax: number
  readonly groupBytesMax: number
  /** Requests from strangers. */
  readonly pendingMax: number
  readonly pendingBytesMax: number
}

export const ROSTER_LIMITS: RosterLimits = {
  itemsMax: 5_000,
  rosterBytesMax: 600_000,
  groupsMax: 32,
  nameBytesMax: 1_023,
  groupBytesMax: 1_023,
  pendingMax: 1_000,
  pendingBytesMax: 2_048,
}

export type RosterSet =
  | { readonly kind: 'update'; readonly jid: string; readonly name: string; readonly groups: readonly string[] }
  | { readonly kind: 'remove'; readonly jid: string }

/** A contact of whom nothing is known yet, and whom the client does not see. */
export function newItem(jid: string): RosterItem {
  return { jid, name: '', groups: [], subscription: 'none', ask: false, approved: false, inRoster: false }
}

/** `<item/>` of a result or a push (§2.1.2). Only for items that are in the roster. */
export function itemElement(item: RosterItem): Element {
  return el(
    'item',
    NS_ROSTER,
    {
      jid: item.jid,
      name: item.name === '' ? undefined : item.name,
      subscription: item.subscription,
      ask: item.ask ? 'subscribe' : undefined,
      approved: item.approved ? 'true' : undefined,
    },
    ...item.groups.map((group) => el('group', NS_ROSTER, {}, group)),
  )
}

/** The whole roster (§2.2), without what is hidden. `ver` is left out for a client that did not ask by version. */
export function rosterElement(items: Iterable<RosterItem>, ver?: string): Element {
  const seen: Element[] = []
  for (const item of items) if (item.inRoster) seen.push(itemElement(item))
  return el('query', NS_ROSTER, { ver }, ...seen)
}

/**
 * As much of a roster as one answer may have, and the items that are left for pushes. One of the account's own items
 * alone always fits (`rosterBytesMax`): it is what groups give that may be more.
 */
export function divideRoster(
  items: Iterable<RosterItem>,
  bytesMax = RESULT_BYTES_MAX - AROUND_BYTES,
): readonly [RosterItem[], RosterItem[]] {
  const first: RosterItem[] = []
  const rest: RosterItem[] = []
  let bytes = 0
  for (const item of items) {
    if (!item.inRoster) continue
    bytes += bytesOf(item)
    if (bytes <= bytesMax) first.push(item)
    else rest.push(item)
  }
  return [first, rest]
}

/** `<query/>` and its version. */
const AROUND_BYTES = 1_000

/** The payload of a roster push (§2.1.6): the item as it is now, or its removal if there is none that may be seen. */
export function pushElement(jid: string, item: RosterItem | undefined, ver: string): Element {
  const shown = item?.inRoster ? itemElement(item) : el('item', NS_ROSTER, { jid, subscription: 'remove' })
  return el('query', NS_ROSTER, { ver }, shown)
}

/**
 * Reads a roster set (§2.3.1, §2.5.1). Whatever it says of `ask`, `approved` or `subscription` other than 'remove' is
 * ignored (§2.1.2). Throws what §2.3.3 names: bad-request (not one item, no jid, a group named twice), not-acceptable
 * (a group of no length, a name or group that is too long, too many groups); and jid-malformed.
 *
 * A JID with a resource is refused as bad-request, as Prosody does: it could never get a subscription, since §3.1.2
 * strips the resource. To add oneself is not-allowed: one's own resources see each other without (§4.2.2).
 */
export function parseRosterSet(query: Element, account: Jid, limits: RosterLimits = ROSTER_LIMITS): RosterSet {
  const items = childrenOf(query, 'item', NS_ROSTER)
  const item = items[0]
  if (item === undefined || items.length > 1) throw new StanzaError('bad-request', 'a roster set has exactly one item') // §2.3.3
  const jid = contactOf(attr(item, 'jid'))
  if (attr(item, 'subscription') === 'remove') return { kind: 'remove', jid }
  if (jid === account.bare) throw new StanzaError('not-allowed', 'you cannot be in your own roster')
  const name = attr(item, 'name')
  if (Buffer.byteLength(name) > limits.nameBytesMax) throw new StanzaError('not-acceptable', 'the name is too long') // §2.3.3
  return { kind: 'update', jid, name: own(name), groups: groupsOf(item, limits) } // it is kept, and the stanza is not
}

/** What a roster set makes of a contact: name and groups are replaced, the subscription stays (§2.3.2, §2.4.2). */
export function updateItem(before: RosterItem | undefined, { jid, name, groups }: RosterSet & { kind: 'update' }): RosterItem {
  return { ...(before ?? newItem(jid)), name, groups, inRoster: true }
}

/**
 * Throws resource-constraint where there is no room to turn `before` into `after`: in what the client sees, or among the
 * requests of strangers. What makes nothing larger always has room. Linear in the roster where something does: an
 * addition an item, of numbers that are known.
 */
export function demandRoom(
  items: ReadonlyMap<string, RosterItem>,
  before: RosterItem | undefined,
  after: RosterItem | undefined,
  limits: RosterLimits = ROSTER_LIMITS,
): void {
  if (after === undefined) return
  const isNew = before === undefined || before.inRoster !== after.inRoster
  const bytesMore = after.inRoster ? bytesOf(after) - (isNew ? 0 : bytesOf(before)) : 0
  if (!isNew && bytesMore <= 0) return
  let count = isNew ? 1 : 0
  let bytes = bytesMore
  for (const item of items.values()) {
    if (item.inRoster !== after.inRoster) continue
    count++
    if (item.inRoster) bytes += bytesOf(item)
  }
  if (after.inRoster && (count > limits.itemsMax || bytes > limits.rosterBytesMax))
    throw new StanzaError('resource-constraint', 'the roster is full')
  if (!after.inRoster && count > limits.pendingMax) throw new StanzaError('resource-constraint', 'too many requests are pending')
}

/** Items never change: each is counted once. */
const BYTES = new WeakMap<RosterItem, number>()

/** What an item takes in the roster as it is sent, at its longest: no change of a subscription makes it larger. */
function bytesOf(item: RosterItem): number {
  const known = BYTES.get(item)
  if (known !== undefined) return known
  const longest = itemElement({ ...item, subscription: 'none', ask: true, approved: true })
  const bytes = Buffer.byteLength(serialise(longest, NS_ROSTER))
  BYTES.set(item, bytes)
  return bytes
}

/**
 * What is kept of an inbound request (§3.1.3). One that is over `pendingBytesMax` is kept without its content: a
 * stranger may ask, but not fill the table. Those online have seen it whole.
 */
export function pendingOf(stanza: Stanza, limits: RosterLimits = ROSTER_LIMITS): PendingRequest {
  const { id, lang, child, payload } = stanza
  if (payload.length > limits.pendingBytesMax) return { id, lang, child: '', payload: '' }
  return { id, lang, child, payload: Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength).toString('utf8') }
}

// Versions (§2.6).

/** Changes a version remembers. A client that is further behind gets the whole roster. */
export const VERSION_TAIL_MAX = 120
/** The same in characters of JIDs, which may be 2 kB each: the version is written with every change. */
export const VERSION_TAIL_CHARS_MAX = 8_192

/** Plain JSON. The token on the wire is `<epoch>.<n>`, and `<epoch>.<n>.<groups>` where groups of the domain give contacts. */
export interface RosterVersion {
  /** Random, made with the account: a later account of the same name does not know the tokens of the earlier. */
  readonly epoch: string
  /** How many changes there have been. */
  readonly n: number
  /** The tail has every change after this one. */
  readonly floor: number
  /** Each contact at its latest change, oldest first. */
  readonly tail: readonly (readonly [jid: string, n: number])[]
}

export type RosterAnswer =
  | { readonly kind: 'current' }
  | { readonly kind: 'changes'; readonly pushes: readonly Element[] }
  | { readonly kind: 'full'; readonly query: Element }

export function firstVersion(epoch: string): RosterVersion {
  return { epoch, n: 0, floor: 0, tail: [] }
}

/** The version after a change that the client may see: one per roster push, and none without. */
export function nextVersion(version: RosterVersion, jid: string): RosterVersion {
  const n = version.n + 1
  const tail = version.tail.filter(([changed]) => changed !== jid)
  tail.push([jid, n])
  let { floor } = version
  let chars = 0
  for (const [changed] of tail) chars += changed.length
  while (tail.length > VERSION_TAIL_MAX || (chars > VERSION_TAIL_CHARS_MAX && tail.length > 1)) {
    const [dropped, change] = tail.shift()!
    chars -= dropped.length
    floor = change
  }
  return { epoch: version.epoch, n, floor, tail }
}

/** @param groups what stands for those of the domain, '' for none */
export function tokenOf(version: RosterVersion, n = version.n, groups = ''): string {
  return `${version.epoch}.${n}${suffixOf(groups)}`
}

function suffixOf(groups: string): string {
  return groups === '' ? '' : `.${groups}`
}

/**
 * Answers a roster get (§2.2, §2.6.3). 'current' is an empty result; 'changes' is an empty result followed by these
 * pushes, in order, whose last token is the current one; 'full' is the roster, also for a token that is not of ours.
 * @param ver the attribute as the client sent it: undefined for none (then no token is given back), '' for "nothing yet"
 * @param groups stands for what groups of the domain give (core/groups/groups.ts), behind the token; where that is another, all is given anew
 */
export function answerFor(
  ver: string | undefined,
  version: RosterVersion,
  items: ReadonlyMap<string, RosterItem>,
  groups = '',
): RosterAnswer {
  if (ver === undefined) return { kind: 'full', query: rosterElement(items.values()) }
  const n = ver.endsWith(suffixOf(groups)) ? changeOf(ver.slice(0, ver.length - suffixOf(groups).length), version) : undefined
  if (n === version.n) return { kind: 'current' }
  const changes = n === undefined || n < version.floor ? undefined : version.tail.filter(([, changed]) => changed > n)
  // §2.6.3 leaves the choice: once there are more changes than contacts, the whole is shorter.
  if (changes === undefined || changes.length > Math.max(items.size, 1)) {
    return { kind: 'full', query: rosterElement(items.values(), tokenOf(version, version.n, groups)) }
  }
  const pushOf = ([jid, changed]: readonly [string, number]) =>
    pushElement(jid, items.get(jid), tokenOf(version, changed, groups))
  return { kind: 'changes', pushes: changes.map(pushOf) }
}

/** The change a token stands for, or undefined if we never gave it. */
function changeOf(token: string, version: RosterVersion): number | undefined {
  const dot = token.lastIndexOf('.')
  if (dot < 0 || token.slice(0, dot) !== version.epoch) return undefined
  const n = Number(token.slice(dot + 1))
  return Number.isSafeInteger(n) && n >= 0 && n <= version.n && tokenOf(version, n) === token ? n : undefined
}

function contactOf(text: string): string {
  if (text === '') throw new StanzaError('bad-request', 'the item has no jid')
  let jid: Jid
  try {
    jid = parseJid(text)
  } catch (cause) {
    if (!(cause instanceof JidError)) throw cause
    throw new StanzaError('jid-malformed', cause.message)
  }
  if (jid.resource !== '') throw new StanzaError('bad-request', 'a roster item has a bare JID')
  return jid.bare
}

function groupsOf(item: Element, limits: RosterLimits): string[] {
  const groups: string[] = []
  const known = new Set<string>()
  for (const element of childrenOf(item, 'group', NS_ROSTER)) {
    const group = textOf(element)
    if (group === '') throw new StanzaError('not-acceptable', 'a group has no name') // §2.3.3
    if (Buffer.byteLength(group) > limits.groupBytesMax)
      throw new StanzaError('not-acceptable', 'the name of a group is too long') // §2.3.3
    const compared = group.normalize('NFC') // case counts, §2.1.2.6
    if (known.has(compared)) throw new StanzaError('bad-request', 'a group is named twice') // §2.3.3
    known.add(compared)
    groups.push(own(group))
  }
  if (groups.length > limits.groupsMax) throw new StanzaError('not-acceptable', 'too many groups')
  return groups
}

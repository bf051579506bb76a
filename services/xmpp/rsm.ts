// XEP-0059: Result Set Management.
//
// `pageRequestOf` reads what page is wanted, `setElement` says what page it is. Whoever pages through the Table builds the
// set himself; `pageOf` does all of it for a list that is in memory (items of disco, rooms, users for an admin).
import { StanzaError } from './error.ts'
import { NS_RSM } from './ns.ts'
import { childrenOf, type Element, el, textOf } from './stanza.ts'

export interface PageRequest {
  /** At most so many items; 0 asks for the count alone (§2.7). Undefined: the responder's choice. */
  readonly max: number | undefined
  /** The page begins behind this UID (§2.2). */
  readonly after: string | undefined
  /** The page ends before this UID (§2.3); '' asks for the last page (§2.5). */
  readonly before: string | undefined
  /** The page begins at this position (§2.6). */
  readonly index: number | undefined
}

/** What `<set/>` tells of a page (§2.2). No `first` and `last` where the page is empty. */
export interface PageInfo {
  readonly first?: string | undefined
  readonly last?: string | undefined
  /** The position of `first` in the whole. */
  readonly index?: number | undefined
  /** The size of the whole; either may be approximate. */
  readonly count?: number | undefined
}

/** The request in the `<set/>` below `parent`; undefined where there is none. Throws StanzaError('bad-request'). */
export function pageRequestOf(parent: Element): PageRequest | undefined {
  const sets = childrenOf(parent, 'set', NS_RSM)
  if (sets.length > 1) throw new StanzaError('bad-request', 'more than one <set/>')
  return sets[0] === undefined ? undefined : parseSet(sets[0])
}

/** Reads a `<set/>`. Throws StanzaError('bad-request') on what is no number, stands twice, or contradicts itself. */
export function parseSet(set: Element): PageRequest {
  if (set.name !== 'set' || set.ns !== NS_RSM) throw new StanzaError('bad-request', 'not a <set/>')
  const after = textIn(set, 'after')
  const before = textIn(set, 'before')
  const index = numberIn(set, 'index')
  if (index !== undefined && (after !== undefined || before !== undefined)) {
    throw new StanzaError('bad-request', '<index/> is for when no UID is known (XEP-0059 §2.6)')
  }
  return {
    max: numberIn(set, 'max'),
    after: after === '' ? undefined : after, // no UID: before the first item, as where there is no <after/> (§2.2)
    before,
    index,
  }
}

/** The `<set/>` of a result. */
export function setElement(page: PageInfo): Element {
  const children: Element[] = []
  if (page.first !== undefined && page.last !== undefined) {
    children.push(el('first', NS_RSM, { index: page.index === undefined ? undefined : String(page.index) }, page.first))
    children.push(el('last', NS_RSM, {}, page.last))
  }
  if (page.count !== undefined) children.push(el('count', NS_RSM, {}, String(page.count)))
  return el('set', NS_RSM, {}, ...children)
}

export interface PageOptions {
  /** A page has at most so many items, whatever is asked for. */
  readonly pageMax: number
  /** The list is in rising order of its UIDs (as strings), so that the place of one that is gone is known. */
  readonly sorted?: boolean
}

export interface Page<T> {
  readonly items: readonly T[]
  /** For the result; undefined where the whole is empty (§2.2: the answer is then that of the wrapper protocol alone), or nothing was asked. */
  readonly set: Element | undefined
  /** Nothing lies beyond the page in the direction of paging. */
  readonly complete: boolean
}

/**
 * One page of a list in memory. Without a request, the whole of it. Linear in the list. Throws
 * StanzaError('item-not-found') where a UID is unknown and its place cannot be told (§2.4).
 */
export function pageOf<T>(
  items: readonly T[],
  uidOf: (item: T) => string,
  request: PageRequest | undefined,
  options: PageOptions,
): Page<T> {
  if (request === undefined) return { items, set: undefined, complete: true }
  const max = Math.min(request.max ?? options.pageMax, options.pageMax)
  // The wanted stretch is [low, high): behind `after` and before `before`; the page is its end if `before` is given.
  let low = request.index === undefined ? 0 : Math.min(request.index, items.length)
  let high = items.length
  if (request.after !== undefined) low = placeOf(items, uidOf, request.after, options, 1)
  if (request.before !== undefined && request.before !== '') high = placeOf(items, uidOf, request.before, options, 0)
  high = Math.max(low, high)
  const from = request.before === undefined ? low : Math.max(low, high - max)
  const page = items.slice(from, Math.min(high, from + max))
  const complete = page.length === high - low
  if (items.length === 0) return { items: page, set: undefined, complete }
  const first = page[0]
  const last = page.at(-1)
  const info: PageInfo =
    first === undefined || last === undefined
      ? { count: items.length }
      : { first: uidOf(first), last: uidOf(last), index: from, count: items.length }
  return { items: page, set: setElement(info), complete }
}

/** The position of the item of that UID, plus `behind`; where it is gone from a sorted list, of the first item after its place. */
function placeOf<T>(items: readonly T[], uidOf: (item: T) => string, uid: string, options: PageOptions, behind: 0 | 1): number {
  const found = items.findIndex((item) => (options.sorted === true ? uidOf(item) >= uid : uidOf(item) === uid))
  if (found !== -1) return uidOf(items[found]!) === uid ? found + behind : found
  if (options.sorted === true) return items.length
  throw new StanzaError('item-not-found', 'the item to page from is gone')
}

function textIn(set: Element, name: string): string | undefined {
  const found = childrenOf(set, name, NS_RSM)
  if (found.length > 1) throw new StanzaError('bad-request', `more than one <${name}/>`)
  return found[0] === undefined ? undefined : textOf(found[0])
}

/** xs:int in the schema (§8), of which white space at the ends is no part; none of ours is below 0. */
function numberIn(set: Element, name: string): number | undefined {
  const text = textIn(set, name)?.trim()
  if (text === undefined) return undefined
  if (!/^\d{1,10}$/.test(text)) throw new StanzaError('bad-request', `<${name}/> is not a number`)
  return Number(text)
}

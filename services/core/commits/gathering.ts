// What is staged for the next flush (commit.ts), and which of it goes first where that is more than a flush should be.
//
// Whoever waits for a flush waits for all of it. So that an account that stages much has the others wait for little of it,
// a flush takes what accounts have staged in turns, one portion of each after the other, up to FLUSH_BYTES; the rest goes with
// the next ones, and who got nothing comes first there. A portion is what an account staged without letting go of the thread:
// it is not divided. What is staged in nobody's name (`#…`) is not of one account but ahead of all, and goes at once.
import type { Write } from './commit.ts'

/** Of one flush, unless one portion is larger. As much as is written in some tens of milliseconds. */
export const FLUSH_BYTES = 4 * 1024 * 1024
/** A row besides its value: keys, and the objects around them. */
const ROW_COST_BYTES = 500

/** In step: of each write, who staged it, as which in all, and in which portion. */
export class Gathering {
  readonly writes: Write[] = []
  readonly accounts: string[] = []
  readonly places: number[] = []
  readonly portions: number[] = []
  bytes = 0

  add(write: Write, account: string, place: number, portion: number): void {
    this.writes.push(write)
    this.accounts.push(account)
    this.places.push(place)
    this.portions.push(portion)
    this.bytes += bytesOf(write)
  }

  addFrom({ writes, accounts, places, portions }: Gathering, at: number): void {
    this.add(writes[at]!, accounts[at]!, places[at]!, portions[at]!)
  }
}

/** One account's part of what is gathered. */
interface Share {
  /** Where each of its portions begins in `at`; and, one more, where the last ends. */
  readonly starts: number[]
  /** Where its writes are, in their order. */
  readonly at: number[]
  /** How many portions go now. */
  taken: number
  /** The next portion is too much for this flush. */
  isFull: boolean
}

/** What is to be flushed now, and what is not; each account's writes in the order in which they were staged. */
export function divide(gathered: Gathering, bytesMax = FLUSH_BYTES): { now: Gathering; later: Gathering } {
  const shares = sharesOf(gathered)
  takeTurns(gathered, shares, bytesMax)
  const now = new Gathering()
  const later = new Gathering()
  const isNow = new Uint8Array(gathered.writes.length)
  for (const { starts, at, taken } of shares.values()) for (let i = 0; i < starts[taken]!; i++) isNow[at[i]!] = 1
  for (const [at, is] of isNow.entries()) if (is) now.addFrom(gathered, at)
  const all = [...shares.values()]
  for (const { starts, at, taken } of [...all.filter(({ taken }) => taken === 0), ...all.filter(({ taken }) => taken > 0)])
    for (let i = starts[taken]!; i < at.length; i++) later.addFrom(gathered, at[i]!)
  return { now, later }
}

/** By account, in the order of their first writes. */
function sharesOf({ accounts, portions }: Gathering): Map<string, Share> {
  const shares = new Map<string, Share>()
  for (const [i, account] of accounts.entries()) {
    let share = shares.get(account)
    if (share === undefined) {
      share = { starts: [], at: [], taken: 0, isFull: false }
      shares.set(account, share)
    }
    const { starts, at } = share
    if (at.length === 0 || portions[at.at(-1)!] !== portions[i]) starts.push(at.length)
    at.push(i)
  }
  for (const { starts, at } of shares.values()) starts.push(at.length)
  return shares
}

function takeTurns({ writes }: Gathering, shares: ReadonlyMap<string, Share>, bytesMax: number): void {
  let bytes = 0
  const takeNext = (share: Share, whole: boolean): boolean => {
    const { starts, at, taken } = share
    if (share.isFull || taken === starts.length - 1) return false
    let more = 0
    for (let i = starts[taken]!; i < starts[taken + 1]!; i++) more += bytesOf(writes[at[i]!]!)
    share.isFull = !whole && bytes > 0 && bytes + more > bytesMax
    if (share.isFull) return false
    bytes += more
    share.taken++
    return true
  }
  for (const [account, share] of shares) if (account.startsWith('#')) while (takeNext(share, true));
  bytes = 0 // of accounts, one at least
  for (let goesOn = true; goesOn; ) {
    goesOn = false
    for (const share of shares.values()) if (takeNext(share, false)) goesOn = true
  }
}

/** What a write takes of memory, about. */
export function bytesOf(write: Write): number {
  if ('delete' in write) return ROW_COST_BYTES
  return ROW_COST_BYTES + write.put.value.length
}

// Leases: what each process of a cluster says of itself, and what another one can tell from watching.
//
//   pk = o#lease   sk = <process>   {"roles":["edge","router"],"host":"…","sinceMs":…,"applied":{"router":17},"state":"up",
//                                  "speaks":3}
//
// A lease says nothing of time: clocks differ. Whoever watches notes, by its own monotonic clock, when the version of a lease
// was first seen; one that has not changed for LEASE_MS is dead. A version was written before it was first seen, so the
// process it is of has not been sure of itself since SURE_MS after that, long before anybody takes it for dead.
//
// A process that can reach the table and not the bus says so (`cut`). It keeps what it has, but others may do better. What a
// lease says of that counts when it has said it for LINK_MS: the bus is lost to all at about the same moment, and comes back
// so, and while it is nobody does better.
//
// Only time that was watched counts: while the table cannot be read, or the watcher is not sure of itself, everybody else
// may be as badly off, and the watch begins anew.
import type { Key, Row } from '#table/table.ts'

/** How often a lease is renewed, and all are read. */
export const RENEW_MS = 2_000
/** For how long after a renewal was sent its process may rely on it. */
export const SURE_MS = 4_000
/** A lease that was watched and did not change for so long is dead. */
export const LEASE_MS = 6_000
/** How long one that was fenced leaves it to others to see to what it owned: enough for two readings. */
export const STRANDED_MS = 2 * RENEW_MS

/** For how long a process has been without the bus when its lease says so. */
export const CUT_MS = 5_000
/** For how long a lease has to say whether its process has the bus, to be believed: others may be about to say the same. */
export const LINK_MS = 4_000

/** What a process reads whose lease does not say so. */
export const SPEAKS_UNSAID = 2

export const LEASES = 'o#lease'

/** `leaving`: it takes nothing any more, and ends when it owns nothing. `broken`: whoever it is of has lost all it owned. */
export type LeaseState = 'up' | 'leaving' | 'broken'

export interface Lease {
  /** What the process does: `edge`, `router`, … */
  readonly roles: readonly string[]
  /** Where it runs, for people. */
  readonly host: string
  readonly sinceMs: number
  /** By role, the last item of its log of which all rows are in the table. */
  readonly applied: Readonly<Record<string, number>>
  readonly state: LeaseState
  /** The version of envelopes (core/envelope.ts) that it writes, and the newest that it reads. */
  readonly speaks: number
  /** True while the process cannot reach the bus, and has not for CUT_MS. */
  readonly cut?: boolean
}

export function leaseKey(process: string): Key {
  return { pk: LEASES, sk: process }
}

export function leaseRow(process: string, lease: Lease, version: string): Row {
  return { ...leaseKey(process), version, value: Buffer.from(JSON.stringify(lease), 'utf8') }
}

/** Keeps the fields that a newer version may have added. Throws Error that names the row where it is no lease. */
export function readLease({ pk, sk, value }: Row): Lease {
  let lease: Partial<Lease> | null = null
  try {
    lease = JSON.parse(Buffer.from(value).toString('utf8'))
  } catch (cause) {
    throw new Error(`the row ${pk} ${sk} is no lease`, { cause })
  }
  const { roles, host = '', sinceMs = 0, applied = {}, state, speaks = SPEAKS_UNSAID } = lease ?? {}
  if (!Array.isArray(roles) || (state !== 'up' && state !== 'leaving' && state !== 'broken'))
    throw new Error(`the row ${pk} ${sk} is no lease: it must have roles, and a state of up, leaving or broken`)
  return { ...lease, roles, host, sinceMs, applied, state, speaks }
}

export interface Watched {
  readonly lease: Lease
  readonly version: string
  /** When this version was first seen, or the watch began anew. */
  readonly sinceMs: number
  /** Broken, or unchanged for LEASE_MS. */
  readonly dead: boolean
  /** Since when its lease has said of `cut` what it says now. */
  readonly linkSinceMs: number
  /** It has long had the bus, or has long been without; neither where that has changed a moment ago. */
  readonly link: 'has' | 'has not' | 'unsure'
}

/** Processes that are gone and whose names are kept, so that one that never was can be told from them. */
const GONE_MAX = 10_000

export class LeaseWatch {
  #leases: ReadonlyMap<string, Watched> = new Map()
  readonly #gone = new Set<string>()
  #readMs = Number.NEGATIVE_INFINITY

  /** By process, in the order of the last reading. */
  get leases(): ReadonlyMap<string, Watched> {
    return this.#leases
  }

  /** True of a process that was here, and has no lease any more. */
  isGone(process: string): boolean {
    return this.#gone.has(process)
  }

  /**
   * All leases, as they were some time between `sentMs` and `nowMs`. `sure`: the watcher has been since the reading before.
   * True where anything has changed but versions. Rows that cannot be read are told to `refuse`, and as they were before.
   */
  note(rows: readonly Row[], sentMs: number, nowMs: number, sure: boolean, refuse: (error: unknown) => void): boolean {
    const watching = sure && nowMs - this.#readMs <= SURE_MS
    const leases = new Map<string, Watched>()
    let changed = false
    for (const row of rows) {
      const before = this.#leases.get(row.sk)
      const now = watch(row, before, sentMs, nowMs, watching, refuse)
      if (now === undefined) continue
      leases.set(row.sk, now)
      if (before === undefined || before.dead !== now.dead || before.lease.state !== now.lease.state) changed = true
      if (before !== undefined && before.link !== now.link) changed = true
      this.#gone.delete(row.sk)
    }
    for (const process of this.#leases.keys()) {
      if (leases.has(process)) continue
      changed = true
      this.#gone.add(process)
      for (const oldest of this.#gone) if (this.#gone.size > GONE_MAX) this.#gone.delete(oldest)
    }
    this.#leases = leases
    this.#readMs = nowMs
    return changed
  }

  /** When the next lease will be dead if it does not change; Infinity where there is none. */
  get nextDeathMs(): number {
    let nextMs = Number.POSITIVE_INFINITY
    for (const { dead, sinceMs } of this.#leases.values()) if (!dead) nextMs = Math.min(nextMs, sinceMs + LEASE_MS)
    return nextMs
  }
}

function watch(
  row: Row,
  before: Watched | undefined,
  sentMs: number,
  nowMs: number,
  watching: boolean,
  refuse: (error: unknown) => void,
): Watched | undefined {
  if (before?.version === row.version) {
    if (before.dead) return before
    const link = linkOf(before.lease, before.linkSinceMs, nowMs)
    if (!watching) return { ...before, sinceMs: nowMs, link }
    if (sentMs - before.sinceMs >= LEASE_MS) return { ...before, dead: true, link }
    return link === before.link ? before : { ...before, link }
  }
  try {
    const lease = readLease(row)
    const linkSinceMs = linkSince(lease, before, nowMs)
    const link = linkOf(lease, linkSinceMs, nowMs)
    return { lease, version: row.version, sinceMs: nowMs, dead: lease.state === 'broken', linkSinceMs, link }
  } catch (error) {
    refuse(error)
    return before
  }
}

/** Who has the bus when it is first seen has had it all the time. */
function linkSince({ cut = false }: Lease, before: Watched | undefined, nowMs: number): number {
  if (before === undefined) return cut ? nowMs : Number.NEGATIVE_INFINITY
  return (before.lease.cut ?? false) === cut ? before.linkSinceMs : nowMs
}

function linkOf({ cut }: Lease, sinceMs: number, nowMs: number): Watched['link'] {
  if (nowMs - sinceMs < LINK_MS) return 'unsure'
  return cut === true ? 'has not' : 'has'
}

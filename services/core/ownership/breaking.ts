// Leases of dead processes: broken before anything is taken from them, and removed when nothing is left to be taken.
//
// What breaks a lease is a conditional put over the version that did not change (membership.ts): should its process live, it
// renews it no more. The version of a broken lease is `<id>`, and `<id>+<id>` once it was noted in it that a log of its process is
// recovered.
import { type Table, VersionConflict } from '#table/table.ts'
import type { Log } from '../observing/log.ts'
import { type Lease, leaseKey, leaseRow, readLease, type Watched } from './leases.ts'

/** What became of a lease that was looked at, or broken. */
export type Fate =
  | { readonly state: 'lives' | 'gone' }
  | { readonly state: 'broken'; readonly version: string; readonly lease: Lease }

/**
 * What the version of a broken lease begins with, however often it was noted in it since that its log is recovered. Another one
 * is of another life.
 */
export function breakingOf(version: string): string {
  return version.split('+', 1)[0]!
}

export interface BreakingParts {
  readonly table: Table
  readonly log: Log
  /** Ids that were never given before. */
  readonly newId: () => string
}

export class Breaking {
  readonly #parts: BreakingParts
  readonly #hint: () => void

  /** @param hint tells all that something has changed */
  constructor(parts: BreakingParts, hint: () => void) {
    this.#parts = parts
    this.#hint = hint
  }

  /**
   * Looks at a lease, now, and breaks it where it is the one that was seen to be dead: what its process owned may be taken
   * once it is recovered. Rejects with TableUnavailable where nobody knows.
   * @param watchedNow as it was read last
   */
  async breakLease(process: string, watchedNow: () => Watched | undefined): Promise<Fate> {
    const row = await this.#parts.table.get(leaseKey(process))
    if (row === undefined) return { state: 'gone' }
    const lease = readLease(row)
    if (lease.state === 'broken') return { state: 'broken', version: row.version, lease }
    const watched = watchedNow()
    if (watched?.dead !== true || watched.version !== row.version) return { state: 'lives' }
    const broken = leaseRow(process, { ...lease, state: 'broken' }, this.#parts.newId())
    try {
      await this.#parts.table.put(broken, row.version)
    } catch (error) {
      if (error instanceof VersionConflict) return { state: 'lives' } // or broken by another: whoever looks again will see
      throw error
    }
    this.#parts.log.warn('lease.broken', { process })
    this.#hint()
    return { state: 'broken', version: broken.version, lease }
  }

  /** As `breakLease`, of a lease that may not be broken. */
  async fateOf(process: string): Promise<Fate> {
    const row = await this.#parts.table.get(leaseKey(process))
    if (row === undefined) return { state: 'gone' }
    const lease = readLease(row)
    return lease.state === 'broken' ? { state: 'broken', version: row.version, lease } : { state: 'lives' }
  }

  /** Its log of this role is recovered up to this mark: who recovers it, too, has little to do. */
  async noteRecovered(
    process: string,
    { version }: Extract<Fate, { state: 'broken' }>,
    role: string,
    mark: number,
  ): Promise<void> {
    const { table, newId } = this.#parts
    const breaking = breakingOf(version)
    for (;;) {
      const row = await table.get(leaseKey(process))
      if (row === undefined || breakingOf(row.version) !== breaking) return
      const lease = readLease(row)
      if ((lease.applied[role] ?? 0) >= mark) return
      const noted = { ...lease, applied: { ...lease.applied, [role]: mark } }
      try {
        return await table.put(leaseRow(process, noted, `${breaking}+${newId()}`), row.version)
      } catch (error) {
        if (!(error instanceof VersionConflict)) throw error // noted for another role
      }
    }
  }

  /** Removes a broken lease: its process may join anew. For when it owns nothing in any role. */
  async bury(process: string, version: string): Promise<void> {
    try {
      await this.#parts.table.delete(leaseKey(process), version)
      this.#hint()
    } catch (error) {
      if (!(error instanceof VersionConflict)) throw error // another one has done it
    }
  }
}

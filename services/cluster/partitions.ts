// The partitions of this process, between those who decide (core/ownership/cluster-ownership.ts) and the roles that do the work.
//
// Each role commits into a log of its own, which any process can recover once the lease of this one is broken.
import type { Clock } from '#core/clock.ts'
import type { CommitLog } from '#core/commits/commit.ts'
import { OwnerLog, recoverLog } from '#core/commits/owner-log.ts'
import type { Log } from '#core/observing/log.ts'
import type { Owning } from '#core/ownership/cluster-ownership.ts'
import type { Ownership, RoleName } from '#core/ownership/ownership.ts'
import type { RoleOwning, RunningRole } from '#core/process.ts'
import type { Table } from '#table/table.ts'

export interface PartitionsOptions {
  readonly process: string
  readonly table: Table
  readonly clock: Clock
  readonly log: Log
  readonly ownership: () => Ownership
  /** A log of this process is sealed: another one has taken what it owned. */
  readonly onSealed: (role: RoleName) => void
  /** For pauses: Math.random, unless given. */
  readonly random?: () => number
}

export class OwnPartitions implements Owning {
  readonly #options: PartitionsOptions
  readonly #logs = new Map<RoleName, OwnerLog>()
  readonly #roles = new Map<RoleName, RoleOwning>()

  constructor(options: PartitionsOptions) {
    this.#options = options
  }

  openLog(role: RoleName, log: Log): CommitLog {
    const { process, table, clock, ownership, onSealed, random } = this.#options
    const opened = new OwnerLog({
      table,
      process,
      role,
      clock,
      log,
      epoch: () => ownership().epoch(role),
      sure: () => ownership().sure(),
      onFenced: () => onSealed(role),
      ...(random !== undefined && { random }),
    })
    this.#logs.set(role, opened)
    return opened
  }

  /** By role, up to where its log is in the table: for the lease. */
  applied(): Record<string, number> {
    return Object.fromEntries([...this.#logs].map(([role, { applied }]) => [role, applied]))
  }

  /** From now on partitions can come to it. Throws Error where the role can give none up. */
  add(role: RoleName, { owning, name }: RunningRole): void {
    if (owning === undefined) throw new Error(`the role ${name} cannot give up what it owns, and so cannot be part of a cluster`)
    this.#roles.set(role, owning)
  }

  async recover(process: string, role: RoleName, applied: number): Promise<number> {
    const { table, log } = this.#options
    const { seal } = await recoverLog({ table, process, role, appliedBehind: applied, log })
    return seal - 1 // whoever reads on from there finds the seal
  }

  get handedOn(): number {
    let sum = 0
    for (const { handedOn } of this.#roles.values()) sum += handedOn
    return sum
  }

  take(role: RoleName, partitions: readonly number[]): Promise<void> {
    return this.#roles.get(role)!.take(partitions)
  }

  release(role: RoleName, partitions: readonly number[]): Promise<void> {
    return this.#roles.get(role)!.release(partitions)
  }

  fenced(role: RoleName): void {
    this.#logs.get(role)?.abandon()
    this.#roles.get(role)!.fenced()
  }
}

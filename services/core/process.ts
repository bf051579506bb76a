// What a process is made of: handed to every role at start. No role makes any of it itself.
import type { Bus } from '#bus/bus.ts'
import type { Table } from '#table/table.ts'
import type { Clock } from './clock.ts'
import type { CommitLog } from './commit.ts'
import type { Config } from './config.ts'
import type { Log } from './log.ts'
import type { Metrics } from './metrics.ts'
import type { AnyModule, ServerFacts } from './module.ts'
import type { Ownership, RoleName } from './ownership.ts'
import type { Readings } from './readings.ts'

export interface Process {
  /** Random per start, [a-z0-9]+: subjects on the bus are named by it. */
  readonly id: string
  readonly bus: Bus
  readonly table: Table
  readonly ownership: Ownership
  /** The other processes; undefined where there are none. */
  readonly members?: Members | undefined
  readonly config: Config
  /** The checked options of each module, by name. */
  readonly moduleOptions: Readonly<Record<string, Readonly<Record<string, unknown>>>>
  readonly modules: readonly AnyModule[]
  /** The journals of all modules there are, also of those that the configuration disables. */
  readonly journals: readonly string[]
  /** Where the commits of a role's owner go. */
  openLog(role: RoleName, log: Log): CommitLog
  /** What one role has read of an account, and the other may take. */
  readonly readings: Readings
  readonly server: ServerFacts
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
}

/** The processes of a cluster, as far as this one can tell (core/membership.ts). */
export interface Members {
  /** Those that live and do this, the ones that leave among them. */
  live(role: string): readonly string[]
  /** `unseen`: nothing is known of it yet; if it does not exist, it never will be. */
  livenessOf(process: string): 'live' | 'gone' | 'unseen'
  /** Somebody has come, gone, died or begun to leave. */
  onChange(listener: () => void): void
  /** This process was taken for dead: others have ended all it had. */
  onFenced(listener: () => void): void
}

/** A role that runs. */
export interface RunningRole {
  readonly name: string
  /** Of a role that owns accounts. */
  readonly owning?: RoleOwning
  /** Stops taking work, finishes what it has, closes. */
  stop(): Promise<void>
}

/** What a role does with the partitions that come to its process, and go (core/cluster-ownership.ts, Owning). What rejects is tried again. */
export interface RoleOwning {
  /** These are this process's from now on. Resolves when the role is ready for their envelopes. */
  take(partitions: readonly number[]): Promise<void>
  /** Resolves when all accounts of these are settled, and all that was staged for them is in the table. */
  release(partitions: readonly number[]): Promise<void>
  /** Nothing is this process's any more. What is not durable never will be: it is forgotten, and so is all that was known of accounts. */
  fenced(): void
}

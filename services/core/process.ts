// What a process is made of: handed to every role at start. No role makes any of it itself.
import type { Bus } from '#bus/bus.ts'
import type { Table } from '#table/table.ts'
import type { Clock } from './clock.ts'
import type { CommitLog } from './commits/commit.ts'
import type { AnyModule, ServerFacts } from './module.ts'
import type { Log } from './observing/log.ts'
import type { Metrics } from './observing/metrics.ts'
import type { Ownership, RoleName } from './ownership/ownership.ts'
import type { Config } from './settings/config.ts'
import type { Readings } from './storage/readings.ts'

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
  /** From 0 up to 1, for pauses: Math.random, unless given. */
  readonly random?: (() => number) | undefined
}

/**
 * `silent`: its lease has not changed for long enough to be broken. Nobody has broken it, so it may come back and never know.
 * `gone`: all it had is lost to it, and it knows, or will. `unseen`: nothing is known of it; if it does not exist, it never will be.
 */
export type Liveness = 'live' | 'silent' | 'gone' | 'unseen'

/** The processes of a cluster, as far as this one can tell (core/ownership/membership.ts). */
export interface Members {
  /** Those that do this and are not gone, the ones that leave or are silent among them. */
  live(role: string): readonly string[]
  /** Those of them that may be given something. */
  candidates(role: string): readonly string[]
  livenessOf(process: string): Liveness
  /** The newest version of envelopes that this one reads. */
  speaksOf(process: string): number
  /** It is without the bus, though others have it. */
  isCutOff(process: string): boolean
  /** Somebody has come, gone, died or begun to leave, or has lost the bus or found it again. */
  onChange(listener: () => void): void
  /** After each reading. */
  onRead(listener: () => void): void
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

/** What a role does with the partitions that come to its process, and go (core/ownership/cluster-ownership.ts, Owning). What rejects is tried again. */
export interface RoleOwning {
  /** These are this process's from now on. Resolves when the role is ready for their envelopes. */
  take(partitions: readonly number[]): Promise<void>
  /** Resolves when all accounts of these are settled, and all that was staged for them is in the table. */
  release(partitions: readonly number[]): Promise<void>
  /** Nothing is this process's any more. What is not durable never will be: it is forgotten, and so is all that was known of accounts. */
  fenced(): void
  /** Envelopes that it has handed on, and that their owners have not acked. */
  readonly handedOn: number
}

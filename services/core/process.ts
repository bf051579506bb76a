// What a process is made of: handed to every role at start. No role makes any of it itself.
import type { Bus } from '#bus/bus.ts'
import type { Table } from '#table/table.ts'
import type { Clock } from './clock.ts'
import type { Config } from './config.ts'
import type { Log } from './log.ts'
import type { Metrics } from './metrics.ts'
import type { AnyModule, ServerFacts } from './module.ts'
import type { Ownership } from './ownership.ts'

export interface Process {
  /** Random per start, [a-z0-9]+: subjects on the bus are named by it. */
  readonly id: string
  readonly bus: Bus
  readonly table: Table
  readonly ownership: Ownership
  readonly config: Config
  /** The checked options of each module, by name. */
  readonly moduleOptions: Readonly<Record<string, Readonly<Record<string, unknown>>>>
  readonly modules: readonly AnyModule[]
  /** The journals of all modules there are, also of those that the configuration disables. */
  readonly journals: readonly string[]
  readonly server: ServerFacts
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
}

/** A role that runs. */
export interface RunningRole {
  readonly name: string
  /** Stops taking work, finishes what it has, closes. */
  stop(): Promise<void>
}

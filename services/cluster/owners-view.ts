// Who owns what, for a process that takes part in nothing: as the rows say, which are read again when somebody asks.
import type { Bus, Subscription } from '#bus/bus.ts'
import type { Clock } from '#core/clock.ts'
import type { Log } from '#core/observing/log.ts'
import { getOwnersRow, type OwnersRow } from '#core/ownership/owners-row.ts'
import { type Ownership, type OwnersListener, PARTITIONS, partitionOf, type RoleName } from '#core/ownership/ownership.ts'
import type { Table } from '#table/table.ts'

export const ROLES: readonly RoleName[] = ['router', 'presence']

/** No oftener, however many ask. */
const READ_EVERY_MS = 200

type Rows = Readonly<Record<RoleName, OwnersRow>>

export class OwnersView implements Ownership {
  readonly #table: Table
  readonly #clock: Clock
  readonly #log: Log
  readonly #listeners: OwnersListener[] = []
  #rows: Rows
  #reading: Promise<void> | undefined
  #readMs: number

  private constructor(table: Table, clock: Clock, log: Log, rows: Rows) {
    this.#table = table
    this.#clock = clock
    this.#readMs = clock.monotonic()
    this.#log = log
    this.#rows = rows
  }

  /** Throws Error where no process has ever owned anything in a role, and TableUnavailable. */
  static async open(table: Table, clock: Clock, log: Log): Promise<OwnersView> {
    const rows = await readRows(table)
    for (const role of ROLES)
      if (rows[role].epoch === 0) throw new Error(`no process of the cluster is ${role}; ${whatToStart(role)}`)
    return new OwnersView(table, clock, log, rows)
  }

  /** Reads again whenever a row changes. */
  follow(bus: Bus): Subscription {
    return bus.subscribe('owners', () => this.look())
  }

  look(): void {
    const nowMs = this.#clock.monotonic()
    if (this.#reading !== undefined || nowMs - this.#readMs < READ_EVERY_MS) return
    this.#readMs = nowMs
    this.#reading = this.#read()
      .catch((error: unknown) => this.#log.warn('owners.read_failed', { error }))
      .finally(() => (this.#reading = undefined))
  }

  async #read(): Promise<void> {
    const before = this.#rows
    this.#rows = await readRows(this.#table)
    for (const role of ROLES) {
      const [was, is] = [before[role], this.#rows[role]]
      const isOther = (at: number) => is.owners[at] !== was.owners[at] || is.epochs[at] !== was.epochs[at]
      const partitions = [...is.owners.keys()].filter(isOther)
      if (partitions.length > 0) for (const listener of this.#listeners) listener(role, partitions)
    }
  }

  ownerOf(role: RoleName, account: string): string {
    return this.ownerAt(role, partitionOf(account))
  }

  ownersOf(role: RoleName): readonly string[] {
    return [...new Set(this.#rows[role].owners)].filter((owner) => owner !== '')
  }

  ownerAt(role: RoleName, partition: number): string {
    return this.#rows[role].owners[partition]!
  }

  epochAt(role: RoleName, partition: number): number {
    return this.#rows[role].epochs[partition]!
  }

  epoch(role: RoleName): number {
    return this.#rows[role].epoch
  }

  onChange(listener: OwnersListener): void {
    this.#listeners.push(listener)
  }

  sure(): boolean {
    return false
  }

  owns(): boolean {
    return false
  }
}

async function readRows(table: Table): Promise<Rows> {
  return { router: await getOwnersRow(table, 'router'), presence: await getOwnersRow(table, 'presence') }
}

/** For the end of a sentence. */
export function whatToStart(role: RoleName): string {
  return `start one: bin/rookery run --role ${role} --config FILE`
}

/** For each partition, an address that is in it. */
export const ADDRESSES: readonly string[] = addresses()

function addresses(): string[] {
  const found: string[] = []
  for (let n = 0; Object.keys(found).length < PARTITIONS; n++) found[partitionOf(`${n}`)] ??= `${n}`
  return found
}

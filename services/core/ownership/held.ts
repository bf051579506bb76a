// Whose accounts a role of this process answers for: those of the partitions that it holds.
//
// What one process owns at its birth it owns for ever: all. In a cluster that is nothing, and partitions come and go. Who is
// named in the row, and who is ready, is for core/ownership/ownership.ts to say; this is the role's own book, which changes in the same
// turn as what it keeps of the accounts (core/ownership/take-over.ts). Where an account is not held nothing is written of it, nothing kept,
// and nothing said in its name: so what was begun while it was can do no harm any more.
import { type Ownership, PARTITIONS, partitionOf, type RoleName } from './ownership.ts'

/** Whether something concerns an account, by its bare JID. */
export type OfAccounts = (account: string) => boolean

export class Held {
  /** All, for ever. */
  readonly all: boolean
  readonly #partitions = new Uint8Array(PARTITIONS)
  readonly #sinceMs = new Float64Array(PARTITIONS)

  constructor(role: RoleName, ownership: Ownership) {
    this.all = ownership.owns(role, '')
  }

  has(account: string): boolean {
    return this.all || this.#partitions[partitionOf(account)] === 1
  }

  /** @param nowMs of the monotonic clock */
  add(partitions: readonly number[], nowMs: number): void {
    for (const partition of partitions) {
      this.#partitions[partition] = 1
      this.#sinceMs[partition] = nowMs
    }
  }

  /** Since when it has been held, without a break; Infinity where it is not. */
  sinceMs(account: string): number {
    if (!this.has(account)) return Number.POSITIVE_INFINITY
    return this.#sinceMs[partitionOf(account)]!
  }

  remove(partitions: readonly number[]): void {
    for (const partition of partitions) this.#partitions[partition] = 0
  }

  clear(): void {
    this.#partitions.fill(0)
  }
}

/** The accounts of these partitions. */
export function accountsOf(partitions: readonly number[]): OfAccounts {
  const chosen = new Uint8Array(PARTITIONS)
  for (const partition of partitions) chosen[partition] = 1
  return (account) => chosen[partitionOf(account)] === 1
}

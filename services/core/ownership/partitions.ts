// The partitions of one role, as one process sees them: who owns each by the row, and how far it is with its own.
//
//   none → opening → ready → closing → closed → (another has it, or it is opened anew)
//
// What the row says of this process counts from the row it read first after it joined (`baseline`): older entries are
// of a life before, and it has to take those partitions anew, by a row of its own, like anybody else.
import { NO_OWNERS, type OwnersRow } from './owners-row.ts'
import { PARTITIONS } from './ownership.ts'

const NONE = 0
const OPENING = 1
const READY = 2
/** Its accounts are settling. */
const CLOSING = 3
/** Settled and applied; the row still names this process. */
const CLOSED = 4

/** Partitions that are not served at a time because they are being given away. */
export const RELEASED_MAX = 16

export interface Applied {
  /** The partitions with another owner or epoch than before. */
  readonly changed: readonly number[]
  /** One of its own was taken from this process, which therefore must have been declared dead. */
  readonly lost: boolean
}

const UNCHANGED: Applied = { changed: [], lost: false }

export class Partitions {
  readonly #process: string
  #row: OwnersRow = NO_OWNERS
  #owners: readonly string[] = []
  readonly #states = new Uint8Array(PARTITIONS)
  /** By partition, the epoch at which this process opened it. */
  readonly #opened = new Float64Array(PARTITIONS)
  /** The epoch from which on entries are of this life. */
  baseline: number | undefined = undefined

  constructor(process: string) {
    this.#process = process
  }

  get row(): OwnersRow {
    return this.#row
  }

  /** Each owner once. */
  get owners(): readonly string[] {
    return this.#owners
  }

  isReady(partition: number): boolean {
    return this.#states[partition] === READY
  }

  /** A row that was read or written. One that is not newer than what is known changes nothing. */
  apply(row: OwnersRow): Applied {
    if (row.epoch <= this.#row.epoch) return UNCHANGED
    const before = this.#row
    this.#row = row
    this.#owners = [...new Set(row.owners)].filter((owner) => owner !== '')
    const changed: number[] = []
    let lost = false
    for (let partition = 0; partition < PARTITIONS; partition++) {
      if (row.epochs[partition] === before.epochs[partition] && row.owners[partition] === before.owners[partition]) continue
      changed.push(partition)
      const state = this.#states[partition]
      if (state === NONE || (row.owners[partition] === this.#process && row.epochs[partition] === this.#opened[partition]))
        continue
      if (state !== CLOSED) lost = true
      this.#states[partition] = NONE
    }
    return { changed, lost }
  }

  /** Nothing is of this process any more, whatever the row says. */
  drop(): void {
    this.#states.fill(NONE)
    this.baseline = undefined
  }

  /** Owned, or on the way to be or not to be. */
  get holdsAny(): boolean {
    return this.#states.some((state) => state !== NONE) || this.#row.owners.includes(this.#process)
  }

  /** Those that this process has been given and should have: they are opening from now on. */
  open(wanted: readonly string[]): number[] {
    return this.#turn(
      (partition) =>
        this.#states[partition] === NONE &&
        this.#row.owners[partition] === this.#process &&
        this.#row.epochs[partition]! > this.baseline! &&
        wanted[partition] === this.#process,
      OPENING,
      PARTITIONS,
    )
  }

  opened(partitions: readonly number[]): void {
    for (const partition of partitions) if (this.#states[partition] === OPENING) this.#states[partition] = READY
  }

  /** Some of those that another process should have: they are closing from now on. */
  close(wanted: readonly string[]): number[] {
    let under = 0
    for (const state of this.#states) if (state === CLOSING || state === CLOSED) under++
    const mayGo = (partition: number) => this.#states[partition] === READY && wanted[partition] !== this.#process
    return this.#turn(mayGo, CLOSING, RELEASED_MAX - under)
  }

  closed(partitions: readonly number[]): void {
    for (const partition of partitions) if (this.#states[partition] === CLOSING) this.#states[partition] = CLOSED
  }

  /** Those who own what this process should have. */
  othersWithOurs(wanted: readonly string[]): Set<string> {
    const others = new Set<string>()
    for (const [partition, owner] of this.#row.owners.entries())
      if (wanted[partition] === this.#process && owner !== this.#process && owner !== '') others.add(owner)
    return others
  }

  /** True where this process was given what another should have, as far as it knows. */
  hasUnwanted(wanted: readonly string[]): boolean {
    const { owners } = this.#row
    return this.#states.some((state, at) => state === NONE && owners[at] === this.#process && wanted[at] !== this.#process)
  }

  /**
   * What this process has to change in the row: what it has closed goes to whoever should have it, and so does what names
   * it from a life before and, if it `mayHandOn`, what it has just been given; what nobody has is taken, and what is of
   * those that `mayTakeFrom`.
   */
  changes(wanted: readonly string[], mayHandOn: boolean, mayTakeFrom: (owner: string) => boolean): Map<number, string> {
    const changes = new Map<number, string>()
    for (const [partition, owner] of this.#row.owners.entries()) {
      const should = wanted[partition]!
      if (owner === this.#process) {
        const state = this.#states[partition]
        const isOld = this.#row.epochs[partition]! <= this.baseline!
        if (state === CLOSED || (state === NONE && (isOld || (mayHandOn && should !== owner)))) changes.set(partition, should)
      } else if (should === this.#process && (owner === '' || mayTakeFrom(owner))) changes.set(partition, should)
    }
    return changes
  }

  #turn(which: (partition: number) => boolean, state: number, most: number): number[] {
    const turned: number[] = []
    for (let partition = 0; partition < PARTITIONS && turned.length < most; partition++) {
      if (!which(partition)) continue
      this.#states[partition] = state
      this.#opened[partition] = this.#row.epochs[partition]!
      turned.push(partition)
    }
    return turned
  }
}

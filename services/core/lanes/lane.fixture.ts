// For tests of what goes between processes: a network that is as bad as a seed wants it, and owners that change.
import type { Bus, BusHandler, BusState } from '#bus/bus.ts'
import type { Random } from '#test/fuzz/random.ts'
import { type Clock, type ManualClock, manualClock } from '../clock.ts'
import { ENVELOPE_VERSION } from '../envelope.ts'
import { type MemoryLog, memoryLog } from '../observing/log.ts'
import { type Ownership, type OwnersListener, PARTITIONS, partitionOf, type RoleName } from '../ownership/ownership.ts'
import type { Members } from '../process.ts'
import type { Ways } from './lane-frame.ts'

/** Each of these in so many; 0: never. */
export interface Faults {
  dropOneIn: number
  twiceOneIn: number
  delayMsMax: number
}

interface Member {
  readonly bus: FaultyBus
  readonly subject: string
  readonly handler: BusHandler
  open: boolean
}

/**
 * Between all buses that are opened on it: bodies of one bus on one subject keep their order, others do not; any may be lost, or
 * come a second time later.
 */
export class Network {
  readonly clock: Clock
  readonly random: Random
  readonly members = new Set<Member>()
  readonly faults: Faults = { dropOneIn: 0, twiceOneIn: 0, delayMsMax: 0 }
  /** Sees every body as it is published. */
  watch: (bus: FaultyBus, subject: string, body: Uint8Array) => void = () => {}
  /** Bodies that came to somebody who is too old for them. */
  refused = 0

  constructor(clock: Clock, random: Random) {
    this.clock = clock
    this.random = random
  }

  open(): FaultyBus {
    return new FaultyBus(this)
  }

  carry(member: Member, body: Uint8Array, notBeforeMs: number): number {
    const { random, faults, clock } = this
    const happens = (oneIn: number): boolean => oneIn > 0 && random.chance(oneIn)
    if (happens(faults.dropOneIn)) return notBeforeMs
    const dueMs = Math.max(notBeforeMs, clock.monotonic() + random.int(faults.delayMsMax + 1))
    this.#deliver(member, body, dueMs)
    if (happens(faults.twiceOneIn)) this.#deliver(member, body, dueMs + random.int(1_000))
    return dueMs
  }

  #deliver(member: Member, body: Uint8Array, dueMs: number): void {
    this.clock.setTimeout(() => {
      if (!member.open || member.bus.state !== 'up') return
      if (body[0]! > member.bus.speaks) this.refused++
      else member.handler(body, () => {})
    }, dueMs - this.clock.monotonic())
  }
}

/** The bus of one process. */
export class FaultyBus implements Bus {
  readonly lossless = false
  state: BusState = 'up'
  /** The version of envelopes that the process at it reads, and writes. */
  speaks = ENVELOPE_VERSION
  readonly #network: Network
  readonly #watchers = new Set<(state: BusState) => void>()
  /** When the last body comes to a member. */
  readonly #dueMs = new Map<Member, number>()

  constructor(network: Network) {
    this.#network = network
  }

  publish(subject: string, body: Uint8Array): void {
    if (body[0]! > this.speaks) body[0] = this.speaks
    this.#network.watch(this, subject, body)
    if (this.state === 'down') return
    for (const member of this.#network.members) {
      if (member.subject === subject) this.#dueMs.set(member, this.#network.carry(member, body, this.#dueMs.get(member) ?? 0))
    }
  }

  subscribe(subject: string, handler: BusHandler): { close(): void } {
    const member: Member = { bus: this, subject, handler, open: true }
    this.#network.members.add(member)
    return {
      close: () => {
        member.open = false
        this.#network.members.delete(member)
      },
    }
  }

  status(handler: (state: BusState) => void): { close(): void } {
    this.#watchers.add(handler)
    handler(this.state)
    return { close: () => void this.#watchers.delete(handler) }
  }

  turn(state: BusState): void {
    this.state = state
    for (const watcher of this.#watchers) watcher(state)
  }

  request(): Promise<never> {
    return Promise.reject(new Error('nobody asks here'))
  }

  async drain(): Promise<void> {
    this.turn('down')
    for (const member of this.#network.members) if (member.bus === this) member.open = false
  }
}

/** The ownership row, the same for both roles. */
export class OwnersRow {
  epoch = 1
  readonly owners: string[]
  readonly epochs: number[] = Array.from({ length: PARTITIONS }, () => 1)

  constructor(owner: string) {
    this.owners = Array.from({ length: PARTITIONS }, () => owner)
  }

  give(partitions: Iterable<number>, owner: string): void {
    this.epoch++
    for (const partition of partitions) {
      this.owners[partition] = owner
      this.epochs[partition] = this.epoch
    }
  }
}

/** The row as one process has last read it. */
export class OwnersView implements Ownership {
  readonly process: string
  isSure = true
  /** Those it owns and is not ready for. */
  readonly unready = new Set<number>()
  readonly #row: OwnersRow
  #owners: string[] = []
  #epochs: number[] = []
  #epoch = 0
  looked: () => void = () => {}
  readonly #listeners: OwnersListener[] = []

  constructor(row: OwnersRow, process: string) {
    this.#row = row
    this.process = process
    this.learn()
  }

  learn(): void {
    if (this.#epoch === this.#row.epoch) return
    const before = this.#epochs
    this.#owners = [...this.#row.owners]
    this.#epochs = [...this.#row.epochs]
    this.#epoch = this.#row.epoch
    const changed = this.#epochs.flatMap((epoch, partition) => (epoch === before[partition] ? [] : [partition]))
    for (const role of ['router', 'presence'] as const) for (const listener of this.#listeners) listener(role, changed)
  }

  ownerOf(_role: RoleName, account: string): string {
    return this.#owners[partitionOf(account)]!
  }

  ownersOf(): readonly string[] {
    return [...new Set(this.#owners)].filter((owner) => owner !== '')
  }

  ownerAt(_role: RoleName, partition: number): string {
    return this.#owners[partition]!
  }

  epochAt(_role: RoleName, partition: number): number {
    return this.#epochs[partition]!
  }

  epoch(): number {
    return this.#epoch
  }

  onChange(listener: OwnersListener): void {
    this.#listeners.push(listener)
  }

  look(): void {
    this.looked()
  }

  sure(): boolean {
    return this.isSure
  }

  owns(_role: RoleName, account: string): boolean {
    const partition = partitionOf(account)
    return this.#owners[partition] === this.process && !this.unready.has(partition)
  }
}

/** One process of a test: its own bus, and its own view of the row. */
export interface Node extends Ways {
  readonly bus: FaultyBus
  readonly ownership: OwnersView
  readonly log: MemoryLog
}

/** A network, a row, and time that goes on by hand. */
export class World {
  readonly clock: ManualClock = manualClock()
  readonly network: Network
  readonly row: OwnersRow
  /** By process, what its lease says of that; those that are not named say the newest. */
  readonly speaks = new Map<string, number>()
  readonly #members = { speaksOf: (process: string) => this.speaks.get(process) ?? ENVELOPE_VERSION } as Members

  constructor(random: Random, owner: string) {
    this.network = new Network(this.clock, random)
    this.row = new OwnersRow(owner)
  }

  node(process: string): Node {
    const bus = this.network.open()
    const ownership = new OwnersView(this.row, process)
    return { bus, ownership, clock: this.clock, log: memoryLog(), members: this.#members }
  }

  /** One of an earlier version, which says so in its lease. */
  oldNode(process: string, speaks = ENVELOPE_VERSION - 1): Node {
    const node = this.node(process)
    node.bus.speaks = speaks
    this.speaks.set(process, speaks)
    return node
  }

  /** In steps, between which all that was put off to the end of a turn is done. */
  async pass(ms: number, stepMs = 10): Promise<void> {
    await ended()
    for (let left = ms; left > 0; left -= stepMs) {
      this.clock.advance(Math.min(left, stepMs))
      await ended()
    }
  }
}

/** What was put off, and what that puts off again. */
async function ended(): Promise<void> {
  for (let i = 0; i < 4; i++) await null
}

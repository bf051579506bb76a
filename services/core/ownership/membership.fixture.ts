// A cluster in one event loop, for tests: processes that are paused, killed and started anew, on a table and a bus that fail.
//
// Whatever wakes a process (a timer, an answer, a hint) passes its `gate`: one that is paused gets it when it goes on, one
// that is dead never. Beside the rows, each process keeps a little log, as owners do: what it acknowledged must be in the
// state when the next owner of the partition takes it.
import type { Bus, BusState, Subscription } from '#bus/bus.ts'
import { memoryTable } from '#table/memory.ts'
import type { Key, Row, Table } from '#table/table.ts'
import { type Clock, type ManualClock, manualClock } from '../clock.ts'
import { farRequest, type RequestFault } from '../far-request.fixture.ts'
import { silentLog } from '../observing/log.ts'
import { ClusterOwnership, type Owning } from './cluster-ownership.ts'
import { LEASES, readLease } from './leases.ts'
import { Membership } from './membership.ts'
import { OWNERS, readOwnersRow } from './owners-row.ts'
import { PARTITIONS, type RoleName } from './ownership.ts'
import { rendezvousAll } from './rendezvous.ts'

const ROLES = ['router', 'presence'] as const

export type Kind = 'read' | 'write'

/** How a world goes about it: each is asked anew, so that a seed can decide. */
export interface Weather {
  fault(kind: Kind): RequestFault
  /** Milliseconds on the way of each request, of each answer and of a hint. */
  wayMs(): number
  /** What a role needs to take, to release, to apply. */
  workMs(): number
  lateMs(): number
  loses(): boolean
  random(): number
}

export const CALM: Weather = {
  fault: () => 'none',
  wayMs: () => 0,
  workMs: () => 0,
  lateMs: () => 0,
  loses: () => false,
  random: () => 0.5,
}

interface Item {
  readonly partition: number
  readonly name: number
}

/** A seal is undefined. */
type ItemLog = (Item | undefined)[]

interface Making {
  readonly roles?: readonly string[]
  /** Shared with others; without it the world's own, which loses and delays. */
  readonly bus?: Bus
  readonly id?: string
  /** Of the monotonic time of the world, so much passes for this process. */
  readonly pace?: number
}

export class World {
  readonly clock: ManualClock = manualClock()
  readonly stored = memoryTable({ now: () => this.clock.now() })
  readonly processes: SimProcess[] = []
  weather: Weather = CALM
  /** The table answers nobody. */
  away = false
  /** Requests that came to the table. */
  requests = 0
  /** When the last of what is on its way now will have come. */
  underwayUntilMs = 0
  readonly acked: Item[] = []
  readonly #logs = new Map<string, ItemLog>()
  /** By partition, what is applied. */
  readonly #state = new Map<number, Set<number>>()
  /** By partition, the last taking of it, and what was applied then. */
  readonly #taken = new Map<number, { readonly epoch: number; readonly state: ReadonlySet<number> }>()
  /** Whose lease is broken. */
  readonly #broken = new Set<string>()
  readonly #epochs = new Float64Array(PARTITIONS)
  readonly #subscribers = new Map<string, Set<(body: Uint8Array) => void>>()
  /** Found where nobody would see an Error that is thrown. */
  readonly #wrong: string[] = []
  #ids = 0

  newId = (): string => `i${++this.#ids}`

  add(making: Making = {}): SimProcess {
    const process = new SimProcess(this, making)
    this.processes.push(process)
    return process
  }

  get alive(): readonly SimProcess[] {
    return this.processes.filter(({ dead }) => !dead)
  }

  /** Throws Error where two processes that are sure own the same, or another promise was broken. Called before each event. */
  check(): void {
    if (this.#wrong.length > 0) throw new Error(this.#wrong[0])
    const sure = this.processes.filter(({ dead, ownership }) => !dead && ownership.sure())
    for (const [n, one] of sure.entries())
      for (const other of sure.slice(n + 1))
        for (const [word, bits] of one.bits().entries())
          if ((bits & other.bits()[word]!) !== 0)
            throw new Error(`${one.id} and ${other.id} both own some of ${word * 32} to ${word * 32 + 31}, and are sure`)
  }

  /** Throws Error that says which partition is not where it should be. */
  checkSettled(role: RoleName = 'router'): void {
    const live = this.alive.filter(({ roles }) => roles.includes(role))
    const wanted = rendezvousAll(PARTITIONS, live.map(({ id }) => id).sort())
    for (const [partition, should] of wanted.entries()) {
      const ready = live.filter(({ ownership }) => ownership.sure() && ownership.ownsPartition(role, partition))
      const ids = ready.map(({ id }) => id).join(' ')
      if (ids !== should) throw new Error(`${role} ${partition} is ready in [${ids}]; it should be in ${should}`)
      for (const { ownership, id } of this.alive)
        if (ownership.ownerAt(role, partition) !== should)
          throw new Error(
            `${id} takes ${ownership.ownerAt(role, partition)} for the owner of ${role} ${partition}, not ${should}`,
          )
    }
  }

  after(ms: number, call: () => void): void {
    this.underwayUntilMs = Math.max(this.underwayUntilMs, this.clock.monotonic() + ms)
    this.clock.setTimeout(() => {
      this.check()
      call()
    }, ms)
  }

  /** A request of a process to the table, under the weather. */
  request<T>(process: SimProcess, kind: Kind, run: () => Promise<T>): Promise<T> {
    const { weather } = this
    return farRequest(run, {
      fault: weather.fault(kind),
      isAway: () => this.away,
      there: (arrive) =>
        this.after(weather.wayMs(), () => {
          this.requests++
          arrive()
        }),
      back: (settle) => this.after(this.weather.wayMs(), () => process.gate(settle)),
      late: (happen) => this.after(weather.lateMs(), happen),
    })
  }

  publish(subject: string, body: Uint8Array): void {
    for (const handler of this.#subscribers.get(subject) ?? [])
      if (!this.weather.loses()) this.after(this.weather.wayMs(), () => handler(body))
  }

  subscribe(subject: string, handler: (body: Uint8Array) => void): Subscription {
    const handlers = this.#subscribers.get(subject) ?? new Set()
    this.#subscribers.set(subject, handlers.add(handler))
    return { close: () => handlers.delete(handler) }
  }

  noteWritten(row: Row): void {
    if (row.pk === LEASES) {
      const { state } = readLease(row)
      if (this.#broken.has(row.sk) && state !== 'broken') this.#wrong.push(`the broken lease of ${row.sk} was renewed`)
      if (state === 'broken') this.#broken.add(row.sk)
    }
    if (row.pk !== OWNERS || row.sk !== 'router') return
    for (const [partition, epoch] of readOwnersRow(row).epochs.entries()) {
      if (epoch < this.#epochs[partition]!) this.#wrong.push(`the epoch of ${partition} fell to ${epoch}`)
      this.#epochs[partition] = epoch
    }
  }

  noteDeleted({ pk, sk }: Key): void {
    if (pk === LEASES) this.#broken.delete(sk)
  }

  logOf(process: string): ItemLog {
    const log = this.#logs.get(process) ?? []
    this.#logs.set(process, log)
    return log
  }

  apply({ partition, name }: Item): void {
    const names = this.#state.get(partition) ?? new Set()
    this.#state.set(partition, names.add(name))
  }

  /** All that is in the log is applied, and what comes later under a number of before is refused. */
  seal(process: string): void {
    const log = this.logOf(process)
    log.push(undefined)
    for (const item of log) if (item !== undefined) this.apply(item)
  }

  /** A process becomes the owner. It must know what those before it have acknowledged. */
  noteTaken(partition: number, epoch: number): void {
    this.#checkApplied(partition)
    this.#taken.set(partition, { epoch, state: new Set(this.#state.get(partition)) })
  }

  /** An owner acknowledges what it has done. A later one must have begun with it. */
  noteAcked(item: Item, epoch: number): void {
    const taken = this.#taken.get(item.partition)
    if (taken !== undefined && taken.epoch > epoch && !taken.state.has(item.name))
      this.#wrong.push(`what epoch ${epoch} acknowledged in ${item.partition} is not known to the owner of epoch ${taken.epoch}`)
    this.acked.push(item)
  }

  /** Throws Error where something acknowledged is not applied. For when nobody has anything left to do. */
  checkAcked(): void {
    this.#checkApplied()
    this.check()
  }

  #checkApplied(partition?: number): void {
    for (const item of this.acked)
      if ((partition ?? item.partition) === item.partition && !this.#state.get(item.partition)?.has(item.name))
        this.#wrong.push(`what was acknowledged in ${item.partition} is lost`)
  }
}

/** One process of a world. */
export class SimProcess implements Owning {
  readonly id: string
  readonly roles: readonly string[]
  readonly membership: Membership
  readonly ownership: ClusterOwnership
  readonly world: World
  /** What was asked of this process, in order: `take router 128`. */
  readonly told: string[] = []
  dead = false
  leaving = false
  readonly #pace: number
  #busState: BusState = 'up'
  readonly #busWatchers = new Set<(state: BusState) => void>()
  #deferred: (() => void)[] | undefined
  #bits: Int32Array | undefined
  /** Items that are not both acknowledged and applied. */
  readonly #open = new Set<Item>()
  /** Rises when it is fenced. */
  #life = 0
  #writing = false
  /** Where the next item goes in its log; undefined: not looked for in this life. */
  #place: number | undefined

  constructor(world: World, { roles = ['router'], bus, id, pace = 1 }: Making) {
    this.world = world
    this.roles = roles
    this.id = id ?? `p${world.processes.length}`
    this.#pace = pace
    const common = { table: this.#table(), bus: this.#bus(bus), clock: this.#clock(), log: silentLog, newId: world.newId }
    const random = () => world.weather.random()
    this.membership = new Membership({ ...common, process: this.id, roles, host: 'here', random })
    this.ownership = new ClusterOwnership({ ...common, membership: this.membership })
  }

  start(): this {
    const own = this.roles.filter((role): role is RoleName => role === 'router' || role === 'presence')
    void this.ownership.join(own, this)
    return this
  }

  /** SIGTERM. Resolves when it has left; then it is dead. */
  async leave(patienceMs = 30_000): Promise<void> {
    this.leaving = true
    await this.ownership.leave(patienceMs)
    this.dead = true
  }

  /** SIGKILL. */
  kill(): void {
    this.dead = true
    this.#deferred = undefined
  }

  /** SIGSTOP. */
  pause(): void {
    this.#deferred ??= []
  }

  get paused(): boolean {
    return this.#deferred !== undefined
  }

  /** SIGCONT. */
  go(): void {
    const deferred = this.#deferred ?? []
    this.#deferred = undefined
    for (const call of deferred) this.gate(call)
  }

  /** Its way to the bus is cut, or there again. */
  turnBus(state: BusState): void {
    this.#busState = state
    for (const watcher of this.#busWatchers) this.gate(() => watcher(state))
  }

  gate(call: () => void): void {
    if (this.dead) return
    this.#bits = undefined
    if (this.#deferred !== undefined) this.#deferred.push(call)
    else call()
  }

  /** What it owns, a bit for each partition of each role. It changes when something has passed the gate. */
  bits(): Int32Array {
    if (this.#bits !== undefined) return this.#bits
    this.#bits = new Int32Array((ROLES.length * PARTITIONS) / 32)
    for (const [n, role] of ROLES.entries())
      for (let partition = 0; this.roles.includes(role) && partition < PARTITIONS; partition++)
        if (this.ownership.ownsPartition(role, partition)) this.#bits[(n * PARTITIONS + partition) >> 5]! |= 1 << (partition & 31)
    return this.#bits
  }

  owned(role: RoleName = 'router'): number {
    let count = 0
    for (let partition = 0; partition < PARTITIONS; partition++) if (this.ownership.ownsPartition(role, partition)) count++
    return count
  }

  async recover(process: string, role: RoleName, _applied: number): Promise<number> {
    this.told.push(`recover ${role} ${process}`)
    if (role === 'router') await this.world.request(this, 'write', async () => this.world.seal(process))
    return 1
  }

  async take(role: RoleName, partitions: readonly number[]): Promise<void> {
    this.told.push(`take ${role} ${partitions.length}`)
    if (role === 'router')
      for (const partition of partitions) this.world.noteTaken(partition, this.ownership.epochAt(role, partition))
    await this.#work()
  }

  async release(role: RoleName, partitions: readonly number[]): Promise<void> {
    this.told.push(`release ${role} ${partitions.length}`)
    await this.#work()
    while (role === 'router' && [...this.#open].some(({ partition }) => partitions.includes(partition))) await this.#work(50)
  }

  fenced(role: RoleName): void {
    this.told.push(`fenced ${role}`)
    if (role !== 'router') return
    this.#open.clear()
    this.#life++
    this.#writing = false
    this.#place = undefined
  }

  /** Handles something for a partition, where it owns it: acknowledged once it is in the log, then applied. */
  write(partition: number, name: number): void {
    const { ownership, world } = this
    if (this.dead || this.paused || this.#writing || !ownership.sure() || !ownership.ownsPartition('router', partition)) return
    const item: Item = { partition, name }
    const epoch = ownership.epochAt('router', partition)
    const life = this.#life
    this.#open.add(item)
    this.#writing = true
    this.#place ??= world.logOf(this.id).length
    void this.#append(item, this.#place++, life).then((isIn) => {
      if (life !== this.#life) return
      this.#writing = false
      if (!isIn) return this.membership.fence('its log was sealed')
      world.noteAcked(item, epoch)
      world.after(world.weather.workMs(), () =>
        this.gate(() => {
          if (life !== this.#life) return
          world.apply(item)
          this.#open.delete(item)
        }),
      )
    })
  }

  /** False where that place in the log is taken: by a seal. */
  async #append(item: Item, place: number, life: number): Promise<boolean> {
    const log = this.world.logOf(this.id)
    for (;;) {
      try {
        return await this.world.request(this, 'write', async () => {
          if (log.length === place) log.push(item)
          return log[place] === item
        })
      } catch {
        do await this.#work(100)
        while (life === this.#life && !this.ownership.sure())
        if (life !== this.#life) return false
      }
    }
  }

  /** Nothing is handed on here. */
  handedOn = 0

  #work(ms = this.world.weather.workMs()): Promise<void> {
    return new Promise((resolve) => this.world.after(ms, () => this.gate(resolve)))
  }

  #clock(): Clock {
    const { clock } = this.world
    const run = (call: () => void) => () => {
      this.world.check()
      this.gate(call)
    }
    return {
      now: () => clock.now(),
      monotonic: () => clock.monotonic() * this.#pace,
      setTimeout: (call, ms) => clock.setTimeout(run(call), ms / this.#pace),
      setInterval: () => {
        throw new Error('nothing here repeats by itself')
      },
      clearTimeout: (timer) => clock.clearTimeout(timer),
    }
  }

  #table(): Table {
    const { world } = this
    const { stored } = world
    const read = <T>(run: () => Promise<T>): Promise<T> => world.request(this, 'read', run)
    const write = <T>(run: () => Promise<T>): Promise<T> => world.request(this, 'write', run)
    const all = async (pk: string): Promise<Row[]> => {
      const rows: Row[] = []
      for await (const row of stored.query(pk)) rows.push(row)
      return rows
    }
    return {
      get: (key: Key) => read(() => stored.get(key)),
      put: (row, condition) =>
        write(async () => {
          await stored.put(row, condition)
          world.noteWritten(row)
        }),
      delete: (key, condition) =>
        write(async () => {
          await stored.delete(key, condition)
          world.noteDeleted(key)
        }),
      async *query(pk) {
        yield* await read(() => all(pk))
      },
    }
  }

  /** The one that is given, or the world's. */
  #bus(given: Bus | undefined): Bus {
    const { world } = this
    const bus: Pick<Bus, 'publish' | 'subscribe' | 'status'> = {
      publish: (subject, body) => {
        if (this.#busState === 'up') (given ?? world).publish(subject, body)
      },
      subscribe: (subject, handler) =>
        (given ?? world).subscribe(subject, (body: Uint8Array) => {
          if (this.#busState === 'up') this.gate(() => handler(body, () => {}))
        }),
      status: (handler) => {
        this.#busWatchers.add(handler)
        handler(this.#busState)
        return { close: () => void this.#busWatchers.delete(handler) }
      },
    }
    return bus as Bus
  }
}

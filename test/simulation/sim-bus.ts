// A bus that is as bad as its contract allows, and worse: what is published may be lost, come late, or come twice.
//
// Bodies of one process on one subject come to each subscription in order, but for those that come a second time. A process
// may be cut off in one direction or both, and not know it: then what it says is lost, or comes when the cut is mended, as from
// the buffers of a connection that has lived through it. Or its connection is gone, and it is told so.
import {
  BODY_BYTES_MAX,
  type Bus,
  type BusHandler,
  type BusState,
  BusTimeout,
  NoResponders,
  type Subscription,
} from '#bus/bus.ts'
import type { Clock } from '#core/clock.ts'
import type { Gate, Scheduler } from './scheduler.ts'

export interface BusWeather {
  /** One in so many is lost; 0: none is. */
  dropOneIn: number
  twiceOneIn: number
  delayMsMax: number
}

export type Direction = 'in' | 'out'

interface Cut {
  /** What is said meanwhile comes later. */
  readonly keeps: boolean
  readonly kept: (() => void)[]
}

interface Member {
  readonly bus: SimBus
  readonly handler: BusHandler
  open: boolean
  /** By publisher and subject: when the last body came, or will. */
  readonly dueMs: Map<string, number>
}

export class Network {
  readonly scheduler: Scheduler
  weather: BusWeather = { dropOneIn: 0, twiceOneIn: 0, delayMsMax: 1 }
  /** Bodies that were published, by the first token of their subjects. */
  readonly published = new Map<string, number>()
  /** What has happened to bodies. */
  readonly faults = { dropped: 0, twice: 0, cut: 0, lostWhileDown: 0 }
  /** When the last of what is on its way will have come. */
  underwayUntilMs = 0
  /** Told of each body that a process publishes. */
  watch: (publisher: string, subject: string) => void = () => {}
  readonly #members = new Map<string, Set<Member>>()

  constructor(scheduler: Scheduler) {
    this.scheduler = scheduler
  }

  open(name: string, gate: Gate, clock: Clock): SimBus {
    return new SimBus(this, name, gate, clock)
  }

  membersOf(subject: string): Set<Member> {
    let members = this.#members.get(subject)
    if (members === undefined) {
      members = new Set()
      this.#members.set(subject, members)
    }
    return members
  }

  publish(from: SimBus, subject: string, body: Uint8Array, reply: (body: Uint8Array) => void): void {
    if (body.length > BODY_BYTES_MAX) throw new RangeError(`a body of ${body.length} bytes`)
    const kind = subject.slice(0, subject.indexOf('.'))
    this.published.set(kind, (this.published.get(kind) ?? 0) + 1)
    const copy = Buffer.from(body)
    this.#pass(from, 'out', () => {
      for (const member of this.#members.get(subject) ?? []) this.#carry(member, `${from.name} ${subject}`, copy, reply)
    })
  }

  /** An answer, to whoever asked. */
  answer(from: SimBus, to: SimBus, take: () => void): void {
    this.#pass(from, 'out', () => this.#later(this.#delayMs(), () => this.#pass(to, 'in', take)))
  }

  /** Whether it comes to the other side of this process's connection, and when. */
  #pass(bus: SimBus, direction: Direction, go: () => void): void {
    if (bus.state === 'down') this.faults.lostWhileDown++
    else if (bus.cuts[direction] === undefined) go()
    else {
      this.faults.cut++
      if (bus.cuts[direction].keeps) bus.cuts[direction].kept.push(() => this.#pass(bus, direction, go))
    }
  }

  #carry(member: Member, way: string, body: Uint8Array, reply: (body: Uint8Array) => void): void {
    const { random, nowMs } = this.scheduler
    const { dropOneIn, twiceOneIn } = this.weather
    if (dropOneIn > 0 && random.chance(dropOneIn)) {
      this.faults.dropped++
      return
    }
    const come = (): void =>
      this.#pass(member.bus, 'in', () =>
        member.bus.gate(() => {
          if (member.open) member.handler(body, reply)
        }),
      )
    const dueMs = Math.max(member.dueMs.get(way) ?? 0, nowMs + this.#delayMs())
    member.dueMs.set(way, dueMs)
    this.#later(dueMs - nowMs, come)
    if (twiceOneIn > 0 && random.chance(twiceOneIn)) {
      this.faults.twice++
      this.#later(dueMs - nowMs + random.int(2_000), come)
    }
  }

  #delayMs(): number {
    return this.scheduler.random.int(this.weather.delayMsMax + 1)
  }

  #later(ms: number, call: () => void): void {
    this.underwayUntilMs = Math.max(this.underwayUntilMs, this.scheduler.nowMs + ms)
    this.scheduler.after(ms, call)
  }
}

/** The connection of one process. */
export class SimBus implements Bus {
  readonly lossless = false
  readonly name: string
  readonly gate: Gate
  readonly cuts: { in: Cut | undefined; out: Cut | undefined } = { in: undefined, out: undefined }
  state: BusState = 'up'
  readonly #network: Network
  readonly #clock: Clock
  readonly #watchers = new Set<(state: BusState) => void>()
  readonly #subscriptions = new Set<Subscription>()
  #closed = false

  constructor(network: Network, name: string, gate: Gate, clock: Clock) {
    this.#network = network
    this.name = name
    this.gate = gate
    this.#clock = clock
  }

  publish(subject: string, body: Uint8Array): void {
    if (this.#closed) return
    this.#network.watch(this.name, subject)
    this.#network.publish(this, subject, body, () => {})
  }

  request(subject: string, body: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      const timer = this.#clock.setTimeout(() => reject(new BusTimeout(subject, timeoutMs)), timeoutMs)
      const refuse = (): void => {
        this.#clock.clearTimeout(timer)
        reject(new NoResponders(subject))
      }
      if (this.#network.membersOf(subject).size === 0) this.#network.answer(this, this, () => this.gate(refuse))
      for (const { bus } of this.#network.membersOf(subject)) {
        this.#network.publish(this, subject, body, (answer) =>
          this.#network.answer(bus, this, () =>
            this.gate(() => {
              this.#clock.clearTimeout(timer)
              resolve(answer)
            }),
          ),
        )
      }
    })
  }

  subscribe(subject: string, handler: BusHandler): Subscription {
    const members = this.#network.membersOf(subject)
    const member: Member = { bus: this, handler, open: true, dueMs: new Map() }
    members.add(member)
    const subscription: Subscription = {
      close: () => {
        member.open = false
        members.delete(member)
        this.#subscriptions.delete(subscription)
      },
    }
    this.#subscriptions.add(subscription)
    return subscription
  }

  /** The process is dead, and its connection with it: nobody listens there. */
  close(): void {
    this.#closed = true
    for (const subscription of this.#subscriptions) subscription.close()
  }

  status(handler: (state: BusState) => void): Subscription {
    this.#watchers.add(handler)
    handler(this.state)
    return { close: () => void this.#watchers.delete(handler) }
  }

  /** The connection is lost, or there again, and the process is told. */
  turn(state: BusState): void {
    this.state = state
    this.gate(() => {
      for (const watcher of this.#watchers) watcher(state)
    })
  }

  /** The process is not told. `keeps`: what is said meanwhile comes later. */
  cut(directions: readonly Direction[], keeps: boolean): void {
    for (const direction of directions) this.cuts[direction] ??= { keeps, kept: [] }
  }

  mend(): void {
    for (const direction of ['in', 'out'] as const) {
      const cut = this.cuts[direction]
      this.cuts[direction] = undefined
      for (const go of cut?.kept ?? []) go()
    }
  }

  async drain(): Promise<void> {
    throw new Error('no process of a simulation drains its bus')
  }
}

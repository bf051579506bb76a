// The bus inside one process.
//
// A body is handed on as the reference it came as. Publishing only queues: one setImmediate per burst dispatches what was
// queued before it ran, and what handlers publish meanwhile waits for the next burst, so that ordering and re-entrancy are as
// on NATS. A few bursts may follow each other within one turn of the event loop: a message takes two, from the edge to its
// owner and back, and a turn more is a system call more. Then sockets get their turn. Who gets a body is decided when it is published, as a server would, by one Map look-up:
// a route is made once per subject and mended only after a subscription came or went.
//
// The queue is bounded, and what comes on top is lost, as on NATS. Lanes, their acks and answers are not: nobody here sends
// them again, and a lane's sources stop at a bound of their own (core/lanes/lane.ts), as callers wait for their answers.
import { type Bus, type BusHandler, type BusState, BusTimeout, NoResponders, type Subscription } from './bus.ts'
import { checkBody, checkSubject, closed } from './checks.ts'

export interface MemoryBusOptions {
  /** Told what a handler threw, or what the promise it returned was rejected with. The other handlers run all the same. */
  onError?: (error: unknown, subject: string) => void
}

/** A bus whose publishers and subscribers are all in this process. It is up from the start and down when drained. */
export function memoryBus(options: MemoryBusOptions = {}): Bus {
  return new MemoryBus(options.onError ?? (() => {}))
}

/** Beyond either of these what is published is lost, and status says 'slow' until the queue has been dispatched. */
const QUEUED_BODIES_MAX = 500_000
const QUEUED_BYTES_MAX = 256 * 1024 * 1024
/** What is queued whatever waits there already. */
const KEPT_SUBJECT = /^(?:lane|ack)\./
/** Bursts in one turn. */
const BURSTS_MAX = 4
/** Routes remembered; the subjects of one deployment are far fewer. Reaching it forgets them all. */
const ROUTES_MAX = 10_000

type Reply = (body: Uint8Array) => void
const noReply: Reply = () => {}

interface Member {
  readonly subject: string
  readonly group: string | undefined
  readonly handler: BusHandler
  open: boolean
}

interface Group {
  readonly name: string
  members: readonly Member[]
  next: number
}

/** Where the bodies of one subject go. `edition` is that of the subscriptions it was made from. */
interface Route {
  edition: number
  /** Its bodies are never lost. */
  readonly kept: boolean
  singles: readonly Member[]
  groups: readonly Group[]
}

interface Delivery {
  readonly member: Member
  readonly body: Uint8Array
  readonly reply: Reply
}

/** A request that waits: `settle` is called once, by the answer, the timer or the end of the bus. */
interface Question {
  readonly settle: (answer: Uint8Array | Error) => void
  readonly timer: NodeJS.Timeout
}

class MemoryBus implements Bus {
  readonly lossless = true
  readonly #onError: (error: unknown, subject: string) => void
  readonly #members = new Map<string, Set<Member>>()
  readonly #routes = new Map<string, Route>()
  readonly #watchers = new Set<(state: BusState) => void>()
  readonly #questions = new Set<Question>()
  #edition = 0
  #queue: Delivery[] = []
  #queuedBytes = 0
  /** Those of this turn; 0 where none has begun, or the last one has published nothing. */
  #bursts = 0
  #running = 0
  #state: BusState = 'up'
  #draining: Promise<void> | undefined
  #whenIdle: (() => void) | undefined

  constructor(onError: (error: unknown, subject: string) => void) {
    this.#onError = onError
  }

  publish(subject: string, body: Uint8Array): void {
    this.#checkOpen()
    checkBody(subject, body)
    this.#enqueue(this.#route(subject), body, noReply)
  }

  async request(subject: string, body: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    this.#checkOpen()
    if (this.#draining) throw closed()
    checkBody(subject, body)
    const route = this.#route(subject)
    if (route.singles.length === 0 && route.groups.length === 0) throw new NoResponders(subject)
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#questions.delete(question)
        reject(new BusTimeout(subject, timeoutMs))
      }, timeoutMs).unref()
      const question: Question = { timer, settle: (answer) => (answer instanceof Error ? reject(answer) : resolve(answer)) }
      this.#questions.add(question)
      this.#enqueue(route, body, (answer) => this.#answer(question, subject, answer))
    })
  }

  subscribe(subject: string, handler: BusHandler, options: { group?: string } = {}): Subscription {
    this.#checkOpen()
    if (this.#draining) throw closed()
    checkSubject(subject, true)
    const member: Member = { subject, group: options.group, handler, open: true }
    const members = this.#members.get(subject)
    if (members) members.add(member)
    else this.#members.set(subject, new Set([member]))
    this.#edition++
    return { close: () => this.#remove(member) }
  }

  /**
   * As a NATS connection drains: from now on nobody can subscribe or request and no new body reaches a handler; what is
   * queued is dispatched and what is running is awaited, and may still publish and reply. Then the bus is closed: publishing
   * throws, and requests without an answer are rejected.
   */
  drain(): Promise<void> {
    this.#draining ??= this.#drain()
    return this.#draining
  }

  status(handler: (state: BusState) => void): Subscription {
    this.#watchers.add(handler)
    this.#tellOne(handler, this.#state)
    return { close: () => this.#watchers.delete(handler) }
  }

  async #drain(): Promise<void> {
    this.#members.clear() // what is queued knows its member; what is published from here on finds none
    this.#edition++
    if (this.#queue.length > 0 || this.#running > 0) await new Promise<void>((resolve) => (this.#whenIdle = resolve))
    this.#state = 'down'
    for (const { settle, timer } of this.#questions) {
      clearTimeout(timer)
      settle(closed())
    }
    this.#questions.clear()
    this.#routes.clear()
    for (const watcher of this.#watchers) this.#tellOne(watcher, 'down')
  }

  #remove(member: Member): void {
    if (!member.open) return
    member.open = false // and what is queued for it is dropped
    const members = this.#members.get(member.subject)
    if (members?.delete(member) && members.size === 0) this.#members.delete(member.subject)
    this.#edition++
  }

  #route(subject: string): Route {
    const route = this.#routes.get(subject)
    return route !== undefined && route.edition === this.#edition ? route : this.#mendRoute(subject, route)
  }

  /** A group is one group whichever subject its members subscribed by, and keeps its turn when members come and go. */
  #mendRoute(subject: string, old: Route | undefined): Route {
    checkSubject(subject, false)
    const singles: Member[] = []
    const groups = new Map<string, Member[]>()
    for (const pattern of [subject, patternOf(subject)]) {
      for (const member of this.#members.get(pattern) ?? []) {
        if (member.group === undefined) singles.push(member)
        else if (!groups.get(member.group)?.push(member)) groups.set(member.group, [member])
      }
    }
    const route: Route = {
      edition: this.#edition,
      kept: KEPT_SUBJECT.test(subject),
      singles,
      groups: [...groups].map(([name, members]) => ({
        name,
        members,
        next: old?.groups.find((group) => group.name === name)?.next ?? 0,
      })),
    }
    if (old === undefined && this.#routes.size >= ROUTES_MAX) this.#routes.clear()
    this.#routes.set(subject, route)
    return route
  }

  #enqueue(route: Route, body: Uint8Array, reply: Reply): void {
    const { kept } = route
    for (const member of route.singles) this.#push(member, body, reply, kept)
    for (const group of route.groups) {
      const member = group.members[group.next % group.members.length]!
      group.next = (group.next + 1) % group.members.length
      this.#push(member, body, reply, kept)
    }
  }

  #push(member: Member, body: Uint8Array, reply: Reply, kept: boolean): void {
    const full = this.#queue.length >= QUEUED_BODIES_MAX || this.#queuedBytes + body.length > QUEUED_BYTES_MAX
    if (full && !kept) {
      if (this.#state === 'up') this.#tell('slow')
      return
    }
    this.#queue.push({ member, body, reply })
    this.#queuedBytes += body.length
    this.#schedule()
  }

  /** The answer travels by the queue, behind what the handler published before it; it is in time if given in time. */
  #answer(question: Question, subject: string, answer: Uint8Array): void {
    if (!this.#questions.has(question)) return // answered already, or too late
    checkBody(subject, answer)
    this.#questions.delete(question)
    clearTimeout(question.timer)
    const handler = (body: Uint8Array) => question.settle(body)
    // Not by #push: an answer is not dropped, and there is at most one per question.
    this.#queue.push({ member: { subject, group: undefined, handler, open: true }, body: answer, reply: noReply })
    this.#schedule()
  }

  /** Within a burst the next one is looked after by #goOn. */
  #schedule(): void {
    if (this.#queue.length === 1 && this.#bursts === 0) setImmediate(this.#dispatch)
  }

  readonly #dispatch = (): void => {
    const queue = this.#queue
    this.#queue = []
    this.#queuedBytes = 0
    this.#bursts++
    for (const { member, body, reply } of queue) {
      if (!member.open) continue
      try {
        const running: unknown = member.handler(body, reply)
        if (running instanceof Promise) this.#await(running, member.subject)
      } catch (error) {
        this.#report(error, member.subject)
      }
    }
    if (this.#state === 'slow') this.#tell('up')
    queueMicrotask(this.#goOn) // behind what the handlers gather until their microtasks, and publish there
    this.#checkIdle()
  }

  readonly #goOn = (): void => {
    if (this.#queue.length > 0 && this.#bursts < BURSTS_MAX) return this.#dispatch()
    this.#bursts = 0
    if (this.#queue.length > 0) setImmediate(this.#dispatch)
  }

  /** A handler's type returns nothing, but an async function is one: it is running until its promise settles. */
  #await(running: Promise<unknown>, subject: string): void {
    this.#running++
    const done = () => {
      this.#running--
      this.#checkIdle()
    }
    running.then(done, (error: unknown) => {
      this.#report(error, subject)
      done()
    })
  }

  #checkIdle(): void {
    if (this.#whenIdle && this.#queue.length === 0 && this.#running === 0) this.#whenIdle()
  }

  #tell(state: BusState): void {
    this.#state = state
    for (const watcher of this.#watchers) this.#tellOne(watcher, state)
  }

  #tellOne(watcher: (state: BusState) => void, state: BusState): void {
    try {
      watcher(state)
    } catch (error) {
      this.#report(error, `status ${state}`)
    }
  }

  #report(error: unknown, subject: string): void {
    try {
      this.#onError(error, subject)
    } catch {
      // A reporter that throws must not stop the handlers behind it, and there is nobody left to tell.
    }
  }

  #checkOpen(): void {
    if (this.#state === 'down') throw closed()
  }
}

/** `lane.router.a1` is matched by `lane.router.*`, and by no shorter or longer pattern. */
function patternOf(subject: string): string {
  return `${subject.slice(0, subject.lastIndexOf('.') + 1)}*`
}

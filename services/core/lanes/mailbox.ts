// One account at a time, in order, like an actor.
//
// A task that answers at once costs one Map look-up. Only while a task waits for something does the account have a
// queue; what comes for it meanwhile waits there, and other accounts go on.
//
// The queues are bounded in bytes, each and all together. `hasRoom` says whether one more stanza may wait; where not, its
// sender is told so, and who sends on is slowed by the answers that are still to come. What has to be done whatever waits
// already (a session has ended, a call is to be answered) is run without asking: there is little of it.
import { TableUnavailable } from '#table/table.ts'
import { type Clock, pause } from '../clock.ts'
import type { Log } from '../observing/log.ts'
import type { OfAccounts } from '../ownership/held.ts'

export type Task = () => void | Promise<void>

/** What may wait for one account. */
export const ACCOUNT_WAITING_BYTES_MAX = 8 * 1024 * 1024
/** What may wait for all accounts of one owner: a table that is away parks many. Less than what stops its lanes (lane.ts). */
export const WAITING_BYTES_MAX = 24 * 1024 * 1024
/** A task besides the stanza it is about. */
const TASK_COST_BYTES = 1024

const RETRY_FIRST_MS = 50
const RETRY_MOST_MS = 5_000

interface Waiting {
  readonly task: Task
  readonly bytes: number
}

/** What waits for one account. */
interface Queue {
  readonly tasks: Waiting[]
  bytes: number
  /** Whether it has been said that there is no more room. */
  told: boolean
  /** The account is not ours any more: nothing of it is begun. */
  dropped: boolean
}

/** Somebody waits until none of these accounts waits for anything. */
interface Watch {
  readonly left: Set<string>
  readonly resolve: () => void
}

export class Mailboxes {
  readonly #waiting = new Map<string, Queue>()
  /** Of all queues. */
  #bytes = 0
  #settled: (() => void)[] = []
  #watches: Watch[] = []
  /** Tasks that are not over, of accounts that were dropped. */
  #stragglers = 0
  #whenOver: (() => void)[] = []
  readonly #clock: Clock
  readonly #log: Log
  readonly #random: () => number

  constructor(clock: Clock, log: Log, random: () => number = Math.random) {
    this.#clock = clock
    this.#log = log
    this.#random = random
  }

  /** Accounts that wait for something. */
  get busy(): number {
    return this.#waiting.size
  }

  /** Resolves when no account waits for anything. */
  settled(): Promise<void> {
    if (this.#waiting.size === 0) return Promise.resolve()
    return new Promise((resolve) => this.#settled.push(resolve))
  }

  /** Resolves when none of those that wait for something now, of these accounts, does any more. */
  settledOf(which: OfAccounts): Promise<void> {
    const left = new Set<string>()
    for (const account of this.#waiting.keys()) if (which(account)) left.add(account)
    if (left.size === 0) return Promise.resolve()
    return new Promise((resolve) => this.#watches.push({ left, resolve }))
  }

  /** Whether any of these accounts waits for something. */
  anyOf(which: OfAccounts): boolean {
    for (const account of this.#waiting.keys()) if (which(account)) return true
    return false
  }

  /** Whatever waits for these accounts is dropped. What runs goes on to its end, and is not tried again. */
  drop(which: OfAccounts): void {
    for (const [account, queue] of this.#waiting) {
      if (!which(account)) continue
      queue.dropped = true
      queue.tasks.length = 0
      this.#bytes -= queue.bytes
      this.#stragglers++
      this.#delete(account)
    }
  }

  /** Resolves when all that ran when its account was dropped is over. */
  stragglersOver(): Promise<void> {
    if (this.#stragglers === 0) return Promise.resolve()
    return new Promise((resolve) => this.#whenOver.push(resolve))
  }

  /** Nothing waits for this account. */
  idle(account: string): boolean {
    return !this.#waiting.has(account)
  }

  /** Whether a stanza of so many bytes may wait for this account. One for whom nothing waits has room. */
  hasRoom(account: string, bytes: number): boolean {
    const queue = this.#waiting.get(account)
    if (queue === undefined) return true
    const more = bytes + TASK_COST_BYTES
    if (queue.bytes + more <= ACCOUNT_WAITING_BYTES_MAX && this.#bytes + more <= WAITING_BYTES_MAX) return true
    if (!queue.told) this.#log.warn('account.full', { account, waiting: queue.tasks.length, bytes: queue.bytes })
    queue.told = true
    return false
  }

  /**
   * Runs the task now, or after what the account is waiting for. A task that meets TableUnavailable is run again
   * until the table answers, and its account waits; any other error is our own bug, logged and dropped.
   * @param bytes of the stanza, which the task keeps alive while it waits
   */
  run(account: string, task: Task, bytes = 0): void {
    const queue = this.#waiting.get(account)
    if (queue !== undefined) {
      const cost = bytes + TASK_COST_BYTES
      queue.tasks.push({ task, bytes: cost })
      queue.bytes += cost
      this.#bytes += cost
      return
    }
    const pending = this.#start(task)
    if (pending === undefined) return
    this.#waiting.set(account, { tasks: [], bytes: 0, told: false, dropped: false })
    void this.#finish(account, pending, task)
  }

  #start(task: Task): Promise<void> | undefined {
    try {
      return task() ?? undefined
    } catch (error) {
      if (error instanceof TableUnavailable) return Promise.reject(error)
      this.#log.error('task.broke', { error })
    }
  }

  async #finish(account: string, first: Promise<void>, firstTask: Task): Promise<void> {
    const queue = this.#waiting.get(account)!
    let pending: Promise<void> | undefined = first
    let task = firstTask
    let pauseMs = RETRY_FIRST_MS
    for (;;) {
      try {
        await pending
        pauseMs = RETRY_FIRST_MS
      } catch (error) {
        if (!(error instanceof TableUnavailable)) {
          this.#log.error('task.broke', { error })
        } else if (!queue.dropped) {
          this.#log.warn('account.parked', { account, waiting: queue.tasks.length, pauseMs })
          await pause(this.#clock, pauseMs * (0.5 + this.#random() / 2))
          pauseMs = Math.min(pauseMs * 2, RETRY_MOST_MS)
          pending = queue.dropped ? undefined : this.#start(task)
          continue
        }
      }
      if (queue.dropped) return this.#isOver()
      do {
        const next = this.#next(account, queue)
        if (next === undefined) return
        task = next
        pending = this.#start(task)
      } while (pending === undefined)
    }
  }

  /** Undefined where nothing waits any more: the account has no queue then. */
  #next(account: string, queue: Queue): Task | undefined {
    const next = queue.tasks.shift()
    if (next !== undefined) {
      queue.bytes -= next.bytes
      this.#bytes -= next.bytes
      return next.task
    }
    this.#delete(account)
  }

  #delete(account: string): void {
    this.#waiting.delete(account)
    if (this.#watches.length > 0) this.#tellWatches(account)
    if (this.#waiting.size === 0) for (const resolve of this.#settled.splice(0)) resolve()
  }

  #tellWatches(account: string): void {
    for (const { left, resolve } of this.#watches) if (left.delete(account) && left.size === 0) resolve()
    this.#watches = this.#watches.filter(({ left }) => left.size > 0)
  }

  #isOver(): void {
    if (--this.#stragglers === 0) for (const resolve of this.#whenOver.splice(0)) resolve()
  }
}

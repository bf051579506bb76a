// One account at a time, in order, like an actor.
//
// A task that answers at once costs one Map look-up. Only while a task waits for something does the account have a
// queue; what comes for it meanwhile waits there, and other accounts go on.
import { TableUnavailable } from '#table/table.ts'
import type { Clock } from './clock.ts'
import type { Log } from './log.ts'

export type Task = () => void | Promise<void>

const RETRY_FIRST_MS = 50
const RETRY_MOST_MS = 5_000

export class Mailboxes {
  readonly #waiting = new Map<string, Task[]>()
  #settled: (() => void)[] = []
  readonly #clock: Clock
  readonly #log: Log

  constructor(clock: Clock, log: Log) {
    this.#clock = clock
    this.#log = log
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

  /** Nothing waits for this account. */
  idle(account: string): boolean {
    return !this.#waiting.has(account)
  }

  /**
   * Runs the task now, or after what the account is waiting for. A task that meets TableUnavailable is run again
   * until the table answers, and its account waits; any other error is our own bug, logged and dropped.
   */
  run(account: string, task: Task): void {
    const queue = this.#waiting.get(account)
    if (queue !== undefined) {
      queue.push(task)
      return
    }
    const pending = this.#start(task)
    if (pending === undefined) return
    this.#waiting.set(account, [])
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
        } else {
          this.#log.warn('account.parked', { account, waiting: queue.length, pauseMs })
          await new Promise<void>((resolve) => this.#clock.setTimeout(resolve, pauseMs * (0.5 + Math.random() / 2)))
          pauseMs = Math.min(pauseMs * 2, RETRY_MOST_MS)
          pending = this.#start(task)
          continue
        }
      }
      do {
        const next = queue.shift()
        if (next === undefined) {
          this.#waiting.delete(account)
          if (this.#waiting.size === 0) for (const resolve of this.#settled.splice(0)) resolve()
          return
        }
        task = next
        pending = this.#start(task)
      } while (pending === undefined)
    }
  }
}

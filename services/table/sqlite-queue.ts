// Work for one thread of the SQLite table: gathered by the turn, one message at a time, and the thread's life and death.
//
// While a message is being worked on, jobs gather; its reply settles its jobs, and what gathered goes next. When the thread
// dies, whoever waits is told TableUnavailable (the work may have been done), and a new thread is started after a pause.
import { Worker } from 'node:worker_threads'
import type { Failed, FromThread, Order, ThreadOptions, ToThread } from './sqlite-messages.ts'
import { TableUnavailable } from './table.ts'

export interface Job {
  readonly bytes: number
  readonly reject: (error: Error) => void
}

interface Bound {
  jobsMax: number
  bytesMax: number
}

export interface JobQueueOptions<J extends Job> {
  thread: ThreadOptions
  onError: (error: Error) => void
  /** What goes in one message; a job that alone is over `bytesMax` goes alone. */
  batch: Bound
  /** What may wait; a job beyond it is refused at once. */
  waiting: Bound
  /** Its `bytes`, if any, are moved to the thread. */
  encode: (jobs: readonly J[]) => Order
  /** Settles jobs by a reply, and returns those that are to be settled by the next. */
  settle: (jobs: J[], reply: FromThread) => J[]
}

const RESTART_PAUSE_MIN_MS = 100
const RESTART_PAUSE_MAX_MS = 10_000

export class JobQueue<J extends Job> {
  readonly #options: JobQueueOptions<J>
  #worker: Worker | undefined
  /** Answers for the thread: it runs, and has its file open. */
  #ready = false
  #waiting: J[] = []
  #waitingBytes = 0
  #posted: J[] = []
  #flushing = false
  #restartPauseMs = RESTART_PAUSE_MIN_MS
  #restart: NodeJS.Timeout | undefined
  #closed = false
  #whenIdle: (() => void) | undefined

  constructor(options: JobQueueOptions<J>) {
    this.#options = options
  }

  /** Starts the thread. Rejects, and leaves nothing running, when it cannot open the file. */
  async open(): Promise<void> {
    await this.#start(this.#options.thread)
  }

  add(job: J): void {
    const refusal = this.#refusal(job)
    if (refusal !== undefined) {
      job.reject(new TableUnavailable(refusal))
      return
    }
    this.#waiting.push(job)
    this.#waitingBytes += job.bytes
    this.#flushSoon()
  }

  #refusal(job: J): string | undefined {
    const { thread, waiting } = this.#options
    if (this.#closed) return 'the table is closed'
    if (!this.#ready) return `the ${thread.role} thread of the table is being restarted`
    if (this.#waiting.length < waiting.jobsMax && this.#waitingBytes + job.bytes <= waiting.bytesMax) return undefined
    return `the disk of ${thread.file} does not keep up`
  }

  /** Waits for the work there is. What is added from here on is refused. */
  async finish(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#restart)
    if (this.#waiting.length + this.#posted.length === 0) return
    await new Promise<void>((resolve) => {
      this.#whenIdle = resolve
    })
  }

  /** Ends the thread, which closes its connection. */
  async end(): Promise<void> {
    await this.finish()
    const worker = this.#worker
    if (!worker) return
    await new Promise((resolve) => {
      worker.once('exit', resolve)
      if (this.#ready) worker.postMessage('close' satisfies ToThread)
      else void worker.terminate()
    })
  }

  /** In the check phase, so that all that the sockets of this turn cause is in one message. */
  #flushSoon(): void {
    if (this.#flushing || this.#posted.length > 0) return
    this.#flushing = true
    setImmediate(() => {
      this.#flushing = false
      this.#flush()
    })
  }

  #flush(): void {
    if (!this.#ready || this.#waiting.length === 0) return
    this.#posted = this.#take()
    const order = this.#options.encode(this.#posted)
    this.#worker!.postMessage(order, order.bytes ? [order.bytes.buffer as ArrayBuffer] : [])
  }

  #take(): J[] {
    const { jobsMax, bytesMax } = this.#options.batch
    let [count, bytes] = [0, 0]
    while (count < this.#waiting.length && count < jobsMax) {
      bytes += this.#waiting[count]!.bytes
      if (bytes > bytesMax && count > 0) {
        bytes -= this.#waiting[count]!.bytes
        break
      }
      count++
    }
    this.#waitingBytes -= bytes
    if (count < this.#waiting.length) return this.#waiting.splice(0, count)
    const all = this.#waiting
    this.#waiting = []
    return all
  }

  #obtain(reply: FromThread): void {
    if (reply.type === 'failed') {
      this.#rejectAll(this.#posted, this.#failure(reply))
      this.#posted = []
    } else {
      this.#restartPauseMs = RESTART_PAUSE_MIN_MS
      this.#posted = this.#options.settle(this.#posted, reply)
    }
    if (this.#posted.length > 0) return
    if (this.#waiting.length > 0) this.#flushSoon()
    else this.#whenIdle?.()
  }

  #failure({ code, message }: Failed): TableUnavailable {
    const cause = Object.assign(new Error(message), { errcode: code })
    const error = new TableUnavailable(`writing ${this.#options.thread.file} failed: ${message}`, { cause })
    this.#options.onError(error)
    return error
  }

  #rejectAll(jobs: readonly J[], error: Error): void {
    for (const job of jobs) job.reject(error)
  }

  #start(thread: ThreadOptions): Promise<void> {
    const worker = new Worker(new URL('./sqlite-worker.ts', import.meta.url), {
      workerData: thread,
      name: `table-${thread.role}`,
    })
    this.#worker = worker
    return new Promise((resolve, reject) => {
      let cause: unknown
      worker.on('message', (reply: FromThread) => {
        if (reply.type === 'refused') {
          cause = new Error(reply.message)
        } else if (reply.type === 'ready') {
          this.#ready = true
          resolve()
        } else {
          this.#obtain(reply)
        }
      })
      worker.on('error', (error) => {
        cause = error
      })
      worker.on('exit', (code) => {
        cause ??= new Error(`it ended with code ${code}`)
        this.#worker = undefined
        if (this.#ready) this.#died(cause)
        else reject(cause)
      })
    })
  }

  #died(cause: unknown): void {
    this.#ready = false
    const jobs = [...this.#posted, ...this.#waiting]
    this.#posted = []
    this.#waiting = []
    this.#waitingBytes = 0
    if (this.#closed && jobs.length === 0) return // as it was told
    const error = new TableUnavailable(`the ${this.#options.thread.role} thread of the table died: ${String(cause)}`, { cause })
    this.#rejectAll(jobs, error)
    this.#options.onError(error)
    this.#whenIdle?.()
    if (!this.#closed) this.#restartLater()
  }

  #restartLater(): void {
    const pauseMs = this.#restartPauseMs
    this.#restartPauseMs = Math.min(2 * pauseMs, RESTART_PAUSE_MAX_MS)
    this.#restart = setTimeout(() => {
      this.#start({ ...this.#options.thread, create: false }).catch((error: Error) => {
        if (this.#closed) return
        this.#options.onError(
          new TableUnavailable(`the ${this.#options.thread.role} thread of the table cannot start: ${error.message}`),
        )
        this.#restartLater()
      })
    }, pauseMs).unref()
  }
}

// What a test waits for, and what it says when that does not come.
//
// A mailbox keeps everything that arrived until somebody asks for it, so a test never races with what it waits
// for, and never sleeps: `next` takes the first thing that fits, now or later, and names what was awaited, what
// came instead, and what the server logged if it does not come in time.

/** How long one thing may take to come, in milliseconds. Generous: two cores run the server, the clients and a browser. */
export const PATIENCE_MS = 8_000

interface Waiter<T> {
  readonly fits: (item: T) => boolean
  readonly take: (item: T) => void
  readonly fail: (reason: string) => void
}

export class Mailbox<T> {
  readonly #owner: string
  readonly #log: () => string
  readonly #kept: T[] = []
  readonly #taken: T[] = []
  readonly #waiting = new Set<Waiter<T>>()
  #closed: string | undefined

  /** `owner` and `log` (what the server wrote so far) are for messages only. */
  constructor(owner: string, log: () => string) {
    this.#owner = owner
    this.#log = log
  }

  put(item: T): void {
    for (const waiter of this.#waiting) {
      if (!waiter.fits(item)) continue
      this.#waiting.delete(waiter)
      this.#taken.push(item)
      waiter.take(item)
      return
    }
    this.#kept.push(item)
  }

  /** Nothing more will come: whoever waits, or asks later for what is not there, is told `reason` at once. */
  close(reason: string): void {
    this.#closed ??= reason
    for (const waiter of [...this.#waiting]) {
      this.#waiting.delete(waiter)
      waiter.fail(`${this.#owner} was closed (${reason})`)
    }
  }

  /** Takes the oldest item that fits, waiting for it if need be. */
  next(awaited: string, fits: (item: T) => boolean = () => true, patienceMs: number = PATIENCE_MS): Promise<T> {
    const at = this.#kept.findIndex(fits)
    if (at >= 0) {
      const [item] = this.#kept.splice(at, 1)
      this.#taken.push(item!)
      return Promise.resolve(item!)
    }
    return new Promise((resolve, reject) => {
      const fail = (reason: string) => reject(new Error(this.#complaint(awaited, reason)))
      if (this.#closed !== undefined) return fail(`${this.#owner} was closed (${this.#closed})`)
      const waiter: Waiter<T> = {
        fits,
        fail: (reason) => {
          clearTimeout(timer)
          fail(reason)
        },
        take: (item) => {
          clearTimeout(timer)
          resolve(item)
        },
      }
      const timer = setTimeout(() => {
        this.#waiting.delete(waiter)
        fail(`it did not come within ${patienceMs} ms`)
      }, patienceMs)
      this.#waiting.add(waiter)
    })
  }

  /** What came and was not taken, oldest first. */
  rest(fits: (item: T) => boolean = () => true): T[] {
    return this.#kept.filter(fits)
  }

  #complaint(awaited: string, reason: string): string {
    return `${this.#owner} awaited ${awaited}: ${reason}.
Not taken: ${listOf(this.#kept)}
Taken before: ${listOf(this.#taken)}
The server logged:
${lastLines(this.#log(), 40)}`
  }
}

/** Rejects with a message in the same words when `promise` takes longer than `patienceMs`. */
export async function within<T>(promise: Promise<T>, awaited: string, log: () => string, patienceMs = PATIENCE_MS): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`${awaited}: not within ${patienceMs} ms. The server logged:\n${lastLines(log(), 40)}`))
    }, patienceMs)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

export function lastLines(text: string, count: number): string {
  return text.trimEnd().split('\n').slice(-count).join('\n')
}

function listOf(items: readonly unknown[]): string {
  if (items.length === 0) return 'nothing'
  return items.map((item) => `\n  ${textOf(item)}`).join('')
}

/** An XML library's element says itself what it is; anything else is shown as JSON. */
function textOf(item: unknown): string {
  const text = typeof item === 'string' ? item : `${item}`
  return text.startsWith('[object') ? JSON.stringify(item) : text
}

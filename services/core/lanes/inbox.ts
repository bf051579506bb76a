// Envelopes for an owner. While too much is staged they wait here: then they are not acked, the lanes fill, and those stop
// their sources (lane.ts). That, and not a bound here, is what limits them.
import type { Commit } from '../commits/commit.ts'
import type { Envelope } from '../envelope.ts'
import type { Log } from '../observing/log.ts'

type Done = () => void

export class Inbox {
  readonly #commit: Commit
  readonly #handle: (envelope: Envelope, done: Done) => void
  readonly #log: Log
  #backlog: { readonly envelope: Envelope; readonly done: Done }[] = []

  constructor(commit: Commit, log: Log, handle: (envelope: Envelope, done: Done) => void) {
    this.#commit = commit
    this.#log = log
    this.#handle = handle
  }

  /** Hands it on, now or behind those that came before. */
  take(envelope: Envelope, done: Done): void {
    if (this.#commit.congested || this.#backlog.length > 0) {
      this.#backlog.push({ envelope, done })
      if (this.#backlog.length === 1) this.#commit.onRelief(() => this.#catchUp())
      return
    }
    this.#handle(envelope, done)
  }

  /** Resolves when all that waits now is handed on. */
  settled(): Promise<void> {
    if (this.#backlog.length === 0) return Promise.resolve()
    return new Promise((resolve) => this.#commit.onRelief(resolve)) // behind the catching up
  }

  /** None of it is ours any more. */
  drop(): void {
    this.#backlog = []
  }

  #catchUp(): void {
    const backlog = this.#backlog
    this.#backlog = []
    for (const { envelope, done } of backlog) {
      try {
        this.#handle(envelope, done)
      } catch (error) {
        this.#log.error('envelope.refused', { error })
        done()
      }
    }
  }
}

// What an owner has sent to its edges and they have not acked: bounded in bytes and seconds.
//
// A body that goes over a bound is forgotten, the oldest first. An edge that asks for it is told that it is lost.

/** Kept for one edge. */
export const KEPT_BYTES_MAX = 4 * 1024 * 1024
/** Kept for all edges of one owner. */
export const KEPT_ALL_BYTES_MAX = 64 * 1024 * 1024
/**
 * Kept so long after it was sent, not counting when its owner could not have sent it again: longer than an edge may hold still
 * without being taken for dead (core/ownership/leases.ts).
 */
export const KEPT_MS_MAX = 10_000
/** A body besides its bytes. */
const BODY_COST_BYTES = 200

/** Of one owner. */
export class Memory {
  bytes = 0
  /** How long its owner has been able to send: it was sure, and there was a bus. */
  ableMs = 0
  readonly #all = new Set<Kept>()

  enter(kept: Kept): void {
    this.#all.add(kept)
  }

  /** Over the bound, the edge that takes most loses its oldest. */
  shrink(): void {
    while (this.bytes > KEPT_ALL_BYTES_MAX) {
      let most: Kept | undefined
      for (const kept of this.#all) if (most === undefined || kept.bytes > most.bytes) most = kept
      most!.forget(1)
    }
  }
}

interface Body {
  readonly number: number
  readonly bytes: Uint8Array
  /** By `ableMs`; -1 while it waits until its owner is sure. */
  sentMs: number
}

/** Of one edge. */
export class Kept {
  bytes = 0
  /** The number of the last body that was sent, and of the last one that the edge has with all before it. */
  sentUpTo = 0
  ackedUpTo = 0
  /** The last that is not kept any more, whether it was acked or not. */
  lostUpTo = 0
  /** When there was last something new for the edge, or it said something. */
  liveMs: number
  readonly #memory: Memory
  /** In order. */
  #bodies: Body[] = []

  constructor(memory: Memory, nowMs: number) {
    this.#memory = memory
    this.liveMs = nowMs
    memory.enter(this)
  }

  add(number: number, bytes: Uint8Array): void {
    this.#bodies.push({ number, bytes, sentMs: -1 })
    this.#count(bytes.length + BODY_COST_BYTES)
    while (this.bytes > KEPT_BYTES_MAX && this.#bodies.length > 1) this.forget(1)
  }

  #count(bytes: number): void {
    this.bytes += bytes
    this.#memory.bytes += bytes
  }

  /** Something is kept that the edge may ack. */
  get waits(): boolean {
    return this.#bodies.length > 0 && this.#bodies[0]!.sentMs >= 0
  }

  get unsent(): boolean {
    return this.#bodies.length > 0 && this.#bodies.at(-1)!.sentMs < 0
  }

  get unacked(): boolean {
    return this.sentUpTo > this.ackedUpTo
  }

  /** Those that have not been sent: they are from now on. */
  send(nowMs: number): Uint8Array[] {
    let from = this.#bodies.length
    while (from > 0 && this.#bodies[from - 1]!.sentMs < 0) from--
    const unsent = this.#bodies.slice(from)
    for (const body of unsent) {
      body.sentMs = this.#memory.ableMs
      this.sentUpTo = body.number
      this.liveMs = nowMs
    }
    return unsent.map(({ bytes }) => bytes)
  }

  /** Those that were sent behind this number, as far as they are kept. */
  behind(number: number): Uint8Array[] {
    return this.#bodies.filter((body) => body.number > number && body.sentMs >= 0).map(({ bytes }) => bytes)
  }

  acked(number: number, nowMs: number): void {
    this.liveMs = nowMs
    if (number <= this.ackedUpTo || number > this.sentUpTo) return
    this.ackedUpTo = number
    const left = this.#bodies.findIndex((body) => body.number > number)
    this.forget(left < 0 ? this.#bodies.length : left)
  }

  /** Forgets what was sent too long ago. */
  age(): void {
    const { ableMs } = this.#memory
    const left = this.#bodies.findIndex(({ sentMs }) => sentMs < 0 || ableMs - sentMs < KEPT_MS_MAX)
    this.forget(left < 0 ? this.#bodies.length : left)
  }

  /** So many, the oldest. */
  forget(count: number): void {
    for (const { number, bytes, sentMs } of this.#bodies.splice(0, count)) {
      this.#count(-bytes.length - BODY_COST_BYTES)
      this.lostUpTo = number
      if (sentMs < 0) this.sentUpTo = number // nobody is sent it any more: the edge will ask
    }
  }

  /** Nobody is sent what has not been. */
  forgetUnsent(): void {
    while (this.unsent) {
      const body = this.#bodies.pop()!
      this.#count(-body.bytes.length - BODY_COST_BYTES)
      this.lostUpTo = Math.max(this.lostUpTo, body.number)
      this.sentUpTo = Math.max(this.sentUpTo, body.number)
    }
  }

  clear(): void {
    this.forget(this.#bodies.length)
  }
}

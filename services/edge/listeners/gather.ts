// One write per connection and turn.
//
// What a turn has for a connection is gathered as strings and shared bytes, and becomes one buffer when the turn
// ends: all connections that were written to are flushed together, from one microtask. A connection for which much
// is gathered is flushed before that: a turn may bring more than anyone should hold in memory.
import { madeBuffer } from '#core/garbage.ts'

/** A connection does not gather more than this, and the piece that went beyond. */
export const GATHERED_BYTES_MAX = 256 * 1024

/** Flushes what was gathered. */
export interface Flushable {
  flush(): void
  /** A flush has thrown, which is our own bug: it must not keep the others from theirs. */
  broke(error: unknown): void
}

let due: Flushable[] = []
let scheduled = false

/** Calls `flush` when this turn of the event loop has done its work. Call once per turn and connection. */
export function flushAtTurnEnd(connection: Flushable): void {
  due.push(connection)
  if (scheduled) return
  scheduled = true
  queueMicrotask(flushAll)
}

function flushAll(): void {
  scheduled = false
  const now = due
  due = []
  for (const connection of now) {
    try {
      connection.flush()
    } catch (error) {
      connection.broke(error)
    }
  }
}

let scratch = Buffer.allocUnsafeSlow(256 * 1024)

/** The pieces as one buffer of its own. */
export function join(pieces: readonly (string | Uint8Array)[]): Buffer {
  let at = 0
  for (let i = 0; i < pieces.length; i++) {
    const piece = pieces[i]!
    const bound = at + (typeof piece === 'string' ? piece.length * 3 : piece.length)
    if (bound > scratch.length) grow(bound, at)
    if (typeof piece === 'string') {
      at += scratch.write(piece, at)
    } else {
      scratch.set(piece, at)
      at += piece.length
    }
  }
  const joined = Buffer.allocUnsafe(at)
  scratch.copy(joined, 0, 0, at)
  madeBuffer(joined)
  if (scratch.length > SCRATCH_KEPT_BYTES) scratch = Buffer.allocUnsafeSlow(256 * 1024)
  return joined
}

const SCRATCH_KEPT_BYTES = 4 * 1024 * 1024

function grow(wanted: number, used: number): void {
  const larger = Buffer.allocUnsafeSlow(Math.max(wanted, scratch.length * 2))
  scratch.copy(larger, 0, 0, used)
  scratch = larger
}

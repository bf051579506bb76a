// What passes between sqlite.ts and its two threads.
//
// A message holds one flat array and one buffer for everything one turn has to say: a structured clone costs by the object, and
// a buffer that is transferred costs nothing by the byte.

export interface ThreadOptions {
  role: 'write' | 'read'
  file: string
  /** At the first start only: a file that vanished under a running server is not replaced by an empty one. */
  create: boolean
  /** The file grows no larger; 0 for no bound. */
  bytesMax: number
  busyTimeoutMs: number
}

export const PUT = 0
export const DELETE = 1
export const SWEEP = 2
/** The same two where what is stored is older: the condition is the version it is to be older than. */
export const PUT_OVER_OLDER = 3
export const DELETE_OVER_OLDER = 4

/** Per write: kind, pk, sk, condition or null, version, length of value, expiresAtS or null. Of a sweep only the kind counts. */
export const WRITE_CELLS = 7
/** Per question: pk, sk or null for a range, from, to or null, how the page runs (bits below), rows and octets at most. */
export const ASK_CELLS = 7
export const REVERSE = 1
/** `from` (or, in reverse, `to`) has been returned before and is left out. */
export const BEYOND = 2

export type Cell = string | number | null

/** The values of `cells` follow each other in `bytes`. Rows whose time is up at `nowS` count as absent. */
export interface Order {
  nowS: number
  cells: Cell[]
  bytes?: Uint8Array
}

/** All was committed except the writes at these places, whose conditions did not hold. */
export interface Written {
  type: 'written'
  conflicts: number[]
  /** Rows deleted by the sweep in it. */
  swept: number
}

/**
 * Answers to as many questions as fitted, in order. Per answer: number of rows, 1 if there may be more; then per row: sk, version,
 * length of value, expiresAtS or null. Of a failed one: -1, result code of SQLite, message.
 */
export interface Answers {
  type: 'answers'
  cells: Cell[]
  bytes: Uint8Array
}

/** Nothing of the order was done, or nobody can tell (a failed fsync). */
export interface Failed {
  type: 'failed'
  code: number
  message: string
}

export type FromThread = { type: 'ready' } | { type: 'refused'; message: string } | Written | Answers | Failed
export type ToThread = Order | 'close'

export const SWEEP_ROWS = 500
/** A page of a range, and what is answered in one message before the rest goes in the next. */
export const PAGE_BYTES_MAX = 1_000_000

// One lane at its owner (core/lanes/lane-receiver.ts): what has come of it and is not acked.
import { Writer } from '../wire.ts'

/** One that has been received and is not acked. */
export interface Entry {
  readonly n: number
  /** Of the ownership row that its source went by: a partition of a later epoch is not ours, or not as it was then. */
  readonly epoch: number
  readonly partitions: readonly number[]
  /** What of it is not handled; more than one where it is for several accounts. */
  parts: number
  /** Not to be acked before the source goes by this epoch: what is not ours of it has left this lane then. 0: all was ours. */
  owed: number
}

export interface Held {
  readonly body: Buffer
  readonly epoch: number
  readonly untilMs: number
}

/** One lane at its owner. */
export interface Inlet {
  readonly source: string
  /** Where its acks go, and the version in which they are written: that of its frames. */
  readonly subject: string
  version: number
  received: number
  /** Of the ownership row, as the source's last frame says. */
  epoch: number
  /** In the order of their numbers. */
  readonly open: Map<number, Entry>
  /** Handled in this turn, and maybe to be acked. */
  finished: Entry[]
  /** The ack frame of this turn, and where in it `received` is. */
  readonly acks: Writer
  receivedAt: number
  /** It is among those that have something to be acked. */
  acking: boolean
  held: Held[]
  /** `received` when the source was told of a gap; -1: there is none. */
  gapAt: number
}

export function makeInlet(source: string): Inlet {
  return {
    source,
    subject: `ack.${source}`,
    version: 0,
    received: 0,
    epoch: 0,
    open: new Map(),
    finished: [],
    acks: new Writer(256),
    receivedAt: 0,
    acking: false,
    held: [],
    gapAt: -1,
  }
}

// What every edge frame begins with, and what an edge says of them (drawn in core/envelope.ts).
import { ENVELOPE_VERSION, readVersion } from '../envelope.ts'
import type { Reader, Writer } from '../wire.ts'

/** Of an edge frame: what is up to its number is gone, and not all of it has come. It is empty. */
const LOST = 1
/** Of an edge frame: its number is that of the last one, said again. It is empty. */
const REPEAT = 2
/** Of an edge ack: what is behind its number is to be sent again. */
const GAP = 1

export type FrameKind = 'deliveries' | 'lost' | 'repeat'

const FLAGS: Readonly<Record<FrameKind, number>> = { deliveries: 0, lost: LOST, repeat: REPEAT }

export interface EdgeHead {
  readonly version: number
  /** `<role>.<process>.<start>`, the sender. */
  readonly owner: string
  readonly number: number
  /** Of the ownership row that the sender went by. */
  readonly epoch: number
  readonly kind: FrameKind
}

export function writeEdgeHead(
  out: Writer,
  owner: string,
  number: number,
  epoch: number,
  kind: FrameKind,
  version = ENVELOPE_VERSION,
): void {
  out.u8(version)
  out.text(owner)
  out.f64(number)
  out.u32(epoch)
  out.u8(FLAGS[kind])
}

export function readEdgeHead(reader: Reader): EdgeHead {
  const version = readVersion(reader)
  const owner = reader.sharedText()
  const number = reader.f64()
  const epoch = reader.u32()
  const flags = reader.u8()
  return { version, owner, number, epoch, kind: flags & LOST ? 'lost' : flags & REPEAT ? 'repeat' : 'deliveries' }
}

export interface EdgeAck {
  readonly edge: string
  /** Up to which the edge has all. */
  readonly number: number
  readonly gap: boolean
}

export function edgeAck(edge: string, number: number, gap: boolean, out: Writer, version = ENVELOPE_VERSION): Buffer {
  out.u8(version)
  out.text(edge)
  out.f64(number)
  out.u8(gap ? GAP : 0)
  return out.take()
}

export function readEdgeAck(reader: Reader): EdgeAck {
  readVersion(reader)
  return { edge: reader.sharedText(), number: reader.f64(), gap: (reader.u8() & GAP) !== 0 }
}

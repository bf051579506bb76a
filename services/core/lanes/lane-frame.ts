// What every body of a lane begins with (drawn in core/envelope.ts), and the order of the numbers in it.
import type { Bus } from '#bus/bus.ts'
import { ENVELOPE_VERSION, readVersion } from '../envelope.ts'
import type { RoleName } from '../ownership/ownership.ts'
import type { Process } from '../process.ts'
import type { Reader, Writer } from '../wire.ts'

/** What lanes and multicasts are made on. */
export type Ways = Pick<Process, 'bus' | 'ownership' | 'clock' | 'log' | 'members'>

/** A body is sent once it has grown past this: far below what the bus takes, and enough that its head costs nothing. */
export const FRAME_BYTES = 256 * 1024

/** Of a lane frame: it is empty, and wants a status. */
const PROBE = 1
/** Of an ack frame: it lists what is open, not what is handled. */
const STATUS = 1
/** Of a status: something before what came was lost. */
const GAP = 2

/** In the age of an envelope, for each 1 of it. */
export const AGE_STEP_MS = 300_000
const AGE_MAX = 255

/** The age of what may have been handled. What is over 21 hours is as old as that. */
export function ageOf(saidMs: number, nowMs: number): number {
  return Math.min(1 + Math.max(0, Math.floor((nowMs - saidMs) / AGE_STEP_MS)), AGE_MAX)
}

/** When what is of this age was first said, at the earliest; 0 for what comes for the first time. */
export function saidMsOf(age: number, nowMs: number): number {
  return age === 0 ? 0 : nowMs - age * AGE_STEP_MS
}

export interface LaneHead {
  readonly version: number
  readonly source: string
  /** What the source sent just before, if it may need it: the frame is of use only behind that. 0: nothing. */
  readonly prev: number
  /** Of the ownership row that the source went by. */
  readonly epoch: number
  readonly probe: boolean
}

export function writeLaneHead(
  out: Writer,
  source: string,
  prev: number,
  epoch: number,
  probe = false,
  version = ENVELOPE_VERSION,
): void {
  out.u8(version)
  out.text(source)
  out.u32(prev)
  out.u32(epoch)
  out.u8(probe ? PROBE : 0)
}

export function readLaneHead(reader: Reader): LaneHead {
  const version = readVersion(reader)
  const source = reader.sharedText()
  return { version, source, prev: reader.u32(), epoch: reader.u32(), probe: (reader.u8() & PROBE) !== 0 }
}

export interface AckHead {
  readonly role: string
  readonly owner: string
  /** The last number that was received, and all before it; 0: none yet. */
  readonly received: number
  /** The numbers that follow are what is received and not handled. All others up to `received` are. */
  readonly status: boolean
  /** What is behind `received` has to be sent again. */
  readonly gap: boolean
}

/** Returns where in it `received` is to be written. */
export function writeAckHead(out: Writer, role: RoleName, owner: string, version = ENVELOPE_VERSION): number {
  out.u8(version)
  out.text(role)
  out.text(owner)
  const receivedAt = out.reserve32()
  out.u8(0)
  return receivedAt
}

export function writeStatusHead(
  out: Writer,
  role: RoleName,
  owner: string,
  received: number,
  gap: boolean,
  version = ENVELOPE_VERSION,
): void {
  out.u8(version)
  out.text(role)
  out.text(owner)
  out.u32(received)
  out.u8(gap ? STATUS | GAP : STATUS)
}

export function readAckHead(reader: Reader): AckHead {
  readVersion(reader)
  const role = reader.sharedText()
  const owner = reader.sharedText()
  const received = reader.u32()
  const flags = reader.u8()
  return { role, owner, received, status: (flags & STATUS) !== 0, gap: (flags & GAP) !== 0 }
}

/** Calls back when this turn has all it will have for the bus; where that makes no difference, when its microtasks have run. */
export function atTurnEnd(bus: Bus, flush: () => void): void {
  if (bus.atTurnEnd === undefined) queueMicrotask(flush)
  else bus.atTurnEnd(flush)
}

/** Numbers go round: a busy lane has used up all 2^32 in a day. 0 is none, and before all others. */
export function isAfter(n: number, other: number): boolean {
  return other === 0 ? n !== 0 : n !== 0 && ((n - other) | 0) > 0
}

export function numberAfter(n: number): number {
  return n === 0xffffffff ? 1 : n + 1
}

// One lane at its source: what this turn gathers for an owner, and what is not acked yet.
//
// Envelopes are numbered, and each frame says which one was sent just before it, so that the owner sees a gap; then all behind
// the gap is sent again (go-back-N). What is unacked stays in the body it was sent in. When a partition has another owner,
// its envelopes leave this lane and go on that owner's, numbered anew: a number is used once. Whatever is not sent in the turn it
// came in is said to come again (`age`): it may have been sent, or whoever has its sender's account now may have handed it on.
//
// A process that is not sure of itself sends nothing: what it says in the name of its accounts others may say already.
import { BODY_BYTES_MAX, type Bus } from '#bus/bus.ts'
import {
  addresseesOf,
  type Envelope,
  isForMany,
  partOf,
  readEnvelope,
  sinceOf,
  WATCHES_SINCE,
  writeEnvelope,
} from '../envelope.ts'
import { partitionOf } from '../ownership/ownership.ts'
import { Writer } from '../wire.ts'
import { ageOf, atTurnEnd, FRAME_BYTES, isAfter, numberAfter, writeLaneHead } from './lane-frame.ts'

/** Unacked envelopes of one lane before its source is asked to stop. */
export const LANE_PENDING_MAX = 20_000
/** The same in bytes. */
export const LANE_PENDING_BYTES_MAX = 32 * 1024 * 1024
/**
 * The share of that at which nothing more is handed on. What is unacked here is not acked to the edges it came from, which would
 * stop all their clients a little later.
 */
export const NEARLY = 3 / 4
/** Sent again at once; what is behind it, when the owner has told that this has come. */
const AGAIN_BYTES = 4 * 1024 * 1024
/** The partition of an envelope that is for accounts of several. */
export const MANY = -1
/** What an envelope has before it in a frame: its number, its age, its length. */
const ENTRY_BYTES = 9

export type OnAck = ((token: number) => void) | undefined

/** A body that holds envelopes which are not acked. */
interface Frame {
  /** Empty while it is being written. */
  body: Buffer
  /** Bytes of those of its envelopes that are not acked. */
  live: number
}

export interface Pending {
  readonly partition: number
  readonly bytes: number
  readonly onAck: OnAck
  readonly token: number
  /** When it was first said, by the wall clock. */
  readonly saidMs: number
  /** Undefined on a bus that loses nothing: it is never sent again. */
  frame: Frame | undefined
  /** Where in the frame it begins. */
  at: number
}

/** What all lanes into one role go by. */
export interface View {
  epoch: number
  /** By partition, how many envelopes are not acked, on all lanes. */
  readonly carried: Uint32Array
  /** See core/ownership/ownership.ts. */
  readonly sure: () => boolean
  readonly now: () => number
  /** The same, as it was at the last tick: near enough for what is said now. */
  nowMs: number
  /** Lanes that have nearly too much unacked, or have not been relieved since. */
  over: number
}

/** The owner at the other end. */
export interface Peer {
  /** The version of envelopes that is written for it. */
  readonly speaks: () => number
  /** It cannot be told this, for it is too old: whoever owns the accounts after it asks (core/ownership/resync.ts). Nobody waits for its ack. */
  readonly spare: (onAck: OnAck, token: number) => void
}

const NO_BYTES = Buffer.alloc(0)
const NOBODY: readonly (() => void)[] = []

export class Lane {
  readonly #bus: Bus
  /** '' where nobody owns the partition: what is sent there waits. */
  readonly #subject: string
  readonly #source: string
  readonly #view: View
  readonly #peer: Peer
  readonly #keeps: boolean
  readonly #out = new Writer()
  readonly #pending = new Map<number, Pending>()
  #pendingBytes = 0
  /** It has nearly too much unacked, and was not relieved since. */
  #over = false
  #whenRelieved: (() => void)[] = []
  /** The frame that is being written. */
  #frame: Frame | undefined
  #next = 1
  /** The last that was sent and has not left for another lane, 0 for none: the next frame is of use only behind it. */
  #last = 0
  /** As the owner has told. */
  #received = 0
  #scheduled = false
  /** Since the last `tick`: a status has come; all behind this number has been sent again. */
  #told = false
  #sentAgain: number | undefined
  /** At the last `tick`: the first and the last of what was unacked; 0 for nothing. */
  #firstAtTick = 0
  #lastAtTick = 0
  #nextAtTick = 0

  constructor(bus: Bus, subject: string, source: string, view: View, peer: Peer) {
    this.#bus = bus
    this.#subject = subject
    this.#source = source
    this.#view = view
    this.#peer = peer
    this.#keeps = !bus.lossless
  }

  /** Throws RangeError for an envelope that is over what the bus takes in one body; then nothing is sent. */
  send(partition: number, envelope: Envelope, onAck: OnAck, token: number): void {
    if (envelope.kind === 'watch' && this.#peer.speaks() < WATCHES_SINCE) return this.#peer.spare(onAck, token)
    const out = this.#out
    const alone = out.length === 0
    if (alone) this.#begin()
    const said = envelope.kind === 'stanza' ? (envelope.saidMs ?? 0) : 0
    const saidMs = said === 0 ? this.#view.nowMs : said
    const start = out.length
    const n = this.#next
    out.u32(n)
    out.u8(said === 0 ? 0 : ageOf(said, this.#view.now()))
    const lengthAt = out.reserve32()
    writeEnvelope(out, envelope)
    if (out.length > BODY_BYTES_MAX) return this.#sendLarge(start, alone, partition, envelope, onAck, token)
    const bytes = out.length - lengthAt - 4
    out.patch32(lengthAt, bytes)
    this.#add(n, { partition, bytes, onAck, token, saidMs, frame: this.#frame, at: lengthAt + 4 })
  }

  /** What was gathered before it goes first; alone it either fits or never will. */
  #sendLarge(start: number, alone: boolean, partition: number, envelope: Envelope, onAck: OnAck, token: number): void {
    const { length } = this.#out
    this.#out.cut(alone ? 0 : start)
    if (alone) throw new RangeError(`an envelope of ${length} bytes is over the ${BODY_BYTES_MAX} of the bus`)
    this.flush()
    this.send(partition, envelope, onAck, token)
  }

  #begin(): void {
    writeLaneHead(this.#out, this.#source, this.#last, this.#view.epoch, false, this.#peer.speaks())
    if (this.#keeps) this.#frame = { body: NO_BYTES, live: 0 }
  }

  #add(n: number, pending: Pending): void {
    this.#next = numberAfter(n)
    this.#last = n
    this.#pending.set(n, pending)
    this.#pendingBytes += pending.bytes
    if (pending.partition !== MANY) this.#view.carried[pending.partition]!++
    if (pending.frame !== undefined) pending.frame.live += pending.bytes
    if (!this.#over && this.isOver(NEARLY)) this.#turnOver(true)
    if (this.#out.length > FRAME_BYTES) this.flush()
    else if (!this.#scheduled) {
      this.#scheduled = true
      atTurnEnd(this.#bus, this.#flushDue)
    }
  }

  readonly #flushDue = (): void => this.flush()

  /** Sends what is gathered. */
  flush(): void {
    this.#scheduled = false
    if (this.#out.length === 0) return
    const body = this.#endFrame()
    if (this.#subject === '' || !this.#view.sure()) return // where there is an owner, it comes with the next probe
    this.#bus.publish(this.#subject, body)
  }

  #endFrame(): Buffer {
    const body = this.#out.take()
    if (this.#frame !== undefined) this.#frame.body = body
    this.#frame = undefined
    return body
  }

  /** This envelope is handled. Throws what its source throws. */
  acked(n: number): void {
    const pending = this.#pending.get(n)
    if (pending === undefined) return
    this.#drop(n, pending)
    pending.onAck?.(pending.token)
  }

  #drop(n: number, pending: Pending): void {
    this.#pending.delete(n)
    this.#pendingBytes -= pending.bytes
    if (pending.partition !== MANY) this.#view.carried[pending.partition]!--
    if (pending.frame !== undefined) pending.frame.live -= pending.bytes
  }

  /** Every ack frame says how far the owner has received. */
  heard(received: number, status: boolean): void {
    this.#received = received
    if (status) this.#told = true
  }

  /** Those that are handled, as a status says: received and not open. */
  handledBy(received: number, open: ReadonlySet<number>): number[] {
    const handled: number[] = []
    for (const n of this.#pending.keys()) if (!isAfter(n, received) && !open.has(n)) handled.push(n)
    return handled
  }

  /** Sends again, in order, what is behind this number: much of it in portions. Once between two ticks. */
  sendAgain(received: number): void {
    if (!this.#keeps || this.#subject === '' || this.#sentAgain === received || !this.#view.sure()) return
    this.#sentAgain = received
    if (this.#out.length > 0) this.#endFrame() // it would only be dropped there: it comes with the others
    this.#spareTooNew()
    const version = this.#peer.speaks()
    const out = new Writer()
    const nowMs = this.#view.now()
    let prev = received
    let bytes = 0
    for (const [n, pending] of this.#pending) {
      if (!isAfter(n, received)) continue
      if (bytes > AGAIN_BYTES) {
        if (out.length > 0) this.#bus.publish(this.#subject, out.take())
        return this.probe()
      }
      if (out.length + pending.bytes > FRAME_BYTES && out.length > 0) this.#bus.publish(this.#subject, out.take())
      if (out.length === 0) writeLaneHead(out, this.#source, prev, this.#view.epoch, false, version)
      out.u32(n)
      out.u8(ageOf(pending.saidMs, nowMs))
      out.bytes(bytesOf(pending))
      bytes += pending.bytes
      prev = n
    }
    if (out.length > 0) this.#bus.publish(this.#subject, out.take())
  }

  /** Asks the owner for its status, if anything is unacked. */
  probe(): void {
    if (this.#pending.size === 0 || this.#subject === '' || !this.#keeps || !this.#view.sure()) return
    this.flush()
    const out = new Writer(64)
    writeLaneHead(out, this.#source, this.#last, this.#view.epoch, true, this.#peer.speaks())
    this.#bus.publish(this.#subject, out.take())
  }

  /**
   * Once a second: probes where what was sent by the last one has not been received, or what is unacked for longest was so then:
   * its ack may be lost, though others keep coming. A status has told that it is open: then it is left alone for once.
   */
  tick(): void {
    const [first = 0] = this.#pending.keys()
    if (first !== 0) {
      this.#spare()
      const lost = isAfter(this.#lastAtTick, this.#received)
      if (lost || (first === this.#firstAtTick && !this.#told)) this.probe()
    } else if (this.#next === this.#nextAtTick) this.#out.rest() // its owner may be gone for good
    this.#nextAtTick = this.#next
    this.#told = false
    this.#sentAgain = undefined
    this.#firstAtTick = first
    this.#lastAtTick = first === 0 ? 0 : this.#last
  }

  /** A frame of which most is acked is not kept for the rest of it. */
  #spare(): void {
    for (const pending of this.#pending.values()) {
      const { frame } = pending
      if (frame !== undefined && frame.live * 2 < frame.body.length) moveTo(pending, copyOf(bytesOf(pending)))
    }
  }

  /** Gives up what is for these partitions, in order. Of an envelope for many accounts, those that are in them. */
  release(changed: ReadonlySet<number>): Pending[] {
    if (!this.#keeps) return []
    this.flush()
    const released: Pending[] = []
    for (const [n, pending] of this.#pending) {
      if (pending.partition === MANY) this.#split(n, pending, changed, released)
      else if (changed.has(pending.partition)) {
        this.#drop(n, pending)
        released.push(pending)
      }
    }
    if (released.length > 0) this.#findLast()
    return released
  }

  /** Some that were sent are on this lane no more. */
  #findLast(): void {
    this.#last = 0
    this.#lastAtTick = 0
    for (const n of this.#pending.keys()) this.#last = n
  }

  /** It was not known, when they were sent, what the owner reads. */
  #spareTooNew(): void {
    const version = this.#peer.speaks()
    if (version >= WATCHES_SINCE) return
    const { size } = this.#pending
    for (const [n, pending] of this.#pending) {
      if (sinceOf(bytesOf(pending)) <= version) continue
      this.#drop(n, pending)
      this.#peer.spare(pending.onAck, pending.token)
    }
    if (this.#pending.size < size) this.#findLast()
  }

  /** The rest keeps its number: it may be handled already. The part of each partition that is given up becomes one of its own. */
  #split(n: number, pending: Pending, changed: ReadonlySet<number>, released: Pending[]): void {
    const envelope = readEnvelope(bytesOf(pending))
    if (!isForMany(envelope)) return
    const rest: string[] = []
    const parts = new Map<number, string[]>()
    for (const account of addresseesOf(envelope)) {
      const partition = partitionOf(account)
      const part = parts.get(partition)
      if (!changed.has(partition)) rest.push(account)
      else if (part !== undefined) part.push(account)
      else parts.set(partition, [account])
    }
    if (parts.size === 0) return
    const onAck = afterAll(parts.size + (rest.length > 0 ? 1 : 0), pending)
    const pendingOf = (partition: number, accounts: readonly string[]): Pending => {
      const body = encode(partOf(envelope, accounts))
      const { token, saidMs } = pending
      const part = { partition, bytes: body.length, onAck, token, saidMs, frame: undefined, at: 0 }
      moveTo(part, body)
      return part
    }
    for (const [partition, accounts] of parts) released.push(pendingOf(partition, accounts))
    if (rest.length === 0) return this.#drop(n, pending)
    const left = pendingOf(MANY, rest)
    this.#pending.set(n, left) // in its place
    this.#pendingBytes += left.bytes - pending.bytes
    pending.frame!.live -= pending.bytes
  }

  /** Takes over what another lane has given up, behind all that is here. */
  adopt(pending: Pending): void {
    if (sinceOf(bytesOf(pending)) > this.#peer.speaks()) return this.#peer.spare(pending.onAck, pending.token)
    const out = this.#out
    if (out.length + pending.bytes + ENTRY_BYTES > FRAME_BYTES) this.flush()
    if (out.length === 0) this.#begin()
    const n = this.#next
    out.u32(n)
    out.u8(ageOf(pending.saidMs, this.#view.now()))
    out.bytes(bytesOf(pending))
    pending.frame = this.#frame
    pending.at = out.length - pending.bytes
    this.#add(n, pending)
  }

  /** Envelopes that are not acked. */
  get pending(): number {
    return this.#pending.size
  }

  /** More than this share of what may be unacked is. */
  isOver(share: number): boolean {
    return this.#pending.size > LANE_PENDING_MAX * share || this.#pendingBytes > LANE_PENDING_BYTES_MAX * share
  }

  #turnOver(over: boolean): void {
    this.#over = over
    this.#view.over += over ? 1 : -1
  }

  /** Runs `resume` once when it is relieved. */
  onRelief(resume: () => void): void {
    this.#whenRelieved.push(resume)
  }

  /** Whoever may go on, as less than half of what may be unacked is; each is returned once. For whenever something has left it. */
  relieved(): readonly (() => void)[] {
    if ((!this.#over && this.#whenRelieved.length === 0) || this.isOver(1 / 2)) return NOBODY
    if (this.#over) this.#turnOver(false)
    return this.#whenRelieved.splice(0)
  }

  /** What comes next is behind nothing that matters. */
  forget(): void {
    if (this.#out.length > 0) this.#endFrame()
    for (const { partition } of this.#pending.values()) if (partition !== MANY) this.#view.carried[partition]!--
    this.#pending.clear()
    this.#pendingBytes = 0
    this.#last = 0
    this.#lastAtTick = 0
  }
}

function bytesOf({ frame, at, bytes }: Pending): Buffer {
  return frame!.body.subarray(at, at + bytes)
}

/** Into a body of its own. */
function moveTo(pending: Pending, body: Buffer): void {
  if (pending.frame !== undefined) pending.frame.live -= pending.bytes
  pending.frame = { body, live: pending.bytes }
  pending.at = 0
}

function copyOf(bytes: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.length)
  bytes.copy(copy)
  return copy
}

function encode(envelope: Envelope): Buffer {
  const out = new Writer(1024)
  writeEnvelope(out, envelope)
  return out.take()
}

/** Of an envelope that is now several: handled when all of them are. */
function afterAll(parts: number, { onAck }: Pending): OnAck {
  if (onAck === undefined) return undefined
  let open = parts
  return (token) => {
    if (--open === 0) onAck(token)
  }
}

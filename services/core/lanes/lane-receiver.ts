// The lanes into one role of this process: what has come of each source, and what of it is handled.
//
// A frame is taken when what the source sent before it is here; else the source is told what is (a status) and sends the
// rest again. What has been received is never handled twice, and counts as open until it is acked. An envelope is for an
// account of a partition, and:
//
//   the source is older than this owner of the partition    it stays open: the source will see who owns it, and send it there
//   the source is newer than what is known here             its frames are held until that is known
//   the partition is ours, but not ready                    the envelope waits, in order
//
// Nothing is acked while this process cannot be sure that it owns what it did, nor what was taken before it lost it.
import type { Subscription } from '#bus/bus.ts'
import type { Timer } from '../clock.ts'
import { addresseesOf, type Envelope, type ForMany, isForMany, ownCopyOf, partOf, readEnvelope } from '../envelope.ts'
import { PARTITIONS, partitionOf, type RoleName } from '../ownership/ownership.ts'
import { Reader, Writer } from '../wire.ts'
import { type Entry, type Inlet, makeInlet } from './inlet.ts'
import {
  atTurnEnd,
  isAfter,
  type LaneHead,
  readLaneHead,
  saidMsOf,
  type Ways,
  writeAckHead,
  writeStatusHead,
} from './lane-frame.ts'

/** What is held of all sources that are newer than this process; what comes on top is dropped, and comes again. */
const HELD_BYTES_MAX = 16 * 1024 * 1024
/** After it what is held is dropped: either the source was wrong, or it sends it again. */
const HELD_MS_MAX = 2_000
/** What waits for partitions to get ready; beyond it, no frame is taken. */
const WAITING_BYTES_MAX = 64 * 1024 * 1024
/** How often is looked for what is held, waits, or is not sure, while anything is. */
const LOOK_MS = 25
/** Numbers in one status. What is behind them counts as not received, and is recognised when it comes again. */
const STATUS_MAX = 100_000
/** Sources remembered. Reaching it forgets one of which nothing is open: it would send again what it was not told is acked. */
const SOURCES_MAX = 4_096

/** Handles one envelope; calls `done` once, when it is handled and durable. */
export type EnvelopeHandler = (envelope: Envelope, done: () => void) => void

export interface LaneReceiver extends Subscription {
  /** Whether anything that was handed on of these partitions is not handled yet. */
  isBusy(partitions: readonly number[]): boolean
  /** What is handled and not acked never is: the accounts are others'. Their sources send it to those, or here anew. */
  drop(): void
}

/** Every lane into one role of this process. An envelope that is not ours to read is logged and acked. */
export function receiveLanes(ways: Ways, role: RoleName, process: string, handle: EnvelopeHandler): LaneReceiver {
  const receiver = new Receiver(ways, role, process, handle)
  const frames = ways.bus.subscribe(`lane.${role}.${process}`, receiver.onFrame)
  return {
    isBusy: (partitions) => receiver.isBusy(partitions),
    drop: () => receiver.drop(),
    close() {
      frames.close()
      receiver.close()
    },
  }
}

/** An envelope, or its part, whose partition is not ready. */
interface Waiting {
  readonly inlet: Inlet
  readonly entry: Entry
  readonly envelope: Envelope
  readonly account: string
  readonly bytes: number
}

type Claim = 'ours' | 'not ready' | 'not ours'

class Receiver {
  readonly #ways: Ways
  readonly #role: RoleName
  readonly #process: string
  readonly #handle: EnvelopeHandler
  readonly #lossless: boolean
  readonly #inlets = new Map<string, Inlet>()
  /** Those that have something to be acked. */
  #acking: Inlet[] = []
  readonly #out = new Writer(256)
  #heldBytes = 0
  /** By partition. */
  readonly #waiting = new Map<number, Waiting[]>()
  #waitingBytes = 0
  #looking: Timer | undefined
  #closed = false

  constructor(ways: Ways, role: RoleName, process: string, handle: EnvelopeHandler) {
    this.#ways = ways
    this.#role = role
    this.#process = process
    this.#handle = handle
    this.#lossless = ways.bus.lossless
    ways.ownership.onChange((changed) => {
      if (changed === role && !this.#closed) this.#look()
    })
  }

  close(): void {
    this.#closed = true
    this.#waiting.clear()
    this.#heldBytes = 0
    for (const inlet of this.#inlets.values()) inlet.held = []
  }

  drop(): void {
    for (const inlet of this.#inlets.values()) inlet.finished = []
  }

  isBusy(partitions: readonly number[]): boolean {
    const waiting = new Set<Entry>()
    for (const queue of this.#waiting.values()) for (const { entry } of queue) waiting.add(entry)
    for (const { open } of this.#inlets.values())
      for (const entry of open.values())
        if (entry.parts > 0 && !waiting.has(entry) && entry.partitions.some((partition) => partitions.includes(partition)))
          return true
    return false
  }

  readonly onFrame = (body: Uint8Array): void => {
    try {
      const reader = new Reader(body)
      const { epoch } = this
      const head = readLaneHead(reader)
      const inlet = this.#inletOf(head.source)
      inlet.version = head.version
      if (this.#lossless) this.#takeAll(inlet, reader)
      else if (inlet.held.length > 0 || head.epoch > epoch) this.#hold(inlet, head, body)
      else this.#takeFrame(inlet, head, reader)
    } catch (error) {
      this.#frameRefused(error)
    }
  }

  #frameRefused(error: unknown): void {
    this.#ways.log.error('lane.frame_refused', { role: this.#role, error })
  }

  /** Of the ownership row, as it is known here. */
  get epoch(): number {
    return this.#ways.ownership.epoch(this.#role)
  }

  #inletOf(source: string): Inlet {
    const known = this.#inlets.get(source)
    if (known !== undefined) return known
    if (this.#inlets.size >= SOURCES_MAX) this.#forgetOne()
    const inlet = makeInlet(source)
    this.#inlets.set(source, inlet)
    return inlet
  }

  #forgetOne(): void {
    for (const { source, open, held } of this.#inlets.values()) {
      if (open.size > 0 || held.length > 0) continue
      this.#inlets.delete(source)
      return
    }
  }

  // Where nothing is lost and nobody else owns anything ------------------------------------------------------------

  #takeAll(inlet: Inlet, reader: Reader): void {
    while (!reader.done) {
      const n = reader.u32()
      const age = reader.u8()
      const bytes = reader.bytes()
      inlet.received = n
      const done = (): void => this.#ack(inlet, n)
      try {
        this.#handle(readEnvelope(bytes, this.#saidMsOf(age)), done)
      } catch (error) {
        this.#refused(inlet, error)
        done()
      }
    }
  }

  #refused({ source }: Inlet, error: unknown): void {
    this.#ways.log.error('envelope.refused', { role: this.#role, source, error })
  }

  // Where frames are lost, and owners change -----------------------------------------------------------------------

  #takeFrame(inlet: Inlet, { prev, epoch, probe }: LaneHead, reader: Reader): void {
    if (epoch > inlet.epoch) {
      inlet.epoch = epoch
      this.#review(inlet)
    }
    const gap = prev !== 0 && isAfter(prev, inlet.received)
    if (probe || gap) {
      if (probe || inlet.gapAt !== inlet.received) this.#tellStatus(inlet, gap)
      return
    }
    if (this.#waitingBytes > WAITING_BYTES_MAX) return // it comes again
    while (!reader.done) {
      const n = reader.u32()
      const age = reader.u8()
      const bytes = reader.bytes()
      if (isAfter(n, inlet.received)) this.#take(inlet, n, epoch, age, bytes)
      else if (!inlet.open.has(n)) this.#ack(inlet, n) // the source has not heard of it
    }
  }

  #take(inlet: Inlet, n: number, epoch: number, age: number, bytes: Buffer): void {
    inlet.received = n
    let envelope: Envelope
    try {
      envelope = readEnvelope(bytes, this.#saidMsOf(age))
      if (age === 0 && this.#mayComeTwice(envelope, epoch)) envelope = readEnvelope(bytes, this.#saidMsOf(1))
    } catch (error) {
      this.#refused(inlet, error)
      return this.#ack(inlet, n)
    }
    if (isForMany(envelope)) return this.#takeMany(inlet, n, epoch, envelope, bytes.length)
    const { account } = envelope
    const partition = partitionOf(account)
    const entry: Entry = { n, epoch, partitions: ONE[partition]!, parts: 1, owed: 0 }
    inlet.open.set(n, entry)
    this.#pass(inlet, entry, partition, account, envelope, bytes.length)
  }

  #saidMsOf(age: number): number {
    return age === 0 ? 0 : saidMsOf(age, this.#ways.clock.now())
  }

  /** Handed on in the name of an account that has had another owner since, who hands it on, too: this one is late, or that one was first. */
  #mayComeTwice(envelope: Envelope, epoch: number): boolean {
    if (envelope.kind !== 'stanza' || !envelope.cause) return false
    return this.#ways.ownership.epochAt(this.#role, partitionOf(envelope.stanza.from.bare)) > epoch
  }

  /** To the handler, or where it waits. */
  #pass(inlet: Inlet, entry: Entry, partition: number, account: string, envelope: Envelope, bytes: number): void {
    switch (this.#claim(partition, account, entry.epoch)) {
      case 'ours':
        return this.#hand(inlet, entry, envelope)
      case 'not ready':
        return this.#wait({ inlet, entry, envelope: ownCopyOf(envelope), account, bytes }, partition)
      case 'not ours':
        this.#disown(inlet, entry, partition)
    }
  }

  #claim(partition: number, account: string, epoch: number): Claim {
    const { ownership } = this.#ways
    const role = this.#role
    if (ownership.ownerAt(role, partition) !== this.#process || ownership.epochAt(role, partition) > epoch) return 'not ours'
    if (this.#waiting.size > 0 && this.#waiting.has(partition)) this.#resume(partition)
    return ownership.owns(role, account) ? 'ours' : 'not ready'
  }

  /** One part of it is for an owner that the source does not know yet (`#owedOf`). */
  #disown(inlet: Inlet, entry: Entry, partition: number): void {
    const since = this.#ways.ownership.epochAt(this.#role, partition)
    if (since <= entry.epoch) entry.owed = inlet.epoch + 1 // it does know: our own bug, but nothing to be lost by it
    if (--entry.parts === 0) this.#finish(inlet, entry)
  }

  #hand(inlet: Inlet, entry: Entry, envelope: Envelope): void {
    let told = false
    const done = (): void => {
      if (told) return
      told = true
      if (--entry.parts === 0) this.#finish(inlet, entry)
    }
    try {
      this.#handle(envelope, done)
    } catch (error) {
      this.#refused(inlet, error)
      done()
    }
  }

  /** Those whose partition is ready go at once, together; the others as theirs are, each partition for itself. */
  #takeMany(inlet: Inlet, n: number, epoch: number, envelope: ForMany, bytes: number): void {
    const ours: string[] = []
    const others = new Map<number, string[]>()
    const partitions = new Set<number>()
    for (const account of addresseesOf(envelope)) {
      const partition = partitionOf(account)
      partitions.add(partition)
      const part = others.get(partition)
      if (part !== undefined) part.push(account)
      else if (this.#claim(partition, account, epoch) === 'ours') ours.push(account)
      else others.set(partition, [account])
    }
    const entry: Entry = { n, epoch, partitions: [...partitions], parts: others.size + 1, owed: 0 }
    inlet.open.set(n, entry)
    for (const [partition, accounts] of others) {
      this.#pass(inlet, entry, partition, accounts[0]!, partOf(envelope, accounts), bytes)
    }
    if (ours.length > 0) this.#hand(inlet, entry, others.size === 0 ? envelope : partOf(envelope, ours))
    else if (--entry.parts === 0) this.#finish(inlet, entry)
  }

  #wait(waiting: Waiting, partition: number): void {
    const queue = this.#waiting.get(partition)
    if (queue === undefined) this.#waiting.set(partition, [waiting])
    else queue.push(waiting)
    this.#waitingBytes += waiting.bytes
    this.#lookLater()
  }

  /** Hands on what has waited for this partition, if it is ready or lost. */
  #resume(partition: number): void {
    const { ownership } = this.#ways
    const queue = this.#waiting.get(partition)!
    const ours = ownership.ownerAt(this.#role, partition) === this.#process
    const since = ownership.epochAt(this.#role, partition)
    const ready = ownership.owns(this.#role, queue[0]!.account)
    this.#waiting.delete(partition)
    for (const waiting of queue) {
      const { inlet, entry, envelope, bytes } = waiting
      this.#waitingBytes -= bytes
      if (!ours || since > entry.epoch) this.#disown(inlet, entry, partition)
      else if (ready) this.#hand(inlet, entry, envelope)
      else this.#wait(waiting, partition)
    }
  }

  #hold(inlet: Inlet, { epoch }: LaneHead, body: Uint8Array): void {
    if (this.#heldBytes + body.length > HELD_BYTES_MAX) return
    if (inlet.held.length === 0) this.#ways.ownership.look?.() // whoever told us of the newer row was not heard
    this.#heldBytes += body.length
    const untilMs = this.#ways.clock.monotonic() + HELD_MS_MAX
    inlet.held.push({ body: Buffer.from(body), epoch, untilMs })
    this.#lookLater()
  }

  #releaseHeld(inlet: Inlet): void {
    const nowMs = this.#ways.clock.monotonic()
    for (let held = inlet.held[0]; held !== undefined; held = inlet.held[0]) {
      const known = held.epoch <= this.epoch
      if (!known && nowMs < held.untilMs) return
      inlet.held.shift()
      this.#heldBytes -= held.body.length
      if (!known) continue
      try {
        const reader = new Reader(held.body)
        this.#takeFrame(inlet, readLaneHead(reader), reader)
      } catch (error) {
        this.#frameRefused(error)
      }
    }
  }

  // What is said to the sources ------------------------------------------------------------------------------------

  #finish(inlet: Inlet, entry: Entry): void {
    inlet.finished.push(entry)
    this.#ackSoon(inlet)
  }

  #ack(inlet: Inlet, n: number): void {
    this.#writeAck(inlet, n)
    this.#ackSoon(inlet)
  }

  #writeAck(inlet: Inlet, n: number): void {
    const { acks } = inlet
    if (acks.length === 0) inlet.receivedAt = writeAckHead(acks, this.#role, this.#process, inlet.version)
    acks.u32(n)
  }

  #ackSoon(inlet: Inlet): void {
    if (inlet.acking) return
    inlet.acking = true
    if (this.#acking.push(inlet) === 1) atTurnEnd(this.#ways.bus, this.#flush)
  }

  readonly #flush = (): void => {
    if (!this.#ways.ownership.sure()) return this.#lookLater()
    const acking = this.#acking
    this.#acking = []
    for (const inlet of acking) {
      inlet.acking = false
      this.#flushAcks(inlet)
    }
  }

  #flushAcks(inlet: Inlet): void {
    const { finished, acks } = inlet
    if (finished.length > 0) inlet.finished = []
    for (const entry of finished) {
      if (inlet.open.get(entry.n) !== entry) continue
      entry.owed = this.#owedOf(entry)
      if (entry.owed > inlet.epoch) continue
      inlet.open.delete(entry.n)
      this.#writeAck(inlet, entry.n)
    }
    if (acks.length === 0) return
    acks.patch32(inlet.receivedAt, inlet.received)
    this.#ways.bus.publish(inlet.subject, acks.take())
  }

  /** The epoch since which any of it is another's; else what it was owed before. */
  #owedOf({ partitions, epoch, owed }: Entry): number {
    for (const partition of partitions) {
      const since = this.#ways.ownership.epochAt(this.#role, partition)
      if (since > epoch && since > owed) owed = since
    }
    return owed
  }

  /** The source goes by a newer row: what we have not, or no more, it has sent to others. */
  #review(inlet: Inlet): void {
    for (const entry of inlet.open.values()) {
      const owed = this.#owedOf(entry)
      if (owed === 0 || owed > inlet.epoch) continue
      if (entry.parts > 0 && !this.#isLost(entry)) continue
      inlet.open.delete(entry.n)
      this.#ack(inlet, entry.n) // for the part of it that was ours
    }
  }

  #isLost({ partitions, epoch }: Entry): boolean {
    return partitions.every((partition) => this.#ways.ownership.epochAt(this.#role, partition) > epoch)
  }

  #tellStatus(inlet: Inlet, gap: boolean): void {
    if (!this.#ways.ownership.sure()) return // it is an ack, too
    this.#flushAcks(inlet)
    inlet.gapAt = gap ? inlet.received : -1
    const numbers: number[] = []
    for (const n of inlet.open.keys()) {
      numbers.push(n)
      if (numbers.length === STATUS_MAX) break
    }
    const whole = numbers.length < STATUS_MAX
    const out = this.#out
    const received = whole ? inlet.received : numbers.at(-1)!
    writeStatusHead(out, this.#role, this.#process, received, gap || !whole, inlet.version)
    for (const n of numbers) out.u32(n)
    this.#ways.bus.publish(inlet.subject, out.take())
  }

  // What has to be looked at again ---------------------------------------------------------------------------------

  #lookLater(): void {
    if (this.#closed) return
    this.#looking ??= this.#ways.clock.setTimeout(() => {
      this.#looking = undefined
      this.#look()
    }, LOOK_MS)
  }

  #look(): void {
    for (const inlet of this.#inlets.values()) if (inlet.held.length > 0) this.#releaseHeld(inlet)
    for (const partition of [...this.#waiting.keys()]) this.#resume(partition)
    if (this.#acking.length > 0) this.#flush()
    if (this.#waiting.size > 0 || this.#heldBytes > 0) this.#lookLater()
  }
}

/** By partition: what most entries are in. */
const ONE: readonly (readonly number[])[] = Array.from({ length: PARTITIONS }, (_, partition) => [partition])

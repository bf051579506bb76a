// The deliveries to one edge: those of each owner in the order of its numbers, each once.
//
// A body that comes before its turn is held, and the owner asked for what is missing. It sends that again, or says that it is
// lost; then the edge goes on, and is told, so that it can ask for what it should have seen. So it does where the owner says
// nothing for longer than he would keep it, not counting when the edge could not ask: he may be dead.
import type { Subscription } from '#bus/bus.ts'
import type { Timer } from '../clock.ts'
import { type Delivery, readDelivery } from '../envelope.ts'
import type { Ways } from '../lanes/lane-frame.ts'
import type { RoleName } from '../ownership/ownership.ts'
import { Reader, Writer } from '../wire.ts'
import { type EdgeHead, edgeAck, readEdgeHead } from './multicast-frame.ts'
import { KEPT_MS_MAX } from './multicast-memory.ts'

/** Held of one owner until what is missing has come; what comes on top is dropped, and asked for later. */
const HELD_BYTES_MAX = 4 * 1024 * 1024
/** How long an edge may take to ack, and waits before it asks again. */
const ACK_MS = 500
/** How often it asks in vain: for twice the time that an owner keeps a body (core/multicast/multicast-memory.ts). */
const ASKS_MAX = (2 * KEPT_MS_MAX) / ACK_MS
/** Owners remembered. Reaching it forgets the one first seen: should it speak again, what it sends is a gap to the edge. */
const OWNERS_MAX = 4_096

/** Who sent a delivery. */
export interface Sender {
  readonly role: RoleName
  readonly process: string
  /** Of the ownership row that it went by. */
  readonly epoch: number
}

export interface MulticastHandlers {
  /** In order, of each owner. */
  readonly delivery: (delivery: Delivery, sender: Sender) => void
  /** Deliveries of this owner have not come, and will not. In order with the others. */
  readonly lost: (sender: Sender) => void
}

/** One owner, as its edge sees it. */
interface Incoming {
  /** What its acks are written in: it reads what it writes. */
  version: number
  readonly name: string
  sender: Sender
  /** All up to this number have been handled. */
  number: number
  /** The highest that is known to have been sent. */
  seen: number
  /** By number; emptied when the gap before them is filled. */
  readonly held: Map<number, Uint8Array>
  heldBytes: number
  /** Something has come that is not acked. */
  due: boolean
  /** How often it was asked for what is missing, and nothing of it came. */
  asks: number
}

/** Every delivery to `edge`. */
export function receiveMulticast(ways: Ways, edge: string, handlers: MulticastHandlers): Subscription {
  const receiver = new EdgeReceiver(ways, edge, handlers)
  return { close: () => receiver.close() }
}

class EdgeReceiver {
  readonly #ways: Ways
  readonly #edge: string
  readonly #handlers: MulticastHandlers
  readonly #lossless: boolean
  readonly #owners = new Map<string, Incoming>()
  readonly #out = new Writer(64)
  readonly #subscriptions: Subscription[]
  #timer: Timer | undefined
  /** What is said is lost. */
  #isCut = false

  constructor(ways: Ways, edge: string, handlers: MulticastHandlers) {
    this.#ways = ways
    this.#edge = edge
    this.#handlers = handlers
    this.#lossless = ways.bus.lossless
    this.#subscriptions = [ways.bus.subscribe(`edge.${edge}`, (body) => this.#receive(body))]
    if (!this.#lossless) this.#subscriptions.push(this.#askWhenBack())
  }

  close(): void {
    for (const subscription of this.#subscriptions) subscription.close()
    this.#ways.clock.clearTimeout(this.#timer)
  }

  /** Nobody says a last number again for ever. */
  #askWhenBack(): Subscription {
    let up = true
    return this.#ways.bus.status((state) => {
      this.#isCut = state === 'down'
      if (state === 'up' && !up) {
        for (const owner of this.#owners.values()) this.#say(owner, true)
        this.#armAck() // for what is asked in vain
      }
      up = state === 'up'
    })
  }

  #receive(body: Uint8Array): void {
    try {
      const reader = new Reader(body)
      const head = readEdgeHead(reader)
      const owner = this.#ownerOf(head)
      if (this.#lossless) this.#handle(owner, reader)
      else this.#take(owner, head, reader, body)
    } catch (error) {
      this.#ways.log.error('delivery.refused', { error })
    }
  }

  #ownerOf({ version, owner: name, epoch }: EdgeHead): Incoming {
    const known = this.#owners.get(name)
    if (known !== undefined) {
      known.version = version
      if (known.sender.epoch !== epoch) known.sender = { ...known.sender, epoch }
      return known
    }
    if (this.#owners.size >= OWNERS_MAX) this.#owners.delete(this.#owners.keys().next().value!)
    const [role = '', process = ''] = name.split('.')
    const sender: Sender = { role: role as RoleName, process, epoch }
    const owner: Incoming = { version, name, sender, number: 0, seen: 0, held: new Map(), heldBytes: 0, due: false, asks: 0 }
    this.#owners.set(name, owner)
    return owner
  }

  #handle({ sender }: Incoming, reader: Reader): void {
    while (!reader.done) this.#handlers.delivery(readDelivery(reader), sender)
  }

  #take(owner: Incoming, { number, kind }: EdgeHead, reader: Reader, body: Uint8Array): void {
    const whole = owner.seen === owner.number
    owner.due = true
    if (number > owner.seen) owner.seen = number
    if (kind === 'deliveries') {
      if (number === owner.number + 1) this.#go(owner, number, reader)
      else if (number > owner.number) this.#hold(owner, number, body)
    } else if (kind === 'lost' && number > owner.number) {
      this.#skip(owner, number)
    }
    this.#catchUp(owner)
    if (whole && owner.seen > owner.number) this.#say(owner, true)
    this.#armAck()
  }

  #go(owner: Incoming, number: number, reader: Reader): void {
    owner.number = number
    owner.asks = 0
    try {
      this.#handle(owner, reader)
    } catch (error) {
      this.#ways.log.error('delivery.refused', { error })
    }
  }

  #hold(owner: Incoming, number: number, body: Uint8Array): void {
    if (owner.held.has(number) || owner.heldBytes + body.length > HELD_BYTES_MAX) return
    owner.held.set(number, Buffer.from(body))
    owner.heldBytes += body.length
  }

  #skip(owner: Incoming, number: number): void {
    this.#ways.log.warn('deliveries.lost', { owner: owner.name, bodies: number - owner.number })
    for (const [held, body] of owner.held) if (held <= number) this.#drop(owner, held, body)
    owner.number = number
    owner.asks = 0
    this.#handlers.lost(owner.sender)
  }

  /** Nobody will send what is missing. What has come behind it is handled. */
  #giveUp(owner: Incoming): void {
    while (owner.seen > owner.number) {
      let next = owner.seen + 1
      for (const held of owner.held.keys()) if (held < next) next = held
      this.#skip(owner, next - 1)
      this.#catchUp(owner)
    }
  }

  #catchUp(owner: Incoming): void {
    for (;;) {
      const number = owner.number + 1
      const body = owner.held.get(number)
      if (body === undefined) return
      this.#drop(owner, number, body)
      const reader = new Reader(body)
      this.#ownerOf(readEdgeHead(reader)) // its epoch is that of then
      this.#go(owner, number, reader)
    }
  }

  #drop(owner: Incoming, number: number, body: Uint8Array): void {
    owner.held.delete(number)
    owner.heldBytes -= body.length
  }

  #say(owner: Incoming, gap: boolean): void {
    owner.due = false
    this.#ways.bus.publish(`edgeack.${owner.name}`, edgeAck(this.#edge, owner.number, gap, this.#out, owner.version))
  }

  #armAck(): void {
    this.#timer ??= this.#ways.clock.setTimeout(() => {
      this.#timer = undefined
      if (this.#isCut) return // whoever is back, says all
      let gaps = false
      for (const owner of this.#owners.values()) {
        if (owner.seen > owner.number && owner.asks++ === ASKS_MAX) this.#giveUp(owner)
        const gap = owner.seen > owner.number
        if (gap || owner.due) this.#say(owner, gap)
        gaps ||= gap
      }
      if (gaps) this.#armAck()
    }, ACK_MS)
  }
}

// Fan out once per edge: idea 4 of the architecture.
//
// One payload, one bus message per edge, which the edge expands to its sockets; and what one turn has for one edge
// goes in one body. Each owner numbers its bodies per edge, so that an edge sees that one was lost, and keeps them until the
// edge has acked them (core/multicast/multicast-memory.ts): what an edge misses is sent again, and where it is kept no more, the edge
// is told so. An owner that is not sure that it still is one keeps what it has until it is, and one that is cut from the bus
// until it is not.
//
// Inside one process (`lossless`) nothing is kept, nothing acked, and nothing armed.
import { BODY_BYTES_MAX, type BusState } from '#bus/bus.ts'
import { lowercaseId } from '#xmpp/id.ts'
import type { Stanza } from '#xmpp/stanza.ts'
import type { Timer } from '../clock.ts'
import { type Delivery, deliveredSince, type Fields, type ToMode, WATCHES_SINCE, writeDelivery } from '../envelope.ts'
import { atTurnEnd, FRAME_BYTES, type Ways } from '../lanes/lane-frame.ts'
import type { RoleName } from '../ownership/ownership.ts'
import { speaksOf, tellTooOld } from '../ownership/speaks.ts'
import { Reader, Writer } from '../wire.ts'
import { type FrameKind, readEdgeAck, writeEdgeHead } from './multicast-frame.ts'
import { Kept, Memory } from './multicast-memory.ts'

/** Where a session's socket is. */
export interface SessionAddress {
  readonly edge: string
  readonly session: string
}

/** Whom at an edge something of a contact is shown to. */
export interface ShownTo {
  /** These watchers instead of all who are admitted, whether they are or not; [] for none. */
  readonly only?: readonly string[]
  /** These sessions, too. */
  readonly sessions?: readonly string[]
  /** Only clients with this feature. */
  readonly filter?: string
}

const EVERYBODY: ShownTo = {}
const NOBODY: readonly string[] = []
/** Bare JIDs in one delivery: one has at most 2 KiB. */
const WATCHERS_MAX = 300
/** Sessions in one delivery: u16 on the wire, and a body is at most 1 MiB. */
const TARGETS_MAX = 8_000
/** How often an owner says its last number again to an edge that has not acked it. */
const REPEAT_MS = 1_000
/** An edge that has said nothing for so long is told nothing before there is something new for it: it may be gone. */
const SILENT_MS_MAX = 60_000
/** How long whoever stops, or gives accounts away, waits for the acks of edges: one may be dead. */
const SETTLING_MS_MAX = 5_000
/** Tells one opening from another of the same process. */
const START_LENGTH = 6
/** How often an owner that is not sure looks whether it is. */
const LOOK_MS = 25

/** A stanza that is over what the bus takes in one body is lost: each of these then throws RangeError. */
export interface Multicast {
  /** One stanza to one session. The hot path. */
  deliver(target: SessionAddress, stanza: Stanza, to?: ToMode): void
  /** One stanza to many sessions on any edges: one bus message for each edge. */
  fanOut(targets: readonly SessionAddress[], stanza: Stanza, to: ToMode): void
  /** Tells an edge to do something with a session: close it, flag it. In order with what is delivered to it. */
  order(target: SessionAddress, name: string, fields: Fields): void
  /** To whoever sees the contact at the edge; what it is, is said in core/envelope.ts. `to` is the bare JID of each. */
  shown(edge: string, contact: string, stanza: Stanza, to?: ShownTo): void
  /** These watchers at the edge see the contact from here on. */
  admit(edge: string, contact: string, watchers: readonly string[]): void
  /** They do not any more; nobody does where none is named. */
  revoke(edge: string, contact: string, watchers: readonly string[]): void
  /** What is seen of the contact at the edge is these resources; whatever else was, is gone. */
  snapshot(edge: string, contact: string, resources: readonly string[]): void
  /** Resolves when every edge has acked what it was sent up to now, or none of that is kept any more; at the latest after SETTLING_MS_MAX. */
  settled(): Promise<void>
  /** What has not been sent never will be: it is of accounts that others have. An edge is told that something is missing. */
  drop(): void
  close(): void
  /** Bodies to edges up to now, and their bytes; not what was sent again. */
  readonly sent: Sent
}

export interface Sent {
  readonly bodies: number
  readonly bytes: number
}

interface Outgoing {
  readonly id: string
  readonly subject: string
  readonly out: Writer
  /** Of the last body, or of the one that is being written; and as it was at the last tick. */
  number: number
  numberAtTick: number
  /** Of the ownership row when the body was begun; and the version that the edge read then. */
  epoch: number
  version: number
  scheduled: boolean
  readonly kept: Kept
}

/** Somebody waits until these are kept no more, each up to its number. */
interface Settling {
  readonly upTo: readonly (readonly [Kept, number])[]
  readonly untilMs: number
  readonly resolve: () => void
}

function isOver({ upTo, untilMs }: Settling, nowMs: number): boolean {
  return nowMs >= untilMs || upTo.every(([kept, number]) => kept.lostUpTo >= number)
}

/** The deliveries out of one owner. */
export function openMulticast(ways: Ways, role: RoleName, process: string): Multicast {
  const sender = new Sender(ways, role, process)
  return {
    deliver(target, stanza, to = 'kept') {
      sender.write(target.edge, { kind: 'stanza', sessions: [target.session], to, stanza })
    },
    fanOut(targets, stanza, to) {
      const edges = new Map<string, string[]>()
      for (const { edge, session } of targets) {
        const sessions = edges.get(edge)
        if (sessions === undefined) edges.set(edge, [session])
        else sessions.push(session)
      }
      for (const [edge, sessions] of edges) {
        for (const part of partsOf(sessions, TARGETS_MAX)) sender.write(edge, { kind: 'stanza', sessions: part, to, stanza })
      }
    },
    order(target, name, fields) {
      sender.write(target.edge, { kind: 'order', session: target.session, name, fields })
    },
    shown(edge, contact, stanza, { only, sessions = NOBODY, filter = '' } = EVERYBODY) {
      if (sessions.length <= TARGETS_MAX && (only === undefined || only.length <= WATCHERS_MAX))
        return sender.write(edge, { kind: 'shown', contact, only, sessions, filter, stanza })
      if (only === undefined) sender.write(edge, { kind: 'shown', contact, only, sessions: NOBODY, filter, stanza })
      for (const part of partsOf(only ?? NOBODY, WATCHERS_MAX))
        sender.write(edge, { kind: 'shown', contact, only: part, sessions: NOBODY, filter, stanza })
      for (const part of partsOf(sessions, TARGETS_MAX))
        sender.write(edge, { kind: 'shown', contact, only: NOBODY, sessions: part, filter, stanza })
    },
    admit(edge, contact, watchers) {
      for (const part of partsOf(watchers, WATCHERS_MAX)) sender.write(edge, { kind: 'admit', contact, watchers: part })
    },
    revoke(edge, contact, watchers) {
      if (watchers.length === 0) sender.write(edge, { kind: 'revoke', contact, watchers })
      for (const part of partsOf(watchers, WATCHERS_MAX)) sender.write(edge, { kind: 'revoke', contact, watchers: part })
    },
    snapshot(edge, contact, resources) {
      sender.write(edge, { kind: 'snapshot', contact, resources })
    },
    settled: () => sender.settled(),
    drop: () => sender.drop(),
    close: () => sender.close(),
    sent: sender.sent,
  }
}

function partsOf<T>(all: readonly T[], most: number): readonly (readonly T[])[] {
  if (all.length === 0) return []
  if (all.length <= most) return [all]
  const parts: T[][] = []
  for (let at = 0; at < all.length; at += most) parts.push(all.slice(at, at + most))
  return parts
}

class Sender {
  readonly #ways: Ways
  readonly #role: RoleName
  /** `<role>.<process>.<start>`: it begins to count anew whenever it is opened. */
  readonly #name: string
  readonly #lossless: boolean
  /** One is never forgotten: its edge knows the numbers it has had. */
  readonly #edges = new Map<string, Outgoing>()
  readonly #memory = new Memory()
  readonly #small = new Writer(64)
  readonly sent = { bodies: 0, bytes: 0 }
  #settling: Settling[] = []
  #looking: Timer | undefined
  #state: BusState = 'up'
  readonly #stop: () => void

  constructor(ways: Ways, role: RoleName, process: string) {
    this.#ways = ways
    this.#role = role
    this.#name = `${role}.${process}.${lowercaseId(START_LENGTH)}`
    this.#lossless = ways.bus.lossless
    this.#stop = this.#lossless ? () => {} : this.#listen()
  }

  #listen(): () => void {
    const { bus, clock, log } = this.#ways
    const acks = bus.subscribe(`edgeack.${this.#name}`, (body) => {
      try {
        const { edge, number, gap } = readEdgeAck(new Reader(body))
        this.#acked(edge, number, gap)
      } catch (error) {
        log.error('edge.ack_refused', { error })
      }
    })
    const status = bus.status((state) => {
      const isBack = state === 'up' && this.#state !== 'up'
      this.#state = state
      if (isBack) this.#repeat(Number.NEGATIVE_INFINITY)
    })
    const timer = clock.setInterval(() => this.#tick(), REPEAT_MS)
    return () => {
      acks.close()
      status.close()
      clock.clearTimeout(timer)
    }
  }

  close(): void {
    this.#stop()
    this.#ways.clock.clearTimeout(this.#looking)
    for (const { kept } of this.#edges.values()) kept.clear()
  }

  write(edgeId: string, delivery: Delivery): void {
    let edge = this.#edges.get(edgeId)
    if (edge === undefined) {
      const kept = new Kept(this.#memory, this.#ways.clock.monotonic())
      edge = {
        ...{ id: edgeId, subject: `edge.${edgeId}`, out: new Writer() },
        number: 0,
        numberAtTick: 0,
        epoch: 0,
        version: 0,
        scheduled: false,
        kept,
      }
      this.#edges.set(edgeId, edge)
    }
    const { out } = edge
    const epoch = this.#ways.ownership.epoch(this.#role)
    if (out.length > 0 && edge.epoch !== epoch) this.#flush(edge)
    const start = out.length
    if (start === 0) {
      edge.epoch = epoch
      edge.version = speaksOf(this.#ways, edgeId)
    }
    if (edge.version < WATCHES_SINCE && deliveredSince(delivery) > edge.version) return tellTooOld(this.#ways, edgeId)
    if (start === 0) writeEdgeHead(out, this.#name, ++edge.number, epoch, 'deliveries', edge.version)
    writeDelivery(out, delivery)
    if (out.length > FRAME_BYTES) this.#flushLarge(edge, start, edgeId, delivery)
    else if (!edge.scheduled) {
      edge.scheduled = true
      const due = edge
      atTurnEnd(this.#ways.bus, () => this.#flush(due))
    }
  }

  /** What is too large for the bus by itself must not take with it what waits for others. */
  #flushLarge(edge: Outgoing, start: number, edgeId: string, delivery: Delivery): void {
    const { out } = edge
    if (out.length <= BODY_BYTES_MAX) return this.#flush(edge)
    const { length } = out
    out.cut(start)
    if (start > 0) {
      this.#flush(edge)
      return this.write(edgeId, delivery)
    }
    edge.number--
    throw new RangeError(`a delivery of ${length} bytes is over the ${BODY_BYTES_MAX} of the bus`)
  }

  #flush(edge: Outgoing): void {
    edge.scheduled = false
    const { out, number, subject, kept } = edge
    if (out.length === 0) return
    const body = out.take()
    this.sent.bodies++
    this.sent.bytes += body.length
    if (this.#lossless) return this.#ways.bus.publish(subject, body)
    kept.add(number, body)
    this.#memory.shrink()
    this.#send(edge)
  }

  /** What has not been sent yet, if we may. */
  #send(edge: Outgoing): void {
    const { ownership, bus, clock } = this.#ways
    if (!ownership.sure()) {
      this.#looking ??= clock.setTimeout(() => {
        this.#looking = undefined
        for (const edge of this.#edges.values()) if (edge.kept.unsent) this.#send(edge)
      }, LOOK_MS)
      return
    }
    for (const body of edge.kept.send(clock.monotonic())) bus.publish(edge.subject, body)
  }

  #acked(edgeId: string, number: number, gap: boolean): void {
    const edge = this.#edges.get(edgeId)
    if (edge === undefined) return
    const { kept } = edge
    kept.acked(number, this.#ways.clock.monotonic())
    if (gap && this.#ways.ownership.sure()) {
      if (kept.lostUpTo > number) this.#say(edge, kept.lostUpTo, 'lost')
      for (const body of kept.behind(number)) this.#ways.bus.publish(edge.subject, body)
    }
    this.#tellSettled()
  }

  #say(edge: Outgoing, number: number, kind: FrameKind): void {
    writeEdgeHead(this.#small, this.#name, number, this.#ways.ownership.epoch(this.#role), kind, speaksOf(this.#ways, edge.id))
    this.#ways.bus.publish(edge.subject, this.#small.take())
  }

  #tick(): void {
    const { clock, ownership } = this.#ways
    if (this.#state !== 'down') {
      if (ownership.sure()) this.#memory.ableMs += REPEAT_MS
      for (const edge of this.#edges.values()) {
        edge.kept.age()
        if (edge.number === edge.numberAtTick) edge.out.rest() // it may be gone for good
        edge.numberAtTick = edge.number
      }
      this.#repeat(clock.monotonic() - SILENT_MS_MAX)
    }
    this.#tellSettled()
  }

  /** Says its last number to the edges that have not acked it, and were told something new, or said something, after this. */
  #repeat(liveMs: number): void {
    if (!this.#ways.ownership.sure()) return
    for (const edge of this.#edges.values()) {
      const { kept } = edge
      if (kept.unacked && kept.liveMs > liveMs) this.#say(edge, kept.sentUpTo, 'repeat')
    }
  }

  drop(): void {
    for (const edge of this.#edges.values()) {
      if (edge.out.length > 0) edge.kept.add(edge.number, edge.out.take())
      edge.kept.forgetUnsent()
    }
    this.#tellSettled()
  }

  settled(): Promise<void> {
    return new Promise((resolve) => {
      const upTo: [Kept, number][] = []
      for (const edge of this.#edges.values()) {
        this.#flush(edge)
        if (!this.#lossless) upTo.push([edge.kept, edge.number])
      }
      this.#settling.push({ upTo, untilMs: this.#ways.clock.monotonic() + SETTLING_MS_MAX, resolve })
      this.#tellSettled()
    })
  }

  #tellSettled(): void {
    const settling = this.#settling
    if (settling.length === 0) return
    const nowMs = this.#ways.clock.monotonic()
    this.#settling = settling.filter((each) => !isOver(each, nowMs))
    for (const each of settling) if (isOver(each, nowMs)) each.resolve()
  }
}

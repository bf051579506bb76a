// A lane: numbered envelopes from one process to the owner of a role, and the acks that come back.
//
// What one turn has for one owner goes in one body; so do the acks. An envelope is acked when it is handled: what
// it stored is durable and what it sent is on its way. A source that has too much unacked is told to stop reading
// (`congested`), so a slow owner slows its senders and nothing piles up in between.
//
// Nothing is sent twice here: the in-process bus queues lanes and acks without a bound of its own (bus/memory.ts), and
// theirs is this one, kept by the sources. A cluster resends what a dead owner, or the bus, has lost.
import type { Bus, Subscription } from '#bus/bus.ts'
import { ENVELOPE_VERSION, type Envelope, readEnvelope, readVersion, writeEnvelope } from './envelope.ts'
import type { Log } from './log.ts'
import type { Ownership, RoleName } from './ownership.ts'
import { Reader, Writer } from './wire.ts'

/** Unacked envelopes of one lane before its source is asked to stop. */
export const LANE_PENDING_MAX = 20_000
/** The same in bytes. */
export const LANE_PENDING_BYTES_MAX = 32 * 1024 * 1024
/** A body is sent once it has grown past this; one envelope more is at most a stanza, which config keeps far below 1 MiB. */
const FRAME_BYTES = 256 * 1024

export interface Lanes {
  /**
   * Sends to the owner of the envelope's account. `onAck` runs once it is handled and durable there, and is given the
   * token: so one function serves all that a source sends.
   */
  send(role: RoleName, account: string, envelope: Envelope, onAck?: (token: number) => void, token?: number): void
  /** True while the owner of this account is behind: stop taking more from outside until `onRelief`. */
  congested(role: RoleName, account: string): boolean
  /** Runs `resume` once when no lane is congested. */
  onRelief(resume: () => void): void
  close(): void
}

interface Pending {
  readonly bytes: number
  readonly onAck: ((token: number) => void) | undefined
  readonly token: number
}

/** One lane at its source: the body that this turn gathers, and what is not acked yet. */
class Lane {
  readonly #bus: Bus
  readonly #subject: string
  readonly #source: string
  readonly #out = new Writer()
  readonly #pending = new Map<number, Pending>()
  #pendingBytes = 0
  #next = 1
  #scheduled = false

  constructor(bus: Bus, subject: string, source: string) {
    this.#bus = bus
    this.#subject = subject
    this.#source = source
  }

  send(envelope: Envelope, onAck: ((token: number) => void) | undefined, token: number): void {
    const out = this.#out
    if (out.length === 0) {
      out.u8(ENVELOPE_VERSION)
      out.text(this.#source)
    }
    const n = this.#next
    this.#next = n === 0xffffffff ? 1 : n + 1
    out.u32(n)
    const at = out.reserve32()
    writeEnvelope(out, envelope)
    const bytes = out.length - at - 4
    out.patch32(at, bytes)
    this.#pending.set(n, { bytes, onAck, token })
    this.#pendingBytes += bytes
    if (out.length > FRAME_BYTES) this.#flush()
    else if (!this.#scheduled) {
      this.#scheduled = true
      queueMicrotask(() => this.#flush())
    }
  }

  #flush(): void {
    this.#scheduled = false
    if (this.#out.length > 0) this.#bus.publish(this.#subject, this.#out.take())
  }

  /** This envelope is handled. Throws what its source throws. */
  acked(n: number): void {
    const pending = this.#pending.get(n)
    if (pending === undefined) return
    this.#pending.delete(n)
    this.#pendingBytes -= pending.bytes
    pending.onAck?.(pending.token)
  }

  /** More than this share of what may be unacked is. */
  isOver(share: number): boolean {
    return this.#pending.size > LANE_PENDING_MAX * share || this.#pendingBytes > LANE_PENDING_BYTES_MAX * share
  }

  forget(): void {
    this.#pending.clear()
    this.#pendingBytes = 0
  }
}

/** The lanes out of one process. */
export function openLanes(bus: Bus, ownership: Ownership, process: string, log: Log): Lanes {
  /** By role and owner. */
  const lanes: Readonly<Record<RoleName, Map<string, Lane>>> = { router: new Map(), presence: new Map() }
  let waiting: (() => void)[] = []

  function laneTo(role: RoleName, owner: string): Lane {
    const known = lanes[role].get(owner)
    if (known !== undefined) return known
    const lane = new Lane(bus, `lane.${role}.${owner}`, process)
    lanes[role].set(owner, lane)
    return lane
  }

  function relieve(): void {
    if (waiting.length === 0) return
    for (const owners of Object.values(lanes)) for (const lane of owners.values()) if (lane.isOver(1 / 2)) return
    const relieved = waiting
    waiting = []
    for (const resume of relieved) resume()
  }

  const acks: Subscription = bus.subscribe(`ack.${process}`, (body) => {
    try {
      const reader = new Reader(body)
      readVersion(reader)
      const lane = lanes[reader.text() as RoleName]?.get(reader.text())
      while (!reader.done) {
        const n = reader.u32()
        try {
          lane?.acked(n)
        } catch (error) {
          log.error('ack.broke', { error })
        }
      }
      relieve()
    } catch (error) {
      log.error('lane.ack_refused', { error })
    }
  })

  return {
    send(role, account, envelope, onAck, token = 0) {
      laneTo(role, ownership.ownerOf(role, account)).send(envelope, onAck, token)
    },
    congested(role, account) {
      return lanes[role].get(ownership.ownerOf(role, account))?.isOver(1) ?? false
    },
    onRelief(resume) {
      waiting.push(resume)
    },
    close() {
      acks.close()
      for (const owners of Object.values(lanes)) for (const lane of owners.values()) lane.forget()
    },
  }
}

/** Handles one envelope; calls `done` once, when it is handled and durable. */
export type EnvelopeHandler = (envelope: Envelope, done: () => void) => void

/** The receiving end: every lane into one role of this process. An envelope that is not ours to read is logged and acked. */
export function receiveLanes(bus: Bus, role: RoleName, process: string, handle: EnvelopeHandler, log: Log): Subscription {
  const acks = new Map<string, Writer>()
  let scheduled = false

  function flush(): void {
    scheduled = false
    for (const [source, out] of acks) if (out.length > 0) bus.publish(`ack.${source}`, out.take())
  }

  function ack(source: string, n: number): void {
    let out = acks.get(source)
    if (out === undefined) {
      out = new Writer(256)
      acks.set(source, out)
    }
    if (out.length === 0) {
      out.u8(ENVELOPE_VERSION)
      out.text(role)
      out.text(process)
    }
    out.u32(n)
    if (scheduled) return
    scheduled = true
    queueMicrotask(flush)
  }

  return bus.subscribe(`lane.${role}.${process}`, (body) => {
    const reader = new Reader(body)
    let source = ''
    try {
      readVersion(reader)
      source = reader.text()
    } catch (error) {
      log.error('lane.frame_refused', { role, error })
      return
    }
    while (!reader.done) {
      const n = reader.u32()
      const bytes = reader.bytes()
      const done = () => ack(source, n)
      try {
        handle(readEnvelope(bytes), done)
      } catch (error) {
        log.error('envelope.refused', { role, source, error })
        done()
      }
    }
  })
}

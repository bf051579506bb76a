// A lane: numbered envelopes from one process to the owner of a role, and the acks that come back.
//
// What one turn has for one owner goes in one body; so do the acks. An envelope is acked when it is handled: what
// it stored is durable and what it sent is on its way. A source that has too much unacked is told to stop reading
// (`congested`), so a slow owner slows its senders and nothing piles up in between.
//
// The in-process bus loses nothing, so nothing is sent twice here; a cluster resends what a dead owner left unacked.
import type { Bus, Subscription } from '#bus/bus.ts'
import { ENVELOPE_VERSION, type Envelope, readEnvelope, readVersion, writeEnvelope } from './envelope.ts'
import type { Log } from './log.ts'
import type { Ownership, RoleName } from './ownership.ts'
import { Reader, Writer } from './wire.ts'

/** Unacked envelopes of one lane before its source is asked to stop. */
export const LANE_PENDING_MAX = 20_000
/** A body is sent once it has grown past this; one envelope more is at most a stanza, which config keeps far below 1 MiB. */
const FRAME_BYTES = 256 * 1024

export interface Lanes {
  /** Sends to the owner of the envelope's account. `onAck` runs once it is handled and durable there. */
  send(role: RoleName, account: string, envelope: Envelope, onAck?: () => void): void
  /** True while the owner of this account is behind: stop taking more from outside until `onRelief`. */
  congested(role: RoleName, account: string): boolean
  /** Runs `resume` once when no lane is congested. */
  onRelief(resume: () => void): void
  close(): void
}

interface Outgoing {
  readonly subject: string
  readonly out: Writer
  readonly pending: Map<number, (() => void) | undefined>
  next: number
  scheduled: boolean
}

/** The lanes out of one process. */
export function openLanes(bus: Bus, ownership: Ownership, process: string, log: Log): Lanes {
  const outgoing = new Map<string, Outgoing>()
  let waiting: (() => void)[] = []

  function laneTo(role: RoleName, owner: string): Outgoing {
    const key = `${role} ${owner}`
    const known = outgoing.get(key)
    if (known !== undefined) return known
    const lane = { subject: `lane.${role}.${owner}`, out: new Writer(), pending: new Map(), next: 1, scheduled: false }
    outgoing.set(key, lane)
    return lane
  }

  function flush(lane: Outgoing): void {
    lane.scheduled = false
    if (lane.out.length > 0) bus.publish(lane.subject, lane.out.take())
  }

  function relieve(): void {
    if (waiting.length === 0) return
    for (const lane of outgoing.values()) if (lane.pending.size > LANE_PENDING_MAX / 2) return
    const relieved = waiting
    waiting = []
    for (const resume of relieved) resume()
  }

  const acks: Subscription = bus.subscribe(`ack.${process}`, (body) => {
    try {
      const reader = new Reader(body)
      readVersion(reader)
      const lane = outgoing.get(`${reader.text()} ${reader.text()}`)
      while (!reader.done) {
        const n = reader.u32()
        const onAck = lane?.pending.get(n)
        lane?.pending.delete(n)
        try {
          onAck?.()
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
    send(role, account, envelope, onAck) {
      const lane = laneTo(role, ownership.ownerOf(role, account))
      const { out } = lane
      if (out.length === 0) {
        out.u8(ENVELOPE_VERSION)
        out.text(process)
      }
      const n = lane.next
      lane.next = n === 0xffffffff ? 1 : n + 1
      out.u32(n)
      const at = out.reserve32()
      writeEnvelope(out, envelope)
      out.patch32(at, out.length - at - 4)
      lane.pending.set(n, onAck)
      if (out.length > FRAME_BYTES) flush(lane)
      else if (!lane.scheduled) {
        lane.scheduled = true
        queueMicrotask(() => flush(lane))
      }
    },
    congested(role, account) {
      const lane = outgoing.get(`${role} ${ownership.ownerOf(role, account)}`)
      return lane !== undefined && lane.pending.size > LANE_PENDING_MAX
    },
    onRelief(resume) {
      waiting.push(resume)
    },
    close() {
      acks.close()
      for (const lane of outgoing.values()) lane.pending.clear()
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

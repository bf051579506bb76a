// Fan out once per edge: idea 4 of the architecture.
//
// One payload, one bus message per edge, which the edge expands to its sockets; and what one turn has for one edge
// goes in one body. Each owner numbers its bodies per edge, so that an edge can see that one was lost.
import type { Bus, Subscription } from '#bus/bus.ts'
import type { Stanza } from '#xmpp/stanza.ts'
import {
  type Delivery,
  ENVELOPE_VERSION,
  type Fields,
  readDelivery,
  readVersion,
  type ToMode,
  writeDelivery,
} from './envelope.ts'
import type { Log } from './log.ts'
import { Reader, Writer } from './wire.ts'

/** Where a session's socket is. */
export interface SessionAddress {
  readonly edge: string
  readonly session: string
}

const FRAME_BYTES = 256 * 1024
/** Sessions in one delivery: u16 on the wire, and a body is at most 1 MiB. */
const TARGETS_MAX = 8_000

/** A stanza that is over what the bus takes in one body is lost: each of these then throws RangeError. */
export interface Multicast {
  /** One stanza to one session. The hot path. */
  deliver(target: SessionAddress, stanza: Stanza, to?: ToMode): void
  /** One stanza to many sessions on any edges: one bus message for each edge. */
  fanOut(targets: readonly SessionAddress[], stanza: Stanza, to: ToMode): void
  /** Tells an edge to do something with a session: close it, flag it. In order with what is delivered to it. */
  order(target: SessionAddress, name: string, fields: Fields): void
}

interface Outgoing {
  readonly subject: string
  readonly out: Writer
  number: number
  scheduled: boolean
}

/** The deliveries out of one owner. `source` names this owner and its start. */
export function openMulticast(bus: Bus, source: string): Multicast {
  const outgoing = new Map<string, Outgoing>()

  function flush(edge: Outgoing): void {
    edge.scheduled = false
    if (edge.out.length > 0) bus.publish(edge.subject, edge.out.take())
  }

  function write(edgeId: string, delivery: Delivery): void {
    let edge = outgoing.get(edgeId)
    if (edge === undefined) {
      edge = { subject: `edge.${edgeId}`, out: new Writer(), number: 0, scheduled: false }
      outgoing.set(edgeId, edge)
    }
    const { out } = edge
    // What is too large for the bus by itself must not take with it what waits for others.
    if (delivery.kind === 'stanza' && out.length > 0 && out.length + delivery.stanza.payload.length > 2 * FRAME_BYTES) flush(edge)
    if (out.length === 0) {
      out.u8(ENVELOPE_VERSION)
      out.text(source)
      out.f64(++edge.number)
    }
    writeDelivery(out, delivery)
    if (out.length > FRAME_BYTES) flush(edge)
    else if (!edge.scheduled) {
      edge.scheduled = true
      const due = edge
      queueMicrotask(() => flush(due))
    }
  }

  return {
    deliver(target, stanza, to = 'kept') {
      write(target.edge, { kind: 'stanza', sessions: [target.session], to, stanza })
    },
    fanOut(targets, stanza, to) {
      const edges = new Map<string, string[]>()
      for (const { edge, session } of targets) {
        const sessions = edges.get(edge)
        if (sessions === undefined) edges.set(edge, [session])
        else sessions.push(session)
      }
      for (const [edge, sessions] of edges) {
        for (let at = 0; at < sessions.length; at += TARGETS_MAX) {
          const part = sessions.length <= TARGETS_MAX ? sessions : sessions.slice(at, at + TARGETS_MAX)
          write(edge, { kind: 'stanza', sessions: part, to, stanza })
        }
      }
    },
    order(target, name, fields) {
      write(target.edge, { kind: 'order', session: target.session, name, fields })
    },
  }
}

/** The receiving end, at an edge: every delivery to `edge`, in the order of its owner. */
export function receiveMulticast(bus: Bus, edge: string, handle: (delivery: Delivery) => void, log: Log): Subscription {
  return bus.subscribe(`edge.${edge}`, (body) => {
    try {
      const reader = new Reader(body)
      readVersion(reader)
      reader.text() // the owner, and its number: what a cluster's edge watches for gaps
      reader.f64()
      while (!reader.done) handle(readDelivery(reader))
    } catch (error) {
      log.error('delivery.refused', { error })
    }
  })
}

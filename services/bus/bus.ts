// The only way one role talks to another.
//
// Subjects (a process id and an edge id are [a-z0-9]+); on NATS each has the deployment's prefix before it, `rookery.`:
//
//   lane.<role>.<process>              numbered envelopes to an owner                       (core/lanes/lane.ts)
//   ack.<source>                       acks of envelopes, back to their source              (core/lanes/lane.ts)
//   call.<role>.<process>              questions that want an answer at once                (core/call.ts)
//   edge.<process>                     multicasts and orders to an edge                     (core/multicast/multicast.ts)
//   edgeack.<role>.<process>.<start>   how far the edge has an owner’s multicasts           (core/multicast/multicast.ts)
//   rows.<process>                     what the router has read at a login, to presence     (core/storage/pass-on.ts)
//   resync.<process>                   an owner asks an edge for its sessions               (core/ownership/resync.ts)
//   resynced.<role>.<process>          what the edge tells                                  (core/ownership/resync.ts)
//   move.<process>                     an edge wants a session of another one               (edge/moving/moves.ts)
//   groups                             the groups of a domain have changed: its name          (core/groups/group-directory.ts)
//   members                            a hint: the leases have changed                      (core/ownership/membership.ts)
//   owners                             a hint: who owns what has changed                    (core/ownership/cluster-ownership.ts)

/**
 * A publish/subscribe bus of opaque bytes.
 *
 * Delivery is at most once. Bodies published by one process on one subject arrive at each subscription in
 * order; nothing else is ordered. A body belongs to the bus once published: neither side may change it. One
 * that is handed to a handler stays valid, but may be a view into a larger buffer (of a socket, 64 KiB): who keeps a little of it
 * for long copies that.
 */
export interface Bus {
  /**
   * What goes over lanes arrives, so that nothing need be sent again (core/lanes/lane.ts), and multicasts need no memory
   * (core/multicast/multicast.ts): publisher and subscriber are one process, and end together.
   */
  readonly lossless: boolean
  /**
   * Returns at once; never throws on a slow or absent reader. Body: at most 1 MiB, else throws RangeError. While the bus is
   * 'down' it is lost at once, not queued; so it is where too much waits to be sent already.
   */
  publish(subject: string, body: Uint8Array): void
  /** Rejects with BusTimeout after `timeoutMs`, also where the bus is down, or with NoResponders at once. */
  request(subject: string, body: Uint8Array, timeoutMs: number): Promise<Uint8Array>
  /** With `group`, each body goes to one member of the group. The last token of a subject may be `*`. */
  subscribe(subject: string, handler: BusHandler, options?: { group?: string }): Subscription
  /** Stops taking bodies, waits for running handlers, then closes. */
  drain(): Promise<void>
  /**
   * Calls back when this turn of the event loop has brought all that it will: who gathers for a subject publishes then. Undefined
   * where a body costs next to nothing, so that nothing is gained by gathering longer than for what is running.
   */
  atTurnEnd?(flush: () => void): void
  /**
   * Told of the state, and of every change: readiness and resync hang on it. 'down': what was sent to this process meanwhile is
   * lost, and what it published too. 'slow': this process, or its server, is behind; it may be cut off as a slow consumer, and
   * what it publishes may be lost.
   */
  status(handler: (state: BusState) => void): Subscription
}

export type BusState = 'up' | 'down' | 'slow'
/** `reply` does nothing where the body was published and not requested. */
export type BusHandler = (body: Uint8Array, reply: (body: Uint8Array) => void) => void
export interface Subscription {
  close(): void
}

/** Nobody answered within the time given. The question may have been handled. */
export class BusTimeout extends Error {
  constructor(subject: string, timeoutMs: number) {
    super(`no answer on ${subject} within ${timeoutMs} ms`)
    this.name = 'BusTimeout'
  }
}
/** Nobody listens on the subject. */
export class NoResponders extends Error {
  constructor(subject: string) {
    super(`nobody listens on ${subject}`)
    this.name = 'NoResponders'
  }
}

export const BODY_BYTES_MAX = 1024 * 1024

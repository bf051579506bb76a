// The only way one role talks to another.
//
// Subjects, as they are on the wire (a process id and an edge id are [a-z0-9]+):
//
//   lane.router.<process>      numbered envelopes to an owner            (core/lane.ts)
//   ack.<process>              acks of envelopes, back to their source   (core/lane.ts)
//   call.router.<process>      questions that want an answer at once     (core/call.ts)
//   edge.<process>             multicasts and orders to an edge          (core/multicast.ts)

/**
 * A publish/subscribe bus of opaque bytes.
 *
 * Delivery is at most once. Bodies published by one process on one subject arrive at each subscription in
 * order; nothing else is ordered. A body belongs to the bus once published: neither side may change it.
 */
export interface Bus {
  /** Returns at once; never throws on a slow or absent reader. Body: at most 1 MiB, else throws RangeError. */
  publish(subject: string, body: Uint8Array): void
  /** Rejects with BusTimeout after `timeoutMs`, or with NoResponders at once. */
  request(subject: string, body: Uint8Array, timeoutMs: number): Promise<Uint8Array>
  /** With `group`, each body goes to one member of the group. The last token of a subject may be `*`. */
  subscribe(subject: string, handler: BusHandler, options?: { group?: string }): Subscription
  /** Stops taking bodies, waits for running handlers, then closes. */
  drain(): Promise<void>
  /** Told of every change: readiness and resync hang on it. 'slow': this process is being cut off as a slow consumer. */
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

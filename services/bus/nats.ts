// The bus between processes: NATS, core only. Nothing is stored there.
//
// Subjects are those of bus.ts behind a prefix, so that several deployments may share a NATS; answers come to one inbox:
//
//   rookery.lane.router.<process>       rookery.inbox.<connection>.<question>
//
// Handlers run straight from the socket's data: nothing is queued here, and no body is copied. What a process is too slow for
// waits in the kernel, then in the server, which cuts off who lags by 64 MiB or 10 s. We look before that: a ping whose answer
// is two seconds late says that we, or the server, are behind ('slow').
//
// What is published while there is no connection, or while the socket does not take what it was given, is lost and counted:
// lanes send again, multicasts are numbered, and a queue that outlives the reason for it helps nobody.
import { type Msg, type NatsConnection, type Subscription as NatsSubscription, nuid, type Status } from '@nats-io/transport-node'
import { type Bus, type BusHandler, type BusState, BusTimeout, NoResponders, type Subscription } from './bus.ts'
import { checkBody, checkSubject, closed } from './checks.ts'
import { connectToNats, type NatsServers, PING_INTERVAL_MS, whyTooSmall } from './nats-connect.ts'
import type { BusTransport } from './nats-transport.ts'

export interface NatsBusOptions extends NatsServers {
  /** What every subject on the wire begins with. */
  readonly prefix?: string
  /** Told what a handler threw or its promise was rejected with, and what the server complains of. */
  readonly onError?: (error: unknown, subject: string) => void
  /** For the log; what others go by is `status`. */
  readonly onState?: (state: BusState, facts: StateFacts) => void
}

export interface StateFacts {
  /** `127.0.0.1:4222`: the one we are connected to, or were. */
  readonly server: string
  /** Why it is slow; '' where that is not known. */
  readonly reason: string
  /** Bodies that were published and not sent since the last change. */
  readonly lost: number
}

/**
 * Connects, and stays connected: later it goes on trying for ever. Rejects with Error where no server can be used at the
 * start, saying in one line why not.
 */
export async function openNatsBus(options: NatsBusOptions): Promise<Bus> {
  const link: Link = { transport: undefined }
  const connection = await connectToNats(options, (transport) => (link.transport = transport))
  return new NatsBus(connection, link, options)
}

/** Bytes that wait for the socket; beyond it, what is published is lost until the socket takes some. */
const BACKLOG_BYTES_MAX = 64 * 1024 * 1024
/** Subjects remembered with their prefix; those of one deployment are far fewer. Reaching it forgets them all. */
const WIRES_MAX = 10_000
/** Between two flushes, at least: under steady load what comes meanwhile goes in one, and what comes after a pause goes at once. */
const FLUSHES_APART_MS = 1
/** Our own ping is about to be given up: its answer is late by an interval. */
const PINGS_LATE = 2

type Reply = (body: Uint8Array) => void
const noReply: Reply = () => {}
/** The library writes '' into what it is given for a body without an inbox; so one object serves them all. */
const NO_INBOX = { reply: '' }

/** The socket of the moment. */
interface Link {
  transport: BusTransport | undefined
}

interface Question {
  readonly subject: string
  readonly resolve: (answer: Uint8Array) => void
  readonly reject: (error: Error) => void
  readonly timer: NodeJS.Timeout
}

class NatsBus implements Bus {
  readonly lossless = false
  readonly #connection: NatsConnection
  readonly #link: Link
  readonly #prefix: string
  readonly #onError: (error: unknown, subject: string) => void
  readonly #onState: (state: BusState, facts: StateFacts) => void
  readonly #subscriptions = new Set<NatsSubscription>()
  readonly #watchers = new Set<(state: BusState) => void>()
  /** By subject, as they are on the wire. */
  readonly #wires = new Map<string, string>()
  readonly #inbox: string
  readonly #questions = new Map<string, Question>()
  /** Called when this turn ends. */
  #due: (() => void)[] = []
  #turnEndedMs = Number.NEGATIVE_INFINITY
  #nextQuestion = 0
  #running = 0
  #lost = 0
  /** The last complaint that was reported since we were up: a reconnect that is refused is refused again and again. */
  #complaint = ''
  #state: BusState = 'up'
  #isClosed = false
  #draining: Promise<void> | undefined
  #whenIdle: (() => void) | undefined

  constructor(connection: NatsConnection, link: Link, { prefix = 'rookery', onError, onState }: NatsBusOptions) {
    this.#connection = connection
    this.#link = link
    this.#prefix = `${prefix}.`
    this.#onError = onError ?? (() => {})
    this.#onState = onState ?? (() => {})
    this.#inbox = `${prefix}.inbox.${nuid.next()}.`
    connection.subscribe(`${this.#inbox}*`, { callback: (error, message) => this.#answered(error, message) })
    void this.#watch()
    void connection.closed().then((error) => this.#ended(error))
    this.#note('up', '')
  }

  publish(subject: string, body: Uint8Array): void {
    if (this.#isClosed) throw closed()
    checkBody(subject, body)
    this.#send(this.#wires.get(subject) ?? this.#addWire(subject), body, NO_INBOX)
  }

  async request(subject: string, body: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    if (this.#isClosed || this.#draining) throw closed()
    checkBody(subject, body)
    const wire = this.#wires.get(subject) ?? this.#addWire(subject)
    return new Promise((resolve, reject) => {
      const token = (this.#nextQuestion++).toString(36)
      const timer = setTimeout(() => {
        this.#questions.delete(token)
        reject(new BusTimeout(subject, timeoutMs))
      }, timeoutMs).unref()
      this.#questions.set(token, { subject, resolve, reject, timer })
      this.#send(wire, body, { reply: this.#inbox + token })
    })
  }

  subscribe(subject: string, handler: BusHandler, { group }: { group?: string } = {}): Subscription {
    if (this.#isClosed || this.#draining) throw closed()
    checkSubject(subject, true)
    const subscription = this.#connection.subscribe(this.#prefix + subject, {
      ...(group !== undefined && { queue: group }),
      // An error ends the subscription: we may not listen there. #watch is told the same, and reports it.
      callback: (error, message) => {
        if (error === null) this.#deliver(subject, handler, message)
      },
    })
    this.#subscriptions.add(subscription)
    return {
      close: () => {
        if (this.#subscriptions.delete(subscription)) subscription.unsubscribe()
      },
    }
  }

  /**
   * In the check phase, behind all sockets of this turn: what they bring is one body to each subject, and one write to ours. Where
   * that has just been done it is done again FLUSHES_APART_MS later: each write wakes the server, and whoever it is for.
   */
  atTurnEnd(flush: () => void): void {
    if (this.#due.push(flush) !== 1) return
    if (performance.now() - this.#turnEndedMs < FLUSHES_APART_MS) setTimeout(this.#endTurn, FLUSHES_APART_MS)
    else setImmediate(this.#endTurn)
  }

  readonly #endTurn = (): void => {
    const due = this.#due
    this.#due = []
    this.#turnEndedMs = performance.now()
    if (this.#isClosed) return // nobody is reached any more
    for (const flush of due) {
      try {
        flush()
      } catch (error) {
        this.#report(error, 'turn') // the others have theirs to send
      }
    }
  }

  /**
   * From now on nobody can subscribe or request, and once the server knows, no new body reaches a handler; what it had sent by
   * then is dispatched, and what is running is awaited, and may still publish and reply. Then the connection is closed:
   * publishing throws, and requests without an answer are rejected.
   */
  drain(): Promise<void> {
    this.#draining ??= this.#drain()
    return this.#draining
  }

  status(handler: (state: BusState) => void): Subscription {
    this.#watchers.add(handler)
    this.#tellOne(handler, this.#state)
    return { close: () => this.#watchers.delete(handler) }
  }

  async #drain(): Promise<void> {
    const subscriptions = [...this.#subscriptions]
    this.#subscriptions.clear()
    // Without a connection nothing comes any more, also should it return; one that is lost meanwhile ends these waits.
    if (this.#state === 'down') for (const subscription of subscriptions) subscription.unsubscribe()
    else await Promise.allSettled(subscriptions.map((subscription) => subscription.drain()))
    if (this.#running > 0) await new Promise<void>((resolve) => (this.#whenIdle = resolve))
    if (this.#state !== 'down') await this.#connection.flush().catch(() => {})
    this.#isClosed = true
    await this.#connection.close()
    this.#link.transport?.discard() // one that is being dialled the library would leave open
    for (const { reject, timer } of this.#questions.values()) {
      clearTimeout(timer)
      reject(closed())
    }
    this.#questions.clear()
    this.#wires.clear()
    this.#tell('down', '')
  }

  #addWire(subject: string): string {
    checkSubject(subject, false)
    if (this.#wires.size >= WIRES_MAX) this.#wires.clear()
    const wire = this.#prefix + subject
    this.#wires.set(subject, wire)
    return wire
  }

  /** `body` is read until this turn's microtasks have run, and then is in the library's own buffer. */
  #send(wire: string, body: Uint8Array, inbox: { reply: string }): void {
    if (this.#state === 'down') {
      this.#lost++
      return
    }
    if (this.#link.transport !== undefined && this.#link.transport.backlogBytes > BACKLOG_BYTES_MAX) {
      this.#lost++
      this.#fallBehind(`the server has not taken ${BACKLOG_BYTES_MAX} bytes`)
      return
    }
    try {
      this.#connection.publish(wire, body, inbox)
    } catch (error) {
      this.#lost++ // closed under us, or a server that takes less than the one before
      this.#report(error, wire)
    }
  }

  #deliver(subject: string, handler: BusHandler, message: Msg): void {
    const inbox = message.reply
    const reply = inbox ? (answer: Uint8Array) => this.#answer(subject, inbox, answer) : noReply
    try {
      const running: unknown = handler(message.data, reply)
      if (running instanceof Promise) this.#await(running, subject)
    } catch (error) {
      this.#report(error, subject) // let out, it would end the reading of this socket
    }
  }

  #answer(subject: string, inbox: string, answer: Uint8Array): void {
    if (this.#isClosed) return // too late
    checkBody(subject, answer)
    this.#send(inbox, answer, NO_INBOX)
  }

  #answered(error: Error | null, message: Msg): void {
    if (error !== null) return // #watch is told, and reports it
    const token = message.subject.slice(this.#inbox.length)
    const question = this.#questions.get(token)
    if (question === undefined) return // answered already, or too late
    this.#questions.delete(token)
    clearTimeout(question.timer)
    if (message.data.length === 0 && message.headers?.code === 503) question.reject(new NoResponders(question.subject))
    else question.resolve(message.data)
  }

  /** A handler's type returns nothing, but an async function is one: it is running until its promise settles. */
  #await(running: Promise<unknown>, subject: string): void {
    this.#running++
    const done = () => {
      if (--this.#running === 0) this.#whenIdle?.()
    }
    running.then(done, (error: unknown) => {
      this.#report(error, subject)
      done()
    })
  }

  /** Ends with the connection. */
  async #watch(): Promise<void> {
    for await (const status of this.#connection.status()) this.#noticed(status)
  }

  #noticed(status: Status): void {
    switch (status.type) {
      case 'disconnect':
        this.#tell('down', '')
        break
      case 'reconnect':
        // 'up' once the server has answered what follows our subscriptions: then they are in force there.
        this.#connection.flush().then(
          () => this.#returned(),
          () => {}, // lost again; there will be another
        )
        break
      case 'ping':
        if (status.pendingPings >= PINGS_LATE) this.#fallBehind(`a ping of ${PING_INTERVAL_MS} ms ago is not answered yet`)
        break
      case 'error':
        this.#complained(status.error)
        break
      default: // what follows from these, or asks for nothing
    }
  }

  #returned(): void {
    const tooSmall = whyTooSmall(this.#connection)
    if (tooSmall !== undefined) this.#report(new Error(`${this.#connection.getServer()}: ${tooSmall}`), 'connection')
    this.#complaint = ''
    if (!this.#isClosed) this.#tell('up', '')
  }

  #complained(error: Error): void {
    if (/slow consumer/i.test(error.message)) return this.#fallBehind(error.message)
    if (error.message === this.#complaint) return
    this.#complaint = error.message
    this.#report(error, (error as { subject?: string }).subject || 'connection')
  }

  /** Slow until the server has handled all that we sent, and we all that it sent before that answer. */
  #fallBehind(reason: string): void {
    if (this.#state !== 'up') return
    this.#tell('slow', reason)
    this.#connection.flush().then(
      () => {
        if (this.#state === 'slow') this.#tell('up', '')
      },
      () => {}, // the connection is lost, and that is told by itself
    )
  }

  /** The library has given up, which it is told not to. */
  #ended(error: unknown): void {
    if (this.#isClosed) return
    this.#report(new Error('the connection to NATS has ended and is not tried again', { cause: error }), 'connection')
    this.#tell('down', '')
  }

  #tell(state: BusState, reason: string): void {
    if (state === this.#state) return
    this.#state = state
    this.#note(state, reason)
    for (const watcher of this.#watchers) this.#tellOne(watcher, state)
  }

  #note(state: BusState, reason: string): void {
    const lost = this.#lost
    this.#lost = 0
    this.#tellOne(() => this.#onState(state, { server: this.#connection.getServer(), reason, lost }), state)
  }

  #tellOne(watcher: (state: BusState) => void, state: BusState): void {
    try {
      watcher(state)
    } catch (error) {
      this.#report(error, `status ${state}`)
    }
  }

  #report(error: unknown, subject: string): void {
    try {
      this.#onError(error, subject)
    } catch {
      // A reporter that throws must not stop the handlers behind it, and there is nobody left to tell.
    }
  }
}

// Bursts: of what a resource shows in quick succession, contacts are told the first and then the latest of each window.
//
// What is sent opens a window for its resource; a change that comes while it is open waits, and takes the place of the one that
// waits already. At its end what waits is sent, which opens the next. Windows are equally long, so the one that was opened
// first ends first: they stand in one Map in that order, and one timer waits for the first. They end in steps of an eighth
// of their length, so that what many resources show leaves together. There is an entry for each resource that was sent
// within one window and a step, which bounds it by what comes in that time. Nothing here knows who is told: presences.ts
// says what is a change (Availability.set), and `send` tells; what was not sent yet is what no watcher may be greeted with.
import type { Clock, Timer } from '#core/clock.ts'
import type { OfAccounts } from '#core/ownership/held.ts'
import type { Stanza } from '#xmpp/stanza.ts'
import { samePresence } from './canonical.ts'

export class Coalescing {
  /** Changes that nobody was told, because others took their place. */
  suppressed = 0
  readonly #clock: Clock
  readonly #windowMs: number
  readonly #stepMs: number
  readonly #send: (presence: Stanza) => void
  /** By full JID, in the order in which they end. */
  readonly #windows = new Map<string, Window>()
  #timer: Timer | undefined

  /**
   * @param windowMs 0: everything is sent at once
   * @param send tells contacts what the resource shows; called at once, or later from a timer. It must not throw
   */
  constructor(clock: Clock, windowMs: number, send: (presence: Stanza) => void) {
    this.#clock = clock
    this.#windowMs = windowMs
    this.#stepMs = windowMs / STEPS
    this.#send = send
  }

  /** Resources of which something waits or was sent just now. */
  get size(): number {
    return this.#windows.size
  }

  /**
   * A resource that is available shows something else (RFC 6121 §4.4). What it has shown last needs no telling where that
   * comes back before the window ends, unless it has `diverged`: then somebody has been sent directed presence since, and
   * may have been shown something else (§4.6).
   */
  change(presence: Stanza, diverged = false): void {
    const window = this.#windows.get(presence.from.full)
    if (window === undefined) return this.now(presence)
    if (diverged) window.diverged = true
    if (window.waits !== undefined) this.suppressed++
    if (window.diverged || !samePresence(window.sent, presence)) window.waits = presence
    else {
      window.waits = undefined
      this.suppressed++
    }
  }

  /** Initial presence (§4.2), and type unavailable (§4.5): nothing that waits may come behind it. */
  now(presence: Stanza): void {
    const { full } = presence.from
    const before = this.#windows.get(full)
    if (before?.waits !== undefined) this.suppressed++
    this.#windows.delete(full)
    if (this.#windowMs > 0 && presence.type === '') this.#open(full, presence)
    this.#send(presence)
  }

  /** What waits and is to be sent at the end of the window; undefined where contacts have been told all. */
  waiting(full: string): Stanza | undefined {
    return this.#windows.get(full)?.waits
  }

  /** Sends what waits: before these accounts are owned by somebody else, and at the end. */
  flush(of: OfAccounts = ALL): void {
    for (const [full, { sent, waits }] of this.#windows) {
      if (!of(sent.from.bare)) continue
      this.#windows.delete(full)
      if (waits !== undefined) this.#send(waits)
    }
    this.#arm()
  }

  /** Forgets what waits: somebody else owns these accounts, and nothing may be said in their name. */
  forget(of: OfAccounts): void {
    for (const [full, { sent }] of this.#windows) if (of(sent.from.bare)) this.#windows.delete(full)
    this.#arm()
  }

  #open(full: string, sent: Stanza): void {
    const dueMs = Math.ceil((this.#clock.monotonic() + this.#windowMs) / this.#stepMs) * this.#stepMs
    this.#windows.set(full, { dueMs, sent, waits: undefined, diverged: false })
    if (this.#timer === undefined) this.#arm()
  }

  /** The timer waits for the window that ends first; there is none where none is open. */
  #arm(): void {
    this.#clock.clearTimeout(this.#timer)
    this.#timer = undefined
    for (const { dueMs } of this.#windows.values()) {
      this.#timer = this.#clock.setTimeout(() => this.#end(), Math.max(0, dueMs - this.#clock.monotonic()))
      return
    }
  }

  /** Windows whose time has come end. Those that open meanwhile are behind them, and end later. */
  #end(): void {
    this.#timer = undefined
    const nowMs = this.#clock.monotonic()
    for (const [full, { dueMs, waits }] of this.#windows) {
      if (dueMs > nowMs) break
      this.#windows.delete(full)
      if (waits === undefined) continue
      this.#open(full, waits)
      this.#send(waits)
    }
    this.#arm()
  }
}

interface Window {
  readonly dueMs: number
  readonly sent: Stanza
  waits: Stanza | undefined
  /** Somebody may have been shown something else than what was sent. */
  diverged: boolean
}

const STEPS = 8
const ALL: OfAccounts = () => true

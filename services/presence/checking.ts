// Accounts that have come from another owner, or whose block list may have changed unheard: who sees them is made certain.
//
// Edges have told who watches whom, and who is admitted (core/ownership/resync.ts). That may be wrong: the owner before may have died
// between a change of the roster and what he would have said of it. So an account is in doubt until it has been settled: before
// it shows anything, or here, in the background, a few at a time. Nobody waits for that. Its edges are told again whom it watches, too.

import type { Owner } from '#core/owner.ts'
import type { OfAccounts } from '#core/ownership/held.ts'
import type { ToldWatches } from '#core/ownership/resync-frame.ts'
import { inPortions, type Pace } from '#core/portions.ts'
import { parseJid } from '#xmpp/jid.ts'
import type { Audiences } from './audiences.ts'
import type { Resources } from './resources.ts'

/** Each of them reads a roster. */
const PACE: Pace = { atOnce: 50, pauseMs: 50 }
/** How long an account is left alone of which an edge may still tell. */
const AGAIN_MS = 1_000

export class Checking {
  readonly #owner: Owner
  readonly #resources: Resources
  readonly #audiences: Audiences
  /** Accounts that wait, and the sessions of theirs of which it is not known whether what they showed last was sent. */
  readonly #waiting = new Map<string, Set<string>>()
  #running = false

  constructor(owner: Owner, resources: Resources, audiences: Audiences) {
    this.#owner = owner
    this.#resources = resources
    this.#audiences = audiences
  }

  /** @param session one whose presence may have been held back by an owner that has died since (coalescing.ts) */
  add(account: string, session?: string): void {
    this.#audiences.doubt(account)
    const sessions = this.#waiting.get(account) ?? new Set<string>()
    this.#waiting.set(account, sessions)
    if (session !== undefined) sessions.add(session)
    void this.#run()
  }

  /** What edges tell of those who watch accounts that have come. */
  adopt(told: readonly ToldWatches[]): void {
    const { watches } = this.#audiences
    for (const { edge, contact, watchers, admitted } of told) {
      for (const watcher of watchers) watches.add(contact, edge, watcher)
      const place = watches.at(contact, edge)
      for (const watcher of admitted) place?.admit(watcher)
      if (admitted.length > 0 || this.#resources.isOnline(contact)) this.add(contact)
    }
  }

  /** Those of these accounts that anybody sees: their block lists may be others than were told. */
  addAll(of: OfAccounts): void {
    for (const { jid, available } of this.#resources.sessions.all()) if (available && of(jid.bare)) this.add(jid.bare)
  }

  forget(gone: OfAccounts): void {
    for (const account of this.#waiting.keys()) if (gone(account)) this.#waiting.delete(account)
  }

  async #run(): Promise<void> {
    if (this.#running) return
    this.#running = true
    const { clock } = this.#owner.process
    await Promise.resolve() // more will follow in this turn
    while (this.#waiting.size > 0) {
      await inPortions(clock, PACE, [...this.#waiting.keys()], (portion) => {
        for (const account of portion) this.#owner.inOrder(account, () => this.#check(account))
      })
      await new Promise<void>((resolve) => clock.setTimeout(resolve, AGAIN_MS))
    }
    this.#running = false
  }

  #check(bare: string): void | Promise<void> {
    const sessions = this.#waiting.get(bare)
    if (sessions === undefined) return
    const account = parseJid(bare)
    if (!this.#resources.isOnline(bare)) return this.#checkOffline(bare)
    const ripening = this.#resources.ripen(account)
    if (ripening !== undefined) return ripening.then(() => this.#check(bare))
    return this.#resources.read(account, (items, hidden) => {
      this.#waiting.delete(bare)
      if (this.#audiences.isDoubtful(bare)) this.#audiences.settle(account, items, hidden, true)
      for (const { sessionId, presence } of this.#resources.shown(bare))
        if (sessions.has(sessionId)) this.#audiences.broadcast(bare, presence)
      // Nor may its edges have been told of all whom it sees since.
      for (const session of this.#resources.available(bare)) this.#audiences.watch(session, account, items, hidden)
    })
  }

  /** Whoever sees something of it sees it go; unless an edge may yet tell of it. */
  #checkOffline(account: string): void {
    if (this.#owner.takeOver.waitsFor(account)) return
    this.#waiting.delete(account)
    const { multicast } = this.#owner
    for (const place of this.#audiences.watches.of(account)) if (place.admitted > 0) multicast.snapshot(place.edge, account, [])
    this.#audiences.revokeAll(account)
  }
}

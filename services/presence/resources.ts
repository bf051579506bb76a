// What is known of the resources of all accounts owned here: who is connected, and what they have shown (availability.ts).

import { DROP, type Hidden } from '#core/hooks.ts'
import type { Owner } from '#core/owner.ts'
import type { OfAccounts } from '#core/ownership/held.ts'
import type { BoundSession, Registry } from '#core/ownership/registry.ts'
import { LazyPassage } from '#core/passage.ts'
import type { MaybePromise } from '#core/storage/store.ts'
import { TableUnavailable } from '#table/table.ts'
import type { Jid } from '#xmpp/jid.ts'
import type { Stanza } from '#xmpp/stanza.ts'
import { AVAILABILITY_LIMITS, Availability, type AvailabilityLimits, type AvailableResource } from './availability.ts'
import type { RosterItem } from './roster/roster-item.ts'
import type { Rosters } from './roster.ts'

export type RosterItems = ReadonlyMap<string, RosterItem>

export class Resources {
  readonly sessions: Registry
  readonly #owner: Owner
  readonly #rosters: Rosters
  readonly #accounts = new Map<string, Availability>()
  readonly #limits: AvailabilityLimits

  constructor(owner: Owner, sessions: Registry, rosters: Rosters) {
    this.#owner = owner
    this.sessions = sessions
    this.#rosters = rosters
    // The router counts sessions. Here one may start before the end of another is heard of.
    this.#limits = { ...AVAILABILITY_LIMITS, resourcesMax: 2 * owner.process.config.limits.sessionsPerAccount }
  }

  of(account: string): Availability | undefined {
    return this.#accounts.get(account)
  }

  /** What the available resources of an account show. */
  shown(account: string): readonly AvailableResource[] {
    return this.#accounts.get(account)?.available() ?? NOTHING
  }

  isOnline(account: string): boolean {
    return this.#accounts.get(account)?.isAvailable === true
  }

  /** The sessions that are available. */
  available(account: string): readonly BoundSession[] {
    const sessions = this.sessions.of(account)
    for (const session of sessions) if (!session.available) return sessions.filter(({ available }) => available)
    return sessions
  }

  /** Changes what is known of an account; keeps nothing where that leaves nothing, or throws. */
  note<T>(account: string, change: (availability: Availability) => T): T {
    const availability = this.#accounts.get(account) ?? new Availability(this.#limits)
    this.#accounts.set(account, availability)
    try {
      return change(availability)
    } finally {
      if (availability.empty) this.#accounts.delete(account)
    }
  }

  /** Nothing is known of these accounts any more. */
  forget(gone: OfAccounts): void {
    this.sessions.forget(gone)
    for (const account of this.#accounts.keys()) if (gone(account)) this.#accounts.delete(account)
  }

  /** The roster, and whom a module hides the account from although the roster would show it (XEP-0191 §3.3). */
  read<R>(account: Jid, use: (items: RosterItems, hidden: Hidden | undefined) => R): MaybePromise<R> {
    const hidden = this.#owner.hooks.hidden(account)
    if (hidden instanceof Promise) return hidden.then((hidden) => this.#rosters.read(account, (items) => use(items, hidden)))
    return this.#rosters.read(account, (items) => use(items, hidden))
  }

  /** What an edge has told is as the client sent it. Before anybody else is shown it, it passes the hooks as it did then. */
  ripen(account: Jid): void | Promise<void> {
    const raw = this.of(account.bare)?.raw ?? NOTHING
    return raw.length === 0 ? undefined : this.#ripenAll(account, raw)
  }

  async #ripenAll(account: Jid, raw: readonly AvailableResource[]): Promise<void> {
    for (const known of raw) {
      const passed = await this.#passOutbound(known.presence, account)
      this.of(account.bare)?.ripen(known, passed)
    }
  }

  async #passOutbound(presence: Stanza, account: Jid): Promise<Stanza> {
    const { hooks, archiveIds, log } = this.#owner
    try {
      const passed = await hooks.pass('outbound', presence, new LazyPassage(account, account, archiveIds))
      return passed === DROP ? presence : passed
    } catch (error) {
      if (error instanceof TableUnavailable) throw error
      log.warn('presence.not_passed', { account: account.bare, error })
      return presence // it has been shown
    }
  }
}

const NOTHING: readonly AvailableResource[] = []

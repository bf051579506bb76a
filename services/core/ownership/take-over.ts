// Partitions that come to a role of this process, and go: what the owner of their accounts must do (core/ownership/cluster-ownership.ts).
//
//   take      what ran for them in an earlier time is over ──▶ archive ids go on behind all that were given ──▶ the edges tell
//             who is connected and what was shown (core/ownership/resync.ts) ──▶ ready. Hard state is read when it is asked for.
//   release   what was handed on is handled ──▶ accounts settle ──▶ rows are in the table ──▶ edges have what they were sent, if
//             they live ──▶ all that is known of the accounts is forgotten
//   fenced    forgotten at once: what is staged dies, what waits is dropped, nothing that was done before is acked or sent
import { pause, type Timer } from '../clock.ts'
import type { Inbox } from '../lanes/inbox.ts'
import type { LaneReceiver } from '../lanes/lane-receiver.ts'
import type { Owner } from '../owner.ts'
import type { RoleOwning } from '../process.ts'
import { accountsOf, type OfAccounts } from './held.ts'
import { Resync } from './resync.ts'
import type { ToldSession } from './resync-frame.ts'

declare module '../call.ts' {
  interface Calls {
    /** Is told as soon as the account is served. */
    'owner.ready': { ask: Record<string, never>; tell: null }
  }
}

declare module '../hooks.ts' {
  interface Events {
    /** These accounts have another owner in this role from now on: whatever is kept of them in memory may be old. */
    'accounts.released': { readonly gone: OfAccounts }
  }
}

/** How long a release waits for what was handed on to owners elsewhere: one of those may wait for us. */
const HANDED_MS_MAX = 2_000
/** The same for edges to ack what they were sent: one of them may be dead, or the bus away. */
const DELIVERED_MS_MAX = 2_000
const LOOK_MS = 25
/** How long accounts that come wait for what ran before they went: each read and each call has an end before that. */
const STRAGGLERS_MS_MAX = 15_000

const EVERYBODY: OfAccounts = () => true

export class TakeOver implements RoleOwning {
  readonly #owner: Owner
  readonly #inbox: Inbox
  readonly #lanes: LaneReceiver
  readonly #resync: Resync
  /** Counts fences. */
  #life = 0

  constructor(owner: Owner, inbox: Inbox, lanes: LaneReceiver) {
    this.#owner = owner
    this.#inbox = inbox
    this.#lanes = lanes
    owner.answers.add('owner.ready', () => null)
    this.#resync = new Resync(owner.process, owner.role, {
      onLate: (edge, { sessions, watches }) => {
        owner.part.adopt?.(this.#ours(sessions), edge)
        owner.part.adoptWatches?.(
          watches.filter(({ contact }) => owner.held.has(contact)),
          edge,
        )
      },
      onSeen: (edge, seen) => owner.part.seen?.(edge, seen),
    })
  }

  async take(partitions: readonly number[]): Promise<void> {
    const { held, part } = this.#owner
    const life = this.#life
    await this.#stragglersOver()
    await this.#owner.goOn()
    if (life !== this.#life) return
    this.#forget(accountsOf(partitions)) // what was read of them while they were another's
    held.add(partitions, this.#owner.process.clock.monotonic())
    const told = await this.#resync.ask(partitions)
    if (life !== this.#life) return
    part.adopt?.(this.#ours(told.sessions))
    part.adoptWatches?.(told.watches)
    part.taken?.()
  }

  async release(partitions: readonly number[]): Promise<void> {
    const { held, mailboxes, commit, multicast, part } = this.#owner
    const life = this.#life
    const gone = accountsOf(partitions)
    await part.releasing?.(gone)
    await this.#handled(partitions)
    do {
      await this.#inbox.settled()
      await mailboxes.settledOf(gone)
      await commit.drained() // what it releases may give accounts something to do again
      await this.#within(DELIVERED_MS_MAX, multicast.settled()) // and so may what comes meanwhile
    } while (mailboxes.anyOf(gone) || commit.anyOf(gone))
    if (life !== this.#life) return
    held.remove(partitions)
    this.#forget(gone)
  }

  fenced(): void {
    const { held, mailboxes, commit, lanes, multicast, archiveIds } = this.#owner
    this.#life++
    held.clear()
    this.#resync.drop()
    this.#inbox.drop()
    this.#lanes.drop()
    mailboxes.drop(EVERYBODY)
    commit.drop()
    archiveIds.forget()
    lanes.drop()
    multicast.drop()
    this.#forget(EVERYBODY)
  }

  get handedOn(): number {
    return this.#owner.lanes.handedOn
  }

  close(): void {
    this.#resync.close()
  }

  /** A session has ended that is not known here. */
  noteEnded(session: string): void {
    this.#resync.noteEnded(session)
  }

  /** An edge, or this one, may still tell of sessions of this account: it was waited for no longer. */
  waitsFor(account: string, edge?: string): boolean {
    return this.#resync.waitsFor(account, edge)
  }

  /** In the order in which they were bound, as far as clocks agree: of two of one resource the later one stands. */
  #ours(told: readonly ToldSession[]): readonly ToldSession[] {
    const { held } = this.#owner
    const ours = told.filter(({ session, jid }) => held.has(jid.bare) && !this.#resync.isEnded(session))
    return ours.sort((a, b) => a.about.sinceMs - b.about.sinceMs)
  }

  #forget(gone: OfAccounts): void {
    const { accounts, shared, recalls, hooks, part } = this.#owner
    part.forget?.(gone)
    accounts.release(gone)
    recalls.release(gone)
    shared.release(gone)
    void hooks.emit('accounts.released', { gone })
  }

  async #stragglersOver(): Promise<void> {
    const { mailboxes, log } = this.#owner
    const isLate = await this.#within(STRAGGLERS_MS_MAX, mailboxes.stragglersOver())
    if (isLate) log.error('tasks.not_over', { afterMs: STRAGGLERS_MS_MAX })
  }

  /** Waits for it, but no longer than that. Resolves with whether it was too long. */
  async #within(ms: number, waitedFor: Promise<void>): Promise<boolean> {
    const { clock } = this.#owner.process
    let timer: Timer | undefined
    const late = new Promise<true>((resolve) => {
      timer = clock.setTimeout(() => resolve(true), ms)
    })
    const isLate = await Promise.race([waitedFor, late])
    clock.clearTimeout(timer)
    return isLate === true
  }

  async #handled(partitions: readonly number[]): Promise<void> {
    const { clock } = this.#owner.process
    const untilMs = clock.monotonic() + HANDED_MS_MAX
    while (this.#lanes.isBusy(partitions) && clock.monotonic() < untilMs) await pause(clock, LOOK_MS)
  }
}

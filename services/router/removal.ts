// The end of an account: gone at once, deleted in portions.
//
//   mark ──▶ contacts are told ──▶ rows, a portion at a time ──▶ the list ──▶ the last row: the name is free
//    └─ durable: from here on nobody has it, and it is finished whoever dies (core/storage/accounts.ts)
//
// An archive may have millions of rows. Between two portions everybody else has as long as the last one took, so that half of
// what the table can do is left to them; a few accounts are deleted at a time, the others wait for their turn.
//
// Whoever owns the account does it. When partitions come, what their last owner had begun is looked for among the removals and
// taken up; when they go, it stops, and the next owner goes on where the rows end.

import type { Owner } from '#core/owner.ts'
import type { OfAccounts } from '#core/ownership/held.ts'
import type { Registry } from '#core/ownership/registry.ts'
import { StanzaError } from '#xmpp/error.ts'
import type { Jid } from '#xmpp/jid.ts'

declare module '#core/call.ts' {
  interface Calls {
    /** Tells when it is done, but no later than in `waitMs`: by then the account is gone, and the rest goes on. */
    'account.remove': { ask: { waitMs?: number }; tell: RemovalProgress }
    /** How far that is; asked again, it is told when it is done, or how far it is in a second. */
    'account.removal': { ask: Record<string, never>; tell: RemovalProgress }
  }
}

export interface RemovalProgress {
  readonly finished: boolean
  /** Deleted so far, since the server started. */
  readonly rows: number
}

/** What most take far less than. A call has 10 s. */
export const REMOVAL_WAIT_MS = 2_000
const PROGRESS_WAIT_MS = 1_000
const AT_ONCE_MAX = 4
/** Of those that wait. What a process has forgotten, the next one finds in the table. */
const WAITING_MAX = 10_000
const PAUSE_MOST_MS = 1_000
const RETRY_FIRST_MS = 50
const RETRY_MOST_MS = 5_000

interface Removal {
  rows: number
  done: Promise<void>
  /** Somebody else goes on with it. */
  dropped: boolean
}

/** One whose turn has not come; `go` tells it whether it has. */
interface Waiting {
  readonly removal: Removal
  readonly go: (itsTurn: boolean) => void
}

class Stopped extends Error {
  override name = 'Stopped'
}

export class Removals {
  readonly #owner: Owner
  readonly #sessions: Registry
  readonly #underWay = new Map<string, Removal>()
  #running = 0
  #waiting: Waiting[] = []
  #stopped = false
  readonly #resuming = new Set<Promise<void>>()
  /** Each ends a pause. */
  readonly #pauses = new Set<() => void>()

  constructor(owner: Owner, sessions: Registry) {
    this.#owner = owner
    this.#sessions = sessions
  }

  /** Accounts that are being deleted, or wait for it. */
  get size(): number {
    return this.#underWay.size
  }

  /**
   * The account is gone when it resolves; the rest goes on. One that is marked and that nobody is at work on is taken up.
   * Throws StanzaError: item-not-found where there is none, resource-constraint where too many wait.
   */
  async begin(account: Jid): Promise<void> {
    const { accounts } = this.#owner
    const known = !accounts.isSealed(account) && ((await accounts.exists(account)) || (await accounts.isRemoved(account)))
    if (!known || this.#underWay.has(account.bare)) throw new StanzaError('item-not-found', 'no such account')
    if (this.#underWay.size >= WAITING_MAX)
      throw new StanzaError('resource-constraint', 'too many accounts are being deleted', { type: 'wait' })
    this.#owner.commit.demandHeld(account.bare)
    const marked = accounts.markRemoved(account)
    this.#run(account, marked)
    await marked
  }

  async progress(account: Jid, waitMs = PROGRESS_WAIT_MS): Promise<RemovalProgress> {
    const { bare } = account
    const removal = this.#underWay.get(bare)
    // Its owner of before may have begun it, and it is not taken up here yet.
    if (removal === undefined && !(await this.#owner.accounts.isRemoved(account))) return { finished: true, rows: 0 }
    const late = this.#pause(waitMs)
    await Promise.race(removal === undefined ? [late.over] : [removal.done, late.over])
    late.end()
    return { finished: removal !== undefined && !this.#underWay.has(bare), rows: removal?.rows ?? 0 }
  }

  /** Finishes what others have begun, of the accounts that are held: to be called whenever some have come. Never rejects. */
  resume(): Promise<void> {
    const { log } = this.#owner
    const resuming: Promise<void> = this.#untilDone(
      () => this.#resume(),
      () => this.#stopped,
      (error, pauseMs) => log.warn('account.removals_delayed', { error, pauseMs }),
    ).then(() => void this.#resuming.delete(resuming))
    this.#resuming.add(resuming)
    return resuming
  }

  async #resume(): Promise<void> {
    const { accounts, held, log } = this.#owner
    const running = new Set<Promise<void>>()
    for await (const unfinished of accounts.unfinished()) {
      const { account, entry } = unfinished
      if (this.#stopped) return
      if (!held.has(account.bare)) continue
      const before = this.#underWay.get(account.bare)
      if (before?.dropped) await before.done // of an earlier time here
      const removed = await accounts.isRemoved(account)
      if (!held.has(account.bare)) continue // it has gone meanwhile
      if (this.#underWay.has(account.bare)) continue // begun here, and perhaps not marked yet
      if (removed) {
        log.info('account.removal_resumed', { account: account.bare })
        const run: Promise<void> = this.#run(account, Promise.resolve(entry)).then(() => void running.delete(run))
        running.add(run)
        if (running.size === AT_ONCE_MAX) await Promise.race(running)
      } else await accounts.forgetUnfinished(unfinished)
    }
    await Promise.all(running)
  }

  /** Of these accounts nothing more is done here: whoever has them next goes on. */
  drop(gone: OfAccounts): void {
    let any = false
    for (const [account, removal] of this.#underWay) {
      if (!gone(account)) continue
      removal.dropped = true
      any = true
    }
    if (any) this.#tellDropped()
  }

  #tellDropped(): void {
    for (const end of this.#pauses) end()
    const waiting = this.#waiting
    this.#waiting = waiting.filter(({ removal }) => !this.#isDropped(removal))
    for (const { removal, go } of waiting) if (this.#isDropped(removal)) go(false)
  }

  #isDropped({ dropped }: Removal): boolean {
    return this.#stopped || dropped
  }

  /** As `drop`; resolves when what was begun is over. */
  async release(gone: OfAccounts): Promise<void> {
    this.drop(gone)
    await Promise.all([...this.#underWay].map(([account, { done }]) => gone(account) && done))
  }

  /** Resolves when nothing is done any more: the next process goes on. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#tellDropped()
    await Promise.all([...this.#underWay.values()].map(({ done }) => done))
    await Promise.all(this.#resuming)
  }

  /** @param marked resolves to its entry among the removals. Never rejects. */
  #run(account: Jid, marked: Promise<string>): Promise<void> {
    const removal: Removal = { rows: 0, done: Promise.resolve(), dropped: false }
    this.#underWay.set(account.bare, removal)
    removal.done = this.#finish(account, marked, removal).finally(() => this.#underWay.delete(account.bare))
    return removal.done
  }

  async #finish(account: Jid, marked: Promise<string>, removal: Removal): Promise<void> {
    const { accounts, log, process } = this.#owner
    const startedMs = process.clock.monotonic()
    let entry: string
    try {
      entry = await marked
    } catch {
      return // whoever has asked is told
    }
    if (this.#isDropped(removal)) return
    accounts.hold(account)
    if (!(await this.#turn(removal))) return
    const erased = await this.#untilDone(
      () => this.#erase(account, entry, removal),
      () => this.#isDropped(removal),
      (error, pauseMs) => log.warn('account.removal_delayed', { account: account.bare, error, pauseMs }),
    )
    this.#next()
    if (!erased) return
    accounts.letGo(account)
    if (this.#sessions.of(account.bare).length === 0) accounts.unseal(account) // else with the last of them
    const tookMs = Math.round(process.clock.monotonic() - startedMs)
    log.info('account.erased', { account: account.bare, rows: removal.rows, tookMs })
  }

  /** Any of it may have been done before. */
  async #erase(account: Jid, entry: string, removal: Removal): Promise<void> {
    const { accounts, caller, hooks, process } = this.#owner
    const { clock } = process
    await caller.ask('presence', account.bare, 'presence.remove-account', {})
    await hooks.emit('account.erasing', { account })
    let sinceMs = clock.monotonic()
    await accounts.erase(account, async (rows) => {
      removal.rows += rows
      const tookMs = clock.monotonic() - sinceMs
      if (tookMs >= 1) await this.#pause(Math.min(tookMs, PAUSE_MOST_MS)).over
      if (this.#isDropped(removal)) throw new Stopped()
      sinceMs = clock.monotonic()
    })
    await accounts.forgetUnfinished({ account, entry })
    await caller.ask('presence', account.bare, 'presence.forget-account', {})
    await hooks.emit('account.deleted', { account })
  }

  /** Does it again until it does not fail. False where that is stopped first. */
  async #untilDone(
    task: () => Promise<void>,
    isStopped: () => boolean,
    failed: (error: unknown, pauseMs: number) => void,
  ): Promise<boolean> {
    for (let pauseMs = RETRY_FIRST_MS; !isStopped(); pauseMs = Math.min(pauseMs * 2, RETRY_MOST_MS)) {
      try {
        await task()
        return true
      } catch (error) {
        if (isStopped()) break
        failed(error, pauseMs)
        await this.#pause(pauseMs).over
      }
    }
    return false
  }

  /** False where it is dropped before its turn comes. */
  #turn(removal: Removal): boolean | Promise<boolean> {
    if (this.#running === AT_ONCE_MAX) return new Promise((go) => this.#waiting.push({ removal, go }))
    this.#running++
    return true
  }

  /** One is over: the next takes its place. */
  #next(): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#running--
    else next.go(true)
  }

  /** Is over in `ms`, when it is ended, or when all stops. */
  #pause(ms: number): { readonly over: Promise<void>; end(): void } {
    const { clock } = this.#owner.process
    let end = (): void => {}
    const over = new Promise<void>((resolve) => {
      end = () => {
        clock.clearTimeout(timer)
        this.#pauses.delete(end)
        resolve()
      }
      const timer = clock.setTimeout(end, ms)
      this.#pauses.add(end)
    })
    return { over, end }
  }
}

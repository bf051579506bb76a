// Who is in the cluster: this process's own lease, and what can be told of the others' (leases.ts).
//
// A process is *sure* of itself for SURE_MS after it sent the last renewal that succeeded. While it is not it holds still,
// and goes on when a renewal succeeds. Whoever wants to take something from a dead process breaks its lease first, by a
// conditional put over the version that did not change: the next renewal of the dead one then fails, should it live. It is
// *fenced*: it drops all it owned and joins anew once its broken lease is gone.
//
// The version of a lease is `<nonce>-<n>`, the nonce made anew for each time of joining: after a lost answer it tells
// "it was I". How a lease is broken, and what becomes of it, is in breaking.ts. On the bus, the subject `members` says that something has changed; who misses it reads again soon.
import type { Bus } from '#bus/bus.ts'
import { type Row, type Table, TableUnavailable, VersionConflict } from '#table/table.ts'
import type { Clock } from '../clock.ts'
import { ENVELOPE_VERSION } from '../envelope.ts'
import { Loop } from '../loop.ts'
import type { Log } from '../observing/log.ts'
import type { Liveness } from '../process.ts'
import { Breaking, type Fate } from './breaking.ts'
import { BusLink } from './bus-link.ts'
import {
  LEASES,
  type Lease,
  LeaseWatch,
  leaseKey,
  leaseRow,
  RENEW_MS,
  readLease,
  STRANDED_MS,
  SURE_MS,
  type Watched,
} from './leases.ts'
import { hashOf, rendezvous } from './rendezvous.ts'

export interface MembershipOptions {
  readonly process: string
  /** All that this process does: `edge`, `router`, … */
  readonly roles: readonly string[]
  /** Where it runs, for people. */
  readonly host: string
  readonly table: Table
  readonly bus: Bus
  readonly clock: Clock
  readonly log: Log
  /** Ids that were never given before. */
  readonly newId: () => string
  /** From 0 up to 1: so that many processes do not come at the same moment. */
  readonly random: () => number
  /** By role, how far its log is applied: said with each renewal. */
  readonly applied?: () => Readonly<Record<string, number>>
}

/** A process that is dead, and its lease as it was last read. */
export interface DeadMember {
  readonly process: string
  readonly version: string
  readonly broken: boolean
}

/** How soon something is tried again, about. */
export const RETRY_MS = 500
/** How often a process that leaves tries to say so. */
const ENDINGS_MAX = 5
const HINT = 'members'
const NOTHING = new Uint8Array(0)

export class Membership {
  readonly process: string
  readonly #options: MembershipOptions
  readonly #watch = new LeaseWatch()
  readonly #heart: Loop
  readonly #eye: Loop
  readonly #readers: (() => void)[] = []
  readonly #watchers: (() => void)[] = []
  readonly #fenced: (() => void)[] = []
  #clear: () => Promise<void> = async () => {}
  #nonce: string
  #count = 0
  /** Of the last renewal that is known to have succeeded. */
  #version = ''
  #renewedMs = Number.NEGATIVE_INFINITY
  /** The same by the wall clock. */
  #renewedWallMs = Number.NEGATIVE_INFINITY
  #joined = false
  #term = 0
  #state: 'up' | 'leaving' | 'ended' = 'up'
  /** Its lease says that it leaves. */
  #saidSo = false
  /** When this process first saw its own lease broken. */
  #brokenMs: number | undefined
  /** The loops whose last run found the table away. */
  readonly #away = new Set<'renewing' | 'reading'>()
  #sinceMs = 0
  #hints: { close(): void } | undefined
  readonly #link: BusLink
  readonly #breaking: Breaking
  /** Of the lease that was put last. */
  #saidCut = false
  #whenJoined: (() => void)[] = []

  constructor(options: MembershipOptions) {
    this.#options = options
    this.process = options.process
    this.#nonce = options.newId()
    this.#breaking = new Breaking(options, () => this.#hint())
    this.#heart = new Loop(options.clock, () => this.#guard('renewing', () => (this.#joined ? this.#renew() : this.#enter())))
    this.#link = new BusLink(options.bus, options.clock, () => this.#heart.poke())
    this.#eye = new Loop(options.clock, () => this.#guard('reading', () => this.#read()))
  }

  /** Begins to watch and to join. Resolves when it has joined: not before the table is there. */
  join(): Promise<void> {
    this.#hints = this.#options.bus.subscribe(HINT, () => {
      this.#eye.poke()
      if (!this.#joined) this.#heart.poke() // its broken lease may be gone
    })
    this.#link.watch()
    this.#sinceMs = this.#options.clock.now()
    this.#eye.start()
    this.#heart.start()
    return new Promise((resolve) => this.#whenJoined.push(resolve))
  }

  /**
   * True while nobody can have broken this process's lease. The monotonic clock stands still while the machine sleeps or is
   * paused: where the wall clock says that more time has passed, that is believed until a renewal has succeeded.
   */
  sure(): boolean {
    const { clock } = this.#options
    return clock.monotonic() < this.#renewedMs + SURE_MS && clock.now() < this.#renewedWallMs + SURE_MS
  }

  get joined(): boolean {
    return this.#joined
  }

  livenessOf(process: string): Liveness {
    if (process === this.process) return this.#joined ? 'live' : 'gone'
    const watched = this.#watch.leases.get(process)
    if (watched === undefined) return this.#watch.isGone(process) ? 'gone' : 'unseen'
    if (!watched.dead) return 'live'
    return watched.lease.state === 'broken' ? 'gone' : 'silent'
  }

  /** The version of envelopes that this process reads; the one of this process where nothing is known of it. */
  speaksOf(process: string): number {
    return this.#watch.leases.get(process)?.lease.speaks ?? ENVELOPE_VERSION
  }

  /** The processes that do this, or all, whose leases are not broken: of those that leave or are silent, too. */
  live(role?: string): readonly string[] {
    return this.#select(role, ({ lease }) => lease.state !== 'broken', true)
  }

  /** Those that may be given something: not the ones that leave, nor those without the bus while another one has it. */
  candidates(role?: string): readonly string[] {
    const up = this.#select(role, ({ lease, dead }) => lease.state === 'up' && !dead, this.#state === 'up')
    const { leases } = this.#watch
    if (!up.some((process) => leases.get(process)?.link === 'has')) return up
    return up.filter((process) => leases.get(process)?.link !== 'has not')
  }

  /** Whether this one, or another, is without the bus though others have it. */
  isCutOff(process: string): boolean {
    const { leases } = this.#watch
    if (leases.get(process)?.link !== 'has not') return false
    for (const { dead, link } of leases.values()) if (!dead && link === 'has') return true
    return false
  }

  /** The dead whose leases are still there. */
  dead(): readonly DeadMember[] {
    const dead = [...this.#watch.leases].filter(([process, watched]) => watched.dead && process !== this.process)
    return dead.map(([process, { version, lease }]) => ({ process, version, broken: lease.state === 'broken' }))
  }

  /** Whether it is for this process to see to what has died, where nobody else has a reason to. */
  isUndertakerOf(process: string): boolean {
    return rendezvous(hashOf(process), this.candidates()) === this.process
  }

  /** After each reading of the leases. */
  onRead(listener: () => void): void {
    this.#readers.push(listener)
  }

  /** After a reading by which somebody has come, gone, died or begun to leave. */
  onChange(listener: () => void): void {
    this.#watchers.push(listener)
  }

  /** When this process has lost all it owned, before anything else happens. */
  onFenced(listener: () => void): void {
    this.#fenced.push(listener)
  }

  /**
   * What is done when nobody has seen to what this fenced process owned for STRANDED_MS: afterwards it owns nothing. It joins
   * anew only then.
   */
  onStranded(clear: () => Promise<void>): void {
    this.#clear = clear
  }

  /** Reads the leases at once. */
  look(): void {
    this.#eye.poke()
  }

  /** Gives up all that this process owns, as when its lease has been broken; it breaks it itself, and joins anew. */
  fence(reason: string): void {
    if (!this.#joined) return
    this.#joined = false
    this.#term++
    this.#renewedMs = Number.NEGATIVE_INFINITY
    this.#nonce = this.#options.newId()
    this.#brokenMs = undefined
    this.#options.log.warn('member.fenced', { reason })
    for (const listener of this.#fenced) listener()
    if (this.#state === 'up') this.#heart.poke()
    else this.stop()
  }

  /** See Breaking.breakLease. */
  breakLease(process: string): Promise<Fate> {
    return this.#breaking.breakLease(process, () => this.#watch.leases.get(process))
  }

  /** As `breakLease`, of a lease that may not be broken. */
  fateOf(process: string): Promise<Fate> {
    return this.#breaking.fateOf(process)
  }

  /** See Breaking.noteRecovered. */
  noteRecovered(process: string, fate: Extract<Fate, { state: 'broken' }>, role: string, mark: number): Promise<void> {
    return this.#breaking.noteRecovered(process, fate, role, mark)
  }

  /** Removes a broken lease: its process may join anew. For when it owns nothing in any role. */
  bury(process: string, version: string): Promise<void> {
    return this.#breaking.bury(process, version)
  }

  /** From now on it takes nothing, and others know. */
  leave(): void {
    if (this.#state !== 'up') return
    this.#state = 'leaving'
    if (this.#joined) this.#heart.poke()
    else this.stop()
  }

  /** Removes its own lease, once it owns nothing. Where the table cannot be reached, the lease stays, and runs out. */
  async end(): Promise<void> {
    const { log, clock } = this.#options
    const wasJoined = this.#joined
    this.#joined = false
    this.#term++
    this.#renewedMs = Number.NEGATIVE_INFINITY
    this.stop()
    for (let attempt = 1; wasJoined; attempt++) {
      try {
        await this.#removeOwn()
        return this.#hint()
      } catch (error) {
        if (attempt < ENDINGS_MAX) await new Promise<void>((resolve) => clock.setTimeout(resolve, this.#retryMs()))
        else return log.warn('lease.left_behind', { error })
      }
    }
  }

  /** Neither renews nor watches any more. The lease stays, and runs out. */
  stop(): void {
    this.#state = 'ended'
    this.#heart.stop()
    this.#eye.stop()
    this.#hints?.close()
    this.#link.close()
    for (const resolve of this.#whenJoined.splice(0)) resolve()
  }

  async #removeOwn(): Promise<void> {
    const { table } = this.#options
    for (let version: string | undefined = this.#version; version !== undefined; ) {
      try {
        return await table.delete(leaseKey(this.process), version)
      } catch (error) {
        if (!(error instanceof VersionConflict)) throw error
      }
      // A renewal that was under way has come in between, or it is gone.
      const row: Row | undefined = await table.get(leaseKey(this.process))
      version = row !== undefined && this.#isMine(row) ? row.version : undefined
    }
  }

  #select(role: string | undefined, which: (watched: Watched) => boolean, self: boolean): readonly string[] {
    const processes: string[] = []
    const does = (lease: Pick<Lease, 'roles'>): boolean => role === undefined || lease.roles.includes(role)
    for (const [process, watched] of this.#watch.leases)
      if (process !== this.process && does(watched.lease) && which(watched)) processes.push(process)
    if (this.#joined && self && does(this.#options)) processes.push(this.process)
    return processes.sort()
  }

  /** Renews the lease. */
  async #renew(): Promise<number> {
    const { table, clock } = this.#options
    const term = this.#term
    const sentMs = clock.monotonic()
    const wallMs = clock.now()
    const version = this.#nextVersion()
    const lease = this.#lease()
    try {
      await table.put(leaseRow(this.process, lease, version), this.#version)
    } catch (error) {
      if (!(error instanceof VersionConflict)) throw error
      return this.#verify(term)
    }
    if (term !== this.#term) return 0
    this.#version = version
    this.#renewedMs = sentMs
    this.#renewedWallMs = wallMs
    const isCut = lease.cut === true
    if (isCut !== this.#saidCut || (lease.state === 'leaving' && !this.#saidSo)) this.#hint()
    if (isCut !== this.#saidCut) this.#options.log.warn('lease.bus', { cut: isCut })
    this.#saidCut = isCut
    this.#saidSo = lease.state === 'leaving'
    return sentMs + RENEW_MS - clock.monotonic()
  }

  /** A renewal came upon another version: one whose answer was lost, or the lease is this process's no more. */
  async #verify(term: number): Promise<number> {
    const row = await this.#options.table.get(leaseKey(this.process))
    if (term !== this.#term) return 0
    if (row !== undefined && this.#isMine(row)) this.#version = row.version
    else this.fence(row === undefined ? 'its lease is gone' : 'its lease was broken')
    return RETRY_MS / 10
  }

  /** Joins, where there is no lease of this process; where there is one of before, it must go first. */
  async #enter(): Promise<number> {
    const { table, clock } = this.#options
    const row = await table.get(leaseKey(this.process))
    if (row === undefined || this.#isMine(row)) {
      const sentMs = clock.monotonic()
      const wallMs = clock.now()
      const version = row?.version ?? this.#nextVersion()
      if (row === undefined) await table.put(leaseRow(this.process, this.#lease(), version), '')
      if (this.#state !== 'up') {
        await this.bury(this.process, version) // it has been told to go meanwhile
        return Number.POSITIVE_INFINITY
      }
      this.#entered(version, row === undefined ? sentMs : Number.NEGATIVE_INFINITY, wallMs)
      return row === undefined ? sentMs + RENEW_MS - clock.monotonic() : 0
    }
    const lease = readLease(row)
    if (lease.state !== 'broken') {
      await table.put(leaseRow(this.process, { ...lease, state: 'broken' }, this.#options.newId()), row.version)
      this.#hint()
      return RETRY_MS
    }
    this.#brokenMs ??= clock.monotonic()
    if (clock.monotonic() - this.#brokenMs < STRANDED_MS) return this.#retryMs()
    await this.#clear()
    await this.bury(this.process, row.version)
    return 0
  }

  #entered(version: string, sentMs: number, wallMs: number): void {
    this.#version = version
    this.#renewedMs = sentMs
    this.#renewedWallMs = wallMs
    this.#joined = true
    this.#term++
    this.#options.log.info('member.joined', { roles: this.#options.roles, term: this.#term })
    for (const resolve of this.#whenJoined.splice(0)) resolve()
    this.#hint()
    this.#eye.poke()
  }

  /** Reads all leases. */
  async #read(): Promise<number> {
    const { table, clock, log } = this.#options
    const term = this.#term
    const joined = this.#joined
    const wasSure = this.sure()
    const sentMs = clock.monotonic()
    const rows: Row[] = []
    for await (const row of table.query(LEASES)) rows.push(row)
    const nowMs = clock.monotonic()
    if (this.#state === 'ended') return Number.POSITIVE_INFINITY
    const before = this.#watch.leases
    const changed = this.#watch.note(rows, sentMs, nowMs, wasSure && this.sure(), (error) =>
      log.error('lease.refused', { error }),
    )
    if (changed) this.#tell(before)
    // Asked since it joined, the table can only know the lease of now, or that it was broken.
    if (joined && term === this.#term && !rows.some((row) => row.sk === this.process && this.#isMine(row)))
      this.fence('its lease was seen broken')
    for (const listener of this.#readers) listener()
    return Math.min(sentMs + RENEW_MS, this.#watch.nextDeathMs) - clock.monotonic()
  }

  #tell(before: ReadonlyMap<string, Watched>): void {
    const { log } = this.#options
    const { leases } = this.#watch
    for (const [process, { dead, lease }] of leases) {
      const known = before.get(process)
      if (known === undefined) log.info('member.seen', { process, roles: lease.roles, state: lease.state })
      else if (dead && !known.dead) log.warn('member.died', { process, broken: lease.state === 'broken' })
    }
    for (const process of before.keys()) if (!leases.has(process)) log.info('member.gone', { process })
    for (const listener of this.#watchers) listener()
  }

  /** Whatever goes wrong is tried again. That the table is away is logged once, and that it is back. */
  async #guard(what: 'renewing' | 'reading', run: () => Promise<number>): Promise<number> {
    const { log } = this.#options
    try {
      const pauseMs = await run()
      if (this.#away.delete(what)) log.info('lease.table_back', { what })
      return pauseMs
    } catch (error) {
      if (error instanceof TableUnavailable) {
        if (!this.#away.has(what)) log.warn('lease.table_away', { what, error })
        this.#away.add(what)
      } else if (!(error instanceof VersionConflict)) log.error('lease.broke', { what, error })
      return this.#retryMs()
    }
  }

  #lease(): Lease {
    const { roles, host, applied } = this.#options
    const state = this.#state === 'up' ? 'up' : 'leaving'
    const cut = this.#link.cut && { cut: true }
    return { roles, host, sinceMs: this.#sinceMs, applied: applied?.() ?? {}, state, speaks: ENVELOPE_VERSION, ...cut }
  }

  #nextVersion(): string {
    this.#count++
    return `${this.#nonce}-${this.#count.toString(36)}`
  }

  #isMine({ version }: Row): boolean {
    return version.startsWith(`${this.#nonce}-`)
  }

  #retryMs(): number {
    return RETRY_MS * (0.5 + this.#options.random())
  }

  #hint(): void {
    this.#options.bus.publish(HINT, NOTHING)
  }
}

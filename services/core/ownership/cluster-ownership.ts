// Who owns an address in a cluster: who should, by rendezvous among the members, and how a partition gets there.
//
// Each process looks after each leases reading whether what the rows say (owners-row.ts) is what it would want, and does its
// part: an owner *releases* what another should have, closing it first; a process *takes* what it should have and nobody
// owns, or a dead one does. Nothing is taken from a dead process before its lease is broken (membership.ts), so that it is
// sure of nothing any more, and its log is recovered, so that all it ever acknowledged is in the table.
//
// Whatever changes in a role is a conditional put of the whole row. Before one that takes from a dead process, its lease is
// looked at once more, after that row was read: where it is broken or gone then, none of its entries in the row can be of
// a life after. Each step may be done twice, and by two processes.
//
// A broken lease is removed when the rows, read after it, name its process nowhere: so one that has no lease has left
// nothing behind, and may join anew. Nobody should remove a lease by hand.
//
// On the bus, the subject `owners` says that a row has changed; who misses it reads again soon.
import type { Bus } from '#bus/bus.ts'
import { type Row, type Table, TableUnavailable } from '#table/table.ts'
import { type Clock, pause } from '../clock.ts'
import { UnknownLogVersion } from '../commits/log-item.ts'
import { Loop } from '../loop.ts'
import type { Log } from '../observing/log.ts'
import { breakingOf } from './breaking.ts'
import { type DeadMember, type Membership, RETRY_MS } from './membership.ts'
import { getOwnersRow, OWNERS, type OwnersRow, ownersRowWith, putOwnersRow, readOwnersRow } from './owners-row.ts'
import { type Ownership, type OwnersListener, PARTITIONS, partitionOf, type RoleName } from './ownership.ts'
import { Partitions } from './partitions.ts'
import { hashOf, rendezvous, rendezvousAll } from './rendezvous.ts'

/** What a process does with the partitions that come and go. What rejects is tried again. */
export interface Owning {
  /**
   * Resolves when everything that process ever acknowledged in that role is in the table. `applied`: what its lease said of its
   * log; resolves with what it may say from now on. Rejects with UnknownLogVersion where this one cannot tell.
   */
  recover(process: string, role: RoleName, applied: number): Promise<number>
  /** These are this process's from now on. Resolves when it is ready for their envelopes. */
  take(role: RoleName, partitions: readonly number[]): Promise<void>
  /** Stops taking envelopes for these. Resolves when all their accounts are settled and all they staged is applied. */
  release(role: RoleName, partitions: readonly number[]): Promise<void>
  /** Nothing in this role is this process's any more, and others may have it already. It writes and sends nothing more for it. */
  fenced(role: RoleName): void
  /** What was handed on to owners elsewhere, and not acked by them: nobody else knows of it. */
  readonly handedOn: number
}

export interface ClusterOwnershipOptions {
  readonly membership: Membership
  readonly table: Table
  readonly bus: Bus
  readonly clock: Clock
  readonly log: Log
  /** Ids that were never given before. */
  readonly newId: () => string
}

const ROLES: readonly RoleName[] = ['router', 'presence']
const HINT = 'owners'
const NOTHING = new Uint8Array(0)
/** How often a change of the row is tried against others who change it, before it waits for the next reading. */
const CONFLICTS_MAX = 8
/** So much sooner than the others who take from a dead process, one of them begins to recover its log: they find it done. */
const HEAD_START_MS = 300
/** How often a process that leaves looks whether what it has handed on is acked. */
const HANDED_LOOK_MS = 25

/** What is under way between two fences: its end is nothing to what comes after. */
class Tenure {
  readonly running = new Set<string>()
  /** By role and process, the breaking of the lease whose log is recovered (membership.ts); '' where there was no lease. */
  readonly recovered = new Map<string, string>()
  /** Tasks that nobody here can do, as is said once. */
  readonly refused = new Set<string>()
  /** By task, when it last found a lease to live that had been seen to be dead. */
  readonly livedMs = new Map<string, number>()
}

export class ClusterOwnership implements Ownership {
  readonly #options: ClusterOwnershipOptions
  readonly #membership: Membership
  readonly #process: string
  readonly #partitions: Readonly<Record<RoleName, Partitions>>
  readonly #listeners: OwnersListener[] = []
  readonly #reader: Loop
  readonly #wanted = new Map<RoleName, { readonly of: string; readonly wanted: readonly string[] }>()
  #own: readonly RoleName[] = []
  /** Readings of the leases, and which of them the last reading of the rows came after. */
  #leasesRead = 0
  #rowsReadAfter = 0
  /** By role, how many of them there had been when the row changed last. */
  readonly #changedAt: Record<RoleName, number> = { router: 0, presence: 0 }
  /** Rows that nobody can tell what they say. */
  #unread: ReadonlySet<string> = new Set()
  #owning: Owning | undefined
  #tenure = new Tenure()
  #hints: { close(): void } | undefined
  #whenEmpty: (() => void) | undefined

  constructor(options: ClusterOwnershipOptions) {
    this.#options = options
    this.#membership = options.membership
    this.#process = options.membership.process
    this.#partitions = { router: new Partitions(this.#process), presence: new Partitions(this.#process) }
    this.#reader = new Loop(options.clock, () => this.#read())
    this.#membership.onRead(() => {
      this.#leasesRead++
      this.#reader.poke()
    })
    this.#membership.onFenced(() => this.#fenced())
    this.#membership.onStranded(() => this.#clear())
  }

  /** Joins the cluster and owns, from then on, its share in these roles; in none, it only knows who does. Resolves when it has joined. */
  async join(roles: readonly RoleName[], owning: Owning): Promise<void> {
    this.#own = roles
    this.#owning = owning
    this.#hints = this.#options.bus.subscribe(HINT, () => this.#reader.poke())
    this.#reader.start(Number.POSITIVE_INFINITY)
    await this.#membership.join()
  }

  /**
   * Gives away all it owns, waits until what it has handed on is acked, and leaves the cluster. Where that takes longer than
   * `patienceMs`, it leaves all the same, and the others take what is left once its lease has run out.
   */
  async leave(patienceMs: number): Promise<void> {
    this.#membership.leave()
    const { clock, log } = this.#options
    const untilMs = clock.monotonic() + patienceMs
    const left = await new Promise<boolean>((resolve) => {
      const timer = clock.setTimeout(() => resolve(false), patienceMs)
      this.#whenEmpty = () => {
        clock.clearTimeout(timer)
        resolve(true)
      }
      this.#reconcile()
    })
    this.#whenEmpty = undefined
    // Without its lease it may send nothing, and whoever has its accounts now knows nothing of it.
    while (left && this.#membership.joined && (this.#owning?.handedOn ?? 0) > 0 && clock.monotonic() < untilMs)
      await pause(clock, HANDED_LOOK_MS)
    if (left) await this.#membership.end()
    else log.warn('ownership.left_behind', { patienceMs })
    this.stop()
    if (!left) this.#forsake() // it renews its lease no more: what it has not written by now it never may
  }

  /** Ends at once. What it owned is taken by others when its lease has run out. */
  stop(): void {
    this.#membership.stop()
    this.#reader.stop()
    this.#hints?.close()
    this.#drop()
  }

  ownerOf(role: RoleName, account: string): string {
    return this.#partitions[role].row.owners[partitionOf(account)]!
  }

  ownersOf(role: RoleName): readonly string[] {
    return this.#partitions[role].owners
  }

  ownerAt(role: RoleName, partition: number): string {
    return this.#partitions[role].row.owners[partition]!
  }

  epochAt(role: RoleName, partition: number): number {
    return this.#partitions[role].row.epochs[partition]!
  }

  epoch(role: RoleName): number {
    return this.#partitions[role].row.epoch
  }

  onChange(listener: OwnersListener): void {
    this.#listeners.push(listener)
  }

  /** Not before it has read the rows since it joined: until then it goes by rows of a life before. */
  sure(): boolean {
    if (!this.#membership.sure()) return false
    for (const role of this.#own) if (this.#partitions[role].baseline === undefined && !this.#unread.has(role)) return false
    return true
  }

  owns(role: RoleName, account: string): boolean {
    return this.#partitions[role].isReady(partitionOf(account))
  }

  /** As `owns`, of a partition. */
  ownsPartition(role: RoleName, partition: number): boolean {
    return this.#partitions[role].isReady(partition)
  }

  /** Reads the rows at once: somebody has named an epoch that is newer than this view. */
  look(): void {
    this.#reader.poke()
  }

  async #read(): Promise<number> {
    const { table, log } = this.#options
    const tenure = this.#tenure
    const { joined } = this.#membership
    const leasesRead = this.#leasesRead
    const unread = new Set<string>()
    try {
      for await (const row of table.query(OWNERS)) if (!this.#readRow(row)) unread.add(row.sk)
    } catch (error) {
      if (error instanceof TableUnavailable) log.debug('owners.table_away', { error })
      else log.error('owners.read_failed', { error })
      return Number.POSITIVE_INFINITY // the next reading of the leases comes soon
    }
    // Only of this reading is it known that it came after this process has joined. Before it knows the others it takes nothing:
    // it would ask no edge for its sessions (core/ownership/resync.ts).
    if (joined && leasesRead > 0 && tenure === this.#tenure)
      for (const role of ROLES) if (!unread.has(role)) this.#partitions[role].baseline ??= this.#partitions[role].row.epoch
    this.#unread = unread
    this.#rowsReadAfter = leasesRead
    this.#reconcile()
    return Number.POSITIVE_INFINITY
  }

  /** The rows were read after the leases were: who is gone by those and owns something by these has left it behind. */
  get #isFresh(): boolean {
    return this.#rowsReadAfter === this.#leasesRead
  }

  /** False where nobody can tell what it says: that role stays as it is until somebody mends the row. */
  #readRow(row: Row): boolean {
    const role = ROLES.find((role) => role === row.sk)
    try {
      // Most readings bring what is known: it is not parsed again.
      if (role !== undefined && row.version !== this.#partitions[role].row.version) this.#apply(role, readOwnersRow(row))
      return true
    } catch (error) {
      this.#options.log.error('owners.refused', { error })
      return false
    }
  }

  #apply(role: RoleName, row: OwnersRow): void {
    const { changed, lost } = this.#partitions[role].apply(row)
    if (lost) this.#membership.fence(`what it owned in ${role} was taken`)
    if (changed.length === 0) return
    this.#changedAt[role] = this.#leasesRead
    if (this.#partitions[role].hasUnwanted(this.#wantedIn(role))) this.#membership.look()
    for (const listener of this.#listeners) {
      try {
        listener(role, changed)
      } catch (error) {
        this.#options.log.error('owners.listener_broke', { role, error })
      }
    }
  }

  /** Begins all that is to be done now. What has been done calls it again, and so does each reading. */
  #reconcile(): void {
    if (this.#membership.sure()) {
      for (const dead of this.#membership.dead()) if (this.#membership.isUndertakerOf(dead.process)) this.#seeTo(dead)
      for (const role of this.#own) if (this.#partitions[role].baseline !== undefined) this.#reconcileRole(role)
    }
    if (this.#whenEmpty === undefined) return
    const holds = this.#membership.joined && this.#own.some((role) => this.#partitions[role].holdsAny)
    if (!holds && this.#tenure.running.size === 0) this.#whenEmpty()
  }

  /** A dead process whom nobody may have a reason to take anything from. Its lease goes once it was seen broken, and then rows that do not name it. */
  #seeTo({ process, version, broken }: DeadMember): void {
    if (!broken)
      this.#begin(`break ${process}`, async () => {
        const fate = await this.#membership.breakLease(process)
        return this.#lookAtLeases(fate.state === 'lives' ? `break ${process}` : '')
      })
    else if (this.#isFresh && this.#unread.size === 0 && !ROLES.some((role) => this.#partitions[role].owners.includes(process)))
      this.#begin(`bury ${process}`, async () => {
        await this.#membership.bury(process, version)
        return false
      })
  }

  #reconcileRole(role: RoleName): void {
    const partitions = this.#partitions[role]
    const wanted = this.#wantedIn(role)
    const opening = partitions.open(wanted)
    if (opening.length > 0) this.#begin(`open ${role} ${opening[0]}`, () => this.#open(role, opening))
    const closing = partitions.close(wanted)
    if (closing.length > 0) this.#begin(`close ${role} ${closing[0]}`, () => this.#close(role, closing))
    for (const owner of this.#isFresh ? partitions.othersWithOurs(wanted) : [])
      if (this.#membership.livenessOf(owner) !== 'live' && !this.#tenure.recovered.has(`${role} ${owner}`))
        this.#begin(`recover ${role} ${owner}`, () => this.#recover(role, owner))
    if (this.#changesIn(role).size > 0) this.#begin(`change ${role}`, () => this.#change(role))
  }

  /** One of a name at a time. Resolves with whether something has become possible; what fails is begun again after the next reading. */
  #begin(name: string, task: () => Promise<boolean>): void {
    const tenure = this.#tenure
    if (tenure.running.has(name)) return
    tenure.running.add(name)
    const ended = (goOn: boolean): void => {
      tenure.running.delete(name)
      if (tenure === this.#tenure && (goOn || this.#whenEmpty !== undefined)) this.#reconcile()
    }
    task().then(ended, (error: unknown) => {
      this.#failed(tenure, name, error)
      tenure.running.delete(name)
    })
  }

  #failed({ refused }: Tenure, task: string, error: unknown): void {
    const { log } = this.#options
    if (error instanceof UnknownLogVersion) {
      if (!refused.has(task)) log.error('log.version_unknown', { task, ...error.facts })
      refused.add(task)
    } else if (!(error instanceof TableUnavailable)) log.error('ownership.broke', { task, error })
  }

  async #open(role: RoleName, opening: readonly number[]): Promise<boolean> {
    const tenure = this.#tenure
    await this.#insist(`take ${role}`, () => this.#owning!.take(role, opening))
    if (tenure !== this.#tenure) return false
    this.#partitions[role].opened(opening)
    this.#options.log.info('partitions.taken', { role, partitions: opening.length, epoch: this.epoch(role) })
    return true
  }

  async #close(role: RoleName, closing: readonly number[]): Promise<boolean> {
    const tenure = this.#tenure
    await this.#insist(`release ${role}`, () => this.#owning!.release(role, closing))
    if (tenure !== this.#tenure) return false
    this.#partitions[role].closed(closing)
    this.#options.log.info('partitions.released', { role, partitions: closing.length })
    return true
  }

  /** Until it resolves, or this process has nothing to do with it any more. */
  async #insist(what: string, attempt: () => Promise<void>): Promise<void> {
    const { clock, log } = this.#options
    for (const tenure = this.#tenure; tenure === this.#tenure; ) {
      try {
        return await attempt()
      } catch (error) {
        if (tenure === this.#tenure) log.warn('ownership.delayed', { what, error })
      }
      await pause(clock, RETRY_MS)
    }
  }

  /**
   * Sees to it that what the owner of before acknowledged is in the table. A process that has no lease any more owned nothing
   * when that was removed: it was given this afterwards, by somebody who did not know, and left nothing behind.
   */
  async #recover(role: RoleName, owner: string): Promise<boolean> {
    const tenure = this.#tenure
    let fate = await this.#membership.breakLease(owner)
    if (fate.state === 'broken' && !this.#isFirstToRecover(role, owner)) {
      await pause(this.#options.clock, HEAD_START_MS)
      if (tenure !== this.#tenure) return false
      fate = await this.#membership.fateOf(owner)
    }
    if (fate.state === 'lives') return this.#lookAtLeases(`recover ${role} ${owner}`)
    if (fate.state === 'broken') {
      const applied = await this.#owning!.recover(owner, role, fate.lease.applied[role] ?? 0)
      if (tenure !== this.#tenure) return false
      await this.#membership.noteRecovered(owner, fate, role, applied)
      this.#options.log.info('owner.recovered', { role, owner })
    }
    tenure.recovered.set(`${role} ${owner}`, fate.state === 'broken' ? breakingOf(fate.version) : '')
    return true
  }

  /** All who take from a dead process see to its log themselves; one of them is ahead. */
  #isFirstToRecover(role: RoleName, owner: string): boolean {
    return rendezvous(hashOf(owner), this.#membership.candidates(role)) === this.#process
  }

  /**
   * One is not as it was when all were read: what follows from that is done when they have been read again, and not before. At
   * once, but of one that lives and is seen dead by each reading, as a table may tell it that answers with what was.
   * @param lives the task that has found it so
   */
  async #lookAtLeases(lives: string): Promise<false> {
    const { clock } = this.#options
    const { livedMs } = this.#tenure
    if (lives !== '') {
      const untilMs = (livedMs.get(lives) ?? Number.NEGATIVE_INFINITY) + RETRY_MS
      if (clock.monotonic() < untilMs) await pause(clock, untilMs - clock.monotonic())
      livedMs.set(lives, clock.monotonic())
    }
    this.#membership.look()
    return false
  }

  /** Puts the row as it should be, as far as it is for this process to change it. */
  async #change(role: RoleName): Promise<boolean> {
    const { table, log, newId, bus } = this.#options
    const tenure = this.#tenure
    const partitions = this.#partitions[role]
    for (let attempt = 0; attempt < CONFLICTS_MAX; attempt++) {
      const { row } = partitions
      await this.#lookAgain(role)
      if (tenure !== this.#tenure || !this.#membership.sure()) return false
      if (row !== partitions.row) continue // what was looked at is not what would be changed
      const changes = this.#changesIn(role)
      if (changes.size === 0) return false
      const next = ownersRowWith(row, changes, newId())
      const isPut = await putOwnersRow(table, role, row, next)
      const now = isPut ? next : await getOwnersRow(table, role)
      if (isPut) bus.publish(HINT, NOTHING)
      this.#apply(role, now)
      if (tenure !== this.#tenure) return false
      if (isPut) {
        log.info('owners.changed', { role, partitions: changes.size, epoch: next.epoch })
        return true
      }
    }
    return false
  }

  /** Of those whose partitions would be taken: that the lease is still broken which they had when they were recovered. */
  async #lookAgain(role: RoleName): Promise<void> {
    const { owners } = this.#partitions[role].row
    const { recovered } = this.#tenure
    const taken = new Set([...this.#changesIn(role).keys()].map((partition) => owners[partition]!))
    for (const owner of taken) {
      if (owner === '' || owner === this.#process) continue
      const fate = await this.#membership.fateOf(owner)
      const isSame = fate.state === 'broken' && breakingOf(fate.version) === recovered.get(`${role} ${owner}`)
      if (fate.state !== 'gone' && !isSame) recovered.delete(`${role} ${owner}`)
    }
  }

  #changesIn(role: RoleName): Map<number, string> {
    const { recovered } = this.#tenure
    // Whoever gave it knows more, perhaps.
    const mayHandOn = this.#leasesRead > this.#changedAt[role]
    return this.#partitions[role].changes(this.#wantedIn(role), mayHandOn, (owner) => recovered.has(`${role} ${owner}`))
  }

  #wantedIn(role: RoleName): readonly string[] {
    const candidates = this.#membership.candidates(role)
    const of = candidates.join(' ')
    const known = this.#wanted.get(role)
    if (known?.of === of) return known.wanted
    const wanted = rendezvousAll(PARTITIONS, candidates)
    this.#wanted.set(role, { of, wanted })
    return wanted
  }

  #fenced(): void {
    this.#drop()
    this.#forsake()
    this.#whenEmpty?.()
  }

  #forsake(): void {
    for (const role of this.#own) this.#owning?.fenced(role)
  }

  #drop(): void {
    this.#tenure = new Tenure()
    for (const role of ROLES) this.#partitions[role].drop()
  }

  /** Nobody has taken what this process owned before it was fenced: it recovers its own log, and leaves it to nobody. */
  async #clear(): Promise<void> {
    const { table, newId, bus } = this.#options
    for (const role of ROLES) {
      const row = await getOwnersRow(table, role)
      const changes = new Map<number, string>()
      for (const [partition, owner] of row.owners.entries()) if (owner === this.#process) changes.set(partition, '')
      if (changes.size === 0) continue
      const fate = await this.#membership.fateOf(this.#process)
      const applied = fate.state === 'broken' ? (fate.lease.applied[role] ?? 0) : 0
      await this.#owning!.recover(this.#process, role, applied)
      if (!(await putOwnersRow(table, role, row, ownersRowWith(row, changes, newId()))))
        throw new TableUnavailable('the row of owners is changing')
      bus.publish(HINT, NOTHING)
    }
  }
}

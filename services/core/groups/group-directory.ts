// The groups of all domains as this process knows them: in memory, since each roster and each presence goes by them.
//
// Who changes the groups of a domain says so on the bus (`groups`), and every process reads what is new. A word that is lost is
// made up for: every CHECK_MS the roots of all domains are read, by one query, and what is another by now is read, too. In one
// process nothing is lost.
import type { Bus, Subscription } from '#bus/bus.ts'
import type { Table } from '#table/table.ts'
import type { Clock } from '../clock.ts'
import { Loop } from '../loop.ts'
import type { Log } from '../observing/log.ts'
import type { MaybePromise } from '../storage/store.ts'
import { GroupRows, type Root } from './group-rows.ts'
import { DomainGroups } from './groups.ts'

export const CHECK_MS = 15_000
/** A table that does not answer is asked again after this. */
const RETRY_MS = 1_000
/** How often a read starts anew, since what it reads is being changed. */
const TRIES_MAX = 20

/** Told when what is known of a domain is another. */
export type OnGroups = (before: DomainGroups, after: DomainGroups) => void

interface Parts {
  readonly bus: Bus
  readonly table: Table
  readonly clock: Clock
  readonly log: Log
}

export class GroupDirectory {
  readonly rows: GroupRows
  readonly #parts: Parts
  readonly #known = new Map<string, DomainGroups>()
  /** By domain; what begins behind it is another read. */
  readonly #reading = new Map<string, Promise<DomainGroups>>()
  readonly #next = new Map<string, Promise<DomainGroups>>()
  readonly #listeners: OnGroups[] = []
  readonly #check: Loop
  #word: Subscription | undefined

  constructor(parts: Parts) {
    this.#parts = parts
    this.rows = new GroupRows(parts.table)
    this.#check = new Loop(parts.clock, () => this.#look())
  }

  /** Reads the groups of these domains, and follows them from then on. */
  async start(domains: readonly string[]): Promise<void> {
    const { bus } = this.#parts
    this.#word = bus.subscribe('groups', (body) => {
      const domain = Buffer.from(body).toString('utf8')
      if (this.#known.has(domain) || this.#reading.has(domain)) void this.#try(domain)
    })
    try {
      await this.#readAll(domains)
    } catch (error) {
      this.close()
      throw error
    }
    this.#check.start(this.#checkMs)
  }

  get #checkMs(): number {
    return this.#parts.bus.lossless ? Number.POSITIVE_INFINITY : CHECK_MS
  }

  close(): void {
    this.#word?.close()
    this.#check.stop()
  }

  onChange(listener: OnGroups): void {
    this.#listeners.push(listener)
  }

  /** Undefined where they have not been read. */
  known(domain: string): DomainGroups | undefined {
    return this.#known.get(domain)
  }

  /** Calls `use` with the groups of a domain: at once where they are known, else after they have been read. */
  read<R>(domain: string, use: (groups: DomainGroups) => R): MaybePromise<R> {
    const known = this.#known.get(domain)
    return known === undefined ? this.refresh(domain).then(use) : use(known)
  }

  /** The groups as they are in the table when this is called, or later. */
  refresh(domain: string): Promise<DomainGroups> {
    const reading = this.#reading.get(domain)
    if (reading === undefined) return this.#begin(domain)
    const next = this.#next.get(domain)
    if (next !== undefined) return next
    const behind = reading
      .catch(() => {})
      .then(() => {
        this.#next.delete(domain)
        return this.#begin(domain)
      })
    this.#next.set(domain, behind)
    return behind
  }

  /** The groups of a domain have been changed by this process. Resolves when it goes by them; the others are told. */
  async changed(domain: string): Promise<void> {
    this.#parts.bus.publish('groups', Buffer.from(domain, 'utf8'))
    await this.refresh(domain)
  }

  #begin(domain: string): Promise<DomainGroups> {
    const reading = this.#read(domain).finally(() => this.#reading.delete(domain))
    this.#reading.set(domain, reading)
    return reading
  }

  async #read(domain: string, root?: Root): Promise<DomainGroups> {
    for (let tries = 0; tries < TRIES_MAX; tries++) {
      const current: Root = (tries === 0 && root) || (await this.rows.root(domain))
      const before = this.#known.get(domain)
      if (before?.version === current.version) return before
      const groups = await this.rows.read(current, before?.groups ?? new Map())
      if (groups !== undefined) return this.#take(new DomainGroups(domain, current.version, groups))
    }
    throw new Error(`the groups of ${domain} could not be read: they change all the time, or rows of them are missing`)
  }

  #take(after: DomainGroups): DomainGroups {
    const before = this.#known.get(after.domain)
    this.#known.set(after.domain, after)
    if (before !== undefined) for (const listener of this.#listeners) listener(before, after)
    return after
  }

  /** All that have groups by one query; the others have none. */
  async #readAll(domains: readonly string[]): Promise<void> {
    const roots = new Map<string, Root>()
    for await (const root of this.rows.roots()) roots.set(root.domain, root)
    for (const domain of domains) {
      const root = roots.get(domain) ?? { domain, version: '', groups: new Map() }
      if (this.#known.get(domain)?.version === root.version) continue
      if (this.#reading.has(domain)) await this.refresh(domain)
      else await this.#beginAt(domain, root)
    }
  }

  #beginAt(domain: string, root: Root): Promise<DomainGroups> {
    const reading = this.#read(domain, root).finally(() => this.#reading.delete(domain))
    this.#reading.set(domain, reading)
    return reading
  }

  async #try(domain: string): Promise<void> {
    try {
      await this.refresh(domain)
    } catch (error) {
      this.#parts.log.warn('groups.not_read', { domain, error })
      this.#parts.clock.setTimeout(() => this.#check.poke(), RETRY_MS)
    }
  }

  async #look(): Promise<number> {
    try {
      await this.#readAll([...this.#known.keys()])
      return this.#checkMs
    } catch (error) {
      this.#parts.log.warn('groups.not_read', { error })
      return RETRY_MS
    }
  }
}

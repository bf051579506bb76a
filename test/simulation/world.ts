// A simulated cluster: its processes, the clients at its edges, what they stand on, and who watches.
import { decodeItem } from '#core/commits/log-item.ts'
import { OWNERS, readOwnersRow } from '#core/ownership/owners-row.ts'
import { partitionOf, type RoleName } from '#core/ownership/ownership.ts'
import { ACCOUNT_RECORD } from '#core/storage/store.ts'
import { newItem, type RosterItem } from '#presence/roster/roster-item.ts'
import type { Row } from '#table/table.ts'
import { Checker, Violation } from './checker.ts'
import { Client } from './client.ts'
import { crashDoomed } from './faults.ts'
import { BLINKING, blinkOf, COUNT, JOURNAL } from './journal.ts'
import type { Mutation } from './mutations.ts'
import { type Making, SimProcess } from './process.ts'
import { type Pace, Scheduler } from './scheduler.ts'
import { Network } from './sim-bus.ts'
import { rowsOf, SimTable } from './sim-table.ts'

const ROLES: readonly RoleName[] = ['router', 'presence']
/** How often clients that have lost their connection come back, and how soon after that at most. */
const RECONNECT_MS = 400
/** One in so many that could come back to its session goes to any edge. */
const STRAYS_ONE_IN = 6

/** Events between two looks at who owns what. */
const OWNERS_EVERY = 4

export interface Counts {
  recovered: number
  taken: number
  released: number
  fenced: number
}

export class World {
  readonly scheduler: Scheduler
  readonly network: Network
  readonly table: SimTable
  readonly checker: Checker
  readonly mutation: Mutation
  /** Bare JIDs. */
  readonly accounts: readonly string[]
  /** By account: those that it sees, and that see it. */
  readonly contacts: ReadonlyMap<string, readonly string[]>
  readonly clients: readonly Client[]
  /** Those that do not come back. */
  readonly away = new Set<Client>()
  readonly processes: SimProcess[] = []
  readonly counts: Counts = { recovered: 0, taken: 0, released: 0, fenced: 0 }
  /** Each kind of fault, and how often it was injected. */
  readonly faults = new Map<string, number>()
  /** Processes that crash when they next write into their log, with that on its way. */
  readonly doomed = new Set<string>()
  readonly tracing: boolean
  readonly lines: string[] = []
  readonly random = (): number => this.scheduler.random.int(1_000) / 1_000
  #ids = 0
  #wrong: Error | undefined
  /** By role, the epoch of the row that was written last. */
  readonly #epochs = new Map<string, number>()
  /** Of the accounts. */
  readonly #partitions: readonly number[]

  constructor(seed: number, mutation: Mutation, tracing: boolean) {
    this.mutation = mutation
    this.tracing = tracing
    this.scheduler = new Scheduler(seed)
    this.network = new Network(this.scheduler)
    this.table = new SimTable(this.scheduler)
    this.checker = new Checker(() => this.scheduler.nowMs)
    const { random } = this.scheduler
    this.accounts = Array.from({ length: 3 + random.int(5) }, (_, i) => `user${i}@example.org`)
    this.#partitions = this.accounts.map(partitionOf)
    this.contacts = this.#friends()
    this.clients = this.accounts.flatMap((account, i) =>
      Array.from({ length: random.chance(4) ? 2 : 1 }, (_, k) => new Client(`s${i}${'ab'[k]}`, `${account}/r${k}`, this)),
    )
    this.#watch()
  }

  #friends(): Map<string, string[]> {
    const friends = new Map<string, string[]>(this.accounts.map((account) => [account, []]))
    for (const [i, one] of this.accounts.entries())
      for (const other of this.accounts.slice(i + 1)) {
        if (!this.scheduler.random.chance(2)) continue
        friends.get(one)!.push(other)
        friends.get(other)!.push(one)
      }
    return friends
  }

  #watch(): void {
    const { table, network, scheduler } = this
    table.watch = (row) => this.guard(() => this.#written(row))
    table.watchLogged = (row) => this.guard(() => this.#stored(row))
    table.watchAsked = (asker, { pk, value }) => {
      if (pk.startsWith(`l#${asker}#`) && decodeItem(value) !== 'seal') this.#flushes(asker)
    }
    network.watch = (publisher, subject) => {
      const kind = subject.slice(0, subject.indexOf('.'))
      if (kind === 'ack' || kind === 'edge' || kind === 'lane') this.#demandSure(publisher, `publishes on ${kind}`)
    }
    scheduler.watch = () => this.guard(() => this.#checkOwners())
  }

  newId = (): string => `i${++this.#ids}`

  /** The rows without which an account does not exist, and those of its contacts. */
  async open(): Promise<void> {
    const { inner } = this.table
    for (const [account, contacts] of this.contacts) {
      const put = (sk: string, value: unknown) =>
        inner.put({ pk: `a#${account}`, sk, version: 'v', value: Buffer.from(JSON.stringify(value)) })
      await put(ACCOUNT_RECORD, { credentials: {}, createdAt: 0 })
      for (const jid of contacts)
        await put(`roster#${jid}`, { ...newItem(jid), subscription: 'both', inRoster: true } satisfies RosterItem)
    }
    this.#comeBack()
  }

  readonly trace = (who: string, what: string): void => {
    if (this.tracing) this.lines.push(`${this.scheduler.nowMs.toFixed(0).padStart(7)} ${who.padEnd(4)} ${what}`)
  }

  noteFault(kind: string, who: string): void {
    this.faults.set(kind, (this.faults.get(kind) ?? 0) + 1)
    this.trace('----', `${kind} ${who}`)
  }

  /** Something is wrong, found where nobody would see an Error that is thrown. */
  broke(what: string): void {
    this.#wrong ??= new Violation(what)
  }

  guard(check: () => void): void {
    try {
      check()
    } catch (error) {
      this.#wrong ??= error as Error
    }
  }

  get isWrong(): boolean {
    return this.#wrong !== undefined
  }

  /** Throws what was found. */
  demandRight(): void {
    if (this.#wrong !== undefined) throw this.#wrong
  }

  async pass(ms: number): Promise<void> {
    const endMs = this.scheduler.nowMs + ms
    await this.scheduler.until(() => this.isWrong, endMs)
    this.demandRight()
    this.scheduler.nowMs = endMs
  }

  // Who is there ----------------------------------------------------------------------------------------------------

  get alive(): readonly SimProcess[] {
    return this.processes.filter(({ dead }) => !dead)
  }

  get owners(): readonly SimProcess[] {
    return this.alive.filter(({ own }) => own.length > 0)
  }

  /** Those that will take clients, when they have started. */
  get edges(): readonly SimProcess[] {
    return this.alive.filter(({ isEdge, leaving }) => isEdge && !leaving)
  }

  get openEdges(): readonly SimProcess[] {
    return this.edges.filter(({ edge }) => edge !== undefined)
  }

  add(own: readonly RoleName[], edge: boolean, pace: Pace): SimProcess {
    const making: Making = { id: `${edge ? 'e' : 'p'}${this.processes.length}`, own, edge, pace }
    this.trace(making.id, `starts as ${[...own, ...(edge ? ['edge'] : [])].join(' ')}`)
    const process = new SimProcess(this, making)
    this.processes.push(process)
    return process
  }

  /** Those without a connection come back, for ever. */
  #comeBack(): void {
    for (const client of this.clients) this.#bringBack(client)
    this.scheduler.after(RECONNECT_MS / 2 + this.scheduler.random.int(RECONNECT_MS), () => this.#comeBack())
  }

  #bringBack(client: Client): void {
    const { random } = this.scheduler
    if (client.host?.dead) client.hostDied()
    const { openEdges } = this
    if (client.isConnected || this.away.has(client) || openEdges.length === 0) return
    const before = openEdges.find((process) => process === client.host)
    const host = before === undefined || random.chance(STRAYS_ONE_IN) ? random.pick(openEdges) : before
    this.trace(client.name, `connects to ${host.id}`)
    client.connect(host)
  }

  // What they do ----------------------------------------------------------------------------------------------------

  say(): void {
    const { random } = this.scheduler
    const client = random.pick(this.clients)
    const peers = this.accounts.filter((account) => account !== client.account)
    for (let left = 1 + random.int(4); left > 0; left--) client.say(random.pick(peers))
  }

  /** Somebody wants to know what his account has behind what he knows. */
  read(): void {
    const client = this.scheduler.random.pick(this.clients)
    const { account } = client
    if (!this.clients.some((other) => other.account === account && other.isReading)) client.read(this.checker.readUpTo(account))
  }

  // What is watched -------------------------------------------------------------------------------------------------

  #written(row: Row): void {
    this.#stored(row)
    if (row.sk === COUNT) this.checker.counted(row.pk.slice(2), JSON.parse(Buffer.from(row.value).toString()) as number)
    if (row.pk !== OWNERS) return
    const { epoch } = readOwnersRow(row)
    if (epoch !== (this.#epochs.get(row.sk) ?? 0) + 1)
      this.broke(`the epoch of ${row.sk} is ${epoch} after ${this.#epochs.get(row.sk)}`)
    this.#epochs.set(row.sk, epoch)
  }

  #stored({ pk, sk, value }: Row): void {
    const prefix = `j#${JOURNAL}#`
    if (pk.startsWith(prefix)) this.checker.stored(pk.slice(prefix.length), { id: sk, message: Buffer.from(value).toString() })
  }

  #processOf(id: string): SimProcess | undefined {
    return this.processes.find((process) => process.id === id)
  }

  #flushes(id: string): void {
    this.#demandSure(id, 'writes into its log')
    if (this.doomed.delete(id)) crashDoomed(this, this.#processOf(id)!)
  }

  /** Whoever may have lost what it owns holds still. */
  #demandSure(id: string, does: string): void {
    if (this.#processOf(id)?.membership.sure() === false) this.broke(`${id} ${does}, and is not sure of itself`)
  }

  /** At most one process that is sure of itself has it. */
  #checkOwners(): void {
    if (this.scheduler.count % OWNERS_EVERY !== 0) return
    const sure = this.owners.filter(({ ownership }) => ownership.sure())
    if (sure.length < 2) return
    for (const [i, partition] of this.#partitions.entries())
      for (const role of ROLES) {
        let found: SimProcess | undefined
        for (const process of sure) {
          if (!process.ownership.ownsPartition(role, partition)) continue
          if (found !== undefined) throw new Violation(`${found.id} and ${process.id} both own ${this.accounts[i]}, and are sure`)
          found = process
        }
      }
  }

  async checkRows(): Promise<void> {
    const { inner } = this.table
    for (const account of this.accounts) {
      const entries = await rowsOf(inner, `j#${JOURNAL}#${account}`)
      const records = await rowsOf(inner, `a#${account}`)
      const [count, blinking] = [numberIn(records, COUNT), numberIn(records, BLINKING)]
      const read = entries.map(({ sk, value }) => ({ id: sk, message: Buffer.from(value).toString() }))
      this.checker.finish(account, read, count)
      if (blinking !== blinkOf(count)) throw new Violation(`${account} blinks ${blinking}, and counts ${count}`)
    }
  }
}

/** Of a record that is no row while it is 0. */
function numberIn(rows: readonly Row[], name: string): number {
  const row = rows.find(({ sk }) => sk === name)
  return row === undefined ? 0 : (JSON.parse(Buffer.from(row.value).toString()) as number)
}

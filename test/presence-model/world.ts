// A simulated cluster (test/simulation) of which only presence is looked at: people who see each other, and what happens to them.

import { decodeFlush, decodeItem } from '#core/commits/log-item.ts'
import type { AnyModule } from '#core/module.ts'
import type { RoleName } from '#core/ownership/ownership.ts'
import { ACCOUNT_RECORD } from '#core/storage/store.ts'
import blocking from '#modules/blocking.ts'
import { newItem, type RosterItem } from '#presence/roster/roster-item.ts'
import type { Row } from '#table/table.ts'
import { type Mutation, NONE } from '#test/simulation/mutations.ts'
import { SimProcess, type Site, setupOf } from '#test/simulation/process.ts'
import { Scheduler } from '#test/simulation/scheduler.ts'
import { Network } from '#test/simulation/sim-bus.ts'
import { SimTable } from '#test/simulation/sim-table.ts'
import { Model, Violation } from './model.ts'
import { Person, type SubscriptionWord, type Surroundings } from './person.ts'

const SETUP = setupOf(blocking as AnyModule)
/** How often people who have lost their connection come back. */
const RECONNECT_MS = 300
/** Until all that was said is acked and everybody is back, after whatever happened. */
const BACK_MS_MAX = 90_000
/** For what goes on behind acks, where nothing has failed and where something has (the aim after a fault: 12 s). */
const SETTLING_MS = 3_000
const RECOVERY_MS = 20_000

export class World implements Site, Surroundings {
  readonly scheduler: Scheduler
  readonly network: Network
  readonly table: SimTable
  readonly mutation: Mutation = NONE
  readonly setup = SETUP
  readonly counts = { recovered: 0, taken: 0, released: 0, fenced: 0 }
  readonly tracing: boolean
  readonly model: Model
  readonly accounts: readonly string[]
  readonly people: readonly Person[]
  readonly away = new Set<Person>()
  readonly processes: SimProcess[] = []
  readonly lines: string[] = []
  /** What was done, and what happened, by name. */
  readonly tally = new Map<string, number>()
  readonly random = (): number => this.scheduler.random.int(1_000) / 1_000
  #ids = 0
  #wrong: Error | undefined

  constructor(seed: number, tracing: boolean) {
    this.tracing = tracing
    this.scheduler = new Scheduler(seed)
    this.network = new Network(this.scheduler)
    this.table = new SimTable(this.scheduler)
    this.model = new Model(() => this.scheduler.nowMs)
    const { random } = this.scheduler
    this.accounts = Array.from({ length: 3 + random.int(4) }, (_, i) => `u${i}@example.org`)
    this.people = this.accounts.flatMap((account) =>
      Array.from({ length: random.chance(3) ? 2 : 1 }, (_, k) => new Person(`${account}/${'ab'[k]}`, this)),
    )
    this.#watchLogs()
  }

  newId = (): string => `i${++this.#ids}`

  readonly trace = (who: string, what: string): void => {
    if (this.tracing) this.lines.push(`${this.scheduler.nowMs.toFixed(0).padStart(7)} ${who.padEnd(5)} ${what}`)
  }

  count(what: string): void {
    this.tally.set(what, (this.tally.get(what) ?? 0) + 1)
  }

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

  /** What is in a log is durable, in the order of the log; rows follow behind. */
  #watchLogs(): void {
    const { inner } = this.table
    const put = inner.put.bind(inner)
    inner.put = async (row, condition) => {
      await put(row, condition)
      if (row.pk.startsWith('l#')) this.guard(() => this.#logged(row))
    }
  }

  #logged({ value }: Row): void {
    const item = decodeItem(value)
    if (item === 'seal') return
    for (const write of decodeFlush([item.bytes])) {
      const { pk, sk } = 'put' in write ? write.put : write.delete
      if (sk.startsWith('roster#') || sk === 'blocking')
        this.trace('----', `durable: ${pk} ${sk} ${'put' in write ? Buffer.from(write.put.value) : 'deleted'}`)
      if ('put' in write) this.model.written(write.put)
      else this.model.deleted(write.delete)
    }
  }

  /** Accounts, some of whom see each other. */
  async open(): Promise<void> {
    const { inner, scheduler } = { inner: this.table.inner, scheduler: this.scheduler }
    const put = async (account: string, sk: string, value: unknown): Promise<void> => {
      const row = { pk: `a#${account}`, sk, version: 'v', value: Buffer.from(JSON.stringify(value)) }
      await inner.put(row)
      this.model.written(row)
    }
    for (const account of this.accounts) await put(account, ACCOUNT_RECORD, { credentials: {}, createdAt: 0 })
    for (const [i, one] of this.accounts.entries())
      for (const other of this.accounts.slice(i + 1)) {
        const [mine, theirs] = scheduler.random.pick([
          ['both', 'both'],
          ['both', 'both'],
          ['to', 'from'],
          ['from', 'to'],
          ['none', 'none'],
        ] as const)
        if (mine === 'none') continue
        await put(one, `roster#${other}`, { ...newItem(other), subscription: mine, inRoster: true } satisfies RosterItem)
        await put(other, `roster#${one}`, { ...newItem(one), subscription: theirs, inRoster: true } satisfies RosterItem)
      }
    this.add(['router', 'presence'], scheduler.random.chance(4))
    for (let left = scheduler.random.int(3); left > 0; left--) this.add(scheduler.random.pick(OWNERS), false)
    for (let left = 1 + scheduler.random.int(2); left > 0; left--) this.add([], true)
    this.#comeBack()
  }

  get alive(): readonly SimProcess[] {
    return this.processes.filter(({ dead }) => !dead)
  }

  add(own: readonly RoleName[], edge: boolean): void {
    const id = `${edge ? 'e' : 'p'}${this.processes.length}`
    this.trace(id, `starts as ${[...own, ...(edge ? ['edge'] : [])].join(' ')}`)
    this.processes.push(new SimProcess(this, { id, own, edge, pace: { skewMs: 0, rate: 1 } }))
  }

  #comeBack(): void {
    const { random } = this.scheduler
    const open = this.alive.filter(({ edge, leaving }) => edge !== undefined && !leaving)
    for (const person of this.people) {
      if (person.host?.dead) person.hostDied()
      if (person.isConnected || this.away.has(person) || open.length === 0) continue
      const before = open.find((process) => process === person.host)
      person.connect(before === undefined || random.chance(6) ? random.pick(open) : before)
    }
    this.scheduler.after(RECONNECT_MS / 2 + random.int(RECONNECT_MS), () => this.#comeBack())
  }

  async pass(ms: number): Promise<void> {
    const endMs = this.scheduler.nowMs + ms
    await this.scheduler.until(() => this.#wrong !== undefined, endMs)
    if (this.#wrong !== undefined) throw this.#wrong
    this.scheduler.nowMs = endMs
  }

  // What people do --------------------------------------------------------------------------------------------------------

  /** Somebody does something. */
  act(): void {
    const { random } = this.scheduler
    const [, name, act] = random.pick(WEIGHED)
    const person = random.pick(this.people)
    this.count(name)
    act(this, person, random.pick(this.accounts.filter((account) => account !== person.account)))
  }

  /** Something happens to the servers. */
  strike(): void {
    const { random } = this.scheduler
    const [, name, strike] = random.pick(STRIKES)
    const fit = this.alive.filter(
      (process) => !process.leaving && (name.includes('edge') ? process.isEdge : process.own.length > 0),
    )
    const one = random.pick(fit)
    if (one === undefined) return
    this.count(name)
    this.trace('----', `${name} ${one.id}`)
    strike(this, one)
  }

  /** All that was said is acked, everybody is there, and what follows from it is over. */
  async settle(hasFailed: boolean): Promise<void> {
    const { scheduler, network } = this
    network.weather = { dropOneIn: 0, twiceOneIn: 0, delayMsMax: 5 }
    const isQuiet = (): boolean =>
      !this.alive.some(({ leaving }) => leaving) && this.people.every((one) => this.away.has(one) || (one.isBack && one.isAcked))
    const endMs = scheduler.nowMs + BACK_MS_MAX
    do {
      await scheduler.until(() => this.#wrong !== undefined || isQuiet(), endMs)
      await this.pass(hasFailed ? RECOVERY_MS : SETTLING_MS)
    } while (!isQuiet() && scheduler.nowMs < endMs) // a process that goes on may find that it is given up
    if (isQuiet()) return
    const late = this.people.filter((one) => !this.away.has(one) && !(one.isBack && one.isAcked))
    throw new Violation(`not back, or not acked, after ${BACK_MS_MAX / 1_000} s: ${late.map(({ full }) => full).join()}`)
  }

  /** Clients that were inactive are not any more: what has waited for them they have seen then (XEP-0352). */
  async compare(): Promise<void> {
    for (const person of this.people) person.indicate('active')
    await this.pass(SETTLING_MS)
    this.model.compare(this.people)
  }
}

// ---------------------------------------------------------------------------------------------------------------------------

type Act = (world: World, person: Person, other: string) => void
const word =
  (type: SubscriptionWord): Act =>
  (_world, person, other) =>
    person.subscription(other, type)

const ACTS: readonly (readonly [weight: number, name: string, act: Act])[] = [
  [10, 'show', (_world, person) => person.show()],
  [5, 'show again', (_world, person) => person.show(true)],
  [2, 'hide', (_world, person) => person.hide()],
  [2, 'direct', (_world, person, other) => person.direct(other)],
  [3, 'block', (_world, person, other) => person.block(other, true)],
  [3, 'unblock', (_world, person, other) => person.block(other, false)],
  [3, 'remove', (_world, person, other) => person.remove(other)],
  [3, 'subscribe', word('subscribe')],
  [4, 'subscribed', word('subscribed')],
  [2, 'unsubscribe', word('unsubscribe')],
  [2, 'unsubscribed', word('unsubscribed')],
  [2, 'befriend', befriend],
  [4, 'be inactive', (_world, person) => person.indicate('inactive')],
  [2, 'be active', (_world, person) => person.indicate('active')],
  [2, 'lose', (_world, person) => person.disconnect()],
  [1, 'leave', (_world, person) => person.leave()],
  [1, 'go or come', goOrCome],
]
const WEIGHED = ACTS.flatMap((act) => Array<(typeof ACTS)[number]>(act[0]).fill(act))

/** Each asks, and each agrees. */
function befriend({ people, scheduler }: World, person: Person, other: string): void {
  const peer = people.find(({ account }) => account === other)!
  person.subscription(other, 'subscribe')
  peer.subscription(person.account, 'subscribe')
  scheduler.after(500, () => {
    person.subscription(other, 'subscribed')
    peer.subscription(person.account, 'subscribed')
  })
}

/** For a while. */
function goOrCome({ away, people }: World, person: Person): void {
  if (away.delete(person) || away.size > people.length / 3 || !person.isBack) return
  away.add(person)
  person.leave()
}

const OWNERS: readonly (readonly RoleName[])[] = [['router', 'presence'], ['presence'], ['presence'], ['router']]

type Strike = (world: World, one: SimProcess) => void
const WEIGHED_STRIKES: readonly (readonly [weight: number, name: string, strike: Strike])[] = [
  [3, 'owner dies', replace],
  [2, 'owner leaves', leave],
  [2, 'owner stops', stop],
  [2, 'edge dies', replace],
  [1, 'edge stops', stop],
  [2, 'edge leaves', leave],
  [3, 'owner is new', (world) => world.add(['presence'], false)],
  [3, 'bodies are lost by owner', lose],
]
const STRIKES = WEIGHED_STRIKES.flatMap((strike) => Array<(typeof WEIGHED_STRIKES)[number]>(strike[0]).fill(strike))

function replace(world: World, one: SimProcess): void {
  one.kill()
  world.add(one.own, one.isEdge)
}

function leave(world: World, one: SimProcess): void {
  world.add(one.own, one.isEdge)
  one.leave()
}

function stop({ scheduler }: World, one: SimProcess): void {
  one.stop()
  scheduler.after(scheduler.random.int(scheduler.random.pick([1_000, 9_000])), () => one.goOn())
}

function lose({ network, scheduler: { random } }: World): void {
  network.weather = { dropOneIn: random.pick([5, 20]), twiceOneIn: random.pick([0, 10]), delayMsMax: random.pick([5, 300]) }
}

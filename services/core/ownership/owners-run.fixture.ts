// A model of what owners in turn write, and a seeded world in which anything happens to them and to what they ask of the table.
import { expect } from 'vitest'
import type { Row, Table } from '#table/table.ts'
import { Random } from '#test/fuzz/random.ts'
import { type CommitLog, keyOf, type Write } from '../commits/commit.ts'
import { type Ask, Recoverer, rowsOf, TestOwner, World } from '../commits/owner-log.fixture.ts'

const ACCOUNTS = ['romeo@a', 'juliet@b']
const KEYS = ['one', 'two', 'three']

interface Flush {
  readonly name: string
  readonly writes: readonly Write[]
  released: boolean
}

const nameOf = ({ pk, sk }: { readonly pk: string; readonly sk: string }) => `${pk} ${sk}`

/** One run. It ends as if all flushes that were durable had been written one after the other, and no others. */
export class OwnersRun {
  readonly world: World
  readonly #random: () => number
  /** In the order of owners, then of flushes. */
  readonly lives: Flush[][] = []
  #owners = 0
  /** The present or last one of each owner. */
  readonly #lifeOf = new Map<CommitLog, Flush[]>()
  /** Of the present owner's log, which is broken. */
  recoverers: Recoverer[] = []
  owner!: TestOwner
  /** Of the present owner's process: what its lease says. */
  #mark = 0
  readonly #broken = new Set<TestOwner>()
  #epoch = 0
  #count = 0
  /** What the present owner goes by: as if all it has staged were in the table. */
  #view = new Map<string, string>()
  /** When each row was staged last. */
  readonly #stagedAt = new Map<string, number>()
  #fault: unknown
  readonly #reads: boolean

  /** @param reads whether owners read what they have written: of a table that answers at once */
  constructor(seed: number, world = new World(), reads = true) {
    const random = new Random(seed, 0)
    this.#random = () => random.next() / 2 ** 32
    this.world = world
    this.#reads = reads
    this.#install(this.#newOwner())
  }

  /** The lease of the present owner is broken. */
  get isBroken(): boolean {
    return this.#broken.has(this.owner)
  }

  chance(share: number): boolean {
    return this.#random() < share
  }

  pick<T>(list: readonly T[]): T {
    return list[Math.floor(this.#random() * list.length)]!
  }

  #newOwner(): TestOwner {
    const owner = new TestOwner(this.world, `p${this.#owners}`, (log) => this.#recorded(log))
    owner.onFenced = () => {
      if (!this.#broken.has(owner)) this.#fault ??= new Error(`${owner.name} was fenced, and nobody had broken its lease`)
    }
    this.#owners++
    return owner
  }

  /** Each flush is given a row of its own, which tells in the end whether it was durable. */
  #recorded(log: CommitLog): CommitLog {
    return {
      versionBytes: log.versionBytes,
      version: () => log.version(),
      write: async (writes, applied) => {
        const life = this.#lifeOf.get(log)!
        const flush = { name: `${this.lives.indexOf(life)} ${life.length}`, writes, released: false }
        life.push(flush)
        const witness: Row = { pk: 'w#', sk: flush.name, version: 'w', value: new Uint8Array(0) }
        await log.write([...writes, { put: witness, order: 'free' }], applied)
        flush.released = true
      },
    }
  }

  #install(owner: TestOwner): void {
    this.#epoch++
    owner.epoch = this.#epoch
    owner.sure = true
    this.owner = owner
    this.#mark = owner.owner.applied
    this.#broken.delete(owner)
    const life: Flush[] = []
    this.lives.push(life)
    this.#lifeOf.set(owner.owner, life)
  }

  // What happens --------------------------------------------------------------------------------------------------------

  stage(): void {
    const { commit } = this.owner
    const account = this.pick(ACCOUNTS)
    for (let more = 1 + Math.floor(this.#random() * 3); more > 0; more--) {
      const write = this.#anyWrite(account)
      commit.stage(account, write)
      this.#stagedAt.set(nameOf(keyOf(write)), ++this.#count)
      applyTo(this.#view, write)
    }
    const seen = this.#count
    const read = this.#reads && this.chance(0.3) ? commit.applied(account) : undefined
    const dropped = () => {}
    read?.then(() => this.#compareView(account, seen), dropped).catch((error) => (this.#fault ??= error))
  }

  #anyWrite(account: string): Write {
    const value = Buffer.from(`${++this.#count}`)
    const version = `c${this.#count}`
    const [record, spool, archive] = [`a#${account}`, `j#offline#${account}`, `j#mam#${account}`]
    const chance = this.#random()
    if (chance < 0.4) return { put: { pk: record, sk: this.pick(KEYS), version, value } }
    if (chance < 0.6) return { delete: { pk: record, sk: this.pick(KEYS) } }
    if (chance < 0.75) return { put: { pk: spool, sk: this.pick(KEYS), version, value } }
    if (chance < 0.85) return { delete: { pk: spool, sk: this.pick(KEYS) } }
    if (chance < 0.97) return { put: { pk: archive, sk: `${this.#count}`, version, value }, order: 'free' }
    return { delete: { pk: archive, sk: `${Math.ceil(this.#random() * this.#count)}` }, order: 'free' }
  }

  async ask(): Promise<void> {
    const ask = this.pick(this.world.asks)
    if (ask === undefined) return
    const chance = this.#random()
    if (chance < 0.7) await settle(ask)
    else if (chance < 0.8) await ask.happen()
    else if (chance < 0.9) {
      await ask.happen()
      ask.lose()
    } else ask.lose()
    this.world.tidy()
  }

  /** The lease is broken, and its owner, should it live, is not sure: somebody recovers its log. */
  breakLease(): void {
    if (this.owner.sure && !this.owner.dead) return
    this.#broken.add(this.owner)
    this.recover()
    if (this.chance(0.4)) this.recover()
  }

  recover(): void {
    const name = `r${++this.#count}`
    this.recoverers.push(new Recoverer(this.world, name, this.owner.name, this.#mark))
  }

  /** Another owner goes on, or the same process in its next life. */
  async takeOver(): Promise<void> {
    if (!this.isBroken || !this.recoverers.some(({ done }) => done)) return
    for (const { failed } of this.recoverers) expect(failed).toBeUndefined()
    const again = !this.owner.dead && this.chance(0.4)
    if (again) this.owner.fence()
    await this.#begin(again ? this.owner : this.#newOwner())
  }

  /** The owner gives up what it has, and lives on. */
  async release(): Promise<void> {
    if (this.owner.dead || !this.owner.sure) return
    const { commit } = this.owner
    let drained = false
    void commit.drained().then(() => (drained = true))
    await this.world.until(() => drained)
    await this.#begin(this.#newOwner())
  }

  async #begin(owner: TestOwner): Promise<void> {
    this.#view = await this.check()
    this.#install(owner)
    this.recoverers = [] // those who are not done go on all the same
  }

  async step(): Promise<void> {
    const chance = this.#random()
    if (chance < 0.25 && !this.owner.dead) this.stage()
    else if (chance < 0.7) await this.ask()
    else if (chance < 0.8) await this.world.clock.settle(this.#random() * 3_000)
    else if (chance < 0.86 && !this.isBroken) this.#mark = this.owner.owner.applied
    else if (chance < 0.88) this.owner.dead = true
    else if (chance < 0.91) this.owner.sure = !this.owner.sure && !this.isBroken
    else if (chance < 0.94 && !this.isBroken) this.breakLease()
    else if (chance < 0.98) await this.takeOver()
    else if (chance < 0.985) await this.release()
    else if (this.isBroken && this.recoverers.length > 0) {
      this.pick(this.recoverers).dead = true
      if (this.recoverers.every(({ dead, done }) => dead && !done)) this.recover()
    }
    await this.world.turn()
  }

  /** Throws what a reader has found wrong. */
  demandRight(): void {
    if (this.#fault !== undefined) throw this.#fault
  }

  async finish(): Promise<void> {
    const { world } = this
    if (!this.isBroken && !this.owner.dead) this.owner.sure = true
    else {
      if (!this.isBroken) this.breakLease()
      this.recover()
      await world.until(() => this.recoverers.some(({ done }) => done))
      await this.takeOver()
    }
    this.stage()
    let drained = false
    void this.owner.commit.drained().then(() => (drained = true))
    await world.until(() => drained)
    // What anybody has ever asked, and nobody heard of any more, comes now.
    while (world.asks.length > 0) {
      const ask = this.pick(world.asks)
      await ask.happen()
      world.asks = world.asks.filter((other) => other !== ask)
    }
    expect(await this.check()).toEqual(this.#view)
  }

  // What must hold ------------------------------------------------------------------------------------------------------

  /** What the model says is what the table holds. */
  async check(): Promise<Map<string, string>> {
    const { inner } = this.world
    const witnessed = new Set((await rowsOf(inner, 'w#')).map(({ sk }) => sk))
    const model = new Map<string, string>()
    const uncertain = new Set<string>()
    for (const life of this.lives) {
      for (const [i, flush] of life.entries()) {
        if (flush.released) expect(witnessed, `flush ${flush.name} was released`).toContain(flush.name)
        if (!witnessed.has(flush.name)) {
          expect(life.slice(i).map(({ name }) => witnessed.has(name))).not.toContain(true)
          break
        }
        for (const write of flush.writes) {
          applyTo(model, write)
          if ('delete' in write && write.order === 'free') uncertain.add(nameOf(write.delete)) // it may come back
        }
      }
    }
    const stored = await contentsOf(inner)
    for (const name of uncertain) for (const map of [model, stored]) map.delete(name)
    expect(stored).toEqual(model)
    for (const name of uncertain) this.#view.delete(name)
    return model
  }

  /** An owner reads what it has written, once it is told that it is there. */
  async #compareView(account: string, seen: number): Promise<void> {
    const stored = await contentsOf(this.world.inner, [account])
    for (const [name, value] of this.#view) {
      if (!name.startsWith(`a#${account} `) && !name.startsWith(`j#offline#${account} `)) continue
      if ((this.#stagedAt.get(name) ?? 0) <= seen) expect(stored.get(name), `${name} was read`).toBe(value)
    }
    for (const name of stored.keys()) {
      const mayBeGone = name.startsWith('j#mam#') || (this.#stagedAt.get(name) ?? 0) > seen
      if (!mayBeGone) expect(this.#view.has(name), `${name} was read`).toBe(true)
    }
  }
}

async function settle(ask: Ask): Promise<void> {
  await ask.happen()
  ask.answer()
}

function applyTo(model: Map<string, string>, write: Write): void {
  if ('put' in write) model.set(nameOf(write.put), Buffer.from(write.put.value).toString())
  else model.delete(nameOf(write.delete))
}

async function contentsOf(table: Table, accounts: readonly string[] = ACCOUNTS): Promise<Map<string, string>> {
  const contents = new Map<string, string>()
  for (const account of accounts) {
    for (const pk of [`a#${account}`, `j#offline#${account}`, `j#mam#${account}`])
      for (const row of await rowsOf(table, pk)) contents.set(nameOf(row), Buffer.from(row.value).toString())
  }
  return contents
}

/** Throws an Error that names the seed. */
export async function runOwners(seed: number, steps: number, world?: World, reads?: boolean): Promise<void> {
  const run = new OwnersRun(seed, world, reads)
  try {
    for (let step = 0; step < steps; step++) {
      await run.step()
      run.demandRight()
    }
    await run.finish()
    run.demandRight()
  } catch (cause) {
    throw new Error(`seed ${seed}: ${(cause as Error).message}`, { cause })
  }
}

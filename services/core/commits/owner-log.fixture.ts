// Owners and recoverers over one table, to which everything they ask is a message that a test lets happen, lets be answered,
// loses, or holds back for as long as it likes.
import { memoryTable } from '#table/memory.ts'
import { type Condition, type Key, type Range, type Row, type Table, TableUnavailable } from '#table/table.ts'
import { type ManualClock, manualClock } from '../clock.ts'
import { memoryLog } from '../observing/log.ts'
import { Commit, type CommitLog } from './commit.ts'
import { OwnerLog, recoverLog } from './owner-log.ts'

/** As small as to be met. */
const PAGE_ROWS = 3
/** Beyond any that a test needs: a retry that never ends is a fault. */
const TURNS_MAX = 20_000

/** What somebody has asked of the table. It may happen once, early or late, and be answered once, or not at all. */
export class Ask {
  readonly what: string
  readonly #perform: () => Promise<unknown>
  readonly #resolve: (value: never) => void
  readonly #reject: (error: unknown) => void
  #outcome: { readonly value: unknown } | { readonly error: unknown } | undefined
  answered = false

  constructor(what: string, perform: () => Promise<unknown>, resolve: (value: never) => void, reject: (error: unknown) => void) {
    this.what = what
    this.#perform = perform
    this.#resolve = resolve
    this.#reject = reject
  }

  get happened(): boolean {
    return this.#outcome !== undefined
  }

  async happen(): Promise<void> {
    this.#outcome ??= await this.#perform().then(
      (value) => ({ value }),
      (error: unknown) => ({ error }),
    )
  }

  /** Of what has happened. */
  answer(): void {
    this.answered = true
    const outcome = this.#outcome!
    if ('error' in outcome) this.#reject(outcome.error)
    else this.#resolve(outcome.value as never)
  }

  /** Whoever asked is told that nobody knows. It may still happen. */
  lose(): void {
    this.answered = true
    this.#reject(new TableUnavailable('no answer'))
  }
}

/** Who asks. What is dead asks nothing more and is told nothing, but what it has asked may still happen. */
export interface Peer {
  readonly name: string
  dead: boolean
}

export class World {
  readonly clock: ManualClock
  readonly inner: Table
  /** What has not happened or has not been answered, oldest first. */
  asks: Ask[] = []
  /** How often each was asked. */
  readonly counts: Record<string, number> = {}

  constructor(inner?: Table, clock = manualClock()) {
    this.clock = clock
    this.inner = inner ?? memoryTable({ now: () => this.clock.now() })
  }

  tableOf(peer: Peer): Table {
    const ask = <T>(what: string, perform: () => Promise<T>): Promise<T> =>
      new Promise((resolve, reject) => {
        if (peer.dead) return
        this.counts[what] = (this.counts[what] ?? 0) + 1
        const told =
          <A>(tell: (answer: A) => void) =>
          (answer: A) =>
            peer.dead ? undefined : tell(answer)
        this.asks.push(new Ask(`${peer.name} ${what}`, perform, told(resolve) as (value: never) => void, told(reject)))
      })
    const { inner } = this
    return {
      get: (key: Key) => ask('get', () => inner.get(key)),
      put: (row: Row, condition?: Condition) => ask(row.pk.startsWith('l#') ? 'log' : 'put', () => inner.put(row, condition)),
      delete: (key: Key, condition?: Condition) => ask('delete', () => inner.delete(key, condition)),
      async *query(pk: string, { from = '', ...range }: Range = {}) {
        for (let start = from, beyond = false; ; beyond = true) {
          const page = await ask('query', () => rowsOf(inner, pk, { ...range, from: start, limit: PAGE_ROWS + 1 }))
          const rows = beyond ? page.filter(({ sk }) => sk !== start) : page
          yield* rows
          if (page.length <= PAGE_ROWS) return
          start = page.at(-1)!.sk
        }
      },
    }
  }

  /** Everything that can go on without the table or the clock has gone on. */
  turn(): Promise<void> {
    return new Promise((resolve) => setImmediate(resolve))
  }

  /** Lets the oldest that is not answered happen, and answers it. False where there is none. */
  async step(): Promise<boolean> {
    await this.turn()
    const ask = this.asks.find(({ answered }) => !answered)
    if (ask === undefined) return false
    await ask.happen()
    ask.answer()
    this.tidy()
    return true
  }

  tidy(): void {
    this.asks = this.asks.filter((ask) => !ask.happened || !ask.answered)
  }

  /** Everything is answered, and the clock moves on, until it is so. */
  async until(done: () => boolean): Promise<void> {
    for (let turns = 0; !done(); turns++) {
      if (turns > TURNS_MAX) throw new Error('it never comes to an end')
      if (!(await this.step())) await this.clock.settle(1_000)
    }
  }
}

/** An owner of all there is, in one life after another. */
export class TestOwner implements Peer {
  readonly name: string
  readonly log = memoryLog()
  readonly table: Table
  readonly owner: OwnerLog
  readonly commit: Commit
  dead = false
  sure = true
  epoch = 1
  fenced = 0
  /** Told when it finds its log sealed. */
  onFenced = (): void => {}

  /** @param through what its flushes pass on their way to its log */
  constructor(world: World, name = 'p1', through: (log: CommitLog) => CommitLog = (log) => log) {
    this.name = name
    this.table = world.tableOf(this)
    this.owner = new OwnerLog({
      table: this.table,
      process: name,
      role: 'router',
      clock: world.clock,
      log: this.log,
      epoch: () => this.epoch,
      sure: () => this.sure,
      onFenced: () => {
        this.fenced++
        this.sure = false
        this.commit.drop()
        this.onFenced()
      },
      random: () => 0,
    })
    this.commit = new Commit(through(this.owner), this.log)
  }

  /** What membership does when it finds its lease broken. */
  fence(): void {
    this.owner.abandon()
    this.commit.drop()
    this.sure = false
  }
}

/** Somebody who recovers a log, again until it is done. */
export class Recoverer implements Peer {
  readonly name: string
  readonly log = memoryLog()
  dead = false
  done = false
  failed: unknown

  constructor(world: World, name: string, process: string, appliedBehind: number) {
    this.name = name
    const recovery = { table: world.tableOf(this), process, role: 'router' as const, appliedBehind, log: this.log }
    const recover = async (): Promise<void> => {
      for (;;) {
        try {
          await recoverLog(recovery)
          this.done = true
          return
        } catch (error) {
          if (!(error instanceof TableUnavailable)) throw error
        }
      }
    }
    void recover().catch((error) => {
      this.failed = error
      this.done = true
    })
  }
}

export async function rowsOf(table: Table, pk: string, range?: Range): Promise<Row[]> {
  const rows: Row[] = []
  for await (const row of table.query(pk, range)) rows.push(row)
  return rows
}

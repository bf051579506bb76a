// A table that is far away, and fails in every way in which one may.
//
// How a request may fare: core/far-request.fixture.ts. A query is one request for each of its pages, which are small.

import { decodeFlush, decodeItem } from '#core/commits/log-item.ts'
import { farRequest, type RequestFault } from '#core/far-request.fixture.ts'
import { memoryTable } from '#table/memory.ts'
import type { Condition, Key, Range, Row, Table } from '#table/table.ts'
import type { Gate, Scheduler } from './scheduler.ts'

export interface TableWeather {
  /** One request in so many fails; 0: none does. */
  faultOneIn: number
  /** On the way there, and on the way back. */
  delayMsMax: number
  /** Until what failed happens all the same. */
  lateMsMax: number
  /** More, on the way of what is written of accounts: logs are fast meanwhile. */
  hotMsMax: number
}

const PAGE_ROWS = 8
const LATE_MS_MAX = 20_000
const FAULTS: readonly RequestFault[] = ['before', 'after', 'late']

export interface Asker {
  readonly id: string
  readonly dead: boolean
  readonly gate: Gate
}

export class SimTable {
  readonly inner: Table
  weather: TableWeather = { faultOneIn: 0, delayMsMax: 2, lateMsMax: 0, hotMsMax: 0 }
  /** It answers nobody. */
  away = false
  readonly faults: Record<Exclude<RequestFault, 'none'> | 'away', number> = { before: 0, after: 0, late: 0, away: 0 }
  /** When the last of what is on its way will have come. */
  underwayUntilMs = 0
  /** Told of each row that a process asks to be written. */
  watchAsked: (asker: string, row: Row) => void = () => {}
  /** Told of each row that was written. */
  watch: (row: Row) => void = () => {}
  /** Told of each row that is in a log, and so will be in the table. */
  watchLogged: (row: Row) => void = () => {}
  readonly #scheduler: Scheduler

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler
    this.inner = memoryTable({ now: () => scheduler.wallMs })
  }

  /** As a process sees it. */
  of(asker: Asker): Table {
    const { inner } = this
    const read = <T>(run: () => Promise<T>): Promise<T> => this.#ask(asker, run)
    const write = (run: () => Promise<void>): Promise<void> => this.#ask(asker, run)
    return {
      get: (key: Key) => read(() => inner.get(key)),
      put: (row: Row, condition?: Condition) => {
        if (!asker.dead) this.watchAsked(asker.id, row)
        return this.#ask(asker, () => this.#put(row, condition), isOfAccount(row) ? this.weather.hotMsMax : 0)
      },
      delete: (key: Key, condition?: Condition) => write(() => inner.delete(key, condition)),
      async *query(pk: string, { from = '', to, reverse = false, limit = Number.POSITIVE_INFINITY }: Range = {}) {
        let range: Range = { from, to, reverse }
        for (let left = limit, last: string | undefined; left > 0; ) {
          const page = await read(() => rowsOf(inner, pk, { ...range, limit: PAGE_ROWS + 1 }))
          const rows = page.filter(({ sk }) => sk !== last)
          yield* rows.slice(0, left)
          left -= rows.length
          if (page.length <= PAGE_ROWS) return
          last = page.at(-1)!.sk
          range = reverse ? { from, to: last, reverse } : { from: last, to, reverse }
        }
      },
    }
  }

  async #put(row: Row, condition: Condition | undefined): Promise<void> {
    await this.inner.put(row, condition)
    if (row.pk.startsWith('l#')) {
      const item = decodeItem(row.value)
      if (item === 'seal') return
      if (item.parts !== 1) throw new Error('a flush that is larger than a simulation makes them')
      for (const write of decodeFlush([item.bytes])) if ('put' in write) this.watchLogged(write.put)
    } else this.watch(row)
  }

  #fault(): RequestFault {
    const { random } = this.#scheduler
    const { faultOneIn } = this.weather
    const fault = faultOneIn > 0 && random.chance(faultOneIn) ? random.pick(FAULTS) : 'none'
    if (fault !== 'none') this.faults[fault]++
    return fault
  }

  #ask<T>(asker: Asker, run: () => Promise<T>, moreMsMax = 0): Promise<T> {
    if (asker.dead) return new Promise(() => {})
    const { random } = this.#scheduler
    return farRequest(run, {
      fault: this.#fault(),
      isAway: () => {
        if (this.away) this.faults.away++
        return this.away
      },
      there: (arrive, happen) =>
        this.#later(this.#wayMs() + random.int(moreMsMax + 1), () => {
          // What the dead have sent may come when nobody thinks of it any more.
          if (asker.dead && random.chance(2)) this.#later(random.int(LATE_MS_MAX), happen)
          else arrive()
        }),
      back: (settle) => this.#later(this.#wayMs(), () => asker.gate(settle)),
      late: (happen) => this.#later(random.int(this.weather.lateMsMax + 1), happen),
    })
  }

  #wayMs(): number {
    const { random } = this.#scheduler
    const { delayMsMax } = this.weather
    return random.int(1 + (random.chance(30) ? 3 * delayMsMax : delayMsMax))
  }

  #later(ms: number, call: () => void): void {
    this.underwayUntilMs = Math.max(this.underwayUntilMs, this.#scheduler.nowMs + ms)
    this.#scheduler.after(ms, call)
  }
}

export async function rowsOf(table: Table, pk: string, range?: Range): Promise<Row[]> {
  const rows: Row[] = []
  for await (const row of table.query(pk, range)) rows.push(row)
  return rows
}

function isOfAccount({ pk }: Row): boolean {
  return pk.startsWith('a#') || pk.startsWith('j#')
}

import { describe, expect, test } from 'vitest'
import { memoryTable } from '#table/memory.ts'
import type { Table } from '#table/table.ts'
import { type Jid, parseJid } from '#xmpp/jid.ts'
import { manualClock } from '../clock.ts'
import { Commit } from '../commits/commit.ts'
import { directLog } from '../commits/direct-log.ts'
import { silentLog } from '../observing/log.ts'
import { ArchiveIds, archiveIdTime, STRETCH_S } from './archive-id.ts'
import { ACCOUNT_RECORD, type AccountJournal, type JournalRange, Store } from './store.ts'

const ROMEO = parseJid('romeo@example.org')
const JULIET = parseJid('juliet@example.org')
const MINUTE_MS = 60_000

function setUp(inner = memoryTable(), clock = manualClock()) {
  const queries: string[] = []
  const table: Table = {
    ...inner,
    get: (key) => inner.get(key),
    put: (row) => inner.put(row),
    delete: (key) => inner.delete(key),
    query(pk, range) {
      queries.push(range?.from ?? '')
      return inner.query(pk, range)
    },
  }
  const commit = new Commit(directLog(table, clock, silentLog), silentLog)
  const store = new Store(table, commit, ['mam'])
  return { inner, clock, commit, store, queries, ids: new ArchiveIds(clock, () => {}), journal: store.journal('mam') }
}

async function idsOf(range: AsyncIterable<{ id: string }>): Promise<string[]> {
  const ids: string[] = []
  for await (const { id } of range) ids.push(id)
  return ids
}

async function rowsOf(table: Table, { bare }: Jid): Promise<string[]> {
  const rows: string[] = []
  for await (const { sk } of table.query(`j#mam#${bare}`)) rows.push(sk)
  return rows
}

const entry = (text: string) => Buffer.from(text)

describe('a journal', () => {
  test('gives entries in order of ids, both ends exclusive, either way, as many as asked for', async () => {
    const { journal } = setUp()
    for (const id of ['3', '1', '5', '2', '4']) journal.append(ROMEO, id, entry(id))
    expect(await idsOf(journal.range(ROMEO, { limit: 10 }))).toEqual(['1', '2', '3', '4', '5'])
    expect(await idsOf(journal.range(ROMEO, { limit: 10, after: '1', before: '5' }))).toEqual(['2', '3', '4'])
    expect(await idsOf(journal.range(ROMEO, { limit: 2, after: '1', before: '5' }))).toEqual(['2', '3'])
    expect(await idsOf(journal.range(ROMEO, { limit: 2, before: '5', reverse: true }))).toEqual(['4', '3'])
    expect(await idsOf(journal.range(ROMEO, { limit: 2, after: 'x' }))).toEqual([])
    expect(await idsOf(journal.range(ROMEO, { limit: 2, after: '15' }))).toEqual(['2', '3'])
  })

  test('sees what was appended and removed before the call', async () => {
    const { journal } = setUp()
    journal.append(ROMEO, '1', entry('one'))
    journal.append(ROMEO, '2', entry('two'))
    journal.append(ROMEO, '2', entry('two again'))
    journal.remove(ROMEO, '1')
    const found: string[] = []
    for await (const { entry } of journal.range(ROMEO, { limit: 10 })) found.push(Buffer.from(entry).toString())
    expect(found).toEqual(['two again'])
  })

  test('gives one entry by its id, also before it is durable, and nothing for an id it has not', async () => {
    const { journal } = setUp()
    journal.append(ROMEO, '1', entry('one'))
    expect(Buffer.from((await journal.get(ROMEO, '1'))!).toString()).toBe('one')
    expect([await journal.get(ROMEO, '2'), await journal.get(JULIET, '1')]).toEqual([undefined, undefined])
  })

  test('is one per account', async () => {
    const { journal } = setUp()
    journal.append(ROMEO, '1', entry('one'))
    expect(await idsOf(journal.range(JULIET, { limit: 10 }))).toEqual([])
  })

  test('gives only what is wanted, and counts nothing else', async () => {
    const { journal } = setUp()
    for (let i = 100; i < 400; i++) journal.append(ROMEO, `${i}`, entry(`${i % 100}`))
    const only = (entry: Uint8Array) => Buffer.from(entry).toString() === '7'
    expect(await idsOf(journal.range(ROMEO, { limit: 2, only }))).toEqual(['107', '207'])
    expect(await idsOf(journal.range(ROMEO, { limit: 2, only, reverse: true, before: '307' }))).toEqual(['207', '107'])
  })
})

describe('a thread of a journal', () => {
  /** Entries with three peers in turn, `stepMs` apart; the text is the peer's. */
  function talk(parts: ReturnType<typeof setUp>, count: number, stepMs: number): { id: string; peer: string }[] {
    return Array.from({ length: count }, (_, i) => {
      const peer = ['juliet@example.org', 'nurse@example.org', 'tybalt@example.org'][i % 3]!
      const id = parts.ids.next()
      parts.journal.append(ROMEO, id, entry(peer), undefined, [peer])
      parts.clock.advance(stepMs)
      return { id, peer }
    })
  }

  const rangeOf = (thread: string, more: Partial<JournalRange> = {}): JournalRange => ({
    limit: 1_000,
    thread,
    only: (entry) => Buffer.from(entry).toString() === thread,
    ...more,
  })

  async function check(journal: AccountJournal, said: { id: string; peer: string }[]): Promise<void> {
    for (const thread of ['juliet@example.org', 'nurse@example.org', 'paris@example.org']) {
      const ids = said.filter(({ peer }) => peer === thread).map(({ id }) => id)
      expect(await idsOf(journal.range(ROMEO, rangeOf(thread)))).toEqual(ids)
      expect(await idsOf(journal.range(ROMEO, rangeOf(thread, { reverse: true, limit: 5 })))).toEqual(
        ids.toReversed().slice(0, 5),
      )
      for (const at of [0, 1, Math.floor(said.length / 2), said.length - 1]) {
        const { id } = said[at]!
        expect(await idsOf(journal.range(ROMEO, rangeOf(thread, { after: id })))).toEqual(ids.filter((other) => other > id))
        expect(await idsOf(journal.range(ROMEO, rangeOf(thread, { before: id })))).toEqual(ids.filter((other) => other < id))
        const both = { after: said[0]!.id, before: id, reverse: true }
        const between = ids.filter((other) => other > said[0]!.id && other < id).toReversed()
        expect(await idsOf(journal.range(ROMEO, rangeOf(thread, both)))).toEqual(between)
      }
    }
  }

  test.each([
    ['within one stretch', 40, 1_000],
    ['over many, with several in each', 120, 4 * MINUTE_MS],
    ['with less than one in each', 40, 100 * MINUTE_MS],
  ])('has what was said in it, between any two ids, either way: %s', async (_what, count, stepMs) => {
    const parts = setUp()
    const said = talk(parts, count, stepMs)
    await check(parts.journal, said)
    expect(await idsOf(parts.journal.range(ROMEO, { limit: 1_000 }))).toEqual(said.map(({ id }) => id)) // and the whole has no more
  })

  test('costs a row for each stretch of time, and not for each entry', async () => {
    const parts = setUp()
    talk(parts, 90, 1_000)
    await parts.commit.settled()
    const rows = await rowsOf(parts.inner, ROMEO)
    expect(rows.filter((sk) => !sk.startsWith('~'))).toHaveLength(90)
    expect(rows.filter((sk) => sk.startsWith('~')).length).toBeLessThanOrEqual(6) // three threads, in one stretch or two
  })

  test('is read without what lies in other stretches', async () => {
    const parts = setUp()
    parts.journal.append(ROMEO, parts.ids.next(), entry('juliet@example.org'), undefined, ['juliet@example.org'])
    parts.clock.advance(100 * MINUTE_MS)
    const said = talk(parts, 300, 100 * MINUTE_MS).filter(({ peer }) => peer === 'tybalt@example.org')
    await parts.commit.settled()
    parts.queries.length = 0
    expect(await idsOf(parts.journal.range(ROMEO, rangeOf('tybalt@example.org', { reverse: true, limit: 1 })))).toEqual([
      said.at(-1)!.id,
    ])
    expect(parts.queries.length).toBeLessThanOrEqual(3)
  })

  test('is whole after a restart in the midst of a stretch', async () => {
    const parts = setUp()
    const before = talk(parts, 9, 1_000)
    await parts.commit.settled()
    const again = setUp(parts.inner, parts.clock)
    await check(again.journal, [...before, ...talk({ ...again, ids: parts.ids }, 9, 1_000)])
  })

  test('names of any length have keys that fit, and no thread reads another', async () => {
    const parts = setUp()
    const names = ['x', 'x y', `x ${'0'.repeat(6)}`, 'é'.repeat(299), `${'é'.repeat(1_000)}a`, `${'é'.repeat(1_000)}b`, '~', '#']
    const ids = names.map((name) => {
      const id = parts.ids.next()
      parts.journal.append(ROMEO, id, entry(name), undefined, [name])
      parts.clock.advance(100 * MINUTE_MS)
      return id
    })
    for (const [i, thread] of names.entries()) {
      // One stretch each: without telling entries apart, there is nothing of another.
      expect(await idsOf(parts.journal.range(ROMEO, { limit: 10, thread }))).toEqual([ids[i]])
    }
    for (const sk of await rowsOf(parts.inner, ROMEO)) expect(Buffer.byteLength(sk)).toBeLessThanOrEqual(1_024)
  })

  test('goes with the account, and begins anew with the next of that name', async () => {
    const parts = setUp()
    await parts.inner.put({ pk: `a#${ROMEO.bare}`, sk: ACCOUNT_RECORD, version: 'v', value: Buffer.from('{}') })
    talk(parts, 3, 1)
    await parts.store.purge(ROMEO.bare)
    expect(await rowsOf(parts.inner, ROMEO)).toEqual([])
    await check(parts.journal, talk(parts, 3, 1))
  })

  test('does not expire before the last of its entries in a stretch', async () => {
    const clock = manualClock(Date.UTC(2026, 0, 1))
    const parts = setUp(memoryTable({ now: () => clock.now() }), clock)
    const said: { id: string; peer: string }[] = []
    for (let i = 0; i < 60; i++) {
      const id = parts.ids.next()
      const peer = 'juliet@example.org'
      parts.journal.append(ROMEO, id, entry(peer), Math.floor(archiveIdTime(id) / 1_000) + 86_400, [peer])
      said.push({ id, peer })
      clock.advance(MINUTE_MS)
    }
    clock.advance(86_400_000 - 30 * MINUTE_MS)
    const left = await idsOf(parts.journal.range(ROMEO, { limit: 100 }))
    expect(left.length).toBeGreaterThan(20)
    expect(left.length).toBeLessThan(40)
    expect(await idsOf(parts.journal.range(ROMEO, rangeOf('juliet@example.org')))).toEqual(left)
    clock.advance(60 * MINUTE_MS + STRETCH_S * 1_000)
    expect(await rowsOf(parts.inner, ROMEO)).toEqual([])
  })

  test('an entry over a row is refused, and nothing is noted of it', async () => {
    const parts = setUp()
    expect(() => parts.journal.append(ROMEO, parts.ids.next(), Buffer.alloc(400_000), undefined, ['x'])).toThrow(RangeError)
    await parts.commit.settled()
    expect(await rowsOf(parts.inner, ROMEO)).toEqual([])
  })
})

// What every driver of Table must do, as a suite of tests.
//
// The clock is the suite's: a driver is made with it, so that expiry needs no waiting. Every test has partition keys of its own.
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { describeOlder } from './contract-older.ts'
import { bytes, plain, rowOf, rowsOf, seeded, sksOf, winnersOf } from './contract-rows.ts'
import {
  type ClosableTable,
  type Range,
  ROW_BYTES_MAX,
  type Row,
  type Table,
  TableUnavailable,
  VersionConflict,
} from './table.ts'

export interface TableUnderTest {
  table: ClosableTable
  /** Closes the table and opens what it left; only where rows outlive the table. */
  reopen?(): Promise<ClosableTable>
}

/** `make` is given the clock that rows expire by (milliseconds since 1970). */
export function tableContract(name: string, make: (now: () => number) => Promise<TableUnderTest>): void {
  describe(`${name} keeps the contract of Table`, () => {
    let made: TableUnderTest
    let table: Table
    let nowS = 1_900_000_000
    beforeAll(async () => {
      made = await make(() => nowS * 1000)
      table = made.table
    })
    afterAll(() => made.table.close())

    const tick = (seconds: number) => {
      nowS += seconds
    }
    describeRows(() => table)
    describeConditions(() => table)
    describeOlder(() => table, tick)
    describeRanges(() => table)
    describeExpiry(
      () => table,
      () => nowS,
      tick,
    )
    describeModel(
      () => table,
      () => nowS,
      tick,
    )
    describeClosing(make)
  })
}

function describeRows(table: () => Table): void {
  describe('rows', () => {
    test('a row that was put is returned as it was put, and another key is not', async () => {
      const row = rowOf('rows#1', 'a', { value: bytes('caw'), expiresAtS: 4_000_000_000 })
      await table().put(row)
      expect(plain(await table().get(row))).toEqual(plain(row))
      expect(await table().get({ pk: 'rows#1', sk: 'b' })).toBeUndefined()
      expect(await table().get({ pk: 'rows#2', sk: 'a' })).toBeUndefined()
    })

    test('values are octets: all 256, none, and a view into a larger buffer', async () => {
      const every = Uint8Array.from({ length: 256 }, (_, n) => n)
      for (const [sk, value] of Object.entries({
        every,
        none: new Uint8Array(0),
        view: every.subarray(65, 70),
        buffer: Buffer.from('ab'),
      })) {
        await table().put(rowOf('rows#octets', sk, { value }))
        expect([...(await table().get({ pk: 'rows#octets', sk }))!.value]).toEqual([...value])
      }
    })

    test('a value that was put stays with the caller, whole', async () => {
      const value = bytes('mine')
      await Promise.all([table().put(rowOf('rows#mine', 'a', { value })), table().put(rowOf('rows#mine', 'b', { value }))])
      expect(new TextDecoder().decode(value)).toBe('mine')
    })

    test('what a reader does to a value it got changes nothing stored', async () => {
      await table().put(rowOf('rows#theirs', 'a', { value: bytes('kept') }))
      ;(await table().get({ pk: 'rows#theirs', sk: 'a' }))!.value.fill(0)
      expect((await table().get({ pk: 'rows#theirs', sk: 'a' }))!.value).toEqual(bytes('kept'))
    })

    test('keys differ by case, by normalisation, by an empty sk, and by NUL', async () => {
      const sks = ['a', 'A', '\u00e9', 'e\u0301', '', 'a\u0000', 'a\u0000b', '\u{1F426}']
      for (const sk of sks) await table().put(rowOf('rows#exact', sk, { value: bytes(`value of ${sk}`) }))
      for (const sk of sks) expect((await table().get({ pk: 'rows#exact', sk }))?.value).toEqual(bytes(`value of ${sk}`))
    })

    test('a put overwrites value, version and expiry', async () => {
      await table().put(rowOf('rows#over', 'a', { version: '1', value: bytes('old'), expiresAtS: 4_000_000_000 }))
      await table().put(rowOf('rows#over', 'a', { version: '2', value: bytes('new') }))
      expect(plain(await table().get({ pk: 'rows#over', sk: 'a' }))).toEqual(
        plain(rowOf('rows#over', 'a', { version: '2', value: bytes('new') })),
      )
    })

    test('delete removes one row, and deleting what is not there is no fault', async () => {
      await table().put(rowOf('rows#delete', 'a'))
      await table().put(rowOf('rows#delete', 'b'))
      await table().delete({ pk: 'rows#delete', sk: 'a' })
      await table().delete({ pk: 'rows#delete', sk: 'a' })
      expect(await sksOf(table(), 'rows#delete')).toEqual(['b'])
    })

    test('a row of 400 kB is stored, and one octet more, in value or key, is RangeError', async () => {
      const [pk, sk, version] = ['rows#large', 'é', 'v']
      const room = ROW_BYTES_MAX - Buffer.byteLength(pk + sk + version)
      const value = new Uint8Array(room).fill(7)
      await table().put({ pk, sk, version, value })
      expect((await table().get({ pk, sk }))?.value).toEqual(value)
      await expect(table().put({ pk, sk, version, value: new Uint8Array(room + 1) })).rejects.toThrow(RangeError)
      await expect(table().put({ pk, sk: `${sk}x`, version, value })).rejects.toThrow(RangeError)
    })

    test('a key that is not Unicode, a version that means absent, and a fraction of a second are RangeErrors', async () => {
      await expect(table().put(rowOf('rows#bad', '\ud83d'))).rejects.toThrow(RangeError)
      await expect(table().get({ pk: '\udc26', sk: 'a' })).rejects.toThrow(RangeError)
      await expect(table().delete({ pk: 'rows#bad', sk: '\ud83d' })).rejects.toThrow(RangeError)
      await expect(table().put(rowOf('rows#bad', 'a', { version: '' }))).rejects.toThrow(RangeError)
      await expect(table().put(rowOf('rows#bad', 'a', { expiresAtS: 1.5 }))).rejects.toThrow(RangeError)
      expect(await sksOf(table(), 'rows#bad')).toEqual([])
    })
  })
}

function describeConditions(table: () => Table): void {
  describe('conditions', () => {
    test("of 100 puts at once with ifVersion '', exactly one wins, and its row is the one stored", async () => {
      const rows = Array.from({ length: 100 }, (_, n) => rowOf('race#put', 'a', { version: `v${n}` }))
      const won = await winnersOf(rows.map((row) => table().put(row, '')))
      expect(won).toHaveLength(1)
      expect((await table().get({ pk: 'race#put', sk: 'a' }))?.version).toBe(`v${won[0]}`)
    })

    test('of 100 puts at once over one version, exactly one wins', async () => {
      await table().put(rowOf('race#over', 'a', { version: 'old' }))
      const rows = Array.from({ length: 100 }, (_, n) => rowOf('race#over', 'a', { version: `v${n}` }))
      const won = await winnersOf(rows.map((row) => table().put(row, 'old')))
      expect(won).toHaveLength(1)
      expect((await table().get({ pk: 'race#over', sk: 'a' }))?.version).toBe(`v${won[0]}`)
    })

    test('of 100 deletes at once of one version, exactly one wins', async () => {
      await table().put(rowOf('race#delete', 'a', { version: 'old' }))
      expect(
        await winnersOf(Array.from({ length: 100 }, () => table().delete({ pk: 'race#delete', sk: 'a' }, 'old'))),
      ).toHaveLength(1)
    })

    test('a condition that does not hold is VersionConflict, and leaves the row as it was', async () => {
      const row = rowOf('if#no', 'a', { version: 'here' })
      await table().put(row)
      for (const ifVersion of ['', 'other', 'here2']) {
        await expect(table().put(rowOf('if#no', 'a', { version: 'new' }), ifVersion)).rejects.toThrow(VersionConflict)
        await expect(table().delete(row, ifVersion)).rejects.toThrow(VersionConflict)
      }
      await expect(table().put(rowOf('if#no', 'absent'), 'other')).rejects.toThrow(VersionConflict)
      await expect(table().delete({ pk: 'if#no', sk: 'absent' }, 'other')).rejects.toThrow(VersionConflict)
      expect((await rowsOf(table(), 'if#no')).map(plain)).toEqual([plain(row)])
    })

    test('a condition that holds lets the write pass', async () => {
      await table().put(rowOf('if#yes', 'a', { version: '1' }), '')
      await table().put(rowOf('if#yes', 'a', { version: '2' }), '1')
      await table().delete({ pk: 'if#yes', sk: 'a' }, '2')
      await table().delete({ pk: 'if#yes', sk: 'a' }, '')
      await table().put(rowOf('if#yes', 'a', { version: '3' }), '')
      expect((await table().get({ pk: 'if#yes', sk: 'a' }))?.version).toBe('3')
    })

    test('a conflict refuses its own write only, not those sent beside it', async () => {
      await table().put(rowOf('if#beside', 'b', { version: 'old' }))
      const won = await winnersOf(['a', 'b', 'c'].map((sk) => table().put(rowOf('if#beside', sk, { version: 'new' }), '')))
      expect(won).toEqual([0, 2])
      expect((await rowsOf(table(), 'if#beside')).map((row) => row.version)).toEqual(['new', 'old', 'new'])
    })
  })
}

function describeRanges(table: () => Table): void {
  describe('query', () => {
    // UTF-16, which JavaScript compares by, has the characters beyond U+FFFF before U+E000.
    const inOrder = ['', '\u0000', 'A', 'a', 'a\u0000', 'ab', 'b', '\u007f', '\u0080', 'é', '\u07ff', '\u0800', '\ud7ff']
    inOrder.push('\ue000', '\ue000\u{10000}', '\ufffd', '\uffff', '\u{10000}', '\u{10000}\ue000', '\u{1F426}', '\u{10FFFF}')

    test('a range runs in the order of UTF-8 bytes, also where UTF-16 has another', async () => {
      for (const sk of inOrder.toReversed()) await table().put(rowOf('range#order', sk))
      expect(inOrder.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))).toEqual(inOrder)
      expect(await sksOf(table(), 'range#order')).toEqual(inOrder)
      expect(await sksOf(table(), 'range#order', { reverse: true })).toEqual(inOrder.toReversed())
      expect(await sksOf(table(), 'range#order', { from: '\uffff', to: '\u{10000}\ue000' })).toEqual([
        '\uffff',
        '\u{10000}',
        '\u{10000}\ue000',
      ])
    })

    test('both ends are inclusive, each may be left out, and neither needs to exist', async () => {
      for (const sk of ['b', 'd', 'f']) await table().put(rowOf('range#ends', sk))
      await table().put(rowOf('range#ends2', 'd'))
      const ask = (range: Range) => sksOf(table(), 'range#ends', range)
      expect(await ask({})).toEqual(['b', 'd', 'f'])
      expect(await ask({ from: 'b', to: 'd' })).toEqual(['b', 'd'])
      expect(await ask({ from: 'd', to: 'd' })).toEqual(['d'])
      expect(await ask({ from: 'c' })).toEqual(['d', 'f'])
      expect(await ask({ to: 'e' })).toEqual(['b', 'd'])
      expect(await ask({ from: 'b', to: 'd', reverse: true })).toEqual(['d', 'b'])
    })

    test('a range that holds nothing, or is upside down, or whose limit is 0, is empty', async () => {
      await table().put(rowOf('range#empty', 'b'))
      for (const range of [{ from: 'c' }, { to: 'a' }, { from: 'b', to: 'a' }, { limit: 0 }, { to: '' }]) {
        expect(await sksOf(table(), 'range#empty', range)).toEqual([])
      }
      expect(await sksOf(table(), 'range#nobody')).toEqual([])
    })

    test('limit counts from the end the range begins at', async () => {
      for (const sk of ['a', 'b', 'c', 'd']) await table().put(rowOf('range#limit', sk))
      expect(await sksOf(table(), 'range#limit', { limit: 2 })).toEqual(['a', 'b'])
      expect(await sksOf(table(), 'range#limit', { from: 'c', limit: Number.MAX_SAFE_INTEGER })).toEqual(['c', 'd'])
      expect(await sksOf(table(), 'range#limit', { limit: 2, reverse: true })).toEqual(['d', 'c'])
      expect(await sksOf(table(), 'range#limit', { limit: 9 })).toEqual(['a', 'b', 'c', 'd'])
      expect(await sksOf(table(), 'range#limit', { limit: 1, from: 'c' })).toEqual(['c'])
    })

    test('a range of many pages by octets comes whole, once, in order, both ways', async () => {
      const sks = Array.from({ length: 12 }, (_, n) => `row${String(n).padStart(2, '0')}`)
      await Promise.all(sks.map((sk, n) => table().put(rowOf('range#large', sk, { value: new Uint8Array(300_000).fill(n) }))))
      const rows = await rowsOf(table(), 'range#large')
      expect(rows.map(({ sk }) => sk)).toEqual(sks)
      expect(rows.every(({ value }, n) => value.length === 300_000 && value[0] === n && value.at(-1) === n)).toBe(true)
      expect(await sksOf(table(), 'range#large', { reverse: true })).toEqual(sks.toReversed())
      expect(await sksOf(table(), 'range#large', { limit: 7 })).toEqual(sks.slice(0, 7))
    })

    test('a range of many pages by rows comes whole, also with limits at the edges of pages', async () => {
      const sks = Array.from({ length: 1100 }, (_, n) => String(n).padStart(5, '0'))
      await Promise.all(sks.map((sk) => table().put(rowOf('range#many', sk))))
      expect(await sksOf(table(), 'range#many')).toEqual(sks)
      expect(await sksOf(table(), 'range#many', { reverse: true, from: '00100', to: '00999' })).toEqual(
        sks.slice(100, 1000).toReversed(),
      )
      for (const limit of [1, 99, 100, 101, 255, 256, 257, 512, 513]) {
        expect(await sksOf(table(), 'range#many', { limit })).toEqual(sks.slice(0, limit))
      }
    })

    test('a reader may stop early, and may write what it reads', async () => {
      for (let n = 0; n < 300; n++) await table().put(rowOf('range#stop', String(n).padStart(3, '0')))
      for await (const row of table().query('range#stop')) if (row.sk === '010') break
      for await (const row of table().query('range#stop')) await table().delete(row, row.version)
      expect(await sksOf(table(), 'range#stop')).toEqual([])
    })

    test('two readers of one range do not disturb each other', async () => {
      for (let n = 0; n < 300; n++) await table().put(rowOf('range#two', String(n).padStart(3, '0')))
      const [forth, back] = await Promise.all([sksOf(table(), 'range#two'), sksOf(table(), 'range#two', { reverse: true })])
      expect(forth).toHaveLength(300)
      expect(back).toEqual(forth.toReversed())
    })

    test('what was put is read by the query that begins after it', async () => {
      for (let n = 0; n < 50; n++) {
        await table().put(rowOf('range#after', `${n}`))
        expect(await sksOf(table(), 'range#after', { from: `${n}`, to: `${n}` })).toEqual([`${n}`])
      }
    })
  })
}

function describeExpiry(table: () => Table, nowS: () => number, tick: (seconds: number) => void): void {
  describe('expiry', () => {
    test('from expiresAtS on a row is returned by no read', async () => {
      await table().put(rowOf('ttl#read', 'a', { expiresAtS: nowS() + 10 }))
      await table().put(rowOf('ttl#read', 'b'))
      await table().put(rowOf('ttl#read', 'c', { expiresAtS: nowS() + 11 }))
      tick(9)
      expect(await sksOf(table(), 'ttl#read')).toEqual(['a', 'b', 'c'])
      tick(1)
      expect(await table().get({ pk: 'ttl#read', sk: 'a' })).toBeUndefined()
      expect(await sksOf(table(), 'ttl#read')).toEqual(['b', 'c'])
      expect(await sksOf(table(), 'ttl#read', { limit: 1 })).toEqual(['b'])
      expect(await sksOf(table(), 'ttl#read', { reverse: true, from: 'a', to: 'b' })).toEqual(['b'])
    })

    test('a row put when its time is up is not there', async () => {
      await table().put(rowOf('ttl#late', 'a', { expiresAtS: nowS() }))
      expect(await table().get({ pk: 'ttl#late', sk: 'a' })).toBeUndefined()
    })

    test('to a condition an expired row is absent', async () => {
      const old = rowOf('ttl#if', 'a', { version: 'old', expiresAtS: nowS() + 1 })
      await table().put(old)
      await expect(table().put(rowOf('ttl#if', 'a'), '')).rejects.toThrow(VersionConflict)
      tick(1)
      await expect(table().put(rowOf('ttl#if', 'a'), 'old')).rejects.toThrow(VersionConflict)
      await expect(table().delete(old, 'old')).rejects.toThrow(VersionConflict)
      await table().delete(old, '')
      await table().put(old)
      await table().put(rowOf('ttl#if', 'a', { version: 'new' }), '')
      expect((await table().get(old))?.version).toBe('new')
    })

    test('a put without expiresAtS over a row that had one keeps for good', async () => {
      await table().put(rowOf('ttl#keep', 'a', { expiresAtS: nowS() + 1 }))
      await table().put(rowOf('ttl#keep', 'a'))
      tick(100)
      expect(await table().get({ pk: 'ttl#keep', sk: 'a' })).toBeDefined()
    })
  })
}

type Step =
  | { do: 'put' | 'delete'; sk: string; condition: 'none' | 'absent' | 'right' | 'wrong'; lifeS: number | undefined }
  | { do: 'query'; range: Range }
  | { do: 'tick'; seconds: number }

const sks = fc.string({
  unit: fc.constantFrom('a', 'b', '\u0000', '\ud7ff', '\ue000', '\uffff', '\u{10000}', '\u{1F426}'),
  maxLength: 3,
})
const steps: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constantFrom('put' as const, 'put' as const, 'delete' as const),
      sk: sks,
      condition: fc.constantFrom('none' as const, 'none' as const, 'absent' as const, 'right' as const, 'wrong' as const),
      lifeS: fc.option(fc.integer({ min: 0, max: 5 }), { nil: undefined, freq: 2 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('query' as const),
      range: fc.record(
        { from: sks, to: sks, reverse: fc.boolean(), limit: fc.integer({ min: 0, max: 6 }) },
        { requiredKeys: [] },
      ),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('tick' as const), seconds: fc.integer({ min: 1, max: 3 }) }) },
)

function describeModel(table: () => Table, nowS: () => number, tick: (seconds: number) => void): void {
  describe('a table is a sorted map', () => {
    let runs = 0

    /** Does one step to the table and to the model, and compares what they say. */
    async function take(step: Step, pk: string, model: Map<string, Row>, count: number): Promise<void> {
      if (step.do === 'tick') return tick(step.seconds)
      if (step.do === 'query') {
        expect((await rowsOf(table(), pk, step.range)).map(plain)).toEqual(rangeOf(model, step.range, nowS()).map(plain))
        return
      }
      const { sk } = step
      const stored = rangeOf(model, { from: sk, to: sk }, nowS())[0]?.version ?? ''
      const ifVersion = { none: undefined, absent: '', right: stored, wrong: 'wrong' }[step.condition]
      const row = rowOf(pk, sk, {
        version: `v${count}`,
        value: bytes(`${count}`),
        expiresAtS: step.lifeS === undefined ? undefined : nowS() + step.lifeS,
      })
      const write = step.do === 'put' ? table().put(row, ifVersion) : table().delete(row, ifVersion)
      if (ifVersion !== undefined && ifVersion !== stored) {
        await expect(write).rejects.toThrow(VersionConflict)
      } else {
        await write
        if (step.do === 'put') model.set(sk, row)
        else model.delete(sk)
      }
      expect(plain(await table().get({ pk, sk }))).toEqual(plain(rangeOf(model, { from: sk, to: sk }, nowS())[0]))
    }

    test('whatever is done to it, it says what a sorted map says', async () => {
      const property = fc.asyncProperty(fc.array(steps, { maxLength: 40 }), async (taken) => {
        const pk = `model#${runs++}`
        const model = new Map<string, Row>()
        for (const [count, step] of taken.entries()) await take(step, pk, model, count)
        expect((await rowsOf(table(), pk)).map(plain)).toEqual(rangeOf(model, {}, nowS()).map(plain))
      })
      await fc.assert(property, { numRuns: 60, ...seeded() })
    })
  })
}

function describeClosing(make: (now: () => number) => Promise<TableUnderTest>): void {
  describe('close', () => {
    test('refuses what comes after with TableUnavailable, and twice is no fault', async () => {
      const { table } = await make(Date.now)
      await table.put(rowOf('close#1', 'a'))
      await table.close()
      await table.close()
      await expect(table.put(rowOf('close#1', 'b'))).rejects.toThrow(TableUnavailable)
      await expect(table.delete({ pk: 'close#1', sk: 'a' })).rejects.toThrow(TableUnavailable)
      await expect(table.get({ pk: 'close#1', sk: 'a' })).rejects.toThrow(TableUnavailable)
      await expect(sksOf(table, 'close#1')).rejects.toThrow(TableUnavailable)
    })

    test('what was put before is there when the table is opened again', async ({ skip }) => {
      const { table, reopen } = await make(Date.now)
      if (!reopen) {
        await table.close()
        return skip('rows do not outlive this table')
      }
      await table.put(rowOf('close#2', 'a', { version: 'resolved', value: bytes('caw') }))
      const late = table.put(rowOf('close#2', 'b', { version: 'not awaited' }))
      const again = await reopen()
      await late
      expect((await rowsOf(again, 'close#2')).map(({ version }) => version)).toEqual(['resolved', 'not awaited'])
      await again.close()
    })
  })
}

function rangeOf(model: Map<string, Row>, { from, to, reverse, limit }: Range, nowS: number): Row[] {
  const order = (a: string, b: string) => Buffer.compare(Buffer.from(a), Buffer.from(b))
  const rows = [...model.values()]
    .filter(({ sk }) => (from === undefined || order(sk, from) >= 0) && (to === undefined || order(sk, to) <= 0))
    .filter(({ expiresAtS }) => expiresAtS === undefined || expiresAtS > nowS)
    .sort((a, b) => order(a.sk, b.sk))
  return (reverse ? rows.reverse() : rows).slice(0, limit)
}

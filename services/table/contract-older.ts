// The part of the contract (contract.ts) that is about writes whose versions rise: `olderThan`, and tombstones.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { bytes, rowOf, seeded, sksOf, winnersOf } from './contract-rows.ts'
import { type Table, TOMBSTONE_S, VersionConflict } from './table.ts'

/** @param tick moves the clock that rows expire by, in seconds */
export function describeOlder(table: () => Table, tick: (seconds: number) => void): void {
  const each: Writes = {
    table,
    put: (sk, version) => table().put(rowOf('older', sk, { version, value: bytes(version) }), older(version)),
    remove: (sk, version) => table().delete({ pk: 'older', sk }, older(version)),
    versionOf: async (sk) => (await table().get({ pk: 'older', sk }))?.version,
  }
  describe('olderThan', () => {
    describePuts(each)
    describeTombstones(each, tick)
    describeAnyOrder(table)
  })
}

interface Writes {
  table(): Table
  put(sk: string, version: string): Promise<void>
  remove(sk: string, version: string): Promise<void>
  versionOf(sk: string): Promise<string | undefined>
}

const older = (olderThan: string) => ({ olderThan })

function describePuts({ table, put, remove, versionOf }: Writes): void {
  test('a put is done where nothing is and over what is older, by the order of UTF-8 bytes', async () => {
    const versions = ['0', '00', '1', 'A', 'Z', 'a', '~', '~0', '\uffff', '\u{10000}']
    for (const version of versions) {
      await put('rising', version)
      expect(await versionOf('rising')).toBe(version)
    }
  })

  test('over the same version and over a newer one it is VersionConflict, and the row stays as it was', async () => {
    await put('falling', '\u{10000}')
    for (const version of ['\u{10000}', '\uffff', '~', '1', '0'])
      await expect(put('falling', version)).rejects.toThrow(VersionConflict)
    await expect(remove('falling', '\uffff')).rejects.toThrow(VersionConflict)
    expect(await versionOf('falling')).toBe('\u{10000}')
  })

  test('the condition may be about another version than the one the row is given', async () => {
    await put('other', '5')
    await table().put(rowOf('older', 'other', { version: '1' }), older('6'))
    await expect(table().put(rowOf('older', 'other', { version: '9' }), older('1'))).rejects.toThrow(VersionConflict)
    expect(await versionOf('other')).toBe('1')
  })

  test('of 100 puts at once the greatest version stays', async () => {
    const versions = Array.from({ length: 100 }, (_, n) => String((n * 37) % 100).padStart(2, '0'))
    await winnersOf(versions.map((version) => put('race', version)))
    expect(await versionOf('race')).toBe('99')
  })

  test('nothing is older than no version', async () => {
    await expect(put('empty', '')).rejects.toThrow(RangeError)
    await expect(remove('empty', '')).rejects.toThrow(RangeError)
  })
}

function describeTombstones({ table, put, remove, versionOf }: Writes, tick: (seconds: number) => void): void {
  test('what is deleted is returned by no read, and what is older than its deletion does not come back', async () => {
    await put('gone', '1')
    await remove('gone', '3')
    expect(await versionOf('gone')).toBeUndefined()
    expect(await sksOf(table(), 'older', { from: 'gone', to: 'gone' })).toEqual([])
    for (const version of ['1', '2', '3']) await expect(put('gone', version)).rejects.toThrow(VersionConflict)
    await expect(remove('gone', '2')).rejects.toThrow(VersionConflict)
    await put('gone', '4')
    expect(await versionOf('gone')).toBe('4')
  })

  test('a deletion that comes before the put it is to undo holds', async () => {
    await remove('never', '2')
    await expect(put('never', '1')).rejects.toThrow(VersionConflict)
    expect(await versionOf('never')).toBeUndefined()
  })

  test('a tombstone is not counted by a limit', async () => {
    for (const sk of ['a', 'b', 'c', 'd']) await table().put(rowOf('older#limit', sk, { version: '1' }))
    for (const sk of ['a', 'c']) await table().delete({ pk: 'older#limit', sk }, older('2'))
    expect(await sksOf(table(), 'older#limit', { limit: 1 })).toEqual(['b'])
    expect(await sksOf(table(), 'older#limit', { limit: 2, reverse: true })).toEqual(['d', 'b'])
  })

  test('a tombstone is absent to other conditions, and an unconditional write does not ask for it', async () => {
    for (const sk of ['t1', 't2', 't3', 't4']) await remove(sk, '9')
    await table().put(rowOf('older', 't1', { version: '1' }), '')
    await table().delete({ pk: 'older', sk: 't2' }, '')
    await expect(put('t2', '8')).rejects.toThrow(VersionConflict) // it is still there
    await expect(table().put(rowOf('older', 't3', { version: '1' }), '9')).rejects.toThrow(VersionConflict)
    await expect(table().delete({ pk: 'older', sk: 't3' }, '9')).rejects.toThrow(VersionConflict)
    await table().put(rowOf('older', 't4', { version: '1' }))
    expect([await versionOf('t1'), await versionOf('t2'), await versionOf('t3'), await versionOf('t4')]).toEqual([
      '1',
      undefined,
      undefined,
      '1',
    ])
  })

  test('a tombstone holds for a day', async () => {
    await remove('day', '2')
    tick(TOMBSTONE_S - 1)
    expect(await versionOf('day')).toBeUndefined()
    await expect(put('day', '1')).rejects.toThrow(VersionConflict)
  })
}

function describeAnyOrder(table: () => Table): void {
  test('whatever order writes come in, late or twice: the greatest version is what stays', async () => {
    let runs = 0
    const writes = fc.array(fc.record({ rank: fc.integer({ min: 1, max: 30 }), deletes: fc.boolean() }), {
      minLength: 1,
      maxLength: 15,
    })
    const property = fc.asyncProperty(writes, async (writes) => {
      const key = { pk: 'older#any', sk: `${runs++}` }
      const kinds = new Map<number, boolean>()
      for (const { rank, deletes } of writes) if (!kinds.has(rank)) kinds.set(rank, deletes)
      for (const { rank } of writes) {
        const version = String(rank).padStart(2, '0')
        const write = kinds.get(rank)
          ? table().delete(key, older(version))
          : table().put({ ...key, version, value: bytes('') }, older(version))
        await write.catch((error) => expect(error).toBeInstanceOf(VersionConflict))
      }
      const greatest = Math.max(...kinds.keys())
      expect((await table().get(key))?.version).toBe(kinds.get(greatest) ? undefined : String(greatest).padStart(2, '0'))
    })
    await fc.assert(property, { numRuns: 60, ...seeded() })
  })
}

import { describe, expect, test } from 'vitest'
import { memoryTable } from '#table/memory.ts'
import { getOwnersRow, NO_OWNERS, type OwnersRow, ownersKey, ownersRowWith, putOwnersRow, readOwnersRow } from './owners-row.ts'
import { PARTITIONS } from './ownership.ts'
import { Partitions, RELEASED_MAX } from './partitions.ts'

const ALL = Array.from({ length: PARTITIONS }, (_, partition) => partition)
const owners = (name: (partition: number) => string): string[] => ALL.map(name)
const MINE = owners(() => 'me')
const OTHERS = owners(() => 'other')
const nobody = (): boolean => false

function rowOf(epoch: number, wanted: readonly string[]): OwnersRow {
  const changes = new Map(wanted.entries())
  return { ...ownersRowWith(NO_OWNERS, changes, `v${epoch}`), epoch, epochs: Array<number>(PARTITIONS).fill(epoch) }
}

/** This process, with everything ready. */
function ready(): Partitions {
  const partitions = new Partitions('me')
  partitions.baseline = 0
  partitions.apply(rowOf(1, MINE))
  partitions.opened(partitions.open(MINE))
  return partitions
}

describe('the row of owners', () => {
  test('is changed whole, and only where nobody else has changed it', async () => {
    const table = memoryTable()
    const first = ownersRowWith(NO_OWNERS, new Map([[3, 'a']]), 'v1')
    expect(await putOwnersRow(table, 'router', NO_OWNERS, first)).toBe(true)
    expect(await getOwnersRow(table, 'router')).toEqual(first)
    expect(await getOwnersRow(table, 'presence')).toEqual(NO_OWNERS)
    expect(await putOwnersRow(table, 'router', NO_OWNERS, ownersRowWith(NO_OWNERS, new Map([[3, 'b']]), 'v2'))).toBe(false)
    const second = ownersRowWith(first, new Map([[4, 'b']]), 'v3')
    expect(await putOwnersRow(table, 'router', first, second)).toBe(true)
    expect([second.epoch, second.epochs[3], second.epochs[4], second.epochs[5]]).toEqual([2, 1, 2, 0])
  })

  test('that nobody can read is refused by its name', () => {
    const one = '["a",1]'
    const refused = ['', '{}', '{"epoch":1,"owners":[]}', `{"epoch":0,"owners":[${Array(PARTITIONS).fill(one)}]}`]
    for (const text of [...refused, `{"epoch":1,"owners":[${Array(PARTITIONS).fill('[1,1]')}]}`])
      expect(() => readOwnersRow({ ...ownersKey('router'), version: 'v', value: Buffer.from(text) })).toThrow(
        'the row o#owners router',
      )
  })
})

describe('what a process does with partitions', () => {
  test('it opens what it was given, and owns it when that is done', () => {
    const partitions = new Partitions('me')
    partitions.baseline = 0
    expect(partitions.apply(rowOf(1, MINE)).changed).toEqual(ALL)
    expect(partitions.open(MINE)).toEqual(ALL)
    expect(partitions.open(MINE)).toEqual([])
    expect(partitions.isReady(0)).toBe(false)
    partitions.opened([0])
    expect([partitions.isReady(0), partitions.isReady(1)]).toEqual([true, false])
  })

  test('what names it from a life before it does not open but takes anew', () => {
    const partitions = new Partitions('me')
    partitions.apply(rowOf(5, MINE))
    partitions.baseline = 5
    expect(partitions.open(MINE)).toEqual([])
    expect(partitions.changes(MINE, false, nobody).size).toBe(PARTITIONS)
    expect(partitions.changes(OTHERS, false, nobody).get(0)).toBe('other')
    partitions.apply(rowOf(6, MINE))
    expect(partitions.open(MINE)).toEqual(ALL)
  })

  test('what it was given and another should have goes on to that one, once it is sure to know', () => {
    const partitions = new Partitions('me')
    partitions.baseline = 0
    partitions.apply(rowOf(1, MINE))
    expect(partitions.hasUnwanted(OTHERS)).toBe(true)
    expect(partitions.changes(OTHERS, false, nobody).size).toBe(0)
    expect(partitions.changes(OTHERS, true, nobody)).toEqual(new Map(OTHERS.entries()))
  })

  test('it closes no more at a time than RELEASED_MAX, until the row says who has them', () => {
    const partitions = ready()
    const closing = partitions.close(OTHERS)
    expect(closing).toHaveLength(RELEASED_MAX)
    expect(closing.some((partition) => partitions.isReady(partition))).toBe(false)
    expect(partitions.changes(OTHERS, true, nobody).size).toBe(0) // not settled
    partitions.closed(closing)
    expect(partitions.close(OTHERS)).toEqual([])
    const changes = partitions.changes(OTHERS, true, nobody)
    expect([...changes.keys()]).toEqual(closing)
    expect(partitions.apply(ownersRowWith(partitions.row, changes, 'v2'))).toEqual({ changed: closing, lost: false })
    expect(partitions.close(OTHERS)).toHaveLength(RELEASED_MAX)
  })

  test('what it has closed and should have after all, it opens at a new epoch', () => {
    const partitions = ready()
    const closing = partitions.close(OTHERS)
    partitions.closed(closing)
    partitions.apply(ownersRowWith(partitions.row, partitions.changes(MINE, true, nobody), 'v2'))
    expect(partitions.open(MINE)).toEqual(closing)
    expect(partitions.row.epochs[closing[0]!]).toBe(2)
  })

  test('it takes what nobody has, and of others only from whom it may', () => {
    const partitions = new Partitions('me')
    partitions.baseline = 0
    partitions.apply(
      rowOf(
        1,
        owners((partition) => ['', 'dead', 'live', 'me'][partition % 4]!),
      ),
    )
    expect(partitions.othersWithOurs(MINE)).toEqual(new Set(['dead', 'live']))
    const changes = partitions.changes(MINE, true, (owner) => owner === 'dead')
    expect([...changes.keys()]).toEqual(ALL.filter((partition) => partition % 4 < 2))
  })

  test('where one of its own is taken from it, it must have been declared dead', () => {
    const partitions = ready()
    expect(partitions.apply(rowOf(2, OTHERS))).toEqual({ changed: ALL, lost: true })
    expect(partitions.isReady(0)).toBe(false)
  })

  test('a row that comes late changes nothing', () => {
    const partitions = ready()
    partitions.apply(rowOf(3, OTHERS))
    expect(partitions.apply(rowOf(2, MINE))).toEqual({ changed: [], lost: false })
    expect(partitions.row.owners[0]).toBe('other')
  })
})

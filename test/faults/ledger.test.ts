// The checker of kill.test.ts must be able to fail: what it is there to find is put before it.
import { describe, expect, test } from 'vitest'
import { type Entry, faultsOf, type Said, type Seen } from './ledger.ts'

const said = (id: string, from: string, to: string, acked = true): Said => ({ id, from, to, acked })
const entries = (...ids: string[]): Entry[] => ids.map((id, i) => ({ id, archiveId: `a${i}` }))
const SAID = [
  said('r1', 'romeo', 'juliet'),
  said('r2', 'romeo', 'juliet'),
  said('j1', 'juliet', 'romeo'),
  said('r3', 'romeo', 'juliet', false),
]
const belongsIn = ({ from, to }: Said) => [from, to]

function check(romeo: Entry[], juliet: Entry[], seen: Seen[] = []): string[] {
  const places = new Map([
    ['romeo', romeo],
    ['juliet', juliet],
  ])
  return faultsOf({ said: SAID, places, belongsIn, seen })
}

const ALL = ['r1', 'r2', 'j1'] as const

describe('the checker', () => {
  test('finds nothing where all is well, whether or not what was not acknowledged is there', () => {
    expect(check(entries(...ALL), entries(...ALL))).toEqual([])
    expect(check(entries(...ALL, 'r3'), entries('r1', 'j1', 'r2', 'r3'))).toEqual([]) // two senders have no order between them
    expect(check(entries(...ALL, 'r3'), entries(...ALL))).toEqual([])
  })

  test('finds a message that was lost, in either archive', () => {
    expect(check(entries(...ALL), entries('r1', 'j1'))).toEqual(['r2 was acknowledged and is not in juliet'])
    expect(check(entries('r1', 'r2'), entries(...ALL))).toEqual(['j1 was acknowledged and is not in romeo'])
    expect(check([], [])).toHaveLength(6)
  })

  test('finds a message that is there twice, acknowledged or not', () => {
    expect(check(entries(...ALL), entries('r1', 'r2', 'r1', 'j1'))).toContain('r1 is twice in juliet')
    expect(check(entries(...ALL, 'r3', 'r3'), entries(...ALL))).toEqual(['r3 is twice in romeo'])
  })

  test('finds messages that have changed places', () => {
    expect(check(entries('r2', 'r1', 'j1'), entries(...ALL))).toEqual(['r1 is behind r2 in romeo'])
    expect(check(entries(...ALL), entries('r3', 'r1', 'r2', 'j1'))).toEqual(['r1 is behind r3 in juliet'])
  })

  test('finds what nobody has said, or not to her', () => {
    expect(check(entries(...ALL), entries(...ALL, 'x1'))).toEqual(['x1 is in juliet and was not said there'])
    const places = new Map([['nurse', entries('r1')]])
    expect(faultsOf({ said: [said('r1', 'romeo', 'juliet', false)], places, belongsIn })).toEqual([
      'r1 is in nurse and was not said there',
    ])
  })

  test('finds an archive id that is given twice, or goes back', () => {
    const twice = entries(...ALL).map((entry) => ({ ...entry, archiveId: 'a0' }))
    expect(check(entries(...ALL), twice)).toHaveLength(2)
    const back = entries(...ALL).map((entry, i) => ({ ...entry, archiveId: `a${3 - i}` }))
    expect(check(entries(...ALL), back)).toHaveLength(2)
  })

  test('finds what was seen and is not in the archive, or under another id', () => {
    const seen = (id: string, archiveId: string) => check(entries(...ALL), entries(...ALL), [{ id, archiveId, place: 'juliet' }])
    expect(seen('r2', 'a1')).toEqual([])
    expect(seen('r2', 'a2')).toEqual(['r2 was seen as a2, and is a1 in juliet'])
    expect(seen('r3', 'a3')).toEqual(['r3 was seen as a3, and is not in juliet'])
  })
})

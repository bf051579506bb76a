import { describe, expect, test } from 'vitest'
import { manualClock } from '../clock.ts'
import { ArchiveIds, archiveIdAt, archiveIdStretch, archiveIdTime, isArchiveId, STRETCH_S } from './archive-id.ts'

describe('archive ids', () => {
  test('rise, within a millisecond and beyond it', () => {
    const clock = manualClock()
    const ids = new ArchiveIds(clock, () => {})
    const given: string[] = []
    for (let i = 0; i < 3_000; i++) {
      given.push(ids.next())
      if (i % 1_000 === 0) clock.advance(1)
    }
    expect([...given].sort()).toEqual(given)
    expect(new Set(given).size).toBe(given.length)
  })

  test('rise when the clock goes back', () => {
    const clock = manualClock()
    const ids = new ArchiveIds(clock, () => {})
    const before = ids.next()
    clock.jump(-86_400_000)
    const after = ids.next()
    expect(after > before).toBe(true)
    clock.jump(86_400_001)
    expect(ids.next() > after).toBe(true)
  })

  test('those given after a restart with the clock set back used to sort before those given ahead of it', () => {
    const clock = manualClock()
    let markMs = Number.NaN
    const given: string[] = []
    let ids = new ArchiveIds(clock, (ms) => (markMs = ms))
    for (let starts = 0; starts < 4; starts++) {
      for (let i = 0; i < 30; i++) {
        given.push(ids.next())
        clock.advance(70)
      }
      clock.jump(starts === 0 ? -86_400_000 : 0)
      ids = new ArchiveIds(clock, (ms) => (markMs = ms))
      ids.resume(markMs)
    }
    expect([...given].sort()).toEqual(given)
  })

  test('of an account that comes from another owner are behind its own, where both had gone on behind the same mark', () => {
    const clock = manualClock()
    let markMs = clock.now() + 60_000 // somebody's clock was ahead
    const keep = (ms: number): void => void (markMs = Math.max(markMs, ms))
    const [one, other] = [new ArchiveIds(clock, keep), new ArchiveIds(clock, keep)]
    one.resume(markMs)
    other.resume(markMs)
    other.next()
    const given = [one.next(), one.next(), one.next()]
    other.resume(markMs)
    given.push(other.next())
    expect([...given].sort()).toEqual(given)
  })

  test('raise a mark again that was staged and dropped', () => {
    const clock = manualClock()
    const marks: number[] = []
    const ids = new ArchiveIds(clock, (ms) => marks.push(ms))
    ids.next()
    ids.forget()
    ids.next()
    expect(marks).toEqual([clock.now(), clock.now()])
  })

  test('raise their mark once a second at most, and are never a second beyond it', () => {
    const clock = manualClock()
    const marks: number[] = []
    const ids = new ArchiveIds(clock, (ms) => marks.push(ms))
    for (let i = 0; i < 500; i++) {
      expect(archiveIdTime(ids.next())).toBeLessThan((marks.at(-1) ?? Number.NaN) + 1_000)
      clock.advance(10)
    }
    expect(marks).toHaveLength(5)
  })

  test('tell the moment they were given, and sort behind the least of that moment', () => {
    const clock = manualClock(Date.UTC(2026, 10, 23))
    const id = new ArchiveIds(clock, () => {}).next()
    expect(archiveIdTime(id)).toBe(Date.UTC(2026, 10, 23))
    expect(id > archiveIdAt(clock.now())).toBe(true)
    expect(id < archiveIdAt(clock.now() + 1)).toBe(true)
  })

  test('keep their order until the year 10000', () => {
    expect(archiveIdAt(Date.UTC(9999, 11, 31))).toHaveLength(10)
    expect(archiveIdAt(Date.UTC(1970, 0, 2)) < archiveIdAt(Date.UTC(9999, 11, 31))).toBe(true)
    expect(archiveIdAt(-1)).toBe('0000000000')
  })

  test('XEP-0313 §3 cannot be guessed: two owners at one moment give two', () => {
    const clock = manualClock()
    expect(new ArchiveIds(clock, () => {}).next()).not.toBe(new ArchiveIds(clock, () => {}).next())
  })

  test('of one stretch begin alike, and it is not longer than it says', () => {
    const clock = manualClock()
    const ids = new ArchiveIds(clock, () => {})
    const moments = new Map<string, number[]>()
    for (let i = 0; i < 1_000; i++) {
      const id = ids.next()
      const stretch = archiveIdStretch(id)
      moments.set(stretch, [...(moments.get(stretch) ?? []), archiveIdTime(id)])
      clock.advance(10_000)
    }
    expect(moments.size).toBeGreaterThan(5)
    expect([...moments.keys()].sort()).toEqual([...moments.keys()])
    for (const times of moments.values()) expect(times.at(-1)! - times[0]!).toBeLessThan(STRETCH_S * 1_000)
  })

  test('are told from what is none', () => {
    const ids = new ArchiveIds(manualClock(), () => {})
    for (let i = 0; i < 100; i++) expect(isArchiveId(ids.next())).toBe(true)
    const id = ids.next()
    for (const other of ['', id.slice(1), `${id}x`, `~${id.slice(1)}`, id.toUpperCase(), `${id}\n`])
      expect(isArchiveId(other)).toBe(false)
  })
})

import { describe, expect, test } from 'vitest'
import type { Row } from '#table/table.ts'
import { LEASE_MS, type Lease, LeaseWatch, LINK_MS, leaseRow, readLease, SURE_MS } from './leases.ts'

const UP: Lease = { roles: ['router'], host: 'here', sinceMs: 1, applied: { router: 7 }, state: 'up', speaks: 3 }
const row = (version: string, lease: Lease = UP, process = 'a'): Row => leaseRow(process, lease, version)
const never = (error: unknown): void => {
  throw error
}

/** A watch that is handed readings: what was there, when it was asked and when it was answered. */
function watch() {
  const watch = new LeaseWatch()
  const note = (rows: readonly Row[], sentMs: number, nowMs = sentMs, sure = true) => watch.note(rows, sentMs, nowMs, sure, never)
  return { watch, note, dead: () => [...watch.leases].filter(([, { dead }]) => dead).map(([process]) => process) }
}

describe('a lease', () => {
  test('is read as it was written, and keeps what a newer version has added', () => {
    expect(readLease(row('1'))).toEqual(UP)
    expect(readLease(row('1', { ...UP, zone: 'eu' } as Lease))).toEqual({ ...UP, zone: 'eu' })
  })

  test('of an older version has defaults for what is not promised', () => {
    const value = Buffer.from('{"roles":["edge"],"state":"up"}')
    expect(readLease({ ...row('1'), value })).toEqual({
      roles: ['edge'],
      state: 'up',
      host: '',
      sinceMs: 0,
      applied: {},
      speaks: 2,
    })
  })

  test('that is none is refused with the name of its row', () => {
    for (const text of ['', 'null', '[]', '{}', '{"roles":[],"state":"asleep"}', '{"roles":"router","state":"up"}'])
      expect(() => readLease({ ...row('1'), value: Buffer.from(text) })).toThrow('the row o#lease a is no lease')
  })
})

describe('who watches a lease', () => {
  test('takes it for dead when it has not changed for LEASE_MS', () => {
    const { note, dead } = watch()
    for (const ms of [0, 2_000, 4_000, LEASE_MS - 1]) note([row('1')], ms)
    expect(dead()).toEqual([])
    note([row('1')], LEASE_MS)
    expect(dead()).toEqual(['a'])
  })

  test('does not while it changes, and not for what it was before', () => {
    const { note, dead } = watch()
    for (const ms of [0, 3_000, 5_999]) note([row('1')], ms)
    note([row('2')], 6_000)
    for (const ms of [9_000, 11_999]) note([row('2')], ms)
    expect(dead()).toEqual([])
  })

  test('counts from the answer that first brought a version: it may have been written as late as that', () => {
    const { note, dead } = watch()
    note([row('1')], 0, 3_000)
    note([row('1')], 6_000)
    note([row('1')], 8_999)
    expect(dead()).toEqual([])
    note([row('1')], 9_000)
    expect(dead()).toEqual(['a'])
  })

  test('counts up to the question, not to its answer', () => {
    const { note, dead } = watch()
    note([row('1')], 0)
    note([row('1')], 3_000)
    note([row('1')], 3_100, 7_000)
    expect(dead()).toEqual([])
  })

  test('begins anew when it could not read for longer than a process may be sure', () => {
    const { note, dead } = watch()
    note([row('1')], 0)
    note([row('1')], 60_000)
    note([row('1')], 63_000)
    note([row('1')], 60_000 + LEASE_MS - 1)
    expect(dead()).toEqual([])
    note([row('1')], 60_000 + LEASE_MS)
    expect(dead()).toEqual(['a'])
    expect(LEASE_MS).toBeGreaterThan(SURE_MS)
  })

  test('begins anew when it was not sure of itself', () => {
    const { note, dead } = watch()
    for (const ms of [0, 3_000]) note([row('1')], ms)
    note([row('1')], 5_000, 5_000, false)
    for (const ms of [8_000, 10_999]) note([row('1')], ms)
    expect(dead()).toEqual([])
  })

  test('keeps one that is dead so, until it changes', () => {
    const { note, dead } = watch()
    for (const ms of [0, 3_000, 6_000, 60_000]) note([row('1')], ms)
    expect(dead()).toEqual(['a'])
    note([row('2')], 60_001)
    expect(dead()).toEqual([])
  })

  test('takes a broken one for dead at once', () => {
    const { note, dead } = watch()
    note([row('1', { ...UP, state: 'broken' })], 0)
    expect(dead()).toEqual(['a'])
  })

  test('tells one that is gone from one that never was', () => {
    const { watch: leases, note } = watch()
    note([row('1')], 0)
    note([], 1_000)
    expect([leases.isGone('a'), leases.isGone('b'), leases.leases.size]).toEqual([true, false, 0])
    note([row('1')], 2_000)
    expect(leases.isGone('a')).toBe(false)
  })

  test('says whether anything has changed but versions', () => {
    const { note } = watch()
    expect(note([row('1')], 0)).toBe(true)
    expect(note([row('2')], 1_000)).toBe(false)
    expect(note([row('3', { ...UP, state: 'leaving' })], 2_000)).toBe(true)
    expect(note([], 3_000)).toBe(true)
    expect(note([], 4_000)).toBe(false)
  })

  test('keeps what it knew of one that cannot be read, and says so', () => {
    const { watch: leases } = watch()
    const refused: unknown[] = []
    const refuse = (error: unknown) => refused.push(error)
    const spoilt = { ...row('2'), value: Buffer.from('?') }
    leases.note([spoilt], 0, 0, true, refuse)
    expect(leases.leases.size).toBe(0)
    leases.note([row('1')], 1, 1, true, refuse)
    leases.note([spoilt], 2, 2, true, refuse)
    expect(leases.leases.get('a')?.version).toBe('1')
    expect(refused).toHaveLength(2)
  })
})

describe('the link of a process to the bus', () => {
  const CUT: Lease = { ...UP, cut: true }
  const linkOf = ({ watch }: { watch: LeaseWatch }) => watch.leases.get('a')?.link

  test('is there from the first reading on, and believed to be gone only when that has been said for LINK_MS', () => {
    const watched = watch()
    watched.note([row('1')], 0)
    expect(linkOf(watched)).toBe('has')
    watched.note([row('2', CUT)], 2_000)
    expect(linkOf(watched)).toBe('unsure')
    expect(watched.note([row('3', CUT)], 2_000 + LINK_MS - 1)).toBe(false)
    expect(linkOf(watched)).toBe('unsure')
    expect(watched.note([row('4', CUT)], 2_000 + LINK_MS)).toBe(true) // something has changed
    expect(linkOf(watched)).toBe('has not')
  })

  test('is believed to be back in the same way', () => {
    const watched = watch()
    watched.note([row('1', CUT)], 0)
    expect(linkOf(watched)).toBe('unsure')
    watched.note([row('2', CUT)], LINK_MS)
    expect(linkOf(watched)).toBe('has not')
    watched.note([row('3')], LINK_MS + 2_000)
    expect(linkOf(watched)).toBe('unsure')
    watched.note([row('3')], 2 * LINK_MS + 2_000)
    expect(linkOf(watched)).toBe('has')
  })
})

import { describe, expect, test } from 'vitest'
import { memoryTable } from '#table/memory.ts'
import { parseJid } from '#xmpp/jid.ts'
import { manualClock } from '../clock.ts'
import { Commit } from '../commits/commit.ts'
import { directLog } from '../commits/direct-log.ts'
import { silentLog } from '../observing/log.ts'
import { QUIET_MS, READINGS_MAX, Readings, Unread } from './readings.ts'
import { Store } from './store.ts'

const ROMEO = parseJid('romeo@example.org')
const ROWS = new Map([['account', new Unread(Buffer.from('{"n":1}'))]])

describe('a reading', () => {
  test('is taken once', () => {
    const readings = new Readings()
    readings.begin('romeo@example.org').rows = ROWS
    expect(readings.take('romeo@example.org')?.get('account')?.read()).toEqual({ n: 1 })
    expect(readings.take('romeo@example.org')).toBeUndefined()
  })

  test('under way is nothing to take, and is there when it ends', () => {
    const readings = new Readings()
    const reading = readings.begin('romeo@example.org')
    expect(readings.take('romeo@example.org')).toBeUndefined()
    reading.rows = ROWS
    expect(readings.take('romeo@example.org')).toBe(ROWS)
  })

  test('that began before something was written is nobody’s when it ends', () => {
    const readings = new Readings()
    const reading = readings.begin('romeo@example.org')
    readings.drop('romeo@example.org')
    reading.rows = ROWS
    expect(readings.take('romeo@example.org')).toBeUndefined()
  })

  test('makes room for a later one: the oldest goes', () => {
    const readings = new Readings()
    for (let i = 0; i <= READINGS_MAX; i++) readings.begin(`a${i}@example.org`).rows = ROWS
    expect(readings.take('a0@example.org')).toBeUndefined()
    expect(readings.take('a1@example.org')).toBe(ROWS)
  })
})

describe('what another process has read', () => {
  const offered = (before: (readings: Readings, pass: (ms: number) => void) => void): unknown => {
    const clock = manualClock()
    const readings = new Readings(clock)
    before(readings, (ms) => clock.advance(ms))
    readings.offer(ROMEO.bare, { account: '{"n":2}' })
    return readings.take(ROMEO.bare)?.get('account')?.read()
  }

  test('is there to be taken', () => {
    expect(offered(() => {})).toEqual({ n: 2 })
    expect(offered((readings) => readings.drop('juliet@example.org'))).toEqual({ n: 2 })
  })

  test('is not, where something was written here since it may have been read', () => {
    for (const ms of [0, QUIET_MS - 1]) {
      for (const ahead of [0, QUIET_MS / 2, QUIET_MS - 1]) {
        const told = offered((readings, pass) => {
          pass(ahead)
          readings.drop(ROMEO.bare)
          pass(ms)
        })
        expect(told).toBeUndefined()
      }
    }
  })

  test('is again, when that was long ago', () => {
    const told = offered((readings, pass) => {
      readings.drop(ROMEO.bare)
      pass(2 * QUIET_MS)
    })
    expect(told).toEqual({ n: 2 })
  })
})

test('all of some accounts are dropped, and nobody else’s', () => {
  const readings = new Readings()
  for (const account of ['romeo@a', 'juliet@a']) readings.begin(account).rows = ROWS
  readings.dropAll((account) => account === 'romeo@a')
  expect([readings.take('romeo@a'), readings.take('juliet@a')]).toEqual([undefined, ROWS])
})

test('in a role that does not have the account nothing is taken: what has been written since nobody has told here', async () => {
  const table = memoryTable()
  const commit = new Commit(directLog(table, manualClock(), silentLog), silentLog)
  const readings = new Readings()
  const key = { pk: 'a#romeo@example.org', sk: 'account' }
  await table.put({ ...key, version: 'v', value: Buffer.from('{"n":2}') })
  const readsOf = (isHeld: boolean) => {
    readings.begin(ROMEO.bare).rows = ROWS
    const store = new Store(table, commit, [], readings, undefined, { has: () => isHeld })
    return store.record<unknown>('account', null).read(ROMEO, (row) => row)
  }
  expect([await readsOf(true), await readsOf(false)]).toEqual([{ n: 1 }, { n: 2 }])
})

import { setImmediate as turn } from 'node:timers/promises'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { memoryLog } from '../observing/log.ts'
import { Commit, type CommitLog, type Write } from './commit.ts'
import { bytesOf, divide, FLUSH_BYTES, Gathering } from './gathering.ts'

const ACCOUNTS = ['romeo@a', 'juliet@b', 'nurse@b', '#marks']
const put = (account: string, n: number, value: Uint8Array): Write => ({
  put: { pk: `a#${account}`, sk: `${n}`, version: 'v', value },
})

/** `account portion`, of each write in its order. */
function portionsOf({ accounts, portions }: Gathering): string[] {
  return accounts.map((account, i) => `${account} ${portions[i]}`)
}

function placesOf({ accounts, places }: Gathering, of: string): number[] {
  return places.filter((_, i) => accounts[i] === of)
}

/** What its first portion has. */
function firstBytes({ accounts, portions, writes }: Gathering, of: string): number {
  const first = portions[accounts.indexOf(of)]
  return writes.reduce((sum, write, i) => sum + (accounts[i] === of && portions[i] === first ? bytesOf(write) : 0), 0)
}

describe('what of it goes first', () => {
  const staged = fc.record({
    account: fc.constantFrom(...ACCOUNTS),
    bytes: fc.constantFrom(0, 100, 3_000, 20_000),
    newPortion: fc.boolean(),
  })

  test('each account’s first, as far as there is room: nothing lost, divided or out of order, and nobody left out twice', () => {
    fc.assert(
      fc.property(fc.array(staged, { minLength: 1, maxLength: 60 }), fc.constantFrom(1, 5_000, 30_000), (all, bytesMax) => {
        const gathered = new Gathering()
        let portion = 0
        for (const [i, { account, bytes, newPortion }] of all.entries())
          gathered.add(put(account, i, new Uint8Array(bytes)), account, i, newPortion ? ++portion : portion)
        const { now, later } = divide(gathered, bytesMax)
        expect(now.writes.length).toBeGreaterThan(0)
        expect([...now.places, ...later.places].sort((a, b) => a - b)).toEqual(gathered.places)
        expect(portionsOf(now).filter((portion) => portionsOf(later).includes(portion))).toEqual([])
        for (const account of ACCOUNTS)
          expect([...placesOf(now, account), ...placesOf(later, account)]).toEqual(placesOf(gathered, account))
        expect(placesOf(later, '#marks')).toEqual([])
        const ofAccounts = now.accounts.filter((account) => !account.startsWith('#'))
        const bytes = now.writes.reduce((sum, write, i) => sum + (now.accounts[i]!.startsWith('#') ? 0 : bytesOf(write)), 0)
        if (new Set(portionsOf(now).filter((portion) => !portion.startsWith('#'))).size > 1)
          expect(bytes).toBeLessThanOrEqual(bytesMax)
        const leftOut = [...new Set(later.accounts)].filter((account) => !ofAccounts.includes(account))
        for (const account of leftOut) expect(bytes + firstBytes(gathered, account)).toBeGreaterThan(bytesMax)
        expect([...new Set(later.accounts)].slice(0, leftOut.length)).toEqual(leftOut)
      }),
    )
  })

  test('all of what fits', () => {
    const gathered = new Gathering()
    for (const account of ACCOUNTS) gathered.add(put(account, 1, new Uint8Array(10)), account, 1, 1)
    expect(divide(gathered).later.writes).toEqual([])
  })
})

/** A log whose flushes are durable when they are told to be. */
function heldLog() {
  const flushes: { readonly writes: readonly Write[]; end: () => void }[] = []
  const log: CommitLog = {
    versionBytes: 30,
    write: (writes, applied) =>
      new Promise((durable) => {
        const end = (): void => {
          applied()
          durable()
        }
        flushes.push({ writes, end })
      }),
    version: () => 'v',
  }
  return { flushes, commit: new Commit(log, memoryLog()) }
}

const LARGE = new Uint8Array(300_000)
const SMALL = new Uint8Array(100)

test('a small write waits for the flush that is under way, and for no more than its own', async () => {
  const { commit, flushes } = heldLog()
  const seen: string[] = []
  commit.stage('romeo@a', put('romeo@a', 0, SMALL))
  await turn()
  for (let n = 1; n <= 100; n++) {
    commit.stage(n % 2 ? 'romeo@a' : 'nurse@b', put('romeo@a', n, LARGE))
    await turn()
  }
  commit.stage('juliet@b', put('juliet@b', 1, SMALL))
  commit.after('juliet@b', () => seen.push('durable'))
  flushes[0]!.end()
  await turn()
  expect(flushes[1]!.writes.length).toBeLessThan(20)
  expect(flushes[1]!.writes.map((write) => 'put' in write && write.put.pk)).toContain('a#juliet@b')
  flushes[1]!.end()
  await turn()
  expect(seen).toEqual(['durable'])
})

test('the rest of what was staged in turns comes with the next flushes, none of them larger than it should be', async () => {
  const { commit, flushes } = heldLog()
  let settled = false
  commit.stage('romeo@a', put('romeo@a', 0, SMALL))
  await turn()
  for (let n = 1; n <= 50; n++) {
    commit.stage('romeo@a', put('romeo@a', n, LARGE))
    await turn()
  }
  void commit.settled().then(() => (settled = true))
  for (let at = 0; at < flushes.length; at++) {
    expect(settled).toBe(false)
    flushes[at]!.end()
    await turn()
    await turn()
  }
  expect([settled, commit.busy, commit.congested]).toEqual([true, false, false])
  const sizes = flushes.map(({ writes }) => writes.reduce((sum, write) => sum + bytesOf(write), 0))
  expect(Math.max(...sizes)).toBeLessThanOrEqual(FLUSH_BYTES)
  expect(sizes.length).toBe(1 + Math.ceil(50 / Math.floor(FLUSH_BYTES / 300_500)))
})

interface Step {
  readonly kind: 'stage' | 'after' | 'applied' | 'both' | 'turn' | 'end'
  readonly account: string
  readonly large: boolean
}

const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom('stage', 'stage', 'stage', 'stage', 'turn', 'turn', 'after', 'applied', 'both', 'end'),
  account: fc.constantFrom(...ACCOUNTS.slice(0, 3)),
  large: fc.boolean(),
})

test('whatever is staged: an effect runs when all that its account had staged is durable, in order, and in the end each has', async () => {
  const run = async (steps: readonly Step[]): Promise<void> => {
    const { commit, flushes } = heldLog()
    const staged = new Map<string, number>()
    const durable = new Map<string, number>()
    const ran = new Map<string, number[]>()
    let ended = 0
    let effects = 0
    const end = async (): Promise<void> => {
      const flush = flushes[ended]
      if (flush === undefined) return
      ended++
      for (const write of flush.writes) {
        if (!('put' in write)) continue
        const of = write.put.pk.slice(2)
        expect(Number(write.put.sk), 'the order of an account').toBe((durable.get(of) ?? 0) + 1)
        durable.set(of, Number(write.put.sk))
      }
      flush.end()
      await turn()
    }
    const expectDurable = (of: string, upTo: number, id: number, list: string): void => {
      expect(durable.get(of) ?? 0, `${of} effect ${id}`).toBeGreaterThanOrEqual(upTo)
      const before = ran.get(list) ?? []
      if (before.length > 0) expect(id).toBeGreaterThan(before.at(-1)!)
      ran.set(list, [...before, id])
      effects--
    }
    for (const [id, step] of steps.entries()) {
      if (step.kind === 'turn') await turn()
      else if (step.kind === 'end') await end()
      else if (step.kind === 'stage') {
        const n = (staged.get(step.account) ?? 0) + 1
        staged.set(step.account, n)
        commit.stage(step.account, put(step.account, n, step.large ? LARGE : SMALL))
      } else {
        const { account: of, kind } = step
        const upTo = staged.get(of) ?? 0
        effects++
        if (kind === 'after') commit.after(of, () => expectDurable(of, upTo, id, `after ${of}`))
        else if (kind === 'applied') commit.afterApplied(of, () => expectDurable(of, upTo, id, `applied ${of}`))
        else commit.afterBoth(of, 'nurse@b', () => expectDurable(of, upTo, id, `both ${of}`))
      }
    }
    const settled = commit.settled()
    const drained = commit.drained()
    for (await turn(); ended < flushes.length; ) await end()
    await Promise.all([settled, drained])
    expect([durable, effects, commit.busy]).toEqual([staged, 0, false])
  }
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 120 }), fc.integer({ min: 1, max: 3 }), (steps, times) =>
      run(Array.from({ length: times }, () => steps).flat()),
    ),
    { numRuns: 60 },
  )
})

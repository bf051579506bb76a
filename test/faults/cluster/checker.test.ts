// The checker must be able to fail: what it is there to find is put before it. What ledger.ts finds, ledger.test.ts shows.
import { beforeEach, describe, expect, test } from 'vitest'
import { Checker, type Message } from './checker.ts'

const ROMEO = 'romeo@localhost'
const JULIET = 'juliet@localhost'
/** When sessions began: as the first message is said. */
const SINCE = 0

let checker: Checker
let one: Message
let two: Message

beforeEach(() => {
  checker = new Checker()
  one = checker.say(ROMEO, JULIET, 0)
  two = checker.say(ROMEO, JULIET, 1)
  for (const account of [ROMEO, JULIET]) checker.archives.set(account, [])
})

function archived(...messages: Message[]): void {
  for (const account of [ROMEO, JULIET])
    checker.archives.set(
      account,
      messages.map(({ id }, n) => ({ id, archiveId: `a${n}` })),
    )
}

const faults = () => checker.faults(checker.snapshot())

describe('the checker of the cluster', () => {
  test('finds nothing where all is well', () => {
    one.acked = two.acked = true
    checker.see(JULIET, 'first', SINCE, one.id, 'a0')
    checker.see(JULIET, 'first', SINCE, two.id, 'a1')
    archived(one, two)
    expect(faults()).toEqual([])
    expect(checker.faultsOfWhole(JULIET, [...checker.archives.get(JULIET)!, { id: 'later', archiveId: 'a9' }])).toEqual([])
  })

  test('finds what was acknowledged and is lost, and tells it once', () => {
    one.acked = two.acked = true
    archived(one)
    expect(faults()).toEqual([ROMEO, JULIET].map((account) => `${two.id} was acknowledged and is not in ${account}`))
    expect(faults()).toEqual([])
  })

  test('asks of an archive only what was acknowledged before it was read', () => {
    one.acked = true
    const before = checker.snapshot()
    two.acked = true
    archived(one)
    expect(checker.faults(before)).toEqual([])
    expect(faults()).toHaveLength(2)
  })

  test('does not ask for what was refused with an error, and finds an error for what was never said', () => {
    one.acked = true
    checker.refuse(one.id, 'resource-constraint', 'wait')
    checker.refuse('nothing-1', 'resource-constraint', 'wait')
    expect(faults()).toEqual(['an error came back for nothing-1, which nobody has said'])
  })

  test('finds a refusal after which there is no trying again', () => {
    checker.refuse(one.id, 'service-unavailable', 'cancel')
    expect(faults()).toEqual([`${one.id} was refused for good: service-unavailable (cancel)`])
  })

  test('finds what is shown twice under two stanza-ids, and counts what is shown again under the same', () => {
    for (const session of ['first', 'second']) checker.see(JULIET, session, SINCE, one.id, 'a0')
    archived(one)
    expect(faults()).toEqual([])
    expect(checker.again).toBe(0)
    checker.see(JULIET, 'second', SINCE, one.id, 'a0')
    expect(faults()).toEqual([])
    expect(checker.again).toBe(1)
    checker.see(JULIET, 'second', SINCE, one.id, 'a1')
    expect(faults()).toContain(`${one.id} was shown twice to second, as a0 and as a1`)
  })

  test('finds a message that overtakes another of its sender', () => {
    checker.see(JULIET, 'first', SINCE, two.id, 'a1')
    checker.see(JULIET, 'first', SINCE, one.id, 'a0')
    archived(one, two)
    expect(faults()).toEqual([`${one.id} was shown to first behind number 2`])
    expect(checker.late).toBe(0)
  })

  test('counts what was said before the session began and comes late', () => {
    checker.see(JULIET, 'first', SINCE + 1, two.id, 'a1')
    checker.see(JULIET, 'first', SINCE + 1, one.id, 'a0')
    archived(one, two)
    expect(faults()).toEqual([])
    expect(checker.late).toBe(1)
  })

  test('finds what was said to somebody else, or by nobody', () => {
    checker.see(ROMEO, 'first', SINCE, one.id, 'a0')
    checker.see(ROMEO, 'first', SINCE, 'nobody-1', 'a1')
    expect(faults()).toHaveLength(2)
  })

  test('finds what appears in an archive behind what was shown of it, and what vanishes', () => {
    archived(two)
    expect(checker.faultsOfWhole(JULIET, [{ id: one.id, archiveId: 'A' }, ...checker.archives.get(JULIET)!])).toEqual([
      `in the archive of ${JULIET}, at 0, there is ${one.id} (A), where ${two.id} (a0) was shown before`,
    ])
    expect(checker.faultsOfWhole(ROMEO, [])).toEqual([
      `in the archive of ${ROMEO}, at 0, there is nothing, where ${two.id} (a0) was shown before`,
    ])
  })
})

import { describe, expect, test } from 'vitest'
import { TableUnavailable } from '#table/table.ts'
import { manualClock } from '../clock.ts'
import { memoryLog } from '../observing/log.ts'
import { ACCOUNT_WAITING_BYTES_MAX, Mailboxes, WAITING_BYTES_MAX } from './mailbox.ts'

function setUp() {
  const clock = manualClock()
  const log = memoryLog()
  return { clock, log, mailboxes: new Mailboxes(clock, log) }
}

/** A task that waits until it is let go. */
function gate(): { task: () => Promise<void>; open: () => void } {
  let open = () => {}
  const opened = new Promise<void>((resolve) => (open = resolve))
  return { task: () => opened, open: () => open() }
}

describe('one account', () => {
  test('a task that answers at once is run at once', () => {
    const { mailboxes } = setUp()
    const ran: number[] = []
    mailboxes.run('romeo@a', () => void ran.push(1))
    expect(ran).toEqual([1])
    expect([mailboxes.busy, mailboxes.idle('romeo@a')]).toEqual([0, true])
  })

  test('tasks run one behind the other, in the order they came', async () => {
    const { mailboxes, clock } = setUp()
    const ran: string[] = []
    const first = gate()
    const third = gate()
    mailboxes.run('romeo@a', () => first.task().then(() => void ran.push('first')))
    mailboxes.run('romeo@a', () => void ran.push('second'))
    mailboxes.run('romeo@a', () => third.task().then(() => void ran.push('third')))
    mailboxes.run('romeo@a', () => void ran.push('fourth'))
    third.open()
    await clock.settle()
    expect([ran, mailboxes.idle('romeo@a')]).toEqual([[], false])
    first.open()
    await clock.settle()
    expect(ran).toEqual(['first', 'second', 'third', 'fourth'])
    expect([mailboxes.busy, mailboxes.idle('romeo@a')]).toEqual([0, true])
  })

  test('does not hold up another', () => {
    const { mailboxes } = setUp()
    let ran = false
    mailboxes.run('romeo@a', gate().task)
    mailboxes.run('juliet@b', () => {
      ran = true
    })
    expect([ran, mailboxes.busy]).toEqual([true, 1])
  })

  test.each([
    [
      'throws',
      () => {
        throw new Error('our own bug')
      },
    ],
    ['rejects', () => Promise.reject(new Error('our own bug'))],
  ])('a task that %s is logged and dropped, and the next runs', async (_how, broken) => {
    const { mailboxes, clock, log } = setUp()
    let ran = false
    mailboxes.run('romeo@a', broken)
    mailboxes.run('romeo@a', () => {
      ran = true
    })
    await clock.settle()
    expect(ran).toBe(true)
    expect(log.lines).toMatchObject([{ level: 'error', event: 'task.broke' }])
  })
})

describe('a table that is away', () => {
  test.each(['throws', 'rejects'])(
    'parks the account: the task that %s runs again until it passes, the next wait',
    async (how) => {
      const { mailboxes, clock, log } = setUp()
      const ran: string[] = []
      let tries = 0
      mailboxes.run('romeo@a', () => {
        if (++tries <= 3) {
          if (how === 'throws') throw new TableUnavailable('away')
          return Promise.reject(new TableUnavailable('away'))
        }
        ran.push('first')
      })
      mailboxes.run('romeo@a', () => void ran.push('second'))
      mailboxes.run('juliet@b', () => void ran.push('another account'))
      await clock.settle()
      expect([ran, tries]).toEqual([['another account'], 1])
      await clock.settle(60_000)
      expect([ran, tries]).toEqual([['another account', 'first', 'second'], 4])
      expect(log.lines.map(({ event }) => event)).toEqual(['account.parked', 'account.parked', 'account.parked'])
    },
  )

  test('the pauses grow, and not without end', async () => {
    const { mailboxes, clock, log } = setUp()
    mailboxes.run('romeo@a', () => Promise.reject(new TableUnavailable('away')))
    await clock.settle(60_000)
    const pauses = log.lines.map(({ fields }) => fields.pauseMs as number)
    expect(pauses.slice(0, 4)).toEqual([50, 100, 200, 400])
    expect(Math.max(...pauses)).toBe(5_000)
  })
})

describe('what waits is bounded', () => {
  const HALF = ACCOUNT_WAITING_BYTES_MAX / 2

  test('by the bytes of one account: others have room, and so has this one once it has been worked off', async () => {
    const { mailboxes, clock, log } = setUp()
    const first = gate()
    mailboxes.run('romeo@a', first.task)
    expect(mailboxes.hasRoom('romeo@a', HALF)).toBe(true)
    mailboxes.run('romeo@a', () => {}, HALF)
    expect([mailboxes.hasRoom('romeo@a', 1_000), mailboxes.hasRoom('romeo@a', HALF)]).toEqual([true, false])
    expect(mailboxes.hasRoom('juliet@b', HALF)).toBe(true)
    mailboxes.hasRoom('romeo@a', HALF)
    expect(log.lines).toMatchObject([{ level: 'warn', event: 'account.full', fields: { account: 'romeo@a', waiting: 1 } }])
    first.open()
    await clock.settle()
    expect([mailboxes.hasRoom('romeo@a', HALF), mailboxes.busy]).toEqual([true, 0])
  })

  test('by their number: a task without bytes costs something, too', () => {
    const { mailboxes } = setUp()
    mailboxes.run('romeo@a', gate().task)
    let waiting = 0
    while (mailboxes.hasRoom('romeo@a', 0)) {
      mailboxes.run('romeo@a', () => {})
      waiting++
    }
    expect(waiting).toBeGreaterThan(1_000)
    expect(waiting).toBeLessThan(20_000)
  })

  test('by the bytes of all accounts together, which come back as they are worked off', async () => {
    const { mailboxes, clock } = setUp()
    const gates = Array.from({ length: 40 }, gate)
    let full = 0
    for (const [i, { task }] of gates.entries()) {
      mailboxes.run(`${i}@a`, task)
      if (mailboxes.hasRoom(`${i}@a`, HALF)) mailboxes.run(`${i}@a`, () => {}, HALF)
      else full++
    }
    expect(full).toBeGreaterThanOrEqual(40 - WAITING_BYTES_MAX / HALF)
    expect(full).toBeLessThan(40)
    for (const { open } of gates) open()
    await clock.settle()
    mailboxes.run('0@a', gate().task)
    expect(mailboxes.hasRoom('0@a', HALF)).toBe(true)
  })

  test('what must be done is run all the same', async () => {
    const { mailboxes, clock } = setUp()
    const first = gate()
    let ran = false
    mailboxes.run('romeo@a', first.task)
    mailboxes.run('romeo@a', () => {}, ACCOUNT_WAITING_BYTES_MAX)
    expect(mailboxes.hasRoom('romeo@a', 0)).toBe(false)
    mailboxes.run('romeo@a', () => {
      ran = true
    })
    first.open()
    await clock.settle()
    expect(ran).toBe(true)
  })
})

describe('accounts that have another owner', () => {
  const romeos = (account: string) => account.startsWith('romeo')

  test('are waited for: those that wait for something now, and no others', async () => {
    const { mailboxes, clock } = setUp()
    const [romeo, juliet] = [gate(), gate()]
    let isSettled = false
    await mailboxes.settledOf(romeos)
    mailboxes.run('romeo@a', romeo.task)
    mailboxes.run('juliet@a', juliet.task)
    void mailboxes.settledOf(romeos).then(() => {
      isSettled = true
    })
    expect([mailboxes.anyOf(romeos), mailboxes.anyOf(() => false)]).toEqual([true, false])
    await clock.settle(100)
    expect(isSettled).toBe(false)
    romeo.open()
    await clock.settle()
    expect([isSettled, mailboxes.anyOf(romeos), mailboxes.busy]).toEqual([true, false, 1])
  })

  test('are dropped with all that waits for them; what runs is not tried again, and one can wait for its end', async () => {
    const { mailboxes, clock, log } = setUp()
    const ran: string[] = []
    let fail = (_error: Error): void => {}
    mailboxes.run('romeo@a', () => {
      ran.push('first')
      return new Promise((_resolve, reject) => {
        fail = reject
      })
    })
    mailboxes.run('romeo@a', () => void ran.push('second'), ACCOUNT_WAITING_BYTES_MAX)
    const juliet = gate()
    mailboxes.run('juliet@a', juliet.task)
    mailboxes.run('juliet@a', () => void ran.push('hers'))
    mailboxes.drop(romeos)
    expect([mailboxes.busy, mailboxes.idle('romeo@a'), mailboxes.hasRoom('romeo@a', 0)]).toEqual([1, true, true])
    let isOver = false
    void mailboxes.stragglersOver().then(() => {
      isOver = true
    })
    await clock.settle(100)
    expect(isOver).toBe(false)
    fail(new TableUnavailable('away'))
    await clock.settle(10_000)
    juliet.open()
    await clock.settle()
    expect([isOver, ran, log.lines.map(({ event }) => event)]).toEqual([true, ['first', 'hers'], []])
    await mailboxes.stragglersOver()
  })

  test('that are dropped while they wait to be tried again are not', async () => {
    const { mailboxes, clock } = setUp()
    let tries = 0
    mailboxes.run('romeo@a', async () => {
      tries++
      throw new TableUnavailable('away')
    })
    await clock.settle()
    mailboxes.drop(romeos)
    await clock.settle(10_000)
    await mailboxes.stragglersOver()
    expect(tries).toBe(1)
  })
})

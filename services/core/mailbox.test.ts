import { describe, expect, test } from 'vitest'
import { TableUnavailable } from '#table/table.ts'
import { manualClock } from './clock.ts'
import { memoryLog } from './log.ts'
import { Mailboxes } from './mailbox.ts'

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

// The closing line of a test run: what must never be counted as success.
import { describe, expect, test } from 'vitest'
import { closingLine, type Report, slowest, tally } from './tally.ts'

function report(...files: [status: string, ...tests: string[]][]): Report {
  return {
    testResults: files.map(([status, ...tests], index) => ({
      name: `/project/test/${index}.test.ts`,
      status,
      startTime: 0,
      endTime: 1000 * (index + 1),
      assertionResults: tests.map((test) => ({ status: test })),
    })),
  }
}

describe('the closing line', () => {
  test('counts passed, failed and skipped tests of all files', () => {
    const counted = tally(report(['passed', 'passed', 'skipped', 'todo', 'pending'], ['failed', 'failed', 'passed']), 0, 1)
    expect(closingLine(counted)).toBe('2 passed, 1 failed, 3 skipped')
    expect(counted.faults).toEqual([])
  })

  test('a run in which all is well has no failure', () => {
    expect(closingLine(tally(report(['passed', 'passed']), 0, 0))).toBe('1 passed, 0 failed, 0 skipped')
  })

  test('a file that could not be loaded is a failure', () => {
    const counted = tally(report(['passed', 'passed'], ['failed']), 0, 1)
    expect(counted).toMatchObject({ passed: 1, failed: 1 })
    expect(counted.faults).toEqual(['/project/test/1.test.ts failed outside its tests'])
  })

  test('a failing check is a failure', () => {
    expect(tally(report(['passed', 'passed']), 1, 0)).toMatchObject({ failed: 1, faults: ['the checks failed'] })
  })

  test('no report is a failure', () => {
    expect(tally(undefined, 0, 0)).toMatchObject({ failed: 1, faults: ['vitest wrote no report'] })
  })

  test('a run of no test, or of skipped ones only, is a failure', () => {
    expect(tally(report(), 0, 0)).toMatchObject({ failed: 1, faults: ['no test ran'] })
    expect(tally(report(['passed', 'skipped']), 0, 0)).toMatchObject({ failed: 1, faults: ['no test ran'] })
  })

  test('vitest failing although no test did (an unhandled rejection) is a failure', () => {
    expect(tally(report(['passed', 'passed']), 0, 1).failed).toBe(1)
  })
})

test('the slowest file comes first', () => {
  expect(slowest(report(['passed'], ['passed']), '/project')).toEqual([
    '2 test files, 3.0 s in all; the slowest:',
    '     2.0 s  test/1.test.ts',
    '     1.0 s  test/0.test.ts',
  ])
})

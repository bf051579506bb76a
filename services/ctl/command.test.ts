import { describe, expect, test } from 'vitest'
import { parseCommand, parseOptions, UsageError, usage } from './command.ts'

describe('the command', () => {
  test.each([
    [[], { name: 'help', rest: [] }],
    [['--help'], { name: 'help', rest: [] }],
    [['-h'], { name: 'help', rest: [] }],
    [['run', '--config', 'a.yaml'], { name: 'run', rest: ['--config', 'a.yaml'] }],
    [['user', 'add', 'romeo@localhost'], { name: 'user', rest: ['add', 'romeo@localhost'] }],
  ])('%j', (args, expected) => {
    expect(parseCommand(args)).toEqual(expected)
  })
})

describe('options and words', () => {
  test.each([
    [['--config', 'a.yaml'], { config: 'a.yaml' }, []],
    [['--config=a.yaml', 'word'], { config: 'a.yaml' }, ['word']],
    [['word', '--config', 'a.yaml', 'more'], { config: 'a.yaml' }, ['word', 'more']],
    [['--', '-name@localhost'], {}, ['-name@localhost']],
    [['--config='], { config: '' }, []],
  ])('%j', (args, options, words) => {
    const parsed = parseOptions(args, ['config'])
    expect({ ...parsed.options }).toEqual(options)
    expect(parsed.words).toEqual(words)
  })

  test.each([[['--colour']], [['--password', 'x']], [['--config']], [['-c', 'a.yaml']]])('%j is refused', (args) => {
    expect(() => parseOptions(args, ['config'])).toThrow(UsageError)
  })
})

test('the usage shows every command', () => {
  for (const command of ['run', 'check', 'user add', 'user passwd', 'user list', 'user remove'])
    expect(usage()).toContain(`  ${command} `)
})

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createLog, type LogLevel, memoryLog, prettyLine, silentLog } from './log.ts'

function recorded(level: LogLevel = 'debug') {
  const raw: string[] = []
  const log = createLog({ level, pretty: false, write: (line) => raw.push(line) })
  const last = () => JSON.parse(raw.at(-1)!) as Record<string, unknown>
  return { log, raw, last }
}

describe('a line', () => {
  test('is one JSON object with level, time, event and the fields', () => {
    const { log, raw, last } = recorded()
    log.info('session.bound', { jid: 'romeo@example.org/garden', tookMs: 3 })
    expect(raw).toHaveLength(1)
    expect(raw[0]).toMatch(/^\{.*\}\n$/)
    expect(last()).toEqual({
      level: 'info',
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      event: 'session.bound',
      jid: 'romeo@example.org/garden',
      tookMs: 3,
    })
  })

  test('has the fields of its child, and its own where both have one', () => {
    const { log, last } = recorded()
    log.child({ process: 'p1', module: 'mam' }).child({ module: 'roster' }).warn('x.happened', { n: 1 })
    expect(last()).toMatchObject({ level: 'warn', process: 'p1', module: 'roster', n: 1 })
    log.child({ n: 1 }).info('x.happened', { n: 2 })
    expect(last()).toMatchObject({ n: 2 })
  })

  test('has every key once, also where a field is called level, time or event', () => {
    const { log, raw, last } = recorded()
    log.info('real', { level: 'a', time: 'b', event: 'c' })
    expect(last()).toMatchObject({ level: 'info', event: 'real', level_: 'a', time_: 'b', event_: 'c' })
    expect(raw[0]!.match(/"event":/g)).toHaveLength(1)
  })
})

describe('whatever is handed in becomes one line', () => {
  test('control characters, line feeds and half surrogate pairs', () => {
    const { log, raw, last } = recorded()
    log.info('odd\nevent', { text: 'a\r\n\u0000\u001b[31m\u2028', half: 'x\ud800y', 'a"b\nc': 1 })
    expect(raw[0]!.split('\n')).toHaveLength(2)
    expect(last()).toMatchObject({ event: 'odd\nevent', text: 'a\r\n\u0000\u001b[31m\u2028', half: 'x\ufffdy', a_b_c: 1 })
    expect(Buffer.from(raw[0]!, 'utf8').toString('utf8')).toBe(raw[0])
  })

  test('an error keeps its name, message, stack, code and causes', () => {
    const { log, last } = recorded()
    const deep = Object.assign(new RangeError('disk full'), { code: 'ENOSPC' })
    log.error('commit.failed', { error: new Error('not written', { cause: deep }) })
    expect(last().error).toMatchObject({
      name: 'Error',
      message: 'not written',
      stack: expect.stringContaining('log.test.ts'),
      cause: { name: 'RangeError', message: 'disk full', code: 'ENOSPC' },
    })
  })

  test('an error as the fields, and several errors in one', () => {
    const { log, last } = recorded()
    log.error('x.failed', new AggregateError([new Error('one'), 'two'], 'both'))
    expect(last().error).toMatchObject({ message: 'both', errors: [{ message: 'one' }, 'two'] })
  })

  test('circles, also of an error that is its own cause, but not what is merely shared', () => {
    const { log, last } = recorded()
    const circle: Record<string, unknown> = { n: 1n }
    circle.self = circle
    const fault = new Error('x')
    fault.cause = fault
    const shared = { a: 1 }
    log.info('x.happened', { circle, fault, left: shared, right: shared })
    expect(last()).toMatchObject({
      circle: { n: '1', self: '[circular]' },
      fault: { cause: '[circular]' },
      left: { a: 1 },
      right: { a: 1 },
    })
  })

  test('lists in lists, each of which is short enough, made a line of gigabytes', () => {
    const { log, raw, last } = recorded()
    const hundred = (inner: unknown): unknown[] => Array.from({ length: 100 }, () => inner)
    log.info('x.happened', { lists: hundred(hundred(hundred('x'.repeat(1_000)))) })
    expect(raw[0]!.length).toBeLessThan(1_000_000)
    log.info('x.happened', { after: 'it' })
    expect(last()).toMatchObject({ after: 'it' })
  })

  test('half a surrogate pair in the name of the event', () => {
    const { log, last } = recorded()
    log.info('x.\udfff')
    expect(last().event).toBe('x.\ufffd')
  })

  test('what JSON has no word for', () => {
    const { log, last } = recorded()
    log.info('x.happened', {
      big: 2n ** 70n,
      nan: Number.NaN,
      missing: undefined,
      none: null,
      call: Symbol('s'),
      date: new Date(0),
      never: new Date(Number.NaN),
      bytes: new Uint8Array(3),
      map: new Map([['k', new Set([1])]]),
      url: new URL('http://localhost/'),
    })
    expect(last()).toMatchObject({
      big: '1180591620717411303424',
      nan: 'NaN',
      none: null,
      call: 'Symbol(s)',
      date: '1970-01-01T00:00:00.000Z',
      never: 'Invalid Date',
      bytes: '[3 bytes]',
      map: { k: [1] },
      url: 'http://localhost/',
    })
    expect(last()).not.toHaveProperty('missing')
  })

  test('getters, proxies and toString that throw', () => {
    const { log, last } = recorded()
    const thrower = () => {
      throw new Error('no')
    }
    const proxy = new Proxy({}, { ownKeys: thrower, get: thrower })
    log.info('x.happened', {
      get bad() {
        return thrower()
      },
      proxy,
      text: { toString: thrower },
      good: 1,
    })
    expect(last()).toMatchObject({ bad: '[unreadable]', proxy: '[unreadable]', text: '[unreadable]', good: 1 })
    log.info('x.happened', proxy)
    expect(last()).toMatchObject({ value: '[unreadable]' })
  })

  test('too much of anything is cut and says so', () => {
    const { log, raw, last } = recorded()
    let deep: unknown = 'bottom'
    for (let i = 0; i < 50; i++) deep = { deep }
    log.info('x.happened', { text: 'x'.repeat(1_000_000), list: Array.from({ length: 5000 }, () => 0), deep })
    expect(raw[0]!.length).toBeLessThan(10_000)
    expect(last().text).toMatch(/\[991808 more\]$/)
    expect((last().list as unknown[]).at(-1)).toBe('[4900 more]')
    expect(JSON.stringify(last().deep)).toContain('[deeper]')
  })

  test('__proto__ is a field as any other', () => {
    const { log, last } = recorded()
    log.info('x.happened', { inner: JSON.parse('{"__proto__":{"a":1}}') })
    expect(Object.keys(last().inner as object)).toEqual(['__proto__'])
  })

  test('any value at all', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary' }),
        fc.anything({ withBigInt: true, withDate: true, withMap: true }),
        (event, value) => {
          const { log, raw } = recorded()
          log.child({ value }).info(event, value as object)
          const lines = raw.join('').split('\n')
          if (lines.length !== 2) return false
          prettyLine(lines[0]!)
          return JSON.parse(lines[0]!).event !== undefined
        },
      ),
      { numRuns: 300 },
    )
  })
})

describe('levels', () => {
  test('what is below the level is not written, and costs no look at its fields', () => {
    const { log, raw } = recorded('warn')
    const fields = {
      get costly(): never {
        throw new Error('looked')
      },
    }
    log.debug('a', fields)
    log.info('b', fields)
    expect(raw).toEqual([])
    log.warn('c')
    log.error('d')
    expect(raw).toHaveLength(2)
  })

  test('debugging tells whether debug does anything, in a child too', () => {
    expect(recorded('debug').log.child({}).debugging).toBe(true)
    expect(recorded('info').log.debugging).toBe(false)
    expect(silentLog.debugging).toBe(false)
  })
})

describe('for people', () => {
  const pretty = (fields: object) => {
    let text = ''
    createLog({ pretty: true, write: (line) => (text += line) }).info('session.bound', fields)
    return text.replace(/\u001b\[\d+m/g, '')
  }

  test('time, level, event and fields, on one line', () => {
    expect(pretty({ jid: 'romeo@example.org/garden', tookMs: 3, note: 'two words' })).toMatch(
      /^\d\d:\d\d:\d\d\.\d{3} info {2}session\.bound jid=romeo@example\.org\/garden tookMs=3 note="two words"\n$/,
    )
  })

  test('a stack is below its line, and so are those of the causes', () => {
    const text = pretty({ error: new Error('outer', { cause: new Error('inner') }) })
    expect(text).toMatch(/error=outer\n {2}Error: outer\n {6}at /)
    expect(text).toMatch(/caused by:\n {2}Error: inner\n/)
  })

  test('nothing that a terminal would obey gets through', () => {
    const text = pretty({
      a: '\u001b]0;title\u0007',
      b: '\u009b31m',
      c: 'x\u202ey',
      d: 'l\u2028m',
      error: new Error('\u001b[2J\r'),
    })
    expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028\u202e]/)
    expect(text).toContain('\\u202e')
  })
})

test('the memory log keeps level, event and fields, of children too', () => {
  const log = memoryLog()
  log.child({ module: 'mam' }).warn('hook.failed', { error: new Error('x') })
  expect(log.lines).toMatchObject([{ level: 'warn', event: 'hook.failed', fields: { module: 'mam', error: { message: 'x' } } }])
})

function linesOf(script: string): { event: string; i: number }[] {
  const file = fileURLToPath(new URL('./log.ts', import.meta.url))
  const whole = `const { createLog } = await import(${JSON.stringify(file)}); const log = createLog(); ${script}`
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', whole], { encoding: 'utf8' })
  expect(stderr).toBe('')
  return stdout
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line))
}

test('lines reach standard output before a process ends that flushes its log', () => {
  const lines = linesOf(`for (let i = 0; i < 2000; i++) log.info('line.written', { i }); log.flush(); process.exit(0)`)
  expect(lines).toHaveLength(2000)
  expect(lines.at(-1)).toMatchObject({ event: 'line.written', i: 1999 })
})

test('lines that are gathered are written although nothing comes behind them', () => {
  expect(linesOf(`log.info('line.written', { i: 1 })`)).toMatchObject([{ event: 'line.written', i: 1 }])
})

test('a warning takes what was gathered along, in order, and does not wait', () => {
  const script = `globalThis.setTimeout = () => {} // so that nothing else has it written
    log.info('line.written', { i: 1 }); log.warn('line.written', { i: 2 })`
  expect(linesOf(script).map(({ i }) => i)).toEqual([1, 2])
})

import { describe, expect, test } from 'vitest'
import { Metrics, SERIES_MAX } from './metrics.ts'

/** The lines of one metric, comments included. */
function linesOf(metrics: Metrics, name: string): string[] {
  return metrics
    .text()
    .split('\n')
    .filter((line) => line.startsWith(name) || line.startsWith(`# HELP ${name} `) || line.startsWith(`# TYPE ${name} `))
}

describe('the Prometheus text format', () => {
  test('a counter has its HELP and TYPE lines, and one line for each set of labels', () => {
    const metrics = new Metrics()
    const stanzas = metrics.counter('stanzas_total', 'Stanzas taken from clients.', ['name'])
    stanzas.labels('message').inc()
    stanzas.labels('iq').inc(3)
    stanzas.labels('message').inc()
    expect(metrics.text()).toBe(
      '# HELP rookery_stanzas_total Stanzas taken from clients.\n' +
        '# TYPE rookery_stanzas_total counter\n' +
        'rookery_stanzas_total{name="message"} 2\n' +
        'rookery_stanzas_total{name="iq"} 3\n',
    )
  })

  test('a counter without labels is there from the start, at 0', () => {
    const metrics = new Metrics()
    const lost = metrics.counter('lost_total', 'x')
    expect(linesOf(metrics, 'rookery_lost_total')).toContain('rookery_lost_total 0')
    lost.inc()
    expect(linesOf(metrics, 'rookery_lost_total')).toContain('rookery_lost_total 1')
  })

  test('backslash, quote and line feed are escaped in a label, backslash and line feed in the doc', () => {
    const metrics = new Metrics()
    metrics.gauge('odd', 'a \\ b\nc "d"', ['value']).labels('a\\b\n"c"').set(1)
    expect(metrics.text()).toBe(
      '# HELP rookery_odd a \\\\ b\\nc "d"\n# TYPE rookery_odd gauge\nrookery_odd{value="a\\\\b\\n\\"c\\""} 1\n',
    )
  })

  test('the buckets of a histogram are cumulative, a bound belongs to its bucket, and +Inf equals the count', () => {
    const metrics = new Metrics()
    const took = metrics.histogram('took_seconds', 'x', ['op'], [0.1, 1, 5]).labels('put')
    for (const value of [0.05, 0.1, 0.5, 1, 4, 100]) took.observe(value)
    expect(linesOf(metrics, 'rookery_took_seconds').slice(2)).toEqual([
      'rookery_took_seconds_bucket{op="put",le="0.1"} 2',
      'rookery_took_seconds_bucket{op="put",le="1"} 4',
      'rookery_took_seconds_bucket{op="put",le="5"} 5',
      'rookery_took_seconds_bucket{op="put",le="+Inf"} 6',
      'rookery_took_seconds_sum{op="put"} 105.65',
      'rookery_took_seconds_count{op="put"} 6',
    ])
  })

  test('a histogram without labels has le alone', () => {
    const metrics = new Metrics()
    metrics.histogram('bytes', 'x', [], [10]).observe(3)
    expect(linesOf(metrics, 'rookery_bytes').slice(2)).toEqual([
      'rookery_bytes_bucket{le="10"} 1',
      'rookery_bytes_bucket{le="+Inf"} 1',
      'rookery_bytes_sum 3',
      'rookery_bytes_count 1',
    ])
  })

  test('a gauge goes up and down, and can be infinite or no number', () => {
    const metrics = new Metrics()
    const gauge = metrics.gauge('level', 'x')
    gauge.inc(5)
    gauge.dec(2)
    expect(linesOf(metrics, 'rookery_level')).toContain('rookery_level 3')
    gauge.set(-Infinity)
    expect(linesOf(metrics, 'rookery_level')).toContain('rookery_level -Inf')
    gauge.set(Number.NaN)
    expect(linesOf(metrics, 'rookery_level')).toContain('rookery_level NaN')
  })

  test('a watched gauge is asked when the page is read, and may have nothing to say', () => {
    const metrics = new Metrics()
    let sessions: number | undefined = 7
    metrics.watch('sessions', 'Bound sessions.', () => sessions)
    expect(linesOf(metrics, 'rookery_sessions')).toContain('rookery_sessions 7')
    sessions = undefined
    expect(linesOf(metrics, 'rookery_sessions')).toHaveLength(2)
  })

  test('so is a counter that somebody else counts', () => {
    const metrics = new Metrics()
    const sent = { bodies: 7 }
    metrics.watchTotal('bodies_total', 'Bodies sent.', () => sent.bodies)
    expect(linesOf(metrics, 'rookery_bodies_total')).toEqual(
      expect.arrayContaining(['# TYPE rookery_bodies_total counter', 'rookery_bodies_total 7']),
    )
    expect(() => metrics.watchTotal('bodies', 'Bodies sent.', () => 0)).toThrow('must end in _total')
  })
})

describe('registration', () => {
  test('the same name, kind and labels give the same counter', () => {
    const metrics = new Metrics()
    metrics.counter('a_total', 'x', ['l']).labels('v').inc()
    metrics.counter('a_total', 'x', ['l']).labels('v').inc()
    expect(linesOf(metrics, 'rookery_a_total')).toContain('rookery_a_total{l="v"} 2')
  })

  test.each([
    ['another kind', (m: Metrics) => m.gauge('a_total', 'x')],
    ['other labels', (m: Metrics) => m.counter('a_total', 'x', ['l'])],
    ['a counter that is not called _total', (m: Metrics) => m.counter('b', 'x')],
    ['a name Prometheus would not read', (m: Metrics) => m.gauge('a-b', 'x')],
    ['le as a label', (m: Metrics) => m.histogram('h', 'x', ['le'])],
    ['bounds that do not rise', (m: Metrics) => m.histogram('h', 'x', [], [1, 1])],
    ['a label too few', (m: Metrics) => m.gauge('g', 'x', ['a', 'b']).labels('1')],
  ])('%s is refused', (_name, register) => {
    const metrics = new Metrics()
    metrics.counter('a_total', 'x')
    expect(() => register(metrics)).toThrow()
  })

  test('labels past the maximum are counted together as other, so that the page cannot grow for ever', () => {
    const metrics = new Metrics()
    const family = metrics.counter('a_total', 'x', ['l'])
    for (let i = 0; i < SERIES_MAX + 50; i++) family.labels(`v${i}`).inc()
    const lines = linesOf(metrics, 'rookery_a_total')
    expect(lines).toContain('rookery_a_total{l="other"} 50')
    expect(lines).toHaveLength(2 + SERIES_MAX + 1)
  })
})

test('the process is shown: processor time, memory and event loop, each a number', () => {
  const metrics = new Metrics()
  metrics.watchProcess()
  metrics.watchProcess()
  const values = new Map(
    metrics
      .text()
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => line.split(' ') as [string, string]),
  )
  expect(Number(values.get('process_cpu_seconds_total'))).toBeGreaterThan(0)
  expect(Number(values.get('process_resident_memory_bytes'))).toBeGreaterThan(1e6)
  expect(Number(values.get('nodejs_heap_size_used_bytes'))).toBeGreaterThan(1e6)
  expect(Number(values.get('nodejs_eventloop_lag_max_seconds'))).toBeGreaterThanOrEqual(0)
  for (const value of values.values()) expect(Number(value)).not.toBeNaN()
})

// Metrics, in the Prometheus text format.
//
// Written by hand because the hot path decides: whoever counts asks for its counter once, at start, and keeps it;
// `inc()` is then one addition to a field, with no look-up of labels. Reading, every few seconds, does all the work.
import { readFileSync, statSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'

/** Only goes up. */
export class Counter {
  value = 0
  inc(by = 1): void {
    this.value += by
  }
}

/** Goes up and down. */
export class Gauge {
  value = 0
  set(value: number): void {
    this.value = value
  }
  inc(by = 1): void {
    this.value += by
  }
  dec(by = 1): void {
    this.value -= by
  }
}

/** How often which value was seen. `observe` walks the bounds, so give it few. */
export class Histogram {
  readonly bounds: readonly number[]
  /** One more than bounds: the last is what is above them all. Not cumulative; reading adds them up. */
  readonly counts: Float64Array
  sum = 0

  constructor(bounds: readonly number[]) {
    this.bounds = bounds
    this.counts = new Float64Array(bounds.length + 1)
  }

  observe(value: number): void {
    const { bounds } = this
    let i = 0
    while (i < bounds.length && value > bounds[i]!) i++
    this.counts[i]! += 1
    this.sum += value
  }
}

/** One metric with labels. */
export interface Family<M> {
  /**
   * The member with these values, in the order of the label names; made on first use. Keep it: this is a look-up.
   * Past SERIES_MAX the member is a common one whose every label is `other`, so that no input can grow a page for ever.
   */
  labels(...values: string[]): M
}

export const SERIES_MAX = 1000
export const SECONDS_BOUNDS: readonly number[] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
export const METRICS_CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8'
const PREFIX = 'rookery_'

type Kind = 'counter' | 'gauge' | 'histogram'
type Member = Counter | Gauge | Histogram
type Read = () => number | undefined

interface Metric {
  readonly name: string
  readonly kind: Kind
  readonly doc: string
  readonly labelNames: readonly string[]
  readonly bounds: readonly number[]
  readonly make: () => Member
  /** By their labels as they are written: `name="message"`; '' for none. */
  readonly members: Map<string, Member>
  /** For what is only known when asked. */
  read: Read | undefined
}

/**
 * The metrics of one process. Asking twice for the same name gives the same metric, so that two roles in one
 * process may share it; asking for it as another kind or with other labels is a bug, and throws.
 */
export class Metrics {
  readonly #metrics = new Map<string, Metric>()

  /** `name` without prefix, ending in `_total`: `stanzas_total` is shown as `rookery_stanzas_total`. */
  counter(name: string, doc: string): Counter
  counter(name: string, doc: string, labelNames: readonly string[]): Family<Counter>
  counter(name: string, doc: string, labelNames: readonly string[] = []): Counter | Family<Counter> {
    if (!name.endsWith('_total')) throw new Error(`counter ${name}: its name must end in _total`)
    return this.#family(PREFIX + name, 'counter', doc, labelNames, [], () => new Counter())
  }

  gauge(name: string, doc: string): Gauge
  gauge(name: string, doc: string, labelNames: readonly string[]): Family<Gauge>
  gauge(name: string, doc: string, labelNames: readonly string[] = []): Gauge | Family<Gauge> {
    return this.#family(PREFIX + name, 'gauge', doc, labelNames, [], () => new Gauge())
  }

  /** `bounds` rising, in the unit that the name ends with; seconds by default. */
  histogram(name: string, doc: string, labelNames?: readonly [], bounds?: readonly number[]): Histogram
  histogram(name: string, doc: string, labelNames: readonly string[], bounds?: readonly number[]): Family<Histogram>
  histogram(
    name: string,
    doc: string,
    labelNames: readonly string[] = [],
    bounds = SECONDS_BOUNDS,
  ): Histogram | Family<Histogram> {
    if (bounds.length === 0 || bounds.some((bound, i) => !Number.isFinite(bound) || (i > 0 && bound <= bounds[i - 1]!)))
      throw new Error(`histogram ${name}: its bounds must rise`)
    return this.#family(PREFIX + name, 'histogram', doc, labelNames, bounds, () => new Histogram(bounds))
  }

  /** A gauge that is asked for its value when the page is read; undefined leaves the line out. The last one given counts. */
  watch(name: string, doc: string, read: Read): void {
    this.#metric(PREFIX + name, 'gauge', doc, [], [], () => new Gauge()).read = read
  }

  /** The same of what only goes up, and is counted by who does it. */
  watchTotal(name: string, doc: string, read: Read): void {
    if (!name.endsWith('_total')) throw new Error(`counter ${name}: its name must end in _total`)
    this.#metric(PREFIX + name, 'counter', doc, [], [], () => new Counter()).read = read
  }

  /** CPU, memory, event loop and file descriptors of this process, under the names that Prometheus dashboards expect. */
  watchProcess(): void {
    watchProcess((name, kind, doc, read) => {
      this.#metric(name, kind, doc, [], [], () => new Gauge()).read = read
    })
  }

  /** The page, in METRICS_CONTENT_TYPE. A metric with no member yet has its two comment lines only. */
  text(): string {
    let page = ''
    for (const metric of this.#metrics.values()) {
      page += `# HELP ${metric.name} ${escapeDoc(metric.doc)}\n# TYPE ${metric.name} ${metric.kind}\n`
      if (metric.read) {
        const value = metric.read()
        if (value !== undefined) page += `${metric.name} ${numeral(value)}\n`
        continue
      }
      for (const [labels, member] of metric.members) page += lines(metric.name, labels, member)
    }
    return page
  }

  #family<M extends Member>(
    name: string,
    kind: Kind,
    doc: string,
    labelNames: readonly string[],
    bounds: readonly number[],
    make: () => M,
  ): M | Family<M> {
    const metric = this.#metric(name, kind, doc, labelNames, bounds, make)
    if (labelNames.length === 0) return memberOf(metric, '') as M
    return {
      labels(...values) {
        if (values.length !== labelNames.length) throw new Error(`${name} has the labels ${labelNames.join(', ')}`)
        return memberOf(metric, labelsOf(labelNames, values)) as M
      },
    }
  }

  #metric(
    name: string,
    kind: Kind,
    doc: string,
    labelNames: readonly string[],
    bounds: readonly number[],
    make: () => Member,
  ): Metric {
    const known = this.#metrics.get(name)
    if (known) {
      if (known.kind === kind && same(known.labelNames, labelNames) && same(known.bounds, bounds)) return known
      throw new Error(`metric ${name} is already a ${known.kind} with the labels [${known.labelNames.join(', ')}]`)
    }
    if (!/^[a-z][a-z0-9_]*$/.test(name)) throw new Error(`metric ${name}: its name must be made of a-z, 0-9 and _`)
    for (const label of labelNames)
      if (!/^[a-z][a-z0-9_]*$/.test(label) || label === 'le') throw new Error(`metric ${name}: ${label} is no name for a label`)
    const metric: Metric = { name, kind, doc, labelNames, bounds, make, members: new Map(), read: undefined }
    this.#metrics.set(name, metric)
    return metric
  }
}

function memberOf(metric: Metric, labels: string): Member {
  const known = metric.members.get(labels)
  if (known) return known
  const full = metric.members.size >= SERIES_MAX
  const key = full
    ? labelsOf(
        metric.labelNames,
        metric.labelNames.map(() => 'other'),
      )
    : labels
  const member = metric.members.get(key) ?? metric.make()
  metric.members.set(key, member)
  return member
}

function labelsOf(names: readonly string[], values: readonly string[]): string {
  return names.map((name, i) => `${name}="${escapeLabel(values[i]!)}"`).join(',')
}

function lines(name: string, labels: string, member: Member): string {
  const braced = labels === '' ? '' : `{${labels}}`
  if (!(member instanceof Histogram)) return `${name}${braced} ${numeral(member.value)}\n`
  let text = ''
  let count = 0
  for (let i = 0; i < member.counts.length; i++) {
    count += member.counts[i]!
    text += `${name}_bucket{${labels}${labels && ','}le="${numeral(member.bounds[i] ?? Infinity)}"} ${count}\n`
  }
  return `${text}${name}_sum${braced} ${numeral(member.sum)}\n${name}_count${braced} ${count}\n`
}

function numeral(value: number): string {
  return value === Infinity ? '+Inf' : value === -Infinity ? '-Inf' : String(value)
}

function escapeDoc(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')
}

function escapeLabel(text: string): string {
  return escapeDoc(text).replaceAll('"', '\\"')
}

function same(a: readonly unknown[], b: readonly unknown[]): boolean {
  return a.length === b.length && a.every((value, i) => value === b[i])
}

/** One per process however many ask, and never stopped: its timer keeps no process alive. */
let loopDelay: ReturnType<typeof monitorEventLoopDelay> | undefined
/** At 10 ms the measuring itself takes 0.6 % of a core of an idle server. */
const LOOP_RESOLUTION_MS = 50

function watchProcess(add: (name: string, kind: Kind, doc: string, read: Read) => void): void {
  const startedS = Math.round(Date.now() / 1000 - process.uptime())
  loopDelay ??= monitorEventLoopDelay({ resolution: LOOP_RESOLUTION_MS })
  const delay = loopDelay
  delay.enable()
  // What is measured is the whole time between two ticks of the timer; the rest is the delay.
  const late = (ns: number) => Math.max(0, ns / 1e9 - LOOP_RESOLUTION_MS / 1000)

  add('process_cpu_seconds_total', 'counter', 'Processor time of this process, user and system.', () => {
    const { user, system } = process.cpuUsage()
    return (user + system) / 1e6
  })
  add('process_start_time_seconds', 'gauge', 'When this process was started, in seconds since 1970.', () => startedS)
  add('process_resident_memory_bytes', 'gauge', 'Memory that this process has in RAM.', () => process.memoryUsage.rss())
  add('nodejs_heap_size_used_bytes', 'gauge', 'JavaScript heap in use.', () => process.memoryUsage().heapUsed)
  add('nodejs_external_memory_bytes', 'gauge', 'Memory outside the heap, buffers included.', () => process.memoryUsage().external)
  add('nodejs_eventloop_lag_p50_seconds', 'gauge', 'Median delay of the event loop since the last reading.', () =>
    late(delay.percentile(50)),
  )
  add('nodejs_eventloop_lag_p99_seconds', 'gauge', '99th percentile of the same.', () => late(delay.percentile(99)))
  add('nodejs_eventloop_lag_max_seconds', 'gauge', 'Longest delay of the event loop since the last reading.', () => {
    const max = late(delay.max)
    delay.reset()
    return max
  })
  add('process_open_fds', 'gauge', 'Open file descriptors (Linux 6.2 and newer).', openFiles)
  const filesMax = openFilesMax()
  add('process_max_fds', 'gauge', 'How many file descriptors this process may open.', () => filesMax)
}

/** Since Linux 6.2 the directory's size is their number. Listing it would cost milliseconds where there are many sockets. */
function openFiles(): number | undefined {
  return statSync('/proc/self/fd', { throwIfNoEntry: false })?.size || undefined
}

function openFilesMax(): number | undefined {
  try {
    const soft = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1]
    return soft === undefined ? undefined : Number(soft)
  } catch {
    return undefined // no /proc: not Linux
  }
}

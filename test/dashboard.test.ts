// The Grafana dashboard of infra/grafana: whatever it asks for is counted somewhere in services/.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'

const ROOT = join(import.meta.dirname, '..')
const FOLDER = join(ROOT, 'infra/grafana')

/** Labels that Prometheus gives to whatever it reads, and those of its histograms. */
const GIVEN = ['job', 'instance', 'le']

interface Panel {
  readonly id: number
  readonly type: string
  readonly title: string
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number }
  readonly targets?: readonly { readonly expr: string; readonly legendFormat: string }[]
}

const dashboard = JSON.parse(readFileSync(join(FOLDER, 'dashboards/rookery.json'), 'utf8')) as {
  readonly uid: string
  readonly panels: readonly Panel[]
  readonly templating: { readonly list: readonly { readonly name: string; readonly definition?: string }[] }
}
const targets = dashboard.panels.flatMap(({ targets = [] }) => targets)

const ROLE = /\$\{role\}/

/** By name as it is shown, the labels that it has: from every place where the code asks for a metric. */
function metricsOfTheCode(): Map<string, readonly string[]> {
  const found = new Map<string, readonly string[]>()
  const files = readdirSync(join(ROOT, 'services'), { recursive: true, encoding: 'utf8' })
  for (const file of files.filter((name) => /^(?!.*\.(?:test|fixture)\.ts$).*\.ts$/.test(name))) {
    const text = readFileSync(join(ROOT, 'services', file), 'utf8')
    const asked =
      /\b(counter|gauge|histogram|watch|watchTotal|add)\(\s*(['`])([\w${}]+)\2,\s*(?:'(?:[^'\\]|\\.)*'|`[^`]*`)\s*(?:,\s*\[([^\]]*)\])?/g
    for (const [, how, , name, labels = ''] of text.matchAll(asked)) {
      if (how === 'add' && file !== 'core/observing/metrics.ts') continue
      const shown = how === 'add' ? name! : `rookery_${name}`
      const names = ROLE.test(shown) ? ['router', 'presence'].map((role) => shown.replace(ROLE, role)) : [shown]
      const known = [...labels.matchAll(/'(\w+)'/g)].map(([, label]) => label!)
      for (const each of names)
        for (const suffix of how === 'histogram' ? ['_bucket', '_sum', '_count'] : ['']) found.set(each + suffix, known)
    }
  }
  return found
}

const metrics = metricsOfTheCode()
const METRIC = /\b(?:rookery|process|nodejs)_\w+/g

function asked(): Set<string> {
  const texts = [...targets.map(({ expr }) => expr), ...dashboard.templating.list.map(({ definition = '' }) => definition)]
  return new Set(texts.flatMap((text) => text.match(METRIC) ?? []))
}

describe('the dashboard', () => {
  test('asks for metrics that the code has, and no others', () => {
    expect([...asked()].filter((name) => !metrics.has(name))).toEqual([])
  })

  test('leaves out none that the code has, but for those that others are better at', () => {
    const used = new Set([...asked()].map((name) => name.replace(/_(?:bucket|sum|count)$/, '')))
    const unused = [...metrics.keys()].map((name) => name.replace(/_(?:bucket|sum|count)$/, '')).filter((name) => !used.has(name))
    const left = ['process_start_time_seconds', 'nodejs_heap_size_used_bytes', 'nodejs_external_memory_bytes']
    expect(new Set(unused)).toEqual(new Set([...left, 'nodejs_eventloop_lag_p50_seconds', 'nodejs_eventloop_lag_max_seconds']))
  })

  test('divides by labels that the metric has', () => {
    const wrong = targets.flatMap(({ expr, legendFormat }) => {
      const names = (expr.match(METRIC) ?? []).filter((name) => metrics.has(name))
      const known = new Set([...GIVEN, ...names.flatMap((name) => metrics.get(name)!)])
      const by = [...expr.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, labels]) => labels!.split(', '))
      const shown = [...legendFormat.matchAll(/\{\{(\w+)\}\}/g)].map(([, label]) => label!)
      return [...by.filter((label) => !known.has(label)), ...shown.filter((label) => !by.includes(label))].map(
        (label) => `${label} in ${expr}`,
      )
    })
    expect(wrong).toEqual([])
  })

  test('has a row for presence, from clients to sockets', () => {
    expect(dashboard.panels.map(({ title }) => title)).toContain('Presence: in, suppressed, bus, sockets')
  })

  test('no panel lies upon another one, and each has a number of its own', () => {
    const { panels } = dashboard
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length)
    const overlaps = panels.flatMap(({ title, gridPos: one }, n) =>
      panels
        .slice(n + 1)
        .filter(
          ({ gridPos: other }) =>
            one.x < other.x + other.w && other.x < one.x + one.w && one.y < other.y + other.h && other.y < one.y + one.h,
        )
        .map((other) => `${title} and ${other.title}`),
    )
    expect(overlaps).toEqual([])
    expect(panels.filter(({ gridPos: { x, w } }) => x + w > 24)).toEqual([])
  })
})

test('what provisions it is YAML that names the folder it is mounted at, and a Prometheus', () => {
  const read = (path: string) => parse(readFileSync(join(ROOT, path), 'utf8'))
  expect(read('infra/grafana/provisioning/dashboards/rookery.yaml').providers[0].options.path).toBe('/etc/grafana/dashboards')
  expect(read('infra/grafana/provisioning/datasources/prometheus.yaml').datasources[0].type).toBe('prometheus')
  const { services } = read('compose.yaml')
  const scraped: string[] = read('infra/prometheus/prometheus.yml').scrape_configs[0].static_configs[0].targets
  const processes = Object.keys(services).filter((name) => /^(?:edge|router|presence)-\d+$/.test(name))
  expect(scraped.map((target) => target.split(':')[0]).sort()).toEqual(processes.sort())
})

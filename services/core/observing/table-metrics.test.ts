import { expect, test } from 'vitest'
import { Metrics } from './metrics.ts'
import { tableMeter } from './table-metrics.ts'

test('every request is counted by operation and outcome, its time by operation, its units by kind', () => {
  const metrics = new Metrics()
  const meter = tableMeter(metrics)
  meter('Query', 'ok', 12, 2.5, 0)
  meter('Query', 'ok', 700, 0.5, 0)
  meter('PutItem', 'conflict', 3, 0, 1)
  const page = metrics.text().split('\n')
  expect(page).toContain('rookery_table_requests_total{operation="Query",outcome="ok"} 2')
  expect(page).toContain('rookery_table_requests_total{operation="PutItem",outcome="conflict"} 1')
  expect(page).toContain('rookery_table_units_total{kind="read"} 3')
  expect(page).toContain('rookery_table_units_total{kind="write"} 1')
  expect(page).toContain('rookery_table_request_seconds_count{operation="Query"} 2')
  expect(page).toContain('rookery_table_request_seconds_bucket{operation="Query",le="0.025"} 1')
})

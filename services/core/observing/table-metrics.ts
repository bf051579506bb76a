// What a table costs that is a service beyond this process: requests, their time, and the units it counts for them.
import type { TableMeter } from '#table/table.ts'
import type { Counter, Histogram, Metrics } from './metrics.ts'

/** To be handed to the driver. One look-up in a map for a request, which is a hundredth of what the request costs. */
export function tableMeter(metrics: Metrics): TableMeter {
  const requests = metrics.counter('table_requests_total', 'Requests to the table, by how each ended; a retry is one more.', [
    'operation',
    'outcome',
  ])
  const seconds = metrics.histogram('table_request_seconds', 'Time of one request to the table.', ['operation'])
  const units = metrics.counter('table_units_total', 'Units of reading and writing that the table has counted for us.', ['kind'])
  const [reads, writes] = [units.labels('read'), units.labels('write')]
  const counters = new Map<string, { requests: Counter; seconds: Histogram }>()
  return (operation, outcome, ms, readUnits, writeUnits) => {
    const name = `${operation} ${outcome}`
    let known = counters.get(name)
    if (known === undefined) {
      known = { requests: requests.labels(operation, outcome), seconds: seconds.labels(operation) }
      counters.set(name, known)
    }
    known.requests.inc()
    known.seconds.observe(ms / 1000)
    reads.inc(readUnits)
    writes.inc(writeUnits)
  }
}

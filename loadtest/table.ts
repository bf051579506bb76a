// What the SQLite table costs: node loadtest/table.ts [folder]
//
// Prints, per case, operations per second and CPU µs per operation: of the whole process (both threads of the table and the
// kernel's work for them included) and of the main thread alone. The last cases read from a connection on the main thread.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { openSqliteTable } from '#table/sqlite.ts'

const VALUE_BYTES = 500
const PARTITIONS = 500
const ROWS_PER_PARTITION = 40
const SECONDS_PER_CASE = 1.5

const folder = mkdtempSync(join(process.argv[2] ?? tmpdir(), 'rookery-table-'))
const file = join(folder, 'bench.db')
const table = await openSqliteTable({ file })
const direct = new DatabaseSync(file, { readOnly: true })
const value = new Uint8Array(VALUE_BYTES).fill(0x61)

const pkOf = (n: number) => `a#user${n % PARTITIONS}@example.org`
const skOf = (n: number) => `roster#friend${n % ROWS_PER_PARTITION}@example.org`
const random = () => Math.floor(Math.random() * PARTITIONS)
let count = 0

async function measure(name: string, operationsPerRound: number, round: () => Promise<unknown> | undefined): Promise<void> {
  for (let warm = 0; warm < 20; warm++) await round()
  const [start, cpu, thread] = [performance.now(), process.cpuUsage(), process.threadCpuUsage()]
  let operations = 0
  while (performance.now() - start < SECONDS_PER_CASE * 1000) {
    await round()
    operations += operationsPerRound
  }
  const seconds = (performance.now() - start) / 1000
  const [all, main] = [process.cpuUsage(cpu), process.threadCpuUsage(thread)]
  const perOperation = ({ user, system }: NodeJS.CpuUsage) => ((user + system) / operations).toFixed(1).padStart(7)
  console.log(
    `${name.padEnd(44)} ${(operations / seconds).toFixed(0).padStart(7)}/s  CPU µs: ${perOperation(all)}  main: ${perOperation(main)}`,
  )
}

const times = (n: number, operation: () => Promise<unknown>) => Promise.all(Array.from({ length: n }, operation))
const put = () => {
  const n = count++
  return table.put({ pk: pkOf(n), sk: `archive#${n.toString().padStart(12, '0')}`, version: `v${n}`, value })
}
const overwrite = () => table.put({ pk: pkOf(random()), sk: skOf(random()), version: `v${count++}`, value })
const get = () => table.get({ pk: pkOf(random()), sk: skOf(random()) })
async function query(): Promise<void> {
  let rows = 0
  for await (const row of table.query(pkOf(random()), { from: 'roster#', to: 'roster#~' })) if (row.value.length > 0) rows++
  if (rows !== ROWS_PER_PARTITION) throw new Error(`${rows} rows`)
}

for (let pk = 0; pk < PARTITIONS; pk++) {
  await Promise.all(
    Array.from({ length: ROWS_PER_PARTITION }, (_, sk) => table.put({ pk: pkOf(pk), sk: skOf(sk), version: 'v', value })),
  )
}
for (const batch of [1, 10, 100]) await measure(`put of a new row, ${batch} at once`, batch, () => times(batch, put))
await measure('put over an old row, 100 at once', 100, () => times(100, overwrite))
for (const batch of [1, 10, 100]) await measure(`get, ${batch} at once`, batch, () => times(batch, get))
for (const batch of [1, 10]) await measure(`query of 40 rows, ${batch} at once`, batch, () => times(batch, query))

const getDirect = direct.prepare(
  'SELECT version, value, expires FROM rows WHERE pk = ? AND sk = ? AND (expires IS NULL OR expires > ?)',
)
const queryDirect = direct.prepare(
  'SELECT sk, version, value, expires FROM rows WHERE pk = ? AND sk >= ? AND sk <= ? AND (expires IS NULL OR expires > ?)',
)
for (const statement of [getDirect, queryDirect]) statement.setReturnArrays(true)
await measure('get on the main thread', 100, () => {
  for (let n = 0; n < 100; n++) getDirect.get(pkOf(random()), skOf(random()), 0)
  return undefined
})
await measure('query of 40 rows on the main thread', 10, () => {
  for (let n = 0; n < 10; n++) queryDirect.all(pkOf(random()), 'roster#', 'roster#~', 0)
  return undefined
})
direct.close()
await table.close()
rmSync(folder, { recursive: true })

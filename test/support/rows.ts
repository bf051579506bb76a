// What is stored under some partition keys, as a test reads it: `a#romeo@example.org blocking`.
import type { Table } from '#table/table.ts'

export async function rowsOf(table: Table, ...pks: readonly string[]): Promise<string[]> {
  const found: string[] = []
  for (const pk of pks) for await (const { sk } of table.query(pk)) found.push(`${pk} ${sk}`)
  return found
}

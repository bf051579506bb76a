import { expect, test } from 'vitest'
import { getOwnersRow, ownersRowWith, putOwnersRow } from '#core/owners-row.ts'
import { PARTITIONS, partitionOf, type RoleName } from '#core/ownership.ts'
import { memoryTable } from '#table/memory.ts'
import { readOwnership } from './operator.ts'

const all = Array.from({ length: PARTITIONS }, (_, partition) => partition)

async function tableWith(owners: Partial<Record<RoleName, (partition: number) => string>>) {
  const table = memoryTable()
  for (const [role, ownerOf] of Object.entries(owners) as [RoleName, (partition: number) => string][]) {
    const changes = new Map(all.map((partition) => [partition, ownerOf(partition)]))
    const before = await getOwnersRow(table, role)
    await putOwnersRow(table, role, before, ownersRowWith(before, changes, 'v'))
  }
  return table
}

test('a command asks whom the rows name, each of them once for what is about all accounts', async () => {
  const table = await tableWith({ router: (partition) => (partition % 2 === 0 ? 'even' : 'odd'), presence: () => 'p' })
  const ownership = await readOwnership(table)
  const account = 'romeo@localhost'
  expect(ownership.ownerOf('router', account)).toBe(partitionOf(account) % 2 === 0 ? 'even' : 'odd')
  expect([...ownership.ownersOf('router')].sort()).toEqual(['even', 'odd'])
  expect(ownership.ownersOf('presence')).toEqual(['p'])
  expect([ownership.sure(), ownership.owns('router', account)]).toEqual([false, false])
})

test('where nobody runs, the command says what to start', async () => {
  await expect(readOwnership(memoryTable())).rejects.toThrow(
    /no process of the cluster is router for all accounts; start one: .*--role router/,
  )
  const table = await tableWith({ router: () => 'r', presence: (partition) => (partition === 3 ? '' : 'p') })
  await expect(readOwnership(table)).rejects.toThrow('no process of the cluster is presence for all accounts')
})

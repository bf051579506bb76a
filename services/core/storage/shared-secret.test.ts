import { expect, test } from 'vitest'
import { memoryTable } from '#table/memory.ts'
import { type Table, TableUnavailable } from '#table/table.ts'
import { sharedSecret } from './shared-secret.ts'

test('all who share a table have the same secret, whoever is first; another name is another secret', async () => {
  const table = memoryTable()
  const [one, other, third] = await Promise.all([
    sharedSecret(table, 'upload')(),
    sharedSecret(table, 'upload')(),
    sharedSecret(table, 'turn')(),
  ])
  expect(one).toHaveLength(32)
  expect(other).toEqual(one)
  expect(third).not.toEqual(one)
  expect(await sharedSecret(table, 'upload')()).toEqual(one)
  expect(await sharedSecret(memoryTable(), 'upload')()).not.toEqual(one)
})

test('a table that is away is asked again by the next', async () => {
  const inner = memoryTable()
  let away = true
  const table: Table = {
    get: async (key) => {
      if (away) throw new TableUnavailable('away')
      return inner.get(key)
    },
    put: (row, version) => inner.put(row, version),
    delete: (key, version) => inner.delete(key, version),
    query: (pk, range) => inner.query(pk, range),
  }
  const secret = sharedSecret(table, 'upload')
  await expect(secret()).rejects.toThrow(TableUnavailable)
  away = false
  expect(await secret()).toHaveLength(32)
})

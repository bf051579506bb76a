import { expect, test } from 'vitest'
import { systemClock } from '#core/clock.ts'
import { silentLog } from '#core/observing/log.ts'
import { type Ownership, type RoleName, soleOwnership } from '#core/ownership/ownership.ts'
import { memoryTable } from '#table/memory.ts'
import type { Table } from '#table/table.ts'
import { OwnPartitions } from './partitions.ts'

function made(table = memoryTable(), process = 'a') {
  const told: string[] = []
  const ownership: Ownership = soleOwnership(process)
  const partitions = new OwnPartitions({
    process,
    table,
    clock: systemClock,
    log: silentLog,
    ownership: () => ownership,
    onSealed: (role) => told.push(`sealed ${role}`),
  })
  const add = (role: RoleName): void =>
    partitions.add(role, {
      name: role,
      stop: async () => {},
      owning: {
        take: async (taken) => void told.push(`${role} takes ${taken}`),
        release: async (released) => void told.push(`${role} releases ${released}`),
        fenced: () => told.push(`${role} is fenced`),
        handedOn: 0,
      },
    })
  return { partitions, add, told, table }
}

const row = (value: string, version: string) => ({ pk: 'a#romeo@localhost', sk: 'note', version, value: Buffer.from(value) })

async function noteIn(table: Table): Promise<string> {
  const { pk, sk } = row('', '')
  return Buffer.from((await table.get({ pk, sk }))!.value).toString()
}

test('each role hears of its own partitions', async () => {
  const { partitions, add, told } = made()
  add('router')
  add('presence')
  await partitions.take('router', [1, 2])
  await partitions.release('presence', [3])
  partitions.fenced('router')
  expect(told).toEqual(['router takes 1,2', 'presence releases 3', 'router is fenced'])
})

test('what a role has committed, another process recovers, and the one that wrote it finds its log sealed', async () => {
  const one = made()
  const log = one.partitions.openLog('router', silentLog)
  await new Promise<void>((applied) => void log.write([{ put: row('kept', '~1'), order: 'own' }], applied))
  expect(one.partitions.applied()).toEqual({ router: 1 })

  const other = made(one.table, 'b')
  await other.partitions.recover('a', 'router', 0)
  expect(await noteIn(one.table)).toBe('kept')
  void log.write([{ put: row('too late', '~2'), order: 'own' }], () => one.told.push('applied'))
  await expect.poll(() => one.told).toEqual(['sealed router'])
  expect(await noteIn(one.table)).toBe('kept')
})

// The log of an owner where it is meant to be: on DynamoDB.
import { afterAll, describe, expect, test } from 'vitest'
import { openDynamoTable } from '#table/dynamo.ts'
import type { ClosableTable, Key, Table, TableMeter } from '#table/table.ts'
import { startDynamoDb } from '#test/servers/dynamodb.ts'
import { manualClock, systemClock } from '../clock.ts'
import { memoryLog } from '../observing/log.ts'
import { runOwners } from '../ownership/owners-run.fixture.ts'
import { Commit } from './commit.ts'
import { World } from './owner-log.fixture.ts'
import { OwnerLog } from './owner-log.ts'

const RUNS = 12

const server = await startDynamoDb()
afterAll(() => server?.stop())

function open(prefix: string, meter?: TableMeter): Promise<ClosableTable> {
  const credentials = { accessKeyId: 'rookery', secretAccessKey: 'secret' }
  return openDynamoTable({ endpoint: server!.endpoint, region: 'eu-central-1', credentials, prefix, ...(meter && { meter }) })
}

/** A table of its own for each run, in one. */
function within(table: Table, run: number): Table {
  const name = (pk: string) => `${run} ${pk}`
  const key = <K extends Key>(key: K): K => ({ ...key, pk: name(key.pk) })
  return {
    get: (asked) => table.get(key(asked)).then((row) => row && { ...row, pk: asked.pk }),
    put: (row, condition) => table.put(key(row), condition),
    delete: (asked, condition) => table.delete(key(asked), condition),
    async *query(pk, range) {
      for await (const row of table.query(name(pk), range)) yield { ...row, pk }
    },
  }
}

describe.skipIf(server === undefined)('an owner’s log on DynamoDB', () => {
  test('owners in turn: what was durable is there, and nothing else', { timeout: 240_000 }, async () => {
    const table = await open('turns')
    for (let seed = 1; seed <= RUNS; seed++) {
      const world = new World(within(table, seed), manualClock(Date.now())) // DynamoDB deletes by its own clock
      await runOwners(seed, 40, world, false)
    }
    await table.close()
  })

  test('a flush of many archived messages is one put, and their rows go in batches of 25', async () => {
    const asked: string[] = []
    const units = { PutItem: 0, BatchWriteItem: 0 }
    const table = await open('cost', (operation, _outcome, _ms, _read, write) => {
      asked.push(operation)
      units[operation as keyof typeof units] += write
    })
    const log = memoryLog()
    const options = {
      process: 'p1',
      role: 'router',
      clock: systemClock,
      epoch: () => 1,
      sure: () => true,
      onFenced: () => {},
    } as const
    const commit = new Commit(new OwnerLog({ ...options, table, log }), log)
    asked.length = 0
    for (let n = 0; n < 50; n++) {
      for (const account of ['romeo@a', 'juliet@b']) {
        const row = { pk: `j#mam#${account}`, sk: `${n}`, version: `session:${n}`, value: new Uint8Array(280) }
        commit.stage(account, { put: row, order: 'free' })
      }
    }
    await commit.settled()
    expect(asked).toEqual(['PutItem'])
    await commit.drained()
    expect(asked).toEqual(['PutItem', ...Array.from({ length: 4 }, () => 'BatchWriteItem')])
    expect(units.BatchWriteItem).toBe(100)
    expect(units.PutItem).toBeLessThanOrEqual(35) // 100 rows of 280 octets and their keys, at 1 kB a unit
    await table.close()
  })
})

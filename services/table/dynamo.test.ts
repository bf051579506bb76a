import type { AddressInfo } from 'node:net'
import { createServer, type Socket } from 'node:net'
import { afterAll, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { type DynamoProxy, startDynamoProxy } from '#test/faults/dynamo-proxy.ts'
import { startDynamoDb } from '#test/servers/dynamodb.ts'
import { freePorts } from '#test/support/ports.ts'
import { tableContract } from './contract.ts'
import { type DynamoTableOptions, openDynamoTable } from './dynamo.ts'
import { openClient, TIMING } from './dynamo-client.ts'
import { type ClosableTable, type Row, type TableMeter, TableUnavailable } from './table.ts'

const server = await startDynamoDb()
afterAll(() => server?.stop())

/** For a server that does not answer: given up soon. */
const HASTY = { connectTimeoutMs: 200, requestTimeoutMs: 200, budgetMs: 100 }
const REGION = 'eu-central-1'
const CREDENTIALS = { accessKeyId: 'rookery', secretAccessKey: 'secret' }
let prefixes = 0
const local = (options: DynamoTableOptions = {}): DynamoTableOptions => ({
  endpoint: server!.endpoint,
  region: REGION,
  credentials: CREDENTIALS,
  prefix: `test${prefixes++}`,
  ...options,
})

const row = (sk: string, fields: Partial<Row> = {}): Row => ({ pk: 'p', sk, version: 'v', value: Buffer.from(sk), ...fields })

async function open(options: DynamoTableOptions = {}): Promise<ClosableTable> {
  const table = await openDynamoTable(local(options))
  onTestFinished(() => table.close())
  return table
}

/** The requests that a table makes, each `<operation> <outcome>`, and the units they cost. */
function meter(): { told: TableMeter; requests: string[]; units: { read: number; write: number } } {
  const requests: string[] = []
  const units = { read: 0, write: 0 }
  const told: TableMeter = (operation, outcome, ms, readUnits, writeUnits) => {
    expect(ms).toBeGreaterThanOrEqual(0)
    requests.push(`${operation} ${outcome}`)
    units.read += readUnits
    units.write += writeUnits
  }
  return { told, requests, units }
}

async function sksOf(table: ClosableTable, ...query: Parameters<ClosableTable['query']>): Promise<string[]> {
  const sks: string[] = []
  for await (const { sk } of table.query(...query)) sks.push(sk)
  return sks
}

describe.skipIf(server === undefined)('DynamoDB Local', () => {
  tableContract('openDynamoTable', async (now) => {
    const options = local({ now })
    const table = await openDynamoTable(options)
    return {
      table,
      reopen: async () => {
        await table.close()
        return openDynamoTable(options)
      },
    }
  })

  describe('the table', () => {
    const client = () => openClient({ endpoint: server!.endpoint, region: REGION, credentials: CREDENTIALS, timing: TIMING })

    test('is made at the first start, paid by request, with its TTL on', async () => {
      const options = local()
      const table = await openDynamoTable(options)
      const aws = await client()
      const TableName = `${options.prefix}-rows`
      const { Table: made } = await aws.request('DescribeTable', { TableName })
      expect(made).toMatchObject({ TableStatus: 'ACTIVE', BillingModeSummary: { BillingMode: 'PAY_PER_REQUEST' } })
      const { TimeToLiveDescription: ttl } = await aws.request('DescribeTimeToLive', { TableName })
      expect(ttl).toMatchObject({ TimeToLiveStatus: 'ENABLED', AttributeName: 'ttl' })
      await aws.close()
      await table.close()
    })

    test('that is there is taken as it is, also where none may be made', async () => {
      const options = local()
      const first = await openDynamoTable(options)
      await first.put(row('a'))
      await first.close()
      expect(await sksOf(await open({ ...options, create: false }), 'p')).toEqual(['a'])
    })

    test('may be opened by many at once for the first time', async () => {
      const options = local()
      const tables = await Promise.all(Array.from({ length: 5 }, () => openDynamoTable(options)))
      await tables[0]!.put(row('a'))
      expect(await sksOf(tables[4]!, 'p')).toEqual(['a'])
      await Promise.all(tables.map((table) => table.close()))
    })

    test('that is another program’s is refused, with its keys', async () => {
      const options = local()
      const aws = await client()
      await aws.request('CreateTable', {
        TableName: `${options.prefix}-rows`,
        AttributeDefinitions: [{ AttributeName: 'id', AttributeType: 'N' }],
        KeySchema: [{ AttributeName: 'id', KeyType: 'HASH' }],
        BillingMode: 'PAY_PER_REQUEST',
      })
      await aws.close()
      await expect(openDynamoTable(options)).rejects.toThrow(
        `the table ${options.prefix}-rows of DynamoDB at ${server!.endpoint} (region ${REGION}) is not ours: its keys are id N HASH; set table.prefix`,
      )
    })
  })

  describe('what a call costs', () => {
    test('unconditional writes of one turn go in batches of 25', async () => {
      const { told, requests, units } = meter()
      const table = await open({ meter: told })
      requests.length = 0
      await Promise.all(Array.from({ length: 60 }, (_, n) => table.put(row(`${n}`))))
      expect(requests).toEqual(['BatchWriteItem ok', 'BatchWriteItem ok', 'BatchWriteItem ok'])
      expect(units).toEqual({ read: 0, write: 60 })
      expect(await sksOf(table, 'p')).toHaveLength(60)
    })

    test('two writes of one key in one turn are one item: the last wins, both resolve', async () => {
      const { told, requests, units } = meter()
      const table = await open({ meter: told })
      requests.length = 0
      await Promise.all([table.put(row('a', { version: '1' })), table.put(row('a', { version: '2' }))])
      expect([requests, units.write]).toEqual([['BatchWriteItem ok'], 1])
      await Promise.all([table.put(row('b')), table.delete(row('b'))])
      expect([(await table.get(row('a')))?.version, await table.get(row('b'))]).toEqual(['2', undefined])
    })

    test('writes of one key are done in the order of the calls, whatever their conditions', async () => {
      const table = await open()
      const writes = [
        table.put(row('a', { version: '1' })),
        table.put(row('a', { version: '2' }), '1'),
        table.put(row('a', { version: '3' }), '2'),
        table.put(row('a', { version: '4' })),
        table.delete(row('a'), '4'),
        table.put(row('a', { version: '5' }), ''),
      ]
      await Promise.all(writes)
      expect((await table.get(row('a')))?.version).toBe('5')
    })

    test('a limit is asked of DynamoDB: what lies beyond it is not read', async () => {
      const { told, units } = meter()
      const table = await open({ meter: told })
      for (let n = 0; n < 8; n++) await table.put(row(`${n}`, { value: new Uint8Array(100_000) }))
      units.read = 0
      expect(await sksOf(table, 'p', { limit: 1 })).toEqual(['0'])
      expect(units.read).toBeGreaterThan(20) // 100 kB, at 4 kB a unit
      expect(units.read).toBeLessThan(30)
    })

    test('a page is fetched when it is reached', async () => {
      const { told, requests } = meter()
      const table = await open({ meter: told })
      for (let n = 0; n < 8; n++) await table.put(row(`${n}`, { value: new Uint8Array(300_000) }))
      requests.length = 0
      for await (const { sk } of table.query('p')) if (sk === '1') break
      expect(requests).toEqual(['Query ok'])
    })

    test('conflicts and reads are counted as such', async () => {
      const { told, requests } = meter()
      const table = await open({ meter: told })
      requests.length = 0
      await table.put(row('a'), '')
      await expect(table.put(row('a'), '')).rejects.toThrow('version conflict on p a')
      await table.get(row('a'))
      expect(requests).toEqual(['PutItem ok', 'PutItem conflict', 'GetItem ok'])
    })
  })

  describe('keys longer than DynamoDB takes', () => {
    const friend = (n: number) => `roster#${`${n}`.repeat(1_000)}@${'d'.repeat(1_000)}`

    test('are stored, returned whole, found in ranges and deleted', async () => {
      const table = await open()
      const pk = `a#${'x'.repeat(1_023)}@${'d'.repeat(1_023)}.example.org`
      for (const n of [2, 1, 3]) await table.put({ ...row(friend(n)), pk })
      await table.put({ ...row('roster#a'), pk })
      expect(await sksOf(table, pk, { from: 'roster#', to: 'roster#~' })).toEqual([friend(1), friend(2), friend(3), 'roster#a'])
      expect(await table.get({ pk, sk: friend(2) })).toMatchObject({ pk, sk: friend(2) })
      await table.delete({ pk, sk: friend(2) }, 'v')
      expect(await sksOf(table, pk)).toEqual([friend(1), friend(3), 'roster#a'])
    })

    test('leave room for a row of 400 kB', async () => {
      const table = await open()
      const sk = friend(1)
      const value = new Uint8Array(400_000 - Buffer.byteLength(`p${sk}v`)).fill(7)
      await table.put(row(sk, { value, expiresAtS: 4_000_000_000 }))
      expect((await table.get(row(sk)))?.value.length).toBe(value.length)
    })
  })
})

describe.skipIf(server === undefined)('what is in the way at the start is said, with what to do', () => {
  beforeEach(() => {
    for (const name of ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN', 'AWS_PROFILE', 'AWS_REGION'])
      vi.stubEnv(name, undefined)
    for (const name of ['AWS_CONFIG_FILE', 'AWS_SHARED_CREDENTIALS_FILE']) vi.stubEnv(name, '/nowhere/at/all')
    vi.stubEnv('AWS_EC2_METADATA_DISABLED', 'true')
    onTestFinished(() => void vi.unstubAllEnvs())
  })

  async function refusal(options: DynamoTableOptions): Promise<string> {
    const error = await openDynamoTable(options).then(
      () => new Error('opened'),
      (error: Error) => error,
    )
    return error.message
  }

  async function faulty(status: number, type: string): Promise<DynamoProxy> {
    const proxy = await startDynamoProxy({
      upstream: server!.endpoint,
      rules: [{ effect: { kind: 'error-before', status, type } }],
    })
    onTestFinished(() => proxy.close())
    return proxy
  }

  test('no server', async () => {
    const [port] = await freePorts(1)
    const endpoint = `http://127.0.0.1:${port}`
    const message = await refusal(local({ endpoint, timing: HASTY }))
    expect(message).toContain(
      `DynamoDB at ${endpoint} (region ${REGION}) does not answer: connect ECONNREFUSED 127.0.0.1:${port}`,
    )
    expect(message).toContain('correct table.endpoint, or start DynamoDB Local: docker run -p 8000:8000 amazon/dynamodb-local')
  })

  test('a server that takes connections and says nothing', async () => {
    const sockets: Socket[] = []
    const silent = createServer((socket) => sockets.push(socket)).listen(0, '127.0.0.1')
    await new Promise((resolve) => silent.once('listening', resolve))
    onTestFinished(() => {
      for (const socket of sockets) socket.destroy()
      silent.close()
    })
    const endpoint = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`
    expect(await refusal(local({ endpoint, timing: HASTY }))).toContain('does not answer: no answer within 200 ms')
  })

  test('no table, and none may be made: the commands that make it', async () => {
    const options = local({ create: false })
    const message = await refusal(options)
    expect(message).toContain(`has no table ${options.prefix}-rows, and table.create is false`)
    expect(message).toContain(`aws dynamodb create-table --table-name ${options.prefix}-rows --billing-mode PAY_PER_REQUEST`)
    expect(message).toContain('--key-schema AttributeName=pk,KeyType=HASH AttributeName=sk,KeyType=RANGE')
    expect(message).toContain(`update-time-to-live --table-name ${options.prefix}-rows`)
  })

  test('no region', async () => {
    const { region: _, ...options } = local()
    expect(await refusal(options)).toContain('DynamoDB has no region: set table.region, or AWS_REGION')
  })

  test('no credentials', async () => {
    const { credentials: _, ...options } = local({ timing: HASTY })
    const message = await refusal(options)
    expect(message).toContain(`no credentials for DynamoDB at ${server!.endpoint}`)
    expect(message).toContain('set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this process a role')
  })

  test('credentials that it does not know', async () => {
    const message = await refusal(local({ credentials: { accessKeyId: 'not a key', secretAccessKey: 'b' } }))
    expect(message).toContain(`DynamoDB at ${server!.endpoint} (region ${REGION}) does not accept our credentials`)
    expect(message).toContain('UnrecognizedClientException')
  })

  test.each([
    [400, 'InvalidSignatureException', 'does not accept our credentials'],
    [400, 'AccessDeniedException', 'allows us too little: AccessDeniedException'],
    [503, 'ServiceUnavailable', 'cannot be used: ServiceUnavailable'],
  ])('%i %s', async (status, type, words) => {
    const { endpoint } = await faulty(status, type)
    expect(await refusal(local({ endpoint, timing: HASTY }))).toContain(words)
  })

  test('what is refused later is TableUnavailable, and told once', async () => {
    const proxy = await faulty(400, 'AccessDeniedException')
    const { rules } = proxy
    proxy.rules = []
    const errors: Error[] = []
    const table = await open({ endpoint: proxy.endpoint, onError: (error) => errors.push(error) })
    expect(await table.get(row('a'))).toBeUndefined()
    proxy.rules = rules
    const ends = await Promise.allSettled([table.get(row('a')), table.put(row('a')), table.put(row('b'), ''), sksOf(table, 'p')])
    for (const end of ends) expect((end as PromiseRejectedResult).reason).toBeInstanceOf(TableUnavailable)
    expect(errors.map(({ message }) => message)).toEqual([expect.stringContaining('DynamoDB failed: AccessDeniedException')])
  })
})

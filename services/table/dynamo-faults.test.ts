// The table in DynamoDB while DynamoDB fails: what resolved is stored, what met a VersionConflict was not written, nothing is done
// twice. The faults come from a proxy before DynamoDB Local (test/faults/dynamo-proxy.ts), by a seed.
import { setImmediate as turn } from 'node:timers/promises'
import { afterAll, describe, expect, onTestFinished, test } from 'vitest'
import { type DynamoProxy, type Rule, startDynamoProxy } from '#test/faults/dynamo-proxy.ts'
import { startDynamoDb } from '#test/servers/dynamodb.ts'
import { type DynamoTableOptions, openDynamoTable } from './dynamo.ts'
import { REQUESTS_MAX } from './dynamo-client.ts'
import { type ClosableTable, type Row, TableUnavailable, VersionConflict } from './table.ts'

const server = await startDynamoDb()
afterAll(() => server?.stop())

const SEED = Number(process.env.SEED ?? Math.floor(Math.random() * 1_000_000))
/** Gives up soon, or never within a test. */
const HASTY = { budgetMs: 300, pauseMaxMs: 50 }
const PATIENT = { budgetMs: 600_000, pauseMaxMs: 20 }
const ALWAYS = 1
let prefixes = 0

interface Tried {
  /** Through the proxy. */
  readonly table: ClosableTable
  /** Beside it. */
  readonly direct: ClosableTable
  readonly proxy: DynamoProxy
  /** `<operation> <outcome>` of each request of `table`. */
  readonly requests: string[]
}

async function open(timing: DynamoTableOptions['timing'], onRequest: (request: string) => void = () => {}): Promise<Tried> {
  const proxy = await startDynamoProxy({ upstream: server!.endpoint, seed: SEED })
  const options: DynamoTableOptions = {
    region: 'eu-central-1',
    credentials: { accessKeyId: 'rookery', secretAccessKey: 'secret' },
    prefix: `faults${prefixes++}`,
  }
  const requests: string[] = []
  const meter = (operation: string, outcome: string) => {
    requests.push(`${operation} ${outcome}`)
    onRequest(`${operation} ${outcome}`)
  }
  const table = await openDynamoTable({ ...options, endpoint: proxy.endpoint, meter, ...(timing && { timing }) })
  const direct = await openDynamoTable({ ...options, endpoint: server!.endpoint })
  requests.length = 0
  onTestFinished(async () => {
    proxy.rules = []
    await proxy.refuse(false)
    await Promise.all([table.close(), direct.close()])
    await proxy.close()
  })
  return { table, direct, proxy, requests }
}

const row = (sk: string, version = 'mine'): Row => ({ pk: 'p', sk, version, value: Buffer.from(`${sk} ${version}`) })

async function sksOf(table: ClosableTable): Promise<string[]> {
  const sks: string[] = []
  for await (const { sk } of table.query('p')) sks.push(sk)
  return sks
}

/** Of `promise`, while it may still be under way. */
function endOf(promise: Promise<unknown>): { settled: boolean } {
  const end = { settled: false }
  const settle = () => {
    end.settled = true
  }
  promise.then(settle, settle)
  return end
}

describe.skipIf(server === undefined)(`with faults (SEED=${SEED})`, () => {
  test('30 % of all requests throttled: every write is done, every read answered', async () => {
    const { table, direct, proxy, requests } = await open(PATIENT)
    proxy.rules = [{ probability: 0.3, effect: { kind: 'throttle' } }]
    const sks = Array.from({ length: 300 }, (_, n) => String(n).padStart(3, '0'))
    await Promise.all(sks.map((sk, n) => (n % 3 === 0 ? table.put(row(sk), '') : table.put(row(sk)))))
    expect(await sksOf(direct)).toEqual(sks)
    expect(await sksOf(table)).toEqual(sks)
    expect(requests.filter((request) => request.endsWith(' throttled'))).not.toEqual([])
  })

  test('all throttled: TableUnavailable, and why', async () => {
    const { table, direct, proxy } = await open(HASTY)
    proxy.rules = [{ effect: { kind: 'throttle' } }]
    const ends = await Promise.allSettled([table.put(row('a')), table.put(row('b'), ''), table.get(row('a')), sksOf(table)])
    for (const end of ends) {
      const error = (end as PromiseRejectedResult).reason as Error
      expect(error).toBeInstanceOf(TableUnavailable)
      expect((error.cause as Error).name).toBe('ProvisionedThroughputExceededException')
    }
    expect(await sksOf(direct)).toEqual([])
  })

  test('one key throttled: the others do not wait for it, not even those of its batch', async () => {
    const { table, direct, proxy } = await open(PATIENT)
    proxy.rules = [{ keyPattern: '^p hot$', effect: { kind: 'throttle' } }]
    const hot = table.put(row('hot'), '')
    const end = endOf(hot)
    for (let n = 0; n < 50; n++) await table.put(row(`cold${n}`), n % 2 === 0 ? '' : undefined)
    expect(await sksOf(direct)).toHaveLength(50)
    expect(end.settled).toBe(false)
    proxy.rules = []
    await hot
    expect((await direct.get(row('hot')))?.version).toBe('mine')
  })

  test.each([
    ['error-after', 'failed'],
    ['reset-after', 'unreachable'],
  ] as const)('%s of a conditional put: it was I, once', async (kind, outcome) => {
    const { table, direct, proxy, requests } = await open(PATIENT, (request) => {
      if (request === `PutItem ${outcome}`) proxy.rules = []
    })
    for (const condition of ['', 'first'] as const) {
      proxy.rules = [{ effect: { kind } }]
      requests.length = 0
      await table.put(row('a', condition === '' ? 'first' : 'second'), condition)
      expect(requests).toEqual([`PutItem ${outcome}`, 'PutItem conflict'])
    }
    expect((await direct.get(row('a')))?.version).toBe('second')
    expect(proxy.decisions.at(-2)).toMatchObject({ effect: kind, forwarded: ['p a'], upstreamStatus: 200 })
  })

  test('a put over what is older, its answer lost: it was I; over what came since: the newer one stays', async () => {
    const { table, direct, proxy } = await open(PATIENT, (request) => {
      if (request === 'PutItem unreachable') proxy.rules = []
    })
    proxy.rules = [{ effect: { kind: 'reset-after' } }]
    await table.put(row('a', '1'), { olderThan: '1' })
    proxy.rules = [{ effect: { kind: 'reset-after' } }]
    await table.delete(row('a'), { olderThan: '2' })
    expect(await direct.get(row('a'))).toBeUndefined()
    await expect(table.put(row('a', '2'), { olderThan: '2' })).rejects.toThrow(VersionConflict)
  })

  test('a request lost before it came through is made again', async () => {
    for (const kind of ['error-before', 'reset-before'] as const) {
      const { table, direct, proxy, requests } = await open(PATIENT, (request) => {
        if (request.startsWith('PutItem') && !request.endsWith(' ok')) proxy.rules = []
      })
      proxy.rules = [{ effect: { kind } }]
      await table.put(row('a'), '')
      expect(requests).toHaveLength(2)
      expect((await direct.get(row('a')))?.version).toBe('mine')
    }
  })

  /** The answer to the first try is lost, `meanwhile` is done beside, and then the second try is let through. */
  async function overtaken(write: (table: ClosableTable) => Promise<void>, meanwhile: (direct: ClosableTable) => Promise<void>) {
    let whenLost = () => {}
    const lost = new Promise<void>((resolve) => {
      whenLost = resolve
    })
    const tried = await open(PATIENT, (request) => {
      if (!request.endsWith(' unreachable')) return
      tried.proxy.rules = [{ effect: { kind: 'throttle' } }]
      whenLost()
    })
    await tried.direct.put(row('a', 'old'))
    tried.proxy.rules = [{ effect: { kind: 'reset-after' } }]
    const written = write(tried.table)
    const end = endOf(written)
    await lost
    await meanwhile(tried.direct)
    expect(end.settled).toBe(false)
    tried.proxy.rules = []
    return { written, ...tried }
  }

  test('a lost answer and then another’s write: neither yes nor no', async () => {
    const { written, direct } = await overtaken(
      (table) => table.put(row('a', 'mine'), 'old'),
      (direct) => direct.put(row('a', 'theirs'), 'mine'),
    )
    await expect(written).rejects.toThrow(TableUnavailable)
    await expect(written).rejects.toThrow('whether p a was written is not known')
    expect((await direct.get(row('a')))?.version).toBe('theirs')
  })

  test('a conditional delete whose answer was lost: neither yes nor no, and the next call says that it is gone', async () => {
    const { written, table } = await overtaken(
      (table) => table.delete(row('a'), 'old'),
      async () => {},
    )
    await expect(written).rejects.toThrow('whether p a was written is not known')
    await expect(table.delete(row('a'), 'old')).rejects.toThrow(VersionConflict)
  })

  test('half of each batch not processed: all is written, with fewer in every try', async () => {
    const { table, direct, proxy, requests } = await open(PATIENT)
    proxy.rules = [{ effect: { kind: 'partial' } }]
    const sks = Array.from({ length: 100 }, (_, n) => String(n).padStart(3, '0'))
    for (const sk of sks.slice(0, 10)) await direct.put(row(sk, 'old'))
    await Promise.all([...sks.slice(10).map((sk) => table.put(row(sk))), ...sks.slice(0, 10).map((sk) => table.delete(row(sk)))])
    expect(await sksOf(direct)).toEqual(sks.slice(10))
    expect(requests).toContain('BatchWriteItem partial')
    const written = proxy.decisions
      .filter(({ operation }) => operation === 'BatchWriteItem')
      .flatMap(({ forwarded }) => forwarded)
    expect(written).toHaveLength(100) // each once
  })

  test('what of a batch is never processed is TableUnavailable, the rest is done', async () => {
    const { table, direct, proxy } = await open(HASTY)
    proxy.rules = [{ effect: { kind: 'partial', hold: '^p never$' } }]
    const others = Array.from({ length: 24 }, (_, n) => `${n}`)
    const [never, ...rest] = await Promise.allSettled(['never', ...others].map((sk) => table.put(row(sk))))
    expect((never as PromiseRejectedResult).reason).toBeInstanceOf(TableUnavailable)
    expect(rest.every(({ status }) => status === 'fulfilled')).toBe(true)
    expect(await sksOf(direct)).toEqual(others.toSorted())
  })

  test('slow by a random time: the writes of one key stay in order', async () => {
    const { table, direct, proxy } = await open(PATIENT)
    proxy.rules = [{ effect: { kind: 'delay', minMs: 0, maxMs: 20 } }]
    const writes: Promise<void>[] = []
    for (let n = 1; n <= 40; n++) {
      for (const sk of ['a', 'b', 'c'])
        writes.push(table.put(row(sk, `${n}`), sk === 'c' ? (n === 1 ? '' : `${n - 1}`) : undefined))
      await turn()
    }
    await Promise.all(writes)
    for (const sk of ['a', 'b', 'c']) expect((await direct.get(row(sk)))?.version).toBe('40')
  })

  test('when one write of a key is given up, those behind it are too: none overtakes it', async () => {
    const { table, direct, proxy } = await open(HASTY)
    proxy.rules = [{ effect: { kind: 'throttle' } }]
    const writes = [table.put(row('a', '1'), ''), table.put(row('a', '2')), table.put(row('a', '3'), '2')]
    for (const end of await Promise.allSettled(writes))
      expect((end as PromiseRejectedResult).reason).toBeInstanceOf(TableUnavailable)
    proxy.rules = []
    await table.put(row('a', '1'), '')
    expect((await direct.get(row('a')))?.version).toBe('1')
  })

  test('nobody there, then there again: what waits is done, what was given up can be done anew', async () => {
    const patient = await open(PATIENT)
    await patient.proxy.refuse(true)
    const waiting = [patient.table.put(row('a')), patient.table.put(row('b'), ''), patient.table.delete(row('c'))]
    await expect.poll(() => patient.requests.filter((request) => request.endsWith(' unreachable')).length).toBeGreaterThan(3)
    await patient.proxy.refuse(false)
    await Promise.all(waiting)
    expect(await sksOf(patient.direct)).toEqual(['a', 'b'])

    const hasty = await open(HASTY)
    await hasty.proxy.refuse(true)
    await expect(hasty.table.put(row('a'))).rejects.toThrow(TableUnavailable)
    await expect(hasty.table.get(row('a'))).rejects.toThrow('GetItem of DynamoDB failed: connect ECONNREFUSED')
    await hasty.proxy.refuse(false)
    await hasty.table.put(row('a'))
    expect(await sksOf(hasty.table)).toEqual(['a'])
  })

  test('a server that takes requests and does not answer is noticed', async () => {
    const { table, proxy, requests } = await open({ ...HASTY, requestTimeoutMs: 100 })
    proxy.rules = [{ effect: { kind: 'hang' } }]
    await expect(table.get(row('a'))).rejects.toThrow('no answer within 100 ms')
    expect(new Set(requests)).toEqual(new Set(['GetItem timeout']))
    proxy.rules = []
    expect(await table.get(row('a'))).toBeUndefined()
  })

  test('more requests than are sent at once wait, but not for ever', async () => {
    const { table, proxy } = await open({ ...HASTY, requestTimeoutMs: 1_500 })
    proxy.rules = [{ effect: { kind: 'hang' } }]
    const sent = Array.from({ length: REQUESTS_MAX }, () => table.get(row('a')))
    const waiting = Array.from({ length: 5 }, () => table.get(row('a')))
    for (const end of await Promise.allSettled(waiting))
      expect((end as PromiseRejectedResult).reason).toEqual(new TableUnavailable('DynamoDB does not keep up'))
    for (const end of await Promise.allSettled(sent)) expect(end.status).toBe('rejected')
    expect(proxy.decisions.filter(({ operation }) => operation === 'GetItem').length).toBeGreaterThanOrEqual(REQUESTS_MAX)
    proxy.rules = []
    expect(await table.get(row('a'))).toBeUndefined()
  })

  test('close waits for what was put, until its time is up', async () => {
    const { table, direct, proxy } = await open(PATIENT)
    proxy.rules = [{ effect: { kind: 'throttle' } }]
    const put = Promise.all([table.put(row('a')), table.put(row('b'), '')])
    const end = endOf(table.close())
    await expect.poll(() => proxy.decisions.length).toBeGreaterThan(6)
    expect(end.settled).toBe(false)
    proxy.rules = []
    await put
    await table.close()
    expect(await sksOf(direct)).toEqual(['a', 'b'])
  })
})

describe.skipIf(server === undefined)(`with all faults at once (SEED=${SEED})`, () => {
  const RULES: Rule[] = [
    { probability: 0.08, effect: { kind: 'throttle' } },
    { probability: 0.04, effect: { kind: 'error-before' } },
    { probability: 0.08, effect: { kind: 'error-after' } },
    { probability: 0.04, effect: { kind: 'reset-before' } },
    { probability: 0.08, effect: { kind: 'reset-after' } },
    { probability: 0.02, effect: { kind: 'error-after', status: 503, type: 'ServiceUnavailable' } },
    { probability: 0.2, effect: { kind: 'delay', minMs: 0, maxMs: 250 } }, // beyond the time for an answer, too
    { target: 'BatchWriteItem', probability: ALWAYS, effect: { kind: 'partial' } },
  ]

  test('of writers that race, what resolved is in the history once, what met a conflict is not', async () => {
    const { table, direct, proxy } = await open({ budgetMs: 400, pauseMaxMs: 40, requestTimeoutMs: 200 })
    proxy.rules = RULES
    const ends = { done: new Set<string>(), conflict: new Set<string>(), unknown: new Set<string>() }
    let count = 0
    /** Each value is the versions of all writes before it, and its own. */
    async function race(sk: string): Promise<void> {
      const key = { pk: 'race', sk }
      const before = await table.get(key)
      const version = `v${count++}`
      const value = Buffer.from(before ? `${Buffer.from(before.value).toString()} ${version}` : version)
      try {
        await table.put({ ...key, version, value }, before?.version ?? '')
        ends.done.add(version)
      } catch (error) {
        if (error instanceof VersionConflict) ends.conflict.add(version)
        else if (error instanceof TableUnavailable) ends.unknown.add(version)
        else throw error
      }
    }
    const writers = Array.from({ length: 8 }, async (_, writer) => {
      for (let n = 0; n < 25; n++)
        await race(`${(writer + n) % 3}`).catch((error) => expect(error).toBeInstanceOf(TableUnavailable)) // of the get
    })
    await Promise.all(writers)
    proxy.rules = []
    await expect
      .poll(() => proxy.decisions.filter(({ forwarded, upstreamStatus }) => forwarded.length > 0 && upstreamStatus === undefined))
      .toEqual([])

    const history: string[] = []
    for (const sk of ['0', '1', '2'])
      history.push(
        ...Buffer.from((await direct.get({ pk: 'race', sk }))!.value)
          .toString()
          .split(' '),
      )
    expect(new Set(history).size, 'nothing is done twice').toBe(history.length)
    for (const version of ends.done) expect(history).toContain(version)
    for (const version of ends.conflict) expect(history).not.toContain(version)
    expect(ends.done.size).toBeGreaterThan(20)
    expect(ends.conflict.size).toBeGreaterThan(5)
  })

  test('of unconditional writes, what resolved is stored, and the last of each key is what stays', async () => {
    const { table, direct, proxy } = await open({ ...PATIENT, requestTimeoutMs: 10_000 })
    proxy.rules = RULES
    const last = new Map<string, string | undefined>()
    const writes: Promise<void>[] = []
    for (let n = 0; n < 400; n++) {
      const sk = String((n * 7) % 60).padStart(2, '0')
      const deletes = n % 5 === 0
      last.set(sk, deletes ? undefined : `${n}`)
      writes.push(deletes ? table.delete(row(sk)) : table.put(row(sk, `${n}`)))
      if (n % 20 === 0) await turn()
    }
    await Promise.all(writes)
    for (const [sk, version] of last) expect((await direct.get(row(sk)))?.version, sk).toBe(version)
  })
})

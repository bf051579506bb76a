// The faulty proxy does what its rules say, and tells what it did: before a stand-in that answers every request.
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { type DynamoProxy, type DynamoProxyOptions, type Rule, startDynamoProxy } from './dynamo-proxy.ts'

const SEED = 7
/** What came through, as it was sent. */
let received: { operation: string; content: unknown }[] = []
const upstream = createServer(async (request, response) => {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  const content = JSON.parse(Buffer.concat(chunks).toString()) as unknown
  received.push({ operation: String(request.headers['x-amz-target']).split('.')[1]!, content })
  response.end('{"answered":true}')
})
let address: string
beforeAll(async () => {
  upstream.listen(0, '127.0.0.1')
  await once(upstream, 'listening')
  address = `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`
})
afterAll(() => {
  upstream.closeAllConnections()
  upstream.close()
})
beforeEach(() => {
  received = []
})

async function start(rules: Rule[], options: Partial<DynamoProxyOptions> = {}): Promise<DynamoProxy> {
  const proxy = await startDynamoProxy({ upstream: address, seed: SEED, rules, ...options })
  onTestFinished(() => proxy.close())
  return proxy
}

/** Status and content, or 'lost'. */
async function ask(proxy: DynamoProxy, operation: string, content: object, signal?: AbortSignal) {
  try {
    const headers = { 'x-amz-target': `DynamoDB_20120810.${operation}` }
    const answer = await fetch(proxy.endpoint, {
      method: 'POST',
      headers,
      body: JSON.stringify(content),
      ...(signal && { signal }),
    })
    return { status: answer.status, content: (await answer.json()) as Record<string, unknown> }
  } catch {
    return 'lost'
  }
}

const key = (sk: string) => ({ pk: { S: 'a#romeo@example.org' }, sk: { S: sk } })
const put = (proxy: DynamoProxy, sk = 'one') => ask(proxy, 'PutItem', { TableName: 'rows', Item: key(sk) })
const REAL = { status: 200, content: { answered: true } }

describe('an effect', () => {
  test('without a rule a request passes', async () => {
    const proxy = await start([])
    expect(await put(proxy)).toEqual(REAL)
    expect(proxy.decisions).toEqual([
      {
        number: 0,
        operation: 'PutItem',
        keys: ['a#romeo@example.org one'],
        effect: 'pass',
        forwarded: ['a#romeo@example.org one'],
        upstreamStatus: 200,
      },
    ])
  })

  test.each([
    ['error-before', 500, 'InternalServerError', false],
    ['error-after', 500, 'InternalServerError', true],
    ['throttle', 400, 'ProvisionedThroughputExceededException', false],
  ] as const)('%s answers %i %s', async (kind, status, type, forwarded) => {
    const proxy = await start([{ effect: { kind } }])
    const answer = await put(proxy)
    expect(answer).toMatchObject({ status, content: { __type: expect.stringContaining(type) } })
    expect(received).toHaveLength(forwarded ? 1 : 0)
    expect(proxy.decisions[0]).toMatchObject({ effect: kind, upstreamStatus: forwarded ? 200 : undefined })
  })

  test('an error may be any', async () => {
    const proxy = await start([{ effect: { kind: 'error-before', status: 400, type: 'AccessDeniedException' } }])
    expect(await put(proxy)).toMatchObject({ status: 400, content: { __type: expect.stringContaining('AccessDeniedException') } })
  })

  test.each([
    ['reset-before', 0],
    ['reset-after', 1],
  ] as const)('%s gives no answer', async (kind, times) => {
    const proxy = await start([{ effect: { kind } }])
    expect(await put(proxy)).toBe('lost')
    expect(received).toHaveLength(times)
    expect(proxy.decisions[0]!.forwarded).toHaveLength(times)
  })

  test('hang keeps the request for ever', async () => {
    const proxy = await start([{ effect: { kind: 'hang' } }])
    const stop = new AbortController()
    const answer = ask(proxy, 'PutItem', { TableName: 'rows', Item: key('one') }, stop.signal)
    await expect.poll(() => proxy.decisions).toHaveLength(1)
    stop.abort()
    expect([await answer, received.length]).toEqual(['lost', 0])
  })

  test('delay forwards later', async () => {
    const proxy = await start([{ effect: { kind: 'delay', minMs: 1, maxMs: 5 } }])
    expect(await put(proxy)).toEqual(REAL)
    expect(proxy.decisions[0]).toMatchObject({ effect: 'delay', upstreamStatus: 200 })
  })

  test('partial forwards some of a batch, gives the others back, and lets other requests pass', async () => {
    const proxy = await start([{ effect: { kind: 'partial' } }])
    const writes = Array.from({ length: 10 }, (_, n) => ({ PutRequest: { Item: key(`${n}`) } }))
    const answer = await ask(proxy, 'BatchWriteItem', { RequestItems: { rows: writes } })
    const forwarded = (received[0]!.content as { RequestItems: { rows: typeof writes } }).RequestItems.rows
    if (answer === 'lost') throw new Error('no answer')
    const held = (answer.content.UnprocessedItems as { rows: typeof writes }).rows
    expect(forwarded.length).toBeGreaterThan(0)
    expect(held.length).toBeGreaterThan(0)
    expect(new Set([...forwarded, ...held].map(({ PutRequest }) => PutRequest.Item.sk.S))).toHaveLength(10)
    expect(proxy.decisions[0]!.forwarded).toHaveLength(forwarded.length)
    expect(await put(proxy)).toEqual(REAL)
  })

  test('partial may hold the same keys back for ever, and throttles when nothing else is left', async () => {
    const proxy = await start([{ effect: { kind: 'partial', hold: ' hot$' } }])
    const write = (sk: string) => ({ PutRequest: { Item: key(sk) } })
    const answer = await ask(proxy, 'BatchWriteItem', { RequestItems: { rows: [write('hot'), write('cold')] } })
    expect(answer).toMatchObject({ status: 200, content: { UnprocessedItems: { rows: [write('hot')] } } })
    expect(proxy.decisions[0]!.forwarded).toEqual(['a#romeo@example.org cold'])
    expect(await ask(proxy, 'BatchWriteItem', { RequestItems: { rows: [write('hot')] } })).toMatchObject({ status: 400 })
    expect(received).toHaveLength(1)
  })
})

describe('a rule', () => {
  test('is for an operation, a table and a key, and the first that strikes is applied', async () => {
    const proxy = await start([
      { target: 'GetItem', effect: { kind: 'throttle' } },
      { table: 'others', effect: { kind: 'throttle' } },
      { keyPattern: '^a#romeo@.* two$', effect: { kind: 'error-before', status: 503 } },
      { keyPattern: ' two$', effect: { kind: 'reset-before' } },
    ])
    expect(await put(proxy, 'one')).toEqual(REAL)
    expect(await put(proxy, 'two')).toMatchObject({ status: 503 })
    expect(await ask(proxy, 'GetItem', { TableName: 'rows', Key: key('one') })).toMatchObject({ status: 400 })
    expect(await ask(proxy, 'PutItem', { TableName: 'others', Item: key('one') })).toMatchObject({ status: 400 })
  })

  test('strikes as often as its probability says, and with the same seed at the same requests', async () => {
    const struck = async () => {
      const proxy = await start([{ probability: 0.3, effect: { kind: 'throttle' } }])
      for (let n = 0; n < 200; n++) await put(proxy)
      return proxy.decisions.map(({ effect }) => effect)
    }
    const first = await struck()
    expect(first.filter((effect) => effect === 'throttle').length).toBeGreaterThan(30)
    expect(first.filter((effect) => effect === 'pass').length).toBeGreaterThan(100)
    expect(await struck()).toEqual(first)
  })

  test('is changed while it runs, by a call and from another process', async () => {
    const proxy = await start([])
    proxy.rules = [{ effect: { kind: 'throttle' } }]
    expect(await put(proxy)).toMatchObject({ status: 400 })
    await fetch(`${proxy.control}/rules`, { method: 'PUT', body: '[]' })
    expect(await put(proxy)).toEqual(REAL)
    const lines = (await (await fetch(`${proxy.control}/decisions`)).text()).trim().split('\n')
    expect(lines.map((line) => (JSON.parse(line) as { effect: string }).effect)).toEqual(['throttle', 'pass'])
    expect((await fetch(`${proxy.control}/rules`, { method: 'PUT', body: 'no rules' })).status).toBe(400)
    expect((await fetch(`${proxy.control}/nothing`)).status).toBe(404)
  })
})

test('while it refuses nobody can connect, and afterwards the port is the same', async () => {
  const proxy = await start([])
  const { endpoint } = proxy
  expect(await put(proxy)).toEqual(REAL)
  await fetch(`${proxy.control}/refusing`, { method: 'PUT', body: 'true' })
  expect(await put(proxy)).toBe('lost')
  await fetch(`${proxy.control}/refusing`, { method: 'PUT', body: 'false' })
  expect(await put(proxy)).toEqual(REAL)
  expect(proxy.endpoint).toBe(endpoint)
})

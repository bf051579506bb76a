import { setImmediate as turn } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import type { Budget, DynamoClient, Input } from './dynamo-client.ts'
import { BATCH_WRITES_MAX, DynamoWrites, WAITING_BYTES_MAX, WAITING_WRITES_MAX } from './dynamo-writes.ts'
import { ROW_BYTES_MAX, type Row, TableUnavailable } from './table.ts'

interface Request {
  readonly operation: string
  /** As the client asks for it: when it is about to be sent. */
  input(): Input<'BatchWriteItem'>
  answer(output?: object): void
  fail(error: Error): void
}

/** Takes requests, and leaves the rest to the test. */
function standIn(): { client: DynamoClient; requests: Request[] } {
  const requests: Request[] = []
  const client = {
    newBudget: (): Budget => ({ nextPauseMs: () => undefined }) as unknown as Budget,
    request: (operation: string, input: object | (() => object)) =>
      new Promise((resolve, fail) => {
        requests.push({
          operation,
          input: () => (typeof input === 'function' ? input() : input) as Input<'BatchWriteItem'>,
          answer: (output = {}) => resolve(output),
          fail,
        })
      }),
  }
  return { client: client as unknown as DynamoClient, requests }
}

const row = (sk: string, bytes = 1): Row => ({ pk: 'p', sk, version: 'v', value: new Uint8Array(bytes) })
const sizeOf = (request: Request) => request.input().RequestItems!.rows!.length
const writesOn = (client: DynamoClient) => new DynamoWrites(client, 'rows', Date.now)

describe('batches', () => {
  test('a batch that waits to be sent takes what has come meanwhile', async () => {
    const { client, requests } = standIn()
    const writes = writesOn(client)
    for (let n = 0; n < 20; n++) {
      void writes.put(row(`${n}`), undefined)
      await turn()
    }
    expect(requests).toHaveLength(1)
    expect(sizeOf(requests[0]!)).toBe(20)
  })

  test('all that is ready goes in as few as it fills', async () => {
    const { client, requests } = standIn()
    const writes = writesOn(client)
    for (let n = 0; n < 2 * BATCH_WRITES_MAX + 1; n++) void writes.put(row(`${n}`), undefined)
    await turn()
    expect(requests.map(sizeOf)).toEqual([BATCH_WRITES_MAX, BATCH_WRITES_MAX, 1])
  })

  test('of large rows fewer go in one, and the rest in others', async () => {
    const { client, requests } = standIn()
    const writes = writesOn(client)
    for (let n = 0; n < 12; n++) void writes.put(row(`${n}`, ROW_BYTES_MAX - 100), undefined)
    await turn()
    const sizes: number[] = []
    for (let n = 0; n < requests.length; n++) sizes.push(sizeOf(requests[n]!)) // each may ask for another
    expect(sizes).toEqual([5, 5, 2])
  })

  test('a write of a key that is being written waits, and is then the latest of them', async () => {
    const { client, requests } = standIn()
    const writes = writesOn(client)
    const first = writes.put(row('a', 1), undefined)
    await turn()
    expect(sizeOf(requests[0]!)).toBe(1)
    const later = [writes.put(row('a', 2), undefined), writes.delete(row('a'), undefined), writes.put(row('a', 3), undefined)]
    await turn()
    expect(requests).toHaveLength(1)
    requests[0]!.answer()
    await first
    await turn()
    expect(requests[1]!.input().RequestItems!.rows!.map(({ PutRequest }) => PutRequest?.Item?.val?.B?.length)).toEqual([3])
    requests[1]!.answer()
    await Promise.all(later)
    await writes.idle()
  })
})

describe('writes that wait', () => {
  test('are not more than so many: one more is refused at once', async () => {
    const { client } = standIn()
    const writes = writesOn(client)
    for (let n = 0; n < WAITING_WRITES_MAX; n++) void writes.put(row('a'), undefined)
    await expect(writes.put(row('a'), undefined)).rejects.toThrow(TableUnavailable)
    await expect(writes.delete(row('b'), 'v')).rejects.toThrow('DynamoDB does not keep up')
  })

  test('have not more octets than so many, and those that were refused have made room', async () => {
    const { client, requests } = standIn()
    const writes = writesOn(client)
    const put = (n: number) => writes.put(row(`${n}`, ROW_BYTES_MAX - 100), '')
    const ends: Promise<unknown>[] = []
    for (let n = 0; n < WAITING_BYTES_MAX / ROW_BYTES_MAX; n++) ends.push(put(n).catch((error) => error))
    await expect(put(1_000)).rejects.toThrow('DynamoDB does not keep up')
    for (const request of requests) request.fail(new TableUnavailable('away'))
    for (const end of ends) expect(await end).toBeInstanceOf(TableUnavailable)
    requests.length = 0
    const again = put(1_000)
    requests[0]!.answer()
    await again
    await writes.idle()
  })
})

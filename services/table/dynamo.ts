// The table in DynamoDB, for a cluster.
//
// One table for everything: dynamo-rows.ts draws its items, dynamo-keys.ts its keys. Reads are strongly consistent; a range is a
// Query per megabyte, asked for when it is reached. Writes are in order by key, conditional ones with the version and the expiry
// in their condition, the others in batches (dynamo-writes.ts). Retries, timeouts and bounds: dynamo-client.ts.
//
// A lost answer to a conditional write is not an unknown end: the next try is refused by the condition, DynamoDB sends the stored
// row with the refusal, and its version tells who wrote it.
import { type DynamoClient, type DynamoTiming, type Input, openClient, TIMING } from './dynamo-client.ts'
import { storedPk, storedSk } from './dynamo-keys.ts'
import { type Item, keyOf, PK, rowOf, SK } from './dynamo-rows.ts'
import { prepareTable, tableNameOf } from './dynamo-setup.ts'
import { DynamoWrites } from './dynamo-writes.ts'
import { checkCondition, checkKey, checkRow, compareUtf8 } from './rows.ts'
import { type ClosableTable, type Condition, type Key, type Range, type Row, type TableMeter, TableUnavailable } from './table.ts'

export interface DynamoTableOptions {
  /** Where it is not AWS: `http://127.0.0.1:8000`. */
  endpoint?: string
  /** By default what the environment or the profile says, as with every tool of AWS. */
  region?: string
  /** For DynamoDB Local. By default they are found as every tool of AWS finds them: environment, profile, role. */
  credentials?: { accessKeyId: string; secretAccessKey: string }
  /** The table is called `<prefix>-rows`; `rookery` by default. */
  prefix?: string
  /** Makes the table if it is not there, paid by request, and turns its TTL on; true by default. */
  create?: boolean
  /** Told when a request has failed for good, at most every ten seconds. Those who waited have got TableUnavailable already. */
  onError?: (error: Error) => void
  meter?: TableMeter
  /** Milliseconds since 1970, as Date.now: what rows expire by. */
  now?: () => number
  timing?: Partial<DynamoTiming>
}

/** Throws an Error that says what is in the way, and what to do: no server, no region, no credentials, no table, or not ours. */
export async function openDynamoTable(options: DynamoTableOptions): Promise<ClosableTable> {
  const { prefix = 'rookery', create = true, onError, now = Date.now } = options
  const name = tableNameOf(prefix)
  const client = await openClient({ ...options, timing: { ...TIMING, ...options.timing } })
  try {
    await prepareTable(client, name, create)
  } catch (error) {
    await client.close()
    throw error
  }
  client.onError = onError
  return new DynamoTable(client, name, now)
}

class DynamoTable implements ClosableTable {
  readonly #client: DynamoClient
  readonly #name: string
  readonly #now: () => number
  readonly #writes: DynamoWrites
  #closing: Promise<void> | undefined

  constructor(client: DynamoClient, name: string, now: () => number) {
    this.#client = client
    this.#name = name
    this.#now = now
    this.#writes = new DynamoWrites(client, name, now)
  }

  async get(key: Key): Promise<Row | undefined> {
    checkKey(key.pk, key.sk)
    this.#checkOpen()
    const { Item } = await this.#client.request('GetItem', {
      TableName: this.#name,
      Key: keyOf(key),
      ConsistentRead: true,
      ReturnConsumedCapacity: 'TOTAL',
    })
    return Item && rowOf(key.pk, Item, this.#now() / 1000)
  }

  async put(row: Row, condition?: Condition): Promise<void> {
    checkRow(row)
    checkCondition(condition)
    this.#checkOpen()
    return this.#writes.put(row, condition)
  }

  async delete(key: Key, condition?: Condition): Promise<void> {
    checkKey(key.pk, key.sk)
    checkCondition(condition)
    this.#checkOpen()
    return this.#writes.delete(key, condition)
  }

  async *query(pk: string, range: Range = {}): AsyncGenerator<Row> {
    const { from = '', to, reverse = false } = range
    checkKey(pk, from + (to ?? ''))
    let left = range.limit
    let after: Item | undefined
    const asked = queryOf(this.#name, pk, from, to)
    if (asked === undefined) return
    while (left === undefined || left > 0) {
      this.#checkOpen()
      const { Items = [], LastEvaluatedKey } = await this.#client.request('Query', {
        ...asked,
        ScanIndexForward: !reverse,
        ...(left !== undefined && { Limit: Math.min(left, LIMIT_MAX) }),
        ...(after !== undefined && { ExclusiveStartKey: after }),
      })
      for (const item of Items) {
        const row = rowOf(pk, item, this.#now() / 1000)
        if (row === undefined) continue
        yield row
        if (left !== undefined) left--
      }
      if (LastEvaluatedKey === undefined) return
      after = LastEvaluatedKey
    }
  }

  /** Resolves when what was put is durable, or refused; budgets bound it. What comes after is refused. */
  close(): Promise<void> {
    this.#closing ??= this.#writes.idle().then(() => this.#client.close())
    return this.#closing
  }

  #checkOpen(): void {
    if (this.#closing) throw new TableUnavailable('the table is closed')
  }
}

/** DynamoDB counts in 32 bits. A page is at its megabyte long before. */
const LIMIT_MAX = 2 ** 31 - 1

/** Undefined where nothing can be in the range; DynamoDB refuses one that is upside down. */
function queryOf(TableName: string, pk: string, from: string, to: string | undefined): Input<'Query'> | undefined {
  const [first, last] = [storedSk(from), to === undefined ? undefined : storedSk(to)]
  if (last !== undefined && compareUtf8(first, last) > 0) return undefined
  const values: Item = { ':pk': { S: storedPk(pk) } }
  let condition = `${PK} = :pk`
  if (last !== undefined) {
    condition += from === '' ? ` AND ${SK} <= :to` : ` AND ${SK} BETWEEN :from AND :to`
    values[':to'] = { S: last }
  } else if (from !== '') condition += ` AND ${SK} >= :from`
  if (from !== '') values[':from'] = { S: first }
  return {
    TableName,
    KeyConditionExpression: condition,
    ExpressionAttributeValues: values,
    ConsistentRead: true,
    ReturnConsumedCapacity: 'TOTAL',
  }
}

// The way of writes to DynamoDB: those of one key one after the other, unconditional ones in batches.
//
// Every key that is being written has a line. Who comes to the front is sent: a conditional write by itself, an unconditional one
// with up to 24 others that are ready, at the end of the turn. An unconditional write that would stand behind another that
// has not been sent takes its place: one item is written, and both are told.
//
// What a lost answer leaves open: DynamoDB may carry out a request that we have given up, after a later one. A conditional write
// then fails by its condition. An unconditional one may bring back what was there before it: no promise may rest on these.
import type { WriteRequest } from '@aws-sdk/client-dynamodb'
import { ConditionFailed, type DynamoClient } from './dynamo-client.ts'
import { askedOf, type Item, itemOf, keyOf, PK, rowOf, SK, tombstoneOf } from './dynamo-rows.ts'
import { rowBytes } from './rows.ts'
import { type Condition, type Key, type Row, TableUnavailable, VersionConflict } from './table.ts'

/** DynamoDB takes 25, of 16 MB; a smaller one is sooner there, and sooner sent again. */
export const BATCH_WRITES_MAX = 25
const BATCH_BYTES_MAX = 2_000_000
/** Writes that wait beyond these are refused at once. */
export const WAITING_WRITES_MAX = 100_000
export const WAITING_BYTES_MAX = 64_000_000

interface Caller {
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

interface Write {
  readonly key: Key
  /** By which it is known in `#lines`. */
  readonly name: string
  /** Undefined deletes. */
  item: Item | undefined
  version: string
  bytes: number
  readonly condition: Condition | undefined
  /** Too late to be replaced. */
  sent: boolean
  readonly callers: Caller[]
}

export class DynamoWrites {
  readonly #client: DynamoClient
  readonly #table: string
  readonly #now: () => number
  /** By key: the first is being written or about to be. */
  readonly #lines = new Map<string, Write[]>()
  /** Unconditional ones at the front of their lines. */
  #ready: Write[] = []
  /** Batches that wait for their turn to be sent, and then take what is ready. */
  #batches = 0
  #flushing = false
  #count = 0
  #bytes = 0
  #whenIdle: (() => void) | undefined

  constructor(client: DynamoClient, table: string, now: () => number) {
    this.#client = client
    this.#table = table
    this.#now = now
  }

  put(row: Row, condition: Condition | undefined): Promise<void> {
    return this.#add(row, itemOf(row), row.version, rowBytes(row), condition)
  }

  delete(key: Key, condition: Condition | undefined): Promise<void> {
    const bytes = key.pk.length + key.sk.length
    if (typeof condition !== 'object') return this.#add(key, undefined, '', bytes, condition)
    const { olderThan } = condition
    return this.#add(key, tombstoneOf(key, olderThan, this.#now() / 1000), olderThan, bytes, condition)
  }

  /** Resolves when nothing is being written or waits for it. */
  async idle(): Promise<void> {
    if (this.#count > 0) await new Promise<void>((resolve) => (this.#whenIdle = resolve))
  }

  #add({ pk, sk }: Key, item: Item | undefined, version: string, bytes: number, condition: Condition | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#count >= WAITING_WRITES_MAX || this.#bytes + bytes > WAITING_BYTES_MAX)
        throw new TableUnavailable('DynamoDB does not keep up')
      const name = `${pk.length} ${pk}${sk}`
      const line = this.#lines.get(name)
      const last = line?.at(-1)
      if (last && !last.sent && last.condition === undefined && condition === undefined) {
        this.#bytes += bytes - last.bytes
        this.#count++
        Object.assign(last, { item, version, bytes })
        last.callers.push({ resolve, reject })
        return
      }
      const write = { key: { pk, sk }, name, item, version, bytes, condition, sent: false, callers: [{ resolve, reject }] }
      this.#count++
      this.#bytes += bytes
      if (line) line.push(write)
      else {
        this.#lines.set(name, [write])
        this.#begin(write)
      }
    })
  }

  #begin(write: Write): void {
    if (write.condition !== undefined) void this.#writeIf(write, write.condition)
    else {
      this.#ready.push(write)
      this.#flushSoon()
    }
  }

  /** Where the table was unavailable, the whole line is told so: callers try again in the order they came, and none is overtaken. */
  #settle(write: Write, error?: unknown): void {
    const line = this.#lines.get(write.name)!
    for (const ended of line.splice(0, error instanceof TableUnavailable ? line.length : 1)) {
      const reason = ended === write ? error : new TableUnavailable('an earlier write of the same key failed', { cause: error })
      this.#count -= ended.callers.length
      this.#bytes -= ended.bytes
      for (const { resolve, reject } of ended.callers) {
        if (reason === undefined) resolve()
        else reject(reason)
      }
    }
    if (line.length > 0) this.#begin(line[0]!)
    else this.#lines.delete(write.name)
    if (this.#count === 0) this.#whenIdle?.()
  }

  // With a condition ---------------------------------------------------------------------------------------------------

  async #writeIf(write: Write, condition: Condition): Promise<void> {
    write.sent = true
    try {
      if (write.item !== undefined || condition !== '') await this.#ask(write, condition)
      else await this.#checkAbsent(write.key)
      this.#settle(write)
    } catch (error) {
      this.#settle(write, error instanceof ConditionFailed ? refusalOf(write, error) : error)
    }
  }

  async #ask({ key, item }: Write, condition: Condition): Promise<void> {
    const asked = { ...askedOf(condition, this.#now() / 1000), TableName: this.#table, ReturnConsumedCapacity: 'TOTAL' } as const
    if (item === undefined) await this.#client.request('DeleteItem', { Key: keyOf(key), ...asked })
    else await this.#client.request('PutItem', { Item: item, ...asked })
  }

  /** To delete what must not be there is nothing to do, and would be wrong to a tombstone. */
  async #checkAbsent(key: Key): Promise<void> {
    const asked = { TableName: this.#table, Key: keyOf(key), ConsistentRead: true, ReturnConsumedCapacity: 'TOTAL' } as const
    const { Item } = await this.#client.request('GetItem', asked)
    if (Item && rowOf(key.pk, Item, this.#now() / 1000)) throw new VersionConflict(key)
  }

  // Without one --------------------------------------------------------------------------------------------------------

  /** In the check phase, so that all that the sockets of this turn cause is in one batch. */
  #flushSoon(): void {
    if (this.#flushing) return
    this.#flushing = true
    setImmediate(() => {
      this.#flushing = false
      this.#flush()
    })
  }

  /** As many batches as all that is ready fills. When one may be sent it takes what is ready then, and is the fuller for it. */
  #flush(): void {
    while (this.#batches * BATCH_WRITES_MAX < this.#ready.length) {
      this.#batches++
      void this.#writeBatch()
    }
  }

  async #writeBatch(): Promise<void> {
    const budget = this.#client.newBudget()
    let left: Map<string, Write> | undefined
    try {
      for (;;) {
        const batch = left
        const { UnprocessedItems } = await this.#client.request(
          'BatchWriteItem',
          () => {
            left = batch ?? this.#take()
            return { RequestItems: { [this.#table]: requestsFor(left) }, ReturnConsumedCapacity: 'TOTAL' }
          },
          budget,
        )
        left = this.#settleProcessed(left!, UnprocessedItems?.[this.#table] ?? [])
        if (left.size === 0) return
        await this.#client.pause(budget, 'BatchWriteItem', new Error(`${left.size} items were not processed`))
      }
    } catch (error) {
      left ??= this.#take() // it never came to be sent
      for (const write of left.values()) this.#settle(write, error)
    }
  }

  /** By stored key. Something is ready: there are no more batches than that fills. */
  #take(): Map<string, Write> {
    this.#batches--
    const taken = new Map<string, Write>()
    let bytes = 0
    for (const write of this.#ready) {
      bytes += write.bytes
      if (taken.size === BATCH_WRITES_MAX || (bytes > BATCH_BYTES_MAX && taken.size > 0)) break
      write.sent = true
      taken.set(nameOf(write.item ?? keyOf(write.key)), write)
    }
    this.#ready = this.#ready.slice(taken.size)
    this.#flush() // what was too large for this one
    return taken
  }

  #settleProcessed(sent: Map<string, Write>, unprocessed: readonly WriteRequest[]): Map<string, Write> {
    const left = new Map<string, Write>()
    for (const { PutRequest, DeleteRequest } of unprocessed) {
      const name = nameOf((PutRequest?.Item ?? DeleteRequest?.Key)!)
      const write = sent.get(name)
      if (write) left.set(name, write)
    }
    for (const [name, write] of sent) if (!left.has(name)) this.#settle(write)
    return left
  }
}

function requestsFor(writes: ReadonlyMap<string, Write>): WriteRequest[] {
  const requests: WriteRequest[] = []
  for (const { item, key } of writes.values())
    requests.push(item ? { PutRequest: { Item: item } } : { DeleteRequest: { Key: keyOf(key) } })
  return requests
}

function nameOf(item: Item): string {
  const pk = item[PK]!.S!
  return `${pk.length} ${pk}${item[SK]!.S}`
}

/**
 * What became of a write whose condition does not hold. After a lost answer the version that is stored tells: its own says that
 * it was done. Another one says nothing, for it may have been done and then been overwritten or deleted: that is neither
 * yes nor no. Where versions rise it does not matter: what is newer stays, either way.
 */
function refusalOf({ key, item, version, condition }: Write, { version: stored, doubt }: ConditionFailed): Error | undefined {
  if (!doubt) return new VersionConflict(key)
  if (item !== undefined && stored === version) return undefined
  if (typeof condition === 'object') return new VersionConflict(key)
  return new TableUnavailable(
    `whether ${key.pk} ${key.sk} was written is not known: the answer was lost, and it has changed since`,
  )
}

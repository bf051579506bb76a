// Requests to DynamoDB: so many at a time, each tried again until its time is up, all of them counted.
//
// There is one policy of retries, and it is here; the SDK's own are off. A request that is throttled, lost or answered with 5xx is
// tried again after a random pause of up to 25 ms, 50 ms, 100 ms … 1 s ("full jitter": those who failed together must not come
// back together), for 6 s; then it is TableUnavailable, with the last fault as its cause. It holds no connection
// while it pauses, so that a throttled key holds up nobody else.
//
// The SDK is loaded when the first table is opened, and made lean: the chain of functions around a request is put together once per
// command and not per request, without those that log, trace, and describe this machine. Measured with DynamoDB Local, CPU of
// this process per request: put of 500 bytes 690 µs as it comes, 270 so; batch of 25 890, 440; query of 40 rows 730, 520.
import { setTimeout as delay } from 'node:timers/promises'
import type {
  BatchWriteItemCommandInput,
  BatchWriteItemCommandOutput,
  ConditionalCheckFailedException,
  ConsumedCapacity,
  CreateTableCommandInput,
  CreateTableCommandOutput,
  DeleteItemCommandInput,
  DeleteItemCommandOutput,
  DescribeTableCommandInput,
  DescribeTableCommandOutput,
  DescribeTimeToLiveCommandInput,
  DescribeTimeToLiveCommandOutput,
  DynamoDBClient,
  GetItemCommandInput,
  GetItemCommandOutput,
  PutItemCommandInput,
  PutItemCommandOutput,
  QueryCommandInput,
  QueryCommandOutput,
  UpdateTimeToLiveCommandInput,
  UpdateTimeToLiveCommandOutput,
} from '@aws-sdk/client-dynamodb'
import { faultOf, isOurFault, type Outcome, wordsOf } from './dynamo-errors.ts'
import { DynamoHttp } from './dynamo-http.ts'
import { VERSION } from './dynamo-rows.ts'
import { type TableMeter, TableUnavailable } from './table.ts'

interface Operations {
  GetItem: [GetItemCommandInput, GetItemCommandOutput]
  PutItem: [PutItemCommandInput, PutItemCommandOutput]
  DeleteItem: [DeleteItemCommandInput, DeleteItemCommandOutput]
  BatchWriteItem: [BatchWriteItemCommandInput, BatchWriteItemCommandOutput]
  Query: [QueryCommandInput, QueryCommandOutput]
  DescribeTable: [DescribeTableCommandInput, DescribeTableCommandOutput]
  CreateTable: [CreateTableCommandInput, CreateTableCommandOutput]
  DescribeTimeToLive: [DescribeTimeToLiveCommandInput, DescribeTimeToLiveCommandOutput]
  UpdateTimeToLive: [UpdateTimeToLiveCommandInput, UpdateTimeToLiveCommandOutput]
}
export type Operation = keyof Operations
export type Input<O extends Operation> = Operations[O][0]
export type Output<O extends Operation> = Operations[O][1]

export interface DynamoTiming {
  readonly connectTimeoutMs: number
  readonly requestTimeoutMs: number
  /** From the first fault on; no new try is begun after it. Nobody waits longer than this for a first one. */
  readonly budgetMs: number
  /** The longest of the first pause, and of any. */
  readonly pauseMinMs: number
  readonly pauseMaxMs: number
}

export const TIMING: DynamoTiming = {
  connectTimeoutMs: 1_000,
  requestTimeoutMs: 3_000,
  budgetMs: 6_000,
  pauseMinMs: 25,
  pauseMaxMs: 1_000,
}

/** Requests at once. At 5 ms each that is 12 000 a second, more than one core can make. */
export const REQUESTS_MAX = 64
/** Requests that wait for their turn; one more is refused at once. */
export const WAITING_REQUESTS_MAX = 20_000
/** While nothing works, `onError` is told this often. */
const TOLD_EVERY_MS = 10_000

export interface DynamoClientOptions {
  readonly endpoint?: string
  readonly region?: string
  readonly credentials?: { readonly accessKeyId: string; readonly secretAccessKey: string }
  readonly timing: DynamoTiming
  readonly meter?: TableMeter
}

/** A condition did not hold. */
export class ConditionFailed extends Error {
  /** Of the row that is stored; '' where there is none. */
  readonly version: string
  /** An earlier try of the same write may have been done. */
  readonly doubt: boolean

  constructor(version: string, doubt: boolean) {
    super('the condition does not hold')
    this.version = version
    this.doubt = doubt
  }
}

/** The pauses of one call, until its time is up. */
export class Budget {
  readonly #timing: DynamoTiming
  #deadline: number | undefined
  #tries = 0

  constructor(timing: DynamoTiming) {
    this.#timing = timing
  }

  /** How long to pause before the next try; undefined when the time is up. */
  nextPauseMs(): number | undefined {
    const { budgetMs, pauseMinMs, pauseMaxMs } = this.#timing
    const now = performance.now()
    this.#deadline ??= now + budgetMs
    const pauseMs = Math.random() * Math.min(pauseMaxMs, pauseMinMs * 2 ** this.#tries++)
    return now + pauseMs < this.#deadline ? pauseMs : undefined
  }
}

type Sdk = typeof import('@aws-sdk/client-dynamodb')

export async function openClient(options: DynamoClientOptions): Promise<DynamoClient> {
  return new DynamoClient(await import('@aws-sdk/client-dynamodb'), options)
}

export class DynamoClient {
  readonly #sdk: Sdk
  readonly #client: DynamoDBClient
  readonly #timing: DynamoTiming
  readonly #meter: TableMeter | undefined
  /** Told of a request that has failed for good; nobody is until this is set. */
  onError: ((error: Error) => void) | undefined
  readonly #gate: Gate
  #running = 0
  #whenIdle: (() => void) | undefined
  #toldAt = Number.NEGATIVE_INFINITY

  constructor(sdk: Sdk, { endpoint, region, credentials, timing, meter }: DynamoClientOptions) {
    this.#sdk = sdk
    this.#timing = timing
    this.#meter = meter
    this.#gate = new Gate(REQUESTS_MAX, WAITING_REQUESTS_MAX, timing.budgetMs)
    const { connectTimeoutMs, requestTimeoutMs } = timing
    this.#client = new sdk.DynamoDBClient({
      ...(endpoint !== undefined && { endpoint }),
      ...(region !== undefined && { region }),
      ...(credentials !== undefined && { credentials }),
      requestHandler: new DynamoHttp({ connectTimeoutMs, requestTimeoutMs, connectionsMax: REQUESTS_MAX }),
      maxAttempts: 1,
      cacheMiddleware: true,
      accountIdEndpointMode: 'disabled', // one host for all, so that connections are kept
      base64Decoder: octetsOf,
    })
    makeLean(this.#client)
  }

  newBudget(): Budget {
    return new Budget(this.#timing)
  }

  /** `DynamoDB at http://127.0.0.1:8000 (region eu-central-1)`. Rejects where no region is known. */
  async describe(): Promise<string> {
    const region = await this.#client.config.region()
    const endpoint = await this.#client.config.endpoint?.()
    if (endpoint === undefined) return `DynamoDB in ${region}`
    const port = endpoint.port === undefined ? '' : `:${endpoint.port}`
    return `DynamoDB at ${endpoint.protocol}//${endpoint.hostname}${port} (region ${region})`
  }

  /**
   * Makes one request, and again while that may help. Rejects with ConditionFailed, with TableUnavailable, or with what the SDK
   * throws where the request is wrong in itself. A function for the input is called when it is about to be sent.
   */
  async request<O extends Operation>(
    operation: O,
    input: Input<O> | (() => Input<O>),
    budget = this.newBudget(),
  ): Promise<Output<O>> {
    this.#running++
    try {
      return await this.#untilAnswered(operation, input, budget)
    } finally {
      if (--this.#running === 0) this.#whenIdle?.()
    }
  }

  async #untilAnswered<O extends Operation>(
    operation: O,
    input: Input<O> | (() => Input<O>),
    budget: Budget,
  ): Promise<Output<O>> {
    let doubt = false
    for (;;) {
      await this.#gate.enter()
      let broke: unknown
      try {
        if (typeof input === 'function') input = input()
        return await this.#send(operation, input)
      } catch (error) {
        broke = error
      } finally {
        this.#gate.leave()
      }
      const { outcome, again, doubt: doubtful } = faultOf(broke)
      if (outcome === 'conflict') throw new ConditionFailed(versionIn(broke), doubt)
      if (isOurFault(broke)) throw broke
      doubt ||= doubtful
      await this.pause(again ? budget : undefined, operation, broke)
    }
  }

  /** Before the next try. Without a budget, or where it is spent, rejects with TableUnavailable. */
  async pause(budget: Budget | undefined, operation: Operation, cause: unknown): Promise<void> {
    const pauseMs = budget?.nextPauseMs()
    if (pauseMs !== undefined) return delay(pauseMs)
    const error = new TableUnavailable(`${operation} of DynamoDB failed: ${wordsOf(cause)}`, { cause })
    this.#tell(error)
    throw error
  }

  /** Waits for the requests there are, which their budgets bound. */
  async close(): Promise<void> {
    if (this.#running > 0) await new Promise<void>((resolve) => (this.#whenIdle = resolve))
    this.#client.destroy()
  }

  async #send<O extends Operation>(operation: O, input: Input<O>): Promise<Output<O>> {
    const start = performance.now()
    try {
      const output = (await this.#client.send(this.#command(operation, input) as never)) as Output<O>
      this.#count(operation, isPartial(output) ? 'partial' : 'ok', start, unitsOf(output))
      return output
    } catch (error) {
      this.#count(operation, faultOf(error).outcome, start, 0)
      throw error
    }
  }

  #command(operation: Operation, input: object): object {
    return new (this.#sdk[`${operation}Command`] as new (input: never) => object)(input as never)
  }

  /** Of a request that it refuses DynamoDB tells no units, though a condition that does not hold costs one or more. */
  #count(operation: Operation, outcome: Outcome, start: number, units: number): void {
    const reads = operation === 'GetItem' || operation === 'Query'
    this.#meter?.(operation, outcome, performance.now() - start, reads ? units : 0, reads ? 0 : units)
  }

  #tell(error: Error): void {
    const now = performance.now()
    if (this.onError === undefined || now - this.#toldAt < TOLD_EVERY_MS) return
    this.#toldAt = now
    this.onError(error)
  }
}

/** So many at once; the others wait in the order they came, but not for ever. */
class Gate {
  readonly #max: number
  readonly #waitingMax: number
  readonly #waitMaxMs: number
  readonly #waiting: { since: number; enter: () => void; reject: (error: Error) => void }[] = []
  #inside = 0
  #timer: NodeJS.Timeout | undefined

  constructor(max: number, waitingMax: number, waitMaxMs: number) {
    this.#max = max
    this.#waitingMax = waitingMax
    this.#waitMaxMs = waitMaxMs
  }

  /** Rejects with TableUnavailable where too many wait, or when it has waited too long. */
  enter(): Promise<void> | undefined {
    if (this.#inside < this.#max) {
      this.#inside++
      return undefined
    }
    if (this.#waiting.length >= this.#waitingMax) return Promise.reject(new TableUnavailable(BUSY))
    return new Promise((enter, reject) => {
      this.#waiting.push({ since: performance.now(), enter, reject })
      this.#timer ??= this.#expireIn(this.#waitMaxMs)
    })
  }

  leave(): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#inside--
    else next.enter() // takes the place
  }

  #expireIn(ms: number): NodeJS.Timeout {
    return setTimeout(() => {
      const tooOld = performance.now() - this.#waitMaxMs
      while (this.#waiting.length > 0 && this.#waiting[0]!.since <= tooOld)
        this.#waiting.shift()!.reject(new TableUnavailable(BUSY))
      const oldest = this.#waiting[0]
      this.#timer = oldest && this.#expireIn(Math.max(1, oldest.since - tooOld))
    }, ms)
  }
}

const BUSY = 'DynamoDB does not keep up'

/** Leaves out what looks at each request without changing what is asked. */
function makeLean(client: DynamoDBClient): void {
  const { middlewareStack } = client
  for (const name of ['loggerMiddleware', 'recursionDetectionMiddleware', 'getUserAgentMiddleware']) middlewareStack.remove(name)
  // Others are placed by it, so it cannot be taken out.
  middlewareStack.add((next) => next, { name: 'retryMiddleware', step: 'finalizeRequest', priority: 'high', override: true })
}

/** Theirs looks through the whole text first for what is no base64. */
function octetsOf(base64: string): Uint8Array {
  const { buffer, byteOffset, length } = Buffer.from(base64, 'base64')
  return new Uint8Array(buffer, byteOffset, length)
}

function isPartial(output: object): boolean {
  const { UnprocessedItems } = output as BatchWriteItemCommandOutput
  return UnprocessedItems !== undefined && Object.keys(UnprocessedItems).length > 0
}

function unitsOf(output: object): number {
  const { ConsumedCapacity: consumed } = output as { ConsumedCapacity?: ConsumedCapacity | ConsumedCapacity[] }
  if (!Array.isArray(consumed)) return consumed?.CapacityUnits ?? 0
  let units = 0
  for (const { CapacityUnits = 0 } of consumed) units += CapacityUnits
  return units
}

function versionIn(error: unknown): string {
  return (error as ConditionalCheckFailedException).Item?.[VERSION]?.S ?? ''
}

// A DynamoDB that fails on purpose: an HTTP proxy that forwards each request to a real one, or does what a rule says.
//
//   node test/faults/dynamo-proxy.ts --upstream http://127.0.0.1:8000 [--seed 7] [--port 0] [--control-port 0]
//
// A rule names requests (operation, table, keys), how likely it is to strike, and its effect; the first that fits and strikes
// is applied. Chance comes from a seed, so that the same requests in the same order meet the same faults. Every decision is
// logged with what was forwarded and what came of it: a checker can tell "answer lost after the write" from "never written".
// Rules are changed while it runs, by calls, or from another process on the control port:
//
//   PUT  /rules      [{ "target": "PutItem", "probability": 0.3, "effect": { "kind": "throttle" } }]
//   PUT  /refusing   true: the port is closed and its connections are reset, as where no server runs; false: it is open again
//   GET  /decisions  one JSON object a line
import { once } from 'node:events'
import { createServer, type IncomingMessage, request as requestHttp, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { parseArgs } from 'node:util'
import { Random } from '#test/fuzz/random.ts'

export type Effect =
  /** Answers so, and forwards nothing. By default 500 InternalServerError. */
  | { readonly kind: 'error-before'; readonly status?: number; readonly type?: string }
  /** Forwards, waits for the answer, and gives this one in its place. */
  | { readonly kind: 'error-after'; readonly status?: number; readonly type?: string }
  /** Resets the connection, having forwarded nothing. */
  | { readonly kind: 'reset-before' }
  /** Forwards, waits for the answer, and resets the connection. */
  | { readonly kind: 'reset-after' }
  /** Forwards after a pause, at random between the two. */
  | { readonly kind: 'delay'; readonly minMs: number; readonly maxMs: number }
  /** Answers 400 ProvisionedThroughputExceededException, and forwards nothing. */
  | { readonly kind: 'throttle' }
  /**
   * Of a BatchWriteItem, forwards about half, or what does not fit `hold`, a regular expression for keys; the rest is given back as
   * UnprocessedItems. One of which nothing would be left is throttled, as DynamoDB does. Other requests pass.
   */
  | { readonly kind: 'partial'; readonly hold?: string }
  /** Takes the request, and never answers. */
  | { readonly kind: 'hang' }

export interface Rule {
  /** The operation, such as `PutItem`; any by default. */
  readonly target?: string
  readonly table?: string
  /** A regular expression that some key of the request (`pk sk`, of what is asked, put or deleted) fits. */
  readonly keyPattern?: string
  /** 0 to 1; always by default. */
  readonly probability?: number
  readonly effect: Effect
}

export interface Decision {
  readonly number: number
  readonly operation: string
  readonly keys: readonly string[]
  /** `pass` where no rule struck. */
  readonly effect: Effect['kind'] | 'pass'
  /** Of those keys, the ones that were sent on. */
  forwarded: readonly string[]
  /** The status of the real answer; undefined while there is none. */
  upstreamStatus: number | undefined
}

export interface DynamoProxy {
  readonly endpoint: string
  readonly control: string
  readonly seed: number
  rules: readonly Rule[]
  readonly decisions: readonly Decision[]
  refuse(refusing: boolean): Promise<void>
  close(): Promise<void>
}

export interface DynamoProxyOptions {
  readonly upstream: string
  readonly seed?: number
  readonly rules?: readonly Rule[]
  /** Any free ones by default. */
  readonly port?: number
  readonly controlPort?: number
}

/** Of the newest; a soak makes more. */
const DECISIONS_MAX = 1_000_000
const HOST = '127.0.0.1'

export async function startDynamoProxy(options: DynamoProxyOptions): Promise<DynamoProxy> {
  const proxy = new FaultyProxy(options)
  await proxy.start(options)
  return proxy
}

class FaultyProxy implements DynamoProxy {
  readonly seed: number
  rules: readonly Rule[]
  readonly decisions: Decision[] = []
  readonly #random: Random
  readonly #upstream: URL
  readonly #server = createServer((request, response) => void this.#serve(request, response))
  readonly #control = createServer((request, response) => void this.#obey(request, response))
  readonly #sockets = new Set<Socket>()
  #port = 0
  #count = 0

  constructor({ upstream, seed = Math.floor(Math.random() * 1_000_000), rules = [] }: DynamoProxyOptions) {
    this.seed = seed
    this.rules = rules
    this.#random = new Random(seed, 0)
    this.#upstream = new URL(upstream)
    this.#server.on('connection', (socket) => {
      this.#sockets.add(socket)
      socket.on('close', () => this.#sockets.delete(socket))
    })
  }

  async start({ port = 0, controlPort = 0 }: DynamoProxyOptions): Promise<void> {
    this.#port = await listen(this.#server, port)
    await listen(this.#control, controlPort)
  }

  get endpoint(): string {
    return `http://${HOST}:${this.#port}`
  }

  get control(): string {
    return `http://${HOST}:${(this.#control.address() as AddressInfo).port}`
  }

  async refuse(refusing: boolean): Promise<void> {
    if (refusing === !this.#server.listening) return
    if (!refusing) {
      await listen(this.#server, this.#port)
      return
    }
    const closed = once(this.#server, 'close')
    this.#server.close()
    for (const socket of this.#sockets) socket.resetAndDestroy()
    await closed
  }

  async close(): Promise<void> {
    await this.refuse(true)
    this.#control.closeAllConnections()
    await new Promise((closed) => this.#control.close(closed))
  }

  // A request ----------------------------------------------------------------------------------------------------------

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const body = await bodyOf(request)
      const asked = askedIn(request, body)
      const effect = this.#effectFor(asked)
      const decision: Decision = {
        number: this.#count++,
        operation: asked.operation,
        keys: asked.keys,
        effect: effect?.kind ?? 'pass',
        forwarded: [],
        upstreamStatus: undefined,
      }
      if (this.decisions.push(decision) > DECISIONS_MAX) this.decisions.splice(0, DECISIONS_MAX / 10)
      await this.#apply(effect, decision, asked, request, body, response)
    } catch {
      response.socket?.resetAndDestroy() // who asked has gone, or the real one has
    }
  }

  async #apply(
    effect: Effect | undefined,
    decision: Decision,
    asked: Asked,
    request: IncomingMessage,
    body: Buffer,
    response: ServerResponse,
  ): Promise<void> {
    if (effect?.kind === 'hang') return
    if (effect?.kind === 'throttle') return refuse(response, 400, 'ProvisionedThroughputExceededException')
    if (effect?.kind === 'error-before') return refuse(response, effect.status, effect.type)
    if (effect?.kind === 'reset-before') return void response.socket?.resetAndDestroy()
    if (effect?.kind === 'delay') {
      const ms = effect.minMs + this.#random.int(effect.maxMs - effect.minMs + 1)
      await new Promise((resume) => setTimeout(resume, ms))
    }
    const split = effect?.kind === 'partial' ? this.#split(asked, effect.hold) : undefined
    if (split?.forwarded.length === 0) return refuse(response, 400, 'ProvisionedThroughputExceededException')
    decision.forwarded = split?.forwarded ?? asked.keys
    const real = await this.#forward(request, split?.body ?? body)
    decision.upstreamStatus = real.status
    if (effect?.kind === 'error-after') return refuse(response, effect.status, effect.type)
    if (effect?.kind === 'reset-after') return void response.socket?.resetAndDestroy()
    response.writeHead(real.status, { 'content-type': 'application/x-amz-json-1.0' })
    response.end(split && real.status === 200 ? withUnprocessed(real.body, split.held) : real.body)
  }

  #effectFor({ operation, tables, keys }: Asked): Effect | undefined {
    for (const { target, table, keyPattern, probability = 1, effect } of this.rules) {
      if (target !== undefined && target !== operation) continue
      if (table !== undefined && !tables.includes(table)) continue
      if (keyPattern !== undefined && !keys.some((key) => new RegExp(keyPattern).test(key))) continue
      if (this.#random.int(1_000_000) < probability * 1_000_000) return effect
    }
    return undefined
  }

  /** Undefined where it is no batch. */
  #split({ operation, content }: Asked, hold?: string): { body: Buffer; forwarded: string[]; held: Requests } | undefined {
    if (operation !== 'BatchWriteItem') return undefined
    const all = Object.entries(content.RequestItems ?? {}).flatMap(([table, writes]) => writes.map((write) => ({ table, write })))
    const sent = all.filter(({ write }) => (hold === undefined ? this.#random.chance(2) : !new RegExp(hold).test(keyIn(write))))
    if (sent.length === 0 && hold === undefined) sent.push(all[0]!)
    const body = Buffer.from(JSON.stringify({ ...content, RequestItems: byTable(sent) }))
    const held = byTable(all.filter((one) => !sent.includes(one)))
    return { body, forwarded: sent.map(({ write }) => keyIn(write)), held }
  }

  #forward(request: IncomingMessage, body: Buffer): Promise<{ status: number; body: Buffer }> {
    return new Promise((resolve, reject) => {
      const { hostname, port } = this.#upstream
      const headers = { ...request.headers, 'content-length': `${body.length}` }
      const onward = requestHttp({ hostname, port, method: request.method, path: request.url, headers }, (answer) => {
        bodyOf(answer).then((body) => resolve({ status: answer.statusCode ?? 500, body }), reject)
      })
      onward.on('error', reject)
      onward.end(body)
    })
  }

  // Control ------------------------------------------------------------------------------------------------------------

  async #obey(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const body = (await bodyOf(request)).toString()
      const order = `${request.method} ${request.url}`
      if (order === 'PUT /rules' || order === 'POST /rules') this.rules = JSON.parse(body) as Rule[]
      else if (order === 'PUT /refusing' || order === 'POST /refusing') await this.refuse(JSON.parse(body) === true)
      else if (order !== 'GET /decisions') return void response.writeHead(404).end(`there is no ${order}\n`)
      response.end(order === 'GET /decisions' ? this.decisions.map((one) => `${JSON.stringify(one)}\n`).join('') : 'done\n')
    } catch (error) {
      response.writeHead(400).end(`${(error as Error).message}\n`)
    }
  }
}

async function listen(server: Server, port: number): Promise<number> {
  server.listen(port, HOST)
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

async function bodyOf(message: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of message) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

function refuse(response: ServerResponse, status = 500, type = 'InternalServerError'): void {
  response.writeHead(status, { 'content-type': 'application/x-amz-json-1.0' })
  response.end(JSON.stringify({ __type: `com.amazonaws.dynamodb.v20120810#${type}`, message: 'by a rule of the faulty proxy' }))
}

// What is asked ------------------------------------------------------------------------------------------------------

type Item = Record<string, { S?: string } | undefined>
interface WriteRequest {
  readonly PutRequest?: { readonly Item: Item }
  readonly DeleteRequest?: { readonly Key: Item }
}
type Requests = Record<string, WriteRequest[]>

interface Content {
  readonly TableName?: string
  readonly Key?: Item
  readonly Item?: Item
  readonly RequestItems?: Requests
  readonly ExpressionAttributeValues?: Item
}

interface Asked {
  readonly operation: string
  readonly content: Content
  readonly tables: readonly string[]
  readonly keys: readonly string[]
}

/** `X-Amz-Target: DynamoDB_20120810.PutItem` */
function askedIn(request: IncomingMessage, body: Buffer): Asked {
  const operation = String(request.headers['x-amz-target'] ?? '').split('.')[1] ?? ''
  const content = (body.length === 0 ? {} : JSON.parse(body.toString())) as Content
  const tables = content.TableName === undefined ? Object.keys(content.RequestItems ?? {}) : [content.TableName]
  const keys = Object.values(content.RequestItems ?? {}).flatMap((writes) => writes.map(keyIn))
  const one = content.Key ?? content.Item
  if (one) keys.push(keyText(one))
  if (operation === 'Query') keys.push(keyText({ pk: content.ExpressionAttributeValues?.[':pk'] }))
  return { operation, content, tables, keys }
}

function keyIn({ PutRequest, DeleteRequest }: WriteRequest): string {
  return keyText((PutRequest?.Item ?? DeleteRequest?.Key)!)
}

function keyText({ pk, sk }: Item): string {
  return `${pk?.S ?? ''} ${sk?.S ?? ''}`
}

function byTable(all: readonly { table: string; write: WriteRequest }[]): Requests {
  const requests: Requests = {}
  for (const { table, write } of all) (requests[table] ??= []).push(write)
  return requests
}

function withUnprocessed(body: Buffer, held: Requests): string {
  const answer = JSON.parse(body.toString()) as { UnprocessedItems?: Requests }
  const UnprocessedItems: Requests = { ...answer.UnprocessedItems }
  for (const [table, writes] of Object.entries(held)) UnprocessedItems[table] = [...(UnprocessedItems[table] ?? []), ...writes]
  return JSON.stringify({ ...answer, UnprocessedItems })
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      upstream: { type: 'string' },
      seed: { type: 'string' },
      port: { type: 'string', default: '0' },
      'control-port': { type: 'string', default: '0' },
    },
  })
  if (values.upstream === undefined)
    throw new Error('usage: dynamo-proxy.ts --upstream URL [--seed N] [--port N] [--control-port N]')
  const proxy = await startDynamoProxy({
    upstream: values.upstream,
    ...(values.seed !== undefined && { seed: Number(values.seed) }),
    port: Number(values.port),
    controlPort: Number(values['control-port']),
  })
  console.log(JSON.stringify({ endpoint: proxy.endpoint, control: proxy.control, seed: proxy.seed }))
}

// HTTP for the SDK of AWS, in place of its own handler.
//
// One timer bounds the whole exchange, the body of the answer included: theirs stops at the headers, and four timers a
// request cost more than the rest of it. A timeout makes the idle connections suspect as well, so they are closed: after a
// partition each of them would cost a timeout of its own.
import { type ClientRequest, Agent as HttpAgent, type IncomingMessage, request as requestHttp } from 'node:http'
import { Agent as HttpsAgent, request as requestHttps } from 'node:https'

export interface DynamoHttpOptions {
  connectTimeoutMs: number
  requestTimeoutMs: number
  /** No more requests than this are sent at once. */
  connectionsMax: number
}

/** What the SDK hands over. */
interface Outgoing {
  readonly protocol: string
  readonly hostname: string
  readonly port?: number
  readonly method: string
  readonly path: string
  readonly headers: Record<string, string>
  readonly body?: unknown
}

interface Answer {
  readonly response: { statusCode: number; reason: string | undefined; headers: Record<string, string>; body: Uint8Array }
}

/** No answer came in time. */
export class RequestTimeout extends Error {
  /** False where not even a connection was made: then nothing was asked. */
  readonly sent: boolean

  constructor(message: string, sent: boolean) {
    super(message)
    this.name = 'TimeoutError'
    this.sent = sent
  }
}

export class DynamoHttp {
  readonly metadata = { handlerProtocol: 'http/1.1' }
  readonly #options: DynamoHttpOptions
  readonly #http: HttpAgent
  readonly #https: HttpsAgent

  constructor(options: DynamoHttpOptions) {
    const agent = { keepAlive: true, keepAliveMsecs: 30_000, maxSockets: options.connectionsMax, scheduling: 'lifo' } as const
    this.#options = options
    this.#http = new HttpAgent(agent)
    this.#https = new HttpsAgent(agent)
  }

  handle(outgoing: Outgoing): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const secure = outgoing.protocol === 'https:'
      const { hostname, port, method, path, headers } = outgoing
      const host = hostname.startsWith('[') ? hostname.slice(1, -1) : hostname
      const agent = secure ? this.#https : this.#http
      const request = (secure ? requestHttps : requestHttp)({ agent, host, port, method, path, headers })
      const timer = setTimeout(() => {
        this.#closeIdle()
        request.destroy(new RequestTimeout(`no answer within ${this.#options.requestTimeoutMs} ms`, true))
      }, this.#options.requestTimeoutMs)
      const fail = (error: Error) => {
        clearTimeout(timer)
        reject(error)
      }
      request.on('error', fail)
      request.on('response', (response) => {
        collect(response, fail, (body) => {
          clearTimeout(timer)
          resolve(answerOf(response, body))
        })
      })
      boundConnecting(request, this.#options.connectTimeoutMs)
      request.end(outgoing.body)
    })
  }

  destroy(): void {
    this.#http.destroy()
    this.#https.destroy()
  }

  // The SDK asks for these two of every handler; what they would change is fixed here.
  updateHttpClientConfig(): void {}
  httpHandlerConfigs(): object {
    return {}
  }

  #closeIdle(): void {
    for (const agent of [this.#http, this.#https])
      for (const sockets of Object.values(agent.freeSockets)) for (const socket of sockets ?? []) socket.destroy()
  }
}

function boundConnecting(request: ClientRequest, timeoutMs: number): void {
  request.once('socket', (socket) => {
    if (!socket.connecting) return
    const timer = setTimeout(() => {
      request.destroy(new RequestTimeout(`no connection within ${timeoutMs} ms`, false))
    }, timeoutMs)
    const stop = () => clearTimeout(timer)
    socket.once('connect', stop)
    request.once('close', stop)
  })
}

function collect(response: IncomingMessage, fail: (error: Error) => void, done: (body: Uint8Array) => void): void {
  const chunks: Uint8Array[] = []
  response.on('data', (chunk: Uint8Array) => chunks.push(chunk))
  response.on('error', fail)
  response.on('end', () => done(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks)))
}

function answerOf(response: IncomingMessage, body: Uint8Array): Answer {
  const headers = response.headers as Record<string, string> // of those that may come several times none is looked at
  return { response: { statusCode: response.statusCode ?? 0, reason: response.statusMessage, headers, body } }
}

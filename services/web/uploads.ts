// XEP-0363: the files that clients put here and read here (modules/http-upload.ts gives out the addresses).
//
// An address says all there is to know, sealed (core/files/upload-address.ts), so any web process takes and serves any file, and what
// was not given out is refused before anything is read. Bodies go from the socket to the disk and back in pieces. What others
// have written is served so that it can do nothing in a browser: as a type of ours, never guessed, in a sandbox, and
// what is neither picture, sound, film nor plain text only to be saved. With a bucket, files are put there directly, and whoever
// reads one is sent there.
import type { Readable } from 'node:stream'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import {
  DAY_MS,
  dispositionOf,
  parseFile,
  parseSlot,
  type Slot,
  servedType,
  UNKNOWN_TYPE,
  UPLOAD_PATH,
  type UploadedFile,
} from '#core/files/upload-address.ts'
import { type DiskUploads, type OpenFile, type UploadFault, UploadRefused } from '#core/files/upload-disk.ts'
import { openUploads, UPLOAD_MODULE, UPLOAD_SECRET, type UploadOptions, type Uploads } from '#core/files/uploads.ts'
import type { Process } from '#core/process.ts'
import { sharedSecret } from '#core/storage/shared-secret.ts'

/** A file may take a minute, and a second for each so many bytes of it. */
const UPLOAD_LEAST_MS = 60_000
const UPLOAD_BYTES_PER_S = 16 * 1024
const SWEEP_EACH_MS = 3_600_000
/** How long an address in the bucket holds that somebody is sent to, and how long he may go by it. */
const SENT_SECONDS = 3_600
const SENT_KEPT_S = 600

/** Nothing may run or load, whatever a file is; the rest is for the players that browsers put around films and sounds. */
const FILE_POLICY =
  "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"
/** Clients in browsers are pages of any site; what they may read here is no secret to whoever has the address. */
const OPEN_TO_PAGES = {
  'access-control-allow-origin': '*',
  'access-control-expose-headers': 'Accept-Ranges, Content-Disposition, Content-Length, Content-Range, ETag, Retry-After',
  'cross-origin-resource-policy': 'cross-origin',
}
const PREFLIGHT = {
  'access-control-allow-methods': 'GET, HEAD, PUT, OPTIONS',
  'access-control-allow-headers': 'Authorization, Content-Type, If-None-Match, If-Range, Range',
  'access-control-max-age': '7200',
}
const FAULTS: Readonly<Record<UploadFault, readonly [status: number, text: string]>> = {
  taken: [409, 'this file is here already, or is being uploaded'],
  length: [400, 'the file is not as long as was said'],
  full: [507, 'there is no room for this file'],
}

export interface WebUploads {
  readonly uploads: Uploads
  /** Whether a request with this method goes to a file. */
  takes(method: string, url: string): boolean
  /** Adds the addresses to an app. */
  serve(app: FastifyInstance): Promise<void>
  stop(): void
}

/** Undefined where the module is not loaded. Throws Error that says what to set. */
export async function openWebUploads(process: Process): Promise<WebUploads | undefined> {
  const { server, modules, clock, log } = process
  if (!modules.some(({ name }) => name === UPLOAD_MODULE)) return undefined
  const uploads = openUploads(server.moduleOptions[UPLOAD_MODULE] as UploadOptions, server.data ?? process.config.data)
  const files = new Files(process, uploads)
  let sweeping: object | undefined
  if (uploads.where === 'here') {
    await uploads.prepare()
    const sweep = async (): Promise<void> => {
      try {
        const days = await uploads.sweep(Math.floor(clock.now() / DAY_MS))
        if (days > 0) log.info('uploads.expired', { days })
      } catch (error) {
        log.warn('uploads.not_removed', { error })
      }
    }
    await sweep()
    sweeping = clock.setInterval(() => void sweep(), SWEEP_EACH_MS)
  }
  const methods = uploads.where === 'here' ? ['PUT', 'OPTIONS'] : ['OPTIONS']
  return {
    uploads,
    takes: (method, url) => methods.includes(method) && url.startsWith(UPLOAD_PATH),
    serve: (app) => files.serve(app),
    stop: () => clock.clearTimeout(sweeping),
  }
}

type Params = { Params: { id: string; name: string } }

class Files {
  readonly #process: Process
  readonly #uploads: Uploads
  readonly #secret: () => Promise<Buffer>
  readonly #count: (what: 'put' | 'get' | 'refused', bytes: number) => void

  constructor(process: Process, uploads: Uploads) {
    this.#process = process
    this.#uploads = uploads
    this.#secret = sharedSecret(process.table, UPLOAD_SECRET)
    const { metrics } = process
    const requests = metrics.counter('uploads_total', 'Files that were put and read over HTTP, and refused.', ['what'])
    const bytes = metrics.counter('upload_bytes_total', 'Bytes of files that were put and read over HTTP.', ['what'])
    this.#count = (what, size) => {
      requests.labels(what).inc()
      if (size > 0) bytes.labels(what).inc(size)
    }
  }

  /** In a part of its own, where bodies are not read before somebody asks for them. */
  async serve(app: FastifyInstance): Promise<void> {
    await app.register(async (own) => {
      own.removeAllContentTypeParsers()
      own.addContentTypeParser('*', (_request, payload, done) => done(null, payload))
      own.addHook('onRequest', (_request, reply, done) => {
        reply.headers(OPEN_TO_PAGES)
        done()
      })
      const path = `${UPLOAD_PATH}:id/:name`
      own.options<Params>(path, (_request, reply) => reply.code(204).headers(PREFLIGHT).send())
      own.route<Params>({
        method: ['GET', 'HEAD'],
        url: path,
        exposeHeadRoute: false,
        handler: (request, reply) => this.#get(request, reply),
      })
      const uploads = this.#uploads
      if (uploads.where !== 'here') return
      // Before the body: nobody is told to go on sending what will be refused.
      own.put<Params>(path, (request, reply) => this.#put(uploads, request, reply))
    })
  }

  /** What the address names; undefined where it was never given out. */
  async #fileOf({ params: { id, name } }: FastifyRequest<Params>): Promise<UploadedFile | undefined> {
    return parseFile(await this.#secret(), id, name)
  }

  async #put(uploads: DiskUploads, request: FastifyRequest<Params>, reply: FastifyReply): Promise<FastifyReply> {
    const { clock, log } = this.#process
    const file = await this.#fileOf(request)
    const slot = file && parseSlot(await this.#secret(), file, new URL(request.url, 'http://localhost').searchParams)
    const trouble = file && slotTrouble(file, slot, request.headers, clock.now())
    if (file === undefined || slot === undefined || trouble !== undefined) return this.#refuse(reply, ...(trouble ?? NO_SLOT))
    const body = request.raw
    const mostMs = UPLOAD_LEAST_MS + Math.ceil((slot.size / UPLOAD_BYTES_PER_S) * 1_000)
    const late = clock.setTimeout(() => body.destroy(new Error('the upload takes too long')), mostMs)
    try {
      await uploads.write(file.key, slot.size, body)
    } catch (error) {
      if (error instanceof UploadRefused) return this.#refuse(reply, ...FAULTS[error.fault])
      if (body.destroyed && !body.complete) return this.#refuse(reply, 408, 'the upload has ended before its end') // nobody hears it
      log.error('upload.failed', { error })
      return this.#refuse(reply, 500, 'the file could not be kept')
    } finally {
      clock.clearTimeout(late)
    }
    this.#count('put', slot.size)
    log.info('upload.taken', { bytes: slot.size, type: file.type })
    return reply.removeHeader('connection').code(201).send()
  }

  async #get(request: FastifyRequest<Params>, reply: FastifyReply): Promise<FastifyReply> {
    const { clock } = this.#process
    const file = await this.#fileOf(request)
    const nowMs = clock.now()
    if (file === undefined || file.day < Math.floor(nowMs / DAY_MS)) return this.#refuse(reply, 404, 'there is no such file')
    const uploads = this.#uploads
    if (uploads.where === 'elsewhere') {
      const served = { type: file.type, disposition: dispositionOf(file) }
      const url = await uploads.getUrl(file.key, served, SENT_SECONDS, nowMs)
      return reply.header('cache-control', `private, max-age=${SENT_KEPT_S}`).redirect(url, 307)
    }
    const open = await uploads.open(file.key)
    if (open === undefined) return this.#refuse(reply, 404, 'there is no such file')
    const keptS = Math.floor(((file.day + 1) * DAY_MS - nowMs) / 1_000)
    reply.headers({
      'content-type': file.type,
      'content-disposition': dispositionOf(file),
      'content-security-policy': FILE_POLICY,
      'cache-control': `private, max-age=${keptS}, immutable`,
      etag: `"${file.id}"`,
      'accept-ranges': 'bytes',
    })
    return this.#send(request, reply, open, `"${file.id}"`)
  }

  /** RFC 9110 §13.2.2, §14.2: a file never changes, so its address is its ETag. */
  async #send({ method, headers }: FastifyRequest, reply: FastifyReply, open: OpenFile, etag: string): Promise<FastifyReply> {
    const { size } = open
    const done = async (status: number): Promise<FastifyReply> => {
      await open.close()
      return reply.code(status).send()
    }
    if (namesTag(headers['if-none-match'], etag)) return done(304)
    const ifRange = headers['if-range']
    const asked = method === 'GET' && (ifRange === undefined || ifRange === etag) ? headers.range : undefined
    const range = asked === undefined ? undefined : parseRange(asked, size)
    if (range === null) {
      reply.header('content-range', `bytes */${size}`)
      return done(416)
    }
    const { start, end } = range ?? { start: 0, end: size - 1 }
    if (range !== undefined) reply.code(206).header('content-range', `bytes ${start}-${end}/${size}`)
    reply.header('content-length', end - start + 1)
    if (method === 'HEAD') return done(200)
    this.#count('get', end - start + 1)
    return reply.send(open.bytes(start, end) satisfies Readable)
  }

  #refuse(reply: FastifyReply, status: number, text: string): FastifyReply {
    this.#count('refused', 0)
    return reply.code(status).type('text/plain; charset=utf-8').send(`${text}\n`)
  }
}

const NO_SLOT = [403, 'nothing may be uploaded here'] as const

/** Why nothing may be put there; undefined: it may. Who says how long it is, and lies, is found out later. */
function slotTrouble(
  file: UploadedFile,
  slot: Slot | undefined,
  headers: FastifyRequest['headers'],
  nowMs: number,
): readonly [status: number, text: string] | undefined {
  if (slot === undefined) return NO_SLOT
  if (slot.untilS * 1_000 < nowMs) return [403, 'the time to upload this has passed; ask for another slot']
  if (headers['content-encoding'] !== undefined) return [415, 'a file is uploaded as it is']
  // §6. Who did not say what it would be may say so now; it is served as what the address says.
  const type = headers['content-type']
  if (type !== undefined && file.type !== UNKNOWN_TYPE && servedType(type) !== file.type) return [415, `this is no ${file.type}`]
  const length = headers['content-length']
  if (length === undefined) return [411, 'the request has to say how long the file is']
  if (Number(length) > slot.size) return [413, `this is longer than the ${slot.size} bytes that were asked for`]
  return Number(length) < slot.size ? [400, `this is shorter than the ${slot.size} bytes that were asked for`] : undefined
}

/** RFC 9110 §13.1.2, compared weakly. */
function namesTag(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false
  return header.split(',').some((tag) => tag.trim() === '*' || tag.trim().replace(/^W\//, '') === etag)
}

/** RFC 9110 §14.1.2: one range. Undefined for what is none, or several: then all is sent (§14.2); null for one beyond the end. */
export function parseRange(header: string, size: number): { start: number; end: number } | null | undefined {
  const match = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header.trim())
  if (match === null) return undefined
  const [, from, to] = match as unknown as [string, string, string]
  if (from === '') {
    if (to === '') return undefined
    return Number(to) === 0 || size === 0 ? null : { start: Math.max(0, size - Number(to)), end: size - 1 }
  }
  const start = Number(from)
  const end = to === '' ? size - 1 : Math.min(Number(to), size - 1)
  if (to !== '' && Number(to) < start) return undefined
  return start >= size ? null : { start, end }
}

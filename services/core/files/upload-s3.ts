// Uploaded files in a bucket of S3, or of what speaks like it: clients put and get them there, by addresses that we sign.
//
// Nothing of a file passes through here. An address is signed with the keys of this process (Signature Version 4, in the
// query) for one method, one object and some minutes; where a file is put, also for its length, so that the bucket refuses any
// other. What it is served as is signed into the address it is read from. That files expire is a lifecycle rule of the bucket.
import { createHash, createHmac } from 'node:crypto'

export interface S3Keys {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly sessionToken?: string | undefined
}

export interface S3Options {
  readonly bucket: string
  readonly region: string
  /** Instead of AWS: `https://minio.example.org`; the bucket is then the first part of the path. */
  readonly endpoint?: string | undefined
  /** What every object's name begins with. */
  readonly prefix: string
  /** Asked for each address: keys of a role change. */
  readonly keys: () => Promise<S3Keys>
  /** By default the one of this process. */
  readonly fetch?: typeof fetch
}

const DELETE_SECONDS = 60
/** As SigV4 has it for a payload that the signature does not cover. */
const UNSIGNED = 'UNSIGNED-PAYLOAD'
/** What S3 allows. */
const ADDRESS_SECONDS_MAX = 604_800

export class S3Uploads {
  readonly where = 'elsewhere'
  /** `https://bucket.s3.eu-central-1.amazonaws.com`: for the pages that may load from it. */
  readonly origin: string
  readonly #options: S3Options
  readonly #root: URL

  constructor(options: S3Options) {
    this.#options = options
    const { bucket, region, endpoint } = options
    this.#root = new URL(
      endpoint === undefined ? `https://${bucket}.s3.${region}.amazonaws.com/` : `${endpoint.replace(/\/+$/, '')}/${bucket}/`,
    )
    this.origin = this.#root.origin
  }

  /** Where exactly `size` bytes may be put in the next `seconds`. */
  putUrl(key: string, size: number, seconds: number, nowMs: number): Promise<string> {
    return this.#sign('PUT', key, seconds, nowMs, {}, { 'content-length': String(size) })
  }

  /** Where it can be read in the next `seconds`, served as this. */
  getUrl(
    key: string,
    served: { readonly type: string; readonly disposition: string },
    seconds: number,
    nowMs: number,
  ): Promise<string> {
    const { type, disposition } = served
    const query = { 'response-content-type': type, 'response-content-disposition': disposition }
    return this.#sign('GET', key, seconds, nowMs, query)
  }

  /** One that is not there is removed already. Throws Error where the bucket does not say so. */
  async remove(key: string, nowMs: number): Promise<void> {
    const url = await this.#sign('DELETE', key, DELETE_SECONDS, nowMs)
    const { ok, status, body } = await (this.#options.fetch ?? fetch)(url, {
      method: 'DELETE',
      signal: AbortSignal.timeout(10_000),
    })
    await body?.cancel()
    if (!ok && status !== 404) throw new Error(`the bucket answered ${status} to the removal of ${key}`)
  }

  async #sign(
    method: string,
    key: string,
    seconds: number,
    nowMs: number,
    query: Readonly<Record<string, string>> = {},
    headers: Readonly<Record<string, string>> = {},
  ): Promise<string> {
    const { region, prefix, keys } = this.#options
    const url = new URL(this.#root)
    url.pathname += `${prefix}${key}`
    return presigned({ method, url, region, keys: await keys(), seconds, nowMs, query, headers })
  }
}

export interface Presigning {
  readonly method: string
  /** Without a query. */
  readonly url: URL
  readonly region: string
  readonly keys: S3Keys
  readonly seconds: number
  readonly nowMs: number
  readonly query: Readonly<Record<string, string>>
  /** In lower case; whoever uses the address has to send just these. `host` is always among them. */
  readonly headers: Readonly<Record<string, string>>
}

/** Authenticating Requests: Using Query Parameters (AWS Signature Version 4), for the service s3. */
export function presigned({ method, url, region, keys, seconds, nowMs, query, headers }: Presigning): string {
  if (seconds > ADDRESS_SECONDS_MAX) throw new RangeError(`an address of S3 holds for ${ADDRESS_SECONDS_MAX} s at most`)
  const time = `${new Date(nowMs).toISOString().slice(0, 19).replace(/[-:]/g, '')}Z`
  const scope = `${time.slice(0, 8)}/${region}/s3/aws4_request`
  const signed = Object.entries({ ...headers, host: url.host }).sort(byName)
  const names = signed.map(([name]) => name).join(';')
  const parameters: Record<string, string> = {
    ...query,
    'X-Amz-Algorithm': 'AWS4-HMAC-SHA256',
    'X-Amz-Credential': `${keys.accessKeyId}/${scope}`,
    'X-Amz-Date': time,
    'X-Amz-Expires': String(seconds),
    'X-Amz-SignedHeaders': names,
  }
  if (keys.sessionToken !== undefined) parameters['X-Amz-Security-Token'] = keys.sessionToken
  const written = Object.entries(parameters)
    .map(([name, value]) => [encoded(name), encoded(value)] as const)
    .sort(byName)
    .map(([name, value]) => `${name}=${value}`)
    .join('&')
  const path = url.pathname
    .split('/')
    .map((part) => encoded(decodeURIComponent(part)))
    .join('/')
  const lines = signed.map(([name, value]) => `${name}:${value}\n`).join('')
  const request = [method, path, written, lines, names, UNSIGNED].join('\n')
  const text = ['AWS4-HMAC-SHA256', time, scope, createHash('sha256').update(request, 'utf8').digest('hex')].join('\n')
  const key = [time.slice(0, 8), region, 's3', 'aws4_request'].reduce<Buffer | string>(hmac, `AWS4${keys.secretAccessKey}`)
  return `${url.origin}${path}?${written}&X-Amz-Signature=${hmac(key, text).toString('hex')}`
}

function hmac(key: Buffer | string, text: string): Buffer {
  return createHmac('sha256', key).update(text, 'utf8').digest()
}

/** RFC 3986 §2.3: all but what is unreserved. */
function encoded(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`)
}

function byName([a]: readonly [string, string], [b]: readonly [string, string]): number {
  return a < b ? -1 : a > b ? 1 : 0
}

// Where uploaded files are (XEP-0363), as the configuration says: for the module that gives out their addresses, and for the
// web role, which takes and serves them.
import { join } from 'node:path'
import type { ServerFacts } from '../module.ts'
import { factsOf } from '../settings/hosts.ts'
import { DiskUploads } from './upload-disk.ts'
import { type S3Keys, S3Uploads } from './upload-s3.ts'

/** The module, and what its secret is called. */
export const UPLOAD_MODULE = 'http-upload'
export const UPLOAD_SECRET = 'upload'

/** The options of the module (modules/http-upload.ts says what each is). */
export interface UploadOptions {
  url: string
  fileBytesMax: number
  dayBytesMax: number
  accountBytesMax: number
  dayFilesMax: number
  keepDays: number
  slotSeconds: number
  driver: string
  folder: string
  s3Bucket: string
  s3Region: string
  s3Endpoint: string
  s3Prefix: string
  s3AccessKeyId: string
  s3SecretAccessKey: string
}

export type Uploads = DiskUploads | S3Uploads

/** Throws Error that names the option which is missing. */
export function openUploads(options: UploadOptions, data: string): Uploads {
  const { driver, folder, s3Bucket: bucket, s3Endpoint: endpoint, s3Prefix: prefix } = options
  if (driver !== 's3') return new DiskUploads(folder === '' ? join(data, 'uploads') : folder)
  const region = options.s3Region || process.env.AWS_REGION || process.env.AWS_DEFAULT_REGION || ''
  if (bucket === '') throw new Error(`modules.${UPLOAD_MODULE}.s3Bucket is missing: driver is s3`)
  if (region === '') throw new Error(`modules.${UPLOAD_MODULE}.s3Region is missing: driver is s3, and AWS_REGION is not set`)
  return new S3Uploads({
    bucket,
    region,
    endpoint: endpoint === '' ? undefined : endpoint,
    prefix,
    keys: keysOf(options, region),
  })
}

function keysOf({ s3AccessKeyId, s3SecretAccessKey }: UploadOptions, region: string): () => Promise<S3Keys> {
  if (s3AccessKeyId !== '') {
    const keys = { accessKeyId: s3AccessKeyId, secretAccessKey: s3SecretAccessKey }
    return async () => keys
  }
  let provider: Promise<() => Promise<S3Keys>> | undefined
  return async () => {
    provider ??= machineKeys(region)
    return (await provider)()
  }
}

/** Those of the environment, of a profile, or of the role of this process; the one client of AWS that we have knows where to look. */
async function machineKeys(region: string): Promise<() => Promise<S3Keys>> {
  const { DynamoDBClient } = await import('@aws-sdk/client-dynamodb')
  const { config } = new DynamoDBClient({ region })
  return () => config.credentials()
}

/** Where clients reach our HTTP, without a final slash; undefined where that is not known, and nothing is offered. */
export function uploadBase({ url }: Pick<UploadOptions, 'url'>, server: ServerFacts): string | undefined {
  return url === '' ? server.loopbackHttp : url.replace(/\/+$/, '')
}

/** The origins that a page has to be allowed, to upload files in any domain and to show them. */
export function uploadOrigins(server: ServerFacts, uploads: Uploads): readonly string[] {
  const origins = new Set<string>()
  for (const domain of server.domains) {
    const facts = factsOf(server, domain)
    const base = uploadBase(facts.moduleOptions[UPLOAD_MODULE] as UploadOptions, facts)
    if (base !== undefined) origins.add(new URL(base).origin)
  }
  if (uploads.where === 'elsewhere') origins.add(uploads.origin)
  return [...origins]
}

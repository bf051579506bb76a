import { describe, expect, test } from 'vitest'
import { presigned, S3Uploads } from './upload-s3.ts'

const KEYS = { accessKeyId: 'AKIAIOSFODNN7EXAMPLE', secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY' }
const MAY_2013 = Date.UTC(2013, 4, 24)
const OPTIONS = { bucket: 'examplebucket', region: 'eu-central-1', prefix: 'uploads/', keys: async () => KEYS }

describe('AWS Signature Version 4, in the query', () => {
  test('the example in its documentation has the signature that is given there', () => {
    const url = new URL('https://examplebucket.s3.amazonaws.com/test.txt')
    const common = { query: {}, headers: {}, nowMs: MAY_2013, seconds: 86_400 }
    const signed = presigned({ method: 'GET', url, region: 'us-east-1', keys: KEYS, ...common })
    expect(new URL(signed).searchParams.get('X-Amz-Signature')).toBe(
      'aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404',
    )
  })

  test('an address holds for a week at most', () => {
    const url = new URL('https://examplebucket.s3.amazonaws.com/x')
    const common = { query: {}, headers: {}, nowMs: MAY_2013, seconds: 604_801 }
    expect(() => presigned({ method: 'GET', url, region: 'us-east-1', keys: KEYS, ...common })).toThrow(RangeError)
  })
})

describe('files in a bucket', () => {
  test('what is put has the length that was asked for: it is signed', async () => {
    const url = new URL(await new S3Uploads(OPTIONS).putUrl('1/ab', 4096, 300, MAY_2013))
    expect([url.origin, url.pathname]).toEqual(['https://examplebucket.s3.eu-central-1.amazonaws.com', '/uploads/1/ab'])
    expect(url.searchParams.get('X-Amz-SignedHeaders')).toBe('content-length;host')
    expect(url.searchParams.get('X-Amz-Expires')).toBe('300')
    const other = new URL(await new S3Uploads(OPTIONS).putUrl('1/ab', 4097, 300, MAY_2013))
    expect(other.searchParams.get('X-Amz-Signature')).not.toBe(url.searchParams.get('X-Amz-Signature'))
  })

  test('what is read is served as the server says, and a token of a role goes along', async () => {
    const keys = async () => ({ ...KEYS, sessionToken: 'to/ken=' })
    const uploads = new S3Uploads({ ...OPTIONS, keys, endpoint: 'https://minio.example.org:9000/' })
    const served = { type: 'image/png', disposition: "inline; filename*=UTF-8''a%20b.png" }
    const url = new URL(await uploads.getUrl('1/ab', served, 600, MAY_2013))
    expect(uploads.origin).toBe('https://minio.example.org:9000')
    expect(url.pathname).toBe('/examplebucket/uploads/1/ab')
    expect(url.searchParams.get('response-content-disposition')).toBe(served.disposition)
    expect(url.searchParams.get('X-Amz-Security-Token')).toBe('to/ken=')
  })

  test('one that is not there is removed already; what else the bucket says is an error', async () => {
    const asked: string[] = []
    const answering = (status: number) =>
      new S3Uploads({
        ...OPTIONS,
        fetch: async (url, init) => {
          asked.push(`${init?.method} ${new URL(String(url)).pathname}`)
          return new Response(null, { status })
        },
      })
    await answering(204).remove('1/ab', MAY_2013)
    await answering(404).remove('1/ab', MAY_2013)
    await expect(answering(403).remove('1/ab', MAY_2013)).rejects.toThrow('the bucket answered 403 to the removal of 1/ab')
    expect(asked).toEqual(Array(3).fill('DELETE /uploads/1/ab'))
  })
})

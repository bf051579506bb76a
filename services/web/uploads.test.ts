import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import http from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { DAY_MS, makeFile, pathOf, slotQuery } from '#core/files/upload-address.ts'
import { UPLOAD_MODULE, UPLOAD_SECRET } from '#core/files/uploads.ts'
import { sharedSecret } from '#core/storage/shared-secret.ts'
import httpUpload from '#modules/http-upload.ts'
import { startWeb } from './main.ts'
import { parseRange } from './uploads.ts'
import { ask, FACTS, testProcess } from './web.fixture.ts'

const PICTURE = randomBytes(70_000)
const stops: (() => unknown)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop()
})

interface Given {
  readonly size?: number
  readonly name?: string
  readonly type?: string
}

async function start(options: Record<string, unknown> = {}) {
  const folder = await mkdtemp(join(tmpdir(), 'rookery-upload-'))
  stops.push(() => rm(folder, { recursive: true, force: true }))
  const process = testProcess()
  process.modules = [httpUpload] as never[]
  const all = { driver: 'disk', folder, keepDays: 30, s3Bucket: '', s3Region: '', s3Endpoint: '', s3Prefix: '', ...options }
  process.server = {
    ...process.server,
    moduleOptions: { [UPLOAD_MODULE]: { url: 'https://up.example.org', s3AccessKeyId: '', ...all } },
  }
  const role = await startWeb(process, FACTS)
  stops.push(() => role.stop())
  const { port } = role.listeners[0]!
  const secret = await sharedSecret(process.table, UPLOAD_SECRET)()
  const slot = ({ size = PICTURE.length, name = 'balcony.jpg', type = 'image/jpeg' }: Given = {}) => {
    const nowMs = process.clock.now()
    const file = makeFile(secret, name, type, Math.floor(nowMs / DAY_MS) + 30)
    const path = pathOf(file)
    return { file, path, put: path + slotQuery(secret, file, { size, untilS: nowMs / 1_000 + 300 }) }
  }
  const files = async () => (await readdir(folder, { recursive: true, withFileTypes: true })).filter((one) => one.isFile())
  return { process, port, folder, slot, files }
}

/** As `ask`, with bytes. */
function send(
  port: number,
  path: string,
  { method = 'PUT', body, headers = {} }: { method?: string; body?: Buffer; headers?: http.OutgoingHttpHeaders } = {},
): Promise<{ status: number; headers: http.IncomingHttpHeaders; body: Buffer }> {
  return new Promise((resolve, reject) => {
    const length = body === undefined || 'transfer-encoding' in headers ? {} : { 'content-length': body.length }
    const options = { host: '127.0.0.1', port, path, method, headers: { ...length, ...headers }, agent: false }
    const request = http.request(options, (response) => {
      const pieces: Buffer[] = []
      response.on('data', (piece: Buffer) => pieces.push(piece))
      response.on('end', () => resolve({ status: response.statusCode!, headers: response.headers, body: Buffer.concat(pieces) }))
    })
    request.on('error', reject)
    request.end(body)
  })
}

describe('XEP-0363 §6 Upload', () => {
  test('a file that was put is read, whole, with the headers that make it harmless', async () => {
    const { port, slot } = await start()
    const { path, put, file } = slot({ name: 'très cool.jpg' })
    expect((await send(port, path, { method: 'GET' })).status).toBe(404)
    expect(await send(port, put, { body: PICTURE, headers: { 'content-type': 'image/jpeg' } })).toMatchObject({ status: 201 })
    const read = await send(port, path, { method: 'GET' })
    expect(read.status).toBe(200)
    expect(read.body.equals(PICTURE)).toBe(true)
    expect(read.headers).toMatchObject({
      'content-type': 'image/jpeg',
      'content-length': '70000',
      'content-disposition': "inline; filename*=UTF-8''tr%C3%A8s%20cool.jpg",
      'x-content-type-options': 'nosniff',
      'access-control-allow-origin': '*',
      'cross-origin-resource-policy': 'cross-origin',
      'cache-control': 'private, max-age=2678400, immutable',
      etag: `"${file.id}"`,
    })
    expect(read.headers['content-security-policy']).toMatch(/^default-src 'none';.* sandbox$/)
    const head = await send(port, path, { method: 'HEAD' })
    expect([head.status, head.body.length, head.headers['content-length']]).toEqual([200, 0, '70000'])
  })

  test('only pictures, sounds, films and plain text are shown: what could run is to be saved', async () => {
    const { port, slot } = await start()
    const served = async (type: string) => {
      const { path, put } = slot({ size: 5, type })
      expect((await send(port, put, { body: Buffer.from('<svg>'), headers: { 'content-type': type } })).status, type).toBe(201)
      const { headers } = await send(port, path, { method: 'GET' })
      return [headers['content-type'], headers['content-disposition']!.split(';')[0]]
    }
    for (const type of ['text/html', 'image/svg+xml', 'application/xhtml+xml', 'text/xml', 'application/javascript', 'x/y'])
      expect(await served(type), type).toEqual(['application/octet-stream', 'attachment'])
    expect(await served('application/pdf')).toEqual(['application/pdf', 'attachment'])
    expect(await served('Text/Plain; charset=utf-16')).toEqual(['text/plain; charset=utf-8', 'inline'])
    expect(await served('video/mp4')).toEqual(['video/mp4', 'inline'])
  })

  test('MUST reject the file upload if the Content-Length does not match', async () => {
    const { port, slot, files } = await start()
    const { put } = slot({ size: 10 })
    expect((await send(port, put, { body: Buffer.alloc(11) })).status).toBe(413)
    expect((await send(port, put, { body: Buffer.alloc(9) })).status).toBe(400)
    const chunked = await send(port, put, {
      body: Buffer.alloc(10),
      headers: { 'transfer-encoding': 'chunked' },
    })
    expect(chunked.status).toBe(411)
    expect(await files()).toEqual([])
    expect((await send(port, put, { body: Buffer.alloc(10) })).status).toBe(201)
  })

  test('SHOULD reject the file if the Content-Type does not match; what comes compressed is not unpacked', async () => {
    const { port, slot, files } = await start()
    const { put } = slot({ size: 4, type: 'image/png' })
    expect((await send(port, put, { body: Buffer.alloc(4), headers: { 'content-type': 'text/html' } })).status).toBe(415)
    expect((await send(port, put, { body: Buffer.alloc(4), headers: { 'content-encoding': 'gzip' } })).status).toBe(415)
    expect(await files()).toEqual([])
  })

  test('a slot is for one file: what is put again, or at the same time, is refused, and changes nothing', async () => {
    const { port, slot, files } = await start()
    const { path, put } = slot()
    const other = randomBytes(PICTURE.length)
    const statuses = (await Promise.all([PICTURE, other, other].map((body) => send(port, put, { body })))).map(
      ({ status }) => status,
    )
    expect(statuses.filter((status) => status === 201)).toHaveLength(1)
    expect(statuses.filter((status) => status === 409)).toHaveLength(2)
    const { body } = await send(port, path, { method: 'GET' })
    expect((await send(port, put, { body: body.equals(PICTURE) ? other : PICTURE })).status).toBe(409)
    expect((await send(port, path, { method: 'GET' })).body.equals(body)).toBe(true)
    expect(await files()).toHaveLength(1)
  })

  test('SHOULD choose an appropriate timeout: after it nothing may be put', async () => {
    const { process, port, slot } = await start()
    const { put } = slot({ size: 4 })
    await process.clock.settle(301_000)
    expect((await send(port, put, { body: Buffer.alloc(4) })).status).toBe(403)
  })

  test('an upload that ends before its end, or never, leaves nothing, and may be tried again', async () => {
    const { process, port, slot, files } = await start()
    const { put } = slot({ size: 100_000 })
    const begin = async () => {
      const socket = connect(port, '127.0.0.1')
      socket.on('error', () => {})
      stops.push(() => socket.destroy())
      socket.write(`PUT ${put} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n${'x'.repeat(50_000)}`)
      await expect.poll(files).toHaveLength(1)
      return socket
    }
    ;(await begin()).destroy()
    await expect.poll(files).toEqual([])
    const slow = await begin()
    const closed = once(slow, 'close')
    await process.clock.settle(67_000) // a minute, and what 100 000 bytes may take
    await closed
    await expect.poll(files).toEqual([])
    await process.clock.settle(0)
    expect((await send(port, put, { body: Buffer.alloc(100_000) })).status).toBe(201)
    expect(process.log.lines.filter(({ level }) => level === 'error')).toEqual([])
  })
})

describe('what was not given out', () => {
  test('is nothing: no other name, length, time, file or secret, and no way out of the folder', async () => {
    const { port, slot, files, folder } = await start()
    const { path, put, file } = slot({ size: 4 })
    const body = Buffer.alloc(4)
    const id = file.id
    const longer = put.replace('size=4', 'size=5')
    for (const wrong of [
      path,
      put.replace('balcony.jpg', 'balcony.html'),
      put.replace(/until=\d+/, 'until=9999999999'),
      put.replace(/mac=./, 'mac=~'),
      put.replace(
        id,
        id.replace(/^./, (first) => (first === 'A' ? 'B' : 'A')),
      ),
      put.replace(id, `${id}=`),
      put.replace('/balcony.jpg', '/..%2f..%2fbalcony.jpg'),
      put.replace(id, '..%2f..%2fetc'),
      put.replace('size=4', 'size=4e0'),
    ])
      expect((await send(port, wrong, { body })).status, wrong).toBe(403)
    expect((await send(port, longer, { body: Buffer.alloc(5) })).status).toBe(403)
    for (const wrong of [
      '/upload/',
      '/upload/x',
      `/upload/${id}`,
      `/upload/${id}/`,
      '/upload/..%2f..%2fetc/passwd',
      `/upload/../${folder}`,
    ])
      expect((await send(port, wrong, { method: 'GET' })).status, wrong).toBe(404)
    expect(await files()).toEqual([])
    const elsewhere = await start()
    expect((await send(elsewhere.port, put, { body })).status).toBe(403)
  })

  test('other methods are refused there, and PUT everywhere else', async () => {
    const { port, slot } = await start()
    const { path, put } = slot()
    for (const method of ['POST', 'DELETE', 'PATCH']) expect((await send(port, path, { method })).status, method).toBe(405)
    for (const other of ['/', '/chat/', '/uploads', '/assets/site.css'])
      expect((await send(port, other, { body: Buffer.from('x') })).status, other).toBe(405)
    const process = testProcess()
    const role = await startWeb(process, FACTS)
    stops.push(() => role.stop())
    expect((await send(role.listeners[0]!.port, put, { body: PICTURE })).status).toBe(405) // the module is not loaded
  })
})

describe('reading', () => {
  test('RFC 9110 §14 a part of a file, from the beginning, the middle and the end', async () => {
    const { port, slot } = await start()
    const { path, put, file } = slot()
    await send(port, put, { body: PICTURE })
    const part = (range: string, headers = {}) => send(port, path, { method: 'GET', headers: { range, ...headers } })
    const middle = await part('bytes=100-199')
    expect([middle.status, middle.headers['content-range'], middle.body.equals(PICTURE.subarray(100, 200))]).toEqual([
      206,
      'bytes 100-199/70000',
      true,
    ])
    expect((await part('bytes=69990-')).body.equals(PICTURE.subarray(69_990))).toBe(true)
    expect((await part('bytes=-5')).body.equals(PICTURE.subarray(-5))).toBe(true)
    const beyond = await part('bytes=70000-')
    expect([beyond.status, beyond.headers['content-range']]).toEqual([416, 'bytes */70000'])
    for (const all of ['bytes=0-1,5-9', 'lines=1-2', 'bytes=9-1']) expect((await part(all)).status, all).toBe(200)
    expect((await part('bytes=0-0', { 'if-range': `"${file.id}"` })).status).toBe(206)
    expect((await part('bytes=0-0', { 'if-range': '"other"' })).status).toBe(200)
  })

  test('RFC 9110 §13.1.2 what a client has already is not sent again', async () => {
    const { port, slot } = await start()
    const { path, put, file } = slot()
    await send(port, put, { body: PICTURE })
    const again = await send(port, path, { method: 'GET', headers: { 'if-none-match': `"x", W/"${file.id}"` } })
    expect([again.status, again.body.length]).toEqual([304, 0])
  })

  test('XEP-0363 §9 CORS: a page of any site may ask for what it needs', async () => {
    const { port, slot } = await start()
    const { status, headers } = await send(port, slot().put, { method: 'OPTIONS', headers: { origin: 'https://example.com' } })
    expect([status, headers['access-control-allow-origin']]).toEqual([204, '*'])
    expect(headers['access-control-allow-methods']).toContain('PUT')
    expect(headers['access-control-allow-headers']).toContain('Content-Type')
  })

  test('what has expired is gone, first for readers and then from the disk', async () => {
    const { process, port, slot, files } = await start()
    const { path, put } = slot()
    await send(port, put, { body: PICTURE })
    await process.clock.settle(30 * DAY_MS)
    expect((await send(port, path, { method: 'GET' })).status).toBe(200)
    await process.clock.settle(DAY_MS)
    expect((await send(port, path, { method: 'GET' })).status).toBe(404)
    await expect.poll(files).toEqual([])
  })
})

describe('with a bucket', () => {
  test('whoever reads a file is sent there, and nothing is put here', async () => {
    const { port, slot } = await start({
      driver: 's3',
      s3Bucket: 'files',
      s3Region: 'eu-central-1',
      s3AccessKeyId: 'AKIA',
      s3SecretAccessKey: 'secret',
    })
    const { path, put, file } = slot({ type: 'text/html' })
    const { status, headers } = await send(port, path, { method: 'GET' })
    const url = new URL(headers.location!)
    expect([status, url.origin, url.pathname]).toEqual([307, 'https://files.s3.eu-central-1.amazonaws.com', `/${file.key}`])
    expect(url.searchParams.get('response-content-type')).toBe('application/octet-stream')
    expect(url.searchParams.get('response-content-disposition')).toMatch(/^attachment;/)
    expect((await send(port, put, { body: PICTURE })).status).toBe(405)
    const { headers: chat } = await ask(port, '/chat/')
    expect(chat['content-security-policy']).toContain(
      "img-src 'self' data: blob: https://up.example.org https://files.s3.eu-central-1.amazonaws.com;",
    )
  })
})

test('a range is read as RFC 9110 §14.1.2 has it', () => {
  expect(parseRange('bytes=0-', 10)).toEqual({ start: 0, end: 9 })
  expect(parseRange('bytes=-20', 10)).toEqual({ start: 0, end: 9 })
  expect(parseRange('bytes=-0', 10)).toBe(null)
  expect(parseRange('bytes=-', 10)).toBe(undefined)
})

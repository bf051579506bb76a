import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { manualClock } from '#core/clock.ts'
import { DiskUploads } from '#core/files/upload-disk.ts'
import { type HarnessOptions, harness, type TestClient } from '#test/harness.ts'
import { NS_DATA } from '#xmpp/ns.ts'
import { attr, childOf, childrenOf, type Element, el, textOf } from '#xmpp/stanza.ts'
import disco, { NS_DISCO_INFO } from './disco.ts'
import httpUpload from './http-upload.ts'

const NS = 'urn:xmpp:http:upload:0'
const NS_OLD = 'urn:xmpp:http:upload'
const BASE = 'https://upload.example.org'
const ROMEO = 'romeo@example.org'

const folders: string[] = []
afterEach(async () => {
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true, force: true })
})

async function start(options: Record<string, unknown> = {}, more: HarnessOptions = {}) {
  const folder = await mkdtemp(join(tmpdir(), 'rookery-slots-'))
  folders.push(folder)
  const clock = manualClock(Date.UTC(2026, 0, 1, 12))
  const server = await harness([disco, httpUpload], {
    clock,
    modules: { 'http-upload': { url: BASE, folder, ...options } },
    ...more,
  })
  return { server, clock, folder, [Symbol.asyncDispose]: () => server.stop() }
}

function request(attrs: Record<string, string | undefined>): Element {
  return el('request', NS, { filename: 'balcony.jpg', size: '1000', 'content-type': 'image/jpeg', ...attrs })
}

async function urls(client: TestClient, attrs: Record<string, string> = {}): Promise<{ put: string; get: string }> {
  const slot = (await client.iq('get', request(attrs), 'example.org')) as Element
  expect(slot).toMatchObject({ name: 'slot', ns: NS })
  return { put: attr(childOf(slot, 'put', NS)!, 'url'), get: attr(childOf(slot, 'get', NS)!, 'url') }
}

describe('XEP-0363 §4 Discovering Support', () => {
  const info = async (client: TestClient) => (await client.iq('get', el('query', NS_DISCO_INFO), 'example.org')) as Element

  test('the host is a store of files, and says how large they may be', async () => {
    await using at = await start({ fileBytesMax: 5_242_880 })
    const told = await info(await at.server.connect(`${ROMEO}/x`))
    const names = (name: string, key: string) => childrenOf(told, name, NS_DISCO_INFO).map((one) => attr(one, key))
    expect(names('identity', 'category')).toContain('store')
    expect(names('feature', 'var')).toEqual(expect.arrayContaining([NS, NS_OLD]))
    const forms = childrenOf(told, 'x', NS_DATA).map((form) =>
      childrenOf(form, 'field', NS_DATA).map((field) => textOf(childOf(field, 'value', NS_DATA)!)),
    )
    expect(forms).toEqual([
      [NS, '5242880'],
      [NS_OLD, '5242880'],
    ])
    const order = told.children.map((child) => (child as Element).name)
    expect(order).toEqual(
      [...order].sort((a, b) => ['identity', 'feature', 'x'].indexOf(a) - ['identity', 'feature', 'x'].indexOf(b)),
    )
  })

  test('nothing is announced, and nothing given, where it is not known how clients reach it', async () => {
    await using at = await start({ url: '' })
    const romeo = await at.server.connect(`${ROMEO}/x`)
    const told = await info(romeo)
    expect(childrenOf(told, 'feature', NS_DISCO_INFO).map((one) => attr(one, 'var'))).not.toContain(NS)
    expect(await romeo.iq('get', request({}), 'example.org')).toMatchObject({ condition: 'service-unavailable' })
  })

  test('an address that is none stops the start, by its name', async () => {
    for (const url of ['upload.example.org', 'ftp://example.org', 'https://example.org/?x'])
      await expect(start({ url }), url).rejects.toThrow(
        `modules.http-upload.url is "${url}"; it must be an address such as https://upload.example.org`,
      )
  })
})

describe('XEP-0363 §5 Requesting a slot', () => {
  test('both addresses keep the name; the one to put to says how much, and until when', async () => {
    await using at = await start({ url: `${BASE}/` })
    const { put, get } = await urls(await at.server.connect(`${ROMEO}/x`), { filename: 'très cool (1).jpg' })
    expect(get).toMatch(/^https:\/\/upload\.example\.org\/upload\/[\w-]{38}\/tr%C3%A8s%20cool%20%281%29\.jpg$/)
    expect(put.startsWith(`${get}?size=1000&until=`)).toBe(true)
    expect(Number(new URL(put).searchParams.get('until'))).toBe(Date.UTC(2026, 0, 1, 12) / 1_000 + 300)
  })

  test('no two slots are the same', async () => {
    await using at = await start()
    const romeo = await at.server.connect(`${ROMEO}/x`)
    expect((await urls(romeo)).get).not.toBe((await urls(romeo)).get)
  })

  test('the namespace of old is answered in its own words', async () => {
    await using at = await start()
    const romeo = await at.server.connect(`${ROMEO}/x`)
    const words = { filename: 'a.txt', size: '3', 'content-type': 'text/plain' }
    const old = el('request', NS_OLD, {}, ...Object.entries(words).map(([name, text]) => el(name, NS_OLD, {}, text)))
    const slot = (await romeo.iq('get', old, 'example.org')) as Element
    expect(slot).toMatchObject({ name: 'slot', ns: NS_OLD })
    expect(textOf(childOf(slot, 'put', NS_OLD)!)).toContain('/a.txt?size=3&')
  })

  test.each([
    ['no filename', { filename: undefined }],
    ['an empty one', { filename: '' }],
    ['a path', { filename: 'a/b.jpg' }],
    ['a path of Windows', { filename: 'a\\b.jpg' }],
    ['a step up', { filename: '..' }],
    ['a line break', { filename: 'a\nb' }],
    ['text that turns round', { filename: 'a\u202egpj.exe' }],
    ['one of 256 bytes', { filename: 'é'.repeat(128) }],
    ['no size', { size: undefined }],
    ['no bytes', { size: '0' }],
    ['a size below nothing', { size: '-1' }],
    ['half a byte', { size: '1.5' }],
    ['a size without end', { size: '9'.repeat(30) }],
    ['a type that is none', { 'content-type': 'picture' }],
    ['a type that splits a header', { 'content-type': 'image/png; a\nx: y' }],
  ])('%s is bad-request', async (_, attrs) => {
    await using at = await start()
    const romeo = await at.server.connect(`${ROMEO}/x`)
    expect(await romeo.iq('get', request(attrs), 'example.org')).toMatchObject({ condition: 'bad-request' })
  })
})

describe('XEP-0363 §5.1 Error conditions', () => {
  test('a file that is too large is not-acceptable, and told the bound', async () => {
    await using at = await start({ fileBytesMax: 20_000 })
    const romeo = await at.server.connect(`${ROMEO}/x`)
    const refused = await romeo.iq('get', request({ size: '20001' }), 'example.org')
    expect(refused).toMatchObject({ condition: 'not-acceptable', type: 'modify' })
    expect(JSON.stringify((refused as { stanza: { tree(): unknown } }).stanza.tree())).toMatch(
      /"file-too-large".*"max-file-size".*"20000"/,
    )
    await urls(romeo, { size: '20000' })
  })

  test('over the quota of a day: resource-constraint until the next one begins', async () => {
    await using at = await start({ dayBytesMax: 2_500, dayFilesMax: 3 })
    const romeo = await at.server.connect(`${ROMEO}/x`)
    await urls(romeo)
    await urls(romeo)
    const refused = await romeo.iq('get', request({}), 'example.org')
    expect(refused).toMatchObject({ condition: 'resource-constraint', type: 'wait' })
    expect(JSON.stringify((refused as { stanza: { tree(): unknown } }).stanza.tree())).toContain('"retry"')
    expect(JSON.stringify((refused as { stanza: { tree(): unknown } }).stanza.tree())).toContain('2026-01-02T00:00:00')
    await urls(romeo, { size: '1' })
    expect(await romeo.iq('get', request({ size: '1' }), 'example.org')).toMatchObject({ condition: 'resource-constraint' }) // the fourth file
    await urls(await at.server.connect('juliet@example.org/x')) // hers is her own
    await at.clock.settle(12 * 3_600_000)
    await urls(romeo)
  })

  test('over the quota in all: until the files of enough days have expired', async () => {
    await using at = await start({ accountBytesMax: 2_000, keepDays: 3 })
    const romeo = await at.server.connect(`${ROMEO}/x`)
    await urls(romeo)
    await at.clock.settle(86_400_000)
    await urls(romeo)
    const stampFor = async (size: string) => {
      const refused = (await romeo.iq('get', request({ size }), 'example.org')) as { stanza: { tree(): unknown } }
      return /stamp":"([^"]*)"/.exec(JSON.stringify(refused.stanza.tree()))?.[1]?.slice(0, 10)
    }
    expect([await stampFor('1000'), await stampFor('1001')]).toEqual(['2026-01-05', '2026-01-06'])
    await at.clock.settle(3 * 86_400_000)
    await urls(romeo)
  })

  test('what an account has used outlives the server', async () => {
    const { memoryTable } = await import('#table/memory.ts')
    const table = memoryTable()
    const first = await start({ dayFilesMax: 1 }, { table })
    const { get } = await urls(await first.server.connect(`${ROMEO}/x`))
    await first.server.stop()
    await using at = await start({ dayFilesMax: 1 }, { table })
    const romeo = await at.server.connect(`${ROMEO}/x`)
    expect(await romeo.iq('get', request({}), 'example.org')).toMatchObject({ condition: 'resource-constraint' })
    expect(get).toContain(BASE)
  })
})

test('with an account its files go, and nobody else’s', async () => {
  await using at = await start()
  const romeo = await at.server.connect(`${ROMEO}/x`)
  const juliet = await at.server.connect('juliet@example.org/x')
  const disk = new DiskUploads(at.folder)
  const put = async (get: string): Promise<void> => {
    const bytes = Buffer.from(new URL(get).pathname.split('/')[2]!, 'base64url')
    await disk.write(
      `${bytes.readUInt16BE(0)}/${bytes.toString('hex', 3, 19)}`,
      4,
      (async function* () {
        yield Buffer.from('file')
      })(),
    )
  }
  for (const client of [romeo, romeo, juliet]) await put((await urls(client)).get)
  const files = async () =>
    (await readdir(at.folder, { recursive: true, withFileTypes: true })).filter((one) => one.isFile()).length
  expect(await files()).toBe(3)
  await at.server.caller.ask('router', ROMEO, 'account.remove', {})
  await expect.poll(files).toBe(1)
})

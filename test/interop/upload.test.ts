// Files that are uploaded (XEP-0363) by clients that nobody here wrote: slixmpp, and Converse.js in two browsers.
import { crc32, deflateSync } from 'node:zlib'
import { afterEach, describe, expect, test } from 'vitest'
import { type Account, people } from './accounts.ts'
import { type Browser, chromiumPath, HOW_TO_GET_CHROMIUM, openBrowser } from './browser.ts'
import { ConverseJs } from './converse.ts'
import { testServer } from './server.ts'
import { HOW_TO_GET_SLIXMPP, pythonWithSlixmpp, Slixmpp } from './slixmpp.ts'

const python = pythonWithSlixmpp()
if (python === undefined) console.warn(`SKIPPED: slixmpp in test/interop/upload.test.ts: ${HOW_TO_GET_SLIXMPP}`)
const chromium = chromiumPath()
if (chromium === undefined) console.warn(`SKIPPED: Converse.js in test/interop/upload.test.ts: ${HOW_TO_GET_CHROMIUM}`)

const server = testServer()
const stops: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop()
})

test.skipIf(python === undefined)(
  'slixmpp finds the service, uploads a file, and anybody who has its address reads it',
  async () => {
    const [juliet] = (await people(server, 'juliet')) as [Account]
    const client = await Slixmpp.start(server, python!)
    stops.push(() => client.stop())
    await client.connect(juliet)
    expect(await client.disco(server.domain)).toMatchObject({ identities: expect.arrayContaining(['store/file']) })
    const picture = pictureOf(8)
    const url = await client.upload('el balcón.png', picture.toString('base64'), 'image/png')
    const answer = await fetch(url)
    expect([answer.status, answer.headers.get('content-type')]).toEqual([200, 'image/png'])
    expect(Buffer.from(await answer.arrayBuffer()).equals(picture)).toBe(true)
  },
)

describe.skipIf(chromium === undefined)('Converse.js', () => {
  async function open(account: Account): Promise<{ browser: Browser; page: ConverseJs }> {
    const browser = await openBrowser(chromium!)
    stops.push(() => browser.close())
    const page = new ConverseJs(browser, server)
    await page.open(`${server.httpUrl}/chat/`)
    await page.login(account)
    return { browser, page }
  }

  test('a picture that one uploads is shown to both, as a picture', async () => {
    const [j, r] = (await people(server, 'juliet', 'romeo')) as [Account, Account]
    const juliet = await open(j)
    const romeo = await open(r)
    await juliet.page.addContact(r.jid, 'Romeo')
    await juliet.page.openChat(r.jid)
    await juliet.page.upload(r.jid, { name: 'balcony.png', mimeType: 'image/png', buffer: pictureOf(64) })
    const own = await juliet.page.sees(r.jid, 'me')
    await romeo.page.openChat(j.jid)
    const his = await romeo.page.sees(j.jid, 'them')
    expect(his).toEqual({ src: own.src, width: 64 })
    expect(new URL(his.src).pathname).toMatch(/^\/upload\/[\w-]{38}\/balcony\.png$/)
    await romeo.browser.picture('converse-upload')
    for (const { browser } of [juliet, romeo]) expect([browser.strayed, browser.complaints]).toEqual([[], []])
  })
})

/** A PNG of one colour, so many pixels wide and high. */
function pictureOf(width: number): Buffer {
  const chunk = (type: string, data: Buffer): Buffer => {
    const body = Buffer.concat([Buffer.from(type, 'latin1'), data])
    const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)]
    length.writeUInt32BE(data.length)
    sum.writeUInt32BE(crc32(body))
    return Buffer.concat([length, body, sum])
  }
  const head = Buffer.alloc(13)
  head.writeUInt32BE(width, 0)
  head.writeUInt32BE(width, 4)
  head.set([8, 2, 0, 0, 0], 8) // 8 bits each of red, green and blue
  const row = Buffer.concat([Buffer.from([0]), Buffer.alloc(width * 3, 0xc0)])
  const pixels = deflateSync(Buffer.concat(Array<Buffer>(width).fill(row)))
  const magic = Buffer.from('89504e470d0a1a0a', 'hex')
  return Buffer.concat([magic, chunk('IHDR', head), chunk('IDAT', pixels), chunk('IEND', Buffer.alloc(0))])
}

// The archive (XEP-0313) as clients read it: slixmpp in its own pages, and Converse.js on a device that has seen nothing.
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { type Account, people } from './accounts.ts'
import { type Browser, chromiumPath, HOW_TO_GET_CHROMIUM, openBrowser } from './browser.ts'
import { serveChatPage } from './chat-page.ts'
import { ConverseJs } from './converse.ts'
import { testServer } from './server.ts'
import { HOW_TO_GET_SLIXMPP, pythonWithSlixmpp, Slixmpp } from './slixmpp.ts'
import { available, chat, connectXmppJs, saying, type XmppJs } from './xmppjs.ts'

const python = pythonWithSlixmpp()
const chromium = chromiumPath()
if (python === undefined) console.warn(`SKIPPED: slixmpp in test/interop/mam.test.ts: ${HOW_TO_GET_SLIXMPP}`)
if (chromium === undefined) console.warn(`SKIPPED: Converse.js in test/interop/mam.test.ts: ${HOW_TO_GET_CHROMIUM}`)

const server = testServer()
const open: XmppJs[] = []

afterEach(async () => {
  await Promise.all(open.splice(0).map((client) => client.stop()))
})

async function comeOnline(account: Account): Promise<XmppJs> {
  const client = await connectXmppJs(server, account, 'tcp')
  open.push(client)
  await client.send(available())
  return client
}

describe.skipIf(python === undefined)('slixmpp', () => {
  const running: Slixmpp[] = []
  afterEach(async () => {
    await Promise.all(running.splice(0).map((client) => client.stop()))
  })

  test('reads a conversation of many pages, forwards and backwards, apart from others', async () => {
    const [j, r, n] = (await people(server, 'juliet', 'romeo', 'nurse')) as [Account, Account, Account]
    const [romeo, nurse] = [await comeOnline(r), await comeOnline(n)]
    const client = await Slixmpp.start(server, python!)
    running.push(client)
    await client.connect(j)
    const said = Array.from({ length: 25 }, (_, i) => `${i} <3 & ὦ`)
    for (const [i, text] of said.entries()) {
      if (i % 2 === 0) await romeo.send(chat(j.jid, text))
      else await client.send(r.jid, text)
      // One after the other, from two clients: each has come before the next is said.
      if (i % 2 === 0) await client.message(text, romeo.jid)
      else await romeo.stanzas.next(text, saying(text))
    }
    await nurse.send(chat(j.jid, 'Madam!'))
    await client.message('the nurse', nurse.jid)

    const all = await client.archive()
    expect(all.map(({ body }) => body)).toEqual([...said, 'Madam!'])
    expect(new Set(all.map(({ id }) => id)).size).toBe(26)
    expect([...all].sort((a, b) => Date.parse(a.stamp) - Date.parse(b.stamp))).toEqual(all)
    expect(all[0]!.from).toBe(romeo.jid)
    expect((await client.archive({ peer: r.jid })).map(({ body }) => body)).toEqual(said)
    expect((await client.archive({ peer: r.jid, reverse: true })).map(({ body }) => body)).toEqual(said.toReversed())
    expect((await client.archive({ peer: n.jid })).map(({ body }) => body)).toEqual(['Madam!'])
    expect((await client.disco(j.jid)).features).toEqual(expect.arrayContaining(['urn:xmpp:mam:2', 'urn:xmpp:sid:0']))
  })
})

describe.skipIf(chromium === undefined)('Converse.js', { timeout: 40_000 }, () => {
  let browser: Browser | undefined
  let url: string
  let stopPage = async () => {}
  beforeAll(async () => {
    url = `${server.httpUrl}/chat/`
    if (!server.servesChat) ({ url, stop: stopPage } = await serveChatPage(server))
  })
  afterEach(async () => {
    await browser?.close()
    browser = undefined
  })
  afterAll(() => stopPage())

  async function newDevice(account: Account): Promise<ConverseJs> {
    await browser?.close()
    browser = await openBrowser(chromium!)
    const page = new ConverseJs(browser, server)
    await page.open(url)
    await page.login(account)
    return page
  }

  test('shows on a new device what was said on another, once', async () => {
    const [j, r] = (await people(server, 'juliet', 'romeo')) as [Account, Account]
    const romeo = await comeOnline(r)
    let page = await newDevice(j)
    await page.addContact(r.jid, 'Romeo')
    await page.openChat(r.jid)
    await page.say(r.jid, 'Wherefore art thou Romeo?')
    await romeo.stanzas.next('her question', saying('Wherefore art thou Romeo?'))
    await romeo.send(chat(j.jid, 'Call me but love'))
    await page.reads(r.jid, 'Call me but love', 'them')

    page = await newDevice(j)
    await page.openChat(r.jid)
    await page.reads(r.jid, 'Wherefore art thou Romeo?', 'me')
    await page.reads(r.jid, 'Call me but love', 'them') // strict: it would fail on two
    await browser!.picture('converse-archive')
    expect(browser!.complaints, 'nothing is missing and nothing throws').toEqual([])
  })
})

// Converse.js in a real browser, on the chat page that the server serves: what a newcomer does in the first minutes.
//
// Every step leaves a picture in test/artefacts.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Account, people, someone } from './accounts.ts'
import { type Browser, chromiumPath, HOW_TO_GET_CHROMIUM, openBrowser } from './browser.ts'
import { serveChatPage } from './chat-page.ts'
import { ConverseJs } from './converse.ts'
import { testServer } from './server.ts'
import { available, chat, connectXmppJs, presenceOf, rosterQuery, saying, subscription, type XmppJs } from './xmppjs.ts'

const chromium = chromiumPath()
if (chromium === undefined) console.warn(`SKIPPED: every test of test/interop/converse.test.ts: ${HOW_TO_GET_CHROMIUM}`)

const server = testServer()

describe.skipIf(chromium === undefined)('Converse.js', { timeout: 40_000 }, () => {
  let url: string
  let stopPage = async () => {}
  let browser: Browser
  let page: ConverseJs
  const open: XmppJs[] = []

  beforeAll(async () => {
    url = `${server.httpUrl}/chat/`
    if (!server.servesChat) ({ url, stop: stopPage } = await serveChatPage(server))
  })
  beforeEach(async () => {
    browser = await openBrowser(chromium!)
    page = new ConverseJs(browser, server)
  })
  afterEach(async () => {
    await browser?.close()
    await Promise.all(open.splice(0).map((client) => client.stop()))
  })
  afterAll(async () => {
    await stopPage()
  })

  async function comeOnline(account: Account): Promise<XmppJs> {
    const client = await connectXmppJs(server, account, 'tcp')
    open.push(client)
    await client.iq('get', undefined, rosterQuery())
    await client.send(available())
    return client
  }

  function expectNoComplaints(): void {
    expect(browser.strayed, 'the page asks nobody but the server').toEqual([])
    expect(browser.complaints, 'nothing is missing and nothing throws').toEqual([])
  }

  test('Juliet logs in, adds Romeo, sees him come and go, and they talk', async () => {
    const [j, r] = (await people(server, 'juliet', 'romeo')) as [Account, Account]
    const romeo = await comeOnline(r)
    await page.open(url)
    await browser.picture('converse-login')
    await page.login(j)
    await browser.picture('converse-logged-in')

    await page.addContact(r.jid, 'Romeo')
    await romeo.stanzas.next("Juliet's request", presenceOf(j.jid, 'subscribe'))
    await browser.picture('converse-asked')
    await romeo.send(subscription(j.jid, 'subscribed'))
    await romeo.send(subscription(j.jid, 'subscribe')) // Converse approves by itself whom it has asked
    await romeo.stanzas.next("Juliet's approval", presenceOf(j.jid, 'subscribed'))
    const juliet = (await romeo.stanzas.next('that Juliet is there', presenceOf(j.jid))).attrs.from!
    await page.shows(r.jid, 'online')
    await browser.picture('converse-both-online')

    await page.openChat(r.jid)
    await page.say(r.jid, 'Wherefore art thou <i>Romeo</i>? & co')
    const question = await romeo.stanzas.next('her question', saying('Wherefore art thou <i>Romeo</i>? & co'))
    expect(question.attrs).toMatchObject({ from: juliet, type: 'chat' })
    await romeo.send(chat(juliet, 'Call me but <i>love</i> &amp; ὦ'))
    await page.reads(r.jid, 'Call me but <i>love</i> &amp; ὦ', 'them')
    await browser.picture('converse-chat')

    await romeo.send(available('away', 'under the balcony'))
    await page.shows(r.jid, 'away')
    await browser.picture('converse-away')
    await romeo.stop()
    await page.shows(r.jid, 'offline')
    await browser.picture('converse-gone')
    expectNoComplaints()
  })

  test('Nurse asks to be a contact, Juliet accepts, and both see each other', async () => {
    const [j, n] = (await people(server, 'juliet', 'nurse')) as [Account, Account]
    const nurse = await comeOnline(n)
    await page.open(url)
    await page.login(j)
    await nurse.send(subscription(j.jid, 'subscribe'))
    await page.acceptRequest(n.jid)
    await nurse.stanzas.next("Juliet's approval", presenceOf(j.jid, 'subscribed'))
    await nurse.stanzas.next('that Juliet is there', presenceOf(j.jid))
    await nurse.stanzas.next("Juliet's own request", presenceOf(j.jid, 'subscribe'))
    await nurse.send(subscription(j.jid, 'subscribed'))
    await page.shows(n.jid, 'online')
    await browser.picture('converse-accepted')
    expectNoComplaints()
  })

  test('a newcomer makes an account on the page and is written to', async () => {
    const [r] = (await people(server, 'romeo')) as [Account]
    const j = someone(server, 'juliet')
    await page.open(url)
    await page.register(j)
    await browser.picture('converse-registered')
    const romeo = await comeOnline(r)
    await romeo.send(chat(j.jid, 'Welcome'))
    await page.openChat(r.jid)
    await page.reads(r.jid, 'Welcome', 'them')
    await browser.picture('converse-stranger')
    expectNoComplaints()
  })

  test('a reload of the page loses neither the session nor the conversation', async () => {
    const [j, r] = (await people(server, 'juliet', 'romeo')) as [Account, Account]
    const romeo = await comeOnline(r)
    await page.open(url)
    await page.login(j)
    await romeo.send(chat(j.jid, 'It is the east'))
    await page.openChat(r.jid)
    await page.reads(r.jid, 'It is the east', 'them')
    await page.reload()
    await romeo.send(chat(j.jid, 'Arise, fair sun'))
    await page.reads(r.jid, 'It is the east', 'them')
    await page.reads(r.jid, 'Arise, fair sun', 'them')
    await page.say(r.jid, 'Ay me!')
    await romeo.stanzas.next('her answer', saying('Ay me!'))
    await browser.picture('converse-reloaded')
    expectNoComplaints()
  })

  test('in two browsers of one user both show what either says and what is said to either (XEP-0280)', async () => {
    const [j, r] = (await people(server, 'juliet', 'romeo')) as [Account, Account]
    const romeo = await comeOnline(r)
    const second = await openBrowser(chromium!)
    try {
      const other = new ConverseJs(second, server)
      for (const one of [page, other]) {
        await one.open(url)
        await one.login(j)
        if (one === page) await page.addContact(r.jid, 'Romeo')
        await one.openChat(r.jid)
      }
      await page.say(r.jid, 'from the first')
      const { attrs } = await romeo.stanzas.next('what the first says', saying('from the first'))
      await other.reads(r.jid, 'from the first', 'me')
      await romeo.send(chat(attrs.from!, 'to the first alone'))
      for (const one of [page, other]) await one.reads(r.jid, 'to the first alone', 'them')
      await other.say(r.jid, 'from the second')
      await page.reads(r.jid, 'from the second', 'me')
      await second.picture('converse-carbons')
      expectNoComplaints()
    } finally {
      await second.close()
    }
  })

  test('a wrong password is refused where one can see it', async () => {
    const [j] = (await people(server, 'juliet')) as [Account]
    await page.open(url)
    expect(await page.loginRefused({ ...j, password: 'guess' })).toMatch(/password is incorrect|not correct|incorrect|fail/i)
    await browser.picture('converse-refused')
    expectNoComplaints()
  })
})

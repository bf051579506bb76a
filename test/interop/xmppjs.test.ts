// @xmpp/client over TCP, TLS and WebSocket: two people find each other and talk.
import { type Element, xml } from '@xmpp/client'
import { afterEach, describe, expect, test } from 'vitest'
import { isCluster } from '#test/form.ts'
import { type Account, people } from './accounts.ts'
import { testServer } from './server.ts'
import { bareOf, befriend, chat, connectXmppJs, presenceOf, rosterQuery, saying, type Via, type XmppJs } from './xmppjs.ts'

const NS_ROSTER = 'jabber:iq:roster'
const NS_DISCO_INFO = 'http://jabber.org/protocol/disco#info'
const NS_PING = 'urn:xmpp:ping'
const NS_DELAY = 'urn:xmpp:delay'

const server = testServer()
const open = new Set<XmppJs>()

afterEach(async () => {
  await Promise.all([...open].map((client) => client.stop()))
  open.clear()
})

async function login(account: Account, via: Via = 'tcp', resource?: string): Promise<XmppJs> {
  const client = await connectXmppJs(server, account, via, resource)
  open.add(client)
  return client
}

/** Logged in, roster fetched, available: as every instant messaging client begins (RFC 6121 §2.2, §4.2). */
async function comeOnline(account: Account, via: Via = 'tcp', resource?: string): Promise<XmppJs> {
  const client = await login(account, via, resource)
  await rosterOf(client)
  await client.send(xml('presence'))
  await client.stanzas.next('its own presence (RFC 6121 §4.2.2)', presenceOf(client.jid))
  return client
}

async function rosterOf(client: XmppJs): Promise<Record<string, string>[]> {
  const answer = await client.iq('get', undefined, rosterQuery())
  const query = answer.getChild('query', NS_ROSTER)
  return (query?.getChildren('item') ?? []).map((item) => ({ ...item.attrs, groups: groupsOf(item) }))
}

function groupsOf(item: Element): string {
  return item
    .getChildren('group')
    .map((group) => group.text())
    .join(',')
}

/** The error condition that an iq is answered with. */
async function refusal(answer: Promise<unknown>): Promise<string> {
  return answer.then(
    () => 'no error',
    (error: { condition?: string; message: string }) => error.condition ?? error.message,
  )
}

describe('logging in', () => {
  test.each([
    ['tcp', 'STARTTLS with a certificate that is checked'],
    ['tls', 'direct TLS (XEP-0368)'],
    ['websocket', 'WebSocket (RFC 7395)'],
  ] as const)('by %s: %s, then SCRAM, then the resource asked for', async (via, _how) => {
    const [juliet] = (await people(server, 'juliet')) as [Account]
    const client = await login(juliet, via, 'balcony')
    expect(client.jid).toMatch(new RegExp(`^${juliet.jid}/.*balcony`)) // a server may add to it (RFC 6120 §7.7, XEP-0386 §3.2)
    expect(client.mechanism).toMatch(/^SCRAM-SHA-/)
    expect(client.secure).toBe(true)
  })

  test('without asking for a resource, the server gives one', async () => {
    const [juliet] = (await people(server, 'juliet')) as [Account]
    const client = await login(juliet)
    expect(client.jid).toMatch(new RegExp(`^${juliet.jid}/.+`))
  })

  test.each(['tcp', 'websocket'] as const)('by %s: a wrong password is refused with not-authorized', async (via) => {
    const [juliet] = (await people(server, 'juliet')) as [Account]
    await expect(login({ ...juliet, password: 'guess' }, via)).rejects.toMatchObject({
      name: 'SASLError',
      condition: 'not-authorized',
    })
  })

  test('nobody registers a name twice: the second is told conflict (XEP-0077 §3.1)', async () => {
    const [juliet] = (await people(server, 'juliet')) as [Account]
    await expect(server.register(juliet.user, 'other')).rejects.toThrow('conflict')
    await login(juliet) // and the first password is still hers
  })
})

describe.runIf(isCluster)('in a cluster', () => {
  test('clients who come one after the other are spread over both edges', async () => {
    const [juliet] = (await people(server, 'juliet')) as [Account]
    for (const resource of ['one', 'two', 'three', 'four', 'five', 'six']) await login(juliet, 'tcp', resource)
    const logs = server.log().split(/^--- /m)
    const bound = logs.filter((log) => /"session\.bound"/.test(log) && log.includes(`"${juliet.jid}/`))
    expect(bound.map((log) => log.slice(0, log.indexOf('-')))).toEqual(['edge', 'edge'])
  })
})

describe('talking', () => {
  test('a chat between TCP and WebSocket goes both ways, in order, text unchanged', async () => {
    const [j, r] = (await people(server, 'juliet', 'romeo')) as [Account, Account]
    const juliet = await comeOnline(j, 'websocket')
    const romeo = await comeOnline(r, 'tcp')
    const lines = ['Wherefore art thou Romeo?', '<b>&amp; "\'</b> ]]>', 'ὦ Ῥωμαῖε 🌹', '  two\n lines ']
    for (const line of lines) await juliet.send(chat(r.jid, line))
    for (const line of lines) {
      const message = await romeo.stanzas.next('a message of Juliet', (stanza) => stanza.is('message'))
      expect(message.getChildText('body')).toBe(line)
      expect(message.attrs).toMatchObject({ from: juliet.jid, type: 'chat' })
    }
    await romeo.send(chat(juliet.jid, 'I take thee at thy word'))
    const answer = await juliet.stanzas.next('the answer', saying('I take thee at thy word'))
    expect(answer.attrs).toMatchObject({ from: romeo.jid, to: juliet.jid })
  })

  test('a sender cannot take another name: from is stamped by the server (RFC 6120 §8.1.2.1)', async () => {
    const [j, r] = (await people(server, 'juliet', 'romeo')) as [Account, Account]
    const juliet = await comeOnline(j)
    const romeo = await comeOnline(r)
    const message = chat(r.jid, 'It is I')
    message.attrs.from = `${j.jid}/somewhere-else`
    await juliet.send(message)
    // RFC 6120 §8.1.2.1 lets a server stamp over it or refuse it with a stream error; never deliver it.
    const seen = await Promise.race([
      romeo.stanzas.next('the message under its true sender', saying('It is I')).then(({ attrs }) => attrs.from),
      juliet.stanzas.next('a stream error', () => false).catch((error: Error) => error.message),
    ])
    expect(seen).toSatisfy((value: string) => value === juliet.jid || value.includes('invalid-from'))
  })

  test('a message to somebody offline waits, and comes with the time it was sent (XEP-0160, XEP-0203)', async () => {
    const [j, r] = (await people(server, 'juliet', 'romeo')) as [Account, Account]
    const juliet = await comeOnline(j)
    const sentAt = Date.now()
    // In no archive: what is there, a client that binds as this one does (XEP-0386 §3.2) is to read there.
    const hint = xml('no-permanent-store', { xmlns: 'urn:xmpp:hints' })
    await juliet.send(xml('message', { to: r.jid, type: 'chat' }, xml('body', {}, 'Parting is such sweet sorrow'), hint))
    await juliet.iq('get', undefined, rosterQuery()) // answered after the message was handled (RFC 6120 §10.1)
    const romeo = await comeOnline(r)
    const message = await romeo.stanzas.next('what waited for him', saying('Parting is such sweet sorrow'))
    expect(bareOf({ jid: message.attrs.from! })).toBe(j.jid)
    const stamp = message.getChild('delay', NS_DELAY)?.attrs.stamp
    expect(stamp).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/) // XEP-0082 §3.2, in UTC as XEP-0203 asks
    expect(Date.parse(stamp!)).toBeGreaterThan(sentAt - 2_000) // whole seconds are allowed
    expect(Date.parse(stamp!)).toBeLessThan(Date.now() + 2_000)

    await romeo.stop()
    const again = await comeOnline(r)
    await juliet.send(chat(r.jid, 'And again'))
    await again.stanzas.next('the next message', saying('And again'))
    expect(again.stanzas.rest(saying('Parting is such sweet sorrow'))).toEqual([]) // delivered once
  })
})

describe('presence', () => {
  test('after asking and approving both ways, each sees the other come and go (RFC 6121 §3.1, §4)', async () => {
    const [j, r] = (await people(server, 'juliet', 'romeo')) as [Account, Account]
    const juliet = await comeOnline(j, 'websocket')
    const romeo = await comeOnline(r, 'tcp')
    await befriend(juliet, romeo)
    await juliet.stanzas.next('that Romeo is there', presenceOf(romeo.jid))
    await romeo.stanzas.next('that Juliet is there', presenceOf(juliet.jid))
    expect(await rosterOf(juliet)).toMatchObject([{ jid: r.jid, subscription: 'both' }])
    expect(await rosterOf(romeo)).toMatchObject([{ jid: j.jid, subscription: 'both' }])

    await romeo.send(xml('presence', {}, xml('show', {}, 'away'), xml('status', {}, 'under the balcony')))
    const away = await juliet.stanzas.next(
      'that Romeo is away',
      (stanza) => presenceOf(romeo.jid)(stanza) && !!stanza.getChild('show'),
    )
    expect(away.getChildText('show')).toBe('away')
    expect(away.getChildText('status')).toBe('under the balcony')

    await romeo.stop()
    await juliet.stanzas.next('that Romeo left (RFC 6121 §4.5.2)', presenceOf(romeo.jid, 'unavailable'))
    const back = await comeOnline(r, 'tls')
    await juliet.stanzas.next('that Romeo is back', presenceOf(back.jid))
    await back.stanzas.next('that Juliet is still there (RFC 6121 §4.3.2)', presenceOf(juliet.jid))
  })

  test('who was not approved sees nothing, and the request waits for who is offline (RFC 6121 §3.1.3)', async () => {
    const [j, r] = (await people(server, 'juliet', 'romeo')) as [Account, Account]
    const romeo = await comeOnline(r)
    await romeo.send(xml('presence', { to: j.jid, type: 'subscribe' }))
    await romeo.stanzas.next('a push that he asked', (stanza) => pushed(stanza)?.ask === 'subscribe')
    const juliet = await comeOnline(j)
    await juliet.stanzas.next("Romeo's request", presenceOf(r.jid, 'subscribe'))
    await juliet.send(xml('presence', { to: r.jid, type: 'unsubscribed' }))
    await romeo.stanzas.next('the refusal', presenceOf(j.jid, 'unsubscribed'))
    expect(romeo.stanzas.rest(presenceOf(j.jid))).toEqual([])
  })
})

/** The one item of a roster push (RFC 6121 §2.1.6). */
function pushed(stanza: Element): Record<string, string> | undefined {
  const item = stanza.is('iq') ? stanza.getChild('query', NS_ROSTER)?.getChild('item') : undefined
  return item && { ...item.attrs, groups: groupsOf(item) }
}

describe('the roster', () => {
  test('what is added, renamed and removed at one device is pushed to every device (RFC 6121 §2)', async () => {
    const [j] = (await people(server, 'juliet')) as [Account]
    const nurse = `nurse@${server.domain}`
    const balcony = await comeOnline(j, 'tcp', 'balcony')
    const chamber = await comeOnline(j, 'websocket', 'chamber')
    expect(await rosterOf(balcony)).toEqual([])

    const set = (attrs: Record<string, string>, ...groups: string[]) =>
      balcony.iq(
        'set',
        undefined,
        xml(
          'query',
          { xmlns: NS_ROSTER },
          xml('item', { jid: nurse, ...attrs }, ...groups.map((name) => xml('group', {}, name))),
        ),
      )
    const bothSee = async (expected: object) => {
      for (const device of [balcony, chamber]) {
        const push = await device.stanzas.next(`a push of ${JSON.stringify(expected)}`, (stanza) => pushed(stanza) !== undefined)
        expect(pushed(push)).toMatchObject({ jid: nurse, ...expected })
        expect([undefined, j.jid]).toContain(push.attrs.from) // §2.1.6: anything else is not to be trusted
      }
    }
    await set({ name: 'Nurse' }, 'Household')
    await bothSee({ name: 'Nurse', subscription: 'none', groups: 'Household' })
    await set({ name: 'Angelica' })
    await bothSee({ name: 'Angelica', groups: '' })
    expect(await rosterOf(chamber)).toMatchObject([{ jid: nurse, name: 'Angelica', subscription: 'none', groups: '' }])
    await set({ subscription: 'remove' })
    await bothSee({ subscription: 'remove' })
    expect(await rosterOf(chamber)).toEqual([])
    expect(await refusal(set({ subscription: 'remove' }))).toBe('item-not-found') // §2.5.3
  })
})

describe('asking the server', () => {
  test('disco#info says that it is an instant messaging server, and answers a ping (XEP-0030, XEP-0199)', async () => {
    const [j] = (await people(server, 'juliet')) as [Account]
    const juliet = await login(j)
    const info = (await juliet.iq('get', server.domain, xml('query', { xmlns: NS_DISCO_INFO }))).getChild('query', NS_DISCO_INFO)!
    expect(info.getChildren('identity').map(({ attrs }) => `${attrs.category}/${attrs.type}`)).toContain('server/im')
    expect(info.getChildren('feature').map(({ attrs }) => attrs.var)).toEqual(expect.arrayContaining([NS_DISCO_INFO, NS_PING]))
    const pong = await juliet.iq('get', server.domain, xml('ping', { xmlns: NS_PING }))
    expect(pong.attrs).toMatchObject({ type: 'result', from: server.domain })
  })

  test.each([
    ['the server', (domain: string) => domain],
    ["one's own account", () => undefined],
  ])('%s refuses what it does not know, politely (RFC 6120 §8.3.3)', async (_who, address) => {
    const [j] = (await people(server, 'juliet')) as [Account]
    const juliet = await login(j)
    const answer = juliet.iq('get', address(server.domain), xml('query', { xmlns: 'urn:example:nothing-we-know' }))
    expect(['service-unavailable', 'feature-not-implemented']).toContain(await refusal(answer))
    await juliet.iq('get', server.domain, xml('ping', { xmlns: NS_PING })) // the stream goes on
  })

  test('an iq from one client to another is carried there and back', async () => {
    const [j, r] = (await people(server, 'juliet', 'romeo')) as [Account, Account]
    const juliet = await comeOnline(j, 'websocket')
    const romeo = await comeOnline(r)
    const pong = await juliet.iq('get', romeo.jid, xml('ping', { xmlns: NS_PING })) // xmpp.js answers pings itself
    expect(pong.attrs).toMatchObject({ type: 'result', from: romeo.jid })
    const nobody = juliet.iq('get', `${r.jid}/nowhere`, xml('ping', { xmlns: NS_PING }))
    expect(await refusal(nobody)).toBe('service-unavailable') // RFC 6121 §8.5.3.2.3
  })
})

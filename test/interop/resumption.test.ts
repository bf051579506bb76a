// Connections that break (XEP-0198), with the libraries that clients are made of: @xmpp/client and slixmpp.
import { xml } from '@xmpp/client'
import { afterEach, describe, expect, test } from 'vitest'
import { isCluster } from '#test/form.ts'
import { type Account, people } from './accounts.ts'
import { type TestServer, testServer } from './server.ts'
import { HOW_TO_GET_SLIXMPP, pythonWithSlixmpp, Slixmpp } from './slixmpp.ts'
import { available, chat, connectXmppJs, presenceOf, saying, type Via, type XmppJs } from './xmppjs.ts'

const python = pythonWithSlixmpp()
if (python === undefined) console.warn(`SKIPPED: slixmpp in test/interop/resumption.test.ts: ${HOW_TO_GET_SLIXMPP}`)

const server = testServer()
const running: { stop(): Promise<void> }[] = []

/** Each is on the next edge of a cluster. */
let next = 0
function home(): TestServer {
  const { edges } = server
  return edges.length === 0 ? server : edges[next++ % edges.length]!
}

afterEach(async () => {
  await Promise.all(running.splice(0).map((client) => client.stop()))
})

async function online(account: Account, via: Via = 'tcp', resource?: string): Promise<XmppJs> {
  const client = await connectXmppJs(home(), account, via, resource)
  running.push(client)
  await client.send(available())
  await client.stanzas.next('its own presence', presenceOf(client.jid))
  return client
}

/** The bodies of all messages that have come and were not taken, up to one that is sent now. */
async function bodiesUntilNow(to: XmppJs, from: XmppJs): Promise<string[]> {
  await from.send(chat(to.jid, 'that is all'))
  const bodies: string[] = []
  for (;;) {
    const message = await to.stanzas.next('a message', (stanza) => stanza.is('message'))
    const body = message.getChildText('body') ?? ''
    if (body === 'that is all') return bodies
    bodies.push(body)
  }
}

describe('@xmpp/client', () => {
  test.each([
    ['tcp', 'STARTTLS'],
    ['tls', 'direct TLS'],
  ] as const)('by %s (%s): what is said while its connection is broken comes when it resumes, once', async (via, _how) => {
    const [j, r] = (await people(server, 'juliet', 'romeo')) as [Account, Account]
    const juliet = await online(j, via, 'balcony')
    const romeo = await online(r)
    await romeo.send(chat(juliet.jid, 'before'))
    await juliet.stanzas.next('a message before', saying('before'))
    for (const round of [1, 2]) {
      juliet.cut()
      await romeo.send(chat(juliet.jid, `during ${round}`))
      await romeo.send(chat(j.jid, `during ${round}, to whatever is there`))
      await romeo.iq('get', server.domain, xml('ping', { xmlns: 'urn:xmpp:ping' })) // answered behind what came before it
      await juliet.resume()
      await romeo.send(chat(juliet.jid, `after ${round}`))
      expect(await bodiesUntilNow(juliet, romeo)).toEqual([
        `during ${round}`,
        `during ${round}, to whatever is there`,
        `after ${round}`,
      ])
    }
  })

  test('it logs in again by a token and not by its password, in the message that resumes (XEP-0484, XEP-0388)', async () => {
    const [j] = (await people(server, 'juliet')) as [Account]
    const juliet = await online(j, 'tcp', 'balcony')
    expect(juliet.mechanism).toMatch(/^SCRAM-SHA-/)
    for (let round = 0; round < 3; round++) {
      juliet.cut()
      await juliet.resume()
      expect(juliet.mechanism).toBe('HT-SHA-256-NONE')
    }
  })

  test('nobody sees it go', async () => {
    const [j] = (await people(server, 'juliet')) as [Account]
    const [balcony, chamber] = [await online(j, 'tcp', 'balcony'), await online(j, 'tcp', 'chamber')]
    balcony.cut()
    await balcony.resume()
    await balcony.send(available('dnd'))
    const isNews = presenceOf(balcony.jid)
    const seen = await chamber.stanzas.next(
      'that it left, or what it says now',
      (stanza) => presenceOf(balcony.jid, 'unavailable')(stanza) || (isNews(stanza) && stanza.getChild('show') !== undefined),
    )
    expect(seen.getChildText('show')).toBe('dnd')
  })

  test('a message that leaves as its connection breaks arrives once', async () => {
    const [j, r] = (await people(server, 'juliet', 'romeo')) as [Account, Account]
    const juliet = await online(j)
    const romeo = await online(r)
    const said = Array.from({ length: 20 }, (_, n) => `number ${n}`)
    for (const [n, body] of said.entries()) {
      // COMPAT: @xmpp/client 0.14 forgets a stanza whose write it has not seen end, though the server may have it.
      await juliet.send(chat(romeo.jid, body))
      if (n % 5 !== 4) continue
      juliet.cut()
      await juliet.resume()
    }
    expect(await bodiesUntilNow(romeo, juliet)).toEqual(said)
  })
})

describe.skipIf(!isCluster)('in a cluster, at another edge each time', () => {
  test('@xmpp/client goes on with its session, has missed nothing, and is seen as before', async () => {
    const [j, r] = (await people(server, 'juliet', 'romeo')) as [Account, Account]
    const [balcony, chamber] = [await online(j, 'tcp', 'balcony'), await online(j, 'tcp', 'chamber')]
    const romeo = await online(r)
    for (let round = 0; round < 4; round++) {
      balcony.cut()
      await romeo.send(chat(balcony.jid, `during ${round}`))
      await romeo.iq('get', server.domain, xml('ping', { xmlns: 'urn:xmpp:ping' }))
      await balcony.resume(server.edges[round % server.edges.length])
      await romeo.send(chat(balcony.jid, `after ${round}`))
      expect(await bodiesUntilNow(balcony, romeo)).toEqual([`during ${round}`, `after ${round}`])
      await balcony.send(available('dnd', `round ${round}`))
      const seen = await chamber.stanzas.next(
        'that it left, or what it says now',
        (stanza) =>
          presenceOf(balcony.jid, 'unavailable')(stanza) ||
          (presenceOf(balcony.jid)(stanza) && stanza.getChildText('status') === `round ${round}`),
      )
      expect(seen.attrs.type).toBeUndefined()
    }
  })

  test.skipIf(python === undefined)('slixmpp goes on with its session, and has missed nothing', async () => {
    const [j, r] = (await people(server, 'juliet', 'romeo')) as [Account, Account]
    const romeo = await online(r)
    const juliet = await Slixmpp.start(server.edges[0]!, python!)
    running.push(juliet)
    const { jid } = await juliet.connect(j, { managed: true, resource: 'balcony' })
    await juliet.presenceOf('its own presence', jid)
    for (const round of [1, 0, 1]) {
      await juliet.cut()
      await romeo.send(chat(jid, 'while it is gone'))
      await romeo.iq('get', server.domain, xml('ping', { xmlns: 'urn:xmpp:ping' }))
      expect((await juliet.resume(server.edges[round]!)).jid).toBe(jid)
      expect((await juliet.message('what was said', r.jid)).body).toBe('while it is gone')
      await juliet.send(romeo.jid, `from edge ${round}`)
      await romeo.stanzas.next('an answer', saying(`from edge ${round}`))
    }
  })
})

describe.skipIf(python === undefined)('slixmpp', () => {
  test('goes on with its session, and has missed nothing', async () => {
    const [j, r] = (await people(server, 'juliet', 'romeo')) as [Account, Account]
    const romeo = await online(r)
    const juliet = await Slixmpp.start(home(), python!)
    running.push(juliet)
    const { jid } = await juliet.connect(j, { managed: true, resource: 'balcony' })
    await juliet.presenceOf('its own presence', jid)
    const bodies: string[] = []
    for (const round of [1, 2]) {
      await juliet.cut()
      for (const n of [1, 2, 3]) await romeo.send(chat(n === 2 ? j.jid : jid, `${round}.${n}`))
      await romeo.iq('get', server.domain, xml('ping', { xmlns: 'urn:xmpp:ping' }))
      const resumed = await juliet.resume()
      expect(resumed.jid).toBe(jid)
      expect(resumed.previd).toMatch(isCluster ? /^[\w-]{40}$/ : /^[\w-]{24}$/)
      await romeo.send(chat(jid, `${round}.4`))
      for (let n = 1; n <= 4; n++) bodies.push((await juliet.message(`message ${n} of round ${round}`, r.jid)).body)
      await juliet.send(romeo.jid, `round ${round}`)
      await romeo.stanzas.next('an answer', saying(`round ${round}`))
    }
    expect(bodies).toEqual(['1.1', '1.2', '1.3', '1.4', '2.1', '2.2', '2.3', '2.4'])
  })
})

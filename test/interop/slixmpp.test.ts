// slixmpp, a Python client library with its own parser, TLS and SASL, against the same server.
import { afterEach, describe, expect, test } from 'vitest'
import { type Account, people, someone } from './accounts.ts'
import { testServer } from './server.ts'
import { type ConnectOptions, HOW_TO_GET_SLIXMPP, type Online, pythonWithSlixmpp, Slixmpp } from './slixmpp.ts'
import { chat, connectXmppJs, saying } from './xmppjs.ts'

const python = pythonWithSlixmpp()
if (python === undefined) console.warn(`SKIPPED: every test of test/interop/slixmpp.test.ts: ${HOW_TO_GET_SLIXMPP}`)

const server = testServer()
const running: Slixmpp[] = []

async function connect(account: Account, options?: ConnectOptions): Promise<{ client: Slixmpp; online: Online }> {
  const client = await Slixmpp.start(server, python!)
  running.push(client)
  return { client, online: await client.connect(account, options) }
}

describe.skipIf(python === undefined)('slixmpp', () => {
  afterEach(async () => {
    await Promise.all(running.splice(0).map((client) => client.stop()))
  })

  test.each([
    ['STARTTLS (RFC 6120 §5)', false],
    ['direct TLS (XEP-0368)', true],
  ])('registers, logs in and binds over %s, with a certificate that is checked', async (_how, directTls) => {
    const juliet = someone(server, 'juliet')
    const { client, online } = await connect(juliet, { directTls, register: true, resource: 'balcony' })
    expect(online).toMatchObject({ registered: true, roster: {} })
    expect(online.jid).toMatch(new RegExp(`^${juliet.jid}/.*balcony`))
    expect(online.mechanism).toMatch(/^SCRAM-SHA-/)
    expect(online.tls).toMatch(/^TLSv1\.[23]$/)
    await client.disconnect()

    const again = await connect(juliet, { directTls }) // the account is there, not only the stream
    expect(again.online).toMatchObject({ registered: false })
  })

  test('a wrong password and a taken name are refused', async () => {
    const [juliet] = (await people(server, 'juliet')) as [Account]
    // It tries every mechanism that is offered, and there are more of them than tries (RFC 6120 §6.4.5).
    await expect(connect({ ...juliet, password: 'guess' })).rejects.toThrow('policy-violation')
    await expect(connect(juliet, { register: true })).rejects.toThrow('not registered: conflict')
  })

  test('two people subscribe to each other, see each other come, change and go, and talk', async () => {
    const [j, r] = (await people(server, 'juliet', 'romeo')) as [Account, Account]
    const [juliet, romeo] = await Promise.all([connect(j, { directTls: true }), connect(r)])
    for (const [asking, asked, from, to] of [
      [juliet.client, romeo.client, j, r],
      [romeo.client, juliet.client, r, j],
    ] as const) {
      await asking.subscription(to.jid, 'subscribe')
      await asked.presenceOf(`the request of ${from.user}`, from.jid, { type: 'subscribe' })
      await asked.subscription(from.jid, 'subscribed')
      await asking.presenceOf(`the approval of ${to.user}`, to.jid, { type: 'subscribed' })
      await asking.presenceOf(`that ${to.user} is there`, to.jid)
    }
    expect(await juliet.client.roster()).toMatchObject({ [r.jid]: { subscription: 'both' } })

    await romeo.client.presence('dnd', 'climbing')
    const busy = await juliet.client.presenceOf('that Romeo is busy', romeo.online.jid, { show: 'dnd' })
    expect(busy.status).toBe('climbing')

    await romeo.client.send(j.jid, 'ἡ Ἰουλία <3 & 🌙')
    expect(await juliet.client.message('his message', romeo.online.jid)).toMatchObject({
      body: 'ἡ Ἰουλία <3 & 🌙',
      type: 'chat',
      delay: null,
    })
    await juliet.client.send(romeo.online.jid, 'Good night, good night!')
    expect(await romeo.client.message('her answer', juliet.online.jid)).toMatchObject({ body: 'Good night, good night!' })

    await romeo.client.disconnect()
    await juliet.client.presenceOf('that Romeo left', romeo.online.jid, { type: 'unavailable' })
    await juliet.client.send(r.jid, 'Parting is such sweet sorrow')
    await juliet.client.roster() // answered after the message was handled
    const back = await connect(r)
    const late = await back.client.message('what waited for Romeo', j.jid)
    expect(late.body).toBe('Parting is such sweet sorrow')
    expect(Math.abs(Date.now() - Date.parse(late.delay ?? ''))).toBeLessThan(60_000)
  })

  test('a roster item is set, pushed to the other device, and removed', async () => {
    const [j] = (await people(server, 'juliet')) as [Account]
    const nurse = `nurse@${server.domain}`
    const { client: balcony } = await connect(j, { resource: 'balcony' })
    const { client: chamber } = await connect(j, { resource: 'chamber', directTls: true })
    await balcony.update(nurse, { name: 'Nurse', groups: ['Household', 'Elders'] })
    const { items } = await chamber.push('a push of the new item')
    expect(items[nurse]).toMatchObject({ name: 'Nurse', subscription: 'none' })
    expect([...items[nurse]!.groups].sort()).toEqual(['Elders', 'Household'])
    expect(Object.keys(await chamber.roster())).toEqual([nurse])
    await balcony.update(nurse, { subscription: 'remove' })
    expect((await chamber.push('a push of the removal')).items[nurse]).toMatchObject({ subscription: 'remove' })
    expect(await chamber.roster()).toEqual({})
  })

  test('asks the server who it is, and pings it', async () => {
    const [j] = (await people(server, 'juliet')) as [Account]
    const { client } = await connect(j)
    const info = await client.disco(server.domain)
    expect(info.identities).toContain('server/im')
    expect(info.features).toEqual(expect.arrayContaining(['http://jabber.org/protocol/disco#info', 'urn:xmpp:ping']))
    expect(await client.ping(server.domain)).toBeGreaterThan(0)
  })

  test('talks with @xmpp/client on a WebSocket', async () => {
    const [j, r] = (await people(server, 'juliet', 'romeo')) as [Account, Account]
    const { client: romeo, online } = await connect(r)
    const juliet = await connectXmppJs(server, j, 'websocket')
    try {
      await juliet.send(chat(online.jid, 'Who is there?'))
      expect(await romeo.message('her question', juliet.jid)).toMatchObject({ body: 'Who is there?' })
      await romeo.send(juliet.jid, 'I know not how to tell thee who I am')
      await juliet.stanzas.next('his answer', saying('I know not how to tell thee who I am'))
      expect(await romeo.ping(juliet.jid)).toBeGreaterThan(0)
    } finally {
      await juliet.stop()
    }
  })
})

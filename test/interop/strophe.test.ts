// Strophe.js, the library under most web clients, over WebSocket. In Node it brings a DOM of its own (@xmldom/xmldom).
import { $iq, $msg, $pres, Strophe } from 'strophe.js'
import { afterEach, describe, expect, test } from 'vitest'
import { Mailbox } from '#test/support/mailbox.ts'
import { type Account, people } from './accounts.ts'
import { testServer } from './server.ts'
import { available, chat, connectXmppJs, presenceOf, rosterQuery, saying, subscription } from './xmppjs.ts'

const NS_ROSTER = 'jabber:iq:roster'

/** What the tests read of a DOM element; the compiler has no DOM here. */
interface DomElement {
  readonly tagName: string
  readonly textContent: string | null
  getAttribute(name: string): string | null
  getElementsByTagName(name: string): ArrayLike<DomElement>
}

interface StropheClient {
  readonly connection: InstanceType<typeof Strophe.Connection>
  readonly jid: string
  readonly mechanism: string
  readonly stanzas: Mailbox<DomElement>
  iq(builder: ReturnType<typeof $iq>): Promise<DomElement>
  stop(): Promise<void>
}

Strophe.setLogLevel(Strophe.LogLevel.ERROR)

const server = testServer()
const open: { stop(): Promise<void> }[] = []

afterEach(async () => {
  await Promise.all(open.splice(0).map((client) => client.stop()))
})

/** Logs in and binds. Rejects with the name of the status that Strophe ended in, and its condition. */
async function connect(account: Account, resource: string): Promise<StropheClient> {
  const owner = `${account.user} (Strophe)`
  const connection = new Strophe.Connection(server.websocketUrl)
  const statuses = new Mailbox<{ name: string; condition: string | null }>(`${owner}, status`, server.log)
  const stanzas = new Mailbox<DomElement>(owner, server.log)
  for (const name of ['message', 'presence']) {
    connection.addHandler((stanza: unknown) => stanzas.put(stanza as DomElement) ?? true, null, name)
  }
  connection.connect(`${account.jid}/${resource}`, account.password, (status: number, condition: string | null) => {
    statuses.put({ name: nameOf(status), condition })
  })
  const client: StropheClient = {
    connection,
    stanzas,
    get jid() {
      return connection.jid
    },
    get mechanism() {
      return connection._sasl_mechanism?.mechname ?? ''
    },
    iq: (builder) =>
      new Promise((resolve, reject) => {
        const refused = (stanza: unknown) =>
          reject(new Error(stanza === null ? `${owner}: no answer` : conditionOf(stanza as DomElement)))
        connection.sendIQ(builder.tree(), (stanza: unknown) => resolve(stanza as DomElement), refused, 8_000)
      }),
    stop: async () => {
      if (!connection.connected) return
      connection.disconnect('test over')
      await statuses.next('to be disconnected', ({ name }) => name === 'DISCONNECTED')
    },
  }
  open.push(client)
  const ends = ['CONNECTED', 'AUTHFAIL', 'CONNFAIL', 'ERROR', 'DISCONNECTED']
  const end = await statuses.next('to be connected', ({ name }) => ends.includes(name))
  if (end.name !== 'CONNECTED') throw new Error(`${end.name}: ${end.condition}`)
  return client
}

function nameOf(status: number): string {
  return Object.entries(Strophe.Status).find(([, value]) => value === status)?.[0] ?? String(status)
}

/** The defined condition in an error stanza (RFC 6120 §8.3.3). */
function conditionOf(stanza: DomElement): string {
  const error = stanza.getElementsByTagName('error')[0]
  return error === undefined ? 'no error' : (error.getElementsByTagName('*')[0]?.tagName ?? 'no condition')
}

function textIn(stanza: DomElement, name: string): string | null {
  return stanza.getElementsByTagName(name)[0]?.textContent ?? null
}

function isPresence(from: string, type: string | null = null): (stanza: DomElement) => boolean {
  return (stanza) => stanza.tagName === 'presence' && stanza.getAttribute('from') === from && stanza.getAttribute('type') === type
}

describe('Strophe over WebSocket', () => {
  test('logs in with SCRAM and binds the resource it asks for', async () => {
    const [j] = (await people(server, 'juliet')) as [Account]
    const juliet = await connect(j, 'balcony')
    expect(juliet.jid).toMatch(new RegExp(`^${j.jid}/.*balcony`))
    expect(juliet.mechanism).toMatch(/^SCRAM-SHA-/)
  })

  test('a wrong password is an authentication failure, not a lost connection', async () => {
    const [j] = (await people(server, 'juliet')) as [Account]
    await expect(connect({ ...j, password: 'guess' }, 'balcony')).rejects.toThrow('AUTHFAIL')
  })

  test('keeps a roster, and is told what the server refuses', async () => {
    const [j] = (await people(server, 'juliet')) as [Account]
    const juliet = await connect(j, 'balcony')
    const nurse = `nurse@${server.domain}`
    await juliet.iq($iq({ type: 'set' }).c('query', { xmlns: NS_ROSTER }).c('item', { jid: nurse, name: 'Nurse' }))
    const answer = await juliet.iq($iq({ type: 'get' }).c('query', { xmlns: NS_ROSTER }))
    const items = Array.from(answer.getElementsByTagName('item'))
    expect(items.map((item) => [item.getAttribute('jid'), item.getAttribute('name')])).toEqual([[nurse, 'Nurse']])
    const unknown = juliet.iq($iq({ type: 'get', to: server.domain }).c('query', { xmlns: 'urn:example:nothing-we-know' }))
    await expect(unknown).rejects.toThrow(/service-unavailable|feature-not-implemented/)
  })

  test('talks with @xmpp/client on TCP, and sees him come and go after both have subscribed', async () => {
    const [j, r] = (await people(server, 'juliet', 'romeo')) as [Account, Account]
    const juliet = await connect(j, 'balcony')
    juliet.connection.send($pres().tree())
    await juliet.stanzas.next('its own presence', isPresence(juliet.jid))
    const romeo = await connectXmppJs(server, r, 'tcp', 'orchard')
    open.push(romeo)
    await romeo.iq('get', undefined, rosterQuery())
    await romeo.send(available())

    juliet.connection.send($pres({ to: r.jid, type: 'subscribe' }).tree())
    await romeo.stanzas.next("Juliet's request", presenceOf(j.jid, 'subscribe'))
    await romeo.send(subscription(j.jid, 'subscribed'))
    await romeo.send(subscription(j.jid, 'subscribe'))
    await juliet.stanzas.next("Romeo's request", isPresence(r.jid, 'subscribe'))
    juliet.connection.send($pres({ to: r.jid, type: 'subscribed' }).tree())
    await juliet.stanzas.next('that Romeo is there', isPresence(romeo.jid))
    await romeo.stanzas.next('that Juliet is there', presenceOf(juliet.jid))

    juliet.connection.send($msg({ to: r.jid, type: 'chat' }).c('body').t('Ay me! <&> "\'').tree())
    await romeo.stanzas.next('her message', saying('Ay me! <&> "\''))
    await romeo.send(chat(juliet.jid, 'She speaks. ὦ 🌹'))
    const answer = await juliet.stanzas.next('his answer', ({ tagName }) => tagName === 'message')
    expect(textIn(answer, 'body')).toBe('She speaks. ὦ 🌹')
    expect(answer.getAttribute('from')).toBe(romeo.jid)

    await romeo.stop()
    await juliet.stanzas.next('that Romeo left', isPresence(romeo.jid, 'unavailable'))
  })
})

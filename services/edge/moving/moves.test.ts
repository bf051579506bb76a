import { afterEach, describe, expect, test } from 'vitest'
import { openCaller } from '#core/call.ts'
import type { Members } from '#core/process.ts'
import { parseJid } from '#xmpp/jid.ts'
import {
  connect,
  eventually,
  type FakeConnection,
  makeAccount,
  plainAuth,
  startRoles,
  type TestProcess,
  testProcess,
} from '../edge.fixture.ts'
import { type OpenEdge, openEdge } from '../main.ts'
import { ack, ENABLE, message, NS_SM, resume } from '../puppets.fixture.ts'

const ROMEO = 'romeo@example.org'
const JULIET = 'juliet@example.org'
const stops: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop()
})

interface Site {
  readonly process: TestProcess
  readonly open: OpenEdge
}

interface Pair {
  readonly sites: readonly [Site, Site]
  readonly leaving: Set<string>
}

/** Two edges, and the owners of all accounts, on one bus. */
async function twoEdges(config: Readonly<Record<string, unknown>> = {}): Promise<Pair> {
  const owner = testProcess({ config })
  const leaving = new Set<string>()
  const ids = ['edge1', 'edge2']
  const stop = await startRoles(owner)
  stops.push(stop)
  const members: Members = {
    live: () => ids,
    candidates: () => ids.filter((id) => !leaving.has(id)),
    livenessOf: (id) => (ids.includes(id) ? 'live' : 'gone'),
    speaksOf: () => 3,
    isCutOff: () => false,
    onChange: () => {},
    onRead: () => {},
    onFenced: () => {},
  }
  const sites = ids.map((id) => {
    const process = { ...owner, id, members }
    const open = openEdge(process)
    stops.push(async () => {
      leaving.add('edge1').add('edge2')
      await open.close()
    })
    return { process, open }
  })
  for (const account of [ROMEO, JULIET]) await makeAccount(owner, account)
  return { sites: sites as unknown as readonly [Site, Site], leaving }
}

interface Client {
  readonly connection: FakeConnection
  readonly jid: string
  readonly previd: string
}

async function logIn({ open }: Site, account: string, resource: string): Promise<Client> {
  const connection = connect(open.onConnection)
  const jid = await connection.logIn(account, resource)
  connection.send(ENABLE)
  const previd = /id='([^']*)'/.exec(await connection.until('<enabled'))![1]!
  return { connection, jid, previd }
}

async function comeBack({ open }: Site, account: string, previd: string, h: number): Promise<FakeConnection> {
  const connection = connect(open.onConnection)
  connection.open().send(plainAuth(account.split('@')[0]!))
  await connection.until('<success')
  connection.open()
  await connection.until('</stream:features>')
  connection.send(resume(previd, h))
  return connection
}

const sessionsAt = ({ open }: Site) => [...open.edge.sessions.values()].map(({ jid }) => jid.full)
const bodies = (text: string) => [...text.matchAll(/<body>([^<]*)</g)].map(([, body]) => body)
const ping = (id: string) => `<iq type='get' id='${id}' to='example.org'><ping xmlns='urn:xmpp:ping'/></iq>`

/** What has come up to now. */
async function upToNow(connection: FakeConnection, id: string): Promise<string> {
  connection.send(ping(id))
  return connection.until(new RegExp(`<iq [^>]*id='${id}'`))
}

/** Romeo sees Juliet, and she him. */
async function befriend(romeo: FakeConnection, juliet: FakeConnection): Promise<void> {
  romeo.send("<presence/><presence type='subscribe' to='juliet@example.org'/>")
  juliet.send('<presence/>')
  await juliet.until("type='subscribe'")
  juliet.send("<presence type='subscribed' to='romeo@example.org'/><presence type='subscribe' to='romeo@example.org'/>")
  await romeo.until("type='subscribe'")
  romeo.send("<presence type='subscribed' to='juliet@example.org'/>")
  await juliet.until(`<presence from='${ROMEO}/orchard'`)
  await upToNow(romeo, 'friends')
  await upToNow(juliet, 'friends')
}

describe('XEP-0198 §5 a session goes on at another edge', () => {
  test('while the one it was at lives: what was not acknowledged comes there, once and in order, and what is said after', async () => {
    const { sites } = await twoEdges()
    const [one, two] = sites
    const romeo = await logIn(one, ROMEO, 'orchard')
    const juliet = await logIn(two, JULIET, 'balcony')
    for (const id of ['1', '2', '3']) juliet.connection.send(message(romeo.jid, id))
    await romeo.connection.until('<body>3<')
    romeo.connection.send(`${message(juliet.jid, 'from romeo')}${ack(1)}`)
    await juliet.connection.until('from romeo')
    romeo.connection.vanish()
    juliet.connection.send(message(romeo.jid, '4'))
    await upToNow(juliet.connection, 'said')
    const back = await comeBack(two, ROMEO, romeo.previd, 2)
    const resumed = await back.until('<body>4<')
    expect(resumed).toContain(`<resumed xmlns='${NS_SM}' previd='${romeo.previd}' h='1'/>`)
    expect(bodies(resumed)).toEqual(['3', '4'])
    juliet.connection.send(message(romeo.jid, '5'))
    back.send(message(juliet.jid, 'again'))
    expect(bodies(await back.until('<body>5<'))).toEqual(['5'])
    expect(await juliet.connection.until('<body>again<')).toContain(`from='${romeo.jid}'`)
    expect(sessionsAt(one)).toEqual([])
    expect(sessionsAt(two)).toEqual([juliet.jid, romeo.jid])
  })

  test('a stream that is still there ends with a conflict, and nobody sees the session go', async () => {
    const { sites } = await twoEdges()
    const [one, two] = sites
    const romeo = await logIn(one, ROMEO, 'orchard')
    const juliet = await logIn(two, JULIET, 'balcony')
    await befriend(romeo.connection, juliet.connection)
    const back = await comeBack(two, ROMEO, romeo.previd, 0)
    await back.until('<resumed')
    expect(await romeo.connection.until('</stream:stream>')).toContain('<conflict ')
    back.send('<presence><show>away</show></presence>')
    const seen = await juliet.connection.until('<show>away<')
    expect(seen).not.toContain('unavailable')
    juliet.connection.send('<presence><show>dnd</show></presence>')
    await back.until('<show>dnd<')
  })

  test('and back again; flags, priority and the count of what was said go with it', async () => {
    const { sites } = await twoEdges()
    const [one, two] = sites
    const romeo = await logIn(one, ROMEO, 'orchard')
    const juliet = await logIn(one, JULIET, 'balcony')
    romeo.connection.send('<presence><priority>7</priority></presence>')
    await upToNow(romeo.connection, 'shown')
    let h = 3 // its own presence, the answer, and what follows
    let connection = romeo.connection
    for (const [round, site] of [two, one, two].entries()) {
      const text = `round ${round}`
      juliet.connection.send(message(ROMEO, text))
      await connection.until(`<body>${text}<`)
      connection.vanish()
      connection = await comeBack(site, ROMEO, romeo.previd, h++)
      expect(await connection.until('<resumed')).toContain(` h='${2 + round}'`)
      connection.send(message(juliet.jid, `answer ${round}`))
      await juliet.connection.until(`<body>answer ${round}<`)
    }
    const { caller } = { caller: openCaller(one.process.bus, one.process.ownership) }
    const sessions = await caller.ask('router', ROMEO, 'account.sessions', {})
    expect(sessions).toMatchObject([{ jid: romeo.jid, priority: 7 }])
  })

  test('somebody whom its client sees has gone while it was on its way: it sees him go', async () => {
    const { sites } = await twoEdges()
    const [one, two] = sites
    const romeo = await logIn(one, ROMEO, 'orchard')
    const juliet = await logIn(one, JULIET, 'balcony')
    await befriend(romeo.connection, juliet.connection)
    romeo.connection.vanish()
    const coming = comeBack(two, ROMEO, romeo.previd, 0)
    juliet.connection.send('</stream:stream>')
    const back = await coming
    await back.until(new RegExp(`<presence from='${JULIET}/balcony'[^>]* type='unavailable'`))
  })

  test('§5 an h that cannot be ends the stream with handled-count-too-high, and the session can still be resumed', async () => {
    const { sites } = await twoEdges()
    const [one, two] = sites
    const romeo = await logIn(one, ROMEO, 'orchard')
    romeo.connection.vanish()
    const wrong = await comeBack(two, ROMEO, romeo.previd, 9)
    expect(await wrong.until('</stream:stream>')).toContain(
      "<handled-count-too-high xmlns='urn:xmpp:sm:3' h='9' send-count='0'/>",
    )
    await (await comeBack(two, ROMEO, romeo.previd, 0)).until('<resumed')
  })

  test('it is resumed by nobody else, nor by what nobody gave: item-not-found, and one may bind', async () => {
    const { sites } = await twoEdges()
    const [one, two] = sites
    const romeo = await logIn(one, ROMEO, 'orchard')
    romeo.connection.vanish()
    const forged = `${romeo.previd.slice(0, -1)}${romeo.previd.endsWith('A') ? 'B' : 'A'}`
    for (const [account, previd] of [
      [JULIET, romeo.previd],
      [ROMEO, forged],
      [ROMEO, 'x'],
      [ROMEO, 'x'.repeat(10_000)],
    ] as const) {
      const other = await comeBack(two, account, previd, 0)
      expect(await other.until('<failed')).toContain('<item-not-found')
      other.send("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")
      await other.until('<jid>')
    }
    await (await comeBack(two, ROMEO, romeo.previd, 0)).until('<resumed')
  })

  test('once its time is up, or its client has left, there is nothing to resume', async () => {
    const { sites } = await twoEdges()
    const [one, two] = sites
    const romeo = await logIn(one, ROMEO, 'orchard')
    romeo.connection.send('</stream:stream>')
    await romeo.connection.until('</stream:stream>')
    expect(await (await comeBack(two, ROMEO, romeo.previd, 0)).until('<failed')).toContain('<item-not-found')
  })

  test('of two streams that ask for it at the same time, at two edges, one has it in the end', async () => {
    const { sites } = await twoEdges()
    const [one, two] = sites
    const romeo = await logIn(one, ROMEO, 'orchard')
    romeo.connection.vanish()
    const both = await Promise.all([comeBack(one, ROMEO, romeo.previd, 0), comeBack(two, ROMEO, romeo.previd, 0)])
    for (const connection of both) await connection.until(/<resumed|<failed/)
    await eventually(() => sessionsAt(one).length + sessionsAt(two).length === 1, 'one session')
    const live = both.filter(({ ended, written }) => !ended && written.includes('<resumed'))
    expect(live.length).toBe(1)
  })
})

describe('an edge that stops', () => {
  test('hands its sessions to the others: contacts see nothing, and they are resumed there with what came meanwhile', async () => {
    const { sites, leaving } = await twoEdges()
    const [one, two] = sites
    const romeo = await logIn(one, ROMEO, 'orchard')
    const juliet = await logIn(two, JULIET, 'balcony')
    await befriend(romeo.connection, juliet.connection)
    juliet.connection.send(message(romeo.jid, 'before'))
    await romeo.connection.until('<body>before<')
    leaving.add('edge1')
    const closing = one.open.close()
    expect(await romeo.connection.until('</stream:stream>')).toContain('<system-shutdown ')
    await closing
    expect(sessionsAt(one)).toEqual([])
    expect(sessionsAt(two)).toEqual([juliet.jid, romeo.jid])
    juliet.connection.send(message(romeo.jid, 'meanwhile'))
    expect(await upToNow(juliet.connection, 'sent')).not.toContain("type='unavailable'")
    const back = await comeBack(two, ROMEO, romeo.previd, 0)
    const came = await back.until('<body>meanwhile<')
    expect(bodies(came)).toEqual(['before', 'meanwhile'])
    back.send('<presence><show>chat</show></presence>')
    await juliet.connection.until('<show>chat<')
  })

  test('ends those that cannot be resumed, and all where there is no other', async () => {
    const { sites, leaving } = await twoEdges()
    const [one, two] = sites
    const plain = connect(one.open.onConnection)
    await plain.logIn(ROMEO, 'plain')
    leaving.add('edge1')
    await one.open.close()
    expect(await plain.until('</stream:stream>')).toContain('<system-shutdown ')
    expect([sessionsAt(one), sessionsAt(two)]).toEqual([[], []])
    const juliet = await logIn(two, JULIET, 'balcony')
    leaving.add('edge2')
    await two.open.close()
    const sessions = await openCaller(two.process.bus, two.process.ownership).ask('router', JULIET, 'account.sessions', {})
    expect(sessions).toEqual([])
    expect(parseJid(juliet.jid).resource).toBe('balcony')
  })
})

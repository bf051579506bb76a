// An edge whose owners are puppets of the test, and clients with stream management on it. Everything ends with the test it was made in.
import { afterEach, expect } from 'vitest'
import { parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT } from '#xmpp/ns.ts'
import { el, type Stanza, type StanzaHead, stanza } from '#xmpp/stanza.ts'
import { connect, type FakeConnection, type ProcessOptions, PuppetOwners, plainAuth, testProcess } from './edge.fixture.ts'
import { type Edge, type OpenEdge, openEdge } from './main.ts'

export const NS_SM = 'urn:xmpp:sm:3'
export const ENABLE = `<enable xmlns='${NS_SM}' resume='true'/>`
export const ASK = `<r xmlns='${NS_SM}'/>`
export const ack = (h: number) => `<a xmlns='${NS_SM}' h='${h}'/>`
export const resume = (previd: string, h: number) => `<resume xmlns='${NS_SM}' previd='${previd}' h='${h}'/>`
export const message = (to: string, id: string) => `<message to='${to}' id='${id}' type='chat'><body>${id}</body></message>`
export const rosterSet = (id: string) =>
  `<iq type='set' id='${id}'><query xmlns='jabber:iq:roster'><item jid='juliet@example.org'/></query></iq>`

export const stops: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop()
})

export interface Puppets {
  readonly edge: Edge
  readonly open: OpenEdge
  readonly owners: PuppetOwners
  readonly process: ReturnType<typeof testProcess>
}

export function startPuppets(options: ProcessOptions = {}): Puppets {
  const process = testProcess(options)
  const owners = new PuppetOwners(process)
  const open = openEdge(process)
  owners.knows('romeo@example.org')
  owners.knows('juliet@example.org')
  stops.push(() => {
    owners.onEnvelope = ({ done }) => done()
    for (const { done } of owners.handed) done()
    return open.close()
  })
  return { edge: open.edge, open, owners, process }
}

/** A stream on which stream management is enabled, and its session. */
export async function managed(puppets: Puppets, enable = ENABLE, framing: 'stream' | 'frame' = 'stream') {
  const connection = connect(puppets.open.onConnection, { framing })
  await connection.logIn('romeo@example.org', 'garden')
  const session = [...puppets.edge.sessions.keys()].at(-1)!
  connection.send(enable)
  const id = /id='([^']*)'/.exec(await connection.until('<enabled'))?.[1] ?? ''
  return { connection, id, session }
}

/** A stream that has logged in and not bound. */
export async function loggedIn({ open }: Puppets, account = 'romeo@example.org', framing: 'stream' | 'frame' = 'stream') {
  const connection = connect(open.onConnection, { framing })
  connection.open().send(plainAuth(account.split('@')[0]!))
  await connection.until('<success')
  connection.open()
  await connection.until('</stream:features>')
  return connection
}

export function deliver(
  { owners, process }: Puppets,
  session: string,
  id: string,
  head: StanzaHead = {},
  from = 'juliet@example.org/x',
) {
  const body = el('body', NS_CLIENT, {}, id)
  const to = parseJid('romeo@example.org')
  const one = stanza('message', parseJid(from), { to, id, type: 'chat', ...head }, body)
  owners.multicast.deliver({ edge: process.id, session }, one)
}

/** What went back to the router, behind the news of the end. */
export function returnedOf({ owners }: Puppets): Stanza[] {
  const closed = owners.handed.findIndex(({ envelope }) => envelope.kind === 'signal' && envelope.name === 'session.closed')
  return owners.handed.flatMap(({ envelope }, at) => {
    if (envelope.kind !== 'stanza' || envelope.point !== 'returned') return []
    expect(closed).toBeGreaterThanOrEqual(0)
    expect(at).toBeGreaterThan(closed)
    return [envelope.stanza]
  })
}

export const ids = (stanzas: readonly Stanza[]) => stanzas.map(({ id }) => id)
export const idsIn = (text: string) => [...text.matchAll(/<(?:message|presence|iq) [^>]*id='([^']*)'/g)].map(([, id]) => id)
export const streamError = ({ written }: FakeConnection) => /<stream:error[^>]*><([a-z-]+) /.exec(written)?.[1]
export const failure = (text: string) => /<failed [^>]*><([a-z-]+) /.exec(text)?.[1]

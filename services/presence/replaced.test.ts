// A client comes back as the resource that it had, at another edge; what it said before comes again, and last.
import { expect, test } from 'vitest'
import { type Origin, writeEnvelope } from '#core/envelope.ts'
import { saidMsOf, writeLaneHead } from '#core/lanes/lane-frame.ts'
import { Writer } from '#core/wire.ts'
import { harness, type TestClient, type TestServer } from '#test/harness.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT } from '#xmpp/ns.ts'
import { el, find, type Stanza, stanza, textOf } from '#xmpp/stanza.ts'

const ORCHARD = 'romeo@example.org/orchard'
let sources = 0

/** As the lane of an edge that has sent it before, to an owner who died. */
async function sayAgain(server: TestServer, session: string, status: string, age = 1): Promise<void> {
  const { bus, ownership } = server.process
  const presence = stanza('presence', parseJid(ORCHARD), {}, el('status', NS_CLIENT, {}, status))
  const origin: Origin = { edge: server.edge, session, n: 1 }
  const out = new Writer()
  writeLaneHead(out, `source${++sources}`, 0, ownership.epoch('presence'))
  out.u32(1)
  out.u8(age)
  const at = out.reserve32()
  const account = presence.from.bare
  writeEnvelope(out, { kind: 'stanza', point: 'outbound', account, origin, stanza: presence, saidMs: saidMsOf(age, 0) })
  out.patch32(at, out.length - at - 4)
  bus.publish(`lane.presence.${ownership.ownerOf('presence', account)}`, out.take())
  await server.quiet()
}

const statusOf = (presence: Stanza): string => {
  const status = find(presence, 'status', NS_CLIENT)
  return status === undefined ? presence.type : textOf(status)
}

/** What the other resource of the account is shown of this one. */
const shownTo = ({ received }: TestClient): string[] =>
  received.filter(({ name, from }) => name === 'presence' && from.full === ORCHARD).map(statusOf)

async function open() {
  const server = await harness([])
  await server.account('romeo@example.org')
  const other = await server.online('romeo@example.org/phone')
  const romeo = await server.bind(ORCHARD)
  romeo.send(romeo.stanza('presence', {}, el('status', NS_CLIENT, {}, 'here')))
  await server.quiet()
  expect(shownTo(other)).toEqual(['here'])
  return { server, other, romeo }
}

test('used to be taken for the later one, and its end for that of both: the router has bound another one in its place', async () => {
  const { server, other } = await open()
  await using _ = server
  await sayAgain(server, 'before', 'long ago')
  expect(shownTo(other)).toEqual(['here'])
})

test('what comes for the first time is taken without a question', async () => {
  const { server, other } = await open()
  await using _ = server
  await sayAgain(server, 'latest', 'back again', 0)
  expect(shownTo(other)).toEqual(['here', 'back again'])
})

test('a session stands while it is bound, and while nobody is bound in its place: its edge may tell of it late', async () => {
  const { server, romeo } = await open()
  await using _ = server
  const asked = [
    [romeo.session, 'orchard'],
    ['before', 'orchard'],
    ['before', 'balcony'],
  ] as const
  const stand = (session: string, resource: string) =>
    server.caller.ask('router', 'romeo@example.org', 'session.stands', { session, resource })
  expect(await Promise.all(asked.map(([session, resource]) => stand(session, resource)))).toEqual([true, false, true])
})

import { afterEach, expect, test } from 'vitest'
import type { Delivery } from '#core/envelope.ts'
import { parseJid } from '#xmpp/jid.ts'
import { el, stanza } from '#xmpp/stanza.ts'
import { connect, eventually, PuppetOwners, settled, testProcess } from '../edge.fixture.ts'
import { openEdge } from '../main.ts'

const stops: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop()
})

/** A client that has asked for a resource, and a router that has not answered. */
async function binding() {
  const process = testProcess()
  const owners = new PuppetOwners(process)
  const { edge, onConnection, close } = openEdge(process)
  stops.push(close)
  let release = (): void => {}
  owners.binding = new Promise<void>((resolve) => (release = resolve))
  owners.knows('romeo@example.org')
  const romeo = connect(onConnection)
  const bound = romeo.logIn('romeo@example.org', 'garden')
  await eventually(() => edge.early.size === 1, 'the bind to be asked for')
  return { edge, owners, process, romeo, release: () => release(), bound, session: [...edge.early.keys()][0]! }
}

test('what comes for a session before its bind is answered is bounded in bytes: orders are kept all the same', async () => {
  const { edge, owners, process, romeo, release, bound, session } = await binding()
  const target = { edge: process.id, session }
  const large = el('body', 'jabber:client', {}, 'x'.repeat(200_000))
  for (let i = 0; i < 20; i++)
    owners.multicast.deliver(target, stanza('message', parseJid('a@example.org'), { id: `m${i}` }, large))
  owners.multicast.order(target, 'flag', { flag: 'carbons' })
  await settled()
  release()
  await bound
  await settled()
  expect(romeo.written.split('<message ').length - 1).toBe(5)
  expect(romeo.written).toContain("id='m4'")
  expect([...edge.sessions.values()][0]!.flags).toContain('carbons')
})

test('what is all head counts as much, and what waits keeps no more alive than itself', async () => {
  const { edge, owners, process, romeo, release, bound, session } = await binding()
  const target = { edge: process.id, session }
  for (let i = 0; i < 20; i++)
    owners.multicast.deliver(target, stanza('message', parseJid('a@example.org'), { id: `m${i}-${'x'.repeat(200_000)}` }))
  owners.multicast.deliver(
    target,
    stanza('message', parseJid('a@example.org'), { id: 'short' }, el('body', 'jabber:client', {}, 'x')),
  )
  await settled()
  for (const delivery of edge.early.get(session)!) {
    const { payload } = (delivery as Delivery & { kind: 'stanza' }).stanza
    expect(payload.buffer.byteLength).toBe(payload.length)
  }
  release()
  await bound
  await settled()
  expect(romeo.written.split('<message ').length - 1).toBe(6)
  expect(romeo.written).toContain("id='short'")
})

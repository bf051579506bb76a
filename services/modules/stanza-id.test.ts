import { describe, expect, test } from 'vitest'
import { harness, type TestServer } from '#test/harness.ts'
import { NS_CLIENT, NS_SID } from '#xmpp/ns.ts'
import { el, stanzaOfBytes } from '#xmpp/stanza.ts'
import stanzaId from './stanza-id.ts'

const ROMEO = 'romeo@example.org'
const JULIET = 'juliet@example.org'
const BODY = el('body', NS_CLIENT, {}, 'Call me but love')

async function both(server: TestServer) {
  return { romeo: await server.online(`${ROMEO}/orchard`), juliet: await server.online(`${JULIET}/balcony`) }
}

describe('XEP-0359 §3 rule 2, without an archive', () => {
  test.each([
    ['as it is', JULIET],
    ['in capitals', 'Juliet@EXAMPLE.org'],
    ['in the sender’s name', ROMEO],
  ])('an id in the name of an account used to reach it, forged %s: it is removed', async (_how, by) => {
    await using server = await harness([stanzaId])
    const { romeo, juliet } = await both(server)
    const foreign = el('stanza-id', NS_SID, { by: 'room@muc.example.org', id: 'x' })
    const origin = el('origin-id', NS_SID, { id: 'mine' })
    const forged = el('stanza-id', NS_SID, { by, id: 'forged' })
    romeo.send(romeo.stanza('message', { to: juliet.jid, type: 'chat' }, forged, BODY, foreign, origin))
    const seen = await juliet.next(({ name }) => name === 'message')
    expect(seen.tree()).toEqual([BODY, foreign, origin]) // rule 3: what is another's stays
  })

  test('behind a prefix, and where nothing else is in the message', async () => {
    await using server = await harness([stanzaId])
    const { romeo, juliet } = await both(server)
    const bytes = Buffer.from(`<s:stanza-id xmlns:s='${NS_SID}' by='${JULIET}' id='forged'/>`)
    romeo.send(stanzaOfBytes('message', romeo.jid, juliet.jid, 'm', 'chat', '', `{${NS_SID}}stanza-id`, bytes))
    const seen = await juliet.next(({ id }) => id === 'm')
    expect([seen.tree(), seen.child]).toEqual([[], ''])
  })

  test('an iq and a presence are passed on as they are', async () => {
    await using server = await harness([stanzaId])
    const { romeo, juliet } = await both(server)
    const forged = el('stanza-id', NS_SID, { by: JULIET, id: 'forged' })
    romeo.send(romeo.stanza('iq', { to: juliet.jid, type: 'get', id: 'q' }, forged))
    expect((await juliet.next(({ id }) => id === 'q')).tree()).toEqual([forged])
  })
})

import { describe, expect, test } from 'vitest'
import { harness, type TestClient } from '#test/harness.ts'
import { NS_ROSTER } from '#xmpp/ns.ts'
import { type Element, el } from '#xmpp/stanza.ts'
import pushes from './pushes.ts'

const ROMEO = 'romeo@example.org'
const JULIET = 'juliet@example.org'
const ITEM = el('query', NS_ROSTER, {}, el('item', NS_ROSTER, { jid: 'paris@example.org', subscription: 'both' }))
const BLOCK = el('block', 'urn:xmpp:blocking', {}, el('item', 'urn:xmpp:blocking', { jid: ROMEO }))

async function refusal(client: TestClient, payload: Element, to: string): Promise<string | undefined> {
  const answer = await client.iq('set', payload, to)
  return answer !== undefined && 'condition' in answer ? answer.condition : undefined
}

describe('RFC 6121 §2.1.6 a push that another account has forged', () => {
  test.each([
    ['of the roster', ITEM],
    ['of the block list', BLOCK],
  ])('%s used to reach the client: it is answered as if that were not there', async (_what, payload) => {
    await using server = await harness([pushes])
    const romeo = await server.online(`${ROMEO}/orchard`)
    const juliet = await server.online(`${JULIET}/balcony`)
    const before = juliet.received.length
    const answers = [`${JULIET}/balcony`, `${JULIET}/nowhere`, 'nobody@example.org/nowhere'].map((to) =>
      refusal(romeo, payload, to),
    )
    expect(new Set(await Promise.all(answers))).toEqual(new Set(['service-unavailable']))
    await server.quiet()
    expect(juliet.received.slice(before)).toEqual([])
  })

  test('keeps nothing else away: questions, other iqs, and what one’s own resources say', async () => {
    await using server = await harness([pushes])
    const romeo = await server.online(`${ROMEO}/orchard`)
    const juliet = await server.online(`${JULIET}/balcony`)
    const chamber = await server.online(`${JULIET}/chamber`)
    const sent: [TestClient, 'get' | 'set', Element][] = [
      [romeo, 'get', el('query', NS_ROSTER)],
      [romeo, 'set', el('query', 'urn:example')],
      [chamber, 'set', ITEM],
    ]
    for (const [client, type, payload] of sent) {
      client.send(client.stanza('iq', { to: juliet.jid, type, id: 'q' }, payload))
      expect((await juliet.next(({ id }) => id === 'q')).tree()).toEqual([payload])
    }
  })

  test('a real push comes, and a set in the name of another’s account is forbidden or unknown there', async () => {
    await using server = await harness([pushes])
    const romeo = await server.online(`${ROMEO}/orchard`)
    const juliet = await server.online(`${JULIET}/balcony`)
    await juliet.iq('get', el('query', NS_ROSTER)) // RFC 6121 §2.2: interested from here on
    await juliet.iq('set', el('query', NS_ROSTER, {}, el('item', NS_ROSTER, { jid: 'paris@example.org' })))
    const push = await juliet.next(({ name, type }) => name === 'iq' && type === 'set')
    expect(push.from.full === '' || push.from.full === JULIET).toBe(true)
    expect(await refusal(romeo, ITEM, JULIET)).toMatch(/^(?:forbidden|service-unavailable)$/)
  })
})

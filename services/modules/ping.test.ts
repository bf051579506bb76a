import { describe, expect, test } from 'vitest'
import { harness } from '#test/harness.ts'
import { el } from '#xmpp/stanza.ts'
import ping from './ping.ts'

const PING = el('ping', 'urn:xmpp:ping')

describe('XEP-0199 §4.2 Client-To-Server Pings', () => {
  test.each([
    ['the server', 'example.org'],
    ['no address, which is the server for one’s account', undefined],
    ['one’s own account', 'romeo@example.org'],
  ])('a ping to %s is answered with an empty result', async (_name, to) => {
    await using server = await harness([ping])
    const romeo = await server.connect('romeo@example.org/garden')
    expect(await romeo.iq('get', PING, to)).toBeUndefined()
  })

  test('a ping of another type is refused', async () => {
    await using server = await harness([ping])
    const romeo = await server.connect('romeo@example.org/garden')
    expect(await romeo.iq('set', PING, 'example.org')).toMatchObject({ condition: 'feature-not-implemented', type: 'cancel' })
  })

  test('somebody else’s account does not tell whether it exists', async () => {
    await using server = await harness([ping])
    const romeo = await server.connect('romeo@example.org/garden')
    await server.account('juliet@example.org')
    expect(await romeo.iq('get', PING, 'juliet@example.org')).toMatchObject({ condition: 'service-unavailable' })
    expect(await romeo.iq('get', PING, 'nobody@example.org')).toMatchObject({ condition: 'service-unavailable' })
  })
})

test('XEP-0199 §4.4 a ping between clients is handed on, and so is its answer', async () => {
  await using server = await harness([ping])
  const romeo = await server.connect('romeo@example.org/garden')
  const juliet = await server.connect('juliet@example.org/balcony')
  const answer = romeo.iq('get', PING, 'juliet@example.org/balcony')
  const { id, from } = await juliet.next()
  juliet.send(juliet.stanza('iq', { type: 'result', id, to: from }))
  expect(await answer).toBeUndefined()
})

test('without the module a ping is service-unavailable, which XEP-0199 §4.2 takes for an answer', async () => {
  await using server = await harness([])
  const romeo = await server.connect('romeo@example.org/garden')
  expect(await romeo.iq('get', PING, 'example.org')).toMatchObject({ condition: 'service-unavailable' })
})

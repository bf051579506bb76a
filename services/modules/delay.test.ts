import { describe, expect, test } from 'vitest'
import { harness, type TestServer } from '#test/harness.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT, NS_DELAY } from '#xmpp/ns.ts'
import { attr, type Element, el, find, type Stanza, stanza } from '#xmpp/stanza.ts'
import delay from './delay.ts'
import mam from './mam.ts'
import offline from './offline.ts'

const JULIET = 'juliet@example.org'
const LONG_AGO = '1969-07-21T02:56:15Z'
const note = (from: string | undefined) => el('delay', NS_DELAY, { from, stamp: LONG_AGO })

/** `from` and `stamp` of the notes, in their order. */
function notesOf(children: readonly (Element | string)[]): [string, string][] {
  const notes = children.filter((child): child is Element => typeof child !== 'string' && child.ns === NS_DELAY)
  return notes.map((child) => [attr(child, 'from'), attr(child, 'stamp')])
}

function messagesOf(received: readonly Stanza[]): readonly Stanza[] {
  return received.filter(({ name }) => name === 'message')
}

/** Romeo says something to Juliet with these notes in it. */
async function say(server: TestServer, ...notes: readonly Element[]): Promise<void> {
  const romeo = await server.connect('romeo@example.org/garden')
  romeo.message(JULIET, 'late', ...notes)
  await server.quiet()
}

describe('XEP-0203 §5', () => {
  test.each<[string, string | undefined, boolean]>([
    ['of the recipient’s server', 'example.org', false],
    ['of it, spelled otherwise', 'EXAMPLE.ORG', false],
    ['of a room', 'rooms.example.net', true],
    ['of an account there', JULIET, true],
    ['of nobody', undefined, true],
    ['of what is no address', '@', true],
  ])('a note in a live message that says it is %s', async (_name, from, stays) => {
    await using server = await harness([delay])
    const juliet = await server.online(`${JULIET}/balcony`)
    await say(server, note(from))
    const [message] = messagesOf(juliet.received)
    expect(notesOf(message!.tree())).toEqual(stays ? [[from ?? '', LONG_AGO]] : [])
    expect(juliet.bodies()).toEqual(['late'])
  })

  test('a note within something that is passed on is that one’s', async () => {
    await using server = await harness([delay])
    const juliet = await server.online(`${JULIET}/balcony`)
    await say(server, el('forwarded', 'urn:xmpp:forward:0', {}, note('example.org')))
    expect(notesOf(find(messagesOf(juliet.received)[0]!, 'forwarded', 'urn:xmpp:forward:0')!.children)).toHaveLength(1)
  })

  test('what is kept offline gets the true note in its place, and keeps it when it is handed over', async () => {
    await using server = await harness([delay, offline])
    await server.account(JULIET)
    await say(server, note('example.org'), note('rooms.example.net'))
    const juliet = await server.online(`${JULIET}/balcony`)
    const [other, ours] = notesOf(messagesOf(juliet.received)[0]!.tree())
    expect([other, ours![0]]).toEqual([['rooms.example.net', LONG_AGO], 'example.org'])
    expect(ours![1]).not.toBe(LONG_AGO)
  })

  test('it is not in the archive either; the note that a result has, is', async () => {
    await using server = await harness([mam, delay]) // in this order: the archive waits for it all the same
    const juliet = await server.online(`${JULIET}/balcony`)
    await say(server, note('example.org'))
    await juliet.iq('set', el('query', 'urn:xmpp:mam:2'))
    const result = find(messagesOf(juliet.received).at(-1)!, 'result', 'urn:xmpp:mam:2')!
    const forwarded = result.children[0] as Element
    expect(notesOf(forwarded.children)).toHaveLength(1)
    const archived = forwarded.children.find((child) => typeof child !== 'string' && child.ns === NS_CLIENT) as Element
    expect([archived.children.length > 0, notesOf(archived.children)]).toEqual([true, []])
  })

  test('one of a session that did not acknowledge it comes back with its note', async () => {
    await using server = await harness([delay, offline])
    await server.account(JULIET)
    const kept = stanza(
      'message',
      parseJid('romeo@example.org/garden'),
      { to: parseJid(JULIET), type: 'chat' },
      note('example.org'),
    )
    server.lanes.send('router', JULIET, { kind: 'stanza', point: 'returned', account: JULIET, origin: undefined, stanza: kept })
    await server.quiet()
    const juliet = await server.online(`${JULIET}/balcony`)
    expect(notesOf(messagesOf(juliet.received)[0]!.tree())).toEqual([['example.org', LONG_AGO]])
  })
})

import { describe, expect, test } from 'vitest'
import { parseJid } from '#xmpp/jid.ts'
import { el, stanza } from '#xmpp/stanza.ts'
import { Showing } from './showing.ts'

const ROMEO = parseJid('romeo@example.org/orchard')
const presence = (to = '', type = '') => stanza('presence', ROMEO, { type, ...(to !== '' && { to: parseJid(to) }) })
const from = (full: string, type = '') => stanza('presence', parseJid(full), { to: ROMEO, type })

describe('RFC 6121 §4 what a session has shown', () => {
  test('is the presence that it has broadcast last, until it says unavailable', () => {
    const showing = new Showing()
    expect(showing.broadcast).toBeUndefined()
    const [first, second] = [presence(), presence()]
    showing.note(first)
    showing.note(second)
    expect(showing.broadcast).toBe(second)
    showing.note(presence('', 'unavailable'))
    expect(showing.broadcast).toBeUndefined()
  })

  test('§4.7.2.3 is not a presence that was refused for its priority: the one before it stands', () => {
    const showing = new Showing()
    const priority = (text: string) => stanza('presence', ROMEO, {}, el('priority', 'jabber:client', {}, text))
    showing.note(priority('128'))
    expect(showing.broadcast).toBeUndefined()
    const good = priority('5')
    showing.note(good)
    showing.note(priority('high'))
    expect(showing.broadcast).toBe(good)
  })

  test('§4.6 is directed presence, to whom it is not taken back', () => {
    const showing = new Showing()
    for (const to of ['a@example.org', 'room@example.net/me', 'b@example.org']) showing.note(presence(to))
    showing.note(presence('a@example.org', 'unavailable'))
    showing.note(presence('c@example.org', 'unavailable'))
    expect([showing.directed.map(({ full }) => full), showing.broadcast]).toEqual([
      ['room@example.net/me', 'b@example.org'],
      undefined,
    ])
    showing.note(presence('', 'unavailable'))
    expect(showing.directed).toEqual([])
  })

  test('is bounded, in number and in length, and there is room again where it is taken back', () => {
    const showing = new Showing()
    for (let n = 0; n < 1_100; n++) showing.note(presence(`a${n}@example.org`))
    expect(showing.directed).toHaveLength(1_000)
    const long = new Showing()
    const name = (n: number) => `${String(n).padStart(1_000, 'a')}@example.org`
    for (let n = 0; n < 100; n++) long.note(presence(name(n)))
    const { length } = long.directed
    expect(length).toBeLessThan(66)
    long.note(presence(name(0), 'unavailable'))
    long.note(presence(name(200)))
    expect(long.directed).toHaveLength(length)
  })
})

test('§4.3.2 what a session sees are the full JIDs it was shown, until they are unavailable, by themselves or all of an account', () => {
  const showing = new Showing()
  for (const full of ['juliet@example.org/a', 'juliet@example.org/b', 'nurse@example.org/x']) showing.see(from(full))
  showing.see(from('juliet@example.org', 'subscribe'))
  showing.see(from('nurse@example.org/x', 'unavailable'))
  expect([...showing.seen.keys()]).toEqual(['juliet@example.org/a', 'juliet@example.org/b'])
  showing.see(from('juliet@example.or', 'unavailable'))
  showing.see(from('juliet@example.org', 'unavailable'))
  expect([...showing.seen.keys()]).toEqual([])
})

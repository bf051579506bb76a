import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { priorityOf } from '#core/priority.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT } from '#xmpp/ns.ts'
import { type Element, el, type Stanza, stanza, stanzaOfBytes } from '#xmpp/stanza.ts'
import { Availability } from './availability.ts'
import { samePresence } from './canonical.ts'

const ROMEO = parseJid('romeo@example.org/orchard')
const child = (name: string, text: string) => el(name, NS_CLIENT, {}, text)
const presence = (...children: readonly Element[]): Stanza => stanza('presence', ROMEO, { id: 'p' }, ...children)
const directed = (to: string, type = ''): Stanza => stanza('presence', ROMEO, { to: parseJid(to), type })
const nobody = () => false
const juliet = (bare: string) => bare === 'juliet@example.org'
const jids = (departure: ReturnType<Availability['remove']>) => departure?.directed.map(({ full }) => full)

describe('RFC 6121 §4.7.2 what presence says', () => {
  test('§4.7.2.3 no priority is 0', () => {
    expect(priorityOf(presence())).toBe(0)
    expect(priorityOf(presence(child('status', 'no priority'), el('priority', 'urn:other', {}, 'x')))).toBe(0)
  })

  test.each([
    ['-128', -128],
    ['127', 127],
    ['+5', 5],
    [' 7\n', 7],
  ])('§4.7.2.3 a priority is from -128 to 127: %j', (text, value) =>
    expect(priorityOf(presence(child('priority', text)))).toBe(value),
  )

  test.each(['128', '-129', '', 'high', '1.5', '0x10', '1e1', '٣'])('§4.7.2.3 any other priority is bad-request: %j', (text) => {
    const availability = new Availability()
    expect(() => availability.set('orchard', 's1', presence(child('priority', text)))).toThrow('bad-request')
    expect(availability.empty).toBe(true)
  })

  test.each([
    ['<priority xmlns="jabber:client">5</priority>', 5],
    ['<priority >-5</priority >', -5],
    ['<priority>&#53;</priority>', 5],
    ["<a:priority xmlns:a='jabber:client'>5</a:priority>", 5],
    ["<x xmlns='urn:x'><priority>9</priority></x><priority>5</priority>", 5],
    ["<x xmlns='urn:x'><priority xmlns='jabber:client'>9</priority></x>", 0],
    ["<status>&lt;priority></status><priority x='>'>5</priority>", 5],
  ])('however it is written: %s', (payload, value) => {
    const head = [ROMEO, undefined, '', '', '', ''] as const
    expect(priorityOf(stanzaOfBytes('presence', ...head, Buffer.from(payload)))).toBe(value)
  })

  test('§4.7.2.3 two priorities are bad-request', () => {
    expect(() => priorityOf(presence(child('priority', '1'), child('priority', '1')))).toThrow('bad-request')
  })

  test('§4.7.2.1 a show that is not defined does not refuse the presence', () => {
    expect(new Availability().set('orchard', 's1', presence(child('show', 'dancing')))).toBe('initial')
  })

  test('the same presence under another id is the same; in another language it is not', () => {
    const other = stanza('presence', ROMEO, { id: 'q' }, child('status', 'x'))
    expect(samePresence(presence(child('status', 'x')), other)).toBe(true)
    expect(samePresence(stanza('presence', ROMEO, { lang: 'it' }, child('status', 'x')), other)).toBe(false)
  })
})

describe('RFC 6121 §4.2, §4.4, §4.5 broadcasts', () => {
  test('the first is initial, the same again is unchanged, another is a change', () => {
    const availability = new Availability()
    expect(availability.set('orchard', 's1', presence())).toBe('initial')
    expect(availability.set('orchard', 's1', presence())).toBe('unchanged')
    expect(availability.set('orchard', 's1', presence(child('show', 'away')))).toBe('changed')
    expect(availability.set('street', 's2', presence(child('priority', '3')))).toBe('initial')
    expect(availability.available().map(({ resource, priority }) => [resource, priority])).toEqual([
      ['orchard', 0],
      ['street', 3],
    ])
  })

  test('§4.5.2 after unavailable, presence is initial again', () => {
    const availability = new Availability()
    const last = presence()
    availability.set('orchard', 's1', last)
    expect(availability.remove('orchard', 's1', nobody)).toEqual({ presence: last, directed: [] })
    expect(availability.empty).toBe(true)
    expect(availability.remove('orchard', 's1', nobody)).toBeUndefined()
    expect(availability.set('orchard', 's1', last)).toBe('initial')
  })

  test('a session that took the resource over is not ended by the end of the old one', () => {
    const availability = new Availability()
    availability.set('orchard', 'old', presence())
    expect(availability.set('orchard', 'new', presence())).toBe('initial')
    expect(availability.remove('orchard', 'old', nobody)).toBeUndefined()
    expect(availability.get('orchard')?.sessionId).toBe('new')
  })

  test('a session that took the resource over and is not available yet does not keep the old presence', () => {
    const availability = new Availability()
    availability.set('orchard', 'old', presence())
    availability.direct('orchard', 'new', directed('room@muc.example.org/r'))
    expect(availability.remove('orchard', 'old', nobody)?.presence).toBeDefined()
    expect(availability.get('orchard')).toBeUndefined()
    expect(jids(availability.remove('orchard', 'new', nobody))).toEqual(['room@muc.example.org/r'])
  })

  test('one resource too many is resource-constraint, and changes nothing', () => {
    const availability = new Availability({ resourcesMax: 1, directedMax: 1 })
    availability.set('a', 's1', presence())
    expect(() => availability.set('b', 's2', presence())).toThrow('resource-constraint')
    expect(() => availability.direct('b', 's2', directed('x@example.org'))).toThrow('resource-constraint')
    expect(availability.available()).toHaveLength(1)
  })
})

describe('RFC 6121 §4.6 directed presence', () => {
  test('§4.6.3 whoever was sent it is told of the end, also without a broadcast', () => {
    const availability = new Availability()
    availability.direct('orchard', 's1', directed('room@muc.example.org/r'))
    expect(availability.available()).toEqual([])
    const departure = availability.remove('orchard', 's1', nobody)
    expect(departure?.presence).toBeUndefined()
    expect(jids(departure)).toEqual(['room@muc.example.org/r'])
    expect(availability.empty).toBe(true)
  })

  test('§4.6.3 whoever was sent unavailable since then is not told again', () => {
    const availability = new Availability()
    availability.direct('orchard', 's1', directed('a@example.org'))
    availability.direct('orchard', 's1', directed('b@example.org'))
    availability.direct('orchard', 's1', directed('a@example.org', 'unavailable'))
    expect(jids(availability.remove('orchard', 's1', nobody))).toEqual(['b@example.org'])
  })

  test('a subscriber gets the broadcast and nothing more', () => {
    const availability = new Availability()
    availability.set('orchard', 's1', presence())
    availability.direct('orchard', 's1', directed('juliet@example.org/balcony'))
    expect(jids(availability.remove('orchard', 's1', juliet))).toEqual([])
  })

  test('a subscriber who got no broadcast is told', () => {
    const availability = new Availability()
    availability.direct('orchard', 's1', directed('juliet@example.org/balcony'))
    expect(jids(availability.remove('orchard', 's1', juliet))).toEqual(['juliet@example.org/balcony'])
  })

  test('a subscriber who sees the resource of its next session is not told that it is gone', () => {
    const availability = new Availability()
    availability.direct('orchard', 'old', directed('juliet@example.org'))
    availability.direct('orchard', 'old', directed('nurse@example.org'))
    availability.set('orchard', 'new', presence())
    availability.direct('orchard', 'new', directed('nurse@example.org'))
    expect(availability.remove('orchard', 'old', juliet)).toEqual({ presence: undefined, directed: [] })
  })

  test('other types and presence to nobody are not noted', () => {
    const availability = new Availability()
    availability.direct('orchard', 's1', directed('a@example.org', 'probe'))
    availability.direct('orchard', 's1', presence())
    availability.direct('orchard', 's1', directed('a@example.org', 'unavailable'))
    expect(availability.empty).toBe(true)
  })

  test('one peer too many is resource-constraint; one that is known is not', () => {
    const availability = new Availability({ resourcesMax: 2, directedMax: 1 })
    availability.direct('orchard', 's1', directed('a@example.org'))
    availability.direct('orchard', 's1', directed('a@example.org'))
    expect(() => availability.direct('orchard', 's1', directed('b@example.org'))).toThrow('resource-constraint')
    expect(jids(availability.remove('orchard', 's1', nobody))).toEqual(['a@example.org'])
  })

  test('a peer that was told of every available resource is forgotten there, and only there', () => {
    const availability = new Availability()
    availability.set('orchard', 's1', presence())
    availability.direct('orchard', 's1', directed('nurse@example.org/r'))
    availability.direct('street', 's2', directed('nurse@example.org'))
    availability.forget('nurse@example.org')
    expect(availability.takeBack(({ bare }) => bare === 'nurse@example.org').map(({ resource }) => resource)).toEqual(['street'])
  })

  test('XEP-0191 §3.3: what was directed to those who are blocked is listed once, and nothing is left of it', () => {
    const availability = new Availability()
    availability.set('orchard', 's1', presence())
    availability.direct('orchard', 's1', directed('nurse@example.org/r'))
    availability.direct('street', 's2', directed('nurse@example.org'))
    availability.direct('street', 's2', directed('peter@example.org'))
    const take = () => availability.takeBack(({ bare }) => bare === 'nurse@example.org')
    expect(take().map(({ resource, to }) => `${resource} to ${to.full}`)).toEqual([
      'orchard to nurse@example.org/r',
      'street to nurse@example.org',
    ])
    expect(take()).toEqual([])
    expect(jids(availability.remove('street', 's2', nobody))).toEqual(['peter@example.org'])
    expect(jids(availability.remove('orchard', 's1', nobody))).toEqual([])
    expect(availability.empty).toBe(true)
  })
})

describe('whatever is shown is taken back', () => {
  const act = fc.record({
    what: fc.constantFrom('set', 'remove', 'direct', 'undirect'),
    resource: fc.constantFrom('a', 'b'),
    session: fc.constantFrom('1', '2'),
    peer: fc.constantFrom('juliet@example.org', 'juliet@example.org/x', 'room@muc.example.org/r'),
  })

  // The peers as they see it: a subscriber by broadcast or directed, others by directed presence only.
  test('when every session has ended, nobody sees a resource', () => {
    fc.assert(
      fc.property(fc.array(act, { maxLength: 40 }), (acts) => {
        const availability = new Availability()
        const seen = new Set<string>()
        const see = (peer: string, resource: string) => seen.add(`${peer.startsWith('juliet') ? 'juliet' : peer} ${resource}`)
        const lose = (peer: string, resource: string) => seen.delete(`${peer.startsWith('juliet') ? 'juliet' : peer} ${resource}`)
        const end = (resource: string, session: string) => {
          const departure = availability.remove(resource, session, juliet)
          if (departure?.presence !== undefined) lose('juliet', resource)
          for (const { full } of departure?.directed ?? []) lose(full, resource)
          if (availability.get(resource) !== undefined) expect(seen).toContain(`juliet ${resource}`)
        }
        for (const { what, resource, session, peer } of acts) {
          if (what === 'set') {
            availability.set(resource, session, presence())
            see('juliet', resource)
          } else if (what === 'direct') {
            availability.direct(resource, session, directed(peer))
            see(peer, resource)
          } else if (what === 'undirect' && !peer.startsWith('juliet')) {
            availability.direct(resource, session, directed(peer, 'unavailable'))
            lose(peer, resource)
          } else if (what === 'remove') end(resource, session)
        }
        for (const resource of ['a', 'b']) for (const session of ['1', '2']) end(resource, session)
        expect([...seen]).toEqual([])
        expect(availability.empty).toBe(true)
      }),
    )
  })
})

import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ROW_BYTES_MAX } from '#table/table.ts'
import type { StanzaError } from '#xmpp/error.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_ROSTER } from '#xmpp/ns.ts'
import { attr, childrenOf, type Element, el, stanza, textOf } from '#xmpp/stanza.ts'
import { serialise } from '#xmpp/xml.ts'
import {
  answerFor,
  demandRoom,
  firstVersion,
  itemElement,
  newItem,
  nextVersion,
  parseRosterSet,
  pendingOf,
  pushElement,
  ROSTER_LIMITS,
  type RosterItem,
  type RosterVersion,
  rosterElement,
  tokenOf,
  updateItem,
  VERSION_TAIL_MAX,
} from './roster-item.ts'

const ROMEO = parseJid('romeo@example.org')
const JULIET = 'juliet@example.org'
const visible: RosterItem = { ...newItem(JULIET), inRoster: true }
const request = { id: 'a1', lang: 'it', child: '{jabber:client}status', payload: '<status>O Romeo — ❤</status>' }
const hidden: RosterItem = { ...newItem('tybalt@example.org'), pendingIn: request }

describe('RFC 6121 §2.1.2 a roster item on the wire', () => {
  test('§2.1.2.4 an item without a name has no name attribute, nor ask nor approved', () => {
    expect(itemElement(visible).attrs).toEqual({ jid: JULIET, subscription: 'none' })
  })

  test('§2.1.2.1, §2.1.2.2, §2.1.2.6 ask, approved and groups are shown', () => {
    const item = itemElement({ ...visible, name: 'Juliet', ask: true, approved: true, groups: ['Friends', 'Verona'] })
    expect(item.attrs).toEqual({ jid: JULIET, name: 'Juliet', subscription: 'none', ask: 'subscribe', approved: 'true' })
    expect(childrenOf(item, 'group', NS_ROSTER).map(textOf)).toEqual(['Friends', 'Verona'])
  })

  test('§3.1.3 a pending request is not shown, neither with an item nor as one', () => {
    const roster = rosterElement([hidden, { ...visible, pendingIn: request }], '1')
    expect(roster.children).toEqual([itemElement(visible)])
    expect(attr(pushElement(hidden.jid, hidden, '1').children[0] as Element, 'subscription')).toBe('remove')
  })
})

describe('RFC 6121 §2.3 a roster set', () => {
  const item = (attrs: Record<string, string>, ...groups: string[]) =>
    el('item', NS_ROSTER, attrs, ...groups.map((group) => el('group', NS_ROSTER, {}, group)))
  const parse = (...items: Element[]) => parseRosterSet(el('query', NS_ROSTER, {}, ...items), ROMEO)
  const refusal = (...items: Element[]) => {
    try {
      parse(...items)
    } catch (error) {
      return (error as { condition?: string }).condition
    }
    return 'none'
  }

  test('§2.3.1 names a contact, and may name it and put it in groups', () => {
    expect(parse(item({ jid: 'Juliet@Example.org', name: 'Juliet' }, 'Friends', 'friends'))).toEqual({
      kind: 'update',
      jid: JULIET,
      name: 'Juliet',
      groups: ['Friends', 'friends'], // §2.1.2.6: case-sensitive
    })
  })

  test('§2.1.2.5 a subscription other than remove is ignored, and so are ask and approved', () => {
    const set = parse(item({ jid: JULIET, subscription: 'both', ask: 'subscribe', approved: 'true' }))
    expect(set).toEqual({ kind: 'update', jid: JULIET, name: '', groups: [] })
    if (set.kind === 'update') expect(updateItem(undefined, set)).toEqual(visible)
  })

  test('§2.5.1 remove is all that a removal says', () => {
    expect(parse(item({ jid: JULIET, subscription: 'remove', name: 'x' }, 'a', 'a'))).toEqual({ kind: 'remove', jid: JULIET })
  })

  test('§2.3.3 no item, or more than one, is bad-request', () => {
    expect(refusal()).toBe('bad-request')
    expect(refusal(item({ jid: JULIET }), item({ jid: 'nurse@example.org' }))).toBe('bad-request')
    expect(refusal(el('item', 'urn:other', { jid: JULIET }))).toBe('bad-request')
  })

  test('§2.3.3 duplicate groups are bad-request, also when only their encoding differs', () => {
    expect(refusal(item({ jid: JULIET }, 'a', 'b', 'a'))).toBe('bad-request')
    expect(refusal(item({ jid: JULIET }, 'caf\u00e9', 'cafe\u0301'))).toBe('bad-request')
  })

  test('§2.3.3 a group of no length is not-acceptable', () => {
    expect(refusal(item({ jid: JULIET }, ''))).toBe('not-acceptable')
  })

  test('§2.3.3 a name or group over the limit is not-acceptable, one of just that length is not', () => {
    expect(refusal(item({ jid: JULIET, name: 'é'.repeat(512) }))).toBe('not-acceptable')
    expect(refusal(item({ jid: JULIET }, 'é'.repeat(512)))).toBe('not-acceptable')
    expect(refusal(item({ jid: JULIET, name: 'x'.repeat(1_023) }, 'x'.repeat(1_023)))).toBe('none')
  })

  test('too many groups are not-acceptable', () => {
    const groups = Array.from({ length: ROSTER_LIMITS.groupsMax + 1 }, (_, i) => `g${i}`)
    expect(refusal(item({ jid: JULIET }, ...groups))).toBe('not-acceptable')
    expect(refusal(item({ jid: JULIET }, ...groups.slice(1)))).toBe('none')
  })

  test('no JID is bad-request, a bad one is jid-malformed, a full one is bad-request', () => {
    expect(refusal(item({}))).toBe('bad-request')
    expect(refusal(item({ jid: '@example.org' }))).toBe('jid-malformed')
    expect(refusal(item({ jid: 'a b@example.org', subscription: 'remove' }))).toBe('jid-malformed')
    expect(refusal(item({ jid: `${JULIET}/balcony` }))).toBe('bad-request')
  })

  test('oneself cannot be added, but removed', () => {
    expect(refusal(item({ jid: 'romeo@example.org' }))).toBe('not-allowed')
    expect(refusal(item({ jid: 'romeo@example.org', subscription: 'remove' }))).toBe('none')
  })

  test('§2.4.2 an update changes name and groups, and keeps the subscription and a pending request', () => {
    const before: RosterItem = { ...hidden, subscription: 'to' }
    const after = updateItem(before, { kind: 'update', jid: before.jid, name: 'T', groups: ['G'] })
    expect(after).toEqual({ ...before, name: 'T', groups: ['G'], inRoster: true })
  })
})

describe('what an account may store', () => {
  const limits = { ...ROSTER_LIMITS, itemsMax: 1, pendingMax: 1, pendingBytesMax: 20 }
  const full = new Map([visible, hidden].map((item) => [item.jid, item]))

  test('a row more than there is room for is resource-constraint', () => {
    expect(() => demandRoom(full, undefined, { ...visible, jid: 'a@b' }, limits)).toThrow('resource-constraint')
    expect(() => demandRoom(full, hidden, { ...hidden, inRoster: true }, limits)).toThrow('resource-constraint')
    expect(() => demandRoom(full, undefined, { ...hidden, jid: 'a@b' }, limits)).toThrow('resource-constraint')
  })

  test('changing and deleting always has room, and each kind has its own', () => {
    demandRoom(full, visible, { ...visible, name: 'x' }, limits)
    demandRoom(full, visible, undefined, limits)
    demandRoom(new Map([[JULIET, visible]]), undefined, hidden, limits)
    demandRoom(new Map([[hidden.jid, hidden]]), undefined, visible, limits)
  })

  test('contacts with long names, each within its bounds, used to make a roster that no bus takes', () => {
    const items = new Map<string, RosterItem>()
    const refused: string[] = []
    for (let n = 0; n < 1_200; n++) {
      const item = { ...visible, jid: `c${n}@example.org`, name: 'x'.repeat(1_000) }
      try {
        demandRoom(items, undefined, item)
        items.set(item.jid, item)
      } catch (error) {
        refused.push((error as StanzaError).condition)
      }
    }
    expect(new Set(refused)).toEqual(new Set(['resource-constraint']))
    const bytes = serialise(rosterElement(items.values()), '').length
    expect(bytes).toBeLessThan(ROSTER_LIMITS.rosterBytesMax + 1_000)
    expect(bytes).toBeGreaterThan(ROSTER_LIMITS.rosterBytesMax - 100_000)
  })

  test('a roster counts as it is sent: quotes escaped, and an item that grows like a new one; a subscription never fails by it', () => {
    const limits = { ...ROSTER_LIMITS, rosterBytesMax: 1_000 }
    const asked = { ...visible, name: 'x'.repeat(800) }
    const one = new Map([[JULIET, asked]])
    const grown = { ...asked, name: 'x'.repeat(1_000) }
    expect(() => demandRoom(one, asked, grown, limits)).toThrow('resource-constraint')
    expect(() => demandRoom(one, asked, { ...asked, name: "'".repeat(200) }, limits)).toThrow('resource-constraint')
    expect(() => demandRoom(one, asked, { ...asked, groups: ['g'.repeat(200)] }, limits)).toThrow('resource-constraint')
    expect(() => demandRoom(one, undefined, { ...asked, jid: 'nurse@example.org' }, limits)).toThrow('resource-constraint')
    const over = new Map([[JULIET, grown]])
    for (const subscription of ['to', 'from', 'both'] as const)
      demandRoom(over, grown, { ...grown, subscription, ask: true, approved: true }, limits)
    demandRoom(over, grown, asked, limits)
  })

  test('§3.1.3 a request is kept whole; one that is too long, without its content', () => {
    const asked = (text: string) => {
      const head = { to: ROMEO, id: 'a1', type: 'subscribe', lang: 'it' }
      return pendingOf(stanza('presence', parseJid(JULIET), head, el('status', 'jabber:client', {}, text)), limits)
    }
    expect(asked('o')).toEqual({ id: 'a1', lang: 'it', child: '{jabber:client}status', payload: '<status>o</status>' })
    expect(asked('oo romeo')).toEqual({ id: 'a1', lang: 'it', child: '', payload: '' })
  })
})

describe('RFC 6121 §2.6 roster versions', () => {
  const items = new Map([visible, { ...visible, jid: 'nurse@example.org' }, hidden].map((item) => [item.jid, item]))
  const changed = (...jids: string[]) => jids.reduce(nextVersion, firstVersion('e'))

  test('§2.6.2 a client that names no version gets the roster, and none', () => {
    expect(answerFor(undefined, changed(JULIET), items)).toEqual({ kind: 'full', query: rosterElement(items.values()) })
  })

  test('§2.6.3 the current version gets an empty result', () => {
    expect(answerFor('e.1', changed(JULIET), items)).toEqual({ kind: 'current' })
    expect(answerFor('e.0', firstVersion('e'), items)).toEqual({ kind: 'current' })
  })

  test('§2.6.2 an empty version gets the whole roster with its version', () => {
    const answer = answerFor('', changed(JULIET), items)
    expect(answer).toEqual({ kind: 'full', query: rosterElement(items.values(), 'e.1') })
  })

  test.each(['e.2', 'e.-1', 'e.01', 'e.1e0', 'e.', '1', 'f.1', 'e.1.0', 'e.0.5'])(
    'a version that we never gave gets the whole: %s',
    (ver) => {
      expect(answerFor(ver, changed(JULIET), items).kind).toBe('full')
    },
  )

  test('§2.6.3 interim pushes say each change once, in order, with rising versions', () => {
    const answer = answerFor('e.1', changed(JULIET, 'nurse@example.org', JULIET, 'nurse@example.org', JULIET), items)
    expect(answer).toEqual({
      kind: 'changes',
      pushes: [pushElement('nurse@example.org', items.get('nurse@example.org'), 'e.4'), pushElement(JULIET, visible, 'e.5')],
    })
  })

  test('§2.6.3 a contact that was removed is removed for a client with an older version', () => {
    const answer = answerFor('e.1', changed('paris@example.org', 'paris@example.org'), items)
    const removal = el(
      'query',
      NS_ROSTER,
      { ver: 'e.2' },
      el('item', NS_ROSTER, { jid: 'paris@example.org', subscription: 'remove' }),
    )
    expect(answer).toEqual({ kind: 'changes', pushes: [removal] })
  })

  test('a version is one row, however long the JIDs are', () => {
    const long = (n: number) => `${String(n).padStart(4, '0')}${'\\'.repeat(1_019)}@${'d'.repeat(1_023)}` // JSON doubles a backslash
    const version = changed(...Array.from({ length: 2 * VERSION_TAIL_MAX }, (_, n) => long(n)))
    expect(Buffer.byteLength(JSON.stringify(version))).toBeLessThan(ROW_BYTES_MAX - 10_000)
  })

  test('nor does a change write more than some kB of it: a flood of roster sets wrote 360 kB with each', () => {
    const long = (n: number) => `${String(n).padStart(4, '0')}${'x'.repeat(1_000)}@${'d'.repeat(1_000)}`
    const version = changed(...Array.from({ length: 20 }, (_, n) => long(n)))
    expect(version.tail.map(([, n]) => n)).toEqual([17, 18, 19, 20])
    expect(version.floor).toBe(16)
    expect(Buffer.byteLength(JSON.stringify(version))).toBeLessThan(10_000)
  })

  test('behind the tail, the whole roster is sent', () => {
    const many = Array.from({ length: VERSION_TAIL_MAX + 1 }, (_, i) => `c${i}@example.org`)
    const version = changed(...many)
    expect(version.tail).toHaveLength(VERSION_TAIL_MAX)
    const roster = new Map(many.map((jid) => [jid, { ...visible, jid }]))
    expect(answerFor('e.0', version, roster).kind).toBe('full')
    expect(answerFor('e.1', version, roster)).toMatchObject({ kind: 'changes' })
  })

  test('a client that follows the answers has the roster, whatever it missed', () => {
    const jids = fc.integer({ min: 0, max: 6 }).map((i) => `c${i}@example.org`)
    const step = fc.record({ jid: jids, name: fc.option(fc.constantFrom('a', 'b')), get: fc.boolean() })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const server = new Map<string, RosterItem>([[hidden.jid, hidden]])
        const client = new Client()
        let version = firstVersion('e')
        for (const { jid, name, get } of steps) {
          if (name === null) server.delete(jid)
          else server.set(jid, { ...newItem(jid), name, inRoster: true })
          version = JSON.parse(JSON.stringify(nextVersion(version, jid))) as RosterVersion
          if (get) client.get(version, server)
        }
        client.get(version, server)
        expect(client.ver).toBe(tokenOf(version))
        expect([...client.names].sort()).toEqual(
          [...server]
            .filter(([, item]) => item.inRoster)
            .map(([jid, { name }]) => [jid, name])
            .sort(),
        )
      }),
    )
  })
})

/** A client's cache of the roster. */
class Client {
  ver = ''
  readonly names = new Map<string, string>()

  get(version: RosterVersion, items: ReadonlyMap<string, RosterItem>) {
    const answer = answerFor(this.ver, version, items)
    if (answer.kind === 'full') this.names.clear()
    const queries = answer.kind === 'full' ? [answer.query] : answer.kind === 'changes' ? answer.pushes : []
    for (const query of queries) {
      this.ver = attr(query, 'ver')
      for (const item of childrenOf(query, 'item', NS_ROSTER)) {
        if (attr(item, 'subscription') === 'remove') this.names.delete(attr(item, 'jid'))
        else this.names.set(attr(item, 'jid'), attr(item, 'name'))
      }
    }
    if (answer.kind === 'current') expect(this.ver).toBe(tokenOf(version))
  }
}

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { ToMode } from '#core/envelope.ts'
import { StanzaError, StreamError } from '#xmpp/error.ts'
import { type Jid, NO_JID, parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT } from '#xmpp/ns.ts'
import { el, type Stanza, type StanzaHead, type StanzaName, stanza } from '#xmpp/stanza.ts'
import {
  EndedSessions,
  Kept,
  newlyAcknowledged,
  readAck,
  readEnable,
  readResume,
  returned,
  StreamManagement,
} from './stream-management.ts'

const ROMEO = parseJid('romeo@example.org/garden')
const JULIET = parseJid('juliet@example.org/balcony')
const NOW_MS = Date.UTC(2026, 1, 3, 4, 5, 6)
const LIMITS = { stanzas: 10, bytes: 1_000_000 }

const body = (text: string) => el('body', NS_CLIENT, {}, text)
const from = (name: StanzaName, jid: Jid, head: StanzaHead = {}) => stanza(name, jid, { to: ROMEO, ...head }, body('x'))
const kept = (id: string, to: ToMode = 'kept') => new Kept(from('message', JULIET, { id }), to, NOW_MS)
const presence = (jid: string, id: string, type = '') => new Kept(stanza('presence', parseJid(jid), { id, type }), 'kept', NOW_MS)
const ids = (list: readonly Kept[]) => list.map(({ stanza }) => stanza.id)
const managed = (base = 0, limits = LIMITS) => new StreamManagement('sm', 300, base, limits)

function send(sm: StreamManagement, count: number, first = 1): void {
  for (let n = 0; n < count; n++) sm.sent(kept(`m${first + n}`))
}

describe('XEP-0198 §4 the count of what the client was sent', () => {
  test('an ack drops what it counts, and what is left is sent again, in order', () => {
    const sm = managed()
    send(sm, 5)
    sm.acknowledge(2)
    expect(sm.unacknowledged).toBe(3)
    sm.detach()
    expect(ids(sm.attach())).toEqual(['m3', 'm4', 'm5'])
  })

  test('an ack of what was acknowledged before says nothing new', () => {
    const sm = managed()
    send(sm, 5)
    sm.acknowledge(4)
    sm.acknowledge(4)
    sm.acknowledge(1)
    sm.acknowledge(0)
    expect(sm.unacknowledged).toBe(1)
  })

  test.for([6, 7, 1_000, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1])(
    '§6 handled-count-too-high is for h=%i where five were sent',
    (h) => {
      const sm = managed()
      send(sm, 5)
      sm.acknowledge(3)
      const refused = () => sm.acknowledge(h)
      expect(refused).toThrow(StreamError)
      try {
        refused()
      } catch (error) {
        const { condition, extra } = error as StreamError
        expect(condition).toBe('undefined-condition')
        expect(extra).toMatchObject({ name: 'handled-count-too-high', attrs: { h: String(h), 'send-count': '5' } })
      }
      expect(sm.unacknowledged).toBe(2)
    },
  )

  test('the count begins again at 0 behind 2^32 - 1, both ways', () => {
    expect(managed(7).h(5)).toBe(0)
    expect(managed(7).h(9)).toBe(2)
    expect(managed(7).h(7 + 2 ** 32 - 1)).toBe(2 ** 32 - 1)
    expect(managed(7).h(7 + 2 ** 32 + 3)).toBe(3)
  })

  test.each([
    [0, 2 ** 32 - 2, 5, 2],
    [3, 2 ** 32 - 2, 5, 5],
    [4, 2 ** 32 - 2, 5, -1],
    [2 ** 32 - 1, 2 ** 32 + 3, 5, 0],
    [8, 2 ** 32 + 3, 5, 5],
    [9, 2 ** 32 + 3, 5, -1],
    [2 ** 31 + 4, 2 ** 32 + 3, 5, 0],
    [2 ** 31 + 2, 2 ** 32 + 3, 5, -1],
  ])('h=%i, where %i were acknowledged and %i more were sent: %i more', (h, acknowledged, more, count) => {
    expect(newlyAcknowledged(h, acknowledged, more)).toBe(count)
  })

  test('whatever is sent and acknowledged: what is left is what was sent and not acknowledged', () => {
    const run = fc.property(
      fc.array(fc.tuple(fc.integer({ min: 0, max: 5 }), fc.double({ min: 0, max: 1, noNaN: true }))),
      (steps) => {
        const sm = managed(0, { stanzas: 1e6, bytes: 1e9 })
        let sent = 0
        let acknowledged = 0
        for (const [count, share] of steps) {
          send(sm, count, sent + 1)
          sent += count
          acknowledged += Math.floor((sent - acknowledged) * share)
          sm.acknowledge(acknowledged)
          expect(sm.unacknowledged).toBe(sent - acknowledged)
        }
        sm.detach()
        expect(ids(sm.attach())).toEqual(Array.from({ length: sent - acknowledged }, (_, n) => `m${acknowledged + n + 1}`))
      },
    )
    fc.assert(run, { numRuns: 200 })
  })
})

describe('what waits while there is no stream', () => {
  test('comes behind what was sent before', () => {
    const sm = managed()
    send(sm, 2)
    sm.detach()
    sm.wait(kept('m3'))
    expect(ids(sm.attach())).toEqual(['m1', 'm2', 'm3'])
    sm.acknowledge(3)
    expect(sm.unacknowledged).toBe(0)
  })

  test('an ack counts what was sent only', () => {
    const sm = managed()
    send(sm, 2)
    sm.detach()
    sm.wait(kept('m3'))
    expect(() => sm.check(3)).toThrow('you acknowledged 3 stanzas, and were sent 2')
    expect(() => sm.check(2)).not.toThrow()
  })

  test('of presence it is the latest of each full JID, in its own place', () => {
    const sm = managed()
    sm.sent(presence('juliet@example.org/a', 'sent'))
    sm.detach()
    sm.wait(presence('juliet@example.org/a', 'p1'))
    sm.wait(presence('juliet@example.org/b', 'p2'))
    sm.wait(kept('m1'))
    sm.wait(presence('juliet@example.org/a', 'p3', 'unavailable'))
    sm.wait(presence('juliet@example.org/a', 'p4'))
    expect(ids(sm.attach())).toEqual(['sent', 'p2', 'm1', 'p4'])
  })

  test('a subscription is not presence that another one replaces', () => {
    const sm = managed()
    sm.detach()
    for (const type of ['subscribe', 'subscribed', 'unsubscribe', 'unsubscribed', 'probe', 'error'])
      sm.wait(presence('juliet@example.org', type, type))
    sm.wait(presence('juliet@example.org', 'shown'))
    expect(sm.unacknowledged).toBe(7)
  })

  test('what the client has seen of a presence does not hold back the next time', () => {
    const sm = managed()
    sm.detach()
    sm.wait(presence('juliet@example.org/a', 'p1'))
    sm.attach()
    sm.detach()
    sm.wait(presence('juliet@example.org/a', 'p2'))
    expect(ids(sm.attach())).toEqual(['p1', 'p2'])
  })
})

describe('the bound', () => {
  test('is that many stanzas while the client is away, and four times as many while it is there', () => {
    const sm = managed()
    send(sm, 9)
    expect([sm.isFull(false), sm.isFull(true)]).toEqual([false, false])
    send(sm, 1)
    expect([sm.isFull(false), sm.isFull(true)]).toEqual([true, false])
    send(sm, 30)
    expect([sm.isFull(false), sm.isFull(true)]).toEqual([true, true])
    sm.acknowledge(31)
    expect(sm.isFull(false)).toBe(false)
  })

  test.each<[string, StanzaHead]>([
    ['id', { id: 'x'.repeat(10_000) }],
    ['type', { type: 'x'.repeat(10_000) }],
    ['xml:lang', { lang: 'x'.repeat(10_000) }],
  ])('counts the %s of a stanza, which may be as long as the rest', (_what, head) => {
    const sm = managed(0, { stanzas: 1_000, bytes: 10_000 })
    sm.sent(new Kept(stanza('message', JULIET, head), 'kept', NOW_MS))
    expect(sm.isFull(false)).toBe(true)
  })

  test('is of bytes, too', () => {
    const sm = managed(0, { stanzas: 1_000, bytes: 10_000 })
    sm.sent(new Kept(stanza('message', JULIET, {}, body('x'.repeat(10_000))), 'kept', NOW_MS))
    expect([sm.isFull(false), sm.isFull(true)]).toEqual([true, false])
    sm.detach()
    sm.wait(presence('juliet@example.org/a', 'p1'))
    sm.acknowledge(1)
    sm.attach()
    sm.acknowledge(2)
    expect(sm.isFull(false)).toBe(false)
  })
})

describe('what is kept', () => {
  test('is a copy: what it came in may be used again', () => {
    const bytes = Buffer.from('<body>secret</body>')
    const came: Stanza = { ...from('message', JULIET), payload: bytes, tree: () => [] }
    const one = new Kept(came, 'kept', NOW_MS)
    bytes.fill(0)
    expect(Buffer.from(one.stanza.payload).toString()).toBe('<body>secret</body>')
  })

  test('of a message to several sessions the last to end has it to give back, unless one has acknowledged it', () => {
    const [one, two] = [managed(), managed()]
    const shared = kept('shared')
    one.sent(shared)
    two.sent(shared)
    expect(one.surrender()).toEqual([shared])
    expect([shared.holders, shared.taken]).toEqual([1, false])
    expect(two.surrender()).toEqual([shared])
    expect(shared.holders).toBe(0)
    const again = kept('again')
    const [three, four] = [managed(), managed()]
    three.sent(again)
    four.sent(again)
    four.acknowledge(1)
    three.surrender()
    expect([again.holders, again.taken]).toEqual([0, true])
  })
})

describe('the server asks', () => {
  test('when enough is not acknowledged, and again only behind much more', () => {
    const sm = managed(0, { stanzas: 1e6, bytes: 1e9 })
    send(sm, 15)
    expect(sm.wantsAnswer).toBe(false)
    send(sm, 1)
    expect(sm.wantsAnswer).toBe(true)
    expect(sm.ask()).toBe("<r xmlns='urn:xmpp:sm:3'/>")
    send(sm, 100)
    expect(sm.wantsAnswer).toBe(false)
    send(sm, 28)
    expect(sm.wantsAnswer).toBe(true)
  })

  test('when bytes are many though stanzas are few', () => {
    const sm = managed()
    sm.sent(new Kept(stanza('message', JULIET, {}, body('x'.repeat(20_000))), 'kept', NOW_MS))
    expect(sm.wantsAnswer).toBe(true)
  })

  test('of little in the second behind the last of it, and not while one is unanswered', () => {
    const sm = managed()
    send(sm, 1)
    expect(sm.look(true)).toBe('nothing')
    send(sm, 1)
    expect(sm.look(true)).toBe('nothing')
    expect(sm.look(true)).toBe('ask')
    sm.ask()
    expect(sm.look(true)).toBe('nothing')
    sm.acknowledge(2)
    expect(sm.wantsLook).toBe(false)
  })

  test('a client that answers nothing for a minute is lost; while it is not read from that does not count', () => {
    const sm = managed()
    send(sm, 1)
    sm.ask()
    for (let s = 0; s < 60; s++) expect(sm.look(true)).toBe('nothing')
    for (let s = 0; s < 60; s++) expect(sm.look(false)).toBe('nothing')
    expect(sm.look(true)).toBe('lost')
  })

  test('any answer shows that it lives', () => {
    const sm = managed()
    send(sm, 2)
    sm.ask()
    sm.ask()
    for (let s = 0; s < 60; s++) sm.look(true)
    sm.acknowledge(0)
    for (let s = 0; s < 60; s++) expect(sm.look(true)).toBe('nothing')
  })
})

describe('the client asks', () => {
  test('and is answered once what came before is handled; what it asks meanwhile, once more', () => {
    const sm = managed(2)
    sm.owe(5)
    expect([sm.owes(4), sm.owes(5)]).toEqual([false, true])
    sm.owe(7)
    sm.owe(8)
    expect(sm.answer(5)).toBe("<a xmlns='urn:xmpp:sm:3' h='3'/>")
    expect([sm.owes(7), sm.owes(8)]).toEqual([false, true])
    sm.answer(8)
    expect([sm.owes(9), sm.wantsLook]).toEqual([false, false])
  })

  test('where that takes long it is told once how far it is, and again when all is', () => {
    const sm = managed()
    sm.owe(5)
    expect([sm.look(true), sm.look(true), sm.look(false)]).toEqual(['nothing', 'nothing', 'answer'])
    expect(sm.answer(3)).toContain("h='3'")
    expect([sm.look(true), sm.look(true), sm.look(true), sm.look(true)]).toEqual(['nothing', 'nothing', 'nothing', 'nothing'])
    expect(sm.owes(5)).toBe(true)
  })
})

describe('§4 what goes back when a session ends', () => {
  const back = (stanza: Stanza, to: ToMode = 'kept') => returned(new Kept(stanza, to, NOW_MS), ROMEO)
  const note = "<delay xmlns='urn:xmpp:delay' from='example.org' stamp='2026-02-03T04:05:06Z'/>"
  const text = (stanza: Stanza | undefined) => Buffer.from(stanza!.payload).toString()

  test('a message, with a note of when it came (XEP-0203 §2)', () => {
    const given = back(from('message', JULIET, { id: 'm1', type: 'chat' }))
    expect(given).toMatchObject({ id: 'm1', type: 'chat', from: JULIET, to: ROMEO })
    expect(text(given)).toBe(`<body>x</body>${note}`)
  })

  test('one that has a note of ours keeps that one, and that of others beside ours', () => {
    const delay = (from: string) => el('delay', 'urn:xmpp:delay', { from, stamp: '2020-01-01T00:00:00Z' })
    expect(text(back(stanza('message', JULIET, { to: ROMEO }, body('x'), delay('example.org'))))).not.toContain('2026')
    expect(text(back(stanza('message', JULIET, { to: ROMEO }, body('x'), delay('example.net'))))).toContain(note)
  })

  test.each([
    ['kept', undefined, ROMEO.full],
    ['bare', undefined, ROMEO.bare],
    ['full', undefined, ROMEO.full],
    ['kept', parseJid('romeo@example.org'), ROMEO.bare],
  ] as const)('with the address it was written with: %s, %s', (to, had, has) => {
    expect(back(stanza('message', JULIET, { to: had }, body('x')), to)!.to!.full).toBe(has)
  })

  test('an iq that asks', () => {
    for (const type of ['get', 'set']) expect(back(from('iq', JULIET, { type, id: 'q' }))).toMatchObject({ type, id: 'q' })
  })

  test.each([
    ['presence', from('presence', JULIET)],
    ['a subscription, which the roster keeps', from('presence', JULIET, { type: 'subscribe' })],
    ['an answer', from('iq', JULIET, { type: 'result' })],
    ['an error to an iq', from('iq', JULIET, { type: 'error' })],
    ['an error to a message', from('message', JULIET, { type: 'error' })],
    ['a push from one’s own account', from('iq', parseJid(ROMEO.bare), { type: 'set' })],
    ['a push from nobody', from('iq', NO_JID, { type: 'set' })],
    ['a carbon copy or an own event', from('message', parseJid(ROMEO.bare))],
    ['a page of an archive', stanza('message', JULIET, { to: ROMEO }, el('result', 'urn:xmpp:mam:2', { id: '1' }))],
  ])('not %s', (_what, stanza) => {
    expect(back(stanza)).toBeUndefined()
  })

  test('a message that one has written to oneself', () => {
    expect(back(from('message', parseJid('romeo@example.org/phone')))).toBeDefined()
  })
})

describe('what elements say', () => {
  const element = (attrs: Record<string, string>) => el('x', 'urn:xmpp:sm:3', attrs)

  test.each([
    [{}, { resume: false, maxS: undefined }],
    [{ resume: 'true' }, { resume: true, maxS: undefined }],
    [
      { resume: '1', max: '060' },
      { resume: true, maxS: 60 },
    ],
    [
      { resume: '0', max: '5' },
      { resume: false, maxS: 5 },
    ],
  ])('§3 <enable/> with %o', (attrs, read) => {
    expect(readEnable(element(attrs))).toEqual(read)
  })

  test.each<Record<string, string>>([{ resume: 'yes' }, { max: '0' }, { max: '-1' }, { max: 'x' }, { max: '1.5' }])(
    '§6 bad-request is for %o',
    (attrs) => {
      expect(() => readEnable(element(attrs))).toThrow(StanzaError)
    },
  )

  test.each<Record<string, string>>([
    {},
    { h: '1' },
    { previd: 'x' },
    { previd: 'x', h: '' },
    { previd: 'x', h: '4294967296' },
    { previd: 'x', h: '-1' },
  ])('§5 bad-request is for a <resume/> with %o', (attrs) => {
    expect(() => readResume(element(attrs))).toThrow(StanzaError)
  })

  test('h has 32 bits, and an ack without one ends the stream', () => {
    expect(readAck('4294967295')).toBe(2 ** 32 - 1)
    for (const h of ['', ' 1', '+1', '1e3', '4294967296', '99999999999']) expect(() => readAck(h)).toThrow('bad-format')
  })
})

describe('§5 sessions that have ended', () => {
  /** What is told by now; 'nothing yet' where nothing is. */
  const toldOf = (ended: EndedSessions, id: string, account = 'romeo@example.org') => {
    const told: { h: number | undefined | 'nothing yet' } = { h: 'nothing yet' }
    ended.ask(id, account, (h) => {
      told.h = h
    })
    return told
  }

  test('are known to their account, up to a bound, with the last count', () => {
    const ended = new EndedSessions()
    ended.note('', 'romeo@example.org', 1, true)
    ended.note('one', 'romeo@example.org', 1, false)
    ended.note('one', 'romeo@example.org', 3, true)
    expect(toldOf(ended, 'one').h).toBe(3)
    expect(toldOf(ended, 'one', 'juliet@example.org').h).toBeUndefined()
    expect(toldOf(ended, '').h).toBeUndefined()
    for (let n = 0; n < 10_000; n++) ended.note(`n${n}`, 'juliet@example.org', n, true)
    expect(toldOf(ended, 'one').h).toBeUndefined()
    expect(toldOf(ended, 'n9999', 'juliet@example.org').h).toBe(9_999)
  })

  test('are told of when all that had come is handled: less would be sent again', () => {
    const ended = new EndedSessions()
    ended.note('one', 'romeo@example.org', 1, false)
    const [first, second] = [toldOf(ended, 'one'), toldOf(ended, 'one')]
    ended.note('one', 'romeo@example.org', 2, false)
    expect([first.h, second.h]).toEqual(['nothing yet', 'nothing yet'])
    ended.note('one', 'romeo@example.org', 3, true)
    expect([first.h, second.h, toldOf(ended, 'one').h]).toEqual([3, 3, 3])
  })

  test('one that is forgotten leaves nobody waiting, nor do many wait for one', () => {
    const ended = new EndedSessions()
    ended.note('one', 'romeo@example.org', 1, false)
    const waiting = Array.from({ length: 16 }, () => toldOf(ended, 'one'))
    expect(toldOf(ended, 'one').h).toBe(1)
    for (let n = 0; n < 10_000; n++) ended.note(`n${n}`, 'juliet@example.org', n, true)
    expect(waiting.every(({ h }) => h === 1)).toBe(true)
  })
})

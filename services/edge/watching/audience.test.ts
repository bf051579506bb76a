import { beforeEach, describe, expect, test } from 'vitest'
import { parseJid } from '#xmpp/jid.ts'
import { stanza } from '#xmpp/stanza.ts'
import { Audience, type WatchNews } from './audience.ts'

const [ROMEO, BOB, ANN] = ['romeo@example.org', 'bob@example.org', 'ann@example.org']

interface Session {
  readonly id: string
}

let told: WatchNews[]
let audience: Audience<Session>

beforeEach(() => {
  told = []
  audience = new Audience<Session>((news) => void told.push(news))
})

/** A session that watches. */
function online(account: string, id: string, ...contacts: readonly string[]): Session {
  const session = { id }
  audience.watch(account, session, contacts)
  return session
}

/** Shows a presence of the contact's, and says to which sessions it went. */
function show(full: string, type = '', only?: readonly string[]): string[] {
  const from = parseJid(full)
  const shown = { contact: from.bare, only, stanza: stanza('presence', from, { type }) }
  const to: string[] = []
  audience.note(shown)
  audience.forEach(shown, ({ id }) => void to.push(id))
  return to.sort()
}

const lastTold = () => told.at(-1)

describe('RFC 6121 §4.2 who is shown a presence', () => {
  test('are the sessions of watchers that the contact has admitted, and nobody else', () => {
    online(BOB, 'b1', ROMEO)
    online(ANN, 'a1', ROMEO)
    expect(show(`${ROMEO}/x`)).toEqual([])
    audience.admit(ROMEO, [BOB])
    expect(show(`${ROMEO}/x`)).toEqual(['b1'])
    audience.admit(ROMEO, [ANN, 'stranger@example.org'])
    online(BOB, 'b2', ROMEO)
    expect(show(`${ROMEO}/x`)).toEqual(['a1', 'b1', 'b2'])
    audience.revoke(ROMEO, [BOB])
    expect(show(`${ROMEO}/x`)).toEqual(['a1'])
    expect(audience.revokeAll(ROMEO)).toEqual([{ resource: 'x', from: [{ id: 'a1' }] }])
    expect(show(`${ROMEO}/x`)).toEqual([])
  })

  test('are those who are named, admitted or not', () => {
    online(BOB, 'b1')
    online(ANN, 'a1', ROMEO)
    audience.admit(ROMEO, [ANN])
    expect(show(`${ROMEO}/x`, 'unavailable', [BOB])).toEqual(['b1'])
    expect(show(`${ROMEO}/x`, '', [])).toEqual([])
  })

  test('are not those whose owner has said meanwhile that they do not watch the contact: a greeting that crossed it used to be shown', () => {
    online(BOB, 'b1', ROMEO)
    expect([show(`${ROMEO}/x`, '', [BOB]), audience.sees(BOB, ROMEO)]).toEqual([['b1'], true])
    audience.unwatch(BOB, [ROMEO])
    expect([show(`${ROMEO}/x`, '', [BOB]), audience.sees(BOB, ROMEO)]).toEqual([[], false])
    expect(show(`${ROMEO}/x`, 'unavailable', [BOB])).toEqual(['b1']) // it may have been seen
    expect(audience.sees(BOB, BOB)).toBe(true)
  })

  test('are not those who see other resources of the same contact, and not this one (XEP-0191 §6)', () => {
    audience.hide(BOB, [`${ROMEO}/x`])
    online(BOB, 'b1', ROMEO)
    audience.admit(ROMEO, [BOB])
    expect([show(`${ROMEO}/x`), show(`${ROMEO}/y`), show(`${ROMEO}/x`, '', [BOB])]).toEqual([[], ['b1'], []])
    audience.hide(BOB, [])
    expect(show(`${ROMEO}/x`)).toEqual(['b1'])
  })
})

describe('what owners of contacts are told', () => {
  test('is each session that begins to watch, with all its contacts, to be greeted', () => {
    online(BOB, 'b1', ROMEO, ANN)
    expect(lastTold()).toEqual({ watcher: BOB, session: 'b1', contacts: [ROMEO, ANN] })
    online(BOB, 'b2', ROMEO, ANN)
    expect(lastTold()).toEqual({ watcher: BOB, session: 'b2', contacts: [ROMEO, ANN] })
    expect(audience.pairs).toBe(2)
  })

  test('are the contacts that are new to sessions which watch already, and of an order that comes again nothing', () => {
    const session = online(BOB, 'b1', ROMEO)
    expect(audience.watch(BOB, undefined, [ROMEO, ANN])).toEqual({ sessions: [session], contacts: [ANN] })
    expect(lastTold()).toEqual({ watcher: BOB, session: '', contacts: [ANN] })
    audience.watch(BOB, session, [ROMEO, ANN])
    expect(told).toHaveLength(2)
  })

  test('is that the last session has gone, and that contacts are watched no more', () => {
    const [first, second] = [online(BOB, 'b1', ROMEO, ANN), online(BOB, 'b2', ROMEO, ANN)]
    audience.leave(BOB, first)
    expect(told).toHaveLength(2)
    audience.unwatch(BOB, [ANN, 'stranger@example.org'])
    expect(lastTold()).toEqual({ watcher: BOB, session: '', unwatch: true, contacts: [ANN] })
    audience.leave(BOB, second)
    expect(lastTold()).toEqual({ watcher: BOB, session: '', unwatch: true, contacts: [ROMEO] })
    audience.leave(BOB, second)
    expect([told.length, audience.pairs]).toEqual([4, 0])
  })

  test('is nothing of an account whose sessions have gone meanwhile', () => {
    audience.hide(BOB, [`${ROMEO}/x`])
    audience.watch(BOB, undefined, [ROMEO])
    expect([told, audience.pairs, audience.contactsOf(BOB)]).toEqual([[], 0, []])
    online(BOB, 'b1', ROMEO)
    audience.admit(ROMEO, [BOB])
    expect(show(`${ROMEO}/x`)).toEqual(['b1'])
  })

  test('are the contacts that an order no longer names, where it says that it names all', () => {
    const session = online(BOB, 'b1', ROMEO, ANN)
    audience.watch(BOB, session, [ANN, 'new@example.org'], true)
    expect(told.slice(1)).toEqual([
      { watcher: BOB, session: '', unwatch: true, contacts: [ROMEO] },
      { watcher: BOB, session: '', contacts: ['new@example.org'] },
    ])
  })

  test('an admission that was on its way when the watcher left does not hold when he is back', () => {
    const session = online(BOB, 'b1', ROMEO)
    audience.admit(ROMEO, [BOB])
    audience.leave(BOB, session)
    audience.admit(ROMEO, [BOB])
    online(BOB, 'b2', ROMEO)
    expect(show(`${ROMEO}/x`)).toEqual([])
  })

  test('an account does not watch itself', () => {
    online(BOB, 'b1', BOB)
    expect(audience.pairs).toBe(0)
  })
})

describe('what is lost', () => {
  const resourcesOf = (contact: string) => [...audience.watched((bare) => bare === contact)].flatMap(({ resources }) => resources)

  test('who was admitted is shown nothing until the owner has said what there is to see', () => {
    online(BOB, 'b1', ROMEO)
    audience.admit(ROMEO, [BOB])
    show(`${ROMEO}/x`)
    expect(audience.doubt((bare) => bare !== BOB)).toEqual([ROMEO])
    expect([show(`${ROMEO}/y`), audience.admitted, audience.doubtful(() => true)]).toEqual([[], 0, [ROMEO]])
    audience.admit(ROMEO, [BOB])
    expect(audience.snapshot(ROMEO, ['y'])).toEqual([{ resource: 'x', from: [{ id: 'b1' }] }])
    expect([show(`${ROMEO}/y`), audience.doubtful(() => true), resourcesOf(ROMEO)]).toEqual([['b1'], [], ['y']])
  })

  test('who is not admitted again sees nothing of the contact any more', () => {
    online(BOB, 'b1', ROMEO)
    online(ANN, 'a1', ROMEO)
    audience.admit(ROMEO, [BOB, ANN])
    show(`${ROMEO}/x`)
    audience.doubt(() => true)
    audience.admit(ROMEO, [ANN])
    expect(audience.snapshot(ROMEO, ['x'])).toEqual([{ resource: 'x', from: [{ id: 'b1' }] }])
    expect(show(`${ROMEO}/x`)).toEqual(['a1'])
  })

  test('what has gone while its watchers were in doubt is gone for them, too: it used to be seen for good', () => {
    for (const answer of ['snapshot', 'revokeAll'] as const) {
      const session = online(BOB, 'b1', ROMEO)
      audience.admit(ROMEO, [BOB])
      expect(show(`${ROMEO}/x`)).toEqual(['b1'])
      audience.doubt(() => true)
      expect(show(`${ROMEO}/x`, 'unavailable')).toEqual([])
      const gone = answer === 'snapshot' ? audience.snapshot(ROMEO, []) : audience.revokeAll(ROMEO)
      expect(gone).toEqual([{ resource: 'x', from: [session] }])
      expect(audience.snapshot(ROMEO, [])).toEqual([])
      audience.leave(BOB, session)
    }
  })

  test('a new owner is told who watches, who of them was admitted, and what they have seen', () => {
    online(BOB, 'b1', ROMEO)
    online(ANN, 'a1', ROMEO)
    audience.admit(ROMEO, [ANN])
    for (const resource of ['x', 'y', 'x']) show(`${ROMEO}/${resource}`)
    show(`${ROMEO}/y`, 'unavailable', [ANN])
    show(`${ROMEO}/x`, 'unavailable')
    audience.doubt(() => true)
    expect([...audience.watched((bare) => bare === ROMEO)]).toEqual([
      { contact: ROMEO, watchers: [ANN, BOB], admitted: [ANN], resources: ['y'] },
    ])
  })

  test('§4.3.2 unavailable from a bare JID is of all its resources', () => {
    online(BOB, 'b1', ROMEO)
    audience.admit(ROMEO, [BOB])
    for (const resource of ['x', 'y']) show(`${ROMEO}/${resource}`)
    show(ROMEO, 'unavailable')
    expect(resourcesOf(ROMEO)).toEqual([])
  })

  test('a resource that nobody said was gone is lost to all who have seen it, and once', () => {
    online(BOB, 'b1', ROMEO)
    online(ROMEO, 'r1')
    audience.admit(ROMEO, [BOB])
    show(`${ROMEO}/x`)
    expect(audience.lose(ROMEO, 'x').map(({ id }) => id)).toEqual(['r1', 'b1'])
    expect(audience.lose(ROMEO, 'x')).toEqual([])
  })

  test('what is seen of a contact is not known any more where nobody sees him', () => {
    const session = online(BOB, 'b1', ROMEO)
    audience.admit(ROMEO, [BOB])
    show(`${ROMEO}/x`)
    audience.leave(BOB, session)
    online(BOB, 'b2', ROMEO)
    expect(resourcesOf(ROMEO)).toEqual([])
  })
})

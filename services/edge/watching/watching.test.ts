// Who sees whom, as the owners say it and clients see it.
import { describe, expect, test } from 'vitest'
import type { Fields, Watch } from '#core/envelope.ts'
import { parseJid } from '#xmpp/jid.ts'
import { stanza } from '#xmpp/stanza.ts'
import { connect, type FakeConnection, settled } from '../edge.fixture.ts'
import { ENABLE, type Puppets, startPuppets } from '../puppets.fixture.ts'

const [ROMEO, JULIET] = ['romeo@example.org', 'juliet@example.org']
const NURSE = 'nurse@example.org'

/** Romeo is available on `resource`, and his owner has been told; not that he watches anybody. */
async function romeo({ open, edge, owners }: Puppets, resource = 'garden', managed = false) {
  const connection = connect(open.onConnection)
  await connection.logIn(ROMEO, resource)
  if (managed) connection.send(ENABLE)
  connection.send('<presence/>')
  await settled()
  connection.take()
  owners.handed.at(-1)!.done()
  const session = [...edge.sessions.values()].at(-1)!
  return { connection, session }
}

function speak({ owners, process }: Puppets) {
  const { multicast } = owners
  const edge = process.id
  const send = async (say: () => void) => {
    say()
    await settled()
  }
  return {
    order: (name: string, session: string, fields: Fields) => send(() => multicast.order({ edge, session }, name, fields)),
    admit: (...watchers: readonly string[]) => send(() => multicast.admit(edge, JULIET, watchers)),
    revoke: (...watchers: readonly string[]) => send(() => multicast.revoke(edge, JULIET, watchers)),
    snapshot: (...resources: readonly string[]) => send(() => multicast.snapshot(edge, JULIET, resources)),
    show: (resource: string, type = '', to = {}) =>
      send(() => multicast.shown(edge, JULIET, stanza('presence', parseJid(`${JULIET}/${resource}`), { type }), to)),
  }
}

const watches = ({ owners }: Puppets): Omit<Watch, 'kind' | 'edge'>[] =>
  owners.handed.flatMap(({ envelope }) => {
    if (envelope.kind !== 'watch') return []
    const { watcher, session, contacts, unwatch = false, snapshot = false, items } = envelope
    return [{ watcher, session, contacts, ...(unwatch && { unwatch }), ...(snapshot && { snapshot }), ...(items && { items }) }]
  })

/** Of what the client was sent: `from`, type. */
const seen = (connection: FakeConnection) =>
  [...connection.take().matchAll(/<presence from='[^/']*\/?([^']*)' to='([^']*)'(?: type='([a-z]*)')?/g)].map(
    ([, resource, to, type = '']) => {
      expect(to).toBe(ROMEO)
      return `${resource} ${type}`.trim()
    },
  )

async function setUp() {
  const puppets = startPuppets()
  const { connection, session } = await romeo(puppets)
  const say = speak(puppets)
  await say.order('watch', session.id, { account: ROMEO, contacts: `${JULIET}\n${NURSE}` })
  return { puppets, connection, session, ...say }
}

describe('RFC 6121 §4.2 a session that has become available', () => {
  test('is announced to the owners of those that it watches, and sees those who admit it', async () => {
    const { puppets, connection, session, admit, show } = await setUp()
    expect(watches(puppets)).toEqual([{ watcher: ROMEO, session: session.id, contacts: [JULIET, NURSE] }])
    await show('balcony')
    expect(seen(connection)).toEqual([])
    await admit(ROMEO)
    await show('balcony')
    expect(seen(connection)).toEqual(['balcony'])
    expect(puppets.process.metrics.text()).toMatch(/^rookery_presence_deliveries_total 1$/m)
    expect(puppets.process.metrics.text()).toMatch(/^rookery_presence_watches 2$/m)
    expect(puppets.process.metrics.text()).toMatch(/^rookery_presence_admitted 1$/m)
  })

  test('is greeted by itself, and a second one of the account likewise', async () => {
    const { puppets, connection, order, show } = await setUp()
    const second = await romeo(puppets, 'street')
    await order('watch', second.session.id, { account: ROMEO, contacts: `${JULIET}\n${NURSE}` })
    expect(watches(puppets).at(-1)).toEqual({ watcher: ROMEO, session: second.session.id, contacts: [JULIET, NURSE] })
    await show('balcony', '', { only: [], sessions: [second.session.id, 'nobody'] })
    expect([seen(second.connection), seen(connection)]).toEqual([['balcony'], []])
  })

  test('does not see what its account has hidden of a contact (XEP-0191 §6)', async () => {
    const { connection, session, order, admit, show } = await setUp()
    await order('hides', '', { account: ROMEO, jids: `${JULIET}/balcony` })
    await admit(ROMEO)
    await show('balcony')
    await show('chamber')
    await show('balcony', '', { only: [], sessions: [session.id] })
    expect(seen(connection)).toEqual(['chamber'])
  })

  test('whose presence its owner has not shown yet says so to a new one, until it has been shown', async () => {
    const { puppets, session, order } = await setUp()
    const { multicast } = puppets.owners
    const isHeld = () => session.told('presence')!.about.held === true
    await order('held', session.id, { held: true })
    expect([isHeld(), session.told('router')!.about.held]).toEqual([true, undefined])
    multicast.shown(puppets.process.id, ROMEO, stanza('presence', session.jid, {}), { sessions: [session.id] })
    await settled()
    expect(isHeld()).toBe(false)
    await order('held', session.id, { held: true })
    session.presents(false)
    expect(isHeld()).toBe(false)
  })
})

describe('RFC 6121 §4.5 a session that has gone unavailable', () => {
  test('sees nothing more from the moment it has said so, and the owners of its contacts are told', async () => {
    const { puppets, connection, admit, show } = await setUp()
    await admit(ROMEO)
    connection.send("<presence type='unavailable'/>")
    await show('balcony')
    expect(seen(connection)).toEqual([])
    expect(watches(puppets).at(-1)).toEqual({ watcher: ROMEO, session: '', unwatch: true, contacts: [JULIET, NURSE] })
  })

  test('is not there for an order that was given before its owner heard of it, nor for a greeting', async () => {
    const { puppets, connection, session, order, show } = await setUp()
    connection.send("<presence type='unavailable'/>")
    await settled()
    await order('watch', session.id, { account: ROMEO, contacts: JULIET })
    await show('balcony', '', { only: [], sessions: [session.id] })
    expect([watches(puppets).length, seen(connection), puppets.edge.watching.audience.pairs]).toEqual([2, [], 0])
    connection.send('<presence/>')
    await order('watch', session.id, { account: ROMEO, contacts: JULIET })
    expect(watches(puppets).at(-1)).toEqual({ watcher: ROMEO, session: session.id, contacts: [JULIET] })
  })

  test('or has ended, is told when it was the last of the account', async () => {
    const { puppets, connection, order } = await setUp()
    const second = await romeo(puppets, 'street')
    await order('watch', second.session.id, { account: ROMEO, contacts: `${JULIET}\n${NURSE}` })
    const before = watches(puppets).length
    connection.vanish()
    await settled()
    expect(watches(puppets)).toHaveLength(before)
    second.connection.vanish()
    await settled()
    expect(watches(puppets).at(-1)).toMatchObject({ unwatch: true, contacts: [JULIET, NURSE] })
  })

  test('but one that waits to be resumed (XEP-0198) goes on watching', async () => {
    const puppets = startPuppets()
    const say = speak(puppets)
    const { connection, session } = await romeo(puppets, 'garden', true)
    await say.order('watch', session.id, { account: ROMEO, contacts: JULIET })
    await say.admit(ROMEO)
    connection.vanish()
    await say.show('balcony')
    expect([watches(puppets).length, puppets.edge.watching.audience.admitted]).toEqual([1, 1])
  })
})

describe('RFC 6121 §3 what changes in a roster', () => {
  test('is watched from then on by all sessions of the account, or not any more', async () => {
    const { puppets, order } = await setUp()
    await order('watch', '', { account: ROMEO, contacts: 'tybalt@example.org' })
    await order('unwatch', '', { account: ROMEO, contacts: NURSE })
    expect(watches(puppets).slice(1)).toEqual([
      { watcher: ROMEO, session: '', contacts: ['tybalt@example.org'] },
      { watcher: ROMEO, session: '', unwatch: true, contacts: [NURSE] },
    ])
  })

  test('is no longer greeted by a contact whose greeting has crossed the news', async () => {
    const { connection, session, order, show } = await setUp()
    const greeting = { only: [], sessions: [session.id] }
    await show('balcony', '', greeting)
    await order('unwatch', '', { account: ROMEO, contacts: JULIET })
    await show('chamber', '', greeting)
    await show('balcony', 'unavailable', greeting)
    expect(seen(connection)).toEqual(['balcony', 'balcony unavailable'])
  })

  test('takes away at once what a contact does not want to show any more', async () => {
    const { connection, admit, show, revoke } = await setUp()
    await admit(ROMEO)
    await show('balcony')
    await show('balcony', 'unavailable', { only: [ROMEO] })
    await revoke(ROMEO)
    await show('balcony')
    expect(seen(connection)).toEqual(['balcony', 'balcony unavailable'])
  })
})

describe('what was lost', () => {
  test('a snapshot takes away whatever it does not have', async () => {
    const { connection, admit, show, snapshot } = await setUp()
    await admit(ROMEO)
    await show('balcony')
    await show('chamber')
    await snapshot('chamber')
    expect(seen(connection)).toEqual(['balcony', 'chamber', 'balcony unavailable'])
  })

  test('what an owner finds gone goes for those who have seen it', async () => {
    const { connection, order, admit, show } = await setUp()
    await admit(ROMEO)
    await show('balcony')
    await order('gone', '', { jids: `${JULIET}/balcony\n${JULIET}/chamber` })
    expect(seen(connection)).toEqual(['balcony', 'balcony unavailable'])
  })
})

describe('XEP-0163 §4 events', () => {
  test('go to those whose clients want them, and the nodes that a client wants are asked for of all it watches', async () => {
    const { puppets, connection, session, admit, show } = await setUp()
    await admit(ROMEO)
    await show('balcony', '', { filter: 'urn:x+notify' })
    expect(seen(connection)).toEqual([])
    puppets.edge.watching.learned(session, ['urn:x'])
    await settled()
    expect(watches(puppets).at(-1)).toEqual({
      ...{ watcher: ROMEO, session: session.id, items: ['urn:x'] },
      contacts: [ROMEO, JULIET, NURSE],
    })
  })
})

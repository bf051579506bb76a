import { describe, expect, test } from 'vitest'
import { manualClock } from '#core/clock.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_FRAMING, NS_STREAM } from '#xmpp/ns.ts'
import { stanza } from '#xmpp/stanza.ts'
import { bind, connect, type FakeConnection, frameHeader, plainAuth, settled } from '../edge.fixture.ts'
import {
  ASK,
  ack,
  deliver,
  ENABLE,
  failure,
  ids,
  idsIn,
  loggedIn,
  managed,
  message,
  NS_SM,
  type Puppets,
  resume,
  returnedOf,
  rosterSet,
  startPuppets,
  stops,
  streamError,
} from '../puppets.fixture.ts'

describe('XEP-0198 §2 and XEP-0478 §3.1: stream features', () => {
  test('before the login there are the limits of before the login, behind it those of a session, and stream management', async () => {
    const { open, owners } = startPuppets({ config: { limits: { stanzaBytes: 50_000, idleSeconds: 77, loginTimeoutMs: 9_000 } } })
    owners.knows('romeo@example.org')
    for (const framing of ['stream', 'frame'] as const) {
      const connection = connect(open.onConnection, { framing })
      const before = connection.open().take()
      expect(before).toContain(
        "<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>10000</max-bytes><idle-seconds>9</idle-seconds></limits>",
      )
      expect(before.replace(/<authentication.*<\/authentication>/, '')).not.toContain(NS_SM) // there it is inline (XEP-0388)
      connection.send(plainAuth('romeo'))
      await connection.until('<success')
      const after = connection.open().take()
      const idle = framing === 'stream' ? '<idle-seconds>77</idle-seconds>' : ''
      expect(after).toContain(`<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>50000</max-bytes>${idle}</limits>`)
      expect(after).toContain(`<sm xmlns='${NS_SM}'/>`)
    }
  })
})

describe('XEP-0198 §3 enabling', () => {
  test('with resumption it is given an id that nobody guesses, and how long the server waits', async () => {
    const puppets = startPuppets({ config: { limits: { resumeSeconds: 120 } } })
    const { connection, id } = await managed(puppets)
    expect(connection.written).toMatch(/<enabled xmlns='urn:xmpp:sm:3' id='[\w-]{24}' max='120' resume='true'\/>$/)
    const other = await managed(puppets)
    expect(other.id).not.toBe(id)
  })

  test.each([
    [`<enable xmlns='${NS_SM}'/>`, `<enabled xmlns='${NS_SM}'/>`],
    [`<enable xmlns='${NS_SM}' max='10'/>`, `<enabled xmlns='${NS_SM}'/>`],
    [`<enable xmlns='${NS_SM}' resume='1' max='10'/>`, " max='10' resume='true'/>"],
    [`<enable xmlns='${NS_SM}' resume='true' max='4000000000'/>`, " max='300' resume='true'/>"],
  ])('%s is answered %s', async (enable, answer) => {
    const { connection } = await managed(startPuppets(), enable)
    expect(connection.written.endsWith(answer)).toBe(true)
  })

  test('where sessions are not resumed it is enabled without, and a resumption is answered feature-not-implemented (§5)', async () => {
    const puppets = startPuppets({ config: { limits: { resumeSeconds: 0 } } })
    const { connection } = await managed(puppets)
    expect(connection.written.endsWith(`<enabled xmlns='${NS_SM}'/>`)).toBe(true)
    const other = await loggedIn(puppets)
    other.send(resume('x', 0))
    expect(failure(other.take())).toBe('feature-not-implemented')
  })

  test('before the login or before a resource is bound it fails with unexpected-request, and a resource may be bound', async () => {
    const puppets = startPuppets()
    const stranger = connect(puppets.open.onConnection).open()
    stranger.send(ENABLE + resume('x', 0))
    expect(stranger.take().match(/<failed xmlns='urn:xmpp:sm:3'><unexpected-request /g)).toHaveLength(2)
    const connection = await loggedIn(puppets)
    connection.send(ENABLE)
    expect(failure(connection.take())).toBe('unexpected-request')
    connection.send(bind('garden'))
    expect(await connection.until('</iq>')).toContain('<jid>romeo@example.org/garden</jid>')
  })

  test('acks before it fail with unexpected-request, and so does a resumption behind it', async () => {
    const puppets = startPuppets()
    const connection = connect(puppets.open.onConnection)
    await connection.logIn('romeo@example.org', 'garden')
    for (const sent of [ASK, ack(0), resume('x', 0)]) {
      connection.send(sent)
      expect(failure(connection.take())).toBe('unexpected-request')
    }
    connection.send(ENABLE)
    await connection.until('<enabled')
    connection.send(resume('x', 0))
    expect(failure(connection.take())).toBe('unexpected-request')
    expect(connection.ended).toBe(false)
  })

  test('a second time it ends the stream, which used to go on', async () => {
    const { connection } = await managed(startPuppets())
    connection.send(ENABLE)
    expect([streamError(connection), connection.ended]).toEqual(['policy-violation', true])
  })

  test('§6 with what is malformed it fails with bad-request, and may be asked for again', async () => {
    const puppets = startPuppets()
    const connection = connect(puppets.open.onConnection)
    await connection.logIn('romeo@example.org', 'garden')
    connection.send(`<enable xmlns='${NS_SM}' resume='perhaps'/>`)
    expect(failure(connection.take())).toBe('bad-request')
    connection.send(ENABLE)
    expect(connection.take()).toContain('<enabled')
  })

  test('another element of the namespace ends the stream (RFC 6120 §4.9.3.24)', async () => {
    const { connection } = await managed(startPuppets())
    connection.send(`<enabled xmlns='${NS_SM}'/>`)
    expect(streamError(connection)).toBe('unsupported-stanza-type')
  })
})

describe('XEP-0198 §4 what the server acknowledges', () => {
  test('is what is handled, and not before', async () => {
    const puppets = startPuppets()
    const { owners } = puppets
    const { connection } = await managed(puppets)
    connection.send(message('juliet@example.org', 'm1') + message('juliet@example.org', 'm2') + ASK)
    await settled()
    expect(connection.take()).toBe('')
    owners.handed[0]!.done()
    await settled()
    expect(connection.take()).toBe('')
    owners.handed[1]!.done()
    await settled()
    expect(connection.take()).toBe(ack(2))
  })

  test('is without a gap, in whatever order it is handled', async () => {
    const puppets = startPuppets()
    const { owners } = puppets
    const { connection } = await managed(puppets)
    for (const id of ['m1', 'm2', 'm3']) connection.send(message('juliet@example.org', id) + ASK)
    await settled()
    for (const [at, answer] of [
      [2, ''],
      [0, ack(1)],
      [1, ack(3)],
    ] as const) {
      owners.handed[at]!.done()
      await settled()
      expect(connection.take()).toBe(answer)
    }
  })

  test('begins at 0 when it is enabled, whatever came before', async () => {
    const puppets = startPuppets()
    const { owners } = puppets
    const connection = connect(puppets.open.onConnection)
    await connection.logIn('romeo@example.org', 'garden')
    connection.send(message('juliet@example.org', 'm1') + ENABLE + message('juliet@example.org', 'm2') + ASK)
    await connection.until('<enabled')
    await settled()
    owners.handed[1]!.done()
    await settled()
    owners.handed[0]!.done()
    await settled()
    expect(connection.take()).toBe(ack(1))
  })

  test('counts what the edge answers itself, in its place', async () => {
    const puppets = startPuppets()
    const { owners } = puppets
    const { connection } = await managed(puppets)
    connection.send(`${message('juliet@example.org', 'm1')}<message to='@'/><iq type='get' id='1'/>${ASK}`)
    await settled()
    expect(connection.take()).not.toContain('<a ')
    owners.handed[0]!.done()
    await settled()
    expect(connection.take()).toBe(ack(3))
  })

  test('does not count a stanza that waits for the other home', async () => {
    const puppets = startPuppets()
    const { owners } = puppets
    const { connection } = await managed(puppets)
    connection.send(message('juliet@example.org', 'm1') + rosterSet('r1'))
    await settled()
    owners.handed[0]!.done()
    await settled()
    connection.send(ASK)
    await settled()
    expect(connection.take()).toBe('')
    owners.handed[1]!.done()
    await settled()
    expect(connection.take()).toBe(ack(2))
  })

  test('is not ahead by a stanza that follows for the other home', async () => {
    const puppets = startPuppets()
    const { owners } = puppets
    const { connection } = await managed(puppets)
    connection.send(message('juliet@example.org', 'm1') + ASK + rosterSet('r1'))
    await settled()
    owners.handed[0]!.done()
    await settled()
    expect([connection.take(), owners.summary()]).toEqual([ack(1), ['router message m1', 'presence iq r1']])
  })

  test('where it takes long the client is told how far it is, and again when the rest is handled', async () => {
    const clock = manualClock()
    const puppets = startPuppets({ clock })
    const { owners } = puppets
    const { connection } = await managed(puppets)
    connection.send(message('juliet@example.org', 'm1') + message('juliet@example.org', 'm2') + ASK)
    await settled()
    owners.handed[0]!.done()
    await settled()
    clock.advance(2_000)
    expect(connection.take()).toBe('')
    clock.advance(1_000)
    expect(connection.take()).toBe(ack(1))
    clock.advance(30_000)
    expect(connection.take()).toBe('')
    owners.handed[1]!.done()
    await settled()
    expect(connection.take()).toBe(ack(2))
  })

  test('is said last where the stream ends, so that the client knows what to send again', async () => {
    const puppets = startPuppets()
    const { owners, edge, process } = puppets
    const { connection, session } = await managed(puppets)
    connection.send(message('juliet@example.org', 'm1') + message('juliet@example.org', 'm2'))
    await settled()
    owners.handed[0]!.done()
    await settled()
    owners.multicast.order({ edge: process.id, session }, 'close', { condition: 'not-authorized' })
    await settled()
    expect(connection.take()).toMatch(new RegExp(`^${ack(1)}<stream:error><not-authorized`))
    expect(edge.watched.size).toBe(0)
  })
})

describe('XEP-0198 §4 what the client acknowledges', () => {
  test('the server asks in the second behind the last delivery, and rests once all is acknowledged', async () => {
    const clock = manualClock()
    const puppets = startPuppets({ clock })
    const { connection, session } = await managed(puppets)
    deliver(puppets, session, 'm1')
    await settled()
    clock.advance(1_000)
    connection.take()
    clock.advance(1_000)
    expect(connection.take()).toBe(ASK)
    connection.send(ack(1))
    expect(puppets.edge.watched.size).toBe(1)
    clock.advance(30_000)
    expect([connection.take(), puppets.edge.watched.size]).toEqual(['', 0])
  })

  test('of many the server asks at once, and not for each', async () => {
    const puppets = startPuppets()
    const { connection, session } = await managed(puppets)
    for (let n = 0; n < 100; n++) deliver(puppets, session, `m${n}`)
    await settled()
    expect(connection.take().split(ASK)).toHaveLength(2)
  })

  test('§6 more than was sent ends the stream, and says so', async () => {
    const puppets = startPuppets()
    const { connection, session } = await managed(puppets)
    deliver(puppets, session, 'm1')
    await settled()
    connection.send(ack(2))
    expect(streamError(connection)).toBe('undefined-condition')
    expect(connection.written).toContain(
      "<handled-count-too-high xmlns='urn:xmpp:sm:3' h='2' send-count='1'/></stream:error></stream:stream>",
    )
    await settled()
    expect(ids(returnedOf(puppets))).toEqual(['m1'])
  })

  test('an ack without a count ends the stream', async () => {
    const { connection } = await managed(startPuppets())
    connection.send(`<a xmlns='${NS_SM}'/>`)
    expect(streamError(connection)).toBe('bad-format')
  })

  test('a client that answers nothing for a minute is cut off, and may resume', async () => {
    const clock = manualClock()
    const puppets = startPuppets({ clock })
    const { connection, session } = await managed(puppets)
    deliver(puppets, session, 'm1')
    await settled()
    clock.advance(62_000)
    connection.send(' ')
    expect(connection.destroyed).toBe(false)
    clock.advance(2_000)
    expect([connection.destroyed, puppets.edge.detached.size, puppets.edge.watched.size]).toEqual([true, 1, 0])
    expect(puppets.owners.summary()).toEqual([])
  })

  test('a client that acknowledges nothing has a bound; beyond it the session ends, and nothing of it is lost', async () => {
    const puppets = startPuppets({ config: { limits: { unackedStanzas: 100 } } })
    const { connection, session } = await managed(puppets)
    const all = Array.from({ length: 405 }, (_, n) => `m${n}`)
    for (const id of all) deliver(puppets, session, id)
    await settled()
    expect(streamError(connection)).toBe('policy-violation')
    expect(ids(returnedOf(puppets))).toEqual(all)
    expect(idsIn(connection.written)).toHaveLength(401) // and the answer to the bind
  })

  test('without stream management nothing is kept', async () => {
    const puppets = startPuppets()
    const connection = connect(puppets.open.onConnection)
    await connection.logIn('romeo@example.org', 'garden')
    const [session] = puppets.edge.sessions.keys()
    deliver(puppets, session!, 'm1')
    await settled()
    connection.vanish()
    await settled()
    expect(puppets.owners.summary()).toEqual(['router signal session.closed'])
    expect(puppets.edge.sessions.size).toBe(0)
  })
})

describe('XEP-0198 §5 resumption', () => {
  test('what was not acknowledged comes again, then what came meanwhile; the owners never hear of it', async () => {
    const puppets = startPuppets()
    const { owners, edge } = puppets
    owners.onEnvelope = ({ done }) => done()
    const { connection, id, session } = await managed(puppets)
    connection.send(message('juliet@example.org', 'r1'))
    for (const id of ['m1', 'm2', 'm3']) deliver(puppets, session, id)
    await settled()
    connection.send(ack(1))
    connection.vanish()
    deliver(puppets, session, 'm4')
    await settled()
    expect([edge.detached.size, edge.sessions.size, edge.streams.size]).toEqual([1, 1, 0])
    const again = await loggedIn(puppets)
    again.send(resume(id, 2))
    const text = again.take()
    expect(text).toMatch(new RegExp(`^<resumed xmlns='urn:xmpp:sm:3' previd='${id}' h='1'/>`))
    expect(idsIn(text)).toEqual(['m3', 'm4'])
    again.send(ack(4))
    deliver(puppets, session, 'm5')
    again.send(message('juliet@example.org', 'r2') + ASK)
    await settled()
    expect(idsIn(again.written)).toEqual(['m3', 'm4', 'm5'])
    expect(again.written).toContain(ack(2))
    expect(owners.summary()).toEqual(['router message r1', 'router message r2'])
    expect([edge.detached.size, edge.resumables.size]).toEqual([0, 1])
  })

  test('over a WebSocket what is sent again declares its namespace', async () => {
    const puppets = startPuppets()
    const { connection, id, session } = await managed(puppets)
    deliver(puppets, session, 'm1')
    await settled()
    connection.vanish()
    const again = await loggedIn(puppets, 'romeo@example.org', 'frame')
    again.send(resume(id, 0))
    expect(again.take()).toContain("<message xmlns='jabber:client' from='juliet@example.org/x' to='romeo@example.org' id='m1'")
    expect(frameHeader()).toContain('framing')
  })

  test('a stream that is still there is closed with conflict', async () => {
    const puppets = startPuppets()
    const { connection, id, session } = await managed(puppets)
    const again = await loggedIn(puppets)
    again.send(resume(id, 0))
    expect([streamError(connection), connection.ended]).toEqual(['conflict', true])
    expect(again.take()).toContain('<resumed')
    deliver(puppets, session, 'm1')
    await settled()
    expect([idsIn(again.take()), idsIn(connection.take()).includes('m1')]).toEqual([['m1'], false])
    expect(puppets.owners.summary()).toEqual([])
  })

  test('waits for what is being handled, so that both count the same', async () => {
    const puppets = startPuppets()
    const { owners } = puppets
    const { connection, id } = await managed(puppets)
    connection.send(message('juliet@example.org', 'r1') + rosterSet('r2'))
    await settled()
    connection.vanish()
    const again = await loggedIn(puppets)
    again.send(resume(id, 0) + message('juliet@example.org', 'r3'))
    await settled()
    expect(again.take()).toBe('')
    owners.handed[0]!.done()
    await settled()
    expect(again.take()).toBe('')
    owners.handed[1]!.done()
    await settled()
    expect(again.take()).toContain("h='2'")
    expect(owners.summary()).toEqual(['router message r1', 'presence iq r2', 'router message r3'])
  })

  test('a client that gives up while it waits leaves the session to be resumed by another stream', async () => {
    const puppets = startPuppets()
    const { owners, edge } = puppets
    const { connection, id } = await managed(puppets)
    connection.send(message('juliet@example.org', 'r1'))
    await settled()
    connection.vanish()
    const [one, two, three] = [await loggedIn(puppets), await loggedIn(puppets), await loggedIn(puppets)]
    one.send(resume(id, 0))
    one.vanish()
    two.send(resume(id, 0))
    three.send(resume(id, 0))
    expect(failure(two.take())).toBe('item-not-found')
    owners.handed[0]!.done()
    await settled()
    expect(three.take()).toContain('<resumed')
    expect([edge.detached.size, edge.streams.size]).toEqual([0, 2])
  })

  test('a client that claims a session again, behind a claim that another one has overtaken, is answered', async () => {
    const puppets = startPuppets()
    const { owners } = puppets
    const { connection, id } = await managed(puppets)
    connection.send(message('juliet@example.org', 'r1'))
    await settled()
    connection.vanish()
    const [one, two] = [await loggedIn(puppets), await loggedIn(puppets)]
    one.send(resume(id, 0) + resume(id, 0))
    two.send(resume(id, 0))
    owners.handed[0]!.done()
    await settled()
    expect([failure(one.take()), failure(two.take())]).toEqual(['item-not-found', 'item-not-found'])
    expect([one, two].map(({ written }) => written.split('<resumed').length - 1)).toEqual([1, 0])
  })

  test.each([
    ['romeo@example.org', 'no such id', 'item-not-found'],
    ['juliet@example.org', undefined, 'item-not-found'],
  ])('%s who asks for %s is answered %s, and may bind', async (account, previd, condition) => {
    const puppets = startPuppets()
    const { id } = await managed(puppets)
    const other = await loggedIn(puppets, account)
    other.send(resume(previd ?? id, 0))
    expect(failure(other.take())).toBe(condition)
    other.send(bind('other'))
    expect(await other.until('</iq>')).toContain(`<jid>${account}/other</jid>`)
    expect(puppets.edge.detached.size).toBe(0)
  })

  test('§6 without h or previd it fails with bad-request', async () => {
    const puppets = startPuppets()
    const { id } = await managed(puppets)
    const other = await loggedIn(puppets)
    other.send(`<resume xmlns='${NS_SM}' previd='${id}'/><resume xmlns='${NS_SM}' h='1'/>`)
    expect(other.take().match(/<bad-request /g)).toHaveLength(2)
  })

  test('§6 with more than was sent the new stream ends, and the old one goes on', async () => {
    const puppets = startPuppets()
    const { connection, id } = await managed(puppets)
    const other = await loggedIn(puppets)
    other.send(resume(id, 1))
    expect([streamError(other), connection.ended]).toEqual(['undefined-condition', false])
    connection.send(ASK)
    expect(connection.take()).toBe(ack(0))
  })

  test('a session whose time is over is told with what was handled of it, and what it was sent goes back', async () => {
    const clock = manualClock()
    const puppets = startPuppets({ clock, config: { limits: { resumeSeconds: 60 } } })
    const { owners, edge } = puppets
    owners.onEnvelope = ({ done }) => done()
    const { connection, id, session } = await managed(puppets)
    connection.send(`<presence id='p'/>${message('juliet@example.org', 'r1')}`)
    deliver(puppets, session, 'm1')
    await settled()
    connection.vanish()
    deliver(puppets, session, 'm2')
    await settled()
    clock.advance(59_000)
    expect(owners.summary()).toEqual(['presence presence p', 'router message r1'])
    clock.advance(2_000)
    await settled()
    expect(owners.summary().slice(2).sort()).toEqual([
      'presence signal session.closed',
      'router message m1',
      'router message m2',
      'router signal session.closed',
    ])
    expect(ids(returnedOf(puppets))).toEqual(['m1', 'm2'])
    expect([edge.detached.size, edge.resumables.size, edge.leaving.size]).toEqual([0, 0, 0])
    const late = await loggedIn(puppets)
    late.send(resume(id, 0))
    expect(late.take()).toBe(
      `<failed xmlns='${NS_SM}' h='2'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>`,
    )
    const other = await loggedIn(puppets, 'juliet@example.org')
    other.send(resume(id, 0))
    expect(other.take()).not.toContain('h=')
    clock.advance(5_000)
    expect(edge.sessions.size).toBe(0)
  })

  test.each([
    ['a fault of the client', (connection: FakeConnection) => void connection.send('<no-stanza/>')],
    [
      'a closing tag of the client, who does not wait',
      (connection: FakeConnection) => {
        connection.send('</stream:stream>')
        connection.vanish()
      },
    ],
    [
      'an order',
      (_connection: FakeConnection, { owners, process }: Puppets, session: string) =>
        owners.multicast.order({ edge: process.id, session }, 'close', { condition: 'policy-violation' }),
    ],
  ])('a client who comes back at once behind %s used to send again what was still being handled', async (_what, end) => {
    const puppets = startPuppets()
    const { owners } = puppets
    const { connection, id, session } = await managed(puppets)
    connection.send(message('juliet@example.org', 'm1') + message('juliet@example.org', 'm2'))
    await settled()
    end(connection, puppets, session)
    await settled()
    const late = await loggedIn(puppets)
    late.send(resume(id, 0))
    await settled()
    owners.handed[0]!.done()
    await settled()
    expect(failure(late.written)).toBeUndefined()
    owners.handed[1]!.done()
    await settled()
    expect(late.take()).toMatch(/^<failed xmlns='urn:xmpp:sm:3' h='2'><item-not-found /)
    late.send(bind('garden'))
    expect(await late.until('</iq>')).toContain('romeo@example.org/garden')
  })

  test('a client that asked for less time has less', async () => {
    const clock = manualClock()
    const puppets = startPuppets({ clock })
    const { connection } = await managed(puppets, `<enable xmlns='${NS_SM}' resume='true' max='10'/>`)
    connection.vanish()
    clock.advance(9_000)
    expect(puppets.edge.detached.size).toBe(1)
    clock.advance(2_000)
    expect(puppets.edge.detached.size).toBe(0)
  })
})

describe('XEP-0198 §7 the end of a session', () => {
  test.each([
    ['a closing tag', '</stream:stream>', undefined],
    ['a fault of the client', '<no-stanza/>', 'unsupported-stanza-type'],
  ])('%s leaves nothing to resume', async (_what, sent, condition) => {
    const puppets = startPuppets()
    const { connection, id, session } = await managed(puppets)
    deliver(puppets, session, 'm1')
    await settled()
    connection.send(sent)
    await settled()
    expect([connection.ended, streamError(connection)]).toEqual([true, condition])
    expect(ids(returnedOf(puppets))).toEqual(['m1'])
    const late = await loggedIn(puppets)
    late.send(resume(id, 0))
    expect(failure(late.take())).toBe('item-not-found')
  })

  test.each(['stream', 'frame'] as const)(
    'a client that has found an error (RFC 6120 §4.9.1.1) used to be told of one: its %s is closed, and its session waits',
    async (framing) => {
      const puppets = startPuppets()
      const { connection, id, session } = await managed(puppets, ENABLE, framing)
      deliver(puppets, session, 'm1')
      await connection.until('m1')
      const failure = `<stream:error xmlns:stream='${NS_STREAM}'><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>`
      connection.send(framing === 'stream' ? `${failure}</stream:stream>` : failure)
      const close = framing === 'stream' ? '</stream:stream>' : `<close xmlns='${NS_FRAMING}'/>`
      expect([connection.take(), connection.ended]).toEqual([`<a xmlns='${NS_SM}' h='0'/>${close}`, true])
      connection.vanish()
      expect(puppets.edge.detached.size).toBe(1)
      const again = await loggedIn(puppets)
      again.send(resume(id, 0))
      expect(idsIn(await again.until('m1'))).toEqual(['m1'])
    },
  )

  test('a client that closes its stream and is gone before the answer is gone', async () => {
    const puppets = startPuppets()
    const { owners, edge } = puppets
    const { connection } = await managed(puppets)
    connection.send(`${message('juliet@example.org', 'm1')}</stream:stream>`)
    await settled()
    connection.vanish()
    expect(edge.detached.size).toBe(0)
    owners.handed[0]!.done()
    await settled()
    expect(owners.summary()).toEqual(['router message m1', 'router signal session.closed'])
  })

  test('what its client has acknowledged does not go back', async () => {
    const puppets = startPuppets()
    const { connection, session } = await managed(puppets)
    for (const id of ['m1', 'm2']) deliver(puppets, session, id)
    await settled()
    connection.send(`${ack(1)}</stream:stream>`)
    await settled()
    expect(ids(returnedOf(puppets))).toEqual(['m2'])
  })

  test('without resumption a lost connection ends it, and what was not acknowledged goes back', async () => {
    const puppets = startPuppets()
    const { connection, session } = await managed(puppets, `<enable xmlns='${NS_SM}'/>`)
    deliver(puppets, session, 'm1')
    await settled()
    connection.vanish()
    await settled()
    expect(ids(returnedOf(puppets))).toEqual(['m1'])
  })

  test('an order to close ends one that has no stream, also while another one waits for it', async () => {
    const puppets = startPuppets()
    const { owners, edge, process } = puppets
    const { connection, id, session } = await managed(puppets)
    connection.send(message('juliet@example.org', 'r1'))
    deliver(puppets, session, 'm1')
    await settled()
    connection.vanish()
    const again = await loggedIn(puppets)
    again.send(resume(id, 0))
    owners.multicast.order({ edge: process.id, session }, 'close', { condition: 'conflict' })
    await settled()
    expect([again.take(), edge.detached.size]).toEqual(['', 0])
    expect(ids(returnedOf(puppets))).toEqual(['m1'])
    owners.handed[0]!.done()
    await settled()
    expect(failure(again.take())).toBe('item-not-found')
  })

  test('what comes for it before its router knows goes back, too; what overtakes the router’s ack, for a while', async () => {
    const clock = manualClock()
    const puppets = startPuppets({ clock })
    const { owners, edge } = puppets
    const { connection, session } = await managed(puppets, `<enable xmlns='${NS_SM}'/>`)
    connection.vanish()
    await settled()
    expect(owners.summary()).toEqual(['router signal session.closed'])
    deliver(puppets, session, 'late')
    owners.handed[0]!.done()
    await settled()
    expect(ids(returnedOf(puppets))).toEqual(['late'])
    expect(edge.leaving.size).toBe(1)
    owners.handed[1]!.done()
    await settled()
    expect(edge.leaving.size).toBe(0)
    deliver(puppets, session, 'later')
    await settled()
    expect(ids(returnedOf(puppets))).toEqual(['late', 'later'])
    owners.handed[2]!.done()
    await settled()
    clock.advance(5_000)
    expect([edge.leaving.size, edge.sessions.size]).toEqual([0, 0])
  })

  test('what comes while its client’s last stanza still waits goes back behind that', async () => {
    const puppets = startPuppets()
    const { owners } = puppets
    const { connection, session } = await managed(puppets, `<enable xmlns='${NS_SM}'/>`)
    connection.send(rosterSet('r1') + message('juliet@example.org', 'r2'))
    await settled()
    connection.vanish()
    deliver(puppets, session, 'm1')
    await settled()
    expect(owners.summary()).toEqual(['presence iq r1'])
    owners.handed[0]!.done()
    await settled()
    expect(owners.summary().slice(1, 4)).toEqual(['router message r2', 'router signal session.closed', 'router message m1'])
  })

  test('of a message to two sessions one copy goes back, when the last of them has ended', async () => {
    const puppets = startPuppets()
    const { owners, process } = puppets
    const [one, two] = [await managed(puppets), await managed(puppets)]
    const shared = stanza('message', parseJid('juliet@example.org/x'), { to: parseJid('romeo@example.org'), id: 'm1' })
    const targets = [one, two].map(({ session }) => ({ edge: process.id, session }))
    owners.multicast.fanOut(targets, shared, 'kept')
    await settled()
    one.connection.send('</stream:stream>')
    await settled()
    expect(returnedOf(puppets)).toEqual([])
    two.connection.send('</stream:stream>')
    await settled()
    expect(ids(returnedOf(puppets))).toEqual(['m1'])
  })

  test('a message whose writing ends one of two sessions goes back from neither: the other has it', async () => {
    const puppets = startPuppets()
    const { owners, process } = puppets
    const [one, two] = [await managed(puppets, `<enable xmlns='${NS_SM}'/>`), await managed(puppets)]
    one.connection.unsentBytes = 100 * 1024 * 1024
    const shared = stanza('message', parseJid('juliet@example.org/x'), { to: parseJid('romeo@example.org'), id: 'm1' })
    const targets = [one, two].map(({ session }) => ({ edge: process.id, session }))
    owners.multicast.fanOut(targets, shared, 'kept')
    await settled()
    expect(one.connection.destroyed).toBe(true)
    expect([returnedOf(puppets), idsIn(two.connection.take())]).toEqual([[], ['m1']])
    two.connection.send('</stream:stream>')
    await settled()
    expect(ids(returnedOf(puppets))).toEqual(['m1'])
  })

  test('one of whose message a session without stream management has had does not give it back', async () => {
    const puppets = startPuppets()
    const { owners, process, edge } = puppets
    const one = await managed(puppets)
    const plain = connect(puppets.open.onConnection)
    await plain.logIn('romeo@example.org', 'phone')
    const targets = [...edge.sessions.keys()].map((session) => ({ edge: process.id, session }))
    owners.multicast.fanOut(targets, stanza('message', parseJid('juliet@example.org/x'), { id: 'm1' }), 'kept')
    await settled()
    one.connection.send('</stream:stream>')
    await settled()
    expect(returnedOf(puppets)).toEqual([])
  })

  test('an edge that stops used to leave its clients to say again what was being handled', async () => {
    const puppets = startPuppets()
    const { connection } = await managed(puppets)
    connection.send(message('juliet@example.org', 'm1'))
    await settled()
    const closing = puppets.open.close()
    connection.send(message('juliet@example.org', 'm2')) // is heard no more
    await settled()
    expect(connection.take()).toBe('')
    for (const { done } of puppets.owners.handed) done()
    puppets.owners.onEnvelope = ({ done }) => done()
    await closing
    expect(connection.take()).toMatch(new RegExp(`^${ack(1)}<stream:error><system-shutdown`))
  })

  test('an edge that stops waits for what is being handled, two seconds at most by the clock of this test', async () => {
    const clock = manualClock()
    const puppets = startPuppets({ clock })
    const { connection } = await managed(puppets)
    connection.send(message('juliet@example.org', 'm1'))
    await settled()
    const closing = puppets.open.close()
    await settled()
    clock.advance(2_001)
    await settled()
    expect(connection.take()).toMatch(new RegExp(`^${ack(0)}<stream:error><system-shutdown`))
    for (const { done } of puppets.owners.handed) done()
    puppets.owners.onEnvelope = ({ done }) => done()
    await closing
  })

  test('an edge that stops waits until what goes back has been taken', async () => {
    const puppets = startPuppets()
    const { owners, open, edge } = puppets
    const { connection, session } = await managed(puppets)
    const detached = await managed(puppets)
    deliver(puppets, session, 'm1')
    deliver(puppets, detached.session, 'm2')
    await settled()
    detached.connection.vanish()
    const closing = open.close()
    await settled()
    expect([streamError(connection), ids(returnedOf(puppets)).sort()]).toEqual(['system-shutdown', ['m1', 'm2']])
    expect(edge.leaving.size).toBe(2)
    for (const { done } of owners.handed) done()
    await closing
    expect(edge.leaving.size).toBe(0)
  })

  test('for five seconds at most, and says so where that was not enough', async () => {
    const clock = manualClock()
    const puppets = startPuppets({ clock })
    const { connection, session } = await managed(puppets)
    deliver(puppets, session, 'm1')
    await settled()
    connection.vanish()
    const closing = puppets.open.close()
    stops.pop() // nobody acks it any more
    await settled()
    clock.advance(5_001)
    await closing
    expect(puppets.process.log.lines.filter(({ event }) => event === 'sessions.not_settled')).toMatchObject([
      { level: 'warn', fields: { sessions: 1 } },
    ])
  })
})

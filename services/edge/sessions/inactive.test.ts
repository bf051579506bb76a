import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { manualClock } from '#core/clock.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT, NS_PUBSUB_EVENT } from '#xmpp/ns.ts'
import { type Element, el, type Stanza, type StanzaHead, stanza } from '#xmpp/stanza.ts'
import { connect, type FakeConnection, makeAccount, settled, startRoles, testProcess } from '../edge.fixture.ts'
import { openEdge } from '../main.ts'
import {
  ack,
  deliver,
  ENABLE,
  idsIn,
  loggedIn,
  type Puppets,
  resume,
  returnedOf,
  startPuppets,
  stops,
} from '../puppets.fixture.ts'
import { Broadcast } from '../watching/broadcast.ts'
import { Inactive } from './inactive.ts'

const NS_CSI = 'urn:xmpp:csi:0'
const ACTIVE = `<active xmlns='${NS_CSI}'/>`
const INACTIVE = `<inactive xmlns='${NS_CSI}'/>`
const CHAT_STATES = 'http://jabber.org/protocol/chatstates'

function presence(from: string, id: string, head: StanzaHead = {}): Stanza {
  return stanza('presence', parseJid(from), { id, ...head })
}

function event(from: string, id: string, node: string, ...items: readonly Element[]): Stanza {
  const inside = el('items', NS_PUBSUB_EVENT, { node }, ...items)
  return stanza('message', parseJid(from), { id, type: 'headline' }, el('event', NS_PUBSUB_EVENT, {}, inside))
}

const item = (id: string) => el('item', NS_PUBSUB_EVENT, { id })
const retract = (id: string) => el('retract', NS_PUBSUB_EVENT, { id })

const CHAT_STATE = el('composing', CHAT_STATES)

/** What waits for one client, and what has gone out. */
function inactive(max = 1000) {
  const sent: string[] = []
  const told = { dropped: 0 }
  const waiting = new Inactive(max, {
    send: ({ stanza }) => sent.push(stanza.id),
    dropped: () => told.dropped++,
  })
  return {
    waiting,
    sent,
    told,
    hold(shown: Stanza, isNew = false) {
      waiting.hold(new Broadcast(shown, manualClock()), isNew)
    },
    flushed() {
      waiting.flush()
      return sent.splice(0)
    },
  }
}

describe('of what waits only the latest goes out', () => {
  test('of presence that of each resource of each contact, in the order of the last changes', () => {
    const { hold, flushed, told } = inactive()
    hold(presence('juliet@example.org/a', 'j1'))
    hold(presence('juliet@example.org/b', 'b1'))
    hold(presence('nurse@example.org/a', 'n1'))
    hold(presence('juliet@example.org/a', 'j2'))
    hold(presence('juliet@example.org/a', 'j3'))
    expect(flushed()).toEqual(['b1', 'n1', 'j3'])
    expect(told.dropped).toBe(2)
    expect(flushed()).toEqual([])
  })

  test('a contact that has gone and come is shown as he is, and one that has come and gone as gone', () => {
    const { hold, flushed } = inactive()
    hold(presence('juliet@example.org/a', 'j1', { type: 'unavailable' }))
    hold(presence('juliet@example.org/a', 'j2'))
    hold(presence('nurse@example.org/a', 'n1'))
    hold(presence('nurse@example.org/a', 'n2', { type: 'unavailable' }))
    expect(flushed()).toEqual(['j2', 'n2'])
  })

  test('what the client was never shown and has gone again is not shown at all', () => {
    const { hold, flushed, told } = inactive()
    hold(presence('juliet@example.org/a', 'j1'), true)
    hold(presence('juliet@example.org/a', 'j2'))
    hold(presence('juliet@example.org/a', 'j3', { type: 'unavailable' }))
    expect(flushed()).toEqual([])
    expect(told.dropped).toBe(3)
    hold(presence('juliet@example.org/a', 'j4'), true)
    expect(flushed()).toEqual(['j4'])
    hold(presence('juliet@example.org/a', 'j5', { type: 'unavailable' }))
    expect(flushed()).toEqual(['j5'])
  })

  test('of an item of a node that of its last event; of a node that has only one, whatever its id', () => {
    const { hold, flushed } = inactive()
    const [juliet, nurse] = ['juliet@example.org', 'nurse@example.org'] as const
    hold(event(juliet, 'a1', 'urn:xmpp:avatar:metadata', item('1')))
    hold(event(nurse, 'a2', 'urn:xmpp:avatar:metadata', item('1')))
    hold(event(juliet, 'b1', 'urn:xmpp:bookmarks:1', item('room1')))
    hold(event(juliet, 'b2', 'urn:xmpp:bookmarks:1', item('room2')))
    hold(event(juliet, 'a3', 'urn:xmpp:avatar:metadata', item('2')))
    hold(event(juliet, 'b3', 'urn:xmpp:bookmarks:1', retract('room1')))
    expect(flushed()).toEqual(['a2', 'b2', 'a3', 'b3'])
  })

  test('an event of several items, or of none, takes the place of nothing', () => {
    const { hold, flushed } = inactive()
    const purge = (id: string) =>
      stanza('message', parseJid('juliet@example.org'), { id }, el('event', NS_PUBSUB_EVENT, {}, el('purge', NS_PUBSUB_EVENT)))
    hold(event('juliet@example.org', '1', 'urn:x', item('1'), item('2')))
    hold(purge('2'))
    hold(purge('3'))
    hold(event('juliet@example.org', '4', 'urn:x', item('1'), item('2')))
    hold(stanza('message', parseJid('juliet@example.org'), { id: '5' }))
    expect(flushed()).toEqual(['1', '2', '3', '4', '5'])
  })

  test('at the bound all of it goes out, and more may wait', () => {
    const { hold, flushed, sent } = inactive(3)
    for (const id of ['1', '2', '3', '4']) hold(presence(`juliet@example.org/${id}`, id))
    expect(sent.splice(0)).toEqual(['1', '2', '3'])
    expect(flushed()).toEqual(['4'])
  })

  test('the bound is of bytes, too', () => {
    const { hold, sent } = inactive()
    const status = el('status', NS_CLIENT, {}, 'x'.repeat(200_000))
    for (let i = 0; i < 6; i++) hold(stanza('presence', parseJid(`juliet@example.org/${i}`), { id: `${i}` }, status))
    expect(sent).toEqual(['0', '1', '2', '3', '4', '5'])
  })
})

test('whatever has waited, and whenever it goes out: the client sees then what it would have seen', () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('available'), resource: fc.nat(3), id: fc.nat() }),
    fc.record({ kind: fc.constant('unavailable'), resource: fc.nat(3), id: fc.nat() }),
    fc.record({ kind: fc.constant('flush'), resource: fc.constant(0), id: fc.constant(0) }),
  )
  const see = (view: Map<string, string>, { from, type, id }: Stanza) => {
    if (type === 'unavailable') view.delete(from.full)
    else view.set(from.full, id)
  }
  const entries = (view: ReadonlyMap<string, string>) => [...view].sort()
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 4 }), fc.array(step, { maxLength: 40 }), (max, steps) => {
      const [model, client] = [new Map<string, string>(), new Map<string, string>()]
      const waiting = new Inactive(max, { send: ({ stanza }) => see(client, stanza), dropped() {} })
      for (const { kind, resource, id } of steps) {
        const from = `juliet@example.org/${resource}`
        if (kind === 'flush') {
          waiting.flush()
          expect(entries(client)).toEqual(entries(model))
          continue
        }
        const shown = presence(from, `${id}`, kind === 'available' ? {} : { type: 'unavailable' })
        waiting.hold(new Broadcast(shown, manualClock()), !model.has(from)) // as edge/watching/audience.ts knows it
        see(model, shown)
      }
      waiting.flush()
      expect(entries(client)).toEqual(entries(model))
    }),
  )
})

/** A bound stream whose client is available, and its session. */
async function bound(puppets: Puppets, more = '', framing: 'stream' | 'frame' = 'stream') {
  const connection = connect(puppets.open.onConnection, { framing })
  await connection.logIn('romeo@example.org', 'garden')
  const session = [...puppets.edge.sessions.keys()].at(-1)!
  connection.send(`<presence xmlns='jabber:client'/>${more}`)
  if (more.includes('<enable')) await connection.until('<enabled')
  await settled()
  connection.take()
  return { connection, session }
}

/** To a session, which watches whoever it is of. */
function show({ edge, owners, process }: Puppets, session: string, shown: Stanza): Promise<void> {
  const watching = edge.sessions.get(session)
  if (watching !== undefined) edge.watching.audience.watch(watching.jid.bare, watching, [shown.from.bare])
  owners.multicast.shown(process.id, shown.from.bare, shown, { only: [], sessions: [session] })
  return settled()
}

const received = async (connection: FakeConnection) => {
  await settled()
  return idsIn(connection.take())
}

describe('XEP-0352 Client State Indication', () => {
  test('§4.1 it is advertised after the login, unless nothing is to wait', async () => {
    const features = async (puppets: Puppets) => (await loggedIn(puppets)).written
    expect(await features(startPuppets())).toContain(`<csi xmlns='${NS_CSI}'/>`)
    const without = startPuppets({ config: { limits: { inactiveStanzas: 0 } } })
    expect(await features(without)).not.toContain('csi')
    const { connection, session } = await bound(without, INACTIVE)
    await show(without, session, presence('juliet@example.org/a', 'j1'))
    expect(await received(connection)).toEqual(['j1'])
  })

  test.for(['stream', 'frame'] as const)(
    '§4.2 a client is active until it says otherwise, and again when it says so (%s)',
    async (framing) => {
      const puppets = startPuppets()
      const { connection, session } = await bound(puppets, '', framing)
      await show(puppets, session, presence('juliet@example.org/a', 'j1'))
      expect(connection.take()).toContain("from='juliet@example.org/a' to='romeo@example.org' id='j1'")
      connection.send(INACTIVE)
      await show(puppets, session, presence('juliet@example.org/a', 'j2'))
      await show(puppets, session, presence('juliet@example.org/a', 'j3'))
      expect(await received(connection)).toEqual([])
      connection.send(ACTIVE)
      expect(connection.take()).toContain("from='juliet@example.org/a' to='romeo@example.org' id='j3'")
      await show(puppets, session, presence('juliet@example.org/a', 'j4'))
      expect(await received(connection)).toEqual(['j4'])
      expect(puppets.process.metrics.text()).toContain('presence_suppressed_total{reason="inactive"} 1')
      expect(puppets.process.metrics.text()).toContain('presence_deliveries_total 3') // what has waited is counted when it is sent
    },
  )

  test('§5.1 what has waited is there before what the client asks behind <active/> is answered', async () => {
    const puppets = startPuppets()
    const { connection, session } = await bound(puppets, INACTIVE)
    await show(puppets, session, presence('juliet@example.org/a', 'j1'))
    connection.send(`${ACTIVE}<iq type='get' id='q' to='@'><ping xmlns='urn:xmpp:ping'/></iq>`)
    expect(await received(connection)).toEqual(['j1', 'q'])
  })

  test('a message finds what it would have found, and what comes behind it waits again', async () => {
    const puppets = startPuppets()
    const { connection, session } = await bound(puppets, INACTIVE)
    await show(puppets, session, presence('juliet@example.org/a', 'j1'))
    await show(puppets, session, presence('juliet@example.org/a', 'j2'))
    deliver(puppets, session, 'm1')
    await show(puppets, session, presence('juliet@example.org/a', 'j3'))
    expect(await received(connection)).toEqual(['j2', 'm1'])
    connection.send(ACTIVE)
    expect(await received(connection)).toEqual(['j3'])
  })

  test('directed presence, subscription stanzas and iqs do not wait', async () => {
    const puppets = startPuppets()
    const { connection, session } = await bound(puppets, INACTIVE)
    const to = { edge: puppets.process.id, session }
    puppets.owners.multicast.deliver(to, presence('juliet@example.org/a', 'directed'))
    puppets.owners.multicast.deliver(to, presence('nurse@example.org', 'subscribe', { type: 'subscribe' }))
    puppets.owners.multicast.deliver(to, stanza('iq', parseJid('example.org'), { id: 'push', type: 'set' }, el('x', 'urn:x')))
    expect(await received(connection)).toEqual(['directed', 'subscribe', 'push'])
  })

  test('a chat state that comes alone waits, of each sender the last; one with a body does not (XEP-0085 §5.6)', async () => {
    const puppets = startPuppets()
    const { connection, session } = await bound(puppets, INACTIVE)
    const say = (from: string, id: string, ...children: readonly Element[]) => {
      const message = stanza(
        'message',
        parseJid(from),
        { to: parseJid('romeo@example.org/garden'), id, type: 'chat' },
        ...children,
      )
      puppets.owners.multicast.deliver({ edge: puppets.process.id, session }, message)
    }
    say('juliet@example.org/a', 'c1', CHAT_STATE)
    say('nurse@example.org/a', 'c2', CHAT_STATE, el('no-store', 'urn:xmpp:hints'))
    say('juliet@example.org/a', 'c3', el('paused', CHAT_STATES), el('thread', NS_CLIENT, {}, '1'))
    expect(await received(connection)).toEqual([])
    say('juliet@example.org/a', 'm1', el('active', CHAT_STATES), el('body', NS_CLIENT, {}, 'here'))
    expect(await received(connection)).toEqual(['c2', 'c3', 'm1'])
    say('juliet@example.org/a', 'm2')
    expect(await received(connection)).toEqual(['m2'])
  })

  test('before a resource is bound it says nothing, and breaks nothing', async () => {
    const puppets = startPuppets()
    const connection = await loggedIn(puppets)
    connection.send(`${resume('nothing', 0)}${INACTIVE}`)
    await connection.until('<failed')
    await settled()
    expect(connection.ended).toBe(false)
  })

  test('§4.2 anything else in the namespace is no element of it', async () => {
    const { connection } = await bound(startPuppets())
    connection.send(`<asleep xmlns='${NS_CSI}'/>`)
    expect(connection.written).toContain('<unsupported-stanza-type')
  })
})

describe('with stream management (XEP-0198)', () => {
  test('the elements of XEP-0352 are not counted, and neither is what waits', async () => {
    const puppets = startPuppets()
    const { connection, session } = await bound(puppets, ENABLE)
    for (const { done } of puppets.owners.handed) done()
    connection.send(`${INACTIVE}${ACTIVE}${INACTIVE}<r xmlns='urn:xmpp:sm:3'/>`)
    expect(await connection.until('<a ')).toContain("h='0'")
    await show(puppets, session, presence('juliet@example.org/a', 'j1'))
    connection.send(ack(0))
    expect(connection.ended).toBe(false)
    connection.send(ACTIVE)
    expect(await received(connection)).toEqual(['j1'])
    connection.send(ack(1))
    expect(connection.ended).toBe(false)
    connection.send(ack(2))
    expect(connection.written).toContain('handled-count-too-high')
  })

  test('§5.2 a session that goes on is active, and gets what has waited behind what was not acknowledged', async () => {
    const puppets = startPuppets()
    const connection = connect(puppets.open.onConnection)
    await connection.logIn('romeo@example.org', 'garden')
    const session = [...puppets.edge.sessions.keys()].at(-1)!
    connection.send(`<presence/>${ENABLE}`)
    const previd = /id='([^']*)'/.exec(await connection.until('<enabled'))![1]!
    await settled()
    for (const { done } of puppets.owners.handed) done()
    deliver(puppets, session, 'm1')
    await settled()
    connection.send(INACTIVE)
    await show(puppets, session, presence('juliet@example.org/a', 'j1'))
    await show(puppets, session, presence('nurse@example.org/a', 'n1'))
    connection.vanish()
    await show(puppets, session, presence('juliet@example.org/a', 'j2'))
    const next = await loggedIn(puppets)
    next.send(resume(previd, 0))
    await next.until('<resumed')
    await settled()
    expect(idsIn(next.written).filter((id) => /^[jmn]\d$/.test(id!))).toEqual(['m1', 'n1', 'j2'])
    next.take()
    await show(puppets, session, presence('juliet@example.org/a', 'j3'))
    expect(await received(next)).toEqual(['j3'])
  })

  test.each(['its connection is lost', 'another stream would go on with it'])(
    'where more has waited than may wait for an absent client, the session ends when %s: it used to be kept for good',
    async (when) => {
      const puppets = startPuppets({ config: { limits: { unackedStanzas: 100 } } })
      const connection = connect(puppets.open.onConnection)
      await connection.logIn('romeo@example.org', 'garden')
      const session = [...puppets.edge.sessions.keys()].at(-1)!
      connection.send(`<presence/>${ENABLE}${INACTIVE}`)
      const previd = /id='([^']*)'/.exec(await connection.until('<enabled'))![1]!
      await settled()
      for (const { done } of puppets.owners.handed) done()
      for (let n = 0; n < 150; n++) await show(puppets, session, presence(`juliet@example.org/${n}`, `j${n}`))
      if (when === 'its connection is lost') connection.vanish()
      const next = await loggedIn(puppets)
      next.send(resume(previd, 0))
      await next.until('<failed')
      await settled()
      for (const { done } of puppets.owners.handed) done()
      await settled()
      const { detached, resumables, leaving } = puppets.edge
      expect([detached.size, resumables.size, leaving.size]).toEqual([0, 0, 0])
      expect(next.written).not.toContain('<resumed')
      expect(puppets.owners.summary().filter((one) => one.includes('closed'))).toEqual([
        'router signal session.closed',
        'presence signal session.closed',
      ])
    },
  )

  test('what has waited when the session ends goes nowhere', async () => {
    const puppets = startPuppets()
    const { connection, session } = await bound(puppets, `<enable xmlns='urn:xmpp:sm:3'/>${INACTIVE}`)
    for (const { done } of puppets.owners.handed) done()
    await show(puppets, session, event('juliet@example.org', 'e1', 'urn:x', item('1')))
    const to = parseJid('romeo@example.org/garden')
    puppets.owners.multicast.deliver(
      { edge: puppets.process.id, session },
      stanza('message', parseJid('juliet@example.org/a'), { to, id: 'c1', type: 'chat' }, CHAT_STATE),
    )
    await settled()
    connection.vanish()
    await settled()
    expect(returnedOf(puppets)).toEqual([])
  })

  test('an event that was sent and not acknowledged goes to nobody else', async () => {
    const puppets = startPuppets()
    const { connection, session } = await bound(puppets, "<enable xmlns='urn:xmpp:sm:3'/>")
    for (const { done } of puppets.owners.handed) done()
    await show(puppets, session, event('juliet@example.org', 'e1', 'urn:x', item('1')))
    expect(await received(connection)).toEqual(['e1'])
    connection.vanish()
    await settled()
    expect(returnedOf(puppets)).toEqual([])
  })
})

/** A server whose roles are real; `logIn` makes the account. */
async function withOwners() {
  const process = testProcess({ config: { presence: { windowMs: 0 } } })
  stops.push(await startRoles(process))
  const open = openEdge(process)
  stops.push(() => open.close())
  return async (account: string, resource: string) => {
    await makeAccount(process, account).catch(() => {})
    const connection = connect(open.onConnection)
    await connection.logIn(account, resource)
    return connection
  }
}

const quiet = () => settled(100)

/** Romeo sees Juliet. */
async function lovers() {
  const logIn = await withOwners()
  const romeo = await logIn('romeo@example.org', 'garden')
  const juliet = await logIn('juliet@example.org', 'chamber')
  romeo.send("<presence/><presence type='subscribe' to='juliet@example.org'/>")
  await quiet()
  juliet.send("<presence type='subscribed' to='romeo@example.org'/>")
  await quiet()
  romeo.take()
  return { romeo, juliet }
}

describe('with the owners of contacts behind it', () => {
  test('another resource of the account that was there before is gone when it has gone: it used to be taken for one never seen', async () => {
    const logIn = await withOwners()
    const desktop = await logIn('romeo@example.org', 'desktop')
    desktop.send('<presence/>')
    await quiet()
    const phone = await logIn('romeo@example.org', 'phone')
    phone.send('<presence/>')
    await quiet()
    expect(phone.take()).toContain("from='romeo@example.org/desktop'")
    phone.send(INACTIVE)
    desktop.send("<presence type='unavailable'/>")
    await quiet()
    expect(phone.take()).toBe('')
    phone.send(ACTIVE)
    expect(phone.take()).toBe("<presence from='romeo@example.org/desktop' to='romeo@example.org' type='unavailable'/>")
  })

  test('so is a contact who has shown himself by directed presence before he broadcast', async () => {
    const { romeo, juliet } = await lovers()
    juliet.send("<presence id='d' to='romeo@example.org'/>")
    await quiet()
    expect(await received(romeo)).toEqual(['d'])
    romeo.send(INACTIVE)
    juliet.send("<presence id='p1'/>")
    await quiet()
    juliet.send("<presence type='unavailable'/>")
    await quiet()
    romeo.send(ACTIVE)
    expect(romeo.take()).toBe("<presence from='juliet@example.org/chamber' to='romeo@example.org' type='unavailable'/>")
  })

  test('a contact who came and went while nobody looked is not shown; who came is, as he is at last', async () => {
    const { romeo, juliet } = await lovers()
    romeo.send(INACTIVE)
    for (const id of ['p1', 'p2', 'p3']) {
      juliet.send(`<presence id='${id}'/>`)
      await quiet()
      juliet.send("<presence type='unavailable'/>")
      await quiet()
    }
    romeo.send(ACTIVE)
    await quiet()
    expect(romeo.take()).toBe('')
    romeo.send(INACTIVE)
    juliet.send("<presence id='p4'/>")
    await quiet()
    juliet.send("<presence id='p5'><show>away</show></presence>")
    await quiet()
    expect(romeo.take()).toBe('')
    romeo.send(ACTIVE)
    await quiet()
    expect(await received(romeo)).toEqual(['p5'])
    romeo.send(INACTIVE)
    juliet.send("<presence type='unavailable'/>")
    await quiet()
    romeo.send(ACTIVE)
    expect(romeo.take()).toMatch(/^<presence from='juliet@example.org\/chamber' to='romeo@example.org' type='unavailable'\/>$/)
  })
})

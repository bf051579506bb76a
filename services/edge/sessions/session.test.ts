import fc from 'fast-check'
import { afterEach, describe, expect, test } from 'vitest'
import { manualClock } from '#core/clock.ts'
import { record, switchTracingOffBetweenTests } from '#core/observing/trace.fixture.ts'
import type { RoleName } from '#core/ownership/ownership.ts'
import { parseJid } from '#xmpp/jid.ts'
import { stanza } from '#xmpp/stanza.ts'
import {
  bind,
  boundSessions,
  connect,
  eventually,
  type FakeConnection,
  type Handed,
  makeAccount,
  type ProcessOptions,
  PuppetOwners,
  plainAuth,
  settled,
  startRoles,
  testProcess,
} from '../edge.fixture.ts'
import { UNSENT_FACTOR } from '../listeners/connection.ts'
import { type Edge, type OpenEdge, openEdge } from '../main.ts'
import type { EdgeSession } from './session.ts'

switchTracingOffBetweenTests()
const stops: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop()
})

interface TestEdge extends OpenEdge {
  readonly process: ReturnType<typeof testProcess>
  logIn(jid: string, options?: ConstructorParameters<typeof FakeConnection>[0]): Promise<FakeConnection>
}

async function start(options: ProcessOptions = {}): Promise<TestEdge> {
  const process = testProcess(options)
  stops.push(await startRoles(process))
  const open = openEdge(process)
  stops.push(() => open.close())
  return {
    ...open,
    process,
    async logIn(jid, options) {
      const [account, resource] = jid.split('/') as [string, string]
      await makeAccount(process, account).catch(() => {})
      const connection = connect(open.onConnection, options)
      await connection.logIn(account, resource)
      return connection
    },
  }
}

const message = (to: string, id: string) => `<message to='${to}' id='${id}' type='chat'><body>${id}</body></message>`
const rosterSet = (id: string) =>
  `<iq type='set' id='${id}'><query xmlns='jabber:iq:roster'><item jid='juliet@example.org'/></query></iq>`

function streamError(connection: FakeConnection): string | undefined {
  expect(connection.ended).toBe(true)
  return /<stream:error[^>]*><([a-z-]+) /.exec(connection.written)?.[1]
}

function errorIn(text: string): string | undefined {
  return /<error type='([a-z]+)'><([a-z-]+) /.exec(text)?.slice(1).join(' ')
}

describe('RFC 6120 §8.1 what a bound client may send', () => {
  test('§8.1.2.1 from is stamped, whatever of his own the client wrote', async () => {
    const { logIn } = await start()
    const romeo = await logIn('romeo@example.org/garden')
    const own = ['romeo@example.org/garden', 'Romeo@example.org', 'romeo@EXAMPLE.org/garden', 'romeo@example.org/another']
    for (const from of ['', ...own.map((jid) => `from='${jid}'`)]) {
      romeo.send(`<message to='romeo@example.org/garden' ${from}><body>x</body></message>`)
      expect(await romeo.until('</message>')).toContain("from='romeo@example.org/garden'")
    }
  })

  test.for(['juliet@example.org', 'juliet@example.org/garden', 'romeo@example.net', 'example.org', '', '@'])(
    '§4.9.3.9 invalid-from is for from=%s',
    async (from) => {
      const { logIn } = await start()
      const romeo = await logIn('romeo@example.org/garden')
      romeo.send(`<message to='juliet@example.org' from='${from}'/>`)
      expect(streamError(romeo)).toBe('invalid-from')
    },
  )

  test('§8.3.3.8 jid-malformed is for a to that is no JID; an error is not answered with one', async () => {
    const { logIn } = await start()
    const romeo = await logIn('romeo@example.org/garden')
    romeo.send("<message to='@example.org' id='1'><body>x</body></message>")
    expect(romeo.take()).toMatch(/^<message from='romeo@example.org' to='romeo@example.org\/garden' id='1' type='error'>/)
    romeo.send("<iq to='a@@' id='2' type='get'><ping xmlns='urn:xmpp:ping'/></iq>")
    expect(errorIn(romeo.take())).toBe('modify jid-malformed')
    romeo.send("<message to='@example.org' type='error'/><iq to='@' id='3' type='result'/>")
    expect([romeo.take(), romeo.ended]).toEqual(['', false])
  })

  test.for([
    ["type='get'", '<a xmlns="urn:x"/>', 'no id'],
    ["type='get' id='1'", '', 'a get without a child'],
    ["type='set' id='1'", '<a xmlns="urn:x"/><b xmlns="urn:x"/>', 'a set with two'],
    ["type='result' id='1'", '<a xmlns="urn:x"/><b xmlns="urn:x"/>', undefined],
    ["type='ask' id='1'", '<a xmlns="urn:x"/>', 'no known type'],
    ["id='1'", '<a xmlns="urn:x"/>', 'no type'],
  ])('§8.2.3 bad-request is for an iq %s%s', async ([attributes, inside, answered]) => {
    const { logIn } = await start()
    const romeo = await logIn('romeo@example.org/garden')
    romeo.send(`<iq ${attributes}>${inside}</iq>`)
    await settled()
    expect(errorIn(romeo.take())).toBe(answered === undefined ? undefined : 'modify bad-request')
    expect(romeo.ended).toBe(false)
  })

  test.for([
    "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
    '<message xmlns="jabber:server"/>',
    '<query/>',
    '<stream:features/>',
  ])('§4.9.3.24 unsupported-stanza-type is for %s', async (sent) => {
    const { logIn } = await start()
    const romeo = await logIn('romeo@example.org/garden')
    romeo.send(sent)
    expect(streamError(romeo)).toBe('unsupported-stanza-type')
  })

  test('§8.1.5 a stanza without a language has that of the stream', async () => {
    const { onConnection, process } = await start()
    await makeAccount(process, 'romeo@example.org')
    for (const [lang, expected] of [
      ['cy', "xml:lang='cy'"],
      ['x'.repeat(65), undefined],
    ] as const) {
      const romeo = connect(onConnection).open()
      romeo.send(plainAuth('romeo'))
      await romeo.until('<success')
      romeo.open('example.org', `version='1.0' xml:lang='${lang}'`).send(bind('garden'))
      await romeo.until('</iq>')
      romeo.send(
        message('romeo@example.org/garden', 'm') +
          "<message to='romeo@example.org/garden' xml:lang='en'><body>n</body></message>",
      )
      const [first, second] = (await romeo.until(/<body>n</)).split('</message>')
      if (expected === undefined) expect(first).not.toContain('xml:lang')
      else expect(first).toContain(expected)
      expect(second).toContain("xml:lang='en'")
    }
  })

  test('a session (RFC 3921) asked of somebody else is asked of him', async () => {
    const { logIn } = await start()
    const romeo = await logIn('romeo@example.org/garden')
    romeo.send("<iq type='set' id='s' to='juliet@example.org'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>")
    expect(await romeo.until('</iq>')).toMatch(/^<iq from='juliet@example.org'.* type='error'/)
  })
})

// With owners that do as they are told ------------------------------------------------------------------------------

interface PuppetEdge {
  readonly edge: Edge
  readonly open: OpenEdge
  readonly owners: PuppetOwners
  readonly process: ReturnType<typeof testProcess>
}

function startPuppets(options: ProcessOptions = {}): PuppetEdge {
  const process = testProcess(options)
  const owners = new PuppetOwners(process)
  const open = openEdge(process)
  stops.push(() => {
    owners.onEnvelope = ({ done }) => done()
    for (const { done } of owners.handed) done() // what the test has acked already is acked to nobody
    return open.close()
  })
  return { edge: open.edge, open, owners, process }
}

/** A bound stream. */
async function bound({ open, owners }: PuppetEdge, jid = 'romeo@example.org/garden'): Promise<FakeConnection> {
  const [account, resource] = jid.split('/') as [string, string]
  owners.knows(account)
  const connection = connect(open.onConnection)
  await connection.logIn(account, resource)
  return connection
}

describe('DESIGN: a session has unacked envelopes at one home at a time', () => {
  test('a message after a roster set waits for its ack, and the stream is not read meanwhile', async () => {
    const puppets = startPuppets()
    const { owners } = puppets
    const romeo = await bound(puppets)
    romeo.send(rosterSet('r1') + message('juliet@example.org', 'm1') + message('juliet@example.org', 'm2'))
    await settled()
    expect(owners.summary()).toEqual(['presence iq r1'])
    expect(romeo.paused).toBe(true)
    owners.handed[0]!.done()
    await settled()
    expect(owners.summary()).toEqual(['presence iq r1', 'router message m1', 'router message m2'])
    expect(romeo.paused).toBe(false)
  })

  test('whatever is sent, in whatever pieces, and however slowly it is acked: each comes once, in order, and nothing overtakes', async () => {
    const KINDS = [
      (id: string) => message('juliet@example.org', id),
      (id: string) => rosterSet(id),
      (id: string) => `<presence id='${id}'/>`,
      (id: string) => `<iq type='get' id='${id}' to='juliet@example.org/x'><a xmlns='urn:x'/></iq>`,
    ]
    const run = fc.asyncProperty(
      fc.array(fc.constantFrom(...KINDS), { minLength: 1, maxLength: 40 }),
      fc.integer({ min: 1, max: 8 }),
      fc.infiniteStream(fc.integer({ min: 1, max: 200 })),
      fc.infiniteStream(fc.boolean()),
      async (kinds, inFlightPerSession, cuts, acks) => {
        const puppets = startPuppets({ config: { limits: { inFlightPerSession } } })
        const { owners, open } = puppets
        const romeo = await bound(puppets)
        const open_: Handed[] = []
        let most = 0
        owners.onEnvelope = (handed) => {
          for (const other of open_) if (other.role !== handed.role) throw new Error('two homes at once')
          open_.push(handed)
          most = Math.max(most, open_.length)
        }
        const ids = kinds.map((_, n) => `s${n}`)
        const bytes = Buffer.from(kinds.map((make, n) => make(ids[n]!)).join(''))
        for (let at = 0; at < bytes.length; ) {
          const cut = cuts.next().value
          romeo.send(bytes.subarray(at, at + cut))
          at += cut
          if (acks.next().value) await settled(2)
          if (acks.next().value) open_.shift()?.done()
        }
        for (let idle = 0; idle < 6; idle = open_.length > 0 ? 0 : idle + 1) {
          open_.shift()?.done()
          await settled(2)
        }
        expect(puppets.process.log.lines.filter(({ level }) => level === 'error')).toEqual([])
        expect(owners.handed.map(({ envelope }) => envelope.kind === 'stanza' && envelope.stanza.id)).toEqual(ids)
        const numbers = owners.handed.map(({ envelope }) => (envelope.kind === 'stanza' ? envelope.origin!.n : 0))
        expect(numbers).toEqual(ids.map((_, n) => n + 1))
        expect(most).toBeLessThanOrEqual(inFlightPerSession)
        expect(romeo.paused).toBe(false)
        await open.close()
      },
    )
    await fc.assert(run, { numRuns: 60 })
  })
})

describe('back-pressure', () => {
  test('with as much unacked as a session may have it is not read from, until half of it is acked', async () => {
    const puppets = startPuppets({ config: { limits: { inFlightPerSession: 4 } } })
    const { owners } = puppets
    const romeo = await bound(puppets)
    for (let n = 1; n <= 10; n++) romeo.send(message('juliet@example.org', `m${n}`))
    await settled()
    expect([owners.handed.length, romeo.paused]).toEqual([4, true])
    owners.handed[0]!.done()
    await settled()
    expect([owners.handed.length, romeo.paused]).toEqual([4, true])
    owners.handed[1]!.done()
    await settled()
    expect([owners.handed.length, romeo.paused]).toEqual([6, true])
    for (let acked = 2; acked < owners.handed.length; acked++) {
      owners.handed[acked]!.done()
      await settled()
    }
    expect([owners.handed.length, romeo.paused]).toEqual([10, false])
  })

  test('a client that sends far ahead is not read from while there is something left of what it sent', async () => {
    const puppets = startPuppets({ config: { limits: { inFlightPerSession: 2 } } })
    const { owners } = puppets
    owners.onEnvelope = ({ done }) => done()
    const romeo = await bound(puppets)
    const chunk = Array.from({ length: 50 }, (_, n) => message('juliet@example.org', `m${n}`)).join('')
    let chunks = 0
    const data = romeo.events.data.bind(romeo.events)
    romeo.events.data = (bytes) => {
      chunks++
      data(bytes)
    }
    for (let n = 0; n < 10; n++) romeo.send(chunk)
    expect(chunks).toBeLessThanOrEqual(2)
    for (let handled = 0; handled < 400; handled = owners.handed.length) {
      expect((chunks - 2) * 50).toBeLessThanOrEqual(handled)
      await settled(1)
    }
    await eventually(() => owners.handed.length === 500, 'all of it to come')
    expect(romeo.paused).toBe(false)
  })

  test('an owner that is behind stops the session until it has caught up, whatever is acked meanwhile', async () => {
    const puppets = startPuppets()
    const { owners, edge } = puppets
    const romeo = await bound(puppets)
    let congested = true
    let relief = (): void => {}
    const { lanes } = edge
    const onRelief = (_role: RoleName, _account: string, resume: () => void) => (relief = resume)
    Object.assign(edge, { lanes: { ...lanes, congested: () => congested, onRelief } })
    romeo.send(message('juliet@example.org', 'm1') + message('juliet@example.org', 'm2'))
    await settled()
    owners.handed[0]!.done()
    await settled()
    expect(owners.summary()).toEqual(['router message m1'])
    congested = false
    relief()
    await settled()
    expect(owners.summary()).toEqual(['router message m1', 'router message m2'])
  })

  test('a client that does not take what it is sent is cut off', async () => {
    const puppets = startPuppets()
    const { edge, owners, process } = puppets
    const romeo = await bound(puppets)
    const [session] = edge.sessions.keys()
    const target = { edge: process.id, session: session! }
    romeo.unsentBytes = process.config.limits.writeBufferBytes * UNSENT_FACTOR
    owners.multicast.deliver(target, stanza('message', parseJid('juliet@example.org'), {}))
    await settled()
    expect(romeo.destroyed).toBe(false)
    romeo.unsentBytes++
    owners.multicast.deliver(target, stanza('message', parseJid('juliet@example.org'), {}))
    owners.multicast.deliver(target, stanza('message', parseJid('juliet@example.org'), {}))
    await settled()
    expect([romeo.destroyed, edge.sessions.size, edge.streams.size]).toEqual([true, 0, 0])
    expect(owners.summary()).toEqual(['router signal session.closed'])
    expect(process.log.lines.map(({ event }) => event)).toContain('stream.slow_reader')
  })
})

describe('a client that lags', () => {
  async function lagging() {
    const clock = manualClock()
    const puppets = startPuppets({ clock })
    const romeo = await bound(puppets)
    const { edge, owners, process } = puppets
    const [session] = edge.sessions.keys()
    romeo.unsentBytes = process.config.limits.writeBufferBytes + 1000
    owners.multicast.deliver({ edge: process.id, session: session! }, stanza('message', parseJid('juliet@example.org'), {}))
    await settled()
    return { clock, romeo, edge }
  }

  test('is spared while what waits for it becomes less', async () => {
    const { clock, romeo, edge } = await lagging()
    expect(edge.lagging.size).toBe(1)
    for (let n = 0; n < 10; n++) {
      clock.advance(25_000)
      romeo.unsentBytes -= 10
    }
    expect(romeo.destroyed).toBe(false)
    romeo.unsentBytes -= 10_000
    clock.advance(1_000)
    expect(edge.lagging.size).toBe(0)
    clock.advance(100_000)
    expect(romeo.destroyed).toBe(false)
  })

  test('is cut off when it has taken nothing for long', async () => {
    const { clock, romeo, edge } = await lagging()
    clock.advance(30_000)
    expect(romeo.destroyed).toBe(false)
    clock.advance(1_000)
    expect([romeo.destroyed, edge.lagging.size, edge.sessions.size]).toEqual([true, 0, 0])
  })
})

describe('tracing', () => {
  test('a message used to be in no trace: it is one from the edge of its sender to that of its recipient', async () => {
    const { logIn } = await start()
    const romeo = await logIn('romeo@example.org/garden')
    const juliet = await logIn('juliet@example.org/balcony')
    const spans = record()
    romeo.send(message('juliet@example.org/balcony', 'secret'))
    await juliet.until('secret')
    await settled()
    expect(spans.map(({ name, fields }) => [name, fields])).toEqual([
      ['stanza.received', {}],
      ['stanza.outbound', { role: 'router' }],
      ['stanza.inbound', { role: 'router' }],
      ['stanza.delivered', { role: 'edge' }],
    ])
    expect(spans.map(({ parent }) => parent)).toEqual([undefined, ...spans.slice(0, -1).map(({ context }) => context.spanId)])
    expect(new Set(spans.map(({ context }) => context.traceId)).size).toBe(1)
    expect(spans.every(({ ended }) => ended)).toBe(true)
  })

  test('the answer to an iq belongs to the trace of its question', async () => {
    const { logIn } = await start()
    const romeo = await logIn('romeo@example.org/garden')
    const spans = record()
    romeo.send("<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>")
    await romeo.until('</iq>')
    await settled()
    expect(spans.map(({ name }) => name)).toEqual(['stanza.received', 'stanza.outbound', 'iq.handled', 'stanza.delivered'])
    expect(new Set(spans.map(({ context }) => context.traceId)).size).toBe(1)
  })

  test('switched off, nothing is carried', async () => {
    const puppets = startPuppets()
    const romeo = await bound(puppets)
    romeo.send(message('juliet@example.org', 'm1'))
    await settled()
    expect(puppets.owners.handed.map(({ envelope }) => (envelope.kind === 'stanza' ? envelope.stanza.trace : 'none'))).toEqual([
      '',
    ])
  })
})

describe('what comes for a session', () => {
  test('before its client is told of the bind, it is kept, and comes behind the answer', async () => {
    const puppets = startPuppets()
    const { edge, owners, open, process } = puppets
    let release = (): void => {}
    owners.binding = new Promise<void>((resolve) => (release = resolve))
    owners.knows('romeo@example.org')
    const romeo = connect(open.onConnection)
    const bound = romeo.logIn('romeo@example.org', 'garden')
    await eventually(() => edge.early.size === 1, 'the bind to be asked for')
    const target = { edge: process.id, session: [...edge.early.keys()][0]! }
    owners.multicast.deliver(target, stanza('message', parseJid('juliet@example.org'), { id: 'early' }))
    owners.multicast.order(target, 'flag', { flag: 'carbons' })
    await settled()
    expect(romeo.written).not.toContain('early')
    release()
    await bound
    expect(romeo.written).toMatch(/<\/iq><message from='juliet@example.org' id='early'\/>$/)
    const [session] = edge.sessions.values() as Iterable<EdgeSession>
    expect([...session!.flags]).toEqual(['carbons'])
    owners.multicast.order(target, 'flag', { flag: 'carbons', off: true })
    await settled()
    expect([...session!.flags]).toEqual([])
    expect(edge.early.size).toBe(0)
  })

  test('an order to close ends the stream with its condition, and is sent behind what came before it', async () => {
    const puppets = startPuppets()
    const { edge, owners, process } = puppets
    const romeo = await bound(puppets)
    const target = { edge: process.id, session: [...edge.sessions.keys()][0]! }
    owners.multicast.deliver(target, stanza('message', parseJid('juliet@example.org'), { id: 'last' }))
    owners.multicast.order(target, 'close', { condition: 'not-authorized', text: 'gone & <forgotten>' })
    owners.multicast.deliver(target, stanza('message', parseJid('juliet@example.org'), { id: 'late' }))
    await settled()
    expect(streamError(romeo)).toBe('not-authorized')
    expect(romeo.take()).toMatch(/id='last'\/><stream:error>.*gone &amp; &lt;forgotten.*<\/stream:error><\/stream:stream>$/)
    expect(owners.summary()).toEqual(['router signal session.closed'])
  })

  test('for a session that is nobody’s, it is dropped', async () => {
    const { edge, owners, process } = startPuppets()
    owners.multicast.deliver({ edge: process.id, session: 'nobody' }, stanza('message', parseJid('juliet@example.org'), {}))
    owners.multicast.order({ edge: process.id, session: 'nobody' }, 'close', { condition: 'conflict' })
    await settled()
    expect([edge.early.size, process.log.lines.filter(({ level }) => level === 'error')]).toEqual([0, []])
  })
})

describe('the end of a session', () => {
  test('RFC 6120 §4.4 a closing tag is answered once all that came before it is', async () => {
    const { logIn, edge, process } = await start()
    const romeo = await logIn('romeo@example.org/garden')
    romeo.send(`${rosterSet('r1')}<iq type='get' id='q1' to='example.org'><a xmlns='urn:x'/></iq></stream:stream>`)
    await eventually(() => romeo.ended, 'the stream to end')
    expect(romeo.take()).toMatch(/<iq [^>]*id='r1' type='result'.*<iq [^>]*id='q1' type='error'.*<\/stream:stream>$/)
    expect(romeo.written).not.toContain('stream:error')
    expect([edge.sessions.size, edge.streams.size]).toEqual([0, 0])
    await eventually(async () => (await boundSessions(process, 'romeo@example.org')) === 0, 'the router to forget it')
    expect(edge.leaving.size).toBe(0)
  })

  test('a client that closes and does not wait for the answers is gone', async () => {
    const puppets = startPuppets()
    const { edge, owners } = puppets
    const romeo = await bound(puppets)
    romeo.send(`${message('juliet@example.org', 'm1')}</stream:stream>`)
    await settled()
    expect(romeo.ended).toBe(false)
    romeo.vanish()
    owners.handed[0]!.done()
    await settled()
    expect([edge.streams.size, owners.summary()]).toEqual([0, ['router message m1', 'router signal session.closed']])
  })

  test('the owners hear of it after the last stanza, also of one that waits for the other home', async () => {
    const puppets = startPuppets()
    const { edge, owners } = puppets
    const romeo = await bound(puppets)
    romeo.send(message('juliet@example.org', 'm1') + rosterSet('r1'))
    romeo.vanish()
    await settled()
    expect([owners.summary(), edge.leaving.size]).toEqual([['router message m1'], 1])
    owners.handed[0]!.done()
    await settled()
    expect(owners.summary().slice(1).sort()).toEqual([
      'presence iq r1',
      'presence signal session.closed',
      'router signal session.closed',
    ])
    expect(owners.summary().indexOf('presence iq r1')).toBeLessThan(owners.summary().indexOf('presence signal session.closed'))
    expect(edge.leaving.size).toBe(0)
  })

  test('presence hears of it once the last message is handled, so that `unavailable` does not overtake it', async () => {
    const puppets = startPuppets()
    const { owners, edge } = puppets
    const romeo = await bound(puppets)
    romeo.send('<presence/>')
    await settled()
    owners.handed[0]!.done()
    await settled()
    romeo.send(message('juliet@example.org', 'm1'))
    romeo.vanish()
    await settled()
    expect(owners.summary().slice(1)).toEqual(['router message m1', 'router signal session.closed'])
    expect(edge.leaving.size).toBe(1)
    owners.handed[1]!.done()
    await settled()
    expect(owners.summary().slice(3)).toEqual(['presence signal session.closed'])
    expect(edge.leaving.size).toBe(0)
  })

  test('presence hears nothing of a session that never spoke to it', async () => {
    const puppets = startPuppets()
    const romeo = await bound(puppets)
    romeo.vanish()
    romeo.vanish()
    await settled()
    expect(puppets.owners.summary()).toEqual(['router signal session.closed'])
  })

  test('§4.9.3.20 an edge that stops ends every stream with system-shutdown, and its owners know', async () => {
    const { logIn, edge, close, onConnection, process } = await start()
    const romeo = await logIn('romeo@example.org/garden')
    const stranger = connect(onConnection)
    romeo.send(rosterSet('r1') + message('juliet@example.org', 'm1'))
    await close()
    expect([streamError(romeo), streamError(stranger)]).toEqual(['system-shutdown', 'system-shutdown'])
    expect([edge.streams.size, edge.sessions.size, edge.leaving.size]).toEqual([0, 0, 0])
    await settled(2)
    expect(await boundSessions(process, 'romeo@example.org')).toBe(0)
    const late = connect(onConnection)
    await settled(1)
    expect(streamError(late)).toBe('system-shutdown')
  })
})

describe('a whole conversation', () => {
  test('two clients are in touch, one of them in frames', async () => {
    const { logIn } = await start()
    const romeo = await logIn('romeo@example.org/garden')
    const juliet = await logIn('juliet@example.org/balcony', { framing: 'frame' })
    juliet.send("<presence xmlns='jabber:client'/>")
    await settled()
    juliet.take()
    romeo.send(message('juliet@example.org', 'm1'))
    expect(await juliet.until('</message>')).toBe(
      "<message xmlns='jabber:client' from='romeo@example.org/garden' to='juliet@example.org' id='m1' type='chat'><body>m1</body></message>",
    )
    juliet.send(
      "<message xmlns='jabber:client' to='romeo@example.org/garden' id='m2'><body xml:lang='en'>&lt;&amp;</body></message>",
    )
    expect(await romeo.until('</message>')).toBe(
      "<message from='juliet@example.org/balcony' to='romeo@example.org/garden' id='m2'><body xml:lang='en'>&lt;&amp;</body></message>",
    )
  })
})

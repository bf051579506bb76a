import { describe, expect, test } from 'vitest'
import { memoryBus } from '#bus/memory.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT } from '#xmpp/ns.ts'
import { el, stanza } from '#xmpp/stanza.ts'
import { manualClock } from '../clock.ts'
import { memoryLog } from '../observing/log.ts'
import { Writer } from '../wire.ts'
import { partitionOf, soleOwnership } from './ownership.ts'
import { Resync, type Told, WAIT_MS } from './resync.ts'
import {
  beginPart,
  endPart,
  type ResyncRequest,
  readPart,
  readResyncRequest,
  resyncRequest,
  type ToldSession,
  type ToldWatches,
  writeSession,
  writeWatches,
} from './resync-frame.ts'

const told = (session: string, edge: string, more: Partial<ToldSession> = {}): ToldSession => ({
  ...{ session, edge, jid: parseJid(`romeo@example.org/${session}`), about: { sinceMs: 1, detached: false } },
  ...{ flags: [], directed: [], presence: undefined, ...more },
})

/** An owner, and edges that are asked. */
function setUp(edges: readonly string[]) {
  const clock = manualClock()
  const bus = memoryBus()
  const log = memoryLog()
  const live = new Set(edges)
  const late: string[] = []
  const seen: string[] = []
  let notice = (): void => {}
  const members = {
    live: () => [...live],
    candidates: () => [...live],
    speaksOf: () => 3,
    livenessOf: (edge: string) => (live.has(edge) ? ('live' as const) : ('gone' as const)),
    isCutOff: () => false,
    onChange: (listener: () => void) => {
      notice = listener
    },
    onRead: () => {},
    onFenced: () => {},
  }
  const resync: Resync = new Resync({ id: 'p1', bus, log, clock, members, ownership: soleOwnership('p1') }, 'presence', {
    onLate: (edge, { sessions }) =>
      void late.push(...sessions.map(({ session }) => `${edge} ${session}${resync.isEnded(session) ? ' has ended' : ''}`)),
    onSeen: (edge, jids) => void seen.push(...jids.map((jid) => `${edge} ${jid}`)),
  })
  const asked: ResyncRequest[] = []
  return {
    ...{ clock, bus, log, live, late, seen, resync, asked },
    /** The members are read. */
    notice: () => notice(),
    /** From now on somebody listens there; `answers` says what is published for each asking. */
    edge(name: string, answers: (request: ResyncRequest) => readonly Buffer[]): void {
      bus.subscribe(`resync.${name}`, (body, reply) => {
        const request = readResyncRequest(body)
        asked.push(request)
        reply(new Uint8Array(0))
        for (const part of answers(request)) bus.publish('resynced.presence.p1', part)
      })
    },
    async pass(ms: number): Promise<void> {
      for (let left = ms; left > 0; left -= 50) {
        await clock.settle(50)
        for (let turn = 0; turn < 4; turn++) await new Promise((resolve) => setImmediate(resolve))
      }
    },
  }
}

function part(edge: string, { id }: ResyncRequest, number: number, sessions: readonly ToldSession[], last = true): Buffer {
  const out = new Writer()
  const flagsAt = beginPart(out, edge, id, number)
  for (const session of sessions) writeSession(out, session)
  return endPart(out, flagsAt, { last })
}

function seenPart(edge: string, { id }: ResyncRequest, number: number, jids: readonly string[]): Buffer {
  const out = new Writer()
  const flagsAt = beginPart(out, edge, id, number)
  for (const jid of jids) out.text(jid)
  return endPart(out, flagsAt, { last: true, of: 'seen' })
}

function watchesPart(edge: string, { id }: ResyncRequest, number: number, told: Omit<ToldWatches, 'edge'>): Buffer {
  const out = new Writer()
  const flagsAt = beginPart(out, edge, id, number)
  writeWatches(out, told)
  return endPart(out, flagsAt, { last: true, of: 'watches' })
}

test('a session comes through as it was told', () => {
  const presence = stanza('presence', parseJid('romeo@example.org/a'), { id: 'p' }, el('show', NS_CLIENT, {}, 'away'))
  const about = { sinceMs: 5, detached: true, address: '192.0.2.1', transport: 'tcp', encrypted: true } as const
  const session = told('a', 'e1', { about, flags: ['carbons'], directed: [parseJid('room@example.org/me')], presence })
  const out = new Writer()
  const flagsAt = beginPart(out, 'e1', 7, 0)
  writeSession(out, session)
  writeSession(out, told('b', 'e1'))
  const read = readPart(endPart(out, flagsAt, {}))
  expect([read.edge, read.id, read.part, read.last, read.seen]).toEqual(['e1', 7, 0, false, []])
  expect(read.sessions).toEqual([{ ...session, presence: expect.anything() }, told('b', 'e1')])
  expect(Buffer.from(read.sessions[0]!.presence!.payload).toString()).toBe('<show>away</show>')
  const request = { version: 2, role: 'router', owner: 'p1', id: 9, epoch: 3, partitions: [0, 127] } as const
  expect(readResyncRequest(resyncRequest(request))).toEqual(request)
})

describe('an owner that gets partitions', () => {
  test('waits for all edges, whose parts come in any order', async () => {
    const { edge, resync, pass } = setUp(['e1', 'e2'])
    edge('e1', (asked) => [part('e1', asked, 1, [told('b', 'e1')]), part('e1', asked, 0, [told('a', 'e1')], false)])
    edge('e2', (asked) => [part('e2', asked, 0, [])])
    let sessions: readonly ToldSession[] | undefined
    void resync.ask([1, 2]).then((all) => (sessions = all.sessions))
    await pass(50)
    expect(sessions?.map(({ session }) => session).sort()).toEqual(['a', 'b'])
  })

  test('has nobody to wait for where there is no edge', async () => {
    expect(await setUp([]).resync.ask([1])).toEqual({ sessions: [], watches: [] })
  })

  test('asks again where a part was lost, and takes nothing of the answer before', async () => {
    const { edge, resync, pass, asked } = setUp(['e1'])
    edge('e1', (request) =>
      asked.length === 1
        ? [part('e1', request, 1, [told('old', 'e1')])]
        : [part('e1', request, 0, [told('a', 'e1')], false), part('e1', request, 1, [told('b', 'e1')])],
    )
    let sessions: readonly ToldSession[] | undefined
    void resync.ask([1]).then((all) => (sessions = all.sessions))
    await pass(400)
    expect(sessions).toBeUndefined()
    await pass(400)
    expect(sessions?.map(({ session }) => session)).toEqual(['a', 'b'])
  })

  test('waits for a silent edge so long and no longer, and takes what it says later but for what has ended meanwhile', async () => {
    const { edge, resync, pass, late, log } = setUp(['e1', 'e2'])
    let speaks = false
    edge('e1', (request) => [part('e1', request, 0, [told('a', 'e1')])])
    edge('e2', (request) => (speaks ? [part('e2', request, 0, [told('b', 'e2'), told('c', 'e2')])] : []))
    let sessions: readonly ToldSession[] | undefined
    void resync.ask([1]).then((all) => (sessions = all.sessions))
    await pass(WAIT_MS - 200)
    expect(sessions).toBeUndefined()
    await pass(400)
    expect(sessions?.map(({ session }) => session)).toEqual(['a'])
    expect(log.lines.map(({ event }) => event)).toEqual(['resync.not_waited_for'])
    resync.noteEnded('c')
    speaks = true
    await pass(2_500)
    expect(late).toEqual(['e2 b', 'e2 c has ended'])
    resync.noteEnded('d') // nobody is late any more
    expect([resync.isEnded('c'), resync.isEnded('d')]).toEqual([false, false])
  })

  test('waits no longer for an edge that dies', async () => {
    const { edge, resync, pass, live } = setUp(['e1'])
    edge('e1', () => [])
    let isOver = false
    void resync.ask([1]).then(() => (isOver = true))
    await pass(500)
    live.delete('e1')
    await pass(200)
    expect(isOver).toBe(true)
  })

  test('nor, for long, for one that is just being started: nobody listens there', async () => {
    const { resync, pass } = setUp(['e1'])
    let isOver = false
    void resync.ask([1]).then(() => (isOver = true))
    await pass(500)
    expect(isOver).toBe(false)
    await pass(1_000)
    expect(isOver).toBe(true)
  })

  test('but for one that has been there for longer: it has lost its way to the bus, and has clients', async () => {
    const { edge, resync, pass, late, notice } = setUp(['e1'])
    notice()
    await pass(11_000)
    let sessions: readonly ToldSession[] | undefined
    void resync.ask([1]).then((all) => (sessions = all.sessions))
    expect(resync.waitsFor('romeo@example.org')).toBe(false) // he is in another partition
    await pass(2_000)
    expect(sessions).toBeUndefined()
    edge('e1', (request) => [part('e1', request, 0, [told('a', 'e1')])])
    await pass(500)
    expect([sessions?.map(({ session }) => session), late]).toEqual([['a'], []])
  })

  test('may still be told of an account by those edges that have not answered', async () => {
    const { edge, resync, pass } = setUp(['e1', 'e2'])
    edge('e1', (request) => [part('e1', request, 0, [])])
    edge('e2', () => [])
    void resync.ask([partitionOf('romeo@example.org')])
    const waitsFor = (edge?: string) => resync.waitsFor('romeo@example.org', edge)
    expect([waitsFor('e1'), waitsFor('e2')]).toEqual([true, true])
    await pass(WAIT_MS + 200)
    expect([waitsFor('e1'), waitsFor('e2')]).toEqual([false, true])
    expect(waitsFor()).toBe(true)
    resync.drop()
    expect(waitsFor()).toBe(false)
  })

  test('is told whom clients see only when all edges have told of their sessions', async () => {
    const { edge, resync, pass, seen } = setUp(['e1', 'e2'])
    let speaks = false
    edge('e1', (request) => [part('e1', request, 0, [], false), seenPart('e1', request, 1, ['juliet@example.org/x'])])
    edge('e2', (request) => (speaks ? [part('e2', request, 0, [])] : []))
    void resync.ask([1])
    await pass(WAIT_MS + 200)
    expect(seen).toEqual([])
    speaks = true
    await pass(2_500)
    expect(seen).toEqual(['e1 juliet@example.org/x'])
  })

  test('is told who watches its accounts, each with his edge', async () => {
    const { edge, resync, pass } = setUp(['e1', 'e2'])
    const watches = { contact: 'romeo@example.org', watchers: ['a@example.org', 'b@example.org'], admitted: ['a@example.org'] }
    for (const name of ['e1', 'e2'])
      edge(name, (request) => [part(name, request, 0, [], false), watchesPart(name, request, 1, watches)])
    let told: Told | undefined
    void resync.ask([1]).then((all) => (told = all))
    await pass(50)
    expect(told).toEqual({ sessions: [], watches: ['e1', 'e2'].map((edge) => ({ edge, ...watches })) })
  })

  test('who is fenced waits for nothing, and hears nothing', async () => {
    const { edge, resync, pass, late, clock } = setUp(['e1'])
    const requests: ResyncRequest[] = []
    edge('e1', (request) => {
      requests.push(request)
      return []
    })
    let sessions: readonly ToldSession[] | undefined
    void resync.ask([1]).then((all) => (sessions = all.sessions))
    await pass(50)
    resync.drop()
    await pass(50)
    expect([sessions, clock.pending()]).toEqual([[], 0])
    expect(late).toEqual([])
    expect(requests).toHaveLength(1)
  })
})

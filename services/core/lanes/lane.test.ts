import { describe, expect, test } from 'vitest'
import type { Bus } from '#bus/bus.ts'
import { memoryBus } from '#bus/memory.ts'
import { parseJid } from '#xmpp/jid.ts'
import { stanza } from '#xmpp/stanza.ts'
import { manualClock } from '../clock.ts'
import { ENVELOPE_VERSION, type Envelope } from '../envelope.ts'
import { type Log, memoryLog } from '../observing/log.ts'
import { soleOwnership } from '../ownership/ownership.ts'
import { Writer } from '../wire.ts'
import { openLanes } from './lane.ts'
import { type Ways, writeAckHead } from './lane-frame.ts'
import { receiveLanes } from './lane-receiver.ts'
import { LANE_PENDING_BYTES_MAX, LANE_PENDING_MAX } from './lane-source.ts'

const signal = (name: string): Envelope => ({ kind: 'signal', account: 'romeo@a', name, fields: {} })

async function turns(count = 4): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve))
}

const waysOf = (bus: Bus, log: Log): Ways => ({ bus, ownership: soleOwnership('owner'), clock: manualClock(), log })

/** A source, and an owner that keeps what comes until it is handled. */
function setUp() {
  const bodies: string[] = []
  const inner = memoryBus()
  const bus: Bus = {
    ...inner,
    lossless: true,
    publish(subject, body) {
      bodies.push(subject)
      inner.publish(subject, body)
    },
    subscribe: (...args) => inner.subscribe(...args),
  }
  const log = memoryLog()
  const ways = waysOf(bus, log)
  const came: { envelope: Envelope; done: () => void }[] = []
  receiveLanes(ways, 'router', 'owner', (envelope, done) => void came.push({ envelope, done }))
  const lanes = openLanes(ways, 'source')
  const names = () => came.map(({ envelope }) => (envelope as { name: string }).name)
  return { bus, log, lanes, came, names, bodies }
}

describe('a lane', () => {
  test('brings envelopes in order, those of one turn in one body', async () => {
    const { lanes, names, bodies } = setUp()
    for (const name of ['one', 'two', 'three']) lanes.send('router', 'romeo@a', signal(name))
    await turns()
    lanes.send('router', 'romeo@a', signal('four'))
    await turns()
    expect(names()).toEqual(['one', 'two', 'three', 'four'])
    expect(bodies).toEqual(['lane.router.owner', 'lane.router.owner'])
  })

  test('acks what is handled, in whatever order that is', async () => {
    const { lanes, came, bodies } = setUp()
    const acked: string[] = []
    for (const name of ['one', 'two', 'three']) lanes.send('router', 'romeo@a', signal(name), () => acked.push(name))
    await turns()
    expect(acked).toEqual([])
    came[2]!.done()
    came[0]!.done()
    await turns()
    expect(acked).toEqual(['three', 'one'])
    expect(bodies.filter((subject) => subject === `ack.${lanes.source}`)).toHaveLength(1)
    came[1]!.done()
    await turns()
    expect(acked).toEqual(['three', 'one', 'two'])
  })

  test('gives one function the token of each envelope that is acked', async () => {
    const { lanes, came } = setUp()
    const acked: number[] = []
    const onAck = (token: number): void => void acked.push(token)
    for (const token of [7, 8]) lanes.send('router', 'romeo@a', signal('x'), onAck, token)
    lanes.send('router', 'romeo@a', signal('x'), onAck)
    await turns()
    for (const { done } of came.reverse()) done()
    await turns()
    expect(acked).toEqual([0, 8, 7])
  })

  test('a second ack of the same is none', async () => {
    const { lanes, came } = setUp()
    let acks = 0
    lanes.send('router', 'romeo@a', signal('one'), () => acks++)
    await turns()
    came[0]!.done()
    came[0]!.done()
    await turns()
    expect(acks).toBe(1)
  })

  test('an id longer than 64 KiB used to spoil the frame it was in', async () => {
    const { lanes, came, log } = setUp()
    const long = stanza('message', parseJid('romeo@a/x'), { to: parseJid('juliet@b'), id: 'x'.repeat(100_000) })
    lanes.send('router', 'romeo@a', signal('before'))
    lanes.send('router', 'romeo@a', {
      kind: 'stanza',
      point: 'outbound',
      account: 'romeo@a',
      origin: undefined,
      stanza: long,
    })
    lanes.send('router', 'romeo@a', signal('behind'))
    await turns()
    expect(came).toHaveLength(3)
    expect(came[1]!.envelope).toMatchObject({ stanza: { id: long.id } })
    expect(log.lines).toEqual([])
  })

  test('much of it goes in several bodies, none near what the bus takes', async () => {
    const { lanes, came, bodies } = setUp()
    const large = stanza('message', parseJid('romeo@a/x'), { id: 'y'.repeat(60_000) })
    for (let i = 0; i < 30; i++) {
      lanes.send('router', 'romeo@a', {
        kind: 'stanza',
        point: 'outbound',
        account: 'romeo@a',
        origin: undefined,
        stanza: large,
      })
    }
    await turns()
    expect(came).toHaveLength(30)
    expect(bodies.length).toBeGreaterThan(3)
  })
})

describe('backpressure', () => {
  test('a lane with too much unacked is congested, and relieved when half of it is acked', async () => {
    const { lanes, came } = setUp()
    let relieved = 0
    for (let i = 0; i <= LANE_PENDING_MAX; i++) lanes.send('router', 'romeo@a', signal('x'))
    expect(lanes.congested('router', 'juliet@b')).toBe(true) // the same owner, and so the same lane
    expect(lanes.congested('presence', 'romeo@a')).toBe(false)
    lanes.onRelief('router', 'romeo@a', () => relieved++)
    await turns()
    for (const { done } of came.slice(0, LANE_PENDING_MAX / 2)) done()
    await turns()
    expect([relieved, lanes.congested('router', 'romeo@a')]).toEqual([0, false])
    came[LANE_PENDING_MAX / 2]!.done()
    await turns()
    expect(relieved).toBe(1)
    for (const { done } of came.slice(LANE_PENDING_MAX / 2 + 1)) done()
    await turns()
    expect(relieved).toBe(1)
  })
})

test('20 000 unacked envelopes of 260 kB each used to be no reason to stop a source', async () => {
  const { lanes, came } = setUp()
  const size = 260_000
  const large = stanza('message', parseJid('romeo@a/x'), { id: 'z'.repeat(size) })
  let relieved = 0
  const most = Math.floor(LANE_PENDING_BYTES_MAX / size)
  const send = () => {
    const envelope = { kind: 'stanza', point: 'outbound', account: 'romeo@a', origin: undefined, stanza: large } as const
    lanes.send('router', 'romeo@a', envelope)
  }
  for (let i = 0; i < most; i++) send()
  expect(lanes.congested('router', 'romeo@a')).toBe(false)
  send()
  expect(lanes.congested('router', 'romeo@a')).toBe(true)
  lanes.onRelief('router', 'romeo@a', () => relieved++)
  await turns()
  for (const { done } of came.slice(0, most / 2 - 1)) done()
  await turns()
  expect([relieved, lanes.congested('router', 'romeo@a')]).toEqual([0, false])
  for (const { done } of came.slice(most / 2 - 1, most / 2 + 2)) done()
  await turns()
  expect(relieved).toBe(1)
})

test('a full bus used to lose lanes and acks, so that a session was never read from again', async () => {
  const bus = memoryBus()
  bus.subscribe('edge.e', () => {})
  const fill = () => {
    for (let n = 0; n < 300; n++) bus.publish('edge.e', new Uint8Array(1024 * 1024))
  }
  const ways = waysOf(bus, memoryLog())
  receiveLanes(ways, 'router', 'owner', (_envelope, done) => {
    fill()
    done()
  })
  const lanes = openLanes(ways, 'source')
  let acked = 0
  fill()
  lanes.send('router', 'romeo@a', signal('one'), () => acked++)
  await turns(6)
  expect(acked).toBe(1)
})

describe('what goes wrong', () => {
  test('an envelope that breaks its handler is logged and acked, and those behind it are handled', async () => {
    const bus = memoryBus()
    const log = memoryLog()
    const came: string[] = []
    const ways = waysOf(bus, log)
    receiveLanes(ways, 'router', 'owner', (envelope, done) => {
      const { name } = envelope as { name: string }
      if (name === 'broken') throw new Error('our own bug')
      came.push(name)
      done()
    })
    const lanes = openLanes(ways, 'source')
    const acked: string[] = []
    for (const name of ['one', 'broken', 'two']) lanes.send('router', 'romeo@a', signal(name), () => acked.push(name))
    await turns()
    expect(came).toEqual(['one', 'two'])
    expect(acked).toEqual(['one', 'broken', 'two'])
    expect(log.lines).toMatchObject([{ level: 'error', event: 'envelope.refused', fields: { source: lanes.source } }])
  })

  test('an ack whose effect breaks does not take the others with it', async () => {
    const { lanes, came, log } = setUp()
    const acked: string[] = []
    lanes.send('router', 'romeo@a', signal('one'), () => {
      throw new Error('our own bug')
    })
    lanes.send('router', 'romeo@a', signal('two'), () => acked.push('two'))
    await turns()
    for (const { done } of came) done()
    await turns()
    expect(acked).toEqual(['two'])
    expect(log.lines).toMatchObject([{ event: 'ack.broke' }])
  })

  test('a frame of a version that is not spoken here is logged, and nothing of it handled', async () => {
    const { bus, came, log } = setUp()
    const out = new Writer()
    out.u8(ENVELOPE_VERSION + 1)
    out.text('source')
    bus.publish('lane.router.owner', out.take())
    await turns()
    expect(came).toEqual([])
    expect(log.lines).toMatchObject([{ event: 'lane.frame_refused' }])
  })

  test('an ack for a lane that was never opened is no fault', async () => {
    const { bus, lanes, log } = setUp()
    const out = new Writer()
    writeAckHead(out, 'presence', 'stranger')
    out.u32(1)
    bus.publish(`ack.${lanes.source}`, out.take())
    await turns()
    expect(log.lines).toEqual([])
  })

  test('an ack for a lane that is closed is no fault', async () => {
    const { lanes, came, log } = setUp()
    let acks = 0
    lanes.send('router', 'romeo@a', signal('one'), () => acks++)
    await turns()
    lanes.close()
    came[0]!.done()
    await turns()
    expect([acks, log.lines]).toEqual([0, []])
  })
})

describe('on a bus that tells when a turn ends', () => {
  /** One whose turn ends when the test says so. */
  function setUpTurns() {
    const due: (() => void)[] = []
    const bodies: string[] = []
    const inner = memoryBus()
    const bus: Bus = {
      lossless: false,
      publish(subject, body) {
        bodies.push(subject)
        inner.publish(subject, body)
      },
      subscribe: (...args) => inner.subscribe(...args),
      request: (...args) => inner.request(...args),
      drain: () => inner.drain(),
      status: (handler) => inner.status(handler),
      atTurnEnd: (flush) => void due.push(flush),
    }
    const ways = waysOf(bus, memoryLog())
    const came: { name: string; done: () => void }[] = []
    receiveLanes(ways, 'router', 'owner', (envelope, done) => void came.push({ name: (envelope as { name: string }).name, done }))
    const lanes = openLanes(ways, 'source')
    const endTurn = async () => {
      for (const flush of due.splice(0)) flush()
      await turns()
    }
    return { lanes, came, bodies, endTurn }
  }

  test('what several sockets of it bring goes in one body', async () => {
    const { lanes, came, bodies, endTurn } = setUpTurns()
    lanes.send('router', 'romeo@a', signal('one'))
    await turns() // the microtasks of one socket are over
    lanes.send('router', 'romeo@a', signal('two'))
    await turns()
    expect(bodies).toEqual([])
    await endTurn()
    expect(bodies).toEqual(['lane.router.owner'])
    expect(came.map(({ name }) => name)).toEqual(['one', 'two'])
  })

  test('so do the acks of what is handled in it', async () => {
    const { lanes, came, bodies, endTurn } = setUpTurns()
    const acked: string[] = []
    for (const name of ['one', 'two']) lanes.send('router', 'romeo@a', signal(name), () => acked.push(name))
    await endTurn()
    for (const { done } of came) {
      done()
      await turns()
    }
    expect(bodies).toEqual(['lane.router.owner'])
    await endTurn()
    expect(bodies).toEqual(['lane.router.owner', `ack.${lanes.source}`])
    expect(acked).toEqual(['one', 'two'])
  })
})

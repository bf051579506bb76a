import { describe, expect, test } from 'vitest'
import { memoryBus } from '#bus/memory.ts'
import { Random } from '#test/fuzz/random.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT } from '#xmpp/ns.ts'
import { el, stanza } from '#xmpp/stanza.ts'
import { manualClock } from '../clock.ts'
import { World } from '../lanes/lane.fixture.ts'
import { openLanes } from '../lanes/lane.ts'
import { receiveLanes } from '../lanes/lane-receiver.ts'
import { memoryLog } from '../observing/log.ts'
import { soleOwnership } from '../ownership/ownership.ts'
import { Reader, Writer } from '../wire.ts'
import { openMulticast } from './multicast.ts'
import { readEdgeAck, readEdgeHead } from './multicast-frame.ts'
import { KEPT_ALL_BYTES_MAX, KEPT_BYTES_MAX, Kept, Memory } from './multicast-memory.ts'
import { receiveMulticast, type Sender } from './multicast-receiver.ts'

const romeo = parseJid('romeo@a/x')
const message = (id: string, body = id) => stanza('message', romeo, { id }, el('body', NS_CLIENT, {}, body))

/** An owner and an edge. `said` is what goes between them: `1`, `repeat 1`, `lost 1`, `acks 1`, `asks behind 1`. */
function setUp() {
  const world = new World(new Random(1, 1), 'p1')
  const [owner, edge] = [world.node('p1'), world.node('e1')]
  const came: string[] = []
  const senders: Sender[] = []
  const said: string[] = []
  receiveMulticast(edge, 'e1', {
    delivery(delivery, sender) {
      came.push(delivery.kind === 'stanza' ? delivery.stanza.id : delivery.kind)
      senders.push(sender)
    },
    lost: ({ role, process }) => came.push(`lost by ${role} ${process}`),
  })
  const multicast = openMulticast(owner, 'router', 'p1')
  world.network.watch = (_bus, subject, body) => {
    if (subject.startsWith('edgeack.')) {
      const { number, gap } = readEdgeAck(new Reader(body))
      said.push(gap ? `asks behind ${number}` : `acks ${number}`)
    } else {
      const { number, kind } = readEdgeHead(new Reader(body))
      said.push(kind === 'deliveries' ? String(number) : `${kind} ${number}`)
    }
  }
  const send = async (...ids: string[]): Promise<void> => {
    for (const id of ids) {
      multicast.deliver({ edge: 'e1', session: 's1' }, message(id))
      await world.pass(0)
    }
  }
  const lose = async (...ids: string[]): Promise<void> => {
    world.network.faults.dropOneIn = 1
    await send(...ids)
    world.network.faults.dropOneIn = 0
  }
  return { world, owner, edge, multicast, came, senders, said, send, lose }
}

describe('a body that was lost', () => {
  test('is asked for once, and those behind it wait for it', async () => {
    const { world, came, said, send, lose } = setUp()
    await send('one')
    await lose('two')
    await send('three', 'four')
    await world.pass(50)
    expect(came).toEqual(['one', 'two', 'three', 'four'])
    expect(said).toEqual(['1', '2', '3', '4', 'asks behind 1', '2', '3', '4'])
    await world.pass(500)
    expect(said.at(-1)).toBe('acks 4')
  })

  test('and that was the last is missed when its number is said again', async () => {
    const { world, came, said, lose } = setUp()
    await lose('one')
    await world.pass(990)
    expect(came).toEqual([])
    await world.pass(100)
    expect([came, said]).toEqual([['one'], ['1', 'repeat 1', 'asks behind 0', '1']])
  })

  test('is asked for again twice a second, as the asking may be lost, too', async () => {
    const { world, came, said, send, lose } = setUp()
    await lose('one')
    const { faults } = world.network
    await send('two')
    faults.dropOneIn = 1
    await world.pass(1_700)
    expect(said.filter((each) => each === 'asks behind 0')).toHaveLength(4)
    faults.dropOneIn = 0
    await world.pass(600)
    expect(came).toEqual(['one', 'two'])
  })

  test('and that its owner keeps no more is told as a loss; the edge goes on', async () => {
    const { world, came, said, send } = setUp()
    await send('one')
    world.network.faults.dropOneIn = 1
    await send('two', 'three')
    await world.pass(12_000)
    world.network.faults.dropOneIn = 0
    said.length = 0
    await send('four')
    await world.pass(50)
    expect(came).toEqual(['one', 'lost by router p1', 'four'])
    expect(said).toEqual(['4', 'asks behind 1', 'lost 3', '4'])
  })

  test('by an owner who says nothing any more is given up: what came behind it is delivered, and nobody asks for ever', async () => {
    const { world, owner, came, said, send, lose } = setUp()
    await lose('one')
    await send('two')
    await lose('three')
    await send('four')
    owner.bus.turn('down')
    await world.pass(25_000)
    expect(came).toEqual(['lost by router p1', 'two', 'lost by router p1', 'four'])
    said.length = 0
    await world.pass(60_000)
    expect(said.filter((each) => !each.startsWith('repeat'))).toEqual([])
  })

  test.each([
    ['owner', 100_000],
    ['edge', 8_000],
    ['both', 100_000],
  ] as const)(
    'used to be forgotten after five seconds without a bus (of the %s): it comes when there is one',
    async (who, ms) => {
      const { world, owner, edge, came, said, send } = setUp()
      await send('one')
      await world.pass(50)
      const cut = who === 'both' ? [owner, edge] : [who === 'owner' ? owner : edge]
      for (const { bus } of cut) bus.turn('down')
      await send('two', 'three')
      await world.pass(ms)
      expect(came).toEqual(['one'])
      if (who !== 'edge') expect(said.filter((each) => each.startsWith('repeat'))).toEqual([])
      for (const { bus } of cut) bus.turn('up')
      await world.pass(200)
      expect(came).toEqual(['one', 'two', 'three'])
    },
  )

  test('is not given up by an edge that cannot ask', async () => {
    const { world, owner, edge, came, send, lose } = setUp()
    await lose('one')
    await send('two')
    for (const { bus } of [owner, edge]) bus.turn('down')
    await world.pass(100_000)
    for (const { bus } of [owner, edge]) bus.turn('up')
    await world.pass(600)
    expect(came).toEqual(['one', 'two'])
  })

  test('is asked for when the bus of the edge is back, however long its owner has been silent', async () => {
    const { world, edge, came, said, send } = setUp()
    await send('one')
    await world.pass(600)
    edge.bus.turn('down')
    await send('two')
    await world.pass(100_000)
    const repeated = said.filter((each) => each === 'repeat 2').length
    expect(repeated).toBeGreaterThan(50)
    expect(repeated).toBeLessThan(70) // and then no more: it may be gone for good
    said.length = 0
    edge.bus.turn('up')
    await world.pass(100)
    expect([came, said]).toEqual([
      ['one', 'lost by router p1'],
      ['asks behind 1', 'lost 2'],
    ])
  })
})

test('what has all come costs one ack half a second later, and then nothing', async () => {
  const { world, said, send } = setUp()
  await send('one', 'two', 'three')
  await world.pass(400)
  expect(said).toEqual(['1', '2', '3'])
  await world.pass(60_000)
  expect(said).toEqual(['1', '2', '3', 'acks 3'])
})

test('a body that comes twice is delivered once', async () => {
  const { world, came, send } = setUp()
  world.network.faults.twiceOneIn = 1
  await send('one', 'two')
  await world.pass(3_000)
  expect(came).toEqual(['one', 'two'])
})

test('each delivery says who sent it, and by which ownership row; what is gathered when that changes goes by the one before', async () => {
  const { world, owner, multicast, senders, said } = setUp()
  multicast.deliver({ edge: 'e1', session: 's1' }, message('one'))
  world.row.give([1], 'p1')
  owner.ownership.learn()
  multicast.deliver({ edge: 'e1', session: 's1' }, message('two'))
  await world.pass(50)
  expect(said).toEqual(['1', '2'])
  expect(senders).toEqual([
    { role: 'router', process: 'p1', epoch: 1 },
    { role: 'router', process: 'p1', epoch: 2 },
  ])
})

test('an owner that is not sure sends nothing, and all of it in order when it is', async () => {
  const { world, owner, came, said, send } = setUp()
  await send('one')
  owner.ownership.isSure = false
  await send('two', 'three')
  await world.pass(20_000)
  expect(said).toEqual(['1', 'acks 1'])
  owner.ownership.isSure = true
  await world.pass(50)
  expect(came).toEqual(['one', 'two', 'three'])
})

test('nor does it answer an edge that asks, meanwhile; nor forget what it is asked for', async () => {
  const { world, owner, came, said, send, lose } = setUp()
  await lose('one')
  await send('two')
  owner.ownership.isSure = false
  await world.pass(8_000)
  expect(said.filter((each) => !each.startsWith('asks'))).toEqual(['1', '2'])
  owner.ownership.isSure = true
  await world.pass(600)
  expect(came).toEqual(['one', 'two'])
})

test('when an owner ends, it waits until the edges have what it sent, or it keeps it no more', async () => {
  const { world, multicast, lose } = setUp()
  let settled = false
  await lose('one')
  void multicast.settled().then(() => (settled = true))
  await world.pass(500)
  expect(settled).toBe(false)
  await world.pass(2_000)
  expect(settled).toBe(true)
  multicast.close()
})

test.each(['up', 'down'] as const)('nor longer than for five seconds, the bus being %s', async (state) => {
  const { world, owner, multicast, lose } = setUp()
  await lose('one')
  world.network.faults.dropOneIn = 1
  owner.bus.turn(state)
  let settled = false
  void multicast.settled().then(() => (settled = true))
  await world.pass(3_000)
  expect(settled).toBe(false)
  await world.pass(4_000)
  expect(settled).toBe(true)
  multicast.close()
})

test('a delivery that no body can hold is refused, and leaves no gap', async () => {
  const { world, multicast, came, said, send } = setUp()
  multicast.deliver({ edge: 'e1', session: 's1' }, message('one'))
  expect(() => multicast.deliver({ edge: 'e1', session: 's1' }, message('large', 'x'.repeat(1024 * 1024)))).toThrow(RangeError)
  await send('two')
  await world.pass(3_000)
  expect(came).toEqual(['one', 'two'])
  expect(said).not.toContain('asks behind 1')
})

test('a body of version 2 is delivered', async () => {
  const EDGE_2 =
    'AhAAcm91dGVyLnAxLmFiY2RlZgAAAAAAAPA/AQAAAAAAAAEAAgBzMQAAABEAcm9tZW9AYS5leGFtcGxlL3gQAGp1bGlldEBiLmV4YW1wbGUCAG0xAQIAZW4TAHtqYWJiZXI6Y2xpZW50fWJvZHkPAAAAPGJvZHk+aGk8L2JvZHk+AQIAczEFAGNsb3NlFQB7ImNvbmRpdGlvbiI6InJlc2V0In0AAQIAAgBzMgIAczMAAAARAHJvbWVvQGEuZXhhbXBsZS94EABqdWxpZXRAYi5leGFtcGxlAgBtMQECAGVuEwB7amFiYmVyOmNsaWVudH1ib2R5DwAAADxib2R5PmhpPC9ib2R5Pg=='
  const { world, owner, came, said } = setUp()
  owner.bus.publish('edge.e1', Buffer.from(EDGE_2, 'base64'))
  await world.pass(3_000)
  expect(came).toEqual(['m1', 'order', 'm1'])
  expect(said).toContain('1')
})

test('bytes that are no edge frame, and bytes that are no ack, are logged', async () => {
  const { world, owner, edge, send } = setUp()
  let name = ''
  world.network.watch = (_bus, subject, body) => {
    if (subject === 'edge.e1' && name === '') name = readEdgeHead(new Reader(body)).owner
  }
  await send('one')
  owner.bus.publish('edge.e1', Uint8Array.of(2, 9))
  edge.bus.publish(`edgeack.${name}`, Uint8Array.of(77))
  await world.pass(50)
  expect(edge.log.lines).toMatchObject([{ level: 'error', event: 'delivery.refused' }])
  expect(owner.log.lines).toMatchObject([{ level: 'error', event: 'edge.ack_refused' }])
})

describe('what an owner keeps', () => {
  const body = (bytes: number) => new Uint8Array(bytes)

  test('for one edge is bounded, and the oldest goes', () => {
    const kept = new Kept(new Memory(), 0)
    for (let n = 1; n <= 6; n++) {
      kept.add(n, body(1024 * 1024))
      kept.send(0)
    }
    expect(kept.bytes).toBeLessThanOrEqual(KEPT_BYTES_MAX)
    expect([kept.lostUpTo, kept.behind(0).length]).toEqual([3, 3])
  })

  test('for all edges is bounded, and who takes most loses', () => {
    const memory = new Memory()
    const all = Array.from({ length: 30 }, () => new Kept(memory, 0))
    for (const [i, kept] of all.entries()) {
      for (let n = 1; n <= (i === 0 ? 1 : 3); n++) kept.add(n, body(1024 * 1024))
      memory.shrink()
    }
    expect(memory.bytes).toBeLessThanOrEqual(KEPT_ALL_BYTES_MAX)
    expect(all[0]!.lostUpTo).toBe(0)
    expect(all.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(memory.bytes)
  })

  test('goes ten seconds after it was sent; what waits to be sent is not aged', () => {
    const memory = new Memory()
    const kept = new Kept(memory, 0)
    kept.add(1, body(10))
    memory.ableMs = 60_000
    kept.age()
    expect([kept.unsent, kept.behind(0)]).toEqual([true, []])
    kept.send(0)
    memory.ableMs = 69_999
    kept.age()
    expect(kept.behind(0)).toHaveLength(1)
    memory.ableMs = 70_000
    kept.age()
    expect([kept.behind(0), kept.lostUpTo, kept.unacked, kept.bytes]).toEqual([[], 1, true, 0])
  })

  test('an ack of what was never sent acks nothing', () => {
    const kept = new Kept(new Memory(), 0)
    kept.add(1, body(10))
    kept.send(0)
    kept.acked(7, 0)
    expect(kept.unacked).toBe(true)
    kept.acked(1, 0)
    expect(kept.unacked).toBe(false)
  })
})

test('inside one process nothing is kept and nothing armed', async () => {
  const clock = manualClock()
  const ways = { bus: memoryBus(), ownership: soleOwnership('p1'), clock, log: memoryLog() }
  const multicast = openMulticast(ways, 'router', 'p1')
  receiveMulticast(ways, 'e1', { delivery: () => {}, lost: () => {} })
  receiveLanes(ways, 'router', 'p1', () => {})
  const lanes = openLanes(ways, 'e1')
  const signal = { kind: 'signal', account: 'romeo@a', name: 'x', fields: {} } as const
  lanes.send('router', 'romeo@a', signal)
  multicast.deliver({ edge: 'e1', session: 's1' }, message('one'))
  await clock.settle(60_000)
  expect(clock.pending()).toBe(0)
  await multicast.settled()
})

test('an edge ack names its edge', () => {
  const out = new Writer()
  out.u8(2)
  out.text('e1')
  out.f64(2 ** 40)
  out.u8(1)
  expect(readEdgeAck(new Reader(out.take()))).toEqual({ edge: 'e1', number: 2 ** 40, gap: true })
})

import { describe, expect, test } from 'vitest'
import { Random } from '#test/fuzz/random.ts'
import { type Envelope, writeEnvelope } from '../envelope.ts'
import { partitionOf } from '../ownership/ownership.ts'
import { Writer } from '../wire.ts'
import { World } from './lane.fixture.ts'
import { openLanes } from './lane.ts'
import { isAfter, numberAfter, writeAckHead, writeLaneHead } from './lane-frame.ts'
import { JULIET, message, ROMEO, setUp, toAll } from './lane-owners.fixture.ts'
import { receiveLanes } from './lane-receiver.ts'

describe('an owner that may have lost what it hands on', () => {
  /** What p9, which owns the nurse, has from her for Romeo. */
  function handingOn() {
    const set = setUp()
    const { world } = set
    const nurse = partitionOf('nurse@example.org')
    expect(nurse).not.toBe(partitionOf(ROMEO))
    const owner = world.node('p9')
    const lanes = openLanes(owner, 'routerp9')
    const handOn = (id: string): void =>
      lanes.send('router', ROMEO, { ...message(ROMEO, id), cause: `s1:${id}` } as Envelope, () => set.acked.push(id))
    return { ...set, nurse, owner, lanes, handOn }
  }

  test('used to have it stored twice, where its successor had handed it on already: it says that it comes again', async () => {
    const { world, p0, nurse, handOn, learn } = handingOn()
    handOn('one')
    await world.pass(10)
    world.row.give([nurse], 'p1')
    learn(p0.node)
    handOn('two')
    await world.pass(10)
    expect(p0.take()).toEqual(['one', 'two again'])
  })

  test('sends nothing until it is sure, and then all', async () => {
    const { world, owner, p0, said, handOn } = handingOn()
    owner.ownership.isSure = false
    handOn('one')
    handOn('two')
    await world.pass(5_000)
    expect(said).toEqual([])
    owner.ownership.isSure = true
    await world.pass(3_000)
    expect(p0.take()).toEqual(['one again', 'two again'])
  })

  test('and drops it never sends it', async () => {
    const { world, owner, lanes, p0, handOn } = handingOn()
    owner.ownership.isSure = false
    handOn('one')
    await world.pass(100)
    lanes.drop()
    owner.ownership.isSure = true
    handOn('two')
    await world.pass(3_000)
    expect(p0.take()).toEqual(['two'])
  })
})

describe('what is on its way for a partition', () => {
  test('is told until it is acked, also when it has gone to another owner', async () => {
    const { world, source, p0, p1, lanes, send, learn } = setUp()
    expect(lanes.carries('router', ROMEO)).toBe(false)
    send(ROMEO, 'one')
    await world.pass(10)
    p0.take()
    expect([lanes.carries('router', ROMEO), lanes.carries('router', JULIET), lanes.carries('presence', ROMEO)]).toEqual([
      true,
      false,
      false,
    ])
    world.row.give([partitionOf(ROMEO)], 'p1')
    learn(source, p0.node, p1.node)
    await world.pass(50)
    expect(lanes.carries('router', ROMEO)).toBe(true)
    p1.done()
    await world.pass(50)
    expect(lanes.carries('router', ROMEO)).toBe(false)
  })

  test('includes what one account alone is sent as one of many, and nothing that was dropped', () => {
    const { lanes } = setUp()
    lanes.send('router', ROMEO, toAll([ROMEO], 'one'))
    expect(lanes.carries('router', ROMEO)).toBe(true)
    lanes.drop()
    expect(lanes.carries('router', ROMEO)).toBe(false)
  })
})

describe('what the bus has lost is sent again', () => {
  test('a frame behind one that was lost is dropped, and the source is told once; then all comes in order', async () => {
    const { world, p0, said, send, lose } = setUp()
    await lose(() => send(ROMEO, 'one'))
    send(ROMEO, 'two')
    await world.pass(50)
    expect(said).toEqual(['lane p0: 1', 'lane p0: 2', 'status 0, open none, gap', 'lane p0: 1 2'])
    send(ROMEO, 'three')
    await world.pass(50)
    expect(p0.take()).toEqual(['one again', 'two again', 'three'])
  })

  test('several frames behind a gap are one status', async () => {
    const { world, p0, said, send, lose } = setUp()
    world.network.faults.delayMsMax = 0
    await lose(() => send(ROMEO, '1'))
    for (const id of ['2', '3', '4']) {
      send(ROMEO, id)
      await null
      await null
    }
    await world.pass(50)
    expect(said.filter((each) => each.startsWith('status'))).toHaveLength(1)
    expect(p0.take()).toEqual(['1 again', '2 again', '3 again', '4 again'])
  })

  test('the last frame is missed when nothing was heard for a second: a probe', async () => {
    const { world, p0, said, send, lose } = setUp()
    await lose(() => send(ROMEO, 'one'))
    await world.pass(2_000)
    expect(said).toEqual(['lane p0: 1', 'lane p0: probe', 'status 0, open none, gap', 'lane p0: 1'])
    expect(p0.take()).toEqual(['one again'])
  })

  test('and at once when the bus is back', async () => {
    const { world, source, p0, send } = setUp()
    source.bus.turn('down')
    send(ROMEO, 'one')
    await world.pass(50)
    source.bus.turn('up')
    await world.pass(50)
    expect(p0.take()).toEqual(['one again'])
  })

  test('what is handled and whose ack was lost is acked by the status, and not handled again', async () => {
    const { world, p0, acked, said, send, lose } = setUp()
    for (const id of ['one', 'two']) send(ROMEO, id)
    await world.pass(50)
    p0.take()
    await lose(() => p0.open[1]!())
    expect(acked).toEqual([])
    await world.pass(2_000)
    expect(acked).toEqual(['two'])
    expect(said.at(-1)).toBe('status 2, open 1')
    expect(p0.take()).toEqual([])
    p0.open[0]!()
    await world.pass(50)
    expect(acked).toEqual(['two', 'one'])
  })

  test('what takes long to be handled costs a probe and a status every two seconds, and is not sent again', async () => {
    const { world, p0, said, send } = setUp()
    send(ROMEO, 'one')
    await world.pass(4_500)
    expect(said).toEqual(['lane p0: 1', ...Array.from({ length: 2 }, () => ['lane p0: probe', 'status 1, open 1']).flat()])
    expect(p0.take()).toEqual(['one'])
  })

  test('an idle lane says nothing', async () => {
    const { world, p0, said, send } = setUp()
    send(ROMEO, 'one')
    await world.pass(50)
    p0.done()
    await world.pass(50)
    said.length = 0
    await world.pass(60_000)
    expect(said).toEqual([])
  })

  test('a duplicate is handled once, and acked again where it is handled', async () => {
    const { world, source, p0, acked, said, send } = setUp()
    const { watch } = world.network
    let frame: Uint8Array = Buffer.alloc(0)
    world.network.watch = (bus, subject, body) => {
      watch(bus, subject, body)
      if (subject === 'lane.router.p0') frame = body
    }
    for (const id of ['one', 'two']) send(ROMEO, id)
    await world.pass(50)
    p0.take()
    p0.open[0]!()
    await world.pass(50)
    source.bus.publish('lane.router.p0', frame)
    await world.pass(50)
    expect([p0.take(), acked]).toEqual([[], ['one']])
    expect(said).toEqual(['lane p0: 1 2', 'ack: 1', 'lane p0: 1 2', 'ack: 1'])
  })

  test('much of it comes in portions, each when the one before is known to have come', async () => {
    const { world, p0, lanes, said, lose } = setUp()
    const large = (n: number): Envelope => ({ ...message(ROMEO, `${n} ${'x'.repeat(200_000)}`) })
    await lose(() => {
      for (let n = 1; n <= 50; n++) lanes.send('router', ROMEO, large(n))
    })
    said.length = 0
    await world.pass(2_300)
    expect(said.filter((each) => each.startsWith('status')).length).toBeGreaterThan(2)
    expect(p0.take().map((each) => Number(each.split(' ')[0]))).toEqual(Array.from({ length: 50 }, (_, i) => i + 1))
  })
})

test('an ack that was lost used to be missed by nobody while acks of others kept coming', async () => {
  const { world, p0, acked, send, lose } = setUp()
  send(ROMEO, 'one')
  await world.pass(50)
  p0.take()
  await lose(() => p0.open[0]!())
  for (let n = 0; n < 6; n++) {
    send(JULIET, `m${n}`)
    await world.pass(250)
    p0.done()
    await world.pass(250)
  }
  expect(acked).toContain('one')
  expect(p0.take()).toEqual([])
})

test('a frame is missed though acks of others keep coming', async () => {
  const { world, p0, send, lose } = setUp()
  for (let n = 0; n < 10; n++) send(ROMEO, `m${n}`)
  await world.pass(50)
  p0.take()
  await lose(() => send(ROMEO, 'lost'))
  for (const done of p0.open.slice(0, 6)) {
    done()
    await world.pass(500)
  }
  expect(p0.take()).toEqual(['lost again'])
})

test('an owner that hears from a source which is ahead of it used to wait for somebody to tell it: it looks itself, once', async () => {
  const { world, source, p0, p1, send, learn } = setUp()
  let looked = 0
  p1.node.ownership.looked = () => void looked++
  world.row.give([partitionOf(ROMEO)], 'p1')
  learn(source, p0.node)
  for (const id of ['one', 'two']) {
    send(ROMEO, id)
    await world.pass(50)
  }
  expect([looked, p1.take()]).toEqual([1, []])
  learn(p1.node)
  await world.pass(50)
  expect(p1.take()).toEqual(['one', 'two'])
})

describe('when a partition has another owner', () => {
  test('what is unacked goes there first, in order, and says that it was sent before', async () => {
    const { world, source, p0, p1, acked, send, learn } = setUp()
    for (const id of ['one', 'two']) send(ROMEO, id)
    send(JULIET, 'other')
    await world.pass(50)
    p0.take()
    p0.open[0]!()
    await world.pass(50)
    world.row.give([partitionOf(ROMEO)], 'p1')
    learn(p0.node, p1.node, source)
    send(ROMEO, 'three')
    await world.pass(50)
    expect(p1.take()).toEqual(['two again', 'three'])
    expect(p0.take()).toEqual([])
    for (const done of [...p1.open, ...p0.open]) done() // p0 has lost what it began, and may still end it
    await world.pass(50)
    expect(acked).toEqual(['one', 'two', 'three', 'other'])
  })

  test('so does what was gathered in the same turn', async () => {
    const { world, source, p0, p1, send, learn } = setUp()
    world.row.give([partitionOf(ROMEO)], 'p1')
    learn(p0.node, p1.node)
    send(ROMEO, 'one')
    learn(source)
    send(ROMEO, 'two')
    await world.pass(50)
    expect([p0.take(), p1.take()]).toEqual([[], ['one again', 'two']])
  })

  test('what never reached the one before is missed there by nobody', async () => {
    const { world, source, p0, p1, said, send, lose, learn } = setUp()
    await lose(() => send(ROMEO, 'one'))
    world.row.give([partitionOf(ROMEO)], 'p1')
    learn(p0.node, p1.node, source)
    send(JULIET, 'two')
    await world.pass(50)
    expect([p0.take(), p1.take()]).toEqual([['two'], ['one again']])
    expect(said.filter((each) => each.startsWith('status'))).toEqual([])
  })

  test('what comes to a process that both know not to be the owner is not handled, and not acked', async () => {
    const { world, source, p1, said } = setUp()
    const out = new Writer()
    writeLaneHead(out, 'e9', 0, 1)
    out.u32(1)
    out.u8(0)
    const body = new Writer()
    writeEnvelope(body, message(ROMEO, 'one'))
    out.bytes(body.take())
    source.bus.publish('lane.router.p1', out.take())
    writeLaneHead(out, 'e9', 1, 1, true)
    source.bus.publish('lane.router.p1', out.take())
    await world.pass(50)
    expect([p1.take(), said.at(-1)]).toEqual([[], 'status 1, open 1'])
  })

  test('the same process anew is another owner', async () => {
    const { world, source, p0, acked, send, learn } = setUp()
    send(ROMEO, 'one')
    await world.pass(50)
    expect(p0.take()).toEqual(['one'])
    world.row.give([partitionOf(ROMEO)], 'p0')
    learn(p0.node, source)
    await world.pass(50)
    expect(p0.take()).toEqual(['one again'])
    p0.open[0]!() // of the time before
    await world.pass(50)
    expect(acked).toEqual([])
    p0.open[1]!()
    await world.pass(50)
    expect(acked).toEqual(['one'])
  })

  test('what nobody owns waits, and is then said to come again, as the sender may have another owner by then, too', async () => {
    const { world, source, p0, said, send, learn } = setUp()
    world.row.give([partitionOf(ROMEO)], '')
    learn(source, p0.node)
    send(ROMEO, 'one')
    await world.pass(3_000)
    expect(said).toEqual([])
    world.row.give([partitionOf(ROMEO)], 'p0')
    learn(source, p0.node)
    await world.pass(50)
    expect(p0.take()).toEqual(['one again'])
  })

  test('an envelope that its sender says has come before goes out so the first time', async () => {
    const { world, p0, lanes } = setUp()
    lanes.send('router', ROMEO, { ...(message(ROMEO, 'one') as Envelope & { kind: 'stanza' }), saidMs: 1 })
    await world.pass(50)
    expect(p0.take()).toEqual(['one again'])
  })

  test('an owner that has lost it does not take it, and says it is open until the source knows; then it is the next one’s', async () => {
    const { world, source, p0, p1, acked, said, send, learn } = setUp()
    world.row.give([partitionOf(ROMEO)], 'p1')
    learn(p0.node, p1.node)
    send(ROMEO, 'one')
    send(JULIET, 'two')
    await world.pass(2_500)
    expect(p0.take()).toEqual(['two'])
    expect(said.at(-1)).toBe('status 2, open 1 2')
    learn(source)
    await world.pass(50)
    expect(p1.take()).toEqual(['one again'])
    p0.done()
    p1.done()
    await world.pass(50)
    expect(acked.sort()).toEqual(['one', 'two'])
    send(JULIET, 'three')
    await world.pass(2_500)
    expect(said.at(-1)).toBe('status 3, open 3') // what was not its own is forgotten
  })

  test('an owner that does not know yet that it is one holds what comes until it does', async () => {
    const { world, source, p1, send, learn } = setUp()
    world.row.give([partitionOf(ROMEO)], 'p1')
    learn(source)
    send(ROMEO, 'one')
    await world.pass(500)
    send(ROMEO, 'two')
    await world.pass(500)
    expect(p1.take()).toEqual([])
    learn(p1.node)
    await world.pass(50)
    expect(p1.take()).toEqual(['one', 'two'])
  })

  test('it holds it for two seconds; after that it comes again', async () => {
    const { world, source, p1, said, send, learn } = setUp()
    world.row.give([partitionOf(ROMEO)], 'p1')
    learn(source)
    send(ROMEO, 'one')
    await world.pass(10_000)
    expect(said).not.toContain('status 0, open none, gap') // it goes by a row that it has not seen: no answer
    learn(p1.node)
    await world.pass(2_500)
    expect(p1.take()).toEqual(['one again'])
  })

  test('an owner that is not ready lets it wait, in order, while other partitions go on', async () => {
    const { world, p0, send } = setUp()
    const { unready } = p0.node.ownership
    unready.add(partitionOf(ROMEO))
    for (const id of ['one', 'two']) send(ROMEO, id)
    send(JULIET, 'other')
    await world.pass(100)
    expect(p0.take()).toEqual(['other'])
    unready.clear()
    send(ROMEO, 'three')
    await world.pass(50)
    expect(p0.take()).toEqual(['one', 'two', 'three'])
  })

  test('and hands it on when it is ready, though nothing else comes', async () => {
    const { world, p0, send } = setUp()
    p0.node.ownership.unready.add(partitionOf(ROMEO))
    send(ROMEO, 'one')
    await world.pass(100)
    p0.node.ownership.unready.clear()
    await world.pass(50)
    expect(p0.take()).toEqual(['one'])
  })

  test('what waits for a partition that is lost before it is ready is not handled, but is the next owner’s', async () => {
    const { world, source, p0, p1, send, learn } = setUp()
    p0.node.ownership.unready.add(partitionOf(ROMEO))
    send(ROMEO, 'one')
    await world.pass(100)
    world.row.give([partitionOf(ROMEO)], 'p1')
    learn(p0.node, p1.node, source)
    p0.node.ownership.unready.clear()
    await world.pass(100)
    expect([p0.take(), p1.take()]).toEqual([[], ['one again']])
  })
})

describe('an owner that is not sure', () => {
  test('acks nothing, and tells no status, until it is', async () => {
    const { world, p0, acked, said, send } = setUp()
    send(ROMEO, 'one')
    await world.pass(50)
    p0.node.ownership.isSure = false
    p0.done()
    await world.pass(5_000)
    expect([acked, said.filter((each) => !each.startsWith('lane'))]).toEqual([[], []])
    p0.node.ownership.isSure = true
    await world.pass(50)
    expect(acked).toEqual(['one'])
  })

  test('and never what it has lost meanwhile', async () => {
    const { world, p0, p1, acked, said, send, learn } = setUp()
    send(ROMEO, 'one')
    await world.pass(50)
    p0.node.ownership.isSure = false
    p0.done()
    world.row.give([partitionOf(ROMEO)], 'p1')
    learn(p0.node, p1.node)
    p0.node.ownership.isSure = true
    await world.pass(2_500)
    expect(acked).toEqual([])
    expect(said.at(-1)).toBe('status 1, open 1')
  })
})

describe('one envelope for accounts of several partitions', () => {
  const NURSE = 'nurse@example.org'
  const ALL = [ROMEO, JULIET, NURSE]

  test('of which one has another owner: that part goes there, the rest stays, and it is acked when both are handled', async () => {
    const { world, source, p0, p1, acked, lanes, learn } = setUp()
    lanes.send('router', ROMEO, toAll(ALL, 'shown'), () => acked.push('shown'))
    await world.pass(50)
    expect(p0.take()).toEqual(['shown to romeo,juliet,nurse'])
    world.row.give([partitionOf(JULIET)], 'p1')
    learn(p0.node, p1.node, source)
    await world.pass(50)
    expect(p1.take()).toEqual(['shown to juliet'])
    p1.done()
    await world.pass(50)
    expect(acked).toEqual([])
    p0.done()
    await world.pass(2_500)
    expect([acked, p0.take()]).toEqual([['shown'], []])
  })

  test('an owner that has lost one of them handles the rest, and acks it when the source has sent the other elsewhere', async () => {
    const { world, source, p0, p1, acked, lanes, learn } = setUp()
    world.row.give([partitionOf(JULIET)], 'p1')
    learn(p0.node, p1.node)
    lanes.send('router', ROMEO, toAll(ALL, 'shown'), () => acked.push('shown'))
    await world.pass(50)
    expect(p0.take()).toEqual(['shown to romeo,nurse'])
    p0.done()
    await world.pass(2_500)
    expect(acked).toEqual([])
    learn(source)
    await world.pass(50)
    p1.done()
    await world.pass(2_500)
    expect(acked).toEqual(['shown'])
  })

  test('those that are not ready wait for themselves', async () => {
    const { world, p0, acked, lanes, send } = setUp()
    p0.node.ownership.unready.add(partitionOf(JULIET))
    lanes.send('router', ROMEO, toAll(ALL, 'shown'), () => acked.push('shown'))
    send(JULIET, 'behind')
    await world.pass(50)
    expect(p0.take()).toEqual(['shown to romeo,nurse'])
    p0.done()
    await world.pass(50)
    expect(acked).toEqual([])
    p0.node.ownership.unready.clear()
    await world.pass(50)
    expect(p0.take()).toEqual(['shown to juliet', 'behind'])
    p0.done()
    await world.pass(50)
    expect(acked).toEqual(['shown', 'behind'])
  })

  test('for nobody at all is handled', async () => {
    const { world, acked, lanes, p0 } = setUp()
    lanes.send('router', ROMEO, toAll([], 'shown'), () => acked.push('shown'))
    await world.pass(50)
    p0.done()
    await world.pass(50)
    expect(acked).toEqual(['shown'])
  })
})

test('what is left of a frame that is mostly acked is the same when it is sent again', async () => {
  const { world, source, p0, p1, send, learn } = setUp()
  for (let n = 0; n < 100; n++) send(n === 50 ? ROMEO : JULIET, `m${n}`)
  await world.pass(50)
  p0.take()
  for (const [n, done] of p0.open.entries()) if (n !== 50) done()
  await world.pass(2_500)
  world.row.give([partitionOf(ROMEO)], 'p1')
  learn(p0.node, p1.node, source)
  await world.pass(50)
  expect(p1.take()).toEqual(['m50 again'])
})

describe('bytes from elsewhere', () => {
  /** `source`, to router owner: what `romeo@a.example` said as 7th in session s1, as another’s, a signal, and one for two. */
  const LANE_2 =
    'AgYAc291cmNlAAAAAAEAAAAAAQAAAAB8AAAAAAAPAHJvbWVvQGEuZXhhbXBsZQIAZTECAHMxAAAAAAAAHEAAAAARAHJvbWVvQGEuZXhhbXBsZS94EABqdWxpZXRAYi5leGFtcGxlAgBtMQECAGVuEwB7amFiYmVyOmNsaWVudH1ib2R5DwAAADxib2R5PmhpPC9ib2R5PgIAAAABdQAAAAABEABqdWxpZXRAYi5leGFtcGxlAAAEAHMxOjcAAAARAHJvbWVvQGEuZXhhbXBsZS94EABqdWxpZXRAYi5leGFtcGxlAgBtMQECAGVuEwB7amFiYmVyOmNsaWVudH1ib2R5DwAAADxib2R5PmhpPC9ib2R5PgMAAAAARAAAAAEPAHJvbWVvQGEuZXhhbXBsZQ4Ac2Vzc2lvbi5jbG9zZWQgAHsic2Vzc2lvbiI6InMxIiwibiI6MSwib2siOnRydWV9BAAAAAB2AAAAAgIACwBhQGEuZXhhbXBsZQsAYkBhLmV4YW1wbGUAAAARAHJvbWVvQGEuZXhhbXBsZS94EABqdWxpZXRAYi5leGFtcGxlAgBtMQECAGVuEwB7amFiYmVyOmNsaWVudH1ib2R5DwAAADxib2R5PmhpPC9ib2R5Pg=='
  const ACK_2 = 'AgYAcm91dGVyBQBvd25lcgQAAAAAAQAAAAIAAAADAAAABAAAAA=='

  test('a frame of version 2 is handled, each envelope in it', async () => {
    const world = new World(new Random(1, 1), 'owner')
    const node = world.node('owner')
    const came: Envelope[] = []
    receiveLanes(node, 'router', 'owner', (envelope, done) => {
      came.push(envelope)
      done()
    })
    node.bus.publish('lane.router.owner', Buffer.from(LANE_2, 'base64'))
    await world.pass(50)
    expect(node.log.lines).toEqual([])
    expect(came).toMatchObject([
      { point: 'outbound', account: 'romeo@a.example', origin: { edge: 'e1', session: 's1', n: 7 }, cause: '', saidMs: 0 },
      {
        point: 'inbound',
        account: 'juliet@b.example',
        cause: 's1:7',
        saidMs: expect.any(Number),
        stanza: { id: 'm1', type: 'chat', lang: 'en' },
      },
      { name: 'session.closed', fields: { session: 's1', n: 1, ok: true } },
      { kind: 'fanout', accounts: ['a@a.example', 'b@a.example'], stanza: { id: 'm1' } },
    ])
  })

  test('an ack of version 2 is one', async () => {
    const world = new World(new Random(1, 1), 'owner')
    const node = world.node('source')
    const lanes = openLanes(node, 'source')
    const acked: number[] = []
    for (const n of [1, 2, 3, 4, 5]) lanes.send('router', ROMEO, message(ROMEO, 'x'), () => acked.push(n))
    node.bus.publish(`ack.${lanes.source}`, Buffer.from(ACK_2, 'base64'))
    await world.pass(50)
    expect([acked, node.log.lines]).toEqual([[1, 2, 3, 4], []])
  })

  test('a frame that is cut short is logged, and what it had before that is handled', async () => {
    const { world, p0, send, source, lanes } = setUp()
    send(ROMEO, 'one')
    await world.pass(50)
    expect(p0.take()).toEqual(['one'])
    world.network.watch = () => {}
    const out = new Writer()
    out.u8(2)
    out.text(lanes.source)
    source.bus.publish('lane.router.p0', out.take())
    await world.pass(50)
    expect(p0.node.log.lines).toMatchObject([{ level: 'error', event: 'lane.frame_refused' }])
    send(ROMEO, 'two')
    await world.pass(50)
    expect(p0.take()).toEqual(['two'])
  })

  test('an ack of an owner that is none, or for a role that is none, changes nothing', async () => {
    const { world, acked, source, lanes, send } = setUp()
    send(ROMEO, 'one')
    for (const [role, owner] of [
      ['router', 'stranger'],
      ['nonsense', 'p0'],
    ] as const) {
      const out = new Writer()
      writeAckHead(out, role as 'router', owner)
      out.u32(1)
      source.bus.publish(`ack.${lanes.source}`, out.take())
    }
    await world.pass(50)
    expect([acked, source.log.lines]).toEqual([[], []])
  })
})

describe('an envelope that no body can hold', () => {
  test('is refused, and takes nothing with it', async () => {
    const { world, p0, lanes, send, acked } = setUp()
    send(ROMEO, 'before')
    expect(() => send(ROMEO, 'x'.repeat(1024 * 1024))).toThrow(RangeError)
    send(ROMEO, 'behind')
    await world.pass(50)
    expect(p0.take()).toEqual(['before', 'behind'])
    p0.done()
    await world.pass(50)
    expect([acked, lanes.congested('router', ROMEO)]).toEqual([['before', 'behind'], false])
  })

  test('one that fits, but not behind what is gathered, goes in a body of its own', async () => {
    const { world, p0, said, send } = setUp()
    send(ROMEO, 'y'.repeat(200_000))
    send(ROMEO, 'x'.repeat(1_000_000))
    await world.pass(50)
    expect(said).toEqual(['lane p0: 1', 'lane p0: 2'])
    expect(p0.take()).toHaveLength(2)
  })
})

test('numbers go round', () => {
  expect(numberAfter(0xffffffff)).toBe(1)
  expect(isAfter(1, 0xffffffff)).toBe(true)
  expect(isAfter(0xffffffff, 1)).toBe(false)
  expect([isAfter(5, 0), isAfter(0, 5), isAfter(5, 5), isAfter(0, 0)]).toEqual([true, false, false, false])
})

test('an envelope is the same bytes in every frame', () => {
  const out = new Writer()
  writeEnvelope(out, message(ROMEO, 'one'))
  const once = out.take()
  writeEnvelope(out, { ...(message(ROMEO, 'one') as Envelope & { kind: 'stanza' }), saidMs: 1 })
  expect(out.take()).toEqual(once)
})

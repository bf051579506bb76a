// How old what comes again says it is, and for what a source with too much unacked waits.
import { describe, expect, test } from 'vitest'
import type { Envelope } from '../envelope.ts'
import { partitionOf } from '../ownership/ownership.ts'
import { Reader } from '../wire.ts'
import { AGE_STEP_MS, readLaneHead } from './lane-frame.ts'
import { message, ROMEO, setUp } from './lane-owners.fixture.ts'
import { LANE_PENDING_MAX } from './lane-source.ts'

describe('the age of what comes again', () => {
  /** What the ages are in each frame. */
  function aged() {
    const set = setUp()
    const ages: number[][] = []
    set.world.network.watch = (_bus, subject, body) => {
      if (!subject.startsWith('lane.')) return
      const reader = new Reader(body)
      if (readLaneHead(reader).probe) return
      const frame: number[] = []
      for (; !reader.done; reader.bytes()) {
        reader.u32()
        frame.push(reader.u8())
      }
      ages.push(frame)
    }
    return { ...set, ages }
  }

  test('says for how many times five minutes it may have been said, whichever owner it goes to', async () => {
    const { world, source, p0, send, lose, ages } = aged()
    await lose(() => send(ROMEO, 'one'))
    world.network.faults.dropOneIn = 1
    await world.pass(3 * AGE_STEP_MS + 2_000, 1_000)
    world.network.faults.dropOneIn = 0
    send(ROMEO, 'two')
    await world.pass(3_000)
    expect([ages[0], ages.at(-1)]).toEqual([[0], [4, 1]])
    expect(p0.take()).toEqual(['one again', 'two again'])
    await world.pass(AGE_STEP_MS, 1_000)
    world.row.give([partitionOf(ROMEO)], 'p1')
    source.ownership.learn()
    await world.pass(0)
    expect(ages.at(-1)).toEqual([5, 2])
  })

  test('goes on from that of which it was handed on', async () => {
    const { world, lanes, ages } = aged()
    const handed = message(ROMEO, 'one') as Envelope & { kind: 'stanza' }
    lanes.send('router', ROMEO, { ...handed, saidMs: world.clock.now() - 7 * AGE_STEP_MS })
    lanes.send('router', ROMEO, { ...handed, saidMs: world.clock.now() - 86_400_000 })
    await world.pass(0)
    expect(ages).toEqual([[8, 255]])
  })
})

describe('a source that waits until less is unacked', () => {
  /** Fills the lane of p0, to which everything goes, and that of p1 with all of Romeo's partition. */
  function full() {
    const set = setUp()
    const { world, source, lanes, learn } = set
    const other = ['a', 'b', 'c', 'd']
      .map((name) => `${name}@example.org`)
      .find((name) => partitionOf(name) !== partitionOf(ROMEO))!
    world.row.give([partitionOf(ROMEO)], 'p1')
    learn(source, set.p0.node, set.p1.node)
    for (const account of [ROMEO, other])
      for (let n = 0; n <= LANE_PENDING_MAX; n++)
        lanes.send('router', account, { kind: 'signal', account, name: 'x', fields: {} })
    const relieved: string[] = []
    lanes.onRelief('router', ROMEO, () => {
      throw new Error('the one before has broken')
    })
    for (const account of [ROMEO, other]) lanes.onRelief('router', account, () => relieved.push(account))
    return { ...set, other, relieved }
  }

  test('used to wait until no lane had too much, also one that is stuck: it waits for its own', async () => {
    const { world, p1, lanes, other, relieved } = full()
    await world.pass(10)
    expect([lanes.anyHeldUp, lanes.congested('router', ROMEO), lanes.congested('router', other), relieved]).toEqual([
      true,
      true,
      true,
      [],
    ])
    p1.done()
    await world.pass(10)
    expect([lanes.congested('router', ROMEO), lanes.congested('router', other), relieved]).toEqual([false, true, [ROMEO]])
  })

  test('goes on when what was stuck has another owner, and waits for that one', async () => {
    const { world, source, p0, lanes, other, relieved } = full()
    await world.pass(10)
    world.row.give([partitionOf(ROMEO)], 'p2')
    source.ownership.learn()
    expect([relieved, lanes.congested('router', ROMEO)]).toEqual([[ROMEO], true])
    lanes.onRelief('router', ROMEO, () => relieved.push('once more'))
    p0.done()
    await world.pass(10)
    expect(relieved).toEqual([ROMEO, other])
    lanes.drop()
    expect([relieved, lanes.anyHeldUp]).toEqual([[ROMEO, other, 'once more'], false])
  })
})

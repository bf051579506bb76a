// While an upgrade rolls: processes of this version and of the one before, beside each other.
import { describe, expect, test } from 'vitest'
import { Random } from '#test/fuzz/random.ts'
import { parseJid } from '#xmpp/jid.ts'
import { stanza } from '#xmpp/stanza.ts'
import type { Envelope } from '../envelope.ts'
import { type Node, World } from '../lanes/lane.fixture.ts'
import { openLanes } from '../lanes/lane.ts'
import { receiveLanes } from '../lanes/lane-receiver.ts'
import { openMulticast } from '../multicast/multicast.ts'
import { receiveMulticast } from '../multicast/multicast-receiver.ts'
import type { MemoryLog } from '../observing/log.ts'
import { partitionOf } from './ownership.ts'

const ROMEO = 'romeo@example.org'
const from = parseJid('juliet@example.org/balcony')
const presence = stanza('presence', from, {})
const watch: Envelope = { kind: 'watch', edge: 'e1', watcher: 'juliet@example.org', session: 's1', contacts: [ROMEO] }

function message(id: string): Envelope {
  const said = stanza('message', from, { id, to: parseJid(ROMEO) })
  return { kind: 'stanza', point: 'inbound', account: ROMEO, origin: undefined, stanza: said }
}

const tooOld = ({ lines }: MemoryLog) => lines.filter(({ event }) => event === 'peer.too_old')

/** What this owner handles, at once. */
function handledBy(node: Node, name: string): string[] {
  const handled: string[] = []
  receiveLanes(node, 'presence', name, (envelope, done) => {
    handled.push(envelope.kind === 'stanza' ? envelope.stanza.id : envelope.kind)
    done()
  })
  return handled
}

/** A source of this version, `old` of the one before and `new`; everything is `owner`'s. `versions` of what goes over the bus. */
function setUp(owner: 'old' | 'new') {
  const world = new World(new Random(1, 1), owner)
  const source = world.node('e1')
  const owners = { old: world.oldNode('old'), new: world.node('new') }
  const handled = { old: handledBy(owners.old, 'old'), new: handledBy(owners.new, 'new') }
  const versions: string[] = []
  world.network.watch = (_bus, subject, body) => versions.push(`${subject.split('.')[0]} ${body[0]}`)
  const lanes = openLanes(source, 'e1')
  const acked: string[] = []
  const send = (envelope: Envelope, name: string): void => lanes.send('presence', ROMEO, envelope, () => void acked.push(name))
  return { world, source, owners, handled, versions, lanes, acked, send }
}

describe('an owner of the version before', () => {
  test('is written to in its version, and acks in it', async () => {
    const { world, handled, versions, acked, send } = setUp('old')
    send(message('one'), 'one')
    await world.pass(50)
    expect([handled.old, acked, versions, world.network.refused]).toEqual([['one'], ['one'], ['lane 2', 'ack 2'], 0])
  })

  test('is not told who watches, which it has no words for: that is logged once, and nobody waits for the ack', async () => {
    const { world, source, handled, lanes, acked, send } = setUp('old')
    send(watch, 'watch')
    send(message('one'), 'one')
    send(watch, 'watch again')
    await world.pass(5_000)
    expect([handled.old, acked.sort(), lanes.pending]).toEqual([['one'], ['one', 'watch', 'watch again'], 0])
    expect(tooOld(source.log)).toEqual([
      { level: 'error', event: 'peer.too_old', fields: expect.objectContaining({ process: 'old', speaks: 2, needed: 3 }) },
    ])
  })

  test('whose lease is seen late has all the same what it can read, in order, and the source goes on', async () => {
    const { world, handled, versions, lanes, acked, send } = setUp('old')
    world.speaks.delete('old')
    send(message('one'), 'one')
    send(watch, 'watch')
    send(message('two'), 'two')
    send(watch, 'last')
    await world.pass(500)
    expect([handled.old, world.network.refused]).toEqual([[], 1])
    world.speaks.set('old', 2)
    await world.pass(3_000)
    const { length } = versions
    send(message('three'), 'three')
    await world.pass(3_000)
    expect(versions.slice(length)).toEqual(['lane 2', 'ack 2']) // it misses nothing before it
    expect([handled.old, lanes.pending]).toEqual([['one', 'two', 'three'], 0])
    expect(acked.sort()).toEqual(['last', 'one', 'three', 'two', 'watch'])
  })

  test('that comes after one of this version is not handed what that had not acked and it cannot read', async () => {
    const { world, source, owners, handled, lanes, acked, send } = setUp('new')
    world.network.faults.dropOneIn = 1
    send(message('one'), 'one')
    send(watch, 'watch')
    await world.pass(100)
    world.network.faults.dropOneIn = 0
    world.row.give([partitionOf(ROMEO)], 'old')
    for (const { ownership } of [owners.old, owners.new, source]) ownership.learn()
    await world.pass(3_000)
    expect(handled).toEqual({ old: ['one'], new: [] })
    expect([acked, lanes.pending, tooOld(source.log).length]).toEqual([['watch', 'one'], 0, 1])
  })
})

test('a source and an owner of the version before are answered in it', async () => {
  const world = new World(new Random(1, 1), 'new')
  const handled = handledBy(world.node('new'), 'new')
  const acked: string[] = []
  const lanes = openLanes(world.oldNode('e1'), 'e1')
  lanes.send('presence', ROMEO, message('one'), () => acked.push('one'))
  const came: string[] = []
  receiveMulticast(world.node('e2'), 'e2', { delivery: ({ kind }) => came.push(kind), lost: () => came.push('lost') })
  const multicast = openMulticast(world.oldNode('p1'), 'router', 'p1')
  multicast.order({ edge: 'e2', session: 's1' }, 'close', {})
  await world.pass(100)
  expect([handled, acked, came]).toEqual([['one'], ['one'], ['order']])
  let isOver = false
  void multicast.settled().then(() => {
    isOver = true
  })
  await world.pass(1_000)
  expect([isOver, world.network.refused]).toEqual([true, 0])
})

describe('an edge of the version before', () => {
  test('is delivered to in its version, but for what it has no words for; it acks in its own', async () => {
    const world = new World(new Random(1, 1), 'p1')
    const owner = world.node('p1')
    const old = world.oldNode('e1')
    const came: string[] = []
    receiveMulticast(old, 'e1', {
      delivery: (delivery) => came.push(delivery.kind === 'stanza' ? delivery.stanza.id : delivery.kind),
      lost: () => came.push('lost'),
    })
    const versions: string[] = []
    world.network.watch = (_bus, subject, body) => versions.push(`${subject.split('.')[0]} ${body[0]}`)
    const multicast = openMulticast(owner, 'presence', 'p1')
    multicast.shown('e1', ROMEO, presence)
    multicast.admit('e1', ROMEO, ['juliet@example.org'])
    multicast.deliver({ edge: 'e1', session: 's1' }, stanza('message', from, { id: 'one' }))
    multicast.revoke('e1', ROMEO, [])
    multicast.snapshot('e1', ROMEO, [])
    await world.pass(2_000)
    expect([came, versions, world.network.refused]).toEqual([['one'], ['edge 2', 'edgeack 2'], 0])
    multicast.admit('e1', ROMEO, ['juliet@example.org'])
    multicast.order({ edge: 'e1', session: 's1' }, 'close', {})
    await world.pass(2_000)
    expect([came, tooOld(owner.log).length]).toEqual([['one', 'order'], 1])
  })

  test('beside one of this version takes nothing from that', async () => {
    const world = new World(new Random(1, 1), 'p1')
    world.oldNode('e1')
    const came: string[] = []
    receiveMulticast(world.node('e2'), 'e2', { delivery: ({ kind }) => came.push(kind), lost: () => came.push('lost') })
    const multicast = openMulticast(world.node('p1'), 'presence', 'p1')
    for (const edge of ['e1', 'e2']) multicast.shown(edge, ROMEO, presence)
    await world.pass(1_000)
    expect(came).toEqual(['shown'])
  })
})

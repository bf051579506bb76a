import { describe, expect, test } from 'vitest'
import { memoryBus } from '#bus/memory.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT } from '#xmpp/ns.ts'
import { el, stanza } from '#xmpp/stanza.ts'
import { manualClock } from '../clock.ts'
import type { Delivery } from '../envelope.ts'
import { memoryLog } from '../observing/log.ts'
import { soleOwnership } from '../ownership/ownership.ts'
import { Reader, Writer } from '../wire.ts'
import { openMulticast } from './multicast.ts'
import { readEdgeHead } from './multicast-frame.ts'
import { receiveMulticast } from './multicast-receiver.ts'

const message = (id: string) => stanza('message', parseJid('romeo@a/x'), { id }, el('body', NS_CLIENT, {}, id))

function setUp() {
  const bus = memoryBus()
  const log = memoryLog()
  const came: Record<string, Delivery[]> = { e1: [], e2: [] }
  const numbers: number[] = []
  const ways = { bus, ownership: soleOwnership('p1'), clock: manualClock(), log }
  const lost = (): void => expect.unreachable('nothing is lost here')
  for (const edge of ['e1', 'e2']) {
    receiveMulticast(ways, edge, { delivery: (delivery) => void came[edge]!.push(delivery), lost })
  }
  bus.subscribe('edge.e1', (body) => {
    const head = readEdgeHead(new Reader(body))
    expect(head).toMatchObject({ owner: expect.stringMatching(/^router\.p1\.[a-z0-9]+$/), epoch: 1, kind: 'deliveries' })
    numbers.push(head.number)
  })
  return { bus, log, came, numbers, multicast: openMulticast(ways, 'router', 'p1') }
}

async function turn(): Promise<void> {
  for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve))
}
const idsOf = (deliveries: readonly Delivery[]) =>
  deliveries.map((one) => ('stanza' in one ? one.stanza.id : one.kind === 'order' ? one.name : one.kind))

describe('fan out once per edge', () => {
  test('one stanza for many sessions is one body for each edge that has any', async () => {
    const { came, numbers, multicast } = setUp()
    const targets = ['s1', 's2', 's3'].map((session) => ({ edge: 'e1', session }))
    multicast.fanOut([...targets, { edge: 'e2', session: 's4' }], message('m1'), 'bare')
    await turn()
    expect(came.e1).toMatchObject([{ kind: 'stanza', sessions: ['s1', 's2', 's3'], to: 'bare', stanza: { id: 'm1' } }])
    expect(came.e2).toMatchObject([{ sessions: ['s4'] }])
    expect(numbers).toEqual([1])
  })

  test('for nobody there is none', async () => {
    const { came, multicast } = setUp()
    multicast.fanOut([], message('m1'), 'full')
    await turn()
    expect([came.e1, came.e2]).toEqual([[], []])
  })

  test('what one turn has for one edge goes in one body, in order, orders among it', async () => {
    const { came, numbers, multicast } = setUp()
    multicast.deliver({ edge: 'e1', session: 's1' }, message('m1'))
    multicast.order({ edge: 'e1', session: 's1' }, 'close', { condition: 'reset' })
    multicast.fanOut([{ edge: 'e1', session: 's2' }], message('m2'), 'full')
    await turn()
    expect(idsOf(came.e1!)).toEqual(['m1', 'close', 'm2'])
    expect(came.e1![0]).toMatchObject({ to: 'kept' })
    expect(came.e1![1]).toMatchObject({ session: 's1', fields: { condition: 'reset' } })
    expect(numbers).toEqual([1])
  })

  test('what a contact shows names nobody but whom it says, and is in order with who sees it', async () => {
    const { came, numbers, multicast } = setUp()
    multicast.admit('e1', 'romeo@a', ['bob@a', 'ann@a'])
    multicast.admit('e1', 'romeo@a', [])
    multicast.shown('e1', 'romeo@a', message('m1'))
    multicast.shown('e1', 'romeo@a', message('m2'), { only: [], sessions: ['s1'], filter: 'nick+notify' })
    multicast.revoke('e1', 'romeo@a', ['bob@a'])
    multicast.revoke('e1', 'romeo@a', [])
    multicast.snapshot('e1', 'romeo@a', ['x'])
    await turn()
    const contact = 'romeo@a'
    expect(came.e1).toMatchObject([
      { kind: 'admit', contact, watchers: ['bob@a', 'ann@a'] },
      { kind: 'shown', contact, only: undefined, sessions: [], filter: '', stanza: { id: 'm1' } },
      { kind: 'shown', contact, only: [], sessions: ['s1'], filter: 'nick+notify', stanza: { id: 'm2' } },
      { kind: 'revoke', contact, watchers: ['bob@a'] },
      { kind: 'revoke', contact, watchers: [] },
      { kind: 'snapshot', contact, resources: ['x'] },
    ])
    expect([numbers, multicast.sent.bodies]).toEqual([[1], 1])
    expect(multicast.sent.bytes).toBeGreaterThan(100)
  })

  test('more watchers than one delivery can name are several, and each is named once', async () => {
    const { came, multicast } = setUp()
    const watchers = Array.from({ length: 1_000 }, (_, i) => `w${i}@a`)
    const sessions = ['s1', 's2']
    multicast.admit('e1', 'romeo@a', watchers)
    multicast.revoke('e1', 'romeo@a', watchers)
    multicast.shown('e1', 'romeo@a', message('m1'), { only: watchers, sessions })
    await turn()
    for (const kind of ['admit', 'revoke']) {
      const parts = came.e1!.flatMap((one) => (one.kind === kind && 'watchers' in one ? [one.watchers] : []))
      expect([parts.flat(), parts.length > 1]).toEqual([watchers, true])
    }
    const shown = came.e1!.flatMap((one) => (one.kind === 'shown' ? [one] : []))
    expect(shown.flatMap(({ only }) => only)).toEqual(watchers)
    expect(shown.flatMap((one) => one.sessions)).toEqual(sessions)
  })

  test('bodies are numbered, so that an edge can see that one is missing', async () => {
    const { numbers, multicast } = setUp()
    for (let i = 0; i < 3; i++) {
      multicast.deliver({ edge: 'e1', session: 's1' }, message('m'))
      await turn()
    }
    expect(numbers).toEqual([1, 2, 3])
  })

  test('more sessions than one delivery can name are several', async () => {
    const { came, multicast } = setUp()
    const targets = Array.from({ length: 70_000 }, (_, i) => ({ edge: 'e1', session: `s${i}` }))
    multicast.fanOut(targets, message('m1'), 'full')
    await turn()
    expect(came.e1!.flatMap((one) => (one.kind === 'stanza' ? one.sessions : []))).toEqual(targets.map(({ session }) => session))
    expect(came.e1!.length).toBeGreaterThan(1)
  })

  test('more bytes than the bus takes at once are several bodies', async () => {
    const { came, numbers, multicast } = setUp()
    const large = stanza('message', parseJid('romeo@a/x'), {}, el('body', NS_CLIENT, {}, 'x'.repeat(250_000)))
    for (let i = 0; i < 8; i++) multicast.deliver({ edge: 'e1', session: 's1' }, large)
    await turn()
    expect(came.e1).toHaveLength(8)
    expect(numbers).toEqual([1, 2, 3, 4])
  })
})

test('a body that is not ours is logged, and the next one is read', async () => {
  const { bus, came, log, multicast } = setUp()
  const out = new Writer()
  out.u8(200)
  out.text('router.p1')
  out.f64(1)
  bus.publish('edge.e2', out.take())
  multicast.deliver({ edge: 'e2', session: 's1' }, message('m1'))
  await turn()
  expect(idsOf(came.e2!)).toEqual(['m1'])
  expect(log.lines).toMatchObject([{ level: 'error', event: 'delivery.refused' }])
})

test('a stanza that is too large for the bus fails alone: what waits for others in the same turn arrives', async () => {
  const { came, multicast } = setUp()
  const large = stanza('message', parseJid('romeo@a/x'), { id: 'large' }, el('body', NS_CLIENT, {}, 'x'.repeat(1024 * 1024)))
  multicast.deliver({ edge: 'e2', session: 's1' }, message('before'))
  expect(() => multicast.deliver({ edge: 'e2', session: 's2' }, large)).toThrow(RangeError)
  multicast.deliver({ edge: 'e2', session: 's3' }, message('after'))
  await turn()
  expect(idsOf(came.e2!)).toEqual(['before', 'after'])
})

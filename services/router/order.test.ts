import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { manualClock } from '#core/clock.ts'
import { DROP } from '#core/hooks.ts'
import { readAckHead, readLaneHead } from '#core/lanes/lane-frame.ts'
import { type AnyModule, defineModule } from '#core/module.ts'
import { Reader } from '#core/wire.ts'
import offline from '#modules/offline.ts'
import { memoryTable } from '#table/memory.ts'
import { type Key, type Range, type Row, type Table, TableUnavailable } from '#table/table.ts'
import { isCluster } from '#test/form.ts'
import { flakyTable, harness, type TestClient, type TestServer } from '#test/harness.ts'
import { StanzaError } from '#xmpp/error.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT } from '#xmpp/ns.ts'
import { el, type Stanza, type StanzaName } from '#xmpp/stanza.ts'

/** Reads something of the account before anything passes, as a block list does; and writes one row for each message, as an archive does. */
const reader = defineModule({
  name: 'reader',
  home: 'router',
  xeps: [],
  journals: ['archive'],
  setup(app) {
    const lists = app.record<readonly string[]>('list', [])
    const archive = app.journal('archive')
    for (const point of ['outbound', 'inbound'] as const)
      app.guard(point, (_stanza, { account }) => lists.read(account, () => {}))
    app.stamp('inbound', (message, { account, archiveId }) => {
      if (message.name === 'message' && message.type === 'chat') archive.append(account, archiveId, Buffer.from(message.id))
      return message
    })
  },
})

const numbers = (from: number, to: number): string[] => Array.from({ length: to - from }, (_, i) => String(from + i))

describe('RFC 6120 §10.1 in-order processing', () => {
  test('1 000 messages between two sessions arrive in order', async () => {
    await using server = await harness([])
    const romeo = await server.online('romeo@example.org/orchard')
    const juliet = await server.online('juliet@example.org/balcony')
    for (const n of numbers(0, 1_000)) romeo.message('juliet@example.org', n)
    await server.quiet()
    expect(juliet.bodies()).toEqual(numbers(0, 1_000))
  })

  test('messages, presence and iqs of one session arrive in the order in which they were sent, whichever role they pass', async () => {
    await using server = await harness([])
    const romeo = await server.online('romeo@example.org/orchard')
    const juliet = await server.online('juliet@example.org/balcony')
    juliet.received.length = 0
    const kinds = ['message', 'presence', 'iq', 'presence', 'message', 'iq'] as const
    for (const n of numbers(0, 60)) {
      const name = kinds[Number(n) % kinds.length]!
      romeo.send(romeo.stanza(name, { to: juliet.jid, id: n, type: name === 'iq' ? 'get' : '' }, el('x', 'urn:example:x')))
    }
    await server.quiet()
    expect(juliet.received.map(({ id }) => id)).toEqual(numbers(0, 60))
  })

  test('with accounts that are loaded and a table that answers when it likes, each sender’s messages arrive once and in order', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.infiniteStream(fc.nat({ max: 12 })),
        fc.array(fc.tuple(fc.nat(2), fc.nat(3)), { minLength: 20, maxLength: 60 }),
        async (delays, sent) => {
          const table = slowTable(memoryTable(), () => delays.next().value)
          // The accounts are made by an earlier server, so that this one knows none of them.
          await using earlier = await harness([], { table })
          for (const name of NAMES) await earlier.account(`${name}@example.org`)
          await earlier.stop()
          await using server = await harness([reader, offline], { table })
          const senders = await Promise.all(NAMES.slice(0, 3).map((name) => server.bind(`${name}@example.org/here`)))
          for (const sender of senders) sender.available()
          await quiet(server)
          // To 0-2, who are online, and to 3, whom nobody has asked for yet.
          for (const [n, [from, to]] of sent.entries()) senders[from]!.message(`${NAMES[to]}@example.org`, `${from} ${n}`)
          const late = server.bind(`${NAMES[3]}@example.org/here`).then((client) => {
            client.available()
            return client
          })
          const receivers = [...senders, await late]
          await quiet(server)
          receivers.forEach((receiver, to) => {
            for (const from of [0, 1, 2]) {
              const expected = sent.flatMap(([f, t], n) => (f === from && t === to ? [`${f} ${n}`] : []))
              expect(receiver.bodies().filter((body) => body.startsWith(`${from} `))).toEqual(expected)
            }
          })
        },
      ),
      { numRuns: 12, endOnFailure: true },
    )
  }, 30_000)

  test('an account that waits for the table keeps nobody else waiting', async () => {
    const table = slowTable(memoryTable(), () => 0)
    await using earlier = await harness([], { table })
    for (const name of ['romeo', 'juliet', 'mercutio']) await earlier.account(`${name}@example.org`)
    await earlier.stop()
    await using server = await harness([reader], { table })
    const romeo = await server.bind('romeo@example.org/orchard')
    const juliet = await server.bind('juliet@example.org/balcony')
    for (const client of [romeo, juliet]) client.available()
    await server.quiet()
    table.stuck = 'a#mercutio@example.org'
    romeo.message('mercutio@example.org', 'first')
    romeo.message('juliet@example.org', 'second')
    await expect.poll(() => juliet.bodies()).toEqual(['second'])
    expect(romeo.settled).toBe(false)
    table.release()
    await server.quiet()
    expect(romeo.received.filter(({ type }) => type === 'error')).toHaveLength(1) // nobody keeps messages in this test
  })
})

const NAMES = ['romeo', 'juliet', 'mercutio', 'rosaline']

describe('a table that is away', () => {
  async function cast(modules: readonly AnyModule[] = [reader, offline]) {
    const table = flakyTable()
    const clock = manualClock()
    const server = await harness(modules, { table, clock })
    await server.account('juliet@example.org')
    const romeo = await server.online('romeo@example.org/orchard')
    const mercutio = await server.online('mercutio@example.org/square')
    return { table, clock, server, romeo, mercutio, [Symbol.asyncDispose]: () => server.stop() }
  }

  test('acks nothing and delivers nothing that it could not store; afterwards everything arrives once, in order', async () => {
    await using all = await cast()
    all.table.away = true
    for (const n of numbers(0, 40)) all.romeo.message(Number(n) % 2 === 0 ? 'mercutio@example.org' : 'juliet@example.org', n)
    await all.clock.settle(30_000)
    expect(all.romeo.settled).toBe(false)
    expect(all.mercutio.bodies()).toEqual([])
    all.table.away = false
    await all.clock.settle(30_000)
    await all.server.quiet()
    expect(all.romeo.settled).toBe(true)
    expect(all.mercutio.bodies()).toEqual(numbers(0, 40).filter((n) => Number(n) % 2 === 0))
    const juliet = await all.server.online('juliet@example.org/balcony')
    expect(juliet.bodies()).toEqual(numbers(0, 40).filter((n) => Number(n) % 2 === 1))
    expect(all.romeo.received.filter(({ type }) => type === 'error')).toEqual([])
  })

  test('when it comes and goes, everything arrives once, in order', async () => {
    await using all = await cast()
    for (const n of numbers(0, 60)) {
      all.table.away = Number(n) % 3 !== 0
      all.romeo.message(Number(n) % 2 === 0 ? 'mercutio@example.org' : 'juliet@example.org', n)
      await all.clock.settle(20)
    }
    all.table.away = false
    await all.clock.settle(30_000)
    const juliet = await all.server.online('juliet@example.org/balcony')
    expect(all.mercutio.bodies()).toEqual(numbers(0, 60).filter((n) => Number(n) % 2 === 0))
    expect(juliet.bodies()).toEqual(numbers(0, 60).filter((n) => Number(n) % 2 === 1))
  })

  test('what was kept for a session that comes online while the table is away is handed over when it is back, before what is newer', async () => {
    await using all = await cast()
    for (const n of numbers(0, 5)) all.romeo.message('juliet@example.org', n)
    await all.server.quiet()
    const juliet = await all.server.bind('juliet@example.org/balcony')
    all.table.away = true
    juliet.available()
    await all.clock.settle(200)
    all.romeo.message('juliet@example.org', '5')
    await all.clock.settle(10_000)
    expect(juliet.bodies()).toEqual([])
    all.table.away = false
    await all.clock.settle(30_000)
    await all.server.quiet()
    expect(juliet.bodies()).toEqual(numbers(0, 6))
  })

  test('a call is refused as resource-constraint, to be tried again', async () => {
    await using all = await cast()
    all.table.away = true
    await expect(all.server.bind('juliet@example.org/balcony')).rejects.toMatchObject({
      condition: 'resource-constraint',
      type: 'wait',
    })
    all.table.away = false
    expect((await all.server.bind('juliet@example.org/balcony')).jid.resource).toBe('balcony')
  })
})

describe('every envelope is acked exactly once', () => {
  test('whatever hooks, handlers and the table do', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.infiniteStream(fc.constantFrom(...MISCHIEF)),
        fc.array(arbitraryStanza(), { minLength: 30, maxLength: 80 }),
        async (mischief, stanzas) => {
          const clock = manualClock()
          const table = flakyTable()
          const trouble = { on: false }
          await using server = await harness([troublemaker(() => (trouble.on ? mischief.next().value : 'nothing'))], {
            clock,
            table,
          })
          const acks = countAcks(server)
          const clients: TestClient[] = []
          for (const name of NAMES.slice(0, 3)) clients.push(await server.online(`${name}@example.org/here`))
          trouble.on = true
          for (const { by, name, type, to, payload } of stanzas) {
            if (by === 'table') {
              table.away = !table.away
              await clock.settle(10)
            } else {
              const client = clients[by]!
              client.send(client.stanza(name, { id: 'x', type, to: to === '' ? undefined : parseJid(to) }, ...payload))
            }
          }
          clients[2]!.disconnect()
          table.away = false
          for (let i = 0; i < 40; i++) await clock.settle(6_000)
          trouble.on = false
          for (let i = 0; i < 4; i++) await clock.settle(6_000)
          await server.quiet()
          expect(acks.sent.size).toBeGreaterThan(0)
          if (isCluster) return // who asks again is told again: that all are acked is what `quiet` has waited for
          expect([...acks.sent].filter((envelope) => acks.acked.get(envelope) !== 1)).toEqual([])
          expect(acks.acked.size).toBe(acks.sent.size)
        },
      ),
      { numRuns: 60, endOnFailure: true },
    )
  }, 30_000)
})

const MISCHIEF = [
  'nothing',
  'nothing',
  'nothing',
  'nothing',
  'drop',
  'refuse',
  'break',
  'table',
  'drop later',
  'refuse later',
  'break later',
  'table later',
] as const
type Mischief = (typeof MISCHIEF)[number]

/** Hooks at every point, a handler and a listener, each of which does what it is told. */
function troublemaker(next: () => Mischief): AnyModule {
  async function later<T>(made: () => T): Promise<T> {
    await new Promise((resolve) => setImmediate(resolve))
    return made()
  }
  function act<T>(usual: T): T | typeof DROP | Promise<T | typeof DROP> {
    const mischief = next()
    const make = (): T | typeof DROP => {
      if (mischief.startsWith('drop')) return DROP
      if (mischief.startsWith('refuse')) throw new StanzaError('not-acceptable')
      if (mischief.startsWith('break')) throw new TypeError('a bug')
      if (mischief.startsWith('table')) throw new TableUnavailable('away')
      return usual
    }
    return mischief.endsWith('later') ? later(make) : make()
  }
  return defineModule({
    name: 'troublemaker',
    home: 'router',
    xeps: [],
    journals: ['trouble'],
    namespaces: ['urn:example:ask'],
    setup(app) {
      const journal = app.journal('trouble')
      const instead =
        <T>(usual: T) =>
        (done: T | typeof DROP): T =>
          done === DROP ? usual : done
      for (const point of ['outbound', 'inbound'] as const) {
        app.guard(point, () => act(undefined))
        app.stamp(point, (stanza, { account, archiveId }) => {
          journal.append(account, archiveId, new Uint8Array(1))
          const stamped = act(stanza)
          return stamped instanceof Promise ? stamped.then(instead<Stanza>(stanza)) : instead<Stanza>(stanza)(stamped)
        })
        app.copy(point, () => {
          const told = act(undefined)
          if (told instanceof Promise) return told.then(() => {})
        })
      }
      for (const target of ['self', 'account', 'host'] as const) {
        app.iq('get', 'urn:example:ask', 'query', target, () => {
          const answer = act(undefined)
          if (answer instanceof Promise) return answer.then(() => {})
        })
      }
      for (const event of ['message.offline', 'session.available', 'session.closed'] as const) {
        app.on(event, () => {
          const told = act(undefined)
          if (told instanceof Promise) return told.then(() => {})
        })
      }
    },
  })
}

interface Step {
  readonly by: number | 'table'
  readonly name: StanzaName
  readonly type: string
  readonly to: string
  readonly payload: ReturnType<typeof el>[]
}

function arbitraryStanza(): fc.Arbitrary<Step> {
  const to = fc.constantFrom(
    '',
    'romeo@example.org',
    'romeo@example.org/here',
    'juliet@example.org',
    'juliet@example.org/none',
    'rosaline@example.org',
    'example.org',
    'a@b.example',
  )
  const types: Readonly<Record<StanzaName, readonly string[]>> = {
    message: ['', 'chat', 'headline', 'groupchat', 'error'],
    presence: ['', 'unavailable', 'subscribe', 'subscribed', 'unsubscribe', 'unsubscribed', 'probe', 'error', 'nonsense'],
    iq: ['get', 'set', 'result', 'error'],
  }
  const payloads = {
    message: [[], [el('body', NS_CLIENT, {}, 'x')]],
    presence: [[], [el('priority', NS_CLIENT, {}, '3')], [el('priority', NS_CLIENT, {}, 'much')]],
    iq: [
      [el('query', 'urn:example:ask')],
      [el('query', 'urn:example:unknown')],
      [el('query', 'jabber:iq:roster')],
      [el('query', 'jabber:iq:roster', {}, el('item', 'jabber:iq:roster', { jid: 'juliet@example.org' }))],
      [el('query', 'jabber:iq:roster', {}, el('item', 'jabber:iq:roster', { jid: 'romeo@example.org', subscription: 'remove' }))],
    ],
  }
  const of = (name: StanzaName) =>
    fc.record({
      by: fc.oneof(
        { weight: 30, arbitrary: fc.nat(2) as fc.Arbitrary<number | 'table'> },
        { weight: 1, arbitrary: fc.constant('table' as const) },
      ),
      name: fc.constant(name),
      type: fc.constantFrom(...types[name]),
      to,
      payload: fc.constantFrom(...payloads[name]),
    })
  return fc.oneof(of('message'), of('presence'), of('iq'))
}

/** Every envelope on every lane by its source and number, and how often it was acked. */
function countAcks(server: TestServer): { sent: Set<string>; acked: Map<string, number> } {
  const sent = new Set<string>()
  const acked = new Map<string, number>()
  const { bus, id } = server.process
  const sources = new Set<string>()
  for (const role of ['router', 'presence']) {
    bus.subscribe(`lane.${role}.${id}`, (body) => {
      const frame = new Reader(body)
      const { source } = readLaneHead(frame)
      if (!sources.has(source)) count(source)
      while (!frame.done) {
        sent.add(`${source} ${role} ${frame.u32()}`)
        frame.u8()
        frame.bytes()
      }
    })
  }
  function count(source: string): void {
    sources.add(source)
    bus.subscribe(`ack.${source}`, (body) => {
      const frame = new Reader(body)
      const { role } = readAckHead(frame)
      while (!frame.done) {
        const envelope = `${source} ${role} ${frame.u32()}`
        acked.set(envelope, (acked.get(envelope) ?? 0) + 1)
      }
    })
  }
  return { sent, acked }
}

/** A table each of whose answers takes some turns of the event loop; one key may be stuck until it is released. */
function slowTable(table: Table, turns: () => number): Table & { stuck: string; release(): void } {
  let held: (() => void)[] = []
  async function wait(pk: string): Promise<void> {
    if (pk === slow.stuck) await new Promise<void>((resolve) => held.push(resolve))
    for (let left = turns(); left > 0; left--) await new Promise((resolve) => setImmediate(resolve))
  }
  const slow = {
    stuck: '',
    release() {
      slow.stuck = ''
      for (const go of held) go()
      held = []
    },
    get: (key: Key) => wait(key.pk).then(() => table.get(key)),
    put: (row: Row, ifVersion?: string) => wait(row.pk).then(() => table.put(row, ifVersion)),
    delete: (key: Key, ifVersion?: string) => wait(key.pk).then(() => table.delete(key, ifVersion)),
    async *query(pk: string, range?: Range) {
      await wait(pk)
      yield* table.query(pk, range)
    },
  }
  return slow
}

/** As the harness's, for a table whose queries take longer than it waits. */
async function quiet(server: TestServer): Promise<void> {
  for (let i = 0; i < 8; i++) {
    await server.quiet()
    for (let turns = 0; turns < 16; turns++) await new Promise((resolve) => setImmediate(resolve))
  }
}

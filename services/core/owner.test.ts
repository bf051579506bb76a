import { describe, expect, test } from 'vitest'
import { memoryTable } from '#table/memory.ts'
import { type Table, TableUnavailable } from '#table/table.ts'
import { flakyTable, harness } from '#test/harness.ts'
import { StanzaError } from '#xmpp/error.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT } from '#xmpp/ns.ts'
import { type Element, el, find, type Stanza, stanza } from '#xmpp/stanza.ts'
import { manualClock } from './clock.ts'
import { DROP } from './hooks.ts'
import { type App, defineModule } from './module.ts'

const hooked = (setup: (app: App) => void) =>
  defineModule({ name: 'hooked', home: 'router', xeps: [], setup: (app) => app.role === 'router' && setup(app as App) })

function conditions(received: readonly Stanza[]): string[] {
  return received
    .filter(({ type }) => type === 'error')
    .map((stanza) => (find(stanza, 'error', NS_CLIENT)!.children[0] as Element).name)
}

describe('a stanza and its hooks', () => {
  test('what a guard refuses on the way out or in comes back to the sender, and goes no further', async () => {
    await using server = await harness([
      hooked((app) => {
        app.guard('outbound', ({ id }) => {
          if (id === 'out') throw new StanzaError('not-acceptable')
        })
        app.guard('inbound', ({ id, type }) => {
          if (id === 'in' && type !== 'error') throw new StanzaError('forbidden')
          return id === 'dropped' ? DROP : undefined
        })
      }),
    ])
    const romeo = await server.online('romeo@example.org/x')
    const juliet = await server.online('juliet@example.org/y')
    for (const id of ['out', 'in', 'dropped', 'passed']) romeo.send(romeo.stanza('message', { to: juliet.jid, id, type: 'chat' }))
    await server.quiet()
    expect(conditions(romeo.received)).toEqual(['not-acceptable', 'forbidden'])
    expect(juliet.received.filter(({ name }) => name === 'message').map(({ id }) => id)).toEqual(['passed'])
  })

  test('a stanza whose table was away is tried again, under the archive id it had', async () => {
    const clock = manualClock()
    const ids: string[] = []
    const points = { outbound: 0, inbound: 0 }
    await using server = await harness(
      [
        hooked((app) => {
          for (const point of ['outbound', 'inbound'] as const) {
            app.copy(point, ({ name }, { archiveId }) => {
              if (name !== 'message') return
              ids.push(`${point} ${archiveId}`)
              if (points[point]++ === 0) throw new TableUnavailable('away')
            })
          }
        }),
      ],
      { clock },
    )
    const romeo = await server.online('romeo@example.org/x')
    const juliet = await server.online('juliet@example.org/y')
    romeo.message('juliet@example.org', 'hi')
    for (let i = 0; i < 20; i++) await clock.settle(100)
    expect(ids).toHaveLength(4)
    expect(new Set(ids).size).toBe(2)
    expect([juliet.bodies(), romeo.settled]).toEqual([['hi'], true])
  })

  test('stanzas of one session keep their order, whichever home they go to and however long a hook takes', async () => {
    await using server = await harness([
      hooked((app) => {
        app.guard('outbound', async ({ id }) => {
          if (id.startsWith('slow')) await new Promise((resolve) => setTimeout(resolve, 5))
        })
      }),
    ])
    const romeo = await server.online('romeo@example.org/x')
    const juliet = await server.online('juliet@example.org/y')
    const ids = ['slow 1', '2', 'slow 3', '4', '5']
    for (const id of ids) {
      const name = id === '4' ? 'presence' : 'message'
      romeo.send(romeo.stanza(name, { to: juliet.jid, id, type: name === 'message' ? 'chat' : '' }))
    }
    await server.quiet()
    expect(juliet.received.filter(({ id }) => ids.includes(id)).map(({ id }) => id)).toEqual(ids)
  })
})

describe('where a stanza cannot go', () => {
  test.each([
    ['a domain that is not ours', 'juliet@elsewhere.example', 'remote-server-not-found'],
    ['the host, which takes no messages', 'example.org', 'service-unavailable'],
    ['nobody', 'nobody@example.org', 'service-unavailable'],
  ])('to %s the sender is told', async (_name, to, condition) => {
    await using server = await harness([])
    const romeo = await server.connect('romeo@example.org/x')
    romeo.send(romeo.stanza('message', { to: parseJid(to), id: 'm1', type: 'chat' }, el('body', NS_CLIENT, {}, 'hi')))
    await server.quiet()
    expect(conditions(romeo.received)).toEqual([condition])
    expect(romeo.received[0]).toMatchObject({ id: 'm1', from: parseJid(to) })
  })
})

test('what a handler staged is durable before its answer comes', async () => {
  const NS = 'urn:example'
  const clock = manualClock()
  const table = flakyTable()
  const keeper = defineModule({
    name: 'keeper',
    home: 'router',
    xeps: [],
    namespaces: [NS],
    setup(app) {
      const record = app.record('kept', 0)
      app.iq('set', NS, 'keep', 'self', async ({ account }) => {
        await record.update(account, (n) => n + 1)
      })
    },
  })
  await using server = await harness([keeper], { clock, table })
  const romeo = await server.connect('romeo@example.org/x')
  await romeo.iq('set', el('keep', NS))
  table.away = true
  const answer = romeo.iq('set', el('keep', NS))
  for (let i = 0; i < 10; i++) await clock.settle(100)
  expect(romeo.received).toHaveLength(1)
  table.away = false
  for (let i = 0; i < 100; i++) await clock.settle(100)
  expect(await answer).toBeUndefined()
  const row = await table.get({ pk: 'a#romeo@example.org', sk: 'kept' })
  expect(Buffer.from(row!.value).toString()).toBe('2')
})

test('a stop waits for what a commit releases, and for what that stores', async () => {
  const memory = memoryTable()
  const disk = async () => {
    for (let turns = 0; turns < 5; turns++) await new Promise((resolve) => setImmediate(resolve))
  }
  const table: Table = {
    get: (key) => memory.get(key),
    async put(row, ifVersion) {
      await disk()
      return memory.put(row, ifVersion)
    },
    delete: (key, ifVersion) => memory.delete(key, ifVersion),
    async *query(pk, range) {
      await disk()
      yield* memory.query(pk, range)
    },
  }
  const chain = hooked((app) => {
    const seen = app.record<number>('seen', 0)
    app.copy('inbound', async ({ name, from, type }, { account }) => {
      if (name !== 'message' || type === 'error') return
      await seen.update(account, (count) => count + 1)
      if (account.local === 'juliet') app.send(stanza('message', account, { to: parseJid('nurse@example.org'), id: from.local }))
    })
  })
  const server = await harness([chain], { table })
  for (const name of ['juliet', 'nurse']) await server.account(`${name}@example.org`)
  const romeo = await server.connect('romeo@example.org/x')
  romeo.message('juliet@example.org', 'tell the nurse')
  for (let turns = 0; turns < 4; turns++) await new Promise((resolve) => setImmediate(resolve)) // the router has it
  await server.stop()
  for (const name of ['juliet', 'nurse']) {
    expect(await memory.get({ pk: `a#${name}@example.org`, sk: 'seen' }), name).toBeDefined()
  }
})

describe('what waits for one account is bounded', () => {
  const BODY = 'x'.repeat(200_000)

  /** Whatever is for Juliet, or from her, waits until it is opened. */
  async function parked() {
    let open = (): void => {}
    const opened = new Promise<void>((resolve) => (open = resolve))
    const server = await harness([
      hooked((app) => {
        const wait = (account: { local: string }) => (account.local === 'juliet' ? opened : undefined)
        app.guard('inbound', (_, { account }) => wait(account))
        app.guard('outbound', (_, { account }) => wait(account))
      }),
    ])
    return { server, open }
  }

  test('a sender beyond it is answered resource-constraint of type wait, and what is before it arrives in order', async () => {
    const { server, open } = await parked()
    await using _ = server
    const senders = [await server.connect('romeo@example.org/x'), await server.connect('nurse@example.org/x')]
    const juliet = await server.online('juliet@example.org/y')
    for (let i = 0; i < 60; i++) senders[i % 2]!.message(juliet.jid.full, `${i} ${BODY}`)
    const refused = () => senders.flatMap(({ received }) => conditions(received))
    for (let turns = 0; turns < 50; turns++) await new Promise((resolve) => setImmediate(resolve))
    expect(refused().length).toBeGreaterThan(10)
    expect(new Set(refused())).toEqual(new Set(['resource-constraint']))
    const [error] = senders[0]!.received.filter(({ type }) => type === 'error')
    expect(find(error!, 'error', NS_CLIENT)!.attrs.type).toBe('wait')
    expect(find(error!, 'body', NS_CLIENT)).toBeUndefined()
    open()
    await server.quiet()
    const arrived = juliet.bodies().map((body) => Number.parseInt(body, 10))
    expect(arrived).toEqual(arrived.toSorted((a, b) => a - b))
    expect(arrived.length + refused().length).toBe(60)
    expect(arrived.length).toBeGreaterThan(30)
  })

  test('what is all id counts as much as what is all body', async () => {
    const { server, open } = await parked()
    await using _ = server
    const romeo = await server.connect('romeo@example.org/x')
    const juliet = await server.online('juliet@example.org/y')
    for (let i = 0; i < 60; i++) romeo.send(stanza('message', romeo.jid, { to: juliet.jid, type: 'chat', id: BODY }))
    for (let turns = 0; turns < 50; turns++) await new Promise((resolve) => setImmediate(resolve))
    expect(conditions(romeo.received).length).toBeGreaterThan(10)
    open()
  })

  test('so is the account itself, for what it sends', async () => {
    const { server, open } = await parked()
    await using _ = server
    const romeo = await server.connect('romeo@example.org/x')
    const juliet = await server.connect('juliet@example.org/y')
    for (let i = 0; i < 60; i++) juliet.message(romeo.jid.full, `${i} ${BODY}`)
    for (let turns = 0; turns < 50; turns++) await new Promise((resolve) => setImmediate(resolve))
    expect(new Set(conditions(juliet.received))).toEqual(new Set(['resource-constraint']))
    open()
    await server.quiet()
    expect(romeo.bodies().length + conditions(juliet.received).length).toBe(60)
  })
})

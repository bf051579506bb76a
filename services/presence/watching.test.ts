import * as fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { memoryTable } from '#table/memory.ts'
import type { Row } from '#table/table.ts'
import { harness, type TestClient, type TestServer } from '#test/harness.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT, NS_ROSTER } from '#xmpp/ns.ts'
import { childrenOf, el, find, textOf } from '#xmpp/stanza.ts'
import type { SubscriptionType } from './subscription.ts'
import { NaiveServer, type NaiveSession } from './watching.fixture.ts'

const USERS = ['romeo', 'juliet', 'mercutio', 'rosaline', 'paris', 'nurse'].map((name) => `${name}@example.org`)
const RESOURCES = ['one', 'two']
const TYPES: readonly SubscriptionType[] = ['subscribe', 'subscribed', 'unsubscribe', 'unsubscribed']

interface Step {
  readonly kind: 'show' | 'hide' | 'disconnect' | 'replace' | 'direct' | 'subscription' | 'befriend' | 'remove'
  readonly user: number
  readonly resource: number
  readonly other: number
  readonly detail: number
  /** The next step is taken before this one has had its effect. */
  readonly hurried: boolean
}

const step = fc.record<Step>({
  kind: fc.oneof(
    { weight: 8, arbitrary: fc.constant('show' as const) },
    { weight: 2, arbitrary: fc.constant('hide' as const) },
    { weight: 3, arbitrary: fc.constant('disconnect' as const) },
    { weight: 1, arbitrary: fc.constant('replace' as const) },
    { weight: 3, arbitrary: fc.constant('direct' as const) },
    { weight: 4, arbitrary: fc.constant('subscription' as const) },
    { weight: 3, arbitrary: fc.constant('befriend' as const) },
    { weight: 1, arbitrary: fc.constant('remove' as const) },
  ),
  user: fc.nat(USERS.length - 1),
  resource: fc.nat(RESOURCES.length - 1),
  other: fc.nat(USERS.length - 1),
  detail: fc.nat(7),
  hurried: fc.boolean(),
})

/** What is sent by one and depends on when another comes or goes has one result only when nothing else is under way. */
const AT_REST: ReadonlySet<Step['kind']> = new Set(['direct', 'subscription', 'befriend', 'remove'])

interface Player {
  readonly client: TestClient
  readonly naive: NaiveSession
  /** What its client had received when it last sent initial presence. */
  since: number
}

describe('what watchers have seen last of each resource', () => {
  const rows: Row[] = []
  beforeAll(async () => {
    const table = memoryTable()
    await using server = await harness([], { table })
    for (const account of USERS) {
      await server.account(account)
      for await (const row of table.query(`a#${account}`)) rows.push(row)
    }
  })

  test('agrees, whenever things are quiet, with a server that tells every contact every time', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 40, size: 'max' }), async (steps) => {
        const table = memoryTable()
        for (const row of rows) await table.put(row)
        await using server = await harness([], { table })
        const play = new Play(server)
        for (const step of steps) await play.take(step)
        await play.compare()
        await play.compareRosters()
      }),
      { numRuns: 200, interruptAfterTimeLimit: 25_000, markInterruptAsFailure: false },
    )
  }, 60_000)
})

class Play {
  readonly #server: TestServer
  readonly #naive = new NaiveServer()
  readonly #players = new Map<string, Player>()
  #texts = 0

  constructor(server: TestServer) {
    this.#server = server
  }

  async take(step: Step): Promise<void> {
    if (AT_REST.has(step.kind)) await this.compare()
    await this.#do(step)
    if (AT_REST.has(step.kind) || !step.hurried) await this.compare()
  }

  async #do({ kind, user, resource, other, detail }: Step): Promise<void> {
    const account = USERS[user]!
    const contact = USERS[other]!
    const full = `${account}/${RESOURCES[resource]}`
    if (kind === 'replace') return void (await this.#connect(full))
    const player = this.#players.get(full) ?? (kind === 'show' ? await this.#connect(full) : undefined)
    if (player === undefined) return
    const { client, naive } = player
    switch (kind) {
      case 'show': {
        if (naive.text === undefined) player.since = client.received.length
        const text = detail === 0 && naive.text !== undefined ? naive.text : `${full} ${++this.#texts}`
        client.send(client.stanza('presence', {}, ...this.#content(text, detail)))
        return this.#naive.show(naive, text)
      }
      case 'hide':
        client.send(client.stanza('presence', { type: 'unavailable' }))
        return this.#naive.hide(naive)
      case 'disconnect':
        client.disconnect()
        this.#players.delete(full)
        return this.#naive.disconnect(naive)
      case 'direct': {
        const to = detail % 2 === 0 ? contact : `${contact}/${RESOURCES[(detail >> 1) % 2]}`
        if (to === full) return
        const text = detail < 6 ? `to ${to} ${++this.#texts}` : undefined
        client.send(
          client.stanza(
            'presence',
            { to: parseJid(to), type: text === undefined ? 'unavailable' : '' },
            ...this.#content(text ?? '', 1),
          ),
        )
        return this.#naive.direct(naive, to, text)
      }
      case 'subscription':
        return this.#subscription(client, account, contact, TYPES[detail % 4]!)
      case 'befriend': {
        const friend = [...this.#players.values()].find(({ naive }) => naive.account === contact)
        await this.#subscription(client, account, contact, 'subscribe')
        if (friend !== undefined) await this.#subscription(friend.client, contact, account, 'subscribed')
        return
      }
      case 'remove': {
        client.send(
          client.stanza(
            'iq',
            { type: 'set', id: 'remove' },
            el('query', NS_ROSTER, {}, el('item', NS_ROSTER, { jid: contact, subscription: 'remove' })),
          ),
        )
        return this.#naive.remove(account, contact)
      }
    }
  }

  async #subscription(client: TestClient, account: string, contact: string, type: SubscriptionType): Promise<void> {
    client.send(client.stanza('presence', { to: parseJid(contact), type }))
    this.#naive.subscription(account, contact, type)
    await this.#server.quiet()
  }

  #content(text: string, detail: number) {
    const status = el('status', NS_CLIENT, {}, text)
    return detail === 3 ? [status, el('priority', NS_CLIENT, {}, '-1')] : [status]
  }

  async #connect(full: string): Promise<Player> {
    const player = { client: await this.#server.bind(full), naive: this.#naive.connect(full), since: 0 }
    this.#players.set(full, player)
    return player
  }

  /** Everybody who is available sees what he would see there. Nothing seen, and seen as unavailable, are the same. */
  async compare(): Promise<void> {
    await this.#server.quiet()
    for (const { client, naive, since } of this.#players.values()) {
      if (naive.text === undefined) continue
      const seen = new Map<string, string>()
      for (const came of client.received.slice(since)) {
        if (came.name !== 'presence' || (came.type !== '' && came.type !== 'unavailable')) continue
        seen.set(came.from.full, came.type || textOf(find(came, 'status', NS_CLIENT)!))
      }
      expect({ watcher: naive.full, sees: available(seen) }).toEqual({ watcher: naive.full, sees: available(naive.seen) })
    }
  }

  async compareRosters(): Promise<void> {
    for (const account of USERS) {
      const client = await this.#server.bind(`${account}/roster`)
      const roster = childrenOf(await client.get(el('query', NS_ROSTER)), 'item', NS_ROSTER)
      const items = [...(this.#naive.rosters.get(account)?.values() ?? [])].filter(({ inRoster }) => inRoster)
      const expected = items.map(({ jid, subscription, ask }) => `${jid} ${subscription} ${ask}`)
      expect(roster.map(({ attrs }) => `${attrs.jid} ${attrs.subscription} ${attrs.ask === 'subscribe'}`).sort()).toEqual(
        expected.sort(),
      )
    }
  }
}

function available(seen: ReadonlyMap<string, string>): Record<string, string> {
  return Object.fromEntries([...seen].filter(([, text]) => text !== 'unavailable').sort())
}

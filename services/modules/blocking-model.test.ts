// XEP-0191 against a naive server: one that asks both block lists about every stanza and every watcher, each time.
import * as fc from 'fast-check'
import { beforeAll, expect, test } from 'vitest'
import { memoryTable } from '#table/memory.ts'
import type { Row } from '#table/table.ts'
import { harness, type TestClient, type TestServer } from '#test/harness.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT } from '#xmpp/ns.ts'
import { childrenOf, el, find, textOf } from '#xmpp/stanza.ts'
import blocking from './blocking.ts'

const NS = 'urn:xmpp:blocking'
const DOMAINS = ['example.org', 'example.net']
const USERS = ['romeo@example.org', 'juliet@example.org', 'paris@example.net', 'nurse@example.net']
const FULLS = USERS.flatMap((user) => [`${user}/one`, `${user}/two`])
/** Everything that can be blocked. */
const ADDRESSES = [...USERS, ...FULLS, ...DOMAINS]
/** Each sees the other; Romeo and the nurse are strangers. */
const FRIENDS = USERS.flatMap((a, i) => USERS.slice(i + 1).map((b) => [a, b] as const)).filter((_, i) => i !== 2)
const areFriends = (a: string, b: string): boolean => FRIENDS.some((pair) => pair.includes(a) && pair.includes(b) && a !== b)

interface Step {
  readonly kind: 'show' | 'hide' | 'direct' | 'message' | 'block' | 'unblock'
  readonly by: string
  readonly jids: readonly string[]
}

const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.oneof(
    { weight: 5, arbitrary: fc.constant('show' as const) },
    { weight: 1, arbitrary: fc.constant('hide' as const) },
    { weight: 2, arbitrary: fc.constant('direct' as const) },
    { weight: 5, arbitrary: fc.constant('message' as const) },
    { weight: 4, arbitrary: fc.constant('block' as const) },
    { weight: 3, arbitrary: fc.constant('unblock' as const) },
  ),
  by: fc.constantFrom(...FULLS),
  jids: fc.array(fc.constantFrom(...ADDRESSES), { minLength: 0, maxLength: 2 }),
})

const bare = (jid: string): string => jid.split('/')[0]!
const domain = (jid: string): string => bare(jid).split('@').at(-1)!

interface Naive {
  readonly full: string
  /** The text of its broadcast; undefined while it is not available. */
  text: string | undefined
  readonly directed: Set<string>
  /** By full JID: the text that is seen. Begins anew with each initial presence. */
  seen: Map<string, string>
  readonly heard: string[]
}

class NaiveServer {
  readonly sessions: readonly Naive[] = FULLS.map((full) => ({
    full,
    text: undefined,
    directed: new Set(),
    seen: new Map(),
    heard: [],
  }))
  readonly lists = new Map<string, ReadonlySet<string>>()

  blocks(account: string, peer: string, list = this.lists.get(account)): boolean {
    if (list === undefined || bare(peer) === account) return false
    return list.has(peer) || list.has(bare(peer)) || list.has(domain(peer))
  }

  show(by: Naive, text: string): void {
    if (by.text === undefined) {
      by.seen = new Map()
      for (const other of this.sessions)
        if (other !== by && this.#answers(other, bare(by.full))) by.seen.set(other.full, other.text!)
    }
    by.text = text
    for (const user of USERS) if (user === bare(by.full) || areFriends(user, bare(by.full))) this.#tell(by, user, text)
  }

  hide(by: Naive): void {
    const was = by.text !== undefined
    by.text = undefined
    if (was)
      for (const user of USERS) if (user === bare(by.full) || areFriends(user, bare(by.full))) this.#tell(by, user, undefined)
    for (const to of by.directed) this.#tell(by, to, undefined)
    by.directed.clear()
  }

  direct(by: Naive, to: string, text: string): void {
    if (this.blocks(bare(by.full), to)) return
    by.directed.add(to)
    this.#tell(by, to, text)
  }

  /** What the sender is told. */
  message(by: Naive, to: string, text: string): string | undefined {
    if (this.blocks(bare(by.full), to)) return 'not-acceptable'
    if (this.blocks(bare(to), by.full)) return 'service-unavailable'
    const match = this.sessions.filter(({ full }) => full === to)
    const takers = match.length > 0 ? match : this.sessions.filter(({ full, text }) => bare(full) === to && text !== undefined)
    for (const taker of takers) taker.heard.push(text)
    return takers.length > 0 ? undefined : 'service-unavailable'
  }

  change(account: string, list: ReadonlySet<string>): void {
    const before = this.lists.get(account) ?? new Set<string>()
    const own = this.sessions.filter(({ full }) => bare(full) === account)
    const turned = (jid: string, to: boolean) =>
      this.blocks(account, jid, before) !== to && this.blocks(account, jid, list) === to
    this.lists.set(account, new Set())
    for (const jid of [...USERS, ...FULLS]) {
      if (!turned(jid, true)) continue
      for (const session of own) {
        if (areFriends(account, bare(jid)) && session.text !== undefined) this.#tell(session, jid, undefined)
        // Who is named is gone, a stranger, too, of whom directed presence was seen.
        if ((areFriends(account, bare(jid)) || list.has(jid)) && session.text !== undefined) {
          if (jid === bare(jid)) for (const resource of ['one', 'two']) session.seen.delete(`${jid}/${resource}`)
          else session.seen.delete(jid)
        }
        if (session.directed.delete(jid)) this.#tell(session, jid, undefined)
      }
    }
    this.lists.set(account, list)
    for (const jid of [...USERS, ...FULLS]) {
      // Of a contact that comes back as a whole, the resources are not asked one by one.
      if (!turned(jid, false) || !areFriends(account, bare(jid)) || (jid !== bare(jid) && !before.has(jid))) continue
      for (const session of own) {
        if (session.text === undefined) continue
        this.#tell(session, jid, session.text)
        for (const other of this.sessions)
          if (
            (other.full === jid || bare(other.full) === jid) &&
            this.#answers(other, jid === bare(jid) ? account : session.full)
          )
            session.seen.set(other.full, other.text!)
      }
    }
  }

  /** Whether whoever watches gets to see an available `other`: all of an account do, as by broadcasts (§6), or one who probes. */
  #answers(other: Naive, watcher: string): boolean {
    if (other.text === undefined) return false
    const [his, mine] = [bare(other.full), bare(watcher)]
    if (his === mine) return true
    return areFriends(his, mine) && !this.blocks(mine, his) && !this.blocks(mine, other.full) && !this.blocks(his, watcher)
  }

  #tell(by: Naive, to: string, text: string | undefined): void {
    if (this.blocks(bare(by.full), to) || this.blocks(bare(to), by.full)) return
    for (const other of this.sessions) {
      if (other.full !== to && (bare(other.full) !== to || other.text === undefined)) continue
      if (text === undefined) other.seen.delete(by.full)
      else other.seen.set(by.full, text)
    }
  }
}

const rows: Row[] = []
beforeAll(async () => {
  const table = memoryTable()
  await using server = await harness([], { table, config: { domains: DOMAINS } })
  const clients = new Map<string, TestClient>()
  for (const user of USERS) clients.set(user, await server.online(`${user}/setup`))
  for (const [a, b] of FRIENDS) {
    for (const [by, to, type] of [
      [a, b, 'subscribe'],
      [b, a, 'subscribed'],
      [b, a, 'subscribe'],
      [a, b, 'subscribed'],
    ] as const) {
      const client = clients.get(by)!
      client.send(client.stanza('presence', { to: parseJid(to), type }))
      await server.quiet()
    }
  }
  for (const user of USERS) for await (const row of table.query(`a#${user}`)) rows.push(row)
})

test('who has seen whom, and who has heard what, agrees with a server that asks both lists every time', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 15, maxLength: 40, size: 'max' }), async (steps) => {
      const table = memoryTable()
      for (const row of rows) await table.put(row)
      await using server = await harness([blocking], { table, config: { domains: DOMAINS } })
      const play = new Play(server)
      await play.begin()
      for (const step of steps) await play.take(step)
      await play.compareLists()
    }),
    { numRuns: 150, interruptAfterTimeLimit: 20_000, markInterruptAsFailure: false },
  )
}, 60_000)

class Play {
  readonly #server: TestServer
  readonly #naive = new NaiveServer()
  readonly #clients = new Map<string, TestClient>()
  /** What each client had received when it last sent initial presence. */
  readonly #since = new Map<string, number>()
  #texts = 0

  constructor(server: TestServer) {
    this.#server = server
  }

  /** All are there, half of them available. */
  async begin(): Promise<void> {
    for (const full of FULLS) this.#clients.set(full, await this.#server.bind(full))
    for (const by of FULLS) if (by.endsWith('/one')) await this.take({ kind: 'show', by, jids: [] })
  }

  async take({ kind, by, jids }: Step): Promise<void> {
    const client = this.#clients.get(by)!
    const naive = this.#naive.sessions.find(({ full }) => full === by)!
    const [to] = jids.filter((jid) => jid.includes('@') && jid !== by)
    const text = `${by} ${++this.#texts}`
    const status = el('status', NS_CLIENT, {}, text)
    switch (kind) {
      case 'show':
        if (naive.text === undefined) this.#since.set(by, client.received.length)
        client.send(client.stanza('presence', {}, status))
        this.#naive.show(naive, text)
        break
      case 'hide':
        client.send(client.stanza('presence', { type: 'unavailable' }))
        this.#naive.hide(naive)
        break
      case 'direct':
        if (to === undefined || bare(to) === bare(by)) return
        client.send(client.stanza('presence', { to: parseJid(to) }, status))
        this.#naive.direct(naive, to, text)
        break
      case 'message':
        if (to !== undefined) await this.#message(client, naive, to, text)
        break
      case 'block':
      case 'unblock':
        await this.#command(client, kind, jids)
    }
    await this.#compare()
  }

  async #message(client: TestClient, naive: Naive, to: string, text: string): Promise<void> {
    const from = client.received.length
    client.message(to, text)
    await this.#server.quiet()
    const refused = client.received.slice(from).find(({ name, type }) => name === 'message' && type === 'error')
    const condition = refused && (find(refused, 'error', NS_CLIENT)!.children[0] as { name: string }).name
    const expected = this.#naive.message(naive, to, text)
    expect({ from: naive.full, to, condition }).toEqual({ from: naive.full, to, condition: expected })
  }

  async #command(client: TestClient, kind: 'block' | 'unblock', jids: readonly string[]): Promise<void> {
    if (kind === 'block' && jids.length === 0) return
    expect(await client.iq('set', el(kind, NS, {}, ...jids.map((jid) => el('item', NS, { jid }))))).toBeUndefined()
    const account = client.jid.bare
    const before = this.#naive.lists.get(account) ?? new Set<string>()
    const unblocked = jids.length === 0 ? [] : [...before].filter((jid) => !jids.includes(jid))
    this.#naive.change(account, new Set(kind === 'block' ? [...before, ...jids] : unblocked))
  }

  async #compare(): Promise<void> {
    await this.#server.quiet()
    for (const { full, text, seen, heard } of this.#naive.sessions) {
      const client = this.#clients.get(full)!
      const bodies = client.received.filter(({ name, type }) => name === 'message' && type === 'chat')
      expect({ full, heard: bodies.map((message) => textOf(find(message, 'body', NS_CLIENT)!)) }).toEqual({ full, heard })
      if (text !== undefined)
        expect({ full, sees: this.#seenBy(client) }).toEqual({ full, sees: Object.fromEntries([...seen].sort()) })
    }
  }

  #seenBy(client: TestClient): Record<string, string> {
    const seen = new Map<string, string>()
    for (const { name, type, from, ...came } of client.received.slice(this.#since.get(client.jid.full)).map(asShown)) {
      if (name !== 'presence' || type === 'error') continue
      if (type === '') seen.set(from.full, came.text)
      else
        for (const full of from.resource === '' ? FULLS.filter((full) => bare(full) === from.bare) : [from.full])
          seen.delete(full)
    }
    return Object.fromEntries([...seen].sort())
  }

  async compareLists(): Promise<void> {
    for (const user of USERS) {
      const list = await this.#clients.get(`${user}/one`)!.get(el('blocklist', NS))
      const jids = childrenOf(list, 'item', NS).map(({ attrs }) => attrs.jid)
      expect(new Set(jids)).toEqual(this.#naive.lists.get(user) ?? new Set())
    }
  }
}

function asShown(stanza: TestClient['received'][number]) {
  const { name, type, from } = stanza
  const status = name === 'presence' && type === '' ? find(stanza, 'status', NS_CLIENT) : undefined
  return { name, type, from, text: status === undefined ? '' : textOf(status) }
}

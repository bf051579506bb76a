// A whole server in the process, without sockets, for tests of modules and roles.
//
// Router and presence run as they do anywhere, on the in-process bus and an in-memory table; the harness stands in for
// the edge: it binds by the same call, numbers and orders what a client sends as edge/sessions/session.ts does, knows who sees whom as
// edge/watching/watching.ts does, and hands on what a multicast brings. `quiet` tells when nothing is under way any more, so that a test can say what did not come.
// In the project `cluster` the same tests run on several processes (harness-process.ts), their sessions on two edges by turns.
import type { Subscription } from '#bus/bus.ts'
import { type Caller, openCaller } from '#core/call.ts'
import { type Delivery, decodeStanza, encodeStanza, type Fields, type Origin, type ToMode } from '#core/envelope.ts'
import { IqHomes } from '#core/iq.ts'
import { type Lanes, openLanes } from '#core/lanes/lane.ts'
import type { AnyModule } from '#core/module.ts'
import { receiveMulticast } from '#core/multicast/multicast-receiver.ts'
import type { MemoryLog } from '#core/observing/log.ts'
import type { Ownership, RoleName } from '#core/ownership/ownership.ts'
import { Audience, type WatchNews } from '#edge/watching/audience.ts'
import { listOf } from '#edge/watching/watching.ts'
import { presenceModules } from '#presence/main.ts'
import { memoryTable } from '#table/memory.ts'
import { type Key, type Range, type Row, type Table, TableUnavailable } from '#table/table.ts'
import type { ErrorType, StanzaCondition } from '#xmpp/error.ts'
import { randomId } from '#xmpp/id.ts'
import { type Jid, NO_JID, parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT, NS_STANZAS } from '#xmpp/ns.ts'
import {
  childOf,
  type Element,
  find,
  readdress,
  type Stanza,
  type StanzaHead,
  type StanzaName,
  stanza,
  textOf,
} from '#xmpp/stanza.ts'
import { type Backstage, type HarnessOptions, type HarnessProcess, openBackstage } from './harness-process.ts'

export type { HarnessOptions } from './harness-process.ts'

/** What an iq was answered with: its payload, nothing, or an error. */
export type Answer = Element | Refusal | undefined
export interface Refusal {
  readonly condition: StanzaCondition
  readonly type: ErrorType
  readonly text: string
  /** The whole answer, for what it repeats. */
  readonly stanza: Stanza
}

const PASSWORD = 'a secret of nobody'
const PATIENCE_MS = 3_000
/** Turns of the event loop without any doing after which nothing more is to be expected. */
const QUIET_TURNS = 4

/** Starts router and presence with these modules, the roster among them. `await using server = await harness([ping])` stops it, too. */
export async function harness(modules: readonly AnyModule[], options: HarnessOptions = {}): Promise<TestServer> {
  const names = new Set(modules.map(({ name }) => name))
  const all = [...presenceModules.filter(({ name }) => !names.has(name)), ...modules] as AnyModule[]
  return new TestServer(await openBackstage(all, options))
}

/** A place where sessions are. */
interface StandIn {
  readonly id: string
  readonly lanes: Lanes
  readonly audience: Audience<TestClient>
  readonly deliveries: Subscription
}

export class TestServer implements AsyncDisposable {
  readonly process: HarnessProcess
  readonly log: MemoryLog
  readonly caller: Caller
  readonly homes: IqHomes
  readonly #backstage: Backstage
  readonly #edges: readonly StandIn[]
  readonly #clients = new Map<string, TestClient>()
  #bound = 0
  #stopped = false

  constructor(backstage: Backstage) {
    const { process, edges } = backstage
    this.process = process
    this.log = process.log
    this.#backstage = backstage
    this.caller = openCaller(process.bus, this.ownership)
    this.homes = new IqHomes(process.modules)
    this.#edges = edges.map(({ id, ways }) => {
      const lanes = openLanes(ways, id)
      const audience = new Audience<TestClient>((news) => submit(id, lanes, ways.ownership, news))
      const edge = { id, lanes, audience }
      return {
        ...edge,
        deliveries: receiveMulticast(ways, id, { delivery: (delivery) => this.#deliver(edge, delivery), lost: () => {} }),
      }
    })
  }

  /** The one where the first session is. */
  get edge(): string {
    return this.#edges[0]!.id
  }

  /** Of that edge. */
  get lanes(): Lanes {
    return this.#edges[0]!.lanes
  }

  /** As an edge knows it, which owns nothing. */
  get ownership(): Ownership {
    return this.#backstage.edges[0]!.ways.ownership
  }

  #deliver({ id, audience }: Pick<StandIn, 'id' | 'audience'>, delivery: Delivery): void {
    const { kind } = delivery
    if (kind === 'stanza')
      for (const session of delivery.sessions) this.#clientAt(id, session)?.deliver(delivery.stanza, delivery.to)
    else if (kind === 'order') this.#obey(id, audience, delivery)
    else if (kind === 'shown') this.#show(id, audience, delivery)
    else if (kind === 'snapshot') audience.snapshot(delivery.contact, delivery.resources)
    else if (kind === 'revoke' && delivery.watchers.length === 0) audience.revokeAll(delivery.contact)
    else audience[kind](delivery.contact, delivery.watchers)
  }

  #obey(edge: string, audience: Audience<TestClient>, { session, name, fields }: Delivery & { kind: 'order' }): void {
    const client = this.#clientAt(edge, session)
    const account = String(fields.account)
    if (name === 'watch')
      audience.watch(account, client?.present ? client : undefined, listOf(fields.contacts), fields.whole === true)
    else if (name === 'unwatch') audience.unwatch(account, listOf(fields.contacts))
    else if (name === 'hides') audience.hide(account, listOf(fields.jids))
    else client?.obey(name, fields)
  }

  #show(edge: string, audience: Audience<TestClient>, shown: Delivery & { kind: 'shown' }): void {
    audience.note(shown)
    const show = (client: TestClient): void => {
      if (shown.filter === '' || client.notifies.has(shown.filter)) client.deliver(shown.stanza, 'bare')
    }
    audience.forEach(shown, show)
    for (const session of shown.sessions) {
      const client = this.#clientAt(edge, session)
      if (!client?.present || audience.isHidden(client.jid.bare, shown.stanza.from.full)) continue
      if (shown.stanza.type === 'unavailable' || audience.sees(client.jid.bare, shown.contact)) show(client)
    }
  }

  #clientAt(edge: string, session: string): TestClient | undefined {
    const client = this.#clients.get(session)
    return client?.edge === edge ? client : undefined
  }

  /** Makes an account. */
  async account(account: string, password = PASSWORD): Promise<Jid> {
    const jid = parseJid(account)
    await this.caller.ask('router', jid.bare, 'account.create', { password })
    return jid
  }

  async exists(account: string): Promise<boolean> {
    return (await this.caller.ask('router', parseJid(account).bare, 'account.credentials', {})) !== null
  }

  /** Binds a session, after making its account where there is none. */
  async connect(full: string): Promise<TestClient> {
    const jid = parseJid(full)
    if (!(await this.exists(jid.bare))) await this.account(jid.bare)
    return this.bind(full)
  }

  /** Binds a session. Rejects with the StanzaError of a refusal. */
  async bind(full: string, flags: readonly string[] = []): Promise<TestClient> {
    const jid = parseJid(full)
    const session = randomId(9)
    const edge = this.#edges[this.#bound++ % this.#edges.length]!
    const request = { edge: edge.id, session, resource: jid.resource, flags }
    const bound = await this.caller.ask('router', jid.bare, 'session.bind', request)
    const client = new TestClient(this, edge, session, parseJid(bound))
    this.#clients.set(session, client)
    return client
  }

  /** Binds a session and sends initial presence; what that brings has come. */
  async online(full: string, priority = 0): Promise<TestClient> {
    const client = await this.connect(full)
    client.available(priority)
    await this.quiet()
    return client
  }

  /** An iq to a domain of ours from a stream that has not logged in. */
  async stranger(type: 'get' | 'set', payload: Element, { to = 'example.org', address = '192.0.2.1' } = {}): Promise<Answer> {
    const iq = stanza('iq', NO_JID, { to: parseJid(to), id: 'stranger', type }, payload)
    return answerOf(decodeStanza(await this.caller.ask('router', to, 'iq.stranger', { stanza: encodeStanza(iq), address })))
  }

  /** Resolves when nothing is on its way: what was sent is acked, what it caused has come. */
  async quiet(): Promise<void> {
    const { activity } = this.process
    this.#backstage.acknowledge()
    const deadline = performance.now() + PATIENCE_MS
    for (let still = 0, seen = -1; still < QUIET_TURNS; ) {
      await new Promise((resolve) => setImmediate(resolve))
      const idle = activity.underWay === 0 && [...this.#clients.values()].every(({ settled }) => settled)
      still = idle && seen === activity.count ? still + 1 : 0
      seen = activity.count
      if (performance.now() > deadline) throw new Error(`the server does not come to rest\n${this.logged()}`)
    }
  }

  /** The session is gone from the edge. */
  forget(client: TestClient): void {
    this.#clients.delete(client.session)
  }

  /** What was logged above debug, for messages of tests that fail. */
  logged(): string {
    const worth = this.log.lines.filter(({ level }) => level !== 'debug')
    return worth.map(({ level, event, fields }) => `${level} ${event} ${JSON.stringify(fields)}`).join('\n')
  }

  async stop(): Promise<void> {
    if (this.#stopped) return
    this.#stopped = true
    for (const { lanes } of this.#edges) lanes.close()
    await this.#backstage.stop()
    for (const { deliveries } of this.#edges) deliveries.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }
}

interface Waiter {
  readonly fits: (stanza: Stanza) => boolean
  readonly take: (stanza: Stanza) => void
}

/** One bound session, and the client behind it. */
export class TestClient {
  readonly session: string
  readonly jid: Jid
  /** Everything that came, in order, with the `to` that the edge would have written. */
  readonly received: Stanza[] = []
  readonly flags = new Set<string>()
  /** What its client's capabilities have of `<node>+notify` (XEP-0163 §4.2). */
  readonly notifies = new Set<string>()
  /** What it has broadcast last says that it is available. */
  present = false
  /** The stream error it was closed with. */
  closed: { readonly condition: string; readonly text: string } | undefined
  readonly #server: TestServer
  readonly #edge: StandIn
  readonly #queue: Stanza[] = []
  readonly #kept: Stanza[] = []
  #waiters: Waiter[] = []
  #home: RoleName = 'router'
  #known = false
  #gone = false
  #unacked = 0
  #n = 0

  constructor(server: TestServer, edge: StandIn, session: string, jid: Jid) {
    this.#server = server
    this.#edge = edge
    this.session = session
    this.jid = jid
  }

  get id(): string {
    return this.session
  }

  /** Where it is bound. */
  get edge(): string {
    return this.#edge.id
  }

  get settled(): boolean {
    return this.#unacked === 0 && this.#queue.length === 0
  }

  /** Sends a stanza of this client's, `from` stamped. */
  send(sent: Stanza): void {
    this.#queue.push(readdress(sent, { from: this.jid }))
    this.#pump()
  }

  message(to: string, text: string, ...more: readonly Element[]): void {
    this.send(this.stanza('message', { to: parseJid(to), type: 'chat', id: randomId(6) }, el0('body', text), ...more))
  }

  available(priority = 0): void {
    this.send(this.stanza('presence', {}, ...(priority === 0 ? [] : [el0('priority', String(priority))])))
  }

  stanza(name: StanzaName, head: StanzaHead, ...children: readonly Element[]): Stanza {
    return stanza(name, this.jid, head, ...children)
  }

  /** Resolves to the answer; rejects where none comes. */
  async iq(type: 'get' | 'set', payload: Element, to?: string): Promise<Answer> {
    const id = randomId(6)
    this.send(this.stanza('iq', { type, id, to: to === undefined ? undefined : parseJid(to) }, payload))
    const isAnswer = (came: Stanza) => came.name === 'iq' && came.id === id && (came.type === 'result' || came.type === 'error')
    return answerOf(await this.next(isAnswer))
  }

  /** The payload of a result. Rejects where the answer is an error or empty. */
  async get(payload: Element, to?: string): Promise<Element> {
    const answer = await this.iq('get', payload, to)
    if (answer === undefined || 'condition' in answer)
      throw new Error(`no payload, but ${answer?.condition ?? 'an empty result'}`)
    return answer
  }

  /** The oldest stanza that fits and was not taken, now or when it comes. */
  next(fits: (stanza: Stanza) => boolean = () => true): Promise<Stanza> {
    const at = this.#kept.findIndex(fits)
    if (at >= 0) return Promise.resolve(this.#kept.splice(at, 1)[0]!)
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        fits,
        take: (stanza) => {
          clearTimeout(timer)
          resolve(stanza)
        },
      }
      const timer = setTimeout(() => {
        this.#waiters = this.#waiters.filter((other) => other !== waiter)
        const came = this.received.map(({ name, type, id, child }) => `${name} ${type} ${id} ${child}`).join('\n')
        reject(
          new Error(`${this.jid.full} waited in vain. It has received:\n${came}\nThe server logged:\n${this.#server.logged()}`),
        )
      }, PATIENCE_MS)
      this.#waiters.push(waiter)
    })
  }

  /** The text of every message that came, in order; '' where one has no body. */
  bodies(): string[] {
    const messages = this.received.filter(({ name }) => name === 'message')
    return messages.map((message) => textOf(find(message, 'body', NS_CLIENT) ?? el0('body', '')))
  }

  /** The stream ends. */
  disconnect(): void {
    if (this.#gone) return
    this.#gone = true
    this.#presents(false)
    this.#server.forget(this)
    const account = this.jid.bare
    const signal = {
      kind: 'signal',
      account,
      name: 'session.closed',
      fields: { session: this.session, resource: this.jid.resource },
    } as const
    if (this.#known) this.#edge.lanes.send('presence', account, signal)
    this.#edge.lanes.send('router', account, signal)
  }

  deliver(stanza: Stanza, to: ToMode): void {
    const came = to === 'kept' ? stanza : readdress(stanza, { to: to === 'full' ? this.jid : parseJid(this.jid.bare) })
    this.received.push(came)
    const waiter = this.#waiters.find(({ fits }) => fits(came))
    if (waiter === undefined) {
      this.#kept.push(came)
      return
    }
    this.#waiters = this.#waiters.filter((other) => other !== waiter)
    waiter.take(came)
  }

  obey(name: string, fields: Fields): void {
    if (name === 'flag') this.flags[fields.off === true ? 'delete' : 'add'](String(fields.flag))
    if (name !== 'close') return
    this.closed = { condition: String(fields.condition), text: String(fields.text ?? '') }
    this.disconnect()
  }

  /** A session has unacked envelopes at one home at a time, as at the edge. */
  #pump(): void {
    for (let next = this.#queue[0]; next !== undefined && !this.#gone; next = this.#queue[0]) {
      const home = this.#homeOf(next)
      if (this.#unacked > 0 && home !== this.#home) return
      this.#queue.shift()
      this.#home = home
      if (home === 'presence') this.#known = true
      if (next.name === 'presence' && next.to === undefined) this.#presents(next.type === '')
      this.#unacked++
      const origin: Origin = { edge: this.#edge.id, session: this.session, n: ++this.#n }
      const envelope = { kind: 'stanza', point: 'outbound', account: this.jid.bare, origin, stanza: next } as const
      this.#edge.lanes.send(home, this.jid.bare, envelope, () => {
        this.#unacked--
        this.#pump()
      })
    }
  }

  #presents(available: boolean): void {
    this.present = available
    if (!available) this.#edge.audience.leave(this.jid.bare, this)
  }

  #homeOf({ name, type, to, child }: Stanza): RoleName {
    if (name === 'presence') return 'presence'
    const request = name === 'iq' && (type === 'get' || type === 'set') && (to === undefined || to.resource === '')
    return request ? this.#server.homes.homeOf(child) : 'router'
  }
}

/** One envelope for each owner. */
function submit(edge: string, lanes: Lanes, ownership: Ownership, news: WatchNews): void {
  const owners = new Map<string, string[]>()
  for (const contact of news.contacts) {
    const owner = ownership.ownerOf('presence', contact)
    owners.set(owner, [...(owners.get(owner) ?? []), contact])
  }
  for (const contacts of owners.values()) lanes.send('presence', contacts[0]!, { kind: 'watch', edge, ...news, contacts })
}

function el0(name: string, text: string): Element {
  return { name, ns: NS_CLIENT, attrs: {}, children: [text] }
}

export function answerOf(answer: Stanza): Answer {
  if (answer.type !== 'error') return answer.tree()[0]
  const error = find(answer, 'error', NS_CLIENT)!
  const conditions = error.children.filter((child): child is Element => typeof child !== 'string' && child.ns === NS_STANZAS)
  const text = childOf(error, 'text', NS_STANZAS)
  const { name: condition } = conditions.find(({ name }) => name !== 'text')!
  return {
    condition: condition as StanzaCondition,
    type: error.attrs.type as ErrorType,
    text: text === undefined ? '' : textOf(text),
    stanza: answer,
  }
}

/** A table in memory that is out of reach while `away`. */
export function flakyTable(table: Table = memoryTable()): Table & { away: boolean } {
  const check = (): void => {
    if (flaky.away) throw new TableUnavailable('the table is away')
  }
  const flaky = {
    away: false,
    get: async (key: Key) => {
      check()
      return table.get(key)
    },
    put: async (row: Row, ifVersion?: string) => {
      check()
      return table.put(row, ifVersion)
    },
    delete: async (key: Key, ifVersion?: string) => {
      check()
      return table.delete(key, ifVersion)
    },
    async *query(pk: string, range?: Range) {
      check()
      yield* table.query(pk, range)
    },
  }
  return flaky
}

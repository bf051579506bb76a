// An edge for tests: real roles on the in-process bus behind it, or owners that do as they are told; in front of it
// connections without sockets, or the listeners.
import { setImmediate as turn } from 'node:timers/promises'
import { memoryBus } from '#bus/memory.ts'
import { answerCalls, openCaller } from '#core/call.ts'
import { type Clock, systemClock } from '#core/clock.ts'
import { directLog } from '#core/commits/direct-log.ts'
import type { Envelope } from '#core/envelope.ts'
import { receiveLanes } from '#core/lanes/lane-receiver.ts'
import type { AnyModule } from '#core/module.ts'
import { type Multicast, openMulticast } from '#core/multicast/multicast.ts'
import { type MemoryLog, memoryLog } from '#core/observing/log.ts'
import { Metrics } from '#core/observing/metrics.ts'
import { type RoleName, soleOwnership } from '#core/ownership/ownership.ts'
import type { Process } from '#core/process.ts'
import { loadConfig } from '#core/settings/config.ts'
import type { OptionSpecs } from '#core/settings/options.ts'
import type { EncodedCredentials } from '#core/storage/accounts.ts'
import { Readings } from '#core/storage/readings.ts'
import { deriveCredentials, encodeCredentials } from '#core/storage/scram-keys.ts'
import { presenceModules, startPresence } from '#presence/main.ts'
import { startRouter } from '#router/main.ts'
import { memoryTable } from '#table/memory.ts'
import type { Table } from '#table/table.ts'
import { lowercaseId } from '#xmpp/id.ts'
import type { Connection, ConnectionEvents, OnConnection, Piece } from './listeners/connection.ts'
import { join } from './listeners/gather.ts'

export const PASSWORD = 'a secret of nobody'
const PATIENCE_MS = 5_000

export interface ProcessOptions {
  /** As in the configuration file; the domains are example.org and example.net, the ports chosen by the kernel. */
  readonly config?: Readonly<Record<string, unknown>>
  readonly modules?: readonly AnyModule[]
  readonly clock?: Clock
  readonly table?: Table
}

export interface TestProcess extends Process {
  readonly log: MemoryLog
}

export function testProcess({
  config = {},
  modules = [],
  clock = systemClock,
  table = memoryTable({ now: () => clock.now() }),
}: ProcessOptions = {}): TestProcess {
  const ports = { c2s: { port: 0, tlsPort: 'off' }, websocket: { port: 'off' } }
  const given: Record<string, unknown> = { domains: ['example.org', 'example.net'], scram: { iterations: 4096 }, ...config }
  for (const [name, defaults] of Object.entries(ports)) given[name] = { ...defaults, ...(given[name] as object) }
  const { config: checked } = loadConfig({ text: JSON.stringify(given), env: {} })
  const id = lowercaseId()
  const log = memoryLog()
  return {
    id,
    bus: memoryBus({ onError: (error, subject) => log.error('bus.handler_broke', { subject, error }) }),
    table,
    ownership: soleOwnership(id),
    config: checked,
    moduleOptions: Object.fromEntries(modules.map(({ name, options = {} }) => [name, defaultsOf(options)])),
    modules: [...(presenceModules as AnyModule[]), ...modules],
    journals: modules.flatMap(({ journals = [] }) => journals),
    openLog: (_role, log) => directLog(table, clock, log),
    server: { domains: checked.domains, registration: checked.registration, version: '0.0.0-test', moduleOptions: {} },
    clock,
    log,
    metrics: new Metrics(),
    readings: new Readings(),
  }
}

function defaultsOf(options: OptionSpecs<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(options).map(([key, spec]) => [key, (spec as { default?: unknown }).default]))
}

/** Router and presence as they run anywhere. Resolves to what stops them. */
export async function startRoles(process: Process): Promise<() => Promise<void>> {
  const roles = [await startPresence(process), await startRouter(process)]
  return async () => {
    for (const role of roles.reverse()) await role.stop()
    await process.bus.drain()
  }
}

export async function makeAccount(process: Process, account: string): Promise<void> {
  await openCaller(process.bus, process.ownership).ask('router', account, 'account.create', { password: PASSWORD })
}

/** How many sessions of an account the router knows. */
export async function boundSessions(process: Process, account: string): Promise<number> {
  return (await openCaller(process.bus, process.ownership).ask('router', account, 'account.sessions', {})).length
}

// Owners that do as they are told -----------------------------------------------------------------------------------

export interface Handed {
  readonly role: RoleName
  readonly envelope: Envelope
  /** Acks it. */
  readonly done: () => void
}

const CREDENTIALS = encodeCredentials(await deriveCredentials(PASSWORD, 4096))

/** Owners of both roles that bind whoever asks, and keep what comes until the test acks it. */
export class PuppetOwners {
  readonly handed: Handed[] = []
  readonly multicast: Multicast
  /** Called for each envelope as it comes. */
  onEnvelope: (handed: Handed) => void = () => {}
  /** Holds the answer to a bind back until it resolves. */
  binding: Promise<unknown> = Promise.resolve()

  readonly #known = new Map<string, EncodedCredentials>()

  constructor(process: Process) {
    const { bus, id, log } = process
    this.multicast = openMulticast(process, 'router', id)
    for (const role of ['router', 'presence'] as const) {
      receiveLanes(process, role, id, (envelope, done) => this.#take({ role, envelope, done }))
    }
    answerCalls(
      bus,
      'router',
      id,
      {
        'account.credentials': (account) => this.#known.get(account) ?? null,
        'session.bind': async (account, { resource }) => {
          await this.binding
          return `${account}/${resource || 'made-here'}`
        },
      },
      log,
    )
  }

  /** From now on the account can log in. */
  knows(account: string): void {
    this.#known.set(account, CREDENTIALS)
  }

  #take(handed: Handed): void {
    const { envelope } = handed
    if (envelope.kind === 'signal' && envelope.name === 'session.about') return handed.done() // for lists only
    this.handed.push(handed)
    this.onEnvelope(handed)
  }

  /** Of what came, in order: `router message 1`, `presence signal session.closed`. */
  summary(): string[] {
    return this.handed.map(({ role, envelope }) => {
      if (envelope.kind === 'stanza') return `${role} ${envelope.stanza.name} ${envelope.stanza.id}`
      return envelope.kind === 'signal' ? `${role} signal ${envelope.name}` : role
    })
  }
}

// Connections without sockets ---------------------------------------------------------------------------------------

export class FakeConnection implements Connection {
  readonly framing: 'stream' | 'frame'
  readonly address: string
  readonly loopback: boolean
  encrypted: boolean
  /** Everything that was written, frames one after the other. */
  written = ''
  frames: string[] = []
  ended = false
  destroyed = false
  paused = false
  pauses = 0
  tlsStarted = false
  unsentBytes = 0
  events!: ConnectionEvents
  /** What a paused peer has sent meanwhile. */
  #sent: Buffer[] = []
  #read = 0

  constructor(options: Partial<Pick<Connection, 'framing' | 'address' | 'loopback' | 'encrypted'>> = {}) {
    this.framing = options.framing ?? 'stream'
    this.address = options.address ?? '192.0.2.7'
    this.loopback = options.loopback ?? false
    this.encrypted = options.encrypted ?? true
  }

  get canStartTls(): boolean {
    return this.framing === 'stream' && !this.encrypted
  }

  write(head: Piece, body: Piece = '', tail: Piece = ''): void {
    if (this.ended || this.destroyed) throw new Error('written to after its end')
    const text = join([head, body, tail]).toString('utf8')
    this.frames.push(text)
    this.written += text
  }

  startTls(): void {
    this.tlsStarted = true
    this.encrypted = true
  }

  pause(): void {
    if (!this.paused) this.pauses++
    this.paused = true
  }

  resume(): void {
    this.paused = false
    while (!this.paused && this.#sent.length > 0) this.events.data(this.#sent.shift()!)
  }

  end(): void {
    this.ended = true
  }

  destroy(): void {
    this.destroyed = true
    this.events.closed()
  }

  /** From the peer. */
  send(xml: string | Uint8Array): void {
    const bytes = Buffer.from(xml as string)
    if (this.paused) this.#sent.push(bytes)
    else this.events.data(bytes)
  }

  /** The peer is gone. */
  vanish(): void {
    this.events.closed()
  }

  /** What was written since the last call. */
  take(): string {
    const text = this.written.slice(this.#read)
    this.#read = this.written.length
    return text
  }

  /** Resolves once what was not taken yet contains `wanted`, and takes all of it. */
  async until(wanted: string | RegExp): Promise<string> {
    const fits = (text: string): boolean => (typeof wanted === 'string' ? text.includes(wanted) : wanted.test(text))
    const deadline = performance.now() + PATIENCE_MS
    while (!fits(this.written.slice(this.#read))) {
      if (performance.now() > deadline)
        throw new Error(`${wanted} did not come; ${this.written.slice(this.#read) || 'nothing'} did`)
      await turn()
    }
    return this.take()
  }

  open(to = 'example.org', more = ''): this {
    this.send(this.framing === 'stream' ? header(to, more) : frameHeader(to, more))
    return this
  }

  /** Opens, logs in by PLAIN and binds; takes all that is answered. Resolves to the full JID. */
  async logIn(account: string, resource = ''): Promise<string> {
    const [local, domain] = account.split('@') as [string, string]
    this.open(domain)
    this.send(plainAuth(local))
    await this.until('<success')
    this.open(domain).send(bind(resource))
    const answer = await this.until(/<iq [^>]*type='(?:result|error)'/)
    const jid = /<jid>([^<]*)</.exec(answer)?.[1]
    if (jid === undefined) throw new Error(`not bound: ${answer}`)
    return jid
  }
}

export function connect(onConnection: OnConnection, options?: ConstructorParameters<typeof FakeConnection>[0]): FakeConnection {
  const connection = new FakeConnection(options)
  connection.events = onConnection(connection)
  return connection
}

// What clients write ------------------------------------------------------------------------------------------------

export function header(to = 'example.org', more = ''): string {
  const address = to === '' ? '' : `to='${to}' `
  return `<?xml version='1.0'?><stream:stream ${address}${more || "version='1.0'"} xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>`
}

export function frameHeader(to = 'example.org', more = ''): string {
  return `<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='${to}' ${more || "version='1.0'"}/>`
}

export function plainAuth(local: string, password = PASSWORD): string {
  return `<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>${base64(`\0${local}\0${password}`)}</auth>`
}

export function base64(text: string): string {
  return Buffer.from(text).toString('base64')
}

export function bind(resource = '', id = 'bind'): string {
  const inside = resource === '' ? '' : `<resource>${resource}</resource>`
  return `<iq xmlns='jabber:client' type='set' id='${id}'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>${inside}</bind></iq>`
}

/** Turns of the event loop in which whatever was under way on the in-process bus is done. */
export async function settled(turns = 20): Promise<void> {
  for (let i = 0; i < turns; i++) await turn()
}

/** Resolves when it holds. */
export async function eventually(
  holds: () => boolean | Promise<boolean>,
  what: string,
  patienceMs: number = PATIENCE_MS,
): Promise<void> {
  const deadline = performance.now() + patienceMs
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`not within ${patienceMs} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
}

// The server that is attacked: the real command in a process of its own, with bystanders, and accounts for attackers.
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { Place, type Started } from '#ctl/rookery.fixture.ts'
import { freePorts } from '#test/support/ports.ts'
import type { Figures, Orders, Report } from './bystanders.ts'
import { PASSWORD, Peer, type Ports, type Transport } from './peer.ts'

/** Short, so that whoever is to be sent away for saying nothing is gone before the suite is. */
export const LOGIN_TIMEOUT_MS = 5_000
export const SESSIONS_PER_ACCOUNT = 20
/** The accounts below, and some more for the flood of registrations. */
export const REGISTRATIONS_PER_HOUR = 30

export const CONFIG = {
  registration: 'open',
  c2s: { port: 0, tlsPort: 0, allowPlainOnLoopback: true },
  websocket: { port: 0 },
  log: { level: 'info' },
  limits: {
    loginTimeoutMs: LOGIN_TIMEOUT_MS,
    sessionsPerAccount: SESSIONS_PER_ACCOUNT,
    registrationsPerHourPerAddress: REGISTRATIONS_PER_HOUR,
  },
}

const FILLING_BYTES = 10_000_000

/** What bin/rookery gives Node, with the reasons. */
const AS_STARTED = { MALLOC_TRIM_THRESHOLD_: '131072', NODE_OPTIONS: '--max-semi-space-size=16' }

export interface Attack {
  readonly name: string
  /** By how many MB it may move the server's memory, where that is not what one peer may: an attack by many. */
  readonly movesMb?: number
  /** Throws where an answer is another than it should be. */
  run(target: Target): Promise<unknown>
}

/** An attack, in one row of the table that is printed at the end. */
export interface Row extends Figures {
  readonly name: string
}

export class Target {
  readonly ports: Ports
  readonly pid: number
  readonly rows: Row[] = []
  readonly #place: Place
  readonly #server: Started
  readonly #bystanders: ChildProcess
  readonly #peers = new Set<Peer>()
  #output = ''

  private constructor(place: Place, server: Started, ports: Ports, bystanders: ChildProcess) {
    this.#place = place
    this.#server = server
    this.ports = ports
    this.pid = server.process.pid!
    this.#bystanders = bystanders
    server.process.stdout!.on('data', (text: string) => {
      this.#output = (this.#output + text).slice(-200_000)
    })
  }

  static async start(accounts: readonly string[]): Promise<Target> {
    const place = new Place()
    const [http] = (await freePorts(1)) as [number]
    const server = await place.run(place.configure({ ...CONFIG, http: { port: http } }), AS_STARTED)
    const ports = {
      tcp: await server.port('c2s'),
      tls: await server.port('c2s (TLS)'),
      websocket: await server.port('websocket'),
      http,
    }
    for (const account of [...accounts, 'bystander-1', 'bystander-2']) await register(ports, account)
    const orders: Orders = { ports, pid: server.process.pid!, romeo: 'bystander-1', juliet: 'bystander-2' }
    const bystanders = fork(fileURLToPath(new URL('./bystanders.ts', import.meta.url)), [JSON.stringify(orders)], {
      execArgv: ['--disable-warning=ExperimentalWarning'],
    })
    await once(bystanders, 'message')
    return new Target(place, server, ports, bystanders)
  }

  /** Connected, and closed when the attack is over. */
  async connect(transport: Transport = 'tcp', from?: string): Promise<Peer> {
    return this.#keep(await Peer.connect(this.ports, transport, from))
  }

  async online(account: string, transport: Transport = 'tcp', resource = ''): Promise<Peer> {
    return this.#keep(await Peer.online(this.ports, account, transport, resource))
  }

  /** V8 lets it grow to 48 MB when first there is so much to do (bin/rookery), and keeps it: whoever comes next finds it there. */
  async fillYoungGeneration(): Promise<void> {
    const peer = await this.online('mercutio', 'tcp', 'first')
    const large = `<message to='${peer.jid}' type='headline'><body>${'x'.repeat(50_000)}</body></message>`
    for (let sent = 0; sent < FILLING_BYTES; sent += large.length) await peer.sendAndWait(large)
    await peer.ask('get', "<ping xmlns='urn:xmpp:ping'/>")
  }

  #keep(peer: Peer): Peer {
    this.#peers.add(peer)
    return peer
  }

  /** Runs an attack, and says what it did to the others. Rejects where they have lost anything, or the server has ended. */
  async measure(name: string, attack: () => Promise<unknown>): Promise<Row> {
    await this.#tell('begin')
    try {
      await attack()
    } finally {
      for (const peer of this.#peers) peer.destroy()
      this.#peers.clear()
    }
    const figures = await this.#tell('finish')
    if (this.#server.process.exitCode !== null) throw new Error(`the server ended:\n${this.log()}`)
    if ('fault' in figures) throw new Error(`bystanders during ${name}: ${figures.fault}\n${this.log()}`)
    const row = { name, ...(figures as Figures) }
    this.rows.push(row)
    return row
  }

  async #tell(order: 'begin' | 'finish'): Promise<Report> {
    const answer = once(this.#bystanders, 'message')
    this.#bystanders.send(order)
    const [report] = await answer
    return report as Report
  }

  /** The end of what the server wrote. */
  log(): string {
    return this.#output.slice(-4_000)
  }

  /** Lines of the log with this event, of those that are kept. */
  logged(event: string): number {
    return this.#output.split(`"event":"${event}"`).length - 1
  }

  async stop(): Promise<void> {
    for (const peer of this.#peers) peer.destroy()
    this.#bystanders.kill()
    const { code } = await this.#server.stop()
    await this.#place.clear()
    if (code !== 0) throw new Error(`the server ended with ${code}:\n${this.log()}`)
  }

  table(): string {
    const head = ['attack', 'messages', 'median ms', 'worst ms', 'worst CPU ms', 'memory moved MB', 'and kept MB']
    const rows = this.rows.map(({ name, sent, medianMs, worstMs, worstCpuMs, startMb, peakMb, endMb }) => [
      name,
      ...[
        sent,
        medianMs.toFixed(1),
        worstMs.toFixed(0),
        worstCpuMs,
        (peakMb - startMb).toFixed(1),
        (endMb - startMb).toFixed(1),
      ].map(String),
    ])
    const widths = head.map((_, i) => Math.max(...[head, ...rows].map((row) => row[i]!.length)))
    const line = (cells: readonly string[]): string =>
      cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join('  ')
    return [head, ...rows].map(line).join('\n')
  }
}

/** In-band (XEP-0077 §3.1). */
export async function register(ports: Ports, account: string): Promise<void> {
  const peer = await Peer.connect(ports)
  try {
    await peer.open()
    const answer = await askToRegister(peer, account)
    if (!answer.includes("type='result'")) throw new Error(`${account} was not registered: ${answer}`)
  } finally {
    peer.destroy()
  }
}

export function askToRegister(peer: Peer, account: string): Promise<string> {
  const query = `<query xmlns='jabber:iq:register'><username>${account}</username><password>${PASSWORD}</password></query>`
  return peer.ask('set', query)
}

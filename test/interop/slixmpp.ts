// slixmpp as a test uses it: a Python process per client (slixmpp_client.py), commands in, events out.
import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { Mailbox, within } from '#test/support/mailbox.ts'
import { type Account, certificateOf } from './accounts.ts'
import type { TestServer } from './server.ts'

/** More than the 8 s after which the script itself gives up, so that its own words are seen. */
const COMMAND_WITHIN_MS = 12_000

export const HOW_TO_GET_SLIXMPP =
  'no Python here can import slixmpp. Get it with `apt-get install python3-slixmpp`, or with ' +
  '`python3 -m venv .tools/python && .tools/python/bin/pip install slixmpp`; or name an interpreter in ROOKERY_PYTHON.'

/** The first interpreter that can import slixmpp; undefined if there is none. */
export function pythonWithSlixmpp(): string | undefined {
  const root = join(import.meta.dirname, '../..')
  const named = process.env.ROOKERY_PYTHON
  const candidates = [join(root, '.tools/python/bin/python3'), '/usr/bin/python3', 'python3']
  return (named ? [named] : candidates).find(
    (python) => spawnSync(python, ['-c', 'import slixmpp'], { timeout: 20_000 }).status === 0,
  )
}

export interface RosterItem {
  readonly name: string
  readonly subscription: string
  readonly ask: string
  readonly groups: readonly string[]
}

export type SlixEvent =
  | { event: 'message'; type: string; from: string; to: string; body: string; delay: string | null }
  | { event: 'presence'; type: string; from: string; show: string; status: string }
  | { event: 'published'; from: string; node: string; items: Record<string, string>; retracted: string[] }
  | { event: 'roster'; items: Record<string, RosterItem> }
  | { event: 'disconnected'; reason: string }

export interface Online {
  readonly jid: string
  readonly mechanism: string
  /** The protocol version that was negotiated, such as TLSv1.3. */
  readonly tls: string
  /** The account was made by slixmpp itself, within the same stream. */
  readonly registered: boolean
  readonly roster: Record<string, RosterItem>
}

export interface Archived {
  readonly id: string
  readonly from: string
  readonly body: string
  /** When it came, ISO 8601. */
  readonly stamp: string
}

export interface ConnectOptions {
  readonly resource?: string
  readonly directTls?: boolean
  readonly register?: boolean
  /** With stream management (XEP-0198). */
  readonly managed?: boolean
  /** With personal eventing (XEP-0163): the nodes it wants to hear of. */
  readonly interests?: readonly string[]
}

interface Answer {
  readonly id: number
  readonly ok?: unknown
  readonly error?: string
}

export class Slixmpp {
  readonly events: Mailbox<SlixEvent>
  readonly #answers: Mailbox<Answer>
  readonly #server: TestServer
  readonly #process: ChildProcessWithoutNullStreams
  readonly #folder: string
  #stderr = ''
  #commands = 0

  static async start(server: TestServer, python: string): Promise<Slixmpp> {
    return new Slixmpp(server, python, await mkdtemp(join(tmpdir(), 'slixmpp-')))
  }

  private constructor(server: TestServer, python: string, folder: string) {
    this.#server = server
    this.#folder = folder
    const log = () => `${server.log()}\nslixmpp wrote:\n${this.#stderr}`
    this.events = new Mailbox('slixmpp', log)
    this.#answers = new Mailbox('the driver of slixmpp', log)
    this.#process = spawn(python, [join(import.meta.dirname, 'slixmpp_client.py')], { stdio: 'pipe' })
    this.#process.stderr.setEncoding('utf8').on('data', (text) => {
      this.#stderr = (this.#stderr + text).slice(-20_000)
    })
    createInterface({ input: this.#process.stdout }).on('line', (line) => {
      const said = JSON.parse(line) as Answer | SlixEvent
      if ('event' in said) this.events.put(said)
      else this.#answers.put(said)
    })
    this.#process.on('error', (error) => this.#answers.close(error.message))
    this.#process.on('exit', (code, signal) => this.#answers.close(`Python ended: code ${code}, signal ${signal}`))
    this.#process.stdin.on('error', () => {}) // 'exit' says it better
  }

  /** Logs in, gets the roster, becomes available. Trusts the server's certificate and no other. */
  async connect(
    account: Account,
    { resource, directTls = false, register = false, managed = false, interests }: ConnectOptions = {},
  ): Promise<Online> {
    const ca = join(this.#folder, 'ca.pem')
    writeFileSync(ca, await certificateOf(this.#server))
    return (await this.#do('connect', {
      jid: resource === undefined ? account.jid : `${account.jid}/${resource}`,
      password: account.password,
      host: this.#server.host,
      port: directTls ? this.#server.tlsPort : this.#server.port,
      ca,
      direct_tls: directTls,
      register,
      managed,
      ...(interests !== undefined && { interests }),
    })) as Online
  }

  /** Its connection breaks, without a word. */
  async cut(): Promise<void> {
    await this.#do('cut', {})
  }

  /** Connects again, there if that is said, and goes on with the session it had; rejects where the server does not let it. */
  async resume(
    { host, port }: Pick<TestServer, 'host' | 'port'> = this.#server,
  ): Promise<{ jid: string; previd: string; unacked: number }> {
    return (await this.#do('resume', { host, port })) as { jid: string; previd: string; unacked: number }
  }

  async send(to: string, body: string): Promise<void> {
    await this.#do('send', { to, body })
  }

  async presence(show: string, status: string): Promise<void> {
    await this.#do('presence', { show, status })
  }

  async subscription(to: string, type: 'subscribe' | 'subscribed' | 'unsubscribe' | 'unsubscribed'): Promise<void> {
    await this.#do('subscription', { to, type })
  }

  async roster(): Promise<Record<string, RosterItem>> {
    return (await this.#do('roster', {})) as Record<string, RosterItem>
  }

  async update(jid: string, item: { name?: string; groups?: string[]; subscription?: 'remove' }): Promise<void> {
    await this.#do('update', { jid, ...item })
  }

  async disco(jid: string): Promise<{ identities: string[]; features: string[] }> {
    return (await this.#do('disco', { jid })) as { identities: string[]; features: string[] }
  }

  /** The round trip in seconds. */
  async ping(jid: string): Promise<number> {
    return (await this.#do('ping', { jid })) as number
  }

  /** All of one's own archive (XEP-0313), or what was said with a peer; newest first where it pages backwards. */
  async archive({ peer, reverse = false }: { peer?: string; reverse?: boolean } = {}): Promise<readonly Archived[]> {
    return (await this.#do('archive', { peer, reverse })) as Archived[]
  }

  /** Uploads a file, in base64 (XEP-0363); where it can be read. */
  async upload(name: string, data: string, type: string): Promise<string> {
    return (await this.#do('upload', { name, data, type })) as string
  }

  /** To one's own account (XEP-0060 §7.1), with publish-options where they are given. */
  async publish(node: string, item: string, payload: string, options?: Readonly<Record<string, string>>): Promise<void> {
    await this.#do('publish', { node, item, payload, ...(options && { options }) })
  }

  async retract(node: string, item: string): Promise<void> {
    await this.#do('retract', { node, item })
  }

  /** Payloads by the ids of their items. */
  async items(jid: string, node: string): Promise<Record<string, string>> {
    return (await this.#do('items', { jid, node })) as Record<string, string>
  }

  /** Publishes a picture, in base64, as one's avatar (XEP-0084); its id. */
  async avatar(data: string, options: Readonly<Record<string, string>>): Promise<string> {
    return (await this.#do('avatar', { data, options })) as string
  }

  async avatarOf(jid: string, item: string): Promise<string> {
    return (await this.#do('avatar_of', { jid, item })) as string
  }

  async disconnect(): Promise<void> {
    await this.#do('disconnect', {})
  }

  message(awaited: string, from: string) {
    return this.#event(awaited, 'message', (event) => event.from === from || event.from.split('/')[0] === from)
  }

  presenceOf(awaited: string, from: string, { type = '', show }: { type?: string; show?: string } = {}) {
    return this.#event(awaited, 'presence', (event) => {
      if (event.type !== type || (show !== undefined && event.show !== show)) return false
      return event.from === from || event.from.split('/')[0] === from
    })
  }

  published(awaited: string, from: string, node: string) {
    return this.#event(awaited, 'published', (event) => event.from === from && event.node === node)
  }

  push(awaited: string) {
    return this.#event(awaited, 'roster', () => true)
  }

  /** Ends the Python process, connected or not. */
  async stop(): Promise<void> {
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      const exit = once(this.#process, 'exit')
      this.#process.stdin.end()
      await within(exit, 'Python to end', () => this.#stderr).catch(() => this.#process.kill('SIGKILL'))
    }
    await rm(this.#folder, { recursive: true, force: true })
  }

  async #event<K extends SlixEvent['event']>(
    awaited: string,
    kind: K,
    fits: (event: Extract<SlixEvent, { event: K }>) => boolean,
  ) {
    const found = await this.events.next(
      awaited,
      (event) => event.event === kind && fits(event as Extract<SlixEvent, { event: K }>),
    )
    return found as Extract<SlixEvent, { event: K }>
  }

  async #do(command: string, args: object): Promise<unknown> {
    const id = ++this.#commands
    this.#process.stdin.write(`${JSON.stringify({ id, do: command, ...args })}\n`)
    const answer = await this.#answers.next(`the end of ${command}`, (said) => said.id === id, COMMAND_WITHIN_MS)
    if (answer.error !== undefined) throw new Error(`slixmpp, ${command}: ${answer.error}`)
    return answer.ok
  }
}

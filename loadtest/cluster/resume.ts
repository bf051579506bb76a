// How long a client is away whose connection broke, or whose edge was told to stop or was killed: from there until its session goes
// on at another edge, or until it has another one.
import { connect, type Socket } from 'node:net'
import { freePorts } from '../server.ts'
import { register, sleep } from './people.ts'
import { Site } from './site.ts'

/** Clients that break off do so at any moment of this. */
const SPREAD_S = 2
const PATIENCE_S = 60
/** At once, for the first logins. */
const LOGINS_AT_ONCE = 16
const NS_SM = 'urn:xmpp:sm:3'

/** A client that resumes, over TCP without TLS. */
class Away {
  readonly #user: string
  #socket: Socket | undefined
  #text = ''
  #previd = ''
  #received = 0
  /** When its connection was gone. */
  goneMs = 0
  closed: Promise<void> = Promise.resolve()

  constructor(index: number) {
    this.#user = `u${index}`
  }

  /** Resolves with what became of its session; of the first one, 'new'. */
  async come(port: number): Promise<'new' | 'resumed' | 'failed'> {
    const socket = connect({ host: '127.0.0.1', port, noDelay: true })
    this.#socket = socket
    this.#text = ''
    socket.setEncoding('utf8').on('data', (text: string) => {
      this.#text += text
    })
    socket.on('error', () => {})
    this.closed = new Promise((resolve) => socket.once('close', resolve)).then(() => {
      this.goneMs = performance.now()
    })
    this.#open()
    await this.#until('</stream:features>')
    const initial = Buffer.from(`\0${this.#user}\0bench`).toString('base64')
    socket.write(`<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>${initial}</auth>`)
    await this.#until('<success')
    this.#open()
    await this.#until('</stream:features>')
    if (this.#previd !== '') {
      socket.write(`<resume xmlns='${NS_SM}' previd='${this.#previd}' h='${this.#received}'/>`)
      if ((await this.#until(/<resumed|<failed/)).includes('<resumed')) return 'resumed'
    }
    const isFirst = this.#previd === ''
    socket.write("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>away</resource></bind></iq>")
    await this.#until('<jid>')
    socket.write(`<enable xmlns='${NS_SM}' resume='true'/>`)
    this.#previd = /<enabled [^>]*id='([^']*)'/.exec(await this.#until('<enabled'))![1]!
    this.#received = 0
    socket.write('<presence/>')
    await this.#until('<presence ')
    this.#received = 1
    return isFirst ? 'new' : 'failed'
  }

  break(): void {
    this.#socket?.destroy()
  }

  #open(): void {
    this.#socket!.write(
      "<stream:stream to='localhost' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>",
    )
  }

  async #until(wanted: string | RegExp): Promise<string> {
    const fits = (): boolean => (typeof wanted === 'string' ? this.#text.includes(wanted) : wanted.test(this.#text))
    while (!fits()) {
      if (this.#socket!.destroyed) throw new Error(`${this.#user}: the connection is gone; ${wanted} had not come`)
      await new Promise<void>((resolve) => {
        const socket = this.#socket!
        const go = (): void => {
          socket.off('data', go)
          socket.off('close', go)
          resolve()
        }
        socket.on('data', go)
        socket.on('close', go)
      })
    }
    const text = this.#text
    this.#text = ''
    return text
  }
}

/** Each comes back as soon as it is gone, until somebody takes it; in ms, and how many went on with their sessions. */
async function back(clients: readonly Away[], port: number): Promise<{ ms: number[]; resumed: number }> {
  const ms: number[] = []
  let resumed = 0
  await Promise.all(
    clients.map(async (client) => {
      await client.closed
      const { goneMs } = client
      for (;;) {
        if (performance.now() - goneMs > PATIENCE_S * 1_000) throw new Error(`nobody took a client within ${PATIENCE_S} s`)
        try {
          if ((await client.come(port)) === 'resumed') resumed++
          ms.push(performance.now() - goneMs)
          return
        } catch {
          await sleep(0.1)
        }
      }
    }),
  )
  return { ms: ms.sort((a, b) => a - b), resumed }
}

function row(what: string, { ms, resumed }: { ms: readonly number[]; resumed: number }): string {
  const at = (share: number): string => ms[Math.min(ms.length - 1, Math.floor(ms.length * share))]!.toFixed(0)
  return `| ${what} | ${ms.length} | ${resumed} | ${at(0.5)} | ${at(0.99)} | ${at(1)} |`
}

/** Lines of a table. */
export async function resume({ users }: { readonly users: number }): Promise<string[]> {
  const lines = ['| what happens | sessions | resumed at another edge | p50, ms | p99, ms | the last, ms |', '|---|--:|--:|--:|--:|--:|']
  const site = await Site.open({ config: { limits: { loginsPerSecond: 0 } } })
  try {
    const [{ tcp: one, tls: two }, { tcp: three }] = [await freePorts(), await freePorts()]
    await site.add('router-1', 'router')
    await site.add('presence-1', 'presence')
    const edge = (name: string, port: number) => site.add(name, 'edge', { c2s: { port, tlsPort: 'off', allowPlainOnLoopback: true } })
    await edge('edge-1', one)
    const second = await edge('edge-2', two)
    const third = await edge('edge-3', three)
    await site.ready()
    await register(users, one)
    const clients = Array.from({ length: users }, (_, index) => new Away(index))
    for (let at = 0; at < users; at += LOGINS_AT_ONCE)
      await Promise.all(clients.slice(at, at + LOGINS_AT_ONCE).map((client) => client.come(one)))
    await sleep(2)
    let coming = back(clients, two)
    for (const client of clients) setTimeout(() => client.break(), Math.random() * SPREAD_S * 1_000)
    lines.push(row('its connection breaks', await coming))
    await sleep(2)
    coming = back(clients, three)
    await second.stop()
    lines.push(row('SIGTERM to its edge, all at once', await coming))
    await sleep(2)
    coming = back(clients, one)
    await third.kill('SIGKILL')
    lines.push(row('`kill -9` of its edge, all at once', await coming))
    for (const client of clients) client.break()
  } finally {
    await site.close()
  }
  return lines
}

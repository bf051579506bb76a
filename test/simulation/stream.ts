// A client's stream as its session at the edge sees it (edge/streams/stream.ts), without bytes and without a login: behind it the session
// is the edge's own. What is written to the client is on its way for a moment, and lost with the connection.
import type { SessionDelivery } from '#core/envelope.ts'
import type { OpenEdge } from '#edge/main.ts'
import { NS_CSI } from '#edge/sessions/inactive.ts'
import { EdgeSession } from '#edge/sessions/session.ts'
import { NS_SM } from '#edge/sessions/stream-management.ts'
import type { ClientStream } from '#edge/streams/stream.ts'
import type { Broadcast } from '#edge/watching/broadcast.ts'
import { StanzaError, StreamError } from '#xmpp/error.ts'
import { type Jid, parseJid, withResource } from '#xmpp/jid.ts'
import { NS_CLIENT } from '#xmpp/ns.ts'
import type { ScannedElement } from '#xmpp/scan.ts'
import { el, type Stanza } from '#xmpp/stanza.ts'

/** What a stream tells its client. */
export interface StreamEvents {
  /** There is a session: a new one, or the one that was asked for, of which so much was handled. */
  bound(session: string): void
  resumed(h: number): void
  enabled(id: string): void
  acknowledged(h: number): void
  asked(): void
  came(stanza: Stanza): void
  /** It is over: the edge has ended it, or there is no session to be had. `isResumable`: its session is not. */
  ended(isResumable?: boolean): void
}

/** Where it is. */
export interface StreamHost {
  readonly id: string
  readonly dead: boolean
  readonly edge: OpenEdge | undefined
  readonly gate: (call: () => void) => void
  bind(account: Jid, session: string, resource: string): Promise<Jid | StanzaError>
}

export interface Resuming {
  readonly id: string
  /** What the client has had. */
  readonly h: number
}

export class SimStream {
  readonly generation = 0
  readonly about = { address: '192.0.2.1', transport: 'tcp', encrypted: true } as const
  readonly xmlns = ''
  readonly lang = ''
  state: 'negotiating' | 'bound' | 'closed' = 'negotiating'
  readonly #host: StreamHost
  readonly #client: StreamEvents
  readonly #later: (call: () => void) => void
  #session: EdgeSession | undefined
  #pauses = 0
  readonly #unread: ScannedElement[] = []
  /** The client is not connected by it any more. */
  #cut = false

  /** @param later calls when what is on its way comes */
  constructor(host: StreamHost, client: StreamEvents, later: (call: () => void) => void) {
    this.#host = host
    this.#client = client
    this.#later = later
  }

  // The client --------------------------------------------------------------------------------------------------------

  /** Asks for a session. `name`: of a new one. */
  open(jid: Jid, name: string, resuming: Resuming | undefined): void {
    this.#come(() => {
      const { edge } = this.#host.edge!
      edge.streams.add(this.#asStream)
      if (resuming === undefined) return void this.#bind(jid, name)
      const here = edge.resumables.get(resuming.id)
      if (here !== undefined) return this.#resume(here, resuming, jid, name)
      const fetched = edge.moves.fetch({ previd: resuming.id, account: jid.bare, generation: 0, h: resuming.h })
      fetched.then((session) => this.#resume(session, resuming, jid, name)).catch((error) => this.fail(error as StreamError))
    })
  }

  #resume(session: EdgeSession | undefined, { h }: Resuming, jid: Jid, name: string): void {
    if (session === undefined) return void this.#bind(jid, name)
    session.claim(h, (granted) => {
      if (this.state === 'closed') return
      if (!granted) return void this.#bind(jid, name)
      this.#take(session)
      session.resume(this.#asStream, h)
      this.#read()
    })
  }

  write(element: ScannedElement): void {
    this.#come(() => {
      if (this.state === 'closed') return
      this.#unread.push(element)
      this.#read()
    })
  }

  /** The connection is lost: `said`, the client closes it with a word. */
  cut(said: boolean): void {
    if (said) {
      this.#come(() => {
        this.#session?.leave()
        this.#finish(false)
      })
    } else this.#come(() => this.#finish(true))
    this.#cut = true
  }

  /** Where what has come first is not read yet, it comes behind that: as bytes do. */
  #come(call: () => void): void {
    if (!this.#cut) this.#host.gate(call)
  }

  // The edge ------------------------------------------------------------------------------------------------------------

  get #asStream(): ClientStream {
    return this as unknown as ClientStream
  }

  async #bind(account: Jid, name: string): Promise<void> {
    if (this.state === 'closed') return
    const { edge } = this.#host.edge!
    const early: SessionDelivery[] = []
    edge.early.set(name, early)
    const bound = await this.#host.bind(parseJid(account.bare), name, account.resource)
    edge.early.delete(name)
    if (bound instanceof StanzaError) return this.fail(new StreamError('resource-constraint', bound.text))
    const session = new EdgeSession(name, withResource(bound, bound.resource), edge, this, this.#asStream)
    if (this.state !== 'negotiating') return session.end()
    this.#take(session)
    this.#tell(() => this.#client.bound(name))
    for (const delivery of early) session.receive(delivery)
    this.#read()
  }

  #take(session: EdgeSession): void {
    this.#session = session
    this.#host.edge!.edge.sessions.set(session.id, session)
    this.state = 'bound'
  }

  #read(): void {
    while (this.state === 'bound' && this.reading && this.#unread.length > 0) this.#session!.take(this.#unread.shift()!)
  }

  get reading(): boolean {
    return this.#pauses === 0
  }

  pause(): void {
    this.#pauses++
  }

  resume(): void {
    this.#pauses--
    this.#read()
  }

  say(text: string): void {
    const name = /^<([a-z]+) /.exec(text)![1]
    const attribute = (name: string): string => new RegExp(` ${name}='([^']*)'`).exec(text)?.[1] ?? ''
    if (name === 'enabled') this.#tell(() => this.#client.enabled(attribute('id')))
    else if (name === 'resumed') this.#tell(() => this.#client.resumed(Number(attribute('h'))))
    else if (name === 'a') this.#tell(() => this.#client.acknowledged(Number(attribute('h'))))
    else if (name === 'r') this.#tell(() => this.#client.asked())
    else throw new Error(`nobody expects ${text}`)
  }

  deliver(_rootTag: string, stanza: Stanza): void {
    this.#tell(() => this.#client.came(stanza))
  }

  show({ stanza }: Broadcast): void {
    this.#tell(() => this.#client.came(stanza))
  }

  #tell(call: () => void): void {
    this.#later(() => {
      if (!this.#cut) call()
    })
  }

  shutDown(): void {
    this.fail(new StreamError('system-shutdown'), this.#session?.resumedBy !== '')
  }

  fail(_error: StreamError, isResumable = false): void {
    if (this.state === 'closed') return
    const farewell = this.#session?.farewell ?? ''
    if (farewell !== '') this.say(farewell)
    this.#finish(isResumable)
    this.#tell(() => this.#client.ended(isResumable))
  }

  replaced(): void {
    this.#session = undefined
    this.fail(new StreamError('conflict'))
  }

  cutOff(): void {
    this.#finish(true)
    this.#tell(() => this.#client.ended())
  }

  checkLag(): void {}

  #finish(lost: boolean): void {
    if (this.state === 'closed') return
    this.state = 'closed'
    this.#host.edge?.edge.streams.delete(this.#asStream)
    const session = this.#session
    this.#session = undefined
    if (lost) session?.lost()
    else session?.end()
  }
}

// Elements ------------------------------------------------------------------------------------------------------------

export function elementOf({ name, to, id, type, child, payload }: Stanza): ScannedElement {
  const head = { name, ns: NS_CLIENT, to: to?.full, from: undefined, id, type, lang: '' }
  return { ...head, child, childCount: child === '' ? 0 : 1, payload, attribute: () => '', element: never }
}

/** Of XEP-0198. */
export function managementElement(name: 'enable' | 'r' | 'a', attributes: Readonly<Record<string, string>> = {}): ScannedElement {
  const head = { name, ns: NS_SM, to: undefined, from: undefined, id: '', type: '', lang: '', child: '', childCount: 0 }
  const element = el(name, NS_SM, attributes)
  return { ...head, payload: Buffer.alloc(0), attribute: (name) => attributes[name] ?? '', element: () => element }
}

/** Of XEP-0352. */
export function stateElement(name: 'active' | 'inactive'): ScannedElement {
  return { ...managementElement('r'), name, ns: NS_CSI }
}

function never(): never {
  throw new Error('nobody wants the tree of a stanza here')
}

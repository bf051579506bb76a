// Somebody with a client: he shows himself, changes whom he sees, and knows what he is shown. He loses his connection now and then,
// and comes back: to his session, where that is still there, else to a new one.

import type { Scheduler } from '#test/simulation/scheduler.ts'
import {
  elementOf,
  managementElement,
  SimStream,
  type StreamEvents,
  type StreamHost,
  stateElement,
} from '#test/simulation/stream.ts'
import { type Jid, parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT, NS_ROSTER } from '#xmpp/ns.ts'
import type { ScannedElement } from '#xmpp/scan.ts'
import { type Element, el, find, type Stanza, stanza, textOf } from '#xmpp/stanza.ts'
import type { Model, Showing } from './model.ts'

const NETWORK_MS = 1
const NS_BLOCKING = 'urn:xmpp:blocking'

export interface Surroundings {
  readonly scheduler: Scheduler
  readonly model: Model
  readonly trace: (who: string, what: string) => void
  /** Runs a check, of which what it throws is found in the end. */
  guard(check: () => void): void
}

export type SubscriptionWord = 'subscribe' | 'subscribed' | 'unsubscribe' | 'unsubscribed'

interface Asked {
  /** The name of the payload: 'query' (of the roster), 'block', 'unblock'. */
  readonly name: string
  readonly peer: string
}

export class Person implements StreamEvents, Showing {
  readonly jid: Jid
  host: StreamHost | undefined
  text: string | undefined
  readonly directed = new Set<string>()
  readonly directedBefore = new Set<string>()
  readonly view = new Map<string, string>()
  readonly #around: Surroundings
  #stream: SimStream | undefined
  #open = false
  #isInactive = false
  session = ''
  #sessions = 0
  #resumedBy = ''
  #n = 0
  #h = 0
  #texts = 0
  #unacked: { readonly n: number; readonly element: ScannedElement }[] = []
  /** By its id. */
  readonly #asked = new Map<string, Asked>()

  constructor(jid: string, around: Surroundings) {
    this.jid = parseJid(jid)
    this.#around = around
  }

  get full(): string {
    return this.jid.full
  }

  get account(): string {
    return this.jid.bare
  }

  get isBack(): boolean {
    return this.#open && this.session !== ''
  }

  get isConnected(): boolean {
    return this.#stream !== undefined
  }

  get isAcked(): boolean {
    return this.#unacked.length === 0
  }

  #trace(what: string): void {
    this.#around.trace(this.jid.local + this.jid.resource, what)
  }

  // What he does ------------------------------------------------------------------------------------------------------

  connect(host: StreamHost): void {
    this.host = host
    this.#trace(`connects to ${host.id}`)
    this.#stream = new SimStream(host, this, (call) => this.#around.scheduler.after(NETWORK_MS, call))
    const resuming = this.#resumedBy === '' ? undefined : { id: this.#resumedBy, h: this.#h }
    this.#stream.open(this.jid, `${this.jid.local}${this.jid.resource}x${++this.#sessions}`, resuming)
  }

  /** With a word, for which he has to be there. */
  leave(): void {
    if (!this.isBack) return
    this.disconnect(true)
    this.#forget()
  }

  disconnect(said = false): void {
    if (this.#stream !== undefined) this.#trace(said ? 'leaves' : 'has lost its connection')
    this.#stream?.cut(said)
    this.#stream = undefined
    this.#open = false
    this.#isInactive = false // XEP-0352 §5.2
  }

  hostDied(): void {
    this.disconnect()
    this.#forget()
  }

  #forget(): void {
    this.host = undefined
    this.session = ''
    this.text = undefined
    this.#resumedBy = ''
    this.#n = 0
    this.#h = 0
    this.#unacked = []
    this.#asked.clear()
    this.directed.clear()
    this.directedBefore.clear()
    this.view.clear()
  }

  #newText(): string {
    const text = `${this.jid.local}${this.jid.resource}-${++this.#texts}`
    this.#around.model.says(text)
    return text
  }

  /** `again`: the same as before (RFC 6121 §4.4: clients do, and nobody needs it). */
  show(again = false): void {
    if (this.session === '') return
    if (this.text === undefined) this.view.clear() // initial presence: all is shown anew (§4.3)
    if (this.text === undefined || !again) this.text = this.#newText()
    for (const account of this.directed) this.directedBefore.add(account)
    this.directed.clear()
    this.#presence({}, status(this.text))
  }

  hide(): void {
    if (this.text === undefined) return
    this.text = undefined
    this.directed.clear()
    this.directedBefore.clear()
    this.#presence({ type: 'unavailable' })
  }

  direct(to: string): void {
    if (this.text === undefined) return
    const text = this.#newText()
    this.#around.model.directs(text, to)
    this.directed.add(to)
    this.#presence({ to }, status(text))
  }

  subscription(to: string, type: SubscriptionWord): void {
    if (this.session === '') return
    this.#presence({ to, type })
  }

  remove(contact: string): void {
    this.#ask(el('query', NS_ROSTER, {}, el('item', NS_ROSTER, { jid: contact, subscription: 'remove' })), contact)
  }

  block(peer: string, blocks: boolean): void {
    const name = blocks ? 'block' : 'unblock'
    this.#ask(el(name, NS_BLOCKING, {}, el('item', NS_BLOCKING, { jid: peer })), peer)
  }

  #ask(payload: Element, peer: string): void {
    if (this.session === '') return
    const id = `q${this.#n + 1}`
    this.#asked.set(id, { name: payload.name, peer })
    this.#trace(`asks for ${payload.name} of ${peer}`)
    this.#say(stanza('iq', this.jid, { type: 'set', id }, payload))
  }

  /** XEP-0352. */
  indicate(state: 'active' | 'inactive'): void {
    if (!this.#open || (state === 'inactive') === this.#isInactive) return
    this.#isInactive = state === 'inactive'
    this.#trace(`is ${state}`)
    this.#stream!.write(stateElement(state))
  }

  #presence({ to, type = '' }: { to?: string; type?: string }, ...children: Element[]): void {
    this.#trace(`${type || 'shows'} ${to ?? ''} ${children.map(textOf).join()}`)
    this.#say(stanza('presence', this.jid, { to: to === undefined ? undefined : parseJid(to), type }, ...children))
  }

  #say(said: Stanza): void {
    const element = elementOf(said)
    this.#unacked.push({ n: ++this.#n, element })
    if (!this.#open) return
    this.#stream!.write(element)
    this.#stream!.write(managementElement('r'))
  }

  // What he is told -------------------------------------------------------------------------------------------------------

  bound(session: string): void {
    this.#forgetSession(session)
    this.#stream!.write(managementElement('enable', { resume: 'true' }))
    this.show()
  }

  #forgetSession(session: string): void {
    const { host } = this
    this.#forget()
    this.host = host
    this.session = session
    this.#open = true
    this.#trace(`has the session ${session}`)
  }

  enabled(id: string): void {
    this.#resumedBy = id
  }

  resumed(h: number): void {
    this.#trace(`goes on with ${this.session}`)
    this.#open = true
    this.acknowledged(h)
    for (const { element } of this.#unacked) this.#stream!.write(element)
    this.#stream!.write(managementElement('r'))
  }

  acknowledged(h: number): void {
    while (this.#unacked.length > 0 && this.#unacked[0]!.n <= h) this.#unacked.shift()
  }

  asked(): void {
    this.#stream!.write(managementElement('a', { h: String(this.#h) }))
  }

  ended(isResumable = false): void {
    this.disconnect()
    if (!isResumable) this.#forget()
  }

  came(stanza: Stanza): void {
    if (this.#resumedBy !== '') this.#h++
    if (stanza.name === 'iq') this.#answered(stanza)
    else if (stanza.name === 'presence') this.#see(stanza)
  }

  #answered({ id, type }: Stanza): void {
    const asked = this.#asked.get(id)
    if (asked === undefined || type === 'set') return
    this.#asked.delete(id)
    this.#trace(`is answered ${type}: ${asked.name} ${asked.peer}`)
    if (type === 'result' && asked.name === 'block') this.#around.model.blocked(this.account, asked.peer)
  }

  #see(presence: Stanza): void {
    const { from, type } = presence
    if (type !== '' && type !== 'unavailable') return
    const shown = find(presence, 'status', NS_CLIENT)
    this.#trace(`is shown ${from.full} ${type || (shown && textOf(shown))}`)
    if (type === 'unavailable' && from.resource === '') {
      for (const full of this.view.keys()) if (parseJid(full).bare === from.bare) this.view.delete(full)
    } else if (type === 'unavailable') this.view.delete(from.full)
    else {
      const text = shown === undefined ? '' : textOf(shown)
      this.view.set(from.full, text)
      this.#around.guard(() => this.#around.model.sees(this.account, from.full, text))
    }
  }
}

function status(text: string): Element {
  return el('status', NS_CLIENT, {}, text)
}

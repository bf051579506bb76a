// A bound session at its edge: what a client sends becomes numbered envelopes, what comes for it goes to the socket.
//
// A session has unacked envelopes at one home at a time. Before it turns to the other (a roster set, then a message)
// the stanza waits here for the acks, and the stream is not read meanwhile: so order holds across homes
// (RFC 6120 §10.1). It is not read either while too much of it is unacked.
import { errorOf } from '#core/answer.ts'
import type { Delivery, Origin, ToMode } from '#core/envelope.ts'
import type { RoleName } from '#core/ownership.ts'
import { traceFromHere } from '#core/trace.ts'
import { StanzaError, StreamError } from '#xmpp/error.ts'
import { type Jid, NO_JID, parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT, NS_SESSION } from '#xmpp/ns.ts'
import type { ScannedElement } from '#xmpp/scan.ts'
import { copyOf, rootTag, type Stanza, type StanzaName, stanza, stanzaOfBytes } from '#xmpp/stanza.ts'
import type { Edge } from './main.ts'
import type { ClientStream } from './stream.ts'

export class EdgeSession {
  readonly id: string
  readonly jid: Jid
  /** What modules have set on it (core/module.ts, Session.set). */
  readonly flags = new Set<string>()
  readonly #edge: Edge
  readonly #stream: ClientStream
  /** The XEP-0198 count: stanzas taken from this client. */
  #n = 0
  #unacked = 0
  #home: RoleName = 'router'
  /** It has sent something to its presence owner, who must be told of its end. */
  #known = false
  #held: Stanza | undefined
  #heldFor: RoleName = 'router'
  #paused = false
  /** The owner is behind, for this session as for all. */
  #congested = false
  #closing = false
  #routerTold = false
  /** To be called when nothing is unacked. */
  #whenSettled: (() => void) | undefined
  readonly #acked: () => void

  constructor(id: string, jid: Jid, edge: Edge, stream: ClientStream) {
    this.id = id
    this.jid = jid
    this.#edge = edge
    this.#stream = stream
    this.#acked = () => this.#onAck()
  }

  /** A first-level element of a bound stream. Throws StreamError for what is no stanza or not this client's. */
  take(element: ScannedElement): void {
    if (element.ns !== NS_CLIENT || !isStanzaName(element.name)) {
      throw new StreamError('unsupported-stanza-type', `{${element.ns}}${element.name}`) // RFC 6120 §4.9.3.24
    }
    this.#checkFrom(element.from)
    this.#n++
    const refused = this.#refusalOf(element)
    if (refused !== undefined) return this.#answer(element, refused)
    const stanza = this.#stanzaOf(element)
    if (stanza === undefined) return
    if (stanza.child === LEGACY_SESSION && isForServer(stanza)) return this.#answerLegacySession(stanza)
    traceFromHere('stanza.received', stanza, (stanza) => this.#submit(stanza, this.#homeFor(stanza)))
  }

  /** RFC 6120 §8.1.2.1: absent, or the JID of this very session, or its bare JID. */
  #checkFrom(from: string | undefined): void {
    if (from === undefined || from === this.jid.full || from === this.jid.bare) return
    try {
      const { full } = parseJid(from)
      if (full === this.jid.full || full === this.jid.bare) return
    } catch {}
    throw new StreamError('invalid-from', 'that is not you') // §4.9.3.9
  }

  /** What RFC 6120 §8.2.3 asks of an iq. */
  #refusalOf(element: ScannedElement): StanzaError | undefined {
    if (element.name !== 'iq') return undefined
    if (element.id === '') return new StanzaError('bad-request', 'an iq has an id')
    switch (element.type) {
      case 'get':
      case 'set':
        return element.childCount === 1
          ? undefined
          : new StanzaError('bad-request', 'an iq of type get or set has exactly one child')
      case 'result':
        return element.childCount <= 1 ? undefined : new StanzaError('bad-request', 'a result has at most one child')
      case 'error':
        return undefined
      default:
        return new StanzaError('bad-request', 'an iq is of type get, set, result or error')
    }
  }

  #answer(element: ScannedElement, error: StanzaError): void {
    const { name, id, type, lang, child, payload } = element
    const refused = stanzaOfBytes(name as StanzaName, this.jid, undefined, id, type, lang, child, payload)
    const answer = errorOf(refused, error)
    if (answer !== undefined) this.deliver(answer, 'kept')
  }

  #stanzaOf(element: ScannedElement): Stanza | undefined {
    let to: Jid | undefined
    if (element.to !== undefined && element.to !== '') {
      try {
        to = parseJid(element.to)
      } catch (error) {
        this.#answer(element, new StanzaError('jid-malformed', (error as Error).message)) // RFC 6120 §8.3.3.8
        return undefined
      }
    }
    const { name, id, type, child, payload } = element
    return stanzaOfBytes(name as StanzaName, this.jid, to, id, type, element.lang || this.#stream.lang, child, payload)
  }

  /** RFC 3921 §3: old clients ask for a session after the bind; there is nothing to do. */
  #answerLegacySession(iq: Stanza): void {
    this.deliver(stanza('iq', NO_JID, { to: this.jid, id: iq.id, type: 'result' }), 'kept')
  }

  #homeFor({ name, to, type, child }: Stanza): RoleName {
    if (name === 'message') return 'router'
    if (name === 'presence') return 'presence'
    if ((type === 'get' || type === 'set') && (to === undefined || to.resource === '')) return this.#edge.homes.homeOf(child)
    return 'router'
  }

  #submit(stanza: Stanza, home: RoleName): void {
    if (this.#unacked > 0 && home !== this.#home) {
      this.#held = copyOf(stanza, stanza.trace)
      this.#heldFor = home
      this.#pause()
      return
    }
    this.#send(stanza, home)
    const { lanes, limits } = this.#edge
    if (this.#unacked >= limits.inFlightPerSession) this.#pause()
    else if (lanes.congested(home, this.jid.bare)) {
      this.#congested = true
      this.#pause()
      lanes.onRelief(() => {
        this.#congested = false
        this.#relieve()
      })
    }
  }

  #send(stanza: Stanza, home: RoleName): void {
    this.#home = home
    if (home === 'presence') this.#known = true
    this.#unacked++
    const origin: Origin = { edge: this.#edge.id, session: this.id, n: this.#n }
    this.#edge.lanes.send(
      home,
      this.jid.bare,
      { kind: 'stanza', point: 'outbound', account: this.jid.bare, origin, stanza },
      this.#acked,
    )
  }

  #onAck(): void {
    this.#unacked--
    if (this.#unacked === 0) {
      if (this.#held !== undefined) {
        const held = this.#held
        this.#held = undefined
        this.#send(held, this.#heldFor)
        if (this.#closing) this.#tellOwners()
      } else if (this.#closing) {
        this.#tellOwners()
      } else if (this.#whenSettled !== undefined) {
        this.#whenSettled()
      }
    }
    this.#relieve()
  }

  #pause(): void {
    if (this.#paused) return
    this.#paused = true
    this.#stream.pause()
  }

  #relieve(): void {
    if (!this.#paused || this.#congested || this.#held !== undefined || this.#unacked > this.#edge.limits.inFlightPerSession / 2)
      return
    this.#paused = false
    this.#stream.resume()
  }

  /** To the socket, in this turn's write. */
  deliver(stanza: Stanza, to: ToMode): void {
    const address = to === 'kept' ? stanza.to?.full : to === 'full' ? this.jid.full : this.jid.bare
    this.#stream.deliver(rootTag(stanza, address, this.#stream.xmlns), stanza)
  }

  /** Anything that came for this session, in order. */
  receive(delivery: Delivery): void {
    if (delivery.kind === 'stanza') return this.deliver(delivery.stanza, delivery.to)
    const { name, fields } = delivery
    if (name === 'close') {
      this.#stream.fail(
        new StreamError(fields.condition as StreamError['condition'], typeof fields.text === 'string' ? fields.text : ''),
      )
    } else if (name === 'flag') {
      this.flags.add(String(fields.flag))
    }
  }

  /** Calls back once everything the client has sent is handled, and so answered; at once where it is. */
  settle(then: () => void): void {
    if (this.#unacked === 0 && this.#held === undefined) then()
    else this.#whenSettled = then
  }

  /** The stream is gone: the owners hear of it after the client's last stanza. */
  closed(): void {
    if (this.#closing) return
    this.#closing = true
    this.#edge.leaving.add(this)
    if (this.#held === undefined) this.#tellOwners()
  }

  /**
   * On the lane of the client's last stanza it comes behind it. The router hears of it at once, since what is still sent
   * to this session is lost; presence only when all is acked, so that contacts see the last message before `unavailable`.
   */
  #tellOwners(): void {
    const account = this.jid.bare
    const signal = {
      kind: 'signal',
      account,
      name: 'session.closed',
      fields: { session: this.id, resource: this.jid.resource },
    } as const
    if (!this.#routerTold) this.#edge.lanes.send('router', account, signal)
    this.#routerTold = true
    if (this.#known && this.#home === 'router' && this.#unacked > 0) return
    if (this.#known) this.#edge.lanes.send('presence', account, signal)
    this.#known = false
    this.#edge.leaving.delete(this)
  }
}

const LEGACY_SESSION = `{${NS_SESSION}}session`

/** To the client's own server: without `to`, or to the host (RFC 6120 §10.3.3, §10.5). */
function isForServer({ name, type, to }: Stanza): boolean {
  return name === 'iq' && type === 'set' && (to === undefined || (to.local === '' && to.resource === ''))
}

function isStanzaName(name: string): name is StanzaName {
  return name === 'message' || name === 'presence' || name === 'iq'
}

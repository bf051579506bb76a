// A stanza past its hooks becomes deliveries: messages by RFC 6121 §8.5, iqs by RFC 6120 §8.2.3 and §10.
import { conditionOf, messageType, mostAvailable, nonNegative, verdictOf } from '#core/delivery-rules.ts'
import type { Origin } from '#core/envelope.ts'
import type { OfflineMessage, Passage } from '#core/hooks.ts'
import type { Owner } from '#core/owner.ts'
import type { BoundSession, Registry } from '#core/ownership/registry.ts'
import type { LazyPassage } from '#core/passage.ts'
import { StanzaError } from '#xmpp/error.ts'
import { bareOf, type Jid } from '#xmpp/jid.ts'
import { readdress, type Stanza } from '#xmpp/stanza.ts'

type Done = () => void

export class Routing {
  readonly #owner: Owner
  readonly #sessions: Registry

  constructor(owner: Owner, sessions: Registry) {
    this.#owner = owner
    this.#sessions = sessions
  }

  /** From one of our sessions (RFC 6120 §10.3 without a `to`, §10.5 with one). */
  outbound(stanza: Stanza, origin: Origin, passage: LazyPassage, done: Done): void | Promise<void> {
    if (stanza.name === 'iq') return this.#owner.outboundIq(stanza, origin, done, passage.age)
    const { to } = stanza
    if (to === undefined) return this.#owner.send(readdress(stanza, { to: bareOf(stanza.from) }), done, passage) // §10.3.1: as to one's own bare JID
    if (to.local === '' && this.#owner.isLocal(to.domain)) {
      this.#owner.refuse(stanza, origin) // §10.5.1: the host itself takes no messages
      return done()
    }
    this.#owner.send(stanza, done, passage)
  }

  /** To one of our accounts. */
  inbound(stanza: Stanza, passage: Passage, done: Done): void | Promise<void> {
    switch (stanza.name) {
      case 'iq':
        return this.#inboundIq(stanza, passage.account, done)
      case 'message':
        return this.#inboundMessage(stanza, passage, done)
      case 'presence':
        this.#inboundPresence(stanza, passage.account)
        done()
    }
  }

  /**
   * What a session was sent and has not acknowledged, behind its end: as to a resource that is not there (XEP-0198 §4). No
   * hook runs: it has been filtered, archived and copied. Whoever was shown presence is shown the next one anyway.
   */
  returned(stanza: Stanza, passage: Passage, done: Done): void | Promise<void> {
    const { accounts } = this.#owner
    const { account } = passage
    const take = (exists: boolean): void | Promise<void> => {
      if (exists && stanza.name === 'message') return this.#inboundMessage(stanza, passage, done, true)
      if (stanza.name === 'iq' || !exists) this.nobody(stanza)
      done()
    }
    if (accounts.isSealed(account)) return take(false)
    const exists = accounts.exists(account)
    return typeof exists === 'boolean' ? take(exists) : exists.then(take)
  }

  /** RFC 6121 §8.5.1: nobody has this address. */
  nobody(stanza: Stanza): void {
    const refused =
      stanza.name === 'message' ? verdictOf('no account', 'bare', messageType(stanza.type)) === 'refuse' : stanza.name === 'iq'
    if (refused) this.#owner.bounce(stanza, new StanzaError('service-unavailable'))
  }

  /** RFC 6121 §8.5.3.1: presence goes to any connected resource; the presence owner knows those that have sent something there. */
  #inboundPresence(presence: Stanza, account: Jid): void {
    const session = this.#sessions.byResource(account.bare, presence.to!.resource)
    if (session !== undefined) this.#deliver(session, presence, account)
  }

  #inboundIq(iq: Stanza, account: Jid, done: Done): void | Promise<void> {
    const { to } = iq
    const request = iq.type === 'get' || iq.type === 'set'
    if (to !== undefined && to.resource !== '') {
      const session = this.#sessions.byResource(account.bare, to.resource)
      if (session !== undefined) this.#deliver(session, iq, account)
      else if (request) this.#owner.bounce(iq, new StanzaError('service-unavailable')) // RFC 6121 §8.5.3.2.3
      return done()
    }
    if (!request) return done() // RFC 6121 §8.5.2.1.3: an answer to a bare JID answers nobody
    return this.#owner.iq('account', iq, account, undefined, done) // the server answers on the account's behalf
  }

  #inboundMessage(message: Stanza, passage: Passage, done: Done, returned = false): void | Promise<void> {
    const { account } = passage
    const sessions = this.#sessions.of(account.bare)
    const resource = message.to?.resource ?? ''
    const match = resource === '' ? undefined : this.#sessions.byResource(account.bare, resource)
    const address = resource === '' ? 'bare' : match === undefined ? 'full, no match' : 'full, match'
    switch (verdictOf(conditionOf(sessions), address, messageType(message.type))) {
      case 'deliver':
        this.#deliver(match!, message, account)
        return done()
      case 'most available':
        this.#deliverToAll(mostAvailable(sessions), message, account)
        return done()
      case 'all':
        this.#deliverToAll(nonNegative(sessions), message, account)
        return done()
      case 'offline':
        return this.#keep('message.offline', message, passage, done, returned)
      case 'refuse':
        return this.#keep('message.unclaimed', message, passage, done, returned)
      case 'ignore':
        return done()
    }
  }

  /** RFC 6121 §8.5.2.2.1: kept by whoever keeps messages, else the sender is told. */
  #keep(
    event: 'message.offline' | 'message.unclaimed',
    stanza: Stanza,
    { account, archiveId, cause }: Passage,
    done: Done,
    returned: boolean,
  ): void | Promise<void> {
    const message: OfflineMessage = { account, stanza, archiveId, cause, returned, kept: false, refused: undefined }
    const told = this.#owner.hooks.emit(event, message)
    const finish = (): void => {
      if (!message.kept) this.#owner.bounce(stanza, message.refused ?? new StanzaError('service-unavailable'))
      done()
    }
    return told === undefined ? finish() : told.then(finish)
  }

  /** One multicast, however many they are: one copy of the payload for each edge. */
  #deliverToAll(sessions: readonly BoundSession[], stanza: Stanza, account: Jid): void {
    if (sessions.length === 1) return this.#deliver(sessions[0]!, stanza, account)
    const { commit, multicast } = this.#owner
    commit.after(account.bare, () => multicast.fanOut(sessions, stanza, 'kept'))
  }

  #deliver(session: BoundSession, stanza: Stanza, account: Jid): void {
    const { commit, multicast } = this.#owner
    if (commit.pending(account.bare)) commit.after(account.bare, () => multicast.deliver(session, stanza))
    else multicast.deliver(session, stanza)
  }
}

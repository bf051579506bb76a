// A naive presence service, to compare the real one with: no edges, no multicasts, no suppression, one stanza a contact.
//
// Everything happens at once and in the order in which it is called. Rosters follow Appendix A by subscription.ts, which
// has tests of its own; what is checked here is who has seen what.
import { parseJid } from '#xmpp/jid.ts'
import type { RosterItem } from './roster/roster-item.ts'
import { farewell, inbound, outbound, type SubscriptionType, seenBy, sees } from './subscription.ts'

export interface NaiveSession {
  readonly account: string
  readonly full: string
  /** The text of the presence it has broadcast; undefined while it is not available. */
  text: string | undefined
  /** Whom it has sent directed presence to, as they were addressed. */
  readonly directed: Set<string>
  /** By full JID: the text last seen, or 'unavailable'. Begins anew with each initial presence. */
  readonly seen: Map<string, string>
}

export class NaiveServer {
  readonly sessions: NaiveSession[] = []
  readonly rosters = new Map<string, Map<string, RosterItem>>()

  /** A session that had the resource is gone first. */
  connect(full: string): NaiveSession {
    const rival = this.sessions.find((other) => other.full === full)
    if (rival !== undefined) this.disconnect(rival)
    const session: NaiveSession = { account: parseJid(full).bare, full, text: undefined, directed: new Set(), seen: new Map() }
    this.sessions.push(session)
    return session
  }

  disconnect(session: NaiveSession): void {
    this.hide(session)
    this.sessions.splice(this.sessions.indexOf(session), 1)
  }

  show(session: NaiveSession, text: string): void {
    const initial = session.text === undefined
    session.text = text
    if (initial) session.seen.clear()
    for (const account of this.#audienceOf(session.account)) this.#tell(session, account, text)
    if (initial) this.#probe(session)
  }

  hide(session: NaiveSession): void {
    const wasAvailable = session.text !== undefined
    session.text = undefined
    const audience = this.#audienceOf(session.account)
    if (wasAvailable) for (const account of audience) this.#tell(session, account, 'unavailable')
    for (const to of session.directed)
      if (!wasAvailable || !audience.includes(parseJid(to).bare)) this.#tell(session, to, 'unavailable')
    session.directed.clear()
  }

  direct(session: NaiveSession, to: string, text: string | undefined): void {
    if (text === undefined) session.directed.delete(to)
    else session.directed.add(to)
    this.#tell(session, to, text ?? 'unavailable')
  }

  subscription(account: string, contact: string, type: SubscriptionType): void {
    if (account === contact) return
    const change = outbound(this.item(account, contact), contact, type)
    this.#keep(account, contact, change.after)
    if (change.presence === 'send-unavailable') this.#showTo(account, contact, false)
    if (change.route) this.#receive(contact, account, type)
    if (change.presence === 'send-presence') this.#showTo(account, contact, true)
  }

  remove(account: string, contact: string): void {
    const item = this.item(account, contact)
    if (item === undefined || !item.inRoster) return
    const { types, presence } = farewell(item)
    this.#keep(account, contact, undefined)
    if (presence !== undefined) this.#showTo(account, contact, false)
    for (const type of types) this.#receive(contact, account, type)
  }

  item(account: string, contact: string): RosterItem | undefined {
    return this.rosters.get(account)?.get(contact)
  }

  #receive(account: string, contact: string, type: SubscriptionType): void {
    const change = inbound(this.item(account, contact), contact, type)
    this.#keep(account, contact, change.after)
    if (change.autoReply !== undefined) this.#receive(contact, account, change.autoReply)
    if (change.presence !== undefined) this.#showTo(account, contact, change.presence === 'send-presence')
  }

  #keep(account: string, contact: string, item: RosterItem | undefined): void {
    const roster = this.rosters.get(account) ?? new Map<string, RosterItem>()
    this.rosters.set(account, roster)
    if (item === undefined) roster.delete(contact)
    else roster.set(contact, item)
  }

  #audienceOf(account: string): string[] {
    return [account, ...[...(this.rosters.get(account)?.values() ?? [])].filter(seenBy).map(({ jid }) => jid)]
  }

  #probe(session: NaiveSession): void {
    const contacts = [...(this.rosters.get(session.account)?.values() ?? [])].filter(sees)
    for (const other of this.sessions) {
      if (other === session || other.text === undefined) continue
      const entitled = contacts.some(({ jid }) => jid === other.account) && seenBy(this.item(other.account, session.account))
      if (entitled || other.account === session.account) session.seen.set(other.full, other.text)
    }
  }

  /** To a bare JID's available sessions, or to one session, available or not. */
  #tell(session: NaiveSession, to: string, text: string): void {
    for (const other of this.sessions) {
      if (other.full === to || (other.account === to && other.text !== undefined)) other.seen.set(session.full, text)
    }
  }

  #showTo(account: string, contact: string, available: boolean): void {
    for (const session of this.sessions) {
      if (session.account !== account || session.text === undefined) continue
      this.#tell(session, contact, available ? session.text : 'unavailable')
      if (!available) for (const to of session.directed) if (parseJid(to).bare === contact) session.directed.delete(to)
    }
  }
}

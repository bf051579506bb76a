// The session registry: bind, conflict, availability, the end of a session.
import type { Fields } from '#core/envelope.ts'
import type { Owner } from '#core/owner.ts'
import { type AboutSession, BoundSession, type ConnectionFacts, type Registry } from '#core/registry.ts'
import { StanzaError } from '#xmpp/error.ts'
import { randomId } from '#xmpp/id.ts'
import { type Jid, withResource } from '#xmpp/jid.ts'

export interface BindRequest {
  readonly edge: string
  readonly session: string
  /** Prepared; '' asks for one of the server's making (RFC 6120 §7.6). */
  readonly resource: string
  /** For whoever runs the server. */
  readonly about?: ConnectionFacts
}

/**
 * Binds a resource (RFC 6120 §7). Where it is taken, the newer session wins and the older one's stream ends with
 * `<conflict/>` (§7.7.2.2, second option): it is most often the same device, back before the server noticed it was gone.
 * At the limit the oldest of those that wait to be resumed makes room (XEP-0198): a client that comes back again and again
 * without resuming does not shut itself out. Throws StanzaError: not-allowed for an account that is gone,
 * resource-constraint at the limit (§7.6.2.1).
 */
export async function bindSession(owner: Owner, sessions: Registry, account: Jid, request: BindRequest): Promise<Jid> {
  if (!(await owner.accounts.exists(account))) throw new StanzaError('not-allowed', 'the account is gone')
  const jid = withResource(account, request.resource === '' ? randomId(9) : request.resource)
  const others = sessions.of(account.bare)
  const rival = sessions.byResource(account.bare, jid.resource)
  if (rival !== undefined) {
    owner.multicast.order(rival, 'close', { condition: 'conflict', text: 'another client has taken this resource' })
    await removeSession(owner, sessions, rival)
  } else if (others.length >= owner.process.config.limits.sessionsPerAccount) {
    const waiting = others.find(({ about }) => about?.detached)
    if (waiting === undefined) throw new StanzaError('resource-constraint', 'too many sessions of this account')
    owner.multicast.order(waiting, 'close', { condition: 'resource-constraint', text: 'too many sessions of this account' })
    await removeSession(owner, sessions, waiting)
  }
  const session = new BoundSession(request.session, request.edge, jid, owner.multicast)
  session.about = { ...request.about, sinceMs: owner.process.clock.now(), detached: false }
  sessions.add(session)
  try {
    await owner.hooks.emit('session.bound', { jid, session: request.session })
  } catch (error) {
    sessions.remove(session) // the table is away: the client is refused, and its edge will never close it
    throw error
  }
  return jid
}

/** The edge has lost or closed the stream. */
export async function closeSession(owner: Owner, sessions: Registry, account: Jid, id: string): Promise<void> {
  const session = sessions.byId(account.bare, id)
  if (session !== undefined) await removeSession(owner, sessions, session)
}

async function removeSession(owner: Owner, sessions: Registry, session: BoundSession): Promise<void> {
  sessions.remove(session)
  try {
    await owner.hooks.emit('session.closed', { jid: session.jid, session: session.session })
  } catch (error) {
    sessions.add(session) // the table is away: this is tried again
    throw error
  }
  if (sessions.of(session.jid.bare).length === 0) owner.accounts.unseal(session.jid)
}

/** Told by the presence owner, on the lane, before the client's next stanza. */
export async function setAvailability(owner: Owner, sessions: Registry, account: Jid, fields: Fields): Promise<void> {
  const session = sessions.byId(account.bare, String(fields.session))
  if (session === undefined) return
  const { available, priority } = session
  session.available = fields.available === true
  session.priority = session.available ? Number(fields.priority) : 0
  if (!session.available) return
  const news = { jid: session.jid, session: session.session, priority: session.priority, first: !available }
  try {
    await owner.hooks.emit('session.available', news)
  } catch (error) {
    session.available = available // the table is away: tried again, it is as new as it was
    session.priority = priority
    throw error
  }
}

/**
 * Ends an account's sessions with a stream error, but for the one named in `except`: that one is from now on resumed only
 * by who has logged in by credentials of this `generation`, or of a later one.
 */
export function endSessions(owner: Owner, sessions: Registry, account: Jid, fields: Fields): void {
  const { except, generation, condition, text } = fields
  for (const session of [...sessions.of(account.bare)]) {
    if (session.session === except) owner.multicast.order(session, 'renewed', { generation })
    else owner.multicast.order(session, 'close', { condition, text })
  }
}

/** The edge says that a session waits to be resumed, or on which connection it has been. */
export function noteAbout(sessions: Registry, account: Jid, { session: id, ...about }: Fields): void {
  const session = sessions.byId(account.bare, String(id))
  if (session?.about !== undefined) session.about = { ...session.about, ...(about as Partial<AboutSession>) }
}

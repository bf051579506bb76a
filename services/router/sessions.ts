// The session registry: bind, conflict, availability, the end of a session.
import type { Fields } from '#core/envelope.ts'
import type { Owner } from '#core/owner.ts'
import { BoundSession, type Registry } from '#core/registry.ts'
import { StanzaError } from '#xmpp/error.ts'
import { randomId } from '#xmpp/id.ts'
import { type Jid, withResource } from '#xmpp/jid.ts'

export interface BindRequest {
  readonly edge: string
  readonly session: string
  /** Prepared; '' asks for one of the server's making (RFC 6120 §7.6). */
  readonly resource: string
}

/**
 * Binds a resource (RFC 6120 §7). Where it is taken, the newer session wins and the older one's stream ends with
 * `<conflict/>` (§7.7.2.2, second option): it is most often the same device, back before the server noticed it was gone.
 * Throws StanzaError: not-allowed for an account that is gone, resource-constraint at the limit (§7.6.2.1).
 */
export async function bindSession(owner: Owner, sessions: Registry, account: Jid, request: BindRequest): Promise<Jid> {
  if (!(await owner.accounts.exists(account))) throw new StanzaError('not-allowed', 'the account is gone')
  const jid = withResource(account, request.resource === '' ? randomId(9) : request.resource)
  const rival = sessions.byResource(account.bare, jid.resource)
  if (rival === undefined && sessions.of(account.bare).length >= owner.process.config.limits.sessionsPerAccount) {
    throw new StanzaError('resource-constraint', 'too many sessions of this account')
  }
  if (rival !== undefined) {
    owner.multicast.order(rival, 'close', { condition: 'conflict', text: 'another client has taken this resource' })
    await removeSession(owner, sessions, rival)
  }
  sessions.add(new BoundSession(request.session, request.edge, jid, owner.multicast))
  await owner.hooks.emit('session.bound', { jid, session: request.session })
  return jid
}

/** The edge has lost or closed the stream. */
export async function closeSession(owner: Owner, sessions: Registry, account: Jid, id: string): Promise<void> {
  const session = sessions.byId(account.bare, id)
  if (session !== undefined) await removeSession(owner, sessions, session)
}

async function removeSession(owner: Owner, sessions: Registry, session: BoundSession): Promise<void> {
  sessions.remove(session)
  await owner.hooks.emit('session.closed', { jid: session.jid, session: session.session })
}

/** Told by the presence owner, on the lane, before the client's next stanza. */
export async function setAvailability(owner: Owner, sessions: Registry, account: Jid, fields: Fields): Promise<void> {
  const session = sessions.byId(account.bare, String(fields.session))
  if (session === undefined) return
  const first = !session.available
  session.available = fields.available === true
  session.priority = session.available ? Number(fields.priority) : 0
  if (session.available) await owner.hooks.emit('session.available', { jid: session.jid, session: session.session, priority: session.priority, first })
}

/** Ends an account's sessions with a stream error, but for the one named in `except`. */
export function endSessions(owner: Owner, sessions: Registry, account: Jid, fields: Fields): void {
  for (const session of [...sessions.of(account.bare)]) {
    if (session.session === fields.except) continue
    owner.multicast.order(session, 'close', { condition: fields.condition, text: fields.text })
  }
}

// The session registry: bind, conflict, availability, the end of a session.
import type { Fields } from '#core/envelope.ts'
import type { Events } from '#core/hooks.ts'
import type { Owner } from '#core/owner.ts'
import { type AboutSession, BoundSession, type ConnectionFacts, type Registry } from '#core/ownership/registry.ts'
import type { ToldSession } from '#core/ownership/resync-frame.ts'
import { inPortions, type Pace } from '#core/portions.ts'
import { knownPriority } from '#core/priority.ts'
import { passOn } from '#core/storage/pass-on.ts'
import type { MaybePromise } from '#core/storage/store.ts'
import { StanzaError } from '#xmpp/error.ts'
import { randomId } from '#xmpp/id.ts'
import { type Jid, parseJid } from '#xmpp/jid.ts'
import type { Stanza } from '#xmpp/stanza.ts'
import type { KnownSessions } from './known-sessions.ts'

export interface BindRequest {
  readonly edge: string
  readonly session: string
  /** Prepared; '' asks for one of the server's making (RFC 6120 §7.6). */
  readonly resource: string
  /** For whoever runs the server. */
  readonly about?: ConnectionFacts
  /** Those that the session has from the beginning (core/module.ts, bindFlags). */
  readonly flags?: readonly string[]
}

/**
 * Binds a resource (RFC 6120 §7). Where it is taken, the newer session wins and the older one's stream ends with
 * `<conflict/>` (§7.7.2.2, second option): it is most often the same device, back before the server noticed it was gone.
 * At the limit the oldest of those that wait to be resumed makes room (XEP-0198): a client that comes back again and again
 * without resuming does not shut itself out. The account exists. Throws StanzaError: resource-constraint at the limit
 * (§7.6.2.1). A session that is bound already stays as it is: its edge may ask twice, not knowing who was told. One that its edge
 * has given up since is not bound any more: nobody waits for the answer.
 */
export function bindSession(owner: Owner, sessions: KnownSessions, account: Jid, request: BindRequest): MaybePromise<Jid> {
  const known = sessions.byId(account.bare, request.session)
  if (known !== undefined) return known.jid
  if (sessions.hasEnded(request.session)) throw new StanzaError('not-allowed', 'the session has ended')
  const jid = parseJid(`${account.bare}/${request.resource === '' ? randomId(9) : request.resource}`) // as its edge will, which finds it
  const room = makeRoom(owner, sessions, jid)
  return room === undefined ? add(owner, sessions, jid, request) : room.then(() => add(owner, sessions, jid, request))
}

/** Whether nobody is bound in the place of this one. One that is not known may be told of still. */
export function standsSession(sessions: Registry, account: string, session: string, resource: string): boolean {
  return sessions.byId(account, session) !== undefined || sessions.byResource(account, resource) === undefined
}

/** Ends the session in whose place a new one comes, if there is one. Throws resource-constraint at the limit. */
function makeRoom(owner: Owner, sessions: Registry, jid: Jid): void | Promise<void> {
  const rival = sessions.byResource(jid.bare, jid.resource)
  if (rival !== undefined) {
    closeRival(owner, rival)
    return removeSession(owner, sessions, rival)
  }
  const others = sessions.of(jid.bare)
  if (others.length < owner.process.config.limits.sessionsPerAccount) return
  const waiting = others.find(({ about }) => about?.detached)
  if (waiting === undefined) throw new StanzaError('resource-constraint', 'too many sessions of this account')
  owner.multicast.order(waiting, 'close', { condition: 'resource-constraint', text: 'too many sessions of this account' })
  return removeSession(owner, sessions, waiting)
}

function add(owner: Owner, sessions: Registry, jid: Jid, request: BindRequest): MaybePromise<Jid> {
  const session = new BoundSession(request.session, request.edge, jid, owner.multicast)
  session.about = { ...request.about, sinceMs: owner.process.clock.now(), detached: false }
  session.setAll(request.flags ?? [])
  sessions.add(session)
  passOn(owner, jid.bare)
  // Where the table is away the client is refused, and its edge will never close it.
  const told = tell(owner, 'session.bound', { jid, session: request.session }, () => sessions.remove(session))
  return told === undefined ? jid : told.then(() => jid)
}

/** Calls the listeners. Where one finds the table away, what they were to be told of is taken back. */
function tell<E extends keyof Events>(owner: Owner, event: E, news: Events[E], takeBack: () => void): void | Promise<void> {
  const broke = (error: unknown): never => {
    takeBack()
    throw error
  }
  try {
    return owner.hooks.emit(event, news)?.catch(broke)
  } catch (error) {
    broke(error)
  }
}

/** The edge has lost or closed the stream. */
export function closeSession(owner: Owner, sessions: KnownSessions, account: Jid, id: string): void | Promise<void> {
  sessions.noteEnded(id)
  const session = sessions.byId(account.bare, id)
  if (session !== undefined) return removeSession(owner, sessions, session)
  owner.takeOver.noteEnded(id)
}

/** Each of them reads what is kept for its account. */
const LATE_PACE: Pace = { atOnce: 50, pauseMs: 50 }
/** Sessions that their edges have told of late, until they are available, or presence says that they are or are not. */
const late = new WeakSet<BoundSession>()

/**
 * What the edges tell of accounts that have come. Of two sessions of one resource the later one stands (§7.7.2.2). Where an edge is
 * late, messages have been kept for them meanwhile: its sessions become available in order with what comes, and get those first;
 * and what presence has said of one meanwhile is newer than what the edge knew.
 */
export function adoptSessions(owner: Owner, sessions: KnownSessions, told: readonly ToldSession[], isLate = false): void {
  const waiting: { readonly session: BoundSession; readonly priority: number }[] = []
  for (const { session: id, edge, jid, about, flags, presence } of told) {
    if (sessions.byId(jid.bare, id) !== undefined) continue
    const session = new BoundSession(id, edge, jid, owner.multicast)
    session.about = about
    session.setAll(flags)
    const early = sessions.takeEarly(id)
    const priority = early === undefined ? shownPriority(presence) : early.available ? early.priority : undefined
    const rival = sessions.byResource(jid.bare, jid.resource)
    if (rival?.about !== undefined && rival.about.sinceMs > about.sinceMs) {
      closeRival(owner, session)
      continue
    }
    if (!isLate) {
      session.available = priority !== undefined
      session.priority = priority ?? 0
    } else if (priority !== undefined) {
      late.add(session)
      waiting.push({ session, priority })
    }
    sessions.add(session)
    if (rival === undefined) continue
    closeRival(owner, rival)
    owner.inOrder(jid.bare, () => removeSession(owner, sessions, rival))
  }
  void inPortions(owner.process.clock, LATE_PACE, waiting, (portion) => {
    for (const { session, priority } of portion) becomeAvailable(owner, sessions, session, priority)
  })
}

/** Undefined where nothing is shown. */
function shownPriority(presence: Stanza | undefined): number | undefined {
  return presence === undefined ? undefined : knownPriority(presence)
}

/** Where presence has not said meanwhile whether it is. */
function becomeAvailable(owner: Owner, sessions: KnownSessions, session: BoundSession, priority: number): void {
  const { jid, session: id } = session
  let isDue: boolean | undefined
  owner.inOrder(jid.bare, () => {
    isDue ??= late.delete(session) // and not again, where the table is away
    if (isDue) return setAvailability(owner, sessions, jid, { session: id, available: true, priority })
  })
}

function closeRival({ multicast }: Owner, session: BoundSession): void {
  multicast.order(session, 'close', { condition: 'conflict', text: 'another client has taken this resource' })
}

/**
 * Something that was for this session may have been lost on its way to the edge: an order to close it, perhaps. It is not known
 * either where its edge is late to tell of it.
 */
export function confirmSession(owner: Owner, sessions: Registry, account: Jid, { session, edge }: Fields): void {
  if (sessions.byId(account.bare, String(session)) !== undefined || owner.takeOver.waitsFor(account.bare, String(edge))) return
  const target = { edge: String(edge), session: String(session) }
  owner.multicast.order(target, 'close', { condition: 'reset', text: 'the session has ended' })
}

function removeSession(owner: Owner, sessions: Registry, session: BoundSession): void | Promise<void> {
  const { jid } = session
  const gone = (): void => {
    if (sessions.of(jid.bare).length === 0) owner.accounts.unseal(jid)
  }
  sessions.remove(session)
  // Where the table is away this is tried again.
  const told = tell(owner, 'session.closed', { jid, session: session.session }, () => sessions.add(session))
  return told === undefined ? gone() : told.then(gone)
}

/** Told by the presence owner, on the lane, before the client's next stanza. */
export function setAvailability(owner: Owner, sessions: KnownSessions, account: Jid, fields: Fields): void | Promise<void> {
  const id = String(fields.session)
  const session = sessions.byId(account.bare, id)
  const isAvailable = fields.available === true
  const priorityNow = isAvailable ? Number(fields.priority) : 0
  if (session === undefined) {
    if (owner.takeOver.waitsFor(account.bare))
      sessions.noteEarly(id, { account: account.bare, available: isAvailable, priority: priorityNow })
    return
  }
  late.delete(session)
  const { available, priority } = session
  session.available = isAvailable
  session.priority = priorityNow
  if (!session.available) return
  const news = { jid: session.jid, session: session.session, priority: session.priority, first: !available }
  return tell(owner, 'session.available', news, () => {
    session.available = available // tried again, it is as new as it was
    session.priority = priority
  })
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

// The router: sessions, messages, iqs and credentials of the accounts it owns.
//
// It holds the session registry (soft state: the edges hold the sockets and can tell it all again), chooses who gets
// a message, and answers the iqs whose modules live here.
import type { Fields } from '#core/envelope.ts'
import { Owner } from '#core/owner.ts'
import type { Process, RunningRole } from '#core/process.ts'
import type { RolePart } from '#core/role.ts'
import type { Jid } from '#xmpp/jid.ts'
import { answersOf } from './answers.ts'
import { KnownSessions } from './known-sessions.ts'
import { Removals } from './removal.ts'
import { Routing } from './route.ts'
import { adoptSessions, closeSession, confirmSession, endSessions, noteAbout, setAvailability } from './sessions.ts'

/** `finishes`: what others have begun, as the removal of an account; not for a process that is there for one command. */
export async function startRouter(process: Process, { finishes = true } = {}): Promise<RunningRole> {
  const owner = await Owner.open(process, 'router')
  const sessions = new KnownSessions(process.clock)
  const routing = new Routing(owner, sessions)
  const removals = new Removals(owner, sessions)
  const part: RolePart = {
    outbound(stanza, origin, passage, done) {
      if (process.members !== undefined) sessions.note(stanza.from, origin)
      return routing.outbound(stanza, origin, passage, done)
    },
    inbound: (stanza, passage, done) => routing.inbound(stanza, passage, done),
    returned: (stanza, passage, done) => routing.returned(stanza, passage, done),
    nobody: (stanza) => routing.nobody(stanza),
    sessions: (account) => sessions.of(account),
    session: (account, id) => sessions.byId(account, id),
    signal: (name, account, fields, done) => signal(name, account, fields, done),
    calls: answersOf(owner, sessions, removals),
    allSessions: () => sessions.all(),
    adopt: (told, late) => adoptSessions(owner, sessions, told, late !== undefined),
    taken() {
      if (finishes) void removals.resume()
    },
    releasing: (gone) => removals.release(gone),
    forget(gone) {
      removals.drop(gone)
      sessions.forget(gone)
    },
  }

  function signal(name: string, account: Jid, fields: Fields, done: () => void): void | Promise<void> {
    const confirm = (): void => owner.commit.after(account.bare, done)
    const obeyed = obey(name, account, fields)
    return obeyed === undefined ? confirm() : obeyed.then(confirm)
  }

  function obey(name: string, account: Jid, fields: Fields): void | Promise<void> {
    if (name === 'session.closed') return closeSession(owner, sessions, account, String(fields.session))
    if (name === 'session.available') return setAvailability(owner, sessions, account, fields)
    if (name === 'session.end') endSessions(owner, sessions, account, fields)
    else if (name === 'session.moved') sessions.move(account.bare, fields, 'router', owner.multicast)
    else if (name === 'session.about') noteAbout(sessions, account, fields)
    else if (name === 'session.refresh') confirmSession(owner, sessions, account, fields)
    else owner.log.error('signal.unknown', { name })
  }

  owner.start(part)
  process.metrics.watch(
    'router_lane_pending',
    'Envelopes of this router that other owners have not handled yet.',
    () => owner.lanes.pending,
  )
  process.metrics.watch('sessions', 'Bound sessions this router knows.', () => sessions.size)
  process.metrics.watch('account_removals', 'Accounts that are gone and whose rows are being deleted.', () => removals.size)
  if (finishes && owner.held.all) void removals.resume() // else when accounts come
  return {
    name: 'router',
    owning: owner.takeOver,
    async stop() {
      await owner.hooks.emit('role.stopping', {})
      await removals.stop()
      await owner.stop()
    },
  }
}

// The router: sessions, messages, iqs and credentials of the accounts it owns.
//
// It holds the session registry (soft state: the edges hold the sockets and can tell it all again), chooses who gets
// a message, and answers the iqs whose modules live here.
import type { Fields } from '#core/envelope.ts'
import { Owner } from '#core/owner.ts'
import type { Process, RunningRole } from '#core/process.ts'
import { Registry } from '#core/registry.ts'
import type { RolePart } from '#core/role.ts'
import type { Jid } from '#xmpp/jid.ts'
import { answersOf } from './answers.ts'
import { Routing } from './route.ts'
import { closeSession, endSessions, noteAbout, setAvailability } from './sessions.ts'

export async function startRouter(process: Process): Promise<RunningRole> {
  const owner = await Owner.open(process, 'router')
  const sessions = new Registry()
  const routing = new Routing(owner, sessions)
  const part: RolePart = {
    outbound: (stanza, origin, done) => routing.outbound(stanza, origin, done),
    inbound: (stanza, passage, done) => routing.inbound(stanza, passage, done),
    returned: (stanza, passage, done) => routing.returned(stanza, passage, done),
    nobody: (stanza) => routing.nobody(stanza),
    sessions: (account) => sessions.of(account),
    session: (account, id) => sessions.byId(account, id),
    signal: (name, account, fields, done) => signal(name, account, fields, done),
    calls: answersOf(owner, sessions),
  }

  async function signal(name: string, account: Jid, fields: Fields, done: () => void): Promise<void> {
    if (name === 'session.closed') await closeSession(owner, sessions, account, String(fields.session))
    else if (name === 'session.available') await setAvailability(owner, sessions, account, fields)
    else if (name === 'session.end') endSessions(owner, sessions, account, fields)
    else if (name === 'session.about') noteAbout(sessions, account, fields)
    else owner.log.error('signal.unknown', { name })
    owner.commit.after(account.bare, done)
  }

  owner.start(part)
  process.metrics.watch('sessions', 'Bound sessions this router knows.', () => sessions.size)
  return { name: 'router', stop: () => owner.stop() }
}

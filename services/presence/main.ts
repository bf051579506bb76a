// The presence service: rosters, subscriptions and presence of the accounts it owns.
import type { Fields, Origin } from '#core/envelope.ts'
import { Owner, type RolePart } from '#core/owner.ts'
import type { Process, RunningRole } from '#core/process.ts'
import { Registry } from '#core/registry.ts'
import { StanzaError } from '#xmpp/error.ts'
import { type Jid, parseJid } from '#xmpp/jid.ts'
import type { Stanza } from '#xmpp/stanza.ts'
import { Presences } from './presences.ts'
import roster, { type Rosters } from './roster.ts'
import { Subscribing } from './subscribing.ts'
import { isSubscriptionType } from './subscription.ts'

declare module '#core/call.ts' {
  interface Calls {
    /** The account is about to be deleted: contacts are told and lose it, its sessions are gone from here, and nothing is written any more. */
    'presence.remove-account': { ask: Record<string, never>; tell: null }
    /** It has been deleted, or that has failed: what is known of it is read anew. */
    'presence.forget-account': { ask: Record<string, never>; tell: null }
  }
}

/** What this role brings to the modules of every process. */
export const presenceModules = [roster]

export async function startPresence(process: Process): Promise<RunningRole> {
  const owner = new Owner(process, 'presence')
  const sessions = new Registry()
  const part: RolePart = {
    outbound: (stanza, origin, done) => outbound(stanza, origin, done),
    inbound: (stanza, { account }, done) => inbound(stanza, account, done),
    nobody: (stanza) => {
      if (stanza.name === 'iq') owner.bounce(stanza, new StanzaError('service-unavailable')) // RFC 6121 §8.5.1; presence is ignored
    },
    inboundMany: (stanza, accounts, done) => presences.receiveMany(stanza, accounts, done),
    sessions: (account) => sessions.of(account),
    session: (account, id) => sessions.byId(account, id),
    signal,
    calls: {
      'presence.remove-account': (account) => ordered(account, () => removeAccount(parseJid(account))),
      'presence.forget-account': (account) => ordered(account, () => forgetAccount(parseJid(account))),
    },
  }
  const apis = owner.start(part)
  const rosters = apis(roster) as Rosters
  const presences = new Presences(owner, sessions, rosters)
  const subscribing = new Subscribing(owner, rosters, presences)

  const ordered = (account: string, task: () => Promise<null>): Promise<null> =>
    new Promise((resolve, reject) => owner.inOrder(account, () => task().then(resolve, reject)))

  async function removeAccount(account: Jid): Promise<null> {
    await presences.removeAll(account)
    await subscribing.leaveAll(account)
    owner.accounts.seal(account)
    await new Promise<void>((resolve) => owner.commit.after(account.bare, resolve)) // what is staged would outlive it
    return null
  }

  async function forgetAccount(account: Jid): Promise<null> {
    owner.store.forget(account.bare)
    owner.accounts.unseal(account)
    if (!(await owner.accounts.exists(account))) await owner.hooks.emit('account.deleted', { account })
    return null
  }

  function outbound(stanza: Stanza, origin: Origin, done: () => void): void | Promise<void> {
    const session = presences.sessionOf(stanza.from, origin)
    if (stanza.name === 'iq') return owner.outboundIq(stanza, origin, done)
    const { to, type } = stanza
    if (to === undefined) {
      if (type === '') return presences.show(stanza, session, done)
      if (type === 'unavailable') return presences.hide(stanza, session, done)
      throw new StanzaError('bad-request', 'this presence needs an address, or is of no known type') // RFC 6121 §4.7.1
    }
    if (isSubscriptionType(type)) return subscribing.outbound(stanza, type, origin, done)
    if (type === '' || type === 'unavailable') return presences.direct(stanza, session, done)
    if (type === 'probe' || type === 'error') return owner.send(stanza, done)
    throw new StanzaError('bad-request', 'that is no type of presence') // RFC 6121 §4.7.1
  }

  function inbound(stanza: Stanza, account: Jid, done: () => void): void | Promise<void> {
    if (stanza.name === 'iq') return owner.iq('account', stanza, account, undefined, done)
    const { type } = stanza
    if (isSubscriptionType(type)) return subscribing.inbound(stanza, type, account, done)
    if (type === 'probe') {
      const answering = presences.answerProbe(stanza, account)
      return answering === undefined ? done() : answering.then(done)
    }
    if (type === '' || type === 'unavailable' || (type === 'error' && stanza.to?.resource !== ''))
      return presences.receive(stanza, account, done)
    done()
  }

  function signal(name: string, account: Jid, fields: Fields, done: () => void): void | Promise<void> {
    if (name === 'session.closed') return presences.closed(account, String(fields.session), done)
    owner.log.error('signal.unknown', { name })
    done()
  }

  const gauge = process.metrics.gauge('presence_sessions', 'Sessions this presence service knows.')
  const timer = process.clock.setInterval(() => gauge.set(sessions.size), 1_000)
  return {
    name: 'presence',
    async stop() {
      process.clock.clearTimeout(timer)
      await owner.stop()
    },
  }
}

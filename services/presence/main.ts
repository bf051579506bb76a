// The presence service: rosters, subscriptions and presence of the accounts it owns.
import type { CallHandlers } from '#core/call.ts'
import type { Fields, Origin, Watch } from '#core/envelope.ts'
import { groupsOf } from '#core/groups/group-administration.ts'
import type { Passage } from '#core/hooks.ts'
import type { ShownOptions } from '#core/module.ts'
import { Owner } from '#core/owner.ts'
import type { OfAccounts } from '#core/ownership/held.ts'
import { type BoundSession, Registry } from '#core/ownership/registry.ts'
import type { ToldSession, ToldWatches } from '#core/ownership/resync-frame.ts'
import { saidOf } from '#core/ownership/said.ts'
import type { LazyPassage } from '#core/passage.ts'
import type { Process, RunningRole } from '#core/process.ts'
import type { RolePart } from '#core/role.ts'
import { takePassedOn } from '#core/storage/pass-on.ts'
import { StanzaError } from '#xmpp/error.ts'
import { type Jid, parseJid } from '#xmpp/jid.ts'
import type { Stanza } from '#xmpp/stanza.ts'
import { Audiences } from './audiences.ts'
import { Hiding } from './hiding.ts'
import { Presences } from './presences.ts'
import { Regrouping } from './regrouping.ts'
import { Resources } from './resources.ts'
import roster, { type Rosters } from './roster.ts'
import { Subscribing } from './subscribing.ts'
import { isSubscriptionType } from './subscription.ts'

declare module '#core/call.ts' {
  interface Calls {
    /** The account is about to be deleted: contacts are told and lose it, its sessions are gone from here, and nothing is written any more. */
    'presence.remove-account': { ask: Record<string, never>; tell: null }
    /** It has been deleted, or that has failed: what is known of it is read anew. */
    'presence.forget-account': { ask: Record<string, never>; tell: null }
    /** As 'session.said' (router/answers.ts), of this role. */
    'presence.said': { ask: { session: string }; tell: number | null }
    /** Whether this contact may see the account's presence. */
    'presence.seen-by': { ask: { contact: string }; tell: boolean }
  }
}

/** What this role brings to the modules of every process. */
export const presenceModules = [roster]

export async function startPresence(process: Process): Promise<RunningRole> {
  const groups = groupsOf(process).directory
  await groups.start(process.config.domains)
  const owner = await Owner.open(process, 'presence')
  const sessions = new Registry()
  const part = new PresencePart(owner, sessions)
  const rosters = owner.start(part)(roster) as Rosters
  part.rosters = rosters
  process.metrics.watch(
    'presence_lane_pending',
    'Envelopes of this presence service that other owners have not handled yet.',
    () => owner.lanes.pending,
  )
  process.metrics.watch('presence_sessions', 'Sessions this presence service knows.', () => sessions.size)
  const { sent } = owner.multicast
  process.metrics.watchTotal(
    'presence_bus_messages_total',
    'Bodies that this presence service has sent to edges.',
    () => sent.bodies,
  )
  process.metrics.watchTotal(
    'presence_bus_bytes_total',
    'Bytes of what this presence service has sent to edges.',
    () => sent.bytes,
  )
  const passedOn = owner.held.all ? undefined : takePassedOn(owner)
  return {
    name: 'presence',
    owning: owner.takeOver,
    async stop() {
      passedOn?.close()
      groups.close()
      rosters.stop()
      part.flush()
      await owner.stop()
    },
  }
}

/** Says who takes what comes past the hooks. Nothing comes before the rosters are set. */
class PresencePart implements RolePart {
  readonly calls: CallHandlers
  readonly #owner: Owner
  readonly #sessions: Registry
  #rosters!: Rosters
  #audiences!: Audiences
  #presences!: Presences
  #subscribing!: Subscribing

  constructor(owner: Owner, sessions: Registry) {
    this.#owner = owner
    this.#sessions = sessions
    const ordered = (account: string, task: () => Promise<null>): Promise<null> =>
      new Promise((resolve, reject) => owner.inOrder(account, () => task().then(resolve, reject)))
    this.calls = {
      'presence.remove-account': (account) => ordered(account, () => this.#removeAccount(parseJid(account))),
      'presence.forget-account': (account) => ordered(account, () => this.#forgetAccount(parseJid(account))),
      'presence.said': (account, { session }) =>
        new Promise((resolve, reject) =>
          owner.inOrder(account, () => saidOf(owner, sessions, account, session).then(resolve, reject)),
        ),
      'presence.seen-by': (account, { contact }) => this.#rosters.seenBy(parseJid(account), parseJid(contact)),
    }
  }

  /** The API of the roster module, which is there once the owner has set it up. */
  set rosters(rosters: Rosters) {
    this.#rosters = rosters
    const resources = new Resources(this.#owner, this.#sessions, rosters)
    this.#audiences = new Audiences(this.#owner, resources)
    this.#presences = new Presences(this.#owner, resources, this.#audiences)
    this.#subscribing = new Subscribing(this.#owner, rosters, resources, this.#audiences)
    new Hiding(this.#owner, resources, this.#audiences)
    new Regrouping(this.#owner, rosters, resources, this.#audiences)
  }

  sessions(account: string): readonly BoundSession[] {
    return this.#sessions.of(account)
  }

  session(account: string, id: string): BoundSession | undefined {
    return this.#sessions.byId(account, id)
  }

  allSessions(): Iterable<BoundSession> {
    return this.#sessions.all()
  }

  adopt(told: readonly ToldSession[], late?: string): void {
    this.#presences.adopt(told, late)
  }

  seen(edge: string, jids: readonly string[]): void {
    this.#presences.seen(edge, jids)
  }

  forget(gone: OfAccounts): void {
    this.#presences.forget(gone)
  }

  outbound(stanza: Stanza, origin: Origin, passage: LazyPassage, done: () => void): void | Promise<void> {
    const shows = stanza.name === 'presence' && stanza.to === undefined && stanza.type === ''
    if (shows && passage.age > 0 && this.#presences.mayBeReplaced(stanza.from, origin))
      return this.#stands(stanza.from, origin).then((stands) => {
        if (!stands) return done() // its end is on its way, and shows nothing either
        return this.#outbound(stanza, origin, passage, done)
      })
    return this.#outbound(stanza, origin, passage, done)
  }

  /** The router has bound it, and nobody in its place since. */
  async #stands({ bare, resource }: Jid, { session }: Origin): Promise<boolean> {
    try {
      return await this.#owner.caller.ask('router', bare, 'session.stands', { session, resource })
    } catch (error) {
      this.#owner.log.warn('session.unconfirmed', { session, error })
      return true
    }
  }

  #outbound(stanza: Stanza, origin: Origin, { age }: LazyPassage, done: () => void): void | Promise<void> {
    const session = this.#presences.sessionOf(stanza.from, origin)
    if (origin.n > session.said) session.said = origin.n
    if (stanza.name === 'iq') return this.#owner.outboundIq(stanza, origin, done, age)
    const { to, type } = stanza
    if (to === undefined) {
      if (type === '') return this.#presences.show(stanza, session, done)
      if (type === 'unavailable') return this.#presences.hide(stanza, session, done)
      throw new StanzaError('bad-request', 'this presence needs an address, or is of no known type') // RFC 6121 §4.7.1
    }
    if (isSubscriptionType(type)) return this.#subscribing.outbound(stanza, type, origin, done)
    if (type === '' || type === 'unavailable') return this.#presences.direct(stanza, session, done)
    if (type === 'probe' || type === 'error') return this.#owner.send(stanza, done)
    throw new StanzaError('bad-request', 'that is no type of presence') // RFC 6121 §4.7.1
  }

  inbound(stanza: Stanza, { account }: Passage, done: () => void): void | Promise<void> {
    if (stanza.name === 'iq') return this.#owner.iq('account', stanza, account, undefined, done)
    const { type } = stanza
    if (isSubscriptionType(type)) return this.#subscribing.inbound(stanza, type, account, done)
    if (type === 'probe') {
      const answering = this.#presences.answerProbe(stanza, account)
      return answering === undefined ? done() : answering.then(done)
    }
    if (type === '' || type === 'unavailable' || (type === 'error' && stanza.to?.resource !== ''))
      return this.#presences.receive(stanza, account, done)
    done()
  }

  watch(watch: Watch, done: () => void): void {
    this.#audiences.receive(watch, done)
  }

  shown(account: Jid, stanza: Stanza, options: ShownOptions): void {
    this.#audiences.publish(account, stanza, options)
  }

  /** Contacts are shown what waits: this process goes, or the accounts do. */
  flush(of: OfAccounts = () => true): void {
    this.#presences.flush(of)
  }

  async releasing(gone: OfAccounts): Promise<void> {
    this.flush(gone)
  }

  watchingEdges(): Iterable<string> {
    return this.#audiences.watches.edges()
  }

  edgeDied(edge: string): void {
    this.#audiences.watches.removeEdge(edge)
    this.#owner.multicast.order({ edge, session: '' }, 'forgotten', {}) // should it live all the same, it tells again (edge/watching/refresh.ts)
  }

  adoptWatches(told: readonly ToldWatches[]): void {
    this.#presences.adoptWatches(told)
  }

  othersChanged(of: OfAccounts): void {
    this.#presences.doubt(of)
  }

  nobody(stanza: Stanza): void {
    if (stanza.name === 'iq') this.#owner.bounce(stanza, new StanzaError('service-unavailable')) // RFC 6121 §8.5.1; presence is ignored
  }

  reshow(account: Jid, change: (presence: Stanza) => Stanza): Promise<void> {
    return this.#presences.reshow(account, change)
  }

  signal(name: string, account: Jid, fields: Fields, done: () => void): void | Promise<void> {
    if (name === 'session.closed') return this.#presences.closed(account, String(fields.session), done)
    const confirm = (): void => this.#owner.commit.after(account.bare, done)
    if (name === 'session.moved') {
      this.#sessions.move(account.bare, fields, 'presence', this.#owner.multicast)
      return confirm()
    }
    if (name === 'presence.seen') {
      this.#presences.notSeen(fields)
      return done()
    }
    if (name === 'session.refresh') return this.#presences.refresh(account, String(fields.session))?.then(confirm) ?? confirm()
    this.#owner.log.error('signal.unknown', { name })
    done()
  }

  async #removeAccount(account: Jid): Promise<null> {
    const { accounts, commit } = this.#owner
    await this.#presences.removeAll(account)
    await this.#subscribing.leaveAll(account)
    accounts.seal(account)
    await commit.applied(account.bare) // what is staged would outlive it
    return null
  }

  async #forgetAccount(account: Jid): Promise<null> {
    const { accounts, hooks, store } = this.#owner
    store.forget(account.bare)
    accounts.unseal(account)
    if (!(await accounts.exists(account))) await hooks.emit('account.deleted', { account })
    return null
  }
}

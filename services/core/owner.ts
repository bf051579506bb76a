// What every role that owns addresses has in common: lanes in and out, one account at a time, hooks, iqs, commits.
//
// What a role adds is its part (role.ts). `done` of an envelope is called once: what it staged is durable, what it sent is with its next owner.
import type { Subscription } from '#bus/bus.ts'
import { TableUnavailable } from '#table/table.ts'
import { StanzaError } from '#xmpp/error.ts'
import { bareOf, type Jid, parseJid } from '#xmpp/jid.ts'
import { bytesOf, copyOf, type Stanza } from '#xmpp/stanza.ts'
import { Administration } from './administration.ts'
import { asStanzaError, busy, errorOf } from './answer.ts'
import { Answers, answerCalls, type Caller, openCaller } from './call.ts'
import { Commit } from './commits/commit.ts'
import { causeOf, type Envelope, type Fields, type Origin } from './envelope.ts'
import { DROP, Hooks, type Passage, type Point } from './hooks.ts'
import { IqHomes, IqTable, runIq } from './iq.ts'
import { Inbox } from './lanes/inbox.ts'
import { type Lanes, openLanes } from './lanes/lane.ts'
import type { Ways } from './lanes/lane-frame.ts'
import { receiveLanes } from './lanes/lane-receiver.ts'
import { Mailboxes } from './lanes/mailbox.ts'
import type { IqTarget } from './module.ts'
import { type Multicast, openMulticast } from './multicast/multicast.ts'
import type { Log } from './observing/log.ts'
import { type SpanFields, traceOn } from './observing/trace.ts'
import { DeadEdges } from './ownership/dead-edges.ts'
import { accountsOf, Held } from './ownership/held.ts'
import type { RoleName } from './ownership/ownership.ts'
import { Recalls } from './ownership/recall.ts'
import type { BoundSession } from './ownership/registry.ts'
import { TakeOver } from './ownership/take-over.ts'
import { LazyPassage } from './passage.ts'
import type { Process } from './process.ts'
import type { RolePart } from './role.ts'
import { type ApiOf, setUpModules } from './setup.ts'
import { Accounts, withoutCredentials } from './storage/accounts.ts'
import { ArchiveIds, markRow, readMark } from './storage/archive-id.ts'
import { RECORD_CHANGED, SharedRecords } from './storage/shared.ts'
import { Store } from './storage/store.ts'

const NOTHING = (): void => {}
/** Told from what the same stanza has stored on its way to the session it comes back from. */
const RETURNED = 'returned'
/** In whose name the mark of the archive ids is staged: nobody's, for no domain begins like this. */
const MARK = '#archive-ids'

export class Owner {
  readonly role: RoleName
  readonly process: Process
  readonly log: Log
  readonly commit: Commit
  readonly store: Store
  readonly accounts: Accounts
  readonly hooks: Hooks
  readonly iqs = new IqTable()
  readonly homes: IqHomes
  readonly lanes: Lanes
  readonly multicast: Multicast
  readonly caller: Caller
  /** What modules answer, beside the role itself. */
  readonly answers = new Answers()
  readonly administration: Administration
  readonly mailboxes: Mailboxes
  readonly archiveIds: ArchiveIds
  readonly recalls: Recalls
  readonly shared: SharedRecords
  readonly held: Held
  part!: RolePart
  takeOver!: TakeOver
  readonly #ways: Ways
  readonly #local: ReadonlySet<string>
  readonly #spanFields: SpanFields
  /** Messages that were made here, for their causes. */
  #made = 0
  #subscriptions: Subscription[] = []

  constructor(process: Process, role: RoleName) {
    this.role = role
    this.process = process
    this.log = process.log.child({ role })
    this.held = new Held(role, process.ownership)
    const { held } = this
    const holds = held.all ? undefined : (account: string) => account === MARK || held.has(account)
    this.commit = new Commit(process.openLog(role, this.log), this.log, holds)
    const slim = role === 'presence' ? withoutCredentials : undefined
    this.store = new Store(process.table, this.commit, process.journals, process.readings, slim, held.all ? undefined : held)
    this.accounts = new Accounts(process.table, this.store, process.clock, process.config.scram.iterations, (account) =>
      this.#demandOurs(account),
    )
    this.hooks = new Hooks(this.log)
    const { bus, ownership, clock, members } = process
    const ways: Ways = { bus, ownership, clock, members, log: this.log }
    this.#ways = ways
    this.lanes = openLanes(ways, `${role}${process.id}`)
    this.multicast = openMulticast(ways, role, process.id)
    this.caller = openCaller(process.bus, process.ownership, process.clock)
    this.administration = new Administration(this.caller, process.ownership)
    this.mailboxes = new Mailboxes(process.clock, this.log, process.random)
    this.homes = new IqHomes(process.modules)
    this.archiveIds = new ArchiveIds(process.clock, (markMs) =>
      this.commit.stage(MARK, { put: markRow(role, markMs), order: 'own' }),
    )
    const applied = (account: string) => this.commit.applied(account)
    this.recalls = new Recalls(process.table, process.journals, process.clock, applied)
    this.store.onAppend((account, id, cause) => this.recalls.note(account, id, cause))
    this.shared = new SharedRecords({ role, store: this.store, commit: this.commit, lanes: this.lanes, clock: process.clock })
    this.#local = new Set(process.config.domains)
    this.#spanFields = { role }
  }

  /** An owner that goes on where the last one of its role ended. */
  static async open(process: Process, role: RoleName): Promise<Owner> {
    const owner = new Owner(process, role)
    await owner.goOn()
    return owner
  }

  /** What others of its role have stored it is behind from now on: for accounts that come from another owner. */
  async goOn(): Promise<void> {
    const markMs = await readMark(this.process.table, this.role)
    if (markMs !== undefined) this.archiveIds.resume(markMs)
  }

  /** Sets up the modules, then opens the lanes. Returns their APIs. */
  start(part: RolePart): ApiOf {
    this.part = part
    const { bus, id, modules, ownership, clock } = this.process
    const apis = setUpModules(this, modules)
    const inbox = new Inbox(this.commit, this.log, (envelope, done) => this.#handle(envelope, done))
    const lanes = receiveLanes(this.#ways, this.role, id, (envelope, done) => inbox.take(envelope, done))
    this.takeOver = new TakeOver(this, inbox, lanes)
    const gate = this.held.all ? undefined : { ownership, clock }
    this.#subscriptions = [
      lanes,
      answerCalls(bus, this.role, id, this.answers.beside(part.calls), this.log, gate),
      new DeadEdges(
        this.process,
        () => part.allSessions?.() ?? [],
        (session) => this.#endSession(session),
        part,
      ),
      this.takeOver,
    ]
    if (!this.held.all) ownership.onChange((role, partitions) => this.#othersChanged(role, partitions))
    return apis
  }

  /** For what is written past the commit. */
  #demandOurs(account: string): void {
    this.commit.demandHeld(account)
    if (!this.process.ownership.sure()) throw new TableUnavailable('another process may own the account')
  }

  /** As its edge would say. Should that live all the same, its client is to log in anew: nobody would know it. */
  #endSession(ended: BoundSession): void {
    this.multicast.order(ended, 'close', { condition: 'system-shutdown', text: 'this server was out of reach for too long' })
    this.inOrder(ended.jid.bare, () => this.#signal('session.closed', bareOf(ended.jid), { session: ended.session }, NOTHING))
  }

  /** The other role of these accounts has another owner, who does not know which news of shared records the last one has told. */
  #othersChanged(role: RoleName, partitions: readonly number[]): void {
    if (role === this.role) return
    const others = accountsOf(partitions)
    if (this.shared.hasCopies) this.store.forgetAll(others)
    this.part.othersChanged?.(others)
  }

  /** Stops taking envelopes; resolves when no account waits for anything and everything staged is in the table. */
  async stop(): Promise<void> {
    for (const subscription of this.#subscriptions) subscription.close()
    // Out of its cluster it can store and send nothing more: what is still to be done others do.
    if (!this.held.all && !this.process.ownership.sure()) this.takeOver.fenced()
    do {
      await this.mailboxes.settled()
      await this.commit.settled() // what it releases may give accounts something to do again
    } while (this.mailboxes.busy > 0 || this.commit.busy)
    await this.commit.drained()
    await this.multicast.settled()
    this.multicast.close()
    this.lanes.close()
  }

  isLocal(domain: string): boolean {
    return this.#local.has(domain)
  }

  /** Runs in order with the account's stanzas. */
  inOrder(account: string, task: () => void | Promise<void>): void {
    this.mailboxes.run(account, task)
  }

  #handle(envelope: Envelope, done: () => void): void {
    switch (envelope.kind) {
      case 'stanza': {
        const { point, account, origin, stanza, saidMs } = envelope
        if (point === 'outbound' && origin !== undefined) this.#submit(stanza, origin, done, saidMs)
        else if (point === 'returned') this.#takeBack(stanza, account, done, causeOf(envelope), saidMs)
        else this.receive(stanza, account, done, causeOf(envelope), saidMs)
        return
      }
      case 'signal': {
        const { name, fields } = envelope
        const account = parseJid(envelope.account)
        this.inOrder(account.bare, () => this.#signal(name, account, fields, done))
        return
      }
      case 'fanout':
        return this.#receiveMany(envelope.stanza, envelope.accounts, done)
      case 'watch':
        if (this.part.watch !== undefined) return this.part.watch(envelope, done)
        this.log.error('watch.unexpected', { edge: envelope.edge })
        done()
    }
  }

  /** A signal that breaks is lost, but not its ack: its source would wait for ever. */
  #signal(name: string, account: Jid, fields: Fields, done: () => void): void | Promise<void> {
    const broke = (error: unknown): void => {
      if (error instanceof TableUnavailable) throw error
      this.log.error('signal.broke', { name, error })
      done()
    }
    try {
      if (name === RECORD_CHANGED) return this.#recordChanged(account, fields, done)?.catch(broke)
      return this.part.signal(name, account, fields, done)?.catch(broke)
    } catch (error) {
      broke(error)
    }
  }

  #recordChanged(account: Jid, fields: Fields, done: () => void): void | Promise<void> {
    const confirm = (): void => this.commit.after(account.bare, done)
    const told = this.shared.changed(account, fields)
    return told === undefined ? confirm() : told.then(confirm)
  }

  #receiveMany(stanza: Stanza, accounts: readonly string[], done: () => void): void {
    let open = accounts.length
    if (open === 0) return done()
    const one = (): void => {
      if (--open === 0) done()
    }
    for (const account of accounts) this.receive(stanza, account, one)
  }

  /** A stanza of one of our sessions. Its passage is made once: tried again, it is stored under the same archive id. */
  #submit(received: Stanza, origin: Origin, done: () => void, saidMs = 0): void {
    const account = bareOf(received.from)
    const stanza = this.lanes.anyHeldUp && this.#isHeldUp(received, saidMs) ? undefined : this.#toWait(received, account.bare)
    if (stanza === undefined) {
      const refusal = errorOf(received, busy())
      if (refusal !== undefined) this.reply(refusal, origin)
      return done()
    }
    const passage = new LazyPassage(account, stanza.to ?? account, this.archiveIds, saidMs, '', origin)
    const task = () =>
      traceOn('stanza.outbound', stanza, this.#spanFields, (stanza) => this.#outbound(stanza, origin, passage, done))
    this.mailboxes.run(account.bare, saidMs === 0 ? task : this.recalls.before(stanza, passage, task), bytesOf(stanza))
  }

  /**
   * Too much waits already for the owner of its recipient, or for there to be one: its sender is told so, and nobody else is
   * held up. Were it taken and not acked, all of his edge's clients would wait, and two owners might wait for each other. What
   * may have been handled before is not refused: it may have come to its recipient.
   */
  #isHeldUp(stanza: Stanza, saidMs: number): boolean {
    const { to } = stanza
    if (saidMs !== 0 || to === undefined || to.local === '' || !this.isLocal(to.domain)) return false
    return this.lanes.isHeldUp(this.#roleFor(stanza, to), to.bare)
  }

  /**
   * The stanza, in a form in which it may wait for the account if it has to: without the body it came in, which would stay
   * in memory with it. Undefined where too much waits already.
   */
  #toWait(stanza: Stanza, account: string): Stanza | undefined {
    const { mailboxes } = this
    if (mailboxes.busy === 0 || mailboxes.idle(account)) return stanza
    return mailboxes.hasRoom(account, bytesOf(stanza)) ? copyOf(stanza, stanza.trace) : undefined
  }

  #outbound(stanza: Stanza, origin: Origin, passage: LazyPassage, done: () => void): void | Promise<void> {
    const durable = (): void => this.commit.after(passage.account.bare, done)
    const refuse = (error: StanzaError): void => {
      try {
        const refusal = errorOf(stanza, error)
        if (refusal !== undefined) this.reply(refusal, origin)
      } finally {
        durable()
      }
    }
    if (this.accounts.isSealed(passage.account)) return refuse(new StanzaError('not-allowed', 'the account is gone'))
    return this.#pass(
      'outbound',
      stanza,
      passage,
      (passed) => (passed === DROP ? durable() : this.part.outbound(passed, origin, passage, durable)),
      refuse,
    )
  }

  /**
   * A stanza for an account that this owner owns.
   * @param cause see Passage
   * @param saidMs see Envelope: where it is not 0, it may have come before
   */
  receive(stanza: Stanza, account: string, done: () => void = NOTHING, cause = '', saidMs = 0): void {
    this.#receive(stanza, new LazyPassage(parseJid(account), stanza.from, this.archiveIds, saidMs, cause), done)
  }

  #receive(received: Stanza, passage: LazyPassage, done: () => void): void {
    const account = passage.account.bare
    const stanza = this.#toWait(received, account)
    if (stanza === undefined) {
      // A broadcast is for nobody in particular, and whoever sent it can do nothing about it.
      if (received.name !== 'presence' || !BROADCAST.has(received.type)) this.bounce(received, busy())
      return done()
    }
    const task = () => traceOn('stanza.inbound', stanza, this.#spanFields, (stanza) => this.#inbound(stanza, passage, done))
    this.mailboxes.run(account, passage.saidMs === 0 ? task : this.recalls.before(stanza, passage, task), bytesOf(stanza))
  }

  /** Acked to its sender long ago: it is not refused for want of room. */
  #takeBack(received: Stanza, account: string, done: () => void, cause: string, saidMs = 0): void {
    const stanza = this.mailboxes.idle(account) ? received : copyOf(received, received.trace)
    const passage = new LazyPassage(parseJid(account), stanza.from, this.archiveIds, saidMs, cause && `${cause}:${RETURNED}`)
    const durable = (): void => this.commit.after(account, done)
    const { part } = this
    const take = part.returned === undefined ? durable : () => part.returned!(stanza, passage, durable)
    this.mailboxes.run(account, saidMs === 0 ? take : this.recalls.before(stanza, passage, take), bytesOf(stanza))
  }

  /** Who has a session exists: his account costs no read, even where it is cached no more. */
  #inbound(stanza: Stanza, passage: Passage, done: () => void): void | Promise<void> {
    const { account } = passage
    const known = this.part.sessions(account.bare).length > 0 && !this.accounts.isSealed(account)
    const exists = known || this.accounts.exists(account)
    if (exists === true) return this.#passInbound(stanza, passage, done)
    if (exists !== false)
      return exists.then((exists) => (exists ? this.#passInbound(stanza, passage, done) : this.#toNobody(stanza, account, done)))
    this.#toNobody(stanza, account, done)
  }

  #toNobody(stanza: Stanza, account: Jid, done: () => void): void {
    try {
      this.part.nobody?.(stanza, account)
    } finally {
      done()
    }
  }

  #passInbound(stanza: Stanza, passage: Passage, done: () => void): void | Promise<void> {
    const durable = (): void => this.commit.after(passage.account.bare, done)
    return this.#pass(
      'inbound',
      stanza,
      passage,
      (passed) => (passed === DROP ? durable() : this.part.inbound(passed, passage, durable)),
      (error) => {
        try {
          this.bounce(stanza, error)
        } finally {
          durable()
        }
      },
    )
  }

  #pass(
    point: Point,
    stanza: Stanza,
    passage: Passage,
    go: (passed: Stanza | typeof DROP) => void | Promise<void>,
    refuse: (error: StanzaError) => void,
  ): void | Promise<void> {
    try {
      const passed = this.hooks.pass(point, stanza, passage)
      if (passed instanceof Promise) return passed.then(go).catch((error: unknown) => this.#refused(error, refuse))
      const going = go(passed)
      return going?.catch((error: unknown) => this.#refused(error, refuse))
    } catch (error) {
      this.#refused(error, refuse)
    }
  }

  #refused(error: unknown, refuse: (error: StanzaError) => void): void {
    if (!(error instanceof StanzaError)) {
      if (error instanceof TableUnavailable) throw error
      this.log.error('stanza.broke', { error })
    }
    refuse(asStanzaError(error))
  }

  /** To the session a stanza came from. Released when what its account staged is durable. */
  reply(stanza: Stanza, origin: { readonly edge: string; readonly session: string }): void {
    this.commit.after(stanza.to?.bare ?? '', () => this.multicast.deliver(origin, stanza))
  }

  /** Sends the error a stanza is answered with, if it may be answered. */
  bounce(stanza: Stanza, error: StanzaError): void {
    const refusal = errorOf(stanza, error)
    if (refusal === undefined) return
    const { bare, local, domain } = refusal.from
    if (local === '' || !this.isLocal(domain) || this.held.has(bare)) this.send(refusal) // else its owner has it, and answers
  }

  /**
   * Hands a stanza on to the owner of its recipient: one of our accounts, here or elsewhere. What is for another
   * domain is answered remote-server-not-found (RFC 6120 §8.3.3.16): there is no federation in this process.
   * @param from the way it has come, where it is handed on and not made here: what comes again is known by that. Where that is
   *   of an account which is not ours any more, nothing is sent or done: its owner does
   */
  send(stanza: Stanza, done: () => void = NOTHING, from?: LazyPassage): void {
    if (from !== undefined && !this.held.has(from.account.bare)) return
    const { to } = stanza
    if (to === undefined || (to.local === '' && this.isLocal(to.domain))) return done()
    if (!this.isLocal(to.domain)) {
      this.bounce(stanza, new StanzaError('remote-server-not-found'))
      return done()
    }
    const role = this.#roleFor(stanza, to)
    const account = to.bare
    if (role === this.role && this.process.ownership.owns(role, account) && !this.lanes.carries(role, account)) {
      const bare = parseJid(account)
      this.#receive(stanza, from?.onTo(bare, stanza.from) ?? new LazyPassage(bare, stanza.from, this.archiveIds), done)
      return
    }
    const cause = stanza.name === 'message' ? (from?.cause ?? this.#newCause()) : ''
    const saidMs = from?.saidMs ?? 0
    this.lanes.send(role, account, { kind: 'stanza', point: 'inbound', account, origin: undefined, stanza, cause, saidMs }, done)
  }

  /** Of what is made here. */
  #newCause(): string {
    return `${this.process.id}:${this.role}:${++this.#made}`
  }

  /** Hands a stanza that is for one of our accounts on to where its sessions are. */
  toRouter(stanza: Stanza, account: Jid, done: () => void): void {
    this.lanes.send(
      'router',
      account.bare,
      { kind: 'stanza', point: 'inbound', account: account.bare, origin: undefined, stanza },
      done,
    )
  }

  /** An iq from one of our sessions, past its outbound hooks (RFC 6120 §10.3.3, §10.5). */
  outboundIq(iq: Stanza, origin: Origin, done: () => void, age = 0): void | Promise<void> {
    const { to } = iq
    const account = bareOf(iq.from)
    const request = iq.type === 'get' || iq.type === 'set'
    if (to === undefined || to.full === account.full) {
      if (request) return this.iq('self', iq, account, origin, done, age)
      return done() // the answer to a push of ours
    }
    if (to.local === '' && this.isLocal(to.domain)) {
      if (request && to.resource === '') return this.iq('host', iq, account, origin, done, age)
      if (request) this.refuse(iq, origin) // §10.5.2: the host has no resources
      return done()
    }
    this.send(iq, done)
  }

  /** service-unavailable, to the session a stanza came from. */
  refuse(stanza: Stanza, origin: Origin): void {
    const refusal = errorOf(stanza, new StanzaError('service-unavailable'))
    if (refusal !== undefined) this.reply(refusal, origin)
  }

  #roleFor(stanza: Stanza, to: Jid): RoleName {
    if (stanza.name === 'presence') return 'presence'
    if (stanza.name === 'iq' && to.resource === '' && (stanza.type === 'get' || stanza.type === 'set'))
      return this.homes.homeOf(stanza.child)
    return 'router'
  }

  /** Answers an iq get or set here. Throws nothing but TableUnavailable; `done` is called when the answer is on its way. */
  iq(target: IqTarget, iq: Stanza, account: Jid, origin: Origin | undefined, done: () => void, age = 0): void | Promise<void> {
    const session = origin === undefined ? undefined : this.part.session(account.bare, origin.session)
    return traceOn('iq.handled', iq, this.#spanFields, (iq) =>
      runIq(this.iqs, target, { iq, account, session, address: '', again: age > 0 }, this.log, (answer) => {
        if (origin === undefined) this.commit.after(account.bare, () => this.send(answer))
        else this.reply(answer, origin)
        done()
      }),
    )
  }
}

/** The types of presence that are shown, ended and asked for without anybody waiting for an answer. */
const BROADCAST: ReadonlySet<string> = new Set(['', 'unavailable', 'probe'])

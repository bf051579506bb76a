// What every role that owns addresses has in common: lanes in and out, one account at a time, hooks, iqs, commits.
//
// What a role adds is its part (role.ts). `done` of an envelope is called once: what it staged is durable, what it sent is with its next owner.
import type { Subscription } from '#bus/bus.ts'
import { TableUnavailable } from '#table/table.ts'
import { StanzaError } from '#xmpp/error.ts'
import { bareOf, type Jid, parseJid } from '#xmpp/jid.ts'
import { bytesOf, copyOf, readdress, type Stanza } from '#xmpp/stanza.ts'
import { Accounts } from './accounts.ts'
import { Administration } from './administration.ts'
import { asStanzaError, errorOf } from './answer.ts'
import { ArchiveIds, markRow, readMark } from './archive-id.ts'
import { Answers, answerCalls, type Caller, openCaller } from './call.ts'
import { Commit } from './commit.ts'
import type { Envelope, Fields, Origin } from './envelope.ts'
import { DROP, Hooks, type Passage, type Point } from './hooks.ts'
import { Inbox } from './inbox.ts'
import { IqHomes, IqTable, runIq } from './iq.ts'
import { type Lanes, openLanes, receiveLanes } from './lane.ts'
import type { Log } from './log.ts'
import { Mailboxes } from './mailbox.ts'
import type { IqTarget } from './module.ts'
import { type Multicast, openMulticast } from './multicast.ts'
import type { RoleName } from './ownership.ts'
import { LazyPassage } from './passage.ts'
import type { Process } from './process.ts'
import type { RolePart } from './role.ts'
import { type ApiOf, setUpModules } from './setup.ts'
import { RECORD_CHANGED, SharedRecords } from './shared.ts'
import { Store } from './store.ts'
import { type SpanFields, traceOn } from './trace.ts'

const NOTHING = (): void => {}
/** In whose name the mark of the archive ids is staged: nobody's, for no domain begins like this. */
const MARK = '#archive-ids'
/** Accounts in one envelope: a body is at most 1 MiB, a bare JID at most 2 KiB. */
const FANOUT_ACCOUNTS_MAX = 300

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
  readonly shared: SharedRecords
  part!: RolePart
  readonly #local: ReadonlySet<string>
  readonly #spanFields: SpanFields
  #subscriptions: Subscription[] = []

  constructor(process: Process, role: RoleName) {
    this.role = role
    this.process = process
    this.log = process.log.child({ role })
    this.commit = new Commit(process.table, process.clock, this.log)
    this.store = new Store(process.table, this.commit, process.journals, role === 'presence' ? withoutCredentials : undefined)
    this.accounts = new Accounts(process.table, this.store, process.clock, process.config.scram.iterations)
    this.hooks = new Hooks(this.log)
    this.lanes = openLanes(process.bus, process.ownership, `${role}${process.id}`, this.log)
    this.multicast = openMulticast(process.bus, `${role}.${process.id}`)
    this.caller = openCaller(process.bus, process.ownership)
    this.administration = new Administration(this.caller, process.ownership)
    this.mailboxes = new Mailboxes(process.clock, this.log)
    this.homes = new IqHomes(process.modules)
    this.archiveIds = new ArchiveIds(process.clock, (markMs) => this.commit.stage(MARK, { put: markRow(role, markMs) }))
    this.shared = new SharedRecords({ role, store: this.store, commit: this.commit, lanes: this.lanes, clock: process.clock })
    this.#local = new Set(process.config.domains)
    this.#spanFields = { role }
  }

  /** An owner that goes on where the last one of its role ended. */
  static async open(process: Process, role: RoleName): Promise<Owner> {
    const owner = new Owner(process, role)
    const markMs = await readMark(process.table, role)
    if (markMs !== undefined) owner.archiveIds.resume(markMs)
    return owner
  }

  /** Sets up the modules, then opens the lanes. Returns their APIs. */
  start(part: RolePart): ApiOf {
    this.part = part
    const { bus, id, modules } = this.process
    const apis = setUpModules(this, modules)
    const inbox = new Inbox(this.commit, this.log, (envelope, done) => this.#handle(envelope, done))
    this.#subscriptions = [
      receiveLanes(bus, this.role, id, (envelope, done) => inbox.take(envelope, done), this.log),
      answerCalls(bus, this.role, id, this.answers.beside(part.calls), this.log),
    ]
    return apis
  }

  /** Stops taking envelopes; resolves when no account waits for anything and everything staged is durable. */
  async stop(): Promise<void> {
    for (const subscription of this.#subscriptions) subscription.close()
    do {
      await this.mailboxes.settled()
      await this.commit.settled() // what it releases may give accounts something to do again
    } while (this.mailboxes.busy > 0 || this.commit.busy)
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
        const { point, account, origin, stanza } = envelope
        if (point === 'outbound' && origin !== undefined) this.#submit(stanza, origin, done)
        else if (point === 'returned') this.#takeBack(stanza, account, done)
        else this.receive(stanza, account, done)
        return
      }
      case 'signal': {
        const { name, fields } = envelope
        const account = parseJid(envelope.account)
        this.inOrder(account.bare, () => this.#signal(name, account, fields, done))
        return
      }
      case 'fanout':
        this.#receiveMany(envelope.stanza, envelope.accounts, done)
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
    if (this.part.inboundMany !== undefined) return this.part.inboundMany(stanza, accounts, done)
    let open = accounts.length
    if (open === 0) return done()
    const one = (): void => {
      if (--open === 0) done()
    }
    for (const account of accounts) this.receive(stanza, account, one)
  }

  /** A stanza of one of our sessions. Its passage is made once: tried again, it is stored under the same archive id. */
  #submit(received: Stanza, origin: Origin, done: () => void): void {
    const account = bareOf(received.from)
    const stanza = this.#toWait(received, account.bare)
    if (stanza === undefined) {
      const refusal = errorOf(received, busy())
      if (refusal !== undefined) this.reply(refusal, origin)
      return done()
    }
    const passage = this.#passage(account, stanza.to ?? account)
    this.mailboxes.run(
      account.bare,
      () => traceOn('stanza.outbound', stanza, this.#spanFields, (stanza) => this.#outbound(stanza, origin, passage, done)),
      bytesOf(stanza),
    )
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

  #outbound(stanza: Stanza, origin: Origin, passage: Passage, done: () => void): void | Promise<void> {
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
      (passed) => (passed === DROP ? durable() : this.part.outbound(passed, origin, durable)),
      refuse,
    )
  }

  /** A stanza for an account that this owner owns. */
  receive(received: Stanza, account: string, done: () => void = NOTHING): void {
    const stanza = this.#toWait(received, account)
    if (stanza === undefined) {
      // A broadcast is for nobody in particular, and whoever sent it can do nothing about it.
      if (received.name !== 'presence' || !BROADCAST.has(received.type)) this.bounce(received, busy())
      return done()
    }
    const passage = this.#passage(parseJid(account), stanza.from)
    this.mailboxes.run(
      account,
      () => traceOn('stanza.inbound', stanza, this.#spanFields, (stanza) => this.#inbound(stanza, passage, done)),
      bytesOf(stanza),
    )
  }

  /** Acked to its sender long ago: it is not refused for want of room. */
  #takeBack(received: Stanza, account: string, done: () => void): void {
    const stanza = this.mailboxes.idle(account) ? received : copyOf(received, received.trace)
    const passage = this.#passage(parseJid(account), stanza.from)
    const durable = (): void => this.commit.after(account, done)
    const { part } = this
    const take = part.returned === undefined ? durable : () => part.returned!(stanza, passage, durable)
    this.mailboxes.run(account, take, bytesOf(stanza))
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

  #passage(account: Jid, peer: Jid): Passage {
    return new LazyPassage(account, peer, this.archiveIds)
  }

  /** To the session a stanza came from. Released when what its account staged is durable. */
  reply(stanza: Stanza, origin: { readonly edge: string; readonly session: string }): void {
    this.commit.after(stanza.to?.bare ?? '', () => this.multicast.deliver(origin, stanza))
  }

  /** Sends the error a stanza is answered with, if it may be answered. */
  bounce(stanza: Stanza, error: StanzaError): void {
    const refusal = errorOf(stanza, error)
    if (refusal !== undefined) this.send(refusal)
  }

  /**
   * Hands a stanza on to the owner of its recipient: one of our accounts, here or elsewhere. What is for another
   * domain is answered remote-server-not-found (RFC 6120 §8.3.3.16): there is no federation in this process.
   */
  send(stanza: Stanza, done: () => void = NOTHING): void {
    const { to } = stanza
    if (to === undefined || (to.local === '' && this.isLocal(to.domain))) return done()
    if (!this.isLocal(to.domain)) {
      this.bounce(stanza, new StanzaError('remote-server-not-found'))
      return done()
    }
    const role = this.#roleFor(stanza, to)
    if (role === this.role && this.process.ownership.ownerOf(role, to.bare) === this.process.id)
      this.receive(stanza, to.bare, done)
    else this.lanes.send(role, to.bare, { kind: 'stanza', point: 'inbound', account: to.bare, origin: undefined, stanza }, done)
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

  /** One stanza for many accounts, in this role: one envelope per owner, whoever of them is online. Other domains get one each. */
  fanOut(stanza: Stanza, accounts: readonly string[]): void {
    const { ownership, id } = this.process
    const here: string[] = []
    const elsewhere = new Map<string, string[]>()
    for (const account of accounts) {
      if (!this.isLocal(account.slice(account.indexOf('@') + 1))) {
        this.send(readdress(stanza, { to: parseJid(account) }))
        continue
      }
      const owner = ownership.ownerOf(this.role, account)
      const list = owner === id ? here : (elsewhere.get(owner) ?? [])
      if (owner !== id && list.length === 0) elsewhere.set(owner, list)
      list.push(account)
    }
    if (here.length > 0) this.#receiveMany(stanza, here, NOTHING)
    for (const list of elsewhere.values()) {
      for (let at = 0; at < list.length; at += FANOUT_ACCOUNTS_MAX) {
        const part = list.slice(at, at + FANOUT_ACCOUNTS_MAX)
        this.lanes.send(this.role, part[0]!, { kind: 'fanout', accounts: part, stanza })
      }
    }
  }

  /** The inbound hooks of an account; a refusal is answered and dropped. For a role that delivers many at once. */
  passInbound(stanza: Stanza, account: Jid): Stanza | typeof DROP | Promise<Stanza | typeof DROP> {
    const refuse = (error: unknown): typeof DROP => {
      this.#refused(error, (error) => this.bounce(stanza, error))
      return DROP
    }
    try {
      const passed = this.hooks.pass('inbound', stanza, this.#passage(account, stanza.from))
      return passed instanceof Promise ? passed.catch(refuse) : passed
    } catch (error) {
      return refuse(error)
    }
  }

  /** An iq from one of our sessions, past its outbound hooks (RFC 6120 §10.3.3, §10.5). */
  outboundIq(iq: Stanza, origin: Origin, done: () => void): void | Promise<void> {
    const { to } = iq
    const account = bareOf(iq.from)
    const request = iq.type === 'get' || iq.type === 'set'
    if (to === undefined || to.full === account.full) {
      if (request) return this.iq('self', iq, account, origin, done)
      return done() // the answer to a push of ours
    }
    if (to.local === '' && this.isLocal(to.domain)) {
      if (request && to.resource === '') return this.iq('host', iq, account, origin, done)
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
  iq(target: IqTarget, iq: Stanza, account: Jid, origin: Origin | undefined, done: () => void): void | Promise<void> {
    const session = origin === undefined ? undefined : this.part.session(account.bare, origin.session)
    return traceOn('iq.handled', iq, this.#spanFields, (iq) =>
      runIq(this.iqs, target, { iq, account, session, address: '' }, this.log, (answer) => {
        if (origin === undefined) this.commit.after(account.bare, () => this.send(answer))
        else this.reply(answer, origin)
        done()
      }),
    )
  }
}

/** The types of presence that are shown, ended and asked for without anybody waiting for an answer. */
const BROADCAST: ReadonlySet<string> = new Set(['', 'unavailable', 'probe'])

/** RFC 6120 §8.3.3.18. What there was no room for is not sent back. */
function busy(): StanzaError {
  return new StanzaError('resource-constraint', 'too much waits for this account', { type: 'wait', echo: false })
}

/** Presence never asks for them. */
function withoutCredentials(row: unknown): unknown {
  return { ...(row as object), credentials: undefined }
}

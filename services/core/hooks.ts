// Guards, stamps, copies and events: what a module may do to a stanza that is not addressed to it.
//
// A guard may refuse, a stamp may rewrite, a copy may send more, and a listener is told. The lists are flattened
// at start, so that a stanza costs one loop, and no promise is made while every hook answers at once.

import { TableUnavailable } from '#table/table.ts'
import { StanzaError } from '#xmpp/error.ts'
import type { Jid } from '#xmpp/jid.ts'
import type { Stanza } from '#xmpp/stanza.ts'
import type { SessionAddress } from './multicast/multicast.ts'
import type { Log } from './observing/log.ts'

/** Returned by a guard: the stanza goes no further and nobody is told. */
export const DROP = Symbol('drop')

/**
 * The account in whose name a hook runs, who is at the other end, and the key for whatever is stored of this stanza:
 * given by the account's owner, rising per account. What comes again, as nobody knows whether it was handled, has the key it
 * had if anything of it was stored under its cause.
 */
export interface Passage {
  readonly account: Jid
  readonly peer: Jid
  readonly archiveId: string
  /** `<session>:<n>` for what a client said, the same in the sender's name and in the recipient's; '' where it has none. */
  readonly cause: string
  /** 1: it may have been handled before, by this owner or another. */
  readonly age: number
}

/** `outbound`: in the sender's name, at his owner. `inbound`: in the recipient's, at his. */
export type Point = 'outbound' | 'inbound'

/** May refuse: returns DROP, or throws a StanzaError that is sent back. */
export type Guard = (stanza: Stanza, passage: Passage) => void | typeof DROP | Promise<void | typeof DROP>
/** May rewrite: returns the stanza to go on with. */
export type Stamp = (stanza: Stanza, passage: Passage) => Stanza | Promise<Stanza>
/** Sees the stanza as it will be delivered, and sends or stores more. */
export type Copy = (stanza: Stanza, passage: Passage) => void | Promise<void>

/** What has happened. A module adds its own by declaring them here, from its own file. */
export interface Events {
  /** A session was bound, at router(account). */
  'session.bound': { readonly jid: Jid; readonly session: string }
  'session.closed': { readonly jid: Jid; readonly session: string }
  /** At router(account): the session became available with this priority, or changed it. `first`: it was not available. */
  'session.available': { readonly jid: Jid; readonly session: string; readonly priority: number; readonly first: boolean }
  /** At router(account): no session takes this message; whoever keeps messages keeps it. */
  'message.offline': OfflineMessage
  /** At router(account): the same of a message that is not to be kept for later (RFC 6121 §8.5.3.2.1): is it to be found elsewhere? */
  'message.unclaimed': OfflineMessage
  /** At presence(account): it is hidden from others than before. `changed` names them: an address, a whole domain, or one resource. */
  'audience.changed': { readonly account: Jid; readonly changed: readonly Jid[]; readonly before: Hidden; readonly after: Hidden }
  /** At presence(account): a resource that was available is no more, and everybody who saw it has been shown this (RFC 6121 §4.5). */
  'presence.left': { readonly jid: Jid; readonly farewell: Stanza }
  /**
   * At presence(contact), in order with his stanzas: these see him, and want what he has published last (XEP-0163 §4.3.2), of these
   * nodes, if that is known. `at`: the session that wants it, '' for all of the watcher there; else wherever they are.
   */
  'presence.greeted': {
    readonly contact: Jid
    /** Bare JIDs; the contact's own for a session of his. */
    readonly watchers: readonly string[]
    readonly at: SessionAddress | undefined
    readonly nodes: readonly string[] | undefined
  }
  /** At router(account): it is gone for good, and its rows are to be deleted next. May come again, when some of them are. What waits here, the rows wait for. */
  'account.erasing': { readonly account: Jid }
  /** At the router: it is stopping; what a module has opened it closes. */
  'role.stopping': Record<string, never>
  /** In every role that owns the account, when all its rows are gone. */
  'account.deleted': { readonly account: Jid }
}

export interface OfflineMessage {
  readonly account: Jid
  readonly stanza: Stanza
  readonly archiveId: string
  /** As in Passage. */
  readonly cause: string
  /** A session had it and did not acknowledge it (XEP-0198 §4): the note of ours in it says when it came (XEP-0203). */
  readonly returned: boolean
  /** Set by the listener that kept it. Where nobody does, the sender is told service-unavailable (RFC 6121 §8.5.2.2.1). */
  kept: boolean
  /** Set by the listener that could not keep it, as the answer owed to the sender. */
  refused: StanzaError | undefined
}

export type Listener<E extends keyof Events> = (payload: Events[E]) => void | Promise<void>

/** Whether this address is not to be shown the account's presence. */
export interface Hidden {
  (peer: Jid): boolean
  /** The full JIDs among those that are hidden one by one, and not with their account. */
  readonly resources?: readonly string[]
}
/** Who is not to be shown an account's presence, whatever its roster says; undefined: nobody. Where the owner of its roster runs. */
export type Hider = (account: Jid) => Hidden | undefined | Promise<Hidden | undefined>

interface Named<F> {
  readonly module: string
  readonly run: F
}

/**
 * The hooks of one role.
 *
 * A guard or stamp that breaks refuses the stanza, as internal-server-error: a broken guard must not become an open
 * door. A copy or an event handler that breaks is logged. TableUnavailable is neither: it rises, the envelope is not
 * acked, and comes again; so what hooks store is keyed by `archiveId`.
 */
export class Hooks {
  readonly #guards: Record<Point, Named<Guard>[]> = { outbound: [], inbound: [] }
  readonly #stamps: Record<Point, Named<Stamp>[]> = { outbound: [], inbound: [] }
  readonly #copies: Record<Point, Named<Copy>[]> = { outbound: [], inbound: [] }
  readonly #listeners = new Map<string, Named<Listener<keyof Events>>[]>()
  #hider: Named<Hider> | undefined
  readonly #log: Log

  constructor(log: Log) {
    this.#log = log
  }

  guard(module: string, point: Point, run: Guard): void {
    this.#guards[point].push({ module, run })
  }

  stamp(module: string, point: Point, run: Stamp): void {
    this.#stamps[point].push({ module, run })
  }

  copy(module: string, point: Point, run: Copy): void {
    this.#copies[point].push({ module, run })
  }

  on<E extends keyof Events>(module: string, event: E, run: Listener<E>): void {
    const listeners = this.#listeners.get(event) ?? []
    listeners.push({ module, run: run as Listener<keyof Events> })
    this.#listeners.set(event, listeners)
  }

  /** There is one, so that there is one answer to who was hidden from before. Throws Error where there is another. */
  hide(module: string, run: Hider): void {
    if (this.#hider !== undefined) throw new Error(`modules ${this.#hider.module} and ${module} both hide presence`)
    this.#hider = { module, run }
  }

  /** Who is not to be shown the account's presence. One that breaks shows it to nobody: it throws, as a guard would. */
  hidden(account: Jid): ReturnType<Hider> {
    if (this.#hider === undefined) return undefined
    const { module, run } = this.#hider
    const broke = (error: unknown): never => {
      throw this.#refusal(module, error)
    }
    try {
      const hidden = run(account)
      return hidden instanceof Promise ? hidden.catch(broke) : hidden
    } catch (error) {
      broke(error)
    }
  }

  /** Calls every listener; resolves when all have answered. TableUnavailable rises, everything else is logged. */
  emit<E extends keyof Events>(event: E, payload: Events[E]): void | Promise<void> {
    const listeners = this.#listeners.get(event)
    if (listeners === undefined) return
    let waiting: Promise<void>[] | undefined
    for (const { module, run } of listeners) {
      try {
        const answer = run(payload)
        if (answer !== undefined) (waiting ??= []).push(answer.catch((error: unknown) => this.#shrug(module, event, error)))
      } catch (error) {
        if (waiting === undefined) this.#shrug(module, event, error)
        else waiting.push(this.#shrugLater(module, event, error))
      }
    }
    if (waiting !== undefined) return all(waiting)
  }

  /** Guards, then stamps, then copies. Resolves to the stanza to go on with; throws the StanzaError of a refusal. */
  pass(point: Point, stanza: Stanza, passage: Passage): Stanza | typeof DROP | Promise<Stanza | typeof DROP> {
    const guards = this.#guards[point]
    for (let i = 0; i < guards.length; i++) {
      const verdict = this.#ask(guards[i]!, stanza, passage)
      if (verdict === undefined) continue
      if (verdict === DROP) return DROP
      return this.#passSlowly(point, stanza, passage, i, verdict)
    }
    return this.#rewrite(point, stanza, passage, 0)
  }

  #ask(guard: Named<Guard>, stanza: Stanza, passage: Passage): ReturnType<Guard> {
    try {
      return guard.run(stanza, passage)
    } catch (error) {
      throw this.#refusal(guard.module, error)
    }
  }

  async #passSlowly(
    point: Point,
    stanza: Stanza,
    passage: Passage,
    at: number,
    first: ReturnType<Guard>,
  ): Promise<Stanza | typeof DROP> {
    const guards = this.#guards[point]
    let verdict = first
    for (let i = at; ; ) {
      try {
        if ((await verdict) === DROP) return DROP
      } catch (error) {
        throw this.#refusal(guards[i]!.module, error)
      }
      if (++i >= guards.length) break
      verdict = this.#ask(guards[i]!, stanza, passage)
    }
    return this.#rewrite(point, stanza, passage, 0)
  }

  #rewrite(point: Point, stanza: Stanza, passage: Passage, from: number): Stanza | Promise<Stanza> {
    const stamps = this.#stamps[point]
    for (let i = from; i < stamps.length; i++) {
      const { module, run } = stamps[i]!
      let rewritten: Stanza | Promise<Stanza>
      try {
        rewritten = run(stanza, passage)
      } catch (error) {
        throw this.#refusal(module, error)
      }
      if (rewritten instanceof Promise) {
        return rewritten.then(
          (stanza) => this.#rewrite(point, stanza, passage, i + 1),
          (error: unknown) => {
            throw this.#refusal(module, error)
          },
        )
      }
      stanza = rewritten
    }
    return this.#tell(point, stanza, passage)
  }

  #tell(point: Point, stanza: Stanza, passage: Passage): Stanza | Promise<Stanza> {
    const copies = this.#copies[point]
    let waiting: Promise<void>[] | undefined
    for (let i = 0; i < copies.length; i++) {
      const { module, run } = copies[i]!
      try {
        const answer = run(stanza, passage)
        if (answer !== undefined) (waiting ??= []).push(answer.catch((error: unknown) => this.#shrug(module, point, error)))
      } catch (error) {
        if (waiting === undefined) this.#shrug(module, point, error)
        else waiting.push(this.#shrugLater(module, point, error))
      }
    }
    return waiting === undefined ? stanza : all(waiting).then(() => stanza)
  }

  #refusal(module: string, error: unknown): Error {
    if (error instanceof StanzaError || error instanceof TableUnavailable) return error
    this.#log.error('hook.broke', { module, error })
    return new StanzaError('internal-server-error')
  }

  #shrug(module: string, where: string, error: unknown): void {
    if (error instanceof TableUnavailable) throw error
    this.#log.error('hook.broke', { module, where, error })
  }

  /** What is thrown while others still work rises when they are done. */
  async #shrugLater(module: string, where: string, error: unknown): Promise<void> {
    this.#shrug(module, where, error)
  }
}

/** Resolves when all have answered, or rejects then: what is tried again does not meet itself still at work. */
async function all(answers: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(answers)) if (result.status === 'rejected') throw result.reason
}

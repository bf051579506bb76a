// The sessions an owner knows, by account. Soft state: an edge can tell it all again.
import type { Jid } from '#xmpp/jid.ts'
import type { Fields, Origin } from '../envelope.ts'
import type { Session } from '../module.ts'
import type { Multicast } from '../multicast/multicast.ts'
import type { OfAccounts } from './held.ts'
import type { RoleName } from './ownership.ts'

const NONE: readonly BoundSession[] = []

/** What an edge says of the connection that a session is bound on: for whoever runs the server. */
export interface ConnectionFacts {
  readonly address: string
  readonly transport: 'tcp' | 'websocket'
  readonly encrypted: boolean
}

/** The same as long as the session is there, and when it was bound. */
export interface AboutSession extends Partial<ConnectionFacts> {
  readonly sinceMs: number
  /** It has lost its stream and waits to be resumed (XEP-0198). */
  readonly detached: boolean
  /** Told by its edge only: its last owner had not shown its last presence to anybody yet. */
  readonly held?: boolean
}

export class BoundSession implements Session {
  readonly session: string
  /** Where it is now (edge/moving). */
  edge: string
  readonly jid: Jid
  available = false
  priority = 0
  /** The last of what its client has said that has come to this role (XEP-0198 §4); kept where edges may die. */
  said = 0
  /** Known to the router, where it is bound. */
  about: AboutSession | undefined = undefined
  readonly #multicast: Multicast
  #flags: string[] | undefined

  constructor(session: string, edge: string, jid: Jid, multicast: Multicast) {
    this.session = session
    this.edge = edge
    this.jid = jid
    this.#multicast = multicast
  }

  has(flag: string): boolean {
    return this.#flags?.includes(flag) ?? false
  }

  /** As its edge tells of it, which keeps them. */
  setAll(flags: readonly string[]): void {
    if (flags.length > 0) this.#flags = [...flags]
  }

  /** The edge keeps it, too: it is the source of truth for its sessions. */
  set(flag: string): void {
    if (this.has(flag)) return
    if (this.#flags === undefined) this.#flags = []
    this.#flags.push(flag)
    this.#multicast.order(this, 'flag', { flag })
  }

  unset(flag: string): void {
    if (!this.has(flag)) return
    this.#flags = this.#flags!.filter((other) => other !== flag)
    this.#multicast.order(this, 'flag', { flag, off: true })
  }
}

export class Registry {
  readonly #accounts = new Map<string, BoundSession[]>()
  #size = 0

  /** Sessions in all. */
  get size(): number {
    return this.#size
  }

  of(account: string): readonly BoundSession[] {
    return this.#accounts.get(account) ?? NONE
  }

  byId(account: string, session: string): BoundSession | undefined {
    const sessions = this.#accounts.get(account)
    if (sessions === undefined) return undefined
    for (const known of sessions) if (known.session === session) return known
    return undefined
  }

  /**
   * Another edge has it from here on. The one it was at is told so behind all that it was sent, also where this is not known, or
   * was told before.
   */
  move(account: string, { session: id, from, to }: Fields, role: RoleName, { order }: Pick<Multicast, 'order'>): void {
    const session = this.byId(account, String(id))
    if (session !== undefined) session.edge = String(to)
    order({ edge: String(from), session: String(id) }, 'moved', { account, role })
  }

  /** What a client says has come. It may come again. */
  note({ bare }: Jid, { session: id, n }: Origin): void {
    const session = this.byId(bare, id)
    if (session !== undefined && n > session.said) session.said = n
  }

  /** The latest of that resource: the end of one that was replaced may be heard of after the start of its successor. */
  byResource(account: string, resource: string): BoundSession | undefined {
    return this.#accounts.get(account)?.findLast(({ jid }) => jid.resource === resource)
  }

  add(session: BoundSession): void {
    const sessions = this.#accounts.get(session.jid.bare)
    if (sessions === undefined) this.#accounts.set(session.jid.bare, [session])
    else sessions.push(session)
    this.#size++
  }

  remove(session: BoundSession): void {
    const sessions = this.#accounts.get(session.jid.bare)
    const at = sessions?.indexOf(session) ?? -1
    if (at < 0) return
    sessions!.splice(at, 1)
    if (sessions!.length === 0) this.#accounts.delete(session.jid.bare)
    this.#size--
  }

  /** Those of these accounts are not known any more. */
  forget(gone: OfAccounts): void {
    for (const [account, sessions] of this.#accounts) {
      if (!gone(account)) continue
      this.#accounts.delete(account)
      this.#size -= sessions.length
    }
  }

  /** The bare JIDs that have sessions, in no order. */
  accounts(): Iterable<string> {
    return this.#accounts.keys()
  }

  *all(): Iterable<BoundSession> {
    for (const sessions of this.#accounts.values()) yield* sessions
  }
}

// What a role (router/, presence/) adds to its owner (owner.ts): where a stanza goes that has passed the hooks, who is
// connected, and which signals and calls it answers.
import type { Jid } from '#xmpp/jid.ts'
import type { Stanza } from '#xmpp/stanza.ts'
import type { CallHandlers } from './call.ts'
import type { Fields, Origin, Watch } from './envelope.ts'
import type { Passage } from './hooks.ts'
import type { Session, ShownOptions } from './module.ts'
import type { OfAccounts } from './ownership/held.ts'
import type { BoundSession } from './ownership/registry.ts'
import type { ToldSession, ToldWatches } from './ownership/resync-frame.ts'
import type { LazyPassage } from './passage.ts'

/** Each may answer later; the account waits meanwhile. */
export interface RolePart {
  /** A stanza of one of our sessions, in the sender's name, past the outbound hooks. */
  outbound(stanza: Stanza, origin: Origin, passage: LazyPassage, done: () => void): void | Promise<void>
  /** A stanza for one of our accounts, past the inbound hooks. */
  inbound(stanza: Stanza, passage: Passage, done: () => void): void | Promise<void>
  /**
   * A stanza that had passed the hooks and been sent to a session of one of our accounts, which has ended without
   * acknowledging it (XEP-0198 §4). Where a role has none, it is dropped.
   */
  returned?(stanza: Stanza, passage: Passage, done: () => void): void | Promise<void>
  /** A stanza for an account that does not exist (RFC 6121 §8.5.1); hooks run in nobody's name. */
  nobody?(stanza: Stanza, account: Jid): void
  /** Where presence is: an edge tells who watches these accounts, which are all owned here. */
  watch?(watch: Watch, done: () => void): void
  /** Where presence is: shows something in the name of an account to whoever sees it. */
  shown?(account: Jid, stanza: Stanza, options: ShownOptions): void
  /** Edges that have told who watches; one of them may be dead (core/ownership/dead-edges.ts). */
  watchingEdges?(): Iterable<string>
  edgeDied?(edge: string): void
  /** The other role of these accounts has another owner: news of its records may not have been told. */
  othersChanged?(of: OfAccounts): void
  signal(name: string, account: Jid, fields: Fields, done: () => void): void | Promise<void>
  /** Where presence is: shows an account's presence anew, as it has been changed. In order with its stanzas. */
  reshow?(account: Jid, change: (presence: Stanza) => Stanza): Promise<void>
  sessions(account: string): readonly Session[]
  session(account: string, id: string): Session | undefined
  readonly calls: CallHandlers
  /** All sessions it knows. */
  allSessions?(): Iterable<BoundSession>
  /**
   * Sessions of accounts that have come, as their edges tell of them; those that are known stay as they are.
   * @param late the edge that tells, where it was waited for no longer: its sessions were not there for anybody meanwhile
   */
  adopt?(told: readonly ToldSession[], late?: string): void
  /**
   * Who watches accounts that have come, as the edges tell; behind `adopt`.
   * @param late as there
   */
  adoptWatches?(told: readonly ToldWatches[], late?: string): void
  /** Of accounts that have come, the clients of this edge see these full JIDs as available. All edges have told of their sessions. */
  seen?(edge: string, jids: readonly string[]): void
  /** Accounts have come, and all that could be told of them has been. */
  taken?(): void
  /** These accounts are to go: nothing is begun for them in the background any more, and what was is over when it resolves. */
  releasing?(gone: OfAccounts): Promise<void>
  /** Forgets all that it knows of these accounts. */
  forget?(gone: OfAccounts): void
}

// What a module is, and everything it may ask of the server.
//
// A module is set up once in every role, with the same file: guards, stamps and copies run wherever a stanza passes;
// its iq handlers run in its home, the one role that writes what it stores.

import type { Jid } from '#xmpp/jid.ts'
import type { Element, Stanza } from '#xmpp/stanza.ts'
import type { Administration } from './administration.ts'
import type { Asked, CallHandlers, Calls, Told } from './call.ts'
import type { Clock } from './clock.ts'
import type { ProcessGroups } from './groups/group-administration.ts'
import type { Copy, Events, Guard, Hider, Listener, Point, Stamp } from './hooks.ts'
import type { SessionAddress } from './multicast/multicast.ts'
import type { Log } from './observing/log.ts'
import type { Metrics } from './observing/metrics.ts'
import type { RoleName } from './ownership/ownership.ts'
import type { Config } from './settings/config.ts'
import type { HostSettings } from './settings/hosts.ts'
import type { OptionSpecs } from './settings/options.ts'
import type { Accounts } from './storage/accounts.ts'
import type { Portable } from './storage/portable.ts'
import type { OnNews, SharedRecord } from './storage/shared.ts'
import type { AccountJournal, AccountMap, AccountRecord, JournalIds, Store } from './storage/store.ts'

export interface Module<Api = void, Options = {}> {
  readonly name: string
  /** Where its iq handlers run and its data is written: with the sessions and messages, or with rosters and presence. */
  readonly home: RoleName
  /** The specifications this file implements, and the version read while writing it. */
  readonly xeps: readonly ImplementedXep[]
  /** What disco#info (XEP-0030 §3) announces of the account and of the host while the module is loaded. */
  readonly features?: { readonly account?: readonly string[]; readonly host?: readonly string[] }
  /**
   * Forms that disco#info of the host shows beside its features (XEP-0128), and the identities and features that depend on the
   * options. They follow from the configuration, so that every edge knows them.
   */
  hostForms?(options: Options, server: ServerFacts): readonly Element[]
  /** Namespaces of the iqs it answers: by them edges know to which home an iq goes. Answering another one stops the start. */
  readonly namespaces?: readonly string[]
  /** Those of them that a stream may ask before it has logged in. */
  readonly strangers?: readonly string[]
  /**
   * What a client may ask for as it binds (XEP-0386 §3.2): elements as `{ns}name`, each with the flag that its session has from then
   * on (Session.set). Their namespaces are offered.
   */
  readonly bindFlags?: Readonly<Record<string, string>>
  /** What it adds to a stream's features once the client is logged in (RFC 6120 §4.3.2). Asked once for each kind of stream and each domain with options of its own. */
  readonly streamFeatures?: (server: ServerFacts, modules: readonly AnyModule[]) => readonly Element[]
  /** The same before the login. */
  readonly streamFeaturesBeforeLogin?: (server: ServerFacts) => readonly Element[]
  /** The journals it keeps. Deleted with an account also while the module is disabled: whoever has the name next must not read them. */
  readonly journals?: readonly string[]
  /** How what it stores is written in the export of an account. What is not written here is exported as it is stored. */
  readonly portable?: readonly Portable[]
  readonly options?: OptionSpecs<Options>
  /** Runs once per role and process, before any stanza. What it returns is this module's API for other modules. */
  setup(app: App<Options>): Api
}

export interface ImplementedXep {
  readonly number: string
  readonly version: string
  readonly status?: 'partial'
}

export function defineModule<Api = void, Options = {}>(module: Module<Api, Options>): Module<Api, Options> {
  return module
}

// biome-ignore lint/suspicious/noExplicitAny: a list of modules holds any API and any options
export type AnyModule = Module<any, any>

/** What a module may know of the server it runs in. */
export interface ServerFacts {
  readonly domains: readonly string[]
  readonly registration: 'open' | 'invite' | 'closed'
  readonly version: string
  /** The options of every module that is loaded, by its name. */
  readonly moduleOptions: Readonly<Record<string, unknown>>
  /** The accounts, as bare JIDs, that may administer the domain they are on. */
  readonly admins?: readonly string[]
  /** What is different in some domains (core/settings/hosts.ts). */
  readonly hosts?: Readonly<Record<string, HostSettings>>
  /** The folder of what this process keeps. */
  readonly data?: string
  /** `http://127.0.0.1:5280`, where only this machine can connect; else it takes a proxy to reach our HTTP, whose address we do not know. */
  readonly loopbackHttp?: string | undefined
}

export interface App<Options = {}> {
  readonly options: Options
  /** The options as they hold for one domain: those that are declared `perDomain` may differ. */
  optionsOf(domain: string): Options
  readonly server: ServerFacts
  readonly limits: Config['limits']
  /** The role this set-up is for. */
  readonly role: RoleName
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
  readonly accounts: Accounts
  /** All modules that are loaded, this one too. */
  readonly modules: readonly AnyModule[]
  iq(type: 'get' | 'set', ns: string, name: string, target: IqTarget, handler: IqHandler): void
  guard(point: Point, guard: Guard): void
  stamp(point: Point, stamp: Stamp): void
  copy(point: Point, copy: Copy): void
  /** Says who is not to be shown an account's presence: asked before each broadcast, which meets no guard. One module may. */
  hide(hider: Hider): void
  on<E extends keyof Events>(event: E, listener: Listener<E>): void
  emit<E extends keyof Events>(event: E, payload: Events[E]): void | Promise<void>
  /** One value per account. Deleted and exported with the account. */
  record<T>(name: string, empty: T): AccountRecord<T>
  /** A record that both roles read: `onNews` is called in the one that is not the home, when it has been changed there. */
  sharedRecord<T, News>(name: string, empty: T, onNews: OnNews<News>): SharedRecord<T, News>
  /** One value per account and key. Deleted and exported with the account. */
  map<T>(name: string): AccountMap<T>
  /** A sequence per account, in the order of its ids. Deleted and exported with the account. One it does not declare stops the start. */
  journal(name: string, ids?: JournalIds): AccountJournal
  /** All that is stored of an account, whoever has: for its export. */
  readonly stored: Pick<Store, 'export' | 'journals'>
  /** The sessions of one of our accounts that this role knows; the owner of the account only. */
  sessions(account: Jid): readonly Session[]
  /** All that this role knows, in this process. */
  allSessions(): Iterable<Session>
  /** Whether a contact may see the account's presence. Asks the account's owner in presence; throws where it does not answer. */
  seenBy(account: Jid, contact: Jid): Promise<boolean>
  /** Speaks as the server: meets none of the sender's `outbound` hooks, and all of the recipient's `inbound` ones. Released when what was staged for the sender is durable. */
  send(stanza: Stanza): void
  /** To one session, past all hooks: pushes, and what was kept for it. Released when what was staged for its account is durable. */
  push(session: Session, stanza: Stanza): void
  /**
   * At presence(account), in order with its stanzas: broadcasts what `change` makes of the presence last shown by each of
   * its sessions, unless that is the very stanza it was given. No outbound hook sees it.
   */
  reshow(account: Jid, change: (presence: Stanza) => Stanza): Promise<void>
  /**
   * At presence(account): to whoever sees the account, and its own available sessions, on the way that its presence goes. Who
   * is hidden from never gets it. Released when what was staged for the account is durable.
   */
  shown(account: Jid, stanza: Stanza, options?: ShownOptions): void
  /** Deletes the account, ends its sessions, tells its contacts. When it resolves the account is gone for good; of a large one rows may still be deleted. */
  removeAccount(account: Jid): Promise<void>
  /** Resolves when what was staged for the account is in the table, where others read it. */
  durable(account: Jid): Promise<void>
  /** Ends the account's sessions with a stream error (RFC 6120 §4.9.3), but for the one named. */
  endSessions(account: Jid, condition: 'not-authorized' | 'policy-violation' | 'reset', except?: string): void
  /** Asks the owner of an address (core/call.ts). Throws the StanzaError of a refusal, or resource-constraint where none answers. */
  ask<N extends keyof Calls>(role: RoleName, address: string, name: N, fields: Asked<N>): Promise<Told<N>>
  /** Answers a call that the module has declared in `Calls`, in its home. Not in order with the account's stanzas. */
  answer<N extends keyof Calls>(name: N, handler: NonNullable<CallHandlers[N]>): void
  /** A secret that all processes of the deployment have in common, made when it is first asked for (core/storage/shared-secret.ts). */
  secret(name: string): Promise<Buffer>
  /** What whoever runs the server may do: the same that the command line does. */
  readonly administration: Administration
  /** The groups of the domains (core/groups/groups.ts), kept up to date at presence; and what may be done with them, anywhere. */
  readonly groups: ProcessGroups
  /** The API of another module, which is set up first. A cycle stops the start. */
  // biome-ignore lint/suspicious/noExplicitAny: the options of the other module are its own business
  need<Api>(module: Module<Api, any>): Api
  /** As `need`, for a module of a role, which modules may not import; undefined where it is not loaded. */
  needNamed<Api>(name: string): Api | undefined
}

/** Whom something that is shown goes to. */
export interface ShownOptions {
  /** Only clients whose capabilities have this feature (XEP-0115), such as `urn:xmpp:avatar:metadata+notify`. */
  readonly filter?: string
  /** Of those who watch the account these bare JIDs, whether they may see its presence or not. */
  readonly only?: readonly string[]
  /** With `only`: not to the account's own sessions, which it is for otherwise. */
  readonly others?: boolean
  /** With `only`: there alone, as 'presence.greeted' says it; neither the account's other sessions nor other places. */
  readonly at?: SessionAddress | undefined
}

/**
 * Who an iq must be addressed to: the sender's own account, somebody's bare JID, the host, or the host from a
 * stream that has not logged in. An iq to one's own bare JID is for `self`, and for `account` where no `self` handler is.
 */
export type IqTarget = 'self' | 'account' | 'host' | 'stranger'

export interface IqCall {
  readonly iq: Stanza
  readonly payload: Element
  /** The account asked: the sender's for `self` and `host`, the addressee's for `account`. */
  readonly account: Jid
  /** The asking session; undefined where the asker is not one of this account's own. */
  readonly session: Session | undefined
  /** The address the stream came from; '' where the asker is logged in. */
  readonly address: string
  /** It may have been handled by an owner that has died since: what it changed is stored then, and who is to hear of it was perhaps not told. */
  readonly again?: boolean
  /** Runs behind the answer, in the same turn: for pushes that must not come before it. At most one task. */
  readonly afterwards: (task: () => void) => void
}

/** Returns the result's payload, or nothing for an empty result. Throws a StanzaError to answer with an error. */
export type IqHandler = (call: IqCall) => Element | void | Promise<Element | void>

/** The flag of a session that was bound with its login (XEP-0386): its client reads what it has missed in the archive. */
export const BOUND_WITH_LOGIN = 'bind2'

/** One bound resource, as its owner knows it. */
export interface Session {
  /** Its id, and the edge that holds its socket. */
  readonly session: string
  readonly edge: string
  readonly jid: Jid
  /** It has sent available presence, and no unavailable since. */
  readonly available: boolean
  /** RFC 6121 §4.7.2.3; 0 while it is not available. */
  readonly priority: number
  has(flag: string): boolean
  set(flag: string): void
  unset(flag: string): void
}

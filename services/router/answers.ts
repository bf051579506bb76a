// The calls a router answers: an edge asks for credentials and binds, the command line manages accounts.

import { asStanzaError, errorOf } from '#core/answer.ts'
import type { CallHandlers } from '#core/call.ts'
import { decodeStanza, encodeStanza } from '#core/envelope.ts'
import { runIq } from '#core/iq.ts'
import type { Owner } from '#core/owner.ts'
import { saidOf } from '#core/ownership/said.ts'
import type { AccountRow, ScramHash } from '#core/storage/accounts.ts'
import type { MaybePromise } from '#core/storage/store.ts'
import { StanzaError } from '#xmpp/error.ts'
import { type Jid, parseJid } from '#xmpp/jid.ts'
import type { Stanza } from '#xmpp/stanza.ts'
import { administrationCalls } from './administration.ts'
import type { KnownSessions } from './known-sessions.ts'
import { REMOVAL_WAIT_MS, type Removals } from './removal.ts'
import { type BindRequest, bindSession, standsSession } from './sessions.ts'

declare module '#core/call.ts' {
  interface Calls {
    /** The SCRAM keys of an account, those of one hash where it is named, and how it stands; or null where there is none. */
    'account.credentials': { ask: { hash?: ScramHash }; tell: ToldCredentials | null }
    /** Tells the full JID that was bound. */
    'session.bind': { ask: BindRequest & { readonly generation?: number }; tell: string }
    /** False where another session is bound to the resource now, and this one is not. */
    'session.stands': { ask: { session: string; resource: string }; tell: boolean }
    /** How much of what its client has said has been handled in this role; null where there is no such session. Behind what it says now. */
    'session.said': { ask: { session: string }; tell: number | null }
    /** The edge that has this session, or null where there is no such session. */
    'session.edge': { ask: { session: string }; tell: string | null }
    /** An iq to the host from a stream that has not logged in; tells its answer, both as encoded stanzas in base64. */
    'iq.stranger': { ask: { stanza: string; address: string }; tell: string }
    'account.create': { ask: { password: string }; tell: null }
    /** And ends its sessions, but for the one named. */
    'account.password': { ask: { password: string; except?: string }; tell: null }
    /** Nobody may log in any more, and whoever has is told why and put out. */
    'account.disable': { ask: { reason?: string }; tell: null }
    'account.enable': { ask: Record<string, never>; tell: null }
  }
}

/** Encoded as they are stored. */
export interface ToldCredentials {
  readonly scram: AccountRow['credentials']['scram']
  /** The reason, '' where none was given; absent where the account is not disabled. */
  readonly disabled?: string
  /** Of the credentials; absent where they were never changed. */
  readonly generation?: number
}

export function answersOf(owner: Owner, sessions: KnownSessions, removals: Removals): CallHandlers {
  const { accounts, store } = owner
  store.keepAbsent() // accounts are made in this role alone
  /** In order with the account's stanzas. */
  const ordered: Ordered = (account, task) =>
    new Promise((resolve, reject) => {
      owner.inOrder(account, () => {
        try {
          const told = task()
          if (told instanceof Promise) return told.then(resolve, reject)
          resolve(told)
        } catch (error) {
          reject(error)
        }
      })
    })
  /** As `ordered`, for a change: it is durable when the answer is given. */
  const changed = (account: string, change: (jid: Jid) => Promise<void>): Promise<null> =>
    ordered(account, async () => {
      await change(parseJid(account))
      await owner.commit.durable(account)
      return null
    })
  /** In order, and so behind the answer to an iq that is the cause. */
  const endSessions = (account: string, text: string, except?: string, generation?: number): void => {
    const fields = { condition: 'not-authorized', text, except, generation }
    owner.lanes.send('router', account, { kind: 'signal', account, name: 'session.end', fields })
  }
  owner.hooks.on('router', 'account.credentials-changed', ({ account, except }) =>
    accounts.row(account, (row) => endSessions(account.bare, 'the password was changed', except, row?.generation)),
  )

  return {
    'account.credentials': (account, { hash }) => accounts.row(parseJid(account), (row) => toldOf(row, hash)),
    'iq.stranger': (_account, { stanza, address }) => answerStranger(owner, decodeStanza(stanza), address),
    'account.create': async (account, { password }) => {
      await accounts.create(parseJid(account), password)
      return null
    },
    'account.password': (account, { password, except }) =>
      changed(account, async (jid) => {
        await accounts.setPassword(jid, password)
        await owner.hooks.emit('account.credentials-changed', { account: jid, except })
      }),
    'account.disable': (account, { reason = '' }) =>
      changed(account, async (jid) => {
        await accounts.disable(jid, reason)
        endSessions(account, reason || 'the account is disabled')
      }),
    'account.enable': (account) => changed(account, (jid) => accounts.enable(jid)),
    'account.remove': async (account, { waitMs = REMOVAL_WAIT_MS }) => {
      const jid = parseJid(account)
      // Not in order with the account's stanzas: the iq that asks for it is one of them (XEP-0077 §3.2). Sealed, they do nothing.
      await removals.begin(jid)
      endSessions(account, 'the account is gone') // §3.2
      return removals.progress(jid, Math.min(waitMs, REMOVAL_WAIT_MS))
    },
    'account.removal': (account) => removals.progress(parseJid(account)),
    ...bindCalls(owner, sessions, ordered),
    ...administrationCalls(owner, sessions),
  }
}

type Ordered = <T>(account: string, task: () => MaybePromise<T>) => Promise<T>

function bindCalls(
  owner: Owner,
  sessions: KnownSessions,
  ordered: Ordered,
): Pick<CallHandlers, 'session.bind' | 'session.stands' | 'session.edge' | 'session.said'> {
  return {
    'session.bind': (account, request) =>
      ordered(account, () => {
        const jid = parseJid(account)
        return owner.accounts.row(jid, (row) => {
          demandUnchanged(row, request.generation)
          const bound = bindSession(owner, sessions, jid, request)
          return bound instanceof Promise ? bound.then(({ full }) => full) : bound.full
        }) as MaybePromise<string>
      }),
    // Not in order with its stanzas: one of them may wait for presence, which asks.
    'session.stands': (account, { session, resource }) => standsSession(sessions, account, session, resource),
    'session.edge': (account, { session }) => sessions.byId(account, session)?.edge ?? null,
    'session.said': (account, { session }) => ordered(account, () => saidOf(owner, sessions, account, session)),
  }
}

function toldOf(row: AccountRow | null, hash: ScramHash | undefined): ToldCredentials | null {
  if (row === null) return null
  const { disabled, credentials, generation } = row
  const scram = hash === undefined ? credentials.scram : { [hash]: credentials.scram[hash] }
  return { scram, ...(disabled !== undefined && { disabled: disabled.reason }), ...(generation !== undefined && { generation }) }
}

/** Whoever had logged in and not bound a resource was no session that could be ended. */
function demandUnchanged(row: AccountRow | null, generation: number | undefined): void {
  if (row === null) throw new StanzaError('not-allowed', 'the account is gone')
  if (row.disabled !== undefined) throw new StanzaError('not-allowed', 'the account is disabled')
  if (generation === undefined || generation === (row.generation ?? 0)) return
  throw new StanzaError('not-authorized', 'the password was changed')
}

async function answerStranger(owner: Owner, iq: Stanza, address: string): Promise<string> {
  let answer: Stanza | undefined
  try {
    await runIq(owner.iqs, 'stranger', { iq, account: iq.from, session: undefined, address }, owner.log, (stanza) => {
      answer = stanza
    })
  } catch (error) {
    owner.log.warn('stranger.refused', { error })
    answer = errorOf(iq, asStanzaError(new StanzaError('resource-constraint', '', { type: 'wait', echo: false })))
  }
  return encodeStanza(answer ?? errorOf(iq, new StanzaError('bad-request'))!)
}

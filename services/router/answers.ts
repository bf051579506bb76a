// The calls a router answers: an edge asks for credentials and binds, the command line manages accounts.

import type { EncodedCredentials } from '#core/accounts.ts'
import { asStanzaError, errorOf } from '#core/answer.ts'
import type { CallHandlers } from '#core/call.ts'
import { decodeStanza, encodeStanza } from '#core/envelope.ts'
import { runIq } from '#core/iq.ts'
import type { Owner } from '#core/owner.ts'
import type { Registry } from '#core/registry.ts'
import { StanzaError } from '#xmpp/error.ts'
import { parseJid } from '#xmpp/jid.ts'
import type { Stanza } from '#xmpp/stanza.ts'
import { type BindRequest, bindSession } from './sessions.ts'

declare module '#core/call.ts' {
  interface Calls {
    /** The SCRAM keys of an account, or null where there is none. */
    'account.credentials': { ask: Record<string, never>; tell: EncodedCredentials | null }
    /** Tells the full JID that was bound. */
    'session.bind': { ask: BindRequest; tell: string }
    /** An iq to the host from a stream that has not logged in; tells its answer, both as encoded stanzas in base64. */
    'iq.stranger': { ask: { stanza: string; address: string }; tell: string }
    'account.create': { ask: { password: string }; tell: null }
    'account.password': { ask: { password: string }; tell: null }
    'account.remove': { ask: Record<string, never>; tell: null }
    'account.sessions': { ask: Record<string, never>; tell: readonly SessionFacts[] }
  }
}

export interface SessionFacts {
  readonly jid: string
  readonly available: boolean
  readonly priority: number
}

export function answersOf(owner: Owner, sessions: Registry): CallHandlers {
  const { accounts, caller } = owner
  /** In order with the account's stanzas. */
  const ordered = <T>(account: string, task: () => Promise<T>): Promise<T> =>
    new Promise((resolve, reject) => owner.inOrder(account, () => task().then(resolve, reject)))

  return {
    'account.credentials': async (account) => (await accounts.credentials(parseJid(account))) ?? null,
    'session.bind': (account, request) =>
      ordered(account, async () => (await bindSession(owner, sessions, parseJid(account), request)).full),
    'iq.stranger': (_account, { stanza, address }) => answerStranger(owner, decodeStanza(stanza), address),
    'account.create': async (account, { password }) => {
      await accounts.create(parseJid(account), password)
      return null
    },
    'account.password': (account, { password }) =>
      ordered(account, async () => {
        await accounts.setPassword(parseJid(account), password)
        await new Promise<void>((resolve) => owner.commit.after(account, resolve))
        return null
      }),
    'account.remove': async (account) => {
      const jid = parseJid(account)
      if (!(await accounts.exists(jid)) || accounts.isSealed(jid)) throw new StanzaError('item-not-found', 'no such account')
      // Not in order with the account's stanzas: the iq that asks for it is one of them (XEP-0077 §3.2). Sealed, they do nothing.
      accounts.seal(jid)
      try {
        await caller.ask('presence', account, 'presence.remove-account', {})
        await accounts.remove(jid)
      } catch (error) {
        accounts.unseal(jid)
        throw error
      } finally {
        await caller.ask('presence', account, 'presence.forget-account', {})
      }
      await owner.hooks.emit('account.deleted', { account: jid })
      if (sessions.of(account).length === 0) accounts.unseal(jid) // else with the last of them
      // In order: the iq that asks for it is answered first (§3.2: not-authorized, and every session ends).
      const fields = { condition: 'not-authorized', text: 'the account is gone' }
      owner.lanes.send('router', account, { kind: 'signal', account, name: 'session.end', fields })
      return null
    },
    'account.sessions': (account) =>
      sessions.of(account).map(({ jid, available, priority }) => ({ jid: jid.full, available, priority })),
  }
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

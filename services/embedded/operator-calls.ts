// Calls of whoever runs the server whose answers come in parts: sessions, announcements, exports, removals; and those of groups.
//
// An entry is a session with what is known of it, how many an announcement has reached so far, or a piece of a document.
import { Administration } from '#core/administration.ts'
import { openCaller } from '#core/call.ts'
import type { Process } from '#core/process.ts'
import { StanzaError } from '#xmpp/error.ts'
import type { Perform } from './account-calls.ts'
import { groupCalls } from './group-calls.ts'
import { demandDomain, domainOf, type Fields, isRecord, parseAccount, parseAddress } from './requests.ts'

export function operatorCalls(process: Process): Readonly<Record<string, Perform>> {
  const caller = openCaller(process.bus, process.ownership)
  const administration = new Administration(caller, process.ownership)

  return {
    ...groupCalls(process),

    /** Of one account, of one domain, or all. Tells how many. */
    'session.list': async function* ({ account, fields }) {
      let count = 0
      for await (const session of sessionsOf(process, administration, account, fieldsOf(fields))) {
        count++
        yield session
      }
      return count
    },

    /** `account` is a full JID, or a bare one for all its sessions. Tells how many there were. */
    // biome-ignore lint/correctness/useYield: it has nothing to list
    'session.kick': async function* ({ account, fields }) {
      const jid = parseAddress(account)
      demandDomain(process, jid.domain)
      const { reason = '' } = fieldsOf(fields)
      if (typeof reason !== 'string') throw new StanzaError('bad-request', 'the reason is not a text')
      const count = await administration.endSessions(jid, reason)
      if (count === 0) throw new StanzaError('item-not-found', 'it has no session')
      return count
    },

    /** What is stored of an account, piece by piece. Tells how many bytes it is. */
    'account.export': async function* ({ account }) {
      const jid = parseAccount(account)
      demandDomain(process, jid.domain)
      let bytes = 0
      for await (const text of administration.export(jid)) {
        bytes += Buffer.byteLength(text)
        yield text
      }
      return bytes
    },

    /** Ends when nothing of the account is stored any more; until then an entry now and then says how many rows are deleted. */
    'account.remove': async function* ({ account }) {
      const jid = parseAccount(account)
      demandDomain(process, jid.domain)
      let told = await caller.ask('router', jid.bare, 'account.remove', {})
      while (!told.finished) {
        yield { rows: told.rows }
        told = await caller.ask('router', jid.bare, 'account.removal', {})
      }
      return null
    },

    /** Tells how many it has reached. */
    announce: async function* ({ fields }) {
      const { text, domain } = fieldsOf(fields)
      if (typeof text !== 'string') throw new StanzaError('bad-request', 'the text is missing')
      const to = domain === undefined ? undefined : domainOf(process, domain)
      let reached = { accounts: 0, sessions: 0 }
      for await (reached of administration.announce(text, { domain: to })) yield reached
      return reached
    },
  }
}

function fieldsOf(fields: unknown): Fields {
  return isRecord(fields) ? fields : {}
}

async function* sessionsOf(process: Process, administration: Administration, account: unknown, { domain }: Fields) {
  if (account !== undefined) {
    const jid = parseAccount(account)
    demandDomain(process, jid.domain)
    yield* await administration.sessionsOf(jid)
  } else yield* administration.sessions(domain === undefined ? undefined : domainOf(process, domain))
}

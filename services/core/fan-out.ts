// One stanza for many accounts: to those that are owned here at once, to all others in one envelope for each owner.
import { parseJid } from '#xmpp/jid.ts'
import { readdress, type Stanza } from '#xmpp/stanza.ts'
import type { Owner } from './owner.ts'

/** Accounts in one envelope: a body is at most 1 MiB, a bare JID at most 2 KiB. */
const ACCOUNTS_MAX = 300

/** @param receive takes it for accounts that this process owns and is ready for */
export function fanOut(
  owner: Owner,
  stanza: Stanza,
  accounts: readonly string[],
  receive: (here: readonly string[]) => void,
): void {
  const { role, lanes } = owner
  const { ownership, id } = owner.process
  const here: string[] = []
  const elsewhere = new Map<string, string[]>()
  for (const account of accounts) {
    if (!owner.isLocal(account.slice(account.indexOf('@') + 1))) {
      owner.send(readdress(stanza, { to: parseJid(account) }))
      continue
    }
    if (ownership.owns(role, account) && !lanes.carries(role, account)) {
      here.push(account)
      continue
    }
    const to = ownership.ownerOf(role, account)
    if (to === id) {
      // Alone, so that the lanes know that something is on its way there, and nothing that is owned later passes it.
      lanes.send(role, account, { kind: 'fanout', accounts: [account], stanza })
      continue
    }
    const list = elsewhere.get(to)
    if (list === undefined) elsewhere.set(to, [account])
    else list.push(account)
  }
  if (here.length > 0) receive(here)
  for (const list of elsewhere.values()) {
    for (let at = 0; at < list.length; at += ACCOUNTS_MAX) {
      const part = list.slice(at, at + ACCOUNTS_MAX)
      lanes.send(role, part[0]!, { kind: 'fanout', accounts: part, stanza })
    }
  }
}

// How much of what a client has said its owners have handled: for a client whose edge has died (XEP-0198 §5, `<failed h/>`), so that it
// says again what was lost, and nothing that was not.
import type { Owner } from '../owner.ts'
import type { Registry } from './registry.ts'

/** Null where there is no such session. Durable when it resolves. In order with what the account says. */
export async function saidOf(owner: Owner, sessions: Registry, account: string, session: string): Promise<number | null> {
  const said = sessions.byId(account, session)?.said
  if (said === undefined) return null
  await owner.commit.durable(account)
  return said
}

// How a login by a password begins, and how any login ends, by whatever mechanism.
import type { Standing } from '#core/storage/auth.ts'
import type { Attempt } from './guesses.ts'
import { checkAuthzid, prepareUsername, SaslError } from './input.ts'
import type { SaslServer, SaslStep } from './mechanism.ts'

/** Somebody who says that he knows the password of an account. */
export interface Claim {
  /** The prepared localpart. */
  readonly username: string
  /** Its bare JID, whether there is one or not. */
  readonly account: string
  readonly attempt: Attempt
}

/** Resolves when the password may be looked at. Throws SaslError where the names are wrong, or too many passwords were. */
export async function beginClaim(server: SaslServer, authcid: string, authzid: string): Promise<Claim> {
  const username = prepareUsername(authcid)
  checkAuthzid(authzid, username, server.domain)
  const account = `${username}@${server.domain}`
  const attempt = server.attempt(account)
  requireFree(attempt)
  await attempt.wait()
  return { username, account, attempt }
}

/** Where too many passwords were wrong, this one counts for nothing (RFC 6120 §6.5.11): before it is looked at, and after. */
export function requireFree(attempt: Attempt): void {
  if (attempt.refused) throw new SaslError('temporary-auth-failure', 'too many failed logins; try again later')
}

/** Of somebody who has proven that he knows the password; no standing: he has not, or there is no such account. */
export function conclude(attempt: Attempt, standing: Standing | undefined, username: string, data?: Uint8Array): SaslStep {
  if (standing === undefined) {
    attempt.failed()
    throw new SaslError('not-authorized')
  }
  attempt.succeeded()
  return admit(standing, username, data)
}

/** Throws SaslError where the account is disabled (RFC 6120 §6.5.2). */
export function admit({ disabled, generation }: Standing, username: string, data?: Uint8Array): SaslStep {
  if (disabled !== undefined) throw new SaslError('account-disabled', disabled)
  return data === undefined ? { kind: 'success', username, generation } : { kind: 'success', username, generation, data }
}

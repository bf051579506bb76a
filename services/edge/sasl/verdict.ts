// How a login ends, by whatever mechanism.
import type { Standing } from '#core/auth.ts'
import type { Attempt } from './guesses.ts'
import { SaslError } from './input.ts'
import type { SaslStep } from './mechanism.ts'

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

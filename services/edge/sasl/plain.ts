// PLAIN, RFC 4616: the password itself, fit for a stream inside TLS.
//
//   C: [authzid] NUL authcid NUL passwd
import { decodeUtf8, SaslError } from './input.ts'
import type { Mechanism, SaslServer, SaslStep } from './mechanism.ts'
import { beginClaim, conclude, requireFree } from './verdict.ts'

export function plain(server: SaslServer): Mechanism {
  return { next: (data) => check(server, data) }
}

async function check(server: SaslServer, data: Uint8Array): Promise<SaslStep> {
  const parts = decodeUtf8(data).split('\0')
  const [authzid, authcid, password] = parts
  if (parts.length !== 3 || authzid === undefined || !authcid || !password) {
    throw new SaslError('malformed-request', 'not [authzid] NUL authcid NUL passwd (RFC 4616 §2)')
  }
  const { username, account, attempt } = await beginClaim(server, authcid, authzid)
  const standing = await server.auth.verify(account, password)
  requireFree(attempt)
  return conclude(attempt, standing, username)
}

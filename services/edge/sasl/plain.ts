// PLAIN, RFC 4616: the password itself, fit for a stream inside TLS.
//
//   C: [authzid] NUL authcid NUL passwd
import { verifyPassword } from '#core/scram-keys.ts'
import { checkAuthzid, decodeUtf8, prepareUsername, SaslError } from './input.ts'
import type { Mechanism, SaslServer, SaslStep } from './mechanism.ts'

export function plain(server: SaslServer): Mechanism {
  return { next: (data) => check(server, data) }
}

async function check(server: SaslServer, data: Uint8Array): Promise<SaslStep> {
  const parts = decodeUtf8(data).split('\0')
  const [authzid, authcid, password] = parts
  if (parts.length !== 3 || authzid === undefined || !authcid || !password) {
    throw new SaslError('malformed-request', 'not [authzid] NUL authcid NUL passwd (RFC 4616 §2)')
  }
  const username = prepareUsername(authcid)
  checkAuthzid(authzid, username, server.domain)
  const fake = server.fake(username)
  const credentials = await server.credentials(username)
  // A password for nobody is hashed like any other: the time of the answer does not tell who has an account.
  const matches = await verifyPassword(credentials ?? fake, password)
  if (!matches || credentials === undefined) throw new SaslError('not-authorized')
  return { kind: 'success', username }
}

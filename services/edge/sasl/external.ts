// EXTERNAL, RFC 4422 Appendix A and XEP-0178 §2: the client has shown who it is, by a certificate in TLS.
//
//   C: [authzid]                  "" asks to be whom the certificate names
import { JidError, parseJid } from '#xmpp/jid.ts'
import { decodeUtf8, SaslError } from './input.ts'
import type { Mechanism, SaslServer, SaslStep } from './mechanism.ts'
import { admit } from './verdict.ts'

/** `certified`: the accounts of the stream's domain that the certificate names, by their localparts; at least one. */
export function external(server: SaslServer, certified: readonly string[]): Mechanism {
  return { next: (data) => check(server, certified, decodeUtf8(data)) }
}

async function check(server: SaslServer, certified: readonly string[], authzid: string): Promise<SaslStep> {
  if (authzid.includes('\0')) throw new SaslError('malformed-request', 'an authorization identity has no NUL (RFC 4422 §A.1)')
  const username = authzid === '' ? theOnly(certified) : namedBy(authzid, server.domain)
  if (username === undefined || !certified.includes(username)) {
    throw new SaslError('invalid-authzid', 'the authorization identity is not one address of the certificate') // XEP-0178 §2
  }
  const standing = await server.auth.standing(`${username}@${server.domain}`)
  if (standing === undefined) throw new SaslError('not-authorized')
  return admit(standing, username)
}

/** XEP-0178 §2: of several the client has to say which. */
function theOnly(certified: readonly string[]): string | undefined {
  return certified.length === 1 ? certified[0] : undefined
}

/** The localpart of a bare JID of the domain; undefined for anything else. */
function namedBy(authzid: string, domain: string): string | undefined {
  try {
    const jid = parseJid(authzid)
    return jid.domain === domain && jid.resource === '' ? jid.local : undefined
  } catch (error) {
    if (error instanceof JidError) return undefined
    throw error
  }
}

/** The localparts of the accounts of one domain among the addresses of a certificate. What is no bare JID names nobody. */
export function certifiedOf(addresses: readonly string[], domain: string): readonly string[] {
  const locals = addresses.map((address) => namedBy(address, domain))
  return [...new Set(locals.filter((local): local is string => local !== undefined && local !== ''))]
}

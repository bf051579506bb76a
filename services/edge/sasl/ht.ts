// HT-SHA-256-*, draft-schmaus-kitten-sasl-ht: the client shows that it has a token, and the server that it knows it. One message each.
//
//   C: authcid NUL HMAC(token, "Initiator" || channel binding)
//   S: HMAC(token, "Responder" || channel binding)              in <success/>
//
// Whoever has the tokens is asked; here the message is taken apart, and bound to this connection.
import type { ChannelBindingType } from '../listeners/connection.ts'
import { decodeUtf8, SaslError } from './input.ts'
import type { Mechanism, SaslContext, SaslServer, SaslStep } from './mechanism.ts'
import { beginClaim, conclude, requireFree } from './verdict.ts'

const HASH_BYTES = 32

/** By mechanism, the binding that it wants: the best first. */
const BINDINGS = new Map<string, ChannelBindingType | undefined>([
  ['HT-SHA-256-EXPR', 'tls-exporter'],
  ['HT-SHA-256-ENDP', 'tls-server-end-point'],
  ['HT-SHA-256-NONE', undefined],
])

/** Those that a connection with these bindings can use. */
export function tokenMechanisms(bindings: readonly ChannelBindingType[]): readonly string[] {
  return [...BINDINGS].filter(([, type]) => type === undefined || bindings.includes(type)).map(([name]) => name)
}

/** What is said of a token beside it (XEP-0484 §3.4, §3.6). */
export interface TokenUse {
  /** A hash of what the client calls itself (XEP-0388 §2.3). */
  readonly client: (account: string) => string
  /** It is to be good for nothing from now on. */
  readonly invalidate: boolean
}

/** `mechanism`: one of `tokenMechanisms`. */
export function hashedToken(mechanism: string, server: SaslServer, context: SaslContext, use: TokenUse): Mechanism {
  return { next: (data) => check(mechanism, server, context, use, data) }
}

async function check(
  mechanism: string,
  server: SaslServer,
  context: SaslContext,
  { client, invalidate }: TokenUse,
  data: Uint8Array,
): Promise<SaslStep> {
  const end = data.indexOf(0)
  if (end <= 0 || data.length !== end + 1 + HASH_BYTES)
    throw new SaslError('malformed-request', 'not authcid NUL and 32 bytes of a hash')
  const { username, account, attempt } = await beginClaim(server, decodeUtf8(data.subarray(0, end)), '')
  const type = BINDINGS.get(mechanism)
  const binding = type === undefined ? NOTHING : context.channelBinding(type)
  if (binding === undefined) throw new SaslError('not-authorized', 'the connection has no such channel binding')
  const verdict = await server.verifyToken!(account, {
    ...{ client: client(account), mechanism, invalidate },
    proof: Buffer.from(data.subarray(end + 1)).toString('base64'),
    binding: Buffer.from(binding).toString('base64'),
  })
  requireFree(attempt)
  if (verdict === 'expired') throw new SaslError('credentials-expired') // XEP-0484 §4.2
  if (verdict === null) return conclude(attempt, undefined, username)
  const step = conclude(
    attempt,
    { generation: verdict.generation, disabled: verdict.disabled },
    username,
    Buffer.from(verdict.data, 'base64'),
  )
  return step.kind === 'success' && verdict.next !== undefined ? { ...step, token: verdict.next } : step
}

const NOTHING = new Uint8Array(0)

export function isTokenMechanism(name: string): boolean {
  return BINDINGS.has(name)
}

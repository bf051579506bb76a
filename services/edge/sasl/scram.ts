// SCRAM, RFC 5802 and RFC 7677: the client proves that it knows the password, we that we knew it before.
//
//   C: n,,n=romeo,r=<client nonce>                          gs2 header, then client-first-message-bare
//   S: r=<client nonce><our nonce>,s=<salt>,i=<iterations>
//   C: c=biws,r=<both nonces>,p=<proof>                     c repeats the gs2 header in base64
//   S: v=<signature>                                        in <success/> (RFC 6120 §6.4.6)
//
// Both sign the same three messages, as they were written: hence the raw texts are kept. What is wrong in the form of a message
// is malformed-request; what is wrong in its substance is not-authorized. XMPP has no place for the `e=` of RFC 5802 §7.
import { randomBytes, timingSafeEqual } from 'node:crypto'
import { hashOf, hmacOf, SCRAM_BYTES, type ScramHash, type ScramKeys } from '#core/scram-keys.ts'
import { checkAuthzid, decodeBase64, decodeUtf8, encodeBase64, prepareUsername, SaslError } from './input.ts'
import type { Mechanism, SaslServer, SaslStep } from './mechanism.ts'

/**
 * One SCRAM login. `plusOffered`: the client was offered a -PLUS mechanism, so its 'y' ("you have no channel binding") shows
 * that somebody took that offer out on the way (RFC 5802 §6). `nonce`: ours, printable and without a comma; given by tests.
 */
export function scram(hash: ScramHash, server: SaslServer, plusOffered = false, nonce = randomNonce): Mechanism {
  let asked: Asked | undefined
  return {
    async next(data) {
      if (asked !== undefined) return finish(hash, asked, decodeUtf8(data))
      asked = await ask(hash, server, parseClientFirst(decodeUtf8(data), plusOffered), nonce())
      return { kind: 'challenge', data: Buffer.from(asked.serverFirst) }
    },
  }
}

/** What is remembered between the two messages of a client. */
interface Asked {
  readonly username: string
  readonly keys: ScramKeys
  /** There is such an account, with keys for this hash. */
  readonly known: boolean
  readonly clientFirst: ClientFirst
  /** Client's and ours in one. */
  readonly nonce: string
  readonly serverFirst: string
}

async function ask(hash: ScramHash, server: SaslServer, clientFirst: ClientFirst, ourNonce: string): Promise<Asked> {
  const username = prepareUsername(clientFirst.username)
  checkAuthzid(clientFirst.authzid, username, server.domain)
  const fake = server.fake(username).scram[hash]
  const stored = (await server.credentials(username))?.scram[hash]
  const keys = stored ?? fake
  if (keys === undefined) throw new Error(`no keys for ${hash}, not even made-up ones`)
  const nonce = clientFirst.nonce + ourNonce
  const serverFirst = `r=${nonce},s=${encodeBase64(keys.salt)},i=${keys.iterations}`
  return { username, keys, known: stored !== undefined, clientFirst, nonce, serverFirst }
}

/** RFC 5802 §3: StoredKey is the hash of the ClientKey that the proof hides. */
function finish(hash: ScramHash, asked: Asked, text: string): SaslStep {
  const { keys, clientFirst } = asked
  const final = parseClientFinal(text, SCRAM_BYTES[hash])
  // RFC 5802 §5.1: both MUST be verified, c against the header as it was sent.
  if (final.channelBinding !== encodeBase64(Buffer.from(clientFirst.gs2Header))) {
    throw new SaslError('not-authorized', 'the channel binding is not the one of the first message')
  }
  if (final.nonce !== asked.nonce) throw new SaslError('not-authorized', 'the nonce is not the one that was sent')
  const authMessage = `${clientFirst.bare},${asked.serverFirst},${final.withoutProof}`
  const signature = hmacOf(hash, keys.storedKey, authMessage)
  const clientKey = final.proof.map((byte, index) => byte ^ signature[index]!)
  const proven = timingSafeEqual(hashOf(hash, clientKey), keys.storedKey)
  if (!proven || !asked.known) throw new SaslError('not-authorized')
  const serverFinal = `v=${encodeBase64(hmacOf(hash, keys.serverKey, authMessage))}`
  return { kind: 'success', data: Buffer.from(serverFinal), username: asked.username }
}

interface ClientFirst {
  /** As sent, both commas included. */
  readonly gs2Header: string
  readonly authzid: string
  /** client-first-message-bare, as sent. */
  readonly bare: string
  readonly username: string
  readonly nonce: string
}

/** client-first-message, RFC 5802 §7. */
function parseClientFirst(text: string, plusOffered: boolean): ClientFirst {
  const header = /^(n|y|p=[A-Za-z0-9.-]+),(?:a=([^,]+))?,/.exec(text)
  if (header === null) throw malformed('no gs2 header')
  const [gs2Header, flag, authzid] = header
  // §6: 'p' without -PLUS and 'y' in spite of it MUST both fail.
  if (flag!.startsWith('p')) throw malformed('this mechanism has no channel binding')
  if (flag === 'y' && plusOffered) throw new SaslError('not-authorized', 'channel binding was offered')
  const bare = text.slice(gs2Header.length)
  const [name, nonce, ...extensions] = bare.split(',')
  if (name?.startsWith('m=')) throw malformed('a mandatory extension is not known here') // §5.1
  if (!name?.startsWith('n=')) throw malformed('no user name')
  if (!nonce?.startsWith('r=') || !/^[\x21-\x2b\x2d-\x7e]+$/.test(nonce.slice(2))) throw malformed('no nonce')
  checkExtensions(extensions)
  return {
    gs2Header,
    authzid: authzid === undefined ? '' : decodeSaslname(authzid),
    bare,
    username: decodeSaslname(name.slice(2)),
    nonce: nonce.slice(2),
  }
}

interface ClientFinal {
  readonly channelBinding: string
  readonly nonce: string
  readonly proof: Uint8Array
  /** client-final-message-without-proof, as sent. */
  readonly withoutProof: string
}

/** client-final-message, RFC 5802 §7. */
function parseClientFinal(text: string, proofBytes: number): ClientFinal {
  const [channelBinding, nonce, ...extensions] = text.split(',')
  const last = extensions.pop()
  if (!channelBinding?.startsWith('c=')) throw malformed('no channel binding')
  if (!nonce?.startsWith('r=')) throw malformed('no nonce')
  if (!last?.startsWith('p=')) throw malformed('no proof')
  checkExtensions(extensions)
  const proof = decodeBase64(last.slice(2))
  if (proof?.length !== proofBytes) throw malformed(`the proof is not ${proofBytes} bytes in base64`)
  return {
    channelBinding: channelBinding.slice(2),
    nonce: nonce.slice(2),
    proof,
    withoutProof: text.slice(0, text.length - last.length - 1),
  }
}

/** §5.1: unknown extensions are passed over, but 'm' MUST fail wherever it is met. */
function checkExtensions(extensions: readonly string[]): void {
  for (const extension of extensions) {
    if (!/^[A-Za-z]=[^\0]+$/.test(extension)) throw malformed('an extension is not a letter, "=" and a value')
    if (extension.startsWith('m=')) throw malformed('a mandatory extension is not known here')
  }
}

/** saslname, RFC 5802 §5.1: ',' and '=' are written =2C and =3D; any other '=' MUST fail. */
function decodeSaslname(text: string): string {
  if (!/^(?:[^=\0]|=2[Cc]|=3[Dd])+$/.test(text)) throw malformed('a name is empty, or has "=" not followed by 2C or 3D')
  return text.replace(/=2[Cc]/g, ',').replace(/=3[Dd]/g, '=')
}

function malformed(text: string): SaslError {
  return new SaslError('malformed-request', text)
}

function randomNonce(): string {
  return randomBytes(18).toString('base64')
}

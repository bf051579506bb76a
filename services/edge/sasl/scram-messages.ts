// What a client writes in SCRAM, read as RFC 5802 §7 has it. Whatever does not follow it is malformed-request (RFC 6120 §6.5.8).
import { decodeBase64, SaslError } from './input.ts'

export interface ClientFirst {
  /** gs2-cbind-flag: `n`, `y`, or `p=` and a type of channel binding. */
  readonly flag: string
  /** As sent, both commas included. */
  readonly gs2Header: string
  readonly authzid: string
  /** client-first-message-bare, as sent. */
  readonly bare: string
  readonly username: string
  readonly nonce: string
}

const HEADER = /^(n|y|p=[A-Za-z0-9.-]+),(?:a=([^,]+))?,/
const NONCE = /^r=[\x21-\x2b\x2d-\x7e]+$/
const EXTENSION = /^[A-Za-z]=[^\0]+$/
const SASLNAME = /^(?:[^=\0]|=2[Cc]|=3[Dd])+$/

/** client-first-message. */
export function parseClientFirst(text: string): ClientFirst {
  const header = HEADER.exec(text)
  if (header === null) throw malformed('no gs2 header')
  const [gs2Header, flag, authzid] = header
  const bare = text.slice(gs2Header.length)
  const [name, nonce, ...extensions] = bare.split(',')
  if (name!.startsWith('m=')) throw malformed('a mandatory extension is not known here') // §5.1
  if (!name!.startsWith('n=')) throw malformed('no user name')
  if (nonce === undefined || !NONCE.test(nonce)) throw malformed('no nonce')
  checkExtensions(extensions)
  return {
    flag: flag!,
    gs2Header,
    authzid: authzid === undefined ? '' : decodeSaslname(authzid),
    bare,
    username: decodeSaslname(name!.slice(2)),
    nonce: nonce.slice(2),
  }
}

export interface ClientFinal {
  /** As sent, in base64. */
  readonly channelBinding: string
  readonly nonce: string
  readonly proof: Uint8Array
  /** client-final-message-without-proof, as sent. */
  readonly withoutProof: string
}

/** client-final-message. */
export function parseClientFinal(text: string, proofBytes: number): ClientFinal {
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

export function malformed(text: string): SaslError {
  return new SaslError('malformed-request', text)
}

/** §5.1: unknown extensions are passed over, but 'm' MUST fail wherever it is met. */
function checkExtensions(extensions: readonly string[]): void {
  for (const extension of extensions) {
    if (!EXTENSION.test(extension)) throw malformed('an extension is not a letter, "=" and a value')
    if (extension.startsWith('m=')) throw malformed('a mandatory extension is not known here')
  }
}

/** saslname, §5.1: ',' and '=' are written =2C and =3D; any other '=' MUST fail. */
function decodeSaslname(text: string): string {
  if (!SASLNAME.test(text)) throw malformed('a name is empty, or has "=" not followed by 2C or 3D')
  return text.includes('=') ? text.replace(/=2[Cc]/g, ',').replace(/=3[Dd]/g, '=') : text
}

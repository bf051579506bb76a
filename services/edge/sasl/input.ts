// What a client sends while it logs in, checked: base64, UTF-8, names.
//
// Whatever is wrong is a SaslError with the condition that RFC 6120 §6.5 names; the exchange turns it into a failure.
import { isUtf8 } from 'node:buffer'
import { JidError, parseJid, prepareLocal } from '#xmpp/jid.ts'
import { asBuffer } from '#xmpp/xml.ts'
import type { SaslCondition } from './mechanism.ts'

/** One message of a client, decoded. RFC 4616 asks for 255 bytes each of name and password; no honest SCRAM message is near it. */
export const SASL_BYTES_MAX = 4096

/** The exchange ends, and the client is told why (RFC 6120 §6.5). `text` is for people and says nothing about the account. */
export class SaslError extends Error {
  readonly condition: SaslCondition
  readonly text: string

  constructor(condition: SaslCondition, text = '', options?: ErrorOptions) {
    super(text === '' ? condition : `${condition}: ${text}`, options)
    this.name = 'SaslError'
    this.condition = condition
    this.text = text
  }
}

/**
 * Decodes the text of `<auth/>` or `<response/>`: base64 of RFC 4648 §4 and nothing else, no white space, padded, the unused bits
 * zero. Else throws SaslError('incorrect-encoding') (RFC 6120 §6.5.5). '=' is an empty message (§6.4.2), and so is ''; but an
 * `<auth/>` with no text carries no initial response at all, which is for the caller to see.
 */
export function decodeSaslData(text: string): Uint8Array {
  if (text === '=') return new Uint8Array(0)
  if (text.length > Math.ceil(SASL_BYTES_MAX / 3) * 4) throw tooLong()
  const data = decodeBase64(text)
  if (data === undefined) throw new SaslError('incorrect-encoding', 'not base64 (RFC 4648 §4)')
  return checkLength(data)
}

/** The text of `<challenge/>` or `<success/>`. An empty challenge is an empty element; no mechanism here ends in empty data. */
export function encodeSaslData(data: Uint8Array): string {
  return encodeBase64(data)
}

export function checkLength(data: Uint8Array): Uint8Array {
  if (data.length > SASL_BYTES_MAX) throw tooLong()
  return data
}

/** undefined: not canonical base64. */
export function decodeBase64(text: string): Uint8Array | undefined {
  const data = Buffer.from(text, 'base64')
  return data.toString('base64') === text ? data : undefined // Buffer skips what it does not know; writing it out shows that
}

export function encodeBase64(data: Uint8Array): string {
  return asBuffer(data).toString('base64')
}

/** Decodes UTF-8, fatally, and keeps a byte order mark: signatures are made over the very bytes. */
export function decodeUtf8(data: Uint8Array): string {
  if (!isUtf8(data)) throw new SaslError('malformed-request', 'not UTF-8')
  return asBuffer(data).toString('utf8')
}

/** The localpart that a simple user name stands for (RFC 6120 §6.3.7). What cannot be one has no account. */
export function prepareUsername(name: string): string {
  try {
    return prepareLocal(name)
  } catch (cause) {
    if (cause instanceof JidError) throw new SaslError('not-authorized', '', { cause })
    throw cause
  }
}

/** One acts as oneself only: an authorization identity is absent, or the account's own bare JID (RFC 6120 §6.3.8, §6.5.6). */
export function checkAuthzid(authzid: string, username: string, domain: string): void {
  if (authzid === '') return
  try {
    if (parseJid(authzid).full === `${username}@${domain}`) return
  } catch (cause) {
    if (!(cause instanceof JidError)) throw cause
  }
  throw new SaslError('invalid-authzid', 'the authorization identity is not the bare JID of the account')
}

function tooLong(): SaslError {
  return new SaslError('malformed-request', `longer than ${SASL_BYTES_MAX} bytes`)
}

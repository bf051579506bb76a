// What node:crypto does not tell of a certificate: the XMPP addresses it names, and which hash RFC 5929 §4.1 asks for.
//
// A reader of DER (X.690) as far as these two need it: one byte of tag, a definite length. What has not that form throws
// RangeError, so whoever reads a stranger's certificate reads it after TLS has verified it, and is ready for that.
import { createHash, type X509Certificate } from 'node:crypto'

/** Of a subjectAltName (RFC 5280 §4.2.1.6). */
export interface AlternativeNames {
  /** As they are written, `*.example.org` included; in ASCII. */
  readonly dns: readonly string[]
  /** id-on-xmppAddr (RFC 6120 §13.7.1.4): JIDs, unchecked. */
  readonly xmppAddrs: readonly string[]
}

/** Empty lists where there is no such extension. Throws RangeError where it is malformed. */
export function alternativeNames(certificate: X509Certificate): AlternativeNames {
  const dns: string[] = []
  const xmppAddrs: string[] = []
  for (const { tag, content } of children(subjectAltName(certificate.raw))) {
    if (tag === DNS_NAME) dns.push(content.toString('latin1').toLowerCase())
    else if (tag === OTHER_NAME) {
      const [type, explicit] = children(content)
      if (type?.tag !== OID || type.content.toString('hex') !== ID_ON_XMPP_ADDR || explicit?.tag !== EXPLICIT_0) continue
      const [name] = children(explicit.content)
      if (name?.tag === UTF8_STRING) xmppAddrs.push(textOf(name.content))
    }
  }
  return { dns, xmppAddrs }
}

/**
 * What the channel binding tls-server-end-point is for a server with this certificate: its hash by the function of its
 * signature, and by SHA-256 where that is MD5 or SHA-1. Undefined where the signature has no such function (Ed25519).
 */
export function endPointHash(certificate: X509Certificate): Buffer | undefined {
  const oid = certificate.signatureAlgorithmOid
  const hash = oid === RSASSA_PSS ? pssHash(certificate.raw) : SIGNATURE_HASHES[oid]
  return hash === undefined ? undefined : createHash(hash).update(certificate.raw).digest()
}

const OID = 0x06
const UTF8_STRING = 0x0c
const SEQUENCE = 0x30
const EXPLICIT_0 = 0xa0
const OTHER_NAME = 0xa0
const DNS_NAME = 0x82
const EXTENSIONS = 0xa3
const OCTET_STRING = 0x04

/** 1.3.6.1.5.5.7.8.5 and 2.5.29.17, as they stand in DER. */
const ID_ON_XMPP_ADDR = '2b06010505070805'
const SUBJECT_ALT_NAME = '551d11'
const UTF8 = new TextDecoder('utf-8', { fatal: true })

const RSASSA_PSS = '1.2.840.113549.1.1.10'
const SIGNATURE_HASHES: Readonly<Record<string, string>> = {
  '1.2.840.113549.1.1.4': 'sha256', // MD5 with RSA
  '1.2.840.113549.1.1.5': 'sha256', // SHA-1 with RSA
  '1.2.840.113549.1.1.14': 'sha224',
  '1.2.840.113549.1.1.11': 'sha256',
  '1.2.840.113549.1.1.12': 'sha384',
  '1.2.840.113549.1.1.13': 'sha512',
  '1.2.840.10045.4.1': 'sha256', // ECDSA with SHA-1
  '1.2.840.10045.4.3.1': 'sha224',
  '1.2.840.10045.4.3.2': 'sha256',
  '1.2.840.10045.4.3.3': 'sha384',
  '1.2.840.10045.4.3.4': 'sha512',
}
/** 2.16.840.1.101.3.4.2.x, as they stand in DER. */
const HASHES: Readonly<Record<string, string>> = {
  '608648016503040204': 'sha224',
  '608648016503040201': 'sha256',
  '608648016503040202': 'sha384',
  '608648016503040203': 'sha512',
  '2b0e03021a': 'sha256', // SHA-1
}

interface Value {
  readonly tag: number
  readonly content: Buffer
}

/** RFC 4055 §3.1: of `RSASSA-PSS-params`, where SHA-1 is what stands for nothing. */
function pssHash(certificate: Buffer): string | undefined {
  const [, algorithm] = children(single(certificate, SEQUENCE))
  const [, parameters] = children(demanded(algorithm))
  const hash = parameters === undefined ? undefined : children(parameters.content).find(({ tag }) => tag === EXPLICIT_0)
  if (hash === undefined) return 'sha256'
  const [oid] = children(single(hash.content, SEQUENCE))
  const name = demanded(oid).toString('hex')
  return Object.hasOwn(HASHES, name) ? HASHES[name] : undefined
}

/** What is in the SEQUENCE of names; nothing where there is none. */
function subjectAltName(certificate: Buffer): Buffer {
  const [tbs] = children(single(certificate, SEQUENCE))
  const extensions = children(demanded(tbs)).find(({ tag }) => tag === EXTENSIONS)
  if (extensions !== undefined)
    for (const extension of children(single(extensions.content, SEQUENCE))) {
      const [type, ...rest] = children(extension.content)
      const value = rest.at(-1)
      if (type?.content.toString('hex') === SUBJECT_ALT_NAME && value?.tag === OCTET_STRING)
        return single(value.content, SEQUENCE)
    }
  return Buffer.alloc(0)
}

/** The content of a value that there must be. */
function demanded(value: Value | undefined): Buffer {
  if (value === undefined) throw new RangeError('DER: a value is missing')
  return value.content
}

function textOf(bytes: Buffer): string {
  try {
    return UTF8.decode(bytes)
  } catch (cause) {
    throw new RangeError('DER: a UTF8String that is none', { cause })
  }
}

/** The content of the one value that is there. */
function single(bytes: Buffer, tag: number): Buffer {
  const [value] = children(bytes)
  if (value?.tag !== tag) throw new RangeError(`DER: no value of the tag ${tag}`)
  return value.content
}

function children(bytes: Buffer): Value[] {
  const values: Value[] = []
  for (let at = 0; at < bytes.length; ) {
    const tag = bytes[at]!
    let length = bytes[at + 1] ?? -1
    at += 2
    if (length > 0x80 && length <= 0x84) {
      const size = length - 0x80
      if (at + size > bytes.length) throw new RangeError('DER: cut off in a length')
      length = bytes.readUIntBE(at, size)
      at += size
    } else if (length < 0 || length >= 0x80) throw new RangeError('DER: no length that is known here')
    if (at + length > bytes.length) throw new RangeError('DER: cut off in a value')
    values.push({ tag, content: bytes.subarray(at, at + length) })
    at += length
  }
  return values
}

// A self-signed certificate, RFC 5280, written out in DER.
//
// One shape only: version 3, ECDSA on P-256 with SHA-256, an end entity and no authority. That is few enough bytes to write here;
// signing and keys are Node's.
//
//   Certificate = SEQUENCE { tbsCertificate, SEQUENCE { ecdsa-with-SHA256 }, BIT STRING signature }
import { createHash, generateKeyPair, randomBytes, sign } from 'node:crypto'
import { promisify } from 'node:util'
import ipaddr from 'ipaddr.js'

/** A name a certificate is for (RFC 5280 §4.2.1.6): a host in ASCII, or an IP address as text. */
export interface SubjectName {
  readonly type: 'dns' | 'ip'
  readonly value: string
}

/** Stands in the subject of what is made here, so that it can be told from what somebody else made. */
export const SELF_SIGNED_BY = 'Rookery (self-signed)'

/** Makes a key and a certificate for it, both as PEM. `names`: at least one. */
export async function makeSelfSigned(
  names: readonly SubjectName[],
  notBefore: Date,
  notAfter: Date,
): Promise<{ cert: string; key: string }> {
  const { publicKey, privateKey } = await promisify(generateKeyPair)('ec', { namedCurve: 'P-256' })
  const spki = publicKey.export({ type: 'spki', format: 'der' })
  const name = distinguishedName(names[0]!.value)
  const tbs = sequence(
    der(0xa0, integer(Buffer.from([2]))), // version 3
    integer(serialNumber()),
    ECDSA_SHA256,
    name, // issuer
    sequence(time(notBefore), time(notAfter)),
    name, // subject
    spki,
    der(0xa3, sequence(...extensions(names, spki))),
  )
  const certificate = sequence(tbs, ECDSA_SHA256, bitString(sign('sha256', tbs, privateKey)))
  return { cert: pem('CERTIFICATE', certificate), key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString() }
}

function extensions(names: readonly SubjectName[], spki: Buffer): Buffer[] {
  const subjectAltName = names.map(({ type, value }) =>
    type === 'dns' ? der(0x82, Buffer.from(value, 'latin1')) : der(0x87, Buffer.from(ipaddr.parse(value).toByteArray())),
  )
  return [
    extension('551d13', sequence(), 'critical'), // basicConstraints: no authority
    extension('551d0f', Buffer.from('03020780', 'hex'), 'critical'), // keyUsage: digitalSignature
    extension('551d25', sequence(oid('2b06010505070301'), oid('2b06010505070302'))), // extKeyUsage: TLS server and client
    extension('551d11', sequence(...subjectAltName)),
    extension('551d0e', der(0x04, createHash('sha1').update(publicKeyBits(spki)).digest())), // subjectKeyIdentifier, §4.2.1.2 (1)
  ]
}

/** The organisation says who made it; the common name is for people, and left out where it would be over its 64 characters. */
function distinguishedName(commonName: string): Buffer {
  const attribute = (type: string, value: string) => der(0x31, sequence(oid(type), der(0x0c, Buffer.from(value))))
  const parts = [attribute('55040a', SELF_SIGNED_BY)]
  if (commonName.length <= 64) parts.push(attribute('550403', commonName))
  return sequence(...parts)
}

/** §4.1.2.2: positive, at most 20 bytes. Never with a leading zero, as DER wants it. */
function serialNumber(): Buffer {
  const serial = randomBytes(16)
  serial[0] = (serial[0]! & 0x7f) | 0x40
  return serial
}

/** §4.1.2.5: UTCTime until 2049, then GeneralizedTime; whole seconds. */
function time(date: Date): Buffer {
  const digits = `${date.toISOString().replace(/[-:T]/g, '').slice(0, 14)}Z`
  return date.getUTCFullYear() < 2050 ? der(0x17, Buffer.from(digits.slice(2))) : der(0x18, Buffer.from(digits))
}

/** What the BIT STRING at the end of a SubjectPublicKeyInfo holds: on P-256 an uncompressed point of 65 bytes. */
function publicKeyBits(spki: Buffer): Buffer {
  return spki.subarray(spki.length - 65)
}

function extension(type: string, value: Buffer, critical?: 'critical'): Buffer {
  return sequence(oid(type), ...(critical === undefined ? [] : [der(0x01, Buffer.from([0xff]))]), der(0x04, value))
}

function der(tag: number, content: Buffer): Buffer {
  const { length } = content
  let head = [tag, length]
  if (length > 0xffff) throw new RangeError(`${length} bytes of DER in one value`)
  if (length > 0xff) head = [tag, 0x82, length >> 8, length & 0xff]
  else if (length > 0x7f) head = [tag, 0x81, length]
  return Buffer.concat([Buffer.from(head), content])
}

function sequence(...parts: readonly Buffer[]): Buffer {
  return der(0x30, Buffer.concat(parts))
}

/** `content`: an object identifier as its DER content, in hex. */
function oid(content: string): Buffer {
  return der(0x06, Buffer.from(content, 'hex'))
}

function integer(content: Buffer): Buffer {
  return der(0x02, content)
}

function bitString(content: Buffer): Buffer {
  return der(0x03, Buffer.concat([Buffer.from([0]), content]))
}

function pem(label: string, content: Buffer): string {
  return `-----BEGIN ${label}-----\n${content.toString('base64').replace(/.{64}(?=.)/g, '$&\n')}\n-----END ${label}-----\n`
}

const ECDSA_SHA256 = sequence(oid('2a8648ce3d040302'))

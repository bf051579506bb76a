import { createHash, X509Certificate } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  CLIENT_CA,
  ED25519_CERT,
  FOREIGN_CERT,
  JULIET_CERT,
  PSS_SHA384_CERT,
  RSA_SHA1_CERT,
  RSA_SHA512_CERT,
} from './certificate.fixture.ts'
import { makeSelfSigned } from './self-signed.ts'
import { alternativeNames, endPointHash } from './x509.ts'

describe('RFC 5929 §4.1 tls-server-end-point', () => {
  test.each([
    ['ECDSA with SHA-256', FOREIGN_CERT, 'sha256'],
    ['RSA with SHA-512', RSA_SHA512_CERT, 'sha512'],
    ['RSASSA-PSS, by its parameters, with SHA-384', PSS_SHA384_CERT, 'sha384'],
    ['SHA-1, in whose place SHA-256 stands', RSA_SHA1_CERT, 'sha256'],
  ])('of a certificate that is signed by %s', (_, pem, hash) => {
    const certificate = new X509Certificate(pem)
    expect(endPointHash(certificate)).toEqual(createHash(hash).update(certificate.raw).digest())
  })

  test('is not defined where the signature has no hash of its own', () => {
    expect(endPointHash(new X509Certificate(ED25519_CERT))).toBeUndefined()
  })
})

describe('RFC 5280 §4.2.1.6 subjectAltName', () => {
  test('RFC 6120 §13.7.1.4: names each xmppAddr, and the hosts in lower case', () => {
    const names = alternativeNames(new X509Certificate(JULIET_CERT))
    expect(names).toEqual({ dns: ['example.org'], xmppAddrs: ['juliet@example.org', 'juliet@example.net'] })
  })

  test('a certificate without one names nobody', () => {
    expect(alternativeNames(new X509Certificate(CLIENT_CA))).toEqual({ dns: [], xmppAddrs: [] })
  })

  test('as many names as a server has domains', async () => {
    const hosts = Array.from({ length: 1000 }, (_, n) => `host${n}.example.org`)
    const { cert } = await makeSelfSigned(
      hosts.map((value) => ({ type: 'dns', value })),
      new Date(),
      new Date(Date.now() + 1000),
    )
    expect(alternativeNames(new X509Certificate(cert)).dns).toEqual(hosts)
  })

  test.each([
    ['an empty certificate', ''],
    ['one of nothing but a sequence', '3000'],
    ['a body without anything in it', '30023000'],
  ])('%s used to be read as one that has everything: it is refused', (_what, hex) => {
    const certificate = { raw: Buffer.from(hex, 'hex'), signatureAlgorithmOid: '1.2.840.113549.1.1.10' } as X509Certificate
    expect(() => endPointHash(certificate)).toThrow(RangeError)
    if (hex !== '30023000') expect(() => alternativeNames(certificate)).toThrow(RangeError)
  })

  test('whatever the bytes are, they are read or refused with a RangeError', () => {
    const { raw } = new X509Certificate(JULIET_CERT)
    const san = raw.indexOf(Buffer.from('551d11', 'hex'))
    fc.assert(
      fc.property(fc.nat(200), fc.uint8Array({ minLength: 1, maxLength: 4 }), (offset, bytes) => {
        const changed = Buffer.from(raw)
        changed.set(bytes.subarray(0, changed.length - san - offset), Math.min(san + offset, changed.length - bytes.length))
        try {
          alternativeNames({ raw: changed } as X509Certificate)
        } catch (error) {
          expect(error).toBeInstanceOf(RangeError)
        }
      }),
    )
  })
})

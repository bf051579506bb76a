// The certificates that clients show: DER, by what node:crypto makes of it first, and by our own reader alone.
import { X509Certificate } from 'node:crypto'
import { EACH_KIND } from '#edge/listeners/certificate.fixture.ts'
import { alternativeNames, endPointHash } from '#edge/listeners/x509.ts'
import { demand, type FuzzTarget, only } from './target.ts'

const CERTIFICATES = EACH_KIND.map((pem) => new X509Certificate(pem).raw)
/** Tags, lengths in all their forms, and the object identifiers that are looked for. */
const TOKENS = [
  ...['30', '3000', '0500', 'a0', 'a3', '82', '04', '06', '0c', '1e'],
  ...['80', '81ff', '82ffff', '83ffffff', '84ffffffff', '85ffffffffff', 'ff', '7f', '00'],
  ...['0603551d11', '06082b06010505070805', '0609608648016503040202', '06092a864886f70d01010a'],
  ...['a0020c00', 'a0040c02c0bc', 'a0050c03eda080', '30820101', '308400000000'],
].map((hex) => Buffer.from(hex, 'hex'))
/** With parameters that say which hash it is, as DER (x509.ts). */
const RSASSA_PSS = '1.2.840.113549.1.1.10'

function check(certificate: X509Certificate): void {
  const names = only([RangeError], () => alternativeNames(certificate))
  if (!(names instanceof Error)) {
    for (const jid of names.xmppAddrs) demand(jid.isWellFormed(), () => `an xmppAddr is ${JSON.stringify(jid)}`)
    for (const name of names.dns) demand(name === name.toLowerCase(), () => `a host is ${JSON.stringify(name)}`)
    const most = certificate.raw.length
    demand(names.dns.length + names.xmppAddrs.length < most, () => `more names than there are bytes: ${most}`)
  }
  const hash = only([RangeError], () => endPointHash(certificate))
  if (hash instanceof Uint8Array) demand([28, 32, 48, 64].includes(hash.length), () => `a hash of ${hash.length} bytes`)
}

export const CERTIFICATE_TARGETS: readonly FuzzTarget[] = [
  {
    name: 'certificate',
    inputs: 40_000,
    open: () => ({
      one(random) {
        const raw = random.mutate(random.pick(CERTIFICATES), CERTIFICATES, TOKENS)
        check({ raw, signatureAlgorithmOid: RSASSA_PSS } as X509Certificate)
        if (!random.chance(4)) return
        const certificate = only([Error], () => new X509Certificate(raw)) // as OpenSSL takes it
        if (!(certificate instanceof Error)) check(certificate)
      },
    }),
  },
]

import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ConnectionOptions, connect, createServer } from 'node:tls'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { FOREIGN_CERT, FOREIGN_KEY, WEAK_CERT, WEAK_KEY } from './certificate.fixture.ts'
import { type CertificatePair, chooseAlpn, ensureCertificate, readCertificates, tlsContextOptions } from './certificate.ts'
import { makeSelfSigned } from './self-signed.ts'

const DAY_MS = 24 * 60 * 60 * 1000

let dir: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'rookery-tls-'))
})
afterEach(() => rm(dir, { recursive: true }))

/** Our own; the operator's where its files are given. */
async function ensure(domains = ['localhost'], { cert = '', key = '', nowMs = Date.now() } = {}): Promise<CertificatePair> {
  return cert === '' ? ensureCertificate(dir, domains, nowMs) : (await readCertificates([{ cert, key }], domains, nowMs))[0]!
}

/** Files as an operator would name them in the configuration, outside our directory. `days` from now it ends. */
async function operatorFiles(days = 90, host = 'example.org'): Promise<{ cert: string; key: string }> {
  const files = { cert: join(dir, 'site.pem'), key: join(dir, 'site.key') }
  const made = await makeSelfSigned(
    [{ type: 'dns', value: host }],
    new Date(Date.now() - 100 * DAY_MS),
    new Date(Date.now() + days * DAY_MS),
  )
  await writeFile(files.cert, made.cert)
  await writeFile(files.key, made.key, { mode: 0o600 })
  return files
}

/** What a client knows after a handshake. */
interface Seen {
  readonly authorized: boolean
  readonly alpn: string | false | null
  readonly protocol: string | null
  readonly cipher: string
  readonly fingerprint: string
}

/** One handshake over TCP, as the client saw it. Rejects with what ended the handshake. */
async function handshake(pair: CertificatePair, client: ConnectionOptions): Promise<Seen> {
  const server = createServer({ ...tlsContextOptions(pair), ALPNCallback: chooseAlpn }, (socket) => socket.on('error', () => {}))
  server.on('tlsClientError', () => {})
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const socket = connect({ host: '127.0.0.1', port, ca: pair.cert, ...client })
  try {
    await once(socket, 'secureConnect')
    return {
      authorized: socket.authorized,
      alpn: socket.alpnProtocol,
      protocol: socket.getProtocol(),
      cipher: socket.getCipher().name,
      fingerprint: socket.getPeerCertificate().fingerprint256,
    }
  } finally {
    socket.destroy()
    server.close()
  }
}

describe('a certificate of our own', () => {
  test.each(['localhost', 'conference.example.org'])('a client that trusts it accepts it for %s', async (servername) => {
    const pair = await ensure(['localhost', 'conference.example.org'])
    const seen = await handshake(pair, { servername })
    expect(seen.authorized).toBe(true)
  })

  test('a client that asks for another name refuses it', async () => {
    const pair = await ensure()
    await expect(handshake(pair, { servername: 'example.com' })).rejects.toMatchObject({ code: 'ERR_TLS_CERT_ALTNAME_INVALID' })
  })

  test('a client that does not know it refuses it', async () => {
    const pair = await ensure()
    await expect(handshake(pair, { servername: 'localhost', ca: [] })).rejects.toThrow('self-signed certificate')
  })

  test('what the client sees is what was reported', async () => {
    const pair = await ensure()
    const seen = await handshake(pair, { servername: 'localhost' })
    expect(pair).toMatchObject({ selfSigned: true, warnings: [], fingerprint: seen.fingerprint })
    expect(pair.expiresAt).toEqual(new X509Certificate(pair.cert).validToDate)
  })

  test('it names every domain in ASCII, and the addresses of localhost', async () => {
    const pair = await ensure(['localhost', 'münchen.example', '[2001:db8::1]', '192.0.2.7'])
    expect(new X509Certificate(pair.cert).subjectAltName?.split(', ')).toEqual([
      'DNS:localhost',
      'IP Address:127.0.0.1',
      'IP Address:0:0:0:0:0:0:0:1',
      'DNS:xn--mnchen-3ya.example',
      'IP Address:2001:DB8:0:0:0:0:0:1',
      'IP Address:192.0.2.7',
    ])
  })

  test('it is an end entity on P-256 for 825 days, and no authority', async () => {
    const now = Date.UTC(2031, 0, 31, 12, 30, 15)
    const certificate = new X509Certificate((await ensure(['localhost'], { nowMs: now })).cert)
    expect(certificate.ca).toBe(false)
    expect(certificate.publicKey.asymmetricKeyDetails).toEqual({ namedCurve: 'prime256v1' })
    expect(certificate.keyUsage).toEqual(['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2'])
    expect(certificate.validFromDate.getTime()).toBe(now - DAY_MS)
    expect(certificate.validToDate.getTime() - certificate.validFromDate.getTime()).toBe(825 * DAY_MS)
  })

  test('its time is right where RFC 5280 §4.1.2.5 changes its form, in 2050', async () => {
    const now = Date.UTC(2049, 5, 1)
    const certificate = new X509Certificate((await ensure(['localhost'], { nowMs: now })).cert)
    expect(certificate.validFromDate.getUTCFullYear()).toBe(2049)
    expect(certificate.validToDate.getTime()).toBe(now + 824 * DAY_MS)
  })

  test('a domain too long for a common name and many domains are no obstacle', async () => {
    const domains = Array.from({ length: 40 }, (_, index) => `${'x'.repeat(60)}.${index}.example.org`)
    const certificate = new X509Certificate((await ensure(domains)).cert)
    expect(certificate.subject).not.toContain('CN=')
    for (const domain of domains) expect(certificate.checkHost(domain)).toBe(domain)
  })

  test('only its owner can read the key, and nothing else is left behind', async () => {
    const { files } = await ensure()
    expect((await stat(files.key)).mode & 0o777).toBe(0o600)
    expect((await readdir(join(dir, 'tls'))).sort()).toEqual(['cert.pem', 'key.pem'])
  })

  test('no domain at all, or one that no certificate can name, is an error', async () => {
    await expect(ensure([])).rejects.toThrow('at least one domain')
    await expect(ensure(['exa mple'])).rejects.toThrow('exa mple is no domain')
  })
})

describe('the next start', () => {
  test('uses the same files', async () => {
    const first = await ensure(['localhost', 'example.org'])
    expect(await ensure(['localhost', 'example.org'])).toEqual(first)
    expect(await ensure(['example.org', 'localhost'])).toEqual(first)
  })

  test.each([
    ['a domain more', ['localhost', 'example.org', 'example.net']],
    ['a domain fewer', ['localhost']],
    ['another domain', ['localhost', 'example.net']],
  ])('makes it again for %s', async (_, domains) => {
    const first = await ensure(['localhost', 'example.org'])
    const second = await ensure(domains)
    expect(second.fingerprint).not.toBe(first.fingerprint)
    expect(await readFile(second.files.cert, 'utf8')).toBe(second.cert)
    expect(await ensure(domains)).toEqual(second)
  })

  test('makes it again in its last month', async () => {
    const first = await ensure()
    const inTime = first.expiresAt.getTime() - 31 * DAY_MS
    expect((await ensure(['localhost'], { nowMs: inTime })).fingerprint).toBe(first.fingerprint)
    const second = await ensure(['localhost'], { nowMs: inTime + 2 * DAY_MS })
    expect(second.fingerprint).not.toBe(first.fingerprint)
    expect(second.warnings).toEqual([])
  })

  test.each([
    ['the key is missing', (key: string) => rm(key)],
    ['the key is of another certificate', async (key: string) => writeFile(key, await readFile((await operatorFiles()).key))],
    ['the key is cut off', async (key: string) => writeFile(key, (await readFile(key)).subarray(0, 100))],
  ])('makes it again where %s', async (_, spoil) => {
    const first = await ensure()
    await spoil(first.files.key)
    const second = await ensure()
    expect(second.fingerprint).not.toBe(first.fingerprint)
    expect((await handshake(second, { servername: 'localhost' })).authorized).toBe(true)
  })

  test('never overwrites what somebody else put there', async () => {
    const cert = join(dir, 'tls', 'cert.pem')
    await mkdir(join(dir, 'tls'))
    await writeFile(cert, FOREIGN_CERT)
    await expect(ensure()).rejects.toThrow(`${join(dir, 'tls', 'key.pem')}: there is no such file`)
    await writeFile(cert, 'no PEM')
    await expect(ensure()).rejects.toThrow(`${cert}: no certificate in PEM`)
    expect(await readFile(cert, 'utf8')).toBe('no PEM')
  })

  test('uses what somebody else put there, and says what is amiss', async () => {
    await mkdir(join(dir, 'tls'))
    await writeFile(join(dir, 'tls', 'cert.pem'), FOREIGN_CERT)
    await writeFile(join(dir, 'tls', 'key.pem'), FOREIGN_KEY, { mode: 0o600 })
    const pair = await ensure(['localhost'])
    expect(pair).toMatchObject({ cert: FOREIGN_CERT, key: FOREIGN_KEY })
    expect(pair.warnings).toContain(`${pair.files.cert}: the certificate is not for localhost`)
  })
})

describe("the operator's certificate", () => {
  test('is used as it is', async () => {
    const files = await operatorFiles()
    const pair = await ensure(['example.org'], files)
    expect(pair).toMatchObject({ files, cert: await readFile(files.cert, 'utf8'), warnings: [] })
    expect((await handshake(pair, { servername: 'example.org' })).authorized).toBe(true)
    expect(await readdir(dir)).toEqual(['site.key', 'site.pem'])
  })

  test('that has expired, or will soon, is used with a warning', async () => {
    const expired = await ensure(['example.org'], await operatorFiles(-1))
    expect(expired.warnings).toEqual([expect.stringMatching(/site\.pem: the certificate expired on \d{4}-\d\d-\d\d$/)])
    const soon = await ensure(['example.org'], await operatorFiles(20))
    expect(soon.warnings).toEqual([expect.stringContaining('the certificate expires on')])
    const early = await ensure(['example.org'], { ...(await operatorFiles()), nowMs: Date.now() - 200 * DAY_MS })
    expect(early.warnings).toEqual([expect.stringContaining('is not valid before')])
  })

  test('that is not for a domain of ours is used with a warning', async () => {
    const files = await operatorFiles()
    const pair = await ensure(['example.org', 'example.net', 'localhost'], files)
    expect(pair.warnings).toEqual([
      `${files.cert}: the certificate is not for example.net`,
      `${files.cert}: the certificate is not for localhost`,
    ])
  })

  test('whose key everybody can read is used with a warning', async () => {
    const files = await operatorFiles()
    await chmod(files.key, 0o644)
    expect((await ensure(['example.org'], files)).warnings).toEqual([`${files.key}: everybody on this machine can read the key`])
  })

  test('that comes behind its issuer in the file is an error that says so', async () => {
    const { cert, key } = await operatorFiles()
    await writeFile(cert, FOREIGN_CERT + (await readFile(cert, 'utf8')))
    await expect(ensure(['example.org'], { cert, key })).rejects.toThrow(
      'it belongs to a later one in the file, which must come first',
    )
  })

  test.each([
    ['cert', 'a missing file', undefined, 'there is no such file'],
    ['key', 'a missing file', undefined, 'there is no such file'],
    ['cert', 'an empty file', '', 'no certificate in PEM (-----BEGIN CERTIFICATE-----)'],
    ['key', 'an empty file', '', 'no private key in PEM (-----BEGIN PRIVATE KEY-----)'],
    ['cert', 'the key', FOREIGN_KEY, 'it holds a private key'],
    ['key', 'the certificate', FOREIGN_CERT, 'it holds a certificate'],
    ['cert', 'a broken certificate', FOREIGN_CERT.replace('MII', 'AAA'), 'certificate 1 of 1 cannot be read'],
    ['key', 'a broken key', FOREIGN_KEY.replace('MI', 'AA'), 'the key cannot be read'],
    ['key', 'an encrypted key', FOREIGN_KEY.replaceAll('PRIVATE', 'ENCRYPTED PRIVATE'), 'without a passphrase'],
    ['key', 'the key of another certificate', FOREIGN_KEY, 'the key does not belong to the certificate in'],
  ] as const)('whose tls.%s is %s is an error', async (which, _, text, message) => {
    const files = await operatorFiles()
    if (text === undefined) await rm(files[which])
    else await writeFile(files[which], text)
    const error = await ensure(['example.org'], files).catch((reason: Error) => reason)
    if (!(error instanceof Error)) return expect.unreachable('it was taken')
    expect(error.name).toBe('CertificateError')
    expect(error.message).toContain(`${files[which]}: `)
    expect(error.message).toContain(message)
  })

  test('whose file is a directory is an error', async () => {
    const { key } = await operatorFiles()
    await expect(ensure(['example.org'], { cert: dir, key })).rejects.toThrow(`${dir}: it is a directory`)
  })

  test('whose key is too short for TLS is an error', async () => {
    const files = { cert: join(dir, 'weak.pem'), key: join(dir, 'weak.key') }
    await writeFile(files.cert, WEAK_CERT)
    await writeFile(files.key, WEAK_KEY, { mode: 0o600 })
    await expect(ensure(['example.org'], files)).rejects.toThrow(`${files.cert}: TLS does not take it`)
  })

  test('a data directory that cannot be made is an error that names the file', async () => {
    await writeFile(join(dir, 'tls'), 'a file')
    await expect(ensure()).rejects.toThrow(`${join(dir, 'tls', 'cert.pem')}: what should be a directory on its path is a file`)
  })
})

describe('RFC 9325 §3.1.1 protocol versions', () => {
  test('TLS 1.3 is spoken, and 1.2 with forward secrecy', async () => {
    const pair = await ensure()
    expect(await handshake(pair, { servername: 'localhost' })).toMatchObject({ protocol: 'TLSv1.3' })
    const older = await handshake(pair, { servername: 'localhost', maxVersion: 'TLSv1.2' })
    expect(older).toMatchObject({ protocol: 'TLSv1.2', cipher: 'ECDHE-ECDSA-AES128-GCM-SHA256' })
  })

  test.each([
    ['TLS 1.1', { minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' }],
    ['a cipher without AEAD', { maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES128-SHA256' }],
  ] as const)('%s is refused', async (_, client) => {
    const pair = await ensure()
    await expect(handshake(pair, { servername: 'localhost', ...client })).rejects.toMatchObject({
      code: expect.stringMatching(/ALERT/),
    })
  })
})

describe('XEP-0368 §3 ALPN', () => {
  test.each([
    [['xmpp-client'], 'xmpp-client'],
    [['h2', 'xmpp-client'], 'xmpp-client'],
    [['xmpp-server'], undefined],
    [['XMPP-Client'], undefined],
    [[], undefined],
  ])('of %j it takes %s', (offered, chosen) => {
    expect(chooseAlpn({ protocols: offered })).toBe(chosen)
  })

  test('xmpp-client is agreed on in a handshake', async () => {
    const pair = await ensure()
    const seen = await handshake(pair, { servername: 'localhost', ALPNProtocols: ['xmpp-client'] })
    expect(seen.alpn).toBe('xmpp-client')
  })

  test('a client without ALPN is let in', async () => {
    const seen = await handshake(await ensure(), { servername: 'localhost' })
    expect(seen.alpn).toBe(false)
    expect(seen.authorized).toBe(true)
  })

  test('another protocol is refused with no_application_protocol (RFC 7301 §3.2)', async () => {
    const pair = await ensure()
    await expect(handshake(pair, { servername: 'localhost', ALPNProtocols: ['http/1.1'] })).rejects.toMatchObject({
      code: 'ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL',
    })
  })
})

import { mkdir, mkdtemp, readFile, rename, rm, symlink, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type tls from 'node:tls'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type ManualClock, manualClock } from '#core/clock.ts'
import { type MemoryLog, memoryLog } from '#core/observing/log.ts'
import { Metrics } from '#core/observing/metrics.ts'
import { eventually, header } from '../edge.fixture.ts'
import { CLIENT_CA, FOREIGN_CERT, FOREIGN_KEY } from './certificate.fixture.ts'
import { type CertificateFiles, readCertificates } from './certificate.ts'
import { type CertificateSources, Certificates, makeTls } from './certificates.ts'
import { TestTls } from './door.fixture.ts'
import { makeSelfSigned } from './self-signed.ts'
import { start } from './tcp.fixture.ts'

const DAY_MS = 24 * 60 * 60 * 1000
const MINUTE_MS = 60_000

let dir: string
let clock: ManualClock
let log: MemoryLog
let metrics: Metrics
let opened: Certificates[]
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'rookery-certificates-'))
  clock = manualClock(Date.now())
  log = memoryLog()
  metrics = new Metrics()
  opened = []
})
afterEach(async () => {
  for (const certificates of opened) await certificates.stop()
  await rm(dir, { recursive: true })
})

/** A pair for these hosts, in files of that name. `days` from now it ends. */
async function pairOf(name: string, hosts: readonly string[], days = 90): Promise<CertificateFiles> {
  const files = { cert: join(dir, `${name}.pem`), key: join(dir, `${name}.key`) }
  const from = clock.now() - 100 * DAY_MS
  const made = await makeSelfSigned(
    hosts.map((value) => ({ type: 'dns', value })),
    new Date(from),
    new Date(clock.now() + days * DAY_MS),
  )
  await writeFile(files.cert, made.cert)
  await writeFile(files.key, made.key, { mode: 0o600 })
  return files
}

async function open(sources: Partial<CertificateSources> = {}): Promise<Certificates> {
  const certificates = await Certificates.open({ dir, domains: ['example.org'], files: [], ...sources }, { clock, log, metrics })
  opened.push(certificates)
  return certificates
}

const events = () => log.lines.map(({ event }) => event)
/** A minute passes, and what it brings is done. */
async function aMinute(): Promise<void> {
  clock.advance(MINUTE_MS)
  for (const certificates of opened) await certificates.look()
}

describe('RFC 6066 §3 which certificate is shown', () => {
  test('the one that names the host, else the first', async () => {
    const files = [
      await pairOf('a', ['example.org', '*.example.org', 'both.example']),
      await pairOf('b', ['example.net', 'chat.example.org', 'both.example']),
    ]
    const { pairFor, pairs } = makeTls(await readCertificates(files, []))
    const shown = (host: string | false | null) => pairs.indexOf(pairFor(host))
    for (const host of ['example.org', 'EXAMPLE.org', 'conference.example.org', 'both.example', 'nobody.example', ''])
      expect(shown(host), host).toBe(0)
    expect([shown(false), shown(null)]).toEqual([0, 0])
    for (const host of ['example.net', 'Example.NET', 'chat.example.org']) expect(shown(host), host).toBe(1)
    // RFC 6125 §6.4.3: a wildcard is one label.
    expect(makeTls(await readCertificates([files[1]!, files[0]!], [])).pairFor('a.b.example.org').files).toBe(files[1])
  })

  test.each(['TLS from the first byte', 'STARTTLS'])('%s: each client is shown that of the domain it names', async (how) => {
    const files = [await pairOf('a', ['example.org']), await pairOf('b', ['example.net'])]
    const pairs = await readCertificates(files, [])
    const server = await start({ certificates: new TestTls(pairs) })
    const ca = pairs.map(({ cert }) => cert)
    for (const [n, servername] of ['example.org', 'example.net'].entries()) {
      const options = { servername, ca } // checked by the client
      const client = how === 'STARTTLS' ? await server.connect().startTls(options) : server.connectTls(options)
      await client.send(header(servername)).until('</stream:features>')
      expect((client.socket as tls.TLSSocket).getPeerX509Certificate()!.fingerprint256).toBe(pairs[n]!.fingerprint)
      expect(server.connections[n]!.channelBinding!('tls-server-end-point')).toEqual(pairs[n]!.endPointHash)
    }
    const nameless = server.connectTls({ servername: '', ca, checkServerIdentity: () => undefined })
    await nameless.send(header()).until('</stream:features>')
    expect((nameless.socket as tls.TLSSocket).getPeerX509Certificate()!.fingerprint256).toBe(pairs[0]!.fingerprint)
  })

  test('RFC 6120 §5.4.3.1 after STARTTLS, that of the domain in the stream header, unless the client names the host of another', async () => {
    const files = [await pairOf('a', ['example.org']), await pairOf('b', ['*.example.net', 'xn--bcher-kva.example'])]
    const pairs = await readCertificates(files, [])
    const domains = ['example.org', 'chat.example.net', 'bücher.example', 'example.com']
    const server = await start({ certificates: new TestTls(pairs), config: { domains } })
    const shown = async (domain: string, servername: string): Promise<number> => {
      const options = { servername, ca: pairs.map(({ cert }) => cert), checkServerIdentity: () => undefined }
      const client = await server.connect().startTls(options, domain)
      await client.send(header(domain)).until('</stream:features>')
      const { fingerprint256 } = (client.socket as tls.TLSSocket).getPeerX509Certificate()!
      const found = pairs.findIndex(({ fingerprint }) => fingerprint === fingerprint256)
      expect(server.connections.at(-1)!.channelBinding!('tls-server-end-point')).toEqual(pairs[found]!.endPointHash)
      return found
    }
    expect(await shown('chat.example.net', '')).toBe(1)
    expect(await shown('bücher.example', '')).toBe(1)
    expect(await shown('example.org', '')).toBe(0)
    expect(await shown('example.com', '')).toBe(0) // no certificate is for it
    expect(await shown('chat.example.net', 'xmpp.hosting.example')).toBe(1) // a client that names where the SRV record leads
    expect(await shown('chat.example.net', 'example.org')).toBe(0)
    expect(await shown('example.org', 'chat.example.net')).toBe(1)
  })

  test('a domain that none of them names is told of', async () => {
    const files = [await pairOf('a', ['example.org']), await pairOf('b', ['example.net'])]
    await open({ files, domains: ['example.org', 'example.net', 'example.com'] })
    expect(log.lines.map(({ event, fields }) => [event, fields.warning])).toEqual([
      ['certificate.doubtful', `${files[0]!.cert}: the certificate is not for example.com`],
    ])
  })
})

describe('a certificate that changes', () => {
  test('is shown to those who come from then on, within a minute', async () => {
    const files = [await pairOf('site', ['example.org'])]
    const certificates = await open({ files })
    const [before] = certificates.tls.pairs
    const told: string[] = []
    certificates.onChange(({ pairs }) => told.push(pairs[0]!.fingerprint))
    await aMinute()
    expect([certificates.tls.pairs[0], told]).toEqual([before, []])
    await pairOf('site', ['example.org'])
    clock.advance(MINUTE_MS)
    await eventually(() => told.length > 0, 'the files to be looked at')
    const [after] = certificates.tls.pairs
    expect(after!.fingerprint).not.toBe(before!.fingerprint)
    expect(told).toEqual([after!.fingerprint])
    expect(events()).toEqual(['certificates.reloaded'])
  })

  test('by a link on its path, as Kubernetes does, with the same times and sizes', async () => {
    const at = new Date(clock.now() - DAY_MS)
    for (const name of ['..1', '..2']) {
      await mkdir(join(dir, name))
      const files = await pairOf(`${name}/tls`, ['example.org'])
      for (const file of Object.values(files)) await utimes(file, at, at)
    }
    await symlink('..1', join(dir, '..data'))
    const files = [{ cert: join(dir, '..data', 'tls.pem'), key: join(dir, '..data', 'tls.key') }]
    const certificates = await open({ files })
    const [before] = certificates.tls.pairs
    await symlink('..2', join(dir, 'next'))
    await rename(join(dir, 'next'), join(dir, '..data'))
    await aMinute()
    expect(certificates.tls.pairs[0]!.fingerprint).not.toBe(before!.fingerprint)
  })

  test.each([
    ['a key that belongs to another certificate', 'key', FOREIGN_KEY, 'the key does not belong to the certificate'],
    ['no certificate', 'cert', 'half a fi', 'no certificate in PEM'],
    ['an empty file', 'cert', '', 'no certificate in PEM'],
  ] as const)('to %s is refused with a line in the log, and the one before stays', async (_, which, text, why) => {
    const [files] = [await pairOf('site', ['example.org'])]
    const certificates = await open({ files: [files] })
    const { tls: before } = certificates
    await writeFile(files[which], text)
    await aMinute()
    await aMinute()
    expect(certificates.tls).toBe(before)
    expect(log.lines.map(({ level, event }) => [level, event])).toEqual([['error', 'certificates.refused']]) // once
    expect(JSON.stringify(log.lines[0]!.fields)).toContain(why)
    await pairOf('site', ['example.org'])
    await aMinute()
    expect(events()).toEqual(['certificates.refused', 'certificates.reloaded'])
    expect(certificates.tls).not.toBe(before)
  })

  test('that is gone is refused, too', async () => {
    const files = await pairOf('site', ['example.org'])
    const certificates = await open({ files: [files] })
    const { tls: before } = certificates
    await rm(files.key)
    await certificates.reload()
    expect(certificates.tls).toBe(before)
    expect(JSON.stringify(log.lines[0]!.fields)).toContain('there is no such file')
  })

  test('a reload is asked for at any time, and two at once are one', async () => {
    const certificates = await open({ files: [await pairOf('site', ['example.org'])] })
    await Promise.all([certificates.reload(), certificates.reload()])
    expect(events()).toEqual(['certificates.reloaded'])
  })

  test('so do the authorities of clients; a file that holds none is refused', async () => {
    const clientCa = join(dir, 'clients.pem')
    await writeFile(clientCa, CLIENT_CA)
    const certificates = await open({ files: [await pairOf('site', ['example.org'])], clientCa })
    expect(certificates.tls.asksForCertificate).toBe(true)
    await writeFile(clientCa, FOREIGN_CERT)
    await aMinute()
    expect([events(), certificates.tls.options.ca]).toEqual([['certificates.reloaded'], FOREIGN_CERT])
    await writeFile(clientCa, 'nobody')
    await aMinute()
    expect([events().at(-1), certificates.tls.options.ca]).toEqual(['certificates.refused', FOREIGN_CERT])
    await expect(open({ clientCa })).rejects.toThrow(`${clientCa}: no certificate in PEM`)
  })

  test('nothing is waited for after a stop', async () => {
    const certificates = await open({ files: [await pairOf('site', ['example.org'])] })
    await certificates.stop()
    expect(clock.pending()).toBe(0)
  })
})

describe('a certificate that ends', () => {
  const left = () => Number(/^rookery_tls_certificate_expires_seconds (-?\d+)$/m.exec(metrics.text())![1])

  test('is a metric: that of the first to end, below 0 when it has', async () => {
    await open({ files: [await pairOf('a', ['example.org'], 60), await pairOf('b', ['example.net'], 40)] })
    expect(Math.round((left() * 1000) / DAY_MS)).toBe(40)
    clock.jump(41 * DAY_MS)
    expect(Math.round((left() * 1000) / DAY_MS)).toBe(-1)
  })

  test('is told of once a day in its last fortnight', async () => {
    const files = await pairOf('site', ['example.org'], 15.5)
    await open({ files: [files] })
    log.lines.splice(0) // which says that it has less than a month
    for (let day = 1; day <= 4; day++) {
      for (let part = 0; part < 3; part++) {
        clock.advance(DAY_MS / 3 + MINUTE_MS)
        await aMinute()
      }
    }
    expect(log.lines.map(({ level, event, fields }) => [level, event, fields.file, fields.daysLeft])).toEqual([
      ['warn', 'certificate.expires_soon', files.cert, 13],
      ['warn', 'certificate.expires_soon', files.cert, 12],
      ['warn', 'certificate.expires_soon', files.cert, 11],
    ])
  })

  test('is made again in its last month where it is our own, without a restart', async () => {
    const certificates = await open()
    const [before] = certificates.tls.pairs
    expect(before!.selfSigned).toBe(true)
    clock.jump(800 * DAY_MS)
    clock.advance(DAY_MS)
    await eventually(() => events().includes('certificates.reloaded'), 'a new certificate')
    const [after] = certificates.tls.pairs
    expect(after!.expiresAt.getTime()).toBeGreaterThan(before!.expiresAt.getTime())
    expect(await readFile(after!.files.cert, 'utf8')).toBe(after!.cert)
    expect(events()).not.toContain('certificate.expires_soon')
  })
})

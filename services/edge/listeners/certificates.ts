// The certificates that are shown to clients, as they are at this moment.
//
// All that TLS needs is one `Tls` that is never changed: a connection keeps the one that its handshake began with, and
// `reload` puts a new one in its place, for those that come from then on. Files that cannot be used are refused with a line in
// the log, and what was there stays. They are looked at once a minute, by what stat says of where they lead: in Kubernetes a
// renewed certificate is a symbolic link that leads elsewhere.
import { createHash } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { createSecureContext, type SecureContext, type SecureContextOptions, type TLSSocketOptions } from 'node:tls'
import { domainToASCII } from 'node:url'
import type { Clock, Timer } from '#core/clock.ts'
import type { Log } from '#core/observing/log.ts'
import type { Metrics } from '#core/observing/metrics.ts'
import {
  CertificateError,
  type CertificateFiles,
  type CertificatePair,
  ensureCertificate,
  RENEW_DAYS,
  readCertificates,
  tlsContextOptions,
} from './certificate.ts'

/** What a connection's handshake is made with. */
export interface Tls {
  /** At least one: the first is shown to whoever names no domain, or one that none is for. */
  readonly pairs: readonly CertificatePair[]
  /** With the first of them, and what is asked of clients. */
  readonly options: SecureContextOptions
  /** RFC 6066 §3, for node:tls; undefined where there is but one. */
  readonly chooseByName: SniCallback | undefined
  /** Whether clients are asked for a certificate (`tls.clientCa`). */
  readonly asksForCertificate: boolean
  /** The first of them that names each host, as it is written in it. */
  readonly byHost: ReadonlyMap<string, CertificatePair>
  /** Which is shown to a client that named this host in its hello, and this domain in its stream header; '' where there was none. */
  pairFor(host: string | false | null, domain?: string): CertificatePair
  /**
   * What shows the certificate of that domain unless the client names another host: RFC 6120 §5.4.3.1, for the `to` of a
   * header that came before TLS is as good as that.
   */
  shownFor(domain: string): ShownOptions
}

type SniCallback = NonNullable<TLSSocketOptions['SNICallback']>
/** Options of node:tls. */
interface ShownOptions {
  readonly secureContext: SecureContext
  readonly SNICallback?: SniCallback
}

export interface CertificateSources {
  /** The data directory. */
  readonly dir: string
  readonly domains: readonly string[]
  /** The operator's; empty: our own is used, and made where there is none. */
  readonly files: readonly CertificateFiles[]
  /** File of the authorities whose certificates clients may log in with, PEM (XEP-0178). */
  readonly clientCa?: string | undefined
}

/** Reads all of it. Throws CertificateError. */
async function loadTls({ dir, domains, files, clientCa }: CertificateSources, nowMs: number = Date.now()): Promise<Tls> {
  const own = files.length === 0
  const pairs = own ? [await ensureCertificate(dir, domains, nowMs)] : await readCertificates(files, domains, nowMs)
  return makeTls(pairs, clientCa === undefined ? undefined : await readClientCa(clientCa))
}

/** PEM. Throws CertificateError. */
export async function readClientCa(file: string): Promise<string> {
  try {
    const ca = await readFile(file, 'utf8')
    if (!ca.includes('-----BEGIN CERTIFICATE-----')) throw new Error('no certificate in PEM (-----BEGIN CERTIFICATE-----)')
    createSecureContext({ ca })
    return ca
  } catch (cause) {
    throw new CertificateError(`${file}: ${(cause as Error).message}`, { cause })
  }
}

/** `pairs`: at least one. */
export function makeTls(pairs: readonly CertificatePair[], clientCa?: string): Tls {
  const optionsOf = (pair: CertificatePair): SecureContextOptions => ({
    ...tlsContextOptions(pair),
    // A session that is resumed keeps what its client was verified by, so it must be one of ours.
    ...(clientCa !== undefined && { ca: clientCa, sessionIdContext: SESSION_CONTEXT }),
  })
  const contexts = new Map(pairs.map((pair) => [pair, createSecureContext(optionsOf(pair))]))
  const byHost = new Map<string, CertificatePair>()
  for (const pair of pairs) for (const host of pair.hosts) if (!byHost.has(host)) byHost.set(host, pair)
  const named = (name: string): CertificatePair | undefined => byHost.get(name) ?? byHost.get(`*${name.slice(name.indexOf('.'))}`) // RFC 6125 §6.4.3: one label
  const forHost = (host: string | false | null, otherwise: CertificatePair): CertificatePair =>
    (host ? named(host.toLowerCase()) : undefined) ?? otherwise
  const forDomain = (domain: string): CertificatePair => (domain === '' ? undefined : named(domainToASCII(domain))) ?? pairs[0]!
  /** One for all connections that are shown the same: it is kept as long as they last. */
  const shown = new Map<CertificatePair, ShownOptions>()
  for (const pair of pairs) {
    const SNICallback: SniCallback = (host, done) => done(null, contexts.get(forHost(host, pair))!)
    const secureContext = contexts.get(pair)!
    shown.set(pair, pairs.length === 1 ? { secureContext } : { secureContext, SNICallback })
  }
  return {
    pairs,
    options: optionsOf(pairs[0]!),
    chooseByName: shown.get(pairs[0]!)!.SNICallback,
    asksForCertificate: clientCa !== undefined,
    byHost,
    pairFor: (host, domain = '') => forHost(host, forDomain(domain)),
    shownFor: (domain) => shown.get(forDomain(domain))!,
  }
}

const SESSION_CONTEXT = createHash('sha256').update('rookery').digest('hex').slice(0, 32)
const LOOK_MS = 60_000
const DAY_MS = 24 * 60 * 60 * 1000
/** Certificates with less to live are told of once a day. */
const WARN_DAYS = 14

export interface CertificatesParts {
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
}

export class Certificates {
  readonly name = 'certificates'
  #tls: Tls
  readonly #sources: CertificateSources
  readonly #parts: CertificatesParts
  readonly #listeners: ((tls: Tls) => void)[] = []
  readonly #timer: Timer
  #seen: string
  #loading: Promise<void> | undefined
  #warnedMs = 0

  /** Throws CertificateError. */
  static async open(sources: CertificateSources, parts: CertificatesParts): Promise<Certificates> {
    const tls = await loadTls(sources, parts.clock.now())
    return new Certificates(tls, sources, parts, await signatureOf(tls, sources))
  }

  private constructor(tls: Tls, sources: CertificateSources, parts: CertificatesParts, seen: string) {
    this.#tls = tls
    this.#sources = sources
    this.#parts = parts
    this.#seen = seen
    this.#tell()
    this.#timer = parts.clock.setInterval(() => void this.look(), LOOK_MS)
    const { metrics, clock } = parts
    metrics.watch('tls_certificate_expires_seconds', 'Until the first of the certificates expires; below 0: it has.', () =>
      Math.round((firstExpiry(this.#tls).getTime() - clock.now()) / 1000),
    )
  }

  get tls(): Tls {
    return this.#tls
  }

  /** Calls whenever there are others, until `stop`. */
  onChange(listener: (tls: Tls) => void): void {
    this.#listeners.push(listener)
  }

  /** Reads the files again, whatever they look like. Never rejects: what cannot be used is told to the log. */
  reload(): Promise<void> {
    this.#loading ??= this.#reload().finally(() => {
      this.#loading = undefined
    })
    return this.#loading
  }

  /** Looks at the files, as it does once a minute. Never rejects. */
  async look(): Promise<void> {
    const signature = await signatureOf(this.#tls, this.#sources)
    if (this.#loading !== undefined) return this.#loading
    if (signature !== this.#seen) return this.reload()
    if (this.#parts.clock.monotonic() - this.#warnedMs < DAY_MS) return
    // Our own is made again in its last month, which the next loading does.
    const renews = this.#sources.files.length === 0 && this.#daysLeft(firstExpiry(this.#tls)) < RENEW_DAYS
    if (renews) await this.reload()
    else this.#warnOfExpiry()
  }

  async stop(): Promise<void> {
    this.#parts.clock.clearTimeout(this.#timer)
    this.#listeners.length = 0
  }

  async #reload(): Promise<void> {
    const { log } = this.#parts
    this.#seen = await signatureOf(this.#tls, this.#sources)
    try {
      const tls = await loadTls(this.#sources, this.#parts.clock.now())
      this.#tls = tls
      log.info('certificates.reloaded', { files: tls.pairs.map(({ files }) => files.cert), expiresAt: firstExpiry(tls) })
      for (const listener of this.#listeners) listener(tls)
      this.#tell()
    } catch (error) {
      log.error('certificates.refused', { error, help: 'the ones before are still in use' })
    }
  }

  #tell(): void {
    for (const { warnings } of this.#tls.pairs)
      for (const warning of warnings) this.#parts.log.warn('certificate.doubtful', { warning })
    this.#warnOfExpiry()
  }

  #warnOfExpiry(): void {
    this.#warnedMs = this.#parts.clock.monotonic()
    for (const { files, expiresAt } of this.#tls.pairs) {
      const daysLeft = this.#daysLeft(expiresAt)
      if (daysLeft < WARN_DAYS) this.#parts.log.warn('certificate.expires_soon', { file: files.cert, expiresAt, daysLeft })
    }
  }

  #daysLeft(expiresAt: Date): number {
    return Math.floor((expiresAt.getTime() - this.#parts.clock.now()) / DAY_MS)
  }
}

function firstExpiry({ pairs }: Tls): Date {
  return new Date(Math.min(...pairs.map(({ expiresAt }) => expiresAt.getTime())))
}

/** Of the files as they are now: another one where any was written, replaced, or a link on its path leads elsewhere. */
async function signatureOf({ pairs }: Tls, { clientCa }: CertificateSources): Promise<string> {
  const files = pairs.flatMap((pair) => [pair.files.cert, pair.files.key])
  if (clientCa !== undefined) files.push(clientCa)
  const marks = await Promise.all(
    files.map((file) =>
      stat(file).then(
        ({ dev, ino, size, mtimeMs }) => [dev, ino, size, mtimeMs].join(':'),
        (error: NodeJS.ErrnoException) => String(error.code),
      ),
    ),
  )
  return marks.join(' ')
}

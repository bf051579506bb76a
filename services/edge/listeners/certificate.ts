// The certificates of this server: those the operator gives, or one that we sign ourselves on the first start.
//
//   <dir>/tls/cert.pem   0644   made here, or put here by the operator: then it is used as it is and never overwritten
//   <dir>/tls/key.pem    0600
//
// Ours is made again when the domains have changed or its time runs out. Both files are written beside their place and renamed;
// the certificate goes first, and a pair that does not match is ours and half written, so it is made again.
import { constants, createPrivateKey, type KeyObject, randomBytes, X509Certificate } from 'node:crypto'
import { mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises'
import { isIP } from 'node:net'
import { dirname, join } from 'node:path'
import { createSecureContext, type SecureContextOptions } from 'node:tls'
import { domainToASCII } from 'node:url'
import { makeSelfSigned, SELF_SIGNED_BY, type SubjectName } from './self-signed.ts'
import { alternativeNames, endPointHash } from './x509.ts'

export interface CertificatePair {
  /** PEM, the chain included. */
  readonly cert: string
  /** PEM. */
  readonly key: string
  readonly selfSigned: boolean
  readonly files: CertificateFiles
  /** SHA-256 of the certificate, as `AB:CD:…`: what a person compares. */
  readonly fingerprint: string
  readonly expiresAt: Date
  /** The hosts it names, in ASCII, as they are written in it: `*.example.org` is one. */
  readonly hosts: readonly string[]
  /** RFC 5929 §4.1: the channel binding tls-server-end-point of every connection that is shown it. */
  readonly endPointHash: Uint8Array | undefined
  /** What does not keep us from starting and should be seen to: expired, soon to expire, a domain it is not for, a key that all can read. */
  readonly warnings: readonly string[]
}

/** PEM. `cert` begins with the server's own certificate, then its chain. */
export interface CertificateFiles {
  readonly cert: string
  readonly key: string
}

/** The operator must act: names the file and what is wrong with it. */
export class CertificateError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'CertificateError'
  }
}

const DAY_MS = 24 * 60 * 60 * 1000
/** Apple's clients take no longer one (HT210176), whoever signed it. Others would take ten years. */
const VALID_DAYS = 825
/** Ours is made again on a start in its last month; the operator is told. */
export const RENEW_DAYS = 30

/** `dir`: the data directory; `tls/` in it is ours. `domains`: prepared (RFC 7622 §3.2), at least one. Throws CertificateError. */
export async function ensureCertificate(
  dir: string,
  domains: readonly string[],
  nowMs: number = Date.now(),
): Promise<CertificatePair> {
  const names = subjectNames(domains)
  const files = { cert: join(dir, 'tls', 'cert.pem'), key: join(dir, 'tls', 'key.pem') }
  const ours = await isAbsentOrOurs(files.cert)
  const found = ours ? await readOurs(files) : await readPair(files)
  if (found !== undefined && (!ours || isStillGood(found.chain[0]!, names, nowMs))) return reportOn(found, names, nowMs)

  const notBefore = nowMs - DAY_MS // for clients whose clock is behind
  const made = await makeSelfSigned(names, new Date(notBefore), new Date(notBefore + VALID_DAYS * DAY_MS))
  await writeWhole(files.cert, made.cert, 0o644)
  await writeWhole(files.key, made.key, 0o600)
  return reportOn(await readPair(files), names, nowMs)
}

/** The operator's, at least one: each of `domains` should be named by one of them. Throws CertificateError. */
export async function readCertificates(
  files: readonly CertificateFiles[],
  domains: readonly string[],
  nowMs: number = Date.now(),
): Promise<CertificatePair[]> {
  const pairs: Pair[] = []
  for (const one of files) pairs.push(await readPair(one))
  // A domain that none names is told of the first, which is shown to its clients.
  const names = domains.length === 0 ? [] : subjectNames(domains)
  const missing = names.filter((name) => !pairs.some(({ chain }) => covers(chain[0]!, name)))
  return Promise.all(pairs.map((pair, n) => reportOn(pair, n === 0 ? missing : [], nowMs)))
}

/** Application protocols on a port for direct TLS (XEP-0368 §3). */
const ALPN_PROTOCOLS = ['xmpp-client'] as const

/**
 * Chooses among the protocols that a client offers: for `ALPNCallback` of node:tls. undefined refuses the handshake with
 * no_application_protocol (RFC 7301 §3.2). A client that offers none is not asked about, and is let in: XEP-0368 §3 only says SHOULD.
 */
export function chooseAlpn({ protocols }: { readonly protocols: readonly string[] }): string | undefined {
  return ALPN_PROTOCOLS.find((protocol) => protocols.includes(protocol))
}

/**
 * For `tls.createSecureContext`, so for STARTTLS: RFC 9325 §3.1.1, §4.2. TLS 1.2 and 1.3, forward secrecy and AEAD only; no
 * renegotiation, which TLS 1.3 has not, and which costs a server more than the client that asks for it.
 */
export function tlsContextOptions(pair: { readonly cert: string; readonly key: string }): SecureContextOptions {
  return {
    cert: pair.cert,
    key: pair.key,
    minVersion: 'TLSv1.2',
    ciphers: CIPHERS,
    honorCipherOrder: true,
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
  }
}

export const CIPHERS: string = [
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'TLS_AES_128_GCM_SHA256',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
].join(':')

/** What a certificate for `domains` is to name. Whoever serves `localhost` is also met by its addresses. */
function subjectNames(domains: readonly string[]): readonly SubjectName[] {
  if (domains.length === 0) throw new CertificateError('a certificate needs at least one domain')
  const names = new Map<string, SubjectName>()
  const add = (type: SubjectName['type'], value: string) => names.set(value, { type, value })
  for (const domain of domains) {
    const address = domain.replace(/^\[(.*)\]$/, '$1') // RFC 7622 §3.2: IPv6 in brackets
    if (isIP(address) !== 0) {
      add('ip', address)
      continue
    }
    const ascii = domainToASCII(domain)
    if (ascii === '') throw new CertificateError(`${domain} is no domain that a certificate can name`)
    add('dns', ascii)
    if (ascii === 'localhost') {
      add('ip', '127.0.0.1')
      add('ip', '::1')
    }
  }
  return [...names.values()]
}

interface Pair {
  readonly files: CertificateFiles
  readonly cert: string
  readonly key: string
  /** The server's own first. */
  readonly chain: readonly X509Certificate[]
}

async function readPair(files: CertificateFiles): Promise<Pair> {
  const cert = await readText(files.cert)
  const key = await readText(files.key)
  const chain = parseChain(cert, files.cert)
  const privateKey = parseKey(key, files.key)
  if (!chain[0]!.checkPrivateKey(privateKey)) {
    const later = chain.some((certificate) => certificate.checkPrivateKey(privateKey))
    const hint = later ? ': it belongs to a later one in the file, which must come first' : ''
    throw new CertificateError(`${files.key}: the key does not belong to the certificate in ${files.cert}${hint}`)
  }
  try {
    createSecureContext(tlsContextOptions({ cert, key }))
  } catch (cause) {
    throw new CertificateError(`${files.cert}: TLS does not take it: ${messageOf(cause)}`, { cause })
  }
  return { files, cert, key, chain }
}

/** undefined: absent or half written, so it may be made again. What we may not read is somebody else's to mend. */
async function readOurs(files: CertificateFiles): Promise<Pair | undefined> {
  try {
    return await readPair(files)
  } catch (error) {
    if (error instanceof CertificateError && !['EACCES', 'EPERM'].includes(codeOf(error.cause))) return undefined
    throw error
  }
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (cause) {
    throw new CertificateError(`${file}: ${reasonOf(cause)}`, { cause })
  }
}

function parseChain(text: string, file: string): X509Certificate[] {
  const blocks = text.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g)
  if (blocks === null) {
    const hint = text.includes('PRIVATE KEY-----') ? ': it holds a private key' : ''
    throw new CertificateError(`${file}: no certificate in PEM (-----BEGIN CERTIFICATE-----)${hint}`)
  }
  return blocks.map((block, index) => {
    try {
      return new X509Certificate(block)
    } catch (cause) {
      throw new CertificateError(`${file}: certificate ${index + 1} of ${blocks.length} cannot be read: ${messageOf(cause)}`, {
        cause,
      })
    }
  })
}

function parseKey(text: string, file: string): KeyObject {
  if (!text.includes('PRIVATE KEY-----')) {
    const hint = text.includes('BEGIN CERTIFICATE') ? ': it holds a certificate' : ''
    throw new CertificateError(`${file}: no private key in PEM (-----BEGIN PRIVATE KEY-----)${hint}`)
  }
  if (text.includes('ENCRYPTED')) {
    throw new CertificateError(`${file}: the key is encrypted; it must be stored without a passphrase (openssl pkey -in …)`)
  }
  try {
    return createPrivateKey(text)
  } catch (cause) {
    throw new CertificateError(`${file}: the key cannot be read: ${messageOf(cause)}`, { cause })
  }
}

/** What an operator put in our place is not ours to overwrite. Throws CertificateError on a file that holds no certificate. */
async function isAbsentOrOurs(file: string): Promise<boolean> {
  let text: string
  try {
    text = await readText(file)
  } catch (error) {
    if (error instanceof CertificateError && codeOf(error.cause) === 'ENOENT') return true
    throw error
  }
  const certificate = parseChain(text, file)[0]!
  return isSelfSigned(certificate) && certificate.subject.split('\n').includes(`O=${SELF_SIGNED_BY}`)
}

function isSelfSigned(certificate: X509Certificate): boolean {
  // Not `checkIssued`: it wants keyCertSign of an issuer, and ours is no authority.
  return certificate.issuer === certificate.subject && certificate.verify(certificate.publicKey)
}

/** Names exactly these, and lasts for a month yet. */
function isStillGood(certificate: X509Certificate, names: readonly SubjectName[], nowMs: number): boolean {
  const named = certificate.subjectAltName?.split(', ').length ?? 0
  return (
    named === names.length &&
    names.every((name) => covers(certificate, name)) &&
    certificate.validFromDate.getTime() <= nowMs &&
    certificate.validToDate.getTime() - nowMs > RENEW_DAYS * DAY_MS
  )
}

function covers(certificate: X509Certificate, { type, value }: SubjectName): boolean {
  const found = type === 'ip' ? certificate.checkIP(value) : certificate.checkHost(value, { subject: 'never' })
  return found !== undefined
}

/** `names`: what it should be for. */
async function reportOn(pair: Pair, names: readonly SubjectName[], nowMs: number): Promise<CertificatePair> {
  const { files, cert, key } = pair
  const certificate = pair.chain[0]!
  const { validFromDate, validToDate } = certificate
  const warnings: string[] = []
  const warn = (file: string, message: string) => warnings.push(`${file}: ${message}`)
  const day = (date: Date) => date.toISOString().slice(0, 10)
  if (validToDate.getTime() <= nowMs) warn(files.cert, `the certificate expired on ${day(validToDate)}`)
  else if (validToDate.getTime() - nowMs <= RENEW_DAYS * DAY_MS)
    warn(files.cert, `the certificate expires on ${day(validToDate)}`)
  if (validFromDate.getTime() > nowMs) warn(files.cert, `the certificate is not valid before ${day(validFromDate)}`)
  for (const name of names) {
    // The addresses of localhost are a courtesy of ours, not something to ask of an operator.
    if (name.type === 'dns' && !covers(certificate, name)) warn(files.cert, `the certificate is not for ${name.value}`)
  }
  const { mode } = await stat(files.key)
  if (process.platform !== 'win32' && (mode & 0o004) !== 0) warn(files.key, 'everybody on this machine can read the key')
  return {
    cert,
    key,
    selfSigned: isSelfSigned(certificate),
    files,
    fingerprint: certificate.fingerprint256,
    expiresAt: validToDate,
    hosts: hostsOf(certificate, files.cert),
    endPointHash: endPointHash(certificate),
    warnings,
  }
}

function hostsOf(certificate: X509Certificate, file: string): readonly string[] {
  try {
    return alternativeNames(certificate).dns
  } catch (cause) {
    throw new CertificateError(`${file}: the names in the certificate cannot be read: ${messageOf(cause)}`, { cause })
  }
}

/** Whoever reads `file` finds the old text or the new one, also after a crash. */
async function writeWhole(file: string, text: string, mode: number): Promise<void> {
  const beside = `${file}.${randomBytes(6).toString('hex')}.tmp`
  try {
    await mkdir(dirname(file), { recursive: true, mode: 0o700 })
    const handle = await open(beside, 'wx', mode)
    try {
      await handle.writeFile(text)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(beside, file)
  } catch (cause) {
    await rm(beside, { force: true }).catch(() => {})
    throw new CertificateError(`${file}: cannot be written: ${reasonOf(cause)}`, { cause })
  }
}

function reasonOf(error: unknown): string {
  const reasons: Record<string, string> = {
    ENOENT: 'there is no such file',
    EACCES: 'this user has no permission',
    EPERM: 'this user has no permission',
    EISDIR: 'it is a directory',
    ENOTDIR: 'what should be a directory on its path is a file',
    ENOSPC: 'the disk is full',
    EROFS: 'the file system is read-only',
  }
  return reasons[codeOf(error)] ?? messageOf(error)
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : ''
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

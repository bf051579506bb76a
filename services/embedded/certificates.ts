// Which certificates the configuration means: opened by a server that starts, looked at by `rookery check`.

import type { Process } from '#core/process.ts'
import type { Config } from '#core/settings/config.ts'
import { CertificateError, readCertificates } from '#edge/listeners/certificate.ts'
import { type CertificateSources, Certificates, readClientCa } from '#edge/listeners/certificates.ts'

/** Throws CertificateError. */
export async function openCertificates(process: Process): Promise<Certificates> {
  const sources = sourcesOf(process.config)
  try {
    return await Certificates.open(sources, { ...process, log: process.log.child({ role: 'edge' }) })
  } catch (error) {
    if (!(error instanceof CertificateError) || sources.files.length > 0) throw error
    const help = 'give tls.cert and tls.key, or set data to a folder that this user may write'
    throw new CertificateError(`${error.message}; ${help}`, { cause: error })
  }
}

/** What is wrong with the files that are named, each by its own; and what is only doubtful. Makes no files. */
export async function lookAtCertificates(config: Config): Promise<{ faults: string[]; warnings: string[] }> {
  const { files, domains, clientCa } = sourcesOf(config)
  const faults: string[] = []
  const look = async <T>(reading: Promise<T>): Promise<T | undefined> => {
    try {
      return await reading
    } catch (error) {
      if (!(error instanceof CertificateError)) throw error
      faults.push(error.message)
      return undefined
    }
  }
  for (const one of files) await look(readCertificates([one], []))
  if (clientCa !== undefined) await look(readClientCa(clientCa))
  const pairs = files.length > 0 && faults.length === 0 ? await look(readCertificates(files, domains)) : []
  return { faults, warnings: (pairs ?? []).flatMap(({ warnings }) => warnings) }
}

function sourcesOf({ data, domains, tls }: Config): CertificateSources {
  const files = tls.cert.map((cert, n) => ({ cert, key: tls.key[n]! }))
  return { dir: data, domains, files, clientCa: tls.clientCa }
}

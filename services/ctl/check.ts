// `rookery check`: every fault of a configuration at once, certificates included, and nothing started.
import { ConfigError } from '#core/settings/config.ts'
import { lookAtCertificates } from '#embedded/certificates.ts'
import { parseOptions, UsageError } from './command.ts'
import { readConfiguration } from './configured.ts'

export async function check(args: readonly string[]): Promise<number> {
  const { options, words } = parseOptions(args, ['config'])
  if (words.length > 0) throw new UsageError(`check takes no ${words[0]}`)
  const { config, file, source } = await readConfiguration(options.config)
  const { faults, warnings } = await lookAtCertificates(config)
  if (faults.length > 0) throw new ConfigError(file ?? 'the environment', faults)
  for (const warning of warnings) process.stderr.write(`${warning}\n`)
  process.stdout.write(`${file ?? 'no file'}: good; ${config.domains.join(', ')} on ${config.listen.join(', ')} (${source})\n`)
  return 0
}

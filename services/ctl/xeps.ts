// `rookery xeps`: what is implemented, to which version; `--doap`: the same as xmpp.org reads it.
import { allModules } from '#embedded/modules.ts'
import { doapOf, supportedXeps } from '#embedded/xeps.ts'
import { UsageError } from './command.ts'

export async function xeps(args: readonly string[]): Promise<number> {
  const [option, ...rest] = args
  if (rest.length > 0 || (option !== undefined && option !== '--doap'))
    throw new UsageError(`xeps takes --doap or nothing, not ${args.join(' ')}`)
  const supported = supportedXeps(await allModules())
  if (option === '--doap') {
    process.stdout.write(doapOf(supported))
    return 0
  }
  const width = Math.max(...supported.map(({ name }) => name.length))
  for (const { number, name, version, status, where } of supported) {
    process.stdout.write(`XEP-${number}  ${name.padEnd(width)}  ${version.padEnd(7)} ${status.padEnd(8)}  ${where.join(', ')}\n`)
  }
  return 0
}

// The `rookery` command.
//
//   rookery run [--config FILE]              starts the server, all roles in one process
//   rookery check [--config FILE]            checks a configuration, offline
//   rookery user add|list|passwd|remove …    manages accounts, of a running server or of its data at rest
import { ConfigError } from '#core/config.ts'
import { check } from './check.ts'
import { parseCommand, UsageError, usage } from './command.ts'
import { run } from './run.ts'
import { user } from './user.ts'

const COMMANDS: Readonly<Record<string, (args: readonly string[]) => Promise<number>>> = { run, check, user }

async function main(args: readonly string[]): Promise<number> {
  const { name, rest } = parseCommand(args)
  if (name === 'help') {
    process.stdout.write(usage())
    return 0
  }
  const command = COMMANDS[name]
  if (command === undefined) throw new UsageError(`there is no command ${name}`)
  return command(rest)
}

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (error) {
  if (error instanceof UsageError) process.stderr.write(`rookery: ${error.message}\n\n${usage()}`)
  else if (error instanceof ConfigError) process.stderr.write(`rookery: ${error.message}\n`)
  else process.stderr.write(`rookery: ${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = error instanceof UsageError || error instanceof ConfigError ? 2 : 1
}

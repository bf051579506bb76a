// The `rookery` command.
//
//   rookery run [--config FILE]              starts the server, all roles in one process
//   rookery run --role edge --config FILE    starts one process of a cluster, with the roles that are named, or all
//   rookery check [--config FILE]            checks a configuration, offline
//   rookery user add|list|disable …          manages accounts, of a running server, of its data at rest, or of a cluster
//   rookery session list|kick …              shows who is connected, and ends sessions
//   rookery group list|create|add …          manages the groups whose members are in each other's rosters
//   rookery announce TEXT                    sends a message to everybody who is online
//   rookery export JID > FILE                writes all that is stored of an account
//   rookery xeps                             prints what is implemented
import { ConfigError } from '#core/settings/config.ts'
import { announce } from './announce.ts'
import { check } from './check.ts'
import { parseCommand, UsageError, usage } from './command.ts'
import { exportAccount } from './export.ts'
import { group } from './group.ts'
import { run } from './run.ts'
import { session } from './session.ts'
import { user } from './user.ts'
import { xeps } from './xeps.ts'

const COMMANDS: Readonly<Record<string, (args: readonly string[]) => Promise<number>>> = {
  announce,
  check,
  export: exportAccount,
  group,
  run,
  session,
  user,
  xeps,
}

async function main(args: readonly string[]): Promise<number> {
  const { name, rest } = parseCommand(args)
  if (name === 'help') {
    process.stdout.write(usage())
    return 0
  }
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined
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

// The command line: which command, and its options.
import { parseArgs } from 'node:util'

/** The command line is wrong: the usage follows the message, and the exit code is 2. */
export class UsageError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'UsageError'
  }
}

export function usage(): string {
  return `Usage: rookery COMMAND [OPTIONS]

  run [--config FILE]                    start the server; without a file: on this machine only, registration open
  check [--config FILE]                  check a configuration without starting anything
  user add JID [--password PASSWORD]     make an account; asks for the password where none is given
  user passwd JID [--password PASSWORD]  set a password
  user list [DOMAIN]                     list the accounts, and which are disabled
  user disable JID [--reason TEXT]       let nobody log in, end the sessions, keep everything
  user enable JID                        undo that
  user remove JID                        delete an account and everything stored of it
  session list [--domain D|--account J]  list who is connected: address, since, from where, over what, presence
  session kick JID [--reason TEXT]       end a session, or all of an account
  announce TEXT [--domain D]             send a message to everybody who is online
  export JID > FILE                      write all that is stored of an account, as XML (XEP-0227)

All of them take --config FILE too, to find the server's data.
`
}

export function parseCommand(args: readonly string[]): { name: string; rest: readonly string[] } {
  const [name = 'help', ...rest] = args
  return { name: name === '--help' || name === '-h' ? 'help' : name, rest }
}

/** Options and words of a command. Throws UsageError on an option it does not know. */
export function parseOptions(
  args: readonly string[],
  names: readonly string[],
): { options: Record<string, string | undefined>; words: string[] } {
  try {
    const known = Object.fromEntries(names.map((name) => [name, { type: 'string' as const }]))
    const { values, positionals } = parseArgs({ args: [...args], options: known, allowPositionals: true, strict: true })
    return { options: values as Record<string, string | undefined>, words: positionals }
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

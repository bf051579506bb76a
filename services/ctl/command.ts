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

  run [--config FILE] [--role ROLE …]    start the server; without a file: on this machine only, registration open;
                                         with roles: one process of a cluster (edge, router, presence, web)
  check [--config FILE]                  check a configuration without starting anything
  user add JID [--password PASSWORD]     make an account; asks for the password where none is given
  user passwd JID [--password PASSWORD]  set a password
  user list [DOMAIN]                     list the accounts, and which are disabled
  user disable JID [--reason TEXT]       let nobody log in, end the sessions, keep everything
  user enable JID                        undo that
  user remove JID                        delete an account and everything stored of it
  session list [--domain D|--account J]  list who is connected: address, since, from where, over what, presence
  session kick JID [--reason TEXT]       end a session, or all of an account
  group list [DOMAIN]                    list the groups whose members are in each other's rosters
  group show GROUP                       list the members of a group, NAME@DOMAIN
  group create GROUP [SETTING …]         make one; settings are --name TEXT, --description TEXT,
                                         --seen-by members|everybody|nobody, --seen-by-groups A,B
  group set GROUP SETTING …              change any of these
  group delete GROUP                     delete a group
  group add|remove GROUP JID … | -       change its members; - reads them from standard input, one a line
  announce TEXT [--domain D]             send a message to everybody who is online
  export JID > FILE                      write all that is stored of an account, as XML (XEP-0227)
  xeps [--doap]                          print the specifications that are implemented, and their versions

All but the last take --config FILE too, to find the server's data, or the cluster.
`
}

export function parseCommand(args: readonly string[]): { name: string; rest: readonly string[] } {
  const [name = 'help', ...rest] = args
  return { name: name === '--help' || name === '-h' ? 'help' : name, rest }
}

/** Options and words of a command; of `lists`, every one that is given. Throws UsageError on an option it does not know. */
export function parseOptions(
  args: readonly string[],
  names: readonly string[],
  lists: readonly string[] = [],
): { options: Record<string, string | undefined>; lists: Record<string, string[]>; words: string[] } {
  try {
    const known = {
      ...Object.fromEntries(names.map((name) => [name, { type: 'string' as const }])),
      ...Object.fromEntries(lists.map((name) => [name, { type: 'string' as const, multiple: true }])),
    }
    const { values, positionals } = parseArgs({ args: [...args], options: known, allowPositionals: true, strict: true })
    const given = values as Record<string, string | string[] | undefined>
    return {
      options: Object.fromEntries(names.map((name) => [name, given[name] as string | undefined])),
      lists: Object.fromEntries(lists.map((name) => [name, (given[name] ?? []) as string[]])),
      words: positionals,
    }
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

// `rookery user add|list|passwd|disable|enable|remove`: accounts, of the server that runs on the data folder, or of its data at rest.
import { parseAccount } from '#embedded/requests.ts'
import { StanzaError } from '#xmpp/error.ts'
import { carryOut } from './carry-out.ts'
import { parseOptions, UsageError } from './command.ts'
import { askPassword } from './prompt.ts'

const ACTIONS: Readonly<Record<string, (args: readonly string[]) => Promise<void>>> = {
  add,
  list,
  passwd,
  disable,
  enable,
  remove,
}

export async function user(args: readonly string[]): Promise<number> {
  const [name = '', ...rest] = args
  const action = Object.hasOwn(ACTIONS, name) ? ACTIONS[name] : undefined
  if (action === undefined) throw new UsageError(name === '' ? 'user needs to know what to do' : `user knows no ${name}`)
  await action(rest)
  return 0
}

async function add(args: readonly string[]): Promise<void> {
  const { account, config, password } = await accountAndPassword('add', args)
  const where = await carryOut(config, { call: 'account.create', account, fields: { password } }, true)
  process.stdout.write(`${account} added ${where}\n`)
}

async function passwd(args: readonly string[]): Promise<void> {
  const { account, config, password } = await accountAndPassword('passwd', args)
  const where = await carryOut(config, { call: 'account.password', account, fields: { password } })
  process.stdout.write(`${account} has a new password ${where}\n`)
}

async function disable(args: readonly string[]): Promise<void> {
  const { options, words } = parseOptions(args, ['config', 'reason'])
  const account = theAccount('disable', words)
  const where = await carryOut(options.config, { call: 'account.disable', account, fields: { reason: options.reason } })
  process.stdout.write(`${account} disabled ${where}\n`)
}

async function enable(args: readonly string[]): Promise<void> {
  const { options, words } = parseOptions(args, ['config'])
  const account = theAccount('enable', words)
  const where = await carryOut(options.config, { call: 'account.enable', account })
  process.stdout.write(`${account} enabled ${where}\n`)
}

async function remove(args: readonly string[]): Promise<void> {
  const { options, words } = parseOptions(args, ['config'])
  const account = theAccount('remove', words)
  let rows: number | undefined
  const where = await carryOut(options.config, { call: 'account.remove', account }, false, (entry) => {
    if (rows === undefined) process.stderr.write(`${account} is gone; what is stored of it is being deleted\n`)
    rows = (entry as { rows: number }).rows
    if (process.stderr.isTTY) process.stderr.write(`\r${rows} rows`)
  })
  if (rows !== undefined && process.stderr.isTTY) process.stderr.write('\n')
  process.stdout.write(`${account} removed ${where}\n`)
}

/**
 * The accounts on standard output, one a line, in the order of their names in each domain; behind a tab, that one is disabled,
 * and why. The rest on standard error.
 */
async function list(args: readonly string[]): Promise<void> {
  const { options, words } = parseOptions(args, ['config'])
  const [domain, ...more] = words
  if (more.length > 0) throw new UsageError(`user list takes one domain, and no ${more[0]}`)
  const byDomain = new Map<string, string[]>()
  let count = 0
  const where = await carryOut(options.config, { call: 'account.list', fields: { domain } }, false, (entry) => {
    const { account, disabled } = typeof entry === 'string' ? { account: entry } : (entry as DisabledEntry)
    const line = disabled === undefined ? account : `${account}\tdisabled${disabled === '' ? '' : `: ${disabled}`}`
    const at = account.slice(account.indexOf('@') + 1)
    const lines = byDomain.get(at)
    if (lines === undefined) byDomain.set(at, [line])
    else lines.push(line)
    count++
  })
  process.stdout.on('error', () => {}) // `| head` has seen enough
  for (const lines of byDomain.values()) process.stdout.write(`${lines.sort().join('\n')}\n`)
  process.stderr.write(`${count === 1 ? '1 account' : `${count} accounts`} ${where}\n`)
}

interface DisabledEntry {
  readonly account: string
  readonly disabled?: string
}

async function accountAndPassword(
  action: string,
  args: readonly string[],
): Promise<{ account: string; config: string | undefined; password: string }> {
  const { options, words } = parseOptions(args, ['config', 'password'])
  const account = theAccount(action, words)
  return { account, config: options.config, password: options.password ?? (await askPassword(`Password of ${account}`)) }
}

function theAccount(action: string, words: readonly string[]): string {
  const [word, ...more] = words
  if (word === undefined) throw new UsageError(`user ${action} needs an account, NAME@DOMAIN`)
  if (more.length > 0) throw new UsageError(`user ${action} takes one account, and no ${more[0]}`)
  try {
    return parseAccount(word).bare
  } catch (error) {
    if (error instanceof StanzaError) throw new Error(error.text)
    throw error
  }
}

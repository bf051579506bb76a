// `rookery user add|list|passwd|remove`: accounts, of the server that runs on the data folder, or of its data at rest.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { createLog } from '#core/log.ts'
import { type AccountRequest, type Perform, parseAccount } from '#embedded/account-calls.ts'
import { openAtRest } from '#embedded/at-rest.ts'
import { StanzaError } from '#xmpp/error.ts'
import { parseOptions, UsageError } from './command.ts'
import { type Configured, readConfiguration } from './configured.ts'
import { connectControl } from './control-client.ts'
import { askPassword } from './prompt.ts'

const ACTIONS: Readonly<Record<string, (args: readonly string[]) => Promise<void>>> = { add, list, passwd, remove }
/** A server that starts or stops, and other commands at work on the data at rest, are waited for. */
const BUSY_WAIT_MS = 30_000
const BUSY_PAUSE_MS = 50

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

async function remove(args: readonly string[]): Promise<void> {
  const { options, words } = parseOptions(args, ['config'])
  const account = theAccount('remove', words)
  const where = await carryOut(options.config, { call: 'account.remove', account })
  process.stdout.write(`${account} removed ${where}\n`)
}

/** The accounts on standard output, one a line, in the order of their names in each domain; the rest on standard error. */
async function list(args: readonly string[]): Promise<void> {
  const { options, words } = parseOptions(args, ['config'])
  const [domain, ...more] = words
  if (more.length > 0) throw new UsageError(`user list takes one domain, and no ${more[0]}`)
  const byDomain = new Map<string, string[]>()
  let count = 0
  const where = await carryOut(options.config, { call: 'account.list', fields: { domain } }, false, (account) => {
    const at = account.slice(account.indexOf('@') + 1)
    const accounts = byDomain.get(at)
    if (accounts === undefined) byDomain.set(at, [account])
    else accounts.push(account)
    count++
  })
  process.stdout.on('error', () => {}) // `| head` has seen enough
  for (const accounts of byDomain.values()) process.stdout.write(`${accounts.sort().join('\n')}\n`)
  process.stderr.write(`${count === 1 ? '1 account' : `${count} accounts`} ${where}\n`)
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

interface Reached {
  readonly perform: Perform
  /** For the end of a sentence. */
  readonly where: string
  close(): Promise<void> | void
}

/** Performs one request, and says where. Throws Error with a sentence for whoever typed the command. */
async function carryOut(
  file: string | undefined,
  request: AccountRequest,
  mayBeFirst = false,
  onEntry: (entry: string) => void = () => {},
): Promise<string> {
  const reached = await reach(await readConfiguration(file), mayBeFirst)
  try {
    for await (const entry of reached.perform(request)) onEntry(entry)
  } catch (error) {
    if (!(error instanceof StanzaError)) throw error
    const why = error.text === '' ? `it could not be done (${error.condition}); the log says why` : error.text
    throw new Error(request.account === undefined ? why : `${request.account}: ${why}`, { cause: error })
  } finally {
    await reached.close()
  }
  return reached.where
}

async function reach({ config, modules }: Configured, mayBeFirst: boolean): Promise<Reached> {
  const log = createLog({ level: 'warn', pretty: true, write: (line) => void process.stderr.write(line) })
  const deadline = performance.now() + BUSY_WAIT_MS
  for (;;) {
    const running = await connectControl(config.data)
    if (running !== undefined) return { ...running, where: 'on the running server' }
    if (!mayBeFirst && !existsSync(join(config.data, 'rookery.sqlite'))) {
      throw new Error(
        `no server runs on ${config.data}, and none has: there are no accounts; --config FILE tells where the data is`,
      )
    }
    const atRest = await openAtRest(config, modules, log)
    if (atRest !== undefined) return { ...atRest, where: `in ${config.data}; no server runs on it` }
    if (performance.now() > deadline)
      throw new Error(`another rookery process is at work on ${config.data}; wait until it is done`)
    await new Promise((resume) => setTimeout(resume, BUSY_PAUSE_MS))
  }
}

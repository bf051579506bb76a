// `rookery session list|kick`: who is connected to the running server, and the end of it.
import type { SessionFacts } from '#core/administration.ts'
import { askRunning } from './carry-out.ts'
import { parseOptions, UsageError } from './command.ts'

const ACTIONS: Readonly<Record<string, (args: readonly string[]) => Promise<void>>> = { kick, list }

export async function session(args: readonly string[]): Promise<number> {
  const [name = '', ...rest] = args
  const action = Object.hasOwn(ACTIONS, name) ? ACTIONS[name] : undefined
  if (action === undefined) throw new UsageError(name === '' ? 'session needs to know what to do' : `session knows no ${name}`)
  await action(rest)
  return 0
}

/** One session a line on standard output, in the order of their addresses, the columns between tabs; the rest on standard error. */
async function list(args: readonly string[]): Promise<void> {
  const { options, words } = parseOptions(args, ['config', 'domain', 'account'])
  if (words.length > 0) throw new UsageError(`session list takes no ${words[0]}`)
  const { account, domain } = options
  if (account !== undefined && domain !== undefined) throw new UsageError('session list takes --account or --domain')
  const sessions: SessionFacts[] = []
  const request = { call: 'session.list', ...(account !== undefined && { account }), fields: { domain } }
  await askRunning(options.config, request, (entry) => void sessions.push(entry as SessionFacts))
  process.stdout.on('error', () => {}) // `| head` has seen enough
  sessions.sort((a, b) => (a.jid < b.jid ? -1 : 1))
  for (const one of sessions) process.stdout.write(`${lineOf(one)}\n`)
  process.stderr.write(`${counted(sessions.length, 'session')}\n`)
}

/** Address, since when, from where, over what, and what it shows. */
function lineOf({ jid, sinceMs, address, transport, encrypted, available, priority, detached }: SessionFacts): string {
  const over = transport === '' ? '' : encrypted === true ? `${transport}+tls` : transport
  const shows = (available ? `available (${priority})` : 'no presence') + (detached ? ', waits to be resumed' : '')
  return [jid, new Date(sinceMs).toISOString(), address || '-', over || '-', shows].join('\t')
}

async function kick(args: readonly string[]): Promise<void> {
  const { options, words } = parseOptions(args, ['config', 'reason'])
  const [address, ...more] = words
  if (address === undefined) throw new UsageError('session kick needs an address, NAME@DOMAIN or NAME@DOMAIN/RESOURCE')
  if (more.length > 0) throw new UsageError(`session kick takes one address, and no ${more[0]}`)
  const request = { call: 'session.kick', account: address, fields: { reason: options.reason } }
  const count = await askRunning(options.config, request)
  process.stdout.write(`${address}: ${counted(Number(count), 'session')} ended\n`)
}

function counted(count: number, what: string): string {
  return count === 1 ? `1 ${what}` : `${count} ${what}s`
}

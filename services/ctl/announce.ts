// `rookery announce TEXT`: a message to everybody who is online.
import type { Reached } from '#core/administration.ts'
import { askRunning } from './carry-out.ts'
import { parseOptions, UsageError } from './command.ts'

export async function announce(args: readonly string[]): Promise<number> {
  const { options, words } = parseOptions(args, ['config', 'domain'])
  const [text, ...more] = words
  if (text === undefined) throw new UsageError('announce needs a text')
  if (more.length > 0) throw new UsageError('announce takes one text: put it in quotes')
  const isTerminal = process.stderr.isTTY
  const request = { call: 'announce', fields: { text, domain: options.domain } }
  const reached = await askRunning(options.config, request, (entry) => {
    if (isTerminal) process.stderr.write(`\r${shown(entry as Reached)} so far`)
  })
  if (isTerminal) process.stderr.write('\r\x1b[K')
  process.stdout.write(`sent to ${shown(reached as Reached)}\n`)
  return 0
}

function shown({ accounts, sessions }: Reached): string {
  return `${accounts === 1 ? '1 account' : `${accounts} accounts`} in ${sessions === 1 ? '1 session' : `${sessions} sessions`}`
}

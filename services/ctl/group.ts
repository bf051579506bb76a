// `rookery group list|show|create|set|delete|add|remove`: groups of one organisation, whose members are in each other's rosters.
import { createInterface } from 'node:readline'
import type { GroupFacts } from '#core/groups/group-administration.ts'
import { MEMBERS_PER_CALL_MAX } from '#embedded/group-calls.ts'
import { carryOut, carryOutAll } from './carry-out.ts'
import { parseOptions, UsageError } from './command.ts'

const ACTIONS: Readonly<Record<string, (args: readonly string[]) => Promise<void>>> = {
  add: (args) => changeMembers('add', args),
  create: (args) => change('create', args),
  delete: remove,
  list,
  remove: (args) => changeMembers('remove', args),
  set: (args) => change('set', args),
  show,
}

/** Of the members in one request, which is one line of at most 32 KiB. */
const REQUEST_BYTES = 24 * 1024
const SETTINGS = ['name', 'description', 'seen-by', 'seen-by-groups'] as const

export async function group(args: readonly string[]): Promise<number> {
  const [name = '', ...rest] = args
  const action = Object.hasOwn(ACTIONS, name) ? ACTIONS[name] : undefined
  if (action === undefined) throw new UsageError(name === '' ? 'group needs to know what to do' : `group knows no ${name}`)
  await action(rest)
  return 0
}

/** One group a line on standard output, the columns between tabs: address, members, who sees it, name, description. */
async function list(args: readonly string[]): Promise<void> {
  const { options, words } = parseOptions(args, ['config'])
  const [domain, ...more] = words
  if (more.length > 0) throw new UsageError(`group list takes one domain, and no ${more[0]}`)
  const groups: GroupFacts[] = []
  const request = { call: 'group.list', fields: { domain } }
  const where = await carryOut(options.config, request, false, (entry) => void groups.push(entry as GroupFacts))
  process.stdout.on('error', () => {}) // `| head` has seen enough
  for (const one of groups)
    process.stdout.write(`${[one.group, one.members, seenBy(one), one.displayName, one.description].join('\t')}\n`)
  process.stderr.write(`${counted(groups.length, 'group')} ${where}\n`)
}

/** The members on standard output, one a line, as `group add GROUP -` takes them; what the group is on standard error. */
async function show(args: readonly string[]): Promise<void> {
  const { options, words } = parseOptions(args, ['config'])
  const account = theGroup('show', words)
  const members: string[] = []
  let facts: GroupFacts | undefined
  await carryOutAll(
    options.config,
    [{ call: 'group.show', account }],
    (entry) => void members.push(entry as string),
    (told) => {
      facts = told as GroupFacts
    },
  )
  process.stdout.on('error', () => {})
  if (members.length > 0) process.stdout.write(`${members.join('\n')}\n`)
  const { displayName, description } = facts!
  const title = description === '' ? displayName : `${displayName}: ${description}`
  process.stderr.write(`${title}\nseen by ${seenBy(facts!)}; ${counted(members.length, 'member')}\n`)
}

async function change(action: 'create' | 'set', args: readonly string[]): Promise<void> {
  const { options, words } = parseOptions(args, ['config', ...SETTINGS])
  const account = theGroup(action, words)
  if (action === 'set' && SETTINGS.every((name) => options[name] === undefined))
    throw new UsageError(`group set changes --${SETTINGS.join(', --')}: it needs one of them`)
  const listed = options['seen-by-groups']
  const fields = {
    displayName: options.name,
    description: options.description,
    seenBy: options['seen-by'],
    seenByGroups: listed?.split(',').filter((name) => name !== ''),
  }
  const where = await carryOut(options.config, { call: `group.${action}`, account, fields })
  process.stdout.write(`${account} ${action === 'create' ? 'created' : 'changed'} ${where}\n`)
}

async function remove(args: readonly string[]): Promise<void> {
  const { options, words } = parseOptions(args, ['config'])
  const account = theGroup('delete', words)
  const where = await carryOut(options.config, { call: 'group.delete', account })
  process.stdout.write(`${account} deleted ${where}\n`)
}

/** The accounts are words of the command, or lines of standard input where the only one is `-`. */
async function changeMembers(action: 'add' | 'remove', args: readonly string[]): Promise<void> {
  const { options, words } = parseOptions(args, ['config'])
  const [account, ...named] = words
  if (account === undefined) throw new UsageError(`group ${action} needs a group, NAME@DOMAIN`)
  if (named.length === 0) throw new UsageError(`group ${action} needs accounts, NAME@DOMAIN, or - to read them, one a line`)
  const members = named.length === 1 && named[0] === '-' ? await linesOfInput() : named
  const requests = portionsOf(members).map((members) => ({ call: `group.${action}`, account, fields: { members } }))
  let changed = 0
  const where = await carryOutAll(options.config, requests, undefined, (told) => {
    changed += Number(told)
  })
  const done = action === 'add' ? 'added to' : 'removed from'
  process.stdout.write(`${counted(changed, 'account')} ${done} ${account} ${where}\n`)
}

/** The first word of each line: what `user list` writes behind it of an account is left out. */
async function linesOfInput(): Promise<string[]> {
  const lines: string[] = []
  for await (const line of createInterface({ input: process.stdin })) {
    const [first = ''] = line.trim().split('\t')
    if (first !== '') lines.push(first)
  }
  return lines
}

/** As many as one request takes; one of none where there are none. */
function portionsOf(members: readonly string[]): string[][] {
  const portions: string[][] = [[]]
  let bytes = 0
  for (const member of members) {
    bytes += Buffer.byteLength(JSON.stringify(member)) + 1
    if (portions.at(-1)!.length === MEMBERS_PER_CALL_MAX || (bytes > REQUEST_BYTES && portions.at(-1)!.length > 0)) {
      portions.push([])
      bytes = Buffer.byteLength(JSON.stringify(member)) + 1
    }
    portions.at(-1)!.push(member)
  }
  return portions
}

function theGroup(action: string, words: readonly string[]): string {
  const [word, ...more] = words
  if (word === undefined) throw new UsageError(`group ${action} needs a group, NAME@DOMAIN`)
  if (more.length > 0) throw new UsageError(`group ${action} takes one group, and no ${more[0]}`)
  return word
}

function seenBy({ seenBy, seenByGroups }: GroupFacts): string {
  return seenBy === 'nobody' && seenByGroups.length > 0 ? seenByGroups.join(',') : [seenBy, ...seenByGroups].join(',')
}

function counted(count: number, what: string): string {
  return count === 1 ? `1 ${what}` : `${count} ${what}s`
}

// Calls of whoever runs the server about groups of a domain (core/groups/group-administration.ts). A group is named as NAME@DOMAIN where an
// account stands in other calls.
import { type GroupChange, groupsOf, parseGroup } from '#core/groups/group-administration.ts'
import { SEEN_BY, type SeenBy } from '#core/groups/groups.ts'
import type { Process } from '#core/process.ts'
import { StanzaError } from '#xmpp/error.ts'
import type { Jid } from '#xmpp/jid.ts'
import type { AccountRequest, Perform } from './account-calls.ts'
import { demandDomain, domainOf, type Fields, isRecord, parseAccount } from './requests.ts'

/** In one call, which is one line. */
export const MEMBERS_PER_CALL_MAX = 500

export function groupCalls(process: Process): Readonly<Record<string, Perform>> {
  const groups = groupsOf(process).administration
  const groupIn = ({ account }: AccountRequest): Jid => {
    if (typeof account !== 'string') throw new StanzaError('jid-malformed', 'the group is missing')
    const group = parseGroup(account)
    demandDomain(process, group.domain)
    return group
  }

  return {
    /** Of one domain, or all. Tells how many. */
    'group.list': async function* ({ fields }) {
      const { domain } = fieldsOf(fields)
      let count = 0
      for (const one of domain === undefined ? process.config.domains : [domainOf(process, domain)]) {
        const listed = await groups.list(one)
        count += listed.length
        yield* listed
      }
      return count
    },
    /** Its members, one an entry; tells what it is. */
    'group.show': async function* (request) {
      const group = groupIn(request)
      const facts = await groups.show(group)
      yield* await groups.members(group)
      return facts
    },
    'group.create': simple(async (request) => groups.create(groupIn(request), changeIn(fieldsOf(request.fields)))),
    'group.set': simple(async (request) => groups.set(groupIn(request), changeIn(fieldsOf(request.fields)))),
    'group.delete': simple(async (request) => groups.delete(groupIn(request))),
    /** Both tell how many it was of. */
    'group.add': simple(async (request) => groups.add(groupIn(request), membersIn(request))),
    'group.remove': simple(async (request) => groups.removeMembers(groupIn(request), membersIn(request))),
  }
}

function simple(call: (request: AccountRequest) => Promise<unknown>): Perform {
  // biome-ignore lint/correctness/useYield: it has nothing to list
  return async function* (request) {
    return (await call(request)) ?? null
  }
}

function fieldsOf(fields: unknown): Fields {
  return isRecord(fields) ? fields : {}
}

function changeIn({ displayName, description, seenBy, seenByGroups }: Fields): GroupChange {
  for (const text of [displayName, description, seenBy])
    if (text !== undefined && typeof text !== 'string') throw new StanzaError('bad-request', 'a setting is not a text')
  if (seenBy !== undefined && !SEEN_BY.includes(seenBy as SeenBy))
    throw new StanzaError('bad-request', `a group is seen by ${SEEN_BY.join(', ')}, and not by ${JSON.stringify(seenBy)}`)
  return {
    ...(displayName !== undefined && { displayName: displayName as string }),
    ...(description !== undefined && { description: description as string }),
    ...(seenBy !== undefined && { seenBy: seenBy as SeenBy }),
    ...(seenByGroups !== undefined && { seenByGroups: textsOf(seenByGroups) }),
  }
}

function membersIn({ fields }: AccountRequest): readonly Jid[] {
  const texts = textsOf(fieldsOf(fields).members)
  if (texts.length > MEMBERS_PER_CALL_MAX) throw new StanzaError('bad-request', `at most ${MEMBERS_PER_CALL_MAX} members at once`)
  return texts.map((text) => parseAccount(text))
}

function textsOf(value: unknown): readonly string[] {
  if (Array.isArray(value) && value.every((text) => typeof text === 'string')) return value
  throw new StanzaError('bad-request', 'that is no list of texts')
}

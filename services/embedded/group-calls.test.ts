import { describe, expect, test } from 'vitest'
import { harness } from '#test/harness.ts'
import type { StanzaError } from '#xmpp/error.ts'
import { type AccountRequest, accountCalls } from './account-calls.ts'
import { MEMBERS_PER_CALL_MAX } from './group-calls.ts'

const CONFIG = { domains: ['localhost', 'example.org'] }

/** A server, and the requests of a command to it. */
async function serve() {
  const server = await harness([], { config: CONFIG })
  const perform = accountCalls(server.process)
  async function ask(request: AccountRequest): Promise<{ entries: unknown[]; told: unknown }> {
    const performing = perform(request)
    const entries: unknown[] = []
    for (;;) {
      const { value, done } = await performing.next()
      if (done) return { entries, told: value }
      entries.push(value)
    }
  }
  return { server, ask, [Symbol.asyncDispose]: () => server.stop() }
}

describe('calls about groups', () => {
  test('make, change, fill and list them, and tell who is in them', async () => {
    await using place = await serve()
    const { server, ask } = place
    for (const name of ['romeo', 'juliet']) await server.account(`${name}@localhost`)
    const account = 'verona@localhost'
    await ask({ call: 'group.create', account, fields: { displayName: 'Verona' } })
    const members = ['romeo@localhost', 'Juliet@localhost']
    expect(await ask({ call: 'group.add', account, fields: { members } })).toEqual({ entries: [], told: 2 })
    await ask({ call: 'group.set', account, fields: { description: 'All of us', seenByGroups: ['verona'] } })
    const facts = {
      group: account,
      displayName: 'Verona',
      description: 'All of us',
      seenBy: 'members',
      seenByGroups: ['verona'],
      members: 2,
    }
    expect(await ask({ call: 'group.list' })).toEqual({ entries: [facts], told: 1 })
    expect(await ask({ call: 'group.list', fields: { domain: 'example.org' } })).toEqual({ entries: [], told: 0 })
    expect(await ask({ call: 'group.show', account })).toEqual({ entries: ['juliet@localhost', 'romeo@localhost'], told: facts })
    expect(await ask({ call: 'group.remove', account, fields: { members } })).toEqual({ entries: [], told: 2 })
    await ask({ call: 'group.delete', account })
    expect(await ask({ call: 'group.list' })).toEqual({ entries: [], told: 0 })
  })

  const staff = 'staff@localhost'
  test.each<[string, AccountRequest, string, string]>([
    ['no group', { call: 'group.show' }, 'jid-malformed', 'the group is missing'],
    ['a group that is no address', { call: 'group.create', account: 'new' }, 'jid-malformed', 'a group is NAME@DOMAIN'],
    ['a group elsewhere', { call: 'group.create', account: 'new@elsewhere.example' }, 'item-not-found', 'is not a domain'],
    [
      'a list of a domain elsewhere',
      { call: 'group.list', fields: { domain: 'elsewhere.example' } },
      'item-not-found',
      'is not a domain',
    ],
    ['one that is there', { call: 'group.create', account: staff }, 'conflict', 'there is a group staff@localhost'],
    ['one that is not there', { call: 'group.delete', account: 'board@localhost' }, 'item-not-found', 'there is no group'],
    ['a setting that is no text', { call: 'group.set', account: staff, fields: { displayName: 1 } }, 'bad-request', 'not a text'],
    [
      'seen by friends',
      { call: 'group.set', account: staff, fields: { seenBy: 'friends' } },
      'bad-request',
      'and not by "friends"',
    ],
    [
      'groups that are no list',
      { call: 'group.set', account: staff, fields: { seenByGroups: 'board' } },
      'bad-request',
      'no list',
    ],
    [
      'a group that is to see it and is not there',
      { call: 'group.set', account: staff, fields: { seenByGroups: ['board'] } },
      'item-not-found',
      'board@localhost',
    ],
    ['members that are no list', { call: 'group.add', account: staff, fields: { members: {} } }, 'bad-request', 'no list'],
    [
      'a member that is no account',
      { call: 'group.add', account: staff, fields: { members: ['nobody@localhost'] } },
      'item-not-found',
      'nobody@localhost',
    ],
    [
      'a member of another domain',
      { call: 'group.add', account: staff, fields: { members: ['a@example.org'] } },
      'not-acceptable',
      'no account of localhost',
    ],
    [
      'a member with a resource',
      { call: 'group.add', account: staff, fields: { members: ['a@localhost/b'] } },
      'jid-malformed',
      'NAME@DOMAIN',
    ],
    [
      'too many members',
      { call: 'group.add', account: staff, fields: { members: Array(MEMBERS_PER_CALL_MAX + 1).fill('a@localhost') } },
      'bad-request',
      'at once',
    ],
  ])('%s is refused', async (_what, request, condition, text) => {
    await using place = await serve()
    await place.ask({ call: 'group.create', account: staff })
    const refusal = expect.objectContaining({ condition, text: expect.stringContaining(text) }) as StanzaError
    await expect(place.ask(request)).rejects.toEqual(refusal)
    expect((await place.ask({ call: 'group.show', account: staff })).entries).toEqual([])
  })
})

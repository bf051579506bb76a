import { describe, expect, test } from 'vitest'
import { groupsOf } from '#core/groups/group-administration.ts'
import { give, given } from '#test/commands.ts'
import { harness, type TestClient } from '#test/harness.ts'
import { formElement, parseForm, values } from '#xmpp/form.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_DATA } from '#xmpp/ns.ts'
import { childOf, type Element, el } from '#xmpp/stanza.ts'
import commands from './commands.ts'
import disco from './disco.ts'
import groups from './group-commands.ts'

const NS = 'http://jabber.org/protocol/commands'
const node = (name: string): string => `https://rookery.invalid/commands#${name}`

/** With the administrator's client. */
async function serve(...accounts: readonly string[]) {
  const config = { admins: ['bard@example.org'], domains: ['example.org', 'example.net'] }
  const server = await harness([disco, commands, groups], { config })
  for (const account of accounts) await server.account(account)
  const { administration } = groupsOf(server.process)
  const bard = await server.online('bard@example.org/globe')
  return { server, bard, administration, [Symbol.asyncDispose]: () => server.stop() }
}

/** Gives a command of two forms. */
async function giveTwice(client: TestClient, name: string, ...filled: readonly Record<string, string[]>[]) {
  let answer = (await client.iq('set', el('command', NS, { node: node(name) }), 'example.org')) as Element
  const offered = []
  for (const fields of filled) {
    offered.push(parseForm(childOf(answer, 'x', NS_DATA)!))
    const form = {
      type: 'submit',
      instructions: [],
      fields: Object.entries(fields).map(([name, values]) => ({ var: name, values })),
    }
    const { sessionid } = answer.attrs
    const next = el('command', NS, { node: node(name), sessionid, action: 'execute' }, formElement(form as never))
    answer = (await client.iq('set', next, 'example.org')) as Element
  }
  return { answer, offered }
}

describe('groups, by commands', () => {
  test('are made, filled, listed, changed and deleted', async () => {
    await using place = await serve('romeo@example.org', 'juliet@example.org')
    const { bard, administration } = place
    await given(bard, node('create-group'), { name: ['staff'], displayname: ['The Staff'], seenby: ['members'] })
    const accountjids = ['romeo@example.org', 'Juliet@example.org']
    expect((await given(bard, node('add-group-members'), { name: ['staff'], accountjids })).note).toBe('Added: 2.')
    const listed = await given(bard, node('list-groups'))
    expect(listed.form!.items!.map((item) => item.map(({ values }) => values[0]))).toEqual([
      ['staff', 'The Staff', '', 'members', '', '2'],
    ])
    const members = (await given(bard, node('list-group-members'), { name: ['staff'] })).form!
    expect(values(members, 'accountjids')).toEqual(['juliet@example.org', 'romeo@example.org'])

    const changed = await giveTwice(
      bard,
      'change-group',
      { name: ['staff'] },
      { description: ['All of us'], seenby: ['everybody'] },
    )
    expect(changed.answer.attrs.status).toBe('completed')
    expect(values(changed.offered[1]!, 'displayname')).toEqual(['The Staff'])
    expect(await administration.show(parseJid('staff@example.org'))).toMatchObject({
      displayName: 'The Staff',
      description: 'All of us',
      seenBy: 'everybody',
    })
    const removed = await given(bard, node('remove-group-members'), { name: ['staff'], accountjids: ['romeo@example.org'] })
    expect(removed.note).toBe('Removed: 1.')
    await given(bard, node('delete-group'), { name: ['staff'] })
    expect((await given(bard, node('list-groups'))).form!.items ?? []).toEqual([])
  })

  test('are an administrator’s to see and to change, of his domain', async () => {
    await using place = await serve()
    const romeo = await place.server.online('romeo@example.org/orchard')
    for (const name of ['list-groups', 'create-group', 'change-group', 'delete-group', 'list-group-members', 'add-group-members'])
      expect(await give(romeo, node(name))).toMatchObject({ condition: 'forbidden' })
    expect(await give(place.bard, node('create-group'), { name: ['staff'] }, 'example.net')).toMatchObject({
      condition: 'forbidden',
    })
    const elsewhere = await give(place.bard, node('create-group'), { name: ['staff@example.net'] })
    expect(elsewhere).toMatchObject({ condition: 'not-allowed' })
  })

  test.each<[string, string, Record<string, string[]>, string]>([
    ['one that is there', 'create-group', { name: ['staff'] }, 'conflict'],
    ['a name that is none', 'create-group', { name: ['a b'] }, 'jid-malformed'],
    ['a display name of nothing', 'create-group', { name: ['new'], displayname: [' '] }, 'not-acceptable'],
    ['to be seen by a group that is not there', 'create-group', { name: ['new'], seenbygroups: ['board'] }, 'item-not-found'],
    ['to be seen by somebody else', 'create-group', { name: ['new'], seenby: ['friends'] }, 'bad-request'],
    ['a group that is not offered', 'delete-group', { name: ['board'] }, 'bad-request'],
    [
      'a member that is no account',
      'add-group-members',
      { name: ['staff'], accountjids: ['nobody@example.org'] },
      'item-not-found',
    ],
    ['a member with a resource', 'add-group-members', { name: ['staff'], accountjids: ['a@example.org/b'] }, 'not-acceptable'],
    ['a member of another domain', 'add-group-members', { name: ['staff'], accountjids: ['a@example.net'] }, 'not-acceptable'],
  ])('%s is refused', async (_what, name, fields, condition) => {
    await using place = await serve()
    await place.administration.create(parseJid('staff@example.org'))
    expect(await give(place.bard, node(name), fields)).toMatchObject({ condition })
  })

  test('where there is none, there is none to choose', async () => {
    await using place = await serve()
    expect(await give(place.bard, node('delete-group'))).toMatchObject({
      condition: 'item-not-found',
      text: expect.stringContaining('example.org has no groups'),
    })
  })
})

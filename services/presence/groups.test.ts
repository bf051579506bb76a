import { describe, expect, test } from 'vitest'
import { type GroupAdministration, type GroupChange, groupsOf } from '#core/groups/group-administration.ts'
import disco from '#modules/disco.ts'
import { memoryTable } from '#table/memory.ts'
import { isCluster } from '#test/form.ts'
import { harness, type Refusal, type TestClient, type TestServer } from '#test/harness.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_ROSTER } from '#xmpp/ns.ts'
import { childrenOf, type Element, el, type Stanza } from '#xmpp/stanza.ts'

const STAFF = parseJid('staff@example.org')
const at = (name: string): string => `${name}@example.org`

const query = (ver?: string, ...items: Element[]): Element => el('query', NS_ROSTER, { ver }, ...items)
const item = (jid: string, attrs: Record<string, string> = {}, ...groups: string[]): Element =>
  el('item', NS_ROSTER, { jid, ...attrs }, ...groups.map((group) => el('group', NS_ROSTER, {}, group)))
const isPush = ({ name, type, child }: Stanza): boolean => name === 'iq' && type === 'set' && child === `{${NS_ROSTER}}query`
const pushes = ({ received }: TestClient): Element[] => received.filter(isPush).map((push) => push.tree()[0]!)

/** `juliet: both "Juliet" Friends, Family`, of each item. */
const itemsOf = (roster: Element): string[] =>
  childrenOf(roster, 'item', NS_ROSTER).map(({ attrs, children }) => {
    const groups = (children as Element[]).map((group) => group.children.join('')).join(', ')
    const name = attrs.name === undefined ? '' : ` "${attrs.name}"`
    return `${attrs.jid!.split('@')[0]}: ${attrs.subscription}${name}${groups && ` ${groups}`}`
  })
const pushed = (client: TestClient): string[] => pushes(client).flatMap(itemsOf)

/** What a client has last heard of each resource. */
function seen(client: TestClient): Record<string, string> {
  const presences = client.received.filter(({ name, from }) => name === 'presence' && from.bare !== client.jid.bare)
  return Object.fromEntries(presences.map(({ from, type }) => [from.full, type]))
}

const roster = async (client: TestClient): Promise<string[]> => itemsOf(await client.get(query())).sort()

class Stage implements AsyncDisposable {
  readonly server: TestServer
  readonly groups: GroupAdministration

  constructor(server: TestServer) {
    this.server = server
    this.groups = groupsOf(server.process).administration
  }

  async group(name: string, members: readonly string[], change: GroupChange = {}): Promise<void> {
    for (const member of members) if (!(await this.server.exists(at(member)))) await this.server.account(at(member))
    const jid = parseJid(at(name))
    await this.groups.create(jid, { displayName: name.toUpperCase(), ...change })
    await this.groups.add(
      jid,
      members.map((member) => parseJid(at(member))),
    )
    await this.server.quiet()
  }

  async add(group: string, ...members: string[]): Promise<void> {
    await this.groups.add(
      parseJid(at(group)),
      members.map((member) => parseJid(at(member))),
    )
    await this.server.quiet()
  }

  async remove(group: string, ...members: string[]): Promise<void> {
    await this.groups.removeMembers(
      parseJid(at(group)),
      members.map((member) => parseJid(at(member))),
    )
    await this.server.quiet()
  }

  /** One who has asked for the roster, and is available. */
  async comes(name: string): Promise<TestClient> {
    const client = await this.server.connect(`${at(name)}/home`)
    await client.get(query())
    client.available()
    await this.server.quiet()
    return client
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.server.stop()
  }
}

async function open(...options: Parameters<typeof harness>): Promise<Stage> {
  return new Stage(await harness(...options))
}

describe('what is in the roster', () => {
  test('members of a group are contacts of each other, with nothing written for any of them', async () => {
    const table = memoryTable()
    await using stage = await open([], { table })
    await stage.group('staff', ['romeo', 'juliet', 'nurse'])
    expect(await roster(await stage.comes('romeo'))).toEqual(['juliet: both STAFF', 'nurse: both STAFF'])
    expect(await roster(await stage.comes('paris'))).toEqual([])
    for await (const { sk } of table.query('a#romeo@example.org')) expect(sk).toBe('account')
  })

  test('a group that others see: they see its members and are not seen', async () => {
    await using stage = await open([])
    await stage.group('capulet', ['juliet'])
    await stage.group('servants', ['nurse', 'peter'], { seenByGroups: ['capulet'] })
    await stage.group('princes', ['escalus'], { seenBy: 'everybody' })
    expect(await roster(await stage.comes('juliet'))).toEqual(['escalus: to PRINCES', 'nurse: to SERVANTS', 'peter: to SERVANTS'])
    expect(await roster(await stage.comes('nurse'))).toEqual(['escalus: to PRINCES', 'peter: both SERVANTS'])
    expect(await roster(await stage.comes('escalus'))).toEqual([])
  })

  test('a contact of several groups is one item, and one of the user’s own has both names', async () => {
    await using stage = await open([])
    await stage.group('staff', ['romeo', 'juliet'])
    await stage.group('dancers', ['romeo', 'juliet'])
    const romeo = await stage.comes('romeo')
    expect(await romeo.iq('set', query(undefined, item(at('juliet'), { name: 'My Love' }, 'Verona', 'STAFF')))).toBeUndefined()
    await stage.server.quiet()
    expect(pushed(romeo)).toEqual(['juliet: both "My Love" Verona, STAFF, DANCERS'])
    expect(await roster(romeo)).toEqual(['juliet: both "My Love" Verona, STAFF, DANCERS'])
    await stage.groups.delete(STAFF)
    await stage.groups.delete(parseJid(at('dancers')))
    await stage.server.quiet()
    expect(await roster(romeo)).toEqual(['juliet: none "My Love" Verona'])
  })

  test('a client that sends back what it was given stores nothing, and is told how it is', async () => {
    const table = memoryTable()
    await using stage = await open([], { table })
    await stage.group('staff', ['romeo', 'juliet'])
    const romeo = await stage.comes('romeo')
    expect(await romeo.iq('set', query(undefined, item(at('juliet'))))).toBeUndefined()
    expect(pushed(romeo)).toEqual(['juliet: both STAFF'])
    for await (const { sk } of table.query('a#romeo@example.org')) expect(sk).toBe('account')
  })

  test('RFC 6121 §2.5: one that a group gives cannot be removed; when no group does, he can', async () => {
    await using stage = await open([])
    await stage.group('staff', ['romeo', 'juliet'])
    const romeo = await stage.comes('romeo')
    await romeo.iq('set', query(undefined, item(at('juliet'), { name: 'Juliet' })))
    const remove = () => romeo.iq('set', query(undefined, item(at('juliet'), { subscription: 'remove' })))
    expect(await remove()).toMatchObject({ condition: 'not-acceptable', text: expect.stringContaining('STAFF') })
    expect(await roster(romeo)).toEqual(['juliet: both "Juliet" STAFF'])
    await stage.remove('staff', 'juliet')
    expect(await remove()).toBeUndefined()
    expect(await roster(romeo)).toEqual([])
  })

  test('what does not fit into one answer comes in pushes behind it, and only the last has the version', async () => {
    await using stage = await open([])
    const long = (n: number) => `${n}`.padStart(5, '0').padEnd(900, 'x')
    const table = stage.server.process.table
    const parts: string[] = []
    for (let part = 0; part < 5; part++) {
      const locals = Array.from({ length: 200 }, (_, n) => long(part * 200 + n))
      const value = Buffer.from(JSON.stringify(part === 4 ? [...locals, 'romeo'] : locals))
      await table.put({ pk: 'g#example.org', sk: `staff/p${part}`, version: 'v', value })
      parts.push(`p${part}`)
    }
    const head = { displayName: 'Staff', description: '', seenBy: 'members', seenByGroups: [], parts }
    await table.put({ pk: 'g#example.org', sk: 'staff/r', version: 'v', value: Buffer.from(JSON.stringify(head)) })
    await table.put({ pk: 'o#groups', sk: 'example.org', version: 'v', value: Buffer.from('[["staff","r",1001]]') })
    stage.server.process.bus.publish('groups', Buffer.from('example.org'))
    const romeo = await stage.server.connect(`${at('romeo')}/home`)
    await stage.server.quiet()
    const first = await romeo.get(query(''))
    await stage.server.quiet()
    const rest = pushes(romeo)
    expect(rest.length).toBeGreaterThan(0)
    expect(new Set([...itemsOf(first), ...rest.flatMap(itemsOf)]).size).toBe(1_000)
    const versions = new Set([first, ...rest].map(({ attrs }) => attrs.ver))
    expect(versions.size).toBe(2)
    expect(await romeo.iq('get', query(rest.at(-1)!.attrs.ver))).toBeUndefined()
    expect(childrenOf(await romeo.get(query(first.attrs.ver)), 'item', NS_ROSTER).length).toBeGreaterThan(500)
  })
})

describe('RFC 6121 §2.6: the version of a roster with groups', () => {
  test('is the same while they are, and another when one changes that matters; then all is given', async () => {
    await using stage = await open([])
    await stage.group('staff', ['romeo', 'juliet'])
    await stage.group('other', ['paris', 'tybalt'])
    const romeo = await stage.server.connect(`${at('romeo')}/home`)
    const { ver } = (await romeo.get(query(''))).attrs
    await stage.server.account(at('benvolio'))
    await stage.add('other', 'benvolio')
    expect(await romeo.iq('get', query(ver))).toBeUndefined()
    await stage.add('staff', 'benvolio')
    expect(itemsOf(await romeo.get(query(ver))).sort()).toEqual(['benvolio: both STAFF', 'juliet: both STAFF'])
  })

  test('a change of the user’s own is told as a change, as it is without groups', async () => {
    await using stage = await open([])
    await stage.group('staff', ['romeo', 'juliet', 'nurse'])
    const romeo = await stage.server.connect(`${at('romeo')}/home`)
    await romeo.iq('set', query(undefined, item(at('nurse'), { name: 'Nurse' })))
    const { ver } = (await romeo.get(query(''))).attrs
    await romeo.iq('set', query(undefined, item(at('nurse'), { name: 'Angelica' })))
    await stage.server.quiet()
    romeo.received.length = 0
    expect(await romeo.iq('get', query(ver))).toBeUndefined()
    await stage.server.quiet()
    expect(pushed(romeo)).toEqual(['nurse: both "Angelica" STAFF'])
    expect(await romeo.iq('get', query(pushes(romeo)[0]!.attrs.ver))).toBeUndefined()
  })
})

describe('when a group changes, those who are connected', () => {
  test('are pushed what is another for them, with a version that is current, and see who is there', async () => {
    await using stage = await open([])
    await stage.group('staff', ['romeo', 'juliet'])
    const [romeo, juliet, paris] = [await stage.comes('romeo'), await stage.comes('juliet'), await stage.comes('paris')]
    for (const client of [romeo, juliet, paris]) client.received.length = 0
    await stage.add('staff', 'paris')
    expect([pushed(romeo), pushed(juliet), pushed(paris).sort()]).toEqual([
      ['paris: both STAFF'],
      ['paris: both STAFF'],
      ['juliet: both STAFF', 'romeo: both STAFF'],
    ])
    expect(seen(romeo)).toEqual({ 'paris@example.org/home': '' })
    expect(seen(paris)).toEqual({ 'romeo@example.org/home': '', 'juliet@example.org/home': '' })
    for (const client of [romeo, paris]) expect(await client.iq('get', query(pushes(client).at(-1)!.attrs.ver))).toBeUndefined()
    const partly = pushes(paris)[0]!.attrs.ver // had he lost his connection behind it
    expect(itemsOf(await paris.get(query(partly)))).toHaveLength(2)

    for (const client of [romeo, juliet, paris]) client.received.length = 0
    await stage.remove('staff', 'romeo')
    expect([pushed(romeo).sort(), pushed(juliet), pushed(paris)]).toEqual([
      ['juliet: remove', 'paris: remove'],
      ['romeo: remove'],
      ['romeo: remove'],
    ])
    expect(seen(romeo)).toEqual({ 'juliet@example.org/home': 'unavailable', 'paris@example.org/home': 'unavailable' })
    expect(seen(juliet)).toEqual({ 'romeo@example.org/home': 'unavailable' })
  })

  test('hear another name of it, and nothing of what does not concern them', async () => {
    await using stage = await open([])
    await stage.group('staff', ['romeo', 'juliet'])
    const [romeo, paris] = [await stage.comes('romeo'), await stage.comes('paris')]
    await stage.groups.set(STAFF, { displayName: 'Everybody here' })
    await stage.groups.set(STAFF, { description: 'The same' })
    await stage.server.quiet()
    expect([pushed(romeo), pushed(paris)]).toEqual([['juliet: both Everybody here'], []])
  })

  test('one whom a subscription lets see goes on seeing when the group is gone', async () => {
    await using stage = await open([])
    await stage.group('staff', ['romeo', 'juliet', 'nurse'])
    const [romeo, juliet] = [await stage.comes('romeo'), await stage.comes('juliet')]
    await befriend(stage, juliet, romeo)
    for (const client of [romeo, juliet]) client.received.length = 0
    await stage.groups.delete(STAFF)
    await stage.server.quiet()
    expect([pushed(romeo).sort(), pushed(juliet).sort()]).toEqual([
      ['juliet: to', 'nurse: remove'],
      ['nurse: remove', 'romeo: from'],
    ])
    expect([seen(romeo), seen(juliet)]).toEqual([{}, { 'romeo@example.org/home': 'unavailable' }])
  })

  /** Juliet approves of Romeo beforehand, and he has it of her: a subscription beside what the group gives. */
  async function befriend(stage: Stage, approving: TestClient, asking: TestClient): Promise<void> {
    await stage.remove('staff', 'romeo')
    asking.send(asking.stanza('presence', { to: approving.jid, type: 'subscribe' }))
    await stage.server.quiet()
    approving.send(approving.stanza('presence', { to: asking.jid, type: 'subscribed' }))
    await stage.server.quiet()
    await stage.add('staff', 'romeo')
  }
})

describe('presence', () => {
  test('goes to the members, and to those who see the group and are not seen', async () => {
    await using stage = await open([])
    await stage.group('capulet', ['juliet'])
    await stage.group('servants', ['nurse', 'peter'], { seenByGroups: ['capulet'] })
    const [juliet, nurse, peter] = [await stage.comes('juliet'), await stage.comes('nurse'), await stage.comes('peter')]
    expect(seen(juliet)).toEqual({ 'nurse@example.org/home': '', 'peter@example.org/home': '' })
    expect(seen(nurse)).toEqual({ 'peter@example.org/home': '' })
    expect(seen(peter)).toEqual({ 'nurse@example.org/home': '' })
    nurse.disconnect()
    await stage.server.quiet()
    expect(seen(juliet)['nurse@example.org/home']).toBe('unavailable')
  })

  test('of a group that everybody sees is shown to whoever comes, and so is what changes', async () => {
    await using stage = await open([])
    await stage.group('princes', ['escalus'], { seenBy: 'everybody' })
    const escalus = await stage.comes('escalus')
    const romeo = await stage.comes('romeo')
    expect(seen(romeo)).toEqual({ 'escalus@example.org/home': '' })
    expect(seen(escalus)).toEqual({})
    escalus.send(escalus.stanza('presence', {}, el('show', '', {}, 'away')))
    await stage.server.quiet()
    const shows = romeo.received.filter(({ name }) => name === 'presence').map((presence) => presence.tree()[0]?.children[0])
    expect(shows).toContain('away')
    escalus.disconnect()
    await stage.server.quiet()
    expect(seen(romeo)).toEqual({ 'escalus@example.org/home': 'unavailable' })
  })

  test('of one who alone comes into a group that everybody sees is shown to those who are there, until he leaves it', async () => {
    await using stage = await open([])
    const [escalus, romeo] = [await stage.comes('escalus'), await stage.comes('romeo')]
    await stage.group('princes', ['escalus'], { seenBy: 'everybody' })
    await stage.server.quiet()
    expect([seen(romeo), seen(escalus)]).toEqual([{ 'escalus@example.org/home': '' }, {}])
    await stage.remove('princes', 'escalus')
    expect(seen(romeo)).toEqual({ 'escalus@example.org/home': 'unavailable' })
  })

  test('XEP-0030 §8: who sees an account by a group may ask about it', async () => {
    await using stage = await open([disco])
    await stage.group('staff', ['romeo', 'juliet'])
    const info = el('query', 'http://jabber.org/protocol/disco#info')
    const [romeo, paris] = [await stage.comes('romeo'), await stage.comes('paris')]
    expect(await romeo.get(info, at('juliet'))).toMatchObject({ name: 'query' })
    expect(await paris.iq('get', info, at('juliet'))).toMatchObject({ condition: 'service-unavailable' })
  })
})

describe('subscriptions beside a group', () => {
  test('who asks for what a group gives has it, and nobody is asked', async () => {
    await using stage = await open([])
    await stage.group('staff', ['romeo', 'juliet'])
    const [romeo, juliet] = [await stage.comes('romeo'), await stage.comes('juliet')]
    for (const client of [romeo, juliet]) client.received.length = 0
    romeo.send(romeo.stanza('presence', { to: parseJid(at('juliet')), type: 'subscribe' }))
    await stage.server.quiet()
    expect(juliet.received).toEqual([])
    expect(seen(romeo)).toEqual({ 'juliet@example.org/home': '' })
    await stage.groups.delete(STAFF)
    await stage.server.quiet()
    expect([await roster(romeo), await roster(juliet)]).toEqual([[], []])
  })

  test('who takes back a subscription is seen by the group all the same', async () => {
    await using stage = await open([])
    const [romeo, juliet] = [await stage.comes('romeo'), await stage.comes('juliet')]
    romeo.send(romeo.stanza('presence', { to: juliet.jid, type: 'subscribe' }))
    await stage.server.quiet()
    juliet.send(juliet.stanza('presence', { to: romeo.jid, type: 'subscribed' }))
    await stage.server.quiet()
    await stage.group('staff', ['romeo', 'juliet'])
    romeo.received.length = 0
    juliet.send(juliet.stanza('presence', { to: romeo.jid, type: 'unsubscribed' }))
    await stage.server.quiet()
    expect(seen(romeo)['juliet@example.org/home']).toBeUndefined()
    expect(await roster(juliet)).toEqual(['romeo: both STAFF'])
  })
})

describe('accounts that are deleted', () => {
  test('leave their groups: who has the name next is in none', async () => {
    await using stage = await open([])
    await stage.group('staff', ['romeo', 'juliet'])
    const romeo = await stage.comes('romeo')
    await stage.server.caller.ask('router', at('juliet'), 'account.remove', { waitMs: 2_000 })
    await stage.server.quiet()
    expect(pushed(romeo)).toEqual(['juliet: remove'])
    expect(await stage.groups.members(STAFF)).toEqual([at('romeo')])
    expect(await roster(await stage.comes('juliet'))).toEqual([])
  })
})

test('a group of a thousand costs each of them no row and no map of his own', async () => {
  const table = memoryTable()
  await using stage = await open([], { table })
  const names = Array.from({ length: 1_000 }, (_, n) => `user${n}`)
  for (const name of names) {
    const value = Buffer.from(JSON.stringify({ credentials: {}, createdAt: 0 }))
    await table.put({ pk: `a#${at(name)}`, sk: 'account', version: '0', value })
  }
  await stage.groups.create(STAFF)
  await stage.groups.add(
    STAFF,
    names.map((name) => parseJid(at(name))),
  )
  await stage.server.quiet()
  const clients = []
  for (const name of names.slice(0, isCluster ? 5 : 20)) clients.push(await stage.comes(name))
  for (const client of clients) {
    expect(await roster(client)).toHaveLength(999)
    expect(Object.keys(seen(client))).toHaveLength(clients.length - 1)
  }
  for (const name of names.slice(0, clients.length))
    for await (const { sk } of table.query(`a#${at(name)}`)) expect(sk).toBe('account')
})

test('an account of another domain is in no group of this one', async () => {
  await using stage = await open([], { config: { domains: ['example.org', 'example.net'] } })
  await stage.group('princes', ['escalus'], { seenBy: 'everybody' })
  const iago = await stage.server.connect('iago@example.net/venice')
  expect(await roster(iago)).toEqual([])
  const escalus = await stage.comes('escalus')
  iago.send(iago.stanza('presence', { to: parseJid(at('escalus')), type: 'subscribe' }))
  await stage.server.quiet()
  expect(escalus.received.filter(({ type }) => type === 'subscribe')).toHaveLength(1)
  expect((await iago.iq('get', query(), at('escalus'))) as Refusal).toMatchObject({ condition: 'forbidden' })
})

import { describe, expect, test } from 'vitest'
import { manualClock } from '#core/clock.ts'
import { decodeCredentials, verifyPassword } from '#core/storage/scram-keys.ts'
import { memoryTable } from '#table/memory.ts'
import type { Table } from '#table/table.ts'
import { give, given } from '#test/commands.ts'
import { type HarnessOptions, harness, type TestServer } from '#test/harness.ts'
import { formTypeOf, values } from '#xmpp/form.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_DATA, NS_ROSTER } from '#xmpp/ns.ts'
import { childOf, childrenOf, type Element, el } from '#xmpp/stanza.ts'
import { parseDateTime } from '#xmpp/time.ts'
import administration from './administration.ts'
import commands from './commands.ts'
import disco from './disco.ts'
import last from './last.ts'

const NS = 'http://jabber.org/protocol/admin'
const node = (name: string) => `${NS}#${name}`

/** With the administrator's client. */
async function serve(options: HarnessOptions = {}) {
  const config = { admins: ['bard@example.org'], ...options.config }
  const server = await harness([disco, commands, administration, last], { ...options, config })
  return { server, bard: await server.online('bard@example.org/globe'), [Symbol.asyncDispose]: () => server.stop() }
}

async function hasPassword(server: TestServer, account: string, secret: string): Promise<boolean> {
  const stored = await server.caller.ask('router', account, 'account.credentials', {})
  return stored !== null && verifyPassword(decodeCredentials(stored), secret)
}

describe('XEP-0133 §3 who may', () => {
  test('nobody but an administrator is shown a command, or may give one', async () => {
    await using place = await serve()
    const iago = await place.server.connect('iago@example.org/venice')
    const items = el('query', 'http://jabber.org/protocol/disco#items', { node: 'http://jabber.org/protocol/commands' })
    expect((await iago.get(items, 'example.org')).children).toEqual([])
    const all = (await place.bard.get(items, 'example.org')).children.map((item) => (item as Element).attrs.node!)
    expect(all).toHaveLength(20)
    for (const one of all) expect(await give(iago, one)).toMatchObject({ condition: 'forbidden' })
  })

  test('§4.6 get-user-password, which was retracted, is item-not-found', async () => {
    await using place = await serve()
    expect(await give(place.bard, node('get-user-password'))).toMatchObject({ condition: 'item-not-found' })
  })
})

test('who administers another domain, too, used to be within reach of every administrator of the domain he is on', async () => {
  const hosts = { 'example.net': { admins: ['kit@example.org'] } }
  await using place = await serve({ config: { domains: ['example.org', 'example.net'], hosts } })
  const { server, bard } = place
  const password = { accountjid: ['kit@example.org'], password: ['mine'], 'password-verify': ['mine'] }
  expect(await give(bard, node('add-user'), password)).toMatchObject({ condition: 'not-allowed' })
  const kit = await server.online('kit@example.org/deptford')
  const { 'password-verify': _, ...changed } = password
  expect(await give(bard, node('change-user-password'), changed)).toMatchObject({ condition: 'not-allowed' })
  for (const name of ['delete-user', 'disable-user', 'reenable-user', 'end-user-session'])
    expect(await give(bard, node(name), { accountjids: ['kit@example.org'] })).toMatchObject({ condition: 'not-allowed' })
  expect([kit.closed, await hasPassword(server, 'kit@example.org', 'mine')]).toEqual([undefined, false])
  await server.account('will@example.org')
  await given(bard, node('disable-user'), { accountjids: ['will@example.org'] })
})

describe('XEP-0133 §4.1 Add User', () => {
  const fields = (jid: string, password = 'R0m30', again = password) => ({
    accountjid: [jid],
    password: [password],
    'password-verify': [again],
  })

  test('results in an account with that password; the form has its FORM_TYPE', async () => {
    await using place = await serve()
    const { offered } = await given(place.bard, node('add-user'), fields('Juliet@example.org'))
    expect(formTypeOf(offered!)).toBe(NS)
    expect(await hasPassword(place.server, 'juliet@example.org', 'R0m30')).toBe(true)
  })

  test.each([
    ['a user who exists already', fields('bard@example.org'), 'conflict'],
    ['passwords that differ', fields('juliet@example.org', 'R0m30', 'R0me0'), 'not-acceptable'],
    ['an account of another domain', fields('juliet@example.net'), 'not-allowed'],
    ['a full JID', fields('juliet@example.org/x'), 'not-acceptable'],
    ['a domain', fields('example.org'), 'not-allowed'],
    ['an address that is none', fields('ju liet@example.org'), 'bad-request'],
  ])('%s is refused', async (_name, filled, condition) => {
    await using place = await serve({ config: { domains: ['example.org', 'example.net'] } })
    expect(await give(place.bard, node('add-user'), filled)).toMatchObject({ condition })
    expect(await place.server.exists('juliet@example.org')).toBe(false)
    expect(await place.server.exists('juliet@example.net')).toBe(false)
  })

  test('a name that nobody may register is an administrator’s to give', async () => {
    await using place = await serve()
    await given(place.bard, node('add-user'), fields('postmaster@example.org'))
    expect(await place.server.exists('postmaster@example.org')).toBe(true)
  })
})

describe('XEP-0133 §4.2 Delete User', () => {
  test('destroys the accounts and ends their sessions', async () => {
    await using place = await serve()
    const juliet = await place.server.online('juliet@example.org/balcony')
    await place.server.account('romeo@example.org')
    await given(place.bard, node('delete-user'), { accountjids: ['juliet@example.org', 'romeo@example.org'] })
    await place.server.quiet()
    expect(juliet.closed).toMatchObject({ condition: 'not-authorized' })
    expect(await place.server.exists('juliet@example.org')).toBe(false)
    expect(await place.server.exists('romeo@example.org')).toBe(false)
  })

  test('of more than there is time for ends with a note', async () => {
    const inner = memoryTable()
    let letGo = (): void => {}
    const gate = new Promise<void>((resolve) => {
      letGo = resolve
    })
    const slow: Table = {
      get: (key) => inner.get(key),
      put: (row, condition) => inner.put(row, condition),
      delete: (key, condition) => gate.then(() => inner.delete(key, condition)),
      query: (pk, range) => inner.query(pk, range),
    }
    const clock = manualClock()
    await using place = await serve({ table: slow, clock })
    await place.server.account('romeo@example.org')
    let note: string | undefined
    const giving = given(place.bard, node('delete-user'), { accountjids: ['romeo@example.org'] })
    const told = giving.then((result) => {
      note = result.note
    })
    while (note === undefined) await clock.settle(500)
    await told
    expect(await place.server.exists('romeo@example.org')).toBe(false)
    expect(note).toBe('Gone; of 1 what is stored is still being deleted.')
    letGo()
  })

  test('of an account that is not there is item-not-found, and says which', async () => {
    await using place = await serve()
    await place.server.account('romeo@example.org')
    const accountjids = ['romeo@example.org', 'nobody@example.org']
    const refusal = await give(place.bard, node('delete-user'), { accountjids })
    expect(refusal).toMatchObject({ condition: 'item-not-found', text: expect.stringContaining('nobody@example.org') })
  })

  test('of one’s own account used to wait for its own end; it is not-allowed, and so is disabling it', async () => {
    await using place = await serve()
    for (const name of ['delete-user', 'disable-user'])
      expect(await give(place.bard, node(name), { accountjids: ['bard@example.org'] })).toMatchObject({
        condition: 'not-allowed',
      })
    expect(await place.server.exists('bard@example.org')).toBe(true)
  })

  test('one address among them that is not of the domain, and nothing is done', async () => {
    await using place = await serve()
    await place.server.account('romeo@example.org')
    const accountjids = ['romeo@example.org', 'romeo@example.net']
    expect(await give(place.bard, node('delete-user'), { accountjids })).toMatchObject({ condition: 'not-allowed' })
    expect(await place.server.exists('romeo@example.org')).toBe(true)
  })
})

describe('XEP-0133 §4.3, §4.4 Disable and Re-Enable User', () => {
  test('ends the sessions and prevents logins, until it is enabled again', async () => {
    await using place = await serve()
    const juliet = await place.server.online('juliet@example.org/balcony')
    await given(place.bard, node('disable-user'), { accountjids: ['juliet@example.org'] })
    await place.server.quiet()
    expect(juliet.closed).toMatchObject({ condition: 'not-authorized' })
    await expect(place.server.bind('juliet@example.org/balcony')).rejects.toMatchObject({ condition: 'not-allowed' })
    expect(values((await given(place.bard, node('get-disabled-users-num'))).form!, 'disabledusersnum')).toEqual(['1'])
    const { form } = await given(place.bard, node('get-disabled-users-list'))
    expect(values(form!, 'disableduserjids')).toEqual(['juliet@example.org'])
    await given(place.bard, node('reenable-user'), { accountjids: ['juliet@example.org'] })
    expect((await place.server.bind('juliet@example.org/balcony')).jid.full).toBe('juliet@example.org/balcony')
  })
})

describe('XEP-0133 §4.5 End User Session', () => {
  test('a full JID ends that session alone, a bare one all of them, with policy-violation', async () => {
    await using place = await serve()
    await place.server.account('juliet@example.org')
    const [one, two, three] = await Promise.all(
      ['one', 'two', 'three'].map((resource) => place.server.online(`juliet@example.org/${resource}`)),
    )
    expect((await given(place.bard, node('end-user-session'), { accountjids: [two!.jid.full] })).note).toBe('Sessions ended: 1.')
    await place.server.quiet()
    expect([one!.closed, two!.closed?.condition, three!.closed]).toEqual([undefined, 'policy-violation', undefined])
    expect((await given(place.bard, node('end-user-session'), { accountjids: ['juliet@example.org'] })).note).toBe(
      'Sessions ended: 2.',
    )
    await place.server.quiet()
    expect([one!.closed?.condition, three!.closed?.condition]).toEqual(['policy-violation', 'policy-violation'])
    expect((await place.server.bind('juliet@example.org/one')).jid.full).toBe('juliet@example.org/one')
  })
})

describe('XEP-0133 §4.7 Change User Password', () => {
  test('the new one holds, and not the old one', async () => {
    await using place = await serve()
    await place.server.account('juliet@example.org', 'R0m30')
    await given(place.bard, node('change-user-password'), { accountjid: ['juliet@example.org'], password: ['V3r0n4'] })
    expect(await hasPassword(place.server, 'juliet@example.org', 'V3r0n4')).toBe(true)
    expect(await hasPassword(place.server, 'juliet@example.org', 'R0m30')).toBe(false)
  })

  test('an administrator who changes his own used to lose the session that waits for the answer: the others end', async () => {
    await using place = await serve()
    const other = await place.server.online('bard@example.org/other')
    await given(place.bard, node('change-user-password'), { accountjid: ['bard@example.org'], password: ['V3r0n4'] })
    await place.server.quiet()
    expect([place.bard.closed, other.closed?.condition]).toEqual([undefined, 'not-authorized'])
    expect(await hasPassword(place.server, 'bard@example.org', 'V3r0n4')).toBe(true)
  })

  test('of no account is item-not-found', async () => {
    await using place = await serve()
    const fields = { accountjid: ['nobody@example.org'], password: ['V3r0n4'] }
    expect(await give(place.bard, node('change-user-password'), fields)).toMatchObject({ condition: 'item-not-found' })
  })
})

describe('XEP-0133 §4.8 to §4.10 what is known of a user', () => {
  test('the roster stands in the form, as RFC 6121 writes it', async () => {
    await using place = await serve()
    const juliet = await place.server.connect('juliet@example.org/balcony')
    const item = el('item', NS_ROSTER, { jid: 'romeo@example.net', name: 'Romeo' }, el('group', NS_ROSTER, {}, 'Friends'))
    await juliet.iq('set', el('query', NS_ROSTER, {}, item))
    const { element } = await given(place.bard, node('get-user-roster'), { accountjids: ['juliet@example.org'] })
    const query = childOf(childOf(element, 'x', NS_DATA)!, 'query', NS_ROSTER)!
    expect(childrenOf(query, 'item', NS_ROSTER)).toEqual([{ ...item, attrs: { ...item.attrs, subscription: 'none' } }])
  })

  test('the last login is that of the newest session, or of who is offline the last logout', async () => {
    await using place = await serve()
    const about = (jid: string) => given(place.bard, node('get-user-lastlogin'), { accountjids: [jid] })
    const before = Date.now() - 1
    const juliet = await place.server.online('juliet@example.org/balcony')
    const at = parseDateTime(values((await about('juliet@example.org')).form!, 'lastlogin')[0]!)
    expect(at).toBeGreaterThanOrEqual(Math.floor(before / 1000) * 1000)
    juliet.disconnect()
    await place.server.quiet()
    const left = await about('juliet@example.org')
    expect(values(left.form!, 'lastlogin')).toHaveLength(1)
    expect(left.note).toContain('offline')
    await place.server.account('romeo@example.org')
    expect((await about('romeo@example.org')).note).toBe('That is not known.')
  })

  test('statistics are addresses, the size of the roster and the resources', async () => {
    await using place = await serve()
    await place.server.account('juliet@example.org')
    const about = { address: '192.0.2.7', transport: 'tcp', encrypted: true } as const
    for (const resource of ['balcony', 'garden']) {
      const request = { edge: place.server.edge, session: resource, resource, about }
      await place.server.caller.ask('router', 'juliet@example.org', 'session.bind', request)
    }
    const { form } = await given(place.bard, node('user-stats'), { accountjid: ['juliet@example.org'] })
    expect(values(form!, 'ipaddresses')).toEqual(['192.0.2.7'])
    expect(values(form!, 'rostersize')).toEqual(['0'])
    expect([...values(form!, 'onlineresources')].sort()).toEqual(['balcony', 'garden'])
  })

  test.each(['get-user-roster', 'get-user-lastlogin', 'user-stats'])('%s of no account is item-not-found', async (name) => {
    await using place = await serve()
    const fields = { accountjid: ['nobody@example.org'], accountjids: ['nobody@example.org'] }
    expect(await give(place.bard, node(name), fields)).toMatchObject({ condition: 'item-not-found' })
  })
})

describe('XEP-0133 §4.13 to §4.22 how many there are, and which', () => {
  /** Bard and juliet show presence, romeo is connected, mercutio and paris are not; and there is another domain. */
  async function people() {
    const place = await serve({ config: { domains: ['example.org', 'example.net'] } })
    await place.server.online('juliet@example.org/one')
    await place.server.connect('juliet@example.org/two')
    await place.server.connect('romeo@example.org/garden')
    for (const account of ['mercutio@example.org', 'paris@example.org', 'iago@example.net']) await place.server.account(account)
    await place.server.online('othello@example.net/venice')
    return place
  }

  test.each([
    ['registered', '5'],
    ['disabled', '0'],
    ['online', '3'],
    ['active', '2'],
    ['idle', '1'],
  ])('%s: %s', async (kind, count) => {
    await using place = await people()
    const { form } = await given(place.bard, node(`get-${kind}-users-num`))
    expect(values(form!, `${kind}usersnum`)).toEqual([count])
  })

  test.each([
    ['registered', ['bard', 'juliet', 'mercutio', 'paris', 'romeo']],
    ['disabled', []],
    ['online', ['bard', 'juliet', 'romeo']],
    ['active', ['bard', 'juliet']],
    ['idle', ['romeo']],
  ])('%s are listed: %j', async (kind, names) => {
    await using place = await people()
    const { form } = await given(place.bard, node(`get-${kind}-users-list`), { max_items: ['50'] })
    expect([...values(form!, `${kind}userjids`)].sort()).toEqual(names.map((name) => `${name}@example.org`))
  })

  test('a list is cut where it was asked to be, and says so', async () => {
    await using place = await serve()
    for (let n = 0; n < 30; n++) await place.server.connect(`extra${n}@example.org/x`)
    for (const kind of ['registered', 'online']) {
      const { form, note } = await given(place.bard, node(`get-${kind}-users-list`), { max_items: ['25'] })
      expect(new Set(values(form!, `${kind}userjids`)).size).toBe(25)
      expect(note).toContain('more than 25')
    }
    const refused = await give(place.bard, node('get-registered-users-list'), { max_items: ['none'] })
    expect(refused).toMatchObject({ condition: 'bad-request' })
  })
})

describe('XEP-0133 §4.23 Send Announcement to Online Users', () => {
  test('a headline from the domain, in lines, to whoever is online there', async () => {
    await using place = await serve({ config: { domains: ['example.org', 'example.net'] } })
    const juliet = await place.server.online('juliet@example.org/balcony')
    const away = await place.server.online('romeo@example.org/phone', -1)
    const silent = await place.server.connect('mercutio@example.org/x')
    const othello = await place.server.online('othello@example.net/venice')
    const { note } = await given(place.bard, node('announce'), { announcement: ['We go down', 'at noon.'] })
    await place.server.quiet()
    expect(note).toBe('It was sent to 2 users in 2 sessions.')
    expect(juliet.bodies()).toEqual(['We go down\nat noon.'])
    const [message] = juliet.received.filter(({ name }) => name === 'message')
    expect([message!.type, message!.from.full, message!.to!.full]).toEqual(['headline', 'example.org', juliet.jid.full])
    expect([away.bodies(), silent.bodies(), othello.bodies()]).toEqual([[], [], []])
  })

  test.each([[[' ']], [['x'.repeat(10_001)]]])('what users cannot be shown is refused', async (announcement) => {
    await using place = await serve()
    expect(await give(place.bard, node('announce'), { announcement })).toMatchObject({ condition: 'bad-request' })
    expect(place.bard.bodies()).toEqual([])
  })
})

test('what an administrator does is logged with his name, and without what he filled in', async () => {
  await using place = await serve()
  await place.server.account('juliet@example.org')
  const fields = { accountjid: [parseJid('juliet@example.org').bare], password: ['V3r0n4'] }
  await given(place.bard, node('change-user-password'), fields)
  const lines = place.server.log.lines.filter(({ event }) => event === 'command.completed')
  expect(lines.map(({ fields }) => fields)).toMatchObject([
    { node: node('change-user-password'), by: 'bard@example.org/globe', domain: 'example.org' },
  ])
  expect(JSON.stringify(place.server.log.lines)).not.toContain('V3r0n4')
})

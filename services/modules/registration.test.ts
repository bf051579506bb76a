import { describe, expect, test } from 'vitest'
import { manualClock } from '#core/clock.ts'
import type { ServerFacts } from '#core/module.ts'
import { factsOf } from '#core/settings/hosts.ts'
import { decodeCredentials, verifyPassword } from '#core/storage/scram-keys.ts'
import { type Answer, type HarnessOptions, harness, type Refusal, type TestServer } from '#test/harness.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT } from '#xmpp/ns.ts'
import { childOf, type Element, el, find, textOf } from '#xmpp/stanza.ts'
import offline from './offline.ts'
import registration from './registration.ts'

const NS = 'jabber:iq:register'
const query = (...fields: Element[]) => el('query', NS, {}, ...fields)
const username = (name: string) => el('username', NS, {}, name)
const password = (secret: string) => el('password', NS, {}, secret)
const filled = (name: string, secret = 'Calliope') => query(username(name), password(secret))
const REMOVE = query(el('remove', NS))

const open = (options: HarnessOptions = {}) =>
  harness([registration, offline], { ...options, config: { registration: 'open', ...options.config } })

async function hasPassword(server: TestServer, account: string, secret: string): Promise<boolean> {
  const stored = await server.caller.ask('router', account, 'account.credentials', {})
  return stored !== null && verifyPassword(decodeCredentials(stored), secret)
}

describe('XEP-0077 §3.1 Entity Registers with a Host', () => {
  test('the host informs the entity of the required fields', async () => {
    await using server = await open()
    const answer = (await server.stranger('get', query())) as Element
    expect(answer.children.map((child) => (child as Element).name)).toEqual(['instructions', 'username', 'password'])
    expect(textOf(childOf(answer, 'instructions', NS)!)).not.toBe('')
  })

  test('whoever fills them in can log in', async () => {
    await using server = await open()
    expect(await server.stranger('set', filled('Bill'))).toBeUndefined()
    expect(await hasPassword(server, 'bill@example.org', 'Calliope')).toBe(true)
    expect((await server.bind('bill@example.org/globe')).jid.full).toBe('bill@example.org/globe')
  })

  test('a username in use is a conflict, with the fields sent back, and its password stays', async () => {
    await using server = await open()
    await server.stranger('set', filled('bill'))
    const refusal = (await server.stranger('set', filled('BILL', 'm1cro$oft'))) as Refusal
    expect(refusal).toMatchObject({ condition: 'conflict', type: 'cancel' })
    expect(refusal.stanza.tree()[0]).toEqual(query(username('BILL')))
    expect(await hasPassword(server, 'bill@example.org', 'Calliope')).toBe(true)
  })

  test.each(['conflict', 'not-acceptable', 'service-unavailable'])(
    'a refusal, %s, used to send the password back',
    async (condition) => {
      await using server = await open({ config: { registration: condition === 'service-unavailable' ? 'closed' : 'open' } })
      await server.account('bill@example.org')
      const form = filled(condition === 'not-acceptable' ? 'bill gates' : 'bill', 'm1cro$oft')
      const refusal = (await server.stranger('set', form)) as Refusal
      expect(refusal.condition).toBe(condition)
      expect(Buffer.from(refusal.stanza.payload).toString()).not.toContain('m1cro$oft')
    },
  )

  test('of two at once who want one name, one gets it', async () => {
    await using server = await open()
    const answers = await Promise.all([
      server.stranger('set', filled('bill', 'one')),
      server.stranger('set', filled('bill', 'two')),
    ])
    expect(answers.map((answer) => (answer as Refusal | undefined)?.condition).sort()).toEqual(['conflict', undefined])
  })

  test.each([
    ['without a username', query(password('Calliope'))],
    ['without a password', query(username('bill'))],
    ['with an empty password', filled('bill', '')],
    ['with a password of control characters', filled('bill', '\u0085')],
    ['with a password too long to hash', filled('bill', 'x'.repeat(1025))],
    ['with an address for a username', filled('bill@example.org')],
    ['with a space in the username', filled('bill gates')],
    ['with a username too long', filled('b'.repeat(65))],
    ['with a username like a path', filled('..')],
    ['with a username of letters that look alike', filled('b\u0456ll')],
  ])('§3.1 %s it is not-acceptable', async (_name, form) => {
    await using server = await open()
    expect(await server.stranger('set', form)).toMatchObject({ condition: 'not-acceptable', type: 'modify' })
    expect(await server.exists('bill@example.org')).toBe(false)
  })

  test.each(['root', 'Admin', 'adm1n', 'r.o.o.t', 'p0stmaster', 'adrnin'])('the username %s is reserved', async (name) => {
    await using server = await open()
    expect(await server.stranger('set', filled(name))).toMatchObject({ condition: 'conflict' })
  })

  test.each(['bard', 'kit'])('an administrator’s name used to be anybody’s until he had an account: %s', async (name) => {
    const hosts = { 'example.net': { admins: ['kit@example.org'] } }
    const config = { domains: ['example.org', 'example.net'], admins: ['bard@example.org'], hosts }
    await using server = await open({ config })
    expect(await server.stranger('set', filled(name))).toMatchObject({ condition: 'conflict' })
    expect(await server.stranger('set', filled('bard'), { to: 'example.net' })).toBeUndefined()
    expect(await server.exists(`${name}@example.org`)).toBe(false)
  })

  test('what is reserved is the administrator’s choice', async () => {
    await using server = await open({ modules: { registration: { reserved: ['bill'] } } })
    expect(await server.stranger('set', filled('root'))).toBeUndefined()
    expect(await server.stranger('set', filled('bill'))).toMatchObject({ condition: 'conflict' })
  })

  test.each(['closed', 'invite'])('§3.1 a host that does not support it is service-unavailable: %s', async (how) => {
    await using server = await open({ config: { registration: 'closed' } })
    Object.assign(server.process.server, { registration: how })
    expect(await server.stranger('get', query())).toMatchObject({ condition: 'service-unavailable' })
    expect(await server.stranger('set', filled('bill'))).toMatchObject({ condition: 'service-unavailable' })
    expect(await server.exists('bill@example.org')).toBe(false)
  })

  test('somebody logged in is told that he is registered, and as whom', async () => {
    await using server = await open({ config: { registration: 'closed' } })
    const bill = await server.connect('bill@example.org/globe')
    for (const to of [undefined, 'example.org']) {
      const answer = await bill.get(query(), to)
      expect(childOf(answer, 'registered', NS)).toEqual(el('registered', NS))
      expect(textOf(childOf(answer, 'username', NS)!)).toBe('bill')
      expect(childOf(answer, 'password', NS)).toEqual(el('password', NS))
    }
  })

  test('nobody is told about somebody else', async () => {
    await using server = await open()
    await server.account('juliet@example.org')
    const bill = await server.connect('bill@example.org/globe')
    expect(await bill.iq('get', query(), 'juliet@example.org')).toMatchObject({ condition: 'service-unavailable' })
    expect(await bill.iq('set', REMOVE, 'juliet@example.org')).toMatchObject({ condition: 'service-unavailable' })
    expect(await server.exists('juliet@example.org')).toBe(true)
  })
})

describe('limits.registrationsPerHourPerAddress', () => {
  test('one more is asked to wait; another address is not, nor this one an hour later', async () => {
    const clock = manualClock()
    await using server = await open({ clock, config: { limits: { registrationsPerHourPerAddress: 2 } } })
    const from = (address: string, name: string): Promise<Answer> => server.stranger('set', filled(name), { address })
    expect(await from('192.0.2.1', 'one')).toBeUndefined()
    expect(await from('192.0.2.1', 'one')).toMatchObject({ condition: 'conflict' }) // registers nothing, counts for nothing
    expect(await from('192.0.2.1', 'two')).toBeUndefined()
    expect(await from('192.0.2.1', 'three')).toMatchObject({ condition: 'resource-constraint', type: 'wait' })
    expect(await from('192.0.2.1', 'one')).toMatchObject({ condition: 'conflict' })
    expect(await from('192.0.2.2', 'three')).toBeUndefined()
    clock.advance(3_600_000)
    expect(await from('192.0.2.1', 'four')).toBeUndefined()
  })
})

test('a registration that failed leaves its place to the next try', async () => {
  await using server = await open({ config: { limits: { registrationsPerHourPerAddress: 1 } } })
  expect(await server.stranger('set', filled('bill', '\u0085'))).toMatchObject({ condition: 'not-acceptable' })
  expect(await server.stranger('set', filled('bill'))).toBeUndefined()
})

describe('XEP-0077 §3.2 Entity Cancels an Existing Registration', () => {
  test('the account and all its data go, the result comes, and then every stream ends', async () => {
    await using server = await open()
    const bill = await server.online('bill@example.org/globe')
    const elsewhere = await server.connect('bill@example.org/home')
    const juliet = await server.connect('juliet@example.org/balcony')
    await bill.iq('set', el('query', 'jabber:iq:roster', {}, el('item', 'jabber:iq:roster', { jid: 'juliet@example.org' })))
    bill.available(-1)
    await server.quiet()
    juliet.message('bill@example.org', 'kept for later')
    await server.quiet()

    expect(await bill.iq('set', REMOVE)).toBeUndefined()
    await server.quiet()
    expect(bill.closed).toMatchObject({ condition: 'not-authorized' })
    expect(elsewhere.closed).toMatchObject({ condition: 'not-authorized' })
    expect(await server.exists('bill@example.org')).toBe(false)
    const rows: string[] = []
    for (const pk of ['a#bill@example.org', 'j#offline#bill@example.org'])
      for await (const row of server.process.table.query(pk)) rows.push(row.sk)
    expect(rows).toEqual([])
  })

  test('whoever has the name next gets none of it', async () => {
    await using server = await open()
    const juliet = await server.connect('juliet@example.org/balcony')
    const bill = await server.online('bill@example.org/globe', -1)
    juliet.message('bill@example.org', 'kept for later')
    await server.quiet()
    await bill.iq('set', REMOVE)
    await server.quiet()
    expect(await server.stranger('set', filled('bill'))).toBeUndefined()
    const other = await server.online('bill@example.org/globe')
    expect(other.bodies()).toEqual([])
    juliet.message('bill@example.org', 'for the new one')
    await server.quiet()
    expect(other.bodies()).toEqual(['for the new one'])
  })

  test('whoever has the name next has all the room for offline messages', async () => {
    await using server = await open({ modules: { offline: { messagesMax: 1 } } })
    const juliet = await server.connect('juliet@example.org/balcony')
    const bill = await server.online('bill@example.org/globe', -1)
    juliet.message('bill@example.org', 'for the old one')
    await server.quiet()
    await bill.iq('set', REMOVE)
    await server.quiet()
    await server.stranger('set', filled('bill'))
    juliet.message('bill@example.org', 'for the new one')
    await server.quiet()
    expect((await server.online('bill@example.org/globe')).bodies()).toEqual(['for the new one'])
  })

  test('existing presence subscriptions are cancelled', async () => {
    await using server = await open()
    const bill = await server.online('bill@example.org/globe')
    const juliet = await server.online('juliet@example.org/balcony')
    await juliet.get(el('query', 'jabber:iq:roster'))
    juliet.send(juliet.stanza('presence', { type: 'subscribe', to: parseJid('bill@example.org') }))
    await server.quiet()
    bill.send(bill.stanza('presence', { type: 'subscribed', to: parseJid('juliet@example.org') }))
    await server.quiet()
    await bill.iq('set', REMOVE)
    await server.quiet()
    expect(juliet.received.filter(({ name }) => name === 'presence').map(({ type }) => type)).toContain('unsubscribed')
    const [item] = (await juliet.get(el('query', 'jabber:iq:roster'))).children as Element[]
    expect(item?.attrs.subscription).toBe('none')
  })

  test('remove is the only child, or it is bad-request', async () => {
    await using server = await open()
    const bill = await server.connect('bill@example.org/globe')
    expect(await bill.iq('set', query(el('remove', NS), username('bill')))).toMatchObject({
      condition: 'bad-request',
      type: 'modify',
    })
    expect(await server.exists('bill@example.org')).toBe(true)
  })

  test('from a stream that is not logged in it is unexpected-request', async () => {
    await using server = await open()
    expect(await server.stranger('set', REMOVE)).toMatchObject({ condition: 'unexpected-request' })
  })
})

describe('XEP-0077 §3.3 User Changes Password', () => {
  test.each([undefined, 'example.org'])('the new one holds and the old one does not, asked of %s', async (to) => {
    await using server = await open({ config: { registration: 'closed' } })
    await server.account('bill@example.org', 'oldpass')
    const bill = await server.bind('bill@example.org/globe')
    expect(await bill.iq('set', filled('bill', 'newpass'), to)).toBeUndefined()
    expect(await hasPassword(server, 'bill@example.org', 'newpass')).toBe(true)
    expect(await hasPassword(server, 'bill@example.org', 'oldpass')).toBe(false)
  })

  test('whoever else has logged in by the old one is put out, and the session that asks stays', async () => {
    await using server = await open()
    await server.account('bill@example.org', 'oldpass')
    const bill = await server.bind('bill@example.org/globe')
    const thief = await server.bind('bill@example.org/thief')
    const other = await server.connect('will@example.org/globe')
    expect(await bill.iq('set', filled('bill', 'newpass'))).toBeUndefined()
    await server.quiet()
    expect([bill.closed, thief.closed?.condition, other.closed]).toEqual([undefined, 'not-authorized', undefined])
  })

  test.each([
    ['an empty password', filled('bill', ''), 'not-acceptable'],
    ['a password that cannot be used', filled('bill', '\u0085'), 'not-acceptable'],
    ['no password', query(username('bill')), 'bad-request'],
    ['no username', query(password('newpass')), 'bad-request'],
    ['nothing', query(), 'bad-request'],
    ['somebody else’s username', filled('juliet', 'newpass'), 'not-acceptable'],
  ])('with %s the existing one is kept, and nothing of what was sent is sent back', async (_name, form, condition) => {
    await using server = await open()
    await server.account('bill@example.org', 'oldpass')
    await server.account('juliet@example.org', 'oldpass')
    const bill = await server.bind('bill@example.org/globe')
    const refusal = (await bill.iq('set', form)) as Refusal
    expect(refusal).toMatchObject({ condition, type: 'modify' })
    expect(refusal.stanza.tree().map(({ name }) => name)).toEqual(['error'])
    expect(await hasPassword(server, 'bill@example.org', 'oldpass')).toBe(true)
    expect(await hasPassword(server, 'juliet@example.org', 'oldpass')).toBe(true)
  })

  test('it is about the domain of the account, whatever other domains live here', async () => {
    await using server = await open({ config: { domains: ['example.org', 'example.net'] } })
    await server.account('bill@example.net', 'oldpass')
    const bill = await server.connect('bill@example.org/globe')
    expect(await bill.iq('set', filled('bill', 'newpass'), 'example.net')).toMatchObject({ condition: 'not-allowed' })
    expect(await bill.iq('set', REMOVE, 'example.net')).toMatchObject({ condition: 'not-allowed' })
    expect(await hasPassword(server, 'bill@example.net', 'oldpass')).toBe(true)
    expect(await server.exists('bill@example.org')).toBe(true)
  })
})

describe('XEP-0077 §8 Stream Feature', () => {
  const facts = (registration: ServerFacts['registration']): ServerFacts => ({
    domains: ['example.org'],
    registration,
    version: '',
    moduleOptions: {},
  })

  test('is offered where registration is open, and nowhere else', () => {
    const feature = (how: ServerFacts['registration']) => registration.streamFeaturesBeforeLogin!(facts(how))
    expect(feature('open')).toEqual([el('register', 'http://jabber.org/features/iq-register')])
    expect(feature('closed')).toEqual([])
    expect(feature('invite')).toEqual([])
  })
})

describe('XEP-0077 §9 Error Handling', () => {
  test('a refusal has the code of old, besides its condition', async () => {
    await using server = await open({ config: { limits: { registrationsPerHourPerAddress: 1 } } })
    const codeOf = async (answer: Promise<Answer>) => {
      const { stanza, condition } = (await answer) as Refusal
      return `${find(stanza, 'error', NS_CLIENT)!.attrs.code} ${condition}`
    }
    await server.account('bill@example.org')
    expect(await codeOf(server.stranger('set', filled('bill')))).toBe('409 conflict')
    expect(await codeOf(server.stranger('set', filled('..')))).toBe('406 not-acceptable')
    expect(await codeOf(server.stranger('set', REMOVE))).toBe('400 unexpected-request')
    await server.stranger('set', filled('will'))
    expect(await codeOf(server.stranger('set', filled('phil')))).toBe('500 resource-constraint')
    const bill = await server.connect('bill@example.org/globe')
    expect(await codeOf(bill.iq('set', query()))).toBe('400 bad-request')
    Object.assign(server.process.server, { registration: 'closed' })
    expect(await codeOf(server.stranger('get', query()))).toBe('503 service-unavailable')
  })

  test('what is refused elsewhere has none', async () => {
    await using server = await open()
    const bill = await server.connect('bill@example.org/globe')
    const { stanza } = (await bill.iq('get', el('query', 'urn:example:nothing'))) as Refusal
    expect(find(stanza, 'error', NS_CLIENT)!.attrs).toEqual({ type: 'cancel' })
  })
})

test('a domain may be open while the others are closed, and say it in its own words', async () => {
  const hosts = { 'example.net': { registration: 'open', modules: { registration: { instructions: 'Come in.' } } } }
  const domains = ['example.org', 'example.net']
  await using server = await open({ config: { domains, registration: 'closed', hosts } })
  expect(await server.stranger('get', query())).toMatchObject({ condition: 'service-unavailable' })
  expect(await server.stranger('set', filled('bill'))).toMatchObject({ condition: 'service-unavailable' })
  const form = (await server.stranger('get', query(), { to: 'example.net' })) as Element
  expect(textOf(childOf(form, 'instructions', NS)!)).toBe('Come in.')
  expect(await server.stranger('set', filled('bill'), { to: 'example.net' })).toBeUndefined()
  expect(await server.exists('bill@example.net')).toBe(true)
  expect(await server.exists('bill@example.org')).toBe(false)
  const offered = (domain: string) => registration.streamFeaturesBeforeLogin!(factsOf(server.process.server, domain))
  expect([offered('example.org').length, offered('example.net').length]).toEqual([0, 1])
})

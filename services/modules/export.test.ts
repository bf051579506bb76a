import { describe, expect, test } from 'vitest'
import { Administration } from '#core/administration.ts'
import { groupsOf } from '#core/groups/group-administration.ts'
import { give, given } from '#test/commands.ts'
import { type HarnessOptions, harness, type TestServer } from '#test/harness.ts'
import { values } from '#xmpp/form.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT, NS_ROSTER } from '#xmpp/ns.ts'
import { childOf, childrenOf, type Element, el, textOf } from '#xmpp/stanza.ts'
import { parseElement } from '#xmpp/xml.ts'
import blocking from './blocking.ts'
import commands from './commands.ts'
import disco from './disco.ts'
import exporting from './export.ts'
import last from './last.ts'
import mam from './mam.ts'
import offline from './offline.ts'
import priv from './private.ts'
import vcard from './vcard.ts'

const NS = 'urn:xmpp:pie:0'
const NS_STORED = 'https://rookery.invalid/stored'
const NS_VCARD = 'vcard-temp'
const NS_PRIVATE = 'jabber:iq:private'
const NODE = 'https://rookery.invalid/commands#export'
const ALL = [disco, commands, exporting, blocking, last, mam, offline, priv, vcard]
const JULIET = 'juliet@example.org'

const serve = (options: HarnessOptions = {}) => harness(ALL, options)

/** The document, and its pages. */
async function exported(server: TestServer, account = JULIET): Promise<{ text: string; pages: number; user: Element }> {
  const administration = new Administration(server.caller, server.ownership)
  const pages: string[] = []
  for await (const page of administration.export(parseJid(account))) pages.push(page)
  const text = pages.join('')
  return { text, pages: pages.length, user: userIn(text) }
}

function userIn(text: string): Element {
  expect(text.startsWith("<?xml version='1.0' encoding='UTF-8'?>\n")).toBe(true)
  const root = parseElement(text.slice(text.indexOf('\n')).trim())
  expect(root).toMatchObject({ name: 'server-data', ns: NS })
  const host = childOf(root, 'host', NS)!
  expect(host.attrs).toEqual({ jid: 'example.org' })
  return childOf(host, 'user', NS)!
}

const elementsIn = (parent: Element | undefined) =>
  (parent?.children ?? []).filter((child): child is Element => typeof child !== 'string')

/** Juliet, with something of everything. */
async function furnish(server: TestServer): Promise<void> {
  const juliet = await server.online(`${JULIET}/balcony`)
  const romeo = await server.online('romeo@example.org/garden')
  const item = el('item', NS_ROSTER, { jid: 'nurse@example.org', name: 'The Nurse & co.' }, el('group', NS_ROSTER, {}, 'House'))
  await juliet.iq('set', el('query', NS_ROSTER, {}, item))
  romeo.send(romeo.stanza('presence', { type: 'subscribe', to: parseJid(JULIET), id: 'please' }))
  await juliet.iq('set', el('vCard', NS_VCARD, {}, el('FN', NS_VCARD, {}, 'Juliet <Capulet>')))
  for (const ns of ['exodus:prefs', 'storage:bookmarks'])
    await juliet.iq('set', el('query', NS_PRIVATE, {}, el('settings', ns, {}, el('nick', ns, {}, 'Jule'))))
  const block = el('block', 'urn:xmpp:blocking', {}, el('item', 'urn:xmpp:blocking', { jid: 'paris@example.org' }))
  await juliet.iq('set', block)
  romeo.message(JULIET, 'while she is there')
  await server.quiet()
  juliet.disconnect()
  await server.quiet()
  romeo.message(JULIET, 'while she is away')
  await server.quiet()
}

describe('XEP-0227 §4 File format', () => {
  test('§4.2: a user, without a password and without its keys', async () => {
    await using server = await serve()
    await furnish(server)
    const { text, user } = await exported(server)
    expect(user.attrs).toEqual({ name: 'juliet' })
    for (const secret of ['credentials', 'storedKey', 'serverKey', 'salt']) expect(text).not.toContain(secret)
    expect(childOf(user, 'account', NS_STORED)!.attrs.created).toMatch(/^20\d\d-/)
  })

  test('§4.4, §4.9: the roster, and a request that nobody has answered', async () => {
    await using server = await serve()
    await furnish(server)
    const { user } = await exported(server)
    const [item, ...more] = elementsIn(childOf(user, 'query', NS_ROSTER))
    expect(more).toEqual([])
    expect(item).toMatchObject({ attrs: { jid: 'nurse@example.org', name: 'The Nurse & co.', subscription: 'none' } })
    expect(textOf(childOf(item!, 'group', NS_ROSTER)!)).toBe('House')
    expect(childrenOf(user, 'presence', NS_CLIENT)).toMatchObject([
      { attrs: { type: 'subscribe', from: 'romeo@example.org', id: 'please' } },
    ])
  })

  test('§4.5: messages that wait, oldest first, with the time they came', async () => {
    await using server = await serve()
    await furnish(server)
    const { user } = await exported(server)
    const messages = childrenOf(childOf(user, 'offline-messages', NS)!, 'message', NS_CLIENT)
    expect(messages.map((message) => textOf(childOf(message, 'body', NS_CLIENT)!))).toEqual(['while she is away'])
    expect(childOf(messages[0]!, 'delay', 'urn:xmpp:delay')).toBeDefined()
  })

  test('§4.6, §4.7: private data in one query, the vCard, and beside them who is blocked', async () => {
    await using server = await serve()
    await furnish(server)
    const { user } = await exported(server)
    expect(childrenOf(user, 'query', NS_PRIVATE)).toHaveLength(1)
    const stored = elementsIn(childOf(user, 'query', NS_PRIVATE)).map(({ ns }) => ns)
    expect(stored.sort()).toEqual(['exodus:prefs', 'storage:bookmarks'])
    expect(textOf(childOf(childOf(user, 'vCard', NS_VCARD)!, 'FN', NS_VCARD)!)).toBe('Juliet <Capulet>')
    const blocked = elementsIn(childOf(user, 'blocklist', 'urn:xmpp:blocking')).map(({ attrs }) => attrs.jid)
    expect(blocked).toEqual(['paris@example.org'])
  })

  test('§4.11: the archive as results of XEP-0313, oldest first', async () => {
    await using server = await serve()
    await furnish(server)
    const { user } = await exported(server)
    const results = childrenOf(childOf(user, 'archive', 'urn:xmpp:pie:0#mam')!, 'result', 'urn:xmpp:mam:2')
    const bodies = results.map((result) => {
      const forwarded = childOf(result, 'forwarded', 'urn:xmpp:forward:0')!
      return textOf(childOf(childOf(forwarded, 'message', NS_CLIENT)!, 'body', NS_CLIENT)!)
    })
    expect(bodies).toEqual(['while she is there', 'while she is away'])
  })
})

describe('nothing is left out', () => {
  test('each row and each journal of the account is there, also of a module that is disabled', async () => {
    await using server = await serve()
    await furnish(server)
    const { table } = server.process
    const strange = '\u0000 not XML ]]>'
    await table.put({ pk: `a#${JULIET}`, sk: 'diary#monday', version: 'v', value: Buffer.from('"dear <diary>"') })
    await table.put({ pk: `a#${JULIET}`, sk: 'diary#tuesday', version: 'v', value: Buffer.from(strange) })
    await table.put({ pk: `a#${JULIET}`, sk: 'diary#\u0001', version: 'v', value: Buffer.from([0xff, 0xfe]) })
    const { user } = await exported(server)
    const rows = new Map(childrenOf(user, 'row', NS_STORED).map((row) => [row.attrs.name, row]))
    expect(textOf(rows.get('diary#monday')!)).toBe('"dear <diary>"')
    expect(Buffer.from(textOf(rows.get('diary#tuesday')!), 'base64').toString()).toBe(strange)
    expect(Buffer.from(textOf(rows.get('diary#\uFFFD')!), 'base64')).toEqual(Buffer.from([0xff, 0xfe]))
    const names: string[] = []
    for await (const { sk } of table.query(`a#${JULIET}`)) names.push(sk)
    const written = ['account', 'blocking']
    const raw = names.filter((name) => !written.includes(name) && !name.startsWith('roster#') && name !== 'diary#\u0001')
    expect([...rows.keys()]).toEqual(expect.arrayContaining(raw))
  })

  test('a journal whose module is not loaded comes as it is stored', async () => {
    const server = await serve()
    await furnish(server)
    const { table } = server.process
    await server.stop()
    const without = [disco, commands, exporting, blocking, last, mam, priv, vcard]
    const spool = { ...offline, setup: () => {}, portable: undefined }
    await using restarted = await harness([...without, spool], { table })
    const { user } = await exported(restarted)
    expect(childrenOf(user, 'entry', NS_STORED).map(({ attrs }) => attrs.name)).toEqual([expect.stringMatching(/^offline /)])
    expect(childOf(user, 'offline-messages', NS)).toBeUndefined()
  })

  test('what its module cannot read any more comes as it is stored', async () => {
    await using server = await serve()
    await furnish(server)
    const { table } = server.process
    const key = { pk: `j#mam#${JULIET}`, sk: '0000000000-broken' }
    await table.put({ ...key, version: 'v', value: Buffer.from([1, 2, 3]) })
    const { user } = await exported(server)
    const [broken] = childrenOf(childOf(user, 'archive', 'urn:xmpp:pie:0#mam')!, 'entry', NS_STORED)
    expect(broken).toMatchObject({ attrs: { name: key.sk } })
    expect(childrenOf(childOf(user, 'archive', 'urn:xmpp:pie:0#mam')!, 'result', 'urn:xmpp:mam:2')).toHaveLength(2)
  })

  test('an account that cannot be read used to come as it is stored, with its keys', async () => {
    await using server = await serve()
    await furnish(server)
    const row = (await server.process.table.get({ pk: `a#${JULIET}`, sk: 'account' }))!
    const stored = JSON.parse(Buffer.from(row.value).toString()) as { credentials: object }
    const value = Buffer.from(JSON.stringify({ ...stored, createdAt: 'long ago' }))
    await server.process.table.put({ ...row, version: 'v', value })
    const { text, user } = await exported(server)
    expect(childOf(user, 'account', NS_STORED)).toMatchObject({ attrs: {} })
    expect(text).not.toMatch(/storedKey|serverKey|credentials/)
  })

  test('of many pages nothing is twice, nothing missing, and all of it is in order', async () => {
    await using server = await serve()
    await server.account(JULIET)
    const romeo = await server.connect('romeo@example.org/garden')
    const bodies = Array.from({ length: 300 }, (_, n) => `${n} ${'x'.repeat(n % 7 === 0 ? 20_000 : 50)}`)
    for (const body of bodies) romeo.message(JULIET, body)
    await server.quiet()
    const { user, pages } = await exported(server)
    expect(pages).toBeGreaterThan(5)
    const results = childrenOf(childOf(user, 'archive', 'urn:xmpp:pie:0#mam')!, 'result', 'urn:xmpp:mam:2')
    expect(results.map((result) => textOf(elementsIn(elementsIn(elementsIn(result)[0])[1])[0]!))).toEqual(bodies)
    expect(childrenOf(user, 'archive', 'urn:xmpp:pie:0#mam')).toHaveLength(1)
  })

  test('nobody is item-not-found', async () => {
    await using server = await serve()
    await expect(exported(server, 'nobody@example.org')).rejects.toMatchObject({ condition: 'item-not-found' })
  })
})

describe('a user’s own data, by a command', () => {
  test('the same document in the lines of a form', async () => {
    await using server = await serve()
    await furnish(server)
    const juliet = await server.bind(`${JULIET}/balcony`)
    const { form } = await given(juliet, NODE)
    const text = values(form!, 'data').join('\n')
    expect(text).toBe((await exported(server)).text.trimEnd())
    expect(elementsIn(userIn(text)).length).toBeGreaterThan(5)
  })

  test('what is too large for a client is not sent, and that is said', async () => {
    await using server = await serve({ modules: { export: { bytesMax: 1_024 } } })
    await furnish(server)
    const { form, note, element } = await given(await server.bind(`${JULIET}/balcony`), NODE)
    expect(form).toBeUndefined()
    expect(note).toContain('over 1024 bytes')
    expect(element.attrs.status).toBe('completed')
  })

  test('on another domain it is forbidden', async () => {
    await using server = await serve({ config: { domains: ['example.org', 'example.net'] } })
    const juliet = await server.connect(`${JULIET}/balcony`)
    expect(await give(juliet, NODE, {}, 'example.net')).toMatchObject({ condition: 'forbidden' })
  })
})

test('the groups that the domain has put the account into are named; their other members are no data of his', async () => {
  await using server = await serve()
  await server.account(JULIET)
  await server.account('romeo@example.org')
  const { administration } = groupsOf(server.process)
  for (const [name, displayName] of [
    ['verona', 'House & Home'],
    ['empty', 'Nobody'],
  ] as const)
    await administration.create(parseJid(`${name}@example.org`), { displayName })
  await administration.add(parseJid('verona@example.org'), [parseJid(JULIET), parseJid('romeo@example.org')])
  const { text } = await exported(server)
  const ns = 'https://rookery.invalid/stored'
  expect(text).toContain(`<groups xmlns='${ns}'>\n<group jid='verona@example.org'>House &amp; Home</group>\n</groups>`)
  expect([text.includes('empty@example.org'), text.includes('romeo@example.org')]).toEqual([false, false])
})

import { describe, expect, test } from 'vitest'
import { Administration } from '#core/administration.ts'
import { type AnyModule, type App, defineModule, type ShownOptions } from '#core/module.ts'
import { memoryTable } from '#table/memory.ts'
import { type Answer, type HarnessOptions, harness, type TestClient, type TestServer } from '#test/harness.ts'
import { type Jid, parseJid } from '#xmpp/jid.ts'
import { NS_DATA, NS_DELAY, NS_RSM } from '#xmpp/ns.ts'
import { attr, childOf, childrenOf, type Element, el, find, type Stanza, textOf } from '#xmpp/stanza.ts'
import { parseElement } from '#xmpp/xml.ts'
import blocking from './blocking.ts'
import commands from './commands.ts'
import disco, { NS_DISCO_INFO, NS_DISCO_ITEMS } from './disco.ts'
import exporting from './export.ts'
import type { PepLimits } from './pep/pep-store.ts'
import { NS_EVENT, NS_OWNER, NS_PUBSUB } from './pep/pep-words.ts'
import pep from './pep.ts'

const NS_ERRORS = `${NS_PUBSUB}#errors`
const TUNE = 'http://jabber.org/protocol/tune'
const JULIET = 'juliet@example.org'
const ROMEO = 'romeo@example.org'

interface Shown {
  readonly account: Jid
  readonly stanza: Stanza
  readonly options: ShownOptions
}

interface Setup extends AsyncDisposable {
  readonly server: TestServer
  /** Romeo and the nurse see Juliet's presence; Tybalt does not. */
  readonly juliet: TestClient
  readonly romeo: TestClient
  readonly tybalt: TestClient
  /** What was shown to those who see her, and whom it was for. */
  readonly shown: Shown[]
  emit: App['emit']
}

async function setUp(options: HarnessOptions = {}): Promise<Setup> {
  const shown: Shown[] = []
  const apps: App[] = []
  const watched: AnyModule = {
    ...pep,
    setup: (app: App<PepLimits>) =>
      pep.setup({ ...app, shown: (account, stanza, options = {}) => shown.push({ account, stanza, options }) }),
  }
  const emitter = defineModule({
    name: 'emitter',
    home: 'presence',
    xeps: [],
    setup: (app) => {
      if (app.role === 'presence') apps.push(app)
    },
  })
  const server = await harness([disco, blocking, watched, emitter], options)
  const juliet = await server.online('juliet@example.org/balcony')
  const romeo = await server.online('romeo@example.org/garden')
  const tybalt = await server.online('tybalt@example.org/street')
  romeo.send(romeo.stanza('presence', { type: 'subscribe', to: parseJid(JULIET) }))
  await server.quiet()
  juliet.send(juliet.stanza('presence', { type: 'subscribed', to: parseJid(ROMEO) }))
  await server.quiet()
  // where her owner is, who knows her session
  const emit: App['emit'] = (event, payload) => apps.find((app) => app.sessions(juliet.jid).length > 0)!.emit(event, payload)
  return { server, juliet, romeo, tybalt, shown, emit, [Symbol.asyncDispose]: () => server.stop() }
}

const pubsub = (...children: readonly Element[]) => el('pubsub', NS_PUBSUB, {}, ...children)
const owner = (...children: readonly Element[]) => el('pubsub', NS_OWNER, {}, ...children)
const tune = (title: string) => el('tune', TUNE, {}, el('title', TUNE, {}, title))
const item = (id: string | undefined, ...payload: readonly Element[]) => el('item', NS_PUBSUB, { id }, ...payload)
const publish = (node: string | undefined, ...items: readonly Element[]) => el('publish', NS_PUBSUB, { node }, ...items)
const items = (node: string, attrs: Readonly<Record<string, string>> = {}, ...asked: readonly Element[]) =>
  pubsub(el('items', NS_PUBSUB, { node, ...attrs }, ...asked))

function form(type: 'node_config' | 'publish-options', fields: Readonly<Record<string, string>>): Element {
  const field = (name: string, value: string, type?: string) =>
    el('field', NS_DATA, { var: name, type }, el('value', NS_DATA, {}, value))
  const given = Object.entries(fields).map(([name, value]) => field(`pubsub#${name}`, value))
  return el('x', NS_DATA, { type: 'submit' }, field('FORM_TYPE', `${NS_PUBSUB}#${type}`, 'hidden'), ...given)
}

const options = (fields: Readonly<Record<string, string>>) =>
  el('publish-options', NS_PUBSUB, {}, form('publish-options', fields))
const configure = (node: string, fields: Readonly<Record<string, string>>) =>
  owner(el('configure', NS_OWNER, { node }, form('node_config', fields)))

async function put(
  client: TestClient,
  node: string,
  id: string,
  title = id,
  fields?: Readonly<Record<string, string>>,
): Promise<Answer> {
  return client.iq('set', pubsub(publish(node, item(id, tune(title))), ...(fields ? [options(fields)] : [])))
}

/** The ids of the items that are answered. */
async function idsOf(
  client: TestClient,
  node: string,
  attrs: Readonly<Record<string, string>> = {},
  to = JULIET,
): Promise<string[]> {
  const answer = await client.get(items(node, attrs), to)
  return childrenOf(childOf(answer, 'items', NS_PUBSUB)!, 'item', NS_PUBSUB).map((item) => attr(item, 'id'))
}

/** `not-allowed closed-node`. */
function errorOf(answer: Answer): string {
  if (answer === undefined || !('condition' in answer)) return 'no error'
  const error = find(answer.stanza, 'error', 'jabber:client')!
  const specific = error.children.find((child): child is Element => typeof child !== 'string' && child.ns === NS_ERRORS)
  const feature = specific?.attrs.feature
  return [answer.condition, specific?.name, feature].filter((word) => word !== undefined).join(' ')
}

function eventOf({ stanza }: { stanza: Stanza }): Element {
  return find(stanza, 'event', NS_EVENT)!.children[0] as Element
}

describe('XEP-0163 §3 Publishing Events', () => {
  test('a node that does not exist is made, and whoever sees the account is shown the event if his client wants it', async () => {
    await using setup = await setUp()
    const answer = await setup.juliet.iq('set', pubsub(publish(TUNE, item('1', tune('Introduction')))))
    expect(answer).toEqual(pubsub(publish(TUNE, item('1'))))
    expect(setup.shown).toHaveLength(1)
    const { account, stanza, options } = setup.shown[0]!
    expect(account.full).toBe(JULIET)
    expect(options).toEqual({ filter: `${TUNE}+notify` })
    expect(stanza).toMatchObject({ name: 'message', type: 'headline', from: parseJid(JULIET) })
    expect(eventOf(setup.shown[0]!)).toEqual(
      el('items', NS_EVENT, { node: TUNE }, el('item', NS_EVENT, { id: '1' }, tune('Introduction'))),
    )
  })

  test('one keeps the last item, also after a restart', async () => {
    const table = memoryTable()
    {
      await using setup = await setUp({ table })
      await put(setup.juliet, TUNE, '1', 'Introduction')
      await put(setup.juliet, TUNE, '2', 'Allegro')
    }
    await using setup = await setUp({ table })
    const answer = await setup.romeo.get(items(TUNE), JULIET)
    expect(answer).toEqual(pubsub(el('items', NS_PUBSUB, { node: TUNE }, item('2', tune('Allegro')))))
    const rows: string[] = []
    for await (const { sk } of setup.server.process.table.query(`j#pep-items#${JULIET}`)) rows.push(sk)
    expect(rows).toHaveLength(1)
  })

  test('§7.1.2 an item without an id is given one', async () => {
    await using setup = await setUp()
    const answer = (await setup.juliet.iq('set', pubsub(publish(TUNE, item(undefined, tune('Introduction')))))) as Element
    const id = attr(childOf(childOf(answer, 'publish', NS_PUBSUB)!, 'item', NS_PUBSUB)!, 'id')
    expect(id).not.toBe('')
    expect(await idsOf(setup.juliet, TUNE)).toEqual([id])
  })

  test('what is deleted with the account is not there for who has the name next', async () => {
    await using setup = await setUp()
    await put(setup.juliet, TUNE, '1')
    await setup.server.caller.ask('router', JULIET, 'account.remove', {})
    const heiress = await setup.server.connect('juliet@example.org/balcony')
    expect(errorOf(await heiress.iq('get', items(TUNE)))).toBe('item-not-found')
    for await (const row of setup.server.process.table.query(`j#pep-items#${JULIET}`)) expect.fail(`${row.sk} is left`)
  })
})

describe('XEP-0060 §7.1.3 Error Cases of a publication', () => {
  test.each([
    ['no node', pubsub(publish(undefined, item('1', tune('x')))), 'bad-request nodeid-required'],
    ['no item', pubsub(publish(TUNE)), 'bad-request item-required'],
    ['no payload', pubsub(publish(TUNE, item('1'))), 'bad-request payload-required'],
    ['two payloads', pubsub(publish(TUNE, item('1', tune('x'), tune('y')))), 'bad-request invalid-payload'],
    ['two items', pubsub(publish(TUNE, item('1', tune('x')), item('2', tune('y')))), 'bad-request'],
    ['a large payload', pubsub(publish(TUNE, item('1', tune('x'.repeat(2_000))))), 'not-acceptable payload-too-big'],
    ['a long id', pubsub(publish(TUNE, item('é'.repeat(257), tune('x')))), 'not-acceptable'],
    ['a long node', pubsub(publish('n'.repeat(513), item('1', tune('x')))), 'not-acceptable'],
    [
      'an unknown option',
      pubsub(publish(TUNE, item('1', tune('x'))), options({ colour: 'red' })),
      'conflict precondition-not-met',
    ],
    [
      'a model there is not',
      pubsub(publish(TUNE, item('1', tune('x'))), options({ access_model: 'authorize' })),
      'not-acceptable unsupported-access-model',
    ],
    ['nothing', pubsub(), 'bad-request'],
  ])('%s', async (_name, payload, error) => {
    await using setup = await setUp({ modules: { pep: { itemBytesMax: 1_024 } } })
    expect(errorOf(await setup.juliet.iq('set', payload))).toBe(error)
    expect(errorOf(await setup.juliet.iq('get', items(TUNE)))).toBe('item-not-found')
    expect(setup.shown).toEqual([])
  })

  test('nobody else publishes, unless the model or his affiliation says so', async () => {
    await using setup = await setUp()
    const { juliet, romeo, tybalt } = setup
    const ask = (client: TestClient) => client.iq('set', pubsub(publish(TUNE, item('r', tune('x')))), JULIET)
    expect(errorOf(await ask(romeo))).toBe('forbidden')
    await put(juliet, TUNE, '1')
    expect(errorOf(await ask(romeo))).toBe('forbidden')
    const affiliate = (jid: string, affiliation: string) =>
      juliet.iq('set', owner(el('affiliations', NS_OWNER, { node: TUNE }, el('affiliation', NS_OWNER, { jid, affiliation }))))
    await affiliate(ROMEO, 'publisher')
    expect(errorOf(await ask(romeo))).toBe('no error')
    expect(errorOf(await ask(tybalt))).toBe('forbidden')
    await juliet.iq('set', configure(TUNE, { publish_model: 'open' }))
    expect(errorOf(await ask(tybalt))).toBe('no error')
    await affiliate('tybalt@example.org', 'outcast')
    expect(errorOf(await ask(tybalt))).toBe('forbidden')
  })

  test('limits of an account are told as resource-constraint', async () => {
    await using setup = await setUp({ modules: { pep: { nodesMax: 10, accountBytesMax: 65_536 } } })
    const { juliet } = setup
    for (let n = 0; n < 10; n++) await put(juliet, `node-${n}`, '1')
    expect(errorOf(await put(juliet, 'node-10', '1'))).toBe('resource-constraint')
    expect(errorOf(await put(juliet, 'node-0', '1', 'x'.repeat(60_000)))).toBe('no error')
    expect(errorOf(await put(juliet, 'node-1', '1', 'x'.repeat(10_000)))).toBe('resource-constraint')
    expect(errorOf(await put(juliet, 'node-0', '1', 'x'.repeat(60_001)))).toBe('no error')
  })
})

describe('XEP-0060 §7.1.5 Publishing Options', () => {
  test('a node is made as they say; later they are preconditions', async () => {
    await using setup = await setUp()
    const { juliet, romeo, tybalt } = setup
    expect(errorOf(await put(juliet, TUNE, '1', 'x', { access_model: 'open', persist_items: 'true', max_items: 'max' }))).toBe(
      'no error',
    )
    expect(errorOf(await put(juliet, TUNE, '2', 'x', { access_model: 'open', persist_items: '1', max_items: 'max' }))).toBe(
      'no error',
    )
    expect(errorOf(await put(juliet, TUNE, '3', 'x', { access_model: 'whitelist' }))).toBe('conflict precondition-not-met')
    expect(await idsOf(tybalt, TUNE)).toEqual(['1', '2'])
    expect(await idsOf(romeo, TUNE)).toEqual(['1', '2'])
  })

  test('max_items: the oldest go; who publishes an item again makes it the newest', async () => {
    await using setup = await setUp()
    const { juliet } = setup
    for (const id of ['1', '2', '3', '1', '4']) await put(juliet, TUNE, id, id, { max_items: '3' })
    expect(await idsOf(juliet, TUNE)).toEqual(['3', '1', '4'])
    await juliet.iq('set', configure(TUNE, { max_items: '1' }))
    expect(await idsOf(juliet, TUNE)).toEqual(['4'])
    expect(errorOf(await juliet.iq('set', configure(TUNE, { max_items: '0' })))).toBe('not-acceptable')
  })

  test('XEP-0223: what is private is seen by the account alone', async () => {
    await using setup = await setUp()
    const { juliet, romeo } = setup
    await put(juliet, TUNE, '1', 'x', { access_model: 'whitelist', persist_items: '1', send_last_published_item: 'never' })
    expect(errorOf(await romeo.iq('get', items(TUNE), JULIET))).toBe('not-allowed closed-node')
    expect(setup.shown.map(({ options }) => options.only)).toEqual([[]])
  })

  test('items that are not kept are told all the same', async () => {
    await using setup = await setUp()
    const { juliet } = setup
    await put(juliet, TUNE, '1', 'x', { persist_items: '0' })
    expect(setup.shown).toHaveLength(1)
    for await (const row of setup.server.process.table.query(`j#pep-items#${JULIET}`)) expect.fail(`${row.sk} is kept`)
  })

  test('XEP-0060 §6.5.9.4, §7.2.3.5, §8.5.3.3 a node that keeps no items has none to retrieve but the last, to retract or to purge', async () => {
    await using setup = await setUp()
    const { juliet } = setup
    const unsupported = 'feature-not-implemented unsupported persistent-items'
    const create = el('create', NS_PUBSUB, { node: TUNE })
    await juliet.iq('set', pubsub(create, el('configure', NS_PUBSUB, {}, form('node_config', { persist_items: '0' }))))
    expect(errorOf(await juliet.iq('get', items(TUNE)))).toBe(unsupported)
    await put(juliet, TUNE, '1')
    expect(await idsOf(juliet, TUNE)).toEqual(['1']) // §6.5.5
    expect(errorOf(await juliet.iq('set', pubsub(el('retract', NS_PUBSUB, { node: TUNE }, item('1')))))).toBe(unsupported)
    expect(errorOf(await juliet.iq('set', owner(el('purge', NS_OWNER, { node: TUNE }))))).toBe(unsupported)
    expect(setup.shown).toHaveLength(1)
  })
})

describe('XEP-0060 §6.5 Retrieve Items from a Node', () => {
  test.each([
    ['open', 'no error', 'no error'],
    ['presence', 'no error', 'not-authorized presence-subscription-required'],
    ['roster', 'not-authorized not-in-roster-group', 'not-authorized not-in-roster-group'],
    ['whitelist', 'not-allowed closed-node', 'not-allowed closed-node'],
  ])('access model %s: a contact %s, a stranger %s', async (model, contact, stranger) => {
    await using setup = await setUp()
    await put(setup.juliet, TUNE, '1', 'x', { access_model: model })
    expect(errorOf(await setup.romeo.iq('get', items(TUNE), JULIET))).toBe(contact)
    expect(errorOf(await setup.tybalt.iq('get', items(TUNE), JULIET))).toBe(stranger)
    expect(errorOf(await setup.juliet.iq('get', items(TUNE)))).toBe('no error')
  })

  test('roster: who is in a group that is allowed', async () => {
    await using setup = await setUp()
    const { juliet, romeo } = setup
    await put(juliet, TUNE, '1', 'x', { access_model: 'roster', roster_groups_allowed: 'Friends' })
    const friend = el('item', 'jabber:iq:roster', { jid: ROMEO }, el('group', 'jabber:iq:roster', {}, 'Friends'))
    await juliet.iq('set', el('query', 'jabber:iq:roster', {}, friend))
    expect(await idsOf(romeo, TUNE)).toEqual(['1'])
    await put(juliet, TUNE, '2')
    expect(setup.shown.at(-1)!.options.only).toEqual([ROMEO])
  })

  test('members of a whitelist, but not outcasts of an open node; who is blocked is told nothing', async () => {
    await using setup = await setUp()
    const { juliet, romeo, tybalt } = setup
    await put(juliet, TUNE, '1', 'x', { access_model: 'whitelist' })
    await put(juliet, 'open', '1', 'x', { access_model: 'open' })
    const affiliate = (node: string, jid: string, affiliation: string) =>
      juliet.iq('set', owner(el('affiliations', NS_OWNER, { node }, el('affiliation', NS_OWNER, { jid, affiliation }))))
    await affiliate(TUNE, ROMEO, 'member')
    await affiliate('open', ROMEO, 'outcast')
    expect(await idsOf(romeo, TUNE)).toEqual(['1'])
    expect(errorOf(await romeo.iq('get', items('open'), JULIET))).toBe('forbidden')
    expect(await idsOf(tybalt, 'open')).toEqual(['1'])
    await juliet.iq('set', el('block', 'urn:xmpp:blocking', {}, el('item', 'urn:xmpp:blocking', { jid: 'tybalt@example.org' })))
    expect(errorOf(await tybalt.iq('get', items('open'), JULIET))).toBe('service-unavailable')
  })

  test('by id, the latest, in pages; nothing where there is nothing', async () => {
    await using setup = await setUp()
    const { juliet } = setup
    for (const id of ['a', 'b', 'c', 'd', 'e', 'f']) await put(juliet, TUNE, id, id, { max_items: 'max' })
    const found = await juliet.get(items(TUNE, {}, item('f'), item('nothing'), item('b')))
    expect(found).toEqual(pubsub(el('items', NS_PUBSUB, { node: TUNE }, item('f', tune('f')), item('b', tune('b')))))
    expect(await idsOf(juliet, TUNE, { max_items: '2' })).toEqual(['e', 'f'])
    const page = el('set', NS_RSM, {}, el('max', NS_RSM, {}, '2'), el('after', NS_RSM, {}, 'b'))
    const answer = await juliet.get(pubsub(el('items', NS_PUBSUB, { node: TUNE }), page))
    expect(childrenOf(childOf(answer, 'items', NS_PUBSUB)!, 'item', NS_PUBSUB).map(({ attrs }) => attrs.id)).toEqual(['c', 'd'])
    expect(textOf(childOf(childOf(answer, 'set', NS_RSM)!, 'count', NS_RSM)!)).toBe('6')
    await juliet.iq('set', owner(el('purge', NS_OWNER, { node: TUNE })))
    expect(await juliet.get(items(TUNE))).toEqual(items(TUNE))
  })

  test('what does not fit into one answer is left out, and the answer says so (§6.5.4)', async () => {
    await using setup = await setUp()
    const { juliet } = setup
    for (const id of ['a', 'b', 'c', 'd', 'e']) await put(juliet, TUNE, id, id.repeat(180_000), { max_items: 'max' })
    const answer = await juliet.get(items(TUNE))
    const ids = childrenOf(childOf(answer, 'items', NS_PUBSUB)!, 'item', NS_PUBSUB).map(({ attrs }) => attrs.id)
    expect(ids).toEqual(['c', 'd', 'e'])
    expect(textOf(childOf(childOf(answer, 'set', NS_RSM)!, 'count', NS_RSM)!)).toBe('5')
  })
})

describe('XEP-0060 §7.2 Delete an Item from a Node', () => {
  const retract = (node: string | undefined, ...items: readonly Element[]) =>
    pubsub(el('retract', NS_PUBSUB, { node, notify: '1' }, ...items))

  test('it is gone, others hear of it, and the one before it is the last one', async () => {
    await using setup = await setUp()
    const { juliet, emit, shown } = setup
    for (const id of ['1', '2']) await put(juliet, TUNE, id, id, { max_items: '5' })
    await juliet.iq('set', retract(TUNE, item('2')))
    expect(eventOf(shown.at(-1)!)).toEqual(el('items', NS_EVENT, { node: TUNE }, el('retract', NS_EVENT, { id: '2' })))
    expect(await idsOf(juliet, TUNE)).toEqual(['1'])
    await emit('presence.greeted', { contact: parseJid(JULIET), watchers: [ROMEO], at: undefined, nodes: [TUNE] })
    expect(attr(eventOf(shown.at(-1)!).children[0] as Element, 'id')).toBe('1')
  })

  test.each([
    ['no node', retract(undefined, item('1')), 'bad-request nodeid-required'],
    ['no item', retract(TUNE), 'bad-request item-required'],
    ['an item without id', retract(TUNE, item(undefined)), 'bad-request item-required'],
    ['an item that is not there', retract(TUNE, item('9')), 'item-not-found'],
    ['a node that is not there', retract('none', item('1')), 'item-not-found'],
  ])('%s', async (_name, payload, error) => {
    await using setup = await setUp()
    await put(setup.juliet, TUNE, '1')
    expect(errorOf(await setup.juliet.iq('set', payload))).toBe(error)
    expect(errorOf(await setup.romeo.iq('set', retract(TUNE, item('1')), JULIET))).toBe('forbidden')
    expect(await idsOf(setup.juliet, TUNE)).toEqual(['1'])
  })
})

describe('XEP-0060 §8 Owner Use Cases', () => {
  test('create, with a configuration or without a name; conflict where it is', async () => {
    await using setup = await setUp()
    const { juliet, romeo } = setup
    const create = (node?: string) => el('create', NS_PUBSUB, { node })
    const configuration = el('configure', NS_PUBSUB, {}, form('node_config', { access_model: 'open', title: 'Tunes' }))
    expect(await juliet.iq('set', pubsub(create(TUNE), configuration))).toBeUndefined()
    expect(errorOf(await juliet.iq('set', pubsub(create(TUNE))))).toBe('conflict')
    const instant = (await juliet.iq('set', pubsub(create()))) as Element
    expect(attr(childOf(instant, 'create', NS_PUBSUB)!, 'node')).not.toBe('')
    expect(errorOf(await romeo.iq('set', pubsub(create('mine')), JULIET))).toBe('forbidden')
    expect(await juliet.get(items(TUNE))).toEqual(items(TUNE))
  })

  test('configure, delete and purge are the owner’s, and told', async () => {
    await using setup = await setUp()
    const { juliet, romeo, shown } = setup
    await put(juliet, TUNE, '1')
    for (const payload of [
      owner(el('delete', NS_OWNER, { node: TUNE })),
      owner(el('purge', NS_OWNER, { node: TUNE })),
      configure(TUNE, {}),
    ])
      expect(errorOf(await romeo.iq('set', payload, JULIET))).toBe('forbidden')
    await juliet.iq('set', configure(TUNE, { notify_config: '1', access_model: 'open' }))
    expect(eventOf(shown.at(-1)!).name).toBe('configuration')
    const form_ = childOf(
      (await juliet.get(owner(el('configure', NS_OWNER, { node: TUNE })))).children[0] as Element,
      'x',
      NS_DATA,
    )!
    const model = childrenOf(form_, 'field', NS_DATA).find(({ attrs }) => attrs.var === 'pubsub#access_model')!
    expect(textOf(childOf(model, 'value', NS_DATA)!)).toBe('open')
    await juliet.iq('set', owner(el('purge', NS_OWNER, { node: TUNE })))
    expect(eventOf(shown.at(-1)!)).toEqual(el('purge', NS_EVENT, { node: TUNE }))
    await juliet.iq('set', owner(el('delete', NS_OWNER, { node: TUNE })))
    expect(eventOf(shown.at(-1)!)).toEqual(el('delete', NS_EVENT, { node: TUNE }))
    for (const payload of [owner(el('delete', NS_OWNER, { node: TUNE })), configure(TUNE, {})])
      expect(errorOf(await juliet.iq('set', payload))).toBe('item-not-found')
  })
})

describe('XEP-0060 §6.1 Subscribe to a Node', () => {
  const subscribe = (jid: string, name = 'subscribe') => pubsub(el(name, NS_PUBSUB, { node: TUNE, jid }))

  test('one who does not see the account subscribes to an open node, and has its events, until he unsubscribes or is blocked', async () => {
    await using setup = await setUp()
    const { juliet, tybalt, server } = setup
    await put(juliet, TUNE, '1', 'x', { access_model: 'open' })
    const answer = await tybalt.iq('set', subscribe('tybalt@example.org'), JULIET)
    const subscription = el('subscription', NS_PUBSUB, { node: TUNE, jid: 'tybalt@example.org', subscription: 'subscribed' })
    expect(answer).toEqual(pubsub(subscription))
    await put(juliet, TUNE, '2')
    await server.quiet()
    const came = () =>
      tybalt.received
        .filter(({ name }) => name === 'message')
        .map((stanza) => attr(eventOf({ stanza }).children[0] as Element, 'id'))
    expect(came()).toEqual(['1', '2']) // the last one first (§6.1.7)
    expect(await tybalt.get(pubsub(el('subscriptions', NS_PUBSUB)), JULIET)).toEqual(
      pubsub(el('subscriptions', NS_PUBSUB, {}, subscription)),
    )
    expect(errorOf(await tybalt.iq('set', subscribe('tybalt@example.org', 'unsubscribe'), JULIET))).toBe('no error')
    expect(errorOf(await tybalt.iq('set', subscribe('tybalt@example.org', 'unsubscribe'), JULIET))).toBe(
      'unexpected-request not-subscribed',
    )
    await put(juliet, TUNE, '3')
    await tybalt.iq('set', subscribe('tybalt@example.org'), JULIET)
    await juliet.iq('set', el('block', 'urn:xmpp:blocking', {}, el('item', 'urn:xmpp:blocking', { jid: 'tybalt@example.org' })))
    await put(juliet, TUNE, '4')
    await server.quiet()
    expect(came()).toEqual(['1', '2', '3'])
  })

  test.each([
    ['somebody else', subscribe(ROMEO), 'bad-request invalid-jid'],
    ['nobody', subscribe('@'), 'bad-request invalid-jid'],
    ['who may not see it', subscribe('tybalt@example.org'), 'not-authorized presence-subscription-required'],
  ])('%s cannot be subscribed', async (_name, payload, error) => {
    await using setup = await setUp()
    await put(setup.juliet, TUNE, '1')
    expect(errorOf(await setup.tybalt.iq('set', payload, JULIET))).toBe(error)
  })
})

describe('XEP-0163 §4.3.4 Sending the Last Published Item', () => {
  test('to who comes online, of the nodes he wants and may see, with the time', async () => {
    await using setup = await setUp()
    const { juliet, emit, shown } = setup
    await put(juliet, TUNE, '1')
    await put(juliet, 'long', '1', 'x'.repeat(5_000))
    await put(juliet, 'other', '1')
    await put(juliet, 'private', '1', 'x', { access_model: 'whitelist' })
    await put(juliet, 'never', '1', 'x', { send_last_published_item: 'never' })
    const contact = parseJid(JULIET)
    const told = shown.length
    const at = { edge: 'e', session: 's' }
    await emit('presence.greeted', { contact, watchers: [ROMEO], at, nodes: [TUNE, 'long', 'private', 'never'] })
    const sent = shown.slice(told)
    expect(sent.map(({ options }) => options)).toEqual(
      [TUNE, 'long'].map((node) => ({ filter: `${node}+notify`, only: [ROMEO], at })),
    )
    for (const { stanza } of sent) expect(find(stanza, 'delay', NS_DELAY)).toBeDefined()
    await emit('presence.greeted', { contact, watchers: [JULIET], at, nodes: ['private'] })
    expect(shown.at(-1)!.options).toEqual({ filter: 'private+notify', only: [JULIET], at })
    const before = shown.length
    await emit('presence.greeted', { contact, watchers: [ROMEO, JULIET], at: undefined, nodes: undefined })
    expect(
      shown
        .slice(before)
        .map(({ options }) => options.filter)
        .sort(),
    ).toEqual(['long+notify', 'other+notify', 'private+notify', `${TUNE}+notify`].sort())
  })
})

describe('XEP-0163 §6 Determining Support', () => {
  test('the account says what it is, and lists the nodes that may be seen', async () => {
    await using setup = await setUp()
    const { juliet, romeo, tybalt } = setup
    await put(juliet, TUNE, '1')
    await put(juliet, 'private', '1', 'x', { access_model: 'whitelist' })
    await put(juliet, 'open', '1', 'x', { access_model: 'open' })
    const info = await romeo.get(el('query', NS_DISCO_INFO), JULIET)
    expect(childrenOf(info, 'identity', NS_DISCO_INFO).map(({ attrs }) => `${attrs.category}/${attrs.type}`)).toContain(
      'pubsub/pep',
    )
    expect(childrenOf(info, 'feature', NS_DISCO_INFO).map(({ attrs }) => attrs.var)).toContain(`${NS_PUBSUB}#publish-options`)
    const list = async (client: TestClient) =>
      (await client.get(el('query', NS_DISCO_ITEMS), JULIET)).children.map((child) => attr(child as Element, 'node'))
    expect((await list(juliet)).sort()).toEqual([TUNE, 'open', 'private'].sort())
    expect((await list(romeo)).sort()).toEqual([TUNE, 'open'].sort())
    const node = await tybalt.get(el('query', NS_DISCO_INFO, { node: 'open' }), JULIET)
    expect(childrenOf(node, 'identity', NS_DISCO_INFO)[0]!.attrs).toEqual({ category: 'pubsub', type: 'leaf' })
    expect(await romeo.iq('get', el('query', NS_DISCO_INFO, { node: 'none' }), JULIET)).toMatchObject({
      condition: 'item-not-found',
    })
    for (const hidden of [TUNE, 'private', 'none'])
      expect(await tybalt.iq('get', el('query', NS_DISCO_INFO, { node: hidden }), JULIET)).toMatchObject({
        condition: 'service-unavailable',
      })
  })
})

describe('XEP-0227 §4.8 Personal Eventing Protocol', () => {
  test('the export has each node with its configuration, affiliations and subscriptions, and its items', async () => {
    await using server = await harness([disco, commands, exporting, pep])
    const juliet = await server.online('juliet@example.org/balcony')
    await put(juliet, TUNE, '1', 'Introduction', { access_model: 'open' })
    const affiliation = el('affiliation', NS_OWNER, { jid: ROMEO, affiliation: 'publisher' })
    await juliet.iq('set', owner(el('affiliations', NS_OWNER, { node: TUNE }, affiliation)))
    let text = ''
    for await (const page of new Administration(server.caller, server.ownership).export(parseJid(JULIET))) text += page
    const root = parseElement(text.slice(text.indexOf('\n')).trim())
    const user = (root.children.find((child) => typeof child !== 'string') as Element).children.find(
      (child) => typeof child !== 'string',
    ) as Element
    const config = childOf(user, 'pubsub', NS_OWNER)!
    expect(attr(childOf(config, 'configure', NS_OWNER)!, 'node')).toBe(TUNE)
    expect(childOf(config, 'affiliations', NS_OWNER)).toEqual(el('affiliations', NS_OWNER, { node: TUNE }, affiliation))
    const items = childOf(childOf(user, 'pubsub', NS_PUBSUB)!, 'items', NS_PUBSUB)!
    expect(items).toEqual(
      el('items', NS_PUBSUB, { node: TUNE }, el('item', NS_PUBSUB, { id: '1', publisher: JULIET }, tune('Introduction'))),
    )
  })
})

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


test('probe', async () => {
  await using setup = await setUp()
  const { juliet, romeo, tybalt, shown, server } = setup
  const log: unknown[] = []
  const say = async (what: string, a: Promise<Answer> | Answer) => log.push([what, errorOf(await a)])
  await put(juliet, TUNE, '1', '1', { persist_items: '0' })
  await say('purge transient', juliet.iq('set', owner(el('purge', NS_OWNER, { node: TUNE }))))
  await say('retract transient', juliet.iq('set', pubsub(el('retract', NS_PUBSUB, { node: TUNE }, item('1')))))
  await say('items transient', juliet.iq('get', items(TUNE)))
  await say('nobody', juliet.iq('get', items(TUNE), 'nobody@example.org'))
  await say('nobody disco', juliet.iq('get', el('query', NS_DISCO_INFO), 'nobody@example.org'))
  await say('stranger no such node', tybalt.iq('get', items('urn:none'), JULIET))
  await say('stranger node', tybalt.iq('get', items(TUNE), JULIET))
  await say('create same', juliet.iq('set', pubsub(el('create', NS_PUBSUB, { node: TUNE }))))
  await say('create stranger', tybalt.iq('set', pubsub(el('create', NS_PUBSUB, { node: 'q' })), JULIET))
  await say('owner retract by stranger', tybalt.iq('set', pubsub(el('retract', NS_PUBSUB, { node: TUNE }, item('1'))), JULIET))
  await say('owner get by stranger', tybalt.iq('get', owner(el('configure', NS_OWNER, { node: 'urn:none' })), JULIET))
  await say('sub full other', romeo.iq('set', pubsub(el('subscribe', NS_PUBSUB, { node: TUNE, jid: 'tybalt@example.org' })), JULIET))
  await say('subscriptions not node', juliet.iq('get', pubsub(el('subscriptions', NS_PUBSUB, { node: 'urn:none' }))))
  await say('proto', put(juliet, '__proto__', '__proto__'))
  await say('proto2', put(juliet, 'constructor', 'toString'))
  await say('disco items', juliet.iq('get', el('query', NS_DISCO_ITEMS, { node: 'urn:none' }), JULIET))
  await say('disco info', juliet.iq('get', el('query', NS_DISCO_INFO, { node: 'urn:none' }), JULIET))
  await say('aff proto', juliet.iq('set', owner(el('affiliations', NS_OWNER, { node: TUNE }, el('affiliation', NS_OWNER, { jid: '__proto__', affiliation: 'member' })))))
  await say('aff self', juliet.iq('set', owner(el('affiliations', NS_OWNER, { node: TUNE }, el('affiliation', NS_OWNER, { jid: JULIET, affiliation: 'member' })))))
  await say('publish nil node', juliet.iq('set', pubsub(publish(undefined, item('1', tune('x'))))))
  await say('bare item no payload', juliet.iq('set', pubsub(publish('urn:q', item('1')))))
  await say('bad form', juliet.iq('set', pubsub(publish('urn:q', item('1', tune('a'))), options({ access_model: 'authorize' }))))
  await say('maxitems 0', juliet.iq('set', pubsub(publish('urn:q', item('1', tune('a'))), options({ max_items: '0' }))))
  await say('maxitems big', juliet.iq('set', pubsub(publish('urn:q', item('1', tune('a'))), options({ max_items: '100000' }))))
  await say('persist true', juliet.iq('set', pubsub(publish('urn:r', item('1', tune('a'))), options({ persist_items: 'true', access_model: 'open' }))))
  await say('persist true again', juliet.iq('set', pubsub(publish('urn:r', item('1', tune('a'))), options({ persist_items: 'true', access_model: 'open' }))))
  await say('persist unknown opt', juliet.iq('set', pubsub(publish('urn:r', item('1', tune('a'))), options({ item_expire: '600' }))))
  await say('item_expire config', juliet.iq('set', configure('urn:r', { item_expire: 'max' })))
  console.log(log.map(String).join('\n'))
  // probe
  const { received } = tybalt
  received.length = 0
  tybalt.send(tybalt.stanza('presence', { type: 'probe', to: parseJid('nobody@example.org') }))
  tybalt.send(tybalt.stanza('presence', { type: 'probe', to: parseJid(JULIET) }))
  await server.quiet()
  console.log(received.map((r) => [r.name, r.type, r.from.full, r.to?.full].join(' ')).join('\n'))
})

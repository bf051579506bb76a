import { describe, expect, test } from 'vitest'
import { manualClock } from '#core/clock.ts'
import { type AnyModule, defineModule } from '#core/module.ts'
import { type Answer, type HarnessOptions, harness, type Refusal, type TestClient, type TestServer } from '#test/harness.ts'
import { StanzaError } from '#xmpp/error.ts'
import { type Field, formElement, makeField, makeForm, parseForm, value } from '#xmpp/form.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT, NS_DATA } from '#xmpp/ns.ts'
import { childOf, type Element, el, find, stanza, textOf } from '#xmpp/stanza.ts'
import commands, { type CommandCall } from './commands.ts'
import disco from './disco.ts'

const NS = 'http://jabber.org/protocol/commands'
const NS_INFO = 'http://jabber.org/protocol/disco#info'
const NS_ITEMS = 'http://jabber.org/protocol/disco#items'
const HOST = 'example.org'
const BARD = 'bard@example.org/globe'
const ADMIN = { config: { admins: ['bard@example.org'] } }

/** A play in three acts, for administrators, and a count for everybody. */
function theatre(played: CommandCall[] = []): AnyModule {
  const form = (name: string, ...more: readonly Field[]) =>
    makeForm('form', 'urn:test', [makeField('text-single', name, { required: true }), ...more], { title: name })
  return defineModule({
    name: 'theatre',
    home: 'presence',
    xeps: [],
    setup(app) {
      const { add } = app.need(commands)
      add({
        node: 'play',
        name: 'Play',
        who: 'admin',
        stages: [
          () => form('first', makeField('text-private', 'secret')),
          ({ values }) => form('second', makeField('hidden', 'after', { values: values.get('first')! })),
          () => form('third'),
        ],
        run(call) {
          if (call.values.get('third')![0] === 'boo') throw new StanzaError('conflict', 'the audience is against it')
          played.push(call)
          return { note: 'exeunt', form: makeForm('result', 'urn:test', [makeField('text-single', 'acts', { value: '3' })]) }
        },
      })
      add({ node: 'count', name: 'Count', who: 'self', run: ({ account }) => ({ note: `you are ${account.bare}` }) })
      add({ node: 'ask', name: 'Ask', who: 'self', stages: [() => form('what')], run: () => ({ note: 'no', noteType: 'error' }) })
    },
  })
}

/** A command whose form cannot be made. */
const shut: AnyModule = defineModule({
  name: 'shut',
  home: 'presence',
  xeps: [],
  setup(app) {
    const plague = (): never => {
      throw new StanzaError('service-unavailable', 'the plague')
    }
    app.need(commands).add({ node: 'shut', name: 'Shut', who: 'self', stages: [plague], run: () => {} })
  },
})

const serve = (options: HarnessOptions = ADMIN, played: CommandCall[] = []) =>
  harness([disco, commands, theatre(played)], options)

interface Said {
  readonly node?: string
  readonly action?: string
  readonly sessionid?: string | undefined
  readonly lang?: string
  readonly fields?: Readonly<Record<string, string>>
  readonly payload?: readonly Element[]
}

function say(
  client: TestClient,
  { node = 'play', action, sessionid, lang, fields, payload = [] }: Said,
  to = HOST,
): Promise<Answer> {
  const given = Object.entries(fields ?? {}).map(([name, text]) => makeField('text-single', name, { value: text }))
  const form = fields && formElement({ type: 'submit', instructions: [], fields: given })
  return client.iq(
    'set',
    el('command', NS, { node, action, sessionid, 'xml:lang': lang }, ...(form ? [form] : []), ...payload),
    to,
  )
}

/** What is answered that goes on. */
async function told(answer: Promise<Answer>): Promise<Element> {
  const got = (await answer) as Element | Refusal
  if ('condition' in got) throw new Error(`refused: ${got.condition} ${got.text}`)
  return got
}

/** The general and the specific condition of a refusal, and its type (§4.4). */
async function refusal(answer: Promise<Answer>): Promise<string> {
  const { condition, type, stanza } = (await answer) as Refusal
  const error = find(stanza, 'error', NS_CLIENT)!
  const specific = error.children.find((child): child is Element => typeof child !== 'string' && child.ns === NS)
  return [type, condition, specific?.name ?? ''].join(' ').trim()
}

const actionsOf = (answer: Element) => {
  const actions = childOf(answer, 'actions', NS)!
  return [actions.attrs.execute, ...actions.children.map((child) => (child as Element).name)]
}
const formIn = (answer: Element) => parseForm(childOf(answer, 'x', NS_DATA)!)

describe('XEP-0050 §2.1, §2.2 what there is', () => {
  test('the host announces commands, and forms', async () => {
    await using server = await serve()
    const info = await (await server.connect(BARD)).get(el('query', NS_INFO), HOST)
    const features = info.children.map((child) => (child as Element).attrs.var)
    expect(features).toEqual(expect.arrayContaining([NS, NS_DATA]))
  })

  test('the list is of the commands that one may give', async () => {
    await using server = await serve()
    const listed = async (client: TestClient) =>
      (await client.get(el('query', NS_ITEMS, { node: NS }), HOST)).children.map((child) => (child as Element).attrs)
    const own = [
      { jid: HOST, node: 'count', name: 'Count' },
      { jid: HOST, node: 'ask', name: 'Ask' },
    ]
    expect(await listed(await server.connect(BARD))).toEqual([{ jid: HOST, node: 'play', name: 'Play' }, ...own])
    expect(await listed(await server.connect('groundling@example.org/pit'))).toEqual(own)
  })

  test('the list is an automation of type command-list, a command one of type command-node', async () => {
    await using server = await serve()
    const bard = await server.connect(BARD)
    const identity = async (node: string) =>
      childOf(await bard.get(el('query', NS_INFO, { node }), HOST), 'identity', NS_INFO)!.attrs
    expect(await identity(NS)).toMatchObject({ category: 'automation', type: 'command-list' })
    expect(await identity('play')).toEqual({ category: 'automation', type: 'command-node', name: 'Play' })
  })

  test('information about a command that one may not give is forbidden, about none is item-not-found', async () => {
    await using server = await serve()
    const groundling = await server.connect('groundling@example.org/pit')
    expect(await groundling.iq('get', el('query', NS_INFO, { node: 'play' }), HOST)).toMatchObject({ condition: 'forbidden' })
    expect(await groundling.iq('get', el('query', NS_INFO, { node: 'opera' }), HOST)).toMatchObject({
      condition: 'item-not-found',
    })
  })
})

describe('XEP-0050 §2.4 executing commands', () => {
  test.each([undefined, 'execute'])('§2.4.1: one that needs no form is completed at once, action %s', async (action) => {
    await using server = await serve()
    const answer = await told(say(await server.connect('groundling@example.org/pit'), { node: 'count', action }))
    expect(answer.attrs).toMatchObject({ node: 'count', status: 'completed', 'xml:lang': 'en' })
    expect(answer.attrs.sessionid).not.toBe('')
    expect(textOf(childOf(answer, 'note', NS)!)).toBe('you are groundling@example.org')
  })

  test('§2.4.2: stage by stage, and what was filled in comes together', async () => {
    const played: CommandCall[] = []
    await using server = await serve(ADMIN, played)
    const bard = await server.connect(BARD)
    const first = await told(say(bard, {}))
    const { sessionid } = first.attrs
    expect(first.attrs).toMatchObject({ node: 'play', status: 'executing' })
    expect(actionsOf(first)).toEqual(['next', 'next'])
    const second = await told(say(bard, { sessionid, action: 'next', fields: { first: 'one' } }))
    expect(second.attrs.sessionid).toBe(sessionid)
    expect(actionsOf(second)).toEqual(['next', 'prev', 'next'])
    expect(value(formIn(second), 'after')).toBe('one')
    const third = await told(say(bard, { sessionid, action: 'execute', fields: { second: 'two' } }))
    expect(actionsOf(third)).toEqual(['complete', 'prev', 'complete'])
    const end = await told(say(bard, { sessionid, action: 'complete', fields: { third: 'three' } }))
    expect(end.attrs.status).toBe('completed')
    expect(value(formIn(end), 'acts')).toBe('3')
    expect(played.map(({ values, domain, from }) => [Object.fromEntries(values), domain, from.full])).toEqual([
      [{ first: ['one'], second: ['two'], third: ['three'] }, HOST, BARD],
    ])
  })

  test('§2.4.2: going back shows what was filled in, but no password', async () => {
    await using server = await serve()
    const bard = await server.connect(BARD)
    const { sessionid } = (await told(say(bard, {}))).attrs
    await told(say(bard, { sessionid, action: 'next', fields: { first: 'one', secret: 'Calliope' } }))
    const back = formIn(await told(say(bard, { sessionid, action: 'prev' })))
    expect(value(back, 'first')).toBe('one')
    expect(value(back, 'secret')).toBeUndefined()
  })

  test('§2.4.3: one that is canceled is answered canceled, and its session has ended', async () => {
    const played: CommandCall[] = []
    await using server = await serve(ADMIN, played)
    const bard = await server.connect(BARD)
    const { sessionid } = (await told(say(bard, {}))).attrs
    expect((await told(say(bard, { sessionid, action: 'cancel' }))).attrs.status).toBe('canceled')
    expect(await refusal(say(bard, { sessionid, fields: { first: 'x' } }))).toBe('cancel not-allowed session-expired')
    expect(played).toEqual([])
  })

  test('§3.6: one that has failed says so in a note', async () => {
    await using server = await serve()
    const bard = await server.connect(BARD)
    const { sessionid } = (await told(say(bard, { node: 'ask' }))).attrs
    const answer = await told(say(bard, { node: 'ask', sessionid, fields: { what: 'why' } }))
    expect(answer.attrs.status).toBe('completed')
    expect(childOf(answer, 'note', NS)!.attrs.type).toBe('error')
  })

  test('what is refused at the end may be tried again, and nothing of it is sent back', async () => {
    await using server = await serve()
    const bard = await server.connect(BARD)
    const { sessionid } = (await told(say(bard, {}))).attrs
    await told(say(bard, { sessionid, fields: { first: 'one' } }))
    await told(say(bard, { sessionid, fields: { second: 'two' } }))
    const refused = (await say(bard, { sessionid, fields: { third: 'boo' } })) as Refusal
    expect(refused.condition).toBe('conflict')
    expect(refused.stanza.tree().map(({ name }) => name)).toEqual(['error'])
    expect((await told(say(bard, { sessionid, fields: { third: 'three' } }))).attrs.status).toBe('completed')
  })
})

describe('XEP-0050 §4.4 possible errors', () => {
  test('who may not give it is forbidden', async () => {
    await using server = await serve()
    expect(await refusal(say(await server.connect('groundling@example.org/pit'), {}))).toBe('cancel forbidden')
  })

  test('an administrator of one domain is none of another, and users have no commands there', async () => {
    const config = { domains: ['example.org', 'example.net'], admins: ['bard@example.org'] }
    await using server = await serve({ config })
    const bard = await server.connect(BARD)
    expect(await refusal(say(bard, {}, 'example.net'))).toBe('cancel forbidden')
    expect(await refusal(say(bard, { node: 'count' }, 'example.net'))).toBe('cancel forbidden')
  })

  test('whom hosts names for a domain administers it, and nobody else', async () => {
    const hosts = { 'example.net': { admins: ['bard@example.org'] } }
    const config = { domains: ['example.org', 'example.net'], admins: ['kit@example.net'], hosts }
    await using server = await serve({ config })
    const bard = await server.connect(BARD)
    expect((await told(say(bard, {}, 'example.net'))).attrs.status).toBe('executing')
    expect(await refusal(say(bard, {}, 'example.org'))).toBe('cancel forbidden')
    expect(await refusal(say(await server.connect('kit@example.net/x'), {}, 'example.net'))).toBe('cancel forbidden')
  })

  test('a node that is none is item-not-found', async () => {
    await using server = await serve()
    const bard = await server.connect(BARD)
    expect(await refusal(say(bard, { node: 'opera' }))).toBe('cancel item-not-found')
    expect(await refusal(bard.iq('set', el('command', NS), HOST))).toBe('cancel item-not-found')
  })

  test('an action that is none is malformed-action', async () => {
    await using server = await serve()
    expect(await refusal(say(await server.connect(BARD), { action: 'sing' }))).toBe('modify bad-request malformed-action')
  })

  test.each(['next', 'prev', 'complete', 'cancel'])('%s before anything has begun is bad-action', async (action) => {
    await using server = await serve()
    expect(await refusal(say(await server.connect(BARD), { action }))).toBe('modify bad-request bad-action')
  })

  test('an action that the stage does not have is bad-action, and the stage stays', async () => {
    await using server = await serve()
    const bard = await server.connect(BARD)
    const { sessionid } = (await told(say(bard, {}))).attrs
    expect(await refusal(say(bard, { sessionid, action: 'prev' }))).toBe('modify bad-request bad-action')
    expect(await refusal(say(bard, { sessionid, action: 'complete', fields: { first: 'x' } }))).toBe(
      'modify bad-request bad-action',
    )
    await told(say(bard, { sessionid, fields: { first: 'one' } }))
    await told(say(bard, { sessionid, fields: { second: 'two' } }))
    expect(await refusal(say(bard, { sessionid, action: 'next', fields: { third: 'x' } }))).toBe('modify bad-request bad-action')
  })

  test.each<[string, Said]>([
    ['no form', {}],
    ['a form without what is required', { fields: { secret: 'x' } }],
    ['a form of type cancel, which counts as submitted (§3.5.1)', { payload: [el('x', NS_DATA, { type: 'cancel' })] }],
    ['a form that is none', { payload: [el('x', NS_DATA, { type: 'sonnet' })] }],
    ['a form that was only shown', { payload: [el('x', NS_DATA, { type: 'form' })] }],
    ['too much', { fields: { first: 'x'.repeat(1_025) } }],
  ])('%s is bad-payload', async (_name, said) => {
    await using server = await serve({ ...ADMIN, modules: { commands: { sessionBytesMax: 1_024 } } })
    const bard = await server.connect(BARD)
    const { sessionid } = (await told(say(bard, {}))).attrs
    expect(await refusal(say(bard, { sessionid, action: 'next', ...said }))).toBe('modify bad-request bad-payload')
  })

  test('a session that was never given, of another resource, or of another command is bad-sessionid', async () => {
    await using server = await serve()
    const bard = await server.connect(BARD)
    const elsewhere = await server.connect('bard@example.org/stratford')
    const { sessionid } = (await told(say(bard, {}))).attrs
    const bad = 'modify bad-request bad-sessionid'
    for (const made of ['', 'x', 'x.y', `${sessionid}x`]) expect(await refusal(say(bard, { sessionid: made }))).toBe(bad)
    expect(await refusal(say(elsewhere, { sessionid, action: 'cancel' }))).toBe(bad)
    expect(await refusal(say(bard, { node: 'ask', sessionid, action: 'cancel' }))).toBe(bad)
    expect((await told(say(bard, { sessionid, action: 'cancel' }))).attrs.status).toBe('canceled')
  })

  test('a session that has timed out or was completed is session-expired', async () => {
    const clock = manualClock()
    await using server = await serve({ ...ADMIN, clock, modules: { commands: { sessionSeconds: 60 } } })
    const bard = await server.connect(BARD)
    const { sessionid } = (await told(say(bard, { node: 'ask' }))).attrs
    const { sessionid: late } = (await told(say(bard, {}))).attrs
    await told(say(bard, { node: 'ask', sessionid, fields: { what: 'x' } }))
    expect(await refusal(say(bard, { node: 'ask', sessionid, fields: { what: 'x' } }))).toBe('cancel not-allowed session-expired')
    clock.advance(59_000)
    await told(say(bard, { sessionid: late, fields: { first: 'one' } })) // and lives on
    clock.advance(59_000)
    await told(say(bard, { sessionid: late, fields: { second: 'two' } }))
    clock.advance(61_000)
    expect(await refusal(say(bard, { sessionid: late, fields: { third: 'x' } }))).toBe('cancel not-allowed session-expired')
  })

  test('§3.7: a command that asks for another language is bad-locale, a stream in another one is not', async () => {
    await using server = await serve()
    const bard = await server.connect(BARD)
    expect(await refusal(say(bard, { lang: 'fr-ca' }))).toBe('modify bad-request bad-locale')
    expect((await told(say(bard, { lang: 'en-GB' }))).attrs.status).toBe('executing')
    const command = el('command', NS, { node: 'count' })
    bard.send(stanza('iq', bard.jid, { type: 'set', id: 'fr', lang: 'fr', to: parseJid(HOST) }, command))
    expect((await bard.next(({ id }) => id === 'fr')).type).toBe('result')
  })
})

/** Somebody's, of the same owner: bounds are of one process. */
function besideBard({ ownership }: TestServer, resource: string): string {
  const ownerOf = (full: string) => ownership.ownerOf('router', parseJid(full).bare)
  for (let n = 0; ; n++) {
    const full = `groundling${n}@example.org/${resource}`
    if (ownerOf(full) === ownerOf(BARD)) return full
  }
}

describe('how many there may be', () => {
  test('an account that has begun too many is not-allowed (§3.3), until one has ended', async () => {
    await using server = await serve({ ...ADMIN, modules: { commands: { sessionsPerAccountMax: 2 } } })
    const bard = await server.connect(BARD)
    const elsewhere = await server.connect('bard@example.org/stratford')
    const { sessionid } = (await told(say(bard, {}))).attrs
    await told(say(elsewhere, {}))
    expect(await refusal(say(bard, {}))).toBe('cancel not-allowed')
    await told(say(bard, { sessionid, action: 'cancel' }))
    expect((await told(say(bard, {}))).attrs.status).toBe('executing')
  })

  test('one whose first form could not be made used to count', async () => {
    const few = { ...ADMIN, modules: { commands: { sessionsPerAccountMax: 2 } } }
    await using server = await harness([disco, commands, theatre(), shut], few)
    const bard = await server.connect(BARD)
    for (let n = 0; n < 3; n++) expect(await refusal(say(bard, { node: 'shut' }))).toBe('cancel service-unavailable')
    expect((await told(say(bard, {}))).attrs.status).toBe('executing')
  })

  test('of all together one too many is resource-constraint, until some have timed out', async () => {
    const clock = manualClock()
    await using server = await serve({ ...ADMIN, clock, modules: { commands: { sessionsMax: 1, sessionSeconds: 60 } } })
    await told(say(await server.connect(BARD), {}))
    const groundling = await server.connect(besideBard(server, 'pit'))
    expect(await refusal(say(groundling, { node: 'ask' }))).toBe('wait resource-constraint')
    clock.advance(60_000)
    expect((await told(say(groundling, { node: 'ask' }))).attrs.status).toBe('executing')
  })
})

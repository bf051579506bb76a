import { describe, expect, test } from 'vitest'
import { memoryTable } from '#table/memory.ts'
import { type HarnessOptions, harness, type TestClient, type TestServer } from '#test/harness.ts'
import { NS_CLIENT } from '#xmpp/ns.ts'
import { type Element, el } from '#xmpp/stanza.ts'
import { parseElement } from '#xmpp/xml.ts'
import privateStorage from './private.ts'

const NS = 'jabber:iq:private'
const query = (...children: readonly Element[]) => el('query', NS, {}, ...children)
const PREFS = el('exodus', 'exodus:prefs', {}, el('defaultnick', 'exodus:prefs', {}, 'Hamlet'))
const NOTE = (text: string, ns = 'exodus:notes') => el('note', ns, {}, text)

interface Setup extends AsyncDisposable {
  readonly server: TestServer
  readonly hamlet: TestClient
}

async function setUp(options: HarnessOptions = {}): Promise<Setup> {
  const server = await harness([privateStorage], options)
  const hamlet = await server.connect('hamlet@example.org/denmark')
  return { server, hamlet, [Symbol.asyncDispose]: () => server.stop() }
}

async function rows(server: TestServer): Promise<number> {
  let count = 0
  for await (const _row of server.process.table.query('j#private#hamlet@example.org')) count++
  return count
}

describe('XEP-0049 §2.3 Elements', () => {
  test('what a client stores, all clients of the user retrieve, also after a restart', async () => {
    const table = memoryTable()
    {
      await using setup = await setUp({ table })
      expect(await setup.hamlet.iq('set', query(PREFS))).toBeUndefined()
      const other = await setup.server.connect('hamlet@example.org/england')
      expect(await other.get(query(el('exodus', 'exodus:prefs')))).toEqual(query(PREFS))
    }
    await using setup = await setUp({ table })
    expect(await setup.hamlet.get(query(el('exodus', 'exodus:prefs')), 'hamlet@example.org')).toEqual(query(PREFS))
  })

  test('what was never stored is answered as it was asked for', async () => {
    await using setup = await setUp()
    await setup.hamlet.iq('set', query(PREFS))
    const asked = query(el('storage', 'storage:bookmarks'))
    expect(await setup.hamlet.get(asked)).toEqual(asked)
  })

  test('a set may contain several elements of one namespace, and replaces all of it', async () => {
    await using setup = await setUp()
    const { hamlet } = setup
    await hamlet.iq('set', query(NOTE('1'), NOTE('2'), PREFS))
    expect(await hamlet.get(query(el('note', 'exodus:notes')))).toEqual(query(NOTE('1'), NOTE('2')))
    await hamlet.iq('set', query(NOTE('3')))
    expect(await hamlet.get(query(el('note', 'exodus:notes')))).toEqual(query(NOTE('3')))
    expect(await hamlet.get(query(el('exodus', 'exodus:prefs')))).toEqual(query(PREFS))
  })

  test('an empty element deletes what was stored', async () => {
    await using setup = await setUp()
    const { hamlet, server } = setup
    await hamlet.iq('set', query(PREFS))
    expect(await rows(server)).toBe(1)
    await hamlet.iq('set', query(el('exodus', 'exodus:prefs')))
    expect(await hamlet.get(query(el('exodus', 'exodus:prefs')))).toEqual(query(el('exodus', 'exodus:prefs')))
    expect(await rows(server)).toBe(0)
  })

  test('XML is given back as it means, whatever prefixes it came with', async () => {
    await using setup = await setUp()
    const odd = parseElement(
      "<p:a xmlns:p='urn:p' xmlns:q='urn:q' q:b='&lt;&apos;&#x9;' xml:lang='da'><q:c/>&amp;<d xmlns='jabber:client'/><e xmlns=''/></p:a>",
    )
    await setup.hamlet.iq('set', query(odd))
    expect(await setup.hamlet.get(query(el('a', 'urn:p')))).toEqual(query(odd))
  })

  test.each([
    ['hamlet', 'to an account'],
    ['nobody', 'to none'],
  ])('data of %s, that belongs to another user, is refused as any request %s', async (local) => {
    await using setup = await setUp()
    await setup.hamlet.iq('set', query(PREFS))
    const macbeth = await setup.server.connect('macbeth@example.org/inverness')
    for (const type of ['get', 'set'] as const) {
      const answer = await macbeth.iq(type, query(NOTE('3', 'exodus:prefs')), `${local}@example.org`)
      expect(answer).toMatchObject({ condition: 'service-unavailable', type: 'cancel', text: '' })
    }
    expect(await setup.hamlet.get(query(el('exodus', 'exodus:prefs')))).toEqual(query(PREFS))
  })

  test('a get without a child is bad-request, a set without one not-acceptable', async () => {
    await using setup = await setUp()
    expect(await setup.hamlet.iq('get', query())).toMatchObject({ condition: 'bad-request', type: 'modify' })
    expect(await setup.hamlet.iq('set', query())).toMatchObject({ condition: 'not-acceptable', type: 'modify' })
  })

  test('a get of more than one namespace is bad-request', async () => {
    await using setup = await setUp()
    const two = query(el('a', 'urn:a'), el('b', 'urn:b'))
    expect(await setup.hamlet.iq('get', two)).toMatchObject({ condition: 'bad-request' })
  })

  test.each([['vcard-temp'], ['jabber:iq:roster'], [NS], [NS_CLIENT], ['http://jabber.org/protocol/muc'], ['']])(
    'the reserved namespace %j is not-acceptable, and nothing of that set is stored',
    async (ns) => {
      await using setup = await setUp()
      expect(await setup.hamlet.iq('get', query(el('a', ns)))).toMatchObject({ condition: 'not-acceptable', type: 'modify' })
      expect(await setup.hamlet.iq('set', query(PREFS, NOTE('x', ns)))).toMatchObject({ condition: 'not-acceptable' })
      expect(await rows(setup.server)).toBe(0)
    },
  )
})

describe('what an account may store', () => {
  const limits = (given: Record<string, number>) => ({ modules: { private: given } })
  const refused = (condition: string) => ({ condition, type: 'modify' })

  test('one namespace is bounded, and what is refused is not sent back', async () => {
    await using setup = await setUp(limits({ namespaceBytesMax: 1_024 }))
    const room = 1_024 - "<note xmlns='exodus:notes'></note>".length
    expect(await setup.hamlet.iq('set', query(NOTE('x'.repeat(room))))).toBeUndefined()
    const answer = await setup.hamlet.iq('set', query(NOTE('x'.repeat(room + 1))))
    expect(answer).toMatchObject({ ...refused('not-acceptable'), stanza: { child: `{${NS_CLIENT}}error` } })
    expect(await setup.hamlet.iq('set', query(NOTE('ø'.repeat(room / 2 + 1))))).toMatchObject(refused('not-acceptable'))
    expect(await setup.hamlet.get(query(el('note', 'exodus:notes')))).toEqual(query(NOTE('x'.repeat(room))))
  })

  test('a namespace that is bound once and used often counts as often', async () => {
    await using setup = await setUp(limits({ namespaceBytesMax: 4_096 }))
    const long = `urn:${'x'.repeat(400)}`
    const many = el('a', 'urn:a', {}, ...Array.from({ length: 20 }, () => el('b', long)))
    expect(await setup.hamlet.iq('set', query(many))).toMatchObject(refused('not-acceptable'))
  })

  test('all of them are bounded; replacing and deleting makes room', async () => {
    await using setup = await setUp(limits({ accountBytesMax: 2_048 }))
    const { hamlet } = setup
    const note = (ns: string, length: number) => query(NOTE('x'.repeat(length), ns))
    expect(await hamlet.iq('set', note('urn:a', 900))).toBeUndefined()
    expect(await hamlet.iq('set', note('urn:b', 900))).toBeUndefined()
    expect(await hamlet.iq('set', note('urn:c', 900))).toMatchObject(refused('resource-constraint'))
    expect(
      await hamlet.iq('set', query(NOTE('x'.repeat(1_900), 'urn:d'), el('note', 'urn:a'), el('note', 'urn:b'))),
    ).toBeUndefined()
    expect(await hamlet.iq('set', note('urn:d', 1_800))).toBeUndefined()
    expect(await rows(setup.server)).toBe(1)
  })

  test('the number of namespaces is bounded, too', async () => {
    await using setup = await setUp(limits({ namespacesMax: 2 }))
    const { hamlet } = setup
    expect(await hamlet.iq('set', query(NOTE('1', 'urn:1'), NOTE('2', 'urn:2'), NOTE('3', 'urn:3')))).toMatchObject(
      refused('resource-constraint'),
    )
    expect(await hamlet.iq('set', query(NOTE('1', 'urn:1'), NOTE('2', 'urn:2')))).toBeUndefined()
    expect(await hamlet.iq('set', query(NOTE('one', 'urn:1')))).toBeUndefined()
    expect(await hamlet.iq('set', query(NOTE('3', 'urn:3')))).toMatchObject(refused('resource-constraint'))
  })

  test('who is over a limit that was lowered may still make it less', async () => {
    const table = memoryTable()
    {
      await using setup = await setUp({ table })
      await setup.hamlet.iq('set', query(NOTE('x'.repeat(3_000), 'urn:1'), NOTE('x'.repeat(3_000), 'urn:2')))
    }
    await using setup = await setUp({ table, ...limits({ accountBytesMax: 1_024, namespacesMax: 1 }) })
    expect(await setup.hamlet.iq('set', query(NOTE('x'.repeat(2_000), 'urn:1')))).toBeUndefined()
    expect(await setup.hamlet.iq('set', query(NOTE('x'.repeat(2_001), 'urn:1')))).toMatchObject(refused('resource-constraint'))
  })

  test('it is deleted with the account', async () => {
    await using setup = await setUp()
    await setup.hamlet.iq('set', query(PREFS))
    await setup.server.caller.ask('router', 'hamlet@example.org', 'account.remove', {})
    expect(await rows(setup.server)).toBe(0)
    const heir = await setup.server.connect('hamlet@example.org/denmark')
    const asked = query(el('exodus', 'exodus:prefs'))
    expect(await heir.get(asked)).toEqual(asked)
  })
})

import { describe, expect, test } from 'vitest'
import { TableUnavailable } from '#table/table.ts'
import { StanzaError } from '#xmpp/error.ts'
import { parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT } from '#xmpp/ns.ts'
import { type Element, el, find, type Stanza, stanza } from '#xmpp/stanza.ts'
import { IqHomes, IqTable, RESULT_BYTES_MAX, runIq } from './iq.ts'
import { type AnyModule, defineModule, type IqCall, type IqHandler, type IqTarget } from './module.ts'
import { memoryLog } from './observing/log.ts'
import type { RoleName } from './ownership/ownership.ts'

const NS = 'urn:example'
const ROMEO = parseJid('romeo@a/x')

function module(name: string, home: RoleName = 'router', namespaces = [NS], strangers: string[] = []): AnyModule {
  return defineModule({ name, home, xeps: [], namespaces, strangers, setup() {} })
}

async function ask(table: IqTable, target: IqTarget, iq: Stanza, log = memoryLog()): Promise<Stanza[]> {
  const answers: Stanza[] = []
  const account = parseJid('romeo@a')
  await runIq(table, target, { iq, account, session: undefined, address: '' }, log, (answer) => answers.push(answer))
  return answers
}

const get = (child: Element, to?: string) =>
  stanza('iq', ROMEO, { type: 'get', id: 'i1', to: to === undefined ? undefined : parseJid(to) }, child)

function answering(handler: IqHandler, target: IqTarget = 'self'): IqTable {
  const table = new IqTable()
  table.add(module('m'), 'get', NS, 'query', target, handler)
  return table
}

function conditionOf(answer: Stanza | undefined): string {
  return (find(answer!, 'error', NS_CLIENT)!.children[0] as Element).name
}

describe('finding who answers', () => {
  test('goes by type, target, namespace and name', async () => {
    const table = answering(() => el('answer', NS))
    table.add(module('m'), 'get', NS, 'query', 'host', () => el('of-host', NS))
    table.add(module('m'), 'set', NS, 'query', 'self', () => el('of-set', NS))
    table.add(module('m'), 'get', NS, 'other', 'self', () => el('of-other', NS))
    const childOf = async (target: IqTarget, iq: Stanza) => (await ask(table, target, iq))[0]!.child
    expect(await childOf('self', get(el('query', NS)))).toBe('{urn:example}answer')
    expect(await childOf('host', get(el('query', NS)))).toBe('{urn:example}of-host')
    expect(await childOf('self', get(el('other', NS)))).toBe('{urn:example}of-other')
    expect(await childOf('self', stanza('iq', ROMEO, { type: 'set', id: 'x' }, el('query', NS)))).toBe('{urn:example}of-set')
  })

  test('one’s own account is asked as anybody’s where nothing else is said', async () => {
    const table = answering(() => el('of-account', NS), 'account')
    expect((await ask(table, 'self', get(el('query', NS))))[0]!.child).toBe('{urn:example}of-account')
    table.add(module('m'), 'get', NS, 'query', 'self', () => el('of-self', NS))
    expect((await ask(table, 'self', get(el('query', NS))))[0]!.child).toBe('{urn:example}of-self')
  })

  test.each<[string, IqTarget, Element, string]>([
    ['a namespace nobody knows', 'self', el('query', 'urn:other'), 'service-unavailable'],
    ['a name nobody knows', 'self', el('other', NS), 'service-unavailable'],
    ['a target nobody answers for', 'host', el('query', NS), 'service-unavailable'],
    ['an account, though one’s own is answered', 'account', el('query', NS), 'service-unavailable'],
  ])('%s is %4$s', async (_name, target, child, condition) => {
    const [answer] = await ask(
      answering(() => {}),
      target,
      get(child),
    )
    expect(conditionOf(answer)).toBe(condition)
  })

  test('a set where only get is answered is feature-not-implemented', async () => {
    for (const target of ['self', 'account'] as const) {
      const table = answering(() => {}, target)
      const [answer] = await ask(table, 'self', stanza('iq', ROMEO, { type: 'set', id: 'x' }, el('query', NS)))
      expect(conditionOf(answer)).toBe('feature-not-implemented')
    }
  })

  test('a second handler for the same stops the start, and names both', () => {
    const table = answering(() => {})
    expect(() => table.add(module('n'), 'get', NS, 'query', 'self', () => {})).toThrow(
      /modules m and n both answer iq get .*query to self/,
    )
  })

  test('so does a namespace that a module does not declare', () => {
    expect(() => new IqTable().add(module('m'), 'get', 'urn:other', 'query', 'self', () => {})).toThrow(
      /m answers iqs in urn:other/,
    )
  })
})

describe('RFC 6120 §8.2.3: the answer', () => {
  test('a result comes from where the iq went, with its id, and with what the handler returns', async () => {
    const [answer] = await ask(
      answering(() => el('answer', NS), 'host'),
      'host',
      get(el('query', NS), 'a'),
    )
    expect(answer).toMatchObject({ name: 'iq', type: 'result', id: 'i1', to: ROMEO, from: { full: 'a' } })
    expect(answer!.tree()).toEqual([el('answer', NS)])
  })

  test('without a `to` it comes from the account, and without a payload it is empty', async () => {
    const [answer] = await ask(
      answering(async () => {}),
      'self',
      get(el('query', NS)),
    )
    expect(answer).toMatchObject({ type: 'result', from: { full: 'romeo@a' } })
    expect(answer!.payload).toHaveLength(0)
  })

  test('more than the bus takes in one body used to get no answer; it is resource-constraint, and logged', async () => {
    const log = memoryLog()
    const large = answering(() => el('answer', NS, {}, 'x'.repeat(RESULT_BYTES_MAX)))
    const [answer] = await ask(large, 'self', get(el('query', NS)), log)
    expect(conditionOf(answer)).toBe('resource-constraint')
    expect(log.lines.map(({ event }) => event)).toEqual(['iq.result_too_large'])
    const child = '<answer xmlns='.length + 2 + NS.length + '></answer>'.length
    const fits = answering(() => el('answer', NS, {}, 'x'.repeat(RESULT_BYTES_MAX - child)))
    expect((await ask(fits, 'self', get(el('query', NS))))[0]!.type).toBe('result')
  })

  test('the handler is given the payload', async () => {
    let call: IqCall | undefined
    await ask(
      answering((given) => {
        call = given
      }),
      'self',
      get(el('query', NS, { ver: '1' })),
    )
    expect(call).toMatchObject({ payload: { attrs: { ver: '1' } }, account: { bare: 'romeo@a' }, session: undefined })
  })

  test.each(['thrown', 'rejected'])('a StanzaError that is %s is the answer, behind what was asked', async (how) => {
    const refuse = () => {
      throw new StanzaError('forbidden', 'not yours')
    }
    const log = memoryLog()
    const table = answering(how === 'thrown' ? refuse : async () => refuse())
    const answers = await ask(table, 'self', get(el('query', NS)), log)
    expect(answers).toHaveLength(1)
    expect(answers[0]).toMatchObject({ type: 'error', id: 'i1' })
    expect(answers[0]!.tree().map(({ name }) => name)).toEqual(['query', 'error'])
    expect(conditionOf(answers[0])).toBe('forbidden')
    expect(log.lines).toEqual([])
  })

  test.each(['thrown', 'rejected'])('our own bug, %s, is internal-server-error and a log line that names the iq', async (how) => {
    const broken = () => {
      throw new TypeError('undefined is not a function')
    }
    const log = memoryLog()
    const [answer] = await ask(answering(how === 'thrown' ? broken : async () => broken()), 'self', get(el('query', NS)), log)
    expect(conditionOf(answer)).toBe('internal-server-error')
    expect(Buffer.from(answer!.payload).toString()).not.toContain('function')
    expect(log.lines).toMatchObject([{ level: 'error', event: 'iq.broke', fields: { child: '{urn:example}query' } }])
  })

  test.each(['thrown', 'rejected'])('a table that is away, %s, is no answer: it rises', async (how) => {
    const away = () => {
      throw new TableUnavailable('away')
    }
    await expect(ask(answering(how === 'thrown' ? away : async () => away()), 'self', get(el('query', NS)))).rejects.toThrow(
      TableUnavailable,
    )
  })
})

test('RFC 6120 §8.2.3 what breaks behind an answer is logged, and is no second answer', async () => {
  for (const payload of [undefined, Promise.resolve()]) {
    const log = memoryLog()
    const table = answering(({ afterwards }) => {
      afterwards(() => {
        throw new TableUnavailable('the table is away')
      })
      return payload
    })
    const answers = await ask(table, 'self', get(el('query', NS)), log)
    expect(answers.map(({ type }) => type)).toEqual(['result'])
    expect(log.lines).toMatchObject([{ level: 'error', event: 'iq.broke' }])
  }
})

describe('which role answers', () => {
  test('is what the modules declare, and the router for what nobody knows', () => {
    const homes = new IqHomes([module('m', 'presence', ['urn:a']), module('n', 'router', ['urn:b'], ['urn:b'])])
    expect([homes.homeOf('{urn:a}query'), homes.homeOf('{urn:b}query'), homes.homeOf('{urn:c}query'), homes.homeOf('')]).toEqual([
      ...['presence', 'router', 'router', 'router'],
    ])
    expect([homes.forStrangers('{urn:b}query'), homes.forStrangers('{urn:a}query'), homes.forStrangers('')]).toEqual([
      true,
      false,
      false,
    ])
  })

  test('two modules of two homes for one namespace stop the start', () => {
    expect(() => new IqHomes([module('m', 'presence'), module('n', 'router')])).toThrow(/urn:example have two homes; module n/)
    expect(() => new IqHomes([module('m', 'router'), module('n', 'router')])).not.toThrow()
  })
})

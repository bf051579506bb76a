import { describe, expect, test } from 'vitest'
import { memoryBus } from '#bus/memory.ts'
import { StanzaError } from '#xmpp/error.ts'
import { Answers, answerCalls, type CallHandlers, openCaller } from './call.ts'
import { memoryLog } from './log.ts'
import { soleOwnership } from './ownership.ts'

declare module '#core/call.ts' {
  interface Calls {
    'test.add': { ask: { a: number; b: number }; tell: { sum: number; account: string } }
    'test.nothing': { ask: Record<string, never>; tell: null }
  }
}

function setUp(handlers: CallHandlers) {
  const bus = memoryBus()
  const log = memoryLog()
  answerCalls(bus, 'router', 'p1', handlers, log)
  return { log, caller: openCaller(bus, soleOwnership('p1')) }
}

describe('a call', () => {
  test('is answered with what the handler tells', async () => {
    const { caller } = setUp({ 'test.add': (account, { a, b }) => ({ sum: a + b, account }), 'test.nothing': async () => null })
    expect(await caller.ask('router', 'romeo@a', 'test.add', { a: 1, b: 2 })).toEqual({ sum: 3, account: 'romeo@a' })
    expect(await caller.ask('router', 'romeo@a', 'test.nothing', {})).toBeNull()
  })

  test('a StanzaError over there is thrown over here, its type and text with it', async () => {
    const { caller, log } = setUp({
      'test.nothing': () => {
        throw new StanzaError('not-allowed', 'not today', { type: 'wait' })
      },
    })
    const refused = caller.ask('router', 'romeo@a', 'test.nothing', {})
    await expect(refused).rejects.toBeInstanceOf(StanzaError)
    await expect(refused).rejects.toMatchObject({ condition: 'not-allowed', type: 'wait', text: 'not today' })
    expect(log.lines).toEqual([])
  })

  test('our own bug over there is internal-server-error over here, and logged there', async () => {
    const { caller, log } = setUp({ 'test.nothing': () => Promise.reject(new TypeError('undefined')) })
    await expect(caller.ask('router', 'romeo@a', 'test.nothing', {})).rejects.toMatchObject({
      condition: 'internal-server-error',
      text: '',
    })
    expect(log.lines).toMatchObject([{ level: 'error', event: 'call.broke', fields: { role: 'router', name: 'test.nothing' } }])
  })

  test('what nobody there answers is feature-not-implemented', async () => {
    const { caller } = setUp({})
    await expect(caller.ask('router', 'romeo@a', 'test.nothing', {})).rejects.toMatchObject({
      condition: 'feature-not-implemented',
    })
  })

  test('where there is no owner one is asked to wait', async () => {
    const { caller } = setUp({})
    await expect(caller.ask('presence', 'romeo@a', 'test.nothing', {})).rejects.toMatchObject({
      condition: 'resource-constraint',
      type: 'wait',
    })
  })
})

test('one owner of accounts can be asked about all of them', async () => {
  const { caller } = setUp({ 'test.add': (account, { a, b }) => ({ sum: a + b, account }) })
  expect(await caller.askOwner('router', 'p1', 'test.add', { a: 1, b: 2 })).toEqual({ sum: 3, account: '' })
  await expect(caller.askOwner('router', 'p2', 'test.add', { a: 1, b: 2 })).rejects.toMatchObject({
    condition: 'resource-constraint',
  })
})

describe('what modules answer', () => {
  const nothing = () => null

  test('stands beside what the role answers', () => {
    const answers = new Answers()
    answers.add('test.nothing', nothing)
    const own: CallHandlers = { 'test.add': (account) => ({ sum: 0, account }) }
    expect(answers.beside(own)).toEqual({ ...own, 'test.nothing': nothing })
  })

  test('is answered by one of them', () => {
    const answers = new Answers()
    answers.add('test.nothing', nothing)
    expect(() => answers.add('test.nothing', nothing)).toThrow('two modules answer the call test.nothing')
    expect(() => answers.beside({ 'test.nothing': nothing })).toThrow('a module and its role both answer the call test.nothing')
  })
})

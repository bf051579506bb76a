import { describe, expect, test } from 'vitest'
import type { Bus } from '#bus/bus.ts'
import { memoryBus } from '#bus/memory.ts'
import { StanzaError } from '#xmpp/error.ts'
import { Answers, answerCalls, type CallHandlers, openCaller } from './call.ts'
import { type ManualClock, manualClock } from './clock.ts'
import { memoryLog } from './observing/log.ts'
import { type Ownership, type OwnersListener, soleOwnership } from './ownership/ownership.ts'

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

describe('in a cluster, a call', () => {
  /** Two processes, each with its own view of who owns all accounts, and of whether it is ready and sure. */
  function cluster() {
    const clock = manualClock()
    const hub = memoryBus()
    /** So many questions are lost from now on. */
    const lost = { next: 0 }
    const bus: Bus = {
      lossless: false,
      publish: (subject, body) => hub.publish(subject, body),
      request: (subject, body, timeoutMs) => (lost.next-- > 0 ? new Promise(() => {}) : hub.request(subject, body, timeoutMs)),
      subscribe: (subject, handler) => hub.subscribe(subject, handler),
      drain: () => hub.drain(),
      status: (handler) => hub.status(handler),
    }
    const handled: string[] = []
    const add = (id: string, handlers: CallHandlers = { 'test.nothing': () => void handled.push(id) as never }) => {
      const view = viewOf(id)
      const gate = { ownership: view, clock }
      const subscription = answerCalls(bus, 'router', id, handlers, memoryLog(), gate)
      return { view, close: () => subscription.close() }
    }
    const asker = viewOf('e1')
    const caller = openCaller(bus, asker, clock)
    return { clock, asker, caller, handled, lost, add, pass: (ms: number) => pass(clock, ms) }
  }

  function viewOf(process: string) {
    const listeners: OwnersListener[] = []
    const view = {
      ...soleOwnership(''),
      owner: 'p1',
      at: 1,
      isReady: true,
      isSure: true,
      ownerOf: () => view.owner,
      ownerAt: () => view.owner,
      epoch: () => view.at,
      epochAt: () => view.at,
      owns: () => view.owner === process && view.isReady,
      sure: () => view.isSure,
      onChange: (listener: OwnersListener) => void listeners.push(listener),
      learn(owner: string): void {
        view.owner = owner
        view.at++
        for (const listener of listeners)
          listener(
            'router',
            Array.from({ length: 128 }, (_, partition) => partition),
          )
      },
    }
    return view satisfies Ownership
  }

  async function pass(clock: ManualClock, ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= 25) {
      await clock.settle(25)
      for (let turn = 0; turn < 4; turn++) await new Promise((resolve) => setImmediate(resolve))
    }
  }

  const asked = (caller: ReturnType<typeof cluster>['caller']) => {
    const state = { told: undefined as unknown }
    caller.ask('router', 'romeo@a', 'test.nothing', {}).then(
      () => (state.told = 'told'),
      (error: StanzaError) => (state.told = error.condition),
    )
    return state
  }

  test('waits until the owner is ready', async () => {
    const { caller, add, handled, pass } = cluster()
    const { view } = add('p1')
    view.isReady = false
    const call = asked(caller)
    await pass(3_000)
    expect([call.told, handled]).toEqual([undefined, []])
    view.isReady = true
    await pass(100)
    expect([call.told, handled]).toEqual(['told', ['p1']])
  })

  test('goes to the next owner where the one that is asked says that it is another’s', async () => {
    const { caller, asker, add, handled, pass } = cluster()
    add('p1').view.learn('p2')
    const { view } = add('p2')
    view.learn('p2')
    const call = asked(caller)
    await pass(200)
    expect([call.told, handled]).toEqual([undefined, []])
    asker.learn('p2')
    await pass(200)
    expect([call.told, handled]).toEqual(['told', ['p2']])
  })

  test('waits until he knows what the asker knows', async () => {
    const { caller, asker, add, handled, pass } = cluster()
    const { view } = add('p2')
    asker.learn('p2')
    const call = asked(caller)
    await pass(1_000)
    expect([call.told, handled]).toEqual([undefined, []])
    view.learn('p2')
    await pass(200)
    expect([call.told, handled]).toEqual(['told', ['p2']])
  })

  test('is asked again of whoever comes after one that is dead, or does not answer', async () => {
    for (const dies of [true, false]) {
      const { caller, asker, add, handled, pass } = cluster()
      const first = add('p1', { 'test.nothing': () => new Promise(() => {}) })
      if (dies) first.close()
      add('p2').view.learn('p2')
      const call = asked(caller)
      await pass(2_000)
      expect(call.told).toBeUndefined()
      asker.learn('p2')
      await pass(200)
      expect([call.told, handled]).toEqual(['told', ['p2']])
    }
  })

  test('for credentials that the bus has lost used to hold up a login for ten seconds: it is asked again', async () => {
    const { caller, lost, add, pass } = cluster()
    add('p1', { 'account.credentials': () => null })
    lost.next = 2
    let told: unknown
    void caller.ask('router', 'romeo@a', 'account.credentials', {}).then((answer) => (told = answer))
    await pass(4_000)
    expect(told).toBeUndefined()
    await pass(500)
    expect(told).toBeNull()
  })

  test('is resource-constraint when nobody has owned the account for 10 s', async () => {
    const { caller, asker, pass } = cluster()
    asker.learn('')
    const call = asked(caller)
    await pass(9_500)
    expect(call.told).toBeUndefined()
    await pass(700)
    expect(call.told).toBe('resource-constraint')
  })

  test('is answered by nobody who is not sure, and not by who has lost the account meanwhile', async () => {
    const { caller, asker, add, pass, handled } = cluster()
    const { view } = add('p1')
    add('p2').view.learn('p2')
    view.isSure = false
    const call = asked(caller)
    await pass(2_000)
    expect([call.told, handled]).toEqual([undefined, ['p1']])
    view.learn('p2')
    view.isSure = true
    await pass(200)
    expect(call.told).toBeUndefined()
    asker.learn('p2')
    await pass(200)
    expect([call.told, handled]).toEqual(['told', ['p1', 'p2']])
  })

  test('that must not be answered twice is not: an account that is made is made once', async () => {
    const { caller, asker, add, pass } = cluster()
    const made: string[] = []
    let create = (): void => {}
    add('p1', { 'account.create': () => new Promise((resolve) => (create = () => resolve(null))) })
    add('p2', { 'account.create': () => void made.push('p2') as never }).view.learn('p2')
    let told: unknown
    void caller.ask('router', 'romeo@a', 'account.create', { password: 'x' }).then((answer) => (told = answer))
    await pass(100)
    asker.learn('p2')
    await pass(1_000)
    create()
    await pass(100)
    expect([told, made]).toEqual([null, []])
  })
})

import { describe, expect, test } from 'vitest'
import { harness } from '#test/harness.ts'
import { type AnyModule, type App, defineModule } from './module.ts'

const made: string[] = []

function module<Api>(name: string, setup: (app: App) => Api, home: 'router' | 'presence' = 'router') {
  return defineModule<Api>({ name, home, xeps: [], namespaces: ['urn:x'], setup: (app) => setup(app as App) })
}

async function start(...modules: AnyModule[]): Promise<void> {
  const server = await harness(modules)
  await server.stop()
}

describe('need', () => {
  test('sets up what is needed first, once per role, and gives its API', async () => {
    made.length = 0
    const base = module('base', ({ role }) => {
      made.push(`base ${role}`)
      return { answer: 42 }
    })
    const uses = (name: string) =>
      module(name, (app) => {
        made.push(`${name} ${app.role} ${app.need(base).answer}`)
      })
    await start(uses('one'), uses('two'), base)
    expect(made).toEqual([
      ...['base presence', 'one presence 42', 'two presence 42'],
      ...['base router', 'one router 42', 'two router 42'],
    ])
  })

  test('what is needed and not loaded stops the start, and both are named', async () => {
    const absent = module('absent', () => 1)
    await expect(start(module('needy', (app) => void app.need(absent)))).rejects.toThrow(
      'module absent is needed by needy and is not loaded',
    )
  })

  test('a journal that is not declared stops the start: no purge would know of it', async () => {
    await expect(start(module('diarist', (app) => void app.journal('diary')))).rejects.toThrow(
      'module diarist keeps the journal diary and does not declare it in journals',
    )
  })

  test('a circle stops the start, and is shown', async () => {
    const one: AnyModule = module('one', (app) => void app.need(two))
    const two: AnyModule = module('two', (app) => void app.need(one))
    await expect(start(one, two)).rejects.toThrow('one → two → one')
  })

  test('two modules of one name stop the start', async () => {
    await expect(
      start(
        module('same', () => {}),
        module('same', () => {}),
      ),
    ).rejects.toThrow('two modules are called same')
  })
})

describe('needNamed', () => {
  test('gives the API of a module that is loaded, set up first, and undefined for any other', async () => {
    const found: unknown[] = []
    const asks = module('asks', (app) => void found.push(app.needNamed('base'), app.needNamed('absent')))
    await start(
      asks,
      module('base', () => 'the api'),
    )
    expect(found).toEqual(['the api', undefined, 'the api', undefined])
  })
})

test('an iq is answered in the home of its module only, so that both roles may set it up', async () => {
  const answers = (home: 'router' | 'presence') =>
    defineModule({
      name: `at ${home}`,
      home,
      xeps: [],
      namespaces: [`urn:${home}`],
      setup: (app) =>
        app.iq('get', `urn:${home}`, 'where', 'self', () => ({ name: app.role, ns: 'urn:x', attrs: {}, children: [] })),
    })
  await using server = await harness([answers('router'), answers('presence')])
  const romeo = await server.connect('romeo@example.org/x')
  for (const home of ['router', 'presence']) {
    expect(await romeo.get({ name: 'where', ns: `urn:${home}`, attrs: {}, children: [] })).toMatchObject({ name: home })
  }
})

test('a module is given its checked options and the limits of the configuration', async () => {
  const seen: unknown[] = []
  const curious = defineModule<void, { size: number; name: string }>({
    name: 'curious',
    home: 'router',
    xeps: [],
    options: { size: { default: 5, min: 1, doc: '' }, name: { default: 'none', doc: '' } },
    setup: ({ options, limits }) => void seen.push({ ...options, sessions: limits.sessionsPerAccount }),
  })
  const server = await harness([curious], { modules: { curious: { size: 7 } }, config: { limits: { sessionsPerAccount: 3 } } })
  await server.stop()
  expect(seen[0]).toEqual({ size: 7, name: 'none', sessions: 3 })
  await expect(harness([curious], { modules: { curious: { size: 0 } } })).rejects.toThrow(
    'modules.curious.size is 0; it must be at least 1',
  )
})

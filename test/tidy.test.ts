// Holds every source to the rules of the house (test/tidy.ts), and the rules to sources that break them.
import { globSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { type Fault, faultsOf, functionsOf, importsOf } from './tidy.ts'

const ROOT = join(import.meta.dirname, '..')
/** Text that people write; measured data, lock files and the licence are not. */
const READ = /(?:\.(?:ts|mjs|js|sh|json|ya?ml|md|toml|lua|html|css|py)|^(?:Makefile|bin\/rookery|\.ci\/run))$/
const NOT_READ = /^(?:package-lock\.json$|loadtest\/bench\/(?:baseline\/|BASELINE\.md$))/
/** Not ours, or not kept. */
const NOT_ENTERED = new Set(['node_modules', '.git', '.tools', 'data', 'artefacts'])

/** Paths from the root. */
function sources(): string[] {
  const all = globSync(['**/*', '.ci/*'], { cwd: ROOT, exclude: (path) => NOT_ENTERED.has(basename(path)) })
  return all.filter((path) => READ.test(path) && !NOT_READ.test(path)).sort()
}

test('every source keeps the rules of the house', () => {
  const paths = sources()
  expect(paths).toEqual(expect.arrayContaining(['services/xmpp/jid.ts', 'test/tidy.ts', 'bin/rookery', '.ci/run', 'Makefile']))
  const faults: Fault[] = []
  for (const path of paths) {
    faults.push(...faultsOf({ path, text: readFileSync(join(ROOT, path), 'utf8') }))
  }
  expect(faults.join('\n')).toBe('')
})

const faults = (path: string, ...lines: string[]) => faultsOf({ path, text: `${['// A file.', ...lines].join('\n')}\n` })

describe('who may import whom', () => {
  test('a room imports the rooms below it, its own files and packages', () => {
    expect(
      faults(
        'services/edge/tcp.ts',
        "import { createServer } from 'node:net'",
        "import type { Bus } from '#bus/bus.ts'",
        "import { Lane } from '#core/lane.ts'",
        "import { Stream } from './stream.ts'",
        "import { plain } from './sasl/plain.ts'",
      ),
    ).toEqual([])
  })

  test('a role never imports another role', () => {
    expect(faults('services/edge/tcp.ts', "import { route } from '#router/route.ts'")).toEqual([
      'services/edge/tcp.ts:2: edge imports router; it may import xmpp, bus, table, core',
    ])
  })

  test('the protocol imports nothing of ours', () => {
    expect(faults('services/xmpp/jid.ts', "import { log } from '#core/log.ts'")).toEqual([
      'services/xmpp/jid.ts:2: xmpp imports core; it may import no other room',
    ])
  })

  test('modules see neither the bus, nor the table, nor a role', () => {
    for (const room of ['bus', 'table', 'edge', 'router', 'presence', 'embedded']) {
      expect(faults('services/modules/ping.ts', `import { it } from '#${room}/it.ts'`)).toHaveLength(1)
    }
  })

  test('nobody imports a module but a module and a test', () => {
    for (const room of ['core', 'router', 'embedded', 'ctl']) {
      expect(faults(`services/${room}/main.ts`, "import { roster } from '#modules/roster.ts'")).toHaveLength(1)
    }
    expect(faults('services/modules/pep.ts', "import { roster } from './roster.ts'")).toEqual([])
    expect(faults('services/router/route.test.ts', "import { roster } from '#modules/roster.ts'")).toEqual([])
  })

  test('a driver is named only where the server is put together', () => {
    expect(faults('services/router/main.ts', "import { memoryBus } from '#bus/memory.ts'")).toEqual([
      'services/router/main.ts:2: router imports the driver bus/memory.ts; only embedded, cluster, ctl and tests may',
    ])
    expect(faults('services/core/store.ts', "const { open } = await import('#table/sqlite.ts')")).toHaveLength(1)
    expect(faults('services/embedded/main.ts', "import { memoryBus } from '#bus/memory.ts'")).toEqual([])
    expect(faults('services/core/store.test.ts', "import { memoryTable } from '#table/memory.ts'")).toEqual([])
  })

  test('the forms of the server meet at what they share: a process of a cluster starts no role by itself', () => {
    expect(faults('services/cluster/main.ts', "import { serve } from '#embedded/serve.ts'")).toEqual([])
    expect(faults('services/cluster/parts.ts', "const { openNatsBus } = await import('#bus/nats.ts')")).toEqual([])
    expect(faults('services/cluster/main.ts', "import { startEdge } from '#edge/main.ts'")).toHaveLength(1)
    expect(faults('services/embedded/main.ts', "import { startCluster } from '#cluster/main.ts'")).toHaveLength(1)
  })

  test('the command starts the embedded server and knows no role', () => {
    expect(faults('services/ctl/main.ts', "import { start } from '#embedded/main.ts'")).toEqual([])
    expect(faults('services/ctl/main.ts', "import { edge } from '#edge/main.ts'")).toHaveLength(1)
  })

  test('what is there for tests is imported by tests only', () => {
    expect(faults('services/bus/memory.ts', "import { busContract } from './contract.ts'")).toHaveLength(1)
    expect(faults('services/edge/tcp.ts', "import { selfSigned } from './certificate.fixture.ts'")).toHaveLength(1)
    expect(faults('services/bus/memory.test.ts', "import { busContract } from './contract.ts'")).toEqual([])
    expect(faults('services/ctl/main.ts', "import { freePorts } from '#test/support/ports.ts'")).not.toEqual([])
  })

  test('a folder that is no room is refused until it is given its place', () => {
    expect(faults('services/utils/string.ts', "import { id } from '#xmpp/id.ts'")[0]).toContain('no such room: utils')
  })
})

describe('how an import is written', () => {
  test('../ stays inside the room', () => {
    expect(faults('services/edge/sasl/scram.ts', "import { Stream } from '../stream.ts'")).toEqual([])
    expect(faults('services/edge/tcp.ts', "import { Lane } from '../core/lane.ts'")).toEqual([
      "services/edge/tcp.ts:2: '../core/lane.ts' leaves edge/; across rooms write '#room/file.ts'",
    ])
    expect(faults('services/edge/tcp.test.ts', "import { Lane } from '../core/lane.ts'")).toHaveLength(1)
  })

  test('a path out of the room that is also forbidden is told twice', () => {
    expect(faults('services/xmpp/jid.ts', "import { Lane } from '../core/lane.ts'")).toHaveLength(2)
  })

  test('#room/ is not used inside the same room', () => {
    expect(faults('services/edge/tcp.ts', "import { Stream } from '#edge/stream.ts'")).toHaveLength(1)
  })

  test('every kind of import is seen, with the line its file is named on', () => {
    const text = [
      "import './a.ts'",
      "import type { B } from './b.ts'",
      'import {',
      '  c,',
      "} from './c.ts'",
      "export { d } from './d.ts'",
      "export * from './e.ts'",
      "  const f = await import('./f.ts')",
      'export const from = 1',
      "const text = 'not an import'",
      "const worker = new Worker(new URL('./g.ts', import.meta.url))",
    ].join('\n')
    expect(importsOf(text)).toEqual([
      { line: 1, from: './a.ts' },
      { line: 2, from: './b.ts' },
      { line: 5, from: './c.ts' },
      { line: 6, from: './d.ts' },
      { line: 7, from: './e.ts' },
      { line: 8, from: './f.ts' },
      { line: 11, from: './g.ts' },
    ])
  })
})

describe('the shape of a file', () => {
  test('it starts with a comment that says what it is', () => {
    expect(faultsOf({ path: 'services/core/log.ts', text: 'export const a = 1\n' })).toHaveLength(1)
    expect(faultsOf({ path: 'services/core/log.ts', text: '' })).toHaveLength(1)
    expect(faultsOf({ path: 'test/interop/log.test.ts', text: 'export const a = 1\n' })).toHaveLength(1)
    expect(faultsOf({ path: 'services/ctl/main.ts', text: '#!/usr/bin/env node\n// The command.\n' })).toEqual([])
    // A test beside the code is named after the file it tests.
    expect(faultsOf({ path: 'services/core/log.test.ts', text: 'export const a = 1\n' })).toEqual([])
  })

  test('it has at most 500 lines, a test at most 800', () => {
    const text = (count: number) => `// Long.\n${'//\n'.repeat(count - 1)}`
    expect(faultsOf({ path: 'services/core/log.ts', text: text(500) })).toEqual([])
    expect(faultsOf({ path: 'services/core/log.ts', text: text(501) })[0]).toContain('services/core/log.ts:501: 501 lines')
    expect(faultsOf({ path: 'services/core/log.test.ts', text: text(800) })).toEqual([])
    expect(faultsOf({ path: 'test/interop/a.test.ts', text: text(801) })).toHaveLength(1)
  })

  test('a function has at most 70 lines, whatever kind of function it is', () => {
    const kinds = [
      ['export async function start(process: Process): Promise<void> {', '}'],
      ['  async *#page(id: string): AsyncIterable<Row> {', '  }'],
      ['  constructor(table: Table) {', '  }'],
      ['  get open(): boolean {', '  }'],
      ['  inbound<T>(stanza: Stanza, done: () => void): void | Promise<void> {', '  }'],
      ['  const refuse = (error: unknown): void => {', '  }'],
      ['  return async function* ({ call, account }) {', '  }'],
      ['    app.iq(type, NS, () => {', '    })'],
    ]
    for (const [open, close] of kinds) {
      const indentation = ' '.repeat(open!.search(/\S/) + 2)
      const ofLines = (count: number) => [open!, ...Array.from({ length: count - 2 }, () => `${indentation}call()`), close!]
      expect(faults('services/core/log.ts', ...ofLines(70)), open).toEqual([])
      expect(faults('services/core/log.ts', 'const a = 1', ...ofLines(71))).toEqual([
        'services/core/log.ts:3: a function of 71 lines; at most 70: give a part of it a name',
      ])
      expect(faults('services/core/log.test.ts', ...ofLines(71))).toEqual([])
      expect(faults('services/bus/contract.ts', ...ofLines(71))).toEqual([])
    }
  })

  test('a signature over several lines counts; a class, a block and a table of functions do not', () => {
    const text = [
      'export function start(',
      '  bus: Bus,',
      '): Promise<void> {',
      '  if (open(bus)) {',
      '    call()',
      '  }',
      '  if (',
      '    open(bus) &&',
      '    open(bus)',
      '  ) {',
      '    call()',
      '  }',
      '  for (const one of many(bus)) {',
      '    call()',
      '  }',
      '}',
      'export class Store {',
      '  close(): void {',
      '    call()',
      '  }',
      '}',
      'const handlers = {',
      '  a: () => {',
      '    call()',
      '  },',
      '}',
    ].join('\n')
    expect(functionsOf(text)).toEqual([
      { line: 1, length: 16 },
      { line: 18, length: 3 },
      { line: 23, length: 3 },
    ])
  })

  test('nothing left undone, no path of a developer', () => {
    expect(faults('services/core/log.ts', `// ${'TO'}${'DO'}: later`)[0]).toContain('services/core/log.ts:2')
    expect(faultsOf({ path: 'Makefile', text: `all: ; ls ${['', 'work', 'main'].join('/')}\n` })[0]).toContain('Makefile:1')
  })
})

// Who may import whom, and a few more rules of the house that no other tool checks.
//
// The rooms of services/ are ordered; each may import only those named after it. A role never imports another role:
// they meet on the bus. Modules see neither bus, table nor role. Drivers are chosen where the server is put together.
// Tests stand outside: they may import anything.
import { posix } from 'node:path'

/** Each room may import the rooms named after it, and itself. Nothing else. */
export const ROOMS: Readonly<Record<string, readonly string[]>> = {
  xmpp: [],
  bus: [],
  table: [],
  core: ['xmpp', 'bus', 'table'],
  modules: ['xmpp', 'core'],
  edge: ['xmpp', 'bus', 'table', 'core'],
  router: ['xmpp', 'bus', 'table', 'core'],
  presence: ['xmpp', 'bus', 'table', 'core'],
  web: ['xmpp', 'bus', 'table', 'core'],
  embedded: ['xmpp', 'bus', 'table', 'core', 'edge', 'router', 'presence', 'web'],
  ctl: ['xmpp', 'bus', 'table', 'core', 'embedded'],
}

/** The implementations behind a contract: only who puts the server together may name one. */
const DRIVERS = /^(?:bus\/(?:memory|nats)|table\/(?:memory|sqlite|dynamo))\.ts$/
const DRIVER_USERS = ['embedded', 'ctl']
/** The suites that every implementation of an interface runs, and what tests stand on. */
const TEST_ONLY = /^test\/|\.(?:test|fixture)\.ts$|^[a-z]+\/contract\.ts$/

const LINES_MAX = 500
const TEST_LINES_MAX = 800
/** Put together here, so that this file does not contain what it looks for. */
const FORBIDDEN: readonly [RegExp, string][] = [
  [new RegExp(['', 'work', ''].join('/')), "a path of one developer's machine"],
  [new RegExp(`\\b${'TO'}${'DO'}\\b`), 'work left undone: do it, or describe the limit in a README'],
]

export interface Source {
  /** From the project's root, with slashes: `services/edge/tcp.ts`. */
  readonly path: string
  readonly text: string
}

/** Reads as `services/edge/tcp.ts:3: edge imports router: …`. */
export type Fault = string

export function faultsOf(source: Source): Fault[] {
  const faults = [...wordFaults(source)]
  if (!source.path.endsWith('.ts')) return faults
  faults.push(...shapeFaults(source))
  if (source.path.startsWith('services/')) for (const found of importsOf(source.text)) faults.push(...importFaults(source, found))
  return faults
}

interface Import {
  readonly line: number
  readonly from: string
}

/**
 * The module names of all imports (static, dynamic, and of a worker's file) and re-exports, with the line each is named
 * on. A statement starts its line; inside a template literal it would be taken for one.
 */
export function importsOf(text: string): Import[] {
  const statement = /^[ \t]*(?:import|export)\b(?:[^'"`;]*?\bfrom)?\s*(['"])([^'"\n]+)\1/gm
  const dynamic = /\bimport\(\s*(['"`])([^'"`\n]+)\1/g
  const found: Import[] = []
  const worker = /\bnew URL\(\s*(['"])(\.[^'"\n]+\.ts)\1,\s*import\.meta\.url/g
  for (const pattern of [statement, dynamic, worker]) {
    for (const match of text.matchAll(pattern)) {
      found.push({ line: text.slice(0, match.index + match[0].length).split('\n').length, from: match[2]! })
    }
  }
  return found.sort((a, b) => a.line - b.line)
}

function* importFaults(source: Source, { line, from }: Import): Generator<Fault> {
  const at = `${source.path}:${line}: `
  const file = source.path.slice('services/'.length)
  const room = file.split('/')[0]!
  const allowed = ROOMS[room]
  if (allowed === undefined) {
    yield `${at}no such room: ${room}; rooms are ${Object.keys(ROOMS).join(', ')} (test/tidy.ts)`
    return
  }
  if (!from.startsWith('.') && !from.startsWith('#')) return // a package or a part of Node
  const target = from.startsWith('#') ? from.slice(1) : posix.join(posix.dirname(file), from)
  const targetRoom = target.split('/')[0]!
  if (from.startsWith('.') && targetRoom !== room) {
    yield `${at}'${from}' leaves ${room}/; across rooms write '#room/file.ts'`
  }
  if (from.startsWith('#') && targetRoom === room) {
    yield `${at}'${from}' is in the same room; inside one write './file.ts', from a sub-folder '../file.ts'`
  }
  if (outside(source.path)) return
  if (targetRoom !== room && !allowed.includes(targetRoom)) {
    yield `${at}${room} imports ${targetRoom}; it may import ${allowed.length === 0 ? 'no other room' : allowed.join(', ')}`
  } else if (DRIVERS.test(target) && targetRoom !== room && !DRIVER_USERS.includes(room)) {
    yield `${at}${room} imports the driver ${target}; only ${DRIVER_USERS.join(', ')} and tests may`
  }
  if (isTestOnly(target)) yield `${at}${file} imports ${target}, which is there for tests only`
}

function* shapeFaults({ path, text }: Source): Generator<Fault> {
  const lines = text.split('\n')
  const header = lines[0]!.startsWith('#!') ? lines[1] : lines[0]
  const saysItself = path.startsWith('services/') && path.endsWith('.test.ts') // stands beside the file it is named after
  if (!saysItself && (header === undefined || !/^\/\/ \S/.test(header))) {
    yield `${path}:1: no header; the first line says what the file is: '// XEP-0352: Client State Indication.'`
  }
  const linesMax = outside(path) ? TEST_LINES_MAX : LINES_MAX
  const count = text.endsWith('\n') ? lines.length - 1 : lines.length
  if (count > linesMax) yield `${path}:${linesMax + 1}: ${count} lines; at most ${linesMax}: give a part of it a file of its own`
}

function* wordFaults({ path, text }: Source): Generator<Fault> {
  for (const [index, line] of text.split('\n').entries()) {
    for (const [pattern, why] of FORBIDDEN) {
      if (pattern.test(line)) yield `${path}:${index + 1}: '${pattern.source.replaceAll('\\', '')}': ${why}`
    }
  }
}

/** Tests, and what only they use, may import anything. */
function outside(path: string): boolean {
  return isTestOnly(path.replace(/^services\//, ''))
}

function isTestOnly(target: string): boolean {
  return TEST_ONLY.test(target)
}

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
  cluster: ['xmpp', 'bus', 'table', 'core', 'embedded'],
  ctl: ['xmpp', 'bus', 'table', 'core', 'embedded', 'cluster'],
}

/** The implementations behind a contract: only who puts the server together may name one. */
const DRIVERS = /^(?:bus\/(?:memory|nats)|table\/(?:memory|sqlite|dynamo))\.ts$/
const DRIVER_USERS = ['embedded', 'cluster', 'ctl']
/** The suites that every implementation of an interface runs, and what tests stand on. */
const TEST_ONLY = /^test\/|\.(?:test|fixture)\.ts$|^[a-z]+\/contract\.ts$/

const LINES_MAX = 500
const FUNCTION_LINES_MAX = 70
const TEST_LINES_MAX = 800
/** Put together here, so that this file does not contain what it looks for. */
const FORBIDDEN: readonly [RegExp, string][] = [
  [new RegExp(['', 'work', ''].join('/')), "a path of one developer's machine"],
  [new RegExp(`\\b${'TO'}${'DO'}\\b`), 'work left undone: do it, or describe the limit in a README'],
]

export interface Source {
  /** From the project's root, with slashes: `services/edge/listeners/tcp.ts`. */
  readonly path: string
  readonly text: string
}

/** Reads as `services/edge/listeners/tcp.ts:3: edge imports router: …`. */
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
  if (outside(path)) return
  for (const { line, length } of functionsOf(text)) {
    if (length > FUNCTION_LINES_MAX)
      yield `${path}:${line}: a function of ${length} lines; at most ${FUNCTION_LINES_MAX}: give a part of it a name`
  }
}

export interface FunctionLines {
  /** Where its signature begins. */
  readonly line: number
  /** From there to the brace that closes it. */
  readonly length: number
}

/**
 * The functions and methods of more than one line with a body in braces, as the formatter leaves them: the body opens at
 * the end of a line and closes at that line's indentation. A signature over several lines closes there too, before it.
 */
export function functionsOf(text: string): FunctionLines[] {
  const lines = text.split('\n')
  const found: FunctionLines[] = []
  for (const [at, line] of lines.entries()) {
    if (!OPENS_FUNCTION.test(line) || OPENS_BLOCK.test(line)) continue
    const indentation = /^ */.exec(line)![0]
    const sameLevel = (other: string): boolean => other.startsWith(indentation) && /^\S/.test(other.slice(indentation.length))
    const end = lines.findIndex((other, n) => n > at && sameLevel(other))
    if (end < 0 || lines[end]![indentation.length] !== '}') continue // brace of something else, in a text perhaps
    const begin = CLOSES_SIGNATURE.test(line) ? lines.findLastIndex((other, n) => n < at && sameLevel(other)) : at
    if (!OPENS_BLOCK.test(lines[begin]!)) found.push({ line: begin + 1, length: end - begin + 1 })
  }
  return found
}

/** `function name(…) {`, `name(…): T {`, `(…) => {`, and the end of a signature of several lines: `): T {`. */
const OPENS_FUNCTION = /(?:\bfunction\b.*|=>|^ *(?:[\w#*]+ +)*\*?[\w#]+(?:<.*>)?\(.*\)(?:: .+)?|^ *\).*) \{$/
const OPENS_BLOCK = /^ *(?:\} )?(?:if|for|while|switch|catch|else|do|try|finally|with|class|interface)\b/
const CLOSES_SIGNATURE = /^ *\)/

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

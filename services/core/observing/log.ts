// The log: an event name and its fields, one JSON object per line.
//
//   {"level":"info","time":"2026-11-23T12:07:00.000Z","event":"session.bound","jid":"romeo@example.org/garden","tookMs":3}
//
// Whatever is handed in becomes such a line and nothing throws: `tame` first turns the fields into plain, bounded data
// (errors with their causes, circles, bigints, getters that throw, half surrogate pairs). On a terminal the same line is
// shown for people, with everything a terminal would obey escaped.
import pino from 'pino'

export type LogLevel = 'debug' | 'info' | 'warn' | 'error'
export const LOG_LEVELS: readonly LogLevel[] = ['debug', 'info', 'warn', 'error']

/** `event` is in the past tense, `room.happened`; no bodies and no passwords in `fields`. Never throws. */
export type LogLine = (event: string, fields?: object) => void

/** `error`: someone must act. `warn`: someone may have to. `info`: once a session. `debug`: once a stanza. */
export interface Log {
  /** False: `debug` does nothing. Ask before building fields on a hot path. */
  readonly debugging: boolean
  readonly debug: LogLine
  readonly info: LogLine
  readonly warn: LogLine
  readonly error: LogLine
  /** The same log, with these fields in every line. A field of the line wins over one of the child. */
  child(fields: object): Log
}

export interface ProcessLog extends Log {
  /** Writes what is still in memory, at once. For the end of a process. */
  flush(): void
}

export interface LogOptions {
  readonly level?: LogLevel
  /** For people instead of machines; by default when standard output is a terminal. */
  readonly pretty?: boolean
  /** Where lines go, each with its line feed; by default standard output, without waiting for its reader. */
  readonly write?: (line: string) => void
}

/** Lines that nobody has to act on are gathered: a write for each would wake a thread for each, a twelfth of what a login costs. */
const GATHERED_MS = 100
const GATHERED_UNITS_MAX = 8 * 1024
/** Lines that a reader has not taken. Beyond it lines are dropped, and their number is logged once there is room. */
const UNREAD_BYTES_MAX = 16 * 1024 * 1024

export function createLog(options: LogOptions = {}): ProcessLog {
  const { level = 'info', write } = options
  const pretty = options.pretty ?? (write === undefined && process.stdout.isTTY === true)
  const output: Output = write === undefined ? standardOutput() : { write, hurry() {}, flush() {} }
  const sink = pretty
    ? pino(settings(level), { write: (line: string) => output.write(prettyLine(line)) })
    : pino(settings(level), output)
  output.dropped = (lines) => log.error('log.dropped', { lines })
  const log = logOf(level, {}, (at, event, fields) => {
    sink[at](fields, event)
    if (at === 'warn' || at === 'error') output.hurry()
  })
  return { ...log, flush: () => output.flush() }
}

/** Takes lines and forgets them. */
export const silentLog: Log = {
  debugging: false,
  debug: nothing,
  info: nothing,
  warn: nothing,
  error: nothing,
  child: () => silentLog,
}

export interface MemoryLog extends Log {
  /** What was logged, oldest first, children included. The fields are as they would be written. */
  readonly lines: { level: LogLevel; event: string; fields: Record<string, unknown> }[]
}

/** For tests. */
export function memoryLog(level: LogLevel = 'debug'): MemoryLog {
  const lines: MemoryLog['lines'] = []
  return { ...logOf(level, {}, (at, event, fields) => void lines.push({ level: at, event, fields })), lines }
}

function nothing(): void {}

type Emit = (level: LogLevel, event: string, fields: Record<string, unknown>) => void

function logOf(level: LogLevel, bound: object, emit: Emit): Log {
  const from = LOG_LEVELS.indexOf(level)
  const line = (at: LogLevel): LogLine => {
    if (LOG_LEVELS.indexOf(at) < from) return nothing
    return (event, fields) => emit(at, event.isWellFormed() ? event : event.toWellFormed(), tameFields(bound, fields))
  }
  return {
    debugging: from === 0,
    debug: line('debug'),
    info: line('info'),
    warn: line('warn'),
    error: line('error'),
    child: (fields) => logOf(level, tameFields(bound, fields), emit),
  }
}

function settings(level: LogLevel): pino.LoggerOptions {
  return {
    level,
    base: null, // a process's own fields are given by child()
    messageKey: 'event',
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    serializers: { err: (value: unknown) => value }, // tamed already
  }
}

interface Output {
  write(line: string): void
  /** What is gathered is not to wait. */
  hurry(): void
  /** The same, before this returns. */
  flush(): void
  dropped?: (lines: number) => void
}

function standardOutput(): Output {
  const stream = pino.destination({ fd: 1, sync: false, maxLength: UNREAD_BYTES_MAX })
  let gathered = ''
  let gathering: NodeJS.Timeout | undefined
  let dropped = 0
  stream.on('drop', (lines: string) => {
    dropped += lines.split('\n').length - 1
  })
  stream.on('drain', () => {
    if (dropped === 0) return
    const lines = dropped
    dropped = 0
    output.dropped?.(lines)
  })
  const output: Output = {
    write(line) {
      gathered += line
      if (gathered.length > GATHERED_UNITS_MAX) output.hurry()
      else gathering ??= setTimeout(output.hurry, GATHERED_MS)
    },
    hurry() {
      const lines = gathered
      gathered = ''
      clearTimeout(gathering)
      gathering = undefined
      if (lines !== '') stream.write(lines)
    },
    flush() {
      try {
        output.hurry()
        stream.flushSync()
      } catch {
        // Not open yet, or its reader is gone: there is nobody to tell.
      }
    },
  }
  return output
}

// Fields into plain data ---------------------------------------------------------------------------------------------

const DEPTH_MAX = 6
const ENTRIES_MAX = 100
const TEXT_MAX = 8192
/** Of one line, about: lists in lists would multiply what each of them may have. */
const LINE_MAX = 256 * 1024
/** What an entry takes that is no text. */
const ENTRY_COST = 8
/** What is left of the line that is being made. */
let room = LINE_MAX
/** Keys that every line has; a field of this name gets an underscore, for a key twice in an object means two things. */
const TAKEN: ReadonlySet<string> = new Set(['level', 'time', 'event'])

function tameFields(bound: object, fields: object | undefined): Record<string, unknown> {
  const tamed: Record<string, unknown> = Object.assign(Object.create(null), bound)
  if (fields === undefined) return tamed
  room = LINE_MAX
  const plain = tame(fields, 0, [])
  const entries =
    fields instanceof Error || typeof plain !== 'object' || plain === null || Array.isArray(plain)
      ? [[fields instanceof Error ? 'error' : 'value', plain] as const]
      : Object.entries(plain)
  for (const [key, value] of entries) {
    const name = /^[\w.-]+$/.test(key) ? key : key.replace(/[^\w.-]/g, '_') || '_' // pino writes the outer keys unescaped
    tamed[TAKEN.has(name) ? `${name}_` : name] = value
  }
  return tamed
}

/** `above` are the objects we are in: one that is met again is a circle, one that is merely shared is not. */
function tame(value: unknown, depth: number, above: readonly object[]): unknown {
  if (room < 0) return '[more]'
  room -= ENTRY_COST
  switch (typeof value) {
    case 'string':
      return tameText(value)
    case 'number':
      return Number.isFinite(value) ? value : String(value)
    case 'boolean':
      return value
    case 'undefined':
      return undefined
    case 'object':
      if (value === null) return null
      try {
        return tameObject(value, depth, above)
      } catch {
        return '[unreadable]' // a getter, a proxy or a toString that throws
      }
    default:
      return tameText(String(value)) // bigint, symbol, function
  }
}

function tameObject(value: object, depth: number, above: readonly object[]): unknown {
  if (above.includes(value)) return '[circular]'
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return `[${value.byteLength} bytes]`
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? 'Invalid Date' : value.toISOString()
  const isError = value instanceof Error
  // Jid, URL and their like say themselves what they are.
  if (!isError && !Array.isArray(value) && typeof value.toString === 'function' && value.toString !== Object.prototype.toString)
    return tameText(String(value))
  if (depth >= DEPTH_MAX) return '[deeper]'

  const within = [...above, value]
  if (Array.isArray(value) || value instanceof Set) {
    const items = [...value.values()]
    const tamed = items.slice(0, ENTRIES_MAX).map((item) => tame(item, depth + 1, within) ?? null)
    if (items.length > ENTRIES_MAX) tamed.push(`[${items.length - ENTRIES_MAX} more]`)
    return tamed
  }
  const keys = value instanceof Map ? [...value.keys()] : Object.keys(value)
  const tamed: Record<string, unknown> = Object.create(null)
  if (isError) for (const key of ['name', 'message', 'stack', 'cause', 'errors']) add(key, (value as never)[key])
  for (const key of keys.slice(0, ENTRIES_MAX)) add(String(key), value instanceof Map ? value.get(key) : read(value, key))
  if (keys.length > ENTRIES_MAX) tamed['...'] = `[${keys.length - ENTRIES_MAX} more]`
  return tamed

  function add(key: string, field: unknown) {
    if (field !== undefined) tamed[tameText(key)] = tame(field, depth + 1, within)
  }
}

function read(value: object, key: string): unknown {
  try {
    return (value as Record<string, unknown>)[key]
  } catch {
    return '[unreadable]'
  }
}

function tameText(text: string): string {
  const short = text.length <= TEXT_MAX ? text : `${text.slice(0, TEXT_MAX)}[${text.length - TEXT_MAX} more]`
  room -= short.length
  return short.toWellFormed() // half a surrogate pair cannot be written as UTF-8
}

// For people ---------------------------------------------------------------------------------------------------------

const COLOURS: Readonly<Record<string, string>> = { debug: '\x1b[90m', info: '\x1b[32m', warn: '\x1b[33m', error: '\x1b[31m' }
const GREY = '\x1b[90m'
const PLAIN = '\x1b[0m'

/** `12:07:00.000 info  session.bound jid=romeo@example.org/garden tookMs=3`, and stacks below it. Takes a line as written. */
export function prettyLine(json: string): string {
  const { level, time, event, ...fields } = JSON.parse(json) as Record<string, string>
  let text = `${GREY}${time!.slice(11, 23)}${PLAIN} ${COLOURS[level!]}${level!.padEnd(5)}${PLAIN} ${bare(event!)}`
  let stacks = ''
  for (const [key, value] of Object.entries<unknown>(fields)) {
    if (isStacked(value)) {
      text += ` ${GREY}${key}=${PLAIN}${quoted(value.message)}`
      stacks += stackLines(value)
    } else text += ` ${GREY}${key}=${PLAIN}${quoted(value)}`
  }
  return `${text}\n${stacks}`
}

interface Stacked {
  readonly message: string
  readonly stack: string
  readonly cause?: unknown
}

function isStacked(value: unknown): value is Stacked {
  return typeof value === 'object' && value !== null && typeof (value as Stacked).stack === 'string'
}

function stackLines(error: Stacked): string {
  const lines = error.stack.split('\n').map((line) => `  ${bare(line)}\n`)
  return lines.join('') + (isStacked(error.cause) ? `  caused by:\n${stackLines(error.cause)}` : '')
}

function quoted(value: unknown): string {
  if (typeof value === 'string' && /^[^\s"=]+$/.test(value)) return bare(value)
  return bare(JSON.stringify(value) ?? 'undefined')
}

/** Controls of both sets, line separators, and what turns the direction of writing: shown by number, never sent. */
function bare(text: string): string {
  return text.replace(
    /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

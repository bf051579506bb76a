// What can be set: how a key is declared, checked, and complained about.
//
// A key of the server (settings.ts) and an option of a module become the same thing, a zod schema with a `KeyDoc`
// beside it, so that both are read from the same places, refused in the same words and printed in the same tables.
import * as z from 'zod'
import { didYouMean, nearest } from './nearest.ts'

/**
 * One option of a module. A number is a whole number and `min` and `max` bound it; of text they bound the characters, of
 * a list the entries. `doc` is one sentence; a unit is in the option's name.
 */
export interface OptionSpec<T> {
  readonly default: T
  readonly min?: number
  readonly max?: number
  readonly oneOf?: readonly T[]
  /** Of text: what it must look like, and what it must be. */
  readonly form?: { readonly right: string; readonly pattern: RegExp }
  /** Of a list: what each entry must be, and how it is checked. `prepare` throws what is wrong. */
  readonly entry?: { readonly right: string; readonly prepare: (text: string) => string }
  /** `hosts` may say something else for one domain. */
  readonly perDomain?: boolean
  readonly doc: string
}

export type OptionSpecs<O> = { readonly [K in keyof O]: OptionSpec<O[K]> }

/** The options of every module, by the module's name. */
// biome-ignore lint/suspicious/noExplicitAny: a list of modules holds any options
export type ModuleOptions = Readonly<Record<string, OptionSpecs<any>>>

/**
 * Fills in defaults and checks what was given for one module. With faults, the options are the defaults, so that a caller can go
 * on looking for more. `modules.mam.pageMax is 0; it must be at least 1`
 */
export function checkOptions<O>(module: string, specs: OptionSpecs<O>, given: unknown): { options: O; faults: string[] } {
  const schema = optionsSchema(module, specs)
  const checked = schema.safeParse(given ?? {})
  if (checked.success) return { options: checked.data as O, faults: [] }
  const faults = faultsOf(schema, checked.error.issues, given, ['modules', module])
  return { options: schema.parse({}) as O, faults: faults.map(({ text }) => text) }
}

// Declaring ----------------------------------------------------------------------------------------------------------

/** How a key is written in an environment variable. */
export type Kind = 'number' | 'port' | 'flag' | 'text' | 'list'

export interface KeyDoc {
  readonly kind: Kind
  /** After "it must be"; of a list, what each entry must be. */
  readonly right: string
  /** Undefined where there is none; the doc then says what happens. */
  readonly fallback: unknown
  readonly bounds: string
  readonly doc: string
}

const keyDocs = z.registry<KeyDoc>()
const sectionDocs = z.registry<{ doc: string }>()

function key<S extends z.ZodType>(schema: S, kind: Kind, right: string, fallback: unknown, bounds: string, doc: string): S {
  keyDocs.add(schema, { kind, right, fallback, bounds, doc })
  return schema
}

export function section<S extends z.core.$ZodLooseShape>(doc: string, shape: S) {
  return z.strictObject(shape).register(sectionDocs, { doc })
}

export function whole(fallback: number, doc: string, min?: number, max?: number) {
  let number = z.int()
  if (min !== undefined) number = number.min(min)
  if (max !== undefined) number = number.max(max)
  return key(number.default(fallback), 'number', `a whole number${range(min, max)}`, fallback, bounds(min, max, ''), doc)
}

/** A port, where null and `off` say that nothing shall listen; false too, which is what YAML 1.1 makes of `off`. */
export function port(fallback: number, doc: string) {
  const schema = z.unknown().transform((value, context): number | 'off' => {
    if (value === 'off' || value === null || value === false) return 'off'
    if (Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 65535) return value as number
    return refuse(context)
  })
  return key(
    schema.default(fallback),
    'port',
    'a port from 0 to 65535 (0: any free one) or off',
    fallback,
    '0 to 65535, `off`',
    doc,
  )
}

export function flag(fallback: boolean, doc: string) {
  return key(z.boolean().default(fallback), 'flag', 'true or false', fallback, '', doc)
}

export function maybeFlag(doc: string) {
  return key(z.boolean().optional(), 'flag', 'true or false', undefined, '', doc)
}

export function text(
  fallback: string,
  doc: string,
  { min, max, form, right = 'text' }: { min?: number; max?: number; form?: RegExp; right?: string } = {},
) {
  let string = z.string()
  if (min !== undefined) string = string.min(min)
  if (max !== undefined) string = string.max(max)
  if (form !== undefined) string = string.regex(form)
  return key(string.default(fallback), 'text', right, fallback, bounds(min, max, ' characters'), doc)
}

export function maybeText(doc: string) {
  return key(z.string().min(1).optional(), 'text', 'text', undefined, '', doc)
}

export function word<const W extends string>(fallback: NoInfer<W>, words: readonly W[], doc: string) {
  return key(
    z.literal(words).default(fallback as never),
    'text',
    oneOf(words),
    fallback,
    words.map((w) => `\`${w}\``).join(', '),
    doc,
  )
}

/** A list of text, or one text for a list of one; no entry twice. `entry` prepares an entry, or throws saying why it cannot. */
export function list(
  fallback: readonly string[],
  doc: string,
  { min = 0, max = Infinity, right = 'text', entry = (text: string) => text } = {},
) {
  const entries = z
    .array(
      z.string().transform((text, context): string => {
        try {
          return entry(text)
        } catch (error) {
          return refuse(context, (error as Error).message)
        }
      }),
    )
    .min(min)
    .max(max)
    .check(({ value, issues }) => {
      const twice = value.findIndex((text, i) => value.indexOf(text) < i)
      if (twice >= 0) issues.push({ code: 'custom', input: value[twice], path: [twice], message: 'the same is there already' })
    })
  const schema = z.preprocess((value) => (typeof value === 'string' ? [value] : value), entries).default([...fallback])
  return key(schema, 'list', right, fallback, min === 0 && max === Infinity ? '' : bounds(min, max, ' entries'), doc)
}

/** The same key for one domain, where it may be left out and then is as everywhere. */
export function override(schema: z.ZodType): z.ZodType {
  const { kind, right, bounds, doc } = keyDocs.get(schema)!
  return key((schema as z.ZodDefault<z.ZodType>).unwrap().optional(), kind, right, undefined, bounds, doc)
}

function refuse(context: z.RefinementCtx, message = ''): never {
  context.addIssue({ code: 'custom', message })
  return z.NEVER
}

/** The schema of a module's options. Throws on a spec that contradicts itself: a bug of the module, found at start. */
export function optionsSchema<O>(module: string, specs: OptionSpecs<O>): z.ZodObject {
  const shape: Record<string, z.ZodType> = {}
  for (const [name, spec] of Object.entries<OptionSpec<unknown>>(specs)) {
    shape[name] = optionSchema(spec)
    if (!shape[name].safeParse(spec.default).success) throw new Error(`module ${module}: the default of ${name} is out of bounds`)
  }
  return section(`Module \`${module}\``, shape)
}

/** Those of the options that one domain may have otherwise. */
export function perDomainSchema<O>(module: string, specs: OptionSpecs<O>): z.ZodObject | undefined {
  const own = Object.entries<OptionSpec<unknown>>(specs).filter(([, { perDomain }]) => perDomain === true)
  if (own.length === 0) return undefined
  return section(`Module \`${module}\``, Object.fromEntries(own.map(([name, spec]) => [name, override(optionSchema(spec))])))
}

function optionSchema({ default: fallback, min, max, oneOf: words, form, entry, doc }: OptionSpec<unknown>): z.ZodType {
  if (words) return wordOf(fallback, words, doc)
  if (typeof fallback === 'number') return whole(fallback, doc, min, max)
  if (typeof fallback === 'boolean') return flag(fallback, doc)
  if (typeof fallback === 'string')
    return text(fallback, doc, { min, max, ...(form && { form: form.pattern, right: form.right }) })
  if (Array.isArray(fallback)) return list(fallback, doc, { min, max, right: entry?.right, entry: entry?.prepare })
  throw new Error(`an option is a number, a boolean, text or a list of text, and not ${fallback}`)
}

function wordOf(fallback: unknown, words: readonly unknown[], doc: string): z.ZodType {
  const schema = z.literal(words as string[]).default(fallback as string)
  const kind = typeof fallback === 'number' ? 'number' : 'text'
  return key(schema, kind, oneOf(words), fallback, words.map((w) => `\`${w}\``).join(', '), doc)
}

// Walking ------------------------------------------------------------------------------------------------------------

export interface Key {
  /** `c2s.tlsPort` */
  readonly name: string
  readonly path: readonly string[]
  readonly doc: KeyDoc
}

/** Every key of a schema, in the order of declaration. */
export function* keysOf(schema: z.ZodType, path: readonly string[] = []): Iterable<Key> {
  const doc = keyDocs.get(schema)
  if (doc) yield { name: path.join('.'), path, doc }
  else if (schema instanceof z.ZodObject)
    for (const [name, inner] of Object.entries(schema.shape)) yield* keysOf(inner as z.ZodType, [...path, name])
}

/** The sections within a schema, outer ones first. */
export function* sectionsOf(
  schema: z.ZodType,
  path: readonly string[] = [],
): Iterable<{ path: readonly string[]; doc: string; schema: z.ZodObject }> {
  if (!(schema instanceof z.ZodObject)) return
  if (path.length > 0) yield { path, doc: sectionDocs.get(schema)?.doc ?? '', schema }
  for (const [name, inner] of Object.entries(schema.shape)) yield* sectionsOf(inner as z.ZodType, [...path, name])
}

// Complaining --------------------------------------------------------------------------------------------------------

export interface Fault {
  readonly path: readonly PropertyKey[]
  readonly text: string
}

/** What zod found, in our words. `given` is what was parsed, and `above` the path to it. */
export function faultsOf(
  schema: z.ZodType,
  issues: readonly z.core.$ZodIssue[],
  given: unknown,
  above: readonly string[] = [],
): Fault[] {
  const known = new Map([...keysOf(schema, above)].map((one) => [one.name, one]))
  return issues.flatMap((issue): Fault[] => {
    // One text may stand for a list of one: the fault is then in the text itself.
    const alone = issue.path.at(-1) === 0 && typeof valueAt(given, issue.path.slice(0, -1)) === 'string'
    const within = alone ? issue.path.slice(0, -1) : issue.path
    const path = [...above, ...within]
    if (issue.code === 'unrecognized_keys')
      return issue.keys.map((name) => ({ path: [...path, name], text: unknownKey(path, name, known) }))
    const subject = `${pathName(path)} is ${shown(valueAt(given, within))}`
    return [{ path, text: `${subject}; it must be ${rightFor(issue, keyAbove(path, known))}` }]
  })
}

function rightFor(issue: z.core.$ZodIssue, at: Key | undefined): string {
  if (at === undefined) return 'a section, with keys of its own'
  const { kind, right } = at.doc
  if (issue.code === 'too_small' || issue.code === 'too_big') {
    const bound = Number(issue.code === 'too_small' ? issue.minimum : issue.maximum)
    const unit = issue.origin === 'string' ? 'character' : issue.origin === 'array' ? 'entry' : ''
    return `${issue.code === 'too_small' ? 'at least' : 'at most'} ${bound}${unit && ` ${counted(unit, bound)}`}`
  }
  if (issue.code === 'custom' && issue.message !== '') return `${right} (${issue.message})`
  return kind === 'list' && typeof issue.path.at(-1) !== 'number' ? `a list, each entry ${right}` : right
}

function counted(unit: string, count: number): string {
  return count === 1 ? unit : unit === 'entry' ? 'entries' : `${unit}s`
}

function unknownKey(path: readonly PropertyKey[], name: string, known: ReadonlyMap<string, Key>): string {
  const here = path.length === 0 ? '' : `${pathName(path)}.`
  const beside = [
    ...new Set([...known.keys()].filter((one) => one.startsWith(here)).map((one) => one.slice(here.length).split('.')[0]!)),
  ]
  let near = nearest(name, beside).map((one) => here + one)
  if (near.length === 0)
    near = [...known.values()].filter((one) => nearest(name, [one.path.at(-1)!]).length > 0).map((one) => one.name)
  const hint =
    near.length > 0 ? didYouMean(near.slice(0, 3)) : beside.length > 0 ? `; the keys here are ${beside.join(', ')}` : ''
  return `${here}${name} is not a key${hint}`
}

function keyAbove(path: readonly PropertyKey[], known: ReadonlyMap<string, Key>): Key | undefined {
  for (let length = path.length; length > 0; length--) {
    const found = known.get(path.slice(0, length).join('.'))
    if (found) return found
  }
  return undefined
}

/** `domains[1]`, `c2s.port` */
function pathName(path: readonly PropertyKey[]): string {
  return path.map((part, i) => (typeof part === 'number' ? `[${part}]` : i === 0 ? String(part) : `.${String(part)}`)).join('')
}

export function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  for (const part of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, part)) return undefined
    value = (value as Record<PropertyKey, unknown>)[part]
  }
  return value
}

function shown(value: unknown): string {
  if (value === undefined) return 'missing'
  if (value === null) return 'empty'
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : 'a list'
  if (typeof value === 'object') return 'a section'
  const text = typeof value === 'string' ? JSON.stringify(value) : String(value)
  return text.length <= 80 ? text : `${text.slice(0, 80)}…`
}

function oneOf(words: readonly unknown[]): string {
  return words.length === 1 ? String(words[0]) : `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`
}

function range(min: number | undefined, max: number | undefined): string {
  if (min !== undefined && max !== undefined) return ` from ${min} to ${max}`
  if (min !== undefined) return `, at least ${min}`
  return max === undefined ? '' : `, at most ${max}`
}

function bounds(min: number | undefined, max: number | undefined, unit: string): string {
  if (min !== undefined && max !== undefined && max !== Infinity) return `${min} to ${max}${unit}`
  if (min !== undefined) return `at least ${min}${unit}`
  return max === undefined ? '' : `at most ${max}${unit}`
}

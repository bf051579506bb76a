// XEP-0004: Data Forms, and the FORM_TYPE of XEP-0068.
//
// A form is read into a flat value and written from one. A form that somebody filled in is held to the one that was (or
// would have been) offered by `submitted`, which gives the values in one spelling; then no module checks booleans,
// options or JIDs again.
import { StanzaError } from './error.ts'
import { JidError, parseJid } from './jid.ts'
import { NS_DATA } from './ns.ts'
import { attr, childOf, childrenOf, type Element, el, textOf } from './stanza.ts'

/** §3.1. */
export type FormType = 'form' | 'submit' | 'cancel' | 'result'

/** §3.3. */
export type FieldType =
  | 'boolean'
  | 'fixed'
  | 'hidden'
  | 'jid-multi'
  | 'jid-single'
  | 'list-multi'
  | 'list-single'
  | 'text-multi'
  | 'text-private'
  | 'text-single'

export interface FieldOption {
  readonly value: string
  readonly label?: string | undefined
}

export interface Field {
  /** '' only where the type is fixed. */
  readonly var: string
  /** Undefined where the form does not say: in what was submitted it follows from the form that was offered (§3.2). */
  readonly type?: FieldType | undefined
  readonly label?: string | undefined
  readonly desc?: string | undefined
  readonly required?: boolean
  readonly values: readonly string[]
  readonly options?: readonly FieldOption[]
  /** What other specifications put into a field: `<media/>` (XEP-0221), `<validate/>` (XEP-0122). */
  readonly extra?: readonly Element[]
}

export interface Form {
  readonly type: FormType
  readonly title?: string | undefined
  readonly instructions: readonly string[]
  readonly fields: readonly Field[]
  /** The columns of a table of results (§3.4), and its rows. */
  readonly reported?: readonly Field[]
  readonly items?: readonly (readonly Field[])[]
}

/** Reads an `<x xmlns='jabber:x:data'/>`. Throws StanzaError('bad-request'). */
export function parseForm(element: Element): Form {
  if (element.name !== 'x' || element.ns !== NS_DATA) throw new StanzaError('bad-request', 'not a data form')
  const type = attr(element, 'type')
  if (!isOneOf(FORM_TYPES, type)) throw new StanzaError('bad-request', 'the form has none of the types of XEP-0004')
  const title = childOf(element, 'title', NS_DATA)
  const reported = childrenOf(element, 'reported', NS_DATA)
  if (reported.length > 1) throw new StanzaError('bad-request', 'more than one <reported/>') // §3.4
  const items = childrenOf(element, 'item', NS_DATA)
  return {
    type,
    title: title === undefined ? undefined : textOf(title),
    instructions: childrenOf(element, 'instructions', NS_DATA).map(textOf),
    fields: fieldsOf(element),
    ...(reported[0] !== undefined && { reported: fieldsOf(reported[0]) }),
    ...((reported.length > 0 || items.length > 0) && { items: items.map(fieldsOf) }),
  }
}

/** The form that is a child of `parent`; undefined where there is none. Throws StanzaError('bad-request'). */
export function formOf(parent: Element): Form | undefined {
  const x = childOf(parent, 'x', NS_DATA)
  return x === undefined ? undefined : parseForm(x)
}

/** Writes a form. */
export function formElement(form: Form): Element {
  const children: Element[] = []
  if (form.title !== undefined) children.push(el('title', NS_DATA, {}, form.title))
  for (const line of form.instructions) children.push(el('instructions', NS_DATA, {}, line))
  for (const field of form.fields) children.push(fieldElement(field))
  if (form.reported !== undefined) children.push(el('reported', NS_DATA, {}, ...form.reported.map(fieldElement))) // §3.4: before any item
  for (const item of form.items ?? []) children.push(el('item', NS_DATA, {}, ...item.map(fieldElement)))
  return el('x', NS_DATA, { type: form.type }, ...children)
}

/** A form with its FORM_TYPE (XEP-0068 §3.1), the first of its fields. */
export function makeForm(
  type: FormType,
  formType: string,
  fields: readonly Field[],
  words: { readonly title?: string; readonly instructions?: readonly string[] } = {},
): Form {
  const first = makeField('hidden', FORM_TYPE, { values: [formType] })
  return { type, title: words.title, instructions: words.instructions ?? [], fields: [first, ...fields] }
}

/** A field; `value` for one value. A boolean is written "1" or "0", as all understand it. */
export function makeField(
  type: FieldType,
  name: string,
  more: Partial<Omit<Field, 'var' | 'type'>> & { readonly value?: string | boolean | undefined } = {},
): Field {
  const { value, ...rest } = more
  const one = typeof value === 'boolean' ? (value ? '1' : '0') : value
  return { var: name, type, ...rest, values: rest.values ?? (one === undefined ? [] : [one]) }
}

/** The FORM_TYPE of a form, '' for none. A field of that name that is not hidden does not count, but in a submission (XEP-0068 §5). */
export function formTypeOf(form: Form): string {
  const field = fieldIn(form, FORM_TYPE)
  if (field === undefined) return ''
  const counts = field.type === 'hidden' || (form.type === 'submit' && field.type === undefined)
  return counts ? (field.values[0] ?? '') : ''
}

/** The first value of a field; undefined where it has none. */
export function value(form: Form, name: string): string | undefined {
  return fieldIn(form, name)?.values[0]
}

/** The values of a field; none where it is not there. */
export function values(form: Form, name: string): readonly string[] {
  return fieldIn(form, name)?.values ?? []
}

/** A boolean field; undefined where it has no value. Throws StanzaError('not-acceptable'). */
export function flag(form: Form, name: string): boolean | undefined {
  const text = value(form, name)
  return text === undefined || text === '' ? undefined : isTrue(name, text)
}

/**
 * The values of a form that was filled in, held to the form that was offered (§4: what does not fit is
 * not-acceptable). By name, and only those that were offered and sent: a field left out keeps what it is
 * (§3.5), one without a value, or with one empty value, is here with none and unsets it. Booleans come as "1" and "0", JIDs prepared, doubles
 * once. Fixed fields and unknown ones are ignored (§3.1). A hidden field comes back as it was offered, unless it was
 * offered without a value. Throws StanzaError.
 */
export function submitted(offered: Form, form: Form): ReadonlyMap<string, readonly string[]> {
  if (form.type !== 'submit') throw new StanzaError('bad-request', 'the form is not submitted')
  const formType = formTypeOf(offered)
  const given = formTypeOf(form)
  if (given !== formType && given !== '') throw notAcceptable(FORM_TYPE, `is not ${formType}`)
  const result = new Map<string, readonly string[]>()
  for (const field of offered.fields) {
    if (field.type === 'fixed' || field.var === FORM_TYPE) continue
    const sent = fieldIn(form, field.var)
    const checked = sent === undefined ? undefined : checkedValues(field, sent.values)
    if (field.required === true && (checked === undefined || checked.length === 0)) throw notAcceptable(field.var, 'is required')
    if (checked !== undefined) result.set(field.var, checked)
  }
  return result
}

export const FORM_TYPE = 'FORM_TYPE'

function checkedValues(field: Field, sent: readonly string[]): readonly string[] {
  const type = field.type ?? 'text-single' // §3.2
  if (sent.length > 1 && !MULTIPLE.has(type)) throw notAcceptable(field.var, 'has more than one value') // §3.2
  if (type === 'hidden') {
    const same = sent.length === field.values.length && sent.every((text, i) => text === field.values[i])
    if (field.values.length > 0 && !same) throw notAcceptable(field.var, 'is hidden and was changed')
    return sent
  }
  if (sent.length === 1 && sent[0] === '') return [] // §3.6: one of the ways to say "empty"
  switch (type) {
    case 'boolean':
      return sent.map((text) => (isTrue(field.var, text) ? '1' : '0'))
    case 'jid-single':
    case 'jid-multi':
      return [...new Set(sent.map((text) => preparedJid(field.var, text)))] // §3.3: duplicates MUST be ignored
    case 'list-single':
    case 'list-multi':
      for (const text of sent) {
        if (!field.options?.some((option) => option.value === text)) throw notAcceptable(field.var, 'is none of the options')
      }
      return [...new Set(sent)]
    default:
      return sent
  }
}

function preparedJid(name: string, text: string): string {
  try {
    return parseJid(text).full
  } catch (cause) {
    if (cause instanceof JidError) throw notAcceptable(name, `is not a JID: ${cause.message}`)
    throw cause
  }
}

/** §3.3: the four spellings of xs:boolean. */
function isTrue(name: string, text: string): boolean {
  switch (text) {
    case '1':
    case 'true':
      return true
    case '0':
    case 'false':
      return false
    default:
      throw notAcceptable(name, 'is not a boolean')
  }
}

function notAcceptable(name: string, why: string): StanzaError {
  return new StanzaError('not-acceptable', `${name} ${why}`)
}

function fieldIn(form: Form, name: string): Field | undefined {
  return form.fields.find((field) => field.var === name)
}

function fieldsOf(parent: Element): Field[] {
  const seen = new Set<string>()
  return childrenOf(parent, 'field', NS_DATA).map((element) => {
    const field = parseField(element)
    if (field.type === 'fixed') return field
    if (field.var === '') throw new StanzaError('bad-request', 'a field has no var') // §3.2
    if (seen.has(field.var)) throw new StanzaError('bad-request', `the field ${field.var} stands twice`)
    seen.add(field.var)
    return field
  })
}

function parseField(element: Element): Field {
  const type = attr(element, 'type')
  const desc = childOf(element, 'desc', NS_DATA)
  const extra = element.children.filter((child): child is Element => typeof child !== 'string' && child.ns !== NS_DATA)
  const options = childrenOf(element, 'option', NS_DATA).map(parseOption)
  return {
    var: attr(element, 'var'),
    // §3.3: a type that is not understood is text-single
    type: type === '' ? undefined : isOneOf(FIELD_TYPES, type) ? type : 'text-single',
    label: element.attrs.label,
    desc: desc === undefined ? undefined : textOf(desc),
    required: childOf(element, 'required', NS_DATA) !== undefined,
    values: childrenOf(element, 'value', NS_DATA).map(textOf),
    options,
    ...(extra.length > 0 && { extra }),
  }
}

function parseOption(element: Element): FieldOption {
  const found = childrenOf(element, 'value', NS_DATA)
  if (found.length !== 1) throw new StanzaError('bad-request', 'an option must have one value') // §3.2
  return { value: textOf(found[0]!), label: element.attrs.label }
}

function fieldElement(field: Field): Element {
  const children: Element[] = []
  if (field.desc !== undefined) children.push(el('desc', NS_DATA, {}, field.desc))
  if (field.required === true) children.push(el('required', NS_DATA))
  for (const text of field.values) children.push(el('value', NS_DATA, {}, text))
  for (const option of field.options ?? []) {
    children.push(el('option', NS_DATA, { label: option.label }, el('value', NS_DATA, {}, option.value)))
  }
  children.push(...(field.extra ?? []))
  return el(
    'field',
    NS_DATA,
    { var: field.var === '' ? undefined : field.var, type: field.type, label: field.label },
    ...children,
  )
}

function isOneOf<T extends string>(known: readonly T[], text: string): text is T {
  return (known as readonly string[]).includes(text)
}

const FORM_TYPES = ['form', 'submit', 'cancel', 'result'] as const satisfies readonly FormType[]
const FIELD_TYPES = [
  'boolean',
  'fixed',
  'hidden',
  'jid-multi',
  'jid-single',
  'list-multi',
  'list-single',
  'text-multi',
  'text-private',
  'text-single',
] as const satisfies readonly FieldType[]
const MULTIPLE: ReadonlySet<FieldType> = new Set(['list-multi', 'jid-multi', 'text-multi', 'hidden'])

// XEP-0060 §16.4.4: what can be set of a node of an account, as XEP-0163 has it by default.
//
// A configuration is kept as the fields that are not as by default, in the spelling of the form, so that a form that is
// submitted, a publish-option (§7.1.5) and what is stored are compared as they are.

import { StanzaError } from '#xmpp/error.ts'
import { type Field, type Form, formElement, formTypeOf, makeField, makeForm, parseForm, submitted, value } from '#xmpp/form.ts'
import { NS_DATA } from '#xmpp/ns.ts'
import { childOf, type Element } from '#xmpp/stanza.ts'
import { NS_PUBSUB, refusal } from './pep-words.ts'

const NODE_CONFIG = `${NS_PUBSUB}#node_config`
const PUBLISH_OPTIONS = `${NS_PUBSUB}#publish-options`
const META_DATA = `${NS_PUBSUB}#meta-data`

/** Values by the name of their field, without `pubsub#`; what is not in it is as by default. */
export type Config = Readonly<Record<string, readonly string[]>>

export type AccessModel = 'open' | 'presence' | 'roster' | 'whitelist'
export type PublishModel = 'publishers' | 'subscribers' | 'open'

const ACCESS_MODELS = ['open', 'presence', 'roster', 'whitelist'] as const satisfies readonly AccessModel[]
const PUBLISH_MODELS = ['publishers', 'subscribers', 'open'] as const satisfies readonly PublishModel[]
const TITLE_UNITS_MAX = 1_000
const GROUPS_MAX = 100

/** With their values by default; `roster_groups_allowed` is open, hence no list. */
const FIELDS: readonly Field[] = [
  field('text-single', 'title', 'A name of the node', ''),
  field('text-single', 'description', 'What the node is for', ''),
  field('text-single', 'type', 'The namespace of its payloads', ''),
  field('list-single', 'access_model', 'Who may retrieve items and subscribe', 'presence', ACCESS_MODELS),
  field('text-multi', 'roster_groups_allowed', 'Groups of the roster, for the access model roster'),
  field('list-single', 'publish_model', 'Who may publish', 'publishers', PUBLISH_MODELS),
  field('boolean', 'persist_items', 'Whether items are kept', '1'),
  field('text-single', 'max_items', 'How many items are kept; max for as many as the server keeps', '1'),
  field('list-single', 'send_last_published_item', 'When the last item is sent', 'on_sub_and_presence', [
    'never',
    'on_sub',
    'on_sub_and_presence',
  ]),
  field('boolean', 'deliver_notifications', 'Whether events are sent', '1'),
  field('boolean', 'deliver_payloads', 'Whether events have the payload', '1'),
  field('boolean', 'notify_retract', 'Whether it is told when items are removed', '1'),
  field('boolean', 'notify_delete', 'Whether it is told when the node is deleted', '1'),
  field('boolean', 'notify_config', 'Whether it is told when this is changed', '0'),
  field('list-single', 'notification_type', 'The type of messages with events', 'headline', ['headline', 'normal']),
  field('list-single', 'node_type', 'What kind of node it is', 'leaf', ['leaf']),
]
const BY_NAME: ReadonlyMap<string, Field> = new Map(FIELDS.map((known) => [known.var, known]))

function field(
  type: NonNullable<Field['type']>,
  name: string,
  label: string,
  value?: string,
  options?: readonly string[],
): Field {
  const more = options === undefined ? {} : { options: options.map((option) => ({ value: option })) }
  return makeField(type, `pubsub#${name}`, { label, value, ...more })
}

function valuesOf(config: Config, { var: name, values }: Field): readonly string[] {
  return config[name.slice('pubsub#'.length)] ?? values
}

/** The value of a field that has one. */
export function settingOf(config: Config, name: string): string {
  return valuesOf(config, BY_NAME.get(`pubsub#${name}`)!)[0] ?? ''
}

export function isOn(config: Config, name: string): boolean {
  return settingOf(config, name) === '1'
}

export function accessModelOf(config: Config): AccessModel {
  return settingOf(config, 'access_model') as AccessModel
}

export function publishModelOf(config: Config): PublishModel {
  return settingOf(config, 'publish_model') as PublishModel
}

export function groupsOf(config: Config): readonly string[] {
  return config.roster_groups_allowed ?? []
}

/** How many items are kept, of at most `itemsMax`. */
export function maxItemsOf(config: Config, itemsMax: number): number {
  if (!isOn(config, 'persist_items')) return 0
  const text = settingOf(config, 'max_items')
  return text === 'max' ? itemsMax : Math.min(Number(text), itemsMax)
}

/** §8.2.2, §8.3.3: the form, with what is set. */
export function configForm(config: Config, type: 'form' | 'result' = 'form'): Element {
  return formElement(formOf(config, type))
}

function formOf(config: Config, type: 'form' | 'result'): Form {
  return makeForm(
    type,
    NODE_CONFIG,
    FIELDS.map((known) => ({ ...known, values: valuesOf(config, known) })),
  )
}

/** §5.4: what everybody may know of a node that may know of it. */
export function metaDataForm(config: Config, owner: string, more: Readonly<Record<string, string>>): Element {
  const shown = ['title', 'description', 'type', 'access_model', 'publish_model', 'max_items'].map((name) => {
    const known = BY_NAME.get(`pubsub#${name}`)!
    return makeField('text-single', known.var, { label: known.label, values: valuesOf(config, known) })
  })
  const others = Object.entries(more).map(([name, text]) => makeField('text-single', `pubsub#${name}`, { value: text }))
  return formElement(
    makeForm('result', META_DATA, [makeField('jid-multi', 'pubsub#owner', { values: [owner] }), ...shown, ...others]),
  )
}

/** §8.2.4: what a submitted form makes of a configuration. Throws not-acceptable (§8.2.5.2, §8.1.2). Unknown fields are ignored (XEP-0004 §3.1). */
export function configured(before: Config, form: Form, itemsMax: number): Config {
  demandAccessModel(form)
  const changes = submitted(formOf(before, 'form'), form)
  const after: Record<string, readonly string[]> = { ...before }
  for (const [name, values] of changes) {
    const known = BY_NAME.get(name)!
    const kept = checked(known, values.length === 0 ? known.values : values, itemsMax)
    const key = name.slice('pubsub#'.length)
    if (sameValues(kept, known.values)) delete after[key]
    else after[key] = kept
  }
  return after
}

function checked({ var: name, type }: Field, values: readonly string[], itemsMax: number): readonly string[] {
  if (name === 'pubsub#max_items') return [checkedMaxItems(values[0] ?? '', itemsMax)]
  if (name === 'pubsub#roster_groups_allowed' && values.length > GROUPS_MAX)
    throw new StanzaError('not-acceptable', `at most ${GROUPS_MAX} groups`)
  if (type === 'text-single' || type === 'text-multi') {
    for (const text of values) if (text.length > TITLE_UNITS_MAX) throw new StanzaError('not-acceptable', `${name} is too long`)
  }
  return values
}

/** A number is written in one way, so that it can be compared. */
function checkedMaxItems(text: string, itemsMax: number): string {
  if (text === 'max') return text
  const count = /^\d{1,9}$/.test(text) ? Number(text) : 0
  if (count < 1 || count > itemsMax) throw new StanzaError('not-acceptable', `max_items is 1 to ${itemsMax}, or max`)
  return String(count)
}

/** §8.1.2: an access model that we do not have has an error of its own. */
function demandAccessModel(form: Form): void {
  const wanted = value(form, 'pubsub#access_model')
  if (wanted !== undefined && wanted !== '' && !(ACCESS_MODELS as readonly string[]).includes(wanted))
    throw refusal('not-acceptable', 'unsupported-access-model')
}

function sameValues(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((text, at) => text === b[at])
}

/** The form of `<configure/>`, or of `<publish-options/>`; undefined where there is none, or an empty one. Throws bad-request. */
export function submittedForm(parent: Element | undefined, what: 'configure' | 'publish-options'): Form | undefined {
  const x = parent && childOf(parent, 'x', NS_DATA)
  if (x === undefined) return undefined
  const form = parseForm(x)
  const expected = what === 'configure' ? NODE_CONFIG : PUBLISH_OPTIONS
  if (form.type === 'submit' && formTypeOf(form) !== expected)
    throw new StanzaError('bad-request', `the form is not one of ${expected}`) // §7.1.5
  return form
}

/**
 * §7.1.5: the configuration of a new node that is made with these options. Each of them has to be known. One and the same
 * way: where the node is there, what this makes of its configuration must be what it is.
 */
export function withOptions(config: Config, options: Form, itemsMax: number): Config {
  for (const { var: name } of options.fields) {
    if (name === 'FORM_TYPE' || BY_NAME.has(name)) continue
    throw refusal('conflict', 'precondition-not-met', `${name} is not known here`)
  }
  const form = { ...options, fields: options.fields.filter(({ var: name }) => name !== 'FORM_TYPE') }
  return configured(config, form, itemsMax)
}

/** §7.1.5: throws conflict where one of them is not as they say. */
export function demandPreconditions(config: Config, options: Form, itemsMax: number): void {
  const wanted = withOptions(config, options, itemsMax)
  for (const { var: name } of options.fields) {
    const known = BY_NAME.get(name)
    if (known === undefined) continue
    if (known.var === 'pubsub#max_items' && maxItemsOf(wanted, itemsMax) === maxItemsOf(config, itemsMax)) continue
    if (!sameValues(valuesOf(wanted, known), valuesOf(config, known)))
      throw refusal('conflict', 'precondition-not-met', `${name} is ${valuesOf(config, known).join(', ')}`)
  }
}

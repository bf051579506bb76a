import { describe, expect, test } from 'vitest'
import {
  type Field,
  flag,
  formElement,
  formOf,
  formTypeOf,
  makeField,
  makeForm,
  parseForm,
  submitted,
  value,
  values,
} from './form.ts'
import { NS_DATA } from './ns.ts'
import { type Element, el } from './stanza.ts'

/** The bot of XEP-0004 §5.1. */
const offered = makeForm(
  'form',
  'jabber:bot',
  [
    makeField('fixed', '', { value: 'Section 1: Bot Info' }),
    makeField('text-single', 'botname', { label: 'The name of your bot', required: true }),
    makeField('text-multi', 'description', { label: 'Helpful description of your bot' }),
    makeField('boolean', 'public', { label: 'Public bot?' }),
    makeField('text-private', 'password', { label: 'Password for special access' }),
    makeField('list-multi', 'features', {
      options: [{ value: 'contests', label: 'Contests' }, { value: 'news' }, { value: 'search' }],
      values: ['news', 'search'],
    }),
    makeField('list-single', 'maxsubs', { value: '20', options: [{ value: '10' }, { value: '20' }, { value: 'none' }] }),
    makeField('jid-multi', 'invitelist', { desc: 'Tell all your friends about your new bot!' }),
    makeField('jid-single', 'owner'),
    makeField('hidden', 'token', { value: 'v3r0na' }),
    makeField('hidden', 'free'),
  ],
  { title: 'Bot Configuration', instructions: ['Fill out this form', 'to configure your new bot!'] },
)

function submission(fields: Record<string, readonly string[]>, formType = 'jabber:bot') {
  const elements = Object.entries(fields).map(([name, sent]) =>
    el('field', NS_DATA, { var: name }, ...sent.map((text) => el('value', NS_DATA, {}, text))),
  )
  const first = el('field', NS_DATA, { var: 'FORM_TYPE' }, el('value', NS_DATA, {}, formType))
  return parseForm(el('x', NS_DATA, { type: 'submit' }, first, ...elements))
}

function x(type: string | undefined, ...children: readonly Element[]): Element {
  return el('x', NS_DATA, { type }, ...children)
}

function refusal(act: () => unknown): string {
  try {
    act()
  } catch (error) {
    return (error as { condition?: string }).condition ?? String(error)
  }
  return 'none'
}

describe('XEP-0004 §3 reading and writing', () => {
  test('a form is written as in §5.1 and read back', () => {
    const element = formElement(offered)
    expect(element.attrs).toEqual({ type: 'form' })
    expect(element.children[0]).toEqual(el('title', NS_DATA, {}, 'Bot Configuration'))
    expect(element.children[3]).toEqual(
      el('field', NS_DATA, { var: 'FORM_TYPE', type: 'hidden' }, el('value', NS_DATA, {}, 'jabber:bot')),
    )
    expect(element.children[4]).toEqual(el('field', NS_DATA, { type: 'fixed' }, el('value', NS_DATA, {}, 'Section 1: Bot Info')))
    expect(formElement(parseForm(element))).toEqual(element)
  })

  test('a field has desc, required, values, options, then what is of other namespaces', () => {
    const field: Field = {
      var: 'v',
      type: 'list-single',
      label: 'L',
      desc: 'D',
      required: true,
      values: ['a'],
      options: [{ value: 'a', label: 'A' }, { value: 'b' }],
      extra: [el('validate', 'http://jabber.org/protocol/xdata-validate', { datatype: 'xs:string' })],
    }
    const element = formElement({ type: 'form', instructions: [], fields: [field] })
    expect(element.children[0]).toEqual(
      el(
        'field',
        NS_DATA,
        { var: 'v', type: 'list-single', label: 'L' },
        el('desc', NS_DATA, {}, 'D'),
        el('required', NS_DATA),
        el('value', NS_DATA, {}, 'a'),
        el('option', NS_DATA, { label: 'A' }, el('value', NS_DATA, {}, 'a')),
        el('option', NS_DATA, {}, el('value', NS_DATA, {}, 'b')),
        el('validate', 'http://jabber.org/protocol/xdata-validate', { datatype: 'xs:string' }),
      ),
    )
    expect(parseForm(element).fields[0]).toEqual(field)
  })

  test('§3.4 results have reported before the items', () => {
    const column = makeField('jid-single', 'jid', { label: 'JID' })
    const form = {
      type: 'result' as const,
      instructions: [],
      fields: [],
      reported: [column],
      items: [[{ var: 'jid', values: ['juliet@capulet.com'] }], [{ var: 'jid', values: [''] }]],
    }
    const element = formElement(form)
    expect(element.children.map((child) => (child as Element).name)).toEqual(['reported', 'item', 'item'])
    const back = parseForm(element)
    expect(back.reported?.map((field) => field.var)).toEqual(['jid'])
    expect(back.items?.map((item) => item[0]?.values)).toEqual([['juliet@capulet.com'], ['']])
    expect(parseForm(x('result')).items).toBeUndefined()
    expect(refusal(() => parseForm(x('result', el('reported', NS_DATA), el('reported', NS_DATA))))).toBe('bad-request')
  })

  test('§3.1 a form without one of the four types is bad-request', () => {
    for (const type of [undefined, '', 'error', 'FORM']) expect(refusal(() => parseForm(x(type)))).toBe('bad-request')
    expect(refusal(() => parseForm(el('x', 'jabber:x:oob', { type: 'form' })))).toBe('bad-request')
    expect(refusal(() => parseForm(el('y', NS_DATA, { type: 'form' })))).toBe('bad-request')
    expect(parseForm(x('cancel'))).toMatchObject({ type: 'cancel', fields: [] })
  })

  test('§3.2 a field that is not fixed must have a var, and each var is there once', () => {
    expect(refusal(() => parseForm(x('submit', el('field', NS_DATA))))).toBe('bad-request')
    expect(refusal(() => parseForm(x('submit', el('field', NS_DATA, { var: 'a' }), el('field', NS_DATA, { var: 'a' }))))).toBe(
      'bad-request',
    )
    expect(
      parseForm(x('form', el('field', NS_DATA, { type: 'fixed' }), el('field', NS_DATA, { type: 'fixed' }))).fields,
    ).toHaveLength(2)
  })

  test('§3.2 an option has one and only one value', () => {
    const withOption = (...children: Element[]) =>
      x('form', el('field', NS_DATA, { var: 'a', type: 'list-single' }, el('option', NS_DATA, {}, ...children)))
    expect(refusal(() => parseForm(withOption()))).toBe('bad-request')
    expect(refusal(() => parseForm(withOption(el('value', NS_DATA), el('value', NS_DATA))))).toBe('bad-request')
  })

  test('§3.3 a type that is not understood is text-single, and none is none', () => {
    const types = parseForm(
      x('form', el('field', NS_DATA, { var: 'a', type: 'colour' }), el('field', NS_DATA, { var: 'b' })),
    ).fields
    expect(types.map((field) => field.type)).toEqual(['text-single', undefined])
  })

  test('the form is found in its parent', () => {
    expect(formOf(el('query', 'q', {}, x('cancel')))?.type).toBe('cancel')
    expect(formOf(el('query', 'q'))).toBeUndefined()
  })

  test('values are read by name', () => {
    const form = submission({ botname: ['joogle'], features: ['news', 'search'], public: ['true'], odd: ['maybe'], empty: [] })
    expect(value(form, 'botname')).toBe('joogle')
    expect(value(form, 'nothing')).toBeUndefined()
    expect(values(form, 'features')).toEqual(['news', 'search'])
    expect(values(form, 'nothing')).toEqual([])
    expect(flag(form, 'public')).toBe(true)
    expect(flag(form, 'empty')).toBeUndefined()
    expect(refusal(() => flag(form, 'odd'))).toBe('not-acceptable')
  })

  test('a boolean is written "1" or "0"', () => {
    expect(makeField('boolean', 'a', { value: true }).values).toEqual(['1'])
    expect(makeField('boolean', 'a', { value: false }).values).toEqual(['0'])
    expect(makeField('boolean', 'a').values).toEqual([])
  })
})

describe('XEP-0068 FORM_TYPE', () => {
  const typed = (formType: 'form' | 'submit' | 'result', type: string | undefined) =>
    parseForm(x(formType, el('field', NS_DATA, { var: 'FORM_TYPE', type }, el('value', NS_DATA, {}, 'ns'))))

  test('§5 counts when it is hidden, and in a submission also without a type', () => {
    expect(formTypeOf(typed('form', 'hidden'))).toBe('ns')
    expect(formTypeOf(typed('submit', 'hidden'))).toBe('ns')
    expect(formTypeOf(typed('submit', undefined))).toBe('ns')
  })

  test('§4.3 is ignored when it is not hidden', () => {
    expect(formTypeOf(typed('form', 'text-single'))).toBe('')
    expect(formTypeOf(typed('result', undefined))).toBe('')
    expect(formTypeOf(parseForm(x('form')))).toBe('')
  })
})

describe('XEP-0004 §4 Data Validation', () => {
  test('what fits is given in one spelling', () => {
    const form = submission({
      botname: ['The Jabber Google Bot'],
      description: ['one', '', 'two'],
      public: ['false'],
      password: [' v3r0na '],
      features: ['news', 'search', 'news'],
      maxsubs: ['none'],
      invitelist: ['Juliet@Capulet.com', 'juliet@capulet.com', 'benvolio@montague.net'],
      token: ['v3r0na'],
      free: ['a', 'b'],
    })
    expect(Object.fromEntries(submitted(offered, form))).toEqual({
      botname: ['The Jabber Google Bot'],
      description: ['one', '', 'two'],
      public: ['0'],
      password: [' v3r0na '],
      features: ['news', 'search'],
      maxsubs: ['none'],
      invitelist: ['juliet@capulet.com', 'benvolio@montague.net'],
      token: ['v3r0na'],
      free: ['a', 'b'],
    })
  })

  test('§3.1 fields that were not offered are ignored', () => {
    expect([...submitted(offered, submission({ botname: ['x'], other: ['y'] })).keys()]).toEqual(['botname'])
  })

  test('§3.5 a field left out is not there; §3.6 one sent empty is there without a value', () => {
    const form = submission({ botname: ['x'], description: [''], public: [], maxsubs: [''], owner: [''] })
    expect(Object.fromEntries(submitted(offered, form))).toEqual({
      botname: ['x'],
      description: [],
      public: [],
      maxsubs: [],
      owner: [],
    })
  })

  test.each<[string, Record<string, readonly string[]>]>([
    ['a required field left out', {}],
    ['a required field without a value', { botname: [] }],
    ['a required field with an empty value', { botname: [''] }],
    ['two values of text-single', { botname: ['a', 'b'] }],
    ['two values of text-private', { botname: ['a'], password: ['a', 'b'] }],
    ['two values of a boolean', { botname: ['a'], public: ['1', '0'] }],
    ['no boolean', { botname: ['a'], public: ['yes'] }],
    ['a boolean in capitals', { botname: ['a'], public: ['TRUE'] }],
    ['none of the options of list-single', { botname: ['a'], maxsubs: ['1000'] }],
    ['two options of list-single', { botname: ['a'], maxsubs: ['10', '20'] }],
    ['none of the options of list-multi', { botname: ['a'], features: ['news', 'spying'] }],
    ['no JID', { botname: ['a'], owner: ['@'] }],
    ['two JIDs of jid-single', { botname: ['a'], owner: ['a@b', 'c@d'] }],
    ['no JID among several', { botname: ['a'], invitelist: ['a@b', 'c d@e'] }],
    ['a hidden field that was changed', { botname: ['a'], token: ['other'] }],
    ['a hidden field that was emptied', { botname: ['a'], token: [] }],
  ])('%s is not-acceptable', (_what, fields) => {
    expect(refusal(() => submitted(offered, submission(fields)))).toBe('not-acceptable')
  })

  test('the refusal names the field', () => {
    expect(() => submitted(offered, submission({}))).toThrow('botname is required')
  })

  test('a FORM_TYPE of something else is not-acceptable; one left out is forgiven', () => {
    expect(refusal(() => submitted(offered, submission({ botname: ['a'] }, 'jabber:cat')))).toBe('not-acceptable')
    const bare = parseForm(x('submit', el('field', NS_DATA, { var: 'botname' }, el('value', NS_DATA, {}, 'a'))))
    expect(submitted(offered, bare).get('botname')).toEqual(['a'])
  })

  test('a form that is not of type submit is bad-request', () => {
    expect(refusal(() => submitted(offered, parseForm(x('cancel'))))).toBe('bad-request')
    expect(refusal(() => submitted(offered, offered))).toBe('bad-request')
  })
})

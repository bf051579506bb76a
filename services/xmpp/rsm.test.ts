import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { NS_RSM } from './ns.ts'
import { type PageRequest, pageOf, pageRequestOf, parseSet, setElement } from './rsm.ts'
import { childOf, type Element, el, textOf } from './stanza.ts'

const NONE: PageRequest = { max: undefined, after: undefined, before: undefined, index: undefined }

function setOf(...children: readonly [name: string, text?: string][]): Element {
  return el(
    'set',
    NS_RSM,
    {},
    ...children.map(([name, text]) => (text === undefined ? el(name, NS_RSM) : el(name, NS_RSM, {}, text))),
  )
}

function refusal(act: () => unknown): string {
  try {
    act()
  } catch (error) {
    return (error as { condition?: string }).condition ?? String(error)
  }
  return 'none'
}

describe('XEP-0059 §2 what is asked for', () => {
  test('each element is read', () => {
    expect(parseSet(setOf(['max', '10'], ['after', 'peterpan@neverland.lit']))).toEqual({
      ...NONE,
      max: 10,
      after: 'peterpan@neverland.lit',
    })
    expect(parseSet(setOf(['max', '0']))).toEqual({ ...NONE, max: 0 })
    expect(parseSet(setOf(['max', ' 10\n'], ['index', '371']))).toEqual({ ...NONE, max: 10, index: 371 })
    expect(parseSet(setOf())).toEqual(NONE)
  })

  test('§2.5 an empty <before/> asks for the last page; an empty <after/> for the first', () => {
    expect(parseSet(setOf(['before'])).before).toBe('')
    expect(parseSet(setOf(['after'])).after).toBeUndefined()
  })

  test.each(['', 'ten', '-1', '1.5', '1e3', '0x10', '99999999999', '١'])('a <max/> of %j is bad-request', (text) => {
    expect(refusal(() => parseSet(setOf(['max', text])))).toBe('bad-request')
    expect(refusal(() => parseSet(setOf(['index', text])))).toBe('bad-request')
  })

  test('what stands twice, and an index beside a UID, is bad-request', () => {
    expect(refusal(() => parseSet(setOf(['max', '1'], ['max', '2'])))).toBe('bad-request')
    expect(refusal(() => parseSet(setOf(['after', 'a'], ['after', 'b'])))).toBe('bad-request')
    expect(refusal(() => parseSet(setOf(['after', 'a'], ['index', '1'])))).toBe('bad-request')
    expect(refusal(() => parseSet(setOf(['before'], ['index', '1'])))).toBe('bad-request')
    expect(refusal(() => pageRequestOf(el('query', 'x', {}, setOf(), setOf())))).toBe('bad-request')
    expect(refusal(() => parseSet(el('set', 'x')))).toBe('bad-request')
  })

  test('the request is found in its parent, and only there', () => {
    expect(pageRequestOf(el('query', 'x', {}, setOf(['max', '3'])))).toEqual({ ...NONE, max: 3 })
    expect(pageRequestOf(el('query', 'x', {}, el('set', 'x')))).toBeUndefined()
  })
})

describe('XEP-0059 §2.2 what is answered', () => {
  test('first with its index, last, count', () => {
    expect(setElement({ first: 'a', last: 'b', index: 10, count: 800 })).toEqual(
      el(
        'set',
        NS_RSM,
        {},
        el('first', NS_RSM, { index: '10' }, 'a'),
        el('last', NS_RSM, {}, 'b'),
        el('count', NS_RSM, {}, '800'),
      ),
    )
    expect(setElement({ first: 'a', last: 'a' })).toEqual(
      el('set', NS_RSM, {}, el('first', NS_RSM, {}, 'a'), el('last', NS_RSM, {}, 'a')),
    )
  })

  test('an empty page has no <first/> and <last/>', () => {
    expect(setElement({ count: 790 })).toEqual(el('set', NS_RSM, {}, el('count', NS_RSM, {}, '790')))
  })
})

describe('pageOf', () => {
  const letters = [...'abcdefghij']
  const self = (item: string) => item
  const options = { pageMax: 4 }

  function page(request: Partial<PageRequest>, from: readonly string[] = letters, sorted = false) {
    const { items, set, complete } = pageOf(from, self, { ...NONE, ...request }, { ...options, sorted })
    const first = set && childOf(set, 'first', NS_RSM)
    const count = set && childOf(set, 'count', NS_RSM)
    return { items: items.join(''), index: first?.attrs.index, count: count && textOf(count), complete }
  }

  test('§2.1 the first items, at most as many as asked for and as are allowed', () => {
    expect(page({ max: 3 })).toEqual({ items: 'abc', index: '0', count: '10', complete: false })
    expect(page({ max: 100 })).toEqual({ items: 'abcd', index: '0', count: '10', complete: false })
    expect(page({})).toEqual({ items: 'abcd', index: '0', count: '10', complete: false })
  })

  test('§2.2 forwards: the item that follows the one named is the first', () => {
    expect(page({ max: 3, after: 'c' })).toEqual({ items: 'def', index: '3', count: '10', complete: false })
    expect(page({ max: 3, after: 'g' })).toEqual({ items: 'hij', index: '7', count: '10', complete: true })
    expect(page({ max: 3, after: 'j' })).toEqual({ items: '', index: undefined, count: '10', complete: true })
  })

  test('§2.3 backwards: the item that precedes the one named is the last', () => {
    expect(page({ max: 3, before: 'h' })).toEqual({ items: 'efg', index: '4', count: '10', complete: false })
    expect(page({ max: 3, before: 'c' })).toEqual({ items: 'ab', index: '0', count: '10', complete: true })
    expect(page({ max: 3, before: 'a' })).toEqual({ items: '', index: undefined, count: '10', complete: true })
  })

  test('§2.4 a UID that is unknown is item-not-found, unless the order of the list tells its place', () => {
    expect(refusal(() => page({ after: 'dd' }))).toBe('item-not-found')
    expect(refusal(() => page({ before: 'dd' }))).toBe('item-not-found')
    expect(page({ max: 2, after: 'dd' }, letters, true).items).toBe('ef')
    expect(page({ max: 2, after: 'd' }, letters, true).items).toBe('ef')
    expect(page({ max: 2, before: 'dd' }, letters, true).items).toBe('cd')
    expect(page({ max: 2, after: 'zz' }, letters, true).items).toBe('')
    expect(page({ max: 2, before: 'zz' }, letters, true).items).toBe('ij')
  })

  test('§2.5 the last page', () => {
    expect(page({ max: 3, before: '' })).toEqual({ items: 'hij', index: '7', count: '10', complete: false })
  })

  test('§2.6 by index; one beyond the end gives an empty page', () => {
    expect(page({ max: 3, index: 4 })).toEqual({ items: 'efg', index: '4', count: '10', complete: false })
    expect(page({ max: 3, index: 10 })).toEqual({ items: '', index: undefined, count: '10', complete: true })
    expect(page({ max: 3, index: 4_000_000_000 }).items).toBe('')
  })

  test('§2.7 a maximum of 0 gets the count alone', () => {
    expect(page({ max: 0 })).toEqual({ items: '', index: undefined, count: '10', complete: false })
    expect(page({ max: 0, before: '' })).toEqual({ items: '', index: undefined, count: '10', complete: false })
  })

  test('between two UIDs; crossed ones give an empty page', () => {
    expect(page({ max: 4, after: 'b', before: 'f' })).toEqual({ items: 'cde', index: '2', count: '10', complete: true })
    expect(page({ max: 4, after: 'f', before: 'b' }).items).toBe('')
  })

  test('an empty whole has no set, and no request gets the whole', () => {
    expect(pageOf([], self, NONE, options)).toEqual({ items: [], set: undefined, complete: true })
    expect(pageOf(letters, self, undefined, options)).toEqual({ items: letters, set: undefined, complete: true })
  })

  test('paging through gives each item once, in order, forwards and backwards', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 9 }), (size, max) => {
        const whole = Array.from({ length: size }, (_, i) => `u${i}`)
        const forwards: string[] = []
        for (let after: string | undefined; ; after = forwards.at(-1)) {
          const { items, complete } = pageOf(whole, self, { ...NONE, max, after }, { pageMax: 100 })
          forwards.push(...items)
          if (complete) break
        }
        expect(forwards).toEqual(whole)
        const backwards: string[] = []
        for (let before = ''; ; before = backwards[0]!) {
          const { items, complete } = pageOf(whole, self, { ...NONE, max, before }, { pageMax: 100 })
          backwards.unshift(...items)
          if (complete) break
        }
        expect(backwards).toEqual(whole)
      }),
    )
  })
})

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { StanzaError } from '#xmpp/error.ts'
import { prepareLocal } from '#xmpp/jid.ts'
import { nameOf, RESERVED, reservedNames } from './registration-names.ts'

const reserved = reservedNames(RESERVED)

/** The prepared name, or the condition it is refused with. */
function taken(username: string, bytesMax = 64): string {
  try {
    return nameOf(username, reserved, bytesMax)
  } catch (error) {
    if (error instanceof StanzaError) return `refused: ${error.condition}`
    throw error
  }
}

const UNUSABLE = 'refused: not-acceptable'
const RESERVED_NAME = 'refused: conflict'

test.each([
  'bill',
  'Bill',
  'b.i.l.l',
  'bill-gates_3',
  '007',
  'x',
  'müller',
  'josé',
  'nguyễn',
  'łukasz',
  'øystein',
  'straße',
  'иван',
  'ольга',
  'қайрат',
  'γιώργος',
  'δήμητρα',
  '田中',
  'たなか',
  'タナカ',
  '田中さん',
  '김철수',
  '王小明',
  'محمد',
  'דוד',
  'राम',
  'สมชาย',
  'արամ',
  'გიორგი',
  'இரா',
])('%s can be taken', (name) => {
  expect(taken(name)).toBe(prepareLocal(name))
})

describe('names that a program could take for something else', () => {
  test.each([
    '.',
    '..',
    '.bill',
    'bill.',
    'bi..ll',
    '-rf',
    '--help',
    '~bill',
    'c\\bill',
    'bill/etc',
    'bill:',
    'bill@home',
    'bi ll',
    'bill\n',
    '$(bill)',
    '`bill`',
    'bill;',
    'bill|',
    'bill*',
    'bill?',
    'bill%00',
    'bill+spam',
    '=bill',
    '{bill}',
    'bill\u0000',
    '',
  ])('%j', (name) => {
    expect(taken(name)).toBe(UNUSABLE)
  })

  test('and one that is too long', () => {
    expect(taken('ü'.repeat(32))).toBe('ü'.repeat(32))
    expect(taken(`${'ü'.repeat(32)}x`)).toBe(UNUSABLE)
  })
})

describe('UTS 39: names that people could take for another', () => {
  test.each([
    ['a Cyrillic a among Latin', 'аlice'],
    ['a Greek o among Latin', 'bοb'],
    ['Latin among Cyrillic', 'ивaн'],
    ['Latin before Arabic', 'aمحمد'],
    ['Cyrillic and Greek', 'γрис'],
    ['Latin and Han', 'bob田'],
    ['Hiragana and Hangul', 'た김'],
    ['wholly Cyrillic, wholly like Latin', 'рора'],
    ['the same with digits', 'соса-007'],
    ['wholly Greek, wholly like Latin', 'νονα'],
    ['wholly Armenian, wholly like Latin', 'օսո'],
    ['palochka for l', 'ӏ'],
    ['dotless i', 'bıll'],
    ['the click l', 'biǀǀ'],
    ['letters of phonetics', 'ɑlice'],
    ['a script that nobody writes every day', 'ꓐꓲꓡꓡ'],
    ['Cherokee', 'ꭰꮃꭶ'],
    ['digits of another script', 'bill٣'],
    ['a zero-width joiner', 'bi\u200dll'],
    ['a zero-width space', 'bi\u200bll'],
    ['a direction override', 'bill\u202etxt'],
    ['a soft hyphen', 'bi\u00adll'],
    ['a mark upon a letter that has none', 'b\u0336ill'],
    ['marks upon marks', 'สมช\u0e48\u0e48าย'],
    ['a symbol', 'bill☺'],
  ])('%s', (_what, name) => {
    expect(taken(name)).toBe(UNUSABLE)
  })

  test('full-width letters are their common ones before anything is compared', () => {
    expect(taken('ｂｉｌｌ')).toBe('bill')
    expect(taken('ｒｏｏｔ')).toBe(RESERVED_NAME)
  })
})

test.each([...RESERVED])('RFC 2142 and habit: %s is reserved', (name) => {
  expect(taken(name)).toBe(RESERVED_NAME)
})

test.each([
  'Admin',
  'adm1n',
  'ADMlN',
  'a.d.m.i.n',
  'admin-',
  'adrnin',
  'ádmin',
  'ạdmin',
  'p0stmaster',
  'r00t',
  'no_reply',
  'suppor7',
  '5upp0rt',
  'vvebmaster',
  'тeam',
])('%s looks like one that is', (name) => {
  expect(taken(name)).toMatch(/^refused/)
})

test('whatever is taken is prepared, of harmless characters, and the same when it is asked for again', () => {
  const letter = fc.constantFrom(...'abzäëñ.-_0129абвіёαβωめ田김مדא\u0301\u200d\u202e /\\@~')
  const name = fc.oneof(fc.string({ unit: letter, minLength: 1, maxLength: 12 }), fc.string({ unit: 'grapheme', maxLength: 12 }))
  let accepted = 0
  fc.assert(
    fc.property(name, (text) => {
      const local = taken(text)
      if (local.startsWith('refused: ')) return
      accepted++
      expect(local).toMatch(/^[\p{L}0-9_](?:[\p{L}\p{M}0-9._-]*[\p{L}\p{M}0-9_-])?$/u)
      expect(local).not.toMatch(/\.\.|[\p{Cc}\p{Cf}\p{Zs}]/u)
      expect(taken(local)).toBe(local)
    }),
    { numRuns: 3_000 },
  )
  expect(accepted).toBeGreaterThan(50)
})

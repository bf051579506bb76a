import { describe, expect, test } from 'vitest'
import {
  followsBidiRule,
  opaqueString,
  PrecisError,
  requireFreeform,
  requireIdentifier,
  requireLabel,
  usernameCaseMapped,
} from './precis.ts'
import { TABLES_UNICODE } from './unicode.ts'

test('the tables are of the Unicode version that Node has', () => {
  expect(process.versions.unicode).toBe(TABLES_UNICODE)
})

describe('RFC 8265 §3.5 Examples of usernames', () => {
  test.each([
    ['juliet@example.com', 'juliet@example.com'],
    ['fussball', 'fussball'],
    ['fu\u00DFball', 'fu\u00DFball'],
    ['\u03C0', '\u03C0'],
    ['\u03A3', '\u03C3'],
    ['\u03C3', '\u03C3'],
    ['\u03C2', '\u03C2'],
  ])('%s is valid and becomes %s', (text, mapped) => {
    expect(usernameCaseMapped(text)).toBe(mapped)
  })

  test.each([
    ['foo bar', 'a space'],
    ['', 'an empty string'],
    ['henry\u2163', 'ROMAN NUMERAL FOUR'],
    ['\u221E', 'INFINITY'],
  ])('%s is not: %s', (text) => {
    expect(() => usernameCaseMapped(text)).toThrow(PrecisError)
  })
})

describe('RFC 8265 §4.3 Examples of passwords', () => {
  test.each([
    ['correct horse battery staple', 'correct horse battery staple'],
    ['Correct Horse Battery Staple', 'Correct Horse Battery Staple'],
    ['\u03C0\u00DF\u00E5', '\u03C0\u00DF\u00E5'],
    ['Jack of \u2666s', 'Jack of \u2666s'],
    ['foo\u1680bar', 'foo bar'],
  ])('%s is valid and becomes %s', (text, mapped) => {
    expect(opaqueString(text)).toBe(mapped)
  })

  test.each([
    ['', 'an empty string'],
    ['my cat is a \u0009by', 'a control character'],
  ])('%s is not: %s', (text) => {
    expect(() => opaqueString(text)).toThrow(PrecisError)
  })
})

describe('RFC 8264 §8 the derived property', () => {
  test.each([
    ['Exceptions, PVALID', '\u00DF\u03C2\u06FD\u06FE\u0F0B\u3007', true, true],
    ['Exceptions, DISALLOWED', '\u0640\u07FA\u302E\u302F\u3031\u3035\u303B', false, false],
    ['Unassigned', '\u0378\u{2FFE0}', false, false],
    ['noncharacters', '\uFDD0\uFFFE\u{10FFFF}', false, false],
    ['ASCII7', '!~"&AZaz09', true, true],
    ['OldHangulJamo', '\u1100\u11FF\uA960\uD7B0\uD7FB', false, false],
    ['PrecisIgnorableProperties', '\u00AD\u034F\u115F\u200B\u2060\u3164\uFE0F\uFEFF\u{E0001}', false, false],
    ['Controls', '\u0000\u001F\u007F\u0085', false, false],
    ['HasCompat', '\u017F\u212A\u2163\u2126\uFB01\uFF21\u0958\u00AA', false, true],
    ['LetterDigits', '\u00E9\u0416\u4E00\u0967\u0301\u0903\u02BC', true, true],
    ['OtherLetterDigits', '\u1F88\u16EE\u00B2\u0488', false, true],
    ['Spaces', ' \u00A0\u3000', false, true],
    ['Symbols', '\u221E\u20AC\u02C2\u2603\u{1F600}', false, true],
    ['Punctuation', '\u203F\u2013\u00AB\u00BB\u00A1\u3008', false, true],
    ['private use and surrogates', '\uE000\uD800', false, false],
    ['format characters and line separators', '\u0600\u2028\u2029\uFFF9', false, false],
  ])('%s', (_name, chars, identifier, freeform) => {
    for (const char of chars) {
      const name = `U+${char.codePointAt(0)!.toString(16)}`
      expect(
        passes(() => requireIdentifier(char)),
        name,
      ).toBe(identifier)
      expect(
        passes(() => requireFreeform(char)),
        name,
      ).toBe(freeform)
    }
  })
})

describe('RFC 5892 appendix A, the contextual rules', () => {
  test.each([
    ['A.1 ZERO WIDTH NON-JOINER', '\u0915\u094D\u200C\u0937', 'after a virama', true],
    ['A.1 ZERO WIDTH NON-JOINER', '\u0646\u0627\u0645\u0647\u200C\u0627\u06CC', 'between joining letters', true],
    ['A.1 ZERO WIDTH NON-JOINER', '\u0628\u064E\u200C\u064E\u0628', 'between joining letters with marks', true],
    ['A.1 ZERO WIDTH NON-JOINER', '\u0627\u200C\u0628', 'after a letter that joins to the right only', false],
    ['A.1 ZERO WIDTH NON-JOINER', '\u0628\u200C', 'at the end', false],
    ['A.1 ZERO WIDTH NON-JOINER', 'a\u200Cb', 'between letters that do not join', false],
    ['A.1 ZERO WIDTH NON-JOINER', '\u05D1\u05B0\u200C', 'after a mark of class 10', false],
    ['A.1 ZERO WIDTH NON-JOINER', '\u304B\u3099\u200C', 'after a mark of class 8', false],
    ['A.2 ZERO WIDTH JOINER', '\u0DC1\u0DCA\u200D\u0DBB', 'after a virama', true],
    ['A.2 ZERO WIDTH JOINER', '\u{11013}\u{11046}\u200D', 'after a virama beyond U+FFFF', true],
    ['A.2 ZERO WIDTH JOINER', '\u0628\u200D\u0628', 'between joining letters', false],
    ['A.2 ZERO WIDTH JOINER', '\u200D', 'alone', false],
    ['A.3 MIDDLE DOT', 'col\u00B7lega', 'between two l', true],
    ['A.3 MIDDLE DOT', 'col\u00B7', 'at the end', false],
    ['A.3 MIDDLE DOT', '\u00B7l', 'at the start', false],
    ['A.4 KERAIA', '\u0375\u03B1', 'before a Greek letter', true],
    ['A.4 KERAIA', '\u0375a', 'before another', false],
    ['A.5 GERESH', '\u05D0\u05F3', 'after a Hebrew letter', true],
    ['A.5 GERESH', '\u05F3\u05D0', 'before it', false],
    ['A.6 GERSHAYIM', '\u05D0\u05F4\u05D0', 'after a Hebrew letter', true],
    ['A.6 GERSHAYIM', 'a\u05F4', 'after another', false],
    ['A.7 KATAKANA MIDDLE DOT', '\u30FB\u30AB', 'with Katakana', true],
    ['A.7 KATAKANA MIDDLE DOT', 'a\u30FB\u4E00', 'with Han', true],
    ['A.7 KATAKANA MIDDLE DOT', 'a\u30FBb', 'without', false],
    ['A.8 ARABIC-INDIC DIGITS', '\u0627\u0660\u0669', 'of one set', true],
    ['A.8 ARABIC-INDIC DIGITS', '\u0627\u0660\u06F9', 'of two sets', false],
    ['A.9 EXTENDED ARABIC-INDIC DIGITS', '\u0627\u06F0\u06F9', 'of one set', true],
  ])('%s: %s %s', (_rule, text, _where, allowed) => {
    expect(passes(() => requireIdentifier(text))).toBe(allowed)
    expect(passes(() => requireFreeform(text))).toBe(allowed)
    expect(passes(() => requireLabel(text))).toBe(allowed)
  })
})

describe('RFC 5893 §2 the Bidi Rule', () => {
  test.each([
    ['abc1', 'no right-to-left character', true],
    ['1abc', 'no right-to-left character', true],
    ['\u05D0\u05D1', 'right to left', true],
    ['\u05D0\u05B0', '3: ends in a mark', true],
    ['\u05D0-1', '2 and 3: a neutral, and a European number at the end', true],
    ['\u0627\u0661', '3: an Arabic number at the end', true],
    ['1\u05D0', '1: begins with a number', false],
    ['\u05B0\u05D0', '1: begins with a mark', false],
    ['\u05D0a\u05D0', '2: a left-to-right letter in between', false],
    ['\u05D0-', '3: ends in a neutral', false],
    ['\u0627\u06611', '4: both kinds of number', false],
    ['a\u05D0a', '5: a right-to-left letter in a left-to-right label', false],
    ['a\u0661', '5: an Arabic number in a left-to-right label', false],
    ['\u0661', '1: an Arabic number alone', false],
  ])('%s: %s', (text, _why, follows) => {
    expect(followsBidiRule(text)).toBe(follows)
  })

  test('a user name that mixes directions is refused (RFC 8265 §3.3.2)', () => {
    expect(() => usernameCaseMapped('a\u05D0')).toThrow(PrecisError)
    expect(opaqueString('a\u05D0')).toBe('a\u05D0')
  })
})

test('the rules that ask for neighbours walk a string once: 200 000 characters within the time of a test', () => {
  expect(passes(() => requireIdentifier('\u0628\u064E\u200C\u064E'.repeat(50_000)))).toBe(false) // the last one is out of place
  expect(passes(() => requireIdentifier('\u0660'.repeat(200_000)))).toBe(true)
  expect(passes(() => requireIdentifier(`${'\u30FB'.repeat(200_000)}\u30AB`))).toBe(true)
  expect(followsBidiRule(`${'\u0628\u064E'.repeat(100_000)}a`)).toBe(false)
})

function passes(act: () => void): boolean {
  try {
    act()
    return true
  } catch (error) {
    if (error instanceof PrecisError) return false
    throw error
  }
}

// PRECIS (RFC 8264): which strings may be a user name, a nickname or a password, and when two are the same.
//
// The classes are derived, not listed: RFC 8264 §8 computes the property of a code point from Unicode's own
// properties, so two regular expressions and a normal form say it. A new Unicode version comes with a new Node; the
// version in force is `process.versions.unicode`. So an account made with a letter that is new in it is unknown
// to an older Node: upgrade all processes of a cluster to one version of Node.
//
// The derivation is read where the string is whole: first what stands in no class (one test of the string), then what
// has a compatibility equivalent (one normalisation), then the rules that ask for neighbours.
import {
  HAS_ARABIC_NUMBER,
  HAS_EUROPEAN_NUMBER,
  HAS_RTL,
  JOINS_NEXT,
  JOINS_PREVIOUS,
  LTR_LABEL,
  RTL_LABEL,
  TRANSPARENT,
} from './unicode.ts'

/** The string is not of the class or profile; the message names the code point and says why. */
export class PrecisError extends Error {
  override name = 'PrecisError'
}

/**
 * The UsernameCaseMapped profile of the IdentifierClass (RFC 8265 §3.3): the form in which user names are kept
 * and compared. Throws PrecisError. Idempotent.
 */
export function usernameCaseMapped(text: string): string {
  const wide = mapWidth(text) // §3.3.1 (1), before the class is checked: HasCompat would refuse it
  requireIdentifier(wide) // §3.3.1 (2)
  const mapped = wide.toLowerCase().normalize('NFC') // §3.3.2 (3) and (4)
  requireIdentifier(mapped)
  if (!followsBidiRule(mapped)) throw new PrecisError('the order of left-to-right and right-to-left characters is ambiguous')
  if (mapped === '') throw new PrecisError('it is empty')
  return mapped
}

/** The OpaqueString profile of the FreeformClass (RFC 8265 §4.2): passwords, and resources. Throws PrecisError. Idempotent. */
export function opaqueString(text: string): string {
  requireFreeform(text) // §4.2.1
  const mapped = text.replace(SPACES, ' ').normalize('NFC') // §4.2.2 (2) and (4)
  requireFreeform(mapped)
  if (mapped === '') throw new PrecisError('it is empty')
  return mapped
}

/** Fullwidth and halfwidth code points become what they are in their ordinary width (RFC 8264 §5.2.1). */
export function mapWidth(text: string): string {
  return text.replace(WIDE, (wide) => wide.normalize('NFKC'))
}

/** Throws PrecisError unless each code point is PVALID, or CONTEXTJ/CONTEXTO in its context, in the IdentifierClass (RFC 8264 §4.2). */
export function requireIdentifier(text: string): void {
  if (!IDENTIFIER.test(text)) throw new PrecisError(`${firstOutside(text, IDENTIFIER)} is not allowed`)
  if (text.normalize('NFKC') !== text) {
    for (const char of text) {
      if (char.normalize('NFKC') !== char) throw new PrecisError(`${named(char)} has a compatibility equivalent`) // §9.17
    }
  }
  requireContext(text)
}

/** Throws PrecisError unless each code point is allowed in the FreeformClass (RFC 8264 §4.3). */
export function requireFreeform(text: string): void {
  if (!FREEFORM.test(text)) throw new PrecisError(`${firstOutside(text, FREEFORM)} is not allowed`)
  requireContext(text)
}

/**
 * Throws PrecisError unless the label, which has code points outside ASCII, is a U-label but for the Bidi Rule, which
 * asks for the whole name (RFC 5891 §4.2.3, RFC 5892 §3).
 */
export function requireLabel(label: string): void {
  if (!IDNA.test(label)) throw new PrecisError(`${firstOutside(label, IDNA)} is not allowed`)
  if (label.normalize('NFC') !== label) throw new PrecisError('it is not in Normalization Form C')
  if (label.startsWith('-') || label.endsWith('-')) throw new PrecisError('a label may not begin or end with a hyphen')
  if (label.startsWith('--', 2)) throw new PrecisError('a label may not have hyphens in the third and fourth places')
  if (/^\p{M}/u.test(label)) throw new PrecisError('a label may not begin with a combining mark')
  requireContext(label)
}

/** RFC 5893 §2, for one label. True where nothing in it is written from right to left. */
export function followsBidiRule(label: string): boolean {
  return !HAS_RTL.test(label) || followsBidiRuleAsLabel(label)
}

/** RFC 5893 §2: a name with one right-to-left label is a "Bidi domain name", and all of its labels must follow the rule. */
export function nameFollowsBidiRule(labels: readonly string[]): boolean {
  return !labels.some((label) => HAS_RTL.test(label)) || labels.every(followsBidiRuleAsLabel)
}

function followsBidiRuleAsLabel(label: string): boolean {
  if (LTR_LABEL.test(label)) return true
  return RTL_LABEL.test(label) && !(HAS_ARABIC_NUMBER.test(label) && HAS_EUROPEAN_NUMBER.test(label))
}

/** The CONTEXTJ and CONTEXTO rules (RFC 5892 appendix A): code points that are right only beside certain others. Linear. */
function requireContext(text: string): void {
  if (!CONTEXTUAL.test(text)) return
  if (ARABIC_INDIC.test(text) && EXTENDED_ARABIC_INDIC.test(text)) throw new PrecisError('two sets of Arabic digits are mixed') // A.8, A.9
  if (text.includes(KATAKANA_DOT) && !KANA_OR_HAN.test(text))
    throw new PrecisError(`${named(KATAKANA_DOT)} is out of its context`) // A.7
  const chars = [...text]
  for (let i = 0; i < chars.length; i++) {
    if (!fitsContext(chars, i)) throw new PrecisError(`${named(chars[i]!)} is out of its context`)
  }
}

function fitsContext(chars: readonly string[], at: number): boolean {
  const before = chars[at - 1] ?? ''
  const after = chars[at + 1] ?? ''
  switch (chars[at]) {
    case '\u200C': // A.1 ZERO WIDTH NON-JOINER
      return isVirama(before) || standsBetweenJoining(chars, at)
    case '\u200D': // A.2 ZERO WIDTH JOINER
      return isVirama(before)
    case '\u00B7': // A.3 MIDDLE DOT
      return before === 'l' && after === 'l'
    case '\u0375': // A.4 GREEK LOWER NUMERAL SIGN (KERAIA)
      return GREEK.test(after)
    case '\u05F3': // A.5 HEBREW PUNCTUATION GERESH
    case '\u05F4': // A.6 HEBREW PUNCTUATION GERSHAYIM
      return HEBREW.test(before)
    default:
      return true
  }
}

/** RFC 5892 A.1: `(Joining_Type:{L,D})(Joining_Type:T)*` before, `(Joining_Type:T)*(Joining_Type:{R,D})` after. */
function standsBetweenJoining(chars: readonly string[], at: number): boolean {
  let left = at - 1
  while (left >= 0 && TRANSPARENT.test(chars[left]!)) left--
  let right = at + 1
  while (right < chars.length && TRANSPARENT.test(chars[right]!)) right++
  return JOINS_NEXT.test(chars[left] ?? '') && JOINS_PREVIOUS.test(chars[right] ?? '')
}

/**
 * Canonical_Combining_Class 9, read off what normalisation does, which sorts marks by class: a virama goes behind a mark
 * of class 8, and before the one mark of class 10.
 */
function isVirama(char: string): boolean {
  if (!MARK.test(char) || char === CLASS_8 || char === CLASS_10) return false
  return (char + CLASS_8).normalize('NFD') === CLASS_8 + char && (CLASS_10 + char).normalize('NFD') === char + CLASS_10
}

function firstOutside(text: string, pattern: RegExp): string {
  for (const char of text) if (!pattern.test(char)) return named(char)
  return 'it' // not reached: each pattern allows any sequence of what it allows
}

function named(char: string): string {
  return `U+${char.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0')}`
}

/** General categories of RFC 8264 §9.1, LetterDigits. */
const LETTER_DIGITS = '[[\\p{L}\\p{Mn}\\p{Mc}\\p{Nd}]--\\p{Lt}]'
/** RFC 5892 §2.6 (RFC 8264 §9.6): PVALID whatever their category says. Those that are letters need no mention but for IDNA. */
const EXCEPTIONS_VALID = '\\u00DF\\u03C2\\u06FD\\u06FE\\u0F0B\\u3007'
const EXCEPTIONS_DISALLOWED = '\\u0640\\u07FA\\u302E\\u302F\\u3031-\\u3035\\u303B'
const CONTEXT = '\\u00B7\\u0375\\u05F3\\u05F4\\u30FB\\u0660-\\u0669\\u06F0-\\u06F9\\u200C\\u200D'
/** RFC 8264 §9.9: Hangul_Syllable_Type L, V or T. */
const OLD_HANGUL_JAMO = '\\u1100-\\u11FF\\uA960-\\uA97C\\uD7B0-\\uD7C6\\uD7CB-\\uD7FB'
/** RFC 8264 §9.13; noncharacters are in no category that is allowed. */
const IGNORABLE = '\\p{Default_Ignorable_Code_Point}'
const NEVER = `[${OLD_HANGUL_JAMO}${EXCEPTIONS_DISALLOWED}${IGNORABLE}]`
/** RFC 5892 §2.4: three blocks that IDNA leaves out. */
const IGNORABLE_BLOCKS = '\\u20D0-\\u20FF\\u{1D100}-\\u{1D1FF}\\u{1D200}-\\u{1D24F}'

const IDENTIFIER = new RegExp(`^[[[${LETTER_DIGITS}\\x21-\\x7E]--${NEVER}]${EXCEPTIONS_VALID}${CONTEXT}]*$`, 'v')
/** LetterDigits, OtherLetterDigits, Spaces, Symbols and Punctuation (RFC 8264 §4.3.1); HasCompat adds nothing to these. */
const FREEFORM = new RegExp(`^[[[\\p{L}\\p{M}\\p{N}\\p{S}\\p{P}\\p{Zs}]--${NEVER}]${CONTEXT}]*$`, 'v')
/** RFC 5892 §3; `Unstable` is what NFKC_Casefold changes. ASCII is letters, digits and hyphen. */
const IDNA = new RegExp(
  `^[[[[${LETTER_DIGITS}--[\\x00-\\x7F]]--[${NEVER}${IGNORABLE_BLOCKS}\\p{Changes_When_NFKC_Casefolded}]]${EXCEPTIONS_VALID}${CONTEXT}]a-z0-9\\-]+$`,
  'v',
)
const CONTEXTUAL = new RegExp(`[${CONTEXT}]`, 'u')
const KATAKANA_DOT = '\u30FB'
const KANA_OR_HAN = /[\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Han}]/u
const ARABIC_INDIC = /[\u0660-\u0669]/
const EXTENDED_ARABIC_INDIC = /[\u06F0-\u06F9]/
const GREEK = /^\p{Script=Greek}$/u
const HEBREW = /^\p{Script=Hebrew}$/u
const CLASS_8 = '\u3099' // COMBINING KATAKANA-HIRAGANA VOICED SOUND MARK
const CLASS_10 = '\u05B0' // HEBREW POINT SHEVA
const MARK = /^\p{M}$/u
/** Decomposition_Type Wide or Narrow: IDEOGRAPHIC SPACE, and the block Halfwidth and Fullwidth Forms. */
const WIDE = /[\u3000\uFF01-\uFFEE]/g
/** RFC 8265 §4.2.2 (2): any other space becomes U+0020. */
const SPACES = /[\p{Zs}--\x20]/gv

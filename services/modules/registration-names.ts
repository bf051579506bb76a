// Which names strangers may take (XEP-0077): those that nobody can take for another name, nor a program for a path.
//
// A name is of letters of one script, digits, dots, dashes and underscores. Of one script, so that no letter of another
// stands among them that looks the same (UTS 39 §5.1, §5.2; what Japanese, Chinese and Korean mix counts as one script);
// and a name of another script is refused if all its letters have Latin look-alikes (UTS 39 §4, whole-script confusables):
// then no name of one script looks like one of another, whichever exist already. Within Latin, `bill` and `bi11` are two
// names; only those that are reserved are compared by what they look like. Administrators may give any name there is.
import { StanzaError } from '#xmpp/error.ts'
import { prepareLocal } from '#xmpp/jid.ts'

/** Names by which users would expect the people who run the server (RFC 2142, and habit). */
export const RESERVED: readonly string[] = [
  ...['abuse', 'hostmaster', 'info', 'marketing', 'news', 'noc', 'postmaster', 'sales', 'security', 'support', 'usenet', 'uucp'],
  ...[
    'webmaster',
    'www',
    'ftp',
    'admin',
    'administrator',
    'billing',
    'bot',
    'contact',
    'help',
    'helpdesk',
    'jabber',
    'mailer-daemon',
  ],
  ...[
    'moderator',
    'no-reply',
    'nobody',
    'noreply',
    'official',
    'operator',
    'owner',
    'root',
    'server',
    'service',
    'staff',
    'sysadmin',
  ],
  ...['system', 'team', 'xmpp'],
]

/** The names of a reserved list, as they look. */
export function reservedNames(names: readonly string[]): ReadonlySet<string> {
  return new Set(names.map(skeleton))
}

/**
 * The localpart of a name that a stranger has chosen, prepared. Throws StanzaError: not-acceptable for one that nobody may
 * have, conflict for one that is reserved, or looks like it.
 */
export function nameOf(username: string, reserved: ReadonlySet<string>, bytesMax: number): string {
  let local: string
  try {
    local = prepareLocal(username)
  } catch (error) {
    throw unusable((error as Error).message)
  }
  if (Buffer.byteLength(local) > bytesMax) throw unusable(`it is over ${bytesMax} bytes`)
  if (!/^[\p{L}\p{M}0-9._-]+$/u.test(local)) throw unusable('only letters, digits, dots, dashes and underscores')
  if (/^[.-]|\.$|\.\./.test(local)) throw unusable('it looks like the path of a file, or like an option')
  if (/(\p{Mn})\1|\p{Mn}{4}/u.test(local)) throw unusable('it has marks upon marks') // UTS 39 §5.4
  const letters = local.replace(/[0-9._-]/g, '')
  if (letters !== '' && !SCRIPTS.some((script) => script.test(letters)))
    throw unusable('its letters are of more than one script, or of one that is not in everyday use')
  if (letters !== '' && /[^a-z]/.test(letters) && [...letters].every((letter) => LOOKS_LATIN.has(letter)))
    throw unusable('it looks like a name in Latin letters')
  if (reserved.has(skeleton(local))) throw new StanzaError('conflict', 'the username is reserved')
  return local
}

function unusable(why: string): StanzaError {
  return new StanzaError('not-acceptable', `the username cannot be used: ${why}`)
}

/**
 * UAX 31, table 5: the scripts in everyday use. Of Latin, Cyrillic and Greek the letters of living languages, composed: among the
 * others are those made to look like another (dotless i, the click l, the long s, palochka), and marks that nobody can see.
 */
const SCRIPTS: readonly RegExp[] = [
  /^[a-zß-öø-ÿāăąćĉċčďđēĕėęěĝğġģĥħĩīĭįĵķĺļľŀłńņňŋōŏőœŕŗřśŝşšţťŧũūŭůűųŵŷźżžǎǐǒǔơưșțẁẃẅạ-ỹ]+$/u,
  /^[а-џґғҕҗҙқҝҟҡңҥҧҩҫҭүұҳҵҷҹһҽҿӂӄӈӌӑӓӕӗәӛӝӟӡӣӥӧөӫӭӯӱӳӵӹ]+$/u,
  /^[ΐά-ώ]+$/u,
  /^[\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}]+$/u,
  /^[\p{scx=Han}\p{scx=Bopomofo}]+$/u,
  /^[\p{scx=Han}\p{scx=Hangul}]+$/u,
  ...[
    ...[
      'Arabic',
      'Armenian',
      'Bengali',
      'Devanagari',
      'Ethiopic',
      'Georgian',
      'Gujarati',
      'Gurmukhi',
      'Hebrew',
      'Kannada',
      'Khmer',
    ],
    ...['Lao', 'Malayalam', 'Myanmar', 'Oriya', 'Sinhala', 'Tamil', 'Telugu', 'Thaana', 'Thai', 'Tibetan'],
  ].map((script) => new RegExp(`^(?=\\p{L})\\p{scx=${script}}+$`, 'u')),
]

/** Letters of other scripts, and the Latin one that each is taken for, in lower case (UTS 39, confusables.txt). */
const LOOKS_LATIN: ReadonlyMap<string, string> = new Map(
  Object.entries({
    // Cyrillic
    ...{
      а: 'a',
      ӑ: 'a',
      ӓ: 'a',
      е: 'e',
      ѐ: 'e',
      ё: 'e',
      ӗ: 'e',
      һ: 'h',
      і: 'i',
      ї: 'i',
      ј: 'j',
      о: 'o',
      ӧ: 'o',
      р: 'p',
      с: 'c',
      ѕ: 's',
    },
    ...{ у: 'y', ў: 'y', ӯ: 'y', ӱ: 'y', ӳ: 'y', ү: 'y', ѡ: 'w', х: 'x' },
    // Greek
    ...{
      α: 'a',
      ά: 'a',
      γ: 'y',
      ι: 'i',
      ί: 'i',
      ϊ: 'i',
      ΐ: 'i',
      κ: 'k',
      ν: 'v',
      ο: 'o',
      ό: 'o',
      ρ: 'p',
      σ: 'o',
      υ: 'u',
      ύ: 'u',
      ϋ: 'u',
    },
    ...{ ΰ: 'u', χ: 'x' },
    // Armenian, Hebrew, Arabic, and round letters of others
    ...{ զ: 'q', լ: 'l', հ: 'h', յ: 'j', ո: 'n', ս: 'u', ց: 'g', օ: 'o', ו: 'l', ן: 'l', ס: 'o', ا: 'l', ه: 'o', ہ: 'o', ھ: 'o' },
    ...{ ഠ: 'o', ଠ: 'o', ဝ: 'o', ჿ: 'o' },
  }),
)

/** Those that are like one from afar: enough to be no reserved name. */
const RESEMBLES_LATIN: ReadonlyMap<string, string> = new Map(
  Object.entries({
    ...{
      в: 'b',
      г: 'r',
      з: 'e',
      и: 'n',
      к: 'k',
      м: 'm',
      н: 'h',
      п: 'n',
      т: 't',
      ь: 'b',
      β: 'b',
      ε: 'e',
      έ: 'e',
      η: 'n',
      ή: 'n',
      ς: 'c',
    },
    ...{ τ: 't', ω: 'w', ώ: 'w', ա: 'w', գ: 'q', ռ: 'n', ք: 'f', ø: 'o', ł: 'l' },
  }),
)

/** What remains of a name when letters that are easily taken for each other are one: `Adm1n.` is `admln`, and so is `admin`. */
function skeleton(name: string): string {
  return [...name.toLowerCase().normalize('NFC')]
    .map((letter) => LOOKS_LATIN.get(letter) ?? RESEMBLES_LATIN.get(letter) ?? letter)
    .join('')
    .normalize('NFKD')
    .replace(/\p{M}/gu, '')
    .replace(/[._-]/g, '')
    .replaceAll('rn', 'm')
    .replaceAll('vv', 'w')
    .replace(/0/g, 'o')
    .replace(/[1i]/g, 'l')
    .replace(/3/g, 'e')
    .replace(/4/g, 'a')
    .replace(/5/g, 's')
    .replace(/7/g, 't')
}

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  bareOf,
  JidError,
  jidOfBytes,
  makeJid,
  NO_JID,
  parseJid,
  prepareDomain,
  prepareLocal,
  prepareResource,
  withResource,
} from './jid.ts'

describe('RFC 7622 §3.5 Examples', () => {
  test.each([
    ['juliet@example.com', 'juliet', 'example.com', ''],
    ['juliet@example.com/foo', 'juliet', 'example.com', 'foo'],
    ['juliet@example.com/foo bar', 'juliet', 'example.com', 'foo bar'],
    ['juliet@example.com/foo@bar', 'juliet', 'example.com', 'foo@bar'],
    ['foo\\20bar@example.com', 'foo\\20bar', 'example.com', ''],
    ['fussball@example.com', 'fussball', 'example.com', ''],
    ['fu\u00DFball@example.com', 'fu\u00DFball', 'example.com', ''],
    ['\u03C0@example.com', '\u03C0', 'example.com', ''],
    ['\u03A3@example.com/foo', '\u03C3', 'example.com', 'foo'],
    ['\u03C3@example.com/foo', '\u03C3', 'example.com', 'foo'],
    ['\u03C2@example.com/foo', '\u03C2', 'example.com', 'foo'],
    ['king@example.com/\u265A', 'king', 'example.com', '\u265A'],
    ['example.com', '', 'example.com', ''],
    ['example.com/foobar', '', 'example.com', 'foobar'],
    ['a.example.com/b@example.net', '', 'a.example.com', 'b@example.net'],
  ])('table 1: %s is a JID', (text, local, domain, resource) => {
    expect(parseJid(text)).toMatchObject({ local, domain, resource })
  })

  test.each([
    ['"juliet"@example.com', 'localpart: " is not allowed'],
    ['foo bar@example.com', 'localpart: U+0020 is not allowed'],
    ['@example.com/', 'localpart: it is empty'],
    ['henry\u2163@example.com', 'localpart: U+2163 is not allowed'],
    ['\u265A@example.com', 'localpart: U+265A is not allowed'],
    ['juliet@', 'domainpart: it is empty'],
    ['/foobar', 'domainpart: it is empty'],
  ])('table 2: %s is none', (text, message) => {
    expect(() => parseJid(text)).toThrow(new JidError(message))
  })

  test('table 2 has a leading space in a resourcepart too, which no rule of OpaqueString forbids: it is taken', () => {
    expect(parseJid('juliet@example.com/ foo').resource).toBe(' foo')
  })
})

describe('RFC 7622 §3.1 how an address is divided', () => {
  test('the first "/" begins the resource, and the first "@" before it ends the localpart', () => {
    expect(parseJid('a@b.example/c@d/e')).toEqual({
      local: 'a',
      domain: 'b.example',
      resource: 'c@d/e',
      bare: 'a@b.example',
      full: 'a@b.example/c@d/e',
    })
    expect(() => parseJid('a@b@c.example')).toThrow(JidError)
  })

  test('it is divided before it is prepared: a fullwidth @ or / divides nothing', () => {
    expect(() => parseJid('juliet\uFF20example.com')).toThrow(JidError)
    expect(() => parseJid('example.com\uFF0Ffoo')).toThrow(JidError)
    expect(() => parseJid('a\uFF20b@example.com')).toThrow('localpart: @ is not allowed')
  })

  test.each(['', '@', '/', 'a@', '@a', 'a/', 'a@b/', '@/x', 'a@/x'])('an empty part is refused: %j', (text) => {
    expect(() => parseJid(text)).toThrow(JidError)
  })
})

describe('RFC 7622 §3.3 Localpart', () => {
  test.each([...'"&\'/:<>@'])('%s is excluded', (char) => {
    expect(() => prepareLocal(`a${char}b`)).toThrow(JidError)
  })

  test('all other printing ASCII is allowed, and letters are lower-cased', () => {
    const printing = Array.from({ length: 94 }, (_, i) => String.fromCharCode(33 + i)).filter(
      (char) => !'"&\'/:<>@'.includes(char),
    )
    expect(prepareLocal(printing.join(''))).toBe(printing.join('').toLowerCase())
  })

  test('it has 1 to 1023 bytes, once prepared', () => {
    expect(prepareLocal('a'.repeat(1023))).toHaveLength(1023)
    expect(() => prepareLocal('a'.repeat(1024))).toThrow('over 1023 bytes')
    expect(() => prepareLocal('\u03C0'.repeat(512))).toThrow('over 1023 bytes')
    expect(prepareLocal('u\u0308\u0304'.repeat(511))).toBe('\u01D6'.repeat(511)) // 1022 bytes, of 2555
    expect(() => prepareLocal('a'.repeat(1e6))).toThrow('over 1023 bytes')
  })
})

describe('RFC 7622 §3.4 Resourcepart', () => {
  test('case and width stay, spaces outside ASCII become spaces, decomposed letters are composed', () => {
    expect(prepareResource('Ｂalcony')).toBe('Ｂalcony')
    expect(prepareResource('a\u00A0b\u3000c')).toBe('a b c')
    expect(prepareResource('Re\u0301s')).toBe('R\u00E9s')
  })

  test.each(['\u0000', 'a\nb', '\u007F', '\u00AD', '\u200B', '\uFEFF', '\u2028', '\uFFFF', '\uE000', '\uD800', '\u{E0041}'])(
    'controls, what is invisible, private or unpaired is refused: %j',
    (text) => {
      expect(() => prepareResource(text)).toThrow(/^resourcepart: U\+/)
    },
  )

  test('it has 1 to 1023 bytes', () => {
    expect(prepareResource('x'.repeat(1023))).toHaveLength(1023)
    expect(() => prepareResource('x'.repeat(1024))).toThrow('over 1023 bytes')
    expect(() => prepareResource('\u265A'.repeat(342))).toThrow('over 1023 bytes')
    expect(() => prepareResource('')).toThrow('it is empty')
  })
})

describe('RFC 7622 §3.2 Domainpart', () => {
  test('a final dot is stripped before anything else, one only', () => {
    expect(prepareDomain('example.com.')).toBe('example.com')
    expect(prepareDomain('example.com\u3002')).toBe('example.com')
    expect(() => prepareDomain('example.com..')).toThrow('a label is empty')
    expect(() => prepareDomain('.')).toThrow('it is empty')
  })

  test('names are compared in lower case, ordinary width and NFC', () => {
    expect(prepareDomain('EXAMPLE.Com')).toBe('example.com')
    expect(prepareDomain('\uFF25xample\u3002com')).toBe('example.com')
    expect(prepareDomain('BU\u0308CHER.example')).toBe('b\u00FCcher.example')
  })

  test('an A-label is turned into a U-label', () => {
    expect(prepareDomain('xn--bcher-kva.example')).toBe('b\u00FCcher.example')
    expect(prepareDomain('XN--BCHER-KVA.example')).toBe('b\u00FCcher.example')
    expect(prepareDomain('xn--fa-hia.example')).toBe('fa\u00DF.example')
  })

  test('Cherokee is compared in capitals, which are what IDNA allows: written so, or as an A-label', () => {
    for (const written of ['\u13B4.example', '\uAB84.example', 'xn--q9d.example'])
      expect(prepareDomain(written), written).toBe('\u13B4.example')
  })

  test.each(['xn--a', 'xn--', 'xn--example-', 'xn--n3h', 'xn--ls8h', 'xn--80ak6aa92e-'])('%s is no A-label', (label) => {
    expect(() => prepareDomain(`${label}.example`)).toThrow(JidError)
  })

  test('IDNA2008, not UTS #46: \u00DF and \u03C2 stay, symbols and what would have to be mapped further are refused', () => {
    expect(prepareDomain('fa\u00DF.example')).toBe('fa\u00DF.example')
    expect(prepareDomain('\u03B1\u03C2.example')).toBe('\u03B1\u03C2.example')
    expect(prepareDomain('\u0391\u03A3.example')).toBe('\u03B1\u03C3.example')
    for (const char of ['\u2603', '\u017F', '\u2102', '\u00AD', '\uFB01', '\u{1F600}', '\u1E9E\u200B']) {
      expect(() => prepareDomain(`a${char}.example`), char).toThrow(JidError)
    }
  })

  test.each([
    'a_b.example',
    '-a.example',
    'a-.example',
    'a..example',
    '.example',
    'a b.example',
    'a%41.example',
    'ab--c.example',
  ])('%s is no NR-LDH label', (text) => {
    expect(() => prepareDomain(text)).toThrow(JidError)
  })

  test.each(['-\u00FC', '\u00FC-', 'ab--\u00FC', '\u0301a', '\u00FCb\u00B7c', '\u0627\u0660\u06F0', '\u30FB'])(
    '%s is no U-label (RFC 5891 §4.2.3)',
    (label) => {
      expect(() => prepareDomain(`${label}.example`)).toThrow(JidError)
    },
  )

  test('RFC 5893 §2: one right-to-left label puts all labels under the Bidi Rule', () => {
    expect(prepareDomain('1a.example')).toBe('1a.example')
    expect(prepareDomain('\u05D0.example')).toBe('\u05D0.example')
    expect(() => prepareDomain('1a.\u05D0')).toThrow('Bidi Rule')
    expect(() => prepareDomain('a\u05D0.example')).toThrow(JidError)
  })

  test('a label has at most 63 bytes in ASCII, the name 1023 bytes and 127 labels', () => {
    expect(prepareDomain(`${'a'.repeat(63)}.example`)).toHaveLength(71)
    expect(() => prepareDomain(`${'a'.repeat(64)}.example`)).toThrow('over 63 bytes')
    expect(() => prepareDomain(`${'\u00FC'.repeat(63)}.example`)).toThrow(JidError)
    const long = Array(16).fill('a'.repeat(63)).join('.')
    expect(prepareDomain(long)).toHaveLength(1023)
    expect(() => prepareDomain(`${long}.b`)).toThrow('over 1023 bytes')
    expect(prepareDomain(`${'a.'.repeat(126)}b`)).toHaveLength(253)
    expect(() => prepareDomain(`${'a.'.repeat(127)}b`)).toThrow('over 127 labels')
    expect(() => prepareDomain(`${'\u00FC.'.repeat(127)}b`)).toThrow('over 127 labels')
  })

  test('an IPv6 address is in brackets, without a zone, and has one spelling (RFC 5952)', () => {
    expect(prepareDomain('[::1]')).toBe('[::1]')
    expect(prepareDomain('[2001:DB8:0:0::1]')).toBe('[2001:db8::1]')
    for (const text of ['::1', '[::1', '[]', '[1.2.3.4]', '[fe80::1%eth0]', '[v1.a]', '[::1].example', '[::1]:5222']) {
      expect(() => prepareDomain(text), text).toThrow(JidError)
    }
  })

  test('an IPv4 address is four numbers, and no number is turned into one', () => {
    expect(prepareDomain('127.0.0.1')).toBe('127.0.0.1')
    expect(prepareDomain('0x7f.1')).toBe('0x7f.1')
    expect(prepareDomain('2130706433')).toBe('2130706433')
  })
})

describe('confusables', () => {
  test('fullwidth letters are the ordinary ones', () => {
    expect(prepareLocal('ｆｕｌｌＷｉｄｔｈ')).toBe('fullwidth')
  })

  test.each([
    ['\u017F', 'long s would be s'],
    ['\u212A', 'KELVIN SIGN would be k'],
    ['\u212B', 'ANGSTROM SIGN would be å'],
    ['\uFB01', 'the ligature would be fi'],
    ['\u00AA', 'the ordinal indicator would be a'],
    ['\u01C5', 'a titlecase digraph'],
  ])('%s is refused, not mapped: %s', (char) => {
    expect(() => prepareLocal(`a${char}`)).toThrow(JidError)
  })

  test('ß is not ss', () => {
    expect(prepareLocal('Fu\u00DFball')).toBe('fu\u00DFball')
    expect(prepareLocal('\u1E9E')).toBe('\u00DF')
  })

  test('İ is i with a dot above, in every locale, and I is i', () => {
    expect(prepareLocal('\u0130I')).toBe('i\u0307i')
    expect(prepareLocal('\u0131')).toBe('\u0131')
  })

  test('a final capital sigma becomes the final one, as in a written word', () => {
    expect(prepareLocal('\u039F\u0394\u039F\u03A3')).toBe('\u03BF\u03B4\u03BF\u03C2')
  })

  test('Cyrillic а is not Latin a', () => {
    expect(prepareLocal('\u0430')).not.toBe('a')
  })
})

describe('Jid values', () => {
  test('makeJid prepares each part, and takes "" for none', () => {
    expect(makeJid('Juliet', 'Example.COM', 'Balcony').full).toBe('juliet@example.com/Balcony')
    expect(makeJid('', 'example.com')).toEqual(parseJid('example.com'))
    expect(() => makeJid('a', '')).toThrow(JidError)
    expect(() => makeJid('a', 'b@c')).toThrow(JidError)
    expect(() => makeJid('a', 'b/c')).toThrow(JidError)
  })

  test('bareOf is the same object where there is no resource, and one object for all resources', () => {
    const bare = parseJid('bare@example.com')
    expect(bareOf(bare)).toBe(bare)
    expect(bareOf(parseJid('bare@example.com/a'))).toBe(bare)
    expect(bareOf(NO_JID)).toBe(NO_JID)
  })

  test('withResource changes the resource only, and prepares it', () => {
    const jid = parseJid('juliet@example.com/a')
    expect(withResource(jid, 'b\u00A0c')).toEqual(parseJid('juliet@example.com/b c'))
    expect(withResource(jid, '')).toEqual(parseJid('juliet@example.com'))
    expect(() => withResource(jid, '\n')).toThrow(JidError)
  })

  test('the same text gives the same object, also after 20 000 others', () => {
    const jid = parseJid('often@example.com/x')
    expect(parseJid('often@example.com/x')).toBe(jid)
    for (let i = 0; i < 20_000; i++) parseJid(`u${i}@example.com`)
    expect(parseJid('often@example.com/x')).toBe(jid)
  })

  test('a text not asked about for 40 000 others is let go', () => {
    const jid = parseJid('seldom@example.com/x')
    for (let i = 0; i < 40_001; i++) parseJid(`v${i}@example.com`)
    expect(parseJid('seldom@example.com/x')).not.toBe(jid)
    expect(parseJid('seldom@example.com/x')).toEqual(jid)
  })
})

/** Strings that come close to addresses: any code unit (unpaired ones too), and what the rules speak of. */
const near = fc.array(
  fc.oneof(
    fc.string({ unit: 'binary', maxLength: 3 }),
    fc.integer({ min: 0, max: 0xffff }).map((unit) => String.fromCharCode(unit)),
    fc.constantFrom(
      ...'@/.-[]:aZ0\u00DF\u03A3\u03C2\u0130\u017F\u00B7l\u200C\u200D\u094D\u0915\u05D0\u0627\u0660\u06F0\u3002\uFF20\uFF0E\u3000\u0301',
      'xn--',
    ),
  ),
  { maxLength: 12 },
)
const texts = near.map((parts) => parts.join(''))

/** Runs `check` over random strings; fast-check prints the seed of a failure, which `{ seed }` takes. */
function forAllTexts(check: (text: string) => void): void {
  fc.assert(fc.property(texts, check), { numRuns: 3000 })
}

function attempt<T>(act: () => T): T | undefined {
  try {
    return act()
  } catch (error) {
    if (error instanceof JidError) return undefined
    throw error
  }
}

describe('for any string', () => {
  test('preparing throws nothing but a JidError, and twice is once', () => {
    forAllTexts((text) => {
      for (const prepare of [prepareLocal, prepareDomain, prepareResource]) {
        const once = attempt(() => prepare(text))
        if (once !== undefined) expect(prepare(once)).toBe(once)
      }
    })
  })

  test('parseJid throws nothing but a JidError, and what it gives is read back from its full form', () => {
    forAllTexts((text) => {
      const jid = attempt(() => parseJid(text))
      if (jid === undefined) return
      expect(parseJid(jid.full)).toEqual(jid)
      expect(parseJid(jid.bare)).toEqual(bareOf(jid))
      expect(makeJid(jid.local, jid.domain, jid.resource)).toEqual(jid)
    })
  })

  test('every letter that is taken as a localpart or label is taken again in its prepared form', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0x80, max: 0x1ffff }), (point) => {
        const char = String.fromCodePoint(point)
        const local = attempt(() => prepareLocal(char))
        if (local !== undefined) expect(prepareLocal(local)).toBe(local)
        const domain = attempt(() => prepareDomain(char))
        if (domain !== undefined) expect(prepareDomain(domain)).toBe(domain)
      }),
      { numRuns: 3000 },
    )
  })
})

describe('an address that is read from bytes', () => {
  const read = (text: string) => {
    const bytes = Buffer.from(`<<${text}>>`)
    return jidOfBytes(bytes, 2, bytes.length - 2)
  }

  test('is the one that parseJid gives', () => {
    forAllTexts((text) => {
      const jid = attempt(() => parseJid(text))
      if (jid === undefined) return
      expect(read(jid.full)).toEqual(jid)
      expect(read(jid.full)).toEqual(jid) // from the table
    })
  })

  test('is not taken for one whose letters have the numbers of its bytes', () => {
    for (const text of ['a@example.org/\u00E9', 'a@example.org/\u00C3\u00A9', 'a@example.org/\u00E9']) {
      expect(read(text)).toEqual(parseJid(text))
      expect(read(text)).toEqual(parseJid(text))
    }
  })

  test('is prepared, and refused as parseJid refuses it', () => {
    expect(read('Romeo@Example.ORG/Garden').full).toBe('romeo@example.org/Garden')
    expect(() => read('@example.org')).toThrow(JidError)
    expect(jidOfBytes(Buffer.alloc(0), 0, 0)).toBe(NO_JID)
  })
})

test('an address that was cut out of a large text does not keep the text in memory', () => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const heapMiB = (): number => {
    collect()
    return process.memoryUsage().heapUsed / 1024 / 1024
  }
  const before = heapMiB()
  for (let i = 0; i < 400; i++) {
    const text = Buffer.from(`${'x'.repeat(200_000)}somebody-with-a-long-name${i}@example.org/a resource`).toString()
    parseJid(text.slice(200_000)) // 80 MB in all, if they were kept
  }
  expect(heapMiB() - before).toBeLessThan(20)
})

// What must hold for any input. `TEST_SEED=n npx vitest run services/xmpp/scan.property.test.ts` repeats a run.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { drawnName as name, drawnRoot as root } from './arbitrary.fixture.ts'
import { StreamError } from './error.ts'
import { NS_CLIENT, NS_XML } from './ns.ts'
import { canonical, oracle, trimmed } from './oracle.fixture.ts'
import { HEADER } from './scan.fixture.ts'
import { type ScanLimits, Scanner } from './scan.ts'
import type { Element } from './stanza.ts'
import { parseChildren, parseElement, serialise } from './xml.ts'

const SEED = Number(process.env.TEST_SEED ?? Date.now() % 1_000_000_000)
fc.configureGlobal({ seed: SEED })

const LIMITS: ScanLimits = { stanzaBytes: 100_000, depth: 50, attributes: 50, elements: 1000, namespaceBytes: 200 }

/** Everything a scanner says, as text, whatever it is fed by. */
function events(mode: 'stream' | 'frame', chunks: readonly Uint8Array[]): string[] {
  const said: string[] = []
  const scanner = new Scanner(mode, LIMITS, {
    streamStart: (open) => said.push(JSON.stringify(open)),
    element: (e) => {
      const head = [e.name, e.ns, e.to, e.from, e.id, e.type, e.lang, e.child, e.childCount]
      said.push(`${JSON.stringify(head)} ${Buffer.from(e.payload).toString()} ${canonical(e.element())}`)
    },
    streamEnd: () => said.push('end'),
  })
  try {
    for (const chunk of chunks) scanner.push(chunk)
  } catch (error) {
    if (!(error instanceof StreamError)) throw error
    said.push(`error ${error.condition}`)
  }
  return said
}

/** What saxes makes of a stanza below our header. Throws as it does. */
const oracleInStream = (stanza: string) => oracle(`${HEADER}${stanza}</stream:stream>`).children[0] as Element
const wellFormed = (stanza: string) => {
  try {
    oracleInStream(stanza)
    return true
  } catch {
    return false
  }
}

const cuts = fc.array(fc.integer({ min: 0, max: 10_000 }), { maxLength: 12 })
function cut(whole: Buffer, at: readonly number[]): Buffer[] {
  const points = [0, ...at.map((point) => point % (whole.length + 1)), whole.length].sort((a, b) => a - b)
  return points.slice(1).map((point, k) => Buffer.from(whole.subarray(points[k], point)))
}

describe(`any input (seed ${SEED})`, () => {
  test('a stream says the same however it is cut', () => {
    let emitted = 0
    fc.assert(
      fc.property(fc.array(root.filter(wellFormed), { maxLength: 4 }), cuts, fc.boolean(), (stanzas, at, end) => {
        const whole = Buffer.from(`<?xml version='1.0'?> ${HEADER}\n ${stanzas.join(' ')}${end ? '</stream:stream>' : ''}`)
        const expected = events('stream', [whole])
        expect(expected.filter((said) => said.startsWith('error'))).toEqual([])
        emitted += expected.length
        expect(events('stream', cut(whole, at))).toEqual(expected)
        expect(
          events(
            'stream',
            cut(
              whole,
              Array.from(whole, (_, k) => k),
            ),
          ),
        ).toEqual(expected)
      }),
      { numRuns: 250 },
    )
    expect(emitted).toBeGreaterThan(250)
  })

  test('scanner and saxes agree on what is well-formed, and on the tree; ltx gives the same', () => {
    let passed = 0
    let refused = 0
    fc.assert(
      fc.property(root, (stanza) => {
        const said = events('stream', [Buffer.from(HEADER + stanza)])
        if (wellFormed(stanza)) {
          passed++
          expect(said).toHaveLength(2)
          expect(said[1]!.endsWith(` ${canonical(oracleInStream(stanza))}`)).toBe(true)
        } else {
          refused++
          expect(said[1]).toBe('error not-well-formed')
        }
      }),
      { numRuns: 1500 },
    )
    expect(Math.min(passed, refused)).toBeGreaterThan(100)
  })

  test('a payload below <message xmlns="jabber:client"> is the tree it was where it came from', () => {
    let rewritten = 0
    fc.assert(
      fc.property(root.filter(wellFormed), (stanza) => {
        const original = oracleInStream(stanza)
        let calls = 0
        const scanner = new Scanner('stream', LIMITS, {
          streamStart: () => {},
          streamEnd: () => {},
          element: ({ payload, child, childCount }) => {
            calls++
            const source = Buffer.from(payload).toString()
            if (!stanza.includes(source)) rewritten++
            const again = oracle(`<message xmlns='jabber:client'>${source}</message>`)
            expect(again.children.map(canonical)).toEqual(original.children.map(canonical))
            expect(source).not.toMatch(/<!|\r/)
            const elements = original.children.filter((node) => typeof node !== 'string')
            expect(parseChildren(payload, NS_CLIENT).map(canonical)).toEqual(elements.map(canonical))
            expect([child, childCount]).toEqual([
              elements.length === 0 ? '' : `{${elements[0]!.ns}}${elements[0]!.name}`,
              elements.length,
            ])
          },
        })
        scanner.push(Buffer.from(HEADER + stanza))
        expect(calls).toBe(1)
      }),
      { numRuns: 600 },
    )
    expect(rewritten).toBeGreaterThan(50)
  })

  test('a frame stands alone: saxes agrees on it as a document', () => {
    fc.assert(
      fc.property(root, (stanza) => {
        let expected: string | undefined
        try {
          expected = canonical(oracle(stanza))
        } catch {}
        const said = events('frame', [Buffer.from(stanza)])
        expect(said).toHaveLength(1)
        if (expected === undefined) expect(said[0]).toBe('error not-well-formed')
        else expect(said[0]!.endsWith(` ${expected}`)).toBe(true)
      }),
      { numRuns: 600 },
    )
  })

  const nasty = fc.constantFrom(
    ...'<>&\'"=/!?[]:-; \t\r\nax1\0\x7F\u0080\uFFFD\u{10FFFF}',
    ...[
      '<!--',
      '-->',
      '<?x ?>',
      '<![CDATA[',
      ']]>',
      '&#',
      '&#x0;',
      '&lt;',
      '</',
      '/>',
      "xmlns:p=''",
      "xmlns='",
      'xmlns:xml',
      'xmlns:',
      'xml:',
      'p:',
      '\uFFFE',
      '<a/>',
      "a=''",
    ],
  )
  const raw = fc.constantFrom(
    [0xff],
    [0xc0, 0x80],
    [0xe0, 0x80, 0x80],
    [0xed, 0xa0, 0x80],
    [0xf0, 0x80, 0x80, 0x80],
    [0xf4, 0x90, 0x80, 0x80],
    [0xe2, 0x82],
    [0x80],
  )
  const mutation = fc.record({
    at: fc.nat(10_000),
    drop: fc.integer({ min: 0, max: 4 }),
    put: fc.oneof(
      { arbitrary: nasty.map((source) => Buffer.from(source)), weight: 9 },
      { arbitrary: raw.map((source) => Buffer.from(source)), weight: 1 },
    ),
  })
  function mutate(source: string, mutations: readonly { at: number; drop: number; put: Buffer }[]): Buffer {
    let bytes = Buffer.from(source)
    for (const { at, drop, put } of mutations) {
      const point = at % (bytes.length + 1)
      bytes = Buffer.concat([bytes.subarray(0, point), put, bytes.subarray(point + drop)])
    }
    return bytes
  }

  test('a mutated frame passes only if saxes passes it, with the same tree, and is refused only for what the RFCs forbid', () => {
    let passed = 0
    fc.assert(
      fc.property(root.filter(wellFormed), fc.array(mutation, { minLength: 1, maxLength: 3 }), (stanza, mutations) => {
        const bytes = mutate(stanza, mutations)
        fc.pre(!trimmed(bytes.toString()))
        const [said] = events('frame', [bytes])
        let expected: string | undefined
        try {
          expected = canonical(oracle(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)))
        } catch {}
        if (!said!.startsWith('error')) {
          passed++
          expect(said!.endsWith(` ${expected}`)).toBe(true)
        } else if (expected !== undefined) {
          // RFC 6120 §11.1; RFC 7395 §3.8: text before the root, even whitespace, is no frame.
          const forbidden = /<!--|<\?/.test(bytes.toString())
            ? 'error restricted-xml'
            : bytes[0] !== 0x3c
              ? 'error bad-format'
              : 'none'
          expect([forbidden, 'error policy-violation', 'error bad-format']).toContain(said)
          // What only we refuse: a long reference to a character, and a name that is not ASCII.
          if (forbidden === 'none' && !/<[^<]*[^\0-\x7F]/.test(bytes.toString())) expect(bytes.toString()).toMatch(/&#.{14}/)
        }
      }),
      { numRuns: 4000 },
    )
    expect(passed).toBeGreaterThan(100)
  })

  test('a mutated stream, cut anywhere, throws nothing but StreamError, and says the same first', () => {
    fc.assert(
      fc.property(
        fc.array(root, { maxLength: 3 }),
        fc.array(mutation, { minLength: 1, maxLength: 3 }),
        cuts,
        (stanzas, mutations, at) => {
          // The padding ends every tag and text that the mutation leaves open, so that both have come to the same fault.
          const whole = Buffer.concat([mutate(HEADER + stanzas.join('\n'), mutations), Buffer.from(`'"><]]>\0\0`)])
          const uncut = events('stream', [whole])
          const inPieces = events('stream', cut(whole, at))
          expect(uncut.filter((said) => !said.startsWith('error'))).toEqual(inPieces.filter((said) => !said.startsWith('error')))
          expect(uncut.some((said) => said.startsWith('error') || said === 'end')).toBe(true)
          expect(inPieces.some((said) => said.startsWith('error') || said === 'end')).toBe(true)
        },
      ),
      { numRuns: 1500 },
    )
  })

  test('any bytes at all throw nothing but StreamError', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), fc.boolean(), (bytes, inside) => {
        events('frame', [bytes])
        events('stream', inside ? [Buffer.from(`${HEADER}<a b='`), bytes] : [bytes])
        events('stream', [Buffer.from(`${HEADER}<a>`), bytes])
      }),
      { numRuns: 1500 },
    )
  })
})

describe(`any tree (seed ${SEED})`, () => {
  const character = fc
    .integer({ min: 0x20, max: 0x10ffff })
    .filter((c) => (c < 0xd800 || c > 0xdfff) && c !== 0xfffe && c !== 0xffff)
  const characters = fc.string({
    unit: fc.oneof(
      character.map((c) => String.fromCodePoint(c)),
      fc.constantFrom(...'&<>\'"\t\n\r]'),
    ),
    maxLength: 12,
  })
  const namespace = fc.oneof(
    fc.constantFrom('', 'jabber:client', 'urn:a', 'urn:b', "it's", 'a&<b', NS_XML),
    characters.filter((ns) => ns !== '' && ns.trim() === ns),
  )
  const attributeNamespace = namespace.filter((ns) => ns !== '')
  const key = fc.oneof(
    name,
    fc.constant('xml:lang'),
    fc.constant(`{${NS_XML}}space`),
    fc.tuple(attributeNamespace, name).map(([ns, local]) => `{${ns}}${local}`),
  )
  const attributes = fc.array(fc.tuple(key, characters), { maxLength: 4 }).map((entries) => {
    const attrs: Record<string, string> = {}
    for (const [at, text] of entries)
      Object.defineProperty(attrs, at, { value: text, enumerable: true, configurable: true, writable: true })
    return attrs
  })
  const { tree } = fc.letrec<{ tree: Element }>((tie) => ({
    tree: fc.record({
      name,
      ns: namespace,
      attrs: attributes,
      // Texts side by side would come back as one.
      children: fc
        .array(
          fc.oneof(
            { maxDepth: 3 },
            characters.filter((s) => s !== ''),
            tie('tree'),
          ),
          { maxLength: 4 },
        )
        .map((nodes) => nodes.filter((node, k) => typeof node !== 'string' || typeof nodes[k - 1] !== 'string')),
    }),
  }))

  test('parseElement(serialise(tree)) is the tree, and saxes says so too', () => {
    fc.assert(
      fc.property(tree, fc.constantFrom('', 'jabber:client'), (element, defaultNs) => {
        const source = serialise(element, defaultNs)
        expect(canonical(parseElement(source, defaultNs))).toBe(canonical(element))
        if (defaultNs === '') expect(canonical(oracle(source))).toBe(canonical(element))
      }),
      { numRuns: 800 },
    )
  })
})

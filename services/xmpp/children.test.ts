// `TEST_SEED=n npx vitest run services/xmpp/children.test.ts` repeats a run.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { drawnRoot } from './arbitrary.fixture.ts'
import { Children, withoutChildren } from './children.ts'
import { StreamError } from './error.ts'
import { parseJid } from './jid.ts'
import { NS_CLIENT } from './ns.ts'
import { canonical } from './oracle.fixture.ts'
import { HEADER, LIMITS } from './scan.fixture.ts'
import { Scanner } from './scan.ts'
import { attr, type Stanza, stanzaOfBytes } from './stanza.ts'
import { parseChildren } from './xml.ts'

const SEED = Number(process.env.TEST_SEED ?? Date.now() % 1_000_000_000)
fc.configureGlobal({ seed: SEED })
const ROMEO = parseJid('romeo@example.org')

function message(payload: string | Uint8Array, child = ''): Stanza {
  return stanzaOfBytes('message', ROMEO, undefined, 'id', 'chat', 'en', child, Buffer.from(payload as string), 'trace')
}

function namesOf(payload: string | Uint8Array): string[] {
  const bytes = Buffer.from(payload as string)
  const children = new Children()
  const names: string[] = []
  for (children.begin(); children.next(bytes); ) names.push(children.name)
  return names
}

/** What the scanner hands on of a stanza; undefined where it refuses it. */
function scanned(stanza: string): Buffer | undefined {
  let payload: Buffer | undefined
  const scanner = new Scanner('stream', LIMITS, {
    streamStart: () => {},
    streamEnd: () => {},
    element: (element) => {
      payload = Buffer.from(element.payload)
    },
  })
  try {
    scanner.push(Buffer.from(HEADER + stanza))
  } catch (error) {
    if (!(error instanceof StreamError)) throw error
  }
  return payload
}

describe(`any payload that the scanner hands on (seed ${SEED})`, () => {
  test('the names are those of the tree, and each child is the bytes from its start to its end', () => {
    let seen = 0
    fc.assert(
      fc.property(drawnRoot, (stanza) => {
        const payload = scanned(stanza)
        fc.pre(payload !== undefined)
        const tree = parseChildren(payload, NS_CLIENT)
        const children = new Children()
        for (const child of tree) {
          expect(children.next(payload)).toBe(true)
          expect(children.name).toBe(`{${child.ns}}${child.name}`)
          for (const key of ['a', 'body', '__proto__', 'p:k', 'absent'])
            expect(children.attribute(payload, key)).toBe(key.includes(':') ? '' : (ownAttr(child.attrs, key) ?? ''))
          const [alone] = parseChildren(payload.subarray(children.start, children.end), NS_CLIENT)
          expect(canonical(alone!)).toBe(canonical(child))
          seen++
        }
        expect(children.next(payload)).toBe(false)
      }),
      { numRuns: 1500 },
    )
    expect(seen).toBeGreaterThan(300)
  })

  test('without some children it is the tree without them', () => {
    fc.assert(
      fc.property(drawnRoot, fc.array(fc.boolean(), { minLength: 3, maxLength: 3 }), (stanza, drops) => {
        const payload = scanned(stanza)
        fc.pre(payload !== undefined)
        let at = 0
        const before = message(payload)
        const after = withoutChildren(before, () => drops[at++] === true)
        const kept = before.tree().filter((_, k) => drops[k] !== true)
        expect(after.tree().map(canonical)).toEqual(kept.map(canonical))
        if (kept.length === before.tree().length) expect(after).toBe(before)
        else expect(after.child).toBe(kept[0] === undefined ? '' : `{${kept[0].ns}}${kept[0].name}`)
      }),
      { numRuns: 800 },
    )
  })
})

function ownAttr(attrs: Readonly<Record<string, string>>, key: string): string | undefined {
  return Object.hasOwn(attrs, key) ? attrs[key] : undefined
}

describe('the children of a payload', () => {
  test.each<[string, string, readonly string[]]>([
    ['none', '', []],
    ['text alone', ' a > b ', []],
    ['the namespace of a stanza where it has none', '<body>x</body>', ['{jabber:client}body']],
    ['a namespace, and none', `<x xmlns='urn:a'/><y xmlns=""/>`, ['{urn:a}x', '{}y']],
    ['a prefix of its own', `<p:x xmlns:p='urn:p' xmlns='urn:d'><p:y/></p:x>`, ['{urn:p}x']],
    ['one of the same name within', '<a><a><a/></a></a><b/>', ['{jabber:client}a', '{jabber:client}b']],
    ['a > and a /> in an attribute', `<a x='/>' y=">"><b z='>'/></a><c/>`, ['{jabber:client}a', '{jabber:client}c']],
    ['a quote in a quote', `<a><b y='"'/><b y="'>"/></a><c/>`, ['{jabber:client}a', '{jabber:client}c']],
    ['an end tag with space behind its name', '<a ><b ></b ></a\n><c />', ['{jabber:client}a', '{jabber:client}c']],
    ['text beyond ASCII', '<a>üöä漢\u{1F426}</a><b/>', ['{jabber:client}a', '{jabber:client}b']],
  ])('%s', (_name, payload, names) => {
    expect(namesOf(payload)).toEqual(names)
  })

  test('a namespace is decoded', () => {
    expect(namesOf(`<x xmlns='urn:a&amp;b'/>`)).toEqual(['{urn:a&b}x'])
  })

  test('an attribute is decoded; one with a prefix is another', () => {
    const bytes = Buffer.from(`<x xmlns:p='urn:p' p:by='no' by='&lt;yes&gt;'/>`)
    const children = new Children()
    expect([children.next(bytes), children.attribute(bytes, 'by'), children.attribute(bytes, 'id')]).toEqual([true, '<yes>', ''])
  })

  test.each(['<a', '<a>', '<a><b></a>', '<a x="', '<a><b x="></b></a>', '<a><![CDATA[</a>]]></a>', '<!-- -->', '<p:a/>'])(
    'what is no payload is refused, not passed over for ever: %s',
    (payload) => {
      expect(() => namesOf(payload)).toThrow(StreamError)
    },
  )

  test('what is taken out leaves the head, and the bytes of the others', () => {
    const before = message(`<x xmlns='urn:a' by='me'/> <body>1 &gt; 0</body><x xmlns='urn:a' by='you'/>`, '{urn:a}x')
    const after = withoutChildren(before, (child, bytes) => child.name === '{urn:a}x' && child.attribute(bytes, 'by') === 'me')
    expect(Buffer.from(after.payload).toString()).toBe(` <body>1 &gt; 0</body><x xmlns='urn:a' by='you'/>`)
    expect(after).toMatchObject({ from: ROMEO, id: 'id', type: 'chat', lang: 'en', trace: 'trace', child: '{jabber:client}body' })
    expect(attr(after.tree()[1]!, 'by')).toBe('you')
  })
})

// `TEST_SEED=n npx vitest run services/presence/canonical.test.ts` repeats a run.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { drawnRoot } from '#xmpp/arbitrary.fixture.ts'
import { StreamError } from '#xmpp/error.ts'
import { NS_XML } from '#xmpp/ns.ts'
import { canonical, oracle, trimmed } from '#xmpp/oracle.fixture.ts'
import { HEADER, LIMITS } from '#xmpp/scan.fixture.ts'
import { Scanner } from '#xmpp/scan.ts'
import type { Element } from '#xmpp/stanza.ts'
import { sameChildren } from './canonical.ts'

const SEED = Number(process.env.TEST_SEED ?? Date.now() % 1_000_000_000)
fc.configureGlobal({ seed: SEED })

const same = (a: string, b: string): boolean => {
  const forth = sameChildren(Buffer.from(a), Buffer.from(b))
  expect(sameChildren(Buffer.from(b), Buffer.from(a))).toBe(forth)
  return forth
}

describe('the same document, otherwise written', () => {
  test.each([
    ['the order of attributes', "<c hash='sha-1' node='n' ver='v'/>", "<c ver='v' node='n' hash='sha-1'/>"],
    ['whitespace between children', "<show>away</show><x xmlns='u'/>", "\n  <show>away</show>\r\n\t<x xmlns='u'/> "],
    ['nothing, and whitespace', '', ' \n '],
    ['whitespace inside of tags', "<c a='1'   b='2' ></c >", "<c\na='1' b='2'/>"],
    ['quotes', `<c a='1'/>`, `<c a="1"/>`],
    ['references in a value', `<c a='&apos;&quot;&gt;'/>`, `<c a="'&#34;>"/>`],
    ['references in text', '<status>&gt;&#x41;&quot;</status>', '<status>>A"</status>'],
    ['a reference to whitespace between children', '<a/>&#32;<b/>', '<a/><b/>'],
    ['an empty element of two tags', '<show></show>', '<show/>'],
    ['a prefix', "<x xmlns='u'><y/></x>", "<p:x xmlns:p='u'><p:y/></p:x>"],
    ['another prefix', "<x p:a='1' xmlns:p='u'/>", "<x q:a='1' xmlns:q='u'/>"],
    ['a prefix declared further out', "<x xmlns='u' xmlns:p='v'><p:y/></x>", "<x xmlns='u'><y xmlns='v'/></x>"],
    ['a prefix declared anew', "<x xmlns:p='u'><p:y xmlns:p='v'/><p:z/></x>", "<x><y xmlns='v'/><z xmlns='u'/></x>"],
    ['a declaration nobody needs', '<x/><y/>', "<x xmlns:p='u' xmlns='jabber:client'/><y/>"],
    ['the content namespace as a prefix', '<show/>', "<c:show xmlns:c='jabber:client'/>"],
    ['no namespace, twice', "<x xmlns=''/>", "<x xmlns=''></x>"],
  ])('%s makes no difference', (_what, a, b) => {
    expect(same(a, b)).toBe(true)
  })
})

describe('another document', () => {
  test.each([
    ['a text', '<show>away</show>', '<show>xa</show>'],
    ['a child more', '<show/>', '<show/><priority>1</priority>'],
    ['the order of children', '<a/><b/>', '<b/><a/>'],
    ['an attribute more', "<c ver='v'/>", "<c ver='v' ext='e'/>"],
    ['an attribute of another name', "<c a='v'/>", "<c b='v'/>"],
    ['a value: what it can do has changed (XEP-0115)', "<c hash='h' ver='v'/>", "<c hash='h' ver='w'/>"],
    ['values exchanged', "<c a='1' b='2'/>", "<c a='2' b='1'/>"],
    ['an empty attribute', "<c a=''/>", '<c/>'],
    ['the namespace of an element', "<c xmlns='u'/>", "<c xmlns='v'/>"],
    ['the namespace of an attribute', "<c xmlns:p='u' p:a='1'/>", "<c xmlns:p='v' p:a='1'/>"],
    ['an attribute in the namespace of its element', "<p:c xmlns:p='u' p:a='1'/>", "<p:c xmlns:p='u' a='1'/>"],
    ['a prefix that is declared inside for what is behind', "<x><y xmlns='u'/><z/></x>", "<x><y xmlns='u'/><z xmlns='u'/></x>"],
    ['whitespace in a text', '<status>a b</status>', '<status>a  b</status>'],
    ['whitespace inside of a child', '<x><y/></x>', '<x> <y/></x>'],
    ['whitespace and no text', '<status> </status>', '<status/>'],
    ['text between children', '<a/>x<b/>', '<a/><b/>'],
    ['whitespace that is none of XML', '<a/>\u00a0<b/>', '<a/><b/>'],
    ['a text and an element', '<x>y</x>', '<x><y/></x>'],
    ['the end of an element', '<x/><y/>', '<x><y/></x>'],
    ['capitals', '<show>Away</show>', '<show>away</show>'],
    ['a language', "<status xml:lang='en'>a</status>", "<status xml:lang='de'>a</status>"],
    ['xml:lang and lang', "<status xml:lang='en'/>", "<status lang='en'/>"],
  ])('%s makes a difference', (_what, a, b) => {
    expect(same(a, b)).toBe(false)
  })

  test.each(['<a', '<a>', '</a>', '<a/', '<a><!-- --></a>', '<!a>'])('%s is no payload', (text) => {
    for (const other of ['<a/>', '<a>b</a>', text.concat(' ')])
      expect(() => sameChildren(Buffer.from(text), Buffer.from(other)) && 'the same').toThrow(StreamError)
  })
})

/** What the edge hands on of a stanza; undefined where it refuses it. */
function scanned(stanza: string): string | undefined {
  let payload: string | undefined
  const scanner = new Scanner('stream', LIMITS, {
    streamStart: () => {},
    streamEnd: () => {},
    element: (element) => {
      payload = Buffer.from(element.payload).toString()
    },
  })
  try {
    scanner.push(Buffer.from(HEADER + stanza))
  } catch (error) {
    if (!(error instanceof StreamError)) throw error
  }
  return payload
}

/** What another parser makes of a payload, without whitespace between the children. */
function documentOf(payload: string): (Element | string)[] {
  const { children } = oracle(`<presence xmlns='jabber:client'>${payload}</presence>`)
  return children.filter((node) => typeof node !== 'string' || !/^[ \t\r\n]*$/.test(node))
}
const isSame = (a: readonly (Element | string)[], b: readonly (Element | string)[]): boolean =>
  JSON.stringify(a.map(canonical)) === JSON.stringify(b.map(canonical))

const payload = drawnRoot
  .map((stanza) => scanned(stanza))
  .filter((payload): payload is string => payload !== undefined && payload !== '' && !trimmed(payload))

/** Numbers to choose by, where what there is to be chosen is not known before. */
const choices = fc.infiniteStream(fc.nat({ max: 1_000 })).map((stream) => (below: number) => stream.next().value! % below)
type Choose = (below: number) => number

/** The same document in another hand. */
function rewritten(nodes: readonly (Element | string)[], defaultNs: string, choose: Choose, top = true): string {
  const gap = (...beside: readonly (Element | string | undefined)[]): string =>
    !top || beside.some((node) => typeof node === 'string') ? '' : ['', ' ', '\n\t', ' \n'][choose(4)]!
  const written = nodes.map(
    (node, i) => gap(nodes[i - 1], node) + (typeof node === 'string' ? text(node, choose) : element(node, defaultNs, choose)),
  )
  return written.join('') + gap(nodes.at(-1))
}

function text(plain: string, choose: Choose): string {
  return plain.replace(/[&<>'"\r]|]/g, (character) => {
    if (character === ']' || (/['"]/.test(character) && choose(2) === 0)) return character
    const named = NAMED[character]
    return named !== undefined && choose(2) === 0 ? named : `&#${character.codePointAt(0)};`
  })
}
const NAMED: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', "'": '&apos;', '"': '&quot;' }

function value(plain: string, quote: string, choose: Choose): string {
  const escaped = plain.replace(/[&<>\r\n\t]|['"]/g, (character) =>
    /['"]/.test(character) && character !== quote && choose(2) === 0
      ? character
      : `&#x${character.codePointAt(0)!.toString(16)};`,
  )
  return `${quote}${escaped}${quote}`
}

function element({ name, ns, attrs, children }: Element, defaultNs: string, choose: Choose): string {
  const quoted = (plain: string): string => value(plain, `'"`[choose(2)]!, choose)
  const prefixed = ns !== '' && ns !== NS_XML && choose(3) === 0
  const inner = ns === NS_XML || (prefixed && choose(2) === 0) ? defaultNs : ns
  const parts: string[] = []
  let [qname, prefixes] = [name, 0]
  const declare = (uri: string): string => {
    const prefix = `${['p', 'q', '_'][choose(3)]}${prefixes++}`
    parts.push(`xmlns:${prefix}=${quoted(uri)}`)
    return prefix
  }
  if (ns === NS_XML) qname = `xml:${name}`
  else if (prefixed) qname = `${declare(ns)}:${name}`
  if (inner !== defaultNs || choose(5) === 0) parts.push(`xmlns=${quoted(inner)}`)
  for (const [key, plain] of Object.entries(attrs)) {
    const close = key.lastIndexOf('}')
    const [uri, local] = [key.slice(1, close), key.slice(close + 1)]
    if (close < 0) parts.push(`${key}=${quoted(plain)}`)
    else parts.push(`${uri === NS_XML ? 'xml' : declare(uri)}:${local}=${quoted(plain)}`)
  }
  for (let i = parts.length - 1; i > 0; i--) {
    const j = choose(i + 1)
    ;[parts[i], parts[j]] = [parts[j]!, parts[i]!]
  }
  const tag = [qname, ...parts].join([' ', '\n', '  '][choose(3)])
  if (children.length === 0 && choose(2) === 0) return `<${tag}${['', ' '][choose(2)]}/>`
  return `<${tag}>${rewritten(children, inner, choose, false)}</${qname}>`
}

/** The same document but for one thing, somewhere. */
function changed(nodes: readonly (Element | string)[], choose: Choose): (Element | string)[] {
  const at = choose(nodes.length)
  const node = nodes[at]!
  const put = (...instead: (Element | string)[]): (Element | string)[] => [
    ...nodes.slice(0, at),
    ...instead,
    ...nodes.slice(at + 1),
  ]
  if (typeof node === 'string') return put([`${node}x`, `x${node}`][choose(2)]!)
  const { attrs, children } = node
  if (children.length > 0 && choose(2) === 0) return put({ ...node, children: changed(children, choose) })
  const keys = Object.keys(attrs)
  const key = keys[choose(Math.max(1, keys.length))]
  const rest = Object.fromEntries(Object.entries(attrs).filter(([other]) => other !== key))
  switch (choose(7)) {
    case 0:
      return put()
    case 1:
      return put(node, { name: 'more', ns: 'jabber:client', attrs: {}, children: [] })
    case 2:
      return put({ ...node, name: `${node.name}x` })
    case 3:
      return put({ ...node, ns: 'urn:another' })
    case 4:
      return put({ ...node, children: [...children, { name: 'inner', ns: '', attrs: {}, children: [] }] })
    case 5:
      return put({ ...node, attrs: { ...rest, another: 'a' } })
    default:
      return key === undefined ? put(node, node) : put({ ...node, attrs: { ...rest, [key]: `${attrs[key]}x` } })
  }
}

describe(`any payload that the edge hands on (seed ${SEED})`, () => {
  test('is the same in another hand, and so as the edge hands that on', () => {
    fc.assert(
      fc.property(payload, choices, (payload, choose) => {
        const other = rewritten(documentOf(payload), 'jabber:client', choose)
        fc.pre(!trimmed(other))
        expect(isSame(documentOf(other), documentOf(payload)), 'the test writes what it has read').toBe(true)
        expect(same(payload, other)).toBe(true)
        expect(same(payload, scanned(`<presence>${other}</presence>`)!)).toBe(true)
      }),
      { numRuns: 1_000 },
    )
  })

  test('is another with one thing changed, in whatever hand', () => {
    fc.assert(
      fc.property(payload, choices, (payload, choose) => {
        const document = documentOf(payload)
        fc.pre(document.length > 0)
        const other = rewritten(changed(document, choose), 'jabber:client', choose)
        fc.pre(!trimmed(other) && !isSame(documentOf(other), document))
        expect(same(payload, other)).toBe(false)
      }),
      { numRuns: 1_000 },
    )
  })
})

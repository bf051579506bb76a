import { describe, expect, test } from 'vitest'
import { NS_CLIENT, NS_XML } from './ns.ts'
import { el } from './stanza.ts'
import { escapeAttribute, escapeText, parseChildren, parseElement, serialise } from './xml.ts'

const bytes = (text: string) => Buffer.from(text)

describe('XML 1.0 §2.4 Character Data and Markup: escaping', () => {
  test('an attribute value has its markup, quotes, tabs and newlines as references', () => {
    expect(escapeAttribute(`a&b<c>d'e"f\tg\nh\ri`)).toBe('a&amp;b&lt;c&gt;d&apos;e&quot;f&#x9;g&#xA;h&#xD;i')
  })

  test('text has its markup and carriage returns as references, and nothing else', () => {
    expect(escapeText(`a&b<c>d'e"f\tg\nh\ri`)).toBe(`a&amp;b&lt;c&gt;d'e"f\tg\nh&#xD;i`)
  })

  test('text beyond the basic plane passes', () => {
    expect(escapeText('\u{1F426} \uD7FF\uE000\uFFFD\u{10FFFF}')).toBe('\u{1F426} \uD7FF\uE000\uFFFD\u{10FFFF}')
  })

  test.each(['\0', '\x08', '\x0B', '\x1F', '\uFFFE', '\uFFFF', '\uD800', 'a\uDC00b', '\uDC00\uD800'])(
    '%j is no XML character and throws',
    (text) => {
      expect(() => escapeText(text)).toThrow('no XML character')
      expect(() => escapeAttribute(text)).toThrow('no XML character')
    },
  )
})

describe('XML 1.0: what ltx alone gets wrong', () => {
  test('text behind a CDATA section is kept, in one piece with it', () => {
    expect(parseElement('<a>1<![CDATA[<2>&amp;]]>3<![CDATA[]]]]><![CDATA[>]]></a>').children).toEqual(['1<2>&amp;3]]>'])
  })

  test('an attribute called __proto__ is an attribute', () => {
    const element = parseElement(`<a __proto__='x' b='__proto__'><__proto__ xmlns='__proto__'/>__proto__</a>`)
    expect(Object.entries(element.attrs)).toEqual([
      ['__proto__', 'x'],
      ['b', '__proto__'],
    ])
    expect(Object.getPrototypeOf(element.attrs)).toBe(Object.prototype)
    expect(element.children).toEqual([{ name: '__proto__', ns: '__proto__', attrs: {}, children: [] }, '__proto__'])
    expect(serialise(element, '')).toContain("__proto__='x'")
  })

  test('§2.11: a carriage return, with or without a newline, is a newline', () => {
    expect(parseElement('<a>1\r\n2\r3<![CDATA[\r\n]]>&#13;</a>').children).toEqual(['1\n2\n3\n\r'])
  })

  test('§3.3.3: a tab or newline in an attribute value is a space, unless it is a reference', () => {
    expect(parseElement(`<a b='1\t2\n3\r\n4&#9;5&#xA;6>"' c="'">\t</a>`)).toEqual(
      el('a', '', { b: '1 2 3 4\t5\n6>"', c: "'" }, '\t'),
    )
  })

  test('Namespaces §6.2: xmlns="" is no namespace, not the one outside', () => {
    expect(parseElement(`<a xmlns='x'><b xmlns=''><c/></b></a>`).children).toEqual([el('b', '', {}, el('c', ''))])
  })
})

describe('Namespaces in XML 1.0', () => {
  test('elements and attributes get the namespace of their prefix, innermost first', () => {
    const element = parseElement(
      `<p:a xmlns:p='1' p:x='y' z='0'><p:b xmlns:p='2' p:x='y'/><p:c xml:lang='en' xml:space='preserve'/></p:a>`,
      'd',
    )
    expect(element).toEqual(
      el(
        'a',
        '1',
        { '{1}x': 'y', z: '0' },
        el('b', '2', { '{2}x': 'y' }),
        el('c', '1', { 'xml:lang': 'en', [`{${NS_XML}}space`]: 'preserve' }),
      ),
    )
  })

  test('children inherit the default namespace they are parsed in', () => {
    expect(parseChildren(bytes(`text<body/> <x xmlns='y'><z/></x>tail`), NS_CLIENT)).toEqual([
      el('body', NS_CLIENT),
      el('x', 'y', {}, el('z', 'y')),
    ])
    expect(parseChildren(bytes(''), NS_CLIENT)).toEqual([])
    expect(parseChildren(bytes('only text'), NS_CLIENT)).toEqual([])
  })

  test('a long namespace used by many elements is one string', () => {
    const ns = 'x'.repeat(1000)
    const { children } = parseElement(`<a xmlns:p='${ns}'>${'<p:b/>'.repeat(15_000)}</a>`)
    expect(children).toHaveLength(15_000)
    expect(() => serialise(children, '', 262_144)).toThrow(RangeError)
  })
})

describe('parseElement and parseChildren refuse what is not well-formed', () => {
  test.each([
    ['', 'nothing'],
    ['text', 'no element'],
    ['<a>', 'an open element'],
    ['<a', 'an open tag'],
    ['<a></b>', 'an end tag that does not match'],
    ['<a><b></a></b>', 'elements that overlap'],
    ['<a/><b/>', 'two roots'],
    ['<a/>text', 'text behind the root'],
    ['</a>', 'an end tag alone'],
    ['<a b/>', 'an attribute without a value'],
    ['<a b=c/>', 'a value without quotes'],
    [`<a b='1'c='2'/>`, 'no space between attributes'],
    [`<a b='1' b='2'/>`, 'an attribute twice'],
    [`<a b='<'/>`, '< in a value'],
    ['<a / b="c"/>', 'a stray /'],
    ['<a!b/>', 'a name with !'],
    ['<p:a/>', 'an undeclared prefix'],
    ['<a>&nbsp;</a>', 'an entity of HTML'],
    ['<a>&amp</a>', 'a reference without its end'],
    ['<a>&#0;</a>', 'a reference to no character'],
    ['<a>]]></a>', ']]> in text'],
    ['<a><!-- --></a>', 'a comment'],
    ['<?xml version="1.0"?><a/>', 'a declaration'],
    ['<!DOCTYPE a><a/>', 'a document type'],
    ['<a>\0</a>', 'a control character'],
    ['<a>\uD800</a>', 'a lone surrogate'],
  ])('%j: %s', (text) => {
    expect(() => parseElement(text)).toThrow(Error)
  })

  test.each([
    '</a>',
    '<a>',
    '<a',
    '<',
    '&amp',
    '&',
    '<![CDATA[',
    '<![CDATA[]]',
    'a]]>',
    ']]>',
    '<a/></message><message>',
    '<p:a/>',
  ])('%j is no content', (text) => {
    expect(() => parseChildren(bytes(text), NS_CLIENT)).toThrow(/not well-formed/)
  })

  test('bytes that are not UTF-8', () => {
    for (const bad of [[0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xe2, 0x82]])
      expect(() => parseElement(Buffer.from([0x3c, 0x61, 0x3e, ...bad, 0x3c, 0x2f, 0x61, 0x3e]))).toThrow(/not UTF-8/)
  })

  test('is no StreamError: it is not the stream that is wrong', () => {
    expect(() => parseElement('<a>')).toThrow(expect.objectContaining({ name: 'Error' }))
    expect(() => parseElement('<a></b>')).toThrow(expect.objectContaining({ name: 'Error' }))
  })
})

describe('serialise', () => {
  test('xmlns is written only where the namespace changes', () => {
    expect(serialise(el('a', NS_CLIENT, {}, el('b', 'x', {}, el('c', 'x')), el('d', NS_CLIENT)), NS_CLIENT)).toBe(
      "<a><b xmlns='x'><c/></b><d/></a>",
    )
    expect(serialise(el('a', 'x', {}, el('b', '')), '')).toBe("<a xmlns='x'><b xmlns=''/></a>")
    expect(serialise([el('a', ''), '<', el('b', '')], '')).toBe('<a/>&lt;<b/>')
  })

  test('an attribute in a namespace gets a prefix of its own', () => {
    expect(serialise(el('a', '', { a0: '1', '{u}b': '2', '{u}c': '3', 'xml:lang': 'de' }), '')).toBe(
      "<a a0='1' xmlns:a1='u' a1:b='2' xmlns:a2='u' a2:c='3' xml:lang='de'/>",
    )
  })

  test.each([
    [el('a b', ''), 'a name with a space'],
    [el('', ''), 'no name'],
    [el('p:a', ''), 'a name with a colon'],
    [el('1a', ''), 'a name that begins with a digit'],
    [el('a', '', { 'b c': '' }), 'an attribute name with a space'],
    [el('a', '', { xmlns: 'x' }), 'a declaration as an attribute'],
    [el('a', '', { 'xmlns:p': 'x' }), 'a declared prefix as an attribute'],
    [el('a', '', { '{}b': '' }), 'an attribute in no namespace as if in one'],
    [el('a', '', { '{http://www.w3.org/2000/xmlns/}b': '' }), 'an attribute in the namespace of xmlns'],
    [el('a', 'http://www.w3.org/2000/xmlns/'), 'the namespace of xmlns'],
    [el('a', '', { 'xml:lang': 'a', [`{${NS_XML}}lang`]: 'b' }), 'xml:lang twice'],
    [el('a', '\0'), 'a namespace with a control character'],
    [el('a', '', { b: '\0' }), 'a value with a control character'],
    [el('a', '', {}, '\uD800'), 'text with a lone surrogate'],
    [el('a', '', { b: 1 as unknown as string }), 'a value that is no string'],
  ])('%j throws: %s', (element) => {
    expect(() => serialise(element, '')).toThrow(Error)
  })
})

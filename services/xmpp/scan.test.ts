import { describe, expect, test } from 'vitest'
import { StreamError } from './error.ts'
import { NS_CLIENT, NS_FRAMING, NS_SASL, NS_STREAM } from './ns.ts'
import { conditionOf, HEADER, LIMITS, opened, scanner } from './scan.fixture.ts'
import { type ScanLimits, type ScannedElement, Scanner } from './scan.ts'
import { el } from './stanza.ts'

/** The condition a stream ends with when `text` comes in it; the same when it comes byte by byte. */
function refusal(text: string | Uint8Array, limits: Partial<ScanLimits> = {}, header = HEADER): string {
  const bytes = Buffer.from(text as string)
  const whole = conditionOf(() => {
    const stream = scanner('stream', limits)
    stream.push(header)
    stream.push(bytes)
  })
  const slowly = conditionOf(() => {
    const stream = scanner('stream', limits)
    stream.push(header)
    for (const byte of bytes) stream.push(Uint8Array.of(byte))
  })
  expect(slowly).toBe(whole)
  return whole
}

function payloadOf(stanza: string): string {
  const { to, push } = opened()
  push(stanza)
  return to.seen[0]!.payload
}

describe('RFC 6120 §4.7 Stream Attributes', () => {
  test('the header is reported, its attributes decoded, those absent empty', () => {
    const { to, push } = scanner('stream')
    push(`<?xml version="1.0" encoding='utf-8' standalone="yes"?>\n<stream:stream from='a&amp;b@c' to='example.org' version='1.0' xml:lang='en'
      xmlns='jabber:client' xmlns:stream='${NS_STREAM}'>`)
    expect(to.opens).toEqual([
      {
        name: 'stream',
        ns: NS_STREAM,
        defaultNs: NS_CLIENT,
        to: 'example.org',
        from: 'a&b@c',
        id: '',
        version: '1.0',
        lang: 'en',
      },
    ])
  })

  test('any prefix may stand for the stream namespace; the content namespace is for the edge to judge', () => {
    const { to, push } = scanner('stream')
    push(`<s:stream xmlns:s='${NS_STREAM}' xmlns='jabber:server'/>`)
    expect(to.opens[0]).toMatchObject({ ns: NS_STREAM, defaultNs: 'jabber:server', to: '' })
    expect(to.ends).toBe(1)
  })

  test.each<[string | Uint8Array, string, string]>([
    [
      '<stream:stream xmlns="jabber:client" xmlns:stream="urn:other">',
      'invalid-namespace',
      '§4.9.3.10: another stream namespace',
    ],
    ['<stream xmlns="jabber:client">', 'invalid-namespace', '§4.9.3.10: no stream namespace'],
    [`<stream:features xmlns='jabber:client' xmlns:stream='${NS_STREAM}'>`, 'bad-format', 'another element of it'],
    ['<stream:stream>', 'not-well-formed', '§11.3: a prefix that is not declared'],
    ['<stream:stream to="a" to="b">', 'not-well-formed', 'an attribute twice'],
    ['</stream:stream>', 'not-well-formed', 'an end before the start'],
    ['GET / HTTP/1.1\r\n', 'not-well-formed', 'another protocol'],
    ['\x16\x03\x01', 'not-well-formed', 'TLS, unasked'],
    [Buffer.from('\uFEFF<stream:stream>'), 'not-well-formed', '§11.6: a byte order mark is no such thing, but a character'],
    [Buffer.from('\uFEFF<stream:stream>', 'utf16le'), 'unsupported-encoding', '§11.6: UTF-16'],
    ['<?xml version="1.0" encoding="iso-8859-1"?>', 'unsupported-encoding', '§11.6: another encoding'],
    ['<?xml version="1.1"?>', 'not-well-formed', 'another version'],
    ['<?xml encoding="utf-8"?>', 'not-well-formed', 'a declaration without version'],
    ['<?xml version="1.0">', 'not-well-formed', 'a declaration without ?>'],
    [' <?xml version="1.0"?>', 'restricted-xml', 'a declaration that is not first'],
    ['<?xml version="1.0"?><?xml version="1.0"?>', 'restricted-xml', 'two declarations'],
    ['<?xml-stylesheet href="x"?>', 'restricted-xml', '§11.1: a processing instruction'],
    ['<!DOCTYPE stream SYSTEM "x">', 'restricted-xml', '§11.1: a document type'],
    ['<!-- hello -->', 'restricted-xml', '§11.1: a comment'],
    [`<stream:stream a='${'x'.repeat(9000)}'>`, 'policy-violation', 'a header over 8 KiB'],
    [`<stream:stream a='${'x'.repeat(9000)}`, 'policy-violation', 'a header over 8 KiB that does not end'],
    [`<stream:stream a='x'${' '.repeat(9000)}`, 'policy-violation', 'a header that goes on with nothing'],
  ])('%s is %s: %s', (text, condition) => {
    expect(refusal(text, {}, '')).toBe(condition)
  })
})

describe('RFC 6120 §8.1 Common Attributes', () => {
  test("a root's attributes are decoded, and those absent are empty or undefined", () => {
    const { to, push } = opened()
    push(
      `<message to='juliet@example.org/b&apos;&#x1F426;' from="romeo@example.org" id='&lt;1&gt;' type='chat' xml:lang='en'><body>x</body><o/></message><iq/>`,
    )
    expect(to.seen).toEqual([
      {
        ...{
          name: 'message',
          ns: NS_CLIENT,
          to: "juliet@example.org/b'\u{1F426}",
          from: 'romeo@example.org',
          id: '<1>',
          type: 'chat',
          lang: 'en',
        },
        ...{ child: '{jabber:client}body', childCount: 2, payload: '<body>x</body><o/>' },
      },
      {
        name: 'iq',
        ns: NS_CLIENT,
        to: undefined,
        from: undefined,
        id: '',
        type: '',
        lang: '',
        child: '',
        childCount: 0,
        payload: '',
      },
    ])
  })

  test('an attribute that only looks like one of them is none', () => {
    const { to, push } = opened()
    push(`<message o:to='a' tO='b' idd='c' typo='d' form='e' lang='f' to=''/>`)
    expect(to.seen[0]).toMatchObject({ to: '', from: undefined, id: '', type: '', lang: '' })
  })

  test('the same child is told by its namespace, however that is written', () => {
    const { to, push } = opened()
    push(
      `<iq><q xmlns='urn:q'/></iq><iq xmlns:p='urn:q'><p:q/></iq><iq xmlns='urn:q'><q/></iq><iq>text<o:q/><q/></iq><iq><q xmlns='urn:&#x71;'/></iq><iq><q/></iq>`,
    )
    expect(to.seen.map((one) => one.child)).toEqual([
      '{urn:q}q',
      '{urn:q}q',
      '{urn:q}q',
      '{urn:outer}q',
      '{urn:q}q',
      '{jabber:client}q',
    ])
    expect(to.seen[2]!.ns).toBe('urn:q')
  })

  test('strings that were read before do not stand in for others', () => {
    const { to, push } = opened()
    const addresses = Array.from({ length: 5000 }, (_, n) => `user${n % 2 === 0 ? n : 'é'}@example.org/${n}`)
    for (const address of [...addresses, ...addresses]) push(`<message to='${address}'/>`)
    expect(to.seen.map((one) => one.to)).toEqual([...addresses, ...addresses])
  })

  test('what is kept of Latin-1 text is not found by the UTF-8 of other text', () => {
    // The units of the first are the bytes of the second; only where both are kept in one place does it matter.
    const { to, push } = opened()
    const addresses = Array.from({ length: 6000 }, (_, n) => [`\u00E9\u00A0\u0080${n}`, `\u9800${n}`]).flat()
    for (const address of addresses) push(`<message to='${address}'/>`)
    expect(to.seen.map((one) => one.to)).toEqual(addresses)
  })

  test('element() is the whole, with all attributes, and may be kept', () => {
    const { to, push } = opened()
    const chunk = Buffer.from(
      `<auth xmlns='${NS_SASL}' mechanism='PLAIN'>AGE=</auth><features xmlns='x'><o:a o:b='1'/></features>`,
    )
    push(chunk)
    chunk.fill(0)
    expect(to.trees).toEqual([
      el('auth', NS_SASL, { mechanism: 'PLAIN' }, 'AGE='),
      el('features', 'x', {}, el('a', 'urn:outer', { '{urn:outer}b': '1' })),
    ])
  })

  test('attribute() is of the root alone, decoded, by its whole name', () => {
    const { to, push } = opened()
    const values: string[] = []
    to.onElement = (element) => {
      values.push(...['h', 'q', 'b', 'id'].map((name) => element.attribute(name)))
    }
    for (const xml of [`<a o:h='7' h='&#49;&amp;' q="'" id='x'><c b='inner' h='2'/></a>`, '<a/>', "<a\th\n=\n'3' ></a>"])
      push(xml)
    expect(values).toEqual(['1&', "'", '', 'x', '', '', '', '', '3', '', '', ''])
  })

  test('a scanned element that outlives the call says so', () => {
    const { to, push } = opened()
    let kept: ScannedElement | undefined
    to.onElement = (element) => {
      kept = element
    }
    push('<iq><a/></iq>')
    expect(() => kept!.element()).toThrow(/only during the call/)
    expect(() => kept!.attribute('id')).toThrow(/only during the call/)
    expect(kept!.payload).toHaveLength(0)
  })
})

describe('bytes travel', () => {
  test('a payload in one chunk is a view of the chunk, for Buffers and plain arrays', () => {
    for (const make of [(text: string) => Buffer.from(text), (text: string) => new Uint8Array(Buffer.from(text))]) {
      const { to, scan } = opened()
      const chunk = make(`<message to='a'><body>é &amp; x > y</body>\n<x xmlns='y' z="'"/></message>`)
      let shared = false
      to.onElement = (element) => {
        shared = element.payload.buffer === chunk.buffer
      }
      scan.push(chunk)
      expect(shared).toBe(true)
      expect(to.seen[0]!.payload).toBe(`<body>é &amp; x > y</body>\n<x xmlns='y' z="'"/>`)
    }
  })

  test('every cut in two gives the same as none', () => {
    const text = `<message to='é' id="1"><body>\u{1F426} &amp; ]] ></body><x xmlns='y' z='>'/></message> <presence/>`
    const { to: expected, push } = opened()
    push(text)
    const bytes = Buffer.from(text)
    for (let at = 0; at <= bytes.length; at++) {
      const { to, scan } = opened()
      scan.push(bytes.subarray(0, at))
      scan.push(bytes.subarray(at))
      expect(to.seen).toEqual(expected.seen)
      expect(scan.bufferedBytes).toBe(0)
    }
  })

  test('the rest of a chunk behind a stanza that was gathered is scanned as well', () => {
    const { to, push } = opened()
    push(`<message id='1'><body>${'x'.repeat(10_000)}`)
    push(`</body></message>${Array.from({ length: 500 }, (_, n) => `<iq id='${n + 2}'/>`).join('')}<iq id='501`)
    push(`x'/>`)
    expect(to.seen[0]!.payload).toHaveLength(10_013)
    expect(to.ids).toEqual([...Array.from({ length: 501 }, (_, n) => String(n + 1)), '501x'])
  })
})

describe('"XMPP stanza smuggling" (2022): what is legal but unusual is written anew', () => {
  test.each([
    ['<body><![CDATA[</body><x/>]]>&amp;</body>', '<body>&lt;/body&gt;&lt;x/&gt;&amp;</body>', 'a CDATA section'],
    ['<body>&#60;x&#x3E;</body>', '<body>&lt;x&gt;</body>', 'markup as character references'],
    ['<body>&#x41;</body>', '<body>A</body>', 'a letter as a character reference'],
    ['<body>a\rb\r\nc</body>', '<body>a\nb\nc</body>', 'a carriage return'],
    ['<body>&#13;</body>', '<body>&#xD;</body>', 'a carriage return that was meant'],
    ["<x a='1\t2\n3'/>", "<x a='1 2 3'/>", 'a tab and a newline in an attribute value'],
    ["<x a='&#65;&amp;'/>", "<x a='A&amp;'/>", 'a character reference in an attribute value'],
    ["<x a='&#9;&#xa;&#13;'/>", "<x a='&#x9;&#xA;&#xD;'/>", 'whitespace in an attribute value that was meant'],
    ["<x\r\na='1'/>", "<x a='1'/>", 'a carriage return in a tag'],
    ['<o:x/>', "<x xmlns='urn:outer'/>", "a prefix of the stream's header"],
    ["<x o:a='1'/>", "<x xmlns:a0='urn:outer' a0:a='1'/>", 'an attribute with such a prefix'],
    ["<x xmlns='y'><z><o:x/></z></x>", "<x xmlns='y'><z><x xmlns='urn:outer'/></z></x>", 'such a prefix further down'],
    ['<stream:error/>', `<error xmlns='${NS_STREAM}'/>`, 'the prefix of the stream itself'],
  ])('%j goes on as %j: %s', (payload, rewritten) => {
    expect(payloadOf(`<message>${payload}</message>`)).toBe(rewritten)
  })

  test.each([
    ["<message xmlns:p='urn:p'><p:x/></message>", "<x xmlns='urn:p'/>", 'a prefix declared on the root'],
    ["<o:message xmlns:o='jabber:client'><o:body/></o:message>", '<body/>', 'a prefix of the header declared again on the root'],
    [
      "<x:message xmlns:x='jabber:client' xmlns='urn:y'><foo/></x:message>",
      "<foo xmlns='urn:y'/>",
      'children in another default namespace than the root',
    ],
    ["<x:message xmlns:x='jabber:client' xmlns=''><foo/></x:message>", "<foo xmlns=''/>", 'children in no namespace'],
    ["<message xmlns='jabber:server'><body/></message>", "<body xmlns='jabber:server'/>", 'a root in another namespace'],
  ])('%s has the payload %s: %s', (stanza, payload) => {
    expect(payloadOf(stanza)).toBe(payload)
  })

  test.each([
    ["<x:message xmlns:x='jabber:client'><x/></x:message>", '<x/>', 'a prefix on the root alone, in a stream'],
    [
      "<message><p:x xmlns:p='urn:p' p:a='1'><p:y/></p:x></message>",
      "<p:x xmlns:p='urn:p' p:a='1'><p:y/></p:x>",
      'a prefix declared inside',
    ],
    ["<message><o:x xmlns:o='urn:p'/></message>", "<o:x xmlns:o='urn:p'/>", 'a prefix declared again inside'],
    [
      "<message xmlns:p='urn:p' id='&#49;\t'><x xml:lang='en'/></message>",
      "<x xml:lang='en'/>",
      'oddities of the root alone, which is written anew in any case',
    ],
    ["<message><x xmlns=''/></message>", "<x xmlns=''/>", 'no namespace, said inside'],
    ['<message>text</message>', 'text', 'text in the root'],
  ])('%s stays as it is, %s: %s', (stanza, payload) => {
    expect(payloadOf(stanza)).toBe(payload)
  })

  test('a frame has no namespaces but its own', () => {
    const { to, push } = scanner('frame')
    push("<x:message xmlns:x='jabber:client'><foo/></x:message>")
    push("<message xmlns='jabber:client'><foo/></message>")
    push('<message><foo/></message>')
    expect(to.seen.map((one) => [one.ns, one.child, one.payload])).toEqual([
      [NS_CLIENT, '{}foo', "<foo xmlns=''/>"],
      [NS_CLIENT, '{jabber:client}foo', '<foo/>'],
      ['', '{}foo', "<foo xmlns=''/>"],
    ])
    expect(conditionOf(() => push("<message xmlns='jabber:client'><x:foo/></message>"))).toBe('not-well-formed')
  })

  test('a rewritten payload is held to the limit too', () => {
    const ns = 'n'.repeat(900)
    expect(refusal(`<message xmlns:p='${ns}'>${'<p:x/>'.repeat(15_000)}</message>`)).toBe('policy-violation')
    expect(refusal(`<message><b><![CDATA[${'<'.repeat(100_000)}]]></b></message>`)).toBe('policy-violation')
    const { to, push } = opened()
    push(`<message><y xmlns:p='${ns}'>${'<p:x/>'.repeat(15_000)}</y></message>`)
    expect(to.seen[0]!.childCount).toBe(1)
  })
})

describe('RFC 6120 §11: what ends a stream', () => {
  test.each([
    ['<a><!-- x --></a>', 'restricted-xml', '§11.1: a comment'],
    ['<a><?x y?></a>', 'restricted-xml', '§11.1: a processing instruction'],
    ['<!-- x -->', 'restricted-xml', 'a comment between stanzas'],
    ['<?xml version="1.0"?>', 'restricted-xml', 'a declaration inside the stream'],
    ['<!DOCTYPE a [<!ENTITY b "c">]>', 'restricted-xml', 'a document type'],
    ['<a>&b;</a>', 'restricted-xml', 'an entity reference'],
    ["<a b='&nbsp;'/>", 'restricted-xml', 'an entity reference in a value'],
    ['<a>&AMP;</a>', 'restricted-xml', 'an entity in capitals'],
    ['<a>& </a>', 'not-well-formed', 'a stray &'],
    ['<a>&;</a>', 'not-well-formed', 'an empty reference'],
    ['<a>&amp</a>', 'not-well-formed', 'a reference without its end'],
    ['<a>&#;</a>', 'not-well-formed', 'a reference without a number'],
    ['<a>&#x;</a>', 'not-well-formed', 'a hexadecimal reference without a number'],
    ['<a>&#X41;</a>', 'not-well-formed', 'a capital X'],
    ['<a>&#4a;</a>', 'not-well-formed', 'a hexadecimal number said to be decimal'],
    ['<a>&#0;</a>', 'not-well-formed', 'a reference to NUL'],
    ['<a>&#xB;</a>', 'not-well-formed', 'a reference to a control character'],
    ['<a>&#xD800;</a>', 'not-well-formed', 'a reference to a surrogate'],
    ['<a>&#xFFFE;</a>', 'not-well-formed', 'a reference to U+FFFE'],
    ['<a>&#x110000;</a>', 'not-well-formed', 'a reference above U+10FFFF'],
    ['<a>&#00000000000000000065;</a>', 'policy-violation', 'a reference over 16 bytes'],
    ['<a>\x00</a>', 'not-well-formed', 'NUL'],
    ['<a>\x1B</a>', 'not-well-formed', 'a control character'],
    ["<a b='\x01'/>", 'not-well-formed', 'a control character in a value'],
    ['<a><![CDATA[\x02]]></a>', 'not-well-formed', 'a control character in a CDATA section'],
    ['<a>\uFFFE</a>', 'not-well-formed', 'U+FFFE'],
    ['<a>]]></a>', 'not-well-formed', ']]> in text'],
    ['<a>]]]></a>', 'not-well-formed', ']]]> in text'],
    ['<a></b>', 'not-well-formed', 'an end tag that does not match'],
    ['<a></ab>', 'not-well-formed', 'an end tag that begins like it'],
    ['<ab></a>', 'not-well-formed', 'an end tag that is the beginning of it'],
    ['<a></ a>', 'not-well-formed', 'a space before the name in an end tag'],
    ["<a></a b='c'>", 'not-well-formed', 'an attribute in an end tag'],
    ['<a><b></a></b>', 'not-well-formed', 'elements that overlap'],
    ["<p:a xmlns:p='x' xmlns:q='x'></q:a>", 'not-well-formed', 'an end tag with another prefix of the same namespace'],
    ['< a/>', 'not-well-formed', 'a space before the name'],
    ['<>', 'not-well-formed', 'no name'],
    ['<1a/>', 'not-well-formed', 'a name that begins with a digit'],
    ['<a$/>', 'not-well-formed', 'a name with a sign'],
    ['<\u00D7/>', 'not-well-formed', 'a name with a sign that is not ASCII'],
    ['<a\u037E/>', 'not-well-formed', 'a Greek question mark in a name'],
    [`<a:b:c xmlns:a='x'/>`, 'not-well-formed', 'two colons'],
    ['<:a/>', 'not-well-formed', 'an empty prefix'],
    [`<p: xmlns:p='x'/>`, 'not-well-formed', 'an empty local part'],
    [`<p:1 xmlns:p='x'/>`, 'not-well-formed', 'a local part that begins with a digit'],
    ['<a b/>', 'not-well-formed', 'an attribute without a value'],
    ['<a b=c/>', 'not-well-formed', 'a value without quotes'],
    [`<a b='c"/>'`, 'none', 'quotes of two kinds: the value goes on'],
    [`<a b='c'd='e'/>`, 'not-well-formed', 'no space between attributes'],
    [`<a b='<'/>`, 'not-well-formed', '< in a value'],
    [`<a b='c' b='d'/>`, 'not-well-formed', 'an attribute twice'],
    [`<a xmlns='c' xmlns='c'/>`, 'not-well-formed', 'a default namespace twice'],
    [`<a xmlns:p='x' xmlns:q='x' p:b='1' q:b='2'/>`, 'not-well-formed', 'an attribute twice by two prefixes'],
    [`<a xmlns:p='x' xmlns:q='&#x78;' p:b='1' c='' q:b='2'/>`, 'not-well-formed', 'the same, disguised'],
    ['<a / >', 'not-well-formed', 'a space behind the /'],
    ['<a /b/>', 'not-well-formed', 'a stray /'],
    ['<p:a/>', 'not-well-formed', '§11.3: a prefix that is not declared'],
    ["<a p:b=''/>", 'not-well-formed', 'the same on an attribute'],
    ["<a><b xmlns:p='x'/><p:c/></a>", 'not-well-formed', 'a prefix declared on a sibling'],
    ["<a xmlns:p='x'/><p:b/>", 'not-well-formed', 'a prefix declared on the stanza before'],
    ["<a xmlns:p=''/>", 'not-well-formed', 'a prefix that is undeclared'],
    ["<a xmlns:xml='x'/>", 'not-well-formed', 'xml for another namespace'],
    ["<a xmlns:p='http://www.w3.org/XML/1998/namespace'/>", 'not-well-formed', 'the namespace of xml for another prefix'],
    ["<a xmlns='http://www.w3.org/XML/1998/namespace'/>", 'not-well-formed', 'the namespace of xml as default'],
    ["<a><b xmlns='http://www.w3.org/2000/xmlns/'/></a>", 'not-well-formed', 'the namespace of xmlns as default'],
    ["<a xmlns:xmlns='x'/>", 'not-well-formed', 'xmlns as a prefix'],
    ['<xmlns:a/>', 'not-well-formed', 'xmlns as the prefix of an element'],
    ['text', 'bad-format', 'text between stanzas'],
    ['<a/>&#32;<a/>', 'bad-format', 'a reference between stanzas'],
    ['<![CDATA[ ]]>', 'not-well-formed', 'a CDATA section between stanzas'],
    ['<![CDATX', 'restricted-xml', 'what is almost a CDATA section'],
    ['</stream>', 'not-well-formed', 'the end of another stream'],
    ["</stream:stream a='b'>", 'not-well-formed', 'an end with attributes'],
    [`</stream:stream${' '.repeat(9000)}`, 'policy-violation', 'an end that does not end'],
    [`<a xmlns:xml='http://www.w3.org/XML/1998/namespace' xml:b=''/>`, 'none', 'xml declared for what it is'],
    ['<_e-:b.-1 xmlns:_e-="x" _Z9="]]>"/>', 'none', 'names of all kinds'],
    ['<é/>', 'policy-violation', 'a name that is not ASCII'],
    ["<a b\u00B7='x'/>", 'policy-violation', 'an attribute whose name is not ASCII'],
    ["<p\u0131:a xmlns:p\u0131='x'/>", 'policy-violation', 'a prefix that is not ASCII'],
    ['<\u{10000}/>', 'policy-violation', "a name of XML's fifth edition, which expat would take for the end of its stream"],
  ])('%s is %s: %s', (text, condition) => {
    expect(refusal(text)).toBe(condition)
  })

  test.each([
    ['an overlong /', [0xc0, 0xaf]],
    ['an overlong NUL', [0xc0, 0x80]],
    ['an overlong < of three bytes', [0xe0, 0x80, 0xbc]],
    ['an overlong < of four bytes', [0xf0, 0x80, 0x80, 0xbc]],
    ['a surrogate', [0xed, 0xa0, 0x80]],
    ['above U+10FFFF', [0xf4, 0x90, 0x80, 0x80]],
    ['five bytes', [0xf8, 0x88, 0x80, 0x80, 0x80]],
    ['a continuation alone', [0x80]],
    ['cut off by a tag', [0xe2, 0x82]],
    ['cut off after the lead', [0xf0]],
    ['Latin-1', [0xe9]],
    ['0xFF', [0xff]],
  ])('§11.6: %s is unsupported-encoding, in text, value, name, CDATA section and between stanzas', (_, bad) => {
    const wrap = (before: string, after: string) => Buffer.concat([Buffer.from(before), Buffer.from(bad), Buffer.from(after)])
    expect(refusal(wrap('<a>', '</a>'))).toBe('unsupported-encoding')
    expect(refusal(wrap("<a b='", "'/>"))).toBe('unsupported-encoding')
    expect(refusal(wrap('<a', '/>'))).toBe('unsupported-encoding')
    expect(refusal(wrap('<a><![CDATA[', ']]></a>'))).toBe('unsupported-encoding')
    // Here one byte is enough for bad-format, unless what follows it is at hand.
    expect(conditionOf(() => opened().push(wrap('', '<a/>')))).toBe('unsupported-encoding')
  })

  test('after an error nothing more is emitted, nor thrown', () => {
    const { to, push, scan } = opened()
    expect(conditionOf(() => push("<iq id='1'/><iq id='2'></a><iq id='3'/>"))).toBe('not-well-formed')
    push("<iq id='4'/>")
    expect(to.ids).toEqual(['1'])
    expect(scan.bufferedBytes).toBe(0)
  })
})

describe('RFC 7395 §3.3.3 Stream Frames', () => {
  test('each frame is one element, which may have a declaration before and space behind it', () => {
    const { to, push } = scanner('frame')
    push(`<open xmlns='${NS_FRAMING}' to='example.org' version='1.0'/>`)
    push(`<?xml version='1.0'?> <iq xmlns='jabber:client' id='1'><a/></iq>\n`)
    expect(to.seen.map((one) => [one.name, one.ns, one.payload])).toEqual([
      ['open', NS_FRAMING, ''],
      ['iq', NS_CLIENT, '<a/>'],
    ])
    expect(to.trees[0]).toEqual(el('open', NS_FRAMING, { to: 'example.org', version: '1.0' }))
  })

  test.each([
    ['', 'bad-format', '§3.8: an empty frame'],
    [' ', 'bad-format', '§3.8: a whitespace keepalive'],
    [' <a/>', 'bad-format', '§3.8: space before the element'],
    ['\uFEFF<a/>', 'bad-format', 'a byte order mark'],
    ['text', 'bad-format', 'text'],
    ['<a/><b/>', 'not-well-formed', 'two elements'],
    ['<a/>text', 'not-well-formed', 'text behind the element'],
    ['<a>', 'not-well-formed', 'an element that goes on'],
    ['<a', 'not-well-formed', 'a tag that goes on'],
    ['<', 'not-well-formed', 'a tag that has hardly begun'],
    ['</a>', 'not-well-formed', 'an end tag'],
    ['<![CDATA[x]]>', 'not-well-formed', 'a CDATA section'],
    ['<a/><!-- x -->', 'restricted-xml', 'a comment behind the element'],
    ['<!-- x --><a/>', 'restricted-xml', 'a comment before the element'],
    ['<?xml version="1.0"?>', 'not-well-formed', 'a declaration alone'],
    ['<?xml version="1.0"', 'not-well-formed', 'a declaration that goes on'],
    ['<?x?><a/>', 'restricted-xml', 'a processing instruction'],
    ['<a><?x?></a>', 'restricted-xml', 'a processing instruction in the element'],
    ['<a/><?x?>', 'restricted-xml', 'a processing instruction behind the element'],
    ['<a><!-- x --></a>', 'restricted-xml', 'a comment in the element'],
    ['<!DOCTYPE a><a/>', 'restricted-xml', 'a document type'],
    ['<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', 'restricted-xml', 'a document type with an entity'],
    ['<?xml version="1.0"?><!DOCTYPE a SYSTEM "x"><a/>', 'restricted-xml', 'a document type behind the declaration'],
    ['<a><!DOCTYPE a></a>', 'restricted-xml', 'a document type in the element'],
    ['<a/><!DOCTYPE a>', 'restricted-xml', 'a document type behind the element'],
    ['<a>&b;</a>', 'restricted-xml', 'an entity that is none of the five'],
    ['<a b="&c;"/>', 'restricted-xml', 'the same in an attribute'],
    [`<stream:stream xmlns:stream='${NS_STREAM}'>`, 'not-well-formed', 'a header as on TCP'],
  ])('%j is %s: %s', (text, condition) => {
    expect(conditionOf(() => scanner('frame').push(text))).toBe(condition)
  })

  test('a frame over the limit is refused unread', () => {
    expect(conditionOf(() => scanner('frame', { stanzaBytes: 100 }).push(`<a>${'x'.repeat(100)}</a>`))).toBe('policy-violation')
  })
})

describe('RFC 6120 §13.12: limits', () => {
  test('a stanza may have exactly as many bytes as the limit says', () => {
    const stanza = (size: number) => `<a>${'x'.repeat(size - 7)}</a>`
    expect(refusal(stanza(1000), { stanzaBytes: 1000 })).toBe('none')
    expect(refusal(stanza(1001), { stanzaBytes: 1000 })).toBe('policy-violation')
    expect(refusal(`<a/>${stanza(1000)} <a/>`, { stanzaBytes: 1000 })).toBe('none')
  })

  test.each([
    ['<a>x', 'text'],
    ["<a b='x", 'an attribute value'],
    ['<ax', 'a name'],
    ['<a ', 'a tag of spaces', ' '],
    ['<a></a', 'an end tag of spaces', ' '],
    ['<a><![CDATA[x', 'a CDATA section'],
  ])('%s…: too many bytes are refused as soon as they have come, though %s goes on', (start, _, more = 'x') => {
    const { push, scan } = opened({ stanzaBytes: 5000 })
    push(start.padEnd(4990, more))
    push(more.repeat(10))
    expect(scan.bufferedBytes).toBe(5000)
    expect(conditionOf(() => push(more))).toBe('policy-violation')
    expect(scan.bufferedBytes).toBe(0)
  })

  test('depth, attributes, elements and the length of a namespace', () => {
    expect(refusal(`${'<a>'.repeat(20)}${'</a>'.repeat(20)}`)).toBe('none')
    expect(refusal(`${'<a>'.repeat(21)}`)).toBe('policy-violation')
    const attributes = (count: number) => `<a ${Array.from({ length: count }, (_, n) => `a${n}=''`).join(' ')}/>`
    expect(refusal(attributes(20))).toBe('none')
    expect(refusal(attributes(21))).toBe('policy-violation')
    expect(refusal(`<a>${'<b/>'.repeat(9)}</a><a>${'<b/>'.repeat(9)}</a>`, { elements: 10 })).toBe('none')
    expect(refusal(`<a>${'<b/>'.repeat(10)}</a>`, { elements: 10 })).toBe('policy-violation')
    expect(refusal(`<a><b><c xmlns='${'x'.repeat(1000)}'/></b></a>`)).toBe('none')
    expect(refusal(`<a><b><c xmlns='${'x'.repeat(1001)}'/></b></a>`)).toBe('policy-violation')
    expect(refusal(`<a xmlns:p='${'x'.repeat(1001)}'/>`)).toBe('policy-violation')
  })

  test('the prefixes in scope, which every lookup passes over', () => {
    const declare = (from: number, count: number) => Array.from({ length: count }, (_, n) => `xmlns:p${from + n}='x'`).join(' ')
    expect(refusal(`<a ${declare(0, 120)}><b ${declare(120, 20)}/></a>`, { attributes: 200 })).toBe('policy-violation')
    expect(refusal(`<a ${declare(0, 100)}/><b ${declare(0, 100)}/>`, { attributes: 200 })).toBe('none')
  })

  test('setLimits holds for what comes', () => {
    const { push, scan } = opened({ stanzaBytes: 100 })
    scan.setLimits({ ...LIMITS, depth: 1 })
    push(`<a>${'x'.repeat(1000)}</a>`)
    expect(conditionOf(() => push('<a><b/></a>'))).toBe('policy-violation')
  })

  test('§4.6.1: whitespace between stanzas does not add up', () => {
    const { push, scan } = opened({ stanzaBytes: 100 })
    for (let k = 0; k < 1000; k++) push(' \n\t\r')
    expect(scan.bufferedBytes).toBe(0)
    push('<a/>')
  })
})

describe('time is linear in bytes, however they come', () => {
  // A quadratic scan of 256 KiB looks at 3·10¹⁰ bytes: minutes. The bound is far from both.
  const size = 262_000
  test.each([
    ['text', `<a>${'x'.repeat(size)}</a>`],
    ['text not ASCII', `<a>${'é'.repeat(size / 2)}</a>`],
    ['references', `<a>${'&amp;'.repeat(size / 5)}</a>`],
    ['brackets', `<a>${']'.repeat(size)}</a>`],
    ['an attribute value', `<a b='${'x'.repeat(size)}'/>`],
    ['a name', `<${'a'.repeat(size)}/>`],
    ['spaces in a tag', `<a${' '.repeat(size)}/>`],
    ['spaces in an end tag', `<a></a${' '.repeat(size)}>`],
    ['a CDATA section', `<a><![CDATA[${']'.repeat(size / 8)}]]></a>`],
    ['children', `<a>${'<b/>'.repeat(15_000)}</a>`],
    [
      'long names with many attributes',
      `<a>${`<b ${Array.from({ length: 20 }, (_, n) => `${'x'.repeat(40)}${n}=''`).join(' ')}/>`.repeat(250)}</a>`,
    ],
    [
      'a long namespace by many names',
      `<a><b xmlns:p='${'n'.repeat(1000)}' xmlns:q='${'m'.repeat(1000)}'>${"<p:c p:d='' q:d=''/>".repeat(10_000)}</b></a>`,
    ],
  ])('%s of 256 KiB, byte by byte and in pieces', (_, stanza) => {
    for (const piece of [1, 7, 1400]) {
      let count = 0
      const handler = { streamStart: () => {}, streamEnd: () => {}, element: () => void count++ }
      const scan = new Scanner('stream', LIMITS, handler)
      scan.push(Buffer.from(HEADER))
      const bytes = Buffer.from(stanza)
      const start = process.cpuUsage()
      for (let at = 0; at < bytes.length; at += piece) scan.push(bytes.subarray(at, at + piece))
      const { user, system } = process.cpuUsage(start)
      expect(count).toBe(1)
      expect((user + system) / 1000).toBeLessThan(3000)
    }
  })
})

describe('pause, resume, stop, reset', () => {
  test('a handler that pauses gets nothing more until resume, then all in order', () => {
    const { to, push, scan } = opened()
    to.onElement = () => scan.pause()
    const chunk = Buffer.from("<iq id='1'/><iq id='2'/> <iq id='3'/><iq id='")
    push(chunk)
    chunk.fill(0x78)
    push("4'/><iq id='5'/>")
    expect(to.ids).toEqual(['1'])
    expect(scan.bufferedBytes).toBe(33 + 16)
    for (let k = 0; k < 3; k++) scan.resume()
    expect(to.ids).toEqual(['1', '2', '3', '4'])
    to.onElement = () => {}
    scan.resume()
    push("<iq id='6'/>")
    expect(to.ids).toEqual(['1', '2', '3', '4', '5', '6'])
    expect(scan.bufferedBytes).toBe(0)
  })

  test('pause and resume in one call change nothing', () => {
    const { to, push, scan } = opened()
    to.onElement = () => {
      scan.pause()
      scan.resume()
    }
    push("<iq id='1'/><iq id='2'/>")
    expect(to.ids).toEqual(['1', '2'])
  })

  test('frames that come while paused stay apart', () => {
    const { to, push, scan } = scanner('frame')
    scan.pause()
    for (const id of [1, 2, 3]) push(`<iq id='${id}'/>`)
    expect(to.ids).toEqual([])
    expect(scan.bufferedBytes).toBe(36)
    to.onElement = (element) => {
      if (element.id === '2') scan.pause()
    }
    scan.resume()
    expect(to.ids).toEqual(['1', '2'])
    scan.resume()
    expect(to.ids).toEqual(['1', '2', '3'])
    expect(scan.bufferedBytes).toBe(0)
  })

  test('resume throws what push would have thrown', () => {
    const { push, scan } = opened()
    scan.pause()
    push('<a></b>')
    expect(conditionOf(() => scan.resume())).toBe('not-well-formed')
  })

  test('what is pushed from inside a handler comes after the chunk', () => {
    const { to, push } = opened()
    to.onElement = (element) => {
      if (element.id === '1') push("<iq id='3'/>")
    }
    push("<iq id='1'/><iq id='2'/>")
    expect(to.ids).toEqual(['1', '2', '3'])
  })

  test('§5.4.3.3: stop drops the rest, so that nothing sent before TLS counts behind it', () => {
    const { to, push, scan } = opened()
    to.onElement = () => scan.stop()
    push("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/><iq id='injected'/>")
    push("<iq id='injected'/>")
    scan.resume()
    expect(to.seen).toHaveLength(1)
    scan.reset()
    to.onElement = () => {}
    push(`${HEADER}<iq id='1'/>`)
    expect(to.ids).toEqual(['', '1'])
  })

  test('reset from a handler begins a new stream: no state, no namespaces, and the rest of the chunk is dropped', () => {
    const { to, push, scan } = opened()
    to.onElement = () => {
      scan.pause()
      scan.reset()
    }
    push("<a/><iq id='dropped'/>")
    to.onElement = () => {}
    push(`<?xml version='1.0'?><s:stream xmlns='jabber:client' xmlns:s='${NS_STREAM}'><iq id='1'/>`)
    expect(to.opens).toHaveLength(2)
    expect(to.ids).toEqual(['', '1'])
    expect(conditionOf(() => push('<o:a/>'))).toBe('not-well-formed')
  })

  test('reset in the middle of a stanza forgets it', () => {
    const { to, push, scan } = opened()
    push("<iq id='1'><a b='")
    scan.reset()
    expect(scan.bufferedBytes).toBe(0)
    push(`${HEADER}<iq id='2'/>`)
    expect(to.ids).toEqual(['2'])
  })

  test('reset inside quotes does not leave their end to be looked for in the next stream', () => {
    const { to, push, scan } = opened()
    push("<iq id='1'><a b='")
    scan.reset()
    for (const byte of Buffer.from(`${HEADER}<iq id='2' /><iq id='3'>`)) scan.push(Uint8Array.of(byte))
    expect(to.ids).toEqual(['2'])
  })

  test('after </stream:stream> nothing is read', () => {
    const { to, push } = opened()
    push("<iq id='1'/></stream:stream \n><iq id='2'/>")
    push('garbage \xFF <<<')
    expect(to.ids).toEqual(['1'])
    expect(to.ends).toBe(1)
  })

  test('what a handler throws ends the scan and comes out of push', () => {
    const { to, push } = opened()
    to.onElement = () => {
      throw new StreamError('unsupported-stanza-type')
    }
    expect(conditionOf(() => push("<a id='1'/><a id='2'/>"))).toBe('unsupported-stanza-type')
    push('<a/>')
    expect(to.ids).toEqual(['1'])
  })
})

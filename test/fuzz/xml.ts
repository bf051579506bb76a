// XML from outside: streams and frames at the scanner, and trees of what has passed it.
import { StreamError } from '#xmpp/error.ts'
import { NS_CLIENT } from '#xmpp/ns.ts'
import { type ScanLimits, Scanner } from '#xmpp/scan.ts'
import { parseChildren, parseElement, serialise } from '#xmpp/xml.ts'
import type { Random } from './random.ts'
import { buffersOf, demand, type FuzzTarget, only, plainly } from './target.ts'

const LIMITS: ScanLimits = { stanzaBytes: 4_000, depth: 20, attributes: 16, elements: 100, namespaceBytes: 64 }
const HEADER = `<?xml version='1.0'?><stream:stream to='a' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' xmlns:o='urn:o'>`

export const STANZAS = buffersOf([
  `<message to='juliet@localhost/balcony' type='chat' id='1' xml:lang='en'><body>Art thou not Romeo, &amp; a Montague?</body></message>`,
  `<presence><show>away</show><status xml:lang='it'>perch\u00e9</status><priority>5</priority><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='v'/></presence>`,
  `<iq type='set' id='2' from='romeo@localhost/x'><query xmlns='jabber:iq:roster'><item jid='a@b' name='A'><group>G</group></item></query></iq>`,
  `<iq type="get" id='3'><p:query xmlns:p="urn:p" p:a='1' b="2"><p:x/></p:query></iq>`,
  `<message><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>urn:f</value></field></x></message>`,
  `<message><body><![CDATA[<&>]]>]]&gt;</body><o:x o:y='z'/><html xmlns='http://jabber.org/protocol/xhtml-im'><body xmlns='http://www.w3.org/1999/xhtml'><p>x</p></body></html></message>`,
  `<iq id='4' type='result'/>`,
  `<presence type='unavailable'><a><b><c><d><e/></d></c></b></a>\u{1F426}</presence>`,
])
export const XML_TOKENS = [
  ...buffersOf([...'<>&\'"=/!?[]:-; \t\r\nax1\0\x7f\u0080\ufffd\u{10ffff}\ufffe']),
  ...buffersOf([
    '<!--',
    '-->',
    '<?x ?>',
    '<![CDATA[',
    ']]>',
    '&#',
    '&#x0;',
    '&#x41;',
    '&lt;',
    '&lol;',
    '</',
    '/>',
    '<a/>',
    '<a>',
    '</a>',
    "a=''",
  ]),
  ...buffersOf([
    "xmlns:p=''",
    "xmlns='",
    " xmlns='urn:x'",
    'xmlns:xml',
    'xmlns:',
    'xml:',
    'p:',
    '</stream:stream>',
    HEADER,
    '<!DOCTYPE a [',
  ]),
  ...[[0xff], [0xc0, 0x80], [0xe0, 0x80, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xe2, 0x82]].map((bytes) =>
    Buffer.from(bytes),
  ),
]

/** Everything that a scanner says of these pieces, and at last what it throws. */
function said(mode: 'stream' | 'frame', pieces: readonly Buffer[]): string[] {
  const said: string[] = []
  const scanner = new Scanner(mode, LIMITS, {
    streamStart: (open) => said.push(JSON.stringify(open)),
    element: (element) => {
      const { name, ns, to, from, id, type, lang, child, childCount, payload } = element
      const inner = Buffer.from(payload)
      demand(inner.length <= LIMITS.stanzaBytes, () => `a payload of ${inner.length} bytes`)
      const tree = element.element()
      // What is handed on as bytes says the same to whoever parses it below a root of jabber:client.
      const again = serialise(parseChildren(inner, NS_CLIENT), NS_CLIENT)
      demand(
        again ===
          serialise(
            tree.children.filter((node) => typeof node !== 'string'),
            NS_CLIENT,
          ),
        () => `${inner} is another tree`,
      )
      said.push(JSON.stringify([name, ns, to, from, id, type, lang, child, childCount]), again)
    },
    streamEnd: () => said.push('end'),
  })
  for (const piece of pieces) {
    const error = only([StreamError], () => scanner.push(piece))
    if (error instanceof StreamError) {
      said.push(`error ${error.condition}`)
      demand(scanner.bufferedBytes === 0, () => 'it keeps bytes after its end')
      break
    }
    demand(scanner.bufferedBytes <= LIMITS.stanzaBytes + 8_192 + piece.length, () => `it keeps ${scanner.bufferedBytes} bytes`)
  }
  return said
}

function stream(random: Random): Buffer {
  const parts: Buffer[] = [Buffer.from(HEADER)]
  for (let left = random.int(4); left > 0; left--) parts.push(random.pick(STANZAS))
  const whole = Buffer.concat(parts)
  // What is behind ends every tag and text that was left open, so that there is a fault to be found however it is cut.
  return Buffer.concat([random.chance(20) ? whole : random.mutate(whole, STANZAS, XML_TOKENS), Buffer.from(`'"><]]>\0\0`)])
}

export const XML_TARGETS: readonly FuzzTarget[] = [
  {
    name: 'xml-stream',
    inputs: 15_000,
    open: () => ({
      one(random) {
        const bytes = stream(random)
        const whole = said('stream', [bytes])
        const cut = said('stream', random.cut(bytes))
        const isError = (text: string | undefined): boolean => text?.startsWith('error') ?? false
        // A fault is noticed earlier or later by the cut, and may then be named by what was seen first.
        const [a, b] = [whole, cut].map((said) => (isError(said.at(-1)) ? said.slice(0, -1) : said)) as [string[], string[]]
        const length = Math.min(a.length, b.length)
        demand(JSON.stringify(a.slice(0, length)) === JSON.stringify(b.slice(0, length)), () => `cut, it says ${b} and not ${a}`)
        demand(
          isError(whole.at(-1)) === isError(cut.at(-1)),
          () => `cut, it ends in ${cut.at(-1)} and not in ${whole.at(-1)}: ${JSON.stringify(bytes.toString('latin1'))}`,
        )
      },
    }),
  },
  {
    name: 'xml-frame',
    inputs: 30_000,
    open: () => ({
      one(random) {
        const frames = Array.from({ length: 1 + random.int(3) }, () => random.mutate(random.pick(STANZAS), STANZAS, XML_TOKENS))
        said('frame', frames)
      },
    }),
  },
  {
    name: 'xml-tree',
    inputs: 30_000,
    open: () => ({
      one(random) {
        const bytes = random.mutate(random.pick(STANZAS), STANZAS, XML_TOKENS)
        const tree = plainly(() => parseElement(bytes, NS_CLIENT))
        if (tree instanceof Error) return
        const written = serialise(tree, NS_CLIENT)
        demand(serialise(parseElement(written, NS_CLIENT), NS_CLIENT) === written, () => `${written} is read as something else`)
      },
    }),
  },
]

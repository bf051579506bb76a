// One element that no server should choke on, and what it is answered with.
import { type Peer, TRANSPORTS, type Transport } from './peer.ts'

/** What is said of one stanza: the condition of the stream error it ends in (RFC 6120 §4.9.3), or that it is taken. */
export interface Stanza {
  readonly name: string
  readonly xml: (to: string) => string | Uint8Array
  readonly ends: string | 'taken'
  readonly on?: readonly Transport[]
  /** Over what a WebSocket message may be: closed by RFC 6455 §7.4.1, 1009, before it is XMPP. */
  readonly overFrame?: true
}

const body = (inside: string) => (to: string) => `<message to='${to}' id='attack'><body>${inside}</body></message>`
const child = (inside: string) => (to: string) => `<message to='${to}' id='attack'>${inside}</message>`
const bytes = (hex: string) => (to: string) =>
  Buffer.concat([
    Buffer.from(`<message xmlns='jabber:client' to='${to}'><body>`),
    Buffer.from(hex, 'hex'),
    Buffer.from('</body></message>'),
  ])

const LONG_NS = `urn:${'n'.repeat(250)}`
const attributes = (count: number, length: number): string =>
  Array.from({ length: count }, (_, i) => ` a${i}='${'v'.repeat(length)}'`).join('')

export const STANZAS: readonly Stanza[] = [
  // Large, in all the ways there are.
  { name: '150 kB of 37 000 elements', xml: child('<a/>'.repeat(37_000)), ends: 'policy-violation' },
  { name: '15 001 elements', xml: child(`<x xmlns='urn:x'>${'<a/>'.repeat(15_000)}</x>`), ends: 'policy-violation' },
  { name: '14 000 elements', xml: child(`<x xmlns='urn:x'>${'<a/>'.repeat(14_000)}</x>`), ends: 'taken' },
  { name: '20 000 elements deep', xml: child('<a>'.repeat(20_000)), ends: 'policy-violation' },
  {
    name: 'one long namespace, bound once, used by 14 900 elements in the way of CDATA',
    xml: child(`<x xmlns:p='${LONG_NS}'><![CDATA[]]>${'<p:a/>'.repeat(14_900)}</x>`),
    ends: 'policy-violation', // written out it would be megabytes
  },
  {
    name: 'one long namespace as default, used by 14 900 elements',
    xml: child(`<x xmlns='${LONG_NS}'>${'<a/>'.repeat(14_900)}</x>`),
    ends: 'taken',
  },
  { name: 'a namespace of 300 bytes', xml: child(`<x xmlns='urn:${'n'.repeat(300)}'/>`), ends: 'policy-violation' },
  { name: '64 attributes of 3 kB', xml: child(`<x${attributes(63, 3_000)} xmlns='urn:x'/>`), ends: 'taken' },
  { name: '65 attributes', xml: child(`<x${attributes(64, 10)} xmlns='urn:x'/>`), ends: 'policy-violation' },
  { name: 'an attribute of 300 kB', xml: child(`<x a='${'v'.repeat(300_000)}'/>`), ends: 'policy-violation', overFrame: true },
  { name: 'a text of 300 kB', xml: body('t'.repeat(300_000)), ends: 'policy-violation', overFrame: true },
  { name: 'a text of 250 kB', xml: body('t'.repeat(250_000)), ends: 'taken' },
  { name: 'a name of 300 kB', xml: child(`<${'n'.repeat(300_000)}/>`), ends: 'policy-violation', overFrame: true },
  { name: '50 000 references, six bytes each once written', xml: body('&#62;'.repeat(50_000)), ends: 'taken' },
  { name: 'a tag that never ends', xml: () => `<message ${' '.repeat(300_000)}`, ends: 'policy-violation', overFrame: true },

  // RFC 6120 §11.1.
  { name: 'a comment', xml: body('<!-- x -->'), ends: 'restricted-xml' },
  { name: 'a processing instruction', xml: body('<?x y?>'), ends: 'restricted-xml' },
  { name: 'an entity', xml: body('&lol;'), ends: 'restricted-xml' },
  { name: 'an entity in an attribute', xml: child(`<x a='&lol;'/>`), ends: 'restricted-xml' },
  {
    name: 'a billion laughs',
    xml: () => '<!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol2 "&lol;&lol;&lol;&lol;">]><message>&lol2;</message>',
    ends: 'restricted-xml',
  },
  {
    name: 'a file for an entity',
    xml: () => '<!DOCTYPE x SYSTEM "file:///etc/passwd"><message/>',
    ends: 'restricted-xml',
  },
  { name: 'a CDATA section', xml: body('<![CDATA[<a>&amp;]]>'), ends: 'taken' },

  // RFC 6120 §11.3, §11.6.
  { name: 'an end that does not match', xml: body('</subject>'), ends: 'not-well-formed' },
  { name: 'an attribute twice', xml: child(`<x a='1' a='2'/>`), ends: 'not-well-formed' },
  { name: 'an unknown prefix', xml: child('<p:x/>'), ends: 'not-well-formed' },
  { name: 'xml bound to something else', xml: child(`<x xmlns:xml='urn:x'/>`), ends: 'not-well-formed' },
  { name: 'xmlns bound', xml: child(`<x xmlns:xmlns='urn:x'/>`), ends: 'not-well-formed' },
  { name: 'U+0000 by reference', xml: body('&#0;'), ends: 'not-well-formed' },
  { name: 'U+FFFE by reference', xml: body('&#xFFFE;'), ends: 'not-well-formed' },
  { name: 'U+0000', xml: bytes('00'), ends: 'not-well-formed' },
  { name: 'U+FFFE', xml: bytes('efbfbe'), ends: 'not-well-formed' },
  { name: 'a surrogate in UTF-8', xml: bytes('eda080'), ends: 'unsupported-encoding' },
  { name: 'an overlong <', xml: bytes('c0bc'), ends: 'unsupported-encoding' },
  { name: 'bytes that are no UTF-8', xml: bytes('fffefd'), ends: 'unsupported-encoding' },

  // RFC 6120 §4.9.3.1, §4.9.3.9, §4.9.3.24.
  { name: 'text between stanzas', xml: () => 'hello', ends: 'bad-format' },
  { name: 'what is no stanza', xml: () => `<x xmlns='urn:x'/>`, ends: 'unsupported-stanza-type' },
  {
    name: 'a stanza in the namespace of servers',
    xml: () => `<message xmlns='jabber:server'/>`,
    ends: 'unsupported-stanza-type',
    on: ['tcp', 'tls'],
  },
  { name: 'from somebody else', xml: (to) => `<message from='bystander-1@localhost' to='${to}'/>`, ends: 'invalid-from' },
  {
    name: 'from the server',
    xml: (to) => `<iq type='set' id='x' from='localhost' to='${to}'><x xmlns='urn:x'/></iq>`,
    ends: 'invalid-from',
  },
]

/** Says the stanza on a bound stream; tells what became of it. */
export async function outcome(peer: Peer, { xml }: Stanza): Promise<string> {
  const said = xml(peer.jid)
  if (typeof said === 'string') peer.say(said)
  else peer.send(said)
  peer.say(`<iq type='get' id='after'><ping xmlns='urn:xmpp:ping'/></iq>`)
  await peer.see((text) => peer.gone || /id='after'/.test(text) || text.includes('</stream:error>'), 'an answer').catch(() => {})
  return /<stream:error[^>]*><([a-z-]+) /.exec(peer.text)?.[1] ?? (/id='after'/.test(peer.text) ? 'taken' : 'cut off')
}

/** Each stanza over each transport, and what it ends in there. */
export const STANZA_CASES: readonly (readonly [string, Transport, Stanza, string])[] = STANZAS.flatMap((stanza) =>
  (stanza.on ?? TRANSPORTS).map((transport) => {
    const ends = stanza.overFrame && transport === 'websocket' ? 'cut off' : stanza.ends
    return [stanza.name, transport, stanza, ends] as const
  }),
)

// Arbitrary stanzas for property tests: what XML allows, with all that is unusual in it.
import fc from 'fast-check'

export const drawnName = fc.constantFrom('a', 'body', 'x', 'Zed', '_b-1.2', '__proto__', 'constructor', 'xmlns1', 'c9')
const prefix = fc.constantFrom('', '', '', 'p:', 'o:', 'q:')
const words = fc.string({
  unit: fc.constantFrom('a', ' ', 'ü', '漢', '\u{1F426}', ']', '"', "'", '\t', '\n', '/', '=', '\uFEFF', '\u0085', '\u2028'),
})
const value = fc
  .array(fc.oneof(words, fc.constantFrom('&amp;', '&lt;', '&#x41;', '&#10;', '&#x1F426;', '>', '\r\n', '\r', 'xmlns')), {
    maxLength: 4,
  })
  .map((parts) => parts.join(''))
const attribute = fc
  .tuple(
    fc.oneof(drawnName, fc.constantFrom('xml:lang', 'p:k', 'o:k', 'q:z')),
    value,
    fc.boolean(),
    fc.constantFrom('', ' ', '\n'),
  )
  .map(
    ([key, text, double, gap]) =>
      [key, `${key}${gap}=${gap}${double ? `"${text.replaceAll('"', '')}"` : `'${text.replaceAll("'", '')}'`}`] as const,
  )
const declaration = fc.constantFrom(
  ['xmlns', "xmlns='urn:d'"] as const,
  ['xmlns', "xmlns='jabber:client'"] as const,
  ['xmlns', "xmlns=''"] as const,
  ['xmlns:p', "xmlns:p='urn:p'"] as const,
  ['xmlns:q', "xmlns:q='urn:p'"] as const,
  ['xmlns:p', "xmlns:p='urn:&amp;&#x70;'"] as const,
)
const text = fc
  .array(
    fc.oneof(words, fc.constantFrom('&amp;', '&gt;', '&#9;', '&#xe9;', '\r\n', '\r', '<![CDATA[<&>]]]]>', '<![CDATA[]]>', '>')),
    { maxLength: 3 },
  )
  .map((parts) =>
    parts
      .join('')
      .replaceAll(']]>]', ']]> ')
      .replace(/(^|[^[>])\]\]>(?!)/g, '$1'),
  )

interface Drawn {
  readonly tag: string
  readonly attributes: readonly (readonly [string, string])[]
  readonly children: readonly (Drawn | string)[]
  readonly gap: string
}
const { drawn } = fc.letrec<{ drawn: Drawn }>((tie) => ({
  drawn: fc.record({
    tag: fc.tuple(prefix, drawnName).map((parts) => parts.join('')),
    attributes: fc.array(fc.oneof({ arbitrary: attribute, weight: 2 }, { arbitrary: declaration, weight: 1 }), { maxLength: 3 }),
    children: fc.array(fc.oneof({ maxDepth: 3 }, text, tie('drawn')), { maxLength: 3 }),
    gap: fc.constantFrom('', '', ' ', '\r\n'),
  }),
}))

function write({ tag, attributes, children, gap }: Drawn): string {
  const unique = [...new Map(attributes)].map(([, source]) => ` ${source}`).join('')
  if (children.length === 0 && gap === '') return `<${tag}${unique}/>`
  return `<${tag}${unique}${gap}>${children.map((child) => (typeof child === 'string' ? child : write(child))).join('')}</${tag}${gap}>`
}

/** A stanza, most of them well-formed below the header of scan.fixture.ts, which declares the prefix `o`. */
export const drawnRoot = fc
  .tuple(
    fc.constantFrom('message', 'iq', 'presence', 'p:message', 'o:iq'),
    fc.subarray([
      `to='a@b/c'`,
      `from="d"`,
      `id='1&amp;&#50;\t'`,
      `type='get'`,
      `xml:lang='en'`,
      `xmlns:p='jabber:client'`,
      `xmlns='jabber:client'`,
      `xmlns='urn:x'`,
    ]),
    fc.array(fc.oneof(drawn, text), { maxLength: 3 }),
  )
  .map(([tag, attributes, children]) =>
    write({ tag, attributes: attributes.map((source) => [source.split('=')[0]!, source] as const), children, gap: '' }),
  )

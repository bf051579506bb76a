// Presence payloads side by side: whether two are the same document (presence/canonical.ts), as their trees have it.
import { sameChildren } from '#presence/canonical.ts'
import { StreamError } from '#xmpp/error.ts'
import { NS_CLIENT } from '#xmpp/ns.ts'
import { type ScanLimits, Scanner } from '#xmpp/scan.ts'
import type { Element } from '#xmpp/stanza.ts'
import { parseElement } from '#xmpp/xml.ts'
import type { Random } from './random.ts'
import { demand, type FuzzTarget, only } from './target.ts'
import { STANZAS, XML_TOKENS } from './xml.ts'

const LIMITS: ScanLimits = { stanzaBytes: 4_000, depth: 20, attributes: 16, elements: 100, namespaceBytes: 64 }

/** What the edge hands on of these bytes, if it takes them for one stanza or more: the first. */
function payloadOf(bytes: Buffer): Buffer | undefined {
  let payload: Buffer | undefined
  const scanner = new Scanner('frame', LIMITS, {
    streamStart: () => {},
    streamEnd: () => {},
    element: (element) => {
      payload ??= Buffer.from(element.payload)
    },
  })
  const framed = Buffer.from(bytes.toString('latin1').replace(/^<([a-z]+)/, "<$1 xmlns='jabber:client'"), 'latin1')
  only([StreamError], () => scanner.push(framed))
  return payload
}

/** As text that is the same for the same document: attributes in order, no whitespace between the children. */
function documentOf(payload: Buffer): string {
  const { children } = parseElement(Buffer.concat([OPEN, payload, CLOSE]), NS_CLIENT)
  return JSON.stringify(
    joined(children)
      .filter((node) => typeof node !== 'string' || !/^[ \t\r\n]*$/.test(node))
      .map(plain),
  )
}
const OPEN = Buffer.from('<presence>')
const CLOSE = Buffer.from('</presence>')

function plain(node: Element | string): unknown {
  if (typeof node === 'string') return node
  const attrs = Object.entries(node.attrs).sort(([a], [b]) => (a < b ? -1 : 1))
  return [node.ns, node.name, attrs, joined(node.children).map(plain)]
}

/** A parser may cut text where it likes. */
function joined(nodes: readonly (Element | string)[]): (Element | string)[] {
  const all: (Element | string)[] = []
  for (const node of nodes) {
    const last = all.at(-1)
    if (typeof node === 'string' && typeof last === 'string') all[all.length - 1] = last + node
    else if (node !== '') all.push(node)
  }
  return all
}

export const PAYLOAD_TARGETS: readonly FuzzTarget[] = [
  {
    name: 'payloads',
    inputs: 20_000,
    open: () => {
      let [compared, same] = [0, 0]
      return {
        one(random: Random) {
          const one = random.chance(2) ? random.pick(STANZAS) : random.mutate(random.pick(STANZAS), STANZAS, XML_TOKENS)
          const a = payloadOf(Buffer.from(one))
          const b = payloadOf(random.mutate(one, STANZAS, XML_TOKENS))
          if (a === undefined || b === undefined) return
          const expected = documentOf(a) === documentOf(b)
          demand(sameChildren(a, b) === expected, () => `${a} and ${b} are ${expected ? 'the same' : 'not the same'}`)
          demand(sameChildren(b, a) === expected, () => `${b} and ${a} are ${expected ? 'the same' : 'not the same'}`)
          compared++
          if (expected && !a.equals(b)) same++
        },
        close() {
          demand(compared < 5_000 || same > 0, () => 'none of them were the same, otherwise written')
        },
      }
    },
  },
]

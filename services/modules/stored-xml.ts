// Elements that are stored for a client and given back as they were.
import { NS_CLIENT } from '#xmpp/ns.ts'
import type { Element } from '#xmpp/stanza.ts'
import { parseChildren, serialise } from '#xmpp/xml.ts'

/**
 * Undefined where it would be over `bytesMax`: written out, elements may be many times as long as they came, since a
 * namespace that was bound once is repeated wherever it is used.
 */
export function storedXml(elements: readonly Element[], bytesMax: number): Buffer | undefined {
  let text: string
  try {
    text = serialise(elements, NS_CLIENT, bytesMax)
  } catch (error) {
    if (error instanceof RangeError) return undefined
    throw error
  }
  const bytes = Buffer.from(text, 'utf8')
  return bytes.length > bytesMax ? undefined : bytes
}

export function elementsOf(stored: Uint8Array): readonly Element[] {
  return parseChildren(stored, NS_CLIENT)
}

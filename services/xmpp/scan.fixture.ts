// A scanner that writes down what it tells, for its tests.
import { StreamError } from './error.ts'
import { NS_STREAM } from './ns.ts'
import { type ScanHandler, type ScanLimits, type ScannedElement, Scanner, type StreamOpen } from './scan.ts'
import type { Element } from './stanza.ts'

export const LIMITS: ScanLimits = { stanzaBytes: 262_144, depth: 20, attributes: 20, elements: 20_000, namespaceBytes: 1000 }
export const HEADER = `<stream:stream to='example.org' version='1.0' xmlns='jabber:client' xmlns:stream='${NS_STREAM}' xmlns:o='urn:outer'>`

interface Seen {
  name: string
  ns: string
  to: string | undefined
  from: string | undefined
  id: string
  type: string
  lang: string
  child: string
  childCount: number
  payload: string
}

class Recorder implements ScanHandler {
  readonly opens: StreamOpen[] = []
  readonly seen: Seen[] = []
  readonly trees: Element[] = []
  ends = 0
  onElement: (element: ScannedElement) => void = () => {}

  streamStart(open: StreamOpen): void {
    this.opens.push(open)
  }
  element(element: ScannedElement): void {
    const { name, ns, to, from, id, type, lang, child, childCount } = element
    this.seen.push({ name, ns, to, from, id, type, lang, child, childCount, payload: Buffer.from(element.payload).toString() })
    this.trees.push(element.element())
    this.onElement(element)
  }
  streamEnd(): void {
    this.ends++
  }
  get ids(): string[] {
    return this.seen.map((one) => one.id)
  }
}

export function scanner(
  mode: 'stream' | 'frame',
  limits: Partial<ScanLimits> = {},
): { to: Recorder; push: (text: string | Uint8Array) => void; scan: Scanner } {
  const to = new Recorder()
  const scan = new Scanner(mode, { ...LIMITS, ...limits }, to)
  return { to, scan, push: (text) => scan.push(typeof text === 'string' ? Buffer.from(text) : text) }
}

/** A stream whose header has come. */
export function opened(limits: Partial<ScanLimits> = {}) {
  const stream = scanner('stream', limits)
  stream.push(HEADER)
  return stream
}

/** Of the StreamError that is thrown; 'none' where nothing is. */
export function conditionOf(run: () => void): string {
  try {
    run()
  } catch (error) {
    if (error instanceof StreamError) return error.condition
    throw error
  }
  return 'none'
}

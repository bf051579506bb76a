import { describe, expect, test } from 'vitest'
import { NS_CLIENT, NS_STREAM } from './ns.ts'
import { type ScanHandler, type ScannedElement, Scanner } from './scan.ts'
import type { Element } from './stanza.ts'

const LIMITS = { stanzaBytes: 10_000, depth: 20, attributes: 20, elements: 100, namespaceBytes: 200 }

/** Streams share what they scan with, so here there are several at once. */
function open(prefix: string, onElement: (element: ScannedElement) => void = () => {}) {
  const trees: Element[] = []
  const handler: ScanHandler = {
    streamStart() {},
    streamEnd() {},
    element(element) {
      onElement(element)
      trees.push(element.element())
    },
  }
  const scanner = new Scanner('stream', LIMITS, handler)
  const push = (text: string): void => scanner.push(Buffer.from(text))
  push(`<s:stream xmlns='${NS_CLIENT}' xmlns:s='${NS_STREAM}' xmlns:${prefix}='urn:${prefix}' to='example.org' version='1.0'>`)
  return { push, scanner, trees }
}

const childNamesOf = (trees: readonly Element[]): unknown[] =>
  trees.flatMap(({ children }) => children.map((child) => (typeof child === 'string' ? child : `{${child.ns}}${child.name}`)))

describe('what streams scan with is shared', () => {
  test('each stream goes by the prefixes of its own header', () => {
    const streams = [open('a'), open('b'), open('a')]
    streams[0]!.push('<message><a:x/></message>')
    streams[1]!.push('<message><b:x/></message>')
    streams[2]!.push('<message><a:x/></message>')
    expect(streams.map(({ trees }) => childNamesOf(trees))).toEqual([['{urn:a}x'], ['{urn:b}x'], ['{urn:a}x']])
    expect(() => streams[1]!.push('<message><a:x/></message>')).toThrow('undeclared namespace prefix')
  })

  test('stanzas that come in pieces, in turns, do not mix', () => {
    const streams = Array.from({ length: 40 }, (_, k) => open(`p${k}`))
    const whole = (k: number): string => `<message id='${k}'><p${k}:x>${'y'.repeat(k)}</p${k}:x></message>`
    for (let at = 0; at < 100; at++) for (const [k, { push }] of streams.entries()) push(whole(k).slice(at, at + 1))
    for (const [k, { trees }] of streams.entries()) {
      expect(childNamesOf(trees)).toEqual([`{urn:p${k}}x`])
      expect(trees[0]!.attrs.id).toBe(String(k))
    }
  })

  test('a header that is refused leaves no prefix to the next stream', () => {
    const broken = new Scanner('stream', LIMITS, { streamStart() {}, streamEnd() {}, element() {} })
    expect(() => broken.push(Buffer.from(`<x:stream xmlns:evil='urn:evil' xmlns:x='urn:x'>`))).toThrow('a stream is in')
    expect(() => open('a').push('<message><evil:x/></message>')).toThrow('undeclared namespace prefix')
  })

  test('a stream that has begun anew goes by no prefix of the one before', () => {
    const { push, scanner } = open('a')
    scanner.reset()
    push(`<s:stream xmlns='${NS_CLIENT}' xmlns:s='${NS_STREAM}' to='example.org' version='1.0'>`)
    expect(() => push('<message><a:x/></message>')).toThrow('undeclared namespace prefix')
  })

  test('a handler may have another stream scanned before it looks at its own element', () => {
    const inner = open('b')
    const outer = open('a', ({ id }) => inner.push(`<message id='in-${id}'><b:x/></message>`))
    outer.push(`<message id='1'><a:x/></message><message id='2'><a:y/></message>`)
    expect(childNamesOf(outer.trees)).toEqual(['{urn:a}x', '{urn:a}y'])
    expect(inner.trees.map(({ attrs }) => attrs.id)).toEqual(['in-1', 'in-2'])
  })

  test('a stanza that was cut off when its stream ended does not go on in another', () => {
    const { push, scanner } = open('a')
    push('<message><body>half of')
    scanner.stop()
    const next = open('a')
    next.push('<presence/>')
    expect(next.trees.map(({ name }) => name)).toEqual(['presence'])
    expect(scanner.bufferedBytes).toBe(0)
  })
})

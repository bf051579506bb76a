// How fast the scanner is, and ltx beside it in the same run:  node loadtest/scan.ts [seconds per line]
//
// One core, no sockets: bytes in a buffer to calls of a handler that looks at what an edge looks at.
import { Buffer } from 'node:buffer'
import SaxLtx from 'ltx/src/parsers/ltx.js'
import { type ScanHandler, type ScanLimits, Scanner } from '#xmpp/scan.ts'
import { parseChildren, parseElement } from '#xmpp/xml.ts'

const seconds = Number(process.argv[2] ?? 1)
const LIMITS: ScanLimits = { stanzaBytes: 262_144, depth: 64, attributes: 64, elements: 10_000, namespaceBytes: 1024 }
const HEADER = Buffer.from(
  "<?xml version='1.0'?><stream:stream to='example.org' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>",
)

// 200 bytes; the id differs from stanza to stanza, as ids do.
function chat(n: number): string {
  const id = String(n).padStart(12, '0')
  return `<message to='juliet@example.org/balcony' id='${id}' type='chat'><body>Art thou not Romeo, and a Montague? Neither, fair saint, if either thee dislike.</body><active xmlns='http://jabber.org/p/cs'/></message>`
}
function presence(n: number): string {
  return `<presence id='p${n}'><show>away</show><status>be right back</status><priority>5</priority><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='https://example.org/client' ver='QgayPKawpkPSDYmwT/WM94uAlu0='/><x xmlns='vcard-temp:x:update'><photo>a1b2c3d4e5f60718293a4b5c6d7e8f9012345678</photo></x></presence>`
}
function long(n: number): string {
  return `<message to='juliet@example.org' id='l${n}' type='chat'><body>${'But soft, what light through yonder window breaks? '.repeat(77)}</body></message>`
}
function cyrillic(n: number): string {
  return `<message to='juliet@example.org/balcony' id='c${n}' type='chat'><body>Но что за блеск я вижу на балконе? Там брезжит свет. Джульетта, ты как день!</body></message>`
}
function unusual(n: number): string {
  return `<message to='juliet@example.org/balcony' id='u${n}' type='chat'><body>Art thou not Romeo&#44; and a Montague? Neither, fair saint, if either thee dislike.</body></message>`
}

class Sink implements ScanHandler {
  stanzas = 0
  bytes = 0
  streamStart(): void {}
  streamEnd(): void {}
  element(element: Parameters<ScanHandler['element']>[0]): void {
    this.stanzas++
    this.bytes += element.payload.length + element.id.length + (element.to?.length ?? 0) + element.childCount
  }
}

/** Runs `turn`, which handles `stanzas` of `bytes` in all, for some time and prints the better half's mean. */
function measure(name: string, stanzas: number, bytes: number, turn: () => void): void {
  const until = performance.now() + seconds * 1000
  const times: number[] = []
  for (let k = 0; k < 5; k++) turn()
  while (times.length < 4 || performance.now() < until) {
    const start = performance.now()
    turn()
    times.push(performance.now() - start)
  }
  const better = times.sort((a, b) => a - b).slice(0, Math.ceil(times.length / 2))
  const ms = better.reduce((sum, time) => sum + time, 0) / better.length
  const perSecond = Math.round((stanzas / ms) * 1000)
  console.log(`${name.padEnd(44)} ${perSecond.toLocaleString('en').padStart(12)} /s ${((ms * 1e6) / bytes).toFixed(2).padStart(8)} ns/byte`)
}

function scan(name: string, make: (n: number) => string, chunkBytes: number, count = 20_000): void {
  const body = Buffer.from(Array.from({ length: count }, (_, n) => make(n)).join(''))
  const chunks: Buffer[] = []
  for (let at = 0; at < body.length; at += chunkBytes) chunks.push(body.subarray(at, at + chunkBytes))
  const sink = new Sink()
  const scanner = new Scanner('stream', LIMITS, sink)
  scanner.push(HEADER)
  measure(`scan   ${name}`, count, body.length, () => {
    sink.stanzas = 0
    for (const chunk of chunks) scanner.push(chunk)
    if (sink.stanzas !== count) throw new Error(`${sink.stanzas} of ${count} stanzas`)
  })
}

function frames(name: string, make: (n: number) => string): void {
  const all = Array.from({ length: 20_000 }, (_, n) => Buffer.from(make(n).replace(/^<(\w+)/, "<$1 xmlns='jabber:client'")))
  const sink = new Sink()
  const scanner = new Scanner('frame', LIMITS, sink)
  measure(`frames ${name}`, all.length, Buffer.concat(all).length, () => {
    for (const frame of all) scanner.push(frame)
  })
}

function ltx(name: string, make: (n: number) => string): void {
  const all = Array.from({ length: 2_000 }, (_, n) => Buffer.from(make(n)))
  const bytes = Buffer.concat(all).length
  measure(`ltx    ${name}, tokens`, all.length, bytes, () => {
    for (const one of all) {
      const parser = new SaxLtx()
      parser.on('startElement', () => {})
      parser.on('endElement', () => {})
      parser.on('text', () => {})
      parser.write(one.toString())
    }
  })
  measure(`tree   ${name}, checked, by ltx`, all.length, bytes, () => {
    for (const one of all) parseElement(one, 'jabber:client')
  })
}

console.log(`Node ${process.version}, a chat message is ${Buffer.byteLength(chat(1))} bytes, a presence ${Buffer.byteLength(presence(1))}`)
scan('chat, 64 KiB chunks', chat, 65_536)
scan('chat, 1400-byte chunks', chat, 1400)
scan('chat, one a chunk', chat, Buffer.byteLength(chat(1)))
scan('chat, 1-byte chunks', chat, 1, 2_000)
scan('presence with caps, 64 KiB chunks', presence, 65_536)
scan('4 kB message, 64 KiB chunks', long, 65_536, 4_000)
scan('4 kB message, 1400-byte chunks', long, 1400, 4_000)
scan('4 kB message, 1-byte chunks', long, 1, 200)
scan('Cyrillic chat, 64 KiB chunks', cyrillic, 65_536)
scan('rewritten chat, 64 KiB chunks', unusual, 65_536, 5_000)
frames('chat', chat)
ltx('chat', chat)
ltx('presence with caps', presence)
const payload = Buffer.from(/(<body>.*)<\/message>/.exec(chat(1))![1]!)
measure('tree   payload of chat', 2_000, 2_000 * payload.length, () => {
  for (let k = 0; k < 2_000; k++) parseChildren(payload, 'jabber:client')
})

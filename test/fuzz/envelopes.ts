// What roles say to each other and keep in journals, and lines of the log.
import {
  type Delivery,
  type Envelope,
  readDelivery,
  readEnvelope,
  readStanza,
  writeDelivery,
  writeEnvelope,
  writeStanza,
} from '#core/envelope.ts'
import { createLog } from '#core/observing/log.ts'
import { Reader, Writer } from '#core/wire.ts'
import { parseJid } from '#xmpp/jid.ts'
import { stanza } from '#xmpp/stanza.ts'
import type { Random } from './random.ts'
import { buffersOf, demand, type FuzzTarget, only } from './target.ts'

const romeo = parseJid('romeo@example.org/garden')
const message = stanza(
  'message',
  romeo,
  { to: parseJid('juliet@example.org'), id: 'm1', type: 'chat', lang: 'en' },
  { name: 'body', ns: 'jabber:client', attrs: {}, children: ['hi'] },
)
const ENVELOPES: readonly Envelope[] = [
  { kind: 'stanza', point: 'outbound', account: romeo.bare, origin: { edge: 'e1', session: 's1', n: 7 }, stanza: message },
  {
    kind: 'stanza',
    point: 'inbound',
    account: romeo.bare,
    origin: undefined,
    stanza: stanza('presence', romeo, { type: 'unavailable' }),
  },
  { kind: 'signal', account: romeo.bare, name: 'session.closed', fields: { session: 's1', resource: 'garden', n: 1, ok: true } },
  { kind: 'fanout', accounts: ['a@example.org', 'b@example.org'], stanza: stanza('presence', romeo, {}) },
]
const DELIVERIES: readonly Delivery[] = [
  { kind: 'stanza', sessions: ['s1', 's2'], to: 'bare', stanza: message },
  { kind: 'order', session: 's1', name: 'close', fields: { condition: 'conflict', text: 'x' } },
]

function written(write: (out: Writer) => void): Buffer {
  const out = new Writer()
  write(out)
  return out.take()
}

const TOKENS: Buffer[] = [[0xff, 0xff], [0xfe, 0xff], [0xff, 0xff, 0xff, 0xff], [0], [1], [2], [0xff], [0, 0, 0, 0x80]].map(
  (bytes) => Buffer.from(bytes),
)
TOKENS.push(...buffersOf(['{}', 'a@b', '@', '[', '"']))

export const ENVELOPE_TARGETS: readonly FuzzTarget[] = [
  {
    name: 'envelope',
    inputs: 50_000,
    open() {
      const envelopes = ENVELOPES.map((envelope) => written((out) => writeEnvelope(out, envelope)))
      const deliveries = DELIVERIES.map((delivery) => written((out) => writeDelivery(out, delivery)))
      const stanzas = [written((out) => writeStanza(out, message))]
      const all = [...envelopes, ...deliveries, ...stanzas]
      return {
        one(random: Random) {
          const bytes = random.mutate(random.pick(all), all, TOKENS)
          const envelope = only([RangeError], () => readEnvelope(bytes))
          if (!(envelope instanceof Error)) written((out) => writeEnvelope(out, envelope))
          const delivery = only([RangeError], () => readDelivery(new Reader(bytes)))
          if (!(delivery instanceof Error)) written((out) => writeDelivery(out, delivery))
          const kept = only([RangeError], () => readStanza(new Reader(bytes)))
          if (!(kept instanceof Error)) written((out) => writeStanza(out, kept))
        },
      }
    },
  },
  {
    name: 'log',
    inputs: 8_000,
    open() {
      let lines: string[] = []
      const machine = createLog({ level: 'debug', pretty: false, write: (line) => lines.push(line) })
      const people = createLog({ level: 'debug', pretty: true, write: (line) => lines.push(line) })
      return {
        one(random: Random) {
          const event = random.chance(2) ? 'room.happened' : random.text(20)
          const fields = anything(random, 0) as object
          lines = []
          machine.child({ bound: anything(random, 2) as object }).warn(event, fields)
          demand(
            lines.length === 1 && lines[0]!.endsWith('\n') && lines[0]!.indexOf('\n') === lines[0]!.length - 1,
            () => `no single line: ${JSON.stringify(lines)}`,
          )
          const line = JSON.parse(lines[0]!) as Record<string, unknown>
          demand(
            line.level === 'warn' && typeof line.time === 'string' && typeof line.event === 'string',
            () => `not a line of ours: ${lines[0]}`,
          )
          demand(
            Buffer.from(lines[0]!).toString('utf8') === lines[0] && lines[0]!.length < 5_000_000,
            () => `not UTF-8, or endless: ${lines[0]!.length} ${JSON.stringify(lines[0]!.slice(0, 300))}`,
          )
          lines = []
          people.info(event, fields)
          demand(
            !/[\x00-\x09\x0b-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e]/.test(lines.join('')),
            () => `a terminal would obey ${JSON.stringify(lines)}`,
          )
        },
      }
    },
  },
]

/** A value of any kind, with all that JSON cannot say. */
function anything(random: Random, depth: number): unknown {
  const inner = (): unknown => (depth > 8 ? random.text(5) : anything(random, depth + 1))
  switch (random.int(depth === 0 ? 5 : 22)) {
    case 0:
    case 1:
      return Object.fromEntries(
        Array.from({ length: random.int(6) }, () => [
          random.pick(['level', 'time', 'event', 'jid', '__proto__', random.text(8)]),
          inner(),
        ]),
      )
    case 2: {
      const circle: Record<string, unknown> = { a: inner() }
      circle.itself = circle
      return circle
    }
    case 3:
      return new Error(random.text(60), { cause: inner() })
    case 4:
      return {
        get broken() {
          throw new Error('a getter')
        },
        toJSON: () => inner(),
      }
    case 5:
      return [inner(), inner()]
    case 6:
      return new Map([[inner(), inner()]])
    case 7:
      return new Set([inner()])
    case 8:
      return random.text(200)
    case 9:
      return random.text(20).repeat(random.int(2_000))
    case 10:
      return random.pick([Number.NaN, Number.POSITIVE_INFINITY, -0, 1e308, 2 ** 53])
    case 11:
      return 12345678901234567890n
    case 12:
      return Symbol(random.text(5))
    case 13:
      return random.bytes(random.int(20))
    case 14:
      return new Date(random.pick([0, Number.NaN, 8.64e15]))
    case 15:
      return () => inner()
    case 16:
      return new Proxy({}, { get: () => inner(), ownKeys: () => ['a', 'b'] })
    case 17:
      return {
        toString() {
          throw new Error('toString')
        },
      }
    case 18:
      return Array.from({ length: 300 }, (_, i) => i)
    case 19:
      return null
    case 20:
      return Object.create(null)
    default:
      return undefined
  }
}

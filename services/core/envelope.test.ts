import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseJid } from '#xmpp/jid.ts'
import { type Stanza, type StanzaName, stanzaOfBytes } from '#xmpp/stanza.ts'
import {
  addresseesOf,
  causeOf,
  type Delivery,
  decodeStanza,
  ENVELOPE_VERSION,
  type Envelope,
  encodeStanza,
  type ForMany,
  isForMany,
  partOf,
  readDelivery,
  readEnvelope,
  readStanza,
  readVersion,
  writeDelivery,
  writeEnvelope,
  writeStanza,
} from './envelope.ts'
import { Reader, Writer } from './wire.ts'

const text = fc.string({ unit: 'grapheme', maxLength: 40 })
const name = fc.stringMatching(/^[a-z0-9]{1,12}$/)
const jid = fc.tuple(name, name, fc.option(text)).map(([local, domain, resource]) => {
  try {
    return parseJid(resource ? `${local}@${domain}.example/${resource}` : `${local}@${domain}.example`)
  } catch {
    return parseJid(`${local}@${domain}.example`) // not every text is a resource
  }
})
const type = fc.oneof(fc.constantFrom('', 'chat', 'error', 'get', 'result', 'unavailable', 'probe', 'normal'), text)
const stanza: fc.Arbitrary<Stanza> = fc
  .tuple(
    fc.constantFrom<StanzaName>('message', 'presence', 'iq'),
    jid,
    fc.option(jid, { nil: undefined }),
    text,
    type,
    text,
    text,
    fc.uint8Array(),
    text,
  )
  .map(([name, from, to, id, type, lang, child, payload, trace]) =>
    stanzaOfBytes(name, from, to, id, type, lang, child, payload, trace),
  )
const fields = fc.dictionary(name, fc.oneof(text, fc.integer(), fc.boolean()))
const origin = fc.record({ edge: name, session: text, n: fc.maxSafeNat() })
const named = fc.oneof(fc.record({ origin, cause: fc.constant('') }), fc.record({ origin: fc.constant(undefined), cause: text }))
const envelope: fc.Arbitrary<Envelope> = fc.oneof(
  fc
    .record({
      kind: fc.constant('stanza' as const),
      point: fc.constantFrom('outbound' as const, 'inbound' as const, 'returned' as const),
      account: text,
      stanza,
      named,
      saidMs: fc.constantFrom(0, 1),
    })
    .map(({ named, ...envelope }) => ({ ...envelope, ...named })),
  fc.record({ kind: fc.constant('signal' as const), account: text, name: text, fields }),
  fc.record({ kind: fc.constant('fanout' as const), accounts: fc.array(text), stanza }),
  fc
    .record({
      ...{ kind: fc.constant('watch' as const), edge: name, watcher: text, session: text, contacts: fc.array(text) },
      ...{ unwatch: fc.boolean(), snapshot: fc.boolean(), items: fc.option(fc.array(text), { nil: undefined }) },
    })
    .map(({ items, ...watch }) => ({ ...watch, ...(items !== undefined && { items }) })),
)
const delivery: fc.Arbitrary<Delivery> = fc.oneof(
  fc.record({
    kind: fc.constant('stanza' as const),
    sessions: fc.array(text),
    to: fc.constantFrom('kept' as const, 'bare' as const, 'full' as const),
    stanza,
  }),
  fc.record({ kind: fc.constant('order' as const), session: text, name: text, fields }),
  fc.record({
    ...{ kind: fc.constant('shown' as const), contact: text, only: fc.option(fc.array(text), { nil: undefined }) },
    ...{ sessions: fc.array(text), filter: text, stanza },
  }),
  fc.record({ kind: fc.constantFrom('admit' as const, 'revoke' as const), contact: text, watchers: fc.array(text) }),
  fc.record({ kind: fc.constant('snapshot' as const), contact: text, resources: fc.array(text) }),
)

/** A stanza as plain data. */
function plain({ name, from, to, id, type, lang, child, payload, trace }: Stanza): object {
  return { name, from: from.full, to: to?.full, id, type, lang, child, payload: Buffer.from(payload).toString('hex'), trace }
}

const shown = (value: Envelope | Delivery): object => ('stanza' in value ? { ...value, stanza: plain(value.stanza) } : value)

function bytesOf(write: (out: Writer) => void): Buffer {
  const out = new Writer(64)
  write(out)
  return out.take()
}

describe('decode(encode(x)) = x', () => {
  test('of every envelope', () => {
    fc.assert(
      fc.property(envelope, (envelope) => {
        const saidMs = envelope.kind === 'stanza' ? envelope.saidMs : 0
        const read = readEnvelope(
          bytesOf((out) => writeEnvelope(out, envelope)),
          saidMs,
        )
        expect(shown(read)).toEqual(shown(envelope))
      }),
    )
  })

  test('of every delivery, one behind the other', () => {
    fc.assert(
      fc.property(fc.array(delivery, { maxLength: 5 }), (deliveries) => {
        const reader = new Reader(
          bytesOf((out) => {
            for (const delivery of deliveries) writeDelivery(out, delivery)
          }),
        )
        const read: Delivery[] = []
        while (!reader.done) read.push(readDelivery(reader))
        expect(read.map(shown)).toEqual(deliveries.map(shown))
      }),
    )
  })

  test('of a stanza as text, without its trace', () => {
    fc.assert(
      fc.property(stanza, (stanza) => {
        expect(plain(decodeStanza(encodeStanza(stanza)))).toEqual({ ...plain(stanza), trace: '' })
      }),
    )
  })

  test('of a stanza from nobody to nobody, as a stranger’s iq is', () => {
    const iq = stanzaOfBytes(
      'iq',
      { ...parseJid('a'), bare: '', full: '', domain: '' },
      undefined,
      'x',
      'get',
      '',
      '',
      new Uint8Array(),
    )
    expect(plain(readStanza(new Reader(bytesOf((out) => writeStanza(out, iq)))))).toEqual(plain(iq))
  })
})

test('a part of an envelope for many is the same for some of them', () => {
  const watch: Envelope = { kind: 'watch', edge: 'e1', watcher: 'bob@b', session: 's1', contacts: ['a@b', 'c@d'] }
  expect(isForMany(watch) && addresseesOf(watch)).toEqual(['a@b', 'c@d'])
  expect(partOf(watch as ForMany, ['c@d'])).toEqual({ ...watch, contacts: ['c@d'] })
  expect(isForMany({ kind: 'signal', account: 'a@b', name: 'x', fields: {} })).toBe(false)
})

describe('what is not ours is refused', () => {
  test.each([0, ENVELOPE_VERSION - 2, ENVELOPE_VERSION + 1, 255])('version %i', (version) => {
    expect(() => readVersion(new Reader(Uint8Array.of(version)))).toThrow(RangeError)
  })

  test('this version and the one before are read', () => {
    for (const version of [ENVELOPE_VERSION, ENVELOPE_VERSION - 1]) {
      expect(readVersion(new Reader(Uint8Array.of(version)))).toBe(version)
    }
  })

  test('a kind that is none', () => {
    expect(() => readEnvelope(Uint8Array.of(9))).toThrow(RangeError)
    expect(() => readDelivery(new Reader(Uint8Array.of(9)))).toThrow(RangeError)
  })

  test('fields that are no JSON, an address that is none, and a code without a meaning, as RangeError like the rest', () => {
    const fields = bytesOf((out) => writeEnvelope(out, { kind: 'signal', account: 'a@b', name: 'x', fields: {} }))
    fields[fields.length - 1] = 0
    expect(() => readEnvelope(fields)).toThrow(RangeError)
    const stanza = bytesOf((out) =>
      writeStanza(out, stanzaOfBytes('iq', parseJid('a@b'), undefined, '', '', '', '', new Uint8Array())),
    )
    const [unknown, unaddressed] = [Buffer.from(stanza), Buffer.from(stanza)]
    unknown[0] = 9
    unaddressed.write('@', 3)
    expect(() => readStanza(new Reader(unknown))).toThrow(RangeError)
    expect(() => readStanza(new Reader(unaddressed))).toThrow(RangeError)
  })

  test('an envelope that is cut short', () => {
    fc.assert(
      fc.property(envelope, fc.nat(), (envelope, cut) => {
        const bytes = bytesOf((out) => writeEnvelope(out, envelope))
        expect(() => readEnvelope(bytes.subarray(0, cut % bytes.length))).toThrow()
      }),
    )
  })
})

describe('the cause of what a stanza does', () => {
  const iq = stanzaOfBytes('iq', parseJid('a@b/c'), undefined, '', '', '', '', new Uint8Array())
  const said = { kind: 'stanza', point: 'outbound', account: 'a@b', stanza: iq } as const

  test('is named by the session that said it, and its place there', () => {
    expect(causeOf({ ...said, origin: { edge: 'e1', session: 's1', n: 7 } })).toBe('s1:7')
  })

  test('is kept when it is handed on', () => {
    const handed = { ...said, point: 'inbound', origin: undefined, cause: 's1:7' } as const
    const read = readEnvelope(bytesOf((out) => writeEnvelope(out, handed)))
    expect(causeOf(read as typeof handed)).toBe('s1:7')
  })

  test('is none where nobody gave it one', () => {
    expect(causeOf({ ...said, origin: undefined })).toBe('')
  })
})

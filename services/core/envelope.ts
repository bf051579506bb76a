// What roles say to each other: one codec, with a version.
//
// Four bodies go over the bus: a lane's frame of numbered envelopes to an owner and the acks that come back, an edge's
// frame of deliveries and what it says of them. As they are on the wire (core/wire.ts has the primitives):
//
//   lane frame   version u8, source text, prev u32, epoch u32, flags u8, { n u32, age u8, bytes: envelope }…
//   ack frame    version u8, role text, owner text, received u32, flags u8, { n u32 }…
//   edge frame   version u8, owner text, number f64, epoch u32, flags u8, { delivery }…
//   edge ack     version u8, edge text, number f64, flags u8
//
//   envelope     kind u8; 0 stanza: point u8, account text, edge text, name, trace text, stanza
//                           name:   session text, n f64; where edge is '': cause text
//                         1 signal: account text, name text, JSON text
//                         2 fanout: accounts (count u16, texts), trace text, stanza
//   delivery     kind u8; 0 stanza: to-mode u8, sessions (count u16, texts), trace text, stanza
//                         1 order:  session text, name text, JSON text
//   stanza       name u8, from text, to text?, id text, type u8 (0xff: text), lang text, child text, bytes: payload
//
// Version 1, which is still read, has no prev, epoch and flags, no age, no edge ack, and of a stanza's name always session
// and n, never a cause.
import { copyOf, type Stanza, type StanzaName, stanzaOfBytes } from '#xmpp/stanza.ts'
import type { Point } from './hooks.ts'
import { Reader, Writer } from './wire.ts'

/** A process understands this version and the one before it. */
export const ENVELOPE_VERSION = 2

/** The bound session a stanza came from. `n` is its position in the XEP-0198 count of that session. */
export interface Origin {
  readonly edge: string
  readonly session: string
  readonly n: number
}

/**
 * Where a stanza stands on its way: before the sender's hooks, before the recipient's, or behind them and back from a
 * session that has ended without acknowledging it (XEP-0198 §4).
 */
export type EnvelopePoint = Point | 'returned'

export type Envelope =
  /** One stanza in the name of `account`: the sender's (`outbound`) or the recipient's (`inbound`, `returned`). */
  | {
      readonly kind: 'stanza'
      readonly point: EnvelopePoint
      readonly account: string
      readonly origin: Origin | undefined
      readonly stanza: Stanza
      /**
       * What this follows from, where it is from no session: the `causeOf` what was handed on, or a name of its own for what the
       * server makes. The same whenever it comes again; so what it stores is recognised by it.
       */
      readonly cause?: string
      /** 1: it may have been handled before, by this owner or another. */
      readonly age?: number
    }
  /** Something the owner of an account has to know. `fields` must be JSON. */
  | { readonly kind: 'signal'; readonly account: string; readonly name: string; readonly fields: Fields }
  /** One stanza inbound for many accounts of one owner. */
  | { readonly kind: 'fanout'; readonly accounts: readonly string[]; readonly stanza: Stanza }

/** The name of what a stanza envelope does: `<session>:<n>` for what a client said. '' where it has none. */
export function causeOf({ origin, cause = '' }: Envelope & { kind: 'stanza' }): string {
  return origin === undefined ? cause : causeOfOrigin(origin)
}

export function causeOfOrigin({ session, n }: Origin): string {
  return `${session}:${n}`
}

export type Fields = Readonly<Record<string, string | number | boolean | undefined>>

/** What `to` a delivered stanza carries: the one it has, or the bare or full JID of each session it goes to. */
export type ToMode = 'kept' | 'bare' | 'full'

export type Delivery =
  | {
      readonly kind: 'stanza'
      readonly sessions: readonly string[]
      readonly to: ToMode
      readonly stanza: Stanza
    }
  /** Something the edge has to do with a session: 'close', 'flag'. */
  | { readonly kind: 'order'; readonly session: string; readonly name: string; readonly fields: Fields }

const NAMES: readonly StanzaName[] = ['message', 'presence', 'iq']
/** The types RFC 6121 §4.7.1, §5.2.2 and RFC 6120 §8.2.3 name. Append only: the position is the code on the wire. */
const TYPES = [
  ...['', 'chat', 'error', 'groupchat', 'headline', 'normal', 'get', 'set', 'result', 'unavailable'],
  ...['subscribe', 'subscribed', 'unsubscribe', 'unsubscribed', 'probe'],
] as const
const TYPE_CODES = new Map<string, number>(TYPES.map((type, code) => [type, code]))
const TYPE_AS_TEXT = 0xff
const TO_MODES: readonly ToMode[] = ['kept', 'bare', 'full']
/** Append only: the position is the code on the wire. */
const POINTS: readonly EnvelopePoint[] = ['outbound', 'inbound', 'returned']

export function writeEnvelope(out: Writer, envelope: Envelope): void {
  switch (envelope.kind) {
    case 'stanza': {
      const { origin, stanza } = envelope
      out.u8(0)
      out.u8(POINTS.indexOf(envelope.point))
      out.text(envelope.account)
      if (origin === undefined) {
        out.text('')
        out.text(envelope.cause ?? '')
      } else {
        out.text(origin.edge)
        out.text(origin.session)
        out.f64(origin.n)
      }
      out.text(stanza.trace)
      writeStanza(out, stanza)
      return
    }
    case 'signal':
      out.u8(1)
      out.text(envelope.account)
      out.text(envelope.name)
      out.text(JSON.stringify(envelope.fields))
      return
    case 'fanout':
      out.u8(2)
      out.u16(envelope.accounts.length)
      for (const account of envelope.accounts) out.text(account)
      out.text(envelope.stanza.trace)
      writeStanza(out, envelope.stanza)
  }
}

/** Throws RangeError on bytes that are no envelope of ours. `age` and `version` are those of the frame it came in. */
export function readEnvelope(bytes: Uint8Array, age = 0, version = ENVELOPE_VERSION): Envelope {
  const reader = new Reader(bytes)
  const kind = reader.u8()
  if (kind === 0) {
    const point = coded(POINTS, reader.u8())
    const account = reader.sharedText()
    const edge = reader.sharedText()
    const name = reader.text() // of the session, or the cause
    const n = edge !== '' || version === 1 ? reader.f64() : 0
    const origin = edge === '' ? undefined : { edge, session: name, n }
    const cause = edge === '' ? name : '' // in version 1 it is ''
    return { kind: 'stanza', point, account, origin, stanza: readStanza(reader, reader.text()), cause, age }
  }
  if (kind === 1) return { kind: 'signal', account: reader.text(), name: reader.text(), fields: fieldsOf(reader.text()) }
  if (kind === 2) {
    return { kind: 'fanout', accounts: readTexts(reader), stanza: readStanza(reader, reader.text()) }
  }
  throw new RangeError(`envelope of kind ${kind}`)
}

export function writeDelivery(out: Writer, delivery: Delivery): void {
  if (delivery.kind === 'order') {
    out.u8(1)
    out.text(delivery.session)
    out.text(delivery.name)
    out.text(JSON.stringify(delivery.fields))
    return
  }
  out.u8(0)
  out.u8(TO_MODES.indexOf(delivery.to))
  out.u16(delivery.sessions.length)
  for (const session of delivery.sessions) out.text(session)
  out.text(delivery.stanza.trace)
  writeStanza(out, delivery.stanza)
}

/** Throws RangeError on bytes that are no delivery of ours. */
export function readDelivery(reader: Reader): Delivery {
  const kind = reader.u8()
  if (kind === 1) {
    return { kind: 'order', session: reader.text(), name: reader.text(), fields: fieldsOf(reader.text()) }
  }
  if (kind !== 0) throw new RangeError(`delivery of kind ${kind}`)
  const to = coded(TO_MODES, reader.u8())
  const sessions = readTexts(reader)
  return { kind: 'stanza', to, sessions, stanza: readStanza(reader, reader.text()) }
}

/** Throws RangeError where it is neither this version nor the one before, or the body is not ours. */
export function readVersion(reader: Reader): number {
  const version = reader.u8()
  if (version !== ENVELOPE_VERSION && version !== ENVELOPE_VERSION - 1)
    throw new RangeError(`envelope version ${version}; this process speaks ${ENVELOPE_VERSION} and ${ENVELOPE_VERSION - 1}`)
  return version
}

function readTexts(reader: Reader): string[] {
  const count = reader.u16()
  if (count === 1) return [reader.text()]
  const texts: string[] = []
  for (let i = 0; i < count; i++) texts.push(reader.text())
  return texts
}

/** Also how a stanza is kept in a journal: without its trace, which ends there. */
export function writeStanza(out: Writer, stanza: Stanza): void {
  out.u8(NAMES.indexOf(stanza.name))
  out.text(stanza.from.full)
  out.text(stanza.to?.full)
  out.text(stanza.id)
  const code = TYPE_CODES.get(stanza.type)
  if (code === undefined) {
    out.u8(TYPE_AS_TEXT)
    out.text(stanza.type)
  } else {
    out.u8(code)
  }
  out.text(stanza.lang)
  out.text(stanza.child)
  out.bytes(stanza.payload)
}

export function readStanza(reader: Reader, trace = ''): Stanza {
  const name = coded(NAMES, reader.u8())
  const from = reader.jid()
  const to = reader.optionalJid()
  const id = reader.text()
  const code = reader.u8()
  const type = code === TYPE_AS_TEXT ? reader.text() : coded(TYPES, code)
  const lang = reader.sharedText()
  const child = reader.sharedText()
  return stanzaOfBytes(name, from, to, id, type, lang, child, reader.bytes(), trace)
}

/** A stanza as text, for the fields of a call. */
export function encodeStanza(stanza: Stanza): string {
  const out = new Writer(512)
  writeStanza(out, stanza)
  return out.take().toString('base64')
}

/** Throws RangeError on what encodeStanza did not write. */
export function decodeStanza(text: string): Stanza {
  return readStanza(new Reader(Buffer.from(text, 'base64')))
}

function coded<T>(list: readonly T[], code: number): T {
  const meant = list[code]
  if (meant === undefined) throw new RangeError(`a code of ${code}, which is none`)
  return meant
}

function fieldsOf(text: string): Fields {
  try {
    return JSON.parse(text) as Fields
  } catch (cause) {
    throw new RangeError('fields that are no JSON', { cause })
  }
}

/** Without the body it came in, which would stay in memory with it. */
export function ownCopyOf(envelope: Envelope): Envelope {
  return envelope.kind === 'signal' ? envelope : { ...envelope, stanza: copyOf(envelope.stanza, envelope.stanza.trace) }
}

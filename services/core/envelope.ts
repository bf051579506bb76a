// What roles say to each other: one codec, with a version.
//
// Four bodies go over the bus: a lane's frame of numbered envelopes to an owner and the acks that come back, an edge's
// frame of deliveries and what it says of them. As they are on the wire (core/wire.ts has the primitives):
//
//   lane frame   version u8, source text, prev u32, epoch u32, flags u8, { n u32, age u8, bytes: envelope }…
//   ack frame    version u8, role text, owner text, received u32, flags u8, { n u32 }…
//                age: 0: for the first time, to anybody; n: maybe not, and first said up to n times 5 minutes ago
//   edge frame   version u8, owner text, number f64, epoch u32, flags u8, { delivery }…
//   edge ack     version u8, edge text, number f64, flags u8
//
//   envelope     kind u8; 0 stanza: point u8, account text, edge text, name, trace text, stanza
//                           name:   session text, n f64; where edge is '': cause text
//                         1 signal: account text, name text, JSON text
//                         2 fanout: accounts (count u16, texts), trace text, stanza
//                         3 watch:  edge text, watcher text, session text, flags u8 (1: unwatch, 2: snapshot, 4: items),
//                                   items? (count u16, texts), contacts (count u16, texts)
//   delivery     kind u8; 0 stanza:   to-mode u8, sessions (count u16, texts), trace text, stanza
//                         1 order:    session text, name text, JSON text
//                         2 shown:    contact text, flags u8 (1: only), filter text, only? (count u16, texts),
//                                     sessions (count u16, texts), trace text, stanza
//                         3 admit:    contact text, watchers (count u16, texts)
//                         4 revoke:   contact text, watchers (count u16, texts)
//                         5 snapshot: contact text, resources (count u16, texts)
//   stanza       name u8, from text, to text?, id text, type u8 (0xff: text), lang text, child text, bytes: payload
//
// Version 2, which is still read, is the same without the envelope 3 and the deliveries from 2 on.
import { copyOf, type Stanza, type StanzaName, stanzaOfBytes } from '#xmpp/stanza.ts'
import type { Point } from './hooks.ts'
import { Reader, Writer } from './wire.ts'

/** A process understands this version and the one before it. */
export const ENVELOPE_VERSION = 3
/** It brought watches, and the deliveries to those who watch. */
export const WATCHES_SINCE = 3

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
      /**
       * When it was first said, at the earliest, by the clock of whoever has it; 0: a moment ago, and nobody can have handled it
       * before. Else it may come again, to this owner or another.
       */
      readonly saidMs?: number
    }
  /** Something the owner of an account has to know. `fields` must be JSON. */
  | { readonly kind: 'signal'; readonly account: string; readonly name: string; readonly fields: Fields }
  /** One stanza inbound for many accounts of one owner. */
  | { readonly kind: 'fanout'; readonly accounts: readonly string[]; readonly stanza: Stanza }
  | Watch

/** What an edge tells the owner of contacts of those who watch them there (edge/watching/audience.ts). */
export interface Watch {
  readonly kind: 'watch'
  readonly edge: string
  /** A bare JID; '' in a `snapshot`. */
  readonly watcher: string
  /** The one that is to be greeted: that has just become available, or asks for items; '' for all of the watcher's at that edge. */
  readonly session: string
  /** The last session of the watcher at that edge watches them no more. Whoever was admitted is revoked: what was on its way is void. */
  readonly unwatch?: boolean
  /**
   * The edge has lost deliveries: it is told of each of these who is admitted there, what they show, and, behind that, which
   * resources that was (`snapshot`). Of none of them anybody is admitted there until then.
   */
  readonly snapshot?: boolean
  /** The nodes of which the session wants the last items (XEP-0163 §4.3.2), now that its capabilities are known; it has been greeted. */
  readonly items?: readonly string[]
  readonly contacts: readonly string[]
}

/** Those that are for accounts of several partitions. A part of one is one of its own. */
export type ForMany = Envelope & { readonly kind: 'fanout' | 'watch' }

export function isForMany(envelope: Envelope): envelope is ForMany {
  return envelope.kind === 'fanout' || envelope.kind === 'watch'
}

export function addresseesOf(envelope: ForMany): readonly string[] {
  return envelope.kind === 'fanout' ? envelope.accounts : envelope.contacts
}

export function partOf(envelope: ForMany, addressees: readonly string[]): ForMany {
  return envelope.kind === 'fanout' ? { ...envelope, accounts: addressees } : { ...envelope, contacts: addressees }
}

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
  | Shown
  | Admission
  /** What there is to be seen of the contact now: whatever resource was seen besides these is seen no more. */
  | { readonly kind: 'snapshot'; readonly contact: string; readonly resources: readonly string[] }

/** What names the sessions that it is for. */
export type SessionDelivery = Delivery & { readonly kind: 'stanza' | 'order' }

/** Presence of a contact, or what he publishes, to whoever sees him at the edge (edge/watching/audience.ts). Its `to` is the bare JID of each. */
export interface Shown {
  readonly kind: 'shown'
  /** A bare JID. */
  readonly contact: string
  /** Undefined: to all who are admitted; else to these watchers, whether they are admitted or not. */
  readonly only: readonly string[] | undefined
  /** To these sessions, too. */
  readonly sessions: readonly string[]
  /** Only to clients whose capabilities have this feature (XEP-0163 §4.2); '' for all. */
  readonly filter: string
  readonly stanza: Stanza
}

/** From here on, in the order of what one owner sends, these watchers see the contact, or do not; to revoke of none is of all. */
export interface Admission {
  readonly kind: 'admit' | 'revoke'
  readonly contact: string
  readonly watchers: readonly string[]
}

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
/** Of envelopes. */
const WATCH = 3
/** Of a watch. */
const UNWATCH = 1
const SNAPSHOT = 2
const ITEMS = 4
/** Of what is shown. */
const ONLY = 1

/** The version from which on an envelope is understood, as it is written. */
export function sinceOf(bytes: Uint8Array): number {
  return bytes[0] === WATCH ? WATCHES_SINCE : ENVELOPE_VERSION - 1
}

/** The same of a delivery. */
export function deliveredSince({ kind }: Delivery): number {
  return kind === 'stanza' || kind === 'order' ? ENVELOPE_VERSION - 1 : WATCHES_SINCE
}

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
      writeTexts(out, envelope.accounts)
      out.text(envelope.stanza.trace)
      writeStanza(out, envelope.stanza)
      return
    case 'watch':
      out.u8(WATCH)
      writeWatch(out, envelope)
  }
}

function writeWatch(out: Writer, { edge, watcher, session, unwatch, snapshot, items, contacts }: Watch): void {
  out.text(edge)
  out.text(watcher)
  out.text(session)
  out.u8((unwatch ? UNWATCH : 0) | (snapshot ? SNAPSHOT : 0) | (items === undefined ? 0 : ITEMS))
  if (items !== undefined) writeTexts(out, items)
  writeTexts(out, contacts)
}

/** Throws RangeError on bytes that are no envelope of ours. `saidMs` follows from the frame it came in (core/lanes/lane-frame.ts). */
export function readEnvelope(bytes: Uint8Array, saidMs = 0): Envelope {
  const reader = new Reader(bytes)
  const kind = reader.u8()
  if (kind === 0) {
    const point = coded(POINTS, reader.u8())
    const account = reader.sharedText()
    const edge = reader.sharedText()
    const name = reader.text() // of the session, or the cause
    const origin = edge === '' ? undefined : { edge, session: name, n: reader.f64() }
    const cause = edge === '' ? name : ''
    return { kind: 'stanza', point, account, origin, stanza: readStanza(reader, reader.text()), cause, saidMs }
  }
  if (kind === 1) return { kind: 'signal', account: reader.text(), name: reader.text(), fields: fieldsOf(reader.text()) }
  if (kind === 2) {
    return { kind: 'fanout', accounts: readTexts(reader), stanza: readStanza(reader, reader.text()) }
  }
  if (kind === WATCH) return readWatch(reader)
  throw new RangeError(`envelope of kind ${kind}`)
}

function readWatch(reader: Reader): Watch {
  const edge = reader.sharedText()
  const watcher = reader.text()
  const session = reader.text()
  const flags = reader.u8()
  const items = flags & ITEMS ? readTexts(reader) : undefined
  const contacts = readTexts(reader)
  return {
    ...{ kind: 'watch', edge, watcher, session, unwatch: (flags & UNWATCH) !== 0, snapshot: (flags & SNAPSHOT) !== 0 },
    ...(items !== undefined && { items }),
    contacts,
  }
}

export function writeDelivery(out: Writer, delivery: Delivery): void {
  switch (delivery.kind) {
    case 'stanza':
      out.u8(0)
      out.u8(TO_MODES.indexOf(delivery.to))
      writeTexts(out, delivery.sessions)
      out.text(delivery.stanza.trace)
      return writeStanza(out, delivery.stanza)
    case 'order':
      out.u8(1)
      out.text(delivery.session)
      out.text(delivery.name)
      return out.text(JSON.stringify(delivery.fields))
    case 'shown':
      out.u8(2)
      return writeShown(out, delivery)
    case 'admit':
    case 'revoke':
      out.u8(delivery.kind === 'admit' ? 3 : 4)
      out.text(delivery.contact)
      return writeTexts(out, delivery.watchers)
    case 'snapshot':
      out.u8(5)
      out.text(delivery.contact)
      writeTexts(out, delivery.resources)
  }
}

function writeShown(out: Writer, { contact, only, sessions, filter, stanza }: Shown): void {
  out.text(contact)
  out.u8(only === undefined ? 0 : ONLY)
  out.text(filter)
  if (only !== undefined) writeTexts(out, only)
  writeTexts(out, sessions)
  out.text(stanza.trace)
  writeStanza(out, stanza)
}

/** Throws RangeError on bytes that are no delivery of ours. */
export function readDelivery(reader: Reader): Delivery {
  const kind = reader.u8()
  switch (kind) {
    case 0: {
      const to = coded(TO_MODES, reader.u8())
      const sessions = readTexts(reader)
      return { kind: 'stanza', to, sessions, stanza: readStanza(reader, reader.text()) }
    }
    case 1:
      return { kind: 'order', session: reader.text(), name: reader.text(), fields: fieldsOf(reader.text()) }
    case 2:
      return readShown(reader)
    case 3:
      return { kind: 'admit', contact: reader.text(), watchers: readTexts(reader) }
    case 4:
      return { kind: 'revoke', contact: reader.text(), watchers: readTexts(reader) }
    case 5:
      return { kind: 'snapshot', contact: reader.text(), resources: readTexts(reader) }
  }
  throw new RangeError(`delivery of kind ${kind}`)
}

function readShown(reader: Reader): Shown {
  const contact = reader.sharedText()
  const flags = reader.u8()
  const filter = reader.sharedText()
  const only = flags & ONLY ? readTexts(reader) : undefined
  const sessions = readTexts(reader)
  return { kind: 'shown', contact, only, sessions, filter, stanza: readStanza(reader, reader.text()) }
}

/** Throws RangeError where it is neither this version nor the one before, or the body is not ours. */
export function readVersion(reader: Reader): number {
  const version = reader.u8()
  if (version !== ENVELOPE_VERSION && version !== ENVELOPE_VERSION - 1)
    throw new RangeError(`envelope version ${version}; this process speaks ${ENVELOPE_VERSION} and ${ENVELOPE_VERSION - 1}`)
  return version
}

function writeTexts(out: Writer, texts: readonly string[]): void {
  out.u16(texts.length)
  for (let i = 0; i < texts.length; i++) out.text(texts[i])
}

function readTexts(reader: Reader): readonly string[] {
  const count = reader.u16()
  if (count === 0) return NONE
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

const NONE: readonly string[] = []

/** Without the body it came in, which would stay in memory with it. */
export function ownCopyOf(envelope: Envelope): Envelope {
  return envelope.kind === 'signal' || envelope.kind === 'watch'
    ? envelope
    : { ...envelope, stanza: copyOf(envelope.stanza, envelope.stanza.trace) }
}

// What an owner and an edge say to each other of sessions (core/ownership/resync.ts), as it is on the wire (core/wire.ts):
//
//   resync     version u8, role text, owner text, id u32, epoch u32, partitions (count u16, u8…)
//   resynced   version u8, edge text, id u32, part u32, flags u8 (1: the last; 2: seen; 4: watches),
//              { session }… or { jid text }… or { watches }…
//
//   session    session text, jid text, JSON text: about, flags (count u16, texts), directed (count u16, texts),
//              bytes: the presence as core/envelope.ts writes a stanza, empty for none
//   watches    contact text, watchers (count u16, texts), admitted (count u16, texts); not in version 2
import { type Jid, parseJid } from '#xmpp/jid.ts'
import type { Stanza } from '#xmpp/stanza.ts'
import { ENVELOPE_VERSION, readStanza, readVersion, writeStanza } from '../envelope.ts'
import { Reader, Writer } from '../wire.ts'
import type { RoleName } from './ownership.ts'
import type { AboutSession } from './registry.ts'

/** Of a resynced frame. */
const LAST = 1
/** It names full JIDs of the partitions asked for that sessions of the edge have been shown as available. */
const SEEN = 2
/** It names watchers of the partitions asked for. */
const WATCHES = 4
const STANZA_BYTES = 1_024

/** What an edge tells of one of its sessions. */
export interface ToldSession {
  readonly session: string
  readonly edge: string
  readonly jid: Jid
  readonly about: AboutSession
  /** What modules have set on it (core/module.ts, Session.set). */
  readonly flags: readonly string[]
  /** To whom it has sent directed presence that is not taken back (RFC 6121 §4.6). */
  readonly directed: readonly Jid[]
  /** What it has broadcast last, as far as that is handled; undefined while it is not available. */
  readonly presence: Stanza | undefined
}

/** What an edge tells of those who watch one account there. Of one account there may be several. */
export interface ToldWatches {
  readonly edge: string
  readonly contact: string
  /** Bare JIDs. */
  readonly watchers: readonly string[]
  /** Those of them who see him, as far as the edge knows. */
  readonly admitted: readonly string[]
}

export interface ResyncRequest {
  /** That the edge reads; the answer is of the same. */
  readonly version: number
  readonly role: RoleName
  readonly owner: string
  /** Of this asking: what answers another one comes too late. */
  readonly id: number
  /** Of the ownership row by which the partitions are the owner's. */
  readonly epoch: number
  readonly partitions: readonly number[]
}

export function resyncRequest({ version, role, owner, id, epoch, partitions }: ResyncRequest): Buffer {
  const out = new Writer(512)
  out.u8(version)
  out.text(role)
  out.text(owner)
  out.u32(id)
  out.u32(epoch)
  out.u16(partitions.length)
  for (const partition of partitions) out.u8(partition)
  return out.take()
}

/** Throws RangeError on what is no request of ours. */
export function readResyncRequest(body: Uint8Array): ResyncRequest {
  const reader = new Reader(body)
  const version = readVersion(reader)
  const role = reader.text()
  if (role !== 'router' && role !== 'presence') throw new RangeError(`a resync for ${role}, which is no owner`)
  const owner = reader.text()
  const id = reader.u32()
  const epoch = reader.u32()
  const partitions = Array.from({ length: reader.u16() }, () => reader.u8())
  return { version, role, owner, id, epoch, partitions }
}

/** Begins a frame; `endPart` takes it. Returns where its flags are. */
export function beginPart(out: Writer, edge: string, id: number, part: number, version = ENVELOPE_VERSION): number {
  out.u8(version)
  out.text(edge)
  out.u32(id)
  out.u32(part)
  out.u8(0)
  return out.length - 1
}

export interface PartFlags {
  readonly last?: boolean
  /** What is in it, where that is not sessions. */
  readonly of?: 'seen' | 'watches'
}

export function endPart(out: Writer, flagsAt: number, { last = false, of }: PartFlags): Buffer {
  const body = out.take()
  body[flagsAt] = (last ? LAST : 0) | (of === 'seen' ? SEEN : of === 'watches' ? WATCHES : 0)
  return body
}

export function writeWatches(out: Writer, { contact, watchers, admitted }: Omit<ToldWatches, 'edge'>): void {
  out.text(contact)
  for (const names of [watchers, admitted]) {
    out.u16(names.length)
    for (const name of names) out.text(name)
  }
}

export function writeSession(out: Writer, { session, jid, about, flags, directed, presence }: ToldSession): void {
  out.text(session)
  out.text(jid.full)
  out.text(JSON.stringify(about))
  out.u16(flags.length)
  for (const flag of flags) out.text(flag)
  out.u16(directed.length)
  for (const to of directed) out.text(to.full)
  if (presence === undefined) return out.u32(0)
  const bytes = new Writer(STANZA_BYTES)
  writeStanza(bytes, presence)
  out.bytes(bytes.take())
}

export interface ResyncPart {
  readonly edge: string
  readonly id: number
  readonly part: number
  readonly last: boolean
  /** All but one of them are empty. */
  readonly sessions: readonly ToldSession[]
  readonly watches: readonly ToldWatches[]
  readonly seen: readonly string[]
}

/** Throws RangeError, JidError or SyntaxError on what is no part of ours. */
export function readPart(body: Uint8Array): ResyncPart {
  const reader = new Reader(body)
  readVersion(reader)
  const edge = reader.text()
  const id = reader.u32()
  const part = reader.u32()
  const flags = reader.u8()
  const sessions: ToldSession[] = []
  const watches: ToldWatches[] = []
  const seen: string[] = []
  while (!reader.done) {
    if (flags & SEEN) seen.push(reader.text())
    else if (flags & WATCHES) watches.push(readWatches(reader, edge))
    else sessions.push(readSession(reader, edge))
  }
  return { edge, id, part, last: (flags & LAST) !== 0, sessions, watches, seen }
}

function readWatches(reader: Reader, edge: string): ToldWatches {
  const contact = reader.text()
  const watchers = Array.from({ length: reader.u16() }, () => reader.text())
  const admitted = Array.from({ length: reader.u16() }, () => reader.text())
  return { edge, contact, watchers, admitted }
}

function readSession(reader: Reader, edge: string): ToldSession {
  const session = reader.text()
  const jid = parseJid(reader.text())
  const about = JSON.parse(reader.text()) as AboutSession
  const flags = Array.from({ length: reader.u16() }, () => reader.text())
  const directed = Array.from({ length: reader.u16() }, () => parseJid(reader.text()))
  const bytes = reader.bytes()
  // A copy: it is shown for long, and would keep the whole body.
  const presence = bytes.length === 0 ? undefined : readStanza(new Reader(Buffer.from(bytes)))
  return { session, edge, jid, about, flags, directed, presence }
}

// A session on its way from one edge to another, as it is on the wire (core/wire.ts):
//
//   head    version u8, JSON text, presence (bytes as core/envelope.ts writes a stanza, empty for none)
//   kept    { to-mode u8, receivedMs f64, waits u8, bytes: stanza }…       in as many bodies as it takes
//
// It is all that the edge it comes from had of it: whoever takes it goes on where that one stopped.
import { readStanza, type ToMode, writeStanza } from '#core/envelope.ts'
import type { ConnectionFacts } from '#core/ownership/registry.ts'
import { Reader, Writer } from '#core/wire.ts'
import { type Jid, parseJid } from '#xmpp/jid.ts'
import type { Stanza } from '#xmpp/stanza.ts'
import { Kept } from '../sessions/stream-management.ts'

const VERSION = 1
/** Of what is kept, in one body: a stanza is at most 256 KiB, a body of the bus 1 MiB. */
const PART_BYTES = 512 * 1024
const TO_MODES: readonly ToMode[] = ['kept', 'bare', 'full']

/** What a session begins with, or goes on with. */
export interface Begun {
  readonly generation: number
  readonly about: ConnectionFacts
  /** When it was bound; now, where it is now. */
  readonly sinceMs?: number
  /** What modules have set on it (core/module.ts, Session.set). */
  readonly flags?: readonly string[]
}

export interface MovedSession extends Begun {
  readonly session: string
  readonly jid: Jid
  /** Of the credentials that whoever resumes it must have logged in by, or later ones. */
  readonly generation: number
  readonly sinceMs: number
  readonly about: ConnectionFacts
  readonly flags: readonly string[]
  /** Stanzas that have come of its client, all of them handled. */
  readonly received: number
  /** The presence owner knows of it. */
  readonly toldPresence: boolean
  readonly present: boolean
  readonly held: boolean
  readonly broadcast: Stanza | undefined
  /** Full JIDs that have been sent directed presence. */
  readonly directed: readonly Jid[]
  /** Full JIDs that its client sees as available. */
  readonly seen: readonly string[]
  readonly management: MovedManagement
}

/** Of XEP-0198. */
export interface MovedManagement {
  readonly id: string
  readonly resumeS: number
  /** Stanzas that the client had sent before it enabled this. */
  readonly base: number
  readonly acknowledged: number
  /** Sent and not acknowledged. */
  readonly queue: readonly Kept[]
  /** Came while there was no stream. */
  readonly waiting: readonly Kept[]
}

/** The head first. */
export function writeMoved(moved: MovedSession): Buffer[] {
  const { jid, directed, broadcast, management, ...plain } = moved
  const { queue, waiting, ...counts } = management
  const out = new Writer()
  out.u8(VERSION)
  out.text(JSON.stringify({ ...plain, jid: jid.full, directed: directed.map(({ full }) => full), management: counts }))
  out.bytes(broadcast === undefined ? NOTHING : bytesOf(broadcast))
  const bodies = [out.take()]
  for (const [all, waits] of [
    [queue, 0],
    [waiting, 1],
  ] as const) {
    for (const { to, receivedMs, stanza } of all) {
      const bytes = bytesOf(stanza)
      if (out.length > 0 && out.length + bytes.length > PART_BYTES) bodies.push(out.take())
      out.u8(TO_MODES.indexOf(to))
      out.f64(receivedMs)
      out.u8(waits)
      out.bytes(bytes)
    }
  }
  if (out.length > 0) bodies.push(out.take())
  return bodies
}

/** Throws RangeError, SyntaxError or JidError on what is no session of ours. */
export function readMoved([head, ...parts]: readonly Uint8Array[]): MovedSession {
  const reader = new Reader(head!)
  const version = reader.u8()
  if (version !== VERSION) throw new RangeError(`a moved session of version ${version}`)
  const { jid, directed, management, ...plain } = JSON.parse(reader.text())
  const presence = reader.bytes()
  const queue: Kept[] = []
  const waiting: Kept[] = []
  for (const part of parts) {
    for (const entries = new Reader(part); !entries.done; ) {
      const to = TO_MODES[entries.u8()]
      if (to === undefined) throw new RangeError('no such way to address a stanza')
      const receivedMs = entries.f64()
      const all = entries.u8() === 0 ? queue : waiting
      all.push(new Kept(readStanza(new Reader(entries.bytes())), to, receivedMs))
    }
  }
  return {
    ...plain,
    jid: parseJid(jid),
    directed: directed.map(parseJid),
    broadcast: presence.length === 0 ? undefined : readStanza(new Reader(Buffer.from(presence))),
    management: { ...management, queue, waiting },
  }
}

function bytesOf(stanza: Stanza): Buffer {
  const out = new Writer(1_024)
  writeStanza(out, stanza)
  return out.take()
}

const NOTHING = new Uint8Array(0)

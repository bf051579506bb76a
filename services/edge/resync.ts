// An edge and its owners, when one of them has lost something.
//
// An owner who is new is told what he must know of the sessions here (core/ownership/resync.ts): the edge holds the sockets. It does so
// when it goes by the ownership row that the owner goes by. From then on what is unacked is on its way to the new owner and
// nobody else: so what is told is what was handled, and the rest comes behind it.
//
// An edge that was taken for dead, or is without the bus that others have, ends its sessions: their owners have. Where deliveries are lost, see edge/watching/refresh.ts.
import { setImmediate as turn } from 'node:timers/promises'
import type { Subscription } from '#bus/bus.ts'
import { type Fields, WATCHES_SINCE } from '#core/envelope.ts'
import { FRAME_BYTES } from '#core/lanes/lane-frame.ts'
import { PARTITIONS, partitionOf } from '#core/ownership/ownership.ts'
import {
  beginPart,
  endPart,
  type PartFlags,
  type ResyncRequest,
  readResyncRequest,
  type ToldWatches,
  writeSession,
  writeWatches,
} from '#core/ownership/resync-frame.ts'
import type { Process } from '#core/process.ts'
import { Writer } from '#core/wire.ts'
import { StreamError } from '#xmpp/error.ts'
import { parseJid } from '#xmpp/jid.ts'
import type { Edge } from './main.ts'
import type { EdgeSession } from './sessions/session.ts'
import type { Watched } from './watching/audience.ts'
import { listOf } from './watching/watching.ts'

/** How often is looked whether the row is known, and for how long: then the owner asks again, or has lost them, too. */
const LOOK_MS = 25
const LOOKS_MAX = 40
/** Bare JIDs in one of what is told of watchers; one has at most 2 KiB. */
const WATCHERS_AT_ONCE = 300
const NOTHING = new Uint8Array(0)

export function answerResyncs(process: Process, edge: Edge): Subscription {
  const { id, bus, ownership, clock, log } = process
  return bus.subscribe(`resync.${id}`, (body, reply) => {
    try {
      const request = readResyncRequest(body)
      reply(NOTHING) // somebody is here
      answer(request, LOOKS_MAX)
    } catch (error) {
      log.error('resync.refused', { error })
    }
  })

  function answer(request: ResyncRequest, looks: number): void {
    if (ownership.epoch(request.role) >= request.epoch) return tell(request)
    if (looks === 0) return
    ownership.look?.()
    clock.setTimeout(() => answer(request, looks - 1), LOOK_MS)
  }

  function tell({ version, role, owner, id, partitions }: ResyncRequest): void {
    const wanted: boolean[] = new Array(PARTITIONS).fill(false)
    for (const partition of partitions) wanted[partition] = true
    const out = new Writer()
    let part = 0
    let flagsAt = beginPart(out, edge.id, id, part, version)
    const end = (flags: PartFlags): void => {
      bus.publish(`resynced.${role}.${owner}`, endPart(out, flagsAt, flags))
      if (flags.last !== true) flagsAt = beginPart(out, edge.id, id, ++part, version)
    }
    for (const session of sessionsOf(edge)) {
      if (!wanted[partitionOf(session.jid.bare)]) continue
      const told = session.told(role)
      if (told === undefined) continue
      if (out.length > FRAME_BYTES) end({})
      writeSession(out, told)
    }
    if (role === 'router') return end({ last: true })
    end({})
    if (version >= WATCHES_SINCE) {
      for (const watched of watchedOf(edge, wanted)) {
        for (const portion of portionsOf(watched)) {
          if (out.length > FRAME_BYTES) end({ of: 'watches' })
          writeWatches(out, portion)
        }
      }
      end({ of: 'watches' })
    }
    for (const full of seenOf(edge, wanted)) {
      if (out.length > FRAME_BYTES) end({ of: 'seen' })
      out.text(full)
    }
    end({ of: 'seen', last: true })
  }
}

function watchedOf({ watching }: Edge, wanted: readonly boolean[]): Iterable<Watched> {
  return watching.audience.watched((contact) => wanted[partitionOf(contact)]!)
}

/** Those of one contact, so many at a time that they fit into a body. */
function* portionsOf({ contact, watchers, admitted }: Watched): Iterable<Omit<ToldWatches, 'edge'>> {
  for (let at = 0; at < watchers.length; at += WATCHERS_AT_ONCE)
    yield {
      contact,
      watchers: watchers.slice(at, at + WATCHERS_AT_ONCE),
      admitted: admitted.slice(at, at + WATCHERS_AT_ONCE),
    }
}

/** In the order in which they were bound, each once. */
function sessionsOf({ sessions, parting }: Edge): Iterable<EdgeSession> {
  return new Set([...parting, ...sessions.values()])
}

/** Of accounts of ours in these partitions, each once. */
function seenOf(edge: Edge, wanted: readonly boolean[]): Set<string> {
  const { sessions, domainOf } = edge
  const seen = new Set<string>()
  for (const { contact, resources } of watchedOf(edge, wanted))
    for (const resource of resources) seen.add(`${contact}/${resource}`)
  for (const session of sessions.values()) {
    for (const [full, partition] of session.showing.seen) {
      if (!wanted[partition] || seen.has(full)) continue
      if (domainOf(full.slice(full.indexOf('@') + 1, full.indexOf('/'))) !== undefined) seen.add(full)
    }
  }
  return seen
}

/** An owner has found that these are gone, though nobody has seen them go. */
export function loseAll({ sessions, watching }: Edge, { jids }: Fields): void {
  const gone = new Map(listOf(jids).map((full) => [full, parseJid(full)]))
  watching.lose([...gone.keys()])
  for (const session of sessions.values()) session.lose(gone)
}

/** Sessions seen to in one turn. */
const PER_TURN = 500

/** This process was taken for dead, or is without the bus, and its sessions have been ended by their owners. */
export async function endSessions(edge: Edge): Promise<void> {
  let count = 0
  const known = [...edge.sessions.values()]
  for (const stream of [...edge.streams]) {
    if (stream.state === 'bound') stream.fail(new StreamError('system-shutdown', 'this server was out of reach for too long'))
    if (++count % PER_TURN === 0) await turn()
  }
  for (const session of known) session.end()
}

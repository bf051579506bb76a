// Soft state comes from the edges: who is connected, and what he has shown. An owner that gets partitions asks every edge that
// lives for its sessions there, and is ready when all have answered.
//
//   resync.<edge>                 which partitions, by which epoch; the edge answers when it knows that epoch itself: from then
//                                 on what is unacked is on its way to the new owner, and comes behind what is told here
//   resynced.<role>.<process>     its sessions, in numbered parts
//
// An edge that does not answer within WAIT_MS is waited for no longer, and asked on: what it tells late is added, but for what has
// ended meanwhile (`isEnded`). Until then its clients are not there for anybody: who asked was told so, and what was to be
// shown to them was shown to nobody. So they are shown again, as is what they should have seen (`onLate`), and messages that
// were kept for them come then. An edge that has come a moment ago and at which nobody listens is being started, and has no
// sessions yet.
//
// Edges also tell presence which full JIDs their clients see as available. When all have told, those that no edge has a
// session of are known to be gone, with an edge that died unheard together with its clients' owner (`onSeen`).
import { BusTimeout, NoResponders, type Subscription } from '#bus/bus.ts'
import type { Timer } from '../clock.ts'
import type { Process } from '../process.ts'
import { partitionOf, type RoleName } from './ownership.ts'
import { type ResyncPart, readPart, resyncRequest, type ToldSession, type ToldWatches } from './resync-frame.ts'
import { speaksOf } from './speaks.ts'

/** How long an owner waits for the edges. */
export const WAIT_MS = 3_000
/** How often is looked whether an edge is to be asked again, and after how much silence it is. */
const LOOK_MS = 100
const SILENT_MS = 500
/** How often one that is waited for no longer is asked. */
const LATE_SILENT_MS = 2_000
/** Nobody listens at an edge that has not been there for so many askings, where it was first heard of no longer ago than that. */
const ABSENT_MAX = 3
const STARTING_MS = 10_000

/** Of one edge, asked for some partitions. */
interface Asked {
  readonly edge: string
  /** Of the last asking. */
  id: number
  parts: Map<number, ResyncPart>
  /** How many parts there are; -1 until it is told. */
  count: number
  heardMs: number
  /** In a row, how often nobody was there. */
  absent: number
}

/** What edges tell. */
export interface Told {
  readonly sessions: readonly ToldSession[]
  /** Of presence. */
  readonly watches: readonly ToldWatches[]
}

const NOTHING: Told = { sessions: [], watches: [] }

/** One taking of partitions. */
interface Asking {
  readonly partitions: readonly number[]
  readonly untilMs: number
  /** Those that have not told all. */
  readonly open: Map<string, Asked>
  readonly told: Told[]
  /** By edge, whom its clients see. */
  readonly seen: Map<string, readonly string[]>
  resolve: ((told: Told) => void) | undefined
}

type Parts = Pick<Process, 'id' | 'bus' | 'ownership' | 'clock' | 'log' | 'members'>

export interface ResyncEvents {
  /** What an edge has to say that was waited for no longer. Of each asking, once. */
  readonly onLate: (edge: string, told: Told) => void
  /** All edges have told, long ago or just now: of the accounts that were asked for, these clients see these as available. */
  readonly onSeen: (edge: string, seen: readonly string[]) => void
}

export class Resync {
  readonly #parts: Parts
  readonly #role: RoleName
  readonly #events: ResyncEvents
  readonly #askings = new Set<Asking>()
  /** Sessions whose end was heard of while nothing was known of them: an edge that is late may tell of them still. */
  readonly #ended = new Set<string>()
  /** The edges that live, and since when this process knows of them. */
  readonly #edges = new Map<string, number>()
  #subscription: Subscription | undefined
  #timer: Timer | undefined
  #id = 0

  constructor(parts: Parts, role: RoleName, events: ResyncEvents) {
    this.#parts = parts
    this.#role = role
    this.#events = events
    parts.members?.onChange(() => this.#noteEdges())
  }

  #noteEdges(): void {
    const { members, clock } = this.#parts
    const live = members!.live('edge')
    for (const edge of live) if (!this.#edges.has(edge)) this.#edges.set(edge, clock.monotonic())
    for (const edge of this.#edges.keys()) if (!live.includes(edge)) this.#edges.delete(edge)
  }

  #isStarting(edge: string): boolean {
    const sinceMs = this.#edges.get(edge) ?? Number.POSITIVE_INFINITY // the listener that tells it may be behind us
    return this.#parts.clock.monotonic() - sinceMs <= STARTING_MS
  }

  /** All that the edges have there. Empty where nothing is to be asked of anybody. */
  ask(partitions: readonly number[]): Promise<Told> {
    const { members, clock, id, bus, log } = this.#parts
    const edges = members?.live('edge') ?? []
    if (edges.length === 0) return Promise.resolve(NOTHING)
    this.#subscription ??= bus.subscribe(`resynced.${this.#role}.${id}`, (body) => {
      try {
        this.#heard(body)
      } catch (error) {
        log.error('resync.refused', { role: this.#role, error })
      }
    })
    return new Promise((resolve) => {
      const open = new Map<string, Asked>()
      const asking: Asking = { partitions, untilMs: clock.monotonic() + WAIT_MS, open, told: [], seen: new Map(), resolve }
      for (const edge of edges) {
        open.set(edge, { edge, id: 0, parts: new Map(), count: -1, heardMs: Number.NEGATIVE_INFINITY, absent: 0 })
      }
      this.#askings.add(asking)
      this.#look()
    })
  }

  /** Nothing that was asked is of use any more. */
  drop(): void {
    for (const { resolve } of this.#askings) resolve?.(NOTHING)
    this.#askings.clear()
    this.#ended.clear()
    this.#parts.clock.clearTimeout(this.#timer)
    this.#timer = undefined
  }

  close(): void {
    this.drop()
    this.#subscription?.close()
  }

  /** The end of a session has been heard of that is not known. */
  noteEnded(session: string): void {
    if (this.#askings.size > 0) this.#ended.add(session)
  }

  isEnded(session: string): boolean {
    return this.#ended.has(session)
  }

  /** An edge may still tell of sessions of this account; or this one, where one is named. */
  waitsFor(account: string, edge?: string): boolean {
    const partition = partitionOf(account)
    for (const { partitions, open } of this.#askings)
      if (partitions.includes(partition) && (edge === undefined || open.has(edge))) return true
    return false
  }

  #look(): void {
    const { clock } = this.#parts
    clock.clearTimeout(this.#timer)
    this.#timer = undefined
    for (const asking of this.#askings) this.#lookAt(asking, clock.monotonic())
    if (this.#askings.size > 0) this.#timer = clock.setTimeout(() => this.#look(), LOOK_MS)
    else this.#ended.clear()
  }

  #lookAt(asking: Asking, nowMs: number): void {
    const { members, log } = this.#parts
    const isLate = asking.resolve === undefined
    let waits = false
    for (const asked of asking.open.values()) {
      if (members!.livenessOf(asked.edge) === 'gone') asking.open.delete(asked.edge)
      else {
        waits ||= asked.absent < ABSENT_MAX || !this.#isStarting(asked.edge)
        if (nowMs - asked.heardMs >= (isLate ? LATE_SILENT_MS : SILENT_MS)) void this.#send(asking, asked, nowMs)
      }
    }
    if (!isLate && (!waits || nowMs >= asking.untilMs)) {
      if (waits) log.warn('resync.not_waited_for', { role: this.#role, edges: [...asking.open.keys()] })
      this.#resolve(asking)
    }
    if (asking.open.size === 0 && this.#askings.delete(asking)) queueMicrotask(() => this.#tellSeen(asking)) // behind what it is compared with
  }

  #tellSeen({ seen }: Asking): void {
    for (const [edge, jids] of seen) this.#events.onSeen(edge, jids)
    seen.clear()
  }

  #resolve(asking: Asking): void {
    const { resolve, told } = asking
    asking.resolve = undefined
    resolve?.(joined(told.splice(0)))
  }

  async #send(asking: Asking, asked: Asked, nowMs: number): Promise<void> {
    const { bus, ownership, id: owner, log } = this.#parts
    const { partitions } = asking
    const role = this.#role
    asked.id = ++this.#id
    asked.parts = new Map()
    asked.count = -1
    asked.heardMs = nowMs
    const epoch = ownership.epoch(role)
    const version = speaksOf(this.#parts, asked.edge)
    try {
      await bus.request(
        `resync.${asked.edge}`,
        resyncRequest({ version, role, owner, id: asked.id, epoch, partitions }),
        SILENT_MS,
      )
      asked.absent = 0
    } catch (error) {
      if (error instanceof NoResponders) asked.absent++
      else if (!(error instanceof BusTimeout)) log.error('resync.broke', { role, error })
    }
  }

  #heard(body: Uint8Array): void {
    const told = readPart(body)
    const { edge, id, part, last } = told
    for (const asking of this.#askings) {
      const asked = asking.open.get(edge)
      if (asked?.id !== id) continue
      asked.heardMs = this.#parts.clock.monotonic()
      asked.parts.set(part, told)
      if (last) asked.count = part + 1
      if (asked.parts.size === asked.count) this.#toldAll(asking, asked)
    }
  }

  #toldAll(asking: Asking, { edge, parts }: Asked): void {
    asking.open.delete(edge)
    const all = joined([...parts.values()])
    const seen = [...parts.values()].flatMap((part) => part.seen)
    if (seen.length > 0) asking.seen.set(edge, seen)
    if (asking.resolve === undefined) this.#events.onLate(edge, all)
    else asking.told.push(all)
    this.#look()
  }
}

function joined(told: readonly Told[]): Told {
  return { sessions: told.flatMap(({ sessions }) => sessions), watches: told.flatMap(({ watches }) => watches) }
}

// Sessions whose edge is dead: it will not say that they have ended, so their owner ends them himself.
//
// An edge is dead when its lease is broken or gone (core/ownership/membership.ts), or says that it has lost the bus which others have; one
// that has never been seen has UNSEEN_MS. That it is only silent is not enough: it may go on and never know. Nor does it know of
// what was bound on it in the moments before it joined anew. So whoever ends a session (core/owner.ts) has the edge close it, too:
// where there is nobody, nobody hears it. A large edge's sessions are ended a few at a time: contacts hear of it soon enough, and
// nobody waits meanwhile.
import type { Timer } from '../clock.ts'
import type { Process } from '../process.ts'
import type { RolePart } from '../role.ts'
import type { BoundSession } from './registry.ts'

const UNSEEN_MS = 15_000
/** How often is looked whether there are any, besides whenever somebody has died: what is late may have brought one back. */
const LOOK_MS = 5_000
const ENDED_AT_ONCE = 500
const PAUSE_MS = 50

export class DeadEdges {
  readonly #process: Pick<Process, 'members' | 'clock' | 'ownership' | 'log'>
  readonly #sessions: () => Iterable<BoundSession>
  readonly #end: (session: BoundSession) => void
  readonly #watching: Pick<RolePart, 'watchingEdges' | 'edgeDied'>
  /** Edges that are not known of, and since when. */
  readonly #unseen = new Map<string, number>()
  readonly #ended = new WeakSet<BoundSession>()
  #timer: Timer | undefined
  #closed = false

  /**
   * @param end ends one as if its edge had said so
   * @param watching whoever keeps more of edges than sessions, and forgets it
   */
  constructor(
    process: Pick<Process, 'members' | 'clock' | 'ownership' | 'log'>,
    sessions: () => Iterable<BoundSession>,
    end: (session: BoundSession) => void,
    watching: Pick<RolePart, 'watchingEdges' | 'edgeDied'> = {},
  ) {
    this.#process = process
    this.#sessions = sessions
    this.#end = end
    this.#watching = watching
    if (process.members === undefined) return
    process.members.onChange(() => this.#look())
    this.#lookIn(LOOK_MS)
  }

  close(): void {
    this.#closed = true
    this.#process.clock.clearTimeout(this.#timer)
  }

  #lookIn(ms: number): void {
    this.#process.clock.clearTimeout(this.#timer)
    this.#timer = this.#process.clock.setTimeout(() => this.#look(), ms)
  }

  #look(): void {
    if (this.#closed) return
    const dead = this.#process.ownership.sure() ? this.#dead() : []
    for (const session of dead.slice(0, ENDED_AT_ONCE)) {
      this.#ended.add(session)
      this.#end(session)
    }
    this.#lookIn(dead.length > ENDED_AT_ONCE ? PAUSE_MS : LOOK_MS)
  }

  #dead(): BoundSession[] {
    const verdicts = new Map<string, boolean>()
    const dead: BoundSession[] = []
    const judge = (edge: string): boolean => {
      const known = verdicts.get(edge)
      if (known !== undefined) return known
      const isDead = this.#isDead(edge)
      verdicts.set(edge, isDead)
      return isDead
    }
    for (const session of this.#sessions()) {
      const { edge } = session
      if (!verdicts.has(edge) && judge(edge)) this.#process.log.info('edge.sessions_ended', { edge })
      if (judge(edge) && !this.#ended.has(session)) dead.push(session)
    }
    for (const edge of [...(this.#watching.watchingEdges?.() ?? [])]) if (judge(edge)) this.#watching.edgeDied?.(edge)
    for (const edge of this.#unseen.keys()) if (!verdicts.has(edge)) this.#unseen.delete(edge)
    return dead
  }

  #isDead(edge: string): boolean {
    const { members, clock } = this.#process
    const liveness = members!.livenessOf(edge)
    if (liveness !== 'unseen') {
      this.#unseen.delete(edge)
      return liveness === 'gone' || members!.isCutOff(edge)
    }
    const sinceMs = this.#unseen.get(edge)
    if (sinceMs === undefined) this.#unseen.set(edge, clock.monotonic())
    return sinceMs !== undefined && clock.monotonic() - sinceMs >= UNSEEN_MS
  }
}

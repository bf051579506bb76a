// Deliveries of an owner that are lost: the edge asks for what they may have said. Messages are in the archive.
//
// A router is asked whether it still knows our sessions; presence for what their contacts show now. That says who is there,
// and not who has gone while others of the same account stayed: whom the sessions see goes to the owners of those, who
// say which of them are gone. All of it a few sessions at a time, and of each owner one run after the other.
import type { Envelope } from '#core/envelope.ts'
import type { Sender } from '#core/multicast-receiver.ts'
import { inPortions, type Pace } from '#core/portions.ts'
import type { Process } from '#core/process.ts'
import type { Edge } from './main.ts'
import type { EdgeSession } from './session.ts'

/** Each of them asks as much of its contacts' owners as a login does. */
const SESSIONS_PACE: Pace = { atOnce: 50, pauseMs: 50 }
/** Full JIDs in one signal; one has at most 3 KiB, and a body 1 MiB. */
const SEEN_AT_ONCE = 300

export class Refreshing {
  readonly #edge: Edge
  readonly #process: Process
  /** By owner: whether it is to be done once more. */
  readonly #running = new Map<string, boolean>()

  constructor(edge: Edge, process: Process) {
    this.#edge = edge
    this.#process = process
  }

  /** Whatever this owner has sent may be lost. */
  async refresh({ role, process }: Sender): Promise<void> {
    const owner = `${role} ${process}`
    const isRunning = this.#running.has(owner)
    this.#running.set(owner, isRunning)
    if (isRunning) return
    do {
      this.#running.set(owner, false)
      const sessions = [...this.#edge.sessions.values()]
      await inPortions(this.#edge.clock, SESSIONS_PACE, sessions, (portion) => this.#ask(portion, role, process))
    } while (this.#running.get(owner))
    this.#running.delete(owner)
  }

  #ask(portion: readonly EdgeSession[], role: Sender['role'], owner: string): void {
    const { id, lanes } = this.#edge
    const { ownership } = this.#process
    const seen = new Map<number, Set<string>>()
    for (const session of portion) {
      const { bare } = session.jid
      if (session.ended || ownership.ownerOf(role, bare) !== owner || !session.isKnownTo(role)) continue
      lanes.send(role, bare, signal(bare, 'session.refresh', { session: session.id, edge: id }))
      if (role !== 'presence') continue
      for (const [full, partition] of session.showing.seen) {
        const known = seen.get(partition)
        if (known === undefined) seen.set(partition, new Set([full]))
        else known.add(full)
      }
    }
    for (const jids of seen.values()) this.#tellSeen([...jids].filter((full) => this.#isOurs(full)))
  }

  #isOurs(full: string): boolean {
    const bare = bareOf(full)
    return this.#edge.domainOf(bare.slice(bare.indexOf('@') + 1)) !== undefined
  }

  /** Those of one partition: whoever owns one of them, owns all. */
  #tellSeen(jids: readonly string[]): void {
    for (let at = 0; at < jids.length; at += SEEN_AT_ONCE) {
      const account = bareOf(jids[at]!)
      const fields = { edge: this.#edge.id, jids: jids.slice(at, at + SEEN_AT_ONCE).join('\n') }
      this.#edge.lanes.send('presence', account, signal(account, 'presence.seen', fields))
    }
  }
}

function signal(account: string, name: string, fields: Record<string, string>): Envelope {
  return { kind: 'signal', account, name, fields }
}

function bareOf(full: string): string {
  return full.slice(0, full.indexOf('/'))
}

// Deliveries of an owner that are lost: the edge asks for what they may have said. Messages are in the archive.
//
// An owner is asked whether it still knows our sessions; presence says then whom they watch. The contacts that are its own, or
// were when it sent that, are in doubt at once (edge/watching/audience.ts), and their owners asked for a snapshot of them. What sessions see by
// directed presence goes to the owners of those who have sent it, who say which of them are gone. All of it a few at a time,
// and of each owner one run after the other.
import type { Delivery, Envelope } from '#core/envelope.ts'
import type { Sender } from '#core/multicast/multicast-receiver.ts'
import { accountsOf, type OfAccounts } from '#core/ownership/held.ts'
import { partitionOf } from '#core/ownership/ownership.ts'
import { inPortions, type Pace } from '#core/portions.ts'
import type { Process } from '#core/process.ts'
import type { Edge } from '../main.ts'
import type { EdgeSession } from '../sessions/session.ts'

/** Each of them asks as much of its contacts' owners as a login does. */
const SESSIONS_PACE: Pace = { atOnce: 50, pauseMs: 50 }
/** Contacts in one portion: each may have a few presences to be shown. */
const CONTACTS_PACE: Pace = { atOnce: 300, pauseMs: 50 }
/** Full JIDs in one signal; one has at most 3 KiB, and a body 1 MiB. */
const SEEN_AT_ONCE = 300

export class Refreshing {
  readonly #edge: Edge
  readonly #process: Process
  /** By owner: whether it is to be done once more. */
  readonly #running = new Map<string, boolean>()
  /** Contacts of which a snapshot is to be asked for. */
  #unasked = new Set<string>()
  #asking = false

  constructor(edge: Edge, process: Process) {
    this.#edge = edge
    this.#process = process
    process.ownership.onChange((role, partitions) => {
      if (role === 'presence') this.#askAgain(partitions)
    })
  }

  /** It was sent by an owner of before, and the one of now does not know that it has not come. */
  missed(delivery: Delivery): void {
    if (delivery.kind === 'stanza' || delivery.kind === 'order') return
    const { contact } = delivery
    this.#askFor(this.#edge.watching.audience.doubt((account) => account === contact))
  }

  /** This owner took us for dead, and has forgotten who watches his accounts here. */
  async forgotten(sender: Sender): Promise<void> {
    const { audience } = this.#edge.watching
    const isConcerned = this.#concernedBy(sender)
    const contacts = audience.doubt(isConcerned)
    await inPortions(this.#edge.clock, SESSIONS_PACE, audience.watchersOf(isConcerned), (portion) => {
      for (const watcher of portion) audience.remind(watcher, isConcerned)
    })
    this.#askFor(contacts)
  }

  /** Whoever was asked for these may have died before he has answered. */
  #askAgain(partitions: readonly number[]): void {
    this.#askFor(this.#edge.watching.audience.doubtful(accountsOf(partitions)))
  }

  #askFor(contacts: readonly string[]): void {
    for (const contact of contacts) this.#unasked.add(contact)
    if (!this.#asking && this.#unasked.size > 0) void this.#askForAll()
  }

  async #askForAll(): Promise<void> {
    this.#asking = true
    while (this.#unasked.size > 0) {
      const contacts = [...this.#unasked]
      this.#unasked = new Set()
      await inPortions(this.#edge.clock, CONTACTS_PACE, contacts, (portion) =>
        this.#edge.watching.submit({ watcher: '', session: '', snapshot: true, contacts: portion }),
      )
    }
    this.#asking = false
  }

  /** Those that were this owner's when it sent what is lost. */
  #concernedBy({ process, epoch }: Sender): OfAccounts {
    const { ownership } = this.#process
    return (contact) => {
      const partition = partitionOf(contact)
      return ownership.ownerAt('presence', partition) === process || ownership.epochAt('presence', partition) > epoch
    }
  }

  /** Whatever this owner has sent may be lost. */
  async refresh(sender: Sender): Promise<void> {
    const { role, process } = sender
    if (role === 'presence') this.#askFor(this.#edge.watching.audience.doubt(this.#concernedBy(sender)))
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
      for (const [full, partition] of session.showing.seen) note(seen, full, partition)
    }
    tell(this.#edge, seen)
  }
}

/** The owners of these full JIDs, each with its partition, say which of them are gone: something may not have come. */
export function tellSeen(edge: Edge, jids: ReadonlyMap<string, number>): void {
  const seen = new Map<number, Set<string>>()
  for (const [full, partition] of jids) note(seen, full, partition)
  tell(edge, seen)
}

function note(seen: Map<number, Set<string>>, full: string, partition: number): void {
  const known = seen.get(partition)
  if (known === undefined) seen.set(partition, new Set([full]))
  else known.add(full)
}

/** Those of one partition go together: whoever owns one of them, owns all. */
function tell(edge: Edge, seen: ReadonlyMap<number, ReadonlySet<string>>): void {
  for (const all of seen.values()) {
    const jids = [...all].filter((full) => isOurs(edge, full))
    for (let at = 0; at < jids.length; at += SEEN_AT_ONCE) {
      const account = bareOf(jids[at]!)
      const fields = { edge: edge.id, jids: jids.slice(at, at + SEEN_AT_ONCE).join('\n') }
      edge.lanes.send('presence', account, signal(account, 'presence.seen', fields))
    }
  }
}

function isOurs({ domainOf }: Edge, full: string): boolean {
  const bare = bareOf(full)
  return domainOf(bare.slice(bare.indexOf('@') + 1)) !== undefined
}

function signal(account: string, name: string, fields: Record<string, string>): Envelope {
  return { kind: 'signal', account, name, fields }
}

function bareOf(full: string): string {
  return full.slice(0, full.indexOf('/'))
}

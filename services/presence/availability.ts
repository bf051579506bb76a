// RFC 6121 §4: what the owner of an account knows of its resources. Soft state: the edges can tell it again.
//
// Whatever a resource has shown is kept under the session that showed it. A session that takes a resource over may be
// heard of before the end of the one it replaces; that end then takes away only what the old session has shown.
import { knownPriority, priorityOf } from '#core/priority.ts'
import { StanzaError } from '#xmpp/error.ts'
import type { Jid } from '#xmpp/jid.ts'
import type { Stanza } from '#xmpp/stanza.ts'
import { samePresence } from './canonical.ts'

export interface AvailabilityLimits {
  /** Resources of one account. The router bounds its sessions; this is for the case that it does not. */
  readonly resourcesMax: number
  /** Peers that one resource has sent directed presence to: rooms, mostly. */
  readonly directedMax: number
}

export const AVAILABILITY_LIMITS: AvailabilityLimits = { resourcesMax: 100, directedMax: 1_000 }

export interface AvailableResource {
  readonly resource: string
  readonly sessionId: string
  /** What contacts have been shown last. */
  readonly presence: Stanza
  /** What the client has sent last: the same, or what waits to be shown (coalescing.ts). */
  readonly latest: Stanza
  /** -128 to 127. */
  readonly priority: number
  /** It is as the client sent it, and has not passed the outbound hooks here: an edge has told of it. */
  readonly raw: boolean
}

/**
 * 'initial': the session was not available before (§4.2); 'unchanged': it says what it has said last. 'diverged': it may be that,
 * or not, and somebody was sent directed presence since.
 */
export type PresenceNews = 'initial' | 'changed' | 'diverged' | 'unchanged'

/** Whom to tell that a resource is gone (§4.5.2, §4.6.3). */
export interface Departure {
  /** The presence last broadcast, if the session was available: then its subscribers are told. */
  readonly presence: Stanza | undefined
  /** JIDs, as they were addressed, that only directed presence told of the resource. */
  readonly directed: readonly Jid[]
}

/** The resources of one account: who is available, and who was told so by directed presence. */
export class Availability {
  readonly #limits: AvailabilityLimits
  /** In the order in which they were first heard of. Nearly always one, which in a Map would cost four times as much. */
  #resources: readonly Shown[] = NONE

  constructor(limits: AvailabilityLimits = AVAILABILITY_LIMITS) {
    this.#limits = limits
  }

  /**
   * A session broadcasts that it is available (§4.2, §4.4): what contacts are shown is that where it is new, and else what they
   * were shown before, until it is `sent`. Throws bad-request on a priority that is none, and
   * resource-constraint on a resource too many; nothing is changed then.
   */
  set(resource: string, sessionId: string, presence: Stanza): PresenceNews {
    const priority = priorityOf(presence)
    const shown = this.#open(resource)
    const before = shown.broadcast
    const isInitial = before === undefined || before.sessionId !== sessionId
    shown.broadcast = {
      resource,
      sessionId,
      presence: isInitial ? presence : before.presence,
      latest: presence,
      priority,
      raw: false,
    }
    const { diverged } = shown
    shown.diverged = false
    if (isInitial) return 'initial'
    if (diverged) return 'diverged'
    return samePresence(before.latest, presence) ? 'unchanged' : 'changed'
  }

  /** Contacts are shown this of a resource that is available. */
  sent(resource: string, presence: Stanza): void {
    const shown = this.#find(resource)
    if (shown?.broadcast !== undefined) shown.broadcast = { ...shown.broadcast, presence }
  }

  /**
   * What an edge tells of a session: what it has broadcast, and to whom it has sent directed presence. Both may be none. False
   * where it is not available by that: it was refused when it was sent.
   */
  adopt(resource: string, sessionId: string, presence: Stanza | undefined, directed: readonly Jid[]): boolean {
    const priority = presence === undefined ? undefined : knownPriority(presence)
    if (priority === undefined && directed.length === 0) return false
    const shown = this.#open(resource)
    if (priority !== undefined)
      shown.broadcast = { resource, sessionId, presence: presence!, latest: presence!, priority, raw: true }
    for (const to of directed.slice(0, this.#limits.directedMax)) {
      shown.diverged = true
      shown.directed ??= new Map()
      shown.directed.set(to.full, { to, sessionId })
    }
    return priority !== undefined
  }

  /** A presence that an edge has told of has passed the hooks. */
  ripen({ resource, sessionId, priority }: AvailableResource, presence: Stanza): void {
    const shown = this.#find(resource)
    if (shown?.broadcast?.sessionId === sessionId)
      shown.broadcast = { resource, sessionId, presence, latest: presence, priority, raw: false }
  }

  /** Those that have not. */
  get raw(): readonly AvailableResource[] {
    const list: AvailableResource[] = []
    for (const { broadcast } of this.#resources) if (broadcast?.raw) list.push(broadcast)
    return list
  }

  /**
   * A session broadcasts `unavailable`, or ends (§4.5). Returns undefined where it has shown nothing that is still
   * to be taken back. Peers who get the broadcast, or still see the resource of another session, are not listed again.
   * @param seenBy whether broadcasts go to this bare JID
   */
  remove(resource: string, sessionId: string, seenBy: (bare: string) => boolean): Departure | undefined {
    const shown = this.#find(resource)
    if (shown === undefined) return undefined
    const broadcast = shown.broadcast
    const ended = broadcast?.sessionId === sessionId ? broadcast : undefined
    const directed: Jid[] = []
    let found = ended !== undefined
    for (const [full, target] of shown.directed ?? NOBODY) {
      if (target.sessionId !== sessionId) continue
      found = true
      shown.directed!.delete(full)
      if (broadcast === undefined || !seenBy(target.to.bare)) directed.push(target.to)
    }
    if (ended !== undefined) shown.broadcast = undefined
    this.#close(shown)
    return found ? { presence: ended?.presence, directed } : undefined
  }

  /**
   * A session sends directed presence (§4.6.3): available is noted, unavailable is struck out; other types and
   * presence without `to` are no concern of this. Throws resource-constraint where one more could not be noted, and
   * so would never be told of the end.
   */
  direct(resource: string, sessionId: string, presence: Stanza): void {
    const to = presence.to
    if (to === undefined) return
    if (presence.type === 'unavailable') {
      const shown = this.#find(resource)
      if (shown === undefined) return
      shown.diverged = true
      if (shown.directed?.delete(to.full)) this.#close(shown)
    } else if (presence.type === '') {
      const known = this.#find(resource)?.directed
      if (known !== undefined && known.size >= this.#limits.directedMax && !known.has(to.full)) {
        throw new StanzaError('resource-constraint', 'directed presence to too many')
      }
      const shown = this.#open(resource)
      shown.diverged = true
      shown.directed ??= new Map()
      shown.directed.set(to.full, { to, sessionId })
    }
  }

  /** The presence a resource has broadcast; undefined while it is not available. */
  get(resource: string): AvailableResource | undefined {
    return this.#find(resource)?.broadcast
  }

  /** Somebody may have been shown that this resource is available. */
  shows(resource: string): boolean {
    return this.#find(resource) !== undefined
  }

  /** At least one resource is available. */
  get isAvailable(): boolean {
    for (const { broadcast } of this.#resources) if (broadcast !== undefined) return true
    return false
  }

  /** The session has sent directed presence that is not taken back. */
  hasDirected(resource: string, sessionId: string): boolean {
    for (const target of this.#find(resource)?.directed?.values() ?? []) if (target.sessionId === sessionId) return true
    return false
  }

  /** In the order in which they were first heard of. What answers a probe (§4.3.2), and what follows an approval (§3.1.5). */
  available(): AvailableResource[] {
    const list: AvailableResource[] = []
    for (const { broadcast } of this.#resources) if (broadcast !== undefined) list.push(broadcast)
    return list
  }

  /** Strikes out the directed presence that these have of any resource, and lists it: to be taken back when they are blocked (XEP-0191 §3.3). */
  takeBack(from: (peer: Jid) => boolean): { readonly resource: string; readonly to: Jid }[] {
    const list: { resource: string; to: Jid }[] = []
    for (const shown of this.#resources) {
      for (const [full, { to }] of shown.directed ?? NOBODY) {
        if (!from(to)) continue
        shown.directed!.delete(full)
        list.push({ resource: shown.resource, to })
      }
      this.#close(shown)
    }
    return list
  }

  /** A peer was told `unavailable` of every available resource (§3.2.2, §3.3.3): what those had directed to it is taken back. */
  forget(bare: string): void {
    for (const { broadcast, directed } of this.#resources) {
      if (broadcast === undefined || directed === undefined) continue
      for (const [full, { to }] of directed) if (to.bare === bare) directed.delete(full)
    }
  }

  /** Nothing is known: the owner may let go of it. */
  get empty(): boolean {
    return this.#resources.length === 0
  }

  #find(resource: string): Shown | undefined {
    for (const shown of this.#resources) if (shown.resource === resource) return shown
    return undefined
  }

  #open(resource: string): Shown {
    const known = this.#find(resource)
    if (known !== undefined) return known
    if (this.#resources.length >= this.#limits.resourcesMax) throw new StanzaError('resource-constraint', 'too many resources')
    const shown: Shown = { resource, broadcast: undefined, diverged: false, directed: undefined }
    this.#resources = this.#resources.concat(shown)
    return shown
  }

  #close(shown: Shown): void {
    if (shown.directed?.size === 0) shown.directed = undefined
    if (shown.broadcast === undefined && shown.directed === undefined)
      this.#resources = this.#resources.filter((other) => other !== shown)
  }
}

interface Shown {
  readonly resource: string
  broadcast: AvailableResource | undefined
  /** Somebody was sent directed presence since the broadcast, and may have been shown something else. */
  diverged: boolean
  /** By full JID; undefined while there is none. */
  directed: Map<string, Directed> | undefined
}

interface Directed {
  readonly to: Jid
  readonly sessionId: string
}

const NONE: readonly Shown[] = []
const NOBODY: ReadonlyMap<string, Directed> = new Map()

// XEP-0352: Client State Indication.
//
// While its client is inactive, what a session is shown waits here: of each contact's resource the latest presence, of
// each item of a contact's the latest event, and of each who writes the latest chat state that comes alone. All of it goes out,
// in the order of its last changes, before anything else does, which may wake a person: so each message finds what it would have
// found. What waits was not sent, and is not counted (XEP-0198).
import { Children } from '#xmpp/children.ts'
import { NS_CLIENT, NS_HINTS, NS_SID } from '#xmpp/ns.ts'
import type { Stanza } from '#xmpp/stanza.ts'
import { asBuffer } from '#xmpp/xml.ts'
import type { Broadcast } from '../watching/broadcast.ts'
import type { Kept } from './stream-management.ts'

export const NS_CSI = 'urn:xmpp:csi:0'

/** Of what waits for one client, with `limits.inactiveStanzas`; at either, all of it goes out. */
const HELD_BYTES_MAX = 1024 * 1024

/** What it needs of the session. */
export interface Held {
  /** To the client now. */
  send(kept: Kept): void
  /** Presence that will not be sent: another has taken its place. */
  dropped(): void
}

interface Waiting {
  readonly kept: Kept
  /** Presence of a resource that the client has not been shown. */
  readonly isNew: boolean
}

export class Inactive {
  readonly #max: number
  readonly #session: Held
  /** By what a later one takes the place of, in the order in which they go out. */
  #waiting = new Map<string, Waiting>()
  #bytes = 0
  /** Of those whose place nothing takes. */
  #unnamed = 0

  constructor(max: number, session: Held) {
    this.#max = max
    this.#session = session
  }

  /** `isUnseen`: it is known that the client does not see the resource that this is of. */
  hold(broadcast: Broadcast, isUnseen: boolean): void {
    const { kept } = broadcast
    const slot = broadcast.slot || `\n\n${++this.#unnamed}`
    const { name, type } = kept.stanza
    const before = this.#take(slot)
    const isNew = before === undefined ? isUnseen : before.isNew
    if (name === 'presence') {
      if (before !== undefined) this.#session.dropped()
      if (isNew && type === 'unavailable') return this.#session.dropped() // came and went, and nobody has looked
    }
    this.#put(slot, kept, isNew)
  }

  /** Whether this may wait, too. If not, all that waits goes out ahead of it. */
  takes(stanza: Stanza, keep: () => Kept): boolean {
    if (!isChatStateAlone(stanza)) {
      this.flush()
      return false
    }
    const slot = `\n${stanza.from.full}`
    const kept = keep()
    kept.taken = true // of no use to anybody else
    this.#take(slot)
    this.#put(slot, kept, false)
    return true
  }

  #take(slot: string): Waiting | undefined {
    const before = this.#waiting.get(slot)
    if (before === undefined) return undefined
    this.#waiting.delete(slot)
    this.#bytes -= before.kept.bytes
    return before
  }

  #put(slot: string, kept: Kept, isNew: boolean): void {
    this.#waiting.set(slot, { kept, isNew })
    this.#bytes += kept.bytes
    if (this.#waiting.size >= this.#max || this.#bytes >= HELD_BYTES_MAX) this.flush()
  }

  /** What is sent may end the stream, and so bring us here again. */
  flush(): void {
    if (this.#waiting.size === 0) return
    const waiting = this.#waiting
    this.#waiting = new Map()
    this.#bytes = 0
    for (const { kept } of waiting.values()) this.#session.send(kept)
  }
}

// What may wait besides -------------------------------------------------------------------------------------------------

const CHAT_STATES = '{http://jabber.org/protocol/chatstates}'
/** What such a message may have besides (XEP-0085 §5.7), or is given on its way. */
const BESIDES: readonly string[] = [`{${NS_CLIENT}}thread`, `{${NS_HINTS}}`, `{${NS_SID}}`]
const CHILDREN = new Children()

/** A standalone notification (XEP-0085 §5.6): a message of nothing but a chat state. */
function isChatStateAlone({ name, type, child, payload }: Stanza): boolean {
  if (name !== 'message' || type === 'error' || child === '') return false
  const bytes = asBuffer(payload)
  let found = false
  CHILDREN.begin()
  while (CHILDREN.next(bytes)) {
    if (CHILDREN.name.startsWith(CHAT_STATES)) found = true
    else if (!BESIDES.some((prefix) => CHILDREN.name.startsWith(prefix))) return false
  }
  return found
}

// A stanza's way past the hooks of one account (hooks.ts), as the account's owner makes it.
import type { Jid } from '#xmpp/jid.ts'
import { causeOfOrigin, type Origin } from './envelope.ts'
import type { Passage } from './hooks.ts'
import type { ArchiveIds } from './storage/archive-id.ts'

/** Makes the archive id and the cause when somebody asks, once: most stanzas are stored by nobody. */
export class LazyPassage implements Passage {
  readonly account: Jid
  readonly peer: Jid
  /** See Envelope: 0 for what comes for the first time. */
  readonly saidMs: number
  readonly #ids: ArchiveIds
  readonly #origin: Origin | undefined
  #cause: string
  #archiveId = ''

  /** @param cause '' for the one that follows from the origin, if there is one */
  constructor(account: Jid, peer: Jid, ids: ArchiveIds, saidMs = 0, cause = '', origin?: Origin) {
    this.account = account
    this.peer = peer
    this.saidMs = saidMs
    this.#ids = ids
    this.#cause = cause
    this.#origin = origin
  }

  get archiveId(): string {
    if (this.#archiveId === '') this.#archiveId = this.#ids.next()
    return this.#archiveId
  }

  get age(): number {
    return this.saidMs === 0 ? 0 : 1
  }

  get cause(): string {
    if (this.#cause === '' && this.#origin !== undefined) this.#cause = causeOfOrigin(this.#origin)
    return this.#cause
  }

  /** The way of the same stanza at the one it is handed on to. */
  onTo(account: Jid, peer: Jid): LazyPassage {
    return new LazyPassage(account, peer, this.#ids, this.saidMs, this.#cause, this.#origin)
  }

  /** It has come before, and this is what it was stored under. */
  recall(archiveId: string): void {
    this.#archiveId = archiveId
  }
}

// A stanza's way past the hooks of one account (hooks.ts), as the account's owner makes it.
import type { Jid } from '#xmpp/jid.ts'
import type { ArchiveIds } from './archive-id.ts'
import type { Passage } from './hooks.ts'

/** Makes the archive id when somebody asks, once: most stanzas are stored by nobody. */
export class LazyPassage implements Passage {
  readonly account: Jid
  readonly peer: Jid
  readonly #ids: ArchiveIds
  #archiveId = ''

  constructor(account: Jid, peer: Jid, ids: ArchiveIds) {
    this.account = account
    this.peer = peer
    this.#ids = ids
  }

  get archiveId(): string {
    if (this.#archiveId === '') this.#archiveId = this.#ids.next()
    return this.#archiveId
  }
}

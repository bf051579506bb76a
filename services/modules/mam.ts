// XEP-0313: Message Archive Management, and XEP-0359: the stanza-id that says where a message is in it.
//
// An archive is a journal with one entry per message: the stanza as it was sent or received, under its archive id, and a
// thread per peer. It is written before anything is delivered and acked when it is durable (core/commits/commit.ts), so what a
// client was told has arrived is here. Messages are kept and given as bytes: nothing is parsed on either way.

import { readStanza, writeStanza } from '#core/envelope.ts'
import type { OfflineMessage, Passage } from '#core/hooks.ts'
import { type App, defineModule, type IqCall, type Session } from '#core/module.ts'
import { archiveIdTime } from '#core/storage/archive-id.ts'
import type { AccountJournal } from '#core/storage/store.ts'
import { Reader, Writer } from '#core/wire.ts'
import { StanzaError } from '#xmpp/error.ts'
import type { Jid } from '#xmpp/jid.ts'
import { NS_CLIENT, NS_DELAY, NS_FORWARD, NS_SID } from '#xmpp/ns.ts'
import { setElement } from '#xmpp/rsm.ts'
import { type Element, el, rootTag, type Stanza, stanzaOfBytes } from '#xmpp/stanza.ts'
import { formatDateTime } from '#xmpp/time.ts'
import { asBuffer, escapeAttribute } from '#xmpp/xml.ts'
import { ArchiveExpiry } from './archive/archive-expiry.ts'
import { ArchiveSizes } from './archive/archive-size.ts'
import { type ArchiveQuery, archiveQueryOf, FORM, mayBeArchived, NS_MAM } from './archive/mam-query.ts'
import { hasIdOf, removeForgedIds, withStanzaId } from './stanza-id.ts'
import { isWorthArchiving } from './worth-archiving.ts'

interface Options {
  pageMax: number
  expiryDays: number
  accountBytesMax: number
}

/** At the router. */
export interface Archives {
  /** Whether the sender's archive has this message of his, or will in a moment. */
  keepsSent(message: Stanza, passage: Pick<Passage, 'account' | 'peer'>): boolean
}

export default defineModule<Archives | undefined, Options>({
  name: 'mam',
  home: 'router',
  xeps: [
    { number: '0313', version: '1.1.3', status: 'partial' }, // without urn:xmpp:mam:2#extended
    { number: '0359', version: '0.7.0' },
    { number: '0297', version: '1.0', status: 'partial' },
    { number: '0059', version: '1.0', status: 'partial' },
    { number: '0334', version: '1.0.0', status: 'partial' },
  ],
  features: { account: [NS_MAM, NS_SID] }, // XEP-0313 §7, XEP-0359 §5
  namespaces: [NS_MAM],
  journals: ['mam'],
  portable: [
    {
      of: 'mam',
      around: { name: 'archive', ns: 'urn:xmpp:pie:0#mam' }, // XEP-0227 §4.11
      write: (entry, id) => asBuffer(resultBytes({ id, entry }, '')).toString('utf8'),
    },
  ],
  options: {
    pageMax: {
      default: 100,
      min: 1,
      max: 1_000,
      doc: 'Results in one page of an archive, whatever a client asks for (XEP-0313 §4.3.1).',
    },
    expiryDays: {
      default: 0,
      min: 0,
      max: 36_500,
      doc: 'Days after which a message is shown in no archive any more, and is deleted within another day; 0: never. A change holds for what is there, too.',
    },
    accountBytesMax: {
      default: 1_073_741_824,
      min: 0,
      max: 1_099_511_627_776,
      doc: 'What the archive of one account may take, in bytes, to about one percent; beyond it the oldest messages are deleted; 0: no bound.',
    },
  },

  setup(app) {
    if (app.role !== 'router') return undefined
    // Their stamps come first: neither a note nor an id that is not ours is archived.
    app.needNamed('delay')
    if (app.needNamed<true>('stanza-id') === undefined) removeForgedIds(app as App)
    const archive = new Archive(app, app.journal('mam', 'unique'))
    app.stamp('outbound', (stanza, passage) => (stanza.name === 'message' ? archive.sent(stanza, passage) : stanza))
    app.stamp('inbound', (stanza, passage) => (stanza.name === 'message' ? archive.received(stanza, passage) : stanza))
    for (const event of ['message.offline', 'message.unclaimed'] as const) app.on(event, (message) => archive.vouch(message))
    app.iq('get', NS_MAM, 'query', 'self', () => el('query', NS_MAM, {}, FORM)) // §4.1.5
    app.iq('set', NS_MAM, 'query', 'self', (call) => archive.query(call))
    for (const type of ['get', 'set'] as const) {
      app.iq(type, NS_MAM, 'query', 'account', async ({ account, iq }) => {
        // §8.1. Whoever may not even know that there is such an account is told what he is told where there is none.
        throw new StanzaError((await app.seenBy(account, iq.from)) ? 'forbidden' : 'service-unavailable')
      })
    }
    return archive
  },
})

/** What is larger is refused: a row has 400 kB, and its key some of them (table/table.ts). */
const ENTRY_BYTES_MAX = 395_000
/** A page ends when its results would be over this: what one query brings must be little beside what a socket may have unsent. */
const PAGE_BYTES_MAX = 256 * 1024
/** What is counted for who asks how many there are (XEP-0059 §2.7); of more, no number is given. */
const COUNTED_MAX = 1_000
/** What a query may pass over, an entry counting so much more than its bytes: it looks for what is not there. */
const PASSED_OVER_BYTES_MAX = 32 * 1024 * 1024
const PASSED_OVER_COST_BYTES = 512

interface Result {
  readonly id: string
  readonly entry: Uint8Array
}

class Archive implements Archives {
  readonly #app: App<Options>
  readonly #journal: AccountJournal
  readonly #sizes: ArchiveSizes
  readonly #expiry: ArchiveExpiry
  readonly #out = new Writer(4_096)

  constructor(app: App<Options>, journal: AccountJournal) {
    this.#app = app
    this.#journal = journal
    this.#sizes = new ArchiveSizes(app, journal, app.options.accountBytesMax)
    this.#expiry = new ArchiveExpiry(app, journal, app.options.expiryDays)
  }

  /** §3.5: others are not told where it is in the sender's archive. What one writes to oneself is kept as it is received. */
  sent(message: Stanza, passage: Passage): Stanza {
    if (this.keepsSent(message, passage)) this.#keep(message, passage)
    return message
  }

  keepsSent(message: Stanza, { account, peer }: Pick<Passage, 'account' | 'peer'>): boolean {
    return peer.bare !== account.bare && isWorthArchiving(message)
  }

  received(message: Stanza, passage: Passage): Stanza {
    if (!isWorthArchiving(message)) return message
    this.#keep(message, passage)
    return withStanzaId(message, passage)
  }

  #keep(message: Stanza, { account, peer, archiveId, cause }: Passage): void {
    writeStanza(this.#out, message)
    const entry = this.#out.take()
    if (entry.length > ENTRY_BYTES_MAX) throw tooLarge()
    this.#journal.append(account, archiveId, entry, undefined, [peer.bare], cause)
    this.#sizes.add(account, archiveId, entry.length)
    this.#expiry.note(archiveId)
  }

  /** What is in the archive has arrived, whether or not the spool has room for it, or the resource it was for is there. */
  vouch(message: OfflineMessage): void {
    if (hasIdOf(message.stanza, message.account)) message.kept = true
  }

  /** §4. All of a page is read before any of it is sent: a table that fails in between would have it sent twice. */
  async query({ account, session, payload }: IqCall): Promise<Element | undefined> {
    if (session === undefined) return undefined // it is gone
    const query = archiveQueryOf(payload, account, this.#expiry.oldest)
    await this.#demandArchived(account, query)
    if (query.max === 0) return this.#count(account, query)
    const { results, complete } = await this.#page(account, query)
    for (const result of results) this.#app.push(session, resultOf(result, query.queryId, account, session))
    const whole = complete && query.fromTheEnd
    const set = setElement({
      first: results[0]?.id,
      last: results.at(-1)?.id,
      index: whole || (query.fromTheEnd && query.range.reverse === false) ? 0 : undefined,
      count: whole ? results.length : undefined, // elsewhere all of it would have to be read (XEP-0059 §2.2)
    })
    return el('fin', NS_MAM, { complete: complete ? 'true' : undefined }, set) // §4.3.2
  }

  /** §4.3.2: item-not-found, also where the place of what is gone could still be told. */
  async #demandArchived(account: Jid, query: ArchiveQuery): Promise<void> {
    if (mayBeArchived(query)) {
      const entries = await Promise.all(query.named.map((id) => this.#journal.get(account, id)))
      if (!entries.includes(undefined)) return
    }
    throw new StanzaError('item-not-found', 'there is no message of that id in the archive')
  }

  async #page(account: Jid, { range, max }: ArchiveQuery): Promise<{ results: Result[]; complete: boolean }> {
    const { pageMax } = this.#app.options
    const limit = Math.min(max ?? pageMax, pageMax)
    const results: Result[] = []
    let bytes = 0
    let complete = true
    const search = new Search(range)
    for await (const result of this.#journal.range(account, { ...range, only: search.only, limit: limit + 1 })) {
      bytes += result.entry.length
      if (search.isLost && results.length === 0)
        throw new StanzaError('resource-constraint', 'too much lies in between; say from when to when', { type: 'modify' })
      if (search.isLost || results.length === limit || (results.length > 0 && bytes > PAGE_BYTES_MAX)) {
        complete = false
        break
      }
      results.push(result)
    }
    if (range.reverse) results.reverse() // §4.3.3: chronological within the page
    return { results, complete }
  }

  /** XEP-0059 §2.7. */
  async #count(account: Jid, { range }: ArchiveQuery): Promise<Element> {
    let count: number | undefined = 0
    let bytes = 0
    const search = new Search(range)
    for await (const { entry } of this.#journal.range(account, { ...range, only: search.only, limit: COUNTED_MAX + 1 })) {
      bytes += entry.length
      if (search.isLost || ++count > COUNTED_MAX || bytes > PAGE_BYTES_MAX) {
        count = undefined
        break
      }
    }
    return el('fin', NS_MAM, { complete: count === 0 ? 'true' : undefined }, setElement({ count }))
  }
}

/** Which entries of a range are wanted, and how much was passed over to find them. */
class Search {
  readonly only: ArchiveQuery['range']['only']
  #passedOver = 0

  constructor({ only }: ArchiveQuery['range']) {
    if (only === undefined) return
    this.only = (entry) => {
      if (only(entry)) return true
      this.#passedOver += entry.length + PASSED_OVER_COST_BYTES
      return this.isLost
    }
  }

  /** Too much: the entry at hand is not wanted, and is where it ends. */
  get isLost(): boolean {
    return this.#passedOver > PASSED_OVER_BYTES_MAX
  }
}

function resultOf(result: Result, queryId: string, account: Jid, session: Session): Stanza {
  return stanzaOfBytes('message', account, session.jid, '', '', '', `{${NS_MAM}}result`, resultBytes(result, queryId))
}

/** §4.2: the message as it was, with the time it came (XEP-0297 §3). */
function resultBytes({ id, entry }: Result, queryId: string): Uint8Array {
  const message = readStanza(new Reader(entry))
  const asked = queryId === '' ? '' : ` queryid='${escapeAttribute(queryId)}'`
  const head =
    `<result xmlns='${NS_MAM}'${asked} id='${id}'><forwarded xmlns='${NS_FORWARD}'>` +
    `<delay xmlns='${NS_DELAY}' stamp='${formatDateTime(archiveIdTime(id))}'/>` +
    `${rootTag(message, message.to?.full, NS_CLIENT)}>`
  return Buffer.concat([Buffer.from(head), message.payload, RESULT_END])
}

const RESULT_END = Buffer.from('</message></forwarded></result>')

function tooLarge(): StanzaError {
  return new StanzaError('policy-violation', 'the message is too large to be archived')
}

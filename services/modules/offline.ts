// XEP-0160: Best Practices for Handling Offline Messages.
//
// A message that no session takes is one entry of a journal, under its archive id, which is also the moment it came.
// The next session that shows a non-negative priority gets them all, oldest first, before anything newer: both the
// keeping and the handing over happen in the account's order, so nothing overtakes and no two sessions share. A message
// is handed over as the bytes it was kept as, with its note behind them: written anew it could be six times as long.
//
// Where there are more than a session may leave unacknowledged (more than by default are kept at all), they come in portions:
// behind each the client is asked by a ping whether it has got there, and its answer brings the next. What is new may come
// between two of them; the notes tell which is older.
//
//   pk = a#juliet@example.org   sk = offline.kept   true: there may be something in the journal
//
// That row comes with the account's others, so that whoever has nothing waiting logs in without a look at the journal. It is
// written ahead of the first message, and goes when a login finds nothing: what is removed then is durable.

import { readStanza, writeStanza } from '#core/envelope.ts'
import { DROP, type OfflineMessage } from '#core/hooks.ts'
import { type App, BOUND_WITH_LOGIN, defineModule, type Session } from '#core/module.ts'
import { archiveIdTime } from '#core/storage/archive-id.ts'
import { NS_PORTABLE, stanzaText } from '#core/storage/portable.ts'
import type { AccountJournal, AccountRecord, MaybePromise } from '#core/storage/store.ts'
import { Reader, Writer } from '#core/wire.ts'
import { Children } from '#xmpp/children.ts'
import { delayedBy, isDelayedBy } from '#xmpp/delay.ts'
import { type Jid, parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT, NS_HINTS, NS_PING, NS_SID } from '#xmpp/ns.ts'
import { el, type Stanza, stanza } from '#xmpp/stanza.ts'
import { asBuffer } from '#xmpp/xml.ts'
import { hasIdOf } from './stanza-id.ts'

const NS_CHAT_STATES = 'http://jabber.org/protocol/chatstates'

/** The part of blocking.ts that is needed here. */
interface Blocking {
  blockedBy(account: Jid): MaybePromise<(peer: Jid) => boolean>
}

interface Options {
  messagesMax: number
  expiryDays: number
}

export default defineModule<void, Options>({
  name: 'offline',
  home: 'router',
  xeps: [
    { number: '0160', version: '1.0.1' },
    { number: '0334', version: '1.0.0', status: 'partial' },
  ],
  features: { host: ['msgoffline'] }, // XEP-0160 §4
  journals: ['offline'],
  portable: [
    {
      of: 'offline',
      around: { name: 'offline-messages', ns: NS_PORTABLE }, // XEP-0227 §4.5
      write: (entry, id, account) => stanzaText(delayed(readStanza(new Reader(entry)), account, archiveIdTime(id))),
    },
  ],
  options: {
    messagesMax: {
      default: 1_000,
      min: 1,
      max: 100_000,
      doc: 'Messages kept for one account. One more is kept in its archive alone; where there is none, its sender gets an error.',
    },
    expiryDays: { default: 0, min: 0, max: 3_650, doc: 'Days after which a message nobody fetched is deleted; 0: never.' },
  },

  setup(app) {
    const spool = new Spool(app, app.needNamed<Blocking>('blocking'))
    app.on('message.offline', (message) => spool.keep(message))
    app.on('session.available', ({ jid, session, priority, first }) => {
      const receiver = app.sessions(jid).find((known) => known.session === session)
      if (priority >= 0 && receiver !== undefined) return spool.handOver(jid, receiver, first)
    })
    app.on('session.closed', ({ jid, session }) => spool.passOn(jid, session))
    app.guard('outbound', (answer, { account }) =>
      answer.name === 'iq' && answer.id === MORE_ID ? spool.goOn(account, answer) : undefined,
    )
    app.on('account.deleted', ({ account }) => spool.forget(account))
    app.on('accounts.released', ({ gone }) => spool.release(gone))
  },
})

/** Accounts whose counts are kept in memory; the next time, the others are counted again. */
const COUNTS_MAX = 50_000
/**
 * What keeping one message for a session takes besides the entry, with the note of when it came (edge/sessions/stream-management.ts).
 * A portion is half of what a session with a stream may have: the rest is for what else comes at a login.
 */
const GIVEN_COST_BYTES = 768
const STANZAS_SHARE = 2
/** Of the ping behind a portion that is not the last. */
const MORE_ID = 'offline-more'
/** What is larger is not kept: a row has 400 kB, and its key some of them (table/table.ts). */
const ENTRY_BYTES_MAX = 395_000
const DAY_S = 86_400
const MINUTE_MS = 60_000

/** What an account has in its journal. */
interface Count {
  messages: number
  bytes: number
  readonly countedMs: number
}

class Spool {
  readonly #app: App<Options>
  readonly #journal: AccountJournal
  /** Whether there may be something in the journal. */
  readonly #kept: AccountRecord<boolean>
  readonly #counts = new Map<string, Count>()
  readonly #out = new Writer(4_096)
  /** The sessions that have been given a portion that was not the last, by their accounts. */
  readonly #given = new Map<string, string>()
  /** Of a client that does not manage its stream all of it must fit into what its socket may have unsent. */
  readonly #bytesMax: number
  readonly #blocking: Blocking | undefined

  constructor(app: App<Options>, blocking: Blocking | undefined) {
    this.#app = app
    this.#journal = app.journal('offline')
    this.#kept = app.record('offline.kept', false)
    this.#blocking = blocking
    this.#bytesMax = app.limits.writeBufferBytes / 2
  }

  forget(account: Jid): void {
    this.#counts.delete(account.bare)
    this.#given.delete(account.bare)
  }

  release(gone: (account: string) => boolean): void {
    for (const known of [this.#counts, this.#given]) for (const account of known.keys()) if (gone(account)) known.delete(account)
  }

  /** XEP-0160 §2, steps 3 and 4. What is not kept is answered service-unavailable by whoever asked. */
  async keep(message: OfflineMessage): Promise<void> {
    const { account, stanza, archiveId, cause } = message
    if (!isWorthKeeping(stanza)) return
    writeStanza(this.#out, stanza)
    const entry = this.#out.take()
    if (entry.length > ENTRY_BYTES_MAX) return
    const count = await this.#countWithRoom(account, entry.length)
    if (count === undefined) return
    await this.#kept.update(account, () => true) // first: a message that nobody looks for is lost
    this.#journal.append(account, archiveId, entry, this.#expiresAtS(), undefined, cause)
    count.messages++
    count.bytes += entry.length
    message.kept = true
  }

  #expiresAtS(): number | undefined {
    const { expiryDays } = this.#app.options
    return expiryDays === 0 ? undefined : Math.floor(this.#app.clock.now() / 1_000) + expiryDays * DAY_S
  }

  /** Undefined where there is no room for so many bytes more. */
  async #countWithRoom(account: Jid, bytes: number): Promise<Count | undefined> {
    let count = this.#counts.get(account.bare) ?? (await this.#count(account))
    if (this.#hasRoom(count, bytes)) return count
    // Some may have expired since they were counted.
    if (this.#app.options.expiryDays === 0 || this.#app.clock.monotonic() - count.countedMs < MINUTE_MS) return undefined
    count = await this.#count(account)
    return this.#hasRoom(count, bytes) ? count : undefined
  }

  #hasRoom({ messages, bytes }: Count, more: number): boolean {
    return messages < this.#app.options.messagesMax && bytes + more <= this.#bytesMax
  }

  /** One query, of no more than what there is room for; none where there is nothing. */
  async #count(account: Jid): Promise<Count> {
    let messages = 0
    let bytes = 0
    if (!(await this.#kept.read(account, itself))) return this.#begin(account, messages, bytes)
    for await (const { entry } of this.#journal.range(account, { limit: this.#app.options.messagesMax })) {
      messages++
      bytes += entry.length
    }
    return this.#begin(account, messages, bytes)
  }

  /** A new count; of too many, the one begun first is forgotten. */
  #begin(account: Jid, messages: number, bytes: number): Count {
    const count = { messages, bytes, countedMs: this.#app.clock.monotonic() }
    this.#counts.delete(account.bare)
    this.#counts.set(account.bare, count)
    if (this.#counts.size > COUNTS_MAX) this.#counts.delete(this.#counts.keys().next().value!)
    return count
  }

  /**
   * XEP-0160 §2, step 5. A portion is removed once it has been sent, so that after a crash a message comes twice rather
   * than never. What is from somebody who has been blocked since is removed unseen (XEP-0191 §3.3). Nothing while another
   * session is being given them, or this one, unless it has been away in between.
   */
  handOver(account: Jid, session: Session, anew: boolean): MaybePromise<void> {
    const other = this.#given.get(account.bare)
    if (other !== undefined && (other !== session.session || !anew)) return
    return this.#give(account, session, true)
  }

  /** The client of this session has got all of the last portion (RFC 6120 §8.2.3: it answers, in order). */
  goOn(account: Jid, answer: Stanza): MaybePromise<typeof DROP> | undefined {
    const { type, to } = answer
    if ((type !== 'result' && type !== 'error') || (to !== undefined && to.full !== account.domain)) return undefined // is another's
    const session = this.#app.sessions(account).find(({ jid }) => jid.full === answer.from.full)
    const other = this.#given.get(account.bare)
    if (session === undefined || (other !== undefined && other !== session.session)) return DROP
    this.#given.delete(account.bare)
    if (!takes(session)) return DROP // the rest waits for the next that does
    const given = this.#give(account, session, false)
    return given === undefined ? DROP : given.then(() => DROP)
  }

  /** The session has ended: whoever else is there gets the rest. */
  passOn(account: Jid, ended: string): MaybePromise<void> {
    if (this.#given.get(account.bare) !== ended) return
    this.#given.delete(account.bare)
    const next = this.#app.sessions(account).find((session) => session.session !== ended && takes(session))
    if (next !== undefined) return this.#give(account, next, false)
  }

  /** `first`: nothing has been given just before, so that what is not there any more is durably gone. */
  #give(account: Jid, session: Session, first: boolean): MaybePromise<void> {
    if (this.#counts.get(account.bare)?.messages === 0) return
    const kept = this.#kept.read(account, itself)
    if (kept === true) return this.#givePortion(account, session, first)
    if (kept !== false) return kept.then((kept) => (kept ? this.#givePortion(account, session, first) : undefined))
  }

  async #givePortion(account: Jid, session: Session, first: boolean): Promise<void> {
    const isBlocked = await this.#blocking?.blockedBy(account)
    const { entries, more } = await this.#portion(account)
    const readsArchive = session.has(BOUND_WITH_LOGIN) // XEP-0386 §3.2: what is there is not sent, but for what is not
    for (const { id, entry } of entries) {
      const message = readStanza(new Reader(entry))
      if (readsArchive && hasIdOf(message, account)) continue
      if (!isBlocked?.(message.from)) this.#app.push(session, delayed(message, account, archiveIdTime(id)))
    }
    if (first && entries.length === 0) return this.#forgetKept(account)
    for (const { id } of entries) this.#journal.remove(account, id) // behind all of them: what is pushed waits for what is staged
    if (!more) {
      this.#given.delete(account.bare)
      this.#begin(account, 0, 0)
      return
    }
    this.#counts.delete(account.bare)
    this.#given.set(account.bare, session.session)
    const ping = { to: session.jid, id: MORE_ID, type: 'get' }
    this.#app.push(session, stanza('iq', parseJid(account.domain), ping, el('ping', NS_PING)))
  }

  /** The oldest, all read before any is sent: a table that fails in between would have them sent twice. At least one, where there is one. */
  async #portion(account: Jid): Promise<{ entries: { id: string; entry: Uint8Array }[]; more: boolean }> {
    const { unackedStanzas, writeBufferBytes } = this.#app.limits
    const limit = unackedStanzas * STANZAS_SHARE
    const entries: { id: string; entry: Uint8Array }[] = []
    let bytes = 0
    for await (const kept of this.#journal.range(account, { limit: limit + 1 })) {
      bytes += kept.entry.length + GIVEN_COST_BYTES
      if (entries.length === limit || (entries.length > 0 && bytes > writeBufferBytes)) return { entries, more: true }
      entries.push(kept)
    }
    return { entries, more: false }
  }

  async #forgetKept(account: Jid): Promise<void> {
    await this.#kept.update(account, () => false)
    this.#counts.delete(account.bare)
  }
}

const itself = (kept: boolean): boolean => kept
const takes = ({ available, priority }: Session): boolean => available && priority >= 0

/**
 * XEP-0160 §3: of type normal or chat, and more than the state of a chat. XEP-0334 §4: the sender may ask for either.
 */
function isWorthKeeping({ type, payload }: Stanza): boolean {
  if (type === 'groupchat' || type === 'headline' || type === 'error') return false
  const bytes = asBuffer(payload)
  let worth = false
  CHILDREN.begin()
  while (CHILDREN.next(bytes)) {
    const { name } = CHILDREN
    if (name === NO_STORE) return false // §4.2
    if (name === STORE || !isStateOnly(name)) worth = true // §4.4
  }
  return worth
}

/** Chat states, and what comes along with them: the thread (XEP-0085 §5.7), ids and hints. */
function isStateOnly(name: string): boolean {
  return name === THREAD || STATE_NAMESPACES.some((ns) => name.startsWith(ns))
}

const NO_STORE = `{${NS_HINTS}}no-store`
const STORE = `{${NS_HINTS}}store`
const THREAD = `{${NS_CLIENT}}thread`
const STATE_NAMESPACES = [NS_CHAT_STATES, NS_HINTS, NS_SID].map((ns) => `{${ns}}`)
const CHILDREN = new Children()

/** XEP-0203 §2, with the time it came; what has a note already was kept with it, and came then. */
function delayed(message: Stanza, { domain }: Jid, receivedMs: number): Stanza {
  return isDelayedBy(domain, message) ? message : delayedBy(domain, message, receivedMs, 'Offline Storage')
}

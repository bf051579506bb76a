// XEP-0049: Private XML Storage: bookmarks and settings that a user's clients share, and nobody else sees.
//
// What is stored belongs to a namespace: a set replaces all of it, a get returns all of it. Each namespace is one entry
// of a journal, so that a login does not read what a client may never ask for.
//
//   pk = j#private#romeo@example.org   sk = SHA-256 of the namespace, and 'b'   the elements, as XML
import { createHash } from 'node:crypto'
import { type App, defineModule } from '#core/module.ts'
import { elementText } from '#core/storage/portable.ts'
import type { AccountJournal } from '#core/storage/store.ts'
import { StanzaError } from '#xmpp/error.ts'
import type { Jid } from '#xmpp/jid.ts'
import { type Element, el } from '#xmpp/stanza.ts'
import { elementsOf, storedXml } from './stored-xml.ts'

const NS = 'jabber:iq:private'

interface Options {
  namespaceBytesMax: number
  accountBytesMax: number
  namespacesMax: number
}

/** One namespace that is kept in two places. In the order of the account, in the role presence. */
export interface Overlay {
  /** What is answered instead of what is stored, which may be nothing. */
  read(account: Jid, stored: readonly Element[]): Promise<readonly Element[]>
  /** What a client stores, ahead of its being stored. What it throws is refused. */
  write(account: Jid, elements: readonly Element[]): Promise<void>
}

/** By namespace; filled at start. */
export type Overlays = Map<string, Overlay>

export default defineModule<Overlays, Options>({
  name: 'private',
  home: 'presence', // where what replaces it, personal eventing, has to be
  xeps: [{ number: '0049', version: '1.2' }],
  features: { host: [NS], account: [NS] },
  namespaces: [NS],
  journals: ['private'],
  portable: [
    {
      of: 'private',
      around: { name: 'query', ns: NS }, // XEP-0227 §4.6
      write: (entry) =>
        elementsOf(entry)
          .map((element) => elementText(element, NS))
          .join(''),
    },
  ],
  options: {
    namespaceBytesMax: {
      default: 65_536,
      min: 1_024,
      max: 262_144,
      doc: 'What an account may store in one namespace, in bytes.',
    },
    accountBytesMax: { default: 262_144, min: 1_024, max: 4_194_304, doc: 'What an account may store in all of them, in bytes.' },
    namespacesMax: { default: 100, min: 1, max: 1_000, doc: 'Namespaces in which an account may store something.' },
  },

  // §2.3: others are refused. With the error they get for an account that is not there: nobody answers them here.
  setup(app) {
    const overlays: Overlays = new Map()
    const storage = new PrivateStorage(app, app.journal('private'), overlays)
    app.iq('get', NS, 'query', 'self', ({ account, payload }) => storage.get(account, payload))
    app.iq('set', NS, 'query', 'self', ({ account, payload }) => storage.set(account, payload))
    return overlays
  },
})

class PrivateStorage {
  readonly #options: Options
  readonly #journal: AccountJournal
  readonly #overlays: Overlays

  constructor({ options }: App<Options>, journal: AccountJournal, overlays: Overlays) {
    this.#options = options
    this.#journal = journal
    this.#overlays = overlays
  }

  async get(account: Jid, query: Element): Promise<Element> {
    const [ns, ...others] = byNamespace(query).entries()
    if (ns === undefined) throw new StanzaError('bad-request', 'name what you ask for, by an element of its namespace')
    if (others.length > 0) throw new StanzaError('bad-request', 'one namespace at a time')
    const [name, asked] = ns
    const stored = await this.#stored(account, name)
    const elements = (await this.#overlays.get(name)?.read(account, stored)) ?? stored
    if (elements.length > 0) return el('query', NS, {}, ...elements)
    return el('query', NS, {}, ...asked.map((element) => el(element.name, element.ns))) // nothing is stored
  }

  async #stored(account: Jid, ns: string): Promise<readonly Element[]> {
    const id = idOf(ns)
    const bounds = { after: `${id.slice(0, -1)}a`, before: `${id.slice(0, -1)}c`, limit: 1 } // both ends exclusive
    for await (const { entry } of this.#journal.range(account, bounds)) return elementsOf(entry)
    return []
  }

  /** All namespaces of a set are stored, or none. */
  async set(account: Jid, query: Element): Promise<void> {
    const asked = byNamespace(query)
    if (asked.size === 0) throw new StanzaError('not-acceptable', 'there is nothing to store')
    const { namespaceBytesMax } = this.#options
    const entries = new Map<string, Buffer>()
    for (const [ns, elements] of asked) {
      const entry = isNothing(elements) ? NOTHING : storedXml(elements, namespaceBytesMax)
      if (entry === undefined) throw refused('not-acceptable', `${ns} is over ${namespaceBytesMax} bytes`)
      entries.set(idOf(ns), entry)
    }
    await this.#demandRoom(account, entries)
    for (const [ns, elements] of asked) await this.#overlays.get(ns)?.write(account, elements)
    for (const [id, entry] of entries) {
      if (entry === NOTHING) this.#journal.remove(account, id)
      else this.#journal.append(account, id, entry)
    }
  }

  /** Reads all that the account has: a set is rare, and a count kept beside it would have to be kept true. */
  async #demandRoom(account: Jid, entries: ReadonlyMap<string, Buffer>): Promise<void> {
    const { accountBytesMax, namespacesMax } = this.#options
    let namespaces = 0
    let bytes = 0
    let grown = 0
    for (const [, { length }] of entries) {
      if (length === 0) continue
      namespaces++
      bytes += length
      grown += length
    }
    // An earlier limit may have been higher.
    for await (const { id, entry } of this.#journal.range(account, { limit: NAMESPACES_EVER })) {
      if (entries.has(id)) {
        grown -= entry.length
        continue
      }
      namespaces++
      bytes += entry.length
    }
    if (grown <= 0) return // who is over a limit that was lowered may still make it less
    if (bytes > accountBytesMax) throw refused('resource-constraint', `you would store more than ${accountBytesMax} bytes`)
    if (namespaces > namespacesMax) throw refused('resource-constraint', `you would store more than ${namespacesMax} namespaces`)
  }
}

const NOTHING = Buffer.alloc(0)
/** The most that `namespacesMax` can be set to. */
const NAMESPACES_EVER = 1_000

/** It does not pass by itself, so it is not of type wait; and what was refused is large and not repeated. */
function refused(condition: 'not-acceptable' | 'resource-constraint', text: string): StanzaError {
  return new StanzaError(condition, text, { type: 'modify', echo: false })
}

/** What is below `<query/>`. Throws not-acceptable for a namespace that is not the client's to use (§2.3). */
function byNamespace(query: Element): Map<string, Element[]> {
  const found = new Map<string, Element[]>()
  for (const child of query.children) {
    if (typeof child === 'string') continue
    const { ns } = child
    if (ns === '' || ns === 'vcard-temp' || ns.startsWith('jabber:') || ns.startsWith('http://jabber.org/')) {
      throw new StanzaError('not-acceptable', `the namespace ${ns} is reserved`)
    }
    const elements = found.get(ns)
    if (elements === undefined) found.set(ns, [child])
    else elements.push(child)
  }
  return found
}

/** One empty element is what is answered where nothing is stored: storing it stores nothing. */
function isNothing([first, ...others]: readonly Element[]): boolean {
  return others.length === 0 && first!.children.length === 0 && Object.keys(first!.attrs).length === 0
}

/** Of one length for all: of a namespace nothing but its length would bound a key. The last letter leaves room on both sides. */
function idOf(ns: string): string {
  return `${createHash('sha256').update(ns, 'utf8').digest('hex')}b`
}

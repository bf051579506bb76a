// XEP-0402: PEP Native Bookmarks, and the older ones of XEP-0048 in private storage (XEP-0049): the same rooms in both.
//
// The node has them. Who asks private storage is answered with what the node has (§5.3.1), beside what else he keeps there,
// such as the addresses of pages; who stores there what is different has that published and retracted, item by item (§5.3.2).
// Only where the node is the account's alone: what is private must not be shown to others by being copied.
import { defineModule } from '#core/module.ts'
import { type Form, makeField, makeForm } from '#xmpp/form.ts'
import { type Jid, JidError, parseJid } from '#xmpp/jid.ts'
import { attr, childOf, childrenOf, type Element, el } from '#xmpp/stanza.ts'
import { serialise } from '#xmpp/xml.ts'
import { accessModelOf } from './pep/pep-config.ts'
import { NS_PUBSUB } from './pep/pep-words.ts'
import pep, { type Pep } from './pep.ts'
import privateStorage, { type Overlay } from './private.ts'

export const NS_BOOKMARKS = 'urn:xmpp:bookmarks:1'
export const NS_STORAGE = 'storage:bookmarks'
const NAME = 'pep-bookmarks'

/** §3.2: as clients make the node. */
const OPTIONS: Form = makeForm('submit', `${NS_PUBSUB}#publish-options`, [
  makeField('boolean', 'pubsub#persist_items', { value: true }),
  makeField('text-single', 'pubsub#max_items', { value: 'max' }),
  makeField('list-single', 'pubsub#send_last_published_item', { value: 'never' }),
  makeField('list-single', 'pubsub#access_model', { value: 'whitelist' }),
])

export default defineModule({
  name: NAME,
  home: 'presence',
  xeps: [
    { number: '0048', version: '1.2', status: 'partial' },
    { number: '0402', version: '1.2.0' },
  ],
  features: { account: [`${NS_BOOKMARKS}#compat`] }, // §5.3

  setup(app) {
    app.need(privateStorage).set(NS_STORAGE, new Bookmarks(app.need(pep)))
  },
})

class Bookmarks implements Overlay {
  readonly #pep: Pep

  constructor(pep: Pep) {
    this.#pep = pep
  }

  /** Undefined where there is no node; false where others see it. */
  async #isPrivate(account: Jid): Promise<boolean | undefined> {
    const config = await this.#pep.configOf(account, NS_BOOKMARKS)
    return config && accessModelOf(config) === 'whitelist'
  }

  async read(account: Jid, stored: readonly Element[]): Promise<readonly Element[]> {
    if ((await this.#isPrivate(account)) !== true) return stored
    const rooms: Element[] = []
    for (const { id, payload } of await this.#pep.items(account, NS_BOOKMARKS))
      if (payload?.name === 'conference')
        rooms.push(el('conference', NS_STORAGE, { jid: id, ...payload.attrs }, ...castTo(NS_STORAGE, payload)))
    const others = (stored[0]?.children ?? []).filter((child) => typeof child !== 'string' && child.name !== 'conference')
    return rooms.length + others.length === 0 ? [] : [el('storage', NS_STORAGE, {}, ...rooms, ...others)]
  }

  /** "SHOULD NOT send notifications for unchanged items." */
  async write(account: Jid, elements: readonly Element[]): Promise<void> {
    if ((await this.#isPrivate(account)) === false) return
    const before = new Map((await this.#pep.items(account, NS_BOOKMARKS)).map(({ id, payload }) => [id, payload]))
    const after = new Map<string, Element>()
    for (const storage of elements) {
      for (const room of childrenOf(storage, 'conference', NS_STORAGE)) {
        const id = roomOf(room)
        if (id !== undefined) after.set(id, nativeOf(room, before.get(id)))
      }
    }
    for (const id of before.keys()) if (!after.has(id)) await this.#pep.retract(account, NS_BOOKMARKS, id, NAME)
    for (const [id, payload] of after) {
      const known = before.get(id)
      if (known !== undefined && serialise(known, '') === serialise(payload, '')) continue
      const publication = { node: NS_BOOKMARKS, id, payload, by: account, source: NAME }
      await this.#pep.publish(
        account,
        before.size === 0 ? { ...publication, options: await this.#optionsFor(account) } : publication,
      )
    }
  }

  /** A node that is there is as its client has made it. */
  async #optionsFor(account: Jid): Promise<Form | undefined> {
    return (await this.#pep.configOf(account, NS_BOOKMARKS)) === undefined ? OPTIONS : undefined
  }
}

/** The address of a room, as §3 has it for an id. Undefined where it is none: it stays in private storage alone. */
function roomOf(room: Element): string | undefined {
  try {
    return parseJid(attr(room, 'jid')).bare
  } catch (error) {
    if (error instanceof JidError) return undefined
    throw error
  }
}

/** With the extensions that are there, of which who has stored it knows nothing (§3: they MUST be preserved). */
function nativeOf(room: Element, before: Element | undefined): Element {
  const { name, autojoin } = room.attrs
  const extensions = before && childOf(before, 'extensions', NS_BOOKMARKS)
  const children = [...castTo(NS_BOOKMARKS, room), ...(extensions === undefined ? [] : [extensions])]
  return el('conference', NS_BOOKMARKS, { name, autojoin }, ...children)
}

/** §5.3.1: what both have, in the other namespace. */
function castTo(ns: string, { ns: from, children }: Element): Element[] {
  const both = children.filter((child): child is Element => typeof child !== 'string' && child.ns === from)
  return both
    .filter(({ name }) => name === 'nick' || name === 'password')
    .map(({ name, children }) => el(name, ns, {}, ...children))
}

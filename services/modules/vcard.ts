// XEP-0054: vcard-temp, and the avatars in it: XEP-0153, with the part of XEP-0398 that needs no personal eventing.
//
// The vCard is the one entry of a journal, so that a login does not read a picture. Beside it is a record, read with the
// account: whether there is a vCard, and the hash of its photo. Presence that goes out is given that hash here, since only
// the server knows it without asking; so presence with no photo behind it costs one look-up, and a tree is made only of
// one that has the word in its bytes.
//
//   pk = j#vcard#romeo@example.org   sk = vcard   the element, as XML
//   pk = a#romeo@example.org         sk = vcard   { "photo": SHA-1, or '' }
import { createHash } from 'node:crypto'
import { type App, defineModule } from '#core/module.ts'
import { elementText } from '#core/storage/portable.ts'
import type { AccountJournal, AccountRecord, MaybePromise } from '#core/storage/store.ts'
import { StanzaError } from '#xmpp/error.ts'
import { type Jid, parseJid } from '#xmpp/jid.ts'
import { childOf, type Element, el, type Stanza, textOf, withChildBehind, withChildren } from '#xmpp/stanza.ts'
import { asBuffer } from '#xmpp/xml.ts'
import { elementsOf, storedXml } from './stored-xml.ts'

const NS = 'vcard-temp'
const NS_UPDATE = 'vcard-temp:x:update'
const ENTRY = 'vcard'

interface Options {
  bytesMax: number
  photoInPresence: boolean
  hostName: string
  hostUrl: string
  hostDescription: string
}

declare module '#core/hooks.ts' {
  interface Events {
    /** At presence(account), in its order: a vCard was stored, or is gone. */
    'vcard.changed': VCardChanged
  }
}

export interface VCardChanged {
  readonly account: Jid
  /** Undefined where it has none that anybody could check. */
  readonly photo: Photo | undefined
  /** The module that has stored it, '' for a client. */
  readonly source: string
}

/** A picture, in base64, and what its type is said to be. */
export interface Photo {
  readonly type: string
  readonly base64: string
}

/** For what converts photos (XEP-0398 §3). In the order of the account, in the role presence. */
export interface PhotoStore {
  /** Throws not-acceptable where the vCard would be too large. Undefined: it has none from now on. */
  setPhoto(account: Jid, photo: Photo | undefined, source: string): Promise<void>
}

/** What is known of a vCard without reading it; null where there is none. */
type Known = { readonly photo: string } | null

export default defineModule<PhotoStore, Options>({
  name: 'vcard',
  home: 'presence', // presence shows the hash of the photo
  xeps: [
    { number: '0054', version: '1.3.0' },
    { number: '0153', version: '1.1.1' },
    { number: '0398', version: '1.0.0', status: 'partial' },
  ],
  features: { host: [NS], account: [NS] }, // XEP-0054 §4
  namespaces: [NS],
  journals: ['vcard'],
  portable: [
    {
      of: 'vcard',
      write: (entry) =>
        elementsOf(entry)
          .map((vcard) => elementText(vcard))
          .join(''),
    },
  ], // XEP-0227 §4.7
  options: {
    bytesMax: {
      default: 65_536,
      min: 1_024,
      max: 262_144,
      doc: 'The largest vCard an account may store, in bytes, its photo among them.',
    },
    photoInPresence: {
      default: true,
      doc: 'Whether the server writes the hash of the photo into presence, as clients cannot know it at once (XEP-0398 §4).',
    },
    hostName: {
      default: '',
      max: 200,
      perDomain: true,
      doc: 'What the service is called, in the vCard of the host; else its domain.',
    },
    hostUrl: { default: '', max: 1_000, perDomain: true, doc: 'Its page, there.' },
    hostDescription: { default: '', max: 1_000, perDomain: true, doc: 'What there is to say of it, there.' },
  },

  setup(app) {
    const vcards = new VCards(app, app.journal('vcard'), app.record<Known>('vcard', null))
    app.iq('get', NS, 'vCard', 'self', async ({ account }) => (await vcards.read(account)) ?? none('item-not-found')) // §3.1
    // §3.3: anybody may ask. What they are told where there is none is what they are told where there is no account.
    app.iq('get', NS, 'vCard', 'account', async ({ account }) => (await vcards.read(account)) ?? none('service-unavailable'))
    app.iq('set', NS, 'vCard', 'self', ({ account, payload }) => vcards.write(account, payload, ''))
    app.iq('get', NS, 'vCard', 'host', ({ iq }) => hostVCard(iq.to!.domain, app.optionsOf(iq.to!.domain)))
    app.iq('set', NS, 'vCard', 'host', () => {
      throw new StanzaError('not-allowed', 'it is in the configuration')
    })
    // §3.2 allows any error, and §3.3 says why it had better not be one that only an account gives.
    app.iq('set', NS, 'vCard', 'account', () => none('service-unavailable'))
    if (app.role === 'presence' && app.options.photoInPresence) {
      app.stamp('outbound', (stanza, { account }) => (isAvailable(stanza) ? vcards.stamp(account, stanza) : stanza))
    }
    return vcards
  },
})

/** Of the service (XEP-0054 §3.3: any entity may have one). */
function hostVCard(domain: string, { hostName, hostUrl, hostDescription }: Options): Element {
  const fields = [
    ['FN', hostName || domain],
    ['URL', hostUrl],
    ['DESC', hostDescription],
    ['JABBERID', domain],
  ] as const
  return el('vCard', NS, {}, ...fields.filter(([, text]) => text !== '').map(([name, text]) => el(name, NS, {}, text)))
}

function none(condition: 'item-not-found' | 'service-unavailable'): never {
  throw new StanzaError(condition)
}

/** Resources that are remembered to show no photo because there was none. */
const EMPTIED_MAX = 10_000

class VCards implements PhotoStore {
  readonly #app: App<Options>
  readonly #bytesMax: number
  readonly #journal: AccountJournal
  readonly #known: AccountRecord<Known>
  /** Full JIDs whose presence says "no photo" because we made it say so, and not because their clients do. */
  readonly #emptied = new Set<string>()

  constructor(app: App<Options>, journal: AccountJournal, known: AccountRecord<Known>) {
    this.#app = app
    this.#bytesMax = app.options.bytesMax
    this.#journal = journal
    this.#known = known
    app.on('accounts.released', ({ gone }) => {
      for (const full of this.#emptied) if (gone(parseJid(full).bare)) this.#emptied.delete(full)
    })
  }

  /** Undefined where there is none, which costs no read. */
  async read(account: Jid): Promise<Element | undefined> {
    if (await this.#known.read(account, (known) => known === null)) return undefined
    for await (const { entry } of this.#journal.range(account, { limit: 1 })) return elementsOf(entry)[0]
    return undefined
  }

  /**
   * §3.2: the whole is replaced. An empty one is none: there is no other way to delete it. Contacts see another photo at
   * once, by the presence of every resource, since the clients of the others do not know of it (XEP-0398 §4).
   */
  async write(account: Jid, vcard: Element, source: string): Promise<void> {
    const entry = this.#entryOf(vcard)
    const photo = photoHash(vcard)
    const { before } = await this.#known.update(account, (before) => {
      // Both or none: what is staged in one turn is one commit.
      if (entry === undefined) {
        this.#journal.remove(account, ENTRY)
        return null
      }
      this.#journal.append(account, ENTRY, entry)
      return before?.photo === photo ? before : { photo }
    })
    if (this.#app.options.photoInPresence && (before?.photo ?? '') !== photo)
      await this.#app.reshow(account, (presence) => this.#showing(presence, photo))
    await this.#app.emit('vcard.changed', { account, photo: photo === '' ? undefined : photoOf(vcard), source })
  }

  async setPhoto(account: Jid, photo: Photo | undefined, source: string): Promise<void> {
    const vcard = (await this.read(account)) ?? el('vCard', NS)
    const others = vcard.children.filter((child) => typeof child === 'string' || child.name !== 'PHOTO' || child.ns !== NS)
    const replaced =
      photo === undefined ? [] : [el('PHOTO', NS, {}, el('TYPE', NS, {}, photo.type), el('BINVAL', NS, {}, photo.base64))]
    if (photo === undefined && others.length === vcard.children.length) return
    await this.write(account, { ...vcard, children: [...others, ...replaced] }, source)
  }

  /** A presence that was shown, with the hash of another photo, or with the news that there is none. */
  #showing(presence: Stanza, photo: string): Stanza {
    const { full } = presence.from
    if (photo !== '') return this.#emptied.delete(full) ? withUpdate(presence, update(photo)) : withHash(presence, photo)
    if (!presence.tree().some((child) => isUpdate(child) && !isSilent(childOf(child, 'photo', NS_UPDATE)))) return presence
    this.#emptied.add(full)
    if (this.#emptied.size > EMPTIED_MAX) this.#emptied.delete(this.#emptied.values().next().value!)
    return withUpdate(presence, el('x', NS_UPDATE, {}, el('photo', NS_UPDATE)))
  }

  /** Undefined for an empty one. Throws not-acceptable for one that is too large. */
  #entryOf(vcard: Element): Buffer | undefined {
    if (vcard.children.every((child) => typeof child === 'string' && child.trim() === '')) return undefined
    const entry = storedXml([vcard], this.#bytesMax)
    if (entry === undefined) throw new StanzaError('not-acceptable', `the vCard is over ${this.#bytesMax} bytes`, { echo: false })
    return entry
  }

  /** XEP-0398 §4, for directed presence, too. An account without a photo says what its client says. */
  stamp(account: Jid, presence: Stanza): MaybePromise<Stanza> {
    if (this.#emptied.size > 0 && presence.to === undefined) this.#emptied.delete(presence.from.full) // it speaks for itself again
    return this.#known.read(account, (known) =>
      known === null || known.photo === '' ? presence : withHash(presence, known.photo),
    )
  }
}

function isAvailable({ name, type }: Stanza): boolean {
  return name === 'presence' && type === ''
}

/**
 * XEP-0398 §4: what shows no hash, and what shows another, shows this one. Only "no image to be advertised" (XEP-0153
 * §4.1) stays: so a client keeps the photo out of its presence.
 */
function withHash(presence: Stanza, hash: string): Stanza {
  if (!asBuffer(presence.payload).includes(NS_UPDATE)) return withChildBehind(presence, update(hash))
  const photos = presence
    .tree()
    .filter(isUpdate)
    .map((x) => childOf(x, 'photo', NS_UPDATE))
  const isRight = (photo: Element | undefined) => photo !== undefined && textOf(photo) === hash
  if (photos.some(isSilent) || (photos.length === 1 && isRight(photos[0]))) return presence
  return withUpdate(presence, update(hash))
}

/** XEP-0153 §4.1: no image is to be advertised. */
function isSilent(photo: Element | undefined): boolean {
  return photo !== undefined && textOf(photo).trim() === ''
}

/** With this one in place of those it has. */
function withUpdate(presence: Stanza, x: Element): Stanza {
  return withChildren(presence, [...presence.tree().filter((child) => !isUpdate(child)), x])
}

function isUpdate({ name, ns }: Element): boolean {
  return name === 'x' && ns === NS_UPDATE
}

function update(hash: string): Element {
  return el('x', NS_UPDATE, {}, el('photo', NS_UPDATE, {}, hash))
}

/** XEP-0153 §3.1: of the picture itself. '' where there is none, or where it is not base64: nobody could check it. */
function photoHash(vcard: Element): string {
  const { base64 } = photoOf(vcard)
  if (base64 === '' || base64.length % 4 !== 0 || !/^[A-Za-z0-9+/]+={0,2}$/.test(base64)) return ''
  return createHash('sha1').update(base64, 'base64').digest('hex')
}

/** As it stands there; '' for what does not. */
function photoOf(vcard: Element): Photo {
  const photo = childOf(vcard, 'PHOTO', NS)
  const data = photo && childOf(photo, 'BINVAL', NS)
  const type = photo && childOf(photo, 'TYPE', NS)
  const base64 = data === undefined ? '' : textOf(data).replace(/\s+/g, '') // §4.6
  return { type: type === undefined ? '' : textOf(type).trim(), base64 }
}

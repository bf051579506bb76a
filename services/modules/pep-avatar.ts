// XEP-0084: User Avatar, with the conversion of XEP-0398 between it and the photo of a vCard (vcard.ts).
//
// A client publishes its avatar in one of two ways, and others look for it in one of two. Whatever is published in one is
// copied to the other, and by the vCard its hash gets into presence. What was copied is known by its source and is not
// copied back. What cannot be copied, as a vCard has less room, stays where it was published.
import { createHash } from 'node:crypto'
import { type App, defineModule } from '#core/module.ts'
import { StanzaError } from '#xmpp/error.ts'
import { makeField, makeForm } from '#xmpp/form.ts'
import type { Jid } from '#xmpp/jid.ts'
import { attr, childrenOf, type Element, el, textOf } from '#xmpp/stanza.ts'
import { accessModelOf } from './pep/pep-config.ts'
import type { PepPublished } from './pep/pep-service.ts'
import { NS_PUBSUB } from './pep/pep-words.ts'
import pep, { type Pep } from './pep.ts'
import vcard, { type Photo, type PhotoStore, type VCardChanged } from './vcard.ts'

export const NS_AVATAR_DATA = 'urn:xmpp:avatar:data'
export const NS_AVATAR_METADATA = 'urn:xmpp:avatar:metadata'
const NAME = 'pep-avatar'

interface Options {
  anyAccess: boolean
}

export default defineModule<void, Options>({
  name: NAME,
  home: 'presence',
  xeps: [
    { number: '0084', version: '1.1.4' },
    { number: '0398', version: '1.0.0' },
  ],
  features: { account: ['urn:xmpp:pep-vcard-conversion:0'] }, // XEP-0398 §2
  options: {
    anyAccess: {
      default: false,
      doc: 'Whether avatars that only contacts may see are copied to the vCard as well, which everybody sees (XEP-0398 §8).',
    },
  },

  setup(app) {
    const conversion = new Conversion(app, app.need(pep), app.need(vcard))
    if (app.role !== 'presence') return
    app.on('pep.published', (published) => {
      if (published.node === NS_AVATAR_METADATA && published.source === '') return conversion.toVCard(published)
    })
    app.on('pep.retracted', ({ account, node, source }) => {
      if (node === NS_AVATAR_METADATA && source === '') return conversion.retracted(account)
    })
    app.on('vcard.changed', (changed) => {
      if (changed.source === '') return conversion.toPep(changed)
    })
  },
})

class Conversion {
  readonly #app: App<Options>
  readonly #pep: Pep
  readonly #photos: PhotoStore

  constructor(app: App<Options>, pep: Pep, photos: PhotoStore) {
    this.#app = app
    this.#pep = pep
    this.#photos = photos
  }

  /** XEP-0398 §3.1. No `<info/>`: the avatar is disabled (XEP-0084 §4.2.2). */
  async toVCard({ account, payload }: Pick<PepPublished, 'account' | 'payload'>): Promise<void> {
    if (payload?.name !== 'metadata') return
    const infos = childrenOf(payload, 'info', NS_AVATAR_METADATA)
    if (infos.length === 0) return this.#try(account, () => this.#photos.setPhoto(account, undefined, NAME))
    const info = infos.find(({ attrs }) => attrs.url === undefined) // "that does not point to an external URL"
    const data = info && (await this.#dataOf(account, attr(info, 'id')))
    if (data === undefined) return
    await this.#try(account, () => this.#photos.setPhoto(account, { type: attr(info!, 'type'), base64: data }, NAME))
  }

  /** An avatar that was taken back, with its node or without, is shown nowhere; one that is left is the avatar then. */
  async retracted(account: Jid): Promise<void> {
    const left = (await this.#pep.items(account, NS_AVATAR_METADATA)).at(-1)
    await this.toVCard({ account, payload: left?.payload ?? el('metadata', NS_AVATAR_METADATA) })
  }

  /** In base64. Undefined where it is not there, is not what its id says, or not for everybody (§8). */
  async #dataOf(account: Jid, id: string): Promise<string | undefined> {
    const config = await this.#pep.configOf(account, NS_AVATAR_DATA)
    if (config === undefined || (accessModelOf(config) !== 'open' && !this.#app.options.anyAccess)) return undefined
    const data = await this.#pep.item(account, NS_AVATAR_DATA, id)
    if (data?.name !== 'data') return undefined
    const base64 = textOf(data).replace(/\s+/g, '')
    return hashOf(base64) === id.toLowerCase() ? base64 : undefined
  }

  /** XEP-0398 §3.2: the data first. A vCard is seen by everybody, and so is what is made of it, unless the nodes are there and say otherwise. */
  async toPep({ account, photo }: VCardChanged): Promise<void> {
    const shown = await this.#shown(account)
    if (photo === undefined) {
      if (shown !== '')
        await this.#try(account, () => this.#publish(account, NS_AVATAR_METADATA, hashOf(''), el('metadata', NS_AVATAR_METADATA)))
      return
    }
    const id = hashOf(photo.base64)
    if (shown !== id) await this.#try(account, () => this.#publishPhoto(account, id, photo))
  }

  /** The id of the avatar that is published now, '' for none. */
  async #shown(account: Jid): Promise<string> {
    const last = (await this.#pep.items(account, NS_AVATAR_METADATA)).at(-1)?.payload
    const [info] = last === undefined ? [] : childrenOf(last, 'info', NS_AVATAR_METADATA)
    return info === undefined ? '' : attr(info, 'id')
  }

  async #publishPhoto(account: Jid, id: string, { type, base64 }: Photo): Promise<void> {
    await this.#publish(account, NS_AVATAR_DATA, id, el('data', NS_AVATAR_DATA, {}, base64))
    const info = { bytes: String(Buffer.from(base64, 'base64').length), id, type: type === '' ? 'image/png' : type }
    await this.#publish(
      account,
      NS_AVATAR_METADATA,
      id,
      el('metadata', NS_AVATAR_METADATA, {}, el('info', NS_AVATAR_METADATA, info)),
    )
  }

  async #publish(account: Jid, node: string, id: string, payload: Element): Promise<void> {
    const isNew = (await this.#pep.configOf(account, node)) === undefined
    const open = makeForm('submit', `${NS_PUBSUB}#publish-options`, [
      makeField('list-single', 'pubsub#access_model', { value: 'open' }),
    ])
    await this.#pep.publish(account, { node, id, payload, by: account, source: NAME, ...(isNew && { options: open }) })
  }

  /** What is refused is refused to nobody: whoever published has what he asked for. */
  async #try(account: Jid, convert: () => Promise<void>): Promise<void> {
    try {
      await convert()
    } catch (error) {
      if (!(error instanceof StanzaError)) throw error
      this.#app.log.debug('avatar.not_converted', { account: account.bare, reason: error.message })
    }
  }
}

function hashOf(base64: string): string {
  return createHash('sha1').update(base64, 'base64').digest('hex')
}

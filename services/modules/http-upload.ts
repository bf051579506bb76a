// XEP-0363: HTTP File Upload. Who may put a file where; the web role takes it and serves it (web/uploads.ts), or a bucket does.
//
// A slot is an address that has in it, sealed, all there is to know of the file (core/files/upload-address.ts). What an account
// has is counted when slots are given out, by the day on which they were: used or not, so that nobody has to report back. What
// was given out on a day expires on one day, so a number for each day that is kept is all there is to count. The names of the
// files are kept as long as they, to remove them with the account.
//
//   pk = a#romeo@example.org           sk = uploads           [[20752, 3, 81920], …]   the day, slots, bytes
//   pk = j#uploads#romeo@example.org   sk = 00mh3k…-q7Zk3m    { "key": "20782/0f3c…", "name": "balcony.jpg", "size": 4096 }

import { DAY_MS, isFileName, makeFile, pathOf, slotQuery, type UploadedFile } from '#core/files/upload-address.ts'
import { openUploads, UPLOAD_MODULE, UPLOAD_SECRET, type UploadOptions, type Uploads, uploadBase } from '#core/files/uploads.ts'
import { type App, defineModule } from '#core/module.ts'
import type { AccountJournal, AccountRecord } from '#core/storage/store.ts'
import { StanzaError } from '#xmpp/error.ts'
import { formElement, makeField, makeForm } from '#xmpp/form.ts'
import { randomId } from '#xmpp/id.ts'
import type { Jid } from '#xmpp/jid.ts'
import { NS_DISCO_INFO } from '#xmpp/ns.ts'
import { attr, childOf, type Element, el, textOf } from '#xmpp/stanza.ts'
import { formatDateTime } from '#xmpp/time.ts'

const NS = 'urn:xmpp:http:upload:0'
/** COMPAT: of version 0.3 and before, without a final 0, which libraries of old still ask for; its elements are filled with text. */
const NS_OLD = 'urn:xmpp:http:upload'
const MIB = 1024 * 1024
/** More than anybody may be allowed in all the days that are kept. */
const LISTED_MAX = 10_000_000

/** Of HTTP, without a query; or none. */
const ADDRESS = {
  right: 'an address such as https://upload.example.org',
  pattern: /^(?:https?:\/\/(?:\[[0-9a-f:.]+\]|[^\s/?#@:[\]<>"'\\^`{|}%]+)(?::\d{1,5})?(?:\/[^\s?#]*)?)?$/i,
}

/** What was given out on one day (since 1970): slots, and bytes. */
type Day = readonly [day: number, slots: number, bytes: number]

/** What a client asks for. */
interface Wish {
  readonly name: string
  readonly size: number
  readonly type: string
}

export default defineModule<void, UploadOptions>({
  name: UPLOAD_MODULE,
  home: 'router',
  xeps: [{ number: '0363', version: '1.2.0' }],
  namespaces: [NS, NS_OLD],
  journals: ['uploads'],
  options: {
    url: {
      default: '',
      max: 500,
      form: ADDRESS,
      perDomain: true,
      doc: 'Where clients reach the HTTP port, as `https://upload.example.org`: a proxy with TLS passes on what is below `/upload/` there. Without it uploads are offered only where nobody but this machine can connect.',
    },
    fileBytesMax: { default: 100 * MIB, min: 1, max: 5 * 1024 * MIB, perDomain: true, doc: 'The largest file.' },
    dayBytesMax: {
      default: 1024 * MIB,
      min: 1,
      perDomain: true,
      doc: 'What one account may upload in a day (of UTC), in bytes; what it asked for and did not upload counts.',
    },
    accountBytesMax: { default: 5 * 1024 * MIB, min: 1, perDomain: true, doc: 'What is kept of one account, in bytes.' },
    dayFilesMax: {
      default: 1_000,
      min: 1,
      max: 100_000,
      perDomain: true,
      doc: 'How many files one account may upload in a day.',
    },
    keepDays: {
      default: 30,
      min: 1,
      max: 366,
      doc: 'How many days a file is kept; with `s3` a lifecycle rule of the bucket has to remove them, a day later.',
    },
    slotSeconds: { default: 300, min: 10, max: 3_600, doc: 'How soon an upload has to begin once it is allowed.' },
    driver: {
      default: 'disk',
      oneOf: ['disk', 's3'],
      doc: '`disk`: in a folder, which all routers and web processes of a cluster must share; `s3`: clients put and get files in a bucket, which needs a CORS rule for browsers.',
    },
    folder: { default: '', max: 4096, doc: 'For `disk`: the folder; by default `uploads` in `data`.' },
    s3Bucket: { default: '', max: 200, doc: 'For `s3`: the bucket. Nobody but this server needs any right to it.' },
    s3Region: { default: '', max: 100, doc: 'For `s3`: its region; by default that of the environment (`AWS_REGION`).' },
    s3Endpoint: {
      default: '',
      max: 500,
      form: ADDRESS,
      doc: 'For `s3`: where it is, if it is not AWS, such as https://minio.example.org.',
    },
    s3Prefix: { default: 'uploads/', max: 200, doc: 'For `s3`: what the names of all objects begin with.' },
    s3AccessKeyId: {
      default: '',
      max: 200,
      doc: 'For `s3`: the id of the key to sign with; AWS: leave it out, keys come from the environment, the profile or the role of this process.',
    },
    s3SecretAccessKey: { default: '', max: 200, doc: 'For `s3`: the key itself; better in the environment than in a file.' },
  },

  /** §4; what is in it follows from where clients reach us, and nothing is announced where they cannot. */
  hostForms(options, server) {
    if (uploadBase(options, server) === undefined) return []
    const form = (ns: string) =>
      formElement(makeForm('result', ns, [makeField('text-single', 'max-file-size', { value: String(options.fileBytesMax) })]))
    return [
      el('identity', NS_DISCO_INFO, { category: 'store', type: 'file', name: 'HTTP File Upload' }),
      ...[NS, NS_OLD].map((ns) => el('feature', NS_DISCO_INFO, { var: ns })),
      ...[NS, NS_OLD].map(form),
    ]
  },

  setup(app) {
    const slots = new Slots(app, openUploads(app.options, app.server.data ?? './data'))
    app.iq('get', NS, 'request', 'host', async ({ iq, account, session, payload }) => {
      demandOwn(session)
      const { put, get } = await slots.give(account, iq.to!.domain, wishOf(payload), NS)
      return el('slot', NS, {}, el('put', NS, { url: put }), el('get', NS, { url: get })) // §5
    })
    app.iq('get', NS_OLD, 'request', 'host', async ({ iq, account, session, payload }) => {
      demandOwn(session)
      const { put, get } = await slots.give(account, iq.to!.domain, oldWishOf(payload), NS_OLD)
      return el('slot', NS_OLD, {}, el('put', NS_OLD, {}, put), el('get', NS_OLD, {}, get))
    })
    if (app.role === 'router') app.on('account.erasing', ({ account }) => slots.erase(account))
  },
})

/** §4: it is the users of this server that may upload to it. */
function demandOwn(session: object | undefined): void {
  if (session === undefined) throw new StanzaError('forbidden', 'only users of this server may upload files to it')
}

/** §5: `filename` and `size` must be there. */
function wishOf(request: Element): Wish {
  return checked(attr(request, 'filename'), attr(request, 'size'), attr(request, 'content-type'))
}

function oldWishOf(request: Element): Wish {
  const text = (name: string): string => {
    const child = childOf(request, name, NS_OLD)
    return child === undefined ? '' : textOf(child).trim()
  }
  return checked(text('filename'), text('size'), text('content-type'))
}

function checked(name: string, size: string, type: string): Wish {
  if (!isFileName(name)) throw new StanzaError('bad-request', 'filename is not the name of a file, of at most 255 bytes')
  if (!/^\d{1,15}$/.test(size) || Number(size) === 0)
    throw new StanzaError('bad-request', 'size is not a number of bytes above 0')
  // RFC 9110 §8.3.1
  if (type !== '' && (type.length > 255 || !/^[\w!#$&^.+-]+\/[\w!#$&^.+-]+\s*(?:;[\t -~\u0080-\uffff]*)?$/.test(type)))
    throw new StanzaError('bad-request', 'content-type is not a media type')
  return { name, size: Number(size), type }
}

class Slots {
  readonly #app: App<UploadOptions>
  readonly #uploads: Uploads
  readonly #days: AccountRecord<readonly Day[]>
  readonly #files: AccountJournal

  constructor(app: App<UploadOptions>, uploads: Uploads) {
    this.#app = app
    this.#uploads = uploads
    this.#days = app.record<readonly Day[]>('uploads', [])
    this.#files = app.journal('uploads')
  }

  /** Throws the StanzaErrors of §5.1, in the namespace that was asked in. */
  async give(account: Jid, domain: string, { name, size, type }: Wish, ns: string): Promise<{ put: string; get: string }> {
    const options = this.#app.optionsOf(domain)
    const base = uploadBase(options, this.#app.server)
    if (base === undefined) throw new StanzaError('service-unavailable')
    if (size > options.fileBytesMax) throw tooLarge(options.fileBytesMax, ns)
    const secret = await this.#app.secret(UPLOAD_SECRET)
    const nowMs = this.#app.clock.now()
    const today = Math.floor(nowMs / DAY_MS)
    const file = makeFile(secret, name, type, today + options.keepDays)
    const get = base + pathOf(file)
    const put = await this.#putUrl(file, get, size, secret, nowMs)
    await this.#days.update(account, (days) => {
      const kept = days.filter(([day]) => day + options.keepDays >= today)
      demandRoom(kept, { today, size, options, ns })
      const expiresAtS = ((file.day + 1) * DAY_MS) / 1_000
      const entry = Buffer.from(JSON.stringify({ key: file.key, name, size }), 'utf8')
      // Both or none: what is staged in one turn is one commit.
      this.#files.append(account, `${nowMs.toString(36).padStart(9, '0')}-${randomId()}`, entry, expiresAtS)
      return withSlot(kept, today, size)
    })
    return { put, get }
  }

  #putUrl(file: UploadedFile, get: string, size: number, secret: Buffer, nowMs: number): string | Promise<string> {
    const { slotSeconds } = this.#app.options
    if (this.#uploads.where === 'elsewhere') return this.#uploads.putUrl(file.key, size, slotSeconds, nowMs)
    return get + slotQuery(secret, file, { size, untilS: Math.ceil(nowMs / 1_000) + slotSeconds })
  }

  /** Removes all files of an account that is being deleted. What cannot be removed goes when it expires. */
  async erase(account: Jid): Promise<void> {
    let failed: unknown
    for await (const { entry } of this.#files.range(account, { limit: LISTED_MAX })) {
      const { key } = JSON.parse(Buffer.from(entry).toString('utf8')) as { key: string }
      await this.#remove(key).catch((error: unknown) => {
        failed ??= error
      })
    }
    if (failed !== undefined) this.#app.log.warn('upload.not_removed', { account: account.bare, error: failed })
  }

  async #remove(key: string): Promise<void> {
    if (this.#uploads.where === 'elsewhere') await this.#uploads.remove(key, this.#app.clock.now())
    else await this.#uploads.remove(key)
  }
}

function withSlot(days: readonly Day[], today: number, size: number): readonly Day[] {
  const [, slots, bytes] = days.find(([day]) => day === today) ?? [today, 0, 0]
  return [...days.filter(([day]) => day !== today), [today, slots + 1, bytes + size]]
}

interface Room {
  readonly today: number
  readonly size: number
  readonly options: UploadOptions
  readonly ns: string
}

/** Throws what §5.1 says of quotas: not before when it is worth asking again. */
function demandRoom(days: readonly Day[], { today, size, options, ns }: Room): void {
  const { dayBytesMax, accountBytesMax, dayFilesMax, keepDays } = options
  if (size > dayBytesMax || size > accountBytesMax) throw tooLarge(Math.min(dayBytesMax, accountBytesMax), ns)
  const [, slots, bytes] = days.find(([day]) => day === today) ?? [today, 0, 0]
  if (slots + 1 > dayFilesMax || bytes + size > dayBytesMax) throw later('that is too much for one day', today + 1, ns)
  let total = days.reduce((sum, [, , bytes]) => sum + bytes, size)
  if (total <= accountBytesMax) return
  // Files go by days, the oldest first.
  for (const [day, , bytes] of [...days].sort(([a], [b]) => a - b)) {
    total -= bytes
    if (total <= accountBytesMax) throw later('too much of yours is kept here', day + keepDays + 1, ns)
  }
}

function tooLarge(bytes: number, ns: string): StanzaError {
  const extra = el('file-too-large', ns, {}, el('max-file-size', ns, {}, String(bytes)))
  return new StanzaError('not-acceptable', `the largest file is ${bytes} bytes`, { extra })
}

function later(why: string, day: number, ns: string): StanzaError {
  const extra = el('retry', ns, { stamp: formatDateTime(day * DAY_MS) })
  return new StanzaError('resource-constraint', why, { type: 'wait', extra })
}

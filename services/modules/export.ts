// XEP-0227: Portable Import/Export Format for XMPP-IM Servers: all that is stored of one account, in one document.
//
// What is there follows from the store, and not from a list: every row of the account and every entry of every journal is
// in the document. Modules say how theirs are written (core/storage/portable.ts); what nobody writes, also of a module that is
// disabled, comes as it is stored. Passwords' keys alone stay here (§6). Beside it stands which groups the account is in.
//
// A document may be large, so it is made in pages, each from the place where the last one ended. The parts are what the
// modules write, in their order, then the other rows, then the other journals.
import type { Administration } from '#core/administration.ts'
import { type App, defineModule } from '#core/module.ts'
import { jsonOf, NS_PORTABLE, type Portable } from '#core/storage/portable.ts'
import { ACCOUNT_RECORD } from '#core/storage/store.ts'
import { StanzaError } from '#xmpp/error.ts'
import { makeField, makeForm } from '#xmpp/form.ts'
import { type Jid, parseJid } from '#xmpp/jid.ts'
import { NS_OURS } from '#xmpp/ns.ts'
import { formatDateTime } from '#xmpp/time.ts'
import { asBuffer, escapeAttribute, escapeText } from '#xmpp/xml.ts'
import commands from './commands.ts'

/** Of what the format has no words for. */
const NS_STORED = `${NS_OURS}/stored`
const NODE = `${NS_OURS}/commands#export`

/** Characters of one page, but for one entry that is larger by itself: in JSON it has to fit into one body of the bus. */
const PAGE_LENGTH = 128 * 1024
/** The same of an entry as its module writes it; one that is longer comes as it is stored. */
const ENTRY_LENGTH_MAX = 420_000

declare module '#core/call.ts' {
  interface Calls {
    /** One page of an account's export: from the start where `from` is '', and the last one where `next` is null. */
    'account.export': { ask: { from: string }; tell: { text: string; next: string | null } }
  }
}

interface Options {
  bytesMax: number
}

export default defineModule<void, Options>({
  name: 'export',
  home: 'router',
  xeps: [{ number: '0227', version: '1.1', status: 'partial' }], // it writes, and does not read
  options: {
    bytesMax: {
      default: 131_072,
      min: 1_024,
      max: 262_144,
      doc: 'The largest export that users get in their client, in bytes; those of more are told to ask the administrators.',
    },
  },

  setup(app) {
    const { bytesMax } = app.options
    app.need(commands).add({
      node: NODE,
      name: 'My Data',
      who: 'self',
      run: async ({ account }) => {
        const text = await textWithin(app.administration, account, bytesMax)
        if (text === undefined)
          return { noteType: 'error', note: `What is stored of you is over ${bytesMax} bytes: ask the administrators for it.` }
        const values = text.trimEnd().split('\n')
        const field = makeField('text-multi', 'data', { label: 'What is stored of you, in the format of XEP-0227', values })
        return { form: makeForm('result', NS_STORED, [field], { title: 'My Data' }) }
      },
    })
    const exporting = new Exporting(app)
    app.answer('account.export', (account, { from }) => exporting.page(parseJid(account), from))
  },
})

/** Undefined where it is over `bytesMax`: nothing more is read then. */
async function textWithin(administration: Administration, account: Jid, bytesMax: number): Promise<string | undefined> {
  let text = ''
  for await (const page of administration.export(account)) {
    text += page
    if (Buffer.byteLength(text) > bytesMax) return undefined
  }
  return text
}

interface Entry {
  readonly id: string
  readonly value: Uint8Array
}

/** What is written one after the other. `id` of an entry is the place to go on behind. */
interface Part {
  readonly around: Portable['around']
  entries(account: Jid, after: string): AsyncIterable<Entry>
  write(entry: Entry, account: Jid): string
}

class Exporting {
  readonly #app: App<Options>
  readonly #parts: readonly Part[]

  constructor(app: App<Options>) {
    this.#app = app
    const rows = new Set<string>()
    const journals = new Set<string>()
    const parts: Part[] = []
    for (const module of app.modules) {
      for (const portable of module.portable ?? []) {
        const isJournal = module.journals?.includes(portable.of) === true
        const covered = isJournal ? journals : rows
        covered.add(portable.of)
        parts.push(isJournal ? this.#journal(portable) : this.#rows(portable))
      }
    }
    const others = app.stored.journals.filter((name) => !journals.has(name))
    this.#parts = [
      ...parts,
      this.#groups(),
      this.#otherRows(rows),
      ...others.map((of) => this.#journal({ of, write: rawJournal(of) })),
    ]
  }

  #journal({ of: journal, around, write }: Portable): Part {
    return {
      around,
      entries: (account, after) => this.#app.stored.export(account, { journal, after }),
      write: ({ id, value }, account) => write(value, id, account),
    }
  }

  /** A record's row has its name, those of a map begin with it and a `#`. */
  #rows({ of, around, write }: Portable): Part {
    const { stored } = this.#app
    return {
      around,
      async *entries(account, after) {
        for await (const entry of stored.export(account, { after })) if (nameOf(entry.id) === of) yield entry
      },
      write: ({ id, value }, account) => write(value, id.slice(of.length + 1), account),
    }
  }

  /** Which the account is in: what that gives it is the domain's, and stored nowhere. */
  #groups(): Part {
    const { administration } = this.#app.groups
    return {
      around: { name: 'groups', ns: NS_STORED },
      async *entries(account, after) {
        for (const { group, displayName } of await administration.groupsOf(account))
          if (group > after) yield { id: group, value: Buffer.from(displayName, 'utf8') }
      },
      write: ({ id, value }) => `<group jid='${escapeAttribute(id)}'>${escapeText(asBuffer(value).toString('utf8'))}</group>`,
    }
  }

  #otherRows(covered: ReadonlySet<string>): Part {
    const { stored } = this.#app
    return {
      around: undefined,
      async *entries(account, after) {
        for await (const entry of stored.export(account, { after })) if (!covered.has(nameOf(entry.id))) yield entry
      },
      write: ({ id, value }) => (id === ACCOUNT_RECORD ? accountText(value) : raw('row', id, value)),
    }
  }

  /** `from` is the number of a part, whether the element around it is open, and behind which entry. */
  async page(account: Jid, from: string): Promise<{ text: string; next: string | null }> {
    if (!(await this.#app.accounts.exists(account))) throw new StanzaError('item-not-found', 'no such account')
    const place = /^(\d+) ([01]) (.*)$/su.exec(from)
    let text = place === null ? start(account) : ''
    let open = place?.[2] === '1'
    let after = place?.[3] ?? ''
    for (let n = Number(place?.[1] ?? 0); n < this.#parts.length; n++) {
      const part = this.#parts[n]!
      for await (const entry of part.entries(account, after)) {
        const written = writtenBy(part, entry, account)
        if (text !== '' && text.length + written.length > PAGE_LENGTH) return { text, next: `${n} ${open ? 1 : 0} ${after}` }
        after = entry.id
        if (written === '') continue
        if (part.around !== undefined && !open) text += startTag(part.around)
        open = part.around !== undefined
        text += `${written}\n`
      }
      if (open) text += `</${part.around!.name}>\n`
      open = false
      after = ''
    }
    return { text: `${text}</user>\n</host>\n</server-data>\n`, next: null }
  }
}

function nameOf(row: string): string {
  const end = row.indexOf('#')
  return end < 0 ? row : row.slice(0, end)
}

/** As it is stored where its module cannot write it: what cannot be read any more is the user's all the same. */
function writtenBy(part: Part, entry: Entry, account: Jid): string {
  try {
    const text = part.write(entry, account)
    if (text.length <= ENTRY_LENGTH_MAX) return text
  } catch {}
  return raw('entry', entry.id, entry.value)
}

/** §4.1, §4.2. */
function start({ local, domain }: Jid): string {
  return (
    `<?xml version='1.0' encoding='UTF-8'?>\n<server-data xmlns='${NS_PORTABLE}'>\n` +
    `<host jid='${escapeAttribute(domain)}'>\n<user name='${escapeAttribute(local)}'>\n`
  )
}

function startTag({ name, ns }: NonNullable<Portable['around']>): string {
  return `<${name} xmlns='${escapeAttribute(ns)}'>\n`
}

/** When it was made. Not its keys: also where it cannot be read, it does not come as it is stored. */
function accountText(value: Uint8Array): string {
  try {
    const { createdAt } = jsonOf<{ createdAt: number }>(value)
    return `<account xmlns='${NS_STORED}' created='${formatDateTime(createdAt)}'/>`
  } catch {
    return `<account xmlns='${NS_STORED}'/>`
  }
}

function rawJournal(name: string): Portable['write'] {
  return (value, id) => raw('entry', `${name} ${id}`, value)
}

function raw(element: 'row' | 'entry', name: string, value: Uint8Array): string {
  const text = asBuffer(value).toString('utf8')
  const isText =
    asBuffer(value).equals(Buffer.from(text, 'utf8')) && !/[^\t\n\u0020-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/u.test(text)
  const named = `<${element} xmlns='${NS_STORED}' name='${escapeAttribute(printable(name))}'`
  return isText
    ? `${named}>${escapeText(text)}</${element}>`
    : `${named} encoding='base64'>${asBuffer(value).toString('base64')}</${element}>`
}

function printable(name: string): string {
  return name.replace(/[^\u0020-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/gu, '\uFFFD')
}

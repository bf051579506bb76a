// XEP-0133 §4.24 to §4.28: what a domain says to its users when they come: the message of the day, and a welcome.
//
// The texts are one record of the domain's own address, whose owner writes them; each router reads them again once in a
// while, so that a login costs a look into memory. What an account has been told is a record of the account, written once
// for a message: everybody gets the message of the day once, until it is another one.
//
//   pk = a#example.org           sk = standing-messages   { "motd": { "id", "text" } | null, "welcome": { "sinceMs", "text" } | null }
//   pk = a#romeo@example.org     sk = greeted             { "motd": id, "welcomed": true }
import { demandText } from '#core/administration.ts'
import { type App, defineModule, type Session } from '#core/module.ts'
import type { AccountRecord } from '#core/storage/store.ts'
import { makeField } from '#xmpp/form.ts'
import { randomId } from '#xmpp/id.ts'
import { bareOf, type Jid, parseJid } from '#xmpp/jid.ts'
import { NS_CLIENT } from '#xmpp/ns.ts'
import { el, stanza } from '#xmpp/stanza.ts'
import { asking, linesOf, NS_ADMIN, reachedBy } from './administration.ts'
import commands, { type Command } from './commands.ts'

interface Standing {
  readonly motd: { readonly id: string; readonly text: string } | null
  /** For accounts that were made since. */
  readonly welcome: { readonly sinceMs: number; readonly text: string } | null
}

const NONE: Standing = { motd: null, welcome: null }

/** What an account has been told. */
interface Greeted {
  /** The id of the last message of the day, '' for none. */
  readonly motd: string
  readonly welcomed: boolean
}

const NOT_GREETED: Greeted = { motd: '', welcomed: false }
/** A text that was changed by another process is heard of within this. */
const READ_AGAIN_MS = 60_000

declare module '#core/call.ts' {
  interface Calls {
    /** Of the domain that is asked. */
    'standing-messages.read': { ask: Record<string, never>; tell: Standing }
    /** What is left out stays as it is. Durable when it is told. */
    'standing-messages.write': { ask: Partial<Standing>; tell: null }
  }
}

export default defineModule({
  name: 'standing-messages',
  home: 'router',
  xeps: [{ number: '0133', version: '1.3.1', status: 'partial' }],

  setup(app) {
    const { add } = app.need(commands)
    for (const command of [...motdCommands(app), ...welcomeCommands(app)]) add(command)
    if (app.role !== 'router') return

    const texts = new Texts(app)
    const greeted = app.record<Greeted>('greeted', NOT_GREETED)
    app.answer('standing-messages.read', (domain) => texts.read(parseJid(domain)))
    app.answer('standing-messages.write', (domain, change) => texts.write(parseJid(domain), change))
    app.on('announcement.sent', async ({ account, key }) => {
      await greeted.update(account, (before) => ({ ...before, motd: key })) // he was online when it was set
    })
    app.on('session.available', ({ jid, session, priority }) => {
      const standing = texts.known(jid.domain)
      if (standing === NONE || priority < 0) return // to whom nobody else may send either (RFC 6121 §8.5.2.1.1)
      const receiver = app.sessions(jid).find((known) => known.session === session)
      if (receiver === undefined) return
      if (standing !== undefined) return greet(app, greeted, receiver, standing)
      return texts.read(parseJid(jid.domain)).then((read) => greet(app, greeted, receiver, read))
    })
  },
})

class Texts {
  readonly #app: App
  readonly #record: AccountRecord<Standing>
  readonly #known = new Map<string, { readonly standing: Standing; readonly readMs: number }>()
  readonly #reading = new Map<string, Promise<Standing>>()

  constructor(app: App) {
    this.#app = app
    this.#record = app.record<Standing>('standing-messages', NONE)
  }

  /** Undefined where they must be read. */
  known(domain: string): Standing | undefined {
    const known = this.#known.get(domain)
    if (known === undefined || this.#app.clock.monotonic() - known.readMs > READ_AGAIN_MS) return undefined
    return known.standing
  }

  /** One read, for however many who log in meanwhile. */
  read(host: Jid): Promise<Standing> {
    const known = this.known(host.bare)
    if (known !== undefined) return Promise.resolve(known)
    const reading = this.#reading.get(host.bare) ?? this.#read(host).finally(() => this.#reading.delete(host.bare))
    this.#reading.set(host.bare, reading)
    return reading
  }

  async #read(host: Jid): Promise<Standing> {
    return this.#keep(host, await this.#record.read(host, (standing) => standing))
  }

  #keep({ bare }: Jid, read: Standing): Standing {
    const standing = read.motd === null && read.welcome === null ? NONE : read
    this.#known.set(bare, { standing, readMs: this.#app.clock.monotonic() })
    return standing
  }

  async write(host: Jid, change: Partial<Standing>): Promise<null> {
    const { after } = await this.#record.update(host, (before) => ({ ...before, ...change }))
    await this.#app.durable(host)
    this.#keep(host, after)
    return null
  }
}

/** What the account has not been told yet, to the session that has come. */
async function greet(app: App, greeted: AccountRecord<Greeted>, session: Session, { motd, welcome }: Standing): Promise<void> {
  const account = bareOf(session.jid)
  const before = await greeted.read(account, (before) => before)
  const isNewcomer = async ({ sinceMs }: NonNullable<Standing['welcome']>): Promise<boolean> =>
    (await app.accounts.row(account, (row) => row?.createdAt ?? 0)) >= sinceMs
  const welcomes = welcome !== null && !before.welcomed && (await isNewcomer(welcome))
  const tells = motd !== null && before.motd !== motd.id
  if (!welcomes && !tells) return
  await greeted.update(account, ({ motd: last, welcomed }) => ({
    motd: tells ? motd.id : last,
    welcomed: welcomed || welcomes,
  }))
  if (welcomes) say(app, session, '', welcome.text)
  if (tells) say(app, session, 'headline', motd.text)
}

function say(app: App, session: Session, type: string, text: string): void {
  const from = parseJid(session.jid.domain)
  app.push(session, stanza('message', from, { to: session.jid, type, id: randomId(6) }, el('body', NS_CLIENT, {}, text)))
}

/** §4.24 to §4.26. Who is online when it is set gets it at once; one that is edited is not told again. */
function motdCommands(app: App): readonly Command[] {
  const read = (domain: string) => app.ask('router', domain, 'standing-messages.read', {})
  const label = 'Message of the Day'
  const set = asking(
    'set-motd',
    'Set Message of the Day',
    [makeField('text-multi', 'motd', { label, required: true })],
    async ({ domain, values }) => {
      const text = linesOf(values, 'motd')
      demandText(text)
      const id = randomId(6)
      await app.ask('router', domain, 'standing-messages.write', { motd: { id, text } })
      const reached = await reachedBy(app.administration.announce(text, { domain, key: id }))
      return { note: `${reached.accounts} users are online and have got it.` }
    },
  )
  const edit = asking('edit-motd', 'Edit Message of the Day', [], async ({ domain, values }) => {
    const text = linesOf(values, 'motd')
    demandText(text)
    const { motd } = await read(domain)
    await app.ask('router', domain, 'standing-messages.write', { motd: { id: motd?.id ?? randomId(6), text } })
  })
  return [
    set,
    withText(edit, 'motd', label, async (domain) => (await read(domain)).motd?.text),
    {
      node: `${NS_ADMIN}#delete-motd`,
      name: 'Delete Message of the Day',
      who: 'admin',
      run: async ({ domain }) => {
        await app.ask('router', domain, 'standing-messages.write', { motd: null })
      },
    },
  ]
}

/** §4.27, §4.28. */
function welcomeCommands(app: App): readonly Command[] {
  const read = (domain: string) => app.ask('router', domain, 'standing-messages.read', {})
  const set = asking('set-welcome', 'Set Welcome Message', [], async ({ domain, values }) => {
    const text = linesOf(values, 'welcome')
    demandText(text)
    const { welcome } = await read(domain)
    const sinceMs = welcome?.sinceMs ?? app.clock.now()
    await app.ask('router', domain, 'standing-messages.write', { welcome: { sinceMs, text } })
  })
  return [
    withText(set, 'welcome', 'Welcome Message', async (domain) => (await read(domain)).welcome?.text),
    {
      node: `${NS_ADMIN}#delete-welcome`,
      name: 'Delete Welcome Message',
      who: 'admin',
      run: async ({ domain }) => {
        await app.ask('router', domain, 'standing-messages.write', { welcome: null })
      },
    },
  ]
}

/** The same with a form that shows the text there is (§4.25, §4.27). */
function withText(
  command: Command,
  field: string,
  label: string,
  text: (domain: string) => Promise<string | undefined>,
): Command {
  const [empty] = command.stages!
  return {
    ...command,
    stages: [
      async (call) => {
        const form = await empty!(call)
        const values = (await text(call.domain))?.split('\n') ?? []
        return { ...form, fields: [...form.fields, makeField('text-multi', field, { label, required: true, values })] }
      },
    ],
  }
}
